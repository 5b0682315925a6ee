/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_sealed_damage.c - sealed manifests and CURRENT that are wrong in one field, under checksums
 * that are right: each rule of their decoders decides once alone
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/base/checksum.h"
#include "engine/base/endian.h"
#include "engine/base/error.h"
#include "engine/manifest_codec.h"
#include "engine/sealed_manifest.h"
#include "tests/lib/io_fixture.h"

/* Where the fields are. */
enum {
    AT_VERSION = 8,
    AT_FLAGS = 12,
    AT_ID = 32,
    AT_NANOSECONDS = 56,
    AT_TABLES = 76,
    AT_BLOBS = 80,
    AT_NAME_SIZE = 84,
    AT_PAYLOAD_SIZE = 88,
    AT_NAME = 92,
};

static void reseal(uint8_t *bytes, size_t size)
{
    put_le64(bytes + size - 8, checksum64(bytes, size - 8));
}

/* Two blobs, a name of three bytes, a payload of four. */
static struct buffer make_encoding(uint64_t sequence)
{
    struct chunk_identity blobs[] = {{.id = 30, .kind = CHUNK_BLOB, .file_size_bytes = 9000},
                                     {.id = 40, .kind = CHUNK_BLOB, .file_size_bytes = 9000}};
    struct sealed_manifest manifest = {
        .checkpoint_id = 7, .sequence = sequence, .blobs = blobs, .blob_count = 2};
    struct buffer bytes = {0};

    assert_int_equal(buffer_assign(&manifest.name, "one", 3), 0);
    assert_int_equal(buffer_assign(&manifest.payload, "tags", 4), 0);
    assert_int_equal(sealed_manifest_encode(&manifest, &bytes), 0);
    assert_memory_equal(bytes.data + AT_NAME, "onetags", 7);
    buffer_free(&manifest.name);
    buffer_free(&manifest.payload);
    return bytes;
}

/* In just the memory that it takes; the checksum is made right, where there is room for one. */
static int decode_resealed(const uint8_t *bytes, size_t size)
{
    struct sealed_manifest manifest;
    uint8_t *exact = malloc(size > 0 ? size : 1);
    int error;

    assert_non_null(exact);
    memcpy(exact, bytes, size);
    if (size >= 16)
        reseal(exact, size);
    error = sealed_manifest_decode(slice_of(exact, size), &manifest);
    if (error == 0)
        sealed_manifest_free(&manifest);
    free(exact);
    return error;
}

static void a_sealed_manifest_is_refused_for_each_field_alone(void **state)
{
    static const struct {
        size_t at;
        uint32_t value;
        int error;
    } fields[] = {
        {AT_ID, 7, 0},
        {0, 0, ERROR_NOT_STORE},
        {4, 0, ERROR_NOT_STORE},
        {AT_VERSION, 0, ERROR_VERSION_OLDER},
        {AT_VERSION, UINT32_MAX, ERROR_VERSION_NEWER},
        {AT_FLAGS, 1, ERROR_VERSION_NEWER},
        {AT_FLAGS, UINT32_C(1) << 31, ERROR_VERSION_NEWER},
        {AT_ID, 0, ERROR_CORRUPT},
        {AT_NANOSECONDS, 999999999, 0},
        {AT_NANOSECONDS, 1000000000, ERROR_CORRUPT},
        {AT_TABLES, UINT32_MAX, ERROR_CORRUPT}, /* and not -ENOMEM */
        {AT_BLOBS, 1, ERROR_CORRUPT},
        {AT_BLOBS, 3, ERROR_CORRUPT},
        {AT_BLOBS, UINT32_MAX, ERROR_CORRUPT},
        {AT_NAME_SIZE, 2, ERROR_RESIDENCY}, /* the blobs begin a byte before */
        {AT_NAME_SIZE, UINT32_MAX, ERROR_CORRUPT},
        {AT_PAYLOAD_SIZE, 3, ERROR_RESIDENCY},
        {AT_PAYLOAD_SIZE, UINT32_MAX, ERROR_CORRUPT},
        {AT_NAME + 7 + 1, 40, ERROR_CORRUPT}, /* the first blob's id, as the second's */
        {AT_NAME + 7 + 1, 41, ERROR_CORRUPT},
    };
    struct buffer bytes = make_encoding(1);

    (void)state;
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        uint8_t before[4];

        memcpy(before, bytes.data + fields[i].at, 4);
        put_le32(bytes.data + fields[i].at, fields[i].value);
        if (decode_resealed(bytes.data, bytes.size) != fields[i].error)
            fail_msg("field %zu", i);
        memcpy(bytes.data + fields[i].at, before, 4);
    }
    buffer_free(&bytes);
}

static void
a_sealed_manifest_of_another_length_is_refused_although_its_checksum_is_right(void **state)
{
    struct buffer bytes = make_encoding(1);
    size_t size = bytes.size;

    (void)state;
    assert_int_equal(buffer_append(&bytes, "more", 4), 0);
    assert_int_equal(decode_resealed(bytes.data, size), 0);
    for (size_t more = 1; more <= 4; more++)
        assert_int_equal(decode_resealed(bytes.data, size + more), ERROR_CORRUPT);
    for (size_t shorter = 0; shorter < AT_NAME + 8; shorter++)
        assert_int_equal(decode_resealed(bytes.data, shorter), ERROR_TRUNCATED);
    for (size_t shorter = AT_NAME + 8; shorter < size; shorter++)
        assert_int_equal(decode_resealed(bytes.data, shorter), ERROR_CORRUPT);
    buffer_free(&bytes);
}

/* Without tables and blobs, so that nothing else misses what is not there. */
static void strings_of_a_sealed_manifest_are_there_and_have_bounds(void **state)
{
    static const struct {
        size_t name, payload; /* said */
        size_t there;
        int error;
    } cases[] = {
        {3, 4, 7, 0},
        {8, 0, 7, ERROR_CORRUPT},
        {0, 8, 7, ERROR_CORRUPT},
        {3, 5, 7, ERROR_CORRUPT},
        {8, 0, 0, ERROR_CORRUPT},
        {0, 8, 0, ERROR_CORRUPT},
        {MANIFEST_NAME_SIZE_MAX, 0, MANIFEST_NAME_SIZE_MAX, 0},
        {MANIFEST_NAME_SIZE_MAX + 1, 0, MANIFEST_NAME_SIZE_MAX + 1, ERROR_CORRUPT},
        {0, MANIFEST_PAYLOAD_SIZE_MAX, MANIFEST_PAYLOAD_SIZE_MAX, 0},
        {0, MANIFEST_PAYLOAD_SIZE_MAX + 1, MANIFEST_PAYLOAD_SIZE_MAX + 1, ERROR_CORRUPT},
    };
    struct buffer bytes = make_encoding(1);

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        size_t size = AT_NAME + cases[i].there + 8;
        uint8_t *copy = calloc(1, size);

        assert_non_null(copy);
        memcpy(copy, bytes.data, AT_NAME);
        put_le32(copy + AT_BLOBS, 0);
        put_le32(copy + AT_NAME_SIZE, (uint32_t)cases[i].name);
        put_le32(copy + AT_PAYLOAD_SIZE, (uint32_t)cases[i].payload);
        if (decode_resealed(copy, size) != cases[i].error)
            fail_msg("case %zu", i);
        free(copy);
    }
    buffer_free(&bytes);
}

/* ---- files ---- */

struct fixture {
    struct io_fixture disk;
    char *manifest_path, *current_path;
};

static void setup(struct fixture *fixture, uint64_t sequence)
{
    struct sealed_manifest manifest = {.checkpoint_id = 7, .sequence = sequence};
    struct checksum128 hash;

    assert_int_equal(io_fixture_open(&fixture->disk, IO_BACKEND_SYNC), 0);
    fixture->manifest_path = test_path(fixture->disk.path, "MANIFEST-0000000000000007");
    fixture->current_path = test_path(fixture->disk.path, "CURRENT");
    assert_int_equal(sealed_manifest_write(fixture->disk.io, fixture->disk.root, &manifest, &hash),
                     0);
}

static void teardown(struct fixture *fixture)
{
    free(fixture->manifest_path);
    free(fixture->current_path);
    io_fixture_close(&fixture->disk);
}

static int try_read(const struct fixture *fixture)
{
    struct sealed_manifest manifest;
    struct checksum128 hash;
    int error = sealed_manifest_read(fixture->disk.io, fixture->disk.root, &manifest, &hash);

    if (error == 0)
        sealed_manifest_free(&manifest);
    return error;
}

static void another_manifest_of_the_same_checkpoint_is_told_by_its_hash(void **state)
{
    struct fixture fixture, other;
    uint8_t *bytes;
    size_t size;

    (void)state;
    setup(&fixture, 1);
    setup(&other, 2);
    bytes = test_file_read(other.manifest_path, &size);
    test_file_write(fixture.manifest_path, bytes, size);
    assert_int_equal(try_read(&fixture), ERROR_CORRUPT);
    free(bytes);
    teardown(&other);
    teardown(&fixture);
}

static void a_current_is_refused_for_each_field_alone(void **state)
{
    static const struct {
        size_t at;
        uint64_t value;
        int error;
    } fields[] = {
        {0, 0, ERROR_NOT_STORE},
        {16, 8, ERROR_CORRUPT}, /* a checkpoint that is not there */
        {24, 0, ERROR_CORRUPT}, /* halves of the hash */
        {32, 0, ERROR_CORRUPT},
        {40, 1000, ERROR_TRUNCATED}, /* the size of the manifest */
        {40, UINT64_MAX, ERROR_TRUNCATED},
    };
    struct fixture fixture;
    uint8_t *bytes;
    size_t size;

    (void)state;
    setup(&fixture, 1);
    bytes = test_file_read(fixture.current_path, &size);
    assert_int_equal(size, 56);
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        uint8_t changed[56];

        memcpy(changed, bytes, size);
        put_le64(changed + fields[i].at, fields[i].value);
        reseal(changed, size);
        test_file_write(fixture.current_path, changed, size);
        if (try_read(&fixture) != fields[i].error)
            fail_msg("field %zu", i);
    }
    for (size_t more = 1; more <= 2; more++) {
        uint8_t longer[58] = {0};

        memcpy(longer, bytes, size);
        reseal(longer, size + more);
        test_file_write(fixture.current_path, longer, size + more);
        assert_int_equal(try_read(&fixture), ERROR_CORRUPT);
    }
    free(bytes);
    teardown(&fixture);
}

static void a_file_far_too_large_is_damage_and_not_a_lack_of_memory(void **state)
{
    struct fixture fixture;

    (void)state;
    setup(&fixture, 1);
    assert_int_equal(truncate(fixture.manifest_path, ((off_t)1 << 30) + 1), 0);
    assert_int_equal(try_read(&fixture), ERROR_CORRUPT);
    teardown(&fixture);
    setup(&fixture, 1);
    assert_int_equal(truncate(fixture.current_path, (off_t)1 << 30), 0);
    assert_int_equal(try_read(&fixture), ERROR_CORRUPT);
    teardown(&fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_sealed_manifest_is_refused_for_each_field_alone),
        cmocka_unit_test(
            a_sealed_manifest_of_another_length_is_refused_although_its_checksum_is_right),
        cmocka_unit_test(strings_of_a_sealed_manifest_are_there_and_have_bounds),
        cmocka_unit_test(another_manifest_of_the_same_checkpoint_is_told_by_its_hash),
        cmocka_unit_test(a_current_is_refused_for_each_field_alone),
        cmocka_unit_test(a_file_far_too_large_is_damage_and_not_a_lack_of_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
