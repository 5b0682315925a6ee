/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_blob_reader.c - tests of engine/blob_reader.h
 */
#include "engine/blob_reader.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/base/checksum.h"
#include "engine/base/endian.h"
#include "engine/base/error.h"
#include "engine/chunk_hash.h"
#include "tests/lib/blob_fixture.h"

#define FRAME_SIZE ((uint32_t)(128 * 1024))
#define FRAMES_MAX 200

struct fixture {
    struct blob_fixture blobs;
    struct blob_ref refs[FRAMES_MAX];
    uint64_t frame_count;
    struct chunk_identity *identities;
    size_t identity_count;
    unsigned resolved;
    struct block_cache *cache;
    struct blob_reader *reader;
};

static int resolve(void *context, uint64_t id, struct chunk_identity *ret_identity)
{
    struct fixture *fixture = context;

    __atomic_fetch_add(&fixture->resolved, 1, __ATOMIC_RELAXED);
    for (size_t i = 0; i < fixture->identity_count; i++) {
        if (fixture->identities[i].id == id) {
            *ret_identity = fixture->identities[i];
            return 0;
        }
    }
    return ERROR_MISSING_CHUNK;
}

static void fixture_open(struct fixture *fixture, enum io_backend backend, uint64_t chunk_size,
                         int level, size_t cache_size, uint32_t descriptors_max)
{
    struct blob_reader_options options;

    memset(fixture, 0, sizeof *fixture);
    blob_fixture_open(&fixture->blobs, backend, chunk_size, 3, level);
    if (cache_size > 0) {
        fixture->cache = block_cache_new(cache_size);
        assert_non_null(fixture->cache);
    }
    options = (struct blob_reader_options){
        .io = fixture->blobs.io,
        .chunk_directory = fixture->blobs.disk.root,
        .store_uuid = blob_uuid,
        .writer = fixture->blobs.writer,
        .cache = fixture->cache,
        .descriptors_max = descriptors_max,
        .resolve = resolve,
        .context = fixture,
    };
    assert_int_equal(blob_reader_open(&options, &fixture->reader), 0);
}

static void fixture_close(struct fixture *fixture)
{
    blob_reader_close(fixture->reader);
    blob_fixture_close(&fixture->blobs);
    block_cache_free(fixture->cache);
    free(fixture->identities);
}

static void append(struct fixture *fixture, uint32_t size)
{
    uint64_t number = fixture->frame_count++;

    assert_int_equal(blob_fixture_append(&fixture->blobs, size, number, &fixture->refs[number]), 0);
}

/* Seal all, so that the reader has to open files. */
static void seal(struct fixture *fixture)
{
    free(fixture->identities);
    assert_int_equal(
        blob_fixture_seal(&fixture->blobs, &fixture->identities, &fixture->identity_count), 0);
    for (size_t i = 0; i < fixture->identity_count; i++)
        blob_writer_forget(fixture->blobs.writer, fixture->identities[i].id);
}

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

/* Read the slice and compare. 0, the error, or 1 when it succeeded with other bytes. */
static int read_slice(struct fixture *fixture, uint64_t number, uint32_t skip, uint32_t length)
{
    struct blob_ref ref = fixture->refs[number];
    uint8_t *frame = malloc(ref.raw_size), *to = malloc(length);
    struct blob_read read = {&ref, to};
    int result;

    blob_ref_slice(&ref, skip, length);
    blob_fixture_fill(frame, ref.raw_size, number);
    result = blob_reader_read(fixture->reader, &read, 1);
    if (result == 0)
        result = memcmp(to, frame + skip, length) != 0;
    free(frame);
    free(to);
    return result;
}

static int read_frame(struct fixture *fixture, uint64_t number)
{
    return read_slice(fixture, number, 0, fixture->refs[number].raw_size);
}

/* ---- right bytes ---- */

/* Random slices of random frames, up to 100 in one call, at any alignment. */
static void read_random(struct fixture *fixture, uint64_t *random)
{
    enum { READS = 100 };
    struct blob_ref refs[READS];
    struct blob_read reads[READS];
    uint64_t numbers[READS];
    size_t count = 1 + seed_below(random, READS), room = 4096, used;
    bool in_order = seed_below(random, 2) == 0;
    uint8_t *memory, *frame = malloc(FRAME_SIZE);
    uint64_t number = seed_below(random, fixture->frame_count);

    for (size_t i = 0; i < count; i++) {
        struct blob_ref *ref = &refs[i];

        *ref = fixture->refs[number];
        numbers[i] = number;
        if (seed_below(random, 3) == 0) {
            uint32_t skip = (uint32_t)seed_below(random, ref->raw_size);

            blob_ref_slice(ref, skip, 1 + (uint32_t)seed_below(random, ref->raw_size - skip));
        }
        room += ref->length;
        number = in_order ? (number + 1) % fixture->frame_count
                          : seed_below(random, fixture->frame_count);
    }
    memory = io_allocate_aligned(room);
    assert_non_null(memory);
    used = seed_below(random, 2) == 0 ? 0 : seed_below(random, 4096);
    for (size_t i = 0; i < count; i++) {
        reads[i] = (struct blob_read){&refs[i], memory + used};
        used += refs[i].length;
    }
    assert_int_equal(blob_reader_read(fixture->reader, reads, count), 0);
    for (size_t i = 0; i < count; i++) {
        blob_fixture_fill(frame, refs[i].raw_size, numbers[i]);
        assert_memory_equal(reads[i].to, frame + refs[i].skip, refs[i].length);
    }
    free(memory);
    free(frame);
}

static void any_slices_read_right(enum io_backend backend, int level, size_t cache_size)
{
    uint64_t random = seed_start("any_slices_read_right");
    struct fixture fixture;

    fixture_open(&fixture, backend, BLOB_MEBIBYTE, level, cache_size, 8);
    for (int i = 0; i < FRAMES_MAX / 2; i++)
        append(&fixture, random_size(&random));
    for (int i = 0; i < 10; i++)
        read_random(&fixture, &random); /* of the writer */
    seal(&fixture);
    assert_true(fixture.identity_count > 1);
    for (int i = 0; i < FRAMES_MAX / 2; i++)
        append(&fixture, random_size(&random));
    for (int i = 0; i < 40; i++)
        read_random(&fixture, &random); /* of both */
    fixture_close(&fixture);
}

static void any_slices_of_compressed_frames_read_right(void **state)
{
    (void)state;
    any_slices_read_right(IO_BACKEND_URING, 1, 4 * 1024 * 1024);
}

static void any_slices_of_raw_frames_read_right(void **state)
{
    (void)state;
    any_slices_read_right(IO_BACKEND_SYNC, 0, 0);
}

static void any_slices_without_a_cache_read_right(void **state)
{
    (void)state;
    any_slices_read_right(IO_BACKEND_SYNC, 1, 0);
}

static void r15_short_and_interrupted_reads_are_continued(void **state)
{
    struct fixture fixture;

    (void)state;
    fixture_open(&fixture, IO_BACKEND_SYNC, 64 * BLOB_MEBIBYTE, 1, 0, 8);
    for (int i = 0; i < 20; i++)
        append(&fixture, FRAME_SIZE - (uint32_t)i * 3001);
    seal(&fixture);
    fault_io_cut(fixture.blobs.fault, FAULT_READ, 1, 3 * 4096, true);
    for (uint64_t i = 0; i < 20; i++)
        assert_int_equal(read_frame(&fixture, i), 0);
    for (uint64_t i = 0; i < 20; i++) {
        fault_io_fail(fixture.blobs.fault, FAULT_READ, 1, i % 2 == 0 ? -EINTR : -EAGAIN, false);
        assert_int_equal(read_frame(&fixture, i), 0);
    }
    fixture_close(&fixture);
}

/* ---- few reads ---- */

static void neighbours_are_fetched_with_one_read(void **state)
{
    struct blob_read reads[16];
    struct fixture fixture;
    uint8_t *memory;
    uint64_t before;

    (void)state;
    fixture_open(&fixture, IO_BACKEND_SYNC, 64 * BLOB_MEBIBYTE, 0, 0, 8);
    for (int i = 0; i < 8; i++)
        append(&fixture, FRAME_SIZE);
    for (int i = 0; i < 8; i++)
        append(&fixture, 1000 + 700 * (uint32_t)i);
    seal(&fixture);
    assert_int_equal(read_frame(&fixture, 0), 0); /* opens the file */
    memory = io_allocate_aligned(8 * FRAME_SIZE);
    assert_non_null(memory);

    /* Eight whole frames, one MiB, to where they are wanted. */
    for (size_t i = 0; i < 8; i++)
        reads[i] = (struct blob_read){&fixture.refs[i], memory + i * FRAME_SIZE};
    before = fault_io_count(fixture.blobs.fault, FAULT_READ);
    assert_int_equal(blob_reader_read(fixture.reader, reads, 8), 0);
    assert_int_equal(fault_io_count(fixture.blobs.fault, FAULT_READ), before + 1);

    /* Eight small ones with gaps, to places apart. */
    for (size_t i = 0; i < 8; i++)
        reads[i] = (struct blob_read){&fixture.refs[8 + i], memory + i * 10000};
    before = fault_io_count(fixture.blobs.fault, FAULT_READ);
    assert_int_equal(blob_reader_read(fixture.reader, reads, 8), 0);
    assert_int_equal(fault_io_count(fixture.blobs.fault, FAULT_READ), before + 1);
    free(memory);
    fixture_close(&fixture);
}

/* Slices of neighbouring frames, one behind the other from `to` on, cut at both ends. */
static void expect_run(struct fixture *fixture, uint8_t *to, size_t count, uint32_t cut_before,
                       uint32_t cut_after)
{
    uint8_t *frame = malloc(FRAME_SIZE);
    struct blob_ref refs[8];
    struct blob_read reads[8];
    uint8_t *at = to;

    for (size_t i = 0; i < count; i++) {
        uint32_t skip = i == 0 ? cut_before : 0;
        uint32_t end = i == count - 1 ? FRAME_SIZE - cut_after : FRAME_SIZE;

        refs[i] = fixture->refs[i];
        blob_ref_slice(&refs[i], skip, end - skip);
        reads[i] = (struct blob_read){&refs[i], at};
        at += end - skip;
    }
    *at = 0xa5;
    assert_int_equal(blob_reader_read(fixture->reader, reads, count), 0);
    assert_int_equal(*at, 0xa5);
    at = to;
    for (size_t i = 0; i < count; i++) {
        blob_fixture_fill(frame, FRAME_SIZE, i);
        assert_memory_equal(at, frame + refs[i].skip, refs[i].length);
        at += refs[i].length;
    }
    free(frame);
}

static void long_runs_read_right_to_any_place(void **state)
{
    /* Alignment of the destination is one thing, that of what is wanted another. */
    static const uint32_t offsets[] = {0, 1, 512, 4096, 5000};
    struct fixture fixture;
    uint8_t *memory;

    (void)state;
    fixture_open(&fixture, IO_BACKEND_SYNC, 64 * BLOB_MEBIBYTE, 0, 0, 8);
    for (int i = 0; i < 8; i++)
        append(&fixture, FRAME_SIZE);
    seal(&fixture);
    memory = io_allocate_aligned(9 * FRAME_SIZE);
    assert_non_null(memory);
    for (size_t i = 0; i < sizeof offsets / sizeof *offsets; i++)
        for (size_t before = 0; before < sizeof offsets / sizeof *offsets; before++)
            for (size_t after = 0; after < sizeof offsets / sizeof *offsets; after++)
                for (size_t count = 1; count <= 8; count += 7)
                    expect_run(&fixture, memory + offsets[i], count, offsets[before],
                               offsets[after]);
    free(memory);
    fixture_close(&fixture);
}

static void a_part_of_a_compressed_frame_is_kept_and_found_again(void **state)
{
    struct fixture fixture;
    uint64_t before;

    (void)state;
    fixture_open(&fixture, IO_BACKEND_SYNC, 64 * BLOB_MEBIBYTE, 1, 8 * 1024 * 1024, 8);
    append(&fixture, FRAME_SIZE);
    append(&fixture, FRAME_SIZE);
    append(&fixture, FRAME_SIZE);
    seal(&fixture);
    assert_int_equal(fixture.refs[2].codec, CODEC_ZSTD);
    assert_int_equal(read_frame(&fixture, 2), 0); /* whole frames are not kept */
    before = fault_io_count(fixture.blobs.fault, FAULT_READ);
    assert_int_equal(read_slice(&fixture, 2, 5000, 3000), 0);
    assert_int_equal(fault_io_count(fixture.blobs.fault, FAULT_READ), before + 1);
    assert_int_equal(read_slice(&fixture, 2, 100000, 3000), 0);
    assert_int_equal(read_frame(&fixture, 2), 0);
    assert_int_equal(fault_io_count(fixture.blobs.fault, FAULT_READ), before + 1);

    /* A hit must be of the frame that is meant, not only at its place. */
    fixture.refs[2].frame_checksum ^= 1;
    assert_int_equal(read_slice(&fixture, 2, 5000, 3000), ERROR_CORRUPT);
    fixture.refs[2].frame_checksum ^= 1;

    blob_reader_drop(fixture.reader, fixture.refs[2].chunk_id);
    before = fault_io_count(fixture.blobs.fault, FAULT_READ);
    assert_int_equal(read_slice(&fixture, 2, 5000, 3000), 0);
    assert_true(fault_io_count(fixture.blobs.fault, FAULT_READ) > before);
    fixture_close(&fixture);
}

static void one_call_decodes_a_frame_once(void **state)
{
    struct block_cache_statistics statistics;
    struct blob_ref refs[8];
    struct blob_read reads[8];
    uint8_t to[8][100];
    struct fixture fixture;
    uint64_t before;

    (void)state;
    fixture_open(&fixture, IO_BACKEND_SYNC, 64 * BLOB_MEBIBYTE, 1, 8 * 1024 * 1024, 8);
    append(&fixture, FRAME_SIZE);
    seal(&fixture);
    assert_int_equal(read_frame(&fixture, 0), 0);
    before = fault_io_count(fixture.blobs.fault, FAULT_READ);
    for (uint32_t i = 0; i < 8; i++) {
        refs[i] = fixture.refs[0];
        blob_ref_slice(&refs[i], i * 5000, 100);
        reads[i] = (struct blob_read){&refs[i], to[i]};
    }
    assert_int_equal(blob_reader_read(fixture.reader, reads, 8), 0);
    assert_int_equal(fault_io_count(fixture.blobs.fault, FAULT_READ), before + 1);
    block_cache_get_statistics(fixture.cache, &statistics);
    assert_int_equal(statistics.insertions, 1);
    fixture_close(&fixture);
}

static void descriptors_are_bounded(void **state)
{
    enum { CHUNKS = 30 };
    struct blob_read reads[2];
    struct fixture fixture;
    uint8_t *memory;
    int before;

    (void)state;
    fixture_open(&fixture, IO_BACKEND_SYNC, 64 * BLOB_MEBIBYTE, 0, 0, 5);
    for (int i = 0; i < CHUNKS; i++) {
        append(&fixture, FRAME_SIZE);
        append(&fixture, FRAME_SIZE);
        blob_writer_roll(fixture.blobs.writer);
    }
    seal(&fixture);
    memory = malloc(2 * FRAME_SIZE);
    assert_int_equal(fixture.identity_count, CHUNKS);
    before = io_fixture_count_descriptors();
    for (int round = 0; round < 2; round++) {
        for (uint64_t i = 0; i < CHUNKS; i++) {
            uint64_t number = round == 0 ? i : CHUNKS - 1 - i;

            /* Small reads use one descriptor, large ones two. */
            reads[0] = (struct blob_read){&fixture.refs[2 * number], memory};
            reads[1] = (struct blob_read){&fixture.refs[2 * number + 1], memory + FRAME_SIZE};
            assert_int_equal(blob_reader_read(fixture.reader, reads, 1 + i % 2), 0);
            assert_true(io_fixture_count_descriptors() <= before + 5);
        }
    }
    assert_true(fixture.resolved > CHUNKS);
    /* What was read last is still open. */
    fixture.resolved = 0;
    assert_int_equal(read_slice(&fixture, 0, 0, 100), 0);
    assert_int_equal(fixture.resolved, 0);
    free(memory);
    fixture_close(&fixture);
}

static void without_descriptors_idle_files_make_room(void **state)
{
    struct fixture fixture;
    uint64_t opens;

    (void)state;
    fixture_open(&fixture, IO_BACKEND_SYNC, 64 * BLOB_MEBIBYTE, 0, 0, 100);
    for (int i = 0; i < 3; i++) {
        append(&fixture, 10000);
        blob_writer_roll(fixture.blobs.writer);
    }
    seal(&fixture);
    assert_int_equal(read_frame(&fixture, 0), 0);
    assert_int_equal(read_frame(&fixture, 1), 0);
    fault_io_fail(fixture.blobs.fault, FAULT_OPEN, 1, -EMFILE, false);
    assert_int_equal(read_frame(&fixture, 2), 0);
    /* When nothing is left to close, it is the caller's. */
    blob_reader_drop(fixture.reader, fixture.refs[1].chunk_id);
    blob_reader_drop(fixture.reader, fixture.refs[2].chunk_id);
    opens = fault_io_count(fixture.blobs.fault, FAULT_OPEN);
    fault_io_fail(fixture.blobs.fault, FAULT_OPEN, 1, -EMFILE, true);
    assert_int_equal(read_frame(&fixture, 1), -EMFILE);
    assert_int_equal(fault_io_count(fixture.blobs.fault, FAULT_OPEN), opens + 1);
    fixture_close(&fixture);
}

/* ---- damage ---- */

static void every_flipped_bit_is_noticed(void **state)
{
    uint64_t random = seed_start("every_flipped_bit_is_noticed");
    struct fixture fixture;

    (void)state;
    fixture_open(&fixture, IO_BACKEND_SYNC, 64 * BLOB_MEBIBYTE, 1, 0, 8);
    append(&fixture, 700);
    append(&fixture, 801);
    append(&fixture, 9000);
    append(&fixture, FRAME_SIZE);
    append(&fixture, FRAME_SIZE - 5);
    seal(&fixture);
    for (uint64_t i = 0; i < fixture.frame_count; i++)
        assert_int_equal(read_frame(&fixture, i), 0); /* opens both descriptors */
    for (uint64_t i = 0; i < fixture.frame_count; i++) {
        const struct blob_ref *ref = &fixture.refs[i];
        bool is_small = ref->stored_size < 2000;

        for (uint64_t k = 0; k < (is_small ? ref->stored_size * 8 : 300); k++) {
            uint64_t bit = is_small ? k : seed_below(&random, ref->stored_size * UINT64_C(8));

            fault_io_rot(fixture.blobs.fault, ref->position + bit / 8, (uint8_t)(1 << bit % 8));
            assert_int_equal(read_frame(&fixture, i), ERROR_CORRUPT);
        }
        fault_io_rot(fixture.blobs.fault, 0, 0);
        assert_int_equal(read_frame(&fixture, i), 0);
    }
    fixture_close(&fixture);
}

static void damage_elsewhere_does_not_spoil_a_block(void **state)
{
    struct fixture fixture;

    (void)state;
    fixture_open(&fixture, IO_BACKEND_SYNC, 64 * BLOB_MEBIBYTE, 0, 0, 8);
    append(&fixture, FRAME_SIZE);
    seal(&fixture);
    assert_int_equal(read_frame(&fixture, 0), 0);
    fault_io_rot(fixture.blobs.fault, fixture.refs[0].position + 3 * 4096 + 5, 0x10);
    assert_int_equal(read_slice(&fixture, 0, 0, 3 * 4096), 0);
    assert_int_equal(read_slice(&fixture, 0, 4 * 4096, FRAME_SIZE - 4 * 4096), 0);
    assert_int_equal(read_slice(&fixture, 0, 3 * 4096 + 100, 1), ERROR_CORRUPT);
    assert_int_equal(read_frame(&fixture, 0), ERROR_CORRUPT);
    fixture_close(&fixture);
}

/* Replace the sealed file of the first chunk. */
static void replace_chunk(struct fixture *fixture, const void *data, size_t size)
{
    char name[CHUNK_NAME_SIZE], *path;

    chunk_name(name, &fixture->identities[0]);
    path = test_path(fixture->blobs.disk.path, name);
    assert_int_equal(remove(path), 0);
    if (data != NULL)
        test_file_write(path, data, size);
    free(path);
    blob_reader_drop(fixture->reader, fixture->identities[0].id);
}

static uint8_t *read_chunk(struct fixture *fixture, size_t index, size_t *ret_size)
{
    char name[CHUNK_NAME_SIZE], *path;
    uint8_t *data;

    chunk_name(name, &fixture->identities[index]);
    path = test_path(fixture->blobs.disk.path, name);
    data = test_file_read(path, ret_size);
    free(path);
    return data;
}

static void missing_short_swapped_and_newer_chunks_are_typed_errors(void **state)
{
    struct chunk_identity identity;
    struct fixture fixture;
    uint8_t *first, *second;
    size_t first_size, second_size;

    (void)state;
    fixture_open(&fixture, IO_BACKEND_SYNC, 64 * BLOB_MEBIBYTE, 0, 0, 8);
    append(&fixture, 50000);
    blob_writer_roll(fixture.blobs.writer);
    append(&fixture, 50000);
    seal(&fixture);
    identity = fixture.identities[0];
    first = read_chunk(&fixture, 0, &first_size);
    second = read_chunk(&fixture, 1, &second_size);
    assert_int_equal(first_size, second_size);
    assert_int_equal(read_frame(&fixture, 0), 0);
    assert_int_equal(blob_reader_verify(fixture.reader, &identity), 0);

    replace_chunk(&fixture, second, second_size);
    assert_int_equal(read_frame(&fixture, 0), ERROR_CORRUPT);
    assert_int_equal(blob_reader_verify(fixture.reader, &identity), ERROR_CORRUPT);
    put_le32(first + 8, CHUNK_VERSION + 1);
    put_le64(first + CHUNK_HEADER_SIZE - 8, checksum64(first, CHUNK_HEADER_SIZE - 8));
    replace_chunk(&fixture, first, first_size);
    assert_int_equal(read_frame(&fixture, 0), ERROR_VERSION_NEWER);
    assert_int_equal(blob_reader_verify(fixture.reader, &identity), ERROR_VERSION_NEWER);
    replace_chunk(&fixture, first, first_size - 1);
    assert_int_equal(read_frame(&fixture, 0), ERROR_TRUNCATED);
    assert_int_equal(blob_reader_verify(fixture.reader, &identity), ERROR_TRUNCATED);
    replace_chunk(&fixture, NULL, 0);
    assert_int_equal(read_frame(&fixture, 0), ERROR_MISSING_CHUNK);
    assert_int_equal(blob_reader_verify(fixture.reader, &identity), ERROR_MISSING_CHUNK);
    fixture.refs[0].chunk_id = 99; /* that nobody knows */
    assert_int_equal(read_frame(&fixture, 0), ERROR_MISSING_CHUNK);
    assert_int_equal(read_frame(&fixture, 1), 0);
    free(first);
    free(second);
    fixture_close(&fixture);
}

static void a_chunk_cut_while_it_is_open_is_truncated(void **state)
{
    char name[CHUNK_NAME_SIZE], *path;
    struct checksum128 hash;
    struct fixture fixture;

    (void)state;
    fixture_open(&fixture, IO_BACKEND_SYNC, 64 * BLOB_MEBIBYTE, 0, 0, 8);
    append(&fixture, 50000);
    seal(&fixture);
    assert_int_equal(read_frame(&fixture, 0), 0);
    chunk_name(name, &fixture.identities[0]);
    path = test_path(fixture.blobs.disk.path, name);
    assert_int_equal(chunk_hash_file(fixture.blobs.io, fixture.blobs.disk.root, name,
                                     fixture.identities[0].file_size_bytes + 1, &hash),
                     ERROR_TRUNCATED);
    assert_int_equal(chmod(path, 0600), 0);
    assert_int_equal(truncate(path, (off_t)fixture.refs[0].position + 100), 0);
    assert_int_equal(read_frame(&fixture, 0), ERROR_TRUNCATED);
    free(path);
    fixture_close(&fixture);
}

static void verifying_notices_every_flipped_bit(void **state)
{
    uint64_t random = seed_start("verifying_notices_every_flipped_bit");
    struct fixture fixture;
    uint64_t size;

    (void)state;
    fixture_open(&fixture, IO_BACKEND_SYNC, 64 * BLOB_MEBIBYTE, 0, 0, 8);
    append(&fixture, 3000);
    seal(&fixture);
    size = fixture.identities[0].file_size_bytes;
    for (int i = 0; i < 600; i++) {
        uint64_t at = i < CHUNK_TRAILER_SIZE ? size - 1 - (uint64_t)i : seed_below(&random, size);

        fault_io_rot(fixture.blobs.fault, at, (uint8_t)(1 << seed_below(&random, 8)));
        assert_int_equal(blob_reader_verify(fixture.reader, &fixture.identities[0]), ERROR_CORRUPT);
    }
    fault_io_rot(fixture.blobs.fault, 0, 0);
    assert_int_equal(blob_reader_verify(fixture.reader, &fixture.identities[0]), 0);
    fixture_close(&fixture);
}

static void a_failed_read_is_reported(void **state)
{
    struct fixture fixture;

    (void)state;
    fixture_open(&fixture, IO_BACKEND_SYNC, 64 * BLOB_MEBIBYTE, 1, 0, 8);
    for (int i = 0; i < 8; i++)
        append(&fixture, FRAME_SIZE);
    seal(&fixture);
    assert_int_equal(read_frame(&fixture, 7), 0);
    for (uint64_t i = 0; i < 8; i++) {
        fault_io_fail(fixture.blobs.fault, FAULT_READ, 1, -EIO, false);
        assert_int_equal(read_frame(&fixture, i), -EIO);
        assert_int_equal(read_frame(&fixture, i), 0);
    }
    fixture_close(&fixture);
}

/* ---- threads ---- */

struct worker {
    struct fixture *fixture;
    uint64_t random;
    int failures;
};

static void *read_and_drop(void *argument)
{
    struct worker *worker = argument;

    for (int i = 0; i < 200; i++) {
        uint64_t number = seed_below(&worker->random, worker->fixture->frame_count);
        uint32_t size = worker->fixture->refs[number].raw_size;
        uint32_t skip = (uint32_t)seed_below(&worker->random, size);

        worker->failures += read_slice(worker->fixture, number, skip, size - skip) != 0;
        if (i % 10 == 0)
            blob_reader_drop(worker->fixture->reader, worker->fixture->refs[number].chunk_id);
    }
    return NULL;
}

static void reads_and_drops_go_on_together(void **state)
{
    enum { WORKERS = 6 };
    uint64_t random = seed_start("reads_and_drops_go_on_together");
    struct worker workers[WORKERS];
    pthread_t threads[WORKERS];
    struct fixture fixture;

    (void)state;
    fixture_open(&fixture, IO_BACKEND_URING, BLOB_MEBIBYTE, 1, 1024 * 1024, 3);
    for (int i = 0; i < FRAMES_MAX; i++)
        append(&fixture, random_size(&random));
    seal(&fixture);
    for (int i = 0; i < WORKERS; i++) {
        workers[i] = (struct worker){&fixture, seed_next(&random), 0};
        assert_int_equal(pthread_create(&threads[i], NULL, read_and_drop, &workers[i]), 0);
    }
    for (int i = 0; i < WORKERS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_int_equal(workers[i].failures, 0);
    }
    fixture_close(&fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_slices_of_compressed_frames_read_right),
        cmocka_unit_test(any_slices_of_raw_frames_read_right),
        cmocka_unit_test(any_slices_without_a_cache_read_right),
        cmocka_unit_test(r15_short_and_interrupted_reads_are_continued),
        cmocka_unit_test(neighbours_are_fetched_with_one_read),
        cmocka_unit_test(long_runs_read_right_to_any_place),
        cmocka_unit_test(a_part_of_a_compressed_frame_is_kept_and_found_again),
        cmocka_unit_test(one_call_decodes_a_frame_once),
        cmocka_unit_test(descriptors_are_bounded),
        cmocka_unit_test(without_descriptors_idle_files_make_room),
        cmocka_unit_test(every_flipped_bit_is_noticed),
        cmocka_unit_test(damage_elsewhere_does_not_spoil_a_block),
        cmocka_unit_test(missing_short_swapped_and_newer_chunks_are_typed_errors),
        cmocka_unit_test(a_chunk_cut_while_it_is_open_is_truncated),
        cmocka_unit_test(verifying_notices_every_flipped_bit),
        cmocka_unit_test(a_failed_read_is_reported),
        cmocka_unit_test(reads_and_drops_go_on_together),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
