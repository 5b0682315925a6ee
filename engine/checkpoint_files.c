/* SPDX-License-Identifier: Apache-2.0 */
/*
 * checkpoint_files.c - the directory of a checkpoint: made, recognised, taken away
 *
 * Made in tmp/, complete and synced, then renamed into checkpoints/: under its name it is whole or
 * not there. Sync order: linked and copied files with their link counts (syncfs: without a journal
 * a directory sync leaves stale link counts on disk, and deleting the source names would free the
 * blocks; chunks/ goes with them), the sealed manifest, CURRENT, the directory, then both parents.
 *
 * A directory that moves is lost rather than doubled: the parent that it leaves is synced before
 * the one that it enters. A lost one is made again (PENDING) or was on its way out (DELETING); of a
 * doubled one, emptying tmp/ would empty both. Others sync tmp/ at any time, which suits what
 * leaves it; what leaves checkpoints/ therefore goes to tmp/deleted/.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "engine/engine_internal.h"

#define COPY_BUFFER_BYTES (1024 * 1024)
#define RELINKED_NAME     "relinked"

static void working_name(char to[64], uint64_t id)
{
    snprintf(to, 64, "checkpoint-%016llx", (unsigned long long)id);
}

/* In tmp/deleted/. */
static void deleted_name(char to[64], uint64_t id)
{
    snprintf(to, 64, "%016llx", (unsigned long long)id);
}

/* ---- linking and copying ---- */

static int copy_bytes(struct io *io, struct io_file *from, struct io_file *to)
{
    uint8_t *data = malloc(COPY_BUFFER_BYTES);
    uint64_t offset = 0;
    int result = data != NULL ? 0 : -ENOMEM;

    while (result == 0) {
        int64_t count = io_read(io, from, data, COPY_BUFFER_BYTES, offset);

        if (count <= 0) {
            result = (int)count;
            break;
        }
        result = io_write(io, to, data, (size_t)count, offset);
        offset += (uint64_t)count;
    }
    free(data);
    return result;
}

static int copy_file(struct io *io, struct io_file *from_directory, struct io_file *to_directory,
                     const char *name)
{
    struct io_file *from = NULL, *to = NULL;
    int result = io_open(io, from_directory, name, IO_OPEN_READ, 0, &from);

    if (result == 0)
        result = io_open(io, to_directory, name, IO_OPEN_WRITE | IO_OPEN_CREATE, 0600, &to);
    if (result == 0 && io_clone(io, from, to) < 0)
        result = copy_bytes(io, from, to);
    if (result == 0)
        result = io_chmod(io, to, 0444);
    if (result < 0 && to != NULL)
        (void)io_unlink(io, to_directory, name); /* no partial file stays (R49) */
    io_close(io, to);
    io_close(io, from);
    return result;
}

int checkpoint_files_link(struct io *io, struct io_file *from_directory,
                          struct io_file *to_directory, const char *name)
{
    int result = io_link(io, from_directory, name, to_directory, name);

    if (result != -EMLINK && result != -EXDEV)
        return result;
    result = copy_file(io, from_directory, to_directory, name);
    return result < 0 ? result : 1;
}

/* tmp/<RELINKED_NAME>/chunks, where the sweep counts names. */
static int open_relinked(struct store *store, struct io_file **ret_chunks)
{
    struct io *io = store->io;
    struct io_file *directory;
    int result = io_mkdir(io, store->tmp, RELINKED_NAME, 0700);

    if (result == 0 || result == -EEXIST)
        result = io_open(io, store->tmp, RELINKED_NAME, IO_OPEN_DIRECTORY, 0, &directory);
    if (result < 0)
        return result;
    result = io_mkdir(io, directory, "chunks", 0700);
    if (result == 0 || result == -EEXIST)
        result = io_open(io, directory, "chunks", IO_OPEN_DIRECTORY, 0, ret_chunks);
    io_close(io, directory);
    return result;
}

int checkpoint_files_relink(struct store *store, struct io_file *from_directory,
                            struct io_file *to_directory, const char *name)
{
    struct io *io = store->io;
    struct io_file *chunks;
    int removed, result = open_relinked(store, &chunks);

    if (result < 0)
        return result;
    result = checkpoint_files_link(io, from_directory, chunks, name);
    if (result >= 0)
        result = io_sync_filesystem(io, chunks);
    if (result == 0)
        result = io_rename(io, chunks, name, to_directory, name);
    io_close(io, chunks);
    removed = store_remove_tree(io, store->tmp, RELINKED_NAME);
    return result < 0 ? result : removed;
}

static int link_chunk(struct store *store, struct io_file *chunks,
                      const struct chunk_identity *identity, struct checkpoint_numbers *numbers)
{
    char name[CHUNK_NAME_SIZE];
    int result;

    chunk_name(name, identity);
    result = checkpoint_files_link(store->io, store->chunks, chunks, name);
    if (result < 0) {
        log_error("checkpoint: chunk %s could not be linked: %s", name, error_text(result));
        return result;
    }
    if (result == 0) {
        numbers->linked_files++;
        numbers->linked_bytes += identity->file_size_bytes;
    } else {
        numbers->copied_files++;
        numbers->copied_bytes += identity->file_size_bytes;
    }
    return 0;
}

static int fill_chunks(struct store *store, const struct sealed_manifest *plan,
                       struct io_file *directory, struct checkpoint_numbers *numbers)
{
    struct io_file *chunks = NULL;
    int result = io_mkdir(store->io, directory, "chunks", 0755);

    if (result == 0)
        result = io_open(store->io, directory, "chunks", IO_OPEN_DIRECTORY, 0, &chunks);
    for (size_t i = 0; result == 0 && i < plan->table_count; i++)
        result = link_chunk(store, chunks, &plan->tables[i].meta.identity, numbers);
    for (size_t i = 0; result == 0 && i < plan->blob_count; i++)
        result = link_chunk(store, chunks, &plan->blobs[i], numbers);
    if (result == 0)
        result = io_sync_filesystem(store->io, chunks);
    io_close(store->io, chunks);
    return result;
}

static int write_format(struct store *store, struct io_file *directory)
{
    uint8_t bytes[STORE_FORMAT_SIZE];
    struct io_file *file = NULL;
    int result =
        io_open(store->io, directory, "FORMAT", IO_OPEN_WRITE | IO_OPEN_CREATE, 0444, &file);

    store_format_encode(&store->format, bytes);
    if (result == 0)
        result = io_write(store->io, file, bytes, sizeof bytes, 0);
    if (result == 0)
        result = io_sync(store->io, file, false);
    io_close(store->io, file);
    return result;
}

static int make_working_directory(struct store *store, const struct sealed_manifest *plan,
                                  const char *working, struct checkpoint_numbers *numbers)
{
    struct io_file *directory = NULL;
    int result = io_mkdir(store->io, store->tmp, working, 0755);

    if (result == 0)
        result = io_open(store->io, store->tmp, working, IO_OPEN_DIRECTORY, 0, &directory);
    if (result == 0)
        result = fill_chunks(store, plan, directory, numbers);
    if (result == 0)
        result = write_format(store, directory);
    if (result == 0) /* syncs the directory when CURRENT has its name in it, the last one */
        result = sealed_manifest_write(store->io, directory, plan, &numbers->manifest_hash);
    io_close(store->io, directory);
    return result;
}

/* ---- recognising ---- */

/* 1 and the hash of its sealed manifest, 0, or an error. */
static int match(struct store *store, const char *name, uint64_t id, struct checksum128 *ret_hash)
{
    struct sealed_manifest manifest = {0};
    struct checksum128 hash;
    struct io_file *directory = NULL;
    int result = io_open(store->io, store->checkpoints, name, IO_OPEN_DIRECTORY, 0, &directory);

    if (result == -ENOENT || result == -ENOTDIR || result == -ELOOP)
        return 0;
    if (result < 0)
        return result;
    result = sealed_manifest_read(store->io, directory, &manifest, &hash);
    io_close(store->io, directory);
    if (result == 0)
        result = manifest.checkpoint_id == id &&
                 memcmp(manifest.store_uuid, store->format.uuid, STORE_UUID_SIZE) == 0;
    else if (error_errno(result) == -EIO || result == ERROR_NOT_STORE)
        result = 0; /* damaged or incomplete: not this one */
    if (result > 0)
        *ret_hash = hash;
    sealed_manifest_free(&manifest);
    return result;
}

int checkpoint_files_match(struct store *store, const char *name, uint64_t id)
{
    struct checksum128 hash;

    return match(store, name, id, &hash);
}

struct find_context {
    struct store *store;
    uint64_t id;
    char *name;
};

static int find_visit(void *context, const char *name)
{
    struct find_context *find = context;

    if (checkpoint_files_match(find->store, name, find->id) != 1)
        return 0;
    snprintf(find->name, 256, "%s", name);
    return 1;
}

int checkpoint_files_find(struct store *store, uint64_t id, char ret_name[256])
{
    struct find_context find = {store, id, ret_name};

    return io_list(store->io, store->checkpoints, find_visit, &find);
}

/* ---- taking away ---- */

/* tmp/deleted/, which nobody else syncs: see the top. */
static int open_deleted(struct store *store, struct io_file **ret_directory)
{
    int result = io_mkdir(store->io, store->tmp, STORE_DELETED_NAME, 0700);

    if (result < 0 && result != -EEXIST)
        return result;
    return io_open(store->io, store->tmp, STORE_DELETED_NAME, IO_OPEN_DIRECTORY, 0, ret_directory);
}

static int take_away(struct store *store, const char *name, uint64_t id)
{
    struct io_file *deleted;
    char away[64];
    int result = open_deleted(store, &deleted);

    if (result < 0)
        return result;
    deleted_name(away, id);
    result = store_remove_tree(store->io, deleted, away);
    if (result == 0)
        result = io_rename(store->io, store->checkpoints, name, deleted, away);
    io_close(store->io, deleted);
    return result;
}

int checkpoint_files_detach(struct store *store, const char *name, uint64_t id)
{
    int result = checkpoint_files_match(store, name, id);

    return result > 0 ? take_away(store, name, id) : result;
}

int checkpoint_files_sync_deleted(struct store *store)
{
    struct io_file *deleted;
    int result = open_deleted(store, &deleted);

    if (result < 0)
        return result;
    result = io_sync(store->io, store->checkpoints, false);
    if (result == 0)
        result = io_sync(store->io, deleted, false);
    io_close(store->io, deleted);
    return result == 0 ? io_sync(store->io, store->tmp, false) : result;
}

int checkpoint_files_remove_deleted(struct store *store, uint64_t id)
{
    struct io_file *deleted;
    char away[64];
    int result = open_deleted(store, &deleted);

    if (result < 0)
        return result;
    deleted_name(away, id);
    result = store_remove_tree(store->io, deleted, away);
    io_close(store->io, deleted);
    if (result == 0) /* when it was the last */
        (void)io_rmdir(store->io, store->tmp, STORE_DELETED_NAME);
    return result;
}

/* What CURRENT under that name says: 1 and the id of a checkpoint; 0 where it is none; or an error.
 * What cannot be read is not known to be none: nobody may clear it away. */
static int read_id(struct store *store, const char *name, uint64_t *ret_id)
{
    struct io_file *directory = NULL;
    int result = io_open(store->io, store->checkpoints, name, IO_OPEN_DIRECTORY, 0, &directory);

    if (result == -ENOENT || result == -ENOTDIR || result == -ELOOP)
        return 0;
    if (result == 0)
        result = sealed_manifest_read_id(store->io, directory, ret_id);
    io_close(store->io, directory);
    if ((error_errno(result) == -EIO && result != -EIO) || result == ERROR_NOT_STORE)
        return 0;
    return result < 0 ? result : 1;
}

int checkpoint_files_vacate(struct store *store, const char *name)
{
    uint64_t id;
    int result = read_id(store, name, &id);

    return result > 0 ? take_away(store, name, id) : result;
}

/* ---- making ---- */

/* What stands under a checkpoint's name and is not it: what is about to be cleared away, which
 * somebody may still read, or what was left by a deletion whose end the disk lost. */
static int move_away(struct store *store, const char *name, uint64_t id)
{
    struct stat status;
    int result = checkpoint_files_vacate(store, name);

    if (result == 0)
        result = io_stat_at(store->io, store->checkpoints, name, &status);
    if (result == -ENOENT)
        return 0;
    if (result == 0)
        result = take_away(store, name, id);
    if (result == 0)
        result = checkpoint_files_sync_deleted(store);
    if (result == 0)
        result = checkpoint_files_remove_deleted(store, id);
    if (result == 0)
        log_warning("%s/checkpoints/%s was no complete checkpoint and was removed", store->path,
                    name);
    return result;
}

static void count_all_as_linked(const struct sealed_manifest *plan,
                                struct checkpoint_numbers *numbers)
{
    numbers->linked_files = plan->table_count + plan->blob_count;
    for (size_t i = 0; i < plan->table_count; i++)
        numbers->linked_bytes += plan->tables[i].meta.identity.file_size_bytes;
    for (size_t i = 0; i < plan->blob_count; i++)
        numbers->linked_bytes += plan->blobs[i].file_size_bytes;
}

int checkpoint_files_prepare(struct store *store, const struct sealed_manifest *plan,
                             const char *name, struct checkpoint_numbers *ret_numbers)
{
    struct checkpoint_numbers numbers = {0};
    char working[64];
    int result = match(store, name, plan->checkpoint_id, &numbers.manifest_hash);

    working_name(working, plan->checkpoint_id);
    if (result == 0) {
        result = store_remove_tree(store->io, store->tmp, working);
        if (result == 0)
            result = make_working_directory(store, plan, working, &numbers);
        if (result < 0)
            (void)store_remove_tree(store->io, store->tmp, working);
    } else if (result > 0) {
        /* A crash came between the rename and the manifest's word. */
        count_all_as_linked(plan, &numbers);
    }
    if (result >= 0)
        *ret_numbers = numbers;
    return result;
}

void checkpoint_files_abandon(struct store *store, uint64_t id)
{
    char working[64];

    working_name(working, id);
    (void)store_remove_tree(store->io, store->tmp, working); /* or the next open sweeps it */
}

int checkpoint_files_publish(struct store *store, const struct sealed_manifest *plan,
                             const char *name, bool is_there)
{
    char working[64];
    int result = 0;

    working_name(working, plan->checkpoint_id);
    if (!is_there) {
        result = move_away(store, name, plan->checkpoint_id);
        if (result == 0)
            result = io_rename(store->io, store->tmp, working, store->checkpoints, name);
        if (result < 0)
            (void)store_remove_tree(store->io, store->tmp, working);
    }
    if (result == 0)
        result = io_sync(store->io, store->tmp, false);
    return result == 0 ? io_sync(store->io, store->checkpoints, false) : result;
}

/* ---- after a crash ---- */

int checkpoint_files_settle(struct store *store, const char *name, uint64_t id)
{
    char found[256];
    uint64_t is_called;
    int result = read_id(store, name, &is_called);

    if (result < 0 || (result > 0 && is_called == id))
        return result < 0 ? result : 0;
    result = checkpoint_files_find(store, id, found);
    if (result == 0)
        return -ENOENT;
    if (result > 0 && strcmp(found, name) == 0)
        return 0; /* it is readable again */
    if (result > 0)
        result = move_away(store, name, id);
    if (result == 0)
        result = io_rename(store->io, store->checkpoints, found, store->checkpoints, name);
    return result == 0 ? io_sync(store->io, store->checkpoints, false) : result;
}
