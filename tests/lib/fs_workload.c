/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fs_workload.c - choosing and doing operations, noting trees, judging what was recovered
 *
 * Few names, so that they meet, are replaced, linked and moved onto each other. Errors that a
 * caller brings on himself are part of it.
 */
#include "tests/lib/fs_workload.h"

#include <errno.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fuse/fs.h"
#include "tests/lib/crash_history_internal.h"
#include "tests/lib/fs_tree.h"
#include "tests/lib/seed.h"

#define DATA_MAX      (200 * 1024)
#define SNAPSHOTS_MAX 6

struct workload {
    struct engine *engine;
    struct crash_history *history;
    struct fs *fs;
    uint64_t seed;
    struct fs_tree tree; /* as it is */
    const char *doing;
    uint64_t rolled_back; /* the operation was a rollback, which took effect there */
};

static const struct fs_caller root = {.uid = 0, .gid = 0};

/* ---- choosing ---- */

static uint64_t below(struct workload *workload, uint64_t limit)
{
    return seed_below(&workload->seed, limit);
}

static const char *pick_name(struct workload *workload)
{
    static const char *const names[] = {"a", "b", "c", "d", "e", "f"};

    return names[below(workload, 6)];
}

static const char *pick_snapshot(struct workload *workload)
{
    static const char *const names[] = {"s1", "s2", "s3", "s4", "s5", "s6"};

    return names[below(workload, SNAPSHOTS_MAX)];
}

static uint64_t pick_directory(struct workload *workload)
{
    for (unsigned tries = 0; tries < 6 && workload->tree.count > 0; tries++) {
        const struct fs_tree_entry *entry =
            &workload->tree.list[below(workload, workload->tree.count)];

        if (S_ISDIR(entry->mode))
            return entry->node;
    }
    return FS_ROOT;
}

/* A regular file, 0 when none was met. */
static uint64_t pick_file(struct workload *workload)
{
    for (unsigned tries = 0; tries < 8 && workload->tree.count > 0; tries++) {
        const struct fs_tree_entry *entry =
            &workload->tree.list[below(workload, workload->tree.count)];

        if (S_ISREG(entry->mode))
            return entry->node;
    }
    return 0;
}

static uint64_t pick_any(struct workload *workload)
{
    return workload->tree.count == 0
               ? FS_ROOT
               : workload->tree.list[below(workload, workload->tree.count)].node;
}

/* Mostly small; sometimes frames of file data. */
static uint64_t pick_size(struct workload *workload)
{
    return below(workload, 5) == 0 ? 1 + below(workload, DATA_MAX) : 1 + below(workload, 3000);
}

static uint64_t snapshots_node(struct workload *workload)
{
    struct fs_entry entry;

    if (fs_lookup(workload->fs, FS_ROOT, ".snapshots", &entry) < 0)
        abort();
    fs_forget(workload->fs, entry.attribute.node, 1);
    return entry.attribute.node;
}

/* ---- operations: 0 or an error ---- */

static int take(struct workload *workload, int result, const struct fs_entry *entry)
{
    if (result == 0)
        fs_forget(workload->fs, entry->attribute.node, 1);
    return result;
}

static int do_create(struct workload *workload)
{
    struct fs_entry entry;

    return take(workload,
                fs_mknod(workload->fs, pick_directory(workload), pick_name(workload),
                         S_IFREG | 0644, 0, &root, &entry),
                &entry);
}

static int do_mkdir(struct workload *workload)
{
    struct fs_entry entry;

    return take(
        workload,
        fs_mkdir(workload->fs, pick_directory(workload), pick_name(workload), 0755, &root, &entry),
        &entry);
}

static int do_symlink(struct workload *workload)
{
    struct fs_entry entry;

    return take(workload,
                fs_symlink(workload->fs, pick_directory(workload), pick_name(workload), "target/of",
                           &root, &entry),
                &entry);
}

static int do_link(struct workload *workload)
{
    struct fs_entry entry;
    uint64_t file = pick_file(workload);

    if (file == 0)
        return 0;
    return take(
        workload,
        fs_link(workload->fs, file, pick_directory(workload), pick_name(workload), &root, &entry),
        &entry);
}

static int do_unlink(struct workload *workload)
{
    return fs_unlink(workload->fs, pick_directory(workload), pick_name(workload), &root);
}

static int do_rmdir(struct workload *workload)
{
    return fs_rmdir(workload->fs, pick_directory(workload), pick_name(workload), &root);
}

static int do_rename(struct workload *workload)
{
    static const unsigned flags[] = {0, 0, 0, RENAME_NOREPLACE, RENAME_EXCHANGE};

    return fs_rename(workload->fs, pick_directory(workload), pick_name(workload),
                     pick_directory(workload), pick_name(workload), flags[below(workload, 5)],
                     &root);
}

static int do_tmpfile(struct workload *workload)
{
    struct fs_entry entry, linked;
    int result = fs_tmpfile(workload->fs, FS_ROOT, S_IFREG | 0600, &root, &entry);

    if (result < 0)
        return result;
    /* Without a name nobody sees it. */
    if (below(workload, 2) == 0)
        result = take(workload,
                      fs_link(workload->fs, entry.attribute.node, pick_directory(workload),
                              pick_name(workload), &root, &linked),
                      &linked);
    fs_forget(workload->fs, entry.attribute.node, 1);
    return result;
}

static int do_write(struct workload *workload)
{
    uint64_t file = pick_file(workload), size = pick_size(workload);
    bool append = below(workload, 3) == 0, noise = below(workload, 2) == 0;
    uint8_t *data;
    int64_t result;

    if (file == 0)
        return 0;
    data = crash_must(malloc(size));
    memset(data, (int)below(workload, 256), size);
    for (uint64_t i = 0; i < size; i += noise ? 1 : 509)
        data[i] = (uint8_t)below(workload, 256);
    result = fs_write(workload->fs, file, data, size, below(workload, 2) * below(workload, 9000),
                      append, false);
    free(data);
    return result < 0 ? (int)result : 0;
}

static int do_truncate(struct workload *workload)
{
    struct fs_setattr change = {.mask = FS_SETATTR_SIZE,
                                .size_bytes = below(workload, 2) * pick_size(workload)};
    uint64_t file = pick_file(workload);
    struct fs_entry entry;

    return file != 0 ? fs_setattr(workload->fs, file, &change, &root, &entry) : 0;
}

static int do_chmod(struct workload *workload)
{
    struct fs_setattr change = {.mask = FS_SETATTR_MODE | FS_SETATTR_MTIME,
                                .mode = (mode_t)(0700 | below(workload, 64)),
                                .mtime = {.tv_sec = (time_t)below(workload, 1000000)}};
    struct fs_entry entry;

    return fs_setattr(workload->fs, pick_any(workload), &change, &root, &entry);
}

static int do_allocate(struct workload *workload)
{
    static const int modes[] = {0, FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE,
                                FALLOC_FL_ZERO_RANGE};
    uint64_t file = pick_file(workload), offset = below(workload, 5000);

    return file != 0 ? fs_fallocate(workload->fs, file, modes[below(workload, 3)], offset,
                                    pick_size(workload))
                     : 0;
}

static int do_copy(struct workload *workload)
{
    uint64_t from = pick_file(workload), to = pick_file(workload);
    int64_t result;

    if (from == 0 || to == 0 || from == to)
        return 0;
    result = fs_copy_range(workload->fs, from, 0, 0, to, 4096 * below(workload, 2), DATA_MAX);
    return result < 0 ? (int)result : 0;
}

static int do_xattr(struct workload *workload)
{
    uint64_t node = pick_any(workload);
    const char *name = below(workload, 2) == 0 ? "user.one" : "user.two";
    char value[64];

    memset(value, (int)below(workload, 256), sizeof value);
    if (below(workload, 3) == 0)
        return fs_removexattr(workload->fs, node, name, &root);
    return fs_setxattr(workload->fs, node, name, value, 1 + below(workload, 64), 0, &root);
}

static int do_sync(struct workload *workload)
{
    uint64_t sequence = engine_sequence(workload->engine);
    bool all = below(workload, 3) == 0;
    int result = all ? fs_sync(workload->fs)
                     : fs_fsync(workload->fs, pick_any(workload), below(workload, 2) == 0);

    if (result == 0)
        crash_history_note_synced(workload->history, sequence);
    return result;
}

/* A file is made aside, synced, and moved over the old one. */
static int do_replace(struct workload *workload)
{
    uint64_t directory = pick_directory(workload), sequence;
    char data[700];
    struct fs_entry entry;
    struct fs_tree tree;
    int64_t size;
    int result = fs_mknod(workload->fs, directory, "new", S_IFREG | 0644, 0, &root, &entry);

    if (result < 0)
        return result;
    for (unsigned step = 0; result == 0 && step < 3; step++) {
        /* Each step is an operation of its own. */
        result = fs_tree_walk(workload->fs, FS_ROOT, &tree);
        if (result < 0)
            break;
        crash_history_note_tree(workload->history, engine_sequence(workload->engine), tree.digest);
        fs_tree_free(&tree);
        memset(data, (int)below(workload, 256), sizeof data);
        if (step == 0) {
            size = fs_write(workload->fs, entry.attribute.node, data, sizeof data, 0, false, false);
            result = size < 0 ? (int)size : 0;
        } else if (step == 1) {
            sequence = engine_sequence(workload->engine);
            result = fs_fsync(workload->fs, entry.attribute.node, true);
            if (result == 0)
                crash_history_note_synced(workload->history, sequence);
        } else {
            result =
                fs_rename(workload->fs, directory, "new", directory, pick_name(workload), 0, &root);
        }
    }
    fs_forget(workload->fs, entry.attribute.node, 1);
    return result;
}

static int do_snapshot(struct workload *workload)
{
    struct fs_entry entry;

    return take(workload,
                fs_mkdir(workload->fs, snapshots_node(workload), pick_snapshot(workload), 0755,
                         &root, &entry),
                &entry);
}

static int do_snapshot_delete(struct workload *workload)
{
    return fs_rmdir(workload->fs, snapshots_node(workload), pick_snapshot(workload), &root);
}

static int do_snapshot_rename(struct workload *workload)
{
    uint64_t snapshots = snapshots_node(workload);

    return fs_rename(workload->fs, snapshots, pick_snapshot(workload), snapshots,
                     pick_snapshot(workload), 0, &root);
}

static int do_rollback(struct workload *workload)
{
    struct fs_notify nobody = {0};
    char before[SNAPSHOT_NAME_SIZE_MAX + 1];
    int result = fs_rollback(workload->fs, pick_snapshot(workload), &nobody, before);

    if (result == 0)
        workload->rolled_back = crash_history_rollback_sequence(workload->history);
    return result;
}

static int do_flush(struct workload *workload)
{
    return engine_flush(workload->engine);
}

static int do_compact(struct workload *workload)
{
    return engine_compact(workload->engine);
}

struct operation {
    const char *name;
    unsigned weight;
    int (*run)(struct workload *workload);
};

static const struct operation operations_list[] = {
    {"create", 12, do_create},
    {"write", 18, do_write},
    {"mkdir", 5, do_mkdir},
    {"symlink", 2, do_symlink},
    {"link", 4, do_link},
    {"unlink", 5, do_unlink},
    {"rmdir", 2, do_rmdir},
    {"rename", 9, do_rename},
    {"replace", 4, do_replace},
    {"tmpfile", 3, do_tmpfile},
    {"truncate", 4, do_truncate},
    {"chmod", 3, do_chmod},
    {"allocate", 3, do_allocate},
    {"copy", 4, do_copy},
    {"xattr", 4, do_xattr},
    {"sync", 8, do_sync},
    {"snapshot", 6, do_snapshot},
    {"snapshot delete", 3, do_snapshot_delete},
    {"snapshot rename", 2, do_snapshot_rename},
    {"rollback", 2, do_rollback},
    {"flush", 4, do_flush},
    {"compact", 2, do_compact},
};
#define OPERATION_COUNT (sizeof operations_list / sizeof *operations_list)

static const struct operation *pick_operation(struct workload *workload)
{
    unsigned total = 0;
    uint64_t dice;

    for (size_t i = 0; i < OPERATION_COUNT; i++)
        total += operations_list[i].weight;
    dice = below(workload, total);
    for (size_t i = 0;; i++) {
        if (dice < operations_list[i].weight)
            return &operations_list[i];
        dice -= operations_list[i].weight;
    }
}

/* What a caller may bring on himself. */
static bool is_answer(int error)
{
    switch (error) {
    case 0:
    case -EEXIST:
    case -ENOENT:
    case -ENOTDIR:
    case -EISDIR:
    case -ENOTEMPTY:
    case -EINVAL:
    case -ENODATA:
    case -EPERM:
    case -EBUSY:
    case -EOPNOTSUPP:
        return true;
    default:
        return false;
    }
}

/* ---- noting and judging ---- */

static int open_fs(struct engine *engine, struct fs **ret_fs)
{
    struct fs_options options;

    fs_options_default(&options);
    options.owner_uid = 0;
    options.atime = FS_ATIME_NONE; /* so that looking changes nothing */
    options.snapdir_visible = false;
    return fs_open(engine, &options, ret_fs);
}

static char *note_tree(struct workload *workload)
{
    struct fs_tree before = workload->tree;
    uint64_t sequence = engine_sequence(workload->engine);
    int result = fs_tree_walk(workload->fs, FS_ROOT, &workload->tree);

    if (result < 0) {
        workload->tree = before;
        return crash_text("walking after %s: %s", workload->doing, error_text(result));
    }
    /* Forgetting removes what is unlinked: later numbers, the same tree. */
    fs_tree_free(&before);
    if (workload->rolled_back > 0)
        crash_history_note_tree(workload->history, workload->rolled_back, workload->tree.digest);
    workload->rolled_back = 0;
    crash_history_note_tree(workload->history, sequence, workload->tree.digest);
    return NULL;
}

char *fs_workload_prepare(struct engine *engine, struct crash_history *history)
{
    struct workload workload = {.engine = engine, .history = history, .doing = "making it"};
    char *wrong;
    int result = fs_format(engine, 0, 0);

    if (result == 0)
        result = open_fs(engine, &workload.fs);
    if (result < 0)
        return crash_text("making a filesystem: %s", error_text(result));
    wrong = note_tree(&workload);
    fs_tree_free(&workload.tree);
    fs_close(workload.fs);
    return wrong;
}

char *fs_workload_run(struct engine *engine, struct crash_history *history, uint64_t seed,
                      unsigned operations)
{
    struct workload workload = {
        .engine = engine, .history = history, .seed = seed, .doing = "opening"};
    char *wrong;
    int result = open_fs(engine, &workload.fs);

    if (result < 0)
        return crash_text("opening the filesystem: %s", error_text(result));
    wrong = note_tree(&workload);
    for (unsigned i = 0; wrong == NULL && i < operations; i++) {
        const struct operation *operation = pick_operation(&workload);

        workload.doing = operation->name;
        result = operation->run(&workload);
        wrong = is_answer(result) ? note_tree(&workload)
                                  : crash_text("%s: %s", operation->name, error_text(result));
    }
    fs_tree_free(&workload.tree);
    fs_close(workload.fs);
    return wrong;
}

/* ---- after a crash ---- */

static char *check_tree(struct fs *fs, struct crash_history *history, uint64_t top,
                        uint64_t sequence, const char *what)
{
    struct fs_tree tree;
    uint64_t wanted;
    char *wrong = NULL;
    int result = fs_tree_walk(fs, top, &tree);

    if (result < 0)
        return crash_text("%s cannot be read: %s", what, error_text(result));
    if (!crash_history_tree(history, sequence, &wanted))
        wrong = crash_text("%s is of sequence %llu, before the filesystem was made", what,
                           (unsigned long long)sequence);
    else if (wanted != tree.digest)
        wrong = crash_text("%s at sequence %llu is no tree that was acknowledged", what,
                           (unsigned long long)sequence);
    fs_tree_free(&tree);
    return wrong;
}

struct snapshot_list {
    struct {
        char name[256];
        uint64_t sequence;
    } list[64];
    size_t count;
};

static int add_snapshot(void *context, const struct engine_checkpoint_info *info)
{
    struct snapshot_list *list = context;

    if (list->count == sizeof list->list / sizeof *list->list)
        abort();
    memcpy(list->list[list->count].name, info->name, info->name_size);
    list->list[list->count].name[info->name_size] = '\0';
    list->list[list->count++].sequence = info->sequence;
    return 0;
}

static char *check_snapshots(struct workload *workload)
{
    struct snapshot_list list = {0};
    uint64_t snapshots = snapshots_node(workload);
    char *wrong = NULL;

    (void)engine_checkpoint_each(workload->engine, add_snapshot, &list);
    for (size_t i = 0; wrong == NULL && i < list.count; i++) {
        struct fs_entry entry;
        char what[300];
        int result = fs_lookup(workload->fs, snapshots, list.list[i].name, &entry);

        snprintf(what, sizeof what, "snapshot \"%s\"", list.list[i].name);
        if (result < 0)
            return crash_text("%s has no directory: %s", what, error_text(result));
        wrong = check_tree(workload->fs, workload->history, entry.attribute.node,
                           list.list[i].sequence, what);
        fs_forget(workload->fs, entry.attribute.node, 1);
    }
    return wrong;
}

static void report(void *context, const char *line)
{
    (void)context;
    fprintf(stderr, "fsck: %s\n", line);
}

static char *check_structure(struct engine *engine)
{
    struct engine_view *view = engine_view_acquire(engine);
    uint64_t findings = 0;
    int result = fs_check(view, true, report, NULL, &findings);

    engine_view_release(view);
    if (result < 0)
        return crash_text("fsck: %s", error_text(result));
    return findings > 0 ? crash_text("fsck has findings") : NULL;
}

char *fs_workload_check(struct engine *engine, struct crash_history *history)
{
    struct workload workload = {.engine = engine, .history = history};
    uint64_t sequence = engine_sequence(engine);
    char *wrong;
    int result = open_fs(engine, &workload.fs);

    if (result < 0)
        return crash_text("the filesystem does not open: %s", error_text(result));
    wrong = check_tree(workload.fs, history, FS_ROOT, sequence, "the tree");
    if (wrong == NULL)
        wrong = check_snapshots(&workload);
    fs_close(workload.fs);
    if (wrong == NULL)
        wrong = check_structure(engine);
    return wrong;
}
