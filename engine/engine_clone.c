/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine_clone.c - chunks linked or copied, then a manifest that names them, then FORMAT
 */
#include "engine/engine_clone.h"

#include <errno.h>
#include <stdlib.h>

#include "engine/base/error.h"
#include "engine/base/log.h"
#include "engine/sealed_manifest.h"

#define COPY_BUFFER_BYTES  (1024 * 1024)
#define MANIFEST_MAP_BYTES ((size_t)1 << 20) /* grows by itself */

struct clone {
    const struct engine_clone_options *options;
    struct store *from;
    struct sealed_manifest sealed;
    struct io_file *chunks; /* of the new store */
    uint8_t *buffer;        /* for copying */
    uint64_t done_bytes, total_bytes;
    struct engine_clone_result result;
};

static int tell_progress(const struct clone *clone)
{
    const struct engine_clone_options *options = clone->options;

    if (options->progress == NULL)
        return 0;
    return options->progress(options->context, clone->done_bytes, clone->total_bytes) != 0 ? -EINTR
                                                                                           : 0;
}

/* ---- one chunk ---- */

static int copy_bytes(struct clone *clone, struct io_file *from, struct io_file *to)
{
    uint64_t offset = 0;

    if (clone->buffer == NULL)
        clone->buffer = malloc(COPY_BUFFER_BYTES);
    if (clone->buffer == NULL)
        return -ENOMEM;
    for (;;) {
        int64_t count = io_read(clone->options->io, from, clone->buffer, COPY_BUFFER_BYTES, offset);
        int error = count < 0 ? (int)count : 0;

        if (count <= 0)
            return error;
        error = io_write(clone->options->io, to, clone->buffer, (size_t)count, offset);
        offset += (uint64_t)count;
        clone->done_bytes += (uint64_t)count;
        if (error == 0)
            error = tell_progress(clone);
        if (error < 0)
            return error;
    }
}

static int copy_chunk(struct clone *clone, const char *name, uint64_t size_bytes)
{
    struct io *io = clone->options->io;
    uint64_t done_bytes = clone->done_bytes;
    struct io_file *from = NULL, *to = NULL;
    int error = io_open(io, clone->from->chunks, name, IO_OPEN_READ, 0, &from);

    if (error == 0)
        error = io_open(io, clone->chunks, name, IO_OPEN_WRITE | IO_OPEN_CREATE, 0600, &to);
    if (error == 0 && io_clone(io, from, to) < 0)
        error = copy_bytes(clone, from, to);
    if (error == 0)
        error = io_chmod(io, to, 0444); /* fill() syncs all of them at once */
    io_close(io, to);
    io_close(io, from);
    if (error == 0) {
        clone->done_bytes = done_bytes + size_bytes;
        clone->result.copied_files++;
        clone->result.copied_bytes += size_bytes;
    }
    return error;
}

static int take_chunk(struct clone *clone, const char *name, uint64_t size_bytes)
{
    int error = clone->options->copy
                    ? -EMLINK
                    : io_link(clone->options->io, clone->from->chunks, name, clone->chunks, name);

    if (error == -EMLINK) /* no more links can be made to it, or none are wanted */
        return copy_chunk(clone, name, size_bytes);
    if (error == 0) {
        clone->done_bytes += size_bytes;
        clone->result.linked_files++;
        clone->result.linked_bytes += size_bytes;
    }
    return error;
}

/* It is there and has its size: a clone that cannot be opened is not worth making. */
static int check_chunk(struct clone *clone, const char *name, uint64_t size_bytes)
{
    struct stat status;
    int error = io_stat_at(clone->options->io, clone->from->chunks, name, &status);

    if (error == -ENOENT)
        error = ERROR_MISSING_CHUNK;
    if (error == 0 && (uint64_t)status.st_size != size_bytes)
        error = ERROR_TRUNCATED;
    if (error < 0)
        log_error("%s: chunk %s: %s", clone->options->checkpoint, name, error_text(error));
    return error;
}

static int visit_chunk(struct clone *clone, const struct chunk_identity *identity, bool look)
{
    char name[CHUNK_NAME_SIZE];
    int error;

    chunk_name(name, identity);
    if (look) {
        clone->total_bytes += identity->file_size_bytes;
        clone->result.linked_files++;
        return check_chunk(clone, name, identity->file_size_bytes);
    }
    error = take_chunk(clone, name, identity->file_size_bytes);
    return error == 0 ? tell_progress(clone) : error;
}

static int visit_chunks(struct clone *clone, bool look)
{
    int error = 0;

    for (size_t i = 0; error == 0 && i < clone->sealed.table_count; i++)
        error = visit_chunk(clone, &clone->sealed.tables[i].meta.identity, look);
    for (size_t i = 0; error == 0 && i < clone->sealed.blob_count; i++)
        error = visit_chunk(clone, &clone->sealed.blobs[i], look);
    return error;
}

/* ---- the manifest ---- */

static struct manifest_scalars first_scalars(const struct sealed_manifest *sealed)
{
    struct manifest_scalars scalars = {
        .next_chunk_id = 1,
        .next_order = 1,
        .last_sequence = sealed->sequence,
        .wal_segment = 1,
        .next_checkpoint_id = 1,
        .clean = true,
    };

    for (size_t i = 0; i < sealed->table_count; i++) {
        if (sealed->tables[i].meta.identity.id >= scalars.next_chunk_id)
            scalars.next_chunk_id = sealed->tables[i].meta.identity.id + 1;
        if (sealed->tables[i].order >= scalars.next_order)
            scalars.next_order = sealed->tables[i].order + 1;
    }
    for (size_t i = 0; i < sealed->blob_count; i++)
        if (sealed->blobs[i].id >= scalars.next_chunk_id)
            scalars.next_chunk_id = sealed->blobs[i].id + 1;
    return scalars;
}

static int fill_manifest(const struct sealed_manifest *sealed, const char *path)
{
    const struct manifest_options options = {.path = path, .map_size_bytes = MANIFEST_MAP_BYTES};
    struct manifest_scalars scalars = first_scalars(sealed);
    const struct manifest_edit edit = {
        .add_tables = sealed->tables,
        .add_table_count = sealed->table_count,
        .add_blobs = sealed->blobs,
        .add_blob_count = sealed->blob_count,
        .scalars = &scalars,
    };
    struct manifest *manifest;
    int error = manifest_open(&options, &manifest);

    if (error < 0)
        return error;
    error = manifest_commit(manifest, &edit);
    manifest_close(manifest);
    return error;
}

static int fill(void *context, struct io_file *chunks, const char *manifest_path)
{
    struct clone *clone = context;
    struct io *io = clone->options->io;
    int error;

    clone->chunks = chunks;
    error = visit_chunks(clone, false);
    /* Link counts too: without a journal only this writes them down (checkpoint_files.c). */
    if (error == 0)
        error = io_sync_filesystem(io, chunks);
    return error == 0 ? fill_manifest(&clone->sealed, manifest_path) : error;
}

/* ---- the whole ---- */

static int open_checkpoint(struct clone *clone)
{
    struct io *io = clone->options->io;
    struct checksum128 hash;
    int error = store_open(io, clone->options->checkpoint, false, &clone->from);

    if (error == ERROR_LOCKED)
        return -EISDIR; /* only a live store has a lock */
    if (error < 0)
        return error;
    if (clone->from->kind != STORE_CHECKPOINT)
        return -EISDIR;
    error = sealed_manifest_read(io, clone->from->root, &clone->sealed, &hash);
    if (error == 0 &&
        memcmp(clone->sealed.store_uuid, clone->from->format.uuid, STORE_UUID_SIZE) != 0)
        error = ERROR_FOREIGN;
    return error;
}

static int make(struct clone *clone)
{
    struct store_format format = clone->from->format;

    format.flags |= STORE_FORMAT_FOREIGN_CHUNKS;
    memcpy(format.origin_uuid, clone->from->format.uuid, STORE_UUID_SIZE);
    clone->result.linked_files = 0;
    return store_create_filled(clone->options->io, clone->options->path, &format, fill, clone);
}

int engine_clone(const struct engine_clone_options *options, struct engine_clone_result *ret_result)
{
    struct clone clone = {.options = options};
    int error = open_checkpoint(&clone);

    if (error == 0)
        error = visit_chunks(&clone, true);
    if (error == 0 && options->dry_run)
        clone.result.linked_bytes = clone.total_bytes;
    else if (error == 0)
        error = make(&clone);
    if (error == 0) {
        clone.result.sequence = clone.sealed.sequence;
        memcpy(clone.result.origin_uuid, clone.from->format.uuid, STORE_UUID_SIZE);
        *ret_result = clone.result;
    }
    sealed_manifest_free(&clone.sealed);
    store_close(clone.from);
    free(clone.buffer);
    return error;
}
