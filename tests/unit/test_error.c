/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_error.c - tests of engine/base/error.h
 */
#include "engine/base/error.h"

#include <errno.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "engine/base/log.h"
#include "tests/lib/child.h"

static const struct {
    const char *name;
    int code;
    int parent;
} codes[] = {
#define ERROR_ROW(name, number, parent, text) {#name, name, parent},
    ERROR_LIST(ERROR_ROW)
#undef ERROR_ROW
};

#define CODE_COUNT (sizeof codes / sizeof *codes)

static void r36_every_code_has_an_errno(void **state)
{
    (void)state;
    for (size_t i = 0; i < CODE_COUNT; i++) {
        assert_true(codes[i].parent > 0 && codes[i].parent < ERROR_BASE);
        assert_int_equal(error_errno(codes[i].code), -codes[i].parent);
    }
}

static void r36_every_code_has_words_of_its_own(void **state)
{
    (void)state;
    for (size_t i = 0; i < CODE_COUNT; i++) {
        assert_true(strlen(error_text(codes[i].code)) > 5);
        for (size_t j = 0; j < i; j++) {
            assert_int_not_equal(codes[i].code, codes[j].code);
            assert_string_not_equal(error_text(codes[i].code), error_text(codes[j].code));
        }
    }
}

static void log_every_code(void *context)
{
    (void)context;
    for (size_t i = 0; i < CODE_COUNT; i++)
        log_error("%s: %s", codes[i].name, error_text(codes[i].code));
}

static void r36_every_code_makes_one_log_line(void **state)
{
    static char output[16384];
    char *line = output;

    (void)state;
    assert_int_equal(child_run(log_every_code, NULL, output, sizeof output), 0);
    for (size_t i = 0; i < CODE_COUNT; i++) {
        char *end = strchr(line, '\n');

        assert_non_null(end);
        *end = '\0';
        assert_non_null(strstr(line, codes[i].name));
        assert_non_null(strstr(line, error_text(codes[i].code)));
        line = end + 1;
    }
    assert_string_equal(line, "");
}

/* Other programs and other versions of this one may have stored them in scripts. */
static void codes_keep_their_numbers(void **state)
{
    (void)state;
    assert_int_equal(ERROR_CORRUPT, -4097);
    assert_int_equal(ERROR_REPLACED, -4111);
}

static void errno_is_its_own_parent(void **state)
{
    (void)state;
    assert_int_equal(error_errno(0), 0);
    assert_int_equal(error_errno(-ENOENT), -ENOENT);
    assert_int_equal(error_errno(-4095), -4095);
    assert_string_equal(error_text(-ENOENT), strerror(ENOENT));
    assert_string_equal(error_text(0), "no error");
}

static void unknown_code_is_an_io_error_with_words(void **state)
{
    static const int unknown[] = {-ERROR_BASE, ERROR_REPLACED - 1, -100000, INT_MIN};

    (void)state;
    for (size_t i = 0; i < sizeof unknown / sizeof *unknown; i++) {
        assert_int_equal(error_errno(unknown[i]), -EIO);
        assert_non_null(strstr(error_text(unknown[i]), "unknown"));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(r36_every_code_has_an_errno),
        cmocka_unit_test(r36_every_code_has_words_of_its_own),
        cmocka_unit_test(r36_every_code_makes_one_log_line),
        cmocka_unit_test(codes_keep_their_numbers),
        cmocka_unit_test(errno_is_its_own_parent),
        cmocka_unit_test(unknown_code_is_an_io_error_with_words),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
