/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fs_statistics.c - statfs and the filesystem's own counters
 */
#include <errno.h>

#include "engine/base/endian.h"
#include "fuse/fs_names.h"

int fs_statfs(struct fs *fs, struct statvfs *ret_statvfs)
{
    uint64_t total, free_bytes, available, next;
    int error = engine_space(fs->engine, &total, &free_bytes, &available);

    if (error < 0)
        return error;
    lock_acquire(&fs->ino_lock);
    next = fs->next_ino;
    lock_release(&fs->ino_lock);

    /* Inodes are as many as there are numbers; used ones are those that were ever given out. */
    *ret_statvfs = (struct statvfs){
        .f_bsize = FS_BLOCK_SIZE,
        .f_frsize = FS_BLOCK_SIZE,
        .f_blocks = total / FS_BLOCK_SIZE,
        .f_bfree = free_bytes / FS_BLOCK_SIZE,
        .f_bavail = available / FS_BLOCK_SIZE,
        .f_files = FS_INO_MAX,
        .f_ffree = FS_INO_MAX + 1 - next,
        .f_favail = FS_INO_MAX + 1 - next,
        .f_fsid = get_le64(engine_uuid(fs->engine)),
        .f_flag = fs->read_only ? ST_RDONLY : 0,
        .f_namemax = FS_NAME_SIZE_MAX,
    };
    return 0;
}

void fs_get_statistics(struct fs *fs, struct fs_statistics *ret)
{
    struct inode_table_counts counts;

    inode_table_get_counts(fs->table, &counts);
    *ret = (struct fs_statistics){
        .nodes_held = counts.nodes,
        .open_files = counts.open_files,
        .open_writable = counts.open_writable,
        .orphans = counts.orphans,
        .orphans_reaped = __atomic_load_n(&fs->statistics.orphans_reaped, __ATOMIC_RELAXED),
        .inline_writes = __atomic_load_n(&fs->statistics.inline_writes, __ATOMIC_RELAXED),
        .blob_writes = __atomic_load_n(&fs->statistics.blob_writes, __ATOMIC_RELAXED),
        .shared_bytes = __atomic_load_n(&fs->statistics.shared_bytes, __ATOMIC_RELAXED),
    };
}
