/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fs_attribute.c - getattr, setattr (chmod, chown, truncate, utimens), attribute flags
 */
#include <errno.h>

#include "engine/base/invariant.h"
#include "fuse/fs_atime.h"

#define NANOSECONDS_MAX 1000000000

int fs_getattr(struct fs *fs, uint64_t node, struct fs_entry *ret_entry)
{
    struct fs_location location;
    int error = fs_location_get(fs, node, &location);

    if (error < 0)
        return error;
    if (location.virtual_directory)
        error = fs_snapshot_directory_attribute(fs, location.ino, ret_entry);
    else
        error = fs_entry_load(fs, &location, location.ino, ret_entry);
    fs_location_put(fs, &location);
    return error == -ENOENT ? -ESTALE : error;
}

/* ---- setattr ---- */

/* What immutable and append-only files allow, as Linux does elsewhere. */
static int check_flags(const struct fs_inode *inode, unsigned mask)
{
    const unsigned by_hand = FS_SETATTR_MODE | FS_SETATTR_UID | FS_SETATTR_GID | FS_SETATTR_ATIME |
                             FS_SETATTR_MTIME | FS_SETATTR_SIZE;

    if ((inode->flags & FS_IMMUTABLE_FL) != 0)
        return -EPERM;
    /* The kernel says "a time" also when it says "now"; touching is not setting by hand. */
    if ((mask & FS_SETATTR_ATIME_NOW) != 0)
        mask &= ~(unsigned)FS_SETATTR_ATIME;
    if ((mask & FS_SETATTR_MTIME_NOW) != 0)
        mask &= ~(unsigned)FS_SETATTR_MTIME;
    return (inode->flags & FS_APPEND_FL) != 0 && (mask & by_hand) != 0 ? -EPERM : 0;
}

static int check_size(const struct fs_inode *inode, const struct fs_setattr *change)
{
    if ((change->mask & FS_SETATTR_SIZE) == 0)
        return 0;
    if (S_ISDIR(inode->mode))
        return -EISDIR;
    if (!S_ISREG(inode->mode))
        return -EINVAL;
    return change->size_bytes > FS_SIZE_MAX ? -EFBIG : 0;
}

static bool time_is_valid(const struct timespec *time)
{
    return time->tv_nsec >= 0 && time->tv_nsec < NANOSECONDS_MAX;
}

static int check_times(const struct fs_setattr *change)
{
    if (((change->mask & FS_SETATTR_ATIME) != 0 && !time_is_valid(&change->atime)) ||
        ((change->mask & FS_SETATTR_MTIME) != 0 && !time_is_valid(&change->mtime)) ||
        ((change->mask & FS_SETATTR_CTIME) != 0 && !time_is_valid(&change->ctime)))
        return -EINVAL;
    return 0;
}

/* The access ACL, when there is one, has to say what chmod says. */
static int change_acl(struct fs_edit *edit, uint64_t ino, const struct fs_inode *inode)
{
    struct fs_scratch *scratch = fs_scratch_get();
    bool empty;
    int error;

    if (inode->xattrs == 0)
        return 0;
    if (scratch == NULL)
        return -ENOMEM;
    error = fs_xattr_load(edit->view, ino, FS_XATTR_ACL_ACCESS, &scratch->value);
    if (error < 0)
        return error == -ENODATA ? 0 : error;
    if (fs_acl_check(buffer_slice(&scratch->value), &empty) < 0 || empty)
        return ERROR_CORRUPT;
    fs_acl_change_mode(&scratch->value, inode->mode);
    fs_xattr_put(edit->batch, ino, FS_XATTR_ACL_ACCESS, buffer_slice(&scratch->value));
    return 0;
}

static int apply_mode(struct fs_edit *edit, uint64_t ino, const struct fs_setattr *change,
                      struct fs_inode *inode)
{
    if ((change->mask & FS_SETATTR_MODE) == 0)
        return 0;
    inode->mode = (inode->mode & S_IFMT) | (change->mode & 07777);
    return change_acl(edit, ino, inode);
}

/* 1, 0 or an error. */
static int is_outsider(const struct fs_caller *caller, gid_t group)
{
    int in_group;

    if (caller == NULL || caller->uid == 0 || caller->gid == group)
        return 0;
    in_group = caller->in_group != NULL ? caller->in_group(caller, group) : 0;
    return in_group < 0 ? in_group : in_group == 0;
}

static int kill_setgid(const struct fs_caller *caller, struct fs_inode *inode)
{
    int kill = (inode->mode & S_ISGID) == 0   ? 0
               : (inode->mode & S_IXGRP) != 0 ? 1
                                              : is_outsider(caller, inode->gid);

    if (kill > 0)
        inode->mode &= ~(uint32_t)S_ISGID;
    return kill < 0 ? kill : 0;
}

/*
 * A new owner, or a content that another has changed, must not run with the old owner's rights:
 * suid goes; sgid where it means execution, and else (as mandatory locking once) where the caller
 * is outside the group; file capabilities too. A mode given in the same call stands as given.
 */
static int kill_privileges(struct fs_edit *edit, uint64_t ino, const struct fs_setattr *change,
                           const struct fs_caller *caller, struct fs_inode *inode)
{
    const unsigned reasons = FS_SETATTR_UID | FS_SETATTR_GID | FS_SETATTR_KILL_PRIVILEGES;
    int error;

    if ((change->mask & reasons) == 0 || S_ISDIR(inode->mode))
        return 0;
    if ((change->mask & FS_SETATTR_MODE) == 0) {
        inode->mode &= ~(uint32_t)S_ISUID;
        error = kill_setgid(caller, inode);
        if (error < 0)
            return error;
    }
    return fs_xattr_drop(edit->view, ino, inode, FS_XATTR_CAPABILITY, edit->batch);
}

static int apply_size(struct fs_edit *edit, uint64_t ino, const struct fs_setattr *change,
                      struct fs_inode *inode)
{
    uint64_t removed = 0;
    int error;

    if ((change->mask & FS_SETATTR_SIZE) == 0)
        return 0;
    if (change->size_bytes < inode->size_bytes && inode->allocated_bytes > 0) {
        error = fs_extent_truncate(edit->view, ino, change->size_bytes, edit->batch, &removed);
        if (error < 0)
            return error;
    }
    inode->allocated_bytes -= removed < inode->allocated_bytes ? removed : inode->allocated_bytes;
    inode->size_bytes = change->size_bytes;
    inode->mtime = edit->now;
    return 0;
}

static void apply_times(const struct fs_edit *edit, const struct fs_setattr *change,
                        struct fs_inode *inode)
{
    if ((change->mask & FS_SETATTR_ATIME_NOW) != 0)
        inode->atime = edit->now;
    else if ((change->mask & FS_SETATTR_ATIME) != 0)
        inode->atime = change->atime;
    if ((change->mask & FS_SETATTR_MTIME_NOW) != 0)
        inode->mtime = edit->now;
    else if ((change->mask & FS_SETATTR_MTIME) != 0)
        inode->mtime = change->mtime;
    inode->ctime = (change->mask & FS_SETATTR_CTIME) != 0 ? change->ctime : edit->now;
}

static int set_in(struct fs_edit *edit, uint64_t ino, const struct fs_setattr *change,
                  const struct fs_caller *caller, struct fs_inode *ret_inode)
{
    struct fs_atime_removal removal = {0};
    struct fs_inode inode;
    int error = fs_inode_load(edit->view, ino, &inode, NULL);

    if (error < 0)
        return error == -ENOENT ? -ESTALE : error;
    fs_edit_heed_flags(edit, &inode);
    error = check_flags(&inode, change->mask);
    if (error == 0)
        error = check_size(&inode, change);
    if (error == 0)
        error = kill_privileges(edit, ino, change, caller, &inode);
    if (error == 0)
        error = apply_mode(edit, ino, change, &inode);
    if (error == 0)
        error = apply_size(edit, ino, change, &inode);
    if (error < 0)
        return error;
    if ((change->mask & FS_SETATTR_UID) != 0)
        inode.uid = change->uid;
    if ((change->mask & FS_SETATTR_GID) != 0)
        inode.gid = change->gid;
    apply_times(edit, change, &inode);
    if ((change->mask & (FS_SETATTR_ATIME | FS_SETATTR_ATIME_NOW)) != 0)
        error = fs_atime_begin_removal(edit, ino, &removal);
    if (error < 0)
        return error;
    fs_inode_put(edit->batch, ino, &inode);
    error = fs_edit_commit(edit);
    fs_atime_end_removal(edit->fs, &removal, error == 0);
    if (error == 0)
        *ret_inode = inode;
    return error;
}

int fs_setattr(struct fs *fs, uint64_t node, const struct fs_setattr *change,
               const struct fs_caller *caller, struct fs_entry *ret_entry)
{
    const struct fs_location live = {.ino = node};
    struct fs_inode inode;
    struct fs_edit edit;
    int error = fs_node_check_writable(fs, node);

    if (error == 0)
        error = check_times(change);
    if (error < 0)
        return error;
    error = fs_edit_begin(fs, &node, 1, &edit);
    if (error < 0)
        return error;
    error = set_in(&edit, node, change, caller, &inode);
    fs_edit_end(&edit);
    return error < 0 ? error : fs_inode_attribute(fs, &live, node, &inode, 0, ret_entry);
}

/* ---- flags, projects ---- */

bool fs_project_may_enter(const struct fs_inode *directory, const struct fs_inode *inode)
{
    return (directory->flags & FS_PROJINHERIT_FL) == 0 || directory->project == inode->project;
}

static int set_flags_in(struct fs_edit *edit, uint64_t ino, uint32_t flags, const uint32_t *project,
                        const struct fs_caller *caller)
{
    const uint32_t privileged = FS_IMMUTABLE_FL | FS_APPEND_FL;
    const uint32_t of_directories = FS_DIRSYNC_FL | FS_PROJINHERIT_FL;
    struct fs_inode inode;
    int error = fs_inode_load(edit->view, ino, &inode, NULL);

    if (error < 0)
        return error == -ENOENT ? -ESTALE : error;
    if (!S_ISREG(inode.mode) && !S_ISDIR(inode.mode))
        return -ENOTTY;
    if (caller->uid != 0 && caller->uid != inode.uid)
        return -EPERM;
    if (caller->uid != 0 && ((flags ^ inode.flags) & privileged) != 0)
        return -EPERM;
    if (!S_ISDIR(inode.mode) && (flags & of_directories & ~inode.flags) != 0)
        return -EOPNOTSUPP;
    if (project == NULL)
        project = &inode.project;
    if (flags == inode.flags && *project == inode.project)
        return 0;
    /* Nothing but that flag itself may be changed while it is set. */
    if ((inode.flags & flags & FS_IMMUTABLE_FL) != 0)
        return -EPERM;
    inode.flags = flags;
    inode.project = *project;
    inode.ctime = edit->now;
    fs_inode_put(edit->batch, ino, &inode);
    return fs_edit_commit(edit);
}

int fs_set_flags(struct fs *fs, uint64_t node, uint32_t flags, const uint32_t *project,
                 const struct fs_caller *caller)
{
    struct fs_edit edit;
    int error = fs_node_check_writable(fs, node);

    if (error < 0)
        return error;
    if ((flags & ~(uint32_t)FS_FLAGS_KNOWN) != 0)
        return -EOPNOTSUPP;
    error = fs_edit_begin(fs, &node, 1, &edit);
    if (error < 0)
        return error;
    error = set_flags_in(&edit, node, flags, project, caller);
    fs_edit_end(&edit);
    return error;
}
