/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_read_around.c - when what lies around small reads is fetched, and how much of it
 *
 * The disk is one that only notes what it is asked for.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/base/blocking.h"
#include "engine/read_around.h"
#include "tests/lib/seed.h"

#define REGION READ_AROUND_REGION_BYTES
#define SIZE   (64 * (uint64_t)1024 * 1024)
#define MANY   (SIZE / READ_AROUND_BYTES_PER_READ)
#define HOUR   (UINT64_C(3600) * 1000000000)

struct noting_io {
    struct io io;
    unsigned fetched[SIZE / REGION + 1];
    unsigned total;
};

static void note_prefetch(struct io *io, struct io_file *file, uint64_t offset, uint64_t size)
{
    struct noting_io *noting = (struct noting_io *)io;

    assert_null(file);
    assert_int_equal(offset % REGION, 0);
    assert_int_equal(size, REGION);
    assert_true(offset / REGION < sizeof noting->fetched / sizeof noting->fetched[0]);
    noting->fetched[offset / REGION]++;
    noting->total++;
}

static const struct io_ops noting_ops = {.name = "noting", .prefetch = note_prefetch};

struct fixture {
    struct noting_io disk;
    struct read_around_budget budget;
    struct read_around around;
};

static int setup(void **state)
{
    struct fixture *fixture = calloc(1, sizeof *fixture);

    assert_non_null(fixture);
    fixture->disk.io.ops = &noting_ops;
    read_around_budget_init(&fixture->budget, 1024 * SIZE, HOUR);
    *state = fixture;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *fixture = *state;

    read_around_free(&fixture->around);
    free(fixture);
    return 0;
}

static void read_at(struct fixture *fixture, uint64_t position, uint64_t size)
{
    read_around(&fixture->around, &fixture->budget, &fixture->disk.io, NULL, position, size, SIZE);
}

static void make_many_reads(struct fixture *fixture)
{
    for (uint64_t i = 0; i + 1 < MANY; i++)
        read_at(fixture, SIZE - 4096, 4096);
    assert_int_equal(fixture->disk.total, 0);
}

static void a_few_reads_fetch_nothing_and_many_what_is_around_them(void **state)
{
    struct fixture *fixture = *state;

    make_many_reads(fixture);
    read_at(fixture, 5 * REGION + 77, 4096);
    assert_int_equal(fixture->disk.total, 1);
    assert_int_equal(fixture->disk.fetched[5], 1);
    assert_int_equal(fixture->disk.io.counters.prefetches, 1);
    assert_int_equal(fixture->disk.io.counters.prefetch_bytes, REGION);
}

static void each_region_is_fetched_once(void **state)
{
    struct fixture *fixture = *state;
    uint64_t random = seed_start("read_around");

    make_many_reads(fixture);
    for (int i = 0; i < 100000; i++)
        read_at(fixture, seed_below(&random, SIZE - 4096), 4096);
    assert_int_equal(fixture->disk.total, SIZE / REGION);
    for (uint64_t region = 0; region < SIZE / REGION; region++)
        assert_int_equal(fixture->disk.fetched[region], 1);
}

static void large_reads_do_not_count_and_fetch_nothing(void **state)
{
    struct fixture *fixture = *state;

    for (uint64_t i = 0; i < 10 * MANY; i++)
        read_at(fixture, i % 100 * REGION, READ_AROUND_SMALL_BYTES + 1);
    make_many_reads(fixture);
    read_at(fixture, 0, READ_AROUND_SMALL_BYTES + 1);
    assert_int_equal(fixture->disk.total, 0);
}

static void what_may_still_change_is_not_fetched(void **state)
{
    struct fixture *fixture = *state;

    make_many_reads(fixture);
    read_around(&fixture->around, &fixture->budget, &fixture->disk.io, NULL, 3 * REGION, 4096,
                4 * REGION - 1);
    assert_int_equal(fixture->disk.total, 0);
    read_around(&fixture->around, &fixture->budget, &fixture->disk.io, NULL, 3 * REGION, 4096,
                4 * REGION);
    assert_int_equal(fixture->disk.total, 1);
    /* Beyond all regions. */
    read_around(&fixture->around, &fixture->budget, &fixture->disk.io, NULL,
                READ_AROUND_REGIONS_MAX * REGION, 4096, UINT64_MAX);
    assert_int_equal(fixture->disk.total, 1);
}

static void no_more_than_the_budget_is_fetched_in_a_period(void **state)
{
    struct fixture *fixture = *state;

    read_around_budget_init(&fixture->budget, 3 * REGION, HOUR);
    make_many_reads(fixture);
    for (uint64_t region = 0; region < 100; region++)
        read_at(fixture, region * REGION, 4096);
    assert_int_equal(fixture->disk.total, 3);
    /* The next period: what there was no room for is fetched then. */
    fixture->budget.period_ns = 0;
    read_at(fixture, 50 * REGION, 4096);
    assert_int_equal(fixture->disk.total, 4);
    assert_int_equal(fixture->disk.fetched[50], 1);
}

static void hook(void *context)
{
    *(bool *)context = true;
}

static void who_must_not_wait_fetches_nothing(void **state)
{
    struct fixture *fixture = *state;
    bool has_waited = false;

    make_many_reads(fixture);
    blocking_set_hook(hook, &has_waited);
    read_at(fixture, 0, 4096);
    assert_false(has_waited);
    assert_int_equal(fixture->disk.total, 0);
    blocking_set_hook(NULL, NULL);
    read_at(fixture, 0, 4096);
    assert_int_equal(fixture->disk.total, 1);
}

static void without_a_budget_nothing_is_fetched(void **state)
{
    struct fixture *fixture = *state;

    for (uint64_t i = 0; i < 10 * MANY; i++)
        read_around(&fixture->around, NULL, &fixture->disk.io, NULL, i % 100 * REGION, 4096, SIZE);
    assert_int_equal(fixture->disk.total, 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_few_reads_fetch_nothing_and_many_what_is_around_them),
        TEST(each_region_is_fetched_once),
        TEST(large_reads_do_not_count_and_fetch_nothing),
        TEST(what_may_still_change_is_not_fetched),
        TEST(no_more_than_the_budget_is_fetched_in_a_period),
        TEST(who_must_not_wait_fetches_nothing),
        TEST(without_a_budget_nothing_is_fetched),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
