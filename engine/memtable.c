/* SPDX-License-Identifier: Apache-2.0 */
/*
 * memtable.c - apply batches, find records
 *
 * A batch is applied in two steps. First, without the lock, it is checked, its records are copied
 * to the arena where no reader can see them, and room for every insertion is reserved. Then, under
 * the lock, the records are linked in, which cannot fail. Readers therefore wait only for the
 * linking, and a batch that is refused has inserted nothing.
 */
#include "engine/memtable.h"

#include <errno.h>
#include <stdlib.h>

#include "engine/base/error.h"
#include "engine/base/invariant.h"
#include "engine/batch.h"
#include "engine/blob_ref.h"
#include "engine/memtable_internal.h"

struct memtable_entry *memtable_entry_new(struct arena *arena, enum record_kind kind,
                                          uint64_t sequence, struct slice key, struct slice value)
{
    struct memtable_entry *entry =
        arena_allocate(arena, offsetof(struct memtable_entry, bytes) + key.size + value.size);

    if (entry == NULL)
        return NULL;
    entry->sequence = sequence;
    entry->value_size = (uint32_t)value.size;
    entry->key_size = (uint16_t)key.size;
    entry->kind = (uint8_t)kind;
    memcpy(entry->bytes, key.data, key.size);
    if (value.size > 0)
        memcpy(entry->bytes + key.size, value.data, value.size);
    return entry;
}

struct memtable *memtable_new(uint64_t first_sequence)
{
    struct memtable *memtable = calloc(1, sizeof *memtable);

    if (memtable == NULL)
        return NULL;
    invariant(first_sequence > 0); /* 0 says "no tombstone" */
    atomic_init(&memtable->references, 1);
    lock_shared_init(&memtable->lock, LOCK_RANK_MEMTABLE);
    memtable->first_sequence = first_sequence;
    atomic_init(&memtable->last_sequence, first_sequence - 1);
    atomic_init(&memtable->size_bytes, sizeof *memtable);
    return memtable;
}

struct memtable *memtable_ref(struct memtable *memtable)
{
    unsigned before = atomic_fetch_add_explicit(&memtable->references, 1, memory_order_relaxed);

    invariant(before > 0 && before < UINT32_MAX);
    return memtable;
}

static void memtable_free(struct memtable *memtable)
{
    memtable_tree_free(&memtable->tree);
    memtable_tombstones_free(&memtable->tombstones);
    memtable_chunks_free(&memtable->chunks);
    arena_free(&memtable->arena);
    buffer_free(&memtable->inserts);
    buffer_free(&memtable->ranges);
    buffer_free(&memtable->new_chunks);
    lock_shared_destroy(&memtable->lock);
    free(memtable);
}

void memtable_unref(struct memtable *memtable)
{
    unsigned before;

    if (memtable == NULL)
        return;
    before = atomic_fetch_sub_explicit(&memtable->references, 1, memory_order_acq_rel);
    invariant(before > 0);
    if (before == 1)
        memtable_free(memtable);
}

/* ---- applying ---- */

static int stage_range(struct memtable *memtable, const struct record *record)
{
    struct memtable_range range = {
        .start = memtable_boundary_new(&memtable->arena, record->key),
        .end = memtable_boundary_new(&memtable->arena, record->value),
        .sequence = record->sequence,
    };

    if (range.start == NULL || range.end == NULL)
        return -ENOMEM;
    return buffer_append(&memtable->ranges, &range, sizeof range);
}

/* Note the chunk of a reference unless it is known or the same as the one before. */
static int stage_chunk(struct memtable *memtable, struct slice reference)
{
    struct buffer *ids = &memtable->new_chunks;
    uint64_t chunk_id, last;
    int error = blob_ref_decode_chunk_id(reference, &chunk_id);

    if (error < 0)
        return error;
    if (ids->size > 0) {
        memcpy(&last, ids->data + ids->size - sizeof last, sizeof last);
        if (last == chunk_id)
            return 0;
    }
    /* Only this thread changes the set, so it may look without the lock. */
    if (memtable_chunks_has(&memtable->chunks, chunk_id))
        return 0;
    return buffer_append(ids, &chunk_id, sizeof chunk_id);
}

static int stage_record(struct memtable *memtable, const struct record *record)
{
    struct memtable_entry *entry;

    if (record->kind == RECORD_DELETE_RANGE)
        return stage_range(memtable, record);
    if (record->kind == RECORD_REFERENCE) {
        int error = stage_chunk(memtable, record->value);

        if (error < 0)
            return error;
    }
    entry = memtable_entry_new(&memtable->arena, record->kind, record->sequence, record->key,
                               record->value);
    if (entry == NULL)
        return -ENOMEM;
    return buffer_append(&memtable->inserts, &entry, sizeof entry);
}

/* Check and copy all records; *ret_last is the sequence number of the last. */
static int stage_batch(struct memtable *memtable, struct slice bytes, uint64_t first_sequence,
                       uint64_t *ret_last)
{
    struct record record = {.sequence = first_sequence};
    size_t cursor = 0;
    int result;

    memtable->inserts.size = 0;
    memtable->ranges.size = 0;
    memtable->new_chunks.size = 0;
    while ((result = batch_next(bytes, &cursor, &record)) > 0) {
        invariant(record.sequence < UINT64_MAX);
        result = stage_record(memtable, &record);
        if (result < 0)
            return result;
        record.sequence++;
    }
    if (result == 0)
        *ret_last = record.sequence - 1;
    return result;
}

/* Reserve for all that was staged, so that inserting it cannot fail. */
static int reserve_staged(struct memtable *memtable, uint64_t **ret_slots, size_t *ret_capacity)
{
    size_t inserts = memtable->inserts.size / sizeof(struct memtable_entry *);
    size_t ranges = memtable->ranges.size / sizeof(struct memtable_range);
    size_t chunks = memtable->new_chunks.size / sizeof(uint64_t);
    int error = 0;

    if (inserts > 0)
        error = memtable_tree_reserve(&memtable->tree, inserts);
    if (error == 0 && ranges > 0)
        error = memtable_tombstones_reserve(
            &memtable->tombstones, (const struct memtable_range *)(void *)memtable->ranges.data,
            ranges);
    if (error == 0 && chunks > 0)
        error = memtable_chunks_prepare(&memtable->chunks, chunks, ret_slots, ret_capacity);
    return error;
}

static void insert_staged(struct memtable *memtable)
{
    struct memtable_entry *const *inserts = (void *)memtable->inserts.data;
    const struct memtable_range *ranges = (void *)memtable->ranges.data;
    const uint64_t *chunks = (void *)memtable->new_chunks.data;

    for (size_t i = 0; i < memtable->inserts.size / sizeof *inserts; i++)
        memtable_tree_insert(&memtable->tree, inserts[i]);
    for (size_t i = 0; i < memtable->ranges.size / sizeof *ranges; i++)
        memtable_tombstones_insert(&memtable->tombstones, &ranges[i]);
    for (size_t i = 0; i < memtable->new_chunks.size / sizeof *chunks; i++)
        memtable_chunks_add(&memtable->chunks, chunks[i]);
}

static size_t memory_in_use(const struct memtable *memtable)
{
    return sizeof *memtable + memtable->arena.total_bytes - memtable->arena.left +
           memtable->tree.pool.used_bytes + memtable->tombstones.boundaries.pool.used_bytes +
           memtable->tombstones.stacks.used_bytes +
           memtable->chunks.capacity * sizeof *memtable->chunks.slots + memtable->inserts.capacity +
           memtable->ranges.capacity + memtable->new_chunks.capacity;
}

int memtable_apply(struct memtable *memtable, struct slice batch_bytes, uint64_t first_sequence)
{
    uint64_t before = atomic_load_explicit(&memtable->last_sequence, memory_order_relaxed);
    uint64_t last = first_sequence - 1;
    uint64_t *slots = NULL;
    size_t capacity = 0;
    int error;

    invariant(first_sequence > before);
    error = stage_batch(memtable, batch_bytes, first_sequence, &last);
    if (error == 0)
        error = reserve_staged(memtable, &slots, &capacity);
    if (error == 0 && last >= first_sequence) {
        lock_shared_acquire_write(&memtable->lock);
        memtable_chunks_grow(&memtable->chunks, slots, capacity);
        insert_staged(memtable);
        lock_shared_release(&memtable->lock);
        atomic_store_explicit(&memtable->last_sequence, last, memory_order_relaxed);
        atomic_fetch_add_explicit(&memtable->count, last - first_sequence + 1,
                                  memory_order_relaxed);
    }
    atomic_store_explicit(&memtable->size_bytes, memory_in_use(memtable), memory_order_relaxed);
    return error;
}

/* ---- reading ---- */

static void record_of(const struct memtable_entry *entry, struct record *ret_record)
{
    ret_record->kind = (enum record_kind)entry->kind;
    ret_record->sequence = entry->sequence;
    ret_record->key = memtable_entry_key(entry);
    ret_record->value = memtable_entry_value(entry);
}

int memtable_get(struct memtable *memtable, struct slice key, uint64_t sequence,
                 struct record *ret_record, uint64_t *ret_tombstone)
{
    const struct memtable_entry *entry = NULL;
    struct memtable_position at;
    uint64_t tombstone = 0;

    lock_shared_acquire_read(&memtable->lock);
    if (!memtable_tombstones_is_empty(&memtable->tombstones))
        tombstone = memtable_tombstones_get(&memtable->tombstones, key, sequence);
    at = memtable_tree_seek(&memtable->tree, key, sequence);
    if (at.leaf != NULL)
        entry = memtable_position_entry(at);
    lock_shared_release(&memtable->lock);

    *ret_tombstone = tombstone;
    if (entry == NULL || !slice_equal(memtable_entry_key(entry), key))
        return 0;
    record_of(entry, ret_record);
    return 1;
}

uint64_t memtable_tombstone(struct memtable *memtable, struct slice key, uint64_t sequence)
{
    uint64_t tombstone = 0;

    lock_shared_acquire_read(&memtable->lock);
    if (!memtable_tombstones_is_empty(&memtable->tombstones))
        tombstone = memtable_tombstones_get(&memtable->tombstones, key, sequence);
    lock_shared_release(&memtable->lock);
    return tombstone;
}

uint64_t memtable_tombstone_span(struct memtable *memtable, struct slice key, uint64_t sequence,
                                 struct slice *ret_end)
{
    uint64_t tombstone;

    lock_shared_acquire_read(&memtable->lock);
    tombstone = memtable_tombstones_span(&memtable->tombstones, key, sequence, ret_end);
    lock_shared_release(&memtable->lock);
    return tombstone;
}

int memtable_each_tombstone(struct memtable *memtable, uint64_t sequence,
                            memtable_tombstone_callback *callback, void *context)
{
    struct slice start = slice_of(NULL, 0);
    uint64_t number = 0;
    struct slice at = slice_of("", 0);

    /* Step by step, so that no lock is held while the callback writes a table. */
    do {
        struct slice end;
        uint64_t here = memtable_tombstone_span(memtable, at, sequence, &end);

        /* Neighbours with one number are shown as one. */
        if (here != number) {
            int result = number != 0 ? callback(context, start, at, number) : 0;

            if (result != 0)
                return result;
            start = at;
            number = here;
        }
        at = end;
    } while (at.data != NULL);
    invariant(number == 0); /* every range has an end, after which nothing is covered by it */
    return 0;
}

size_t memtable_size_bytes(const struct memtable *memtable)
{
    return atomic_load_explicit(&memtable->size_bytes, memory_order_relaxed);
}

uint64_t memtable_count(const struct memtable *memtable)
{
    return atomic_load_explicit(&memtable->count, memory_order_relaxed);
}

uint64_t memtable_first_sequence(const struct memtable *memtable)
{
    return memtable->first_sequence;
}

uint64_t memtable_last_sequence(const struct memtable *memtable)
{
    return atomic_load_explicit(&memtable->last_sequence, memory_order_relaxed);
}

bool memtable_refers_to(struct memtable *memtable, uint64_t chunk_id)
{
    bool found;

    lock_shared_acquire_read(&memtable->lock);
    found = memtable_chunks_has(&memtable->chunks, chunk_id);
    lock_shared_release(&memtable->lock);
    return found;
}

void memtable_each_chunk(struct memtable *memtable, void (*callback)(void *, uint64_t chunk_id),
                         void *context)
{
    lock_shared_acquire_read(&memtable->lock);
    if (memtable->chunks.has_zero)
        callback(context, 0);
    for (size_t i = 0; i < memtable->chunks.capacity; i++)
        if (memtable->chunks.slots[i] != 0)
            callback(context, memtable->chunks.slots[i]);
    lock_shared_release(&memtable->lock);
}

/* ---- iterating ---- */

/* Versions of one key that are stepped over before a search is cheaper. */
#define STEPS_MAX 8

void memtable_iterator_init(struct memtable_iterator *iterator, struct memtable *memtable,
                            uint64_t sequence)
{
    *iterator = (struct memtable_iterator){.memtable = memtable, .sequence = sequence};
}

/* From `at` on, the first entry that is of another key than `entry`. */
static struct memtable_position skip_key(const struct memtable_tree *tree,
                                         struct memtable_position at,
                                         const struct memtable_entry *entry)
{
    struct slice key = memtable_entry_key(entry);

    for (unsigned i = 0; i < STEPS_MAX && at.leaf != NULL; i++) {
        if (!slice_equal(memtable_entry_key(memtable_position_entry(at)), key))
            return at;
        at = memtable_position_next(at);
    }
    /* No record has the number 0: this is the place behind the oldest version. */
    return at.leaf != NULL ? memtable_tree_seek(tree, key, 0) : at;
}

/* From `at` on, the first entry that is not newer than `sequence`. */
static struct memtable_position skip_newer(const struct memtable_tree *tree,
                                           struct memtable_position at, uint64_t sequence)
{
    unsigned steps = 0;

    while (at.leaf != NULL) {
        const struct memtable_entry *entry = memtable_position_entry(at);

        if (entry->sequence <= sequence)
            break;
        if (++steps % STEPS_MAX == 0)
            at = memtable_tree_seek(tree, memtable_entry_key(entry), sequence);
        else
            at = memtable_position_next(at);
    }
    return at;
}

/* Collect visible entries from `at` on, and remember the place of the last. The lock is held. */
static void collect(struct memtable_iterator *iterator, struct memtable_position at)
{
    const struct memtable_tree *tree = &iterator->memtable->tree;

    iterator->ahead_count = 0;
    iterator->ahead_next = 0;
    if (at.leaf != NULL)
        for (unsigned i = at.slot; i < at.leaf->count && i < at.slot + iterator->ahead_wanted; i++)
            __builtin_prefetch(at.leaf->entries[i]);
    for (;;) {
        const struct memtable_entry *entry;

        at = skip_newer(tree, at, iterator->sequence);
        if (at.leaf == NULL)
            return;
        entry = memtable_position_entry(at);
        iterator->ahead[iterator->ahead_count++] = entry;
        iterator->leaf = at.leaf;
        iterator->slot = at.slot;
        if (iterator->ahead_count == iterator->ahead_wanted)
            return;
        at = skip_key(tree, memtable_position_next(at), entry);
    }
}

/* Go on behind the last entry collected. */
static void collect_more(struct memtable_iterator *iterator)
{
    const struct memtable_entry *last = iterator->ahead[iterator->ahead_count - 1];
    const struct memtable_tree *tree = &iterator->memtable->tree;
    struct memtable_position at = {iterator->leaf, iterator->slot};

    lock_shared_acquire_read(&iterator->memtable->lock);
    /* Leaves stay, and an entry is in one place only: if it is still here, nothing has moved it. */
    if (at.slot >= at.leaf->count || memtable_position_entry(at) != last)
        at = memtable_tree_seek(tree, memtable_entry_key(last), last->sequence);
    at = skip_key(tree, memtable_position_next(at), last);
    collect(iterator, at);
    lock_shared_release(&iterator->memtable->lock);
}

static bool show_next(struct memtable_iterator *iterator)
{
    if (iterator->ahead_next == iterator->ahead_count)
        return false;
    record_of(iterator->ahead[iterator->ahead_next++], &iterator->record);
    return true;
}

bool memtable_iterator_seek(struct memtable_iterator *iterator, struct slice key)
{
    struct memtable *memtable = iterator->memtable;

    /* One at first, more with every step: many walks end early. */
    iterator->ahead_wanted = 1;
    lock_shared_acquire_read(&memtable->lock);
    collect(iterator, memtable_tree_seek(&memtable->tree, key, UINT64_MAX));
    lock_shared_release(&memtable->lock);
    return show_next(iterator);
}

bool memtable_iterator_next(struct memtable_iterator *iterator)
{
    if (iterator->ahead_next == iterator->ahead_count) {
        if (iterator->ahead_count == 0)
            return false; /* at the end, or never sought */
        if (iterator->ahead_wanted < MEMTABLE_ITERATOR_AHEAD)
            iterator->ahead_wanted *= 4;
        collect_more(iterator);
    }
    return show_next(iterator);
}
