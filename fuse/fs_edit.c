/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fs_edit.c - the frame of every change of names and attributes: lock, look, one batch
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "engine/base/invariant.h"
#include "fuse/fs_names.h"

/* ---- the thread's memory ---- */

static _Thread_local struct fs_scratch *scratch_of_thread;
static pthread_key_t scratch_key;
static pthread_once_t scratch_once = PTHREAD_ONCE_INIT;

static void scratch_free(void *pointer)
{
    struct fs_scratch *scratch = pointer;

    buffer_free(&scratch->record);
    buffer_free(&scratch->value);
    batch_free(&scratch->batch);
    free(scratch);
    scratch_of_thread = NULL;
}

/* The main thread's goes here: destructors of keys run only for threads that end before the
 * process. */
static void scratch_free_at_exit(void)
{
    if (scratch_of_thread != NULL) {
        (void)pthread_setspecific(scratch_key, NULL);
        scratch_free(scratch_of_thread);
    }
}

static void scratch_make_key(void)
{
    invariant(pthread_key_create(&scratch_key, scratch_free) == 0);
    (void)atexit(scratch_free_at_exit);
}

struct fs_scratch *fs_scratch_get(void)
{
    struct fs_scratch *scratch = scratch_of_thread;

    if (scratch != NULL)
        return scratch;
    invariant(pthread_once(&scratch_once, scratch_make_key) == 0);
    scratch = calloc(1, sizeof *scratch);
    if (scratch == NULL)
        return NULL;
    if (pthread_setspecific(scratch_key, scratch) != 0) {
        free(scratch);
        return NULL;
    }
    scratch_of_thread = scratch;
    return scratch;
}

/* ---- begin, commit, end ---- */

static int borrow_batch(struct fs_edit *edit)
{
    struct fs_scratch *scratch = fs_scratch_get();

    if (scratch == NULL)
        return -ENOMEM;
    invariant(!scratch->editing);
    batch_clear(&scratch->batch);
    scratch->editing = true;
    edit->batch = &scratch->batch;
    return 0;
}

static void return_batch(struct fs_edit *edit)
{
    struct fs_scratch *scratch = fs_scratch_get();

    invariant(scratch != NULL && scratch->editing && edit->batch == &scratch->batch);
    scratch->editing = false;
    edit->batch = NULL;
}

int fs_edit_begin(struct fs *fs, const uint64_t *inos, unsigned count, struct fs_edit *edit)
{
    int error;

    *edit = (struct fs_edit){.fs = fs};
    error = borrow_batch(edit);
    if (error < 0)
        return error;
    fs_lock(fs, inos, count, &edit->locked);
    edit->view = engine_view_acquire(fs->engine);
    if (edit->view == NULL) {
        fs_unlock(fs, &edit->locked);
        return_batch(edit);
        return -ENOMEM;
    }
    edit->now = fs_now();
    edit->sync = (atomic_load_explicit(&fs->sync_options, memory_order_relaxed) & FS_SYNC_ALL) != 0;
    return 0;
}

void fs_edit_end(struct fs_edit *edit)
{
    engine_view_release(edit->view);
    fs_unlock(edit->fs, &edit->locked);
    return_batch(edit);
}

int fs_edit_commit(struct fs_edit *edit)
{
    uint64_t first;
    int error = engine_write(edit->fs->engine, edit->batch, &first);

    if (error == 0 && edit->sync)
        error = engine_sync(edit->fs->engine, first + edit->batch->count - 1);
    return error;
}

void fs_edit_heed_flags(struct fs_edit *edit, const struct fs_inode *inode)
{
    uint32_t flags = FS_SYNC_FL | (S_ISDIR(inode->mode) ? FS_DIRSYNC_FL : 0);

    if ((inode->flags & flags) != 0)
        edit->sync = true;
}

/* Has nothing been written since? Then what was read before the locks is still so. */
static bool view_is_present(const struct engine_view *before, const struct fs_edit *edit)
{
    return engine_view_sequence(before) == engine_view_sequence(edit->view);
}

/* 0 when the name still is what it was when it was read without a lock; -EAGAIN when not. */
static int confirm_child(struct engine_view *before, struct fs_edit *edit, uint64_t parent,
                         const char *name, struct fs_dentry *dentry)
{
    uint64_t ino = dentry->ino;
    int error;

    if (view_is_present(before, edit))
        return 0;
    error = fs_dentry_load(edit->view, parent, name, dentry);
    if (error < 0)
        return error;
    return dentry->ino == ino ? 0 : -EAGAIN;
}

int fs_edit_begin_child(struct fs *fs, uint64_t parent, const char *name, struct fs_edit *edit,
                        struct fs_dentry *ret_dentry)
{
    int error;

    do {
        struct engine_view *before = engine_view_acquire(fs->engine);
        struct fs_dentry dentry;

        if (before == NULL)
            return -ENOMEM;
        error = fs_dentry_load(before, parent, name, &dentry);
        if (error == 0) {
            uint64_t inos[] = {parent, dentry.ino};

            error = fs_edit_begin(fs, inos, 2, edit);
        }
        if (error == 0) {
            error = confirm_child(before, edit, parent, name, &dentry);
            if (error < 0)
                fs_edit_end(edit);
        }
        engine_view_release(before);
        if (error == 0)
            *ret_dentry = dentry;
    } while (error == -EAGAIN);
    return error;
}

/* ---- looking ---- */

int fs_dentry_load(struct engine_view *view, uint64_t directory, const char *name,
                   struct fs_dentry *ret_dentry)
{
    struct fs_scratch *scratch = fs_scratch_get();
    struct fs_key key;
    int found;

    if (scratch == NULL)
        return -ENOMEM;
    fs_key_dentry(&key, directory, name);
    found = engine_view_get(view, fs_key_slice(&key), &scratch->record, NULL);
    if (found <= 0)
        return found == 0 ? -ENOENT : found;
    found = fs_dentry_decode(buffer_slice(&scratch->record), ret_dentry);
    if (found < 0)
        log_error("directory %" PRIu64 ": the record of a name is damaged", directory);
    return found;
}

int fs_edit_load_directory(struct fs_edit *edit, uint64_t ino, bool removing,
                           struct fs_inode *ret_inode)
{
    uint32_t forbidding = FS_IMMUTABLE_FL | (removing ? FS_APPEND_FL : 0);
    struct fs_inode inode;
    int error = fs_inode_load(edit->view, ino, &inode, NULL);

    if (error < 0)
        return error == -ENOENT ? -ESTALE : error;
    if (!S_ISDIR(inode.mode))
        return -ENOTDIR;
    if (inode.nlink == 0)
        return -ENOENT;
    if ((inode.flags & forbidding) != 0)
        return -EPERM;
    if ((atomic_load_explicit(&edit->fs->sync_options, memory_order_relaxed) &
         FS_SYNC_DIRECTORIES) != 0)
        edit->sync = true;
    fs_edit_heed_flags(edit, &inode);
    *ret_inode = inode;
    return 0;
}

int fs_edit_load_child(struct fs_edit *edit, uint64_t parent, const char *name,
                       const struct fs_dentry *dentry, struct fs_inode *ret_inode)
{
    int error = fs_inode_load(edit->view, dentry->ino, ret_inode, NULL);

    if (error != -ENOENT)
        return error;
    log_error("directory %" PRIu64 ": \"%s\" names inode %" PRIu64 ", which does not exist", parent,
              name, dentry->ino);
    return ERROR_CORRUPT;
}

/* ---- names ---- */

void fs_edit_put_name(struct fs_edit *edit, uint64_t directory, const char *name,
                      const struct fs_dentry *dentry)
{
    struct fs_cookie cookie = {
        .ino = dentry->ino,
        .type = dentry->type,
        .name = slice_of_string(name),
    };
    uint8_t value[FS_COOKIE_SIZE_MAX];
    struct fs_key key;
    size_t size;

    fs_key_dentry(&key, directory, name);
    fs_dentry_encode(dentry, value);
    batch_put(edit->batch, fs_key_slice(&key), slice_of(value, FS_DENTRY_SIZE));
    fs_key_cookie(&key, directory, dentry->cookie);
    size = fs_cookie_encode(&cookie, value);
    batch_put(edit->batch, fs_key_slice(&key), slice_of(value, size));
}

void fs_edit_delete_name(struct fs_edit *edit, uint64_t directory, const char *name,
                         uint64_t cookie)
{
    struct fs_key key;

    fs_key_dentry(&key, directory, name);
    batch_delete(edit->batch, fs_key_slice(&key));
    fs_key_cookie(&key, directory, cookie);
    batch_delete(edit->batch, fs_key_slice(&key));
}

void fs_edit_add_entry(struct fs_edit *edit, uint64_t directory, struct fs_inode *inode,
                       const char *name, uint64_t child, uint32_t type)
{
    struct fs_dentry dentry = {.ino = child, .cookie = inode->next_cookie, .type = type};

    fs_edit_put_name(edit, directory, name, &dentry);
    inode->next_cookie++;
    inode->entries++;
    if (S_ISDIR(type))
        inode->nlink++;
    inode->mtime = inode->ctime = edit->now;
}

void fs_edit_remove_entry(struct fs_edit *edit, uint64_t directory, struct fs_inode *inode,
                          const char *name, const struct fs_dentry *dentry)
{
    fs_edit_delete_name(edit, directory, name, dentry->cookie);
    if (inode->entries > 0)
        inode->entries--;
    if (S_ISDIR(dentry->type) && inode->nlink > 2)
        inode->nlink--;
    inode->mtime = inode->ctime = edit->now;
}

void fs_edit_drop_link(struct fs_edit *edit, uint64_t ino, struct fs_inode *inode)
{
    /* A directory has one name; the links of "." and of its children's ".." go with it. */
    inode->nlink = S_ISDIR(inode->mode) || inode->nlink == 0 ? 0 : inode->nlink - 1;
    inode->ctime = edit->now;
    fs_inode_put(edit->batch, ino, inode);
    if (inode->nlink == 0)
        fs_orphan_add(edit->batch, ino);
}
