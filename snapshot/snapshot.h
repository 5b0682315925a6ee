/* SPDX-License-Identifier: Apache-2.0 */
/*
 * snapshot.h - named points in time: names, list, views, shared versions
 *
 * Owns:       the list of snapshots of one engine (by name and in order of id), which views are
 * open, the meaning of a checkpoint's payload (snapshot_payload.c: creation time, tags), and the
 *             engine records that remember when the list last changed and where rollbacks cut history.
 *             Knows nothing of files: it sees keys and sequence numbers.
 * Guarantees: a snapshot is absent or complete; creators of one name: one wins, the others -EEXIST
 *             (R55). Names are kept byte for byte (R35).
 * Bounds:     at most views_max opened views are kept (least recently used go; one in use stays).
 * Threads:    any. Locks: LOCK_RANK_SNAPSHOT_CHANGE (create, delete, rename; held across I/O),
 *             LOCK_RANK_SNAPSHOT_LIST (the list; no I/O).
 */
#ifndef VARVE_SNAPSHOT_SNAPSHOT_H
#define VARVE_SNAPSHOT_SNAPSHOT_H

#include <time.h>

#include "engine/engine.h"

#define SNAPSHOT_NAME_SIZE_MAX 255
/* Keys that begin with eight zero bytes and this type byte belong to the snapshot layer. */
#define SNAPSHOT_KEY_TYPE 0x20

struct snapshot_set;
struct snapshot; /* reference-counted; stays usable after its deletion */

struct snapshot_options {
    uint32_t views_max;
};

/* Load the list. The engine outlives the set. */
int snapshot_set_open(struct engine *engine, const struct snapshot_options *options,
                      struct snapshot_set **ret_set);
void snapshot_set_close(struct snapshot_set *set); /* accepts NULL; all references returned */

/* ---- names (snapshot_name.c, pure) ---- */

/* 0; -ENAMETOOLONG above 255 bytes; -EINVAL for "", ".", "..", a '/' or a NUL byte. */
int snapshot_name_check(struct slice name);

/* The default name of a moment: UTC, 20261120T235703Z; attempt n > 1 appends "-n". `to` has room
 * for 40 bytes. */
void snapshot_name_default(char to[40], time_t when, unsigned attempt);

/* ---- changing ---- */

struct snapshot_tag {
    const char *key, *value;
};

/*
 * Create and return when it exists and survives power loss (not yet materialised: snapshot_wait()).
 * An empty name gives the default name. *ret_snapshot is a reference. -EEXIST, -EINVAL,
 * -ENAMETOOLONG, -EROFS, -ENOSPC, -EMFILE past SNAPSHOT_ID_MAX.
 */
int snapshot_create(struct snapshot_set *set, struct slice name, const struct snapshot_tag *tags,
                    size_t tag_count, struct snapshot **ret_snapshot);
int snapshot_wait(struct snapshot_set *set, struct snapshot *snapshot);

/* -ENOENT; -EBUSY (ERROR_HELD) when held. The name is free at once; open views stay valid. */
int snapshot_delete(struct snapshot_set *set, struct slice name);
/* The same of this one, whatever its name is by now. */
int snapshot_delete_this(struct snapshot_set *set, struct snapshot *snapshot);
/* -ENOENT, -EEXIST, -EINVAL, -ENAMETOOLONG. Renaming to itself is success. */
int snapshot_rename(struct snapshot_set *set, struct slice from, struct slice to);

/* ---- going back (snapshot_rollback.c) ---- */

/* How the layer above takes part: both are called by snapshot_rollback() itself. */
struct snapshot_rollback_hooks {
    /* From when this returns 0 until resume() nobody writes but the rollback. It may add records
     * that the state gets besides; they must suit the present state as well. */
    int (*quiesce)(void *context, struct batch *also);
    /* Called once after a successful quiesce(); `result` is that of the whole. */
    void (*resume)(void *context, int result);
    void *context;
};

/*
 * The live state becomes that of the snapshot; every snapshot stays. The state before is kept as one
 * more, *ret_before (a reference), called "before-rollback-" and the time. Atomic and durable, see
 * engine_rollback(). -ENOENT; those of snapshot_create(), engine_rollback() and the hook.
 */
int snapshot_rollback(struct snapshot_set *set, struct slice name,
                      const struct snapshot_rollback_hooks *hooks, struct snapshot **ret_before);

/* ---- holds and space (snapshot_hold.c) ---- */

/* Keep it from being deleted, see engine_checkpoint_hold(). -ENOENT, -EINVAL (owner), -EROFS. */
int snapshot_hold(struct snapshot_set *set, struct slice name, struct slice owner,
                  uint64_t expires_s);
/* -ENOENT: no such snapshot, or no such hold on it. */
int snapshot_release(struct snapshot_set *set, struct slice name, struct slice owner);
/* As engine_checkpoint_holds(). */
int snapshot_each_hold(struct snapshot *snapshot, engine_hold_callback *callback, void *context);
int snapshot_is_held(struct snapshot *snapshot, bool *ret_held); /* 0 or an error */

/* As engine_checkpoint_usage(); a snapshot may be there twice. */
int snapshot_usage(struct snapshot_set *set, struct snapshot *const *snapshots, size_t count,
                   struct engine_usage *ret_usage);
/* Until every snapshot is materialised, so that link counts tell all: 0 or ERROR_LATCHED. */
int snapshot_wait_all(struct snapshot_set *set);

/* ---- looking ---- */

#define SNAPSHOT_ID_MAX ((UINT64_C(1) << 24) - 1)

/* A reference, or NULL. */
struct snapshot *snapshot_find(struct snapshot_set *set, struct slice name);
struct snapshot *snapshot_find_id(struct snapshot_set *set, uint64_t id);
/* The one with the lowest id above `id` (walk the list with 0 first), or NULL. Never waits. */
struct snapshot *snapshot_next(struct snapshot_set *set, uint64_t id);
size_t snapshot_count(struct snapshot_set *set);
struct snapshot *snapshot_ref(struct snapshot *snapshot);
void snapshot_unref(struct snapshot *snapshot); /* accepts NULL */

uint64_t snapshot_id(const struct snapshot *snapshot); /* 1..SNAPSHOT_ID_MAX, never reused */
uint64_t snapshot_sequence(const struct snapshot *snapshot);
struct timespec snapshot_created(const struct snapshot *snapshot);
/* Copied into `name` (room for 256 bytes, NUL-terminated), because a rename may change it. */
void snapshot_get_name(struct snapshot *snapshot, char name[SNAPSHOT_NAME_SIZE_MAX + 1]);
/* Number of tags; the i-th: strings that live as long as the reference. */
size_t snapshot_tag_count(const struct snapshot *snapshot);
struct snapshot_tag snapshot_tag_at(const struct snapshot *snapshot, size_t index);
bool snapshot_deleted(const struct snapshot *snapshot);
/* Numbers of its materialisation; false when it is not complete yet. */
bool snapshot_get_numbers(struct snapshot *snapshot, struct engine_checkpoint_info *ret_info);

/* When a snapshot was last created, deleted or renamed (the store's creation when never). */
struct timespec snapshot_set_changed(struct snapshot_set *set);

/* The view of the snapshot, opened at first use, kept by LRU. Return it with snapshot_view_put().
 */
int snapshot_view_get(struct snapshot *snapshot, struct engine_view **ret_view);
void snapshot_view_put(struct snapshot *snapshot, struct engine_view *view);

/*
 * How many snapshots hold exactly this version of a record: those whose newest record of `key` has
 * the sequence number `sequence`. Between two rollbacks they are a contiguous run of the list, so
 * each end is one binary search. *ret_count >= 0; *ret_oldest_id is the first (0: none).
 * (snapshot_run.c)
 */
int snapshot_run(struct snapshot_set *set, struct slice key, uint64_t sequence, uint64_t *ret_count,
                 uint64_t *ret_oldest_id);

#endif
