/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_table.c - table chunks: opening, walking, looking up
 *
 * An input is what lies between chunk header and trailer; both are made. With FUZZ_SEAL every
 * section that footer and index name gets its checksum.
 */
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/memory_io.h"

#include "engine/base/checksum.h"
#include "engine/base/endian.h"
#include "engine/base/error.h"
#include "engine/table.h"
#include "engine/table_format.h"
#include "engine/table_index.h"
#include "engine/table_section.h"

#define CHUNK_ID 5

static const uint8_t uuid[STORE_UUID_SIZE] = {0x10, 0x21, 0x32, 0x43, 0x54, 0x65, 0x46, 0x87,
                                              0x98, 0xa9, 0xba, 0xcb, 0xdc, 0xed, 0xfe, 0x0f};

/* ---- checksums ---- */

static void seal_section(uint8_t *file, size_t end, uint64_t position, uint64_t stored_size,
                         uint64_t salt)
{
    if (position > end || stored_size > end - position ||
        TABLE_SECTION_TRAILER_SIZE > end - position - stored_size)
        return;
    put_le64(file + position + stored_size + 1,
             checksum64_seeded(file + position, (size_t)stored_size + 1, salt + position));
}

static void seal_blocks(uint8_t *file, size_t end, const uint8_t *footer, uint64_t salt)
{
    const uint8_t *entry = footer + (size_t)2 * TABLE_FOOTER_ENTRY_SIZE; /* INDEX */
    uint64_t position = get_le64(entry), stored = get_le64(entry + 8), raw = get_le64(entry + 16);
    uint64_t blocks_end = get_le64(footer);
    struct table_index index;
    uint8_t *bytes;

    if (position > end || stored > end - position ||
        TABLE_SECTION_TRAILER_SIZE > end - position - stored || raw > (1 << 20))
        return;
    bytes = malloc((size_t)raw + 1);
    fuzz_require(bytes != NULL);
    if (table_section_decode(slice_of(file + position, (size_t)stored + TABLE_SECTION_TRAILER_SIZE),
                             TABLE_SECTION_INDEX, salt, position, (size_t)raw, bytes) == 0 &&
        table_index_parse(slice_of(bytes, (size_t)raw), CHUNK_HEADER_SIZE, blocks_end, &index) ==
            0) {
        for (size_t i = 0; i < index.count; i++)
            seal_section(file, end, index.positions[i],
                         index.positions[i + 1] - index.positions[i] - TABLE_SECTION_TRAILER_SIZE,
                         salt);
        table_index_free(&index);
    }
    free(bytes);
}

static void seal(uint8_t *file, size_t content_size, uint64_t salt)
{
    size_t footer_at = content_size - TABLE_FOOTER_SIZE;
    uint8_t *footer = file + footer_at;

    put_le64(footer + TABLE_FOOTER_CHECKED,
             checksum64_seeded(footer, TABLE_FOOTER_CHECKED, salt + footer_at));
    for (size_t i = 0; i < TABLE_FOOTER_SECTIONS; i++) {
        const uint8_t *entry = footer + i * TABLE_FOOTER_ENTRY_SIZE;

        seal_section(file, footer_at, get_le64(entry), get_le64(entry + 8), salt);
    }
    seal_blocks(file, footer_at, footer, salt);
}

/* The whole file, and what the manifest would say of it. */
static uint8_t *make_file(struct slice content, bool sealed, struct chunk_identity *ret_identity)
{
    size_t content_size = CHUNK_HEADER_SIZE + content.size;
    uint8_t *file = malloc(content_size + CHUNK_TRAILER_SIZE);
    struct chunk_trailer trailer = {
        .id = CHUNK_ID,
        .kind = CHUNK_TABLE,
        .content_size_bytes = content_size,
        .values = {content_size - TABLE_FOOTER_SIZE, TABLE_FOOTER_SIZE, 0, 0},
    };

    fuzz_require(file != NULL);
    memcpy(trailer.store_uuid, uuid, sizeof uuid);
    chunk_header_encode(file, CHUNK_TABLE, uuid, CHUNK_ID);
    memcpy(file + CHUNK_HEADER_SIZE, content.data, content.size);
    if (sealed)
        seal(file, content_size, table_salt(uuid, CHUNK_ID));
    trailer.hash = fuzz_checksum128(file, content_size);
    chunk_trailer_encode(file + content_size, &trailer);
    *ret_identity = (struct chunk_identity){
        .id = CHUNK_ID,
        .kind = CHUNK_TABLE,
        .file_size_bytes = content_size + CHUNK_TRAILER_SIZE,
        .hash = trailer.hash,
    };
    return file;
}

/* ---- use ---- */

static void look_up(struct table_reader *reader, const struct record *expected,
                    struct buffer *value)
{
    struct record record;
    int result = table_reader_get(reader, expected->key, value, &record);

    /* The filter may have been made not to know the key, and blocks may overlap: absence is
     * possible, memory that is not the table's is not. */
    if (result == 1)
        fuzz_require(record.kind >= RECORD_VALUE && record.kind <= RECORD_DELETE);
    (void)table_reader_tombstone(reader, expected->key);
}

static void walk(struct table_reader *reader)
{
    struct table_iterator *iterator = table_iterator_new(reader);
    uint8_t last[RECORD_KEY_SIZE_MAX];
    struct buffer value = {0};
    size_t last_size = 0, count = 0;
    int result;

    fuzz_require(iterator != NULL);
    result = table_iterator_seek(iterator, slice_of("", 0));
    while (result == 1 && count++ < 4096) {
        const struct record *record = table_iterator_record(iterator);

        fuzz_require(record->key.size >= 1 && record->key.size <= RECORD_KEY_SIZE_MAX);
        /* What merges rely on: keys rise, whatever the file says. */
        fuzz_require(last_size == 0 || slice_compare(slice_of(last, last_size), record->key) < 0);
        memcpy(last, record->key.data, record->key.size);
        last_size = record->key.size;
        look_up(reader, record, &value);
        result = table_iterator_next(iterator);
    }
    if (last_size > 0)
        (void)table_iterator_seek(iterator, slice_of(last, last_size));
    table_iterator_free(iterator);
    buffer_free(&value);
}

static void walk_tombstones(struct table_reader *reader)
{
    struct slice start, end, before = {NULL, 0};
    uint64_t sequence;

    for (size_t i = 0; table_reader_tombstone_at(reader, i, &start, &end, &sequence); i++) {
        fuzz_require(slice_compare(start, end) < 0);
        fuzz_require(i == 0 || slice_compare(before, start) <= 0);
        fuzz_require(table_reader_tombstone(reader, start) == sequence);
        before = end;
    }
}

int LLVMFuzzerInitialize(int *argument_count, char ***arguments)
{
    (void)argument_count;
    (void)arguments;
    log_set_level(LOG_LEVEL_ERROR);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct chunk_identity identity;
    struct memory_io *memory;
    struct table_reader *reader;
    char name[CHUNK_NAME_SIZE];
    uint8_t *file;

    if (size < 1 + TABLE_FOOTER_SIZE)
        return 0;
    file = make_file(slice_of(data + 1, size - 1), (data[0] & FUZZ_SEAL) != 0, &identity);
    memory = memory_io_new();
    chunk_name(name, &identity);
    memory_io_put(memory, name, slice_of(file, (size_t)identity.file_size_bytes));
    free(file);
    if (table_reader_open(memory_io_get(memory), memory_io_directory(memory), &identity, uuid, NULL,
                          &reader) == 0) {
        walk(reader);
        walk_tombstones(reader);
        fuzz_require(table_reader_verify(reader) == 0);
        table_reader_unref(reader);
    }
    memory_io_free(memory);
    return 0;
}
