/* SPDX-License-Identifier: Apache-2.0 */
/*
 * memtable_fixture.h - memtables that are filled by batches, and what they must show
 */
#ifndef VARVE_TESTS_LIB_MEMTABLE_FIXTURE_H
#define VARVE_TESTS_LIB_MEMTABLE_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "engine/batch.h"
#include "engine/memtable.h"

static inline struct slice memtable_fixture_text(const char *string)
{
    return slice_of_string(string);
}

static inline void memtable_fixture_assert_slices(struct slice a, struct slice b)
{
    assert_int_equal(a.size, b.size);
    if (a.size > 0)
        assert_memory_equal(a.data, b.data, a.size);
}

static inline void memtable_fixture_assert_records(const struct record *a, const struct record *b)
{
    assert_int_equal(a->kind, b->kind);
    assert_int_equal(a->sequence, b->sequence);
    memtable_fixture_assert_slices(a->key, b->key);
    memtable_fixture_assert_slices(a->value, b->value);
}

static inline struct memtable *memtable_fixture_new(uint64_t first_sequence)
{
    struct memtable *memtable = memtable_new(first_sequence);

    assert_non_null(memtable);
    return memtable;
}

/* Apply and clear a batch; returns the next sequence number. */
static inline uint64_t memtable_fixture_apply(struct memtable *memtable, struct batch *batch,
                                              uint64_t sequence)
{
    assert_int_equal(batch->error, 0);
    assert_int_equal(memtable_apply(memtable, buffer_slice(&batch->bytes), sequence), 0);
    sequence += batch->count;
    assert_int_equal(memtable_last_sequence(memtable), sequence - 1);
    batch_clear(batch);
    return sequence;
}

static inline void memtable_fixture_assert_value(struct memtable *memtable, const char *key,
                                                 uint64_t sequence, const char *expected)
{
    struct record record;
    uint64_t tombstone;

    assert_int_equal(
        memtable_get(memtable, memtable_fixture_text(key), sequence, &record, &tombstone), 1);
    assert_int_equal(record.kind, RECORD_VALUE);
    memtable_fixture_assert_slices(record.key, memtable_fixture_text(key));
    memtable_fixture_assert_slices(record.value, memtable_fixture_text(expected));
}

static inline void memtable_fixture_assert_absent(struct memtable *memtable, const char *key,
                                                  uint64_t sequence)
{
    struct record record;
    uint64_t tombstone = 77;

    assert_int_equal(
        memtable_get(memtable, memtable_fixture_text(key), sequence, &record, &tombstone), 0);
    assert_int_equal(tombstone, 0);
}

#endif
