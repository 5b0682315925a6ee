/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_fs_snapshot.c - .snapshots: its names, what may be done there, and what lies in it
 */
#include <pthread.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "engine/base/error.h"
#include "snapshot/snapshot_internal.h"
#include "tests/lib/fault_io.h"
#include "tests/lib/fs_fixture.h"

struct names {
    char text[32][FS_NAME_SIZE_MAX + 1];
    uint64_t nodes[32];
    size_t count;
};

static int take(void *context, const struct fs_directory_entry *entry)
{
    struct names *names = context;

    assert_true(names->count < 32);
    strcpy(names->text[names->count], entry->name);
    names->nodes[names->count++] = entry->number;
    return 0;
}

/* The names in a directory without "." and "..". */
static struct names list(struct fs_fixture *fixture, uint64_t node)
{
    struct names names = {.count = 0};
    struct fs_directory *directory;

    assert_int_equal(fs_directory_open(fixture->fs, node, &directory), 0);
    assert_int_equal(fs_readdir(directory, 2, false, take, &names), 0);
    fs_directory_close(directory);
    return names;
}

static uint64_t snapdir(struct fs_fixture *fixture)
{
    return fs_fixture_hold(fixture, FS_ROOT, ".snapshots");
}

static int create_error(struct fs_fixture *fixture, const char *name)
{
    struct fs_entry entry;

    return error_errno(
        fs_mkdir(fixture->fs, snapdir(fixture), name, 0755, &fs_fixture_root, &entry));
}

/* The root of a new snapshot. */
static uint64_t create(struct fs_fixture *fixture, const char *name)
{
    struct fs_entry entry;

    assert_int_equal(fs_mkdir(fixture->fs, snapdir(fixture), name, 0755, &fs_fixture_root, &entry),
                     0);
    return entry.attribute.node;
}

static int delete_error(struct fs_fixture *fixture, const char *name)
{
    return error_errno(fs_rmdir(fixture->fs, snapdir(fixture), name, &fs_fixture_root));
}

static bool is_same_time(struct timespec a, struct timespec b)
{
    return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

/* ---- names ---- */

static void snapshots_are_made_listed_renamed_and_deleted(void **state)
{
    struct fs_fixture *fixture = *state;
    uint64_t directory = snapdir(fixture);
    struct names names;

    create(fixture, "a");
    create(fixture, "b");
    create(fixture, "c");
    assert_int_equal(create_error(fixture, "b"), -EEXIST);
    assert_int_equal(fs_rename(fixture->fs, directory, "a", directory, "z", 0, &fs_fixture_root),
                     0);
    assert_int_equal(fs_rename(fixture->fs, directory, "z", directory, "b", 0, &fs_fixture_root),
                     -EEXIST);
    assert_int_equal(fs_rename(fixture->fs, directory, "z", directory, "z", 0, &fs_fixture_root),
                     0);
    assert_int_equal(fs_rename(fixture->fs, directory, "none", directory, "y", 0, &fs_fixture_root),
                     -ENOENT);
    names = list(fixture, directory);
    assert_int_equal(names.count, 3);
    /* In order of creation, whatever they are called. */
    assert_string_equal(names.text[0], "z");
    assert_string_equal(names.text[1], "b");
    assert_string_equal(names.text[2], "c");
    assert_int_equal(names.nodes[1], fs_fixture_hold(fixture, directory, "b"));
    assert_int_equal(delete_error(fixture, "b"), 0);
    assert_int_equal(delete_error(fixture, "b"), -ENOENT);
    assert_int_equal(fs_fixture_exists(fixture, directory, "b"), -ENOENT);
    assert_int_equal(list(fixture, directory).count, 2);
    fs_fixture_reopen(fixture);
    assert_int_equal(list(fixture, snapdir(fixture)).count, 2);
}

static void r35_names_of_snapshots_are_kept_byte_for_byte(void **state)
{
    static const char *const names[] = {"my-db", "my_db", "caf\xc3\xa9", "cafe\xcc\x81"};
    struct fs_fixture *fixture = *state;
    uint64_t roots[4];

    for (int i = 0; i < 4; i++)
        roots[i] = create(fixture, names[i]);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(fs_fixture_hold(fixture, snapdir(fixture), names[i]), roots[i]);
        assert_int_equal(create_error(fixture, names[i]), -EEXIST);
    }
}

static void impossible_names_are_refused(void **state)
{
    struct fs_fixture *fixture = *state;
    char name[258];

    memset(name, 'n', sizeof name);
    name[256] = '\0';
    assert_int_equal(create_error(fixture, name), -ENAMETOOLONG);
    name[255] = '\0';
    assert_int_equal(create_error(fixture, name), 0);
    assert_int_equal(create_error(fixture, ""), -EINVAL);
    assert_int_equal(create_error(fixture, "."), -EINVAL);
    assert_int_equal(create_error(fixture, ".."), -EINVAL);
    assert_int_equal(create_error(fixture, "a/b"), -EINVAL);
}

static void only_root_and_the_owner_may(void **state)
{
    struct fs_fixture *fixture = *state;
    struct fs_caller owner = {.uid = 500}, other = {.uid = 501};
    struct fs_entry entry;
    uint64_t directory;

    fs_fixture_close(fixture);
    fixture->options.owner_uid = 500;
    fs_fixture_open(fixture);
    directory = snapdir(fixture);
    assert_int_equal(fs_fixture_attribute(fixture, directory).uid, 500);
    assert_int_equal(fs_mkdir(fixture->fs, directory, "a", 0755, &other, &entry), -EPERM);
    assert_int_equal(fs_mkdir(fixture->fs, directory, "a", 0755, &owner, &entry), 0);
    assert_int_equal(fs_rename(fixture->fs, directory, "a", directory, "b", 0, &other), -EPERM);
    assert_int_equal(fs_rename(fixture->fs, directory, "a", directory, "b", 0, &owner), 0);
    assert_int_equal(fs_rmdir(fixture->fs, directory, "b", &other), -EPERM);
    assert_int_equal(fs_rmdir(fixture->fs, directory, "b", &fs_fixture_root), 0);
}

static void the_directory_changes_its_time_with_its_names_only(void **state)
{
    struct fs_fixture *fixture = *state;
    uint64_t directory = snapdir(fixture);
    struct fs_attribute first, second, third;

    create(fixture, "a");
    first = fs_fixture_attribute(fixture, directory);
    assert_int_equal(first.mode, S_IFDIR | S_ISVTX | 0777);
    assert_int_equal(first.nlink, 3);
    fs_fixture_file(fixture, FS_ROOT, "f");
    second = fs_fixture_attribute(fixture, directory);
    assert_true(is_same_time(first.mtime, second.mtime));
    create(fixture, "b");
    third = fs_fixture_attribute(fixture, directory);
    assert_false(is_same_time(first.mtime, third.mtime));
    assert_int_equal(third.nlink, 4);
    fs_fixture_reopen(fixture);
    assert_true(is_same_time(fs_fixture_attribute(fixture, snapdir(fixture)).mtime, third.mtime));
}

static void nothing_else_can_be_made_in_it(void **state)
{
    struct fs_fixture *fixture = *state;
    uint64_t directory = snapdir(fixture);
    uint64_t file = fs_fixture_file(fixture, FS_ROOT, "f");
    struct fs_setattr mode = {.mask = FS_SETATTR_MODE, .mode = 0700};
    struct fs_entry entry;

    create(fixture, "a");
    assert_int_equal(
        fs_mknod(fixture->fs, directory, "x", S_IFREG | 0644, 0, &fs_fixture_root, &entry), -EROFS);
    assert_int_equal(fs_symlink(fixture->fs, directory, "x", "y", &fs_fixture_root, &entry),
                     -EROFS);
    assert_int_equal(fs_tmpfile(fixture->fs, directory, 0600, &fs_fixture_root, &entry), -EROFS);
    assert_int_equal(fs_unlink(fixture->fs, directory, "a", &fs_fixture_root), -EROFS);
    assert_int_equal(fs_setattr(fixture->fs, directory, &mode, &fs_fixture_root, &entry), -EROFS);
    assert_int_equal(fs_setxattr(fixture->fs, directory, "user.a", "b", 1, 0, &fs_fixture_root),
                     -EROFS);
    assert_int_equal(fs_listxattr(fixture->fs, directory, true, NULL, 0), 0);
    assert_int_equal(fs_link(fixture->fs, file, directory, "x", &fs_fixture_root, &entry), -EXDEV);
    assert_int_equal(fs_rename(fixture->fs, FS_ROOT, "f", directory, "x", 0, NULL), -EXDEV);
    assert_int_equal(fs_rename(fixture->fs, directory, "a", FS_ROOT, "x", 0, NULL), -EXDEV);
}

static void another_name_can_be_chosen(void **state)
{
    struct fs_fixture *fixture = *state;

    fs_fixture_file(fixture, FS_ROOT, "past");
    fs_close(fixture->fs);
    fixture->options.snapdir_name = "past";
    assert_int_equal(fs_open(fixture->engine, &fixture->options, &fixture->fs), -EEXIST);
    fixture->options.snapdir_name = "a/b";
    assert_int_equal(fs_open(fixture->engine, &fixture->options, &fixture->fs), -EINVAL);
    fixture->options.snapdir_name = ".zfs";
    assert_int_equal(fs_open(fixture->engine, &fixture->options, &fixture->fs), 0);
    fs_fixture_directory(fixture, FS_ROOT, ".snapshots");
    assert_int_equal(fs_fixture_exists(fixture, FS_ROOT, ".zfs"), 0);
}

/* ---- contents ---- */

static void a_snapshot_is_the_past_and_stays_so(void **state)
{
    struct fs_fixture *fixture = *state;
    uint64_t directory = fs_fixture_directory(fixture, FS_ROOT, "d");
    uint64_t file = fs_fixture_file(fixture, directory, "f");
    struct fs_attribute root_before, file_before, found;
    struct buffer target = {0};
    struct fs_entry entry;
    uint64_t root, past;
    char value[8];

    fs_fixture_write(fixture, file, "before");
    assert_int_equal(fs_setxattr(fixture->fs, file, "user.a", "1", 1, 0, &fs_fixture_root), 0);
    assert_int_equal(fs_symlink(fixture->fs, FS_ROOT, "l", "d/f", &fs_fixture_root, &entry), 0);
    root_before = fs_fixture_attribute(fixture, FS_ROOT);
    file_before = fs_fixture_attribute(fixture, file);
    root = create(fixture, "s");

    fs_fixture_write(fixture, file, "after!");
    assert_int_equal(fs_setxattr(fixture->fs, file, "user.a", "2", 1, 0, &fs_fixture_root), 0);
    assert_int_equal(fs_unlink(fixture->fs, FS_ROOT, "l", NULL), 0);
    fs_fixture_file(fixture, directory, "new");
    assert_int_equal(fs_rename(fixture->fs, FS_ROOT, "d", FS_ROOT, "e", 0, NULL), 0);

    found = fs_fixture_attribute(fixture, root);
    assert_int_equal(found.mode, root_before.mode);
    assert_true(is_same_time(found.mtime, root_before.mtime));
    assert_int_equal(list(fixture, root).count, 2);
    past = fs_fixture_hold(fixture, root, "d");
    assert_int_equal(list(fixture, past).count, 1);
    assert_int_equal(fs_fixture_hold(fixture, past, ".."), root);
    assert_int_equal(fs_fixture_hold(fixture, root, ".."), snapdir(fixture));
    past = fs_fixture_hold(fixture, past, "f");
    found = fs_fixture_attribute(fixture, past);
    assert_true(is_same_time(found.ctime, file_before.ctime));
    assert_true(is_same_time(found.mtime, file_before.mtime));
    assert_true(is_same_time(found.btime, file_before.btime));
    fs_fixture_assert_text(fixture, past, "before");
    assert_int_equal(fs_getxattr(fixture->fs, past, "user.a", value, 8), 1);
    assert_int_equal(value[0], '1');
    assert_int_equal(fs_readlink(fixture->fs, fs_fixture_hold(fixture, root, "l"), &target), 0);
    assert_int_equal(target.size, 3);
    buffer_free(&target);
    fs_fixture_assert_text(fixture, file, "after!");
}

static void every_change_inside_is_refused(void **state)
{
    struct fs_fixture *fixture = *state;
    uint64_t live_directory = fs_fixture_directory(fixture, FS_ROOT, "d");
    uint64_t live = fs_fixture_file(fixture, FS_ROOT, "f");
    uint64_t root = create(fixture, "s"), other = create(fixture, "t");
    uint64_t directory = fs_fixture_hold(fixture, root, "d");
    uint64_t file = fs_fixture_hold(fixture, root, "f");
    struct fs_setattr mode = {.mask = FS_SETATTR_MODE};
    struct fs_entry entry;
    uint64_t handle;

    (void)live_directory;
    assert_int_equal(fs_mknod(fixture->fs, root, "x", S_IFREG, 0, &fs_fixture_root, &entry),
                     -EROFS);
    assert_int_equal(fs_mkdir(fixture->fs, directory, "x", 0755, &fs_fixture_root, &entry), -EROFS);
    assert_int_equal(fs_symlink(fixture->fs, root, "x", "y", &fs_fixture_root, &entry), -EROFS);
    assert_int_equal(fs_unlink(fixture->fs, root, "f", NULL), -EROFS);
    assert_int_equal(fs_rmdir(fixture->fs, root, "d", NULL), -EROFS);
    assert_int_equal(fs_setattr(fixture->fs, file, &mode, &fs_fixture_root, &entry), -EROFS);
    assert_int_equal(fs_setxattr(fixture->fs, file, "user.a", "b", 1, 0, &fs_fixture_root), -EROFS);
    assert_int_equal(fs_set_flags(fixture->fs, file, 0, NULL, &fs_fixture_root), -EROFS);
    assert_int_equal(fs_write(fixture->fs, file, "x", 1, 0, false, false), -EROFS);
    assert_int_equal(fs_open_file(fixture->fs, file, true, &handle), -EROFS);

    assert_int_equal(fs_rename(fixture->fs, root, "f", root, "g", 0, NULL), -EROFS);
    assert_int_equal(fs_rename(fixture->fs, root, "f", directory, "g", 0, NULL), -EROFS);
    assert_int_equal(fs_rename(fixture->fs, root, "f", other, "g", 0, NULL), -EXDEV);
    assert_int_equal(fs_rename(fixture->fs, root, "f", FS_ROOT, "g", 0, NULL), -EXDEV);
    assert_int_equal(fs_rename(fixture->fs, FS_ROOT, "f", root, "g", 0, NULL), -EXDEV);
    assert_int_equal(fs_link(fixture->fs, file, FS_ROOT, "g", &fs_fixture_root, &entry), -EXDEV);
    assert_int_equal(fs_link(fixture->fs, live, root, "g", &fs_fixture_root, &entry), -EXDEV);
    assert_int_equal(fs_link(fixture->fs, file, root, "g", &fs_fixture_root, &entry), -EROFS);
}

static void the_root_of_a_snapshot_says_when_it_was_made(void **state)
{
    struct fs_fixture *fixture = *state;
    uint64_t root = create(fixture, "s");
    uint64_t later = create(fixture, "t");
    char value[64], other[64];
    int64_t size;

    size = fs_getxattr(fixture->fs, root, "user.varve.btime", value, sizeof value - 1);
    assert_true(size > 10);
    value[size] = '\0';
    assert_true(strtoll(value, NULL, 10) > 1600000000);
    assert_int_equal(strlen(strchr(value, '.')), 10);
    assert_int_equal(fs_getxattr(fixture->fs, root, "user.varve.btime", NULL, 0), size);
    assert_int_equal(fs_getxattr(fixture->fs, root, "user.varve.btime", value, 3), -ERANGE);
    size = fs_getxattr(fixture->fs, root, "user.varve.seq", value, sizeof value - 1);
    assert_true(size > 0);
    value[size] = '\0';
    size = fs_getxattr(fixture->fs, later, "user.varve.seq", other, sizeof other - 1);
    assert_true(size > 0);
    other[size] = '\0';
    assert_true(strtoull(other, NULL, 10) >= strtoull(value, NULL, 10));
    assert_int_equal(fs_getxattr(fixture->fs, root, "user.varve.no", value, 9), -ENODATA);
    assert_int_equal(fs_getxattr(fixture->fs, FS_ROOT, "user.varve.seq", value, 9), -ENODATA);
    assert_int_equal(fs_listxattr(fixture->fs, root, true, NULL, 0), 0);
}

/* ---- identity ---- */

static struct fs_entry entry_of(struct fs_fixture *fixture, uint64_t root, const char *name)
{
    struct fs_entry entry;

    assert_int_equal(fs_lookup(fixture->fs, root, name, &entry), 0);
    return entry;
}

static void an_unchanged_file_is_one_inode_in_all_snapshots(void **state)
{
    struct fs_fixture *fixture = *state;
    uint64_t live = fs_fixture_file(fixture, FS_ROOT, "f");
    struct fs_entry one, two, three, four;

    fs_fixture_write(fixture, live, "same");
    one = entry_of(fixture, create(fixture, "1"), "f");
    assert_int_equal(one.attribute.nlink, 1);
    fs_fixture_file(fixture, FS_ROOT, "something else");
    two = entry_of(fixture, create(fixture, "2"), "f");
    assert_int_equal(two.attribute.node, one.attribute.node);
    assert_int_equal(two.attribute.nlink, 2);
    assert_false(two.stable);
    assert_int_equal(fs_fixture_attribute(fixture, one.attribute.node).nlink, 2);
    assert_int_not_equal(two.attribute.node, live);
    assert_false(fs_node_is_live(two.attribute.node));

    fs_fixture_write(fixture, live, "diff");
    three = entry_of(fixture, create(fixture, "3"), "f");
    assert_int_not_equal(three.attribute.node, one.attribute.node);
    assert_int_equal(three.attribute.nlink, 1);
    assert_int_equal(fs_fixture_attribute(fixture, one.attribute.node).nlink, 2);
    four = entry_of(fixture, create(fixture, "4"), "f");
    assert_int_equal(four.attribute.node, three.attribute.node);
    assert_int_equal(four.attribute.nlink, 2);

    assert_int_equal(delete_error(fixture, "1"), 0);
    assert_int_equal(fs_fixture_attribute(fixture, one.attribute.node).nlink, 1);
    fs_fixture_assert_text(fixture, one.attribute.node, "same");
    fs_fixture_assert_text(fixture, three.attribute.node, "diff");
}

static void hard_links_multiply_with_snapshots(void **state)
{
    struct fs_fixture *fixture = *state;
    uint64_t live = fs_fixture_file(fixture, FS_ROOT, "a");
    uint64_t one, two;
    struct fs_entry entry;

    assert_int_equal(fs_link(fixture->fs, live, FS_ROOT, "b", &fs_fixture_root, &entry), 0);
    one = create(fixture, "1");
    two = create(fixture, "2");
    assert_int_equal(entry_of(fixture, one, "a").attribute.nlink, 4);
    assert_int_equal(entry_of(fixture, two, "b").attribute.node,
                     entry_of(fixture, one, "a").attribute.node);
    assert_int_equal(fs_fixture_attribute(fixture, live).nlink, 2);
}

static void any_change_makes_another_inode(void **state)
{
    struct fs_fixture *fixture = *state;
    uint64_t live = fs_fixture_file(fixture, FS_ROOT, "f");
    struct fs_entry entry;
    uint64_t nodes[6];
    char name[2] = "0";

    for (int i = 0; i < 6; i++) {
        struct fs_setattr change = {.mask = i == 1   ? FS_SETATTR_MODE
                                            : i == 2 ? FS_SETATTR_UID
                                                     : FS_SETATTR_MTIME,
                                    .mode = 0600,
                                    .uid = 7,
                                    .mtime = {1, 2}};

        if (i >= 1 && i <= 3)
            assert_int_equal(fs_setattr(fixture->fs, live, &change, &fs_fixture_root, &entry), 0);
        if (i == 4)
            assert_int_equal(fs_setxattr(fixture->fs, live, "user.a", "b", 1, 0, &fs_fixture_root),
                             0);
        if (i == 5)
            fs_fixture_write(fixture, live, "x");
        name[0] = (char)('0' + i);
        nodes[i] = entry_of(fixture, create(fixture, name), "f").attribute.node;
        for (int j = 0; j < i; j++)
            assert_int_not_equal(nodes[i], nodes[j]);
    }
}

static void directories_are_never_shared(void **state)
{
    struct fs_fixture *fixture = *state;
    uint64_t live = fs_fixture_directory(fixture, FS_ROOT, "d");
    uint64_t one = create(fixture, "1"), two = create(fixture, "2");
    struct fs_entry a = entry_of(fixture, one, "d"), b = entry_of(fixture, two, "d");

    assert_int_not_equal(one, two);
    assert_int_not_equal(a.attribute.node, b.attribute.node);
    assert_int_not_equal(a.attribute.node, live);
    assert_true(a.stable);
    assert_int_equal(a.attribute.nlink, 2);
}

static void without_snaplinks_every_file_is_its_own(void **state)
{
    struct fs_fixture *fixture = *state;
    struct fs_entry one, two;
    struct names names;
    uint64_t root;

    fs_fixture_close(fixture);
    fixture->options.snaplinks = false;
    fs_fixture_open(fixture);
    fs_fixture_write(fixture, fs_fixture_file(fixture, FS_ROOT, "f"), "text");
    root = create(fixture, "1");
    one = entry_of(fixture, root, "f");
    two = entry_of(fixture, create(fixture, "2"), "f");
    assert_int_not_equal(one.attribute.node, two.attribute.node);
    assert_int_equal(one.attribute.nlink, 1);
    assert_int_equal(two.attribute.nlink, 1);
    fs_fixture_assert_text(fixture, one.attribute.node, "text");
    names = list(fixture, root);
    assert_int_equal(names.count, 1);
    assert_int_equal(names.nodes[0], one.attribute.node);
}

static void listed_numbers_are_those_of_stat(void **state)
{
    struct fs_fixture *fixture = *state;
    struct names names;
    uint64_t root;

    fs_fixture_file(fixture, FS_ROOT, "f");
    fs_fixture_directory(fixture, FS_ROOT, "d");
    root = create(fixture, "s");
    names = list(fixture, root);
    assert_int_equal(names.count, 2);
    assert_int_equal(names.nodes[0], entry_of(fixture, root, "f").attribute.node);
    assert_int_equal(names.nodes[1], entry_of(fixture, root, "d").attribute.node);
    names = list(fixture, snapdir(fixture));
    assert_int_equal(names.nodes[0], root);
}

/* ---- deletion while in use ---- */

static void what_the_kernel_holds_outlives_the_deletion(void **state)
{
    struct fs_fixture *fixture = *state;
    uint64_t live = fs_fixture_file(fixture, FS_ROOT, "f");
    uint64_t root, file, handle;
    struct fs_entry entry;

    fs_fixture_write(fixture, live, "kept");
    root = create(fixture, "s");
    file = fs_fixture_hold(fixture, root, "f");
    fs_fixture_write(fixture, live, "new!");
    assert_int_equal(fs_open_file(fixture->fs, file, false, &handle), 0);
    assert_int_equal(delete_error(fixture, "s"), 0);
    assert_int_equal(fs_fixture_exists(fixture, snapdir(fixture), "s"), -ENOENT);
    assert_int_equal(list(fixture, snapdir(fixture)).count, 0);

    /* Through the handle, and without one as after OPEN was answered with ENOSYS. */
    {
        char data[8];

        assert_int_equal(fs_read(fixture->fs, file, handle, data, 8, 0), 4);
        assert_memory_equal(data, "kept", 4);
    }
    fs_fixture_assert_text(fixture, file, "kept");
    assert_int_equal(fs_fixture_attribute(fixture, file).size_bytes, 4);
    assert_int_equal(fs_fixture_attribute(fixture, file).nlink, 1);
    assert_int_equal(fs_fixture_exists(fixture, root, "f"), 0);
    fs_release_file(fixture->fs, file, handle);

    fs_forget(fixture->fs, file, 1);
    assert_int_equal(fs_getattr(fixture->fs, root, &entry), 0);
    fs_forget(fixture->fs, root, 1);
    assert_int_equal(fs_getattr(fixture->fs, root, &entry), -ESTALE);
    assert_int_equal(fs_getattr(fixture->fs, file, &entry), -ESTALE);
}

static void a_file_held_from_one_snapshot_is_found_in_another(void **state)
{
    struct fs_fixture *fixture = *state;
    uint64_t file;
    uint64_t one, two;

    fs_fixture_write(fixture, fs_fixture_file(fixture, FS_ROOT, "f"), "text");
    one = create(fixture, "1");
    two = create(fixture, "2");
    file = fs_fixture_hold(fixture, two, "f");
    fs_forget(fixture->fs, one, 1);
    /* Deleted behind the filesystem's back: nothing was kept of it. */
    assert_int_equal(snapshot_delete(fs_snapshots(fixture->fs), slice_of_string("2")), 0);
    fs_fixture_assert_text(fixture, file, "text");
    assert_int_equal(fs_fixture_attribute(fixture, file).nlink, 1);
}

static void an_unknown_node_is_stale(void **state)
{
    struct fs_fixture *fixture = *state;
    struct fs_entry entry;

    assert_int_equal(fs_getattr(fixture->fs, UINT64_C(1) << 63 | 5, &entry), -ESTALE);
    assert_int_equal(fs_getattr(fixture->fs, UINT64_C(1) << 62 | UINT64_C(9) << 38 | 1, &entry),
                     -ESTALE);
    assert_int_equal(fs_getattr(fixture->fs, UINT64_C(1) << 62 | 4711, &entry), -ESTALE);
    assert_int_equal(fs_getattr(fixture->fs, UINT64_C(1) << 62, &entry), -ESTALE);
    assert_int_equal(fs_getattr(fixture->fs, UINT64_C(1) << 50, &entry), -ESTALE);
    assert_int_equal(fs_fixture_exists(fixture, UINT64_MAX, "x"), -ESTALE);
}

/* ---- everywhere ---- */

struct told {
    unsigned entries, inodes;
    uint64_t last_parent;
    char last_name[64];
};

static void told_entry(void *context, uint64_t parent, const char *name)
{
    struct told *told = context;

    told->entries++;
    told->last_parent = parent;
    snprintf(told->last_name, sizeof told->last_name, "%s", name);
}

static void told_inode(void *context, uint64_t node)
{
    (void)node;
    ((struct told *)context)->inodes++;
}

static void each_directory_shows_its_own_past(void **state)
{
    struct fs_fixture *fixture = *state;
    uint64_t directory, inner, past;
    struct fs_entry entry;
    struct names names;

    create(fixture, "before");
    directory = fs_fixture_directory(fixture, FS_ROOT, "d");
    fs_fixture_write(fixture, fs_fixture_file(fixture, directory, "f"), "past");
    create(fixture, "during");
    assert_int_equal(fs_unlink(fixture->fs, directory, "f", NULL), 0);

    assert_int_equal(list(fixture, directory).count, 0); /* not listed */
    assert_int_equal(
        fs_mknod(fixture->fs, directory, ".snapshots", S_IFREG, 0, &fs_fixture_root, &entry),
        -EEXIST);
    inner = fs_fixture_hold(fixture, directory, ".snapshots");
    assert_int_equal(fs_fixture_hold(fixture, inner, ".."), directory);
    names = list(fixture, inner);
    assert_int_equal(names.count, 1);
    assert_string_equal(names.text[0], "during");
    assert_int_equal(fs_fixture_exists(fixture, inner, "before"), -ENOENT);
    past = fs_fixture_hold(fixture, inner, "during");
    assert_int_equal(names.nodes[0], fs_fixture_attribute(fixture, past).number);
    fs_fixture_assert_text(fixture, fs_fixture_hold(fixture, past, "f"), "past");
    assert_int_equal(fs_rmdir(fixture->fs, inner, "before", &fs_fixture_root), -ENOENT);

    /* Made here, it is of the whole tree. */
    assert_int_equal(fs_mkdir(fixture->fs, inner, "here", 0755, &fs_fixture_root, &entry), 0);
    assert_int_equal(list(fixture, snapdir(fixture)).count, 3);
    assert_int_equal(fs_rmdir(fixture->fs, inner, "here", &fs_fixture_root), 0);
    /* A file has none, and a snapshot neither. */
    assert_int_equal(fs_fixture_exists(fixture, past, ".snapshots"), -ENOENT);
}

/* The kernel has a directory in one place only: another path must be another node. */
static void a_directory_of_the_past_is_another_node_on_each_path(void **state)
{
    struct fs_fixture *fixture = *state;
    uint64_t outer, inner, outer_past, inner_past, node[3];
    struct names names;

    outer = fs_fixture_directory(fixture, FS_ROOT, "o");
    inner = fs_fixture_directory(fixture, outer, "i");
    fs_fixture_write(fixture, fs_fixture_file(fixture, inner, "f"), "text");
    node[0] = fs_fixture_hold(fixture, fs_fixture_hold(fixture, create(fixture, "s"), "o"), "i");
    outer_past = fs_fixture_hold(fixture, fs_fixture_hold(fixture, outer, ".snapshots"), "s");
    node[1] = fs_fixture_hold(fixture, outer_past, "i");
    inner_past = fs_fixture_hold(fixture, inner, ".snapshots");
    node[2] = fs_fixture_hold(fixture, inner_past, "s");
    for (int i = 0; i < 3; i++) {
        struct fs_entry entry;

        assert_int_not_equal(node[i], node[(i + 1) % 3]);
        assert_int_equal(fs_fixture_attribute(fixture, node[i]).node, node[i]);
        assert_int_equal(fs_fixture_attribute(fixture, node[i]).number, node[0]);
        names = list(fixture, node[i]);
        assert_int_equal(names.count, 1);
        assert_int_equal(names.nodes[0], entry_of(fixture, node[0], "f").attribute.node);
        assert_int_equal(fs_mknod(fixture->fs, node[i], "g", S_IFREG, 0, &fs_fixture_root, &entry),
                         -EROFS);
    }
    assert_int_equal(fs_fixture_hold(fixture, outer_past, "i"), node[1]); /* found again */

    /* What the kernel holds outlives the snapshot; what it does not hold is not known. */
    assert_int_equal(fs_snapshot_delete(fixture->fs, "s"), 0);
    fs_fixture_assert_text(fixture, fs_fixture_hold(fixture, node[1], "f"), "text");
    fs_forget(fixture->fs, node[2], 1);
    assert_int_equal(fs_fixture_exists(fixture, node[2], "f"), -ESTALE);
}

static void a_removed_directory_has_no_past_from_then_on(void **state)
{
    struct fs_fixture *fixture = *state;
    uint64_t inner;
    struct fs_entry entry;

    fs_fixture_directory(fixture, FS_ROOT, "d");
    inner = fs_fixture_hold(fixture, fs_fixture_hold(fixture, FS_ROOT, "d"), ".snapshots");
    create(fixture, "1");
    assert_int_equal(fs_rmdir(fixture->fs, FS_ROOT, "d", NULL), 0);
    create(fixture, "2"); /* the directory is still held, and so still has records */
    assert_int_equal(fs_fixture_exists(fixture, inner, "1"), 0);
    assert_int_equal(fs_fixture_exists(fixture, inner, "2"), -ENOENT);
    assert_int_equal(list(fixture, inner).count, 1);
    assert_int_equal(fs_mkdir(fixture->fs, inner, "3", 0755, &fs_fixture_root, &entry), -ESTALE);
}

static void only_the_root_has_one_when_asked(void **state)
{
    struct fs_fixture *fixture = *state;
    uint64_t directory;

    fs_fixture_close(fixture);
    fixture->options.snapdir_everywhere = false;
    fs_fixture_open(fixture);
    directory = fs_fixture_directory(fixture, FS_ROOT, "d");
    assert_int_equal(fs_fixture_exists(fixture, directory, ".snapshots"), -ENOENT);
    fs_fixture_file(fixture, directory, ".snapshots");
}

static void the_other_directories_are_told_of_a_change(void **state)
{
    struct fs_fixture *fixture = *state;
    struct told told = {0};
    struct fs_notify notify = {.entry = told_entry, .inode = told_inode, .context = &told};
    uint64_t outer, inner;

    fs_set_notify(fixture->fs, &notify);
    outer = snapdir(fixture);
    inner = fs_fixture_hold(fixture, fs_fixture_directory(fixture, FS_ROOT, "d"), ".snapshots");
    create(fixture, "s");
    assert_int_equal(told.entries, 1);
    assert_int_equal(told.inodes, 1);
    assert_int_equal(told.last_parent, inner);
    assert_string_equal(told.last_name, "s");
    assert_int_equal(fs_rmdir(fixture->fs, inner, "s", &fs_fixture_root), 0);
    assert_int_equal(told.entries, 2);
    assert_int_equal(told.last_parent, outer);
    fs_snapshot_announce(fixture->fs, "t");
    assert_int_equal(told.entries, 4);
    create(fixture, "u");
    assert_int_equal(fs_snapshot_delete(fixture->fs, "u"), 0);
    assert_int_equal(fs_snapshot_delete(fixture->fs, "u"), -ENOENT);
    assert_int_equal(told.entries, 7);
}

/* ---- creators in parallel ---- */

struct creator {
    struct fs_fixture *fixture;
    int result;
};

static void *create_same(void *context)
{
    struct creator *creator = context;
    struct fs_entry entry;

    creator->result = fs_mkdir(creator->fixture->fs, UINT64_C(1) << 62 | FS_ROOT, "same", 0755,
                               &fs_fixture_root, &entry);
    return NULL;
}

static void r55_of_sixteen_creators_of_one_name_one_wins(void **state)
{
    struct fs_fixture *fixture = *state;
    struct fault_io *fault = fault_io_new(fixture->io);
    struct creator creators[16];
    pthread_t threads[16];
    int won = 0;

    fs_fixture_close(fixture);
    fixture->engine_options.io = fault_io_get(fault);
    fs_fixture_open(fixture);
    fault_io_stall(fault, FAULT_SYNC, 1); /* whoever is first is not done before the last begins */
    for (int i = 0; i < 16; i++) {
        creators[i] = (struct creator){.fixture = fixture};
        assert_int_equal(pthread_create(&threads[i], NULL, create_same, &creators[i]), 0);
    }
    fault_io_wait_stalled(fault);
    usleep(20000);
    fault_io_clear(fault, FAULT_SYNC);
    for (int i = 0; i < 16; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_true(creators[i].result == 0 || error_errno(creators[i].result) == -EEXIST);
        won += creators[i].result == 0;
    }
    assert_int_equal(won, 1);
    fs_fixture_close(fixture);
    fault_io_free(fault);
    fixture->engine_options.io = fixture->io;
    fs_fixture_open(fixture);
}

static void r29_what_was_acknowledged_is_in_the_snapshot(void **state)
{
    struct fs_fixture *fixture = *state;
    uint64_t root;

    fs_fixture_write(fixture, fs_fixture_file(fixture, FS_ROOT, "fresh"), "brand new");
    root = create(fixture, "s");
    fs_fixture_assert_text(fixture, fs_fixture_hold(fixture, root, "fresh"), "brand new");
    fs_fixture_reopen(fixture);
    root = fs_fixture_hold(fixture, snapdir(fixture), "s");
    fs_fixture_assert_text(fixture, fs_fixture_hold(fixture, root, "fresh"), "brand new");
}

static int count_bare(void *context, const struct fs_directory_entry *entry)
{
    size_t *count = context;

    assert_null(entry->entry);
    assert_int_equal(entry->type & S_IFMT, S_IFDIR);
    ++*count;
    return 0;
}

static void listing_snapshots_opens_none(void **state)
{
    struct fs_fixture *fixture = *state;
    struct fs_directory *directory;
    size_t count = 0;

    for (int i = 0; i < 10; i++) {
        char name[8];

        snprintf(name, sizeof name, "s%d", i);
        create(fixture, name);
    }
    fs_fixture_reopen(fixture);
    assert_int_equal(fs_directory_open(fixture->fs, snapdir(fixture), &directory), 0);
    assert_int_equal(fs_readdir(directory, 0, true, count_bare, &count), 0);
    fs_directory_close(directory);
    assert_int_equal(count, 12); /* with "." and ".." */
    assert_int_equal(fs_snapshots(fixture->fs)->views_open, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FS_FIXTURE_TEST(snapshots_are_made_listed_renamed_and_deleted),
        FS_FIXTURE_TEST(listing_snapshots_opens_none),
        FS_FIXTURE_TEST(r35_names_of_snapshots_are_kept_byte_for_byte),
        FS_FIXTURE_TEST(impossible_names_are_refused),
        FS_FIXTURE_TEST(only_root_and_the_owner_may),
        FS_FIXTURE_TEST(the_directory_changes_its_time_with_its_names_only),
        FS_FIXTURE_TEST(nothing_else_can_be_made_in_it),
        FS_FIXTURE_TEST(another_name_can_be_chosen),
        FS_FIXTURE_TEST(a_snapshot_is_the_past_and_stays_so),
        FS_FIXTURE_TEST(every_change_inside_is_refused),
        FS_FIXTURE_TEST(the_root_of_a_snapshot_says_when_it_was_made),
        FS_FIXTURE_TEST(an_unchanged_file_is_one_inode_in_all_snapshots),
        FS_FIXTURE_TEST(hard_links_multiply_with_snapshots),
        FS_FIXTURE_TEST(any_change_makes_another_inode),
        FS_FIXTURE_TEST(directories_are_never_shared),
        FS_FIXTURE_TEST(without_snaplinks_every_file_is_its_own),
        FS_FIXTURE_TEST(listed_numbers_are_those_of_stat),
        FS_FIXTURE_TEST(what_the_kernel_holds_outlives_the_deletion),
        FS_FIXTURE_TEST(a_file_held_from_one_snapshot_is_found_in_another),
        FS_FIXTURE_TEST(an_unknown_node_is_stale),
        FS_FIXTURE_TEST(each_directory_shows_its_own_past),
        FS_FIXTURE_TEST(a_directory_of_the_past_is_another_node_on_each_path),
        FS_FIXTURE_TEST(a_removed_directory_has_no_past_from_then_on),
        FS_FIXTURE_TEST(only_the_root_has_one_when_asked),
        FS_FIXTURE_TEST(the_other_directories_are_told_of_a_change),
        FS_FIXTURE_TEST(r55_of_sixteen_creators_of_one_name_one_wins),
        FS_FIXTURE_TEST(r29_what_was_acknowledged_is_in_the_snapshot),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
