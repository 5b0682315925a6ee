/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store_sweep.c - removing names of chunks after a crash, on a disk whose link counts may be wrong
 *
 * A file system without a journal writes names and link counts when it likes. After a cut a chunk
 * that was being linked into a checkpoint may have the new name on the disk and still the old
 * count: one less than there are names. Removing a name then brings the count to zero while another
 * name is in use, and the chunk is destroyed (measured on ext4). No call can raise the count
 * without adding a name, so a name too many must stay as long as other names are in use: it is
 * moved to tmp/, as stale-<n>-<chunk name>, where nothing refers to it. A later open, when fsck has
 * mended the count or nobody uses the chunk any more, removes it.
 *
 * A chunk has one name in all directories. Counts are known to be right once its file system was
 * synced, which is before anybody hears of a checkpoint: only what a crash interrupted is looked
 * at.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/error.h"
#include "engine/base/log.h"
#include "engine/base/name_list.h"
#include "engine/chunk_format.h"
#include "engine/store.h"

#define STALE_PREFIX   "stale-"
#define STALE_MAX      10000 /* of one chunk */
#define TREE_DEPTH_MAX 32

/* A chunk's names, counted in one directory after the other. */
struct name_count {
    struct store *store;
    char name[CHUNK_NAME_SIZE];
    ino_t inode;
    uint64_t in_use; /* in chunks/ and in checkpoints */
    uint64_t in_tmp; /* at the top of tmp/, kept by an earlier sweep */
    uint64_t below;  /* in directories of tmp/ */
};

/* "stale-<n>-<chunk name>": the chunk's name, or NULL. */
static const char *stale_chunk_name(const char *name)
{
    const char *rest;

    if (strncmp(name, STALE_PREFIX, strlen(STALE_PREFIX)) != 0)
        return NULL;
    rest = strchr(name + strlen(STALE_PREFIX), '-');
    return rest != NULL ? rest + 1 : NULL;
}

static bool is_sealed_chunk_name(const char *name)
{
    struct chunk_identity identity;
    bool sealed;

    return chunk_name_parse(name, &identity, &sealed) && sealed;
}

/* ---- names that lead nowhere ---- */

/* The disk has the name and no file for it: a count that was too low has reached zero. Where there is
 * no journal only e2fsck removes such a name (ext4 says EUCLEAN of it). */
static bool leads_nowhere(int error)
{
    return error == -ESTALE || error == -EUCLEAN;
}

/* ---- counting ---- */

/* Is `path` below `directory` one more name of the file? 1, 0, or an error. */
static int is_same_file(struct store *store, struct io_file *directory, const char *path,
                        ino_t inode)
{
    struct io_file *file;
    struct stat status;
    int result = io_open(store->io, directory, path, IO_OPEN_READ, 0, &file);

    if (result == -ENOENT || result == -ENOTDIR || result == -EISDIR || leads_nowhere(result))
        return 0;
    if (result < 0)
        return result;
    result = io_stat(store->io, file, &status);
    io_close(store->io, file);
    return result < 0 ? result : status.st_ino == inode;
}

static int count_at(struct name_count *count, struct io_file *directory, const char *path,
                    uint64_t *ret_sum)
{
    int result = is_same_file(count->store, directory, path, count->inode);

    if (result > 0)
        (*ret_sum)++;
    return result < 0 ? result : 0;
}

static int count_checkpoint(void *context, const char *checkpoint)
{
    struct name_count *count = context;
    char path[NAME_MAX + CHUNK_NAME_SIZE + 16];

    snprintf(path, sizeof path, "%s/chunks/%s", checkpoint, count->name);
    return count_at(count, count->store->checkpoints, path, &count->in_use);
}

static int count_deleted(void *context, const char *name)
{
    struct name_count *count = context;
    char path[2 * NAME_MAX + CHUNK_NAME_SIZE];

    snprintf(path, sizeof path, STORE_DELETED_NAME "/%s/chunks/%s", name, count->name);
    return count_at(count, count->store->tmp, path, &count->below);
}

static int count_in_deleted(struct name_count *count)
{
    struct io *io = count->store->io;
    struct io_file *directory;
    int result =
        io_open(io, count->store->tmp, STORE_DELETED_NAME, IO_OPEN_DIRECTORY, 0, &directory);

    if (result == -ENOTDIR || result == -ENOENT)
        return 0; /* a cut without a journal has left it: it was removed, and its inode is a file */
    if (result < 0)
        return result;
    result = io_list(io, directory, count_deleted, count);
    io_close(io, directory);
    return result;
}

static int count_tmp(void *context, const char *name)
{
    struct name_count *count = context;
    const char *chunk = stale_chunk_name(name);
    char path[NAME_MAX + CHUNK_NAME_SIZE + 16];

    if (chunk != NULL)
        return strcmp(chunk, count->name) == 0
                   ? count_at(count, count->store->tmp, name, &count->in_tmp)
                   : 0;
    if (strcmp(name, STORE_DELETED_NAME) == 0)
        return count_in_deleted(count);
    snprintf(path, sizeof path, "%s/chunks/%s", name, count->name);
    return count_at(count, count->store->tmp, path, &count->below);
}

static int count_names(struct store *store, const char *name, ino_t inode,
                       struct name_count *ret_count)
{
    int result;

    *ret_count = (struct name_count){.store = store, .inode = inode};
    snprintf(ret_count->name, sizeof ret_count->name, "%s", name);
    result = count_at(ret_count, store->chunks, name, &ret_count->in_use);
    if (result == 0)
        result = io_list(store->io, store->checkpoints, count_checkpoint, ret_count);
    if (result == 0)
        result = io_list(store->io, store->tmp, count_tmp, ret_count);
    return result;
}

/* ---- removing one name ---- */

static int keep_stale(struct store *store, struct io_file *directory, const char *name,
                      const char *chunk)
{
    char kept[NAME_MAX + 1];
    struct stat status;
    int result = 0;

    for (unsigned i = 0; i < STALE_MAX && result == 0; i++) {
        snprintf(kept, sizeof kept, STALE_PREFIX "%u-%s", i, chunk);
        result = io_stat_at(store->io, store->tmp, kept, &status);
    }
    if (result != -ENOENT)
        return result < 0 ? result : -EEXIST;
    log_warning("%s: the disk has lost a link count of chunk %s; a name of it stays in tmp/",
                store->path, chunk);
    return io_rename(store->io, directory, name, store->tmp, kept);
}

/* Remove `name` in a directory of tmp/, a name of the chunk `chunk`, if that leaves the others
 * whole. */
static int remove_chunk_name(struct store *store, struct io_file *directory, const char *name,
                             const char *chunk)
{
    struct name_count count;
    struct stat status;
    int result = io_stat_at(store->io, directory, name, &status);

    if (result == 0)
        result = count_names(store, chunk, status.st_ino, &count);
    if (result < 0)
        return result;
    if (count.in_use + count.in_tmp + count.below > status.st_nlink)
        return keep_stale(store, directory, name, chunk);
    return io_unlink(store->io, directory, name);
}

/* A name that was kept. When nobody needs the content any more, all of these go, and the last may
 * turn out to lead nowhere, which a file system need not let one remove: that does no harm here. */
static int remove_stale_name(struct store *store, const char *name, const char *chunk)
{
    struct name_count count;
    struct stat status;

    if (io_stat_at(store->io, store->tmp, name, &status) == 0) {
        int result = count_names(store, chunk, status.st_ino, &count);

        if (result < 0)
            return result;
        if (count.in_use + count.below > 0 &&
            count.in_use + count.in_tmp + count.below > status.st_nlink)
            return 0;
    }
    (void)io_unlink(store->io, store->tmp, name);
    return 0;
}

int store_remove_chunk(struct store *store, const char *name)
{
    struct name_count count;
    struct stat status;
    int result = io_stat_at(store->io, store->chunks, name, &status);

    if (result < 0)
        return result;
    if (S_ISDIR(status.st_mode)) /* the name of a file that was removed, before a cut as well */
        return store_remove_tree(store->io, store->chunks, name);
    if (!is_sealed_chunk_name(name))
        return io_unlink(store->io, store->chunks, name);
    result = count_names(store, name, status.st_ino, &count);
    if (result < 0)
        return result;
    /* This name is one of those in use, the only one when there is no checkpoint's. Those of deleted
     * checkpoints are still to be removed: a name that leads nowhere could not be. */
    if (count.in_use + count.below > 1 &&
        count.in_use + count.in_tmp + count.below > status.st_nlink)
        return keep_stale(store, store->chunks, name, name);
    return io_unlink(store->io, store->chunks, name);
}

/* ---- tmp/ ---- */

struct sweep {
    struct store *store;
    struct io_file *directory;
    unsigned depth;
    bool has_rest; /* names that lead nowhere, and directories that have such */
};

static int sweep_content(struct sweep *sweep);

static int sweep_directory(struct sweep *sweep, const char *name)
{
    struct sweep below = {.store = sweep->store, .depth = sweep->depth + 1};
    struct io *io = sweep->store->io;
    int result;

    if (below.depth > TREE_DEPTH_MAX)
        return -ELOOP;
    result = io_open(io, sweep->directory, name, IO_OPEN_DIRECTORY, 0, &below.directory);
    if (result < 0)
        return result;
    result = sweep_content(&below);
    io_close(io, below.directory);
    sweep->has_rest |= below.has_rest;
    return result == 0 && !below.has_rest ? io_rmdir(io, sweep->directory, name) : result;
}

static int sweep_name(struct sweep *sweep, const char *name)
{
    const char *chunk = sweep->depth == 0 ? stale_chunk_name(name) : NULL;
    struct stat status;
    int result;

    if (chunk != NULL && is_sealed_chunk_name(chunk))
        return remove_stale_name(sweep->store, name, chunk);
    result = io_stat_at(sweep->store->io, sweep->directory, name, &status);
    if (result < 0)
        return result;
    if (S_ISDIR(status.st_mode))
        return sweep_directory(sweep, name);
    if (sweep->depth > 0 && is_sealed_chunk_name(name))
        return remove_chunk_name(sweep->store, sweep->directory, name, name);
    return io_unlink(sweep->store->io, sweep->directory, name);
}

/* Nobody needs what is in tmp/: a name that cannot be followed can stay. */
static int pass_over(struct sweep *sweep, const char *name, int error)
{
    log_warning("%s: %s, in tmp/, leads nowhere and stays until the disk is checked: %s",
                sweep->store->path, name, error_text(error));
    sweep->has_rest = true;
    return 0;
}

/* The names are read first: removing while reading may skip some. */
static int sweep_content(struct sweep *sweep)
{
    struct name_list list = {0};
    int result = io_list(sweep->store->io, sweep->directory, name_list_add, &list);

    for (size_t i = 0; result == 0 && i < list.count; i++) {
        result = sweep_name(sweep, list.names[i]);
        if (result == -ENOENT)
            result = 0;
        if (leads_nowhere(result))
            result = pass_over(sweep, list.names[i], result);
    }
    name_list_free(&list);
    return result;
}

static int note_name(void *context, const char *name)
{
    bool *has_leftovers = context;

    /* Kept from an earlier time: nothing that a crash may have left half done. */
    if (stale_chunk_name(name) == NULL)
        *has_leftovers = true;
    return 0;
}

int store_sweep(struct store *store)
{
    struct sweep sweep = {.store = store, .directory = store->tmp};
    bool has_leftovers = false;
    int result = io_list(store->io, store->tmp, note_name, &has_leftovers);

    /* When only the process died, directories may be here whose move is not on the disk yet: a cut
     * would bring the old name back, its content gone. */
    if (result == 0 && has_leftovers)
        result = io_sync_filesystem(store->io, store->tmp);
    return result == 0 ? sweep_content(&sweep) : result;
}
