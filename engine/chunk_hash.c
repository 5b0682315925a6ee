/* SPDX-License-Identifier: Apache-2.0 */
/*
 * chunk_hash.c - the content hash of a chunk file
 */
#include "engine/chunk_hash.h"

#include <errno.h>
#include <stdlib.h>

#include "engine/base/error.h"

#define READ_SIZE ((size_t)2 * 1024 * 1024)

int chunk_hash_file(struct io *io, struct io_file *directory, const char *name, uint64_t size,
                    struct checksum128 *ret_hash)
{
    struct checksum_stream *stream = checksum_stream_new();
    uint8_t *data = io_allocate_aligned(READ_SIZE);
    struct io_file *file = NULL;
    int error = stream != NULL && data != NULL ? 0 : -ENOMEM;

    if (error == 0)
        error = io_open(io, directory, name, IO_OPEN_READ | IO_OPEN_DIRECT, 0, &file);
    for (uint64_t at = 0; error == 0 && at < size; at += READ_SIZE) {
        size_t part = size - at < READ_SIZE ? (size_t)(size - at) : READ_SIZE;
        int64_t count = io_read(io, file, data, READ_SIZE, at);

        if (count < 0)
            error = (int)count;
        else if ((uint64_t)count < part)
            error = ERROR_TRUNCATED;
        else
            checksum_stream_update(stream, data, part);
    }
    if (error == 0)
        *ret_hash = checksum_stream_digest(stream);
    io_close(io, file);
    checksum_stream_free(stream);
    free(data);
    return error;
}
