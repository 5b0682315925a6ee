/* SPDX-License-Identifier: Apache-2.0 */
/*
 * blob_writer.c - the life of a writer and its chunks, and what they hold, read back
 */
#include "engine/blob_writer.h"

#include <errno.h>
#include <stdlib.h>

#include "engine/base/checksum.h"
#include "engine/base/error.h"
#include "engine/base/invariant.h"
#include "engine/blob_stream.h"

#define TAIL_SIZE (2 * BLOB_BLOCK_SIZE)

/* ---- chunks ---- */

struct blob_chunk *blob_chunk_new(struct blob_writer *writer, uint64_t id)
{
    struct blob_chunk *chunk = calloc(1, sizeof *chunk);

    if (chunk == NULL)
        return NULL;
    chunk->id = id;
    chunk->references = 1;
    chunk->end = CHUNK_HEADER_SIZE;
    /* Recovery can write the header itself. */
    chunk->covered = CHUNK_HEADER_SIZE;
    chunk->hash = checksum_stream_new();
    chunk->tail = io_allocate_aligned(TAIL_SIZE);
    if (chunk->hash == NULL || chunk->tail == NULL) {
        blob_chunk_free(writer, chunk);
        return NULL;
    }
    chunk_header_encode(chunk->tail, CHUNK_BLOB, writer->store_uuid, id);
    return chunk;
}

void blob_chunk_free(struct blob_writer *writer, struct blob_chunk *chunk)
{
    if (chunk == NULL)
        return;
    io_close(writer->options.io, chunk->file);
    io_close(writer->options.io, chunk->reader);
    read_around_free(&chunk->around);
    checksum_stream_free(chunk->hash);
    free(chunk->tail);
    free(chunk);
}

void blob_chunk_unref_locked(struct blob_writer *writer, struct blob_chunk *chunk)
{
    invariant(chunk->references > 0);
    if (--chunk->references > 0)
        return;
    lock_release(&writer->lock);
    blob_chunk_free(writer, chunk);
    lock_acquire(&writer->lock);
}

struct blob_chunk *blob_writer_find_locked(struct blob_writer *writer, uint64_t chunk_id)
{
    for (struct blob_chunk *chunk = writer->chunks; chunk != NULL; chunk = chunk->next) {
        if (chunk->id == chunk_id)
            return chunk;
    }
    return NULL;
}

int blob_writer_latch_locked(struct blob_writer *writer, int error)
{
    if (writer->error == 0)
        writer->error = error;
    pthread_cond_broadcast(&writer->room);
    pthread_cond_broadcast(&writer->changed);
    return writer->error;
}

void blob_writer_update_lowest_locked(struct blob_writer *writer)
{
    uint64_t id = writer->chunks != NULL ? writer->chunks->id : UINT64_MAX;

    atomic_store_explicit(&writer->lowest_id, id, memory_order_release);
}

/* ---- reading back ---- */

/* Copy [position, position + size), all of which lies in buffers. */
static void copy_out(const struct blob_chunk *chunk, uint64_t position, size_t size, uint8_t *to)
{
    const struct blob_buffer *buffer = chunk->first;

    while (size > 0) {
        size_t at, part;

        while (position >= buffer->position + BLOB_BUFFER_SIZE)
            buffer = buffer->next;
        at = (size_t)(position - buffer->position);
        part = BLOB_BUFFER_SIZE - at < size ? BLOB_BUFFER_SIZE - at : size;
        memcpy(to, buffer->data + at, part);
        position += part;
        size -= part;
        to += part;
    }
}

int blob_writer_read(struct blob_writer *writer, uint64_t chunk_id, uint64_t position,
                     uint32_t size, void *to)
{
    struct blob_chunk *chunk;
    uint64_t buffered_from, written;
    uint32_t from_file;
    int error = 0;

    /* Most reads are of sealed chunks: let them pass without the lock. */
    if (chunk_id < atomic_load_explicit(&writer->lowest_id, memory_order_acquire))
        return 0;
    lock_acquire(&writer->lock);
    chunk = blob_writer_find_locked(writer, chunk_id);
    if (chunk == NULL) {
        lock_release(&writer->lock);
        return 0;
    }
    if (position > chunk->end || size > chunk->end - position) {
        lock_release(&writer->lock);
        return ERROR_TRUNCATED;
    }
    buffered_from = chunk->first != NULL ? chunk->first->position : chunk->end;
    if (position >= buffered_from)
        from_file = 0;
    else
        from_file = buffered_from - position < size ? (uint32_t)(buffered_from - position) : size;
    if (from_file < size)
        copy_out(chunk, position + from_file, size - from_file, (uint8_t *)to + from_file);
    if (from_file > 0) {
        chunk->references++;
        written = chunk->written;
        lock_release(&writer->lock);
        error = io_read_exact(writer->options.io, chunk->reader, to, from_file, position);
        if (error == 0)
            read_around(&chunk->around, writer->options.around, writer->options.io, chunk->reader,
                        position, from_file, written);
        lock_acquire(&writer->lock);
        blob_chunk_unref_locked(writer, chunk);
    }
    lock_release(&writer->lock);
    return error < 0 ? error : 1;
}

void blob_writer_forget(struct blob_writer *writer, uint64_t chunk_id)
{
    struct blob_chunk **link = &writer->chunks;

    lock_acquire(&writer->lock);
    while (*link != NULL && (*link)->id != chunk_id)
        link = &(*link)->next;
    if (*link != NULL) {
        struct blob_chunk *chunk = *link;

        invariant(chunk->is_sealed);
        *link = chunk->next;
        chunk->next = NULL;
        blob_writer_update_lowest_locked(writer);
        blob_chunk_unref_locked(writer, chunk);
    }
    lock_release(&writer->lock);
}

/* ---- pieces for the log ---- */

/* How much of the chunk is not durable anywhere; -E2BIG when some of it has left the buffers. */
static int64_t pending_of_locked(const struct blob_chunk *chunk, uint64_t *ret_from)
{
    uint64_t from = chunk->covered > chunk->synced ? chunk->covered : chunk->synced;

    if (from >= chunk->end)
        return 0;
    if (chunk->first == NULL || from < chunk->first->position)
        return -E2BIG;
    *ret_from = from;
    return (int64_t)(chunk->end - from);
}

static int check_pieces_locked(const struct blob_writer *writer, uint64_t up_to_id,
                               size_t limit_bytes, int room)
{
    uint64_t total = 0, from;
    int count = 0;

    for (const struct blob_chunk *chunk = writer->chunks; chunk != NULL && chunk->id <= up_to_id;
         chunk = chunk->next) {
        int64_t size = pending_of_locked(chunk, &from);

        if (size < 0)
            return (int)size;
        total += (uint64_t)size;
        count += size > 0;
    }
    return total > limit_bytes || count > room ? -E2BIG : count;
}

int blob_writer_take_pieces(struct blob_writer *writer, uint64_t up_to_id, size_t limit_bytes,
                            struct blob_piece *pieces, int room)
{
    uint8_t *to;
    uint64_t from = 0;
    int count;

    if (buffer_reserve(&writer->pieces, limit_bytes) < 0)
        return -ENOMEM;
    to = writer->pieces.data;
    lock_acquire(&writer->lock);
    count = writer->error;
    if (count == 0)
        count = check_pieces_locked(writer, up_to_id, limit_bytes, room);
    if (count > 0) {
        for (struct blob_chunk *chunk = writer->chunks; chunk != NULL && chunk->id <= up_to_id;
             chunk = chunk->next) {
            int64_t size = pending_of_locked(chunk, &from);

            if (size <= 0)
                continue;
            copy_out(chunk, from, (size_t)size, to);
            *pieces++ = (struct blob_piece){chunk->id, from, (uint32_t)size, to};
            to += size;
            chunk->covered = chunk->end;
        }
    }
    lock_release(&writer->lock);
    return count;
}

void blob_writer_return_pieces(struct blob_writer *writer, const struct blob_piece *pieces,
                               int count)
{
    lock_acquire(&writer->lock);
    for (int i = 0; i < count; i++) {
        struct blob_chunk *chunk = blob_writer_find_locked(writer, pieces[i].chunk_id);

        if (chunk != NULL && chunk->covered == pieces[i].position + pieces[i].size)
            chunk->covered = pieces[i].position;
    }
    lock_release(&writer->lock);
}

int blob_writer_error(struct blob_writer *writer)
{
    int error;

    lock_acquire(&writer->lock);
    error = writer->error;
    lock_release(&writer->lock);
    return error;
}

/* ---- open, close, numbers ---- */

static int allocate_buffers(struct blob_writer *writer)
{
    uint32_t count = writer->options.buffer_count;

    /* One piece, so that all of it may lie in huge pages. */
    writer->buffers = calloc(count, sizeof *writer->buffers);
    writer->buffer_memory = io_allocate_aligned((count + UINT64_C(1)) * BLOB_BUFFER_SIZE);
    if (writer->buffers == NULL || writer->buffer_memory == NULL)
        return -ENOMEM;
    writer->bounce = writer->buffer_memory + count * BLOB_BUFFER_SIZE;
    for (uint32_t i = 0; i < count; i++) {
        writer->buffers[i].data = writer->buffer_memory + i * BLOB_BUFFER_SIZE;
        writer->buffers[i].next = writer->free_buffers;
        writer->free_buffers = &writer->buffers[i];
    }
    return 0;
}

int blob_writer_open(const struct blob_writer_options *options, struct blob_writer **ret_writer)
{
    struct blob_writer *writer;
    int error;

    if (options->buffer_count < 2 || options->chunk_size_bytes > INT64_MAX / 2)
        return -EINVAL;
    writer = calloc(1, sizeof *writer);
    if (writer == NULL)
        return -ENOMEM;
    writer->options = *options;
    memcpy(writer->store_uuid, options->store_uuid, STORE_UUID_SIZE);
    writer->options.store_uuid = writer->store_uuid;
    lock_init(&writer->lock, LOCK_RANK_BLOB);
    lock_condition_init(&writer->work);
    lock_condition_init(&writer->ahead);
    lock_condition_init(&writer->room);
    lock_condition_init(&writer->changed);
    blob_writer_update_lowest_locked(writer);
    error = allocate_buffers(writer);
    if (error == 0) {
        writer->space_bytes = blob_writer_free_space(writer);
        error = -pthread_create(&writer->thread, NULL, blob_writer_thread, writer);
        writer->has_thread = error == 0;
        if (error == 0)
            (void)pthread_setname_np(writer->thread, "varve-blob");
    }
    if (error == 0 && options->sync_ahead_bytes > 0) {
        error = -pthread_create(&writer->sync_thread, NULL, blob_writer_sync_thread, writer);
        writer->has_sync_thread = error == 0;
        if (error == 0)
            (void)pthread_setname_np(writer->sync_thread, "varve-ahead");
    }
    if (error < 0) {
        blob_writer_close(writer);
        return error;
    }
    *ret_writer = writer;
    return 0;
}

static void stop_threads(struct blob_writer *writer)
{
    lock_acquire(&writer->lock);
    writer->must_stop = true;
    pthread_cond_signal(&writer->work);
    pthread_cond_signal(&writer->ahead);
    pthread_cond_broadcast(&writer->changed);
    lock_release(&writer->lock);
    if (writer->has_thread)
        pthread_join(writer->thread, NULL);
    if (writer->has_sync_thread)
        pthread_join(writer->sync_thread, NULL);
}

void blob_writer_abandon(struct blob_writer *writer)
{
    lock_acquire(&writer->lock);
    writer->is_abandoned = true;
    lock_release(&writer->lock);
}

void blob_writer_close(struct blob_writer *writer)
{
    if (writer == NULL)
        return;
    stop_threads(writer);
    blob_chunk_discard(writer, writer->next);
    while (writer->chunks != NULL) {
        struct blob_chunk *chunk = writer->chunks;

        writer->chunks = chunk->next;
        if (writer->is_abandoned && !chunk->is_sealed)
            blob_chunk_discard(writer, chunk);
        else
            blob_chunk_free(writer, chunk);
    }
    pthread_cond_destroy(&writer->work);
    pthread_cond_destroy(&writer->ahead);
    pthread_cond_destroy(&writer->room);
    pthread_cond_destroy(&writer->changed);
    lock_destroy(&writer->lock);
    buffer_free(&writer->pieces);
    free(writer->buffers);
    free(writer->buffer_memory);
    free(writer);
}

void blob_writer_get_statistics(struct blob_writer *writer, struct blob_writer_statistics *ret)
{
    lock_acquire(&writer->lock);
    *ret = writer->statistics;
    lock_release(&writer->lock);
}
