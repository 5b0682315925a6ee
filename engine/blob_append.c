/* SPDX-License-Identifier: Apache-2.0 */
/*
 * blob_append.c - frames into buffers: compressed where it pays, one behind the other, in chunks
 */
#include <errno.h>
#include <stdlib.h>

#include "engine/base/blocking.h"
#include "engine/base/checksum.h"
#include "engine/base/invariant.h"
#include "engine/base/scratch.h"
#include "engine/blob_stream.h"

/* Compressing this much takes long enough for the thread to say that it waits. */
#define BLOCKING_SIZE (32 * 1024)

/* ---- the open chunk ---- */

static void end_open_chunk_locked(struct blob_writer *writer)
{
    writer->open->is_ended = true;
    writer->open = NULL;
    pthread_cond_signal(&writer->work);
}

/* `chunk` takes the appends from now on; its id is above all others. */
static void start_chunk_locked(struct blob_writer *writer, struct blob_chunk *chunk)
{
    struct blob_chunk **link = &writer->chunks;

    invariant(chunk->id > writer->last_id);
    while (*link != NULL)
        link = &(*link)->next;
    *link = chunk;
    writer->open = chunk;
    writer->last_id = chunk->id;
    writer->has_prepare_failed = false;
    blob_writer_update_lowest_locked(writer);
}

/*
 * See that there is an open chunk: the one prepared ahead, or a new one, whose file is made when it
 * is first written. Ids are allocated without the lock, so another thread may be faster, and even
 * start and end a chunk with a higher id; what was made in vain is dropped, for ids only rise.
 */
static int ensure_open_locked(struct blob_writer *writer)
{
    while (writer->open == NULL) {
        struct blob_chunk *made;
        uint64_t id;

        if (writer->next != NULL) {
            made = writer->next;
            writer->next = NULL;
            start_chunk_locked(writer, made);
            break;
        }
        lock_release(&writer->lock);
        id = writer->options.allocate_id(writer->options.context);
        made = blob_chunk_new(writer, id);
        lock_acquire(&writer->lock);
        if (made == NULL)
            return -ENOMEM;
        if (writer->open == NULL && writer->next == NULL && id > writer->last_id)
            start_chunk_locked(writer, made);
        else
            blob_chunk_unref_locked(writer, made);
    }
    return 0;
}

/* ---- appending ---- */

/* A frame on its way: what is stored, and the reference but for its place. */
struct frame {
    const uint8_t *stored;
    struct blob_ref ref;
};

/* `room`: `size` bytes, for what is compressed; NULL: nothing is. */
static int encode_frame(struct blob_writer *writer, const uint8_t *data, uint32_t size,
                        uint8_t *room, struct frame *frame)
{
    struct blob_ref *ref = &frame->ref;
    ptrdiff_t stored_size = 0;

    if (room != NULL) {
        stored_size = codec_compress(room, size, data, size, writer->options.compression_level,
                                     &writer->history);
        if (stored_size < 0)
            return (int)stored_size;
        frame->stored = room;
    }
    ref->raw_size = size;
    ref->skip = 0;
    ref->length = size;
    if (stored_size > 0) {
        ref->codec = CODEC_ZSTD;
        ref->stored_size = (uint32_t)stored_size;
        ref->frame_checksum = checksum64(frame->stored, (size_t)stored_size);
        return 0;
    }
    frame->stored = data; /* not the room */
    ref->codec = CODEC_NONE;
    ref->stored_size = size;
    for (uint32_t at = 0; at < size; at += BLOB_BLOCK_SIZE) {
        uint32_t left = size - at;

        ref->block_checksums[at / BLOB_BLOCK_SIZE] =
            checksum32(data + at, left < BLOB_BLOCK_SIZE ? left : BLOB_BLOCK_SIZE);
    }
    return 0;
}

static bool is_space_short_locked(const struct blob_writer *writer, uint32_t size)
{
    return writer->statistics.pending_bytes + size > writer->space_bytes;
}

/* A full file system is told here, where it can be answered, not when data already acknowledged
 * cannot be written. */
static int check_space_locked(struct blob_writer *writer, uint32_t size)
{
    uint64_t space_bytes;

    if (!is_space_short_locked(writer, size))
        return 0;
    lock_release(&writer->lock);
    space_bytes = blob_writer_free_space(writer);
    lock_acquire(&writer->lock);
    writer->space_bytes = space_bytes;
    return is_space_short_locked(writer, size) ? -ENOSPC : 0;
}

static uint64_t frame_position(const struct blob_chunk *chunk, const struct blob_ref *ref)
{
    if (ref->codec == CODEC_NONE && ref->raw_size >= BLOB_BLOCK_SIZE)
        return (chunk->end + BLOB_BLOCK_SIZE - 1) & ~(uint64_t)(BLOB_BLOCK_SIZE - 1);
    return chunk->end;
}

static uint64_t buffered_end(const struct blob_chunk *chunk)
{
    return chunk->last != NULL ? chunk->last->position + BLOB_BUFFER_SIZE : chunk->written;
}

static void add_buffer_locked(struct blob_writer *writer, struct blob_chunk *chunk)
{
    struct blob_buffer *buffer = writer->free_buffers;
    uint64_t position = buffered_end(chunk);

    writer->free_buffers = buffer->next;
    buffer->next = NULL;
    buffer->position = position;
    if (chunk->last != NULL)
        chunk->last->next = buffer;
    else
        chunk->first = buffer;
    chunk->last = buffer;
    if (position == 0)
        memcpy(buffer->data, chunk->tail, CHUNK_HEADER_SIZE);
}

/*
 * An open chunk with buffers for the frame. Waits for a buffer with the lock released; the open
 * chunk may be another one afterwards, so everything is looked at again.
 */
static int reserve_locked(struct blob_writer *writer, const struct blob_ref *ref)
{
    for (;;) {
        int error = writer->error;

        if (error == 0)
            error = check_space_locked(writer, ref->stored_size);
        if (error == 0)
            error = ensure_open_locked(writer);
        if (error < 0)
            return error;
        if (frame_position(writer->open, ref) + ref->stored_size <= buffered_end(writer->open))
            return 0;
        if (writer->free_buffers != NULL) {
            add_buffer_locked(writer, writer->open);
            return 0;
        }
        writer->statistics.waits++;
        lock_release(&writer->lock);
        blocking_enter();
        lock_acquire(&writer->lock);
        while (writer->free_buffers == NULL && writer->error == 0 && writer->shortage == 0)
            lock_wait(&writer->lock, &writer->room);
        if (writer->free_buffers == NULL && writer->shortage != 0)
            return writer->shortage;
    }
}

/* Copy into the chunk's last buffers; `from` may be NULL for zeros. */
static void copy_in(struct blob_chunk *chunk, uint64_t position, const uint8_t *from, size_t size)
{
    struct blob_buffer *buffer = chunk->last;

    if (position < buffer->position) {
        /* Begins in the buffer before: the list is short, and this is once a MiB. */
        for (buffer = chunk->first; position >= buffer->position + BLOB_BUFFER_SIZE;)
            buffer = buffer->next;
    }
    while (size > 0) {
        size_t at = (size_t)(position - buffer->position);
        size_t part = BLOB_BUFFER_SIZE - at < size ? BLOB_BUFFER_SIZE - at : size;

        if (from != NULL) {
            memcpy(buffer->data + at, from, part);
            from += part;
        } else {
            memset(buffer->data + at, 0, part);
        }
        position += part;
        size -= part;
        buffer = buffer->next;
    }
}

static void append_locked(struct blob_writer *writer, struct frame *frame)
{
    struct blob_chunk *chunk = writer->open;
    struct blob_writer_statistics *statistics = &writer->statistics;
    struct blob_ref *ref = &frame->ref;
    uint64_t position = frame_position(chunk, ref);
    uint64_t end = position + ref->stored_size;

    if (position > chunk->end)
        copy_in(chunk, chunk->end, NULL, (size_t)(position - chunk->end));
    copy_in(chunk, position, frame->stored, ref->stored_size);
    statistics->frames++;
    statistics->raw_bytes += ref->raw_size;
    statistics->stored_bytes += ref->stored_size;
    statistics->pending_bytes += end - chunk->end;
    if (statistics->pending_bytes > statistics->pending_peak_bytes)
        statistics->pending_peak_bytes = statistics->pending_bytes;
    chunk->end = end;
    chunk->frames++;
    ref->chunk_id = chunk->id;
    ref->position = position;

    if (end >= writer->options.chunk_size_bytes)
        end_open_chunk_locked(writer);
    else if (end >= chunk->first->position + BLOB_BUFFER_SIZE ||
             (writer->next == NULL && !writer->has_prepare_failed &&
              end > writer->options.chunk_size_bytes / 2))
        pthread_cond_signal(&writer->work);
}

static int append_frame(struct blob_writer *writer, struct frame *frame, struct blob_ref *ret_ref)
{
    int error;

    lock_acquire(&writer->lock);
    error = reserve_locked(writer, &frame->ref);
    if (error == 0)
        append_locked(writer, frame);
    lock_release(&writer->lock);
    if (error == 0)
        *ret_ref = frame->ref;
    return error;
}

int blob_writer_append(struct blob_writer *writer, const void *data, uint32_t size,
                       enum blob_effort effort, struct blob_ref *ret_ref)
{
    struct frame frame = {.stored = data};
    uint8_t *room = NULL;
    int error;

    invariant(size >= 1 && size <= BLOB_FRAME_SIZE_MAX);
    if (writer->options.compression_level != 0 && effort == BLOB_COMPRESS) {
        room = scratch_get(size);
        if (room == NULL)
            return -ENOMEM;
        if (size >= BLOCKING_SIZE)
            blocking_enter();
    }
    error = encode_frame(writer, data, size, room, &frame);
    return error < 0 ? error : append_frame(writer, &frame, ret_ref);
}

/* ---- whole frames, several at once ---- */

struct encoding {
    struct blob_writer *writer;
    const uint8_t *data;
    uint8_t *room;
    struct frame frames[BLOB_APPEND_FRAMES_MAX];
    int errors[BLOB_APPEND_FRAMES_MAX];
};

static void encode_part(void *context, size_t part)
{
    struct encoding *encoding = context;
    size_t at = part * BLOB_FRAME_SIZE_MAX;

    encoding->errors[part] =
        encode_frame(encoding->writer, encoding->data + at, BLOB_FRAME_SIZE_MAX,
                     encoding->room != NULL ? encoding->room + at : NULL, &encoding->frames[part]);
}

int blob_writer_append_frames(struct blob_writer *writer, const void *data, size_t count,
                              struct blob_ref *ret_refs)
{
    struct encoding encoding = {.writer = writer, .data = data};
    int error = 0;

    invariant(count >= 1 && count <= BLOB_APPEND_FRAMES_MAX);
    if (writer->options.compression_level != 0) {
        encoding.room = scratch_get(count * BLOB_FRAME_SIZE_MAX);
        if (encoding.room == NULL)
            return -ENOMEM;
        blocking_enter();
    }
    /* What is not even tried to compress is done before a helper is awake. */
    crew_run(codec_history_tries(&writer->history) ? writer->options.crew : NULL, encode_part,
             &encoding, count);
    for (size_t i = 0; i < count && error == 0; i++) {
        error = encoding.errors[i];
        if (error == 0)
            error = append_frame(writer, &encoding.frames[i], &ret_refs[i]);
    }
    return error;
}

uint64_t blob_writer_roll(struct blob_writer *writer)
{
    uint64_t id;

    lock_acquire(&writer->lock);
    if (writer->open != NULL && writer->open->frames > 0)
        end_open_chunk_locked(writer);
    /* A chunk that was begun for a frame which still waits for room stays open: it comes later. */
    id = writer->open != NULL ? writer->open->id - 1 : writer->last_id;
    lock_release(&writer->lock);
    return id;
}

uint64_t blob_writer_last_id(struct blob_writer *writer)
{
    uint64_t id;

    lock_acquire(&writer->lock);
    id = writer->last_id;
    lock_release(&writer->lock);
    return id;
}
