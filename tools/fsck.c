/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fsck.c - varve fsck, fsck.varve
 *
 * First what opening needs: the manifest, and that every chunk is there. Then the store is opened
 * (which replays its log, as mounting does), and the live tree and every snapshot are walked. Last,
 * directories of checkpoints/ that nobody knows.
 *
 * Repaired is what something else in the store still says: a lost manifest, missing links,
 * forgotten snapshots, unfinished directories. What a checksum no longer covers cannot be made
 * right, only restored.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "engine/engine_rebuild.h"
#include "engine/engine_repair.h"
#include "fuse/control_json.h"
#include "fuse/fs.h"
#include "tools/command.h"
#include "tools/exit_code.h"
#include "tools/output.h"
#include "tools/store_lock.h"

enum { KEY_VERIFY = 0x2000 };

enum fsck_mode {
    FSCK_LOOK,   /* -n, and when nothing is said */
    FSCK_PREEN,  /* -p, -a: what is safe without asking anybody */
    FSCK_REPAIR, /* -y: all that can be */
};

struct fsck_arguments {
    struct command_options common; /* -n is among them */
    const char *path;
    bool verify;
    enum fsck_mode mode;
};

struct fsck {
    const struct fsck_arguments *arguments;
    const char *view; /* what is being checked, for messages */
    uint64_t findings, repaired, views;
    bool trouble;
    json_t *list; /* of findings, for --json */
};

static error_t fsck_parse(int key, char *argument, struct argp_state *state)
{
    struct fsck_arguments *arguments = state->input;

    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &arguments->common;
        break;
    case KEY_VERIFY:
        arguments->verify = true;
        break;
    case 'a':
    case 'p':
        if (arguments->mode == FSCK_LOOK)
            arguments->mode = FSCK_PREEN;
        break;
    case 'y':
        arguments->mode = FSCK_REPAIR;
        break;
    case 'f':
    case 'T':
    case 'M':
    case 'C':
        break; /* fsck(8) passes them to every checker */
    case ARGP_KEY_ARG:
        if (arguments->path != NULL)
            command_usage(state, "too many arguments");
        arguments->path = argument;
        break;
    case ARGP_KEY_END:
        if (arguments->path == NULL)
            command_usage(state, "STORE is missing");
        if (arguments->common.dry_run && arguments->mode != FSCK_LOOK)
            command_usage(state, "only one of -n, -p (or -a) and -y can be given");
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

static void fsck_report(void *context, const char *line)
{
    struct fsck *fsck = context;
    json_t *object;

    if (fsck->list == NULL) {
        (void)printf("%s: %s\n", fsck->view, line);
        return;
    }
    object = json_object();
    if (object != NULL &&
        control_json_set_bytes(object, "view", fsck->view, strlen(fsck->view)) == 0)
        (void)control_json_set_bytes(object, "finding", line, strlen(line));
    (void)json_array_append_new(fsck->list, object);
}

/* Of the files of the store. */
static void fsck_repair_report(void *context, const char *line, bool repaired)
{
    struct fsck *fsck = context;

    fsck->view = "store";
    fsck_report(fsck, line);
    fsck->view = NULL;
    if (repaired)
        fsck->repaired++;
    else
        fsck->findings++;
}

static void fsck_trouble(struct fsck *fsck, int error)
{
    output_error("%s cannot be checked: %s", fsck->view, error_text(error));
    fsck->trouble = true;
}

static void fsck_check_view(struct fsck *fsck, struct engine_view *view)
{
    uint64_t findings = 0;
    int error;

    if (fsck->arguments->common.verbose > 0)
        (void)fprintf(stderr, "checking %s\n", fsck->view);
    error = fs_check(view, fsck->arguments->verify, fsck_report, fsck, &findings);
    fsck->views++;
    fsck->findings += findings;
    if (error < 0)
        fsck_trouble(fsck, error);
}

static void fsck_check_live(struct fsck *fsck, struct engine *engine)
{
    struct engine_view *view = engine_view_acquire(engine);

    fsck->view = "live tree";
    if (view == NULL) {
        fsck_trouble(fsck, -ENOMEM);
        return;
    }
    fsck_check_view(fsck, view);
    engine_view_release(view);
}

static void fsck_check_snapshot(struct fsck *fsck, struct snapshot *snapshot)
{
    char name[SNAPSHOT_NAME_SIZE_MAX + 1], title[sizeof name + sizeof "snapshot "];
    struct engine_view *view;
    int error;

    snapshot_get_name(snapshot, name);
    (void)snprintf(title, sizeof title, "snapshot %s", name);
    fsck->view = title;
    error = snapshot_view_get(snapshot, &view);
    if (error < 0) {
        fsck_trouble(fsck, error);
    } else {
        fsck_check_view(fsck, view);
        snapshot_view_put(snapshot, view);
    }
    fsck->view = NULL;
}

static void fsck_check_snapshots(struct fsck *fsck, struct engine *engine)
{
    const struct snapshot_options options = {.views_max = 2};
    struct snapshot_set *set;
    struct snapshot *snapshot;
    uint64_t id = 0;
    int error = snapshot_set_open(engine, &options, &set);

    if (error < 0) {
        fsck->view = "the list of snapshots";
        fsck_trouble(fsck, error);
        return;
    }
    while ((snapshot = snapshot_next(set, id)) != NULL) {
        id = snapshot_id(snapshot);
        fsck_check_snapshot(fsck, snapshot);
        snapshot_unref(snapshot);
    }
    snapshot_set_close(set);
}

static int fsck_check_store(struct fsck *fsck, struct io *io)
{
    struct engine_options options;
    struct engine *engine;
    int error;

    engine_options_default(&options);
    options.path = fsck->arguments->path;
    options.io = io;
    options.read_only = true;
    error = engine_open(&options, &engine);
    if (error < 0)
        return error;
    fsck_check_live(fsck, engine);
    fsck_check_snapshots(fsck, engine);
    return engine_close(engine);
}

/* 0: the manifest is in order, or has been made anew. */
static int fsck_check_manifest(struct fsck *fsck, struct io *io)
{
    const struct fsck_arguments *arguments = fsck->arguments;
    struct engine_rebuild_result rebuilt;
    char line[256];
    int damage, error = engine_manifest_check(io, arguments->path, &damage);

    if (error < 0 || damage == 0)
        return error;
    (void)snprintf(line, sizeof line, "the manifest cannot be used: %s", error_text(damage));
    if (arguments->mode != FSCK_REPAIR) {
        fsck_repair_report(fsck, line, false);
        output_error("fsck -y makes a new one from what else the store has");
        return damage;
    }
    error = engine_rebuild(io, arguments->path, &rebuilt);
    fsck_repair_report(fsck, line, error == 0);
    if (error < 0)
        return error;
    (void)snprintf(line, sizeof line,
                   "a new manifest was made from %" PRIu64 " tables, %" PRIu64
                   " blob chunks and %" PRIu64 " snapshots; holds on snapshots are lost",
                   rebuilt.tables, rebuilt.blobs, rebuilt.snapshots);
    fsck->view = "store";
    fsck_report(fsck, line);
    fsck->view = NULL;
    return 0;
}

static int fsck_check_files(struct fsck *fsck, struct io *io)
{
    int error = fsck_check_manifest(fsck, io);

    if (error == 0)
        error = engine_repair_chunks(io, fsck->arguments->path, fsck->arguments->mode != FSCK_LOOK,
                                     fsck_repair_report, fsck);
    if (error == 0) /* work is given up: never without being asked */
        error = engine_repair_log(io, fsck->arguments->path, fsck->arguments->mode == FSCK_REPAIR,
                                  fsck_repair_report, fsck);
    return error == -EROFS ? 0 : error; /* a checkpoint's own directory: nothing stands in for it */
}

static int fsck_check_strays(struct fsck *fsck, struct io *io)
{
    static const enum engine_repair_strays strays[] = {
        [FSCK_LOOK] = ENGINE_STRAYS_LOOK,
        [FSCK_PREEN] = ENGINE_STRAYS_REMOVE,
        [FSCK_REPAIR] = ENGINE_STRAYS_ADOPT,
    };
    int error = engine_repair_strays(io, fsck->arguments->path, strays[fsck->arguments->mode],
                                     fsck_repair_report, fsck);

    return error == -EROFS ? 0 : error;
}

static void fsck_print_result(struct fsck *fsck)
{
    if (fsck->list != NULL)
        output_json(json_pack("{s:I, s:I, s:I, s:b, s:O}", "views", (json_int_t)fsck->views,
                              "findings", (json_int_t)fsck->findings, "repaired",
                              (json_int_t)fsck->repaired, "complete", !fsck->trouble, "list",
                              fsck->list));
    else if (!fsck->arguments->common.quiet)
        (void)printf("%s: %" PRIu64 " tree%s checked, %" PRIu64 " finding%s, %" PRIu64
                     " repaired\n",
                     fsck->arguments->path, fsck->views, fsck->views == 1 ? "" : "s",
                     fsck->findings, fsck->findings == 1 ? "" : "s", fsck->repaired);
}

static int fsck_run(const struct fsck_arguments *arguments)
{
    struct fsck fsck = {.arguments = arguments};
    struct io *io;
    int error;

    store_lock_wait_closing(arguments->path, NULL);
    error = io_open_backend(IO_BACKEND_SYNC, &io);
    if (arguments->common.json)
        fsck.list = json_array();
    if (error == 0) {
        error = fsck_check_files(&fsck, io);
        if (error == 0)
            error = fsck_check_store(&fsck, io);
        if (error == 0)
            error = fsck_check_strays(&fsck, io);
        io_close_backend(io);
    }
    if (error < 0) {
        output_error("%s cannot be checked: %s", arguments->path, error_text(error));
        fsck.trouble = true;
    }
    if (fsck.views > 0 || fsck.list != NULL)
        fsck_print_result(&fsck);
    json_decref(fsck.list);
    return (fsck.repaired > 0 ? EXIT_CODE_FSCK_REPAIRED : 0) |
           (fsck.findings > 0 ? EXIT_CODE_FSCK_ERRORS_LEFT : 0) |
           (fsck.trouble ? EXIT_CODE_FSCK_TROUBLE : 0);
}

int command_fsck(int argc, char **argv)
{
    static const struct argp_option options[] = {
        {"verify", KEY_VERIFY, NULL, 0, "also read and check every byte of file data", 0},
        {NULL, 'p', NULL, 0, "repair what is safe without a question", 0},
        {NULL, 'a', NULL, OPTION_ALIAS, NULL, 0},
        {NULL, 'y', NULL, 0, "repair all that can be: also make a lost manifest anew", 0},
        {NULL, 'f', NULL, OPTION_HIDDEN, NULL, 0},
        {NULL, 'T', NULL, OPTION_HIDDEN, NULL, 0},
        {NULL, 'M', NULL, OPTION_HIDDEN, NULL, 0},
        {NULL, 'C', "FD", OPTION_HIDDEN | OPTION_ARG_OPTIONAL, NULL, 0},
        {0},
    };
    static const struct argp_child children[] = {{&command_options_argp, 0, NULL, 0}, {0}};
    static const struct argp argp = {
        .options = options,
        .parser = fsck_parse,
        .args_doc = "STORE",
        .doc = "Check the structure of a store that is not mounted: its live tree and every "
               "snapshot. The log is replayed, as mounting does; -n, and no option at all, "
               "repair nothing else. The exit status is that of fsck(8), added up: 0 right, 1 "
               "errors were repaired, 4 errors are left, 8 it could not be checked, 16 usage.",
        .children = children,
    };
    struct fsck_arguments arguments = {0};

    command_parse(&argp, argc, argv, EXIT_CODE_FSCK_USAGE, &arguments);
    return fsck_run(&arguments);
}
