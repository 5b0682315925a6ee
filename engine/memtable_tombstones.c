/* SPDX-License-Identifier: Apache-2.0 */
/*
 * memtable_tombstones.c - range tombstones, cut into disjoint fragments
 *
 * A range [start, end) puts a boundary at each of its ends, each inheriting the stack that holds
 * there, and pushes its sequence number on the stack of every boundary from start up to end. Ranges
 * come with rising numbers, so a stack is always newest first, and pushing leaves older stacks as
 * they are: fragments that were one when a tombstone came share it.
 */
#include "engine/memtable_internal.h"

#include <errno.h>

#include "engine/base/invariant.h"

/* Every key has one boundary at most; they all carry this number. */
#define BOUNDARY_SEQUENCE 0

static const struct memtable_stack *boundary_stack(const struct memtable_entry *boundary)
{
    const struct memtable_stack *stack;

    memcpy(&stack, boundary->bytes + boundary->key_size, sizeof stack);
    return stack;
}

/* Boundaries are the entries whose value changes; the arena they lie in is writable memory. */
static void boundary_set_stack(const struct memtable_entry *boundary,
                               const struct memtable_stack *stack)
{
    uintptr_t value = (uintptr_t)(boundary->bytes + boundary->key_size);

    memcpy((void *)value, &stack, sizeof stack);
}

struct memtable_entry *memtable_boundary_new(struct arena *arena, struct slice key)
{
    const struct memtable_stack *none = NULL;

    return memtable_entry_new(arena, RECORD_DELETE_RANGE, BOUNDARY_SEQUENCE, key,
                              slice_of(&none, sizeof none));
}

static struct memtable_position seek_boundary(const struct memtable_tombstones *tombstones,
                                              struct slice key)
{
    return memtable_tree_seek(&tombstones->boundaries, key, BOUNDARY_SEQUENCE);
}

static struct memtable_position floor_boundary(const struct memtable_tombstones *tombstones,
                                               struct slice key)
{
    return memtable_tree_floor(&tombstones->boundaries, key, BOUNDARY_SEQUENCE);
}

int memtable_tombstones_reserve(struct memtable_tombstones *tombstones,
                                const struct memtable_range *ranges, size_t count)
{
    size_t stacks = 0;
    int error;

    for (size_t i = 0; i < count; i++) {
        struct slice end = memtable_entry_key(ranges[i].end);
        struct memtable_position at =
            seek_boundary(tombstones, memtable_entry_key(ranges[i].start));

        /* At most: the boundaries there now, those of the ranges before it, and its own start. */
        stacks += 2 * i + 1;
        while (at.leaf != NULL &&
               slice_compare(memtable_entry_key(memtable_position_entry(at)), end) < 0) {
            stacks++;
            at = memtable_position_next(at);
        }
    }
    error = memtable_pool_reserve(&tombstones->stacks, stacks * sizeof(struct memtable_stack));
    if (error < 0)
        return error;
    return memtable_tree_reserve(&tombstones->boundaries, 2 * count);
}

/* Cut at a boundary's key; returns the boundary that is there now. */
static const struct memtable_entry *cut_at(struct memtable_tombstones *tombstones,
                                           const struct memtable_entry *boundary)
{
    struct slice key = memtable_entry_key(boundary);
    struct memtable_position at = floor_boundary(tombstones, key);

    if (at.leaf != NULL) {
        const struct memtable_entry *before = memtable_position_entry(at);

        if (slice_equal(memtable_entry_key(before), key))
            return before;
        boundary_set_stack(boundary, boundary_stack(before));
    }
    memtable_tree_insert(&tombstones->boundaries, boundary);
    return boundary;
}

void memtable_tombstones_insert(struct memtable_tombstones *tombstones,
                                const struct memtable_range *range)
{
    const struct memtable_entry *end = cut_at(tombstones, range->end);
    const struct memtable_entry *start = cut_at(tombstones, range->start);
    const struct memtable_stack *below = NULL, *pushed = NULL;
    struct memtable_position at = seek_boundary(tombstones, memtable_entry_key(start));

    for (; memtable_position_entry(at) != end; at = memtable_position_next(at)) {
        const struct memtable_entry *boundary = memtable_position_entry(at);
        const struct memtable_stack *stack = boundary_stack(boundary);

        invariant(stack == NULL || stack->sequence < range->sequence);
        if (pushed == NULL || stack != below) {
            struct memtable_stack *top =
                memtable_pool_take(&tombstones->stacks, sizeof(struct memtable_stack));

            *top = (struct memtable_stack){range->sequence, stack};
            below = stack;
            pushed = top;
        }
        boundary_set_stack(boundary, pushed);
    }
}

/* The newest number of a stack that is visible at `sequence`, or 0. */
static uint64_t stack_newest(const struct memtable_stack *stack, uint64_t sequence)
{
    while (stack != NULL && stack->sequence > sequence)
        stack = stack->next;
    return stack != NULL ? stack->sequence : 0;
}

uint64_t memtable_tombstones_get(const struct memtable_tombstones *tombstones, struct slice key,
                                 uint64_t sequence)
{
    struct memtable_position at = floor_boundary(tombstones, key);

    if (at.leaf == NULL)
        return 0;
    return stack_newest(boundary_stack(memtable_position_entry(at)), sequence);
}

uint64_t memtable_tombstones_span(const struct memtable_tombstones *tombstones, struct slice key,
                                  uint64_t sequence, struct slice *ret_end)
{
    struct memtable_position at = floor_boundary(tombstones, key);
    uint64_t newest = 0;

    if (at.leaf != NULL) {
        newest = stack_newest(boundary_stack(memtable_position_entry(at)), sequence);
        at = memtable_position_next(at);
    } else if (tombstones->boundaries.root != NULL) {
        at = (struct memtable_position){tombstones->boundaries.first, 0};
    }
    *ret_end = slice_of(NULL, 0);
    if (at.leaf != NULL)
        *ret_end = memtable_entry_key(memtable_position_entry(at));
    return newest;
}

void memtable_tombstones_free(struct memtable_tombstones *tombstones)
{
    memtable_tree_free(&tombstones->boundaries);
    memtable_pool_free(&tombstones->stacks);
}
