/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_compaction_pick.c - the policy, on versions without files
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "engine/base/endian.h"
#include "engine/compaction_pick.h"
#include "tests/lib/seed.h"

#define MIB ((uint64_t)1 << 20)

static const struct version_source no_source;

struct spec {
    uint32_t level;
    uint64_t id, order;
    const char *smallest, *largest;
    uint64_t size, records, deletes, tombstones;
    uint64_t use; /* a blob chunk it refers to, or 0 */
};

static struct version_table *make_table(const struct spec *spec)
{
    struct table_meta meta = {
        .identity = {.id = spec->id, .kind = CHUNK_TABLE, .file_size_bytes = spec->size},
        .records = spec->records,
        .deletes = spec->deletes,
        .tombstones = spec->tombstones,
    };
    struct version_table *table;

    assert_int_equal(buffer_assign(&meta.smallest, spec->smallest, strlen(spec->smallest)), 0);
    assert_int_equal(buffer_assign(&meta.largest, spec->largest, strlen(spec->largest)), 0);
    if (spec->use > 0) {
        meta.uses = malloc(sizeof *meta.uses);
        meta.uses[0] = (struct table_blob_use){spec->use, 1, 1000};
        meta.use_count = 1;
    }
    table = version_table_new(&no_source, spec->level, spec->order, &meta);
    assert_non_null(table);
    return table;
}

static struct version *make_version(const struct spec *specs, size_t count)
{
    struct version_table **tables = calloc(count + 1, sizeof(struct version_table *));
    struct version *version;

    for (size_t i = 0; i < count; i++)
        tables[i] = make_table(&specs[i]);
    assert_int_equal(version_build(NULL, NULL, 0, tables, count, &version), 0);
    for (size_t i = 0; i < count; i++)
        version_table_unref(tables[i]);
    free(tables);
    return version;
}

#define VERSION(...)                                                                               \
    make_version((const struct spec[]){__VA_ARGS__},                                               \
                 sizeof((const struct spec[]){__VA_ARGS__}) / sizeof(struct spec))

static const struct compaction_policy eager = {
    .base_bytes = 100 * MIB, .table_bytes = 10 * MIB, .idle = true};
static const struct compaction_policy urgent_only = {
    .base_bytes = 100 * MIB, .table_bytes = 10 * MIB, .idle = false};

static void set_busy(const struct version *version, uint64_t id)
{
    for (size_t level = 0; level < VERSION_LEVELS; level++)
        for (size_t i = 0; i < version->counts[level]; i++)
            if (version->levels[level][i]->meta.identity.id == id)
                atomic_store(&version->levels[level][i]->busy, true);
}

static bool takes(const struct compaction *compaction, uint64_t id)
{
    for (size_t i = 0; i < compaction->input_count + compaction->output_input_count; i++)
        if (compaction->inputs[i]->meta.identity.id == id)
            return true;
    return false;
}

static void assert_none(struct version *version, const struct compaction_policy *policy)
{
    struct compaction compaction;

    assert_int_equal(compaction_pick(version, policy, &compaction), 0);
    version_unref(version);
}

/* ---- L0 ---- */

static void three_young_tables_wait_for_a_fourth(void **state)
{
    (void)state;
    assert_none(VERSION({0, 1, 1, "a", "z", MIB, 10, 0, 0, 0},
                        {0, 2, 2, "a", "z", MIB, 10, 0, 0, 0},
                        {0, 3, 3, "a", "z", MIB, 10, 0, 0, 0}),
                &eager);
    assert_none(make_version(NULL, 0), &eager);
}

static void four_young_tables_merge_with_what_they_touch(void **state)
{
    struct version *version =
        VERSION({0, 1, 1, "d", "f", MIB, 10, 0, 0, 0}, {0, 2, 2, "e", "h", MIB, 10, 0, 0, 0},
                {0, 3, 3, "d", "d", MIB, 10, 0, 0, 0}, {0, 4, 4, "g", "m", MIB, 10, 0, 0, 0},
                {1, 5, 0, "a", "c", MIB, 10, 0, 0, 0}, {1, 6, 0, "c", "d", MIB, 10, 0, 0, 0},
                {1, 7, 0, "k", "l", MIB, 10, 0, 0, 0}, {1, 8, 0, "m", "n", MIB, 10, 0, 0, 0},
                {1, 9, 0, "o", "p", MIB, 10, 0, 0, 0});
    struct compaction compaction;

    (void)state;
    assert_int_equal(compaction_pick(version, &urgent_only, &compaction), 1);
    assert_int_equal(compaction.reason, COMPACTION_L0);
    assert_int_equal(compaction.input_level, 0);
    assert_int_equal(compaction.output_level, 1);
    assert_int_equal(compaction.input_count, 4);
    for (size_t i = 0; i < 4; i++) /* newest first */
        assert_int_equal(compaction.inputs[i]->order, 4 - i);
    assert_int_equal(compaction.output_input_count, 3);
    for (uint64_t id = 6; id <= 8; id++)
        assert_true(takes(&compaction, id));
    assert_true(compaction.bottom);
    assert_false(compaction.trivial_move);
    compaction_free(&compaction);
    version_unref(version);
}

/* Snapshots leave many tables that are small beside the level that they would have to go to. */
static void small_young_tables_merge_with_each_other(void **state)
{
    struct version *version =
        VERSION({0, 1, 1, "a", "z", 9 * MIB, 10, 0, 0, 0}, {0, 2, 2, "a", "z", MIB, 10, 1, 0, 0},
                {0, 3, 3, "a", "z", MIB, 10, 1, 0, 0}, {0, 4, 4, "a", "z", MIB, 10, 1, 0, 0},
                {0, 5, 5, "a", "z", MIB, 10, 1, 0, 0}, {0, 6, 6, "a", "z", MIB / 8, 10, 1, 0, 0},
                {1, 7, 0, "a", "z", 90 * MIB, 10, 0, 0, 0});
    struct compaction compaction;

    (void)state;
    assert_int_equal(compaction_pick(version, &urgent_only, &compaction), 1);
    assert_int_equal(compaction.reason, COMPACTION_L0);
    assert_int_equal(compaction.input_level, 0);
    assert_int_equal(compaction.output_level, 0);
    assert_int_equal(compaction.input_count, 4); /* not what is much smaller or larger */
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(compaction.inputs[i]->order, 5 - i);
    assert_false(compaction.bottom); /* deletes hide records of older tables */
    compaction_free(&compaction);

    set_busy(version, 4); /* too few left beside each other */
    assert_none(version, &urgent_only);
}

/* Each twice as large as all that is newer together: nothing to merge among them. */
static void a_full_first_level_goes_down_whatever_it_costs(void **state)
{
    struct spec specs[COMPACTION_L0_FULL + 1] = {{1, 100, 0, "a", "z", 90000 * MIB, 10, 0, 0, 0}};
    struct compaction_policy policy = {.base_bytes = 100000 * MIB, .table_bytes = 10 * MIB};
    struct compaction compaction;
    struct version *version;
    uint64_t size = 1;

    (void)state;
    for (size_t i = COMPACTION_L0_FULL; i > 0; i--, size *= 4)
        specs[i] = (struct spec){0, i, i, "a", "z", size, 10, 0, 0, 0};
    assert_none(make_version(specs, COMPACTION_L0_FULL), &policy); /* L1 and all but the newest */
    version = make_version(specs, COMPACTION_L0_FULL + 1);
    assert_int_equal(compaction_pick(version, &policy, &compaction), 1);
    assert_int_equal(compaction.output_level, 1);
    assert_int_equal(compaction.input_count, COMPACTION_L0_FULL);
    compaction_free(&compaction);
    version_unref(version);
}

static void young_tables_never_pass_an_older_busy_one(void **state)
{
    static const struct spec specs[] = {
        {0, 1, 1, "a", "z", MIB, 10, 0, 0, 0}, {0, 2, 2, "a", "z", MIB, 10, 0, 0, 0},
        {0, 3, 3, "a", "z", MIB, 10, 0, 0, 0}, {0, 4, 4, "a", "z", MIB, 10, 0, 0, 0},
        {0, 5, 5, "a", "z", MIB, 10, 0, 0, 0},
    };
    struct version *version = make_version(specs, 5);
    struct compaction compaction;

    (void)state;
    set_busy(version, 5); /* the newest: the others may go */
    assert_int_equal(compaction_pick(version, &eager, &compaction), 1);
    assert_int_equal(compaction.input_count, 4);
    assert_false(takes(&compaction, 5));
    compaction_free(&compaction);
    set_busy(version, 3); /* those below it may still go */
    assert_int_equal(compaction_pick(version, &eager, &compaction), 1);
    assert_int_equal(compaction.input_count, 2);
    assert_true(takes(&compaction, 1) && takes(&compaction, 2));
    compaction_free(&compaction);
    set_busy(version, 1);
    assert_none(version, &eager);
}

static void a_busy_table_of_the_output_level_stops_the_merge(void **state)
{
    struct version *version =
        VERSION({0, 1, 1, "a", "d", MIB, 10, 0, 0, 0}, {0, 2, 2, "a", "d", MIB, 10, 0, 0, 0},
                {0, 3, 3, "a", "d", MIB, 10, 0, 0, 0}, {0, 4, 4, "a", "d", MIB, 10, 0, 0, 0},
                {1, 5, 0, "c", "e", MIB, 10, 0, 0, 0});

    (void)state;
    set_busy(version, 5);
    assert_none(version, &eager);
}

/* ---- size ---- */

static void a_level_above_its_target_gives_its_cheapest_table_down(void **state)
{
    struct version *version = VERSION(
        {1, 1, 1, "a", "c", 60 * MIB, 10, 0, 0, 0}, {1, 2, 2, "d", "f", 60 * MIB, 10, 0, 0, 0},
        {2, 3, 0, "a", "b", 90 * MIB, 10, 0, 0, 0}, {2, 4, 0, "e", "e", 30 * MIB, 10, 0, 0, 0},
        {2, 5, 0, "g", "h", 10 * MIB, 10, 0, 0, 0}, {3, 6, 0, "f", "f", 10 * MIB, 10, 0, 0, 0});
    struct compaction compaction;

    (void)state;
    assert_int_equal(compaction_pick(version, &urgent_only, &compaction), 1);
    assert_int_equal(compaction.reason, COMPACTION_SIZE);
    assert_int_equal(compaction.input_level, 1);
    assert_int_equal(compaction.output_level, 2);
    assert_int_equal(compaction.input_count, 1);
    assert_int_equal(compaction.inputs[0]->meta.identity.id, 2);
    assert_int_equal(compaction.output_input_count, 1);
    assert_true(takes(&compaction, 4));
    assert_false(compaction.bottom); /* table 6 lies below */
    compaction_free(&compaction);

    set_busy(version, 4); /* the other one then */
    assert_int_equal(compaction_pick(version, &urgent_only, &compaction), 1);
    assert_true(takes(&compaction, 1) && takes(&compaction, 3));
    compaction_free(&compaction);
    version_unref(version);
}

static void a_table_with_nothing_in_its_way_is_only_moved(void **state)
{
    struct version *version = VERSION({1, 1, 1, "a", "c", 60 * MIB, 10, 0, 0, 0},
                                      {1, 2, 2, "d", "f", 60 * MIB, 10, 0, 0, 0},
                                      {2, 3, 0, "a", "b", 10 * MIB, 10, 0, 0, 0});
    struct compaction compaction;

    (void)state;
    assert_int_equal(compaction_pick(version, &urgent_only, &compaction), 1);
    assert_true(takes(&compaction, 2));
    assert_int_equal(compaction.output_input_count, 0);
    assert_true(compaction.trivial_move);
    compaction_free(&compaction);
    version_unref(version);

    /* but not past the chance to drop its deletes */
    version = VERSION({1, 1, 1, "a", "c", 60 * MIB, 10, 0, 0, 0},
                      {1, 2, 2, "d", "f", 60 * MIB, 10, 1, 0, 0},
                      {2, 3, 0, "a", "b", 10 * MIB, 10, 0, 0, 0});
    assert_int_equal(compaction_pick(version, &urgent_only, &compaction), 1);
    assert_true(takes(&compaction, 2));
    assert_true(compaction.bottom);
    assert_false(compaction.trivial_move);
    compaction_free(&compaction);
    version_unref(version);
}

static void the_fullest_level_comes_first(void **state)
{
    struct version *version = VERSION(
        {0, 1, 11, "a", "z", MIB, 10, 0, 0, 0}, {0, 2, 12, "a", "z", MIB, 10, 0, 0, 0},
        {0, 3, 13, "a", "z", MIB, 10, 0, 0, 0}, {0, 4, 14, "a", "z", MIB, 10, 0, 0, 0},
        {1, 5, 1, "a", "c", 300 * MIB, 10, 0, 0, 0}, {2, 6, 0, "x", "y", 10 * MIB, 10, 0, 0, 0});
    struct compaction compaction;

    (void)state;
    assert_int_equal(compaction_pick(version, &urgent_only, &compaction), 1);
    assert_int_equal(compaction.input_level,
                     1); /* three times its target; L0 has just reached it */
    compaction_free(&compaction);
    version_unref(version);
}

/* ---- relocation ---- */

static void tables_that_refer_to_a_dying_chunk_are_rewritten_in_place(void **state)
{
    static const uint64_t chunks[] = {7, 50};
    struct compaction_policy policy = urgent_only;
    struct version *version =
        VERSION({0, 1, 1, "a", "z", MIB, 10, 0, 0, 8}, {1, 2, 2, "d", "f", MIB, 10, 0, 0, 7},
                {3, 3, 3, "a", "b", MIB, 10, 0, 0, 51}, {3, 4, 4, "d", "e", MIB, 10, 0, 0, 0});
    struct compaction compaction;

    (void)state;
    policy.relocate_chunks = chunks;
    policy.relocate_count = 2;
    assert_int_equal(compaction_pick(version, &policy, &compaction), 1);
    assert_int_equal(compaction.reason, COMPACTION_RELOCATE);
    assert_int_equal(compaction.input_level, 1);
    assert_int_equal(compaction.output_level, 1);
    assert_int_equal(compaction.input_count, 1);
    assert_int_equal(compaction.output_input_count, 0);
    assert_true(takes(&compaction, 2));
    assert_false(compaction.bottom);
    assert_false(compaction.trivial_move);
    compaction_free(&compaction);
    set_busy(version, 2);
    assert_none(version, &policy);
}

/* Its copies lie in the newest chunk, which may be among the small ones that are to be merged. */
static void a_table_that_was_just_rewritten_does_not_come_before_the_others(void **state)
{
    static const uint64_t chunks[] = {7, 9, 60};
    struct compaction_policy policy = urgent_only;
    struct version *version =
        VERSION({0, 1, 1, "a", "z", MIB, 10, 0, 0, 9}, {1, 2, 2, "d", "f", MIB, 10, 0, 0, 7},
                {3, 3, 3, "a", "b", MIB, 10, 0, 0, 60});
    struct compaction compaction;

    (void)state;
    policy.relocate_chunks = chunks;
    policy.relocate_count = 3;
    for (uint64_t table = 2; table > 0; table--) {
        assert_int_equal(compaction_pick(version, &policy, &compaction), 1);
        assert_true(takes(&compaction, table));
        compaction_free(&compaction);
        policy.relocate_chunks++;
        policy.relocate_count--;
    }
    version_unref(version);
}

static void a_young_table_rewritten_in_place_keeps_its_deletes_from_older_ones(void **state)
{
    static const uint64_t chunks[] = {7};
    struct compaction_policy policy = urgent_only;
    struct version *version =
        VERSION({0, 1, 1, "a", "c", MIB, 10, 0, 0, 0}, {0, 2, 2, "b", "f", MIB, 10, 5, 0, 7});
    struct compaction compaction;

    (void)state;
    policy.relocate_chunks = chunks;
    policy.relocate_count = 1;
    assert_int_equal(compaction_pick(version, &policy, &compaction), 1);
    assert_true(takes(&compaction, 2));
    assert_false(compaction.bottom); /* table 1 is older and overlaps */
    compaction_free(&compaction);
    version_unref(version);
}

/* ---- tombstones ---- */

static void tombstones_sink_only_while_idle_and_where_they_must(void **state)
{
    static const struct spec specs[] = {
        {1, 1, 1, "a", "c", MIB, 10, 0, 50, 0},
        {1, 2, 2, "d", "f", MIB, 10, 0, 0, 0},
        {2, 3, 0, "b", "b", MIB, 10, 0, 0, 0},
        {3, 4, 0, "c", "g", MIB, 10, 0, 0, 0},
    };
    struct version *version = make_version(specs, 4);
    struct compaction compaction;

    (void)state;
    assert_int_equal(compaction_pick(version, &urgent_only, &compaction), 0);
    assert_int_equal(compaction_pick(version, &eager, &compaction), 1);
    assert_int_equal(compaction.reason, COMPACTION_TOMBSTONES);
    assert_int_equal(compaction.input_level, 1);
    assert_int_equal(compaction.output_level, 2);
    assert_true(takes(&compaction, 1) && takes(&compaction, 3));
    assert_false(compaction.bottom);
    compaction_free(&compaction);
    version_unref(version);

    version = make_version(specs, 2); /* nothing below: where it is */
    assert_int_equal(compaction_pick(version, &eager, &compaction), 1);
    assert_int_equal(compaction.input_level, 1);
    assert_int_equal(compaction.output_level, 1);
    assert_true(compaction.bottom);
    assert_false(compaction.trivial_move);
    compaction_free(&compaction);
    version_unref(version);
}

static void sinking_has_to_pay_or_to_have_waited(void **state)
{
    struct compaction compaction;
    struct version *version =
        VERSION({1, 1, 1, "a", "c", MIB, 1000, 0, 2, 0}, {2, 2, 0, "b", "b", 50 * MIB, 10, 0, 0, 0},
                {3, 3, 2, "x", "z", MIB, 10, 0, 0, 0});

    (void)state;
    assert_none(version, &eager); /* two tombstones are not worth 51 MiB */
    version =
        VERSION({1, 1, 1, "a", "c", MIB, 1000, 0, 2, 0}, {2, 2, 0, "b", "b", 50 * MIB, 10, 0, 0, 0},
                {3, 3, 9, "x", "z", MIB, 10, 0, 0, 0});
    assert_int_equal(compaction_pick(version, &eager, &compaction), 1); /* 8 flushes later */
    assert_true(takes(&compaction, 1));
    compaction_free(&compaction);
    version_unref(version);
}

static void few_deletes_do_not_sink(void **state)
{
    struct compaction compaction;
    struct version *version = VERSION({1, 1, 1, "a", "c", MIB, 1000, 249, 0, 0});

    (void)state;
    assert_none(version, &eager);
    version = VERSION({1, 1, 1, "a", "c", MIB, 1000, 250, 0, 0});
    assert_int_equal(compaction_pick(version, &eager, &compaction), 1);
    compaction_free(&compaction);
    version_unref(version);
}

/* ---- full ---- */

static void full_takes_everything_newest_first(void **state)
{
    struct version *version =
        VERSION({0, 1, 11, "a", "z", MIB, 10, 0, 0, 0}, {0, 2, 12, "a", "z", MIB, 10, 0, 0, 0},
                {1, 5, 1, "a", "c", MIB, 10, 0, 0, 0}, {3, 6, 0, "m", "y", MIB, 10, 0, 0, 0},
                {3, 7, 0, "a", "b", MIB, 10, 0, 0, 0});
    static const uint64_t expected[] = {2, 1, 5, 7, 6};
    struct compaction compaction;

    (void)state;
    assert_int_equal(compaction_pick_full(version, &compaction), 1);
    assert_int_equal(compaction.input_level, 0);
    assert_int_equal(compaction.output_level, 3);
    assert_int_equal(compaction.input_count, 3);
    assert_int_equal(compaction.output_input_count, 2);
    for (size_t i = 0; i < 5; i++)
        assert_int_equal(compaction.inputs[i]->meta.identity.id, expected[i]);
    assert_true(compaction.bottom);
    assert_false(compaction.trivial_move);
    compaction_free(&compaction);
    set_busy(version, 7);
    assert_int_equal(compaction_pick_full(version, &compaction), 0);
    version_unref(version);
}

static void full_rewrites_the_last_level_only_for_its_garbage(void **state)
{
    struct version *version =
        VERSION({2, 1, 1, "a", "c", MIB, 10, 0, 0, 0}, {2, 2, 2, "d", "f", MIB, 10, 0, 0, 0});
    struct compaction compaction;

    (void)state;
    assert_int_equal(compaction_pick_full(version, &compaction), 0);
    version_unref(version);
    version = VERSION({2, 1, 1, "a", "c", MIB, 10, 0, 0, 0}, {2, 2, 2, "d", "f", MIB, 10, 1, 0, 0});
    assert_int_equal(compaction_pick_full(version, &compaction), 1);
    assert_int_equal(compaction.input_level, 2);
    assert_int_equal(compaction.output_level, 2);
    assert_int_equal(compaction.input_count, 2);
    assert_int_equal(compaction.output_input_count, 0);
    compaction_free(&compaction);
    version_unref(version);
    version = VERSION({0, 1, 1, "a", "c", MIB, 10, 0, 0, 0}); /* never stays in L0 */
    assert_int_equal(compaction_pick_full(version, &compaction), 1);
    assert_int_equal(compaction.output_level, 1);
    compaction_free(&compaction);
    version_unref(version);
}

/* ---- any version ---- */

static int compare(const struct version_table *a, const struct version_table *b, bool a_high,
                   bool b_high)
{
    return slice_compare(buffer_slice(a_high ? &a->meta.largest : &a->meta.smallest),
                         buffer_slice(b_high ? &b->meta.largest : &b->meta.smallest));
}

static bool touches(const struct version_table *a, const struct version_table *b)
{
    return compare(a, b, false, true) <= 0 && compare(b, a, false, true) <= 0;
}

static void hull(const struct compaction *compaction, struct slice *low, struct slice *high)
{
    *low = *high = slice_of(NULL, 0);
    for (size_t i = 0; i < compaction->input_count + compaction->output_input_count; i++) {
        struct slice smallest = buffer_slice(&compaction->inputs[i]->meta.smallest);
        struct slice largest = buffer_slice(&compaction->inputs[i]->meta.largest);

        if (!low->data || slice_compare(smallest, *low) < 0)
            *low = smallest;
        if (!high->data || slice_compare(largest, *high) > 0)
            *high = largest;
    }
}

static bool reaches(const struct version_table *table, struct slice low, struct slice high)
{
    return slice_compare(buffer_slice(&table->meta.smallest), high) <= 0 &&
           slice_compare(low, buffer_slice(&table->meta.largest)) <= 0;
}

/* What the header promises of every compaction, checked against the whole version. */
static void check_compaction(const struct version *version, const struct compaction *compaction)
{
    size_t total = compaction->input_count + compaction->output_input_count;
    struct slice low, high;
    bool below = false, garbage = false;

    assert_true(compaction->input_count > 0);
    hull(compaction, &low, &high);
    for (size_t i = 0; i < total; i++) {
        const struct version_table *table = compaction->inputs[i];

        assert_false(atomic_load(&table->busy));
        assert_int_equal(table->level, i < compaction->input_count ? compaction->input_level
                                                                   : compaction->output_level);
        garbage |= table->meta.deletes > 0 || table->meta.tombstones > 0;
    }
    for (uint32_t level = 0; level < VERSION_LEVELS; level++) {
        for (size_t i = 0; i < version->counts[level]; i++) {
            const struct version_table *other = version->levels[level][i];

            if (takes(compaction, other->meta.identity.id))
                continue;
            if (level > compaction->output_level)
                below |= reaches(other, low, high);
            if (level == compaction->output_level && level > 0) {
                /* it stays beside the outputs: at most a bound is shared, and not an input's */
                assert_true(slice_compare(buffer_slice(&other->meta.largest), low) <= 0 ||
                            slice_compare(high, buffer_slice(&other->meta.smallest)) <= 0);
                for (size_t n = 0; n < compaction->input_count; n++)
                    assert_true(compaction->input_level == level ||
                                !touches(other, compaction->inputs[n]));
            }
            if (level == 0 && compaction->input_level == 0) {
                for (size_t n = 0; n < compaction->input_count; n++) {
                    bool older = other->order < compaction->inputs[n]->order &&
                                 touches(other, compaction->inputs[n]);

                    if (compaction->output_level == 0)
                        below |= older;
                    else
                        assert_false(older);
                }
            }
        }
    }
    assert_int_equal(compaction->bottom, !below);
    if (compaction->trivial_move) {
        assert_int_equal(total, 1);
        assert_int_not_equal(compaction->input_level, compaction->output_level);
        assert_false(compaction->bottom && garbage);
    }
}

struct name {
    char text[8];
};

static struct version *random_version(uint64_t *random)
{
    static struct name names[512];
    struct spec specs[256];
    size_t count = 0, used = 0;
    uint64_t id = 1, young = seed_below(random, 7);

    for (uint32_t level = 0; level < VERSION_LEVELS; level++) {
        uint64_t at = seed_below(random, 300);

        for (uint64_t i = 0; i < (level == 0 ? young : 9) && at < 990; i++) {
            uint64_t end = at + seed_below(random, level == 0 ? 990 - at : 40);

            snprintf(names[used].text, 8, "%03u", (unsigned)(at % 1000));
            snprintf(names[used + 1].text, 8, "%03u", (unsigned)(end % 1000));
            specs[count] = (struct spec){.level = level,
                                         .id = id,
                                         .order = level == 0 ? 1000 + id : id % 20,
                                         .smallest = names[used].text,
                                         .largest = names[used + 1].text,
                                         .size = (1 + seed_below(random, 200)) * MIB / 4,
                                         .records = 1000};
            if (seed_below(random, 3) == 0) {
                specs[count].deletes = seed_below(random, 1000);
                specs[count].tombstones = seed_below(random, 3);
            }
            specs[count].use = seed_below(random, 20);
            used += 2;
            count++;
            id++;
            at = level == 0 ? seed_below(random, 900)
                            : end + (seed_below(random, 2) ? 1 + seed_below(random, 90) : 0);
            if (level > 0 && at == end &&
                slice_equal(slice_of_string(names[used - 2].text),
                            slice_of_string(names[used - 1].text)))
                at++;
        }
    }
    return make_version(specs, count);
}

static void whatever_is_picked_is_safe(void **state)
{
    uint64_t random = seed_start("whatever_is_picked_is_safe");
    unsigned reasons[COMPACTION_RELOCATE + 1] = {0};

    (void)state;
    for (int round = 0; round < 3000; round++) {
        struct version *version = random_version(&random);
        uint64_t chunk = 1 + seed_below(&random, 30);
        struct compaction_policy policy = {
            .base_bytes = (1 + seed_below(&random, 400)) * MIB,
            .table_bytes = 16 * MIB,
            .idle = seed_below(&random, 2),
            .relocate_chunks = &chunk,
            .relocate_count = seed_below(&random, 2),
        };
        struct compaction compaction;

        for (uint64_t busy = seed_below(&random, 4); busy > 0; busy--)
            set_busy(version, 1 + seed_below(&random, 40));
        if (compaction_pick(version, &policy, &compaction) == 1) {
            reasons[compaction.reason]++;
            check_compaction(version, &compaction);
            compaction_free(&compaction);
        } else {
            reasons[COMPACTION_NONE]++;
        }
        version_unref(version);
    }
    for (int reason = COMPACTION_NONE; reason <= COMPACTION_RELOCATE; reason++)
        assert_true(reasons[reason] > 0);
}

/* Stand-in for the merge: one table over the whole range, without garbage where it may go. */
static struct version *carry_out(struct version *version, const struct compaction *compaction,
                                 uint64_t id)
{
    size_t total = compaction->input_count + compaction->output_input_count;
    uint64_t *remove = calloc(total, sizeof *remove);
    struct table_meta meta = {.identity = {.id = id, .kind = CHUNK_TABLE}};
    struct version_table *output;
    struct version *next;
    struct slice low, high;
    uint64_t order = 0;

    hull(compaction, &low, &high);
    assert_int_equal(buffer_assign(&meta.smallest, low.data, low.size), 0);
    assert_int_equal(buffer_assign(&meta.largest, high.data, high.size), 0);
    for (size_t i = 0; i < total; i++) {
        const struct table_meta *from = &compaction->inputs[i]->meta;

        remove[i] = from->identity.id;
        meta.identity.file_size_bytes += from->identity.file_size_bytes;
        meta.records += from->records;
        meta.deletes += compaction->bottom ? 0 : from->deletes;
        meta.tombstones += compaction->bottom ? 0 : from->tombstones;
        if (i < compaction->input_count && compaction->inputs[i]->order > order)
            order = compaction->inputs[i]->order;
    }
    output = version_table_new(&no_source, compaction->output_level, order, &meta);
    assert_int_equal(version_build(version, remove, total, &output, 1, &next), 0);
    version_table_unref(output);
    version_unref(version);
    free(remove);
    return next;
}

static void picking_on_and_on_comes_to_rest(void **state)
{
    uint64_t random = seed_start("picking_on_and_on_comes_to_rest");

    (void)state;
    for (int round = 0; round < 200; round++) {
        struct version *version = random_version(&random);
        struct compaction_policy policy = {
            .base_bytes = 30 * MIB, .table_bytes = 16 * MIB, .idle = true};
        struct compaction compaction;
        uint64_t steps = 0, target = policy.base_bytes;

        while (compaction_pick(version, &policy, &compaction) == 1) {
            assert_true(++steps < 500);
            version = carry_out(version, &compaction, 100000 + steps);
            compaction_free(&compaction);
        }
        assert_true(version->counts[0] < COMPACTION_L0_FULL);
        for (uint32_t level = 1; level + 1 < VERSION_LEVELS; level++, target *= 10)
            assert_true(version->level_bytes[level] <= target);
        version_unref(version);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(three_young_tables_wait_for_a_fourth),
        cmocka_unit_test(four_young_tables_merge_with_what_they_touch),
        cmocka_unit_test(small_young_tables_merge_with_each_other),
        cmocka_unit_test(a_full_first_level_goes_down_whatever_it_costs),
        cmocka_unit_test(young_tables_never_pass_an_older_busy_one),
        cmocka_unit_test(a_busy_table_of_the_output_level_stops_the_merge),
        cmocka_unit_test(a_level_above_its_target_gives_its_cheapest_table_down),
        cmocka_unit_test(a_table_with_nothing_in_its_way_is_only_moved),
        cmocka_unit_test(the_fullest_level_comes_first),
        cmocka_unit_test(tables_that_refer_to_a_dying_chunk_are_rewritten_in_place),
        cmocka_unit_test(a_table_that_was_just_rewritten_does_not_come_before_the_others),
        cmocka_unit_test(a_young_table_rewritten_in_place_keeps_its_deletes_from_older_ones),
        cmocka_unit_test(tombstones_sink_only_while_idle_and_where_they_must),
        cmocka_unit_test(sinking_has_to_pay_or_to_have_waited),
        cmocka_unit_test(few_deletes_do_not_sink),
        cmocka_unit_test(full_takes_everything_newest_first),
        cmocka_unit_test(full_rewrites_the_last_level_only_for_its_garbage),
        cmocka_unit_test(whatever_is_picked_is_safe),
        cmocka_unit_test(picking_on_and_on_comes_to_rest),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
