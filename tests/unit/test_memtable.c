/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_memtable.c - tests of engine/memtable.h: small and exact, without memory, iterating
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "engine/base/endian.h"
#include "engine/base/error.h"
#include "tests/lib/memtable_fixture.h"
#include "tests/lib/seed.h"

/* ---- memory that runs out: the pools of tree nodes and stacks ask for theirs here ---- */

static bool aligned_alloc_fails;

void *aligned_alloc(size_t alignment, size_t size)
{
    void *memory;

    if (aligned_alloc_fails || posix_memalign(&memory, alignment, size) != 0)
        return NULL;
    return memory;
}

/* ---- small and exact ---- */

static void an_empty_memtable_has_nothing(void **state)
{
    struct memtable *memtable = memtable_fixture_new(100);
    struct memtable_iterator iterator;
    struct slice end = memtable_fixture_text("x");

    (void)state;
    memtable_fixture_assert_absent(memtable, "a", UINT64_MAX);
    assert_int_equal(memtable_count(memtable), 0);
    assert_int_equal(memtable_first_sequence(memtable), 100);
    assert_int_equal(memtable_last_sequence(memtable), 99);
    assert_int_equal(memtable_tombstone(memtable, memtable_fixture_text("a"), UINT64_MAX), 0);
    assert_int_equal(memtable_tombstone_span(memtable, memtable_fixture_text(""), UINT64_MAX, &end),
                     0);
    assert_null(end.data);
    memtable_iterator_init(&iterator, memtable, UINT64_MAX);
    assert_false(memtable_iterator_next(&iterator));
    assert_false(memtable_iterator_seek(&iterator, slice_of(NULL, 0)));
    assert_false(memtable_iterator_next(&iterator));
    assert_int_equal(memtable_apply(memtable, slice_of(NULL, 0), 100), 0);
    assert_int_equal(memtable_last_sequence(memtable), 99);
    memtable_unref(memtable);
    memtable_unref(NULL);
}

static void every_version_stays_readable_at_its_number(void **state)
{
    struct memtable *memtable = memtable_fixture_new(5);
    struct batch batch = {0};
    struct record record;
    uint64_t tombstone;

    (void)state;
    batch_put(&batch, memtable_fixture_text("k"), memtable_fixture_text("one"));
    batch_put(&batch, memtable_fixture_text("k"), memtable_fixture_text("two"));
    batch_delete(&batch, memtable_fixture_text("k"));
    batch_put(&batch, memtable_fixture_text("k"), memtable_fixture_text("four"));
    memtable_fixture_apply(memtable, &batch, 5);

    memtable_fixture_assert_absent(memtable, "k", 4);
    memtable_fixture_assert_value(memtable, "k", 5, "one");
    memtable_fixture_assert_value(memtable, "k", 6, "two");
    assert_int_equal(memtable_get(memtable, memtable_fixture_text("k"), 7, &record, &tombstone), 1);
    assert_int_equal(record.kind, RECORD_DELETE);
    memtable_fixture_assert_value(memtable, "k", 8, "four");
    memtable_fixture_assert_value(memtable, "k", UINT64_MAX, "four");
    memtable_fixture_assert_absent(memtable, "j", UINT64_MAX);
    memtable_fixture_assert_absent(memtable, "k2", UINT64_MAX);
    assert_int_equal(memtable_count(memtable), 4);
    batch_free(&batch);
    memtable_unref(memtable);
}

static void a_range_tombstone_covers_its_range_from_its_number_on(void **state)
{
    struct memtable *memtable = memtable_fixture_new(1);
    struct batch batch = {0};
    struct record record;
    uint64_t tombstone;

    (void)state;
    batch_put(&batch, memtable_fixture_text("c"), memtable_fixture_text("old"));        /* 1 */
    batch_delete_range(&batch, memtable_fixture_text("b"), memtable_fixture_text("d")); /* 2 */
    batch_put(&batch, memtable_fixture_text("c"), memtable_fixture_text("new"));        /* 3 */
    batch_delete_range(&batch, memtable_fixture_text("c"), memtable_fixture_text("e")); /* 4 */
    memtable_fixture_apply(memtable, &batch, 1);

    assert_int_equal(memtable_get(memtable, memtable_fixture_text("c"), 1, &record, &tombstone), 1);
    assert_int_equal(tombstone, 0);
    assert_int_equal(memtable_get(memtable, memtable_fixture_text("c"), 2, &record, &tombstone), 1);
    assert_int_equal(record.sequence, 1);
    assert_int_equal(tombstone, 2);
    assert_int_equal(memtable_get(memtable, memtable_fixture_text("c"), 3, &record, &tombstone), 1);
    assert_int_equal(record.sequence, 3);
    assert_int_equal(tombstone, 2);
    assert_int_equal(memtable_get(memtable, memtable_fixture_text("c"), 9, &record, &tombstone), 1);
    assert_int_equal(tombstone, 4);
    assert_int_equal(memtable_tombstone(memtable, memtable_fixture_text("a"), 9), 0);
    assert_int_equal(memtable_tombstone(memtable, memtable_fixture_text("b"), 9), 2);
    assert_int_equal(memtable_tombstone(memtable, memtable_fixture_text("c"), 9), 4);
    assert_int_equal(memtable_tombstone(memtable, memtable_fixture_text("d"), 9), 4);
    assert_int_equal(memtable_tombstone(memtable, memtable_fixture_text("d"), 3), 0);
    assert_int_equal(memtable_tombstone(memtable, memtable_fixture_text("e"), 9), 0);
    batch_free(&batch);
    memtable_unref(memtable);
}

struct fragments {
    char words[256];
    int stop_at;
};

static int print_fragment(void *context, struct slice start, struct slice end, uint64_t sequence)
{
    struct fragments *fragments = context;
    size_t used = strlen(fragments->words);

    snprintf(fragments->words + used, sizeof fragments->words - used, "[%.*s,%.*s)%u ",
             (int)start.size, (const char *)start.data, (int)end.size, (const char *)end.data,
             (unsigned)sequence);
    return --fragments->stop_at == 0 ? -EINTR : 0;
}

static void tombstones_are_shown_as_disjoint_fragments(void **state)
{
    struct memtable *memtable = memtable_fixture_new(1);
    struct batch batch = {0};
    struct fragments fragments;

    (void)state;
    batch_delete_range(&batch, memtable_fixture_text("b"), memtable_fixture_text("f")); /* 1 */
    batch_delete_range(&batch, memtable_fixture_text("d"), memtable_fixture_text("h")); /* 2 */
    batch_delete_range(&batch, memtable_fixture_text("k"), memtable_fixture_text("l")); /* 3 */
    batch_delete_range(&batch, memtable_fixture_text("l"), memtable_fixture_text("m")); /* 4 */
    batch_delete_range(&batch, memtable_fixture_text("a"), memtable_fixture_text("e")); /* 5 */
    memtable_fixture_apply(memtable, &batch, 1);

    fragments = (struct fragments){0};
    assert_int_equal(memtable_each_tombstone(memtable, 9, print_fragment, &fragments), 0);
    assert_string_equal(fragments.words, "[a,e)5 [e,h)2 [k,l)3 [l,m)4 ");
    fragments = (struct fragments){0};
    assert_int_equal(memtable_each_tombstone(memtable, 2, print_fragment, &fragments), 0);
    assert_string_equal(fragments.words, "[b,d)1 [d,h)2 ");
    fragments = (struct fragments){.stop_at = 2};
    assert_int_equal(memtable_each_tombstone(memtable, 9, print_fragment, &fragments), -EINTR);
    assert_string_equal(fragments.words, "[a,e)5 [e,h)2 ");
    batch_free(&batch);
    memtable_unref(memtable);
}

static void fragments_with_one_number_are_joined(void **state)
{
    struct memtable *memtable = memtable_fixture_new(1);
    struct batch batch = {0};
    struct fragments fragments = {0};

    (void)state;
    for (char start = 'y'; start > 'b'; start--) /* a file truncated again and again */
        batch_delete_range(&batch, slice_of(&start, 1), memtable_fixture_text("z"));
    batch_delete_range(&batch, memtable_fixture_text("b"), memtable_fixture_text("z"));
    memtable_fixture_apply(memtable, &batch, 1);
    assert_int_equal(memtable_each_tombstone(memtable, 99, print_fragment, &fragments), 0);
    assert_string_equal(fragments.words, "[b,z)24 ");
    batch_free(&batch);
    memtable_unref(memtable);
}

static void a_damaged_batch_inserts_nothing(void **state)
{
    struct memtable *memtable = memtable_fixture_new(1);
    struct batch batch = {0};
    uint64_t sequence;

    (void)state;
    batch_put(&batch, memtable_fixture_text("before"), memtable_fixture_text("1"));
    sequence = memtable_fixture_apply(memtable, &batch, 1);
    batch_put(&batch, memtable_fixture_text("a"), memtable_fixture_text("1"));
    batch_delete_range(&batch, memtable_fixture_text("a"), memtable_fixture_text("c"));
    batch_put(&batch, memtable_fixture_text("b"), memtable_fixture_text("2"));
    for (size_t size = 1; size < batch.bytes.size; size++) {
        size_t cursor = 0;
        struct record record;
        int whole;

        while ((whole = batch_next(slice_of(batch.bytes.data, size), &cursor, &record)) > 0)
            ;
        if (whole == 0)
            continue; /* cut between two records: a smaller batch, not a damaged one */
        assert_int_equal(memtable_apply(memtable, slice_of(batch.bytes.data, size), sequence),
                         ERROR_CORRUPT);
        memtable_fixture_assert_absent(memtable, "a", UINT64_MAX);
        memtable_fixture_assert_absent(memtable, "b", UINT64_MAX);
        assert_int_equal(memtable_count(memtable), 1);
        assert_int_equal(memtable_last_sequence(memtable), 1);
    }
    memtable_fixture_apply(memtable, &batch, sequence);
    memtable_fixture_assert_value(memtable, "b", 4, "2");
    assert_int_equal(memtable_tombstone(memtable, memtable_fixture_text("a"), 4), 3);
    batch_free(&batch);
    memtable_unref(memtable);
}

static void without_memory_a_batch_inserts_nothing(void **state)
{
    struct memtable *memtable = memtable_fixture_new(1);
    struct batch batch = {0};
    uint64_t sequence = 1, refused = 0;
    char key[16];

    (void)state;
    for (unsigned i = 0; i < 20000; i++) {
        struct record record;
        uint64_t tombstone;
        int error;

        snprintf(key, sizeof key, "%08u", i * 7919u % 20000u);
        batch_put(&batch, memtable_fixture_text(key), memtable_fixture_text("v"));
        if (i % 3 == 0)
            batch_delete_range(&batch, memtable_fixture_text(key), memtable_fixture_text("9"));
        aligned_alloc_fails = true;
        error = memtable_apply(memtable, buffer_slice(&batch.bytes), sequence);
        aligned_alloc_fails = false;
        if (error != 0) {
            assert_int_equal(error, -ENOMEM);
            assert_int_equal(
                memtable_get(memtable, memtable_fixture_text(key), UINT64_MAX, &record, &tombstone),
                0);
            assert_int_equal(memtable_last_sequence(memtable), sequence - 1);
            assert_int_equal(memtable_count(memtable), sequence - 1);
            assert_int_equal(memtable_apply(memtable, buffer_slice(&batch.bytes), sequence), 0);
            refused++;
        }
        memtable_fixture_assert_value(memtable, key, UINT64_MAX, "v");
        sequence += batch.count;
        batch_clear(&batch);
        if (sequence > 2000 && i > 2000)
            break; /* stacks of overlapping ranges grow with the square */
    }
    assert_true(refused >= 3);
    batch_free(&batch);
    memtable_unref(memtable);
}

static int compare_ids(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return (x > y) - (x < y);
}

struct ids {
    uint64_t ids[4096];
    size_t count;
};

static void take_id(void *context, uint64_t chunk_id)
{
    struct ids *ids = context;

    assert_true(ids->count < 4096);
    ids->ids[ids->count++] = chunk_id;
}

static void blob_chunks_referred_to_are_known(void **state)
{
    struct memtable *memtable = memtable_fixture_new(1);
    struct blob_ref ref = {.stored_size = 1, .raw_size = 2, .length = 2, .codec = CODEC_ZSTD};
    static struct ids ids;
    struct batch batch = {0};
    uint64_t sequence = 1;

    (void)state;
    assert_false(memtable_refers_to(memtable, 0));
    assert_false(memtable_refers_to(memtable, 6));
    ref.chunk_id = 6;
    batch_put_reference(&batch, memtable_fixture_text("j"), &ref);
    sequence = memtable_fixture_apply(memtable, &batch, sequence);
    assert_false(memtable_refers_to(memtable, 0));
    assert_true(memtable_refers_to(memtable, 6));
    for (uint64_t id = 0; id < 3000; id += 3) {
        ref.chunk_id = id;
        batch_put_reference(&batch, memtable_fixture_text("k"), &ref);
        batch_put_reference(&batch, memtable_fixture_text("l"), &ref);
        ref.chunk_id = id / 2 / 3 * 3; /* one that is known, mostly */
        batch_put_reference(&batch, memtable_fixture_text("m"), &ref);
        if (id % 5 == 0)
            sequence = memtable_fixture_apply(memtable, &batch, sequence);
    }
    memtable_fixture_apply(memtable, &batch, sequence);
    for (uint64_t id = 0; id < 3100; id++)
        assert_int_equal(memtable_refers_to(memtable, id), id < 3000 && id % 3 == 0);
    ids.count = 0;
    memtable_each_chunk(memtable, take_id, &ids);
    assert_int_equal(ids.count, 1000);
    qsort(ids.ids, ids.count, sizeof ids.ids[0], compare_ids);
    for (uint64_t i = 0; i < 1000; i++)
        assert_int_equal(ids.ids[i], 3 * i);
    batch_free(&batch);
    memtable_unref(memtable);
}

static void the_size_follows_what_is_inserted(void **state)
{
    static uint8_t value[1000];
    struct memtable *memtable = memtable_fixture_new(1);
    size_t empty = memtable_size_bytes(memtable);
    struct batch batch = {0};
    uint64_t sequence = 1;
    uint8_t key[8];

    (void)state;
    assert_true(empty < 4096);
    for (uint64_t i = 0; i < 1000; i++) {
        put_be64(key, i);
        batch_put(&batch, slice_of(key, sizeof key), slice_of(value, sizeof value));
        sequence = memtable_fixture_apply(memtable, &batch, sequence);
    }
    assert_in_range(memtable_size_bytes(memtable), 1000 * 1000, 1000 * 1000 * 5 / 4);
    batch_free(&batch);
    memtable_unref(memtable);
}

/* ---- iterating while others insert ---- */

static void an_iterator_keeps_its_place_while_others_insert(void **state)
{
    struct memtable *memtable = memtable_fixture_new(1);
    struct memtable_iterator iterator;
    struct batch batch = {0};
    uint64_t sequence = 1, random = seed_start(__func__), published;
    uint8_t key[4];
    unsigned seen = 0;

    (void)state;
    for (uint32_t i = 0; i < 2000; i += 2) {
        put_be32(key, i);
        batch_put(&batch, slice_of(key, sizeof key), slice_of(key, sizeof key));
    }
    sequence = memtable_fixture_apply(memtable, &batch, sequence);
    published = sequence - 1;
    memtable_iterator_init(&iterator, memtable, published);
    for (bool found = memtable_iterator_seek(&iterator, slice_of(NULL, 0)); found;
         found = memtable_iterator_next(&iterator)) {
        assert_int_equal(get_be32(iterator.record.key.data), 2 * seen);
        assert_int_equal(get_be32(iterator.record.value.data), 2 * seen);
        seen++;
        /* new keys and new versions, near and far */
        for (unsigned i = 0; i < 20; i++) {
            put_be32(key, (uint32_t)(i < 10 ? 2 * seen + i : seed_below(&random, 2000)));
            batch_put(&batch, slice_of(key, sizeof key), memtable_fixture_text("invisible"));
        }
        sequence = memtable_fixture_apply(memtable, &batch, sequence);
    }
    assert_int_equal(seen, 1000);
    batch_free(&batch);
    memtable_unref(memtable);
}

static void a_key_with_very_many_versions_is_one_step(void **state)
{
    struct memtable *memtable = memtable_fixture_new(1);
    struct memtable_iterator iterator;
    struct batch batch = {0};
    uint64_t sequence = 1;
    uint8_t value[8];

    (void)state;
    batch_put(&batch, memtable_fixture_text("a"), memtable_fixture_text("1"));
    batch_put(&batch, memtable_fixture_text("c"), memtable_fixture_text("2"));
    for (uint64_t i = 3; i <= 30000; i++) {
        put_be64(value, i);
        batch_put(&batch, memtable_fixture_text("b"), slice_of(value, sizeof value));
        if (i % 100 == 0)
            sequence = memtable_fixture_apply(memtable, &batch, sequence);
    }
    for (uint64_t at = 3; at <= 30000; at += 997) {
        struct record record;
        uint64_t tombstone;

        assert_int_equal(
            memtable_get(memtable, memtable_fixture_text("b"), at, &record, &tombstone), 1);
        assert_int_equal(get_be64(record.value.data), at);
        memtable_iterator_init(&iterator, memtable, at);
        assert_true(memtable_iterator_seek(&iterator, memtable_fixture_text("")));
        memtable_fixture_assert_slices(iterator.record.key, memtable_fixture_text("a"));
        assert_true(memtable_iterator_next(&iterator));
        assert_int_equal(get_be64(iterator.record.value.data), at);
        assert_true(memtable_iterator_next(&iterator));
        memtable_fixture_assert_slices(iterator.record.key, memtable_fixture_text("c"));
        assert_false(memtable_iterator_next(&iterator));
        assert_false(memtable_iterator_next(&iterator));
    }
    batch_free(&batch);
    memtable_unref(memtable);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_empty_memtable_has_nothing),
        cmocka_unit_test(every_version_stays_readable_at_its_number),
        cmocka_unit_test(a_range_tombstone_covers_its_range_from_its_number_on),
        cmocka_unit_test(tombstones_are_shown_as_disjoint_fragments),
        cmocka_unit_test(fragments_with_one_number_are_joined),
        cmocka_unit_test(a_damaged_batch_inserts_nothing),
        cmocka_unit_test(without_memory_a_batch_inserts_nothing),
        cmocka_unit_test(blob_chunks_referred_to_are_known),
        cmocka_unit_test(the_size_follows_what_is_inserted),
        cmocka_unit_test(an_iterator_keeps_its_place_while_others_insert),
        cmocka_unit_test(a_key_with_very_many_versions_is_one_step),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
