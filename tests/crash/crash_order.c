/* SPDX-License-Identifier: Apache-2.0 */
/*
 * crash_order.c - the order of syncs, on one fixed run that makes a snapshot
 *
 * The power goes before every call of it that changes the disk, and each time the disk keeps only
 * what was promised, or everything, or anything between.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/base/log.h"
#include "engine/batch.h"
#include "tests/lib/crash_history_internal.h"
#include "tests/lib/crash_run.h"
#include "tests/lib/test_directory.h"

#define FRAME_SIZE 20000

/* In memory where there is such a file system: LMDB syncs its file. */
static char *make_scratch(void)
{
    return access("/dev/shm", W_OK) == 0 ? test_directory_make_in("/dev/shm")
                                         : test_directory_make();
}

static void put(struct engine *engine, const char *key, const char *value)
{
    struct batch batch = {0};

    batch_put(&batch, slice_of_string(key), slice_of_string(value));
    assert_int_equal(engine_write(engine, &batch, NULL), 0);
    batch_free(&batch);
}

static void put_frame(struct engine *engine, const char *key, int byte)
{
    uint8_t data[FRAME_SIZE];
    struct batch batch = {0};
    struct blob_ref ref;

    memset(data, byte, sizeof data);
    assert_int_equal(engine_blob_append(engine, data, sizeof data, &ref), 0);
    batch_put_reference(&batch, slice_of_string(key), &ref);
    assert_int_equal(engine_write(engine, &batch, NULL), 0);
    batch_free(&batch);
}

/* Tables, blobs, a sealed manifest: all that is renamed into its place. */
static char *make_snapshots(struct engine *engine, struct crash_history *history, uint64_t seed,
                            unsigned operations)
{
    uint64_t id;

    (void)history, (void)seed, (void)operations;
    put(engine, "a", "one");
    put_frame(engine, "b", 'b');
    assert_int_equal(engine_flush(engine), 0);
    put_frame(engine, "c", 'c');
    put(engine, "a", "two");
    assert_int_equal(
        engine_checkpoint_create(engine, slice_of_string("kept"), slice_of("", 0), &id), 0);
    assert_int_equal(engine_checkpoint_wait(engine, id), 0);
    put(engine, "d", "after");
    assert_int_equal(engine_sync(engine, engine_sequence(engine)), 0);
    assert_int_equal(engine_checkpoint_rename(engine, id, slice_of_string("called")), 0);
    assert_int_equal(engine_compact(engine), 0);
    return NULL;
}

static char *nothing_more(void *context, struct engine *engine, struct crash_history *history,
                          uint64_t seed)
{
    (void)context, (void)history, (void)seed;
    put(engine, "e", "a life after");
    return NULL;
}

static void r56_a_cut_before_every_call_of_a_snapshot_loses_nothing_acknowledged(void **state)
{
    static const struct crash_life life = {.work = make_snapshots, .live_on = nothing_more};

    (void)state;
    for (uint64_t seed = 1; seed <= 6; seed++) {
        char *scratch = make_scratch();
        struct crash_parameters parameters = {
            .seed = seed, .operations = 1, .states_max = 400, .scratch = scratch};
        char *wrong = crash_run(&parameters, &life);

        if (wrong != NULL)
            fail_msg("seed %llu: %s", (unsigned long long)seed, wrong);
        assert_true(parameters.states > 100);
        test_directory_remove(scratch);
    }
}

/* What a commit may name is in its place for good: no rename hangs in the air. */
static void see_commit(void *context, struct disk_model *disk, enum disk_call call,
                       const char *label)
{
    char *pending = context;
    struct disk_model *copy;

    (void)label;
    if (call != DISK_COMMIT || pending[0] != '\0')
        return;
    copy = disk_model_clone_locked(disk);
    snprintf(pending, 256, "%s", disk_model_pending_rename(copy));
    disk_model_free(copy);
}

static void r42_a_rename_is_followed_by_a_sync_of_its_directory(void **state)
{
    char *scratch = make_scratch(), *store = test_path(scratch, "store");
    struct store_format format = {.chunk_size_bytes = 16384, .compression_level = 1};
    struct disk_model *disk = disk_model_new(scratch);
    struct engine_options options;
    struct engine *engine;
    char pending[256] = "";

    (void)state;
    disk_model_put_manifest(disk, "store");
    assert_int_equal(store_create(disk_model_io(disk), store, &format), 0);
    engine_options_default(&options);
    options.path = store;
    options.io = disk_model_io(disk);
    options.memtable_bytes = 65536;
    assert_int_equal(engine_open(&options, &engine), 0);
    disk_model_observe(disk, see_commit, pending);
    assert_null(make_snapshots(engine, NULL, 0, 0));
    assert_int_equal(engine_close(engine), 0);
    assert_true(disk_model_count(disk, DISK_RENAME) > 3);
    assert_string_equal(pending, "");
    assert_string_equal(disk_model_pending_rename(disk), "");
    disk_model_free(disk);
    free(store);
    test_directory_remove(scratch);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(r42_a_rename_is_followed_by_a_sync_of_its_directory),
        cmocka_unit_test(r56_a_cut_before_every_call_of_a_snapshot_loses_nothing_acknowledged),
    };

    log_set_level(LOG_LEVEL_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
