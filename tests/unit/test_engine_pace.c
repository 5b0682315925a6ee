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

static void delete_most(struct engine *engine)
{
    struct batch batch = {0};
    uint8_t key[8];

    for (uint64_t i = 0; i < BLOBS; i++) {
        if (i % KEPT_EVERY == 0)
            continue;
        batch_delete(&batch, engine_fixture_key(key, i));
        assert_int_equal(engine_write(engine, &batch, NULL), 0);
        batch_clear(&batch);
    }
    batch_free(&batch);
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
    static const struct timespec pause = {.tv_nsec = 5000000};
    struct engine_fixture *fixture = *state;
    struct worker worker = {.engine = fixture->engine};
    struct engine_statistics statistics;
    pthread_t thread;

    put_blobs(fixture->engine);
    assert_int_equal(pthread_create(&thread, NULL, worker_main, &worker), 0);
    delete_most(fixture->engine);
    alarm(100);
    do {
        nanosleep(&pause, NULL);
        engine_get_statistics(fixture->engine, &statistics);
    } while (statistics.compaction_rests < 3);
    atomic_store(&worker.stop, true);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(worker.error, 0);
    assert_rest_is_there(fixture->engine);
    assert_int_equal(engine_compact(fixture->engine), 0);
    assert_rest_is_there(fixture->engine);
    engine_fixture_close(fixture);
    alarm(0);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(copying_rests_while_others_sync, engine_fixture_setup,
                                        engine_fixture_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
