/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fs_fixture.h - a filesystem on a real engine in a temporary directory, and short ways to use it
 *
 * fs_fixture_teardown() checks the structure of what a test leaves behind as fsck does, so every
 * test is also one of consistency.
 */
#ifndef VARVE_TESTS_LIB_FS_FIXTURE_H
#define VARVE_TESTS_LIB_FS_FIXTURE_H

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "engine/engine.h"
#include "fuse/fs.h"
#include "tests/lib/test_directory.h"

struct fs_fixture {
    char *directory, *path;
    struct io *io;
    struct engine_options engine_options;
    struct fs_options options;
    struct engine *engine;
    struct fs *fs;
};

static const struct fs_caller fs_fixture_root = {.uid = 0, .gid = 0};
static const struct fs_caller fs_fixture_user = {.uid = 1000, .gid = 1000, .umask = 022};

static inline void fs_fixture_open(struct fs_fixture *fixture)
{
    assert_int_equal(engine_open(&fixture->engine_options, &fixture->engine), 0);
    assert_int_equal(fs_open(fixture->engine, &fixture->options, &fixture->fs), 0);
}

static inline void fs_fixture_close(struct fs_fixture *fixture)
{
    fs_close(fixture->fs);
    assert_int_equal(engine_close(fixture->engine), 0);
    fixture->fs = NULL;
    fixture->engine = NULL;
}

static inline void fs_fixture_reopen(struct fs_fixture *fixture)
{
    fs_fixture_close(fixture);
    fs_fixture_open(fixture);
}

static inline int fs_fixture_setup(void **state)
{
    struct fs_fixture *fixture = calloc(1, sizeof *fixture);
    struct store_format format = {.chunk_size_bytes = 4 << 20, .compression_level = 1};

    fixture->directory = test_directory_make();
    fixture->path = test_path(fixture->directory, "store");
    assert_int_equal(io_open_backend(IO_BACKEND_SYNC, &fixture->io), 0);
    assert_int_equal(store_create(fixture->io, fixture->path, &format), 0);
    engine_options_default(&fixture->engine_options);
    fixture->engine_options.path = fixture->path;
    fixture->engine_options.io = fixture->io;
    fixture->engine_options.memtable_bytes = 1 << 20;
    fs_options_default(&fixture->options);
    fixture->options.owner_uid = 0;
    fs_fixture_open(fixture);
    *state = fixture;
    return 0;
}

static inline void fs_fixture_report(void *context, const char *line)
{
    (void)context;
    fprintf(stderr, "fsck: %s\n", line);
}

static inline void fs_fixture_check(struct fs_fixture *fixture)
{
    struct engine_view *view = engine_view_acquire(fixture->engine);
    uint64_t findings = 0;

    assert_non_null(view);
    assert_int_equal(fs_check(view, true, fs_fixture_report, NULL, &findings), 0);
    assert_int_equal(findings, 0);
    engine_view_release(view);
}

static inline int fs_fixture_teardown(void **state)
{
    struct fs_fixture *fixture = *state;

    if (fixture->fs != NULL) {
        fs_fixture_check(fixture);
        fs_fixture_close(fixture);
    }
    io_close_backend(fixture->io);
    test_directory_remove(fixture->directory);
    free(fixture->path);
    free(fixture);
    return 0;
}

#define FS_FIXTURE_TEST(name)                                                                      \
    cmocka_unit_test_setup_teardown(name, fs_fixture_setup, fs_fixture_teardown)

/* ---- short ways: each asserts success and returns the node, whose lookup the test never gives
 * back unless it wants to ---- */

static inline struct fs_attribute fs_fixture_make(struct fs_fixture *fixture, uint64_t parent,
                                                  const char *name, mode_t mode)
{
    struct fs_entry entry;
    int error;

    if (S_ISDIR(mode))
        error = fs_mkdir(fixture->fs, parent, name, mode, &fs_fixture_root, &entry);
    else
        error = fs_mknod(fixture->fs, parent, name, mode, 0, &fs_fixture_root, &entry);
    assert_int_equal(error, 0);
    return entry.attribute;
}

static inline uint64_t fs_fixture_file(struct fs_fixture *fixture, uint64_t parent,
                                       const char *name)
{
    return fs_fixture_make(fixture, parent, name, S_IFREG | 0644).node;
}

static inline uint64_t fs_fixture_directory(struct fs_fixture *fixture, uint64_t parent,
                                            const char *name)
{
    return fs_fixture_make(fixture, parent, name, S_IFDIR | 0755).node;
}

static inline struct fs_attribute fs_fixture_attribute(struct fs_fixture *fixture, uint64_t node)
{
    struct fs_entry entry;

    assert_int_equal(fs_getattr(fixture->fs, node, &entry), 0);
    assert_int_equal(entry.attribute.node, node);
    return entry.attribute;
}

/* A lookup that is given back at once: 0 or the error. */
static inline int fs_fixture_find(struct fs_fixture *fixture, uint64_t parent, const char *name,
                                  struct fs_entry *ret_entry)
{
    int error = fs_lookup(fixture->fs, parent, name, ret_entry);

    if (error == 0)
        fs_forget(fixture->fs, ret_entry->attribute.node, 1);
    return error;
}

static inline int fs_fixture_exists(struct fs_fixture *fixture, uint64_t parent, const char *name)
{
    struct fs_entry entry;

    return fs_fixture_find(fixture, parent, name, &entry);
}

/* A lookup that is kept: the node. */
static inline uint64_t fs_fixture_hold(struct fs_fixture *fixture, uint64_t parent,
                                       const char *name)
{
    struct fs_entry entry;

    assert_int_equal(fs_lookup(fixture->fs, parent, name, &entry), 0);
    return entry.attribute.node;
}

static inline void fs_fixture_write(struct fs_fixture *fixture, uint64_t node, const char *text)
{
    assert_int_equal(fs_write(fixture->fs, node, text, strlen(text), 0, false, false),
                     (int64_t)strlen(text));
}

/* The whole of a small file as text. */
static inline void fs_fixture_assert_text(struct fs_fixture *fixture, uint64_t node,
                                          const char *text)
{
    char data[4096];
    int64_t size = fs_read(fixture->fs, node, 0, data, sizeof data - 1, 0);

    assert_true(size >= 0);
    data[size] = '\0';
    assert_string_equal(data, text);
}

/* How many records an inode has left: what was reaped must leave none. */
static inline size_t fs_fixture_records_of(struct fs_fixture *fixture, uint64_t ino)
{
    struct engine_view *view = engine_view_acquire(fixture->engine);
    struct engine_iterator *iterator;
    uint8_t start[8], end[8];
    size_t count = 0;
    int found;

    for (int i = 0; i < 8; i++) {
        start[i] = (uint8_t)(ino >> (56 - 8 * i));
        end[i] = (uint8_t)((ino + 1) >> (56 - 8 * i));
    }
    assert_int_equal(engine_iterator_new(view, slice_of(end, 8), &iterator), 0);
    for (found = engine_iterator_seek(iterator, slice_of(start, 8)); found > 0;
         found = engine_iterator_next(iterator))
        count++;
    assert_int_equal(found, 0);
    engine_iterator_free(iterator);
    engine_view_release(view);
    return count;
}

/* Of two times: is `a` after `b`; are they the same? */
static inline bool fs_fixture_is_later(struct timespec a, struct timespec b)
{
    return a.tv_sec > b.tv_sec || (a.tv_sec == b.tv_sec && a.tv_nsec > b.tv_nsec);
}

static inline bool fs_fixture_is_same(struct timespec a, struct timespec b)
{
    return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

#endif
