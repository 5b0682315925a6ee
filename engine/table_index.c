/* SPDX-License-Identifier: Apache-2.0 */
/*
 * table_index.c - the index of a table
 */
#include "engine/table_index.h"

#include <errno.h>
#include <stdlib.h>

#include "engine/base/error.h"
#include "engine/base/invariant.h"

#define COUNT_SIZE 4

static size_t common_prefix(struct slice a, struct slice b)
{
    size_t least = a.size < b.size ? a.size : b.size;
    size_t at = 0;

    while (at < least && a.data[at] == b.data[at])
        at++;
    return at;
}

/* ---- building ---- */

int table_index_builder_add(struct table_index_builder *builder, struct slice last_before,
                            struct slice first, size_t stored_size, size_t raw_size)
{
    struct slice separator = slice_of(first.data, 0);
    size_t shared, own;
    uint8_t *to;
    int error;

    if (builder->count > 0) {
        /* One byte more than `first` has in common with the key below it sets them apart. */
        separator.size = common_prefix(last_before, first) + 1;
        invariant(separator.size <= first.size);
    }
    error = buffer_reserve(&builder->bytes, (builder->count == 0 ? COUNT_SIZE : 0) +
                                                builder->bytes.size + 4 * VARINT_SIZE_MAX +
                                                separator.size);
    if (error < 0)
        return error;
    if (builder->count == 0)
        builder->bytes.size = COUNT_SIZE; /* the number is filled in at the end */
    shared = common_prefix(slice_of(builder->separator, builder->separator_size), separator);
    own = separator.size - shared;

    to = builder->bytes.data + builder->bytes.size;
    to = put_varint(to, shared);
    to = put_varint(to, own);
    to = put_varint(to, stored_size);
    to = put_varint(to, raw_size);
    memcpy(to, separator.data + shared, own);
    builder->bytes.size = (size_t)(to + own - builder->bytes.data);

    memcpy(builder->separator + shared, separator.data + shared, own);
    builder->separator_size = separator.size;
    builder->count++;
    return 0;
}

int table_index_builder_finish(struct table_index_builder *builder, struct slice *ret_raw)
{
    if (builder->count == 0) {
        int error = buffer_reserve(&builder->bytes, COUNT_SIZE);

        if (error < 0)
            return error;
        builder->bytes.size = COUNT_SIZE;
    }
    put_le32(builder->bytes.data, builder->count);
    *ret_raw = buffer_slice(&builder->bytes);
    return 0;
}

void table_index_builder_free(struct table_index_builder *builder)
{
    buffer_free(&builder->bytes);
}

/* ---- parsing ---- */

struct index_entry {
    size_t shared, own;
    uint64_t stored_size, raw_size;
    const uint8_t *own_key;
};

static const uint8_t *entry_decode(const uint8_t *from, const uint8_t *end,
                                   struct index_entry *entry)
{
    uint64_t shared, own;

    from = get_varint(from, end, &shared);
    if (from)
        from = get_varint(from, end, &own);
    if (from)
        from = get_varint(from, end, &entry->stored_size);
    if (from)
        from = get_varint(from, end, &entry->raw_size);
    if (!from || shared > RECORD_KEY_SIZE_MAX || own > RECORD_KEY_SIZE_MAX - shared ||
        own > (uint64_t)(end - from))
        return NULL;
    if (entry->stored_size > TABLE_BLOCK_RAW_MAX || entry->raw_size == 0 ||
        entry->raw_size > TABLE_BLOCK_RAW_MAX)
        return NULL;
    entry->shared = (size_t)shared;
    entry->own = (size_t)own;
    entry->own_key = from;
    return from + own;
}

static int index_allocate(struct table_index *index, size_t count, size_t keys_size)
{
    index->count = count;
    index->positions = malloc((count + 1) * sizeof *index->positions);
    index->raw_sizes = malloc((count + 1) * sizeof *index->raw_sizes);
    index->heads = malloc((count + 1) * sizeof *index->heads);
    index->key_offsets = malloc((count + 1) * sizeof *index->key_offsets);
    index->keys = malloc(keys_size + 1);
    index->memory_bytes = (count + 1) * (2 * sizeof(uint64_t) + 2 * sizeof(uint32_t)) + keys_size;
    if (!index->positions || !index->raw_sizes || !index->heads || !index->key_offsets ||
        !index->keys)
        return -ENOMEM;
    return 0;
}

/* Uncompressed bytes of all separators, or ERROR_CORRUPT. */
static int64_t measure_keys(const uint8_t *at, const uint8_t *end, size_t count)
{
    struct index_entry entry;
    uint64_t size = 0;

    for (size_t i = 0; i < count; i++) {
        at = entry_decode(at, end, &entry);
        if (!at)
            return ERROR_CORRUPT;
        size += entry.shared + entry.own;
    }
    if (at != end || size > UINT32_MAX)
        return ERROR_CORRUPT;
    return (int64_t)size;
}

static struct slice separator_at(const struct table_index *index, size_t n)
{
    uint32_t offset = index->key_offsets[n];

    return slice_of(index->keys + offset, index->key_offsets[n + 1] - offset);
}

/* Fill in the arrays; sizes were measured. */
static int fill_entries(struct table_index *index, const uint8_t *at, const uint8_t *end,
                        uint64_t position)
{
    struct slice before = {index->keys, 0};
    uint32_t offset = 0;

    for (size_t i = 0; i < index->count; i++) {
        struct index_entry entry;
        uint8_t *key = index->keys + offset;

        at = entry_decode(at, end, &entry);
        invariant(at != NULL); /* as when they were measured */
        if (entry.shared > before.size)
            return ERROR_CORRUPT;
        memcpy(key, before.data, entry.shared);
        memcpy(key + entry.shared, entry.own_key, entry.own);
        index->key_offsets[i] = offset;
        index->raw_sizes[i] = (uint32_t)entry.raw_size;
        index->positions[i] = position;
        position += entry.stored_size + TABLE_SECTION_TRAILER_SIZE;
        offset += (uint32_t)(entry.shared + entry.own);
        if (i == 0 ? offset != 0
                   : slice_compare(before, slice_of(key, entry.shared + entry.own)) >= 0)
            return ERROR_CORRUPT;
        before = slice_of(key, entry.shared + entry.own);
    }
    index->positions[index->count] = position;
    index->key_offsets[index->count] = offset;
    return 0;
}

/* 8 bytes of `key` from `from` on as a number; missing bytes are zero. */
static uint64_t key_head(struct slice key, size_t from)
{
    uint8_t bytes[8] = {0};

    if (key.size >= from + 8)
        return get_be64(key.data + from);
    if (key.size > from)
        memcpy(bytes, key.data + from, key.size - from);
    return get_be64(bytes);
}

static void fill_heads(struct table_index *index)
{
    index->prefix_size = 0;
    if (index->count > 1) /* separators rise: what the outer two share, all share */
        index->prefix_size =
            common_prefix(separator_at(index, 1), separator_at(index, index->count - 1));
    for (size_t i = 0; i < index->count; i++)
        index->heads[i] = key_head(separator_at(index, i), index->prefix_size);
}

int table_index_parse(struct slice raw, uint64_t first_position, uint64_t end_position,
                      struct table_index *ret_index)
{
    struct table_index index = {0};
    const uint8_t *end = raw.data + raw.size;
    size_t count;
    int64_t keys_size;
    int error;

    if (raw.size < COUNT_SIZE)
        return ERROR_CORRUPT;
    count = get_le32(raw.data);
    /* Before memory is asked for: it counts no further than there are bytes. */
    keys_size = measure_keys(raw.data + COUNT_SIZE, end, count);
    if (keys_size < 0)
        return (int)keys_size;
    error = index_allocate(&index, count, (size_t)keys_size);
    if (error == 0)
        error = fill_entries(&index, raw.data + COUNT_SIZE, end, first_position);
    if (error == 0 && index.positions[count] != end_position)
        error = ERROR_CORRUPT;
    if (error < 0) {
        table_index_free(&index);
        return error;
    }
    fill_heads(&index);
    *ret_index = index;
    return 0;
}

void table_index_free(struct table_index *index)
{
    free(index->positions);
    free(index->raw_sizes);
    free(index->heads);
    free(index->key_offsets);
    free(index->keys);
    memset(index, 0, sizeof *index);
}

size_t table_index_find(const struct table_index *index, struct slice key)
{
    size_t low = 0, high = index->count; /* separator `low` is <= key, `high` is above it */
    size_t common;
    uint64_t head;
    int order;

    invariant(index->count > 0);
    if (index->count == 1)
        return 0;
    common = key.size < index->prefix_size ? key.size : index->prefix_size;
    order = common > 0 ? memcmp(key.data, separator_at(index, 1).data, common) : 0;
    if (order < 0 || (order == 0 && key.size < index->prefix_size))
        return 0;
    if (order > 0)
        return index->count - 1;

    head = key_head(key, index->prefix_size);
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        uint64_t other = index->heads[middle];

        if (other < head || (other == head && slice_compare(separator_at(index, middle), key) <= 0))
            low = middle;
        else
            high = middle;
    }
    return low;
}
