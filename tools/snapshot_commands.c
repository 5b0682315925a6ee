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

/* What an errno says of a snapshot. */
static const char *snapshot_explain(int error, const char *text)
{
    switch (error) {
    case -ENOENT:
        return "no such snapshot";
    case -EEXIST:
        return "there is one of that name";
    case -EINVAL:
        return "a name is 1 to 255 bytes without '/', and not '.' or '..'";
    default:
        return text;
    }
}

int snapshot_call(const struct snapshot_arguments *arguments, json_t *request, const char *what,
                  const char *name, json_t **ret_reply)
{
    char text[CONTROL_ERROR_SIZE];
    int error = control_call(arguments->words[0], request, ret_reply, text);

    if (error < 0)
        output_error("cannot %s%s%s: %s", what, name != NULL ? " " : "", name != NULL ? name : "",
                     snapshot_explain(error, text));
    return (int)control_exit_code(error);
}

/* ---- names, for -n ---- */

static int snapshot_fetch_names(const struct snapshot_arguments *arguments, json_t **ret_reply)
{
    return snapshot_call(arguments, snapshot_request("snapshot_list"), "list the snapshots", NULL,
                         ret_reply);
}

static bool snapshot_is_listed(const json_t *reply, const char *name)
{
    const json_t *list = json_object_get(reply, "snapshots"), *object;
    char listed[SNAPSHOT_NAME_SIZE_MAX + 1];
    size_t index;

    json_array_foreach(list, index, object)
    {
        int size = control_json_get_bytes(object, "name", listed, sizeof listed);

        if (size >= 0 && (size_t)size == strlen(name) && memcmp(listed, name, (size_t)size) == 0)
            return true;
    }
    return false;
}

int snapshot_check_known(const struct snapshot_arguments *arguments, const char *const *names,
                         size_t count)
{
    json_t *reply;
    int status = snapshot_fetch_names(arguments, &reply);

    if (status != EXIT_CODE_OK)
        return status;
    for (size_t i = 0; i < count; i++) {
        if (!snapshot_is_listed(reply, names[i])) {
            output_error("no such snapshot: %s", names[i]);
            status = EXIT_CODE_FAILED;
        }
    }
    json_decref(reply);
    return status;
}

int snapshot_check_new(const struct snapshot_arguments *arguments, const char *name)
{
    int error = snapshot_name_check(slice_of_string(name)), status;
    json_t *reply;

    if (error < 0) {
        output_error("%s: %s", name, snapshot_explain(error, error_text(error)));
        return EXIT_CODE_FAILED;
    }
    status = snapshot_fetch_names(arguments, &reply);
    if (status != EXIT_CODE_OK)
        return status;
    if (snapshot_is_listed(reply, name)) {
        output_error("%s: there is one of that name", name);
        status = EXIT_CODE_FAILED;
    }
    json_decref(reply);
    return status;
}

/* ---- create ---- */

static int snapshot_create_preview(const struct snapshot_arguments *arguments)
{
    const char *name = arguments->count > 1 ? arguments->words[1] : NULL;
    json_t *reply;
    int status;

    if (name != NULL) {
        status = snapshot_check_new(arguments, name);
    } else {
        status = snapshot_fetch_names(arguments, &reply);
        if (status == EXIT_CODE_OK)
            json_decref(reply);
    }
    if (status != EXIT_CODE_OK || arguments->common.quiet)
        return status;
    if (arguments->common.json)
        output_json(json_pack("{s:b}", "dry_run", 1));
    else
        (void)printf("would create %s\n", name != NULL ? name : "a snapshot named after the time");
    return status;
}

static int snapshot_create_and_wait(const struct snapshot_arguments *arguments, json_t **ret_reply)
{
    json_t *request = snapshot_request("snapshot_create"), *created = NULL;
    const char *name = arguments->count > 1 ? arguments->words[1] : NULL;
    int status;

    /* Not what the daemon is asked when it shall choose one. */
    if (name != NULL && name[0] == '\0') {
        json_decref(request);
        output_error("cannot create snapshot: %s", snapshot_explain(-EINVAL, NULL));
        return EXIT_CODE_FAILED;
    }
    if (name != NULL)
        (void)snapshot_set_name(request, "name", name);
    if (arguments->tags != NULL)
        (void)json_object_set(request, "tags", arguments->tags);
    status = snapshot_call(arguments, request, "create snapshot", name, &created);
    if (status != EXIT_CODE_OK)
        return status;
    request = snapshot_request("snapshot_wait");
    (void)json_object_set(request, "id", json_object_get(created, "id"));
    (void)json_object_set_new(request, "else_delete", json_true());
    json_decref(created);
    return snapshot_call(arguments, request, "complete snapshot", name, ret_reply);
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
    json_t *reply = NULL;
    int status;

    command_parse(&argp, argc, argv, EXIT_CODE_USAGE, &arguments);
    status = arguments.common.dry_run ? snapshot_create_preview(&arguments)
                                      : snapshot_create_and_wait(&arguments, &reply);
    json_decref(arguments.tags);
    if (status != EXIT_CODE_OK || arguments.common.dry_run)
        return status;
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

    status = snapshot_check_known(arguments, arguments->words + 1, arguments->count - 1);
    if (status == EXIT_CODE_OK)
        status = snapshot_call(arguments, snapshot_request_names("snapshot_usage", arguments),
                               "measure the snapshots", NULL, &reply);
    if (status != EXIT_CODE_OK)
        return status;
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
    int status;

    command_parse(&argp, argc, argv, EXIT_CODE_USAGE, &arguments);
    if (arguments.common.dry_run)
        return snapshot_delete_preview(&arguments);
    status = snapshot_call(&arguments, snapshot_request_names("snapshot_delete", &arguments),
                           "delete snapshots", NULL, &reply);
    if (status != EXIT_CODE_OK)
        return status;
    return snapshot_report_results(&arguments, reply, "delete", "deleted");
}

/* ---- rename ---- */

static int snapshot_rename_preview(const struct snapshot_arguments *arguments)
{
    int status = snapshot_check_known(arguments, arguments->words + 1, 1);

    if (status == EXIT_CODE_OK && strcmp(arguments->words[1], arguments->words[2]) != 0)
        status = snapshot_check_new(arguments, arguments->words[2]);
    if (status != EXIT_CODE_OK || arguments->common.quiet)
        return status;
    if (arguments->common.json)
        output_json(json_pack("{s:b}", "dry_run", 1));
    else
        (void)printf("would rename %s to %s\n", arguments->words[1], arguments->words[2]);
    return status;
}

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
    int status;

    command_parse(&argp, argc, argv, EXIT_CODE_USAGE, &arguments);
    if (arguments.common.dry_run)
        return snapshot_rename_preview(&arguments);
    request = snapshot_request("snapshot_rename");
    (void)snapshot_set_name(request, "from", arguments.words[1]);
    (void)snapshot_set_name(request, "to", arguments.words[2]);
    status = snapshot_call(&arguments, request, "rename snapshot", arguments.words[1], &reply);
    if (status != EXIT_CODE_OK)
        return status;
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
