/* SPDX-License-Identifier: Apache-2.0 */
/*
 * manifest_codec.c - keys and values of the manifest's records, and what makes them believable
 */
#include "engine/manifest_codec.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/endian.h"
#include "engine/base/error.h"
#include "engine/base/log.h"
#include "engine/fields.h"
#include "engine/manifest_record.h"

static const uint8_t format_magic[8] = {'V', 'A', 'R', 'V', 'E', 'M', 'A', 'N'};

/* ---- keys ---- */

struct manifest_key manifest_key_plain(enum manifest_key_kind kind)
{
    struct manifest_key key;

    key.bytes[0] = (uint8_t)kind;
    key.size = 1;
    return key;
}

struct manifest_key manifest_key_number(enum manifest_key_kind kind, uint64_t number)
{
    struct manifest_key key;

    key.bytes[0] = (uint8_t)kind;
    put_be64(key.bytes + 1, number);
    key.size = 1 + sizeof number;
    return key;
}

int manifest_key_decode_number(struct slice key, uint64_t *ret_number)
{
    if (key.size != 1 + sizeof *ret_number)
        return manifest_record_report(key, ERROR_CORRUPT);
    *ret_number = get_be64(key.data + 1);
    return 0;
}

int manifest_record_report(struct slice key, int error)
{
    char text[2 * 16 + 1] = "";
    size_t shown = key.size > 16 ? 16 : key.size;

    for (size_t i = 1; i < shown; i++)
        snprintf(text + 2 * (i - 1), 3, "%02x", key.data[i]);
    log_error("manifest: record %c %s: %s", key.size > 0 ? key.data[0] : '?', text,
              error_text(error));
    return error;
}

/* ---- chunks ---- */

static bool residency_is_known(uint8_t residency)
{
    return residency == MANIFEST_RESIDENCY_LOCAL;
}

int manifest_table_encode(const struct manifest_table *table, struct buffer *to)
{
    struct field_writer writer = {.to = to};

    field_put_u32(&writer, table->level);
    field_put_u64(&writer, table->order);
    field_put_u8(&writer, MANIFEST_RESIDENCY_LOCAL);
    return writer.error != 0 ? writer.error : table_meta_encode(&table->meta, to);
}

int manifest_table_decode(struct slice *from, struct manifest_table *ret_table)
{
    struct field_reader reader = field_reader_of(*from);
    struct manifest_table table = {0};
    uint8_t residency;
    int error;

    table.level = field_take_u32(&reader);
    table.order = field_take_u64(&reader);
    residency = field_take_u8(&reader);
    if (reader.failed)
        return ERROR_CORRUPT;
    if (!residency_is_known(residency))
        return ERROR_RESIDENCY;
    error = table_meta_decode(&reader.left, &table.meta);
    if (error != 0)
        return error;
    *from = reader.left;
    *ret_table = table;
    return 0;
}

int manifest_blob_encode(const struct chunk_identity *blob, struct buffer *to)
{
    struct field_writer writer = {.to = to};

    field_put_u8(&writer, MANIFEST_RESIDENCY_LOCAL);
    field_put_u64(&writer, blob->id);
    field_put_u32(&writer, (uint32_t)blob->kind);
    field_put_u64(&writer, blob->file_size_bytes);
    field_put_checksum128(&writer, blob->hash);
    return writer.error;
}

int manifest_blob_decode(struct slice *from, struct chunk_identity *ret_blob)
{
    struct field_reader reader = field_reader_of(*from);
    struct chunk_identity blob = {0};
    uint8_t residency = field_take_u8(&reader);
    uint32_t kind;

    blob.id = field_take_u64(&reader);
    kind = field_take_u32(&reader);
    blob.file_size_bytes = field_take_u64(&reader);
    blob.hash = field_take_checksum128(&reader);
    if (reader.failed)
        return ERROR_CORRUPT;
    if (!residency_is_known(residency))
        return ERROR_RESIDENCY;
    if (kind != CHUNK_BLOB)
        return ERROR_CORRUPT;
    blob.kind = CHUNK_BLOB;
    *from = reader.left;
    *ret_blob = blob;
    return 0;
}

/* ---- checkpoints ---- */

void manifest_checkpoint_free(struct manifest_checkpoint *checkpoint)
{
    buffer_free(&checkpoint->name);
    buffer_free(&checkpoint->payload);
    buffer_free(&checkpoint->plan);
}

/* Give `checkpoint` byte strings of its own: nothing is left allocated when it fails. */
static int checkpoint_set_bytes(struct manifest_checkpoint *checkpoint, struct slice name,
                                struct slice payload, struct slice plan)
{
    int error;

    checkpoint->name = (struct buffer){0};
    checkpoint->payload = (struct buffer){0};
    checkpoint->plan = (struct buffer){0};
    error = buffer_assign(&checkpoint->name, name.data, name.size);
    if (error == 0)
        error = buffer_assign(&checkpoint->payload, payload.data, payload.size);
    if (error == 0)
        error = buffer_assign(&checkpoint->plan, plan.data, plan.size);
    if (error != 0)
        manifest_checkpoint_free(checkpoint);
    return error;
}

int manifest_checkpoint_copy(const struct manifest_checkpoint *from,
                             struct manifest_checkpoint *ret_to)
{
    struct manifest_checkpoint copy = *from;
    int error = checkpoint_set_bytes(&copy, buffer_slice(&from->name), buffer_slice(&from->payload),
                                     buffer_slice(&from->plan));

    if (error == 0)
        *ret_to = copy;
    return error;
}

/* What encoder and decoder agree on. */
static bool checkpoint_is_valid(const struct manifest_checkpoint *checkpoint, size_t name_size,
                                size_t payload_size, size_t plan_size)
{
    bool pending = checkpoint->state == MANIFEST_CHECKPOINT_PENDING;

    if (checkpoint->id == 0 || name_size > MANIFEST_NAME_SIZE_MAX ||
        payload_size > MANIFEST_PAYLOAD_SIZE_MAX || plan_size > MANIFEST_PLAN_SIZE_MAX)
        return false;
    return pending || (plan_size == 0 && (checkpoint->state == MANIFEST_CHECKPOINT_READY ||
                                          checkpoint->state == MANIFEST_CHECKPOINT_DELETING));
}

int manifest_checkpoint_encode(const struct manifest_checkpoint *checkpoint, struct buffer *to)
{
    struct field_writer writer = {.to = to};

    if (!checkpoint_is_valid(checkpoint, checkpoint->name.size, checkpoint->payload.size,
                             checkpoint->plan.size))
        return -EINVAL;
    field_put_u64(&writer, checkpoint->id);
    field_put_u8(&writer, checkpoint->state);
    field_put_u64(&writer, checkpoint->sequence);
    field_put_u64(&writer, checkpoint->linked_files);
    field_put_u64(&writer, checkpoint->linked_bytes);
    field_put_u64(&writer, checkpoint->copied_files);
    field_put_u64(&writer, checkpoint->copied_bytes);
    field_put_checksum128(&writer, checkpoint->manifest_hash);
    field_put_u32(&writer, (uint32_t)checkpoint->name.size);
    field_put_u32(&writer, (uint32_t)checkpoint->payload.size);
    field_put_u32(&writer, (uint32_t)checkpoint->plan.size);
    field_put_bytes(&writer, checkpoint->name.data, checkpoint->name.size);
    field_put_bytes(&writer, checkpoint->payload.data, checkpoint->payload.size);
    field_put_bytes(&writer, checkpoint->plan.data, checkpoint->plan.size);
    return writer.error;
}

int manifest_checkpoint_decode(struct slice from, struct manifest_checkpoint *ret_checkpoint)
{
    struct field_reader reader = field_reader_of(from);
    struct manifest_checkpoint checkpoint = {0};
    uint32_t name_size, payload_size, plan_size;
    struct slice name, payload, plan;
    int error;

    checkpoint.id = field_take_u64(&reader);
    checkpoint.state = field_take_u8(&reader);
    checkpoint.sequence = field_take_u64(&reader);
    checkpoint.linked_files = field_take_u64(&reader);
    checkpoint.linked_bytes = field_take_u64(&reader);
    checkpoint.copied_files = field_take_u64(&reader);
    checkpoint.copied_bytes = field_take_u64(&reader);
    checkpoint.manifest_hash = field_take_checksum128(&reader);
    name_size = field_take_u32(&reader);
    payload_size = field_take_u32(&reader);
    plan_size = field_take_u32(&reader);
    name = field_take_bytes(&reader, name_size);
    payload = field_take_bytes(&reader, payload_size);
    plan = field_take_bytes(&reader, plan_size);
    error = field_reader_end(&reader);
    if (error != 0)
        return error;
    if (!checkpoint_is_valid(&checkpoint, name_size, payload_size, plan_size))
        return ERROR_CORRUPT;
    error = checkpoint_set_bytes(&checkpoint, name, payload, plan);
    if (error == 0)
        *ret_checkpoint = checkpoint;
    return error;
}

/* ---- scalars and format ---- */

int manifest_scalars_encode(const struct manifest_scalars *scalars, struct buffer *to)
{
    struct field_writer writer = {.to = to};

    field_put_u64(&writer, scalars->next_chunk_id);
    field_put_u64(&writer, scalars->next_order);
    field_put_u64(&writer, scalars->last_sequence);
    field_put_u64(&writer, scalars->wal_segment);
    field_put_u64(&writer, scalars->next_checkpoint_id);
    field_put_u64(&writer, scalars->unclean_starts);
    field_put_u8(&writer, scalars->clean ? 1 : 0);
    return writer.error;
}

int manifest_scalars_decode(struct slice from, struct manifest_scalars *ret_scalars)
{
    struct field_reader reader = field_reader_of(from);
    struct manifest_scalars scalars;
    uint8_t clean;

    scalars.next_chunk_id = field_take_u64(&reader);
    scalars.next_order = field_take_u64(&reader);
    scalars.last_sequence = field_take_u64(&reader);
    scalars.wal_segment = field_take_u64(&reader);
    scalars.next_checkpoint_id = field_take_u64(&reader);
    scalars.unclean_starts = field_take_u64(&reader);
    clean = field_take_u8(&reader);
    scalars.clean = clean == 1;
    if (field_reader_end(&reader) != 0 || clean > 1)
        return ERROR_CORRUPT;
    *ret_scalars = scalars;
    return 0;
}

int manifest_format_encode(struct buffer *to)
{
    struct field_writer writer = {.to = to};

    field_put_bytes(&writer, format_magic, sizeof format_magic);
    field_put_u32(&writer, MANIFEST_VERSION);
    return writer.error;
}

int manifest_format_check(struct slice from)
{
    struct field_reader reader = field_reader_of(from);
    struct slice magic = field_take_bytes(&reader, sizeof format_magic);
    uint32_t version = field_take_u32(&reader);

    if (reader.failed)
        return ERROR_CORRUPT;
    if (!slice_equal(magic, slice_of(format_magic, sizeof format_magic)))
        return ERROR_NOT_STORE;
    if (version > MANIFEST_VERSION)
        return ERROR_VERSION_NEWER;
    if (version < MANIFEST_VERSION_OLDEST)
        return ERROR_VERSION_OLDER;
    return field_reader_end(&reader);
}

/* ---- a set of tables ---- */

static int compare_numbers(uint64_t left, uint64_t right)
{
    return left < right ? -1 : left > right;
}

int manifest_table_compare(const void *a, const void *b)
{
    const struct manifest_table *left = a, *right = b;

    if (left->level != right->level)
        return left->level < right->level ? -1 : 1;
    if (left->order != right->order)
        return left->order < right->order ? -1 : 1;
    return compare_numbers(left->meta.identity.id, right->meta.identity.id);
}

void manifest_tables_free(struct manifest_table *tables, size_t count)
{
    for (size_t i = 0; i < count; i++)
        table_meta_free(&tables[i].meta);
    free(tables);
}

static const struct manifest_table *table_behind(const void *element)
{
    return *(const struct manifest_table *const *)element;
}

static int compare_ids(const void *a, const void *b)
{
    return compare_numbers(table_behind(a)->meta.identity.id, table_behind(b)->meta.identity.id);
}

static int compare_ranges(const void *a, const void *b)
{
    const struct manifest_table *left = table_behind(a), *right = table_behind(b);

    if (left->level != right->level)
        return left->level < right->level ? -1 : 1;
    return slice_compare(buffer_slice(&left->meta.smallest), buffer_slice(&right->meta.smallest));
}

static bool tables_are_in_order(const struct manifest_table *tables, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const struct manifest_table *table = &tables[i];

        if (table->level >= MANIFEST_LEVELS ||
            slice_compare(buffer_slice(&table->meta.smallest), buffer_slice(&table->meta.largest)) >
                0)
            return false;
        if (i == 0)
            continue;
        if (manifest_table_compare(table - 1, table) >= 0)
            return false;
        /* Which of two tables of L0 is newer must be known. */
        if (table->level == 0 && table[-1].order == table->order)
            return false;
    }
    return true;
}

static bool ids_are_unique(const struct manifest_table **sorted, size_t count)
{
    for (size_t i = 1; i < count; i++)
        if (sorted[i - 1]->meta.identity.id == sorted[i]->meta.identity.id)
            return false;
    return true;
}

static bool ranges_are_disjoint(const struct manifest_table **sorted, size_t count)
{
    for (size_t i = 1; i < count; i++) {
        const struct manifest_table *before = sorted[i - 1], *after = sorted[i];

        if (before->level > 0 && before->level == after->level &&
            slice_compare(buffer_slice(&before->meta.largest),
                          buffer_slice(&after->meta.smallest)) > 0)
            return false;
    }
    return true;
}

/* Whoever adds up the uses of all tables never overflows. */
static bool uses_can_be_summed(const struct manifest_table *tables, size_t count)
{
    uint64_t references = 0, bytes = 0;

    for (size_t i = 0; i < count; i++)
        for (size_t j = 0; j < tables[i].meta.use_count; j++) {
            const struct table_blob_use *use = &tables[i].meta.uses[j];

            if (use->references == 0 || use->references > INT64_MAX - references ||
                use->bytes > INT64_MAX - bytes)
                return false;
            references += use->references;
            bytes += use->bytes;
        }
    return true;
}

int manifest_tables_check(const struct manifest_table *tables, size_t count)
{
    const struct manifest_table **sorted;
    bool good;

    if (count == 0)
        return 0;
    if (!tables_are_in_order(tables, count) || !uses_can_be_summed(tables, count))
        return ERROR_CORRUPT;
    sorted = malloc(count * sizeof *sorted);
    if (sorted == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < count; i++)
        sorted[i] = &tables[i];
    qsort(sorted, count, sizeof *sorted, compare_ids);
    good = ids_are_unique(sorted, count);
    if (good) {
        qsort(sorted, count, sizeof *sorted, compare_ranges);
        good = ranges_are_disjoint(sorted, count);
    }
    free(sorted);
    return good ? 0 : ERROR_CORRUPT;
}
