/* SPDX-License-Identifier: Apache-2.0 */
/*
 * table.h - sorted immutable records in a chunk file (table_writer.c, table_reader.c,
 *           table_iterator.c; their parts: table_section.h, table_block.h, table_index.h, table_filter.h)
 *
 * A table holds at most one record per key (each with its own sequence number) and disjoint range
 * tombstone fragments. Blocks of about 8 KiB, prefix-compressed with restart points, zstd where it
 * pays, each checksummed; a Bloom filter over the keys; an index; properties. Format:
 * table_format.h, docs/on-disk-format.md#table.
 *
 * Invariants: keys strictly rise; tombstone fragments are disjoint and rise; every record's key and
 *             every fragment lies in [smallest, largest].
 * Threads:    a writer belongs to one thread. A reader is immutable after it is opened and may be
 *             used by any number of threads; it is reference-counted.
 */
#ifndef VARVE_ENGINE_TABLE_H
#define VARVE_ENGINE_TABLE_H

#include "engine/base/io.h"
#include "engine/block_cache.h"
#include "engine/chunk_format.h"
#include "engine/record.h"

/* How much of one blob chunk the records of a table refer to. */
struct table_blob_use {
    uint64_t chunk_id;
    uint64_t references;
    uint64_t bytes; /* sum of blob_ref_share() */
};

/* What the manifest keeps of a table. Owns its memory; a zeroed meta is valid. */
struct table_meta {
    struct chunk_identity identity;
    uint64_t records;    /* point records, DELETEs included */
    uint64_t deletes;    /* of them RECORD_DELETE */
    uint64_t tombstones; /* range tombstone fragments */
    uint64_t smallest_sequence, largest_sequence;
    struct buffer smallest; /* lowest key, or start of a tombstone */
    struct buffer largest; /* highest key, or (exclusive) end of a tombstone, whichever is higher */
    struct table_blob_use *uses; /* sorted by chunk id */
    size_t use_count;
};

void table_meta_free(struct table_meta *meta); /* frees members; accepts a zeroed meta */
int table_meta_copy(const struct table_meta *from, struct table_meta *ret_to); /* 0, -ENOMEM */

/* Append the encoding (docs/on-disk-format.md#table-meta) to `to`. 0 or -ENOMEM. */
int table_meta_encode(const struct table_meta *meta, struct buffer *to);
/* Decode from `*from` and advance it. 0, -ENOMEM, ERROR_CORRUPT. Safe on hostile input. */
int table_meta_decode(struct slice *from, struct table_meta *ret_meta);

/* ---- writing ---- */

struct table_writer;

struct table_writer_options {
    struct io *io;
    struct io_file *temporary_directory; /* tmp/ of the store: the file is born here */
    struct io_file *chunk_directory;     /* chunks/: it is renamed to here when sealed */
    const uint8_t *store_uuid;
    uint64_t id;           /* never used before */
    int compression_level; /* zstd; 0: no compression */
};

int table_writer_new(const struct table_writer_options *options, struct table_writer **ret_writer);

/* Keys must strictly rise (asserted). Kinds VALUE, REFERENCE and DELETE. */
int table_writer_add(struct table_writer *writer, const struct record *record);

/* Fragments must be disjoint and rise (asserted); may be mixed with table_writer_add in any order. */
int table_writer_add_tombstone(struct table_writer *writer, struct slice start, struct slice end,
                               uint64_t sequence);

/* Bytes written so far, for splitting outputs. */
uint64_t table_writer_size_bytes(const struct table_writer *writer);

/*
 * Seal: write filter, index, properties and trailer, fsync, mode 0444, rename into the chunk
 * directory, fsync that directory. The caller owns *ret_meta. The writer stays to be freed.
 */
int table_writer_finish(struct table_writer *writer, struct table_meta *ret_meta);

/* Frees; when not finished, also removes the temporary file. Accepts NULL. */
void table_writer_free(struct table_writer *writer);

/* ---- reading ---- */

struct table_reader;

/*
 * Open the chunk named by `identity` in `chunk_directory`; checks the header, the trailer, and that
 * id, kind, size and hash are the expected ones; loads index, filter and tombstones (checksummed).
 * `store_uuid` may be NULL to accept any. `cache` may be NULL. The file name is remembered for logs.
 * -ENOENT gives ERROR_MISSING_CHUNK; ERROR_CORRUPT, ERROR_TRUNCATED, ERROR_FOREIGN,
 * ERROR_VERSION_NEWER, -ENOMEM, or what io gives.
 */
int table_reader_open(struct io *io, struct io_file *chunk_directory,
                      const struct chunk_identity *identity, const uint8_t *store_uuid,
                      struct block_cache *cache, struct table_reader **ret_reader);
struct table_reader *table_reader_ref(struct table_reader *reader);
void table_reader_unref(struct table_reader *reader); /* accepts NULL */

size_t table_reader_memory_bytes(const struct table_reader *reader);

/* The meta that the table carries, with the identity it was opened by; lives as long as the reader. */
const struct table_meta *table_reader_meta(const struct table_reader *reader);

/*
 * Find `key`: 1, 0 (absent), or a negative error (logged here with the chunk's name). The record's
 * value (and nothing of its key) is copied into *value; ret_record->value points there.
 * Range tombstones are not applied: see table_reader_tombstone().
 */
int table_reader_get(struct table_reader *reader, struct slice key, struct buffer *value,
                     struct record *ret_record);

/* The sequence number of the tombstone fragment that covers `key`, or 0. Never does I/O. */
uint64_t table_reader_tombstone(struct table_reader *reader, struct slice key);

/* Fragments in order: false past the last. Slices live as long as the reader. */
bool table_reader_tombstone_at(struct table_reader *reader, size_t index, struct slice *ret_start,
                               struct slice *ret_end, uint64_t *ret_sequence);

/* Point records in key order. The iterator holds its own reference to the reader. */
struct table_iterator;
struct table_iterator *table_iterator_new(struct table_reader *reader); /* NULL: no memory */
void table_iterator_free(struct table_iterator *iterator);              /* accepts NULL */
/* When false, blocks are neither looked up nor kept in the cache (compaction). Default true. */
void table_iterator_set_fill_cache(struct table_iterator *iterator, bool fill_cache);
/* Pass over the data blocks whose bit is set (block n: bit n % 8 of byte n / 8). Borrowed; NULL: none. */
void table_iterator_set_passed(struct table_iterator *iterator, const uint8_t *passed);
/* 1: at the first record with a key >= `key`; 0: the end; negative: error. */
int table_iterator_seek(struct table_iterator *iterator, struct slice key);
int table_iterator_next(struct table_iterator *iterator);
/* The current record; slices live until the next call on the iterator. */
const struct record *table_iterator_record(const struct table_iterator *iterator);

/* Read the whole file and compare with the content hash: 0, ERROR_CORRUPT, or an I/O error. */
int table_reader_verify(struct table_reader *reader);

#endif
