/* SPDX-License-Identifier: Apache-2.0 */
/*
 * table_index.h - which data block of a table a key lies in (bytes: table_format.h)
 *
 * In memory a search compares 8 bytes of each separator, those after what all separators have in
 * common, in one dense array; full separators are compared only where these are equal.
 *
 * Threads: a builder belongs to one thread; an index is immutable.
 */
#ifndef VARVE_ENGINE_TABLE_INDEX_H
#define VARVE_ENGINE_TABLE_INDEX_H

#include "engine/table_format.h"

/* A zeroed builder is valid and empty. */
struct table_index_builder {
    struct buffer bytes;
    uint32_t count;
    size_t separator_size; /* of the block before */
    uint8_t separator[RECORD_KEY_SIZE_MAX];
};

/*
 * Add the next data block: `last_before` is the last key of the block before it (not used for the
 * first block), `first` its own first key. 0 or -ENOMEM.
 */
int table_index_builder_add(struct table_index_builder *builder, struct slice last_before,
                            struct slice first, size_t stored_size, size_t raw_size);
/* The raw section; lives until the builder is freed. Works when empty. 0 or -ENOMEM. */
int table_index_builder_finish(struct table_index_builder *builder, struct slice *ret_raw);
void table_index_builder_free(struct table_index_builder *builder); /* members only */

struct table_index {
    size_t count;
    uint64_t *positions; /* count + 1: block n is stored in [n, n + 1), section trailer included */
    uint32_t *raw_sizes; /* count */
    uint64_t *heads;     /* count; 8 bytes of the separator from prefix_size on, big-endian */
    uint32_t *key_offsets; /* count + 1: separator n is keys[n .. n + 1) */
    uint8_t *keys;
    size_t prefix_size; /* bytes that separators 1.. have in common */
    size_t memory_bytes;
};

/*
 * Parse the raw section of a table whose data blocks fill [first_position, end_position).
 * 0, -ENOMEM or ERROR_CORRUPT. Safe on hostile input. The bytes are not needed afterwards.
 */
int table_index_parse(struct slice raw, uint64_t first_position, uint64_t end_position,
                      struct table_index *ret_index);
void table_index_free(struct table_index *index); /* members; accepts a zeroed index */

/* Every key of block `n` is at or above it, every key of the blocks before is below. Lives as long
 * as the index. */
static inline struct slice table_index_separator(const struct table_index *index, size_t n)
{
    return slice_of(index->keys + index->key_offsets[n],
                    index->key_offsets[n + 1] - index->key_offsets[n]);
}

/* The only block that can contain `key`; a greater key may first appear in the next one. Not on an
 * index without blocks. */
size_t table_index_find(const struct table_index *index, struct slice key);

#endif
