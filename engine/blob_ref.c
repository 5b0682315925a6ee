/* SPDX-License-Identifier: Apache-2.0 */
/*
 * blob_ref.c - encode, check and narrow references to blob frames
 */
#include "engine/blob_ref.h"

#include "engine/base/endian.h"
#include "engine/base/error.h"
#include "engine/base/invariant.h"

/* Offsets of the fixed fields; the checksums follow at BLOB_REF_HEADER_SIZE. */
enum {
    FIELD_CHUNK_ID = 0,
    FIELD_POSITION = 8,
    FIELD_STORED_SIZE = 16,
    FIELD_RAW_SIZE = 20,
    FIELD_SKIP = 24,
    FIELD_LENGTH = 28,
    FIELD_CODEC = 32,
};

_Static_assert(FIELD_CODEC + 1 == BLOB_REF_HEADER_SIZE, "the codec ends the header");
_Static_assert(BLOB_REF_SIZE_MAX >= BLOB_REF_HEADER_SIZE + sizeof(uint64_t),
               "a compressed frame's checksum fits as well");

static uint32_t first_block(const struct blob_ref *ref)
{
    return ref->skip / BLOB_BLOCK_SIZE;
}

uint32_t blob_ref_block_count(const struct blob_ref *ref)
{
    return (ref->skip + ref->length - 1) / BLOB_BLOCK_SIZE - first_block(ref) + 1;
}

/* Everything that the fixed fields must satisfy among themselves. */
static bool header_is_valid(const struct blob_ref *ref)
{
    if (ref->raw_size > BLOB_FRAME_SIZE_MAX)
        return false;
    /* Nothing is a slice of a frame without bytes. */
    if (ref->length < 1 || ref->length > ref->raw_size || ref->skip > ref->raw_size - ref->length)
        return false;
    /* The end of the frame must be a file offset. */
    if (ref->position > (uint64_t)INT64_MAX - ref->stored_size)
        return false;
    switch (ref->codec) {
    case CODEC_NONE:
        return ref->stored_size == ref->raw_size;
    case CODEC_ZSTD:
        /* A frame that did not shrink is stored raw. */
        return ref->stored_size >= 1 && ref->stored_size < ref->raw_size;
    }
    return false;
}

static size_t checksums_size(const struct blob_ref *ref)
{
    if (ref->codec == CODEC_NONE)
        return blob_ref_block_count(ref) * sizeof(uint32_t);
    return sizeof(uint64_t);
}

size_t blob_ref_encode(const struct blob_ref *ref, uint8_t *to)
{
    invariant(header_is_valid(ref));

    put_le64(to + FIELD_CHUNK_ID, ref->chunk_id);
    put_le64(to + FIELD_POSITION, ref->position);
    put_le32(to + FIELD_STORED_SIZE, ref->stored_size);
    put_le32(to + FIELD_RAW_SIZE, ref->raw_size);
    put_le32(to + FIELD_SKIP, ref->skip);
    put_le32(to + FIELD_LENGTH, ref->length);
    to[FIELD_CODEC] = (uint8_t)ref->codec;

    to += BLOB_REF_HEADER_SIZE;
    if (ref->codec == CODEC_NONE) {
        uint32_t count = blob_ref_block_count(ref);

        for (uint32_t i = 0; i < count; i++)
            put_le32(to + i * sizeof(uint32_t), ref->block_checksums[i]);
    } else {
        put_le64(to, ref->frame_checksum);
    }
    return BLOB_REF_HEADER_SIZE + checksums_size(ref);
}

int blob_ref_decode(struct slice from, struct blob_ref *ret_ref)
{
    struct blob_ref ref;
    const uint8_t *checksums;

    if (from.size < BLOB_REF_HEADER_SIZE)
        return ERROR_CORRUPT;

    ref.chunk_id = get_le64(from.data + FIELD_CHUNK_ID);
    ref.position = get_le64(from.data + FIELD_POSITION);
    ref.stored_size = get_le32(from.data + FIELD_STORED_SIZE);
    ref.raw_size = get_le32(from.data + FIELD_RAW_SIZE);
    ref.skip = get_le32(from.data + FIELD_SKIP);
    ref.length = get_le32(from.data + FIELD_LENGTH);
    ref.codec = (enum codec)from.data[FIELD_CODEC];
    if (!header_is_valid(&ref) || from.size != BLOB_REF_HEADER_SIZE + checksums_size(&ref))
        return ERROR_CORRUPT;

    ref.frame_checksum = 0;
    memset(ref.block_checksums, 0, sizeof ref.block_checksums);
    checksums = from.data + BLOB_REF_HEADER_SIZE;
    if (ref.codec == CODEC_NONE) {
        uint32_t count = blob_ref_block_count(&ref);

        for (uint32_t i = 0; i < count; i++)
            ref.block_checksums[i] = get_le32(checksums + i * sizeof(uint32_t));
    } else {
        ref.frame_checksum = get_le64(checksums);
    }
    *ret_ref = ref;
    return 0;
}

int blob_ref_decode_chunk_id(struct slice from, uint64_t *ret_chunk_id)
{
    if (from.size < BLOB_REF_HEADER_SIZE || from.size > BLOB_REF_SIZE_MAX)
        return ERROR_CORRUPT;
    *ret_chunk_id = get_le64(from.data + FIELD_CHUNK_ID);
    return 0;
}

uint64_t blob_ref_share(const struct blob_ref *ref)
{
    /* Below 2^34: both factors are at most a frame. */
    uint64_t product = (uint64_t)ref->stored_size * ref->length;

    return (product + ref->raw_size - 1) / ref->raw_size;
}

void blob_ref_slice(struct blob_ref *ref, uint32_t offset, uint32_t length)
{
    uint32_t first = first_block(ref);
    uint32_t dropped;

    invariant(length >= 1 && offset <= ref->length && length <= ref->length - offset);

    ref->skip += offset;
    ref->length = length;
    dropped = first_block(ref) - first;
    if (ref->codec == CODEC_NONE && dropped > 0)
        memmove(ref->block_checksums, ref->block_checksums + dropped,
                blob_ref_block_count(ref) * sizeof ref->block_checksums[0]);
}
