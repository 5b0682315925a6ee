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
};

extern const struct sweep_scenario sweep_fs, sweep_start, sweep_make, sweep_look, sweep_clone,
    sweep_repair, sweep_rebuild;

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
