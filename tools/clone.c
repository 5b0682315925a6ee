/* SPDX-License-Identifier: Apache-2.0 */
/*
 * clone.c - varve clone: a writable store made of a checkpoint
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "engine/base/error.h"
#include "engine/engine_clone.h"
#include "tools/command.h"
#include "tools/exit_code.h"
#include "tools/output.h"
#include "tools/progress.h"

enum { KEY_COPY = 0x2000 };

struct clone_arguments {
    struct command_options common;
    const char *checkpoint, *store;
    bool copy;
};

static error_t clone_parse(int key, char *argument, struct argp_state *state)
{
    struct clone_arguments *arguments = state->input;

    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &arguments->common;
        break;
    case KEY_COPY:
        arguments->copy = true;
        break;
    case ARGP_KEY_ARG:
        if (arguments->store != NULL)
            command_usage(state, "too many arguments");
        else if (arguments->checkpoint != NULL)
            arguments->store = argument;
        else
            arguments->checkpoint = argument;
        break;
    case ARGP_KEY_END:
        if (arguments->store == NULL)
            command_usage(state, "CHECKPOINT or NEWSTORE is missing");
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

static int clone_progress(void *context, uint64_t done, uint64_t total)
{
    return progress_show(context, done, total);
}

static int clone_complain(const struct clone_arguments *arguments, int error)
{
    const char *checkpoint = arguments->checkpoint;

    switch (error) {
    case -EINTR:
        output_error("interrupted; nothing was made");
        break;
    case -EXDEV:
        output_error("%s is on another file system than %s: --copy copies", arguments->store,
                     checkpoint);
        return EXIT_CODE_FAILED;
    case -EISDIR:
        output_error("%s is a live store: name one of its checkpoints, %s/checkpoints/NAME",
                     checkpoint, checkpoint);
        return EXIT_CODE_FAILED;
    case -ENOTEMPTY:
        output_error("%s is not empty", arguments->store);
        return EXIT_CODE_FAILED;
    default:
        output_error("cannot clone %s to %s: %s", checkpoint, arguments->store, error_text(error));
        break;
    }
    return (int)exit_code_of(error);
}

static void clone_report(const struct clone_arguments *arguments,
                         const struct engine_clone_result *result)
{
    char linked[OUTPUT_SIZE_TEXT], copied[OUTPUT_SIZE_TEXT];

    if (arguments->common.json)
        output_json(json_pack("{s:I, s:I, s:I, s:I, s:I}", "sequence", (json_int_t)result->sequence,
                              "linked_files", (json_int_t)result->linked_files, "linked_bytes",
                              (json_int_t)result->linked_bytes, "copied_files",
                              (json_int_t)result->copied_files, "copied_bytes",
                              (json_int_t)result->copied_bytes));
    else if (arguments->common.dry_run && !arguments->common.quiet)
        (void)printf("would %s %" PRIu64 " files (%s)\n", arguments->copy ? "copy" : "link",
                     result->linked_files, output_size(result->linked_bytes, linked));
    else if (arguments->common.verbose > 0)
        (void)printf("linked %" PRIu64 " files (%s), copied %" PRIu64 " (%s)\n",
                     result->linked_files, output_size(result->linked_bytes, linked),
                     result->copied_files, output_size(result->copied_bytes, copied));
}

static int clone_run(const struct clone_arguments *arguments)
{
    struct progress progress;
    struct engine_clone_options options = {
        .checkpoint = arguments->checkpoint,
        .path = arguments->store,
        .copy = arguments->copy,
        .dry_run = arguments->common.dry_run,
        .progress = clone_progress,
        .context = &progress,
    };
    struct engine_clone_result result;
    int error = io_open_backend(IO_BACKEND_SYNC, &options.io);

    if (error == 0) {
        progress_begin(&progress, "cloning", arguments->common.quiet || arguments->common.json);
        error = engine_clone(&options, &result);
        progress_end(&progress);
        io_close_backend(options.io);
    }
    if (error < 0)
        return clone_complain(arguments, error);
    clone_report(arguments, &result);
    return EXIT_CODE_OK;
}

int command_clone(int argc, char **argv)
{
    static const struct argp_option options[] = {
        {"copy", KEY_COPY, NULL, 0,
         "copy the chunks instead of linking them: to another file system", 0},
        {0},
    };
    static const struct argp_child children[] = {{&command_options_argp, 0, NULL, 0}, {0}};
    static const struct argp argp = {
        .options = options,
        .parser = clone_parse,
        .args_doc = "CHECKPOINT NEWSTORE",
        .doc =
            "Make a writable store of a checkpoint: a directory STORE/checkpoints/NAME, or a "
            "copy of one anywhere. The new store has a UUID of its own; its chunks are hard "
            "links to the checkpoint's, so it takes no space of its own until it is changed, and "
            "neither store can change what the other has.",
        .children = children,
    };
    struct clone_arguments arguments = {0};

    command_parse(&argp, argc, argv, EXIT_CODE_USAGE, &arguments);
    return clone_run(&arguments);
}
