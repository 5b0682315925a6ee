/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fs_snapshot.c - looking at .snapshots: the virtual directory, and the past of a directory in it
 *
 * Below .snapshots/NAME the common code serves; it is told the view by struct fs_location.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "fuse/fs_names.h"

/* Who may not change .snapshots gets EPERM, not EACCES: the kernel lets everybody ask, and we (or
 * its sticky check) answer. */
#define MODE_DIRECTORY (S_IFDIR | S_ISVTX | 0777)

int fs_snapshot_directory_attribute(struct fs *fs, uint64_t directory_ino,
                                    struct fs_entry *ret_entry)
{
    struct timespec changed = snapshot_set_changed(fs->snapshots);
    struct engine_view *view = engine_view_acquire(fs->engine);
    size_t count = snapshot_count(fs->snapshots);
    struct fs_inode inode;
    int error;

    if (view == NULL)
        return -ENOMEM;
    error = fs_inode_load(view, directory_ino, &inode, NULL);
    engine_view_release(view);
    if (error < 0)
        return error == -ENOENT ? -ESTALE : error;
    if (!S_ISDIR(inode.mode) || inode.nlink == 0)
        return -ESTALE;
    /* Not stable: what is done in one .snapshots directory shows in all of them. */
    *ret_entry = (struct fs_entry){
        .attribute =
            {
                .node = fs_node_virtual(directory_ino),
                .number = fs_node_virtual(directory_ino),
                .generation = inode.generation,
                .mode = MODE_DIRECTORY,
                .nlink = count < UINT32_MAX - 2 ? (uint32_t)count + 2 : UINT32_MAX,
                .uid = fs->options.owner_uid,
                .gid = inode.gid,
                .size_bytes = count,
                .atime = changed,
                .mtime = changed,
                .ctime = changed,
                .btime = inode.btime,
            },
        .stable = false,
    };
    return 0;
}

static int load_past(struct engine_view *view, uint64_t ino, struct fs_inode *ret_inode,
                     uint64_t *ret_version)
{
    int error = fs_inode_load(view, ino, ret_inode, ret_version);

    if (error < 0)
        return error;
    return S_ISDIR(ret_inode->mode) && ret_inode->nlink > 0 ? 0 : -ENOENT;
}

int fs_snapshot_has_directory(struct snapshot *snapshot, uint64_t ino)
{
    struct engine_view *view;
    struct fs_inode inode;
    int error;

    if (ino == FS_ROOT)
        return 1;
    error = snapshot_view_get(snapshot, &view);
    if (error < 0)
        return error;
    error = load_past(view, ino, &inode, NULL);
    snapshot_view_put(snapshot, view);
    return error == 0 ? 1 : error == -ENOENT ? 0 : error;
}

int fs_snapshot_entry(struct fs *fs, struct snapshot *snapshot, uint64_t ino,
                      struct fs_entry *ret_entry)
{
    struct fs_location location = {.ino = ino, .snapshot = snapshot};
    struct fs_inode inode;
    uint64_t version;
    int error = snapshot_view_get(snapshot, &location.view);

    if (error < 0)
        return error;
    error = load_past(location.view, ino, &inode, &version);
    if (ino != FS_ROOT)
        location.past = fs_node_past(fs, fs_node_virtual(ino), snapshot_id(snapshot), ino);
    if (error == 0)
        error = fs_inode_attribute(fs, &location, ino, &inode, version, ret_entry);
    snapshot_view_put(snapshot, location.view);
    if (error == -ENOENT && ino == FS_ROOT) {
        log_error("snapshot %" PRIu64 ": it has no root directory", snapshot_id(snapshot));
        return ERROR_CORRUPT;
    }
    return error;
}

int fs_snapshot_lookup(struct fs *fs, const struct fs_location *parent, const char *name,
                       struct fs_entry *ret_entry)
{
    struct snapshot *snapshot = snapshot_find(fs->snapshots, slice_of_string(name));
    struct fs_location location = {.ino = parent->ino, .snapshot = snapshot};
    struct fs_entry entry;
    int error;

    if (snapshot == NULL)
        return -ENOENT;
    error = fs_snapshot_entry(fs, snapshot, parent->ino, &entry);
    if (error == 0)
        error = fs_entry_count(fs, &location, parent->ino, &entry);
    snapshot_unref(snapshot);
    if (error == 0)
        *ret_entry = entry;
    return error;
}

int64_t fs_snapshot_getxattr(struct fs *fs, const struct fs_location *location, const char *name,
                             void *value, size_t size)
{
    char text[64];
    int length;

    (void)fs;
    if (location->snapshot == NULL || location->ino != FS_ROOT)
        return -ENODATA;
    if (strcmp(name, "user.varve.btime") == 0) {
        struct timespec created = snapshot_created(location->snapshot);

        length = snprintf(text, sizeof text, "%lld.%09ld", (long long)created.tv_sec,
                          (long)created.tv_nsec);
    } else if (strcmp(name, "user.varve.seq") == 0) {
        length = snprintf(text, sizeof text, "%" PRIu64, snapshot_sequence(location->snapshot));
    } else {
        return -ENODATA;
    }
    if (size == 0)
        return length;
    if ((size_t)length > size)
        return -ERANGE;
    memcpy(value, text, (size_t)length);
    return length;
}
