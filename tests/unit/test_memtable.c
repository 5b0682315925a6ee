/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_memtable.c - tests of engine/memtable.h
 */
#include "engine/memtable.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "engine/base/endian.h"
#include "engine/base/error.h"
#include "engine/batch.h"
#include "tests/lib/record_model.h"
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

/* ---- helpers ---- */

static struct slice text(const char *string)
{
    return slice_of_string(string);
}

static void assert_slices_equal(struct slice a, struct slice b)
{
    assert_int_equal(a.size, b.size);
    if (a.size > 0)
        assert_memory_equal(a.data, b.data, a.size);
}

static void assert_records_equal(const struct record *a, const struct record *b)
{
    assert_int_equal(a->kind, b->kind);
    assert_int_equal(a->sequence, b->sequence);
    assert_slices_equal(a->key, b->key);
    assert_slices_equal(a->value, b->value);
}

static struct memtable *new_memtable(uint64_t first_sequence)
{
    struct memtable *memtable = memtable_new(first_sequence);

    assert_non_null(memtable);
    return memtable;
}

/* Apply and clear a batch; returns the next sequence number. */
static uint64_t apply(struct memtable *memtable, struct batch *batch, uint64_t sequence)
{
    assert_int_equal(batch->error, 0);
    assert_int_equal(memtable_apply(memtable, buffer_slice(&batch->bytes), sequence), 0);
    sequence += batch->count;
    assert_int_equal(memtable_last_sequence(memtable), sequence - 1);
    batch_clear(batch);
    return sequence;
}

static void assert_value(struct memtable *memtable, const char *key, uint64_t sequence,
                         const char *expected)
{
    struct record record;
    uint64_t tombstone;

    assert_int_equal(memtable_get(memtable, text(key), sequence, &record, &tombstone), 1);
    assert_int_equal(record.kind, RECORD_VALUE);
    assert_slices_equal(record.key, text(key));
    assert_slices_equal(record.value, text(expected));
}

static void assert_absent(struct memtable *memtable, const char *key, uint64_t sequence)
{
    struct record record;
    uint64_t tombstone = 77;

    assert_int_equal(memtable_get(memtable, text(key), sequence, &record, &tombstone), 0);
    assert_int_equal(tombstone, 0);
}

/* ---- small and exact ---- */

static void an_empty_memtable_has_nothing(void **state)
{
    struct memtable *memtable = new_memtable(100);
    struct memtable_iterator iterator;
    struct slice end = text("x");

    (void)state;
    assert_absent(memtable, "a", UINT64_MAX);
    assert_int_equal(memtable_count(memtable), 0);
    assert_int_equal(memtable_first_sequence(memtable), 100);
    assert_int_equal(memtable_last_sequence(memtable), 99);
    assert_int_equal(memtable_tombstone(memtable, text("a"), UINT64_MAX), 0);
    assert_int_equal(memtable_tombstone_span(memtable, text(""), UINT64_MAX, &end), 0);
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
    struct memtable *memtable = new_memtable(5);
    struct batch batch = {0};
    struct record record;
    uint64_t tombstone;

    (void)state;
    batch_put(&batch, text("k"), text("one"));
    batch_put(&batch, text("k"), text("two"));
    batch_delete(&batch, text("k"));
    batch_put(&batch, text("k"), text("four"));
    apply(memtable, &batch, 5);

    assert_absent(memtable, "k", 4);
    assert_value(memtable, "k", 5, "one");
    assert_value(memtable, "k", 6, "two");
    assert_int_equal(memtable_get(memtable, text("k"), 7, &record, &tombstone), 1);
    assert_int_equal(record.kind, RECORD_DELETE);
    assert_value(memtable, "k", 8, "four");
    assert_value(memtable, "k", UINT64_MAX, "four");
    assert_absent(memtable, "j", UINT64_MAX);
    assert_absent(memtable, "k2", UINT64_MAX);
    assert_int_equal(memtable_count(memtable), 4);
    batch_free(&batch);
    memtable_unref(memtable);
}

static void a_range_tombstone_covers_its_range_from_its_number_on(void **state)
{
    struct memtable *memtable = new_memtable(1);
    struct batch batch = {0};
    struct record record;
    uint64_t tombstone;

    (void)state;
    batch_put(&batch, text("c"), text("old"));        /* 1 */
    batch_delete_range(&batch, text("b"), text("d")); /* 2 */
    batch_put(&batch, text("c"), text("new"));        /* 3 */
    batch_delete_range(&batch, text("c"), text("e")); /* 4 */
    apply(memtable, &batch, 1);

    assert_int_equal(memtable_get(memtable, text("c"), 1, &record, &tombstone), 1);
    assert_int_equal(tombstone, 0);
    assert_int_equal(memtable_get(memtable, text("c"), 2, &record, &tombstone), 1);
    assert_int_equal(record.sequence, 1);
    assert_int_equal(tombstone, 2);
    assert_int_equal(memtable_get(memtable, text("c"), 3, &record, &tombstone), 1);
    assert_int_equal(record.sequence, 3);
    assert_int_equal(tombstone, 2);
    assert_int_equal(memtable_get(memtable, text("c"), 9, &record, &tombstone), 1);
    assert_int_equal(tombstone, 4);
    assert_int_equal(memtable_tombstone(memtable, text("a"), 9), 0);
    assert_int_equal(memtable_tombstone(memtable, text("b"), 9), 2);
    assert_int_equal(memtable_tombstone(memtable, text("c"), 9), 4);
    assert_int_equal(memtable_tombstone(memtable, text("d"), 9), 4);
    assert_int_equal(memtable_tombstone(memtable, text("d"), 3), 0);
    assert_int_equal(memtable_tombstone(memtable, text("e"), 9), 0);
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
    struct memtable *memtable = new_memtable(1);
    struct batch batch = {0};
    struct fragments fragments;

    (void)state;
    batch_delete_range(&batch, text("b"), text("f")); /* 1 */
    batch_delete_range(&batch, text("d"), text("h")); /* 2 */
    batch_delete_range(&batch, text("k"), text("l")); /* 3 */
    batch_delete_range(&batch, text("l"), text("m")); /* 4 */
    batch_delete_range(&batch, text("a"), text("e")); /* 5 */
    apply(memtable, &batch, 1);

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
    struct memtable *memtable = new_memtable(1);
    struct batch batch = {0};
    struct fragments fragments = {0};

    (void)state;
    for (char start = 'y'; start > 'b'; start--) /* a file truncated again and again */
        batch_delete_range(&batch, slice_of(&start, 1), text("z"));
    batch_delete_range(&batch, text("b"), text("z"));
    apply(memtable, &batch, 1);
    assert_int_equal(memtable_each_tombstone(memtable, 99, print_fragment, &fragments), 0);
    assert_string_equal(fragments.words, "[b,z)24 ");
    batch_free(&batch);
    memtable_unref(memtable);
}

static void a_damaged_batch_inserts_nothing(void **state)
{
    struct memtable *memtable = new_memtable(1);
    struct batch batch = {0};
    uint64_t sequence;

    (void)state;
    batch_put(&batch, text("before"), text("1"));
    sequence = apply(memtable, &batch, 1);
    batch_put(&batch, text("a"), text("1"));
    batch_delete_range(&batch, text("a"), text("c"));
    batch_put(&batch, text("b"), text("2"));
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
        assert_absent(memtable, "a", UINT64_MAX);
        assert_absent(memtable, "b", UINT64_MAX);
        assert_int_equal(memtable_count(memtable), 1);
        assert_int_equal(memtable_last_sequence(memtable), 1);
    }
    apply(memtable, &batch, sequence);
    assert_value(memtable, "b", 4, "2");
    assert_int_equal(memtable_tombstone(memtable, text("a"), 4), 3);
    batch_free(&batch);
    memtable_unref(memtable);
}

static void without_memory_a_batch_inserts_nothing(void **state)
{
    struct memtable *memtable = new_memtable(1);
    struct batch batch = {0};
    uint64_t sequence = 1, refused = 0;
    char key[16];

    (void)state;
    for (unsigned i = 0; i < 20000; i++) {
        struct record record;
        uint64_t tombstone;
        int error;

        snprintf(key, sizeof key, "%08u", i * 7919u % 20000u);
        batch_put(&batch, text(key), text("v"));
        if (i % 3 == 0)
            batch_delete_range(&batch, text(key), text("9"));
        aligned_alloc_fails = true;
        error = memtable_apply(memtable, buffer_slice(&batch.bytes), sequence);
        aligned_alloc_fails = false;
        if (error != 0) {
            assert_int_equal(error, -ENOMEM);
            assert_int_equal(memtable_get(memtable, text(key), UINT64_MAX, &record, &tombstone), 0);
            assert_int_equal(memtable_last_sequence(memtable), sequence - 1);
            assert_int_equal(memtable_count(memtable), sequence - 1);
            assert_int_equal(memtable_apply(memtable, buffer_slice(&batch.bytes), sequence), 0);
            refused++;
        }
        assert_value(memtable, key, UINT64_MAX, "v");
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
    struct memtable *memtable = new_memtable(1);
    struct blob_ref ref = {.stored_size = 1, .raw_size = 2, .length = 2, .codec = CODEC_ZSTD};
    static struct ids ids;
    struct batch batch = {0};
    uint64_t sequence = 1;

    (void)state;
    assert_false(memtable_refers_to(memtable, 0));
    assert_false(memtable_refers_to(memtable, 6));
    ref.chunk_id = 6;
    batch_put_reference(&batch, text("j"), &ref);
    sequence = apply(memtable, &batch, sequence);
    assert_false(memtable_refers_to(memtable, 0));
    assert_true(memtable_refers_to(memtable, 6));
    for (uint64_t id = 0; id < 3000; id += 3) {
        ref.chunk_id = id;
        batch_put_reference(&batch, text("k"), &ref);
        batch_put_reference(&batch, text("l"), &ref);
        ref.chunk_id = id / 2 / 3 * 3; /* one that is known, mostly */
        batch_put_reference(&batch, text("m"), &ref);
        if (id % 5 == 0)
            sequence = apply(memtable, &batch, sequence);
    }
    apply(memtable, &batch, sequence);
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
    struct memtable *memtable = new_memtable(1);
    size_t empty = memtable_size_bytes(memtable);
    struct batch batch = {0};
    uint64_t sequence = 1;
    uint8_t key[8];

    (void)state;
    assert_true(empty < 4096);
    for (uint64_t i = 0; i < 1000; i++) {
        put_be64(key, i);
        batch_put(&batch, slice_of(key, sizeof key), slice_of(value, sizeof value));
        sequence = apply(memtable, &batch, sequence);
    }
    assert_in_range(memtable_size_bytes(memtable), 1000 * 1000, 1000 * 1000 * 5 / 4);
    batch_free(&batch);
    memtable_unref(memtable);
}

/* ---- iterating while others insert ---- */

static void an_iterator_keeps_its_place_while_others_insert(void **state)
{
    struct memtable *memtable = new_memtable(1);
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
    sequence = apply(memtable, &batch, sequence);
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
            batch_put(&batch, slice_of(key, sizeof key), text("invisible"));
        }
        sequence = apply(memtable, &batch, sequence);
    }
    assert_int_equal(seen, 1000);
    batch_free(&batch);
    memtable_unref(memtable);
}

static void a_key_with_very_many_versions_is_one_step(void **state)
{
    struct memtable *memtable = new_memtable(1);
    struct memtable_iterator iterator;
    struct batch batch = {0};
    uint64_t sequence = 1;
    uint8_t value[8];

    (void)state;
    batch_put(&batch, text("a"), text("1"));
    batch_put(&batch, text("c"), text("2"));
    for (uint64_t i = 3; i <= 30000; i++) {
        put_be64(value, i);
        batch_put(&batch, text("b"), slice_of(value, sizeof value));
        if (i % 100 == 0)
            sequence = apply(memtable, &batch, sequence);
    }
    for (uint64_t at = 3; at <= 30000; at += 997) {
        struct record record;
        uint64_t tombstone;

        assert_int_equal(memtable_get(memtable, text("b"), at, &record, &tombstone), 1);
        assert_int_equal(get_be64(record.value.data), at);
        memtable_iterator_init(&iterator, memtable, at);
        assert_true(memtable_iterator_seek(&iterator, text("")));
        assert_slices_equal(iterator.record.key, text("a"));
        assert_true(memtable_iterator_next(&iterator));
        assert_int_equal(get_be64(iterator.record.value.data), at);
        assert_true(memtable_iterator_next(&iterator));
        assert_slices_equal(iterator.record.key, text("c"));
        assert_false(memtable_iterator_next(&iterator));
        assert_false(memtable_iterator_next(&iterator));
    }
    batch_free(&batch);
    memtable_unref(memtable);
}

/* ---- order and memory, whatever the pattern ---- */

enum pattern { RISING, FALLING, RANDOM, RUNS, COMB, ONE_KEY, PATTERNS };

static struct slice pattern_key(enum pattern pattern, uint32_t i, uint32_t count, uint64_t *random,
                                uint8_t *to)
{
    memset(to, 0, 32);
    switch (pattern) {
    case RISING:
        put_be64(to, i);
        return slice_of(to, 8);
    case FALLING:
        put_be64(to, count - i);
        return slice_of(to, 8);
    case RANDOM:
        put_be64(to, seed_next(random));
        put_be64(to + 8, seed_next(random));
        return slice_of(to, 16);
    case RUNS: /* directories that are filled in turn */
        put_be64(to, i / 3 % 7);
        snprintf((char *)to + 9, 20, "file%06u", i);
        return slice_of(to, 19);
    case COMB: /* a leaf's end is hit again and again */
        put_be32(to, i % 64 < 32 ? i / 64 : count - i / 64);
        put_be32(to + 4, i % 64 < 32 ? i : count - i);
        return slice_of(to, 8);
    default:
        return slice_of("hot", 3);
    }
}

static void check_order(struct memtable *memtable, const struct record_model *model)
{
    struct memtable_iterator iterator;
    size_t key_count, seen = 0;
    struct slice *keys = record_model_keys(model, &key_count);

    memtable_iterator_init(&iterator, memtable, UINT64_MAX);
    for (bool found = memtable_iterator_seek(&iterator, slice_of(NULL, 0)); found;
         found = memtable_iterator_next(&iterator)) {
        assert_true(seen < key_count);
        assert_slices_equal(iterator.record.key, keys[seen]);
        seen++;
    }
    assert_int_equal(seen, key_count);
    free(keys);
}

static void insert_pattern(enum pattern pattern, uint32_t count, uint32_t batch_count,
                           uint64_t *random)
{
    struct memtable *memtable = new_memtable(1);
    struct record_model model = {0};
    struct batch batch = {0};
    uint64_t sequence = 1;
    uint8_t bytes[32];

    for (uint32_t i = 0; i < count; i++) {
        struct record record = {.kind = RECORD_VALUE, .sequence = i + 1};

        record.key = pattern_key(pattern, i, count, random, bytes);
        record_model_add(&model, &record);
        batch_put(&batch, record.key, record.value);
        if (batch.count == batch_count)
            sequence = apply(memtable, &batch, sequence);
    }
    apply(memtable, &batch, sequence);
    assert_int_equal(memtable_count(memtable), count);
    check_order(memtable, &model);
    for (uint32_t i = 0; i < count; i += 17) { /* each version at its own number */
        struct record found;
        uint64_t tombstone;

        assert_int_equal(memtable_get(memtable, model.records[i].key, i + 1, &found, &tombstone),
                         1);
        assert_int_equal(found.sequence, i + 1);
        if (pattern == RISING || pattern == FALLING)
            assert_int_equal(memtable_get(memtable, model.records[i].key, i, &found, &tombstone),
                             0);
    }
    record_model_free(&model);
    batch_free(&batch);
    memtable_unref(memtable);
}

static void any_pattern_of_keys_stays_sorted_and_within_its_reservation(void **state)
{
    static const uint32_t batch_counts[] = {1, 29, 30, 31, 62, 63, 1000, 40000};
    uint64_t random = seed_start(__func__);

    (void)state;
    for (int pattern = 0; pattern < PATTERNS; pattern++)
        for (size_t i = 0; i < sizeof batch_counts / sizeof *batch_counts; i++)
            insert_pattern((enum pattern)pattern, 40000, batch_counts[i], &random);
}

static void sequential_keys_leave_full_leaves_behind(void **state)
{
    struct memtable *rising = new_memtable(1), *falling = new_memtable(1);
    struct batch batch = {0};
    uint64_t sequence = 1;
    uint8_t key[8];

    (void)state;
    for (uint64_t i = 0; i < 50000; i++) {
        put_be64(key, i);
        batch_put(&batch, slice_of(key, sizeof key), slice_of(NULL, 0));
    }
    sequence = apply(rising, &batch, sequence);
    for (uint64_t i = 50000; i > 0; i--) {
        put_be64(key, i);
        batch_put(&batch, slice_of(key, sizeof key), slice_of(NULL, 0));
    }
    apply(falling, &batch, sequence);
    /* Falling keys fill leaves by half: of two slots' sixteen bytes each one is lost. */
    assert_true(memtable_size_bytes(rising) + 50000 * 12 < memtable_size_bytes(falling));
    batch_free(&batch);
    memtable_unref(rising);
    memtable_unref(falling);
}

/* ---- against the model ---- */

static void random_record(uint64_t *random, uint8_t *bytes, struct record *ret_record)
{
    uint8_t *other = bytes + RECORD_MODEL_KEY_MAX;
    struct slice key = record_model_random_key(random, bytes);

    *ret_record = (struct record){.key = key};
    switch (seed_below(random, 8)) {
    case 0:
        ret_record->kind = RECORD_DELETE_RANGE;
        ret_record->value = record_model_random_key(random, other);
        if (slice_compare(key, ret_record->value) >= 0) {
            ret_record->key = ret_record->value;
            ret_record->value = key;
        }
        break;
    case 1:
        ret_record->kind = RECORD_DELETE;
        break;
    default:
        ret_record->kind = RECORD_VALUE;
        put_be64(other, seed_next(random));
        ret_record->value = slice_of(other, seed_below(random, 9));
    }
}

static void append(struct batch *batch, const struct record *record)
{
    if (record->kind == RECORD_DELETE_RANGE)
        batch_delete_range(batch, record->key, record->value);
    else if (record->kind == RECORD_DELETE)
        batch_delete(batch, record->key);
    else
        batch_put(batch, record->key, record->value);
}

static void check_get(struct memtable *memtable, const struct record_model *model, struct slice key,
                      uint64_t sequence)
{
    const struct record *expected = record_model_newest(model, key, sequence);
    uint64_t expected_tombstone = record_model_tombstone(model, key, sequence);
    struct record record;
    uint64_t tombstone;

    assert_int_equal(memtable_get(memtable, key, sequence, &record, &tombstone), expected != NULL);
    assert_int_equal(tombstone, expected_tombstone);
    assert_int_equal(memtable_tombstone(memtable, key, sequence), expected_tombstone);
    if (expected != NULL)
        assert_records_equal(&record, expected);
}

/* From a position to the end, every visible key and nothing else. */
static void check_walk(struct memtable *memtable, const struct record_model *model,
                       struct slice from, uint64_t sequence)
{
    struct memtable_iterator iterator;
    size_t count;
    struct slice *keys = record_model_keys(model, &count);
    bool found;

    memtable_iterator_init(&iterator, memtable, sequence);
    found = memtable_iterator_seek(&iterator, from);
    for (size_t i = 0; i < count; i++) {
        const struct record *expected = record_model_newest(model, keys[i], sequence);

        if (slice_compare(keys[i], from) < 0 || expected == NULL)
            continue;
        assert_true(found);
        assert_records_equal(&iterator.record, expected);
        found = memtable_iterator_next(&iterator);
    }
    assert_false(found);
    free(keys);
}

/* Spans are disjoint, rise, reach the end, and each speaks truly for what lies in it. */
static void check_spans(struct memtable *memtable, const struct record_model *model,
                        uint64_t sequence, uint64_t *random)
{
    struct slice at = slice_of("", 0);

    while (at.data != NULL) {
        struct slice end;
        uint64_t number = memtable_tombstone_span(memtable, at, sequence, &end);

        assert_true(end.data == NULL || slice_compare(at, end) < 0);
        assert_int_equal(number, record_model_tombstone(model, at, sequence));
        for (unsigned i = 0; i < 4; i++) {
            uint8_t bytes[RECORD_MODEL_KEY_MAX];
            struct slice key = record_model_random_key(random, bytes);

            if (slice_compare(key, at) >= 0 && (end.data == NULL || slice_compare(key, end) < 0))
                assert_int_equal(number, record_model_tombstone(model, key, sequence));
        }
        at = end;
    }
}

struct fragment_check {
    const struct record_model *model;
    uint64_t sequence;
    struct slice last_end;
    uint64_t last_number;
};

static int check_fragment(void *context, struct slice start, struct slice end, uint64_t sequence)
{
    struct fragment_check *check = context;

    assert_true(slice_compare(start, end) < 0);
    if (check->last_end.data != NULL) {
        int order = slice_compare(check->last_end, start);

        assert_true(order < 0 || (order == 0 && check->last_number != sequence));
    }
    assert_int_equal(sequence, record_model_tombstone(check->model, start, check->sequence));
    assert_int_not_equal(sequence, record_model_tombstone(check->model, end, check->sequence));
    check->last_end = end;
    check->last_number = sequence;
    return 0;
}

static void check_fragments(struct memtable *memtable, const struct record_model *model,
                            uint64_t sequence)
{
    struct fragment_check check = {.model = model, .sequence = sequence};

    assert_int_equal(memtable_each_tombstone(memtable, sequence, check_fragment, &check), 0);
}

static void random_history(uint64_t *random, unsigned records, unsigned batch_max)
{
    uint64_t first = 1 + seed_below(random, 1000), sequence = first;
    struct memtable *memtable = new_memtable(first);
    struct record_model model = {0};
    struct batch batch = {0};
    uint8_t bytes[2 * RECORD_MODEL_KEY_MAX];

    while (model.count < records) {
        struct record record;

        for (uint64_t i = 1 + seed_below(random, batch_max); i > 0; i--) {
            random_record(random, bytes, &record);
            record.sequence = sequence + batch.count;
            append(&batch, &record);
            /* An empty range is no record; random keys may be equal. */
            if (record.sequence < sequence + batch.count)
                record_model_add(&model, &record);
        }
        sequence = apply(memtable, &batch, sequence);
        for (unsigned i = 0; i < 3; i++)
            check_get(memtable, &model, record_model_random_key(random, bytes),
                      first - 1 + seed_below(random, sequence - first + 2));
    }
    for (unsigned i = 0; i < 1000; i++)
        check_get(memtable, &model, record_model_random_key(random, bytes),
                  first - 1 + seed_below(random, sequence - first + 2));
    for (unsigned i = 0; i < 8; i++) {
        uint64_t at = i == 0 ? UINT64_MAX : first - 1 + seed_below(random, sequence - first + 2);

        check_walk(memtable, &model, slice_of(NULL, 0), at);
        check_walk(memtable, &model, record_model_random_key(random, bytes), at);
        check_spans(memtable, &model, at, random);
        check_fragments(memtable, &model, at);
    }
    record_model_free(&model);
    batch_free(&batch);
    memtable_unref(memtable);
}

static void a_random_history_reads_as_the_model_says(void **state)
{
    uint64_t random = seed_start(__func__);

    (void)state;
    for (unsigned i = 0; i < 20; i++)
        random_history(&random, 200, 10);
    random_history(&random, 3000, 1);
    random_history(&random, 3000, 40);
    random_history(&random, 2000, 1000);
}

/* ---- readers beside the writer ---- */

#define SHARED_KEYS   150
#define SHARED_ROUNDS 400

struct shared {
    struct memtable *memtable;
    _Atomic uint64_t published; /* the last sequence number of a finished batch */
    atomic_bool done;
    atomic_uint failures;
};

static struct slice shared_key(unsigned i, uint8_t *to)
{
    /* spread over leaves, and sharing beginnings */
    put_be64(to, i * 7919u % SHARED_KEYS / 10);
    put_be64(to + 8, i * 7919u % SHARED_KEYS);
    return slice_of(to, 16);
}

/*
 * Round n writes n to every key, in one batch; every third round deletes the whole range first, in
 * the same batch. A reader at a published number sees one round wholly.
 */
static void write_rounds(struct shared *shared)
{
    struct batch batch = {0};
    uint64_t sequence = 1;

    for (uint64_t round = 1; round <= SHARED_ROUNDS; round++) {
        uint8_t key[16], value[8];

        put_be64(value, round);
        if (round % 3 == 0)
            batch_delete_range(&batch, slice_of("\0", 1), text("\xff"));
        for (unsigned i = 0; i < SHARED_KEYS; i++)
            batch_put(&batch, shared_key(i, key), slice_of(value, sizeof value));
        sequence = apply(shared->memtable, &batch, sequence);
        atomic_store(&shared->published, sequence - 1);
    }
    batch_free(&batch);
    atomic_store(&shared->done, true);
}

static bool gets_one_round(struct shared *shared, uint64_t sequence)
{
    uint64_t round = 0, tombstone_first = 0;

    for (unsigned i = 0; i < SHARED_KEYS; i++) {
        struct record record;
        uint64_t tombstone, value;
        uint8_t key[16];

        if (memtable_get(shared->memtable, shared_key(i, key), sequence, &record, &tombstone) != 1)
            return false;
        value = get_be64(record.value.data);
        if (i == 0) {
            round = value;
            tombstone_first = tombstone;
        }
        if (value != round || tombstone != tombstone_first || record.sequence > sequence)
            return false;
    }
    return true;
}

static bool walks_one_round(struct shared *shared, uint64_t sequence)
{
    struct memtable_iterator iterator;
    uint64_t round = 0;
    unsigned count = 0;

    memtable_iterator_init(&iterator, shared->memtable, sequence);
    for (bool found = memtable_iterator_seek(&iterator, slice_of(NULL, 0)); found;
         found = memtable_iterator_next(&iterator)) {
        uint64_t value = get_be64(iterator.record.value.data);

        if (get_be64(iterator.record.key.data + 8) != count)
            return false;
        if (count++ == 0)
            round = value;
        if (value != round)
            return false;
    }
    return count == SHARED_KEYS;
}

static void *read_rounds(void *context)
{
    struct shared *shared = context;

    while (!atomic_load(&shared->done)) {
        uint64_t sequence = atomic_load(&shared->published);
        struct slice end;

        if (sequence == 0)
            continue;
        if (!gets_one_round(shared, sequence) || !walks_one_round(shared, sequence))
            atomic_fetch_add(&shared->failures, 1);
        memtable_tombstone_span(shared->memtable, slice_of("", 0), sequence, &end);
        memtable_refers_to(shared->memtable, 1);
        if (memtable_size_bytes(shared->memtable) == 0 || memtable_count(shared->memtable) == 0)
            atomic_fetch_add(&shared->failures, 1);
    }
    return NULL;
}

static void readers_beside_the_writer_see_whole_batches(void **state)
{
    struct shared shared = {.memtable = new_memtable(1)};
    pthread_t readers[2];

    (void)state;
    for (unsigned i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&readers[i], NULL, read_rounds, &shared), 0);
    write_rounds(&shared);
    for (unsigned i = 0; i < 2; i++)
        assert_int_equal(pthread_join(readers[i], NULL), 0);
    assert_int_equal(shared.failures, 0);
    assert_true(gets_one_round(&shared, shared.published));
    memtable_unref(shared.memtable);
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
        cmocka_unit_test(any_pattern_of_keys_stays_sorted_and_within_its_reservation),
        cmocka_unit_test(sequential_keys_leave_full_leaves_behind),
        cmocka_unit_test(a_random_history_reads_as_the_model_says),
        cmocka_unit_test(readers_beside_the_writer_see_whole_batches),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
