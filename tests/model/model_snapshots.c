/* SPDX-License-Identifier: Apache-2.0 */
/*
 * model_snapshots.c - operations on .snapshots and in it
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdio.h>
#include <string.h>

#include "tests/model/model.h"

static const struct fs_caller root_caller = {.uid = 0, .gid = 0};

static void pick_snapshot_name(struct model *model, char name[16])
{
    snprintf(name, 16, "s%llu", (unsigned long long)model_below(model, 2 * REFERENCE_SNAPSHOTS));
}

void model_snapshot_create(struct model *model)
{
    struct reference *reference = &model->reference;
    uint64_t snapshots = compare_snapshots_node(model->fs);
    struct fs_entry entry;
    char name[16];
    int wanted;

    pick_snapshot_name(model, name);
    wanted = reference_snapshot_find(reference, name) >= 0 ? -EEXIST : 0;
    if (reference->snapshot_count == REFERENCE_SNAPSHOTS)
        return;
    expect_equal(fs_mkdir(model->fs, snapshots, name, 0755, &root_caller, &entry), wanted);
    if (wanted < 0)
        return;
    reference_snapshot_create(reference, name);
    fs_forget(model->fs, entry.attribute.node, 1);
}

void model_snapshot_delete(struct model *model)
{
    uint64_t snapshots = compare_snapshots_node(model->fs);
    char name[16];
    int position;

    pick_snapshot_name(model, name);
    position = reference_snapshot_find(&model->reference, name);
    expect_equal(fs_rmdir(model->fs, snapshots, name, &root_caller), position < 0 ? -ENOENT : 0);
    if (position >= 0)
        reference_snapshot_delete(&model->reference, (unsigned)position);
}

void model_snapshot_rename(struct model *model)
{
    struct reference *reference = &model->reference;
    uint64_t snapshots = compare_snapshots_node(model->fs);
    int position, wanted = 0;
    char from[16], to[16];

    pick_snapshot_name(model, from);
    pick_snapshot_name(model, to);
    position = reference_snapshot_find(reference, from);
    if (position < 0)
        wanted = -ENOENT;
    else if (reference_snapshot_find(reference, to) >= 0 && strcmp(from, to) != 0)
        wanted = -EEXIST;
    expect_equal(fs_rename(model->fs, snapshots, from, snapshots, to, 0, &root_caller), wanted);
    if (wanted == 0)
        strcpy(reference->snapshots[position].name, to);
}

/* A file of a snapshot that has a name there: its lookup counted, 0 when none was met. */
static uint64_t pick_file(struct model *model, struct reference_inode **ret_inode)
{
    const struct reference_snapshot *snapshot;

    if (model->reference.snapshot_count == 0)
        return 0;
    snapshot = &model->reference.snapshots[model_below(model, model->reference.snapshot_count)];
    for (unsigned tries = 0; tries < 20; tries++) {
        unsigned index = (unsigned)model_below(model, REFERENCE_INODES);
        struct reference_inode *inode = snapshot->state.inodes[index];
        uint64_t node;

        if (inode == NULL || !S_ISREG(inode->mode))
            continue;
        node = compare_lookup_in_snapshot(model->fs, snapshot, index);
        if (node != 0)
            *ret_inode = inode;
        return node;
    }
    return 0;
}

void model_snapshot_open(struct model *model)
{
    struct model_hold *hold = &model->holds[model->hold_count];
    struct reference_inode *inode;
    uint64_t node;

    if (model->hold_count == MODEL_HOLDS)
        return;
    node = pick_file(model, &inode);
    if (node == 0)
        return;
    *hold = (struct model_hold){.snapshot = reference_inode_ref(inode), .node = node};
    expect_equal(fs_open_file(model->fs, node, true, &hold->handle), -EROFS);
    expect_equal(fs_open_file(model->fs, node, false, &hold->handle), 0);
    model->hold_count++;
}

/* Nothing in a snapshot can be changed. */
void model_snapshot_refuse(struct model *model)
{
    struct fs_setattr change = {.mask = FS_SETATTR_SIZE};
    struct reference_inode *inode;
    uint64_t node = pick_file(model, &inode), root;
    struct fs_entry entry;
    unsigned position;

    if (node == 0)
        return;
    expect_equal(fs_write(model->fs, node, "x", 1, 0, false, false), -EROFS);
    expect_equal(fs_setattr(model->fs, node, &change, &root_caller, &entry), -EROFS);
    expect_equal(fs_fallocate(model->fs, node, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 1),
                 -EROFS);
    expect_equal(fs_copy_range(model->fs, node, 0, 0, node, 1 << 20, 1), -EROFS);
    expect_equal(fs_setxattr(model->fs, node, "user.x", "", 0, 0, &root_caller), -EROFS);
    expect_equal(fs_link(model->fs, node, FS_ROOT, "from the past", &root_caller, &entry), -EXDEV);
    fs_forget(model->fs, node, 1);

    position = (unsigned)model_below(model, model->reference.snapshot_count);
    root = compare_lookup_in_snapshot(model->fs, &model->reference.snapshots[position],
                                      REFERENCE_ROOT);
    expect_equal(fs_mkdir(model->fs, root, "new", 0755, &root_caller, &entry), -EROFS);
    expect_equal(fs_unlink(model->fs, root, "a", &root_caller), -EROFS);
    expect_equal(fs_rename(model->fs, root, "a", root, "b", 0, &root_caller), -EROFS);
    fs_forget(model->fs, root, 1);
}
