/* SPDX-License-Identifier: Apache-2.0 */
/*
 * plan.h - which call fails in a trial, and what became of every place over all trials
 *
 * A plan names a place and which of its calls fails: that one alone, or it and all later ones of
 * its class, wherever they are (a disk that is gone, full, without descriptors; no memory). A place
 * that only the handling of another failure reaches is failed as the second of a plan.
 *
 * A trial runs in a child process; what it finds out is in memory that it shares with its parent.
 *
 * Threads: any, but for the functions that the parent calls.
 */
#ifndef VARVE_TESTS_SWEEP_PLAN_H
#define VARVE_TESTS_SWEEP_PLAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tests/sweep/site.h"

enum plan_class {
    PLAN_MEMORY,
    PLAN_DISK,
    PLAN_SPACE,
    PLAN_DESCRIPTORS,
    PLAN_THREADS,
    PLAN_CLASSES
};

struct plan_strike {
    unsigned site;
    uint64_t hit; /* from 1; 0: none */
};

struct plan {
    enum plan_class class_, second_class; /* the latter of `second` alone */
    bool for_ever;
    struct plan_strike first, second; /* with `for_ever` from the last of them on */
};

/* What is known of a place. Counters of calls are of the present trial. */
struct plan_record {
    _Atomic uint64_t hits;
    _Atomic bool ever, creates, failed_once, failed_for_ever;
    bool has_reach; /* so it was reached first, where it is not without a failure */
    struct plan reach;
};

/* Number the places; once, in the parent. */
void plan_start(void);
size_t plan_count(void);
struct plan_record *plan_record(unsigned index);
bool plan_is_memory(unsigned index);
/* Can a place fail so? */
bool plan_applies(unsigned index, enum plan_class class_);
int plan_error(enum plan_class class_);
/* Nothing fails in it but for want of something. */
bool plan_is_shortage(const struct plan *plan);
const char *plan_class_name(enum plan_class class_);
/* "memory once engine/wal.c:12 wal_open malloc #3" */
void plan_describe(const struct plan *plan, char *to, size_t size);

/* ---- in a trial ---- */

void plan_choose(
    const struct plan *plan); /* in the parent, before the child: counters are zeroed */
/* Calls count and fail from now on; or no more. */
void plan_arm(bool armed);
bool plan_struck(void);
const struct plan *plan_present(void);
/* What this thread calls meanwhile neither counts nor fails. Nests. */
void plan_quiet_begin(void);
void plan_quiet_end(void);
/* From now on the file system makes no hard links, in this process. */
void plan_refuse_links(void);

#endif
