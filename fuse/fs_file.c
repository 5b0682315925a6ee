/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fs_file.c - open files, durability, and the frame of every change of a file's data
 *
 * A handle of a live file says whether it may write. A handle of a snapshot's file is a pinned
 * location, so that it reads on after the snapshot is deleted, and a bit. 0 is "never opened".
 */
#include "fuse/fs_atime.h"
#include "fuse/fs_data.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

/* FIRST: to read, and nothing of the file can be in the kernel's memory yet. */
#define HANDLE_READ  UINT64_C(1)
#define HANDLE_FIRST UINT64_C(2)
#define HANDLE_WRITE UINT64_C(3)

/* ---- open files ---- */

/* A pointer is aligned: its low bits are free for FS_HANDLE_NO_ATIME and this one: nobody had the
 * file open before, since the kernel knows it. */
#define HANDLE_FIRST_OF_SNAPSHOT UINT64_C(1)
#define HANDLE_BITS              (HANDLE_FIRST_OF_SNAPSHOT | FS_HANDLE_NO_ATIME)

static bool handle_is_pointer(uint64_t handle)
{
    return handle > (HANDLE_WRITE | FS_HANDLE_NO_ATIME);
}

const struct fs_location *fs_handle_location(uint64_t handle)
{
    return handle_is_pointer(handle) ? (const struct fs_location *)(uintptr_t)(handle & ~HANDLE_BITS)
                                     : NULL;
}

bool fs_opened_first(uint64_t handle)
{
    return handle_is_pointer(handle) && (handle & HANDLE_FIRST_OF_SNAPSHOT) != 0;
}

static int open_live(struct fs *fs, uint64_t node, bool writable, uint64_t *ret_handle)
{
    int result;

    if (writable && fs_refuses_changes(fs))
        return -EROFS;
    result = inode_table_open(fs->table, node, writable);
    if (result < 0)
        return result;
    *ret_handle = writable ? HANDLE_WRITE : result > 0 ? HANDLE_FIRST : HANDLE_READ;
    return 0;
}

static int open_in_snapshot(struct fs *fs, uint64_t node, uint64_t *ret_handle)
{
    struct fs_location *location = malloc(sizeof *location);
    int result;

    if (location == NULL)
        return -ENOMEM;
    result = fs_location_get(fs, node, location);
    if (result < 0) {
        free(location);
        return result;
    }
    result = inode_table_open(fs->table, node, false);
    if (result < 0) {
        fs_location_put(fs, location);
        free(location);
        return result;
    }
    *ret_handle = (uintptr_t)location | (result > 0 ? HANDLE_FIRST_OF_SNAPSHOT : 0);
    return 0;
}

int fs_open_file(struct fs *fs, uint64_t node, bool writable, uint64_t *ret_handle)
{
    if (fs_node_is_live(node))
        return open_live(fs, node, writable, ret_handle);
    if (writable)
        return -EROFS;
    return open_in_snapshot(fs, node, ret_handle);
}

int fs_check_open(struct fs *fs, uint64_t node, int flags)
{
    struct fs_entry entry;
    int result;

    if ((flags & O_ACCMODE) == O_RDONLY)
        return 0;
    result = fs_getattr(fs, node, &entry);
    if (result < 0)
        return result;
    if (entry.attribute.flags & FS_IMMUTABLE_FL)
        return -EPERM;
    if ((entry.attribute.flags & FS_APPEND_FL) && (flags & (O_APPEND | O_TRUNC)) != O_APPEND)
        return -EPERM;
    return 0;
}

bool fs_opened_for_reading(struct fs *fs, uint64_t node, uint64_t handle)
{
    struct engine_view *view;
    struct fs_inode inode;
    bool noted;

    if (!fs_node_is_live(node) || fs_atime_is_off(fs))
        return false;
    view = engine_view_acquire(fs->engine);
    noted = view != NULL && fs_inode_load(view, node, &inode, NULL) == 0 &&
            (handle != HANDLE_FIRST || inode.size_bytes == 0) &&
            fs_atime_touch_opened(fs, node, &inode);
    engine_view_release(view);
    return noted;
}

void fs_release_file(struct fs *fs, uint64_t node, uint64_t handle)
{
    if (handle == 0)
        return;
    if (handle_is_pointer(handle)) {
        struct fs_location *location = (struct fs_location *)(uintptr_t)(handle & ~HANDLE_BITS);

        fs_location_put(fs, location);
        free(location);
        inode_table_release(fs->table, node, false);
        return;
    }
    if (inode_table_release(fs->table, node, handle == HANDLE_WRITE)) {
        int result = fs_orphan_reap(fs, node);

        if (result < 0)
            log_warning("inode %llu stays an orphan until the next mount: %s",
                        (unsigned long long)node, error_text(result));
    }
}

/* ---- durability ---- */

int fs_sync(struct fs *fs)
{
    /* Times of access that wait become durable too. No room for them is no failure of what was asked
     * for, and any other trouble the sync meets as well. */
    (void)fs_atime_flush(fs);
    return engine_sync(fs->engine, engine_sequence(fs->engine));
}

int fs_fsync(struct fs *fs, uint64_t node, bool data_only)
{
    if (!fs_node_is_live(node))
        return 0;
    fs_synced_note_sync(&fs->synced, node);
    /* The log holds data and metadata in one order: only times of access can be left out. */
    return data_only ? engine_sync(fs->engine, engine_sequence(fs->engine)) : fs_sync(fs);
}

/* ---- changes ---- */

static int check_changeable(const struct fs_inode *inode)
{
    if (S_ISDIR(inode->mode))
        return -EISDIR;
    if (!S_ISREG(inode->mode))
        return -EINVAL;
    return inode->flags & FS_IMMUTABLE_FL ? -EPERM : 0;
}

int fs_change_begin(struct fs *fs, uint64_t node, struct fs_change *change)
{
    int result = fs_node_check_writable(fs, node);

    if (result < 0)
        return result;
    result = fs_edit_begin(fs, &node, 1, &change->edit);
    if (result < 0)
        return result;
    change->ino = node;
    change->is_synced_often = false;
    result = fs_inode_load(change->edit.view, node, &change->inode, NULL);
    if (result == 0)
        result = check_changeable(&change->inode);
    if (result == 0)
        fs_edit_heed_flags(&change->edit, &change->inode);
    if (result < 0)
        fs_edit_end(&change->edit);
    return result == -ENOENT ? -ESTALE : result;
}

void fs_change_end(struct fs_change *change)
{
    fs_edit_end(&change->edit);
}

/* sgid without group execution is not a privilege but was a mark for mandatory locking. */
static void drop_set_ids(struct fs_inode *inode)
{
    inode->mode &= ~(uint32_t)S_ISUID;
    if ((inode->mode & (S_ISGID | S_IXGRP)) == (S_ISGID | S_IXGRP))
        inode->mode &= ~(uint32_t)S_ISGID;
}

int fs_change_commit(struct fs_change *change, bool kill_privileges)
{
    struct fs_edit *edit = &change->edit;
    struct fs_inode *inode = &change->inode;
    int result = 0;

    if (inode->allocated_bytes > inode->size_bytes) {
        log_error("inode %llu: its map and its count of mapped bytes do not agree; run fsck",
                  (unsigned long long)change->ino);
        return ERROR_CORRUPT;
    }
    /* A file whose content changes is no longer what was given the capability. */
    if (inode->xattrs > 0)
        result = fs_xattr_drop(edit->view, change->ino, inode, FS_XATTR_CAPABILITY, edit->batch);
    if (result < 0)
        return result;
    if (kill_privileges)
        drop_set_ids(inode);
    inode->mtime = inode->ctime = edit->now;
    fs_inode_put(edit->batch, change->ino, inode);
    return fs_edit_commit(edit);
}
