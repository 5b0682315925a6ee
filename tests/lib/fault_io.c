/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fault_io.c - count, look at the plan, then misbehave or pass on
 */
#include "tests/lib/fault_io.h"

#include <pthread.h>
#include <stdlib.h>

enum plan_kind { PLAN_NONE, PLAN_FAIL, PLAN_CUT, PLAN_STALL };

struct plan {
    enum plan_kind kind;
    uint64_t at; /* the attempt, counted as `counts` does */
    bool for_ever;
    int error;
    size_t size;
};

struct fault_io {
    struct io io;
    struct io *inner;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    uint64_t counts[FAULT_CALL_COUNT];
    struct plan plans[FAULT_CALL_COUNT];
    unsigned stalled;
    uint64_t total_bytes, free_bytes;
    uint64_t rot_offset;
    uint8_t rot_mask;
};

static struct fault_io *fault_of(struct io *io)
{
    return (struct fault_io *)(void *)io; /* its first member */
}

static struct io *inner_of(struct io *io)
{
    return fault_of(io)->inner;
}

/* Count an attempt: 0 or the error to return; *size (may be NULL) is lowered to be cut. */
static int attempt(struct io *io, enum fault_call call, size_t *size)
{
    struct fault_io *fault = fault_of(io);
    struct plan *plan = &fault->plans[call];
    uint64_t number;
    int error = 0;

    pthread_mutex_lock(&fault->mutex);
    number = ++fault->counts[call];
    if (plan->kind != PLAN_NONE && (number == plan->at || (number > plan->at && plan->for_ever))) {
        if (plan->kind == PLAN_FAIL)
            error = plan->error;
        if (plan->kind == PLAN_CUT && size != NULL && *size > plan->size)
            *size = plan->size;
        if (plan->kind == PLAN_STALL) {
            fault->stalled++;
            pthread_cond_broadcast(&fault->changed);
            while (plan->kind == PLAN_STALL)
                pthread_cond_wait(&fault->changed, &fault->mutex);
            fault->stalled--;
            if (plan->kind == PLAN_FAIL)
                error = plan->error;
        }
    }
    pthread_mutex_unlock(&fault->mutex);
    return error;
}

static void set_plan(struct fault_io *fault, enum fault_call call, struct plan plan)
{
    pthread_mutex_lock(&fault->mutex);
    plan.at += fault->counts[call];
    fault->plans[call] = plan;
    pthread_cond_broadcast(&fault->changed);
    pthread_mutex_unlock(&fault->mutex);
}

void fault_io_fail(struct fault_io *fault, enum fault_call call, uint64_t nth, int error,
                   bool for_ever)
{
    set_plan(fault, call,
             (struct plan){.kind = PLAN_FAIL, .at = nth, .for_ever = for_ever, .error = error});
}

void fault_io_cut(struct fault_io *fault, enum fault_call call, uint64_t nth, size_t size,
                  bool for_ever)
{
    set_plan(fault, call,
             (struct plan){.kind = PLAN_CUT, .at = nth, .for_ever = for_ever, .size = size});
}

void fault_io_stall(struct fault_io *fault, enum fault_call call, uint64_t nth)
{
    set_plan(fault, call, (struct plan){.kind = PLAN_STALL, .at = nth, .for_ever = true});
}

void fault_io_clear(struct fault_io *fault, enum fault_call call)
{
    set_plan(fault, call, (struct plan){.kind = PLAN_NONE});
}

void fault_io_wait_stalled(struct fault_io *fault)
{
    pthread_mutex_lock(&fault->mutex);
    while (fault->stalled == 0)
        pthread_cond_wait(&fault->changed, &fault->mutex);
    pthread_mutex_unlock(&fault->mutex);
}

void fault_io_rot(struct fault_io *fault, uint64_t offset, uint8_t mask)
{
    pthread_mutex_lock(&fault->mutex);
    fault->rot_offset = offset;
    fault->rot_mask = mask;
    pthread_mutex_unlock(&fault->mutex);
}

/* What a disk makes of `size` bytes read from `offset`. */
static void rot(struct fault_io *fault, uint8_t *data, int64_t size, uint64_t offset)
{
    pthread_mutex_lock(&fault->mutex);
    if (size > 0 && fault->rot_offset >= offset && fault->rot_offset - offset < (uint64_t)size)
        data[fault->rot_offset - offset] ^= fault->rot_mask;
    pthread_mutex_unlock(&fault->mutex);
}

void fault_io_set_space(struct fault_io *fault, uint64_t total_bytes, uint64_t free_bytes)
{
    pthread_mutex_lock(&fault->mutex);
    fault->total_bytes = total_bytes;
    fault->free_bytes = free_bytes;
    pthread_mutex_unlock(&fault->mutex);
}

uint64_t fault_io_count(struct fault_io *fault, enum fault_call call)
{
    uint64_t count;

    pthread_mutex_lock(&fault->mutex);
    count = fault->counts[call];
    pthread_mutex_unlock(&fault->mutex);
    return count;
}

/* ---- the calls ---- */

static void fault_destroy(struct io *io)
{
    (void)io;
}

static int fault_open(struct io *io, struct io_file *directory, const char *name, int flags,
                      mode_t mode, struct io_file **ret_file)
{
    int error = attempt(io, FAULT_OPEN, NULL);

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
    int error = attempt(io, FAULT_READ, &size);
    int64_t count;

    if (error != 0)
        return error;
    count = inner_of(io)->ops->read(inner_of(io), file, data, size, offset);
    rot(fault_of(io), data, count, offset);
    return count;
}

static int64_t fault_write(struct io *io, struct io_file *file, const void *data, size_t size,
                           uint64_t offset)
{
    int error = attempt(io, FAULT_WRITE, &size);

    if (error != 0)
        return error;
    return inner_of(io)->ops->write(inner_of(io), file, data, size, offset);
}

static void fault_read_batch(struct io *io, struct io_read *reads, size_t count)
{
    for (size_t i = 0; i < count; i++)
        reads[i].result =
            fault_read(io, reads[i].file, reads[i].data, reads[i].size_bytes, reads[i].offset);
}

static int fault_sync(struct io *io, struct io_file *file, bool data_only)
{
    int error = attempt(io, FAULT_SYNC, NULL);

    return error != 0 ? error : inner_of(io)->ops->sync(inner_of(io), file, data_only);
}

static int fault_sync_filesystem(struct io *io, struct io_file *file)
{
    int error = attempt(io, FAULT_SYNC, NULL);

    return error != 0 ? error : inner_of(io)->ops->sync_filesystem(inner_of(io), file);
}

static int fault_truncate(struct io *io, struct io_file *file, uint64_t size)
{
    int error = attempt(io, FAULT_TRUNCATE, NULL);

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
    int error = attempt(io, FAULT_CHMOD, NULL);

    return error != 0 ? error : inner_of(io)->ops->chmod(inner_of(io), file, mode);
}

static int fault_mkdir(struct io *io, struct io_file *directory, const char *name, mode_t mode)
{
    return inner_of(io)->ops->mkdir(inner_of(io), directory, name, mode);
}

static int fault_unlink(struct io *io, struct io_file *directory, const char *name,
                        bool is_directory)
{
    int error = attempt(io, FAULT_UNLINK, NULL);

    if (error != 0)
        return error;
    return inner_of(io)->ops->unlink(inner_of(io), directory, name, is_directory);
}

static int fault_rename(struct io *io, struct io_file *from_directory, const char *from,
                        struct io_file *to_directory, const char *to)
{
    int error = attempt(io, FAULT_RENAME, NULL);

    if (error != 0)
        return error;
    return inner_of(io)->ops->rename(inner_of(io), from_directory, from, to_directory, to);
}

static int fault_link(struct io *io, struct io_file *from_directory, const char *from,
                      struct io_file *to_directory, const char *to)
{
    int error = attempt(io, FAULT_LINK, NULL);

    if (error != 0)
        return error;
    return inner_of(io)->ops->link(inner_of(io), from_directory, from, to_directory, to);
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
    return inner_of(io)->ops->clone(inner_of(io), from, to);
}

static int fault_space(struct io *io, struct io_file *file, struct statvfs *ret_space)
{
    struct fault_io *fault = fault_of(io);
    struct statvfs space;
    int error = attempt(io, FAULT_SPACE, NULL);

    if (error == 0)
        error = inner_of(io)->ops->space(inner_of(io), file, &space);
    if (error != 0)
        return error;
    pthread_mutex_lock(&fault->mutex);
    if (fault->free_bytes != UINT64_MAX) {
        space.f_frsize = 1;
        space.f_blocks = (fsblkcnt_t)fault->total_bytes;
        space.f_bfree = space.f_bavail = (fsblkcnt_t)fault->free_bytes;
    }
    pthread_mutex_unlock(&fault->mutex);
    *ret_space = space;
    return 0;
}

static int fault_path(struct io *io, struct io_file *file, char *to, size_t size)
{
    return inner_of(io)->ops->path(inner_of(io), file, to, size);
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
    .path = fault_path,
};

struct fault_io *fault_io_new(struct io *inner)
{
    struct fault_io *fault = calloc(1, sizeof *fault);

    if (fault == NULL)
        abort();
    fault->io.ops = &fault_ops;
    fault->inner = inner;
    fault->free_bytes = UINT64_MAX;
    pthread_mutex_init(&fault->mutex, NULL);
    pthread_cond_init(&fault->changed, NULL);
    return fault;
}

void fault_io_free(struct fault_io *fault)
{
    if (fault == NULL)
        return;
    pthread_cond_destroy(&fault->changed);
    pthread_mutex_destroy(&fault->mutex);
    free(fault);
}

struct io *fault_io_get(struct fault_io *fault)
{
    return &fault->io;
}
