/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lock.h - mutexes and reader-writer locks with ranks
 *
 * A thread takes locks in rising rank only. With VARVE_DEBUG_LOCKS (debug builds) each thread keeps
 * the ranks it holds and taking one that is not higher than all held is a broken invariant.
 * The ranks, what each guards and whether I/O may happen under it: docs/concurrency.md.
 */
#ifndef VARVE_ENGINE_BASE_LOCK_H
#define VARVE_ENGINE_BASE_LOCK_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

enum lock_rank {
    LOCK_RANK_LL_PREFETCH = 6, /* OPEN of a snapshot's file: held across I/O */
    LOCK_RANK_SNAPSHOT_CHANGE = 10, /* create, delete, rename of snapshots: held across I/O */
    LOCK_RANK_FS_RENAME = 16,       /* one directory changes its parent at a time: held across I/O */
    LOCK_RANK_FS_INODE = 20,        /* stripes; several are taken in stripe order */
    LOCK_RANK_FS_ATIME = 22, /* writing times of reading: held across I/O */
    LOCK_RANK_FS_VERSION = 23, /* versions are gathered from snapshots: held across I/O */
    LOCK_RANK_FS_TABLE = 24,
    LOCK_RANK_SNAPSHOT_LIST = 26,
    LOCK_RANK_ENGINE_NAMES = 28,   /* what stands in checkpoints/: held across I/O and syncs */
    LOCK_RANK_ENGINE_INSTALL = 30, /* one manifest change at a time: held across I/O */
    LOCK_RANK_ENGINE_WRITE = 40,   /* the one writer order */
    LOCK_RANK_BLOB = 44,
    LOCK_RANK_WAL = 48,
    LOCK_RANK_MEMTABLE = 52,
    LOCK_RANK_ENGINE_CHECKPOINT = 54, /* the list of checkpoints */
    LOCK_RANK_ENGINE_VIEW = 56, /* superversion pointer, view list */
    LOCK_RANK_MANIFEST = 60,
    LOCK_RANK_TABLE_CACHE = 64,
    LOCK_RANK_BLOCK_CACHE = 68,
    LOCK_RANK_IO = 72,
    LOCK_RANK_FUSE_LOOP = 80, /* taken by blocking_enter(), so under any of the above */
    LOCK_RANK_LEAF = 90 /* statistics, log, free lists: nothing is taken under it */
};

struct lock {
    pthread_mutex_t mutex;
    int rank;
};

struct lock_shared {
    pthread_rwlock_t rwlock;
    int rank;
};

void lock_init(struct lock *lock, int rank);
void lock_destroy(struct lock *lock);
void lock_acquire(struct lock *lock);
void lock_release(struct lock *lock);

/* Like lock_acquire, but several locks of this rank may be held (stripes, taken in order). */
void lock_acquire_same_rank(struct lock *lock);

/* The same without waiting: false when somebody holds it. */
bool lock_try_acquire_same_rank(struct lock *lock);

/* pthread_cond_wait on the lock's mutex; the condition must use CLOCK_MONOTONIC when timed. */
void lock_wait(struct lock *lock, pthread_cond_t *condition);

/* The same until `deadline_ns` on CLOCK_MONOTONIC; false when the time ran out. */
bool lock_wait_until(struct lock *lock, pthread_cond_t *condition, uint64_t deadline_ns);

/* A condition variable on CLOCK_MONOTONIC. */
void lock_condition_init(pthread_cond_t *condition);

void lock_shared_init(struct lock_shared *lock, int rank);
void lock_shared_destroy(struct lock_shared *lock);
void lock_shared_acquire_read(struct lock_shared *lock);
void lock_shared_acquire_write(struct lock_shared *lock);
void lock_shared_release(struct lock_shared *lock);

/* Nanoseconds of CLOCK_MONOTONIC. */
uint64_t clock_monotonic_ns(void);

#endif
