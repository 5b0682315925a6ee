/* SPDX-License-Identifier: Apache-2.0 */
/*
 * blob_reader.h - verified reads of frames
 *
 * Owns: the descriptors of sealed blob chunks that are open for reading (a bounded, reference-
 *       counted set, least recently used first out), and the decoding of frames.
 * P4:   every byte returned was verified against the checksums in its reference; a mismatch is
 *       ERROR_CORRUPT and one log line with the chunk's name and position.
 * Threads: any. Lock: LOCK_RANK_TABLE_CACHE, no I/O under it but open(2) of a chunk.
 */
#ifndef VARVE_ENGINE_BLOB_READER_H
#define VARVE_ENGINE_BLOB_READER_H

#include "engine/base/io.h"
#include "engine/blob_ref.h"
#include "engine/blob_writer.h"
#include "engine/block_cache.h"
#include "engine/chunk_format.h"
#include "engine/read_around.h"

struct blob_reader;

/* One slice to read: the whole of `ref` to `to` (ref->length bytes). */
struct blob_read {
    const struct blob_ref *ref;
    uint8_t *to;
};

/* Says under which identity (file name) chunk `id` is known, or an error. */
typedef int blob_resolve(void *context, uint64_t id, struct chunk_identity *ret_identity);

struct blob_reader_options {
    struct io *io;
    struct io_file *chunk_directory;
    const uint8_t *store_uuid;  /* the key space of the cache */
    struct blob_writer *writer; /* asked first, for chunks still open; may be NULL */
    struct block_cache *cache;  /* decoded compressed frames that were read in part; may be NULL */
    struct read_around_budget *around; /* what is fetched around small reads; NULL: nothing */
    uint32_t descriptors_max;
    blob_resolve *resolve;
    void *context;
};

int blob_reader_open(const struct blob_reader_options *options, struct blob_reader **ret_reader);
void blob_reader_close(struct blob_reader *reader); /* accepts NULL */

/*
 * Read and verify. Neighbouring frames of one chunk are fetched with one read; separate ones with
 * one io_read_batch(). 0, ERROR_CORRUPT, ERROR_TRUNCATED, ERROR_MISSING_CHUNK, -ENOMEM, -EIO ...;
 * on failure nothing of the destinations may be used.
 */
int blob_reader_read(struct blob_reader *reader, const struct blob_read *reads, size_t count);

/* Close the chunk's descriptor once idle, and forget its cached frames (it is being deleted). */
void blob_reader_drop(struct blob_reader *reader, uint64_t chunk_id);

/* Read the whole chunk and compare with its content hash: 0, ERROR_CORRUPT, or an I/O error. */
int blob_reader_verify(struct blob_reader *reader, const struct chunk_identity *identity);

#endif
