/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fs_data.h - what the files that implement file data share; nobody else includes it
 *
 * Every change of a file's data is one struct fs_change: begin (lock, view, inode), records into
 * its batch, commit (inode and records in one engine batch), end. Whatever fails before the commit
 * leaves nothing behind but blob bytes that nobody refers to.
 */
#ifndef VARVE_FUSE_FS_DATA_H
#define VARVE_FUSE_FS_DATA_H

#include "fuse/fs_names.h"

/* ---- extents (fs_extent.c) ---- */

/* Extents at or above this many bytes are left as they are by small writes beside them. */
#define FS_SMALL_EXTENT 4096

/* The first offset of the next frame of the file's grid: frames never straddle it. */
static inline uint64_t fs_grid_next(uint64_t offset)
{
    return (offset | (BLOB_FRAME_SIZE_MAX - 1)) + 1;
}

/* Decode a record found under `ino`; ERROR_CORRUPT when it is not a valid extent. */
int fs_extent_decode(const struct record *record, struct fs_extent *ret_extent);

/* The extent whose last byte is exactly at `last`: 1, 0 (none), or negative. Cheaper than a walk.
 */
int fs_extent_get(struct engine_view *view, uint64_t ino, uint64_t last,
                  struct fs_extent *ret_extent);

/* Narrow to `length` bytes from `offset` of the extent. */
void fs_extent_slice(struct fs_extent *extent, uint32_t offset, uint32_t length);

static inline uint64_t fs_extent_end(const struct fs_extent *extent)
{
    return extent->start + extent->length;
}

/* What a cut leaves of the extents that reach over its ends, not yet put into the batch. */
struct fs_extent_cut {
    bool has_head, has_tail;
    struct fs_extent head; /* ends where the cut starts */
    struct fs_extent tail; /* starts where the cut ends */
    uint64_t removed_bytes;
};

/*
 * As fs_extent_punch(), but the caller puts head and tail itself (their old keys are gone from the
 * map once the tail's key is written: either by the tail or by an extent that ends where it ends).
 * `replaced`: the caller puts new extents that end at each multiple of the grid in the range and at
 * `end`, so keys there need no deletion.
 */
int fs_extent_cut(struct engine_view *view, uint64_t ino, uint64_t start, uint64_t end,
                  bool replaced, struct batch *batch, struct fs_extent_cut *ret_cut);

/* ---- reading (fs_read.c) ---- */

/* Where a node's data is read: the handle's pinned view, or a view of this moment. */
struct fs_source {
    struct fs_location location;
    bool borrowed; /* the location belongs to the handle */
};
int fs_source_get(struct fs *fs, uint64_t node, uint64_t handle, struct fs_source *ret_source);
void fs_source_put(struct fs *fs, struct fs_source *source);
/* The same with the inode: -ESTALE when it is gone, -EISDIR or -EINVAL when not a regular file. */
int fs_source_load(const struct fs_source *source, struct fs_inode *ret_inode);

/* ---- changing (fs_file.c) ---- */

struct fs_change {
    struct fs_edit edit; /* locks, view, batch */
    uint64_t ino;
    struct fs_inode inode; /* as loaded; the caller changes size and allocated bytes */
    bool is_synced_often;  /* what is written is stored as it is (fs_synced.h) */
};

/* Lock a live regular file and load it. -EROFS, -EPERM (immutable), -EISDIR, -EINVAL, -ESTALE,
 * -ENOMEM ... After 0 the caller calls fs_change_end(), whatever happens. */
int fs_change_begin(struct fs *fs, uint64_t node, struct fs_change *change);
/* Content has changed: set mtime and ctime, drop security.capability, with `kill_privileges` suid
 * and sgid too, and write everything as one batch. */
int fs_change_commit(struct fs_change *change, bool kill_privileges);
void fs_change_end(struct fs_change *change);

/* A snapshot node's handle: its location stays pinned from open to release. NULL for handles of
 * live files and for 0. */
const struct fs_location *fs_handle_location(uint64_t handle);

#endif
