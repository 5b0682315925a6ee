/* SPDX-License-Identifier: Apache-2.0 */
/*
 * blob_fixture.h - a blob writer in a temporary directory, and frames whose bytes follow from a
 * number
 */
#ifndef VARVE_TESTS_LIB_BLOB_FIXTURE_H
#define VARVE_TESTS_LIB_BLOB_FIXTURE_H

#include "engine/blob_writer.h"
#include "tests/lib/fault_io.h"
#include "tests/lib/io_fixture.h"
#include "tests/lib/seed.h"

#define BLOB_MEBIBYTE ((uint64_t)1024 * 1024)

static const uint8_t blob_uuid[STORE_UUID_SIZE] = "the store's uuid";

struct blob_fixture {
    struct io_fixture disk;
    struct fault_io *fault;
    struct io *io; /* the faulty one */
    uint64_t last_id;
    struct blob_writer *writer;
    struct crew *crew;
    uint64_t sync_ahead_bytes; /* of writers opened from now on */
};

static uint64_t blob_fixture_allocate_id(void *context)
{
    struct blob_fixture *fixture = context;

    return __atomic_add_fetch(&fixture->last_id, 1, __ATOMIC_RELAXED);
}

static inline int blob_fixture_open_writer(struct blob_fixture *fixture, struct io *io,
                                           uint64_t chunk_size, uint32_t buffer_count, int level)
{
    struct blob_writer_options options = {
        .io = io,
        .chunk_directory = fixture->disk.root,
        .store_uuid = blob_uuid,
        .chunk_size_bytes = chunk_size,
        .buffer_count = buffer_count,
        .compression_level = level,
        .sync_ahead_bytes = fixture->sync_ahead_bytes,
        .crew = fixture->crew,
        .allocate_id = blob_fixture_allocate_id,
        .context = fixture,
    };

    return blob_writer_open(&options, &fixture->writer);
}

/* Aborts when it fails. */
static inline void blob_fixture_open(struct blob_fixture *fixture, enum io_backend backend,
                                     uint64_t chunk_size, uint32_t buffer_count, int level)
{
    *fixture = (struct blob_fixture){0};
    if (io_fixture_open(&fixture->disk, backend) < 0)
        abort();
    fixture->fault = fault_io_new(fixture->disk.io);
    fixture->io = fault_io_get(fixture->fault);
    fixture->crew = crew_open(3);
    if (blob_fixture_open_writer(fixture, fixture->io, chunk_size, buffer_count, level) < 0)
        abort();
}

static inline void blob_fixture_close(struct blob_fixture *fixture)
{
    blob_writer_close(fixture->writer);
    crew_close(fixture->crew);
    fault_io_free(fixture->fault);
    io_fixture_close(&fixture->disk);
}

/* Frames of odd numbers do not compress, the others do well. */
static inline void blob_fixture_fill(uint8_t *to, size_t size, uint64_t number)
{
    uint64_t state = number;
    uint64_t value = 0;

    for (size_t i = 0; i < size; i++) {
        if (i % 8 == 0)
            value = number % 2 == 1 ? seed_next(&state) : (i / 8 + number) & 0x3f;
        to[i] = (uint8_t)(value >> (i % 8 * 8));
    }
}

static inline int blob_fixture_append(struct blob_fixture *fixture, uint32_t size, uint64_t number,
                                      struct blob_ref *ret_ref)
{
    uint8_t *data = malloc(size);
    int error;

    blob_fixture_fill(data, size, number);
    error = blob_writer_append(fixture->writer, data, size, BLOB_COMPRESS, ret_ref);
    free(data);
    return error;
}

/* Do the stored bytes decode to frame `number`? */
static inline bool blob_fixture_is_frame(const struct blob_ref *ref, const uint8_t *stored,
                                         uint64_t number)
{
    uint8_t *expected = malloc(ref->raw_size);
    uint8_t *raw = malloc(ref->raw_size);
    bool is_same;

    blob_fixture_fill(expected, ref->raw_size, number);
    if (ref->codec == CODEC_NONE) {
        is_same = ref->stored_size == ref->raw_size && memcmp(stored, expected, ref->raw_size) == 0;
    } else {
        is_same = codec_decompress(raw, ref->raw_size, stored, ref->stored_size) == 0 &&
                  memcmp(raw, expected, ref->raw_size) == 0;
    }
    free(raw);
    free(expected);
    return is_same;
}

/* Does the writer give back frame `number`? */
static inline bool blob_fixture_reads_back(struct blob_fixture *fixture, const struct blob_ref *ref,
                                           uint64_t number)
{
    uint8_t *stored = malloc(ref->stored_size);
    bool is_same = blob_writer_read(fixture->writer, ref->chunk_id, ref->position, ref->stored_size,
                                    stored) == 1 &&
                   blob_fixture_is_frame(ref, stored, number);

    free(stored);
    return is_same;
}

/* Seal everything appended so far; the caller frees *identities. */
static inline int blob_fixture_seal(struct blob_fixture *fixture,
                                    struct chunk_identity **identities, size_t *count)
{
    *identities = NULL;
    *count = 0;
    blob_writer_roll(fixture->writer);
    return blob_writer_seal(fixture->writer, blob_writer_last_id(fixture->writer), identities,
                            count);
}

#endif
