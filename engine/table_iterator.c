/* SPDX-License-Identifier: Apache-2.0 */
/*
 * table_iterator.c - walk the records of a table in key order
 *
 * Blocks come from the cache, from the span, or from disk into the span: stored bytes of adjacent
 * blocks read at once. The span covers one block after a seek and doubles while the walk goes on,
 * so that a short walk reads little and a long one reads SPAN_SIZE_MAX at a time. A walk that does
 * not fill the cache (compaction) is known to be long and begins with SPAN_SIZE_LONG.
 */
#include <errno.h>
#include <stdlib.h>

#include "engine/base/error.h"
#include "engine/base/invariant.h"
#include "engine/table_block.h"
#include "engine/table_reader_internal.h"

#define SPAN_SIZE_FIRST ((size_t)16 << 10) /* at the second block of a walk */
#define SPAN_SIZE_LONG  ((size_t)128 << 10)
#define SPAN_SIZE_MAX   ((size_t)256 << 10)

struct table_iterator {
    struct table_reader *reader;
    bool fill_cache;
    const uint8_t *passed; /* bits of blocks to pass over, or NULL */
    bool at_record;
    int error; /* of the last call; stays until the next seek */

    size_t block_index; /* of the current block; valid when have_block */
    bool have_block;
    struct block *block;   /* the current block, from the cache; or NULL: it lies in `decoded` */
    struct buffer decoded; /* size counts capacity that is in use */
    struct table_block_cursor cursor;

    struct buffer span; /* stored bytes of blocks [span_first, span_end) */
    size_t span_first, span_end;
    size_t span_wanted; /* bytes to read at the next miss; 0: one block */
};

struct table_iterator *table_iterator_new(struct table_reader *reader)
{
    struct table_iterator *iterator = calloc(1, sizeof *iterator);

    if (!iterator)
        return NULL;
    iterator->reader = table_reader_ref(reader);
    iterator->fill_cache = true;
    return iterator;
}

void table_iterator_free(struct table_iterator *iterator)
{
    if (!iterator)
        return;
    block_release(iterator->block);
    buffer_free(&iterator->decoded);
    buffer_free(&iterator->span);
    table_reader_unref(iterator->reader);
    free(iterator);
}

void table_iterator_set_fill_cache(struct table_iterator *iterator, bool fill_cache)
{
    iterator->fill_cache = fill_cache;
}

void table_iterator_set_passed(struct table_iterator *iterator, const uint8_t *passed)
{
    iterator->passed = passed;
}

static bool is_passed(const struct table_iterator *iterator, size_t index)
{
    return iterator->passed && (iterator->passed[index / 8] >> index % 8 & 1) != 0;
}

/* The first block from `index` on that the walk enters; the number of blocks if there is none. */
static size_t enterable(const struct table_iterator *iterator, size_t index)
{
    while (index < iterator->reader->index.count && is_passed(iterator, index))
        index++;
    return index;
}

/* Read block `index` and as many behind it as the walk deserves. */
static int read_span(struct table_iterator *iterator, size_t index)
{
    const struct table_index *blocks = &iterator->reader->index;
    uint64_t begin = blocks->positions[index];
    size_t end = index + 1;
    size_t size;
    int error;

    while (end < blocks->count && !is_passed(iterator, end) &&
           blocks->positions[end + 1] - begin <= iterator->span_wanted)
        end++;
    size = (size_t)(blocks->positions[end] - begin);
    iterator->span_first = iterator->span_end = 0;
    error = buffer_reserve(&iterator->span, size);
    if (error == 0)
        error = table_reader_read(iterator->reader, iterator->span.data, size, begin);
    if (error < 0)
        return error;
    iterator->span_first = index;
    iterator->span_end = end;
    return 0;
}

/* The stored bytes of block `index`, from the span if they are there. */
static int get_stored(struct table_iterator *iterator, size_t index, const uint8_t **ret_stored)
{
    const uint64_t *positions = iterator->reader->index.positions;

    if (index < iterator->span_first || index >= iterator->span_end) {
        int error = read_span(iterator, index);

        if (error < 0)
            return error;
    }
    *ret_stored =
        iterator->span.data + (size_t)(positions[index] - positions[iterator->span_first]);
    return 0;
}

/* Decode block `index` into a new block and offer it to the cache. */
static int decode_to_cache(struct table_iterator *iterator, size_t index,
                           const struct block_key *key)
{
    struct table_reader *reader = iterator->reader;
    const uint8_t *stored;
    struct block *block;
    int error = get_stored(iterator, index, &stored);

    if (error < 0)
        return error;
    block = block_new(reader->index.raw_sizes[index]);
    if (!block)
        return -ENOMEM;
    error = table_reader_decode(reader, index, stored, block->data);
    if (error < 0) {
        block_release(block);
        return error;
    }
    iterator->block = block_cache_insert(reader->cache, key, block);
    return 0;
}

/* Decode block `index` into the iterator's own memory. */
static int decode_privately(struct table_iterator *iterator, size_t index)
{
    struct table_reader *reader = iterator->reader;
    size_t raw_size = reader->index.raw_sizes[index];
    const uint8_t *stored;
    int error = get_stored(iterator, index, &stored);

    if (error == 0)
        error = buffer_reserve(&iterator->decoded, raw_size);
    if (error == 0)
        error = table_reader_decode(reader, index, stored, iterator->decoded.data);
    if (error == 0)
        iterator->decoded.size = raw_size;
    return error;
}

static int fetch_block(struct table_iterator *iterator, size_t index)
{
    struct table_reader *reader = iterator->reader;
    struct block_key key;

    if (!iterator->fill_cache || !reader->cache)
        return decode_privately(iterator, index);
    key = table_reader_block_key(reader, index);
    iterator->block = block_cache_get(reader->cache, &key);
    return iterator->block ? 0 : decode_to_cache(iterator, index, &key);
}

/* Make block `index` the current one, the cursor before its first record. */
static int enter_block(struct table_iterator *iterator, size_t index)
{
    struct table_block_view view;
    struct slice raw;
    int error;

    if (!iterator->have_block || iterator->block_index != index) {
        iterator->have_block = false;
        block_release(iterator->block);
        iterator->block = NULL;
        error = fetch_block(iterator, index);
        if (error < 0)
            return error;
        iterator->block_index = index;
        iterator->have_block = true;
    }
    raw = iterator->block ? slice_of(iterator->block->data, iterator->block->size_bytes)
                          : buffer_slice(&iterator->decoded);
    error = table_block_open(raw, &view);
    if (error < 0)
        return table_reader_report_block(iterator->reader, index);
    table_block_cursor_init(&iterator->cursor, &view);
    return 0;
}

/* What the next miss reads, now that the walk goes on. */
static void grow_span(struct table_iterator *iterator)
{
    if (iterator->span_wanted == 0)
        iterator->span_wanted = SPAN_SIZE_FIRST;
    else if (iterator->span_wanted < SPAN_SIZE_MAX)
        iterator->span_wanted *= 2;
}

/* Keys rise across blocks too, whoever wrote the table: merges rely on it. Those before block
 * `next` lie below its separator, which the block that is left has shown by its last key ... */
static bool ends_below(const struct table_iterator *iterator, size_t next)
{
    return slice_compare(iterator->cursor.record.key,
                         table_index_separator(&iterator->reader->index, next)) < 0;
}

/* ... and the first key of the block is none of those. */
static bool begins_at(const struct table_iterator *iterator, size_t index)
{
    return slice_compare(iterator->cursor.record.key,
                         table_index_separator(&iterator->reader->index, index)) >= 0;
}

/* Take the cursor's result for ours; at the end of a block go on in the next one. */
static int settle(struct table_iterator *iterator, int result)
{
    while (result == 0) {
        size_t next = enterable(iterator, iterator->block_index + 1);

        if (next == iterator->reader->index.count)
            break;
        if (next >= iterator->span_end)
            grow_span(iterator);
        if (!ends_below(iterator, next)) {
            result = table_reader_report_block(iterator->reader, next - 1);
            break;
        }
        result = enter_block(iterator, next);
        if (result < 0)
            break;
        result = table_block_cursor_next(&iterator->cursor);
        if (result < 0 || (result == 1 && !begins_at(iterator, next)))
            result = table_reader_report_block(iterator->reader, next);
    }
    iterator->at_record = result == 1;
    iterator->error = result < 0 ? result : 0;
    return result;
}

int table_iterator_seek(struct table_iterator *iterator, struct slice key)
{
    const struct table_index *blocks = &iterator->reader->index;
    size_t index;
    int result;

    iterator->at_record = false;
    iterator->error = 0;
    if (blocks->count == 0)
        return 0;
    index = enterable(iterator, table_index_find(blocks, key));
    if (index == blocks->count)
        return 0;
    iterator->span_wanted = iterator->fill_cache ? 0 : SPAN_SIZE_LONG;
    result = enter_block(iterator, index);
    if (result < 0) {
        iterator->error = result;
        return result;
    }
    result = table_block_cursor_seek(&iterator->cursor, key);
    if (result < 0)
        table_reader_report_block(iterator->reader, index);
    return settle(iterator, result);
}

int table_iterator_next(struct table_iterator *iterator)
{
    int result;

    if (iterator->error < 0)
        return iterator->error;
    if (!iterator->at_record)
        return 0;
    result = table_block_cursor_next(&iterator->cursor);
    if (result == 1)
        return 1;
    if (result < 0)
        table_reader_report_block(iterator->reader, iterator->block_index);
    return settle(iterator, result);
}

const struct record *table_iterator_record(const struct table_iterator *iterator)
{
    invariant(iterator->at_record);
    return &iterator->cursor.record;
}
