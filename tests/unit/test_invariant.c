/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_invariant.c - tests of engine/base/invariant.h
 */
#include "engine/base/invariant.h"

#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "engine/base/log.h"
#include "tests/lib/child.h"

static char output[65536];
static int line_of_failure;

static void break_with_context(void *context)
{
    const int *value = context;

    invariant_set_context("test-operation", 1234567890123u);
    line_of_failure = __LINE__ + 1;
    invariant(*value == 7);
}

static void r6_broken_invariant_names_operation_sequence_place_and_backtrace(void **state)
{
    int value = 8;
    char place[64];
    int status = child_run(break_with_context, &value, output, sizeof output);

    (void)state;
    assert_true(status != -1 && WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGABRT);
    assert_non_null(strstr(output, "*value == 7"));
    assert_non_null(strstr(output, "test-operation"));
    assert_non_null(strstr(output, "1234567890123"));
    /* The child's copy of the line number is not ours: it follows from the function's place. */
    snprintf(place, sizeof place, "%s:", __FILE__);
    assert_non_null(strstr(output, place));
    assert_non_null(strstr(output, "#0 "));
    assert_non_null(strstr(output, "#2 "));
}

static void r6_line_number_is_that_of_the_condition(void **state)
{
    int value = 7;
    char place[64];

    (void)state;
    break_with_context(&value); /* holds: only notes the line */
    value = 8;
    assert_int_not_equal(child_run(break_with_context, &value, output, sizeof output), 0);
    snprintf(place, sizeof place, "%s:%d,", __FILE__, line_of_failure);
    assert_non_null(strstr(output, place));
}

static void *break_without_context(void *context)
{
    (void)context;
    invariant(context != NULL);
    return NULL;
}

static void break_in_a_thread(void *context)
{
    pthread_t thread;

    invariant_set_context("another-operation", 99);
    if (pthread_create(&thread, NULL, break_without_context, context) == 0)
        pthread_join(thread, NULL);
}

static void context_belongs_to_its_thread(void **state)
{
    int status = child_run(break_in_a_thread, NULL, output, sizeof output);

    (void)state;
    assert_true(status != -1 && WIFSIGNALED(status));
    assert_null(strstr(output, "another-operation"));
    assert_non_null(strstr(output, "operation none, sequence 0"));
}

static void break_silently(void *context)
{
    /* The last words are errors: the lowest level shows them still. */
    log_set_level(LOG_LEVEL_ERROR);
    break_without_context(context);
}

static void message_is_not_filtered_by_the_log_level(void **state)
{
    (void)state;
    assert_int_not_equal(child_run(break_silently, NULL, output, sizeof output), 0);
    assert_non_null(strstr(output, "invariant broken"));
}

static void condition_that_holds_is_evaluated_once(void **state)
{
    int count = 0;

    (void)state;
    invariant(++count == 1);
    assert_int_equal(count, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(r6_broken_invariant_names_operation_sequence_place_and_backtrace),
        cmocka_unit_test(r6_line_number_is_that_of_the_condition),
        cmocka_unit_test(context_belongs_to_its_thread),
        cmocka_unit_test(message_is_not_filtered_by_the_log_level),
        cmocka_unit_test(condition_that_holds_is_evaluated_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
