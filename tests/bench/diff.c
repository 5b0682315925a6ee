/* SPDX-License-Identifier: Apache-2.0 */
/*
 * diff.c - what the difference of two snapshots looks at, counted: trees and changes of several sizes
 *
 * For each tree a snapshot is taken, files all over it are appended to, another one is taken, the
 * store is opened anew so that nothing is in memory, and the difference is made. Tables that both
 * snapshots have are passed over; of the others the records are counted, and the look-ups, the blocks
 * of tables and the bytes that were read from files for all of it. In a second round everything is
 * merged before each of the two snapshots, so that they share no table, but most blocks of tables.
 */
#include <argp.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/lock.h"
#include "fuse/fs_diff.h"

#define PER_DIRECTORY 1000

struct bench {
    const char *directory;
    uint64_t files_max, changes_max;
    bool merged_too;

    struct io *io;
    struct engine *engine;
    struct fs *fs;
    uint64_t *nodes;
    unsigned snapshots;
};

static const struct fs_caller caller = {.uid = 0};

static void check(const char *what, int64_t result)
{
    if (result >= 0)
        return;
    fprintf(stderr, "bench_diff: %s: %s\n", what, error_text((int)result));
    exit(1);
}

/* ---- the store ---- */

static void open_store(struct bench *bench, const char *path)
{
    struct engine_options options;
    struct fs_options fs_options;

    engine_options_default(&options);
    options.path = path;
    options.io = bench->io;
    check("open", engine_open(&options, &bench->engine));
    fs_options_default(&fs_options);
    check("open", fs_open(bench->engine, &fs_options, &bench->fs));
}

static void close_store(struct bench *bench)
{
    fs_close(bench->fs);
    check("close", engine_close(bench->engine));
}

static void make_tree(struct bench *bench, uint64_t count)
{
    uint64_t directory = FS_ROOT;
    struct fs_entry entry;
    char name[32];

    for (uint64_t i = 0; i < count; i++) {
        if (i % PER_DIRECTORY == 0) {
            snprintf(name, sizeof name, "directory-%" PRIu64, i / PER_DIRECTORY);
            check("mkdir", fs_mkdir(bench->fs, FS_ROOT, name, 0755, &caller, &entry));
            directory = entry.attribute.node;
        }
        snprintf(name, sizeof name, "file-%" PRIu64, i);
        check("create", fs_mknod(bench->fs, directory, name, S_IFREG | 0644, 0, &caller, &entry));
        bench->nodes[i] = entry.attribute.node;
        check("write",
              fs_write(bench->fs, entry.attribute.node, name, strlen(name), 0, true, false));
        fs_forget(bench->fs, entry.attribute.node, 1);
    }
}

/* From one end to the other. */
static void change_files(struct bench *bench, uint64_t files, uint64_t changes)
{
    for (uint64_t i = 0; i < changes; i++)
        check("append",
              fs_write(bench->fs, bench->nodes[i * files / changes], "changed", 7, 0, true, false));
}

static void take_snapshot(struct bench *bench, char name[32])
{
    struct snapshot *snapshot;

    snprintf(name, 32, "s%u", bench->snapshots++);
    check("snapshot",
          snapshot_create(fs_snapshots(bench->fs), slice_of_string(name), NULL, 0, &snapshot));
    check("snapshot", snapshot_wait(fs_snapshots(bench->fs), snapshot));
    snapshot_unref(snapshot);
}

/* ---- the difference ---- */

static struct snapshot *view_of(struct bench *bench, const char *name,
                                struct engine_view **ret_view)
{
    struct snapshot *snapshot = snapshot_find(fs_snapshots(bench->fs), slice_of_string(name));

    check("look", snapshot != NULL ? 0 : -ENOENT);
    check("look", snapshot_view_get(snapshot, ret_view));
    return snapshot;
}

static void compare(struct bench *bench, uint64_t files, uint64_t changes, bool merged,
                    const char *before_name, const char *after_name)
{
    const struct fs_diff_options options = {.path_count = 0};
    struct engine_statistics start, end;
    struct engine_view *before, *after;
    struct snapshot *one, *other;
    struct fs_diff diff;
    uint64_t began_ns, first_ns, again_ns;

    engine_get_statistics(bench->engine, &start);
    began_ns = clock_monotonic_ns();
    one = view_of(bench, before_name, &before);
    other = view_of(bench, after_name, &after);
    check("diff", fs_diff_make(before, after, &options, &diff));
    first_ns = clock_monotonic_ns() - began_ns;
    engine_get_statistics(bench->engine, &end);
    if (diff.count != changes)
        check("more or fewer differences than changes", -EIO);
    printf("| %" PRIu64 " | %" PRIu64 " | %s | ", files, changes, merged ? "yes" : "no");
    printf("%" PRIu64 " | %" PRIu64 " | %" PRIu64 " | ", diff.statistics.tables_shared,
           diff.statistics.tables_read, diff.statistics.blocks_shared);
    printf("%" PRIu64 " | %" PRIu64 " | %" PRIu64 " | %" PRIu64 " | ", diff.statistics.records_read,
           diff.statistics.lookups,
           end.cache_hits + end.cache_misses - start.cache_hits - start.cache_misses,
           (end.io.read_bytes - start.io.read_bytes) / 1024);
    fs_diff_free(&diff);
    began_ns = clock_monotonic_ns();
    check("diff", fs_diff_make(before, after, &options, &diff));
    again_ns = clock_monotonic_ns() - began_ns;
    printf("%.1f | %.1f |\n", (double)first_ns / 1e6, (double)again_ns / 1e6);
    (void)fflush(stdout);
    fs_diff_free(&diff);
    snapshot_view_put(one, before);
    snapshot_view_put(other, after);
    snapshot_unref(one);
    snapshot_unref(other);
}

static void measure_changes(struct bench *bench, const char *path, uint64_t files, uint64_t changes,
                            bool merged)
{
    char before[32], after[32];

    if (merged)
        check("merge", engine_compact(bench->engine));
    take_snapshot(bench, before);
    change_files(bench, files, changes);
    if (merged)
        check("merge", engine_compact(bench->engine));
    take_snapshot(bench, after);
    close_store(bench);
    open_store(bench, path);
    compare(bench, files, changes, merged, before, after);
}

static void measure_tree(struct bench *bench, uint64_t files)
{
    struct store_format format = {.chunk_size_bytes = 64 << 20, .compression_level = 1};
    char *path;

    if (asprintf(&path, "%s/tree-%" PRIu64, bench->directory, files) < 0)
        check("make", -ENOMEM);
    check("make", store_create(bench->io, path, &format));
    open_store(bench, path);
    bench->nodes = calloc(files, sizeof *bench->nodes);
    check("make", bench->nodes != NULL ? 0 : -ENOMEM);
    make_tree(bench, files);
    for (uint64_t changes = 100; changes <= bench->changes_max && changes <= files; changes *= 10)
        measure_changes(bench, path, files, changes, false);
    for (uint64_t changes = 100;
         bench->merged_too && changes <= bench->changes_max && changes <= files; changes *= 10)
        measure_changes(bench, path, files, changes, true);
    close_store(bench);
    free(bench->nodes);
    free(path);
}

/* ---- the command ---- */

static error_t parse(int key, char *text, struct argp_state *state)
{
    struct bench *bench = state->input;

    switch (key) {
    case 'f':
        bench->files_max = strtoull(text, NULL, 0);
        return 0;
    case 'c':
        bench->changes_max = strtoull(text, NULL, 0);
        return 0;
    case 'm':
        bench->merged_too = true;
        return 0;
    case ARGP_KEY_ARG:
        if (state->arg_num > 0)
            argp_usage(state);
        bench->directory = text;
        return 0;
    case ARGP_KEY_NO_ARGS:
        argp_usage(state);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

int main(int argc, char **argv)
{
    static const struct argp_option options[] = {
        {"files", 'f', "N", 0, "Trees of 10,000 files, ten times that, up to N (1,000,000)", 0},
        {"changes", 'c', "N", 0, "100 changed files, ten times that, up to N (10,000)", 0},
        {"merged", 'm', NULL, 0, "Also with all tables merged between the snapshots", 0},
        {0},
    };
    static const struct argp argp = {options,
                                     parse,
                                     "DIRECTORY",
                                     "Count what the difference of two snapshots looks at. Stores "
                                     "are made in DIRECTORY, and stay.",
                                     NULL,
                                     NULL,
                                     NULL};
    struct bench bench = {.files_max = 1000000, .changes_max = 10000};

    (void)argp_parse(&argp, argc, argv, 0, NULL, &bench);
    check("start", io_open_backend(IO_BACKEND_SYNC, &bench.io));
    printf("| files | changed | merged | tables shared | read | blocks shared | records | look-ups "
           "| blocks | KiB "
           "read "
           "| ms, first | again |\n|---|---|---|---|---|---|---|---|---|---|---|---|\n");
    for (uint64_t files = 10000; files <= bench.files_max; files *= 10)
        measure_tree(&bench, files);
    io_close_backend(bench.io);
    return 0;
}
