/* SPDX-License-Identifier: Apache-2.0 */
/*
 * snapshot_internal.h - what the snapshot_*.c files share; nobody else includes it
 */
#ifndef VARVE_SNAPSHOT_SNAPSHOT_INTERNAL_H
#define VARVE_SNAPSHOT_SNAPSHOT_INTERNAL_H

#include <stdatomic.h>

#include "engine/base/lock.h"
#include "snapshot/snapshot.h"

struct snapshot_tags {
    struct snapshot_tag *items; /* strings owned */
    size_t count;
};

struct snapshot {
    atomic_uint references;
    struct snapshot_set *set;
    uint64_t id, sequence;
    struct timespec created;
    struct snapshot_tags tags;
    /* list_lock: */
    char name[SNAPSHOT_NAME_SIZE_MAX + 1];
    bool deleted;
    struct engine_view *view; /* opened, NULL otherwise */
    unsigned view_users;
    bool opening;
    struct snapshot *newer, *older; /* in the ring of opened views, when view != NULL */
};

struct snapshot_set {
    struct engine *engine;
    uint32_t views_max;
    struct lock change_lock; /* LOCK_RANK_SNAPSHOT_CHANGE: one change at a time, held across I/O */
    struct lock list_lock;   /* LOCK_RANK_SNAPSHOT_LIST */
    pthread_cond_t view_opened;
    struct snapshot **items; /* sorted by id, and so by sequence; each a reference */
    size_t count, capacity;
    uint64_t generation; /* moves with every change of the list */
    struct timespec changed;
    uint64_t *borders; /* sequence numbers at which the state went back to an earlier one, rising */
    size_t border_count;
    struct snapshot ring; /* of opened views: ring.newer is the least recently used */
    uint32_t views_open;
};

/* snapshot_payload.c: creation time and tags, as the engine keeps them (docs/on-disk-format.md). */
int snapshot_payload_encode(struct timespec created, const struct snapshot_tag *tags,
                            size_t tag_count, struct buffer *to);
int snapshot_payload_decode(struct slice from, struct timespec *ret_created,
                            struct snapshot_tags *ret_tags); /* 0, -ENOMEM, ERROR_CORRUPT */
void snapshot_tags_free(struct snapshot_tags *tags);

/* snapshot_view.c: drop what is open of a snapshot that was deleted and that nobody uses. The view
 * to be released by the caller outside the lock, or NULL. list_lock held. */
struct engine_view *snapshot_view_detach_locked(struct snapshot *snapshot);

/* snapshot.c; change_lock held. As the functions without _locked. */
int snapshot_create_locked(struct snapshot_set *set, struct slice name,
                           const struct snapshot_tag *tags, size_t tag_count,
                           struct snapshot **ret_snapshot);
int snapshot_delete_locked(struct snapshot_set *set, struct slice name);

/* snapshot_rollback.c: what was remembered of rollbacks, at open. 0 or an error. */
int snapshot_load_borders(struct snapshot_set *set);

/* The record that says when the list changed last: for who must write it again. */
void snapshot_put_changed(struct batch *batch, struct timespec changed);

/* Index of the first snapshot with an id >= `id`; list_lock held. */
size_t snapshot_index_locked(const struct snapshot_set *set, uint64_t id);

#endif
