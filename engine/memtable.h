/* SPDX-License-Identifier: Apache-2.0 */
/*
 * memtable.h - the newest records, sorted, in memory
 *
 * A B+tree over (key ascending, sequence descending) whose entries lie in an arena, and a map of
 * range tombstones cut into disjoint fragments, each with its sequence numbers newest first.
 * Entries never move and are never freed before the memtable is: slices handed out live as long as
 * the caller's reference to the memtable.
 *
 * Guarantees: every version that was inserted stays readable at its sequence number.
 * Threads:    memtable_apply() by one thread at a time (the engine's write lock); readers at any
 *             time, also during an apply, which they see wholly or not at all only by passing a
 *             sequence number that was published before it.
 * Locks:      memtable.lock (LOCK_RANK_MEMTABLE), shared by readers; no I/O under it.
 * Lifetime:   reference-counted; memtable_unref() by the last holder frees.
 */
#ifndef VARVE_ENGINE_MEMTABLE_H
#define VARVE_ENGINE_MEMTABLE_H

#include "engine/record.h"

struct memtable;

/* NULL when out of memory; one reference. `first_sequence` is the lowest it can contain. */
struct memtable *memtable_new(uint64_t first_sequence);
struct memtable *memtable_ref(struct memtable *memtable);
void memtable_unref(struct memtable *memtable); /* accepts NULL */

/*
 * Insert the records of an encoded batch (batch.h) with rising sequence numbers from
 * `first_sequence`, which must be above all it holds. 0, ERROR_CORRUPT (nothing inserted), or
 * -ENOMEM (nothing inserted: memory is reserved before the first insertion).
 */
int memtable_apply(struct memtable *memtable, struct slice batch_bytes, uint64_t first_sequence);

/*
 * The newest record of `key` with a sequence number <= `sequence`. Returns 1 and the record (kind
 * VALUE, REFERENCE or DELETE), or 0 when there is none. *ret_tombstone is the highest sequence
 * number
 * <= `sequence` of a range tombstone that covers the key, or 0; it is set in both cases. The caller
 * compares the two: a record at or below the tombstone's number is gone.
 */
int memtable_get(struct memtable *memtable, struct slice key, uint64_t sequence,
                 struct record *ret_record, uint64_t *ret_tombstone);

/* As memtable_get's ret_tombstone alone. */
uint64_t memtable_tombstone(struct memtable *memtable, struct slice key, uint64_t sequence);

/*
 * As memtable_tombstone(), and through *ret_end how far the answer reaches: it holds for every key
 * in [key, *ret_end), NULL data meaning to the end. `key` may be empty: before the first key.
 */
uint64_t memtable_tombstone_span(struct memtable *memtable, struct slice key, uint64_t sequence,
                                 struct slice *ret_end);

size_t memtable_size_bytes(const struct memtable *memtable); /* memory in use; relaxed read */
uint64_t memtable_count(const struct memtable *memtable);    /* records and range tombstones */
uint64_t memtable_first_sequence(const struct memtable *memtable);
uint64_t memtable_last_sequence(const struct memtable *memtable); /* first - 1 when empty */

/* True when some record refers to the blob chunk. */
bool memtable_refers_to(struct memtable *memtable, uint64_t chunk_id);

/* Call back once for each blob chunk that records of the memtable refer to. */
void memtable_each_chunk(struct memtable *memtable, void (*callback)(void *, uint64_t chunk_id),
                         void *context);

/*
 * Point records in key order at one sequence number: for each key the newest record <= `sequence`
 * (DELETE records included; range tombstones are not applied here). Inserts by others during the
 * walk are allowed and, being newer, invisible. Holds no lock between calls; the caller holds a
 * reference to the memtable.
 */
#define MEMTABLE_ITERATOR_AHEAD 16

struct memtable_iterator {
    struct memtable *memtable;
    uint64_t sequence;
    struct record record; /* valid after a call that returned true */
    /* The rest is private: entries found under one hold of the lock, and where the last one lies.
     */
    const void *ahead[MEMTABLE_ITERATOR_AHEAD];
    uint32_t ahead_count, ahead_next, ahead_wanted;
    uint32_t slot;
    const void *leaf;
};

void memtable_iterator_init(struct memtable_iterator *iterator, struct memtable *memtable,
                            uint64_t sequence);
/* To the first key >= `key`; false at the end. */
bool memtable_iterator_seek(struct memtable_iterator *iterator, struct slice key);
bool memtable_iterator_next(struct memtable_iterator *iterator);

/*
 * Call back for each range tombstone fragment [start, end) with its newest sequence number <=
 * `sequence`, in key order, fragments disjoint (for flush). Only on a memtable that is no longer
 * written. Stops at the first non-zero return, which it returns.
 */
typedef int memtable_tombstone_callback(void *context, struct slice start, struct slice end,
                                        uint64_t sequence);
int memtable_each_tombstone(struct memtable *memtable, uint64_t sequence,
                            memtable_tombstone_callback *callback, void *context);

#endif
