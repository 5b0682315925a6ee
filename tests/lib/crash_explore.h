/* SPDX-License-Identifier: Apache-2.0 */
/*
 * crash_explore.h - cuts of the power along a run, recovery from each, cuts during that recovery
 *
 * A run's disk is watched (crash_watch): before every call that changes it a copy may be taken,
 * with the number of events that the history had. The run goes on undisturbed to its end, whatever
 * its threads do; afterwards each copy is a moment at which the power could have gone. From it
 * images are made (disk_model_cut() by seeds, or disk_model_clone(): only the process was killed),
 * and each image is recovered and judged (crash_recover()): the engine opens, and the history
 * allows what it finds; nothing is left behind: tmp/ is empty, checkpoints/ has the names of the
 * checkpoints, chunk ids are unique, and a checkpoint's directory is a store of its own with the
 * same state; a few more operations are possible, after which a clean close and another open change
 * nothing; cuts during all of this, `depth` deep, recover to exactly the same, or to what the
 * operations allow.
 *
 * Threads: the observer runs in any; the rest is one thread's.
 */
#ifndef VARVE_TESTS_LIB_CRASH_EXPLORE_H
#define VARVE_TESTS_LIB_CRASH_EXPLORE_H

#include "tests/lib/crash_history.h"
#include "tests/lib/disk_model.h"

struct crash_capture {
    struct disk_model *disk;
    struct crash_history *history;
    size_t event_count;
    uint64_t call;
    char label[64];
};

/* Takes copies of a disk: all, or so many of them with equal chances. */
struct crash_watch {
    uint64_t seed;
    size_t room;                   /* copies to keep at most; 0: none */
    struct crash_history *history; /* changed by crash_watch_set_history() */
    struct crash_capture *list;
    size_t count;
    size_t fixed;                /* the first ones, which nothing replaces any more */
    uint64_t calls, calls_since; /* in all; since `fixed` was set */
    bool is_off;                 /* counts, takes nothing */
};

void crash_watch_start(struct crash_watch *watch, struct disk_model *disk,
                       struct crash_history *history, size_t room, uint64_t seed);
void crash_watch_set_history(struct crash_watch *watch, struct crash_history *history);
void crash_watch_stop(struct crash_watch *watch, struct disk_model *disk);
/* In any order, so that a bound on the states leaves no part of the run out. */
void crash_watch_shuffle(struct crash_watch *watch, uint64_t *seed);
void crash_watch_free(struct crash_watch *watch);

struct crash_explorer {
    struct engine_options options; /* path and io are filled in */
    const char *scratch;           /* a real directory for manifests */
    unsigned depth_max;            /* 1: no cuts during recovery */
    uint64_t seed;
    /* More operations on a recovered engine; may be NULL. Records into `history` have begun. */
    char *(*live_on)(void *context, struct engine *engine, struct crash_history *history,
                     uint64_t seed);
    /* Further judgement of a recovered engine; may be NULL. NULL or what is wrong. */
    char *(*judge)(void *context, struct engine *engine);
    void *context;
    uint64_t skipped_site; /* syncs from there do nothing during recovery either */
    disk_model_site_observer *site_observer; /* of syncs during recovery; may be NULL */
    void *site_context;
    uint64_t states; /* images recovered so far */
    uint64_t states_by_depth[8];
    bool is_verbose;
};

/* What an image recovered to. */
struct crash_result {
    uint64_t sequence, digest;
};

/*
 * Recover `image`, which is consumed, and judge. `exact` (may be NULL) is what it must be. NULL, or
 * what is wrong (to be freed); then, if the environment has VARVE_CRASH_EXPORT, the image was
 * written to that directory.
 */
char *crash_recover(struct crash_explorer *explorer, struct disk_model *image,
                    struct crash_history *history, size_t event_count, unsigned depth,
                    const struct crash_result *exact);

/* Recover `cuts` images of each copy, until `states_max` (0: no limit) were; the watch's copies are
 * consumed. */
char *crash_explore(struct crash_explorer *explorer, struct crash_watch *watch, unsigned cuts,
                    uint64_t states_max);

#endif
