/* SPDX-License-Identifier: Apache-2.0 */
/*
 * snapshot_commands.h - verbs of `varve snapshot` that have files of their own, and what they share
 */
#ifndef VARVE_TOOLS_SNAPSHOT_COMMANDS_H
#define VARVE_TOOLS_SNAPSHOT_COMMANDS_H

#include <jansson.h>

#include "tools/command.h"

int snapshot_list_run(int argc, char **argv);
int snapshot_hold_run(int argc, char **argv);
int snapshot_release_run(int argc, char **argv);
int snapshot_prune_run(int argc, char **argv);
int snapshot_diff_run(int argc, char **argv);

/* ---- shared ---- */

#define SNAPSHOT_WORDS_MAX 4096

/* A verb whose words are MNT and names. */
struct snapshot_arguments {
    struct command_options common;
    size_t minimum, maximum; /* how many words */
    const char *missing;     /* what to ask for when there are fewer */
    const char *words[SNAPSHOT_WORDS_MAX];
    size_t count;
    json_t *tags; /* of --tag, or NULL */
};

enum snapshot_key { SNAPSHOT_KEY_TAG = 0x2000, SNAPSHOT_KEY_OTHER };

/* Parses words and SNAPSHOT_KEY_TAG; the input begins with a struct snapshot_arguments. */
error_t snapshot_parse(int key, char *argument, struct argp_state *state);
extern const struct argp_child snapshot_common_children[];

/* {"verb": verb}; NULL: out of memory. */
json_t *snapshot_request(const char *verb);
/* The same with the second word and those after it as "names". */
json_t *snapshot_request_names(const char *verb, const struct snapshot_arguments *arguments);
int snapshot_set_name(json_t *object, const char *key, const char *name);

/* Ask the mount of the first word. When that fails, "cannot <what> <name>: ..." is printed (name may
 * be NULL). The exit status; EXIT_CODE_OK: *ret_reply is to be freed. */
int snapshot_call(const struct snapshot_arguments *arguments, json_t *request, const char *what,
                  const char *name, json_t **ret_reply);

/* For -n: are there snapshots of these names, or none of this one? Complaints are printed. The exit
 * status. */
int snapshot_check_known(const struct snapshot_arguments *arguments, const char *const *names,
                         size_t count);
int snapshot_check_new(const struct snapshot_arguments *arguments, const char *name);

/* Write a name that came in a reply, byte for byte. */
void snapshot_print_name(const json_t *object);
/* "would free ...", of a reply with "freed_bytes". */
void snapshot_print_freed(const json_t *reply);

/* Show {"results": [{"name", "error"}]}: complain "cannot <what> snapshot ..." about each that
 * failed, with -v name the others. Frees the reply; returns the exit status. */
int snapshot_report_results(const struct snapshot_arguments *arguments, json_t *reply,
                            const char *what, const char *done);

#endif
