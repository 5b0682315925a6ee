/* SPDX-License-Identifier: Apache-2.0 */
/*
 * blob_flush.c - from buffers to files: the thread, and syncs
 *
 * The thread writes buffers that are full and what is left of chunks that ended; the last, partly
 * filled block of an open chunk is written only when somebody syncs, padded with zeros, and again
 * as the stream goes on (with the same bytes in front). That block goes through a bounce buffer:
 * the memory of a direct write must not change under it, and appends go on behind the end.
 *
 * A second thread syncs while a stream goes on. Without it a commit, and a checkpoint with it, would
 * wait for all that was streamed since the last one, as long as that takes the disk.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "engine/base/blocking.h"
#include "engine/base/checksum.h"
#include "engine/base/error.h"
#include "engine/base/invariant.h"
#include "engine/base/log.h"
#include "engine/blob_stream.h"

/* So much of the file system is left to the log, the tables and the manifest: deleting and
 * truncating need them also when the disk is full. A small file system gives a 64th. */
#define SPACE_RESERVE_MAX   ((uint64_t)64 * 1024 * 1024)
#define SPACE_RESERVE_SHARE 64

/* Up to here, one write of copied bytes is cheaper than two writes. */
#define COPY_SIZE_MAX (128 * 1024)

#define OPEN_MODE 0600

/* So often the thread tries again to write what met a full disk. */
#define SHORTAGE_RETRY_NS UINT64_C(200000000)

/* After a sync ahead the disk is left to others for so many times as long as it took. */
#define SYNC_AHEAD_REST 3

static uint64_t round_down(uint64_t value)
{
    return value & ~(uint64_t)(BLOB_BLOCK_SIZE - 1);
}

static uint64_t round_up(uint64_t value)
{
    return round_down(value + BLOB_BLOCK_SIZE - 1);
}

uint64_t blob_writer_free_space(struct blob_writer *writer)
{
    struct statvfs space;
    uint64_t free_bytes, reserve;

    if (io_space(writer->options.io, writer->options.chunk_directory, &space) < 0)
        return UINT64_MAX; /* unknown: the writes will say */
    free_bytes = (uint64_t)space.f_bavail * space.f_frsize;
    reserve = (uint64_t)space.f_blocks * space.f_frsize / SPACE_RESERVE_SHARE;
    if (reserve > SPACE_RESERVE_MAX)
        reserve = SPACE_RESERVE_MAX;
    return free_bytes > reserve ? free_bytes - reserve : 0;
}

int blob_chunk_create_file(struct blob_writer *writer, struct blob_chunk *chunk)
{
    const struct blob_writer_options *options = &writer->options;
    struct io_file *file, *reader;
    char name[CHUNK_NAME_SIZE];
    int error;

    chunk_open_name(name, chunk->id);
    error = io_open(options->io, options->chunk_directory, name,
                    IO_OPEN_WRITE | IO_OPEN_CREATE | IO_OPEN_DIRECT, OPEN_MODE, &file);
    if (error < 0)
        return error;
    error = io_open(options->io, options->chunk_directory, name, IO_OPEN_READ, 0, &reader);
    if (error < 0) {
        io_close(options->io, file);
        (void)io_unlink(options->io, options->chunk_directory, name);
        return error;
    }
    chunk->file = file;
    chunk->reader = reader;
    return 0;
}

void blob_chunk_discard(struct blob_writer *writer, struct blob_chunk *chunk)
{
    char name[CHUNK_NAME_SIZE];

    if (chunk == NULL)
        return;
    if (chunk->file != NULL) {
        chunk_open_name(name, chunk->id);
        (void)io_unlink(writer->options.io, writer->options.chunk_directory, name);
    }
    blob_chunk_free(writer, chunk);
}

int blob_chunk_latch_locked(struct blob_writer *writer, const struct blob_chunk *chunk, int error,
                            const char *what)
{
    if (writer->error == 0)
        log_error("blob chunk %016" PRIx64 ": %s: %s", chunk->id, what, error_text(error));
    return blob_writer_latch_locked(writer, error);
}

int blob_chunk_failed_locked(struct blob_writer *writer, const struct blob_chunk *chunk, int error,
                             const char *what)
{
    if (!error_is_shortage(error))
        return blob_chunk_latch_locked(writer, chunk, error, what);
    if (writer->shortage == 0)
        log_warning("blob chunk %016" PRIx64 ": %s: %s; it will be tried again", chunk->id, what,
                    error_text(error));
    writer->shortage = error;
    pthread_cond_broadcast(&writer->room);
    return error;
}

/* ---- the writing role ---- */

void blob_writer_take_role_locked(struct blob_writer *writer)
{
    writer->role_waiters++;
    while (writer->is_writing)
        lock_wait(&writer->lock, &writer->changed);
    writer->role_waiters--;
    writer->is_writing = true;
}

void blob_writer_leave_role_locked(struct blob_writer *writer)
{
    invariant(writer->is_writing);
    writer->is_writing = false;
    pthread_cond_broadcast(&writer->changed);
    pthread_cond_signal(&writer->work);
}

/* Bytes [from, to) of `buffer`, all final, and what precedes them in their first block. */
static int write_bytes(struct blob_writer *writer, struct blob_chunk *chunk,
                       const struct blob_buffer *buffer, uint64_t from, uint64_t to)
{
    struct io *io = writer->options.io;
    const uint8_t *data = buffer->data;
    uint64_t start = round_down(from);
    uint64_t copy_from = round_down(to);
    size_t copy_size;
    int error;

    if (to != copy_from && to - start <= COPY_SIZE_MAX)
        copy_from = start;
    if (copy_from > start) {
        error = io_write(io, chunk->file, data + (start - buffer->position),
                         (size_t)(copy_from - start), start);
        if (error < 0)
            return error;
    }
    if (copy_from == to)
        return 0;
    copy_size = (size_t)(to - copy_from);
    memcpy(writer->bounce, data + (copy_from - buffer->position), copy_size);
    memset(writer->bounce + copy_size, 0, (size_t)(round_up(to) - to));
    return io_write(io, chunk->file, writer->bounce, (size_t)(round_up(to) - copy_from), copy_from);
}

static int write_unlocked(struct blob_writer *writer, struct blob_chunk *chunk,
                          const struct blob_buffer *buffer, uint64_t from, uint64_t to)
{
    int error = 0;

    if (chunk->file == NULL)
        error = blob_chunk_create_file(writer, chunk);
    if (error == 0)
        error = write_bytes(writer, chunk, buffer, from, to);
    if (error == 0)
        checksum_stream_update(chunk->hash, buffer->data + (from - buffer->position),
                               (size_t)(to - from));
    return error;
}

/* The first buffer is of no use any more. What a trailer will share a block with is kept. */
static void free_first_buffer_locked(struct blob_writer *writer, struct blob_chunk *chunk)
{
    struct blob_buffer *buffer = chunk->first;
    uint64_t block = round_down(chunk->written);

    if (chunk->is_ended && chunk->written == chunk->end && block < chunk->end)
        memcpy(chunk->tail, buffer->data + (block - buffer->position),
               (size_t)(chunk->end - block));
    chunk->first = buffer->next;
    if (chunk->first == NULL)
        chunk->last = NULL;
    buffer->next = writer->free_buffers;
    writer->free_buffers = buffer;
    pthread_cond_broadcast(&writer->room);
}

static bool is_sync_ahead_due(const struct blob_writer *writer, const struct blob_chunk *chunk)
{
    return writer->options.sync_ahead_bytes > 0 && !chunk->is_syncing && !chunk->is_sealed &&
           chunk->written - chunk->synced >= writer->options.sync_ahead_bytes;
}

static bool is_first_buffer_done(const struct blob_chunk *chunk)
{
    if (chunk->first == NULL)
        return false;
    return chunk->written == chunk->first->position + BLOB_BUFFER_SIZE ||
           (chunk->is_ended && chunk->written == chunk->end);
}

/* One step, of one buffer at most, towards `target`. With the role. */
static int write_step_locked(struct blob_writer *writer, struct blob_chunk *chunk, uint64_t target)
{
    struct blob_buffer *buffer = chunk->first;
    uint64_t from = chunk->written, to, space_bytes;
    int error;

    if (from < target) {
        invariant(buffer != NULL && from >= buffer->position && target <= chunk->end);
        to = buffer->position + BLOB_BUFFER_SIZE;
        if (to > target)
            to = target;
        lock_release(&writer->lock);
        error = write_unlocked(writer, chunk, buffer, from, to);
        space_bytes = blob_writer_free_space(writer);
        lock_acquire(&writer->lock);
        if (error < 0)
            return blob_chunk_failed_locked(writer, chunk, error, "write");
        writer->shortage = 0;
        writer->space_bytes = space_bytes;
        chunk->written = to;
        if (is_sync_ahead_due(writer, chunk))
            pthread_cond_signal(&writer->ahead);
        /* The header was never pending. */
        writer->statistics.pending_bytes -= to - (from > 0 ? from : CHUNK_HEADER_SIZE);
    }
    if (is_first_buffer_done(chunk))
        free_first_buffer_locked(writer, chunk);
    return 0;
}

int blob_chunk_write_locked(struct blob_writer *writer, struct blob_chunk *chunk, uint64_t target)
{
    int error = writer->error;

    while (error == 0 && (chunk->written < target || is_first_buffer_done(chunk)))
        error = write_step_locked(writer, chunk, target);
    return error;
}

/* ---- syncs ---- */

static int sync_file(struct blob_writer *writer, struct blob_chunk *chunk)
{
    struct io *io = writer->options.io;
    int error = 0;

    if (!chunk->is_entry_synced)
        error = io_sync(io, writer->options.chunk_directory, false);
    if (error == 0) {
        chunk->is_entry_synced = true;
        error = io_sync(io, chunk->file, true);
    }
    return error;
}

int blob_chunk_sync_locked(struct blob_writer *writer, struct blob_chunk *chunk, uint64_t target)
{
    uint64_t written;
    int error;

    while (chunk->is_syncing)
        lock_wait(&writer->lock, &writer->changed);
    if (writer->error < 0 || chunk->synced >= target)
        return writer->error;
    written = chunk->written;
    invariant(target <= written && chunk->file != NULL);
    chunk->is_syncing = true;
    lock_release(&writer->lock);
    error = sync_file(writer, chunk);
    lock_acquire(&writer->lock);
    chunk->is_syncing = false;
    pthread_cond_broadcast(&writer->changed);
    if (error < 0)
        return blob_chunk_latch_locked(writer, chunk, error, "sync");
    invariant(chunk->synced <= written && written <= chunk->written);
    chunk->synced = written;
    return 0;
}

static bool is_durable(const struct blob_chunk *chunk)
{
    return chunk->covered >= chunk->end || chunk->synced >= chunk->end;
}

/* The first chunk above `id`, and not above `up_to`, with bytes that are not durable. */
static struct blob_chunk *find_undurable_locked(struct blob_writer *writer, uint64_t id,
                                                uint64_t up_to)
{
    for (struct blob_chunk *chunk = writer->chunks; chunk != NULL; chunk = chunk->next) {
        if (chunk->id > id && chunk->id <= up_to && !is_durable(chunk))
            return chunk;
    }
    return NULL;
}

/* Write the chunk up to where it ends now, then sync it: others may write during the sync. */
static int flush_chunk_locked(struct blob_writer *writer, struct blob_chunk *chunk)
{
    uint64_t target = chunk->end;
    int error = 0;

    if (chunk->written < target) {
        blob_writer_take_role_locked(writer);
        error = blob_chunk_write_locked(writer, chunk, target);
        blob_writer_leave_role_locked(writer);
    }
    return error < 0 ? error : blob_chunk_sync_locked(writer, chunk, target);
}

int blob_writer_sync(struct blob_writer *writer)
{
    struct blob_chunk *chunk;
    uint64_t id = 0, up_to;
    int error;

    lock_acquire(&writer->lock);
    up_to = writer->last_id;
    error = writer->error;
    if (error == 0 && find_undurable_locked(writer, 0, up_to) != NULL) {
        lock_release(&writer->lock);
        blocking_enter();
        lock_acquire(&writer->lock);
    }
    while (error == 0 && (chunk = find_undurable_locked(writer, id, up_to)) != NULL) {
        id = chunk->id;
        chunk->references++;
        error = flush_chunk_locked(writer, chunk);
        blob_chunk_unref_locked(writer, chunk);
    }
    lock_release(&writer->lock);
    return error;
}

/* ---- the thread ---- */

static bool has_work(const struct blob_chunk *chunk)
{
    if (chunk->first == NULL)
        return false;
    return chunk->is_ended || chunk->end >= chunk->first->position + BLOB_BUFFER_SIZE;
}

static struct blob_chunk *find_work_locked(struct blob_writer *writer)
{
    for (struct blob_chunk *chunk = writer->chunks; chunk != NULL; chunk = chunk->next) {
        if (has_work(chunk))
            return chunk;
    }
    return NULL;
}

static bool should_prepare_locked(const struct blob_writer *writer)
{
    return writer->open != NULL && writer->next == NULL && !writer->has_prepare_failed &&
           writer->open->end > writer->options.chunk_size_bytes / 2;
}

static int make_ahead(struct blob_writer *writer, struct blob_chunk **ret_chunk,
                      bool *ret_sync_failed)
{
    uint64_t id = writer->options.allocate_id(writer->options.context);
    struct blob_chunk *chunk = blob_chunk_new(writer, id);
    int error;

    if (chunk == NULL)
        return -ENOMEM;
    error = blob_chunk_create_file(writer, chunk);
    if (error == 0) {
        error = io_sync(writer->options.io, writer->options.chunk_directory, false);
        *ret_sync_failed = error < 0;
        chunk->is_entry_synced = error == 0;
    }
    if (error < 0) {
        blob_chunk_discard(writer, chunk);
        return error;
    }
    *ret_chunk = chunk;
    return 0;
}

/* Make the next chunk's file before it is needed, so that no sync has to wait for it. */
static void prepare_next_locked(struct blob_writer *writer)
{
    struct blob_chunk *chunk = NULL;
    bool sync_failed = false;
    int error;

    lock_release(&writer->lock);
    error = make_ahead(writer, &chunk, &sync_failed);
    lock_acquire(&writer->lock);
    if (error < 0) {
        /* Only a sync must not be tried again; the rest is, when the chunk is needed. */
        if (sync_failed)
            (void)blob_writer_latch_locked(writer, error);
        writer->has_prepare_failed = true;
    } else if (writer->next == NULL && chunk->id > writer->last_id) {
        writer->next = chunk;
    } else {
        lock_release(&writer->lock);
        blob_chunk_discard(writer, chunk);
        lock_acquire(&writer->lock);
    }
}

/* Write one buffer of the chunk, unless somebody who waits for the role comes first. */
static void work_locked(struct blob_writer *writer, struct blob_chunk *chunk)
{
    uint64_t target = chunk->end;

    if (!chunk->is_ended && chunk->first != NULL)
        target = chunk->first->position + BLOB_BUFFER_SIZE;
    writer->is_writing = true;
    chunk->references++;
    (void)write_step_locked(writer, chunk, target); /* an error is kept */
    blob_writer_leave_role_locked(writer);
    blob_chunk_unref_locked(writer, chunk);
}

/* Has it been long enough since the last attempt? Then the next one is this long from now. */
static bool is_retry_due(uint64_t *retry_ns)
{
    uint64_t now = clock_monotonic_ns();

    if (*retry_ns > now)
        return false;
    *retry_ns = now + SHORTAGE_RETRY_NS;
    return true;
}

void *blob_writer_thread(void *argument)
{
    struct blob_writer *writer = argument;
    uint64_t retry_ns = 0;

    lock_acquire(&writer->lock);
    while (!writer->must_stop) {
        struct blob_chunk *chunk = writer->error == 0 ? find_work_locked(writer) : NULL;

        if (writer->shortage != 0 && !is_retry_due(&retry_ns)) {
            lock_wait_until(&writer->lock, &writer->work, retry_ns);
            continue;
        }
        if (chunk != NULL && !writer->is_writing && writer->role_waiters == 0)
            work_locked(writer, chunk);
        else if (chunk == NULL && writer->error == 0 && should_prepare_locked(writer))
            prepare_next_locked(writer);
        else
            lock_wait(&writer->lock, &writer->work);
    }
    lock_release(&writer->lock);
    return NULL;
}

/* ---- the thread that syncs ahead ---- */

static struct blob_chunk *find_ahead_locked(struct blob_writer *writer)
{
    for (struct blob_chunk *chunk = writer->chunks; chunk != NULL; chunk = chunk->next) {
        if (is_sync_ahead_due(writer, chunk))
            return chunk;
    }
    return NULL;
}

/* Returns when the next one may begin. */
static uint64_t sync_ahead_locked(struct blob_writer *writer, struct blob_chunk *chunk)
{
    uint64_t begin_ns = clock_monotonic_ns(), end_ns;

    chunk->references++;
    (void)blob_chunk_sync_locked(writer, chunk, chunk->written); /* an error is kept */
    blob_chunk_unref_locked(writer, chunk);
    writer->statistics.syncs_ahead++;
    end_ns = clock_monotonic_ns();
    return end_ns + (end_ns - begin_ns) * SYNC_AHEAD_REST;
}

void *blob_writer_sync_thread(void *argument)
{
    struct blob_writer *writer = argument;
    uint64_t rest_ns = 0;

    lock_acquire(&writer->lock);
    while (!writer->must_stop) {
        struct blob_chunk *chunk = writer->error == 0 ? find_ahead_locked(writer) : NULL;

        if (chunk == NULL)
            lock_wait(&writer->lock, &writer->ahead);
        else if (clock_monotonic_ns() < rest_ns)
            lock_wait_until(&writer->lock, &writer->ahead, rest_ns);
        else
            rest_ns = sync_ahead_locked(writer, chunk);
    }
    lock_release(&writer->lock);
    return NULL;
}
