/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_endian.c - tests of engine/base/endian.h
 */
#include "engine/base/endian.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/lib/seed.h"

static void bytes_are_where_the_format_says(void **state)
{
    uint8_t at[8];

    (void)state;
    put_le16(at, 0x0102);
    assert_memory_equal(at, "\x02\x01", 2);
    put_le32(at, 0x01020304);
    assert_memory_equal(at, "\x04\x03\x02\x01", 4);
    put_le64(at, 0x0102030405060708);
    assert_memory_equal(at, "\x08\x07\x06\x05\x04\x03\x02\x01", 8);
    put_be16(at, 0x0102);
    assert_memory_equal(at, "\x01\x02", 2);
    put_be32(at, 0x01020304);
    assert_memory_equal(at, "\x01\x02\x03\x04", 4);
    put_be64(at, 0x0102030405060708);
    assert_memory_equal(at, "\x01\x02\x03\x04\x05\x06\x07\x08", 8);
}

static void integers_come_back_from_any_alignment(void **state)
{
    uint64_t random = seed_start(__func__);
    uint8_t memory[24];

    (void)state;
    for (int round = 0; round < 1000; round++) {
        uint8_t *at = memory + seed_below(&random, 16);
        uint64_t value = seed_next(&random);

        put_le16(at, (uint16_t)value);
        assert_int_equal(get_le16(at), (uint16_t)value);
        put_le32(at, (uint32_t)value);
        assert_int_equal(get_le32(at), (uint32_t)value);
        put_le64(at, value);
        assert_true(get_le64(at) == value);
        put_be16(at, (uint16_t)value);
        assert_int_equal(get_be16(at), (uint16_t)value);
        put_be32(at, (uint32_t)value);
        assert_int_equal(get_be32(at), (uint32_t)value);
        put_be64(at, value);
        assert_true(get_be64(at) == value);
    }
}

static void big_endian_bytes_sort_as_numbers(void **state)
{
    uint64_t random = seed_start(__func__);

    (void)state;
    for (int round = 0; round < 10000; round++) {
        uint64_t a = seed_next(&random) >> seed_below(&random, 64);
        uint64_t b = seed_next(&random) >> seed_below(&random, 64);
        uint8_t a_bytes[8], b_bytes[8];
        int order;

        put_be64(a_bytes, a);
        put_be64(b_bytes, b);
        order = memcmp(a_bytes, b_bytes, 8);
        assert_int_equal((order > 0) - (order < 0), (a > b) - (a < b));
    }
}

static void check_varint(uint64_t value, size_t size)
{
    uint8_t bytes[VARINT_SIZE_MAX + 1];
    uint8_t *end;
    uint64_t back = ~value;

    memset(bytes, 0xff, sizeof bytes);
    end = put_varint(bytes, value);
    assert_int_equal(end - bytes, size);
    assert_ptr_equal(get_varint(bytes, end, &back), end);
    assert_true(back == value);
    /* What follows is not looked at. */
    assert_ptr_equal(get_varint(bytes, bytes + sizeof bytes, &back), end);
    /* Cut anywhere it is refused, and the output stays. */
    back = 42;
    for (uint8_t *cut = bytes; cut < end; cut++)
        assert_null(get_varint(bytes, cut, &back));
    assert_int_equal(back, 42);
}

static void varints_come_back_at_every_size(void **state)
{
    (void)state;
    check_varint(0, 1);
    for (size_t size = 1; size < VARINT_SIZE_MAX; size++) {
        uint64_t limit = (uint64_t)1 << 7 * size;

        check_varint(limit - 1, size);
        check_varint(limit, size + 1);
    }
    check_varint(UINT64_MAX, VARINT_SIZE_MAX);
}

static void varint_over_64_bits_is_refused(void **state)
{
    static const uint8_t tenth_too_large[] = {0xff, 0xff, 0xff, 0xff, 0xff,
                                              0xff, 0xff, 0xff, 0xff, 0x02};
    static const uint8_t eleven[] = {0x80, 0x80, 0x80, 0x80, 0x80, 0x80,
                                     0x80, 0x80, 0x80, 0x80, 0x00};
    uint64_t value = 42;

    (void)state;
    assert_null(get_varint(tenth_too_large, tenth_too_large + sizeof tenth_too_large, &value));
    assert_null(get_varint(eleven, eleven + sizeof eleven, &value));
    assert_int_equal(value, 42);
}

static void hostile_varints_are_read_within_bounds(void **state)
{
    uint64_t random = seed_start(__func__);

    (void)state;
    for (int round = 0; round < 10000; round++) {
        size_t size = seed_below(&random, 13);
        uint8_t *bytes = malloc(size > 0 ? size : 1);
        const uint8_t *end;
        uint64_t value = 0;

        assert_non_null(bytes);
        for (size_t i = 0; i < size; i++)
            bytes[i] = (uint8_t)(seed_next(&random) | (seed_below(&random, 8) != 0 ? 0x80 : 0));
        end = get_varint(bytes, bytes + size, &value);
        assert_true(end == NULL || (end > bytes && end <= bytes + size));
        free(bytes);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_are_where_the_format_says),
        cmocka_unit_test(integers_come_back_from_any_alignment),
        cmocka_unit_test(big_endian_bytes_sort_as_numbers),
        cmocka_unit_test(varints_come_back_at_every_size),
        cmocka_unit_test(varint_over_64_bits_is_refused),
        cmocka_unit_test(hostile_varints_are_read_within_bounds),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
