/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fs_write.c - writing file data
 *
 * A write becomes pieces along the file's grid, each an extent, in one batch with the inode. Small
 * pieces are joined with what lies beside them, so that a file written in short lines does not
 * become a map of short extents, and so that no byte is rewritten often:
 *   - as long as the sum stays inline, with the inline extent that it touches or overwrites partly;
 *   - else, when the small extents right before it add up to FS_SMALL_EXTENT (or are many, or end
 *     with a cell of the grid), all of them become one frame, which later writes leave alone.
 */
#include "fuse/fs_data.h"

#include <errno.h>

#include "engine/base/invariant.h"

/* How many small extents before a write are looked at. */
#define CHAIN_MAX 8

/* All of a chain but the extent that completes it is below FS_SMALL_EXTENT, and so is that. */
#define CHAIN_BYTES_MAX (2 * FS_SMALL_EXTENT)

/* ---- storing ---- */

static int store(struct fs_change *change, const uint8_t *data, uint32_t size, uint64_t start)
{
    struct fs_statistics *statistics = &change->edit.fs->statistics;
    struct blob_ref ref;
    struct fs_key key;
    int result;

    fs_key_extent(&key, change->ino, start + size - 1);
    if (size <= FS_INLINE_MAX) {
        result = engine_space_check(change->edit.fs->engine);
        if (result < 0)
            return result;
        batch_put(change->edit.batch, fs_key_slice(&key), slice_of(data, size));
        __atomic_fetch_add(&statistics->inline_writes, 1, __ATOMIC_RELAXED);
        return 0;
    }
    result = change->is_synced_often
                 ? engine_blob_append_as_is(change->edit.fs->engine, data, size, &ref)
                 : engine_blob_append(change->edit.fs->engine, data, size, &ref);
    if (result < 0)
        return result;
    batch_put_reference(change->edit.batch, fs_key_slice(&key), &ref);
    __atomic_fetch_add(&statistics->blob_writes, 1, __ATOMIC_RELAXED);
    return 0;
}

/* Whole cells of the grid, together. */
static int store_cells(struct fs_change *change, const uint8_t *data, size_t count, uint64_t start)
{
    struct blob_ref refs[BLOB_APPEND_FRAMES_MAX];
    struct fs_key key;
    int result = engine_blob_append_frames(change->edit.fs->engine, data, count, refs);

    for (size_t i = 0; i < count && result == 0; i++) {
        fs_key_extent(&key, change->ino, start + (i + 1) * BLOB_FRAME_SIZE_MAX - 1);
        batch_put_reference(change->edit.batch, fs_key_slice(&key), &refs[i]);
        __atomic_fetch_add(&change->edit.fs->statistics.blob_writes, 1, __ATOMIC_RELAXED);
    }
    return result;
}

/* ---- joining with small extents before ---- */

struct chain {
    uint64_t start;            /* where the earliest member starts */
    uint64_t lasts[CHAIN_MAX]; /* keys of the members, latest first */
    unsigned count;
    unsigned read_count;
    struct engine_blob_read reads[CHAIN_MAX];
    struct blob_ref refs[CHAIN_MAX];
    /* the members' bytes end at bytes + CHAIN_BYTES_MAX, the new ones follow */
    uint8_t bytes[CHAIN_BYTES_MAX + FS_SMALL_EXTENT];
};

static void chain_add(struct chain *chain, const struct fs_extent *extent, uint64_t offset)
{
    uint8_t *to = chain->bytes + CHAIN_BYTES_MAX - (offset - extent->start);

    invariant(offset - extent->start <= CHAIN_BYTES_MAX && chain->count < CHAIN_MAX);
    if (extent->inlined) {
        memcpy(to, extent->data, extent->length);
    } else {
        struct blob_ref *ref = &chain->refs[chain->read_count];

        *ref = extent->ref;
        chain->reads[chain->read_count++] = (struct engine_blob_read){.ref = ref, .to = to};
    }
    chain->lasts[chain->count++] = fs_extent_end(extent) - 1;
    chain->start = extent->start;
}

/*
 * Look back from a write of `size` bytes at `offset`. Leaves the chain empty when nothing is to be
 * joined. It does not leave the cell of the grid.
 */
static int chain_collect(const struct fs_change *change, uint64_t offset, uint32_t size,
                         struct chain *chain)
{
    uint64_t cell = offset & ~(uint64_t)(BLOB_FRAME_SIZE_MAX - 1), total = size;
    bool ends_cell = offset + size == fs_grid_next(offset); /* nothing more will come to join */
    struct fs_extent extent;
    int result = 0;

    chain->start = offset;
    chain->count = chain->read_count = 0;
    while (chain->count < CHAIN_MAX && total < FS_SMALL_EXTENT && chain->start > cell) {
        result = fs_extent_get(change->edit.view, change->ino, chain->start - 1, &extent);
        if (result <= 0 || extent.length >= FS_SMALL_EXTENT || extent.start < cell)
            break;
        total += extent.length;
        chain_add(chain, &extent, offset);
        if (extent.inlined && total <= FS_INLINE_MAX && !ends_cell)
            break;
    }
    if (result < 0)
        return result;
    if (total > FS_INLINE_MAX && total < FS_SMALL_EXTENT && chain->count < CHAIN_MAX && !ends_cell)
        chain->count = 0;
    return 0;
}

/* Write the chain's bytes and `data` as one extent in the place of the chain. */
static int chain_store(struct fs_change *change, struct chain *chain, const uint8_t *data,
                       uint32_t size, uint64_t offset)
{
    uint32_t before = (uint32_t)(offset - chain->start);
    struct fs_key key;

    if (chain->read_count > 0) {
        int result = engine_blob_read(change->edit.view, chain->reads, chain->read_count);

        if (result < 0)
            return result;
    }
    for (unsigned i = 0; i < chain->count; i++) {
        fs_key_extent(&key, change->ino, chain->lasts[i]);
        batch_delete(change->edit.batch, fs_key_slice(&key));
    }
    change->edit.batch->freed_bytes += before;
    memcpy(chain->bytes + CHAIN_BYTES_MAX, data, size);
    return store(change, chain->bytes + CHAIN_BYTES_MAX - before, before + size, chain->start);
}

static int store_after(struct fs_change *change, const uint8_t *data, uint32_t size,
                       uint64_t offset)
{
    struct chain chain;
    int result = chain_collect(change, offset, size, &chain);

    if (result < 0)
        return result;
    if (chain.count == 0)
        return store(change, data, size, offset);
    return chain_store(change, &chain, data, size, offset);
}

/* ---- pieces ---- */

/* Bytes of an end that was left over which can be joined to a piece: all or none. */
static uint32_t joinable(bool present, const struct fs_extent *extent, uint32_t room)
{
    return present && extent->inlined && extent->length <= room ? extent->length : 0;
}

/* Put a small piece together with the inline ends of the extents that it overwrote partly, as far
 * as the sum stays inline; what was joined is no longer to be put. */
static int store_patched(struct fs_change *change, const uint8_t *data, uint32_t size,
                         uint64_t start, bool *has_head, const struct fs_extent *head,
                         bool *has_tail, const struct fs_extent *tail)
{
    uint8_t bytes[FS_INLINE_MAX];
    uint32_t room = size < FS_INLINE_MAX ? FS_INLINE_MAX - size : 0;
    uint32_t before = joinable(*has_head, head, room);
    uint32_t after = joinable(*has_tail, tail, room - before);

    if (before == 0 && after == 0)
        return *has_head ? store(change, data, size, start)
                         : store_after(change, data, size, start);
    memcpy(bytes + before, data, size);
    if (before > 0) {
        memcpy(bytes, head->data, before);
        *has_head = false;
    }
    if (after > 0) {
        memcpy(bytes + before + size, tail->data, after);
        *has_tail = false;
    }
    return store(change, bytes, before + size + after, start - before);
}

/* How many begin at `position` and end before `end`, as far as one call takes them. */
static size_t whole_cells(uint64_t position, uint64_t end)
{
    uint64_t count = (end - position) / BLOB_FRAME_SIZE_MAX;

    if (position % BLOB_FRAME_SIZE_MAX != 0)
        return 0;
    return count < BLOB_APPEND_FRAMES_MAX ? count : BLOB_APPEND_FRAMES_MAX;
}

static int store_pieces(struct fs_change *change, const uint8_t *data, uint64_t start, uint64_t end,
                        struct fs_extent_cut *cut)
{
    uint64_t position = start;
    bool none = false;
    int result = 0;

    while (position < end && result == 0) {
        uint64_t next = fs_grid_next(position);
        const uint8_t *piece = data + (position - start);
        size_t cells = whole_cells(position, end);
        uint32_t size;

        if (cells > 1)
            next = position + cells * BLOB_FRAME_SIZE_MAX;
        if (next > end)
            next = end;
        size = (uint32_t)(next - position);
        if (cells > 1)
            result = store_cells(change, piece, cells, position);
        else if (size < FS_SMALL_EXTENT)
            result = store_patched(change, piece, size, position,
                                   position == start ? &cut->has_head : &none, &cut->head,
                                   next == end ? &cut->has_tail : &none, &cut->tail);
        else
            result = store(change, piece, size, position);
        position = next;
    }
    return result;
}

static int write_range(struct fs_change *change, const uint8_t *data, uint64_t start, uint64_t end)
{
    struct fs_inode *inode = &change->inode;
    struct fs_extent_cut cut;
    int result = 0;

    cut.has_head = cut.has_tail = false;
    cut.removed_bytes = 0;
    if (start < inode->size_bytes)
        result = fs_extent_cut(change->edit.view, change->ino, start, end, true, change->edit.batch,
                               &cut);
    if (result == 0)
        result = store_pieces(change, data, start, end, &cut);
    if (result < 0)
        return result;
    if (cut.has_head)
        fs_extent_put(change->edit.batch, change->ino, &cut.head);
    if (cut.has_tail)
        fs_extent_put(change->edit.batch, change->ino, &cut.tail);
    inode->allocated_bytes += (end - start) - cut.removed_bytes;
    if (inode->size_bytes < end)
        inode->size_bytes = end;
    return 0;
}

int64_t fs_write(struct fs *fs, uint64_t node, const void *data, size_t size_bytes, uint64_t offset,
                 bool append, bool kill_privileges)
{
    struct fs_change change;
    int64_t result;

    if (size_bytes == 0)
        return 0;
    result = engine_space_check(fs->engine);
    if (result == 0)
        result = fs_change_begin(fs, node, &change);
    if (result < 0)
        return result;
    change.is_synced_often = fs_synced_note_write(&fs->synced, change.ino, size_bytes);
    if (append)
        offset = change.inode.size_bytes;
    if (size_bytes > FS_SIZE_MAX || offset > FS_SIZE_MAX - size_bytes)
        result = -EFBIG;
    else if ((change.inode.flags & FS_APPEND_FL) && offset < change.inode.size_bytes)
        result = -EPERM;
    else
        result = write_range(&change, data, offset, offset + size_bytes);
    if (result == 0)
        result = fs_change_commit(&change, kill_privileges);
    fs_change_end(&change);
    return result < 0 ? result : (int64_t)size_bytes;
}
