/* SPDX-License-Identifier: Apache-2.0 */
/*
 * snapshot_view.c - opened views, a bounded number of them, least recently used first out
 *
 * A view that is in use stays, whatever the bound says. One that pins the live store (its
 * checkpoint was not materialised when it was opened) is let go with its last user instead of being
 * kept.
 */
#include <errno.h>

#include "snapshot/snapshot_internal.h"

static void ring_remove(struct snapshot *snapshot)
{
    snapshot->newer->older = snapshot->older;
    snapshot->older->newer = snapshot->newer;
    snapshot->newer = snapshot->older = NULL;
}

/* As the most recently used. */
static void ring_insert(struct snapshot_set *set, struct snapshot *snapshot)
{
    snapshot->newer = &set->ring;
    snapshot->older = set->ring.older;
    set->ring.older->newer = snapshot;
    set->ring.older = snapshot;
}

static struct engine_view *detach(struct snapshot *snapshot)
{
    struct engine_view *view = snapshot->view;

    ring_remove(snapshot);
    snapshot->view = NULL;
    snapshot->set->views_open--;
    return view;
}

struct engine_view *snapshot_view_detach_locked(struct snapshot *snapshot)
{
    return snapshot->view != NULL && snapshot->view_users == 0 ? detach(snapshot) : NULL;
}

/* The least recently used view that nobody uses, when there are too many. */
static struct engine_view *evict_locked(struct snapshot_set *set)
{
    if (set->views_open <= set->views_max)
        return NULL;
    for (struct snapshot *oldest = set->ring.newer; oldest != &set->ring; oldest = oldest->newer)
        if (oldest->view_users == 0)
            return detach(oldest);
    return NULL;
}

int snapshot_view_get(struct snapshot *snapshot, struct engine_view **ret_view)
{
    struct snapshot_set *set = snapshot->set;
    struct engine_view *view = NULL, *evicted = NULL;
    int result = 0;

    lock_acquire(&set->list_lock);
    while (snapshot->opening)
        lock_wait(&set->list_lock, &set->view_opened);
    if (snapshot->view != NULL) {
        snapshot->view_users++;
        ring_remove(snapshot);
        ring_insert(set, snapshot);
        *ret_view = snapshot->view;
        lock_release(&set->list_lock);
        return 0;
    }
    snapshot->opening = true;
    lock_release(&set->list_lock);

    result = engine_checkpoint_view(set->engine, snapshot->id, &view);

    lock_acquire(&set->list_lock);
    snapshot->opening = false;
    pthread_cond_broadcast(&set->view_opened);
    if (result == 0) {
        snapshot->view = view;
        snapshot->view_users = 1;
        ring_insert(set, snapshot);
        set->views_open++;
        evicted = evict_locked(set);
        *ret_view = view;
    }
    lock_release(&set->list_lock);
    engine_view_release(evicted);
    return result == -ENOENT ? -ESTALE : result;
}

void snapshot_view_put(struct snapshot *snapshot, struct engine_view *view)
{
    struct snapshot_set *set = snapshot->set;
    struct engine_view *released = NULL;

    lock_acquire(&set->list_lock);
    snapshot->view_users--;
    if (snapshot->view_users == 0 && (snapshot->deleted || engine_view_pins_live(view)))
        released = detach(snapshot);
    else
        released = evict_locked(set);
    lock_release(&set->list_lock);
    engine_view_release(released);
}
