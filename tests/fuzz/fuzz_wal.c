/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_wal.c - log segments: replay, batches, marks
 *
 * Options, bit 1: the input is two segments, halved; bit 2: the store was closed with nothing in its
 * log. With FUZZ_SEAL an input is groups only: the
 * header of the segment is made, and every group gets its place and its checksums.
 */
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/memory_io.h"

#include "engine/base/checksum.h"
#include "engine/base/endian.h"
#include "engine/base/error.h"
#include "engine/batch.h"
#include "engine/engine_internal.h"
#include "engine/memtable.h"
#include "engine/wal_format.h"

enum { TWO_SEGMENTS = 1 << 1, STORE_CLOSED = 1 << 2 };

/* That of the golden images, which the corpus begins with. */
static const uint8_t uuid[STORE_UUID_SIZE] = {0x10, 0x21, 0x32, 0x43, 0x54, 0x65, 0x46, 0x87,
                                              0x98, 0xa9, 0xba, 0xcb, 0xdc, 0xed, 0xfe, 0x0f};

struct seen {
    uint64_t groups_of_entries, last_first_sequence;
    struct memtable *memtable;
    uint64_t next_sequence;
};

static int see_piece(void *context, const struct blob_piece *piece)
{
    uint64_t sum = 0;

    (void)context;
    fuzz_require(piece->size > 0);
    for (uint32_t i = 0; i < piece->size; i++)
        sum += piece->data[i];
    return sum == UINT64_MAX; /* never: the bytes must be readable */
}

static void see_mark(struct slice bytes)
{
    struct checkpoint *checkpoint;

    fuzz_require(checkpoint_new(&checkpoint) == 0);
    (void)checkpoint_mark_decode(bytes, checkpoint);
    checkpoint_unref(checkpoint);
}

static void see_batch(struct seen *seen, const struct wal_replay_entry *entry)
{
    struct record record;
    size_t cursor = 0, count = 0;
    int result;

    while ((result = batch_next(entry->bytes, &cursor, &record)) > 0) {
        fuzz_require(record.key.size >= 1 && record.key.size <= RECORD_KEY_SIZE_MAX);
        count++;
    }
    fuzz_require(result == 0 || result == ERROR_CORRUPT);
    /* Recovery applies in the order of the numbers, and no number wraps. */
    if (result < 0 || count == 0 || entry->first_sequence < seen->next_sequence ||
        entry->first_sequence > UINT64_MAX / 2)
        return;
    fuzz_require(memtable_apply(seen->memtable, entry->bytes, entry->first_sequence) == 0);
    seen->next_sequence = entry->first_sequence + count;
}

static int see_entry(void *context, const struct wal_replay_entry *entry)
{
    struct seen *seen = context;

    fuzz_require(entry->first_sequence > seen->last_first_sequence);
    seen->last_first_sequence = entry->first_sequence;
    if (entry->kind == WAL_MARK)
        see_mark(entry->bytes);
    else
        see_batch(seen, entry);
    return 0;
}

/* A segment of the groups at `groups`, each put where replay looks for it. */
static struct buffer seal(struct slice groups, uint64_t number)
{
    struct wal_segment_header header = {.number = number, .salt = 7};
    struct buffer segment = {0};
    uint64_t at = WAL_FIRST_GROUP_OFFSET;

    memcpy(header.store_uuid, uuid, sizeof uuid);
    fuzz_require(buffer_reserve(&segment, WAL_FIRST_GROUP_OFFSET + groups.size + 1) == 0);
    memset(segment.data, 0, WAL_FIRST_GROUP_OFFSET);
    wal_segment_header_encode(segment.data, &header);
    segment.size = WAL_FIRST_GROUP_OFFSET;
    if (groups.size > 0)
        fuzz_require(buffer_append(&segment, groups.data, groups.size) == 0);
    while (at + WAL_GROUP_HEADER_SIZE <= segment.size) {
        uint8_t *group = segment.data + at;
        uint64_t body_size = get_le64(group + 24), room = segment.size - at - WAL_GROUP_HEADER_SIZE;

        memcpy(group, "VWGR", 4);
        put_le64(group + 8, number);
        put_le64(group + 16, at);
        if (body_size <= room)
            put_le64(group + 80,
                     checksum64_seeded(group + WAL_GROUP_HEADER_SIZE, body_size, header.seed));
        put_le64(group + 88, checksum64_seeded(group, 88, header.seed));
        if (body_size > room)
            break;
        at += wal_group_size(body_size);
    }
    return segment;
}

static void put_segment(struct memory_io *memory, struct slice bytes, uint64_t number, bool sealed)
{
    struct buffer segment = {0};
    char name[WAL_NAME_SIZE];

    wal_segment_name(name, number);
    if (sealed)
        segment = seal(bytes, number);
    memory_io_put(memory, name, sealed ? buffer_slice(&segment) : bytes);
    buffer_free(&segment);
}

int LLVMFuzzerInitialize(int *argument_count, char ***arguments)
{
    (void)argument_count;
    (void)arguments;
    log_set_level(LOG_LEVEL_ERROR);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct memory_io *memory;
    struct wal_replay_result result;
    struct seen seen = {.next_sequence = 1};
    const struct wal_replay_callbacks callbacks = {see_piece, see_entry, &seen};
    size_t first;
    int error;

    if (size < 1)
        return 0;
    memory = memory_io_new();
    seen.memtable = memtable_new(1);
    fuzz_require(seen.memtable != NULL);
    first = (data[0] & TWO_SEGMENTS) != 0 ? (size - 1) / 2 : size - 1;
    put_segment(memory, slice_of(data + 1, first), 1, (data[0] & FUZZ_SEAL) != 0);
    if ((data[0] & TWO_SEGMENTS) != 0)
        put_segment(memory, slice_of(data + 1 + first, size - 1 - first), 2,
                    (data[0] & FUZZ_SEAL) != 0);
    error = wal_replay(memory_io_get(memory), memory_io_directory(memory), uuid, 1,
                       (data[0] & STORE_CLOSED) != 0, &callbacks, &result);
    fuzz_require(error <= 0);
    if (error == 0)
        fuzz_require(result.highest_segment == ((data[0] & TWO_SEGMENTS) != 0 ? 2 : 1));
    memtable_unref(seen.memtable);
    memory_io_free(memory);
    return 0;
}
