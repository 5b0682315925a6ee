/* SPDX-License-Identifier: Apache-2.0 */
/*
 * io_backend.h - what the real backends share; private to io.c, io_journal.c, io_sync.c and io_uring.c
 *
 * io_uring improves on transfers only, so it takes everything else, and the open file itself, from
 * io_sync.
 */
#ifndef VARVE_ENGINE_BASE_IO_BACKEND_H
#define VARVE_ENGINE_BASE_IO_BACKEND_H

#include <stdatomic.h>

#include "engine/base/error.h"
#include "engine/base/io.h"

enum io_journal { IO_JOURNAL_UNKNOWN, IO_JOURNAL_KEPT, IO_JOURNAL_LACKING };

struct io_file {
    int descriptor;
    bool is_direct; /* asked for, whether or not the file system agreed */
    atomic_int
        journal; /* of a directory: what its file system has, once a name was removed in it */
};

/* One system call takes no more than this (MAX_RW_COUNT); the rest is a short transfer. */
#define IO_TRANSFER_SIZE_MAX ((size_t)0x7ffff000)

extern const struct io_ops io_sync_ops;

int io_sync_open_backend(struct io **ret_io);

/* -errno where the kernel forbids or lacks rings. */
int io_uring_open_backend(struct io **ret_io);

/* Is the file on a relative of ext4 that keeps no journal, as far as one can tell? */
bool io_lacks_journal(int descriptor);

/* 0, or ERROR_UNALIGNED for a misaligned transfer of a direct file. */
static inline int io_check_alignment(const struct io_file *file, const void *data, size_t size,
                                     uint64_t offset)
{
    if (file->is_direct && (((uintptr_t)data | size | offset) & (IO_DIRECT_ALIGNMENT - 1)) != 0)
        return ERROR_UNALIGNED;
    return 0;
}

#endif
