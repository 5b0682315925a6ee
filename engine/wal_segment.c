/* SPDX-License-Identifier: Apache-2.0 */
/*
 * wal_segment.c - new and recycled segment files
 *
 * New:      create under another name, write zeros over the whole length with the header in the first
 *           block, fsync, rename, fsync the directory. On a file system without a journal a name may
 *           reach the disk before its file does, and then leads to whatever the inode was before, a
 *           directory even: so a segment gets its name last. A crash leaves the other one.
 * Recycled: rename the retired file to its new number, write the new header, fdatasync, fsync the
 *           directory. A crash before the header is on disk leaves an old header under a higher
 *           number; one before the rename is leaves a file that replay does not look at. What is
 *           left in it of its former use was checksummed with another seed.
 */
#include "engine/wal_segment.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "engine/store.h"

#define FILL_SIZE  (2 * 1024 * 1024)
#define FILE_MODE  0600
#define NEW_SUFFIX ".new"
#define OPEN_FLAGS (IO_OPEN_WRITE | IO_OPEN_DIRECT)

void wal_segment_close(struct io *io, struct wal_segment *segment)
{
    io_close(io, segment->file);
    segment->file = NULL;
}

void wal_segment_free(struct io *io, struct wal_segment *segment)
{
    if (segment == NULL)
        return;
    wal_segment_close(io, segment);
    free(segment);
}

int wal_segment_unlink(struct io *io, struct io_file *directory, uint64_t number)
{
    char name[WAL_NAME_SIZE];
    int error;

    wal_segment_name(name, number);
    error = io_unlink(io, directory, name);
    return error == -ENOENT ? 0 : error;
}

static int sync_noting_failure(struct io *io, struct io_file *file, bool data_only,
                               bool *ret_sync_failed)
{
    int error = io_sync(io, file, data_only);

    if (error < 0)
        *ret_sync_failed = true;
    return error;
}

static int encode_header(const struct wal_segment_options *options, uint64_t number, uint8_t *to,
                         uint64_t *ret_seed)
{
    struct wal_segment_header header = {.number = number};
    ssize_t count;

    do
        count = getrandom(&header.salt, sizeof header.salt, 0);
    while (count < 0 && errno == EINTR);
    if (count != (ssize_t)sizeof header.salt)
        return count < 0 ? -errno : -EIO;
    memcpy(header.store_uuid, options->store_uuid, STORE_UUID_SIZE);
    wal_segment_header_encode(to, &header);
    *ret_seed = header.seed;
    return 0;
}

/* Zeros to the end of the segment, the header first. */
static int fill(const struct wal_segment_options *options, struct wal_segment *segment,
                uint8_t *zeros)
{
    int error = encode_header(options, segment->number, zeros, &segment->seed);

    for (uint64_t offset = 0; error == 0 && offset < segment->size_bytes; offset += FILL_SIZE) {
        uint64_t left = segment->size_bytes - offset;

        error = io_write(options->io, segment->file, zeros, left < FILL_SIZE ? left : FILL_SIZE,
                         offset);
        memset(zeros, 0, WAL_SEGMENT_HEADER_SIZE);
    }
    return error;
}

bool wal_segment_is_new_name(const char *name)
{
    size_t size = strlen(name), suffix = strlen(NEW_SUFFIX);

    return size > suffix && strcmp(name + size - suffix, NEW_SUFFIX) == 0;
}

static int create(const struct wal_segment_options *options, struct wal_segment *segment,
                  bool *ret_sync_failed)
{
    size_t fill_size = options->size_bytes < FILL_SIZE ? options->size_bytes : FILL_SIZE;
    uint8_t *zeros = io_allocate_aligned(fill_size);
    char name[WAL_NAME_SIZE], fresh[WAL_NAME_SIZE + sizeof NEW_SUFFIX];
    int error;

    if (zeros == NULL)
        return -ENOMEM;
    memset(zeros, 0, fill_size);
    segment->size_bytes = options->size_bytes;
    wal_segment_name(name, segment->number);
    (void)snprintf(fresh, sizeof fresh, "%s" NEW_SUFFIX, name);
    error = store_remove_tree(options->io, options->directory, fresh); /* left by a crash */
    if (error == 0)
        error = io_open(options->io, options->directory, fresh, OPEN_FLAGS | IO_OPEN_CREATE,
                        FILE_MODE, &segment->file);
    if (error == 0)
        error = fill(options, segment, zeros);
    if (error == 0)
        error = sync_noting_failure(options->io, segment->file, false, ret_sync_failed);
    if (error == 0)
        error = io_rename(options->io, options->directory, fresh, options->directory, name);
    if (error < 0 && segment->file != NULL)
        (void)io_unlink(options->io, options->directory, fresh);
    free(zeros);
    return error;
}

/* Nobody else may hold the file: what a hard link shows must not change. */
static int check_recyclable(const struct wal_segment_options *options, struct io_file *file)
{
    struct stat status;
    int error = io_stat(options->io, file, &status);

    if (error < 0)
        return error;
    return status.st_nlink == 1 && (uint64_t)status.st_size == options->size_bytes ? 1 : 0;
}

static int rewrite_header(const struct wal_segment_options *options, struct wal_segment *segment,
                          bool *ret_sync_failed)
{
    uint8_t *block = io_allocate_aligned(WAL_BLOCK_SIZE);
    int error;

    if (block == NULL)
        return -ENOMEM;
    memset(block, 0, WAL_BLOCK_SIZE);
    error = encode_header(options, segment->number, block, &segment->seed);
    if (error == 0)
        error = io_write(options->io, segment->file, block, WAL_BLOCK_SIZE, 0);
    if (error == 0)
        error = sync_noting_failure(options->io, segment->file, true, ret_sync_failed);
    free(block);
    return error;
}

/* 1: `segment` is the old file under its new number; 0: the old file does not serve and is gone. */
static int recycle(const struct wal_segment_options *options, uint64_t old_number,
                   struct wal_segment *segment, bool *ret_sync_failed)
{
    char old_name[WAL_NAME_SIZE], name[WAL_NAME_SIZE];
    int result;

    wal_segment_name(old_name, old_number);
    wal_segment_name(name, segment->number);
    result = io_open(options->io, options->directory, old_name, OPEN_FLAGS, 0, &segment->file);
    if (result == -ENOENT)
        return 0;
    if (result == 0)
        result = check_recyclable(options, segment->file);
    if (result <= 0) {
        wal_segment_close(options->io, segment);
        (void)wal_segment_unlink(options->io, options->directory, old_number);
        return result;
    }
    result = io_rename(options->io, options->directory, old_name, options->directory, name);
    if (result < 0) {
        (void)wal_segment_unlink(options->io, options->directory, old_number);
        return result;
    }
    segment->size_bytes = options->size_bytes;
    result = rewrite_header(options, segment, ret_sync_failed);
    return result < 0 ? result : 1;
}

int wal_segment_make(const struct wal_segment_options *options, uint64_t number,
                     struct wal_segment *retired, struct wal_segment **ret_segment,
                     bool *ret_recycled, bool *ret_sync_failed)
{
    struct wal_segment *segment = calloc(1, sizeof *segment);
    bool was_recycled;
    int result = 0;

    if (segment == NULL) {
        wal_segment_free(options->io, retired);
        return -ENOMEM;
    }
    segment->number = number;
    if (retired != NULL)
        result = recycle(options, retired->number, segment, ret_sync_failed);
    was_recycled = result == 1;
    if (result == 0)
        result = create(options, segment, ret_sync_failed);
    if (result >= 0)
        result = sync_noting_failure(options->io, options->directory, false, ret_sync_failed);
    wal_segment_free(options->io, retired);
    if (result < 0) {
        if (segment->file != NULL)
            (void)wal_segment_unlink(options->io, options->directory, number);
        wal_segment_free(options->io, segment);
        return result;
    }
    *ret_recycled = was_recycled;
    *ret_segment = segment;
    return 0;
}
