/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ll_handles.c - a counting set of nodes: open addressing, linear probing, deletion by moving back
 */
#include "fuse/ll_handles.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/invariant.h"
#include "engine/base/lock.h"

#define CAPACITY_MIN 64

struct ll_handle_slot {
    uint64_t node;
    uint64_t count; /* 0: free */
};

struct ll_handles {
    struct lock lock; /* LOCK_RANK_LEAF */
    struct ll_handle_slot *slots;
    size_t capacity; /* a power of two */
    size_t used;
};

struct ll_handles *ll_handles_new(void)
{
    struct ll_handles *handles = calloc(1, sizeof *handles);

    if (handles == NULL)
        return NULL;
    handles->capacity = CAPACITY_MIN;
    handles->slots = calloc(handles->capacity, sizeof *handles->slots);
    if (handles->slots == NULL) {
        free(handles);
        return NULL;
    }
    lock_init(&handles->lock, LOCK_RANK_LEAF);
    return handles;
}

void ll_handles_free(struct ll_handles *handles)
{
    if (handles == NULL)
        return;
    lock_destroy(&handles->lock);
    free(handles->slots);
    free(handles);
}

static size_t handles_home(const struct ll_handles *handles, uint64_t node)
{
    /* Numbers in a row must not cluster. */
    return (size_t)(node * UINT64_C(0x9e3779b97f4a7c15) >> 32) & (handles->capacity - 1);
}

static struct ll_handle_slot *handles_slot(const struct ll_handles *handles, uint64_t node)
{
    size_t at = handles_home(handles, node);

    while (handles->slots[at].count != 0 && handles->slots[at].node != node)
        at = (at + 1) & (handles->capacity - 1);
    return &handles->slots[at];
}

static int handles_resize(struct ll_handles *handles, size_t capacity)
{
    struct ll_handle_slot *old = handles->slots;
    size_t old_capacity = handles->capacity;
    struct ll_handle_slot *slots = calloc(capacity, sizeof *slots);

    if (slots == NULL)
        return -ENOMEM;
    handles->slots = slots;
    handles->capacity = capacity;
    for (size_t i = 0; i < old_capacity; i++) {
        if (old[i].count != 0)
            *handles_slot(handles, old[i].node) = old[i];
    }
    free(old);
    return 0;
}

int ll_handles_add(struct ll_handles *handles, uint64_t node)
{
    struct ll_handle_slot *slot;
    int result = 0;

    lock_acquire(&handles->lock);
    if ((handles->used + 1) * 2 > handles->capacity)
        result = handles_resize(handles, handles->capacity * 2);
    /* Without memory for a larger one this goes on to fill up, but for the slot that ends searches. */
    if (result < 0 && handles->used + 1 < handles->capacity)
        result = 0;
    if (result == 0) {
        slot = handles_slot(handles, node);
        result = slot->count == 0;
        handles->used += (size_t)result;
        slot->node = node;
        slot->count++;
    }
    lock_release(&handles->lock);
    return result;
}

/* Close the gap at `hole`: an entry may move back into it unless its home lies after the hole. */
static void handles_close_gap(struct ll_handles *handles, size_t hole)
{
    size_t mask = handles->capacity - 1;

    for (size_t at = (hole + 1) & mask; handles->slots[at].count != 0; at = (at + 1) & mask) {
        size_t home = handles_home(handles, handles->slots[at].node);

        if (((at - home) & mask) >= ((at - hole) & mask)) {
            handles->slots[hole] = handles->slots[at];
            hole = at;
        }
    }
    handles->slots[hole] = (struct ll_handle_slot){0};
}

void ll_handles_remove(struct ll_handles *handles, uint64_t node)
{
    struct ll_handle_slot *slot;

    lock_acquire(&handles->lock);
    slot = handles_slot(handles, node);
    invariant(slot->count > 0);
    if (--slot->count == 0) {
        handles->used--;
        handles_close_gap(handles, (size_t)(slot - handles->slots));
        /* Without memory for a smaller one the larger table stays. */
        if (handles->capacity > CAPACITY_MIN && handles->used * 8 < handles->capacity)
            (void)handles_resize(handles, handles->capacity / 2);
    }
    lock_release(&handles->lock);
}

bool ll_handles_has(struct ll_handles *handles, uint64_t node)
{
    bool has;

    lock_acquire(&handles->lock);
    has = handles_slot(handles, node)->count > 0;
    lock_release(&handles->lock);
    return has;
}

int ll_handles_list(struct ll_handles *handles, uint64_t **ret_nodes, size_t *ret_count)
{
    uint64_t *nodes = NULL;
    size_t count = 0;
    int error = 0;

    lock_acquire(&handles->lock);
    if (handles->used > 0) {
        nodes = malloc(handles->used * sizeof *nodes);
        error = nodes == NULL ? -ENOMEM : 0;
    }
    for (size_t i = 0; nodes != NULL && i < handles->capacity; i++) {
        if (handles->slots[i].count != 0)
            nodes[count++] = handles->slots[i].node;
    }
    lock_release(&handles->lock);
    if (error == 0) {
        *ret_nodes = nodes;
        *ret_count = count;
    }
    return error;
}
