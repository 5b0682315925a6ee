/* SPDX-License-Identifier: Apache-2.0 */
/*
 * memtable_internal.h - the parts of a memtable: entries, pools, the B+tree, tombstones, chunk set
 *
 * For the memtable_*.c files alone. Everything here follows the locking of memtable.h: one writer,
 * which may read without the lock; whatever a reader can reach changes only under the lock.
 *
 * Memory: entries lie in the arena. Tree nodes and tombstone stacks come from pools, in which room
 * for the worst case of a batch is reserved before its first insertion, so that inserting cannot
 * fail.
 */
#ifndef VARVE_ENGINE_MEMTABLE_INTERNAL_H
#define VARVE_ENGINE_MEMTABLE_INTERNAL_H

#include <stdatomic.h>

#include "engine/base/arena.h"
#include "engine/base/lock.h"
#include "engine/memtable.h"

/* ---- entries ---- */

/* One version of one key; immutable once it is in a tree (a boundary's value excepted). */
struct memtable_entry {
    uint64_t sequence;
    uint32_t value_size;
    uint16_t key_size;
    uint8_t kind;
    uint8_t bytes[]; /* key, value */
};

_Static_assert(RECORD_KEY_SIZE_MAX <= UINT16_MAX, "a key's size fits its field");

static inline struct slice memtable_entry_key(const struct memtable_entry *entry)
{
    return slice_of(entry->bytes, entry->key_size);
}

static inline struct slice memtable_entry_value(const struct memtable_entry *entry)
{
    return slice_of(entry->bytes + entry->key_size, entry->value_size);
}

/* NULL: out of memory. */
struct memtable_entry *memtable_entry_new(struct arena *arena, enum record_kind kind,
                                          uint64_t sequence, struct slice key, struct slice value);

/* ---- pools: memory that is reserved first and taken later ---- */

struct memtable_slab;

struct memtable_pool {
    struct memtable_slab *slabs;
    uint8_t *next;
    size_t left;
    size_t slab_size;  /* of the last one made */
    size_t used_bytes; /* taken so far; what is merely reserved is never touched */
};

/* Make the next `size` bytes of takes succeed. 0 or -ENOMEM. */
int memtable_pool_reserve(struct memtable_pool *pool, size_t size);
/* Zeroed by nobody. A pool whose takes are all multiples of 64 gives cache-line alignment. */
void *memtable_pool_take(struct memtable_pool *pool, size_t size);
void memtable_pool_free(struct memtable_pool *pool);

/* ---- the B+tree: entries by (key ascending, sequence descending) ---- */

#define MEMTABLE_NODE_SLOTS  64
#define MEMTABLE_NODE_PREFIX 52
#define MEMTABLE_TREE_HINTS  4
#define MEMTABLE_NO_RUN      0xff

/*
 * The keys of a node mostly share their beginning: an inode number, a directory and the first
 * letters of its names. The node keeps what they share once, in `prefix`, and of every key the
 * eight bytes after it, as a big-endian number padded with zeros. A search compares the prefix,
 * then numbers, and looks at an entry only where these are equal.
 */
struct memtable_node {
    uint16_t count;
    uint8_t prefix_size; /* every key of the node begins with prefix[0..prefix_size) */
    uint8_t run;         /* leaf: slot of the last insertion, or MEMTABLE_NO_RUN */
    uint8_t prefix[MEMTABLE_NODE_PREFIX];
    struct memtable_node *link; /* leaf: the next one; inner: the child below entries[0] */
    uint64_t fragments[MEMTABLE_NODE_SLOTS];
    const struct memtable_entry *entries[MEMTABLE_NODE_SLOTS];
    struct memtable_node *children[]; /* inner: children[i] begins with entries[i] */
};

struct memtable_tree {
    struct memtable_pool pool;
    struct memtable_node *root;  /* NULL: empty */
    struct memtable_node *first; /* leaf */
    unsigned height;             /* inner levels above the leaves */
    size_t inner_nodes;
    struct memtable_node *hints[MEMTABLE_TREE_HINTS]; /* leaves used last; the writer's alone */
    unsigned hint_next;
};

/* A place in a tree; leaf NULL: past the end. It stays meaningful until the next insertion. */
struct memtable_position {
    const struct memtable_node *leaf;
    unsigned slot;
};

/* Make the next `count` insertions succeed. 0 or -ENOMEM. */
int memtable_tree_reserve(struct memtable_tree *tree, size_t count);
/* No entry of this key and sequence number may be in the tree. */
void memtable_tree_insert(struct memtable_tree *tree, const struct memtable_entry *entry);
void memtable_tree_free(struct memtable_tree *tree);

/* The first entry at or after (key, sequence). */
struct memtable_position memtable_tree_seek(const struct memtable_tree *tree, struct slice key,
                                            uint64_t sequence);
/* The last entry at or before (key, sequence). */
struct memtable_position memtable_tree_floor(const struct memtable_tree *tree, struct slice key,
                                             uint64_t sequence);

static inline struct memtable_position memtable_position_next(struct memtable_position at)
{
    if (++at.slot == at.leaf->count)
        at = (struct memtable_position){at.leaf->link, 0};
    return at;
}

static inline const struct memtable_entry *memtable_position_entry(struct memtable_position at)
{
    return at.leaf->entries[at.slot];
}

/* ---- range tombstones ---- */

/*
 * The key space cut at boundaries: a boundary's stack holds for the keys from it up to the next
 * one. A boundary is an entry of `boundaries` whose value is the pointer to its stack.
 */
struct memtable_tombstones {
    struct memtable_tree boundaries;
    struct memtable_pool stacks;
};

/* The sequence numbers of the tombstones over a fragment, newest first; tails are shared. */
struct memtable_stack {
    uint64_t sequence;
    const struct memtable_stack *next;
};

/* A boundary that may go into the map later. NULL: out of memory. */
struct memtable_entry *memtable_boundary_new(struct arena *arena, struct slice key);

/* One range of a batch. */
struct memtable_range {
    struct memtable_entry *start, *end; /* boundaries */
    uint64_t sequence;
};

/* Make the insertion of these ranges, in this order, succeed. 0 or -ENOMEM. */
int memtable_tombstones_reserve(struct memtable_tombstones *tombstones,
                                const struct memtable_range *ranges, size_t count);
/* The range's sequence number is above all in the map. */
void memtable_tombstones_insert(struct memtable_tombstones *tombstones,
                                const struct memtable_range *range);
void memtable_tombstones_free(struct memtable_tombstones *tombstones);

static inline bool memtable_tombstones_is_empty(const struct memtable_tombstones *tombstones)
{
    return tombstones->boundaries.root == NULL;
}

uint64_t memtable_tombstones_get(const struct memtable_tombstones *tombstones, struct slice key,
                                 uint64_t sequence);
uint64_t memtable_tombstones_span(const struct memtable_tombstones *tombstones, struct slice key,
                                  uint64_t sequence, struct slice *ret_end);

/* ---- the set of blob chunks referred to ---- */

struct memtable_chunks {
    uint64_t *slots; /* open addressing; 0: free */
    size_t capacity; /* a power of two, or 0 */
    size_t count;    /* in slots */
    bool has_zero;   /* chunk id 0 cannot be in slots */
};

/* A larger table with room for `extra` more ids, to be put in place later. 0 or -ENOMEM; *ret_slots
 * is NULL when the present one will do. */
int memtable_chunks_prepare(const struct memtable_chunks *chunks, size_t extra,
                            uint64_t **ret_slots, size_t *ret_capacity);
/* Move into the prepared table (NULL: nothing to do), which the set then owns. */
void memtable_chunks_grow(struct memtable_chunks *chunks, uint64_t *slots, size_t capacity);
void memtable_chunks_add(struct memtable_chunks *chunks, uint64_t chunk_id);
bool memtable_chunks_has(const struct memtable_chunks *chunks, uint64_t chunk_id);
void memtable_chunks_free(struct memtable_chunks *chunks);

/* ---- the whole ---- */

struct memtable {
    atomic_uint references;
    struct lock_shared lock; /* LOCK_RANK_MEMTABLE: tree, tombstones, chunks */
    struct memtable_tree tree;
    struct memtable_tombstones tombstones;
    struct memtable_chunks chunks;

    /* The writer's alone. */
    struct arena arena;
    struct buffer inserts;    /* struct memtable_entry * of the batch being applied; reused */
    struct buffer ranges;     /* struct memtable_range of it */
    struct buffer new_chunks; /* uint64_t: ids of it that the set may lack */

    uint64_t first_sequence;
    _Atomic uint64_t last_sequence;
    _Atomic uint64_t count;
    _Atomic size_t size_bytes;
};

#endif
