/* SPDX-License-Identifier: Apache-2.0 */
/*
 * retention.h - which snapshots a policy keeps, and why: pure, it reads no clock and no list
 *
 * Rules: `last` keeps the newest ones. The others keep, of each of the most recent hours (days,
 * ISO weeks, months, years; UTC) that have a snapshot at all, the newest one; periods without a
 * snapshot do not count. A snapshot is kept when any rule keeps it, or when it is held: a held one
 * stands for its periods like any other.
 */
#ifndef VARVE_SNAPSHOT_RETENTION_H
#define VARVE_SNAPSHOT_RETENTION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

enum retention_rule {
    RETENTION_LAST,
    RETENTION_HOURLY,
    RETENTION_DAILY,
    RETENTION_WEEKLY,
    RETENTION_MONTHLY,
    RETENTION_YEARLY,
    RETENTION_RULES
};

extern const char *const retention_rule_names[RETENTION_RULES]; /* "last", "hourly" ... */

struct retention_policy {
    uint32_t keep[RETENTION_RULES]; /* 0: the rule keeps none */
};

struct retention_candidate {
    struct timespec created;
    uint64_t id; /* tells apart what was created at one time: the higher is the newer */
    bool held;
};

/* What one rule says about one snapshot. */
struct retention_verdict {
    uint32_t place; /* it is the place-th that the rule keeps (from 1); 0: the rule does not */
    bool shadowed;  /* `newer` is of the same period */
    size_t newer;   /* index of that candidate; when not shadowed, the rule had kept its number */
};

struct retention_decision {
    bool keep; /* held ones too */
    struct retention_verdict verdicts[RETENTION_RULES];
};

/* Does the policy keep anything at all? */
bool retention_policy_is_empty(const struct retention_policy *policy);

/* Decide about each candidate, which come in any order. 0 or -ENOMEM. */
int retention_decide(const struct retention_policy *policy,
                     const struct retention_candidate *candidates, size_t count,
                     struct retention_decision *ret_decisions);

/* The period of a rule that a moment lies in: "2026-11-20T23", "2026-11-20", "2026-W47", "2026-11",
 * "2026"; "" for RETENTION_LAST. */
#define RETENTION_PERIOD_SIZE 32
void retention_period(enum retention_rule rule, time_t when, char to[RETENTION_PERIOD_SIZE]);

#endif
