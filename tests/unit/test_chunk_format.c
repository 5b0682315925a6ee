/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_chunk_format.c - headers, trailers and names of chunks
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "engine/base/endian.h"
#include "engine/base/error.h"
#include "engine/chunk_format.h"
#include "tests/lib/child.h"
#include "tests/lib/seed.h"

static const uint8_t uuid[STORE_UUID_SIZE] = "a store's uuid .";
static const uint8_t other_uuid[STORE_UUID_SIZE] = "another store's.";

static void make_header(uint8_t header[CHUNK_HEADER_SIZE])
{
    chunk_header_encode(header, CHUNK_BLOB, uuid, 0x1122334455667788);
}

static int check(const uint8_t header[CHUNK_HEADER_SIZE])
{
    return chunk_header_check(header, CHUNK_BLOB, uuid, 0x1122334455667788);
}

static void header_has_the_documented_bytes(void **state)
{
    uint8_t header[CHUNK_HEADER_SIZE];

    (void)state;
    make_header(header);
    assert_memory_equal(header, "VARVECHK", 8);
    assert_int_equal(get_le32(header + 8), 1);
    assert_int_equal(get_le32(header + 12), CHUNK_BLOB);
    assert_memory_equal(header + 16, uuid, sizeof uuid);
    assert_int_equal(get_le64(header + 32), 0x1122334455667788);
    for (size_t i = 40; i < 4088; i++)
        assert_int_equal(header[i], 0);
    assert_int_equal(get_le64(header + 4088), checksum64(header, 4088));
}

static void header_is_accepted_by_its_own_store_or_any(void **state)
{
    uint8_t header[CHUNK_HEADER_SIZE];

    (void)state;
    make_header(header);
    assert_int_equal(check(header), 0);
    assert_int_equal(chunk_header_check(header, CHUNK_BLOB, NULL, 0x1122334455667788), 0);
    assert_int_equal(chunk_header_check(header, CHUNK_BLOB, other_uuid, 0x1122334455667788),
                     ERROR_FOREIGN);
}

static void header_of_another_chunk_is_corrupt(void **state)
{
    uint8_t header[CHUNK_HEADER_SIZE];

    (void)state;
    make_header(header);
    assert_int_equal(chunk_header_check(header, CHUNK_TABLE, uuid, 0x1122334455667788),
                     ERROR_CORRUPT);
    assert_int_equal(chunk_header_check(header, CHUNK_BLOB, uuid, 0x1122334455667789),
                     ERROR_CORRUPT);
}

static void header_with_any_bit_flipped_is_corrupt(void **state)
{
    uint8_t header[CHUNK_HEADER_SIZE];

    (void)state;
    make_header(header);
    for (size_t bit = 0; bit < CHUNK_HEADER_SIZE * 8; bit++) {
        header[bit / 8] ^= (uint8_t)(1 << bit % 8);
        assert_int_equal(check(header), ERROR_CORRUPT);
        header[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    assert_int_equal(check(header), 0);
}

static void put_version(uint8_t *bytes, uint32_t version, size_t checked)
{
    put_le32(bytes + 8, version);
    put_le64(bytes + checked, checksum64(bytes, checked));
}

static void header_with_another_magic_is_corrupt(void **state)
{
    uint8_t header[CHUNK_HEADER_SIZE];

    (void)state;
    for (size_t at = 0; at < 8; at++) {
        make_header(header);
        header[at] ^= 0x20;
        put_version(header, CHUNK_VERSION, 4088);
        assert_int_equal(check(header), ERROR_CORRUPT);
    }
}

static void header_of_a_newer_version_is_refused_as_such(void **state)
{
    uint8_t header[CHUNK_HEADER_SIZE];

    (void)state;
    make_header(header);
    put_version(header, CHUNK_VERSION + 1, 4088);
    assert_int_equal(check(header), ERROR_VERSION_NEWER);
    put_version(header, UINT32_MAX, 4088);
    assert_int_equal(check(header), ERROR_VERSION_NEWER);
    put_version(header, 0, 4088);
    assert_int_equal(check(header), ERROR_CORRUPT);
}

static struct chunk_trailer some_trailer(void)
{
    struct chunk_trailer trailer = {
        .id = 42,
        .kind = CHUNK_TABLE,
        .content_size_bytes = 123456789,
        .hash = {0x0123456789abcdef, 0xfedcba9876543210},
        .values = {1, 2, UINT64_MAX, 4},
    };

    memcpy(trailer.store_uuid, uuid, sizeof uuid);
    return trailer;
}

static void trailer_comes_back(void **state)
{
    struct chunk_trailer trailer = some_trailer(), decoded = {0};
    uint8_t bytes[CHUNK_TRAILER_SIZE];

    (void)state;
    chunk_trailer_encode(bytes, &trailer);
    assert_memory_equal(bytes, "VARVEEND", 8);
    assert_int_equal(get_le64(bytes + 40), 123456789);
    assert_int_equal(get_le64(bytes + 48), trailer.hash.low);
    assert_int_equal(get_le64(bytes + 56), trailer.hash.high);
    assert_int_equal(get_le64(bytes + 80), UINT64_MAX);
    assert_int_equal(chunk_trailer_decode(bytes, &decoded), 0);
    assert_memory_equal(decoded.store_uuid, uuid, sizeof uuid);
    assert_int_equal(decoded.id, 42);
    assert_int_equal(decoded.kind, CHUNK_TABLE);
    assert_int_equal(decoded.content_size_bytes, 123456789);
    assert_int_equal(decoded.hash.low, trailer.hash.low);
    assert_int_equal(decoded.hash.high, trailer.hash.high);
    assert_memory_equal(decoded.values, trailer.values, sizeof trailer.values);
}

static void trailer_with_any_bit_flipped_is_corrupt_and_writes_no_result(void **state)
{
    struct chunk_trailer trailer = some_trailer(), decoded, untouched;
    uint8_t bytes[CHUNK_TRAILER_SIZE];

    (void)state;
    memset(&untouched, 0x5a, sizeof untouched);
    decoded = untouched;
    chunk_trailer_encode(bytes, &trailer);
    for (size_t bit = 0; bit < CHUNK_TRAILER_SIZE * 8; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
        assert_int_equal(chunk_trailer_decode(bytes, &decoded), ERROR_CORRUPT);
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    assert_memory_equal(&decoded, &untouched, sizeof decoded);
    put_version(bytes, CHUNK_VERSION + 1, 120);
    assert_int_equal(chunk_trailer_decode(bytes, &decoded), ERROR_VERSION_NEWER);
}

/* A trailer that is whole, of another chunk. */
static void trailer_of_another_chunk_is_told_by_each_field_alone(void **state)
{
    struct chunk_trailer trailer = some_trailer();
    const struct chunk_identity identity = {
        .id = trailer.id,
        .kind = trailer.kind,
        .file_size_bytes = trailer.content_size_bytes + CHUNK_TRAILER_SIZE,
        .hash = trailer.hash,
    };
    struct chunk_identity other;

    (void)state;
    assert_int_equal(chunk_trailer_check(&trailer, &identity), 0);
    for (unsigned bit = 0; bit < 64; bit++) {
        uint64_t flipped = UINT64_C(1) << bit;

        other = identity;
        other.id ^= flipped;
        assert_int_equal(chunk_trailer_check(&trailer, &other), ERROR_CORRUPT);
        other = identity;
        other.file_size_bytes ^= flipped;
        assert_int_equal(chunk_trailer_check(&trailer, &other), ERROR_CORRUPT);
        other = identity;
        other.hash.low ^= flipped;
        assert_int_equal(chunk_trailer_check(&trailer, &other), ERROR_CORRUPT);
        other = identity;
        other.hash.high ^= flipped;
        assert_int_equal(chunk_trailer_check(&trailer, &other), ERROR_CORRUPT);
    }
    other = identity;
    other.kind = identity.kind == CHUNK_BLOB ? CHUNK_TABLE : CHUNK_BLOB;
    assert_int_equal(chunk_trailer_check(&trailer, &other), ERROR_CORRUPT);
}

static void trailer_of_an_unknown_kind_is_corrupt(void **state)
{
    struct chunk_trailer trailer = some_trailer(), decoded;
    uint8_t bytes[CHUNK_TRAILER_SIZE];

    (void)state;
    chunk_trailer_encode(bytes, &trailer);
    put_le32(bytes + 12, 3);
    put_version(bytes, CHUNK_VERSION, 120);
    assert_int_equal(chunk_trailer_decode(bytes, &decoded), ERROR_CORRUPT);
}

static void names_are_as_documented(void **state)
{
    struct chunk_identity identity = {
        .id = 0x1f, .kind = CHUNK_TABLE, .hash = {.low = 0xabc, .high = 0xdef}};
    char name[CHUNK_NAME_SIZE];

    (void)state;
    chunk_name(name, &identity);
    assert_string_equal(name, "000000000000001f-0000000000000def0000000000000abc.tbl");
    identity.kind = CHUNK_BLOB;
    chunk_name(name, &identity);
    assert_string_equal(name, "000000000000001f-0000000000000def0000000000000abc.blb");
    chunk_open_name(name, 0x1f);
    assert_string_equal(name, "000000000000001f.open");
}

static void names_are_parsed_back(void **state)
{
    uint64_t random = seed_start("names_are_parsed_back");

    (void)state;
    for (int i = 0; i < 1000; i++) {
        struct chunk_identity identity = {
            .id = seed_next(&random) >> seed_below(&random, 64),
            .kind = seed_below(&random, 2) ? CHUNK_TABLE : CHUNK_BLOB,
            .hash = {seed_next(&random), seed_next(&random)},
        };
        struct chunk_identity parsed;
        char name[CHUNK_NAME_SIZE];
        bool sealed;

        chunk_name(name, &identity);
        assert_true(chunk_name_parse(name, &parsed, &sealed));
        assert_true(sealed);
        assert_int_equal(parsed.id, identity.id);
        assert_int_equal(parsed.kind, identity.kind);
        assert_int_equal(parsed.hash.low, identity.hash.low);
        assert_int_equal(parsed.hash.high, identity.hash.high);
        chunk_open_name(name, identity.id);
        assert_true(chunk_name_parse(name, &parsed, &sealed));
        assert_false(sealed);
        assert_int_equal(parsed.id, identity.id);
    }
}

static void other_names_are_no_chunks(void **state)
{
    static const char *const names[] = {
        "",
        ".",
        "000000000000001f",
        "000000000000001f.ope",
        "000000000000001f.opens",
        "000000000000001F.open",
        "00000000000001f.open",
        "0000000000000001f.open",
        " 00000000000001f.open",
        "0x0000000000001f.open",
        "000000000000001f-",
        "000000000000001f-0000000000000def0000000000000abc",
        "000000000000001f-0000000000000def0000000000000abc.tb",
        "000000000000001f-0000000000000def0000000000000abc.tbl~",
        "000000000000001f-0000000000000def0000000000000abc.txt",
        "000000000000001f_0000000000000def0000000000000abc.tbl",
        "000000000000001f-0000000000000def000000000000abc.tbl",
        "000000000000001f-0000000000000def00000000000000abc.tbl",
        "000000000000001f-0000000000000Def0000000000000abc.tbl",
        "000000000000001f-0000000000000def0000000000000Abc.tbl",
        "000000000000001f-00000000000000000000000000000000.tbl", /* zero is no hash */
    };
    struct chunk_identity identity;
    bool sealed;

    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (chunk_name_parse(names[i], &identity, &sealed))
            fail_msg("\"%s\" was taken for a chunk", names[i]);
}

static void r28_different_content_has_different_names(void **state)
{
    struct chunk_identity identity = {.id = 7, .kind = CHUNK_BLOB, .hash = {1, 0}};
    char one[CHUNK_NAME_SIZE], other[CHUNK_NAME_SIZE];

    (void)state;
    chunk_name(one, &identity);
    for (unsigned bit = 0; bit < 64; bit++) {
        identity.hash = (struct checksum128){1 ^ (uint64_t)1 << bit, 1};
        chunk_name(other, &identity);
        assert_string_not_equal(one, other);
        identity.hash = (struct checksum128){1, (uint64_t)1 << bit};
        chunk_name(other, &identity);
        assert_string_not_equal(one, other);
    }
}

static void name_a_chunk_without_hash(void *context)
{
    struct chunk_identity identity = {.id = 7, .kind = CHUNK_BLOB};
    char name[CHUNK_NAME_SIZE];

    (void)context;
    chunk_name(name, &identity);
}

static void r28_a_name_from_no_hash_is_a_broken_invariant(void **state)
{
    char output[4096];
    int status = child_run(name_a_chunk_without_hash, NULL, output, sizeof output);

    (void)state;
    assert_true(WIFSIGNALED(status));
    assert_non_null(strstr(output, "hash"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(header_has_the_documented_bytes),
        cmocka_unit_test(header_is_accepted_by_its_own_store_or_any),
        cmocka_unit_test(header_of_another_chunk_is_corrupt),
        cmocka_unit_test(header_with_any_bit_flipped_is_corrupt),
        cmocka_unit_test(header_with_another_magic_is_corrupt),
        cmocka_unit_test(header_of_a_newer_version_is_refused_as_such),
        cmocka_unit_test(trailer_comes_back),
        cmocka_unit_test(trailer_with_any_bit_flipped_is_corrupt_and_writes_no_result),
        cmocka_unit_test(trailer_of_another_chunk_is_told_by_each_field_alone),
        cmocka_unit_test(trailer_of_an_unknown_kind_is_corrupt),
        cmocka_unit_test(names_are_as_documented),
        cmocka_unit_test(names_are_parsed_back),
        cmocka_unit_test(other_names_are_no_chunks),
        cmocka_unit_test(r28_different_content_has_different_names),
        cmocka_unit_test(r28_a_name_from_no_hash_is_a_broken_invariant),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
