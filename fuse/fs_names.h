/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fs_names.h - what the files that implement names, attributes and snapshots share
 *
 * Every change of the namespace or of attributes is one struct fs_edit: begin (stripes, then a
 * view), look, fill the batch, commit (one engine batch), end. An edit borrows its thread's scratch
 * memory, so a thread has at most one edit at a time.
 */
#ifndef VARVE_FUSE_FS_NAMES_H
#define VARVE_FUSE_FS_NAMES_H

#include <linux/fs.h>

#include "fuse/fs_internal.h"

/* ---- nodes (fs_location.c) ---- */

#define FS_NODE_SNAPSHOT_SHIFT FS_INO_BITS
#define FS_NODE_DIRECTORY      (UINT64_C(1) << 62)
#define FS_NODE_VERSION        (UINT64_C(1) << 63)
#define FS_NODE_PAST           (UINT64_C(3) << 62)

/* The virtual .snapshots of a live directory. */
static inline uint64_t fs_node_virtual(uint64_t ino)
{
    return FS_NODE_DIRECTORY | ino;
}

static inline bool fs_node_is_version(uint64_t node)
{
    return (node >> 62) == 2;
}

/* A directory of a snapshot that was reached through the .snapshots of a directory. */
static inline bool fs_node_is_past(uint64_t node)
{
    return (node >> 62) == 3;
}

/* For nodes that hold it: 0 is the virtual .snapshots. */
static inline uint64_t fs_node_snapshot_id(uint64_t node)
{
    return (node & ~FS_NODE_DIRECTORY) >> FS_NODE_SNAPSHOT_SHIFT;
}

static inline bool fs_node_is_virtual(uint64_t node)
{
    return (node >> 62) == 1 && fs_node_snapshot_id(node) == 0;
}

/* 0 when the node is a live inode; -EROFS when it is a snapshot's or the store cannot change;
 * -ESTALE when it cannot be a node. */
int fs_node_check_writable(struct fs *fs, uint64_t node);

/* The snapshot that a directory's node is in; 0: a virtual .snapshots, or a node that is not held.
 */
uint64_t fs_node_snapshot(struct fs *fs, uint64_t node);
/* The node of directory `ino` of a snapshot when it is looked up in the node `parent`, which is not
 * reached through the root's .snapshots. */
uint64_t fs_node_past(const struct fs *fs, uint64_t parent, uint64_t snapshot_id, uint64_t ino);

/* `ino` in one snapshot, found by id. -ESTALE when it is gone. */
int fs_location_in_snapshot(struct fs *fs, uint64_t id, uint64_t ino,
                            struct fs_location *ret_location);
/* Keep a snapshot that is about to be deleted readable for as long as the kernel holds nodes of it.
 */
int fs_departed_add(struct fs *fs, struct snapshot *snapshot);
/* Let go of what nobody needs any more (all: at close). */
void fs_departed_purge(struct fs *fs, bool all);

/* ---- entries (fs_lookup.c) ---- */

/* 0; -ENOENT for "", -ENAMETOOLONG, -EINVAL for a '/'. */
int fs_name_check(const char *name);
bool fs_name_is_dot(const char *name);
bool fs_name_is_dot_dot(const char *name);

/* Attributes of `ino` in a place like `location`'s: 0, -ENOENT, or an error. */
int fs_entry_load(struct fs *fs, const struct fs_location *location, uint64_t ino,
                  struct fs_entry *ret_entry);
/* Count a lookup of the entry, whose records are `ino` in a place like `location`'s. */
int fs_entry_count(struct fs *fs, const struct fs_location *location, uint64_t ino,
                   const struct fs_entry *entry);

/* ---- thread's memory (fs_edit.c) ---- */

struct fs_scratch {
    struct buffer record; /* inodes and dentries, decoded at once */
    struct buffer value;  /* xattrs, ACLs */
    struct batch batch;   /* the thread's edit */
    bool editing;
};
struct fs_scratch *fs_scratch_get(void); /* NULL: out of memory */

/* ---- edits (fs_edit.c) ---- */

struct fs_edit {
    struct fs *fs;
    struct fs_locked locked;
    struct engine_view *view;
    struct batch *batch;
    struct timespec now;
    bool sync; /* the commit returns when it is durable */
};

/* Lock and take a view. After 0 the caller calls fs_edit_end(), whatever happens. */
int fs_edit_begin(struct fs *fs, const uint64_t *inos, unsigned count, struct fs_edit *edit);
/* The same for a directory and the child that `name` is, which is returned. -ENOENT. */
int fs_edit_begin_child(struct fs *fs, uint64_t parent, const char *name, struct fs_edit *edit,
                        struct fs_dentry *ret_dentry);
int fs_edit_commit(struct fs_edit *edit);
/* The edit changes this inode, whose flags may ask for durability at once. */
void fs_edit_heed_flags(struct fs_edit *edit, const struct fs_inode *inode);
void fs_edit_end(struct fs_edit *edit);

/* 0, -ENOENT, or an error. */
int fs_dentry_load(struct engine_view *view, uint64_t directory, const char *name,
                   struct fs_dentry *ret_dentry);
/* The inode of a directory that is to be changed: -ESTALE, -ENOTDIR, -ENOENT (it was removed),
 * -EPERM (immutable; with `removing` append-only too). */
int fs_edit_load_directory(struct fs_edit *edit, uint64_t ino, bool removing,
                           struct fs_inode *ret_inode);
/* The inode that a dentry names: a missing one is damage, which is logged. */
int fs_edit_load_child(struct fs_edit *edit, uint64_t parent, const char *name,
                       const struct fs_dentry *dentry, struct fs_inode *ret_inode);

/* Write dentry and cookie record, replacing what had that name or that cookie. */
void fs_edit_put_name(struct fs_edit *edit, uint64_t directory, const char *name,
                      const struct fs_dentry *dentry);
/* Delete dentry and cookie record. */
void fs_edit_delete_name(struct fs_edit *edit, uint64_t directory, const char *name,
                         uint64_t cookie);
/* Give a new name its cookie and count it in the directory's inode, which the caller puts. */
void fs_edit_add_entry(struct fs_edit *edit, uint64_t directory, struct fs_inode *inode,
                       const char *name, uint64_t child, uint32_t type);
/* Take a name away and count it off in the directory's inode, which the caller puts. */
void fs_edit_remove_entry(struct fs_edit *edit, uint64_t directory, struct fs_inode *inode,
                          const char *name, const struct fs_dentry *dentry);
/* A name of `inode` went: counts links, sets ctime, makes it an orphan when it was the last, puts
 * it. */
void fs_edit_drop_link(struct fs_edit *edit, uint64_t ino, struct fs_inode *inode);
/* After the commit, before fs_edit_end(): note that an inode has no link left. True when nothing
 * holds it: the caller reaps it after fs_edit_end(). */
bool fs_orphan_mark(struct fs *fs, uint64_t ino, const struct fs_inode *inode);

/* ---- xattrs (fs_xattr.c) ---- */

#define FS_XATTR_ACL_ACCESS  "system.posix_acl_access"
#define FS_XATTR_ACL_DEFAULT "system.posix_acl_default"
#define FS_XATTR_CAPABILITY  "security.capability"

/* 0, -ENODATA, or an error; the value replaces the buffer's content. */
int fs_xattr_load(struct engine_view *view, uint64_t ino, const char *name, struct buffer *value);
void fs_xattr_put(struct batch *batch, uint64_t ino, const char *name, struct slice value);
/* Delete one that may exist and count it off; the caller puts the inode. */
int fs_xattr_drop(struct engine_view *view, uint64_t ino, struct fs_inode *inode, const char *name,
                  struct batch *batch);

/* ---- ACLs (fs_acl.c): values of the two ACL xattrs, as the kernel passes them ---- */

/* 0 or -EINVAL; *ret_empty: no entry at all, which means that there is no ACL. */
int fs_acl_check(struct slice acl, bool *ret_empty);
/* The permission bits that the ACL stands for; true when it says nothing beyond them. */
bool fs_acl_to_mode(struct slice acl, mode_t *mode);
/* Make the ACL say what chmod says. */
void fs_acl_change_mode(struct buffer *acl, mode_t mode);
/* Turn a default ACL into the access ACL of a new inode, and restrict `mode` by it. True when the
 * ACL says nothing beyond the mode. */
bool fs_acl_inherit(struct buffer *acl, mode_t *mode);

/* ---- snapshots (fs_snapshot.c, fs_snapshot_names.c) ---- */

/* 0 or -EPERM. */
int fs_snapshot_check_caller(const struct fs *fs, const struct fs_caller *caller);
/* Does directory `ino` exist, with a name, in the snapshot? 1, 0, or an error. */
int fs_snapshot_has_directory(struct snapshot *snapshot, uint64_t ino);
/* The entry of directory `ino` in a snapshot, not counted. -ENOENT when it did not exist. */
int fs_snapshot_entry(struct fs *fs, struct snapshot *snapshot, uint64_t ino,
                      struct fs_entry *ret_entry);

/* "." and ".." have the cookies 1 and 2. */
#define FS_COOKIE_FIRST 3

/* Attribute flags that are kept. */
#define FS_FLAGS_KNOWN                                                                             \
    (FS_IMMUTABLE_FL | FS_APPEND_FL | FS_NODUMP_FL | FS_NOATIME_FL | FS_SYNC_FL | FS_DIRSYNC_FL |  \
     FS_PROJINHERIT_FL)

/* May the inode get a name in the directory? One that hands its project on takes none of another. */
bool fs_project_may_enter(const struct fs_inode *directory, const struct fs_inode *inode);

#endif
