/* SPDX-License-Identifier: Apache-2.0 */
/*
 * io.c - what is the same for every backend: whole transfers, checked names, counters
 */
#include "engine/base/io.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "engine/base/blocking.h"
#include "engine/base/error.h"
#include "engine/base/invariant.h"
#include "engine/base/io_backend.h"
#include "engine/base/log.h"

/*
 * How often a transfer may fail to advance before its error is the caller's. -EINTR costs nothing
 * and has no limit; -EAGAIN is a kernel short of something, which waiting may cure (about 8 s in
 * all); a count that does not advance is a broken device.
 */
#define AGAIN_ATTEMPTS_MAX 1000
#define STUCK_ATTEMPTS_MAX 16

/* A transfer from or to huge pages is few segments for a device: measured, twice the throughput. */
#define HUGE_PAGE_SIZE ((size_t)2 * 1024 * 1024)

static void count(uint64_t *counter, uint64_t amount)
{
    __atomic_fetch_add(counter, amount, __ATOMIC_RELAXED);
}

/* Passes `error` through. */
static int count_error(struct io *io, int error)
{
    if (error < 0)
        count(&io->counters.errors, 1);
    if (error_is_shortage(error))
        count(&io->counters.shortages, 1);
    return error;
}

/* ---- power ---- */

void io_cut(struct io *io)
{
    __atomic_store_n(&io->is_cut, true, __ATOMIC_SEQ_CST);
}

/* 0, or -EIO: nothing may be changed any more. */
static int check_power(const struct io *io)
{
    return __atomic_load_n(&io->is_cut, __ATOMIC_RELAXED) ? -EIO : 0;
}

/* ---- backends ---- */

int io_open_backend(enum io_backend backend, struct io **ret_io)
{
    if (backend == IO_BACKEND_URING) {
        int error = io_uring_open_backend(ret_io);

        if (error == 0 || error == -ENOMEM)
            return error;
        log_info("io_uring is not available (%s): using plain system calls", error_text(error));
    }
    return io_sync_open_backend(ret_io);
}

void io_close_backend(struct io *io)
{
    if (io != NULL)
        io->ops->destroy(io);
}

/* ---- names ---- */

static bool name_is_component(const char *name)
{
    return *name != '\0' && strchr(name, '/') == NULL && strcmp(name, ".") != 0 &&
           strcmp(name, "..") != 0;
}

static int open_counted(struct io *io, struct io_file *directory, const char *name, int flags,
                        mode_t mode, struct io_file **ret_file)
{
    struct io_flight *flight;
    int error;

    if ((flags & IO_OPEN_CREATE) != 0 && check_power(io) < 0)
        return -EIO;
    flight = io_flight_begin(io, IO_OPERATION_OPEN, directory, name, 0, 0);
    do
        error = io->ops->open(io, directory, name, flags, mode, ret_file);
    while (error == -EINTR);
    io_flight_end(flight);
    if (error == 0)
        count(&io->counters.opens, 1);
    return error;
}

int io_open_root(struct io *io, const char *path, struct io_file **ret_directory)
{
    return open_counted(io, NULL, path, IO_OPEN_DIRECTORY, 0, ret_directory);
}

int io_open(struct io *io, struct io_file *directory, const char *name, int flags, mode_t mode,
            struct io_file **ret_file)
{
    invariant(directory != NULL);
    return open_counted(io, directory, name, flags, mode, ret_file);
}

void io_close(struct io *io, struct io_file *file)
{
    if (file != NULL)
        io->ops->close(io, file);
}

int io_stat_at(struct io *io, struct io_file *directory, const char *name, struct stat *ret_stat)
{
    struct io_flight *flight;
    int error;

    if (!name_is_component(name))
        return -EINVAL;
    flight = io_flight_begin(io, IO_OPERATION_STAT, directory, name, 0, 0);
    error = io->ops->stat_at(io, directory, name, ret_stat);
    io_flight_end(flight);
    return error;
}

int io_mkdir(struct io *io, struct io_file *directory, const char *name, mode_t mode)
{
    struct io_flight *flight;
    int error;

    if (!name_is_component(name))
        return -EINVAL;
    if (check_power(io) < 0)
        return -EIO;
    flight = io_flight_begin(io, IO_OPERATION_MKDIR, directory, name, 0, 0);
    error = io->ops->mkdir(io, directory, name, mode);
    io_flight_end(flight);
    return error;
}

int io_unlink(struct io *io, struct io_file *directory, const char *name)
{
    struct io_flight *flight;
    int error;

    if (!name_is_component(name))
        return -EINVAL;
    if (check_power(io) < 0)
        return -EIO;
    flight = io_flight_begin(io, IO_OPERATION_UNLINK, directory, name, 0, 0);
    error = io->ops->unlink(io, directory, name, false);
    io_flight_end(flight);
    return error;
}

int io_rmdir(struct io *io, struct io_file *directory, const char *name)
{
    struct io_flight *flight;
    int error;

    if (!name_is_component(name))
        return -EINVAL;
    if (check_power(io) < 0)
        return -EIO;
    flight = io_flight_begin(io, IO_OPERATION_UNLINK, directory, name, 0, 0);
    error = io->ops->unlink(io, directory, name, true);
    io_flight_end(flight);
    return error;
}

int io_rename(struct io *io, struct io_file *from_directory, const char *from,
              struct io_file *to_directory, const char *to)
{
    struct io_flight *flight;
    int error;

    if (!name_is_component(from) || !name_is_component(to))
        return -EINVAL;
    if (check_power(io) < 0)
        return -EIO;
    flight = io_flight_begin(io, IO_OPERATION_RENAME, to_directory, to, 0, 0);
    error = io->ops->rename(io, from_directory, from, to_directory, to);
    io_flight_end(flight);
    return error;
}

int io_link(struct io *io, struct io_file *from_directory, const char *from,
            struct io_file *to_directory, const char *to)
{
    struct io_flight *flight;
    int error;

    if (!name_is_component(from) || !name_is_component(to))
        return -EINVAL;
    if (check_power(io) < 0)
        return -EIO;
    flight = io_flight_begin(io, IO_OPERATION_LINK, to_directory, to, 0, 0);
    error = io->ops->link(io, from_directory, from, to_directory, to);
    io_flight_end(flight);
    if (error == 0)
        count(&io->counters.links, 1);
    return error;
}

int io_list(struct io *io, struct io_file *directory, io_list_callback *callback, void *context)
{
    return io->ops->list(io, directory, callback, context);
}

/* ---- transfers ---- */

/* One read or write on its way; `to` or `from` is the memory. */
struct transfer {
    struct io *io;
    struct io_file *file;
    uint8_t *to;
    const uint8_t *from;
    size_t size;
    uint64_t offset;
    size_t done;    /* the first so many bytes are transferred */
    size_t attempt; /* where the last attempt began, <= done */
    unsigned again_attempts, stuck_attempts;
};

enum { TRANSFER_UNFINISHED, TRANSFER_FINISHED };

static void wait_before_again(unsigned attempts)
{
    unsigned shift = attempts < 10 ? attempts : 10;
    struct timespec delay = {.tv_nsec = 8000L << shift}; /* 16 us ... 8 ms */

    nanosleep(&delay, NULL);
}

/* Is what was read all that the file holds? 1, 0 or an error. */
static int transfer_is_at_end(const struct transfer *transfer)
{
    struct stat status;
    int error;

    error = transfer->io->ops->stat(transfer->io, transfer->file, &status);
    if (error < 0)
        return error;
    return transfer->offset + transfer->done >= (uint64_t)status.st_size;
}

/*
 * A direct file refused to go on from the middle of a block. The count before ended there either
 * because the file does, or because the transfer was cut: then the block is done again.
 */
static int transfer_realign(struct transfer *transfer)
{
    if (transfer->to != NULL) {
        int at_end = transfer_is_at_end(transfer);

        if (at_end != 0)
            return at_end < 0 ? at_end : TRANSFER_FINISHED;
    }
    if (++transfer->stuck_attempts > STUCK_ATTEMPTS_MAX)
        return -EIO;
    transfer->attempt = transfer->done & ~(size_t)(IO_DIRECT_ALIGNMENT - 1);
    return TRANSFER_UNFINISHED;
}

/* A count from the backend: TRANSFER_*, or an error. */
static int transfer_advance(struct transfer *transfer, size_t amount)
{
    size_t reached = transfer->attempt + amount;

    invariant(amount <= transfer->size - transfer->attempt);
    if (amount == 0 && transfer->to != NULL)
        return TRANSFER_FINISHED; /* end of the file */
    if (reached > transfer->done) {
        transfer->done = reached;
        transfer->again_attempts = 0;
        transfer->stuck_attempts = 0;
    } else if (++transfer->stuck_attempts > STUCK_ATTEMPTS_MAX) {
        return -EIO;
    }
    transfer->attempt = transfer->done;
    return transfer->done == transfer->size ? TRANSFER_FINISHED : TRANSFER_UNFINISHED;
}

/* Judge what one attempt returned: TRANSFER_*, or the error that ends the transfer. */
static int transfer_judge(struct transfer *transfer, int64_t result)
{
    if (result >= 0)
        return transfer_advance(transfer, (size_t)result);
    if (result == -EINTR)
        return TRANSFER_UNFINISHED;
    if (result == -EAGAIN && ++transfer->again_attempts <= AGAIN_ATTEMPTS_MAX) {
        wait_before_again(transfer->again_attempts);
        return TRANSFER_UNFINISHED;
    }
    if (result == ERROR_UNALIGNED && transfer->attempt % IO_DIRECT_ALIGNMENT != 0 &&
        transfer->attempt == transfer->done && transfer->done > 0)
        return transfer_realign(transfer);
    return (int)result;
}

static int64_t transfer_attempt(struct transfer *transfer)
{
    const struct io_ops *ops = transfer->io->ops;
    size_t at = transfer->attempt;
    size_t size = transfer->size - at;

    if (transfer->to != NULL)
        return ops->read(transfer->io, transfer->file, transfer->to + at, size,
                         transfer->offset + at);
    return ops->write(transfer->io, transfer->file, transfer->from + at, size,
                      transfer->offset + at);
}

/* Run to the end; 0 or an error. `transfer->done` says how far it came. */
static int transfer_run(struct transfer *transfer)
{
    struct io_flight *flight =
        io_flight_begin(transfer->io, transfer->to != NULL ? IO_OPERATION_READ : IO_OPERATION_WRITE,
                        transfer->file, NULL, transfer->offset, transfer->size);
    int state;

    do
        state = transfer_judge(transfer, transfer_attempt(transfer));
    while (state == TRANSFER_UNFINISHED);
    io_flight_end(flight);
    return state < 0 ? state : 0;
}

/* Linux takes no offset above 2^63 - 1. */
static int check_range(size_t size, uint64_t offset)
{
    return offset > INT64_MAX || size > INT64_MAX - offset ? -EINVAL : 0;
}

static int64_t read_counted(struct transfer *transfer, int error)
{
    struct io *io = transfer->io;

    count(&io->counters.reads, 1);
    if (error < 0)
        return count_error(io, error);
    count(&io->counters.read_bytes, transfer->done);
    return (int64_t)transfer->done;
}

/* All of it without waiting? Asked only where a wait costs a change of threads, which is dearer
 * than a system call in vain (and that one has started the kernel's reading). */
static bool read_from_memory(struct transfer *transfer)
{
    const struct io_ops *ops = transfer->io->ops;
    int64_t result;

    if (ops->read_cached == NULL || !blocking_is_dear())
        return false;
    result = ops->read_cached(transfer->io, transfer->file, transfer->to, transfer->size,
                              transfer->offset);
    if (result < 0 || (size_t)result != transfer->size)
        return false;
    transfer->done = transfer->size;
    return true;
}

int64_t io_read(struct io *io, struct io_file *file, void *data, size_t size, uint64_t offset)
{
    struct transfer transfer = {.io = io, .file = file, .to = data, .size = size, .offset = offset};
    int error = check_range(size, offset);

    if (error < 0)
        return count_error(io, error);
    if (size == 0)
        return 0;
    if (read_from_memory(&transfer))
        return read_counted(&transfer, 0);
    blocking_enter();
    return read_counted(&transfer, transfer_run(&transfer));
}

void io_prefetch(struct io *io, struct io_file *file, uint64_t offset, uint64_t size)
{
    if (io->ops->prefetch == NULL)
        return;
    blocking_enter();
    io->ops->prefetch(io, file, offset, size);
    count(&io->counters.prefetches, 1);
    count(&io->counters.prefetch_bytes, size);
}

int io_read_exact(struct io *io, struct io_file *file, void *data, size_t size, uint64_t offset)
{
    int64_t result = io_read(io, file, data, size, offset);

    if (result < 0)
        return (int)result;
    return (size_t)result == size ? 0 : ERROR_TRUNCATED;
}

/* Take over a read of a batch after its first attempt. */
static int64_t read_finish(struct io *io, const struct io_read *read)
{
    struct transfer transfer = {.io = io,
                                .file = read->file,
                                .to = read->data,
                                .size = read->size_bytes,
                                .offset = read->offset};
    int state;

    if (read->size_bytes == 0)
        return 0;
    state = transfer_judge(&transfer, read->result);
    if (state == TRANSFER_UNFINISHED)
        state = transfer_run(&transfer);
    return read_counted(&transfer, state < 0 ? state : 0);
}

/* How many of the first reads of a batch needed no waiting. */
static size_t read_first_from_memory(struct io *io, struct io_read *reads, size_t count_of_reads)
{
    size_t done = 0;

    for (; done < count_of_reads; done++) {
        struct transfer transfer = {.io = io,
                                    .file = reads[done].file,
                                    .to = reads[done].data,
                                    .size = reads[done].size_bytes,
                                    .offset = reads[done].offset};

        if (transfer.size > 0 && !read_from_memory(&transfer))
            break;
        reads[done].result = transfer.size > 0 ? read_counted(&transfer, 0) : 0;
    }
    return done;
}

int io_read_batch(struct io *io, struct io_read *reads, size_t count_of_reads)
{
    struct io_flight *flight;
    size_t done;
    int error = 0;

    if (count_of_reads == 0)
        return 0;
    for (size_t i = 0; i < count_of_reads; i++) {
        invariant(reads[i].data != NULL || reads[i].size_bytes == 0);
        error = check_range(reads[i].size_bytes, reads[i].offset);
        if (error < 0)
            break;
    }
    if (error < 0) {
        for (size_t i = 0; i < count_of_reads; i++)
            reads[i].result = error;
        return count_error(io, error);
    }

    done = read_first_from_memory(io, reads, count_of_reads);
    if (done == count_of_reads)
        return 0;
    blocking_enter();
    flight = io_flight_begin(io, IO_OPERATION_READ, reads[done].file, NULL, reads[done].offset,
                             reads[done].size_bytes);
    io->ops->read_batch(io, reads + done, count_of_reads - done);
    io_flight_end(flight);
    for (size_t i = done; i < count_of_reads; i++) {
        reads[i].result = read_finish(io, &reads[i]);
        if (reads[i].result < 0 && error == 0)
            error = (int)reads[i].result;
    }
    return error;
}

int io_write(struct io *io, struct io_file *file, const void *data, size_t size, uint64_t offset)
{
    struct transfer transfer = {
        .io = io, .file = file, .from = data, .size = size, .offset = offset};
    int error = check_range(size, offset);

    if (error == 0)
        error = check_power(io);
    if (error < 0)
        return count_error(io, error);
    if (size == 0)
        return 0;
    blocking_enter();
    error = transfer_run(&transfer);
    count(&io->counters.writes, 1);
    count(&io->counters.write_bytes, transfer.done);
    return count_error(io, error);
}

/* ---- durability and attributes ---- */

/* After a sync that failed nothing is known of what it covered: no error of it may look like a
 * shortage, which is tried again. */
static int sync_error(int error)
{
    return error_is_shortage(error) ? -EIO : error;
}

int io_sync(struct io *io, struct io_file *file, bool data_only)
{
    struct io_flight *flight;
    int error;

    if (check_power(io) < 0)
        return count_error(io, -EIO);
    blocking_enter();
    count(&io->counters.syncs, 1);
    flight = io_flight_begin(io, IO_OPERATION_SYNC, file, NULL, 0, 0);
    error = io->ops->sync(io, file, data_only);
    io_flight_end(flight);
    return count_error(io, sync_error(error));
}

int io_sync_filesystem(struct io *io, struct io_file *file)
{
    struct io_flight *flight;
    int error;

    if (check_power(io) < 0)
        return count_error(io, -EIO);
    blocking_enter();
    count(&io->counters.syncs, 1);
    flight = io_flight_begin(io, IO_OPERATION_SYNC_FILESYSTEM, file, NULL, 0, 0);
    error = io->ops->sync_filesystem(io, file);
    io_flight_end(flight);
    return count_error(io, sync_error(error));
}

int io_truncate(struct io *io, struct io_file *file, uint64_t size)
{
    struct io_flight *flight;
    int error;

    if (check_power(io) < 0)
        return -EIO;
    flight = io_flight_begin(io, IO_OPERATION_TRUNCATE, file, NULL, 0, 0);
    do
        error = io->ops->truncate(io, file, size);
    while (error == -EINTR);
    io_flight_end(flight);
    return error;
}

int io_stat(struct io *io, struct io_file *file, struct stat *ret_stat)
{
    struct io_flight *flight;
    int error;

    flight = io_flight_begin(io, IO_OPERATION_STAT, file, NULL, 0, 0);
    error = io->ops->stat(io, file, ret_stat);
    io_flight_end(flight);
    return error;
}

int io_chmod(struct io *io, struct io_file *file, mode_t mode)
{
    struct io_flight *flight;
    int error;

    if (check_power(io) < 0)
        return -EIO;
    flight = io_flight_begin(io, IO_OPERATION_CHMOD, file, NULL, 0, 0);
    error = io->ops->chmod(io, file, mode);
    io_flight_end(flight);
    return error;
}

int io_lock(struct io *io, struct io_file *file)
{
    return io->ops->lock(io, file);
}

int io_clone(struct io *io, struct io_file *from, struct io_file *to)
{
    struct io_flight *flight;
    int error;

    if (check_power(io) < 0)
        return -EIO;
    flight = io_flight_begin(io, IO_OPERATION_CLONE, to, NULL, 0, 0);
    error = io->ops->clone(io, from, to);
    io_flight_end(flight);
    return error;
}

int io_space(struct io *io, struct io_file *file, struct statvfs *ret_space)
{
    struct io_flight *flight;
    int error;

    flight = io_flight_begin(io, IO_OPERATION_SPACE, file, NULL, 0, 0);
    error = io->ops->space(io, file, ret_space);
    io_flight_end(flight);
    return error;
}

/* ---- memory and counters ---- */

void *io_allocate_aligned(size_t size)
{
    size_t alignment = size >= HUGE_PAGE_SIZE ? HUGE_PAGE_SIZE : IO_DIRECT_ALIGNMENT;
    void *result;

    if (posix_memalign(&result, alignment, size > 0 ? size : 1) != 0)
        return NULL;
    if (alignment == HUGE_PAGE_SIZE)
        (void)madvise(result, size - size % HUGE_PAGE_SIZE, MADV_HUGEPAGE); /* a wish */
    return result;
}

void io_note_corruption(struct io *io)
{
    count(&io->counters.corruptions, 1);
}

void io_get_statistics(const struct io *io, struct io_statistics *ret_statistics)
{
    const struct io_statistics *from = &io->counters;

    *ret_statistics = (struct io_statistics){
        .reads = __atomic_load_n(&from->reads, __ATOMIC_RELAXED),
        .read_bytes = __atomic_load_n(&from->read_bytes, __ATOMIC_RELAXED),
        .prefetches = __atomic_load_n(&from->prefetches, __ATOMIC_RELAXED),
        .prefetch_bytes = __atomic_load_n(&from->prefetch_bytes, __ATOMIC_RELAXED),
        .writes = __atomic_load_n(&from->writes, __ATOMIC_RELAXED),
        .write_bytes = __atomic_load_n(&from->write_bytes, __ATOMIC_RELAXED),
        .syncs = __atomic_load_n(&from->syncs, __ATOMIC_RELAXED),
        .opens = __atomic_load_n(&from->opens, __ATOMIC_RELAXED),
        .links = __atomic_load_n(&from->links, __ATOMIC_RELAXED),
        .errors = __atomic_load_n(&from->errors, __ATOMIC_RELAXED),
        .shortages = __atomic_load_n(&from->shortages, __ATOMIC_RELAXED),
        .corruptions = __atomic_load_n(&from->corruptions, __ATOMIC_RELAXED),
    };
}
