/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_arena.c - tests of engine/base/arena.h
 */
#include "engine/base/arena.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "tests/lib/seed.h"

/* Too large a request must return NULL under AddressSanitizer too. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
    return "allocator_may_return_null=1";
}

static void every_allocation_is_aligned(void **state)
{
    struct arena arena = {0};

    (void)state;
    for (size_t size = 0; size < 100; size++) {
        void *memory = arena_allocate(&arena, size);

        assert_non_null(memory);
        assert_int_equal((uintptr_t)memory % 8, 0);
    }
    arena_free(&arena);
}

static void allocations_never_overlap(void **state)
{
    enum { COUNT = 3000 };
    static struct {
        uint8_t *data;
        size_t size;
    } pieces[COUNT];
    uint64_t random = seed_start(__func__);
    struct arena arena = {0};

    (void)state;
    for (size_t i = 0; i < COUNT; i++) {
        size_t limit = seed_below(&random, 100) == 0 ? 300000 : 700;

        pieces[i].size = seed_below(&random, limit);
        pieces[i].data = arena_allocate(&arena, pieces[i].size);
        assert_non_null(pieces[i].data);
        memset(pieces[i].data, (int)(i & 0xff), pieces[i].size);
    }
    for (size_t i = 0; i < COUNT; i++)
        for (size_t at = 0; at < pieces[i].size; at++)
            if (pieces[i].data[at] != (i & 0xff))
                fail_msg("byte %zu of piece %zu was overwritten", at, i);
    arena_free(&arena);
}

static void total_covers_what_was_allocated_and_small_arenas_stay_small(void **state)
{
    struct arena arena = {0};
    size_t asked = 0;

    (void)state;
    assert_non_null(arena_allocate(&arena, 100));
    assert_int_equal(arena.total_bytes, 64 << 10);
    asked = 104;
    for (int i = 0; i < 20000; i++) {
        assert_non_null(arena_allocate(&arena, 504));
        asked += 504;
        assert_true(arena.total_bytes >= asked);
        /* At most one block of 2 MiB is not in use yet. */
        assert_true(arena.total_bytes <= 2 * asked + (2 << 20));
    }
    arena_free(&arena);
    assert_int_equal(arena.total_bytes, 0);
}

static void large_allocation_leaves_the_current_block_in_use(void **state)
{
    struct arena arena = {0};
    uint8_t *before, *after;
    size_t held;

    (void)state;
    before = arena_allocate(&arena, 16);
    assert_non_null(arena_allocate(&arena, 5 << 20));
    held = arena.total_bytes;
    after = arena_allocate(&arena, 16);
    assert_ptr_equal(after, before + 16);
    assert_int_equal(arena.total_bytes, held);
    arena_free(&arena);
}

static void impossible_size_is_null_and_changes_nothing(void **state)
{
    static const size_t sizes[] = {SIZE_MAX, SIZE_MAX - 8, SIZE_MAX - 40, SIZE_MAX / 2};
    struct arena arena = {0};
    struct arena before;

    (void)state;
    assert_non_null(arena_allocate(&arena, 1));
    before = arena;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        assert_null(arena_allocate(&arena, sizes[i]));
        assert_memory_equal(&arena, &before, sizeof arena);
    }
    arena_free(&arena);
}

static void freed_arena_is_empty_and_usable(void **state)
{
    struct arena arena = {0};

    (void)state;
    arena_free(&arena);
    for (int round = 0; round < 3; round++) {
        uint8_t *memory = arena_allocate(&arena, 100000);

        assert_non_null(memory);
        memset(memory, round, 100000);
        arena_free(&arena);
        assert_null(arena.blocks);
        assert_int_equal(arena.left, 0);
    }
}

/* Fills arenas of some MiB with its own number, looks whether it stayed, frees them. NULL: it did. */
static void *fill_and_free(void *argument)
{
    enum { PIECES = 6000, SIZE = 1000, ROUNDS = 20 };
    static _Thread_local uint8_t *pieces[PIECES];
    uint8_t own = *(const uint8_t *)argument;

    for (int round = 0; round < ROUNDS; round++) {
        struct arena arena = {0};

        for (int i = 0; i < PIECES; i++) {
            pieces[i] = arena_allocate(&arena, SIZE);
            memset(pieces[i], own, SIZE);
        }
        for (int i = 0; i < PIECES; i++)
            for (int at = 0; at < SIZE; at += 100)
                if (pieces[i][at] != own)
                    return argument;
        arena_free(&arena);
    }
    return NULL;
}

static void blocks_that_are_kept_belong_to_one_arena_at_a_time(void **state)
{
    enum { THREADS = 4 };
    static uint8_t numbers[THREADS] = {1, 2, 3, 4};
    pthread_t threads[THREADS];
    void *wrong;

    (void)state;
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, fill_and_free, &numbers[i]), 0);
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_join(threads[i], &wrong), 0);
        assert_null(wrong);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_allocation_is_aligned),
        cmocka_unit_test(allocations_never_overlap),
        cmocka_unit_test(total_covers_what_was_allocated_and_small_arenas_stay_small),
        cmocka_unit_test(large_allocation_leaves_the_current_block_in_use),
        cmocka_unit_test(impossible_size_is_null_and_changes_nothing),
        cmocka_unit_test(freed_arena_is_empty_and_usable),
        cmocka_unit_test(blocks_that_are_kept_belong_to_one_arena_at_a_time),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
