/* SPDX-License-Identifier: Apache-2.0 */
/*
 * wal_format.c - encoding and checking of what wal_format.h describes
 */
#include "engine/wal_format.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "engine/base/checksum.h"
#include "engine/base/endian.h"
#include "engine/base/error.h"

#define SEGMENT_MAGIC      "VARVEWAL"
#define SEGMENT_MAGIC_SIZE 8
#define GROUP_MAGIC        UINT32_C(0x52475756) /* "VWGR" */

enum segment_field {
    SEGMENT_AT_VERSION = 8,
    SEGMENT_AT_UUID = 16,
    SEGMENT_AT_NUMBER = 32,
    SEGMENT_AT_SALT = 40,
    SEGMENT_AT_CHECKSUM = 120,
};

enum group_field {
    GROUP_AT_MAGIC = 0,
    GROUP_AT_PIECE_COUNT = 4,
    GROUP_AT_SEGMENT = 8,
    GROUP_AT_OFFSET = 16,
    GROUP_AT_BODY_SIZE = 24,
    GROUP_AT_ENTRIES_SIZE = 32,
    GROUP_AT_DURABLE_OFFSET = 40,
    GROUP_AT_PREVIOUS_SEGMENT = 48,
    GROUP_AT_PREVIOUS_END = 56,
    GROUP_AT_FIRST_SEQUENCE = 64,
    GROUP_AT_LAST_SEQUENCE = 72,
    GROUP_AT_BODY_CHECKSUM = 80,
    GROUP_AT_CHECKSUM = 88,
};

static_assert(SEGMENT_AT_UUID + STORE_UUID_SIZE == SEGMENT_AT_NUMBER, "uuid fills its field");
static_assert(SEGMENT_AT_CHECKSUM + 8 == WAL_SEGMENT_HEADER_SIZE, "checksum is last");
static_assert(WAL_SEGMENT_HEADER_SIZE <= 512, "a header is written wholly or not at all");
static_assert(GROUP_AT_CHECKSUM + 8 == WAL_GROUP_HEADER_SIZE, "checksum is last");
static_assert(WAL_FIRST_GROUP_OFFSET % WAL_GROUP_ALIGNMENT == 0, "first group is aligned");

/* ---- segments ---- */

void wal_segment_header_encode(uint8_t to[WAL_SEGMENT_HEADER_SIZE],
                               struct wal_segment_header *header)
{
    memset(to, 0, WAL_SEGMENT_HEADER_SIZE);
    memcpy(to, SEGMENT_MAGIC, SEGMENT_MAGIC_SIZE);
    put_le32(to + SEGMENT_AT_VERSION, WAL_VERSION);
    memcpy(to + SEGMENT_AT_UUID, header->store_uuid, STORE_UUID_SIZE);
    put_le64(to + SEGMENT_AT_NUMBER, header->number);
    put_le64(to + SEGMENT_AT_SALT, header->salt);
    header->seed = checksum64(to, SEGMENT_AT_CHECKSUM);
    put_le64(to + SEGMENT_AT_CHECKSUM, header->seed);
}

bool wal_segment_header_is_blank(const uint8_t from[WAL_SEGMENT_HEADER_SIZE])
{
    static const uint8_t zeros[WAL_SEGMENT_HEADER_SIZE];

    return memcmp(from, zeros, sizeof zeros) == 0;
}

int wal_segment_header_decode(const uint8_t from[WAL_SEGMENT_HEADER_SIZE],
                              const uint8_t *store_uuid, struct wal_segment_header *ret_header)
{
    uint32_t version = get_le32(from + SEGMENT_AT_VERSION);
    uint64_t seed = get_le64(from + SEGMENT_AT_CHECKSUM);

    if (memcmp(from, SEGMENT_MAGIC, SEGMENT_MAGIC_SIZE) != 0)
        return ERROR_CORRUPT;
    if (seed != checksum64(from, SEGMENT_AT_CHECKSUM))
        return ERROR_CORRUPT;
    if (version > WAL_VERSION)
        return ERROR_VERSION_NEWER;
    if (version < WAL_VERSION)
        return ERROR_CORRUPT; /* there never was a version 0 */
    if (memcmp(from + SEGMENT_AT_UUID, store_uuid, STORE_UUID_SIZE) != 0)
        return ERROR_FOREIGN;
    memcpy(ret_header->store_uuid, from + SEGMENT_AT_UUID, STORE_UUID_SIZE);
    ret_header->number = get_le64(from + SEGMENT_AT_NUMBER);
    ret_header->salt = get_le64(from + SEGMENT_AT_SALT);
    ret_header->seed = seed;
    return 0;
}

#define NAME_DIGITS 16
#define NAME_SUFFIX ".wal"
static_assert(NAME_DIGITS + sizeof NAME_SUFFIX <= WAL_NAME_SIZE, "a name fits");

void wal_segment_name(char to[WAL_NAME_SIZE], uint64_t number)
{
    snprintf(to, WAL_NAME_SIZE, "%016" PRIx64 NAME_SUFFIX, number);
}

bool wal_segment_name_parse(const char *name, uint64_t *ret_number)
{
    uint64_t number = 0;

    for (int i = 0; i < NAME_DIGITS; i++) {
        char c = name[i];

        if (c >= '0' && c <= '9')
            number = number << 4 | (uint64_t)(c - '0');
        else if (c >= 'a' && c <= 'f')
            number = number << 4 | (uint64_t)(c - 'a' + 10);
        else
            return false;
    }
    if (strcmp(name + NAME_DIGITS, NAME_SUFFIX) != 0)
        return false;
    *ret_number = number;
    return true;
}

/* ---- group headers ---- */

void wal_group_header_encode(uint8_t to[WAL_GROUP_HEADER_SIZE],
                             const struct wal_group_header *header, uint64_t seed)
{
    put_le32(to + GROUP_AT_MAGIC, GROUP_MAGIC);
    put_le32(to + GROUP_AT_PIECE_COUNT, header->piece_count);
    put_le64(to + GROUP_AT_SEGMENT, header->segment);
    put_le64(to + GROUP_AT_OFFSET, header->offset);
    put_le64(to + GROUP_AT_BODY_SIZE, header->body_size);
    put_le64(to + GROUP_AT_ENTRIES_SIZE, header->entries_size);
    put_le64(to + GROUP_AT_DURABLE_OFFSET, header->durable_offset);
    put_le64(to + GROUP_AT_PREVIOUS_SEGMENT, header->previous_segment);
    put_le64(to + GROUP_AT_PREVIOUS_END, header->previous_end);
    put_le64(to + GROUP_AT_FIRST_SEQUENCE, header->first_sequence);
    put_le64(to + GROUP_AT_LAST_SEQUENCE, header->last_sequence);
    put_le64(to + GROUP_AT_BODY_CHECKSUM, header->body_checksum);
    put_le64(to + GROUP_AT_CHECKSUM, checksum64_seeded(to, GROUP_AT_CHECKSUM, seed));
}

bool wal_group_header_is_begun(const uint8_t from[WAL_GROUP_HEADER_SIZE], uint64_t segment,
                               uint64_t offset)
{
    return get_le32(from + GROUP_AT_MAGIC) == GROUP_MAGIC &&
           get_le64(from + GROUP_AT_SEGMENT) == segment &&
           get_le64(from + GROUP_AT_OFFSET) == offset;
}

static bool group_header_is_sound(const struct wal_group_header *header)
{
    if (header->body_size > WAL_GROUP_BODY_SIZE_MAX || header->entries_size > header->body_size)
        return false;
    if (header->offset > WAL_SEGMENT_SIZE_MAX || header->offset < WAL_FIRST_GROUP_OFFSET)
        return false;
    if (header->durable_offset > header->offset)
        return false;
    if (header->previous_segment >= header->segment)
        return false;
    /* A sum that wraps is 0, and below the first. */
    return header->first_sequence > 0 && header->last_sequence + 1 >= header->first_sequence;
}

bool wal_group_header_decode(const uint8_t from[WAL_GROUP_HEADER_SIZE], uint64_t seed,
                             uint64_t segment, uint64_t offset, struct wal_group_header *ret_header)
{
    struct wal_group_header header;

    /* The cheap test first: a scan for groups calls this at every possible place. */
    if (!wal_group_header_is_begun(from, segment, offset))
        return false;
    if (get_le64(from + GROUP_AT_CHECKSUM) != checksum64_seeded(from, GROUP_AT_CHECKSUM, seed))
        return false;
    header = (struct wal_group_header){
        .piece_count = get_le32(from + GROUP_AT_PIECE_COUNT),
        .segment = segment,
        .offset = offset,
        .body_size = get_le64(from + GROUP_AT_BODY_SIZE),
        .entries_size = get_le64(from + GROUP_AT_ENTRIES_SIZE),
        .durable_offset = get_le64(from + GROUP_AT_DURABLE_OFFSET),
        .previous_segment = get_le64(from + GROUP_AT_PREVIOUS_SEGMENT),
        .previous_end = get_le64(from + GROUP_AT_PREVIOUS_END),
        .first_sequence = get_le64(from + GROUP_AT_FIRST_SEQUENCE),
        .last_sequence = get_le64(from + GROUP_AT_LAST_SEQUENCE),
        .body_checksum = get_le64(from + GROUP_AT_BODY_CHECKSUM),
    };
    if (!group_header_is_sound(&header))
        return false;
    *ret_header = header;
    return true;
}

uint64_t wal_group_size(uint64_t body_size)
{
    uint64_t size = WAL_GROUP_HEADER_SIZE + body_size;

    return (size + WAL_GROUP_ALIGNMENT - 1) & ~(uint64_t)(WAL_GROUP_ALIGNMENT - 1);
}

/* ---- bodies ---- */

int wal_group_body_size(const struct wal_group *group, uint64_t *ret_size)
{
    uint64_t size = group->entries.size;

    if (group->piece_count > UINT32_MAX || size > WAL_GROUP_BODY_SIZE_MAX)
        return -EFBIG;
    for (size_t i = 0; i < group->piece_count; i++) {
        size += WAL_PIECE_HEADER_SIZE + (uint64_t)group->pieces[i].size;
        if (size > WAL_GROUP_BODY_SIZE_MAX)
            return -EFBIG;
    }
    *ret_size = size;
    return 0;
}

void wal_group_body_encode(uint8_t *to, const struct wal_group *group)
{
    for (size_t i = 0; i < group->piece_count; i++) {
        const struct blob_piece *piece = &group->pieces[i];

        put_le64(to, piece->chunk_id);
        put_le64(to + 8, piece->position);
        put_le32(to + 16, piece->size);
        memcpy(to + WAL_PIECE_HEADER_SIZE, piece->data, piece->size);
        to += WAL_PIECE_HEADER_SIZE + piece->size;
    }
    if (group->entries.size > 0)
        memcpy(to, group->entries.data, group->entries.size);
}

static void slice_advance(struct slice *slice, size_t size)
{
    slice->data += size;
    slice->size -= size;
}

int wal_piece_next(struct slice *rest, struct blob_piece *ret_piece)
{
    struct blob_piece piece;

    if (rest->size == 0)
        return 0;
    if (rest->size < WAL_PIECE_HEADER_SIZE)
        return ERROR_CORRUPT;
    piece.chunk_id = get_le64(rest->data);
    piece.position = get_le64(rest->data + 8);
    piece.size = get_le32(rest->data + 16);
    piece.data = rest->data + WAL_PIECE_HEADER_SIZE;
    if (piece.size == 0 || piece.size > rest->size - WAL_PIECE_HEADER_SIZE ||
        piece.position > (uint64_t)INT64_MAX - piece.size)
        return ERROR_CORRUPT;
    slice_advance(rest, WAL_PIECE_HEADER_SIZE + (size_t)piece.size);
    *ret_piece = piece;
    return 1;
}

int wal_entry_next(struct slice *rest, struct wal_replay_entry *ret_entry)
{
    uint32_t size;
    uint8_t kind;

    if (rest->size == 0)
        return 0;
    if (rest->size < WAL_ENTRY_HEADER_SIZE)
        return ERROR_CORRUPT;
    kind = rest->data[0];
    size = get_le32(rest->data + 1);
    if ((kind != WAL_BATCH && kind != WAL_MARK) || size > rest->size - WAL_ENTRY_HEADER_SIZE)
        return ERROR_CORRUPT;
    ret_entry->kind = kind;
    ret_entry->first_sequence = get_le64(rest->data + 5);
    ret_entry->bytes = slice_of(rest->data + WAL_ENTRY_HEADER_SIZE, size);
    slice_advance(rest, WAL_ENTRY_HEADER_SIZE + (size_t)size);
    return 1;
}

static int check_pieces(struct slice pieces, uint32_t count)
{
    struct blob_piece piece;
    uint32_t seen = 0;
    int result;

    while ((result = wal_piece_next(&pieces, &piece)) > 0)
        seen++;
    return result < 0 || seen != count ? ERROR_CORRUPT : 0;
}

/* How many numbers a batch takes is the reader's business; that they rise, and within the group's
 * bounds, and that a mark takes exactly one, is checked. */
static int check_entries(struct slice entries, uint64_t first_sequence, uint64_t last_sequence)
{
    struct wal_replay_entry entry;
    uint64_t previous_first = 0;
    bool previous_is_mark = false;
    int result;

    while ((result = wal_entry_next(&entries, &entry)) > 0) {
        if (previous_first == 0 ? entry.first_sequence != first_sequence
                                : entry.first_sequence <= previous_first)
            return ERROR_CORRUPT;
        if (previous_is_mark && entry.first_sequence != previous_first + 1)
            return ERROR_CORRUPT;
        if (entry.first_sequence > last_sequence)
            return ERROR_CORRUPT;
        previous_first = entry.first_sequence;
        previous_is_mark = entry.kind == WAL_MARK;
    }
    if (result < 0 || (previous_is_mark && last_sequence != previous_first))
        return ERROR_CORRUPT;
    /* No entries take no numbers. */
    if (previous_first == 0 && last_sequence + 1 != first_sequence)
        return ERROR_CORRUPT;
    return 0;
}

int wal_group_body_check(const struct wal_group_header *header, struct slice body)
{
    size_t pieces_size = (size_t)(header->body_size - header->entries_size);
    int error;

    if (body.size != header->body_size)
        return ERROR_CORRUPT;
    error = check_pieces(slice_of(body.data, pieces_size), header->piece_count);
    if (error < 0)
        return error;
    return check_entries(slice_of(body.data + pieces_size, (size_t)header->entries_size),
                         header->first_sequence, header->last_sequence);
}
