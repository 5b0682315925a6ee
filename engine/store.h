/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store.h - the directory of a store: FORMAT, LOCK, sub-directories
 *
 *   FORMAT        STORE_FORMAT_SIZE bytes, see below; also in every checkpoint directory
 *   LOCK          flock(2)ed by the process that has the store open for writing
 *   manifest/     LMDB                    wal/          segments
 *   chunks/       tables and blobs        checkpoints/  one directory each
 *   tmp/          emptied at open
 * A checkpoint directory has FORMAT, CURRENT, the sealed manifest and chunks/, nothing else.
 *
 * FORMAT (little-endian): 0 magic "VARVEFMT"; 8 version u32 (1); 12 zero u32; 16 UUID; 32 chunk
 * size bytes u64; 40 compression level i32; 44 zero u32; 48 creation time, seconds u64; 56 flags
 * u32; 60 zero u32; 64 UUID of the store that it was cloned from, or zero; 80 zero ...
 * 120 XXH3-64 of bytes 0..119.
 *
 * A directory with LOCK is a live store, one without LOCK but with CURRENT a checkpoint.
 *
 * Guarantees: a missing, empty or foreign directory is never taken for an empty store. Files are
 *             opened relative to the root descriptor; store_check_root() says when the path no
 *             longer names the directory that was opened (R50).
 * Threads:    store_check_root from any; the rest at open and close only.
 */
#ifndef VARVE_ENGINE_STORE_H
#define VARVE_ENGINE_STORE_H

#include "engine/base/io.h"
#include "engine/chunk_format.h"

#define STORE_FORMAT_SIZE    128
#define STORE_FORMAT_VERSION 1

/* A directory of tmp/: what is left of deleted checkpoints. */
#define STORE_DELETED_NAME "deleted"

/* A clone: chunks of other stores are linked into this one, with their UUIDs in their headers. What
 * a chunk must be is then said by the manifest alone: id, kind, size and content hash, which covers
 * the header. Every store has chunk ids of its own above those it began with. */
#define STORE_FORMAT_FOREIGN_CHUNKS (UINT32_C(1) << 0)

struct store_format {
    uint8_t uuid[STORE_UUID_SIZE];
    uint64_t chunk_size_bytes;
    int32_t compression_level;
    uint64_t created_s;
    uint32_t flags;
    uint8_t origin_uuid[STORE_UUID_SIZE];
};

/* The UUID that every chunk of the store has, or NULL when they differ. */
static inline const uint8_t *store_format_chunk_uuid(const struct store_format *format)
{
    return (format->flags & STORE_FORMAT_FOREIGN_CHUNKS) != 0 ? NULL : format->uuid;
}

enum store_kind { STORE_LIVE, STORE_CHECKPOINT };

struct store {
    struct io *io;
    char *path; /* as given, made absolute */
    enum store_kind kind;
    struct store_format format;
    struct io_file *root, *chunks;
    /* NULL in a checkpoint: */
    struct io_file *lock, *wal, *manifest, *checkpoints, *tmp;
};

/* Make an empty store in `path`, a directory that is missing (its parent exists) or empty: all
 * files and directories, an empty manifest too, synced, FORMAT last. The UUID is random (getrandom)
 * and the creation time now, whatever the options say. A failure removes what was made. -ENOTEMPTY,
 * -ENOTDIR, -ENOENT (parent), -EINVAL (options) ... */
int store_create(struct io *io, const char *path, const struct store_format *options);

/* The same with something in it: `fill` gets the chunk directory and the path of the (closed)
 * manifest, and FORMAT is made when it has returned 0. What it leaves is synced by it. */
typedef int store_fill_callback(void *context, struct io_file *chunks, const char *manifest_path);
int store_create_filled(struct io *io, const char *path, const struct store_format *options,
                        store_fill_callback *fill, void *context);

/*
 * Open; with `writable` takes LOCK (ERROR_LOCKED) and empties tmp/. A store of kind
 * STORE_CHECKPOINT cannot be opened writable: -EROFS. -ENOENT: no such directory; ERROR_NOT_STORE:
 * FORMAT is missing or has another magic, or it is a checkpoint directory without CURRENT;
 * ERROR_VERSION_NEWER; ERROR_VERSION_OLDER; ERROR_CORRUPT: FORMAT is damaged or a sub-directory or
 * LOCK is missing; ERROR_TRUNCATED; -ELOOP: a symbolic link in place of one of them; -ENOTDIR;
 * -EACCES. A writable open also retakes nothing that a read-only opener holds: read-only openers of
 * a live store take LOCK as well, so that they never watch a moving store.
 */
int store_open(struct io *io, const char *path, bool writable, struct store **ret_store);
void store_close(struct store *store); /* accepts NULL */

/* 0, or ERROR_REPLACED when `path` now names another directory or none. */
int store_check_root(struct store *store);

/* After a crash (store_sweep.c): empty tmp/, and remove a chunk of chunks/. A name that a wrong
 * link count makes dangerous to remove is kept in tmp/ instead, where nothing refers to it. */
int store_sweep(struct store *store);
int store_remove_chunk(struct store *store, const char *name); /* -ENOENT */

/* Remove every file and directory below `name` in `directory`, and itself. -ENOENT is success. */
int store_remove_tree(struct io *io, struct io_file *directory, const char *name);

/*
 * Make or replace the small file `name` wholly and durably, mode 0444: written as <name>.tmp,
 * synced, renamed, then file and directory synced (both: without a journal a rename is safe only
 * so). The old file's blocks stay as they were for whoever has hard links to it.
 */
int store_write_file(struct io *io, struct io_file *directory, const char *name, const void *data,
                     size_t size);

void store_format_encode(const struct store_format *format, uint8_t to[STORE_FORMAT_SIZE]);
/* 0, ERROR_NOT_STORE, ERROR_CORRUPT, ERROR_VERSION_NEWER, ERROR_VERSION_OLDER (in this order: of a
 * newer version magic, version and checksum lie where they lie now). */
int store_format_decode(const uint8_t from[STORE_FORMAT_SIZE], struct store_format *ret_format);

#endif
