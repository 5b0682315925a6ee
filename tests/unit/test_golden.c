/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_golden.c - images of every format, made once, which each later program must read
 *
 * tests/data/ holds them; docs/on-disk-format.md describes them. From the same inputs today's code
 * must also make the same bytes, compressed ones excepted: another libzstd may compress better. A
 * change of a format that is meant needs a new version number, and new images beside the old ones:
 * VARVE_WRITE_GOLDEN=1 in the environment makes those that are missing, and never replaces one.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/base/checksum.h"
#include "engine/base/endian.h"
#include "engine/base/error.h"
#include "engine/base/log.h"
#include "engine/batch.h"
#include "engine/blob_writer.h"
#include "engine/manifest.h"
#include "engine/sealed_manifest.h"
#include "engine/store.h"
#include "engine/table.h"
#include "engine/wal.h"
#include "engine/wal_format.h"
#include "tests/lib/io_fixture.h"

static const uint8_t uuid[STORE_UUID_SIZE] = {0x10, 0x21, 0x32, 0x43, 0x54, 0x65, 0x46, 0x87,
                                              0x98, 0xa9, 0xba, 0xcb, 0xdc, 0xed, 0xfe, 0x0f};

/* ---- images ---- */

static struct buffer image_read(const char *name)
{
    char *path = test_path(TEST_DATA_DIRECTORY, name);
    struct buffer image = {0};

    image.data = test_file_read(path, &image.size);
    image.capacity = image.size;
    free(path);
    return image;
}

static void image_make(const char *name, struct slice bytes)
{
    char *path = test_path(TEST_DATA_DIRECTORY, name);

    if (getenv("VARVE_WRITE_GOLDEN") != NULL && access(path, F_OK) != 0)
        test_file_write(path, bytes.data, bytes.size);
    free(path);
}

/* The same bytes as in the image. */
static void image_check(const char *name, struct slice bytes)
{
    struct buffer image;

    image_make(name, bytes);
    image = image_read(name);
    for (size_t i = 0; i < image.size && i < bytes.size; i++)
        if (image.data[i] != bytes.data[i])
            fail_msg("%s: byte %zu is %02x and was %02x", name, i, bytes.data[i], image.data[i]);
    assert_int_equal(bytes.size, image.size);
    buffer_free(&image);
}

static void image_check_file(const char *name, const char *directory, const char *file)
{
    char *path = test_path(directory, file);
    struct buffer bytes = {0};

    bytes.data = test_file_read(path, &bytes.size);
    image_check(name, buffer_slice(&bytes));
    buffer_free(&bytes);
    free(path);
}

/* Copy an image into a directory of the test. */
static void image_place(const char *name, const char *directory, const char *file)
{
    struct buffer image = image_read(name);
    char *path = test_path(directory, file);

    test_file_write(path, image.data, image.size);
    buffer_free(&image);
    free(path);
}

static void assert_slice_is(struct slice actual, const char *expected)
{
    assert_int_equal(actual.size, strlen(expected));
    assert_memory_equal(actual.data, expected, actual.size);
}

/* ---- FORMAT ---- */

static void format_is_as_it_was(void **state)
{
    struct store_format format = {
        .chunk_size_bytes = 1 << 26, .compression_level = -1, .created_s = 1795000000};
    struct store_format back;
    uint8_t bytes[STORE_FORMAT_SIZE];
    struct buffer image;

    (void)state;
    memcpy(format.uuid, uuid, sizeof uuid);
    store_format_encode(&format, bytes);
    image_check("format-1.bin", slice_of(bytes, sizeof bytes));
    image = image_read("format-1.bin");
    assert_int_equal(store_format_decode(image.data, &back), 0);
    assert_memory_equal(back.uuid, uuid, sizeof uuid);
    assert_int_equal(back.chunk_size_bytes, 1 << 26);
    assert_int_equal(back.compression_level, -1);
    assert_int_equal(back.created_s, 1795000000);
    buffer_free(&image);
}

/* ---- references and batches ---- */

static struct blob_ref make_reference(enum codec codec)
{
    struct blob_ref ref = {.chunk_id = 0x1122334455667788,
                           .position = 0x10000,
                           .raw_size = 10000,
                           .stored_size = 10000,
                           .skip = 5000,
                           .length = 4000,
                           .codec = codec};

    if (codec == CODEC_ZSTD) {
        ref.stored_size = 777;
        ref.frame_checksum = 0x99aabbccddeeff00;
    } else { /* raw bytes 5000..8999 lie in the blocks 1 and 2 */
        ref.block_checksums[0] = 0x01020304;
        ref.block_checksums[1] = 0x05060708;
    }
    return ref;
}

static void check_reference(const char *name, enum codec codec)
{
    struct blob_ref ref = make_reference(codec), back;
    uint8_t bytes[BLOB_REF_SIZE_MAX];
    struct buffer image;

    image_check(name, slice_of(bytes, blob_ref_encode(&ref, bytes)));
    image = image_read(name);
    assert_int_equal(blob_ref_decode(buffer_slice(&image), &back), 0);
    assert_int_equal(back.chunk_id, ref.chunk_id);
    assert_int_equal(back.position, ref.position);
    assert_int_equal(back.stored_size, ref.stored_size);
    assert_int_equal(back.raw_size, ref.raw_size);
    assert_int_equal(back.skip, ref.skip);
    assert_int_equal(back.length, ref.length);
    assert_int_equal(back.codec, codec);
    assert_int_equal(back.frame_checksum, ref.frame_checksum);
    assert_int_equal(back.block_checksums[0], ref.block_checksums[0]);
    assert_int_equal(back.block_checksums[1], ref.block_checksums[1]);
    buffer_free(&image);
}

static void blob_references_are_as_they_were(void **state)
{
    (void)state;
    check_reference("blob-ref-none-1.bin", CODEC_NONE);
    check_reference("blob-ref-zstd-1.bin", CODEC_ZSTD);
}

static struct batch make_batch(void)
{
    struct blob_ref ref = make_reference(CODEC_ZSTD);
    struct batch batch = {0};

    batch_put(&batch, slice_of_string("apple"), slice_of_string("red"));
    batch_put(&batch, slice_of_string("empty"), slice_of(NULL, 0));
    batch_put_reference(&batch, slice_of_string("file"), &ref);
    batch_delete(&batch, slice_of_string("gone"));
    batch_delete_range(&batch, slice_of_string("h"), slice_of_string("k"));
    assert_int_equal(batch.error, 0);
    return batch;
}

static void a_batch_is_as_it_was(void **state)
{
    static const struct {
        enum record_kind kind;
        const char *key;
    } records[] = {{RECORD_VALUE, "apple"},
                   {RECORD_VALUE, "empty"},
                   {RECORD_REFERENCE, "file"},
                   {RECORD_DELETE, "gone"},
                   {RECORD_DELETE_RANGE, "h"}};
    struct batch batch = make_batch();
    struct buffer image;
    struct record record;
    size_t cursor = 0;

    (void)state;
    image_check("batch-1.bin", buffer_slice(&batch.bytes));
    image = image_read("batch-1.bin");
    for (size_t i = 0; i < sizeof records / sizeof records[0]; i++) {
        assert_int_equal(batch_next(buffer_slice(&image), &cursor, &record), 1);
        assert_int_equal(record.kind, records[i].kind);
        assert_slice_is(record.key, records[i].key);
    }
    assert_slice_is(record.value, "k");
    assert_int_equal(batch_next(buffer_slice(&image), &cursor, &record), 0);
    buffer_free(&image);
    batch_free(&batch);
}

/* ---- tables ---- */

enum { TABLE_ID = 0x2a, TABLE_RECORDS = 40 };

static void make_key(char to[16], unsigned n)
{
    snprintf(to, 16, "key %03u", n);
}

static void write_table(struct io_fixture *disk, int compression_level, struct table_meta *ret_meta)
{
    struct table_writer_options options = {.io = disk->io,
                                           .temporary_directory = disk->root,
                                           .chunk_directory = disk->root,
                                           .store_uuid = uuid,
                                           .id = TABLE_ID,
                                           .compression_level = compression_level};
    struct blob_ref ref = make_reference(CODEC_NONE);
    uint8_t encoded[BLOB_REF_SIZE_MAX];
    size_t encoded_size = blob_ref_encode(&ref, encoded);
    struct table_writer *writer;

    assert_int_equal(table_writer_new(&options, &writer), 0);
    for (unsigned n = 0; n < TABLE_RECORDS; n++) {
        char key[16], value[32];
        struct record record = {.kind = RECORD_VALUE, .sequence = 1000 + 7 * n % 11};

        make_key(key, n);
        snprintf(value, sizeof value, "value of %s", key);
        record.key = slice_of_string(key);
        record.value = slice_of_string(value);
        if (n % 8 == 3) {
            record.kind = RECORD_DELETE;
            record.value.size = 0;
        } else if (n % 8 == 5) {
            record.kind = RECORD_REFERENCE;
            record.value = slice_of(encoded, encoded_size);
        }
        assert_int_equal(table_writer_add(writer, &record), 0);
    }
    assert_int_equal(
        table_writer_add_tombstone(writer, slice_of_string("a"), slice_of_string("b"), 900), 0);
    assert_int_equal(
        table_writer_add_tombstone(writer, slice_of_string("key 010"), slice_of_string("z"), 1005),
        0);
    assert_int_equal(table_writer_finish(writer, ret_meta), 0);
    table_writer_free(writer);
}

/* The identity of the chunk image that lies in `directory`, whose name says it. */
static struct chunk_identity identity_of(const char *image, enum chunk_kind kind, uint64_t id)
{
    struct chunk_identity identity = {.id = id, .kind = kind};
    struct buffer bytes = image_read(image);
    struct chunk_trailer trailer;

    assert_true(bytes.size > CHUNK_TRAILER_SIZE);
    assert_int_equal(chunk_trailer_decode(bytes.data + bytes.size - CHUNK_TRAILER_SIZE, &trailer),
                     0);
    assert_int_equal(trailer.kind, kind);
    assert_int_equal(trailer.id, id);
    assert_memory_equal(trailer.store_uuid, uuid, sizeof uuid);
    identity.file_size_bytes = bytes.size;
    identity.hash = trailer.hash;
    buffer_free(&bytes);
    return identity;
}

static void check_table(const char *image)
{
    struct chunk_identity identity = identity_of(image, CHUNK_TABLE, TABLE_ID);
    struct io_fixture disk;
    struct table_reader *reader;
    struct buffer value = {0};
    struct record record;
    char name[CHUNK_NAME_SIZE];

    assert_int_equal(io_fixture_open(&disk, IO_BACKEND_SYNC), 0);
    chunk_name(name, &identity);
    image_place(image, disk.path, name);
    assert_int_equal(table_reader_open(disk.io, disk.root, &identity, uuid, NULL, &reader), 0);
    assert_int_equal(table_reader_verify(reader), 0);
    for (unsigned n = 0; n < TABLE_RECORDS; n++) {
        char key[16], expected[32];

        make_key(key, n);
        snprintf(expected, sizeof expected, "value of %s", key);
        assert_int_equal(table_reader_get(reader, slice_of_string(key), &value, &record), 1);
        assert_int_equal(record.sequence, 1000 + 7 * n % 11);
        if (n % 8 == 3) {
            assert_int_equal(record.kind, RECORD_DELETE);
        } else if (n % 8 == 5) {
            struct blob_ref ref;

            assert_int_equal(record.kind, RECORD_REFERENCE);
            assert_int_equal(blob_ref_decode(record.value, &ref), 0);
            assert_int_equal(ref.skip, 5000);
        } else {
            assert_int_equal(record.kind, RECORD_VALUE);
            assert_slice_is(record.value, expected);
        }
        assert_int_equal(table_reader_tombstone(reader, slice_of_string(key)), n >= 10 ? 1005 : 0);
    }
    assert_int_equal(table_reader_tombstone(reader, slice_of_string("aa")), 900);
    assert_int_equal(table_reader_get(reader, slice_of_string("kez"), &value, &record), 0);
    buffer_free(&value);
    table_reader_unref(reader);
    io_fixture_close(&disk);
}

static void a_table_is_as_it_was(void **state)
{
    struct table_meta meta;
    struct buffer encoded = {0};
    struct io_fixture disk;
    char name[CHUNK_NAME_SIZE];

    (void)state;
    assert_int_equal(io_fixture_open(&disk, IO_BACKEND_SYNC), 0);
    write_table(&disk, 0, &meta);
    chunk_name(name, &meta.identity);
    assert_string_equal(name, "000000000000002a-a0d09ea197466e21e2a9c5c3b07a44a2.tbl");
    image_check_file("table-1.tbl", disk.path, name);
    assert_int_equal(table_meta_encode(&meta, &encoded), 0);
    image_check("table-meta-1.bin", buffer_slice(&encoded));
    check_table("table-1.tbl");
    buffer_free(&encoded);
    table_meta_free(&meta);
    io_fixture_close(&disk);
}

static void a_compressed_table_reads_as_it_did(void **state)
{
    (void)state;
    if (getenv("VARVE_WRITE_GOLDEN") != NULL) {
        struct table_meta meta;
        struct io_fixture disk;
        char name[CHUNK_NAME_SIZE];
        char *path;
        struct buffer bytes = {0};

        assert_int_equal(io_fixture_open(&disk, IO_BACKEND_SYNC), 0);
        write_table(&disk, 1, &meta);
        chunk_name(name, &meta.identity);
        path = test_path(disk.path, name);
        bytes.data = test_file_read(path, &bytes.size);
        image_make("table-zstd-1.tbl", buffer_slice(&bytes));
        buffer_free(&bytes);
        free(path);
        table_meta_free(&meta);
        io_fixture_close(&disk);
    }
    check_table("table-zstd-1.tbl");
}

/* ---- blobs ---- */

enum { BLOB_ID = 0x2b };

static uint64_t allocate_blob_id(void *context)
{
    (void)context;
    return BLOB_ID;
}

/* A frame that does not begin a block, one that does, and references to them. */
static void a_blob_chunk_is_as_it_was(void **state)
{
    struct blob_writer_options options = {.store_uuid = uuid,
                                          .chunk_size_bytes = 1 << 20,
                                          .buffer_count = 2,
                                          .allocate_id = allocate_blob_id};
    struct chunk_identity *identities = NULL, identity;
    struct blob_ref small, large;
    struct blob_writer *writer;
    struct io_fixture disk;
    uint8_t data[4100], encoded[BLOB_REF_SIZE_MAX];
    char name[CHUNK_NAME_SIZE];
    struct buffer image;
    size_t count = 0;

    (void)state;
    assert_int_equal(io_fixture_open(&disk, IO_BACKEND_SYNC), 0);
    options.io = disk.io;
    options.chunk_directory = disk.root;
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (uint8_t)(i * i >> 3);
    assert_int_equal(blob_writer_open(&options, &writer), 0);
    assert_int_equal(blob_writer_append(writer, "small frame", 11, BLOB_COMPRESS, &small), 0);
    assert_int_equal(blob_writer_append(writer, data, sizeof data, BLOB_COMPRESS, &large), 0);
    blob_writer_roll(writer);
    assert_int_equal(blob_writer_seal(writer, BLOB_ID, &identities, &count), 0);
    assert_int_equal(count, 1);
    chunk_name(name, &identities[0]);
    image_check_file("blob-1.blb", disk.path, name);
    image_check("blob-1-small.bin", slice_of(encoded, blob_ref_encode(&small, encoded)));
    image_check("blob-1-large.bin", slice_of(encoded, blob_ref_encode(&large, encoded)));
    blob_writer_close(writer);
    free(identities);
    io_fixture_close(&disk);

    identity = identity_of("blob-1.blb", CHUNK_BLOB, BLOB_ID);
    image = image_read("blob-1.blb");
    assert_int_equal(identity.file_size_bytes, image.size);
    assert_int_equal(chunk_header_check(image.data, CHUNK_BLOB, uuid, BLOB_ID), 0);
    assert_int_equal(small.position, 4096);
    assert_memory_equal(image.data + small.position, "small frame", 11);
    assert_int_equal(large.position, 8192);
    assert_memory_equal(image.data + large.position, data, sizeof data);
    buffer_free(&image);
}

/* ---- the log ---- */

enum { WAL_NUMBER = 5, WAL_FILE_SIZE = WAL_SEGMENT_SIZE_MIN };

static void put_group(struct buffer *image, const struct wal_group *group, uint64_t seed,
                      uint64_t durable_offset)
{
    struct wal_group_header header = {.piece_count = (uint32_t)group->piece_count,
                                      .segment = WAL_NUMBER,
                                      .offset = image->size,
                                      .entries_size = group->entries.size,
                                      .durable_offset = durable_offset,
                                      .first_sequence = group->first_sequence,
                                      .last_sequence = group->last_sequence};
    static uint8_t bytes[4096];
    uint64_t size;

    memset(bytes, 0, sizeof bytes);
    assert_int_equal(wal_group_body_size(group, &header.body_size), 0);
    size = wal_group_size(header.body_size);
    assert_true(size <= sizeof bytes);
    wal_group_body_encode(bytes + WAL_GROUP_HEADER_SIZE, group);
    header.body_checksum =
        checksum64_seeded(bytes + WAL_GROUP_HEADER_SIZE, (size_t)header.body_size, seed);
    wal_group_header_encode(bytes, &header, seed);
    assert_int_equal(buffer_append(image, bytes, (size_t)size), 0);
}

/* Two groups: a batch with a piece of blob data, then a mark. */
static struct buffer make_segment(void)
{
    struct wal_segment_header header = {.number = WAL_NUMBER, .salt = 0x5a17};
    const struct blob_piece piece = {
        .chunk_id = BLOB_ID, .position = 4096, .size = 11, .data = (const uint8_t *)"small frame"};
    struct buffer image = {0}, entries = {0};
    struct batch batch = make_batch();
    uint8_t block[WAL_FIRST_GROUP_OFFSET] = {0};
    struct wal_group group = {
        .pieces = &piece, .piece_count = 1, .first_sequence = 100, .last_sequence = 104};

    memcpy(header.store_uuid, uuid, sizeof uuid);
    wal_segment_header_encode(block, &header);
    assert_int_equal(buffer_append(&image, block, sizeof block), 0);
    assert_int_equal(wal_entry_append(&entries, WAL_BATCH, 100, buffer_slice(&batch.bytes)), 0);
    group.entries = buffer_slice(&entries);
    put_group(&image, &group, header.seed, WAL_FIRST_GROUP_OFFSET);
    entries.size = 0;
    assert_int_equal(wal_entry_append(&entries, WAL_MARK, 105, slice_of_string("a mark")), 0);
    group = (struct wal_group){
        .entries = buffer_slice(&entries), .first_sequence = 105, .last_sequence = 105};
    put_group(&image, &group, header.seed, image.size);
    batch_free(&batch);
    buffer_free(&entries);
    return image;
}

struct seen {
    unsigned pieces, entries;
};

static int see_piece(void *context, const struct blob_piece *piece)
{
    struct seen *seen = context;

    seen->pieces++;
    assert_int_equal(piece->chunk_id, BLOB_ID);
    assert_int_equal(piece->position, 4096);
    assert_slice_is(slice_of(piece->data, piece->size), "small frame");
    return 0;
}

static int see_entry(void *context, const struct wal_replay_entry *entry)
{
    struct batch batch = make_batch();
    struct seen *seen = context;

    if (seen->entries++ == 0) {
        assert_int_equal(entry->kind, WAL_BATCH);
        assert_int_equal(entry->first_sequence, 100);
        assert_true(slice_equal(entry->bytes, buffer_slice(&batch.bytes)));
    } else {
        assert_int_equal(entry->kind, WAL_MARK);
        assert_int_equal(entry->first_sequence, 105);
        assert_slice_is(entry->bytes, "a mark");
    }
    batch_free(&batch);
    return 0;
}

static void a_log_segment_is_as_it_was(void **state)
{
    struct seen seen = {0};
    const struct wal_replay_callbacks callbacks = {see_piece, see_entry, &seen};
    struct wal_replay_result result = {0};
    struct buffer image = make_segment();
    struct io_fixture disk;
    char name[WAL_NAME_SIZE];
    char *path;

    (void)state;
    image_check("wal-1.bin", buffer_slice(&image));
    buffer_free(&image);
    assert_int_equal(io_fixture_open(&disk, IO_BACKEND_SYNC), 0);
    wal_segment_name(name, WAL_NUMBER);
    assert_string_equal(name, "0000000000000005.wal");
    image_place("wal-1.bin", disk.path, name);
    path = test_path(disk.path, name);
    assert_int_equal(truncate(path, WAL_FILE_SIZE), 0); /* the image leaves out the zeros behind */
    assert_int_equal(wal_replay(disk.io, disk.root, uuid, WAL_NUMBER, false, &callbacks, &result),
                     0);
    assert_int_equal(seen.pieces, 1);
    assert_int_equal(seen.entries, 2);
    assert_int_equal(result.groups, 2);
    assert_int_equal(result.last_sequence, 105);
    assert_false(result.torn);
    free(path);
    io_fixture_close(&disk);
}

/* ---- manifests ---- */

static void make_table_entry(struct manifest_table *table)
{
    struct buffer image = image_read("table-meta-1.bin");
    struct slice from = buffer_slice(&image);

    *table = (struct manifest_table){.level = 2, .order = 17};
    assert_int_equal(table_meta_decode(&from, &table->meta), 0);
    assert_int_equal(from.size, 0);
    buffer_free(&image);
}

static void make_sealed(struct sealed_manifest *sealed)
{
    *sealed = (struct sealed_manifest){.checkpoint_id = 3,
                                       .sequence = 1010,
                                       .created_s = 1795000001,
                                       .created_ns = 123456789,
                                       .parent_hash = {0x1111111111111111, 0x2222222222222222}};
    memcpy(sealed->store_uuid, uuid, sizeof uuid);
    assert_int_equal(buffer_assign(&sealed->name, "monday", 6), 0);
    assert_int_equal(buffer_assign(&sealed->payload, "payload", 7), 0);
    sealed->tables = calloc(1, sizeof *sealed->tables);
    sealed->table_count = 1;
    make_table_entry(&sealed->tables[0]);
    sealed->blobs = calloc(1, sizeof *sealed->blobs);
    sealed->blob_count = 1;
    sealed->blobs[0] = (struct chunk_identity){.id = sealed->tables[0].meta.uses[0].chunk_id,
                                               .kind = CHUNK_BLOB,
                                               .file_size_bytes = 12345,
                                               .hash = {3, 4}};
}

static void a_sealed_manifest_is_as_it_was(void **state)
{
    struct sealed_manifest sealed, back;
    struct checksum128 hash, read_hash;
    struct io_fixture disk;

    (void)state;
    make_sealed(&sealed);
    assert_int_equal(io_fixture_open(&disk, IO_BACKEND_SYNC), 0);
    assert_int_equal(sealed_manifest_write(disk.io, disk.root, &sealed, &hash), 0);
    image_check_file("sealed-manifest-1.bin", disk.path, "MANIFEST-0000000000000003");
    image_check_file("current-1.bin", disk.path, "CURRENT");
    io_fixture_close(&disk);

    assert_int_equal(io_fixture_open(&disk, IO_BACKEND_SYNC), 0);
    image_place("sealed-manifest-1.bin", disk.path, "MANIFEST-0000000000000003");
    image_place("current-1.bin", disk.path, "CURRENT");
    assert_int_equal(sealed_manifest_read(disk.io, disk.root, &back, &read_hash), 0);
    assert_memory_equal(&read_hash, &hash, sizeof hash);
    assert_memory_equal(back.store_uuid, uuid, sizeof uuid);
    assert_int_equal(back.checkpoint_id, 3);
    assert_int_equal(back.sequence, 1010);
    assert_int_equal(back.created_s, 1795000001);
    assert_int_equal(back.created_ns, 123456789);
    assert_int_equal(back.parent_hash.high, 0x2222222222222222);
    assert_slice_is(buffer_slice(&back.name), "monday");
    assert_slice_is(buffer_slice(&back.payload), "payload");
    assert_int_equal(back.table_count, 1);
    assert_int_equal(back.tables[0].level, 2);
    assert_int_equal(back.tables[0].order, 17);
    assert_int_equal(back.tables[0].meta.identity.id, TABLE_ID);
    assert_int_equal(back.tables[0].meta.records, TABLE_RECORDS);
    assert_slice_is(buffer_slice(&back.tables[0].meta.smallest), "a");
    assert_slice_is(buffer_slice(&back.tables[0].meta.largest), "z");
    assert_int_equal(back.tables[0].meta.uses[0].references, 5);
    assert_int_equal(back.blob_count, 1);
    assert_int_equal(back.blobs[0].file_size_bytes, 12345);
    sealed_manifest_free(&sealed);
    sealed_manifest_free(&back);
    io_fixture_close(&disk);
}

/* An LMDB file: read, not made again, for its pages lie as the library likes. */
static void make_live_manifest(const char *directory)
{
    struct manifest_options options = {.path = directory,
                                       .create = true,
                                       .map_size_bytes = 1 << 20,
                                       .change_log_entries_max = 100};
    const struct chunk_identity blob = {
        .id = BLOB_ID, .kind = CHUNK_BLOB, .file_size_bytes = 12345, .hash = {3, 4}};
    const struct manifest_scalars scalars = {.next_chunk_id = 50,
                                             .next_order = 18,
                                             .last_sequence = 1010,
                                             .wal_segment = 5,
                                             .next_checkpoint_id = 4,
                                             .unclean_starts = 2};
    struct manifest_checkpoint checkpoint = {.id = 3,
                                             .state = MANIFEST_CHECKPOINT_PENDING,
                                             .sequence = 1010,
                                             .linked_files = 2,
                                             .manifest_hash = {5, 6}};
    struct manifest_table table;
    struct manifest_edit edit = {.add_tables = &table,
                                 .add_table_count = 1,
                                 .add_blobs = &blob,
                                 .add_blob_count = 1,
                                 .put_checkpoint = &checkpoint,
                                 .scalars = &scalars};
    struct manifest *manifest;

    make_table_entry(&table);
    assert_int_equal(buffer_assign(&checkpoint.name, "monday", 6), 0);
    assert_int_equal(buffer_assign(&checkpoint.payload, "payload", 7), 0);
    assert_int_equal(buffer_assign(&checkpoint.plan, "plan", 4), 0);
    assert_int_equal(manifest_open(&options, &manifest), 0);
    assert_int_equal(manifest_cursor_set(manifest, "replica", 0), 0);
    assert_int_equal(manifest_commit(manifest, &edit), 0);
    assert_int_equal(manifest_lease_put(manifest, 3, "hold", 0), 0);
    manifest_close(manifest);
    manifest_checkpoint_free(&checkpoint);
    table_meta_free(&table.meta);
}

static int see_change(void *context, const struct manifest_change *change)
{
    unsigned *count = context;

    (*count)++;
    assert_int_equal(change->number, 1);
    assert_int_equal(change->added_count, 2);
    assert_int_equal(change->added[0], TABLE_ID);
    assert_int_equal(change->added[1], BLOB_ID);
    assert_int_equal(change->removed_count, 0);
    return 0;
}

static void check_live_manifest(const char *directory)
{
    struct manifest_options options = {.path = directory, .change_log_entries_max = 100};
    struct manifest_state loaded;
    struct manifest *manifest;
    unsigned changes = 0;

    assert_int_equal(manifest_open(&options, &manifest), 0);
    assert_int_equal(manifest_load(manifest, &loaded), 0);
    assert_int_equal(loaded.scalars.next_chunk_id, 50);
    assert_int_equal(loaded.scalars.next_order, 18);
    assert_int_equal(loaded.scalars.last_sequence, 1010);
    assert_int_equal(loaded.scalars.wal_segment, 5);
    assert_int_equal(loaded.scalars.next_checkpoint_id, 4);
    assert_int_equal(loaded.scalars.unclean_starts, 2);
    assert_false(loaded.scalars.clean);
    assert_int_equal(loaded.table_count, 1);
    assert_int_equal(loaded.tables[0].level, 2);
    assert_int_equal(loaded.tables[0].meta.identity.id, TABLE_ID);
    assert_int_equal(loaded.blob_count, 1);
    assert_int_equal(loaded.blobs[0].hash.high, 4);
    assert_int_equal(loaded.checkpoint_count, 1);
    assert_int_equal(loaded.checkpoints[0].state, MANIFEST_CHECKPOINT_PENDING);
    assert_int_equal(loaded.checkpoints[0].linked_files, 2);
    assert_slice_is(buffer_slice(&loaded.checkpoints[0].name), "monday");
    assert_slice_is(buffer_slice(&loaded.checkpoints[0].payload), "payload");
    assert_slice_is(buffer_slice(&loaded.checkpoints[0].plan), "plan");
    manifest_state_free(&loaded);
    assert_int_equal(manifest_lease_count(manifest, 3, 1), 1);
    assert_int_equal(manifest_changes_read(manifest, "replica", see_change, &changes), 0);
    assert_int_equal(changes, 1);
    manifest_close(manifest);
}

static void a_live_manifest_reads_as_it_did(void **state)
{
    char *directory = test_directory_make();
    char *path = test_path(directory, "data.mdb");
    struct buffer bytes = {0};

    (void)state;
    make_live_manifest(directory);
    check_live_manifest(directory); /* today's */
    bytes.data = test_file_read(path, &bytes.size);
    image_make("manifest-1.mdb", buffer_slice(&bytes));
    buffer_free(&bytes);
    test_directory_remove(directory);
    free(path);

    directory = test_directory_make();
    image_place("manifest-1.mdb", directory, "data.mdb");
    check_live_manifest(directory);
    test_directory_remove(directory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(format_is_as_it_was),
        cmocka_unit_test(blob_references_are_as_they_were),
        cmocka_unit_test(a_batch_is_as_it_was),
        cmocka_unit_test(a_table_is_as_it_was),
        cmocka_unit_test(a_compressed_table_reads_as_it_did),
        cmocka_unit_test(a_blob_chunk_is_as_it_was),
        cmocka_unit_test(a_log_segment_is_as_it_was),
        cmocka_unit_test(a_sealed_manifest_is_as_it_was),
        cmocka_unit_test(a_live_manifest_reads_as_it_did),
    };

    log_set_level(LOG_LEVEL_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
