/* SPDX-License-Identifier: Apache-2.0 */
/*
 * blob_files.h - the open files of sealed blob chunks; private to the blob reader
 *
 * Bounds:  at most `descriptors_max` descriptors, and beyond it only what is in use at one moment
 *          (each reading thread uses a few); the least recently used file that is idle goes first.
 * Threads: any. Lock: LOCK_RANK_TABLE_CACHE, no I/O under it.
 */
#ifndef VARVE_ENGINE_BLOB_FILES_H
#define VARVE_ENGINE_BLOB_FILES_H

#include "engine/base/lock.h"
#include "engine/blob_reader.h"
#include "engine/read_around.h"

struct blob_file {
    struct blob_file *next_in_bucket;
    struct blob_file *newer, *older; /* in the list of idle files */
    struct chunk_identity identity;
    struct io_file *file;           /* buffered: for small reads, which come with neighbours */
    struct io_file *_Atomic direct; /* for large ones; opened when first needed */
    struct read_around around;      /* of `file` */
    unsigned users;
    bool is_dropped;
};

struct blob_files {
    struct io *io;
    struct io_file *directory;
    blob_resolve *resolve;
    void *context;
    uint32_t descriptors_max;

    struct lock lock;
    struct blob_file **buckets;
    size_t bucket_count; /* a power of two */
    struct blob_file *newest, *oldest;
    uint32_t descriptors;
};

/* 0 or -ENOMEM. */
int blob_files_init(struct blob_files *files, const struct blob_reader_options *options);
void blob_files_destroy(struct blob_files *files); /* all idle; accepts a zeroed struct */

/*
 * The chunk's open file, in use until blob_files_release(); with `direct` also its direct
 * descriptor. Its header and size have been checked. ERROR_MISSING_CHUNK, ERROR_TRUNCATED,
 * ERROR_CORRUPT, ERROR_VERSION_NEWER (logged), what `resolve` or io give.
 */
int blob_files_acquire(struct blob_files *files, uint64_t id, bool direct,
                       struct blob_file **ret_file);
void blob_files_release(struct blob_files *files, struct blob_file *file);

/* Forget the file; closed when nobody uses it. */
void blob_files_drop(struct blob_files *files, uint64_t id);

/* Open and check a chunk that the caller closes. */
int blob_files_open(struct io *io, struct io_file *directory, const struct chunk_identity *identity,
                    struct io_file **ret_file);

#endif
