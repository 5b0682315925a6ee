/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine_usage.c - what checkpoint directories take, and what deleting them would free
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "engine/base/blocking.h"
#include "engine/engine_internal.h"

#define BLOCK_BYTES 512 /* what stat(2) counts in */

struct usage_file {
    uint64_t inode, links, bytes, disk_bytes;
};

struct usage_walk {
    struct io *io;
    struct io_file *directory;
    struct usage_file *files;
    size_t count, capacity;
    uint64_t directory_disk_bytes;
};

static int walk_grow(struct usage_walk *walk)
{
    size_t capacity = walk->capacity > 0 ? walk->capacity * 2 : 256;
    struct usage_file *files = reallocarray(walk->files, capacity, sizeof *files);

    if (files == NULL)
        return -ENOMEM;
    walk->files = files;
    walk->capacity = capacity;
    return 0;
}

static int walk_add(void *context, const char *name)
{
    struct usage_walk *walk = context;
    struct stat status;
    int result = io_stat_at(walk->io, walk->directory, name, &status);

    if (result < 0)
        return result;
    if (!S_ISREG(status.st_mode))
        return 0;
    if (walk->count == walk->capacity) {
        result = walk_grow(walk);
        if (result < 0)
            return result;
    }
    walk->files[walk->count++] = (struct usage_file){
        .inode = status.st_ino,
        .links = status.st_nlink,
        .bytes = (uint64_t)status.st_size,
        .disk_bytes = (uint64_t)status.st_blocks * BLOCK_BYTES,
    };
    return 0;
}

/* The files directly in one directory. */
static int walk_directory(struct usage_walk *walk, struct io_file *directory)
{
    struct stat status;
    int result = io_stat(walk->io, directory, &status);

    if (result < 0)
        return result;
    walk->directory_disk_bytes += (uint64_t)status.st_blocks * BLOCK_BYTES;
    walk->directory = directory;
    return io_list(walk->io, directory, walk_add, walk);
}

static int walk_checkpoint(struct usage_walk *walk, struct io_file *checkpoints, const char *name)
{
    struct io_file *directory, *chunks;
    int result = io_open(walk->io, checkpoints, name, IO_OPEN_DIRECTORY, 0, &directory);

    if (result < 0)
        return result;
    result = walk_directory(walk, directory);
    if (result == 0)
        result = io_open(walk->io, directory, "chunks", IO_OPEN_DIRECTORY, 0, &chunks);
    if (result == 0) {
        result = walk_directory(walk, chunks);
        io_close(walk->io, chunks);
    }
    io_close(walk->io, directory);
    return result;
}

static int compare_files(const void *a, const void *b)
{
    uint64_t left = ((const struct usage_file *)a)->inode;
    uint64_t right = ((const struct usage_file *)b)->inode;

    return left < right ? -1 : left > right;
}

static struct engine_usage walk_sum(struct usage_walk *walk)
{
    struct engine_usage usage = {.unique_disk_bytes = walk->directory_disk_bytes};
    size_t next;

    if (walk->count > 0)
        qsort(walk->files, walk->count, sizeof walk->files[0], compare_files);
    for (size_t i = 0; i < walk->count; i = next) {
        const struct usage_file *file = &walk->files[i];

        for (next = i + 1; next < walk->count && walk->files[next].inode == file->inode;)
            next++;
        usage.files++;
        usage.bytes += file->bytes;
        if (file->links > next - i)
            continue;
        usage.unique_files++;
        usage.unique_bytes += file->bytes;
        usage.unique_disk_bytes += file->disk_bytes;
    }
    return usage;
}

static int checkpoint_directory_name(struct engine *engine, uint64_t id, char to[256])
{
    const struct checkpoint *checkpoint;
    int result = 0;

    lock_acquire(&engine->checkpoint_lock);
    checkpoint = engine_checkpoint_find_locked(engine, id);
    if (checkpoint == NULL) {
        result = -ENOENT;
    } else if (checkpoint->state != CHECKPOINT_READY) {
        result = checkpoint->error < 0 ? checkpoint->error : -EAGAIN;
    } else {
        memcpy(to, checkpoint->record.name.data, checkpoint->record.name.size);
        to[checkpoint->record.name.size] = '\0';
    }
    lock_release(&engine->checkpoint_lock);
    return result;
}

static bool is_repeated(const uint64_t *ids, size_t index)
{
    for (size_t i = 0; i < index; i++)
        if (ids[i] == ids[index])
            return true;
    return false;
}

int engine_checkpoint_usage(struct engine *engine, const uint64_t *ids, size_t count,
                            struct engine_usage *ret_usage)
{
    struct usage_walk walk = {.io = engine->io};
    char name[256];
    int result = 0;

    blocking_enter();
    for (size_t i = 0; result == 0 && i < count; i++) {
        if (is_repeated(ids, i))
            continue;
        result = checkpoint_directory_name(engine, ids[i], name);
        if (result == 0)
            result = walk_checkpoint(&walk, engine->store->checkpoints, name);
    }
    if (result == 0)
        *ret_usage = walk_sum(&walk);
    free(walk.files);
    return result;
}
