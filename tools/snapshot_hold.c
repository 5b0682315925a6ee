/* SPDX-License-Identifier: Apache-2.0 */
/*
 * snapshot_hold.c - varve snapshot hold and release
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tools/control_client.h"
#include "tools/exit_code.h"
#include "tools/output.h"
#include "tools/snapshot_commands.h"

#define OWNER_DEFAULT "user"

enum { KEY_OWNER = SNAPSHOT_KEY_OTHER, KEY_EXPIRES };

struct hold_arguments {
    struct snapshot_arguments words; /* first */
    const char *owner;
    json_int_t expires_s;
};

/* "90s", "15m", "12h", "7d", "2w": seconds, or 0 when it is none of these. */
static json_int_t duration_of(const char *text)
{
    static const struct {
        char unit;
        json_int_t seconds;
    } units[] = {{'s', 1}, {'m', 60}, {'h', 3600}, {'d', 86400}, {'w', 604800}};
    char *end;
    long value = strtol(text, &end, 10);

    if (end == text || value <= 0 || value > 1000000 || end[0] == '\0' || end[1] != '\0')
        return 0;
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++)
        if (units[i].unit == end[0])
            return value * units[i].seconds;
    return 0;
}

static error_t hold_parse(int key, char *argument, struct argp_state *state)
{
    struct hold_arguments *arguments = state->input;
    json_int_t duration;

    switch (key) {
    case KEY_OWNER:
        if (argument[0] == '\0' || strlen(argument) > 255)
            command_usage(state, "an owner is 1 to 255 bytes");
        arguments->owner = argument;
        return 0;
    case KEY_EXPIRES:
        duration = duration_of(argument);
        if (duration == 0)
            command_usage(state, "a duration is a number and one of s, m, h, d, w");
        arguments->expires_s = (json_int_t)time(NULL) + duration;
        return 0;
    default:
        return snapshot_parse(key, argument, state);
    }
}

static int hold_preview(const struct snapshot_arguments *words, const char *what)
{
    int status = snapshot_check_known(words, words->words + 1, words->count - 1);

    if (status != EXIT_CODE_OK || words->common.quiet)
        return status;
    if (words->common.json)
        output_json(json_pack("{s:b}", "dry_run", 1));
    else
        for (size_t i = 1; i < words->count; i++)
            (void)printf("would %s %s\n", what, words->words[i]);
    return status;
}

static int hold_run(int argc, char **argv, const struct argp *argp, const char *verb,
                    const char *what, const char *done)
{
    static struct hold_arguments arguments = {
        .words = {.minimum = 2, .maximum = SNAPSHOT_WORDS_MAX, .missing = "MNT or NAME"},
        .owner = OWNER_DEFAULT,
    };
    json_t *request, *reply;
    int status;

    command_parse(argp, argc, argv, EXIT_CODE_USAGE, &arguments);
    if (arguments.words.common.dry_run)
        return hold_preview(&arguments.words, what);
    request = snapshot_request_names(verb, &arguments.words);
    (void)snapshot_set_name(request, "owner", arguments.owner);
    if (arguments.expires_s != 0)
        (void)json_object_set_new(request, "expires", json_integer(arguments.expires_s));
    status = snapshot_call(&arguments.words, request, what, NULL, &reply);
    if (status != EXIT_CODE_OK)
        return status;
    return snapshot_report_results(&arguments.words, reply, what, done);
}

int snapshot_hold_run(int argc, char **argv)
{
    static const struct argp_option options[] = {
        {"owner", KEY_OWNER, "TEXT", 0, "whose hold it is (default: user)", 0},
        {"expires", KEY_EXPIRES, "DURATION", 0, "end by itself after this long: 90s, 12h, 7d, 2w",
         0},
        {0},
    };
    static const struct argp argp = {
        .options = options,
        .parser = hold_parse,
        .args_doc = "MNT NAME...",
        .doc = "Keep snapshots from being deleted, whoever tries and however. A snapshot is held "
               "until every owner has released it or the time given has come; holding again "
               "replaces the owner's hold.",
        .children = snapshot_common_children,
    };

    return hold_run(argc, argv, &argp, "snapshot_hold", "hold", "holding");
}

int snapshot_release_run(int argc, char **argv)
{
    static const struct argp_option options[] = {
        {"owner", KEY_OWNER, "TEXT", 0, "whose hold it is (default: user)", 0},
        {0},
    };
    static const struct argp argp = {
        .options = options,
        .parser = hold_parse,
        .args_doc = "MNT NAME...",
        .doc = "Take an owner's hold on snapshots away.",
        .children = snapshot_common_children,
    };

    return hold_run(argc, argv, &argp, "snapshot_release", "release", "released");
}
