/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sync.c - varve sync, flush and compact: one request each, nothing to print
 */
#include <stdio.h>

#include "tools/command.h"
#include "tools/control_client.h"
#include "tools/exit_code.h"
#include "tools/output.h"

static int sync_run(int argc, char **argv, const char *verb, const char *documentation)
{
    const struct command_words_rule rule = {
        .args_doc = "MNT",
        .documentation = documentation,
        .missing = "MNT",
    };
    struct command_words arguments;
    json_t *reply;
    int error;

    command_parse_words(&rule, argc, argv, &arguments);
    /* Where it would be done, and that it could. */
    error = control_call_or_complain(
        arguments.path, json_pack("{s:s}", "verb", arguments.common.dry_run ? "stats" : verb), verb,
        &reply);
    if (error < 0)
        return (int)control_exit_code(error);
    if (arguments.common.dry_run) {
        json_decref(reply);
        if (!arguments.common.quiet)
            (void)printf("would %s %s\n", verb, arguments.path);
        return EXIT_CODE_OK;
    }
    if (arguments.common.json)
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
