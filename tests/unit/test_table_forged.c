/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_table_forged.c - tables that are wrong in one field of their end, and right in all checksums:
 * each rule of opening one decides once alone
 *
 * A good table is taken apart into its sections. A test changes what is in them, where they lie, the
 * footer or the trailer; then the file is put together again around it.
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
#include "engine/base/error.h"
#include "engine/table_filter.h"
#include "engine/table_section.h"
#include "tests/lib/table_fixture.h"

enum { FILTER, TOMBSTONES, INDEX, PROPERTIES };

/* In the raw properties: three sums, then the counts. */
enum { AT_RECORDS = 24, AT_DELETES = 32, AT_TOMBSTONES = 40 };

struct forged {
    uint8_t *data; /* header and blocks */
    size_t data_size;
    struct buffer raw[TABLE_FOOTER_SECTIONS];
    uint64_t salt;
    size_t gap[TABLE_FOOTER_SECTIONS + 1]; /* bytes before each section, and before the footer */
    void (*change_footer)(uint8_t *footer, uint64_t at);
    void (*change_trailer)(struct chunk_trailer *trailer);
    struct chunk_trailer trailer;
};

static uint8_t *footer_entry(uint8_t *footer, size_t section)
{
    return footer + section * TABLE_FOOTER_ENTRY_SIZE;
}

/* Ten records, some deleted; tombstones from "a" to "b" and from "b" to "c". */
static struct forged take_apart_with(struct fixture *fixture, size_t value_size)
{
    struct table_writer_options options = writer_options(fixture, 1, 0);
    struct forged forged = {.gap = {0}};
    struct table_writer *writer;
    struct table_meta meta;
    uint8_t *file, *footer, *value = calloc(1, value_size);
    size_t size;
    char *path;

    assert_int_equal(table_writer_new(&options, &writer), 0);
    for (unsigned i = 0; i < 10; i++) {
        char key[8];
        struct record record = {.kind = i < 3 ? RECORD_DELETE : RECORD_VALUE, .sequence = 1 + i};

        snprintf(key, sizeof key, "k%u", i);
        record.key = slice_of_string(key);
        if (record.kind == RECORD_VALUE)
            record.value = slice_of(value, value_size);
        assert_int_equal(table_writer_add(writer, &record), 0);
    }
    assert_int_equal(
        table_writer_add_tombstone(writer, slice_of_string("a"), slice_of_string("b"), 50), 0);
    assert_int_equal(
        table_writer_add_tombstone(writer, slice_of_string("b"), slice_of_string("c"), 51), 0);
    assert_int_equal(table_writer_finish(writer, &meta), 0);
    table_writer_free(writer);

    path = chunk_path(fixture, &meta.identity);
    file = test_file_read(path, &size);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(chunk_trailer_decode(file + size - CHUNK_TRAILER_SIZE, &forged.trailer), 0);
    footer = file + forged.trailer.values[0];
    forged.salt = table_salt(uuid, 1);
    for (size_t i = 0; i < TABLE_FOOTER_SECTIONS; i++) {
        const uint8_t *entry = footer_entry(footer, i);
        uint64_t position = get_le64(entry);
        struct slice stored =
            slice_of(file + position, get_le64(entry + 8) + TABLE_SECTION_TRAILER_SIZE);

        assert_int_equal(buffer_reserve(&forged.raw[i], get_le64(entry + 16) + 1), 0);
        forged.raw[i].size = get_le64(entry + 16);
        assert_int_equal(table_section_decode(stored, TABLE_SECTION_FILTER + i, forged.salt,
                                              position, forged.raw[i].size, forged.raw[i].data),
                         0);
    }
    forged.data_size = get_le64(footer);
    forged.data = malloc(forged.data_size);
    assert_non_null(forged.data);
    memcpy(forged.data, file, forged.data_size);
    free(value);
    free(file);
    free(path);
    table_meta_free(&meta);
    return forged;
}

static struct forged take_apart(struct fixture *fixture)
{
    return take_apart_with(fixture, 5);
}

static void put(struct buffer *file, const void *data, size_t size)
{
    assert_int_equal(buffer_append(file, data, size), 0);
}

static void put_gap(struct buffer *file, size_t size)
{
    for (; size > 0; size--)
        put(file, "", 1);
}

/* The whole file; the trailer says how long it is. */
static struct buffer put_together(struct forged *forged)
{
    uint8_t footer[TABLE_FOOTER_SIZE], trailer[CHUNK_TRAILER_SIZE];
    struct buffer file = {0}, section = {0};

    put(&file, forged->data, forged->data_size);
    for (size_t i = 0; i < TABLE_FOOTER_SECTIONS; i++) {
        uint8_t *entry = footer_entry(footer, i);

        put_gap(&file, forged->gap[i]);
        assert_int_equal(table_section_encode(buffer_slice(&forged->raw[i]),
                                              TABLE_SECTION_FILTER + i, forged->salt, file.size, 0,
                                              &section),
                         0);
        put_le64(entry, file.size);
        put_le64(entry + 8, forged->raw[i].size);
        put_le64(entry + 16, forged->raw[i].size);
        put(&file, section.data, section.size);
    }
    put_gap(&file, forged->gap[TABLE_FOOTER_SECTIONS]);
    if (forged->change_footer != NULL)
        forged->change_footer(footer, file.size);
    put_le64(footer + TABLE_FOOTER_CHECKED,
             checksum64_seeded(footer, TABLE_FOOTER_CHECKED, forged->salt + file.size));
    forged->trailer.values[0] = file.size;
    put(&file, footer, sizeof footer);
    forged->trailer.content_size_bytes = file.size;
    if (forged->change_trailer != NULL)
        forged->change_trailer(&forged->trailer);
    chunk_trailer_encode(trailer, &forged->trailer);
    put(&file, trailer, sizeof trailer);
    buffer_free(&section);
    return file;
}

/* 0 when all ten records come, or the error. */
static int walk(struct table_reader *reader)
{
    struct table_iterator *iterator = table_iterator_new(reader);
    int count = 0, result;

    assert_non_null(iterator);
    for (result = table_iterator_seek(iterator, slice_of_string("")); result == 1; count++)
        result = table_iterator_next(iterator);
    table_iterator_free(iterator);
    if (result == 0)
        assert_int_equal(count, 10);
    return result;
}

static int try_open(struct fixture *fixture, const struct chunk_identity *identity,
                    const void *file, size_t size)
{
    char *path = chunk_path(fixture, identity);
    struct table_reader *reader;
    int error;

    test_file_write(path, file, size);
    error = table_reader_open(fixture->base.io, fixture->chunks, identity, uuid, NULL, &reader);
    if (error == 0) {
        error = walk(reader);
        table_reader_unref(reader);
    }
    assert_int_equal(unlink(path), 0);
    free(path);
    return error;
}

/* Frees `forged`. */
static int open_forged(struct fixture *fixture, struct forged *forged)
{
    struct buffer file = put_together(forged);
    struct chunk_identity identity = {
        .id = 1, .kind = CHUNK_TABLE, .file_size_bytes = file.size, .hash = forged->trailer.hash};
    int error = try_open(fixture, &identity, file.data, file.size);

    buffer_free(&file);
    for (size_t i = 0; i < TABLE_FOOTER_SECTIONS; i++)
        buffer_free(&forged->raw[i]);
    free(forged->data);
    return error;
}

/* ---- where sections lie ---- */

static void a_table_put_together_again_is_opened(void **state)
{
    struct forged forged = take_apart(*state);

    assert_int_equal(open_forged(*state, &forged), 0);
}

static void sections_lie_one_behind_the_other(void **state)
{
    for (size_t i = 0; i <= TABLE_FOOTER_SECTIONS; i++) {
        for (size_t gap = 1; gap < 20; gap += 9) {
            struct forged forged = take_apart(*state);

            forged.gap[i] = gap;
            assert_int_equal(open_forged(*state, &forged), ERROR_CORRUPT);
        }
    }
}

/* The last section begins a byte behind the footer's first, and ends there by a sum that wraps. */
static void begin_behind_the_end(uint8_t *footer, uint64_t at)
{
    uint8_t *index = footer_entry(footer, INDEX), *properties = footer_entry(footer, PROPERTIES);

    put_le64(index + 8, at + 1 - TABLE_SECTION_TRAILER_SIZE - get_le64(index));
    put_le64(properties, at + 1);
    put_le64(properties + 8, UINT64_MAX - TABLE_SECTION_TRAILER_SIZE);
}

/* The filter is so large that the next one begins before it; nobody looks at that one's place. */
static void end_before_the_beginning(uint8_t *footer, uint64_t at)
{
    uint8_t *filter = footer_entry(footer, FILTER), *tombstones = footer_entry(footer, TOMBSTONES);
    uint64_t early = CHUNK_HEADER_SIZE + 1;

    (void)at;
    put_le64(filter + 8, early - TABLE_SECTION_TRAILER_SIZE - get_le64(filter));
    put_le64(tombstones, early);
    put_le64(tombstones + 8,
             get_le64(footer_entry(footer, INDEX)) - TABLE_SECTION_TRAILER_SIZE - early);
}

static void no_section_reaches_beyond_the_footer_or_wraps(void **state)
{
    struct forged forged = take_apart(*state);

    forged.change_footer = begin_behind_the_end;
    assert_int_equal(open_forged(*state, &forged), ERROR_CORRUPT);
    forged = take_apart(*state);
    forged.change_footer = end_before_the_beginning;
    assert_int_equal(open_forged(*state, &forged), ERROR_CORRUPT);
}

/* ---- sizes, before memory is asked for ---- */

static void say_too_large(uint8_t *footer, uint64_t at)
{
    (void)at;
    put_le64(footer_entry(footer, TOMBSTONES) + 16, TABLE_SECTION_RAW_MAX + 1);
}

static void say_large(uint8_t *footer, uint64_t at)
{
    (void)at;
    put_le64(footer_entry(footer, TOMBSTONES) + 16, TABLE_SECTION_RAW_MAX);
}

/* That it is damage, and not -ENOMEM, a sanitizer tells that gives no such memory. */
static void a_section_grows_no_more_than_any_can(void **state)
{
    struct forged forged = take_apart(*state);

    forged.change_footer = say_large;
    assert_int_equal(open_forged(*state, &forged), ERROR_CORRUPT);
    forged = take_apart(*state);
    put_gap(&forged.raw[TOMBSTONES], TABLE_SECTION_RAW_MAX / TABLE_EXPANSION_MAX + 1);
    forged.change_footer = say_too_large;
    assert_int_equal(open_forged(*state, &forged), ERROR_CORRUPT);
}

static void a_file_smaller_than_any_table_is_refused(void **state)
{
    static const size_t sizes[] = {1, CHUNK_TRAILER_SIZE - 1, CHUNK_TRAILER_SIZE,
                                   CHUNK_HEADER_SIZE + CHUNK_TRAILER_SIZE};
    static const uint8_t zeros[CHUNK_HEADER_SIZE + CHUNK_TRAILER_SIZE];

    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        struct chunk_identity identity = {
            .id = 1, .kind = CHUNK_TABLE, .file_size_bytes = sizes[i], .hash = {1, 2}};

        assert_int_equal(try_open(*state, &identity, zeros, sizes[i]), ERROR_CORRUPT);
    }
}

/* ---- the trailer ---- */

static void name_another_store(struct chunk_trailer *trailer)
{
    memcpy(trailer->store_uuid, other_uuid, STORE_UUID_SIZE);
}

static void say_larger_footer(struct chunk_trailer *trailer)
{
    trailer->values[1]++;
}

static void say_footer_far_away(struct chunk_trailer *trailer)
{
    trailer->values[0] += UINT64_C(1) << 40;
}

static void say_footer_nearby(struct chunk_trailer *trailer)
{
    trailer->values[0]--;
}

static void a_trailer_is_refused_for_each_field_alone(void **state)
{
    static const struct {
        void (*change)(struct chunk_trailer *trailer);
        int error;
    } cases[] = {
        {name_another_store, ERROR_FOREIGN},
        {say_larger_footer, ERROR_CORRUPT},
        {say_footer_far_away, ERROR_CORRUPT},
        {say_footer_nearby, ERROR_CORRUPT},
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct forged forged = take_apart(*state);

        forged.change_trailer = cases[i].change;
        if (open_forged(*state, &forged) != cases[i].error)
            fail_msg("case %zu", i);
    }
}

/* ---- what sections say of each other ---- */

static void properties_end_with_the_meta(void **state)
{
    struct forged forged = take_apart(*state);

    put_gap(&forged.raw[PROPERTIES], 1);
    assert_int_equal(open_forged(*state, &forged), ERROR_CORRUPT);
    for (size_t size = 0; size <= AT_RECORDS; size++) {
        forged = take_apart(*state);
        forged.raw[PROPERTIES].size = size;
        assert_int_equal(open_forged(*state, &forged), ERROR_CORRUPT);
    }
}

static void a_table_without_records_has_no_blocks(void **state)
{
    struct forged forged = take_apart(*state);

    put_le64(forged.raw[PROPERTIES].data + AT_RECORDS, 0);
    put_le64(forged.raw[PROPERTIES].data + AT_DELETES, 0);
    forged.raw[FILTER].size = table_filter_size(0);
    assert_int_equal(open_forged(*state, &forged), ERROR_CORRUPT);
}

static void a_filter_is_as_large_as_the_records_ask_for(void **state)
{
    /* Ten bits for each of so many are four bits, when 64 bits are all there is. */
    const uint64_t wraps = UINT64_MAX / 10 + 1;
    struct forged forged = take_apart(*state);

    assert_int_equal(forged.raw[FILTER].size, TABLE_FILTER_LINE_SIZE);
    forged.raw[FILTER].size--;
    assert_int_equal(open_forged(*state, &forged), ERROR_CORRUPT);
    forged = take_apart(*state);
    put_gap(&forged.raw[FILTER], TABLE_FILTER_LINE_SIZE);
    assert_int_equal(open_forged(*state, &forged), ERROR_CORRUPT);
    forged = take_apart(*state);
    assert_int_equal(table_filter_size((size_t)wraps), TABLE_FILTER_LINE_SIZE);
    put_le64(forged.raw[PROPERTIES].data + AT_RECORDS, wraps);
    assert_int_equal(open_forged(*state, &forged), ERROR_CORRUPT);
}

/* ---- tombstones ---- */

/* A table with `said` fragments, according to both that say it. */
static int open_with_fragments(struct fixture *fixture, uint32_t said, const char *fragments,
                               size_t size)
{
    struct forged forged = take_apart(fixture);
    uint8_t count[4];

    put_le32(count, said);
    put_le64(forged.raw[PROPERTIES].data + AT_TOMBSTONES, said);
    forged.raw[TOMBSTONES].size = 0;
    put(&forged.raw[TOMBSTONES], count, sizeof count);
    put(&forged.raw[TOMBSTONES], fragments, size);
    return open_forged(fixture, &forged);
}

static void fragments_are_refused_for_each_rule_alone(void **state)
{
    static const struct {
        uint32_t said;
        const char *bytes; /* start's and end's size, sequence number, both; 5 bytes each */
        size_t size;
        int error;
    } cases[] = {
        {0, "", 0, 0},
        {2, "\1\1\1ab\1\1\1bc", 10, 0},
        {1, "\1\1\1aa", 5, ERROR_CORRUPT}, /* nothing */
        {1, "\1\1\1ba", 5, ERROR_CORRUPT},
        {2, "\1\1\1ac\1\1\1bd", 10, ERROR_CORRUPT}, /* both of a part */
        {2, "\1\1\1cd\1\1\1ab", 10, ERROR_CORRUPT}, /* in falling order */
        {1, "\0\1\1aa", 5, ERROR_CORRUPT},          /* no start, no end, more than there is */
        {1, "\1\0\1aa", 5, ERROR_CORRUPT},
        {1, "\1\2\1ab", 5, ERROR_CORRUPT},
        {1, "\1\1\1abc", 6, ERROR_CORRUPT},         /* a byte too many */
        {1, "\1\1\1a", 4, ERROR_CORRUPT},           /* and one too few */
        {UINT32_MAX, "\1\1\1ab", 5, ERROR_CORRUPT}, /* and not -ENOMEM */
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        if (open_with_fragments(*state, cases[i].said, cases[i].bytes, cases[i].size) !=
            cases[i].error)
            fail_msg("case %zu", i);
}

static void there_are_as_many_fragments_as_the_meta_says(void **state)
{
    for (uint64_t count = 1; count <= 3; count++) {
        struct forged forged = take_apart(*state);

        put_le64(forged.raw[PROPERTIES].data + AT_TOMBSTONES, count);
        assert_int_equal(open_forged(*state, &forged), count == 2 ? 0 : ERROR_CORRUPT);
    }
}

static void fragments_have_a_count(void **state)
{
    for (size_t size = 0; size < 4; size++) {
        struct forged forged = take_apart(*state);

        put_le64(forged.raw[PROPERTIES].data + AT_TOMBSTONES, 0);
        forged.raw[TOMBSTONES].size = size;
        assert_int_equal(open_forged(*state, &forged), ERROR_CORRUPT);
    }
}

/* ---- the index and the blocks ---- */

/* Make the separator of the second block another one: "k5" "k6" with `difference` 1. */
static int open_with_separator(struct fixture *fixture, int difference)
{
    struct forged forged = take_apart_with(fixture, 2000);
    struct buffer *index = &forged.raw[INDEX];
    uint8_t *at = index->data + 4, *end = index->data + index->size;
    uint64_t number = 0;

    assert_true(get_le32(index->data) >= 2);
    for (size_t i = 0; i < 4; i++) { /* of the first one, whose key is empty */
        at += get_varint(at, end, &number) - at;
        assert_true(i >= 2 || number == 0);
    }
    for (size_t i = 0; i < 4; i++) {
        at += get_varint(at, end, &number) - at;
        assert_true(i >= 2 || number == 2 * i);
    }
    assert_true(at[0] == 'k' && at[1] > '3' && at[1] < '9');
    at[1] = (uint8_t)(at[1] + difference);
    return open_forged(fixture, &forged);
}

static void a_separator_is_above_the_block_before_and_not_above_its_own(void **state)
{
    assert_int_equal(open_with_separator(*state, 0), 0);
    assert_int_equal(open_with_separator(*state, -1), ERROR_CORRUPT);
    assert_int_equal(open_with_separator(*state, 1), ERROR_CORRUPT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        TEST(a_table_put_together_again_is_opened),
        TEST(sections_lie_one_behind_the_other),
        TEST(no_section_reaches_beyond_the_footer_or_wraps),
        TEST(a_section_grows_no_more_than_any_can),
        TEST(a_file_smaller_than_any_table_is_refused),
        TEST(a_trailer_is_refused_for_each_field_alone),
        TEST(properties_end_with_the_meta),
        TEST(a_table_without_records_has_no_blocks),
        TEST(a_filter_is_as_large_as_the_records_ask_for),
        TEST(fragments_are_refused_for_each_rule_alone),
        TEST(there_are_as_many_fragments_as_the_meta_says),
        TEST(fragments_have_a_count),
        TEST(a_separator_is_above_the_block_before_and_not_above_its_own),
    };

    /* Every refusal is logged. */
    if (getenv("VARVE_TEST_LOUD") == NULL && freopen("/dev/null", "w", stderr) == NULL)
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
