/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_batch.c - tests of engine/batch.h
 */
#include "engine/batch.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "engine/base/endian.h"
#include "engine/base/error.h"
#include "tests/lib/seed.h"

static const struct blob_ref some_ref = {
    .chunk_id = 3,
    .position = 4096,
    .stored_size = 10,
    .raw_size = 100,
    .skip = 1,
    .length = 50,
    .codec = CODEC_ZSTD,
    .frame_checksum = 77,
};

static struct slice text(const char *string)
{
    return slice_of_string(string);
}

static void assert_slice(struct slice slice, const char *expected)
{
    assert_int_equal(slice.size, strlen(expected));
    assert_memory_equal(slice.data, expected, slice.size);
}

static void encoding_is_as_documented(void **state)
{
    static const uint8_t expected[] = {
        1, 3, 'k', 'e', 'y', 2,   'v', 'w', /* put */
        1, 1, 'e', 0,                       /* put of nothing */
        3, 2, 'k', 'f',                     /* delete */
        4, 1, 'a', 2,   'a', 'b',           /* delete range */
    };
    struct batch batch = {0};

    (void)state;
    batch_put(&batch, text("key"), text("vw"));
    batch_put(&batch, text("e"), slice_of(NULL, 0));
    batch_delete(&batch, text("kf"));
    batch_delete_range(&batch, text("a"), text("ab"));
    assert_int_equal(batch.error, 0);
    assert_int_equal(batch.count, 4);
    assert_int_equal(batch.bytes.size, sizeof expected);
    assert_memory_equal(batch.bytes.data, expected, sizeof expected);
    batch_free(&batch);
}

static void a_walk_shows_what_was_appended(void **state)
{
    struct batch batch = {0};
    struct record record = {.sequence = 42};
    struct blob_ref ref;
    size_t cursor = 0;

    (void)state;
    batch_put(&batch, text("a"), text("1"));
    batch_put_reference(&batch, text("b"), &some_ref);
    batch_delete(&batch, text("c"));
    batch_delete_range(&batch, text("d"), text("e"));

    assert_int_equal(batch_next(buffer_slice(&batch.bytes), &cursor, &record), 1);
    assert_int_equal(record.kind, RECORD_VALUE);
    assert_slice(record.key, "a");
    assert_slice(record.value, "1");
    assert_int_equal(batch_next(buffer_slice(&batch.bytes), &cursor, &record), 1);
    assert_int_equal(record.kind, RECORD_REFERENCE);
    assert_slice(record.key, "b");
    assert_int_equal(blob_ref_decode(record.value, &ref), 0);
    assert_int_equal(ref.frame_checksum, some_ref.frame_checksum);
    assert_int_equal(batch_next(buffer_slice(&batch.bytes), &cursor, &record), 1);
    assert_int_equal(record.kind, RECORD_DELETE);
    assert_slice(record.key, "c");
    assert_int_equal(record.value.size, 0);
    assert_int_equal(batch_next(buffer_slice(&batch.bytes), &cursor, &record), 1);
    assert_int_equal(record.kind, RECORD_DELETE_RANGE);
    assert_slice(record.key, "d");
    assert_slice(record.value, "e");
    assert_int_equal(record.sequence, 42);
    assert_int_equal(batch_next(buffer_slice(&batch.bytes), &cursor, &record), 0);
    assert_int_equal(batch_next(buffer_slice(&batch.bytes), &cursor, &record), 0);
    batch_free(&batch);
}

static void an_empty_range_appends_nothing(void **state)
{
    struct batch batch = {0};

    (void)state;
    batch_delete_range(&batch, text("b"), text("b"));
    batch_delete_range(&batch, text("b"), text("a"));
    batch_delete_range(&batch, text("b"), text(""));
    assert_int_equal(batch.error, 0);
    assert_int_equal(batch.count, 0);
    assert_int_equal(batch.bytes.size, 0);
    batch_free(&batch);
}

static void keys_and_values_beyond_the_limits_are_an_error(void **state)
{
    static uint8_t zeros[RECORD_VALUE_SIZE_MAX + 1];
    struct batch batch = {0};

    (void)state;
    batch_put(&batch, slice_of(zeros, RECORD_KEY_SIZE_MAX), slice_of(zeros, RECORD_VALUE_SIZE_MAX));
    batch_delete_range(&batch, text("\x01"), text("\x02"));
    assert_int_equal(batch.error, 0);
    assert_int_equal(batch.count, 2);

    batch_put(&batch, slice_of(zeros, RECORD_KEY_SIZE_MAX + 1), text("v"));
    assert_int_equal(batch.error, -EINVAL);
    batch_clear(&batch);
    batch_put(&batch, text("k"), slice_of(zeros, RECORD_VALUE_SIZE_MAX + 1));
    assert_int_equal(batch.error, -EINVAL);
    batch_clear(&batch);
    batch_put(&batch, text(""), text("v"));
    assert_int_equal(batch.error, -EINVAL);
    batch_clear(&batch);
    batch_delete(&batch, text(""));
    assert_int_equal(batch.error, -EINVAL);
    batch_clear(&batch);
    batch_delete_range(&batch, text(""), text("z"));
    assert_int_equal(batch.error, -EINVAL);
    batch_clear(&batch);
    zeros[0] = 1;
    batch_delete_range(&batch, slice_of("\0", 1), slice_of(zeros, RECORD_KEY_SIZE_MAX + 1));
    assert_int_equal(batch.error, -EINVAL);
    zeros[0] = 0;
    batch_free(&batch);
}

static void nothing_is_appended_after_an_error(void **state)
{
    struct batch batch = {0}, other = {0};

    (void)state;
    batch_put(&batch, text("a"), text("1"));
    batch_put(&batch, text(""), text("2"));
    batch_put(&batch, text("c"), text("3"));
    batch_put(&other, text("d"), text("4"));
    batch_append(&batch, &other);
    assert_int_equal(batch.error, -EINVAL);
    assert_int_equal(batch.count, 1);

    /* and a batch that takes it over takes over the error */
    batch_append(&other, &batch);
    assert_int_equal(other.error, -EINVAL);
    assert_int_equal(other.count, 1);
    batch_free(&batch);
    batch_free(&other);
}

static void batches_can_be_joined_and_used_again(void **state)
{
    struct batch batch = {0}, other = {0}, both = {0};
    const uint8_t *memory;

    (void)state;
    batch_put(&batch, text("a"), text("1"));
    batch_delete(&other, text("b"));
    batch_put(&both, text("a"), text("1"));
    batch_delete(&both, text("b"));
    batch_append(&batch, &other);
    assert_int_equal(batch.count, 2);
    assert_true(slice_equal(buffer_slice(&batch.bytes), buffer_slice(&both.bytes)));
    batch_append(&batch, &batch);
    assert_int_equal(batch.count, 4);
    assert_int_equal(batch.bytes.size, 2 * both.bytes.size);
    assert_memory_equal(batch.bytes.data + both.bytes.size, both.bytes.data, both.bytes.size);

    memory = batch.bytes.data;
    batch_clear(&batch);
    assert_int_equal(batch.count, 0);
    batch_append(&batch, &both);
    assert_ptr_equal(batch.bytes.data, memory);
    assert_true(slice_equal(buffer_slice(&batch.bytes), buffer_slice(&both.bytes)));
    batch_free(&batch);
    batch_free(&other);
    batch_free(&both);
}

static void append_random(struct batch *batch, uint64_t *random)
{
    uint8_t key[300], value[700];
    struct slice k = slice_of(key, 1 + seed_below(random, sizeof key));
    struct slice v = slice_of(value, seed_below(random, sizeof value));

    for (size_t i = 0; i < k.size; i++)
        key[i] = (uint8_t)seed_next(random);
    for (size_t i = 0; i < v.size; i++)
        value[i] = (uint8_t)seed_next(random);
    switch (seed_below(random, 4)) {
    case 0:
        batch_put(batch, k, v);
        break;
    case 1:
        batch_put_reference(batch, k, &some_ref);
        break;
    case 2:
        batch_delete(batch, k);
        break;
    default:
        batch_delete_range(batch, k, v.size > 0 && v.size <= 300 ? v : text("\xff\xff"));
    }
}

/*
 * Walk bytes in memory of exactly their size, so that a read past them is seen. Every record must
 * lie inside and keep the limits. Returns the records seen; *ret_result is how the walk ended.
 */
static uint32_t walk_exact(const uint8_t *bytes, size_t size, int *ret_result)
{
    uint8_t *copy = malloc(size > 0 ? size : 1);
    struct record record = {0};
    uint32_t count = 0;
    size_t cursor = 0;

    assert_non_null(copy);
    if (size > 0) /* a batch that never held anything has no bytes at all */
        memcpy(copy, bytes, size);
    for (;;) {
        size_t before = cursor;

        *ret_result = batch_next(slice_of(copy, size), &cursor, &record);
        if (*ret_result != 1) {
            assert_int_equal(cursor, before);
            break;
        }
        count++;
        assert_true(cursor > before && cursor <= size);
        assert_in_range(record.kind, RECORD_VALUE, RECORD_DELETE_RANGE);
        assert_in_range(record.key.size, 1, RECORD_KEY_SIZE_MAX);
        assert_true(record.key.data > copy && record.key.data + record.key.size <= copy + cursor);
        assert_true(record.value.size <= RECORD_VALUE_SIZE_MAX);
        if (record.value.size > 0)
            assert_true(record.value.data > copy &&
                        record.value.data + record.value.size <= copy + cursor);
        if (record.kind == RECORD_DELETE_RANGE)
            assert_true(slice_compare(record.key, record.value) < 0);
    }
    free(copy);
    return count;
}

static void every_truncation_is_refused_but_between_records(void **state)
{
    uint64_t random = seed_start(__func__);
    struct batch batch = {0};
    size_t ends[12];
    uint32_t complete = 0;

    (void)state;
    while (batch.count < 12) {
        append_random(&batch, &random);
        if (batch.count > 0)
            ends[batch.count - 1] = batch.bytes.size;
    }
    for (size_t size = 0; size <= batch.bytes.size; size++) {
        bool between;
        int result;

        while (complete < 12 && ends[complete] <= size)
            complete++;
        between = size == 0 || (complete > 0 && ends[complete - 1] == size);
        assert_int_equal(walk_exact(batch.bytes.data, size, &result), complete);
        assert_int_equal(result, between ? 0 : ERROR_CORRUPT);
    }
    batch_free(&batch);
}

static void damaged_bytes_never_lead_outside(void **state)
{
    uint64_t random = seed_start(__func__);
    struct batch batch = {0};

    (void)state;
    for (unsigned i = 0; i < 20000; i++) {
        int result;

        batch_clear(&batch);
        for (uint64_t count = 1 + seed_below(&random, 5); count > 0; count--)
            append_random(&batch, &random);
        for (uint64_t flips = 1 + seed_below(&random, 8); flips > 0 && batch.bytes.size > 0;
             flips--)
            batch.bytes.data[seed_below(&random, batch.bytes.size)] ^=
                (uint8_t)(1u << seed_below(&random, 8));
        walk_exact(batch.bytes.data, batch.bytes.size, &result);
        assert_true(result == 0 || result == ERROR_CORRUPT);
    }
    batch_free(&batch);
}

static void random_bytes_never_lead_outside(void **state)
{
    uint64_t random = seed_start(__func__);
    uint8_t bytes[64];

    (void)state;
    for (unsigned i = 0; i < 100000; i++) {
        int result;

        for (size_t j = 0; j < sizeof bytes; j++)
            bytes[j] = (uint8_t)(seed_next(&random) >> seed_below(&random, 8));
        walk_exact(bytes, 1 + seed_below(&random, sizeof bytes), &result);
        assert_true(result == 0 || result == ERROR_CORRUPT);
    }
}

static void malformed_records_are_refused(void **state)
{
    static const struct {
        uint8_t bytes[24];
        size_t size;
    } bad[] = {
        {{0, 1, 'k', 1, 'v'}, 5},        /* no such kind */
        {{5, 1, 'k', 1, 'v'}, 5},        /* no such kind */
        {{1, 0, 1, 'v'}, 4},             /* empty key */
        {{1, 0x81, 8, 'k'}, 4},          /* key size 1025 */
        {{1, 1, 'k', 0x81, 0x80, 8}, 6}, /* value size 128 KiB + 1 */
        {{1, 1, 'k', 2, 'v'}, 5},        /* value cut short */
        {{1, 1, 'k'}, 3},                /* value's size missing */
        {{3}, 1},                        /* key missing */
        {{1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 'k'}, 12}, /* size 2^64 - 1 */
        {{1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1}, 12}, /* above */
        {{4, 1, 'k', 1, 'k'}, 5},                                                 /* empty range */
        {{4, 1, 'k', 1, 'j'}, 5},           /* reversed range */
        {{4, 1, 'k', 0}, 4},                /* range without an end */
        {{2, 1, 'k', 3, 'r', 'e', 'f'}, 7}, /* no reference */
    };

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        int result;

        assert_int_equal(walk_exact(bad[i].bytes, bad[i].size, &result), 0);
        assert_int_equal(result, ERROR_CORRUPT);
    }
}

static void the_end_of_a_range_is_no_longer_than_a_key(void **state)
{
    (void)state;
    for (size_t size = RECORD_KEY_SIZE_MAX; size <= RECORD_KEY_SIZE_MAX + 1; size++) {
        uint8_t bytes[3 + 2 + RECORD_KEY_SIZE_MAX + 1] = {RECORD_DELETE_RANGE, 1, 'k'};
        uint8_t *end = put_varint(bytes + 3, size);
        int result;

        memset(end, 'l', size);
        assert_int_equal(walk_exact(bytes, (size_t)(end - bytes) + size, &result),
                         size == RECORD_KEY_SIZE_MAX);
        assert_int_equal(result, size == RECORD_KEY_SIZE_MAX ? 0 : ERROR_CORRUPT);
    }
}

static void a_cursor_behind_the_end_is_refused(void **state)
{
    struct record record = {0};
    size_t cursor = 3;

    (void)state;
    assert_int_equal(batch_next(text("ab"), &cursor, &record), ERROR_CORRUPT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(encoding_is_as_documented),
        cmocka_unit_test(a_walk_shows_what_was_appended),
        cmocka_unit_test(an_empty_range_appends_nothing),
        cmocka_unit_test(keys_and_values_beyond_the_limits_are_an_error),
        cmocka_unit_test(nothing_is_appended_after_an_error),
        cmocka_unit_test(batches_can_be_joined_and_used_again),
        cmocka_unit_test(every_truncation_is_refused_but_between_records),
        cmocka_unit_test(damaged_bytes_never_lead_outside),
        cmocka_unit_test(random_bytes_never_lead_outside),
        cmocka_unit_test(malformed_records_are_refused),
        cmocka_unit_test(the_end_of_a_range_is_no_longer_than_a_key),
        cmocka_unit_test(a_cursor_behind_the_end_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
