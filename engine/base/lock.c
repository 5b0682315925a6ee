/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lock.c - locks with ranks
 *
 * The calls below fail only when a lock is misused, so every result is an invariant.
 */
#include "engine/base/lock.h"

#include <errno.h>
#include <time.h>

#include "engine/base/invariant.h"

#define NS_PER_SECOND 1000000000u

#ifdef VARVE_DEBUG_LOCKS

/* Stripes may be held by the dozen; more than this at once is a defect of its own. */
#define HELD_MAX 256

static _Thread_local int held_ranks[HELD_MAX];
static _Thread_local int held_count;

static int rank_highest(void)
{
    int highest = -1;

    for (int i = 0; i < held_count; i++)
        if (held_ranks[i] > highest)
            highest = held_ranks[i];
    return highest;
}

static void rank_enter(int rank, bool same_rank_allowed)
{
    int highest = rank_highest();

    invariant(rank > highest || (same_rank_allowed && rank == highest));
    invariant(held_count < HELD_MAX);
    held_ranks[held_count++] = rank;
}

static void rank_leave(int rank)
{
    int at = held_count - 1;

    while (at >= 0 && held_ranks[at] != rank)
        at--;
    invariant(at >= 0);
    held_ranks[at] = held_ranks[--held_count];
}

static void rank_expect(int rank)
{
    int at = held_count - 1;

    while (at >= 0 && held_ranks[at] != rank)
        at--;
    invariant(at >= 0);
}

#else

static inline void rank_enter(int rank, bool same_rank_allowed)
{
    (void)rank;
    (void)same_rank_allowed;
}

static inline void rank_leave(int rank)
{
    (void)rank;
}

static inline void rank_expect(int rank)
{
    (void)rank;
}

#endif

void lock_init(struct lock *lock, int rank)
{
    pthread_mutexattr_t attributes;

    invariant(pthread_mutexattr_init(&attributes) == 0);
#ifdef VARVE_DEBUG_LOCKS
    /* Releasing a lock that another thread holds is then found as well. */
    invariant(pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_ERRORCHECK) == 0);
#endif
    invariant(pthread_mutex_init(&lock->mutex, &attributes) == 0);
    invariant(pthread_mutexattr_destroy(&attributes) == 0);
    lock->rank = rank;
}

void lock_destroy(struct lock *lock)
{
    invariant(pthread_mutex_destroy(&lock->mutex) == 0);
}

void lock_acquire(struct lock *lock)
{
    rank_enter(lock->rank, false);
    invariant(pthread_mutex_lock(&lock->mutex) == 0);
}

void lock_acquire_same_rank(struct lock *lock)
{
    rank_enter(lock->rank, true);
    invariant(pthread_mutex_lock(&lock->mutex) == 0);
}

bool lock_try_acquire_same_rank(struct lock *lock)
{
    int result = pthread_mutex_trylock(&lock->mutex);

    invariant(result == 0 || result == EBUSY);
    if (result != 0)
        return false;
    rank_enter(lock->rank, true);
    return true;
}

void lock_release(struct lock *lock)
{
    rank_leave(lock->rank);
    invariant(pthread_mutex_unlock(&lock->mutex) == 0);
}

void lock_wait(struct lock *lock, pthread_cond_t *condition)
{
    rank_expect(lock->rank);
    invariant(pthread_cond_wait(condition, &lock->mutex) == 0);
}

bool lock_wait_until(struct lock *lock, pthread_cond_t *condition, uint64_t deadline_ns)
{
    struct timespec deadline = {
        .tv_sec = (time_t)(deadline_ns / NS_PER_SECOND),
        .tv_nsec = (long)(deadline_ns % NS_PER_SECOND),
    };
    int result;

    rank_expect(lock->rank);
    result = pthread_cond_timedwait(condition, &lock->mutex, &deadline);
    invariant(result == 0 || result == ETIMEDOUT);
    return result == 0;
}

void lock_condition_init(pthread_cond_t *condition)
{
    pthread_condattr_t attributes;

    invariant(pthread_condattr_init(&attributes) == 0);
    invariant(pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC) == 0);
    invariant(pthread_cond_init(condition, &attributes) == 0);
    invariant(pthread_condattr_destroy(&attributes) == 0);
}

void lock_shared_init(struct lock_shared *lock, int rank)
{
    pthread_rwlockattr_t attributes;

    invariant(pthread_rwlockattr_init(&attributes) == 0);
    /*
     * The default lets a stream of readers starve a writer for ever. Preferring writers forbids
     * taking the lock for reading twice in one thread, which the ranks forbid already.
     */
    invariant(pthread_rwlockattr_setkind_np(&attributes,
                                            PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP) == 0);
    invariant(pthread_rwlock_init(&lock->rwlock, &attributes) == 0);
    invariant(pthread_rwlockattr_destroy(&attributes) == 0);
    lock->rank = rank;
}

void lock_shared_destroy(struct lock_shared *lock)
{
    invariant(pthread_rwlock_destroy(&lock->rwlock) == 0);
}

void lock_shared_acquire_read(struct lock_shared *lock)
{
    int result;

    rank_enter(lock->rank, false);
    do
        result = pthread_rwlock_rdlock(&lock->rwlock);
    while (result == EAGAIN); /* too many readers at this moment */
    invariant(result == 0);
}

void lock_shared_acquire_write(struct lock_shared *lock)
{
    rank_enter(lock->rank, false);
    invariant(pthread_rwlock_wrlock(&lock->rwlock) == 0);
}

void lock_shared_release(struct lock_shared *lock)
{
    rank_leave(lock->rank);
    invariant(pthread_rwlock_unlock(&lock->rwlock) == 0);
}

uint64_t clock_monotonic_ns(void)
{
    struct timespec now;

    invariant(clock_gettime(CLOCK_MONOTONIC, &now) == 0);
    return (uint64_t)now.tv_sec * NS_PER_SECOND + (uint64_t)now.tv_nsec;
}
