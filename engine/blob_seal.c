/* SPDX-License-Identifier: Apache-2.0 */
/*
 * blob_seal.c - the end of a chunk: trailer, fsync, read-only, final name
 *
 * The name carries the content's hash, so a chunk gets it when the content is on disk: fsync comes
 * before the rename, the directory's sync after it, and before a caller learns of the identity.
 */
#include <errno.h>
#include <stdlib.h>

#include "engine/base/blocking.h"
#include "engine/base/error.h"
#include "engine/base/invariant.h"
#include "engine/blob_stream.h"

#define SEALED_MODE 0444

static bool is_wanted(const struct blob_chunk *chunk, uint64_t up_to_id)
{
    return chunk->is_ended && chunk->id <= up_to_id;
}

/* Room for one identity more for each chunk that will be sealed: those that ended by now. Later
 * ones have higher ids, so lowering *up_to_id leaves them out. */
static int reserve_identities_locked(struct blob_writer *writer, uint64_t *up_to_id,
                                     struct chunk_identity **identities, size_t count)
{
    struct chunk_identity *larger;
    size_t wanted = count;
    uint64_t last_id = 0;

    for (struct blob_chunk *chunk = writer->chunks; chunk != NULL; chunk = chunk->next) {
        if (is_wanted(chunk, *up_to_id)) {
            wanted++;
            last_id = chunk->id;
        }
    }
    *up_to_id = last_id;
    if (wanted == count)
        return 0;
    larger = realloc(*identities, wanted * sizeof *larger);
    if (larger == NULL)
        return -ENOMEM;
    *identities = larger;
    return 0;
}

/* The chunk's last block with the trailer behind the content. With the writing role, no lock; the
 * chunk is wholly written. */
static int write_trailer(struct blob_writer *writer, struct blob_chunk *chunk,
                         struct chunk_identity *ret_identity)
{
    uint64_t block = chunk->end & ~(uint64_t)(BLOB_BLOCK_SIZE - 1);
    size_t in_block = (size_t)(chunk->end - block);
    size_t size =
        (in_block + CHUNK_TRAILER_SIZE + BLOB_BLOCK_SIZE - 1) & ~(size_t)(BLOB_BLOCK_SIZE - 1);
    struct chunk_trailer trailer = {
        .id = chunk->id,
        .kind = CHUNK_BLOB,
        .content_size_bytes = chunk->end,
        .hash = checksum_stream_digest(chunk->hash),
        .values = {chunk->frames, chunk->end - CHUNK_HEADER_SIZE},
    };
    int error;

    memcpy(trailer.store_uuid, writer->store_uuid, STORE_UUID_SIZE);
    chunk_trailer_encode(chunk->tail + in_block, &trailer);
    memset(chunk->tail + in_block + CHUNK_TRAILER_SIZE, 0, size - in_block - CHUNK_TRAILER_SIZE);
    error = io_write(writer->options.io, chunk->file, chunk->tail, size, block);
    if (error == 0)
        error = io_truncate(writer->options.io, chunk->file, chunk->end + CHUNK_TRAILER_SIZE);
    if (error < 0)
        return error;
    *ret_identity = (struct chunk_identity){
        .id = chunk->id,
        .kind = CHUNK_BLOB,
        .file_size_bytes = chunk->end + CHUNK_TRAILER_SIZE,
        .hash = trailer.hash,
    };
    return 0;
}

static int write_rest_locked(struct blob_writer *writer, struct blob_chunk *chunk,
                             struct chunk_identity *ret_identity)
{
    int error;

    blob_writer_take_role_locked(writer);
    error = blob_chunk_write_locked(writer, chunk, chunk->end);
    if (error == 0) {
        lock_release(&writer->lock);
        error = write_trailer(writer, chunk, ret_identity);
        lock_acquire(&writer->lock);
        if (error < 0)
            error = blob_chunk_failed_locked(writer, chunk, error, "trailer");
    }
    blob_writer_leave_role_locked(writer);
    return error;
}

static int sync_and_rename(struct blob_writer *writer, struct blob_chunk *chunk,
                           const struct chunk_identity *identity, bool *ret_sync_failed)
{
    struct io *io = writer->options.io;
    struct io_file *directory = writer->options.chunk_directory;
    char open_name[CHUNK_NAME_SIZE], name[CHUNK_NAME_SIZE];
    int error = io_chmod(io, chunk->file, SEALED_MODE);

    if (error < 0)
        return error;
    error = io_sync(io, chunk->file, false);
    *ret_sync_failed = error < 0;
    if (error < 0)
        return error;
    chunk_open_name(open_name, chunk->id);
    chunk_name(name, identity);
    error = io_rename(io, directory, open_name, directory, name);
    if (error < 0)
        return error;
    error = io_sync(io, directory, false);
    *ret_sync_failed = error < 0;
    return error;
}

/* As blob_chunk_sync_locked(): alone on the file, the error kept before anybody else may sync. */
static int finish_locked(struct blob_writer *writer, struct blob_chunk *chunk,
                         const struct chunk_identity *identity)
{
    bool sync_failed = false;
    int error;

    while (chunk->is_syncing)
        lock_wait(&writer->lock, &writer->changed);
    if (writer->error < 0)
        return writer->error;
    chunk->is_syncing = true;
    lock_release(&writer->lock);
    error = sync_and_rename(writer, chunk, identity, &sync_failed);
    lock_acquire(&writer->lock);
    chunk->is_syncing = false;
    pthread_cond_broadcast(&writer->changed);
    if (error < 0 && !sync_failed)
        return blob_chunk_failed_locked(writer, chunk, error, "seal");
    if (error < 0)
        return blob_chunk_latch_locked(writer, chunk, error, "seal");
    chunk->synced = chunk->end;
    chunk->is_entry_synced = true;
    chunk->identity = *identity;
    chunk->is_sealed = true;
    writer->statistics.chunks_sealed++;
    return 0;
}

static int seal_chunk_locked(struct blob_writer *writer, struct blob_chunk *chunk)
{
    struct chunk_identity identity;
    int error = write_rest_locked(writer, chunk, &identity);

    return error < 0 ? error : finish_locked(writer, chunk, &identity);
}

static int seal_all_locked(struct blob_writer *writer, uint64_t up_to_id,
                           struct chunk_identity *identities, size_t *count)
{
    size_t sealed = *count;

    /* Ended chunks stay in the list while they are not sealed, and only rising ids join it. */
    for (struct blob_chunk *chunk = writer->chunks; chunk != NULL; chunk = chunk->next) {
        int error = 0;

        if (!is_wanted(chunk, up_to_id))
            continue;
        chunk->references++;
        if (!chunk->is_sealed)
            error = seal_chunk_locked(writer, chunk);
        chunk->references--;
        if (error < 0)
            return error;
        identities[sealed++] = chunk->identity;
    }
    *count = sealed;
    return 0;
}

int blob_writer_seal(struct blob_writer *writer, uint64_t up_to_id,
                     struct chunk_identity **identities, size_t *count)
{
    int error;

    lock_acquire(&writer->lock);
    while (writer->is_sealing)
        lock_wait(&writer->lock, &writer->changed);
    writer->is_sealing = true;
    error = writer->error;
    if (error == 0)
        error = reserve_identities_locked(writer, &up_to_id, identities, *count);
    if (error == 0)
        error = seal_all_locked(writer, up_to_id, *identities, count);
    writer->is_sealing = false;
    pthread_cond_broadcast(&writer->changed);
    lock_release(&writer->lock);
    return error;
}
