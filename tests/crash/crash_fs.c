/* SPDX-License-Identifier: Apache-2.0 */
/*
 * crash_fs.c - the filesystem on a disk whose power goes at any moment
 *
 * What programs do - files, directories, links, renames, xattrs, fsyncs, snapshots made, deleted,
 * renamed and rolled back to - while the engine flushes and compacts below. Beside what
 * crash_engine.c asks, the recovered tree must be one that was there after some operation, each
 * snapshot the tree of its moment, and fsck must find nothing.
 */
#include <stdlib.h>

#include "tests/lib/crash_run.h"
#include "tests/lib/fs_workload.h"
#include "tests/lib/seed.h"

#define OPERATIONS_MAX 100

static char *live_on(void *context, struct engine *engine, struct crash_history *history,
                     uint64_t seed)
{
    char *wrong = fs_workload_check(engine, history);

    (void)context;
    if (wrong == NULL)
        wrong = fs_workload_run(engine, history, seed, (unsigned)seed_below(&seed, 6));
    return wrong;
}

static char *run(struct crash_parameters *parameters)
{
    static const struct crash_life life = {
        .prepare = fs_workload_prepare, .work = fs_workload_run, .live_on = live_on};

    return crash_run(parameters, &life);
}

int main(int count, char **arguments)
{
    static const struct crash_suite suite = {
        .name = "crash_fs", .operations_max = OPERATIONS_MAX, .sample_states = 500, .run = run};

    return crash_driver_main(&suite, count, arguments);
}
