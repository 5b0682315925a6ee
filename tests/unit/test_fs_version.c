/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_fs_version.c - file handles of files in snapshots: nodes that are known from before
 */
#include "snapshot/snapshot.h"
#include "tests/lib/fs_fixture.h"

/* The root of a new snapshot. */
static uint64_t create(struct fs_fixture *fixture, const char *name)
{
    uint64_t directory = fs_fixture_hold(fixture, FS_ROOT, ".snapshots");
    struct fs_entry entry;

    assert_int_equal(fs_mkdir(fixture->fs, directory, name, 0755, &fs_fixture_root, &entry), 0);
    return entry.attribute.node;
}

static int delete_error(struct fs_fixture *fixture, const char *name)
{
    uint64_t directory = fs_fixture_hold(fixture, FS_ROOT, ".snapshots");

    return fs_rmdir(fixture->fs, directory, name, &fs_fixture_root);
}

static void roll_back(struct fs_fixture *fixture, const char *name)
{
    const struct fs_notify quiet = {.context = NULL};
    char before[SNAPSHOT_NAME_SIZE_MAX + 1];

    assert_int_equal(fs_rollback(fixture->fs, name, &quiet, before), 0);
}

#define HANDLES 40

struct handles {
    uint64_t nodes[HANDLES];
    size_t count;
};

static void handles_add(struct handles *handles, uint64_t node)
{
    assert_true(handles->count < HANDLES);
    handles->nodes[handles->count++] = node;
}

/* As the NFS server does: nothing but the node is known. Given back at once. */
static int handle_error(struct fs_fixture *fixture, uint64_t node)
{
    struct fs_entry entry;
    int error = fs_fixture_find(fixture, node, ".", &entry);

    if (error == 0)
        assert_int_equal(entry.attribute.node, node);
    return error;
}

/* Files of the names a, b ... in the root are what they say, in every snapshot. */
static void write_all(struct fs_fixture *fixture, const char *text, unsigned first, unsigned step)
{
    for (unsigned i = first; i < 8; i += step) {
        const char name[2] = {(char)('a' + i), '\0'};
        struct fs_entry entry;

        if (fs_lookup(fixture->fs, FS_ROOT, name, &entry) < 0)
            entry.attribute.node = fs_fixture_file(fixture, FS_ROOT, name);
        fs_fixture_write(fixture, entry.attribute.node, text);
    }
}

static void handles_add_all(struct fs_fixture *fixture, struct handles *handles, uint64_t root)
{
    for (unsigned i = 0; i < 8; i++) {
        const char name[2] = {(char)('a' + i), '\0'};

        handles_add(handles, fs_fixture_hold(fixture, root, name));
    }
}

static void handles_of_files_outlive_a_remount(void **state)
{
    struct fs_fixture *fixture = *state;
    struct handles handles = {.count = 0};

    write_all(fixture, "first", 0, 1);
    handles_add_all(fixture, &handles, create(fixture, "1"));
    write_all(fixture, "other", 1, 2);
    handles_add_all(fixture, &handles, create(fixture, "2"));
    write_all(fixture, "third", 0, 3);
    handles_add_all(fixture, &handles, create(fixture, "3"));

    fs_fixture_reopen(fixture);
    for (size_t i = 0; i < handles.count; i++) {
        struct fs_entry entry;
        unsigned file = i % 8;
        const char *text = i / 8 == 2 && file % 3 == 0   ? "third"
                           : i / 8 >= 1 && file % 2 == 1 ? "other"
                                                         : "first";

        assert_int_equal(fs_lookup(fixture->fs, handles.nodes[i], ".", &entry), 0);
        assert_int_equal(entry.attribute.node, handles.nodes[i]);
        fs_fixture_assert_text(fixture, handles.nodes[i], text);
    }

    /* One that is made later is known as well, and what is only there. */
    create(fixture, "4");
    write_all(fixture, "newer", 0, 1);
    handles.count = 0;
    handles_add_all(fixture, &handles, create(fixture, "5"));
    for (size_t i = 0; i < handles.count; i++) {
        fs_forget(fixture->fs, handles.nodes[i], 1);
        assert_int_equal(handle_error(fixture, handles.nodes[i]), 0);
    }
}

static void a_handle_lasts_as_long_as_some_snapshot_has_the_version(void **state)
{
    struct fs_fixture *fixture = *state;
    struct handles first = {.count = 0}, second = {.count = 0};

    write_all(fixture, "first", 0, 1);
    handles_add_all(fixture, &first, create(fixture, "1"));
    create(fixture, "2");
    write_all(fixture, "other", 0, 1);
    handles_add_all(fixture, &second, create(fixture, "3"));
    fs_fixture_reopen(fixture);
    assert_int_equal(delete_error(fixture, "1"), 0);
    for (size_t i = 0; i < first.count; i++)
        assert_int_equal(handle_error(fixture, first.nodes[i]), 0);
    assert_int_equal(delete_error(fixture, "2"), 0);
    for (size_t i = 0; i < first.count; i++) {
        assert_int_equal(handle_error(fixture, first.nodes[i]), -ESTALE);
        assert_int_equal(handle_error(fixture, second.nodes[i]), 0);
    }
    fs_fixture_reopen(fixture);
    for (size_t i = 0; i < first.count; i++) {
        assert_int_equal(handle_error(fixture, first.nodes[i]), -ESTALE);
        assert_int_equal(handle_error(fixture, second.nodes[i]), 0);
    }
}

/* A version that was live again after a rollback is in snapshots before and after it, and not in
 * those between. */
static void handles_find_what_a_rollback_brought_back(void **state)
{
    struct fs_fixture *fixture = *state;
    struct handles handles = {.count = 0};

    write_all(fixture, "first", 0, 1);
    handles_add_all(fixture, &handles, create(fixture, "1"));
    write_all(fixture, "other", 0, 1);
    create(fixture, "2");
    roll_back(fixture, "1");
    create(fixture, "3");
    assert_int_equal(delete_error(fixture, "1"), 0);
    fs_fixture_reopen(fixture);
    for (size_t i = 0; i < handles.count; i++) {
        struct fs_entry entry;

        assert_int_equal(fs_lookup(fixture->fs, handles.nodes[i], ".", &entry), 0);
        fs_fixture_assert_text(fixture, handles.nodes[i], "first");
    }
}

static void what_has_no_version_of_its_own_has_no_handle(void **state)
{
    struct fs_fixture *fixture = *state;
    struct fs_entry entry;
    uint64_t removed, version;

    fs_fixture_directory(fixture, FS_ROOT, "d");
    removed = fs_fixture_file(fixture, FS_ROOT, "removed");
    fs_fixture_write(fixture, removed, "held");
    assert_int_equal(fs_unlink(fixture->fs, FS_ROOT, "removed", &fs_fixture_root), 0);
    create(fixture, "s");
    fs_fixture_reopen(fixture);
    /* Every number that anything was written under: none is of a file in the snapshot. */
    for (version = 1; version <= engine_sequence(fixture->engine); version++)
        assert_int_equal(fs_lookup(fixture->fs, UINT64_C(1) << 63 | version, ".", &entry), -ESTALE);
}

static void versions_past_the_limit_are_stale_until_there_are_fewer(void **state)
{
    struct fs_fixture *fixture = *state;
    struct handles first = {.count = 0}, second = {.count = 0};

    write_all(fixture, "first", 0, 1);
    handles_add_all(fixture, &first, create(fixture, "1"));
    write_all(fixture, "other", 0, 1);
    handles_add_all(fixture, &second, create(fixture, "2"));
    fixture->options.versions_max = 10;
    fs_fixture_reopen(fixture);
    for (size_t i = 0; i < first.count; i++) {
        assert_int_equal(handle_error(fixture, second.nodes[i]), -ESTALE);
        assert_int_equal(handle_error(fixture, first.nodes[i]), 0);
    }
    assert_int_equal(delete_error(fixture, "1"), 0);
    for (size_t i = 0; i < first.count; i++) {
        assert_int_equal(handle_error(fixture, second.nodes[i]), 0);
        assert_int_equal(handle_error(fixture, first.nodes[i]), -ESTALE);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FS_FIXTURE_TEST(handles_of_files_outlive_a_remount),
        FS_FIXTURE_TEST(a_handle_lasts_as_long_as_some_snapshot_has_the_version),
        FS_FIXTURE_TEST(handles_find_what_a_rollback_brought_back),
        FS_FIXTURE_TEST(what_has_no_version_of_its_own_has_no_handle),
        FS_FIXTURE_TEST(versions_past_the_limit_are_stale_until_there_are_fewer),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
