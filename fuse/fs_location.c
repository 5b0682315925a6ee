/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fs_location.c - from a node to the view and the inode number where its records are
 *
 * Departed snapshots: the kernel goes on using the nodes of a snapshot that is deleted while a file
 * of it is open, and with FUSE_NO_OPEN no handle says so. So a deleted snapshot's view is kept here
 * until the kernel has forgotten the last node that was found in it.
 *
 * Nodes of the past: a directory of a snapshot has a path through the root's .snapshots and one
 * through the .snapshots of each directory above it. The kernel keeps a directory in one place only
 * and moves it to where it was looked up last, under the feet of who works in it ("..", getcwd). So
 * the node is another one on each path: made of the parent's node, and known to the inode table for
 * as long as the kernel holds it. The number that stat tells is the same on all.
 */
#include <errno.h>
#include <stdlib.h>

#include "engine/base/checksum.h"
#include "fuse/fs_names.h"

struct fs_departed {
    struct fs_departed *next;
    struct snapshot *snapshot;
    struct engine_view *view;
};

bool fs_node_is_live(uint64_t node)
{
    return (node >> 62) == 0;
}

int fs_node_check_writable(struct fs *fs, uint64_t node)
{
    if (!fs_node_is_live(node) || fs_refuses_changes(fs))
        return -EROFS;
    return node == 0 || node > FS_INO_MAX ? -ESTALE : 0;
}

uint64_t fs_node_snapshot(struct fs *fs, uint64_t node)
{
    uint64_t ino, id;

    if (!fs_node_is_past(node))
        return fs_node_snapshot_id(node);
    return inode_table_find(fs->table, node, &ino, &id) ? id : 0;
}

uint64_t fs_node_past(const struct fs *fs, uint64_t parent, uint64_t snapshot_id, uint64_t ino)
{
    const uint64_t place[3] = {parent, snapshot_id, ino};

    return FS_NODE_PAST | checksum64_seeded(place, sizeof place, fs->node_seed);
}

/* ---- departed snapshots ---- */

static void departed_free(struct fs_departed *departed)
{
    snapshot_view_put(departed->snapshot, departed->view);
    snapshot_unref(departed->snapshot);
    free(departed);
}

static struct fs_departed *departed_locked(struct fs *fs, uint64_t id)
{
    struct fs_departed *departed = fs->departed;

    while (departed != NULL && snapshot_id(departed->snapshot) != id)
        departed = departed->next;
    return departed;
}

int fs_departed_add(struct fs *fs, struct snapshot *snapshot)
{
    struct fs_departed *departed;
    bool known;
    int error;

    if (inode_table_held(fs->table, snapshot_id(snapshot)) == 0)
        return 0;
    departed = calloc(1, sizeof *departed);
    if (departed == NULL)
        return -ENOMEM;
    error = snapshot_view_get(snapshot, &departed->view);
    if (error < 0) {
        free(departed);
        return error;
    }
    departed->snapshot = snapshot_ref(snapshot);

    lock_acquire(&fs->departed_lock);
    known = departed_locked(fs, snapshot_id(snapshot)) != NULL;
    if (!known) {
        departed->next = fs->departed;
        fs->departed = departed;
        __atomic_store_n(&fs->departed_count, fs->departed_count + 1, __ATOMIC_RELAXED);
    }
    lock_release(&fs->departed_lock);
    /* It is there already when an earlier deletion of it failed. */
    if (known)
        departed_free(departed);
    return 0;
}

void fs_departed_purge(struct fs *fs, bool all)
{
    struct fs_departed *gone = NULL;

    if (__atomic_load_n(&fs->departed_count, __ATOMIC_RELAXED) == 0)
        return;
    lock_acquire(&fs->departed_lock);
    for (struct fs_departed **link = &fs->departed; *link != NULL;) {
        struct fs_departed *departed = *link;
        struct snapshot *snapshot = departed->snapshot;

        if (!all && inode_table_held(fs->table, snapshot_id(snapshot)) > 0) {
            link = &departed->next;
            continue;
        }
        *link = departed->next;
        departed->next = gone;
        gone = departed;
        __atomic_store_n(&fs->departed_count, fs->departed_count - 1, __ATOMIC_RELAXED);
    }
    lock_release(&fs->departed_lock);

    while (gone != NULL) {
        struct fs_departed *departed = gone;

        gone = departed->next;
        departed_free(departed);
    }
}

static struct snapshot *departed_find(struct fs *fs, uint64_t id)
{
    struct snapshot *snapshot = NULL;
    struct fs_departed *departed;

    if (__atomic_load_n(&fs->departed_count, __ATOMIC_RELAXED) == 0)
        return NULL;
    lock_acquire(&fs->departed_lock);
    departed = departed_locked(fs, id);
    if (departed != NULL)
        snapshot = snapshot_ref(departed->snapshot);
    lock_release(&fs->departed_lock);
    return snapshot;
}

/* ---- locations ---- */

static int location_live(struct fs *fs, uint64_t ino, bool virtual_directory,
                         struct fs_location *ret_location)
{
    struct engine_view *view;

    if (ino == 0 || ino > FS_INO_MAX)
        return -ESTALE;
    view = engine_view_acquire(fs->engine);
    if (view == NULL)
        return -ENOMEM;
    *ret_location = (struct fs_location){
        .ino = ino,
        .view = view,
        .virtual_directory = virtual_directory,
    };
    return 0;
}

int fs_location_in_snapshot(struct fs *fs, uint64_t id, uint64_t ino,
                            struct fs_location *ret_location)
{
    struct snapshot *snapshot = snapshot_find_id(fs->snapshots, id);
    struct engine_view *view;
    int error;

    if (snapshot == NULL)
        snapshot = departed_find(fs, id);
    if (snapshot == NULL)
        return -ESTALE;
    error = snapshot_view_get(snapshot, &view);
    if (error < 0) {
        snapshot_unref(snapshot);
        return error;
    }
    *ret_location = (struct fs_location){.ino = ino, .view = view, .snapshot = snapshot};
    return 0;
}

/* The snapshot where the file was found is gone; another one may hold the same version. */
static int location_elsewhere(struct fs *fs, uint64_t version, uint64_t ino,
                              struct fs_location *ret_location)
{
    struct fs_location location;
    uint64_t count, oldest, found;
    struct fs_inode inode;
    struct fs_key key;
    int error;

    fs_key_inode(&key, ino);
    error = snapshot_run(fs->snapshots, fs_key_slice(&key), version, &count, &oldest);
    if (error < 0)
        return error;
    if (count == 0)
        return -ESTALE;
    error = fs_location_in_snapshot(fs, oldest, ino, &location);
    if (error < 0)
        return error;
    error = fs_inode_load(location.view, ino, &inode, &found);
    if (error < 0 || found != version) {
        fs_location_put(fs, &location);
        return error < 0 && error != -ENOENT ? error : -ESTALE;
    }
    *ret_location = location;
    return 0;
}

static int location_of_version(struct fs *fs, uint64_t node, struct fs_location *ret_location)
{
    uint64_t version = node & ~FS_NODE_VERSION, ino, id;
    int error;

    if (inode_table_find(fs->table, node, &ino, &id) && id != 0) {
        error = fs_location_in_snapshot(fs, id, ino, ret_location);
        if (error != -ESTALE)
            return error;
    } else {
        error = fs_version_find(fs, version, &ino);
        if (error < 0)
            return error;
    }
    return location_elsewhere(fs, version, ino, ret_location);
}

static int location_of_past(struct fs *fs, uint64_t node, struct fs_location *ret_location)
{
    uint64_t ino, id;
    int error;

    if (!inode_table_find(fs->table, node, &ino, &id) || id == 0)
        return -ESTALE;
    error = fs_location_in_snapshot(fs, id, ino, ret_location);
    if (error == 0)
        ret_location->past = node;
    return error;
}

int fs_location_get(struct fs *fs, uint64_t node, struct fs_location *ret_location)
{
    uint64_t ino = node & FS_INO_MAX;

    if (fs_node_is_live(node))
        return location_live(fs, node, false, ret_location);
    if (fs_node_is_version(node))
        return location_of_version(fs, node, ret_location);
    if (fs_node_is_past(node))
        return location_of_past(fs, node, ret_location);
    if (fs_node_is_virtual(node))
        return location_live(fs, ino, true, ret_location);
    return ino == 0 ? -ESTALE
                    : fs_location_in_snapshot(fs, fs_node_snapshot_id(node), ino, ret_location);
}

void fs_location_put(struct fs *fs, struct fs_location *location)
{
    (void)fs;
    if (location->snapshot != NULL) {
        snapshot_view_put(location->snapshot, location->view);
        snapshot_unref(location->snapshot);
    } else {
        engine_view_release(location->view);
    }
    *location = (struct fs_location){0};
}

uint64_t fs_location_number(const struct fs *fs, const struct fs_location *location, uint64_t ino,
                            mode_t mode, uint64_t version)
{
    if (location->snapshot == NULL)
        return ino;
    if (S_ISDIR(mode) || !fs->options.snaplinks)
        return FS_NODE_DIRECTORY | snapshot_id(location->snapshot) << FS_NODE_SNAPSHOT_SHIFT | ino;
    return FS_NODE_VERSION | version;
}
