/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_lock.c - tests of engine/base/lock.h
 *
 * The rank tests need a build with -Ddebug_locks=true; elsewhere they are skipped.
 */
#include "engine/base/lock.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include <cmocka.h>

#include "tests/lib/child.h"

struct shared {
    struct lock lock, sibling, last;
    struct lock_shared lock_shared;
    pthread_cond_t condition;
    uint64_t count, copy;
    bool is_ready;
};

static void shared_init(struct shared *shared)
{
    memset(shared, 0, sizeof *shared);
    lock_init(&shared->lock, LOCK_RANK_WAL);
    lock_init(&shared->sibling, LOCK_RANK_WAL);
    lock_init(&shared->last, LOCK_RANK_LEAF);
    lock_shared_init(&shared->lock_shared, LOCK_RANK_MANIFEST);
    lock_condition_init(&shared->condition);
}

static void shared_destroy(struct shared *shared)
{
    lock_destroy(&shared->lock);
    lock_destroy(&shared->sibling);
    lock_destroy(&shared->last);
    lock_shared_destroy(&shared->lock_shared);
    pthread_cond_destroy(&shared->condition);
}

/* Four threads; `body` returns NULL when all was as it should be. */
static void run_threads(void *(*body)(void *), struct shared *shared)
{
    pthread_t threads[4];

    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, body, shared), 0);
    for (int i = 0; i < 4; i++) {
        void *failure;

        assert_int_equal(pthread_join(threads[i], &failure), 0);
        assert_null(failure);
    }
}

static void *count_under_lock(void *context)
{
    struct shared *shared = context;

    for (int i = 0; i < 50000; i++) {
        lock_acquire(&shared->lock);
        shared->count++;
        lock_release(&shared->lock);
    }
    return NULL;
}

static void lock_excludes(void **state)
{
    struct shared shared;

    (void)state;
    shared_init(&shared);
    run_threads(count_under_lock, &shared);
    assert_int_equal(shared.count, 4 * 50000);
    shared_destroy(&shared);
}

static void *read_and_write_shared(void *context)
{
    struct shared *shared = context;

    for (int i = 0; i < 20000; i++) {
        bool is_equal = true;

        if (i % 4 == 0) {
            lock_shared_acquire_write(&shared->lock_shared);
            shared->count++;
            shared->copy++;
        } else {
            lock_shared_acquire_read(&shared->lock_shared);
            is_equal = shared->count == shared->copy;
        }
        lock_shared_release(&shared->lock_shared);
        if (!is_equal)
            return shared;
    }
    return NULL;
}

static void shared_lock_shows_readers_no_half_write(void **state)
{
    struct shared shared;

    (void)state;
    shared_init(&shared);
    run_threads(read_and_write_shared, &shared);
    assert_int_equal(shared.count, 4 * 5000);
    shared_destroy(&shared);
}

static void *hold_for_reading(void *context)
{
    struct shared *shared = context;

    lock_shared_acquire_read(&shared->lock_shared);
    lock_acquire(&shared->last);
    shared->is_ready = true;
    pthread_cond_broadcast(&shared->condition);
    lock_release(&shared->last);
    lock_shared_release(&shared->lock_shared);
    return NULL;
}

static void shared_lock_lets_readers_in_together(void **state)
{
    struct shared shared;
    pthread_t thread;

    (void)state;
    shared_init(&shared);
    lock_shared_acquire_read(&shared.lock_shared);
    assert_int_equal(pthread_create(&thread, NULL, hold_for_reading, &shared), 0);
    lock_acquire(&shared.last);
    while (!shared.is_ready)
        lock_wait(&shared.last, &shared.condition);
    lock_release(&shared.last);
    lock_shared_release(&shared.lock_shared);
    assert_int_equal(pthread_join(thread, NULL), 0);
    shared_destroy(&shared);
}

static void *write_once(void *context)
{
    struct shared *shared = context;

    lock_shared_acquire_write(&shared->lock_shared);
    shared->count++;
    lock_shared_release(&shared->lock_shared);
    return NULL;
}

static void *read_count(void *context)
{
    struct shared *shared = context;

    lock_shared_acquire_read(&shared->lock_shared);
    shared->copy = shared->count;
    lock_shared_release(&shared->lock_shared);
    return NULL;
}

/* A reader comes while a writer waits for an earlier reader: did it see the write? */
static bool reader_came_after_writer(void)
{
    static const struct timespec pause = {.tv_nsec = 5000000};
    struct shared shared;
    pthread_t writer, reader;
    bool result;

    shared_init(&shared);
    lock_shared_acquire_read(&shared.lock_shared);
    assert_int_equal(pthread_create(&writer, NULL, write_once, &shared), 0);
    nanosleep(&pause, NULL);
    assert_int_equal(pthread_create(&reader, NULL, read_count, &shared), 0);
    nanosleep(&pause, NULL);
    lock_shared_release(&shared.lock_shared);
    assert_int_equal(pthread_join(writer, NULL), 0);
    assert_int_equal(pthread_join(reader, NULL), 0);
    result = shared.copy == 1;
    shared_destroy(&shared);
    return result;
}

/* The pauses make the order likely, not certain: what happens mostly counts. */
static void waiting_writer_goes_before_later_readers(void **state)
{
    int attempts = 0, ordered = 0;

    (void)state;
    for (; attempts < 20 || (ordered <= attempts / 2 && attempts < 200); attempts++)
        ordered += reader_came_after_writer();
    assert_true(ordered > attempts / 2);
}

static void *wake(void *context)
{
    struct shared *shared = context;

    lock_acquire(&shared->lock);
    shared->is_ready = true;
    pthread_cond_signal(&shared->condition);
    lock_release(&shared->lock);
    return NULL;
}

static void wait_releases_the_lock_and_has_it_again(void **state)
{
    struct shared shared;
    pthread_t thread;

    (void)state;
    shared_init(&shared);
    lock_acquire(&shared.lock);
    assert_int_equal(pthread_create(&thread, NULL, wake, &shared), 0);
    while (!shared.is_ready)
        lock_wait(&shared.lock, &shared.condition);
    lock_release(&shared.lock);
    assert_int_equal(pthread_join(thread, NULL), 0);
    shared_destroy(&shared);
}

static void timed_wait_ends_at_its_deadline_and_not_before(void **state)
{
    struct shared shared;
    uint64_t deadline_ns;

    (void)state;
    shared_init(&shared);
    lock_acquire(&shared.lock);
    deadline_ns = clock_monotonic_ns() + 20000000;
    while (lock_wait_until(&shared.lock, &shared.condition, deadline_ns))
        ; /* woken for nothing */
    assert_true(clock_monotonic_ns() >= deadline_ns);
    /* A deadline that has passed does not wait. */
    assert_false(lock_wait_until(&shared.lock, &shared.condition, deadline_ns));
    lock_release(&shared.lock);
    shared_destroy(&shared);
}

static void timed_wait_says_when_it_was_woken(void **state)
{
    struct shared shared;
    pthread_t thread;
    bool in_time = true;

    (void)state;
    shared_init(&shared);
    lock_acquire(&shared.lock);
    assert_int_equal(pthread_create(&thread, NULL, wake, &shared), 0);
    while (!shared.is_ready && in_time)
        in_time =
            lock_wait_until(&shared.lock, &shared.condition, clock_monotonic_ns() + 60000000000u);
    assert_true(in_time);
    lock_release(&shared.lock);
    assert_int_equal(pthread_join(thread, NULL), 0);
    shared_destroy(&shared);
}

/* ---- ranks ---- */

static void take_rising(void *context)
{
    struct shared *shared = context;

    /* Released in another order than taken, and taken again. */
    for (int i = 0; i < 3; i++) {
        lock_acquire(&shared->lock);
        lock_shared_acquire_read(&shared->lock_shared);
        lock_acquire(&shared->last);
        lock_release(&shared->lock);
        lock_shared_release(&shared->lock_shared);
        lock_release(&shared->last);
    }
}

static void take_falling(void *context)
{
    struct shared *shared = context;

    lock_acquire(&shared->last);
    lock_acquire(&shared->lock);
}

static void take_falling_below_shared(void *context)
{
    struct shared *shared = context;

    lock_shared_acquire_read(&shared->lock_shared);
    lock_acquire(&shared->lock);
}

static void take_equal(void *context)
{
    struct shared *shared = context;

    lock_acquire(&shared->lock);
    lock_acquire(&shared->sibling);
}

static void take_equal_as_stripes(void *context)
{
    struct shared *shared = context;

    lock_acquire_same_rank(&shared->lock);
    lock_acquire_same_rank(&shared->sibling);
    lock_acquire(&shared->last);
    lock_release(&shared->last);
    lock_release(&shared->lock);
    lock_release(&shared->sibling);
}

static void take_lower_as_stripe(void *context)
{
    struct shared *shared = context;

    lock_acquire(&shared->last);
    lock_acquire_same_rank(&shared->lock);
}

static void release_what_is_not_held(void *context)
{
    struct shared *shared = context;

    lock_release(&shared->lock);
}

static void check_ranks(child_body *body, bool is_allowed)
{
#ifdef VARVE_DEBUG_LOCKS
    static char output[65536];
    struct shared shared;
    int status;

    shared_init(&shared);
    status = child_run(body, &shared, output, sizeof output);
    if (is_allowed) {
        assert_int_equal(status, 0);
    } else {
        assert_true(status != -1 && WIFSIGNALED(status));
        assert_int_equal(WTERMSIG(status), SIGABRT);
        assert_non_null(strstr(output, "invariant broken"));
    }
    shared_destroy(&shared);
#else
    (void)body;
    (void)is_allowed;
    skip();
#endif
}

static void rising_ranks_are_allowed(void **state)
{
    (void)state;
    check_ranks(take_rising, true);
}

static void falling_ranks_are_found(void **state)
{
    (void)state;
    check_ranks(take_falling, false);
    check_ranks(take_falling_below_shared, false);
    check_ranks(take_lower_as_stripe, false);
}

static void equal_ranks_are_allowed_to_stripes_only(void **state)
{
    (void)state;
    check_ranks(take_equal, false);
    check_ranks(take_equal_as_stripes, true);
}

static void release_of_a_lock_not_held_is_found(void **state)
{
    (void)state;
    check_ranks(release_what_is_not_held, false);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lock_excludes),
        cmocka_unit_test(shared_lock_shows_readers_no_half_write),
        cmocka_unit_test(shared_lock_lets_readers_in_together),
        cmocka_unit_test(waiting_writer_goes_before_later_readers),
        cmocka_unit_test(wait_releases_the_lock_and_has_it_again),
        cmocka_unit_test(timed_wait_ends_at_its_deadline_and_not_before),
        cmocka_unit_test(timed_wait_says_when_it_was_woken),
        cmocka_unit_test(rising_ranks_are_allowed),
        cmocka_unit_test(falling_ranks_are_found),
        cmocka_unit_test(equal_ranks_are_allowed_to_stripes_only),
        cmocka_unit_test(release_of_a_lock_not_held_is_found),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
