/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fs_copy.c - copying by sharing: the target's map refers to the source's data
 *
 * A reference is narrowed to what the range needs and put into the target's map; inline bytes are
 * copied; holes stay holes. Data of a snapshot is shared when the engine can bring its chunk back
 * into the live store, and copied when it cannot. Long copies are several batches, so that a batch
 * stays small and other users of the file get their turn.
 */
#include "fuse/fs_data.h"

#include <errno.h>
#include <stdlib.h>

/* Extents a batch. */
#define COPY_EXTENTS_MAX 512

/* Bytes a batch that could not be shared: they are written while the target is locked. */
#define COPY_BYTES_MAX (UINT64_C(16) << 20)

struct copy {
    struct fs *fs;
    struct fs_source source; /* a live file's has no view: it is read from the target's */
    bool from_live;
    uint64_t from_ino;
    uint64_t to_node;
    uint64_t adopted_chunk_id; /* the last chunk that the engine took over in this batch; 0: none */
    uint64_t copied_bytes;     /* of this batch */
    uint64_t from_end; /* where the source ended at first: the target may be the same file */
    uint8_t *bytes;    /* for data that cannot be shared: made at first need */
};

/* ---- one extent ---- */

/* The chunk cannot be had: write the bytes anew. */
static int copy_bytes(struct copy *copy, struct engine_view *view, struct fs_extent *extent)
{
    struct engine_blob_read read;
    int result;

    if (copy->bytes == NULL)
        copy->bytes = malloc(BLOB_FRAME_SIZE_MAX);
    if (copy->bytes == NULL)
        return -ENOMEM;
    read = (struct engine_blob_read){.ref = &extent->ref, .to = copy->bytes};
    result = engine_blob_read(view, &read, 1);
    if (result < 0)
        return result;
    copy->copied_bytes += extent->length;
    if (extent->length <= FS_INLINE_MAX) {
        memcpy(extent->data, copy->bytes, extent->length);
        extent->inlined = true;
        return 0;
    }
    return engine_blob_append(copy->fs->engine, copy->bytes, extent->length, &extent->ref);
}

/* Make the reference one of the live store. */
static int take_reference(struct copy *copy, struct engine_view *from_view,
                          struct fs_extent *extent)
{
    if (!copy->from_live && extent->ref.chunk_id != copy->adopted_chunk_id) {
        if (engine_adopt_reference(copy->fs->engine, from_view, &extent->ref) < 0)
            return copy_bytes(copy, from_view, extent);
        copy->adopted_chunk_id = extent->ref.chunk_id;
    }
    __atomic_fetch_add(&copy->fs->statistics.shared_bytes, extent->length, __ATOMIC_RELAXED);
    return 0;
}

/* ---- one batch ---- */

/* Put what lies in [from, from + length) of the source at `to` of inode `ino`. *length is cut where
 * the batch is full; *ret_mapped counts the bytes put. */
static int copy_extents(struct copy *copy, struct engine_view *from_view, uint64_t from,
                        uint64_t ino, uint64_t to, uint64_t *length, struct batch *puts,
                        uint64_t *ret_mapped)
{
    uint64_t end = from + *length, mapped = 0;
    struct fs_extent_cursor cursor;
    struct fs_extent extent;
    unsigned count = 0;
    int result = fs_extent_cursor_open(from_view, copy->from_ino, from, &cursor);

    if (result < 0)
        return result;
    while ((result = fs_extent_cursor_next(&cursor, &extent)) > 0 && extent.start < end) {
        uint64_t start = extent.start > from ? extent.start : from;
        uint64_t stop = fs_extent_end(&extent) < end ? fs_extent_end(&extent) : end;

        if (count++ == COPY_EXTENTS_MAX || copy->copied_bytes >= COPY_BYTES_MAX) {
            *length = start - from;
            break;
        }
        fs_extent_slice(&extent, (uint32_t)(start - extent.start), (uint32_t)(stop - start));
        if (!extent.inlined)
            result = take_reference(copy, from_view, &extent);
        if (result < 0)
            break;
        extent.start = to + (start - from);
        fs_extent_put(puts, ino, &extent);
        mapped += extent.length;
        if (stop == end)
            break;
    }
    fs_extent_cursor_close(&cursor);
    if (result < 0)
        return result;
    *ret_mapped = mapped;
    return 0;
}

/* The old map is cut before the puts take effect, but how far is known only after they were made:
 * so they are made aside. */
static int copy_over(struct copy *copy, struct fs_change *change, struct engine_view *from_view,
                     uint64_t from, uint64_t to, uint64_t *length, uint64_t *ret_mapped,
                     uint64_t *ret_removed)
{
    struct batch puts = {.count = 0};
    int result = copy_extents(copy, from_view, from, change->ino, to, length, &puts, ret_mapped);

    if (result == 0)
        result = fs_extent_punch(change->edit.view, change->ino, to, to + *length,
                                 change->edit.batch, ret_removed);
    if (result == 0)
        batch_append(change->edit.batch, &puts);
    batch_free(&puts);
    return result;
}

static int copy_in(struct copy *copy, struct fs_change *change, struct engine_view *from_view,
                   uint64_t from, uint64_t to, uint64_t *length)
{
    struct fs_inode *inode = &change->inode;
    uint64_t mapped = 0, removed = 0;
    int result;

    if (to < inode->size_bytes)
        result = copy_over(copy, change, from_view, from, to, length, &mapped, &removed);
    else
        result = copy_extents(copy, from_view, from, change->ino, to, length, change->edit.batch,
                              &mapped);
    if (result < 0)
        return result;
    inode->allocated_bytes += mapped - removed;
    if (inode->size_bytes < to + *length)
        inode->size_bytes = to + *length;
    return fs_change_commit(change, false);
}

/* Size of the source as of the view: negative error, or 0. */
static int source_size(const struct copy *copy, struct engine_view *from_view, uint64_t *ret_size)
{
    struct fs_source source = copy->source;
    struct fs_inode inode;
    int result;

    source.location.view = from_view;
    result = fs_source_load(&source, &inode);
    if (result == 0)
        *ret_size = inode.size_bytes;
    return result;
}

/* One batch: bytes copied, 0 at the source's end, or negative. */
static int64_t copy_step(struct copy *copy, uint64_t from, uint64_t to, uint64_t length)
{
    struct fs_change change;
    struct engine_view *from_view;
    uint64_t size = 0;
    int result = fs_change_begin(copy->fs, copy->to_node, &change);

    if (result < 0)
        return result;
    copy->adopted_chunk_id = copy->copied_bytes = 0;
    from_view = copy->from_live ? change.edit.view : copy->source.location.view;
    result = source_size(copy, from_view, &size);
    if (result == 0 && (change.inode.flags & FS_APPEND_FL) && to < change.inode.size_bytes)
        result = -EPERM;
    if (size < copy->from_end)
        copy->from_end = size;
    if (result < 0 || from >= copy->from_end) {
        length = 0;
    } else {
        if (length > copy->from_end - from)
            length = copy->from_end - from;
        result = copy_in(copy, &change, from_view, from, to, &length);
    }
    fs_change_end(&change);
    return result < 0 ? result : (int64_t)length;
}

/* ---- the whole ---- */

static int64_t copy_steps(struct copy *copy, uint64_t from, uint64_t to, uint64_t length)
{
    uint64_t done = 0;

    while (done < length) {
        int64_t result = copy_step(copy, from + done, to + done, length - done);

        if (result < 0 && done == 0)
            return result;
        if (result <= 0)
            break;
        done += (uint64_t)result;
    }
    return (int64_t)done;
}

static int check_ranges(uint64_t from_node, uint64_t from_offset, uint64_t to_node,
                        uint64_t to_offset, uint64_t length)
{
    if (length > FS_SIZE_MAX || to_offset > FS_SIZE_MAX - length)
        return -EFBIG;
    if (from_offset > FS_SIZE_MAX - length)
        return -EINVAL;
    if (from_node == to_node && from_offset < to_offset + length &&
        to_offset < from_offset + length)
        return -EINVAL;
    return 0;
}

int64_t fs_copy_range(struct fs *fs, uint64_t from_node, uint64_t from_handle, uint64_t from_offset,
                      uint64_t to_node, uint64_t to_offset, uint64_t length)
{
    struct copy copy = {.fs = fs,
                        .to_node = to_node,
                        .from_live = fs_node_is_live(from_node),
                        .from_end = UINT64_MAX};
    int64_t result;

    if (!fs_node_is_live(to_node) || fs_refuses_changes(fs))
        return -EROFS;
    result = check_ranges(from_node, from_offset, to_node, to_offset, length);
    if (result == 0)
        result = engine_space_check(fs->engine);
    if (result < 0)
        return result;
    if (copy.from_live)
        copy.source = (struct fs_source){.location.ino = from_node, .borrowed = true};
    else
        result = fs_source_get(fs, from_node, from_handle, &copy.source);
    if (result < 0)
        return result;
    copy.from_ino = copy.source.location.ino;
    result = copy_steps(&copy, from_offset, to_offset, length);
    fs_source_put(fs, &copy.source);
    free(copy.bytes);
    return result;
}
