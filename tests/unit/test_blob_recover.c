/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_blob_recover.c - tests of blob_recover_open_chunk(): what a crash left, sealed
 */
#include <errno.h>
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
#include "engine/blob_writer.h"
#include "tests/lib/blob_fixture.h"
#include "tests/lib/test_fault_io.h"

#define FRAMES_MAX 16

/* One chunk, some of its frames synced in the file and some copied out as pieces. */
struct crashed {
    struct blob_fixture fixture;
    struct blob_ref refs[FRAMES_MAX];
    uint64_t frame_count;
    struct blob_piece pieces[FRAMES_MAX];
    size_t piece_count;
    uint64_t end; /* of the last frame that is to survive */
};

static void crashed_open(struct crashed *crashed)
{
    memset(crashed, 0, sizeof *crashed);
    blob_fixture_open(&crashed->fixture, IO_BACKEND_SYNC, 64 * BLOB_MEBIBYTE, 4, 1);
}

static void crashed_close(struct crashed *crashed)
{
    for (size_t i = 0; i < crashed->piece_count; i++)
        free((void *)(uintptr_t)crashed->pieces[i].data);
    blob_fixture_close(&crashed->fixture);
}

static void append(struct crashed *crashed, uint32_t size)
{
    struct blob_ref *ref = &crashed->refs[crashed->frame_count];

    assert_int_equal(blob_fixture_append(&crashed->fixture, size, crashed->frame_count, ref), 0);
    crashed->frame_count++;
    crashed->end = ref->position + ref->stored_size;
}

static void sync_frames(struct crashed *crashed)
{
    assert_int_equal(blob_writer_sync(crashed->fixture.writer), 0);
}

/* As the log would: keep what is not durable yet. */
static void take_pieces(struct crashed *crashed)
{
    struct blob_piece *piece = &crashed->pieces[crashed->piece_count];
    uint8_t *copy;

    assert_int_equal(
        blob_writer_take_pieces(crashed->fixture.writer, UINT64_MAX, 1 << 20, piece, 1), 1);
    copy = malloc(piece->size);
    memcpy(copy, piece->data, piece->size);
    piece->data = copy;
    crashed->piece_count++;
}

static void crash(struct crashed *crashed)
{
    blob_writer_close(crashed->fixture.writer);
    crashed->fixture.writer = NULL;
}

static int recover_with(struct crashed *crashed, struct io *io, struct chunk_identity *ret_identity)
{
    return blob_recover_open_chunk(io, crashed->fixture.disk.root, blob_uuid, 1, crashed->end,
                                   crashed->pieces, crashed->piece_count, ret_identity);
}

static int recover(struct crashed *crashed, struct chunk_identity *ret_identity)
{
    return recover_with(crashed, crashed->fixture.disk.io, ret_identity);
}

/* The sealed chunk is whole and holds every frame below the end. */
static void assert_sealed(struct crashed *crashed, const struct chunk_identity *identity)
{
    struct chunk_trailer trailer;
    struct checksum_stream *stream = checksum_stream_new();
    struct checksum128 hash;
    struct stat status;
    char name[CHUNK_NAME_SIZE], *path;
    uint8_t *file;
    size_t size;

    chunk_name(name, identity);
    path = test_path(crashed->fixture.disk.path, name);
    file = test_file_read(path, &size);
    assert_int_equal(size, identity->file_size_bytes);
    assert_true(size >= crashed->end + CHUNK_TRAILER_SIZE);
    assert_int_equal(chunk_header_check(file, CHUNK_BLOB, blob_uuid, 1), 0);
    assert_int_equal(chunk_trailer_decode(file + size - CHUNK_TRAILER_SIZE, &trailer), 0);
    assert_int_equal(trailer.content_size_bytes, size - CHUNK_TRAILER_SIZE);
    checksum_stream_update(stream, file, size - CHUNK_TRAILER_SIZE);
    hash = checksum_stream_digest(stream);
    checksum_stream_free(stream);
    assert_true(hash.low == identity->hash.low && hash.high == identity->hash.high);
    assert_true(hash.low == trailer.hash.low && hash.high == trailer.hash.high);
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(status.st_mode & 07777, 0444);
    for (uint64_t i = 0; i < crashed->frame_count; i++) {
        const struct blob_ref *ref = &crashed->refs[i];

        if (ref->position + ref->stored_size <= crashed->end)
            assert_true(blob_fixture_is_frame(ref, file + ref->position, i));
    }
    free(file);
    free(path);
}

static char *open_path(struct crashed *crashed)
{
    char name[CHUNK_NAME_SIZE];

    chunk_open_name(name, 1);
    return test_path(crashed->fixture.disk.path, name);
}

static void synced_frames_and_pieces_make_a_sealed_chunk(void **state)
{
    struct chunk_identity identity, again;
    struct crashed crashed;

    (void)state;
    crashed_open(&crashed);
    append(&crashed, 5000);
    append(&crashed, 70001);
    sync_frames(&crashed);
    append(&crashed, 300);
    append(&crashed, 9001);
    take_pieces(&crashed);
    append(&crashed, 4096);
    take_pieces(&crashed);
    crash(&crashed);
    assert_int_equal(recover(&crashed, &identity), 0);
    assert_int_equal(identity.file_size_bytes, crashed.end + CHUNK_TRAILER_SIZE);
    assert_sealed(&crashed, &identity);

    /* Once more, for a crash before the manifest knew it. */
    assert_int_equal(recover(&crashed, &again), 0);
    assert_int_equal(again.id, identity.id);
    assert_int_equal(again.kind, identity.kind);
    assert_int_equal(again.file_size_bytes, identity.file_size_bytes);
    assert_true(again.hash.low == identity.hash.low && again.hash.high == identity.hash.high);
    crashed_close(&crashed);
}

static void frames_that_nobody_refers_to_are_cut_off(void **state)
{
    struct chunk_identity identity;
    struct crashed crashed;
    uint64_t end;

    (void)state;
    crashed_open(&crashed);
    append(&crashed, 5001);
    end = crashed.end;
    append(&crashed, 50000);
    sync_frames(&crashed);
    append(&crashed, 51);
    take_pieces(&crashed);
    crash(&crashed);
    crashed.end = end;
    assert_int_equal(recover(&crashed, &identity), 0);
    assert_int_equal(identity.file_size_bytes, end + CHUNK_TRAILER_SIZE);
    assert_sealed(&crashed, &identity);
    crashed_close(&crashed);
}

static void a_file_that_never_came_to_be_is_made_of_pieces(void **state)
{
    struct chunk_identity identity;
    struct crashed crashed;
    char *path;

    (void)state;
    crashed_open(&crashed);
    append(&crashed, 100);
    take_pieces(&crashed);
    append(&crashed, 6001);
    take_pieces(&crashed);
    crash(&crashed);
    path = open_path(&crashed);
    assert_int_not_equal(access(path, F_OK), 0);
    assert_int_equal(recover(&crashed, &identity), 0);
    assert_sealed(&crashed, &identity);
    free(path);
    crashed_close(&crashed);
}

static void a_file_without_a_durable_header_is_made_of_pieces_too(void **state)
{
    (void)state;
    for (int kind = 0; kind < 3; kind++) {
        static const uint8_t zeros[9000];
        struct chunk_identity identity;
        struct crashed crashed;
        char *path;

        crashed_open(&crashed);
        append(&crashed, 100);
        append(&crashed, 6001);
        take_pieces(&crashed);
        crash(&crashed);
        path = open_path(&crashed);
        test_file_write(path, zeros, kind == 0 ? 0 : kind == 1 ? 100 : sizeof zeros);
        assert_int_equal(recover(&crashed, &identity), 0);
        assert_sealed(&crashed, &identity);
        free(path);
        crashed_close(&crashed);
    }
}

/* What a process without privileges meets after a crash between chmod and rename. */
static void a_file_made_read_only_already_is_made_writable_again(void **state)
{
    struct chunk_identity identity;
    struct crashed crashed;
    char *path;

    (void)state;
    crashed_open(&crashed);
    append(&crashed, 5001);
    sync_frames(&crashed);
    crash(&crashed);
    path = open_path(&crashed);
    assert_int_equal(chmod(path, 0444), 0);
    fault_io_fail(crashed.fixture.fault, FAULT_OPEN, 1, -EACCES, false);
    assert_int_equal(recover_with(&crashed, crashed.fixture.io, &identity), 0);
    assert_sealed(&crashed, &identity);
    free(path);
    crashed_close(&crashed);
}

static void what_is_not_whole_is_refused(void **state)
{
    struct chunk_identity identity;
    struct crashed crashed;
    uint64_t end;
    uint8_t *file;
    size_t size;
    char *path;

    (void)state;
    crashed_open(&crashed);
    append(&crashed, 5001);
    sync_frames(&crashed);
    append(&crashed, 3001);
    take_pieces(&crashed);
    append(&crashed, 3001);
    append(&crashed, 9001);
    crash(&crashed);
    path = open_path(&crashed);
    /* The last frame is nowhere. */
    assert_int_equal(recover(&crashed, &identity), ERROR_TRUNCATED);
    crashed.end = crashed.refs[1].position + crashed.refs[1].stored_size;
    end = crashed.end;
    crashed.end = CHUNK_HEADER_SIZE;
    assert_int_equal(recover(&crashed, &identity), -EINVAL);
    crashed.end = UINT64_MAX;
    assert_int_equal(recover(&crashed, &identity), -EINVAL);
    crashed.end = end;

    file = test_file_read(path, &size);
    file[20] ^= 1; /* the header, without pieces for all */
    test_file_write(path, file, size);
    assert_int_equal(recover(&crashed, &identity), ERROR_CORRUPT);
    chunk_header_encode(file, CHUNK_BLOB, (const uint8_t *)"another store!!", 1);
    test_file_write(path, file, size);
    assert_int_equal(recover(&crashed, &identity), ERROR_FOREIGN);
    assert_int_equal(remove(path), 0);
    assert_int_equal(recover(&crashed, &identity), ERROR_MISSING_CHUNK);
    free(file);
    free(path);
    crashed_close(&crashed);
}

static void a_sealed_chunk_that_is_too_short_or_damaged_is_refused(void **state)
{
    struct chunk_identity identity, again;
    char name[CHUNK_NAME_SIZE], *path;
    struct crashed crashed;
    uint8_t *file;
    size_t size;

    (void)state;
    crashed_open(&crashed);
    append(&crashed, 5001);
    sync_frames(&crashed);
    crash(&crashed);
    assert_int_equal(recover(&crashed, &identity), 0);
    crashed.end++;
    assert_int_equal(recover(&crashed, &again), ERROR_TRUNCATED);
    crashed.end--;
    chunk_name(name, &identity);
    path = test_path(crashed.fixture.disk.path, name);
    file = test_file_read(path, &size);
    file[size - 50] ^= 1;
    test_file_write(path, file, size);
    assert_int_equal(recover(&crashed, &again), ERROR_CORRUPT);
    file[size - 50] ^= 1;
    file[size - CHUNK_TRAILER_SIZE + 16] ^= 1; /* the trailer of another store, which is whole */
    put_le64(file + size - 8, checksum64(file + size - CHUNK_TRAILER_SIZE, CHUNK_TRAILER_SIZE - 8));
    test_file_write(path, file, size);
    assert_int_equal(recover(&crashed, &again), ERROR_FOREIGN);
    test_file_write(path, file, 100);
    assert_int_equal(recover(&crashed, &again), ERROR_TRUNCATED);
    free(file);
    free(path);
    crashed_close(&crashed);
}

/* A crash at each call of sealing, then recovery; and a crash at each call of that recovery. */
static void sealing_may_be_cut_off_at_any_call(void **state)
{
    struct chunk_identity *identities;
    struct test_fault_io fault;
    uint64_t fail_at = 1;
    size_t count;
    bool struck;

    (void)state;
    do {
        struct chunk_identity identity;
        struct crashed crashed;

        crashed_open(&crashed);
        blob_writer_close(crashed.fixture.writer);
        test_fault_io_init(&fault, crashed.fixture.disk.io);
        assert_int_equal(
            blob_fixture_open_writer(&crashed.fixture, &fault.io, 64 * BLOB_MEBIBYTE, 4, 0), 0);
        append(&crashed, 5001);
        sync_frames(&crashed);
        append(&crashed, 4095);
        take_pieces(&crashed);
        test_fault_io_arm(&fault, fail_at++, -EIO, true);
        (void)blob_fixture_seal(&crashed.fixture, &identities, &count);
        free(identities);
        struck = test_fault_io_struck(&fault);
        crash(&crashed);
        assert_int_equal(recover(&crashed, &identity), 0);
        assert_sealed(&crashed, &identity);
        crashed_close(&crashed);
    } while (struck);
    assert_true(fail_at >= 7); /* write, truncate, chmod, sync, rename, sync */
}

static void recovery_may_be_cut_off_at_any_call(void **state)
{
    struct test_fault_io fault;
    uint64_t fail_at = 1;
    bool struck;

    (void)state;
    do {
        struct chunk_identity identity;
        struct crashed crashed;

        crashed_open(&crashed);
        append(&crashed, 5001);
        if (fail_at % 2 == 0)
            sync_frames(&crashed);
        else
            take_pieces(&crashed);
        append(&crashed, 4095);
        take_pieces(&crashed);
        crash(&crashed);
        test_fault_io_init(&fault, crashed.fixture.disk.io);
        test_fault_io_arm(&fault, (fail_at++ + 1) / 2, -EIO, true);
        if (recover_with(&crashed, &fault.io, &identity) < 0)
            assert_int_equal(recover(&crashed, &identity), 0);
        struck = test_fault_io_struck(&fault);
        assert_sealed(&crashed, &identity);
        crashed_close(&crashed);
    } while (struck);
    assert_true(fail_at / 2 >= 7);
}

static void random_cuts_between_syncs_and_pieces_recover(void **state)
{
    uint64_t random = seed_start("random_cuts_between_syncs_and_pieces_recover");

    (void)state;
    for (int round = 0; round < 60; round++) {
        struct chunk_identity identity;
        struct crashed crashed;
        uint64_t durable_end = 0;

        crashed_open(&crashed);
        for (uint64_t i = 0; i < FRAMES_MAX; i++) {
            append(&crashed, 1 + (uint32_t)seed_below(&random, 20000));
            switch (seed_below(&random, 4)) {
            case 0:
                sync_frames(&crashed);
                durable_end = crashed.end;
                break;
            case 1:
                take_pieces(&crashed);
                durable_end = crashed.end;
                break;
            default:
                break;
            }
        }
        crash(&crashed);
        if (durable_end > 0) {
            crashed.end = durable_end;
            assert_int_equal(recover(&crashed, &identity), 0);
            assert_sealed(&crashed, &identity);
        }
        crashed_close(&crashed);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(synced_frames_and_pieces_make_a_sealed_chunk),
        cmocka_unit_test(frames_that_nobody_refers_to_are_cut_off),
        cmocka_unit_test(a_file_that_never_came_to_be_is_made_of_pieces),
        cmocka_unit_test(a_file_without_a_durable_header_is_made_of_pieces_too),
        cmocka_unit_test(a_file_made_read_only_already_is_made_writable_again),
        cmocka_unit_test(what_is_not_whole_is_refused),
        cmocka_unit_test(a_sealed_chunk_that_is_too_short_or_damaged_is_refused),
        cmocka_unit_test(sealing_may_be_cut_off_at_any_call),
        cmocka_unit_test(recovery_may_be_cut_off_at_any_call),
        cmocka_unit_test(random_cuts_between_syncs_and_pieces_recover),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
