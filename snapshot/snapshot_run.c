/* SPDX-License-Identifier: Apache-2.0 */
/*
 * snapshot_run.c - how many snapshots hold one version of a record
 *
 * A record with sequence number v is the newest of its key in exactly the snapshots between its
 * writing and the next writing of the key: a contiguous run of the list. It begins at the first
 * snapshot whose own number is >= v (if that one still has it) and its end is found by bisection,
 * newest first, because most files never change again.
 */
#include "snapshot/snapshot_internal.h"

#define RUN_ATTEMPTS 8

/* Does the i-th snapshot hold the version? 1, 0, or an error. When the list is shorter by now the
 * answer is 0 and the caller sees that it changed. */
static int run_probe(struct snapshot_set *set, size_t index, struct slice key, uint64_t sequence)
{
    struct snapshot *snapshot = NULL;
    struct engine_view *view;
    struct buffer value = {0};
    struct record record;
    int result;

    lock_acquire(&set->list_lock);
    if (index < set->count)
        snapshot = snapshot_ref(set->items[index]);
    lock_release(&set->list_lock);
    if (snapshot == NULL)
        return 0;
    result = snapshot_view_get(snapshot, &view);
    if (result == 0) {
        result = engine_view_get(view, key, &value, &record);
        if (result > 0)
            result = record.sequence == sequence;
        snapshot_view_put(snapshot, view);
        buffer_free(&value);
    }
    snapshot_unref(snapshot);
    return result;
}

/* Index of the first snapshot that could hold it, and how many there are in all. */
static uint64_t run_bounds(struct snapshot_set *set, uint64_t sequence, size_t *ret_first,
                           size_t *ret_count)
{
    size_t low = 0, high;
    uint64_t generation;

    lock_acquire(&set->list_lock);
    high = set->count;
    while (low < high) {
        size_t middle = (low + high) / 2;

        if (set->items[middle]->sequence < sequence)
            low = middle + 1;
        else
            high = middle;
    }
    *ret_first = low;
    *ret_count = set->count;
    generation = set->generation;
    lock_release(&set->list_lock);
    return generation;
}

/* The end (exclusive) of the run that begins at `first`, known to hold the version. */
static int run_end(struct snapshot_set *set, size_t first, size_t count, struct slice key,
                   uint64_t sequence, size_t *ret_end)
{
    size_t low = first + 1, high = count; /* the end lies in [low, high] */
    size_t probe = count - 1;

    while (low < high) {
        int has = run_probe(set, probe, key, sequence);

        if (has < 0)
            return has;
        if (has)
            low = probe + 1;
        else
            high = probe;
        probe = (low + high) / 2;
    }
    *ret_end = low;
    return 0;
}

int snapshot_run(struct snapshot_set *set, struct slice key, uint64_t sequence, uint64_t *ret_count,
                 uint64_t *ret_oldest_id)
{
    for (unsigned attempt = 0;; attempt++) {
        size_t first, count, end = 0;
        uint64_t generation = run_bounds(set, sequence, &first, &count);
        uint64_t oldest = 0;
        bool unchanged;
        int has = first < count ? run_probe(set, first, key, sequence) : 0;

        if (has > 0) {
            int result = run_end(set, first, count, key, sequence, &end);

            has = result < 0 ? result : 1;
        }
        lock_acquire(&set->list_lock);
        unchanged = set->generation == generation;
        if (unchanged && has > 0)
            oldest = set->items[first]->id;
        lock_release(&set->list_lock);
        if (!unchanged && attempt < RUN_ATTEMPTS)
            continue; /* the list moved under the bisection */
        if (has < 0)
            return has;
        *ret_count = has > 0 ? end - first : 0;
        *ret_oldest_id = oldest;
        return 0;
    }
}
