/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stats.c - varve stats: the daemon's numbers as text, JSON or Prometheus metrics
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "tools/command.h"
#include "tools/control_client.h"
#include "tools/exit_code.h"
#include "tools/output.h"

enum { KEY_PROMETHEUS = 0x2000 };

struct stats_arguments {
    struct command_options common;
    const char *path;
    bool prometheus;
};

static error_t stats_parse(int key, char *argument, struct argp_state *state)
{
    struct stats_arguments *arguments = state->input;

    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &arguments->common;
        break;
    case KEY_PROMETHEUS:
        arguments->prometheus = true;
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

static bool ends_with(const char *text, const char *end)
{
    size_t size = strlen(text), end_size = strlen(end);

    return size >= end_size && strcmp(text + size - end_size, end) == 0;
}

static void stats_print_value(const char *key, const json_t *value)
{
    json_int_t number = json_integer_value(value);
    char size[OUTPUT_SIZE_TEXT];

    if (json_is_string(value))
        (void)printf("%s\n", json_string_value(value));
    else if (json_is_boolean(value))
        (void)printf("%s\n", json_is_true(value) ? "yes" : "no");
    else if (json_is_integer(value) && strstr(key, "bytes") != NULL)
        (void)printf("%s\n", output_size((uint64_t)number, size));
    else if (json_is_integer(value) && (ends_with(key, "_ns_total") || ends_with(key, "_ns_max")))
        (void)printf("%.3f ms\n", (double)number / 1e6);
    else
        (void)printf("%" JSON_INTEGER_FORMAT "\n", number);
}

static void stats_print_levels(const json_t *levels, int indent)
{
    char size[OUTPUT_SIZE_TEXT];
    const json_t *level;
    size_t index;

    json_array_foreach(levels, index, level)
    {
        json_int_t tables = json_integer_value(json_object_get(level, "tables"));
        json_int_t bytes = json_integer_value(json_object_get(level, "bytes"));

        if (tables > 0)
            (void)printf("%*slevel %zu: %" JSON_INTEGER_FORMAT " tables, %s\n", indent, "", index,
                         tables, output_size((uint64_t)bytes, size));
    }
}

static void stats_print_alerts(const json_t *alerts)
{
    const json_t *alert;
    size_t index, active = 0;

    json_array_foreach(alerts, index, alert)
    {
        const char *detail = json_string_value(json_object_get(alert, "detail"));

        if (!json_is_true(json_object_get(alert, "active")))
            continue;
        (void)printf("%s: %s (%s)%s%s\n", json_string_value(json_object_get(alert, "severity")),
                     json_string_value(json_object_get(alert, "words")),
                     json_string_value(json_object_get(alert, "name")),
                     detail != NULL && *detail != '\0' ? ": " : "", detail != NULL ? detail : "");
        active++;
    }
    if (active == 0)
        (void)printf("alerts: none\n");
}

/* Keys with '_' for ' ', nested objects indented. */
static void stats_print(json_t *object, int indent)
{
    const char *key;
    json_t *value;

    json_object_foreach(object, key, value)
    {
        if (strcmp(key, "ok") == 0)
            continue;
        if (json_is_array(value)) {
            if (strcmp(key, "alerts") == 0)
                stats_print_alerts(value);
            else
                stats_print_levels(value, indent);
            continue;
        }
        (void)printf("%*s", indent, "");
        for (const char *letter = key; *letter != '\0'; letter++)
            (void)putchar(*letter == '_' ? ' ' : *letter);
        (void)fputs(": ", stdout);
        if (json_is_object(value)) {
            (void)putchar('\n');
            stats_print(value, indent + 2);
        } else {
            stats_print_value(key, value);
        }
    }
}

/* ---- Prometheus ---- */

/* Every number is a gauge or a counter; which of them the reader's queries know. */
static void stats_print_metric(const char *prefix, const char *key, const json_t *value)
{
    if (json_is_boolean(value))
        (void)printf("varve_%s%s %d\n", prefix, key, json_is_true(value));
    else if (json_is_integer(value))
        (void)printf("varve_%s%s %" JSON_INTEGER_FORMAT "\n", prefix, key,
                     json_integer_value(value));
}

static void stats_print_level_metrics(const json_t *levels)
{
    const json_t *level;
    size_t index;

    json_array_foreach(levels, index, level)
    {
        (void)printf("varve_engine_level_tables{level=\"%zu\"} %" JSON_INTEGER_FORMAT "\n", index,
                     json_integer_value(json_object_get(level, "tables")));
        (void)printf("varve_engine_level_bytes{level=\"%zu\"} %" JSON_INTEGER_FORMAT "\n", index,
                     json_integer_value(json_object_get(level, "bytes")));
    }
}

static void stats_print_alert_metrics(const json_t *alerts)
{
    const json_t *alert;
    size_t index;

    json_array_foreach(alerts, index, alert)
    {
        (void)printf("varve_alert{name=\"%s\",severity=\"%s\"} %d\n",
                     json_string_value(json_object_get(alert, "name")),
                     json_string_value(json_object_get(alert, "severity")),
                     json_is_true(json_object_get(alert, "active")));
    }
}

static void stats_print_metrics(json_t *reply)
{
    const char *state = json_string_value(json_object_get(reply, "state"));
    const char *group, *key;
    json_t *members, *value;
    char prefix[64];

    (void)printf("varve_failed %d\n", state != NULL && strcmp(state, "failed") == 0);
    stats_print_alert_metrics(json_object_get(reply, "alerts"));
    json_object_foreach(reply, group, members)
    {
        if (!json_is_object(members))
            continue;
        (void)snprintf(prefix, sizeof prefix, "%s_", group);
        json_object_foreach(members, key, value)
        {
            if (json_is_array(value))
                stats_print_level_metrics(value);
            else
                stats_print_metric(prefix, key, value);
        }
    }
}

int command_stats(int argc, char **argv)
{
    static const struct argp_option options[] = {
        {"prometheus", KEY_PROMETHEUS, NULL, 0, "print metrics for Prometheus", 0},
        {0},
    };
    static const struct argp_child children[] = {{&command_options_argp, 0, NULL, 0}, {0}};
    static const struct argp argp = {
        .options = options,
        .parser = stats_parse,
        .args_doc = "MNT",
        .doc = "Show the state and the numbers of the mount that holds MNT.",
        .children = children,
    };
    struct stats_arguments arguments = {0};
    json_t *reply;
    int error;

    command_parse(&argp, argc, argv, EXIT_CODE_USAGE, &arguments);
    error = control_call_or_complain(arguments.path, json_pack("{s:s}", "verb", "stats"),
                                     "read the numbers", &reply);
    if (error < 0)
        return (int)control_exit_code(error);
    if (arguments.common.json) {
        (void)json_object_del(reply, "ok");
        output_json(reply);
        return EXIT_CODE_OK;
    }
    if (arguments.prometheus)
        stats_print_metrics(reply);
    else
        stats_print(reply, 0);
    json_decref(reply);
    return EXIT_CODE_OK;
}
