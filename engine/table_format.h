/* SPDX-License-Identifier: Apache-2.0 */
/*
 * table_format.h - the bytes of a table chunk (docs/on-disk-format.md#table)
 *
 * Integers are little-endian; "varint" is LEB128; "position" counts from the start of the file.
 *
 *   chunk header (chunk_format.h)                       4096 bytes
 *   section DATA, one per data block                    from position 4096, without gaps
 *   section FILTER, TOMBSTONES, INDEX, PROPERTIES       without gaps, in this order
 *   footer                                              TABLE_FOOTER_SIZE; trailer: A position, B
 * size chunk trailer (chunk_format.h)                      128 bytes, the end of the file
 *
 * Section: `stored size` bytes, then
 *   u8  tag: section kind * 16 + codec (codec.h: 0 as it is, 1 zstd)
 *   u64 XXH3-64 of the stored bytes and the tag, seeded with salt + position of the section
 * where salt is XXH3-64 of the store's UUID and the chunk id (u64). A section that was swapped with
 * another one, or that belongs to another chunk or store, therefore fails its checksum. Sizes
 * stored and uncompressed ("raw") are kept where the section is referred to: in the index or the
 * footer.
 *
 * DATA raw: entries, then the position in the block of each restart (u32), then their number (u32).
 *   entry: u8 kind (record.h), + 128 at a restart; varint shared key bytes, varint own key bytes,
 *          varint value size, varint sequence, own key bytes, value
 *   At a restart (the first entry and every TABLE_RESTART_INTERVAL-th) shared is 0 and sequence is
 *   the number itself; elsewhere shared counts bytes of the key before and sequence is the
 *   difference to the one before, zigzag: (difference << 1) ^ (difference >> 63, sign-extended).
 *
 * FILTER raw: lines of 64 bytes; empty when the table has no records. A key whose XXH3-64 is h lies
 * in line (h >> 32) * lines >> 32; with g = (h ^ h >> 29) * 0x9fb21c651e98df25 its bits are the
 *   TABLE_FILTER_PROBES numbers (g >> (1 + 9 n)) & 511, n from 0; bit b is bit b % 8 of byte b / 8.
 *
 * TOMBSTONES raw: u32 number; per fragment varint start size, varint end size, varint sequence,
 *   start, end. Fragments rise and are disjoint; ends are exclusive.
 *
 * INDEX raw: u32 number of data blocks; per block varint shared key bytes, varint own key bytes,
 *   varint stored size, varint raw size, own key bytes. The key is above every key of the
 *   blocks before and at most the first key of its block (a shortened separator; for block 0 it is
 *   empty). Positions follow from the sizes.
 *
 * PROPERTIES raw: u64 raw bytes of all data blocks, u64 bytes of all keys, u64 bytes of all values,
 *   then the table meta encoding without its identity (docs/on-disk-format.md#table-meta).
 *
 * Footer: per section FILTER, TOMBSTONES, INDEX, PROPERTIES: u64 position, u64 stored size, u64 raw
 *   size; then XXH3-64 of these bytes seeded with salt + position of the footer.
 *
 * Table meta: identity: u64 chunk id, u32 kind, u64 file size, u64 hash low, u64 hash high; then
 *   u64 records, u64 deletes, u64 tombstones, u64 smallest sequence, u64 largest sequence,
 *   u16 size and bytes of smallest, u16 size and bytes of largest, u32 number of uses; per use
 *   varint chunk id (difference to the one before), varint references, varint bytes.
 */
#ifndef VARVE_ENGINE_TABLE_FORMAT_H
#define VARVE_ENGINE_TABLE_FORMAT_H

#include <assert.h>

#include "engine/base/codec.h"
#include "engine/base/endian.h"
#include "engine/chunk_format.h"
#include "engine/record.h"

enum table_section_kind {
    TABLE_SECTION_DATA = 1,
    TABLE_SECTION_FILTER = 2,
    TABLE_SECTION_TOMBSTONES = 3,
    TABLE_SECTION_INDEX = 4,
    TABLE_SECTION_PROPERTIES = 5,
};

/* The sections that the footer names, in file order. */
#define TABLE_FOOTER_SECTIONS   4
#define TABLE_FOOTER_ENTRY_SIZE 24
#define TABLE_FOOTER_CHECKED    (TABLE_FOOTER_SECTIONS * TABLE_FOOTER_ENTRY_SIZE)
#define TABLE_FOOTER_SIZE       (TABLE_FOOTER_CHECKED + 8)

#define TABLE_SECTION_TRAILER_SIZE 9 /* tag, checksum */

/* Where data blocks end depends on the keys: so that what a merge leaves as it was is in the same
 * blocks again, whatever changed before it, and two tables can be compared block by block
 * (shared_blocks.h). From the minimum on a block ends before a record whose key's hash is below the
 * share that the record has of TABLE_BLOCK_STEP; it ends in any case before it would pass the size. */
#define TABLE_BLOCK_SIZE       12288
#define TABLE_BLOCK_SIZE_MIN   7168
#define TABLE_BLOCK_STEP       1024
#define TABLE_RESTART_INTERVAL 16
#define TABLE_RESTART_FLAG     0x80
#define TABLE_ENTRY_HEADER_MAX (1 + 4 * VARINT_SIZE_MAX)

/* No data block is larger: the block so far, and one entry of the largest size. */
#define TABLE_BLOCK_RAW_MAX                                                                        \
    (TABLE_BLOCK_SIZE + TABLE_ENTRY_HEADER_MAX + RECORD_KEY_SIZE_MAX + RECORD_VALUE_SIZE_MAX + 4096)

/* No other section is larger: a bound on what a damaged size makes a reader allocate. */
#define TABLE_SECTION_RAW_MAX ((uint64_t)1 << 30)
/* zstd cannot do better than this on any input. */
#define TABLE_EXPANSION_MAX 65536

#define TABLE_FILTER_LINE_SIZE    64
#define TABLE_FILTER_BITS_PER_KEY 10
#define TABLE_FILTER_PROBES       6

static_assert(TABLE_FOOTER_SIZE == 104, "footer layout");
static_assert(1 + 9 * TABLE_FILTER_PROBES <= 64, "probes fit into one hash");
static_assert(TABLE_FILTER_LINE_SIZE * 8 == 512, "9 bits name a bit of a line");
static_assert(RECORD_KEY_SIZE_MAX <= UINT16_MAX, "key sizes fit u16");
static_assert(TABLE_SECTION_PROPERTIES < 16 && CODEC_ZSTD < 16, "kind and codec share a byte");

/* What a section's checksum is seeded with, but for its position. */
static inline uint64_t table_salt(const uint8_t *store_uuid, uint64_t chunk_id)
{
    uint8_t bytes[STORE_UUID_SIZE + 8];

    memcpy(bytes, store_uuid, STORE_UUID_SIZE);
    put_le64(bytes + STORE_UUID_SIZE, chunk_id);
    return checksum64(bytes, sizeof bytes);
}

#endif
