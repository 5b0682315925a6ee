/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_log.c - tests of engine/base/log.h
 */
#include "engine/base/log.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/lib/child.h"

static char output[1 << 20];

static void say_at_every_level(void *context)
{
    log_set_level(*(const enum log_level *)context);
    log_error("e-%d", 1);
    log_warning("w-%d", 2);
    log_info("i-%d", 3);
    log_debug("d-%d", 4);
}

static void messages_above_the_level_are_dropped(void **state)
{
    static const char *const expected[] = {
        [LOG_LEVEL_ERROR] = "varve: error: e-1\n",
        [LOG_LEVEL_WARNING] = "varve: error: e-1\nvarve: warning: w-2\n",
        [LOG_LEVEL_INFO] = "varve: error: e-1\nvarve: warning: w-2\nvarve: i-3\n",
        [LOG_LEVEL_DEBUG] =
            "varve: error: e-1\nvarve: warning: w-2\nvarve: i-3\nvarve: debug: d-4\n",
    };

    (void)state;
    for (enum log_level level = LOG_LEVEL_ERROR; level <= LOG_LEVEL_DEBUG; level++) {
        assert_int_equal(child_run(say_at_every_level, &level, output, sizeof output), 0);
        assert_string_equal(output, expected[level]);
    }
}

static void say_by_default(void *context)
{
    (void)context;
    log_debug("no");
    log_info("yes");
}

static void default_level_is_info(void **state)
{
    (void)state;
    assert_int_equal(child_run(say_by_default, NULL, output, sizeof output), 0);
    assert_string_equal(output, "varve: yes\n");
}

static void say_control_characters(void *context)
{
    (void)context;
    log_info("a\nb\tc\x1b[31md\x7f \xc3\xa9");
}

static void message_is_one_line_without_control_characters(void **state)
{
    (void)state;
    assert_int_equal(child_run(say_control_characters, NULL, output, sizeof output), 0);
    assert_string_equal(output, "varve: a b c?[31md? \xc3\xa9\n");
}

static void say_much(void *context)
{
    log_info("%s", (const char *)context);
}

static void long_message_is_cut_and_still_a_line(void **state)
{
    static char text[10000];
    size_t size;

    (void)state;
    memset(text, 'x', sizeof text - 1);
    assert_int_equal(child_run(say_much, text, output, sizeof output), 0);
    size = strlen(output);
    assert_true(size > 1000 && size < 5000);
    assert_ptr_equal(strchr(output, '\n'), output + size - 1);
}

#define THREADS 4
#define LINES   500

static void *say_many(void *argument)
{
    char text[200];

    memset(text, *(const char *)argument, sizeof text - 1);
    text[sizeof text - 1] = '\0';
    for (int i = 0; i < LINES; i++)
        log_info("%s", text);
    return NULL;
}

static void say_from_threads(void *context)
{
    static const char letters[THREADS] = {'a', 'b', 'c', 'd'};
    pthread_t threads[THREADS];

    (void)context;
    for (int i = 0; i < THREADS; i++) {
        char *letter = strndup(letters + i, 1);

        if (letter == NULL || pthread_create(&threads[i], NULL, say_many, letter) != 0)
            _exit(1);
    }
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
}

static void lines_of_threads_are_not_interleaved(void **state)
{
    size_t lines = 0;

    (void)state;
    assert_int_equal(child_run(say_from_threads, NULL, output, sizeof output), 0);
    for (char *line = output; *line != '\0'; lines++) {
        size_t length = strcspn(line, "\n");

        assert_int_equal(length, strlen("varve: ") + 199);
        for (size_t i = strlen("varve: "); i < length; i++)
            assert_int_equal(line[i], line[length - 1]);
        line += length + 1;
    }
    assert_int_equal(lines, THREADS * LINES);
}

static void say_and_check_errno(void *context)
{
    (void)context;
    errno = EXDEV;
    log_info("%d", 1);
    if (errno != EXDEV)
        _exit(1);
    /* Even where there is nowhere to write. */
    close(STDERR_FILENO);
    log_info("%d", 2);
    _exit(errno == EXDEV ? 0 : 2);
}

static void errno_is_left_alone(void **state)
{
    (void)state;
    assert_int_equal(child_run(say_and_check_errno, NULL, output, sizeof output), 0);
    assert_string_equal(output, "varve: 1\n");
}

static void say_to_syslog(void *context)
{
    (void)context;
    log_info("before");
    log_use_syslog("varve-test");
    log_info("after");
}

static void syslog_takes_the_place_of_standard_error(void **state)
{
    (void)state;
    assert_int_equal(child_run(say_to_syslog, NULL, output, sizeof output), 0);
    assert_string_equal(output, "varve: before\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages_above_the_level_are_dropped),
        cmocka_unit_test(default_level_is_info),
        cmocka_unit_test(message_is_one_line_without_control_characters),
        cmocka_unit_test(long_message_is_cut_and_still_a_line),
        cmocka_unit_test(lines_of_threads_are_not_interleaved),
        cmocka_unit_test(errno_is_left_alone),
        cmocka_unit_test(syslog_takes_the_place_of_standard_error),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
