/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_io_names.c - tests of engine/base/io.h: opening, and what names may and may not do
 *
 * Every test runs on each backend, and on one in a kernel without openat2.
 */
#include "engine/base/io.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/lib/forbid_call.h"
#include "tests/lib/io_fixture.h"

static int try_open(struct io_fixture *fixture, const char *name, int flags)
{
    struct io_file *const untouched = (struct io_file *)fixture;
    struct io_file *file = untouched;
    int error = io_open(fixture->io, fixture->root, name, flags, 0600, &file);

    if (error == 0)
        io_close(fixture->io, file);
    else
        assert_ptr_equal(file, untouched);
    return error;
}

static void create_is_exclusive(void **state)
{
    struct io_fixture *fixture = *state;

    io_close(fixture->io, io_fixture_create(fixture, "file", 0));
    assert_int_equal(try_open(fixture, "file", IO_OPEN_WRITE | IO_OPEN_CREATE), -EEXIST);
    assert_int_equal(try_open(fixture, "file", IO_OPEN_WRITE | IO_OPEN_CREATE | IO_OPEN_DIRECT),
                     -EEXIST);
    assert_int_equal(try_open(fixture, "file", IO_OPEN_WRITE), 0);
    assert_int_equal(try_open(fixture, "missing", IO_OPEN_WRITE), -ENOENT);
}

static void make_link(struct io_fixture *fixture, const char *target, const char *name)
{
    char *path = test_path(fixture->path, name);

    assert_int_equal(symlink(target, path), 0);
    free(path);
}

static void r43_symlink_in_place_of_a_file_is_refused(void **state)
{
    struct io_fixture *fixture = *state;

    io_close(fixture->io, io_fixture_create(fixture, "file", 0));
    make_link(fixture, "file", "link");
    make_link(fixture, "missing", "dangling");
    assert_int_equal(try_open(fixture, "link", IO_OPEN_READ), -ELOOP);
    assert_int_equal(try_open(fixture, "link", IO_OPEN_WRITE), -ELOOP);
    assert_int_equal(try_open(fixture, "link", IO_OPEN_WRITE | IO_OPEN_DIRECT), -ELOOP);
    assert_int_equal(try_open(fixture, "dangling", IO_OPEN_READ), -ELOOP);
    /* Nothing is created where it points. */
    assert_true(try_open(fixture, "dangling", IO_OPEN_WRITE | IO_OPEN_CREATE) < 0);
    assert_int_equal(try_open(fixture, "missing", IO_OPEN_READ), -ENOENT);
}

static void r43_symlink_in_place_of_a_directory_is_refused(void **state)
{
    struct io_fixture *fixture = *state;

    assert_int_equal(io_mkdir(fixture->io, fixture->root, "chunks", 0700), 0);
    io_close(fixture->io, io_fixture_create(fixture, "chunks/file", 0));
    make_link(fixture, "chunks", "link");
    assert_int_equal(try_open(fixture, "chunks/file", IO_OPEN_READ), 0);
    assert_int_equal(try_open(fixture, "link/file", IO_OPEN_READ), -ELOOP);
    assert_int_equal(try_open(fixture, "link/new", IO_OPEN_WRITE | IO_OPEN_CREATE), -ELOOP);
    assert_int_equal(try_open(fixture, "link", IO_OPEN_DIRECTORY), -ELOOP);
    assert_int_equal(try_open(fixture, "chunks", IO_OPEN_DIRECTORY), 0);
}

static void r43_names_do_not_lead_out_of_their_directory(void **state)
{
    struct io_fixture *fixture = *state;

    make_link(fixture, "/etc/passwd", "absolute");
    assert_int_equal(try_open(fixture, "absolute", IO_OPEN_READ), -ELOOP);
    assert_int_equal(try_open(fixture, "/etc/passwd", IO_OPEN_READ), -EXDEV);
    assert_int_equal(try_open(fixture, "..", IO_OPEN_DIRECTORY), -EXDEV);
    assert_int_equal(try_open(fixture, "../../etc/passwd", IO_OPEN_READ), -EXDEV);
}

static void r43_stat_and_link_do_not_follow_symlinks(void **state)
{
    struct io_fixture *fixture = *state;
    struct stat status;

    make_link(fixture, "missing", "link");
    assert_int_equal(io_stat_at(fixture->io, fixture->root, "link", &status), 0);
    assert_true(S_ISLNK(status.st_mode));
    assert_int_equal(io_link(fixture->io, fixture->root, "link", fixture->root, "second"), 0);
    assert_int_equal(io_stat_at(fixture->io, fixture->root, "second", &status), 0);
    assert_true(S_ISLNK(status.st_mode));
}

static void root_may_be_reached_through_symlinks(void **state)
{
    struct io_fixture *fixture = *state;
    struct io_file *directory;
    char *path = test_path(fixture->path, "link");

    assert_int_equal(io_mkdir(fixture->io, fixture->root, "real", 0700), 0);
    make_link(fixture, "real", "link");
    assert_int_equal(io_open_root(fixture->io, path, &directory), 0);
    io_close(fixture->io, directory);
    free(path);
    assert_int_equal(io_open_root(fixture->io, "/nonexistent-varve", &directory), -ENOENT);
    assert_int_equal(io_open_root(fixture->io, "/etc/passwd", &directory), -ENOTDIR);
}

static void what_is_not_a_regular_file_is_refused_without_waiting(void **state)
{
    struct io_fixture *fixture = *state;
    char *path = test_path(fixture->path, "fifo");

    assert_int_equal(mkfifo(path, 0600), 0);
    free(path);
    assert_int_equal(try_open(fixture, "fifo", IO_OPEN_READ), -EINVAL);
    assert_int_equal(try_open(fixture, "fifo", IO_OPEN_WRITE), -EINVAL);
    assert_int_equal(io_mkdir(fixture->io, fixture->root, "directory", 0700), 0);
    assert_int_equal(try_open(fixture, "directory", IO_OPEN_READ), -EISDIR);
    assert_int_equal(try_open(fixture, "directory", IO_OPEN_WRITE), -EISDIR);
    io_close(fixture->io, io_fixture_create(fixture, "file", 0));
    assert_int_equal(try_open(fixture, "file", IO_OPEN_DIRECTORY), -ENOTDIR);
    assert_int_equal(try_open(fixture, "file/more", IO_OPEN_READ), -ENOTDIR);
}

static void failed_opens_leak_no_descriptor(void **state)
{
    struct io_fixture *fixture = *state;
    int before = io_fixture_count_descriptors();

    assert_int_equal(io_mkdir(fixture->io, fixture->root, "directory", 0700), 0);
    for (int i = 0; i < 10; i++) {
        assert_true(try_open(fixture, "directory", IO_OPEN_READ) < 0);
        assert_true(try_open(fixture, "missing", IO_OPEN_READ) < 0);
        assert_true(try_open(fixture, "..", IO_OPEN_READ) < 0);
    }
    assert_int_equal(io_fixture_count_descriptors(), before);
}

static void names_are_single_components_but_for_open(void **state)
{
    static const char *const bad[] = {"", ".", "..", "a/b", "/a", "a/"};
    struct io_fixture *fixture = *state;
    struct io *io = fixture->io;
    struct io_file *root = fixture->root;
    struct stat status;

    io_close(io, io_fixture_create(fixture, "file", 0));
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(io_stat_at(io, root, bad[i], &status), -EINVAL);
        assert_int_equal(io_mkdir(io, root, bad[i], 0700), -EINVAL);
        assert_int_equal(io_unlink(io, root, bad[i]), -EINVAL);
        assert_int_equal(io_rmdir(io, root, bad[i]), -EINVAL);
        assert_int_equal(io_rename(io, root, "file", root, bad[i]), -EINVAL);
        assert_int_equal(io_rename(io, root, bad[i], root, "file"), -EINVAL);
        assert_int_equal(io_link(io, root, "file", root, bad[i]), -EINVAL);
        assert_int_equal(io_link(io, root, bad[i], root, "other"), -EINVAL);
    }
}

static void rename_link_and_unlink_do_as_the_system_calls(void **state)
{
    struct io_fixture *fixture = *state;
    struct io *io = fixture->io;
    struct io_file *root = fixture->root, *file = io_fixture_create(fixture, "a", 0), *directory;
    struct stat status;

    assert_int_equal(io_mkdir(io, root, "d", 0700), 0);
    assert_int_equal(io_mkdir(io, root, "d", 0700), -EEXIST);
    assert_int_equal(io_open(io, root, "d", IO_OPEN_DIRECTORY, 0, &directory), 0);
    assert_int_equal(io_link(io, root, "a", directory, "b"), 0);
    assert_int_equal(io_link(io, root, "a", directory, "b"), -EEXIST);
    assert_int_equal(io_stat(io, file, &status), 0);
    assert_int_equal(status.st_nlink, 2);
    assert_int_equal(io_rename(io, root, "a", directory, "c"), 0);
    assert_int_equal(io_rename(io, root, "a", directory, "c"), -ENOENT);
    assert_int_equal(io_rmdir(io, root, "d"), -ENOTEMPTY);
    assert_int_equal(io_unlink(io, root, "d"), -EISDIR);
    assert_int_equal(io_rmdir(io, directory, "c"), -ENOTDIR);
    assert_int_equal(io_unlink(io, directory, "b"), 0);
    assert_int_equal(io_unlink(io, directory, "b"), -ENOENT);
    assert_int_equal(io_unlink(io, directory, "c"), 0);
    assert_int_equal(io_rmdir(io, root, "d"), 0);
    assert_int_equal(io_stat_at(io, root, "d", &status), -ENOENT);
    io_close(io, directory);
    io_close(io, file);
}

static void openat2_is_missing(void **state)
{
    (void)state;
    errno = 0;
    assert_int_equal(syscall(SYS_openat2, -1, NULL, NULL, 0), -1);
    assert_int_equal(errno, ENOSYS);
}

#define ON(test, backend)                                                                          \
    {                                                                                              \
#test " (" #backend ")", test, io_fixture_setup, io_fixture_teardown, &backend             \
    }
#define ON_EACH(backend)                                                                           \
    ON(create_is_exclusive, backend), ON(r43_symlink_in_place_of_a_file_is_refused, backend),      \
        ON(r43_symlink_in_place_of_a_directory_is_refused, backend),                               \
        ON(r43_names_do_not_lead_out_of_their_directory, backend),                                 \
        ON(r43_stat_and_link_do_not_follow_symlinks, backend),                                     \
        ON(root_may_be_reached_through_symlinks, backend),                                         \
        ON(what_is_not_a_regular_file_is_refused_without_waiting, backend),                        \
        ON(failed_opens_leak_no_descriptor, backend),                                              \
        ON(names_are_single_components_but_for_open, backend),                                     \
        ON(rename_link_and_unlink_do_as_the_system_calls, backend)

int main(void)
{
    static enum io_backend uring = IO_BACKEND_URING, sync = IO_BACKEND_SYNC;
    static enum io_backend without_openat2 = IO_BACKEND_SYNC;
    const struct CMUnitTest tests[] = {ON_EACH(uring), ON_EACH(sync)};
    const struct CMUnitTest tests_without_openat2[] = {
        cmocka_unit_test(openat2_is_missing),
        ON_EACH(without_openat2),
    };
    int failures = cmocka_run_group_tests(tests, NULL, NULL);

    if (forbid_call(SYS_openat2, ENOSYS) == 0)
        failures += cmocka_run_group_tests(tests_without_openat2, NULL, NULL);
    else
        fprintf(stderr, "no system call filters here: the way without openat2 is not tested\n");
    return failures;
}
