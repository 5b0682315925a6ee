/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_engine_pace.c - what merging does not take from those who work with the store
 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/lib/engine_fixture.h"
#include "tests/lib/seed.h"

#define BLOBS      16000
#define BLOB_SIZE  4096
#define KEPT_EVERY 5 /* the others are deleted: more is dead than lives */
#define OTHER_KEYS UINT64_C(1000000)

struct worker {
    struct engine *engine;
    atomic_bool stop;
    int error;
};

/* A program that writes a little and syncs, over and over; so little that no tables come of it. */
static void *worker_main(void *context)
{
    static const struct timespec pause = {.tv_nsec = 200000};
    struct worker *worker = context;
    struct engine_statistics statistics;

    for (uint64_t i = 0; worker->error == 0 && !atomic_load(&worker->stop); i++) {
        worker->error = engine_fixture_put(worker->engine, OTHER_KEYS + i % 64, 8);
        engine_get_statistics(worker->engine, &statistics);
        if (worker->error == 0)
            worker->error = engine_sync(worker->engine, statistics.sequence);
        nanosleep(&pause, NULL);
    }
    return NULL;
}

static void fill_blob(uint8_t *to, uint64_t number)
{
    uint64_t random = number + 1;

    for (size_t at = 0; at < BLOB_SIZE; at += 8)
        put_le64(to + at, seed_next(&random));
}

static void put_blobs(struct engine *engine)
{
    uint8_t data[BLOB_SIZE], key[8];
    struct batch batch = {0};
    struct blob_ref ref;

    for (uint64_t i = 0; i < BLOBS; i++) {
        struct engine_view *view = engine_view_acquire(engine);

        fill_blob(data, i);
        assert_int_equal(engine_blob_append(engine, data, BLOB_SIZE, &ref), 0);
        batch_put_reference(&batch, engine_fixture_key(key, i), &ref);
        assert_int_equal(engine_write(engine, &batch, NULL), 0);
        batch_clear(&batch);
        engine_view_release(view);
    }
    batch_free(&batch);
    assert_int_equal(engine_compact(engine), 0);
}

static void delete_blobs(struct engine *engine, bool kept)
{
    struct batch batch = {0};
    uint8_t key[8];

    for (uint64_t i = 0; i < BLOBS; i++) {
        if ((i % KEPT_EVERY == 0) != kept)
            continue;
        batch_delete(&batch, engine_fixture_key(key, i));
        assert_int_equal(engine_write(engine, &batch, NULL), 0);
        batch_clear(&batch);
    }
    batch_free(&batch);
}

static void wait_until(struct engine *engine, uint64_t rests, uint64_t bytes_copied)
{
    static const struct timespec pause = {.tv_nsec = 2000000};
    struct engine_statistics statistics;

    do {
        nanosleep(&pause, NULL);
        engine_get_statistics(engine, &statistics);
    } while (statistics.compaction_rests < rests ||
             statistics.compaction_bytes_copied < bytes_copied);
}

static void begin_work(struct worker *worker, pthread_t *ret_thread)
{
    assert_int_equal(pthread_create(ret_thread, NULL, worker_main, worker), 0);
}

static void end_work(struct worker *worker, pthread_t thread)
{
    atomic_store(&worker->stop, true);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(worker->error, 0);
}

static void assert_rest_is_there(struct engine *engine)
{
    struct engine_view *view = engine_view_acquire(engine);
    uint8_t expected[BLOB_SIZE], found[BLOB_SIZE], key[8];
    struct buffer scratch = {0};

    for (uint64_t i = 0; i < BLOBS; i += KEPT_EVERY) {
        struct record record;
        struct blob_ref ref;
        struct engine_blob_read read = {.to = found};

        assert_int_equal(engine_view_get(view, engine_fixture_key(key, i), &scratch, &record), 1);
        assert_int_equal(blob_ref_decode(record.value, &ref), 0);
        read.ref = &ref;
        assert_int_equal(engine_blob_read(view, &read, 1), 0);
        fill_blob(expected, i);
        assert_memory_equal(found, expected, BLOB_SIZE);
    }
    buffer_free(&scratch);
    engine_view_release(view);
}

/* Data is copied out of dying chunks in pieces, with rests between them, as long as somebody syncs; and
 * closing does not wait for them. */
static void copying_rests_while_others_sync(void **state)
{
    struct engine_fixture *fixture = *state;
    struct worker worker = {.engine = fixture->engine};
    pthread_t thread;

    put_blobs(fixture->engine);
    begin_work(&worker, &thread);
    delete_blobs(fixture->engine, false);
    alarm(100);
    wait_until(fixture->engine, 3, 1);
    end_work(&worker, thread);
    assert_rest_is_there(fixture->engine);
    assert_int_equal(engine_compact(fixture->engine), 0);
    assert_rest_is_there(fixture->engine);
    engine_fixture_close(fixture);
    alarm(0);
}

/* Deletes what is just being copied, and says so; false when it came too late, because the machine is
 * busy. */
static bool delete_what_is_copied(struct engine *engine, uint64_t *ret_copied)
{
    struct worker worker = {.engine = engine};
    struct engine_statistics before, then, after;
    struct batch batch = {.freed_bytes = BLOBS * BLOB_SIZE};
    uint8_t key[8];
    pthread_t thread;

    engine_get_statistics(engine, &before);
    put_blobs(engine);
    begin_work(&worker, &thread);
    delete_blobs(engine, false);
    wait_until(engine, 0, before.compaction_bytes_copied + 1);
    batch_delete(&batch, engine_fixture_key(key, 0));
    assert_int_equal(engine_write(engine, &batch, NULL), 0);
    engine_get_statistics(engine, &then);
    delete_blobs(engine, true);
    end_work(&worker, thread);
    batch_free(&batch);
    assert_int_equal(engine_compact(engine), 0);
    engine_get_statistics(engine, &after);
    *ret_copied = after.compaction_bytes_copied - before.compaction_bytes_copied;
    return then.compaction_bytes_copied - before.compaction_bytes_copied <
           BLOBS / KEPT_EVERY * BLOB_SIZE / 2;
}

static void what_is_left_behind_meanwhile_is_not_copied(void **state)
{
    struct engine_fixture *fixture = *state;
    uint64_t copied;

    alarm(110);
    while (!delete_what_is_copied(fixture->engine, &copied))
        continue;
    assert_in_range(copied, 1, BLOBS / KEPT_EVERY * BLOB_SIZE * 3 / 4);
    alarm(0);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(copying_rests_while_others_sync, engine_fixture_setup,
                                        engine_fixture_teardown),
        cmocka_unit_test_setup_teardown(what_is_left_behind_meanwhile_is_not_copied,
                                        engine_fixture_setup, engine_fixture_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
