/* SPDX-License-Identifier: Apache-2.0 */
/*
 * table_reader.c - open a table, look one key up
 *
 * Index, filter and tombstones are resident. A data block is verified and decoded when it is read
 * from disk and lies decoded in the block cache afterwards.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "engine/base/error.h"
#include "engine/base/invariant.h"
#include "engine/base/log.h"
#include "engine/table_block.h"
#include "engine/table_filter.h"
#include "engine/table_meta.h"
#include "engine/table_reader_internal.h"
#include "engine/table_section.h"

#define TAIL_SIZE       ((size_t)64 << 10) /* read at once: trailer, footer, mostly the index too */
#define STACK_READ_SIZE 16384              /* a stored block mostly fits */
#define VERIFY_SIZE     ((size_t)1 << 20)
#define PROPERTIES_SUMS 24 /* bytes before the meta */

/* The end of the file, while it is opened. */
struct tail {
    uint8_t *data;
    uint64_t position;
    size_t size;
};

struct placement {
    uint64_t position, stored_size, raw_size;
};

enum footer_section { FILTER, TOMBSTONES, INDEX, PROPERTIES };

/* ---- opening ---- */

/* Bytes [position, position + size) of the file: in the tail, or read into *ret_owned. */
static int get_bytes(struct table_reader *reader, const struct tail *tail, uint64_t position,
                     size_t size, const uint8_t **ret_bytes, uint8_t **ret_owned)
{
    uint8_t *owned;
    int error;

    if (position >= tail->position) {
        *ret_bytes = tail->data + (position - tail->position);
        *ret_owned = NULL;
        return 0;
    }
    owned = malloc(size);
    if (!owned)
        return -ENOMEM;
    error = io_read_exact(reader->io, reader->file, owned, size, position);
    if (error < 0) {
        free(owned);
        return error;
    }
    *ret_bytes = owned;
    *ret_owned = owned;
    return 0;
}

/* Load a section that the footer names; the caller frees *ret_raw (never NULL on success). */
static int load_section(struct table_reader *reader, const struct tail *tail,
                        const struct placement *placement, enum table_section_kind kind,
                        uint8_t **ret_raw)
{
    size_t stored_size = (size_t)placement->stored_size + TABLE_SECTION_TRAILER_SIZE;
    const uint8_t *stored;
    uint8_t *owned, *raw;
    int error;

    if (placement->raw_size > TABLE_SECTION_RAW_MAX ||
        placement->raw_size / TABLE_EXPANSION_MAX > placement->stored_size)
        return ERROR_CORRUPT;
    error = get_bytes(reader, tail, placement->position, stored_size, &stored, &owned);
    if (error < 0)
        return error;
    raw = malloc((size_t)placement->raw_size + 1);
    if (raw)
        error = table_section_decode(slice_of(stored, stored_size), kind, reader->salt,
                                     placement->position, (size_t)placement->raw_size, raw);
    else
        error = -ENOMEM;
    free(owned);
    if (error < 0) {
        free(raw);
        return error;
    }
    *ret_raw = raw;
    return 0;
}

/* Verify the footer and that its sections lie one behind the other up to it. */
static int parse_footer(const struct table_reader *reader, const uint8_t *footer, uint64_t at,
                        struct placement placements[TABLE_FOOTER_SECTIONS])
{
    uint64_t expected;

    if (get_le64(footer + TABLE_FOOTER_CHECKED) !=
        checksum64_seeded(footer, TABLE_FOOTER_CHECKED, reader->salt + at))
        return ERROR_CORRUPT;
    for (size_t i = 0; i < TABLE_FOOTER_SECTIONS; i++) {
        const uint8_t *entry = footer + i * TABLE_FOOTER_ENTRY_SIZE;
        struct placement *placement = &placements[i];

        placement->position = get_le64(entry);
        placement->stored_size = get_le64(entry + 8);
        placement->raw_size = get_le64(entry + 16);
        if (i == 0)
            expected = placement->position;
        /* Where the first one is to begin, the index knows. */
        if (placement->position != expected || placement->position > at ||
            placement->stored_size > at - placement->position)
            return ERROR_CORRUPT;
        expected = placement->position + placement->stored_size + TABLE_SECTION_TRAILER_SIZE;
    }
    return expected == at ? 0 : ERROR_CORRUPT;
}

static struct slice fragment_start(const struct table_reader *reader, size_t n)
{
    const struct table_fragment *fragment = &reader->fragments[n];

    return slice_of(reader->tombstone_bytes + fragment->offset, fragment->start_size);
}

static struct slice fragment_end(const struct table_reader *reader, size_t n)
{
    const struct table_fragment *fragment = &reader->fragments[n];

    return slice_of(reader->tombstone_bytes + fragment->offset + fragment->start_size,
                    fragment->end_size);
}

/* The next fragment of the raw section; NULL when it is nonsense. */
static const uint8_t *parse_fragment(const uint8_t *begin, const uint8_t *at, const uint8_t *end,
                                     struct table_fragment *fragment)
{
    uint64_t start_size, end_size;

    at = get_varint(at, end, &start_size);
    if (at)
        at = get_varint(at, end, &end_size);
    if (at)
        at = get_varint(at, end, &fragment->sequence);
    if (!at || start_size == 0 || start_size > RECORD_KEY_SIZE_MAX || end_size == 0 ||
        end_size > RECORD_KEY_SIZE_MAX || start_size + end_size > (uint64_t)(end - at))
        return NULL;
    fragment->offset = (uint32_t)(at - begin);
    fragment->start_size = (uint16_t)start_size;
    fragment->end_size = (uint16_t)end_size;
    return at + start_size + end_size;
}

/* Make fragments of reader->tombstone_bytes. */
static int parse_tombstones(struct table_reader *reader)
{
    const uint8_t *begin = reader->tombstone_bytes, *at = begin;
    const uint8_t *end = begin + reader->tombstone_bytes_size;
    size_t count;

    if (end - at < 4)
        return ERROR_CORRUPT;
    count = get_le32(at);
    at += 4;
    if (count > (size_t)(end - at) / 5 || count != reader->meta.tombstones)
        return ERROR_CORRUPT; /* three sizes and two keys take 5 bytes at least */
    reader->fragments = malloc((count + 1) * sizeof *reader->fragments);
    if (!reader->fragments)
        return -ENOMEM;
    for (size_t i = 0; i < count; i++) {
        at = parse_fragment(begin, at, end, &reader->fragments[i]);
        if (!at || slice_compare(fragment_start(reader, i), fragment_end(reader, i)) >= 0)
            return ERROR_CORRUPT;
        if (i > 0 && slice_compare(fragment_end(reader, i - 1), fragment_start(reader, i)) > 0)
            return ERROR_CORRUPT;
    }
    reader->fragment_count = count;
    return at == end ? 0 : ERROR_CORRUPT;
}

static int load_properties(struct table_reader *reader, const struct tail *tail,
                           const struct placement *placement, const struct chunk_identity *identity)
{
    struct slice rest;
    uint8_t *raw;
    int error = load_section(reader, tail, placement, TABLE_SECTION_PROPERTIES, &raw);

    if (error < 0)
        return error;
    error = ERROR_CORRUPT;
    if (placement->raw_size >= PROPERTIES_SUMS) {
        rest = slice_of(raw + PROPERTIES_SUMS, (size_t)placement->raw_size - PROPERTIES_SUMS);
        error = table_meta_decode_body(&rest, &reader->meta);
        if (error == 0 && rest.size != 0)
            error = ERROR_CORRUPT;
    }
    free(raw);
    reader->meta.identity = *identity;
    return error;
}

static int load_index(struct table_reader *reader, const struct tail *tail,
                      const struct placement *placement, uint64_t data_end)
{
    uint8_t *raw;
    int error = load_section(reader, tail, placement, TABLE_SECTION_INDEX, &raw);

    if (error < 0)
        return error;
    error = table_index_parse(slice_of(raw, (size_t)placement->raw_size), CHUNK_HEADER_SIZE,
                              data_end, &reader->index);
    free(raw);
    if (error == 0 && (reader->index.count == 0) != (reader->meta.records == 0))
        error = ERROR_CORRUPT;
    return error;
}

static int load_filter(struct table_reader *reader, const struct tail *tail,
                       const struct placement *placement)
{
    int error;

    if (reader->meta.records > TABLE_SECTION_RAW_MAX ||
        placement->raw_size != table_filter_size((size_t)reader->meta.records))
        return ERROR_CORRUPT;
    error = load_section(reader, tail, placement, TABLE_SECTION_FILTER, &reader->filter_bytes);
    if (error < 0)
        return error;
    reader->filter = slice_of(reader->filter_bytes, (size_t)placement->raw_size);
    return 0;
}

static int load_sections(struct table_reader *reader, const struct tail *tail,
                         const struct placement placements[TABLE_FOOTER_SECTIONS],
                         const struct chunk_identity *identity)
{
    int error = load_properties(reader, tail, &placements[PROPERTIES], identity);

    if (error == 0)
        error = load_index(reader, tail, &placements[INDEX], placements[FILTER].position);
    if (error == 0)
        error = load_filter(reader, tail, &placements[FILTER]);
    if (error == 0)
        error = load_section(reader, tail, &placements[TOMBSTONES], TABLE_SECTION_TOMBSTONES,
                             &reader->tombstone_bytes);
    if (error < 0)
        return error;
    reader->tombstone_bytes_size = (size_t)placements[TOMBSTONES].raw_size;
    return parse_tombstones(reader);
}

/* The trailer says what we look for, and where the footer is. */
static int check_trailer(const struct tail *tail, const struct chunk_identity *identity,
                         const uint8_t *store_uuid, struct chunk_trailer *trailer)
{
    int error = chunk_trailer_decode(tail->data + tail->size - CHUNK_TRAILER_SIZE, trailer);
    uint64_t content = identity->file_size_bytes - CHUNK_TRAILER_SIZE;

    if (error < 0)
        return error;
    if (store_uuid && memcmp(trailer->store_uuid, store_uuid, STORE_UUID_SIZE) != 0)
        return ERROR_FOREIGN;
    error = chunk_trailer_check(trailer, identity);
    if (error < 0)
        return error;
    if (trailer->values[1] != TABLE_FOOTER_SIZE ||
        trailer->values[0] != content - TABLE_FOOTER_SIZE)
        return ERROR_CORRUPT;
    return 0;
}

static int load_tail(struct table_reader *reader, uint64_t file_size, struct tail *tail)
{
    tail->size = file_size < TAIL_SIZE ? (size_t)file_size : TAIL_SIZE;
    tail->position = file_size - tail->size;
    tail->data = malloc(tail->size);
    if (!tail->data)
        return -ENOMEM;
    return io_read_exact(reader->io, reader->file, tail->data, tail->size, tail->position);
}

static int check_header(struct table_reader *reader, const struct tail *tail,
                        const uint8_t *store_uuid, uint64_t id)
{
    const uint8_t *header;
    uint8_t *owned;
    int error = get_bytes(reader, tail, 0, CHUNK_HEADER_SIZE, &header, &owned);

    if (error < 0)
        return error;
    error = chunk_header_check(header, CHUNK_TABLE, store_uuid, id);
    free(owned);
    return error;
}

static int check_size(struct table_reader *reader, const struct chunk_identity *identity)
{
    uint64_t expected = identity->file_size_bytes;
    struct stat stat;
    int error = io_stat(reader->io, reader->file, &stat);

    if (error < 0)
        return error;
    /* One that is too short ends before its trailer: load_tail(). */
    if ((uint64_t)stat.st_size > expected ||
        expected < CHUNK_HEADER_SIZE + TABLE_FOOTER_SIZE + CHUNK_TRAILER_SIZE)
        return ERROR_CORRUPT;
    return 0;
}

/* All of the opening but the file itself; `tail` is freed by the caller. */
static int load(struct table_reader *reader, const struct chunk_identity *identity,
                const uint8_t *store_uuid, struct tail *tail)
{
    struct placement placements[TABLE_FOOTER_SECTIONS];
    struct chunk_trailer trailer;
    uint64_t footer;
    int error = check_size(reader, identity);

    if (error == 0)
        error = load_tail(reader, identity->file_size_bytes, tail);
    if (error == 0)
        error = check_trailer(tail, identity, store_uuid, &trailer);
    if (error == 0)
        error = check_header(reader, tail, trailer.store_uuid, identity->id);
    if (error < 0)
        return error;

    reader->salt = table_salt(trailer.store_uuid, identity->id);
    footer = trailer.values[0];
    error = parse_footer(reader, tail->data + (footer - tail->position), footer, placements);
    if (error == 0)
        error = load_sections(reader, tail, placements, identity);
    if (error == 0 && reader->cache)
        error = block_cache_space(trailer.store_uuid, &reader->cache_space);
    return error;
}

int table_reader_open(struct io *io, struct io_file *chunk_directory,
                      const struct chunk_identity *identity, const uint8_t *store_uuid,
                      struct block_cache *cache, struct table_reader **ret_reader)
{
    struct table_reader *reader = calloc(1, sizeof *reader);
    struct tail tail = {0};
    int error;

    if (!reader)
        return -ENOMEM;
    atomic_init(&reader->references, 1);
    reader->io = io;
    reader->cache = cache;
    chunk_name(reader->name, identity);
    error = io_open(io, chunk_directory, reader->name, IO_OPEN_READ, 0, &reader->file);
    if (error == -ENOENT)
        error = ERROR_MISSING_CHUNK;
    if (error == 0)
        error = load(reader, identity, store_uuid, &tail);
    free(tail.data);
    if (error < 0) {
        log_error("chunk %s: cannot open the table: %s", reader->name, error_text(error));
        table_reader_unref(reader);
        return error;
    }
    *ret_reader = reader;
    return 0;
}

struct table_reader *table_reader_ref(struct table_reader *reader)
{
    atomic_fetch_add_explicit(&reader->references, 1, memory_order_relaxed);
    return reader;
}

void table_reader_unref(struct table_reader *reader)
{
    if (!reader)
        return;
    if (atomic_fetch_sub_explicit(&reader->references, 1, memory_order_acq_rel) != 1)
        return;
    io_close(reader->io, reader->file);
    table_meta_free(&reader->meta);
    table_index_free(&reader->index);
    free(reader->filter_bytes);
    free(reader->tombstone_bytes);
    free(reader->fragments);
    free(reader);
}

size_t table_reader_memory_bytes(const struct table_reader *reader)
{
    return sizeof *reader + reader->index.memory_bytes + reader->filter.size +
           reader->tombstone_bytes_size + reader->fragment_count * sizeof *reader->fragments +
           reader->meta.use_count * sizeof *reader->meta.uses + reader->meta.smallest.capacity +
           reader->meta.largest.capacity;
}

const struct table_meta *table_reader_meta(const struct table_reader *reader)
{
    return &reader->meta;
}

/* ---- blocks ---- */

int table_reader_read(struct table_reader *reader, void *to, size_t size, uint64_t position)
{
    int error = io_read_exact(reader->io, reader->file, to, size, position);

    if (error < 0)
        log_error("chunk %s: cannot read %zu bytes at %" PRIu64 ": %s", reader->name, size,
                  position, error_text(error));
    return error;
}

int table_reader_report_block(const struct table_reader *reader, size_t index)
{
    log_error("chunk %s: block at %" PRIu64 " is damaged", reader->name,
              reader->index.positions[index]);
    io_note_corruption(reader->io);
    return ERROR_CORRUPT;
}

int table_reader_decode(struct table_reader *reader, size_t index, const uint8_t *stored,
                        uint8_t *to)
{
    uint64_t position = reader->index.positions[index];
    struct slice bytes = slice_of(stored, table_reader_stored_size(reader, index));
    int error = table_section_decode(bytes, TABLE_SECTION_DATA, reader->salt, position,
                                     reader->index.raw_sizes[index], to);

    if (error == ERROR_CORRUPT)
        return table_reader_report_block(reader, index);
    return error;
}

struct block_key table_reader_block_key(const struct table_reader *reader, size_t index)
{
    return (struct block_key){reader->cache_space, reader->meta.identity.id,
                              reader->index.positions[index]};
}

/* Read block `index` from disk into a new block. */
static int read_block(struct table_reader *reader, size_t index, struct block **ret_block)
{
    size_t stored_size = table_reader_stored_size(reader, index);
    uint8_t on_stack[STACK_READ_SIZE];
    uint8_t *stored = stored_size <= sizeof on_stack ? on_stack : malloc(stored_size);
    struct block *block = block_new(reader->index.raw_sizes[index]);
    int error = stored && block ? 0 : -ENOMEM;

    if (error == 0)
        error = table_reader_read(reader, stored, stored_size, reader->index.positions[index]);
    if (error == 0)
        error = table_reader_decode(reader, index, stored, block->data);
    if (stored != on_stack)
        free(stored);
    if (error < 0) {
        block_release(block);
        return error;
    }
    *ret_block = block;
    return 0;
}

static int get_block(struct table_reader *reader, size_t index, struct block **ret_block)
{
    struct block_key key;
    struct block *block;
    int error;

    if (!reader->cache)
        return read_block(reader, index, ret_block);
    key = table_reader_block_key(reader, index);
    block = block_cache_get(reader->cache, &key);
    if (!block) {
        error = read_block(reader, index, &block);
        if (error < 0)
            return error;
        block = block_cache_insert(reader->cache, &key, block);
    }
    *ret_block = block;
    return 0;
}

int table_reader_get(struct table_reader *reader, struct slice key, struct buffer *value,
                     struct record *ret_record)
{
    struct table_block_view view;
    struct record record;
    struct block *block;
    size_t index;
    int result;

    if (!table_filter_may_contain(reader->filter, table_filter_hash(key)))
        return 0;
    index = table_index_find(&reader->index, key);
    result = get_block(reader, index, &block);
    if (result < 0)
        return result;
    result = table_block_open(slice_of(block->data, block->size_bytes), &view);
    if (result == 0)
        result = table_block_find(&view, key, &record);
    if (result == ERROR_CORRUPT)
        table_reader_report_block(reader, index);
    if (result == 1) {
        int error = buffer_assign(value, record.value.data, record.value.size);

        if (error < 0) {
            result = error;
        } else {
            record.value = buffer_slice(value);
            *ret_record = record;
        }
    }
    block_release(block);
    return result;
}

/* ---- tombstones ---- */

uint64_t table_reader_tombstone(struct table_reader *reader, struct slice key)
{
    size_t low = 0, high = reader->fragment_count; /* fragments below `low` start at or below key */

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (slice_compare(fragment_start(reader, middle), key) <= 0)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == 0 || slice_compare(key, fragment_end(reader, low - 1)) >= 0)
        return 0;
    return reader->fragments[low - 1].sequence;
}

bool table_reader_tombstone_at(struct table_reader *reader, size_t index, struct slice *ret_start,
                               struct slice *ret_end, uint64_t *ret_sequence)
{
    if (index >= reader->fragment_count)
        return false;
    *ret_start = fragment_start(reader, index);
    *ret_end = fragment_end(reader, index);
    *ret_sequence = reader->fragments[index].sequence;
    return true;
}

/* ---- verifying ---- */

int table_reader_verify(struct table_reader *reader)
{
    uint64_t left = reader->meta.identity.file_size_bytes - CHUNK_TRAILER_SIZE, position = 0;
    struct checksum_stream *stream = checksum_stream_new();
    uint8_t *data = io_allocate_aligned(VERIFY_SIZE);
    struct checksum128 hash = {0};
    int error = stream && data ? 0 : -ENOMEM;

    while (error == 0 && left > 0) {
        size_t size = left < VERIFY_SIZE ? (size_t)left : VERIFY_SIZE;

        error = table_reader_read(reader, data, size, position);
        if (error == 0)
            checksum_stream_update(stream, data, size);
        position += size;
        left -= size;
    }
    if (error == 0)
        hash = checksum_stream_digest(stream);
    checksum_stream_free(stream);
    free(data);
    if (error == 0 && !checksum128_equal(hash, reader->meta.identity.hash)) {
        log_error("chunk %s: content hash does not match", reader->name);
        io_note_corruption(reader->io);
        error = ERROR_CORRUPT;
    }
    return error;
}
