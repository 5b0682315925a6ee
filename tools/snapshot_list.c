/* SPDX-License-Identifier: Apache-2.0 */
/*
 * snapshot_list.c - varve snapshot list: of a mount by asking its daemon, of a store by opening it
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "engine/base/error.h"
#include "fuse/control_json.h"
#include "fuse/ll.h"
#include "tools/command.h"
#include "tools/control_client.h"
#include "tools/exit_code.h"
#include "tools/output.h"
#include "tools/snapshot_commands.h"

struct list_arguments {
    struct command_options common;
    const char *path;
};

static error_t list_parse(int key, char *argument, struct argp_state *state)
{
    struct list_arguments *arguments = state->input;

    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &arguments->common;
        break;
    case ARGP_KEY_ARG:
        if (arguments->path != NULL)
            command_usage(state, "too many arguments");
        arguments->path = argument;
        break;
    case ARGP_KEY_END:
        if (arguments->path == NULL)
            command_usage(state, "MNT or STORE is missing");
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

/* ---- from a store that is not mounted ---- */

static json_t *list_describe(struct io *io, const char *store, struct snapshot *snapshot)
{
    char name[SNAPSHOT_NAME_SIZE_MAX + 1], created[CONTROL_TIME_SIZE];
    const char *names[] = {name};
    struct ll_usage usage;
    json_t *object;

    snapshot_get_name(snapshot, name);
    control_format_time(snapshot_created(snapshot), created);
    object = json_pack("{s:I, s:I, s:s}", "id", (json_int_t)snapshot_id(snapshot), "sequence",
                       (json_int_t)snapshot_sequence(snapshot), "created", created);
    if (object != NULL && control_json_set_bytes(object, "name", name, strlen(name)) == 0 &&
        ll_checkpoint_usage(io, store, names, 1, &usage) == 0) {
        (void)json_object_set_new(object, "referenced_bytes",
                                  json_integer((json_int_t)usage.bytes));
        (void)json_object_set_new(object, "unique_bytes",
                                  json_integer((json_int_t)usage.unique_bytes));
    }
    return object;
}

static int list_engine(struct io *io, const char *store, struct engine *engine, json_t *list)
{
    const struct snapshot_options options = {.views_max = 1};
    struct snapshot_set *set;
    struct snapshot *snapshot;
    uint64_t id = 0;
    int error = snapshot_set_open(engine, &options, &set);

    if (error < 0)
        return error;
    while ((snapshot = snapshot_next(set, id)) != NULL) {
        id = snapshot_id(snapshot);
        (void)json_array_append_new(list, list_describe(io, store, snapshot));
        snapshot_unref(snapshot);
    }
    snapshot_set_close(set);
    return 0;
}

static int list_store(const char *store, json_t *list)
{
    struct engine_options options;
    struct engine *engine;
    struct io *io;
    int error = io_open_backend(IO_BACKEND_SYNC, &io), close_error;

    if (error < 0)
        return error;
    engine_options_default(&options);
    options.path = store;
    options.io = io;
    options.read_only = true;
    error = engine_open(&options, &engine);
    if (error == 0) {
        error = list_engine(io, store, engine, list);
        close_error = engine_close(engine);
        error = error < 0 ? error : close_error;
    }
    io_close_backend(io);
    return error;
}

/* ---- printing ---- */

static void list_print_bytes(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    char text[OUTPUT_SIZE_TEXT];

    (void)printf("  %10s", json_is_integer(value)
                               ? output_size((uint64_t)json_integer_value(value), text)
                               : "-");
}

static void list_print_one(const json_t *object, bool quiet)
{
    const char *created = json_string_value(json_object_get(object, "created"));
    char name[SNAPSHOT_NAME_SIZE_MAX + 1];

    if (control_json_get_bytes(object, "name", name, sizeof name) < 0)
        return;
    if (quiet) {
        (void)puts(name);
        return;
    }
    /* To the second; JSON has the rest. */
    (void)printf("%-32s  %.19sZ", name, created != NULL ? created : "");
    list_print_bytes(object, "referenced_bytes");
    list_print_bytes(object, "unique_bytes");
    (void)putchar('\n');
}

static void list_print(const struct list_arguments *arguments, json_t *list)
{
    const json_t *object;
    size_t index;

    if (arguments->common.json) {
        output_json(json_pack("{s:O}", "snapshots", list));
        return;
    }
    if (!arguments->common.quiet && json_array_size(list) > 0)
        (void)printf("%-32s  %-20s  %10s  %10s\n", "NAME", "CREATED", "REFERENCED", "UNIQUE");
    json_array_foreach(list, index, object) list_print_one(object, arguments->common.quiet);
}

static bool path_is_store(const char *path)
{
    char format[4096];
    struct stat status;

    return snprintf(format, sizeof format, "%s/FORMAT", path) < (int)sizeof format &&
           lstat(format, &status) == 0;
}

static int list_fetch(const struct list_arguments *arguments, json_t **ret_list)
{
    char text[CONTROL_ERROR_SIZE];
    json_t *reply, *list;
    int error = control_call(
        arguments->path,
        json_pack("{s:s, s:b}", "verb", "snapshot_list", "usage", !arguments->common.quiet), &reply,
        text);

    if (error == 0) {
        *ret_list = json_incref(json_object_get(reply, "snapshots"));
        json_decref(reply);
        return EXIT_CODE_OK;
    }
    if (error != -ENOTTY || !path_is_store(arguments->path)) {
        output_error("%s", text);
        return error == -ENOENT || error == -ENOTTY ? EXIT_CODE_NO_STORE : EXIT_CODE_FAILED;
    }
    list = json_array();
    error = list_store(arguments->path, list);
    if (error < 0) {
        output_error("cannot open store %s: %s", arguments->path, error_text(error));
        json_decref(list);
        return (int)exit_code_of(error);
    }
    *ret_list = list;
    return EXIT_CODE_OK;
}

int snapshot_list_run(int argc, char **argv)
{
    static const struct argp_child children[] = {{&command_options_argp, 0, NULL, 0}, {0}};
    static const struct argp argp = {
        .parser = list_parse,
        .args_doc = "MNT|STORE",
        .doc = "List the snapshots of a mount, or of a store that is not mounted: name, time of "
               "creation, bytes on disk it refers to, bytes that only it refers to. With -q only "
               "the names.",
        .children = children,
    };
    struct list_arguments arguments = {0};
    json_t *list;
    int status;

    command_parse(&argp, argc, argv, EXIT_CODE_USAGE, &arguments);
    status = list_fetch(&arguments, &list);
    if (status != EXIT_CODE_OK)
        return status;
    list_print(&arguments, list);
    json_decref(list);
    return EXIT_CODE_OK;
}
