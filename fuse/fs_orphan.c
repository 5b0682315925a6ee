/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fs_orphan.c - inodes without a name: remembered, and removed when nobody holds them
 *
 * The orphan record is written in the batch that takes the last name away, so a crash between that
 * batch and the removal of the inode's keys leaves a record to go by at the next start.
 */
#include <errno.h>
#include <inttypes.h>

#include "engine/base/endian.h"
#include "fuse/fs_atime.h"

void fs_orphan_add(struct batch *batch, uint64_t ino)
{
    struct fs_key key;

    fs_key_orphan(&key, ino);
    batch_put(batch, fs_key_slice(&key), slice_of(NULL, 0));
}

void fs_orphan_remove(struct batch *batch, uint64_t ino)
{
    struct fs_key key;

    fs_key_orphan(&key, ino);
    batch_delete(batch, fs_key_slice(&key));
}

bool fs_orphan_mark(struct fs *fs, uint64_t ino, const struct fs_inode *inode)
{
    return inode->nlink == 0 && inode_table_mark_orphan(fs->table, ino);
}

/* 1 when the file has one extent, which is then deleted in the batch; 0 when it has others. */
static int delete_sole_extent(struct fs_edit *edit, uint64_t ino, const struct fs_inode *inode)
{
    struct fs_scratch *scratch = fs_scratch_get();
    uint64_t length;
    struct record record;
    struct fs_key key;
    int found;

    if (scratch == NULL)
        return -ENOMEM;
    fs_key_extent(&key, ino, inode->size_bytes - 1);
    found = engine_view_get(edit->view, fs_key_slice(&key), &scratch->record, &record);
    if (found <= 0)
        return found;
    if (record.kind == RECORD_REFERENCE) {
        struct blob_ref ref;

        if (blob_ref_decode(record.value, &ref) < 0)
            return 0;
        length = ref.length;
    } else {
        length = record.value.size;
    }
    /* Extents do not overlap: the one that holds all that is mapped is the only one. */
    if (length != inode->allocated_bytes)
        return 0;
    batch_delete(edit->batch, fs_key_slice(&key));
    return 1;
}

/*
 * Small inodes are deleted key by key: a range tombstone is the better tool for many keys, but a
 * tree removed file by file would leave one behind for each file, and every later read would pay
 * for them.
 */
static int delete_few_keys(struct fs_edit *edit, uint64_t ino, const struct fs_inode *inode)
{
    struct fs_key key;
    int found;

    if (inode->xattrs > 0)
        return 0;
    if (S_ISREG(inode->mode) && inode->allocated_bytes > 0) {
        found = inode->size_bytes > 0 ? delete_sole_extent(edit, ino, inode) : 0;
        if (found <= 0)
            return found;
    } else if (S_ISDIR(inode->mode) && inode->entries > 0) {
        return 0;
    } else if (S_ISLNK(inode->mode)) {
        fs_key_symlink(&key, ino);
        batch_delete(edit->batch, fs_key_slice(&key));
    }
    fs_key_inode(&key, ino);
    batch_delete(edit->batch, fs_key_slice(&key));
    return 1;
}

static int delete_keys(struct fs_edit *edit, uint64_t ino, const struct fs_inode *inode)
{
    int done = delete_few_keys(edit, ino, inode);
    struct fs_key start, end;

    edit->batch->freed_bytes += inode->allocated_bytes;
    if (done != 0)
        return done < 0 ? done : 0;
    fs_key_start(&start, ino);
    fs_key_start(&end, ino + 1);
    batch_delete_range(edit->batch, fs_key_slice(&start), fs_key_slice(&end));
    return 0;
}

int fs_orphan_reap(struct fs *fs, uint64_t ino)
{
    struct fs_atime_removal removal = {0};
    struct fs_inode inode;
    struct fs_edit edit;
    int error;

    if (fs->read_only)
        return -EROFS;
    error = fs_edit_begin(fs, &ino, 1, &edit);
    if (error < 0)
        return error;
    edit.sync = false; /* the start after a crash does it again */
    error = fs_inode_load(edit.view, ino, &inode, NULL);
    if (error == 0 && inode.nlink == 0)
        error = delete_keys(&edit, ino, &inode);
    else if (error == -ENOENT)
        error = 0;
    if (error == 0)
        error = fs_atime_begin_removal(&edit, ino, &removal);
    if (error == 0) {
        fs_orphan_remove(edit.batch, ino);
        error = fs_edit_commit(&edit);
        fs_atime_end_removal(fs, &removal, error == 0);
    }
    fs_edit_end(&edit);
    if (error == 0)
        __atomic_fetch_add(&fs->statistics.orphans_reaped, 1, __ATOMIC_RELAXED);
    else
        log_debug("inode %" PRIu64 " without a name stays until the next start: %s", ino,
                  error_text(error));
    return error;
}

static int reap_listed(struct fs *fs, struct engine_iterator *iterator, struct slice from)
{
    int found = engine_iterator_seek(iterator, from);

    while (found > 0) {
        const struct record *record = engine_iterator_record(iterator);
        struct slice rest;
        uint64_t zero;
        uint8_t type;
        int error;

        if (!fs_key_parse(record->key, &zero, &type, &rest) || rest.size != 8)
            return ERROR_CORRUPT;
        error = fs_orphan_reap(fs, get_be64(rest.data));
        if (error < 0)
            return error;
        found = engine_iterator_next(iterator);
    }
    return found;
}

int fs_orphan_reap_all(struct fs *fs)
{
    struct engine_view *view = engine_view_acquire(fs->engine);
    struct engine_iterator *iterator;
    struct fs_key from, end;
    int error;

    if (view == NULL)
        return -ENOMEM;
    fs_key_type_start(&from, 0, FS_KEY_ORPHAN);
    fs_key_type_start(&end, 0, FS_KEY_ORPHAN + 1);
    error = engine_iterator_new(view, fs_key_slice(&end), &iterator);
    if (error == 0) {
        error = reap_listed(fs, iterator, fs_key_slice(&from));
        engine_iterator_free(iterator);
    }
    engine_view_release(view);
    return error;
}
