/* SPDX-License-Identifier: Apache-2.0 */
/*
 * snapshot_run.c - how many snapshots hold one version of a record
 *
 * A record with sequence number v is the newest of its key in exactly the snapshots between its
 * writing and the next writing of the key: a contiguous run of the list. It begins at the first
 * snapshot whose own number is >= v (if that one still has it) and its end is found by bisection,
 * newest first, because most files never change again.
 * A rollback brings records back that snapshots before it no longer had. So the list is looked at
 * in stretches from one rollback to the next: in each, a version is there from the stretch's
 * beginning (or from its writing) until the key is written, which is a run again.
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

/* Index of the first snapshot with a number >= `sequence`; list_lock held. */
static size_t first_from(const struct snapshot_set *set, uint64_t sequence)
{
    size_t low = 0, high = set->count;

    while (low < high) {
        size_t middle = (low + high) / 2;

        if (set->items[middle]->sequence < sequence)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Snapshots of the stretch that could hold the version: [*ret_first, *ret_end). False when there
 * are not so many stretches. */
static bool stretch_bounds(struct snapshot_set *set, size_t stretch, uint64_t sequence,
                           size_t *ret_first, size_t *ret_end, uint64_t *ret_generation)
{
    size_t first = 0, end, from;
    bool exists;

    lock_acquire(&set->list_lock);
    exists = stretch <= set->border_count;
    if (exists) {
        from = first_from(set, sequence);
        if (stretch > 0)
            first = first_from(set, set->borders[stretch - 1] + 1);
        end = stretch < set->border_count ? first_from(set, set->borders[stretch] + 1) : set->count;
        *ret_first = first > from ? first : from;
        *ret_end = end;
        *ret_generation = set->generation;
    }
    lock_release(&set->list_lock);
    return exists;
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

/* What is known so far of all stretches. */
struct run {
    uint64_t count;
    size_t oldest; /* index, when count > 0 */
};

static int run_in_stretch(struct snapshot_set *set, size_t first, size_t end, struct slice key,
                          uint64_t sequence, struct run *run)
{
    size_t run_last = 0;
    int has = first < end ? run_probe(set, first, key, sequence) : 0;

    if (has > 0)
        has = run_end(set, first, end, key, sequence, &run_last);
    else
        return has;
    if (has < 0)
        return has;
    if (run->count == 0)
        run->oldest = first;
    run->count += run_last - first;
    return 0;
}

/* The run over all stretches, by the list as it was at *ret_generation (if it has not moved). */
static int run_find(struct snapshot_set *set, struct slice key, uint64_t sequence, struct run *run,
                    uint64_t *ret_generation)
{
    uint64_t generation;
    size_t first, end;
    int result = 0;

    for (size_t stretch = 0;
         result == 0 && stretch_bounds(set, stretch, sequence, &first, &end, &generation);
         stretch++) {
        if (stretch == 0)
            *ret_generation = generation;
        result = run_in_stretch(set, first, end, key, sequence, run);
    }
    return result;
}

int snapshot_run(struct snapshot_set *set, struct slice key, uint64_t sequence, uint64_t *ret_count,
                 uint64_t *ret_oldest_id)
{
    for (unsigned attempt = 0;; attempt++) {
        uint64_t generation = 0, oldest = 0;
        struct run run = {0};
        bool unchanged;
        int result = run_find(set, key, sequence, &run, &generation);

        lock_acquire(&set->list_lock);
        unchanged = set->generation == generation;
        if (unchanged && run.count > 0)
            oldest = set->items[run.oldest]->id;
        lock_release(&set->list_lock);
        if (!unchanged && attempt < RUN_ATTEMPTS)
            continue; /* the list moved under the bisection */
        if (result < 0)
            return result;
        *ret_count = run.count;
        *ret_oldest_id = oldest;
        return 0;
    }
}
