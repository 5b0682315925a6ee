/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_fault_io.c - pass on, count, fail
 */
#include "tests/lib/test_fault_io.h"

#include <string.h>

static struct test_fault_io *fault_of(struct io *io)
{
    return (struct test_fault_io *)(void *)io; /* its first member */
}

static struct io *inner_of(struct io *io)
{
    return fault_of(io)->inner;
}

/* Count a call: 0, or the error that it is to return. */
static int strike(struct io *io)
{
    struct test_fault_io *fault = fault_of(io);
    uint64_t call = ++fault->calls, fail_at = fault->fail_at;

    if (fail_at == 0 || call < fail_at)
        return 0;
    return call == fail_at || fault->stop ? fault->error : 0;
}

static void fault_destroy(struct io *io)
{
    (void)io;
}

static int fault_open(struct io *io, struct io_file *directory, const char *name, int flags,
                      mode_t mode, struct io_file **ret_file)
{
    int error = (flags & IO_OPEN_CREATE) != 0 ? strike(io) : 0;

    if (error != 0)
        return error;
    return inner_of(io)->ops->open(inner_of(io), directory, name, flags, mode, ret_file);
}

static void fault_close(struct io *io, struct io_file *file)
{
    inner_of(io)->ops->close(inner_of(io), file);
}

static int64_t fault_read(struct io *io, struct io_file *file, void *data, size_t size,
                          uint64_t offset)
{
    return inner_of(io)->ops->read(inner_of(io), file, data, size, offset);
}

static int64_t fault_write(struct io *io, struct io_file *file, const void *data, size_t size,
                           uint64_t offset)
{
    int error = strike(io);

    return error != 0 ? error : inner_of(io)->ops->write(inner_of(io), file, data, size, offset);
}

static void fault_read_batch(struct io *io, struct io_read *reads, size_t count)
{
    inner_of(io)->ops->read_batch(inner_of(io), reads, count);
}

static int fault_sync(struct io *io, struct io_file *file, bool data_only)
{
    int error = strike(io);

    return error != 0 ? error : inner_of(io)->ops->sync(inner_of(io), file, data_only);
}

static int fault_sync_filesystem(struct io *io, struct io_file *file)
{
    int error = strike(io);

    return error != 0 ? error : inner_of(io)->ops->sync_filesystem(inner_of(io), file);
}

static int fault_truncate(struct io *io, struct io_file *file, uint64_t size)
{
    int error = strike(io);

    return error != 0 ? error : inner_of(io)->ops->truncate(inner_of(io), file, size);
}

static int fault_stat(struct io *io, struct io_file *file, struct stat *ret_stat)
{
    return inner_of(io)->ops->stat(inner_of(io), file, ret_stat);
}

static int fault_stat_at(struct io *io, struct io_file *directory, const char *name,
                         struct stat *ret_stat)
{
    return inner_of(io)->ops->stat_at(inner_of(io), directory, name, ret_stat);
}

static int fault_chmod(struct io *io, struct io_file *file, mode_t mode)
{
    int error = strike(io);

    return error != 0 ? error : inner_of(io)->ops->chmod(inner_of(io), file, mode);
}

static int fault_mkdir(struct io *io, struct io_file *directory, const char *name, mode_t mode)
{
    int error = strike(io);

    return error != 0 ? error : inner_of(io)->ops->mkdir(inner_of(io), directory, name, mode);
}

static int fault_unlink(struct io *io, struct io_file *directory, const char *name,
                        bool is_directory)
{
    int error = fault_of(io)->stop ? strike(io) : 0;

    return error != 0 ? error
                      : inner_of(io)->ops->unlink(inner_of(io), directory, name, is_directory);
}

static int fault_rename(struct io *io, struct io_file *from_directory, const char *from,
                        struct io_file *to_directory, const char *to)
{
    int error = strike(io);

    return error != 0
               ? error
               : inner_of(io)->ops->rename(inner_of(io), from_directory, from, to_directory, to);
}

static int fault_link(struct io *io, struct io_file *from_directory, const char *from,
                      struct io_file *to_directory, const char *to)
{
    int error = strike(io);

    return error != 0
               ? error
               : inner_of(io)->ops->link(inner_of(io), from_directory, from, to_directory, to);
}

static int fault_list(struct io *io, struct io_file *directory, io_list_callback *callback,
                      void *context)
{
    return inner_of(io)->ops->list(inner_of(io), directory, callback, context);
}

static int fault_lock(struct io *io, struct io_file *file)
{
    return inner_of(io)->ops->lock(inner_of(io), file);
}

static int fault_clone(struct io *io, struct io_file *from, struct io_file *to)
{
    int error = strike(io);

    return error != 0 ? error : inner_of(io)->ops->clone(inner_of(io), from, to);
}

static int fault_space(struct io *io, struct io_file *file, struct statvfs *ret_space)
{
    return inner_of(io)->ops->space(inner_of(io), file, ret_space);
}

static const struct io_ops fault_ops = {
    .name = "fault",
    .destroy = fault_destroy,
    .open = fault_open,
    .close = fault_close,
    .read = fault_read,
    .write = fault_write,
    .read_batch = fault_read_batch,
    .sync = fault_sync,
    .sync_filesystem = fault_sync_filesystem,
    .truncate = fault_truncate,
    .stat = fault_stat,
    .stat_at = fault_stat_at,
    .chmod = fault_chmod,
    .mkdir = fault_mkdir,
    .unlink = fault_unlink,
    .rename = fault_rename,
    .link = fault_link,
    .list = fault_list,
    .lock = fault_lock,
    .clone = fault_clone,
    .space = fault_space,
};

void test_fault_io_init(struct test_fault_io *fault, struct io *inner)
{
    memset(fault, 0, sizeof *fault);
    fault->io.ops = &fault_ops;
    fault->inner = inner;
}

void test_fault_io_arm(struct test_fault_io *fault, uint64_t fail_at, int error, bool stop)
{
    fault->fail_at = 0; /* last, because the engine's threads may be calling */
    fault->calls = 0;
    fault->error = error;
    fault->stop = stop;
    fault->fail_at = fail_at;
}

bool test_fault_io_struck(const struct test_fault_io *fault)
{
    return fault->fail_at > 0 && fault->calls >= fault->fail_at;
}
