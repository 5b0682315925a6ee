/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_mountinfo.c - lines of /proc/self/mountinfo, and the table of this process
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <string.h>

#include "fuse/mountinfo.h"

static bool parse(const char *text, char line[256], struct mountinfo *ret_mount)
{
    strcpy(line, text);
    return mountinfo_parse_line(line, ret_mount);
}

static void every_field_is_read(void **state)
{
    struct mountinfo mount;
    char line[256];

    (void)state;
    assert_true(parse("36 35 98:17 /root /mnt/x rw,noatime master:1 shared:2 - fuse.varve /s rw\n",
                      line, &mount));
    assert_int_equal(mount.id, 36);
    assert_int_equal(mount.parent_id, 35);
    assert_int_equal(mount.device_major, 98);
    assert_int_equal(mount.device_minor, 17);
    assert_string_equal(mount.mount_point, "/mnt/x");
    assert_string_equal(mount.type, "fuse.varve");
    assert_string_equal(mount.source, "/s");
    assert_false(mount.read_only);
}

static void escapes_are_undone(void **state)
{
    struct mountinfo mount;
    char line[256];

    (void)state;
    assert_true(
        parse("1 2 0:3 / /a\\040b\\134c\\011d\\04 rw - ext4 /dev/a\\012b ro", line, &mount));
    assert_string_equal(mount.mount_point, "/a b\\c\td\\04");
    assert_string_equal(mount.source, "/dev/a\nb");
    assert_true(mount.read_only);
}

static void what_counts_is_the_filesystem_and_not_the_mount(void **state)
{
    struct mountinfo mount;
    char line[256];

    (void)state;
    assert_true(parse("1 2 0:3 / /a ro,relatime - t s rw,user_id=0", line, &mount));
    assert_false(mount.read_only);
    assert_true(parse("1 2 0:3 / /a rw,relatime - t s ro,user_id=0\n", line, &mount));
    assert_true(mount.read_only);
    assert_true(parse("1 2 0:3 / /a rw,relatime - t s ro", line, &mount));
    assert_true(mount.read_only);
}

static void an_option_that_begins_with_ro_is_not_read_only(void **state)
{
    struct mountinfo mount;
    char line[256];

    (void)state;
    assert_true(parse("1 2 0:3 / /a rw - t s root_x,rw", line, &mount));
    assert_false(mount.read_only);
}

static void other_lines_are_refused(void **state)
{
    static const char *const lines[] = {
        "",
        "\n",
        "36",
        "36 35 98:0 /root /mnt",
        "36 35 98:0 /root /mnt rw",
        "36 35 98:0 /root /mnt rw shared:1",
        "36 35 98:0 /root /mnt rw -",
        "36 35 98:0 /root /mnt rw - type",
        "36 35 nodevice /root /mnt rw - type source options",
    };
    struct mountinfo mount;
    char line[256];

    (void)state;
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++)
        assert_false(parse(lines[i], line, &mount));
}

static void the_root_is_mounted_and_holds_what_nothing_else_holds(void **state)
{
    struct mountinfo root = {0}, holding = {0};

    (void)state;
    assert_int_equal(mountinfo_find_exact("/", &root), 0);
    assert_int_equal(mountinfo_find_holding("/no-such-name-here/below", &holding), 0);
    assert_string_equal(holding.mount_point, "/");
    assert_int_equal(holding.id, root.id);
    assert_int_equal(mountinfo_is_mounted(root.id), 1);
    assert_int_equal(mountinfo_is_mounted(UINT64_MAX), 0);
    assert_true(mountinfo_count_children(root.id) > 0); /* /proc at least */
    assert_int_equal(mountinfo_is_writable(root.device_major, root.device_minor), !root.read_only);
    assert_int_equal(mountinfo_is_writable(UINT32_MAX, 0), -ENOENT);
    mountinfo_free(&root);
    mountinfo_free(&holding);
}

static void a_name_that_only_begins_alike_is_another_path(void **state)
{
    struct mountinfo mount = {0};

    (void)state;
    assert_int_equal(mountinfo_find_exact("/pro", &mount), -ENOENT);
    assert_int_equal(mountinfo_find_holding("/procfoo", &mount), 0);
    assert_string_equal(mount.mount_point, "/");
    mountinfo_free(&mount);
    assert_int_equal(mountinfo_find_holding("/proc/1", &mount), 0);
    assert_string_equal(mount.mount_point, "/proc");
    mountinfo_free(&mount);
}

static void a_source_is_found_only_on_mounts_of_varve(void **state)
{
    (void)state;
    /* Every system has it, of another type. */
    assert_int_equal(mountinfo_has_source("proc"), 0);
    assert_int_equal(mountinfo_has_source("/no/such/store"), 0);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_field_is_read),
        cmocka_unit_test(escapes_are_undone),
        cmocka_unit_test(an_option_that_begins_with_ro_is_not_read_only),
        cmocka_unit_test(what_counts_is_the_filesystem_and_not_the_mount),
        cmocka_unit_test(other_lines_are_refused),
        cmocka_unit_test(the_root_is_mounted_and_holds_what_nothing_else_holds),
        cmocka_unit_test(a_name_that_only_begins_alike_is_another_path),
        cmocka_unit_test(a_source_is_found_only_on_mounts_of_varve),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
