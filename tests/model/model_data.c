/* SPDX-License-Identifier: Apache-2.0 */
/*
 * model_data.c - operations on file data
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdlib.h>
#include <string.h>

#include "tests/model/model.h"

static size_t pick_size(struct model *model)
{
    switch (model_below(model, 6)) {
    case 0:
        return 1 + model_below(model, 150);
    case 1:
        return 1 + model_below(model, 1100);
    case 2:
        return 1 + model_below(model, 5000);
    case 3:
        return 4096 * (1 + model_below(model, 4));
    case 4:
        return 1 + model_below(model, 70000);
    default:
        return 1 + model_below(model, model_chance(model, 4) ? 400000 : 20000);
    }
}

/* Somewhere in or a little behind a file of `size` bytes. */
static size_t pick_offset(struct model *model, size_t size)
{
    size_t offset;

    switch (model_below(model, 5)) {
    case 0:
        offset = size;
        break;
    case 1:
        offset = model_below(model, size + 1) & ~(size_t)4095;
        break;
    case 2:
        offset = size + model_below(model, 30000);
        break;
    default:
        offset = model_below(model, size + 1);
        break;
    }
    return offset < REFERENCE_SIZE_MAX ? offset : REFERENCE_SIZE_MAX - 1;
}

/* Half of it compresses. */
static uint8_t *pick_data(struct model *model, size_t size)
{
    uint8_t *data = malloc(size);
    bool noise = model_chance(model, 2);
    uint8_t step = (uint8_t)(1 + model_below(model, 5));

    for (size_t i = 0; i < size; i++)
        data[i] = noise ? (uint8_t)seed_next(&model->random) : (uint8_t)(i / 16 * step);
    return data;
}

static void write_at(struct model *model, unsigned index, size_t offset, bool append)
{
    struct reference_inode *inode = model_inode(model, index);
    bool kill = model_chance(model, 10);
    size_t size = pick_size(model), at = append ? inode->size : offset;
    uint8_t *data;

    if (at + size > REFERENCE_SIZE_MAX)
        size = REFERENCE_SIZE_MAX - at;
    if (size == 0)
        return;
    data = pick_data(model, size);
    expect_equal(fs_write(model->fs, inode->node, data, size, offset, append, kill), size);
    inode = reference_edit(&model->reference, index);
    reference_write(inode, data, size, at);
    model_drop_privileges(inode, kill);
    model_settle(model, index, MODEL_CONTENT);
    free(data);
}

void model_write(struct model *model)
{
    unsigned index = model_pick_file(model);

    if (index != REFERENCE_INODES)
        write_at(model, index, pick_offset(model, model_inode(model, index)->size), false);
}

/* Lines of a log. */
void model_append(struct model *model)
{
    unsigned index = model_pick_file(model);

    if (index == REFERENCE_INODES)
        return;
    for (uint64_t i = model_below(model, 12); i > 0; i--) {
        size_t size = 1 + model_below(model, 300);
        struct reference_inode *inode = model_inode(model, index);
        uint8_t *data;

        if (inode->size + size > REFERENCE_SIZE_MAX)
            break;
        data = pick_data(model, size);
        expect_equal(fs_write(model->fs, inode->node, data, size, 12345, true, false), size);
        inode = reference_edit(&model->reference, index);
        reference_write(inode, data, size, inode->size);
        model_drop_privileges(inode, false);
        model_settle(model, index, MODEL_CONTENT);
        free(data);
    }
}

void model_truncate(struct model *model)
{
    struct fs_setattr change = {.mask = FS_SETATTR_SIZE};
    struct fs_caller caller = model_pick_caller(model);
    unsigned index = model_pick_file(model);
    struct fs_entry entry;

    if (index == REFERENCE_INODES)
        return;
    change.size_bytes =
        model_chance(model, 5) ? 0 : pick_offset(model, model_inode(model, index)->size);
    expect_equal(fs_setattr(model->fs, model_inode(model, index)->node, &change, &caller, &entry),
                 0);
    reference_resize(reference_edit(&model->reference, index), change.size_bytes);
    model_settle(model, index, MODEL_CONTENT);
}

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

void model_punch(struct model *model)
{
    unsigned index = model_pick_file(model);
    struct reference_inode *inode;
    size_t offset, length;

    if (index == REFERENCE_INODES)
        return;
    inode = model_inode(model, index);
    offset = pick_offset(model, inode->size);
    length = pick_size(model);
    expect_equal(fs_fallocate(model->fs, inode->node, FALLOC_FL_PUNCH_HOLE, offset, length),
                 -EOPNOTSUPP);
    expect_equal(fs_fallocate(model->fs, inode->node, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                              offset, length),
                 0);
    inode = reference_edit(&model->reference, index);
    if (offset < inode->size)
        reference_punch(inode, offset, smaller(offset + length, inode->size));
    model_drop_privileges(inode, false);
    model_settle(model, index, MODEL_CONTENT);
}

void model_zero(struct model *model)
{
    unsigned index = model_pick_file(model);
    int keep = model_chance(model, 2) ? FALLOC_FL_KEEP_SIZE : 0;
    struct reference_inode *inode;
    size_t offset, length;

    if (index == REFERENCE_INODES)
        return;
    inode = model_inode(model, index);
    offset = pick_offset(model, inode->size);
    length = smaller(pick_size(model), REFERENCE_SIZE_MAX - offset);
    expect_equal(fs_fallocate(model->fs, inode->node, FALLOC_FL_ZERO_RANGE | keep, offset, length),
                 0);
    inode = reference_edit(&model->reference, index);
    if (offset < inode->size)
        reference_punch(inode, offset, smaller(offset + length, inode->size));
    if (keep == 0 && offset + length > inode->size)
        inode->size = offset + length;
    model_drop_privileges(inode, false);
    model_settle(model, index, MODEL_CONTENT);
}

void model_allocate(struct model *model)
{
    unsigned index = model_pick_file(model);
    int keep = model_chance(model, 2) ? FALLOC_FL_KEEP_SIZE : 0;
    struct reference_inode *inode;
    size_t offset, length;

    if (index == REFERENCE_INODES)
        return;
    inode = model_inode(model, index);
    offset = pick_offset(model, inode->size);
    length = smaller(pick_size(model), REFERENCE_SIZE_MAX - offset);
    expect_equal(fs_fallocate(model->fs, inode->node, keep, offset, length), 0);
    if (keep != 0 || offset + length <= inode->size)
        return; /* nothing has changed, the times neither */
    inode = reference_edit(&model->reference, index);
    inode->size = offset + length;
    model_drop_privileges(inode, false);
    model_settle(model, index, MODEL_CONTENT);
}

/* ---- copying ---- */

struct copy_source {
    const struct reference_inode *inode;
    uint64_t node;
    bool held; /* a lookup is to be given back */
};

static bool pick_source(struct model *model, struct copy_source *source)
{
    const struct reference *reference = &model->reference;
    const struct reference_snapshot *snapshot;
    unsigned index;

    if (reference->snapshot_count == 0 || model_chance(model, 2)) {
        index = model_pick_file(model);
        if (index == REFERENCE_INODES)
            return false;
        *source =
            (struct copy_source){model_inode(model, index), model_inode(model, index)->node, false};
        return true;
    }
    snapshot = &reference->snapshots[model_below(model, reference->snapshot_count)];
    for (unsigned tries = 0; tries < 20; tries++) {
        index = (unsigned)model_below(model, REFERENCE_INODES);
        source->inode = snapshot->state.inodes[index];
        if (source->inode == NULL || !S_ISREG(source->inode->mode) || source->inode->size == 0)
            continue;
        source->node = compare_lookup_in_snapshot(model->fs, snapshot, index);
        source->held = true;
        return source->node != 0;
    }
    return false;
}

static void copy_here(struct model *model, const struct copy_source *source, size_t from_offset,
                      unsigned index, size_t to_offset, size_t size)
{
    bool same = source->inode == model_inode(model, index) && !source->held;
    struct reference_inode *to = reference_edit(&model->reference, index);

    reference_copy(same ? to : source->inode, from_offset, to, to_offset, size);
    model_drop_privileges(to, false);
    model_settle(model, index, MODEL_CONTENT);
}

void model_copy_range(struct model *model)
{
    unsigned index = model_pick_file(model);
    struct reference_inode *to;
    struct copy_source source;
    size_t from_offset, to_offset, length, wanted;
    int64_t result;

    if (index == REFERENCE_INODES || !pick_source(model, &source))
        return;
    to = model_inode(model, index);
    from_offset = pick_offset(model, source.inode->size);
    to_offset = pick_offset(model, to->size);
    length = smaller(model_chance(model, 3) ? REFERENCE_SIZE_MAX : pick_size(model),
                     REFERENCE_SIZE_MAX - to_offset);
    if (model_chance(model, 6))
        from_offset = to_offset = 0;
    result = fs_copy_range(model->fs, source.node, 0, from_offset, to->node, to_offset, length);
    if (source.node == to->node && from_offset < to_offset + length &&
        to_offset < from_offset + length) {
        expect_equal(result, -EINVAL);
    } else {
        wanted = from_offset < source.inode->size
                     ? smaller(length, source.inode->size - from_offset)
                     : 0;
        expect_equal(result, wanted);
        if (wanted > 0)
            copy_here(model, &source, from_offset, index, to_offset, wanted);
    }
    if (source.held)
        fs_forget(model->fs, source.node, 1);
}

/* ---- reading, open files ---- */

void model_read(struct model *model)
{
    unsigned index = model_pick_file(model);

    if (model->hold_count > 0 && model_chance(model, 2)) {
        struct model_hold *hold = &model->holds[model_below(model, model->hold_count)];
        const struct reference_inode *inode =
            hold->snapshot != NULL ? hold->snapshot : model_inode(model, hold->index);
        uint64_t handle = model_chance(model, 3) ? 0 : hold->handle;

        compare_data(model->fs, hold->node, handle, inode, &model->random);
        return;
    }
    if (index != REFERENCE_INODES)
        compare_data(model->fs, model_inode(model, index)->node, 0, model_inode(model, index),
                     &model->random);
}

void model_open(struct model *model)
{
    unsigned index = model_pick_file(model);

    if (index != REFERENCE_INODES && model->hold_count < MODEL_HOLDS)
        model_hold_live(model, index);
}

void model_close(struct model *model)
{
    if (model->hold_count > 0)
        model_release(model, (unsigned)model_below(model, model->hold_count));
}
