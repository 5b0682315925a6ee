/* SPDX-License-Identifier: Apache-2.0 */
/*
 * table_meta.c - what the manifest keeps of a table: copying, encoding, decoding
 */
#include "engine/table_meta.h"

#include <errno.h>
#include <stdlib.h>

#include "engine/base/error.h"
#include "engine/base/invariant.h"
#include "engine/table_format.h"

#define IDENTITY_SIZE   36 /* id, kind, file size, hash */
#define COUNTS_SIZE     40 /* five u64 */
#define USE_SIZE_MAX    (3 * VARINT_SIZE_MAX)
#define USE_SIZE_MIN    3
#define BODY_SIZE_FIXED (COUNTS_SIZE + 2 + 2 + 4)

void table_meta_free(struct table_meta *meta)
{
    buffer_free(&meta->smallest);
    buffer_free(&meta->largest);
    free(meta->uses);
    memset(meta, 0, sizeof *meta);
}

int table_meta_copy(const struct table_meta *from, struct table_meta *ret_to)
{
    struct table_meta copy = *from;
    int error;

    memset(&copy.smallest, 0, sizeof copy.smallest);
    memset(&copy.largest, 0, sizeof copy.largest);
    copy.uses = NULL;
    error = buffer_append(&copy.smallest, from->smallest.data, from->smallest.size);
    if (error == 0)
        error = buffer_append(&copy.largest, from->largest.data, from->largest.size);
    if (error == 0 && from->use_count > 0) {
        copy.uses = malloc(from->use_count * sizeof *copy.uses);
        if (copy.uses)
            memcpy(copy.uses, from->uses, from->use_count * sizeof *copy.uses);
        else
            error = -ENOMEM;
    }
    if (error < 0) {
        table_meta_free(&copy);
        return error;
    }
    *ret_to = copy;
    return 0;
}

static uint8_t *put_key(uint8_t *to, const struct buffer *key)
{
    put_le16(to, (uint16_t)key->size);
    if (key->size > 0)
        memcpy(to + 2, key->data, key->size);
    return to + 2 + key->size;
}

int table_meta_encode_body(const struct table_meta *meta, struct buffer *to)
{
    size_t room =
        BODY_SIZE_FIXED + meta->smallest.size + meta->largest.size + meta->use_count * USE_SIZE_MAX;
    uint64_t id_before = 0;
    uint8_t *at;
    int error;

    invariant(meta->smallest.size <= RECORD_KEY_SIZE_MAX);
    invariant(meta->largest.size <= RECORD_KEY_SIZE_MAX);
    invariant(meta->use_count <= UINT32_MAX);
    error = buffer_reserve(to, to->size + room);
    if (error < 0)
        return error;

    at = to->data + to->size;
    put_le64(at, meta->records);
    put_le64(at + 8, meta->deletes);
    put_le64(at + 16, meta->tombstones);
    put_le64(at + 24, meta->smallest_sequence);
    put_le64(at + 32, meta->largest_sequence);
    at = put_key(at + COUNTS_SIZE, &meta->smallest);
    at = put_key(at, &meta->largest);
    put_le32(at, (uint32_t)meta->use_count);
    at += 4;
    for (size_t i = 0; i < meta->use_count; i++) {
        const struct table_blob_use *use = &meta->uses[i];

        invariant(i == 0 || use->chunk_id > id_before);
        at = put_varint(at, use->chunk_id - id_before);
        at = put_varint(at, use->references);
        at = put_varint(at, use->bytes);
        id_before = use->chunk_id;
    }
    to->size = (size_t)(at - to->data);
    return 0;
}

int table_meta_encode(const struct table_meta *meta, struct buffer *to)
{
    size_t before = to->size;
    uint8_t identity[IDENTITY_SIZE];
    int error;

    put_le64(identity, meta->identity.id);
    put_le32(identity + 8, meta->identity.kind);
    put_le64(identity + 12, meta->identity.file_size_bytes);
    put_le64(identity + 20, meta->identity.hash.low);
    put_le64(identity + 28, meta->identity.hash.high);
    error = buffer_append(to, identity, sizeof identity);
    if (error == 0)
        error = table_meta_encode_body(meta, to);
    if (error < 0)
        to->size = before;
    return error;
}

/* The next `size` bytes of `*from`, or NULL when there are fewer. */
static const uint8_t *take(struct slice *from, size_t size)
{
    const uint8_t *taken = from->data;

    if (from->size < size)
        return NULL;
    from->data += size;
    from->size -= size;
    return taken;
}

static bool take_varint(struct slice *from, uint64_t *ret_value)
{
    const uint8_t *end = from->data + from->size;
    const uint8_t *next = get_varint(from->data, end, ret_value);

    if (!next)
        return false;
    *from = slice_of(next, (size_t)(end - next));
    return true;
}

static bool take_use(struct slice *from, uint64_t *ret_difference, struct table_blob_use *ret_use)
{
    return take_varint(from, ret_difference) && take_varint(from, &ret_use->references) &&
           take_varint(from, &ret_use->bytes);
}

static int take_key(struct slice *from, struct buffer *ret_key)
{
    const uint8_t *at = take(from, 2);
    size_t size;

    if (!at)
        return ERROR_CORRUPT;
    size = get_le16(at);
    at = take(from, size);
    if (!at || size > RECORD_KEY_SIZE_MAX)
        return ERROR_CORRUPT;
    return buffer_append(ret_key, at, size);
}

static int take_uses(struct slice *from, struct table_meta *meta)
{
    const uint8_t *at = take(from, 4);
    size_t count;
    uint64_t id = 0;

    if (!at)
        return ERROR_CORRUPT;
    count = get_le32(at);
    if (count == 0)
        return 0;
    if (count > from->size / USE_SIZE_MIN) /* before memory is asked for */
        return ERROR_CORRUPT;
    meta->uses = malloc(count * sizeof *meta->uses);
    if (!meta->uses)
        return -ENOMEM;
    for (size_t i = 0; i < count; i++) {
        struct table_blob_use *use = &meta->uses[i];
        uint64_t difference;

        if (!take_use(from, &difference, use))
            return ERROR_CORRUPT;
        if ((i > 0 && difference == 0) || id + difference < id)
            return ERROR_CORRUPT;
        id += difference;
        use->chunk_id = id;
    }
    meta->use_count = count;
    return 0;
}

static int decode_body(struct slice *from, struct table_meta *meta)
{
    const uint8_t *at = take(from, COUNTS_SIZE);
    int error;

    if (!at)
        return ERROR_CORRUPT;
    meta->records = get_le64(at);
    meta->deletes = get_le64(at + 8);
    meta->tombstones = get_le64(at + 16);
    meta->smallest_sequence = get_le64(at + 24);
    meta->largest_sequence = get_le64(at + 32);
    if (meta->deletes > meta->records || meta->smallest_sequence > meta->largest_sequence)
        return ERROR_CORRUPT;
    error = take_key(from, &meta->smallest);
    if (error == 0)
        error = take_key(from, &meta->largest);
    if (error < 0)
        return error;
    if (slice_compare(buffer_slice(&meta->smallest), buffer_slice(&meta->largest)) > 0)
        return ERROR_CORRUPT;
    return take_uses(from, meta);
}

int table_meta_decode_body(struct slice *from, struct table_meta *ret_meta)
{
    struct table_meta meta = {0};
    struct slice rest = *from;
    int error = decode_body(&rest, &meta);

    if (error < 0) {
        table_meta_free(&meta);
        return error;
    }
    *from = rest;
    *ret_meta = meta;
    return 0;
}

int table_meta_decode(struct slice *from, struct table_meta *ret_meta)
{
    struct slice rest = *from;
    const uint8_t *at = take(&rest, IDENTITY_SIZE);
    struct chunk_identity identity;
    int error;

    if (!at || get_le32(at + 8) != CHUNK_TABLE)
        return ERROR_CORRUPT;
    identity.id = get_le64(at);
    identity.kind = CHUNK_TABLE;
    identity.file_size_bytes = get_le64(at + 12);
    identity.hash.low = get_le64(at + 20);
    identity.hash.high = get_le64(at + 28);
    error = table_meta_decode_body(&rest, ret_meta);
    if (error < 0)
        return error;
    ret_meta->identity = identity;
    *from = rest;
    return 0;
}
