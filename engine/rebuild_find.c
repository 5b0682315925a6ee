/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rebuild_find.c - what the store still says of itself: tables and blob chunks, snapshots
 */
#include "engine/rebuild_internal.h"

#include <errno.h>
#include <stdlib.h>

/* ---- chunks ---- */

static int list_chunk(void *context, const char *name)
{
    struct rebuild *rebuild = context;
    struct chunk_identity identity;
    struct stat status;
    bool sealed;
    int error;

    if (!chunk_name_parse(name, &identity, &sealed))
        return 0;
    if (identity.id > rebuild->highest_id)
        rebuild->highest_id = identity.id;
    if (!sealed)
        return 0; /* only the log may refer to it */
    error = io_stat_at(rebuild->io, rebuild->store->chunks, name, &status);
    if (error == 0 && S_ISDIR(status.st_mode))
        return 0; /* the name of a chunk that was removed, before a cut as well (store_sweep.c) */
    if (error == 0)
        error = rebuild_grow(&rebuild->files, sizeof *rebuild->files, rebuild->file_count,
                             &rebuild->file_capacity);
    if (error < 0)
        return error;
    identity.file_size_bytes = (uint64_t)status.st_size;
    rebuild->files[rebuild->file_count++] = identity;
    return 0;
}

const struct chunk_identity *rebuild_find_blob(const struct rebuild *rebuild, uint64_t id)
{
    for (size_t i = 0; i < rebuild->file_count; i++)
        if (rebuild->files[i].id == id && rebuild->files[i].kind == CHUNK_BLOB)
            return &rebuild->files[i];
    for (size_t i = 0; i < rebuild->elsewhere_count; i++)
        if (rebuild->elsewhere[i].id == id)
            return &rebuild->elsewhere[i];
    return NULL;
}

/* Every byte of it is read: what a merge would take over must be right. */
static int add_input(struct rebuild *rebuild, const struct chunk_identity *identity)
{
    struct table_reader *reader;
    struct table_meta meta = {0};
    char name[CHUNK_NAME_SIZE];
    int error = table_reader_open(rebuild->io, rebuild->store->chunks, identity,
                                  rebuild->source.store_uuid, NULL, &reader);

    if (error == 0) {
        error = table_reader_verify(reader);
        if (error == 0)
            error = table_meta_copy(table_reader_meta(reader), &meta);
        table_reader_unref(reader);
    }
    if (error < 0) {
        chunk_name(name, identity);
        log_error("%s: table %s cannot be read: %s", rebuild->store->path, name, error_text(error));
        return error;
    }
    /* Levels and orders do not matter to the merge. */
    rebuild->inputs[rebuild->input_count] =
        version_table_new(&rebuild->source, 0, identity->id, &meta);
    if (rebuild->inputs[rebuild->input_count] == NULL) {
        table_meta_free(&meta);
        return -ENOMEM;
    }
    rebuild->input_count++;
    return 0;
}

int rebuild_find_chunks(struct rebuild *rebuild)
{
    int error = io_list(rebuild->io, rebuild->store->chunks, list_chunk, rebuild);

    if (error < 0)
        return error;
    if (rebuild->file_count > 0)
        qsort(rebuild->files, rebuild->file_count, sizeof *rebuild->files, engine_identity_compare);
    rebuild->inputs = calloc(rebuild->file_count + 1, sizeof *rebuild->inputs);
    if (rebuild->inputs == NULL)
        return -ENOMEM;
    for (size_t i = 0; error == 0 && i < rebuild->file_count; i++)
        if (rebuild->files[i].kind == CHUNK_TABLE)
            error = add_input(rebuild, &rebuild->files[i]);
    rebuild->result.tables = rebuild->input_count;
    return error;
}

/* ---- snapshots ---- */

/* A blob chunk that a snapshot names: is it in its directory, and not in chunks/? */
static int add_elsewhere(struct rebuild *rebuild, struct io_file *chunks,
                         const struct chunk_identity *blob)
{
    char name[CHUNK_NAME_SIZE];
    struct stat status;
    int error;

    if (rebuild_find_blob(rebuild, blob->id) != NULL)
        return 0;
    chunk_name(name, blob);
    error = io_stat_at(rebuild->io, chunks, name, &status);
    if (error < 0)
        return error == -ENOENT ? 0 : error;
    error = rebuild_grow(&rebuild->elsewhere, sizeof *rebuild->elsewhere, rebuild->elsewhere_count,
                         &rebuild->elsewhere_capacity);
    if (error == 0)
        rebuild->elsewhere[rebuild->elsewhere_count++] = *blob;
    return error;
}

static bool is_among(const struct rebuild *rebuild, const struct chunk_identity *identity)
{
    for (size_t i = 0; i < rebuild->file_count; i++)
        if (engine_identity_compare(&rebuild->files[i], identity) == 0)
            return true;
    return false;
}

/* A table that chunks/ has and a snapshot's directory lacks. It is merged now, and the next start would
 * take it from chunks/, whoever that is: the directory gets its name first. */
static int give_table(struct rebuild *rebuild, struct io_file *chunks,
                      const struct chunk_identity *identity)
{
    char name[CHUNK_NAME_SIZE];
    struct stat status;
    int result;

    chunk_name(name, identity);
    /* One that cannot be looked at is linked too: a name that is there already stays what it is. */
    if (!is_among(rebuild, identity) || io_stat_at(rebuild->io, chunks, name, &status) == 0)
        return 0;
    result = checkpoint_files_relink(rebuild->store, rebuild->store->chunks, chunks, name);
    if (result < 0) {
        log_warning("%s: table %s, which a snapshot lacks, cannot be linked: %s",
                    rebuild->store->path, name, error_text(result));
        return result == -EIO || error_is_shortage(result) ? result : 0; /* it is what it was */
    }
    rebuild->has_new_links = true;
    log_info("%s: table %s was linked into a snapshot's directory again", rebuild->store->path,
             name);
    return 0;
}

/* Both ways: what only the snapshot has, and what it lacks. */
static int compare_chunks(struct rebuild *rebuild, struct io_file *directory,
                          const struct sealed_manifest *sealed)
{
    struct io_file *chunks;
    int error = io_open(rebuild->io, directory, "chunks", IO_OPEN_DIRECTORY, 0, &chunks);

    if (error < 0)
        return error == -ENOENT ? 0 : error;
    for (size_t i = 0; error == 0 && i < sealed->blob_count; i++)
        error = add_elsewhere(rebuild, chunks, &sealed->blobs[i]);
    for (size_t i = 0; error == 0 && i < sealed->table_count; i++)
        error = give_table(rebuild, chunks, &sealed->tables[i].meta.identity);
    io_close(rebuild->io, chunks);
    return error;
}

static int add_snapshot(struct rebuild *rebuild, const char *name,
                        const struct sealed_manifest *sealed, const struct checksum128 *hash)
{
    struct manifest_checkpoint *snapshot;
    int error = rebuild_grow(&rebuild->snapshots, sizeof *rebuild->snapshots,
                             rebuild->snapshot_count, &rebuild->snapshot_capacity);

    if (error < 0)
        return error;
    snapshot = &rebuild->snapshots[rebuild->snapshot_count];
    *snapshot = (struct manifest_checkpoint){
        .id = sealed->checkpoint_id,
        .state = MANIFEST_CHECKPOINT_READY,
        .sequence = sealed->sequence,
        .linked_files = sealed->table_count + sealed->blob_count,
        .manifest_hash = *hash,
    };
    for (size_t i = 0; i < sealed->table_count; i++)
        snapshot->linked_bytes += sealed->tables[i].meta.identity.file_size_bytes;
    for (size_t i = 0; i < sealed->blob_count; i++)
        snapshot->linked_bytes += sealed->blobs[i].file_size_bytes;
    error = buffer_assign(&snapshot->name, name, strlen(name));
    if (error == 0)
        error = buffer_assign(&snapshot->payload, sealed->payload.data, sealed->payload.size);
    rebuild->snapshot_count++;
    if (sealed->sequence > rebuild->snapshot_sequence)
        rebuild->snapshot_sequence = sealed->sequence;
    if (sealed->checkpoint_id >= rebuild->next_checkpoint_id)
        rebuild->next_checkpoint_id = sealed->checkpoint_id + 1;
    for (size_t i = 0; i < sealed->table_count; i++)
        if (sealed->tables[i].meta.identity.id > rebuild->highest_id)
            rebuild->highest_id = sealed->tables[i].meta.identity.id;
    for (size_t i = 0; i < sealed->blob_count; i++)
        if (sealed->blobs[i].id > rebuild->highest_id)
            rebuild->highest_id = sealed->blobs[i].id;
    return error;
}

static bool has_snapshot(const struct rebuild *rebuild, uint64_t id)
{
    for (size_t i = 0; i < rebuild->snapshot_count; i++)
        if (rebuild->snapshots[i].id == id)
            return true;
    return false;
}

static int list_snapshot(void *context, const char *name)
{
    struct rebuild *rebuild = context;
    struct sealed_manifest sealed = {0};
    struct checksum128 hash;
    struct io_file *directory = NULL;
    int error =
        io_open(rebuild->io, rebuild->store->checkpoints, name, IO_OPEN_DIRECTORY, 0, &directory);

    if (error == 0)
        error = sealed_manifest_read(rebuild->io, directory, &sealed, &hash);
    if (error == 0 &&
        memcmp(sealed.store_uuid, rebuild->store->format.uuid, sizeof sealed.store_uuid) != 0)
        error = ERROR_FOREIGN;
    if (error == 0 && has_snapshot(rebuild, sealed.checkpoint_id))
        error = -EEXIST; /* a copy of one: the first that is listed stays */
    if (error == 0)
        error = compare_chunks(rebuild, directory, &sealed);
    if (error == 0) {
        error = add_snapshot(rebuild, name, &sealed, &hash);
    } else if (!error_is_shortage(error)) {
        log_warning("%s/checkpoints/%s is left alone: %s", rebuild->store->path, name,
                    error_text(error));
        rebuild->result.snapshots_unusable++;
        error = 0;
    }
    sealed_manifest_free(&sealed);
    io_close(rebuild->io, directory);
    return error;
}

int rebuild_find_snapshots(struct rebuild *rebuild)
{
    int error = io_list(rebuild->io, rebuild->store->checkpoints, list_snapshot, rebuild);

    rebuild->result.snapshots = rebuild->snapshot_count;
    return error;
}

/* ---- a flush that a crash cut off ---- */

static bool lacks_blob(struct rebuild *rebuild, const struct table_meta *meta)
{
    for (size_t i = 0; i < meta->use_count; i++)
        if (rebuild_find_blob(rebuild, meta->uses[i].chunk_id) == NULL) {
            rebuild->unfinished_blob = meta->uses[i].chunk_id;
            return true;
        }
    return false;
}

void rebuild_leave_unfinished(struct rebuild *rebuild)
{
    size_t kept = 0;

    for (size_t i = 0; i < rebuild->input_count; i++) {
        struct version_table *table = rebuild->inputs[i];
        uint64_t smallest = table->meta.smallest_sequence;

        if (!lacks_blob(rebuild, &table->meta)) {
            rebuild->inputs[kept++] = table;
            if (table->meta.largest_sequence > rebuild->last_sequence)
                rebuild->last_sequence = table->meta.largest_sequence;
            continue;
        }
        if (rebuild->unfinished_sequence == 0 || smallest < rebuild->unfinished_sequence)
            rebuild->unfinished_sequence = smallest;
        version_table_unref(table);
    }
    rebuild->input_count = kept;
    rebuild->result.tables = kept;
    /* What a snapshot has is in tables: the log must not make it again. */
    if (rebuild->unfinished_sequence == 0 && rebuild->snapshot_sequence > rebuild->last_sequence)
        rebuild->last_sequence = rebuild->snapshot_sequence;
}
