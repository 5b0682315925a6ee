/* SPDX-License-Identifier: Apache-2.0 */
/*
 * snapshot_commands.c - varve snapshot create, delete, rename; what the other verbs share with them
 */
#include "tools/snapshot_commands.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "engine/base/error.h"
#include "fuse/control_json.h"
#include "fuse/fs.h"
#include "tools/command.h"
#include "tools/control_client.h"
#include "tools/exit_code.h"
#include "tools/output.h"

const struct argp_child snapshot_common_children[] = {{&command_options_argp, 0, NULL, 0}, {0}};

static void snapshot_parse_tag(const struct argp_state *state, const char *word)
{
    struct snapshot_arguments *arguments = state->input;
    const char *equals = strchr(word, '=');
    char key[256];

    if (equals == NULL || equals == word || (size_t)(equals - word) >= sizeof key)
        command_usage(state, "a tag is KEY=VALUE");
    (void)snprintf(key, sizeof key, "%.*s", (int)(equals - word), word);
    if (arguments->tags == NULL)
        arguments->tags = json_object();
    if (json_object_set_new(arguments->tags, key, json_string(equals + 1)) != 0)
        command_usage(state, "a tag's key and value are UTF-8");
}

error_t snapshot_parse(int key, char *argument, struct argp_state *state)
{
    struct snapshot_arguments *arguments = state->input;

    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &arguments->common;
        break;
    case SNAPSHOT_KEY_TAG:
        snapshot_parse_tag(state, argument);
        break;
    case ARGP_KEY_ARG:
        if (arguments->count == arguments->maximum)
            command_usage(state, "too many arguments");
        arguments->words[arguments->count++] = argument;
        break;
    case ARGP_KEY_END:
        if (arguments->count < arguments->minimum)
            command_usage(state, "%s is missing", arguments->missing);
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

json_t *snapshot_request(const char *verb)
{
    return json_pack("{s:s}", "verb", verb);
}

int snapshot_set_name(json_t *object, const char *key, const char *name)
{
    return control_json_set_bytes(object, key, name, strlen(name));
}

void snapshot_print_name(const json_t *object)
{
    char name[SNAPSHOT_NAME_SIZE_MAX + 1];
    int size = control_json_get_bytes(object, "name", name, sizeof name);

    if (size > 0)
        (void)fwrite(name, 1, (size_t)size, stdout);
}

/* ---- create ---- */

static int snapshot_create_and_wait(const struct snapshot_arguments *arguments, json_t **ret_reply)
{
    json_t *request = snapshot_request("snapshot_create"), *created = NULL;
    int error;

    if (arguments->count > 1)
        (void)snapshot_set_name(request, "name", arguments->words[1]);
    if (arguments->tags != NULL)
        (void)json_object_set(request, "tags", arguments->tags);
    error = control_call_or_complain(arguments->words[0], request, "create the snapshot", &created);
    if (error < 0)
        return error;
    request = snapshot_request("snapshot_wait");
    (void)json_object_set(request, "id", json_object_get(created, "id"));
    json_decref(created);
    return control_call_or_complain(arguments->words[0], request, "complete the snapshot",
                                    ret_reply);
}

static int snapshot_create_run(int argc, char **argv)
{
    static const struct argp_option options[] = {
        {"tag", SNAPSHOT_KEY_TAG, "KEY=VALUE", 0, "note this with the snapshot (may be repeated)",
         0},
        {0},
    };
    static const struct argp argp = {
        .options = options,
        .parser = snapshot_parse,
        .args_doc = "MNT [NAME]",
        .doc = "Create a snapshot, wait until its directory in the store is complete, and print "
               "its name. The default name is the present time, UTC.",
        .children = snapshot_common_children,
    };
    struct snapshot_arguments arguments = {.minimum = 1, .maximum = 2, .missing = "MNT"};
    json_t *reply;
    int error = 0;

    command_parse(&argp, argc, argv, EXIT_CODE_USAGE, &arguments);
    if (!arguments.common.dry_run)
        error = snapshot_create_and_wait(&arguments, &reply);
    json_decref(arguments.tags);
    if (error < 0)
        return EXIT_CODE_FAILED;
    if (arguments.common.dry_run)
        return EXIT_CODE_OK;
    if (arguments.common.json) {
        (void)json_object_del(reply, "ok");
        output_json(reply);
        return EXIT_CODE_OK;
    }
    if (!arguments.common.quiet) {
        snapshot_print_name(reply);
        (void)putchar('\n');
    }
    json_decref(reply);
    return EXIT_CODE_OK;
}

/* ---- delete ---- */

json_t *snapshot_request_names(const char *verb, const struct snapshot_arguments *arguments)
{
    json_t *request = snapshot_request(verb), *names = json_array();

    for (size_t i = 1; i < arguments->count; i++) {
        json_t *name = json_object();

        (void)snapshot_set_name(name, "name", arguments->words[i]);
        (void)json_array_append_new(names, name);
    }
    (void)json_object_set_new(request, "names", names);
    return request;
}

/* Held ones are not deleted: each is named. */
static int snapshot_report_held(const json_t *held)
{
    char name[SNAPSHOT_NAME_SIZE_MAX + 1];
    const json_t *object;
    size_t index;

    json_array_foreach(held, index, object)
    {
        if (control_json_get_bytes(object, "name", name, sizeof name) > 0)
            output_error("snapshot %s is held: it would not be deleted", name);
    }
    return json_array_size(held) > 0 ? EXIT_CODE_FAILED : EXIT_CODE_OK;
}

void snapshot_print_freed(const json_t *reply)
{
    json_int_t freed = json_integer_value(json_object_get(reply, "freed_bytes"));
    char size[OUTPUT_SIZE_TEXT];

    (void)printf("would free %" JSON_INTEGER_FORMAT " bytes (%s)\n", freed,
                 output_size((uint64_t)freed, size));
}

static int snapshot_delete_preview(const struct snapshot_arguments *arguments)
{
    json_t *reply;
    int status;

    if (control_call_or_complain(arguments->words[0],
                                 snapshot_request_names("snapshot_usage", arguments),
                                 "measure the snapshots", &reply) < 0)
        return EXIT_CODE_FAILED;
    status = snapshot_report_held(json_object_get(reply, "held"));
    (void)json_object_del(reply, "ok");
    if (arguments->common.json) {
        output_json(reply);
        return status;
    }
    snapshot_print_freed(reply);
    json_decref(reply);
    return status;
}

int snapshot_report_results(const struct snapshot_arguments *arguments, json_t *reply,
                            const char *what, const char *done)
{
    const json_t *results = json_object_get(reply, "results"), *result;
    char name[SNAPSHOT_NAME_SIZE_MAX + 1];
    int status = EXIT_CODE_OK;
    size_t index;

    json_array_foreach(results, index, result)
    {
        const char *error = json_string_value(json_object_get(result, "error"));

        if (control_json_get_bytes(result, "name", name, sizeof name) < 0)
            continue;
        if (error != NULL) {
            output_error("cannot %s snapshot %s: %s", what, name, error);
            status = EXIT_CODE_FAILED;
        } else if (arguments->common.verbose > 0 && !arguments->common.json) {
            (void)printf("%s %s\n", done, name);
        }
    }
    (void)json_object_del(reply, "ok");
    if (arguments->common.json)
        output_json(json_incref(reply));
    json_decref(reply);
    return status;
}

static int snapshot_delete_run(int argc, char **argv)
{
    static const struct argp argp = {
        .parser = snapshot_parse,
        .args_doc = "MNT NAME...",
        .doc = "Delete snapshots. Their names go at once, their space comes back in the "
               "background. With -n only the bytes that deleting all of them frees are shown.",
        .children = snapshot_common_children,
    };
    static struct snapshot_arguments arguments = {
        .minimum = 2, .maximum = SNAPSHOT_WORDS_MAX, .missing = "MNT or NAME"};
    json_t *reply;

    command_parse(&argp, argc, argv, EXIT_CODE_USAGE, &arguments);
    if (arguments.common.dry_run)
        return snapshot_delete_preview(&arguments);
    if (control_call_or_complain(arguments.words[0],
                                 snapshot_request_names("snapshot_delete", &arguments),
                                 "delete snapshots", &reply) < 0)
        return EXIT_CODE_FAILED;
    return snapshot_report_results(&arguments, reply, "delete", "deleted");
}

/* ---- rename ---- */

static int snapshot_rename_run(int argc, char **argv)
{
    static const struct argp argp = {
        .parser = snapshot_parse,
        .args_doc = "MNT FROM TO",
        .doc = "Rename a snapshot.",
        .children = snapshot_common_children,
    };
    struct snapshot_arguments arguments = {
        .minimum = 3, .maximum = 3, .missing = "MNT, FROM or TO"};
    json_t *request, *reply;

    command_parse(&argp, argc, argv, EXIT_CODE_USAGE, &arguments);
    if (arguments.common.dry_run)
        return EXIT_CODE_OK;
    request = snapshot_request("snapshot_rename");
    (void)snapshot_set_name(request, "from", arguments.words[1]);
    (void)snapshot_set_name(request, "to", arguments.words[2]);
    if (control_call_or_complain(arguments.words[0], request, "rename the snapshot", &reply) < 0)
        return EXIT_CODE_FAILED;
    json_decref(reply);
    if (arguments.common.json)
        output_json(json_pack("{s:b}", "renamed", 1));
    return EXIT_CODE_OK;
}

/* ---- the group ---- */

static const struct command snapshot_verbs[] = {
    {"create", snapshot_create_run, "create one"},
    {"list", snapshot_list_run, "list them"},
    {"delete", snapshot_delete_run, "delete some"},
    {"rename", snapshot_rename_run, "rename one"},
    {"hold", snapshot_hold_run, "keep some from being deleted"},
    {"release", snapshot_release_run, "take holds away"},
    {"diff", snapshot_diff_run, "show what changed between two, or since one"},
    {"prune", snapshot_prune_run, "delete all that no rule keeps"},
};

int command_snapshot(int argc, char **argv)
{
    return command_dispatch(snapshot_verbs, sizeof snapshot_verbs / sizeof snapshot_verbs[0],
                            "varve snapshot", argc, argv);
}
