/* SPDX-License-Identifier: Apache-2.0 */
/*
 * manifest_load.c - everything the manifest says, copied out at one point in time
 */
#include <errno.h>
#include <stdlib.h>

#include "engine/base/error.h"
#include "engine/manifest_codec.h"
#include "engine/manifest_record.h"

struct load_work {
    struct manifest_state state;
    size_t table_room, blob_room, checkpoint_room;
};

/* Room for one more element at the end of an array. */
static int make_room(void *array_pointer, size_t element_size, size_t count, size_t *room)
{
    void **array = array_pointer;
    size_t wanted = *room == 0 ? 16 : *room * 2;
    void *grown;

    if (count < *room)
        return 0;
    grown = reallocarray(*array, wanted, element_size);
    if (grown == NULL)
        return -ENOMEM;
    *array = grown;
    *room = wanted;
    return 0;
}

/* A value belongs under its own id, and nothing follows it. */
static int check_record(struct slice key, uint64_t id, struct slice rest)
{
    uint64_t key_id;
    int error = manifest_key_decode_number(key, &key_id);

    if (error == 0 && (key_id != id || rest.size > 0))
        error = manifest_record_report(key, ERROR_CORRUPT);
    return error;
}

static int load_table(void *context, struct slice key, struct slice payload)
{
    struct load_work *work = context;
    struct manifest_state *state = &work->state;
    struct manifest_table table;
    int error =
        make_room(&state->tables, sizeof *state->tables, state->table_count, &work->table_room);

    if (error != 0)
        return error;
    error = manifest_table_decode(&payload, &table);
    if (error != 0)
        return manifest_record_report(key, error);
    state->tables[state->table_count++] = table;
    return check_record(key, table.meta.identity.id, payload);
}

static int load_blob(void *context, struct slice key, struct slice payload)
{
    struct load_work *work = context;
    struct manifest_state *state = &work->state;
    struct chunk_identity blob;
    int error = make_room(&state->blobs, sizeof *state->blobs, state->blob_count, &work->blob_room);

    if (error != 0)
        return error;
    error = manifest_blob_decode(&payload, &blob);
    if (error != 0)
        return manifest_record_report(key, error);
    state->blobs[state->blob_count++] = blob;
    return check_record(key, blob.id, payload);
}

static int load_checkpoint(void *context, struct slice key, struct slice payload)
{
    struct load_work *work = context;
    struct manifest_state *state = &work->state;
    struct manifest_checkpoint checkpoint;
    int error = make_room(&state->checkpoints, sizeof *state->checkpoints, state->checkpoint_count,
                          &work->checkpoint_room);

    if (error != 0)
        return error;
    error = manifest_checkpoint_decode(payload, &checkpoint);
    if (error != 0)
        return manifest_record_report(key, error);
    state->checkpoints[state->checkpoint_count++] = checkpoint;
    return check_record(key, checkpoint.id, slice_of(NULL, 0));
}

static int load_scalars(struct manifest_transaction *transaction, struct manifest_scalars *ret)
{
    struct manifest_key key = manifest_key_plain(MANIFEST_KEY_SCALARS);
    struct slice payload;
    int error = manifest_record_get(transaction, &key, &payload);

    if (error < 0)
        return error;
    error = error == 0 ? ERROR_CORRUPT : manifest_scalars_decode(payload, ret);
    return error == 0 ? 0 : manifest_record_report(manifest_key_slice(&key), error);
}

static int load_kind(struct manifest_transaction *transaction, enum manifest_key_kind kind,
                     manifest_record_callback *callback, struct load_work *work)
{
    struct manifest_key prefix = manifest_key_plain(kind);

    return manifest_record_each(transaction, &prefix, callback, work);
}

static int load_all(struct manifest_transaction *transaction, void *context)
{
    struct load_work *work = context;
    int error = load_scalars(transaction, &work->state.scalars);

    if (error == 0)
        error = load_kind(transaction, MANIFEST_KEY_TABLE, load_table, work);
    if (error == 0)
        error = load_kind(transaction, MANIFEST_KEY_BLOB, load_blob, work);
    if (error == 0)
        error = load_kind(transaction, MANIFEST_KEY_CHECKPOINT, load_checkpoint, work);
    return error;
}

int manifest_load(struct manifest *manifest, struct manifest_state *ret_state)
{
    struct load_work work = {0};
    int error = manifest_inspect(manifest, load_all, &work);

    if (error == 0) {
        if (work.state.table_count > 0)
            qsort(work.state.tables, work.state.table_count, sizeof *work.state.tables,
                  manifest_table_compare);
        error = manifest_tables_check(work.state.tables, work.state.table_count);
        if (error == ERROR_CORRUPT)
            error = manifest_record_report(slice_of("T", 1), error);
    }
    if (error != 0)
        manifest_state_free(&work.state);
    else
        *ret_state = work.state;
    return error;
}

void manifest_state_free(struct manifest_state *state)
{
    manifest_tables_free(state->tables, state->table_count);
    free(state->blobs);
    for (size_t i = 0; i < state->checkpoint_count; i++)
        manifest_checkpoint_free(&state->checkpoints[i]);
    free(state->checkpoints);
    *state = (struct manifest_state){0};
}
