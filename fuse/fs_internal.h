/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fs_internal.h - what the fs_*.c files share; nobody else includes it
 *
 * Order of work of every change: lock the stripes of all inodes involved (fs_lock.c), acquire a
 * view, read what is needed from it, build one batch, engine_write(), release the view, unlock.
 * Blocking I/O under a stripe is allowed (blocking_enter() has handed the request reader on); the
 * snapshot lock is never taken under a stripe.
 */
#ifndef VARVE_FUSE_FS_INTERNAL_H
#define VARVE_FUSE_FS_INTERNAL_H

#include <stdatomic.h>

#include "engine/base/lock.h"
#include "engine/base/log.h"
#include "fuse/fs.h"
#include "fuse/fs_key.h"
#include "fuse/fs_synced.h"
#include "fuse/fs_version.h"
#include "fuse/inode_table.h"

#define FS_STRIPES  1024
#define FS_INO_RUNS 256

/* Inode numbers set aside for the children of one directory: [next, end). */
struct fs_ino_run {
    uint64_t directory; /* 0: unused */
    uint64_t next, end;
    uint32_t length;
};

struct fs_atimes;   /* fs_atime.h */
struct fs_departed; /* fs_location.c: a deleted snapshot of which the kernel still holds nodes */

struct fs {
    struct engine *engine;
    struct snapshot_set *snapshots;
    struct fs_options options;
    struct fs_notify notify;
    char *snapdir_name;
    atomic_bool read_only;
    struct inode_table *table;
    uint64_t node_seed; /* random: nobody can make two directories of the past share a node */
    struct fs_atimes *atimes;
    struct fs_versions *versions;
    struct fs_synced synced;
    atomic_uint atime_options; /* of fs_options.atime */
    atomic_uint sync_options;  /* of fs_options.sync */
    struct timespec opened;    /* when the mount began */
    struct lock stripes[FS_STRIPES];
    atomic_bool quiet;         /* no change may begin (fs_lock.c) */
    struct lock quiet_lock;    /* LOCK_RANK_LEAF: for waiting until that is over */
    pthread_cond_t quiet_over; /* it is */
    struct lock ino_lock;      /* LOCK_RANK_FS_TABLE: next_ino, reserved_ino, runs */
    uint64_t next_ino, reserved_ino;
    struct fs_ino_run runs[FS_INO_RUNS]; /* ino_lock; by hash of the directory */
    struct lock rename_lock;             /* LOCK_RANK_FS_RENAME: before stripes, when a directory
                                            changes its parent */
    struct lock departed_lock;           /* LOCK_RANK_FS_TABLE */
    struct fs_departed *departed;
    uint32_t departed_count;         /* changed under the lock, read relaxed without */
    struct fs_statistics statistics; /* atomics: __atomic_fetch_add, relaxed */
};

/* Where a node's records are: a live inode, or an inode in a snapshot's view. */
struct fs_location {
    uint64_t ino;
    struct engine_view *view;
    struct snapshot *snapshot; /* NULL: live */
    bool virtual_directory;    /* a .snapshots directory: ino is the live directory it belongs to */
    uint64_t past;             /* the node, when it is one of FS_NODE_PAST; 0 otherwise */
};

/* Before a change, with or without stripes. The kernel keeps changes from a mount that is read-only, so
 * one that comes from it tells that the mount is not any more; what others ask for does not. */
bool fs_refuses_changes(struct fs *fs);

/* fs_location.c: find where a node lives and pin a view of it. For a live node the view is the
 * present one. -ESTALE when the node is not known (any more). Put back with fs_location_put(). */
int fs_location_get(struct fs *fs, uint64_t node, struct fs_location *ret_location);
void fs_location_put(struct fs *fs, struct fs_location *location);

/* The number that stands for `ino`, of the given type and version, in a location like `parent`:
 * what stat tells. It is also the node, but for directories that are reached through the past of
 * one. */
uint64_t fs_location_number(const struct fs *fs, const struct fs_location *location, uint64_t ino,
                            mode_t mode, uint64_t version);

/* fs_inode.c: read an inode record: 0, -ENOENT, or an error. *ret_version is its sequence number.
 */
int fs_inode_load(struct engine_view *view, uint64_t ino, struct fs_inode *ret_inode,
                  uint64_t *ret_version);
void fs_inode_put(struct batch *batch, uint64_t ino, const struct fs_inode *inode);
/* Allocate a number for a child of `parent` (runs per directory for locality are a matter of this).
 */
int fs_inode_allocate(struct fs *fs, uint64_t parent, uint64_t *ret_ino);
/* Fill in attributes (link counts of snapshot files included). */
int fs_inode_attribute(struct fs *fs, const struct fs_location *location, uint64_t ino,
                       const struct fs_inode *inode, uint64_t version, struct fs_entry *ret_entry);
struct timespec fs_now(void);

/* fs_lock.c: lock the stripes of up to four inodes in stripe order, each once. 0 is ignored. */
struct fs_locked {
    uint32_t stripes[4];
    unsigned count;
};
void fs_lock(struct fs *fs, const uint64_t *inos, unsigned count, struct fs_locked *ret_locked);
void fs_unlock(struct fs *fs, struct fs_locked *locked);
/* When this returns no change is under way, and none begins until fs_quiet_end(): whoever wants to
 * lock a stripe waits. Not by a thread that holds one; one at a time. */
void fs_quiet_begin(struct fs *fs);
void fs_quiet_end(struct fs *fs);

/* fs_extent.c: the map of a file. */
struct fs_extent {
    uint64_t start;  /* file offset of its first byte */
    uint32_t length; /* >= 1 */
    bool inlined;
    struct blob_ref ref;         /* when not inlined */
    uint8_t data[FS_INLINE_MAX]; /* when inlined */
};
/* Walk extents that hold or follow `offset`, in order. 1: *ret_extent is the next; 0: none;
 * negative. */
struct fs_extent_cursor {
    struct engine_iterator *iterator;
    uint64_t ino;
    bool started;
    uint64_t offset;
};
int fs_extent_cursor_open(struct engine_view *view, uint64_t ino, uint64_t offset,
                          struct fs_extent_cursor *ret_cursor);
int fs_extent_cursor_next(struct fs_extent_cursor *cursor, struct fs_extent *ret_extent);
void fs_extent_cursor_close(struct fs_extent_cursor *cursor);

/* Add to `batch` what removes [start, end) from the map: whole extents deleted (one range tombstone
 * when many), partial ones trimmed or split. *ret_removed counts the bytes that were mapped there.
 */
int fs_extent_punch(struct engine_view *view, uint64_t ino, uint64_t start, uint64_t end,
                    struct batch *batch, uint64_t *ret_removed);
void fs_extent_put(struct batch *batch, uint64_t ino, const struct fs_extent *extent);
/* Cut the map at `size` (truncate down): one range tombstone, the straddling extent trimmed. */
int fs_extent_truncate(struct engine_view *view, uint64_t ino, uint64_t size, struct batch *batch,
                       uint64_t *ret_removed);

/* fs_orphan.c: an inode whose last link went (or never had one) joins the orphans in `batch`; when
 * the last lookup goes too, fs_orphan_reap() removes all its keys in a batch of its own. */
void fs_orphan_add(struct batch *batch, uint64_t ino);
void fs_orphan_remove(struct batch *batch, uint64_t ino);
int fs_orphan_reap(struct fs *fs, uint64_t ino);
int fs_orphan_reap_all(struct fs *fs); /* at open */

/* fs_snapshot.c: operations inside .snapshots. */
int fs_snapshot_lookup(struct fs *fs, const struct fs_location *parent, const char *name,
                       struct fs_entry *ret_entry);
int fs_snapshot_mkdir(struct fs *fs, uint64_t directory_ino, const char *name,
                      const struct fs_caller *caller, struct fs_entry *ret_entry);
int fs_snapshot_rmdir(struct fs *fs, uint64_t directory_ino, const char *name,
                      const struct fs_caller *caller);
int fs_snapshot_rename(struct fs *fs, uint64_t directory_ino, const char *from, const char *to,
                       const struct fs_caller *caller);
int fs_snapshot_directory_attribute(struct fs *fs, uint64_t directory_ino,
                                    struct fs_entry *ret_entry);
/* Virtual xattrs of a snapshot's root: user.varve.btime, user.varve.seq. -ENODATA for others. */
int64_t fs_snapshot_getxattr(struct fs *fs, const struct fs_location *location, const char *name,
                             void *value, size_t size);
bool fs_is_snapdir_name(const struct fs *fs, uint64_t parent_ino, const char *name);

#endif
