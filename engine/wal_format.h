/* SPDX-License-Identifier: Apache-2.0 */
/*
 * wal_format.h - the write-ahead log byte for byte (docs/on-disk-format.md#wal); private to wal*.c
 *
 * Integers are little-endian. A segment file is <number, 16 hex digits>.wal:
 *
 * Segment header, offset 0, WAL_SEGMENT_HEADER_SIZE bytes (the rest of the first 4096 is unused):
 *   0  magic "VARVEWAL"       8  version u32 (1)     12 zero u32
 *   16 store UUID, 16 bytes   32 number u64          40 salt u64, random for each use of the file
 *   48 zero ...              120 XXH3-64 of bytes 0..119: the segment's seed
 * Magic, version and checksum keep their places in all versions. The header lies in one 512-byte
 * sector, which a disk writes wholly or not at all: after a cut it is the old one, the new one, or
 * zeros in a file that was just made; anything else is damage.
 *
 * Groups, from offset 4096 on, each starting at a multiple of WAL_GROUP_ALIGNMENT right after the
 * one before. Header, WAL_GROUP_HEADER_SIZE bytes:
 *   0  magic "VWGR"           4  pieces u32          8  segment number u64
 *   16 offset of this header u64                     24 body size u64
 *   32 size of the entries, the last part of the body, u64
 *   40 durable offset u64: the segment was synced up to there when this was written
 *   48 previous segment u64, and 56 the offset where it ended u64: it was synced up to there before
 *      this segment got its first group; zero in the first segment after a start
 *   64 first sequence u64    72 last sequence u64 (first - 1 when there are no entries)
 *   80 XXH3-64 of the body   88 XXH3-64 of bytes 0..87; both seeded with the segment's seed
 * Body: the pieces, each chunk id u64, position u64, size u32, bytes; then the entries, each
 * kind u8, size u32, first sequence u64, bytes. Zeros up to the next multiple of the alignment.
 *
 * Because seed, number and offset go into every checksum, nothing that an earlier use of the file,
 * another segment or file data left at a place is ever taken for a group.
 */
#ifndef VARVE_ENGINE_WAL_FORMAT_H
#define VARVE_ENGINE_WAL_FORMAT_H

#include "engine/wal.h"

#define WAL_VERSION             1
#define WAL_BLOCK_SIZE          4096
#define WAL_SEGMENT_HEADER_SIZE 128
#define WAL_FIRST_GROUP_OFFSET  WAL_BLOCK_SIZE
#define WAL_GROUP_ALIGNMENT     64
#define WAL_GROUP_HEADER_SIZE   96
#define WAL_PIECE_HEADER_SIZE   20
#define WAL_ENTRY_HEADER_SIZE   13
#define WAL_NAME_SIZE           24
#define WAL_SEGMENT_SIZE_MIN    (64 * 1024)
#define WAL_SEGMENT_SIZE_MAX    (UINT64_C(1) << 40)

/* Of a body; bounds what recovery must hold in memory. */
#define WAL_GROUP_BODY_SIZE_MAX (UINT64_C(1) << 30)

struct wal_segment_header {
    uint8_t store_uuid[STORE_UUID_SIZE];
    uint64_t number;
    uint64_t salt;
    uint64_t seed; /* set by encode and decode */
};

struct wal_group_header {
    uint32_t piece_count;
    uint64_t segment;
    uint64_t offset;
    uint64_t body_size;
    uint64_t entries_size;
    uint64_t durable_offset;
    uint64_t previous_segment;
    uint64_t previous_end;
    uint64_t first_sequence;
    uint64_t last_sequence;
    uint64_t body_checksum;
};

void wal_segment_header_encode(uint8_t to[WAL_SEGMENT_HEADER_SIZE],
                               struct wal_segment_header *header);

/* True for the zeros of a file that was made but not finished. */
bool wal_segment_header_is_blank(const uint8_t from[WAL_SEGMENT_HEADER_SIZE]);

/* 0, ERROR_CORRUPT, ERROR_VERSION_NEWER, ERROR_FOREIGN. */
int wal_segment_header_decode(const uint8_t from[WAL_SEGMENT_HEADER_SIZE],
                              const uint8_t *store_uuid, struct wal_segment_header *ret_header);

void wal_group_header_encode(uint8_t to[WAL_GROUP_HEADER_SIZE],
                             const struct wal_group_header *header, uint64_t seed);

/*
 * A group header that was written for exactly this place: true. What is true of every such header
 * (fields within bounds, no sum that wraps) has been checked. Safe on hostile input.
 */
bool wal_group_header_decode(const uint8_t from[WAL_GROUP_HEADER_SIZE], uint64_t seed,
                             uint64_t segment, uint64_t offset,
                             struct wal_group_header *ret_header);

/* True when a group for this place was begun here, whether or not its header is whole. */
bool wal_group_header_is_begun(const uint8_t from[WAL_GROUP_HEADER_SIZE], uint64_t segment,
                               uint64_t offset);

/* Bytes that a group takes, its padding included. */
uint64_t wal_group_size(uint64_t body_size);

/* Size of a group's body, or -EFBIG when it is over the limit; never wraps. */
int wal_group_body_size(const struct wal_group *group, uint64_t *ret_size);

/* Write pieces and entries at `to` (wal_group_body_size() of room). */
void wal_group_body_encode(uint8_t *to, const struct wal_group *group);

/* Walk a body; 1 with an item, 0 at the end, ERROR_CORRUPT. Safe on hostile input. */
int wal_piece_next(struct slice *rest, struct blob_piece *ret_piece);
int wal_entry_next(struct slice *rest, struct wal_replay_entry *ret_entry);

/* Check everything in the body of a group against its header: 0 or ERROR_CORRUPT. */
int wal_group_body_check(const struct wal_group_header *header, struct slice body);

void wal_segment_name(char to[WAL_NAME_SIZE], uint64_t number);
bool wal_segment_name_parse(const char *name, uint64_t *ret_number);

#endif
