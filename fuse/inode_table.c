/* SPDX-License-Identifier: Apache-2.0 */
/*
 * inode_table.c - sharded open addressing with linear probing
 *
 * A shard's capacity need not be a power of two: it is kept between 1.18 and 2 entries of room for
 * each that is used, which bounds memory at 64 bytes a node, and a removal closes its gap, so that
 * no marks of removed entries lengthen the probes.
 */
#include "fuse/inode_table.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "engine/base/invariant.h"
#include "engine/base/lock.h"

#define SHARDS           64
#define CAPACITY_MIN     16
#define SNAPSHOT_BUCKETS 4096

#define INO_MASK       ((UINT64_C(1) << 38) - 1)
#define SNAPSHOT_SHIFT 38
#define SNAPSHOT_MASK  ((UINT64_C(1) << 24) - 1)
#define ORPHAN         (UINT64_C(1) << 62)
#define WAS_OPEN       (UINT64_C(1) << 63)
#define MARKS          (ORPHAN | WAS_OPEN)
/* Nodes with both bits are made by hashing where they are. */
#define IN_ONE_PLACE (UINT64_C(3) << 62)

struct entry {
    uint64_t node;  /* 0: free */
    uint64_t where; /* ino, snapshot id, MARKS */
    uint64_t lookups;
    uint32_t open;
    uint32_t open_writable;
};
static_assert(sizeof(struct entry) == 32, "an entry is compact");

struct shard {
    struct lock lock;
    struct entry *entries;
    uint32_t capacity, count;
    uint32_t open_files, open_writable; /* nodes, not handles */
    uint32_t orphans;
};

struct inode_table {
    struct shard shards[SHARDS];
    uint32_t held[SNAPSHOT_BUCKETS]; /* atomic: entries by snapshot id */
};

/* The finaliser of splitmix64: neighbouring nodes end far apart. */
static uint64_t hash_node(uint64_t node)
{
    node ^= node >> 30;
    node *= UINT64_C(0xBF58476D1CE4E5B9);
    node ^= node >> 27;
    node *= UINT64_C(0x94D049BB133111EB);
    return node ^ (node >> 31);
}

static struct shard *shard_of(struct inode_table *table, uint64_t node)
{
    return &table->shards[hash_node(node) % SHARDS];
}

static uint32_t ideal_slot(uint64_t node, uint32_t capacity)
{
    return (uint32_t)(((hash_node(node) >> 32) * capacity) >> 32);
}

struct inode_table *inode_table_new(void)
{
    struct inode_table *table = calloc(1, sizeof *table);

    if (table == NULL)
        return NULL;
    for (unsigned i = 0; i < SHARDS; i++)
        lock_init(&table->shards[i].lock, LOCK_RANK_FS_TABLE);
    return table;
}

void inode_table_free(struct inode_table *table)
{
    if (table == NULL)
        return;
    for (unsigned i = 0; i < SHARDS; i++) {
        free(table->shards[i].entries);
        lock_destroy(&table->shards[i].lock);
    }
    free(table);
}

/* ---- one shard, under its lock ---- */

/* The node's entry, or the free one where it would go; NULL only for an empty shard. */
static struct entry *probe(const struct shard *shard, uint64_t node)
{
    uint32_t slot;

    if (shard->capacity == 0)
        return NULL;
    slot = ideal_slot(node, shard->capacity);
    while (shard->entries[slot].node != 0 && shard->entries[slot].node != node)
        slot = slot + 1 == shard->capacity ? 0 : slot + 1;
    return &shard->entries[slot];
}

static struct entry *find(const struct shard *shard, uint64_t node)
{
    struct entry *entry = probe(shard, node);

    return entry != NULL && entry->node == node ? entry : NULL;
}

static int resize(struct shard *shard, uint32_t capacity)
{
    struct entry *before = shard->entries;
    uint32_t capacity_before = shard->capacity;
    struct entry *entries = calloc(capacity, sizeof *entries);

    if (entries == NULL)
        return -ENOMEM;
    shard->entries = entries;
    shard->capacity = capacity;
    for (uint32_t i = 0; i < capacity_before; i++)
        if (before[i].node != 0)
            *probe(shard, before[i].node) = before[i];
    free(before);
    return 0;
}

/* Room for `count` at three fifths full. */
static uint32_t capacity_for(uint32_t count)
{
    uint64_t capacity = (uint64_t)count * 5 / 3;

    if (capacity < CAPACITY_MIN)
        return CAPACITY_MIN;
    return capacity > UINT32_MAX ? UINT32_MAX : (uint32_t)capacity;
}

static int make_room(struct shard *shard)
{
    int error;

    if ((uint64_t)(shard->count + 1) * 20 <= (uint64_t)shard->capacity * 17)
        return 0;
    error = resize(shard, capacity_for(shard->count + 1));
    /* Out of memory is borne for as long as probes still find a free slot. */
    return shard->count + 1 < shard->capacity ? 0 : error;
}

static struct entry *find_or_insert(struct shard *shard, uint64_t node)
{
    struct entry *entry = find(shard, node);

    invariant(node != 0);
    if (entry != NULL)
        return entry;
    if (make_room(shard) < 0)
        return NULL;
    entry = probe(shard, node);
    *entry = (struct entry){.node = node};
    shard->count++;
    return entry;
}

/* Move back whatever the gap would hide from its probes. */
static void close_gap(struct shard *shard, uint32_t gap)
{
    uint32_t slot = gap;

    for (;;) {
        uint32_t ideal;

        slot = slot + 1 == shard->capacity ? 0 : slot + 1;
        if (shard->entries[slot].node == 0)
            break;
        ideal = ideal_slot(shard->entries[slot].node, shard->capacity);
        /* It stays when its ideal slot lies, going round, after the gap and not after itself. */
        if (gap <= slot ? gap < ideal && ideal <= slot : gap < ideal || ideal <= slot)
            continue;
        shard->entries[gap] = shard->entries[slot];
        gap = slot;
    }
    shard->entries[gap] = (struct entry){0};
}

static uint64_t snapshot_of(const struct entry *entry)
{
    return (entry->where >> SNAPSHOT_SHIFT) & SNAPSHOT_MASK;
}

static void count_held(struct inode_table *table, uint64_t snapshot_id, uint32_t change)
{
    if (snapshot_id != 0)
        __atomic_fetch_add(&table->held[snapshot_id % SNAPSHOT_BUCKETS], change, __ATOMIC_RELAXED);
}

/* Remove an entry that nothing holds; true when it was an orphan. */
static bool remove_unheld(struct inode_table *table, struct shard *shard, struct entry *entry)
{
    bool orphan = (entry->where & ORPHAN) != 0;

    if (entry->lookups > 0 || entry->open > 0)
        return false;
    count_held(table, snapshot_of(entry), (uint32_t)-1);
    if (orphan)
        shard->orphans--;
    close_gap(shard, (uint32_t)(entry - shard->entries));
    shard->count--;
    if (shard->capacity > CAPACITY_MIN && shard->count < shard->capacity / 2)
        (void)resize(shard, capacity_for(shard->count)); /* a table too large is not an error */
    return orphan;
}

/* ---- the table ---- */

int inode_table_lookup(struct inode_table *table, uint64_t node, uint64_t ino, uint64_t snapshot_id)
{
    struct shard *shard = shard_of(table, node);
    struct entry *entry;
    int error = 0;

    invariant(ino <= INO_MASK && snapshot_id <= SNAPSHOT_MASK);
    lock_acquire(&shard->lock);
    entry = find_or_insert(shard, node);
    if (entry == NULL) {
        error = -ENOMEM;
    } else if ((node & IN_ONE_PLACE) == IN_ONE_PLACE && snapshot_of(entry) != 0 &&
               (entry->where & ~MARKS) != (snapshot_id << SNAPSHOT_SHIFT | ino)) {
        error = -ESTALE;
    } else {
        entry->lookups++;
        if (snapshot_id > snapshot_of(entry)) {
            count_held(table, snapshot_of(entry), (uint32_t)-1);
            count_held(table, snapshot_id, 1);
            entry->where = (entry->where & MARKS) | snapshot_id << SNAPSHOT_SHIFT | ino;
        }
    }
    lock_release(&shard->lock);
    return error;
}

bool inode_table_forget(struct inode_table *table, uint64_t node, uint64_t lookups)
{
    struct shard *shard = shard_of(table, node);
    bool reap = false;
    struct entry *entry;

    lock_acquire(&shard->lock);
    entry = find(shard, node);
    if (entry != NULL) {
        entry->lookups -= lookups < entry->lookups ? lookups : entry->lookups;
        reap = remove_unheld(table, shard, entry);
    }
    lock_release(&shard->lock);
    return reap;
}

bool inode_table_find(struct inode_table *table, uint64_t node, uint64_t *ret_ino,
                      uint64_t *ret_snapshot_id)
{
    struct shard *shard = shard_of(table, node);
    struct entry *entry;

    lock_acquire(&shard->lock);
    entry = find(shard, node);
    if (entry != NULL) {
        *ret_ino = entry->where & INO_MASK;
        *ret_snapshot_id = snapshot_of(entry);
    }
    lock_release(&shard->lock);
    return entry != NULL;
}

bool inode_table_mark_orphan(struct inode_table *table, uint64_t node)
{
    struct shard *shard = shard_of(table, node);
    struct entry *entry;

    lock_acquire(&shard->lock);
    entry = find(shard, node);
    if (entry != NULL && (entry->where & ORPHAN) == 0) {
        entry->where |= ORPHAN;
        shard->orphans++;
    }
    lock_release(&shard->lock);
    return entry == NULL;
}

void inode_table_unmark_orphan(struct inode_table *table, uint64_t node)
{
    struct shard *shard = shard_of(table, node);
    struct entry *entry;

    lock_acquire(&shard->lock);
    entry = find(shard, node);
    if (entry != NULL && (entry->where & ORPHAN) != 0) {
        entry->where &= ~ORPHAN;
        shard->orphans--;
    }
    lock_release(&shard->lock);
}

int inode_table_open(struct inode_table *table, uint64_t node, bool writable)
{
    struct shard *shard = shard_of(table, node);
    struct entry *entry;
    int result = -ENOMEM;

    lock_acquire(&shard->lock);
    entry = find_or_insert(shard, node);
    if (entry != NULL) {
        result = (entry->where & WAS_OPEN) == 0;
        entry->where |= WAS_OPEN;
        if (entry->open++ == 0)
            shard->open_files++;
        if (writable && entry->open_writable++ == 0)
            shard->open_writable++;
    }
    lock_release(&shard->lock);
    return result;
}

bool inode_table_release(struct inode_table *table, uint64_t node, bool writable)
{
    struct shard *shard = shard_of(table, node);
    bool reap = false;
    struct entry *entry;

    lock_acquire(&shard->lock);
    entry = find(shard, node);
    if (entry != NULL && entry->open > 0) {
        if (--entry->open == 0)
            shard->open_files--;
        if (writable && entry->open_writable > 0 && --entry->open_writable == 0)
            shard->open_writable--;
        reap = remove_unheld(table, shard, entry);
    }
    lock_release(&shard->lock);
    return reap;
}

size_t inode_table_writable(struct inode_table *table, uint64_t *nodes, size_t room)
{
    size_t count = 0;

    for (unsigned i = 0; i < SHARDS; i++) {
        struct shard *shard = &table->shards[i];
        uint32_t left;

        lock_acquire(&shard->lock);
        left = shard->open_writable;
        for (uint32_t slot = 0; left > 0 && slot < shard->capacity; slot++) {
            if (shard->entries[slot].open_writable == 0)
                continue;
            if (count < room)
                nodes[count] = shard->entries[slot].node;
            count++;
            left--;
        }
        lock_release(&shard->lock);
    }
    return count;
}

uint32_t inode_table_held(struct inode_table *table, uint64_t snapshot_id)
{
    return __atomic_load_n(&table->held[snapshot_id % SNAPSHOT_BUCKETS], __ATOMIC_RELAXED);
}

/* Copy a shard's matching nodes: the count, or more than `room` when they do not fit. */
static size_t copy_matching(struct shard *shard, uint64_t mask, uint64_t value, uint64_t *nodes,
                            size_t room)
{
    size_t count = 0;

    lock_acquire(&shard->lock);
    for (uint32_t slot = 0; slot < shard->capacity; slot++) {
        uint64_t node = shard->entries[slot].node;

        if (node == 0 || (node & mask) != value)
            continue;
        if (count < room)
            nodes[count] = node;
        count++;
    }
    lock_release(&shard->lock);
    return count;
}

void inode_table_each(struct inode_table *table, uint64_t mask, uint64_t value,
                      void (*callback)(void *, uint64_t node), void *context)
{
    uint64_t few[256];
    uint64_t *nodes = few;
    size_t room = sizeof few / sizeof few[0];

    for (unsigned i = 0; i < SHARDS; i++) {
        size_t count = copy_matching(&table->shards[i], mask, value, nodes, room);

        while (count > room) {
            uint64_t *more = malloc(2 * count * sizeof *more);

            if (more == NULL) {
                count = room;
                break;
            }
            if (nodes != few)
                free(nodes);
            nodes = more;
            room = 2 * count;
            count = copy_matching(&table->shards[i], mask, value, nodes, room);
        }
        for (size_t n = 0; n < count; n++)
            callback(context, nodes[n]);
    }
    if (nodes != few)
        free(nodes);
}

void inode_table_each_version(struct inode_table *table, void (*callback)(void *, uint64_t node),
                              void *context)
{
    inode_table_each(table, UINT64_C(3) << 62, UINT64_C(1) << 63, callback, context);
}

void inode_table_get_counts(struct inode_table *table, struct inode_table_counts *ret)
{
    struct inode_table_counts counts = {.memory_bytes = sizeof *table};

    for (unsigned i = 0; i < SHARDS; i++) {
        struct shard *shard = &table->shards[i];

        lock_acquire(&shard->lock);
        counts.nodes += shard->count;
        counts.open_files += shard->open_files;
        counts.open_writable += shard->open_writable;
        counts.orphans += shard->orphans;
        counts.memory_bytes += shard->capacity * sizeof(struct entry);
        lock_release(&shard->lock);
    }
    *ret = counts;
}
