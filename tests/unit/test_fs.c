/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_fs.c - tests of fuse/fs.h: new stores, making, linking and removing, inode numbers, threads
 */
#include <pthread.h>
#include <sys/mman.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "engine/base/error.h"
#include "tests/lib/child.h"
#include "tests/lib/fs_fixture.h"
#include "tests/lib/seed.h"

/* ---- new stores ---- */

static void a_new_store_has_an_empty_root(void **state)
{
    struct fs_fixture *fixture = *state;
    struct fs_attribute root = fs_fixture_attribute(fixture, FS_ROOT);

    assert_int_equal(root.mode, S_IFDIR | 0755);
    assert_int_equal(root.nlink, 2);
    assert_int_equal(root.uid, 0);
    assert_int_equal(fs_fixture_exists(fixture, FS_ROOT, "a"), -ENOENT);
    assert_int_equal(fs_fixture_exists(fixture, FS_ROOT, ".."), 0);
}

static void a_formatted_store_keeps_its_owner(void **state)
{
    struct fs_fixture *fixture = *state;
    struct store_format format = {.chunk_size_bytes = 4 << 20, .compression_level = 1};
    char *path = test_path(fixture->directory, "other");
    struct engine_options options = fixture->engine_options;
    struct engine *engine;
    struct fs_entry root;
    struct fs *fs;

    assert_int_equal(store_create(fixture->io, path, &format), 0);
    options.path = path;
    assert_int_equal(engine_open(&options, &engine), 0);
    assert_int_equal(fs_format(engine, 12, 34), 0);
    assert_int_equal(fs_open(engine, &fixture->options, &fs), 0);
    assert_int_equal(fs_getattr(fs, FS_ROOT, &root), 0);
    assert_int_equal(root.attribute.uid, 12);
    assert_int_equal(root.attribute.gid, 34);
    fs_close(fs);
    assert_int_equal(engine_close(engine), 0);
    free(path);
}

static void a_store_with_files_but_no_superblock_is_refused(void **state)
{
    struct fs_fixture *fixture = *state;
    struct batch batch = {0};
    static const uint8_t superblock[9] = {0, 0, 0, 0, 0, 0, 0, 0, 0x10};
    uint8_t saved[8] = {2};
    struct fs *fs;

    fs_close(fixture->fs);
    fixture->fs = NULL;
    batch_delete(&batch, slice_of(superblock, sizeof superblock));
    assert_int_equal(engine_write(fixture->engine, &batch, NULL), 0);
    assert_int_equal(fs_open(fixture->engine, &fixture->options, &fs), ERROR_CORRUPT);
    batch_clear(&batch);
    batch_put(&batch, slice_of(superblock, sizeof superblock), slice_of(saved, 3));
    assert_int_equal(engine_write(fixture->engine, &batch, NULL), 0);
    assert_int_equal(fs_open(fixture->engine, &fixture->options, &fs), ERROR_CORRUPT);
    batch_free(&batch);
    assert_int_equal(engine_close(fixture->engine), 0);
}

static void names_outlive_a_close(void **state)
{
    struct fs_fixture *fixture = *state;
    uint64_t directory = fs_fixture_directory(fixture, FS_ROOT, "d");
    uint64_t file = fs_fixture_file(fixture, directory, "f");
    struct fs_attribute before = fs_fixture_attribute(fixture, file), after;

    fs_fixture_reopen(fixture);
    assert_int_equal(fs_fixture_hold(fixture, FS_ROOT, "d"), directory);
    assert_int_equal(fs_fixture_hold(fixture, directory, "f"), file);
    after = fs_fixture_attribute(fixture, file);
    assert_true(fs_fixture_is_same(before.mtime, after.mtime));
    assert_true(fs_fixture_is_same(before.btime, after.btime));
}

/* ---- making ---- */

static void every_type_can_be_made(void **state)
{
    static const mode_t types[] = {S_IFREG, S_IFCHR, S_IFBLK, S_IFIFO, S_IFSOCK};
    struct fs_fixture *fixture = *state;

    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        char name[2] = {(char)('a' + i), 0};
        struct fs_entry entry, found;

        assert_int_equal(fs_mknod(fixture->fs, FS_ROOT, name, types[i] | 0640, makedev(7, 300),
                                  &fs_fixture_root, &entry),
                         0);
        assert_int_equal(fs_fixture_find(fixture, FS_ROOT, name, &found), 0);
        assert_int_equal(found.attribute.mode, types[i] | 0640);
        assert_int_equal(found.attribute.nlink, 1);
        if (types[i] == S_IFCHR || types[i] == S_IFBLK)
            assert_int_equal(found.attribute.rdev, makedev(7, 300));
        else
            assert_int_equal(found.attribute.rdev, 0);
        assert_true(found.stable);
    }
}

static void a_new_name_changes_its_directory(void **state)
{
    struct fs_fixture *fixture = *state;
    struct fs_attribute before = fs_fixture_attribute(fixture, FS_ROOT), after;

    fs_fixture_file(fixture, FS_ROOT, "f");
    after = fs_fixture_attribute(fixture, FS_ROOT);
    assert_true(fs_fixture_is_later(after.mtime, before.mtime));
    assert_true(fs_fixture_is_same(after.mtime, after.ctime));
    assert_true(fs_fixture_is_same(after.atime, before.atime));
    assert_int_equal(after.nlink, 2);
    fs_fixture_directory(fixture, FS_ROOT, "d");
    assert_int_equal(fs_fixture_attribute(fixture, FS_ROOT).nlink, 3);
}

static void making_refuses_what_it_must(void **state)
{
    struct fs_fixture *fixture = *state;
    uint64_t file = fs_fixture_file(fixture, FS_ROOT, "f");
    char name[FS_NAME_SIZE_MAX + 2];
    struct fs_entry entry;

    memset(name, 'n', sizeof name);
    name[FS_NAME_SIZE_MAX + 1] = '\0';
#define MAKE(parent, name)                                                                         \
    fs_mknod(fixture->fs, parent, name, S_IFREG | 0644, 0, &fs_fixture_root, &entry)
    assert_int_equal(MAKE(FS_ROOT, "f"), -EEXIST);
    assert_int_equal(MAKE(FS_ROOT, "."), -EEXIST);
    assert_int_equal(MAKE(FS_ROOT, ".."), -EEXIST);
    assert_int_equal(MAKE(FS_ROOT, ""), -ENOENT);
    assert_int_equal(MAKE(FS_ROOT, "a/b"), -EINVAL);
    assert_int_equal(MAKE(FS_ROOT, name), -ENAMETOOLONG);
    assert_int_equal(MAKE(FS_ROOT, ".snapshots"), -EEXIST);
    assert_int_equal(MAKE(file, "x"), -ENOTDIR);
    assert_int_equal(MAKE(4711, "x"), -ESTALE);
    assert_int_equal(MAKE(0, "x"), -ESTALE);
#undef MAKE
    assert_int_equal(fs_fixture_exists(fixture, FS_ROOT, name), -ENAMETOOLONG);
    assert_int_equal(fs_fixture_exists(fixture, file, "x"), -ENOTDIR);
    assert_int_equal(fs_fixture_exists(fixture, 4711, "x"), -ESTALE);
    name[FS_NAME_SIZE_MAX] = '\0';
    fs_fixture_file(fixture, FS_ROOT, name);
    assert_int_equal(fs_fixture_exists(fixture, FS_ROOT, name), 0);
}

static void r35_names_are_kept_byte_for_byte(void **state)
{
    static const char *const names[] = {"my-db",        "my_db", "caf\xc3\xa9",
                                        "cafe\xcc\x81", "MY-DB", "\xff\xfe"};
    struct fs_fixture *fixture = *state;
    uint64_t nodes[6];

    for (int i = 0; i < 6; i++)
        nodes[i] = fs_fixture_file(fixture, FS_ROOT, names[i]);
    for (int i = 0; i < 6; i++)
        assert_int_equal(fs_fixture_hold(fixture, FS_ROOT, names[i]), nodes[i]);
}

static void the_umask_is_applied_and_the_caller_owns(void **state)
{
    struct fs_fixture *fixture = *state;
    struct fs_entry entry;

    assert_int_equal(
        fs_mknod(fixture->fs, FS_ROOT, "f", S_IFREG | 0666, 0, &fs_fixture_user, &entry), 0);
    assert_int_equal(entry.attribute.mode, S_IFREG | 0644);
    assert_int_equal(entry.attribute.uid, 1000);
    assert_int_equal(entry.attribute.gid, 1000);
    assert_int_equal(fs_symlink(fixture->fs, FS_ROOT, "s", "t", &fs_fixture_user, &entry), 0);
    assert_int_equal(entry.attribute.mode, S_IFLNK | 0777);
}

static void a_setgid_directory_gives_its_group_on(void **state)
{
    struct fs_fixture *fixture = *state;
    struct fs_setattr change = {.mask = FS_SETATTR_MODE | FS_SETATTR_GID, .mode = 02775, .gid = 77};
    uint64_t directory = fs_fixture_directory(fixture, FS_ROOT, "d");
    struct fs_entry entry;

    assert_int_equal(fs_setattr(fixture->fs, directory, &change, &fs_fixture_root, &entry), 0);
    assert_int_equal(entry.attribute.mode, S_IFDIR | 02775);
    assert_int_equal(
        fs_mknod(fixture->fs, directory, "f", S_IFREG | 0644, 0, &fs_fixture_user, &entry), 0);
    assert_int_equal(entry.attribute.gid, 77);
    assert_int_equal(entry.attribute.mode, S_IFREG | 0644);
    assert_int_equal(fs_mkdir(fixture->fs, directory, "s", 0755, &fs_fixture_user, &entry), 0);
    assert_int_equal(entry.attribute.gid, 77);
    assert_int_equal(entry.attribute.mode, S_IFDIR | 02755);
}

static void a_symbolic_link_gives_its_target_back(void **state)
{
    struct fs_fixture *fixture = *state;
    struct buffer target = {0};
    char long_target[4097];
    struct fs_entry entry;

    memset(long_target, 't', sizeof long_target);
    long_target[4096] = '\0';
    assert_int_equal(fs_symlink(fixture->fs, FS_ROOT, "s", "", &fs_fixture_root, &entry), -ENOENT);
    assert_int_equal(fs_symlink(fixture->fs, FS_ROOT, "s", long_target, &fs_fixture_root, &entry),
                     -ENAMETOOLONG);
    long_target[4095] = '\0';
    assert_int_equal(fs_symlink(fixture->fs, FS_ROOT, "s", long_target, &fs_fixture_root, &entry),
                     0);
    assert_int_equal(entry.attribute.size_bytes, 4095);
    assert_int_equal(fs_readlink(fixture->fs, entry.attribute.node, &target), 0);
    assert_int_equal(target.size, 4095);
    assert_memory_equal(target.data, long_target, 4095);
    buffer_free(&target);
    assert_int_equal(fs_readlink(fixture->fs, FS_ROOT, &target), -EINVAL);
}

/* ---- links ---- */

static void a_link_is_the_same_file_with_one_more_name(void **state)
{
    struct fs_fixture *fixture = *state;
    uint64_t directory = fs_fixture_directory(fixture, FS_ROOT, "d");
    uint64_t file = fs_fixture_file(fixture, FS_ROOT, "f");
    struct fs_attribute before = fs_fixture_attribute(fixture, file);
    struct fs_entry entry;

    assert_int_equal(fs_link(fixture->fs, file, directory, "g", &fs_fixture_root, &entry), 0);
    assert_int_equal(entry.attribute.node, file);
    assert_int_equal(entry.attribute.nlink, 2);
    assert_true(fs_fixture_is_later(entry.attribute.ctime, before.ctime));
    assert_true(fs_fixture_is_same(entry.attribute.mtime, before.mtime));
    assert_int_equal(fs_link(fixture->fs, file, directory, "g", &fs_fixture_root, &entry), -EEXIST);
    assert_int_equal(fs_link(fixture->fs, directory, FS_ROOT, "x", &fs_fixture_root, &entry),
                     -EPERM);
    assert_int_equal(fs_link(fixture->fs, 4711, FS_ROOT, "x", &fs_fixture_root, &entry), -ESTALE);
    assert_int_equal(fs_unlink(fixture->fs, FS_ROOT, "f", &fs_fixture_root), 0);
    assert_int_equal(fs_fixture_attribute(fixture, file).nlink, 1);
    assert_int_equal(fs_fixture_exists(fixture, directory, "g"), 0);
}

static void links_end_at_the_limit(void **state)
{
    struct fs_fixture *fixture = *state;
    uint64_t file = fs_fixture_file(fixture, FS_ROOT, "f");
    struct fs_entry entry;

    for (unsigned i = 1; i < FS_LINKS_MAX; i++) {
        char name[16];

        snprintf(name, sizeof name, "l%u", i);
        assert_int_equal(fs_link(fixture->fs, file, FS_ROOT, name, &fs_fixture_root, &entry), 0);
    }
    assert_int_equal(entry.attribute.nlink, FS_LINKS_MAX);
    assert_int_equal(fs_link(fixture->fs, file, FS_ROOT, "more", &fs_fixture_root, &entry),
                     -EMLINK);
}

/* ext4 goes on as well, and says 1. */
static void directories_in_a_directory_have_no_such_limit(void **state)
{
    struct fs_fixture *fixture = *state;
    uint64_t from = fs_fixture_directory(fixture, FS_ROOT, "from");
    uint64_t to = fs_fixture_directory(fixture, FS_ROOT, "to");

    for (unsigned i = 0; i < FS_LINKS_MAX; i++) {
        char name[16];

        snprintf(name, sizeof name, "d%u", i);
        fs_fixture_directory(fixture, to, name);
    }
    assert_int_equal(fs_fixture_attribute(fixture, to).nlink, FS_LINKS_MAX + 2);
    fs_fixture_directory(fixture, from, "moved");
    assert_int_equal(fs_rename(fixture->fs, from, "moved", to, "more", 0, &fs_fixture_root), 0);
    assert_int_equal(fs_fixture_attribute(fixture, to).nlink, FS_LINKS_MAX + 3);
    assert_int_equal(fs_rmdir(fixture->fs, to, "more", &fs_fixture_root), 0);
}

/* ---- removing ---- */

static void removing_refuses_what_it_must(void **state)
{
    struct fs_fixture *fixture = *state;
    uint64_t directory = fs_fixture_directory(fixture, FS_ROOT, "d");

    fs_fixture_file(fixture, directory, "f");
    assert_int_equal(fs_unlink(fixture->fs, FS_ROOT, "d", NULL), -EISDIR);
    assert_int_equal(fs_rmdir(fixture->fs, FS_ROOT, "d", NULL), -ENOTEMPTY);
    assert_int_equal(fs_rmdir(fixture->fs, directory, "f", NULL), -ENOTDIR);
    assert_int_equal(fs_unlink(fixture->fs, FS_ROOT, "x", NULL), -ENOENT);
    assert_int_equal(fs_rmdir(fixture->fs, FS_ROOT, ".", NULL), -EINVAL);
    assert_int_equal(fs_rmdir(fixture->fs, FS_ROOT, "..", NULL), -ENOTEMPTY);
    assert_int_equal(fs_unlink(fixture->fs, FS_ROOT, ".", NULL), -EISDIR);
    assert_int_equal(fs_rmdir(fixture->fs, FS_ROOT, ".snapshots", NULL), -EBUSY);
    assert_int_equal(fs_unlink(fixture->fs, FS_ROOT, ".snapshots", NULL), -EISDIR);
    assert_int_equal(fs_unlink(fixture->fs, 4711, "x", NULL), -ESTALE);
    assert_int_equal(fs_fixture_exists(fixture, directory, "f"), 0);
}

static void a_removed_directory_takes_nothing_more(void **state)
{
    struct fs_fixture *fixture = *state;
    uint64_t directory = fs_fixture_directory(fixture, FS_ROOT, "d");
    uint64_t file = fs_fixture_file(fixture, FS_ROOT, "f");
    struct fs_entry entry;

    assert_int_equal(fs_rmdir(fixture->fs, FS_ROOT, "d", NULL), 0);
    assert_int_equal(fs_fixture_attribute(fixture, FS_ROOT).nlink, 2);
    assert_int_equal(fs_fixture_attribute(fixture, directory).nlink, 0);
    assert_int_equal(
        fs_mknod(fixture->fs, directory, "x", S_IFREG | 0644, 0, &fs_fixture_root, &entry),
        -ENOENT);
    assert_int_equal(fs_mkdir(fixture->fs, directory, "x", 0755, &fs_fixture_root, &entry),
                     -ENOENT);
    assert_int_equal(fs_link(fixture->fs, file, directory, "x", &fs_fixture_root, &entry), -ENOENT);
    assert_int_equal(fs_rename(fixture->fs, FS_ROOT, "f", directory, "x", 0, NULL), -ENOENT);
    assert_int_equal(fs_fixture_exists(fixture, directory, "x"), -ENOENT);
    assert_int_equal(fs_fixture_exists(fixture, directory, "."), -ESTALE);
    fs_forget(fixture->fs, directory, 1);
    assert_int_equal(fs_getattr(fixture->fs, directory, &entry), -ESTALE);
}

static void an_unlinked_file_lives_until_it_is_forgotten(void **state)
{
    struct fs_fixture *fixture = *state;
    uint64_t file = fs_fixture_file(fixture, FS_ROOT, "f");
    struct fs_statistics statistics;
    struct fs_entry entry;

    fs_fixture_write(fixture, file, "content");
    assert_int_equal(fs_fixture_hold(fixture, FS_ROOT, "f"), file); /* a second lookup */
    assert_int_equal(fs_unlink(fixture->fs, FS_ROOT, "f", NULL), 0);
    assert_int_equal(fs_fixture_attribute(fixture, file).nlink, 0);
    fs_fixture_assert_text(fixture, file, "content");
    fs_get_statistics(fixture->fs, &statistics);
    assert_int_equal(statistics.orphans, 1);
    fs_forget(fixture->fs, file, 1);
    fs_fixture_assert_text(fixture, file, "content");
    fs_forget(fixture->fs, file, 1);
    assert_int_equal(fs_getattr(fixture->fs, file, &entry), -ESTALE);
    fs_get_statistics(fixture->fs, &statistics);
    assert_int_equal(statistics.orphans, 0);
    assert_int_equal(statistics.orphans_reaped, 1);
}

static void an_open_file_outlives_its_forgetting(void **state)
{
    struct fs_fixture *fixture = *state;
    uint64_t file = fs_fixture_file(fixture, FS_ROOT, "f");
    struct fs_entry entry;
    uint64_t handle;

    assert_int_equal(fs_open_file(fixture->fs, file, true, &handle), 0);
    assert_int_equal(fs_unlink(fixture->fs, FS_ROOT, "f", NULL), 0);
    fs_forget(fixture->fs, file, 1);
    assert_int_equal(fs_getattr(fixture->fs, file, &entry), 0);
    fs_release_file(fixture->fs, file, handle);
    assert_int_equal(fs_getattr(fixture->fs, file, &entry), -ESTALE);
}

static void reaping_leaves_no_record(void **state)
{
    struct fs_fixture *fixture = *state;
    uint64_t nodes[7];
    struct fs_entry entry;

    nodes[0] = fs_fixture_file(fixture, FS_ROOT, "0"); /* empty */
    nodes[1] = fs_fixture_file(fixture, FS_ROOT, "1"); /* one extent */
    fs_fixture_write(fixture, nodes[1], "small");
    nodes[2] = fs_fixture_file(fixture, FS_ROOT, "2"); /* two extents and a hole */
    fs_fixture_write(fixture, nodes[2], "head");
    assert_int_equal(fs_write(fixture->fs, nodes[2], "tail", 4, 1 << 20, false, false), 4);
    nodes[3] = fs_fixture_file(fixture, FS_ROOT, "3"); /* an xattr */
    assert_int_equal(fs_setxattr(fixture->fs, nodes[3], "user.a", "b", 1, 0, &fs_fixture_root), 0);
    nodes[4] = fs_fixture_file(fixture, FS_ROOT, "4"); /* a hole at the end */
    fs_fixture_write(fixture, nodes[4], "head");
    assert_int_equal(fs_setattr(fixture->fs, nodes[4],
                                &(struct fs_setattr){.mask = FS_SETATTR_SIZE, .size_bytes = 9999},
                                &fs_fixture_root, &entry),
                     0);
    assert_int_equal(fs_symlink(fixture->fs, FS_ROOT, "5", "target", &fs_fixture_root, &entry), 0);
    nodes[5] = entry.attribute.node;
    nodes[6] = fs_fixture_directory(fixture, FS_ROOT, "6");
    for (int i = 0; i < 7; i++) {
        char name[2] = {(char)('0' + i), 0};

        assert_true(fs_fixture_records_of(fixture, nodes[i]) > 0);
        assert_int_equal(i < 6 ? fs_unlink(fixture->fs, FS_ROOT, name, NULL)
                               : fs_rmdir(fixture->fs, FS_ROOT, name, NULL),
                         0);
        assert_true(fs_fixture_records_of(fixture, nodes[i]) > 0);
        fs_forget(fixture->fs, nodes[i], 1);
        assert_int_equal(fs_fixture_records_of(fixture, nodes[i]), 0);
    }
    assert_int_equal(fs_fixture_records_of(fixture, FS_ROOT), 1);
}

static void a_file_without_a_name_can_be_given_one(void **state)
{
    struct fs_fixture *fixture = *state;
    struct fs_statistics statistics;
    struct fs_entry entry, gone;
    uint64_t file;

    assert_int_equal(fs_tmpfile(fixture->fs, FS_ROOT, 0600, &fs_fixture_root, &entry), 0);
    file = entry.attribute.node;
    assert_int_equal(entry.attribute.nlink, 0);
    fs_fixture_write(fixture, file, "draft");
    assert_int_equal(fs_link(fixture->fs, file, FS_ROOT, "named", &fs_fixture_root, &entry), 0);
    assert_int_equal(entry.attribute.nlink, 1);
    fs_get_statistics(fixture->fs, &statistics);
    assert_int_equal(statistics.orphans, 0);
    fs_forget(fixture->fs, file, 2);
    fs_fixture_assert_text(fixture, fs_fixture_hold(fixture, FS_ROOT, "named"), "draft");

    assert_int_equal(fs_tmpfile(fixture->fs, FS_ROOT, 0600, &fs_fixture_root, &gone), 0);
    fs_forget(fixture->fs, gone.attribute.node, 1);
    assert_int_equal(fs_getattr(fixture->fs, gone.attribute.node, &entry), -ESTALE);
}

/* ---- inode numbers ---- */

static void children_of_a_directory_have_neighbouring_numbers(void **state)
{
    struct fs_fixture *fixture = *state;
    uint64_t a = fs_fixture_directory(fixture, FS_ROOT, "a");
    uint64_t b = fs_fixture_directory(fixture, FS_ROOT, "b");
    uint64_t first_a = 0, first_b = 0, last_a = 0, last_b = 0;
    unsigned steps = 0;

    for (int i = 0; i < 200; i++) {
        char name[8];
        uint64_t in_a, in_b;

        snprintf(name, sizeof name, "%d", i);
        in_a = fs_fixture_file(fixture, a, name);
        in_b = fs_fixture_file(fixture, b, name);
        if (i == 0) {
            first_a = in_a;
            first_b = in_b;
        } else {
            steps += (in_a != last_a + 1) + (in_b != last_b + 1);
        }
        last_a = in_a;
        last_b = in_b;
    }
    assert_int_not_equal(first_a, first_b);
    /* 8 + 16 + 32 + 64 + 128 hold 200: each directory leaves its run four times. */
    assert_int_equal(steps, 8);
}

struct crash {
    struct fs_fixture *fixture;
    uint64_t *last; /* shared with the parent */
};

/* Make files, note the highest number that was given out, and die without closing. */
static void make_and_die(void *context)
{
    struct crash *crash = context;

    fs_fixture_open(crash->fixture);
    for (int i = 0; i < 40; i++) {
        struct fs_entry entry;

        if (fs_tmpfile(crash->fixture->fs, FS_ROOT, 0600, &fs_fixture_root, &entry) == 0 &&
            entry.attribute.node > *crash->last)
            *crash->last = entry.attribute.node;
    }
}

static void r44_numbers_are_not_reused_after_a_crash(void **state)
{
    struct fs_fixture *fixture = *state;
    struct crash crash = {.fixture = fixture};
    uint64_t highest = 0;
    char output[4096];

    crash.last =
        mmap(NULL, sizeof *crash.last, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(crash.last, MAP_FAILED);
    for (int round = 0; round < 3; round++) {
        fs_fixture_close(fixture);
        *crash.last = 0;
        assert_int_equal(child_run(make_and_die, &crash, output, sizeof output), 0);
        assert_true(*crash.last > highest);
        highest = *crash.last;
        fs_fixture_open(fixture);
        {
            char name[8];
            uint64_t next;

            snprintf(name, sizeof name, "n%d", round);
            next = fs_fixture_file(fixture, FS_ROOT, name);
            assert_true(next > highest);
            highest = next;
        }
    }
    munmap(crash.last, sizeof *crash.last);
}

static void a_clean_close_gives_unused_numbers_back(void **state)
{
    struct fs_fixture *fixture = *state;
    uint64_t highest = 0, next;

    /* As many as the root's first run holds, so that no gap hides a number given twice. */
    for (int i = 0; i < 8; i++) {
        char name[8];

        snprintf(name, sizeof name, "%d", i);
        next = fs_fixture_file(fixture, FS_ROOT, name);
        assert_true(next > highest);
        highest = next;
    }
    fs_fixture_reopen(fixture);
    next = fs_fixture_file(fixture, FS_ROOT, "next");
    assert_int_equal(next, highest + 1);
}

/* ---- threads ---- */

#define THREADS 4
#define ROUNDS  1500

struct worker {
    struct fs_fixture *fixture;
    pthread_barrier_t *begin;
    unsigned number;
    uint64_t seed;
    unsigned created;
};

/* Everybody makes, moves and removes the same few names; errors that say "not now" are expected. */
static void *contend(void *context)
{
    struct worker *worker = context;
    struct fs *fs = worker->fixture->fs;

    pthread_barrier_wait(worker->begin); /* or one is done before the next begins */
    for (unsigned round = 0; round < ROUNDS; round++) {
        char from[4], to[4];
        struct fs_entry entry;
        int error;

        snprintf(from, sizeof from, "%u", (unsigned)seed_below(&worker->seed, 4));
        snprintf(to, sizeof to, "%u", (unsigned)seed_below(&worker->seed, 4));
        switch (seed_below(&worker->seed, 5)) {
        case 0:
            error = fs_mknod(fs, FS_ROOT, from, S_IFREG | 0644, 0, &fs_fixture_root, &entry);
            if (error == 0)
                fs_forget(fs, entry.attribute.node, 1);
            break;
        case 1:
            error = fs_mkdir(fs, FS_ROOT, from, 0755, &fs_fixture_root, &entry);
            if (error == 0)
                fs_forget(fs, entry.attribute.node, 1);
            break;
        case 2:
            error = fs_rename(fs, FS_ROOT, from, FS_ROOT, to, 0, &fs_fixture_root);
            break;
        case 3:
            error = fs_unlink(fs, FS_ROOT, from, &fs_fixture_root);
            break;
        default:
            error = fs_rmdir(fs, FS_ROOT, from, &fs_fixture_root);
            break;
        }
        if (error != 0 && error != -EEXIST && error != -ENOENT && error != -ENOTDIR &&
            error != -EISDIR && error != -ESTALE)
            return context;
    }
    return NULL;
}

static void r25_threads_on_the_same_names_leave_a_sound_tree(void **state)
{
    struct worker workers[THREADS];
    pthread_t threads[THREADS];
    uint64_t seed = seed_start(__func__);
    pthread_barrier_t begin;

    assert_int_equal(pthread_barrier_init(&begin, NULL, THREADS), 0);
    for (unsigned i = 0; i < THREADS; i++) {
        workers[i] =
            (struct worker){.fixture = *state, .begin = &begin, .number = i, .seed = seed + i};
        assert_int_equal(pthread_create(&threads[i], NULL, contend, &workers[i]), 0);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        void *failed;

        assert_int_equal(pthread_join(threads[i], &failed), 0);
        assert_null(failed);
    }
    pthread_barrier_destroy(&begin);
    /* The teardown's fsck is the judge. */
}

static void *make_one_name(void *context)
{
    struct worker *worker = context;

    for (unsigned round = 0; round < 50; round++) {
        char name[16];
        struct fs_entry entry;
        int error;

        snprintf(name, sizeof name, "one%u", round);
        error = fs_mknod(worker->fixture->fs, FS_ROOT, name, S_IFREG | 0644, 0, &fs_fixture_root,
                         &entry);
        worker->created += error == 0;
        if (error != 0 && error != -EEXIST)
            return context;
    }
    return NULL;
}

static void of_those_who_make_one_name_one_wins(void **state)
{
    struct worker workers[THREADS];
    pthread_t threads[THREADS];
    unsigned created = 0;

    for (unsigned i = 0; i < THREADS; i++) {
        workers[i] = (struct worker){.fixture = *state, .number = i};
        assert_int_equal(pthread_create(&threads[i], NULL, make_one_name, &workers[i]), 0);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        void *failed;

        assert_int_equal(pthread_join(threads[i], &failed), 0);
        assert_null(failed);
        created += workers[i].created;
    }
    assert_int_equal(created, 50);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FS_FIXTURE_TEST(a_new_store_has_an_empty_root),
        FS_FIXTURE_TEST(a_formatted_store_keeps_its_owner),
        FS_FIXTURE_TEST(a_store_with_files_but_no_superblock_is_refused),
        FS_FIXTURE_TEST(names_outlive_a_close),
        FS_FIXTURE_TEST(every_type_can_be_made),
        FS_FIXTURE_TEST(a_new_name_changes_its_directory),
        FS_FIXTURE_TEST(making_refuses_what_it_must),
        FS_FIXTURE_TEST(r35_names_are_kept_byte_for_byte),
        FS_FIXTURE_TEST(the_umask_is_applied_and_the_caller_owns),
        FS_FIXTURE_TEST(a_setgid_directory_gives_its_group_on),
        FS_FIXTURE_TEST(a_symbolic_link_gives_its_target_back),
        FS_FIXTURE_TEST(a_link_is_the_same_file_with_one_more_name),
        FS_FIXTURE_TEST(links_end_at_the_limit),
        FS_FIXTURE_TEST(directories_in_a_directory_have_no_such_limit),
        FS_FIXTURE_TEST(removing_refuses_what_it_must),
        FS_FIXTURE_TEST(a_removed_directory_takes_nothing_more),
        FS_FIXTURE_TEST(an_unlinked_file_lives_until_it_is_forgotten),
        FS_FIXTURE_TEST(an_open_file_outlives_its_forgetting),
        FS_FIXTURE_TEST(reaping_leaves_no_record),
        FS_FIXTURE_TEST(a_file_without_a_name_can_be_given_one),
        FS_FIXTURE_TEST(children_of_a_directory_have_neighbouring_numbers),
        FS_FIXTURE_TEST(r44_numbers_are_not_reused_after_a_crash),
        FS_FIXTURE_TEST(a_clean_close_gives_unused_numbers_back),
        FS_FIXTURE_TEST(r25_threads_on_the_same_names_leave_a_sound_tree),
        FS_FIXTURE_TEST(of_those_who_make_one_name_one_wins),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
