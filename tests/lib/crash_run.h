/* SPDX-License-Identifier: Apache-2.0 */
/*
 * crash_run.h - one seed of a crash suite: a store on a model of a disk, a life on it, its moments
 *
 * The bounds of the engine are chosen by the seed and are so small that segments roll, tables merge
 * and chunks are collected all the time. Short runs are looked at after every call, long ones at
 * random moments.
 */
#ifndef VARVE_TESTS_LIB_CRASH_RUN_H
#define VARVE_TESTS_LIB_CRASH_RUN_H

#include "tests/lib/crash_driver.h"
#include "tests/lib/crash_explore.h"

#define CRASH_SHORT_OPERATIONS 14
#define CRASH_DEPTH_MAX        4 /* the first cut, and up to three deep in recoveries from it */

struct crash_life {
    /* On a store that was just made, before any moment counts; may be NULL. Recorded. */
    char *(*prepare)(struct engine *engine, struct crash_history *history);
    /* What is done with an open engine; recorded. NULL or what went wrong (to be freed). */
    char *(*work)(struct engine *engine, struct crash_history *history, uint64_t seed,
                  unsigned operations);
    /* The same with a recovered engine: judge it, then go on a little. */
    char *(*live_on)(void *context, struct engine *engine, struct crash_history *history,
                     uint64_t seed);
};

/* The bounds of an engine, and a disk, by seed. */
void crash_run_choose(uint64_t *seed, struct engine_options *options, struct store_format *format,
                      struct disk_model_options *disk);

char *crash_run(struct crash_parameters *parameters, const struct crash_life *life);

#endif
