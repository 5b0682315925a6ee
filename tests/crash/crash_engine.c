/* SPDX-License-Identifier: Apache-2.0 */
/*
 * crash_engine.c - the engine on a disk whose power goes at any moment
 *
 * Workloads by seed: batches, file data, range deletions, syncs, flushes, compactions, checkpoints
 * that are made, renamed, deleted and restored from, clean reopens; by one thread or several; with
 * bounds so small that segments roll, tables merge and chunks are collected all the time. See
 * crash_explore.h for what is done with each moment, crash_history.h for what must hold.
 */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "engine/base/error.h"
#include "engine/batch.h"
#include "tests/lib/crash_driver.h"
#include "tests/lib/crash_explore.h"
#include "tests/lib/engine_workload.h"
#include "tests/lib/seed.h"

#define OPERATIONS_MAX   120
#define THREADS_MAX      3
#define CAPTURES_SHORT   4000 /* of a short run every moment is looked at */
#define CAPTURES_LONG    60
#define SHORT_OPERATIONS 14

static char *text_of(const char *what, int error)
{
    char *text = NULL;

    if (asprintf(&text, "%s: %s", what, error_text(error)) < 0)
        abort();
    return text;
}

static void choose_options(uint64_t *seed, struct engine_options *options,
                           struct store_format *format, struct disk_model_options *disk)
{
    engine_options_default(options);
    options->memtable_bytes = (size_t)8192 << (2 * seed_below(seed, 3));
    options->memtables_max = 2 + (uint32_t)seed_below(seed, 2);
    options->block_cache_bytes = 1 << 20;
    options->wal_segment_bytes = 64 * 1024;
    options->wal_buffer_bytes = (size_t)32768 << seed_below(seed, 3);
    options->blob_buffers = 2;
    options->sync_window_ms = seed_below(seed, 4) == 0 ? 2 : 0;
    options->descriptors_max = 8;
    options->table_bytes = (uint64_t)4096 << (2 * seed_below(seed, 2));
    options->level_base_bytes = (uint64_t)16384 << (2 * seed_below(seed, 2));
    *format =
        (struct store_format){.chunk_size_bytes = (uint64_t)16384 << (2 * seed_below(seed, 3)),
                              .compression_level = (int32_t)seed_below(seed, 2)};
    *disk = (struct disk_model_options){
        .check_modes = true,
        .links_max = seed_below(seed, 6) == 0 ? 3 : 0,
    };
}

/* ---- several threads ---- */

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

static char *run_threads(struct engine *engine, uint64_t *seed, unsigned operations,
                         unsigned thread_count)
{
    struct worker workers[THREADS_MAX] = {0};
    char *wrong = NULL;

    for (unsigned i = 0; i < thread_count; i++) {
        workers[i].workload = (struct engine_workload){
            .engine = engine,
            .seed = seed_next(seed),
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

/* ---- the life before the cut ---- */

/* Open, work, close; perhaps once more. */
static char *work(const struct engine_options *options, struct crash_history *history,
                  uint64_t *seed, unsigned operations, unsigned thread_count)
{
    unsigned lives = operations > 2 * SHORT_OPERATIONS ? 2 : 1;
    char *wrong = NULL;

    for (unsigned i = 0; wrong == NULL && i < lives; i++) {
        struct engine *engine;
        uint64_t sequence;
        int result = engine_open(options, &engine);

        if (result < 0)
            return text_of("open", result);
        crash_history_record(history, engine);
        wrong = run_threads(engine, seed, operations / lives, thread_count);
        crash_history_record(NULL, NULL);
        sequence = engine_sequence(engine);
        result = engine_close(engine);
        if (wrong == NULL && result < 0)
            wrong = text_of("close", result);
        crash_history_note_synced(history, sequence);
    }
    return wrong;
}

/* A few operations on a recovered engine. */
static char *live_on(void *context, struct engine *engine, uint64_t seed)
{
    struct engine_workload workload = {.engine = engine, .seed = seed};

    (void)context;
    workload.operations = (unsigned)seed_below(&seed, 7);
    return engine_workload_run(&workload);
}

static char *run(struct crash_parameters *parameters)
{
    uint64_t seed = parameters->seed;
    bool is_short = parameters->operations <= SHORT_OPERATIONS;
    unsigned thread_count;
    struct crash_explorer explorer = {.scratch = parameters->scratch,
                                      .live_on = live_on,
                                      .skipped_site = parameters->skipped_site,
                                      .is_verbose = parameters->is_verbose};
    struct store_format format;
    struct disk_model_options disk_options;
    struct crash_history *history = crash_history_new();
    struct crash_watch watch;
    struct disk_model *disk;
    char base[4000], store[4096], *wrong = NULL;
    int result;

    thread_count = seed_below(&seed, 3) == 0 ? THREADS_MAX : 1;
    explorer.depth_max = 1 + (unsigned)seed_below(&seed, 3);
    explorer.seed = seed_next(&seed);
    choose_options(&seed, &explorer.options, &format, &disk_options);
    snprintf(base, sizeof base, "%s/0", parameters->scratch);
    snprintf(store, sizeof store, "%s/store", base);
    disk = disk_model_new(base);
    disk_model_set_options(disk, &disk_options);
    disk_model_put_manifest(disk, "store");
    disk_model_observe_sites(disk, parameters->site_observer, parameters->site_context);
    disk_model_skip_syncs(disk, parameters->skipped_site);
    result = store_create(disk_model_io(disk), store, &format);
    crash_watch_start(&watch, disk, history, is_short ? CAPTURES_SHORT : CAPTURES_LONG,
                      seed_next(&seed));
    if (result == 0) {
        struct engine_options options = explorer.options;

        options.path = store;
        options.io = disk_model_io(disk);
        wrong = work(&options, history, &seed, parameters->operations, thread_count);
    } else {
        wrong = text_of("mkfs", result);
    }
    crash_watch_stop(&watch, disk);
    disk_model_set_base(disk, "");
    if (wrong == NULL)
        wrong = crash_explore(&explorer, &watch, is_short ? 2 : 3, parameters->states_max);
    parameters->states = explorer.states;
    memcpy(parameters->states_by_depth, explorer.states_by_depth, sizeof explorer.states_by_depth);
    parameters->calls = watch.calls;
    crash_watch_free(&watch);
    crash_history_unref(history);
    disk_model_free(disk);
    return wrong;
}

int main(int count, char **arguments)
{
    static const struct crash_suite suite = {
        .name = "crash_engine", .operations_max = OPERATIONS_MAX, .run = run};

    return crash_driver_main(&suite, count, arguments);
}
