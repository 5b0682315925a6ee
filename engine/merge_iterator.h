/* SPDX-License-Identifier: Apache-2.0 */
/*
 * merge_iterator.h - one sorted walk over memtables and tables
 *
 * Sources are added newest first; for each key the record of the newest source that has it
 * (highest sequence number) is the candidate, and it is shown unless a range tombstone of any source
 * with a higher sequence number covers it. What is shown depends on the mode:
 *   MERGE_READ:    VALUE and REFERENCE records only.
 *   MERGE_COMPACT: DELETE records too (the caller decides whether they may go); covered records
 *                  are dropped.
 * Threads: belongs to one thread. Holds references to its sources.
 */
#ifndef VARVE_ENGINE_MERGE_ITERATOR_H
#define VARVE_ENGINE_MERGE_ITERATOR_H

#include "engine/memtable.h"
#include "engine/version.h"

enum merge_mode { MERGE_READ, MERGE_COMPACT };

struct merge_iterator;

struct merge_iterator *merge_iterator_new(enum merge_mode mode); /* NULL: out of memory */
void merge_iterator_free(struct merge_iterator *iterator);       /* accepts NULL */

/* Each takes a reference. 0 or -ENOMEM. A level's tables must be disjoint and rise. */
int merge_iterator_add_memtable(struct merge_iterator *iterator, struct memtable *memtable,
                                uint64_t sequence);
int merge_iterator_add_table(struct merge_iterator *iterator, struct version_table *table,
                             bool fill_cache);
int merge_iterator_add_level(struct merge_iterator *iterator, struct version_table *const *tables,
                             size_t count, bool fill_cache);

/* The same without the data blocks that `passed` has bits of for each table (table_iterator_set_passed());
 * it outlives the iterator, and its tombstones count nonetheless. */
int merge_iterator_add_level_without(struct merge_iterator *iterator,
                                     struct version_table *const *tables, size_t count,
                                     bool fill_cache, uint8_t *const *passed);

/* 1: at a record; 0: end; negative: error (a table's, already logged). */
int merge_iterator_seek(struct merge_iterator *iterator, struct slice key);
int merge_iterator_next(struct merge_iterator *iterator);
/* Slices live until the next call on the iterator. */
const struct record *merge_iterator_record(const struct merge_iterator *iterator);

/*
 * All range tombstones of the sources within [start, end) (NULL data: unbounded), merged into
 * disjoint rising fragments, each with its highest sequence number. For flush and compaction.
 */
int merge_iterator_each_tombstone(struct merge_iterator *iterator, struct slice start,
                                  struct slice end, memtable_tombstone_callback *callback,
                                  void *context);

#endif
