/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_checksum.c - tests of engine/base/checksum.h
 */
#include "engine/base/checksum.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "tests/lib/seed.h"

static struct checksum128 digest_of(const void *data, size_t size)
{
    struct checksum_stream *stream = checksum_stream_new();
    struct checksum128 digest;

    assert_non_null(stream);
    checksum_stream_update(stream, data, size);
    digest = checksum_stream_digest(stream);
    checksum_stream_free(stream);
    return digest;
}

static bool digest_equal(struct checksum128 a, struct checksum128 b)
{
    return a.low == b.low && a.high == b.high;
}

/* The published values for no input: what is on disk depends on the algorithm staying the same. */
static void values_are_those_of_xxh3(void **state)
{
    struct checksum128 digest = digest_of(NULL, 0);

    (void)state;
    assert_true(checksum64("", 0) == 0x2d06800538d394c2u);
    assert_true(digest.low == 0x6001c324468d497fu);
    assert_true(digest.high == 0x99aa06d3014798d8u);
}

static void checksum32_is_the_low_half(void **state)
{
    (void)state;
    assert_true(checksum32("varve", 5) == (uint32_t)checksum64("varve", 5));
}

static void seed_changes_the_value_and_zero_is_no_seed(void **state)
{
    (void)state;
    assert_true(checksum64_seeded("varve", 5, 0) == checksum64("varve", 5));
    assert_true(checksum64_seeded("varve", 5, 1) != checksum64("varve", 5));
    assert_true(checksum64_seeded("varve", 5, 1) != checksum64_seeded("varve", 5, 2));
}

static void every_flipped_bit_changes_every_checksum(void **state)
{
    uint8_t data[300];
    uint64_t random = seed_start(__func__);
    struct checksum128 digest;
    uint64_t value;
    uint32_t value32;

    (void)state;
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (uint8_t)seed_next(&random);
    value = checksum64(data, sizeof data);
    value32 = checksum32(data, sizeof data);
    digest = digest_of(data, sizeof data);
    for (size_t bit = 0; bit < 8 * sizeof data; bit++) {
        data[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_true(checksum64(data, sizeof data) != value);
        assert_true(checksum32(data, sizeof data) != value32);
        assert_false(digest_equal(digest_of(data, sizeof data), digest));
        data[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
}

static void stream_does_not_depend_on_how_it_is_cut(void **state)
{
    static uint8_t data[70000];
    uint64_t random = seed_start(__func__);
    struct checksum128 whole;

    (void)state;
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (uint8_t)seed_next(&random);
    whole = digest_of(data, sizeof data);
    for (int round = 0; round < 50; round++) {
        struct checksum_stream *stream = checksum_stream_new();
        size_t limit = 1 + seed_below(&random, 5000);

        assert_non_null(stream);
        for (size_t at = 0; at < sizeof data;) {
            size_t count = seed_below(&random, limit + 1);

            if (count > sizeof data - at)
                count = sizeof data - at;
            checksum_stream_update(stream, data + at, count);
            at += count;
        }
        assert_true(digest_equal(checksum_stream_digest(stream), whole));
        checksum_stream_free(stream);
    }
}

static void digest_may_be_taken_on_the_way(void **state)
{
    struct checksum_stream *stream = checksum_stream_new();

    (void)state;
    assert_non_null(stream);
    checksum_stream_update(stream, "abc", 3);
    assert_true(digest_equal(checksum_stream_digest(stream), digest_of("abc", 3)));
    checksum_stream_update(stream, "def", 3);
    assert_true(digest_equal(checksum_stream_digest(stream), digest_of("abcdef", 6)));
    checksum_stream_free(stream);
}

static void r28_content_hash_is_never_zero(void **state)
{
    static const struct checksum128 zero = {0, 0}, mapped = {1, 0};
    static const struct checksum128 others[] = {{1, 0}, {0, 1}, {2, 0}, {UINT64_MAX, UINT64_MAX}};
    static const uint8_t zeros[4096];

    (void)state;
    assert_true(digest_equal(checksum128_nonzero(zero), mapped));
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        assert_true(digest_equal(checksum128_nonzero(others[i]), others[i]));
    for (size_t size = 1; size <= sizeof zeros; size++)
        assert_false(digest_equal(digest_of(zeros, size), zero));
}

static void r28_different_content_has_different_hashes(void **state)
{
    enum { COUNT = 2000 };
    static struct checksum128 digests[COUNT];
    static const uint8_t zeros[COUNT];

    (void)state;
    /* Zeros of every length: what a hash left unfinished would give one name. */
    for (size_t i = 0; i < COUNT; i++) {
        digests[i] = digest_of(zeros, i);
        for (size_t j = 0; j < i; j++)
            if (digest_equal(digests[i], digests[j]))
                fail_msg("%zu and %zu zero bytes have one hash", i, j);
    }
}

static void freeing_no_stream_is_fine(void **state)
{
    (void)state;
    checksum_stream_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_are_those_of_xxh3),
        cmocka_unit_test(checksum32_is_the_low_half),
        cmocka_unit_test(seed_changes_the_value_and_zero_is_no_seed),
        cmocka_unit_test(every_flipped_bit_changes_every_checksum),
        cmocka_unit_test(stream_does_not_depend_on_how_it_is_cut),
        cmocka_unit_test(digest_may_be_taken_on_the_way),
        cmocka_unit_test(r28_content_hash_is_never_zero),
        cmocka_unit_test(r28_different_content_has_different_hashes),
        cmocka_unit_test(freeing_no_stream_is_fine),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
