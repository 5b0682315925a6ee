/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_fs_key.c - keys sort as they are meant to, values survive, damaged ones are refused
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <sys/stat.h>

#include "engine/base/endian.h"
#include "engine/base/error.h"
#include "fuse/fs_key.h"
#include "tests/lib/seed.h"

static void keys_of_an_inode_lie_together_and_in_order(void **state)
{
    struct fs_key keys[12], start, end;
    size_t count = 0;

    (void)state;
    fs_key_inode(&keys[count++], 5);
    fs_key_xattr(&keys[count++], 5, "user.a");
    fs_key_dentry(&keys[count++], 5, "a");
    fs_key_dentry(&keys[count++], 5, "ab");
    fs_key_dentry(&keys[count++], 5, "b");
    fs_key_cookie(&keys[count++], 5, 3);
    fs_key_cookie(&keys[count++], 5, 256);
    fs_key_extent(&keys[count++], 5, 0);
    fs_key_extent(&keys[count++], 5, UINT64_MAX);
    fs_key_symlink(&keys[count++], 5);
    fs_key_start(&start, 5);
    fs_key_start(&end, 6);
    for (size_t i = 0; i < count; i++) {
        assert_true(slice_compare(fs_key_slice(&start), fs_key_slice(&keys[i])) < 0);
        assert_true(slice_compare(fs_key_slice(&keys[i]), fs_key_slice(&end)) < 0);
        if (i > 0)
            assert_true(slice_compare(fs_key_slice(&keys[i - 1]), fs_key_slice(&keys[i])) < 0);
    }
    fs_key_inode(&keys[0], 6);
    assert_true(slice_compare(fs_key_slice(&end), fs_key_slice(&keys[0])) < 0);
}

static void types_are_bounded_by_their_starts(void **state)
{
    struct fs_key key, start, end;

    (void)state;
    fs_key_cookie(&key, 9, UINT64_MAX);
    fs_key_type_start(&start, 9, FS_KEY_COOKIE);
    fs_key_type_start(&end, 9, FS_KEY_COOKIE + 1);
    assert_true(slice_compare(fs_key_slice(&start), fs_key_slice(&key)) < 0);
    assert_true(slice_compare(fs_key_slice(&key), fs_key_slice(&end)) < 0);
}

static void a_key_parses_into_what_it_was_made_of(void **state)
{
    struct slice rest;
    struct fs_key key;
    uint64_t ino;
    uint8_t type;

    (void)state;
    fs_key_dentry(&key, 0x123456789, "name");
    assert_true(fs_key_parse(fs_key_slice(&key), &ino, &type, &rest));
    assert_int_equal(ino, 0x123456789);
    assert_int_equal(type, FS_KEY_DENTRY);
    assert_true(slice_equal(rest, slice_of_string("name")));
    fs_key_orphan(&key, 77);
    assert_true(fs_key_parse(fs_key_slice(&key), &ino, &type, &rest));
    assert_int_equal(ino, 0);
    assert_int_equal(type, FS_KEY_ORPHAN);
    assert_int_equal(get_be64(rest.data), 77);
    for (size_t size = 0; size < 9; size++)
        assert_false(fs_key_parse(slice_of(key.data, size), &ino, &type, &rest));
}

static struct fs_inode sample_inode(void)
{
    return (struct fs_inode){
        .mode = S_IFREG | 06755,
        .uid = 1,
        .gid = 0xfffffffe,
        .nlink = 3,
        .size_bytes = INT64_MAX,
        .allocated_bytes = 5,
        .atime = {-1, 999999999},
        .mtime = {INT64_C(1) << 40, 1},
        .ctime = {7, 0},
        .btime = {8, 123456789},
        .rdev = UINT64_MAX,
        .flags = 0x80000001,
        .generation = 9,
        .parent = 10,
        .name_cookie = 11,
        .entries = 12,
        .xattrs = 13,
        .project = 0xfffffffd,
    };
}

static void an_inode_survives_encoding(void **state)
{
    struct fs_inode before = sample_inode(), after;
    uint8_t data[FS_INODE_SIZE], again[FS_INODE_SIZE];

    (void)state;
    fs_inode_encode(&before, data);
    assert_int_equal(fs_inode_decode(slice_of(data, sizeof data), &after), 0);
    fs_inode_encode(&after, again);
    assert_memory_equal(data, again, sizeof data);
    assert_int_equal(after.atime.tv_sec, -1);
    assert_int_equal(after.atime.tv_nsec, 999999999);
    assert_int_equal(after.xattrs, 13);
    assert_int_equal(after.project, 0xfffffffd);
    assert_int_equal(after.rdev, UINT64_MAX);
    assert_int_equal(after.name_cookie, 11);
    assert_int_equal(after.next_cookie, 0);
}

static void a_directory_has_the_cookie_of_its_name_in_the_place_of_a_device_number(void **state)
{
    struct fs_inode before = sample_inode(), after;
    uint8_t data[FS_INODE_SIZE];

    (void)state;
    before.mode = S_IFDIR | 0755;
    before.next_cookie = 15;
    fs_inode_encode(&before, data);
    assert_int_equal(get_le64(data + 80), 11);
    assert_int_equal(get_le64(data + 104), 15);
    assert_int_equal(fs_inode_decode(slice_of(data, sizeof data), &after), 0);
    assert_int_equal(after.name_cookie, 11);
    assert_int_equal(after.next_cookie, 15);
    assert_int_equal(after.rdev, 0);
    put_le32(data + 84, 0x80000000);
    assert_int_equal(fs_inode_decode(slice_of(data, sizeof data), &after), ERROR_CORRUPT);
}

static void the_inode_layout_is_as_documented(void **state)
{
    struct fs_inode inode = sample_inode();
    uint8_t data[FS_INODE_SIZE];

    (void)state;
    fs_inode_encode(&inode, data);
    assert_int_equal(get_le32(data), S_IFREG | 06755);
    assert_int_equal(get_le32(data + 12), 3);
    assert_int_equal(get_le64(data + 16), INT64_MAX);
    assert_int_equal(get_le64(data + 80), UINT64_MAX);
    assert_int_equal(get_le64(data + 96), 10);
    assert_int_equal(get_le64(data + 104), 11);
    assert_int_equal(get_le32(data + 120), 13);
    assert_int_equal(get_le32(data + 124), 0xfffffffd);
}

static void an_inode_of_another_size_is_refused(void **state)
{
    struct fs_inode inode = sample_inode();
    uint8_t data[FS_INODE_SIZE + 1] = {0};

    (void)state;
    fs_inode_encode(&inode, data);
    for (size_t size = 0; size <= sizeof data; size++)
        if (size != FS_INODE_SIZE)
            assert_int_equal(fs_inode_decode(slice_of(data, size), &inode), ERROR_CORRUPT);
}

static void an_inode_with_impossible_fields_is_refused(void **state)
{
    static const struct {
        size_t at;
        uint32_t value;
    } damages[] = {
        {0, 0644},              /* no type */
        {0, S_IFMT | 0644},     /* no such type */
        {0, S_IFREG | 0x10000}, /* bits beyond mode_t */
        {20, 0x80000000},       /* size above INT64_MAX */
        {28, 0x80000000},       /* allocated likewise */
        {40, 1000000000},       /* nanoseconds of atime */
        {52, 1000000000},       /* of mtime */
        {64, 1000000000},       /* of ctime */
        {76, 1000000000},       /* of btime */
        {108, 0x80000000},      /* a cookie above INT64_MAX */
    };
    struct fs_inode inode = sample_inode(), untouched = sample_inode();

    (void)state;
    for (size_t i = 0; i < sizeof damages / sizeof damages[0]; i++) {
        uint8_t data[FS_INODE_SIZE];

        fs_inode_encode(&inode, data);
        put_le32(data + damages[i].at, damages[i].value);
        assert_int_equal(fs_inode_decode(slice_of(data, sizeof data), &untouched), ERROR_CORRUPT);
        assert_int_equal(untouched.parent, inode.parent);
    }
}

static void dentries_survive_and_damaged_ones_are_refused(void **state)
{
    struct fs_dentry dentry = {.ino = 1234567, .cookie = 99, .type = S_IFDIR}, after;
    uint8_t data[FS_DENTRY_SIZE + 1] = {0};

    (void)state;
    fs_dentry_encode(&dentry, data);
    assert_int_equal(fs_dentry_decode(slice_of(data, FS_DENTRY_SIZE), &after), 0);
    assert_int_equal(after.ino, dentry.ino);
    assert_int_equal(after.cookie, dentry.cookie);
    assert_int_equal(after.type, dentry.type);
    for (size_t size = 0; size <= sizeof data; size++)
        if (size != FS_DENTRY_SIZE)
            assert_int_equal(fs_dentry_decode(slice_of(data, size), &after), ERROR_CORRUPT);
    put_le64(data, 0);
    assert_int_equal(fs_dentry_decode(slice_of(data, FS_DENTRY_SIZE), &after), ERROR_CORRUPT);
    put_le64(data, 5);
    put_le32(data + 16, 0);
    assert_int_equal(fs_dentry_decode(slice_of(data, FS_DENTRY_SIZE), &after), ERROR_CORRUPT);
}

static void cookie_records_survive_at_every_name_length(void **state)
{
    char name[255];

    (void)state;
    memset(name, 'n', sizeof name);
    for (size_t size = 1; size <= sizeof name; size++) {
        struct fs_cookie cookie = {.ino = size, .type = S_IFLNK, .name = slice_of(name, size)};
        uint8_t data[FS_COOKIE_SIZE_MAX + 1];
        struct fs_cookie after;
        size_t encoded = fs_cookie_encode(&cookie, data);

        assert_int_equal(encoded, 12 + size);
        assert_int_equal(fs_cookie_decode(slice_of(data, encoded), &after), 0);
        assert_int_equal(after.ino, size);
        assert_true(slice_equal(after.name, cookie.name));
        assert_int_equal(fs_cookie_decode(slice_of(data, 12), &after), ERROR_CORRUPT);
        assert_int_equal(fs_cookie_decode(slice_of(data, sizeof data), &after), ERROR_CORRUPT);
    }
}

static void r37_random_values_never_decode_into_nonsense(void **state)
{
    uint64_t seed = seed_start(__func__);

    (void)state;
    for (unsigned round = 0; round < 20000; round++) {
        size_t size = seed_below(&seed, 300);
        uint8_t *data = malloc(size + 1); /* exact, so that a sanitizer sees a read beyond it */
        struct fs_cookie cookie;
        struct fs_dentry dentry;
        struct fs_inode inode;

        for (size_t i = 0; i < size; i++)
            data[i] = (uint8_t)seed_next(&seed);
        if (fs_inode_decode(slice_of(data, size), &inode) == 0)
            assert_true(size == FS_INODE_SIZE && inode.mtime.tv_nsec < 1000000000);
        if (fs_dentry_decode(slice_of(data, size), &dentry) == 0)
            assert_true(size == FS_DENTRY_SIZE && dentry.ino != 0);
        if (fs_cookie_decode(slice_of(data, size), &cookie) == 0)
            assert_true(cookie.name.size >= 1 && cookie.name.size <= 255);
        free(data);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keys_of_an_inode_lie_together_and_in_order),
        cmocka_unit_test(types_are_bounded_by_their_starts),
        cmocka_unit_test(a_key_parses_into_what_it_was_made_of),
        cmocka_unit_test(an_inode_survives_encoding),
        cmocka_unit_test(a_directory_has_the_cookie_of_its_name_in_the_place_of_a_device_number),
        cmocka_unit_test(the_inode_layout_is_as_documented),
        cmocka_unit_test(an_inode_of_another_size_is_refused),
        cmocka_unit_test(an_inode_with_impossible_fields_is_refused),
        cmocka_unit_test(dentries_survive_and_damaged_ones_are_refused),
        cmocka_unit_test(cookie_records_survive_at_every_name_length),
        cmocka_unit_test(r37_random_values_never_decode_into_nonsense),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
