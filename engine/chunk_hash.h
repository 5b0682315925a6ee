/* SPDX-License-Identifier: Apache-2.0 */
/*
 * chunk_hash.h - the content hash of a chunk file, read anew from the disk
 *
 * Threads: any.
 */
#ifndef VARVE_ENGINE_CHUNK_HASH_H
#define VARVE_ENGINE_CHUNK_HASH_H

#include "engine/base/checksum.h"
#include "engine/base/io.h"

/* Hash the first `size` bytes of a file. Reads with direct I/O: what is read once should not push
 * anything out of memory. 0, -ENOMEM, ERROR_TRUNCATED, or the error of opening or reading. */
int chunk_hash_file(struct io *io, struct io_file *directory, const char *name, uint64_t size,
                    struct checksum128 *ret_hash);

#endif
