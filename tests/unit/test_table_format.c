/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_table_format.c - blocks, indexes, sections and metas that are wrong in one place, written by
 * hand: each rule of their decoders decides once alone
 *
 * The bytes lie in just the memory that they take, so that a sanitizer sees what is read outside.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/base/checksum.h"
#include "engine/base/error.h"
#include "engine/table_block.h"
#include "engine/table_index.h"
#include "engine/table_meta.h"
#include "engine/table_section.h"

struct bytes {
    uint8_t data[8192];
    size_t size;
};

static void put(struct bytes *bytes, const void *data, size_t size)
{
    assert_true(size <= sizeof bytes->data - bytes->size);
    if (size > 0)
        memcpy(bytes->data + bytes->size, data, size);
    bytes->size += size;
}

static void put_number(struct bytes *bytes, uint64_t number)
{
    bytes->size = (size_t)(put_varint(bytes->data + bytes->size, number) - bytes->data);
}

static void put_u32(struct bytes *bytes, uint32_t number)
{
    put_le32(bytes->data + bytes->size, number);
    bytes->size += 4;
}

static uint8_t *exact_copy(const void *data, size_t size)
{
    uint8_t *copy = malloc(size > 0 ? size : 1);

    assert_non_null(copy);
    memcpy(copy, data, size);
    return copy;
}

/* ---- blocks ---- */

#define RESTART TABLE_RESTART_FLAG

/* With one byte for the value. */
static size_t put_entry(struct bytes *bytes, unsigned tag, uint64_t shared, const char *own)
{
    size_t at = bytes->size;

    bytes->data[bytes->size++] = (uint8_t)tag;
    put_number(bytes, shared);
    put_number(bytes, strlen(own));
    put_number(bytes, 1);
    put_number(bytes, 2); /* sequence number 2 at a restart, else one above the one before */
    put(bytes, own, strlen(own));
    put(bytes, "v", 1);
    return at;
}

static void put_restarts(struct bytes *bytes, const uint32_t *restarts, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        put_u32(bytes, restarts[i]);
    put_u32(bytes, count);
}

/* Entries that were walked through, or what a cursor said instead. */
static int walk(const struct bytes *bytes)
{
    static struct table_block_cursor cursor;
    uint8_t *raw = exact_copy(bytes->data, bytes->size);
    struct table_block_view view;
    int count = 0, result = table_block_open(slice_of(raw, bytes->size), &view);

    if (result == 0) {
        memset(&cursor, 0, sizeof cursor);
        table_block_cursor_init(&cursor, &view);
        while ((result = table_block_cursor_next(&cursor)) > 0)
            count++;
    }
    free(raw);
    return result < 0 ? result : count;
}

static int find(const struct bytes *bytes, const char *key)
{
    uint8_t *raw = exact_copy(bytes->data, bytes->size);
    struct table_block_view view;
    struct record record;
    int result = table_block_open(slice_of(raw, bytes->size), &view);

    if (result == 0)
        result = table_block_find(&view, slice_of_string(key), &record);
    free(raw);
    return result;
}

static void a_block_written_by_hand_is_read(void **state)
{
    static const uint32_t restarts[] = {0};
    struct bytes bytes = {.size = 0};

    (void)state;
    put_entry(&bytes, RECORD_VALUE | RESTART, 0, "aa");
    put_entry(&bytes, RECORD_VALUE, 1, "b");
    put_restarts(&bytes, restarts, 1);
    assert_int_equal(walk(&bytes), 2);
    assert_int_equal(find(&bytes, "aa"), 1);
    assert_int_equal(find(&bytes, "ab"), 1);
    assert_int_equal(find(&bytes, "ac"), 0);
}

static void the_sizes_of_a_block_and_of_its_restarts_have_bounds(void **state)
{
    static const uint32_t restarts[] = {0};
    struct table_block_view view;
    uint8_t *large = calloc(1, TABLE_BLOCK_RAW_MAX + 1);
    struct bytes bytes = {.size = 0};

    (void)state;
    assert_non_null(large);
    put_le32(large + TABLE_BLOCK_RAW_MAX - 4, 1);
    put_le32(large + TABLE_BLOCK_RAW_MAX - 3, 1);
    assert_int_equal(table_block_open(slice_of(large, TABLE_BLOCK_RAW_MAX + 1), &view),
                     ERROR_CORRUPT);
    put_le32(large + TABLE_BLOCK_RAW_MAX - 4, 1);
    assert_int_equal(table_block_open(slice_of(large, TABLE_BLOCK_RAW_MAX), &view), 0);
    free(large);

    for (size_t size = 0; size < 4; size++) {
        bytes.size = size;
        assert_int_equal(walk(&bytes), ERROR_CORRUPT);
    }
    bytes.size = 0;
    put_entry(&bytes, RECORD_VALUE | RESTART, 0, "a");
    put_restarts(&bytes, restarts, 1);
    for (uint32_t count = 0; count < 6; count++) { /* there is room for two */
        put_le32(bytes.data + bytes.size - 4, count);
        if (count == 0 || count > (bytes.size - 4) / 4)
            assert_int_equal(walk(&bytes), ERROR_CORRUPT);
    }
    put_le32(bytes.data + bytes.size - 4, UINT32_MAX);
    assert_int_equal(walk(&bytes), ERROR_CORRUPT);
    bytes.size = 0;
    put_entry(&bytes, RECORD_VALUE | RESTART, 0, "a");
    put_restarts(&bytes, restarts, 0); /* none, and nothing in their place */
    assert_int_equal(walk(&bytes), ERROR_CORRUPT);
}

/* Both ways to read a block must refuse what stands behind a good entry "a". */
static void expect_bad_entry(struct bytes *bytes, const char *what)
{
    static const uint32_t restarts[] = {0};

    put_restarts(bytes, restarts, 1);
    if (walk(bytes) != ERROR_CORRUPT)
        fail_msg("%s: a cursor goes on", what);
    if (find(bytes, "zz") != ERROR_CORRUPT)
        fail_msg("%s: a search goes on", what);
}

static struct bytes first_entry(void)
{
    struct bytes bytes = {.size = 0};

    put_entry(&bytes, RECORD_VALUE | RESTART, 0, "a");
    return bytes;
}

static void an_entry_is_refused_for_each_field_alone(void **state)
{
    static const unsigned kinds[] = {0, RECORD_DELETE + 1, 0x7f};
    struct bytes bytes;
    size_t at;

    (void)state;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        bytes = first_entry();
        put_entry(&bytes, kinds[i], 0, "b");
        expect_bad_entry(&bytes, "its kind");
    }
    for (size_t left = 1; left < 7; left++) { /* kind, four numbers, key, value */
        bytes = first_entry();
        at = put_entry(&bytes, RECORD_VALUE, 0, "b");
        bytes.size = at + left;
        expect_bad_entry(&bytes, "its end is missing");
    }
    for (unsigned field = 1; field <= 4; field++) {
        static const uint8_t unending[] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
                                           0xff, 0xff, 0xff, 0xff, 0xff, 0xff};

        bytes = first_entry();
        put(&bytes, "\1\0\1\1\2", field);
        put(&bytes, unending, sizeof unending);
        expect_bad_entry(&bytes, "a number without an end");
    }
    for (unsigned field = 1; field <= 3; field++) {
        bytes = first_entry();
        put(&bytes, "\1\0\1\1", field);
        put_number(&bytes, UINT64_C(1) << 32); /* that many more than there are, or none: wrapped */
        put(&bytes, "\0\1\1\2b", 5);
        expect_bad_entry(&bytes, "a number of 33 bits");
    }
    bytes = first_entry();
    put(&bytes, "\1\0\2\1\2bv", 7); /* a byte more than there is */
    expect_bad_entry(&bytes, "its key");
    bytes = first_entry();
    put(&bytes, "\1\0\1\2\2bv", 7);
    expect_bad_entry(&bytes, "its value");
}

static void a_key_shares_no_more_than_the_one_before_has(void **state)
{
    static const uint32_t restarts[] = {0};
    struct bytes bytes = first_entry();

    (void)state;
    put_entry(&bytes, RECORD_VALUE, 2, "b");
    put_restarts(&bytes, restarts, 1);
    assert_int_equal(walk(&bytes), ERROR_CORRUPT);
}

static void a_key_has_bytes_of_its_own(void **state)
{
    static const uint32_t restarts[] = {0};
    struct bytes bytes = first_entry();

    (void)state;
    put_entry(&bytes, RECORD_VALUE, 1, "");
    put_restarts(&bytes, restarts, 1);
    assert_int_equal(find(&bytes, "ab"), ERROR_CORRUPT);
}

static void no_key_is_longer_than_keys_are(void **state)
{
    static const uint32_t restarts[] = {0};
    char key[RECORD_KEY_SIZE_MAX + 1];

    (void)state;
    for (size_t extra = 0; extra < 3; extra++) {
        struct bytes bytes = {.size = 0};

        memset(key, 'a', sizeof key);
        key[RECORD_KEY_SIZE_MAX - 1] = '\0';
        put_entry(&bytes, RECORD_VALUE | RESTART, 0, key);
        strcpy(key, "bbb" + 2 - extra);
        put_entry(&bytes, RECORD_VALUE, RECORD_KEY_SIZE_MAX - 1, key);
        put_restarts(&bytes, restarts, 1);
        assert_int_equal(walk(&bytes), extra == 0 ? 2 : ERROR_CORRUPT);
    }
}

static void keys_of_a_block_rise(void **state)
{
    static const uint32_t restarts[] = {0};
    static const struct {
        uint64_t shared;
        const char *own;
    } cases[] = {{0, "a"}, {0, "A"}, {1, "a"}, {1, "A"}, {0, "aa"}};

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct bytes bytes = {.size = 0};

        put_entry(&bytes, RECORD_VALUE | RESTART, 0, "aa");
        put_entry(&bytes, RECORD_VALUE, cases[i].shared, cases[i].own);
        put_restarts(&bytes, restarts, 1);
        assert_int_equal(walk(&bytes), ERROR_CORRUPT);
    }
}

static void a_restart_shares_nothing(void **state)
{
    static const uint32_t restarts[] = {0};
    struct bytes bytes = first_entry();

    (void)state;
    put_entry(&bytes, RECORD_VALUE | RESTART, 1, "b");
    put_restarts(&bytes, restarts, 1);
    assert_int_equal(walk(&bytes), ERROR_CORRUPT);
}

static void a_restart_points_at_one(void **state)
{
    static const char *const keys[] = {"a", "c", "e"};
    struct bytes bytes = {.size = 0};
    uint32_t good[3], plain;

    (void)state;
    for (size_t i = 0; i < 3; i++)
        good[i] = (uint32_t)put_entry(&bytes, RECORD_VALUE | RESTART, 0, keys[i]);
    plain = (uint32_t)put_entry(&bytes, RECORD_VALUE, 0, "g");
    for (size_t i = 0; i < 3; i++) {
        const uint32_t bad[] = {plain, (uint32_t)bytes.size, 1u << 30, UINT32_MAX};

        for (size_t j = 0; j < sizeof bad / sizeof *bad; j++) {
            struct bytes block = bytes;
            uint32_t restarts[3];

            memcpy(restarts, good, sizeof good);
            put_restarts(&block, restarts, 3);
            assert_int_equal(find(&block, keys[i]), 1);
            block.size = bytes.size;
            restarts[i] = bad[j];
            put_restarts(&block, restarts, 3);
            /* Each search looks at the second one first. */
            if (find(&block, i == 1 ? "a" : keys[i]) != ERROR_CORRUPT)
                fail_msg("restart %zu at %u", i, bad[j]);
        }
    }
}

/* A search that leaves the second restart out must have looked at all of it. */
static void a_restart_points_at_a_good_entry(void **state)
{
    struct bytes bytes = {.size = 0};
    uint32_t restarts[5];

    (void)state;
    for (unsigned i = 0; i < 5; i++) {
        const char key[2] = {(char)('a' + i), '\0'};

        restarts[i] = (uint32_t)put_entry(
            &bytes, (i == 1 ? RECORD_DELETE + 1 : RECORD_VALUE) | RESTART, 0, key);
    }
    put_restarts(&bytes, restarts, 5);
    assert_int_equal(find(&bytes, "a"), ERROR_CORRUPT);
}

/* ---- sections ---- */

static int decode_section(struct bytes *bytes, size_t raw_size)
{
    uint8_t *stored = exact_copy(bytes->data, bytes->size), *to = malloc(raw_size + 1);
    int error;

    assert_non_null(to);
    if (bytes->size >= TABLE_SECTION_TRAILER_SIZE)
        put_le64(stored + bytes->size - 8,
                 checksum64_seeded(stored, bytes->size - 8, UINT64_C(1000) + 50));
    error = table_section_decode(slice_of(stored, bytes->size), TABLE_SECTION_INDEX, 1000, 50,
                                 raw_size, to);
    free(stored);
    free(to);
    return error;
}

static void a_section_is_refused_for_each_field_alone(void **state)
{
    static const struct {
        unsigned tag;
        size_t raw_size;
        int error;
    } cases[] = {
        {TABLE_SECTION_INDEX << 4 | CODEC_NONE, 4, 0},
        {TABLE_SECTION_FILTER << 4 | CODEC_NONE, 4, ERROR_CORRUPT}, /* another kind */
        {TABLE_SECTION_INDEX << 4 | 2, 4, ERROR_CORRUPT},           /* no such codec */
        {TABLE_SECTION_INDEX << 4 | CODEC_ZSTD, 4, ERROR_CORRUPT},  /* not what zstd makes */
        {TABLE_SECTION_INDEX << 4 | CODEC_NONE, 3, ERROR_CORRUPT},
        {TABLE_SECTION_INDEX << 4 | CODEC_NONE, 5, ERROR_CORRUPT},
    };
    struct bytes bytes = {.size = 0};

    (void)state;
    for (size_t size = 0; size < TABLE_SECTION_TRAILER_SIZE; size++) {
        bytes.size = size;
        assert_int_equal(decode_section(&bytes, 0), ERROR_CORRUPT);
    }
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        bytes.size = 0;
        put(&bytes, "data", 4);
        bytes.data[bytes.size++] = (uint8_t)cases[i].tag;
        bytes.size += 8;
        assert_int_equal(decode_section(&bytes, cases[i].raw_size), cases[i].error);
    }
}

/* ---- indexes ---- */

#define FIRST  CHUNK_HEADER_SIZE
#define STORED 100

static void put_block(struct bytes *bytes, uint64_t shared, const char *own, uint64_t stored,
                      uint64_t raw)
{
    put_number(bytes, shared);
    put_number(bytes, strlen(own));
    put_number(bytes, stored);
    put_number(bytes, raw);
    put(bytes, own, strlen(own));
}

static int parse_index(const struct bytes *bytes, uint64_t end)
{
    uint8_t *raw = exact_copy(bytes->data, bytes->size);
    struct table_index index;
    int error = table_index_parse(slice_of(raw, bytes->size), FIRST, end, &index);

    if (error == 0)
        table_index_free(&index);
    free(raw);
    return error;
}

/* Of two blocks, the second as given. */
static int parse_second(uint64_t shared, const char *own, uint64_t stored, uint64_t raw)
{
    struct bytes bytes = {.size = 0};

    put_u32(&bytes, 2);
    put_block(&bytes, 0, "", STORED, 200);
    put_block(&bytes, shared, own, stored, raw);
    return parse_index(&bytes, FIRST + STORED + stored + 2 * TABLE_SECTION_TRAILER_SIZE);
}

static void an_entry_of_an_index_is_refused_for_each_field_alone(void **state)
{
    char key[RECORD_KEY_SIZE_MAX + 2];

    (void)state;
    memset(key, 'k', sizeof key);
    key[RECORD_KEY_SIZE_MAX] = '\0';
    assert_int_equal(parse_second(0, key, STORED, 200), 0);
    key[RECORD_KEY_SIZE_MAX] = 'k';
    key[RECORD_KEY_SIZE_MAX + 1] = '\0';
    assert_int_equal(parse_second(0, key, STORED, 200), ERROR_CORRUPT);
    assert_int_equal(parse_second(RECORD_KEY_SIZE_MAX + 1, "", STORED, 200), ERROR_CORRUPT);
    assert_int_equal(parse_second(UINT64_MAX, "k", STORED, 200), ERROR_CORRUPT);
    assert_int_equal(parse_second(1, "k", STORED, 200), ERROR_CORRUPT); /* there is none to share */
    assert_int_equal(parse_second(0, "", STORED, 200), ERROR_CORRUPT);  /* as the one before */
    assert_int_equal(parse_second(0, "k", TABLE_BLOCK_RAW_MAX, TABLE_BLOCK_RAW_MAX), 0);
    assert_int_equal(parse_second(0, "k", TABLE_BLOCK_RAW_MAX + 1, 200), ERROR_CORRUPT);
    assert_int_equal(parse_second(0, "k", STORED, 0), ERROR_CORRUPT);
    assert_int_equal(parse_second(0, "k", STORED, TABLE_BLOCK_RAW_MAX + 1), ERROR_CORRUPT);
}

static void separators_rise_from_an_empty_one(void **state)
{
    static const struct {
        const char *first, *second, *third;
        int error;
    } cases[] = {
        {"", "b", "c", 0},
        {"a", "b", "c", ERROR_CORRUPT},
        {"", "b", "b", ERROR_CORRUPT},
        {"", "b", "a", ERROR_CORRUPT},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct bytes bytes = {.size = 0};

        put_u32(&bytes, 3);
        put_block(&bytes, 0, cases[i].first, STORED, 200);
        put_block(&bytes, 0, cases[i].second, STORED, 200);
        put_block(&bytes, 0, cases[i].third, STORED, 200);
        assert_int_equal(parse_index(&bytes, FIRST + 3 * (STORED + TABLE_SECTION_TRAILER_SIZE)),
                         cases[i].error);
    }
}

static void an_index_has_the_blocks_that_it_says_and_no_more_bytes(void **state)
{
    const uint64_t end = FIRST + STORED + TABLE_SECTION_TRAILER_SIZE;
    struct bytes bytes = {.size = 0};
    size_t size;

    (void)state;
    put_u32(&bytes, 1);
    put_block(&bytes, 0, "", STORED, 200);
    size = bytes.size;
    assert_int_equal(parse_index(&bytes, end), 0);
    assert_int_equal(parse_index(&bytes, end + 1), ERROR_CORRUPT);
    assert_int_equal(parse_index(&bytes, end - 1), ERROR_CORRUPT);
    put_le32(bytes.data, 0);
    assert_int_equal(parse_index(&bytes, FIRST), ERROR_CORRUPT); /* an entry too many */
    put_le32(bytes.data, 2);
    assert_int_equal(parse_index(&bytes, end), ERROR_CORRUPT);
    put_le32(bytes.data, UINT32_MAX);
    assert_int_equal(parse_index(&bytes, end), ERROR_CORRUPT);
    put_le32(bytes.data, 1);
    put(&bytes, "", 1);
    assert_int_equal(parse_index(&bytes, end), ERROR_CORRUPT);
    for (bytes.size = 0; bytes.size < size; bytes.size++)
        assert_int_equal(parse_index(&bytes, end), ERROR_CORRUPT);
}

/* Two bytes say that a separator shares 1024 with the one before: so do all of them. */
static void separators_are_no_longer_than_numbers_of_32_bits_say(void **state)
{
    const size_t count = (UINT32_MAX >> 10) + 2, entry_size = 5;
    uint8_t *raw = malloc(4 + count * entry_size);
    struct table_index index;

    (void)state;
    assert_non_null(raw);
    put_le32(raw, (uint32_t)count);
    for (size_t i = 0; i < count; i++)
        memcpy(raw + 4 + i * entry_size, "\x80\x08\0\0\1", entry_size);
    /* Not -ENOMEM: nothing is asked for. */
    assert_int_equal(table_index_parse(slice_of(raw, 4 + count * entry_size), FIRST,
                                       FIRST + count * TABLE_SECTION_TRAILER_SIZE, &index),
                     ERROR_CORRUPT);
    free(raw);
}

/* ---- metas ---- */

struct meta_fields {
    uint64_t kind, records, deletes, smallest_sequence, largest_sequence;
    size_t smallest_size, largest_size; /* of keys of 'k' */
    uint64_t ids[2];                    /* differences */
};

static void put_key(struct bytes *bytes, size_t size)
{
    put_le16(bytes->data + bytes->size, (uint16_t)size);
    bytes->size += 2;
    memset(bytes->data + bytes->size, 'k', size);
    bytes->size += size;
}

static int decode_meta(const struct meta_fields *fields)
{
    struct bytes bytes = {.size = 0};
    struct table_meta meta;
    struct slice rest;
    uint8_t *exact;
    int error;

    put_le32(bytes.data + 8, (uint32_t)fields->kind);
    put_le64(bytes.data + 36, fields->records);
    put_le64(bytes.data + 44, fields->deletes);
    put_le64(bytes.data + 60, fields->smallest_sequence);
    put_le64(bytes.data + 68, fields->largest_sequence);
    bytes.size = 76;
    put_key(&bytes, fields->smallest_size);
    put_key(&bytes, fields->largest_size);
    put_u32(&bytes, 2);
    for (size_t i = 0; i < 2; i++) {
        put_number(&bytes, fields->ids[i]);
        put_number(&bytes, 1);
        put_number(&bytes, 1);
    }
    exact = exact_copy(bytes.data, bytes.size);
    rest = slice_of(exact, bytes.size);
    error = table_meta_decode(&rest, &meta);
    if (error == 0)
        table_meta_free(&meta);
    free(exact);
    return error;
}

static void a_meta_is_refused_for_each_field_alone(void **state)
{
    static const struct {
        struct meta_fields fields;
        int error;
    } cases[] = {
        {{CHUNK_TABLE, 5, 5, 7, 7, 3, 3, {4, 1}}, 0},
        {{CHUNK_BLOB, 5, 5, 7, 7, 3, 3, {4, 1}}, ERROR_CORRUPT},
        {{CHUNK_TABLE, 5, 6, 7, 7, 3, 3, {4, 1}}, ERROR_CORRUPT},
        {{CHUNK_TABLE, 5, 5, 7, 6, 3, 3, {4, 1}}, ERROR_CORRUPT},
        {{CHUNK_TABLE, 5, 5, 7, 7, 3, 2, {4, 1}}, ERROR_CORRUPT},
        {{CHUNK_TABLE, 5, 5, 7, 7, 3, RECORD_KEY_SIZE_MAX, {4, 1}}, 0},
        {{CHUNK_TABLE, 5, 5, 7, 7, 3, RECORD_KEY_SIZE_MAX + 1, {4, 1}}, ERROR_CORRUPT},
        {{CHUNK_TABLE, 5, 5, 7, 7, 3, 3, {0, 1}}, 0},
        {{CHUNK_TABLE, 5, 5, 7, 7, 3, 3, {4, 0}}, ERROR_CORRUPT}, /* the same chunk twice */
        {{CHUNK_TABLE, 5, 5, 7, 7, 3, 3, {4, UINT64_MAX - 4}}, 0},
        {{CHUNK_TABLE, 5, 5, 7, 7, 3, 3, {4, UINT64_MAX - 3}}, ERROR_CORRUPT}, /* wraps to 0 */
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        if (decode_meta(&cases[i].fields) != cases[i].error)
            fail_msg("case %zu", i);
}

static void a_number_of_uses_beyond_the_bytes_asks_for_no_memory(void **state)
{
    struct bytes bytes = {.size = 0};
    struct table_meta meta;
    struct slice rest;

    (void)state;
    put_le32(bytes.data + 8, CHUNK_TABLE);
    bytes.size = 76;
    put_key(&bytes, 0);
    put_key(&bytes, 0);
    put_u32(&bytes, UINT32_MAX);
    put(&bytes, "\1\1\1", 3);
    rest = slice_of(bytes.data, bytes.size);
    /* Not -ENOMEM, and at once: a hundred gigabytes would be asked for. */
    assert_int_equal(table_meta_decode(&rest, &meta), ERROR_CORRUPT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_block_written_by_hand_is_read),
        cmocka_unit_test(the_sizes_of_a_block_and_of_its_restarts_have_bounds),
        cmocka_unit_test(an_entry_is_refused_for_each_field_alone),
        cmocka_unit_test(a_key_shares_no_more_than_the_one_before_has),
        cmocka_unit_test(a_key_has_bytes_of_its_own),
        cmocka_unit_test(no_key_is_longer_than_keys_are),
        cmocka_unit_test(keys_of_a_block_rise),
        cmocka_unit_test(a_restart_shares_nothing),
        cmocka_unit_test(a_restart_points_at_one),
        cmocka_unit_test(a_restart_points_at_a_good_entry),
        cmocka_unit_test(a_section_is_refused_for_each_field_alone),
        cmocka_unit_test(an_entry_of_an_index_is_refused_for_each_field_alone),
        cmocka_unit_test(separators_rise_from_an_empty_one),
        cmocka_unit_test(an_index_has_the_blocks_that_it_says_and_no_more_bytes),
        cmocka_unit_test(separators_are_no_longer_than_numbers_of_32_bits_say),
        cmocka_unit_test(a_meta_is_refused_for_each_field_alone),
        cmocka_unit_test(a_number_of_uses_beyond_the_bytes_asks_for_no_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
