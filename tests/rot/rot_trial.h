/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rot_trial.h - damage, open, read everything, judge
 *
 * Trials run in a child process, some hundreds in each, one after the other: what a child costs
 * is not paid for each of them. Which trial is under way lies in shared memory, so that one that
 * crashes or hangs is known, and the next child goes on behind it. A trial is one piece of damage, or a
 * group of pieces of which none hides another; when a group does not give exactly what it has to, it is
 * halved until the piece is found.
 */
#ifndef VARVE_TESTS_ROT_ROT_TRIAL_H
#define VARVE_TESTS_ROT_ROT_TRIAL_H

#include "tests/rot/rot_store.h"
#include "tests/rot/rot_tree.h"

enum rot_outcome { HARMLESS, DETECTED, REFUSED, WRONG, CRASHED, HUNG, ROT_OUTCOMES };

/* What a piece of damage, or all of a group, is expected to do. */
struct rot_expectation {
    bool is_exact;     /* or anything that is honest */
    uint64_t refusals; /* reads that fail */
    uint64_t harmful;  /* pieces of damage that one of them meets */
};

#define ROT_WHAT_SIZE 600

/* Pieces of damage are numbered; each group is a range of them. */
struct rot_plan {
    void *context;
    uint64_t groups;
    void (*group)(void *context, uint64_t index, uint64_t *ret_first, uint64_t *ret_end);
    /* Damage the image, and say how; false: there is nothing to do. Undone by the other. */
    bool (*apply)(void *context, uint64_t first, uint64_t end, char what[ROT_WHAT_SIZE],
                  struct rot_expectation *expectation);
    void (*undo)(void *context, uint64_t first, uint64_t end);
};

struct rot_trials {
    struct rot_store *store;
    const char *work_path;
    const struct rot_tree *expected;
    bool verbose;
};

/* Prints what is wrong, and in the end the counts; true when nothing was. */
bool rot_trials_run(const struct rot_trials *trials, const struct rot_plan *plan);

#endif
