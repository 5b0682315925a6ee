/* SPDX-License-Identifier: Apache-2.0 */
/*
 * crash_commands.c - varve clone and varve fsck -y on a disk whose power goes at any moment
 *
 * A store with a filesystem and snapshots, closed or cut, is cloned, linked or copied; or it is
 * damaged, also in its manifest, and put right. The power goes before each call of the command that
 * changes the disk, again while the command is repeated, and in the life of what it has made.
 *   clone    The source shows all that it had. The clone's directory is no store, or the whole
 *            clone; the same command makes it, once what is there has been removed.
 *   fsck -y  The same command puts right what the first has left, and all that the store had
 *            before it was damaged is there; what opens meanwhile shows nothing else.
 * When a command has returned what it did is there for good.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/checksum.h"
#include "engine/base/log.h"
#include "fuse/fs.h"
#include "tests/lib/crash_command.h"
#include "tests/lib/crash_damage.h"
#include "tests/lib/crash_history_internal.h"
#include "tests/lib/crash_rules.h"
#include "tests/lib/crash_run.h"
#include "tests/lib/fs_workload.h"
#include "tests/lib/seed.h"
#include "tools/exit_code.h"

#define OPERATIONS_MAX 60
#define DEPTH_MAX      3    /* the first cut, and up to two deep in what is done after it */
#define CAPTURES_ALL   2000 /* of the first run of the command */
#define CAPTURES_DEEP  3
#define CUTS           3 /* of each moment */
#define SNAPSHOT_TRIES 20

/* Why a sync may not be missed here: see main(). */
#define MAKING "a clone's file system is synced afterwards; of mkfs crash_engine notices"
#define ENGINE "crash_engine notices"

/* All that a store shows; equal contents, equal numbers. */
struct shown {
    uint64_t live, snapshots;
};

struct scene {
    struct crash_parameters *parameters;
    struct engine_options options;
    struct store_format format;
    uint64_t seed;
    unsigned depth_max;
    bool is_clone, copy, is_checked; /* the disk, after cuts */
    unsigned damage;
    const char *name;         /* of the store that the command makes or mends */
    char snapshot[256];       /* that is cloned */
    struct shown source;      /* what the store had */
    struct shown wanted;      /* what the command must give, */
    struct shown lived;       /* and that after life_key was written */
    struct disk_model *start; /* all of it is on the disk */
};

static const char life_key[] = "\xff life";

/* ---- what a store shows ---- */

static int digest_snapshot(struct engine *engine, const struct engine_checkpoint_info *info,
                           uint64_t *sum)
{
    struct engine_view *view;
    uint64_t digest = 0;
    int error = engine_checkpoint_view(engine, info->id, &view);

    if (error < 0)
        return error;
    error = crash_view_digest(view, &digest);
    engine_view_release(view);
    *sum += checksum64_seeded(&digest, sizeof digest, checksum64(info->name, info->name_size));
    return error;
}

struct snapshot_list {
    struct engine_checkpoint_info list[64];
    size_t count;
};

/* Names and payloads stay as long as nobody changes the checkpoints. */
static int list_snapshot(void *context, const struct engine_checkpoint_info *info)
{
    struct snapshot_list *snapshots = context;

    if (snapshots->count == sizeof snapshots->list / sizeof *snapshots->list)
        abort();
    snapshots->list[snapshots->count++] = *info;
    return 0;
}

static int show(struct engine *engine, struct shown *ret_shown)
{
    struct engine_view *view = engine_view_acquire(engine);
    struct snapshot_list snapshots = {0};
    struct shown shown = {0};
    int error = crash_view_digest(view, &shown.live);

    engine_view_release(view);
    (void)engine_checkpoint_each(engine, list_snapshot, &snapshots);
    for (size_t i = 0; error == 0 && i < snapshots.count; i++)
        error = digest_snapshot(engine, &snapshots.list[i], &shown.snapshots);
    *ret_shown = shown;
    return error;
}

static int open_store(const struct scene *scene, struct disk_model *disk, const char *path,
                      struct engine **ret_engine)
{
    struct engine_options options = scene->options;

    options.path = path;
    options.io = disk_model_io(disk);
    return engine_open(&options, ret_engine);
}

/* Open, look, close: 0, or the error of opening or reading. */
static int look(const struct scene *scene, struct disk_model *disk, const char *path,
                struct shown *ret_shown)
{
    struct engine *engine;
    int closed, error = open_store(scene, disk, path, &engine);

    if (error < 0)
        return error;
    error = show(engine, ret_shown);
    closed = engine_close(engine);
    return error < 0 ? error : closed;
}

/* NULL, or what is wrong. */
static char *compare(const char *what, int error, const struct shown *shown,
                     const struct shown *wanted)
{
    if (error < 0)
        return crash_text("%s cannot be read: %s", what, error_text(error));
    if (shown->live != wanted->live)
        return crash_text("%s has another tree", what);
    if (shown->snapshots != wanted->snapshots)
        return crash_text("%s has other snapshots", what);
    return NULL;
}

static char *check_store(const struct scene *scene, struct disk_model *disk, const char *name,
                         const struct shown *wanted)
{
    struct shown shown = {0};
    char path[4200];

    snprintf(path, sizeof path, "%.4000s/%s", disk_model_base(disk), name);
    return compare(name, look(scene, disk, path, &shown), &shown, wanted);
}

/* ---- the store that is there at the beginning ---- */

static int wait_for_snapshots(struct engine *engine, size_t *ret_count)
{
    struct snapshot_list snapshots = {0};
    int error = 0;

    (void)engine_checkpoint_each(engine, list_snapshot, &snapshots);
    *ret_count = snapshots.count;
    for (size_t i = 0; error == 0 && i < snapshots.count; i++)
        error = engine_checkpoint_wait(engine, snapshots.list[i].id);
    return error;
}

/* Until there is a snapshot. */
static char *live(struct scene *scene, struct engine *engine)
{
    struct crash_history *history = crash_history_new();
    unsigned operations = scene->parameters->operations;
    char *wrong = fs_workload_prepare(engine, history);
    size_t count = 0;

    for (unsigned i = 0; wrong == NULL && count == 0 && i < SNAPSHOT_TRIES; i++) {
        wrong = fs_workload_run(engine, history, seed_next(&scene->seed), operations);
        if (wrong == NULL && wait_for_snapshots(engine, &count) < 0)
            wrong = crash_text("a snapshot is not made");
    }
    crash_history_unref(history);
    if (wrong == NULL && count == 0)
        wrong = crash_text("no snapshot was taken");
    return wrong;
}

/* Closed, or cut; either way all that is left is on the disk. */
static char *make_start(struct scene *scene, const struct disk_model_options *options)
{
    struct disk_model *disk = disk_model_new(""), *killed = NULL;
    bool is_cut = seed_below(&scene->seed, 2) == 0;
    char base[4010], path[4200], *wrong;
    struct engine *engine;
    int error;

    snprintf(base, sizeof base, "%.4000s/start", scene->parameters->scratch);
    snprintf(path, sizeof path, "%s/store", base);
    disk_model_set_base(disk, base);
    disk_model_set_options(disk, options);
    error = store_create(disk_model_io(disk), path, &scene->format);
    if (error == 0)
        error = open_store(scene, disk, path, &engine);
    if (error < 0) {
        wrong = crash_text("no store: %s", error_text(error));
    } else {
        wrong = live(scene, engine);
        if (is_cut)
            killed = disk_model_clone(disk);
        if (engine_close(engine) < 0 && wrong == NULL)
            wrong = crash_text("the store does not close");
    }
    disk_model_set_base(disk, "");
    scene->start = disk_model_cut(killed != NULL ? killed : disk, seed_next(&scene->seed));
    disk_model_free(killed);
    disk_model_free(disk);
    return wrong;
}

/* A file, that only the log has. */
static int make_file(struct engine *engine)
{
    static const struct fs_caller root = {0};
    struct fs_options options;
    struct fs_entry entry;
    struct fs *fs;
    int error;

    fs_options_default(&options);
    error = fs_open(engine, &options, &fs);
    if (error < 0)
        return error;
    error = fs_mknod(fs, FS_ROOT, "in the log", S_IFREG | 0600, 0, &root, &entry);
    if (error == 0) {
        fs_forget(fs, entry.attribute.node, 1);
        error = fs_sync(fs);
    }
    fs_close(fs);
    return error;
}

/* All that was merged is gone from the disk, so that a manifest can be made anew (engine_rebuild.h) and
 * chunks/ has nothing that the next start removes; and the log has something again. */
static char *settle_start(struct scene *scene)
{
    struct disk_model *disk = scene->start;
    char base[4010], path[4200];
    struct engine *engine;
    int error;

    snprintf(base, sizeof base, "%.4000s/start", scene->parameters->scratch);
    snprintf(path, sizeof path, "%s/store", base);
    disk_model_set_base(disk, base);
    error = open_store(scene, disk, path, &engine);
    if (error == 0) {
        error = engine_compact(engine);
        if (engine_close(engine) < 0 || error < 0)
            error = -EIO;
    }
    if (error == 0)
        error = open_store(scene, disk, path, &engine);
    if (error == 0) {
        error = make_file(engine);
        scene->start = disk_model_clone(disk);
        (void)engine_close(engine);
        disk_model_set_base(disk, "");
        disk_model_free(disk);
    } else {
        disk_model_set_base(disk, "");
    }
    return error < 0 ? crash_text("the store does not settle: %s", error_text(error)) : NULL;
}

/* ---- the commands ---- */

/* Half a clone. On a disk whose link counts nobody has put right removing its names could harm the
 * files of the store (R66): there it is moved aside. */
static void clear_way(const struct scene *scene, struct disk_model *disk)
{
    struct io *io = disk_model_io(disk);
    struct io_file *root;
    struct stat status;
    char aside[32];
    int error = io_open_root(io, disk_model_base(disk), &root);

    if (error == 0 && scene->is_checked) {
        error = store_remove_tree(io, root, "clone");
    } else if (error == 0) {
        unsigned number = 0;

        do
            snprintf(aside, sizeof aside, "half-%u", number++);
        while (io_stat_at(io, root, aside, &status) == 0);
        error = io_rename(io, root, "clone", root, aside);
    }
    if (error < 0)
        abort();
    io_close(io, root);
}

/* The command; again, when it says that something is in its way and that has been removed. */
static char *run_clone(const struct scene *scene, struct disk_model *disk)
{
    char checkpoint[4400], path[4200], *wrong;
    int status;

    snprintf(checkpoint, sizeof checkpoint, "%.3900s/store/checkpoints/%s", disk_model_base(disk),
             scene->snapshot);
    snprintf(path, sizeof path, "%.4000s/clone", disk_model_base(disk));
    if (crash_rules_has_format(disk_model_io(disk), path)) {
        wrong = check_store(scene, disk, "clone", &scene->wanted);
        if (wrong != NULL)
            return wrong;
        status = crash_command_clone(disk, checkpoint, path, scene->copy);
        return status == EXIT_CODE_FAILED
                   ? NULL
                   : crash_text("clone over a clone: status %d: %s", status, crash_command_said());
    }
    status = crash_command_clone(disk, checkpoint, path, scene->copy);
    if (status != EXIT_CODE_OK && (strstr(crash_command_said(), "is not empty") != NULL ||
                                   strstr(crash_command_said(), "Not a directory") != NULL)) {
        clear_way(scene, disk);
        status = crash_command_clone(disk, checkpoint, path, scene->copy);
    }
    return status == EXIT_CODE_OK
               ? NULL
               : crash_text("clone: status %d: %s", status, crash_command_said());
}

/* A look does not change what is found, nor does opening what can be opened. */
static char *peek(const struct scene *scene, struct disk_model *disk, const char *store)
{
    struct shown shown = {0};

    (void)crash_command_fsck(disk, store, false);
    if (look(scene, disk, store, &shown) < 0)
        return NULL; /* it is refused */
    return shown.live == scene->wanted.live
               ? NULL
               : crash_text("a store that is not put right yet has another tree");
}

static char *run_fsck(struct scene *scene, struct disk_model *disk)
{
    char store[4200], *wrong = NULL;
    int status;

    snprintf(store, sizeof store, "%.4000s/store", disk_model_base(disk));
    /* A start may merge, and remove from chunks/ what a snapshot's directory still lacks. */
    if ((scene->damage & CRASH_DAMAGE_CHUNKS) == 0 && seed_below(&scene->seed, 3) == 0)
        wrong = peek(scene, disk, store);
    if (wrong != NULL)
        return wrong;
    status = crash_command_fsck(disk, store, true);
    return status == 0 || status == EXIT_CODE_FSCK_REPAIRED
               ? NULL
               : crash_text("fsck -y: status %d: %s", status, crash_command_said());
}

static char *run_command(struct scene *scene, struct disk_model *disk)
{
    return scene->is_clone ? run_clone(scene, disk) : run_fsck(scene, disk);
}

/* A command has returned, whatever happened since. */
static char *check_done(const struct scene *scene, struct disk_model *disk)
{
    char store[4200];
    int status;

    if (scene->is_clone) {
        char *wrong = check_store(scene, disk, "clone", &scene->wanted);

        return wrong != NULL ? wrong : check_store(scene, disk, "store", &scene->source);
    }
    snprintf(store, sizeof store, "%.4000s/store", disk_model_base(disk));
    status = crash_command_fsck(disk, store, false);
    if (status != 0)
        return crash_text("fsck afterwards: status %d: %s", status, crash_command_said());
    return check_store(scene, disk, "store", &scene->wanted);
}

/* ---- a life afterwards ---- */

static char *do_life(const struct scene *scene, struct disk_model *disk, struct shown *ret_shown)
{
    struct batch batch = {0};
    struct engine *engine;
    char path[4200];
    int closed, error;

    snprintf(path, sizeof path, "%.4000s/%s", disk_model_base(disk), scene->name);
    error = open_store(scene, disk, path, &engine);
    if (error < 0)
        return crash_text("%s does not open: %s", scene->name, error_text(error));
    batch_put(&batch, slice_of_string(life_key), slice_of_string("value"));
    error = engine_write(engine, &batch, NULL);
    batch_free(&batch);
    if (error == 0)
        error = engine_sync(engine, engine_sequence(engine));
    if (error == 0)
        error = engine_compact(engine);
    if (error == 0)
        error = show(engine, ret_shown);
    closed = engine_close(engine);
    if (error == 0)
        error = closed;
    return error < 0 ? crash_text("%s cannot be used: %s", scene->name, error_text(error)) : NULL;
}

/* ---- one image ---- */

static void place(const struct scene *scene, struct disk_model *disk, unsigned depth)
{
    char base[4010];

    snprintf(base, sizeof base, "%.4000s/%u", scene->parameters->scratch, depth);
    disk_model_set_base(disk, base);
    disk_model_skip_syncs(disk, scene->parameters->skipped_site);
    disk_model_observe_sites(disk, scene->parameters->site_observer,
                             scene->parameters->site_context);
}

static void count_state(const struct scene *scene, unsigned depth)
{
    scene->parameters->states++;
    scene->parameters->states_by_depth[depth < 8 ? depth : 7]++;
}

static bool is_enough(const struct scene *scene)
{
    return scene->parameters->states_max > 0 &&
           scene->parameters->states >= scene->parameters->states_max;
}

static uint64_t cut_seed(struct scene *scene)
{
    uint64_t dice = seed_next(&scene->seed);

    return dice % 6 < 2 ? dice % 6 : dice;
}

static char *about(char *wrong, const char *label, const char *when)
{
    char *outer = crash_text("%s\n  after a cut %s, %s", wrong, label, when);

    free(wrong);
    return outer;
}

/* Of what states there may be it takes a part only. */
static size_t life_captures(const struct scene *scene)
{
    uint64_t states_max = scene->parameters->states_max;

    return states_max == 0 || states_max / 4 > CAPTURES_ALL ? CAPTURES_ALL
                                                            : (size_t)(states_max / 4);
}

/* Cuts of a life of the store: it has what it had, with the key or without. How many there are changes
 * nothing of what comes after it. */
static char *cut_life(struct scene *scene, struct disk_model *done, unsigned depth)
{
    uint64_t seed_afterwards = scene->seed;
    struct crash_watch watch;
    struct shown shown = {0};
    char *wrong;

    place(scene, done, depth);
    crash_watch_start(&watch, done, NULL, life_captures(scene), scene->seed);
    wrong = do_life(scene, done, &shown);
    crash_watch_stop(&watch, done);
    disk_model_set_base(done, "");
    for (size_t i = 0; wrong == NULL && i < watch.count && !is_enough(scene); i++) {
        struct disk_model *image = disk_model_cut(watch.list[i].disk, cut_seed(scene));

        count_state(scene, depth);
        place(scene, image, depth);
        wrong = check_store(scene, image, scene->name, &scene->wanted);
        if (wrong != NULL) {
            free(wrong);
            wrong = check_store(scene, image, scene->name, &scene->lived);
        }
        if (wrong != NULL)
            wrong = about(wrong, watch.list[i].label, "in the life afterwards");
        disk_model_set_base(image, "");
        disk_model_free(image);
    }
    scene->seed = seed_afterwards;
    crash_watch_free(&watch);
    return wrong;
}

static char *explore(struct scene *scene, struct disk_model *image, unsigned depth);

static char *cut_command(struct scene *scene, struct crash_watch *watch, unsigned depth)
{
    char *wrong = NULL;

    crash_watch_shuffle(watch, &scene->seed);
    for (size_t i = 0; wrong == NULL && i < watch->count; i++) {
        for (unsigned j = 0; wrong == NULL && j < (depth == 0 ? CUTS : 1) && !is_enough(scene);
             j++) {
            bool is_kill = seed_below(&scene->seed, 8) == 0;
            struct disk_model *from = watch->list[i].disk;

            wrong = explore(
                scene, is_kill ? disk_model_clone(from) : disk_model_cut(from, cut_seed(scene)),
                depth + 1);
            if (wrong != NULL)
                wrong = about(wrong, watch->list[i].label,
                              is_kill ? "the process alone being killed" : "in the command");
        }
    }
    return wrong;
}

/* Cuts when the command has returned. */
static char *cut_done(struct scene *scene, struct disk_model *done, unsigned depth)
{
    struct disk_model *image = disk_model_cut(done, cut_seed(scene));
    char *wrong;

    count_state(scene, depth);
    place(scene, image, depth);
    wrong = check_done(scene, image);
    disk_model_set_base(image, "");
    if (wrong != NULL)
        wrong = about(wrong, "when it had returned", "looked at as it is");
    disk_model_free(image);
    return wrong;
}

/* Run the command on what a cut has left, which is consumed; judge; cut that. */
static char *explore(struct scene *scene, struct disk_model *image, unsigned depth)
{
    struct disk_model *kept = getenv("VARVE_CRASH_EXPORT") != NULL ? disk_model_clone(image) : NULL;
    struct disk_model *done;
    struct crash_watch watch;
    char *wrong;

    count_state(scene, depth);
    place(scene, image, depth);
    crash_watch_start(&watch, image, NULL,
                      depth >= scene->depth_max ? 0
                      : depth == 0              ? CAPTURES_ALL
                                                : CAPTURES_DEEP,
                      seed_next(&scene->seed));
    wrong = run_command(scene, image);
    crash_watch_stop(&watch, image);
    scene->parameters->calls += depth == 0 ? watch.calls : 0;
    done = disk_model_clone(image);
    if (wrong == NULL)
        wrong = check_done(scene, image);
    disk_model_set_base(image, "");
    disk_model_free(image);
    if (wrong != NULL && kept != NULL)
        disk_model_export(kept, getenv("VARVE_CRASH_EXPORT"));
    disk_model_free(kept);
    for (unsigned i = 0; wrong == NULL && i < (depth == 0 ? CUTS : 1); i++)
        wrong = cut_done(scene, done, depth + 1);
    if (wrong == NULL && depth == 0)
        wrong = cut_life(scene, done, depth + 1);
    disk_model_free(done);
    if (wrong == NULL)
        wrong = cut_command(scene, &watch, depth);
    crash_watch_free(&watch);
    return wrong;
}

/* ---- one seed ---- */

/* What the store has before it is damaged, and what is cloned of it. */
static char *look_at_start(struct scene *scene)
{
    struct disk_model *disk = disk_model_clone(scene->start);
    struct snapshot_list snapshots = {0};
    struct engine *engine;
    char path[4200];
    int error;

    place(scene, disk, 0);
    snprintf(path, sizeof path, "%.4000s/store", disk_model_base(disk));
    error = open_store(scene, disk, path, &engine);
    if (error == 0) {
        error = show(engine, &scene->source);
        (void)engine_checkpoint_each(engine, list_snapshot, &snapshots);
        if (error == 0 && snapshots.count > 0) {
            const struct engine_checkpoint_info *info =
                &snapshots.list[seed_below(&scene->seed, snapshots.count)];
            struct engine_view *view;

            snprintf(scene->snapshot, sizeof scene->snapshot, "%.*s", (int)info->name_size,
                     (const char *)info->name);
            error = engine_checkpoint_view(engine, info->id, &view);
            if (error == 0) {
                error = crash_view_digest(view, &scene->wanted.live);
                engine_view_release(view);
            }
        }
        (void)engine_close(engine);
    }
    disk_model_set_base(disk, "");
    disk_model_free(disk);
    if (!scene->is_clone)
        scene->wanted = scene->source;
    return error < 0 ? crash_text("the store before: %s", error_text(error)) : NULL;
}

/* What it shows after the life, cut nowhere. */
static char *look_at_life(struct scene *scene)
{
    struct disk_model *disk = disk_model_clone(scene->start);
    char *wrong;

    place(scene, disk, 0);
    wrong = run_command(scene, disk);
    if (wrong == NULL)
        wrong = do_life(scene, disk, &scene->lived);
    disk_model_set_base(disk, "");
    disk_model_free(disk);
    return wrong != NULL ? about(wrong, "of nothing", "the command alone") : NULL;
}

static void choose_command(struct scene *scene)
{
    static const unsigned damages[] = {
        CRASH_DAMAGE_MANIFEST,
        CRASH_DAMAGE_MANIFEST | CRASH_DAMAGE_CHUNKS,
        CRASH_DAMAGE_CHUNKS,
        CRASH_DAMAGE_STRAYS,
        CRASH_DAMAGE_STRAYS | CRASH_DAMAGE_CHUNKS | CRASH_DAMAGE_LOG,
        CRASH_DAMAGE_MANIFEST | CRASH_DAMAGE_STRAYS | CRASH_DAMAGE_LOG,
    };

    scene->is_clone = seed_below(&scene->seed, 3) == 0;
    scene->copy = seed_below(&scene->seed, 3) == 0;
    if (!scene->is_clone)
        scene->damage = damages[seed_below(&scene->seed, sizeof damages / sizeof *damages)];
    scene->name = scene->is_clone ? "clone" : "store";
}

static void damage_start(struct scene *scene)
{
    char path[4200];

    place(scene, scene->start, 0);
    snprintf(path, sizeof path, "%.4000s/store", disk_model_base(scene->start));
    crash_damage_do(scene->start, path, scene->damage, seed_next(&scene->seed));
    disk_model_set_base(scene->start, "");
}

static char *play(struct scene *scene, const struct disk_model_options *options)
{
    char *wrong = make_start(scene, options);

    if (wrong == NULL && !scene->is_clone)
        wrong = settle_start(scene);
    if (wrong == NULL)
        wrong = look_at_start(scene);
    if (wrong != NULL)
        return wrong;
    damage_start(scene);
    wrong = look_at_life(scene);
    return wrong == NULL ? explore(scene, disk_model_clone(scene->start), 0) : wrong;
}

static char *run(struct crash_parameters *parameters)
{
    struct scene scene = {.parameters = parameters, .seed = parameters->seed};
    struct disk_model_options options;
    char said[4100], *wrong;

    snprintf(said, sizeof said, "%.4000s/said", parameters->scratch);
    crash_run_choose(&scene.seed, &scene.options, &scene.format, &options);
    scene.options.sync_window_ms = seed_below(&scene.seed, 2) == 0 ? 2 : 0;
    scene.is_checked = options.is_checked;
    scene.depth_max = 1 + (unsigned)seed_below(&scene.seed, DEPTH_MAX);
    choose_command(&scene);
    crash_command_divert(said, parameters->is_verbose);
    wrong = play(&scene, &options);
    crash_command_divert(NULL, parameters->is_verbose);
    disk_model_free(scene.start);
    if (wrong != NULL) {
        char *outer =
            crash_text("%s\n  of %s%s, damage %x", wrong, scene.is_clone ? "clone" : "fsck -y",
                       scene.is_clone && scene.copy ? " --copy" : "", scene.damage);

        free(wrong);
        wrong = outer;
    }
    return wrong;
}

int main(int count, char **arguments)
{
    static const char *const survivors[][2] = {
        {"in crash_damage_do", "of this program: what comes before the command is on the disk"},
        {"in live_open",
         "wants a maker that was killed, and a cut after the next start: crash_making.c"},
        {"in checkpoint_files_relink",
         "wants a start in between, and what that deletes: crash_links.c"},
        {"clone/LOCK in make_lock", MAKING},
        {"in sync_directory", MAKING},
        {"clone/manifest in content_open", MAKING},
        {"tmp/manifest-rebuilt in content_open", ENGINE},
        {"in rebuild_put_in_place", "wants a maker that was killed: crash_making.c"},
        {"in engine_witness_remove", "the command's own start syncs wal/ as well: crash_making.c"},
        {"in engine_repair_chunks", "wants many states: crash_links.c"},
        {"in blob_recover_open_chunk", "a table that is written next syncs chunks/: crash_order.c"},
        {"wal/SYNCED.new in make_file", "wants a cut right behind, without a journal: crash_fs"},
        {"chunks/#.open in seal", ENGINE},
        {"/clone in create_all", MAKING},
        {"in sync_parent", MAKING},
        {"/wal in sync_noting_failure", ENGINE},
        {"in wal_sync", ENGINE},
        {"/tmp in seal_file", ENGINE},
        {"in store_sweep", "wants a kill and a cut one after the other: crash_order.c"},
        {NULL, NULL},
    };
    static const struct crash_suite suite = {.name = "crash_commands",
                                             .operations_max = OPERATIONS_MAX,
                                             .sample_states = 100,
                                             .run = run,
                                             .expected_survivors = survivors};

    return crash_driver_main(&suite, count, arguments);
}
