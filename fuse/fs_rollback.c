/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fs_rollback.c - the live tree becomes what a snapshot shows
 *
 * While the state is exchanged no change is under way (fs_quiet_begin). Readers go on and see the
 * tree before or the tree after. What must not go back does not: inode numbers are never given
 * twice, so the superblock keeps its count.
 * The kernel is told afterwards, with no lock held: of every name and every inode that differ.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "engine/base/endian.h"
#include "fuse/fs_atime.h"

#define SUPERBLOCK_SIZE 8

struct rollback {
    struct fs *fs;
    struct engine_view *before, *after;
    uint64_t *reap; /* inodes without a name that nobody holds */
    size_t reap_count, reap_room;
};

/* ---- quiet ---- */

static void put_superblock(struct fs *fs, struct batch *batch)
{
    uint8_t value[SUPERBLOCK_SIZE];
    struct fs_key key;

    lock_acquire(&fs->ino_lock);
    put_le64(value, fs->reserved_ino);
    lock_release(&fs->ino_lock);
    fs_key_superblock(&key);
    batch_put(batch, fs_key_slice(&key), slice_of(value, sizeof value));
}

static int quiesce(void *context, struct batch *also)
{
    struct rollback *rollback = context;

    fs_quiet_begin(rollback->fs);
    rollback->before = engine_view_acquire(rollback->fs->engine);
    if (rollback->before == NULL) {
        fs_quiet_end(rollback->fs);
        return -ENOMEM;
    }
    put_superblock(rollback->fs, also);
    return 0;
}

/* ---- inodes without a name ---- */

typedef int orphan_callback(struct rollback *rollback, uint64_t ino);

static int each_orphan(struct rollback *rollback, struct engine_view *view,
                       orphan_callback *callback)
{
    struct engine_iterator *iterator;
    struct fs_key from, end;
    int found, error = 0;

    fs_key_type_start(&from, 0, FS_KEY_ORPHAN);
    fs_key_type_start(&end, 0, FS_KEY_ORPHAN + 1);
    found = engine_iterator_new(view, fs_key_slice(&end), &iterator);
    if (found < 0)
        return found;
    found = engine_iterator_seek(iterator, fs_key_slice(&from));
    while (found > 0 && error == 0) {
        struct slice rest;
        uint64_t zero;
        uint8_t type;

        if (!fs_key_parse(engine_iterator_record(iterator)->key, &zero, &type, &rest) ||
            rest.size != 8)
            error = ERROR_CORRUPT;
        else
            error = callback(rollback, get_be64(rest.data));
        if (error == 0)
            found = engine_iterator_next(iterator);
    }
    engine_iterator_free(iterator);
    return error < 0 ? error : found;
}

/* It was without a name; if it has one now, or is gone, there is nothing to reap. */
static int forget_orphan(struct rollback *rollback, uint64_t ino)
{
    inode_table_unmark_orphan(rollback->fs->table, ino);
    return 0;
}

/* It is without a name now: it goes when nobody holds it (any more). */
static int note_orphan(struct rollback *rollback, uint64_t ino)
{
    if (!inode_table_mark_orphan(rollback->fs->table, ino))
        return 0;
    if (rollback->reap_count == rollback->reap_room) {
        size_t room = rollback->reap_room * 2 + 64;
        uint64_t *grown = reallocarray(rollback->reap, room, sizeof *grown);

        if (grown == NULL)
            return -ENOMEM;
        rollback->reap = grown;
        rollback->reap_room = room;
    }
    rollback->reap[rollback->reap_count++] = ino;
    return 0;
}

static void settle_orphans(struct rollback *rollback)
{
    int error = each_orphan(rollback, rollback->before, forget_orphan);

    if (error == 0)
        error = each_orphan(rollback, rollback->after, note_orphan);
    if (error < 0)
        log_warning("files without a name stay until the next start: %s", error_text(error));
}

/* ---- and on ---- */

static void resume(void *context, int result)
{
    struct rollback *rollback = context;

    if (result == 0) {
        fs_atime_forget_all(rollback->fs);
        rollback->after = engine_view_acquire(rollback->fs->engine);
        if (rollback->after != NULL)
            settle_orphans(rollback);
    }
    fs_quiet_end(rollback->fs);
}

/* ---- telling the kernel ---- */

static bool is_held(struct fs *fs, uint64_t node)
{
    uint64_t ino, snapshot;

    return node == FS_ROOT || inode_table_find(fs->table, node, &ino, &snapshot);
}

static void tell_name(const struct fs_notify *notify, uint64_t directory, struct slice text)
{
    char name[FS_NAME_SIZE_MAX + 1];

    if (notify->entry == NULL || text.size > FS_NAME_SIZE_MAX)
        return;
    memcpy(name, text.data, text.size);
    name[text.size] = '\0';
    notify->entry(notify->context, directory, name);
}

/* Records of one inode are neighbours: it is told of once. */
static int tell_differences(struct rollback *rollback, const struct fs_notify *notify)
{
    struct engine_difference difference;
    struct engine_diff *diff;
    uint64_t last = 0;
    bool held = false;
    int found = engine_diff_new(rollback->before, rollback->after, &diff);

    if (found < 0)
        return found;
    while ((found = engine_diff_next(diff, &difference)) > 0) {
        struct slice rest;
        uint64_t ino;
        uint8_t type;

        if (!fs_key_parse(difference.key, &ino, &type, &rest) || ino == 0)
            continue;
        if (ino != last) {
            last = ino;
            held = is_held(rollback->fs, ino);
            if (held && notify->inode != NULL)
                notify->inode(notify->context, ino);
        }
        if (held && type == FS_KEY_DENTRY)
            tell_name(notify, ino, rest);
    }
    engine_diff_free(diff);
    return found;
}

static void tell_held(void *context, uint64_t node)
{
    const struct fs_notify *notify = context;

    if (notify->inode != NULL)
        notify->inode(notify->context, node);
}

static int tell(struct rollback *rollback, const struct fs_notify *notify)
{
    int error = rollback->after != NULL ? tell_differences(rollback, notify) : -ENOMEM;

    /* Better every inode than a stale one; names are found out by what their directories say. */
    if (error < 0)
        inode_table_each(rollback->fs->table, UINT64_C(3) << 62, 0, tell_held,
                         (void *)(uintptr_t)notify);
    return error;
}

int fs_rollback(struct fs *fs, const char *name, const struct fs_notify *notify,
                char ret_before[SNAPSHOT_NAME_SIZE_MAX + 1])
{
    struct rollback rollback = {.fs = fs};
    const struct snapshot_rollback_hooks hooks = {quiesce, resume, &rollback};
    struct snapshot *before;
    int error = fs_refuses_changes(fs) ? -EROFS : 0;

    if (error == 0)
        error = snapshot_rollback(fs->snapshots, slice_of_string(name), &hooks, &before);
    if (error == 0) {
        int told = tell(&rollback, notify);

        if (told < 0)
            log_error("after the rollback the kernel may show names that are gone: %s",
                      error_text(told));
        for (size_t i = 0; i < rollback.reap_count; i++)
            (void)fs_orphan_reap(fs, rollback.reap[i]);
        snapshot_get_name(before, ret_before);
        snapshot_unref(before);
        fs_snapshot_announce(fs, ret_before);
    }
    engine_view_release(rollback.before);
    engine_view_release(rollback.after);
    free(rollback.reap);
    return error;
}
