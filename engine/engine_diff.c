/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine_diff.c - keys whose records differ between two views
 *
 * Why only some keys need a look: what a view shows at a key depends on the records and tombstones
 * of that key alone, and the newest number wins wherever it lies. A table that both views have
 * gives both the same, at any level; so does a block of records that is the same byte for byte in
 * tables that one of them has. So the views can differ only at a key for which the rest - the
 * tables and memtables that only one of them has - says different things:
 *   - the newest record of the key in the rest of one is not the newest in the rest of the other
 *     (most often both are one record that compaction has moved): such keys are looked up in full;
 *   - the newest tombstone over the key differs: within such a stretch of keys all that either view
 *     shows is compared, for a tombstone hides records of tables that both have.
 */
#include <errno.h>
#include <stdlib.h>

#include "engine/engine_internal.h"
#include "engine/shared_blocks.h"

/* A stretch of keys under one tombstone number. */
struct fragment {
    bool exists;
    struct buffer start, end; /* [start, end) */
    uint64_t sequence;
};

/* One of the two views. */
struct diff_side {
    struct engine_view *view;
    struct version_table **own; /* the tables that only this side has, by level */
    uint8_t **passed;           /* of each: the blocks that the other side has as well */
    size_t own_count, level_ends[VERSION_LEVELS];
    struct merge_iterator *rest;       /* records of what only this side has */
    struct merge_iterator *tombstones; /* the same sources, for tombstones */
    int at_rest;                       /* 1: at a record, 0: at the end */
    struct fragment fragment;          /* the first that ends behind the position */
    struct engine_iterator *all;       /* all that the view shows; opened at first need */
    int at_all;
    struct buffer value; /* of a look-up */
    struct record record;
};

struct engine_diff {
    struct diff_side before, after;
    struct buffer key;      /* of the difference at hand */
    struct buffer position; /* keys below were compared */
    bool started;
    bool stretch_known, stretch_exists; /* the next stretch where tombstones differ */
    struct buffer stretch_start, stretch_end;
    bool in_stretch;
    bool pass_before, pass_after; /* move on before looking further */
    struct engine_diff_statistics statistics;
};

/* ---- what only one side has ---- */

static int compare_tables(const void *a, const void *b)
{
    const struct version_table *const *left = a, *const *right = b;

    return engine_identity_compare(&(*left)->meta.identity, &(*right)->meta.identity);
}

/* All tables by chunk id; the caller frees. */
static int tables_by_id(const struct version *version, struct version_table ***ret_tables,
                        size_t *ret_count)
{
    struct version_table **tables;
    size_t count = 0;

    for (uint32_t level = 0; level < VERSION_LEVELS; level++)
        count += version->counts[level];
    tables = calloc(count + 1, sizeof(struct version_table *));
    if (tables == NULL)
        return -ENOMEM;
    count = 0;
    for (uint32_t level = 0; level < VERSION_LEVELS; level++)
        for (size_t i = 0; i < version->counts[level]; i++)
            tables[count++] = version->levels[level][i];
    qsort(tables, count, sizeof(struct version_table *), compare_tables);
    *ret_tables = tables;
    *ret_count = count;
    return 0;
}

static bool has_table(struct version_table *const *tables, size_t count,
                      const struct version_table *table)
{
    struct version_table *const *found =
        count > 0 ? bsearch(&table, tables, count, sizeof(struct version_table *), compare_tables)
                  : NULL;

    return found != NULL && (*found)->meta.identity.hash.low == table->meta.identity.hash.low &&
           (*found)->meta.identity.hash.high == table->meta.identity.hash.high;
}

/* The tables that the other side does not have. */
static int find_own_tables(struct diff_side *side, struct version_table *const *other,
                           size_t other_count)
{
    const struct version *version = side->view->version;
    size_t count = 0;

    for (uint32_t level = 0; level < VERSION_LEVELS; level++)
        count += version->counts[level];
    side->own = calloc(count + 1, sizeof(struct version_table *));
    side->passed = calloc(count + 1, sizeof(uint8_t *));
    if (side->own == NULL || side->passed == NULL)
        return -ENOMEM;
    for (uint32_t level = 0; level < VERSION_LEVELS; level++) {
        for (size_t i = 0; i < version->counts[level]; i++)
            if (!has_table(other, other_count, version->levels[level][i]))
                side->own[side->own_count++] = version->levels[level][i];
        side->level_ends[level] = side->own_count;
    }
    return 0;
}

/* Those of a level below L0. */
static struct shared_run own_run(const struct diff_side *side, uint32_t level)
{
    size_t start = side->level_ends[level - 1];

    return (struct shared_run){
        .tables = side->own + start,
        .count = side->level_ends[level] - start,
        .passed = side->passed + start,
    };
}

/* Blocks that a merge has carried over, most often to the level it wrote to. */
static int find_shared_blocks(struct engine_diff *diff)
{
    int result = 0;

    for (uint32_t level = 1; result == 0 && level < VERSION_LEVELS; level++)
        for (uint32_t other = 1; result == 0 && other < VERSION_LEVELS; other++) {
            const struct shared_run before = own_run(&diff->before, level);
            const struct shared_run after = own_run(&diff->after, other);

            result = shared_blocks_find(&before, &after, &diff->statistics.blocks_shared);
        }
    return result;
}

static int add_sources(struct merge_iterator *merge, const struct diff_side *side)
{
    const struct engine_view *view = side->view;
    size_t memtables = view->super != NULL ? view->super->memtable_count : 0;
    int result = 0;

    for (size_t i = 0; result == 0 && i < memtables; i++)
        result = merge_iterator_add_memtable(merge, view->super->memtables[i], view->sequence);
    for (size_t i = 0; result == 0 && i < side->level_ends[0]; i++)
        result = merge_iterator_add_table(merge, side->own[i], false);
    for (uint32_t level = 1; result == 0 && level < VERSION_LEVELS; level++) {
        const struct shared_run run = own_run(side, level);

        result = merge_iterator_add_level_without(merge, run.tables, run.count, false, run.passed);
    }
    return result;
}

static int side_open(struct diff_side *side)
{
    int result;

    side->rest = merge_iterator_new(MERGE_COMPACT);
    side->tombstones = merge_iterator_new(MERGE_COMPACT);
    if (side->rest == NULL || side->tombstones == NULL)
        return -ENOMEM;
    result = add_sources(side->rest, side);
    if (result == 0)
        result = add_sources(side->tombstones, side);
    return result;
}

static void side_close(struct diff_side *side)
{
    merge_iterator_free(side->rest);
    merge_iterator_free(side->tombstones);
    for (size_t i = 0; i < side->own_count; i++)
        free(side->passed[i]);
    free(side->passed);
    free(side->own);
    engine_iterator_free(side->all);
    buffer_free(&side->fragment.start);
    buffer_free(&side->fragment.end);
    buffer_free(&side->value);
}

static void count_tables(struct engine_diff *diff, struct version_table *const *before,
                         size_t before_count, struct version_table *const *after,
                         size_t after_count)
{
    uint64_t shared = 0;

    for (size_t i = 0; i < after_count; i++)
        shared += has_table(before, before_count, after[i]);
    diff->statistics.tables_shared = shared;
    diff->statistics.tables_read = before_count + after_count - 2 * shared;
}

static int diff_open(struct engine_diff *diff)
{
    struct version_table **before = NULL, **after = NULL;
    size_t before_count, after_count;
    int result = tables_by_id(diff->before.view->version, &before, &before_count);

    if (result == 0)
        result = tables_by_id(diff->after.view->version, &after, &after_count);
    if (result == 0) {
        count_tables(diff, before, before_count, after, after_count);
        result = find_own_tables(&diff->before, after, after_count);
    }
    if (result == 0)
        result = find_own_tables(&diff->after, before, before_count);
    if (result == 0)
        result = find_shared_blocks(diff);
    if (result == 0)
        result = side_open(&diff->before);
    if (result == 0)
        result = side_open(&diff->after);
    free(before);
    free(after);
    return result;
}

int engine_diff_new(struct engine_view *before, struct engine_view *after,
                    struct engine_diff **ret_diff)
{
    struct engine_diff *diff = calloc(1, sizeof *diff);
    int result;

    if (diff == NULL)
        return -ENOMEM;
    diff->before.view = before;
    diff->after.view = after;
    result = diff_open(diff);
    if (result < 0)
        engine_diff_free(diff);
    else
        *ret_diff = diff;
    return result;
}

void engine_diff_free(struct engine_diff *diff)
{
    if (diff == NULL)
        return;
    side_close(&diff->before);
    side_close(&diff->after);
    buffer_free(&diff->key);
    buffer_free(&diff->position);
    buffer_free(&diff->stretch_start);
    buffer_free(&diff->stretch_end);
    free(diff);
}

void engine_diff_get_statistics(const struct engine_diff *diff, struct engine_diff_statistics *ret)
{
    *ret = diff->statistics;
}

/* ---- tombstones ---- */

static int take_fragment(void *context, struct slice start, struct slice end, uint64_t sequence)
{
    struct fragment *fragment = context;
    int result = buffer_assign(&fragment->start, start.data, start.size);

    if (result == 0)
        result = buffer_assign(&fragment->end, end.data, end.size);
    fragment->exists = true;
    fragment->sequence = sequence;
    return result < 0 ? result : 1; /* one is enough */
}

/* Load the first fragment that reaches behind `from`, unless it is there already. */
static int side_find_fragment(struct diff_side *side, struct slice from, bool fresh)
{
    int result;

    if (!fresh &&
        (!side->fragment.exists || slice_compare(from, buffer_slice(&side->fragment.end)) < 0))
        return 0;
    side->fragment.exists = false;
    result = merge_iterator_each_tombstone(side->tombstones, from, slice_of(NULL, 0), take_fragment,
                                           &side->fragment);
    return result < 0 ? result : 0;
}

static bool covers(const struct fragment *fragment, struct slice key)
{
    return fragment->exists && slice_compare(buffer_slice(&fragment->start), key) <= 0;
}

/* Where a fragment's word about `key` ends; false: never. */
static bool word_ends(const struct fragment *fragment, struct slice key, struct slice *ret_end)
{
    if (!fragment->exists)
        return false;
    *ret_end = buffer_slice(covers(fragment, key) ? &fragment->end : &fragment->start);
    return true;
}

static bool next_border(const struct engine_diff *diff, struct slice key, struct slice *ret_border)
{
    struct slice before, after;
    bool has_before = word_ends(&diff->before.fragment, key, &before);
    bool has_after = word_ends(&diff->after.fragment, key, &after);

    if (has_before && (!has_after || slice_compare(before, after) <= 0))
        *ret_border = before;
    else if (has_after)
        *ret_border = after;
    return has_before || has_after;
}

/* Find the first stretch at or behind the position where the tombstones differ. */
static int find_stretch(struct engine_diff *diff, bool fresh)
{
    int result = buffer_assign(&diff->stretch_start, diff->position.data, diff->position.size);

    for (;;) {
        struct slice at = buffer_slice(&diff->stretch_start), border;
        uint64_t before, after;

        if (result == 0)
            result = side_find_fragment(&diff->before, at, fresh);
        if (result == 0)
            result = side_find_fragment(&diff->after, at, fresh);
        if (result < 0)
            return result;
        fresh = false;
        diff->stretch_known = true;
        diff->stretch_exists = next_border(diff, at, &border);
        if (!diff->stretch_exists)
            return 0;
        before = covers(&diff->before.fragment, at) ? diff->before.fragment.sequence : 0;
        after = covers(&diff->after.fragment, at) ? diff->after.fragment.sequence : 0;
        if (before != after)
            return buffer_assign(&diff->stretch_end, border.data, border.size);
        result = buffer_assign(&diff->stretch_start, border.data, border.size);
    }
}

/* ---- inside such a stretch: all that the views show ---- */

static int side_seek_all(struct diff_side *side, struct slice key)
{
    int result = 0;

    if (side->all == NULL)
        result = engine_iterator_new(side->view, slice_of(NULL, 0), &side->all);
    if (result == 0)
        result = engine_iterator_seek(side->all, key);
    side->at_all = result > 0;
    return result < 0 ? result : 0;
}

static int side_pass_all(struct diff_side *side)
{
    int result = engine_iterator_next(side->all);

    side->at_all = result > 0;
    return result < 0 ? result : 0;
}

static int enter_stretch(struct engine_diff *diff)
{
    struct slice start = buffer_slice(&diff->stretch_start);
    int result = side_seek_all(&diff->before, start);

    if (result == 0)
        result = side_seek_all(&diff->after, start);
    diff->in_stretch = true;
    diff->pass_before = diff->pass_after = false;
    return result;
}

/* The record the side shows there, or NULL at the end of the stretch. */
static const struct record *record_in_stretch(const struct engine_diff *diff,
                                              const struct diff_side *side)
{
    const struct record *record = side->at_all ? engine_iterator_record(side->all) : NULL;

    return record != NULL && slice_compare(record->key, buffer_slice(&diff->stretch_end)) < 0
               ? record
               : NULL;
}

/* 1 with a difference, 0 at the end of the stretch, or an error. */
static int next_in_stretch(struct engine_diff *diff, struct engine_difference *ret_difference)
{
    for (;;) {
        const struct record *before, *after;
        int order, result = 0;

        if (diff->pass_before)
            result = side_pass_all(&diff->before);
        if (result == 0 && diff->pass_after)
            result = side_pass_all(&diff->after);
        if (result < 0)
            return result;
        before = record_in_stretch(diff, &diff->before);
        after = record_in_stretch(diff, &diff->after);
        if (before == NULL && after == NULL)
            return 0;
        diff->statistics.records_read++;
        order = before == NULL ? 1 : after == NULL ? -1 : slice_compare(before->key, after->key);
        diff->pass_before = order <= 0;
        diff->pass_after = order >= 0;
        if (order == 0 && before->sequence == after->sequence)
            continue;
        *ret_difference = (struct engine_difference){
            .key = order <= 0 ? before->key : after->key,
            .before = order <= 0 ? before : NULL,
            .after = order >= 0 ? after : NULL,
        };
        return 1;
    }
}

/* ---- elsewhere: keys of which the rest of a side has a record ---- */

static int side_seek_rest(struct diff_side *side, struct slice key)
{
    int result = merge_iterator_seek(side->rest, key);

    side->at_rest = result > 0;
    return result < 0 ? result : 0;
}

static int side_pass_rest(struct engine_diff *diff, struct diff_side *side)
{
    int result = merge_iterator_next(side->rest);

    diff->statistics.records_read++;
    side->at_rest = result > 0;
    return result < 0 ? result : 0;
}

static int leave_stretch(struct engine_diff *diff)
{
    int result = buffer_assign(&diff->position, diff->stretch_end.data, diff->stretch_end.size);

    diff->in_stretch = false;
    diff->stretch_known = false;
    if (result == 0)
        result = side_seek_rest(&diff->before, buffer_slice(&diff->position));
    if (result == 0)
        result = side_seek_rest(&diff->after, buffer_slice(&diff->position));
    return result;
}

static const struct record *rest_record(const struct diff_side *side)
{
    return side->at_rest ? merge_iterator_record(side->rest) : NULL;
}

static int side_look_up(struct engine_diff *diff, struct diff_side *side)
{
    int result = engine_view_get(side->view, buffer_slice(&diff->key), &side->value, &side->record);

    diff->statistics.lookups++;
    return result;
}

/* Both sides are looked at in full at diff->key: 1 when they differ. */
static int compare_at_key(struct engine_diff *diff, struct engine_difference *ret_difference)
{
    int before = side_look_up(diff, &diff->before), after;

    if (before < 0)
        return before;
    after = side_look_up(diff, &diff->after);
    if (after < 0)
        return after;
    if (before == 0 && after == 0)
        return 0;
    if (before > 0 && after > 0 && diff->before.record.sequence == diff->after.record.sequence)
        return 0;
    *ret_difference = (struct engine_difference){
        .key = buffer_slice(&diff->key),
        .before = before > 0 ? &diff->before.record : NULL,
        .after = after > 0 ? &diff->after.record : NULL,
    };
    return 1;
}

/* The lowest key that one of the rests is at: look, and pass it. 1 when the views differ there. */
static int compare_rests(struct engine_diff *diff, const struct record *before,
                         const struct record *after, struct engine_difference *ret_difference)
{
    int order = before == NULL ? 1 : after == NULL ? -1 : slice_compare(before->key, after->key);
    bool same = order == 0 && before->sequence == after->sequence;
    const struct slice key = order <= 0 ? before->key : after->key;
    int result = same ? 0 : buffer_assign(&diff->key, key.data, key.size);

    if (result == 0 && order <= 0)
        result = side_pass_rest(diff, &diff->before);
    if (result == 0 && order >= 0)
        result = side_pass_rest(diff, &diff->after);
    if (result < 0 || same)
        return result;
    return compare_at_key(diff, ret_difference);
}

/* ---- the walk ---- */

static int start(struct engine_diff *diff)
{
    int result = side_seek_rest(&diff->before, slice_of("", 0));

    if (result == 0)
        result = side_seek_rest(&diff->after, slice_of("", 0));
    if (result == 0)
        result = find_stretch(diff, true);
    diff->started = result == 0;
    return result;
}

/* One step: 1 with a difference, 0 at the end, -EAGAIN for another step, or an error. */
static int step(struct engine_diff *diff, struct engine_difference *ret_difference)
{
    const struct record *before, *after, *first;
    int result;

    if (diff->in_stretch) {
        result = next_in_stretch(diff, ret_difference);
        if (result == 0)
            result = leave_stretch(diff);
        return result == 0 ? -EAGAIN : result;
    }
    if (!diff->stretch_known) {
        result = find_stretch(diff, false);
        if (result < 0)
            return result;
    }
    before = rest_record(&diff->before);
    after = rest_record(&diff->after);
    first = before == NULL || (after != NULL && slice_compare(after->key, before->key) < 0)
                ? after
                : before;
    if (diff->stretch_exists &&
        (first == NULL || slice_compare(buffer_slice(&diff->stretch_start), first->key) <= 0)) {
        result = enter_stretch(diff);
        return result == 0 ? -EAGAIN : result;
    }
    if (first == NULL)
        return 0;
    result = compare_rests(diff, before, after, ret_difference);
    return result == 0 ? -EAGAIN : result;
}

int engine_diff_next(struct engine_diff *diff, struct engine_difference *ret_difference)
{
    int result = diff->started ? 0 : start(diff);

    if (result < 0)
        return result;
    do
        result = step(diff, ret_difference);
    while (result == -EAGAIN);
    return result;
}
