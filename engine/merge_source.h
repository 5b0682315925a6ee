/* SPDX-License-Identifier: Apache-2.0 */
/*
 * merge_source.h - one input of a merge: a memtable, or disjoint tables in rising order
 *
 * For merge_iterator.c alone. A single table is a run of one. Of a run one table at a time is open,
 * and none before its turn: a source whose next table begins behind the key that was sought
 * promises that table's smallest key, and reads nothing until the merge comes to it
 * (merge_source_settle).
 *
 * Tombstones are asked for by key and answered with how far the answer reaches, so that walking
 * over records costs one comparison as long as no fragment begins or ends.
 */
#ifndef VARVE_ENGINE_MERGE_SOURCE_H
#define VARVE_ENGINE_MERGE_SOURCE_H

#include "engine/memtable.h"
#include "engine/version.h"

struct merge_source {
    /* NULL: at the end. Lives until the source moves. */
    const struct record *record;
    bool promised; /* record is a bound: its key is at or before the next one */

    struct memtable_iterator memtable; /* .memtable NULL: tables */

    struct version_table **tables;
    size_t table_count;
    size_t table;                    /* the present one */
    struct table_iterator *iterator; /* of tables[iterator_table] */
    size_t iterator_table;
    bool fill_cache;
    uint8_t *const *passed; /* of each table the blocks to pass over, or NULL; borrowed */
    struct record promise;
};

/* Both take references and leave a source that merge_source_free() accepts. 0 or -ENOMEM. */
void merge_source_init_memtable(struct merge_source *source, struct memtable *memtable,
                                uint64_t sequence);
int merge_source_init_tables(struct merge_source *source, struct version_table *const *tables,
                             size_t count, bool fill_cache);
void merge_source_free(struct merge_source *source);

/* Each returns 0 with source->record set, or a negative error (logged). */
int merge_source_seek(struct merge_source *source, struct slice key);
int merge_source_next(struct merge_source *source);   /* not while promised */
int merge_source_settle(struct merge_source *source); /* only while promised */

/*
 * The highest number of a tombstone over `key`, or 0, and where that answer ends: it holds in
 * [key, *ret_end) (NULL data: to the end; an end at or before the key: for this key alone). The
 * slice lives as long as the source. 0 or a negative error (logged).
 */
int merge_source_tombstone(struct merge_source *source, struct slice key, uint64_t *ret_sequence,
                           struct slice *ret_end);

#endif
