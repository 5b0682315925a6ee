/* SPDX-License-Identifier: Apache-2.0 */
/*
 * manifest.h - what the store consists of, in LMDB
 *
 * Owns:       manifest/ of the store (LMDB data file and lock file). LMDB is known to manifest.c,
 *             manifest_transaction.c and manifest_record.c; the logic on top of them is in
 *             manifest_edit.c, manifest_load.c, manifest_changes.c and manifest_lease.c. Never on
 *             the path of a filesystem operation.
 * Content:    the live version (tables by level), the chunk catalogue (tables and blobs, with
 *             residency), checkpoints, the change log with cursors, leases, and scalars.
 * Guarantees: manifest_commit() is atomic and durable when it returns 0 (LMDB's default, durable
 *             flags: no MDB_NOSYNC, MDB_NOMETASYNC, MDB_WRITEMAP). After a failed commit every
 *             later call gives ERROR_POISONED (R17). A full map is grown with no transaction open
 *             and the commit retried (R19). Values carry their own XXH3-64, since LMDB 0.9 checks
 *             nothing: a damaged one is ERROR_CORRUPT, naming its key.
 * Forbidden:  opening it before daemonising, or twice in a process (R18); long read transactions: a
 *             load copies out and ends its transaction; one over 5 s is logged (R21).
 * Threads:    any; serialised by LOCK_RANK_MANIFEST, I/O under it.
 * Format:     docs/on-disk-format.md#manifest
 */
#ifndef VARVE_ENGINE_MANIFEST_H
#define VARVE_ENGINE_MANIFEST_H

#include "engine/table.h"

/* Levels of tables are 0 .. MANIFEST_LEVELS - 1. */
#define MANIFEST_LEVELS 7

enum manifest_residency { MANIFEST_RESIDENCY_LOCAL = 1 }; /* any other: ERROR_RESIDENCY */

/* A table in the live version. L0: higher order is newer. Other levels: disjoint key ranges. */
struct manifest_table {
    uint32_t level;
    uint64_t order; /* assigned at flush, rising; kept when a table moves down */
    struct table_meta meta;
};

enum manifest_checkpoint_state {
    MANIFEST_CHECKPOINT_READY = 1,    /* its directory is complete */
    MANIFEST_CHECKPOINT_DELETING = 2, /* no longer visible; the directory is being removed */
    MANIFEST_CHECKPOINT_PENDING = 3,  /* exists; its directory is yet to be made, as `plan` says */
};

struct manifest_checkpoint {
    uint64_t id; /* never reused */
    uint8_t state;
    uint64_t sequence; /* holds all records <= this */
    struct buffer name;
    struct buffer payload; /* opaque to the engine: the snapshot layer's metadata */
    uint64_t linked_files, linked_bytes, copied_files, copied_bytes;
    struct checksum128 manifest_hash; /* of its sealed manifest */
    struct buffer plan;               /* PENDING: the encoded sealed manifest to be; else empty */
};
void manifest_checkpoint_free(struct manifest_checkpoint *checkpoint); /* members only */
int manifest_checkpoint_copy(const struct manifest_checkpoint *from,
                             struct manifest_checkpoint *ret_to);

/* The scalars of the store. */
struct manifest_scalars {
    uint64_t next_chunk_id; /* every id below may be in use */
    uint64_t next_order;
    uint64_t last_sequence; /* highest in the tables */
    uint64_t wal_segment;   /* replay starts here */
    uint64_t next_checkpoint_id;
    uint64_t unclean_starts; /* how often a start found no clean mark (R26) */
    bool clean;              /* closed cleanly: nothing to replay */
};

/*
 * One atomic change. A zeroed edit is valid and empty. Arrays belong to the caller. Removals are
 * done before additions, so that a table moves to another level by being removed and added at once.
 * Removing what is not there is -ENOENT and nothing is changed.
 */
struct manifest_edit {
    const struct manifest_table *add_tables;
    size_t add_table_count;
    const uint64_t *remove_tables; /* chunk ids */
    size_t remove_table_count;
    const struct chunk_identity *add_blobs;
    size_t add_blob_count;
    const uint64_t *remove_blobs;
    size_t remove_blob_count;
    const struct manifest_checkpoint *put_checkpoint; /* add, or replace by id */
    const uint64_t *remove_checkpoints;               /* ids */
    size_t remove_checkpoint_count;
    /* Scalars: written when not NULL. */
    const struct manifest_scalars *scalars;
};

struct manifest;

struct manifest_options {
    const char *path; /* of manifest/ */
    struct io *io;    /* where commits are told of, for its watchdog; NULL: nowhere */
    bool read_only;
    bool create;                     /* an empty environment, when none is there (store_create()) */
    size_t map_size_bytes;           /* at first; grows */
    uint64_t change_log_entries_max; /* older entries are cut; a cursor behind them is dropped */
};

/*
 * -ENOENT: no such directory; ERROR_TRUNCATED: its data file is missing, empty or short (a manifest
 * that went missing is never taken for an empty one); ERROR_CORRUPT, ERROR_VERSION_NEWER,
 * ERROR_VERSION_OLDER, -ELOOP (a symbolic link), -EBUSY (open in this process already), -EACCES,
 * -ENOMEM ... With `create`, when none is there, makes and syncs an empty one: all ids 1,
 * sequence 0, clean.
 */
int manifest_open(const struct manifest_options *options, struct manifest **ret_manifest);
void manifest_close(struct manifest *manifest); /* accepts NULL */

/* 0; ERROR_POISONED; -EROFS; -EINVAL, -ENOENT (see struct manifest_edit); -ENOSPC: there is no room
 * for it, nothing was tried and nothing is poisoned; or the error of the commit that failed now. */
int manifest_commit(struct manifest *manifest, const struct manifest_edit *edit);

/* Everything at one point in time; the caller frees with manifest_state_free(). */
struct manifest_state {
    struct manifest_scalars scalars;
    struct manifest_table *tables; /* by level, then order */
    size_t table_count;
    struct chunk_identity *blobs; /* by id */
    size_t blob_count;
    struct manifest_checkpoint *checkpoints; /* by id */
    size_t checkpoint_count;
};
int manifest_load(struct manifest *manifest, struct manifest_state *ret_state);
void manifest_state_free(struct manifest_state *state);

/*
 * The change log: one entry a commit, numbered from 1, holding the chunk ids added and removed, for
 * replication and off-site copies. A cursor is a named position that a consumer moves forward; the
 * log is cut behind the slowest cursor, and at change_log_entries_max in any case (R22).
 */
struct manifest_change {
    uint64_t number;
    const uint64_t *added, *removed; /* live during the callback */
    size_t added_count, removed_count;
};
typedef int manifest_change_callback(void *context, const struct manifest_change *change);
/* Read from after the cursor's position to the present end; the cursor stays. -ENOENT: no such
 * cursor; -ESTALE: it fell behind the cut: rescan and set it anew. A non-zero return of the
 * callback, which may call the manifest, ends the reading and is returned. */
int manifest_changes_read(struct manifest *manifest, const char *cursor,
                          manifest_change_callback *callback, void *context);
/* Create or move a cursor; number 0 means the present end. -ESTALE: what follows the number was
 * cut; -EINVAL: beyond the end, or a bad name (1..255 bytes); -ENOSPC: too many cursors. While
 * there is no cursor, commits are numbered but not kept. */
int manifest_cursor_set(struct manifest *manifest, const char *cursor, uint64_t number);
int manifest_cursor_remove(struct manifest *manifest, const char *cursor);

/* A lease: a named, expiring claim on a checkpoint (of a transfer, a hold); expires_s 0: never. */
int manifest_lease_put(struct manifest *manifest, uint64_t checkpoint_id, const char *owner,
                       uint64_t expires_s);
int manifest_lease_remove(struct manifest *manifest, uint64_t checkpoint_id, const char *owner);
/* Number of leases on the checkpoint that have not expired at now_s, or negative. */
int manifest_lease_count(struct manifest *manifest, uint64_t checkpoint_id, uint64_t now_s);
/* Call back for each of them, in order of owner's name (which lives during the callback). Stops at
 * the first non-zero return, which it returns. The callback must not call the manifest. */
typedef int manifest_lease_callback(void *context, struct slice owner, uint64_t expires_s);
int manifest_lease_each(struct manifest *manifest, uint64_t checkpoint_id, uint64_t now_s,
                        manifest_lease_callback *callback, void *context);

/* A commit failed half-way: there will be no other. */
bool manifest_is_poisoned(struct manifest *manifest);
/* Commit nothing any more, as after a commit that failed. A commit under way is waited for. */
void manifest_poison(struct manifest *manifest);

/* How many commits there were. Waits for nobody, whatever the disk does. */
uint64_t manifest_commits(const struct manifest *manifest);

/* How long the read transaction has been open that is; 0: none is. */
uint64_t manifest_look_age_ns(struct manifest *manifest);

struct manifest_statistics {
    uint64_t commits, map_size_bytes, used_bytes, map_growths;
    uint64_t change_log_first, change_log_last; /* entries kept; first = last + 1: none */
    uint64_t slow_looks;                        /* read transactions over 5 s */
    uint64_t readers_reclaimed;                 /* slots of dead processes, freed at open */
    bool poisoned;
};
void manifest_get_statistics(struct manifest *manifest, struct manifest_statistics *ret);

#endif
