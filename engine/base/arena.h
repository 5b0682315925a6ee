/* SPDX-License-Identifier: Apache-2.0 */
/*
 * arena.h - memory that is freed all at once
 *
 * Allocations are 8-byte aligned and live until arena_free(). Blocks grow from 64 KiB to 2 MiB;
 * up to 16 MiB of the largest are kept for the next arena of the process.
 * Threads: allocation by one thread at a time (the owner's lock); reading is free.
 */
#ifndef VARVE_ENGINE_BASE_ARENA_H
#define VARVE_ENGINE_BASE_ARENA_H

#include <stddef.h>
#include <stdint.h>

struct arena_block;

struct arena {
    struct arena_block *blocks;
    uint8_t *next;
    size_t left;
    size_t total_bytes; /* memory held, for accounting */
};

/* A zeroed arena is valid and empty. */
void *arena_allocate(struct arena *arena, size_t size); /* NULL when out of memory */
void arena_free(struct arena *arena);

#endif
