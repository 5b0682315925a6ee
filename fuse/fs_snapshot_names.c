/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fs_snapshot_names.c - mkdir, rmdir and rename in .snapshots
 *
 * Each .snapshots directory shows the same snapshots, so what is done in one is told to the kernel
 * for the others that it holds; for the one where it was asked for, it knows.
 */
#include <errno.h>
#include <inttypes.h>

#include "engine/base/blocking.h"
#include "fuse/fs_names.h"

int fs_snapshot_check_caller(const struct fs *fs, const struct fs_caller *caller)
{
    if (caller == NULL || caller->uid == 0 || caller->uid == fs->options.owner_uid)
        return 0;
    return -EPERM;
}

struct announcement {
    struct fs *fs;
    const char *name;
    uint64_t except;
};

static void announce_in(void *context, uint64_t node)
{
    const struct announcement *announcement = context;
    const struct fs_notify *notify = &announcement->fs->notify;

    if (node == announcement->except)
        return;
    if (notify->entry != NULL)
        notify->entry(notify->context, node, announcement->name);
    if (notify->inode != NULL)
        notify->inode(notify->context, node);
}

static void announce(struct fs *fs, const char *name, uint64_t except)
{
    struct announcement announcement = {fs, name, except};
    const uint64_t mask = ~FS_INO_MAX;

    if (fs->options.snapdir_everywhere)
        inode_table_each(fs->table, mask, fs_node_virtual(0), announce_in, &announcement);
    else
        announce_in(&announcement, fs_node_virtual(FS_ROOT));
}

void fs_snapshot_announce(struct fs *fs, const char *name)
{
    announce(fs, name, 0);
}

/* 0 when the live directory whose .snapshots this is still exists. */
static int check_directory(struct fs *fs, uint64_t ino)
{
    struct fs_entry entry;

    return fs_snapshot_directory_attribute(fs, ino, &entry);
}

static int begin_change(struct fs *fs, uint64_t ino, const struct fs_caller *caller)
{
    int error = fs_refuses_changes(fs) ? -EROFS : fs_snapshot_check_caller(fs, caller);

    if (error == 0)
        error = check_directory(fs, ino);
    if (error == 0)
        blocking_enter();
    return error;
}

int fs_snapshot_mkdir(struct fs *fs, uint64_t directory_ino, const char *name,
                      const struct fs_caller *caller, struct fs_entry *ret_entry)
{
    struct fs_location location = {.ino = directory_ino};
    struct fs_entry entry;
    int error;

    /* To the layer below no name means the default name. */
    if (name[0] == '\0')
        return -EINVAL;
    error = begin_change(fs, directory_ino, caller);
    if (error < 0)
        return error;
    error = snapshot_create(fs->snapshots, slice_of_string(name), NULL, 0, &location.snapshot);
    if (error < 0)
        return error;
    announce(fs, name, fs_node_virtual(directory_ino));
    error = fs_snapshot_entry(fs, location.snapshot, directory_ino, &entry);
    if (error == 0)
        error = fs_entry_count(fs, &location, directory_ino, &entry);
    snapshot_unref(location.snapshot);
    if (error == 0)
        *ret_entry = entry;
    return error;
}

/* 0 when the name shows in the .snapshots of this directory. */
static int check_shown(struct fs *fs, uint64_t directory_ino, const char *name)
{
    struct snapshot *snapshot = snapshot_find(fs->snapshots, slice_of_string(name));
    int found;

    if (snapshot == NULL)
        return -ENOENT;
    found = fs_snapshot_has_directory(snapshot, directory_ino);
    snapshot_unref(snapshot);
    return found > 0 ? 0 : found == 0 ? -ENOENT : found;
}

/* A snapshot that cannot be opened can be deleted all the same. */
static void prepare_deletion(struct fs *fs, struct snapshot *snapshot)
{
    int error = fs_departed_add(fs, snapshot);

    if (error < 0)
        log_warning("snapshot %" PRIu64 ": what is open in it will not outlive it: %s",
                    snapshot_id(snapshot), error_text(error));
}

static int delete_named(struct fs *fs, const char *name, uint64_t except)
{
    struct snapshot *snapshot = snapshot_find(fs->snapshots, slice_of_string(name));
    int error;

    if (snapshot == NULL)
        return -ENOENT;
    prepare_deletion(fs, snapshot);
    error = snapshot_delete(fs->snapshots, slice_of_string(name));
    snapshot_unref(snapshot);
    if (error < 0)
        return error;
    announce(fs, name, except);
    fs_departed_purge(fs, false);
    return 0;
}

int fs_snapshot_rmdir(struct fs *fs, uint64_t directory_ino, const char *name,
                      const struct fs_caller *caller)
{
    int error;

    if (fs_name_is_dot(name))
        return -EINVAL;
    if (fs_name_is_dot_dot(name))
        return -ENOTEMPTY;
    error = begin_change(fs, directory_ino, caller);
    if (error == 0 && directory_ino != FS_ROOT)
        error = check_shown(fs, directory_ino, name);
    return error < 0 ? error : delete_named(fs, name, fs_node_virtual(directory_ino));
}

int fs_snapshot_delete(struct fs *fs, const char *name)
{
    return fs_refuses_changes(fs) ? -EROFS : delete_named(fs, name, 0);
}

int fs_snapshot_delete_this(struct fs *fs, struct snapshot *snapshot)
{
    char name[SNAPSHOT_NAME_SIZE_MAX + 1];
    int error;

    if (fs_refuses_changes(fs))
        return -EROFS;
    prepare_deletion(fs, snapshot);
    error = snapshot_delete_this(fs->snapshots, snapshot);
    if (error < 0)
        return error;
    snapshot_get_name(snapshot, name);
    announce(fs, name, 0);
    fs_departed_purge(fs, false);
    return 0;
}

int fs_snapshot_rename(struct fs *fs, uint64_t directory_ino, const char *from, const char *to,
                       const struct fs_caller *caller)
{
    int error = begin_change(fs, directory_ino, caller);

    if (error == 0 && directory_ino != FS_ROOT)
        error = check_shown(fs, directory_ino, from);
    if (error == 0)
        error = snapshot_rename(fs->snapshots, slice_of_string(from), slice_of_string(to));
    if (error < 0)
        return error;
    announce(fs, from, fs_node_virtual(directory_ino));
    announce(fs, to, fs_node_virtual(directory_ino));
    return 0;
}
