/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_fs_attribute.c - tests of fuse/fs.h: owners, modes, times, flags and projects
 */
#include <fcntl.h>
#include <linux/fs.h>
#include <unistd.h>

#include "tests/lib/fs_fixture.h"

static struct fs_attribute change(struct fs_fixture *fixture, uint64_t node,
                                  struct fs_setattr setattr, const struct fs_caller *caller)
{
    struct fs_attribute again;
    struct fs_entry entry;

    assert_int_equal(fs_setattr(fixture->fs, node, &setattr, caller, &entry), 0);
    again = fs_fixture_attribute(fixture, node);
    assert_true(fs_fixture_is_same(entry.attribute.ctime, again.ctime));
    assert_int_equal(entry.attribute.mode, again.mode);
    return entry.attribute;
}

static void times_are_set_to_the_nanosecond(void **state)
{
    struct fs_fixture *fixture = *state;
    uint64_t file = fs_fixture_file(fixture, FS_ROOT, "f");
    struct fs_setattr setattr = {
        .mask = FS_SETATTR_ATIME | FS_SETATTR_MTIME,
        .atime = {-5, 999999999},
        .mtime = {INT64_C(1) << 33, 1},
    };
    struct fs_attribute before = fs_fixture_attribute(fixture, file);
    struct fs_attribute after = change(fixture, file, setattr, &fs_fixture_root);
    struct fs_entry entry;

    assert_true(fs_fixture_is_same(after.atime, setattr.atime));
    assert_true(fs_fixture_is_same(after.mtime, setattr.mtime));
    assert_true(fs_fixture_is_later(after.ctime, before.ctime));
    after = change(fixture, file,
                   (struct fs_setattr){.mask = FS_SETATTR_ATIME_NOW | FS_SETATTR_MTIME_NOW},
                   &fs_fixture_root);
    assert_true(fs_fixture_is_same(after.atime, after.ctime));
    assert_true(fs_fixture_is_same(after.mtime, after.ctime));
    after = change(fixture, file, (struct fs_setattr){.mask = FS_SETATTR_CTIME, .ctime = {3, 4}},
                   &fs_fixture_root);
    assert_true(fs_fixture_is_same(after.ctime, (struct timespec){3, 4}));
    setattr.atime.tv_nsec = 1000000000;
    assert_int_equal(fs_setattr(fixture->fs, file, &setattr, &fs_fixture_root, &entry), -EINVAL);
}

static void a_new_owner_loses_the_old_ones_privileges(void **state)
{
    struct fs_fixture *fixture = *state;
    uint64_t file = fs_fixture_make(fixture, FS_ROOT, "f", S_IFREG | 06755).node;
    uint64_t plain = fs_fixture_make(fixture, FS_ROOT, "p", S_IFREG | 02744).node;
    uint64_t directory = fs_fixture_make(fixture, FS_ROOT, "d", S_IFDIR | 06755).node;
    struct fs_setattr owner = {.mask = FS_SETATTR_UID, .uid = 5};
    char value[8];

    assert_int_equal(
        fs_setxattr(fixture->fs, file, "security.capability", "c", 1, 0, &fs_fixture_root), 0);
    assert_int_equal(change(fixture, file, owner, &fs_fixture_root).mode, S_IFREG | 0755);
    assert_int_equal(fs_getxattr(fixture->fs, file, "security.capability", value, 8), -ENODATA);
    /* Without group execution the bit is not a privilege of the group's. */
    assert_int_equal(change(fixture, plain, owner, &fs_fixture_root).mode, S_IFREG | 02744);
    assert_int_equal(change(fixture, plain, owner, &fs_fixture_user).mode, S_IFREG | 0744);
    assert_int_equal(change(fixture, directory, owner, &fs_fixture_root).mode, S_IFDIR | 06755);
    /* A mode given along stands. */
    owner.mask |= FS_SETATTR_MODE;
    owner.mode = 04755;
    assert_int_equal(change(fixture, file, owner, &fs_fixture_root).mode, S_IFREG | 04755);
    assert_int_equal(
        change(fixture, file,
               (struct fs_setattr){.mask = FS_SETATTR_SIZE | FS_SETATTR_KILL_PRIVILEGES},
               &fs_fixture_user)
            .mode,
        S_IFREG | 0755);
}

static void truncation_cuts_and_extends(void **state)
{
    struct fs_fixture *fixture = *state;
    uint64_t file = fs_fixture_file(fixture, FS_ROOT, "f");
    struct fs_setattr size = {.mask = FS_SETATTR_SIZE};
    struct fs_attribute before, after;
    struct fs_entry entry;
    char data[8];

    fs_fixture_write(fixture, file, "0123456789");
    before = fs_fixture_attribute(fixture, file);
    size.size_bytes = 4;
    after = change(fixture, file, size, &fs_fixture_root);
    assert_int_equal(after.size_bytes, 4);
    assert_true(fs_fixture_is_later(after.mtime, before.mtime));
    fs_fixture_assert_text(fixture, file, "0123");
    size.size_bytes = 8;
    assert_int_equal(change(fixture, file, size, &fs_fixture_root).size_bytes, 8);
    assert_int_equal(fs_read(fixture->fs, file, 0, data, 8, 0), 8);
    assert_memory_equal(data, "0123\0\0\0\0", 8);
    size.size_bytes = 0;
    assert_int_equal(change(fixture, file, size, &fs_fixture_root).blocks_512, 0);
    size.size_bytes = FS_SIZE_MAX + 1;
    assert_int_equal(fs_setattr(fixture->fs, file, &size, &fs_fixture_root, &entry), -EFBIG);
    size.size_bytes = 0;
    assert_int_equal(fs_setattr(fixture->fs, FS_ROOT, &size, &fs_fixture_root, &entry), -EISDIR);
}

static void immutable_and_append_only_are_honoured(void **state)
{
    struct fs_fixture *fixture = *state;
    uint64_t file = fs_fixture_file(fixture, FS_ROOT, "f");
    uint64_t directory = fs_fixture_directory(fixture, FS_ROOT, "d");
    struct fs_setattr mode = {.mask = FS_SETATTR_MODE, .mode = 0600};
    struct fs_entry entry;

    fs_fixture_file(fixture, directory, "old");
    assert_int_equal(fs_set_flags(fixture->fs, file, FS_IMMUTABLE_FL, NULL, &fs_fixture_user),
                     -EPERM);
    assert_int_equal(fs_set_flags(fixture->fs, file, FS_COMPR_FL, NULL, &fs_fixture_root),
                     -EOPNOTSUPP);
    assert_int_equal(fs_set_flags(fixture->fs, file, FS_IMMUTABLE_FL, NULL, &fs_fixture_root), 0);
    assert_int_equal(fs_fixture_attribute(fixture, file).flags, FS_IMMUTABLE_FL);
    assert_int_equal(fs_setattr(fixture->fs, file, &mode, &fs_fixture_root, &entry), -EPERM);
    assert_int_equal(fs_unlink(fixture->fs, FS_ROOT, "f", NULL), -EPERM);
    assert_int_equal(fs_link(fixture->fs, file, FS_ROOT, "g", &fs_fixture_root, &entry), -EPERM);
    assert_int_equal(fs_rename(fixture->fs, FS_ROOT, "f", FS_ROOT, "g", 0, NULL), -EPERM);
    assert_int_equal(fs_setxattr(fixture->fs, file, "user.a", "b", 1, 0, &fs_fixture_root), -EPERM);

    assert_int_equal(fs_set_flags(fixture->fs, directory, FS_APPEND_FL, NULL, &fs_fixture_root), 0);
    fs_fixture_file(fixture, directory, "new");
    assert_int_equal(fs_unlink(fixture->fs, directory, "old", NULL), -EPERM);
    assert_int_equal(fs_rename(fixture->fs, directory, "old", FS_ROOT, "x", 0, NULL), -EPERM);
    assert_int_equal(fs_set_flags(fixture->fs, directory, FS_IMMUTABLE_FL, NULL, &fs_fixture_root),
                     0);
    assert_int_equal(
        fs_mknod(fixture->fs, directory, "x", S_IFREG | 0644, 0, &fs_fixture_root, &entry), -EPERM);
    assert_int_equal(fs_set_flags(fixture->fs, directory, 0, NULL, &fs_fixture_root), 0);
    assert_int_equal(fs_unlink(fixture->fs, directory, "old", NULL), 0);
}

static void projects_are_kept_handed_on_and_guarded(void **state)
{
    struct fs_fixture *fixture = *state;
    uint64_t directory = fs_fixture_directory(fixture, FS_ROOT, "d");
    uint64_t file = fs_fixture_file(fixture, FS_ROOT, "f"), below;
    uint32_t project = 7, other = 8;
    struct fs_entry entry;

    assert_int_equal(fs_fixture_attribute(fixture, file).project, 0);
    assert_int_equal(fs_set_flags(fixture->fs, directory, 0, &project, &fs_fixture_user), -EPERM);
    assert_int_equal(fs_set_flags(fixture->fs, file, FS_PROJINHERIT_FL, NULL, &fs_fixture_root),
                     -EOPNOTSUPP);
    assert_int_equal(fs_set_flags(fixture->fs, directory, 0, &project, &fs_fixture_root), 0);
    below = fs_fixture_file(fixture, directory, "not handed on");
    assert_int_equal(fs_fixture_attribute(fixture, below).project, 0);
    assert_int_equal(
        fs_set_flags(fixture->fs, directory, FS_PROJINHERIT_FL, NULL, &fs_fixture_root), 0);
    assert_int_equal(fs_fixture_attribute(fixture, directory).project, 7);
    below = fs_fixture_file(fixture, directory, "file");
    assert_int_equal(fs_fixture_attribute(fixture, below).project, 7);
    assert_int_equal(fs_fixture_attribute(fixture, below).flags, 0);
    below = fs_fixture_directory(fixture, directory, "directory");
    assert_int_equal(fs_fixture_attribute(fixture, below).project, 7);
    assert_int_equal(fs_fixture_attribute(fixture, below).flags, FS_PROJINHERIT_FL);

    assert_int_equal(fs_link(fixture->fs, file, directory, "g", &fs_fixture_root, &entry), -EXDEV);
    assert_int_equal(fs_rename(fixture->fs, FS_ROOT, "f", directory, "g", 0, &fs_fixture_root),
                     -EXDEV);
    assert_int_equal(
        fs_rename(fixture->fs, directory, "file", FS_ROOT, "f", RENAME_EXCHANGE, &fs_fixture_root),
        -EXDEV);
    assert_int_equal(fs_set_flags(fixture->fs, file, 0, &project, &fs_fixture_root), 0);
    assert_int_equal(fs_link(fixture->fs, file, directory, "g", &fs_fixture_root, &entry), 0);
    assert_int_equal(
        fs_rename(fixture->fs, directory, "file", FS_ROOT, "f", RENAME_EXCHANGE, &fs_fixture_root),
        0);

    assert_int_equal(fs_set_flags(fixture->fs, file, FS_IMMUTABLE_FL, NULL, &fs_fixture_root), 0);
    assert_int_equal(fs_set_flags(fixture->fs, file, FS_IMMUTABLE_FL, &other, &fs_fixture_root),
                     -EPERM);
    assert_int_equal(fs_set_flags(fixture->fs, file, 0, &other, &fs_fixture_root), 0);
    assert_int_equal(fs_fixture_attribute(fixture, file).project, 8);
}

static void immutable_and_append_only_files_are_not_opened_for_more_than_they_allow(void **state)
{
    struct fs_fixture *fixture = *state;
    uint64_t file = fs_fixture_file(fixture, FS_ROOT, "f");

    assert_int_equal(fs_check_open(fixture->fs, file, O_RDWR | O_TRUNC), 0);
    assert_int_equal(fs_set_flags(fixture->fs, file, FS_IMMUTABLE_FL, NULL, &fs_fixture_root), 0);
    assert_int_equal(fs_check_open(fixture->fs, file, O_RDONLY), 0);
    assert_int_equal(fs_check_open(fixture->fs, file, O_WRONLY), -EPERM);
    assert_int_equal(fs_check_open(fixture->fs, file, O_RDWR | O_APPEND), -EPERM);
    assert_int_equal(fs_set_flags(fixture->fs, file, FS_APPEND_FL, NULL, &fs_fixture_root), 0);
    assert_int_equal(fs_check_open(fixture->fs, file, O_RDONLY), 0);
    assert_int_equal(fs_check_open(fixture->fs, file, O_RDWR), -EPERM);
    assert_int_equal(fs_check_open(fixture->fs, file, O_WRONLY | O_APPEND), 0);
    assert_int_equal(fs_check_open(fixture->fs, file, O_WRONLY | O_APPEND | O_TRUNC), -EPERM);
}

static void an_append_only_file_may_be_touched_but_not_dated(void **state)
{
    const unsigned given = FS_SETATTR_ATIME | FS_SETATTR_MTIME;
    struct fs_setattr times = {.mask = given | FS_SETATTR_ATIME_NOW | FS_SETATTR_MTIME_NOW};
    struct fs_fixture *fixture = *state;
    uint64_t file = fs_fixture_file(fixture, FS_ROOT, "f");
    struct fs_entry entry;

    assert_int_equal(fs_set_flags(fixture->fs, file, FS_APPEND_FL, NULL, &fs_fixture_root), 0);
    assert_int_equal(fs_setattr(fixture->fs, file, &times, &fs_fixture_root, &entry), 0);
    times.mask = given | FS_SETATTR_ATIME_NOW;
    assert_int_equal(fs_setattr(fixture->fs, file, &times, &fs_fixture_root, &entry), -EPERM);
    times.mask = given;
    assert_int_equal(fs_setattr(fixture->fs, file, &times, &fs_fixture_root, &entry), -EPERM);
    assert_int_equal(fs_set_flags(fixture->fs, file, FS_IMMUTABLE_FL, NULL, &fs_fixture_root), 0);
    times.mask = given | FS_SETATTR_ATIME_NOW | FS_SETATTR_MTIME_NOW;
    assert_int_equal(fs_setattr(fixture->fs, file, &times, &fs_fixture_root, &entry), -EPERM);
}

static void new_files_inherit_the_flags_that_are_passed_on(void **state)
{
    struct fs_fixture *fixture = *state;
    uint64_t directory = fs_fixture_directory(fixture, FS_ROOT, "d");
    uint32_t flags = FS_NODUMP_FL | FS_NOATIME_FL | FS_DIRSYNC_FL | FS_APPEND_FL;

    assert_int_equal(fs_set_flags(fixture->fs, directory, flags, NULL, &fs_fixture_root), 0);
    assert_int_equal(fs_fixture_make(fixture, directory, "f", S_IFREG | 0644).flags,
                     FS_NODUMP_FL | FS_NOATIME_FL);
    assert_int_equal(fs_fixture_make(fixture, directory, "s", S_IFDIR | 0755).flags,
                     FS_NODUMP_FL | FS_NOATIME_FL | FS_DIRSYNC_FL);
}

static void statfs_tells_of_the_disk_below(void **state)
{
    struct fs_fixture *fixture = *state;
    struct statvfs space;

    assert_int_equal(fs_statfs(fixture->fs, &space), 0);
    assert_true(space.f_blocks > 0 && space.f_bfree <= space.f_blocks);
    assert_true(space.f_bavail <= space.f_bfree);
    assert_int_equal(space.f_namemax, FS_NAME_SIZE_MAX);
    assert_int_equal(space.f_flag & ST_RDONLY, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FS_FIXTURE_TEST(times_are_set_to_the_nanosecond),
        FS_FIXTURE_TEST(a_new_owner_loses_the_old_ones_privileges),
        FS_FIXTURE_TEST(truncation_cuts_and_extends),
        FS_FIXTURE_TEST(immutable_and_append_only_are_honoured),
        FS_FIXTURE_TEST(projects_are_kept_handed_on_and_guarded),
        FS_FIXTURE_TEST(immutable_and_append_only_files_are_not_opened_for_more_than_they_allow),
        FS_FIXTURE_TEST(an_append_only_file_may_be_touched_but_not_dated),
        FS_FIXTURE_TEST(new_files_inherit_the_flags_that_are_passed_on),
        FS_FIXTURE_TEST(statfs_tells_of_the_disk_below),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
