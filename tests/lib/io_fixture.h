/* SPDX-License-Identifier: Apache-2.0 */
/*
 * io_fixture.h - a temporary directory seen through one of the real I/O backends
 */
#ifndef VARVE_TESTS_LIB_IO_FIXTURE_H
#define VARVE_TESTS_LIB_IO_FIXTURE_H

#include <dirent.h>
#include <stdlib.h>

#include "engine/base/io.h"
#include "tests/lib/test_directory.h"

struct io_fixture {
    struct io *io;
    struct io_file *root;
    char *path;
};

/* 0, or -1 with nothing left behind. */
static inline int io_fixture_open(struct io_fixture *fixture, enum io_backend backend)
{
    fixture->path = test_directory_make();
    if (io_open_backend(backend, &fixture->io) == 0) {
        if (io_open_root(fixture->io, fixture->path, &fixture->root) == 0)
            return 0;
        io_close_backend(fixture->io);
    }
    test_directory_remove(fixture->path);
    return -1;
}

static inline void io_fixture_close(struct io_fixture *fixture)
{
    io_close(fixture->io, fixture->root);
    io_close_backend(fixture->io);
    test_directory_remove(fixture->path);
}

/* Descriptors that this process has open. */
static inline int io_fixture_count_descriptors(void)
{
    DIR *stream = opendir("/proc/self/fd");
    int count = 0;

    if (stream == NULL)
        return -1;
    while (readdir(stream) != NULL)
        count++;
    closedir(stream);
    return count;
}

/* For cmocka: *state is the backend's number before, a fixture afterwards. */
static inline int io_fixture_setup(void **state)
{
    enum io_backend backend = *(const enum io_backend *)*state;
    struct io_fixture *fixture = malloc(sizeof *fixture);

    if (fixture == NULL)
        return -1;
    *state = fixture;
    return io_fixture_open(fixture, backend);
}

static inline int io_fixture_teardown(void **state)
{
    io_fixture_close(*state);
    free(*state);
    return 0;
}

/* A new file of the directory, to read and write; `flags` besides. */
static inline struct io_file *io_fixture_create(struct io_fixture *fixture, const char *name,
                                                int flags)
{
    struct io_file *file;

    assert_int_equal(io_open(fixture->io, fixture->root, name,
                             IO_OPEN_WRITE | IO_OPEN_CREATE | flags, 0600, &file),
                     0);
    return file;
}

#endif
