/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fs_version.h - from the version of a file in snapshots to its inode number
 *
 * A node of the form 10 says which version of a file it is and not of which file; while the kernel
 * holds it the inode table knows. A file handle that an NFS server or a backup kept from an earlier
 * mount has those 64 bits and nothing else. For it, and not before one is used, the versions of all
 * snapshots are gathered: of the first by a walk over its inodes, of each later one by what differs
 * from the one before it.
 *
 * Owns:    an array of (version, inode number), 16 bytes each, in order of versions.
 * Bounds:  at most `limit` of them. When there are more, the newest snapshots are left out, and all
 *          is gathered again after the list of snapshots has changed.
 * Threads: any; LOCK_RANK_FS_VERSION, held across I/O.
 */
#ifndef VARVE_FUSE_FS_VERSION_H
#define VARVE_FUSE_FS_VERSION_H

#include <stddef.h>
#include <stdint.h>

struct fs;
struct fs_versions;

struct fs_versions *fs_versions_new(size_t limit);   /* NULL: out of memory */
void fs_versions_free(struct fs_versions *versions); /* accepts NULL */

/* The inode that had this version in some snapshot, which may be gone meanwhile. -ESTALE when none
 * is known, or an error. */
int fs_version_find(struct fs *fs, uint64_t version, uint64_t *ret_ino);

#endif
