/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fs_lookup.c - names to entries, counted; and back
 */
#include <errno.h>
#include <inttypes.h>

#include "fuse/fs_atime.h"

bool fs_name_is_dot(const char *name)
{
    return name[0] == '.' && name[1] == '\0';
}

bool fs_name_is_dot_dot(const char *name)
{
    return name[0] == '.' && name[1] == '.' && name[2] == '\0';
}

int fs_name_check(const char *name)
{
    size_t size = strlen(name);

    if (size == 0)
        return -ENOENT;
    if (size > FS_NAME_SIZE_MAX)
        return -ENAMETOOLONG;
    return memchr(name, '/', size) != NULL ? -EINVAL : 0;
}

bool fs_is_snapdir_name(const struct fs *fs, uint64_t parent_ino, const char *name)
{
    return (parent_ino == FS_ROOT || fs->options.snapdir_everywhere) &&
           strcmp(name, fs->snapdir_name) == 0;
}

int fs_entry_load(struct fs *fs, const struct fs_location *location, uint64_t ino,
                  struct fs_entry *ret_entry)
{
    struct fs_inode inode;
    uint64_t version;
    int error = fs_inode_load(location->view, ino, &inode, &version);

    if (error < 0)
        return error;
    return fs_inode_attribute(fs, location, ino, &inode, version, ret_entry);
}

int fs_entry_count(struct fs *fs, const struct fs_location *location, uint64_t ino,
                   const struct fs_entry *entry)
{
    uint64_t id = location->snapshot != NULL ? snapshot_id(location->snapshot) : 0;

    return inode_table_lookup(fs->table, entry->attribute.node, id != 0 ? ino : 0, id);
}

/* "." of a node that the kernel may have forgotten: a file handle of the NFS server is resolved. */
static int lookup_self(struct fs *fs, const struct fs_location *location, struct fs_entry *entry)
{
    struct fs_inode inode;
    uint64_t version;
    int error;

    if (location->virtual_directory)
        return fs_snapshot_directory_attribute(fs, location->ino, entry);
    error = fs_inode_load(location->view, location->ino, &inode, &version);
    if (error == -ENOENT || (error == 0 && inode.nlink == 0))
        return -ESTALE;
    if (error < 0)
        return error;
    return fs_inode_attribute(fs, location, location->ino, &inode, version, entry);
}

static int lookup_up(struct fs *fs, const struct fs_location *location, uint64_t *ret_ino,
                     struct fs_entry *entry)
{
    struct fs_inode inode;
    int error = fs_inode_load(location->view, location->ino, &inode, NULL);

    if (error < 0)
        return error == -ENOENT ? -ESTALE : error;
    if (!S_ISDIR(inode.mode))
        return -ENOTDIR;
    if (location->virtual_directory)
        *ret_ino = location->ino;
    else if (location->past != 0)
        return -ESTALE; /* asked only for a handle, and the way that it was reached is forgotten */
    else if (location->snapshot != NULL && location->ino == FS_ROOT)
        return fs_snapshot_directory_attribute(fs, FS_ROOT, entry);
    else
        *ret_ino = inode.parent;
    error = fs_entry_load(fs, location, *ret_ino, entry);
    return error == -ENOENT ? -ESTALE : error;
}

/* Why there is no such name: an absent directory and a file have none either. */
static int explain_absence(const struct fs_location *location)
{
    struct fs_inode inode;
    int error = fs_inode_load(location->view, location->ino, &inode, NULL);

    if (error < 0)
        return error == -ENOENT ? -ESTALE : error;
    return S_ISDIR(inode.mode) ? -ENOENT : -ENOTDIR;
}

static int lookup_name(struct fs *fs, const struct fs_location *location, const char *name,
                       uint64_t *ret_ino, struct fs_entry *entry)
{
    struct fs_dentry dentry;
    int error = fs_dentry_load(location->view, location->ino, name, &dentry);

    if (error == -ENOENT) {
        error = explain_absence(location);
        if (error == -ENOENT && location->snapshot == NULL &&
            fs_is_snapdir_name(fs, location->ino, name))
            return fs_snapshot_directory_attribute(fs, location->ino, entry);
        return error;
    }
    if (error < 0)
        return error;
    error = fs_entry_load(fs, location, dentry.ino, entry);
    if (error == -ENOENT) {
        log_error("directory %" PRIu64 ": \"%s\" names inode %" PRIu64 ", which does not exist",
                  location->ino, name, dentry.ino);
        return ERROR_CORRUPT;
    }
    *ret_ino = dentry.ino;
    return error;
}

int fs_lookup(struct fs *fs, uint64_t parent, const char *name, struct fs_entry *ret_entry)
{
    struct fs_location location;
    struct fs_entry entry;
    uint64_t ino = 0;
    int error = fs_name_check(name);

    if (error < 0)
        return error;
    error = fs_location_get(fs, parent, &location);
    if (error < 0)
        return error;

    if (fs_name_is_dot(name)) {
        error = lookup_self(fs, &location, &entry);
        ino = location.ino;
    } else if (fs_name_is_dot_dot(name)) {
        error = lookup_up(fs, &location, &ino, &entry);
    } else if (location.virtual_directory) {
        /* Counts by itself: the entry lies in another place than its parent. */
        error = fs_snapshot_lookup(fs, &location, name, ret_entry);
        fs_location_put(fs, &location);
        return error;
    } else {
        error = lookup_name(fs, &location, name, &ino, &entry);
    }
    if (error == 0 && fs_node_is_virtual(entry.attribute.node))
        error = inode_table_lookup(fs->table, entry.attribute.node, 0, 0);
    else if (error == 0)
        error = fs_entry_count(fs, &location, ino, &entry);
    fs_location_put(fs, &location);
    if (error == 0)
        *ret_entry = entry;
    return error;
}

void fs_forget(struct fs *fs, uint64_t node, uint64_t lookups)
{
    if (inode_table_forget(fs->table, node, lookups))
        (void)fs_orphan_reap(fs, node);
    if (!fs_node_is_live(node))
        fs_departed_purge(fs, false);
}

int fs_readlink(struct fs *fs, uint64_t node, struct buffer *target)
{
    struct fs_scratch *scratch = fs_scratch_get();
    struct fs_location location;
    struct fs_inode inode;
    struct fs_key key;
    int error;

    if (scratch == NULL)
        return -ENOMEM;
    error = fs_location_get(fs, node, &location);
    if (error < 0)
        return error;
    error = fs_inode_load(location.view, location.ino, &inode, NULL);
    if (error == 0 && (location.virtual_directory || !S_ISLNK(inode.mode)))
        error = -EINVAL;
    else if (error == -ENOENT)
        error = -ESTALE;
    if (error == 0) {
        fs_key_symlink(&key, location.ino);
        error = engine_view_get(location.view, fs_key_slice(&key), &scratch->value, NULL);
        if (error == 0) {
            log_error("symbolic link %" PRIu64 ": its target is missing", location.ino);
            error = ERROR_CORRUPT;
        } else if (error > 0) {
            error = buffer_append(target, scratch->value.data, scratch->value.size);
        }
    }
    if (error == 0 && location.snapshot == NULL)
        (void)fs_atime_touch(fs, location.ino, &inode);
    fs_location_put(fs, &location);
    return error;
}
