/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_manifest_damage.c - what a damaged, missing, foreign or newer manifest is taken for
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

#include "engine/base/endian.h"
#include "engine/base/error.h"
#include "engine/base/log.h"
#include "engine/manifest_codec.h"
#include "engine/manifest_record.h"
#include "tests/lib/test_directory.h"

struct fixture {
    char *path, *data; /* the directory, and its data.mdb */
    uint8_t *bytes;    /* of data.mdb after the manifest was closed */
    size_t size;
};

static int try_open(const struct fixture *fixture, struct manifest **ret_manifest)
{
    struct manifest_options options = {.path = fixture->path, .map_size_bytes = 1 << 20};

    return manifest_open(&options, ret_manifest);
}

static struct chunk_identity blob_of(uint64_t id)
{
    return (struct chunk_identity){.id = id,
                                   .kind = CHUNK_BLOB,
                                   .file_size_bytes = 0x0123456789abcdef,
                                   .hash = {0xfedcba9876543210, 0x0f1e2d3c4b5a6978 + id}};
}

/* A manifest with the blobs 1 and 2, closed. */
static void setup(struct fixture *fixture)
{
    const struct chunk_identity blobs[] = {blob_of(1), blob_of(2)};
    struct manifest_edit edit = {.add_blobs = blobs, .add_blob_count = 2};
    struct manifest_options options = {.create = true, .map_size_bytes = 1 << 20};
    struct manifest *manifest;

    fixture->path = test_directory_make();
    fixture->data = test_path(fixture->path, "data.mdb");
    options.path = fixture->path;
    assert_int_equal(manifest_open(&options, &manifest), 0);
    assert_int_equal(manifest_commit(manifest, &edit), 0);
    manifest_close(manifest);
    fixture->bytes = test_file_read(fixture->data, &fixture->size);
}

static void teardown(struct fixture *fixture)
{
    test_directory_remove(fixture->path);
    free(fixture->data);
    free(fixture->bytes);
}

static void write_back(const struct fixture *fixture)
{
    test_file_write(fixture->data, fixture->bytes, fixture->size);
}

/* Open and load: the first error. */
static int try_load(const struct fixture *fixture)
{
    struct manifest_state loaded;
    struct manifest *manifest;
    int error = try_open(fixture, &manifest);

    if (error != 0)
        return error;
    error = manifest_load(manifest, &loaded);
    if (error == 0)
        manifest_state_free(&loaded);
    manifest_close(manifest);
    return error;
}

/* The encoded value of a blob. Old pages may hold it as well: call again from behind it; SIZE_MAX:
 * none. */
static size_t find_blob(const struct fixture *fixture, uint64_t id, size_t from)
{
    const struct chunk_identity blob = blob_of(id);
    struct buffer value = {0};
    const uint8_t *found;

    assert_int_equal(manifest_blob_encode(&blob, &value), 0);
    found = memmem(fixture->bytes + from, fixture->size - from, value.data, value.size);
    buffer_free(&value);
    return found == NULL ? SIZE_MAX : (size_t)(found - fixture->bytes);
}

/* ---- values ---- */

static void a_flipped_bit_anywhere_in_a_value_is_corruption(void **state)
{
    struct fixture fixture;
    size_t copies = 0;

    (void)state;
    setup(&fixture);
    for (size_t bit = 0; bit < 8 * (MANIFEST_BLOB_SIZE + 8); bit++) { /* with its checksum */
        size_t at[16];
        size_t count = 0, from = 0;
        int error;

        while (count < 16 && (from = find_blob(&fixture, 1, from)) != SIZE_MAX)
            at[count++] = from++;
        assert_true(count > 0);
        copies += count;
        for (size_t i = 0; i < count; i++)
            fixture.bytes[at[i] + bit / 8] ^= (uint8_t)(1u << bit % 8);
        write_back(&fixture);
        error = try_load(&fixture);
        if (error != ERROR_CORRUPT)
            fail_msg("bit %zu: %s", bit, error_text(error));
        for (size_t i = 0; i < count; i++)
            fixture.bytes[at[i] + bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    assert_true(copies > 0);
    write_back(&fixture);
    assert_int_equal(try_load(&fixture), 0);
    teardown(&fixture);
}

/* Where the only copy of `size` bytes is. */
static size_t find_once(const struct fixture *fixture, const void *bytes, size_t size)
{
    const uint8_t *found = memmem(fixture->bytes, fixture->size, bytes, size);
    size_t at;

    assert_non_null(found);
    at = (size_t)(found - fixture->bytes);
    assert_null(memmem(found + 1, fixture->size - at - 1, bytes, size));
    return at;
}

static void a_value_under_another_key_is_corruption(void **state)
{
    enum { SIZE = 8 + 8 };
    const uint64_t ends[] = {0x1122334455667788, 0x8877665544332211};
    uint8_t value[SIZE], encoded[2][8];
    const uint8_t *page, *found;
    struct manifest *manifest;
    struct fixture fixture;
    size_t one, two;

    (void)state;
    setup(&fixture);
    /* Leases do not repeat their key in the value: only the checksum tells them apart. */
    assert_int_equal(try_open(&fixture, &manifest), 0);
    assert_int_equal(manifest_lease_put(manifest, 1, "a", ends[0]), 0);
    manifest_close(manifest);
    assert_int_equal(try_open(&fixture, &manifest), 0);
    assert_int_equal(manifest_lease_put(manifest, 2, "a", ends[1]), 0);
    manifest_close(manifest);
    free(fixture.bytes);
    fixture.bytes = test_file_read(fixture.data, &fixture.size);

    for (size_t i = 0; i < 2; i++)
        put_le64(encoded[i], ends[i]);
    two = find_once(&fixture, encoded[1], 8);
    /* The page that holds both is the live one. */
    page = fixture.bytes + two / 4096 * 4096;
    found = memmem(page, 4096, encoded[0], 8);
    assert_non_null(found);
    one = (size_t)(found - fixture.bytes);
    memcpy(value, fixture.bytes + one, SIZE);
    memcpy(fixture.bytes + one, fixture.bytes + two, SIZE);
    memcpy(fixture.bytes + two, value, SIZE);
    write_back(&fixture);
    assert_int_equal(try_open(&fixture, &manifest), ERROR_CORRUPT);
    teardown(&fixture);
}

struct raw_record {
    struct manifest_key key;
    struct buffer payload;
};

static int put_raw(struct manifest_transaction *transaction, void *context)
{
    const struct raw_record *record = context;

    return manifest_record_put(transaction, &record->key, buffer_slice(&record->payload));
}

/* Store a record with a good checksum, whatever it says. */
static void store_raw(const struct fixture *fixture, struct raw_record *record)
{
    struct manifest *manifest;

    assert_int_equal(try_open(fixture, &manifest), 0);
    assert_int_equal(manifest_update(manifest, put_raw, record), 0);
    manifest_close(manifest);
}

static void r33_a_blob_of_unknown_residency_is_a_typed_error(void **state)
{
    struct raw_record record = {.key = manifest_key_number(MANIFEST_KEY_BLOB, 1)};
    const struct chunk_identity blob = blob_of(1);
    struct fixture fixture;

    (void)state;
    setup(&fixture);
    assert_int_equal(manifest_blob_encode(&blob, &record.payload), 0);
    for (unsigned residency = 0; residency < 256; residency++) {
        record.payload.data[0] = (uint8_t)residency;
        store_raw(&fixture, &record);
        assert_int_equal(try_load(&fixture),
                         residency == MANIFEST_RESIDENCY_LOCAL ? 0 : ERROR_RESIDENCY);
    }
    buffer_free(&record.payload);
    teardown(&fixture);
}

static void r33_a_table_of_unknown_residency_is_a_typed_error(void **state)
{
    struct raw_record record = {.key = manifest_key_number(MANIFEST_KEY_TABLE, 5)};
    const struct manifest_table table = {.meta.identity = {.id = 5, .kind = CHUNK_TABLE}};
    struct fixture fixture;

    (void)state;
    setup(&fixture);
    assert_int_equal(manifest_table_encode(&table, &record.payload), 0);
    record.payload.data[12] = 2; /* behind level and order */
    store_raw(&fixture, &record);
    assert_int_equal(try_load(&fixture), ERROR_RESIDENCY);
    record.payload.data[12] = MANIFEST_RESIDENCY_LOCAL;
    store_raw(&fixture, &record);
    assert_int_equal(try_load(&fixture), 0);
    buffer_free(&record.payload);
    teardown(&fixture);
}

static void records_that_do_not_decode_are_corruption(void **state)
{
    const enum manifest_key_kind kinds[] = {MANIFEST_KEY_TABLE, MANIFEST_KEY_BLOB,
                                            MANIFEST_KEY_CHECKPOINT};
    struct raw_record record = {0};
    struct fixture fixture;

    (void)state;
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        setup(&fixture);
        record.key = manifest_key_number(kinds[i], 77); /* nothing at all */
        store_raw(&fixture, &record);
        assert_int_equal(try_load(&fixture), ERROR_CORRUPT);
        teardown(&fixture);
    }
    setup(&fixture); /* a good value, but of another id */
    record.key = manifest_key_number(MANIFEST_KEY_BLOB, 77);
    assert_int_equal(manifest_blob_encode(&(struct chunk_identity){.id = 78, .kind = CHUNK_BLOB},
                                          &record.payload),
                     0);
    store_raw(&fixture, &record);
    assert_int_equal(try_load(&fixture), ERROR_CORRUPT);
    teardown(&fixture);
    setup(&fixture);
    record.key = manifest_key_plain(MANIFEST_KEY_SCALARS);
    store_raw(&fixture, &record);
    assert_int_equal(try_load(&fixture), ERROR_CORRUPT);
    teardown(&fixture);
    buffer_free(&record.payload);
}

static void r40_a_manifest_of_another_version_is_refused_as_such(void **state)
{
    static const struct {
        uint32_t version;
        int error;
    } cases[] = {{MANIFEST_VERSION + 1, ERROR_VERSION_NEWER},
                 {UINT32_MAX, ERROR_VERSION_NEWER},
                 {0, ERROR_VERSION_OLDER}};
    struct raw_record record = {.key = manifest_key_plain(MANIFEST_KEY_FORMAT)};
    struct fixture fixture;

    (void)state;
    assert_int_equal(manifest_format_encode(&record.payload), 0);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        setup(&fixture);
        put_le32(record.payload.data + 8, cases[i].version);
        store_raw(&fixture, &record);
        assert_int_equal(try_load(&fixture), cases[i].error);
        teardown(&fixture);
    }
    setup(&fixture);
    record.payload.data[0] ^= 1; /* another program's database */
    store_raw(&fixture, &record);
    assert_int_equal(try_load(&fixture), ERROR_NOT_STORE);
    teardown(&fixture);
    buffer_free(&record.payload);
}

/* ---- files ---- */

static void r57_a_missing_empty_or_short_data_file_is_never_an_empty_manifest(void **state)
{
    struct fixture fixture;
    size_t whole;

    (void)state;
    setup(&fixture);
    whole = fixture.size;
    assert_int_equal(unlink(fixture.data), 0);
    assert_int_equal(try_load(&fixture), ERROR_TRUNCATED);
    assert_int_equal(access(fixture.data, F_OK), -1); /* and it was not made */
    for (fixture.size = 0; fixture.size < whole; fixture.size += 512) {
        int error;

        write_back(&fixture);
        error = try_load(&fixture);
        if (error != ERROR_TRUNCATED && error != ERROR_CORRUPT)
            fail_msg("%zu bytes: %s", fixture.size, error_text(error));
    }
    fixture.size = whole;
    write_back(&fixture);
    assert_int_equal(try_load(&fixture), 0);
    teardown(&fixture);
}

static void a_foreign_data_file_is_refused(void **state)
{
    struct fixture fixture;

    (void)state;
    setup(&fixture);
    memset(fixture.bytes, 'x', fixture.size);
    write_back(&fixture);
    assert_int_equal(try_load(&fixture), ERROR_CORRUPT);
    teardown(&fixture);
}

static void r40_a_newer_format_of_the_database_itself_is_refused_as_such(void **state)
{
    struct fixture fixture;
    unsigned metas = 0;

    (void)state;
    setup(&fixture);
    for (size_t at = 16; at < 8192; at += 4096) /* behind the page header: magic, version */
        if (get_le32(fixture.bytes + at) == 0xbeefc0de) {
            put_le32(fixture.bytes + at + 4, 2);
            metas++;
        }
    assert_int_equal(metas, 2);
    write_back(&fixture);
    assert_int_equal(try_load(&fixture), ERROR_VERSION_NEWER);
    teardown(&fixture);
}

static void an_environment_without_records_is_corruption(void **state)
{
    struct fixture fixture;

    (void)state;
    setup(&fixture);
    /* What a crash between making the file and the first commit leaves: two meta pages. */
    fixture.size = 8192;
    for (size_t at = 0; at < 8192; at += 4096) {
        uint8_t *meta = fixture.bytes + at + 16;

        memset(meta + 24, 0, 96);             /* both trees, */
        put_le32(meta + 24, 4096);            /* with the page size in the first, */
        put_le16(meta + 24 + 4, 8);           /* whose keys are numbers, */
        put_le64(meta + 24 + 40, UINT64_MAX); /* have no root */
        put_le64(meta + 72 + 40, UINT64_MAX);
        put_le64(meta + 120, 1); /* last page */
        put_le64(meta + 128, 0); /* transaction */
    }
    write_back(&fixture);
    assert_int_equal(try_load(&fixture), ERROR_CORRUPT);
    teardown(&fixture);
}

static void what_is_no_file_is_corruption(void **state)
{
    struct fixture fixture;
    struct manifest *manifest;

    (void)state;
    setup(&fixture);
    assert_int_equal(unlink(fixture.data), 0);
    assert_int_equal(mkdir(fixture.data, 0700), 0);
    assert_int_equal(try_open(&fixture, &manifest), ERROR_CORRUPT);
    teardown(&fixture);
}

static void r43_symbolic_links_are_refused(void **state)
{
    static const char *const names[] = {"data.mdb", "lock.mdb"};
    struct fixture fixture, link_fixture;

    (void)state;
    setup(&fixture);
    for (size_t i = 0; i < 2; i++) {
        char *name = test_path(fixture.path, names[i]), *away = test_path(fixture.path, "away");

        assert_int_equal(rename(name, away), 0);
        assert_int_equal(symlink("away", name), 0);
        assert_int_equal(try_load(&fixture), -ELOOP);
        assert_int_equal(unlink(name), 0);
        assert_int_equal(rename(away, name), 0);
        free(name);
        free(away);
    }
    assert_int_equal(try_load(&fixture), 0);
    link_fixture = fixture;
    assert_true(asprintf(&link_fixture.path, "%s.link", fixture.path) > 0);
    assert_int_equal(symlink(fixture.path, link_fixture.path), 0);
    assert_int_equal(try_load(&link_fixture), -ELOOP);
    assert_int_equal(unlink(link_fixture.path), 0);
    free(link_fixture.path);
    teardown(&fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_flipped_bit_anywhere_in_a_value_is_corruption),
        cmocka_unit_test(a_value_under_another_key_is_corruption),
        cmocka_unit_test(r33_a_blob_of_unknown_residency_is_a_typed_error),
        cmocka_unit_test(r33_a_table_of_unknown_residency_is_a_typed_error),
        cmocka_unit_test(records_that_do_not_decode_are_corruption),
        cmocka_unit_test(r40_a_manifest_of_another_version_is_refused_as_such),
        cmocka_unit_test(r57_a_missing_empty_or_short_data_file_is_never_an_empty_manifest),
        cmocka_unit_test(a_foreign_data_file_is_refused),
        cmocka_unit_test(r40_a_newer_format_of_the_database_itself_is_refused_as_such),
        cmocka_unit_test(an_environment_without_records_is_corruption),
        cmocka_unit_test(what_is_no_file_is_corruption),
        cmocka_unit_test(r43_symbolic_links_are_refused),
    };

    log_set_level(LOG_LEVEL_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
