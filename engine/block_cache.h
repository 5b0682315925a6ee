/* SPDX-License-Identifier: Apache-2.0 */
/*
 * block_cache.h - decoded blocks, bounded, scan-resistant
 *
 * S3-FIFO (Yang et al., "FIFO queues are all you need for cache eviction", SOSP 2023): a small FIFO
 * for newcomers, a main FIFO with a 2-bit use counter, a ghost list of keys. A one-time scan passes
 * through the small queue and leaves the main one alone.
 *
 * Keys are (space, chunk id, position): `space` tells stores apart that share one cache, because two
 * stores may use one chunk id (R32); it is the low 8 bytes of XXH3-128 of the store's UUID.
 * Blocks are reference-counted: an entry that is evicted while somebody reads it lives until it is
 * released. Memory is bounded by the capacity plus what readers hold.
 *
 * Threads: any. Sharded by key; each shard has a lock (LOCK_RANK_BLOCK_CACHE). No callback or free
 * of user memory runs under a lock (R11). An eviction looks at a bounded number of entries (R12).
 */
#ifndef VARVE_ENGINE_BLOCK_CACHE_H
#define VARVE_ENGINE_BLOCK_CACHE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct block_cache;

struct block_key {
    uint64_t space;
    uint64_t chunk_id;
    uint64_t position;
};

/* An immutable block of bytes. */
struct block {
    size_t size_bytes;
    uint8_t *data;
};

struct block_cache_statistics {
    uint64_t hits, misses, insertions, evictions;
    uint64_t eviction_looks; /* entries that evictions looked at */
    uint64_t size_bytes, capacity_bytes;
};

/* The key space of a store, as said above. 0 or -ENOMEM. */
int block_cache_space(const uint8_t *store_uuid, uint64_t *ret_space);

struct block_cache *block_cache_new(size_t capacity_bytes); /* NULL: out of memory */
void block_cache_free(struct block_cache *cache); /* all blocks must be released; accepts NULL */

/* A block of `size_bytes` with one reference, not in the cache; fill `data` before inserting it.
 * NULL: out of memory. */
struct block *block_new(size_t size_bytes);
void block_release(struct block *block); /* accepts NULL */

/* A referenced block, or NULL. */
struct block *block_cache_get(struct block_cache *cache, const struct block_key *key);

/*
 * Offer a filled block. Returns the block to use, with a reference for the caller: the given one, or
 * the one that another thread inserted first (the given one is then released). Never fails: without
 * room or memory the block is simply not kept.
 */
struct block *block_cache_insert(struct block_cache *cache, const struct block_key *key,
                                 struct block *block);

/* Forget all blocks of a chunk (it was deleted). */
void block_cache_remove_chunk(struct block_cache *cache, uint64_t space, uint64_t chunk_id);

void block_cache_get_statistics(struct block_cache *cache, struct block_cache_statistics *ret);

#endif
