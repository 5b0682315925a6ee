/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_engine_rollback.c - the state becomes that of a checkpoint, wholly or not at all
 *
 * A model keeps what each checkpoint shows. Records come back under the numbers they had, so the
 * comparison is of keys, numbers and values.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/engine_internal.h"
#include "tests/lib/engine_fixture.h"
#include "tests/lib/seed.h"
#include "tests/lib/test_fault_io.h"

#define KEYS      1500
#define DATA_SIZE 3000
#define PATCH_KEY UINT64_C(1000000)

static void make_data(uint64_t number, uint8_t data[DATA_SIZE])
{
    uint64_t random = number;

    for (size_t i = 0; i < DATA_SIZE; i++)
        data[i] = (uint8_t)seed_next(&random);
}

/* Values say by which data they are made, so that what is read can be checked. */
static void put(struct engine *engine, uint64_t key_number, uint64_t data_number, bool blob)
{
    struct engine_view *view = engine_view_acquire(engine);
    struct batch batch = {0};
    uint8_t key[8], data[DATA_SIZE];
    struct blob_ref ref;

    make_data(data_number, data);
    put_be64(data, data_number);
    engine_fixture_key(key, key_number);
    if (blob) {
        assert_int_equal(engine_blob_append(engine, data, DATA_SIZE, &ref), 0);
        batch_put_reference(&batch, slice_of(key, 8), &ref);
    } else {
        batch_put(&batch, slice_of(key, 8), slice_of(data, 50));
    }
    assert_int_equal(engine_write(engine, &batch, NULL), 0);
    engine_view_release(view);
    batch_free(&batch);
}

static void delete_some(struct engine *engine, uint64_t start, uint64_t count)
{
    struct batch batch = {0};
    uint8_t low[8], high[8];

    if (count == 1)
        batch_delete(&batch, engine_fixture_key(low, start));
    else
        batch_delete_range(&batch, engine_fixture_key(low, start),
                           engine_fixture_key(high, start + count));
    assert_int_equal(engine_write(engine, &batch, NULL), 0);
    batch_free(&batch);
}

static void change(struct engine *engine, uint64_t *random)
{
    for (uint64_t i = seed_below(random, 500); i > 0; i--) {
        uint64_t key = seed_below(random, KEYS);

        switch (seed_below(random, 10)) {
        case 0:
            delete_some(engine, key, 1);
            break;
        case 1:
            delete_some(engine, key, 2 + seed_below(random, 20));
            break;
        default:
            put(engine, key, seed_next(random), seed_below(random, 5) == 0);
            break;
        }
    }
}

/* ---- what a view shows ---- */

struct shown {
    struct buffer bytes; /* key, number, first bytes of the data; one after the other */
};

static void show_record(struct engine_view *view, const struct record *record, struct shown *shown)
{
    uint8_t line[24], data[DATA_SIZE], expected[DATA_SIZE];
    struct blob_ref ref;

    memcpy(line, record->key.data, 8);
    put_be64(line + 8, record->sequence);
    if (record->kind == RECORD_REFERENCE) {
        assert_int_equal(blob_ref_decode(record->value, &ref), 0);
        assert_int_equal(engine_blob_read(view, &(struct engine_blob_read){&ref, data}, 1), 0);
        make_data(get_be64(data), expected);
        assert_memory_equal(data + 8, expected + 8, DATA_SIZE - 8);
        memcpy(line + 16, data, 8);
    } else {
        memcpy(line + 16, record->value.data, 8);
    }
    assert_int_equal(buffer_append(&shown->bytes, line, sizeof line), 0);
}

/* All below the patch's key. */
static struct shown show(struct engine_view *view)
{
    struct engine_iterator *iterator;
    struct shown shown = {0};
    uint8_t bound[8];
    int found;

    assert_int_equal(engine_iterator_new(view, engine_fixture_key(bound, PATCH_KEY), &iterator), 0);
    for (found = engine_iterator_seek(iterator, slice_of("", 1)); found > 0;
         found = engine_iterator_next(iterator))
        show_record(view, engine_iterator_record(iterator), &shown);
    assert_int_equal(found, 0);
    engine_iterator_free(iterator);
    return shown;
}

static struct shown show_live(struct engine *engine)
{
    struct engine_view *view = engine_view_acquire(engine);
    struct shown shown = show(view);

    engine_view_release(view);
    return shown;
}

static void assert_same(const struct shown *a, const struct shown *b)
{
    assert_int_equal(a->bytes.size, b->bytes.size);
    if (a->bytes.size > 0)
        assert_memory_equal(a->bytes.data, b->bytes.data, a->bytes.size);
}

static void assert_live(struct engine *engine, const struct shown *expected)
{
    struct shown live = show_live(engine);

    assert_same(&live, expected);
    buffer_free(&live.bytes);
}

static uint64_t checkpoint(struct engine *engine, const char *name)
{
    uint64_t id;

    assert_int_equal(
        engine_checkpoint_create(engine, slice_of_string(name), slice_of(NULL, 0), &id), 0);
    return id;
}

static void make_patch(struct batch *batch, uint64_t number)
{
    uint8_t key[8], value[8];

    *batch = (struct batch){0};
    put_be64(value, number);
    batch_put(batch, engine_fixture_key(key, PATCH_KEY), slice_of(value, 8));
}

static uint64_t read_patch(struct engine *engine)
{
    struct engine_view *view = engine_view_acquire(engine);
    struct buffer value = {0};
    uint64_t number = 0;
    uint8_t key[8];

    if (engine_view_get(view, engine_fixture_key(key, PATCH_KEY), &value, NULL) > 0)
        number = get_be64(value.data);
    buffer_free(&value);
    engine_view_release(view);
    return number;
}

static int roll_back(struct engine *engine, uint64_t id, uint64_t patch)
{
    struct batch batch;
    int result;

    make_patch(&batch, patch);
    result = engine_rollback(engine, id, &batch);
    batch_free(&batch);
    return result;
}

/* ---- tests ---- */

#define CHECKPOINTS 6

static void random_histories_go_back_exactly(void **state)
{
    struct engine_fixture *fixture = *state;
    uint64_t random = seed_start("engine_rollback");
    struct shown shown[CHECKPOINTS * 4];
    uint64_t ids[CHECKPOINTS * 4];
    size_t count = 0;

    for (int round = 0; round < CHECKPOINTS * 4; round++) {
        struct engine_view *old_view;
        struct shown old;
        char name[16];
        size_t target;

        change(fixture->engine, &random);
        if (seed_below(&random, 4) == 0)
            assert_int_equal(engine_compact(fixture->engine), 0);
        snprintf(name, sizeof name, "c%d", round);
        ids[count] = checkpoint(fixture->engine, name);
        shown[count++] = show_live(fixture->engine);
        change(fixture->engine, &random);
        if (seed_below(&random, 3) > 0)
            continue;

        target = seed_below(&random, count);
        old_view = engine_view_acquire(fixture->engine);
        old = show(old_view);
        assert_int_equal(roll_back(fixture->engine, ids[target], (uint64_t)round), 0);
        assert_live(fixture->engine, &shown[target]);
        assert_int_equal(read_patch(fixture->engine), round);
        /* What was looked at before stays as it was, and so does every checkpoint. */
        {
            struct shown still = show(old_view);

            assert_same(&still, &old);
            buffer_free(&still.bytes);
        }
        engine_view_release(old_view);
        buffer_free(&old.bytes);
        if (seed_below(&random, 2) == 0)
            assert_int_equal(engine_compact(fixture->engine), 0);
        if (seed_below(&random, 2) == 0) {
            engine_fixture_close(fixture);
            engine_fixture_open(fixture);
        }
        assert_live(fixture->engine, &shown[target]);
        for (size_t i = 0; i < count; i++) {
            struct engine_view *view;
            struct shown still;

            assert_int_equal(engine_checkpoint_view(fixture->engine, ids[i], &view), 0);
            still = show(view);
            assert_same(&still, &shown[i]);
            buffer_free(&still.bytes);
            engine_view_release(view);
        }
    }
    for (size_t i = 0; i < count; i++)
        buffer_free(&shown[i].bytes);
}

static void numbers_go_on_and_what_is_written_afterwards_counts(void **state)
{
    struct engine_fixture *fixture = *state;
    uint64_t id, before;
    struct shown live;

    put(fixture->engine, 1, 11, false);
    id = checkpoint(fixture->engine, "c");
    put(fixture->engine, 1, 12, false);
    put(fixture->engine, 2, 22, true);
    before = engine_sequence(fixture->engine);
    assert_int_equal(roll_back(fixture->engine, id, 7), 0);
    assert_true(engine_sequence(fixture->engine) > before);
    put(fixture->engine, 1, 13, false);
    engine_fixture_close(fixture);
    engine_fixture_open(fixture);
    live = show_live(fixture->engine);
    assert_int_equal(live.bytes.size, 24);
    assert_int_equal(get_be64(live.bytes.data + 16), 13);
    buffer_free(&live.bytes);
}

/* The live tree has nothing any more of what the checkpoint holds. */
static void chunks_that_the_live_store_lost_come_back(void **state)
{
    struct engine_fixture *fixture = *state;
    struct engine_statistics statistics;
    struct shown shown;
    uint64_t id;

    for (uint64_t i = 0; i < KEYS; i++)
        put(fixture->engine, i, i + 1, i % 3 == 0);
    id = checkpoint(fixture->engine, "c");
    shown = show_live(fixture->engine);
    assert_int_equal(engine_checkpoint_wait(fixture->engine, id), 0);
    delete_some(fixture->engine, 0, KEYS);
    assert_int_equal(engine_compact(fixture->engine), 0);
    engine_get_statistics(fixture->engine, &statistics);
    assert_int_equal(statistics.blob_live_bytes, 0);
    assert_int_equal(roll_back(fixture->engine, id, 1), 0);
    assert_live(fixture->engine, &shown);
    /* They are the live store's own now. */
    assert_int_equal(engine_checkpoint_delete(fixture->engine, id), 0);
    assert_int_equal(engine_compact(fixture->engine), 0);
    assert_live(fixture->engine, &shown);
    engine_fixture_close(fixture);
    engine_fixture_open(fixture);
    assert_live(fixture->engine, &shown);
    buffer_free(&shown.bytes);
}

/* A table that was merged away, still pinned by a view, is the live store's again: the deletion
 * that waits for the view must not happen. */
static void a_deletion_that_waits_is_called_off(void **state)
{
    struct engine_fixture *fixture = *state;
    struct engine_view *pin;
    struct shown shown;
    uint64_t id;

    for (uint64_t i = 0; i < KEYS; i++)
        put(fixture->engine, i, i + 1, false);
    id = checkpoint(fixture->engine, "c");
    shown = show_live(fixture->engine);
    assert_int_equal(engine_checkpoint_wait(fixture->engine, id), 0);
    pin = engine_view_acquire(fixture->engine);
    put(fixture->engine, 5, 99, false);
    assert_int_equal(engine_compact(fixture->engine), 0);
    assert_int_equal(roll_back(fixture->engine, id, 1), 0);
    engine_view_release(pin);
    assert_int_equal(engine_checkpoint_delete(fixture->engine, id), 0);
    /* Any number of collections later. */
    for (int i = 0; i < 3; i++) {
        put(fixture->engine, PATCH_KEY + 1, 5, false);
        assert_int_equal(engine_flush(fixture->engine), 0);
    }
    assert_live(fixture->engine, &shown);
    engine_fixture_close(fixture);
    engine_fixture_open(fixture);
    assert_live(fixture->engine, &shown);
    buffer_free(&shown.bytes);
}

struct presence {
    char *chunks;
    size_t count;
};

static int is_present(void *context, const struct chunk_identity *identity)
{
    struct presence *presence = context;
    char name[CHUNK_NAME_SIZE], *path;

    chunk_name(name, identity);
    path = test_path(presence->chunks, name);
    assert_int_equal(access(path, F_OK), 0);
    free(path);
    presence->count++;
    return 0;
}

/* Every chunk that the view reads from has its file. */
static void assert_present(struct engine_fixture *fixture, struct engine_view *view)
{
    struct presence presence = {.chunks = test_path(fixture->path, "chunks")};

    assert_int_equal(engine_view_each_chunk(view, is_present, &presence), 0);
    assert_true(presence.count > 0);
    free(presence.chunks);
}

/* The same table is merged away a second time: an older view of the first time says nothing about
 * who needs it now. */
static void a_table_that_came_back_and_went_again_waits_for_its_new_readers(void **state)
{
    struct engine_fixture *fixture = *state;
    struct engine_view *old, *present;
    uint64_t id;

    for (uint64_t i = 0; i < KEYS; i++)
        put(fixture->engine, i, i + 1, false);
    assert_int_equal(engine_compact(fixture->engine), 0);
    id = checkpoint(fixture->engine, "c");
    assert_int_equal(engine_checkpoint_wait(fixture->engine, id), 0);
    old = engine_view_acquire(fixture->engine);
    put(fixture->engine, 5, 99, false);
    assert_int_equal(engine_compact(fixture->engine), 0);
    assert_int_equal(roll_back(fixture->engine, id, 1), 0);
    present = engine_view_acquire(fixture->engine);
    put(fixture->engine, 6, 99, false);
    assert_int_equal(engine_compact(fixture->engine), 0);
    engine_view_release(old);
    assert_int_equal(engine_compact(fixture->engine), 0);
    assert_present(fixture, present);
    engine_view_release(present);
}

static int note_table(void *context, const struct chunk_identity *identity)
{
    struct chunk_identity *table = context;

    if (identity->kind != CHUNK_TABLE)
        return 0;
    *table = *identity;
    return 1;
}

/* As when a collection had taken it from the list before it came back. */
static void a_table_of_the_present_version_is_never_deleted(void **state)
{
    struct engine_fixture *fixture = *state;
    struct engine_view *view;
    struct chunk_identity table;

    put(fixture->engine, 1, 1, false);
    assert_int_equal(engine_flush(fixture->engine), 0);
    view = engine_view_acquire(fixture->engine);
    assert_int_equal(engine_view_each_chunk(view, note_table, &table), 1);
    engine_view_release(view);
    engine_obsolete_table(fixture->engine, &table);
    engine_collect(fixture->engine);
    view = engine_view_acquire(fixture->engine);
    assert_present(fixture, view);
    engine_view_release(view);
}

static void there_must_be_such_a_checkpoint(void **state)
{
    struct engine_fixture *fixture = *state;
    struct batch none = {0};

    assert_int_equal(engine_rollback(fixture->engine, 1, &none), -ENOENT);
    put(fixture->engine, 1, 1, false);
    assert_int_equal(engine_rollback(fixture->engine, checkpoint(fixture->engine, "c"), &none), 0);
}

/* The process ends, or its disk does, at every call that changes the disk: the state is the one
 * before or the checkpoint's, and nothing else. */
static void r31_a_cut_at_any_call_leaves_the_old_state_or_the_new_one(void **state)
{
    struct engine_fixture *fixture = *state;
    struct test_fault_io fault;
    struct io *inner = fixture->io;
    int old_states = 0, new_states = 0;
    unsigned missed = 0;

    /* Not every round has equally many calls: one that ends before its turn is not the end. */
    for (uint64_t nth = 1; missed < 10; nth++) {
        struct shown shown, present;
        uint64_t id;
        char name[32];

        engine_fixture_close(fixture); /* the one before calls the same backend */
        test_fault_io_init(&fault, inner);
        fixture->options.io = &fault.io;
        engine_fixture_open(fixture);
        delete_some(fixture->engine, 0, KEYS);
        for (uint64_t i = 0; i < 40; i++)
            put(fixture->engine, i, nth * 1000 + i, i % 4 == 0);
        snprintf(name, sizeof name, "c%llu", (unsigned long long)nth);
        id = checkpoint(fixture->engine, name);
        shown = show_live(fixture->engine);
        assert_int_equal(engine_checkpoint_wait(fixture->engine, id), 0);
        delete_some(fixture->engine, 0, 30);
        assert_int_equal(engine_compact(fixture->engine), 0);
        for (uint64_t i = 0; i < 10; i++)
            put(fixture->engine, i, nth * 2000 + i, i % 4 == 0);
        present = show_live(fixture->engine);
        assert_int_equal(engine_sync(fixture->engine, engine_sequence(fixture->engine)), 0);

        test_fault_io_arm(&fault, nth, -EIO, true);
        {
            int result = roll_back(fixture->engine, id, nth);

            missed = test_fault_io_struck(&fault) ? 0 : missed + 1;
            (void)engine_close(fixture->engine);
            test_fault_io_arm(&fault, 0, 0, false);
            engine_fixture_open(fixture);
            if (result == 0) {
                assert_live(fixture->engine, &shown);
                new_states++;
            } else {
                struct shown live = show_live(fixture->engine);
                bool old = live.bytes.size == present.bytes.size &&
                           memcmp(live.bytes.data, present.bytes.data, live.bytes.size) == 0;

                if (!old)
                    assert_same(&live, &shown);
                old_states += old;
                new_states += !old;
                buffer_free(&live.bytes);
                /* And it can be done again. */
                assert_int_equal(roll_back(fixture->engine, id, nth), 0);
                assert_live(fixture->engine, &shown);
            }
        }
        buffer_free(&shown.bytes);
        buffer_free(&present.bytes);
        assert_true(nth < 500);
    }
    assert_true(old_states > 3);
    assert_true(new_states > 0);
    engine_fixture_close(fixture);
    fixture->options.io = inner;
    engine_fixture_open(fixture);
}

/* Remove, or cut short, the last file in chunks/ of a checkpoint, in order of names. */
static void damage_last_chunk(const char *store, const char *name, bool is_table)
{
    char *checkpoints = test_path(store, "checkpoints"), *checkpoint = test_path(checkpoints, name);
    char *chunks = test_path(checkpoint, "chunks"), command[9000];

    snprintf(command, sizeof command, "cd '%s' && rm -f \"$(ls | grep '%s$' | tail -n 1)\"", chunks,
             is_table ? "tbl" : "blb");
    assert_int_equal(system(command), 0);
    free(chunks);
    free(checkpoint);
    free(checkpoints);
}

static void r45_what_cannot_be_restored_wholly_is_not_restored_in_part(void **state)
{
    struct engine_fixture *fixture = *state;
    uint64_t id[2], sequence;
    struct shown present;

    for (unsigned i = 0; i < 2; i++) {
        /* Several tables and blob chunks, all of which are gone from the live store afterwards. */
        for (uint64_t j = 0; j < 60; j++) {
            put(fixture->engine, j, 100 + j, j % 3 == 0);
            if (j % 20 == 19)
                assert_int_equal(engine_flush(fixture->engine), 0);
        }
        id[i] = checkpoint(fixture->engine, i == 0 ? "no-table" : "no-blob");
        assert_int_equal(engine_checkpoint_wait(fixture->engine, id[i]), 0);
        damage_last_chunk(fixture->path, i == 0 ? "no-table" : "no-blob", i == 0);
        delete_some(fixture->engine, 0, KEYS);
        assert_int_equal(engine_compact(fixture->engine), 0);
    }
    engine_fixture_close(fixture); /* what waits for deletion goes */
    engine_fixture_open(fixture);
    for (uint64_t j = 0; j < 30; j++)
        put(fixture->engine, j, 500 + j, false);
    present = show_live(fixture->engine);
    sequence = engine_sequence(fixture->engine);
    assert_int_equal(roll_back(fixture->engine, 1000000, 7), -ENOENT);
    assert_int_equal(read_patch(fixture->engine), 0);
    assert_int_equal(engine_sequence(fixture->engine), sequence);
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(roll_back(fixture->engine, id[i], 8 + i), ERROR_MISSING_CHUNK);
        assert_live(fixture->engine, &present);
        assert_int_equal(engine_latch_reason(fixture->engine, NULL), 0);
    }
    put(fixture->engine, KEYS - 1, 1, true); /* it goes on */
    engine_fixture_close(fixture);
    engine_fixture_open(fixture);
    delete_some(fixture->engine, KEYS - 1, 1);
    assert_live(fixture->engine, &present);
    buffer_free(&present.bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name)                                                                                 \
    cmocka_unit_test_setup_teardown(name, engine_fixture_setup, engine_fixture_teardown)
        TEST(random_histories_go_back_exactly),
        TEST(numbers_go_on_and_what_is_written_afterwards_counts),
        TEST(chunks_that_the_live_store_lost_come_back),
        TEST(a_deletion_that_waits_is_called_off),
        TEST(a_table_that_came_back_and_went_again_waits_for_its_new_readers),
        TEST(a_table_of_the_present_version_is_never_deleted),
        TEST(there_must_be_such_a_checkpoint),
        TEST(r45_what_cannot_be_restored_wholly_is_not_restored_in_part),
        TEST(r31_a_cut_at_any_call_leaves_the_old_state_or_the_new_one),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
