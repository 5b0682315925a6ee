/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fs_create.c - new inodes: files, devices, directories, symbolic links, files without a name
 */
#include <errno.h>

#include "fuse/fs_names.h"

#define TARGET_SIZE_MAX 4095

/* What directories pass on to what is made in them, as ext4 does. */
#define FLAGS_INHERITED_DIRECTORY                                                                  \
    (FS_SYNC_FL | FS_DIRSYNC_FL | FS_NODUMP_FL | FS_NOATIME_FL | FS_PROJINHERIT_FL)
#define FLAGS_INHERITED_FILE  (FS_SYNC_FL | FS_NODUMP_FL | FS_NOATIME_FL)
#define FLAGS_INHERITED_OTHER (FS_NODUMP_FL | FS_NOATIME_FL)

struct creation {
    uint64_t parent;
    const char *name; /* NULL: without a name */
    mode_t mode;      /* with the type */
    dev_t rdev;
    const char *target; /* of a symbolic link */
    const struct fs_caller *caller;
};

static uint32_t inherited_flags(uint32_t parent_flags, mode_t mode)
{
    if (S_ISDIR(mode))
        return parent_flags & FLAGS_INHERITED_DIRECTORY;
    return parent_flags & (S_ISREG(mode) ? FLAGS_INHERITED_FILE : FLAGS_INHERITED_OTHER);
}

static struct fs_inode new_inode(const struct fs_edit *edit, const struct fs_inode *parent,
                                 const struct creation *creation)
{
    mode_t mode = creation->mode;
    struct fs_inode inode = {
        .mode = mode,
        .uid = creation->caller->uid,
        .gid = creation->caller->gid,
        .nlink = S_ISDIR(mode) ? 2 : creation->name != NULL,
        .atime = edit->now,
        .mtime = edit->now,
        .ctime = edit->now,
        .btime = edit->now,
        .flags = inherited_flags(parent->flags, mode),
        .generation = 1,
        .project = parent->flags & FS_PROJINHERIT_FL ? parent->project : 0,
    };

    if (creation->name != NULL) {
        inode.parent = creation->parent;
        inode.name_cookie = parent->next_cookie; /* fs_edit_add_entry() will give it */
    }
    if (S_ISCHR(mode) || S_ISBLK(mode))
        inode.rdev = creation->rdev;
    if (S_ISLNK(mode))
        inode.size_bytes = strlen(creation->target);
    if (S_ISDIR(mode))
        inode.next_cookie = FS_COOKIE_FIRST;
    if ((parent->mode & S_ISGID) != 0) {
        inode.gid = parent->gid;
        if (S_ISDIR(mode))
            inode.mode |= S_ISGID;
    }
    return inode;
}

/*
 * Apply the umask or, instead of it, the parent's default ACL: the new inode's access ACL comes of
 * it, and a directory's default ACL is a copy of it.
 */
static int inherit_acl(struct fs_edit *edit, const struct creation *creation,
                       const struct fs_inode *parent, uint64_t ino, struct fs_inode *inode)
{
    struct fs_scratch *scratch = fs_scratch_get();
    int error = -ENODATA;
    mode_t mode;
    bool empty;

    if (S_ISLNK(inode->mode))
        return 0;
    if (scratch == NULL)
        return -ENOMEM;
    if (parent->xattrs > 0)
        error = fs_xattr_load(edit->view, creation->parent, FS_XATTR_ACL_DEFAULT, &scratch->value);
    if (error == -ENODATA) {
        inode->mode &= ~(creation->caller->umask & 0777);
        return 0;
    }
    if (error < 0)
        return error;
    if (fs_acl_check(buffer_slice(&scratch->value), &empty) < 0 || empty)
        return ERROR_CORRUPT;

    if (S_ISDIR(inode->mode)) {
        fs_xattr_put(edit->batch, ino, FS_XATTR_ACL_DEFAULT, buffer_slice(&scratch->value));
        inode->xattrs++;
    }
    mode = inode->mode;
    if (!fs_acl_inherit(&scratch->value, &mode)) {
        fs_xattr_put(edit->batch, ino, FS_XATTR_ACL_ACCESS, buffer_slice(&scratch->value));
        inode->xattrs++;
    }
    inode->mode = mode;
    return 0;
}

static void put_target(struct batch *batch, uint64_t ino, const char *target)
{
    struct fs_key key;

    fs_key_symlink(&key, ino);
    batch_put(batch, fs_key_slice(&key), slice_of_string(target));
}

/* May this name be made in this directory? */
static int check_new_name(struct fs_edit *edit, const struct creation *creation,
                          const struct fs_inode *parent)
{
    struct fs_dentry dentry;
    int error;

    if (creation->name == NULL)
        return 0;
    error = fs_dentry_load(edit->view, creation->parent, creation->name, &dentry);
    if (error != -ENOENT)
        return error == 0 ? -EEXIST : error;
    if (S_ISDIR(creation->mode) && parent->nlink >= FS_SUBLINKS_MAX)
        return -EMLINK;
    return 0;
}

static int fill_batch(struct fs_edit *edit, const struct creation *creation,
                      struct fs_inode *parent, uint64_t ino, struct fs_inode *inode)
{
    int error = inherit_acl(edit, creation, parent, ino, inode);

    if (error < 0)
        return error;
    if (S_ISLNK(inode->mode))
        put_target(edit->batch, ino, creation->target);
    fs_inode_put(edit->batch, ino, inode);
    if (creation->name == NULL) {
        fs_orphan_add(edit->batch, ino);
        return 0;
    }
    fs_edit_add_entry(edit, creation->parent, parent, creation->name, ino, inode->mode & S_IFMT);
    fs_inode_put(edit->batch, creation->parent, parent);
    return 0;
}

/* Counted before it is written: once it exists, nothing may fail any more. */
static int commit_counted(struct fs_edit *edit, uint64_t ino, const struct fs_inode *inode)
{
    struct fs *fs = edit->fs;
    int error = inode_table_lookup(fs->table, ino, 0, 0);

    if (error < 0)
        return error;
    (void)fs_orphan_mark(fs, ino, inode);
    error = fs_edit_commit(edit);
    if (error < 0) {
        inode_table_unmark_orphan(fs->table, ino);
        (void)inode_table_forget(fs->table, ino, 1);
    }
    return error;
}

static int create_in(struct fs_edit *edit, const struct creation *creation, uint64_t *ret_ino,
                     struct fs_inode *ret_inode)
{
    struct fs_inode parent, inode;
    uint64_t ino;
    int error = fs_edit_load_directory(edit, creation->parent, false, &parent);

    if (error == 0)
        error = check_new_name(edit, creation, &parent);
    if (error == 0)
        error = fs_inode_allocate(edit->fs, creation->parent, &ino);
    if (error < 0)
        return error;
    inode = new_inode(edit, &parent, creation);
    error = fill_batch(edit, creation, &parent, ino, &inode);
    if (error == 0)
        error = commit_counted(edit, ino, &inode);
    if (error < 0)
        return error;
    *ret_ino = ino;
    *ret_inode = inode;
    return 0;
}

static int create(struct fs *fs, const struct creation *creation, struct fs_entry *ret_entry)
{
    const struct fs_location live = {.ino = creation->parent};
    struct fs_inode inode;
    struct fs_edit edit;
    uint64_t ino;
    int error = fs_node_check_writable(fs, creation->parent);

    if (error < 0)
        return error;
    if (creation->name != NULL) {
        error = fs_name_check(creation->name);
        if (error < 0)
            return error;
        if (fs_name_is_dot(creation->name) || fs_name_is_dot_dot(creation->name) ||
            fs_is_snapdir_name(fs, creation->parent, creation->name))
            return -EEXIST;
    }
    error = engine_space_check(fs->engine);
    if (error == 0)
        error = fs_edit_begin(fs, &creation->parent, 1, &edit);
    if (error < 0)
        return error;
    error = create_in(&edit, creation, &ino, &inode);
    fs_edit_end(&edit);
    if (error < 0)
        return error;
    /* Attributes of a live inode come from the record alone. */
    return fs_inode_attribute(fs, &live, ino, &inode, 0, ret_entry);
}

int fs_mknod(struct fs *fs, uint64_t parent, const char *name, mode_t mode, dev_t rdev,
             const struct fs_caller *caller, struct fs_entry *ret_entry)
{
    struct creation creation = {
        .parent = parent,
        .name = name,
        .mode = mode & (S_IFMT | 07777),
        .rdev = rdev,
        .caller = caller,
    };

    if ((mode & S_IFMT) == 0)
        creation.mode |= S_IFREG;
    switch (creation.mode & S_IFMT) {
    case S_IFREG:
    case S_IFCHR:
    case S_IFBLK:
    case S_IFIFO:
    case S_IFSOCK:
        return create(fs, &creation, ret_entry);
    case S_IFDIR:
        return -EPERM;
    default:
        return -EINVAL;
    }
}

int fs_mkdir(struct fs *fs, uint64_t parent, const char *name, mode_t mode,
             const struct fs_caller *caller, struct fs_entry *ret_entry)
{
    struct creation creation = {
        .parent = parent,
        .name = name,
        .mode = (mode & 07777) | S_IFDIR,
        .caller = caller,
    };

    if (fs_node_is_virtual(parent))
        return fs_snapshot_mkdir(fs, parent & FS_INO_MAX, name, caller, ret_entry);
    return create(fs, &creation, ret_entry);
}

int fs_symlink(struct fs *fs, uint64_t parent, const char *name, const char *target,
               const struct fs_caller *caller, struct fs_entry *ret_entry)
{
    struct creation creation = {
        .parent = parent,
        .name = name,
        .mode = S_IFLNK | 0777,
        .target = target,
        .caller = caller,
    };
    size_t size = strlen(target);

    if (size == 0)
        return -ENOENT;
    if (size > TARGET_SIZE_MAX)
        return -ENAMETOOLONG;
    return create(fs, &creation, ret_entry);
}

int fs_tmpfile(struct fs *fs, uint64_t parent, mode_t mode, const struct fs_caller *caller,
               struct fs_entry *ret_entry)
{
    struct creation creation = {
        .parent = parent,
        .mode = (mode & 07777) | S_IFREG,
        .caller = caller,
    };

    return create(fs, &creation, ret_entry);
}
