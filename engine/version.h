/* SPDX-License-Identifier: Apache-2.0 */
/*
 * version.h - an immutable set of tables by level, and what they refer to
 *
 * A version is never changed after version_build(): a flush or a compaction makes a new one that
 * shares the table objects. Readers pin a version; the last reference lets the tables go.
 *
 * Invariants: L0 is sorted newest first (order descending); in every other level the key ranges are
 *             disjoint and rise. Of two tables that can hold one key, the one in the lower level
 *             (L0: the higher order) is newer. blobs = union of the tables' uses, with sums.
 * Threads:    immutable; reference counts are atomic. A table opens its reader at first use.
 */
#ifndef VARVE_ENGINE_VERSION_H
#define VARVE_ENGINE_VERSION_H

#include <stdatomic.h>

#include "engine/base/lock.h"
#include "engine/manifest.h"
#include "engine/table.h"

#define VERSION_LEVELS 7

/* Where tables of a version are opened from. Outlives all its versions. */
struct version_source {
    struct io *io;
    struct io_file *chunk_directory;
    const uint8_t *store_uuid; /* that the tables have; NULL: any */
    struct block_cache *cache;
};

/* One table, shared by versions. */
struct version_table {
    atomic_uint references;
    uint32_t level;
    uint64_t order;
    struct table_meta meta;
    const struct version_source *source;
    struct lock lock; /* LOCK_RANK_TABLE_CACHE: guards the first opening of reader */
    struct table_reader *_Atomic reader;
    atomic_bool busy; /* input of a running compaction; engine's install lock */
};

struct version_blob {
    uint64_t chunk_id;
    uint64_t references;
    uint64_t bytes;
};

struct version {
    atomic_uint references;
    struct version_table **levels[VERSION_LEVELS];
    size_t counts[VERSION_LEVELS];
    uint64_t level_bytes[VERSION_LEVELS];
    struct version_blob *blobs; /* sorted by chunk id */
    size_t blob_count;
};

/* Takes the meta over (zeroes *meta). NULL: out of memory. */
struct version_table *version_table_new(const struct version_source *source, uint32_t level,
                                        uint64_t order, struct table_meta *meta);
struct version_table *version_table_ref(struct version_table *table);
void version_table_unref(struct version_table *table); /* accepts NULL */

/* The table's reader, opened if need be; borrowed for as long as the table is referenced. */
int version_table_reader(struct version_table *table, struct table_reader **ret_reader);

/* Index of the first of the (sorted) blob chunks that the table refers to, or `count`. */
size_t version_table_find_use(const struct version_table *table, const uint64_t *chunks,
                              size_t count);

struct version *version_ref(struct version *version);
void version_unref(struct version *version); /* accepts NULL */

/*
 * A new version: `base` (NULL: empty) without the tables whose chunk id is in `remove`, with `add`
 * (referenced again here). Asserts the invariants. 0 or -ENOMEM.
 */
int version_build(const struct version *base, const uint64_t *remove, size_t remove_count,
                  struct version_table *const *add, size_t add_count,
                  struct version **ret_version);

const struct version_blob *version_find_blob(const struct version *version, uint64_t chunk_id);

/* Index in `level` (>= 1) of the first table whose largest key is >= `key`; count when none. */
size_t version_find_table(const struct version *version, uint32_t level, struct slice key);

/*
 * The newest record of `key` in the tables. As memtable_get(): 1 / 0 / negative; *ret_tombstone is
 * the highest tombstone number seen that covers the key (in tables at least as new as the record).
 * The value is copied into *value.
 */
int version_get(struct version *version, struct slice key, struct buffer *value,
                struct record *ret_record, uint64_t *ret_tombstone);

#endif
