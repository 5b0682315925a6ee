/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fs_lock.c - stripes: one lock for many inodes, taken in stripe order
 *
 * A stripe may be held across I/O, so a thread that finds one taken first hands its role on.
 *
 * Why a quiet time is quiet: it is announced, then each stripe is taken and given back once. Who
 * had stripes before has given them back by then. Who got the last of his after that sees the
 * announcement, which the mutex carries, gives them back and waits.
 */
#include "fuse/fs_internal.h"

#include "engine/base/blocking.h"
#include "engine/base/invariant.h"

static void insert_stripe(struct fs_locked *locked, uint32_t stripe)
{
    unsigned at = locked->count;

    for (unsigned i = 0; i < locked->count; i++)
        if (locked->stripes[i] == stripe)
            return;
    while (at > 0 && locked->stripes[at - 1] > stripe) {
        locked->stripes[at] = locked->stripes[at - 1];
        at--;
    }
    locked->stripes[at] = stripe;
    locked->count++;
}

static void acquire(struct fs *fs, const struct fs_locked *locked)
{
    for (unsigned i = 0; i < locked->count; i++) {
        struct lock *stripe = &fs->stripes[locked->stripes[i]];

        if (lock_try_acquire_same_rank(stripe))
            continue;
        blocking_enter();
        lock_acquire_same_rank(stripe);
    }
}

static void release(struct fs *fs, const struct fs_locked *locked)
{
    for (unsigned i = locked->count; i > 0; i--)
        lock_release(&fs->stripes[locked->stripes[i - 1]]);
}

static void wait_until_quiet_is_over(struct fs *fs)
{
    blocking_enter();
    lock_acquire(&fs->quiet_lock);
    while (atomic_load_explicit(&fs->quiet, memory_order_relaxed))
        lock_wait(&fs->quiet_lock, &fs->quiet_over);
    lock_release(&fs->quiet_lock);
}

void fs_lock(struct fs *fs, const uint64_t *inos, unsigned count, struct fs_locked *ret_locked)
{
    invariant(count <= sizeof ret_locked->stripes / sizeof ret_locked->stripes[0]);
    ret_locked->count = 0;
    for (unsigned i = 0; i < count; i++)
        if (inos[i] != 0)
            insert_stripe(ret_locked, (uint32_t)(inos[i] % FS_STRIPES));

    acquire(fs, ret_locked);
    while (atomic_load_explicit(&fs->quiet, memory_order_relaxed)) {
        release(fs, ret_locked);
        wait_until_quiet_is_over(fs);
        acquire(fs, ret_locked);
    }
}

void fs_quiet_begin(struct fs *fs)
{
    blocking_enter();
    atomic_store_explicit(&fs->quiet, true, memory_order_relaxed);
    for (unsigned i = 0; i < FS_STRIPES; i++) {
        lock_acquire(&fs->stripes[i]);
        lock_release(&fs->stripes[i]);
    }
}

void fs_quiet_end(struct fs *fs)
{
    lock_acquire(&fs->quiet_lock);
    atomic_store_explicit(&fs->quiet, false, memory_order_relaxed);
    pthread_cond_broadcast(&fs->quiet_over);
    lock_release(&fs->quiet_lock);
}

void fs_unlock(struct fs *fs, struct fs_locked *locked)
{
    release(fs, locked);
    locked->count = 0;
}
