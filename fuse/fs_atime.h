/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fs_atime.h - when files were last read
 *
 * The sequence number of an inode's record is the version that the file is known by in snapshots,
 * so reading must not write that record: a file that was only read stays a hard link of itself.
 * Such times are records of their own (0 12 ino, fs_key.h). Where there is one it counts, and not
 * what the inode says; whoever sets the time by hand removes it. Snapshots show what the inode
 * says.
 *
 * Owns:    the records 0 12 ino, and a memory of them in pages of 1,024 neighbouring inodes, so that
 *          an inode without one costs a look at a bit. Times that are new wait there, at most
 *          FS_ATIME_DIRTY_MAX, and are written in one batch: a crash loses them, an unmount does not.
 * Threads: any.
 * Locks:   write_lock (LOCK_RANK_FS_ATIME) while records are written or removed, I/O under it; lock
 *          (LOCK_RANK_FS_TABLE) for the pages, none under it.
 */
#ifndef VARVE_FUSE_FS_ATIME_H
#define VARVE_FUSE_FS_ATIME_H

#include "fuse/fs_names.h"

#define FS_ATIME_DIRTY_MAX 1024

struct fs_atimes;

struct fs_atimes *fs_atimes_new(void);         /* NULL: out of memory */
void fs_atimes_free(struct fs_atimes *atimes); /* accepts NULL */

/* Does no reading count, by the mount's rules? */
static inline bool fs_atime_is_off(const struct fs *fs)
{
    unsigned options = atomic_load_explicit(&fs->atime_options, memory_order_relaxed);

    return fs->read_only || (options & ~(unsigned)FS_ATIME_NO_DIRECTORIES) == FS_ATIME_NONE;
}

/* Replace *time by the record's, if the live inode has one. On trouble *time stays. */
void fs_atime_get(struct fs *fs, uint64_t ino, struct timespec *time);

/* The live inode was read: by the mount's rules, is that a new time? True when it was noted. No
 * stripe is held. */
bool fs_atime_touch(struct fs *fs, uint64_t ino, const struct fs_inode *inode);

/* The same for a node whose inode is not at hand, which is about to be read perhaps without our
 * being told: true when it was noted and the kernel has attributes that say otherwise. */
bool fs_atime_touch_opened(struct fs *fs, uint64_t ino, const struct fs_inode *inode);

/* A change that gives the inode another time, or ends it: fs_atime_begin_removal() adds to its
 * batch what removes the record; after the commit fs_atime_end_removal(), told whether it
 * succeeded. The inode's stripe is held from before the first to after the second. */
struct fs_atime_removal {
    uint64_t ino;
    bool found;
};
int fs_atime_begin_removal(struct fs_edit *edit, uint64_t ino, struct fs_atime_removal *removal);
void fs_atime_end_removal(struct fs *fs, const struct fs_atime_removal *removal, bool committed);

/* Write what waits. No stripe is held. */
int fs_atime_flush(struct fs *fs);

/* In a quiet time: the records have changed altogether. */
void fs_atime_forget_all(struct fs *fs);

#endif
