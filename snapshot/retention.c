/* SPDX-License-Identifier: Apache-2.0 */
/*
 * retention.c - one walk from the newest to the oldest for each rule
 */
#include "snapshot/retention.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

const char *const retention_rule_names[RETENTION_RULES] = {"last",   "hourly",  "daily",
                                                           "weekly", "monthly", "yearly"};

static const char *const period_formats[RETENTION_RULES] = {"",       "%Y-%m-%dT%H", "%Y-%m-%d",
                                                            "%G-W%V", "%Y-%m",       "%Y"};

bool retention_policy_is_empty(const struct retention_policy *policy)
{
    for (int rule = 0; rule < RETENTION_RULES; rule++)
        if (policy->keep[rule] > 0)
            return false;
    return true;
}

void retention_period(enum retention_rule rule, time_t when, char to[RETENTION_PERIOD_SIZE])
{
    struct tm utc = {0};

    to[0] = '\0';
    (void)gmtime_r(&when, &utc);
    (void)strftime(to, RETENTION_PERIOD_SIZE, period_formats[rule], &utc);
}

struct ordered {
    const struct retention_candidate *candidate;
    size_t index;
};

/* Newest first. */
static int compare_age(const void *a, const void *b)
{
    const struct retention_candidate *left = ((const struct ordered *)a)->candidate;
    const struct retention_candidate *right = ((const struct ordered *)b)->candidate;

    if (left->created.tv_sec != right->created.tv_sec)
        return left->created.tv_sec > right->created.tv_sec ? -1 : 1;
    if (left->created.tv_nsec != right->created.tv_nsec)
        return left->created.tv_nsec > right->created.tv_nsec ? -1 : 1;
    return left->id > right->id ? -1 : left->id < right->id;
}

static void apply_rule(enum retention_rule rule, uint32_t keep, const struct ordered *ordered,
                       size_t count, struct retention_decision *decisions)
{
    char period[RETENTION_PERIOD_SIZE], present[RETENTION_PERIOD_SIZE] = "";
    uint32_t kept = 0;
    size_t newest = 0; /* of the present period */

    for (size_t i = 0; i < count; i++) {
        struct retention_decision *decision = &decisions[ordered[i].index];
        struct retention_verdict *verdict = &decision->verdicts[rule];

        retention_period(rule, ordered[i].candidate->created.tv_sec, period);
        if (rule != RETENTION_LAST && i > 0 && strcmp(period, present) == 0) {
            verdict->shadowed = true;
            verdict->newer = newest;
            continue;
        }
        memcpy(present, period, sizeof present);
        newest = ordered[i].index;
        if (kept == keep)
            continue;
        verdict->place = ++kept;
        decision->keep = true;
    }
}

int retention_decide(const struct retention_policy *policy,
                     const struct retention_candidate *candidates, size_t count,
                     struct retention_decision *ret_decisions)
{
    struct ordered *ordered = calloc(count + 1, sizeof *ordered);

    if (ordered == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < count; i++) {
        ordered[i] = (struct ordered){&candidates[i], i};
        ret_decisions[i] = (struct retention_decision){.keep = candidates[i].held};
    }
    if (count > 0)
        qsort(ordered, count, sizeof *ordered, compare_age);
    for (int rule = 0; rule < RETENTION_RULES; rule++)
        if (policy->keep[rule] > 0)
            apply_rule((enum retention_rule)rule, policy->keep[rule], ordered, count,
                       ret_decisions);
    free(ordered);
    return 0;
}
