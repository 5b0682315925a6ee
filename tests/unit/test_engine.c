/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_engine.c - the engine as a whole, on real files: batches, views, recovery, checkpoints
 *
 * A crash is a child process that stops without closing (what it wrote to the kernel survives;
 * power loss is for the disk model). The oracle of the random test is an array of values.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/engine_internal.h"
#include "tests/lib/engine_fixture.h"
#include "tests/lib/seed.h"

static void put(struct engine *engine, uint64_t number, const char *text)
{
    struct batch batch = {0};
    uint8_t key[8];

    batch_put(&batch, engine_fixture_key(key, number), slice_of_string(text));
    assert_int_equal(engine_write(engine, &batch, NULL), 0);
    batch_free(&batch);
}

static char *get_at(struct engine_view *view, uint64_t number)
{
    struct buffer value = {0};
    uint8_t key[8];
    char *text = NULL;
    int found = engine_view_get(view, engine_fixture_key(key, number), &value, NULL);

    assert_true(found >= 0);
    if (found > 0)
        text = strndup((const char *)value.data, value.size);
    buffer_free(&value);
    return text;
}

static void expect(struct engine *engine, uint64_t number, const char *text)
{
    struct engine_view *view = engine_view_acquire(engine);
    char *found = get_at(view, number);

    assert_int_equal(found != NULL, text != NULL);
    if (text != NULL)
        assert_string_equal(found, text);
    free(found);
    engine_view_release(view);
}

static void batches_are_read_back_after_a_clean_close(void **state)
{
    struct engine_fixture *fixture = *state;

    put(fixture->engine, 1, "one");
    put(fixture->engine, 2, "two");
    put(fixture->engine, 1, "uno");
    engine_fixture_close(fixture);
    engine_fixture_open(fixture);
    expect(fixture->engine, 1, "uno");
    expect(fixture->engine, 2, "two");
    expect(fixture->engine, 3, NULL);
}

static void r26_a_clean_close_replays_nothing(void **state)
{
    struct engine_fixture *fixture = *state;
    struct engine_statistics statistics;

    put(fixture->engine, 1, "one");
    engine_fixture_close(fixture);
    engine_fixture_open(fixture);
    engine_get_statistics(fixture->engine, &statistics);
    assert_int_equal(statistics.wal_replayed_batches, 0);
    assert_int_equal(statistics.unclean_starts, 0);
}

static void a_view_never_changes(void **state)
{
    struct engine_fixture *fixture = *state;
    struct engine_view *view;
    struct batch batch = {0};
    uint8_t low[8], high[8];
    char *text;

    put(fixture->engine, 7, "before");
    view = engine_view_acquire(fixture->engine);
    put(fixture->engine, 7, "after");
    batch_delete_range(&batch, engine_fixture_key(low, 0), engine_fixture_key(high, 100));
    assert_int_equal(engine_write(fixture->engine, &batch, NULL), 0);
    assert_int_equal(engine_compact(fixture->engine), 0);
    text = get_at(view, 7);
    assert_string_equal(text, "before");
    free(text);
    expect(fixture->engine, 7, NULL);
    engine_view_release(view);
    batch_free(&batch);
}

/* While memtables are flushed deletes wait for merging that is due; afterwards nothing else wakes the
 * thread that merges, and what they hid must still give its space back. */
static void what_was_deleted_goes_when_it_is_quiet(void **state)
{
    struct engine_fixture *fixture = *state;
    struct engine_statistics statistics;
    struct batch batch = {0};
    uint8_t low[8], high[8];

    for (uint64_t number = 0; number < 1000; number++)
        put(fixture->engine, number, "something");
    assert_int_equal(engine_flush(fixture->engine), 0);
    batch_delete_range(&batch, engine_fixture_key(low, 0), engine_fixture_key(high, 1000));
    assert_int_equal(engine_write(fixture->engine, &batch, NULL), 0);
    assert_int_equal(engine_flush(fixture->engine), 0);
    for (unsigned waited = 0; waited < 600; waited++) {
        engine_get_statistics(fixture->engine, &statistics);
        if (statistics.tables == 0)
            break;
        usleep(100000);
    }
    assert_int_equal(statistics.tables, 0);
    batch_free(&batch);
}

static void wait_for_no_blobs(struct engine *engine)
{
    struct engine_statistics statistics;

    for (unsigned waited = 0; waited < 600; waited++) {
        engine_get_statistics(engine, &statistics);
        if (statistics.blobs == 0)
            break;
        usleep(100000);
    }
    assert_int_equal(statistics.blobs, 0);
}

/* One record in a memtable that nothing else fills hides 20 MiB. */
static void what_is_left_behind_gives_its_space_back(void **state)
{
    struct engine_fixture *fixture = *state;
    static uint8_t data[BLOB_FRAME_SIZE_MAX];
    struct batch batch = {0};
    struct engine_statistics statistics;
    uint8_t low[8], high[8];

    for (uint64_t number = 0; number < 160; number++) {
        struct blob_ref ref;

        memset(data, (int)number, sizeof data);
        assert_int_equal(engine_blob_append(fixture->engine, data, sizeof data, &ref), 0);
        batch_put_reference(&batch, engine_fixture_key(low, number), &ref);
    }
    assert_int_equal(engine_write(fixture->engine, &batch, NULL), 0);
    assert_int_equal(engine_flush(fixture->engine), 0);
    engine_get_statistics(fixture->engine, &statistics);
    assert_true(statistics.blobs > 0);
    batch_clear(&batch);
    batch_delete_range(&batch, engine_fixture_key(low, 0), engine_fixture_key(high, 160));
    batch.freed_bytes = 160 * sizeof data;
    assert_int_equal(engine_write(fixture->engine, &batch, NULL), 0);
    wait_for_no_blobs(fixture->engine);
    batch_free(&batch);
}

/* Run `body` in a child that stops without closing; returns what it wrote to the pipe last. */
static uint64_t crash(struct engine_fixture *fixture, uint64_t (*body)(struct engine_fixture *))
{
    uint64_t result = 0;
    int ends[2], status;
    pid_t child;

    engine_fixture_close(fixture);
    assert_int_equal(pipe(ends), 0);
    child = fork();
    if (child == 0) {
        struct io *io;

        if (io_open_backend(IO_BACKEND_SYNC, &io) < 0)
            _exit(2);
        fixture->options.io = io;
        if (engine_open(&fixture->options, &fixture->engine) < 0)
            _exit(3);
        result = body(fixture);
        _exit(write(ends[1], &result, sizeof result) == sizeof result ? 0 : 4);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    assert_int_equal(read(ends[0], &result, sizeof result), sizeof result);
    close(ends[0]);
    close(ends[1]);
    return result;
}

static uint64_t write_sync_write(struct engine_fixture *fixture)
{
    uint8_t data[50000], key[8];
    struct batch batch = {0};
    struct engine_view *view = engine_view_acquire(fixture->engine);
    struct blob_ref ref;

    for (uint64_t i = 0; i < 5000; i++)
        put(fixture->engine, i, "durable");
    memset(data, 'x', sizeof data);
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (uint8_t)(i * 2654435761u >> 13);
    if (engine_blob_append(fixture->engine, data, sizeof data, &ref) < 0)
        return 0;
    batch_put_reference(&batch, engine_fixture_key(key, 1000000), &ref);
    if (engine_write(fixture->engine, &batch, NULL) < 0)
        return 0;
    engine_view_release(view);
    if (engine_sync(fixture->engine, engine_sequence(fixture->engine)) < 0)
        return 0;
    for (uint64_t i = 5000; i < 6000; i++)
        put(fixture->engine, i, "perhaps");
    return 1;
}

static void what_was_synced_survives_a_crash(void **state)
{
    struct engine_fixture *fixture = *state;
    struct engine_statistics statistics;
    struct engine_view *view;
    struct buffer value = {0};
    struct record record;
    struct blob_ref ref;
    uint8_t key[8], data[50000];
    struct engine_blob_read read = {&ref, data};

    assert_int_equal(crash(fixture, write_sync_write), 1);
    engine_fixture_open(fixture);
    for (uint64_t i = 0; i < 5000; i++)
        expect(fixture->engine, i, "durable");
    engine_get_statistics(fixture->engine, &statistics);
    assert_int_equal(statistics.unclean_starts, 1);
    view = engine_view_acquire(fixture->engine);
    assert_int_equal(engine_view_get(view, engine_fixture_key(key, 1000000), &value, &record), 1);
    assert_int_equal(record.kind, RECORD_REFERENCE);
    assert_int_equal(blob_ref_decode(record.value, &ref), 0);
    assert_int_equal(engine_blob_read(view, &read, 1), 0);
    for (size_t i = 0; i < sizeof data; i++)
        assert_int_equal(data[i], (uint8_t)(i * 2654435761u >> 13));
    engine_view_release(view);
    buffer_free(&value);
    put(fixture->engine, 1, "again");
    engine_fixture_close(fixture);
    engine_fixture_open(fixture);
    expect(fixture->engine, 1, "again");
}

static uint64_t checkpoint_and_stop(struct engine_fixture *fixture)
{
    uint64_t id = 0;

    put(fixture->engine, 1, "then");
    if (engine_checkpoint_create(fixture->engine, slice_of_string("monday"), slice_of_string("p"),
                                 &id) < 0)
        return 0;
    put(fixture->engine, 1, "now");
    (void)engine_sync(fixture->engine, engine_sequence(fixture->engine));
    return id;
}

static void expect_checkpoint(struct engine *engine, uint64_t id, uint64_t number, const char *text)
{
    struct engine_view *view;
    char *found;

    assert_int_equal(engine_checkpoint_view(engine, id, &view), 0);
    found = get_at(view, number);
    assert_int_equal(found != NULL, text != NULL);
    if (text != NULL)
        assert_string_equal(found, text);
    free(found);
    engine_view_release(view);
}

static void a_checkpoint_acknowledged_before_a_crash_is_complete(void **state)
{
    struct engine_fixture *fixture = *state;
    uint64_t id = crash(fixture, checkpoint_and_stop);

    assert_true(id > 0);
    engine_fixture_open(fixture);
    assert_int_equal(engine_checkpoint_wait(fixture->engine, id), 0);
    expect_checkpoint(fixture->engine, id, 1, "then");
    expect(fixture->engine, 1, "now");
}

static void r29_unsynced_writes_are_in_the_checkpoint(void **state)
{
    struct engine_fixture *fixture = *state;
    uint64_t id;

    put(fixture->engine, 5, "brand new");
    assert_int_equal(
        engine_checkpoint_create(fixture->engine, slice_of_string("a"), slice_of("", 0), &id), 0);
    put(fixture->engine, 5, "later");
    expect_checkpoint(fixture->engine, id, 5, "brand new"); /* before it is materialised, perhaps */
    assert_int_equal(engine_checkpoint_wait(fixture->engine, id), 0);
    expect_checkpoint(fixture->engine, id, 5, "brand new");
    expect(fixture->engine, 5, "later");
}

/* ---- read-around ---- */

#define AROUND_FRAME  (128 * 1024)
#define AROUND_FRAMES 24

static void fill_around_frame(uint8_t *frame, uint64_t number)
{
    for (size_t i = 0; i < AROUND_FRAME; i++)
        frame[i] = (uint8_t)seed_next(&number);
}

static void read_parts(struct engine *engine, const struct blob_ref *refs)
{
    struct engine_view *view = engine_view_acquire(engine);
    uint8_t *frame = malloc(AROUND_FRAME), part[4096];

    assert_non_null(frame);
    for (uint32_t at = 0; at < 4; at++) {
        for (uint64_t i = 0; i < AROUND_FRAMES; i++) {
            struct blob_ref ref = refs[i];
            struct engine_blob_read read = {&ref, part};

            fill_around_frame(frame, i);
            blob_ref_slice(&ref, at * 30000, sizeof part);
            assert_int_equal(engine_blob_read(view, &read, 1), 0);
            assert_memory_equal(part, frame + (size_t)at * 30000, sizeof part);
        }
    }
    free(frame);
    engine_view_release(view);
}

static uint64_t prefetches(struct engine *engine)
{
    struct engine_statistics statistics;

    engine_get_statistics(engine, &statistics);
    return statistics.io.prefetches;
}

/* Of chunks that are still open, and of sealed ones. */
static void small_reads_all_over_a_chunk_fetch_what_is_around_them(void **state)
{
    struct engine_fixture *fixture = *state;
    uint8_t *frame = malloc(AROUND_FRAME), key[8];
    struct blob_ref refs[AROUND_FRAMES];
    struct batch batch = {0};
    uint64_t before;

    assert_non_null(frame);
    for (uint64_t i = 0; i < AROUND_FRAMES; i++) {
        fill_around_frame(frame, i);
        assert_int_equal(engine_blob_append(fixture->engine, frame, AROUND_FRAME, &refs[i]), 0);
        batch_put_reference(&batch, engine_fixture_key(key, i), &refs[i]);
    }
    assert_int_equal(engine_write(fixture->engine, &batch, NULL), 0);
    assert_int_equal(engine_sync(fixture->engine, engine_sequence(fixture->engine)), 0);
    before = prefetches(fixture->engine);
    read_parts(fixture->engine, refs);
    assert_in_range(prefetches(fixture->engine) - before, 1, AROUND_FRAMES + 1);
    engine_fixture_close(fixture);
    engine_fixture_open(fixture);
    before = prefetches(fixture->engine);
    read_parts(fixture->engine, refs);
    assert_in_range(prefetches(fixture->engine) - before, 1, AROUND_FRAMES + 1);
    batch_free(&batch);
    free(frame);
}

/* Who writes next need not make it. */
static void after_a_checkpoint_the_next_segment_of_the_log_is_made_ahead(void **state)
{
    struct engine_fixture *fixture = *state;
    struct engine_statistics engine;
    struct wal_statistics log;
    uint64_t id;

    for (int i = 1; i <= 2; i++) {
        put(fixture->engine, 1, "text");
        assert_int_equal(engine_sync(fixture->engine, engine_sequence(fixture->engine)), 0);
        if (i == 1)
            assert_int_equal(engine_checkpoint_create(fixture->engine, slice_of_string("name"),
                                                      slice_of("", 0), &id),
                             0);
    }
    for (int i = 0; i < 10000; i++) {
        wal_get_statistics(fixture->engine->wal, &log);
        if (log.segments_created + log.segments_recycled == 3)
            break;
        usleep(1000);
    }
    assert_int_equal(log.segment, 2);
    assert_int_equal(log.segments_created + log.segments_recycled, 3);
    engine_get_statistics(fixture->engine, &engine);
    assert_int_equal(engine.barriers, 1);
    assert_in_range(engine.barrier_ns_max, 1, UINT64_C(60000000000));
}

static void r59_deleting_everything_live_leaves_checkpoints_alone(void **state)
{
    struct engine_fixture *fixture = *state;
    struct batch batch = {0};
    uint8_t low[8], high[8];
    uint64_t id;

    for (uint64_t i = 0; i < 3000; i++)
        put(fixture->engine, i, "kept");
    assert_int_equal(
        engine_checkpoint_create(fixture->engine, slice_of_string("kept"), slice_of("", 0), &id),
        0);
    batch_delete_range(&batch, engine_fixture_key(low, 0), engine_fixture_key(high, UINT64_MAX));
    assert_int_equal(engine_write(fixture->engine, &batch, NULL), 0);
    batch_free(&batch);
    assert_int_equal(engine_compact(fixture->engine), 0);
    assert_int_equal(engine_compact(fixture->engine), 0);
    expect(fixture->engine, 17, NULL);
    for (uint64_t i = 0; i < 3000; i += 97)
        expect_checkpoint(fixture->engine, id, i, "kept");
    engine_fixture_close(fixture);
    engine_fixture_open(fixture);
    expect_checkpoint(fixture->engine, id, 2999, "kept");
}

static void what_is_frozen_shows_what_is_there_and_changes_nothing(void **state)
{
    struct engine_fixture *fixture = *state;
    struct batch batch = {0};
    char path[300];
    uint64_t id, blocked;
    struct stat before, after;

    for (uint64_t i = 0; i < 3000; i++)
        put(fixture->engine, i, "kept");
    assert_int_equal(
        engine_checkpoint_create(fixture->engine, slice_of_string("c"), slice_of("", 0), &id), 0);
    assert_int_equal(engine_checkpoint_wait(fixture->engine, id), 0);
    put(fixture->engine, 17, "changed");
    engine_fixture_close(fixture);

    snprintf(path, sizeof path, "%s/manifest/data.mdb", fixture->path);
    assert_int_equal(stat(path, &before), 0);
    fixture->options.frozen = true;
    engine_fixture_open(fixture);
    assert_true(engine_is_frozen(fixture->engine) && engine_is_read_only(fixture->engine));
    assert_int_equal(engine_set_read_only(fixture->engine, false), -EROFS);
    expect(fixture->engine, 17, "changed");
    expect(fixture->engine, 2999, "kept");
    expect_checkpoint(fixture->engine, id, 17, "kept");
    batch_put(&batch, slice_of_string("k"), slice_of_string("v"));
    assert_int_equal(engine_write(fixture->engine, &batch, NULL), -EROFS);
    batch_free(&batch);
    assert_int_equal(
        engine_checkpoint_create(fixture->engine, slice_of_string("d"), slice_of("", 0), &blocked),
        -EROFS);
    assert_int_equal(engine_checkpoint_delete(fixture->engine, id), -EROFS);
    assert_int_equal(engine_flush(fixture->engine), 0);
    assert_int_equal(engine_compact(fixture->engine), -EROFS);
    assert_int_equal(engine_sync(fixture->engine, engine_sequence(fixture->engine)), 0);
    engine_fixture_close(fixture);
    assert_int_equal(stat(path, &after), 0);
    assert_memory_equal(&before.st_mtim, &after.st_mtim, sizeof before.st_mtim);

    fixture->options.frozen = false;
    engine_fixture_open(fixture);
    expect(fixture->engine, 17, "changed");
    expect_checkpoint(fixture->engine, id, 17, "kept");
}

static void a_copied_checkpoint_directory_is_a_store(void **state)
{
    struct engine_fixture *fixture = *state;
    struct engine_options options = fixture->options;
    struct engine *copy;
    struct batch batch = {0};
    char command[512], path[256];
    uint64_t id;

    put(fixture->engine, 9, "carried");
    assert_int_equal(
        engine_checkpoint_create(fixture->engine, slice_of_string("c"), slice_of("", 0), &id), 0);
    assert_int_equal(engine_checkpoint_wait(fixture->engine, id), 0);
    snprintf(path, sizeof path, "%s/copy", fixture->directory);
    snprintf(command, sizeof command, "cp -r %s/checkpoints/c %s", fixture->path, path);
    assert_int_equal(system(command), 0);
    options.path = path;
    assert_int_equal(engine_open(&options, &copy), 0);
    assert_true(engine_is_read_only(copy) && engine_is_frozen(copy));
    assert_int_equal(engine_set_read_only(copy, false), -EROFS);
    assert_true(engine_is_read_only(copy));
    expect(copy, 9, "carried");
    batch_put(&batch, slice_of_string("k"), slice_of_string("v"));
    assert_int_equal(engine_write(copy, &batch, NULL), -EROFS);
    batch_free(&batch);
    assert_int_equal(engine_close(copy), 0);
}

static void names_are_taken_freed_and_renamed(void **state)
{
    struct engine_fixture *fixture = *state;
    struct slice none = slice_of("", 0);
    uint64_t first, second;

    assert_int_equal(engine_checkpoint_create(fixture->engine, slice_of_string("x"), none, &first),
                     0);
    assert_int_equal(engine_checkpoint_create(fixture->engine, slice_of_string("x"), none, &second),
                     -EEXIST);
    assert_int_equal(
        engine_checkpoint_create(fixture->engine, slice_of_string("a/b"), none, &second), -EINVAL);
    assert_int_equal(engine_checkpoint_rename(fixture->engine, first, slice_of_string("y")), 0);
    assert_int_equal(engine_checkpoint_create(fixture->engine, slice_of_string("x"), none, &second),
                     0);
    assert_int_equal(engine_checkpoint_rename(fixture->engine, second, slice_of_string("y")),
                     -EEXIST);
    assert_int_equal(engine_checkpoint_delete(fixture->engine, first), 0);
    assert_int_equal(engine_checkpoint_delete(fixture->engine, first), -ENOENT);
    assert_int_equal(engine_checkpoint_rename(fixture->engine, second, slice_of_string("y")), 0);
    engine_fixture_close(fixture);
    engine_fixture_open(fixture);
    assert_int_equal(engine_checkpoint_wait(fixture->engine, second), 0);
    expect_checkpoint(fixture->engine, second, 1, NULL);
}

/* ---- random operations against an array ---- */

#define ORACLE_KEYS  2000
#define ORACLE_MARKS 4

struct oracle {
    uint32_t value[ORACLE_KEYS]; /* 0: absent */
};

static void oracle_compare(struct engine_view *view, const struct oracle *oracle)
{
    struct engine_iterator *iterator;
    uint8_t key[8];
    int more;
    size_t next = 0;

    assert_int_equal(engine_iterator_new(view, slice_of("", 0), &iterator), 0);
    more = engine_iterator_seek(iterator, engine_fixture_key(key, 0));
    for (; more > 0; more = engine_iterator_next(iterator)) {
        const struct record *record = engine_iterator_record(iterator);
        uint64_t number = get_be64(record->key.data);

        assert_true(number < ORACLE_KEYS);
        for (; next < number; next++)
            assert_int_equal(oracle->value[next], 0);
        if (record->kind == RECORD_VALUE) {
            assert_int_equal(get_le32(record->value.data), oracle->value[number]);
        } else {
            struct blob_ref ref;
            uint8_t data[BLOB_FRAME_SIZE_MAX];
            struct engine_blob_read read = {&ref, data};

            assert_int_equal(blob_ref_decode(record->value, &ref), 0);
            assert_int_equal(engine_blob_read(view, &read, 1), 0);
            assert_int_equal(get_le32(data), oracle->value[number]);
            assert_int_equal(get_le32(data + ref.length - 4), oracle->value[number]);
        }
        next = number + 1;
    }
    assert_int_equal(more, 0);
    for (; next < ORACLE_KEYS; next++)
        assert_int_equal(oracle->value[next], 0);
    engine_iterator_free(iterator);
}

static void random_put(struct engine *engine, struct batch *batch, uint64_t number, uint32_t value)
{
    uint8_t key[8], data[16384];
    struct blob_ref ref;
    uint32_t size;

    if (rand() % 3 != 0) {
        put_le32(data, value);
        batch_put(batch, engine_fixture_key(key, number),
                  slice_of(data, 4 + (size_t)(rand() % 60)));
        return;
    }
    size = 8 + (uint32_t)rand() % (sizeof data - 8);
    memset(data, (int)value, size);
    if (rand() % 2)
        for (uint32_t i = 0; i < size; i++)
            data[i] = (uint8_t)rand();
    put_le32(data, value);
    put_le32(data + size - 4, value);
    assert_int_equal(engine_blob_append(engine, data, size, &ref), 0);
    batch_put_reference(batch, engine_fixture_key(key, number), &ref);
}

static void random_operations_match_an_oracle_through_reopens_and_checkpoints(void **state)
{
    struct engine_fixture *fixture = *state;
    static struct oracle live, marks[ORACLE_MARKS];
    uint64_t ids[ORACLE_MARKS] = {0};
    uint32_t value = 0;

    srand((unsigned)seed_start(__func__));
    memset(&live, 0, sizeof live);
    for (unsigned step = 0; step < 6000; step++) {
        struct batch batch = {0};
        struct engine_view *pin = engine_view_acquire(fixture->engine);
        uint64_t number = (uint64_t)rand() % ORACLE_KEYS;
        unsigned choice = (unsigned)rand() % 1000;
        uint8_t low[8], high[8];

        if (choice < 800) {
            for (int i = rand() % 8; i >= 0; i--) {
                number = (uint64_t)rand() % ORACLE_KEYS;
                live.value[number] = ++value;
                random_put(fixture->engine, &batch, number, value);
            }
        } else if (choice < 900) {
            batch_delete(&batch, engine_fixture_key(low, number));
            live.value[number] = 0;
        } else if (choice < 985) {
            uint64_t end = number + (uint64_t)rand() % 100;

            batch_delete_range(&batch, engine_fixture_key(low, number),
                               engine_fixture_key(high, end));
            for (uint64_t i = number; i < end && i < ORACLE_KEYS; i++)
                live.value[i] = 0;
        }
        assert_int_equal(engine_write(fixture->engine, &batch, NULL), 0);
        batch_free(&batch);
        engine_view_release(pin);
        if (choice >= 985 && choice < 989) {
            unsigned slot = (unsigned)rand() % ORACLE_MARKS;
            char name[32];

            if (ids[slot] != 0) {
                struct engine_view *view;

                assert_int_equal(engine_checkpoint_view(fixture->engine, ids[slot], &view), 0);
                oracle_compare(view, &marks[slot]);
                engine_view_release(view);
                assert_int_equal(engine_checkpoint_delete(fixture->engine, ids[slot]), 0);
            }
            snprintf(name, sizeof name, "mark-%u", step);
            assert_int_equal(engine_checkpoint_create(fixture->engine, slice_of_string(name),
                                                      slice_of("", 0), &ids[slot]),
                             0);
            marks[slot] = live;
        } else if (choice == 990) {
            engine_fixture_close(fixture);
            engine_fixture_open(fixture);
        } else if (choice == 991) {
            assert_int_equal(engine_compact(fixture->engine), 0);
        } else if (choice >= 992 && choice < 995) {
            assert_int_equal(engine_sync(fixture->engine, engine_sequence(fixture->engine)), 0);
        } else if (choice >= 995 && choice < 998) {
            pin = engine_view_acquire(fixture->engine);
            oracle_compare(pin, &live);
            engine_view_release(pin);
        }
    }
    for (unsigned slot = 0; slot < ORACLE_MARKS; slot++) {
        struct engine_view *view;

        if (ids[slot] == 0)
            continue;
        assert_int_equal(engine_checkpoint_view(fixture->engine, ids[slot], &view), 0);
        oracle_compare(view, &marks[slot]);
        engine_view_release(view);
    }
}

int main(void)
{
#define TEST(name)                                                                                 \
    cmocka_unit_test_setup_teardown(name, engine_fixture_setup, engine_fixture_teardown)
    const struct CMUnitTest tests[] = {
        TEST(batches_are_read_back_after_a_clean_close),
        TEST(r26_a_clean_close_replays_nothing),
        TEST(a_view_never_changes),
        TEST(what_was_deleted_goes_when_it_is_quiet),
        TEST(what_is_left_behind_gives_its_space_back),
        TEST(what_was_synced_survives_a_crash),
        TEST(a_checkpoint_acknowledged_before_a_crash_is_complete),
        TEST(r29_unsynced_writes_are_in_the_checkpoint),
        TEST(small_reads_all_over_a_chunk_fetch_what_is_around_them),
        TEST(after_a_checkpoint_the_next_segment_of_the_log_is_made_ahead),
        TEST(r59_deleting_everything_live_leaves_checkpoints_alone),
        TEST(what_is_frozen_shows_what_is_there_and_changes_nothing),
        TEST(a_copied_checkpoint_directory_is_a_store),
        TEST(names_are_taken_freed_and_renamed),
        TEST(random_operations_match_an_oracle_through_reopens_and_checkpoints),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
