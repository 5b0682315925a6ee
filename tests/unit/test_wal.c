/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_wal.c - tests of engine/wal.h and engine/wal_format.h: writing, limits, segments, threads
 */
#include <pthread.h>

#include "engine/base/checksum.h"
#include "engine/base/endian.h"
#include "tests/lib/fault_io.h"
#include "tests/lib/seed.h"
#include "tests/lib/wal_fixture.h"

/* ---- writing and replaying ---- */

static void what_was_written_replays_in_order(void **state)
{
    struct wal_replay_result result;
    struct wal_fixture fixture;
    struct wal_fixture_seen seen = {0};
    uint64_t random = seed_start("what_was_written_replays_in_order");
    uint64_t sequence = 7, pieces = 0, marks = 0;
    struct wal *wal;

    (void)state;
    wal_fixture_open(&fixture);
    wal = wal_fixture_log(&fixture, 3);
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
            wal_fixture_fill(data[k], piece[k].size, piece[k].chunk_id ^ piece[k].position);
        }
        for (uint64_t k = 0; k < count; k++) {
            bool is_mark = seed_below(&random, 5) == 0;
            size_t size = seed_below(&random, sizeof bytes);

            wal_fixture_fill(bytes, size, sequence);
            assert_int_equal(wal_entry_append(&entries, is_mark ? WAL_MARK : WAL_BATCH, sequence++,
                                              slice_of(bytes, size)),
                             0);
            marks += is_mark;
        }
        group.last_sequence = sequence - 1;
        group.entries = buffer_slice(&entries);
        assert_int_equal(wal_write_group(wal, &group, seed_below(&random, 2) == 0), 0);
        pieces += group.piece_count;
        (void)wal_fixture_statistics(wal);
        if (seed_below(&random, 50) == 0)
            assert_int_equal(wal_prepare_spare(wal), 0);
        buffer_free(&entries);
    }
    assert_true(wal_fixture_statistics(wal).segment > 5);
    wal_close(wal);

    assert_int_equal(wal_fixture_replay(&fixture, 3, &seen, &result), 0);
    assert_int_equal(result.groups, 300);
    assert_int_equal(seen.first, 7);
    assert_int_equal(seen.next, sequence);
    assert_int_equal(result.last_sequence, sequence - 1);
    assert_int_equal(seen.marks, marks);
    assert_int_equal(seen.pieces, pieces);
    assert_false(result.torn);
    wal_fixture_close(&fixture);
}

static void an_empty_log_replays_to_nothing(void **state)
{
    struct wal_replay_result result;
    struct wal_fixture fixture;
    struct wal_fixture_seen seen = {0};

    (void)state;
    wal_fixture_open(&fixture);
    assert_int_equal(wal_fixture_replay(&fixture, 1, &seen, &result), 0);
    assert_int_equal(result.highest_segment, 0);
    assert_int_equal(result.last_sequence, 0);
    wal_close(wal_fixture_log(&fixture, 5));
    assert_int_equal(wal_fixture_replay(&fixture, 1, &seen, &result), 0);
    assert_int_equal(result.highest_segment, 5);
    assert_int_equal(result.groups, 0);
    assert_false(result.torn);
    wal_fixture_close(&fixture);
}

static void a_group_larger_than_a_segment_gets_one_that_fits(void **state)
{
    struct wal_fixture fixture;
    struct wal *wal;

    (void)state;
    wal_fixture_open(&fixture);
    wal = wal_fixture_log(&fixture, 1);
    assert_int_equal(wal_fixture_write_batch(wal, 1, 100, true), 0);
    assert_int_equal(wal_fixture_write_batch(wal, 2, 5 * WAL_FIXTURE_SEGMENT_SIZE + 77, true), 0);
    assert_int_equal(wal_fixture_write_batch(wal, 3, 100, true), 0);
    assert_int_equal(wal_fixture_statistics(wal).segment, 3);
    wal_close(wal);
    wal_fixture_assert_replays(&fixture, 1, 1, 4);
    wal_fixture_close(&fixture);
}

static void a_roll_names_the_segment_of_the_next_group(void **state)
{
    struct wal_fixture fixture;
    uint64_t segment, again;
    struct wal *wal;

    (void)state;
    wal_fixture_open(&fixture);
    wal = wal_fixture_log(&fixture, 1);
    assert_int_equal(wal_roll(wal, &segment), 0);
    assert_int_equal(segment, 1); /* nothing is in it yet */
    assert_int_equal(wal_fixture_write_batch(wal, 1, 10, false), 0);
    assert_int_equal(wal_roll(wal, &segment), 0);
    assert_int_equal(segment, 2);
    assert_int_equal(wal_prepare_spare(wal), 0);
    assert_int_equal(wal_roll(wal, &again), 0);
    assert_int_equal(again, segment);
    assert_int_equal(wal_fixture_write_batch(wal, 2, 10, false), 0);
    assert_int_equal(wal_fixture_statistics(wal).segment, segment);
    wal_close(wal);
    wal_fixture_assert_replays(&fixture, segment, 2, 3);
    wal_fixture_close(&fixture);
}

static void a_spare_is_wanted_when_one_has_been_used(void **state)
{
    struct wal_fixture fixture;
    uint64_t segment;
    struct wal *wal;

    (void)state;
    wal_fixture_open(&fixture);
    wal = wal_fixture_log(&fixture, 1);
    assert_int_equal(wal_fixture_write_batch(wal, 1, 10, false), 0);
    assert_false(wal_wants_spare(wal)); /* the first segment may be the only one */
    assert_int_equal(wal_roll(wal, &segment), 0);
    assert_int_equal(wal_fixture_write_batch(wal, 2, 10, false), 0);
    assert_true(wal_wants_spare(wal));
    assert_int_equal(wal_prepare_spare(wal), 0);
    assert_false(wal_wants_spare(wal));
    assert_int_equal(wal_roll(wal, &segment), 0);
    assert_int_equal(wal_fixture_write_batch(wal, 3, 10, false), 0);
    assert_true(wal_wants_spare(wal));
    assert_int_equal(wal_prepare_spare(wal), 0);
    /* The present one, too, may be needed no more before anybody writes again. */
    assert_int_equal(wal_roll(wal, &segment), 0);
    assert_int_equal(wal_retire(wal, segment), 0);
    assert_int_equal(wal_fixture_write_batch(wal, 4, 10, false), 0);
    assert_true(wal_wants_spare(wal));
    /* Who cannot make one is not asked again and again. */
    fault_io_fail(fixture.fault, FAULT_OPEN, 1, -ENOSPC, true);
    assert_int_equal(wal_prepare_spare(wal), -ENOSPC);
    assert_false(wal_wants_spare(wal));
    wal_close(wal);
    wal_fixture_close(&fixture);
}

static void the_segment_before_is_synced_before_the_next_is_used(void **state)
{
    struct wal_fixture fixture;
    uint64_t syncs, segment;
    struct wal *wal;

    (void)state;
    wal_fixture_open(&fixture);
    wal = wal_fixture_log(&fixture, 1);
    assert_int_equal(wal_prepare_spare(wal), 0);
    assert_int_equal(wal_fixture_write_batch(wal, 1, 10, false), 0);
    assert_int_equal(wal_roll(wal, &segment), 0);
    syncs = fault_io_count(fixture.fault, FAULT_SYNC);
    assert_int_equal(wal_fixture_write_batch(wal, 2, 10, false), 0);
    assert_int_equal(fault_io_count(fixture.fault, FAULT_SYNC), syncs + 1);
    wal_close(wal);
    wal_fixture_close(&fixture);
}

static void r03_what_is_durable_is_not_synced_again_nor_retired_twice(void **state)
{
    struct wal_fixture fixture;
    uint64_t syncs, unlinks, segment;
    struct wal *wal;

    (void)state;
    wal_fixture_open(&fixture);
    fixture.spares_max = 0;
    wal = wal_fixture_log(&fixture, 1);
    assert_int_equal(wal_fixture_write_batch(wal, 1, 10, true), 0);
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
    wal_fixture_close(&fixture);
}

static void fewer_segments_are_kept_where_room_is_short(void **state)
{
    struct wal_fixture fixture;
    uint64_t sequence = 1, segment = 1, unlinks;
    struct wal *wal;

    (void)state;
    wal_fixture_open(&fixture);
    fixture.spares_max = 4;
    wal = wal_fixture_log(&fixture, 1);
    for (int round = 0; round < 3; round++) {
        assert_int_equal(wal_roll(wal, &segment), 0);
        wal_fixture_write_round(wal, &sequence, 10);
    }
    assert_int_equal(wal_retire(wal, segment), 0);
    unlinks = fault_io_count(fixture.fault, FAULT_UNLINK);

    assert_int_equal(wal_limit_spares(wal, 1), 0);
    unlinks = fault_io_count(fixture.fault, FAULT_UNLINK) - unlinks;
    assert_int_equal(unlinks, 1);
    assert_int_equal(wal_limit_spares(wal, 0), 0);
    /* Nor is one kept that is retired later. */
    assert_int_equal(wal_roll(wal, &segment), 0);
    wal_fixture_write_round(wal, &sequence, 10);
    assert_int_equal(wal_retire(wal, segment), 0);
    assert_int_equal(wal_fixture_statistics(wal).segments_recycled, 0);
    wal_fixture_assert_replays(&fixture, segment, sequence - 10, sequence);
    wal_close(wal);
    wal_fixture_close(&fixture);
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
    struct wal_fixture fixture;
    struct wal *wal, *none = NULL;
    uint64_t segment, size;

    (void)state;
    wal_fixture_open(&fixture);
    fixture.segment_size = UINT64_MAX - 4095;
    assert_int_equal(wal_fixture_log_with(&fixture, fixture.io, 1, &none), -EINVAL);
    fixture.segment_size = WAL_SEGMENT_SIZE_MIN - 4096;
    assert_int_equal(wal_fixture_log_with(&fixture, fixture.io, 1, &none), -EINVAL);
    fixture.segment_size = WAL_FIXTURE_SEGMENT_SIZE + 1;
    assert_int_equal(wal_fixture_log_with(&fixture, fixture.io, 1, &none), -EINVAL);
    fixture.segment_size = WAL_FIXTURE_SEGMENT_SIZE;
    assert_int_equal(wal_fixture_log_with(&fixture, fixture.io, 0, &none), -EINVAL);
    assert_int_equal(wal_fixture_log_with(&fixture, fixture.io, UINT64_MAX, &none), -EOVERFLOW);
    assert_null(none);

    /* Numbers run out: an error at the next segment, not a number used again. */
    wal = wal_fixture_log(&fixture, UINT64_MAX - 1);
    assert_int_equal(wal_fixture_write_batch(wal, 1, 10, true), 0);
    assert_int_equal(wal_roll(wal, &segment), 0);
    assert_int_equal(wal_fixture_write_batch(wal, 2, 10, true), -EOVERFLOW);
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
    wal_fixture_close(&fixture);
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

static void what_a_recycled_segment_held_is_never_replayed(void **state)
{
    struct wal_fixture fixture;
    uint64_t sequence = 1, segment = 1, first = 1;
    struct wal *wal;

    (void)state;
    wal_fixture_open(&fixture);
    wal = wal_fixture_log(&fixture, 1);
    for (int round = 0; round < 12; round++) {
        first = sequence;
        assert_int_equal(wal_roll(wal, &segment), 0);
        /* Fewer each time: the tail of a segment is what its former use left. */
        wal_fixture_write_round(wal, &sequence, 40 - 3 * round);
        wal_fixture_assert_replays(&fixture, segment, first, sequence);
        assert_int_equal(wal_retire(wal, segment), 0);
        assert_int_equal(wal_prepare_spare(wal), 0);
        wal_fixture_assert_replays(&fixture, segment, first, sequence);
    }
    assert_true(wal_fixture_statistics(wal).segments_recycled > 5);
    wal_close(wal);
    wal_fixture_assert_replays(&fixture, segment, first, sequence);
    wal_fixture_close(&fixture);
}

static void a_segment_that_somebody_linked_is_not_recycled(void **state)
{
    struct wal_fixture fixture;
    uint64_t sequence = 1, segment;
    size_t size, size_after;
    uint8_t *before, *after;
    char *path;
    struct wal *wal;

    (void)state;
    wal_fixture_open(&fixture);
    wal = wal_fixture_log(&fixture, 1);
    wal_fixture_write_round(wal, &sequence, 3);
    assert_int_equal(io_link(fixture.disk.io, fixture.disk.root, "0000000000000001.wal",
                             fixture.disk.root, "kept"),
                     0);
    path = test_path(fixture.disk.path, "kept");
    before = test_file_read(path, &size);
    assert_int_equal(wal_roll(wal, &segment), 0);
    assert_int_equal(wal_retire(wal, segment), 0);
    wal_fixture_write_round(wal, &sequence, 30);
    assert_int_equal(wal_fixture_statistics(wal).segments_recycled, 0);
    assert_false(wal_fixture_segment_exists(&fixture, 1));
    after = test_file_read(path, &size_after);
    assert_int_equal(size, size_after);
    assert_memory_equal(before, after, size);
    wal_close(wal);
    free(before);
    free(after);
    free(path);
    wal_fixture_close(&fixture);
}

static void spares_are_bounded(void **state)
{
    struct wal_fixture fixture;
    uint64_t sequence = 1, segment;
    int count = 0;
    struct wal *wal;

    (void)state;
    wal_fixture_open(&fixture);
    wal = wal_fixture_log(&fixture, 1);
    wal_fixture_write_round(wal, &sequence, 200);
    assert_int_equal(wal_roll(wal, &segment), 0);
    assert_int_equal(wal_retire(wal, segment), 0);
    for (uint64_t i = 1; i <= segment; i++)
        count += wal_fixture_segment_exists(&fixture, i);
    assert_int_equal(count, fixture.spares_max);
    /* The log goes on although its current segment is gone. */
    wal_fixture_write_round(wal, &sequence, 1);
    wal_close(wal);
    wal_fixture_assert_replays(&fixture, segment, sequence - 1, sequence);
    wal_fixture_close(&fixture);
}

static void half_prepared_segments_are_ignored(void **state)
{
    uint8_t zeros[8192] = {0};
    struct wal_fixture fixture;
    uint8_t *image;
    size_t size;
    struct wal *wal;

    (void)state;
    wal_fixture_open(&fixture);
    wal = wal_fixture_log(&fixture, 1);
    assert_int_equal(wal_fixture_write_batch(wal, 1, 5000, true), 0);
    wal_close(wal);
    wal_fixture_segment_write(&fixture, 2, zeros, 0);
    wal_fixture_segment_write(&fixture, 3, zeros, 100);
    wal_fixture_segment_write(&fixture, 4, zeros, sizeof zeros);
    /* Renamed for reuse before the header was written. */
    image = wal_fixture_segment_read(&fixture, 1, &size);
    wal_fixture_segment_write(&fixture, 5, image, size);
    wal_fixture_segment_write(&fixture, 6, image, 4096);
    wal_fixture_assert_replays(&fixture, 1, 1, 2);
    /* But a header from the future of its place is damage. */
    wal_fixture_segment_write(&fixture, 0x10, zeros, 0);
    free(image);
    wal = wal_fixture_log(&fixture, 0x11);
    wal_close(wal);
    image = wal_fixture_segment_read(&fixture, 0x11, &size);
    wal_fixture_segment_write(&fixture, 0x10, image, size);
    assert_int_equal(wal_fixture_replay_error(&fixture, 1), ERROR_CORRUPT);
    free(image);
    wal_fixture_close(&fixture);
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
    struct wal_fixture fixture;
    struct preparer preparer = {0};
    uint64_t sequence = 1, segment, first = 1;
    pthread_t thread;

    (void)state;
    wal_fixture_open(&fixture);
    preparer.wal = wal_fixture_log(&fixture, 1);
    assert_int_equal(pthread_create(&thread, NULL, prepare_spares, &preparer), 0);
    for (int round = 0; round < 10; round++) {
        wal_fixture_write_round(preparer.wal, &sequence, 30);
        assert_int_equal(wal_roll(preparer.wal, &segment), 0);
        first = sequence;
        wal_fixture_write_round(preparer.wal, &sequence, 1);
        assert_int_equal(wal_fixture_statistics(preparer.wal).segment, segment);
        assert_int_equal(wal_retire(preparer.wal, segment), 0);
    }
    __atomic_store_n(&preparer.must_stop, true, __ATOMIC_RELAXED);
    assert_int_equal(pthread_join(thread, NULL), 0);
    wal_close(preparer.wal);
    wal_fixture_assert_replays(&fixture, segment, first, sequence);
    wal_fixture_close(&fixture);
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
        cmocka_unit_test(a_spare_is_wanted_when_one_has_been_used),
        cmocka_unit_test(the_segment_before_is_synced_before_the_next_is_used),
        cmocka_unit_test(r03_what_is_durable_is_not_synced_again_nor_retired_twice),
        cmocka_unit_test(fewer_segments_are_kept_where_room_is_short),
        cmocka_unit_test(r02_what_would_wrap_is_an_error),
        cmocka_unit_test(malformed_bodies_are_refused),
        cmocka_unit_test(what_a_recycled_segment_held_is_never_replayed),
        cmocka_unit_test(a_segment_that_somebody_linked_is_not_recycled),
        cmocka_unit_test(spares_are_bounded),
        cmocka_unit_test(half_prepared_segments_are_ignored),
        cmocka_unit_test(spares_are_prepared_while_groups_are_written),
        cmocka_unit_test(names_are_parsed_as_they_are_written),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
