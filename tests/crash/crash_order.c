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

#include "engine/base/endian.h"
#include "engine/base/log.h"
#include "engine/batch.h"
#include "engine/blob_writer.h"
#include "engine/engine_verify.h"
#include "tests/lib/crash_fixture.h"
#include "tests/lib/crash_history_internal.h"
#include "tests/lib/crash_run.h"
#include "tests/lib/seed.h"
#include "tests/lib/test_directory.h"

#define FRAME_SIZE 20000

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

/* What a commit may name is in its place for good: no rename hangs in the air. But a segment of the log,
 * in which nothing is yet, may just be made by another thread. */
static void see_commit(void *context, struct disk_model *disk, enum disk_call call,
                       const char *label)
{
    char *pending = context;
    struct disk_model *copy;

    (void)label;
    if (call != DISK_COMMIT || pending[0] != '\0')
        return;
    copy = disk_model_clone_locked(disk);
    snprintf(pending, 256, "%s", disk_model_pending_rename(copy, ".wal"));
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
    assert_string_equal(disk_model_pending_rename(disk, NULL), "");
    disk_model_free(disk);
    free(store);
    test_directory_remove(scratch);
}

/* ---- what recovery seals ---- */

static void a_blob_chunk_that_recovery_sealed_has_its_name_for_good(void **state)
{
    static const uint8_t uuid[STORE_UUID_SIZE] = {7};
    const uint8_t data[700] = {1, 2, 3};
    const struct blob_piece piece = {
        .chunk_id = 5, .position = CHUNK_HEADER_SIZE, .size = sizeof data, .data = data};
    struct disk_model *disk = disk_model_new("/disk"), *cut;
    struct io *io = disk_model_io(disk);
    struct chunk_identity identity;
    struct io_file *root, *chunks;
    char name[CHUNK_NAME_SIZE];
    struct stat status;

    (void)state;
    assert_int_equal(io_open_root(io, "/disk", &root), 0);
    assert_int_equal(io_mkdir(io, root, "chunks", 0700), 0);
    assert_int_equal(io_open(io, root, "chunks", IO_OPEN_DIRECTORY, 0, &chunks), 0);
    assert_int_equal(io_sync_filesystem(io, root), 0);
    /* All of it lies in the log: the file itself never reached the disk. */
    assert_int_equal(blob_recover_open_chunk(io, chunks, uuid, 5, CHUNK_HEADER_SIZE + sizeof data,
                                             &piece, 1, &identity),
                     0);
    io_close(io, chunks);
    io_close(io, root);
    cut = disk_model_cut(disk, 0);
    disk_model_set_base(disk, "/gone");
    disk_model_set_base(cut, "/disk");
    io = disk_model_io(cut);
    assert_int_equal(io_open_root(io, "/disk/chunks", &chunks), 0);
    chunk_name(name, &identity);
    assert_int_equal(io_stat_at(io, chunks, name, &status), 0);
    assert_int_equal(verify_chunk(io, chunks, &identity, uuid), 0);
    io_close(io, chunks);
    disk_model_free(cut);
    disk_model_free(disk);
}

/* ---- killed at every call ---- */

#define STEPS 60

/* Step n is one record, the one with sequence number n: there is nothing else in the store. */
static void do_step(struct engine *engine, uint64_t step)
{
    struct batch batch = {0};
    uint8_t key[8], value[300] = {0};
    uint64_t sequence;

    put_be64(key, step);
    put_be64(value, step);
    batch_put(&batch, slice_of(key, 8), slice_of(value, sizeof value));
    assert_int_equal(engine_write(engine, &batch, &sequence), 0);
    assert_int_equal(sequence, step);
    batch_free(&batch);
}

static void do_steps(struct engine *engine, struct kills *kills)
{
    for (uint64_t step = 1; step <= STEPS; step++) {
        do_step(engine, step);
        kills->acknowledged = step;
        if (step % 5 == 0) {
            assert_int_equal(engine_sync(engine, step), 0);
            kills->synced = step;
        }
        if (step % 20 == 0)
            assert_int_equal(engine_flush(engine), 0);
        if (step == 50)
            assert_int_equal(engine_compact(engine), 0);
    }
}

/* Steps 1..n and no other, each under its own number. */
static uint64_t check_steps(struct engine *engine)
{
    struct engine_view *view = engine_view_acquire(engine);
    struct engine_iterator *iterator;
    uint64_t count = 0;
    int found;

    assert_int_equal(engine_iterator_new(view, slice_of(NULL, 0), &iterator), 0);
    for (found = engine_iterator_seek(iterator, slice_of("", 1)); found > 0;
         found = engine_iterator_next(iterator)) {
        const struct record *record = engine_iterator_record(iterator);

        count++;
        assert_int_equal(get_be64(record->key.data), count);
        assert_int_equal(get_be64(record->value.data), count);
        assert_int_equal(record->sequence, count);
    }
    assert_int_equal(found, 0);
    engine_iterator_free(iterator);
    engine_view_release(view);
    assert_int_equal(engine_sequence(engine), count);
    return count;
}

/* Recover, look, go on with the next step, close; and look once more. */
static void check_kill(const struct engine_options *from, const char *base, const char *store,
                       struct kill *kill)
{
    struct engine_options options = *from;
    struct engine *engine;
    uint64_t steps;

    disk_model_set_base(kill->disk, base);
    options.path = store;
    options.io = disk_model_io(kill->disk);
    assert_int_equal(engine_open(&options, &engine), 0);
    steps = check_steps(engine);
    assert_true(steps >= kill->synced);
    assert_true(steps <= kill->acknowledged + 1); /* the one that was under way */
    do_step(engine, steps + 1);
    assert_int_equal(engine_close(engine), 0);
    assert_int_equal(engine_open(&options, &engine), 0);
    assert_int_equal(check_steps(engine), steps + 1);
    assert_int_equal(engine_close(engine), 0);
    disk_model_set_base(kill->disk, "");
}

/* Killed once more, at every call of the recovery from `kill`: the same steps are there. */
static void check_kills_of_recovery(const struct engine_options *from, const char *base,
                                    const char *store, struct kill *kill)
{
    struct disk_model *disk = disk_model_clone(kill->disk);
    struct kills *inner = calloc(1, sizeof *inner);
    struct engine_options options = *from;
    struct engine *engine;
    uint64_t steps;

    disk_model_set_base(disk, base);
    options.path = store;
    options.io = disk_model_io(disk);
    disk_model_observe(disk, take_kill, inner);
    assert_int_equal(engine_open(&options, &engine), 0);
    disk_model_observe(disk, NULL, NULL);
    steps = check_steps(engine);
    assert_int_equal(engine_close(engine), 0);
    disk_model_set_base(disk, "");
    disk_model_free(disk);
    for (size_t i = 0; i < inner->count; i++) {
        disk = inner->list[i].disk;
        disk_model_set_base(disk, base);
        options.io = disk_model_io(disk);
        assert_int_equal(engine_open(&options, &engine), 0);
        assert_int_equal(check_steps(engine), steps);
        assert_int_equal(engine_close(engine), 0);
        disk_model_set_base(disk, "");
        disk_model_free(disk);
    }
    free(inner);
}

static void r23_killed_between_any_two_calls_every_batch_is_applied_once(void **state)
{
    char *scratch = make_scratch(), *base = test_path(scratch, "0");
    char *store = test_path(base, "store");
    char *other = test_path(scratch, "1"), *other_store = test_path(other, "store");
    struct store_format format = {.chunk_size_bytes = 16384, .compression_level = 1};
    struct disk_model *disk = disk_model_new(base);
    struct kills *kills = calloc(1, sizeof *kills);
    struct engine_options options;
    struct engine *engine;

    (void)state;
    assert_int_equal(store_create(disk_model_io(disk), store, &format), 0);
    engine_options_default(&options);
    options.path = store;
    options.io = disk_model_io(disk);
    options.memtable_bytes = 4096;
    options.wal_segment_bytes = 65536;
    options.wal_buffer_bytes = 8192;
    options.sync_window_ms = 0;
    disk_model_observe(disk, take_kill, kills);
    assert_int_equal(engine_open(&options, &engine), 0);
    do_steps(engine, kills);
    assert_int_equal(engine_close(engine), 0);
    disk_model_observe(disk, NULL, NULL);
    disk_model_set_base(disk, "");
    assert_true(kills->count > 50);
    for (size_t i = 0; i < kills->count; i++) {
        if (i % 20 == 19)
            check_kills_of_recovery(&options, other, other_store, &kills->list[i]);
        check_kill(&options, other, other_store, &kills->list[i]);
        disk_model_free(kills->list[i].disk);
    }
    disk_model_free(disk);
    free(kills);
    free(other_store);
    free(other);
    free(store);
    free(base);
    test_directory_remove(scratch);
}

/* ---- killed, and then the power goes ---- */

static int count_checkpoint(void *context, const struct engine_checkpoint_info *info)
{
    (void)info;
    (*(size_t *)context)++;
    return 0;
}

static int count_name(void *context, const char *name)
{
    (void)name;
    (*(size_t *)context)++;
    return 0;
}

/* Each name in checkpoints/ is a checkpoint that the engine knows. */
static void check_names(struct disk_model *disk, const char *base,
                        const struct engine_options *options)
{
    size_t known = 0, names = 0;
    char *store = test_path(base, "store"), *path = test_path(store, "checkpoints");
    struct io *io = disk_model_io(disk);
    struct io_file *directory;
    struct engine *engine;

    open_at(disk, base, options, &engine);
    assert_int_equal(engine_checkpoint_each(engine, count_checkpoint, &known), 0);
    assert_int_equal(engine_close(engine), 0);
    assert_int_equal(io_open_root(io, path, &directory), 0);
    assert_int_equal(io_list(io, directory, count_name, &names), 0);
    io_close(io, directory);
    assert_int_equal(names, known);
    disk_model_set_base(disk, "");
    free(path);
    free(store);
}

/* What a killed process did is in the cache only: the next one must not build on it. */
static void a_deletion_that_was_killed_survives_a_cut_of_the_next_start(void **state)
{
    struct crash_place place;
    struct kills *kills = calloc(1, sizeof *kills), *cuts = calloc(1, sizeof *cuts);
    struct engine *engine;
    uint64_t id;

    (void)state;
    crash_place_begin(&place);
    crash_place_make_store(&place, 16384);
    place.options.memtable_bytes = 4096;
    place.options.wal_segment_bytes = 65536;
    open_at(place.disk, place.base, &place.options, &engine);
    put(engine, "a", "one");
    assert_int_equal(
        engine_checkpoint_create(engine, slice_of_string("gone"), slice_of("", 0), &id), 0);
    assert_int_equal(engine_checkpoint_wait(engine, id), 0);
    disk_model_observe(place.disk, take_kill, kills);
    assert_int_equal(engine_checkpoint_delete(engine, id), 0);
    assert_int_equal(engine_close(engine), 0);
    disk_model_observe(place.disk, NULL, NULL);
    disk_model_set_base(place.disk, "");
    for (size_t i = 0; i < kills->count; i++) {
        cuts->count = 0;
        disk_model_observe(kills->list[i].disk, take_kill, cuts);
        open_at(kills->list[i].disk, place.other, &place.options, &engine);
        assert_int_equal(engine_close(engine), 0);
        disk_model_observe(kills->list[i].disk, NULL, NULL);
        disk_model_set_base(kills->list[i].disk, "");
        for (size_t j = 0; j < cuts->count; j++) {
            for (uint64_t seed = 0; seed < CUTS; seed++) {
                struct disk_model *cut =
                    disk_model_cut(cuts->list[j].disk, seed < 2 ? seed : i * 1000 + j * 10 + seed);

                check_names(cut, place.other, &place.options);
                disk_model_free(cut);
            }
            disk_model_free(cuts->list[j].disk);
        }
        disk_model_free(kills->list[i].disk);
    }
    assert_true(kills->count > 5);
    free(kills);
    free(cuts);
    crash_place_end(&place);
}

/* The disk when the first file of a deleted checkpoint is about to be removed. */
static void take_first_unlink(void *context, struct disk_model *disk, enum disk_call call,
                              const char *label)
{
    struct disk_model **taken = context;

    if (call == DISK_UNLINK && *taken == NULL && strncmp(label, "MANIFEST-", 9) == 0)
        *taken = disk_model_clone_locked(disk);
}

/* Else a cut could leave it without any name, and its chunks with a link that nobody removes. */
static void a_checkpoint_is_emptied_when_its_new_name_is_durable(void **state)
{
    struct crash_place place;
    char *deleted;
    struct disk_model *taken = NULL, *cut;
    struct io_file *directory;
    struct engine *engine;
    size_t names = 0;
    uint64_t id;

    (void)state;
    crash_place_begin(&place);
    deleted = test_path(place.base, "store/tmp/deleted");
    crash_place_make_store(&place, 16384);
    open_at(place.disk, place.base, &place.options, &engine);
    put(engine, "a", "one");
    assert_int_equal(
        engine_checkpoint_create(engine, slice_of_string("gone"), slice_of("", 0), &id), 0);
    assert_int_equal(engine_checkpoint_wait(engine, id), 0);
    disk_model_observe(place.disk, take_first_unlink, &taken);
    assert_int_equal(engine_checkpoint_delete(engine, id), 0);
    assert_int_equal(engine_close(engine), 0);
    disk_model_observe(place.disk, NULL, NULL);
    disk_model_set_base(place.disk, "");
    assert_non_null(taken);
    cut = disk_model_cut(taken, 0);
    disk_model_set_base(cut, place.base);
    assert_int_equal(io_open_root(disk_model_io(cut), deleted, &directory), 0);
    assert_int_equal(io_list(disk_model_io(cut), directory, count_name, &names), 0);
    assert_int_equal(names, 1);
    io_close(disk_model_io(cut), directory);
    disk_model_free(cut);
    disk_model_free(taken);
    free(deleted);
    crash_place_end(&place);
}

/* The checkpoint is there, under the name that the engine has for it. */
static void check_readable(struct disk_model *disk, const char *base,
                           const struct engine_options *options, uint64_t id)
{
    struct engine_view *view;
    struct engine *engine;

    open_at(disk, base, options, &engine);
    assert_int_equal(engine_checkpoint_view(engine, id, &view), 0);
    engine_view_release(view);
    assert_int_equal(engine_close(engine), 0);
    disk_model_set_base(disk, "");
}

/* After a clean close nobody looks whether directories have the names that the manifest gives: neither a
 * rename that has returned nor one that recovery finished may be undone by a cut then. */
static void a_rename_is_durable_before_the_clean_mark(void **state)
{
    struct crash_place place;
    struct kills *kills = calloc(1, sizeof *kills);
    struct engine *engine;
    uint64_t id;

    (void)state;
    crash_place_begin(&place);
    crash_place_make_store(&place, 16384);
    open_at(place.disk, place.base, &place.options, &engine);
    put(engine, "a", "one");
    assert_int_equal(
        engine_checkpoint_create(engine, slice_of_string("before"), slice_of("", 0), &id), 0);
    assert_int_equal(engine_checkpoint_wait(engine, id), 0);
    disk_model_observe(place.disk, take_kill, kills);
    assert_int_equal(engine_checkpoint_rename(engine, id, slice_of_string("after")), 0);
    assert_int_equal(engine_close(engine), 0);
    disk_model_observe(place.disk, NULL, NULL);
    disk_model_set_base(place.disk, "");
    for (uint64_t seed = 0; seed < CUTS; seed++) {
        struct disk_model *cut = disk_model_cut(place.disk, seed);

        check_readable(cut, place.other, &place.options, id);
        disk_model_free(cut);
    }
    for (size_t i = 0; i < kills->count; i++) {
        for (uint64_t seed = 0; seed < CUTS; seed++) {
            struct disk_model *cut = disk_model_cut(kills->list[i].disk, seed), *again;

            check_readable(cut, place.other, &place.options, id);
            again = disk_model_cut(cut, 0);
            check_readable(again, place.other, &place.options, id);
            disk_model_free(again);
            disk_model_free(cut);
        }
        disk_model_free(kills->list[i].disk);
    }
    free(kills);
    crash_place_end(&place);
}

/* ---- blob chunks made ahead ---- */

#define LARGE_FRAME 30000
#define LARGE_ROUND 12 /* frames between syncs: more than goes through the log */

static void put_large(struct engine *engine, uint64_t number)
{
    uint8_t key[8], *data = malloc(LARGE_FRAME);
    uint64_t random = number;
    struct batch batch = {0};
    struct blob_ref ref;

    for (size_t i = 0; i < LARGE_FRAME; i++)
        data[i] = (uint8_t)seed_next(&random);
    put_be64(key, number);
    assert_int_equal(engine_blob_append(engine, data, LARGE_FRAME, &ref), 0);
    batch_put_reference(&batch, slice_of(key, 8), &ref);
    assert_int_equal(engine_write(engine, &batch, NULL), 0);
    batch_free(&batch);
    free(data);
}

static void check_large(struct engine *engine, uint64_t count)
{
    struct engine_view *view = engine_view_acquire(engine);
    uint8_t key[8], *data = malloc(LARGE_FRAME);
    struct buffer value = {0};
    struct blob_ref ref;

    for (uint64_t number = 0; number < count; number++) {
        uint64_t random = number;

        put_be64(key, number);
        assert_int_equal(engine_view_get(view, slice_of(key, 8), &value, NULL), 1);
        assert_int_equal(blob_ref_decode(buffer_slice(&value), &ref), 0);
        assert_int_equal(engine_blob_read(view, &(struct engine_blob_read){&ref, data}, 1), 0);
        for (size_t i = 0; i < LARGE_FRAME; i++)
            assert_int_equal(data[i], (uint8_t)seed_next(&random));
    }
    buffer_free(&value);
    free(data);
    engine_view_release(view);
}

/* The file of the next chunk is made before it is needed; its name must be durable as any other. */
static void what_is_synced_is_in_chunks_that_have_their_names(void **state)
{
    struct crash_place place;
    struct engine *engine, *recovered;
    uint64_t number = 0;

    (void)state;
    crash_place_begin(&place);
    crash_place_make_store(&place, 262144);
    open_at(place.disk, place.base, &place.options, &engine);
    for (unsigned round = 0; round < 12; round++) {
        struct disk_model *cut;

        for (unsigned i = 0; i < LARGE_ROUND; i++)
            put_large(engine, number++);
        assert_int_equal(engine_sync(engine, engine_sequence(engine)), 0);
        usleep(3000); /* for the writer's thread to make one ahead */
        cut = disk_model_cut(place.disk, 0);
        open_at(cut, place.other, &place.options, &recovered);
        check_large(recovered, number);
        assert_int_equal(engine_close(recovered), 0);
        disk_model_set_base(cut, "");
        disk_model_free(cut);
    }
    assert_int_equal(engine_close(engine), 0);
    disk_model_set_base(place.disk, "");
    crash_place_end(&place);
}

/* ---- a chunk taken back from a snapshot ---- */

static int count_blob(void *context, const char *name)
{
    if (strstr(name, ".blb") != NULL)
        (*(size_t *)context)++;
    return 0;
}

static size_t count_blobs(struct disk_model *disk, const char *base)
{
    char *path = test_path(base, "store/chunks");
    struct io_file *directory;
    size_t count = 0;

    assert_int_equal(io_open_root(disk_model_io(disk), path, &directory), 0);
    assert_int_equal(io_list(disk_model_io(disk), directory, count_blob, &count), 0);
    io_close(disk_model_io(disk), directory);
    free(path);
    return count;
}

/* The reference to what put_frame() wrote under `key`. */
static struct blob_ref reference_of(struct engine_view *view, const char *key)
{
    struct buffer value = {0};
    struct record record;
    struct blob_ref ref;

    assert_int_equal(engine_view_get(view, slice_of_string(key), &value, &record), 1);
    assert_int_equal(record.kind, RECORD_REFERENCE);
    assert_int_equal(blob_ref_decode(record.value, &ref), 0);
    buffer_free(&value);
    return ref;
}

static void check_frame(struct engine *engine, const char *key, int byte)
{
    struct engine_view *view = engine_view_acquire(engine);
    struct blob_ref ref = reference_of(view, key);
    uint8_t data[FRAME_SIZE], expected[FRAME_SIZE];

    memset(expected, byte, sizeof expected);
    assert_int_equal(engine_blob_read(view, &(struct engine_blob_read){&ref, data}, 1), 0);
    assert_memory_equal(data, expected, sizeof data);
    engine_view_release(view);
}

static void remove_key(struct engine *engine, const char *key)
{
    struct batch batch = {0};

    batch_delete(&batch, slice_of_string(key));
    assert_int_equal(engine_write(engine, &batch, NULL), 0);
    batch_free(&batch);
}

/* "taken" gets what the snapshot has under "kept", whose chunk the live store has no more. */
static void take_back(struct disk_model *disk, struct engine *engine, uint64_t id)
{
    uint64_t links = disk_model_count(disk, DISK_LINK);
    struct batch batch = {0};
    struct engine_view *view;
    struct blob_ref ref;

    assert_int_equal(engine_checkpoint_view(engine, id, &view), 0);
    ref = reference_of(view, "kept");
    assert_int_equal(engine_adopt_reference(engine, view, &ref), 0);
    assert_int_equal(disk_model_count(disk, DISK_LINK), links + 1);
    batch_put_reference(&batch, slice_of_string("taken"), &ref);
    assert_int_equal(engine_write(engine, &batch, NULL), 0);
    assert_int_equal(engine_sync(engine, engine_sequence(engine)), 0);
    batch_free(&batch);
    engine_view_release(view);
}

/* The power went: it is there, also when the snapshot has gone and the power goes again, before that
 * is on the disk or afterwards. */
static void check_taken(struct disk_model *cut, const char *base,
                        const struct engine_options *options, uint64_t id)
{
    struct engine *engine;

    open_at(cut, base, options, &engine);
    check_frame(engine, "taken", 't');
    assert_int_equal(engine_checkpoint_delete(engine, id), 0);
    assert_int_equal(engine_close(engine), 0);
    disk_model_set_base(cut, "");
    for (uint64_t seed = 0; seed <= 1; seed++) {
        struct disk_model *again = disk_model_cut(cut, seed);

        open_at(again, base, options, &engine);
        check_frame(engine, "taken", 't');
        assert_int_equal(engine_close(engine), 0);
        disk_model_set_base(again, "");
        disk_model_free(again);
    }
}

/* Its name is durable before the manifest's commit; and so is the number of its names, or a disk
 * without a journal destroys it together with the snapshot (R66). */
static void r66_a_chunk_taken_back_from_a_snapshot_is_there_for_good(void **state)
{
    struct crash_place place;
    struct disk_model *killed;
    struct engine *engine;
    uint64_t id, other_id;

    (void)state;
    crash_place_begin(&place);
    crash_place_make_store(&place, 16384);
    open_at(place.disk, place.base, &place.options, &engine);
    put_frame(engine, "kept", 't');
    assert_int_equal(engine_checkpoint_create(engine, slice_of_string("one"), slice_of("", 0), &id),
                     0);
    assert_int_equal(engine_checkpoint_wait(engine, id), 0);
    remove_key(engine, "kept");
    for (unsigned tries = 0; count_blobs(place.disk, place.base) > 0; tries++) {
        assert_true(tries < 1000);
        assert_int_equal(engine_compact(engine), 0);
        usleep(10000);
    }
    /* This syncs the file system: on the disk the chunk has the one name that the snapshot gives it. */
    assert_int_equal(
        engine_checkpoint_create(engine, slice_of_string("two"), slice_of("", 0), &other_id), 0);
    assert_int_equal(engine_checkpoint_wait(engine, other_id), 0);
    take_back(place.disk, engine, id);
    killed = disk_model_clone(place.disk);
    assert_int_equal(engine_close(engine), 0);
    disk_model_set_base(place.disk, "");
    for (uint64_t seed = 0; seed < 3 * CUTS; seed++) {
        struct disk_model *cut = disk_model_cut(killed, seed);

        check_taken(cut, place.other, &place.options, id);
        disk_model_free(cut);
    }
    disk_model_free(killed);
    crash_place_end(&place);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(r66_a_chunk_taken_back_from_a_snapshot_is_there_for_good),
        cmocka_unit_test(a_blob_chunk_that_recovery_sealed_has_its_name_for_good),
        cmocka_unit_test(a_deletion_that_was_killed_survives_a_cut_of_the_next_start),
        cmocka_unit_test(a_checkpoint_is_emptied_when_its_new_name_is_durable),
        cmocka_unit_test(what_is_synced_is_in_chunks_that_have_their_names),
        cmocka_unit_test(a_rename_is_durable_before_the_clean_mark),
        cmocka_unit_test(r23_killed_between_any_two_calls_every_batch_is_applied_once),
        cmocka_unit_test(r42_a_rename_is_followed_by_a_sync_of_its_directory),
        cmocka_unit_test(r56_a_cut_before_every_call_of_a_snapshot_loses_nothing_acknowledged),
    };

    log_set_level(LOG_LEVEL_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
