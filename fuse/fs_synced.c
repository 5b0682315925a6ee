/* SPDX-License-Identifier: Apache-2.0 */
/* fs_synced.c - a table of counters, the place of a file being its number's remainder */
#include "fuse/fs_synced.h"

/* Inode numbers of one directory lie side by side, and a database's files in one directory. */
static struct fs_synced_file *place_of(struct fs_synced *synced, uint64_t ino)
{
    return &synced->files[ino % FS_SYNCED_FILES];
}

bool fs_synced_note_write(struct fs_synced *synced, uint64_t ino, uint64_t size_bytes)
{
    struct fs_synced_file *file = place_of(synced, ino);
    uint64_t bytes;

    if (atomic_load_explicit(&file->ino, memory_order_relaxed) != ino)
        return false;
    bytes = atomic_load_explicit(&file->bytes, memory_order_relaxed) + size_bytes;
    if (bytes > FS_SYNCED_BYTES_MAX)
        bytes = FS_SYNCED_BYTES_MAX + 1;
    atomic_store_explicit(&file->bytes, bytes, memory_order_relaxed);
    return bytes <= FS_SYNCED_BYTES_MAX &&
           atomic_load_explicit(&file->streak, memory_order_relaxed) >= FS_SYNCED_STREAK;
}

void fs_synced_note_sync(struct fs_synced *synced, uint64_t ino)
{
    struct fs_synced_file *file = place_of(synced, ino);
    uint64_t bytes;
    unsigned streak = 0;

    if (atomic_load_explicit(&file->ino, memory_order_relaxed) == ino) {
        bytes = atomic_exchange_explicit(&file->bytes, 0, memory_order_relaxed);
        streak = atomic_load_explicit(&file->streak, memory_order_relaxed);
        if (bytes > FS_SYNCED_BYTES_MAX)
            streak = 0;
        else if (bytes > 0 && streak < FS_SYNCED_STREAK)
            streak++;
    } else {
        atomic_store_explicit(&file->bytes, 0, memory_order_relaxed);
        atomic_store_explicit(&file->ino, ino, memory_order_relaxed);
    }
    atomic_store_explicit(&file->streak, streak, memory_order_relaxed);
}
