/* SPDX-License-Identifier: Apache-2.0 */
/*
 * snapshot_prune.c - varve snapshot prune: delete what no rule keeps, and say why
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fuse/control_json.h"
#include "snapshot/retention.h"
#include "snapshot/snapshot.h"
#include "tools/control_client.h"
#include "tools/exit_code.h"
#include "tools/output.h"
#include "tools/snapshot_commands.h"

#define KEEP_MAX 1000000

/* One for each rule, in their order. */
enum { KEY_KEEP = SNAPSHOT_KEY_OTHER };

struct prune_arguments {
    struct snapshot_arguments words; /* first */
    struct retention_policy policy;
};

static uint32_t prune_parse_number(const struct argp_state *state, const char *text)
{
    char *end;
    long value = strtol(text, &end, 10);

    if (end == text || *end != '\0' || value < 0 || value > KEEP_MAX)
        command_usage(state, "'%s' is not a number of snapshots", text);
    return (uint32_t)value;
}

static error_t prune_parse(int key, char *argument, struct argp_state *state)
{
    struct prune_arguments *arguments = state->input;

    if (key >= KEY_KEEP && key < KEY_KEEP + RETENTION_RULES) {
        arguments->policy.keep[key - KEY_KEEP] = prune_parse_number(state, argument);
        return 0;
    }
    if (key == ARGP_KEY_END && retention_policy_is_empty(&arguments->policy))
        command_usage(state, "at least one --keep-... with a number above 0 is needed");
    return snapshot_parse(key, argument, state);
}

static json_t *prune_request(const struct prune_arguments *arguments)
{
    json_t *request = snapshot_request("snapshot_prune"), *keep = json_object();

    for (int rule = 0; rule < RETENTION_RULES; rule++)
        (void)json_object_set_new(keep, retention_rule_names[rule],
                                  json_integer(arguments->policy.keep[rule]));
    (void)json_object_set_new(request, "keep", keep);
    if (arguments->words.tags != NULL)
        (void)json_object_set(request, "tags", arguments->words.tags);
    (void)json_object_set_new(request, "dry_run", json_boolean(arguments->words.common.dry_run));
    return request;
}

static void prune_print(const struct prune_arguments *arguments, const json_t *decision)
{
    const struct command_options *common = &arguments->words.common;
    const char *action = json_string_value(json_object_get(decision, "action"));
    bool keep = action != NULL && strcmp(action, "keep") == 0;
    char name[SNAPSHOT_NAME_SIZE_MAX + 1], explanation[4096];

    if (common->quiet || (keep && !common->dry_run && common->verbose == 0))
        return;
    if (control_json_get_bytes(decision, "name", name, sizeof name) < 0 ||
        control_json_get_bytes(decision, "explanation", explanation, sizeof explanation) < 0)
        return;
    (void)printf("%-6s  %-32s  %s\n", keep ? "keep" : "remove", name, explanation);
}

static int prune_report(const struct prune_arguments *arguments, json_t *reply)
{
    const json_t *decisions = json_object_get(reply, "decisions"), *decision;
    char name[SNAPSHOT_NAME_SIZE_MAX + 1];
    int status = EXIT_CODE_OK;
    size_t index;

    json_array_foreach(decisions, index, decision)
    {
        const char *error = json_string_value(json_object_get(decision, "error"));

        if (!arguments->words.common.json)
            prune_print(arguments, decision);
        if (error == NULL || control_json_get_bytes(decision, "name", name, sizeof name) < 0)
            continue;
        output_error("cannot delete snapshot %s: %s", name, error);
        status = EXIT_CODE_FAILED;
    }
    if (arguments->words.common.json) {
        (void)json_object_del(reply, "ok");
        output_json(json_incref(reply));
    } else if (arguments->words.common.dry_run && !arguments->words.common.quiet) {
        snapshot_print_freed(reply);
    }
    return status;
}

int snapshot_prune_run(int argc, char **argv)
{
    static const struct argp_option options[] = {
        {"keep-last", KEY_KEEP + RETENTION_LAST, "N", 0, "the N newest", 0},
        {"keep-hourly", KEY_KEEP + RETENTION_HOURLY, "N", 0,
         "the newest of each of the N most recent hours that have one", 0},
        {"keep-daily", KEY_KEEP + RETENTION_DAILY, "N", 0, "the same for days", 0},
        {"keep-weekly", KEY_KEEP + RETENTION_WEEKLY, "N", 0, "the same for ISO weeks", 0},
        {"keep-monthly", KEY_KEEP + RETENTION_MONTHLY, "N", 0, "the same for months", 0},
        {"keep-yearly", KEY_KEEP + RETENTION_YEARLY, "N", 0, "the same for years", 0},
        {"tag", SNAPSHOT_KEY_TAG, "KEY=VALUE", 0,
         "look only at snapshots with this tag (may be repeated: with all of them)", 0},
        {0},
    };
    static const struct argp argp = {
        .options = options,
        .parser = prune_parse,
        .args_doc = "MNT",
        .doc = "Delete the snapshots that no rule keeps; a held one is never deleted. Hours to "
               "years are those of UTC. With -n nothing is deleted: each snapshot is shown with "
               "what becomes of it and why, and the bytes that deleting would free.",
        .children = snapshot_common_children,
    };
    static struct prune_arguments arguments = {
        .words = {.minimum = 1, .maximum = 1, .missing = "MNT"}};
    json_t *reply;
    int status;

    command_parse(&argp, argc, argv, EXIT_CODE_USAGE, &arguments);
    status = snapshot_call(&arguments.words, prune_request(&arguments), "prune the snapshots", NULL,
                           &reply);
    if (status != EXIT_CODE_OK)
        return status;
    status = prune_report(&arguments, reply);
    json_decref(reply);
    json_decref(arguments.words.tags);
    return status;
}
