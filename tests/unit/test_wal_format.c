/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_wal_format.c - headers and bodies of the log that are wrong in one field, with checksums that
 * are right: only the one rule tells
 */
#include "engine/wal_format.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/base/checksum.h"
#include "engine/base/endian.h"
#include "engine/base/error.h"
#include "tests/lib/io_fixture.h"

static const uint8_t store_uuid[STORE_UUID_SIZE] = "a store's uuid!";

#define SEED    UINT64_C(0x1122334455667788)
#define SEGMENT 7
#define OFFSET  (WAL_FIRST_GROUP_OFFSET + 3 * WAL_GROUP_ALIGNMENT)

/* ---- segment headers ---- */

static void make_segment_header(uint8_t bytes[WAL_SEGMENT_HEADER_SIZE])
{
    struct wal_segment_header header = {.number = SEGMENT, .salt = 99};

    memcpy(header.store_uuid, store_uuid, STORE_UUID_SIZE);
    wal_segment_header_encode(bytes, &header);
}

static int decode_segment_header(uint8_t bytes[WAL_SEGMENT_HEADER_SIZE])
{
    struct wal_segment_header header;

    put_le64(bytes + 120, checksum64(bytes, 120));
    return wal_segment_header_decode(bytes, store_uuid, &header);
}

static void a_segment_header_is_refused_for_each_field_alone(void **state)
{
    static const struct {
        size_t at;
        uint8_t value;
        int error;
    } bad[] = {
        {0, 'v', ERROR_CORRUPT},         /* magic */
        {7, 'X', ERROR_CORRUPT},         /* its last byte */
        {8, 0, ERROR_CORRUPT},           /* version 0 */
        {8, 2, ERROR_VERSION_NEWER},     /* the next one */
        {11, 0x80, ERROR_VERSION_NEWER}, /* one far away */
        {16, 'x', ERROR_FOREIGN},        /* uuid */
        {31, 'x', ERROR_FOREIGN},
    };
    uint8_t bytes[WAL_SEGMENT_HEADER_SIZE];
    struct wal_segment_header header;

    (void)state;
    make_segment_header(bytes);
    assert_int_equal(decode_segment_header(bytes), 0);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        make_segment_header(bytes);
        bytes[bad[i].at] = bad[i].value;
        assert_int_equal(decode_segment_header(bytes), bad[i].error);
    }
    make_segment_header(bytes);
    bytes[119] ^= 1; /* nothing reads it: the checksum alone */
    assert_int_equal(wal_segment_header_decode(bytes, store_uuid, &header), ERROR_CORRUPT);
}

/* ---- group headers ---- */

static struct wal_group_header good_header(void)
{
    return (struct wal_group_header){.piece_count = 2,
                                     .segment = SEGMENT,
                                     .offset = OFFSET,
                                     .body_size = 1000,
                                     .entries_size = 500,
                                     .durable_offset = OFFSET,
                                     .previous_segment = SEGMENT - 1,
                                     .previous_end = 8192,
                                     .first_sequence = 5,
                                     .last_sequence = 9,
                                     .body_checksum = 77};
}

static bool group_is_taken(const struct wal_group_header *header)
{
    uint8_t bytes[WAL_GROUP_HEADER_SIZE];
    struct wal_group_header decoded;

    wal_group_header_encode(bytes, header, SEED);
    return wal_group_header_decode(bytes, SEED, header->segment, header->offset, &decoded);
}

static void the_limits_of_a_group_header_are_taken_and_what_is_beyond_is_not(void **state)
{
    static const struct {
        size_t field; /* of struct wal_group_header */
        uint64_t good, bad;
    } limits[] = {
#define LIMIT(field, good, bad) {offsetof(struct wal_group_header, field), good, bad}
        LIMIT(body_size, WAL_GROUP_BODY_SIZE_MAX, WAL_GROUP_BODY_SIZE_MAX + 1),
        LIMIT(body_size, 500, 499), /* of which 500 are entries */
        LIMIT(entries_size, 1000, 1001),
        LIMIT(entries_size, 0, UINT64_MAX),
        LIMIT(offset, WAL_SEGMENT_SIZE_MAX, WAL_SEGMENT_SIZE_MAX + WAL_GROUP_ALIGNMENT),
        LIMIT(durable_offset, OFFSET, OFFSET + 1),
        LIMIT(durable_offset, 0, UINT64_MAX),
        LIMIT(previous_segment, SEGMENT - 1, SEGMENT),
        LIMIT(previous_segment, 0, UINT64_MAX),
        LIMIT(first_sequence, 1, 0),
        LIMIT(first_sequence, 10, 11), /* 9 + 1: no entries */
        LIMIT(last_sequence, 4, 3),
        LIMIT(last_sequence, UINT64_MAX - 1, UINT64_MAX),
#undef LIMIT
    };

    (void)state;
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
        struct wal_group_header header = good_header();

        memcpy((uint8_t *)&header + limits[i].field, &limits[i].good, sizeof(uint64_t));
        if (!group_is_taken(&header))
            fail_msg("limit %zu is refused", i);
        memcpy((uint8_t *)&header + limits[i].field, &limits[i].bad, sizeof(uint64_t));
        if (group_is_taken(&header))
            fail_msg("what is beyond limit %zu is taken", i);
    }
}

static void no_group_begins_before_the_place_of_the_first(void **state)
{
    struct wal_group_header header = good_header();

    (void)state;
    header.durable_offset = 0;
    header.offset = WAL_FIRST_GROUP_OFFSET;
    assert_true(group_is_taken(&header));
    header.offset = WAL_FIRST_GROUP_OFFSET - WAL_GROUP_ALIGNMENT;
    assert_false(group_is_taken(&header));
}

static void a_group_for_another_place_is_none(void **state)
{
    static const size_t fields[] = {0, 3, 8, 15, 16, 23}; /* magic, segment, offset */
    struct wal_group_header header = good_header(), decoded;
    uint8_t bytes[WAL_GROUP_HEADER_SIZE];

    (void)state;
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        wal_group_header_encode(bytes, &header, SEED);
        bytes[fields[i]] ^= 0x40;
        put_le64(bytes + 88, checksum64_seeded(bytes, 88, SEED));
        assert_false(wal_group_header_is_begun(bytes, SEGMENT, OFFSET));
        assert_false(wal_group_header_decode(bytes, SEED, SEGMENT, OFFSET, &decoded));
    }
    wal_group_header_encode(bytes, &header, SEED);
    bytes[80] ^= 1; /* any value may stand here: the checksum alone */
    assert_true(wal_group_header_is_begun(bytes, SEGMENT, OFFSET));
    assert_false(wal_group_header_decode(bytes, SEED, SEGMENT, OFFSET, &decoded));
}

/* ---- bodies ---- */

struct body {
    uint8_t bytes[512];
    size_t pieces_size, entries_size;
    struct wal_group_header header;
};

static struct body *body_new(uint64_t first_sequence, uint64_t last_sequence)
{
    struct body *body = calloc(1, sizeof *body);

    assert_non_null(body);
    body->header = good_header();
    body->header.piece_count = 0;
    body->header.first_sequence = first_sequence;
    body->header.last_sequence = last_sequence;
    return body;
}

/* All pieces before all entries. */
static void add_piece(struct body *body, uint64_t position, uint32_t size, uint32_t said)
{
    uint8_t *to = body->bytes + body->pieces_size;

    put_le64(to, 3);
    put_le64(to + 8, position);
    put_le32(to + 16, said);
    body->pieces_size += WAL_PIECE_HEADER_SIZE + size;
    body->header.piece_count++;
}

static void add_entry(struct body *body, uint8_t kind, uint64_t first_sequence, uint32_t size,
                      uint32_t said)
{
    uint8_t *to = body->bytes + body->pieces_size + body->entries_size;

    to[0] = kind;
    put_le32(to + 1, said);
    put_le64(to + 5, first_sequence);
    body->entries_size += WAL_ENTRY_HEADER_SIZE + size;
}

/* In just the memory that it takes, so that a sanitizer sees what is read behind it. */
static int check_body(struct body *body)
{
    size_t size = body->pieces_size + body->entries_size;
    uint8_t *exact = malloc(size > 0 ? size : 1);
    int error;

    assert_non_null(exact);
    memcpy(exact, body->bytes, size);
    body->header.entries_size = body->entries_size;
    body->header.body_size = size;
    error = wal_group_body_check(&body->header, slice_of(exact, size));
    free(exact);
    free(body);
    return error;
}

static void pieces_are_refused_for_each_field_alone(void **state)
{
    static const struct {
        uint64_t position;
        uint32_t size, said;
        int error;
    } cases[] = {
        {0, 5, 5, 0},
        {(uint64_t)INT64_MAX - 5, 5, 5, 0},
        {(uint64_t)INT64_MAX - 4, 5, 5, ERROR_CORRUPT}, /* ends behind any file */
        {UINT64_MAX, 5, 5, ERROR_CORRUPT},
        {0, 0, 0, ERROR_CORRUPT}, /* nothing */
        {0, 5, 6, ERROR_CORRUPT}, /* more than there is */
        {0, 5, UINT32_MAX, ERROR_CORRUPT},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct body *body = body_new(5, 4);

        add_piece(body, cases[i].position, cases[i].size, cases[i].said);
        assert_int_equal(check_body(body), cases[i].error);
    }
}

static void a_piece_or_an_entry_cut_short_is_refused(void **state)
{
    (void)state;
    for (size_t size = 1; size < WAL_PIECE_HEADER_SIZE; size++) {
        struct body *body = body_new(5, 4);

        body->pieces_size = size;
        body->header.piece_count = 1;
        assert_int_equal(check_body(body), ERROR_CORRUPT);
    }
    for (size_t size = 1; size < WAL_ENTRY_HEADER_SIZE; size++) {
        struct body *body = body_new(5, 5);

        add_entry(body, WAL_BATCH, 5, 0, 0);
        body->entries_size = size;
        assert_int_equal(check_body(body), ERROR_CORRUPT);
    }
}

static void there_are_as_many_pieces_as_the_header_says(void **state)
{
    (void)state;
    for (int difference = -1; difference <= 1; difference++) {
        struct body *body = body_new(5, 4);

        add_piece(body, 0, 5, 5);
        add_piece(body, 5, 5, 5);
        body->header.piece_count = (uint32_t)(2 + difference);
        assert_int_equal(check_body(body), difference == 0 ? 0 : ERROR_CORRUPT);
    }
}

static void entries_are_refused_for_each_rule_alone(void **state)
{
    static const struct {
        uint64_t first, last; /* of the header */
        struct {
            uint8_t kind;
            uint64_t first;
        } entries[2];
        int error;
    } cases[] = {
        {5, 9, {{WAL_BATCH, 5}, {WAL_BATCH, 9}}, 0},
        {5, 6, {{WAL_MARK, 5}, {WAL_BATCH, 6}}, 0},
        {5, 9, {{WAL_BATCH, 5}, {WAL_MARK, 9}}, 0},
        {5, 4, {{0, 0}, {0, 0}}, 0},                                /* no entries take no numbers */
        {5, 9, {{0, 0}, {0, 0}}, ERROR_CORRUPT},                    /* ... and these are missing */
        {5, 9, {{WAL_BATCH, 6}, {0, 0}}, ERROR_CORRUPT},            /* another first number */
        {5, 9, {{WAL_BATCH, 4}, {0, 0}}, ERROR_CORRUPT},            /* a number used before */
        {5, 9, {{WAL_BATCH, 5}, {WAL_BATCH, 5}}, ERROR_CORRUPT},    /* the same twice */
        {5, 9, {{WAL_MARK, 5}, {WAL_BATCH, 7}}, ERROR_CORRUPT},     /* a mark takes one */
        {5, 9, {{WAL_BATCH, 5}, {WAL_BATCH, 10}}, ERROR_CORRUPT},   /* behind the last */
        {5, 9, {{WAL_BATCH, 5}, {WAL_MARK, 8}}, ERROR_CORRUPT},     /* the last is a mark's */
        {5, 9, {{WAL_BATCH + WAL_MARK, 5}, {0, 0}}, ERROR_CORRUPT}, /* no such kind */
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct body *body = body_new(cases[i].first, cases[i].last);
        int error;

        for (size_t j = 0; j < 2 && cases[i].entries[j].kind != 0; j++)
            add_entry(body, cases[i].entries[j].kind, cases[i].entries[j].first, 3, 3);
        error = check_body(body);
        if (error != cases[i].error)
            fail_msg("case %zu: %d", i, error);
    }
}

static void an_entry_is_as_long_as_it_says(void **state)
{
    static const uint32_t said[] = {2, 4, UINT32_MAX};

    (void)state;
    for (size_t i = 0; i < sizeof said / sizeof *said; i++) {
        struct body *body = body_new(5, 9);

        add_entry(body, WAL_BATCH, 5, 3, said[i]);
        assert_int_equal(check_body(body), ERROR_CORRUPT);
    }
}

static void a_body_has_the_size_that_its_header_says(void **state)
{
    struct wal_group_header header = good_header();
    uint8_t *bytes = malloc(WAL_ENTRY_HEADER_SIZE);

    (void)state;
    assert_non_null(bytes);
    memset(bytes, 0, WAL_ENTRY_HEADER_SIZE);
    bytes[0] = WAL_BATCH;
    put_le64(bytes + 5, 5);
    header.piece_count = 0;
    header.entries_size = header.body_size = WAL_ENTRY_HEADER_SIZE;
    assert_int_equal(wal_group_body_check(&header, slice_of(bytes, WAL_ENTRY_HEADER_SIZE)), 0);
    /* The bytes behind are there, but they are not of this body. */
    assert_int_equal(wal_group_body_check(&header, slice_of(bytes, WAL_ENTRY_HEADER_SIZE - 1)),
                     ERROR_CORRUPT);
    free(bytes);
}

/* ---- a segment ---- */

static int ignore_piece(void *context, const struct blob_piece *piece)
{
    (void)context;
    (void)piece;
    return 0;
}

static int count_entry(void *context, const struct wal_replay_entry *entry)
{
    (void)entry;
    ++*(int *)context;
    return 0;
}

/* A file with one group of one entry; everything is right but, perhaps, the entry's kind. */
static int replay_entry_of_kind(uint8_t kind, int *ret_entries)
{
    struct wal_replay_callbacks callbacks = {ignore_piece, count_entry, ret_entries};
    struct wal_segment_header segment = {.number = SEGMENT, .salt = 99};
    struct wal_group_header header = {.segment = SEGMENT,
                                      .offset = WAL_FIRST_GROUP_OFFSET,
                                      .body_size = WAL_ENTRY_HEADER_SIZE,
                                      .entries_size = WAL_ENTRY_HEADER_SIZE,
                                      .first_sequence = 5,
                                      .last_sequence = 5};
    uint8_t *file = calloc(1, WAL_SEGMENT_SIZE_MIN), *body;
    struct wal_replay_result result;
    char name[WAL_NAME_SIZE], *path;
    struct io_fixture disk;
    int error;

    assert_non_null(file);
    memcpy(segment.store_uuid, store_uuid, STORE_UUID_SIZE);
    wal_segment_header_encode(file, &segment);
    body = file + WAL_FIRST_GROUP_OFFSET + WAL_GROUP_HEADER_SIZE;
    body[0] = kind;
    put_le64(body + 5, 5);
    header.body_checksum = checksum64_seeded(body, WAL_ENTRY_HEADER_SIZE, segment.seed);
    wal_group_header_encode(file + WAL_FIRST_GROUP_OFFSET, &header, segment.seed);
    assert_int_equal(io_fixture_open(&disk, IO_BACKEND_SYNC), 0);
    wal_segment_name(name, SEGMENT);
    path = test_path(disk.path, name);
    test_file_write(path, file, WAL_SEGMENT_SIZE_MIN);
    error = wal_replay(disk.io, disk.root, store_uuid, SEGMENT, false, &callbacks, &result);
    io_fixture_close(&disk);
    free(path);
    free(file);
    return error;
}

static void a_group_whose_checksums_are_right_and_whose_body_is_not_is_corruption(void **state)
{
    int entries = 0;

    (void)state;
    assert_int_equal(replay_entry_of_kind(WAL_BATCH, &entries), 0);
    assert_int_equal(entries, 1);
    assert_int_equal(replay_entry_of_kind(WAL_MARK, &entries), 0);
    assert_int_equal(entries, 2);
    assert_int_equal(replay_entry_of_kind(77, &entries), ERROR_CORRUPT);
    assert_int_equal(entries, 2);
}

/* ---- names ---- */

static void a_name_with_any_other_byte_is_none(void **state)
{
    char name[WAL_NAME_SIZE];
    uint64_t number;

    (void)state;
    wal_segment_name(name, UINT64_C(0x0123456789abcdef));
    assert_true(wal_segment_name_parse(name, &number));
    assert_int_equal(number, UINT64_C(0x0123456789abcdef));
    for (size_t i = 0; i < strlen(name); i++) {
        char other[WAL_NAME_SIZE];

        strcpy(other, name);
        other[i] = 'X';
        assert_false(wal_segment_name_parse(other, &number));
        other[i] = '\0';
        assert_false(wal_segment_name_parse(other, &number));
    }
    strcat(name, "x");
    assert_false(wal_segment_name_parse(name, &number));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_segment_header_is_refused_for_each_field_alone),
        cmocka_unit_test(the_limits_of_a_group_header_are_taken_and_what_is_beyond_is_not),
        cmocka_unit_test(no_group_begins_before_the_place_of_the_first),
        cmocka_unit_test(a_group_for_another_place_is_none),
        cmocka_unit_test(pieces_are_refused_for_each_field_alone),
        cmocka_unit_test(a_piece_or_an_entry_cut_short_is_refused),
        cmocka_unit_test(there_are_as_many_pieces_as_the_header_says),
        cmocka_unit_test(entries_are_refused_for_each_rule_alone),
        cmocka_unit_test(an_entry_is_as_long_as_it_says),
        cmocka_unit_test(a_body_has_the_size_that_its_header_says),
        cmocka_unit_test(a_group_whose_checksums_are_right_and_whose_body_is_not_is_corruption),
        cmocka_unit_test(a_name_with_any_other_byte_is_none),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
