/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_crew.c - work that is divided is done once, by whoever is there
 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/base/crew.h"

#define PARTS 8

struct job {
    atomic_uint runs[PARTS];
    pthread_t callers[PARTS];
    useconds_t takes_us;
};

static void run_part(void *context, size_t part)
{
    struct job *job = context;

    assert_true(part < PARTS);
    job->callers[part] = pthread_self();
    if (job->takes_us > 0)
        usleep(job->takes_us);
    atomic_fetch_add(&job->runs[part], 1);
}

static void expect_once(const struct job *job, size_t parts)
{
    for (size_t i = 0; i < PARTS; i++)
        assert_int_equal(atomic_load(&job->runs[i]), i < parts);
}

static void without_helpers_the_caller_does_it_all(void **state)
{
    struct job job = {0};

    (void)state;
    assert_int_equal(crew_helpers(NULL), 0);
    assert_null(crew_open(0));
    crew_run(NULL, run_part, &job, PARTS);
    expect_once(&job, PARTS);
    crew_close(NULL);
}

/* Parts that sleep leave the CPU to whoever wants another one. */
static void helpers_take_parts(void **state)
{
    struct crew *crew = crew_open(3);
    struct job job = {.takes_us = 20000};
    unsigned others = 0;

    (void)state;
    if (crew == NULL)
        skip(); /* one CPU */
    crew_run(crew, run_part, &job, PARTS);
    expect_once(&job, PARTS);
    for (size_t i = 0; i < PARTS; i++)
        others += !pthread_equal(job.callers[i], pthread_self());
    assert_true(others > 0);
    crew_close(crew);
}

static void *call_often(void *crew)
{
    for (unsigned round = 0; round < 5000; round++) {
        size_t parts = round % (PARTS + 1);
        struct job job = {.takes_us = round % 500 == 0 ? 100 : 0};

        crew_run(crew, run_part, &job, parts);
        expect_once(&job, parts);
    }
    return NULL;
}

static void callers_at_once_get_their_own_work_done(void **state)
{
    struct crew *crew = crew_open(3);
    pthread_t threads[4];

    (void)state;
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, call_often, crew), 0);
    for (size_t i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    crew_close(crew);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_helpers_the_caller_does_it_all),
        cmocka_unit_test(helpers_take_parts),
        cmocka_unit_test(callers_at_once_get_their_own_work_done),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
