/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mkfs.c - varve mkfs, mkfs.varve
 */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fuse/fs.h"
#include "tools/command.h"
#include "tools/exit_code.h"
#include "tools/output.h"

#define MEBIBYTE            (UINT64_C(1) << 20)
#define CHUNK_SIZE_MIB      64
#define CHUNK_SIZE_MIB_MAX  1024
#define COMPRESSION_LEVEL   1
#define COMPRESSION_MINIMUM (-7)
#define COMPRESSION_MAXIMUM 19

enum { KEY_CHUNK_SIZE = 0x2000, KEY_COMPRESSION };

struct mkfs_arguments {
    struct command_options options;
    const char *path;
    long chunk_size_mib, compression_level;
};

static long mkfs_number(const struct argp_state *state, const char *text, long minimum,
                        long maximum, const char *what)
{
    char *end;
    long number;

    errno = 0;
    number = strtol(text, &end, 10);
    if (end == text || *end != '\0' || errno != 0 || number < minimum || number > maximum)
        command_usage(state, "%s must be a number from %ld to %ld", what, minimum, maximum);
    return number;
}

static error_t mkfs_parse(int key, char *argument, struct argp_state *state)
{
    struct mkfs_arguments *arguments = state->input;

    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &arguments->options;
        break;
    case KEY_CHUNK_SIZE:
        arguments->chunk_size_mib =
            mkfs_number(state, argument, 1, CHUNK_SIZE_MIB_MAX, "the chunk size");
        break;
    case KEY_COMPRESSION:
        arguments->compression_level =
            mkfs_number(state, argument, COMPRESSION_MINIMUM, COMPRESSION_MAXIMUM, "the level");
        break;
    case ARGP_KEY_ARG:
        if (arguments->path != NULL)
            command_usage(state, "too many arguments");
        arguments->path = argument;
        break;
    case ARGP_KEY_END:
        if (arguments->path == NULL)
            command_usage(state, "STORE is missing");
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

/* Make the root directory in the store that was just made. */
static int mkfs_make_root(struct io *io, const char *path)
{
    struct engine_options options;
    struct engine *engine;
    int error, close_error;

    engine_options_default(&options);
    options.path = path;
    options.io = io;
    error = engine_open(&options, &engine);
    if (error < 0)
        return error;
    error = fs_format(engine, geteuid(), getegid());
    close_error = engine_close(engine);
    return error < 0 ? error : close_error;
}

static int mkfs_make(const struct mkfs_arguments *arguments)
{
    const struct store_format format = {
        .chunk_size_bytes = (uint64_t)arguments->chunk_size_mib * MEBIBYTE,
        .compression_level = (int32_t)arguments->compression_level,
    };
    struct io *io;
    int error = io_open_backend(IO_BACKEND_SYNC, &io);

    if (error < 0)
        return error;
    error = store_create(io, arguments->path, &format);
    if (error == 0)
        error = mkfs_make_root(io, arguments->path);
    io_close_backend(io);
    return error;
}

/* What making it would meet first. */
static int mkfs_check(const char *path)
{
    DIR *directory = opendir(path);
    struct dirent *entry;
    int error = 0;

    if (directory == NULL)
        return errno == ENOENT ? 0 : -errno;
    while (error == 0 && (entry = readdir(directory)) != NULL) {
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            error = -ENOTEMPTY;
    }
    (void)closedir(directory);
    return error;
}

static int mkfs_complain(const char *path, int error)
{
    switch (error) {
    case -ENOTEMPTY:
    case -EEXIST:
        output_error("%s is not empty: a store is made in an empty or missing directory", path);
        break;
    case -ENOTDIR:
        output_error("%s is not a directory", path);
        break;
    default:
        output_error("cannot make a store in %s: %s", path, error_text(error));
    }
    return EXIT_CODE_FAILED;
}

static void mkfs_report(const struct mkfs_arguments *arguments)
{
    if (arguments->options.json)
        output_json(json_pack("{s:s, s:I, s:I}", "store", arguments->path, "chunk_size_bytes",
                              (json_int_t)arguments->chunk_size_mib * (json_int_t)MEBIBYTE,
                              "compression_level", (json_int_t)arguments->compression_level));
    else if (arguments->options.verbose > 0)
        (void)printf("made a store in %s: chunks of %ld MiB, compression level %ld\n",
                     arguments->path, arguments->chunk_size_mib, arguments->compression_level);
}

int command_mkfs(int argc, char **argv)
{
    static const struct argp_option options[] = {
        {"chunk-size", KEY_CHUNK_SIZE, "MIB", 0, "size of a chunk of file data (64)", 0},
        {"compression", KEY_COMPRESSION, "LEVEL", 0, "zstd level; 0: none (1)", 0},
        {0},
    };
    static const struct argp_child children[] = {{&command_options_argp, 0, NULL, 0}, {0}};
    static const struct argp argp = {
        .options = options,
        .parser = mkfs_parse,
        .args_doc = "STORE",
        .doc = "Make an empty store in the directory STORE, which is missing or empty.",
        .children = children,
    };
    struct mkfs_arguments arguments = {
        .chunk_size_mib = CHUNK_SIZE_MIB,
        .compression_level = COMPRESSION_LEVEL,
    };
    int error;

    command_parse(&argp, argc, argv, EXIT_CODE_USAGE, &arguments);
    error = arguments.options.dry_run ? mkfs_check(arguments.path) : mkfs_make(&arguments);
    if (error < 0)
        return mkfs_complain(arguments.path, error);
    if (!arguments.options.dry_run)
        mkfs_report(&arguments);
    else if (!arguments.options.quiet)
        (void)printf("would make a store in %s\n", arguments.path);
    return EXIT_CODE_OK;
}
