/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fs_allocate.c - fallocate: size, holes, zeros
 *
 * Space cannot be set aside in a store that never writes in place: allocation checks that there is
 * enough now. Zeroing is making a hole, so it frees space and costs no data.
 */
#include "fuse/fs_data.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>

/* Bytes of [start, end) that are mapped. */
static int count_mapped(const struct fs_change *change, uint64_t start, uint64_t end,
                        uint64_t *ret_mapped)
{
    struct fs_extent_cursor cursor;
    struct fs_extent extent;
    uint64_t mapped = 0;
    int result = fs_extent_cursor_open(change->edit.view, change->ino, start, &cursor);

    if (result < 0)
        return result;
    while ((result = fs_extent_cursor_next(&cursor, &extent)) > 0 && extent.start < end) {
        uint64_t from = extent.start > start ? extent.start : start;
        uint64_t to = fs_extent_end(&extent) < end ? fs_extent_end(&extent) : end;

        mapped += to - from;
    }
    fs_extent_cursor_close(&cursor);
    if (result < 0)
        return result;
    *ret_mapped = mapped;
    return 0;
}

static int check_space(const struct fs_change *change, uint64_t start, uint64_t end)
{
    struct engine *engine = change->edit.fs->engine;
    uint64_t total, free_bytes, available, mapped;
    int result = engine_space_check(engine);

    if (result == 0)
        result = engine_space(engine, &total, &free_bytes, &available);
    if (result < 0 || end - start <= available)
        return result;
    result = count_mapped(change, start, end, &mapped);
    if (result < 0)
        return result;
    return end - start - mapped <= available ? 0 : -ENOSPC;
}

/* Mode 0 and KEEP_SIZE. 1: the inode changed. */
static int allocate(struct fs_change *change, uint64_t start, uint64_t end, bool keep_size)
{
    int result = check_space(change, start, end);

    if (result < 0 || keep_size || end <= change->inode.size_bytes)
        return result;
    change->inode.size_bytes = end;
    return 1;
}

/* PUNCH_HOLE (which keeps the size) and ZERO_RANGE. */
static int make_hole(struct fs_change *change, uint64_t start, uint64_t end, bool keep_size)
{
    struct fs_inode *inode = &change->inode;
    uint64_t stop = end < inode->size_bytes ? end : inode->size_bytes, removed;

    if (start < stop) {
        int result = fs_extent_punch(change->edit.view, change->ino, start, stop,
                                     change->edit.batch, &removed);

        if (result < 0)
            return result;
        inode->allocated_bytes -= removed;
    }
    if (!keep_size && end > inode->size_bytes)
        inode->size_bytes = end;
    return 1;
}

static bool mode_is_supported(int mode)
{
    return mode == 0 || mode == FALLOC_FL_KEEP_SIZE ||
           mode == (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE) || mode == FALLOC_FL_ZERO_RANGE ||
           mode == (FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE);
}

int fs_fallocate(struct fs *fs, uint64_t node, int mode, uint64_t offset, uint64_t length)
{
    bool keep_size = mode & FALLOC_FL_KEEP_SIZE;
    struct fs_change change;
    int result;

    if (!mode_is_supported(mode))
        return -EOPNOTSUPP;
    if (length == 0)
        return -EINVAL;
    if (length > FS_SIZE_MAX || offset > FS_SIZE_MAX - length)
        return -EFBIG;
    result = fs_change_begin(fs, node, &change);
    if (result < 0)
        return result;
    if ((change.inode.flags & FS_APPEND_FL) && (mode & ~FALLOC_FL_KEEP_SIZE))
        result = -EPERM;
    else if (mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE))
        result = make_hole(&change, offset, offset + length, keep_size);
    else
        result = allocate(&change, offset, offset + length, keep_size);
    if (result > 0)
        result = fs_change_commit(&change, false);
    fs_change_end(&change);
    return result;
}
