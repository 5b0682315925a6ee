/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_blob_writer.c - tests of engine/blob_writer.h: appending, syncing, sealing, failing
 */
#include "engine/blob_writer.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "engine/base/checksum.h"
#include "engine/base/error.h"
#include "tests/lib/blob_fixture.h"

#define FRAME_SIZE ((uint32_t)(128 * 1024))

static char *chunk_path(struct blob_fixture *fixture, const struct chunk_identity *identity)
{
    char name[CHUNK_NAME_SIZE];

    chunk_name(name, identity);
    return test_path(fixture->disk.path, name);
}

static bool open_chunk_exists(struct blob_fixture *fixture, uint64_t id)
{
    char name[CHUNK_NAME_SIZE];
    struct stat status;

    chunk_open_name(name, id);
    return io_stat_at(fixture->disk.io, fixture->disk.root, name, &status) == 0;
}

static struct blob_writer_statistics statistics_of(struct blob_fixture *fixture)
{
    struct blob_writer_statistics statistics;

    blob_writer_get_statistics(fixture->writer, &statistics);
    return statistics;
}

/* Sizes of all kinds: tiny, around a block, whole frames. */
static uint32_t random_size(uint64_t *random)
{
    switch (seed_below(random, 4)) {
    case 0:
        return 1 + (uint32_t)seed_below(random, 300);
    case 1:
        return 4095 + (uint32_t)seed_below(random, 3);
    case 2:
        return FRAME_SIZE;
    default:
        return 1 + (uint32_t)seed_below(random, FRAME_SIZE);
    }
}

/* ---- appending and reading back ---- */

static void frames_read_back_at_once_and_after_sealing(void **state)
{
    enum { FRAMES = 400 };
    uint64_t random = seed_start("frames_read_back_at_once_and_after_sealing");
    static struct blob_ref refs[FRAMES];
    struct chunk_identity *identities;
    struct blob_fixture fixture;
    size_t count;

    (void)state;
    blob_fixture_open(&fixture, IO_BACKEND_URING, 3 * BLOB_MEBIBYTE, 2, 1);
    for (uint64_t i = 0; i < FRAMES; i++) {
        uint64_t other = seed_below(&random, i + 1);

        assert_int_equal(blob_fixture_append(&fixture, random_size(&random), i, &refs[i]), 0);
        assert_true(blob_fixture_reads_back(&fixture, &refs[i], i));
        assert_true(blob_fixture_reads_back(&fixture, &refs[other], other));
        assert_int_equal(refs[i].length, refs[i].raw_size);
        if (refs[i].codec == CODEC_NONE && refs[i].raw_size >= BLOB_BLOCK_SIZE)
            assert_int_equal(refs[i].position % BLOB_BLOCK_SIZE, 0);
        if (i > 0 && refs[i].chunk_id == refs[i - 1].chunk_id)
            assert_true(refs[i].position >= refs[i - 1].position + refs[i - 1].stored_size);
        else if (i > 0)
            assert_true(refs[i].chunk_id > refs[i - 1].chunk_id);
        if (seed_below(&random, 40) == 0)
            assert_int_equal(blob_writer_sync(fixture.writer), 0);
        if (seed_below(&random, 100) == 0)
            blob_writer_roll(fixture.writer);
    }
    assert_int_equal(blob_fixture_seal(&fixture, &identities, &count), 0);
    assert_true(count > 3);
    for (uint64_t i = 0; i < FRAMES; i++)
        assert_true(blob_fixture_reads_back(&fixture, &refs[i], i));

    for (size_t c = 0; c < count; c++) {
        char *path = chunk_path(&fixture, &identities[c]);
        size_t size;
        uint8_t *file = test_file_read(path, &size);

        assert_int_equal(size, identities[c].file_size_bytes);
        for (uint64_t i = 0; i < FRAMES; i++) {
            if (refs[i].chunk_id == identities[c].id)
                assert_true(blob_fixture_is_frame(&refs[i], file + refs[i].position, i));
        }
        free(file);
        free(path);
    }
    assert_int_equal(statistics_of(&fixture).pending_bytes, 0);
    assert_int_equal(statistics_of(&fixture).frames, FRAMES);
    assert_int_equal(statistics_of(&fixture).chunks_sealed, count);
    free(identities);
    blob_fixture_close(&fixture);
}

static int append_several(struct blob_fixture *fixture, size_t count, uint64_t number,
                          struct blob_ref *ret_refs)
{
    uint8_t *data = malloc(count * FRAME_SIZE);
    int error;

    for (size_t i = 0; i < count; i++)
        blob_fixture_fill(data + i * FRAME_SIZE, FRAME_SIZE, number + i);
    error = blob_writer_append_frames(fixture->writer, data, count, ret_refs);
    free(data);
    return error;
}

static void frames_appended_together_are_each_their_own(void **state)
{
    struct blob_ref refs[BLOB_APPEND_FRAMES_MAX];
    struct blob_fixture fixture;

    (void)state;
    blob_fixture_open(&fixture, IO_BACKEND_SYNC, 3 * BLOB_MEBIBYTE, 2, 1);
    for (uint64_t round = 0; round < 40; round++) {
        size_t count = 1 + round % BLOB_APPEND_FRAMES_MAX;

        assert_int_equal(append_several(&fixture, count, round * 100, refs), 0);
        for (size_t i = 0; i < count; i++) {
            assert_int_equal(refs[i].raw_size, FRAME_SIZE);
            assert_int_equal(refs[i].codec, i % 2 == 0 ? CODEC_ZSTD : CODEC_NONE);
            assert_true(blob_fixture_reads_back(&fixture, &refs[i], round * 100 + i));
        }
    }
    blob_fixture_close(&fixture);
}

static void together_as_well_an_error_is_told(void **state)
{
    struct blob_ref refs[BLOB_APPEND_FRAMES_MAX];
    struct blob_fixture fixture;

    (void)state;
    blob_fixture_open(&fixture, IO_BACKEND_SYNC, 3 * BLOB_MEBIBYTE, 2, 1);
    assert_int_equal(append_several(&fixture, 2, 0, refs), 0);
    fault_io_fail(fixture.fault, FAULT_WRITE, 1, -EIO, true);
    assert_int_equal(blob_writer_sync(fixture.writer), -EIO);
    assert_int_equal(append_several(&fixture, 4, 10, refs), -EIO);
    blob_fixture_close(&fixture);
}

static void checksums_of_a_reference_are_those_of_its_bytes(void **state)
{
    struct blob_fixture fixture;
    struct blob_ref ref;
    uint8_t data[10000], stored[10000];

    (void)state;
    blob_fixture_open(&fixture, IO_BACKEND_SYNC, BLOB_MEBIBYTE, 2, 1);
    blob_fixture_fill(data, sizeof data, 1);
    assert_int_equal(blob_writer_append(fixture.writer, data, sizeof data, BLOB_COMPRESS, &ref), 0);
    assert_int_equal(ref.codec, CODEC_NONE);
    assert_int_equal(ref.block_checksums[0], checksum32(data, 4096));
    assert_int_equal(ref.block_checksums[1], checksum32(data + 4096, 4096));
    assert_int_equal(ref.block_checksums[2], checksum32(data + 8192, sizeof data - 8192));
    blob_fixture_fill(data, sizeof data, 2);
    assert_int_equal(blob_writer_append(fixture.writer, data, sizeof data, BLOB_COMPRESS, &ref), 0);
    assert_int_equal(ref.codec, CODEC_ZSTD);
    assert_int_equal(
        blob_writer_read(fixture.writer, ref.chunk_id, ref.position, ref.stored_size, stored), 1);
    assert_true(ref.frame_checksum == checksum64(stored, ref.stored_size));
    blob_fixture_close(&fixture);
}

static void a_read_past_the_end_or_of_another_chunk_is_refused(void **state)
{
    struct blob_fixture fixture;
    struct blob_ref ref;
    uint8_t data[64];

    (void)state;
    blob_fixture_open(&fixture, IO_BACKEND_SYNC, BLOB_MEBIBYTE, 2, 0);
    assert_int_equal(blob_writer_read(fixture.writer, 1, 4096, 10, data), 0);
    assert_int_equal(blob_fixture_append(&fixture, 64, 1, &ref), 0);
    assert_int_equal(blob_writer_read(fixture.writer, ref.chunk_id, ref.position, 64, data), 1);
    assert_int_equal(blob_writer_read(fixture.writer, ref.chunk_id, ref.position + 1, 64, data),
                     ERROR_TRUNCATED);
    assert_int_equal(blob_writer_read(fixture.writer, ref.chunk_id, UINT64_MAX, 64, data),
                     ERROR_TRUNCATED);
    assert_int_equal(blob_writer_read(fixture.writer, ref.chunk_id + 1, 4096, 10, data), 0);
    blob_fixture_close(&fixture);
}

static void a_chunk_ends_at_its_size_or_when_rolled(void **state)
{
    struct blob_fixture fixture;
    struct blob_ref first, second;
    uint64_t last_id;

    (void)state;
    blob_fixture_open(&fixture, IO_BACKEND_SYNC, BLOB_MEBIBYTE, 3, 0);
    assert_int_equal(blob_writer_last_id(fixture.writer), 0);
    blob_writer_roll(fixture.writer); /* nothing to end */
    assert_int_equal(blob_fixture_append(&fixture, 10, 1, &first), 0);
    assert_int_equal(blob_writer_last_id(fixture.writer), first.chunk_id);
    blob_writer_roll(fixture.writer);
    blob_writer_roll(fixture.writer);
    assert_int_equal(blob_writer_last_id(fixture.writer), first.chunk_id);
    assert_int_equal(blob_fixture_append(&fixture, 10, 2, &second), 0);
    assert_true(second.chunk_id > first.chunk_id);
    for (int i = 0; i < 8; i++)
        assert_int_equal(blob_fixture_append(&fixture, FRAME_SIZE, 1, &first), 0);
    assert_int_equal(first.chunk_id, second.chunk_id);
    last_id = first.chunk_id;
    assert_int_equal(blob_fixture_append(&fixture, 10, 1, &first), 0);
    assert_true(first.chunk_id > last_id);
    assert_int_equal(blob_writer_last_id(fixture.writer), first.chunk_id);
    blob_fixture_close(&fixture);
}

/* ---- durability ---- */

static void a_sync_puts_every_frame_into_the_file(void **state)
{
    static struct blob_ref refs[30];
    struct blob_fixture fixture;

    (void)state;
    blob_fixture_open(&fixture, IO_BACKEND_SYNC, 64 * BLOB_MEBIBYTE, 4, 1);
    for (uint64_t i = 0; i < 30; i++) {
        char name[CHUNK_NAME_SIZE], *path;
        uint8_t *file;
        size_t size;

        assert_int_equal(blob_fixture_append(&fixture, 1 + (uint32_t)(i * 3777), i, &refs[i]), 0);
        assert_int_equal(blob_writer_sync(fixture.writer), 0);
        assert_int_equal(statistics_of(&fixture).pending_bytes, 0);
        chunk_open_name(name, refs[i].chunk_id);
        path = test_path(fixture.disk.path, name);
        file = test_file_read(path, &size);
        assert_int_equal(chunk_header_check(file, CHUNK_BLOB, blob_uuid, refs[i].chunk_id), 0);
        for (uint64_t k = 0; k <= i; k++)
            assert_true(blob_fixture_is_frame(&refs[k], file + refs[k].position, k));
        free(file);
        free(path);
    }
    blob_fixture_close(&fixture);
}

static void a_new_chunks_name_is_synced_before_its_data_is_called_durable(void **state)
{
    struct blob_fixture fixture;
    struct blob_ref ref;
    uint64_t syncs;

    (void)state;
    blob_fixture_open(&fixture, IO_BACKEND_SYNC, 64 * BLOB_MEBIBYTE, 4, 0);
    assert_int_equal(blob_fixture_append(&fixture, 100, 1, &ref), 0);
    syncs = fault_io_count(fixture.fault, FAULT_SYNC);
    assert_int_equal(blob_writer_sync(fixture.writer), 0);
    assert_int_equal(fault_io_count(fixture.fault, FAULT_SYNC), syncs + 2);
    assert_int_equal(blob_fixture_append(&fixture, 100, 1, &ref), 0);
    assert_int_equal(blob_writer_sync(fixture.writer), 0);
    assert_int_equal(fault_io_count(fixture.fault, FAULT_SYNC), syncs + 3);
    blob_fixture_close(&fixture);
}

static void r03_what_is_in_the_file_is_not_written_again(void **state)
{
    struct blob_fixture fixture;
    struct blob_ref ref;
    uint64_t writes, syncs;

    (void)state;
    blob_fixture_open(&fixture, IO_BACKEND_SYNC, 64 * BLOB_MEBIBYTE, 4, 0);
    assert_int_equal(blob_writer_sync(fixture.writer), 0);
    assert_int_equal(fault_io_count(fixture.fault, FAULT_SYNC), 0);
    assert_int_equal(blob_fixture_append(&fixture, 4096, 1, &ref), 0);
    assert_int_equal(blob_writer_sync(fixture.writer), 0);
    writes = fault_io_count(fixture.fault, FAULT_WRITE);
    syncs = fault_io_count(fixture.fault, FAULT_SYNC);
    assert_int_equal(writes, 1); /* header and frame in one */
    assert_int_equal(blob_writer_sync(fixture.writer), 0);
    assert_int_equal(fault_io_count(fixture.fault, FAULT_WRITE), writes);
    assert_int_equal(fault_io_count(fixture.fault, FAULT_SYNC), syncs);
    blob_fixture_close(&fixture);
}

static void pieces_stand_in_for_a_sync(void **state)
{
    struct chunk_identity *identities;
    struct blob_fixture fixture;
    struct blob_piece pieces[2];
    struct blob_ref refs[3];
    size_t count;

    (void)state;
    blob_fixture_open(&fixture, IO_BACKEND_SYNC, 64 * BLOB_MEBIBYTE, 4, 0);
    assert_int_equal(blob_writer_take_pieces(fixture.writer, UINT64_MAX, 65536, pieces, 2), 0);
    /* Else the thread may write the first chunk, which ends, before its piece is taken. */
    fault_io_stall(fixture.fault, FAULT_WRITE, 1);
    assert_int_equal(blob_fixture_append(&fixture, 3000, 1, &refs[0]), 0);
    blob_writer_roll(fixture.writer);
    assert_int_equal(blob_fixture_append(&fixture, 2000, 3, &refs[1]), 0);

    assert_int_equal(blob_writer_take_pieces(fixture.writer, UINT64_MAX, 4999, pieces, 2), -E2BIG);
    assert_int_equal(blob_writer_take_pieces(fixture.writer, UINT64_MAX, 65536, pieces, 1), -E2BIG);
    assert_int_equal(blob_writer_take_pieces(fixture.writer, refs[0].chunk_id, 3000, pieces, 1), 1);
    assert_int_equal(pieces[0].chunk_id, refs[0].chunk_id);
    assert_int_equal(blob_writer_take_pieces(fixture.writer, UINT64_MAX, 65536, pieces, 2), 1);
    assert_int_equal(pieces[0].chunk_id, refs[1].chunk_id);
    assert_int_equal(pieces[0].position, refs[1].position);
    assert_int_equal(pieces[0].size, 2000);
    assert_true(blob_fixture_is_frame(&refs[1], pieces[0].data, 3));

    /* Not offered again, not synced again; the next frame is. */
    assert_int_equal(blob_writer_take_pieces(fixture.writer, UINT64_MAX, 65536, pieces, 2), 0);
    assert_int_equal(blob_writer_sync(fixture.writer), 0);
    assert_int_equal(fault_io_count(fixture.fault, FAULT_SYNC), 0);
    assert_int_equal(blob_fixture_append(&fixture, 5000, 5, &refs[2]), 0);
    assert_int_equal(blob_writer_take_pieces(fixture.writer, UINT64_MAX, 65536, pieces, 2), 1);
    assert_true(blob_fixture_is_frame(&refs[2],
                                      pieces[0].data + (refs[2].position - pieces[0].position), 5));

    fault_io_clear(fixture.fault, FAULT_WRITE);
    assert_int_equal(blob_fixture_seal(&fixture, &identities, &count), 0);
    assert_int_equal(count, 2);
    assert_true(blob_fixture_reads_back(&fixture, &refs[0], 1));
    assert_true(blob_fixture_reads_back(&fixture, &refs[1], 3));
    assert_true(blob_fixture_reads_back(&fixture, &refs[2], 5));
    free(identities);
    blob_fixture_close(&fixture);
}

static void what_left_the_buffers_is_not_offered_as_a_piece(void **state)
{
    struct blob_fixture fixture;
    struct blob_piece piece;
    struct blob_ref ref;

    (void)state;
    blob_fixture_open(&fixture, IO_BACKEND_SYNC, 64 * BLOB_MEBIBYTE, 2, 0);
    for (int i = 0; i < 30; i++)
        assert_int_equal(blob_fixture_append(&fixture, FRAME_SIZE, 1, &ref), 0);
    assert_int_equal(
        blob_writer_take_pieces(fixture.writer, UINT64_MAX, 64 * BLOB_MEBIBYTE, &piece, 1), -E2BIG);
    assert_int_equal(blob_writer_sync(fixture.writer), 0);
    assert_int_equal(blob_fixture_append(&fixture, 100, 1, &ref), 0);
    assert_int_equal(blob_writer_take_pieces(fixture.writer, UINT64_MAX, 100, &piece, 1), 1);
    assert_int_equal(piece.position, ref.position);
    blob_fixture_close(&fixture);
}

/* ---- sealing ---- */

static void r28_a_sealed_chunk_is_named_after_its_content(void **state)
{
    struct chunk_identity *identities;
    struct blob_fixture fixture;
    struct checksum_stream *stream;
    struct chunk_trailer trailer;
    struct checksum128 hash;
    struct blob_ref ref;
    size_t count = 0, size;
    struct stat status;
    uint8_t *file;
    char *path;

    (void)state;
    blob_fixture_open(&fixture, IO_BACKEND_SYNC, 64 * BLOB_MEBIBYTE, 4, 0);
    for (uint32_t frame_size = 3900; frame_size < 4200; frame_size += 60) {
        assert_int_equal(blob_fixture_append(&fixture, frame_size, 1, &ref), 0);
        assert_int_equal(blob_fixture_seal(&fixture, &identities, &count), 0);
        assert_int_equal(count, 1);
        path = chunk_path(&fixture, &identities[0]);
        file = test_file_read(path, &size);
        assert_int_equal(size, ref.position + frame_size + CHUNK_TRAILER_SIZE);
        assert_int_equal(chunk_trailer_decode(file + size - CHUNK_TRAILER_SIZE, &trailer), 0);
        stream = checksum_stream_new();
        checksum_stream_update(stream, file, size - CHUNK_TRAILER_SIZE);
        hash = checksum_stream_digest(stream);
        checksum_stream_free(stream);
        assert_true(hash.low != 0 || hash.high != 0);
        assert_true(trailer.hash.low == hash.low && trailer.hash.high == hash.high);
        assert_true(identities[0].hash.low == hash.low && identities[0].hash.high == hash.high);
        assert_int_equal(trailer.id, ref.chunk_id);
        assert_int_equal(trailer.kind, CHUNK_BLOB);
        assert_int_equal(trailer.content_size_bytes, size - CHUNK_TRAILER_SIZE);
        assert_int_equal(trailer.values[0], 1);
        assert_int_equal(stat(path, &status), 0);
        assert_int_equal(status.st_mode & 07777, 0444);
        assert_false(open_chunk_exists(&fixture, ref.chunk_id));
        blob_writer_forget(fixture.writer, ref.chunk_id);
        free(identities);
        free(file);
        free(path);
    }
    blob_fixture_close(&fixture);
}

static void sealed_chunks_are_reported_until_they_are_forgotten(void **state)
{
    struct chunk_identity *identities = NULL;
    struct blob_fixture fixture;
    struct blob_ref refs[3];
    uint8_t data[10];
    size_t count = 0;

    (void)state;
    blob_fixture_open(&fixture, IO_BACKEND_SYNC, 64 * BLOB_MEBIBYTE, 4, 0);
    for (uint64_t i = 0; i < 3; i++) {
        assert_int_equal(blob_fixture_append(&fixture, 10, i, &refs[i]), 0);
        if (i < 2)
            blob_writer_roll(fixture.writer);
    }
    /* Only those asked for, and never the open one. */
    assert_int_equal(blob_writer_seal(fixture.writer, refs[0].chunk_id, &identities, &count), 0);
    assert_int_equal(count, 1);
    assert_int_equal(blob_writer_seal(fixture.writer, UINT64_MAX, &identities, &count), 0);
    assert_int_equal(count, 3); /* appended: the first again, and the second */
    assert_int_equal(identities[1].id, refs[0].chunk_id);
    assert_int_equal(identities[2].id, refs[1].chunk_id);
    assert_true(blob_fixture_reads_back(&fixture, &refs[0], 0));
    blob_writer_forget(fixture.writer, refs[0].chunk_id);
    assert_int_equal(blob_writer_read(fixture.writer, refs[0].chunk_id, refs[0].position, 10, data),
                     0);
    assert_true(blob_fixture_reads_back(&fixture, &refs[1], 1));
    count = 0;
    assert_int_equal(blob_writer_seal(fixture.writer, UINT64_MAX, &identities, &count), 0);
    assert_int_equal(count, 1);
    assert_int_equal(identities[0].id, refs[1].chunk_id);
    assert_int_equal(statistics_of(&fixture).chunks_sealed, 2);
    free(identities);
    blob_fixture_close(&fixture);
}

static void r63_a_chunk_whose_id_is_in_use_is_not_overwritten(void **state)
{
    struct blob_fixture fixture;
    struct blob_ref ref;
    uint8_t *content;
    char *path;
    size_t size;

    (void)state;
    blob_fixture_open(&fixture, IO_BACKEND_SYNC, 64 * BLOB_MEBIBYTE, 4, 0);
    path = test_path(fixture.disk.path, "0000000000000001.open");
    test_file_write(path, "precious", 8);
    assert_int_equal(blob_fixture_append(&fixture, 10, 1, &ref), 0);
    assert_int_equal(blob_writer_sync(fixture.writer), -EEXIST);
    content = test_file_read(path, &size);
    assert_int_equal(size, 8);
    assert_memory_equal(content, "precious", 8);
    free(content);
    free(path);
    blob_fixture_close(&fixture);
}

static void closing_leaves_open_chunks_and_no_empty_ones(void **state)
{
    struct blob_fixture fixture;
    struct blob_ref ref;
    bool has_second = false;

    (void)state;
    blob_fixture_open(&fixture, IO_BACKEND_SYNC, 4 * BLOB_MEBIBYTE, 4, 0);
    for (int i = 0; i < 20; i++)
        assert_int_equal(blob_fixture_append(&fixture, FRAME_SIZE, 1, &ref), 0);
    assert_int_equal(ref.chunk_id, 1);
    /* Past the half of the first, the second is made ahead. */
    for (int i = 0; i < 1000 && !has_second; i++) {
        usleep(1000);
        has_second = open_chunk_exists(&fixture, 2);
    }
    assert_true(has_second);
    assert_int_equal(blob_writer_sync(fixture.writer), 0);
    blob_writer_close(fixture.writer);
    fixture.writer = NULL;
    assert_true(open_chunk_exists(&fixture, 1));
    assert_false(open_chunk_exists(&fixture, 2));
    blob_fixture_close(&fixture);
}

/* ---- failing ---- */

struct appender {
    struct blob_fixture *fixture;
    int frames, error;
};

static void a_failed_sync_is_kept_and_never_tried_again(void **state)
{
    (void)state;
    for (uint64_t nth = 1; nth <= 2; nth++) { /* the directory, the file */
        struct chunk_identity *identities;
        struct blob_fixture fixture;
        struct blob_ref ref;
        uint64_t syncs;
        size_t count;

        blob_fixture_open(&fixture, IO_BACKEND_SYNC, 64 * BLOB_MEBIBYTE, 4, 0);
        assert_int_equal(blob_fixture_append(&fixture, 5000, 1, &ref), 0);
        fault_io_fail(fixture.fault, FAULT_SYNC, nth, -EIO, false);
        assert_int_equal(blob_writer_sync(fixture.writer), -EIO);
        syncs = fault_io_count(fixture.fault, FAULT_SYNC);
        assert_int_equal(blob_writer_sync(fixture.writer), -EIO);
        assert_int_equal(blob_fixture_append(&fixture, 5000, 1, &ref), -EIO);
        assert_int_equal(blob_fixture_seal(&fixture, &identities, &count), -EIO);
        assert_int_equal(count, 0);
        assert_int_equal(fault_io_count(fixture.fault, FAULT_SYNC), syncs);
        /* What was acknowledged from memory stays readable. */
        assert_true(blob_fixture_reads_back(&fixture, &ref, 1));
        free(identities);
        blob_fixture_close(&fixture);
    }
}

/* A writer that syncs each MiB by itself. */
static void open_that_syncs_ahead(struct blob_fixture *fixture)
{
    blob_fixture_open(fixture, IO_BACKEND_SYNC, 64 * BLOB_MEBIBYTE, 8, 0);
    blob_writer_close(fixture->writer);
    fixture->sync_ahead_bytes = BLOB_MEBIBYTE;
    assert_int_equal(blob_fixture_open_writer(fixture, fixture->io, 64 * BLOB_MEBIBYTE, 8, 0), 0);
}

static void a_stream_is_synced_ahead_of_who_asks(void **state)
{
    struct blob_fixture fixture;
    struct blob_piece pieces[1];
    struct blob_ref ref;

    (void)state;
    open_that_syncs_ahead(&fixture);
    for (uint64_t i = 0; i < 5 * BLOB_MEBIBYTE / FRAME_SIZE; i++)
        assert_int_equal(blob_fixture_append(&fixture, FRAME_SIZE, i, &ref), 0);
    /* As long as data has left the buffers and is not durable there are no pieces. */
    while (blob_writer_take_pieces(fixture.writer, ref.chunk_id, BLOB_MEBIBYTE, pieces, 1) ==
           -E2BIG)
        usleep(1000);
    assert_true(fault_io_count(fixture.fault, FAULT_SYNC) >= 2); /* the directory, the file */
    blob_fixture_close(&fixture);
}

static void a_sync_ahead_that_fails_is_kept_and_never_tried_again(void **state)
{
    struct blob_fixture fixture;
    struct blob_ref ref;

    (void)state;
    open_that_syncs_ahead(&fixture);
    fault_io_fail(fixture.fault, FAULT_SYNC, 2, -EIO, false);
    for (uint64_t i = 0; blob_writer_error(fixture.writer) == 0; i++) {
        if (i < 2 * BLOB_MEBIBYTE / FRAME_SIZE)
            (void)blob_fixture_append(&fixture, FRAME_SIZE, i, &ref);
        else
            usleep(1000);
    }
    assert_int_equal(blob_writer_sync(fixture.writer), -EIO);
    assert_int_equal(blob_fixture_append(&fixture, FRAME_SIZE, 1, &ref), -EIO);
    assert_int_equal(fault_io_count(fixture.fault, FAULT_SYNC), 2);
    blob_fixture_close(&fixture);
}

static void *sync_in_thread(void *argument)
{
    struct appender *appender = argument;

    appender->error = blob_writer_sync(appender->fixture->writer);
    return NULL;
}

/* The kernel tells one of them only. */
static void a_sync_that_fails_fails_for_all_who_wait_for_it(void **state)
{
    struct blob_fixture fixture;
    struct appender appenders[3];
    pthread_t threads[3];
    struct blob_ref ref;
    uint64_t syncs;

    (void)state;
    blob_fixture_open(&fixture, IO_BACKEND_SYNC, 64 * BLOB_MEBIBYTE, 4, 0);
    assert_int_equal(blob_fixture_append(&fixture, 5000, 1, &ref), 0);
    assert_int_equal(blob_writer_sync(fixture.writer), 0);
    assert_int_equal(blob_fixture_append(&fixture, 5000, 1, &ref), 0);
    fault_io_stall(fixture.fault, FAULT_SYNC, 1);
    for (int i = 0; i < 3; i++) {
        appenders[i] = (struct appender){&fixture, 0, 0};
        assert_int_equal(pthread_create(&threads[i], NULL, sync_in_thread, &appenders[i]), 0);
    }
    fault_io_wait_stalled(fixture.fault);
    usleep(20000);
    syncs = fault_io_count(fixture.fault, FAULT_SYNC);
    /* Who stalls fails; later syncs would succeed. */
    fault_io_fail(fixture.fault, FAULT_SYNC, 0, -EIO, false);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_int_equal(appenders[i].error, -EIO);
    }
    assert_int_equal(fault_io_count(fixture.fault, FAULT_SYNC), syncs);
    blob_fixture_close(&fixture);
}

static void a_failed_write_wakes_who_waits_for_room(void **state)
{
    struct blob_fixture fixture;
    struct blob_ref ref, first;
    int error = 0;

    (void)state;
    blob_fixture_open(&fixture, IO_BACKEND_SYNC, 64 * BLOB_MEBIBYTE, 2, 0);
    fault_io_fail(fixture.fault, FAULT_WRITE, 1, -EIO, true);
    assert_int_equal(blob_fixture_append(&fixture, FRAME_SIZE, 1, &first), 0);
    for (int i = 0; i < 100 && error == 0; i++)
        error = blob_fixture_append(&fixture, FRAME_SIZE, 1, &ref);
    assert_int_equal(error, -EIO);
    assert_int_equal(blob_writer_sync(fixture.writer), -EIO);
    assert_int_equal(fault_io_count(fixture.fault, FAULT_WRITE), 1);
    assert_true(blob_fixture_reads_back(&fixture, &first, 1));
    blob_fixture_close(&fixture);
}

static void *append_frames(void *argument)
{
    struct appender *appender = argument;
    struct blob_ref ref;

    for (int i = 0; i < appender->frames && appender->error == 0; i++)
        appender->error = blob_fixture_append(appender->fixture, FRAME_SIZE, 1, &ref);
    return NULL;
}

static void r04_a_stalled_disk_makes_appends_wait_within_bounds(void **state)
{
    struct blob_fixture fixture;
    struct appender appender = {&fixture, 64, 0};
    uint64_t pending;
    pthread_t thread;

    (void)state;
    blob_fixture_open(&fixture, IO_BACKEND_SYNC, 64 * BLOB_MEBIBYTE, 3, 0);
    fault_io_stall(fixture.fault, FAULT_WRITE, 1);
    assert_int_equal(pthread_create(&thread, NULL, append_frames, &appender), 0);
    fault_io_wait_stalled(fixture.fault);
    for (unsigned tries = 0; statistics_of(&fixture).waits == 0; tries++) {
        assert_true(tries < 20000);
        usleep(1000);
    }
    usleep(20000);
    assert_int_equal(statistics_of(&fixture).waits, 1);
    pending = statistics_of(&fixture).pending_bytes;
    assert_in_range(pending, 2 * BLOB_MEBIBYTE, 3 * BLOB_MEBIBYTE);
    assert_true(statistics_of(&fixture).frames < 24);
    fault_io_clear(fixture.fault, FAULT_WRITE);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(appender.error, 0);
    assert_int_equal(statistics_of(&fixture).frames, 64);
    assert_in_range(statistics_of(&fixture).pending_peak_bytes, pending, 3 * BLOB_MEBIBYTE);
    blob_fixture_close(&fixture);
}

static void *append_one_frame(void *argument)
{
    struct blob_fixture *fixture = argument;
    static struct blob_ref ref;

    return blob_fixture_append(fixture, FRAME_SIZE, 1, &ref) == 0 ? &ref : NULL;
}

/* The log gives up what it holds for chunks up to the id that a roll returns: a frame that comes
 * later must not be among them, not even one that has begun its chunk and waits for room. */
static void a_roll_parts_earlier_frames_from_later_ones(void **state)
{
    struct blob_fixture fixture;
    struct blob_ref first;
    uint64_t boundary;
    pthread_t thread;
    void *later;

    (void)state;
    blob_fixture_open(&fixture, IO_BACKEND_SYNC, 64 * BLOB_MEBIBYTE, 3, 0);
    assert_int_equal(blob_writer_roll(fixture.writer), 0);
    fault_io_stall(fixture.fault, FAULT_WRITE, 1);
    /* Three buffers hold 23 frames and the chunk's header. */
    for (int i = 0; i < 23; i++)
        assert_int_equal(blob_fixture_append(&fixture, FRAME_SIZE, 1, &first), 0);
    assert_int_equal(blob_writer_roll(fixture.writer), first.chunk_id);
    assert_int_equal(pthread_create(&thread, NULL, append_one_frame, &fixture), 0);
    while (statistics_of(&fixture).waits == 0)
        usleep(1000);
    assert_true(blob_writer_last_id(fixture.writer) > first.chunk_id);
    boundary = blob_writer_roll(fixture.writer);
    fault_io_clear(fixture.fault, FAULT_WRITE);
    assert_int_equal(pthread_join(thread, &later), 0);
    assert_non_null(later);
    assert_true(first.chunk_id <= boundary);
    assert_true(((const struct blob_ref *)later)->chunk_id > boundary);
    blob_fixture_close(&fixture);
}

static void a_full_file_system_is_reported_at_the_append_and_not_kept(void **state)
{
    struct blob_fixture fixture;
    struct blob_ref ref;

    (void)state;
    blob_fixture_open(&fixture, IO_BACKEND_SYNC, 64 * BLOB_MEBIBYTE, 2, 0);
    fault_io_set_space(fixture.fault, 640 * BLOB_MEBIBYTE, 10 * BLOB_MEBIBYTE + 4 * FRAME_SIZE);
    /* Learn of it: by a write. */
    assert_int_equal(blob_fixture_append(&fixture, FRAME_SIZE, 1, &ref), 0);
    assert_int_equal(blob_writer_sync(fixture.writer), 0);
    /* A 64th is kept back. */
    for (int i = 0; i < 4; i++)
        assert_int_equal(blob_fixture_append(&fixture, FRAME_SIZE, 1, &ref), 0);
    assert_int_equal(blob_fixture_append(&fixture, FRAME_SIZE, 1, &ref), -ENOSPC);
    assert_int_equal(blob_writer_sync(fixture.writer), 0);
    fault_io_set_space(fixture.fault, 640 * BLOB_MEBIBYTE, 300 * BLOB_MEBIBYTE);
    assert_int_equal(blob_fixture_append(&fixture, FRAME_SIZE, 1, &ref), 0);
    blob_fixture_close(&fixture);
}

static void r15_cut_and_interrupted_writes_are_continued(void **state)
{
    struct chunk_identity *identities;
    static struct blob_ref refs[40];
    struct blob_fixture fixture;
    size_t count;

    (void)state;
    blob_fixture_open(&fixture, IO_BACKEND_SYNC, 2 * BLOB_MEBIBYTE, 2, 0);
    fault_io_cut(fixture.fault, FAULT_WRITE, 1, 5 * 4096, true);
    for (uint64_t i = 0; i < 20; i++)
        assert_int_equal(blob_fixture_append(&fixture, FRAME_SIZE - 100, i, &refs[i]), 0);
    assert_int_equal(blob_writer_sync(fixture.writer), 0);
    fault_io_fail(fixture.fault, FAULT_WRITE, 2, -EINTR, false);
    for (uint64_t i = 20; i < 40; i++)
        assert_int_equal(blob_fixture_append(&fixture, FRAME_SIZE - 100, i, &refs[i]), 0);
    assert_int_equal(blob_fixture_seal(&fixture, &identities, &count), 0);
    for (uint64_t i = 0; i < 40; i++)
        assert_true(blob_fixture_reads_back(&fixture, &refs[i], i));
    free(identities);
    blob_fixture_close(&fixture);
}

static void open_refuses_what_cannot_work(void **state)
{
    struct blob_fixture fixture;
    struct blob_writer *writer;

    (void)state;
    blob_fixture_open(&fixture, IO_BACKEND_SYNC, BLOB_MEBIBYTE, 2, 0);
    writer = fixture.writer;
    assert_int_equal(blob_fixture_open_writer(&fixture, fixture.io, BLOB_MEBIBYTE, 1, 0), -EINVAL);
    assert_int_equal(blob_fixture_open_writer(&fixture, fixture.io, UINT64_MAX, 2, 0), -EINVAL);
    assert_ptr_equal(fixture.writer, writer);
    blob_fixture_close(&fixture);
}

/* ---- threads ---- */

struct worker {
    struct blob_fixture *fixture;
    uint64_t number, random;
    int failures;
};

static void *append_and_read(void *argument)
{
    enum { FRAMES = 60 };
    struct worker *worker = argument;
    struct blob_ref refs[FRAMES];

    for (uint64_t i = 0; i < FRAMES; i++) {
        uint64_t other = seed_below(&worker->random, i + 1);

        worker->failures += blob_fixture_append(worker->fixture, random_size(&worker->random),
                                                worker->number + i, &refs[i]) != 0;
        worker->failures +=
            !blob_fixture_reads_back(worker->fixture, &refs[other], worker->number + other);
        if (i % 16 == worker->number % 16)
            worker->failures += blob_writer_sync(worker->fixture->writer) != 0;
        if (i == 30)
            blob_writer_roll(worker->fixture->writer);
    }
    return NULL;
}

struct sealer {
    struct blob_fixture *fixture;
    bool must_stop;
    int failures;
};

static void *seal_what_ended(void *argument)
{
    struct sealer *sealer = argument;

    while (!__atomic_load_n(&sealer->must_stop, __ATOMIC_RELAXED)) {
        struct chunk_identity *identities = NULL;
        struct blob_piece pieces[4];
        size_t count = 0;

        sealer->failures +=
            blob_writer_seal(sealer->fixture->writer, UINT64_MAX, &identities, &count) != 0;
        free(identities);
        (void)blob_writer_take_pieces(sealer->fixture->writer, UINT64_MAX, 100000, pieces, 4);
    }
    return NULL;
}

static void appends_reads_syncs_and_seals_go_on_together(void **state)
{
    enum { WORKERS = 6 };
    uint64_t random = seed_start("appends_reads_syncs_and_seals_go_on_together");
    struct worker workers[WORKERS];
    pthread_t threads[WORKERS], thread;
    struct blob_fixture fixture;
    struct sealer sealer = {.fixture = &fixture};

    (void)state;
    blob_fixture_open(&fixture, IO_BACKEND_URING, 2 * BLOB_MEBIBYTE, 3, 1);
    blob_writer_close(fixture.writer);
    fixture.sync_ahead_bytes = BLOB_MEBIBYTE / 2;
    assert_int_equal(blob_fixture_open_writer(&fixture, fixture.io, 2 * BLOB_MEBIBYTE, 3, 1), 0);
    for (uint64_t i = 0; i < WORKERS; i++) {
        workers[i] = (struct worker){&fixture, i * 1001, seed_next(&random), 0};
        assert_int_equal(pthread_create(&threads[i], NULL, append_and_read, &workers[i]), 0);
    }
    assert_int_equal(pthread_create(&thread, NULL, seal_what_ended, &sealer), 0);
    for (uint64_t i = 0; i < WORKERS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_int_equal(workers[i].failures, 0);
    }
    __atomic_store_n(&sealer.must_stop, true, __ATOMIC_RELAXED);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(sealer.failures, 0);
    assert_int_equal(statistics_of(&fixture).frames, WORKERS * 60);
    blob_fixture_close(&fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frames_read_back_at_once_and_after_sealing),
        cmocka_unit_test(frames_appended_together_are_each_their_own),
        cmocka_unit_test(together_as_well_an_error_is_told),
        cmocka_unit_test(checksums_of_a_reference_are_those_of_its_bytes),
        cmocka_unit_test(a_read_past_the_end_or_of_another_chunk_is_refused),
        cmocka_unit_test(a_chunk_ends_at_its_size_or_when_rolled),
        cmocka_unit_test(a_sync_puts_every_frame_into_the_file),
        cmocka_unit_test(a_new_chunks_name_is_synced_before_its_data_is_called_durable),
        cmocka_unit_test(r03_what_is_in_the_file_is_not_written_again),
        cmocka_unit_test(pieces_stand_in_for_a_sync),
        cmocka_unit_test(what_left_the_buffers_is_not_offered_as_a_piece),
        cmocka_unit_test(r28_a_sealed_chunk_is_named_after_its_content),
        cmocka_unit_test(sealed_chunks_are_reported_until_they_are_forgotten),
        cmocka_unit_test(r63_a_chunk_whose_id_is_in_use_is_not_overwritten),
        cmocka_unit_test(closing_leaves_open_chunks_and_no_empty_ones),
        cmocka_unit_test(a_failed_sync_is_kept_and_never_tried_again),
        cmocka_unit_test(a_stream_is_synced_ahead_of_who_asks),
        cmocka_unit_test(a_sync_ahead_that_fails_is_kept_and_never_tried_again),
        cmocka_unit_test(a_sync_that_fails_fails_for_all_who_wait_for_it),
        cmocka_unit_test(a_failed_write_wakes_who_waits_for_room),
        cmocka_unit_test(r04_a_stalled_disk_makes_appends_wait_within_bounds),
        cmocka_unit_test(a_roll_parts_earlier_frames_from_later_ones),
        cmocka_unit_test(a_full_file_system_is_reported_at_the_append_and_not_kept),
        cmocka_unit_test(r15_cut_and_interrupted_writes_are_continued),
        cmocka_unit_test(open_refuses_what_cannot_work),
        cmocka_unit_test(appends_reads_syncs_and_seals_go_on_together),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
