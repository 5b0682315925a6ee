/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_bytes.c - tests of engine/base/bytes.h
 */
#include "engine/base/bytes.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/lib/seed.h"

/* Too large a request must fail with -ENOMEM under AddressSanitizer too. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
    return "allocator_may_return_null=1";
}

static int sign(int value)
{
    return (value > 0) - (value < 0);
}

static void slices_sort_by_bytes_and_a_prefix_comes_first(void **state)
{
    static const char *const sorted[] = {"", "a", "a\x01", "aa", "ab", "b", "\x7f", "\x80", "\xff"};
    size_t count = sizeof sorted / sizeof *sorted;

    (void)state;
    for (size_t i = 0; i < count; i++) {
        for (size_t j = 0; j < count; j++) {
            struct slice a = slice_of_string(sorted[i]), b = slice_of_string(sorted[j]);

            assert_int_equal(sign(slice_compare(a, b)), (i > j) - (i < j));
            assert_int_equal(slice_equal(a, b), i == j);
        }
    }
}

static void empty_slices_need_no_memory(void **state)
{
    (void)state;
    assert_int_equal(slice_compare(slice_of(NULL, 0), slice_of("", 0)), 0);
    assert_true(slice_equal(slice_of(NULL, 0), slice_of("", 0)));
    assert_true(slice_compare(slice_of(NULL, 0), slice_of("a", 1)) < 0);
}

static void appends_keep_every_byte_in_order(void **state)
{
    static uint8_t expected[100000], piece[997];
    uint64_t random = seed_start(__func__);
    struct buffer buffer = {0};
    size_t size = 0;

    (void)state;
    for (;;) {
        size_t count = seed_below(&random, sizeof piece);

        if (size + count > sizeof expected)
            break;
        for (size_t i = 0; i < count; i++)
            piece[i] = (uint8_t)seed_next(&random);
        memcpy(expected + size, piece, count);
        size += count;
        assert_int_equal(buffer_append(&buffer, piece, count), 0);
        assert_int_equal(buffer.size, size);
        assert_true(buffer.capacity >= size);
    }
    assert_memory_equal(buffer.data, expected, size);
    assert_true(slice_equal(buffer_slice(&buffer), slice_of(expected, size)));
    buffer_free(&buffer);
}

static void appending_nothing_to_nothing_is_fine(void **state)
{
    struct buffer buffer = {0};

    (void)state;
    assert_int_equal(buffer_append(&buffer, NULL, 0), 0);
    assert_int_equal(buffer_assign(&buffer, NULL, 0), 0);
    assert_int_equal(buffer.size, 0);
    buffer_free(&buffer);
}

static void growth_is_geometric(void **state)
{
    struct buffer buffer = {0};
    size_t moves = 0, capacity = 0;

    (void)state;
    for (int i = 0; i < 100000; i++) {
        assert_int_equal(buffer_append(&buffer, "x", 1), 0);
        moves += buffer.capacity != capacity;
        capacity = buffer.capacity;
    }
    assert_true(moves < 20);
    buffer_free(&buffer);
}

static void assign_replaces_and_keeps_the_memory(void **state)
{
    struct buffer buffer = {0};
    uint8_t *memory;

    (void)state;
    assert_int_equal(buffer_assign(&buffer, "a longer text", 13), 0);
    memory = buffer.data;
    assert_int_equal(buffer_assign(&buffer, "short", 5), 0);
    assert_ptr_equal(buffer.data, memory);
    assert_int_equal(buffer.size, 5);
    assert_memory_equal(buffer.data, "short", 5);
    buffer_free(&buffer);
    assert_null(buffer.data);
    assert_int_equal(buffer.capacity, 0);
}

static void reserve_makes_room_and_changes_no_content(void **state)
{
    struct buffer buffer = {0};

    (void)state;
    assert_int_equal(buffer_append(&buffer, "abc", 3), 0);
    assert_int_equal(buffer_reserve(&buffer, 5000), 0);
    assert_true(buffer.capacity >= 5000);
    assert_int_equal(buffer.size, 3);
    assert_memory_equal(buffer.data, "abc", 3);
    buffer_free(&buffer);
}

static void out_of_memory_leaves_the_buffer_as_it_was(void **state)
{
    struct buffer buffer = {0};
    struct buffer before;

    (void)state;
    assert_int_equal(buffer_append(&buffer, "abc", 3), 0);
    before = buffer;
    assert_int_equal(buffer_reserve(&buffer, SIZE_MAX), -ENOMEM);
    assert_memory_equal(&buffer, &before, sizeof buffer);
    assert_int_equal(buffer_append(&buffer, "", SIZE_MAX), -ENOMEM);
    assert_memory_equal(&buffer, &before, sizeof buffer);
    assert_int_equal(buffer_assign(&buffer, "", SIZE_MAX - 1), -ENOMEM);
    assert_memory_equal(&buffer, &before, sizeof buffer);
    assert_memory_equal(buffer.data, "abc", 3);
    buffer_free(&buffer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(slices_sort_by_bytes_and_a_prefix_comes_first),
        cmocka_unit_test(empty_slices_need_no_memory),
        cmocka_unit_test(appends_keep_every_byte_in_order),
        cmocka_unit_test(appending_nothing_to_nothing_is_fine),
        cmocka_unit_test(growth_is_geometric),
        cmocka_unit_test(assign_replaces_and_keeps_the_memory),
        cmocka_unit_test(reserve_makes_room_and_changes_no_content),
        cmocka_unit_test(out_of_memory_leaves_the_buffer_as_it_was),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
