/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_wal.c - tests of engine/wal.h and engine/wal_format.h
 */
#include "engine/wal.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "engine/base/checksum.h"
#include "engine/base/endian.h"
#include "engine/base/error.h"
#include "engine/wal_format.h"
#include "tests/lib/fault_io.h"
#include "tests/lib/io_fixture.h"
#include "tests/lib/seed.h"
#include "tests/lib/test_fault_io.h"

#define SEGMENT_SIZE (64 * 1024)

static const uint8_t uuid[STORE_UUID_SIZE] = "the store's uuid";

/* ---- a log, and what a replay of it gives ---- */

struct fixture {
    struct io_fixture disk;
    struct fault_io *fault;
    struct io *io; /* the faulty one */
    uint64_t segment_size;
    uint32_t spares_max;
};

static void fixture_open(struct fixture *fixture)
{
    *fixture = (struct fixture){.segment_size = SEGMENT_SIZE, .spares_max = 2};
    assert_int_equal(io_fixture_open(&fixture->disk, IO_BACKEND_SYNC), 0);
    fixture->fault = fault_io_new(fixture->disk.io);
    fixture->io = fault_io_get(fixture->fault);
}

static void fixture_close(struct fixture *fixture)
{
    fault_io_free(fixture->fault);
    io_fixture_close(&fixture->disk);
}

static int open_wal_with(struct fixture *fixture, struct io *io, uint64_t first_segment,
                         struct wal **ret_wal)
{
    struct wal_options options = {
        .io = io,
        .directory = fixture->disk.root,
        .store_uuid = uuid,
        .segment_size_bytes = fixture->segment_size,
        .spares_max = fixture->spares_max,
    };

    return wal_open(&options, first_segment, ret_wal);
}

static struct wal *open_wal(struct fixture *fixture, uint64_t first_segment)
{
    struct wal *wal;

    assert_int_equal(open_wal_with(fixture, fixture->io, first_segment, &wal), 0);
    return wal;
}

/* The bytes of an entry follow from its number and its size. */
static void fill_bytes(uint8_t *to, size_t size, uint64_t number)
{
    uint64_t state = number;

    for (size_t i = 0; i < size; i++) {
        if (i % 8 == 0)
            seed_next(&state);
        to[i] = (uint8_t)(state >> (i % 8 * 8));
    }
}

/* One entry with `sequence`; `pieces` may be NULL. */
static int write_entry(struct wal *wal, enum wal_entry_kind kind, uint64_t sequence, size_t size,
                       bool sync)
{
    struct buffer entries = {0};
    uint8_t *bytes = malloc(size + 1);
    struct wal_group group = {.first_sequence = sequence, .last_sequence = sequence};
    int error;

    fill_bytes(bytes, size, sequence);
    assert_int_equal(wal_entry_append(&entries, kind, sequence, slice_of(bytes, size)), 0);
    group.entries = buffer_slice(&entries);
    error = wal_write_group(wal, &group, sync);
    buffer_free(&entries);
    free(bytes);
    return error;
}

static int write_batch(struct wal *wal, uint64_t sequence, size_t size, bool sync)
{
    return write_entry(wal, WAL_BATCH, sequence, size, sync);
}

struct seen {
    uint64_t first, next; /* sequence numbers of the entries seen */
    uint64_t marks;
    uint64_t pieces, piece_bytes;
    uint64_t fail_at; /* an entry's number: the callback returns -ECANCELED there */
    bool piece_after_entry_of_group;
};

static int see_piece(void *context, const struct blob_piece *piece)
{
    struct seen *seen = context;
    uint8_t *expected = malloc(piece->size);

    fill_bytes(expected, piece->size, piece->chunk_id ^ piece->position);
    assert_memory_equal(piece->data, expected, piece->size);
    free(expected);
    seen->pieces++;
    seen->piece_bytes += piece->size;
    return 0;
}

static int see_entry(void *context, const struct wal_replay_entry *entry)
{
    struct seen *seen = context;
    uint8_t *expected = malloc(entry->bytes.size + 1);

    if (seen->fail_at != 0 && entry->first_sequence == seen->fail_at) {
        free(expected);
        return -ECANCELED;
    }
    if (seen->first == 0)
        seen->first = seen->next = entry->first_sequence;
    assert_int_equal(entry->first_sequence, seen->next);
    fill_bytes(expected, entry->bytes.size, entry->first_sequence);
    assert_memory_equal(entry->bytes.data, expected, entry->bytes.size);
    free(expected);
    seen->next = entry->first_sequence + 1;
    seen->marks += entry->kind == WAL_MARK;
    return 0;
}

static int replay(struct fixture *fixture, uint64_t first_segment, struct seen *seen,
                  struct wal_replay_result *ret_result)
{
    struct wal_replay_callbacks callbacks = {see_piece, see_entry, seen};

    return wal_replay(fixture->io, fixture->disk.root, uuid, first_segment, &callbacks, ret_result);
}

/* Replay everything; what must be found is entries first .. next - 1. */
static void assert_replays(struct fixture *fixture, uint64_t first_segment, uint64_t first,
                           uint64_t next)
{
    struct wal_replay_result result;
    struct seen seen = {0};

    assert_int_equal(replay(fixture, first_segment, &seen, &result), 0);
    assert_int_equal(result.entries, next - first);
    if (next > first) {
        assert_int_equal(seen.first, first);
        assert_int_equal(seen.next, next);
        assert_int_equal(result.last_sequence, next - 1);
    }
}

static int replay_error(struct fixture *fixture, uint64_t first_segment)
{
    struct wal_replay_result result;
    struct seen seen = {0};

    return replay(fixture, first_segment, &seen, &result);
}

/* ---- segment files, seen from outside ---- */

static char *segment_path(struct fixture *fixture, uint64_t number)
{
    char name[WAL_NAME_SIZE];

    wal_segment_name(name, number);
    return test_path(fixture->disk.path, name);
}

static uint8_t *segment_read(struct fixture *fixture, uint64_t number, size_t *ret_size)
{
    char *path = segment_path(fixture, number);
    uint8_t *data = test_file_read(path, ret_size);

    free(path);
    return data;
}

static void segment_write(struct fixture *fixture, uint64_t number, const void *data, size_t size)
{
    char *path = segment_path(fixture, number);

    test_file_write(path, data, size);
    free(path);
}

static bool segment_exists(struct fixture *fixture, uint64_t number)
{
    char name[WAL_NAME_SIZE];
    struct stat status;

    wal_segment_name(name, number);
    return io_stat_at(fixture->disk.io, fixture->disk.root, name, &status) == 0;
}

static struct wal_statistics statistics_of(struct wal *wal)
{
    struct wal_statistics statistics;

    wal_get_statistics(wal, &statistics);
    assert_true(statistics.durable_offset <= statistics.written_offset);
    return statistics;
}

/* ---- writing and replaying ---- */

static void what_was_written_replays_in_order(void **state)
{
    struct wal_replay_result result;
    struct fixture fixture;
    struct seen seen = {0};
    uint64_t random = seed_start("what_was_written_replays_in_order");
    uint64_t sequence = 7, pieces = 0, marks = 0;
    struct wal *wal;

    (void)state;
    fixture_open(&fixture);
    wal = open_wal(&fixture, 3);
    for (int i = 0; i < 300; i++) {
        struct buffer entries = {0};
        struct blob_piece piece[2];
        uint8_t data[2][700], bytes[2000];
        struct wal_group group = {.pieces = piece, .first_sequence = sequence};
        uint64_t count = seed_below(&random, 4);

        group.piece_count = seed_below(&random, 3);
        for (size_t k = 0; k < group.piece_count; k++) {
            piece[k] = (struct blob_piece){
                .chunk_id = seed_below(&random, 9),
                .position = seed_next(&random) >> 2,
                .size = (uint32_t)(1 + seed_below(&random, sizeof data[k])),
                .data = data[k],
            };
            fill_bytes(data[k], piece[k].size, piece[k].chunk_id ^ piece[k].position);
        }
        for (uint64_t k = 0; k < count; k++) {
            bool is_mark = seed_below(&random, 5) == 0;
            size_t size = seed_below(&random, sizeof bytes);

            fill_bytes(bytes, size, sequence);
            assert_int_equal(wal_entry_append(&entries, is_mark ? WAL_MARK : WAL_BATCH, sequence++,
                                              slice_of(bytes, size)),
                             0);
            marks += is_mark;
        }
        group.last_sequence = sequence - 1;
        group.entries = buffer_slice(&entries);
        assert_int_equal(wal_write_group(wal, &group, seed_below(&random, 2) == 0), 0);
        pieces += group.piece_count;
        (void)statistics_of(wal);
        if (seed_below(&random, 50) == 0)
            assert_int_equal(wal_prepare_spare(wal), 0);
        buffer_free(&entries);
    }
    assert_true(statistics_of(wal).segment > 5);
    wal_close(wal);

    assert_int_equal(replay(&fixture, 3, &seen, &result), 0);
    assert_int_equal(result.groups, 300);
    assert_int_equal(seen.first, 7);
    assert_int_equal(seen.next, sequence);
    assert_int_equal(result.last_sequence, sequence - 1);
    assert_int_equal(seen.marks, marks);
    assert_int_equal(seen.pieces, pieces);
    assert_false(result.torn);
    fixture_close(&fixture);
}

static void an_empty_log_replays_to_nothing(void **state)
{
    struct wal_replay_result result;
    struct fixture fixture;
    struct seen seen = {0};

    (void)state;
    fixture_open(&fixture);
    assert_int_equal(replay(&fixture, 1, &seen, &result), 0);
    assert_int_equal(result.highest_segment, 0);
    assert_int_equal(result.last_sequence, 0);
    wal_close(open_wal(&fixture, 5));
    assert_int_equal(replay(&fixture, 1, &seen, &result), 0);
    assert_int_equal(result.highest_segment, 5);
    assert_int_equal(result.groups, 0);
    assert_false(result.torn);
    fixture_close(&fixture);
}

static void a_group_larger_than_a_segment_gets_one_that_fits(void **state)
{
    struct fixture fixture;
    struct wal *wal;

    (void)state;
    fixture_open(&fixture);
    wal = open_wal(&fixture, 1);
    assert_int_equal(write_batch(wal, 1, 100, true), 0);
    assert_int_equal(write_batch(wal, 2, 5 * SEGMENT_SIZE + 77, true), 0);
    assert_int_equal(write_batch(wal, 3, 100, true), 0);
    assert_int_equal(statistics_of(wal).segment, 3);
    wal_close(wal);
    assert_replays(&fixture, 1, 1, 4);
    fixture_close(&fixture);
}

static void a_roll_names_the_segment_of_the_next_group(void **state)
{
    struct fixture fixture;
    uint64_t segment, again;
    struct wal *wal;

    (void)state;
    fixture_open(&fixture);
    wal = open_wal(&fixture, 1);
    assert_int_equal(wal_roll(wal, &segment), 0);
    assert_int_equal(segment, 1); /* nothing is in it yet */
    assert_int_equal(write_batch(wal, 1, 10, false), 0);
    assert_int_equal(wal_roll(wal, &segment), 0);
    assert_int_equal(segment, 2);
    assert_int_equal(wal_prepare_spare(wal), 0);
    assert_int_equal(wal_roll(wal, &again), 0);
    assert_int_equal(again, segment);
    assert_int_equal(write_batch(wal, 2, 10, false), 0);
    assert_int_equal(statistics_of(wal).segment, segment);
    wal_close(wal);
    assert_replays(&fixture, segment, 2, 3);
    fixture_close(&fixture);
}

static void the_segment_before_is_synced_before_the_next_is_used(void **state)
{
    struct fixture fixture;
    uint64_t syncs, segment;
    struct wal *wal;

    (void)state;
    fixture_open(&fixture);
    wal = open_wal(&fixture, 1);
    assert_int_equal(wal_prepare_spare(wal), 0);
    assert_int_equal(write_batch(wal, 1, 10, false), 0);
    assert_int_equal(wal_roll(wal, &segment), 0);
    syncs = fault_io_count(fixture.fault, FAULT_SYNC);
    assert_int_equal(write_batch(wal, 2, 10, false), 0);
    assert_int_equal(fault_io_count(fixture.fault, FAULT_SYNC), syncs + 1);
    wal_close(wal);
    fixture_close(&fixture);
}

static void r03_what_is_durable_is_not_synced_again_nor_retired_twice(void **state)
{
    struct fixture fixture;
    uint64_t syncs, unlinks, segment;
    struct wal *wal;

    (void)state;
    fixture_open(&fixture);
    fixture.spares_max = 0;
    wal = open_wal(&fixture, 1);
    assert_int_equal(write_batch(wal, 1, 10, true), 0);
    syncs = fault_io_count(fixture.fault, FAULT_SYNC);
    assert_int_equal(wal_sync(wal), 0);
    assert_int_equal(wal_sync(wal), 0);
    assert_int_equal(fault_io_count(fixture.fault, FAULT_SYNC), syncs);

    assert_int_equal(wal_roll(wal, &segment), 0);
    assert_int_equal(wal_retire(wal, segment), 0);
    unlinks = fault_io_count(fixture.fault, FAULT_UNLINK);
    assert_int_equal(unlinks, 1);
    assert_int_equal(wal_retire(wal, segment), 0);
    assert_int_equal(fault_io_count(fixture.fault, FAULT_UNLINK), unlinks);
    wal_close(wal);
    fixture_close(&fixture);
}

/* ---- limits ---- */

static void r02_what_would_wrap_is_an_error(void **state)
{
    struct blob_piece pieces[5];
    struct wal_group group = {.pieces = pieces, .piece_count = 5, .first_sequence = 1};
    struct wal_group_header header = {.segment = 9,
                                      .offset = 4096,
                                      .durable_offset = 4096,
                                      .first_sequence = 5,
                                      .last_sequence = 4};
    struct wal_group_header decoded;
    uint8_t bytes[WAL_GROUP_HEADER_SIZE];
    struct fixture fixture;
    struct wal *wal, *none = NULL;
    uint64_t segment, size;

    (void)state;
    fixture_open(&fixture);
    fixture.segment_size = UINT64_MAX - 4095;
    assert_int_equal(open_wal_with(&fixture, fixture.io, 1, &none), -EINVAL);
    fixture.segment_size = WAL_SEGMENT_SIZE_MIN - 4096;
    assert_int_equal(open_wal_with(&fixture, fixture.io, 1, &none), -EINVAL);
    fixture.segment_size = SEGMENT_SIZE + 1;
    assert_int_equal(open_wal_with(&fixture, fixture.io, 1, &none), -EINVAL);
    fixture.segment_size = SEGMENT_SIZE;
    assert_int_equal(open_wal_with(&fixture, fixture.io, 0, &none), -EINVAL);
    assert_int_equal(open_wal_with(&fixture, fixture.io, UINT64_MAX, &none), -EOVERFLOW);
    assert_null(none);

    /* Numbers run out: an error at the next segment, not a number used again. */
    wal = open_wal(&fixture, UINT64_MAX - 1);
    assert_int_equal(write_batch(wal, 1, 10, true), 0);
    assert_int_equal(wal_roll(wal, &segment), 0);
    assert_int_equal(write_batch(wal, 2, 10, true), -EOVERFLOW);
    wal_close(wal);

    for (int i = 0; i < 5; i++)
        pieces[i] = (struct blob_piece){.size = UINT32_MAX, .data = bytes};
    assert_int_equal(wal_group_body_size(&group, &size), -EFBIG);
    group.piece_count = SIZE_MAX;
    assert_int_equal(wal_group_body_size(&group, &size), -EFBIG);
    group = (struct wal_group){.entries = {bytes, SIZE_MAX}};
    assert_int_equal(wal_group_body_size(&group, &size), -EFBIG);

    /* Headers that say so themselves, with the right checksum. */
    wal_group_header_encode(bytes, &header, 1);
    assert_true(wal_group_header_decode(bytes, 1, 9, 4096, &decoded));
    assert_false(wal_group_header_decode(bytes, 2, 9, 4096, &decoded));
    assert_false(wal_group_header_decode(bytes, 1, 8, 4096, &decoded));
    assert_false(wal_group_header_decode(bytes, 1, 9, 4160, &decoded));
#define ASSERT_REFUSED(field, value)                                                               \
    do {                                                                                           \
        struct wal_group_header hostile = header;                                                  \
                                                                                                   \
        hostile.field = (value);                                                                   \
        wal_group_header_encode(bytes, &hostile, 1);                                               \
        assert_false(wal_group_header_decode(bytes, 1, 9, 4096, &decoded));                        \
    } while (0)
    ASSERT_REFUSED(body_size, UINT64_MAX - 8);
    ASSERT_REFUSED(entries_size, 1);
    ASSERT_REFUSED(durable_offset, 4097);
    ASSERT_REFUSED(previous_segment, 9);
    ASSERT_REFUSED(last_sequence, UINT64_MAX);
    ASSERT_REFUSED(first_sequence, 0);
    ASSERT_REFUSED(first_sequence, 6);
    fixture_close(&fixture);
}

static void malformed_bodies_are_refused(void **state)
{
    struct wal_group_header header = {.first_sequence = 5, .last_sequence = 6};
    struct buffer body = {0};

    (void)state;
    assert_int_equal(wal_entry_append(&body, WAL_MARK, 5, slice_of_string("mark")), 0);
    assert_int_equal(wal_entry_append(&body, WAL_BATCH, 6, slice_of_string("batch")), 0);
    header.body_size = header.entries_size = body.size;
    assert_int_equal(wal_group_body_check(&header, buffer_slice(&body)), 0);

    header.last_sequence = 5; /* an entry beyond it */
    assert_int_equal(wal_group_body_check(&header, buffer_slice(&body)), ERROR_CORRUPT);
    header.last_sequence = 6;
    header.first_sequence = 4; /* the first entry is not it */
    assert_int_equal(wal_group_body_check(&header, buffer_slice(&body)), ERROR_CORRUPT);
    header.first_sequence = 5;
    header.piece_count = 1;
    assert_int_equal(wal_group_body_check(&header, buffer_slice(&body)), ERROR_CORRUPT);
    header.piece_count = 0;
    body.data[0] = 9; /* no such kind */
    assert_int_equal(wal_group_body_check(&header, buffer_slice(&body)), ERROR_CORRUPT);
    body.data[0] = WAL_MARK;
    put_le64(body.data + 5 + 13 + 4, 7); /* a mark takes one number */
    header.last_sequence = 8;
    assert_int_equal(wal_group_body_check(&header, buffer_slice(&body)), ERROR_CORRUPT);
    put_le64(body.data + 5 + 13 + 4, 6);
    header.last_sequence = 6;
    put_le32(body.data + 1, UINT32_MAX); /* longer than the body */
    assert_int_equal(wal_group_body_check(&header, buffer_slice(&body)), ERROR_CORRUPT);
    buffer_free(&body);
}

/* ---- segments used again ---- */

/* Fill segments, retire them as they fill, so that the log goes round in few files. */
static void write_round(struct wal *wal, uint64_t *sequence, int count)
{
    for (int i = 0; i < count; i++)
        assert_int_equal(write_batch(wal, (*sequence)++, 3000, i % 3 == 0), 0);
}

static void what_a_recycled_segment_held_is_never_replayed(void **state)
{
    struct fixture fixture;
    uint64_t sequence = 1, segment = 1, first = 1;
    struct wal *wal;

    (void)state;
    fixture_open(&fixture);
    wal = open_wal(&fixture, 1);
    for (int round = 0; round < 12; round++) {
        first = sequence;
        assert_int_equal(wal_roll(wal, &segment), 0);
        /* Fewer each time: the tail of a segment is what its former use left. */
        write_round(wal, &sequence, 40 - 3 * round);
        assert_replays(&fixture, segment, first, sequence);
        assert_int_equal(wal_retire(wal, segment), 0);
        assert_int_equal(wal_prepare_spare(wal), 0);
        assert_replays(&fixture, segment, first, sequence);
    }
    assert_true(statistics_of(wal).segments_recycled > 5);
    wal_close(wal);
    assert_replays(&fixture, segment, first, sequence);
    fixture_close(&fixture);
}

static void a_segment_that_somebody_linked_is_not_recycled(void **state)
{
    struct fixture fixture;
    uint64_t sequence = 1, segment;
    size_t size, size_after;
    uint8_t *before, *after;
    char *path;
    struct wal *wal;

    (void)state;
    fixture_open(&fixture);
    wal = open_wal(&fixture, 1);
    write_round(wal, &sequence, 3);
    assert_int_equal(io_link(fixture.disk.io, fixture.disk.root, "0000000000000001.wal",
                             fixture.disk.root, "kept"),
                     0);
    path = test_path(fixture.disk.path, "kept");
    before = test_file_read(path, &size);
    assert_int_equal(wal_roll(wal, &segment), 0);
    assert_int_equal(wal_retire(wal, segment), 0);
    write_round(wal, &sequence, 30);
    assert_int_equal(statistics_of(wal).segments_recycled, 0);
    assert_false(segment_exists(&fixture, 1));
    after = test_file_read(path, &size_after);
    assert_int_equal(size, size_after);
    assert_memory_equal(before, after, size);
    wal_close(wal);
    free(before);
    free(after);
    free(path);
    fixture_close(&fixture);
}

static void spares_are_bounded(void **state)
{
    struct fixture fixture;
    uint64_t sequence = 1, segment;
    int count = 0;
    struct wal *wal;

    (void)state;
    fixture_open(&fixture);
    wal = open_wal(&fixture, 1);
    write_round(wal, &sequence, 200);
    assert_int_equal(wal_roll(wal, &segment), 0);
    assert_int_equal(wal_retire(wal, segment), 0);
    for (uint64_t i = 1; i <= segment; i++)
        count += segment_exists(&fixture, i);
    assert_int_equal(count, fixture.spares_max);
    /* The log goes on although its current segment is gone. */
    write_round(wal, &sequence, 1);
    wal_close(wal);
    assert_replays(&fixture, segment, sequence - 1, sequence);
    fixture_close(&fixture);
}

static void half_prepared_segments_are_ignored(void **state)
{
    uint8_t zeros[8192] = {0};
    struct fixture fixture;
    uint8_t *image;
    size_t size;
    struct wal *wal;

    (void)state;
    fixture_open(&fixture);
    wal = open_wal(&fixture, 1);
    assert_int_equal(write_batch(wal, 1, 5000, true), 0);
    wal_close(wal);
    segment_write(&fixture, 2, zeros, 0);
    segment_write(&fixture, 3, zeros, 100);
    segment_write(&fixture, 4, zeros, sizeof zeros);
    /* Renamed for reuse before the header was written. */
    image = segment_read(&fixture, 1, &size);
    segment_write(&fixture, 5, image, size);
    segment_write(&fixture, 6, image, 4096);
    assert_replays(&fixture, 1, 1, 2);
    /* But a header from the future of its place is damage. */
    segment_write(&fixture, 0x10, zeros, 0);
    free(image);
    wal = open_wal(&fixture, 0x11);
    wal_close(wal);
    image = segment_read(&fixture, 0x11, &size);
    segment_write(&fixture, 0x10, image, size);
    assert_int_equal(replay_error(&fixture, 1), ERROR_CORRUPT);
    free(image);
    fixture_close(&fixture);
}

/* ---- torn tails and damage ---- */

#define TORN_GROUPS 5

/* Groups 1 .. TORN_GROUPS, all synced, then one of 5,000 bytes that the disk tore: each 512-byte
 * sector of it is there or not. */
static void torn_tail(bool from_front)
{
    struct fixture fixture;
    size_t size, size_before;
    uint8_t *before, *after, *torn;
    uint64_t end;
    struct wal *wal;

    fixture_open(&fixture);
    wal = open_wal(&fixture, 1);
    for (uint64_t i = 1; i <= TORN_GROUPS; i++)
        assert_int_equal(write_batch(wal, i, 333, true), 0);
    before = segment_read(&fixture, 1, &size_before);
    assert_int_equal(write_batch(wal, TORN_GROUPS + 1, 5000, true), 0);
    end = statistics_of(wal).written_offset;
    wal_close(wal);
    after = segment_read(&fixture, 1, &size);
    assert_int_equal(size, size_before);
    torn = malloc(size);
    for (size_t cut = 0; cut <= size; cut += 512) {
        bool is_whole;

        if (from_front) {
            memcpy(torn, after, cut);
            memcpy(torn + cut, before + cut, size - cut);
        } else {
            memcpy(torn, before, cut);
            memcpy(torn + cut, after + cut, size - cut);
        }
        is_whole = memcmp(torn, after, end) == 0;
        segment_write(&fixture, 1, torn, size);
        assert_replays(&fixture, 1, 1, TORN_GROUPS + 1 + is_whole);
    }
    free(torn);
    free(before);
    free(after);
    fixture_close(&fixture);
}

static void a_torn_tail_ends_the_log_at_every_cut(void **state)
{
    (void)state;
    torn_tail(true);
}

static void a_tail_torn_in_front_ends_the_log_at_every_cut(void **state)
{
    (void)state;
    torn_tail(false);
}

static void a_shortened_segment_ends_the_log(void **state)
{
    struct wal_replay_result result;
    struct fixture fixture;
    struct seen seen = {0};
    size_t size;
    uint8_t *image;
    struct wal *wal;

    (void)state;
    fixture_open(&fixture);
    wal = open_wal(&fixture, 1);
    assert_int_equal(write_batch(wal, 1, 100, true), 0);
    assert_int_equal(write_batch(wal, 2, 9000, true), 0);
    wal_close(wal);
    image = segment_read(&fixture, 1, &size);
    segment_write(&fixture, 1, image, 8192 + 77);
    assert_int_equal(replay(&fixture, 1, &seen, &result), 0);
    assert_int_equal(result.last_sequence, 1);
    assert_true(result.torn);
    free(image);
    fixture_close(&fixture);
}

static void unsynced_groups_may_be_lost_in_any_combination(void **state)
{
    uint64_t offsets[6];
    struct fixture fixture;
    size_t size;
    uint8_t *image, *damaged;
    struct wal *wal;

    (void)state;
    fixture_open(&fixture);
    wal = open_wal(&fixture, 1);
    assert_int_equal(write_batch(wal, 1, 200, true), 0);
    for (int i = 0; i < 5; i++) {
        offsets[i] = statistics_of(wal).written_offset;
        assert_int_equal(write_batch(wal, (uint64_t)i + 2, 200, false), 0);
    }
    offsets[5] = statistics_of(wal).written_offset;
    wal_close(wal);
    image = segment_read(&fixture, 1, &size);
    damaged = malloc(size);
    for (unsigned lost = 0; lost < 32; lost++) {
        uint64_t next = 2;

        memcpy(damaged, image, size);
        for (int i = 0; i < 5; i++) {
            if ((lost >> i & 1) != 0)
                memset(damaged + offsets[i], 0xee, offsets[i + 1] - offsets[i]);
        }
        while (next < 7 && (lost >> (next - 2) & 1) == 0)
            next++;
        segment_write(&fixture, 1, damaged, size);
        assert_replays(&fixture, 1, 1, next);
    }
    free(damaged);
    free(image);
    fixture_close(&fixture);
}

static void every_flipped_bit_is_seen_where_the_log_was_synced(void **state)
{
    enum { GROUPS = 3 };
    uint64_t last_offset = 0, end;
    struct fixture fixture;
    unsigned corrupt_count = 0, lost_count = 0;
    struct wal *wal;

    (void)state;
    fixture_open(&fixture);
    wal = open_wal(&fixture, 1);
    for (uint64_t i = 1; i <= GROUPS; i++) {
        last_offset = statistics_of(wal).written_offset;
        assert_int_equal(write_batch(wal, i, 20 * i, true), 0);
    }
    end = statistics_of(wal).written_offset;
    wal_close(wal);
    for (uint64_t at = 0; at < end; at++) {
        if (at == WAL_SEGMENT_HEADER_SIZE)
            at = WAL_FIRST_GROUP_OFFSET; /* nothing is between */
        for (int bit = 0; bit < 8; bit++) {
            struct wal_replay_result result;
            struct seen seen = {0};
            int error;

            fault_io_rot(fixture.fault, at, (uint8_t)(1 << bit));
            error = replay(&fixture, 1, &seen, &result);
            if (error < 0) {
                assert_int_equal(error, ERROR_CORRUPT);
                corrupt_count++;
            } else if (at >= last_offset && result.last_sequence == GROUPS - 1) {
                lost_count++; /* the last group: nothing says that it was synced */
            } else {
                assert_int_equal(result.last_sequence, GROUPS); /* padding */
            }
        }
    }
    assert_true(corrupt_count > (WAL_SEGMENT_HEADER_SIZE + (GROUPS - 1) * 96) * 8);
    assert_true(lost_count >= (96 + 13 + 20 * GROUPS) * 8);
    fixture_close(&fixture);
}

/* Turn a bit over in the file. */
static void damage(struct fixture *fixture, uint64_t segment, uint64_t offset)
{
    size_t size;
    uint8_t *image = segment_read(fixture, segment, &size);

    image[offset] ^= 1;
    segment_write(fixture, segment, image, size);
    free(image);
}

static void damage_in_a_segment_that_has_a_successor_is_corruption(void **state)
{
    struct fixture fixture;
    uint64_t offset, segment;
    struct wal *wal;

    (void)state;
    fixture_open(&fixture);
    wal = open_wal(&fixture, 1);
    assert_int_equal(write_batch(wal, 1, 100, false), 0);
    offset = statistics_of(wal).written_offset;
    assert_int_equal(write_batch(wal, 2, 100, false), 0);
    assert_int_equal(wal_roll(wal, &segment), 0);
    assert_int_equal(write_batch(wal, 3, 100, false), 0);
    assert_int_equal(write_batch(wal, 4, 100, false), 0);
    wal_close(wal);
    assert_replays(&fixture, 1, 1, 5);

    /* The successor's first group was not synced: without it the log ends before. */
    damage(&fixture, 2, WAL_FIRST_GROUP_OFFSET + 100);
    assert_replays(&fixture, 1, 1, 3);
    /* Nothing in segment 1 says that it was synced; that segment 2 was used does, and any group of
     * it is a witness. */
    damage(&fixture, 1, offset + 100);
    assert_int_equal(replay_error(&fixture, 1), ERROR_CORRUPT);
    damage(&fixture, 2, WAL_FIRST_GROUP_OFFSET + 100);
    assert_int_equal(replay_error(&fixture, 1), ERROR_CORRUPT);
    fixture_close(&fixture);
}

static void r44_missing_segments_and_sequence_gaps_are_corruption(void **state)
{
    struct fixture fixture;
    uint64_t sequence = 1, segment;
    char *path;
    struct wal *wal;

    (void)state;
    fixture_open(&fixture);
    wal = open_wal(&fixture, 1);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(wal_roll(wal, &segment), 0);
        write_round(wal, &sequence, 2);
    }
    wal_close(wal);
    assert_replays(&fixture, 1, 1, 7);
    path = segment_path(&fixture, 2);
    assert_int_equal(remove(path), 0);
    free(path);
    assert_int_equal(replay_error(&fixture, 1), ERROR_CORRUPT);
    assert_int_equal(replay_error(&fixture, 2), ERROR_CORRUPT);
    assert_replays(&fixture, 3, 5, 7);

    /* A gap between two starts: each is whole, the numbers do not continue. */
    assert_int_equal(wal_delete_below(fixture.disk.io, fixture.disk.root, fixture.disk.root, 3), 0);
    wal = open_wal(&fixture, 4);
    assert_int_equal(write_batch(wal, 8, 10, true), 0);
    wal_close(wal);
    assert_int_equal(replay_error(&fixture, 3), ERROR_CORRUPT);
    fixture_close(&fixture);
}

static void a_missing_segment_of_pieces_alone_is_corruption(void **state)
{
    uint8_t data[10];
    struct blob_piece piece = {.chunk_id = 1, .position = 4096, .size = sizeof data, .data = data};
    /* It takes no number, so only the link of the next segment can tell. */
    struct wal_group group = {
        .pieces = &piece, .piece_count = 1, .first_sequence = 2, .last_sequence = 1};
    struct fixture fixture;
    uint64_t segment;
    char *path;
    struct wal *wal;

    (void)state;
    fixture_open(&fixture);
    fill_bytes(data, sizeof data, piece.chunk_id ^ piece.position);
    wal = open_wal(&fixture, 1);
    assert_int_equal(write_batch(wal, 1, 10, false), 0);
    assert_int_equal(wal_roll(wal, &segment), 0);
    assert_int_equal(wal_write_group(wal, &group, true), 0);
    assert_int_equal(wal_roll(wal, &segment), 0);
    assert_int_equal(write_batch(wal, 2, 10, true), 0);
    wal_close(wal);
    assert_replays(&fixture, 1, 1, 3);
    path = segment_path(&fixture, 2);
    assert_int_equal(remove(path), 0);
    free(path);
    assert_int_equal(replay_error(&fixture, 1), ERROR_CORRUPT);
    fixture_close(&fixture);
}

static void a_new_start_continues_after_a_torn_tail(void **state)
{
    struct wal_replay_result result;
    struct fixture fixture;
    struct seen seen = {0};
    size_t size;
    uint8_t *image;
    struct wal *wal;

    (void)state;
    fixture_open(&fixture);
    wal = open_wal(&fixture, 1);
    assert_int_equal(write_batch(wal, 1, 100, true), 0);
    assert_int_equal(write_batch(wal, 2, 100, false), 0);
    wal_close(wal);
    image = segment_read(&fixture, 1, &size);
    image[4096 + 256 + 120] ^= 1;
    segment_write(&fixture, 1, image, size);
    free(image);
    assert_int_equal(replay(&fixture, 1, &seen, &result), 0);
    assert_int_equal(result.last_sequence, 1);
    assert_true(result.torn);

    wal = open_wal(&fixture, result.highest_segment + 1);
    assert_int_equal(write_batch(wal, 2, 100, true), 0);
    wal_close(wal);
    assert_replays(&fixture, 1, 1, 3);
    fixture_close(&fixture);
}

static void other_stores_and_newer_formats_are_told_apart(void **state)
{
    static const uint8_t other[STORE_UUID_SIZE] = "another store!!";
    struct wal_replay_callbacks callbacks = {see_piece, see_entry, NULL};
    struct wal_replay_result result;
    struct fixture fixture;
    size_t size;
    uint8_t *image;
    struct wal *wal;

    (void)state;
    fixture_open(&fixture);
    wal = open_wal(&fixture, 1);
    assert_int_equal(write_batch(wal, 1, 100, true), 0);
    wal_close(wal);
    assert_int_equal(wal_replay(fixture.disk.io, fixture.disk.root, other, 1, &callbacks, &result),
                     ERROR_FOREIGN);
    image = segment_read(&fixture, 1, &size);
    put_le32(image + 8, WAL_VERSION + 1);
    segment_write(&fixture, 1, image, size);
    assert_int_equal(replay_error(&fixture, 1), ERROR_CORRUPT); /* a damaged version field */
    put_le64(image + 120, checksum64(image, 120));
    segment_write(&fixture, 1, image, size);
    assert_int_equal(replay_error(&fixture, 1), ERROR_VERSION_NEWER);
    free(image);
    fixture_close(&fixture);
}

static void a_callback_ends_the_replay(void **state)
{
    struct wal_replay_result result;
    struct fixture fixture;
    struct seen seen = {.fail_at = 3};
    uint64_t sequence = 1;
    struct wal *wal;

    (void)state;
    fixture_open(&fixture);
    wal = open_wal(&fixture, 1);
    write_round(wal, &sequence, 5);
    wal_close(wal);
    assert_int_equal(replay(&fixture, 1, &seen, &result), -ECANCELED);
    assert_int_equal(seen.next, 3);
    fixture_close(&fixture);
}

static void segments_below_a_number_are_deleted_and_nothing_else(void **state)
{
    struct fixture fixture;
    char *stranger;

    (void)state;
    fixture_open(&fixture);
    stranger = test_path(fixture.disk.path, "0000000000000001.wal.bak");
    test_file_write(stranger, "x", 1);
    for (uint64_t i = 1; i < 8; i++)
        segment_write(&fixture, i * 0x11, "", 0);
    assert_int_equal(wal_delete_below(fixture.disk.io, fixture.disk.root, fixture.disk.root, 0x44), 0);
    for (uint64_t i = 1; i < 8; i++)
        assert_int_equal(segment_exists(&fixture, i * 0x11), i >= 4);
    assert_int_equal(remove(stranger), 0);
    free(stranger);
    fixture_close(&fixture);
}

/* ---- a disk that fails ---- */

static void r05_after_a_failed_write_nothing_acknowledged_is_lost(void **state)
{
    (void)state;
    for (uint64_t nth = 1; nth <= 8; nth++) {
        struct fixture fixture;
        uint64_t sequence = 1, writes;
        struct wal *wal;

        fixture_open(&fixture);
        wal = open_wal(&fixture, 1);
        fault_io_fail(fixture.fault, FAULT_WRITE, nth, -EIO, false);
        while (write_batch(wal, sequence, 700, true) == 0)
            sequence++;
        assert_int_equal(sequence, nth);
        /* The disk works again, the log does not: what it holds is not known any more. */
        writes = fault_io_count(fixture.fault, FAULT_WRITE);
        assert_int_equal(write_batch(wal, sequence, 700, true), -EIO);
        assert_int_equal(wal_sync(wal), -EIO);
        assert_int_equal(wal_prepare_spare(wal), -EIO);
        assert_int_equal(fault_io_count(fixture.fault, FAULT_WRITE), writes);
        wal_close(wal);
        assert_replays(&fixture, 1, 1, sequence);
        fixture_close(&fixture);
    }
}

static void a_failed_sync_is_kept_and_never_tried_again(void **state)
{
    struct fixture fixture;
    uint64_t syncs;
    struct wal *wal;

    (void)state;
    fixture_open(&fixture);
    wal = open_wal(&fixture, 1);
    assert_int_equal(write_batch(wal, 1, 10, true), 0);
    fault_io_fail(fixture.fault, FAULT_SYNC, 1, -EIO, false);
    assert_int_equal(write_batch(wal, 2, 10, true), -EIO);
    syncs = fault_io_count(fixture.fault, FAULT_SYNC);
    assert_int_equal(wal_sync(wal), -EIO);
    assert_int_equal(write_batch(wal, 3, 10, true), -EIO);
    assert_int_equal(fault_io_count(fixture.fault, FAULT_SYNC), syncs);
    assert_true(statistics_of(wal).durable_offset < statistics_of(wal).written_offset);
    wal_close(wal);
    fixture_close(&fixture);
}

static void a_failed_sync_of_a_new_segment_is_kept_too(void **state)
{
    (void)state;
    for (uint64_t nth = 1; nth <= 2; nth++) { /* the file, the directory */
        struct fixture fixture;
        uint64_t syncs;
        struct wal *wal;

        fixture_open(&fixture);
        wal = open_wal(&fixture, 1);
        fault_io_fail(fixture.fault, FAULT_SYNC, nth, -EIO, false);
        assert_int_equal(wal_prepare_spare(wal), -EIO);
        syncs = fault_io_count(fixture.fault, FAULT_SYNC);
        assert_int_equal(wal_prepare_spare(wal), -EIO);
        assert_int_equal(write_batch(wal, 1, 10, true), -EIO);
        assert_int_equal(fault_io_count(fixture.fault, FAULT_SYNC), syncs);
        assert_false(segment_exists(&fixture, 2));
        wal_close(wal);
        fixture_close(&fixture);
    }
}

static void without_space_for_a_segment_the_group_can_be_written_later(void **state)
{
    struct fixture fixture;
    uint64_t segment;
    struct wal *wal;

    (void)state;
    fixture_open(&fixture);
    wal = open_wal(&fixture, 1);
    assert_int_equal(write_batch(wal, 1, 10, true), 0);
    assert_int_equal(wal_roll(wal, &segment), 0);
    fault_io_fail(fixture.fault, FAULT_WRITE, 1, -ENOSPC, true);
    assert_int_equal(wal_prepare_spare(wal), -ENOSPC);
    assert_int_equal(write_batch(wal, 2, 10, true), -ENOSPC);
    assert_int_equal(write_batch(wal, 2, 10, true), -ENOSPC);
    fault_io_clear(fixture.fault, FAULT_WRITE);
    assert_int_equal(write_batch(wal, 2, 10, true), 0);
    assert_true(statistics_of(wal).segment >= segment);
    wal_close(wal);
    assert_replays(&fixture, 1, 1, 3);
    fixture_close(&fixture);
}

static void r15_cut_and_interrupted_transfers_are_continued(void **state)
{
    struct fixture fixture;
    uint64_t sequence = 1;
    struct wal *wal;

    (void)state;
    fixture_open(&fixture);
    wal = open_wal(&fixture, 1);
    fault_io_cut(fixture.fault, FAULT_WRITE, 1, 4096, true);
    write_round(wal, &sequence, 10);
    for (int i = 0; i < 4; i++) {
        fault_io_fail(fixture.fault, FAULT_WRITE, 1, i % 2 == 0 ? -EINTR : -EAGAIN, false);
        write_round(wal, &sequence, 1);
    }
    wal_close(wal);
    assert_replays(&fixture, 1, 1, sequence);
    fixture_close(&fixture);
}

/* Some of everything, until the disk says no; *acknowledged is the last number that was synced. */
static void run_until_failure(struct fixture *fixture, struct io *io, uint64_t *ret_acknowledged,
                              uint64_t *ret_first_segment)
{
    uint64_t sequence = 1, segment;
    struct wal *wal;

    if (open_wal_with(fixture, io, 1, &wal) < 0)
        return;
    for (int round = 0; round < 4; round++) {
        for (int i = 0; i < 5; i++) {
            if (write_batch(wal, sequence, 2500, i % 2 == 0) < 0)
                goto out;
            if (i % 2 == 0)
                *ret_acknowledged = sequence;
            sequence++;
        }
        if (wal_prepare_spare(wal) < 0 || wal_roll(wal, &segment) < 0)
            goto out;
        if (round == 1 || round == 2) {
            /* As if everything before were in tables: the segments go round. */
            if (write_batch(wal, sequence, 10, true) < 0)
                goto out;
            *ret_acknowledged = sequence++;
            *ret_first_segment = segment;
            if (wal_retire(wal, segment) < 0)
                goto out;
        }
    }
out:
    wal_close(wal);
}

static void a_crash_at_any_call_loses_nothing_acknowledged(void **state)
{
    uint64_t fail_at = 1;
    bool struck;

    (void)state;
    do {
        struct wal_replay_result result;
        struct test_fault_io fault;
        struct fixture fixture;
        struct seen seen = {0};
        uint64_t acknowledged = 0, first_segment = 1;

        fixture_open(&fixture);
        test_fault_io_init(&fault, fixture.disk.io);
        test_fault_io_arm(&fault, fail_at++, -EIO, true);
        run_until_failure(&fixture, &fault.io, &acknowledged, &first_segment);
        struck = test_fault_io_struck(&fault);
        assert_int_equal(replay(&fixture, first_segment, &seen, &result), 0);
        assert_true(result.last_sequence >= acknowledged);
        fixture_close(&fixture);
    } while (struck);
    assert_true(fail_at > 40);
}

/* ---- threads ---- */

struct preparer {
    struct wal *wal;
    bool must_stop;
};

static void *prepare_spares(void *argument)
{
    struct preparer *preparer = argument;

    while (!__atomic_load_n(&preparer->must_stop, __ATOMIC_RELAXED)) {
        struct wal_statistics statistics;

        if (wal_prepare_spare(preparer->wal) < 0)
            abort();
        wal_get_statistics(preparer->wal, &statistics);
    }
    return NULL;
}

static void spares_are_prepared_while_groups_are_written(void **state)
{
    struct fixture fixture;
    struct preparer preparer = {0};
    uint64_t sequence = 1, segment, first = 1;
    pthread_t thread;

    (void)state;
    fixture_open(&fixture);
    preparer.wal = open_wal(&fixture, 1);
    assert_int_equal(pthread_create(&thread, NULL, prepare_spares, &preparer), 0);
    for (int round = 0; round < 10; round++) {
        write_round(preparer.wal, &sequence, 30);
        assert_int_equal(wal_roll(preparer.wal, &segment), 0);
        first = sequence;
        write_round(preparer.wal, &sequence, 1);
        assert_int_equal(statistics_of(preparer.wal).segment, segment);
        assert_int_equal(wal_retire(preparer.wal, segment), 0);
    }
    __atomic_store_n(&preparer.must_stop, true, __ATOMIC_RELAXED);
    assert_int_equal(pthread_join(thread, NULL), 0);
    wal_close(preparer.wal);
    assert_replays(&fixture, segment, first, sequence);
    fixture_close(&fixture);
}

static void names_are_parsed_as_they_are_written(void **state)
{
    char name[WAL_NAME_SIZE];
    uint64_t number;

    (void)state;
    wal_segment_name(name, UINT64_C(0xfedcba9876543210));
    assert_string_equal(name, "fedcba9876543210.wal");
    assert_true(wal_segment_name_parse(name, &number));
    assert_int_equal(number, UINT64_C(0xfedcba9876543210));
    assert_false(wal_segment_name_parse("fedcba987654321.wal", &number));
    assert_false(wal_segment_name_parse("FEDCBA9876543210.wal", &number));
    assert_false(wal_segment_name_parse("fedcba9876543210.wal~", &number));
    assert_false(wal_segment_name_parse("", &number));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_written_replays_in_order),
        cmocka_unit_test(an_empty_log_replays_to_nothing),
        cmocka_unit_test(a_group_larger_than_a_segment_gets_one_that_fits),
        cmocka_unit_test(a_roll_names_the_segment_of_the_next_group),
        cmocka_unit_test(the_segment_before_is_synced_before_the_next_is_used),
        cmocka_unit_test(r03_what_is_durable_is_not_synced_again_nor_retired_twice),
        cmocka_unit_test(r02_what_would_wrap_is_an_error),
        cmocka_unit_test(malformed_bodies_are_refused),
        cmocka_unit_test(what_a_recycled_segment_held_is_never_replayed),
        cmocka_unit_test(a_segment_that_somebody_linked_is_not_recycled),
        cmocka_unit_test(spares_are_bounded),
        cmocka_unit_test(half_prepared_segments_are_ignored),
        cmocka_unit_test(a_torn_tail_ends_the_log_at_every_cut),
        cmocka_unit_test(a_tail_torn_in_front_ends_the_log_at_every_cut),
        cmocka_unit_test(a_shortened_segment_ends_the_log),
        cmocka_unit_test(unsynced_groups_may_be_lost_in_any_combination),
        cmocka_unit_test(every_flipped_bit_is_seen_where_the_log_was_synced),
        cmocka_unit_test(damage_in_a_segment_that_has_a_successor_is_corruption),
        cmocka_unit_test(r44_missing_segments_and_sequence_gaps_are_corruption),
        cmocka_unit_test(a_missing_segment_of_pieces_alone_is_corruption),
        cmocka_unit_test(a_new_start_continues_after_a_torn_tail),
        cmocka_unit_test(other_stores_and_newer_formats_are_told_apart),
        cmocka_unit_test(a_callback_ends_the_replay),
        cmocka_unit_test(segments_below_a_number_are_deleted_and_nothing_else),
        cmocka_unit_test(r05_after_a_failed_write_nothing_acknowledged_is_lost),
        cmocka_unit_test(a_failed_sync_is_kept_and_never_tried_again),
        cmocka_unit_test(a_failed_sync_of_a_new_segment_is_kept_too),
        cmocka_unit_test(without_space_for_a_segment_the_group_can_be_written_later),
        cmocka_unit_test(r15_cut_and_interrupted_transfers_are_continued),
        cmocka_unit_test(a_crash_at_any_call_loses_nothing_acknowledged),
        cmocka_unit_test(spares_are_prepared_while_groups_are_written),
        cmocka_unit_test(names_are_parsed_as_they_are_written),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
