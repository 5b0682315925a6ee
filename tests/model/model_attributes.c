/* SPDX-License-Identifier: Apache-2.0 */
/*
 * model_attributes.c - operations on attributes and extended attributes
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/xattr.h>

#include "tests/model/model.h"

static const struct fs_caller root_caller = {.uid = 0, .gid = 0};

static void set_attribute(struct model *model, unsigned index, const struct fs_setattr *change)
{
    struct fs_entry entry;

    expect_equal(
        fs_setattr(model->fs, model_inode(model, index)->node, change, &root_caller, &entry), 0);
    expect_equal(entry.attribute.node, model_inode(model, index)->node);
}

void model_chmod(struct model *model)
{
    unsigned index = model_pick_any(model);
    struct fs_setattr change = {.mask = FS_SETATTR_MODE,
                                .mode = (mode_t)model_below(model, 010000)};
    struct reference_inode *inode;

    set_attribute(model, index, &change);
    inode = reference_edit(&model->reference, index);
    inode->mode = (inode->mode & S_IFMT) | change.mode;
    model_settle(model, index, MODEL_CTIME);
}

void model_chown(struct model *model)
{
    unsigned index = model_pick_any(model);
    struct fs_setattr change = {.uid = (uid_t)model_below(model, 5),
                                .gid = (gid_t)model_below(model, 5)};
    struct reference_inode *inode;

    change.mask = model_chance(model, 2) ? FS_SETATTR_UID : FS_SETATTR_GID;
    if (model_chance(model, 2))
        change.mask = FS_SETATTR_UID | FS_SETATTR_GID;
    set_attribute(model, index, &change);
    inode = reference_edit(&model->reference, index);
    if (change.mask & FS_SETATTR_UID)
        inode->uid = change.uid;
    if (change.mask & FS_SETATTR_GID)
        inode->gid = change.gid;
    if (!S_ISDIR(inode->mode))
        model_drop_privileges(inode, true);
    model_settle(model, index, MODEL_CTIME);
}

static struct timespec pick_time(struct model *model)
{
    return (struct timespec){.tv_sec = (time_t)model_below(model, 4000000000) - 1000000000,
                             .tv_nsec = (long)model_below(model, 1000000000)};
}

void model_utimens(struct model *model)
{
    unsigned index = model_pick_any(model), settled = MODEL_CTIME;
    struct fs_setattr change = {.atime = pick_time(model), .mtime = pick_time(model)};
    struct reference_inode *inode;
    uint64_t how = model_below(model, 5);

    change.mask = how == 0   ? FS_SETATTR_ATIME | FS_SETATTR_ATIME_NOW
                  : how == 1 ? FS_SETATTR_MTIME | FS_SETATTR_MTIME_NOW
                  : how == 2 ? FS_SETATTR_ATIME
                  : how == 3 ? FS_SETATTR_MTIME
                             : FS_SETATTR_ATIME | FS_SETATTR_MTIME;
    set_attribute(model, index, &change);
    inode = reference_edit(&model->reference, index);
    if (change.mask & FS_SETATTR_ATIME_NOW)
        settled |= MODEL_ATIME;
    else if (change.mask & FS_SETATTR_ATIME)
        inode->atime = change.atime;
    if (change.mask & FS_SETATTR_MTIME_NOW)
        settled |= MODEL_MTIME;
    else if (change.mask & FS_SETATTR_MTIME)
        inode->mtime = change.mtime;
    model_settle(model, index, settled);
}

static const char *const xattr_names[] = {
    "user.a", "user.b", "trusted.c", "security.d", "security.capability", "user.e", "user.f"};

void model_setxattr(struct model *model)
{
    static const int flags[] = {0, 0, XATTR_CREATE, XATTR_REPLACE};
    unsigned index = model_pick_any(model);
    struct reference_inode *inode = model_inode(model, index);
    const char *name = xattr_names[model_below(model, 7)];
    bool present = reference_find_xattr(inode, name) >= 0;
    size_t size = model_below(model, model_chance(model, 4) ? 4000 : 60);
    int flag = flags[model_below(model, 4)], wanted = 0;
    uint8_t *value;

    if (!present && inode->xattr_count == REFERENCE_XATTRS)
        return;
    if (present && flag == XATTR_CREATE)
        wanted = -EEXIST;
    else if (!present && flag == XATTR_REPLACE)
        wanted = -ENODATA;
    value = malloc(size + 1);
    for (size_t i = 0; i < size; i++)
        value[i] = (uint8_t)seed_next(&model->random);
    expect_equal(fs_setxattr(model->fs, inode->node, name, value, size, flag, &root_caller),
                 wanted);
    if (wanted == 0) {
        reference_set_xattr(reference_edit(&model->reference, index), name, value, size);
        model_settle(model, index, MODEL_CTIME);
    }
    free(value);
}

void model_removexattr(struct model *model)
{
    unsigned index = model_pick_any(model);
    struct reference_inode *inode = model_inode(model, index);
    const char *name = xattr_names[model_below(model, 7)];
    bool present = reference_find_xattr(inode, name) >= 0;

    expect_equal(fs_removexattr(model->fs, inode->node, name, &root_caller),
                 present ? 0 : -ENODATA);
    if (present) {
        reference_remove_xattr(reference_edit(&model->reference, index), name);
        model_settle(model, index, MODEL_CTIME);
    }
}
