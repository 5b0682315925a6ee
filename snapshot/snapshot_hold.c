/* SPDX-License-Identifier: Apache-2.0 */
/*
 * snapshot_hold.c - holds, and what snapshots take on disk
 */
#include <errno.h>
#include <stdlib.h>

#include "snapshot/snapshot_internal.h"

int snapshot_hold(struct snapshot_set *set, struct slice name, struct slice owner,
                  uint64_t expires_s)
{
    struct snapshot *snapshot;
    int result;

    lock_acquire(&set->change_lock); /* the name stays the snapshot's meanwhile */
    snapshot = snapshot_find(set, name);
    result = snapshot != NULL ? engine_checkpoint_hold(set->engine, snapshot->id, owner, expires_s)
                              : -ENOENT;
    lock_release(&set->change_lock);
    snapshot_unref(snapshot);
    return result;
}

int snapshot_release(struct snapshot_set *set, struct slice name, struct slice owner)
{
    struct snapshot *snapshot;
    int result;

    lock_acquire(&set->change_lock);
    snapshot = snapshot_find(set, name);
    result =
        snapshot != NULL ? engine_checkpoint_release(set->engine, snapshot->id, owner) : -ENOENT;
    lock_release(&set->change_lock);
    snapshot_unref(snapshot);
    return result;
}

int snapshot_each_hold(struct snapshot *snapshot, engine_hold_callback *callback, void *context)
{
    return engine_checkpoint_holds(snapshot->set->engine, snapshot->id, callback, context);
}

static int see_hold(void *context, struct slice owner, uint64_t expires_s)
{
    bool *held = context;

    (void)owner;
    (void)expires_s;
    *held = true;
    return 1;
}

int snapshot_is_held(struct snapshot *snapshot, bool *ret_held)
{
    bool held = false;
    int result = snapshot_each_hold(snapshot, see_hold, &held);

    if (result < 0)
        return result;
    *ret_held = held;
    return 0;
}

int snapshot_usage(struct snapshot_set *set, struct snapshot *const *snapshots, size_t count,
                   struct engine_usage *ret_usage)
{
    uint64_t *ids = calloc(count + 1, sizeof *ids);
    int result;

    if (ids == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < count; i++)
        ids[i] = snapshots[i]->id;
    result = engine_checkpoint_usage(set->engine, ids, count, ret_usage);
    free(ids);
    return result;
}

int snapshot_wait_all(struct snapshot_set *set)
{
    struct snapshot *snapshot;
    uint64_t id = 0;

    while ((snapshot = snapshot_next(set, id)) != NULL) {
        int result;

        id = snapshot->id;
        result = snapshot_wait(set, snapshot);
        snapshot_unref(snapshot);
        if (result == ERROR_LATCHED)
            return result;
        if (error_is_shortage(result))
            break; /* the others would wait it out as well, one after the other */
        /* One that is gone or cannot be made is no reason for the others to wait. */
    }
    return 0;
}
