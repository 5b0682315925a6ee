/* SPDX-License-Identifier: Apache-2.0 */
/*
 * memtable_chunks.c - which blob chunks the records of a memtable refer to
 *
 * A hash set, at most half full. Chunk ids are counted up, so multiplying by an odd constant and
 * taking the high bits spreads them evenly.
 */
#include "engine/memtable_internal.h"

#include <errno.h>
#include <stdlib.h>

#define CAPACITY_MIN 16

static size_t home_slot(uint64_t chunk_id, size_t capacity)
{
    return (size_t)((chunk_id * UINT64_C(0x9e3779b97f4a7c15)) >> 32) & (capacity - 1);
}

int memtable_chunks_prepare(const struct memtable_chunks *chunks, size_t extra,
                            uint64_t **ret_slots, size_t *ret_capacity)
{
    size_t capacity = chunks->capacity > 0 ? chunks->capacity : CAPACITY_MIN;
    uint64_t *slots;

    if (extra > SIZE_MAX / 4 - chunks->count)
        return -ENOMEM;
    while (capacity / 2 < chunks->count + extra)
        capacity *= 2;
    if (capacity == chunks->capacity) {
        *ret_slots = NULL;
        return 0;
    }
    slots = calloc(capacity, sizeof *slots);
    if (slots == NULL)
        return -ENOMEM;
    *ret_slots = slots;
    *ret_capacity = capacity;
    return 0;
}

/* The slot that holds the id, or the free one where it would go. */
static size_t find_slot(const struct memtable_chunks *chunks, uint64_t chunk_id)
{
    size_t slot = home_slot(chunk_id, chunks->capacity);

    while (chunks->slots[slot] != 0 && chunks->slots[slot] != chunk_id)
        slot = (slot + 1) & (chunks->capacity - 1);
    return slot;
}

void memtable_chunks_grow(struct memtable_chunks *chunks, uint64_t *slots, size_t capacity)
{
    struct memtable_chunks grown = {slots, capacity, chunks->count, chunks->has_zero};

    if (slots == NULL)
        return;
    for (size_t i = 0; i < chunks->capacity; i++)
        if (chunks->slots[i] != 0)
            slots[find_slot(&grown, chunks->slots[i])] = chunks->slots[i];
    free(chunks->slots);
    *chunks = grown;
}

void memtable_chunks_add(struct memtable_chunks *chunks, uint64_t chunk_id)
{
    size_t slot;

    if (chunk_id == 0) {
        chunks->has_zero = true;
        return;
    }
    slot = find_slot(chunks, chunk_id);
    if (chunks->slots[slot] == 0) {
        chunks->slots[slot] = chunk_id;
        chunks->count++;
    }
}

bool memtable_chunks_has(const struct memtable_chunks *chunks, uint64_t chunk_id)
{
    if (chunk_id == 0)
        return chunks->has_zero;
    return chunks->capacity > 0 && chunks->slots[find_slot(chunks, chunk_id)] == chunk_id;
}

void memtable_chunks_free(struct memtable_chunks *chunks)
{
    free(chunks->slots);
    *chunks = (struct memtable_chunks){0};
}
