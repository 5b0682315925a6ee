/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_wal_damage.c - tests of engine/wal.h: torn tails, damaged and missing segments, disks that fail
 */
#include "engine/base/checksum.h"
#include "engine/base/endian.h"
#include "tests/lib/fault_io.h"
#include "tests/lib/test_fault_io.h"
#include "tests/lib/wal_fixture.h"

/* ---- torn tails and damage ---- */

#define TORN_GROUPS 5

/* Groups 1 .. TORN_GROUPS, all synced, then one of 5,000 bytes that the disk tore: each 512-byte
 * sector of it is there or not. */
static void torn_tail(bool from_front)
{
    struct wal_fixture fixture;
    size_t size, size_before;
    uint8_t *before, *after, *torn;
    uint64_t end;
    struct wal *wal;

    wal_fixture_open(&fixture);
    wal = wal_fixture_log(&fixture, 1);
    for (uint64_t i = 1; i <= TORN_GROUPS; i++)
        assert_int_equal(wal_fixture_write_batch(wal, i, 333, true), 0);
    before = wal_fixture_segment_read(&fixture, 1, &size_before);
    assert_int_equal(wal_fixture_write_batch(wal, TORN_GROUPS + 1, 5000, true), 0);
    end = wal_fixture_statistics(wal).written_offset;
    wal_close(wal);
    after = wal_fixture_segment_read(&fixture, 1, &size);
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
        wal_fixture_segment_write(&fixture, 1, torn, size);
        wal_fixture_assert_replays(&fixture, 1, 1, TORN_GROUPS + 1 + is_whole);
    }
    free(torn);
    free(before);
    free(after);
    wal_fixture_close(&fixture);
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
    struct wal_fixture fixture;
    struct wal_fixture_seen seen = {0};
    size_t size;
    uint8_t *image;
    struct wal *wal;

    (void)state;
    wal_fixture_open(&fixture);
    wal = wal_fixture_log(&fixture, 1);
    assert_int_equal(wal_fixture_write_batch(wal, 1, 100, true), 0);
    assert_int_equal(wal_fixture_write_batch(wal, 2, 9000, true), 0);
    wal_close(wal);
    image = wal_fixture_segment_read(&fixture, 1, &size);
    wal_fixture_segment_write(&fixture, 1, image, 8192 + 77);
    assert_int_equal(wal_fixture_replay(&fixture, 1, &seen, &result), 0);
    assert_int_equal(result.last_sequence, 1);
    assert_true(result.torn);
    free(image);
    wal_fixture_close(&fixture);
}

static void unsynced_groups_may_be_lost_in_any_combination(void **state)
{
    uint64_t offsets[6];
    struct wal_fixture fixture;
    size_t size;
    uint8_t *image, *damaged;
    struct wal *wal;

    (void)state;
    wal_fixture_open(&fixture);
    wal = wal_fixture_log(&fixture, 1);
    assert_int_equal(wal_fixture_write_batch(wal, 1, 200, true), 0);
    for (int i = 0; i < 5; i++) {
        offsets[i] = wal_fixture_statistics(wal).written_offset;
        assert_int_equal(wal_fixture_write_batch(wal, (uint64_t)i + 2, 200, false), 0);
    }
    offsets[5] = wal_fixture_statistics(wal).written_offset;
    wal_close(wal);
    image = wal_fixture_segment_read(&fixture, 1, &size);
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
        wal_fixture_segment_write(&fixture, 1, damaged, size);
        wal_fixture_assert_replays(&fixture, 1, 1, next);
    }
    free(damaged);
    free(image);
    wal_fixture_close(&fixture);
}

static void every_flipped_bit_is_seen_where_the_log_was_synced(void **state)
{
    enum { GROUPS = 3 };
    uint64_t last_offset = 0, end;
    struct wal_fixture fixture;
    unsigned corrupt_count = 0, lost_count = 0;
    struct wal *wal;

    (void)state;
    wal_fixture_open(&fixture);
    wal = wal_fixture_log(&fixture, 1);
    for (uint64_t i = 1; i <= GROUPS; i++) {
        last_offset = wal_fixture_statistics(wal).written_offset;
        assert_int_equal(wal_fixture_write_batch(wal, i, 20 * i, true), 0);
    }
    end = wal_fixture_statistics(wal).written_offset;
    wal_close(wal);
    for (uint64_t at = 0; at < end; at++) {
        if (at == WAL_SEGMENT_HEADER_SIZE)
            at = WAL_FIRST_GROUP_OFFSET; /* nothing is between */
        for (int bit = 0; bit < 8; bit++) {
            struct wal_replay_result result;
            struct wal_fixture_seen seen = {0};
            int error;

            fault_io_rot(fixture.fault, at, (uint8_t)(1 << bit));
            error = wal_fixture_replay(&fixture, 1, &seen, &result);
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
    wal_fixture_close(&fixture);
}

/* Turn a bit over in the file. */
static void damage(struct wal_fixture *fixture, uint64_t segment, uint64_t offset)
{
    size_t size;
    uint8_t *image = wal_fixture_segment_read(fixture, segment, &size);

    image[offset] ^= 1;
    wal_fixture_segment_write(fixture, segment, image, size);
    free(image);
}

static void damage_in_a_segment_that_has_a_successor_is_corruption(void **state)
{
    struct wal_fixture fixture;
    uint64_t offset, segment;
    struct wal *wal;

    (void)state;
    wal_fixture_open(&fixture);
    wal = wal_fixture_log(&fixture, 1);
    assert_int_equal(wal_fixture_write_batch(wal, 1, 100, false), 0);
    offset = wal_fixture_statistics(wal).written_offset;
    assert_int_equal(wal_fixture_write_batch(wal, 2, 100, false), 0);
    assert_int_equal(wal_roll(wal, &segment), 0);
    assert_int_equal(wal_fixture_write_batch(wal, 3, 100, false), 0);
    assert_int_equal(wal_fixture_write_batch(wal, 4, 100, false), 0);
    wal_close(wal);
    wal_fixture_assert_replays(&fixture, 1, 1, 5);

    /* The successor's first group was not synced: without it the log ends before. */
    damage(&fixture, 2, WAL_FIRST_GROUP_OFFSET + 100);
    wal_fixture_assert_replays(&fixture, 1, 1, 3);
    /* Nothing in segment 1 says that it was synced; that segment 2 was used does, and any group of
     * it is a witness. */
    damage(&fixture, 1, offset + 100);
    assert_int_equal(wal_fixture_replay_error(&fixture, 1), ERROR_CORRUPT);
    damage(&fixture, 2, WAL_FIRST_GROUP_OFFSET + 100);
    assert_int_equal(wal_fixture_replay_error(&fixture, 1), ERROR_CORRUPT);
    wal_fixture_close(&fixture);
}

static void r44_missing_segments_and_sequence_gaps_are_corruption(void **state)
{
    struct wal_fixture fixture;
    uint64_t sequence = 1, segment;
    char *path;
    struct wal *wal;

    (void)state;
    wal_fixture_open(&fixture);
    wal = wal_fixture_log(&fixture, 1);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(wal_roll(wal, &segment), 0);
        wal_fixture_write_round(wal, &sequence, 2);
    }
    wal_close(wal);
    wal_fixture_assert_replays(&fixture, 1, 1, 7);
    path = wal_fixture_segment_path(&fixture, 2);
    assert_int_equal(remove(path), 0);
    free(path);
    assert_int_equal(wal_fixture_replay_error(&fixture, 1), ERROR_CORRUPT);
    assert_int_equal(wal_fixture_replay_error(&fixture, 2), ERROR_CORRUPT);
    wal_fixture_assert_replays(&fixture, 3, 5, 7);

    /* A gap between two starts: each is whole, the numbers do not continue. */
    assert_int_equal(wal_delete_below(fixture.disk.io, fixture.disk.root, fixture.disk.root, 3), 0);
    wal = wal_fixture_log(&fixture, 4);
    assert_int_equal(wal_fixture_write_batch(wal, 8, 10, true), 0);
    wal_close(wal);
    assert_int_equal(wal_fixture_replay_error(&fixture, 3), ERROR_CORRUPT);
    wal_fixture_close(&fixture);
}

static void a_missing_segment_of_pieces_alone_is_corruption(void **state)
{
    uint8_t data[10];
    struct blob_piece piece = {.chunk_id = 1, .position = 4096, .size = sizeof data, .data = data};
    /* It takes no number, so only the link of the next segment can tell. */
    struct wal_group group = {
        .pieces = &piece, .piece_count = 1, .first_sequence = 2, .last_sequence = 1};
    struct wal_fixture fixture;
    uint64_t segment;
    char *path;
    struct wal *wal;

    (void)state;
    wal_fixture_open(&fixture);
    wal_fixture_fill(data, sizeof data, piece.chunk_id ^ piece.position);
    wal = wal_fixture_log(&fixture, 1);
    assert_int_equal(wal_fixture_write_batch(wal, 1, 10, false), 0);
    assert_int_equal(wal_roll(wal, &segment), 0);
    assert_int_equal(wal_write_group(wal, &group, true), 0);
    assert_int_equal(wal_roll(wal, &segment), 0);
    assert_int_equal(wal_fixture_write_batch(wal, 2, 10, true), 0);
    wal_close(wal);
    wal_fixture_assert_replays(&fixture, 1, 1, 3);
    path = wal_fixture_segment_path(&fixture, 2);
    assert_int_equal(remove(path), 0);
    free(path);
    assert_int_equal(wal_fixture_replay_error(&fixture, 1), ERROR_CORRUPT);
    wal_fixture_close(&fixture);
}

static void a_new_start_continues_after_a_torn_tail(void **state)
{
    struct wal_replay_result result;
    struct wal_fixture fixture;
    struct wal_fixture_seen seen = {0};
    size_t size;
    uint8_t *image;
    struct wal *wal;

    (void)state;
    wal_fixture_open(&fixture);
    wal = wal_fixture_log(&fixture, 1);
    assert_int_equal(wal_fixture_write_batch(wal, 1, 100, true), 0);
    assert_int_equal(wal_fixture_write_batch(wal, 2, 100, false), 0);
    wal_close(wal);
    image = wal_fixture_segment_read(&fixture, 1, &size);
    image[4096 + 256 + 120] ^= 1;
    wal_fixture_segment_write(&fixture, 1, image, size);
    free(image);
    assert_int_equal(wal_fixture_replay(&fixture, 1, &seen, &result), 0);
    assert_int_equal(result.last_sequence, 1);
    assert_true(result.torn);

    wal = wal_fixture_log(&fixture, result.highest_segment + 1);
    assert_int_equal(wal_fixture_write_batch(wal, 2, 100, true), 0);
    wal_close(wal);
    wal_fixture_assert_replays(&fixture, 1, 1, 3);
    wal_fixture_close(&fixture);
}

static void other_stores_and_newer_formats_are_told_apart(void **state)
{
    static const uint8_t other[STORE_UUID_SIZE] = "another store!!";
    struct wal_replay_callbacks callbacks = {wal_fixture_see_piece, wal_fixture_see_entry, NULL};
    struct wal_replay_result result;
    struct wal_fixture fixture;
    size_t size;
    uint8_t *image;
    struct wal *wal;

    (void)state;
    wal_fixture_open(&fixture);
    wal = wal_fixture_log(&fixture, 1);
    assert_int_equal(wal_fixture_write_batch(wal, 1, 100, true), 0);
    wal_close(wal);
    assert_int_equal(
        wal_replay(fixture.disk.io, fixture.disk.root, other, 1, false, &callbacks, &result),
        ERROR_FOREIGN);
    image = wal_fixture_segment_read(&fixture, 1, &size);
    put_le32(image + 8, WAL_VERSION + 1);
    wal_fixture_segment_write(&fixture, 1, image, size);
    assert_int_equal(wal_fixture_replay_error(&fixture, 1),
                     ERROR_CORRUPT); /* a damaged version field */
    put_le64(image + 120, checksum64(image, 120));
    wal_fixture_segment_write(&fixture, 1, image, size);
    assert_int_equal(wal_fixture_replay_error(&fixture, 1), ERROR_VERSION_NEWER);
    free(image);
    wal_fixture_close(&fixture);
}

/* 16 MiB lie in a segment: a mount waits for what is read of it. */
static void of_a_log_that_was_closed_only_the_first_place_is_read(void **state)
{
    struct wal_fixture fixture;
    struct wal *wal;
    uint64_t reads;

    (void)state;
    wal_fixture_open(&fixture);
    fixture.segment_size = 4 * 1024 * 1024;
    wal_close(wal_fixture_log(&fixture, 1));
    reads = fault_io_count(fixture.fault, FAULT_READ);
    wal_fixture_assert_replays(&fixture, 1, 1, 1);
    assert_true(fault_io_count(fixture.fault, FAULT_READ) >= reads + 4);
    reads = fault_io_count(fixture.fault, FAULT_READ);
    fixture.closed = true;
    wal_fixture_assert_replays(&fixture, 1, 1, 1);
    assert_int_equal(fault_io_count(fixture.fault, FAULT_READ), reads + 1);

    /* A group in the first place is one more than there should be: all is read, as ever. */
    wal = wal_fixture_log(&fixture, 2);
    assert_int_equal(wal_fixture_write_batch(wal, 1, 100, true), 0);
    assert_int_equal(wal_fixture_write_batch(wal, 2, 100, true), 0);
    wal_close(wal);
    wal_fixture_assert_replays(&fixture, 1, 1, 3);
    damage(&fixture, 2, WAL_FIRST_GROUP_OFFSET + 100);
    assert_int_equal(wal_fixture_replay_error(&fixture, 1), ERROR_CORRUPT);
    wal_fixture_close(&fixture);
}

static void a_callback_ends_the_replay(void **state)
{
    struct wal_replay_result result;
    struct wal_fixture fixture;
    struct wal_fixture_seen seen = {.fail_at = 3};
    uint64_t sequence = 1;
    struct wal *wal;

    (void)state;
    wal_fixture_open(&fixture);
    wal = wal_fixture_log(&fixture, 1);
    wal_fixture_write_round(wal, &sequence, 5);
    wal_close(wal);
    assert_int_equal(wal_fixture_replay(&fixture, 1, &seen, &result), -ECANCELED);
    assert_int_equal(seen.next, 3);
    wal_fixture_close(&fixture);
}

static void segments_below_a_number_are_deleted_and_nothing_else(void **state)
{
    struct wal_fixture fixture;
    char *stranger;

    (void)state;
    wal_fixture_open(&fixture);
    stranger = test_path(fixture.disk.path, "0000000000000001.wal.bak");
    test_file_write(stranger, "x", 1);
    for (uint64_t i = 1; i < 8; i++)
        wal_fixture_segment_write(&fixture, i * 0x11, "", 0);
    assert_int_equal(wal_delete_below(fixture.disk.io, fixture.disk.root, fixture.disk.root, 0x44),
                     0);
    for (uint64_t i = 1; i < 8; i++)
        assert_int_equal(wal_fixture_segment_exists(&fixture, i * 0x11), i >= 4);
    assert_int_equal(remove(stranger), 0);
    free(stranger);
    wal_fixture_close(&fixture);
}

/* ---- a disk that fails ---- */

static void r05_after_a_failed_write_nothing_acknowledged_is_lost(void **state)
{
    (void)state;
    for (uint64_t nth = 1; nth <= 8; nth++) {
        struct wal_fixture fixture;
        uint64_t sequence = 1, writes;
        struct wal *wal;

        wal_fixture_open(&fixture);
        wal = wal_fixture_log(&fixture, 1);
        fault_io_fail(fixture.fault, FAULT_WRITE, nth, -EIO, false);
        while (sequence <= nth && wal_fixture_write_batch(wal, sequence, 700, true) == 0)
            sequence++;
        assert_int_equal(sequence, nth);
        /* The disk works again, the log does not: what it holds is not known any more. */
        writes = fault_io_count(fixture.fault, FAULT_WRITE);
        assert_int_equal(wal_fixture_write_batch(wal, sequence, 700, true), -EIO);
        assert_int_equal(wal_sync(wal), -EIO);
        assert_int_equal(wal_prepare_spare(wal), -EIO);
        assert_int_equal(fault_io_count(fixture.fault, FAULT_WRITE), writes);
        wal_close(wal);
        wal_fixture_assert_replays(&fixture, 1, 1, sequence);
        wal_fixture_close(&fixture);
    }
}

static void a_failed_sync_is_kept_and_never_tried_again(void **state)
{
    struct wal_fixture fixture;
    uint64_t syncs;
    struct wal *wal;

    (void)state;
    wal_fixture_open(&fixture);
    wal = wal_fixture_log(&fixture, 1);
    assert_int_equal(wal_fixture_write_batch(wal, 1, 10, true), 0);
    fault_io_fail(fixture.fault, FAULT_SYNC, 1, -EIO, false);
    assert_int_equal(wal_fixture_write_batch(wal, 2, 10, true), -EIO);
    syncs = fault_io_count(fixture.fault, FAULT_SYNC);
    assert_int_equal(wal_sync(wal), -EIO);
    assert_int_equal(wal_fixture_write_batch(wal, 3, 10, true), -EIO);
    assert_int_equal(fault_io_count(fixture.fault, FAULT_SYNC), syncs);
    assert_true(wal_fixture_statistics(wal).durable_offset <
                wal_fixture_statistics(wal).written_offset);
    wal_close(wal);
    wal_fixture_close(&fixture);
}

static void a_failed_sync_of_a_new_segment_is_kept_too(void **state)
{
    (void)state;
    for (uint64_t nth = 1; nth <= 2; nth++) { /* the file, the directory */
        struct wal_fixture fixture;
        uint64_t syncs;
        struct wal *wal;

        wal_fixture_open(&fixture);
        wal = wal_fixture_log(&fixture, 1);
        fault_io_fail(fixture.fault, FAULT_SYNC, nth, -EIO, false);
        assert_int_equal(wal_prepare_spare(wal), -EIO);
        syncs = fault_io_count(fixture.fault, FAULT_SYNC);
        assert_int_equal(wal_prepare_spare(wal), -EIO);
        assert_int_equal(wal_fixture_write_batch(wal, 1, 10, true), -EIO);
        assert_int_equal(fault_io_count(fixture.fault, FAULT_SYNC), syncs);
        assert_false(wal_fixture_segment_exists(&fixture, 2));
        wal_close(wal);
        wal_fixture_close(&fixture);
    }
}

static void without_space_for_a_segment_the_group_can_be_written_later(void **state)
{
    struct wal_fixture fixture;
    uint64_t segment;
    struct wal *wal;

    (void)state;
    wal_fixture_open(&fixture);
    wal = wal_fixture_log(&fixture, 1);
    assert_int_equal(wal_fixture_write_batch(wal, 1, 10, true), 0);
    assert_int_equal(wal_roll(wal, &segment), 0);
    fault_io_fail(fixture.fault, FAULT_WRITE, 1, -ENOSPC, true);
    assert_int_equal(wal_prepare_spare(wal), -ENOSPC);
    assert_int_equal(wal_fixture_write_batch(wal, 2, 10, true), -ENOSPC);
    assert_int_equal(wal_fixture_write_batch(wal, 2, 10, true), -ENOSPC);
    fault_io_clear(fixture.fault, FAULT_WRITE);
    assert_int_equal(wal_fixture_write_batch(wal, 2, 10, true), 0);
    assert_true(wal_fixture_statistics(wal).segment >= segment);
    wal_close(wal);
    wal_fixture_assert_replays(&fixture, 1, 1, 3);
    wal_fixture_close(&fixture);
}

static void r15_cut_and_interrupted_transfers_are_continued(void **state)
{
    struct wal_fixture fixture;
    uint64_t sequence = 1;
    struct wal *wal;

    (void)state;
    wal_fixture_open(&fixture);
    wal = wal_fixture_log(&fixture, 1);
    fault_io_cut(fixture.fault, FAULT_WRITE, 1, 4096, true);
    wal_fixture_write_round(wal, &sequence, 10);
    /* Of several blocks: the last one is written again with the next group, those before are not. */
    for (int i = 0; i < 3; i++)
        assert_int_equal(wal_fixture_write_batch(wal, sequence++, 20000, true), 0);
    for (int i = 0; i < 4; i++) {
        fault_io_fail(fixture.fault, FAULT_WRITE, 1, i % 2 == 0 ? -EINTR : -EAGAIN, false);
        wal_fixture_write_round(wal, &sequence, 1);
    }
    wal_close(wal);
    wal_fixture_assert_replays(&fixture, 1, 1, sequence);
    wal_fixture_close(&fixture);
}

/* Some of everything, until the disk says no; *acknowledged is the last number that was synced. */
static void run_until_failure(struct wal_fixture *fixture, struct io *io,
                              uint64_t *ret_acknowledged, uint64_t *ret_first_segment)
{
    uint64_t sequence = 1, segment;
    struct wal *wal;

    if (wal_fixture_log_with(fixture, io, 1, &wal) < 0)
        return;
    for (int round = 0; round < 4; round++) {
        for (int i = 0; i < 5; i++) {
            if (wal_fixture_write_batch(wal, sequence, 2500, i % 2 == 0) < 0)
                goto out;
            if (i % 2 == 0)
                *ret_acknowledged = sequence;
            sequence++;
        }
        if (wal_prepare_spare(wal) < 0 || wal_roll(wal, &segment) < 0)
            goto out;
        if (round == 1 || round == 2) {
            /* As if everything before were in tables: the segments go round. */
            if (wal_fixture_write_batch(wal, sequence, 10, true) < 0)
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
        struct wal_fixture fixture;
        struct wal_fixture_seen seen = {0};
        uint64_t acknowledged = 0, first_segment = 1;

        wal_fixture_open(&fixture);
        test_fault_io_init(&fault, fixture.disk.io);
        test_fault_io_arm(&fault, fail_at++, -EIO, true);
        run_until_failure(&fixture, &fault.io, &acknowledged, &first_segment);
        struck = test_fault_io_struck(&fault);
        assert_int_equal(wal_fixture_replay(&fixture, first_segment, &seen, &result), 0);
        assert_true(result.last_sequence >= acknowledged);
        wal_fixture_close(&fixture);
    } while (struck);
    assert_true(fail_at > 40);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
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
        cmocka_unit_test(of_a_log_that_was_closed_only_the_first_place_is_read),
        cmocka_unit_test(a_callback_ends_the_replay),
        cmocka_unit_test(segments_below_a_number_are_deleted_and_nothing_else),
        cmocka_unit_test(r05_after_a_failed_write_nothing_acknowledged_is_lost),
        cmocka_unit_test(a_failed_sync_is_kept_and_never_tried_again),
        cmocka_unit_test(a_failed_sync_of_a_new_segment_is_kept_too),
        cmocka_unit_test(without_space_for_a_segment_the_group_can_be_written_later),
        cmocka_unit_test(r15_cut_and_interrupted_transfers_are_continued),
        cmocka_unit_test(a_crash_at_any_call_loses_nothing_acknowledged),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
