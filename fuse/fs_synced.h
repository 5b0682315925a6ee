/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fs_synced.h - which files are synced after every few bytes
 *
 * The logs and journals of databases are, and small databases themselves. Somebody waits for each of
 * those writes, and what was written is soon written over: it is stored as it is, because to
 * compress it is a tenth of a transaction's time (docs/performance.md). What lives on is compressed
 * when it is copied out of its chunk.
 *
 * Owns:    a few counters for each of the files that were synced last; two files may take each
 *          other's place, which costs them the advantage and nothing else.
 * Threads: any, without locks. Counts may be off by what happens at the same moment.
 */
#ifndef VARVE_FUSE_FS_SYNCED_H
#define VARVE_FUSE_FS_SYNCED_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define FS_SYNCED_FILES 128
/* So many syncs in a row, each after at most so many bytes, make a habit. */
#define FS_SYNCED_STREAK    4
#define FS_SYNCED_BYTES_MAX (UINT32_C(64) * 1024)

struct fs_synced_file {
    atomic_uint_fast64_t ino;   /* 0: none */
    atomic_uint_fast32_t bytes; /* written since its last sync */
    atomic_uint streak;
};

struct fs_synced {
    struct fs_synced_file files[FS_SYNCED_FILES];
};

/* `size_bytes` are about to be written to the file: are they better stored as they are? */
bool fs_synced_note_write(struct fs_synced *synced, uint64_t ino, uint64_t size_bytes);

/* The file is about to be synced. */
void fs_synced_note_sync(struct fs_synced *synced, uint64_t ino);

#endif
