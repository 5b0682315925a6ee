/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_ll_yield.c - when threads of rings yield: looks in turn, as the watching thread takes them
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "fuse/ll_yield.h"

#define BUSY (10 * LL_YIELD_REQUESTS_A_LOOK)

struct watch {
    struct ll_yield_state state;
    uint64_t now_ns;
};

static bool look(struct watch *watch, uint64_t requests, bool starved)
{
    const struct ll_yield_sample sample = {
        .now_ns = watch->now_ns += LL_YIELD_INTERVAL_NS,
        .elapsed_ns = LL_YIELD_INTERVAL_NS,
        .requests = requests,
        .starved = starved,
        .worthwhile = true,
    };

    return ll_yield_decide(&watch->state, &sample);
}

/* A thread computes on the CPU from now on: how long do requests have the ordinary priority after
 * each time that they were delayed? */
static uint64_t ordinary_ns_after_starving(struct watch *watch)
{
    uint64_t from_ns;

    while (!look(watch, BUSY, false))
        continue;
    assert_false(look(watch, 0, true));
    from_ns = watch->now_ns;
    while (!look(watch, BUSY, false))
        continue;
    return watch->now_ns - from_ns;
}

static void few_requests_change_nothing(void **state)
{
    struct watch watch = {0};

    (void)state;
    for (int i = 0; i < 1000; i++)
        assert_false(look(&watch, LL_YIELD_REQUESTS_A_LOOK - 1, false));
}

static void requests_of_the_wrong_kind_end_it(void **state)
{
    struct watch watch = {0};
    struct ll_yield_sample sample = {.elapsed_ns = LL_YIELD_INTERVAL_NS, .requests = BUSY};

    (void)state;
    assert_true(look(&watch, BUSY, false));
    sample.now_ns = watch.now_ns + LL_YIELD_INTERVAL_NS;
    assert_false(ll_yield_decide(&watch.state, &sample));
    sample.now_ns += LL_YIELD_INTERVAL_NS;
    assert_false(ll_yield_decide(&watch.state, &sample));
}

static void many_requests_begin_it_and_few_end_it(void **state)
{
    struct watch watch = {0};

    (void)state;
    assert_true(look(&watch, BUSY, false));
    assert_true(look(&watch, BUSY, false));
    assert_false(look(&watch, 0, false));
    assert_true(look(&watch, BUSY, false)); /* a pause is no reason to wait */
}

static void starving_ends_it_at_the_next_look(void **state)
{
    struct watch watch = {0};

    (void)state;
    assert_true(look(&watch, BUSY, false));
    assert_false(look(&watch, 0, true));
    assert_false(look(&watch, BUSY, false)); /* and not again at once */
    assert_true(ordinary_ns_after_starving(&watch) >= LL_YIELD_BACKOFF_MIN_NS);
}

static void r9_starving_again_doubles_the_wait_up_to_its_bound(void **state)
{
    struct watch watch = {0};
    uint64_t expected_ns = LL_YIELD_BACKOFF_MIN_NS;

    (void)state;
    for (int i = 0; i < 100; i++) {
        uint64_t ordinary_ns = ordinary_ns_after_starving(&watch);

        assert_in_range(ordinary_ns, expected_ns, expected_ns + LL_YIELD_INTERVAL_NS);
        if (expected_ns < LL_YIELD_BACKOFF_MAX_NS)
            expected_ns *= 2;
    }
    assert_int_equal(expected_ns, LL_YIELD_BACKOFF_MAX_NS);
}

static void a_good_time_is_forgiving(void **state)
{
    struct watch watch = {0};

    (void)state;
    for (int i = 0; i < 10; i++)
        (void)ordinary_ns_after_starving(&watch);
    for (uint64_t ns = 0; ns <= LL_YIELD_SETTLED_NS; ns += LL_YIELD_INTERVAL_NS)
        assert_true(look(&watch, BUSY, false));
    assert_in_range(ordinary_ns_after_starving(&watch), LL_YIELD_BACKOFF_MIN_NS,
                    LL_YIELD_BACKOFF_MIN_NS + LL_YIELD_INTERVAL_NS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(few_requests_change_nothing),
        cmocka_unit_test(requests_of_the_wrong_kind_end_it),
        cmocka_unit_test(many_requests_begin_it_and_few_end_it),
        cmocka_unit_test(starving_ends_it_at_the_next_look),
        cmocka_unit_test(r9_starving_again_doubles_the_wait_up_to_its_bound),
        cmocka_unit_test(a_good_time_is_forgiving),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
