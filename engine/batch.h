/* SPDX-License-Identifier: Apache-2.0 */
/*
 * batch.h - records that are applied all together or not at all
 *
 * A batch is one byte string, the same in memory and in the WAL:
 *   record: kind u8, key length varint, key, value length varint, value   (RECORD_DELETE: no value)
 * The n-th record of a batch has the sequence number first + n (from 0).
 *
 * Threads: a batch belongs to one thread.
 */
#ifndef VARVE_ENGINE_BATCH_H
#define VARVE_ENGINE_BATCH_H

#include "engine/blob_ref.h"
#include "engine/record.h"

struct batch {
    struct buffer bytes;
    uint32_t count;
    int error; /* first failure of an append (-ENOMEM, -EINVAL): engine_write() returns it */
    /* About how much file data the records leave behind; not written. Tells the engine when it
     * pays to look for what is dead (engine_reclaim.c). */
    uint64_t freed_bytes;
};

/* A zeroed batch is valid and empty. Each append copies key and value. */
void batch_put(struct batch *batch, struct slice key, struct slice value);
void batch_put_reference(struct batch *batch, struct slice key, const struct blob_ref *ref);
void batch_delete(struct batch *batch, struct slice key);
/* Nothing is appended for an empty range (start >= end). */
void batch_delete_range(struct batch *batch, struct slice start, struct slice end);

/* Append every record of `from`. */
void batch_append(struct batch *batch, const struct batch *from);

void batch_clear(struct batch *batch); /* keeps the memory */
void batch_free(struct batch *batch);

/*
 * Walk an encoded batch: *cursor starts at the first byte and moves on. Returns 1 with a record
 * (its slices point into `bytes`; its sequence is not set), 0 at the end, or ERROR_CORRUPT. Safe on
 * hostile input: kinds, lengths and limits are checked; a reference's value is checked to decode.
 */
int batch_next(struct slice bytes, size_t *cursor, struct record *ret_record);

#endif
