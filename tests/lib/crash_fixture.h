/* SPDX-License-Identifier: Apache-2.0 */
/*
 * crash_fixture.h - an engine on a model of a disk, for runs that are written out
 *
 * Who kills the process looks on: an observer that takes the disk, as the next process would find
 * it, before each call that changes it.
 */
#ifndef VARVE_TESTS_LIB_CRASH_FIXTURE_H
#define VARVE_TESTS_LIB_CRASH_FIXTURE_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/batch.h"
#include "engine/engine.h"
#include "tests/lib/disk_model.h"
#include "tests/lib/disk_seam.h"
#include "tests/lib/test_directory.h"

#define CUTS      8 /* of each call */
#define KILLS_MAX 2000

/* In memory where there is such a file system: LMDB syncs its file. */
static inline char *make_scratch(void)
{
    return access("/dev/shm", W_OK) == 0 ? test_directory_make_in("/dev/shm")
                                         : test_directory_make();
}

static inline void put(struct engine *engine, const char *key, const char *value)
{
    struct batch batch = {0};

    batch_put(&batch, slice_of_string(key), slice_of_string(value));
    assert_int_equal(engine_write(engine, &batch, NULL), 0);
    batch_free(&batch);
}

/* The engine of base/store, on `disk`. */
static inline void open_at(struct disk_model *disk, const char *base,
                           const struct engine_options *from, struct engine **ret_engine)
{
    struct engine_options options = *from;
    char *store = test_path(base, "store");

    disk_model_set_base(disk, base);
    options.path = store;
    options.io = disk_model_io(disk);
    assert_int_equal(engine_open(&options, ret_engine), 0);
    free(store);
}

/* A disk, and two places for its root: a run, and what is cut out of it. */
struct crash_place {
    char *scratch, *base, *other;
    struct disk_model *disk; /* at `base` */
    struct engine_options options;
};

static inline void crash_place_begin(struct crash_place *place)
{
    place->scratch = make_scratch();
    place->base = test_path(place->scratch, "0");
    place->other = test_path(place->scratch, "1");
    place->disk = disk_model_new(place->base);
    engine_options_default(&place->options);
    place->options.sync_window_ms = 0;
}

static inline void crash_place_make_store(struct crash_place *place, uint64_t chunk_size_bytes)
{
    struct store_format format = {.chunk_size_bytes = chunk_size_bytes, .compression_level = 1};
    char *store = test_path(place->base, "store");

    assert_int_equal(store_create(disk_model_io(place->disk), store, &format), 0);
    assert_true(disk_seam_commits() > 0); /* else LMDB's file is not the disk's */
    free(store);
}

static inline void crash_place_end(struct crash_place *place)
{
    disk_model_free(place->disk);
    free(place->other);
    free(place->base);
    test_directory_remove(place->scratch);
}

struct kill {
    struct disk_model *disk;
    uint64_t acknowledged, synced; /* steps, when it came */
};

struct kills {
    struct kill list[KILLS_MAX];
    size_t count;
    _Atomic uint64_t acknowledged, synced;
};

static inline void take_kill(void *context, struct disk_model *disk, enum disk_call call,
                             const char *label)
{
    struct kills *kills = context; /* the disk's lock is held */

    (void)call, (void)label;
    assert_true(kills->count < KILLS_MAX);
    kills->list[kills->count++] = (struct kill){
        .disk = disk_model_clone_locked(disk),
        .acknowledged = kills->acknowledged,
        .synced = kills->synced,
    };
}

#endif
