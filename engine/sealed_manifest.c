/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sealed_manifest.c - writing and believing the manifest of a checkpoint
 *
 * The encoder brings tables and blobs into one order, so that equal states have equal bytes, and
 * then holds what it wrote against the decoder's own conditions: a checkpoint that could not be
 * opened must fail when it is made, not when it is needed.
 */
#include "engine/sealed_manifest.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/checksum.h"
#include "engine/base/endian.h"
#include "engine/base/error.h"
#include "engine/base/invariant.h"
#include "engine/base/log.h"
#include "engine/fields.h"
#include "engine/manifest_codec.h"

#define SEALED_VERSION        1
#define SEALED_VERSION_OLDEST 1
#define SEALED_SIZE_MIN       (8 + 4 + 4 + STORE_UUID_SIZE + 8 + 8 + 8 + 4 + 16 + 4 * 4 + 8)
#define SEALED_SIZE_MAX       MANIFEST_PLAN_SIZE_MAX
#define CURRENT_SIZE          56
#define CURRENT_NAME          "CURRENT"
#define CHECKSUM_SIZE         8
#define MANIFEST_NAME_ROOM    32
#define NANOSECONDS           1000000000u

static const uint8_t sealed_magic[8] = {'V', 'A', 'R', 'V', 'E', 'S', 'E', 'A'};
static const uint8_t current_magic[8] = {'V', 'A', 'R', 'V', 'E', 'C', 'U', 'R'};

void sealed_manifest_free(struct sealed_manifest *manifest)
{
    buffer_free(&manifest->name);
    buffer_free(&manifest->payload);
    manifest_tables_free(manifest->tables, manifest->table_count);
    free(manifest->blobs);
    memset(manifest, 0, sizeof *manifest);
}

/* ---- what both files begin and end with ---- */

/* Magic, size, checksum at the end, version: what is checked before anything is interpreted. A
 * version is believed only under a good checksum, so that a flipped bit is damage, not a newer
 * program. */
static int frame_check(struct slice from, const uint8_t magic[8], size_t size_min)
{
    uint32_t version;

    if (from.size < 8)
        return ERROR_TRUNCATED;
    if (memcmp(from.data, magic, 8) != 0)
        return ERROR_NOT_STORE;
    if (from.size < 8 + 4 + CHECKSUM_SIZE)
        return ERROR_TRUNCATED;
    if (get_le64(from.data + from.size - CHECKSUM_SIZE) !=
        checksum64(from.data, from.size - CHECKSUM_SIZE))
        return from.size < size_min ? ERROR_TRUNCATED : ERROR_CORRUPT;
    version = get_le32(from.data + 8);
    if (version > SEALED_VERSION)
        return ERROR_VERSION_NEWER;
    if (version < SEALED_VERSION_OLDEST)
        return ERROR_VERSION_OLDER;
    return from.size < size_min ? ERROR_TRUNCATED : 0;
}

static void frame_seal(struct field_writer *writer, size_t start)
{
    if (writer->error == 0)
        field_put_u64(writer, checksum64(writer->to->data + start, writer->to->size - start));
}

static struct checksum128 hash_of(struct slice bytes, int *ret_error)
{
    struct checksum128 hash = {0, 0};
    struct checksum_stream *stream = checksum_stream_new();

    *ret_error = stream == NULL ? -ENOMEM : 0;
    if (stream != NULL) {
        checksum_stream_update(stream, bytes.data, bytes.size);
        hash = checksum_stream_digest(stream);
    }
    checksum_stream_free(stream);
    return hash;
}

/* ---- conditions ---- */

static int compare_blobs(const void *a, const void *b)
{
    const struct chunk_identity *left = a, *right = b;

    return left->id < right->id ? -1 : left->id > right->id;
}

static bool blobs_rise(const struct chunk_identity *blobs, size_t count)
{
    for (size_t i = 1; i < count; i++)
        if (blobs[i - 1].id >= blobs[i].id)
            return false;
    return true;
}

/* A checkpoint is closed: no reference in it leads out of it. Uses are sorted as the blobs are. */
static bool uses_are_listed(const struct table_meta *meta, const struct chunk_identity *blobs,
                            size_t count)
{
    size_t at = 0;

    for (size_t i = 0; i < meta->use_count; i++) {
        struct chunk_identity wanted = {.id = meta->uses[i].chunk_id};

        /* Mostly the next one: look there before searching. */
        if (at >= count || blobs[at].id != wanted.id) {
            const struct chunk_identity *found =
                count == 0 ? NULL : bsearch(&wanted, blobs, count, sizeof *blobs, compare_blobs);

            if (found == NULL)
                return false;
            at = (size_t)(found - blobs);
        }
        at++;
    }
    return true;
}

static int content_check(const struct sealed_manifest *manifest)
{
    int error;

    if (manifest->checkpoint_id == 0 || manifest->created_ns >= NANOSECONDS ||
        !blobs_rise(manifest->blobs, manifest->blob_count))
        return ERROR_CORRUPT;
    error = manifest_tables_check(manifest->tables, manifest->table_count);
    if (error != 0)
        return error;
    for (size_t i = 0; i < manifest->table_count; i++)
        if (!uses_are_listed(&manifest->tables[i].meta, manifest->blobs, manifest->blob_count))
            return ERROR_CORRUPT;
    return 0;
}

/* ---- encoding ---- */

static void put_header(struct field_writer *writer, const struct sealed_manifest *manifest)
{
    field_put_bytes(writer, sealed_magic, sizeof sealed_magic);
    field_put_u32(writer, SEALED_VERSION);
    field_put_u32(writer, 0);
    field_put_bytes(writer, manifest->store_uuid, STORE_UUID_SIZE);
    field_put_u64(writer, manifest->checkpoint_id);
    field_put_u64(writer, manifest->sequence);
    field_put_u64(writer, manifest->created_s);
    field_put_u32(writer, manifest->created_ns);
    field_put_checksum128(writer, manifest->parent_hash);
    field_put_u32(writer, (uint32_t)manifest->table_count);
    field_put_u32(writer, (uint32_t)manifest->blob_count);
    field_put_u32(writer, (uint32_t)manifest->name.size);
    field_put_u32(writer, (uint32_t)manifest->payload.size);
    field_put_bytes(writer, manifest->name.data, manifest->name.size);
    field_put_bytes(writer, manifest->payload.data, manifest->payload.size);
}

/* `manifest` is in order. */
static int encode_sorted(const struct sealed_manifest *manifest, struct buffer *to)
{
    struct field_writer writer = {.to = to};
    size_t start = to->size;

    put_header(&writer, manifest);
    for (size_t i = 0; writer.error == 0 && i < manifest->table_count; i++)
        writer.error = manifest_table_encode(&manifest->tables[i], to);
    for (size_t i = 0; writer.error == 0 && i < manifest->blob_count; i++)
        writer.error = manifest_blob_encode(&manifest->blobs[i], to);
    frame_seal(&writer, start);
    if (writer.error == 0 && to->size - start > SEALED_SIZE_MAX)
        writer.error = -EINVAL;
    if (writer.error != 0)
        to->size = start;
    return writer.error;
}

static bool sizes_are_valid(size_t name_size, size_t payload_size)
{
    return name_size <= MANIFEST_NAME_SIZE_MAX && payload_size <= MANIFEST_PAYLOAD_SIZE_MAX;
}

int sealed_manifest_encode(const struct sealed_manifest *manifest, struct buffer *to)
{
    struct sealed_manifest sorted = *manifest; /* borrows everything but the two arrays */
    int error = -ENOMEM;

    if (!sizes_are_valid(manifest->name.size, manifest->payload.size) ||
        manifest->table_count > UINT32_MAX || manifest->blob_count > UINT32_MAX)
        return -EINVAL;
    sorted.tables = calloc(manifest->table_count + 1, sizeof *sorted.tables);
    sorted.blobs = calloc(manifest->blob_count + 1, sizeof *sorted.blobs);
    if (sorted.tables != NULL && sorted.blobs != NULL) {
        if (manifest->table_count > 0)
            memcpy(sorted.tables, manifest->tables, manifest->table_count * sizeof *sorted.tables);
        if (manifest->blob_count > 0)
            memcpy(sorted.blobs, manifest->blobs, manifest->blob_count * sizeof *sorted.blobs);
        qsort(sorted.tables, sorted.table_count, sizeof *sorted.tables, manifest_table_compare);
        qsort(sorted.blobs, sorted.blob_count, sizeof *sorted.blobs, compare_blobs);
        error = content_check(&sorted);
        if (error == ERROR_CORRUPT)
            error = -EINVAL;
        if (error == 0)
            error = encode_sorted(&sorted, to);
    }
    free(sorted.tables);
    free(sorted.blobs);
    return error;
}

/* ---- decoding ---- */

struct counts {
    uint32_t tables, blobs, name, payload;
};

static void take_header(struct field_reader *reader, struct sealed_manifest *manifest,
                        struct counts *ret_counts, uint32_t *ret_flags)
{
    struct slice uuid;

    (void)field_take_bytes(reader, sizeof sealed_magic + 4); /* magic and version: frame_check() */
    *ret_flags = field_take_u32(reader);
    uuid = field_take_bytes(reader, STORE_UUID_SIZE);
    if (!reader->failed)
        memcpy(manifest->store_uuid, uuid.data, STORE_UUID_SIZE);
    manifest->checkpoint_id = field_take_u64(reader);
    manifest->sequence = field_take_u64(reader);
    manifest->created_s = field_take_u64(reader);
    manifest->created_ns = field_take_u32(reader);
    manifest->parent_hash = field_take_checksum128(reader);
    ret_counts->tables = field_take_u32(reader);
    ret_counts->blobs = field_take_u32(reader);
    ret_counts->name = field_take_u32(reader);
    ret_counts->payload = field_take_u32(reader);
}

static int take_strings(struct field_reader *reader, struct sealed_manifest *manifest,
                        const struct counts *counts)
{
    struct slice name, payload;
    int error;

    if (!sizes_are_valid(counts->name, counts->payload))
        return ERROR_CORRUPT;
    name = field_take_bytes(reader, counts->name);
    payload = field_take_bytes(reader, counts->payload);
    if (reader->failed)
        return ERROR_CORRUPT;
    error = buffer_assign(&manifest->name, name.data, name.size);
    return error == 0 ? buffer_assign(&manifest->payload, payload.data, payload.size) : error;
}

/* Counts are held against the bytes that are there before memory is asked for. */
static int take_chunks(struct slice *from, struct sealed_manifest *manifest,
                       const struct counts *counts)
{
    int error = 0;

    if (counts->tables > from->size / MANIFEST_TABLE_SIZE_MIN ||
        counts->blobs > from->size / MANIFEST_BLOB_SIZE)
        return ERROR_CORRUPT;
    manifest->tables = calloc((size_t)counts->tables + 1, sizeof *manifest->tables);
    manifest->blobs = calloc((size_t)counts->blobs + 1, sizeof *manifest->blobs);
    if (manifest->tables == NULL || manifest->blobs == NULL)
        return -ENOMEM;
    while (error == 0 && manifest->table_count < counts->tables) {
        error = manifest_table_decode(from, &manifest->tables[manifest->table_count]);
        if (error == 0)
            manifest->table_count++;
    }
    while (error == 0 && manifest->blob_count < counts->blobs) {
        error = manifest_blob_decode(from, &manifest->blobs[manifest->blob_count]);
        if (error == 0)
            manifest->blob_count++;
    }
    return error == 0 && from->size > 0 ? ERROR_CORRUPT : error;
}

int sealed_manifest_decode(struct slice from, struct sealed_manifest *ret_manifest)
{
    struct sealed_manifest manifest = {0};
    struct field_reader reader;
    struct counts counts;
    uint32_t flags;
    int error = frame_check(from, sealed_magic, SEALED_SIZE_MIN);

    if (error != 0)
        return error;
    reader = field_reader_of(slice_of(from.data, from.size - CHECKSUM_SIZE));
    take_header(&reader, &manifest, &counts, &flags);
    invariant(!reader.failed); /* there is SEALED_SIZE_MIN */
    if (flags != 0) /* something that this program would have to know about */
        return ERROR_VERSION_NEWER;
    error = take_strings(&reader, &manifest, &counts);
    if (error == 0)
        error = take_chunks(&reader.left, &manifest, &counts);
    if (error == 0)
        error = content_check(&manifest);
    if (error != 0)
        sealed_manifest_free(&manifest);
    else
        *ret_manifest = manifest;
    return error;
}

/* ---- CURRENT ---- */

struct current {
    uint64_t checkpoint_id;
    struct checksum128 manifest_hash;
    uint64_t manifest_size_bytes;
};

static int current_encode(const struct current *current, struct buffer *to)
{
    struct field_writer writer = {.to = to};

    field_put_bytes(&writer, current_magic, sizeof current_magic);
    field_put_u32(&writer, SEALED_VERSION);
    field_put_u32(&writer, 0);
    field_put_u64(&writer, current->checkpoint_id);
    field_put_checksum128(&writer, current->manifest_hash);
    field_put_u64(&writer, current->manifest_size_bytes);
    frame_seal(&writer, 0);
    return writer.error;
}

static int current_decode(struct slice from, struct current *ret_current)
{
    struct field_reader reader;
    struct current current;
    int error = frame_check(from, current_magic, CURRENT_SIZE);

    if (error != 0)
        return error;
    reader = field_reader_of(slice_of(from.data, from.size - CHECKSUM_SIZE));
    (void)field_take_bytes(&reader, sizeof current_magic + 4 + 4);
    current.checkpoint_id = field_take_u64(&reader);
    current.manifest_hash = field_take_checksum128(&reader);
    current.manifest_size_bytes = field_take_u64(&reader);
    error = field_reader_end(&reader);
    if (error == 0)
        *ret_current = current;
    return error;
}

/* ---- files ---- */

static void manifest_name(char to[MANIFEST_NAME_ROOM], uint64_t checkpoint_id)
{
    snprintf(to, MANIFEST_NAME_ROOM, "MANIFEST-%016llx", (unsigned long long)checkpoint_id);
}

int sealed_manifest_write(struct io *io, struct io_file *directory,
                          const struct sealed_manifest *manifest, struct checksum128 *ret_hash)
{
    struct current current = {.checkpoint_id = manifest->checkpoint_id};
    struct buffer bytes = {0}, current_bytes = {0};
    char name[MANIFEST_NAME_ROOM];
    int error;

    manifest_name(name, manifest->checkpoint_id);
    error = sealed_manifest_encode(manifest, &bytes);
    if (error == 0)
        current.manifest_hash = hash_of(buffer_slice(&bytes), &error);
    current.manifest_size_bytes = bytes.size;
    if (error == 0)
        error = current_encode(&current, &current_bytes);
    if (error == 0)
        error = store_write_file(io, directory, name, bytes.data, bytes.size);
    if (error == 0)
        error =
            store_write_file(io, directory, CURRENT_NAME, current_bytes.data, current_bytes.size);
    if (error == 0)
        *ret_hash = current.manifest_hash;
    buffer_free(&bytes);
    buffer_free(&current_bytes);
    return error;
}

/* Read a whole file that must not be larger than `size_max`; a larger one is ERROR_CORRUPT. */
static int read_file(struct io *io, struct io_file *directory, const char *name, uint64_t size_max,
                     struct buffer *to)
{
    struct io_file *file;
    struct stat status;
    int error = io_open(io, directory, name, IO_OPEN_READ, 0, &file);

    if (error != 0)
        return error;
    error = io_stat(io, file, &status);
    if (error == 0 && (uint64_t)status.st_size > size_max)
        error = ERROR_CORRUPT;
    if (error == 0)
        error = buffer_reserve(to, (size_t)status.st_size + 1);
    if (error == 0)
        error = io_read_exact(io, file, to->data, (size_t)status.st_size, 0);
    if (error == 0)
        to->size = (size_t)status.st_size;
    io_close(io, file);
    return error;
}

static int read_current(struct io *io, struct io_file *directory, struct current *ret_current)
{
    struct buffer bytes = {0};
    int error = read_file(io, directory, CURRENT_NAME, 4096, &bytes);

    if (error == -ENOENT)
        error = ERROR_NOT_STORE;
    if (error == 0)
        error = current_decode(buffer_slice(&bytes), ret_current);
    if (error != 0)
        log_error("checkpoint: %s: %s", CURRENT_NAME, error_text(error));
    buffer_free(&bytes);
    return error;
}

/* The bytes are those that CURRENT speaks of. */
static int manifest_compare(struct slice bytes, const struct current *current)
{
    struct checksum128 hash;
    int error;

    if (bytes.size < current->manifest_size_bytes)
        return ERROR_TRUNCATED;
    hash = hash_of(bytes, &error);
    if (error != 0)
        return error;
    return checksum128_equal(hash, current->manifest_hash) ? 0 : ERROR_CORRUPT;
}

static int read_manifest(struct io *io, struct io_file *directory, const struct current *current,
                         struct sealed_manifest *ret_manifest)
{
    struct sealed_manifest manifest;
    struct buffer bytes = {0};
    char name[MANIFEST_NAME_ROOM];
    int error;

    manifest_name(name, current->checkpoint_id);
    error = read_file(io, directory, name, SEALED_SIZE_MAX, &bytes);
    if (error == -ENOENT)
        error = ERROR_CORRUPT;
    if (error == 0)
        error = manifest_compare(buffer_slice(&bytes), current);
    if (error == 0)
        error = sealed_manifest_decode(buffer_slice(&bytes), &manifest);
    if (error == 0 && manifest.checkpoint_id != current->checkpoint_id) {
        sealed_manifest_free(&manifest);
        error = ERROR_CORRUPT;
    }
    if (error == 0)
        *ret_manifest = manifest;
    else
        log_error("checkpoint: %s: %s", name, error_text(error));
    buffer_free(&bytes);
    return error;
}

int sealed_manifest_read(struct io *io, struct io_file *directory,
                         struct sealed_manifest *ret_manifest, struct checksum128 *ret_hash)
{
    struct current current;
    int error = read_current(io, directory, &current);

    if (error == 0)
        error = read_manifest(io, directory, &current, ret_manifest);
    if (error == 0)
        *ret_hash = current.manifest_hash;
    return error;
}

int sealed_manifest_read_id(struct io *io, struct io_file *directory, uint64_t *ret_id)
{
    struct current current;
    int error = read_current(io, directory, &current);

    if (error == 0)
        *ret_id = current.checkpoint_id;
    return error;
}
