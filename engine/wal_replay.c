/* SPDX-License-Identifier: Apache-2.0 */
/*
 * wal_replay.c - reading the log after a crash
 *
 * Where the end is, and what is damage. Groups are read one after the other until one is not valid,
 * at offset X of segment N. That is the end when the disk may rightly have lost what was there:
 * nothing from X on had been synced. It had been, and ERROR_CORRUPT is the answer, when
 *   - a group that lies behind X in N (found at multiples of WAL_GROUP_ALIGNMENT: its header's
 *     checksum covers seed, segment and offset) says that the segment was synced beyond X when it
 *     was written;
 *   - a group in the successor of N says that N ended elsewhere than at X (N was synced to its end
 *     before the successor got a group);
 *   - a later group's sequence numbers do not continue those before X.
 * A segment that was prepared and never used, or half prepared, has no valid group and no witness.
 * That is known only when it was read to its end, which is spared a store that was closed.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "engine/base/error.h"
#include "engine/base/log.h"
#include "engine/base/name_list.h"
#include "engine/wal_format.h"
#include "engine/wal_segment.h"

#define WINDOW_SIZE (1024 * 1024)

struct number_list {
    uint64_t *numbers;
    size_t count, capacity;
};

struct replay {
    struct io *io;
    struct io_file *directory;
    const uint8_t *store_uuid;
    uint64_t first_segment;
    bool closed;
    const struct wal_replay_callbacks *callbacks;
    struct wal_replay_result result;
    bool has_group;                          /* some group was seen */
    uint64_t previous_segment, previous_end; /* the last segment that had groups */

    /* The segment being read, and the part of it that is in memory. */
    struct io_file *file;
    uint64_t file_size;
    uint64_t number, seed;
    uint8_t *window;
    size_t window_capacity, window_size;
    uint64_t window_offset;
};

/* ---- the directory ---- */

static int list_number(void *context, const char *name)
{
    struct number_list *list = context;
    uint64_t number;

    if (!wal_segment_name_parse(name, &number))
        return 0;
    if (list->count == list->capacity) {
        size_t capacity = list->capacity > 0 ? 2 * list->capacity : 16;
        uint64_t *numbers = realloc(list->numbers, capacity * sizeof *numbers);

        if (numbers == NULL)
            return -ENOMEM;
        list->numbers = numbers;
        list->capacity = capacity;
    }
    list->numbers[list->count++] = number;
    return 0;
}

static int compare_numbers(const void *a, const void *b)
{
    const uint64_t *left = a, *right = b;

    return *left < *right ? -1 : *left > *right;
}

/* All segments of the directory in order; the caller frees list->numbers, also after a failure. */
static int list_segments(struct io *io, struct io_file *directory, struct number_list *list)
{
    int error = io_list(io, directory, list_number, list);

    if (error == 0 && list->count > 1)
        qsort(list->numbers, list->count, sizeof *list->numbers, compare_numbers);
    return error;
}

static int delete_name(struct io *io, struct io_file *directory, struct io_file *trash,
                       const char *name)
{
    int error = io_unlink(io, directory, name);

    if (error == -ENOENT)
        return 0;
    if (error != -EISDIR)
        return error;
    log_warning("write-ahead log: %s has become a directory; moved to tmp/", name);
    return io_rename(io, directory, name, trash, name);
}

/* What a crash left of segments that were being made. */
static int delete_new(struct io *io, struct io_file *directory, struct io_file *trash)
{
    struct name_list list = {0};
    int error = io_list(io, directory, name_list_add, &list);

    for (size_t i = 0; error == 0 && i < list.count; i++)
        if (wal_segment_is_new_name(list.names[i]))
            error = delete_name(io, directory, trash, list.names[i]);
    name_list_free(&list);
    return error;
}

int wal_delete_below(struct io *io, struct io_file *directory, struct io_file *trash,
                     uint64_t segment)
{
    struct number_list list = {0};
    char name[WAL_NAME_SIZE];
    int error = list_segments(io, directory, &list);

    for (size_t i = 0; error == 0 && i < list.count && list.numbers[i] < segment; i++) {
        wal_segment_name(name, list.numbers[i]);
        error = delete_name(io, directory, trash, name);
    }
    free(list.numbers);
    return error == 0 ? delete_new(io, directory, trash) : error;
}

/* ---- the window ---- */

static int grow_window(struct replay *replay, size_t size)
{
    uint8_t *window;

    if (size <= replay->window_capacity)
        return 0;
    window = io_allocate_aligned(size);
    if (window == NULL)
        return -ENOMEM;
    free(replay->window);
    replay->window = window;
    replay->window_capacity = size;
    replay->window_size = 0;
    return 0;
}

/* Bytes [offset, offset + size) of the segment: 1, 0 when it ends before, or an error. They stay
 * until the next call. */
static int fetch(struct replay *replay, uint64_t offset, uint64_t size, const uint8_t **ret)
{
    uint64_t start = offset - offset % WAL_BLOCK_SIZE;
    uint64_t wanted;
    int64_t count;
    int error;

    if (offset > replay->file_size || size > replay->file_size - offset)
        return 0;
    if (offset < replay->window_offset ||
        offset + size > replay->window_offset + replay->window_size) {
        wanted = (offset + size - start + WAL_BLOCK_SIZE - 1) / WAL_BLOCK_SIZE * WAL_BLOCK_SIZE;
        if (wanted < WINDOW_SIZE)
            wanted = WINDOW_SIZE;
        error = grow_window(replay, (size_t)wanted);
        if (error < 0)
            return error;
        replay->window_size = 0;
        count = io_read(replay->io, replay->file, replay->window, (size_t)wanted, start);
        if (count < 0)
            return (int)count;
        replay->window_offset = start;
        replay->window_size = (size_t)count;
        if (offset + size > start + (uint64_t)count)
            return 0;
    }
    *ret = replay->window + (offset - replay->window_offset);
    return 1;
}

/* ---- groups ---- */

static int corrupt(const struct replay *replay, uint64_t offset, const char *what)
{
    log_error("wal segment %016" PRIx64 " offset %" PRIu64 ": %s", replay->number, offset, what);
    return ERROR_CORRUPT;
}

enum group_state { GROUP_NONE, GROUP_TORN, GROUP_VALID };

/* Look at the place of a group; *ret_body is set for a valid one. A group_state or an error. */
static int examine(struct replay *replay, uint64_t offset, struct wal_group_header *ret_header,
                   struct slice *ret_body)
{
    const uint8_t *bytes;
    int result = fetch(replay, offset, WAL_GROUP_HEADER_SIZE, &bytes);

    if (result <= 0)
        return result < 0 ? result : GROUP_NONE;
    if (!wal_group_header_decode(bytes, replay->seed, replay->number, offset, ret_header))
        return wal_group_header_is_begun(bytes, replay->number, offset) ? GROUP_TORN : GROUP_NONE;
    result = fetch(replay, offset, WAL_GROUP_HEADER_SIZE + ret_header->body_size, &bytes);
    if (result <= 0)
        return result < 0 ? result : GROUP_TORN;
    *ret_body = slice_of(bytes + WAL_GROUP_HEADER_SIZE, (size_t)ret_header->body_size);
    return checksum64_seeded(ret_body->data, ret_body->size, replay->seed) ==
                   ret_header->body_checksum
               ? GROUP_VALID
               : GROUP_TORN;
}

/* A header of this segment says what came before it: does that agree with what was read? */
static int check_link(const struct replay *replay, const struct wal_group_header *header)
{
    if (header->previous_segment < replay->first_segment)
        return 0; /* the first after a start, or its predecessor is needed no more */
    if (replay->previous_segment != header->previous_segment)
        return corrupt(replay, header->offset, "the segment before it is missing or has no groups");
    if (replay->previous_end != header->previous_end)
        return corrupt(replay, header->offset,
                       "the segment before it is damaged below its synced end");
    return 0;
}

static int deliver_pieces(struct replay *replay, struct slice pieces)
{
    struct blob_piece piece;
    int result = 0;

    while (result == 0 && wal_piece_next(&pieces, &piece) > 0)
        result = replay->callbacks->piece(replay->callbacks->context, &piece);
    return result;
}

static int deliver_entries(struct replay *replay, struct slice entries)
{
    struct wal_replay_entry entry;
    int result = 0;

    while (result == 0 && wal_entry_next(&entries, &entry) > 0) {
        result = replay->callbacks->entry(replay->callbacks->context, &entry);
        replay->result.entries += result == 0;
    }
    return result;
}

/* All of the group is checked before any of it is handed out. */
static int take_group(struct replay *replay, const struct wal_group_header *header,
                      struct slice body)
{
    size_t pieces_size = (size_t)(header->body_size - header->entries_size);
    int result;

    if (replay->has_group && header->first_sequence != replay->result.last_sequence + 1)
        return corrupt(replay, header->offset, "sequence numbers do not continue");
    if (wal_group_body_check(header, body) < 0)
        return corrupt(replay, header->offset,
                       "a group is malformed although its checksum is right");
    result = deliver_pieces(replay, slice_of(body.data, pieces_size));
    if (result == 0)
        result = deliver_entries(replay,
                                 slice_of(body.data + pieces_size, (size_t)header->entries_size));
    if (result != 0)
        return result;
    replay->has_group = true;
    replay->result.last_sequence = header->last_sequence;
    replay->result.groups++;
    return 0;
}

/* ---- segments ---- */

/* Behind the first place without a valid group: witnesses that there was one, and synced. */
static int search_witnesses(struct replay *replay, uint64_t end, bool is_first)
{
    struct wal_group_header header;
    const uint8_t *bytes;
    int result;

    for (uint64_t offset = end + WAL_GROUP_ALIGNMENT;; offset += WAL_GROUP_ALIGNMENT) {
        result = fetch(replay, offset, WAL_GROUP_HEADER_SIZE, &bytes);
        if (result <= 0)
            return result;
        if (!wal_group_header_decode(bytes, replay->seed, replay->number, offset, &header))
            continue;
        replay->result.torn = true;
        if (header.durable_offset > end)
            return corrupt(replay, end, "a group is damaged although it was synced");
        if (is_first) {
            result = check_link(replay, &header);
            if (result < 0)
                return result;
        }
    }
}

static int read_groups(struct replay *replay)
{
    uint64_t offset = WAL_FIRST_GROUP_OFFSET;
    struct wal_group_header header;
    struct slice body;
    int result;

    while ((result = examine(replay, offset, &header, &body)) == GROUP_VALID) {
        if (offset == WAL_FIRST_GROUP_OFFSET) {
            result = check_link(replay, &header);
            if (result < 0)
                return result;
        }
        result = take_group(replay, &header, body);
        if (result != 0)
            return result;
        replay->result.torn = false;
        offset += wal_group_size(header.body_size);
    }
    if (result < 0)
        return result;
    if (result == GROUP_NONE && offset == WAL_FIRST_GROUP_OFFSET && replay->closed)
        return 0;
    if (result == GROUP_TORN)
        replay->result.torn = true;
    result = search_witnesses(replay, offset, offset == WAL_FIRST_GROUP_OFFSET);
    if (result == 0 && offset > WAL_FIRST_GROUP_OFFSET) {
        replay->previous_segment = replay->number;
        replay->previous_end = offset;
    }
    return result;
}

/* 1: groups may follow; 0: the segment was never put to use; or an error. */
static int check_header(struct replay *replay)
{
    struct wal_segment_header header;
    const uint8_t *bytes;
    int result = fetch(replay, 0, WAL_SEGMENT_HEADER_SIZE, &bytes);

    if (result <= 0)
        return result;
    if (wal_segment_header_is_blank(bytes))
        return 0;
    result = wal_segment_header_decode(bytes, replay->store_uuid, &header);
    if (result < 0) {
        log_error("wal segment %016" PRIx64 ": header: %s", replay->number, error_text(result));
        return result;
    }
    if (header.number > replay->number)
        return corrupt(replay, 0, "header of a later segment");
    /* Renamed for reuse, its header not rewritten yet. */
    if (header.number < replay->number)
        return 0;
    replay->seed = header.seed;
    return 1;
}

static int read_segment(struct replay *replay, uint64_t number)
{
    char name[WAL_NAME_SIZE];
    struct stat status;
    int result;

    wal_segment_name(name, number);
    result = io_open(replay->io, replay->directory, name, IO_OPEN_READ | IO_OPEN_DIRECT, 0,
                     &replay->file);
    if (result < 0) {
        log_error("wal segment %016" PRIx64 ": open: %s", number, error_text(result));
        return result;
    }
    replay->number = number;
    replay->window_size = 0;
    result = io_stat(replay->io, replay->file, &status);
    if (result == 0) {
        replay->file_size = (uint64_t)status.st_size;
        result = check_header(replay);
    }
    if (result == 1)
        result = read_groups(replay);
    io_close(replay->io, replay->file);
    replay->file = NULL;
    return result;
}

int wal_replay(struct io *io, struct io_file *directory, const uint8_t *store_uuid,
               uint64_t first_segment, bool closed, const struct wal_replay_callbacks *callbacks,
               struct wal_replay_result *ret_result)
{
    struct number_list list = {0};
    struct replay replay = {
        .io = io,
        .directory = directory,
        .store_uuid = store_uuid,
        .first_segment = first_segment > 0 ? first_segment : 1,
        .closed = closed,
        .callbacks = callbacks,
    };
    int result = list_segments(io, directory, &list);

    if (result == 0 && list.count > 0)
        replay.result.highest_segment = list.numbers[list.count - 1];
    for (size_t i = 0; result == 0 && i < list.count; i++) {
        if (list.numbers[i] >= first_segment)
            result = read_segment(&replay, list.numbers[i]);
    }
    if (result == 0)
        *ret_result = replay.result;
    free(replay.window);
    free(list.numbers);
    return result;
}
