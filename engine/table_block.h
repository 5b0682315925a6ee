/* SPDX-License-Identifier: Apache-2.0 */
/*
 * table_block.h - data blocks of a table: building, searching, walking (bytes: table_format.h)
 *
 * Threads: a builder or a cursor belongs to one thread; a view is immutable.
 * Hostile input: every function on a view checks bounds and gives ERROR_CORRUPT; nothing is
 *          assumed because a checksum matched.
 */
#ifndef VARVE_ENGINE_TABLE_BLOCK_H
#define VARVE_ENGINE_TABLE_BLOCK_H

#include "engine/record.h"
#include "engine/table_format.h"

/* ---- building ---- */

/* A zeroed builder is valid and empty. */
struct table_block_builder {
    struct buffer bytes;
    struct buffer restarts; /* u32 each */
    size_t count;           /* entries */
    uint64_t last_sequence;
    size_t last_key_size;
    uint8_t last_key[RECORD_KEY_SIZE_MAX];
};

/* Append; keys must strictly rise within the block (asserted). 0 or -ENOMEM. */
int table_block_builder_add(struct table_block_builder *builder, const struct record *record);

/* An upper bound of the block's size once the record is added too. */
size_t table_block_builder_size_with(const struct table_block_builder *builder,
                                     const struct record *record);

/* Bytes so far; 0 when empty. */
size_t table_block_builder_size(const struct table_block_builder *builder);

/* Complete the block; the slice lives until the next call. 0 or -ENOMEM. Not when empty. */
int table_block_builder_finish(struct table_block_builder *builder, struct slice *ret_raw);

void table_block_builder_reset(struct table_block_builder *builder); /* keeps the memory */
void table_block_builder_free(struct table_block_builder *builder);  /* members only */

/* ---- reading ---- */

struct table_block_view {
    const uint8_t *entries;
    const uint8_t *entries_end; /* the restarts follow */
    uint32_t restart_count;
};

/* 0 or ERROR_CORRUPT. The view lives as long as the bytes. */
int table_block_open(struct slice raw, struct table_block_view *ret_view);

/* Find `key`: 1 and its record (value in the block, key the argument), 0, or ERROR_CORRUPT. */
int table_block_find(const struct table_block_view *view, struct slice key,
                     struct record *ret_record);

/* A position in a block; the record's key lies in the cursor, its value in the block. */
struct table_block_cursor {
    struct table_block_view view;
    const uint8_t *next;
    struct record record;
    uint8_t key[RECORD_KEY_SIZE_MAX];
};

/* Before the first entry. */
void table_block_cursor_init(struct table_block_cursor *cursor,
                             const struct table_block_view *view);
/* 1: at an entry; 0: past the last; ERROR_CORRUPT. */
int table_block_cursor_next(struct table_block_cursor *cursor);
/* To the first entry with a key >= `key`; returns as next. */
int table_block_cursor_seek(struct table_block_cursor *cursor, struct slice key);

#endif
