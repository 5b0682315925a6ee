/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_control_json.c - names that are bytes, in JSON that is Unicode
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <string.h>

#include "fuse/control_json.h"

static void check_round_trip(const char *name)
{
    json_t *object = json_object(), *parsed;
    char *text, back[256];

    assert_int_equal(control_json_set_bytes(object, "name", name, strlen(name)), 0);
    text = json_dumps(object, JSON_COMPACT);
    assert_non_null(text);
    parsed = json_loads(text, 0, NULL);
    assert_int_equal(control_json_get_bytes(parsed, "name", back, sizeof back), strlen(name));
    assert_string_equal(back, name);
    free(text);
    json_decref(object);
    json_decref(parsed);
}

static void r35_every_name_comes_back_byte_for_byte(void **state)
{
    char name[256];

    (void)state;
    check_round_trip("");
    check_round_trip("my-db");
    check_round_trip("my_db");
    check_round_trip("caf\xc3\xa9");  /* one code point */
    check_round_trip("cafe\xcc\x81"); /* two */
    check_round_trip("\xff\xfe");
    check_round_trip("\xc3");
    check_round_trip("quote\" back\\slash \x01 newline\n");
    for (unsigned byte = 1; byte < 256; byte++) {
        name[0] = (char)byte;
        name[1] = '\0';
        check_round_trip(name);
    }
    memset(name, 0xfe, 255);
    name[255] = '\0';
    check_round_trip(name);
}

static int get(const char *text, size_t room)
{
    json_t *object = json_loads(text, 0, NULL);
    char to[16] = "untouched";
    int result;

    assert_non_null(object);
    assert_true(room <= sizeof to);
    result = control_json_get_bytes(object, "name", to, room);
    json_decref(object);
    return result;
}

static void what_is_not_a_name_is_refused(void **state)
{
    (void)state;
    assert_int_equal(get("{}", 8), -ENOENT);
    assert_int_equal(get("{\"name\": 7}", 8), -EINVAL);
    assert_int_equal(get("{\"name\": null, \"name_hex\": \"61\"}", 8), -EINVAL);
    assert_int_equal(get("{\"name_hex\": [\"61\"]}", 8), -EINVAL);
    assert_int_equal(get("{\"name_hex\": \"6\"}", 8), -EINVAL);
    assert_int_equal(get("{\"name_hex\": \"6G\"}", 8), -EINVAL);
    assert_int_equal(get("{\"name_hex\": \"6100\"}", 8), -EINVAL);
}

static void a_name_fits_with_its_end_or_not_at_all(void **state)
{
    (void)state;
    assert_int_equal(get("{\"name\": \"1234567\"}", 8), 7);
    assert_int_equal(get("{\"name\": \"12345678\"}", 8), -ENAMETOOLONG);
    assert_int_equal(get("{\"name_hex\": \"31323334353637\"}", 8), 7);
    assert_int_equal(get("{\"name_hex\": \"3132333435363738\"}", 8), -ENAMETOOLONG);
}

static void times_are_utc_to_the_nanosecond(void **state)
{
    const struct timespec time = {.tv_sec = 1795222623, .tv_nsec = 7};
    char text[CONTROL_TIME_SIZE];

    (void)state;
    control_format_time(time, text);
    assert_string_equal(text, "2026-11-21T00:57:03.000000007Z");
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(r35_every_name_comes_back_byte_for_byte),
        cmocka_unit_test(what_is_not_a_name_is_refused),
        cmocka_unit_test(a_name_fits_with_its_end_or_not_at_all),
        cmocka_unit_test(times_are_utc_to_the_nanosecond),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
