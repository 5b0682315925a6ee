/* SPDX-License-Identifier: Apache-2.0 */
/*
 * blob_recover.c - sealing what a crash left of an open chunk
 *
 * What is known to have been durable is in the file or in pieces from the log; both may hold a
 * byte, and then agree. Each step can be repeated: pieces are written where they belong, the file
 * is cut to the same end, and so gets the same content, hash and name.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "engine/base/endian.h"
#include "engine/base/error.h"
#include "engine/base/log.h"
#include "engine/blob_writer.h"
#include "engine/store.h"

#define COPY_SIZE     ((size_t)1024 * 1024)
#define WRITABLE_MODE 0600
#define SEALED_MODE   0444

struct recovery {
    struct io *io;
    struct io_file *directory;
    const uint8_t *store_uuid;
    uint64_t id, end;
    const struct blob_piece *pieces;
    size_t piece_count;
    struct io_file *file;
    struct chunk_identity sealed; /* the file that has its final name already */
    bool is_sealed;
};

static int fail(const struct recovery *recovery, int error, const char *what)
{
    log_error("blob chunk %016" PRIx64 ": recovery: %s: %s", recovery->id, what, error_text(error));
    return error;
}

/* ---- when the crash came after the rename ---- */

static int note_sealed(void *context, const char *name)
{
    struct recovery *recovery = context;
    struct chunk_identity identity;
    bool sealed;

    if (chunk_name_parse(name, &identity, &sealed) && sealed && identity.id == recovery->id &&
        identity.kind == CHUNK_BLOB) {
        recovery->sealed = identity;
        recovery->is_sealed = true;
    }
    return 0;
}

static int check_trailer(const struct recovery *recovery, const uint8_t *bytes, uint64_t file_size)
{
    struct chunk_identity identity = recovery->sealed; /* what the name says */
    struct chunk_trailer trailer;
    int error = chunk_trailer_decode(bytes, &trailer);

    if (error < 0)
        return error;
    if (memcmp(trailer.store_uuid, recovery->store_uuid, STORE_UUID_SIZE) != 0)
        return ERROR_FOREIGN;
    identity.file_size_bytes = file_size;
    error = chunk_trailer_check(&trailer, &identity);
    if (error < 0)
        return error;
    return trailer.content_size_bytes < recovery->end ? ERROR_TRUNCATED : 0;
}

static int accept_sealed(struct recovery *recovery)
{
    char name[CHUNK_NAME_SIZE];
    uint8_t bytes[CHUNK_TRAILER_SIZE];
    struct stat status;
    uint64_t size;
    int error;

    chunk_name(name, &recovery->sealed);
    error = io_open(recovery->io, recovery->directory, name, IO_OPEN_READ, 0, &recovery->file);
    if (error == 0)
        error = io_stat(recovery->io, recovery->file, &status);
    if (error < 0)
        return fail(recovery, error, "open");
    size = (uint64_t)status.st_size;
    if (size < CHUNK_TRAILER_SIZE)
        return fail(recovery, ERROR_TRUNCATED, name);
    error =
        io_read_exact(recovery->io, recovery->file, bytes, sizeof bytes, size - CHUNK_TRAILER_SIZE);
    if (error == 0)
        error = check_trailer(recovery, bytes, size);
    if (error < 0)
        return fail(recovery, error, "trailer");
    recovery->sealed.file_size_bytes = size;
    return 0;
}

/* ---- when it did not ---- */

/* How far the bytes from `reached` on are covered by pieces. */
static uint64_t covered_up_to(const struct recovery *recovery, uint64_t reached)
{
    uint64_t before;

    /* Pieces mostly come in order: one pass, and one that finds nothing more. */
    do {
        before = reached;
        for (size_t i = 0; i < recovery->piece_count; i++) {
            const struct blob_piece *piece = &recovery->pieces[i];

            if (piece->chunk_id == recovery->id && piece->position <= reached &&
                piece->position + piece->size > reached)
                reached = piece->position + piece->size;
        }
    } while (reached > before);
    return reached;
}

/* Open the file for writing; a file that is missing is made when the pieces are all of it. */
static int open_file(struct recovery *recovery)
{
    struct io *io = recovery->io;
    char name[CHUNK_NAME_SIZE];
    int error;

    chunk_open_name(name, recovery->id);
    error = io_open(io, recovery->directory, name, IO_OPEN_WRITE, 0, &recovery->file);
    if (error == -EISDIR) {
        /* Without a journal: the name came to the disk, the file did not. */
        error = store_remove_tree(io, recovery->directory, name);
        if (error == 0)
            error = -ENOENT;
    }
    if (error == -EACCES) {
        /* Made read-only, but not renamed yet. */
        error = io_open(io, recovery->directory, name, IO_OPEN_READ, 0, &recovery->file);
        if (error == 0)
            error = io_chmod(io, recovery->file, WRITABLE_MODE);
        if (error == 0) {
            io_close(io, recovery->file);
            recovery->file = NULL;
            error = io_open(io, recovery->directory, name, IO_OPEN_WRITE, 0, &recovery->file);
        }
    }
    if (error == -ENOENT) {
        if (covered_up_to(recovery, CHUNK_HEADER_SIZE) < recovery->end)
            return ERROR_MISSING_CHUNK;
        error = io_open(io, recovery->directory, name, IO_OPEN_WRITE | IO_OPEN_CREATE,
                        WRITABLE_MODE, &recovery->file);
    }
    return error;
}

/* Up to where the file itself is to be believed: nowhere without a header. */
static int check_file(struct recovery *recovery, uint64_t *ret_valid_size)
{
    uint8_t header[CHUNK_HEADER_SIZE];
    struct stat status;
    int64_t count;
    int error = io_stat(recovery->io, recovery->file, &status);

    if (error < 0)
        return error;
    count = io_read(recovery->io, recovery->file, header, sizeof header, 0);
    if (count < 0)
        return (int)count;
    error = ERROR_CORRUPT;
    if ((size_t)count == sizeof header)
        error = chunk_header_check(header, CHUNK_BLOB, recovery->store_uuid, recovery->id);
    if (error == ERROR_VERSION_NEWER || error == ERROR_FOREIGN)
        return error;
    *ret_valid_size = error == 0 ? (uint64_t)status.st_size : 0;
    return 0;
}

static int write_pieces(struct recovery *recovery)
{
    int error = 0;

    for (size_t i = 0; error == 0 && i < recovery->piece_count; i++) {
        const struct blob_piece *piece = &recovery->pieces[i];
        uint64_t size = piece->size;

        if (piece->chunk_id != recovery->id || piece->position >= recovery->end)
            continue;
        if (size > recovery->end - piece->position)
            size = recovery->end - piece->position;
        error = io_write(recovery->io, recovery->file, piece->data, (size_t)size, piece->position);
    }
    return error;
}

/* Afterwards the file is the content, nothing less and nothing more. */
static int complete_content(struct recovery *recovery)
{
    uint8_t header[CHUNK_HEADER_SIZE];
    uint64_t valid_size = 0;
    int error = check_file(recovery, &valid_size);

    if (error < 0)
        return fail(recovery, error, "header");
    if (covered_up_to(recovery, valid_size > 0 ? valid_size : CHUNK_HEADER_SIZE) < recovery->end)
        return fail(recovery, valid_size > 0 ? ERROR_TRUNCATED : ERROR_CORRUPT, "content");
    if (valid_size == 0) {
        chunk_header_encode(header, CHUNK_BLOB, recovery->store_uuid, recovery->id);
        error = io_write(recovery->io, recovery->file, header, sizeof header, 0);
    }
    if (error == 0)
        error = write_pieces(recovery);
    if (error == 0)
        error = io_truncate(recovery->io, recovery->file, recovery->end);
    return error < 0 ? fail(recovery, error, "write") : 0;
}

static int hash_content(struct recovery *recovery, struct checksum128 *ret_hash)
{
    struct checksum_stream *stream = checksum_stream_new();
    uint8_t *data = io_allocate_aligned(COPY_SIZE);
    int error = stream == NULL || data == NULL ? -ENOMEM : 0;

    for (uint64_t at = 0; error == 0 && at < recovery->end;) {
        size_t size = recovery->end - at < COPY_SIZE ? (size_t)(recovery->end - at) : COPY_SIZE;

        error = io_read_exact(recovery->io, recovery->file, data, size, at);
        if (error == 0)
            checksum_stream_update(stream, data, size);
        at += size;
    }
    if (error == 0)
        *ret_hash = checksum_stream_digest(stream);
    checksum_stream_free(stream);
    free(data);
    return error;
}

static int write_trailer(struct recovery *recovery)
{
    uint8_t bytes[CHUNK_TRAILER_SIZE];
    struct chunk_trailer trailer = {
        .id = recovery->id,
        .kind = CHUNK_BLOB,
        .content_size_bytes = recovery->end,
        .values = {0, recovery->end - CHUNK_HEADER_SIZE},
    };
    int error = hash_content(recovery, &trailer.hash);

    if (error < 0)
        return error;
    memcpy(trailer.store_uuid, recovery->store_uuid, STORE_UUID_SIZE);
    chunk_trailer_encode(bytes, &trailer);
    recovery->sealed = (struct chunk_identity){
        .id = recovery->id,
        .kind = CHUNK_BLOB,
        .file_size_bytes = recovery->end + CHUNK_TRAILER_SIZE,
        .hash = trailer.hash,
    };
    return io_write(recovery->io, recovery->file, bytes, sizeof bytes, recovery->end);
}

static int seal(struct recovery *recovery)
{
    char open_name[CHUNK_NAME_SIZE], name[CHUNK_NAME_SIZE];
    int error = write_trailer(recovery);

    if (error == 0)
        error = io_chmod(recovery->io, recovery->file, SEALED_MODE);
    if (error == 0)
        error = io_sync(recovery->io, recovery->file, false);
    if (error < 0)
        return fail(recovery, error, "seal");
    chunk_open_name(open_name, recovery->id);
    chunk_name(name, &recovery->sealed);
    error = io_rename(recovery->io, recovery->directory, open_name, recovery->directory, name);
    return error < 0 ? fail(recovery, error, "rename") : 0;
}

int blob_recover_open_chunk(struct io *io, struct io_file *chunk_directory,
                            const uint8_t *store_uuid, uint64_t id, uint64_t end,
                            const struct blob_piece *pieces, size_t piece_count,
                            struct chunk_identity *ret_identity)
{
    struct recovery recovery = {
        .io = io,
        .directory = chunk_directory,
        .store_uuid = store_uuid,
        .id = id,
        .end = end,
        .pieces = pieces,
        .piece_count = piece_count,
    };
    int error;

    if (end <= CHUNK_HEADER_SIZE || end > INT64_MAX - CHUNK_TRAILER_SIZE)
        return -EINVAL;
    error = io_list(io, chunk_directory, note_sealed, &recovery);
    if (error < 0)
        return fail(&recovery, error, "list");
    if (recovery.is_sealed) {
        error = accept_sealed(&recovery);
    } else {
        error = open_file(&recovery);
        if (error < 0)
            (void)fail(&recovery, error, "open");
        else
            error = complete_content(&recovery);
        if (error == 0)
            error = seal(&recovery);
    }
    io_close(io, recovery.file);
    if (error == 0)
        error = io_sync(io, chunk_directory, false);
    if (error == 0)
        *ret_identity = recovery.sealed;
    return error;
}
