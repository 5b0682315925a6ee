/* SPDX-License-Identifier: Apache-2.0 */
/*
 * blob_ref.h - a reference to bytes in a blob chunk: the value of a RECORD_REFERENCE
 *
 * File data is written once, in frames of at most BLOB_FRAME_SIZE_MAX bytes, appended to blob
 * chunks. A reference names a frame and the slice of its uncompressed bytes that is meant, so that
 * an extent is split, trimmed or shared by making references, never by copying data.
 *
 * Checksums live in the reference, not beside the data: a block that was swapped, stale or rotten is
 * detected because the metadata says what must be there.
 *   CODEC_ZSTD: one 64-bit XXH3 of the stored frame.
 *   CODEC_NONE: a 32-bit XXH3 for each BLOB_BLOCK_SIZE block of the frame that the slice touches, so
 *               that 4 KiB can be read and verified alone. Block n of a frame is its bytes
 *               [n * 4096, min((n + 1) * 4096, raw size)). stored size == raw size.
 *
 * Format (little-endian): chunk id u64, position u64, stored size u32, raw size u32, skip u32,
 * length u32, codec u8, then u64 or ceil-count u32 checksums. docs/on-disk-format.md#blob-reference
 */
#ifndef VARVE_ENGINE_BLOB_REF_H
#define VARVE_ENGINE_BLOB_REF_H

#include "engine/base/bytes.h"
#include "engine/base/codec.h"

#define BLOB_FRAME_SIZE_MAX (128 * 1024)
#define BLOB_BLOCK_SIZE     4096

#define BLOB_APPEND_FRAMES_MAX 8 /* in one call */

#define BLOB_BLOCKS_MAX (BLOB_FRAME_SIZE_MAX / BLOB_BLOCK_SIZE)

#define BLOB_REF_HEADER_SIZE 33
#define BLOB_REF_SIZE_MAX    (BLOB_REF_HEADER_SIZE + BLOB_BLOCKS_MAX * 4)

struct blob_ref {
    uint64_t chunk_id;
    uint64_t position;    /* of the frame, in bytes from the start of the chunk file */
    uint32_t stored_size; /* bytes of the frame on disk */
    uint32_t raw_size;    /* bytes of the frame uncompressed, 1..BLOB_FRAME_SIZE_MAX */
    uint32_t skip;        /* the slice: raw bytes [skip, skip + length) */
    uint32_t length;      /* >= 1 */
    enum codec codec;
    uint64_t frame_checksum;                   /* CODEC_ZSTD */
    uint32_t block_checksums[BLOB_BLOCKS_MAX]; /* CODEC_NONE: [0] is of block skip / 4096 */
};

/* Number of block checksums that the slice needs (CODEC_NONE). */
uint32_t blob_ref_block_count(const struct blob_ref *ref);

/* Write the encoding at `to` (BLOB_REF_SIZE_MAX of room); returns its size. */
size_t blob_ref_encode(const struct blob_ref *ref, uint8_t *to);

/* 0 or ERROR_CORRUPT; checks every field against the others. Safe on hostile input. */
int blob_ref_decode(struct slice from, struct blob_ref *ret_ref);

/* Decode only the chunk id (for accounting). 0 or ERROR_CORRUPT. */
int blob_ref_decode_chunk_id(struct slice from, uint64_t *ret_chunk_id);

/* Bytes on disk that this slice answers for: stored size * length / raw size, rounded up. */
uint64_t blob_ref_share(const struct blob_ref *ref);

/* Narrow to `length` bytes from `offset` of the present slice: offset + length <= ref->length. */
void blob_ref_slice(struct blob_ref *ref, uint32_t offset, uint32_t length);

#endif
