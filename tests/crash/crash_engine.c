/* SPDX-License-Identifier: Apache-2.0 */
/*
 * crash_engine.c - the engine on a disk whose power goes at any moment
 *
 * Workloads by seed: batches, file data, range deletions, syncs, flushes, compactions, checkpoints
 * that are made, renamed, deleted and restored from, clean reopens; by one thread or several. See
 * crash_explore.h for what is done with each moment, crash_history.h for what must hold.
 */
#include <pthread.h>
#include <stdlib.h>

#include "tests/lib/crash_run.h"
#include "tests/lib/engine_workload.h"
#include "tests/lib/seed.h"

#define OPERATIONS_MAX 120
#define THREADS_MAX    3

struct worker {
    pthread_t thread;
    struct engine_workload workload;
    char *wrong;
};

static void *worker_main(void *context)
{
    struct worker *worker = context;

    worker->wrong = engine_workload_run(&worker->workload);
    return NULL;
}

static char *work(struct engine *engine, struct crash_history *history, uint64_t seed,
                  unsigned operations)
{
    struct worker workers[THREADS_MAX] = {0};
    unsigned thread_count = seed_below(&seed, 3) == 0 ? THREADS_MAX : 1;
    char *wrong = NULL;

    (void)history;
    for (unsigned i = 0; i < thread_count; i++) {
        workers[i].workload = (struct engine_workload){
            .engine = engine,
            .seed = seed_next(&seed),
            .operations = operations / thread_count + 1,
            .thread = i,
        };
        if (i > 0 && pthread_create(&workers[i].thread, NULL, worker_main, &workers[i]) != 0)
            abort();
    }
    (void)worker_main(&workers[0]);
    for (unsigned i = 0; i < thread_count; i++) {
        if (i > 0)
            pthread_join(workers[i].thread, NULL);
        if (wrong == NULL)
            wrong = workers[i].wrong;
        else
            free(workers[i].wrong);
    }
    return wrong;
}

/* A few operations on a recovered engine. */
static char *live_on(void *context, struct engine *engine, struct crash_history *history,
                     uint64_t seed)
{
    struct engine_workload workload = {.engine = engine, .seed = seed};

    (void)context, (void)history;
    workload.operations = (unsigned)seed_below(&seed, 7);
    return engine_workload_run(&workload);
}

static char *run(struct crash_parameters *parameters)
{
    static const struct crash_life life = {.work = work, .live_on = live_on};

    return crash_run(parameters, &life);
}

int main(int count, char **arguments)
{
    static const char *const survivors[][2] = {
        {"in blob_recover_open_chunk",
         "the table that recovery writes next mostly syncs chunks/ as "
         "well: crash_order.c asks for it alone"},
        {"in make_ahead", "few runs need a chunk that was made ahead: crash_order.c"},
        {"in checkpoint_files_settle", "wants a cut, a clean close and a cut: crash_order.c"},
        {"in store_sweep", "wants a kill and a cut one after the other: crash_order.c"},
        {"fsync tmp/deleted in checkpoint_files_sync_deleted",
         "without it nothing but space is lost: crash_order.c"},
        {"fsync store/tmp in checkpoint_files_sync_deleted",
         "without it nothing but space is lost: crash_order.c"},
        {".blb in sync_chunk",
         "matters without a journal, when the checkpoint is deleted: crash_order.c"},
        {"in rename_directory", "wants a clean close and a cut: crash_order.c"},
        {"fsync wal/SYNCED.new", "wants a cut right behind, without a journal: crash_fs notices"},
        {NULL, NULL},
    };
    static const struct crash_suite suite = {.name = "crash_engine",
                                             .operations_max = OPERATIONS_MAX,
                                             .sample_states = 500,
                                             .run = run,
                                             .expected_survivors = survivors};

    return crash_driver_main(&suite, count, arguments);
}
