/* SPDX-License-Identifier: Apache-2.0 */
/*
 * snapshot_list.c - varve snapshot list: of a mount by asking its daemon, of a store by opening it
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "engine/base/error.h"
#include "fuse/control_json.h"
#include "fuse/control_snapshot.h"
#include "tools/command.h"
#include "tools/control_client.h"
#include "tools/exit_code.h"
#include "tools/output.h"
#include "tools/snapshot_commands.h"
#include "tools/store_session.h"

/* ---- fetching ---- */

static int list_fetch_store(const char *path, json_t **ret_list)
{
    struct store_session session;
    json_t *list;
    int error = store_session_open(path, &session), close_error;

    if (error < 0)
        return store_complain(path, error);
    list = json_array();
    error = control_snapshot_list(list, session.set, true);
    close_error = store_session_close(&session);
    if (error == 0)
        error = close_error;
    if (error < 0) {
        output_error("cannot list the snapshots of %s: %s", path, error_text(error));
        json_decref(list);
        return EXIT_CODE_FAILED;
    }
    *ret_list = list;
    return EXIT_CODE_OK;
}

static int list_fetch(const struct command_words *arguments, json_t **ret_list)
{
    char text[CONTROL_ERROR_SIZE];
    json_t *reply;
    int error = control_call(
        arguments->path,
        json_pack("{s:s, s:b}", "verb", "snapshot_list", "usage", !arguments->common.quiet), &reply,
        text);

    if (error == 0) {
        *ret_list = json_incref(json_object_get(reply, "snapshots"));
        json_decref(reply);
        return EXIT_CODE_OK;
    }
    if (error == -ENOTTY && store_path_is_store(arguments->path))
        return list_fetch_store(arguments->path, ret_list);
    output_error("%s", text);
    return error == -ENOENT || error == -ENOTTY ? EXIT_CODE_NO_STORE : EXIT_CODE_FAILED;
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

/* The owners of its holds, with commas. */
static void list_print_holds(const json_t *object)
{
    const json_t *holds = json_object_get(object, "holds"), *hold;
    char owner[SNAPSHOT_NAME_SIZE_MAX + 1], text[1024] = "-";
    size_t index, used = 0;

    json_array_foreach(holds, index, hold)
    {
        if (control_json_get_bytes(hold, "owner", owner, sizeof owner) > 0 && used < sizeof text)
            used += (size_t)snprintf(text + used, sizeof text - used, "%s%s", used > 0 ? "," : "",
                                     owner);
    }
    (void)printf("  %-8s", text);
}

static void list_print_tags(const json_t *object)
{
    json_t *tags = json_object_get(object, "tags"), *value;
    const char *key, *separator = "  ";

    json_object_foreach(tags, key, value)
    {
        (void)printf("%s%s=%s", separator, key, json_string_value(value));
        separator = ",";
    }
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
    list_print_holds(object);
    list_print_tags(object);
    (void)putchar('\n');
}

static void list_print(const struct command_words *arguments, json_t *list)
{
    const json_t *object;
    size_t index;

    if (arguments->common.json) {
        output_json(json_pack("{s:O}", "snapshots", list));
        return;
    }
    if (!arguments->common.quiet && json_array_size(list) > 0)
        (void)printf("%-32s  %-20s  %10s  %10s  %-8s  %s\n", "NAME", "CREATED", "REFERENCED",
                     "UNIQUE", "HOLDS", "TAGS");
    json_array_foreach(list, index, object) list_print_one(object, arguments->common.quiet);
}

int snapshot_list_run(int argc, char **argv)
{
    static const struct command_words_rule rule = {
        .args_doc = "MNT|STORE",
        .documentation =
            "List the snapshots of a mount, or of a store that is not mounted: name, time of "
            "creation, bytes on disk it refers to, bytes that only it refers to (which deleting it "
            "alone frees), who holds it, tags. With -q only the names.",
        .missing = "MNT or STORE",
    };
    struct command_words arguments;
    json_t *list = NULL;
    int status;

    command_parse_words(&rule, argc, argv, &arguments);
    status = list_fetch(&arguments, &list);
    if (status != EXIT_CODE_OK)
        return status;
    list_print(&arguments, list);
    json_decref(list);
    return EXIT_CODE_OK;
}
