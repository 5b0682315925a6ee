/* SPDX-License-Identifier: Apache-2.0 */
/*
 * arena.c - blocks of memory handed out from the front
 */
#include "engine/base/arena.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/mman.h>

#define ALIGNMENT      8
#define BLOCK_SIZE_MIN ((size_t)64 << 10)
#define BLOCK_SIZE_MAX ((size_t)2 << 20) /* a huge page of x86-64 and of arm64 with 4 KiB pages */

struct arena_block {
    struct arena_block *next;
    size_t size_bytes; /* with this header */
    uint8_t data[];
};

_Static_assert(sizeof(struct arena_block) % ALIGNMENT == 0, "data must start aligned");

/*
 * Touching memory for the first time takes the kernel a third of what it takes us to put many small
 * records there. So large blocks wish for a huge page, and some are kept for the next arena.
 * AddressSanitizer is to see them freed.
 */
#ifdef __SANITIZE_ADDRESS__
#define SPARES_MAX  1
#define KEEP_SPARES false
#else
#define SPARES_MAX  8
#define KEEP_SPARES true
#endif

static _Atomic(struct arena_block *) spares[SPARES_MAX]; /* of BLOCK_SIZE_MAX; NULL: none */

static struct arena_block *take_spare(void)
{
    struct arena_block *block = NULL;

    for (size_t i = 0; block == NULL && i < SPARES_MAX; i++)
        if (atomic_load_explicit(&spares[i], memory_order_relaxed) != NULL)
            block = atomic_exchange_explicit(&spares[i], NULL, memory_order_acquire);
    return block;
}

static bool keep_spare(struct arena_block *block)
{
    for (size_t i = 0; KEEP_SPARES && i < SPARES_MAX; i++) {
        struct arena_block *none = NULL;

        if (atomic_compare_exchange_strong_explicit(&spares[i], &none, block, memory_order_release,
                                                    memory_order_relaxed))
            return true;
    }
    return false;
}

static struct arena_block *arena_new_block(size_t size_bytes)
{
    struct arena_block *block;

    if (size_bytes != BLOCK_SIZE_MAX)
        return malloc(size_bytes);
    block = take_spare();
    if (block == NULL) {
        block = aligned_alloc(BLOCK_SIZE_MAX, size_bytes);
        if (block != NULL)
            (void)madvise(block, size_bytes, MADV_HUGEPAGE);
    }
    return block;
}

static struct arena_block *arena_add_block(struct arena *arena, size_t size_bytes)
{
    struct arena_block *block = arena_new_block(size_bytes);

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

        if (block->size_bytes != BLOCK_SIZE_MAX || !keep_spare(block))
            free(block);
        block = next;
    }
    *arena = (struct arena){0};
}
