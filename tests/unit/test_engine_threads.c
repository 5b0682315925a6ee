/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_engine_threads.c - the engine under several threads: order, exactness, one winner a name
 *
 * Run under TSan as well. Each writer owns a range of keys and writes a rising number to them;
 * whoever reads at one sequence number must see each writer's numbers without a gap.
 */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/lib/engine_fixture.h"
#include "tests/lib/fault_io.h"

#define WRITERS     8
#define KEYS_EACH   64
#define ROUNDS      400
#define CHECKPOINTS 24

struct shared {
    struct engine *engine;
    atomic_bool stop;
    bool endless;
    atomic_ullong synced[WRITERS]; /* the highest number that a sync has acknowledged */
    atomic_int failures;
};

struct writer {
    struct shared *shared;
    unsigned index;
    uint64_t number;
};

/* Number n goes to key n % KEYS_EACH of the writer, with n in a second, per-writer counter key: one
 * batch. */
static int write_number(struct engine *engine, unsigned writer, uint64_t number)
{
    struct batch batch = {0};
    uint8_t key[8], value[8];
    int result;

    put_le64(value, number);
    batch_put(&batch, engine_fixture_key(key, writer * 1000 + number % KEYS_EACH),
              slice_of(value, sizeof value));
    batch_put(&batch, engine_fixture_key(key, writer * 1000 + 999), slice_of(value, sizeof value));
    result = engine_write(engine, &batch, NULL);
    batch_free(&batch);
    return result;
}

static void *writer_main(void *context)
{
    struct writer *writer = context;
    struct shared *shared = writer->shared;
    uint8_t data[3000] = {0};

    while (!atomic_load(&shared->stop) && (shared->endless || writer->number < ROUNDS)) {
        uint64_t number = writer->number + 1;

        if (write_number(shared->engine, writer->index, number) < 0)
            atomic_fetch_add(&shared->failures, 1);
        writer->number = number;
        if (number % 16 == writer->index) {
            uint64_t sequence = engine_sequence(shared->engine);

            if (engine_sync(shared->engine, sequence) < 0)
                atomic_fetch_add(&shared->failures, 1);
            atomic_store(&shared->synced[writer->index], number);
        }
        if (number % 7 == 0) {
            struct engine_view *view = engine_view_acquire(shared->engine);
            struct batch batch = {0};
            struct blob_ref ref;
            uint8_t key[8];

            memset(data, (int)number, sizeof data);
            if (engine_blob_append(shared->engine, data, sizeof data, &ref) < 0)
                atomic_fetch_add(&shared->failures, 1);
            batch_put_reference(&batch, engine_fixture_key(key, writer->index * 1000 + 500), &ref);
            if (engine_write(shared->engine, &batch, NULL) < 0)
                atomic_fetch_add(&shared->failures, 1);
            batch_free(&batch);
            engine_view_release(view);
        }
    }
    return NULL;
}

static uint64_t number_at(struct engine_view *view, uint64_t key_number)
{
    struct buffer value = {0};
    uint8_t key[8];
    uint64_t number = 0;
    int found = engine_view_get(view, engine_fixture_key(key, key_number), &value, NULL);

    if (found < 0)
        return UINT64_MAX;
    if (found > 0)
        number = get_le64(value.data);
    buffer_free(&value);
    return number;
}

/* Each writer's counter and its last KEYS_EACH numbers agree. Returns the number of contradictions.
 */
static int contradictions(struct engine_view *view)
{
    int found = 0;

    for (unsigned writer = 0; writer < WRITERS; writer++) {
        uint64_t counter = number_at(view, writer * 1000 + 999);

        for (uint64_t back = 0; back < KEYS_EACH && back < counter; back++)
            found +=
                number_at(view, writer * 1000 + (counter - back) % KEYS_EACH) != counter - back;
    }
    return found;
}

static void *reader_main(void *context)
{
    struct shared *shared = context;

    while (!atomic_load(&shared->stop)) {
        struct engine_view *view = engine_view_acquire(shared->engine);

        atomic_fetch_add(&shared->failures, contradictions(view));
        engine_view_release(view);
    }
    return NULL;
}

static void start_writers(struct shared *shared, struct writer *writers, pthread_t *threads)
{
    for (unsigned i = 0; i < WRITERS; i++) {
        writers[i] = (struct writer){shared, i, 0};
        assert_int_equal(pthread_create(&threads[i], NULL, writer_main, &writers[i]), 0);
    }
}

static void views_and_checkpoints_are_exact_under_eight_writers(void **state)
{
    struct engine_fixture *fixture = *state;
    struct shared shared = {.engine = fixture->engine};
    struct writer writers[WRITERS];
    pthread_t threads[WRITERS], reader;
    uint64_t ids[CHECKPOINTS];

    start_writers(&shared, writers, threads);
    assert_int_equal(pthread_create(&reader, NULL, reader_main, &shared), 0);
    for (unsigned i = 0; i < CHECKPOINTS; i++) {
        char name[16];

        snprintf(name, sizeof name, "c%u", i);
        assert_int_equal(engine_checkpoint_create(fixture->engine, slice_of_string(name),
                                                  slice_of("", 0), &ids[i]),
                         0);
        if (i % 3 == 2) {
            assert_int_equal(engine_checkpoint_delete(fixture->engine, ids[i]), 0);
            ids[i] = 0;
        }
    }
    for (unsigned i = 0; i < WRITERS; i++)
        pthread_join(threads[i], NULL);
    atomic_store(&shared.stop, true);
    pthread_join(reader, NULL);
    assert_int_equal(shared.failures, 0);
    assert_int_equal(engine_compact(fixture->engine), 0);
    for (unsigned i = 0; i < CHECKPOINTS; i++) {
        struct engine_view *view;

        if (ids[i] == 0)
            continue;
        assert_int_equal(engine_checkpoint_wait(fixture->engine, ids[i]), 0);
        assert_int_equal(engine_checkpoint_view(fixture->engine, ids[i], &view), 0);
        assert_int_equal(contradictions(view), 0);
        engine_view_release(view);
    }
}

/* Killed at some moment. Or, with `stall_at`: one sync takes its time, so that everybody writes
 * meanwhile and waits, and nothing that comes after it reaches a file. */
static void crash_body(struct engine_fixture *fixture, int pipe_end, uint64_t stall_at)
{
    struct shared shared = {.endless = true};
    struct writer writers[WRITERS];
    pthread_t threads[WRITERS];
    uint64_t synced[WRITERS];
    struct fault_io *fault;
    struct io *io;

    if (io_open_backend(IO_BACKEND_SYNC, &io) < 0)
        _exit(2);
    fault = fault_io_new(io);
    fixture->options.io = fault_io_get(fault);
    if (engine_open(&fixture->options, &fixture->engine) < 0)
        _exit(3);
    shared.engine = fixture->engine;
    if (stall_at > 0)
        fault_io_stall(fault, FAULT_SYNC, stall_at);
    start_writers(&shared, writers, threads);
    if (stall_at > 0) {
        fault_io_wait_stalled(fault);
        usleep(10000);
        fault_io_stall(fault, FAULT_WRITE, 1);
        fault_io_clear(fault, FAULT_SYNC);
    }
    usleep(1000 * (unsigned)(5 + getpid() % 60));
    for (unsigned i = 0; i < WRITERS; i++)
        synced[i] = atomic_load(&shared.synced[i]);
    if (write(pipe_end, synced, sizeof synced) != sizeof synced)
        _exit(4);
    kill(getpid(), SIGKILL);
}

static void r1_replay_order_is_acknowledgement_order_under_eight_writers(void **state)
{
    struct engine_fixture *fixture = *state;

    engine_fixture_close(fixture);
    for (unsigned round = 0; round < 12; round++) {
        uint64_t synced[WRITERS];
        struct engine_view *view;
        int ends[2], status;
        pid_t child;

        assert_int_equal(pipe(ends), 0);
        child = fork();
        if (child == 0)
            crash_body(fixture, ends[1], round % 2 == 0 ? 0 : round);
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
        assert_int_equal(read(ends[0], synced, sizeof synced), sizeof synced);
        close(ends[0]);
        close(ends[1]);
        engine_fixture_open(fixture);
        view = engine_view_acquire(fixture->engine);
        assert_int_equal(contradictions(view), 0);
        for (unsigned i = 0; i < WRITERS; i++)
            assert_true(number_at(view, i * 1000 + 999) >= synced[i]);
        engine_view_release(view);
        engine_fixture_close(fixture);
    }
}

struct creator {
    struct engine *engine;
    int result;
};

static void *creator_main(void *context)
{
    struct creator *creator = context;
    uint64_t id;

    creator->result =
        engine_checkpoint_create(creator->engine, slice_of_string("one"), slice_of("", 0), &id);
    return NULL;
}

static void r55_of_sixteen_creators_of_one_name_one_wins(void **state)
{
    struct engine_fixture *fixture = *state;
    struct fault_io *fault = fault_io_new(fixture->io);
    struct creator creators[16];
    pthread_t threads[16];
    int won = 0, lost = 0;

    engine_fixture_close(fixture);
    fixture->options.io = fault_io_get(fault);
    engine_fixture_open(fixture);
    fault_io_stall(fault, FAULT_SYNC, 1); /* whoever is first is not done before the last begins */
    for (unsigned i = 0; i < 16; i++) {
        creators[i] = (struct creator){fixture->engine, 1};
        assert_int_equal(pthread_create(&threads[i], NULL, creator_main, &creators[i]), 0);
    }
    fault_io_wait_stalled(fault);
    usleep(20000);
    fault_io_clear(fault, FAULT_SYNC);
    for (unsigned i = 0; i < 16; i++) {
        pthread_join(threads[i], NULL);
        won += creators[i].result == 0;
        lost += creators[i].result == -EEXIST;
    }
    assert_int_equal(won, 1);
    assert_int_equal(lost, 15);
    engine_fixture_close(fixture);
    fault_io_free(fault);
    fixture->options.io = fixture->io;
    engine_fixture_open(fixture);
}

int main(void)
{
#define TEST(name)                                                                                 \
    cmocka_unit_test_setup_teardown(name, engine_fixture_setup, engine_fixture_teardown)
    const struct CMUnitTest tests[] = {
        TEST(views_and_checkpoints_are_exact_under_eight_writers),
        TEST(r1_replay_order_is_acknowledgement_order_under_eight_writers),
        TEST(r55_of_sixteen_creators_of_one_name_one_wins),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
