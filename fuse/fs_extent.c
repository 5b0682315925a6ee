/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fs_extent.c - the map of a file: from offsets to extents
 *
 * An extent is keyed by its last byte, so the extent that holds an offset, or the first one after
 * it, is found by one seek. Extents never overlap: whoever puts one has cut its range out before,
 * in the same batch. Cutting makes narrower references; the data itself never moves.
 */
#include "fuse/fs_data.h"

#include <errno.h>

#include "engine/base/endian.h"
#include "engine/base/invariant.h"

/* Up to this many extents are deleted one by one; a range tombstone costs later reads more. */
#define POINT_DELETES_MAX 8

/* A file with more than this mapped has over POINT_DELETES_MAX extents for sure. */
#define POINT_DELETES_BYTES ((uint64_t)POINT_DELETES_MAX * BLOB_FRAME_SIZE_MAX)

/* ---- one extent ---- */

int fs_extent_decode(const struct record *record, struct fs_extent *ret_extent)
{
    struct slice rest;
    uint64_t ino, last;
    uint8_t type;
    uint32_t length;

    if (!fs_key_parse(record->key, &ino, &type, &rest) || type != FS_KEY_EXTENT || rest.size != 8)
        return ERROR_CORRUPT;
    last = get_be64(rest.data);
    if (record->kind == RECORD_VALUE) {
        if (record->value.size < 1 || record->value.size > FS_INLINE_MAX)
            return ERROR_CORRUPT;
        length = (uint32_t)record->value.size;
        if (last >= FS_SIZE_MAX || length > last + 1)
            return ERROR_CORRUPT;
        memcpy(ret_extent->data, record->value.data, length);
        ret_extent->inlined = true;
    } else {
        struct blob_ref ref;
        int result = blob_ref_decode(record->value, &ref);

        if (result < 0)
            return result;
        length = ref.length;
        if (last >= FS_SIZE_MAX || length > last + 1)
            return ERROR_CORRUPT;
        ret_extent->ref = ref;
        ret_extent->inlined = false;
    }
    ret_extent->start = last + 1 - length;
    ret_extent->length = length;
    return 0;
}

int fs_extent_get(struct engine_view *view, uint64_t ino, uint64_t last,
                  struct fs_extent *ret_extent)
{
    struct fs_scratch *scratch = fs_scratch_get();
    struct fs_key key;
    struct record record;
    int result;

    if (scratch == NULL)
        return -ENOMEM;
    fs_key_extent(&key, ino, last);
    result = engine_view_get(view, fs_key_slice(&key), &scratch->record, &record);
    if (result <= 0)
        return result;
    result = fs_extent_decode(&record, ret_extent);
    return result < 0 ? result : 1;
}

void fs_extent_put(struct batch *batch, uint64_t ino, const struct fs_extent *extent)
{
    struct fs_key key;

    invariant(extent->length >= 1);
    fs_key_extent(&key, ino, fs_extent_end(extent) - 1);
    if (extent->inlined) {
        batch_put(batch, fs_key_slice(&key), slice_of(extent->data, extent->length));
    } else {
        invariant(extent->ref.length == extent->length);
        batch_put_reference(batch, fs_key_slice(&key), &extent->ref);
    }
}

void fs_extent_slice(struct fs_extent *extent, uint32_t offset, uint32_t length)
{
    invariant(length >= 1 && (uint64_t)offset + length <= extent->length);
    if (extent->inlined)
        memmove(extent->data, extent->data + offset, length);
    else
        blob_ref_slice(&extent->ref, offset, length);
    extent->start += offset;
    extent->length = length;
}

/* ---- walking ---- */

int fs_extent_cursor_open(struct engine_view *view, uint64_t ino, uint64_t offset,
                          struct fs_extent_cursor *ret_cursor)
{
    struct fs_key bound;
    struct engine_iterator *iterator;
    int result;

    fs_key_type_start(&bound, ino, FS_KEY_EXTENT + 1);
    result = engine_iterator_new(view, fs_key_slice(&bound), &iterator);
    if (result < 0)
        return result;
    *ret_cursor = (struct fs_extent_cursor){.iterator = iterator, .ino = ino, .offset = offset};
    return 0;
}

int fs_extent_cursor_next(struct fs_extent_cursor *cursor, struct fs_extent *ret_extent)
{
    int result;

    if (cursor->started) {
        result = engine_iterator_next(cursor->iterator);
    } else {
        struct fs_key key;

        fs_key_extent(&key, cursor->ino, cursor->offset);
        result = engine_iterator_seek(cursor->iterator, fs_key_slice(&key));
        cursor->started = true;
    }
    if (result <= 0)
        return result;
    result = fs_extent_decode(engine_iterator_record(cursor->iterator), ret_extent);
    return result < 0 ? result : 1;
}

void fs_extent_cursor_close(struct fs_extent_cursor *cursor)
{
    engine_iterator_free(cursor->iterator);
    cursor->iterator = NULL;
}

/* ---- cutting ---- */

/* The keys to delete, remembered until it is known whether a range tombstone is the better way. */
struct deletions {
    uint64_t lasts[POINT_DELETES_MAX];
    unsigned count; /* POINT_DELETES_MAX + 1: too many */
};

static void deletions_add(struct deletions *deletions, uint64_t last)
{
    if (deletions->count < POINT_DELETES_MAX)
        deletions->lasts[deletions->count] = last;
    if (deletions->count <= POINT_DELETES_MAX)
        deletions->count++;
}

/* Every key in [start, end) goes: none of an extent that stays can lie there. */
static void delete_range(struct batch *batch, uint64_t ino, uint64_t start, uint64_t end)
{
    struct fs_key from, to;

    fs_key_extent(&from, ino, start);
    fs_key_extent(&to, ino, end);
    batch_delete_range(batch, fs_key_slice(&from), fs_key_slice(&to));
}

static void deletions_put(const struct deletions *deletions, struct batch *batch, uint64_t ino,
                          uint64_t start, uint64_t end)
{
    struct fs_key key;

    if (deletions->count > POINT_DELETES_MAX) {
        delete_range(batch, ino, start, end);
        return;
    }
    for (unsigned i = 0; i < deletions->count; i++) {
        fs_key_extent(&key, ino, deletions->lasts[i]);
        batch_delete(batch, fs_key_slice(&key));
    }
}

static void cut_extent(struct fs_extent *extent, uint64_t start, uint64_t end,
                       struct fs_extent_cut *cut)
{
    uint64_t extent_end = fs_extent_end(extent);
    uint64_t from = extent->start > start ? extent->start : start;
    uint64_t to = extent_end < end ? extent_end : end;

    cut->removed_bytes += to - from;
    if (extent->start < start) {
        cut->has_head = true;
        cut->head = *extent;
        fs_extent_slice(&cut->head, 0, (uint32_t)(start - extent->start));
    }
    if (extent_end > end) {
        cut->has_tail = true;
        cut->tail = *extent;
        fs_extent_slice(&cut->tail, (uint32_t)(end - extent->start), (uint32_t)(extent_end - end));
    }
}

static bool is_replaced(uint64_t last, uint64_t end)
{
    return last + 1 == end || (last + 1) % BLOB_FRAME_SIZE_MAX == 0;
}

int fs_extent_cut(struct engine_view *view, uint64_t ino, uint64_t start, uint64_t end,
                  bool replaced, struct batch *batch, struct fs_extent_cut *ret_cut)
{
    struct fs_extent_cursor cursor;
    struct fs_extent extent;
    struct deletions deletions = {.count = 0};
    int result;

    ret_cut->has_head = ret_cut->has_tail = false;
    ret_cut->removed_bytes = 0;
    if (start >= end)
        return 0;
    result = fs_extent_cursor_open(view, ino, start, &cursor);
    if (result < 0)
        return result;
    while ((result = fs_extent_cursor_next(&cursor, &extent)) > 0 && extent.start < end) {
        uint64_t last = fs_extent_end(&extent) - 1;

        if (last < end && !(replaced && is_replaced(last, end)))
            deletions_add(&deletions, last);
        cut_extent(&extent, start, end, ret_cut);
        if (last + 1 >= end)
            break;
    }
    fs_extent_cursor_close(&cursor);
    if (result < 0)
        return result;
    deletions_put(&deletions, batch, ino, start, end);
    batch->freed_bytes += ret_cut->removed_bytes;
    return 0;
}

int fs_extent_punch(struct engine_view *view, uint64_t ino, uint64_t start, uint64_t end,
                    struct batch *batch, uint64_t *ret_removed)
{
    struct fs_extent_cut cut;
    int result = fs_extent_cut(view, ino, start, end, false, batch, &cut);

    if (result < 0)
        return result;
    if (cut.has_head)
        fs_extent_put(batch, ino, &cut.head);
    if (cut.has_tail)
        fs_extent_put(batch, ino, &cut.tail);
    *ret_removed = cut.removed_bytes;
    return 0;
}

/* Truncating a large file to nothing needs no walk: its inode knows what is mapped. */
static int truncate_to_nothing(struct engine_view *view, uint64_t ino, struct batch *batch,
                               uint64_t *ret_removed)
{
    struct fs_inode inode;
    uint64_t version;
    int result = fs_inode_load(view, ino, &inode, &version);

    if (result < 0 || inode.allocated_bytes <= POINT_DELETES_BYTES)
        return result < 0 ? result : 0;
    delete_range(batch, ino, 0, FS_SIZE_MAX);
    *ret_removed = inode.allocated_bytes;
    batch->freed_bytes += inode.allocated_bytes;
    return 1;
}

int fs_extent_truncate(struct engine_view *view, uint64_t ino, uint64_t size, struct batch *batch,
                       uint64_t *ret_removed)
{
    if (size == 0) {
        int result = truncate_to_nothing(view, ino, batch, ret_removed);

        if (result != 0)
            return result < 0 ? result : 0;
    }
    return fs_extent_punch(view, ino, size, FS_SIZE_MAX, batch, ret_removed);
}
