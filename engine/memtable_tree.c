/* SPDX-License-Identifier: Apache-2.0 */
/*
 * memtable_tree.c - the B+tree of a memtable, and the pools its nodes come from
 *
 * Nothing is ever deleted, which keeps it small: a leaf never moves or goes away, and an entry
 * moves only to the right, into a leaf that a split made.
 *
 * Invariant: a separator is the first entry of the leaf that its child begins with. It was when the
 * split made it; later insertions below that child come after the separator, because what comes
 * before it is led elsewhere. Only the leftmost leaf has no separator and can get a new first
 * entry.
 */
#include "engine/memtable_internal.h"

#include <errno.h>
#include <stdlib.h>

#include "engine/base/endian.h"
#include "engine/base/invariant.h"

#define CACHE_LINE 64

#define SLAB_SIZE_MIN ((size_t)32 << 10)
#define SLAB_SIZE_MAX ((size_t)1 << 20)

#define LEAF_SIZE  sizeof(struct memtable_node)
#define INNER_SIZE (LEAF_SIZE + MEMTABLE_NODE_SLOTS * sizeof(struct memtable_node *))

_Static_assert(LEAF_SIZE % CACHE_LINE == 0 && INNER_SIZE % CACHE_LINE == 0,
               "nodes keep each other aligned");
_Static_assert(MEMTABLE_NODE_SLOTS < MEMTABLE_NO_RUN, "a slot is no MEMTABLE_NO_RUN");

/* ---- pools ---- */

struct memtable_slab {
    struct memtable_slab *next;
    uint8_t padding[CACHE_LINE - sizeof(struct memtable_slab *)];
    uint8_t data[];
};

int memtable_pool_reserve(struct memtable_pool *pool, size_t size)
{
    struct memtable_slab *slab;
    size_t slab_size = pool->slab_size * 2;

    if (size <= pool->left)
        return 0;
    if (slab_size < SLAB_SIZE_MIN)
        slab_size = SLAB_SIZE_MIN;
    if (slab_size > SLAB_SIZE_MAX)
        slab_size = SLAB_SIZE_MAX;
    if (size > SIZE_MAX / 2)
        return -ENOMEM;
    if (slab_size < size + sizeof *slab)
        slab_size = (size + sizeof *slab + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE;

    /* What is left of the slab before is given up: less than one batch's worst case. */
    slab = aligned_alloc(CACHE_LINE, slab_size);
    if (slab == NULL)
        return -ENOMEM;
    slab->next = pool->slabs;
    pool->slabs = slab;
    pool->slab_size = slab_size;
    pool->next = slab->data;
    pool->left = slab_size - sizeof *slab;
    return 0;
}

void *memtable_pool_take(struct memtable_pool *pool, size_t size)
{
    void *result = pool->next;

    invariant(size <= pool->left);
    pool->next += size;
    pool->left -= size;
    pool->used_bytes += size;
    return result;
}

void memtable_pool_free(struct memtable_pool *pool)
{
    struct memtable_slab *slab = pool->slabs;

    while (slab != NULL) {
        struct memtable_slab *next = slab->next;

        free(slab);
        slab = next;
    }
    *pool = (struct memtable_pool){0};
}

/* ---- keys in a node ---- */

/* The eight bytes of `key` from `offset` on, as a number; zeros where the key has ended. */
static inline uint64_t fragment_of(struct slice key, size_t offset)
{
    size_t available = key.size - offset;
    uint64_t fragment = 0;

    if (available >= 8)
        return get_be64(key.data + offset);
    if (available == 0)
        return 0;
    if (key.size >= 8) /* the last eight bytes, without those before the offset */
        return get_be64(key.data + key.size - 8) << (8 * (8 - available));
    for (size_t i = 0; i < available; i++)
        fragment |= (uint64_t)key.data[offset + i] << (56 - 8 * i);
    return fragment;
}

static size_t common_size(const uint8_t *a, const uint8_t *b, size_t size)
{
    size_t common = 0;

    while (common < size && a[common] == b[common])
        common++;
    return common;
}

/* Order of an entry and (key, sequence), whose keys are known to agree up to `offset`. */
static int entry_compare(const struct memtable_entry *entry, struct slice key, uint64_t sequence,
                         size_t offset)
{
    int order = slice_compare(slice_of(entry->bytes + offset, entry->key_size - offset),
                              slice_of(key.data + offset, key.size - offset));

    if (order != 0)
        return order;
    return entry->sequence > sequence ? -1 : entry->sequence < sequence;
}

/* Order of `key` and the node's prefix: 0 when it begins with the prefix. */
static inline int prefix_compare(const struct memtable_node *node, struct slice key)
{
    size_t size = node->prefix_size < key.size ? node->prefix_size : key.size;
    int order = size > 0 ? memcmp(key.data, node->prefix, size) : 0;

    if (order != 0)
        return order;
    return key.size < node->prefix_size ? -1 : 0;
}

static inline unsigned fragment_lower_bound(const struct memtable_node *node, uint64_t fragment)
{
    unsigned base = 0;
    unsigned count = node->count;

    while (count > 1) {
        unsigned half = count / 2;

        base += node->fragments[base + half - 1] < fragment ? half : 0;
        count -= half;
    }
    return base + (count == 1 && node->fragments[base] < fragment);
}

/*
 * Among slots with one fragment, from `first` on, the first entry at or after (key, sequence). The
 * first slot is looked at first: a key that is written over and over lies there in its newest
 * version, and a lone collision needs no more either.
 */
static unsigned search_ties(const struct memtable_node *node, unsigned first, struct slice key,
                            uint64_t sequence, bool *ret_exact)
{
    uint64_t fragment = node->fragments[first];
    unsigned low = first, high = first;
    int order = entry_compare(node->entries[low], key, sequence, node->prefix_size);

    if (order < 0) {
        low++;
        high = low;
        while (high < node->count && node->fragments[high] == fragment)
            high++;
    }
    *ret_exact = order == 0;
    while (low < high) {
        unsigned middle = (low + high) / 2;

        order = entry_compare(node->entries[middle], key, sequence, node->prefix_size);
        if (order < 0) {
            low = middle + 1;
        } else {
            high = middle;
            *ret_exact = order == 0;
        }
    }
    return low;
}

/* Slot of the first entry at or after (key, sequence), for a key that begins with the prefix. */
static inline unsigned search_fragments(const struct memtable_node *node, struct slice key,
                                        uint64_t sequence, bool *ret_exact)
{
    uint64_t fragment = fragment_of(key, node->prefix_size);
    unsigned slot = fragment_lower_bound(node, fragment);

    *ret_exact = false;
    if (slot < node->count && node->fragments[slot] == fragment)
        slot = search_ties(node, slot, key, sequence, ret_exact);
    return slot;
}

/* The same for any key. */
static inline unsigned node_search(const struct memtable_node *node, struct slice key,
                                   uint64_t sequence, bool *ret_exact)
{
    int order = prefix_compare(node, key);

    *ret_exact = false;
    if (order != 0)
        return order < 0 ? 0 : node->count;
    return search_fragments(node, key, sequence, ret_exact);
}

/* ---- changing a node ---- */

static void node_init(struct memtable_node *node, struct memtable_node *link)
{
    node->count = 0;
    node->prefix_size = 0;
    node->run = MEMTABLE_NO_RUN;
    node->link = link;
}

/*
 * Shorten the prefix. The fragments slide back over bytes that are known, the end of the prefix and
 * the front of the old fragments, so no entry is touched.
 */
static void shrink_prefix(struct memtable_node *node, size_t size)
{
    size_t dropped = node->prefix_size - size;
    uint8_t bytes[8] = {0};
    uint64_t front;

    memcpy(bytes, node->prefix + size, dropped < sizeof bytes ? dropped : sizeof bytes);
    front = get_be64(bytes);
    for (unsigned i = 0; i < node->count; i++)
        node->fragments[i] = dropped < 8 ? front | node->fragments[i] >> (8 * dropped) : front;
    node->prefix_size = (uint8_t)size;
}

/* Lengthen the prefix to all that the keys share, if fragments collide for want of it. */
static void extend_prefix(struct memtable_node *node)
{
    struct slice first, last;
    size_t size, size_max = MEMTABLE_NODE_PREFIX;
    bool collide = false;

    for (unsigned i = 1; i < node->count && !collide; i++)
        collide = node->fragments[i - 1] == node->fragments[i];
    if (!collide)
        return;

    first = memtable_entry_key(node->entries[0]);
    last = memtable_entry_key(node->entries[node->count - 1]);
    size_max = first.size < size_max ? first.size : size_max;
    size_max = last.size < size_max ? last.size : size_max;
    size = common_size(first.data, last.data, size_max);
    if (size <= node->prefix_size)
        return;

    memcpy(node->prefix, first.data, size);
    node->prefix_size = (uint8_t)size;
    for (unsigned i = 0; i < node->count; i++)
        __builtin_prefetch(node->entries[i]);
    for (unsigned i = 0; i < node->count; i++)
        node->fragments[i] = fragment_of(memtable_entry_key(node->entries[i]), size);
}

/* Make the prefix one of `key` too. */
static void admit_key(struct memtable_node *node, struct slice key)
{
    size_t size_max = MEMTABLE_NODE_PREFIX < key.size ? MEMTABLE_NODE_PREFIX : key.size;
    size_t size;

    if (node->count == 0) {
        memcpy(node->prefix, key.data, size_max);
        node->prefix_size = (uint8_t)size_max;
        return;
    }
    size = common_size(node->prefix, key.data,
                       node->prefix_size < size_max ? node->prefix_size : size_max);
    if (size < node->prefix_size)
        shrink_prefix(node, size);
}

/* Insert at `slot` of a node with room; `child` for an inner node only. */
static void node_insert(struct memtable_node *node, unsigned slot,
                        const struct memtable_entry *entry, struct memtable_node *child)
{
    struct slice key = memtable_entry_key(entry);
    size_t after = node->count - slot;

    admit_key(node, key);
    memmove(node->fragments + slot + 1, node->fragments + slot, after * sizeof node->fragments[0]);
    memmove(node->entries + slot + 1, node->entries + slot, after * sizeof node->entries[0]);
    node->fragments[slot] = fragment_of(key, node->prefix_size);
    node->entries[slot] = entry;
    if (child != NULL) {
        memmove(node->children + slot + 1, node->children + slot, after * sizeof node->children[0]);
        node->children[slot] = child;
    }
    node->run = (uint8_t)slot;
    node->count++;
}

/* Move the slots from `from` on to the empty node `to`. */
static void node_move_tail(struct memtable_node *node, unsigned from, struct memtable_node *to,
                           bool inner)
{
    size_t moved = node->count - from;

    memcpy(to->prefix, node->prefix, node->prefix_size);
    to->prefix_size = node->prefix_size;
    memcpy(to->fragments, node->fragments + from, moved * sizeof to->fragments[0]);
    memcpy(to->entries, node->entries + from, moved * sizeof to->entries[0]);
    if (inner)
        memcpy(to->children, node->children + from, moved * sizeof to->children[0]);
    to->count = (uint16_t)moved;
    node->count = (uint16_t)from;
}

/* ---- finding the leaf ---- */

/* One inner node on the way down, and the child taken: 0 is `link`, i is children[i - 1]. */
struct step {
    struct memtable_node *node;
    unsigned child;
};

/* 32^20 entries are more than memory has room for. */
#define HEIGHT_MAX 20

static inline void prefetch_for_search(const struct memtable_node *node)
{
    const char *lines = (const char *)node;

    for (size_t offset = 0; offset < offsetof(struct memtable_node, entries); offset += CACHE_LINE)
        __builtin_prefetch(lines + offset);
}

/* The leaf that (key, sequence) belongs to; the way down goes to `steps` unless it is NULL. */
static struct memtable_node *find_leaf(const struct memtable_tree *tree, struct slice key,
                                       uint64_t sequence, struct step *steps)
{
    struct memtable_node *node = tree->root;

    for (unsigned level = 0; level < tree->height; level++) {
        bool exact;
        unsigned child = node_search(node, key, sequence, &exact);

        child += exact; /* a separator is in the leaf to its right */
        if (steps != NULL)
            steps[level] = (struct step){node, child};
        node = child == 0 ? node->link : node->children[child - 1];
        prefetch_for_search(node);
    }
    return node;
}

struct memtable_position memtable_tree_seek(const struct memtable_tree *tree, struct slice key,
                                            uint64_t sequence)
{
    struct memtable_position at = {NULL, 0};
    bool exact;

    if (tree->root == NULL)
        return at;
    at.leaf = find_leaf(tree, key, sequence, NULL);
    at.slot = node_search(at.leaf, key, sequence, &exact);
    if (at.slot == at.leaf->count)
        at = (struct memtable_position){at.leaf->link, 0};
    return at;
}

struct memtable_position memtable_tree_floor(const struct memtable_tree *tree, struct slice key,
                                             uint64_t sequence)
{
    struct memtable_position at = {NULL, 0};
    bool exact;

    if (tree->root == NULL)
        return at;
    at.leaf = find_leaf(tree, key, sequence, NULL);
    at.slot = node_search(at.leaf, key, sequence, &exact);
    if (exact)
        return at;
    /* By the invariant above, only in the leftmost leaf can there be nothing before. */
    if (at.slot == 0)
        return (struct memtable_position){NULL, 0};
    at.slot--;
    return at;
}

/* ---- inserting ---- */

static struct memtable_node *new_leaf(struct memtable_tree *tree, struct memtable_node *link)
{
    struct memtable_node *leaf = memtable_pool_take(&tree->pool, LEAF_SIZE);

    node_init(leaf, link);
    return leaf;
}

static struct memtable_node *new_inner(struct memtable_tree *tree, struct memtable_node *link)
{
    struct memtable_node *inner = memtable_pool_take(&tree->pool, INNER_SIZE);

    node_init(inner, link);
    tree->inner_nodes++;
    return inner;
}

int memtable_tree_reserve(struct memtable_tree *tree, size_t count)
{
    const size_t half = MEMTABLE_NODE_SLOTS / 2 - 1;
    size_t inner;

    if (count > (SIZE_MAX / 2) / (HEIGHT_MAX * 2 * INNER_SIZE))
        return -ENOMEM;
    if (count < half) {
        /* A split at every level for each, and one new root: the next needs more insertions. */
        inner = count * (tree->height + 1) + 1;
    } else {
        /*
         * An inner node splits when it is full: at its end once, while it is the last of its level,
         * then in the middle, after which each part takes `half` insertions to be full again. So
         * each level has two splits a node that it began with, and two for every `half` insertions;
         * levels that do not exist yet are bounded the same way.
         */
        inner = 2 * tree->inner_nodes + (count / half + 1) * 2 * HEIGHT_MAX;
    }
    return memtable_pool_reserve(&tree->pool, (count + 1) * LEAF_SIZE + inner * INNER_SIZE);
}

/* Put (entry, child) into the inner node at steps[level], which splits when it is full. */
static void insert_inner(struct memtable_tree *tree, struct step *steps, unsigned level,
                         const struct memtable_entry *entry, struct memtable_node *child);

/* The node below the first `levels` steps has split; its new right part begins with `entry`. */
static void insert_above(struct memtable_tree *tree, struct step *steps, unsigned levels,
                         const struct memtable_entry *entry, struct memtable_node *right)
{
    if (levels > 0) {
        insert_inner(tree, steps, levels - 1, entry, right);
        return;
    }
    invariant(tree->height < HEIGHT_MAX);
    tree->root = new_inner(tree, tree->root);
    tree->height++;
    node_insert(tree->root, 0, entry, right);
}

/* True when no node of the same level lies to the right. */
static bool is_last_of_level(const struct step *steps, unsigned level)
{
    for (unsigned i = 0; i < level; i++)
        if (steps[i].child != steps[i].node->count)
            return false;
    return true;
}

static void insert_inner(struct memtable_tree *tree, struct step *steps, unsigned level,
                         const struct memtable_entry *entry, struct memtable_node *child)
{
    struct memtable_node *node = steps[level].node;
    unsigned slot = steps[level].child;
    unsigned middle = MEMTABLE_NODE_SLOTS / 2;
    const struct memtable_entry *separator;
    struct memtable_node *right;

    if (node->count < MEMTABLE_NODE_SLOTS) {
        node_insert(node, slot, entry, child);
        return;
    }
    if (slot == node->count && is_last_of_level(steps, level)) {
        /* Rising keys: leave the node full. */
        insert_above(tree, steps, level, entry, new_inner(tree, child));
        return;
    }

    separator = node->entries[middle];
    right = new_inner(tree, node->children[middle]);
    node_move_tail(node, middle + 1, right, true);
    node->count--; /* the separator goes up */
    extend_prefix(node);
    extend_prefix(right);
    if (slot <= middle)
        node_insert(node, slot, entry, child);
    else
        node_insert(right, slot - middle - 1, entry, child);
    insert_above(tree, steps, level, separator, right);
}

/*
 * Where to cut a full leaf that gets an entry at `slot`. A run of rising keys is cut just behind
 * itself, so that it goes on filling the left part, and at the end of a leaf it moves to a new one:
 * either way sequential keys leave full leaves behind. Everything else is cut in the middle.
 */
static unsigned split_point(const struct memtable_node *leaf, unsigned slot)
{
    bool run = leaf->run != MEMTABLE_NO_RUN && slot == leaf->run + 1u;

    if (slot == leaf->count && (run || leaf->link == NULL))
        return slot;
    if (run && slot >= MEMTABLE_NODE_SLOTS / 4)
        return slot;
    return MEMTABLE_NODE_SLOTS / 2;
}

/* Split a full leaf and put the entry in; returns the leaf that got it. */
static struct memtable_node *split_leaf(struct memtable_tree *tree, struct step *steps,
                                        struct memtable_node *leaf, unsigned slot,
                                        const struct memtable_entry *entry)
{
    unsigned point = split_point(leaf, slot);
    struct memtable_node *right = new_leaf(tree, leaf->link);
    struct memtable_node *target = leaf;

    if (point == leaf->count) {
        leaf->run = MEMTABLE_NO_RUN;
        target = right;
        node_insert(right, 0, entry, NULL);
    } else {
        node_move_tail(leaf, point, right, false);
        extend_prefix(leaf);
        extend_prefix(right);
        if (slot > point) {
            leaf->run = MEMTABLE_NO_RUN;
            target = right;
            slot -= point;
        }
        node_insert(target, slot, entry, NULL);
    }
    leaf->link = right;
    insert_above(tree, steps, tree->height, right->entries[0], right);
    return target;
}

/*
 * Insert into a leaf used not long ago, if the entry surely belongs there and there is room: inodes
 * are numbered in runs, the names of one directory are written together, and the same few inodes
 * change again and again.
 */
static bool insert_by_hint(struct memtable_tree *tree, const struct memtable_entry *entry)
{
    struct slice key = memtable_entry_key(entry);

    for (unsigned i = 0; i < MEMTABLE_TREE_HINTS; i++) {
        struct memtable_node *leaf = tree->hints[i];
        bool exact = false;
        unsigned slot;
        int order;

        if (leaf == NULL)
            return false;
        order = prefix_compare(leaf, key);
        if (order < 0 || (order > 0 && leaf->link != NULL))
            continue;
        slot = order > 0 ? leaf->count : search_fragments(leaf, key, entry->sequence, &exact);
        if (slot == 0 && leaf != tree->first)
            continue;
        /* Behind the last entry: here only if the next leaf begins later. */
        if (slot == leaf->count && leaf->link != NULL &&
            entry_compare(leaf->link->entries[0], key, entry->sequence, 0) <= 0)
            continue;
        if (leaf->count == MEMTABLE_NODE_SLOTS)
            return false;
        invariant(!exact);
        node_insert(leaf, slot, entry, NULL);
        return true;
    }
    return false;
}

static void remember_hint(struct memtable_tree *tree, struct memtable_node *leaf)
{
    for (unsigned i = 0; i < MEMTABLE_TREE_HINTS; i++)
        if (tree->hints[i] == leaf)
            return;
    tree->hints[tree->hint_next] = leaf;
    tree->hint_next = (tree->hint_next + 1) % MEMTABLE_TREE_HINTS;
}

void memtable_tree_insert(struct memtable_tree *tree, const struct memtable_entry *entry)
{
    struct slice key = memtable_entry_key(entry);
    struct step steps[HEIGHT_MAX + 1];
    struct memtable_node *leaf;
    unsigned slot;
    bool exact;

    if (insert_by_hint(tree, entry))
        return;
    if (tree->root == NULL) {
        tree->root = new_leaf(tree, NULL);
        tree->first = tree->root;
    }
    leaf = find_leaf(tree, key, entry->sequence, steps);
    slot = node_search(leaf, key, entry->sequence, &exact);
    invariant(!exact);
    if (leaf->count == MEMTABLE_NODE_SLOTS)
        leaf = split_leaf(tree, steps, leaf, slot, entry);
    else
        node_insert(leaf, slot, entry, NULL);
    remember_hint(tree, leaf);
}

void memtable_tree_free(struct memtable_tree *tree)
{
    memtable_pool_free(&tree->pool);
    *tree = (struct memtable_tree){0};
}
