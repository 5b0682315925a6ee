/* SPDX-License-Identifier: Apache-2.0 */
/*
 * manifest_edit.c - one atomic change of what the store consists of
 *
 * Everything is encoded and put in one transaction; a failure anywhere undoes it all. Whoever
 * removes what is not there works from another state than the manifest's: that is refused.
 */
#include <errno.h>
#include <stdlib.h>

#include "engine/base/error.h"
#include "engine/manifest_codec.h"
#include "engine/manifest_record.h"

struct edit_work {
    const struct manifest_edit *edit;
    struct manifest *manifest;
    struct buffer scratch; /* one value */
    struct manifest_change change;
};

/* ---- the records of an empty manifest ---- */

static int put_scalars(struct manifest_transaction *transaction,
                       const struct manifest_scalars *scalars, struct buffer *scratch)
{
    struct manifest_key key = manifest_key_plain(MANIFEST_KEY_SCALARS);
    int error;

    scratch->size = 0;
    error = manifest_scalars_encode(scalars, scratch);
    return error == 0 ? manifest_record_put(transaction, &key, buffer_slice(scratch)) : error;
}

int manifest_create_records(struct manifest_transaction *transaction, void *context)
{
    const struct manifest_scalars scalars = {
        .next_chunk_id = 1,
        .next_order = 1,
        .wal_segment = 1,
        .next_checkpoint_id = 1,
        .clean = true,
    };
    struct manifest_key key = manifest_key_plain(MANIFEST_KEY_FORMAT);
    struct buffer scratch = {0};
    int error;

    (void)context;
    error = manifest_format_encode(&scratch);
    if (error == 0)
        error = manifest_record_put(transaction, &key, buffer_slice(&scratch));
    if (error == 0)
        error = put_scalars(transaction, &scalars, &scratch);
    if (error == 0)
        error = manifest_changes_create(transaction);
    buffer_free(&scratch);
    return error;
}

int manifest_format_look(struct manifest_transaction *transaction, void *context)
{
    struct manifest_key key = manifest_key_plain(MANIFEST_KEY_FORMAT);
    bool *ret_present = context;
    struct slice payload;
    int error = manifest_record_get(transaction, &key, &payload);

    if (error <= 0)
        return error;
    *ret_present = true;
    error = manifest_format_check(payload);
    return error == 0 ? 0 : manifest_record_report(manifest_key_slice(&key), error);
}

/* ---- edits ---- */

static int remove_chunks(struct manifest_transaction *transaction, enum manifest_key_kind kind,
                         const uint64_t *ids, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct manifest_key key = manifest_key_number(kind, ids[i]);
        int error = manifest_record_delete(transaction, &key);

        if (error < 0)
            return error;
        if (error == 0)
            return manifest_record_report(manifest_key_slice(&key), -ENOENT);
    }
    return 0;
}

static int put_value(struct manifest_transaction *transaction, enum manifest_key_kind kind,
                     uint64_t id, const struct buffer *value)
{
    struct manifest_key key = manifest_key_number(kind, id);

    return manifest_record_put(transaction, &key, buffer_slice(value));
}

static int add_tables(struct manifest_transaction *transaction, struct edit_work *work)
{
    for (size_t i = 0; i < work->edit->add_table_count; i++) {
        const struct manifest_table *table = &work->edit->add_tables[i];
        int error = 0;

        if (table->level >= MANIFEST_LEVELS || table->meta.identity.kind != CHUNK_TABLE)
            return -EINVAL;
        work->scratch.size = 0;
        error = manifest_table_encode(table, &work->scratch);
        if (error == 0)
            error =
                put_value(transaction, MANIFEST_KEY_TABLE, table->meta.identity.id, &work->scratch);
        if (error != 0)
            return error;
    }
    return 0;
}

static int add_blobs(struct manifest_transaction *transaction, struct edit_work *work)
{
    for (size_t i = 0; i < work->edit->add_blob_count; i++) {
        const struct chunk_identity *blob = &work->edit->add_blobs[i];
        int error = 0;

        if (blob->kind != CHUNK_BLOB)
            return -EINVAL;
        work->scratch.size = 0;
        error = manifest_blob_encode(blob, &work->scratch);
        if (error == 0)
            error = put_value(transaction, MANIFEST_KEY_BLOB, blob->id, &work->scratch);
        if (error != 0)
            return error;
    }
    return 0;
}

static int change_checkpoints(struct manifest_transaction *transaction, struct edit_work *work)
{
    const struct manifest_checkpoint *checkpoint = work->edit->put_checkpoint;
    int error;

    error = remove_chunks(transaction, MANIFEST_KEY_CHECKPOINT, work->edit->remove_checkpoints,
                          work->edit->remove_checkpoint_count);
    for (size_t i = 0; error == 0 && i < work->edit->remove_checkpoint_count; i++)
        error = manifest_leases_drop(transaction, work->edit->remove_checkpoints[i]);
    if (error != 0)
        return error;
    if (checkpoint == NULL)
        return 0;
    work->scratch.size = 0;
    error = manifest_checkpoint_encode(checkpoint, &work->scratch);
    return error != 0
               ? error
               : put_value(transaction, MANIFEST_KEY_CHECKPOINT, checkpoint->id, &work->scratch);
}

static int apply_edit(struct manifest_transaction *transaction, void *context)
{
    struct edit_work *work = context;
    const struct manifest_edit *edit = work->edit;
    int error;

    error = remove_chunks(transaction, MANIFEST_KEY_TABLE, edit->remove_tables,
                          edit->remove_table_count);
    if (error == 0)
        error = remove_chunks(transaction, MANIFEST_KEY_BLOB, edit->remove_blobs,
                              edit->remove_blob_count);
    if (error == 0)
        error = add_tables(transaction, work);
    if (error == 0)
        error = add_blobs(transaction, work);
    if (error == 0)
        error = change_checkpoints(transaction, work);
    if (error == 0 && edit->scalars != NULL)
        error = put_scalars(transaction, edit->scalars, &work->scratch);
    if (error == 0)
        error = manifest_changes_append(transaction, work->manifest, &work->change);
    return error;
}

/* ---- the ids for the change log ---- */

static int compare_numbers(const void *a, const void *b)
{
    const uint64_t *left = a, *right = b;

    return *left < *right ? -1 : *left > *right;
}

/* Take what both sorted lists have out of both: a table that only moved to another level has
 * neither come nor gone. */
static void cancel_common(uint64_t *added, size_t *added_count, uint64_t *removed,
                          size_t *removed_count)
{
    size_t a = 0, r = 0, added_kept = 0, removed_kept = 0;

    while (a < *added_count && r < *removed_count) {
        if (added[a] < removed[r]) {
            added[added_kept++] = added[a++];
        } else if (added[a] > removed[r]) {
            removed[removed_kept++] = removed[r++];
        } else {
            a++;
            r++;
        }
    }
    while (a < *added_count)
        added[added_kept++] = added[a++];
    while (r < *removed_count)
        removed[removed_kept++] = removed[r++];
    *added_count = added_kept;
    *removed_count = removed_kept;
}

/* *ret_ids holds both lists and is the caller's. */
static int change_of_edit(const struct manifest_edit *edit, struct manifest_change *ret_change,
                          uint64_t **ret_ids)
{
    size_t added_count = edit->add_table_count + edit->add_blob_count;
    size_t removed_count = edit->remove_table_count + edit->remove_blob_count;
    uint64_t *added = malloc((added_count + removed_count + 1) * sizeof *added);
    uint64_t *removed, *next = added;

    if (added == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < edit->add_table_count; i++)
        *next++ = edit->add_tables[i].meta.identity.id;
    for (size_t i = 0; i < edit->add_blob_count; i++)
        *next++ = edit->add_blobs[i].id;
    removed = next;
    for (size_t i = 0; i < edit->remove_table_count; i++)
        *next++ = edit->remove_tables[i];
    for (size_t i = 0; i < edit->remove_blob_count; i++)
        *next++ = edit->remove_blobs[i];
    qsort(added, added_count, sizeof *added, compare_numbers);
    qsort(removed, removed_count, sizeof *removed, compare_numbers);
    cancel_common(added, &added_count, removed, &removed_count);
    *ret_change = (struct manifest_change){.added = added,
                                           .removed = removed,
                                           .added_count = added_count,
                                           .removed_count = removed_count};
    *ret_ids = added;
    return 0;
}

int manifest_commit(struct manifest *manifest, const struct manifest_edit *edit)
{
    struct edit_work work = {.edit = edit, .manifest = manifest};
    uint64_t *ids;
    int error = change_of_edit(edit, &work.change, &ids);

    if (error != 0)
        return error;
    error = manifest_update(manifest, apply_edit, &work);
    buffer_free(&work.scratch);
    free(ids);
    return error;
}
