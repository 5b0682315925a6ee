/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sweep_fs.c - the operations of a filesystem, those of snapshots and what the engine does behind
 *
 * Names of steps that fail are met again by later ones: those then fail as well, or are the retry.
 */
#include <errno.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#include "snapshot/retention.h"
#include "tests/lib/test_directory.h"
#include "tests/sweep/life.h"
#include "tests/sweep/plan.h"
#include "tests/sweep/steps.h"
#include "tests/sweep/sweep.h"

#define LARGE 400000

/* ---- names ---- */

static int make_directories(struct life *life)
{
    int error = steps_make(life, FS_ROOT, "d", S_IFDIR | 0755);
    uint64_t node;

    if (error == 0)
        error = life_find(life, "d", &node);
    return error == 0 ? steps_make(life, node, "inner", S_IFDIR | 0700) : error;
}

static int make_files(struct life *life)
{
    int error = steps_make(life, FS_ROOT, "a", S_IFREG | 0644);

    if (error == 0)
        error = steps_make(life, FS_ROOT, "b", S_IFREG | 0600);
    return error == 0 ? steps_make(life, FS_ROOT, "fifo", S_IFIFO | 0600) : error;
}

static int make_many(struct life *life)
{
    uint64_t node;
    char name[300];
    int error = life_find(life, "d", &node);

    for (int i = 0; error == 0 && i < 25; i++) {
        memset(name, 'n', sizeof name);
        snprintf(name + 200, 20, "%d", i);
        error = steps_make(life, node, name, S_IFREG | 0644);
    }
    return error;
}

static int make_symlink(struct life *life)
{
    struct buffer target = {0};
    struct fs_entry entry;
    char text[3000];
    uint64_t node;
    int error;

    memset(text, 't', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    error = fs_symlink(life->fs, FS_ROOT, "symlink", text, &life_root, &entry);
    if (steps_give_back(life, error, &entry) < 0)
        return error;
    error = life_find(life, "symlink", &node);
    if (error == 0)
        error = fs_readlink(life->fs, node, &target);
    sweep_require(error < 0 || (target.size == sizeof text - 1 &&
                                memcmp(target.data, text, target.size) == 0),
                  "another target");
    buffer_free(&target);
    return error < 0 ? error : 0;
}

static int make_link(struct life *life)
{
    struct fs_entry entry;
    uint64_t node;
    int error = life_find(life, "a", &node);

    if (error < 0)
        return error;
    return steps_give_back(life, fs_link(life->fs, node, FS_ROOT, "a-again", &life_root, &entry),
                           &entry);
}

static int make_tmpfile(struct life *life)
{
    struct fs_entry entry, linked;
    int error = fs_tmpfile(life->fs, FS_ROOT, S_IFREG | 0600, &life_root, &entry);

    if (error < 0)
        return error;
    error = steps_give_back(
        life, fs_link(life->fs, entry.attribute.node, FS_ROOT, "named", &life_root, &linked),
        &linked);
    fs_forget(life->fs, entry.attribute.node, 1);
    return error;
}

static int rename_over(struct life *life)
{
    return fs_rename(life->fs, FS_ROOT, "named", FS_ROOT, "fifo", 0, &life_root);
}

static int rename_away(struct life *life)
{
    uint64_t node;
    int error = life_find(life, "d", &node);

    return error == 0 ? fs_rename(life->fs, FS_ROOT, "b", node, "b", RENAME_NOREPLACE, &life_root)
                      : error;
}

static int rename_exchange(struct life *life)
{
    return fs_rename(life->fs, FS_ROOT, "a", FS_ROOT, "symlink", RENAME_EXCHANGE, &life_root);
}

static int rename_directory(struct life *life)
{
    uint64_t node;
    int error = life_find(life, "d", &node);

    return error == 0 ? fs_rename(life->fs, node, "inner", FS_ROOT, "outer", 0, &life_root) : error;
}

static int remove_directory(struct life *life)
{
    return fs_rmdir(life->fs, FS_ROOT, "outer", &life_root);
}

static int unlink_file(struct life *life)
{
    return fs_unlink(life->fs, FS_ROOT, "a-again", &life_root);
}

/* A large file goes while somebody holds it, and its data when he lets go. */
static int unlink_held(struct life *life)
{
    struct fs_entry entry;
    uint8_t data[200];
    int error = fs_lookup(life->fs, FS_ROOT, "large", &entry);

    if (error < 0)
        return error;
    error = fs_unlink(life->fs, FS_ROOT, "large", &life_root);
    if (error == 0) {
        int64_t count = fs_read(life->fs, entry.attribute.node, 0, data, sizeof data, 1000);

        error = count < 0 ? (int)count : 0;
    }
    fs_forget(life->fs, entry.attribute.node, 1);
    return error;
}

/* ---- data ---- */

static int write_small(struct life *life)
{
    return steps_write_to(life, "a", 700, 0, 1);
}

static int write_large(struct life *life)
{
    return steps_write_to(life, "b", LARGE, 0, 2);
}

static int write_inside(struct life *life)
{
    return steps_write_to(life, "b", 90001, 33333, 3);
}

/* Single small pieces, whose records are many. */
static int write_pieces(struct life *life)
{
    int error = 0;

    for (unsigned i = 0; error == 0 && i < 40; i++)
        error = steps_write_to(life, "a", 900, 5000 * (uint64_t)i, 10 + i);
    return error;
}

static int read_all(struct life *life)
{
    int error = steps_read_from(life, "d/b", LARGE, 0);

    if (error == 0)
        error = steps_read_from(life, "a", LARGE, 0);
    return error == 0 ? steps_read_from(life, "old/large", 250000, 0) : error;
}

static int truncate_to(struct life *life, const char *path, uint64_t size)
{
    struct fs_setattr change = {.mask = FS_SETATTR_SIZE, .size_bytes = size};
    struct fs_entry entry;
    uint64_t node;
    int error = life_find(life, path, &node);

    return error == 0 ? fs_setattr(life->fs, node, &change, &life_root, &entry) : error;
}

static int truncate_inside(struct life *life)
{
    return truncate_to(life, "sparse", 105000);
}

static int truncate_pieces(struct life *life)
{
    return truncate_to(life, "a", 1000);
}

static int allocate(struct life *life, int mode)
{
    uint64_t node;
    int error = life_find(life, "d/b", &node);

    return error == 0 ? fs_fallocate(life->fs, node, mode, 100000, 70000) : error;
}

static int punch(struct life *life)
{
    return allocate(life, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE);
}

static int zero(struct life *life)
{
    return allocate(life, FALLOC_FL_ZERO_RANGE);
}

static int seek(struct life *life)
{
    uint64_t node;
    int64_t result = life_find(life, "sparse", &node);

    if (result == 0)
        result = fs_seek(life->fs, node, 0, 0, SEEK_DATA);
    return result < 0 ? (int)result : 0;
}

static int copy_shared(struct life *life)
{
    return steps_copy(life, "old/large", "a", 4096, 131072);
}

static int copy_bytes(struct life *life)
{
    return steps_copy(life, "old/large", "a", 777, 5000);
}

static int copy_back(struct life *life)
{
    return steps_copy(life, ".snapshots/one/large", "fifo", 0, 300000);
}

/* ---- attributes ---- */

static int set_attributes(struct life *life)
{
    struct fs_setattr change = {.mask = FS_SETATTR_MODE | FS_SETATTR_UID | FS_SETATTR_MTIME,
                                .mode = 0711,
                                .uid = 7,
                                .mtime = {.tv_sec = 99}};
    struct fs_entry entry;
    uint64_t node;
    int error = life_find(life, "old", &node);

    if (error == 0)
        error = fs_setattr(life->fs, node, &change, &life_root, &entry);
    life_note(life);
    return error == 0 ? fs_set_flags(life->fs, node, FS_NODUMP_FL, NULL, &life_root) : error;
}

static int set_xattrs(struct life *life)
{
    char value[3000], list[400];
    uint64_t node;
    int64_t result = life_find(life, "old", &node);

    memset(value, 'x', sizeof value);
    if (result == 0)
        result = fs_setxattr(life->fs, node, "user.large", value, sizeof value, 0, &life_root);
    life_note(life);
    if (result == 0)
        result = fs_setxattr(life->fs, node, "user.small", "v", 1, XATTR_CREATE, &life_root);
    life_note(life);
    if (result == 0)
        result = fs_getxattr(life->fs, node, "user.large", value, sizeof value);
    if (result > 0)
        result = fs_listxattr(life->fs, node, true, list, sizeof list);
    if (result > 0)
        result = fs_removexattr(life->fs, node, "user.small", &life_root);
    return result < 0 ? (int)result : 0;
}

static int set_acl(struct life *life)
{
    /* version 2; owner rw-, user 5 r--, group r--, mask r--, others --- */
    static const uint8_t acl[] = {2,    0,    0,    0,    1,    0,    6,    0,    0xff, 0xff, 0xff,
                                  0xff, 2,    0,    4,    0,    5,    0,    0,    0,    4,    0,
                                  4,    0,    0xff, 0xff, 0xff, 0xff, 0x10, 0,    4,    0,    0xff,
                                  0xff, 0xff, 0xff, 0x20, 0,    0,    0,    0xff, 0xff, 0xff, 0xff};
    uint64_t node;
    int error = life_find(life, "old", &node);

    if (error == 0)
        error =
            fs_setxattr(life->fs, node, "system.posix_acl_default", acl, sizeof acl, 0, &life_root);
    return error == 0 ? steps_make(life, node, "inherits", S_IFREG | 0666) : error;
}

/* Nothing that the digest shows, but batches of their own. */
static int read_with_times(struct life *life)
{
    int error;

    fs_set_atime(life->fs, FS_ATIME_STRICT);
    error = steps_read_from(life, "old/small-7", 1000, 0);
    if (error == 0)
        error = fs_sync(life->fs);
    fs_set_atime(life->fs, FS_ATIME_NONE);
    return error;
}

/* ---- reading directories ---- */

static int take_entry(void *context, const struct fs_directory_entry *entry)
{
    (void)context;
    (void)entry;
    return 0;
}

static int list(struct life *life, const char *path)
{
    struct fs_directory *directory;
    uint64_t node;
    int error = life_find(life, path, &node);

    if (error == 0)
        error = fs_directory_open(life->fs, node, &directory);
    if (error < 0)
        return error;
    error = fs_readdir(directory, 0, false, take_entry, NULL);
    fs_directory_close(directory);
    return error;
}

static int list_all(struct life *life)
{
    struct fs_statistics statistics;
    struct statvfs space;
    int error = list(life, "d");

    if (error == 0)
        error = list(life, ".snapshots");
    if (error == 0)
        error = list(life, ".snapshots/one/old");
    fs_get_statistics(life->fs, &statistics);
    return error == 0 ? fs_statfs(life->fs, &space) : error;
}

/* ---- what makes things durable ---- */

static int sync_file(struct life *life)
{
    uint64_t node;
    int error = life_find(life, "old", &node);

    if (error == 0)
        error = fs_fsync(life->fs, node, false);
    if (error == 0)
        life_note_durable(life);
    return error;
}

static int refuse_changes(struct life *life)
{
    int error = fs_set_read_only(life->fs, true);
    int result = steps_make(life, FS_ROOT, "refused", S_IFREG | 0600);

    sweep_require(error < 0 || result < 0, "a change is taken while they are refused");
    result = fs_set_read_only(life->fs, false);
    return error == 0 ? result : error;
}

/* ---- snapshots ---- */

static int snapshot_three(struct life *life)
{
    return steps_take_snapshot(life, "three", true);
}

static int snapshot_four(struct life *life)
{
    return steps_take_snapshot(life, "four", false);
}

static int snapshot_by_mkdir(struct life *life)
{
    uint64_t snapshots;
    int error = life_find(life, ".snapshots", &snapshots);

    if (error < 0)
        return error;
    life_note_snapshot(life, "five", LIFE_UNSURE);
    error = steps_make(life, snapshots, "five", S_IFDIR | 0755);
    if (error == 0) {
        life_note_durable(life);
        life_note_snapshot(life, "five", LIFE_KEPT);
    }
    return error;
}

static int delete_two(struct life *life)
{
    return steps_delete_snapshot(life, "two");
}

static int delete_four(struct life *life)
{
    return steps_delete_snapshot(life, "four");
}

static int rename_snapshot(struct life *life)
{
    uint64_t snapshots;
    int error = life_find(life, ".snapshots", &snapshots);

    if (error < 0)
        return error;
    life_note_snapshot(life, "five", LIFE_UNSURE);
    life_note_snapshot(life, "six", LIFE_UNSURE);
    error = fs_rename(life->fs, snapshots, "five", snapshots, "six", 0, &life_root);
    if (error == 0)
        life_note_snapshot(life, "five", LIFE_GONE);
    return error;
}

static int take_hold(void *context, struct slice owner, uint64_t expires_s)
{
    (void)context;
    (void)owner;
    (void)expires_s;
    return 0;
}

static int hold_snapshot(struct life *life)
{
    struct snapshot_set *set = fs_snapshots(life->fs);
    struct slice name = slice_of_string("one"), owner = slice_of_string("backup");
    struct snapshot *snapshot = snapshot_find(set, name);
    int error = snapshot_hold(set, name, owner, 0), result;

    if (error == 0) {
        result = fs_snapshot_delete(life->fs, "one");
        sweep_require(result < 0, "what is held is deleted");
        error = snapshot_each_hold(snapshot, take_hold, NULL);
        result = snapshot_release(set, name, owner);
        error = error == 0 ? result : error;
    }
    snapshot_unref(snapshot);
    return error;
}

static int measure_snapshots(struct life *life)
{
    struct snapshot_set *set = fs_snapshots(life->fs);
    struct snapshot *snapshots[2] = {snapshot_find(set, slice_of_string("one")),
                                     snapshot_find(set, slice_of_string("three"))};
    struct engine_usage usage;
    int error = snapshots[1] != NULL ? steps_wait_for_directories(life) : -ENOENT;

    if (error == 0)
        error = snapshot_usage(set, snapshots, 2, &usage);
    snapshot_unref(snapshots[0]);
    snapshot_unref(snapshots[1]);
    return error;
}

static int read_snapshot(struct life *life)
{
    return steps_read_from(life, ".snapshots/one/large", 300000, 0);
}

static int compare(struct life *life)
{
    const char *const paths[] = {"old", "d"};
    const struct fs_diff_options some = {.paths = paths, .path_count = 2}, all = {.paths = NULL};
    int error = steps_compare(life, "one", &all);

    return error == 0 ? steps_compare(life, "one", &some) : error;
}

static int roll_back(struct life *life)
{
    return steps_roll_back(life, "one");
}

/* ---- fsck ---- */

static void report(void *context, const char *line)
{
    *(bool *)context = true;
    fprintf(stderr, "finding: %s\n", line);
}

/* No finding is made up for what cannot be read. */
static int check(struct life *life)
{
    struct engine_view *view = engine_view_acquire(life->engine);
    bool reported = false;
    uint64_t findings = 0;
    int error;

    if (view == NULL)
        return -ENOMEM;
    error = fs_check(view, true, report, &reported, &findings);
    engine_view_release(view);
    sweep_require(!reported || plan_struck(), "fsck finds something in a sound tree");
    return error;
}

static int keep_going(struct life *life)
{
    int error = steps_make(life, FS_ROOT, "later", S_IFREG | 0644);

    return error == 0 ? steps_write_to(life, "later", 150000, 10, 400) : error;
}

static const struct life_step steps[] = {
    {"mkdir", make_directories, true},
    {"mknod", make_files, true},
    {"write small", write_small, true},
    {"write large", write_large, true},
    {"symlink", make_symlink, true},
    {"link", make_link, false},
    {"fsync", sync_file, false},
    {"many names", make_many, true},
    {"write inside", write_inside, true},
    {"pieces", write_pieces, true},
    {"snapshot three", snapshot_three, false},
    {"tmpfile", make_tmpfile, true},
    {"rename over", rename_over, false},
    {"rename away", rename_away, false},
    {"rename exchange", rename_exchange, false},
    {"rename exchange back", rename_exchange, false},
    {"rename directory", rename_directory, false},
    {"flush", steps_flush, false},
    {"read", read_all, false},
    {"truncate", truncate_inside, true},
    {"truncate pieces", truncate_pieces, true},
    {"punch", punch, true},
    {"zero", zero, true},
    {"seek", seek, false},
    {"copy shared", copy_shared, true},
    {"copy bytes", copy_bytes, true},
    {"copy back", copy_back, true},
    {"attributes", set_attributes, true},
    {"xattrs", set_xattrs, true},
    {"acl", set_acl, true},
    {"times", read_with_times, false},
    {"list", list_all, false},
    {"snapshot four", snapshot_four, false},
    {"snapshot five", snapshot_by_mkdir, false},
    {"delete four", delete_four, false},
    {"rename five", rename_snapshot, false},
    {"hold", hold_snapshot, false},
    {"usage", measure_snapshots, false},
    {"read snapshot", read_snapshot, false},
    {"diff", compare, false},
    {"refuse", refuse_changes, false},
    {"rmdir", remove_directory, false},
    {"unlink", unlink_file, false},
    {"unlink held", unlink_held, true},
    {"compact", steps_compact, false},
    {"delete two", delete_two, false},
    {"check", check, false},
    {"rollback", roll_back, true},
    {"keep going", keep_going, true},
    {"compact again", steps_compact, false},
    {"sync", steps_sync, false},
};
#define STEPS (sizeof steps / sizeof *steps)

/* ---- the scenario ---- */

/* P7: on a full disk what gives space back works. Here nothing at all can be written, not even to the
 * reserve; an unlink that would have to wait for a flush is then told so. */
static int delete_on_full_disk(struct life *life)
{
    const struct plan *plan = plan_present();
    int error;
    bool is_mixed = plan->second.hit > 0 && plan->second_class != PLAN_SPACE;

    if (!plan_struck() || plan->class_ != PLAN_SPACE || is_mixed || !plan->for_ever)
        return 0;
    error = fs_unlink(life->fs, FS_ROOT, "last", &life_root);
    sweep_require(error == 0 || error == -ENOENT || error == -ENOSPC, "unlink on a full disk: %s",
                  error_text(error));
    error = fs_snapshot_delete(life->fs, "one");
    sweep_require(error == 0 || error == -ENOENT, "deleting a snapshot on a full disk: %s",
                  error_text(error));
    life_note_snapshot(life, "one", LIFE_GONE);
    return 0;
}

static void run(const char *directory, bool cut)
{
    static const struct life_step last = {"delete on a full disk", delete_on_full_disk, true};
    struct life life;
    char *path = test_path(directory, "store");

    life_begin(&life, path);
    life_populate(&life);
    plan_arm(true);
    for (size_t i = 0; i < STEPS; i++)
        (void)life_take(&life, &steps[i]);
    (void)life_take(&life, &last);
    steps_finish(&life, cut);
    free(path);
}

const struct sweep_scenario sweep_fs = {"fs", NULL, run, false, NULL, false};
