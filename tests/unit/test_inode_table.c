/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_inode_table.c - lookups, opens and orphans against a plain model, and the memory it takes
 */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "fuse/inode_table.h"
#include "tests/lib/seed.h"

#define VERSION (UINT64_C(1) << 63)

static int setup(void **state)
{
    *state = inode_table_new();
    return *state != NULL ? 0 : -1;
}

static int teardown(void **state)
{
    inode_table_free(*state);
    return 0;
}

static uint64_t nodes_in(struct inode_table *table)
{
    struct inode_table_counts counts;

    inode_table_get_counts(table, &counts);
    return counts.nodes;
}

static bool is_held(struct inode_table *table, uint64_t node)
{
    uint64_t ino, id;

    return inode_table_find(table, node, &ino, &id);
}

static void a_node_is_held_until_every_lookup_is_taken_back(void **state)
{
    struct inode_table *table = *state;

    for (int i = 0; i < 3; i++)
        assert_int_equal(inode_table_lookup(table, 5, 0, 0), 0);
    assert_false(inode_table_forget(table, 5, 2));
    assert_true(is_held(table, 5));
    assert_false(inode_table_forget(table, 5, 1));
    assert_false(is_held(table, 5));
    assert_int_equal(nodes_in(table), 0);
}

static void forgetting_more_than_was_counted_is_capped(void **state)
{
    struct inode_table *table = *state;

    assert_int_equal(inode_table_lookup(table, 5, 0, 0), 0);
    assert_false(inode_table_forget(table, 5, UINT64_MAX));
    assert_false(inode_table_forget(table, 5, 1));
    assert_false(inode_table_forget(table, 6, 1));
    assert_int_equal(inode_table_lookup(table, 5, 0, 0), 0);
    assert_true(is_held(table, 5));
}

static void an_orphan_is_reaped_by_whoever_lets_go_last(void **state)
{
    struct inode_table *table = *state;

    assert_true(inode_table_mark_orphan(table, 1)); /* held by nobody */
    assert_int_equal(inode_table_lookup(table, 2, 0, 0), 0);
    assert_int_equal(inode_table_open(table, 2, true), 1);
    assert_false(inode_table_mark_orphan(table, 2));
    assert_false(inode_table_forget(table, 2, 1)); /* still open */
    assert_true(inode_table_release(table, 2, true));
    assert_int_equal(inode_table_lookup(table, 3, 0, 0), 0);
    assert_int_equal(inode_table_open(table, 3, false), 1);
    assert_false(inode_table_mark_orphan(table, 3));
    assert_false(inode_table_release(table, 3, false));
    assert_true(inode_table_forget(table, 3, 1));
}

static void an_orphan_that_got_a_name_is_not_reaped(void **state)
{
    struct inode_table *table = *state;

    assert_int_equal(inode_table_lookup(table, 2, 0, 0), 0);
    assert_false(inode_table_mark_orphan(table, 2));
    inode_table_unmark_orphan(table, 2);
    assert_false(inode_table_forget(table, 2, 1));
}

static void where_a_file_was_found_moves_to_newer_snapshots_only(void **state)
{
    struct inode_table *table = *state;
    uint64_t ino, id;

    assert_int_equal(inode_table_lookup(table, VERSION | 9, 70, 4), 0);
    assert_int_equal(inode_table_lookup(table, VERSION | 9, 70, 2), 0);
    assert_true(inode_table_find(table, VERSION | 9, &ino, &id));
    assert_int_equal(ino, 70);
    assert_int_equal(id, 4);
    assert_int_equal(inode_table_held(table, 4), 1);
    assert_int_equal(inode_table_held(table, 2), 0);
    assert_int_equal(inode_table_lookup(table, VERSION | 9, 70, 6), 0);
    assert_true(inode_table_find(table, VERSION | 9, &ino, &id));
    assert_int_equal(id, 6);
    assert_int_equal(inode_table_held(table, 4), 0);
    assert_int_equal(inode_table_held(table, 6), 1);
    assert_false(inode_table_forget(table, VERSION | 9, 3));
    assert_int_equal(inode_table_held(table, 6), 0);
}

static void the_largest_numbers_fit(void **state)
{
    const uint64_t ino_max = (UINT64_C(1) << 38) - 1, id_max = (UINT64_C(1) << 24) - 1;
    struct inode_table *table = *state;
    uint64_t ino, id;

    assert_int_equal(inode_table_lookup(table, UINT64_MAX, ino_max, id_max), 0);
    assert_false(inode_table_mark_orphan(table, UINT64_MAX));
    assert_true(inode_table_find(table, UINT64_MAX, &ino, &id));
    assert_int_equal(ino, ino_max);
    assert_int_equal(id, id_max);
    assert_true(inode_table_forget(table, UINT64_MAX, 1));
}

static void writable_nodes_are_found_among_many(void **state)
{
    struct inode_table *table = *state;
    uint64_t nodes[4];

    for (uint64_t node = 1; node <= 5000; node++)
        assert_int_equal(inode_table_lookup(table, node, 0, 0), 0);
    assert_int_equal(inode_table_open(table, 17, true), 1);
    assert_int_equal(inode_table_open(table, 17, true), 0); /* not the first */
    assert_int_equal(inode_table_open(table, 18, false), 1);
    assert_int_equal(inode_table_open(table, 4000, true), 1);
    assert_int_equal(inode_table_writable(table, nodes, 4), 2);
    assert_true((nodes[0] == 17 && nodes[1] == 4000) || (nodes[0] == 4000 && nodes[1] == 17));
    assert_int_equal(inode_table_writable(table, nodes, 1), 2); /* says how many there are */
    assert_false(inode_table_release(table, 17, true));
    assert_int_equal(inode_table_writable(table, nodes, 4), 2);
    assert_false(inode_table_release(table, 17, true));
    assert_int_equal(inode_table_writable(table, nodes, 4), 1);
    assert_int_equal(nodes[0], 4000);
}

static void memory_follows_what_is_held_at_64_bytes_a_node(void **state)
{
    struct inode_table *table = *state;
    struct inode_table_counts counts;
    const uint64_t count = 200000;

    inode_table_get_counts(table, &counts);
    assert_true(counts.memory_bytes < 64 * 1024);
    for (uint64_t node = 1; node <= count; node++) {
        assert_int_equal(inode_table_lookup(table, node, 0, 0), 0);
        if (node % 10007 == 0) {
            inode_table_get_counts(table, &counts);
            assert_int_equal(counts.nodes, node);
            assert_true(counts.memory_bytes < 64 * node + 64 * 1024);
        }
    }
    for (uint64_t node = 1; node <= count; node++) {
        assert_false(inode_table_forget(table, node, 1));
        if (node % 10007 == 0) {
            inode_table_get_counts(table, &counts);
            assert_true(counts.memory_bytes < 65 * (count - node) + 128 * 1024);
        }
    }
    inode_table_get_counts(table, &counts);
    assert_int_equal(counts.nodes, 0);
    assert_true(counts.memory_bytes < 128 * 1024);
}

/* ---- against a model ---- */

#define MODEL_NODES 300

struct model_entry {
    uint64_t lookups;
    uint32_t open, writable;
    bool orphan, was_open;
};

static bool model_held(const struct model_entry *entry)
{
    return entry->lookups > 0 || entry->open > 0;
}

/* What letting go returns, and what it does to the mark. */
static bool model_settle(struct model_entry *entry)
{
    bool reap = !model_held(entry) && entry->orphan;

    if (!model_held(entry))
        entry->orphan = entry->was_open = false;
    return reap;
}

static uint64_t model_node(uint64_t index)
{
    /* Live numbers, directories and versions, close together. */
    return index % 3 == 0   ? index + 1
           : index % 3 == 1 ? (UINT64_C(1) << 62) | (index + 1)
                            : VERSION | (index + 1);
}

static void model_step(struct inode_table *table, struct model_entry *model, uint64_t *seed)
{
    uint64_t index = seed_below(seed, MODEL_NODES);
    struct model_entry *entry = &model[index];
    uint64_t node = model_node(index);
    uint64_t take;
    bool writable = seed_below(seed, 2) == 0;

    switch (seed_below(seed, 6)) {
    case 0:
        assert_int_equal(inode_table_lookup(table, node, 0, 0), 0);
        entry->lookups++;
        break;
    case 1:
    case 2:
        take = seed_below(seed, 3);
        if (!model_held(entry)) {
            assert_false(inode_table_forget(table, node, take));
            break;
        }
        entry->lookups -= take < entry->lookups ? take : entry->lookups;
        assert_int_equal(inode_table_forget(table, node, take), model_settle(entry));
        break;
    case 3:
        assert_int_equal(inode_table_open(table, node, writable), !entry->was_open);
        entry->was_open = true;
        entry->open++;
        entry->writable += writable;
        break;
    case 4:
        if (entry->open == 0)
            break;
        writable = entry->writable == entry->open || (entry->writable > 0 && writable);
        entry->open--;
        entry->writable -= writable;
        assert_int_equal(inode_table_release(table, node, writable), model_settle(entry));
        break;
    default:
        assert_int_equal(inode_table_mark_orphan(table, node), !model_held(entry));
        entry->orphan = model_held(entry);
        break;
    }
}

static void model_compare(struct inode_table *table, const struct model_entry *model)
{
    struct inode_table_counts counts, expected = {0};

    for (uint64_t index = 0; index < MODEL_NODES; index++) {
        assert_int_equal(is_held(table, model_node(index)), model_held(&model[index]));
        expected.nodes += model_held(&model[index]);
        expected.open_files += model[index].open > 0;
        expected.open_writable += model[index].writable > 0;
        expected.orphans += model[index].orphan;
    }
    inode_table_get_counts(table, &counts);
    assert_int_equal(counts.nodes, expected.nodes);
    assert_int_equal(counts.open_files, expected.open_files);
    assert_int_equal(counts.open_writable, expected.open_writable);
    assert_int_equal(counts.orphans, expected.orphans);
}

static void random_work_equals_the_model(void **state)
{
    struct model_entry model[MODEL_NODES] = {0};
    uint64_t seed = seed_start(__func__);

    for (unsigned step = 0; step < 60000; step++) {
        model_step(*state, model, &seed);
        if (step % 1000 == 0)
            model_compare(*state, model);
    }
    model_compare(*state, model);
}

static void count_call(void *context, uint64_t node)
{
    assert_true((node & VERSION) != 0);
    ++*(size_t *)context;
}

static void a_node_made_by_hashing_is_in_one_place(void **state)
{
    struct inode_table *table = *state;
    uint64_t node = UINT64_C(3) << 62 | 5, ino, id;

    assert_int_equal(inode_table_lookup(table, node, 7, 2), 0);
    assert_int_equal(inode_table_lookup(table, node, 7, 2), 0);
    assert_int_equal(inode_table_lookup(table, node, 8, 2), -ESTALE);
    assert_int_equal(inode_table_lookup(table, node, 7, 3), -ESTALE);
    assert_true(inode_table_find(table, node, &ino, &id));
    assert_int_equal(ino, 7);
    assert_int_equal(id, 2);
    inode_table_forget(table, node, 2);
    assert_int_equal(inode_table_lookup(table, node, 8, 3), 0);
}

static void walks_meet_each_matching_node_once(void **state)
{
    struct inode_table *table = *state;
    size_t calls = 0;

    for (uint64_t node = 1; node <= 40000; node++) {
        assert_int_equal(inode_table_lookup(table, VERSION | node, node, 1), 0);
        assert_int_equal(inode_table_lookup(table, node, 0, 0), 0);
    }
    inode_table_each_version(table, count_call, &calls);
    assert_int_equal(calls, 40000);
}

/* ---- threads ---- */

static void *look_up_and_forget(void *context)
{
    struct inode_table *table = context;

    for (unsigned round = 0; round < 20; round++) {
        for (uint64_t node = 1; node <= 500; node++)
            if (inode_table_lookup(table, node, 0, 0) != 0)
                return context;
        for (uint64_t node = 1; node <= 500; node++)
            (void)inode_table_forget(table, node, 1);
    }
    return NULL;
}

static void threads_leave_nothing_behind(void **state)
{
    pthread_t threads[4];

    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, look_up_and_forget, *state), 0);
    for (int i = 0; i < 4; i++) {
        void *result;

        assert_int_equal(pthread_join(threads[i], &result), 0);
        assert_null(result);
    }
    assert_int_equal(nodes_in(*state), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_node_is_held_until_every_lookup_is_taken_back),
        TEST(forgetting_more_than_was_counted_is_capped),
        TEST(an_orphan_is_reaped_by_whoever_lets_go_last),
        TEST(an_orphan_that_got_a_name_is_not_reaped),
        TEST(where_a_file_was_found_moves_to_newer_snapshots_only),
        TEST(the_largest_numbers_fit),
        TEST(writable_nodes_are_found_among_many),
        TEST(memory_follows_what_is_held_at_64_bytes_a_node),
        TEST(random_work_equals_the_model),
        TEST(a_node_made_by_hashing_is_in_one_place),
        TEST(walks_meet_each_matching_node_once),
        TEST(threads_leave_nothing_behind),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
