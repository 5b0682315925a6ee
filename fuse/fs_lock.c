/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fs_lock.c - stripes: one lock for many inodes, taken in stripe order
 *
 * A stripe may be held across I/O, so a thread that finds one taken first hands its role on.
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

void fs_lock(struct fs *fs, const uint64_t *inos, unsigned count, struct fs_locked *ret_locked)
{
    invariant(count <= sizeof ret_locked->stripes / sizeof ret_locked->stripes[0]);
    ret_locked->count = 0;
    for (unsigned i = 0; i < count; i++)
        if (inos[i] != 0)
            insert_stripe(ret_locked, (uint32_t)(inos[i] % FS_STRIPES));

    for (unsigned i = 0; i < ret_locked->count; i++) {
        struct lock *stripe = &fs->stripes[ret_locked->stripes[i]];

        if (lock_try_acquire_same_rank(stripe))
            continue;
        blocking_enter();
        lock_acquire_same_rank(stripe);
    }
}

void fs_unlock(struct fs *fs, struct fs_locked *locked)
{
    while (locked->count > 0)
        lock_release(&fs->stripes[locked->stripes[--locked->count]]);
}
