/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rollback.c - varve rollback: the live tree becomes what a snapshot shows
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "fuse/control_json.h"
#include "fuse/fs.h"
#include "tools/command.h"
#include "tools/control_client.h"
#include "tools/exit_code.h"
#include "tools/output.h"

/* Send it; complaints are printed. */
static int rollback_call(const struct command_words *arguments, const char *verb, const char *key,
                         json_t **ret_reply)
{
    json_t *request = json_pack("{s:s}", "verb", verb);
    char text[CONTROL_ERROR_SIZE];
    int error;

    (void)control_json_set_bytes(request, key, arguments->name, strlen(arguments->name));
    error = control_call(arguments->path, request, ret_reply, text);
    if (error < 0)
        output_error("cannot roll back: %s", error == -ENOENT ? "no such snapshot" : text);
    return error;
}

/* How much would change. */
static int rollback_preview(const struct command_words *arguments)
{
    json_int_t count;
    json_t *reply;
    int error;

    error = rollback_call(arguments, "snapshot_diff", "from", &reply);
    if (error < 0)
        return (int)control_exit_code(error);
    count = json_integer_value(json_object_get(reply, "count"));
    json_decref(reply);
    if (arguments->common.json)
        output_json(json_pack("{s:I}", "differences", count));
    else if (!arguments->common.quiet)
        (void)printf("would undo %" JSON_INTEGER_FORMAT
                     " differences ('varve snapshot diff' shows them)\n",
                     count);
    return EXIT_CODE_OK;
}

static int rollback_run(const struct command_words *arguments)
{
    char before[SNAPSHOT_NAME_SIZE_MAX + 1];
    json_t *reply;
    int error;

    error = rollback_call(arguments, "rollback", "name", &reply);
    if (error < 0)
        return (int)control_exit_code(error);
    (void)json_object_del(reply, "ok");
    if (arguments->common.json) {
        output_json(reply);
        return EXIT_CODE_OK;
    }
    if (!arguments->common.quiet &&
        control_json_get_bytes(reply, "before", before, sizeof before) > 0)
        (void)printf("%s\n", before);
    json_decref(reply);
    return EXIT_CODE_OK;
}

int command_rollback(int argc, char **argv)
{
    static const struct command_words_rule rule = {
        .args_doc = "MNT NAME",
        .documentation =
            "Make the live tree what the snapshot NAME shows. Newer snapshots stay, and the tree "
            "as it was is kept as one more snapshot, whose name is printed. It happens all at "
            "once: after a crash the tree is the one before or the one of the snapshot. "
            "Programs that have files open which are gone get ESTALE.",
        .missing = "MNT or NAME",
        .takes_name = true,
        .needs_name = true,
    };
    struct command_words arguments;

    command_parse_words(&rule, argc, argv, &arguments);
    return arguments.common.dry_run ? rollback_preview(&arguments) : rollback_run(&arguments);
}
