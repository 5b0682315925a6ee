/* SPDX-License-Identifier: Apache-2.0 */
/*
 * model_fs.c - random operations on a filesystem and on a reference give the same
 *
 * After every operation its result and the times it set are compared, at intervals the whole live
 * tree and every snapshot: names, attributes, data, holes, xattrs, link counts, and which files of
 * different snapshots are one inode. The store is closed and opened, flushed and compacted in
 * between, with small memtables so that much of it is tables.
 *
 * VARVE_TEST_SEED repeats a run, VARVE_MODEL_OPERATIONS sets its length, VARVE_MODEL_TRACE names each
 * operation before it begins.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/lib/test_directory.h"
#include "tests/model/model.h"

#define OPERATIONS_DEFAULT 20000

/* ---- choosing ---- */

uint64_t model_below(struct model *model, uint64_t limit)
{
    return seed_below(&model->random, limit);
}

bool model_chance(struct model *model, unsigned one_in)
{
    return model_below(model, one_in) == 0;
}

static unsigned pick(struct model *model, mode_t type)
{
    unsigned candidates[REFERENCE_INODES], count = 0;

    for (unsigned i = 0; i < REFERENCE_INODES; i++) {
        const struct reference_inode *inode = model_inode(model, i);

        if (inode != NULL && (type == 0 || (inode->mode & S_IFMT) == type))
            candidates[count++] = i;
    }
    return count > 0 ? candidates[model_below(model, count)] : REFERENCE_INODES;
}

unsigned model_pick_directory(struct model *model)
{
    /* a few directories that many things happen in */
    unsigned first = pick(model, S_IFDIR), second = pick(model, S_IFDIR);

    return first < second ? first : second;
}

unsigned model_pick_file(struct model *model)
{
    return pick(model, S_IFREG);
}

unsigned model_pick_any(struct model *model)
{
    return pick(model, 0);
}

const char *model_pick_name(struct model *model, unsigned directory)
{
    static const char *const names[] = {"a",
                                        "b",
                                        "c",
                                        "d",
                                        "e",
                                        "f",
                                        "g",
                                        "h",
                                        "i",
                                        "j",
                                        "k",
                                        "l",
                                        "m",
                                        "n",
                                        "o",
                                        "p",
                                        "q",
                                        "r",
                                        "my-db",
                                        "my_db",
                                        "caf\xc3\xa9",
                                        "cafe\xcc\x81",
                                        "\xff\xfe",
                                        "a b\nc",
                                        "...",
                                        "README.md",
                                        ".hidden",
                                        "aa",
                                        "ab",
                                        "abc",
                                        "zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz",
                                        "0",
                                        "~"};
    static char longest[256];
    const struct reference_inode *inode = model_inode(model, directory);

    if (inode->name_count > 0 && !model_chance(model, 3))
        return inode->names[model_below(model, inode->name_count)].name;
    if (model_chance(model, 30)) {
        memset(longest, 'L', 255);
        return longest;
    }
    return names[model_below(model, sizeof names / sizeof names[0])];
}

struct fs_caller model_pick_caller(struct model *model)
{
    static const mode_t masks[] = {0, 022, 077};

    return (struct fs_caller){.uid = (uid_t)model_below(model, 2) * 1000,
                              .gid = (gid_t)model_below(model, 2) * 100,
                              .umask = masks[model_below(model, 3)]};
}

/* ---- what an operation changed ---- */

static bool is_between(struct timespec time, struct timespec from, struct timespec to)
{
    bool early =
        time.tv_sec < from.tv_sec || (time.tv_sec == from.tv_sec && time.tv_nsec < from.tv_nsec);
    bool late = time.tv_sec > to.tv_sec || (time.tv_sec == to.tv_sec && time.tv_nsec > to.tv_nsec);

    return !early && !late;
}

static void settle_time(struct model *model, struct timespec *wanted, struct timespec actual)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    expect(is_between(actual, model->before, now));
    *wanted = actual;
}

void model_settle(struct model *model, unsigned index, unsigned times)
{
    struct reference_inode *inode = reference_edit(&model->reference, index);
    uint32_t nlink = inode->nlink;
    struct fs_entry entry;

    expect_equal(fs_getattr(model->fs, inode->node, &entry), 0);
    if (times & MODEL_ATIME)
        settle_time(model, &inode->atime, entry.attribute.atime);
    if (times & MODEL_MTIME)
        settle_time(model, &inode->mtime, entry.attribute.mtime);
    if (times & MODEL_CTIME)
        settle_time(model, &inode->ctime, entry.attribute.ctime);
    if (times & MODEL_BTIME)
        settle_time(model, &inode->btime, entry.attribute.btime);
    if (S_ISDIR(inode->mode))
        nlink = 2 + reference_directories_in(&model->reference.live, inode);
    compare_attribute(&entry.attribute, inode, nlink);
}

void model_drop_privileges(struct reference_inode *inode, bool kill_set_ids)
{
    if (reference_find_xattr(inode, "security.capability") >= 0)
        reference_remove_xattr(inode, "security.capability");
    if (!kill_set_ids)
        return;
    inode->mode &= ~(mode_t)S_ISUID;
    if (inode->mode & S_IXGRP)
        inode->mode &= ~(mode_t)S_ISGID;
}

/* ---- open files ---- */

bool model_is_held(const struct model *model, unsigned index)
{
    for (unsigned i = 0; i < model->hold_count; i++)
        if (model->holds[i].snapshot == NULL && model->holds[i].index == index)
            return true;
    return false;
}

void model_hold_live(struct model *model, unsigned index)
{
    struct model_hold *hold = &model->holds[model->hold_count++];

    *hold = (struct model_hold){.index = index, .node = model_inode(model, index)->node};
    expect_equal(fs_open_file(model->fs, hold->node, model_chance(model, 2), &hold->handle), 0);
}

/* Nobody knows it any more: its number must be unknown to the filesystem too. */
static void expect_gone(struct model *model, unsigned index)
{
    struct fs_entry entry;

    expect_equal(fs_getattr(model->fs, model_inode(model, index)->node, &entry), -ESTALE);
    reference_drop(&model->reference, index);
}

void model_settle_unlinked(struct model *model, unsigned index)
{
    struct reference_inode *inode = reference_edit(&model->reference, index);

    inode->nlink--;
    if (inode->nlink > 0 || model_is_held(model, index))
        model_settle(model, index, MODEL_CTIME);
    else
        expect_gone(model, index);
}

void model_release(struct model *model, unsigned position)
{
    struct model_hold hold = model->holds[position];

    model->holds[position] = model->holds[--model->hold_count];
    if (hold.snapshot != NULL) {
        compare_data(model->fs, hold.node, hold.handle, hold.snapshot, &model->random);
        fs_release_file(model->fs, hold.node, hold.handle);
        fs_forget(model->fs, hold.node, 1);
        reference_inode_unref(hold.snapshot);
        return;
    }
    fs_release_file(model->fs, hold.node, hold.handle);
    if (model_inode(model, hold.index)->nlink == 0 && !model_is_held(model, hold.index))
        expect_gone(model, hold.index);
}

/* ---- the store ---- */

static void open_store(struct model *model)
{
    struct engine_options options;
    struct fs_options fs_options;

    engine_options_default(&options);
    options.path = model->path;
    options.io = model->io;
    options.memtable_bytes = (size_t)(256 + model_below(model, 2048)) * 1024;
    options.table_bytes = 512 * 1024;
    options.level_base_bytes = 2 << 20;
    expect_equal(engine_open(&options, &model->engine), 0);
    fs_options_default(&fs_options);
    fs_options.owner_uid = 0;
    fs_options.atime = FS_ATIME_NONE; /* so that comparing changes nothing: test_fs_atime.c */
    fs_options.snapshot_views_max = 1 + (uint32_t)model_below(model, 4);
    expect_equal(fs_open(model->engine, &fs_options, &model->fs), 0);
}

static void close_store(struct model *model)
{
    fs_close(model->fs);
    expect_equal(engine_close(model->engine), 0);
}

static void make_store(struct model *model)
{
    struct store_format format = {
        .chunk_size_bytes = 4 << 20, .compression_level = 1, .created_s = 1};
    struct reference_inode *root;

    expect_equal(store_create(model->io, model->path, &format), 0);
    clock_gettime(CLOCK_REALTIME, &model->before);
    open_store(model);
    expect_equal(reference_new(&model->reference, S_IFDIR | 0755), REFERENCE_ROOT);
    root = model_inode(model, REFERENCE_ROOT);
    root->node = FS_ROOT;
    root->gid = getgid();
    model_settle(model, REFERENCE_ROOT, MODEL_ATIME | MODEL_MTIME | MODEL_CTIME | MODEL_BTIME);
}

/* Some files stay open: what was unlinked goes when the store is opened again. */
static void remount(struct model *model)
{
    for (unsigned i = model->hold_count; i-- > 0;)
        if (model->holds[i].snapshot != NULL || model_chance(model, 2))
            model_release(model, i);
    close_store(model);
    open_store(model);
    while (model->hold_count > 0) {
        unsigned index = model->holds[--model->hold_count].index;

        if (model_inode(model, index)->nlink == 0 && !model_is_held(model, index))
            expect_gone(model, index);
    }
}

static void report(void *context, const char *line)
{
    (void)context;
    fprintf(stderr, "fsck: %s\n", line);
}

static void check_view(struct engine_view *view)
{
    uint64_t findings = UINT64_MAX;

    expect(view != NULL);
    expect_equal(fs_check(view, true, report, NULL, &findings), 0);
    expect_equal(findings, 0);
}

static void check_structure(struct model *model)
{
    struct snapshot_set *set = fs_snapshots(model->fs);
    struct engine_view *view = engine_view_acquire(model->engine);
    struct snapshot *snapshot;
    uint64_t id = 0;

    compare_operation = "fsck";
    check_view(view);
    engine_view_release(view);
    while ((snapshot = snapshot_next(set, id)) != NULL) {
        expect_equal(snapshot_view_get(snapshot, &view), 0);
        check_view(view);
        snapshot_view_put(snapshot, view);
        id = snapshot_id(snapshot);
        snapshot_unref(snapshot);
    }
}

static void flush(struct model *model)
{
    expect_equal(engine_flush(model->engine), 0);
}

static void compact(struct model *model)
{
    expect_equal(engine_compact(model->engine), 0);
}

static void synchronise(struct model *model)
{
    expect_equal(fs_fsync(model->fs, FS_ROOT, false), 0);
}

static void compare_everything(struct model *model)
{
    compare_operation = "compare the live tree";
    compare_live(model->fs, &model->reference, &model->random);
    compare_operation = "compare snapshots";
    compare_snapshots(model->fs, &model->reference, &model->random);
}

/* ---- the run ---- */

static const struct {
    const char *name;
    model_operation *operation;
    unsigned weight;
} operations[] = {
    {"create", model_create, 90},
    {"mkdir", model_mkdir, 25},
    {"symlink", model_symlink, 20},
    {"link", model_link, 30},
    {"unlink", model_unlink, 70},
    {"rmdir", model_rmdir, 15},
    {"rename", model_rename, 70},
    {"tmpfile", model_tmpfile, 6},
    {"readdir while changing", model_readdir_while_changing, 10},
    {"write", model_write, 160},
    {"append", model_append, 60},
    {"truncate", model_truncate, 40},
    {"punch", model_punch, 40},
    {"zero", model_zero, 30},
    {"allocate", model_allocate, 15},
    {"copy_range", model_copy_range, 60},
    {"read", model_read, 60},
    {"open", model_open, 12},
    {"close", model_close, 20},
    {"chmod", model_chmod, 20},
    {"chown", model_chown, 20},
    {"utimens", model_utimens, 15},
    {"setxattr", model_setxattr, 40},
    {"removexattr", model_removexattr, 15},
    {"snapshot create", model_snapshot_create, 10},
    {"snapshot delete", model_snapshot_delete, 12},
    {"snapshot rename", model_snapshot_rename, 4},
    {"snapshot open", model_snapshot_open, 8},
    {"snapshot refuses", model_snapshot_refuse, 5},
    {"fsync", synchronise, 5},
    {"flush", flush, 6},
    {"compact", compact, 2},
    {"remount", remount, 2},
    {"compare everything", compare_everything, 3},
    {"fsck", check_structure, 2},
};

static void run_one(struct model *model)
{
    unsigned total = 0, ticket;
    size_t i = 0;

    for (size_t n = 0; n < sizeof operations / sizeof operations[0]; n++)
        total += operations[n].weight;
    ticket = (unsigned)model_below(model, total);
    while (ticket >= operations[i].weight)
        ticket -= operations[i++].weight;
    compare_operation = operations[i].name;
    compare_operation_number++;
    clock_gettime(CLOCK_REALTIME, &model->before);
    if (model->trace)
        fprintf(stderr, "%llu %s\n", (unsigned long long)compare_operation_number,
                compare_operation);
    operations[i].operation(model);
}

static void random_operations_equal_a_reference(void **state)
{
    const char *wanted = getenv("VARVE_MODEL_OPERATIONS");
    uint64_t count = wanted != NULL ? strtoull(wanted, NULL, 0) : OPERATIONS_DEFAULT;
    struct model *model = calloc(1, sizeof *model);
    char *directory = test_directory_make();

    (void)state;
    model->random = seed_start(__func__);
    model->trace = getenv("VARVE_MODEL_TRACE") != NULL;
    model->path = test_path(directory, "store");
    expect_equal(
        io_open_backend(model_chance(model, 2) ? IO_BACKEND_SYNC : IO_BACKEND_URING, &model->io),
        0);
    make_store(model);
    for (uint64_t i = 0; i < count; i++)
        run_one(model);

    while (model->hold_count > 0)
        model_release(model, model->hold_count - 1);
    compare_everything(model);
    check_structure(model);
    remount(model);
    compare_everything(model);
    check_structure(model);
    close_store(model);
    reference_free(&model->reference);
    io_close_backend(model->io);
    free(model->path);
    free(model);
    test_directory_remove(directory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_operations_equal_a_reference),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
