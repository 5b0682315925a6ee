/* SPDX-License-Identifier: Apache-2.0 */
/*
 * crash_driver.h - the program around a crash suite: seeds, time, failures, missing syncs
 *
 *   crash_x                    a sample: as many seeds as VARVE_CRASH_SECONDS (default 20) allow
 *   crash_x --states N         until N images were recovered; 0: for ever
 *   crash_x --jobs N           so many seeds at a time, of the two above
 *   crash_x --seed S [--ops N] one seed, as printed by a failure
 *   crash_x --mutate           each place that syncs is made to do nothing, one after the other:
 * the suite must notice. Prints what it noticed, and the survivors; fails when there are any that
 * are not expected. --only TEXT: only places whose description has it; --seconds N: each for about so
 * long; --states N: so many of a seed (600). Every seed runs in a child of its own, so that a broken invariant, a sanitizer's finding or a hang is a
 * failure like any other. A failure is shrunk by running fewer and fewer operations; what is
 * printed last is the command that shows it with the fewest. (Threads of the engine come to run in
 * another order each time, so a seed may have to be run more than once: --times N.)
 */
#ifndef VARVE_TESTS_LIB_CRASH_DRIVER_H
#define VARVE_TESTS_LIB_CRASH_DRIVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tests/lib/disk_model.h"

struct crash_parameters {
    uint64_t seed;
    unsigned operations; /* of the workload */
    uint64_t states_max; /* of this seed */
    uint64_t skipped_site;
    const char *scratch; /* an empty directory in memory, if there is such a file system */
    bool is_verbose;
    disk_model_site_observer *site_observer; /* for the disk of the workload; may be NULL */
    void *site_context;
    /* out: */
    uint64_t states, states_by_depth[8], calls;
};

struct crash_suite {
    const char *name;
    unsigned operations_max;
    uint64_t sample_states; /* of a seed, where seconds count: fewer for more variety */
    /* NULL, or what went wrong (to be freed). */
    char *(*run)(struct crash_parameters *parameters);
    /* Parts of the description of a place whose sync is not missed, with the reason; ends with
     * NULL. */
    const char *const (*expected_survivors)[2];
};

int crash_driver_main(const struct crash_suite *suite, int count, char **arguments);

#endif
