/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_ll_prefetch.c - which kernels files may be stored into
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "fuse/ll_prefetch.h"

static void kernels_that_leave_memory_behind_the_end_are_known(void **state)
{
    (void)state;
    assert_true(ll_prefetch_is_sound("6.11.0"));
    assert_true(ll_prefetch_is_sound("6.18.44-fc-v595"));
    assert_true(ll_prefetch_is_sound("7.0-rc1"));
    assert_true(ll_prefetch_is_sound("10.2"));
    assert_false(ll_prefetch_is_sound("6.10.14"));
    assert_false(ll_prefetch_is_sound("6.1.0-37-amd64"));
    assert_false(ll_prefetch_is_sound("5.19.17"));
    assert_false(ll_prefetch_is_sound("unknown"));
    assert_false(ll_prefetch_is_sound(""));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kernels_that_leave_memory_behind_the_end_are_known),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
