/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fs_diff.c - what happened to each inode whose records or names differ
 */
#include "fuse/fs_diff.h"

#include <errno.h>
#include <stdlib.h>

#include "fuse/fs_diff_internal.h"

const char *const fs_diff_change_names[FS_DIFF_CHANGES] = {
    "content", "mode", "owner", "times", "xattrs", "flags", "ctime", "replaced", "linked",
};

/* Where the paths are. */
struct fs_diff_memory {
    struct arena arena;
};

/* ---- the filter ---- */

static bool is_within(const char *path, const char *directory)
{
    size_t size = strlen(directory);

    if (size == 0 || strcmp(directory, ".") == 0)
        return true;
    return strncmp(path, directory, size) == 0 && (path[size] == '\0' || path[size] == '/');
}

static bool is_asked_for(const struct fs_diff_options *options, const char *path)
{
    if (path == NULL)
        return false;
    for (size_t i = 0; i < options->path_count; i++)
        if (is_within(path, options->paths[i]))
            return true;
    return options->path_count == 0;
}

/* ---- entries ---- */

static uint64_t size_of(const struct fs_inode *inode)
{
    return S_ISDIR(inode->mode) ? 0 : inode->size_bytes;
}

/* The paths are NULL where there is none. */
static int add_entry(struct diff_work *work, enum fs_diff_kind kind, unsigned changes,
                     const struct fs_inode *before, const char *path_before,
                     const struct fs_inode *after, const char *path_after)
{
    struct fs_diff_entry *entry;

    if (!is_asked_for(work->options, path_before) && !is_asked_for(work->options, path_after))
        return 0;
    entry = diff_grow(&work->entries, &work->entries_size, sizeof *entry);
    if (entry == NULL)
        return -ENOMEM;
    *entry = (struct fs_diff_entry){
        .kind = kind,
        .type = (after != NULL ? after->mode : before->mode) & S_IFMT,
        .changes = changes,
        .path_before = path_before,
        .path_after = path_after,
        .size_before = before != NULL ? size_of(before) : 0,
        .size_after = after != NULL ? size_of(after) : 0,
    };
    return 0;
}

static int path_before(struct diff_work *work, const struct diff_name *name, const char **ret_path)
{
    return diff_path_of_name(&work->paths_before, name->directory, name->name, ret_path);
}

static int path_after(struct diff_work *work, const struct diff_name *name, const char **ret_path)
{
    return diff_path_of_name(&work->paths_after, name->directory, name->name, ret_path);
}

static unsigned linked(const struct fs_inode *inode)
{
    return !S_ISDIR(inode->mode) && inode->nlink > 1 ? FS_DIFF_LINKED : 0;
}

static int tell_removed(struct diff_work *work, const struct diff_inode *inode,
                        struct diff_name *name)
{
    const char *path;
    int error = path_before(work, name, &path);

    name->done = true;
    return error < 0 ? error
                     : add_entry(work, FS_DIFF_REMOVED, linked(&inode->before), &inode->before,
                                 path, NULL, NULL);
}

static int tell_added(struct diff_work *work, const struct diff_inode *inode,
                      struct diff_name *name)
{
    const char *path;
    int error = path_after(work, name, &path);

    name->done = true;
    return error < 0 ? error
                     : add_entry(work, FS_DIFF_ADDED, linked(&inode->after), NULL, NULL,
                                 &inode->after, path);
}

/* ---- what changed in an inode ---- */

static bool same_time(struct timespec a, struct timespec b)
{
    return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

static unsigned compare_attributes(const struct fs_inode *before, const struct fs_inode *after)
{
    unsigned changes = 0;

    if ((before->mode & 07777) != (after->mode & 07777))
        changes |= FS_DIFF_MODE;
    if (before->uid != after->uid || before->gid != after->gid)
        changes |= FS_DIFF_OWNER;
    if (!same_time(before->mtime, after->mtime) || !same_time(before->atime, after->atime))
        changes |= FS_DIFF_TIMES;
    if (before->flags != after->flags || before->project != after->project)
        changes |= FS_DIFF_FLAGS;
    if (size_of(before) != size_of(after) || before->rdev != after->rdev)
        changes |= FS_DIFF_CONTENT;
    return changes;
}

/* Of an inode that is in both; `named`: it lost or got names, which sets its ctime. */
static unsigned changes_of(const struct diff_inode *inode, bool named)
{
    unsigned changes = compare_attributes(&inode->before, &inode->after);

    if (inode->content)
        changes |= FS_DIFF_CONTENT;
    if (inode->xattrs)
        changes |= FS_DIFF_XATTRS;
    /* Names that come and go in a directory set its times. */
    if (inode->names)
        changes &= ~(unsigned)FS_DIFF_TIMES;
    if (changes == 0 && inode->record && !named && !inode->names)
        changes = FS_DIFF_CTIME;
    return changes;
}

/* ---- an inode that is in both ---- */

/* The names of one inode among those that came or went. */
struct names {
    struct diff_name *removed, *added;
    size_t removed_count, added_count;
};

static int tell_renamed(struct diff_work *work, const struct diff_inode *inode,
                        struct diff_name *from, struct diff_name *to)
{
    const char *before, *after;
    int error = path_before(work, from, &before);

    if (error == 0)
        error = path_after(work, to, &after);
    from->done = to->done = true;
    return error < 0 ? error
                     : add_entry(work, FS_DIFF_RENAMED, changes_of(inode, true), &inode->before,
                                 before, &inode->after, after);
}

static int tell_modified(struct diff_work *work, const struct diff_inode *inode, unsigned changes,
                         uint64_t directory, const char *name)
{
    const char *before, *after;
    int error = diff_path_of_name(&work->paths_before, directory, name, &before);

    if (error == 0)
        error = diff_path_of_name(&work->paths_after, directory, name, &after);
    return error < 0 ? error
                     : add_entry(work, FS_DIFF_MODIFIED, changes, &inode->before, before,
                                 &inode->after, after);
}

static bool is_new_name(const struct names *names, uint64_t directory, const char *name)
{
    for (size_t i = 0; i < names->added_count; i++)
        if (names->added[i].directory == directory && strcmp(names->added[i].name, name) == 0)
            return true;
    return false;
}

/* How many of its names the inode has kept. */
static uint64_t names_kept(const struct diff_inode *inode, const struct names *names)
{
    uint64_t total = S_ISDIR(inode->after.mode) ? 1 : inode->after.nlink;

    return total > names->added_count ? total - names->added_count : 0;
}

/* Tell of a change under each name that stayed: at once when the hint leads to the only one, later
 * (tell_stays) when they must be searched for. */
static int tell_kept(struct diff_work *work, const struct diff_inode *inode,
                     const struct names *names)
{
    bool named = names->removed_count + names->added_count > 0;
    unsigned changes = changes_of(inode, named);
    uint64_t kept = names_kept(inode, names), *wanted;
    const char *name;
    int found = 0;

    if (changes == 0 || kept == 0)
        return 0;
    if (inode->ino == FS_ROOT)
        return add_entry(work, FS_DIFF_MODIFIED, changes, &inode->before, ".", &inode->after, ".");
    if (kept == 1)
        found = diff_hinted_name(&work->paths_after, inode->ino, &inode->after, &name);
    if (found < 0)
        return found;
    if (found > 0 && !is_new_name(names, inode->after.parent, name))
        return tell_modified(work, inode, changes, inode->after.parent, name);
    wanted = diff_grow(&work->wanted, &work->wanted_size, sizeof *wanted);
    if (wanted == NULL)
        return -ENOMEM;
    *wanted = inode->ino;
    return 0;
}

static int tell_both(struct diff_work *work, const struct diff_inode *inode, struct names *names)
{
    size_t removed = 0, added = 0;
    int error = 0;

    while (error == 0) {
        while (removed < names->removed_count && names->removed[removed].done)
            removed++;
        while (added < names->added_count && names->added[added].done)
            added++;
        if (removed < names->removed_count && added < names->added_count)
            error = tell_renamed(work, inode, &names->removed[removed], &names->added[added]);
        else if (removed < names->removed_count)
            error = tell_removed(work, inode, &names->removed[removed]);
        else if (added < names->added_count)
            error = tell_added(work, inode, &names->added[added]);
        else
            return tell_kept(work, inode, names);
    }
    return error;
}

/* ---- a name where another file stands now ---- */

static int tell_replaced(struct diff_work *work, const struct diff_inode *old,
                         const struct diff_inode *new, struct diff_name *name)
{
    unsigned changes = FS_DIFF_REPLACED | compare_attributes(&old->before, &new->after);
    const char *before, *after;
    int error = path_before(work, name, &before);

    if (!S_ISDIR(new->after.mode))
        changes |= FS_DIFF_CONTENT;
    if (error == 0)
        error = path_after(work, name, &after);
    name->done = true;
    work->names[name->twin].done = true;
    return error < 0 ? error
                     : add_entry(work, FS_DIFF_MODIFIED, changes, &old->before, before, &new->after,
                                 after);
}

/* One file went and another of its type came in its place, neither of them has to do with any other
 * name: that is a change of what the name stands for. */
static int tell_if_replaced(struct diff_work *work, struct diff_name *name)
{
    const struct diff_inode *old, *new;
    const struct diff_name *twin;

    if (!name->removed || name->done || name->twin == SIZE_MAX)
        return 0;
    twin = &work->names[name->twin];
    old = diff_find_inode(work, name->child);
    new = diff_find_inode(work, twin->child);
    if (old->exists_after || new->exists_before || !old->exists_before || !new->exists_after ||
        (old->before.mode & S_IFMT) != (new->after.mode &S_IFMT))
        return 0;
    return tell_replaced(work, old, new, name);
}

/* ---- all of them ---- */

static struct names names_of(struct diff_work *work, uint64_t ino)
{
    size_t low = 0, high = work->names_size.count;
    struct names names = {0};

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (work->names[middle].child < ino)
            low = middle + 1;
        else
            high = middle;
    }
    names.removed = &work->names[low];
    while (low < work->names_size.count && work->names[low].child == ino &&
           work->names[low].removed) {
        names.removed_count++;
        low++;
    }
    names.added = &work->names[low];
    while (low < work->names_size.count && work->names[low].child == ino) {
        names.added_count++;
        low++;
    }
    return names;
}

static int tell(struct diff_work *work, const struct diff_inode *inode)
{
    struct names names = names_of(work, inode->ino);
    int error = 0;

    if (inode->exists_before && inode->exists_after)
        return tell_both(work, inode, &names);
    for (size_t i = 0; error == 0 && i < names.removed_count; i++)
        if (!names.removed[i].done && inode->exists_before)
            error = tell_removed(work, inode, &names.removed[i]);
    for (size_t i = 0; error == 0 && i < names.added_count; i++)
        if (!names.added[i].done && inode->exists_after)
            error = tell_added(work, inode, &names.added[i]);
    return error;
}

/* The names that were searched for. */
static int tell_stays(struct diff_work *work)
{
    int error = diff_search_names(work);

    for (size_t i = 0; error == 0 && i < work->stays_size.count; i++) {
        const struct diff_stay *stay = &work->stays[i];
        const struct diff_inode *inode = diff_find_inode(work, stay->child);
        struct names names = names_of(work, stay->child);
        bool named = names.removed_count + names.added_count > 0;

        if (!is_new_name(&names, stay->directory, stay->name))
            error =
                tell_modified(work, inode, changes_of(inode, named), stay->directory, stay->name);
    }
    return error;
}

static const char *path_shown(const struct fs_diff_entry *entry)
{
    return entry->path_after != NULL ? entry->path_after : entry->path_before;
}

static int compare_entries(const void *a, const void *b)
{
    const struct fs_diff_entry *left = a, *right = b;
    int order = strcmp(path_shown(left), path_shown(right));

    /* What went before what came to its place. */
    if (order == 0)
        order = (left->kind != FS_DIFF_REMOVED) - (right->kind != FS_DIFF_REMOVED);
    return order;
}

static int make(struct diff_work *work)
{
    int error = diff_gather(work);

    for (size_t i = 0; error == 0 && i < work->names_size.count; i++)
        error = tell_if_replaced(work, &work->names[i]);
    for (size_t i = 0; error == 0 && i < work->inodes_size.count; i++)
        error = tell(work, &work->inodes[i]);
    if (error == 0)
        error = tell_stays(work);
    if (error == 0 && work->entries_size.count > 0)
        qsort(work->entries, work->entries_size.count, sizeof *work->entries, compare_entries);
    return error;
}

int fs_diff_make(struct engine_view *before, struct engine_view *after,
                 const struct fs_diff_options *options, struct fs_diff *ret_diff)
{
    struct fs_diff diff = {.memory = calloc(1, sizeof *diff.memory)};
    struct diff_work work = {
        .before = before,
        .after = after,
        .options = options,
        .paths_before = {.view = before, .bytes_max = options->paths_max},
        .paths_after = {.view = after, .bytes_max = options->paths_max},
    };
    int error = diff.memory != NULL ? 0 : -ENOMEM;

    if (error == 0) {
        work.arena = work.paths_before.arena = work.paths_after.arena = &diff.memory->arena;
        error = make(&work);
    }
    diff_paths_free(&work.paths_before);
    diff_paths_free(&work.paths_after);
    free(work.inodes);
    free(work.names);
    free(work.stays);
    free(work.wanted);
    diff.entries = work.entries;
    diff.count = work.entries_size.count;
    diff.statistics = work.statistics;
    if (error < 0)
        fs_diff_free(&diff);
    else
        *ret_diff = diff;
    return error;
}

void fs_diff_free(struct fs_diff *diff)
{
    if (diff->memory != NULL)
        arena_free(&diff->memory->arena);
    free(diff->memory);
    free(diff->entries);
    *diff = (struct fs_diff){0};
}
