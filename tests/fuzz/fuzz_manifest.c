/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_manifest.c - the values of the manifest's records, and the other small structures
 *
 * The options byte says which decoder gets the rest. Whatever decodes is encoded and decoded again,
 * which must lead to the same bytes. With the upper bit the input's checksum is made right where
 * the structure has one.
 */
#include "tests/fuzz/fuzz.h"

#include "engine/base/checksum.h"
#include "engine/base/endian.h"
#include "engine/base/error.h"
#include "engine/chunk_format.h"
#include "engine/manifest_codec.h"
#include "engine/manifest_record.h"
#include "engine/store.h"
#include "engine/table_block.h"
#include "engine/table_index.h"
#include "engine/wal_format.h"
#include "fuse/fs_key.h"
#include "snapshot/snapshot_internal.h"

enum decoder {
    TABLE,
    BLOB,
    CHECKPOINT,
    SCALARS,
    FORMAT_RECORD,
    TABLE_META,
    STORE_FORMAT,
    CHUNK_HEADER,
    CHUNK_TRAILER,
    NAMES,
    INODE,
    DENTRY,
    COOKIE,
    ATIME,
    PAYLOAD,
    BLOCK,
    INDEX,
    DECODERS
};

#define SEAL 0x80

static void check_table(struct slice bytes)
{
    struct manifest_table table = {0}, again = {0};
    struct buffer encoded = {0};
    struct slice rest = bytes;

    if (manifest_table_decode(&rest, &table) != 0)
        return;
    (void)manifest_tables_check(&table, 1);
    fuzz_require(manifest_table_encode(&table, &encoded) == 0);
    rest = buffer_slice(&encoded);
    fuzz_require(manifest_table_decode(&rest, &again) == 0 && rest.size == 0);
    fuzz_require(again.level == table.level && again.order == table.order);
    table_meta_free(&table.meta);
    table_meta_free(&again.meta);
    buffer_free(&encoded);
}

static void check_meta(struct slice bytes)
{
    struct table_meta meta = {0}, again = {0};
    struct buffer encoded = {0};
    struct slice rest = bytes;

    if (table_meta_decode(&rest, &meta) != 0)
        return;
    fuzz_require(table_meta_encode(&meta, &encoded) == 0);
    rest = buffer_slice(&encoded);
    fuzz_require(table_meta_decode(&rest, &again) == 0 && rest.size == 0);
    fuzz_require(again.use_count == meta.use_count && again.records == meta.records);
    table_meta_free(&meta);
    table_meta_free(&again);
    buffer_free(&encoded);
}

static void check_checkpoint(struct slice bytes)
{
    struct manifest_checkpoint checkpoint = {0};
    struct buffer encoded = {0};

    if (manifest_checkpoint_decode(bytes, &checkpoint) != 0)
        return;
    fuzz_require(manifest_checkpoint_encode(&checkpoint, &encoded) == 0);
    fuzz_require(slice_equal(buffer_slice(&encoded), bytes));
    manifest_checkpoint_free(&checkpoint);
    buffer_free(&encoded);
}

static void check_blob_and_scalars(enum decoder decoder, struct slice bytes)
{
    struct manifest_scalars scalars;
    struct chunk_identity blob;
    struct buffer encoded = {0};
    struct slice rest = bytes;

    if (decoder == BLOB && manifest_blob_decode(&rest, &blob) == 0) {
        fuzz_require(manifest_blob_encode(&blob, &encoded) == 0);
        fuzz_require(memcmp(encoded.data, bytes.data, encoded.size) == 0);
    } else if (decoder == SCALARS && manifest_scalars_decode(bytes, &scalars) == 0) {
        fuzz_require(manifest_scalars_encode(&scalars, &encoded) == 0);
        fuzz_require(slice_equal(buffer_slice(&encoded), bytes));
    } else if (decoder == FORMAT_RECORD) {
        (void)manifest_format_check(bytes);
    }
    buffer_free(&encoded);
}

/* Structures of one size, with a checksum at their end. */
static void check_fixed(enum decoder decoder, uint8_t *bytes, size_t size, bool seal)
{
    static const size_t sizes[] = {[STORE_FORMAT] = STORE_FORMAT_SIZE,
                                   [CHUNK_HEADER] = CHUNK_HEADER_SIZE,
                                   [CHUNK_TRAILER] = CHUNK_TRAILER_SIZE};
    uint8_t *fixed = calloc(1, sizes[decoder]);
    struct store_format format;
    struct chunk_trailer trailer;

    fuzz_require(fixed != NULL);
    memcpy(fixed, bytes, size < sizes[decoder] ? size : sizes[decoder]);
    if (seal)
        put_le64(fixed + sizes[decoder] - 8, checksum64(fixed, sizes[decoder] - 8));
    if (decoder == STORE_FORMAT && store_format_decode(fixed, &format) == 0)
        fuzz_require(format.chunk_size_bytes > 0);
    else if (decoder == CHUNK_HEADER)
        (void)chunk_header_check(fixed, CHUNK_TABLE, NULL, 1);
    else if (decoder == CHUNK_TRAILER && chunk_trailer_decode(fixed, &trailer) == 0)
        fuzz_require(trailer.kind == CHUNK_TABLE || trailer.kind == CHUNK_BLOB);
    free(fixed);
}

static void check_names(const uint8_t *bytes, size_t size)
{
    char *text = malloc(size + 1), name[CHUNK_NAME_SIZE], segment[WAL_NAME_SIZE];
    struct chunk_identity identity;
    uint64_t number;
    bool sealed;

    fuzz_require(text != NULL);
    memcpy(text, bytes, size);
    text[size] = '\0';
    if (chunk_name_parse(text, &identity, &sealed)) {
        if (sealed)
            chunk_name(name, &identity);
        else
            chunk_open_name(name, identity.id);
        fuzz_require(strcmp(name, text) == 0);
    }
    if (wal_segment_name_parse(text, &number)) {
        wal_segment_name(segment, number);
        fuzz_require(strcmp(segment, text) == 0);
    }
    free(text);
}

static void check_records(enum decoder decoder, struct slice bytes)
{
    uint8_t encoded[FS_INODE_SIZE > FS_COOKIE_SIZE_MAX ? FS_INODE_SIZE : FS_COOKIE_SIZE_MAX];
    struct fs_inode inode;
    struct fs_dentry dentry;
    struct fs_cookie cookie;
    struct timespec time;

    if (decoder == INODE && fs_inode_decode(bytes, &inode) == 0) {
        fs_inode_encode(&inode, encoded);
        fuzz_require(slice_equal(slice_of(encoded, FS_INODE_SIZE), bytes));
    } else if (decoder == DENTRY && fs_dentry_decode(bytes, &dentry) == 0) {
        fs_dentry_encode(&dentry, encoded);
        fuzz_require(slice_equal(slice_of(encoded, FS_DENTRY_SIZE), bytes));
    } else if (decoder == COOKIE && fs_cookie_decode(bytes, &cookie) == 0) {
        fuzz_require(slice_equal(slice_of(encoded, fs_cookie_encode(&cookie, encoded)), bytes));
    } else if (decoder == ATIME && fs_atime_decode(bytes, &time) == 0) {
        fs_atime_encode(&time, encoded);
        fuzz_require(slice_equal(slice_of(encoded, FS_ATIME_SIZE), bytes));
    }
}

static void check_payload(struct slice bytes)
{
    struct snapshot_tags tags = {0};
    struct timespec created;
    struct buffer encoded = {0};

    if (snapshot_payload_decode(bytes, &created, &tags) != 0)
        return;
    fuzz_require(snapshot_payload_encode(created, tags.items, tags.count, &encoded) == 0);
    fuzz_require(slice_equal(buffer_slice(&encoded), bytes));
    snapshot_tags_free(&tags);
    buffer_free(&encoded);
}

static void check_block(struct slice bytes)
{
    struct table_block_view view;
    struct table_block_cursor *cursor;
    struct record record;
    size_t count = 0;

    if (table_block_open(bytes, &view) != 0)
        return;
    cursor = malloc(sizeof *cursor);
    fuzz_require(cursor != NULL);
    table_block_cursor_init(cursor, &view);
    while (count++ < 1000 && table_block_cursor_next(cursor) == 1)
        if (table_block_find(&view, cursor->record.key, &record) == 1)
            fuzz_require(record.value.size == 0 ||
                         (record.value.data >= bytes.data &&
                          record.value.data + record.value.size <= bytes.data + bytes.size));
    (void)table_block_cursor_seek(cursor, bytes.size > 4 ? slice_of(bytes.data, 4) : bytes);
    free(cursor);
}

static void check_index(struct slice bytes)
{
    struct table_index index;

    if (table_index_parse(bytes, CHUNK_HEADER_SIZE, UINT64_C(1) << 20, &index) != 0)
        return;
    for (size_t i = 0; i < index.count; i++)
        fuzz_require(index.positions[i] < index.positions[i + 1]);
    if (index.count > 0)
        fuzz_require(table_index_find(&index, bytes) < index.count);
    table_index_free(&index);
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
    enum decoder decoder;
    struct slice bytes;
    uint8_t *copy;

    if (size < 1)
        return 0;
    decoder = (enum decoder)((data[0] & ~SEAL) % DECODERS);
    copy = fuzz_copy(data + 1, size - 1);
    bytes = slice_of(copy, size - 1);
    switch (decoder) {
    case TABLE:
        check_table(bytes);
        break;
    case TABLE_META:
        check_meta(bytes);
        break;
    case CHECKPOINT:
        check_checkpoint(bytes);
        break;
    case BLOB:
    case SCALARS:
    case FORMAT_RECORD:
        check_blob_and_scalars(decoder, bytes);
        break;
    case STORE_FORMAT:
    case CHUNK_HEADER:
    case CHUNK_TRAILER:
        check_fixed(decoder, copy, bytes.size, (data[0] & SEAL) != 0);
        break;
    case NAMES:
        check_names(copy, bytes.size);
        break;
    case PAYLOAD:
        check_payload(bytes);
        break;
    case BLOCK:
        check_block(bytes);
        break;
    case INDEX:
        check_index(bytes);
        break;
    default:
        check_records(decoder, bytes);
        break;
    }
    free(copy);
    return 0;
}
