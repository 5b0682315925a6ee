/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_ll_handles.c - the counting set of nodes against a plain array of counts
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>

#include "fuse/ll_handles.h"
#include "tests/lib/seed.h"

#define NODES 300
#define STEPS 200000

/* Low, in snapshots, and multiples of large powers of two: what a weak hash would pile up. */
static uint64_t node_at(unsigned index)
{
    switch (index % 3) {
    case 0:
        return index + 1;
    case 1:
        return UINT64_C(1) << 63 | index;
    default:
        return (uint64_t)index << 32;
    }
}

static void check_list(struct ll_handles *handles, const unsigned counts[NODES])
{
    size_t count = 1, expected = 0;
    uint64_t *nodes;

    assert_int_equal(ll_handles_list(handles, &nodes, &count), 0);
    for (unsigned i = 0; i < NODES; i++) {
        unsigned seen = 0;

        for (size_t j = 0; j < count; j++)
            seen += nodes[j] == node_at(i);
        assert_int_equal(seen, counts[i] > 0);
        expected += counts[i] > 0;
    }
    assert_int_equal(count, expected);
    free(nodes);
}

static void it_holds_exactly_what_was_added_and_not_removed(void **state)
{
    struct ll_handles *handles = ll_handles_new();
    unsigned counts[NODES] = {0};
    uint64_t seed = seed_start("ll_handles");

    (void)state;
    assert_non_null(handles);
    for (unsigned step = 0; step < STEPS; step++) {
        unsigned index = (unsigned)seed_below(&seed, NODES);
        /* Fill, then drain, again and again: both ways of resizing. */
        bool fill = step / 5000 % 2 == 0;

        if (seed_below(&seed, 4) != 0 ? fill : !fill) {
            assert_int_equal(ll_handles_add(handles, node_at(index)), counts[index] == 0);
            counts[index]++;
        } else if (counts[index] > 0) {
            ll_handles_remove(handles, node_at(index));
            counts[index]--;
        }
        if (step % 2500 == 0)
            check_list(handles, counts);
    }
    check_list(handles, counts);
    ll_handles_free(handles);
}

static void an_empty_one_lists_nothing(void **state)
{
    struct ll_handles *handles = ll_handles_new();
    uint64_t *nodes;
    size_t count;

    (void)state;
    assert_int_equal(ll_handles_list(handles, &nodes, &count), 0);
    assert_null(nodes);
    assert_int_equal(count, 0);
    ll_handles_free(handles);
    ll_handles_free(NULL);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_holds_exactly_what_was_added_and_not_removed),
        cmocka_unit_test(an_empty_one_lists_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
