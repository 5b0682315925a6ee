/* SPDX-License-Identifier: Apache-2.0 */
/*
 * table_reader_internal.h - what table_reader.c, table_iterator.c and shared_blocks.c share
 */
#ifndef VARVE_ENGINE_TABLE_READER_INTERNAL_H
#define VARVE_ENGINE_TABLE_READER_INTERNAL_H

#include <stdatomic.h>

#include "engine/table.h"
#include "engine/table_format.h"
#include "engine/table_index.h"

/* A range tombstone; start and end lie one behind the other in tombstone_bytes. */
struct table_fragment {
    uint64_t sequence;
    uint32_t offset;
    uint16_t start_size, end_size;
};

/* Immutable after table_reader_open(), but for the count. */
struct table_reader {
    atomic_uint references;
    struct io *io;
    struct io_file *file;
    struct block_cache *cache; /* may be NULL */
    uint64_t cache_space;
    uint64_t salt;
    struct table_meta meta;
    struct table_index index;
    struct slice filter;
    uint8_t *filter_bytes;
    uint8_t *tombstone_bytes;
    size_t tombstone_bytes_size;
    struct table_fragment *fragments;
    size_t fragment_count;
    char name[CHUNK_NAME_SIZE];
};

/* Bytes that block `index` takes in the file, section trailer included. */
static inline size_t table_reader_stored_size(const struct table_reader *reader, size_t index)
{
    return (size_t)(reader->index.positions[index + 1] - reader->index.positions[index]);
}

/* Read bytes of data blocks; a failure is logged. */
int table_reader_read(struct table_reader *reader, void *to, size_t size, uint64_t position);

/* Verify and decode block `index` from its stored bytes into `to`; a failure is logged. */
int table_reader_decode(struct table_reader *reader, size_t index, const uint8_t *stored,
                        uint8_t *to);

/* Log that block `index` is damaged although its checksum matches; returns ERROR_CORRUPT. */
int table_reader_report_block(const struct table_reader *reader, size_t index);

/* The cache's key of block `index`. */
struct block_key table_reader_block_key(const struct table_reader *reader, size_t index);

#endif
