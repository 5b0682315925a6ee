/* SPDX-License-Identifier: Apache-2.0 */
/*
 * batch.c - build and walk the byte string of a batch
 */
#include "engine/batch.h"

#include <errno.h>

#include "engine/base/endian.h"
#include "engine/base/error.h"

/* Kind, two lengths: what a record takes besides key and value. */
#define RECORD_OVERHEAD_MAX (1 + 2 * VARINT_SIZE_MAX)

#define BATCH_CAPACITY_MIN 512

static bool key_is_valid(struct slice key)
{
    return key.size >= 1 && key.size <= RECORD_KEY_SIZE_MAX;
}

static int make_room(struct batch *batch, size_t extra)
{
    if (extra > SIZE_MAX - batch->bytes.size - BATCH_CAPACITY_MIN)
        return -ENOMEM;
    if (batch->bytes.capacity == 0)
        extra += BATCH_CAPACITY_MIN; /* most batches then allocate once */
    return buffer_reserve(&batch->bytes, batch->bytes.size + extra);
}

static uint8_t *put_bytes(uint8_t *to, struct slice bytes)
{
    to = put_varint(to, bytes.size);
    if (bytes.size > 0)
        memcpy(to, bytes.data, bytes.size);
    return to + bytes.size;
}

/* The first error is kept, and what follows it is not appended: such a batch is never written. */
static void append_record(struct batch *batch, enum record_kind kind, struct slice key,
                          struct slice value)
{
    uint8_t *to;

    if (batch->error != 0)
        return;
    if (!key_is_valid(key) || value.size > RECORD_VALUE_SIZE_MAX || batch->count == UINT32_MAX) {
        batch->error = -EINVAL;
        return;
    }
    batch->error = make_room(batch, RECORD_OVERHEAD_MAX + key.size + value.size);
    if (batch->error != 0)
        return;

    to = batch->bytes.data + batch->bytes.size;
    *to++ = (uint8_t)kind;
    to = put_bytes(to, key);
    if (kind != RECORD_DELETE)
        to = put_bytes(to, value);
    batch->bytes.size = (size_t)(to - batch->bytes.data);
    batch->count++;
}

void batch_put(struct batch *batch, struct slice key, struct slice value)
{
    append_record(batch, RECORD_VALUE, key, value);
}

void batch_put_reference(struct batch *batch, struct slice key, const struct blob_ref *ref)
{
    uint8_t encoded[BLOB_REF_SIZE_MAX];
    size_t size = blob_ref_encode(ref, encoded);

    append_record(batch, RECORD_REFERENCE, key, slice_of(encoded, size));
}

void batch_delete(struct batch *batch, struct slice key)
{
    append_record(batch, RECORD_DELETE, key, slice_of(NULL, 0));
}

void batch_delete_range(struct batch *batch, struct slice start, struct slice end)
{
    if (slice_compare(start, end) >= 0)
        return;
    if (!key_is_valid(end) && batch->error == 0)
        batch->error = -EINVAL;
    append_record(batch, RECORD_DELETE_RANGE, start, end);
}

void batch_append(struct batch *batch, const struct batch *from)
{
    size_t size = from->bytes.size;

    if (batch->error != 0)
        return;
    batch->error = from->error;
    if (batch->error == 0 && from->count > UINT32_MAX - batch->count)
        batch->error = -EINVAL;
    if (batch->error == 0)
        batch->error = make_room(batch, size);
    if (batch->error != 0 || size == 0)
        return;

    memcpy(batch->bytes.data + batch->bytes.size, from->bytes.data, size);
    batch->freed_bytes += from->freed_bytes;
    batch->bytes.size += size;
    batch->count += from->count;
}

void batch_clear(struct batch *batch)
{
    batch->bytes.size = 0;
    batch->count = 0;
    batch->error = 0;
    batch->freed_bytes = 0;
}

void batch_free(struct batch *batch)
{
    buffer_free(&batch->bytes);
    batch_clear(batch);
}

/* A length and that many bytes; the byte after them, or NULL. */
static const uint8_t *get_bytes(const uint8_t *from, const uint8_t *end, size_t size_max,
                                struct slice *ret_bytes)
{
    uint64_t size;

    from = get_varint(from, end, &size);
    if (from == NULL || size > size_max || size > (size_t)(end - from))
        return NULL;
    *ret_bytes = slice_of(from, (size_t)size);
    return from + size;
}

static bool value_is_valid(const struct record *record)
{
    struct blob_ref ref;

    switch (record->kind) {
    case RECORD_VALUE:
    case RECORD_DELETE:
        return true;
    case RECORD_REFERENCE:
        return blob_ref_decode(record->value, &ref) == 0;
    case RECORD_DELETE_RANGE:
        return key_is_valid(record->value) && slice_compare(record->key, record->value) < 0;
    }
    return false;
}

int batch_next(struct slice bytes, size_t *cursor, struct record *ret_record)
{
    const uint8_t *from, *end;
    struct record record = {0};

    if (*cursor > bytes.size)
        return ERROR_CORRUPT;
    if (*cursor == bytes.size)
        return 0;
    from = bytes.data + *cursor;
    end = bytes.data + bytes.size;

    record.kind = (enum record_kind)from[0]; /* which value_is_valid() knows, or not */
    from = get_bytes(from + 1, end, RECORD_KEY_SIZE_MAX, &record.key);
    if (record.key.size == 0) /* or there is none */
        return ERROR_CORRUPT;
    if (record.kind != RECORD_DELETE) {
        from = get_bytes(from, end, RECORD_VALUE_SIZE_MAX, &record.value);
        if (from == NULL)
            return ERROR_CORRUPT;
    }
    if (!value_is_valid(&record))
        return ERROR_CORRUPT;

    ret_record->kind = record.kind;
    ret_record->key = record.key;
    ret_record->value = record.value;
    *cursor = (size_t)(from - bytes.data);
    return 1;
}
