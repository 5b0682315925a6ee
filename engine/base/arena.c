/* SPDX-License-Identifier: Apache-2.0 */
/*
 * arena.c - blocks of memory handed out from the front
 */
#include "engine/base/arena.h"

#include <stdlib.h>

#define ALIGNMENT      8
#define BLOCK_SIZE_MIN ((size_t)64 << 10)
#define BLOCK_SIZE_MAX ((size_t)1 << 20)

struct arena_block {
    struct arena_block *next;
    size_t size_bytes; /* with this header */
    uint8_t data[];
};

_Static_assert(sizeof(struct arena_block) % ALIGNMENT == 0, "data must start aligned");

static struct arena_block *arena_add_block(struct arena *arena, size_t size_bytes)
{
    struct arena_block *block = malloc(size_bytes);

    if (block == NULL)
        return NULL;
    block->size_bytes = size_bytes;
    block->next = arena->blocks;
    arena->blocks = block;
    arena->total_bytes += size_bytes;
    return block;
}

/* As much as is held already: small arenas stay small, large ones need few blocks. */
static size_t arena_next_block_size(const struct arena *arena)
{
    if (arena->total_bytes < BLOCK_SIZE_MIN)
        return BLOCK_SIZE_MIN;
    if (arena->total_bytes > BLOCK_SIZE_MAX)
        return BLOCK_SIZE_MAX;
    return arena->total_bytes;
}

void *arena_allocate(struct arena *arena, size_t size)
{
    struct arena_block *block;
    size_t block_size;
    uint8_t *result;

    if (size > SIZE_MAX - sizeof *block - ALIGNMENT)
        return NULL;
    size = size == 0 ? ALIGNMENT : (size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    if (size <= arena->left) {
        result = arena->next;
        arena->next += size;
        arena->left -= size;
        return result;
    }

    block_size = arena_next_block_size(arena);
    if (size > block_size / 4) {
        /* A block of its own, so that what is left of the current one is not lost. */
        block = arena_add_block(arena, sizeof *block + size);
        return block != NULL ? block->data : NULL;
    }
    block = arena_add_block(arena, block_size);
    if (block == NULL)
        return NULL;
    arena->next = block->data + size;
    arena->left = block_size - sizeof *block - size;
    return block->data;
}

void arena_free(struct arena *arena)
{
    struct arena_block *block = arena->blocks;

    while (block != NULL) {
        struct arena_block *next = block->next;

        free(block);
        block = next;
    }
    *arena = (struct arena){0};
}
