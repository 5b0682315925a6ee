/* SPDX-License-Identifier: Apache-2.0 */
/*
 * crash_run.c - making the disk and the store, living, exploring
 */
#include "tests/lib/crash_run.h"

#include <stdio.h>
#include <string.h>

#include "tests/lib/crash_history_internal.h"
#include "tests/lib/crash_rules.h"
#include "tests/lib/seed.h"

#define CAPTURES_SHORT 4000 /* of a short run every moment is looked at */
#define CAPTURES_LONG  60
#define MKFS_CUT_SEEDS 3 /* one in so many also cuts the making of a store */

struct run {
    const struct crash_life *life;
    struct crash_explorer explorer;
    struct crash_history *history;
    struct disk_model *disk;
    struct engine_options options; /* of the store on `disk` */
    char base[4000], store[4096];
};

void crash_run_choose(uint64_t *seed, struct engine_options *options, struct store_format *format,
                      struct disk_model_options *disk)
{
    engine_options_default(options);
    options->memtable_bytes = (size_t)8192 << (2 * seed_below(seed, 3));
    options->memtables_max = 2 + (uint32_t)seed_below(seed, 2);
    options->block_cache_bytes = 1 << 20;
    options->wal_segment_bytes = 64 * 1024;
    options->wal_buffer_bytes = (size_t)32768 << seed_below(seed, 3);
    options->blob_buffers = 2;
    options->sync_window_ms = seed_below(seed, 4) == 0 ? 2 : 0;
    options->blob_sync_ahead_bytes = options->sync_window_ms > 0 ? 16384 : 0; /* the same threads */
    options->descriptors_max = 8;
    options->table_bytes = (uint64_t)4096 << (2 * seed_below(seed, 2));
    options->level_base_bytes = (uint64_t)16384 << (2 * seed_below(seed, 2));
    *format =
        (struct store_format){.chunk_size_bytes = (uint64_t)16384 << (2 * seed_below(seed, 3)),
                              .compression_level = (int32_t)seed_below(seed, 2)};
    *disk = (struct disk_model_options){
        .check_modes = true,
        .links_max = seed_below(seed, 6) == 0 ? 3 : 0,
        .is_checked = seed_below(seed, 2) == 0,
    };
}

typedef char *use_engine(struct run *run, struct engine *engine, uint64_t seed,
                         unsigned operations);

/* Open, use, close. */
static char *with_engine(struct run *run, use_engine *use, uint64_t seed, unsigned operations)
{
    struct engine *engine;
    uint64_t sequence;
    char *wrong;
    int result = engine_open(&run->options, &engine);

    if (result < 0)
        return crash_text("open: %s", error_text(result));
    wrong = run->options.sync_window_ms == 0 ? crash_rules_check_log(run->disk, run->base) : NULL;
    crash_history_record(run->history, engine);
    if (wrong == NULL)
        wrong = use(run, engine, seed, operations);
    crash_history_record(NULL, NULL);
    sequence = engine_sequence(engine);
    result = engine_close(engine);
    if (wrong == NULL && result < 0)
        wrong = crash_text("close: %s", error_text(result));
    if (wrong == NULL)
        wrong = crash_rules_check_closed(run->disk, run->base);
    crash_history_note_synced(run->history, sequence);
    return wrong;
}

static char *use_prepare(struct run *run, struct engine *engine, uint64_t seed, unsigned operations)
{
    (void)seed, (void)operations;
    return run->life->prepare(engine, run->history);
}

static char *use_work(struct run *run, struct engine *engine, uint64_t seed, unsigned operations)
{
    return run->life->work(engine, run->history, seed, operations);
}

/* On a disk of its own. */
static char *cut_mkfs(struct run *run, const struct crash_parameters *parameters,
                      const struct disk_model_options *options, const struct store_format *format,
                      uint64_t seed)
{
    struct disk_model *disk = disk_model_new("");
    char base[4010], *wrong;

    snprintf(base, sizeof base, "%s/mkfs", parameters->scratch);
    disk_model_set_options(disk, options);
    disk_model_observe_sites(disk, parameters->site_observer, parameters->site_context);
    disk_model_skip_syncs(disk, parameters->skipped_site);
    wrong = crash_rules_check_mkfs(disk, base, format, &run->explorer, seed, &run->explorer.states);
    disk_model_free(disk);
    return wrong;
}

static char *make_store(struct run *run, const struct store_format *format)
{
    int result = store_create(disk_model_io(run->disk), run->store, format);

    if (result < 0)
        return crash_text("mkfs: %s", error_text(result));
    return run->life->prepare != NULL ? with_engine(run, use_prepare, 0, 0) : NULL;
}

/* The life before the cut: of a long one, two mounts. */
static char *live(struct run *run, uint64_t *seed, unsigned operations)
{
    unsigned mounts = operations > 2 * CRASH_SHORT_OPERATIONS ? 2 : 1;
    char *wrong = NULL;

    for (unsigned i = 0; wrong == NULL && i < mounts; i++)
        wrong = with_engine(run, use_work, seed_next(seed), operations / mounts);
    return wrong;
}

char *crash_run(struct crash_parameters *parameters, const struct crash_life *life)
{
    uint64_t seed = parameters->seed;
    bool is_short = parameters->operations <= CRASH_SHORT_OPERATIONS;
    struct run run = {.life = life,
                      .explorer = {.scratch = parameters->scratch,
                                   .live_on = life->live_on,
                                   .skipped_site = parameters->skipped_site,
                                   .site_observer = parameters->site_observer,
                                   .site_context = parameters->site_context,
                                   .is_verbose = parameters->is_verbose},
                      .history = crash_history_new()};
    struct disk_model_options disk_options;
    struct store_format format;
    struct crash_watch watch;
    char *wrong = NULL;

    run.explorer.depth_max = 1 + (unsigned)seed_below(&seed, CRASH_DEPTH_MAX);
    run.explorer.seed = seed_next(&seed);
    crash_run_choose(&seed, &run.explorer.options, &format, &disk_options);
    snprintf(run.base, sizeof run.base, "%s/0", parameters->scratch);
    snprintf(run.store, sizeof run.store, "%s/store", run.base);
    run.disk = disk_model_new(run.base);
    disk_model_set_options(run.disk, &disk_options);
    run.options = run.explorer.options;
    run.options.path = run.store;
    run.options.io = disk_model_io(run.disk);
    disk_model_observe_sites(run.disk, parameters->site_observer, parameters->site_context);
    disk_model_skip_syncs(run.disk, parameters->skipped_site);
    if (seed_below(&seed, MKFS_CUT_SEEDS) == 0)
        wrong = cut_mkfs(&run, parameters, &disk_options, &format, seed_next(&seed));
    if (wrong == NULL)
        wrong = make_store(&run, &format);
    crash_watch_start(&watch, run.disk, run.history, is_short ? CAPTURES_SHORT : CAPTURES_LONG,
                      seed_next(&seed));
    if (wrong == NULL)
        wrong = live(&run, &seed, parameters->operations);
    crash_watch_stop(&watch, run.disk);
    disk_model_set_base(run.disk, "");
    if (wrong == NULL)
        wrong = crash_explore(&run.explorer, &watch, is_short ? 2 : 3, parameters->states_max);
    parameters->states = run.explorer.states;
    memcpy(parameters->states_by_depth, run.explorer.states_by_depth,
           sizeof run.explorer.states_by_depth);
    parameters->calls = watch.calls;
    crash_watch_free(&watch);
    crash_history_unref(run.history);
    disk_model_free(run.disk);
    return wrong;
}
