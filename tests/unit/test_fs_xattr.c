/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_fs_xattr.c - extended attributes and access control lists
 */
#include <linux/posix_acl.h>
#include <linux/posix_acl_xattr.h>
#include <sys/xattr.h>

#include "engine/base/endian.h"
#include "tests/lib/fs_fixture.h"

#define ACCESS  "system.posix_acl_access"
#define DEFAULT "system.posix_acl_default"

static int set(struct fs_fixture *fixture, uint64_t node, const char *name, const char *value,
               int flags)
{
    return fs_setxattr(fixture->fs, node, name, value, strlen(value), flags, &fs_fixture_root);
}

static void assert_value(struct fs_fixture *fixture, uint64_t node, const char *name,
                         const char *value)
{
    char data[256];
    int64_t size = fs_getxattr(fixture->fs, node, name, data, sizeof data);

    assert_int_equal(size, strlen(value));
    assert_memory_equal(data, value, (size_t)size);
}

/* ---- plain ---- */

static void values_are_set_replaced_and_removed(void **state)
{
    struct fs_fixture *fixture = *state;
    uint64_t file = fs_fixture_file(fixture, FS_ROOT, "f");
    struct fs_attribute before = fs_fixture_attribute(fixture, file), after;
    char data[8];

    assert_int_equal(fs_getxattr(fixture->fs, file, "user.a", data, 8), -ENODATA);
    assert_int_equal(set(fixture, file, "user.a", "one", 0), 0);
    assert_value(fixture, file, "user.a", "one");
    assert_int_equal(set(fixture, file, "user.a", "", 0), 0);
    assert_int_equal(fs_getxattr(fixture->fs, file, "user.a", data, 8), 0);
    assert_int_equal(set(fixture, file, "user.a", "two", XATTR_CREATE), -EEXIST);
    assert_int_equal(set(fixture, file, "user.b", "two", XATTR_REPLACE), -ENODATA);
    assert_int_equal(set(fixture, file, "user.a", "two", XATTR_REPLACE), 0);
    assert_int_equal(set(fixture, file, "user.b", "three", XATTR_CREATE), 0);
    assert_value(fixture, file, "user.a", "two");
    after = fs_fixture_attribute(fixture, file);
    assert_true(fs_fixture_is_later(after.ctime, before.ctime));
    assert_memory_equal(&after.mtime, &before.mtime, sizeof after.mtime);

    fs_fixture_reopen(fixture);
    assert_value(fixture, file, "user.b", "three");
    assert_int_equal(fs_removexattr(fixture->fs, file, "user.a", &fs_fixture_root), 0);
    assert_int_equal(fs_removexattr(fixture->fs, file, "user.a", &fs_fixture_root), -ENODATA);
    assert_int_equal(
        fs_removexattr(fixture->fs, file, "system.posix_acl_default", &fs_fixture_root), 0);
    assert_int_equal(fs_getxattr(fixture->fs, file, "user.a", data, 8), -ENODATA);
    assert_value(fixture, file, "user.b", "three");
}

static void lengths_are_asked_for_and_checked(void **state)
{
    struct fs_fixture *fixture = *state;
    uint64_t file = fs_fixture_file(fixture, FS_ROOT, "f");
    char *large = calloc(1, 65537);
    char data[8];

    assert_int_equal(set(fixture, file, "user.a", "12345", 0), 0);
    assert_int_equal(fs_getxattr(fixture->fs, file, "user.a", NULL, 0), 5);
    assert_int_equal(fs_getxattr(fixture->fs, file, "user.a", data, 4), -ERANGE);
    assert_int_equal(fs_getxattr(fixture->fs, file, "user.a", data, 5), 5);
    assert_int_equal(fs_setxattr(fixture->fs, file, "user.l", large, 65537, 0, &fs_fixture_root),
                     -E2BIG);
    assert_int_equal(fs_setxattr(fixture->fs, file, "user.l", large, 65536, 0, &fs_fixture_root),
                     0);
    assert_int_equal(fs_getxattr(fixture->fs, file, "user.l", large, 65536), 65536);
    free(large);
}

static void names_and_namespaces_are_checked(void **state)
{
    struct fs_fixture *fixture = *state;
    uint64_t file = fs_fixture_file(fixture, FS_ROOT, "f");
    char name[FS_NAME_SIZE_MAX + 2];

    assert_int_equal(set(fixture, file, "system.other", "v", 0), -EOPNOTSUPP);
    assert_int_equal(set(fixture, file, "nonsense", "v", 0), -EOPNOTSUPP);
    assert_int_equal(set(fixture, file, "user.", "v", 0), -EINVAL);
    assert_int_equal(set(fixture, file, "", "v", 0), -ERANGE);
    assert_int_equal(set(fixture, file, "user.varve.seq", "v", 0), -EPERM);
    assert_int_equal(set(fixture, file, "user.a", "v", 64), -EINVAL);
    assert_int_equal(set(fixture, file, "trusted.a", "v", 0), 0);
    assert_int_equal(set(fixture, file, "security.a", "v", 0), 0);
    memset(name, 'n', sizeof name);
    memcpy(name, "user.", 5);
    name[FS_NAME_SIZE_MAX + 1] = '\0';
    assert_int_equal(set(fixture, file, name, "v", 0), -ERANGE);
    name[FS_NAME_SIZE_MAX] = '\0';
    assert_int_equal(set(fixture, file, name, "v", 0), 0);
    assert_value(fixture, file, name, "v");
}

static void a_list_holds_every_name_once(void **state)
{
    struct fs_fixture *fixture = *state;
    uint64_t file = fs_fixture_file(fixture, FS_ROOT, "f");
    char list[64];

    assert_int_equal(fs_listxattr(fixture->fs, file, true, list, sizeof list), 0);
    assert_int_equal(set(fixture, file, "user.b", "2", 0), 0);
    assert_int_equal(set(fixture, file, "user.a", "1", 0), 0);
    assert_int_equal(set(fixture, file, "user.a", "3", 0), 0);
    assert_int_equal(fs_listxattr(fixture->fs, file, true, NULL, 0), 14);
    assert_int_equal(fs_listxattr(fixture->fs, file, true, list, 13), -ERANGE);
    assert_int_equal(fs_listxattr(fixture->fs, file, true, list, 14), 14);
    assert_memory_equal(list, "user.a\0user.b\0", 14);
}

static void more_names_than_a_list_can_hold_are_refused(void **state)
{
    struct fs_fixture *fixture = *state;
    uint64_t file = fs_fixture_file(fixture, FS_ROOT, "f");
    char name[FS_NAME_SIZE_MAX + 1];
    int error = 0, count = 0;

    memset(name, 'n', sizeof name);
    memcpy(name, "user.", 5);
    name[FS_NAME_SIZE_MAX] = '\0';
    for (; error == 0 && count < 300; count++) {
        snprintf(name + 5, 6, "%05d", count);
        name[10] = 'n';
        error = set(fixture, file, name, "v", 0);
    }
    assert_int_equal(error, -ENOSPC);
    assert_int_equal(count - 1, 256); /* of 256 bytes each, the final zero included */
    assert_int_equal(fs_listxattr(fixture->fs, file, true, NULL, 0), 65536);
    /* One that is there can still be replaced, and one removed makes room. */
    snprintf(name + 5, 6, "%05d", 0);
    name[10] = 'n';
    assert_int_equal(set(fixture, file, name, "w", 0), 0);
    assert_int_equal(fs_removexattr(fixture->fs, file, name, &fs_fixture_root), 0);
    assert_int_equal(set(fixture, file, "user.short", "v", 0), 0);
}

/* ---- ACLs ---- */

struct acl {
    uint8_t data[256];
    size_t size;
};

static void acl_start(struct acl *acl)
{
    put_le32(acl->data, POSIX_ACL_XATTR_VERSION);
    acl->size = 4;
}

static void acl_add(struct acl *acl, uint16_t tag, uint16_t permissions, uint32_t id)
{
    put_le16(acl->data + acl->size, tag);
    put_le16(acl->data + acl->size + 2, permissions);
    put_le32(acl->data + acl->size + 4, id);
    acl->size += 8;
}

static struct acl acl_minimal(uint16_t user, uint16_t group, uint16_t other)
{
    struct acl acl;

    acl_start(&acl);
    acl_add(&acl, ACL_USER_OBJ, user, ACL_UNDEFINED_ID);
    acl_add(&acl, ACL_GROUP_OBJ, group, ACL_UNDEFINED_ID);
    acl_add(&acl, ACL_OTHER, other, ACL_UNDEFINED_ID);
    return acl;
}

static struct acl acl_named(uint16_t user, uint16_t named, uint16_t group, uint16_t mask,
                            uint16_t other)
{
    struct acl acl;

    acl_start(&acl);
    acl_add(&acl, ACL_USER_OBJ, user, ACL_UNDEFINED_ID);
    acl_add(&acl, ACL_USER, named, 1234);
    acl_add(&acl, ACL_GROUP_OBJ, group, ACL_UNDEFINED_ID);
    acl_add(&acl, ACL_MASK, mask, ACL_UNDEFINED_ID);
    acl_add(&acl, ACL_OTHER, other, ACL_UNDEFINED_ID);
    return acl;
}

static int acl_set(struct fs_fixture *fixture, uint64_t node, const char *name,
                   const struct acl *acl)
{
    return fs_setxattr(fixture->fs, node, name, acl->data, acl->size, 0, &fs_fixture_root);
}

static void assert_acl(struct fs_fixture *fixture, uint64_t node, const char *name,
                       const struct acl *acl)
{
    uint8_t data[256];

    assert_int_equal(fs_getxattr(fixture->fs, node, name, data, sizeof data), acl->size);
    assert_memory_equal(data, acl->data, acl->size);
}

static void assert_no_acl(struct fs_fixture *fixture, uint64_t node, const char *name)
{
    assert_int_equal(fs_getxattr(fixture->fs, node, name, NULL, 0), -ENODATA);
}

static void an_acl_that_says_what_a_mode_says_becomes_the_mode(void **state)
{
    struct fs_fixture *fixture = *state;
    uint64_t file = fs_fixture_make(fixture, FS_ROOT, "f", S_IFREG | 04600).node;
    struct acl named = acl_named(7, 5, 1, 4, 0), minimal = acl_minimal(6, 4, 2);

    assert_int_equal(acl_set(fixture, file, ACCESS, &named), 0);
    assert_acl(fixture, file, ACCESS, &named);
    /* The mask, not the owning group, is what the group bits say. */
    assert_int_equal(fs_fixture_attribute(fixture, file).mode, S_IFREG | 04740);
    assert_int_equal(acl_set(fixture, file, ACCESS, &minimal), 0);
    assert_no_acl(fixture, file, ACCESS);
    assert_int_equal(fs_fixture_attribute(fixture, file).mode, S_IFREG | 04642);
    assert_int_equal(fs_listxattr(fixture->fs, file, true, NULL, 0), 0);
}

static void setting_an_acl_clears_setgid_when_told(void **state)
{
    struct fs_fixture *fixture = *state;
    uint64_t file = fs_fixture_make(fixture, FS_ROOT, "f", S_IFREG | 02755).node;
    struct acl named = acl_named(7, 5, 5, 5, 5);

    assert_int_equal(acl_set(fixture, file, ACCESS, &named), 0);
    assert_int_equal(fs_fixture_attribute(fixture, file).mode, S_IFREG | 02755);
    assert_int_equal(fs_setxattr(fixture->fs, file, ACCESS, named.data, named.size,
                                 FS_XATTR_KILL_SGID, &fs_fixture_user),
                     0);
    assert_int_equal(fs_fixture_attribute(fixture, file).mode, S_IFREG | 0755);
}

static void chmod_changes_mask_and_others_of_the_acl(void **state)
{
    struct fs_fixture *fixture = *state;
    uint64_t file = fs_fixture_file(fixture, FS_ROOT, "f");
    struct acl before = acl_named(7, 5, 1, 4, 0), after = acl_named(6, 5, 1, 2, 3);
    struct fs_setattr mode = {.mask = FS_SETATTR_MODE, .mode = 0623};
    struct fs_entry entry;

    assert_int_equal(acl_set(fixture, file, ACCESS, &before), 0);
    assert_int_equal(fs_setattr(fixture->fs, file, &mode, &fs_fixture_root, &entry), 0);
    assert_int_equal(entry.attribute.mode, S_IFREG | 0623);
    assert_acl(fixture, file, ACCESS, &after);
}

static void an_empty_acl_removes_it(void **state)
{
    struct fs_fixture *fixture = *state;
    uint64_t directory = fs_fixture_directory(fixture, FS_ROOT, "d");
    struct acl named = acl_named(7, 5, 5, 5, 5), empty;

    acl_start(&empty);
    assert_int_equal(acl_set(fixture, directory, DEFAULT, &named), 0);
    assert_int_equal(acl_set(fixture, directory, DEFAULT, &empty), 0);
    assert_no_acl(fixture, directory, DEFAULT);
    assert_int_equal(acl_set(fixture, directory, ACCESS, &empty), 0);
    assert_int_equal(fs_fixture_attribute(fixture, directory).mode, S_IFDIR | 0755);
}

static void impossible_acls_are_refused(void **state)
{
    struct fs_fixture *fixture = *state;
    uint64_t file = fs_fixture_file(fixture, FS_ROOT, "f");
    struct acl good = acl_named(7, 5, 5, 5, 5), bad;

    for (size_t size = 0; size < good.size; size++) {
        bad = good;
        bad.size = size;
        if (size != 4) /* no entries: a removal */
            assert_int_equal(acl_set(fixture, file, ACCESS, &bad), -EINVAL);
    }
    bad = good;
    put_le32(bad.data, 1); /* version */
    assert_int_equal(acl_set(fixture, file, ACCESS, &bad), -EINVAL);
    bad = good;
    put_le16(bad.data + 4 + 2, 8); /* permissions */
    assert_int_equal(acl_set(fixture, file, ACCESS, &bad), -EINVAL);
    bad = good;
    put_le16(bad.data + 4, 0x40); /* tag */
    assert_int_equal(acl_set(fixture, file, ACCESS, &bad), -EINVAL);
    bad = acl_minimal(7, 7, 7);
    put_le16(bad.data + 4, ACL_GROUP_OBJ); /* two groups, no owner */
    assert_int_equal(acl_set(fixture, file, ACCESS, &bad), -EINVAL);
    acl_start(&bad); /* a named user without a mask */
    acl_add(&bad, ACL_USER_OBJ, 7, ACL_UNDEFINED_ID);
    acl_add(&bad, ACL_USER, 7, 5);
    acl_add(&bad, ACL_GROUP_OBJ, 7, ACL_UNDEFINED_ID);
    acl_add(&bad, ACL_OTHER, 7, ACL_UNDEFINED_ID);
    assert_int_equal(acl_set(fixture, file, ACCESS, &bad), -EINVAL);
    assert_no_acl(fixture, file, ACCESS);
    assert_int_equal(acl_set(fixture, file, DEFAULT, &good), -EACCES);
}

static void a_default_acl_is_inherited_instead_of_the_umask(void **state)
{
    struct fs_fixture *fixture = *state;
    uint64_t directory = fs_fixture_directory(fixture, FS_ROOT, "d");
    struct acl given = acl_named(7, 6, 5, 7, 5);
    struct acl of_file = acl_named(6, 6, 5, 6, 4), of_directory = acl_named(7, 6, 5, 7, 1);
    struct fs_entry entry;

    assert_int_equal(acl_set(fixture, directory, DEFAULT, &given), 0);
    assert_int_equal(
        fs_mknod(fixture->fs, directory, "f", S_IFREG | 0666, 0, &fs_fixture_user, &entry), 0);
    assert_int_equal(entry.attribute.mode, S_IFREG | 0664);
    assert_acl(fixture, entry.attribute.node, ACCESS, &of_file);
    assert_no_acl(fixture, entry.attribute.node, DEFAULT);

    assert_int_equal(fs_mkdir(fixture->fs, directory, "s", 0771, &fs_fixture_user, &entry), 0);
    assert_int_equal(entry.attribute.mode, S_IFDIR | 0771);
    assert_acl(fixture, entry.attribute.node, ACCESS, &of_directory);
    assert_acl(fixture, entry.attribute.node, DEFAULT, &given);

    assert_int_equal(fs_symlink(fixture->fs, directory, "l", "t", &fs_fixture_user, &entry), 0);
    assert_no_acl(fixture, entry.attribute.node, ACCESS);
    assert_int_equal(fs_tmpfile(fixture->fs, directory, 0666, &fs_fixture_user, &entry), 0);
    assert_acl(fixture, entry.attribute.node, ACCESS, &of_file);
}

static void a_minimal_default_acl_leaves_only_a_mode(void **state)
{
    struct fs_fixture *fixture = *state;
    uint64_t directory = fs_fixture_directory(fixture, FS_ROOT, "d");
    struct acl given = acl_minimal(7, 5, 0);
    struct fs_entry entry;

    assert_int_equal(acl_set(fixture, directory, DEFAULT, &given), 0);
    assert_int_equal(
        fs_mknod(fixture->fs, directory, "f", S_IFREG | 0666, 0, &fs_fixture_user, &entry), 0);
    assert_int_equal(entry.attribute.mode, S_IFREG | 0640);
    assert_no_acl(fixture, entry.attribute.node, ACCESS);
    assert_int_equal(fs_mkdir(fixture->fs, directory, "s", 0777, &fs_fixture_user, &entry), 0);
    assert_int_equal(entry.attribute.mode, S_IFDIR | 0750);
    assert_acl(fixture, entry.attribute.node, DEFAULT, &given);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FS_FIXTURE_TEST(values_are_set_replaced_and_removed),
        FS_FIXTURE_TEST(lengths_are_asked_for_and_checked),
        FS_FIXTURE_TEST(names_and_namespaces_are_checked),
        FS_FIXTURE_TEST(a_list_holds_every_name_once),
        FS_FIXTURE_TEST(more_names_than_a_list_can_hold_are_refused),
        FS_FIXTURE_TEST(an_acl_that_says_what_a_mode_says_becomes_the_mode),
        FS_FIXTURE_TEST(setting_an_acl_clears_setgid_when_told),
        FS_FIXTURE_TEST(chmod_changes_mask_and_others_of_the_acl),
        FS_FIXTURE_TEST(an_empty_acl_removes_it),
        FS_FIXTURE_TEST(impossible_acls_are_refused),
        FS_FIXTURE_TEST(a_default_acl_is_inherited_instead_of_the_umask),
        FS_FIXTURE_TEST(a_minimal_default_acl_leaves_only_a_mode),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
