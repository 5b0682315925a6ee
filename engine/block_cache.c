/* SPDX-License-Identifier: Apache-2.0 */
/*
 * block_cache.c - S3-FIFO in shards
 *
 * An entry is either free (in no shard) or cached (in one shard: in its hash chain and in one of
 * its two queues). The cache holds one reference to each cached entry, so an entry whose count is 1
 * is read by nobody. Entries that leave a shard are chained and released after the lock is dropped.
 *
 * The ghost list is a set-associative table of fingerprints stamped with a clock that ticks at
 * every eviction from the small queue: a key is remembered for as many ticks as the main queue has
 * entries. A false match only lets a newcomer into the main queue early.
 */
#include "engine/block_cache.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/queue.h>

#include "engine/base/checksum.h"
#include "engine/base/invariant.h"
#include "engine/base/lock.h"
#include "engine/chunk_format.h"

#define SHARDS_MAX      32
#define SHARD_BYTES_MIN ((size_t)2 << 20)
#define BUCKET_BYTES    ((size_t)8 << 10) /* capacity for which one hash bucket is made */
#define BUCKETS_MIN     64
#define SMALL_PERCENT   10 /* of the capacity */
#define USES_MAX        3
#define USES_TO_PROMOTE 2
#define LOOKS_MAX       16 /* entries that one eviction may pass over */
#define GHOST_WAYS      4
#define GHOST_TICKS_MIN 64
#define KEEP_DIVISOR    4   /* a block above capacity / 4 of its shard is not kept */
#define REMOVE_STEP     256 /* buckets walked without giving way to others */

enum entry_queue { QUEUE_SMALL, QUEUE_MAIN, QUEUES };

struct entry {
    struct block block; /* first: a block is its entry */
    atomic_uint references;
    uint8_t queue; /* enum entry_queue; like all below, guarded by the shard's lock */
    uint8_t uses;
    uint64_t hash;
    struct block_key key;
    struct entry *chain; /* in a bucket, or in a list of entries that left */
    TAILQ_ENTRY(entry) link;
    _Alignas(16) uint8_t bytes[];
};

TAILQ_HEAD(entry_list, entry);

struct ghost {
    uint32_t fingerprint;
    uint32_t stamp; /* 0: empty */
};

struct shard {
    struct lock lock; /* LOCK_RANK_BLOCK_CACHE: everything below; no I/O, no free under it */
    struct entry **buckets;
    size_t bucket_mask;
    struct ghost *ghosts; /* (bucket_mask + 1) / GHOST_WAYS sets */
    uint32_t ghost_clock;
    struct entry_list queues[QUEUES];
    size_t queue_bytes[QUEUES];
    size_t queue_counts[QUEUES];
    size_t capacity_bytes;
    struct block_cache_statistics statistics; /* sizes are filled in when asked for */
};

struct block_cache {
    size_t shard_count; /* a power of two */
    struct shard shards[];
};

int block_cache_space(const uint8_t *store_uuid, uint64_t *ret_space)
{
    struct checksum_stream *stream = checksum_stream_new();

    if (!stream)
        return -ENOMEM;
    checksum_stream_update(stream, store_uuid, STORE_UUID_SIZE);
    *ret_space = checksum_stream_digest(stream).low;
    checksum_stream_free(stream);
    return 0;
}

/* ---- blocks ---- */

static struct entry *entry_of(struct block *block)
{
    return (struct entry *)block;
}

static size_t entry_charge(const struct entry *entry)
{
    return sizeof *entry + entry->block.size_bytes;
}

struct block *block_new(size_t size_bytes)
{
    struct entry *entry;

    if (size_bytes > SIZE_MAX - sizeof *entry)
        return NULL;
    entry = malloc(sizeof *entry + size_bytes);
    if (!entry)
        return NULL;
    entry->block.size_bytes = size_bytes;
    entry->block.data = entry->bytes;
    atomic_init(&entry->references, 1);
    return &entry->block;
}

static void entry_ref(struct entry *entry)
{
    /* Whoever calls holds a reference or the lock that keeps the cache's. */
    atomic_fetch_add_explicit(&entry->references, 1, memory_order_relaxed);
}

void block_release(struct block *block)
{
    unsigned before;

    if (!block)
        return;
    /* Release so that our reads are done, acquire so that the free comes after all others'. */
    before = atomic_fetch_sub_explicit(&entry_of(block)->references, 1, memory_order_acq_rel);
    invariant(before > 0);
    if (before == 1)
        free(entry_of(block));
}

static void release_chain(struct entry *entry)
{
    while (entry) {
        struct entry *next = entry->chain;

        block_release(&entry->block);
        entry = next;
    }
}

/* ---- a shard ---- */

static uint64_t key_hash(const struct block_key *key)
{
    return checksum64(key, sizeof *key); /* three u64, no padding */
}

static bool key_equal(const struct block_key *a, const struct block_key *b)
{
    return a->position == b->position && a->chunk_id == b->chunk_id && a->space == b->space;
}

static struct shard *shard_of(struct block_cache *cache, uint64_t hash)
{
    return &cache->shards[hash >> 32 & (cache->shard_count - 1)];
}

static struct entry *shard_find(struct shard *shard, const struct block_key *key, uint64_t hash)
{
    struct entry *entry = shard->buckets[hash & shard->bucket_mask];

    while (entry && (entry->hash != hash || !key_equal(&entry->key, key)))
        entry = entry->chain;
    return entry;
}

static void queue_push(struct shard *shard, struct entry *entry, enum entry_queue queue)
{
    entry->queue = queue;
    TAILQ_INSERT_HEAD(&shard->queues[queue], entry, link);
    shard->queue_bytes[queue] += entry_charge(entry);
    shard->queue_counts[queue]++;
}

static void queue_remove(struct shard *shard, struct entry *entry)
{
    TAILQ_REMOVE(&shard->queues[entry->queue], entry, link);
    shard->queue_bytes[entry->queue] -= entry_charge(entry);
    shard->queue_counts[entry->queue]--;
}

/* Take an entry out of the shard and put it on `*left`, to be released without the lock. */
static void shard_remove(struct shard *shard, struct entry *entry, struct entry **left)
{
    struct entry **place = &shard->buckets[entry->hash & shard->bucket_mask];

    while (*place != entry)
        place = &(*place)->chain;
    *place = entry->chain;
    queue_remove(shard, entry);
    entry->chain = *left;
    *left = entry;
}

static struct ghost *ghost_set(struct shard *shard, uint64_t hash)
{
    return &shard->ghosts[(hash & shard->bucket_mask) / GHOST_WAYS * GHOST_WAYS];
}

static uint32_t ghost_fingerprint(uint64_t hash)
{
    return (uint32_t)(hash >> 32 ^ hash >> 13);
}

static uint32_t ghost_age(const struct shard *shard, const struct ghost *ghost)
{
    return ghost->stamp == 0 ? UINT32_MAX : shard->ghost_clock - ghost->stamp;
}

static void ghost_add(struct shard *shard, uint64_t hash)
{
    struct ghost *set = ghost_set(shard, hash);
    struct ghost *oldest = set;

    for (size_t i = 1; i < GHOST_WAYS; i++)
        if (ghost_age(shard, &set[i]) > ghost_age(shard, oldest))
            oldest = &set[i];
    if (++shard->ghost_clock == 0) /* 0 marks an empty place */
        shard->ghost_clock = 1;
    *oldest = (struct ghost){ghost_fingerprint(hash), shard->ghost_clock};
}

/* Was the key evicted from the small queue lately? Forgets it. */
static bool ghost_take(struct shard *shard, uint64_t hash)
{
    struct ghost *set = ghost_set(shard, hash);
    uint32_t fingerprint = ghost_fingerprint(hash);
    size_t ticks = shard->queue_counts[QUEUE_MAIN];

    if (ticks < GHOST_TICKS_MIN)
        ticks = GHOST_TICKS_MIN;
    for (size_t i = 0; i < GHOST_WAYS; i++) {
        if (set[i].fingerprint == fingerprint && ghost_age(shard, &set[i]) <= ticks) {
            set[i].stamp = 0;
            return true;
        }
    }
    return false;
}

static size_t shard_bytes(const struct shard *shard)
{
    return shard->queue_bytes[QUEUE_SMALL] + shard->queue_bytes[QUEUE_MAIN];
}

/*
 * Make one entry leave. Entries that were used get another round, but only LOOKS_MAX of them: when
 * everything is hot the one at hand goes (R12).
 */
static void shard_evict(struct shard *shard, struct entry **left)
{
    for (unsigned looks = 1;; looks++) {
        bool from_small =
            shard->queue_counts[QUEUE_MAIN] == 0 ||
            (shard->queue_counts[QUEUE_SMALL] > 0 &&
             shard->queue_bytes[QUEUE_SMALL] > shard->capacity_bytes / 100 * SMALL_PERCENT);
        struct entry *entry =
            TAILQ_LAST(&shard->queues[from_small ? QUEUE_SMALL : QUEUE_MAIN], entry_list);
        bool spared = from_small ? entry->uses >= USES_TO_PROMOTE : entry->uses > 0;

        shard->statistics.eviction_looks++;
        if (!spared || looks >= LOOKS_MAX) {
            if (from_small)
                ghost_add(shard, entry->hash);
            shard_remove(shard, entry, left);
            shard->statistics.evictions++;
            return;
        }
        queue_remove(shard, entry);
        entry->uses = from_small ? 0 : entry->uses - 1;
        queue_push(shard, entry, QUEUE_MAIN);
    }
}

static void shard_insert(struct shard *shard, struct entry *entry, struct entry **left)
{
    struct entry **bucket = &shard->buckets[entry->hash & shard->bucket_mask];
    size_t charge = entry_charge(entry);

    while (shard_bytes(shard) + charge > shard->capacity_bytes)
        shard_evict(shard, left);
    entry->uses = 0;
    entry->chain = *bucket;
    *bucket = entry;
    entry_ref(entry);
    queue_push(shard, entry, ghost_take(shard, entry->hash) ? QUEUE_MAIN : QUEUE_SMALL);
    shard->statistics.insertions++;
}

static int shard_init(struct shard *shard, size_t capacity_bytes)
{
    size_t buckets = BUCKETS_MIN;

    while (buckets < capacity_bytes / BUCKET_BYTES)
        buckets *= 2;
    shard->buckets = calloc(buckets, sizeof *shard->buckets);
    shard->ghosts = calloc(buckets, sizeof *shard->ghosts);
    if (!shard->buckets || !shard->ghosts) {
        free(shard->buckets);
        free(shard->ghosts);
        return -ENOMEM;
    }
    shard->bucket_mask = buckets - 1;
    shard->capacity_bytes = capacity_bytes;
    for (size_t i = 0; i < QUEUES; i++)
        TAILQ_INIT(&shard->queues[i]);
    lock_init(&shard->lock, LOCK_RANK_BLOCK_CACHE);
    return 0;
}

static void shard_free(struct shard *shard)
{
    for (size_t i = 0; i <= shard->bucket_mask; i++) {
        struct entry *next;

        for (struct entry *entry = shard->buckets[i]; entry; entry = next) {
            next = entry->chain;
            invariant(atomic_load(&entry->references) == 1);
            block_release(&entry->block);
        }
    }
    lock_destroy(&shard->lock);
    free(shard->buckets);
    free(shard->ghosts);
}

/* ---- the cache ---- */

struct block_cache *block_cache_new(size_t capacity_bytes)
{
    size_t shards = 1;
    struct block_cache *cache;

    while (shards < SHARDS_MAX && capacity_bytes / (shards * 2) >= SHARD_BYTES_MIN)
        shards *= 2;
    cache = calloc(1, sizeof *cache + shards * sizeof cache->shards[0]);
    if (!cache)
        return NULL;
    while (cache->shard_count < shards) {
        if (shard_init(&cache->shards[cache->shard_count], capacity_bytes / shards) < 0) {
            block_cache_free(cache);
            return NULL;
        }
        cache->shard_count++;
    }
    return cache;
}

void block_cache_free(struct block_cache *cache)
{
    if (!cache)
        return;
    for (size_t i = 0; i < cache->shard_count; i++)
        shard_free(&cache->shards[i]);
    free(cache);
}

struct block *block_cache_get(struct block_cache *cache, const struct block_key *key)
{
    uint64_t hash = key_hash(key);
    struct shard *shard = shard_of(cache, hash);
    struct entry *entry;

    lock_acquire(&shard->lock);
    entry = shard_find(shard, key, hash);
    if (entry) {
        entry_ref(entry);
        if (entry->uses < USES_MAX)
            entry->uses++;
        shard->statistics.hits++;
    } else {
        shard->statistics.misses++;
    }
    lock_release(&shard->lock);
    return entry ? &entry->block : NULL;
}

struct block *block_cache_insert(struct block_cache *cache, const struct block_key *key,
                                 struct block *block)
{
    struct entry *entry = entry_of(block);
    struct entry *present, *left = NULL;
    struct shard *shard;

    entry->key = *key;
    entry->hash = key_hash(key);
    shard = shard_of(cache, entry->hash);
    if (entry_charge(entry) > shard->capacity_bytes / KEEP_DIVISOR)
        return block;

    lock_acquire(&shard->lock);
    present = shard_find(shard, key, entry->hash);
    if (present)
        entry_ref(present);
    else
        shard_insert(shard, entry, &left);
    lock_release(&shard->lock);

    release_chain(left);
    if (!present)
        return block;
    block_release(block);
    return &present->block;
}

void block_cache_remove_chunk(struct block_cache *cache, uint64_t space, uint64_t chunk_id)
{
    for (size_t i = 0; i < cache->shard_count; i++) {
        struct shard *shard = &cache->shards[i];

        for (size_t from = 0; from <= shard->bucket_mask; from += REMOVE_STEP) {
            struct entry *left = NULL;

            lock_acquire(&shard->lock);
            for (size_t at = from; at < from + REMOVE_STEP && at <= shard->bucket_mask; at++) {
                struct entry *next;

                for (struct entry *entry = shard->buckets[at]; entry; entry = next) {
                    next = entry->chain;
                    if (entry->key.chunk_id == chunk_id && entry->key.space == space)
                        shard_remove(shard, entry, &left);
                }
            }
            lock_release(&shard->lock);
            release_chain(left);
        }
    }
}

void block_cache_get_statistics(struct block_cache *cache, struct block_cache_statistics *ret)
{
    struct block_cache_statistics sum = {0};

    for (size_t i = 0; i < cache->shard_count; i++) {
        struct shard *shard = &cache->shards[i];

        lock_acquire(&shard->lock);
        sum.hits += shard->statistics.hits;
        sum.misses += shard->statistics.misses;
        sum.insertions += shard->statistics.insertions;
        sum.evictions += shard->statistics.evictions;
        sum.eviction_looks += shard->statistics.eviction_looks;
        sum.size_bytes += shard_bytes(shard);
        sum.capacity_bytes += shard->capacity_bytes;
        lock_release(&shard->lock);
    }
    *ret = sum;
}
