/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ll_usage.c - what checkpoint directories take, and what deleting them would free
 *
 * A chunk is one file with a link from each checkpoint that has it and one from the live tree. It
 * belongs to a set of checkpoints alone when the set holds all of its links.
 */
#include "fuse/ll.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

struct usage_file {
    uint64_t inode, links, bytes;
};

struct usage_walk {
    struct io *io;
    struct io_file *directory;
    struct usage_file *files;
    size_t count, capacity;
};

static int ll_usage_grow(struct usage_walk *walk)
{
    size_t capacity = walk->capacity > 0 ? walk->capacity * 2 : 256;
    struct usage_file *files = reallocarray(walk->files, capacity, sizeof *files);

    if (files == NULL)
        return -ENOMEM;
    walk->files = files;
    walk->capacity = capacity;
    return 0;
}

static int ll_usage_add(void *context, const char *name)
{
    struct usage_walk *walk = context;
    struct stat status;
    int error = io_stat_at(walk->io, walk->directory, name, &status);

    if (error == -ENOENT)
        return 0; /* a deletion runs at the same time */
    if (error < 0)
        return error;
    if (!S_ISREG(status.st_mode))
        return 0;
    if (walk->count == walk->capacity) {
        error = ll_usage_grow(walk);
        if (error < 0)
            return error;
    }
    walk->files[walk->count++] = (struct usage_file){
        .inode = status.st_ino,
        .links = status.st_nlink,
        .bytes = (uint64_t)status.st_size,
    };
    return 0;
}

/* The files directly in one directory of the store; `name` may contain '/'. */
static int ll_usage_walk(struct usage_walk *walk, struct io_file *root, const char *name)
{
    int error =
        io_open(walk->io, root, name, IO_OPEN_READ | IO_OPEN_DIRECTORY, 0, &walk->directory);

    if (error < 0)
        return error;
    error = io_list(walk->io, walk->directory, ll_usage_add, walk);
    io_close(walk->io, walk->directory);
    return error;
}

static int ll_usage_walk_checkpoint(struct usage_walk *walk, struct io_file *root, const char *name)
{
    char path[sizeof "checkpoints//chunks" + SNAPSHOT_NAME_SIZE_MAX];
    int error;

    if (strlen(name) > SNAPSHOT_NAME_SIZE_MAX)
        return -ENAMETOOLONG;
    (void)snprintf(path, sizeof path, "checkpoints/%s", name);
    error = ll_usage_walk(walk, root, path);
    if (error < 0)
        return error;
    (void)snprintf(path, sizeof path, "checkpoints/%s/chunks", name);
    return ll_usage_walk(walk, root, path);
}

static int ll_usage_compare(const void *a, const void *b)
{
    uint64_t left = ((const struct usage_file *)a)->inode;
    uint64_t right = ((const struct usage_file *)b)->inode;

    return left < right ? -1 : left > right;
}

static void ll_usage_count(struct usage_walk *walk, struct ll_usage *ret_usage)
{
    struct ll_usage usage = {0};
    size_t next;

    if (walk->count > 0)
        qsort(walk->files, walk->count, sizeof walk->files[0], ll_usage_compare);
    for (size_t i = 0; i < walk->count; i = next) {
        const struct usage_file *file = &walk->files[i];

        for (next = i + 1; next < walk->count && walk->files[next].inode == file->inode;)
            next++;
        usage.files++;
        usage.bytes += file->bytes;
        if (file->links <= next - i)
            usage.unique_bytes += file->bytes;
    }
    *ret_usage = usage;
}

int ll_checkpoint_usage(struct io *io, const char *store, const char *const *names, size_t count,
                        struct ll_usage *ret_usage)
{
    struct usage_walk walk = {.io = io};
    struct io_file *root;
    int error = io_open_root(io, store, &root);

    if (error < 0)
        return error;
    for (size_t i = 0; error == 0 && i < count; i++)
        error = ll_usage_walk_checkpoint(&walk, root, names[i]);
    if (error == 0)
        ll_usage_count(&walk, ret_usage);
    free(walk.files);
    io_close(io, root);
    return error;
}
