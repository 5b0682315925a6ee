/* SPDX-License-Identifier: Apache-2.0 */
/*
 * crash_explore.c - from copies of a disk to images, recoveries, and cuts of those
 */
#include "tests/lib/crash_explore.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/chunk_format.h"
#include "tests/lib/crash_history_internal.h"
#include "tests/lib/crash_rules.h"
#include "tests/lib/seed.h"

#define RECOVERY_CAPTURES 3
#define LIFE_CAPTURES     4
#define IMAGE_CHECKS      4 /* of so many images the files of one are looked at */

/* ---- watching ---- */

static void capture_free(struct crash_capture *capture)
{
    disk_model_free(capture->disk);
    crash_history_unref(capture->history);
}

static void watch_call(void *context, struct disk_model *disk, enum disk_call call,
                       const char *label)
{
    struct crash_watch *watch = context;
    size_t slot = watch->count;

    watch->calls++;
    if (watch->is_off || watch->room == 0)
        return;
    watch->calls_since++;
    /* Every moment has the same chance to be among those that are kept. */
    if (watch->count == watch->room) {
        slot = watch->fixed + (size_t)seed_below(&watch->seed, watch->calls_since);
        if (slot >= watch->room)
            return;
        capture_free(&watch->list[slot]);
    } else {
        watch->count++;
    }
    watch->list[slot] = (struct crash_capture){
        .disk = disk_model_clone_locked(disk),
        .history = watch->history != NULL ? crash_history_ref(watch->history) : NULL,
        .event_count = watch->history != NULL ? crash_history_events(watch->history) : 0,
        .call = watch->calls,
    };
    snprintf(watch->list[slot].label, sizeof watch->list[slot].label, "before %s %s",
             disk_call_name(call), label);
}

void crash_watch_start(struct crash_watch *watch, struct disk_model *disk,
                       struct crash_history *history, size_t room, uint64_t seed)
{
    *watch = (struct crash_watch){.seed = seed, .room = room, .history = history};
    watch->list = crash_must(calloc(room + 1, sizeof *watch->list));
    disk_model_observe(disk, watch_call, watch);
}

void crash_watch_set_history(struct crash_watch *watch, struct crash_history *history)
{
    watch->history = history;
}

void crash_watch_stop(struct crash_watch *watch, struct disk_model *disk)
{
    (void)watch;
    disk_model_observe(disk, NULL, NULL);
}

void crash_watch_shuffle(struct crash_watch *watch, uint64_t *seed)
{
    for (size_t i = watch->count; i > 1; i--) {
        size_t other = (size_t)seed_below(seed, i);
        struct crash_capture capture = watch->list[i - 1];

        watch->list[i - 1] = watch->list[other];
        watch->list[other] = capture;
    }
}

void crash_watch_free(struct crash_watch *watch)
{
    for (size_t i = 0; i < watch->count; i++)
        capture_free(&watch->list[i]);
    free(watch->list);
    *watch = (struct crash_watch){0};
}

/* ---- what is left behind ---- */

struct name_list {
    char (*names)[256];
    size_t count;
};

static int name_add(void *context, const char *name)
{
    struct name_list *list = context;

    list->names = crash_must(realloc(list->names, (list->count + 1) * sizeof *list->names));
    snprintf(list->names[list->count++], 256, "%s", name);
    return 0;
}

/* The names in a directory of the store; a directory that is missing has none. */
static struct name_list list_names(struct io *io, const char *store, const char *name)
{
    struct name_list list = {0};
    struct io_file *directory;
    char path[5000];

    snprintf(path, sizeof path, "%s/%s", store, name);
    if (io_open_root(io, path, &directory) < 0)
        return list;
    (void)io_list(io, directory, name_add, &list);
    io_close(io, directory);
    return list;
}

static char *check_tmp(struct io *io, const char *store)
{
    struct name_list list = list_names(io, store, "tmp");
    char *wrong = NULL;

    /* Names that a lost link count makes dangerous to remove stay (store_sweep.c). */
    for (size_t i = 0; wrong == NULL && i < list.count; i++)
        if (strncmp(list.names[i], "stale-", 6) != 0)
            wrong = crash_text("tmp/%s was left behind", list.names[i]);
    free(list.names);
    return wrong;
}

struct checkpoint_names {
    const struct name_list *directories;
    size_t found;
    char missing[256];
};

static int find_directory(void *context, const struct engine_checkpoint_info *info)
{
    struct checkpoint_names *names = context;
    char name[256];

    memcpy(name, info->name, info->name_size);
    name[info->name_size] = '\0';
    for (size_t i = 0; i < names->directories->count; i++)
        if (strcmp(names->directories->names[i], name) == 0) {
            names->found++;
            return 0;
        }
    snprintf(names->missing, sizeof names->missing, "%s", name);
    return 1;
}

static char *check_directories(struct engine *engine, const struct name_list *list)
{
    struct checkpoint_names names = {.directories = list};

    if (engine_checkpoint_each(engine, find_directory, &names) != 0)
        return crash_text("checkpoints/%s is not there", names.missing);
    if (names.found != list->count)
        return crash_text("checkpoints/ has %zu directories, the engine %zu checkpoints",
                          list->count, names.found);
    return NULL;
}

/* One id, one content: in the live store and in every checkpoint (R63). */
static char *check_ids(struct io *io, const char *store, const struct name_list *checkpoints)
{
    struct name_list all = list_names(io, store, "chunks");
    char *wrong = NULL;

    for (size_t i = 0; i < checkpoints->count; i++) {
        struct name_list some;
        char path[600];

        snprintf(path, sizeof path, "checkpoints/%s/chunks", checkpoints->names[i]);
        some = list_names(io, store, path);
        for (size_t j = 0; j < some.count; j++)
            (void)name_add(&all, some.names[j]);
        free(some.names);
    }
    for (size_t i = 0; wrong == NULL && i < all.count; i++)
        for (size_t j = 0; wrong == NULL && j < i; j++)
            if (strncmp(all.names[i], all.names[j], 16) == 0 &&
                strcmp(all.names[i], all.names[j]) != 0)
                wrong = crash_text("chunks %s and %s have one id", all.names[i], all.names[j]);
    free(all.names);
    return wrong;
}

/* A checkpoint's directory opened as the store that it is. */
static char *check_as_store(struct crash_explorer *explorer, struct io *io, const char *store,
                            const char *name, struct crash_history *history)
{
    struct engine_options options = explorer->options;
    struct engine *engine;
    struct engine_view *view;
    char path[5000], *wrong;
    uint64_t digest;
    int result;

    snprintf(path, sizeof path, "%s/checkpoints/%s", store, name);
    options.path = path;
    options.io = io;
    options.read_only = true;
    result = engine_open(&options, &engine);
    if (result < 0)
        return crash_text("checkpoints/%s does not open as a store: %s", name, error_text(result));
    view = engine_view_acquire(engine);
    wrong = crash_history_check_view(history, view, &digest);
    engine_view_release(view);
    (void)engine_close(engine);
    return wrong;
}

/* Of a store that is closed. */
static char *check_residue(struct crash_explorer *explorer, struct io *io, const char *store,
                           const struct name_list *checkpoints, struct crash_history *history)
{
    char *wrong = check_tmp(io, store);

    if (wrong == NULL)
        wrong = check_ids(io, store, checkpoints);
    if (wrong == NULL && checkpoints->count > 0)
        wrong = check_as_store(explorer, io, store,
                               checkpoints->names[explorer->states % checkpoints->count], history);
    return wrong;
}

/* ---- one image ---- */

struct life {
    struct crash_explorer *explorer;
    struct disk_model *disk;
    struct io *io;
    char store[4096];
    struct engine *engine;
    struct engine_options options;
    struct crash_history *history; /* of what is done after recovery */
    struct crash_watch watch;
    struct crash_result result;
    uint64_t seed;
};

static char *open_engine(struct life *life)
{
    int result = engine_open(&life->options, &life->engine);

    if (result == 0)
        return NULL;
    life->engine = NULL;
    return crash_text("the store does not open: %s", error_text(result));
}

static char *judge(struct life *life, struct crash_history *history, size_t event_count,
                   const struct crash_result *exact)
{
    struct crash_explorer *explorer = life->explorer;
    struct crash_result *result = &life->result;
    char *wrong;

    result->sequence = engine_sequence(life->engine);
    wrong = crash_history_check(history, event_count, life->engine, &result->digest);
    if (wrong == NULL && exact != NULL &&
        (exact->sequence != result->sequence || exact->digest != result->digest))
        wrong = crash_text("recovering again gives sequence %llu digest %llx, not %llu %llx",
                           (unsigned long long)result->sequence, (unsigned long long)result->digest,
                           (unsigned long long)exact->sequence, (unsigned long long)exact->digest);
    if (wrong == NULL && explorer->judge != NULL)
        wrong = explorer->judge(explorer->context, life->engine);
    return wrong;
}

/* Write, sync, snapshot a little on the recovered store. */
static char *live_on(struct life *life)
{
    struct crash_explorer *explorer = life->explorer;
    char *wrong;

    if (explorer->live_on == NULL)
        return NULL;
    crash_history_record(life->history, life->engine);
    wrong =
        explorer->live_on(explorer->context, life->engine, life->history, seed_next(&life->seed));
    crash_history_record(NULL, NULL);
    return wrong;
}

static char *close_engine(struct life *life)
{
    uint64_t sequence = engine_sequence(life->engine);
    int result = engine_close(life->engine);

    life->engine = NULL;
    if (result < 0)
        return crash_text("closing failed: %s", error_text(result));
    crash_history_note_synced(life->history, sequence);
    return NULL;
}

/* After a clean close everything is as it was, and nothing is replayed (R26). */
static char *reopen(struct life *life)
{
    struct engine_statistics statistics;
    struct name_list checkpoints = {0};
    uint64_t digest;
    char *wrong = open_engine(life);

    if (wrong != NULL)
        return wrong;
    engine_get_statistics(life->engine, &statistics);
    if (statistics.wal_replayed_batches > 0)
        wrong = crash_text("a clean close left batches to replay");
    if (wrong == NULL)
        wrong = crash_history_check(life->history, crash_history_events(life->history),
                                    life->engine, &digest);
    if (wrong == NULL) {
        checkpoints = list_names(life->io, life->store, "checkpoints");
        wrong = check_directories(life->engine, &checkpoints);
    }
    if (engine_close(life->engine) < 0 && wrong == NULL)
        wrong = crash_text("the second close failed");
    life->engine = NULL;
    if (wrong == NULL)
        wrong = check_residue(life->explorer, life->io, life->store, &checkpoints, life->history);
    free(checkpoints.names);
    return wrong;
}

/* What was taken while it opened stays; as much room again for what comes. Threads of the engine may
 * be taking a copy: nobody is once the observer is gone. */
static void watch_life(struct life *life)
{
    struct crash_watch *watch = &life->watch;

    disk_model_observe(life->disk, NULL, NULL);
    crash_watch_set_history(watch, life->history);
    if (watch->room > 0) {
        watch->list = crash_must(
            realloc(watch->list, (watch->count + LIFE_CAPTURES + 1) * sizeof *watch->list));
        watch->fixed = watch->count;
        watch->calls_since = 0;
        watch->room = watch->count + LIFE_CAPTURES;
        watch->is_off = false;
    }
    disk_model_observe(life->disk, watch_call, watch);
}

static char *run_life(struct life *life, struct crash_history *history, size_t event_count,
                      const struct crash_result *exact)
{
    char *wrong;

    crash_history_expect(history);
    wrong = open_engine(life);

    life->watch.is_off = true;
    if (wrong == NULL)
        wrong = judge(life, history, event_count, exact);
    if (wrong == NULL) {
        life->history = crash_history_fork(history, life->engine);
        watch_life(life);
        wrong = live_on(life);
    }
    if (wrong == NULL)
        wrong = close_engine(life);
    life->watch.is_off = true;
    if (wrong == NULL)
        wrong = reopen(life);
    if (life->engine != NULL)
        (void)engine_close(life->engine);
    life->engine = NULL;
    return wrong;
}

/* The two extremes often, else anything. */
static uint64_t cut_seed(uint64_t *seed)
{
    uint64_t dice = seed_next(seed);

    return dice % 6 == 0 ? 0 : dice % 6 == 1 ? 1 : dice;
}

/* Cuts of the power during this life. */
static char *explore_life(struct life *life, struct crash_history *history, size_t event_count,
                          bool was_cut, unsigned depth)
{
    struct crash_explorer *explorer = life->explorer;
    struct crash_frames *frames = history->frames;
    char *wrong = NULL;

    for (size_t i = 0; wrong == NULL && i < life->watch.count; i++) {
        struct crash_capture *capture = &life->watch.list[i];
        bool opened = capture->history != life->history;
        struct disk_model *image = disk_model_cut(capture->disk, cut_seed(&life->seed));

        /* Merging begins while the engine still opens, and may have moved data by then. */
        history->frames = life->history->frames;
        wrong = crash_recover(explorer, image, opened ? history : life->history,
                              opened ? event_count : capture->event_count, depth + 1,
                              opened && was_cut ? &life->result : NULL);
        history->frames = frames;
        if (wrong != NULL) {
            char *outer = crash_text("%s\n  after a cut %s, %s", wrong, capture->label,
                                     opened ? "during recovery" : "in the life after it");

            free(wrong);
            wrong = outer;
        }
    }
    return wrong;
}

static char *recover(struct crash_explorer *explorer, struct disk_model *image,
                     struct crash_history *history, size_t event_count, unsigned depth,
                     const struct crash_result *exact, bool was_cut)
{
    struct life life = {
        .explorer = explorer, .disk = image, .io = disk_model_io(image), .seed = explorer->seed};
    struct disk_model *kept = getenv("VARVE_CRASH_EXPORT") != NULL ? disk_model_clone(image) : NULL;
    char base[4000], *wrong;

    explorer->states++;
    explorer->states_by_depth[depth < 8 ? depth : 7]++;
    life.seed = seed_next(&explorer->seed);
    snprintf(base, sizeof base, "%s/%u", explorer->scratch, depth);
    snprintf(life.store, sizeof life.store, "%s/store", base);
    disk_model_set_base(image, base);
    disk_model_skip_syncs(image, explorer->skipped_site);
    disk_model_observe_sites(image, explorer->site_observer, explorer->site_context);
    life.options = explorer->options;
    life.options.path = life.store;
    life.options.io = life.io;
    crash_watch_start(&life.watch, image, history,
                      depth < explorer->depth_max ? RECOVERY_CAPTURES : 0, life.seed);
    wrong =
        explorer->states % IMAGE_CHECKS == 0 ? crash_rules_check_image(image, life.store) : NULL;
    if (wrong == NULL)
        wrong = run_life(&life, history, event_count, exact);
    crash_watch_stop(&life.watch, image);
    disk_model_set_base(image, "");
    if (wrong == NULL)
        wrong = explore_life(&life, history, event_count, was_cut, depth);
    else if (kept != NULL)
        disk_model_export(kept, getenv("VARVE_CRASH_EXPORT"));
    disk_model_free(kept);
    crash_watch_free(&life.watch);
    crash_history_unref(life.history);
    disk_model_free(image);
    return wrong;
}

char *crash_recover(struct crash_explorer *explorer, struct disk_model *image,
                    struct crash_history *history, size_t event_count, unsigned depth,
                    const struct crash_result *exact)
{
    return recover(explorer, image, history, event_count, depth, exact, true);
}

/* ---- all of a run ---- */

static char *explore_capture(struct crash_explorer *explorer, struct crash_capture *capture,
                             unsigned cuts, uint64_t states_max)
{
    char *wrong = NULL;

    for (unsigned i = 0; wrong == NULL && i < cuts; i++) {
        bool kill = seed_below(&explorer->seed, 8) == 0;
        struct disk_model *image = kill ? disk_model_clone(capture->disk)
                                        : disk_model_cut(capture->disk, cut_seed(&explorer->seed));

        if (states_max > 0 && explorer->states >= states_max) {
            disk_model_free(image);
            return NULL;
        }
        wrong = recover(explorer, image, capture->history, capture->event_count, 1, NULL, !kill);
        if (wrong != NULL) {
            char *outer = crash_text("%s\n  after %s at call %llu, %s", wrong,
                                     kill ? "the process was killed" : "a cut",
                                     (unsigned long long)capture->call, capture->label);

            free(wrong);
            wrong = outer;
        }
    }
    return wrong;
}

char *crash_explore(struct crash_explorer *explorer, struct crash_watch *watch, unsigned cuts,
                    uint64_t states_max)
{
    char *wrong = NULL;

    if (states_max > 0)
        crash_watch_shuffle(watch, &explorer->seed);
    for (size_t i = 0; wrong == NULL && i < watch->count; i++) {
        if (states_max > 0 && explorer->states >= states_max)
            break;
        wrong = explore_capture(explorer, &watch->list[i], cuts, states_max);
    }
    return wrong;
}
