/* SPDX-License-Identifier: Apache-2.0 */
/*
 * steps.c - what steps of several scenarios are made of
 */
#include "tests/sweep/steps.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tests/sweep/plan.h"
#include "tests/sweep/sweep.h"

int steps_give_back(struct life *life, int error, const struct fs_entry *entry)
{
    if (error == 0)
        fs_forget(life->fs, entry->attribute.node, 1);
    life_note(life);
    return error;
}

int steps_make(struct life *life, uint64_t parent, const char *name, mode_t mode)
{
    struct fs_entry entry;

    if (S_ISDIR(mode))
        return steps_give_back(life, fs_mkdir(life->fs, parent, name, mode, &life_root, &entry),
                               &entry);
    return steps_give_back(life, fs_mknod(life->fs, parent, name, mode, 0, &life_root, &entry),
                           &entry);
}

/* What was written is what is read: whatever else fails. */
static void expect_bytes(struct life *life, uint64_t node, const uint8_t *data, size_t size,
                         uint64_t offset)
{
    uint8_t *found = malloc(size);
    int64_t count;

    plan_quiet_begin();
    count = fs_read(life->fs, node, 0, found, size, offset);
    sweep_require(count == (int64_t)size && memcmp(data, found, size) == 0,
                  "what was written is not there");
    plan_quiet_end();
    free(found);
}

int steps_write_to(struct life *life, const char *path, size_t size, uint64_t offset,
                   unsigned number)
{
    uint8_t *data = malloc(size);
    uint64_t node;
    int64_t result = life_find(life, path, &node);

    life_fill(data, size, number);
    if (result == 0)
        result = fs_write(life->fs, node, data, size, offset, false, false);
    if (result == (int64_t)size)
        expect_bytes(life, node, data, size, offset);
    else
        sweep_require(result < 0, "a short write");
    life_note(life);
    free(data);
    return result < 0 ? (int)result : 0;
}

/* Right, or an error. */
int steps_read_from(struct life *life, const char *path, size_t size, uint64_t offset)
{
    uint8_t *data = malloc(size), *expected = malloc(size);
    uint64_t node, handle;
    int64_t count, wanted;
    int error = life_find(life, path, &node);

    if (error == 0)
        error = fs_open_file(life->fs, node, false, &handle);
    if (error == 0) {
        count = fs_read(life->fs, node, handle, data, size, offset);
        plan_quiet_begin();
        wanted = fs_read(life->fs, node, handle, expected, size, offset);
        plan_quiet_end();
        sweep_require(count < 0 || (count == wanted && memcmp(data, expected, (size_t)count) == 0),
                      "other bytes are read");
        error = count < 0 ? (int)count : 0;
        fs_release_file(life->fs, node, handle);
    }
    free(expected);
    free(data);
    return error;
}

int steps_copy(struct life *life, const char *from, const char *to, uint64_t offset,
               uint64_t length)
{
    uint64_t from_node, to_node, handle;
    int64_t result = life_find(life, from, &from_node);

    if (result == 0)
        result = life_find(life, to, &to_node);
    if (result == 0)
        result = fs_open_file(life->fs, from_node, false, &handle);
    if (result < 0)
        return (int)result;
    result = fs_copy_range(life->fs, from_node, handle, offset, to_node, 0, length);
    fs_release_file(life->fs, from_node, handle);
    return result < 0 ? (int)result : 0;
}

/* Until no snapshot waits for its directory. Here nobody ends a shortage, so that it is the answer:
 * snapshot_wait_all() would take longer to say so. */
int steps_wait_for_directories(struct life *life)
{
    const struct timespec pause = {.tv_nsec = 5000000};
    const struct plan *plan = plan_present();
    struct engine_statistics statistics;
    int patience = 20;

    for (;;) {
        engine_get_statistics(life->engine, &statistics);
        if (statistics.checkpoints_pending == 0 || engine_latch_reason(life->engine, NULL) != 0)
            return snapshot_wait_all(fs_snapshots(life->fs));
        if (plan_struck() && plan->for_ever && plan->class_ != PLAN_DISK && patience-- == 0)
            return plan_error(plan->class_);
        nanosleep(&pause, NULL);
    }
}

int steps_sync(struct life *life)
{
    int error = fs_sync(life->fs);

    if (error == 0)
        life_note_durable(life);
    return error;
}

int steps_flush(struct life *life)
{
    return engine_flush(life->engine);
}

int steps_compact(struct life *life)
{
    return engine_compact(life->engine);
}

int steps_take_snapshot(struct life *life, const char *name, bool wait)
{
    const struct snapshot_tag tags[] = {{"key", "value"}, {"other", "tag"}};
    struct snapshot *snapshot;
    int error;

    life_note_snapshot(life, name, LIFE_UNSURE);
    error = snapshot_create(fs_snapshots(life->fs), slice_of_string(name), tags, 2, &snapshot);
    if (error < 0)
        return error;
    life_note_durable(life);
    life_note_snapshot(life, name, LIFE_KEPT);
    snapshot_unref(snapshot);
    return wait ? steps_wait_for_directories(life) : 0;
}

int steps_delete_snapshot(struct life *life, const char *name)
{
    int error;

    life_note_snapshot(life, name, LIFE_UNSURE);
    error = fs_snapshot_delete(life->fs, name);
    if (error == 0)
        life_note_snapshot(life, name, LIFE_GONE);
    return error;
}

int steps_compare(struct life *life, const char *name, const struct fs_diff_options *options)
{
    struct snapshot *snapshot = snapshot_find(fs_snapshots(life->fs), slice_of_string(name));
    struct engine_view *before, *after;
    struct fs_diff diff;
    int error = snapshot_view_get(snapshot, &before);

    if (error == 0) {
        after = engine_view_acquire(life->engine);
        error = after != NULL ? fs_diff_make(before, after, options, &diff) : -ENOMEM;
        if (error == 0)
            fs_diff_free(&diff);
        engine_view_release(after);
        snapshot_view_put(snapshot, before);
    }
    snapshot_unref(snapshot);
    return error;
}

int steps_roll_back(struct life *life, const char *name)
{
    const struct fs_notify nobody = {.entry = NULL};
    char before[SNAPSHOT_NAME_SIZE_MAX + 1];
    int error = fs_rollback(life->fs, name, &nobody, before);

    if (error < 0)
        return error;
    life_note_snapshot(life, before, LIFE_UNSURE);
    life_note_snapshot(life, before, LIFE_KEPT);
    life_note(life);
    life_note_durable(life); /* at once */
    return 0;
}

void steps_remove(struct life *life, const char *directory, const char *name)
{
    uint64_t node = FS_ROOT;
    int error = directory[0] == '\0' ? 0 : life_find(life, directory, &node);

    if (error == 0)
        error = fs_unlink(life->fs, node, name, &life_root);
    sweep_require(error == 0 || error == -ENOENT, "no unlink of %s", name);
    life_let_go(life);
}

void steps_remove_all(struct life *life)
{
    char name[32];

    for (unsigned i = 0; i < 60; i++) {
        snprintf(name, sizeof name, "%s-%u", i % 2 == 0 ? "small" : "other", i / 2);
        steps_remove(life, "old", name);
    }
    steps_remove(life, "old", "large");
    steps_remove(life, "old", "symlink");
    steps_remove(life, "", "large");
    steps_remove(life, "", "sparse");
    steps_remove(life, "", "last");
    sweep_require(steps_make(life, FS_ROOT, "back", S_IFREG | 0644) == 0, "no file");
    sweep_require(engine_compact(life->engine) == 0 && fs_sync(life->fs) == 0, "no compaction");
    life_note(life);
    life_note_durable(life);
}

/* ---- a whole run ---- */

void steps_finish(struct life *life, bool cut)
{
    int error;

    life_recover(life);
    if (cut)
        engine_cut(life->engine);
    plan_arm(true);
    error = life_close(life);
    sweep_require(error == 0 || cut || plan_struck(), "cannot be closed: %s", error_text(error));
    life_check(life);
}
