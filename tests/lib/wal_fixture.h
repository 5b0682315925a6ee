/* SPDX-License-Identifier: Apache-2.0 */
/*
 * wal_fixture.h - a log in a directory of its own, and what a replay of it gives
 *
 * Entries are filled with bytes that follow from their sequence number, and a replay checks them. The
 * segment files can be read and written from outside.
 */
#ifndef VARVE_TESTS_LIB_WAL_FIXTURE_H
#define VARVE_TESTS_LIB_WAL_FIXTURE_H

#include <errno.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "engine/base/error.h"
#include "engine/wal.h"
#include "engine/wal_format.h"
#include "tests/lib/fault_io.h"
#include "tests/lib/io_fixture.h"
#include "tests/lib/seed.h"

#define WAL_FIXTURE_SEGMENT_SIZE (64 * 1024)

static const uint8_t wal_fixture_uuid[STORE_UUID_SIZE] = "the store's uuid";

/* ---- a log, and what a replay of it gives ---- */

struct wal_fixture {
    struct io_fixture disk;
    struct fault_io *fault;
    struct io *io; /* the faulty one */
    uint64_t segment_size;
    uint32_t spares_max;
    bool closed; /* what a replay is told of the store */
};

static inline void wal_fixture_open(struct wal_fixture *fixture)
{
    *fixture = (struct wal_fixture){.segment_size = WAL_FIXTURE_SEGMENT_SIZE, .spares_max = 2};
    assert_int_equal(io_fixture_open(&fixture->disk, IO_BACKEND_SYNC), 0);
    fixture->fault = fault_io_new(fixture->disk.io);
    fixture->io = fault_io_get(fixture->fault);
}

static inline void wal_fixture_close(struct wal_fixture *fixture)
{
    fault_io_free(fixture->fault);
    io_fixture_close(&fixture->disk);
}

static inline int wal_fixture_log_with(struct wal_fixture *fixture, struct io *io,
                                       uint64_t first_segment, struct wal **ret_wal)
{
    struct wal_options options = {
        .io = io,
        .directory = fixture->disk.root,
        .store_uuid = wal_fixture_uuid,
        .segment_size_bytes = fixture->segment_size,
        .spares_max = fixture->spares_max,
    };

    return wal_open(&options, first_segment, ret_wal);
}

static inline struct wal *wal_fixture_log(struct wal_fixture *fixture, uint64_t first_segment)
{
    struct wal *wal;

    assert_int_equal(wal_fixture_log_with(fixture, fixture->io, first_segment, &wal), 0);
    return wal;
}

/* The bytes of an entry follow from its number and its size. */
static inline void wal_fixture_fill(uint8_t *to, size_t size, uint64_t number)
{
    uint64_t state = number;

    for (size_t i = 0; i < size; i++) {
        if (i % 8 == 0)
            seed_next(&state);
        to[i] = (uint8_t)(state >> (i % 8 * 8));
    }
}

/* One entry with `sequence`; `pieces` may be NULL. */
static inline int wal_fixture_write_entry(struct wal *wal, enum wal_entry_kind kind,
                                          uint64_t sequence, size_t size, bool sync)
{
    struct buffer entries = {0};
    uint8_t *bytes = malloc(size + 1);
    struct wal_group group = {.first_sequence = sequence, .last_sequence = sequence};
    int error;

    wal_fixture_fill(bytes, size, sequence);
    assert_int_equal(wal_entry_append(&entries, kind, sequence, slice_of(bytes, size)), 0);
    group.entries = buffer_slice(&entries);
    error = wal_write_group(wal, &group, sync);
    buffer_free(&entries);
    free(bytes);
    return error;
}

static inline int wal_fixture_write_batch(struct wal *wal, uint64_t sequence, size_t size,
                                          bool sync)
{
    return wal_fixture_write_entry(wal, WAL_BATCH, sequence, size, sync);
}

struct wal_fixture_seen {
    uint64_t first, next; /* sequence numbers of the entries seen */
    uint64_t marks;
    uint64_t pieces, piece_bytes;
    uint64_t fail_at; /* an entry's number: the callback returns -ECANCELED there */
    bool piece_after_entry_of_group;
};

static inline int wal_fixture_see_piece(void *context, const struct blob_piece *piece)
{
    struct wal_fixture_seen *seen = context;
    uint8_t *expected = malloc(piece->size);

    wal_fixture_fill(expected, piece->size, piece->chunk_id ^ piece->position);
    assert_memory_equal(piece->data, expected, piece->size);
    free(expected);
    seen->pieces++;
    seen->piece_bytes += piece->size;
    return 0;
}

static inline int wal_fixture_see_entry(void *context, const struct wal_replay_entry *entry)
{
    struct wal_fixture_seen *seen = context;
    uint8_t *expected = malloc(entry->bytes.size + 1);

    if (seen->fail_at != 0 && entry->first_sequence == seen->fail_at) {
        free(expected);
        return -ECANCELED;
    }
    if (seen->first == 0)
        seen->first = seen->next = entry->first_sequence;
    assert_int_equal(entry->first_sequence, seen->next);
    wal_fixture_fill(expected, entry->bytes.size, entry->first_sequence);
    assert_memory_equal(entry->bytes.data, expected, entry->bytes.size);
    free(expected);
    seen->next = entry->first_sequence + 1;
    seen->marks += entry->kind == WAL_MARK;
    return 0;
}

static inline int wal_fixture_replay(struct wal_fixture *fixture, uint64_t first_segment,
                                     struct wal_fixture_seen *seen,
                                     struct wal_replay_result *ret_result)
{
    struct wal_replay_callbacks callbacks = {wal_fixture_see_piece, wal_fixture_see_entry, seen};

    return wal_replay(fixture->io, fixture->disk.root, wal_fixture_uuid, first_segment,
                      fixture->closed, &callbacks, ret_result);
}

/* Replay everything; what must be found is entries first .. next - 1. */
static inline void wal_fixture_assert_replays(struct wal_fixture *fixture, uint64_t first_segment,
                                              uint64_t first, uint64_t next)
{
    struct wal_replay_result result;
    struct wal_fixture_seen seen = {0};

    assert_int_equal(wal_fixture_replay(fixture, first_segment, &seen, &result), 0);
    assert_int_equal(result.entries, next - first);
    if (next > first) {
        assert_int_equal(seen.first, first);
        assert_int_equal(seen.next, next);
        assert_int_equal(result.last_sequence, next - 1);
    }
}

static inline int wal_fixture_replay_error(struct wal_fixture *fixture, uint64_t first_segment)
{
    struct wal_replay_result result;
    struct wal_fixture_seen seen = {0};

    return wal_fixture_replay(fixture, first_segment, &seen, &result);
}

/* Fill segments, retire them as they fill, so that the log goes round in few files. */
static inline void wal_fixture_write_round(struct wal *wal, uint64_t *sequence, int count)
{
    for (int i = 0; i < count; i++)
        assert_int_equal(wal_fixture_write_batch(wal, (*sequence)++, 3000, i % 3 == 0), 0);
}

/* ---- segment files, seen from outside ---- */

static inline char *wal_fixture_segment_path(struct wal_fixture *fixture, uint64_t number)
{
    char name[WAL_NAME_SIZE];

    wal_segment_name(name, number);
    return test_path(fixture->disk.path, name);
}

static inline uint8_t *wal_fixture_segment_read(struct wal_fixture *fixture, uint64_t number,
                                                size_t *ret_size)
{
    char *path = wal_fixture_segment_path(fixture, number);
    uint8_t *data = test_file_read(path, ret_size);

    free(path);
    return data;
}

static inline void wal_fixture_segment_write(struct wal_fixture *fixture, uint64_t number,
                                             const void *data, size_t size)
{
    char *path = wal_fixture_segment_path(fixture, number);

    test_file_write(path, data, size);
    free(path);
}

static inline bool wal_fixture_segment_exists(struct wal_fixture *fixture, uint64_t number)
{
    char name[WAL_NAME_SIZE];
    struct stat status;

    wal_segment_name(name, number);
    return io_stat_at(fixture->disk.io, fixture->disk.root, name, &status) == 0;
}

static inline struct wal_statistics wal_fixture_statistics(struct wal *wal)
{
    struct wal_statistics statistics;

    wal_get_statistics(wal, &statistics);
    assert_true(statistics.durable_offset <= statistics.written_offset);
    return statistics;
}

#endif
