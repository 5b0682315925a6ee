/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sweep.h - what is made to fail: scenarios
 *
 * A scenario is prepared once, in a process of its own, and run often, each time in a copy of what
 * was prepared, with another plan (plan.h). It decides when calls begin to fail, checks what comes
 * of it, and ends its process when something is wrong.
 */
#ifndef VARVE_TESTS_SWEEP_SWEEP_H
#define VARVE_TESTS_SWEEP_SWEEP_H

#include <stdbool.h>
#include <stdnoreturn.h>

struct sweep_scenario {
    const char *name;
    void (*prepare)(const char *directory); /* an empty one; may be NULL */
    /* `cut`: in the end the power goes, or the store is closed. */
    void (*run)(const char *directory, bool cut);
    /* There to reach a few places more, and slow: what failed in an earlier scenario passes here. */
    bool is_rest;
    /* ... but for these, which lead to places that only follow a failure: TEXT|TEXT; may be NULL. */
    const char *also;
    bool is_slow; /* no part of a sample, unless it is asked for */
};

extern const struct sweep_scenario sweep_fs, sweep_start, sweep_make, sweep_look, sweep_clone,
    sweep_repair, sweep_rebuild, sweep_remake, sweep_replay, sweep_pieces, sweep_refused,
    sweep_back, sweep_move, sweep_large, sweep_many, sweep_damaged, sweep_changes, sweep_readonly,
    sweep_counts, sweep_sealed, sweep_regain, sweep_pending, sweep_around;

noreturn void sweep_wrong(const char *file, int line, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#define sweep_require(condition, ...)                                                              \
    do {                                                                                           \
        if (!(condition))                                                                          \
            sweep_wrong(__FILE__, __LINE__, __VA_ARGS__);                                          \
    } while (0)

/* Is it the error that the plan gives, or what follows from it? 0 is not. */
bool sweep_is_expected(int error);

#endif
