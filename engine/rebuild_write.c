/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rebuild_write.c - the tables merged into new ones, and a manifest that names these
 *
 * Why merging is right: a key's records never have equal numbers unless they are equal, and what a
 * merge left out lies in its inputs, all of which are there or none: they leave the store together.
 * So whatever a crash has left in chunks/ beside the tables in use, inputs of a finished merge or
 * outputs of an unfinished one, changes nothing. (But a cut in the few moments while inputs are removed
 * may leave some of them. Where the manifest is lost before the next start removes these, what a
 * table deleted that is gone already shows again.)
 */
#include "engine/rebuild_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define TABLE_BYTES  (16 * 1024 * 1024)
#define BOTTOM_LEVEL (VERSION_LEVELS - 1)
#define WORK_NAME    "manifest-rebuilt"

/* ---- the merge ---- */

static int begin_output(struct rebuild *rebuild)
{
    const struct table_writer_options options = {
        .io = rebuild->io,
        .temporary_directory = rebuild->store->tmp,
        .chunk_directory = rebuild->store->chunks,
        .store_uuid = rebuild->store->format.uuid,
        .id = ++rebuild->highest_id,
        .compression_level = rebuild->store->format.compression_level,
    };

    return table_writer_new(&options, &rebuild->writer);
}

static int finish_output(struct rebuild *rebuild)
{
    struct manifest_table *output;
    int error = rebuild_grow(&rebuild->outputs, sizeof *rebuild->outputs, rebuild->output_count,
                             &rebuild->output_capacity);

    if (error < 0)
        return error;
    output = &rebuild->outputs[rebuild->output_count];
    *output = (struct manifest_table){.level = BOTTOM_LEVEL, .order = rebuild->output_count + 1};
    error = table_writer_finish(rebuild->writer, &output->meta);
    if (error < 0)
        return error;
    rebuild->output_count++;
    table_writer_free(rebuild->writer);
    rebuild->writer = NULL;
    return 0;
}

static int add_record(struct rebuild *rebuild, const struct record *record)
{
    int error = 0;

    if (record->kind == RECORD_DELETE)
        return 0; /* nothing lies below */
    if (rebuild->writer != NULL && table_writer_size_bytes(rebuild->writer) >= TABLE_BYTES)
        error = finish_output(rebuild);
    if (error == 0 && rebuild->writer == NULL)
        error = begin_output(rebuild);
    if (error == 0)
        error = table_writer_add(rebuild->writer, record);
    rebuild->result.records++;
    return error;
}

static int merge_tables(struct rebuild *rebuild)
{
    struct merge_iterator *merge = merge_iterator_new(MERGE_COMPACT);
    int result = merge != NULL ? 0 : -ENOMEM;

    for (size_t i = 0; result == 0 && i < rebuild->input_count; i++)
        result = merge_iterator_add_table(merge, rebuild->inputs[i], false);
    if (result == 0)
        result = merge_iterator_seek(merge, slice_of("", 0));
    while (result > 0) {
        result = add_record(rebuild, merge_iterator_record(merge));
        if (result == 0)
            result = merge_iterator_next(merge);
    }
    if (result == 0 && rebuild->writer != NULL)
        result = finish_output(rebuild);
    merge_iterator_free(merge);
    return result;
}

/* What the new tables refer to. */
static int gather_blobs(struct rebuild *rebuild)
{
    rebuild->blobs =
        calloc(rebuild->file_count + rebuild->elsewhere_count + 1, sizeof *rebuild->blobs);
    if (rebuild->blobs == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < rebuild->output_count; i++) {
        const struct table_meta *meta = &rebuild->outputs[i].meta;

        for (size_t j = 0; j < meta->use_count; j++) {
            const struct chunk_identity *blob = rebuild_find_blob(rebuild, meta->uses[j].chunk_id);
            bool known = false;

            if (blob == NULL) {
                log_error("%s: blob chunk %016llx is missing", rebuild->store->path,
                          (unsigned long long)meta->uses[j].chunk_id);
                return ERROR_MISSING_CHUNK;
            }
            for (size_t k = 0; !known && k < rebuild->blob_count; k++)
                known = rebuild->blobs[k].id == blob->id;
            if (!known)
                rebuild->blobs[rebuild->blob_count++] = *blob;
        }
    }
    rebuild->result.blobs = rebuild->blob_count;
    return 0;
}

int rebuild_merge(struct rebuild *rebuild)
{
    int error = merge_tables(rebuild);

    return error == 0 ? gather_blobs(rebuild) : error;
}

/* ---- the new manifest ---- */

static int fill_manifest(struct rebuild *rebuild, struct manifest *manifest)
{
    struct manifest_scalars scalars = {
        .next_chunk_id = rebuild->highest_id + 1,
        .next_order = rebuild->output_count + 1,
        .last_sequence = rebuild->last_sequence,
        .wal_segment = rebuild->wal_segment,
        .next_checkpoint_id = rebuild->next_checkpoint_id,
        .clean = false,
    };
    struct manifest_edit edit = {
        .add_tables = rebuild->outputs,
        .add_table_count = rebuild->output_count,
        .add_blobs = rebuild->blobs,
        .add_blob_count = rebuild->blob_count,
        .scalars = &scalars,
    };
    int error = manifest_commit(manifest, &edit);

    for (size_t i = 0; error == 0 && i < rebuild->snapshot_count; i++) {
        edit = (struct manifest_edit){.put_checkpoint = &rebuild->snapshots[i]};
        error = manifest_commit(manifest, &edit);
    }
    return error;
}

int rebuild_make_manifest(struct rebuild *rebuild)
{
    struct manifest_options options = {.create = true, .map_size_bytes = REBUILD_MAP_BYTES};
    struct manifest *manifest;
    char path[4096];
    int error;

    if (snprintf(path, sizeof path, "%s/tmp/" WORK_NAME, rebuild->store->path) >= (int)sizeof path)
        return -ENAMETOOLONG;
    options.path = path;
    error = store_remove_tree(rebuild->io, rebuild->store->tmp, WORK_NAME);
    if (error == 0)
        error = io_mkdir(rebuild->io, rebuild->store->tmp, WORK_NAME, 0700);
    if (error == 0)
        error = manifest_open(&options, &manifest);
    if (error < 0)
        return error;
    error = fill_manifest(rebuild, manifest);
    manifest_close(manifest);
    return error;
}

/* The old one goes aside, the new one takes its place. */
int rebuild_put_in_place(struct rebuild *rebuild)
{
    struct io *io = rebuild->io;
    struct io_file *from = NULL, *to = rebuild->store->manifest;
    int error = io_open(io, rebuild->store->tmp, WORK_NAME, IO_OPEN_DIRECTORY, 0, &from);

    if (error == 0 && rebuild->has_new_links)
        error = io_sync_filesystem(io, to);
    if (error == 0) {
        error = io_rename(io, to, "data.mdb", to, "data.mdb.old");
        if (error == -ENOENT)
            error = 0;
    }
    if (error == 0)
        error = io_unlink(io, to, "lock.mdb");
    if (error == -ENOENT)
        error = 0;
    if (error == 0)
        error = io_rename(io, from, "data.mdb", to, "data.mdb");
    if (error == 0)
        error = io_sync(io, to, false);
    if (from != NULL)
        io_close(io, from);
    if (error == 0)
        error = store_remove_tree(io, rebuild->store->tmp, WORK_NAME);
    /* What could be had is what there is now. */
    return error == 0 ? engine_witness_remove(io, rebuild->store->wal) : error;
}
