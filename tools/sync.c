/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sync.c - varve sync, flush and compact: one request each, nothing to print
 */
#include <stdio.h>

#include "tools/command.h"
#include "tools/control_client.h"
#include "tools/exit_code.h"
#include "tools/output.h"

struct sync_arguments {
    struct command_options options;
    const char *path;
};

static error_t sync_parse(int key, char *argument, struct argp_state *state)
{
    struct sync_arguments *arguments = state->input;

    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &arguments->options;
        break;
    case ARGP_KEY_ARG:
        if (arguments->path != NULL)
            command_usage(state, "too many arguments");
        arguments->path = argument;
        break;
    case ARGP_KEY_END:
        if (arguments->path == NULL)
            command_usage(state, "MNT is missing");
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

static int sync_run(int argc, char **argv, const char *verb, const char *documentation)
{
    static const struct argp_child children[] = {{&command_options_argp, 0, NULL, 0}, {0}};
    const struct argp argp = {
        .parser = sync_parse,
        .args_doc = "MNT",
        .doc = documentation,
        .children = children,
    };
    struct sync_arguments arguments = {0};
    json_t *reply;
    int error;

    command_parse(&argp, argc, argv, EXIT_CODE_USAGE, &arguments);
    /* Where it would be done, and that it could. */
    error = control_call_or_complain(
        arguments.path, json_pack("{s:s}", "verb", arguments.options.dry_run ? "stats" : verb),
        verb, &reply);
    if (error < 0)
        return (int)control_exit_code(error);
    if (arguments.options.dry_run) {
        json_decref(reply);
        if (!arguments.options.quiet)
            (void)printf("would %s %s\n", verb, arguments.path);
        return EXIT_CODE_OK;
    }
    if (arguments.options.json)
        output_json(reply);
    else
        json_decref(reply);
    return EXIT_CODE_OK;
}

int command_sync(int argc, char **argv)
{
    return sync_run(argc, argv, "sync",
                    "Return when all acknowledged work in the mount that holds MNT is durable, "
                    "pages of shared mappings included.");
}

int command_flush(int argc, char **argv)
{
    return sync_run(argc, argv, "flush", "Write the memtables of the mount to tables.");
}

int command_compact(int argc, char **argv)
{
    return sync_run(argc, argv, "compact",
                    "Merge all tables of the mount and give dead data back.");
}
