/* SPDX-License-Identifier: Apache-2.0 */
/*
 * blob_files.c - a bounded set of open files, found by chunk id
 *
 * Opening happens without the lock. Two threads may open one chunk at once; the slower one closes
 * what it opened.
 */
#include "engine/blob_files.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "engine/base/error.h"
#include "engine/base/invariant.h"
#include "engine/base/log.h"

#define BUCKETS_MIN 64
#define BUCKETS_MAX 65536

/* ---- opening ---- */

static int check_file(struct io *io, struct io_file *file, const struct chunk_identity *identity)
{
    uint8_t header[CHUNK_HEADER_SIZE];
    struct stat status;
    int error = io_stat(io, file, &status);

    if (error < 0)
        return error;
    if ((uint64_t)status.st_size != identity->file_size_bytes)
        return (uint64_t)status.st_size < identity->file_size_bytes ? ERROR_TRUNCATED
                                                                    : ERROR_CORRUPT;
    error = io_read_exact(io, file, header, sizeof header, 0);
    /* Of any store: a clone's chunks are links to those of its parent. */
    return error < 0 ? error : chunk_header_check(header, CHUNK_BLOB, NULL, identity->id);
}

int blob_files_open(struct io *io, struct io_file *directory, const struct chunk_identity *identity,
                    struct io_file **ret_file)
{
    char name[CHUNK_NAME_SIZE];
    struct io_file *file = NULL;
    int error;

    chunk_name(name, identity);
    error = io_open(io, directory, name, IO_OPEN_READ, 0, &file);
    if (error == -ENOENT)
        error = ERROR_MISSING_CHUNK;
    else if (error == 0)
        error = check_file(io, file, identity);
    if (error < 0) {
        if (error != -EMFILE && error != -ENFILE)
            log_error("blob chunk %s: open: %s", name, error_text(error));
        io_close(io, file);
        return error;
    }
    *ret_file = file;
    return 0;
}

static int open_direct(struct blob_files *files, const struct chunk_identity *identity,
                       struct io_file **ret_file)
{
    char name[CHUNK_NAME_SIZE];
    int error;

    chunk_name(name, identity);
    error = io_open(files->io, files->directory, name, IO_OPEN_READ | IO_OPEN_DIRECT, 0, ret_file);
    return error == -ENOENT ? ERROR_MISSING_CHUNK : error;
}

/* Closes both descriptors and frees. No lock held. */
static void file_free(struct blob_files *files, struct blob_file *file)
{
    if (file == NULL)
        return;
    io_close(files->io, file->file);
    io_close(files->io, atomic_load_explicit(&file->direct, memory_order_relaxed));
    read_around_free(&file->around);
    free(file);
}

/* ---- the set; lock held ---- */

static struct blob_file **bucket_of(struct blob_files *files, uint64_t id)
{
    return &files->buckets[(id * UINT64_C(0x9e3779b97f4a7c15) >> 32) & (files->bucket_count - 1)];
}

static struct blob_file **find_locked(struct blob_files *files, uint64_t id)
{
    struct blob_file **link = bucket_of(files, id);

    while (*link != NULL && (*link)->identity.id != id)
        link = &(*link)->next_in_bucket;
    return link;
}

static void idle_remove_locked(struct blob_files *files, struct blob_file *file)
{
    *(file->newer != NULL ? &file->newer->older : &files->newest) = file->older;
    *(file->older != NULL ? &file->older->newer : &files->oldest) = file->newer;
    file->newer = NULL;
    file->older = NULL;
}

static void idle_add_locked(struct blob_files *files, struct blob_file *file)
{
    file->older = files->newest;
    if (files->newest != NULL)
        files->newest->newer = file;
    else
        files->oldest = file;
    files->newest = file;
}

static void use_locked(struct blob_files *files, struct blob_file *file)
{
    if (file->users++ == 0)
        idle_remove_locked(files, file);
}

static uint32_t descriptors_of(struct blob_file *file)
{
    return 1 + (atomic_load_explicit(&file->direct, memory_order_relaxed) != NULL);
}

/* Take the file out of the set; nobody finds it any more. */
static void unlist_locked(struct blob_files *files, struct blob_file *file)
{
    struct blob_file **link = find_locked(files, file->identity.id);

    invariant(*link == file);
    *link = file->next_in_bucket;
    file->next_in_bucket = NULL;
}

/* The oldest idle file, taken out for the caller to free, or NULL. */
static struct blob_file *evict_locked(struct blob_files *files)
{
    struct blob_file *file = files->oldest;

    if (file == NULL)
        return NULL;
    idle_remove_locked(files, file);
    unlist_locked(files, file);
    files->descriptors -= descriptors_of(file);
    return file;
}

/* Close idle files while there are too many, or one in any case. No lock held. */
static bool close_idle(struct blob_files *files, bool at_least_one)
{
    bool has_closed = false;

    for (;;) {
        struct blob_file *victim = NULL;

        lock_acquire(&files->lock);
        if (files->descriptors > files->descriptors_max || (at_least_one && !has_closed))
            victim = evict_locked(files);
        lock_release(&files->lock);
        if (victim == NULL)
            return has_closed;
        file_free(files, victim);
        has_closed = true;
    }
}

/* ---- acquiring ---- */

static bool is_out_of_descriptors(int error)
{
    return error == -EMFILE || error == -ENFILE;
}

/* Open a chunk that is not in the set and put it there, in use. */
static int add_file(struct blob_files *files, uint64_t id, struct blob_file **ret_file)
{
    struct blob_file *file = calloc(1, sizeof *file), *other;
    int error;

    if (file == NULL)
        return -ENOMEM;
    error = files->resolve(files->context, id, &file->identity);
    if (error == 0) {
        do
            error = blob_files_open(files->io, files->directory, &file->identity, &file->file);
        while (is_out_of_descriptors(error) && close_idle(files, true));
    }
    if (error < 0) {
        free(file);
        return error;
    }
    lock_acquire(&files->lock);
    other = *find_locked(files, id);
    if (other != NULL) {
        use_locked(files, other);
    } else {
        struct blob_file **bucket = bucket_of(files, id);

        file->users = 1;
        file->next_in_bucket = *bucket;
        *bucket = file;
        files->descriptors++;
    }
    lock_release(&files->lock);
    if (other != NULL)
        file_free(files, file);
    *ret_file = other != NULL ? other : file;
    return 0;
}

static int add_direct(struct blob_files *files, struct blob_file *file)
{
    struct io_file *direct, *other;
    int error;

    if (atomic_load_explicit(&file->direct, memory_order_acquire) != NULL)
        return 0;
    do
        error = open_direct(files, &file->identity, &direct);
    while (is_out_of_descriptors(error) && close_idle(files, true));
    if (error < 0)
        return error;
    lock_acquire(&files->lock);
    other = atomic_load_explicit(&file->direct, memory_order_relaxed);
    if (other == NULL) {
        atomic_store_explicit(&file->direct, direct, memory_order_release);
        files->descriptors++;
    }
    lock_release(&files->lock);
    if (other != NULL)
        io_close(files->io, direct);
    return 0;
}

int blob_files_acquire(struct blob_files *files, uint64_t id, bool direct,
                       struct blob_file **ret_file)
{
    struct blob_file *file;
    int error = 0;

    lock_acquire(&files->lock);
    file = *find_locked(files, id);
    if (file != NULL)
        use_locked(files, file);
    lock_release(&files->lock);
    if (file == NULL)
        error = add_file(files, id, &file);
    if (error < 0)
        return error;
    if (direct)
        error = add_direct(files, file);
    if (error < 0) {
        blob_files_release(files, file);
        return error;
    }
    *ret_file = file;
    return 0;
}

void blob_files_release(struct blob_files *files, struct blob_file *file)
{
    bool has_too_many, is_last_of_dropped = false;

    lock_acquire(&files->lock);
    invariant(file->users > 0);
    if (--file->users == 0) {
        is_last_of_dropped = file->is_dropped;
        if (is_last_of_dropped)
            files->descriptors -= descriptors_of(file);
        else
            idle_add_locked(files, file);
    }
    has_too_many = files->descriptors > files->descriptors_max;
    lock_release(&files->lock);
    if (is_last_of_dropped)
        file_free(files, file);
    if (has_too_many)
        (void)close_idle(files, false);
}

void blob_files_drop(struct blob_files *files, uint64_t id)
{
    struct blob_file *file;

    lock_acquire(&files->lock);
    file = *find_locked(files, id);
    if (file != NULL) {
        unlist_locked(files, file);
        if (file->users > 0) {
            file->is_dropped = true;
            file = NULL;
        } else {
            idle_remove_locked(files, file);
            files->descriptors -= descriptors_of(file);
        }
    }
    lock_release(&files->lock);
    file_free(files, file);
}

/* ---- open and close ---- */

int blob_files_init(struct blob_files *files, const struct blob_reader_options *options)
{
    size_t bucket_count = BUCKETS_MIN;

    while (bucket_count < options->descriptors_max && bucket_count < BUCKETS_MAX)
        bucket_count *= 2;
    *files = (struct blob_files){
        .io = options->io,
        .directory = options->chunk_directory,
        .resolve = options->resolve,
        .context = options->context,
        .descriptors_max = options->descriptors_max,
        .buckets = calloc(bucket_count, sizeof(struct blob_file *)),
        .bucket_count = bucket_count,
    };
    if (files->buckets == NULL)
        return -ENOMEM;
    lock_init(&files->lock, LOCK_RANK_TABLE_CACHE);
    return 0;
}

void blob_files_destroy(struct blob_files *files)
{
    struct blob_file *file;

    if (files->buckets == NULL)
        return;
    while ((file = evict_locked(files)) != NULL)
        file_free(files, file);
    invariant(files->descriptors == 0);
    lock_destroy(&files->lock);
    free(files->buckets);
    files->buckets = NULL;
}
