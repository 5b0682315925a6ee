/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_codec.c - tests of engine/base/codec.h
 */
#include "engine/base/codec.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/base/error.h"
#include "tests/lib/seed.h"

#define SIZE_LARGEST ((size_t)256 << 10)

/* Words from a small vocabulary: compresses about as text does. */
static void fill_text(uint8_t *data, size_t size, uint64_t *random)
{
    static const char words[] = "clay sand silt ice melt summer winter lake layer year ";

    for (size_t at = 0; at < size;) {
        size_t from = seed_below(random, sizeof words - 8);

        for (size_t i = 0; i < 7 && at < size; i++)
            data[at++] = (uint8_t)words[from + i];
    }
}

static void fill_random(uint8_t *data, size_t size, uint64_t *random)
{
    for (size_t i = 0; i < size; i++)
        data[i] = (uint8_t)seed_next(random);
}

static uint8_t *allocate(size_t size)
{
    uint8_t *memory = malloc(size > 0 ? size : 1);

    assert_non_null(memory);
    return memory;
}

static void what_is_compressed_comes_back(void **state)
{
    static const int levels[] = {-5, -1, 1, 3, 9};
    static const size_t sizes[] = {2000, 4096, 65536, 131072, SIZE_LARGEST};
    uint64_t random = seed_start(__func__);

    (void)state;
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        uint8_t *data = allocate(sizes[s]), *back = allocate(sizes[s]);
        uint8_t *stored = allocate(codec_bound(sizes[s]));

        fill_text(data, sizes[s], &random);
        for (size_t l = 0; l < sizeof levels / sizeof *levels; l++) {
            ptrdiff_t count =
                codec_compress(stored, codec_bound(sizes[s]), data, sizes[s], levels[l], NULL);

            assert_true(count > 0);
            assert_true((size_t)count < sizes[s] - sizes[s] / 8);
            memset(back, 0, sizes[s]);
            assert_int_equal(codec_decompress(back, sizes[s], stored, (size_t)count), 0);
            assert_memory_equal(back, data, sizes[s]);
        }
        free(data);
        free(back);
        free(stored);
    }
}

static void what_does_not_pay_is_zero(void **state)
{
    uint64_t random = seed_start(__func__);
    uint8_t data[8192], stored[16384];

    (void)state;
    fill_random(data, sizeof data, &random);
    assert_int_equal(codec_compress(stored, sizeof stored, data, sizeof data, 1, NULL), 0);
    assert_int_equal(codec_compress(stored, sizeof stored, data, 1, 1, NULL), 0);
    assert_int_equal(codec_compress(stored, sizeof stored, data, 0, 1, NULL), 0);

    /* Random but for a twentieth: smaller than before, yet by less than an eighth. */
    memset(data, 0, sizeof data / 20);
    assert_int_equal(codec_compress(stored, sizeof stored, data, sizeof data, 1, NULL), 0);
    /* By more than an eighth. */
    memset(data, 0, sizeof data / 4);
    assert_true(codec_compress(stored, sizeof stored, data, sizeof data, 1, NULL) > 0);
}

/* Nothing that would pay may be given up unseen: few values, repeats far apart, a useful end. */
static void what_pays_is_found_however_random_it_looks(void **state)
{
    enum { SIZE = 128 * 1024 };
    uint64_t random = seed_start(__func__);
    uint8_t *data = allocate(SIZE), *stored = allocate(SIZE);

    (void)state;
    fill_random(data, SIZE, &random);
    assert_int_equal(codec_compress(stored, SIZE, data, SIZE, 1, NULL), 0);
    memcpy(data + SIZE / 2, data, SIZE / 2);
    assert_true(codec_compress(stored, SIZE, data, SIZE, 1, NULL) > 0);

    fill_random(data, SIZE, &random);
    fill_text(data + SIZE / 2, SIZE / 2, &random);
    assert_true(codec_compress(stored, SIZE, data, SIZE, 1, NULL) > 0);

    for (size_t size = 1024; size <= SIZE; size *= 4) {
        fill_random(data, size, &random);
        for (size_t i = 0; i < size; i++)
            data[i] &= 63;
        assert_true(codec_compress(stored, SIZE, data, size, 1, NULL) > 0);
    }
    free(data);
    free(stored);
}

/* After a stream that does not compress, data that looks like it is tried again soon. */
static void what_failed_is_tried_less_often_but_is_tried(void **state)
{
    enum { SIZE = 64 * 1024 };
    uint64_t random = seed_start(__func__);
    uint8_t *data = allocate(SIZE), *stored = allocate(SIZE);
    struct codec_history history = {0};
    unsigned given_up = 0;

    (void)state;
    fill_random(data, SIZE, &random);
    for (unsigned i = 0; i < (1 + 1) + (1 + 3) + (1 + 7) + 1; i++)
        assert_int_equal(codec_compress(stored, SIZE, data, SIZE, 1, &history), 0);
    memcpy(data + SIZE / 2, data, SIZE / 2);
    while (codec_compress(stored, SIZE, data, SIZE, 1, &history) == 0)
        assert_true(++given_up <= 15);
    assert_int_equal(given_up, 15);
    for (unsigned i = 0; i < 20; i++)
        assert_true(codec_compress(stored, SIZE, data, SIZE, 1, &history) > 0);

    /* What does not look like it is not concerned. */
    fill_random(data, SIZE, &random);
    for (unsigned i = 0; i < 20; i++)
        assert_int_equal(codec_compress(stored, SIZE, data, SIZE, 1, &history), 0);
    fill_text(data, SIZE, &random);
    assert_true(codec_compress(stored, SIZE, data, SIZE, 1, &history) > 0);
    free(data);
    free(stored);
}

static void too_little_room_is_zero_and_is_not_overrun(void **state)
{
    uint64_t random = seed_start(__func__);
    uint8_t data[4096], stored[4096];
    ptrdiff_t needed;

    (void)state;
    fill_text(data, sizeof data, &random);
    needed = codec_compress(stored, sizeof stored, data, sizeof data, 1, NULL);
    assert_true(needed > 0);
    for (size_t room = 0; room < (size_t)needed; room += 1 + room / 7) {
        memset(stored, 0xa5, sizeof stored);
        assert_int_equal(codec_compress(stored, room, data, sizeof data, 1, NULL), 0);
        for (size_t i = room; i < sizeof stored; i++)
            assert_int_equal(stored[i], 0xa5);
    }
}

static void another_size_than_the_stored_one_is_corrupt(void **state)
{
    uint64_t random = seed_start(__func__);
    uint8_t data[4096], stored[4096], back[8192];
    ptrdiff_t count;

    (void)state;
    fill_text(data, sizeof data, &random);
    count = codec_compress(stored, sizeof stored, data, sizeof data, 1, NULL);
    assert_true(count > 0);
    assert_int_equal(codec_decompress(back, sizeof data - 1, stored, (size_t)count), ERROR_CORRUPT);
    assert_int_equal(codec_decompress(back, sizeof data + 1, stored, (size_t)count), ERROR_CORRUPT);
    assert_int_equal(codec_decompress(back, 0, stored, (size_t)count), ERROR_CORRUPT);
    for (size_t cut = 0; cut < (size_t)count; cut++)
        assert_int_equal(codec_decompress(back, sizeof data, stored, cut), ERROR_CORRUPT);
}

/* Exact allocations let AddressSanitizer see any byte touched outside. */
static void hostile_input_is_refused_or_harmless(void **state)
{
    uint64_t random = seed_start(__func__);
    uint8_t *data = allocate(4096), *back = allocate(4096), *stored, *room = allocate(4096);
    ptrdiff_t count;

    (void)state;
    fill_text(data, 4096, &random);
    count = codec_compress(room, 4096, data, 4096, 1, NULL);
    assert_true(count > 0);
    stored = allocate((size_t)count);
    for (int round = 0; round < 3000; round++) {
        int result;

        memcpy(stored, room, (size_t)count);
        for (uint64_t flips = 1 + seed_below(&random, 4); flips > 0; flips--)
            stored[seed_below(&random, (uint64_t)count)] ^= (uint8_t)(1 + seed_below(&random, 255));
        result = codec_decompress(back, 4096, stored, (size_t)count);
        assert_true(result == 0 || result == ERROR_CORRUPT);
    }
    for (int round = 0; round < 1000; round++) {
        fill_random(stored, (size_t)count, &random);
        assert_int_equal(codec_decompress(back, 4096, stored, (size_t)count), ERROR_CORRUPT);
    }
    free(data);
    free(back);
    free(stored);
    free(room);
}

static void *thread_round_trips(void *argument)
{
    uint64_t random = *(uint64_t *)argument;
    uint8_t data[8192], stored[8192], back[8192];

    for (int round = 0; round < 50; round++) {
        ptrdiff_t count;

        fill_text(data, sizeof data, &random);
        count = codec_compress(stored, sizeof stored, data, sizeof data, 1, NULL);
        if (count <= 0 || codec_decompress(back, sizeof back, stored, (size_t)count) != 0 ||
            memcmp(back, data, sizeof back) != 0)
            return argument;
    }
    return NULL;
}

/* LeakSanitizer finds contexts that a thread does not free at its end. */
static void threads_do_not_share_contexts(void **state)
{
    enum { THREADS = 4 };
    uint64_t seeds[THREADS];
    pthread_t threads[THREADS];
    uint64_t random = seed_start(__func__);

    (void)state;
    for (int i = 0; i < THREADS; i++) {
        seeds[i] = seed_next(&random);
        assert_int_equal(pthread_create(&threads[i], NULL, thread_round_trips, &seeds[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        void *result;

        assert_int_equal(pthread_join(threads[i], &result), 0);
        assert_null(result);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_compressed_comes_back),
        cmocka_unit_test(what_does_not_pay_is_zero),
        cmocka_unit_test(what_pays_is_found_however_random_it_looks),
        cmocka_unit_test(what_failed_is_tried_less_often_but_is_tried),
        cmocka_unit_test(too_little_room_is_zero_and_is_not_overrun),
        cmocka_unit_test(another_size_than_the_stored_one_is_corrupt),
        cmocka_unit_test(hostile_input_is_refused_or_harmless),
        cmocka_unit_test(threads_do_not_share_contexts),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
