/* SPDX-License-Identifier: Apache-2.0 */
/*
 * recovery_replay.c - the log into memtables and blob chunks
 */
#include <errno.h>
#include <stdlib.h>

#include "engine/recovery_internal.h"

int recovery_grow(void **array, size_t *capacity, size_t count, size_t element)
{
    void *grown;

    if (count < *capacity)
        return 0;
    grown = realloc(*array, (*capacity * 2 + 16) * element);
    if (grown == NULL)
        return -ENOMEM;
    *array = grown;
    *capacity = *capacity * 2 + 16;
    return 0;
}

/* ---- what the log says ---- */

static int replay_piece(void *context, const struct blob_piece *piece)
{
    struct recovery *recovery = context;
    struct blob_piece copy = *piece;
    uint8_t *data;
    int result;

    if (catalogue_find(recovery->engine, piece->chunk_id, NULL))
        return 0;
    result = recovery_grow((void **)&recovery->pieces, &recovery->piece_capacity,
                           recovery->piece_count, sizeof *recovery->pieces);
    if (result < 0)
        return result;
    data = malloc(piece->size);
    if (data == NULL)
        return -ENOMEM;
    memcpy(data, piece->data, piece->size);
    copy.data = data;
    recovery->pieces[recovery->piece_count++] = copy;
    return 0;
}

static int need_blob(struct recovery *recovery, uint64_t id, uint64_t end)
{
    int result;

    if (id > recovery->highest_id)
        recovery->highest_id = id;
    if (catalogue_find(recovery->engine, id, NULL))
        return 0;
    for (size_t i = recovery->needed_count; i-- > 0;) {
        if (recovery->needed[i].id != id)
            continue;
        if (end > recovery->needed[i].end)
            recovery->needed[i].end = end;
        return 0;
    }
    result = recovery_grow((void **)&recovery->needed, &recovery->needed_capacity,
                           recovery->needed_count, sizeof *recovery->needed);
    if (result == 0)
        recovery->needed[recovery->needed_count++] = (struct needed_blob){id, end};
    return result;
}

static int need_batch_blobs(struct recovery *recovery, struct slice bytes, uint64_t *ret_count)
{
    struct record record;
    struct blob_ref ref;
    size_t cursor = 0;
    uint64_t count = 0;
    int result;

    while ((result = batch_next(bytes, &cursor, &record)) > 0) {
        count++;
        if (record.kind != RECORD_REFERENCE)
            continue;
        result = blob_ref_decode(record.value, &ref);
        if (result == 0)
            result = need_blob(recovery, ref.chunk_id, ref.position + ref.stored_size);
        if (result < 0)
            return result;
    }
    *ret_count = count;
    return result;
}

/* The memtable that replay fills; a new one when the last is full or ended by a checkpoint. */
static int open_memtable(struct recovery *recovery, uint64_t first, struct replayed **ret_replayed)
{
    struct replayed *last =
        recovery->replayed_count > 0 ? &recovery->replayed[recovery->replayed_count - 1] : NULL;
    int result;

    if (last == NULL || last->checkpoint != NULL ||
        memtable_size_bytes(last->memtable) >= recovery->engine->options.memtable_bytes) {
        result = recovery_grow((void **)&recovery->replayed, &recovery->replayed_capacity,
                               recovery->replayed_count, sizeof *recovery->replayed);
        if (result < 0)
            return result;
        last = &recovery->replayed[recovery->replayed_count];
        *last = (struct replayed){.memtable = memtable_new(first)};
        if (last->memtable == NULL)
            return -ENOMEM;
        recovery->replayed_count++;
    }
    *ret_replayed = last;
    return 0;
}

static int replay_batch(struct recovery *recovery, const struct wal_replay_entry *entry)
{
    struct replayed *target;
    uint64_t count;
    int result = need_batch_blobs(recovery, entry->bytes, &count);

    if (result < 0)
        return result;
    result = open_memtable(recovery, entry->first_sequence, &target);
    if (result < 0)
        return result;
    result = memtable_apply(target->memtable, entry->bytes, entry->first_sequence);
    if (result < 0)
        return result;
    target->last_sequence = entry->first_sequence + count - 1;
    recovery->next_sequence = entry->first_sequence + count;
    ENGINE_COUNT(recovery->engine, wal_replayed_batches, 1);
    return 0;
}

/* A number in the order and nothing else: a mark that was taken back, or that of a checkpoint that
 * was deleted before the flush that would have told the manifest of it. */
static int replay_void(struct recovery *recovery, uint64_t sequence)
{
    struct replayed *target;
    int result = open_memtable(recovery, sequence, &target);

    if (result == 0)
        target->last_sequence = sequence;
    recovery->next_sequence = sequence + 1;
    return result;
}

static void note_checkpoint_id(struct engine *engine, uint64_t id)
{
    if (id >= engine->next_checkpoint_id)
        engine->next_checkpoint_id = id + 1;
}

static int replay_mark(struct recovery *recovery, const struct wal_replay_entry *entry)
{
    struct replayed *target;
    struct checkpoint *checkpoint;
    int result;

    if (entry->bytes.size == 0)
        return replay_void(recovery, entry->first_sequence);
    result = checkpoint_new(&checkpoint);
    if (result < 0)
        return result;
    /* Unless it was deleted the manifest does not know it: it learns of a mark in the commit that moves the tables'
     * highest sequence number past it. (The id tells nothing: it was taken before the mark was
     * written, and any commit in between has stored the next one; nor are marks in order of their
     * ids.) */
    result = checkpoint_mark_decode(entry->bytes, checkpoint);
    if (result < 0)
        goto out;
    note_checkpoint_id(recovery->engine, checkpoint->record.id);
    if (recovery_checkpoint_is_deleted(recovery->engine, checkpoint->record.id)) {
        result = replay_void(recovery, entry->first_sequence);
        goto out;
    }
    result = open_memtable(recovery, entry->first_sequence, &target);
    if (result < 0)
        goto out;
    checkpoint->record.sequence = entry->first_sequence;
    target->checkpoint = checkpoint;
    target->last_sequence = entry->first_sequence;
    checkpoint = NULL;
out:
    recovery->next_sequence = entry->first_sequence + 1;
    checkpoint_unref(checkpoint);
    return result;
}

static int replay_entry(void *context, const struct wal_replay_entry *entry)
{
    struct recovery *recovery = context;

    /* Flushed before a crash in the middle of an earlier recovery. */
    if (entry->first_sequence <= recovery->state.scalars.last_sequence)
        return 0;
    if (entry->first_sequence != recovery->next_sequence) {
        log_error("%s: the log continues at sequence number %llu instead of %llu",
                  recovery->engine->path, (unsigned long long)entry->first_sequence,
                  (unsigned long long)recovery->next_sequence);
        return ERROR_CORRUPT;
    }
    return entry->kind == WAL_MARK ? replay_mark(recovery, entry) : replay_batch(recovery, entry);
}

int recovery_replay_log(struct recovery *recovery)
{
    struct engine *engine = recovery->engine;
    struct wal_replay_callbacks callbacks = {replay_piece, replay_entry, recovery};
    int result =
        wal_replay(engine->io, engine->store->wal, engine->store->format.uuid, engine->wal_segment,
                   recovery->state.scalars.clean, &callbacks, &recovery->log);

    if (result == 0 && recovery->log.entries > 0)
        log_info("%s was not closed cleanly: %llu log groups replayed", engine->path,
                 (unsigned long long)recovery->log.groups);
    return result;
}

/* ---- blob chunks that only the log knows ---- */

static int piece_compare(const void *left, const void *right)
{
    const struct blob_piece *a = left, *b = right;

    if (a->chunk_id != b->chunk_id)
        return a->chunk_id < b->chunk_id ? -1 : 1;
    return a->position < b->position ? -1 : a->position > b->position;
}

/* Also one that had been sealed when the crash came before the manifest's word of it. */
static int recover_blob(struct recovery *recovery, const struct needed_blob *needed,
                        struct chunk_identity *ret_identity)
{
    struct engine *engine = recovery->engine;
    size_t first = 0, count = 0;

    while (first < recovery->piece_count && recovery->pieces[first].chunk_id != needed->id)
        first++;
    while (first + count < recovery->piece_count &&
           recovery->pieces[first + count].chunk_id == needed->id)
        count++;
    return blob_recover_open_chunk(engine->io, engine->store->chunks, engine->store->format.uuid,
                                   needed->id, needed->end, recovery->pieces + first, count,
                                   ret_identity);
}

int recovery_replay_blobs(struct recovery *recovery)
{
    int result = 0;

    if (recovery->needed_count == 0)
        return 0;
    recovery->recovered = calloc(recovery->needed_count, sizeof *recovery->recovered);
    if (recovery->recovered == NULL)
        return -ENOMEM;
    if (recovery->piece_count > 0)
        qsort(recovery->pieces, recovery->piece_count, sizeof *recovery->pieces, piece_compare);
    for (size_t i = 0; result == 0 && i < recovery->needed_count; i++) {
        result = recover_blob(recovery, &recovery->needed[i], &recovery->recovered[i]);
        if (result < 0)
            log_error("%s: blob chunk %016llx cannot be recovered: %s", recovery->engine->path,
                      (unsigned long long)recovery->needed[i].id, error_text(result));
        else
            recovery->recovered_count++;
    }
    if (result == 0)
        result = catalogue_add(recovery->engine, recovery->recovered, recovery->recovered_count);
    return result;
}
