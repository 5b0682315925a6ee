/* SPDX-License-Identifier: Apache-2.0 */
/*
 * command.h - verbs of the command line, and the options they share
 *
 * Each verb parses its own words with argp and returns the exit status. argv[0] is how the user
 * called it ("varve mount", "mount.varve"), for messages.
 */
#ifndef VARVE_TOOLS_COMMAND_H
#define VARVE_TOOLS_COMMAND_H

#include <argp.h>
#include <stdbool.h>
#include <stddef.h>

struct command {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *summary;
};

/* Run the command that argv[1] names; `prefix` is what was typed before it. */
int command_dispatch(const struct command *commands, size_t count, const char *prefix, int argc,
                     char **argv);

/* Options of most verbs. */
struct command_options {
    bool json, dry_run, quiet;
    unsigned verbose;
};

/* As an argp child; its input is a struct command_options. */
extern const struct argp command_options_argp;

/* Parse with argp: usage errors end the program with `usage_status`. */
void command_parse(const struct argp *argp, int argc, char **argv, int usage_status, void *input);

/* The words of a verb that takes a path, and some a name, beside the options most have. */
struct command_words {
    struct command_options common;
    const char *path, *name;
};

struct command_words_rule {
    const char *args_doc, *documentation;
    const char *missing; /* what a usage error calls the words that are not there */
    bool takes_name, needs_name;
};

/* As command_parse(), with EXIT_CODE_USAGE. *ret_words points into argv. */
void command_parse_words(const struct command_words_rule *rule, int argc, char **argv,
                         struct command_words *ret_words);

/* Show a usage error and end; `format` like printf. */
_Noreturn void command_usage(const struct argp_state *state, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

int command_mkfs(int argc, char **argv);
int command_mount(int argc, char **argv);
int command_mount_helper(int argc, char **argv); /* as mount(8) calls it */
int command_umount(int argc, char **argv);
int command_sync(int argc, char **argv);
int command_flush(int argc, char **argv);
int command_compact(int argc, char **argv);
int command_stats(int argc, char **argv);
int command_fsck(int argc, char **argv);
int command_snapshot(int argc, char **argv);
int command_clone(int argc, char **argv);
int command_rollback(int argc, char **argv);
int command_verify(int argc, char **argv);

#endif
