/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine_workload.h - random operations on an engine, of every kind that it has
 *
 * Threads: several workloads may run on one engine; thread 0's alone deletes and renames
 * checkpoints.
 */
#ifndef VARVE_TESTS_LIB_ENGINE_WORKLOAD_H
#define VARVE_TESTS_LIB_ENGINE_WORKLOAD_H

#include "engine/engine.h"

struct engine_workload {
    struct engine *engine;
    uint64_t seed;
    unsigned operations, thread;
    /* Errors that are no failure but the end of it: a disk that fails on purpose. */
    bool may_fail;
    /* out: the first error of an operation, with may_fail. */
    int error;
};

/* NULL, or what went wrong (to be freed). */
char *engine_workload_run(struct engine_workload *workload);

#endif
