/* SPDX-License-Identifier: Apache-2.0 */
/*
 * version.c - immutable sets of tables
 */
#include "engine/version.h"

#include <errno.h>
#include <stdlib.h>

#include "engine/base/error.h"
#include "engine/base/invariant.h"

/* ---- tables ---- */

struct version_table *version_table_new(const struct version_source *source, uint32_t level,
                                        uint64_t order, struct table_meta *meta)
{
    struct version_table *table = calloc(1, sizeof *table);

    invariant(level < VERSION_LEVELS);
    if (!table)
        return NULL;
    atomic_init(&table->references, 1);
    table->level = level;
    table->order = order;
    table->meta = *meta;
    table->source = source;
    lock_init(&table->lock, LOCK_RANK_TABLE_CACHE);
    atomic_init(&table->reader, NULL);
    atomic_init(&table->busy, false);
    memset(meta, 0, sizeof *meta);
    return table;
}

struct version_table *version_table_ref(struct version_table *table)
{
    atomic_fetch_add_explicit(&table->references, 1, memory_order_relaxed);
    return table;
}

void version_table_unref(struct version_table *table)
{
    unsigned before;

    if (table == NULL)
        return;
    before = atomic_fetch_sub_explicit(&table->references, 1, memory_order_acq_rel);

    invariant(before > 0);
    if (before > 1)
        return;
    table_reader_unref(atomic_load_explicit(&table->reader, memory_order_relaxed));
    table_meta_free(&table->meta);
    lock_destroy(&table->lock);
    free(table);
}

int version_table_reader(struct version_table *table, struct table_reader **ret_reader)
{
    struct table_reader *reader = atomic_load_explicit(&table->reader, memory_order_acquire);
    const struct version_source *source = table->source;
    int error = 0;

    if (!reader) {
        lock_acquire(&table->lock);
        reader = atomic_load_explicit(&table->reader, memory_order_relaxed);
        if (!reader) {
            error = table_reader_open(source->io, source->chunk_directory, &table->meta.identity,
                                      source->store_uuid, source->cache, &reader);
            if (error == 0)
                atomic_store_explicit(&table->reader, reader, memory_order_release);
        }
        lock_release(&table->lock);
    }
    if (error == 0)
        *ret_reader = reader;
    return error;
}

static struct slice smallest(const struct version_table *table)
{
    return buffer_slice(&table->meta.smallest);
}

static struct slice largest(const struct version_table *table)
{
    return buffer_slice(&table->meta.largest);
}

/* ---- versions ---- */

struct version *version_ref(struct version *version)
{
    atomic_fetch_add_explicit(&version->references, 1, memory_order_relaxed);
    return version;
}

void version_unref(struct version *version)
{
    unsigned before;

    if (!version)
        return;
    before = atomic_fetch_sub_explicit(&version->references, 1, memory_order_acq_rel);
    invariant(before > 0);
    if (before > 1)
        return;
    for (size_t level = 0; level < VERSION_LEVELS; level++) {
        for (size_t i = 0; i < version->counts[level]; i++)
            version_table_unref(version->levels[level][i]);
        free(version->levels[level]);
    }
    free(version->blobs);
    free(version);
}

static int compare_ids(const void *a, const void *b)
{
    uint64_t left = *(const uint64_t *)a, right = *(const uint64_t *)b;

    return left < right ? -1 : left > right;
}

/* L0: newest first. */
static int compare_orders(const void *a, const void *b)
{
    const struct version_table *left = *(struct version_table *const *)a;
    const struct version_table *right = *(struct version_table *const *)b;

    return left->order > right->order ? -1 : left->order < right->order;
}

/* Other levels: rising. A table that ends, exclusively, where the next one begins comes first, also
 * when that next one begins and ends in this one key. */
static int compare_ranges(const void *a, const void *b)
{
    const struct version_table *left = *(struct version_table *const *)a;
    const struct version_table *right = *(struct version_table *const *)b;
    int order = slice_compare(smallest(left), smallest(right));

    return order != 0 ? order : slice_compare(largest(left), largest(right));
}

/* What changed in how much of a chunk is referred to. */
struct blob_change {
    uint64_t chunk_id;
    uint64_t references, bytes; /* differences, modulo 2^64 */
};

struct blob_changes {
    struct blob_change *items;
    size_t count;
};

static void add_changes(struct blob_changes *changes, const struct table_meta *meta, bool added)
{
    for (size_t i = 0; i < meta->use_count; i++) {
        const struct table_blob_use *use = &meta->uses[i];

        changes->items[changes->count++] = (struct blob_change){
            .chunk_id = use->chunk_id,
            .references = added ? use->references : 0 - use->references,
            .bytes = added ? use->bytes : 0 - use->bytes,
        };
    }
}

static int compare_changes(const void *a, const void *b)
{
    const struct blob_change *left = a, *right = b;

    return left->chunk_id < right->chunk_id ? -1 : left->chunk_id > right->chunk_id;
}

/* blobs of `version` = blobs of `base` with the (sorted) changes applied. */
static int build_blobs(struct version *version, const struct version *base,
                       const struct blob_changes *changes)
{
    size_t base_count = base ? base->blob_count : 0;
    size_t from_base = 0, from_changes = 0;

    version->blobs = malloc((base_count + changes->count + 1) * sizeof *version->blobs);
    if (!version->blobs)
        return -ENOMEM;
    while (from_base < base_count || from_changes < changes->count) {
        struct version_blob blob = {0};

        blob.chunk_id = from_base < base_count ? base->blobs[from_base].chunk_id : UINT64_MAX;
        if (from_changes < changes->count && changes->items[from_changes].chunk_id < blob.chunk_id)
            blob.chunk_id = changes->items[from_changes].chunk_id;
        if (from_base < base_count && base->blobs[from_base].chunk_id == blob.chunk_id)
            blob = base->blobs[from_base++];
        while (from_changes < changes->count &&
               changes->items[from_changes].chunk_id == blob.chunk_id) {
            blob.references += changes->items[from_changes].references;
            blob.bytes += changes->items[from_changes].bytes;
            from_changes++;
        }
        /* What a table brought in, it takes away: nothing is left without references. */
        invariant((int64_t)blob.references >= 0 && (int64_t)blob.bytes >= 0);
        invariant(blob.references > 0 || blob.bytes == 0);
        if (blob.references > 0)
            version->blobs[version->blob_count++] = blob;
    }
    return 0;
}

/* Append a referenced table to its level; there is room. */
static void put_table(struct version *version, struct version_table *table)
{
    uint32_t level = table->level;

    version->levels[level][version->counts[level]++] = version_table_ref(table);
    version->level_bytes[level] += table->meta.identity.file_size_bytes;
}

static int allocate_levels(struct version *version, const struct version *base,
                           struct version_table *const *add, size_t add_count)
{
    size_t room[VERSION_LEVELS] = {0};

    for (size_t i = 0; i < add_count; i++)
        room[add[i]->level]++;
    for (size_t level = 0; level < VERSION_LEVELS; level++) {
        room[level] += base ? base->counts[level] : 0;
        if (room[level] == 0)
            continue;
        version->levels[level] = malloc(room[level] * sizeof(struct version_table *));
        if (!version->levels[level])
            return -ENOMEM;
    }
    return 0;
}

/* The tables of `base` that stay, and the changes that those which go make. `remove` is sorted. */
static void carry_over(struct version *version, const struct version *base, const uint64_t *remove,
                       size_t remove_count, struct blob_changes *changes)
{
    size_t removed = 0;

    for (size_t level = 0; base && level < VERSION_LEVELS; level++) {
        for (size_t i = 0; i < base->counts[level]; i++) {
            struct version_table *table = base->levels[level][i];

            if (remove_count > 0 && bsearch(&table->meta.identity.id, remove, remove_count,
                                            sizeof *remove, compare_ids)) {
                add_changes(changes, &table->meta, false);
                removed++;
            } else {
                put_table(version, table);
            }
        }
    }
    invariant(removed == remove_count);
}

static void sort_and_check(struct version *version)
{
    struct version_table **newest = version->levels[0];

    if (version->counts[0] > 1)
        qsort(newest, version->counts[0], sizeof(struct version_table *), compare_orders);
    for (size_t i = 1; i < version->counts[0]; i++)
        invariant(newest[i - 1]->order > newest[i]->order);
    for (size_t level = 1; level < VERSION_LEVELS; level++) {
        struct version_table **tables = version->levels[level];

        if (version->counts[level] > 1)
            qsort(tables, version->counts[level], sizeof(struct version_table *), compare_ranges);
        /* Equal bounds are legal: a tombstone's end is exclusive. */
        for (size_t i = 1; i < version->counts[level]; i++)
            invariant(slice_compare(largest(tables[i - 1]), smallest(tables[i])) <= 0);
    }
}

/* An upper bound of the number of changes: uses of the added tables, and of those removed. */
static size_t count_changes(const struct version *base, size_t remove_count,
                            struct version_table *const *add, size_t add_count)
{
    size_t count = 0;

    for (size_t i = 0; i < add_count; i++)
        count += add[i]->meta.use_count;
    for (size_t level = 0; remove_count > 0 && base && level < VERSION_LEVELS; level++)
        for (size_t i = 0; i < base->counts[level]; i++)
            count += base->levels[level][i]->meta.use_count;
    return count;
}

static int build(struct version *version, const struct version *base, const uint64_t *remove,
                 size_t remove_count, struct version_table *const *add, size_t add_count)
{
    struct blob_changes changes = {0};
    int error = allocate_levels(version, base, add, add_count);

    if (error < 0)
        return error;
    changes.items =
        malloc((count_changes(base, remove_count, add, add_count) + 1) * sizeof *changes.items);
    if (!changes.items)
        return -ENOMEM;
    carry_over(version, base, remove, remove_count, &changes);
    for (size_t i = 0; i < add_count; i++) {
        put_table(version, add[i]);
        add_changes(&changes, &add[i]->meta, true);
    }
    qsort(changes.items, changes.count, sizeof *changes.items, compare_changes);
    error = build_blobs(version, base, &changes);
    free(changes.items);
    if (error == 0)
        sort_and_check(version);
    return error;
}

int version_build(const struct version *base, const uint64_t *remove, size_t remove_count,
                  struct version_table *const *add, size_t add_count, struct version **ret_version)
{
    struct version *version = calloc(1, sizeof *version);
    uint64_t *sorted = malloc((remove_count + 1) * sizeof *sorted);
    int error = -ENOMEM;

    if (version)
        atomic_init(&version->references, 1);
    if (version && sorted) {
        if (remove_count > 0) {
            memcpy(sorted, remove, remove_count * sizeof *sorted);
            qsort(sorted, remove_count, sizeof *sorted, compare_ids);
        }
        error = build(version, base, sorted, remove_count, add, add_count);
    }
    free(sorted);
    if (error < 0) {
        version_unref(version);
        return error;
    }
    *ret_version = version;
    return 0;
}

size_t version_table_find_use(const struct version_table *table, const uint64_t *chunks,
                              size_t count)
{
    size_t use = 0, chunk = 0;

    while (use < table->meta.use_count && chunk < count) {
        uint64_t id = table->meta.uses[use].chunk_id;

        if (id == chunks[chunk])
            return chunk;
        if (id < chunks[chunk])
            use++;
        else
            chunk++;
    }
    return count;
}

const struct version_blob *version_find_blob(const struct version *version, uint64_t chunk_id)
{
    size_t low = 0, high = version->blob_count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (version->blobs[middle].chunk_id < chunk_id)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == version->blob_count || version->blobs[low].chunk_id != chunk_id)
        return NULL;
    return &version->blobs[low];
}

size_t version_find_table(const struct version *version, uint32_t level, struct slice key)
{
    struct version_table *const *tables = version->levels[level];
    size_t low = 0, high = version->counts[level];

    invariant(level >= 1 && level < VERSION_LEVELS);
    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (slice_compare(largest(tables[middle]), key) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* ---- reading ---- */

/*
 * Ask one table whose range holds `key`. 1: the record; 0: it is not there; negative: error.
 * *tombstone rises to the table's.
 */
static int get_from_table(struct version_table *table, struct slice key, struct buffer *value,
                          struct record *record, uint64_t *tombstone)
{
    struct table_reader *reader;
    uint64_t covering;
    int error = version_table_reader(table, &reader);

    if (error < 0)
        return error;
    covering = table_reader_tombstone(reader, key);
    if (covering > *tombstone)
        *tombstone = covering;
    return table_reader_get(reader, key, value, record);
}

/*
 * One level below L0. Its ranges are disjoint but for shared bounds: `key` may be the exclusive end
 * of one table and the first key of the next.
 */
static int get_from_level(const struct version *version, uint32_t level, struct slice key,
                          struct buffer *value, struct record *record, uint64_t *tombstone)
{
    size_t i = version_find_table(version, level, key);

    for (; i < version->counts[level]; i++) {
        struct version_table *table = version->levels[level][i];
        int result;

        if (slice_compare(smallest(table), key) > 0)
            break;
        result = get_from_table(table, key, value, record, tombstone);
        if (result != 0)
            return result;
    }
    return 0;
}

int version_get(struct version *version, struct slice key, struct buffer *value,
                struct record *ret_record, uint64_t *ret_tombstone)
{
    uint64_t tombstone = 0;
    struct record record;
    int result = 0;

    /* What is found first is newest; a tombstone makes everything further down irrelevant. */
    for (size_t i = 0; result == 0 && tombstone == 0 && i < version->counts[0]; i++) {
        struct version_table *table = version->levels[0][i];

        if (slice_compare(smallest(table), key) <= 0 && slice_compare(key, largest(table)) <= 0)
            result = get_from_table(table, key, value, &record, &tombstone);
    }
    for (uint32_t level = 1; result == 0 && tombstone == 0 && level < VERSION_LEVELS; level++)
        result = get_from_level(version, level, key, value, &record, &tombstone);
    if (result < 0)
        return result;
    if (result == 1)
        *ret_record = record;
    *ret_tombstone = tombstone;
    return result;
}
