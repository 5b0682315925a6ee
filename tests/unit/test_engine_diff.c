/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_engine_diff.c - the difference of two views against a comparison of all they show, and that
 *                      its cost follows what changed
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "tests/lib/engine_fixture.h"
#include "tests/lib/seed.h"

#define KEYS        4000
#define CHECKPOINTS 5

/* All that a view shows, or all differences, as text lines. */
struct text {
    struct buffer lines;
    size_t count;
};

static void text_add(struct text *text, struct slice key, uint64_t before, uint64_t after)
{
    char line[128];
    int size =
        snprintf(line, sizeof line, "%016llx %llu %llu\n", (unsigned long long)get_be64(key.data),
                 (unsigned long long)before, (unsigned long long)after);

    assert_int_equal(key.size, 8);
    assert_int_equal(buffer_append(&text->lines, line, (size_t)size), 0);
    text->count++;
}

/* A walk over everything in both. */
static struct text expected_diff(struct engine_view *before, struct engine_view *after)
{
    struct engine_iterator *left, *right;
    struct text text = {.count = 0};
    int at_left, at_right;

    assert_int_equal(engine_iterator_new(before, slice_of(NULL, 0), &left), 0);
    assert_int_equal(engine_iterator_new(after, slice_of(NULL, 0), &right), 0);
    at_left = engine_iterator_seek(left, slice_of("", 1));
    at_right = engine_iterator_seek(right, slice_of("", 1));
    while (at_left > 0 || at_right > 0) {
        const struct record *a = at_left > 0 ? engine_iterator_record(left) : NULL;
        const struct record *b = at_right > 0 ? engine_iterator_record(right) : NULL;
        int order = a == NULL ? 1 : b == NULL ? -1 : slice_compare(a->key, b->key);

        if (order != 0 || a->sequence != b->sequence)
            text_add(&text, order <= 0 ? a->key : b->key, order <= 0 ? a->sequence : 0,
                     order >= 0 ? b->sequence : 0);
        if (order <= 0)
            at_left = engine_iterator_next(left);
        if (order >= 0)
            at_right = engine_iterator_next(right);
    }
    assert_true(at_left == 0 && at_right == 0);
    engine_iterator_free(left);
    engine_iterator_free(right);
    return text;
}

/* The value of a record is derived from its key and a number that is stored with it. */
static void check_value(const struct record *record)
{
    if (record == NULL || record->kind != RECORD_VALUE)
        return;
    assert_int_equal(record->value.size, 64);
    assert_memory_equal(record->value.data, record->key.data, 8);
}

static struct text found_diff(struct engine_view *before, struct engine_view *after,
                              struct engine_diff_statistics *ret_statistics)
{
    struct engine_difference difference;
    struct engine_diff *diff;
    struct text text = {.count = 0};
    int found;

    assert_int_equal(engine_diff_new(before, after, &diff), 0);
    while ((found = engine_diff_next(diff, &difference)) > 0) {
        check_value(difference.before);
        check_value(difference.after);
        if (difference.before != NULL)
            assert_true(slice_equal(difference.before->key, difference.key));
        if (difference.after != NULL)
            assert_true(slice_equal(difference.after->key, difference.key));
        text_add(&text, difference.key, difference.before != NULL ? difference.before->sequence : 0,
                 difference.after != NULL ? difference.after->sequence : 0);
    }
    assert_int_equal(found, 0);
    /* The end stays the end. */
    assert_int_equal(engine_diff_next(diff, &difference), 0);
    engine_diff_get_statistics(diff, ret_statistics);
    engine_diff_free(diff);
    return text;
}

static struct engine_diff_statistics check_pair(struct engine_view *before,
                                                struct engine_view *after, size_t *ret_count)
{
    struct engine_diff_statistics statistics;
    struct text expected = expected_diff(before, after);
    struct text found = found_diff(before, after, &statistics);

    assert_int_equal(found.count, expected.count);
    assert_int_equal(found.lines.size, expected.lines.size);
    if (found.lines.size > 0)
        assert_memory_equal(found.lines.data, expected.lines.data, expected.lines.size);
    if (ret_count != NULL)
        *ret_count = expected.count;
    buffer_free(&expected.lines);
    buffer_free(&found.lines);
    return statistics;
}

static void put(struct batch *batch, uint64_t number)
{
    uint8_t key[8], value[64] = {0};

    engine_fixture_key(key, number);
    memcpy(value, key, 8);
    for (size_t i = 8; i < sizeof value; i++) /* not to be compressed away */
        value[i] = (uint8_t)seed_next(&number);
    batch_put(batch, slice_of(key, 8), slice_of(value, sizeof value));
}

static void delete_range(struct batch *batch, uint64_t start, uint64_t end)
{
    uint8_t low[8], high[8];

    batch_delete_range(batch, engine_fixture_key(low, start), engine_fixture_key(high, end));
}

static void write_and_clear(struct engine *engine, struct batch *batch)
{
    assert_int_equal(engine_write(engine, batch, NULL), 0);
    batch_clear(batch);
}

static void change(struct engine *engine, uint64_t *random)
{
    struct batch batch = {0};
    size_t changes = seed_below(random, 400);
    /* All over the place, or a few in one so that merging leaves the blocks of others alone. */
    uint64_t stretch = seed_below(random, 2) == 0 ? KEYS : 100;
    uint64_t start = seed_below(random, KEYS - stretch + 1);
    uint8_t key[8];

    for (size_t i = 0; i < changes; i++) {
        uint64_t number = start + seed_below(random, stretch);

        switch (seed_below(random, 12)) {
        case 0:
            delete_range(&batch, number, number + 1 + seed_below(random, 60));
            break;
        case 1:
        case 2:
            batch_delete(&batch, engine_fixture_key(key, number));
            break;
        default:
            put(&batch, number);
            break;
        }
        write_and_clear(engine, &batch);
    }
    batch_free(&batch);
    if (seed_below(random, 3) == 0)
        assert_int_equal(engine_flush(engine), 0);
    if (seed_below(random, 3) == 0)
        assert_int_equal(engine_compact(engine), 0);
}

static struct engine_view *checkpoint_view(struct engine *engine, const char *name, bool wait)
{
    struct engine_view *view;
    uint64_t id;

    assert_int_equal(
        engine_checkpoint_create(engine, slice_of_string(name), slice_of(NULL, 0), &id), 0);
    if (wait)
        assert_int_equal(engine_checkpoint_wait(engine, id), 0);
    assert_int_equal(engine_checkpoint_view(engine, id, &view), 0);
    return view;
}

static void views_of_random_histories_differ_as_a_full_walk_says(void **state)
{
    struct engine_fixture *fixture = *state;
    const char *wanted = getenv("VARVE_HISTORIES");
    uint64_t blocks_shared = 0;
    unsigned long histories = wanted != NULL ? strtoul(wanted, NULL, 0) : 8;
    uint64_t random = seed_start("engine_diff");

    for (unsigned long history = 0; history < histories; history++) {
        struct engine_view *views[CHECKPOINTS + 1];

        for (int i = 0; i < CHECKPOINTS; i++) {
            char name[32];

            change(fixture->engine, &random);
            snprintf(name, sizeof name, "%lu-%d", history, i);
            views[i] = checkpoint_view(fixture->engine, name, seed_below(&random, 2) == 0);
        }
        change(fixture->engine, &random);
        views[CHECKPOINTS] = engine_view_acquire(fixture->engine);
        for (int i = 0; i <= CHECKPOINTS; i++)
            for (int j = 0; j <= CHECKPOINTS; j++)
                blocks_shared +=
                    check_pair(views[i], views[j], NULL).blocks_shared; /* backwards as well */
        for (int i = 0; i <= CHECKPOINTS; i++)
            engine_view_release(views[i]);
    }
    /* Of a few histories it may be that none has some. */
    assert_true(histories < 100 || blocks_shared > 0);
}

static void live_views_differ_by_what_the_memtable_got_between_them(void **state)
{
    struct engine_fixture *fixture = *state;
    struct engine_view *before, *after;
    struct batch batch = {0};
    size_t count;

    for (uint64_t i = 0; i < 100; i++)
        put(&batch, i);
    write_and_clear(fixture->engine, &batch);
    before = engine_view_acquire(fixture->engine);
    put(&batch, 50);
    put(&batch, 500);
    delete_range(&batch, 10, 20);
    write_and_clear(fixture->engine, &batch);
    after = engine_view_acquire(fixture->engine);
    check_pair(before, after, &count);
    assert_int_equal(count, 12);
    check_pair(before, before, &count);
    assert_int_equal(count, 0);
    engine_view_release(before);
    engine_view_release(after);
    batch_free(&batch);
}

/* A tombstone that compaction has dropped together with what it hid. */
static void what_compaction_dropped_is_still_a_difference(void **state)
{
    struct engine_fixture *fixture = *state;
    struct engine_view *before, *after;
    struct batch batch = {0};
    uint8_t key[8];
    size_t count;

    for (uint64_t i = 0; i < 3000; i++)
        put(&batch, i);
    write_and_clear(fixture->engine, &batch);
    before = checkpoint_view(fixture->engine, "before", true);
    delete_range(&batch, 100, 200);
    batch_delete(&batch, engine_fixture_key(key, 300));
    write_and_clear(fixture->engine, &batch);
    assert_int_equal(engine_compact(fixture->engine), 0);
    after = checkpoint_view(fixture->engine, "after", true);
    check_pair(before, after, &count);
    assert_int_equal(count, 101);
    engine_view_release(before);
    engine_view_release(after);
    batch_free(&batch);
}

static void cost_follows_the_changes(void **state)
{
    struct engine_fixture *fixture = *state;
    struct engine_diff_statistics statistics;
    struct engine_view *before, *after;
    struct batch batch = {0};
    size_t count;

    /* Many tables, at rest. */
    for (uint64_t i = 0; i < 60000; i++) {
        put(&batch, i);
        if (batch.count == 1000)
            write_and_clear(fixture->engine, &batch);
    }
    assert_int_equal(engine_compact(fixture->engine), 0);
    before = checkpoint_view(fixture->engine, "before", true);
    for (uint64_t i = 0; i < 10; i++)
        put(&batch, i * 6000); /* from one end to the other */
    delete_range(&batch, 7000, 7005);
    write_and_clear(fixture->engine, &batch);
    after = checkpoint_view(fixture->engine, "after", true);
    statistics = check_pair(before, after, &count);
    assert_int_equal(count, 15);
    assert_true(statistics.tables_shared >= 10);
    assert_int_equal(statistics.tables_read, 1);
    assert_true(statistics.records_read <= 40);
    assert_true(statistics.lookups <= 20);
    engine_view_release(before);
    engine_view_release(after);
    batch_free(&batch);
}

/* Of rewritten tables only the blocks in which something changed are read, and what is the same in
 * them costs no look-ups. */
static void what_compaction_moved_is_no_difference(void **state)
{
    struct engine_fixture *fixture = *state;
    struct engine_diff_statistics statistics;
    struct engine_view *before, *after;
    struct batch batch = {0};
    uint8_t key[8];
    size_t count;

    for (uint64_t i = 0; i < 30000; i++)
        put(&batch, i);
    write_and_clear(fixture->engine, &batch);
    delete_range(&batch, 500, 600);
    write_and_clear(fixture->engine, &batch);
    assert_int_equal(engine_compact(fixture->engine), 0);
    before = checkpoint_view(fixture->engine, "before", true);
    put(&batch, 1);                                       /* the same size */
    put(&batch, 590);                                     /* a new one */
    batch_delete(&batch, engine_fixture_key(key, 20000)); /* one less */
    write_and_clear(fixture->engine, &batch);
    assert_int_equal(engine_compact(fixture->engine), 0);
    after = checkpoint_view(fixture->engine, "after", true);
    statistics = check_pair(before, after, &count);
    assert_int_equal(count, 3);
    assert_int_equal(statistics.tables_shared, 0);
    assert_true(statistics.blocks_shared > 200);
    assert_true(statistics.records_read < 6000);
    assert_true(statistics.lookups <= 6);
    check_pair(after, before, &count);
    assert_int_equal(count, 3);
    engine_view_release(before);
    engine_view_release(after);
    batch_free(&batch);
}

/* The same keys and values, written again: blocks of the same sizes, in which only the numbers of
 * the records are others. */
static void blocks_of_one_size_are_not_taken_for_the_same(void **state)
{
    struct engine_fixture *fixture = *state;
    struct engine_diff_statistics statistics;
    struct engine_view *views[2];
    struct batch batch = {0};
    size_t count;

    for (int round = 0; round < 2; round++) {
        for (uint64_t i = 0; i < 60000; i++) {
            put(&batch, i);
            if (batch.count == 1000)
                write_and_clear(fixture->engine, &batch);
        }
        assert_int_equal(engine_compact(fixture->engine), 0);
        views[round] = checkpoint_view(fixture->engine, round == 0 ? "before" : "after", true);
    }
    statistics = check_pair(views[0], views[1], &count);
    assert_int_equal(count, 60000);
    assert_int_equal(statistics.blocks_shared, 0);
    engine_view_release(views[0]);
    engine_view_release(views[1]);
    batch_free(&batch);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name)                                                                                 \
    cmocka_unit_test_setup_teardown(name, engine_fixture_setup, engine_fixture_teardown)
        TEST(views_of_random_histories_differ_as_a_full_walk_says),
        TEST(live_views_differ_by_what_the_memtable_got_between_them),
        TEST(what_compaction_dropped_is_still_a_difference),
        TEST(cost_follows_the_changes),
        TEST(what_compaction_moved_is_no_difference),
        TEST(blocks_of_one_size_are_not_taken_for_the_same),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
