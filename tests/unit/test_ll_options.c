/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_ll_options.c - the comma list of -o
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <string.h>

#include "fuse/ll_options.h"

static int setup(void **state)
{
    static struct ll_options options;

    ll_options_default(&options);
    *state = &options;
    return 0;
}

static int teardown(void **state)
{
    ll_options_free(*state);
    return 0;
}

static int parse(struct ll_options *options, const char *list)
{
    char error[LL_OPTIONS_ERROR_SIZE];
    int result = ll_options_parse(options, list, false, error);

    /* A refusal has words, success has none. */
    assert_int_equal(result == -EINVAL, error[0] != '\0');
    return result;
}

static void every_option_reaches_its_place(void **state)
{
    struct ll_options *options = *state;

    assert_int_equal(parse(options,
                           "transport=auto,ro,snapdir=visible,snapdir_name=.hist,snaplinks=off,"
                           "sync_window=50,memtable_mb=7,cache_mb=9,threads=3,io=sync,"
                           "writeback,strictatime,noexec,sync,fsname=x,readahead_kb=0,nodev"),
                     0);
    assert_true(options->read_only);
    assert_true(options->fs.snapdir_visible);
    assert_string_equal(options->snapdir_name, ".hist");
    assert_false(options->fs.snaplinks);
    assert_int_equal(options->engine.sync_window_ms, 50);
    assert_int_equal(options->engine.memtable_bytes, 7 << 20);
    assert_int_equal(options->engine.block_cache_bytes, 9 << 20);
    assert_int_equal(options->threads_max, 3);
    assert_int_equal(options->io_backend, IO_BACKEND_SYNC);
    assert_true(options->writeback);
    assert_string_equal(options->kernel_options, "noexec,sync");
    assert_int_equal(options->fs.atime, FS_ATIME_STRICT);
    assert_int_equal(options->fs.sync, FS_SYNC_ALL);
    assert_string_equal(options->fsname, "x");
    assert_int_equal(options->read_ahead_kb, 0);
    assert_true(options->nodev);
    assert_false(options->nosuid);
    assert_int_equal(options->transport, LL_TRANSPORT_AUTO);
}

static void the_last_word_wins(void **state)
{
    struct ll_options *options = *state;

    assert_int_equal(parse(options, "ro,nodev,threads=4,fsname=a"), 0);
    assert_int_equal(parse(options, "transport=io_uring,rw,dev,threads=5,fsname=b"), 0);
    assert_false(options->read_only);
    assert_false(options->nodev);
    assert_int_equal(options->threads_max, 5);
    assert_string_equal(options->fsname, "b");
    assert_int_equal(options->transport, LL_TRANSPORT_RINGS);
    assert_int_equal(parse(options, "transport=dev"), 0);
    assert_int_equal(options->transport, LL_TRANSPORT_DEVICE);
    assert_int_equal(parse(options, "transport=tcp"), -EINVAL);
}

static void a_backslash_keeps_a_comma_in_the_value(void **state)
{
    struct ll_options *options = *state;

    assert_int_equal(parse(options, "fsname=a\\,b\\\\c,ro"), 0);
    assert_string_equal(options->fsname, "a,b\\c");
    assert_true(options->read_only);
}

static void what_fstab_adds_is_accepted(void **state)
{
    assert_int_equal(parse(*state, "defaults,_netdev,nofail,x-systemd.automount,comment=me,,rw,"
                                   "relatime,user,noauto"),
                     0);
}

static void a_remount_repeats_what_the_kernel_shows(void **state)
{
    struct ll_options *options = *state;

    assert_false(options->remount);
    assert_int_equal(parse(options, "ro,remount,noatime,user_id=0,group_id=0,default_permissions,"
                                    "allow_other,max_read=131072,nodiratime,lazytime"),
                     0);
    assert_true(options->remount);
    assert_true(options->read_only);
    assert_int_equal(options->fs.atime, FS_ATIME_NONE | FS_ATIME_NO_DIRECTORIES);
    assert_int_equal(parse(options, "relatime,diratime"), 0);
    assert_int_equal(options->fs.atime, FS_ATIME_RELATIVE);
}

static void wrong_words_are_refused(void **state)
{
    static const char *const lists[] = {
        "bogus",
        "bogus=1",
        "ro=1",
        "threads",
        "threads=",
        "threads=1",
        "threads=257",
        "threads=4x",
        "threads=-4",
        "threads= 4",
        "snapdir=seen",
        "snaplinks",
        "snaplinks=1",
        "io=fast",
        "remount=1",
        "cache_mb=0",
        "sync_window=99999999999999999999",
    };

    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++)
        assert_int_equal(parse(*state, lists[i]), -EINVAL);
}

static void sloppy_ignores_only_what_is_unknown(void **state)
{
    char error[LL_OPTIONS_ERROR_SIZE];

    assert_int_equal(ll_options_parse(*state, "bogus,other=1,ro", true, error), 0);
    assert_true(((struct ll_options *)*state)->read_only);
    assert_int_equal(ll_options_parse(*state, "threads=x", true, error), -EINVAL);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(every_option_reaches_its_place, setup, teardown),
        cmocka_unit_test_setup_teardown(the_last_word_wins, setup, teardown),
        cmocka_unit_test_setup_teardown(a_backslash_keeps_a_comma_in_the_value, setup, teardown),
        cmocka_unit_test_setup_teardown(what_fstab_adds_is_accepted, setup, teardown),
        cmocka_unit_test_setup_teardown(a_remount_repeats_what_the_kernel_shows, setup, teardown),
        cmocka_unit_test_setup_teardown(wrong_words_are_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(sloppy_ignores_only_what_is_unknown, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
