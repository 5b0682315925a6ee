/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fs_link.c - names that come and go: link, unlink, rmdir
 */
#include <errno.h>

#include "fuse/fs_names.h"

/* ---- link ---- */

/* Which error a link that involves a snapshot gets; 0 when it involves none. */
static int check_link_places(struct fs *fs, uint64_t node, uint64_t parent)
{
    struct fs_location location;
    struct fs_inode inode;
    uint64_t ino, version;
    int error;

    if (fs_node_is_live(node) && fs_node_is_live(parent))
        return 0;
    if (fs_node_is_live(node) || fs_node_is_live(parent) || fs_node_is_virtual(parent))
        return -EXDEV;
    if (!fs_node_is_version(node))
        return fs_node_snapshot(fs, node) == fs_node_snapshot(fs, parent) ? -EROFS : -EXDEV;

    /* A shared file is in every snapshot that holds its version. */
    error = fs_location_get(fs, node, &location);
    if (error < 0)
        return error;
    ino = location.ino;
    fs_location_put(fs, &location);
    error = fs_location_in_snapshot(fs, fs_node_snapshot(fs, parent), ino, &location);
    if (error < 0)
        return error;
    error = fs_inode_load(location.view, ino, &inode, &version);
    fs_location_put(fs, &location);
    if (error < 0 && error != -ENOENT)
        return error;
    return error == 0 && version == (node & ~FS_NODE_VERSION) ? -EROFS : -EXDEV;
}

static int link_in(struct fs_edit *edit, uint64_t ino, uint64_t parent, const char *name,
                   struct fs_inode *ret_inode)
{
    struct fs_inode directory, inode;
    struct fs_dentry dentry;
    int error = fs_edit_load_directory(edit, parent, false, &directory);

    if (error < 0)
        return error;
    error = fs_inode_load(edit->view, ino, &inode, NULL);
    if (error < 0)
        return error == -ENOENT ? -ESTALE : error;
    if (S_ISDIR(inode.mode))
        return -EPERM;
    error = fs_dentry_load(edit->view, parent, name, &dentry);
    if (error != -ENOENT)
        return error == 0 ? -EEXIST : error;
    if ((inode.flags & (FS_IMMUTABLE_FL | FS_APPEND_FL)) != 0)
        return -EPERM;
    if (!fs_project_may_enter(&directory, &inode))
        return -EXDEV;
    if (inode.nlink >= FS_LINKS_MAX)
        return -EMLINK;

    if (inode.nlink++ == 0)
        fs_orphan_remove(edit->batch, ino);
    inode.ctime = edit->now;
    inode.parent = parent;
    inode.name_cookie = directory.next_cookie; /* fs_edit_add_entry() will give it */
    fs_inode_put(edit->batch, ino, &inode);
    fs_edit_add_entry(edit, parent, &directory, name, ino, inode.mode & S_IFMT);
    fs_inode_put(edit->batch, parent, &directory);

    error = inode_table_lookup(edit->fs->table, ino, 0, 0);
    if (error < 0)
        return error;
    error = fs_edit_commit(edit);
    if (error < 0) {
        (void)inode_table_forget(edit->fs->table, ino, 1);
        return error;
    }
    inode_table_unmark_orphan(edit->fs->table, ino);
    *ret_inode = inode;
    return 0;
}

int fs_link(struct fs *fs, uint64_t node, uint64_t parent, const char *name,
            const struct fs_caller *caller, struct fs_entry *ret_entry)
{
    const struct fs_location live = {.ino = node};
    uint64_t inos[] = {node, parent};
    struct fs_inode inode;
    struct fs_edit edit;
    int error = check_link_places(fs, node, parent);

    (void)caller; /* a link keeps the inode's owner */
    if (error == 0)
        error = fs_node_check_writable(fs, node);
    if (error == 0)
        error = fs_node_check_writable(fs, parent);
    if (error == 0)
        error = fs_name_check(name);
    if (error < 0)
        return error;
    if (fs_name_is_dot(name) || fs_name_is_dot_dot(name) || fs_is_snapdir_name(fs, parent, name))
        return -EEXIST;

    error = engine_space_check(fs->engine);
    if (error == 0)
        error = fs_edit_begin(fs, inos, 2, &edit);
    if (error < 0)
        return error;
    error = link_in(&edit, node, parent, name, &inode);
    fs_edit_end(&edit);
    if (error < 0)
        return error;
    return fs_inode_attribute(fs, &live, node, &inode, 0, ret_entry);
}

/* ---- unlink, rmdir ---- */

/* What the kind of the inode says about its removal. */
static int check_removal(const struct fs_inode *inode, bool directory)
{
    if (directory && !S_ISDIR(inode->mode))
        return -ENOTDIR;
    if (!directory && S_ISDIR(inode->mode))
        return -EISDIR;
    if ((inode->flags & (FS_IMMUTABLE_FL | FS_APPEND_FL)) != 0)
        return -EPERM;
    return directory && inode->entries > 0 ? -ENOTEMPTY : 0;
}

static int remove_in(struct fs_edit *edit, uint64_t parent, const char *name,
                     const struct fs_dentry *dentry, bool directory, bool *ret_reap)
{
    struct fs_inode parent_inode, inode;
    int error = fs_edit_load_directory(edit, parent, true, &parent_inode);

    if (error == 0)
        error = fs_edit_load_child(edit, parent, name, dentry, &inode);
    if (error == 0)
        error = check_removal(&inode, directory);
    if (error < 0)
        return error;
    fs_edit_drop_link(edit, dentry->ino, &inode);
    fs_edit_remove_entry(edit, parent, &parent_inode, name, dentry);
    fs_inode_put(edit->batch, parent, &parent_inode);
    error = fs_edit_commit(edit);
    if (error < 0)
        return error;
    *ret_reap = fs_orphan_mark(edit->fs, dentry->ino, &inode);
    return 0;
}

/* The name is not there: is the directory? And is it the name of .snapshots? */
static int explain_missing(struct fs *fs, uint64_t parent, const char *name, bool directory)
{
    struct fs_edit edit;
    struct fs_inode inode;
    int error = fs_edit_begin(fs, &parent, 1, &edit);

    if (error < 0)
        return error;
    error = fs_edit_load_directory(&edit, parent, false, &inode);
    fs_edit_end(&edit);
    if (error == -EPERM)
        error = 0;
    if (error < 0)
        return error;
    if (fs_is_snapdir_name(fs, parent, name))
        return directory ? -EBUSY : -EISDIR;
    return -ENOENT;
}

static int remove_name(struct fs *fs, uint64_t parent, const char *name, bool directory)
{
    struct fs_dentry dentry;
    struct fs_edit edit;
    bool reap = false;
    int error = fs_node_check_writable(fs, parent);

    if (error == 0)
        error = fs_name_check(name);
    if (error < 0)
        return error;
    if (fs_name_is_dot(name))
        return directory ? -EINVAL : -EISDIR;
    if (fs_name_is_dot_dot(name))
        return directory ? -ENOTEMPTY : -EISDIR;

    error = fs_edit_begin_child(fs, parent, name, &edit, &dentry);
    if (error == -ENOENT)
        return explain_missing(fs, parent, name, directory);
    if (error < 0)
        return error;
    error = remove_in(&edit, parent, name, &dentry, directory, &reap);
    fs_edit_end(&edit);
    /* Should this fail, the orphan's record brings it back to mind at the next start. */
    if (reap)
        (void)fs_orphan_reap(fs, dentry.ino);
    return error;
}

int fs_unlink(struct fs *fs, uint64_t parent, const char *name, const struct fs_caller *caller)
{
    (void)caller;
    return remove_name(fs, parent, name, false);
}

int fs_rmdir(struct fs *fs, uint64_t parent, const char *name, const struct fs_caller *caller)
{
    if (fs_node_is_virtual(parent))
        return fs_snapshot_rmdir(fs, parent & FS_INO_MAX, name, caller);
    return remove_name(fs, parent, name, true);
}
