/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_memtable_random.c - tests of engine/memtable.h: patterns of keys, random histories against a model, readers beside the writer
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "engine/base/endian.h"
#include "tests/lib/memtable_fixture.h"
#include "tests/lib/record_model.h"
#include "tests/lib/seed.h"

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
        memtable_fixture_assert_slices(iterator.record.key, keys[seen]);
        seen++;
    }
    assert_int_equal(seen, key_count);
    free(keys);
}

static void insert_pattern(enum pattern pattern, uint32_t count, uint32_t batch_count,
                           uint64_t *random)
{
    struct memtable *memtable = memtable_fixture_new(1);
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
            sequence = memtable_fixture_apply(memtable, &batch, sequence);
    }
    memtable_fixture_apply(memtable, &batch, sequence);
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
    struct memtable *rising = memtable_fixture_new(1), *falling = memtable_fixture_new(1);
    struct batch batch = {0};
    uint64_t sequence = 1;
    uint8_t key[8];

    (void)state;
    for (uint64_t i = 0; i < 50000; i++) {
        put_be64(key, i);
        batch_put(&batch, slice_of(key, sizeof key), slice_of(NULL, 0));
    }
    sequence = memtable_fixture_apply(rising, &batch, sequence);
    for (uint64_t i = 50000; i > 0; i--) {
        put_be64(key, i);
        batch_put(&batch, slice_of(key, sizeof key), slice_of(NULL, 0));
    }
    memtable_fixture_apply(falling, &batch, sequence);
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
        memtable_fixture_assert_records(&record, expected);
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
        memtable_fixture_assert_records(&iterator.record, expected);
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
    struct memtable *memtable = memtable_fixture_new(first);
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
        sequence = memtable_fixture_apply(memtable, &batch, sequence);
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
            batch_delete_range(&batch, slice_of("\0", 1), memtable_fixture_text("\xff"));
        for (unsigned i = 0; i < SHARED_KEYS; i++)
            batch_put(&batch, shared_key(i, key), slice_of(value, sizeof value));
        sequence = memtable_fixture_apply(shared->memtable, &batch, sequence);
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
    struct shared shared = {.memtable = memtable_fixture_new(1)};
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
        cmocka_unit_test(any_pattern_of_keys_stays_sorted_and_within_its_reservation),
        cmocka_unit_test(sequential_keys_leave_full_leaves_behind),
        cmocka_unit_test(a_random_history_reads_as_the_model_says),
        cmocka_unit_test(readers_beside_the_writer_see_whole_batches),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
