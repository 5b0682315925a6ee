/* SPDX-License-Identifier: Apache-2.0 */
/*
 * snapshot_diff.c - varve snapshot diff: what changed between two snapshots, or since one
 *
 * The exit status is that of diff(1): 0 nothing changed, 1 something did, 2 trouble.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fuse/control_diff.h"
#include "fuse/control_json.h"
#include "fuse/mountinfo.h"
#include "tools/control_client.h"
#include "tools/exit_code.h"
#include "tools/output.h"
#include "tools/snapshot_commands.h"
#include "tools/store_session.h"

#define PAGE_COUNT 4000
#define PATH_ROOM  65536
/* No tree is deeper than 65,536 (fs_diff_path.c). */
#define PATH_ROOM_MAX ((size_t)65536 * 256)

enum exit_code_diff { EXIT_CODE_SAME = 0, EXIT_CODE_DIFFERENT = 1, EXIT_CODE_TROUBLE = 2 };

enum { KEY_PATH = SNAPSHOT_KEY_OTHER };

struct diff_arguments {
    struct snapshot_arguments words; /* first */
    json_t *paths;                   /* [{"path": ...}] */
};

struct diff_output {
    const struct diff_arguments *arguments;
    uint64_t counts[4]; /* by kind */
    json_t *entries;    /* for --json, else NULL */
};

/* ---- what is asked ---- */

static void diff_add_path(struct argp_state *state, const char *path)
{
    struct diff_arguments *arguments = state->input;
    json_t *object = json_object();

    if (arguments->paths == NULL)
        arguments->paths = json_array();
    (void)control_json_set_bytes(object, "path", path, strlen(path));
    if (json_array_append_new(arguments->paths, object) != 0)
        command_usage(state, "out of memory");
}

static error_t diff_parse(int key, char *argument, struct argp_state *state)
{
    if (key != KEY_PATH)
        return snapshot_parse(key, argument, state);
    diff_add_path(state, argument);
    return 0;
}

/* A path from the user, as one from the root of the tree: `root` is the mount point, or "". */
static void path_normalise(const char *root, char *path)
{
    size_t root_size = strlen(root), size;
    char *start = path;

    if (root_size > 0 && strncmp(path, root, root_size) == 0 &&
        (path[root_size] == '/' || path[root_size] == '\0'))
        start += root_size;
    for (;;) {
        if (start[0] == '/')
            start++;
        else if (start[0] == '.' && start[1] == '/')
            start += 2;
        else
            break;
    }
    for (size = strlen(start); size > 0 && start[size - 1] == '/'; size--)
        start[size - 1] = '\0';
    if (size == 0)
        start = strcpy(path, ".");
    memmove(path, start, strlen(start) + 1);
}

/* So that paths may be given as they are seen in the mount. */
static void diff_normalise_paths(struct diff_arguments *arguments, bool mounted)
{
    const char *place = arguments->words.words[0];
    char *real = mounted ? realpath(place, NULL) : NULL;
    struct mountinfo mount = {0};
    char path[4096];
    json_t *object;
    size_t index;

    if (real != NULL)
        (void)mountinfo_find_holding(real, &mount);
    json_array_foreach(arguments->paths, index, object)
    {
        if (control_json_get_bytes(object, "path", path, sizeof path) < 0)
            continue;
        path_normalise(mount.mount_point != NULL ? mount.mount_point : "", path);
        (void)json_object_clear(object);
        (void)control_json_set_bytes(object, "path", path, strlen(path));
    }
    mountinfo_free(&mount);
    free(real);
}

/* ---- showing ---- */

/* Names may hold anything: what a terminal would act on is shown as \xNN. */
static void diff_print_path(const json_t *entry, const char *key)
{
    static char few[PATH_ROOM];
    char *path = few, *more = NULL;
    int size = control_json_get_bytes(entry, key, path, sizeof few);

    /* Longer than anything that can be opened. */
    if (size == -ENAMETOOLONG)
        path = more = malloc(PATH_ROOM_MAX);
    if (more != NULL)
        size = control_json_get_bytes(entry, key, path, PATH_ROOM_MAX);
    for (const char *letter = path; size > 0 && *letter != '\0'; letter++) {
        if ((unsigned char)*letter < ' ' || *letter == 127)
            (void)printf("\\x%02x", (unsigned char)*letter);
        else
            (void)putchar(*letter);
    }
    free(more);
}

static void diff_print_size(const json_t *entry, const char *key)
{
    const json_t *size = json_object_get(entry, key);
    char text[OUTPUT_SIZE_TEXT];

    (void)printf("  %8s", json_is_integer(size)
                              ? output_size((uint64_t)json_integer_value(size), text)
                              : "-");
}

static void diff_print_changes(const json_t *entry)
{
    const json_t *changes = json_object_get(entry, "changes"), *change;
    size_t index;

    json_array_foreach(changes, index, change)(void)
        printf("%s%s", index == 0 ? "  [" : ", ", json_string_value(change));
    if (json_array_size(changes) > 0)
        (void)putchar(']');
}

static void diff_print_entry(const json_t *entry, const char *kind)
{
    const char *type = json_string_value(json_object_get(entry, "type"));
    const char *slash = type != NULL && strcmp(type, "directory") == 0 ? "/" : "";

    (void)printf("%-8s", kind);
    diff_print_size(entry, "size_before");
    diff_print_size(entry, "size_after");
    (void)fputs("  ", stdout);
    if (strcmp(kind, "renamed") == 0) {
        diff_print_path(entry, "path_before");
        (void)printf("%s -> ", slash);
    }
    diff_print_path(entry, strcmp(kind, "removed") == 0 ? "path_before" : "path_after");
    (void)fputs(slash, stdout);
    diff_print_changes(entry);
    (void)putchar('\n');
}

static const char *const kinds[] = {"added", "removed", "modified", "renamed"};

static void diff_show(struct diff_output *output, json_t *entries)
{
    json_t *entry;
    size_t index;

    json_array_foreach(entries, index, entry)
    {
        const char *kind = json_string_value(json_object_get(entry, "kind"));

        for (size_t i = 0; kind != NULL && i < 4; i++)
            output->counts[i] += strcmp(kind, kinds[i]) == 0;
        if (output->entries != NULL)
            (void)json_array_append(output->entries, entry);
        else if (!output->arguments->words.common.quiet && kind != NULL)
            diff_print_entry(entry, kind);
    }
}

static int diff_finish(struct diff_output *output)
{
    const uint64_t *counts = output->counts;
    uint64_t total = counts[0] + counts[1] + counts[2] + counts[3];

    if (output->entries != NULL)
        output_json(json_pack("{s:{s:I, s:I, s:I, s:I}, s:O}", "summary", "added",
                              (json_int_t)counts[0], "removed", (json_int_t)counts[1], "modified",
                              (json_int_t)counts[2], "renamed", (json_int_t)counts[3], "entries",
                              output->entries));
    else if (output->arguments->words.common.verbose > 0)
        (void)printf("%" PRIu64 " added, %" PRIu64 " removed, %" PRIu64 " modified, %" PRIu64
                     " renamed\n",
                     counts[0], counts[1], counts[2], counts[3]);
    return total > 0 ? EXIT_CODE_DIFFERENT : EXIT_CODE_SAME;
}

/* ---- from a mount ---- */

static json_t *diff_request(const struct diff_arguments *arguments)
{
    const struct snapshot_arguments *words = &arguments->words;
    json_t *request = snapshot_request("snapshot_diff");

    (void)snapshot_set_name(request, "from", words->words[1]);
    if (words->count > 2)
        (void)snapshot_set_name(request, "to", words->words[2]);
    if (arguments->paths != NULL)
        (void)json_object_set(request, "paths", arguments->paths);
    return request;
}

static int diff_from_mount(struct diff_output *output, json_t *reply)
{
    const char *place = output->arguments->words.words[0];

    for (;;) {
        json_t *request, *token = json_object_get(reply, "token");

        diff_show(output, json_object_get(reply, "entries"));
        if (token == NULL)
            break;
        request = snapshot_request("snapshot_diff");
        (void)json_object_set(request, "token", token);
        (void)json_object_set(request, "from_entry", json_object_get(reply, "next"));
        json_decref(reply);
        if (control_call_or_complain(place, request, "go on comparing", &reply) < 0)
            return EXIT_CODE_TROUBLE;
    }
    json_decref(reply);
    return diff_finish(output);
}

/* ---- from a store that is not mounted ---- */

static int diff_show_all(struct diff_output *output, const struct fs_diff *diff)
{
    int error = 0;

    for (size_t from = 0; error == 0 && from < diff->count; from += PAGE_COUNT) {
        json_t *entries = json_array();

        error = entries != NULL ? control_diff_append(entries, diff, from, PAGE_COUNT) : -ENOMEM;
        if (error == 0)
            diff_show(output, entries);
        json_decref(entries);
    }
    return error;
}

static int diff_in_session(struct diff_output *output, struct store_session *session)
{
    const struct snapshot_arguments *words = &output->arguments->words;
    json_t *request = diff_request(output->arguments);
    struct fs_diff_options options = {.paths = NULL};
    struct control_paths paths;
    struct fs_diff diff;
    int error = control_paths_get(request, &paths);

    json_decref(request);
    if (error < 0)
        return error;
    options.paths = (const char *const *)paths.items;
    options.path_count = paths.count;
    error = control_diff_make(session->engine, session->set, words->words[1],
                              words->count > 2 ? words->words[2] : NULL, &options, &diff);
    control_paths_free(&paths);
    if (error == 0) {
        error = diff_show_all(output, &diff);
        fs_diff_free(&diff);
    }
    return error;
}

static int diff_from_store(struct diff_output *output)
{
    const char *path = output->arguments->words.words[0];
    struct store_session session;
    int error = store_session_open(path, &session), close_error;

    if (error < 0) {
        (void)store_complain(path, error);
        return EXIT_CODE_TROUBLE;
    }
    error = diff_in_session(output, &session);
    close_error = store_session_close(&session);
    if (error == 0)
        error = close_error;
    if (error < 0) {
        output_error("cannot compare: %s",
                     error == -ENOENT ? "no such snapshot" : error_text(error));
        return EXIT_CODE_TROUBLE;
    }
    return diff_finish(output);
}

/* ---- the verb ---- */

static int diff_run(struct diff_arguments *arguments)
{
    struct diff_output output = {.arguments = arguments};
    const char *place = arguments->words.words[0];
    char text[CONTROL_ERROR_SIZE];
    json_t *reply;
    int error, status;

    /* What the kernel holds of shared mappings belongs to the present state. */
    error = control_call(place, snapshot_request("flush_mappings"), &reply, text);
    if (error == 0)
        json_decref(reply);
    diff_normalise_paths(arguments, error != -ENOTTY);
    if (arguments->words.common.json)
        output.entries = json_array();
    if (error == -ENOTTY && store_path_is_store(place)) {
        status = diff_from_store(&output);
    } else {
        error = control_call(place, diff_request(arguments), &reply, text);
        if (error < 0)
            output_error("cannot compare: %s",
                         error == -ENOENT  ? "no such snapshot"
                         : error == -E2BIG ? "too much differs for one answer; the store can be "
                                             "compared where it is not mounted"
                                           : text);
        status = error < 0 ? EXIT_CODE_TROUBLE : diff_from_mount(&output, reply);
    }
    json_decref(output.entries);
    return status;
}

int snapshot_diff_run(int argc, char **argv)
{
    static const struct argp_option options[] = {
        {"path", KEY_PATH, "PATH", 0, "only what is, or was, at or below PATH (may be repeated)",
         0},
        {0},
    };
    static const struct argp argp = {
        .options = options,
        .parser = diff_parse,
        .args_doc = "MNT|STORE A [B]",
        .doc =
            "Show what changed from snapshot A to snapshot B, or to the live tree: added, removed, "
            "modified and renamed, with the sizes before and after. What is below a renamed "
            "directory is not listed for that. The cost follows the changes, not the size of the "
            "tree.\v"
            "The exit status is 0 when nothing changed, 1 when something did, 2 on trouble. With "
            "-q nothing is printed, with -v a summary at the end.",
        .children = snapshot_common_children,
    };
    static struct diff_arguments arguments = {
        .words = {.minimum = 2, .maximum = 3, .missing = "MNT or A"}};
    int status;

    command_parse(&argp, argc, argv, EXIT_CODE_TROUBLE, &arguments);
    status = diff_run(&arguments);
    json_decref(arguments.paths);
    return status;
}
