/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_merge_iterator.c - tests of engine/merge_iterator.h
 */
#include "engine/merge_iterator.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "engine/base/endian.h"
#include "engine/base/error.h"
#include "engine/batch.h"
#include "tests/lib/io_fixture.h"
#include "tests/lib/record_model.h"
#include "tests/lib/seed.h"

/* ---- a place for tables ---- */

struct place {
    struct io_fixture fixture;
    struct version_source source;
    uint64_t next_id;
};

static const uint8_t uuid[STORE_UUID_SIZE] = "merge-test-uuid";

static void place_open(struct place *place)
{
    *place = (struct place){.next_id = 1};
    assert_int_equal(io_fixture_open(&place->fixture, IO_BACKEND_SYNC), 0);
    place->source = (struct version_source){
        .io = place->fixture.io,
        .chunk_directory = place->fixture.root,
        .store_uuid = uuid,
    };
}

static void place_close(struct place *place)
{
    io_fixture_close(&place->fixture);
}

static struct slice text(const char *string)
{
    return slice_of_string(string);
}

static int write_fragment(void *context, struct slice start, struct slice end, uint64_t sequence)
{
    return table_writer_add_tombstone(context, start, end, sequence);
}

/* ---- sources made of a part of a history ---- */

static struct memtable *memtable_of(const struct record *records, size_t count)
{
    struct memtable *memtable = memtable_new(count > 0 ? records[0].sequence : 1);
    struct batch batch = {0};

    assert_non_null(memtable);
    for (size_t i = 0; i < count; i++) {
        const struct record *record = &records[i];

        batch_clear(&batch);
        if (record->kind == RECORD_DELETE_RANGE)
            batch_delete_range(&batch, record->key, record->value);
        else if (record->kind == RECORD_DELETE)
            batch_delete(&batch, record->key);
        else
            batch_put(&batch, record->key, record->value);
        assert_int_equal(batch.error, 0);
        assert_int_equal(memtable_apply(memtable, buffer_slice(&batch.bytes), record->sequence), 0);
    }
    batch_free(&batch);
    return memtable;
}

/*
 * Write what a memtable has in [start, end) as a table: newest versions, also those that its own
 * tombstones cover, and the tombstones cut to the range. NULL when there is nothing.
 */
static struct version_table *table_of(struct place *place, uint32_t level,
                                      struct memtable *memtable, struct slice start,
                                      struct slice end)
{
    struct table_writer_options options = {
        .io = place->fixture.io,
        .temporary_directory = place->fixture.root,
        .chunk_directory = place->fixture.root,
        .store_uuid = uuid,
        .id = place->next_id++,
    };
    struct merge_iterator *merge = merge_iterator_new(MERGE_COMPACT);
    struct version_table *table = NULL;
    struct memtable_iterator iterator;
    struct table_writer *writer;
    struct table_meta meta = {0};
    bool any = false;

    assert_int_equal(table_writer_new(&options, &writer), 0);
    memtable_iterator_init(&iterator, memtable, UINT64_MAX);
    for (bool found = memtable_iterator_seek(&iterator, start); found;
         found = memtable_iterator_next(&iterator)) {
        if (end.data != NULL && slice_compare(iterator.record.key, end) >= 0)
            break;
        assert_int_equal(table_writer_add(writer, &iterator.record), 0);
        any = true;
    }
    assert_non_null(merge);
    assert_int_equal(merge_iterator_add_memtable(merge, memtable, UINT64_MAX), 0);
    assert_int_equal(merge_iterator_each_tombstone(merge, start, end, write_fragment, writer), 0);
    for (struct slice at = start.data != NULL ? start : text(""); !any && at.data != NULL;) {
        struct slice next;

        any = memtable_tombstone_span(memtable, at, UINT64_MAX, &next) != 0;
        at = next;
        if (at.data != NULL && end.data != NULL && slice_compare(at, end) >= 0)
            break;
    }
    if (any) {
        assert_int_equal(table_writer_finish(writer, &meta), 0);
        table = version_table_new(&place->source, level, place->next_id, &meta);
        assert_non_null(table);
    }
    table_writer_free(writer);
    merge_iterator_free(merge);
    return table;
}

/* ---- walking ---- */

static void assert_slices_equal(struct slice a, struct slice b)
{
    assert_int_equal(a.size, b.size);
    if (a.size > 0)
        assert_memory_equal(a.data, b.data, a.size);
}

static void assert_records_equal(const struct record *a, const struct record *b)
{
    assert_int_equal(a->kind, b->kind);
    assert_int_equal(a->sequence, b->sequence);
    assert_slices_equal(a->key, b->key);
    assert_slices_equal(a->value, b->value);
}

/* "key=value@sequence " of each record from `from` on; a DELETE has '-' for a value. */
static void print_walk(struct merge_iterator *merge, const char *from, char *words, size_t room)
{
    size_t used = 0;
    int result;

    words[0] = '\0';
    for (result = merge_iterator_seek(merge, text(from)); result > 0;
         result = merge_iterator_next(merge)) {
        const struct record *record = merge_iterator_record(merge);

        used +=
            (size_t)snprintf(words + used, room - used, "%.*s=%.*s%s@%u ", (int)record->key.size,
                             (const char *)record->key.data, (int)record->value.size,
                             (const char *)record->value.data,
                             record->kind == RECORD_DELETE ? "-" : "", (unsigned)record->sequence);
        assert_true(used < room);
    }
    assert_int_equal(result, 0);
    assert_int_equal(merge_iterator_next(merge), 0);
}

static void assert_walk(struct merge_iterator *merge, const char *from, const char *expected)
{
    char words[512];

    print_walk(merge, from, words, sizeof words);
    assert_string_equal(words, expected);
}

static struct merge_iterator *new_merge(enum merge_mode mode)
{
    struct merge_iterator *merge = merge_iterator_new(mode);

    assert_non_null(merge);
    return merge;
}

static struct record value(const char *key, const char *bytes, uint64_t sequence)
{
    return (struct record){RECORD_VALUE, sequence, text(key), text(bytes)};
}

static struct record deletion(const char *key, uint64_t sequence)
{
    return (struct record){RECORD_DELETE, sequence, text(key), text("")};
}

static struct record range(const char *start, const char *end, uint64_t sequence)
{
    return (struct record){RECORD_DELETE_RANGE, sequence, text(start), text(end)};
}

/* ---- small and exact ---- */

static void nothing_merged_is_nothing(void **state)
{
    struct merge_iterator *merge = new_merge(MERGE_READ);
    struct memtable *memtable = memtable_of(NULL, 0);

    (void)state;
    assert_walk(merge, "", "");
    merge_iterator_free(merge);
    merge = new_merge(MERGE_READ);
    assert_int_equal(merge_iterator_add_memtable(merge, memtable, 9), 0);
    assert_int_equal(merge_iterator_add_level(merge, NULL, 0, true), 0);
    memtable_unref(memtable); /* the iterator has its own */
    assert_walk(merge, "", "");
    assert_int_equal(merge_iterator_each_tombstone(merge, slice_of(NULL, 0), slice_of(NULL, 0),
                                                   write_fragment, NULL),
                     0);
    merge_iterator_free(merge);
    merge_iterator_free(NULL);
}

static void the_newest_source_wins_and_deletes_hide(void **state)
{
    const struct record old[] = {value("a", "1", 1), value("b", "2", 2), value("c", "3", 3),
                                 value("d", "4", 4), value("e", "5", 5)};
    const struct record new[] = {value("b", "new", 11), deletion("c", 12), range("d", "e", 13),
                                 value("f", "6", 14), value("d", "again", 15)};
    struct memtable *old_table = memtable_of(old, 5), *new_table = memtable_of(new, 5);
    struct merge_iterator *merge = new_merge(MERGE_READ);
    struct merge_iterator *compact = new_merge(MERGE_COMPACT);

    (void)state;
    assert_int_equal(merge_iterator_add_memtable(merge, new_table, 99), 0);
    assert_int_equal(merge_iterator_add_memtable(merge, old_table, 99), 0);
    assert_walk(merge, "", "a=1@1 b=new@11 d=again@15 e=5@5 f=6@14 ");
    assert_walk(merge, "c", "d=again@15 e=5@5 f=6@14 ");
    assert_walk(merge, "b", "b=new@11 d=again@15 e=5@5 f=6@14 ");
    assert_walk(merge, "g", "");
    merge_iterator_free(merge);

    merge = new_merge(MERGE_READ);
    assert_int_equal(merge_iterator_add_memtable(merge, new_table, 13), 0);
    assert_int_equal(merge_iterator_add_memtable(merge, old_table, 13), 0);
    assert_walk(merge, "", "a=1@1 b=new@11 e=5@5 ");
    merge_iterator_free(merge);

    assert_int_equal(merge_iterator_add_memtable(compact, new_table, 14), 0);
    assert_int_equal(merge_iterator_add_memtable(compact, old_table, 14), 0);
    assert_walk(compact, "", "a=1@1 b=new@11 c=-@12 e=5@5 f=6@14 ");
    merge_iterator_free(compact);
    memtable_unref(old_table);
    memtable_unref(new_table);
}

static void a_tombstone_cut_between_two_tables_covers_the_key_it_was_cut_at(void **state)
{
    const struct record upper[] = {value("a", "1", 20), range("b", "t", 21), value("z", "2", 22)};
    const struct record lower[] = {value("c", "x", 1), value("k", "x", 2), value("m", "x", 3),
                                   value("s", "x", 4), value("t", "kept", 5)};
    struct memtable *upper_records = memtable_of(upper, 3), *lower_records = memtable_of(lower, 5);
    struct merge_iterator *merge = new_merge(MERGE_READ);
    struct version_table *tables[2], *bottom;
    struct place place;

    (void)state;
    place_open(&place);
    tables[0] = table_of(&place, 1, upper_records, slice_of(NULL, 0), text("m"));
    tables[1] = table_of(&place, 1, upper_records, text("m"), slice_of(NULL, 0));
    bottom = table_of(&place, 2, lower_records, slice_of(NULL, 0), slice_of(NULL, 0));
    /* one ends where the other begins */
    assert_slices_equal(buffer_slice(&tables[0]->meta.largest), text("m"));
    assert_slices_equal(buffer_slice(&tables[1]->meta.smallest), text("m"));

    assert_int_equal(merge_iterator_add_level(merge, tables, 2, true), 0);
    assert_int_equal(merge_iterator_add_table(merge, bottom, true), 0);
    version_table_unref(tables[0]);
    version_table_unref(tables[1]);
    version_table_unref(bottom);
    assert_walk(merge, "", "a=1@20 t=kept@5 z=2@22 ");
    assert_walk(merge, "m", "t=kept@5 z=2@22 ");
    assert_walk(merge, "k", "t=kept@5 z=2@22 ");
    merge_iterator_free(merge);
    memtable_unref(upper_records);
    memtable_unref(lower_records);
    place_close(&place);
}

static void a_table_of_tombstones_alone_covers_older_ones(void **state)
{
    const struct record upper[] = {range("b", "d", 9)};
    const struct record lower[] = {value("a", "1", 1), value("b", "2", 2), value("d", "3", 3)};
    struct memtable *upper_records = memtable_of(upper, 1), *lower_records = memtable_of(lower, 3);
    struct merge_iterator *merge = new_merge(MERGE_READ);
    struct version_table *top, *bottom;
    struct place place;

    (void)state;
    place_open(&place);
    top = table_of(&place, 0, upper_records, slice_of(NULL, 0), slice_of(NULL, 0));
    bottom = table_of(&place, 2, lower_records, slice_of(NULL, 0), slice_of(NULL, 0));
    assert_int_equal(merge_iterator_add_table(merge, top, true), 0);
    assert_int_equal(merge_iterator_add_level(merge, &bottom, 1, true), 0);
    assert_walk(merge, "", "a=1@1 d=3@3 ");
    merge_iterator_free(merge);
    version_table_unref(top);
    version_table_unref(bottom);
    memtable_unref(upper_records);
    memtable_unref(lower_records);
    place_close(&place);
}

/* ---- tables that cannot be read ---- */

static void remove_chunk(struct place *place, const struct version_table *table)
{
    char name[CHUNK_NAME_SIZE];

    chunk_name(name, &table->meta.identity);
    assert_int_equal(io_unlink(place->fixture.io, place->fixture.root, name), 0);
}

static void a_table_is_opened_when_the_walk_reaches_it_and_its_error_stays(void **state)
{
    const struct record records[] = {value("a", "1", 1), value("b", "2", 2), value("m", "3", 3),
                                     value("n", "4", 4), value("x", "5", 5)};
    struct memtable *memtable = memtable_of(records, 5);
    struct merge_iterator *merge = new_merge(MERGE_READ);
    struct version_table *tables[3];
    struct place place;

    (void)state;
    place_open(&place);
    tables[0] = table_of(&place, 1, memtable, slice_of(NULL, 0), text("m"));
    tables[1] = table_of(&place, 1, memtable, text("m"), text("o"));
    tables[2] = table_of(&place, 1, memtable, text("o"), slice_of(NULL, 0));
    remove_chunk(&place, tables[1]);
    assert_int_equal(merge_iterator_add_level(merge, tables, 3, true), 0);

    assert_int_equal(merge_iterator_seek(merge, text("a")), 1);
    assert_int_equal(merge_iterator_next(merge), 1);
    assert_slices_equal(merge_iterator_record(merge)->key, text("b"));
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(merge_iterator_next(merge), ERROR_MISSING_CHUNK);
    assert_int_equal(merge_iterator_seek(merge, text("mm")), ERROR_MISSING_CHUNK);
    assert_int_equal(merge_iterator_next(merge), ERROR_MISSING_CHUNK);
    assert_walk(merge, "p", "x=5@5 ");
    merge_iterator_free(merge);
    for (unsigned i = 0; i < 3; i++)
        version_table_unref(tables[i]);
    memtable_unref(memtable);
    place_close(&place);
}

static void a_manifest_that_miscounts_tombstones_is_an_error(void **state)
{
    const struct record records[] = {range("a", "c", 1), range("e", "g", 2), value("f", "6", 3)};
    static const int wrong[] = {-1, 1};
    struct memtable *memtable = memtable_of(records, 3);
    struct place place;

    (void)state;
    place_open(&place);
    for (unsigned i = 0; i < 2; i++) {
        struct version_table *table =
            table_of(&place, 0, memtable, slice_of(NULL, 0), slice_of(NULL, 0));
        struct merge_iterator *merge = new_merge(MERGE_READ);
        int result;

        table->meta.tombstones += (uint64_t)(int64_t)wrong[i];
        assert_int_equal(merge_iterator_add_table(merge, table, true), 0);
        result = merge_iterator_seek(merge, text(""));
        assert_int_equal(result, ERROR_CORRUPT);
        merge_iterator_free(merge);
        version_table_unref(table);
    }
    memtable_unref(memtable);
    place_close(&place);
}

/* ---- against the model ---- */

#define LEVEL_TABLES_MAX 8

/* A history, spread over sources as an engine would: the newest in memory, the oldest at the
 * bottom. */
struct history {
    struct record_model model;
    uint64_t first_in_memory; /* what is older lies in tables */
    struct memtable *memtables[3];
    struct version_table *fresh[3]; /* level 0, newest first */
    struct version_table *levels[2][LEVEL_TABLES_MAX];
    size_t level_counts[2];
};

static void grow_model(struct record_model *model, uint64_t *random, size_t count)
{
    while (model->count < count) {
        uint8_t bytes[RECORD_MODEL_KEY_MAX], more[RECORD_MODEL_KEY_MAX];
        struct record record = {.kind = RECORD_VALUE, .sequence = model->count + 1};

        record.key = record_model_random_key(random, bytes);
        if (seed_below(random, 12) == 0) {
            record.kind = RECORD_DELETE_RANGE;
            record.value = record_model_random_key(random, more);
            if (slice_compare(record.key, record.value) >= 0)
                continue;
        } else if (seed_below(random, 6) == 0) {
            record.kind = RECORD_DELETE;
        } else {
            put_be64(more, seed_next(random));
            record.value = slice_of(more, seed_below(random, 9));
        }
        record_model_add(model, &record);
    }
}

static void build_level(struct history *history, struct place *place, unsigned level,
                        struct memtable *memtable, uint64_t *random)
{
    uint8_t cuts[LEVEL_TABLES_MAX][RECORD_MODEL_KEY_MAX];
    struct slice bounds[LEVEL_TABLES_MAX + 1] = {{NULL, 0}};
    size_t count = 1;

    while (count < LEVEL_TABLES_MAX && seed_below(random, 6) > 0) {
        bounds[count] = record_model_random_key(random, cuts[count]);
        count++;
    }
    qsort(bounds + 1, count - 1, sizeof bounds[0], record_model_compare_keys);
    for (size_t i = 0; i < count; i++) {
        struct slice end = i + 1 < count ? bounds[i + 1] : slice_of(NULL, 0);
        struct version_table *table;

        if (i > 0 && end.data != NULL && slice_equal(bounds[i], end))
            continue;
        table = table_of(place, level + 1, memtable, bounds[i], end);
        if (table != NULL)
            history->levels[level][history->level_counts[level]++] = table;
    }
}

static void history_build(struct history *history, struct place *place, uint64_t *random,
                          size_t count)
{
    const struct record *records;
    size_t cuts[9], part = count / 8;

    *history = (struct history){0};
    grow_model(&history->model, random, count);
    records = history->model.records;
    for (size_t i = 0; i < 8; i++) /* parts of uneven size, some perhaps small */
        cuts[i] = i * part + (i > 0 ? seed_below(random, part) : 0);
    cuts[8] = count;

    for (unsigned level = 0; level < 2; level++) { /* the older part goes to the lower level */
        size_t from = cuts[1 - level], to = cuts[2 - level];
        struct memtable *memtable = memtable_of(records + from, to - from);

        build_level(history, place, level, memtable, random);
        memtable_unref(memtable);
    }
    for (unsigned i = 0; i < 3; i++) {
        size_t from = cuts[4 - i], to = cuts[5 - i];
        struct memtable *memtable = memtable_of(records + from, to - from);

        history->fresh[i] = table_of(place, 0, memtable, slice_of(NULL, 0), slice_of(NULL, 0));
        memtable_unref(memtable);
    }
    for (unsigned i = 0; i < 3; i++) {
        size_t from = cuts[7 - i], to = cuts[8 - i];

        history->memtables[i] = memtable_of(records + from, to - from);
    }
    history->first_in_memory = cuts[5] + 1;
}

static void history_free(struct history *history)
{
    for (unsigned i = 0; i < 3; i++) {
        memtable_unref(history->memtables[i]);
        if (history->fresh[i] != NULL)
            version_table_unref(history->fresh[i]);
    }
    for (unsigned level = 0; level < 2; level++)
        for (size_t i = 0; i < history->level_counts[level]; i++)
            version_table_unref(history->levels[level][i]);
    record_model_free(&history->model);
}

static struct merge_iterator *history_merge(const struct history *history, enum merge_mode mode,
                                            uint64_t sequence)
{
    struct merge_iterator *merge = new_merge(mode);

    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(merge_iterator_add_memtable(merge, history->memtables[i], sequence), 0);
    for (unsigned i = 0; i < 3; i++)
        if (history->fresh[i] != NULL)
            assert_int_equal(merge_iterator_add_table(merge, history->fresh[i], true), 0);
    for (unsigned level = 0; level < 2; level++)
        assert_int_equal(merge_iterator_add_level(merge, history->levels[level],
                                                  history->level_counts[level], false),
                         0);
    return merge;
}

/* From `from`, up to `steps_max` records: what the model says, and nothing else. */
static void check_walk(const struct record_model *model, struct merge_iterator *merge,
                       enum merge_mode mode, uint64_t sequence, struct slice from, size_t steps_max)
{
    size_t count, steps = 0;
    struct slice *keys = record_model_keys(model, &count);
    int result = merge_iterator_seek(merge, from);

    for (size_t i = 0; i < count && steps < steps_max; i++) {
        const struct record *expected;

        if (slice_compare(keys[i], from) < 0)
            continue;
        expected = record_model_newest(model, keys[i], sequence);
        if (expected == NULL || (mode == MERGE_READ && expected->kind == RECORD_DELETE) ||
            expected->sequence <= record_model_tombstone(model, keys[i], sequence))
            continue;
        assert_int_equal(result, 1);
        assert_records_equal(merge_iterator_record(merge), expected);
        result = merge_iterator_next(merge);
        steps++;
    }
    if (steps < steps_max)
        assert_int_equal(result, 0);
    free(keys);
}

struct fragment_check {
    const struct record_model *model;
    uint64_t sequence, last_number;
    struct slice start, end, last_end;
    uint64_t *random;
};

/* Keys outside all fragments have no tombstone: look at some between the last one and this. */
static void check_gap(const struct fragment_check *check, struct slice from, struct slice to)
{
    for (unsigned i = 0; i < 10; i++) {
        uint8_t bytes[RECORD_MODEL_KEY_MAX];
        struct slice key = record_model_random_key(check->random, bytes);

        if (slice_compare(key, from) >= 0 && (to.data == NULL || slice_compare(key, to) < 0))
            assert_int_equal(record_model_tombstone(check->model, key, check->sequence), 0);
    }
}

static int check_fragment(void *context, struct slice start, struct slice end, uint64_t sequence)
{
    struct fragment_check *check = context;

    assert_true(slice_compare(start, end) < 0);
    assert_true(slice_compare(start, check->start) >= 0);
    assert_true(check->end.data == NULL || slice_compare(end, check->end) <= 0);
    if (check->last_end.data != NULL) {
        int order = slice_compare(check->last_end, start);

        assert_true(order < 0 || (order == 0 && check->last_number != sequence));
    }
    check_gap(check, check->last_end.data != NULL ? check->last_end : check->start, start);
    assert_int_equal(sequence, record_model_tombstone(check->model, start, check->sequence));
    for (unsigned i = 0; i < 10; i++) {
        uint8_t bytes[RECORD_MODEL_KEY_MAX];
        struct slice key = record_model_random_key(check->random, bytes);

        if (slice_compare(key, start) >= 0 && slice_compare(key, end) < 0)
            assert_int_equal(sequence, record_model_tombstone(check->model, key, check->sequence));
    }
    check->last_end = end;
    check->last_number = sequence;
    return 0;
}

static void check_fragments(const struct record_model *model, struct merge_iterator *merge,
                            uint64_t sequence, struct slice start, struct slice end,
                            uint64_t *random)
{
    struct fragment_check check = {
        .model = model, .sequence = sequence, .start = start, .end = end, .random = random};

    assert_int_equal(merge_iterator_each_tombstone(merge, start, end, check_fragment, &check), 0);
    check_gap(&check, check.last_end.data != NULL ? check.last_end : start, end);
}

static void check_history(const struct history *history, uint64_t *random)
{
    const struct record_model *model = &history->model;

    for (unsigned i = 0; i < 6; i++) {
        uint64_t sequence = history->first_in_memory - 1 +
                            seed_below(random, model->count - history->first_in_memory + 2);
        enum merge_mode mode = i % 2 == 0 ? MERGE_READ : MERGE_COMPACT;
        struct merge_iterator *merge = history_merge(history, mode, sequence);
        uint8_t first[RECORD_MODEL_KEY_MAX], second[RECORD_MODEL_KEY_MAX];

        check_walk(model, merge, mode, sequence, slice_of("", 0), SIZE_MAX);
        for (unsigned j = 0; j < 10; j++) {
            struct slice start = record_model_random_key(random, first);

            check_walk(model, merge, mode, sequence, start, seed_below(random, 50));
            check_fragments(model, merge, sequence, start,
                            j == 0 ? slice_of(NULL, 0) : record_model_random_key(random, second),
                            random);
        }
        check_fragments(model, merge, sequence, slice_of(NULL, 0), slice_of(NULL, 0), random);
        merge_iterator_free(merge);
    }
}

static void a_random_history_over_many_sources_reads_as_the_model_says(void **state)
{
    uint64_t random = seed_start(__func__);

    (void)state;
    for (unsigned i = 0; i < 25; i++) {
        struct history history;
        struct place place;

        place_open(&place);
        history_build(&history, &place, &random, 100 + seed_below(&random, 1500));
        check_history(&history, &random);
        history_free(&history);
        place_close(&place);
    }
}

/* A walk goes on where it was, whatever was asked about tombstones in between. */
static void asking_for_tombstones_leaves_the_walk_in_its_place(void **state)
{
    uint64_t random = seed_start(__func__);
    struct history history;
    struct merge_iterator *merge, *undisturbed;
    struct place place;
    int result;

    (void)state;
    place_open(&place);
    history_build(&history, &place, &random, 800);
    merge = history_merge(&history, MERGE_COMPACT, UINT64_MAX);
    undisturbed = history_merge(&history, MERGE_COMPACT, UINT64_MAX);
    result = merge_iterator_seek(merge, text(""));
    assert_int_equal(merge_iterator_seek(undisturbed, text("")), result);
    while (result > 0) {
        assert_records_equal(merge_iterator_record(merge), merge_iterator_record(undisturbed));
        if (seed_below(&random, 4) == 0)
            check_fragments(&history.model, merge, UINT64_MAX, merge_iterator_record(merge)->key,
                            slice_of(NULL, 0), &random);
        result = merge_iterator_next(merge);
        assert_int_equal(merge_iterator_next(undisturbed), result);
    }
    assert_int_equal(result, 0);
    merge_iterator_free(merge);
    merge_iterator_free(undisturbed);
    history_free(&history);
    place_close(&place);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_merged_is_nothing),
        cmocka_unit_test(the_newest_source_wins_and_deletes_hide),
        cmocka_unit_test(a_tombstone_cut_between_two_tables_covers_the_key_it_was_cut_at),
        cmocka_unit_test(a_table_of_tombstones_alone_covers_older_ones),
        cmocka_unit_test(a_table_is_opened_when_the_walk_reaches_it_and_its_error_stays),
        cmocka_unit_test(a_manifest_that_miscounts_tombstones_is_an_error),
        cmocka_unit_test(a_random_history_over_many_sources_reads_as_the_model_says),
        cmocka_unit_test(asking_for_tombstones_leaves_the_walk_in_its_place),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
