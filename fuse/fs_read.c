/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fs_read.c - reading file data, and finding data and holes
 *
 * A reader takes no lock: size and map come from one view, so a read sees the file before or after
 * any write or truncation, never in between. All frames of a read go to the engine together.
 */
#include "fuse/fs_atime.h"
#include "fuse/fs_data.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

/* References gathered on the stack; a read of a shattered file moves to the heap. */
#define GATHER_STACK 24
#define GATHER_HEAP  1024

/* ---- where ---- */

int fs_source_get(struct fs *fs, uint64_t node, uint64_t handle, struct fs_source *ret_source)
{
    const struct fs_location *pinned = fs_handle_location(handle);

    if (pinned != NULL) {
        ret_source->location = *pinned;
        ret_source->borrowed = true;
        return 0;
    }
    ret_source->borrowed = false;
    return fs_location_get(fs, node, &ret_source->location);
}

void fs_source_put(struct fs *fs, struct fs_source *source)
{
    if (!source->borrowed)
        fs_location_put(fs, &source->location);
}

int fs_source_load(const struct fs_source *source, struct fs_inode *ret_inode)
{
    uint64_t version;
    int result;

    if (source->location.virtual_directory)
        return -EISDIR;
    result = fs_inode_load(source->location.view, source->location.ino, ret_inode, &version);
    if (result < 0)
        return result == -ENOENT ? -ESTALE : result;
    if (S_ISDIR(ret_inode->mode))
        return -EISDIR;
    return S_ISREG(ret_inode->mode) ? 0 : -EINVAL;
}

/* ---- gathering ---- */

struct gather {
    struct engine_view *view;
    struct engine_blob_read *reads;
    struct blob_ref *refs;
    size_t count, room;
    void *heap; /* NULL while on the stack */
    struct engine_blob_read stack_reads[GATHER_STACK];
    struct blob_ref stack_refs[GATHER_STACK];
};

static void gather_start(struct gather *gather, struct engine_view *view)
{
    gather->view = view;
    gather->reads = gather->stack_reads;
    gather->refs = gather->stack_refs;
    gather->count = 0;
    gather->room = GATHER_STACK;
    gather->heap = NULL;
}

static int gather_flush(struct gather *gather)
{
    int result = 0;

    if (gather->count > 0)
        result = engine_blob_read(gather->view, gather->reads, gather->count);
    gather->count = 0;
    return result;
}

/* Move to the heap, once; where memory is short the stack's room has to do. */
static int gather_make_room(struct gather *gather)
{
    struct engine_blob_read *reads;
    struct blob_ref *refs;

    if (gather->heap != NULL)
        return gather_flush(gather);
    gather->heap = malloc(GATHER_HEAP * (sizeof *refs + sizeof *reads));
    if (gather->heap == NULL)
        return gather_flush(gather);
    refs = gather->heap;
    reads = (struct engine_blob_read *)(refs + GATHER_HEAP);
    for (size_t i = 0; i < gather->count; i++) {
        refs[i] = gather->refs[i];
        reads[i] = (struct engine_blob_read){.ref = &refs[i], .to = gather->reads[i].to};
    }
    gather->refs = refs;
    gather->reads = reads;
    gather->room = GATHER_HEAP;
    return 0;
}

static int gather_add(struct gather *gather, const struct blob_ref *ref, uint32_t skip,
                      uint32_t length, uint8_t *to)
{
    struct blob_ref *own;

    if (gather->count == gather->room) {
        int result = gather_make_room(gather);

        if (result < 0)
            return result;
    }
    own = &gather->refs[gather->count];
    *own = *ref;
    if (skip > 0 || length < ref->length)
        blob_ref_slice(own, skip, length);
    gather->reads[gather->count++] = (struct engine_blob_read){.ref = own, .to = to};
    return 0;
}

/* ---- reading ---- */

/* Copy, or plan to read, what `extent` holds of [start, end); `data` is for the byte at start. */
static int read_extent(struct gather *gather, const struct fs_extent *extent, uint64_t start,
                       uint64_t end, uint8_t *data)
{
    uint64_t extent_end = fs_extent_end(extent);
    uint64_t from = extent->start > start ? extent->start : start;
    uint64_t to = extent_end < end ? extent_end : end;
    uint32_t skip = (uint32_t)(from - extent->start), length = (uint32_t)(to - from);

    if (extent->inlined) {
        memcpy(data + (from - start), extent->data + skip, length);
        return 0;
    }
    return gather_add(gather, &extent->ref, skip, length, data + (from - start));
}

static int read_walk(struct gather *gather, uint64_t ino, uint64_t start, uint64_t end,
                     uint8_t *data)
{
    struct fs_extent_cursor cursor;
    struct fs_extent extent;
    uint64_t position = start;
    int result = fs_extent_cursor_open(gather->view, ino, start, &cursor);

    if (result < 0)
        return result;
    while (position < end && (result = fs_extent_cursor_next(&cursor, &extent)) > 0 &&
           extent.start < end) {
        if (extent.start > position)
            memset(data + (position - start), 0, extent.start - position);
        result = read_extent(gather, &extent, start, end, data);
        if (result < 0)
            break;
        position = fs_extent_end(&extent);
    }
    fs_extent_cursor_close(&cursor);
    if (result >= 0 && position < end)
        memset(data + (position - start), 0, end - position);
    return result < 0 ? result : 0;
}

/* A range in one cell of the grid is mostly one extent that ends with the cell or with the file,
 * and a look-up of that key costs less than a walk. 1: found; 0: walk; negative: error. */
static int find_in_cell(struct engine_view *view, uint64_t ino, const struct fs_inode *inode,
                        uint64_t start, uint64_t end, struct fs_extent *ret_extent)
{
    uint64_t cell_end = fs_grid_next(start);
    int result;

    if (cell_end > inode->size_bytes)
        cell_end = inode->size_bytes;
    if (end > cell_end)
        return 0;
    result = fs_extent_get(view, ino, cell_end - 1, ret_extent);
    return result > 0 ? ret_extent->start <= start : result;
}

static int read_range(struct engine_view *view, uint64_t ino, const struct fs_inode *inode,
                      uint64_t start, uint64_t end, uint8_t *data)
{
    struct gather gather;
    struct fs_extent extent;
    int result;

    if (inode->allocated_bytes == 0) {
        memset(data, 0, end - start);
        return 0;
    }
    result = find_in_cell(view, ino, inode, start, end, &extent);
    if (result < 0)
        return result;
    gather_start(&gather, view);
    if (result > 0)
        result = read_extent(&gather, &extent, start, end, data);
    else
        result = read_walk(&gather, ino, start, end, data);
    if (result == 0)
        result = gather_flush(&gather);
    free(gather.heap);
    return result;
}

static int load_source(struct fs *fs, uint64_t node, uint64_t handle, struct fs_source *ret_source,
                       struct fs_inode *ret_inode)
{
    int result = fs_source_get(fs, node, handle, ret_source);

    if (result < 0)
        return result;
    result = fs_source_load(ret_source, ret_inode);
    if (result < 0)
        fs_source_put(fs, ret_source);
    return result;
}

static int64_t read_source(const struct fs_source *source, const struct fs_inode *inode, void *data,
                           size_t size_bytes, uint64_t offset)
{
    uint64_t left, length;
    int64_t result;

    if (offset >= inode->size_bytes || size_bytes == 0)
        return 0;
    left = inode->size_bytes - offset;
    length = size_bytes < left ? size_bytes : left;
    result = read_range(source->location.view, source->location.ino, inode, offset,
                        offset + length, data);
    return result < 0 ? result : (int64_t)length;
}

int64_t fs_read(struct fs *fs, uint64_t node, uint64_t handle, void *data, size_t size_bytes,
                uint64_t offset)
{
    struct fs_source source;
    struct fs_inode inode;
    int64_t result = load_source(fs, node, handle, &source, &inode);

    if (result < 0)
        return result;
    result = read_source(&source, &inode, data, size_bytes, offset);
    if (result >= 0 && source.location.snapshot == NULL && (handle & FS_HANDLE_NO_ATIME) == 0)
        (void)fs_atime_touch(fs, source.location.ino, &inode);
    fs_source_put(fs, &source);
    return result;
}

int64_t fs_read_whole(struct fs *fs, uint64_t node, uint64_t handle, void *data, size_t room_bytes)
{
    struct fs_source source;
    struct fs_inode inode;
    int64_t result = load_source(fs, node, handle, &source, &inode);

    if (result < 0)
        return result;
    if (inode.size_bytes <= room_bytes)
        result = read_source(&source, &inode, data, room_bytes, 0);
    fs_source_put(fs, &source);
    return result;
}

/* ---- data and holes ---- */

/*
 * The map is exact to the byte, but what is told of it is whole blocks of the size that stat(2)
 * shows, as elsewhere: programs take the ends of data for multiples of it. The cursor stands at the
 * block that holds `offset`.
 */
static uint64_t block_start(uint64_t offset)
{
    return offset & ~(uint64_t)(FS_BLOCK_SIZE - 1);
}

static int64_t seek_data(struct fs_extent_cursor *cursor, uint64_t offset)
{
    struct fs_extent extent;
    int result = fs_extent_cursor_next(cursor, &extent);
    uint64_t start;

    if (result <= 0)
        return result < 0 ? result : -ENXIO;
    start = block_start(extent.start);
    return (int64_t)(start > offset ? start : offset);
}

static int64_t seek_hole(struct fs_extent_cursor *cursor, uint64_t offset, uint64_t size)
{
    struct fs_extent extent;
    int result;

    while ((result = fs_extent_cursor_next(cursor, &extent)) > 0 &&
           block_start(extent.start) <= offset) {
        uint64_t end = block_start(fs_extent_end(&extent) + FS_BLOCK_SIZE - 1);

        if (end > offset)
            offset = end;
    }
    if (result < 0)
        return result;
    return (int64_t)(offset < size ? offset : size);
}

static int64_t seek_in(const struct fs_location *location, const struct fs_inode *inode,
                       uint64_t offset, int whence)
{
    struct fs_extent_cursor cursor;
    int64_t result;

    if (offset >= inode->size_bytes)
        return -ENXIO;
    if (inode->allocated_bytes == inode->size_bytes)
        return (int64_t)(whence == SEEK_DATA ? offset : inode->size_bytes);
    result = fs_extent_cursor_open(location->view, location->ino, block_start(offset), &cursor);
    if (result < 0)
        return result;
    if (whence == SEEK_DATA)
        result = seek_data(&cursor, offset);
    else
        result = seek_hole(&cursor, offset, inode->size_bytes);
    fs_extent_cursor_close(&cursor);
    return result;
}

int64_t fs_seek(struct fs *fs, uint64_t node, uint64_t handle, uint64_t offset, int whence)
{
    struct fs_source source;
    struct fs_inode inode;
    int64_t result;

    if (whence != SEEK_DATA && whence != SEEK_HOLE)
        return -EINVAL;
    result = fs_source_get(fs, node, handle, &source);
    if (result < 0)
        return result;
    result = fs_source_load(&source, &inode);
    if (result == 0)
        result = seek_in(&source.location, &inode, offset, whence);
    fs_source_put(fs, &source);
    return result;
}
