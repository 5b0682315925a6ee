/* SPDX-License-Identifier: Apache-2.0 */
/*
 * table_writer.c - a table file from sorted records, written once from front to back
 *
 * Bytes go through one aligned buffer and out with direct I/O: what is written here is not read
 * back soon, and must not push out of the page cache what is (nor delay the log that shares the
 * disk). The last write is padded to the alignment and the padding cut off again.
 *
 * The content hash is taken buffer by buffer on the way, so sealing reads nothing. The file gets
 * its final name only when it is complete and synced; until then it lies in the temporary
 * directory, which is emptied when the store is opened.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "engine/base/error.h"
#include "engine/base/invariant.h"
#include "engine/base/log.h"
#include "engine/blob_ref.h"
#include "engine/table.h"
#include "engine/table_block.h"
#include "engine/table_filter.h"
#include "engine/table_format.h"
#include "engine/table_index.h"
#include "engine/table_meta.h"
#include "engine/table_section.h"

#define WRITE_SIZE  ((size_t)1 << 20)
#define SEALED_MODE 0444

static_assert(WRITE_SIZE % IO_DIRECT_ALIGNMENT == 0, "the padded tail fits into the buffer");

/* Where a section went. */
struct placement {
    uint64_t position, stored_size, raw_size;
};

enum writer_state {
    WRITER_OPEN,
    WRITER_RENAMED, /* has its final name, which is not known to be durable */
    WRITER_FINISHED
};

struct table_writer {
    struct table_writer_options options;
    uint8_t store_uuid[STORE_UUID_SIZE];
    uint64_t salt;
    enum writer_state state;
    int error; /* the first; every later call returns it */
    struct io_file *file;
    char temporary_name[CHUNK_NAME_SIZE];
    char name[CHUNK_NAME_SIZE]; /* once renamed */

    uint8_t *out; /* WRITE_SIZE bytes, aligned */
    size_t out_size;
    size_t out_hashed; /* of them already in the hash */
    uint64_t written;  /* bytes before `out` */
    struct checksum_stream *hash;

    struct table_block_builder block;
    struct table_index_builder index;
    struct buffer section;    /* the section being encoded */
    struct buffer last_key;   /* last key of the last complete block */
    struct buffer first_key;  /* first key of the block being built */
    struct buffer tombstones; /* raw section, number filled in at the end */
    struct buffer tombstone_end;
    struct buffer hashes; /* u64 per record, for the filter */
    size_t use_capacity;
    size_t last_use;
    uint64_t raw_bytes, key_bytes, value_bytes;
    struct table_meta meta;
};

/* ---- bytes to the file ---- */

static void hash_out(struct table_writer *writer)
{
    checksum_stream_update(writer->hash, writer->out + writer->out_hashed,
                           writer->out_size - writer->out_hashed);
    writer->out_hashed = writer->out_size;
}

static int flush_out(struct table_writer *writer)
{
    int error;

    hash_out(writer);
    error = io_write(writer->options.io, writer->file, writer->out, WRITE_SIZE, writer->written);
    if (error < 0)
        return error;
    writer->written += WRITE_SIZE;
    writer->out_size = 0;
    writer->out_hashed = 0;
    return 0;
}

static int append(struct table_writer *writer, const void *data, size_t size)
{
    const uint8_t *from = data;

    while (size > 0) {
        size_t part = WRITE_SIZE - writer->out_size;

        if (part > size)
            part = size;
        memcpy(writer->out + writer->out_size, from, part);
        writer->out_size += part;
        from += part;
        size -= part;
        if (writer->out_size == WRITE_SIZE) {
            int error = flush_out(writer);

            if (error < 0)
                return error;
        }
    }
    return 0;
}

static uint64_t position(const struct table_writer *writer)
{
    return writer->written + writer->out_size;
}

static int append_section(struct table_writer *writer, enum table_section_kind kind,
                          struct slice raw, int level, struct placement *ret_placement)
{
    uint64_t at = position(writer);
    int error = table_section_encode(raw, kind, writer->salt, at, level, &writer->section);

    if (error == 0)
        error = append(writer, writer->section.data, writer->section.size);
    if (error < 0)
        return error;
    ret_placement->position = at;
    ret_placement->stored_size = writer->section.size - TABLE_SECTION_TRAILER_SIZE;
    ret_placement->raw_size = raw.size;
    return 0;
}

/* ---- making one ---- */

static int writer_init(struct table_writer *writer)
{
    uint8_t header[CHUNK_HEADER_SIZE];
    const uint8_t no_tombstones[4] = {0};
    int error;

    writer->out = io_allocate_aligned(WRITE_SIZE);
    writer->hash = checksum_stream_new();
    if (!writer->out || !writer->hash)
        return -ENOMEM;
    error = buffer_append(&writer->tombstones, no_tombstones, sizeof no_tombstones);
    if (error < 0)
        return error;
    error = io_open(writer->options.io, writer->options.temporary_directory, writer->temporary_name,
                    IO_OPEN_WRITE | IO_OPEN_CREATE | IO_OPEN_DIRECT, 0600, &writer->file);
    if (error < 0) {
        log_error("tmp/%s: cannot create: %s", writer->temporary_name, error_text(error));
        return error;
    }
    chunk_header_encode(header, CHUNK_TABLE, writer->store_uuid, writer->options.id);
    return append(writer, header, sizeof header);
}

int table_writer_new(const struct table_writer_options *options, struct table_writer **ret_writer)
{
    struct table_writer *writer = calloc(1, sizeof *writer);
    int error;

    if (!writer)
        return -ENOMEM;
    writer->options = *options;
    memcpy(writer->store_uuid, options->store_uuid, STORE_UUID_SIZE);
    writer->options.store_uuid = writer->store_uuid;
    writer->salt = table_salt(writer->store_uuid, options->id);
    writer->meta.smallest_sequence = UINT64_MAX;
    snprintf(writer->temporary_name, sizeof writer->temporary_name, "%016" PRIx64 ".tbl",
             options->id);
    error = writer_init(writer);
    if (error < 0) {
        table_writer_free(writer);
        return error;
    }
    *ret_writer = writer;
    return 0;
}

void table_writer_free(struct table_writer *writer)
{
    if (!writer)
        return;
    if (writer->file) {
        io_close(writer->options.io, writer->file);
        /* What stays behind is swept at the next open; there is nothing to report. */
        if (writer->state == WRITER_RENAMED)
            io_unlink(writer->options.io, writer->options.chunk_directory, writer->name);
        else if (writer->state == WRITER_OPEN)
            io_unlink(writer->options.io, writer->options.temporary_directory,
                      writer->temporary_name);
    }
    free(writer->out);
    checksum_stream_free(writer->hash);
    table_block_builder_free(&writer->block);
    table_index_builder_free(&writer->index);
    buffer_free(&writer->section);
    buffer_free(&writer->last_key);
    buffer_free(&writer->first_key);
    buffer_free(&writer->tombstones);
    buffer_free(&writer->tombstone_end);
    buffer_free(&writer->hashes);
    table_meta_free(&writer->meta);
    free(writer);
}

/* Keep and log the first error. */
static int writer_fail(struct table_writer *writer, int error)
{
    writer->error = error;
    log_error("table %016" PRIx64 ": cannot write: %s", writer->options.id, error_text(error));
    return error;
}

/* ---- adding ---- */

static void note_sequence(struct table_meta *meta, uint64_t sequence)
{
    if (sequence < meta->smallest_sequence)
        meta->smallest_sequence = sequence;
    if (sequence > meta->largest_sequence)
        meta->largest_sequence = sequence;
}

/* Index of the use of `chunk_id`, or where it belongs. */
static size_t find_use(const struct table_meta *meta, uint64_t chunk_id)
{
    size_t low = 0, high = meta->use_count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (meta->uses[middle].chunk_id < chunk_id)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static int insert_use(struct table_writer *writer, size_t at, uint64_t chunk_id)
{
    struct table_meta *meta = &writer->meta;

    if (meta->use_count == writer->use_capacity) {
        size_t capacity = writer->use_capacity == 0 ? 16 : writer->use_capacity * 2;
        struct table_blob_use *uses = realloc(meta->uses, capacity * sizeof *uses);

        if (!uses)
            return -ENOMEM;
        meta->uses = uses;
        writer->use_capacity = capacity;
    }
    memmove(&meta->uses[at + 1], &meta->uses[at], (meta->use_count - at) * sizeof *meta->uses);
    meta->uses[at] = (struct table_blob_use){.chunk_id = chunk_id};
    meta->use_count++;
    return 0;
}

static int note_use(struct table_writer *writer, struct slice value)
{
    struct table_meta *meta = &writer->meta;
    size_t at = writer->last_use; /* neighbours mostly refer to one chunk */
    struct blob_ref ref;
    int error = blob_ref_decode(value, &ref);

    if (error < 0)
        return error;
    if (at >= meta->use_count || meta->uses[at].chunk_id != ref.chunk_id) {
        at = find_use(meta, ref.chunk_id);
        if (at == meta->use_count || meta->uses[at].chunk_id != ref.chunk_id) {
            error = insert_use(writer, at, ref.chunk_id);
            if (error < 0)
                return error;
        }
        writer->last_use = at;
    }
    meta->uses[at].references++;
    meta->uses[at].bytes += blob_ref_share(&ref);
    return 0;
}

static int close_block(struct table_writer *writer)
{
    struct placement placement;
    struct slice raw;
    int error = table_block_builder_finish(&writer->block, &raw);

    if (error == 0)
        error = append_section(writer, TABLE_SECTION_DATA, raw, writer->options.compression_level,
                               &placement);
    if (error == 0)
        error = table_index_builder_add(&writer->index, buffer_slice(&writer->last_key),
                                        buffer_slice(&writer->first_key),
                                        (size_t)placement.stored_size, raw.size);
    if (error == 0)
        error =
            buffer_assign(&writer->last_key, writer->block.last_key, writer->block.last_key_size);
    if (error < 0)
        return error;
    writer->raw_bytes += raw.size;
    table_block_builder_reset(&writer->block);
    return 0;
}

static int begin_block(struct table_writer *writer, struct slice first_key)
{
    /* Inside a block its builder asserts the order. */
    if (writer->meta.records > 0)
        invariant(slice_compare(buffer_slice(&writer->last_key), first_key) < 0);
    return buffer_assign(&writer->first_key, first_key.data, first_key.size);
}

/* Does the present block end before this record? See TABLE_BLOCK_SIZE. */
static bool ends_block(const struct table_writer *writer, const struct record *record,
                       uint64_t key_hash)
{
    const uint64_t size = record->key.size + record->value.size;

    if (writer->block.count == 0)
        return false;
    if (table_block_builder_size_with(&writer->block, record) > TABLE_BLOCK_SIZE)
        return true;
    return table_block_builder_size(&writer->block) >= TABLE_BLOCK_SIZE_MIN &&
           (key_hash & UINT32_MAX) < size * (((uint64_t)UINT32_MAX + 1) / TABLE_BLOCK_STEP);
}

static int add_record(struct table_writer *writer, const struct record *record)
{
    uint64_t key_hash = table_filter_hash(record->key);
    int error = 0;

    if (ends_block(writer, record, key_hash))
        error = close_block(writer);
    if (error == 0 && writer->block.count == 0)
        error = begin_block(writer, record->key);
    if (error == 0 && writer->meta.records == 0)
        error = buffer_assign(&writer->meta.smallest, record->key.data, record->key.size);
    if (error == 0)
        error = table_block_builder_add(&writer->block, record);
    if (error == 0)
        error = buffer_append(&writer->hashes, &key_hash, sizeof key_hash);
    if (error == 0 && record->kind == RECORD_REFERENCE)
        error = note_use(writer, record->value);
    return error;
}

int table_writer_add(struct table_writer *writer, const struct record *record)
{
    int error;

    invariant(writer->state == WRITER_OPEN);
    invariant(record->kind >= RECORD_VALUE && record->kind <= RECORD_DELETE);
    invariant(record->key.size > 0 && record->key.size <= RECORD_KEY_SIZE_MAX);
    invariant(record->value.size <= RECORD_VALUE_SIZE_MAX);
    if (writer->error < 0)
        return writer->error;
    error = add_record(writer, record);
    if (error < 0)
        return writer_fail(writer, error);
    writer->meta.records++;
    writer->meta.deletes += record->kind == RECORD_DELETE;
    writer->key_bytes += record->key.size;
    writer->value_bytes += record->value.size;
    note_sequence(&writer->meta, record->sequence);
    return 0;
}

static int add_tombstone(struct table_writer *writer, struct slice start, struct slice end,
                         uint64_t sequence)
{
    struct buffer *to = &writer->tombstones;
    size_t room = 3 * VARINT_SIZE_MAX + start.size + end.size;
    uint8_t *at;
    int error = buffer_reserve(to, to->size + room);

    if (error == 0)
        error = buffer_assign(&writer->tombstone_end, end.data, end.size);
    if (error < 0)
        return error;
    at = put_varint(to->data + to->size, start.size);
    at = put_varint(at, end.size);
    at = put_varint(at, sequence);
    memcpy(at, start.data, start.size);
    at += start.size;
    memcpy(at, end.data, end.size);
    to->size = (size_t)(at + end.size - to->data);
    return 0;
}

int table_writer_add_tombstone(struct table_writer *writer, struct slice start, struct slice end,
                               uint64_t sequence)
{
    int error;

    invariant(writer->state == WRITER_OPEN);
    invariant(start.size > 0 && start.size <= RECORD_KEY_SIZE_MAX);
    invariant(end.size > 0 && end.size <= RECORD_KEY_SIZE_MAX);
    invariant(slice_compare(start, end) < 0);
    invariant(slice_compare(buffer_slice(&writer->tombstone_end), start) <= 0);
    if (writer->error < 0)
        return writer->error;
    error = add_tombstone(writer, start, end, sequence);
    if (error < 0)
        return writer_fail(writer, error);
    writer->meta.tombstones++;
    note_sequence(&writer->meta, sequence);
    return 0;
}

uint64_t table_writer_size_bytes(const struct table_writer *writer)
{
    return position(writer) + table_block_builder_size(&writer->block) + writer->tombstones.size +
           writer->index.bytes.size + table_filter_size(writer->hashes.size / sizeof(uint64_t));
}

/* ---- sealing ---- */

/* smallest and largest so far cover the records; widen them by the tombstones. */
static int finish_bounds(struct table_writer *writer)
{
    struct table_meta *meta = &writer->meta;
    struct slice last = slice_of(NULL, 0);
    int error = 0;

    if (meta->records > 0)
        last = buffer_slice(&writer->last_key);
    if (meta->tombstones > 0) {
        struct slice first, end = buffer_slice(&writer->tombstone_end);
        const uint8_t *at = writer->tombstones.data + 4;
        const uint8_t *limit = writer->tombstones.data + writer->tombstones.size;
        uint64_t start_size = 0, skipped;

        at = get_varint(at, limit, &start_size);
        at = get_varint(at, limit, &skipped);
        at = get_varint(at, limit, &skipped);
        first = slice_of(at, (size_t)start_size);
        if (meta->records == 0 || slice_compare(first, buffer_slice(&meta->smallest)) < 0)
            error = buffer_assign(&meta->smallest, first.data, first.size);
        if (slice_compare(end, last) > 0)
            last = end;
    }
    if (error == 0)
        error = buffer_assign(&meta->largest, last.data, last.size);
    return error;
}

static int write_filter(struct table_writer *writer, struct placement *ret_placement)
{
    size_t count = writer->hashes.size / sizeof(uint64_t);
    struct slice raw = {NULL, table_filter_size(count)};
    uint64_t *hashes = (uint64_t *)(void *)writer->hashes.data;
    uint8_t *filter = malloc(raw.size + 1);
    int error;

    if (!filter)
        return -ENOMEM;
    table_filter_build(hashes, count, filter);
    raw.data = filter;
    error = append_section(writer, TABLE_SECTION_FILTER, raw, 0, ret_placement);
    free(filter);
    return error;
}

static int write_properties(struct table_writer *writer, struct placement *ret_placement)
{
    struct buffer properties = {0};
    uint8_t sums[24];
    int error;

    put_le64(sums, writer->raw_bytes);
    put_le64(sums + 8, writer->key_bytes);
    put_le64(sums + 16, writer->value_bytes);
    error = buffer_append(&properties, sums, sizeof sums);
    if (error == 0)
        error = table_meta_encode_body(&writer->meta, &properties);
    if (error == 0)
        error = append_section(writer, TABLE_SECTION_PROPERTIES, buffer_slice(&properties),
                               writer->options.compression_level, ret_placement);
    buffer_free(&properties);
    return error;
}

static int write_footer(struct table_writer *writer,
                        const struct placement placements[TABLE_FOOTER_SECTIONS],
                        uint64_t *ret_position)
{
    uint8_t footer[TABLE_FOOTER_SIZE];
    uint64_t at = position(writer);

    for (size_t i = 0; i < TABLE_FOOTER_SECTIONS; i++) {
        uint8_t *entry = footer + i * TABLE_FOOTER_ENTRY_SIZE;

        put_le64(entry, placements[i].position);
        put_le64(entry + 8, placements[i].stored_size);
        put_le64(entry + 16, placements[i].raw_size);
    }
    put_le64(footer + TABLE_FOOTER_CHECKED,
             checksum64_seeded(footer, TABLE_FOOTER_CHECKED, writer->salt + at));
    *ret_position = at;
    return append(writer, footer, sizeof footer);
}

/* Everything behind the data blocks, the trailer excepted. */
static int write_sections(struct table_writer *writer, uint64_t *ret_footer)
{
    struct placement placements[TABLE_FOOTER_SECTIONS];
    int level = writer->options.compression_level;
    struct slice index;
    int error = write_filter(writer, &placements[0]);

    put_le32(writer->tombstones.data, (uint32_t)writer->meta.tombstones);
    if (error == 0)
        error = append_section(writer, TABLE_SECTION_TOMBSTONES, buffer_slice(&writer->tombstones),
                               level, &placements[1]);
    if (error == 0)
        error = table_index_builder_finish(&writer->index, &index);
    if (error == 0)
        error = append_section(writer, TABLE_SECTION_INDEX, index, level, &placements[2]);
    if (error == 0)
        error = write_properties(writer, &placements[3]);
    if (error == 0)
        error = write_footer(writer, placements, ret_footer);
    return error;
}

/* The trailer, which the hash does not cover, and with it the last bytes of the file. */
static int write_end(struct table_writer *writer, uint64_t footer)
{
    struct table_meta *meta = &writer->meta;
    struct chunk_trailer trailer = {
        .id = writer->options.id,
        .kind = CHUNK_TABLE,
        .content_size_bytes = position(writer),
        .values = {footer, TABLE_FOOTER_SIZE},
    };
    uint8_t encoded[CHUNK_TRAILER_SIZE];
    size_t padded;
    int error;

    hash_out(writer);
    trailer.hash = checksum_stream_digest(writer->hash);
    memcpy(trailer.store_uuid, writer->store_uuid, STORE_UUID_SIZE);
    chunk_trailer_encode(encoded, &trailer);
    error = append(writer, encoded, sizeof encoded); /* may hash on: the digest is taken */
    if (error < 0)
        return error;

    meta->identity = (struct chunk_identity){
        .id = writer->options.id,
        .kind = CHUNK_TABLE,
        .file_size_bytes = position(writer),
        .hash = trailer.hash,
    };
    if (writer->out_size == 0)
        return 0;
    padded =
        (writer->out_size + IO_DIRECT_ALIGNMENT - 1) / IO_DIRECT_ALIGNMENT * IO_DIRECT_ALIGNMENT;
    memset(writer->out + writer->out_size, 0, padded - writer->out_size);
    error = io_write(writer->options.io, writer->file, writer->out, padded, writer->written);
    if (error == 0 && padded != writer->out_size)
        error = io_truncate(writer->options.io, writer->file, meta->identity.file_size_bytes);
    return error;
}

/*
 * The content is durable before the final name exists, so a file under that name is whole. A rename
 * changes nothing of the file itself: only the directories are synced behind it, the one that it
 * left as well, or without a journal the disk might show the file under both names.
 */
static int seal_file(struct table_writer *writer)
{
    const struct table_writer_options *options = &writer->options;
    int error = io_chmod(options->io, writer->file, SEALED_MODE);

    if (error == 0)
        error = io_sync(options->io, writer->file, false);
    if (error < 0)
        return error;
    chunk_name(writer->name, &writer->meta.identity);
    error = io_rename(options->io, options->temporary_directory, writer->temporary_name,
                      options->chunk_directory, writer->name);
    if (error < 0)
        return error;
    writer->state = WRITER_RENAMED;
    error = io_sync(options->io, options->chunk_directory, false);
    if (error == 0)
        error = io_sync(options->io, options->temporary_directory, false);
    return error;
}

int table_writer_finish(struct table_writer *writer, struct table_meta *ret_meta)
{
    uint64_t footer = 0;
    int error = 0;

    invariant(writer->state == WRITER_OPEN);
    invariant(writer->meta.records + writer->meta.tombstones > 0);
    if (writer->error < 0)
        return writer->error;
    if (writer->block.count > 0)
        error = close_block(writer);
    if (error == 0)
        error = finish_bounds(writer);
    if (error == 0)
        error = write_sections(writer, &footer);
    if (error == 0)
        error = write_end(writer, footer);
    if (error == 0)
        error = seal_file(writer);
    if (error < 0)
        return writer_fail(writer, error);
    writer->state = WRITER_FINISHED;
    *ret_meta = writer->meta;
    memset(&writer->meta, 0, sizeof writer->meta);
    return 0;
}
