/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rebuild_log.c - where the log begins that goes on where the tables end
 */
#include "engine/rebuild_internal.h"

#include <errno.h>
#include <stdlib.h>

#include "engine/wal_format.h"

/* When there is no log to say which numbers were given last, so many are passed over. */
#define SEQUENCE_GAP (UINT64_C(1) << 20)

struct log_look {
    struct rebuild *rebuild;
    uint64_t next_sequence; /* that the tables and the entries so far lead to */
    uint64_t first_sequence, entries;
};

/* The chunk may be nowhere but here: its id is in use all the same (R63). */
static int look_at_piece(void *context, const struct blob_piece *piece)
{
    struct log_look *look = context;

    if (piece->chunk_id > look->rebuild->highest_id)
        look->rebuild->highest_id = piece->chunk_id;
    return 0;
}

/* As recovery will take it (recovery_replay.c). */
static int look_at_entry(void *context, const struct wal_replay_entry *entry)
{
    struct log_look *look = context;
    uint64_t count = 0;
    struct record record;
    size_t cursor = 0;
    int result = 0;

    if (look->first_sequence == 0)
        look->first_sequence = entry->first_sequence;
    if (entry->first_sequence < look->next_sequence)
        return 0;
    if (entry->first_sequence != look->next_sequence && look->entries > 0)
        return ERROR_CORRUPT;
    if (entry->kind == WAL_MARK)
        count = 1;
    else
        while ((result = batch_next(entry->bytes, &cursor, &record)) > 0)
            count++;
    /* The tables end before it begins: a segment is given up only when all of it is in tables, so
     * what lies between was there and has been merged away. */
    if (entry->first_sequence > look->next_sequence)
        look->rebuild->last_sequence = entry->first_sequence - 1;
    look->next_sequence = entry->first_sequence + count;
    look->entries++;
    return result;
}

static int compare_numbers(const void *a, const void *b)
{
    const uint64_t *left = a, *right = b;

    return *left < *right ? -1 : *left > *right;
}

struct segments {
    uint64_t *numbers;
    size_t count, capacity;
};

static int list_segment(void *context, const char *name)
{
    struct segments *segments = context;
    uint64_t number;
    int error;

    if (!wal_segment_name_parse(name, &number))
        return 0;
    error = rebuild_grow(&segments->numbers, sizeof number, segments->count, &segments->capacity);
    if (error == 0)
        segments->numbers[segments->count++] = number;
    return error;
}

/* The log from segment `first` on, when it can follow what the tables hold. */
static int try_log(struct rebuild *rebuild, uint64_t first, struct log_look *look)
{
    const struct wal_replay_callbacks callbacks = {look_at_piece, look_at_entry, look};
    uint64_t last_sequence = rebuild->last_sequence;
    struct wal_replay_result result;
    int error;

    *look = (struct log_look){.rebuild = rebuild, .next_sequence = last_sequence + 1};
    error = wal_replay(rebuild->io, rebuild->store->wal, rebuild->store->format.uuid, first, false,
                       &callbacks, &result);
    if (error < 0)
        rebuild->last_sequence = last_sequence;
    return error;
}

/* Segments that were given up may still be there, with gaps between them, and names that a cut has
 * brought back as directories: the first from which on all can be read is where the log begins. */
int rebuild_find_log(struct rebuild *rebuild)
{
    struct segments segments = {0};
    struct log_look look = {0};
    int error = io_list(rebuild->io, rebuild->store->wal, list_segment, &segments);

    if (error == 0 && segments.count > 0)
        qsort(segments.numbers, segments.count, sizeof *segments.numbers, compare_numbers);
    rebuild->wal_segment = segments.count > 0 ? segments.numbers[segments.count - 1] + 1 : 1;
    for (size_t i = 0; error == 0 && i < segments.count; i++) {
        error = try_log(rebuild, segments.numbers[i], &look);
        if (error == 0) {
            rebuild->wal_segment = segments.numbers[i];
            break;
        }
        if ((error_errno(error) == -EIO || error == -EISDIR) && i + 1 < segments.count)
            error = 0;
    }
    free(segments.numbers);
    rebuild->result.log_entries = look.entries;
    if (error == 0 && rebuild->unfinished_sequence > 0 &&
        (look.entries == 0 || look.first_sequence > rebuild->unfinished_sequence)) {
        log_error("%s: blob chunk %016llx is missing", rebuild->store->path,
                  (unsigned long long)rebuild->unfinished_blob);
        return ERROR_MISSING_CHUNK;
    }
    if (error == 0 && look.entries == 0) {
        if (rebuild->snapshot_sequence > rebuild->last_sequence)
            rebuild->last_sequence = rebuild->snapshot_sequence;
        rebuild->last_sequence += SEQUENCE_GAP;
    }
    return error;
}
