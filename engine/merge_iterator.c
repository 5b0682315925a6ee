/* SPDX-License-Identifier: Apache-2.0 */
/*
 * merge_iterator.c - a heap of sources, and the tombstones over the key it has come to
 */
#include "engine/merge_iterator.h"

#include <errno.h>
#include <stdlib.h>

#include "engine/base/invariant.h"
#include "engine/merge_source.h"

/* What is known of the tombstones over a stretch of keys. */
struct span {
    bool known;
    uint64_t sequence; /* of the newest over [the key asked for, end), or 0 */
    struct slice end;  /* NULL data: no end */
};

struct merge_input {
    struct merge_source source;
    struct span span;
};

struct merge_iterator {
    enum merge_mode mode;
    struct merge_input *inputs; /* newest first */
    size_t input_count, input_capacity;
    struct merge_input **heap; /* of those not at their end, by order_inputs() */
    size_t heap_size;
    bool sought;
    int error;        /* of the last seek or next; only another seek clears it */
    struct span span; /* over all inputs */
};

struct merge_iterator *merge_iterator_new(enum merge_mode mode)
{
    struct merge_iterator *iterator = calloc(1, sizeof *iterator);

    if (iterator != NULL)
        iterator->mode = mode;
    return iterator;
}

void merge_iterator_free(struct merge_iterator *iterator)
{
    if (iterator == NULL)
        return;
    for (size_t i = 0; i < iterator->input_count; i++)
        merge_source_free(&iterator->inputs[i].source);
    free(iterator->inputs);
    free(iterator->heap);
    free(iterator);
}

/* ---- adding sources ---- */

#define INPUT_CAPACITY_MIN 8

/* Room for one more input, in both arrays. 0 or -ENOMEM. */
static int make_room(struct merge_iterator *iterator)
{
    size_t capacity = iterator->input_capacity;
    struct merge_input *inputs;
    struct merge_input **heap;

    invariant(!iterator->sought); /* the heap points into the array */
    if (iterator->input_count < capacity)
        return 0;
    capacity = capacity > 0 ? capacity * 2 : INPUT_CAPACITY_MIN;
    inputs = realloc(iterator->inputs, capacity * sizeof *inputs);
    if (inputs == NULL)
        return -ENOMEM;
    iterator->inputs = inputs;
    heap = realloc(iterator->heap, capacity * sizeof *heap);
    if (heap == NULL)
        return -ENOMEM;
    iterator->heap = heap;
    iterator->input_capacity = capacity;
    return 0;
}

int merge_iterator_add_memtable(struct merge_iterator *iterator, struct memtable *memtable,
                                uint64_t sequence)
{
    struct merge_input *input;
    int error = make_room(iterator);

    if (error < 0)
        return error;
    input = &iterator->inputs[iterator->input_count++];
    *input = (struct merge_input){0};
    merge_source_init_memtable(&input->source, memtable, sequence);
    return 0;
}

int merge_iterator_add_level(struct merge_iterator *iterator, struct version_table *const *tables,
                             size_t count, bool fill_cache)
{
    return merge_iterator_add_level_without(iterator, tables, count, fill_cache, NULL);
}

int merge_iterator_add_level_without(struct merge_iterator *iterator,
                                     struct version_table *const *tables, size_t count,
                                     bool fill_cache, uint8_t *const *passed)
{
    struct merge_input *input;
    int error;

    if (count == 0)
        return 0;
    error = make_room(iterator);
    if (error < 0)
        return error;
    input = &iterator->inputs[iterator->input_count];
    *input = (struct merge_input){0};
    error = merge_source_init_tables(&input->source, tables, count, fill_cache);
    if (error < 0)
        return error;
    input->source.passed = passed;
    iterator->input_count++;
    return 0;
}

int merge_iterator_add_table(struct merge_iterator *iterator, struct version_table *table,
                             bool fill_cache)
{
    return merge_iterator_add_level(iterator, &table, 1, fill_cache);
}

/* ---- the heap ---- */

/* By key, the newest record of a key first; a source that was added earlier is newer. */
static bool comes_before(const struct merge_input *a, const struct merge_input *b)
{
    const struct record *x = a->source.record, *y = b->source.record;
    int order = slice_compare(x->key, y->key);

    if (order != 0)
        return order < 0;
    if (x->sequence != y->sequence)
        return x->sequence > y->sequence;
    return a < b;
}

static void sift_down(struct merge_iterator *iterator, size_t at)
{
    struct merge_input **heap = iterator->heap;
    struct merge_input *input = heap[at];

    for (;;) {
        size_t child = 2 * at + 1;

        if (child >= iterator->heap_size)
            break;
        if (child + 1 < iterator->heap_size && comes_before(heap[child + 1], heap[child]))
            child++;
        if (!comes_before(heap[child], input))
            break;
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = input;
}

static void build_heap(struct merge_iterator *iterator)
{
    iterator->heap_size = 0;
    for (size_t i = 0; i < iterator->input_count; i++)
        if (iterator->inputs[i].source.record != NULL)
            iterator->heap[iterator->heap_size++] = &iterator->inputs[i];
    for (size_t i = iterator->heap_size / 2; i-- > 0;)
        sift_down(iterator, i);
}

/* The source at `at`, the top or a child of it, has moved on or has ended. */
static void reorder(struct merge_iterator *iterator, size_t at)
{
    if (iterator->heap[at]->source.record == NULL) {
        iterator->heap[at] = iterator->heap[--iterator->heap_size];
        if (at >= iterator->heap_size)
            return;
    }
    sift_down(iterator, at);
}

/* Until the top is a record and no promise. */
static int settle_top(struct merge_iterator *iterator)
{
    while (iterator->heap_size > 0 && iterator->heap[0]->source.promised) {
        int error = merge_source_settle(&iterator->heap[0]->source);

        if (error < 0)
            return error;
        reorder(iterator, 0);
    }
    return 0;
}

/* The second in order: a child of the top; 0 when there is none. */
static size_t second_of(const struct merge_iterator *iterator)
{
    if (iterator->heap_size < 2)
        return 0;
    if (iterator->heap_size > 2 && comes_before(iterator->heap[2], iterator->heap[1]))
        return 2;
    return 1;
}

/*
 * Move all sources past the top's key. The others first: its bytes belong to the top's source and
 * go when that moves. None of them is a promise, for a promise of this key would be the top.
 */
static int pass_key(struct merge_iterator *iterator)
{
    struct slice key = iterator->heap[0]->source.record->key;
    int error;

    for (;;) {
        size_t second = second_of(iterator);

        if (second == 0 || !slice_equal(iterator->heap[second]->source.record->key, key))
            break;
        error = merge_source_next(&iterator->heap[second]->source);
        if (error < 0)
            return error;
        reorder(iterator, second);
    }
    error = merge_source_next(&iterator->heap[0]->source);
    if (error == 0)
        reorder(iterator, 0);
    return error;
}

/* ---- tombstones ---- */

static bool span_holds(const struct span *span, struct slice key)
{
    return span->known && (span->end.data == NULL || slice_compare(key, span->end) < 0);
}

static void forget_spans(struct merge_iterator *iterator)
{
    iterator->span.known = false;
    for (size_t i = 0; i < iterator->input_count; i++)
        iterator->inputs[i].span.known = false;
}

/* Make iterator->span tell about `key`, which must not be below a key asked for since the spans
 * were forgotten. Only the sources whose own answer has ended are asked again. */
static int update_span(struct merge_iterator *iterator, struct slice key)
{
    struct span all = {.known = true};

    if (span_holds(&iterator->span, key))
        return 0;
    for (size_t i = 0; i < iterator->input_count; i++) {
        struct span *span = &iterator->inputs[i].span;

        if (!span_holds(span, key)) {
            int error = merge_source_tombstone(&iterator->inputs[i].source, key, &span->sequence,
                                               &span->end);

            if (error < 0)
                return error;
            span->known = true;
        }
        if (span->sequence > all.sequence)
            all.sequence = span->sequence;
        if (span->end.data != NULL &&
            (all.end.data == NULL || slice_compare(span->end, all.end) < 0))
            all.end = span->end;
    }
    iterator->span = all;
    return 0;
}

/* ---- walking ---- */

/* From the top on, the first record that is to be shown. 1, 0 or a negative error. */
static int find_shown(struct merge_iterator *iterator)
{
    for (;;) {
        const struct record *record;
        int error = settle_top(iterator);

        if (error < 0)
            return error;
        if (iterator->heap_size == 0)
            return 0;
        record = iterator->heap[0]->source.record;
        error = update_span(iterator, record->key);
        if (error < 0)
            return error;
        if (record->sequence > iterator->span.sequence &&
            (iterator->mode == MERGE_COMPACT || record->kind != RECORD_DELETE))
            return 1;
        error = pass_key(iterator);
        if (error < 0)
            return error;
    }
}

/* After an error the place is lost: the heap is emptied and the error kept. */
static int finish(struct merge_iterator *iterator, int result)
{
    if (result < 0) {
        iterator->heap_size = 0;
        iterator->error = result;
    }
    return result;
}

int merge_iterator_seek(struct merge_iterator *iterator, struct slice key)
{
    iterator->sought = true;
    iterator->error = 0;
    forget_spans(iterator);
    for (size_t i = 0; i < iterator->input_count; i++) {
        int error = merge_source_seek(&iterator->inputs[i].source, key);

        if (error < 0)
            return finish(iterator, error);
    }
    build_heap(iterator);
    return finish(iterator, find_shown(iterator));
}

int merge_iterator_next(struct merge_iterator *iterator)
{
    int error;

    if (iterator->heap_size == 0)
        return iterator->error;
    error = pass_key(iterator);
    return finish(iterator, error < 0 ? error : find_shown(iterator));
}

const struct record *merge_iterator_record(const struct merge_iterator *iterator)
{
    invariant(iterator->heap_size > 0);
    return iterator->heap[0]->source.record;
}

/* ---- all tombstones ---- */

static int each_tombstone(struct merge_iterator *iterator, struct slice start, struct slice end,
                          memtable_tombstone_callback *callback, void *context)
{
    struct slice at = start, fragment = start;
    uint64_t sequence = 0;
    int result;

    /* Stretch by stretch; neighbours with one number are shown as one. */
    while (at.data != NULL && (end.data == NULL || slice_compare(at, end) < 0)) {
        result = update_span(iterator, at);
        if (result < 0)
            return result;
        if (iterator->span.sequence != sequence) {
            result = sequence != 0 ? callback(context, fragment, at, sequence) : 0;
            if (result != 0)
                return result;
            fragment = at;
            sequence = iterator->span.sequence;
        }
        at = iterator->span.end;
    }
    if (sequence == 0)
        return 0;
    invariant(end.data != NULL); /* a tombstone has an end: only the bound can have cut this one */
    return callback(context, fragment, end, sequence);
}

int merge_iterator_each_tombstone(struct merge_iterator *iterator, struct slice start,
                                  struct slice end, memtable_tombstone_callback *callback,
                                  void *context)
{
    int result;

    forget_spans(iterator);
    result = each_tombstone(iterator, start.data != NULL ? start : slice_of("", 0), end, callback,
                            context);
    forget_spans(iterator); /* they may have answered for keys behind the iterator's place */
    return result;
}
