/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_block_cache.c - the cache of decoded blocks
 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/base/endian.h"
#include "engine/block_cache.h"
#include "engine/chunk_format.h"
#include "tests/lib/seed.h"

#define BLOCK_SIZE 4096
#define MIB        ((size_t)1 << 20)
#define LOOKS_MAX  16 /* what an eviction may look at */

static struct block_key key_at(uint64_t position)
{
    return (struct block_key){1, 2, position};
}

/* A block whose bytes say which key it belongs to. */
static struct block *block_for(const struct block_key *key, size_t size)
{
    struct block *block = block_new(size);

    assert_non_null(block);
    for (size_t i = 0; i + 24 <= size; i += 24) {
        put_le64(block->data + i, key->space);
        put_le64(block->data + i + 8, key->chunk_id);
        put_le64(block->data + i + 16, key->position);
    }
    return block;
}

static bool block_is_of(const struct block *block, const struct block_key *key)
{
    size_t last = (block->size_bytes / 24 - 1) * 24;

    return get_le64(block->data) == key->space && get_le64(block->data + 8) == key->chunk_id &&
           get_le64(block->data + 16) == key->position &&
           get_le64(block->data + last + 16) == key->position;
}

static void put(struct block_cache *cache, const struct block_key *key, size_t size)
{
    block_release(block_cache_insert(cache, key, block_for(key, size)));
}

static bool has(struct block_cache *cache, const struct block_key *key)
{
    struct block *block = block_cache_get(cache, key);

    if (!block)
        return false;
    assert_true(block_is_of(block, key));
    block_release(block);
    return true;
}

static struct block_cache_statistics statistics(struct block_cache *cache)
{
    struct block_cache_statistics result;

    block_cache_get_statistics(cache, &result);
    return result;
}

static void a_block_is_found_under_its_whole_key_only(void **state)
{
    struct block_cache *cache = block_cache_new(MIB);
    struct block_key key = {1, 2, 3}, others[] = {{2, 2, 3}, {1, 3, 3}, {1, 2, 4}, {3, 2, 1}};

    (void)state;
    assert_false(has(cache, &key));
    put(cache, &key, BLOCK_SIZE);
    assert_true(has(cache, &key));
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
        assert_false(has(cache, &others[i]));
    assert_int_equal(statistics(cache).hits, 1);
    assert_int_equal(statistics(cache).misses, 5);
    assert_int_equal(statistics(cache).insertions, 1);
    block_cache_free(cache);
}

static void the_first_block_inserted_wins(void **state)
{
    struct block_cache *cache = block_cache_new(MIB);
    struct block_key key = key_at(9);
    struct block *first = block_cache_insert(cache, &key, block_for(&key, BLOCK_SIZE));
    struct block *second = block_cache_insert(cache, &key, block_for(&key, BLOCK_SIZE));

    (void)state;
    assert_ptr_equal(first, second);
    block_release(first);
    block_release(second);
    assert_int_equal(statistics(cache).insertions, 1);
    block_cache_free(cache);
}

static void an_evicted_block_lives_until_it_is_released(void **state)
{
    struct block_cache *cache = block_cache_new(MIB);
    struct block_key key = key_at(0);
    struct block *held = block_cache_insert(cache, &key, block_for(&key, BLOCK_SIZE));

    (void)state;
    for (uint64_t i = 1; i < 2000; i++) {
        struct block_key other = key_at(i);

        put(cache, &other, BLOCK_SIZE);
    }
    assert_false(has(cache, &key));
    assert_true(block_is_of(held, &key)); /* the address sanitizer watches */
    block_release(held);
    block_cache_free(cache);
}

static void memory_stays_below_the_capacity(void **state)
{
    uint64_t random = seed_start("memory_stays_below_the_capacity");
    struct block_cache *cache = block_cache_new(8 * MIB);

    (void)state;
    for (int i = 0; i < 20000; i++) {
        struct block_key key = key_at(seed_below(&random, 5000));

        if (!has(cache, &key))
            put(cache, &key, 24 + seed_below(&random, 20000));
        assert_true(statistics(cache).size_bytes <= statistics(cache).capacity_bytes);
    }
    assert_true(statistics(cache).evictions > 0);
    assert_true(statistics(cache).size_bytes > 4 * MIB);
    block_cache_free(cache);
}

static void a_block_that_is_too_large_is_not_kept_but_usable(void **state)
{
    struct block_cache *cache = block_cache_new(64 * 1024);
    struct block_key key = key_at(5);
    struct block *block = block_cache_insert(cache, &key, block_for(&key, 256 * 1024));

    (void)state;
    assert_true(block_is_of(block, &key));
    block_release(block);
    assert_false(has(cache, &key));
    block_cache_free(cache);
}

static void a_cache_without_capacity_keeps_nothing(void **state)
{
    struct block_cache *cache = block_cache_new(0);
    struct block_key key = key_at(5);

    (void)state;
    put(cache, &key, BLOCK_SIZE);
    assert_false(has(cache, &key));
    block_cache_free(cache);
}

static void a_scan_does_not_evict_what_is_used(void **state)
{
    struct block_cache *cache = block_cache_new(8 * MIB);
    unsigned survivors = 0;

    (void)state;
    for (uint64_t i = 0; i < 500; i++) { /* a quarter of the capacity */
        struct block_key key = key_at(i);

        put(cache, &key, BLOCK_SIZE);
        for (int use = 0; use < 3; use++)
            assert_true(has(cache, &key));
    }
    for (uint64_t i = 0; i < 20000; i++) { /* ten times the capacity, each block once */
        struct block_key key = {1, 99, i};

        put(cache, &key, BLOCK_SIZE);
    }
    for (uint64_t i = 0; i < 500; i++) {
        struct block_key key = key_at(i);

        survivors += has(cache, &key);
    }
    assert_true(survivors > 450);
    block_cache_free(cache);
}

static void what_comes_back_soon_after_eviction_stays(void **state)
{
    struct block_cache *cache = block_cache_new(2 * MIB);
    struct block_key key = key_at(7777777);
    uint64_t position = 0;

    (void)state;
    put(cache, &key, BLOCK_SIZE);
    while (statistics(cache).evictions == 0) { /* the oldest newcomer goes first */
        struct block_key newcomer = {1, 99, position++};

        put(cache, &newcomer, BLOCK_SIZE);
    }
    assert_false(has(cache, &key));
    put(cache, &key, BLOCK_SIZE);         /* remembered: goes to the main queue */
    for (uint64_t i = 0; i < 5000; i++) { /* many times the capacity */
        struct block_key newcomer = {1, 98, i};

        put(cache, &newcomer, BLOCK_SIZE);
    }
    assert_true(has(cache, &key));
    block_cache_free(cache);
}

static void removing_a_chunk_removes_all_of_it_and_nothing_else(void **state)
{
    struct block_cache *cache = block_cache_new(64 * MIB);

    (void)state;
    for (uint64_t chunk = 0; chunk < 4; chunk++) {
        for (uint64_t i = 0; i < 500; i++) {
            struct block_key key = {1, chunk, i * 8192};

            put(cache, &key, 100);
        }
    }
    block_cache_remove_chunk(cache, 1, 2);
    for (uint64_t chunk = 0; chunk < 4; chunk++) {
        for (uint64_t i = 0; i < 500; i++) {
            struct block_key key = {1, chunk, i * 8192};

            assert_int_equal(has(cache, &key), chunk != 2);
        }
    }
    block_cache_free(cache);
}

static void r32_two_stores_with_equal_chunk_ids_never_meet(void **state)
{
    static const uint8_t uuids[2][STORE_UUID_SIZE] = {"one store's uuid", "the other store."};
    struct block_cache *cache = block_cache_new(4 * MIB);
    uint64_t spaces[2];

    (void)state;
    for (size_t i = 0; i < 2; i++)
        assert_int_equal(block_cache_space(uuids[i], &spaces[i]), 0);
    assert_int_not_equal(spaces[0], spaces[1]);

    for (uint64_t i = 0; i < 100; i++) {
        struct block_key key = {spaces[0], 5, i}, foreign = {spaces[1], 5, i};

        put(cache, &key, BLOCK_SIZE);
        assert_false(has(cache, &foreign));
    }
    block_cache_remove_chunk(cache, spaces[1], 5); /* the other store deletes its chunk 5 */
    for (uint64_t i = 0; i < 100; i++) {
        struct block_key key = {spaces[0], 5, i}, foreign = {spaces[1], 5, i};

        assert_true(has(cache, &key)); /* has() compares the bytes */
        put(cache, &foreign, BLOCK_SIZE);
        assert_true(has(cache, &foreign));
        assert_true(has(cache, &key));
    }
    block_cache_free(cache);
}

static void the_key_space_is_the_low_half_of_the_uuids_hash(void **state)
{
    static const uint8_t uuid[STORE_UUID_SIZE] = "0123456789abcdef";
    struct checksum_stream *stream = checksum_stream_new();
    uint64_t space;

    (void)state;
    checksum_stream_update(stream, uuid, sizeof uuid);
    assert_int_equal(block_cache_space(uuid, &space), 0);
    assert_int_equal(space, checksum_stream_digest(stream).low);
    checksum_stream_free(stream);
}

static void r12_evictions_are_bounded_when_everything_is_hot(void **state)
{
    struct block_cache *cache = block_cache_new(MIB);
    struct block_cache_statistics before, after;
    uint64_t resident = MIB / BLOCK_SIZE;

    (void)state;
    for (uint64_t i = 0; i < resident; i++) {
        struct block_key key = key_at(i);

        put(cache, &key, BLOCK_SIZE);
    }
    for (int round = 0; round < 200; round++) {
        struct block_key newcomer = {1, 99, (uint64_t)round};

        for (uint64_t i = 0; i < resident; i++) { /* use counters to their limit */
            struct block_key key = key_at(i);

            for (int use = 0; use < 4; use++)
                has(cache, &key);
        }
        before = statistics(cache);
        put(cache, &newcomer, BLOCK_SIZE);
        after = statistics(cache);
        assert_true(after.evictions - before.evictions <= 2);
        assert_true(after.eviction_looks - before.eviction_looks <=
                    LOOKS_MAX * (after.evictions - before.evictions));
        assert_true(after.size_bytes <= after.capacity_bytes);
    }
    assert_true(statistics(cache).evictions >= 150);
    block_cache_free(cache);
}

/* Insert while the evicted block is in the caller's hands, and let go of it from inside the walk.
 */
static void r11_what_an_eviction_sets_off_may_use_the_cache(void **state)
{
    enum { HELD = 32 };                                     /* more than there is room for */
    struct block_cache *cache = block_cache_new(64 * 1024); /* every insertion evicts */
    struct block *held[HELD] = {0};
    unsigned evicted = 0;

    (void)state;
    alarm(60); /* a deadlock ends the test */
    for (uint64_t i = 0; i < 5000; i++) {
        struct block_key key = key_at(i), old = key_at(i >= HELD ? i - HELD : 0);
        struct block *block = block_cache_insert(cache, &key, block_for(&key, BLOCK_SIZE));

        if (!has(cache, &old)) { /* evicted: its reader looks again, refills, forgets */
            evicted++;
            put(cache, &old, BLOCK_SIZE);
            block_cache_remove_chunk(cache, 7, 7);
        }
        block_release(held[i % HELD]);
        held[i % HELD] = block;
    }
    assert_true(evicted > 1000);
    for (size_t i = 0; i < HELD; i++)
        block_release(held[i]);
    alarm(0);
    block_cache_free(cache);
}

struct hammer {
    struct block_cache *cache;
    uint64_t random;
    unsigned wrong;
};

static void *hammer_main(void *context)
{
    struct hammer *hammer = context;

    for (int i = 0; i < 20000; i++) {
        struct block_key key = {seed_below(&hammer->random, 2), seed_below(&hammer->random, 4),
                                seed_below(&hammer->random, 300)};
        struct block *block = block_cache_get(hammer->cache, &key);

        if (!block)
            block = block_cache_insert(hammer->cache, &key, block_for(&key, 240));
        hammer->wrong += !block_is_of(block, &key);
        block_release(block);
        if (i % 500 == 0)
            block_cache_remove_chunk(hammer->cache, 0, seed_below(&hammer->random, 4));
    }
    return NULL;
}

static void threads_always_get_the_right_block(void **state)
{
    uint64_t random = seed_start("threads_always_get_the_right_block");
    struct block_cache *cache = block_cache_new(256 * 1024);
    struct hammer hammers[4];
    pthread_t threads[4];

    (void)state;
    for (size_t i = 0; i < 4; i++) {
        hammers[i] = (struct hammer){cache, seed_next(&random), 0};
        assert_int_equal(pthread_create(&threads[i], NULL, hammer_main, &hammers[i]), 0);
    }
    for (size_t i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(hammers[i].wrong, 0);
    }
    assert_true(statistics(cache).evictions > 0);
    assert_true(statistics(cache).hits > 0);
    block_cache_free(cache);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_block_is_found_under_its_whole_key_only),
        cmocka_unit_test(the_first_block_inserted_wins),
        cmocka_unit_test(an_evicted_block_lives_until_it_is_released),
        cmocka_unit_test(memory_stays_below_the_capacity),
        cmocka_unit_test(a_block_that_is_too_large_is_not_kept_but_usable),
        cmocka_unit_test(a_cache_without_capacity_keeps_nothing),
        cmocka_unit_test(a_scan_does_not_evict_what_is_used),
        cmocka_unit_test(what_comes_back_soon_after_eviction_stays),
        cmocka_unit_test(removing_a_chunk_removes_all_of_it_and_nothing_else),
        cmocka_unit_test(r32_two_stores_with_equal_chunk_ids_never_meet),
        cmocka_unit_test(the_key_space_is_the_low_half_of_the_uuids_hash),
        cmocka_unit_test(r12_evictions_are_bounded_when_everything_is_hot),
        cmocka_unit_test(r11_what_an_eviction_sets_off_may_use_the_cache),
        cmocka_unit_test(threads_always_get_the_right_block),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
