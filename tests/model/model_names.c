/* SPDX-License-Identifier: Apache-2.0 */
/*
 * model_names.c - operations on names
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>

#include "tests/model/model.h"

static bool has_room(const struct model *model, unsigned directory)
{
    return model_inode(model, directory)->name_count < REFERENCE_NAMES;
}

static bool has_name(const struct model *model, unsigned directory, const char *name)
{
    return reference_find(model_inode(model, directory), name) >= 0;
}

static unsigned index_of(const struct model *model, unsigned directory, const char *name)
{
    const struct reference_inode *inode = model_inode(model, directory);

    return inode->names[reference_find(inode, name)].index;
}

static unsigned table_count(const struct model *model)
{
    unsigned count = 0;

    for (unsigned i = 0; i < REFERENCE_INODES; i++)
        count += model->reference.live.inodes[i] != NULL;
    return count;
}

static bool table_has_room(const struct model *model)
{
    return table_count(model) < REFERENCE_INODES - 10;
}

/* ---- making ---- */

/* The filesystem made it: make it here. */
static unsigned born(struct model *model, unsigned directory, const struct fs_attribute *attribute,
                     mode_t mode, const struct fs_caller *caller)
{
    const struct reference_inode *parent = model_inode(model, directory);
    unsigned index = reference_new(&model->reference, mode);
    struct reference_inode *inode = model_inode(model, index);

    inode->node = attribute->node;
    inode->uid = caller->uid;
    inode->gid = parent->mode & S_ISGID ? parent->gid : caller->gid;
    if (!S_ISLNK(mode))
        inode->mode &= ~caller->umask;
    if (S_ISDIR(mode) && (parent->mode & S_ISGID))
        inode->mode |= S_ISGID;
    inode->nlink = 1;
    return index;
}

static void settle_born(struct model *model, unsigned directory, const char *name, unsigned index)
{
    reference_add_name(&model->reference, directory, name, index);
    model_settle(model, index, MODEL_ATIME | MODEL_MTIME | MODEL_CTIME | MODEL_BTIME);
    model_settle(model, directory, MODEL_CONTENT);
    fs_forget(model->fs, model_inode(model, index)->node, 1);
}

void model_create(struct model *model)
{
    static const mode_t types[] = {S_IFREG, S_IFREG, S_IFREG, S_IFREG, S_IFREG,
                                   S_IFREG, S_IFIFO, S_IFCHR, S_IFBLK, S_IFSOCK};
    unsigned directory = model_pick_directory(model), index;
    const char *name = model_pick_name(model, directory);
    struct fs_caller caller = model_pick_caller(model);
    mode_t mode = types[model_below(model, 10)] | (mode_t)model_below(model, 010000);
    dev_t device = makedev(1 + model_below(model, 200), model_below(model, 1000));
    struct fs_entry entry;
    int result;

    if (!has_room(model, directory) || !table_has_room(model))
        return;
    result = fs_mknod(model->fs, model_inode(model, directory)->node, name, mode, device, &caller,
                      &entry);
    expect_equal(result, has_name(model, directory, name) ? -EEXIST : 0);
    if (result < 0)
        return;
    index = born(model, directory, &entry.attribute, mode, &caller);
    if (S_ISCHR(mode) || S_ISBLK(mode))
        model_inode(model, index)->rdev = device;
    settle_born(model, directory, name, index);
}

void model_mkdir(struct model *model)
{
    unsigned directory = model_pick_directory(model), index;
    const char *name = model_pick_name(model, directory);
    struct fs_caller caller = model_pick_caller(model);
    mode_t mode = S_IFDIR | (mode_t)model_below(model, 010000);
    struct fs_entry entry;
    int result;

    if (!has_room(model, directory) || !table_has_room(model))
        return;
    result = fs_mkdir(model->fs, model_inode(model, directory)->node, name, mode, &caller, &entry);
    expect_equal(result, has_name(model, directory, name) ? -EEXIST : 0);
    if (result < 0)
        return;
    index = born(model, directory, &entry.attribute, mode, &caller);
    settle_born(model, directory, name, index);
}

void model_symlink(struct model *model)
{
    unsigned directory = model_pick_directory(model), index;
    const char *name = model_pick_name(model, directory);
    struct fs_caller caller = model_pick_caller(model);
    size_t size = 1 + model_below(model, model_chance(model, 4) ? 4095 : 60);
    char *target = malloc(size + 1);
    struct fs_entry entry;
    int result;

    for (size_t i = 0; i < size; i++)
        target[i] = (char)(1 + model_below(model, 255));
    target[size] = '\0';
    if (has_room(model, directory) && table_has_room(model)) {
        result = fs_symlink(model->fs, model_inode(model, directory)->node, name, target, &caller,
                            &entry);
        expect_equal(result, has_name(model, directory, name) ? -EEXIST : 0);
        if (result == 0) {
            index = born(model, directory, &entry.attribute, S_IFLNK | 0777, &caller);
            model_inode(model, index)->target = target;
            settle_born(model, directory, name, index);
            return;
        }
    }
    free(target);
}

void model_tmpfile(struct model *model)
{
    unsigned directory = model_pick_directory(model), index;
    struct fs_caller caller = model_pick_caller(model);
    mode_t mode = S_IFREG | (mode_t)model_below(model, 01000);
    struct fs_entry entry;

    if (!table_has_room(model) || model->hold_count == MODEL_HOLDS)
        return;
    expect_equal(fs_tmpfile(model->fs, model_inode(model, directory)->node, mode, &caller, &entry),
                 0);
    index = born(model, directory, &entry.attribute, mode, &caller);
    model_inode(model, index)->nlink = 0;
    model_settle(model, index, MODEL_ATIME | MODEL_MTIME | MODEL_CTIME | MODEL_BTIME);
    model_hold_live(model, index);
    fs_forget(model->fs, entry.attribute.node, 1);
}

void model_link(struct model *model)
{
    unsigned directory = model_pick_directory(model), index = model_pick_any(model);
    const char *name = model_pick_name(model, directory);
    struct reference_inode *inode = model_inode(model, index);
    struct fs_caller caller = model_pick_caller(model);
    int wanted = 0, result;
    struct fs_entry entry;

    if (!has_room(model, directory))
        return;
    if (S_ISDIR(inode->mode))
        wanted = -EPERM;
    else if (has_name(model, directory, name))
        wanted = -EEXIST;
    result =
        fs_link(model->fs, inode->node, model_inode(model, directory)->node, name, &caller, &entry);
    expect_equal(result, wanted);
    if (result < 0)
        return;
    reference_edit(&model->reference, index)->nlink++;
    reference_add_name(&model->reference, directory, name, index);
    model_settle(model, index, MODEL_CTIME);
    model_settle(model, directory, MODEL_CONTENT);
    fs_forget(model->fs, entry.attribute.node, 1);
}

/* ---- removing ---- */

static int foretell_removal(const struct model *model, unsigned directory, const char *name,
                            bool is_rmdir)
{
    const struct reference_inode *inode;

    if (!has_name(model, directory, name))
        return -ENOENT;
    inode = model_inode(model, index_of(model, directory, name));
    if (is_rmdir && !S_ISDIR(inode->mode))
        return -ENOTDIR;
    if (!is_rmdir && S_ISDIR(inode->mode))
        return -EISDIR;
    return is_rmdir && inode->name_count > 0 ? -ENOTEMPTY : 0;
}

void model_unlink(struct model *model)
{
    unsigned directory = model_pick_directory(model), index;
    const char *name = model_pick_name(model, directory);
    struct fs_caller caller = model_pick_caller(model);
    int wanted = foretell_removal(model, directory, name, false);

    expect_equal(fs_unlink(model->fs, model_inode(model, directory)->node, name, &caller), wanted);
    if (wanted < 0)
        return;
    index = index_of(model, directory, name);
    reference_remove_name(&model->reference, directory, name);
    model_settle(model, directory, MODEL_CONTENT);
    model_settle_unlinked(model, index);
}

void model_rmdir(struct model *model)
{
    unsigned directory = model_pick_directory(model), index;
    const char *name = model_pick_name(model, directory);
    struct fs_caller caller = model_pick_caller(model);
    int wanted = foretell_removal(model, directory, name, true);

    expect_equal(fs_rmdir(model->fs, model_inode(model, directory)->node, name, &caller), wanted);
    if (wanted < 0)
        return;
    index = index_of(model, directory, name);
    reference_remove_name(&model->reference, directory, name);
    model_settle(model, directory, MODEL_CONTENT);
    model_settle_unlinked(model, index);
}

/* ---- rename ---- */

struct renaming {
    unsigned from_directory, to_directory;
    char from[256], to[256];
    unsigned flags;
    unsigned from_index, to_index; /* REFERENCE_INODES: no such name */
};

static bool makes_loop(const struct model *model, unsigned index, unsigned into)
{
    return S_ISDIR(model_inode(model, index)->mode) &&
           reference_within(&model->reference.live, into, index);
}

static int foretell_replacement(const struct model *model, const struct renaming *renaming)
{
    const struct reference_inode *from = model_inode(model, renaming->from_index);
    const struct reference_inode *to = model_inode(model, renaming->to_index);

    if (S_ISDIR(from->mode) && !S_ISDIR(to->mode))
        return -ENOTDIR;
    if (!S_ISDIR(from->mode) && S_ISDIR(to->mode))
        return -EISDIR;
    return S_ISDIR(to->mode) && to->name_count > 0 ? -ENOTEMPTY : 0;
}

/* An error, 1 when nothing happens, 0 when it does. */
static int foretell_rename(const struct model *model, const struct renaming *renaming)
{
    bool exchange = renaming->flags & RENAME_EXCHANGE;
    bool to_exists = renaming->to_index != REFERENCE_INODES;

    if (exchange && (renaming->flags & RENAME_NOREPLACE))
        return -EINVAL;
    if (renaming->from_index == REFERENCE_INODES)
        return -ENOENT;
    if (to_exists && (renaming->flags & RENAME_NOREPLACE))
        return -EEXIST;
    if (!to_exists && exchange)
        return -ENOENT;
    if (renaming->from_index == renaming->to_index)
        return 1;
    if (makes_loop(model, renaming->from_index, renaming->to_directory))
        return -EINVAL;
    if (exchange && makes_loop(model, renaming->to_index, renaming->from_directory))
        return -EINVAL;
    return to_exists && !exchange ? foretell_replacement(model, renaming) : 0;
}

static void apply_rename(struct model *model, const struct renaming *renaming)
{
    struct reference *reference = &model->reference;
    bool exchange = renaming->flags & RENAME_EXCHANGE;
    bool to_exists = renaming->to_index != REFERENCE_INODES;

    reference_remove_name(reference, renaming->from_directory, renaming->from);
    if (to_exists)
        reference_remove_name(reference, renaming->to_directory, renaming->to);
    reference_add_name(reference, renaming->to_directory, renaming->to, renaming->from_index);
    if (exchange)
        reference_add_name(reference, renaming->from_directory, renaming->from, renaming->to_index);
    model_settle(model, renaming->from_directory, MODEL_CONTENT);
    model_settle(model, renaming->to_directory, MODEL_CONTENT);
    model_settle(model, renaming->from_index, MODEL_CTIME);
    if (to_exists && exchange)
        model_settle(model, renaming->to_index, MODEL_CTIME);
    else if (to_exists)
        model_settle_unlinked(model, renaming->to_index);
}

static void rename_between(struct model *model, unsigned from_directory, unsigned to_directory)
{
    static const unsigned flags[] = {0,
                                     0,
                                     0,
                                     RENAME_NOREPLACE,
                                     RENAME_EXCHANGE,
                                     RENAME_EXCHANGE,
                                     RENAME_NOREPLACE | RENAME_EXCHANGE};
    struct renaming renaming = {.from_directory = from_directory, .to_directory = to_directory};
    struct fs_caller caller = model_pick_caller(model);
    int wanted;

    strcpy(renaming.from, model_pick_name(model, from_directory));
    strcpy(renaming.to, model_pick_name(model, to_directory));
    renaming.flags = flags[model_below(model, 7)];
    renaming.from_index = has_name(model, from_directory, renaming.from)
                              ? index_of(model, from_directory, renaming.from)
                              : REFERENCE_INODES;
    renaming.to_index = has_name(model, to_directory, renaming.to)
                            ? index_of(model, to_directory, renaming.to)
                            : REFERENCE_INODES;
    if (!has_room(model, to_directory) || !has_room(model, from_directory))
        return;
    wanted = foretell_rename(model, &renaming);
    expect_equal(fs_rename(model->fs, model_inode(model, from_directory)->node, renaming.from,
                           model_inode(model, to_directory)->node, renaming.to, renaming.flags,
                           &caller),
                 wanted > 0 ? 0 : wanted);
    if (wanted == 0)
        apply_rename(model, &renaming);
}

void model_rename(struct model *model)
{
    unsigned from = model_pick_directory(model);

    rename_between(model, from, model_chance(model, 3) ? from : model_pick_directory(model));
}

/* ---- a directory that changes while it is read ---- */

struct reading {
    struct model *model;
    char *names[REFERENCE_NAMES]; /* at the start */
    bool untouched[REFERENCE_NAMES];
    unsigned seen[REFERENCE_NAMES];
    unsigned count, room, taken;
    uint64_t cookie;
};

static int take_name(void *context, const struct fs_directory_entry *entry)
{
    struct reading *reading = context;

    if (reading->room == 0)
        return 1;
    reading->room--;
    reading->taken++;
    expect(entry->cookie > reading->cookie);
    reading->cookie = entry->cookie;
    for (unsigned i = 0; i < reading->count; i++)
        if (strlen(reading->names[i]) == entry->name_size &&
            memcmp(reading->names[i], entry->name, entry->name_size) == 0)
            reading->seen[i]++;
    if (entry->entry != NULL)
        fs_forget(reading->model->fs, entry->entry->attribute.node, 1);
    return 0;
}

/* A name that was there at the start and stands for something else now, or is gone, is not watched.
 */
static void note_changes(struct reading *reading, unsigned directory, const unsigned *indexes)
{
    const struct reference_inode *inode = model_inode(reading->model, directory);

    for (unsigned i = 0; i < reading->count; i++) {
        int position = reference_find(inode, reading->names[i]);

        if (position < 0 || inode->names[position].index != indexes[i])
            reading->untouched[i] = false;
    }
}

static void change_names(struct model *model, unsigned directory)
{
    unsigned other = model_pick_directory(model);

    switch (model_below(model, 4)) {
    case 0:
        model_create(model);
        break;
    case 1:
        model_unlink(model);
        break;
    case 2:
        rename_between(model, directory, other);
        break;
    default:
        rename_between(model, other, directory);
        break;
    }
}

void model_readdir_while_changing(struct model *model)
{
    unsigned directory = model_pick_directory(model), indexes[REFERENCE_NAMES];
    const struct reference_inode *inode = model_inode(model, directory);
    struct reading reading = {.model = model, .count = inode->name_count};
    struct fs_directory *stream;

    for (unsigned i = 0; i < reading.count; i++) {
        reading.names[i] = strdup(inode->names[i].name);
        reading.untouched[i] = true;
        indexes[i] = inode->names[i].index;
    }
    expect_equal(fs_directory_open(model->fs, inode->node, &stream), 0);
    do {
        reading.taken = 0;
        reading.room = 1 + (unsigned)model_below(model, 5);
        expect_equal(
            fs_readdir(stream, reading.cookie, model_chance(model, 2), take_name, &reading), 0);
        change_names(model, directory);
        if (model_inode(model, directory) == NULL)
            break; /* the directory itself was removed */
        note_changes(&reading, directory, indexes);
    } while (reading.taken > 0);
    for (unsigned i = 0; i < reading.count; i++) {
        if (reading.taken == 0 && reading.untouched[i])
            expect_equal(reading.seen[i], 1);
        free(reading.names[i]);
    }
    fs_directory_close(stream);
}
