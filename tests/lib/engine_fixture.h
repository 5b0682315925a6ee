/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine_fixture.h - a small store in a directory of its own, opened with small bounds
 *
 * Small memtables, segments and tables make flushes, rolls and compactions happen within a test.
 */
#ifndef VARVE_TESTS_LIB_ENGINE_FIXTURE_H
#define VARVE_TESTS_LIB_ENGINE_FIXTURE_H

#include <stdlib.h>
#include <string.h>

#include "engine/base/endian.h"
#include "engine/engine.h"
#include "tests/lib/test_directory.h"

struct engine_fixture {
    char *directory;
    char *path;
    struct io *io;
    struct engine_options options;
    struct engine *engine;
};

static inline void engine_fixture_open(struct engine_fixture *fixture)
{
    assert_int_equal(engine_open(&fixture->options, &fixture->engine), 0);
}

static inline void engine_fixture_close(struct engine_fixture *fixture)
{
    assert_int_equal(engine_close(fixture->engine), 0);
    fixture->engine = NULL;
}

static inline int engine_fixture_setup(void **state)
{
    struct engine_fixture *fixture = calloc(1, sizeof *fixture);
    struct store_format format = {.chunk_size_bytes = 4 << 20, .compression_level = 1};

    fixture->directory = test_directory_make();
    fixture->path = test_path(fixture->directory, "store");
    assert_int_equal(io_open_backend(IO_BACKEND_URING, &fixture->io), 0);
    assert_int_equal(store_create(fixture->io, fixture->path, &format), 0);
    engine_options_default(&fixture->options);
    fixture->options.path = fixture->path;
    fixture->options.io = fixture->io;
    fixture->options.memtable_bytes = 256 * 1024;
    fixture->options.wal_segment_bytes = 1024 * 1024;
    fixture->options.table_bytes = 128 * 1024;
    fixture->options.level_base_bytes = 512 * 1024;
    fixture->options.sync_window_ms = 0;
    engine_fixture_open(fixture);
    *state = fixture;
    return 0;
}

static inline int engine_fixture_teardown(void **state)
{
    struct engine_fixture *fixture = *state;

    if (fixture->engine != NULL)
        (void)engine_close(fixture->engine);
    io_close_backend(fixture->io);
    test_directory_remove(fixture->directory);
    free(fixture->path);
    free(fixture);
    return 0;
}

static inline struct slice engine_fixture_key(uint8_t to[8], uint64_t number)
{
    put_be64(to, number);
    return slice_of(to, 8);
}

/* One record: key `number`, `size_bytes` of the number's lowest byte. What engine_write() returns. */
static inline int engine_fixture_put(struct engine *engine, uint64_t number, size_t size_bytes)
{
    uint8_t key[8], *value = malloc(size_bytes);
    struct batch batch = {0};
    int result;

    assert_non_null(value);
    memset(value, (int)number, size_bytes);
    batch_put(&batch, engine_fixture_key(key, number), slice_of(value, size_bytes));
    result = engine_write(engine, &batch, NULL);
    batch_free(&batch);
    free(value);
    return result;
}

/* Make a checkpoint, and wait until it has its directory; the id. */
static inline uint64_t engine_fixture_checkpoint(struct engine *engine, const char *name)
{
    uint64_t id;

    assert_int_equal(
        engine_checkpoint_create(engine, slice_of_string(name), slice_of(NULL, 0), &id), 0);
    assert_int_equal(engine_checkpoint_wait(engine, id), 0);
    return id;
}

/* Another store, with the fixture's options; the caller closes it. */
static inline struct engine *engine_fixture_open_at(const struct engine_fixture *fixture,
                                                    const char *path)
{
    struct engine_options options = fixture->options;
    struct engine *engine;

    options.path = path;
    assert_int_equal(engine_open(&options, &engine), 0);
    return engine;
}

#endif
