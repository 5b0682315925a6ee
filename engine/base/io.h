/* SPDX-License-Identifier: Apache-2.0 */
/*
 * io.h - the one way to the disk
 *
 * Owns:       every descriptor of store files. All bytes of a store pass through a struct io, the
 *             LMDB file excepted.
 * Backends:   io_sync (plain system calls), io_uring (one ring a thread, made at first use; falls
 *             back to io_sync at io_open_backend() where io_uring is forbidden), and in tests a
 *             model of a disk. A backend implements struct io_ops in full.
 * Guarantees: reads and writes are complete or an error: short transfers, -EINTR and -EAGAIN are
 *             continued here, for every backend alike; a read that meets the end of the file
 *             returns the bytes before it. fsync is never retried. No path component and no final
 *             name is ever followed through a symbolic link (openat2 RESOLVE_NO_SYMLINKS;
 *             O_NOFOLLOW where openat2 is missing): -ELOOP.
 * Names:      relative to an open directory; `name` may contain '/' only where said.
 * Threads:    every function may be called from any thread, several on one file at once.
 * Blocking:   read, write and sync functions call blocking_enter() before they wait; reads do not,
 *             when all that is wanted is in the kernel's memory.
 * Errors:     negative errno as the system call gives it, and ERROR_UNALIGNED. A name that is not
 *             one component is -EINVAL, one that leaves its directory -EXDEV, an existing file
 *             that is neither regular nor a directory -EINVAL.
 */
#ifndef VARVE_ENGINE_BASE_IO_H
#define VARVE_ENGINE_BASE_IO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "engine/base/io_flight.h"

#define IO_DIRECT_ALIGNMENT 4096

struct io;
struct io_file; /* an open file or directory; each backend defines its own */

enum io_open_flags {
    IO_OPEN_READ = 0,
    IO_OPEN_WRITE = 1 << 0,  /* read and write */
    IO_OPEN_CREATE = 1 << 1, /* with O_EXCL: -EEXIST when the name exists */
    IO_OPEN_DIRECT = 1 << 2, /* O_DIRECT; quietly buffered where the file system refuses it */
    IO_OPEN_DIRECTORY = 1 << 3,
};

/* One read of a batch. */
struct io_read {
    struct io_file *file;
    void *data;
    size_t size_bytes;
    uint64_t offset;
    int64_t result; /* out: bytes read (short only at end of file) or negative error */
};

typedef int io_list_callback(void *context, const char *name);

/*
 * Names of one component are checked before a backend sees them. `open` with a null directory opens
 * the root of all names: there, and only there, `name` is any path and links in it are followed.
 * A file opened with IO_OPEN_DIRECT refuses with ERROR_UNALIGNED what is not a multiple of
 * IO_DIRECT_ALIGNMENT (address, size, offset), also where the file system fell back to buffered.
 */
struct io_ops {
    const char *name;
    void (*destroy)(struct io *io);
    int (*open)(struct io *io, struct io_file *directory, const char *name, int flags, mode_t mode,
                struct io_file **ret_file);
    void (*close)(struct io *io, struct io_file *file);
    /* One attempt each; the io_* wrappers continue short transfers, -EINTR and -EAGAIN. */
    int64_t (*read)(struct io *io, struct io_file *file, void *data, size_t size, uint64_t offset);
    int64_t (*write)(struct io *io, struct io_file *file, const void *data, size_t size,
                     uint64_t offset);
    void (*read_batch)(struct io *io, struct io_read *reads, size_t count);
    /* What is in memory already, without waiting: the count, or -EAGAIN. NULL: it cannot tell. */
    int64_t (*read_cached)(struct io *io, struct io_file *file, void *data, size_t size,
                           uint64_t offset);
    /* Begin to read a range of a buffered file into memory, and do not wait. NULL: it cannot. */
    void (*prefetch)(struct io *io, struct io_file *file, uint64_t offset, uint64_t size);
    int (*sync)(struct io *io, struct io_file *file, bool data_only);
    int (*sync_filesystem)(struct io *io, struct io_file *file);
    int (*truncate)(struct io *io, struct io_file *file, uint64_t size);
    int (*stat)(struct io *io, struct io_file *file, struct stat *ret_stat);
    int (*stat_at)(struct io *io, struct io_file *directory, const char *name,
                   struct stat *ret_stat);
    int (*chmod)(struct io *io, struct io_file *file, mode_t mode);
    int (*mkdir)(struct io *io, struct io_file *directory, const char *name, mode_t mode);
    int (*unlink)(struct io *io, struct io_file *directory, const char *name, bool is_directory);
    int (*rename)(struct io *io, struct io_file *from_directory, const char *from,
                  struct io_file *to_directory, const char *to);
    int (*link)(struct io *io, struct io_file *from_directory, const char *from,
                struct io_file *to_directory, const char *to);
    int (*list)(struct io *io, struct io_file *directory, io_list_callback *callback,
                void *context);
    int (*lock)(struct io *io, struct io_file *file);
    int (*clone)(struct io *io, struct io_file *from, struct io_file *to);
    int (*space)(struct io *io, struct io_file *file, struct statvfs *ret_space);
    /* Where it lies, for the log, without asking the disk; cut off at `size`. NULL: it cannot tell. */
    int (*path)(struct io *io, struct io_file *file, char *to, size_t size);
};

/* Since the backend was opened. `errors` counts reads, writes and syncs that failed, `shortages`
 * those of them for lack of space, memory or descriptors, `corruptions` what io_note_corruption() was
 * told. */
struct io_statistics {
    uint64_t reads, read_bytes, prefetches, prefetch_bytes, writes, write_bytes, syncs, opens, links,
        errors, shortages, corruptions;
};

/* A backend's own struct begins with this; it sets `ops` and zeroes the rest. */
struct io {
    const struct io_ops *ops;
    bool is_cut;                   /* atomic; see io_cut() */
    struct io_statistics counters; /* kept here, atomically; for io_get_statistics() only */
    struct io_flight flights[IO_FLIGHTS];
};

enum io_backend { IO_BACKEND_URING, IO_BACKEND_SYNC };

/* A real backend. IO_BACKEND_URING gives io_sync (and logs why) where a ring cannot be made. */
int io_open_backend(enum io_backend backend, struct io **ret_io);
void io_close_backend(struct io *io); /* accepts NULL; all files must be closed */

/* As if the power had gone: from now on whatever would change something is -EIO and not tried; what
 * is under way may end. Reading goes on. Not undone. */
void io_cut(struct io *io);

/* The root of all names: open the directory `path` (absolute or relative to the working directory;
 * here, and only here, symbolic links in `path` are followed). */
int io_open_root(struct io *io, const char *path, struct io_file **ret_directory);

/* `name` may contain '/'. -ENOENT, -EEXIST, -ELOOP, -ENOTDIR, -EISDIR, -EMFILE, -ENOSPC ... */
int io_open(struct io *io, struct io_file *directory, const char *name, int flags, mode_t mode,
            struct io_file **ret_file);
void io_close(struct io *io, struct io_file *file); /* accepts NULL */

/* Read up to `size` bytes; the count, less than `size` only at the end of the file. */
int64_t io_read(struct io *io, struct io_file *file, void *data, size_t size, uint64_t offset);

/* Read exactly `size` bytes: 0, ERROR_TRUNCATED at the end of the file, or an error. */
int io_read_exact(struct io *io, struct io_file *file, void *data, size_t size, uint64_t offset);

/* Read many at once; every read's result is set; returns 0 or the first error. */
int io_read_batch(struct io *io, struct io_read *reads, size_t count);

/* What is wanted soon: a hint, which may come to nothing. Of a buffered file. May wait a little. */
void io_prefetch(struct io *io, struct io_file *file, uint64_t offset, uint64_t size);

/* Write all of it. 0 or an error, after which any part may have been written. (Continuing a direct
 * write that stopped inside a block writes that block again from its start.) */
int io_write(struct io *io, struct io_file *file, const void *data, size_t size, uint64_t offset);

/* fdatasync or fsync; of a directory, its names. Never retried by anyone after an error, and so
 * never a shortage: -EIO where the system said that. */
int io_sync(struct io *io, struct io_file *file, bool data_only);

/* syncfs of the file system that holds `file`. */
int io_sync_filesystem(struct io *io, struct io_file *file);

int io_truncate(struct io *io, struct io_file *file, uint64_t size);
int io_stat(struct io *io, struct io_file *file, struct stat *ret_stat);

/* lstat of a name in a directory. */
int io_stat_at(struct io *io, struct io_file *directory, const char *name, struct stat *ret_stat);

/* Are both of one file? */
static inline bool io_same_file(const struct stat *left, const struct stat *right)
{
    return left->st_dev == right->st_dev && left->st_ino == right->st_ino;
}

int io_chmod(struct io *io, struct io_file *file, mode_t mode);
int io_mkdir(struct io *io, struct io_file *directory, const char *name, mode_t mode);

/* -ENOENT when there is no such name. On a file system without a journal it waits until the disk knows
 * that the file is gone (io_sync.c says why). */
int io_unlink(struct io *io, struct io_file *directory, const char *name);
int io_rmdir(struct io *io, struct io_file *directory, const char *name);

/* rename(2); neither directory is synced here. */
int io_rename(struct io *io, struct io_file *from_directory, const char *from,
              struct io_file *to_directory, const char *to);

/* link(2). -EMLINK, -EXDEV, -EEXIST, -EPERM ... */
int io_link(struct io *io, struct io_file *from_directory, const char *from,
            struct io_file *to_directory, const char *to);

/* Call back for each name but "." and ".."; stops at the first non-zero return, which it returns.
 */
int io_list(struct io *io, struct io_file *directory, io_list_callback *callback, void *context);

/* An exclusive, non-blocking flock(2) that lasts until the file is closed: 0 or ERROR_LOCKED. */
int io_lock(struct io *io, struct io_file *file);

/* FICLONE where the file system has it: 0, -EOPNOTSUPP, -EXDEV, -EINVAL ... */
int io_clone(struct io *io, struct io_file *from, struct io_file *to);

int io_space(struct io *io, struct io_file *file, struct statvfs *ret_space);

/* Memory for direct I/O: aligned to IO_DIRECT_ALIGNMENT, from 2 MiB on in huge pages where there
 * are any; NULL when out of memory; free() frees. */
void *io_allocate_aligned(size_t size);

/* Count what was read and is not what had been written. */
void io_note_corruption(struct io *io);

/* Relaxed reads: each counter is right, their sum may be of different moments. */
void io_get_statistics(const struct io *io, struct io_statistics *ret_statistics);

#endif
