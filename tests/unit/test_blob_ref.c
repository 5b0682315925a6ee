/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_blob_ref.c - tests of engine/blob_ref.h
 */
#include "engine/blob_ref.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "engine/base/endian.h"
#include "engine/base/error.h"
#include "tests/lib/seed.h"

/* What block `block` of any frame in these tests has as its checksum. */
static uint32_t checksum_of_block(uint32_t block)
{
    return 0xc0de0000u + block * 7919u;
}

static struct blob_ref plain_ref(uint32_t raw_size, uint32_t skip, uint32_t length)
{
    struct blob_ref ref = {
        .chunk_id = 0x1122334455667788u,
        .position = 4096,
        .stored_size = raw_size,
        .raw_size = raw_size,
        .skip = skip,
        .length = length,
        .codec = CODEC_NONE,
    };

    for (uint32_t i = 0; i < blob_ref_block_count(&ref); i++)
        ref.block_checksums[i] = checksum_of_block(skip / BLOB_BLOCK_SIZE + i);
    return ref;
}

static struct blob_ref packed_ref(uint32_t stored_size, uint32_t raw_size, uint32_t skip,
                                  uint32_t length)
{
    return (struct blob_ref){
        .chunk_id = 9,
        .position = 1 << 20,
        .stored_size = stored_size,
        .raw_size = raw_size,
        .skip = skip,
        .length = length,
        .codec = CODEC_ZSTD,
        .frame_checksum = 0xfeedfacecafebeefu,
    };
}

static struct blob_ref random_ref(uint64_t *random)
{
    uint32_t raw_size = 2 + (uint32_t)seed_below(random, BLOB_FRAME_SIZE_MAX - 1);
    uint32_t skip = (uint32_t)seed_below(random, raw_size);
    uint32_t length = 1 + (uint32_t)seed_below(random, raw_size - skip);
    struct blob_ref ref;

    if (seed_below(random, 2) == 0)
        ref = plain_ref(raw_size, skip, length);
    else
        ref = packed_ref(1 + (uint32_t)seed_below(random, raw_size - 1), raw_size, skip, length);
    ref.chunk_id = seed_next(random);
    ref.position = seed_below(random, (uint64_t)INT64_MAX - BLOB_FRAME_SIZE_MAX);
    return ref;
}

static void assert_same(const struct blob_ref *a, const struct blob_ref *b)
{
    assert_int_equal(a->chunk_id, b->chunk_id);
    assert_int_equal(a->position, b->position);
    assert_int_equal(a->stored_size, b->stored_size);
    assert_int_equal(a->raw_size, b->raw_size);
    assert_int_equal(a->skip, b->skip);
    assert_int_equal(a->length, b->length);
    assert_int_equal(a->codec, b->codec);
    if (a->codec == CODEC_ZSTD)
        assert_int_equal(a->frame_checksum, b->frame_checksum);
    else
        assert_memory_equal(a->block_checksums, b->block_checksums,
                            blob_ref_block_count(a) * sizeof a->block_checksums[0]);
}

/* Decode from memory of exactly this size, so that a read past it is seen. */
static int decode_exact(const uint8_t *bytes, size_t size, struct blob_ref *ret_ref)
{
    uint8_t *copy = malloc(size > 0 ? size : 1);
    int result;

    assert_non_null(copy);
    memcpy(copy, bytes, size);
    result = blob_ref_decode(slice_of(copy, size), ret_ref);
    free(copy);
    return result;
}

static void encoding_is_as_documented(void **state)
{
    static const uint8_t plain[] = {
        0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, /* chunk id */
        0x00, 0x10, 0,    0,    0,    0,    0,    0,    /* position */
        0x10, 0x27, 0,    0,                            /* stored size 10000 */
        0x10, 0x27, 0,    0,                            /* raw size */
        0xff, 0x0f, 0,    0,                            /* skip 4095 */
        0x02, 0,    0,    0,                            /* length: one byte each of two blocks */
        0x00,                                           /* codec */
        0x00, 0x00, 0xde, 0xc0,                         /* block 0 */
        0xef, 0x1e, 0xde, 0xc0,                         /* block 1 */
    };
    static const uint8_t packed[] = {
        9,    0,    0,    0,    0,    0,    0,    0,    /* chunk id */
        0,    0,    0x10, 0,    0,    0,    0,    0,    /* position */
        0x64, 0,    0,    0,                            /* stored size 100 */
        0xe8, 0x03, 0,    0,                            /* raw size 1000 */
        0x07, 0,    0,    0,                            /* skip */
        0x05, 0,    0,    0,                            /* length */
        0x01,                                           /* codec */
        0xef, 0xbe, 0xfe, 0xca, 0xce, 0xfa, 0xed, 0xfe, /* checksum of the frame */
    };
    struct blob_ref ref = plain_ref(10000, 4095, 2);
    uint8_t encoded[BLOB_REF_SIZE_MAX];

    (void)state;
    assert_int_equal(blob_ref_encode(&ref, encoded), sizeof plain);
    assert_memory_equal(encoded, plain, sizeof plain);
    ref = packed_ref(100, 1000, 7, 5);
    assert_int_equal(blob_ref_encode(&ref, encoded), sizeof packed);
    assert_memory_equal(encoded, packed, sizeof packed);
}

static void any_reference_survives_encoding(void **state)
{
    uint64_t random = seed_start(__func__);

    (void)state;
    for (unsigned i = 0; i < 20000; i++) {
        struct blob_ref ref = random_ref(&random), decoded;
        uint8_t encoded[BLOB_REF_SIZE_MAX];
        size_t size = blob_ref_encode(&ref, encoded);
        uint64_t chunk_id;

        assert_int_equal(decode_exact(encoded, size, &decoded), 0);
        assert_same(&ref, &decoded);
        assert_int_equal(blob_ref_decode_chunk_id(slice_of(encoded, size), &chunk_id), 0);
        assert_int_equal(chunk_id, ref.chunk_id);
    }
}

static void the_largest_reference_fits_the_bound(void **state)
{
    struct blob_ref ref = plain_ref(BLOB_FRAME_SIZE_MAX, 0, BLOB_FRAME_SIZE_MAX);
    uint8_t encoded[BLOB_REF_SIZE_MAX];

    (void)state;
    assert_int_equal(blob_ref_block_count(&ref), BLOB_BLOCKS_MAX);
    assert_int_equal(blob_ref_encode(&ref, encoded), BLOB_REF_SIZE_MAX);
}

static void every_other_length_of_the_bytes_is_refused(void **state)
{
    struct blob_ref refs[] = {plain_ref(20000, 5000, 9000), packed_ref(10, 20000, 5000, 9000)};

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        uint8_t encoded[2 * BLOB_REF_SIZE_MAX] = {0};
        size_t size = blob_ref_encode(&refs[i], encoded);

        for (size_t given = 0; given < sizeof encoded; given++) {
            struct blob_ref decoded;
            int expected = given == size ? 0 : ERROR_CORRUPT;

            assert_int_equal(decode_exact(encoded, given, &decoded), expected);
        }
    }
}

static void a_chunk_id_comes_from_bytes_that_could_be_a_reference(void **state)
{
    struct blob_ref ref = plain_ref(20000, 5000, 9000);
    uint8_t encoded[BLOB_REF_SIZE_MAX + 1] = {0};
    uint64_t id = 0;

    (void)state;
    blob_ref_encode(&ref, encoded);
    for (size_t size = 0; size <= BLOB_REF_SIZE_MAX + 1; size++) {
        bool is_possible = size >= BLOB_REF_HEADER_SIZE && size <= BLOB_REF_SIZE_MAX;

        assert_int_equal(blob_ref_decode_chunk_id(slice_of(encoded, size), &id),
                         is_possible ? 0 : ERROR_CORRUPT);
    }
    assert_int_equal(id, ref.chunk_id);
}

/* Refused, and the result untouched. */
static void assert_refused(const uint8_t *encoded, size_t size)
{
    struct blob_ref decoded, before;

    memset(&decoded, 0x5a, sizeof decoded);
    memcpy(&before, &decoded, sizeof before);
    assert_int_equal(decode_exact(encoded, size, &decoded), ERROR_CORRUPT);
    assert_memory_equal(&decoded, &before, sizeof before);
}

static void fields_that_contradict_each_other_are_refused(void **state)
{
    static const struct {
        size_t offset;
        uint32_t plain, packed; /* bad values for either codec */
    } bad[] = {
        {16, 0, 0},              /* stored size */
        {16, 9999, 10000},       /* not the raw size; not smaller than it */
        {16, 10001, UINT32_MAX}, /* above */
        {20, 0, 0},              /* raw size */
        {20, BLOB_FRAME_SIZE_MAX + 1, BLOB_FRAME_SIZE_MAX + 1},
        {24, 10000, 10000},           /* skip: the slice begins behind the frame */
        {24, 9000, 9000},             /* ... ends behind it */
        {24, UINT32_MAX, UINT32_MAX}, /* ... would wrap */
        {24, UINT32_MAX - 1999, UINT32_MAX - 1999},
        {28, 0, 0}, /* length */
        {28, 10000, 10000},
        {28, UINT32_MAX, UINT32_MAX},
    };

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct blob_ref plain = plain_ref(10000, 5000, 2000);
        struct blob_ref packed = packed_ref(100, 10000, 5000, 2000);
        uint8_t encoded[BLOB_REF_SIZE_MAX];
        size_t size = blob_ref_encode(&plain, encoded);

        put_le32(encoded + bad[i].offset, bad[i].plain);
        assert_refused(encoded, size);
        size = blob_ref_encode(&packed, encoded);
        put_le32(encoded + bad[i].offset, bad[i].packed);
        assert_refused(encoded, size);
    }
}

static void an_unknown_codec_is_refused(void **state)
{
    struct blob_ref ref = packed_ref(100, 10000, 0, 1);
    uint8_t encoded[BLOB_REF_SIZE_MAX];
    size_t size = blob_ref_encode(&ref, encoded);

    (void)state;
    for (unsigned codec = 2; codec < 256; codec++) {
        encoded[32] = (uint8_t)codec;
        assert_refused(encoded, size);
    }
}

static void a_position_that_ends_behind_any_file_is_refused(void **state)
{
    struct blob_ref ref = packed_ref(100, 10000, 0, 1);
    uint8_t encoded[BLOB_REF_SIZE_MAX];
    struct blob_ref decoded;
    size_t size = blob_ref_encode(&ref, encoded);

    (void)state;
    put_le64(encoded + 8, (uint64_t)INT64_MAX - 100);
    assert_int_equal(decode_exact(encoded, size, &decoded), 0);
    put_le64(encoded + 8, (uint64_t)INT64_MAX - 99);
    assert_refused(encoded, size);
    put_le64(encoded + 8, UINT64_MAX);
    assert_refused(encoded, size);
}

/* Damage is refused or means something else, said in just these bytes: never a second spelling. */
static void damaged_bytes_are_refused_or_another_valid_reference(void **state)
{
    uint64_t random = seed_start(__func__);

    (void)state;
    for (unsigned i = 0; i < 50000; i++) {
        struct blob_ref ref = random_ref(&random), decoded;
        uint8_t encoded[BLOB_REF_SIZE_MAX], again[BLOB_REF_SIZE_MAX];
        size_t size = blob_ref_encode(&ref, encoded);

        for (uint64_t flips = 1 + seed_below(&random, 4); flips > 0; flips--)
            encoded[seed_below(&random, size)] ^= (uint8_t)(1u << seed_below(&random, 8));
        if (decode_exact(encoded, size, &decoded) == 0) {
            assert_int_equal(blob_ref_encode(&decoded, again), size);
            assert_memory_equal(encoded, again, size);
        }
    }
}

static void a_slice_keeps_the_checksums_of_the_blocks_it_touches(void **state)
{
    uint64_t random = seed_start(__func__);

    (void)state;
    for (unsigned i = 0; i < 5000; i++) {
        uint32_t skip = 0, length = 1 + (uint32_t)seed_below(&random, BLOB_FRAME_SIZE_MAX);
        uint32_t raw_size = length;
        struct blob_ref ref = plain_ref(raw_size, skip, length);

        while (length > 1) {
            uint32_t offset = (uint32_t)seed_below(&random, length);
            struct blob_ref expected;

            length = 1 + (uint32_t)seed_below(&random, length - offset);
            skip += offset;
            blob_ref_slice(&ref, offset, length);
            expected = plain_ref(raw_size, skip, length);
            assert_same(&ref, &expected);
        }
    }
}

static void a_slice_of_a_compressed_frame_keeps_the_frame_s_checksum(void **state)
{
    struct blob_ref ref = packed_ref(100, 10000, 5000, 2000);
    struct blob_ref expected = packed_ref(100, 10000, 5010, 1000);

    (void)state;
    blob_ref_slice(&ref, 10, 1000);
    assert_same(&ref, &expected);
}

static void shares_of_a_split_frame_add_up_to_it_but_for_rounding(void **state)
{
    uint64_t random = seed_start(__func__);
    struct blob_ref whole =
        packed_ref(BLOB_FRAME_SIZE_MAX - 1, BLOB_FRAME_SIZE_MAX, 0, BLOB_FRAME_SIZE_MAX);
    struct blob_ref least = packed_ref(1, BLOB_FRAME_SIZE_MAX, 0, 1);

    (void)state;
    assert_int_equal(blob_ref_share(&whole), BLOB_FRAME_SIZE_MAX - 1);
    assert_int_equal(blob_ref_share(&least), 1);
    for (unsigned i = 0; i < 5000; i++) {
        struct blob_ref ref = random_ref(&random), front = ref, back = ref;
        uint32_t cut;

        if (ref.length < 2)
            continue;
        cut = 1 + (uint32_t)seed_below(&random, ref.length - 1);
        blob_ref_slice(&front, 0, cut);
        blob_ref_slice(&back, cut, ref.length - cut);
        assert_in_range(blob_ref_share(&front) + blob_ref_share(&back), blob_ref_share(&ref),
                        blob_ref_share(&ref) + 1);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(encoding_is_as_documented),
        cmocka_unit_test(any_reference_survives_encoding),
        cmocka_unit_test(the_largest_reference_fits_the_bound),
        cmocka_unit_test(every_other_length_of_the_bytes_is_refused),
        cmocka_unit_test(a_chunk_id_comes_from_bytes_that_could_be_a_reference),
        cmocka_unit_test(fields_that_contradict_each_other_are_refused),
        cmocka_unit_test(an_unknown_codec_is_refused),
        cmocka_unit_test(a_position_that_ends_behind_any_file_is_refused),
        cmocka_unit_test(damaged_bytes_are_refused_or_another_valid_reference),
        cmocka_unit_test(a_slice_keeps_the_checksums_of_the_blocks_it_touches),
        cmocka_unit_test(a_slice_of_a_compressed_frame_keeps_the_frame_s_checksum),
        cmocka_unit_test(shares_of_a_split_frame_add_up_to_it_but_for_rounding),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
