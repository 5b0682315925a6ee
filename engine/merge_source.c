/* SPDX-License-Identifier: Apache-2.0 */
/*
 * merge_source.c - walk one memtable or one run of tables, and ask it for tombstones
 */
#include "engine/merge_source.h"

#include <errno.h>
#include <stdlib.h>

#include "engine/base/error.h"
#include "engine/base/invariant.h"
#include "engine/base/log.h"

static struct slice smallest_of(const struct version_table *table)
{
    return buffer_slice(&table->meta.smallest);
}

static struct slice largest_of(const struct version_table *table)
{
    return buffer_slice(&table->meta.largest);
}

void merge_source_init_memtable(struct merge_source *source, struct memtable *memtable,
                                uint64_t sequence)
{
    *source = (struct merge_source){0};
    memtable_iterator_init(&source->memtable, memtable_ref(memtable), sequence);
}

int merge_source_init_tables(struct merge_source *source, struct version_table *const *tables,
                             size_t count, bool fill_cache)
{
    *source = (struct merge_source){.fill_cache = fill_cache};
    source->tables = calloc(count > 0 ? count : 1, sizeof(struct version_table *));
    if (source->tables == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < count; i++) {
        invariant(i == 0 || slice_compare(largest_of(tables[i - 1]), smallest_of(tables[i])) <= 0);
        source->tables[i] = version_table_ref(tables[i]);
    }
    source->table_count = count;
    source->table = count;
    return 0;
}

void merge_source_free(struct merge_source *source)
{
    memtable_unref(source->memtable.memtable);
    table_iterator_free(source->iterator);
    for (size_t i = 0; i < source->table_count; i++)
        version_table_unref(source->tables[i]);
    free(source->tables);
    *source = (struct merge_source){0};
}

/* ---- records of tables ---- */

/* The first table whose largest key is at or, when told so, truly behind `key`. */
static size_t find_table(const struct merge_source *source, struct slice key, bool behind)
{
    size_t low = 0, high = source->table_count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        int order = slice_compare(largest_of(source->tables[middle]), key);

        if (order < 0 || (behind && order == 0))
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Make source->iterator one of the present table. */
static int open_iterator(struct merge_source *source)
{
    struct table_reader *reader;
    int error;

    if (source->iterator != NULL && source->iterator_table == source->table)
        return 0;
    table_iterator_free(source->iterator);
    source->iterator = NULL;

    error = version_table_reader(source->tables[source->table], &reader);
    if (error < 0)
        return error;
    source->iterator = table_iterator_new(reader);
    if (source->iterator == NULL)
        return -ENOMEM;
    table_iterator_set_fill_cache(source->iterator, source->fill_cache);
    if (source->passed != NULL)
        table_iterator_set_passed(source->iterator, source->passed[source->table]);
    source->iterator_table = source->table;
    return 0;
}

/* Promise the first record of the table numbered `table`, or of a later one if that has none. */
static void promise_table(struct merge_source *source, size_t table)
{
    while (table < source->table_count && source->tables[table]->meta.records == 0)
        table++;
    source->table = table;
    source->promised = table < source->table_count;
    source->record = NULL;
    if (source->promised) {
        /* Ahead of every real record of this key, so that the merge settles it first. */
        source->promise.sequence = UINT64_MAX;
        source->promise.key = smallest_of(source->tables[table]);
        source->record = &source->promise;
    }
}

/* Take over what a call on the iterator returned. */
static int take_iterator(struct merge_source *source, int result)
{
    source->promised = false;
    source->record = NULL;
    if (result < 0)
        return result;
    if (result > 0)
        source->record = table_iterator_record(source->iterator);
    else
        promise_table(source, source->table + 1);
    return 0;
}

static int seek_table(struct merge_source *source, struct slice key)
{
    int error = open_iterator(source);

    return take_iterator(source, error < 0 ? error : table_iterator_seek(source->iterator, key));
}

static int seek_tables(struct merge_source *source, struct slice key)
{
    size_t table = find_table(source, key, false);

    if (table == source->table_count || source->tables[table]->meta.records == 0 ||
        slice_compare(key, smallest_of(source->tables[table])) <= 0) {
        promise_table(source, table);
        return 0;
    }
    source->table = table;
    return seek_table(source, key);
}

/* ---- records ---- */

static void take_memtable(struct merge_source *source, bool found)
{
    source->record = found ? &source->memtable.record : NULL;
}

int merge_source_seek(struct merge_source *source, struct slice key)
{
    if (source->memtable.memtable == NULL)
        return seek_tables(source, key);
    take_memtable(source, memtable_iterator_seek(&source->memtable, key));
    return 0;
}

int merge_source_next(struct merge_source *source)
{
    invariant(source->record != NULL && !source->promised);
    if (source->memtable.memtable == NULL)
        return take_iterator(source, table_iterator_next(source->iterator));
    take_memtable(source, memtable_iterator_next(&source->memtable));
    return 0;
}

int merge_source_settle(struct merge_source *source)
{
    invariant(source->promised);
    return seek_table(source, source->promise.key);
}

/* ---- tombstones ---- */

/* The manifest's count of fragments is what the searches below go by. */
static int check_fragment_count(const struct version_table *table, struct table_reader *reader)
{
    struct slice start, end;
    uint64_t sequence;
    size_t count = table->meta.tombstones;
    char name[CHUNK_NAME_SIZE];

    if (table_reader_tombstone_at(reader, count - 1, &start, &end, &sequence) &&
        !table_reader_tombstone_at(reader, count, &start, &end, &sequence))
        return 0;
    chunk_name(name, &table->meta.identity);
    log_error("table %s: the manifest says that it has %zu range tombstones, it does not", name,
              count);
    return ERROR_CORRUPT;
}

/* Answer from the fragments of one table, which has some. */
static int fragment_span(struct version_table *table, struct slice key, uint64_t *ret_sequence,
                         struct slice *ret_end)
{
    size_t low = 0, high = table->meta.tombstones;
    struct table_reader *reader;
    struct slice start, end;
    uint64_t sequence;
    int error = version_table_reader(table, &reader);

    if (error == 0)
        error = check_fragment_count(table, reader);
    if (error < 0)
        return error;

    /* The first fragment that ends behind the key. */
    while (low < high) {
        size_t middle = low + (high - low) / 2;

        invariant(table_reader_tombstone_at(reader, middle, &start, &end, &sequence));
        if (slice_compare(end, key) <= 0)
            low = middle + 1;
        else
            high = middle;
    }
    *ret_sequence = 0;
    *ret_end = slice_of(NULL, 0);
    if (!table_reader_tombstone_at(reader, low, &start, &end, &sequence))
        return 0;
    if (slice_compare(start, key) > 0) {
        *ret_end = start;
    } else {
        *ret_sequence = sequence;
        *ret_end = end;
    }
    return 0;
}

static int tables_span(struct merge_source *source, struct slice key, uint64_t *ret_sequence,
                       struct slice *ret_end)
{
    /* Fragments end, exclusively, at or before the largest key: what equals it is not covered. */
    size_t at = find_table(source, key, true);
    struct version_table *table = at < source->table_count ? source->tables[at] : NULL;
    uint64_t sequence = 0;
    struct slice end = {NULL, 0};

    if (table != NULL && slice_compare(smallest_of(table), key) > 0) {
        end = smallest_of(table);
    } else if (table != NULL) {
        if (table->meta.tombstones > 0) {
            int error = fragment_span(table, key, &sequence, &end);

            if (error < 0)
                return error;
        }
        if (end.data == NULL)
            end = largest_of(table);
    }
    *ret_sequence = sequence;
    *ret_end = end;
    return 0;
}

int merge_source_tombstone(struct merge_source *source, struct slice key, uint64_t *ret_sequence,
                           struct slice *ret_end)
{
    if (source->memtable.memtable == NULL)
        return tables_span(source, key, ret_sequence, ret_end);
    *ret_sequence =
        memtable_tombstone_span(source->memtable.memtable, key, source->memtable.sequence, ret_end);
    return 0;
}
