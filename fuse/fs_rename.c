/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fs_rename.c - rename, in all its cases, as one batch
 *
 * Within a directory a renamed entry keeps its cookie, and an entry that takes over an existing
 * name takes over that name's cookie, so that a reader of the directory meets it once and a loop
 * that renames what it reads ends.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h> /* RENAME_NOREPLACE, RENAME_EXCHANGE, RENAME_WHITEOUT */

#include "engine/base/blocking.h"
#include "fuse/fs_names.h"

/* No path is longer than this, whatever the tree; a longer walk has met a loop. */
#define DEPTH_MAX 65536

/* One of the two names. */
struct side {
    uint64_t parent;
    const char *name;
    bool exists;
    struct fs_dentry dentry;
    struct fs_inode inode;      /* of what it names */
    struct fs_inode *directory; /* of the parent; both sides may share it */
};

struct renaming {
    struct fs_edit edit;
    struct side from, to;
    unsigned flags;
    const struct fs_caller *caller;
    uint64_t whiteout; /* the inode that is left under the old name; 0: none */
    bool locked_rename;
    struct fs_inode directories[2];
    bool reap;
};

static bool is_exchange(const struct renaming *renaming)
{
    return (renaming->flags & RENAME_EXCHANGE) != 0;
}

/* ---- locking ---- */

static int load_side(struct engine_view *view, struct side *side)
{
    int error = fs_dentry_load(view, side->parent, side->name, &side->dentry);

    side->exists = error == 0;
    return error == -ENOENT ? 0 : error;
}

static uint64_t ino_of(const struct side *side)
{
    return side->exists ? side->dentry.ino : 0;
}

static bool moves_directory(const struct renaming *renaming)
{
    const struct side *from = &renaming->from;
    const struct side *to = &renaming->to;

    return from->parent != to->parent &&
           ((from->exists && S_ISDIR(from->dentry.type)) ||
            (is_exchange(renaming) && to->exists && S_ISDIR(to->dentry.type)));
}

static void lock_rename(struct renaming *renaming, struct fs *fs)
{
    renaming->locked_rename = moves_directory(renaming);
    if (!renaming->locked_rename || lock_try_acquire_same_rank(&fs->rename_lock))
        return;
    blocking_enter();
    lock_acquire(&fs->rename_lock);
}

static void rename_end(struct renaming *renaming)
{
    struct fs *fs = renaming->edit.fs;

    fs_edit_end(&renaming->edit);
    if (renaming->locked_rename)
        lock_release(&fs->rename_lock);
}

/* 0 when both names still are what they were when they were read without a lock; -EAGAIN when not.
 */
static int confirm_sides(struct renaming *renaming, struct engine_view *before)
{
    uint64_t from = ino_of(&renaming->from);
    uint64_t to = ino_of(&renaming->to);
    int error;

    if (engine_view_sequence(before) == engine_view_sequence(renaming->edit.view))
        return 0;
    error = load_side(renaming->edit.view, &renaming->from);
    if (error == 0)
        error = load_side(renaming->edit.view, &renaming->to);
    if (error < 0)
        return error;
    return from == ino_of(&renaming->from) && to == ino_of(&renaming->to) ? 0 : -EAGAIN;
}

static int try_begin(struct fs *fs, struct renaming *renaming)
{
    struct engine_view *before = engine_view_acquire(fs->engine);
    int error;

    if (before == NULL)
        return -ENOMEM;
    error = load_side(before, &renaming->from);
    if (error == 0)
        error = load_side(before, &renaming->to);
    if (error == 0) {
        uint64_t inos[] = {renaming->from.parent, renaming->to.parent, ino_of(&renaming->from),
                           ino_of(&renaming->to)};

        lock_rename(renaming, fs);
        error = fs_edit_begin(fs, inos, 4, &renaming->edit);
        if (error < 0 && renaming->locked_rename)
            lock_release(&fs->rename_lock);
    }
    if (error == 0) {
        error = confirm_sides(renaming, before);
        if (error < 0)
            rename_end(renaming);
    }
    engine_view_release(before);
    return error;
}

/* ---- checks ---- */

/* Is `ino` the directory `under` or below it? 1, 0, or an error. */
static int is_within(struct engine_view *view, uint64_t ino, uint64_t under)
{
    for (unsigned depth = 0; depth < DEPTH_MAX; depth++) {
        struct fs_inode inode;
        int error;

        if (ino == under)
            return 1;
        if (ino == FS_ROOT)
            return 0;
        error = fs_inode_load(view, ino, &inode, NULL);
        if (error < 0)
            return error == -ENOENT ? ERROR_CORRUPT : error;
        ino = inode.parent;
    }
    log_error("directory %" PRIu64 ": following its parents does not end", ino);
    return ERROR_CORRUPT;
}

/* A directory must not become its own descendant. */
static int check_loop(struct renaming *renaming)
{
    const struct side *from = &renaming->from;
    const struct side *to = &renaming->to;
    int within = 0;

    if (from->parent == to->parent)
        return 0;
    if (S_ISDIR(from->inode.mode))
        within = is_within(renaming->edit.view, to->parent, from->dentry.ino);
    if (within == 0 && is_exchange(renaming) && S_ISDIR(to->inode.mode))
        within = is_within(renaming->edit.view, from->parent, to->dentry.ino);
    return within > 0 ? -EINVAL : within;
}

static int load_directories(struct renaming *renaming)
{
    struct side *from = &renaming->from;
    struct side *to = &renaming->to;
    bool to_loses = to->exists;
    int error;

    from->directory = &renaming->directories[0];
    to->directory = &renaming->directories[from->parent == to->parent ? 0 : 1];
    error = fs_edit_load_directory(&renaming->edit, from->parent, true, from->directory);
    if (error == 0 && from->parent != to->parent)
        error = fs_edit_load_directory(&renaming->edit, to->parent, to_loses, to->directory);
    return error;
}

static int load_named(struct renaming *renaming, struct side *side)
{
    int error =
        fs_edit_load_child(&renaming->edit, side->parent, side->name, &side->dentry, &side->inode);

    if (error < 0)
        return error;
    return (side->inode.flags & (FS_IMMUTABLE_FL | FS_APPEND_FL)) != 0 ? -EPERM : 0;
}

static int check_replacement(const struct renaming *renaming)
{
    bool from_directory = S_ISDIR(renaming->from.inode.mode);
    bool to_directory = S_ISDIR(renaming->to.inode.mode);

    if (from_directory && !to_directory)
        return -ENOTDIR;
    if (!from_directory && to_directory)
        return -EISDIR;
    return to_directory && renaming->to.inode.entries > 0 ? -ENOTEMPTY : 0;
}

static int check_projects(const struct renaming *renaming)
{
    const struct side *from = &renaming->from, *to = &renaming->to;

    if (!fs_project_may_enter(to->directory, &from->inode) ||
        (is_exchange(renaming) && !fs_project_may_enter(from->directory, &to->inode)))
        return -EXDEV;
    return 0;
}

/* How many subdirectories a directory gains or loses. */
static int links_gained(const struct renaming *renaming)
{
    int arrives = S_ISDIR(renaming->from.inode.mode);
    int leaves = renaming->to.exists && S_ISDIR(renaming->to.inode.mode);

    return arrives - leaves;
}

/* 0: go on; 1: there is nothing to do. */
static int check(struct renaming *renaming)
{
    struct side *from = &renaming->from;
    struct side *to = &renaming->to;
    int error = load_directories(renaming);

    if (error < 0)
        return error;
    if (!from->exists)
        return -ENOENT;
    if (to->exists && (renaming->flags & RENAME_NOREPLACE) != 0)
        return -EEXIST;
    if (!to->exists && is_exchange(renaming))
        return -ENOENT;
    if (to->exists && to->dentry.ino == from->dentry.ino)
        return 1;

    error = load_named(renaming, from);
    if (error == 0 && to->exists)
        error = load_named(renaming, to);
    if (error == 0)
        error = check_loop(renaming);
    if (error == 0 && to->exists && !is_exchange(renaming))
        error = check_replacement(renaming);
    if (error == 0)
        error = check_projects(renaming);
    if (error < 0)
        return error;
    if (from->parent != to->parent) {
        int gained = links_gained(renaming);

        if (gained > 0 && to->directory->nlink >= FS_SUBLINKS_MAX)
            return -EMLINK;
        if (gained < 0 && is_exchange(renaming) && from->directory->nlink >= FS_SUBLINKS_MAX)
            return -EMLINK;
    }
    return 0;
}

/* ---- changing ---- */

/* Its name is in `parent` from now on, with that cookie. */
static void put_child(struct renaming *renaming, struct side *side, uint64_t parent,
                      uint64_t cookie)
{
    side->inode.ctime = renaming->edit.now;
    side->inode.parent = parent;
    side->inode.name_cookie = cookie;
    fs_inode_put(renaming->edit.batch, side->dentry.ino, &side->inode);
}

static void put_directories(struct renaming *renaming)
{
    struct side *from = &renaming->from;
    struct side *to = &renaming->to;

    from->directory->mtime = from->directory->ctime = renaming->edit.now;
    to->directory->mtime = to->directory->ctime = renaming->edit.now;
    fs_inode_put(renaming->edit.batch, from->parent, from->directory);
    if (from->parent != to->parent)
        fs_inode_put(renaming->edit.batch, to->parent, to->directory);
}

static void exchange(struct renaming *renaming)
{
    struct side *from = &renaming->from;
    struct side *to = &renaming->to;
    struct fs_dentry new_from = to->dentry;
    struct fs_dentry new_to = from->dentry;

    new_from.cookie = from->dentry.cookie;
    new_to.cookie = to->dentry.cookie;
    fs_edit_put_name(&renaming->edit, from->parent, from->name, &new_from);
    fs_edit_put_name(&renaming->edit, to->parent, to->name, &new_to);
    put_child(renaming, from, to->parent, new_to.cookie);
    put_child(renaming, to, from->parent, new_from.cookie);
    if (from->parent != to->parent) {
        from->directory->nlink -= (uint32_t)links_gained(renaming);
        to->directory->nlink += (uint32_t)links_gained(renaming);
    }
    put_directories(renaming);
}

/* Leave something under the old name: a device of number 0, by which overlay filesystems know that
 * the name is deleted. */
static void put_whiteout(struct renaming *renaming)
{
    struct side *from = &renaming->from;
    struct fs_inode inode;

    if (renaming->whiteout == 0)
        return;
    inode = (struct fs_inode){
        .mode = S_IFCHR,
        .uid = renaming->caller->uid,
        .gid = from->directory->mode & S_ISGID ? from->directory->gid : renaming->caller->gid,
        .nlink = 1,
        .atime = renaming->edit.now,
        .mtime = renaming->edit.now,
        .ctime = renaming->edit.now,
        .btime = renaming->edit.now,
        .generation = 1,
        .project = from->directory->flags & FS_PROJINHERIT_FL ? from->directory->project : 0,
        .parent = from->parent,
        .name_cookie = from->directory->next_cookie, /* fs_edit_add_entry() will give it */
    };
    fs_inode_put(renaming->edit.batch, renaming->whiteout, &inode);
    fs_edit_add_entry(&renaming->edit, from->parent, from->directory, from->name,
                      renaming->whiteout, S_IFCHR);
}

static void replace(struct renaming *renaming)
{
    struct side *from = &renaming->from;
    struct side *to = &renaming->to;
    struct fs_dentry dentry = from->dentry;

    dentry.cookie = to->dentry.cookie;
    fs_edit_remove_entry(&renaming->edit, from->parent, from->directory, from->name, &from->dentry);
    fs_edit_put_name(&renaming->edit, to->parent, to->name, &dentry);
    /* A directory that took the place of another leaves the number of the new parent's as it was.
     */
    fs_edit_drop_link(&renaming->edit, to->dentry.ino, &to->inode);
    put_child(renaming, from, to->parent, dentry.cookie);
    put_whiteout(renaming);
    put_directories(renaming);
}

static void move(struct renaming *renaming)
{
    struct side *from = &renaming->from;
    struct side *to = &renaming->to;
    uint64_t cookie = from->dentry.cookie;

    if (from->parent == to->parent) {
        struct fs_key key;

        fs_key_dentry(&key, from->parent, from->name);
        batch_delete(renaming->edit.batch, fs_key_slice(&key));
        fs_edit_put_name(&renaming->edit, to->parent, to->name, &from->dentry);
    } else {
        fs_edit_remove_entry(&renaming->edit, from->parent, from->directory, from->name,
                             &from->dentry);
        cookie = to->directory->next_cookie;
        fs_edit_add_entry(&renaming->edit, to->parent, to->directory, to->name, from->dentry.ino,
                          from->dentry.type);
    }
    put_child(renaming, from, to->parent, cookie);
    put_whiteout(renaming);
    put_directories(renaming);
}

static int apply(struct renaming *renaming)
{
    struct side *to = &renaming->to;
    int error = 0;

    if ((renaming->flags & RENAME_WHITEOUT) != 0)
        error = fs_inode_allocate(renaming->edit.fs, renaming->from.parent, &renaming->whiteout);
    if (error < 0)
        return error;
    if (is_exchange(renaming))
        exchange(renaming);
    else if (to->exists)
        replace(renaming);
    else
        move(renaming);
    error = fs_edit_commit(&renaming->edit);
    if (error == 0 && to->exists && !is_exchange(renaming))
        renaming->reap = fs_orphan_mark(renaming->edit.fs, to->dentry.ino, &to->inode);
    return error;
}

/* ---- the entry point ---- */

/* Names that no rename may touch. */
static int check_names(const struct fs *fs, const struct side *from, const struct side *to,
                       unsigned flags)
{
    int error = fs_name_check(from->name);

    if (error == 0)
        error = fs_name_check(to->name);
    if (error < 0)
        return error;
    if (fs_name_is_dot(from->name) || fs_name_is_dot_dot(from->name) || fs_name_is_dot(to->name) ||
        fs_name_is_dot_dot(to->name))
        return -EBUSY;
    if (fs_is_snapdir_name(fs, to->parent, to->name))
        return (flags & RENAME_NOREPLACE) != 0 ? -EEXIST : -EBUSY;
    /* Elsewhere a live entry may have had the name before .snapshots was to be everywhere. */
    return from->parent == FS_ROOT && fs_is_snapdir_name(fs, from->parent, from->name) ? -EBUSY : 0;
}

static int rename_live(struct fs *fs, struct renaming *renaming)
{
    int error = check_names(fs, &renaming->from, &renaming->to, renaming->flags);

    if (error < 0)
        return error;
    do
        error = try_begin(fs, renaming);
    while (error == -EAGAIN);
    if (error < 0)
        return error;
    error = check(renaming);
    if (error == 0)
        error = apply(renaming);
    rename_end(renaming);
    if (renaming->reap)
        (void)fs_orphan_reap(fs, renaming->to.dentry.ino);
    return error < 0 ? error : 0;
}

static int rename_snapshots(struct fs *fs, uint64_t from_parent, const char *from,
                            uint64_t to_parent, const char *to, unsigned flags,
                            const struct fs_caller *caller)
{
    bool from_live = fs_node_is_live(from_parent);
    bool to_live = fs_node_is_live(to_parent);

    if (from_live || to_live || fs_node_is_version(from_parent) || fs_node_is_version(to_parent) ||
        fs_node_snapshot(fs, from_parent) != fs_node_snapshot(fs, to_parent))
        return -EXDEV;
    if (!fs_node_is_virtual(from_parent))
        return -EROFS;
    if (from_parent != to_parent)
        return -EXDEV;
    if ((flags & (RENAME_EXCHANGE | RENAME_WHITEOUT)) != 0)
        return -EINVAL;
    return fs_snapshot_rename(fs, from_parent & FS_INO_MAX, from, to, caller);
}

int fs_rename(struct fs *fs, uint64_t from_parent, const char *from, uint64_t to_parent,
              const char *to, unsigned flags, const struct fs_caller *caller)
{
    struct renaming renaming = {
        .from = {.parent = from_parent, .name = from},
        .to = {.parent = to_parent, .name = to},
        .flags = flags,
        .caller = caller,
    };
    const unsigned known = RENAME_NOREPLACE | RENAME_EXCHANGE | RENAME_WHITEOUT;
    int error;

    if ((flags & ~known) != 0 || ((flags & RENAME_EXCHANGE) != 0 && flags != RENAME_EXCHANGE))
        return -EINVAL;
    if (!fs_node_is_live(from_parent) || !fs_node_is_live(to_parent))
        return rename_snapshots(fs, from_parent, from, to_parent, to, flags, caller);
    error = fs_node_check_writable(fs, from_parent);
    if (error == 0)
        error = fs_node_check_writable(fs, to_parent);
    if (error == 0 && (flags & RENAME_WHITEOUT) != 0)
        error = engine_space_check(fs->engine);
    return error < 0 ? error : rename_live(fs, &renaming);
}
