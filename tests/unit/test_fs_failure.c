/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_fs_failure.c - tests of fuse/fs.h: crashes, read-only stores, disks that are full or fail
 */
#include <pthread.h>
#include <unistd.h>

#include "tests/lib/child.h"
#include "tests/lib/fs_fixture.h"
#include "tests/lib/test_fault_io.h"

/* ---- orphans after a crash ---- */

static void orphan_and_die(void *context)
{
    struct fs_fixture *fixture = context;
    uint64_t file;

    fs_fixture_open(fixture);
    file = fs_fixture_hold(fixture, FS_ROOT, "held");
    assert_int_equal(fs_unlink(fixture->fs, FS_ROOT, "held", NULL), 0);
    assert_int_equal(fs_fsync(fixture->fs, file, false), 0);
}

static void orphans_of_a_crash_are_removed_at_the_next_open(void **state)
{
    struct fs_fixture *fixture = *state;
    struct fs_statistics statistics;
    struct fs_entry entry;
    char output[4096];
    uint64_t file = fs_fixture_file(fixture, FS_ROOT, "held");

    fs_fixture_write(fixture, file, "content");
    fs_fixture_close(fixture);
    assert_int_equal(child_run(orphan_and_die, fixture, output, sizeof output), 0);
    fs_fixture_open(fixture);
    assert_int_equal(fs_getattr(fixture->fs, file, &entry), -ESTALE);
    assert_int_equal(fs_fixture_records_of(fixture, file), 0);
    fs_get_statistics(fixture->fs, &statistics);
    assert_int_equal(statistics.orphans_reaped, 1);
}

static void orphans_are_removed_by_a_close(void **state)
{
    struct fs_fixture *fixture = *state;
    struct fs_statistics statistics;
    uint64_t file = fs_fixture_file(fixture, FS_ROOT, "held");

    assert_int_equal(fs_unlink(fixture->fs, FS_ROOT, "held", NULL), 0);
    fs_fixture_reopen(fixture);
    assert_int_equal(fs_fixture_records_of(fixture, file), 0);
    fs_get_statistics(fixture->fs, &statistics);
    assert_int_equal(statistics.orphans_reaped, 0);
}

/* ---- read-only ---- */

static void a_read_only_store_refuses_every_change(void **state)
{
    struct fs_fixture *fixture = *state;
    uint64_t file = fs_fixture_file(fixture, FS_ROOT, "f");
    struct fs_setattr mode = {.mask = FS_SETATTR_MODE};
    struct fs_entry entry;
    struct statvfs space;

    fs_fixture_close(fixture);
    fixture->engine_options.read_only = true;
    fs_fixture_open(fixture);
    assert_true(fs_read_only(fixture->fs));
    assert_int_equal(fs_fixture_exists(fixture, FS_ROOT, "f"), 0);
    assert_int_equal(fs_mknod(fixture->fs, FS_ROOT, "x", S_IFREG, 0, &fs_fixture_root, &entry),
                     -EROFS);
    assert_int_equal(fs_mkdir(fixture->fs, FS_ROOT, "x", 0755, &fs_fixture_root, &entry), -EROFS);
    assert_int_equal(fs_symlink(fixture->fs, FS_ROOT, "x", "y", &fs_fixture_root, &entry), -EROFS);
    assert_int_equal(fs_tmpfile(fixture->fs, FS_ROOT, 0600, &fs_fixture_root, &entry), -EROFS);
    assert_int_equal(fs_link(fixture->fs, file, FS_ROOT, "x", &fs_fixture_root, &entry), -EROFS);
    assert_int_equal(fs_unlink(fixture->fs, FS_ROOT, "f", NULL), -EROFS);
    assert_int_equal(fs_rmdir(fixture->fs, FS_ROOT, "f", NULL), -EROFS);
    assert_int_equal(fs_rename(fixture->fs, FS_ROOT, "f", FS_ROOT, "g", 0, NULL), -EROFS);
    assert_int_equal(fs_setattr(fixture->fs, file, &mode, &fs_fixture_root, &entry), -EROFS);
    assert_int_equal(fs_set_flags(fixture->fs, file, 0, NULL, &fs_fixture_root), -EROFS);
    assert_int_equal(fs_setxattr(fixture->fs, file, "user.a", "b", 1, 0, &fs_fixture_root), -EROFS);
    assert_int_equal(fs_removexattr(fixture->fs, file, "user.a", &fs_fixture_root), -EROFS);
    assert_int_equal(fs_statfs(fixture->fs, &space), 0);
    assert_int_equal(space.f_flag & ST_RDONLY, ST_RDONLY);
}

static bool yes(void *context)
{
    *(unsigned *)context += 1;
    return true;
}

static void changes_are_refused_and_taken_again(void **state)
{
    struct fs_fixture *fixture = *state;
    unsigned asked = 0;
    const struct fs_notify notify = {.is_writable = yes, .context = &asked};
    uint64_t file = fs_fixture_file(fixture, FS_ROOT, "f");
    uint64_t handle;
    struct fs_entry entry;

    assert_int_equal(fs_set_read_only(fixture->fs, true), 0);
    assert_true(fs_read_only(fixture->fs) && engine_is_read_only(fixture->engine));
    assert_int_equal(fs_mkdir(fixture->fs, FS_ROOT, "x", 0755, &fs_fixture_root, &entry), -EROFS);
    assert_int_equal(fs_open_file(fixture->fs, file, true, &handle), -EROFS);
    assert_int_equal(engine_compact(fixture->engine), -EROFS);
    assert_int_equal(fs_sync(fixture->fs), 0);
    assert_int_equal(fs_set_read_only(fixture->fs, false), 0);
    assert_int_equal(engine_compact(fixture->engine), 0);
    assert_int_equal(fs_mkdir(fixture->fs, FS_ROOT, "x", 0755, &fs_fixture_root, &entry), 0);

    /* Nobody said that it is writable again, but so it is. */
    assert_int_equal(fs_set_read_only(fixture->fs, true), 0);
    fs_set_notify(fixture->fs, &notify);
    assert_int_equal(fs_mkdir(fixture->fs, FS_ROOT, "y", 0755, &fs_fixture_root, &entry), 0);
    assert_int_equal(asked, 1);
    assert_false(fs_read_only(fixture->fs) || engine_is_read_only(fixture->engine));
}

static void what_was_unlinked_goes_when_changes_are_taken_again(void **state)
{
    struct fs_fixture *fixture = *state;
    uint64_t file = fs_fixture_file(fixture, FS_ROOT, "f");
    struct fs_statistics statistics;

    assert_int_equal(fs_unlink(fixture->fs, FS_ROOT, "f", NULL), 0);
    assert_int_equal(fs_set_read_only(fixture->fs, true), 0);
    fs_forget(fixture->fs, file, 1);
    fs_get_statistics(fixture->fs, &statistics);
    assert_int_equal(statistics.orphans_reaped, 0);
    assert_int_equal(fs_set_read_only(fixture->fs, false), 0);
    fs_get_statistics(fixture->fs, &statistics);
    assert_int_equal(statistics.orphans_reaped, 1);
}

/* ---- failing disks ---- */

static struct io_ops full_disk;

static int no_space(struct io *io, struct io_file *file, struct statvfs *ret_space)
{
    (void)io;
    (void)file;
    *ret_space = (struct statvfs){.f_bsize = 4096, .f_frsize = 4096, .f_blocks = 1000};
    return 0;
}

/* The first who asks how much space there is waits for the answer; somebody else writes meanwhile. */
static struct {
    struct io_ops ops;
    const struct io_ops *real;
    struct fs_fixture *fixture;
    atomic_bool asked;
    int result;
} slow_space;

static void *make_another(void *context)
{
    struct fs_entry entry;

    (void)context;
    slow_space.result = fs_mknod(slow_space.fixture->fs, FS_ROOT, "another", S_IFREG | 0644, 0,
                                 &fs_fixture_root, &entry);
    return NULL;
}

static int space_while_another_writes(struct io *io, struct io_file *file,
                                      struct statvfs *ret_space)
{
    pthread_t other;

    if (!atomic_exchange(&slow_space.asked, true)) {
        assert_int_equal(pthread_create(&other, NULL, make_another, NULL), 0);
        assert_int_equal(pthread_join(other, NULL), 0);
    }
    return slow_space.real->space(io, file, ret_space);
}

static void space_is_not_missing_while_it_is_asked_for(void **state)
{
    struct fs_fixture *fixture = *state;
    uint64_t directory = fs_fixture_directory(fixture, FS_ROOT, "d");
    struct fs_entry entry;

    slow_space.real = fixture->io->ops;
    slow_space.fixture = fixture;
    slow_space.ops = *slow_space.real;
    slow_space.ops.space = space_while_another_writes;
    fs_fixture_reopen(fixture);
    fixture->io->ops = &slow_space.ops;
    assert_int_equal(
        fs_mknod(fixture->fs, directory, "x", S_IFREG | 0644, 0, &fs_fixture_root, &entry), 0);
    fixture->io->ops = slow_space.real;
    assert_true(atomic_load(&slow_space.asked));
    assert_int_equal(slow_space.result, 0);
}

static void a_full_disk_refuses_what_is_new_and_lets_go(void **state)
{
    struct fs_fixture *fixture = *state;
    const struct io_ops *real = fixture->io->ops;
    uint64_t file = fs_fixture_file(fixture, FS_ROOT, "f");
    uint64_t directory = fs_fixture_directory(fixture, FS_ROOT, "d");
    struct fs_setattr cut = {.mask = FS_SETATTR_SIZE};
    struct fs_entry entry;

    fs_fixture_write(fixture, file, "content");
    fs_fixture_close(fixture);
    full_disk = *real;
    full_disk.space = no_space;
    fixture->io->ops = &full_disk;
    fs_fixture_open(fixture);

    assert_int_equal(
        fs_mknod(fixture->fs, FS_ROOT, "x", S_IFREG | 0644, 0, &fs_fixture_root, &entry), -ENOSPC);
    assert_int_equal(fs_mkdir(fixture->fs, FS_ROOT, "x", 0755, &fs_fixture_root, &entry), -ENOSPC);
    assert_int_equal(fs_symlink(fixture->fs, FS_ROOT, "x", "y", &fs_fixture_root, &entry), -ENOSPC);
    assert_int_equal(fs_tmpfile(fixture->fs, FS_ROOT, 0600, &fs_fixture_root, &entry), -ENOSPC);
    assert_int_equal(fs_link(fixture->fs, file, FS_ROOT, "x", &fs_fixture_root, &entry), -ENOSPC);
    assert_int_equal(fs_setxattr(fixture->fs, file, "user.a", "b", 1, 0, &fs_fixture_root),
                     -ENOSPC);
    fs_fixture_assert_text(fixture, file, "content");
    assert_int_equal(fs_rename(fixture->fs, FS_ROOT, "f", directory, "g", 0, NULL), 0);
    assert_int_equal(fs_setattr(fixture->fs, file, &cut, &fs_fixture_root, &entry), 0);
    assert_int_equal(fs_unlink(fixture->fs, directory, "g", NULL), 0);
    assert_int_equal(fs_rmdir(fixture->fs, FS_ROOT, "d", NULL), 0);

    fs_fixture_close(fixture);
    fixture->io->ops = real;
    fs_fixture_open(fixture);
    assert_int_equal(fs_fixture_attribute(fixture, FS_ROOT).size_bytes, 0);
}

static void r10_after_a_failed_sync_files_are_read_but_not_changed(void **state)
{
    struct fs_fixture *fixture = *state;
    uint64_t file = fs_fixture_file(fixture, FS_ROOT, "f");
    struct fs_setattr mode = {.mask = FS_SETATTR_MODE};
    struct fs_statistics before, after;
    struct test_fault_io fault;
    struct fs_entry entry;

    fs_fixture_write(fixture, file, "content");
    fs_fixture_close(fixture);
    test_fault_io_init(&fault, fixture->io);
    fixture->engine_options.io = &fault.io;
    fs_fixture_open(fixture);
    fs_fixture_directory(fixture, FS_ROOT, "d");
    assert_int_equal(fs_fixture_hold(fixture, FS_ROOT, "f"), file);
    test_fault_io_arm(&fault, 1, -EIO, true);
    assert_true(fs_sync(fixture->fs) < 0);

    fs_get_statistics(fixture->fs, &before);
    assert_int_equal(error_errno(fs_mknod(fixture->fs, FS_ROOT, "x", S_IFREG | 0644, 0,
                                          &fs_fixture_root, &entry)),
                     -EROFS);
    assert_int_equal(error_errno(fs_tmpfile(fixture->fs, FS_ROOT, 0600, &fs_fixture_root, &entry)),
                     -EROFS);
    assert_int_equal(
        error_errno(fs_link(fixture->fs, file, FS_ROOT, "x", &fs_fixture_root, &entry)), -EROFS);
    assert_int_equal(error_errno(fs_unlink(fixture->fs, FS_ROOT, "f", NULL)), -EROFS);
    assert_int_equal(error_errno(fs_rmdir(fixture->fs, FS_ROOT, "d", NULL)), -EROFS);
    assert_int_equal(error_errno(fs_rename(fixture->fs, FS_ROOT, "f", FS_ROOT, "g", 0, NULL)),
                     -EROFS);
    assert_int_equal(error_errno(fs_setattr(fixture->fs, file, &mode, &fs_fixture_root, &entry)),
                     -EROFS);
    fs_fixture_assert_text(fixture, file, "content");
    assert_int_equal(fs_fixture_exists(fixture, FS_ROOT, "f"), 0);
    assert_int_equal(fs_fixture_exists(fixture, FS_ROOT, "x"), -ENOENT);
    /* What failed holds nothing. */
    fs_get_statistics(fixture->fs, &after);
    assert_int_equal(after.nodes_held, before.nodes_held);
    assert_int_equal(after.orphans, before.orphans);

    fs_close(fixture->fs);
    (void)engine_close(fixture->engine);
    test_fault_io_arm(&fault, 0, 0, false);
    fixture->engine_options.io = fixture->io;
    fs_fixture_open(fixture);
    fs_fixture_assert_text(fixture, file, "content");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FS_FIXTURE_TEST(orphans_of_a_crash_are_removed_at_the_next_open),
        FS_FIXTURE_TEST(orphans_are_removed_by_a_close),
        FS_FIXTURE_TEST(a_read_only_store_refuses_every_change),
        FS_FIXTURE_TEST(changes_are_refused_and_taken_again),
        FS_FIXTURE_TEST(what_was_unlinked_goes_when_changes_are_taken_again),
        FS_FIXTURE_TEST(space_is_not_missing_while_it_is_asked_for),
        FS_FIXTURE_TEST(a_full_disk_refuses_what_is_new_and_lets_go),
        FS_FIXTURE_TEST(r10_after_a_failed_sync_files_are_read_but_not_changed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
