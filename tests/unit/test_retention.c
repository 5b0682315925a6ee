/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_retention.c - which snapshots a policy keeps: by example, and against the definition
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "snapshot/retention.h"
#include "tests/lib/seed.h"

#define CANDIDATES_MAX 60
#define HISTORIES      3000

static struct retention_candidate at(time_t when, uint64_t id)
{
    return (struct retention_candidate){.created = {.tv_sec = when}, .id = id};
}

/* 2026-11-20 was a Friday. */
static time_t moment(int year, int month, int day, int hour)
{
    struct tm utc = {.tm_year = year - 1900, .tm_mon = month - 1, .tm_mday = day, .tm_hour = hour};

    return timegm(&utc);
}

static void the_newest_of_each_period_stands_for_it(void **state)
{
    const struct retention_candidate candidates[] = {
        at(moment(2026, 11, 20, 9), 1), at(moment(2026, 11, 20, 23), 2),
        at(moment(2026, 11, 18, 5), 3), at(moment(2026, 11, 18, 4), 4),
        at(moment(2026, 11, 1, 0), 5),
    };
    const struct retention_policy policy = {.keep = {[RETENTION_DAILY] = 2}};
    struct retention_decision decisions[5];

    (void)state;
    assert_int_equal(retention_decide(&policy, candidates, 5, decisions), 0);
    assert_false(decisions[0].keep);
    assert_true(decisions[0].verdicts[RETENTION_DAILY].shadowed);
    assert_int_equal(decisions[0].verdicts[RETENTION_DAILY].newer, 1);
    assert_true(decisions[1].keep);
    assert_int_equal(decisions[1].verdicts[RETENTION_DAILY].place, 1);
    /* A day without a snapshot does not count. */
    assert_true(decisions[2].keep);
    assert_int_equal(decisions[2].verdicts[RETENTION_DAILY].place, 2);
    assert_false(decisions[3].keep);
    assert_false(decisions[4].keep);
    assert_false(decisions[4].verdicts[RETENTION_DAILY].shadowed);
}

static void a_held_one_is_kept_and_stands_for_its_period(void **state)
{
    struct retention_candidate candidates[] = {at(moment(2026, 11, 20, 9), 1),
                                               at(moment(2026, 11, 20, 8), 2), at(0, 3)};
    const struct retention_policy policy = {.keep = {[RETENTION_DAILY] = 1}};
    struct retention_decision decisions[3];

    (void)state;
    candidates[0].held = candidates[2].held = true;
    assert_int_equal(retention_decide(&policy, candidates, 3, decisions), 0);
    assert_true(decisions[0].keep);
    assert_int_equal(decisions[0].verdicts[RETENTION_DAILY].place, 1);
    assert_false(decisions[1].keep);
    assert_true(decisions[2].keep);
    assert_int_equal(decisions[2].verdicts[RETENTION_DAILY].place, 0);
}

static void weeks_begin_on_monday_and_may_reach_over_the_new_year(void **state)
{
    char period[RETENTION_PERIOD_SIZE];

    (void)state;
    retention_period(RETENTION_WEEKLY, moment(2026, 12, 28, 0), period);
    assert_string_equal(period, "2026-W53");
    retention_period(RETENTION_WEEKLY, moment(2027, 1, 3, 23), period);
    assert_string_equal(period, "2026-W53");
    retention_period(RETENTION_WEEKLY, moment(2027, 1, 4, 0), period);
    assert_string_equal(period, "2027-W01");
    retention_period(RETENTION_HOURLY, moment(2026, 11, 20, 23), period);
    assert_string_equal(period, "2026-11-20T23");
    retention_period(RETENTION_LAST, 0, period);
    assert_string_equal(period, "");
}

static void two_of_one_moment_are_told_apart_by_their_ids(void **state)
{
    const struct retention_candidate candidates[] = {at(5, 7), at(5, 9), at(5, 8)};
    const struct retention_policy policy = {.keep = {[RETENTION_LAST] = 2}};
    struct retention_decision decisions[3];

    (void)state;
    assert_int_equal(retention_decide(&policy, candidates, 3, decisions), 0);
    assert_false(decisions[0].keep);
    assert_int_equal(decisions[1].verdicts[RETENTION_LAST].place, 1);
    assert_int_equal(decisions[2].verdicts[RETENTION_LAST].place, 2);
}

static void a_policy_of_zeros_is_empty(void **state)
{
    struct retention_policy policy = {.keep = {0}};

    (void)state;
    assert_true(retention_policy_is_empty(&policy));
    policy.keep[RETENTION_YEARLY] = 1;
    assert_false(retention_policy_is_empty(&policy));
}

/* ---- against the definition ---- */

/* A number for the period: counted from the calendar, not from text. */
static int64_t period_number(enum retention_rule rule, time_t when)
{
    struct tm utc;

    gmtime_r(&when, &utc);
    switch (rule) {
    case RETENTION_HOURLY:
        return when / 3600;
    case RETENTION_DAILY:
        return when / 86400;
    case RETENTION_WEEKLY:
        return (when / 86400 + 3) / 7; /* the epoch was a Thursday */
    case RETENTION_MONTHLY:
        return utc.tm_year * 12 + utc.tm_mon;
    case RETENTION_YEARLY:
        return utc.tm_year;
    default:
        return 0;
    }
}

static bool is_newer(const struct retention_candidate *a, const struct retention_candidate *b)
{
    if (a->created.tv_sec != b->created.tv_sec)
        return a->created.tv_sec > b->created.tv_sec;
    return a->id > b->id;
}

/* The place of the candidate among those the rule keeps, 0: it does not. */
static uint32_t expected_place(enum retention_rule rule, uint32_t keep,
                               const struct retention_candidate *candidates, size_t count,
                               size_t index)
{
    const struct retention_candidate *self = &candidates[index];
    int64_t mine = period_number(rule, self->created.tv_sec), seen[CANDIDATES_MAX];
    uint32_t newer = 0;

    for (size_t i = 0; i < count; i++) {
        int64_t period = period_number(rule, candidates[i].created.tv_sec);
        bool known = false;

        if (i == index || !is_newer(&candidates[i], self))
            continue;
        if (rule == RETENTION_LAST) {
            newer++;
            continue;
        }
        if (period == mine)
            return 0;
        for (uint32_t j = 0; j < newer; j++)
            known |= seen[j] == period;
        if (!known)
            seen[newer++] = period;
    }
    return newer < keep ? newer + 1 : 0;
}

static void random_histories_are_decided_as_the_definition_says(void **state)
{
    uint64_t random = seed_start("retention");

    (void)state;
    for (int history = 0; history < HISTORIES; history++) {
        static const uint64_t spans[] = {7200, 86400 * 3, 86400 * 40, 86400 * 900};
        struct retention_candidate candidates[CANDIDATES_MAX];
        struct retention_decision decisions[CANDIDATES_MAX];
        struct retention_policy policy;
        size_t count = seed_below(&random, CANDIDATES_MAX + 1);
        uint64_t span = spans[seed_below(&random, 4)];
        uint64_t start = seed_below(&random, UINT64_C(4000000000));

        for (size_t i = 0; i < count; i++) {
            candidates[i] = at((time_t)(start + seed_below(&random, span)), i + 1);
            candidates[i].held = seed_below(&random, 10) == 0;
        }
        for (int rule = 0; rule < RETENTION_RULES; rule++)
            policy.keep[rule] = (uint32_t)seed_below(&random, 5);
        assert_int_equal(retention_decide(&policy, candidates, count, decisions), 0);
        for (size_t i = 0; i < count; i++) {
            bool keep = candidates[i].held;

            for (int rule = 0; rule < RETENTION_RULES; rule++) {
                uint32_t place = expected_place((enum retention_rule)rule, policy.keep[rule],
                                                candidates, count, i);

                assert_int_equal(decisions[i].verdicts[rule].place, place);
                keep |= place > 0;
            }
            assert_int_equal(decisions[i].keep, keep);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_newest_of_each_period_stands_for_it),
        cmocka_unit_test(a_held_one_is_kept_and_stands_for_its_period),
        cmocka_unit_test(weeks_begin_on_monday_and_may_reach_over_the_new_year),
        cmocka_unit_test(two_of_one_moment_are_told_apart_by_their_ids),
        cmocka_unit_test(a_policy_of_zeros_is_empty),
        cmocka_unit_test(random_histories_are_decided_as_the_definition_says),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
