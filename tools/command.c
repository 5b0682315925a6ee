/* SPDX-License-Identifier: Apache-2.0 */
/*
 * command.c - find the verb, parse what verbs share
 */
#include "tools/command.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/exit_code.h"
#include "tools/output.h"

static void command_list(FILE *stream, const struct command *commands, size_t count,
                         const char *prefix)
{
    (void)fprintf(stream, "Usage: %s COMMAND [ARGUMENT...]\n\nCommands:\n", prefix);
    for (size_t i = 0; i < count; i++)
        (void)fprintf(stream, "  %-10s %s\n", commands[i].name, commands[i].summary);
    (void)fprintf(stream,
                  "\nOptions:\n"
                  "  --help     show this\n"
                  "  --version  show the program's version\n\n"
                  "'%s COMMAND --help' tells more about one command.\n",
                  prefix);
}

int command_dispatch(const struct command *commands, size_t count, const char *prefix, int argc,
                     char **argv)
{
    const char *name = argc > 1 ? argv[1] : NULL;
    char called[64];

    if (name == NULL) {
        command_list(stderr, commands, count, prefix);
        return EXIT_CODE_USAGE;
    }
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0 || strcmp(name, "help") == 0) {
        command_list(stdout, commands, count, prefix);
        return output_finish(EXIT_CODE_OK);
    }
    if (strcmp(name, "--version") == 0 || strcmp(name, "-V") == 0) {
        (void)printf("%s\n", argp_program_version);
        return output_finish(EXIT_CODE_OK);
    }
    for (size_t i = 0; i < count; i++) {
        if (strcmp(commands[i].name, name) != 0)
            continue;
        (void)snprintf(called, sizeof called, "%s %s", prefix, name);
        argv[1] = called;
        return output_finish(commands[i].run(argc - 1, argv + 1));
    }
    output_error("unknown command '%s'; '%s --help' lists them", name, prefix);
    return EXIT_CODE_USAGE;
}

enum { KEY_JSON = 0x1000 };

static const struct argp_option option_list[] = {
    {"json", KEY_JSON, NULL, 0, "print JSON", 90},
    {"dry-run", 'n', NULL, 0, "only say what would be done", 90},
    {"quiet", 'q', NULL, 0, "print no more than is needed", 90},
    {"verbose", 'v', NULL, 0, "print more", 90},
    {0},
};

static error_t parse_option(int key, char *argument, struct argp_state *state)
{
    struct command_options *options = state->input;

    (void)argument;
    switch (key) {
    case KEY_JSON:
        options->json = true;
        break;
    case 'n':
        options->dry_run = true;
        break;
    case 'q':
        options->quiet = true;
        break;
    case 'v':
        options->verbose++;
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

const struct argp command_options_argp = {.options = option_list, .parser = parse_option};

void command_parse(const struct argp *argp, int argc, char **argv, int usage_status, void *input)
{
    error_t error;

    argp_err_exit_status = usage_status;
    error = argp_parse(argp, argc, argv, 0, NULL, input);
    if (error != 0) {
        output_error("%s", strerror(error));
        exit(EXIT_CODE_FAILED);
    }
}

void command_usage(const struct argp_state *state, const char *format, ...)
{
    va_list arguments;
    char text[512];

    va_start(arguments, format);
    (void)vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    argp_error(state, "%s", text);
    exit(argp_err_exit_status);
}

/* ---- words ---- */

struct words_input {
    const struct command_words_rule *rule;
    struct command_words *words;
};

static void words_add(const struct words_input *input, char *argument,
                      const struct argp_state *state)
{
    if (input->words->path == NULL)
        input->words->path = argument;
    else if (input->rule->takes_name && input->words->name == NULL)
        input->words->name = argument;
    else
        command_usage(state, "too many arguments");
}

static error_t words_parse(int key, char *argument, struct argp_state *state)
{
    const struct words_input *input = state->input;

    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &input->words->common;
        break;
    case ARGP_KEY_ARG:
        words_add(input, argument, state);
        break;
    case ARGP_KEY_END:
        if (input->words->path == NULL || (input->rule->needs_name && input->words->name == NULL))
            command_usage(state, "%s is missing", input->rule->missing);
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

void command_parse_words(const struct command_words_rule *rule, int argc, char **argv,
                         struct command_words *ret_words)
{
    static const struct argp_child children[] = {{&command_options_argp, 0, NULL, 0}, {0}};
    const struct argp argp = {
        .parser = words_parse,
        .args_doc = rule->args_doc,
        .doc = rule->documentation,
        .children = children,
    };
    struct words_input input = {rule, ret_words};

    *ret_words = (struct command_words){0};
    command_parse(&argp, argc, argv, EXIT_CODE_USAGE, &input);
}
