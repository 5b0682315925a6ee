/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_fs_diff.c - what the difference of two trees says, by example and against a walk of both
 */
#include <sys/xattr.h>

#include "engine/base/error.h"
#include "fuse/fs_data.h"
#include "fuse/fs_diff.h"
#include "tests/lib/diff_walk.h"
#include "tests/lib/fs_play.h"

/* ---- by example ---- */

static struct snapshot *take_snapshot(struct fs_fixture *fixture, const char *name)
{
    struct snapshot *snapshot;

    assert_int_equal(
        snapshot_create(fs_snapshots(fixture->fs), slice_of_string(name), NULL, 0, &snapshot), 0);
    return snapshot;
}

static struct fs_diff diff_of(struct engine_view *before, struct engine_view *after,
                              const char *path)
{
    const char *paths[] = {path};
    const struct fs_diff_options options = {.paths = paths, .path_count = path != NULL};
    struct fs_diff diff;

    assert_int_equal(fs_diff_make(before, after, &options, &diff), 0);
    return diff;
}

/* The difference as lines: kind, changes, paths, sizes. */
static void diff_text(const struct fs_diff *diff, char *text, size_t room)
{
    size_t used = 0;

    text[0] = '\0';
    for (size_t i = 0; i < diff->count; i++) {
        const struct fs_diff_entry *entry = &diff->entries[i];

        used += (size_t)snprintf(text + used, room - used, "%c", "+-MR"[entry->kind]);
        for (int bit = 0; bit < FS_DIFF_CHANGES; bit++)
            if ((entry->changes & 1u << bit) != 0)
                used +=
                    (size_t)snprintf(text + used, room - used, " %s", fs_diff_change_names[bit]);
        if (entry->path_before != NULL)
            used += (size_t)snprintf(text + used, room - used, " <%s:%llu", entry->path_before,
                                     (unsigned long long)entry->size_before);
        if (entry->path_after != NULL)
            used += (size_t)snprintf(text + used, room - used, " >%s:%llu", entry->path_after,
                                     (unsigned long long)entry->size_after);
        used += (size_t)snprintf(text + used, room - used, "\n");
        assert_true(used < room);
    }
}

/* From the snapshot to the present. */
static void assert_diff(struct fs_fixture *fixture, struct snapshot *snapshot, const char *path,
                        const char *expected)
{
    struct engine_view *before, *after = engine_view_acquire(fixture->engine);
    struct fs_diff diff;
    char text[8192];

    assert_int_equal(snapshot_view_get(snapshot, &before), 0);
    diff = diff_of(before, after, path);
    diff_text(&diff, text, sizeof text);
    assert_string_equal(text, expected);
    fs_diff_free(&diff);
    snapshot_view_put(snapshot, before);
    engine_view_release(after);
}

static void rename_to(struct fs_fixture *fixture, uint64_t from_parent, const char *from,
                      uint64_t to_parent, const char *to)
{
    assert_int_equal(fs_rename(fixture->fs, from_parent, from, to_parent, to, 0, &fs_fixture_root),
                     0);
}

static void each_kind_of_change_is_told_once(void **state)
{
    struct fs_fixture *fixture = *state;
    uint64_t directory = fs_fixture_directory(fixture, FS_ROOT, "d");
    uint64_t content = fs_fixture_file(fixture, directory, "content");
    uint64_t mode = fs_fixture_file(fixture, directory, "mode");
    uint64_t xattr = fs_fixture_file(fixture, directory, "xattr");
    uint64_t moved = fs_fixture_file(fixture, directory, "moved");
    struct fs_setattr change = {.mask = FS_SETATTR_MODE, .mode = 0600};
    struct snapshot *snapshot;
    struct fs_entry entry;

    fs_fixture_write(fixture, content, "one");
    fs_fixture_write(fixture, moved, "1234");
    fs_fixture_write(fixture, fs_fixture_file(fixture, directory, "gone"), "12345");
    fs_fixture_file(fixture, directory, "same");
    snapshot = take_snapshot(fixture, "s");
    assert_diff(fixture, snapshot, NULL, "");

    fs_fixture_write(fixture, content, "other");
    assert_int_equal(fs_setattr(fixture->fs, mode, &change, &fs_fixture_root, &entry), 0);
    assert_int_equal(fs_setxattr(fixture->fs, xattr, "user.x", "y", 1, 0, &fs_fixture_root), 0);
    rename_to(fixture, directory, "moved", FS_ROOT, "here");
    assert_int_equal(fs_unlink(fixture->fs, directory, "gone", &fs_fixture_root), 0);
    fs_fixture_write(fixture, fs_fixture_file(fixture, directory, "new"), "12");
    assert_diff(fixture, snapshot, NULL,
                "M content times <d/content:3 >d/content:5\n"
                "- <d/gone:5\n"
                "M mode <d/mode:0 >d/mode:0\n"
                "+ >d/new:2\n"
                "M xattrs <d/xattr:0 >d/xattr:0\n"
                "R <d/moved:4 >here:4\n");
    /* With a filter: what was there or is there now. */
    assert_diff(fixture, snapshot, "d/moved", "R <d/moved:4 >here:4\n");
    assert_diff(fixture, snapshot, "here", "R <d/moved:4 >here:4\n");
    assert_diff(fixture, snapshot, "d/ne", "");
    assert_diff(fixture, snapshot, "d/new", "+ >d/new:2\n");
    snapshot_unref(snapshot);
}

static void a_renamed_directory_is_one_line_and_its_changed_files_have_both_paths(void **state)
{
    struct fs_fixture *fixture = *state;
    uint64_t directory = fs_fixture_directory(fixture, FS_ROOT, "old");
    uint64_t deep = fs_fixture_directory(fixture, directory, "deep");
    uint64_t file = fs_fixture_file(fixture, deep, "file");
    struct snapshot *snapshot;

    fs_fixture_file(fixture, deep, "quiet");
    snapshot = take_snapshot(fixture, "s");
    rename_to(fixture, FS_ROOT, "old", FS_ROOT, "new");
    fs_fixture_write(fixture, file, "x");
    assert_diff(fixture, snapshot, NULL,
                "R <old:0 >new:0\n"
                "M content times <old/deep/file:0 >new/deep/file:1\n");
    snapshot_unref(snapshot);
}

static void a_file_replaced_by_rename_is_modified(void **state)
{
    struct fs_fixture *fixture = *state;
    struct snapshot *snapshot;

    fs_fixture_write(fixture, fs_fixture_file(fixture, FS_ROOT, "file"), "old");
    fs_fixture_write(fixture, fs_fixture_file(fixture, FS_ROOT, "other"), "o");
    snapshot = take_snapshot(fixture, "s");
    /* As an editor saves. */
    fs_fixture_write(fixture, fs_fixture_file(fixture, FS_ROOT, ".file.tmp"), "newer");
    rename_to(fixture, FS_ROOT, ".file.tmp", FS_ROOT, "file");
    assert_diff(fixture, snapshot, NULL, "M content times replaced <file:3 >file:5\n");
    /* Of a file that was there before it says so. */
    rename_to(fixture, FS_ROOT, "other", FS_ROOT, "file");
    assert_diff(fixture, snapshot, NULL,
                "- <file:3\n"
                "R <other:1 >file:1\n");
    snapshot_unref(snapshot);
}

static void another_type_in_the_same_place_is_another_thing(void **state)
{
    struct fs_fixture *fixture = *state;
    struct snapshot *snapshot;

    fs_fixture_file(fixture, FS_ROOT, "x");
    snapshot = take_snapshot(fixture, "s");
    assert_int_equal(fs_unlink(fixture->fs, FS_ROOT, "x", &fs_fixture_root), 0);
    fs_fixture_directory(fixture, FS_ROOT, "x");
    assert_diff(fixture, snapshot, NULL, "- <x:0\n+ >x:0\n");
    snapshot_unref(snapshot);
}

static void every_name_of_a_changed_file_is_told(void **state)
{
    struct fs_fixture *fixture = *state;
    uint64_t directory = fs_fixture_directory(fixture, FS_ROOT, "d");
    uint64_t file = fs_fixture_file(fixture, FS_ROOT, "a");
    struct snapshot *snapshot;
    struct fs_entry entry;

    assert_int_equal(fs_link(fixture->fs, file, directory, "b", &fs_fixture_root, &entry), 0);
    assert_int_equal(fs_link(fixture->fs, file, directory, "c", &fs_fixture_root, &entry), 0);
    snapshot = take_snapshot(fixture, "s");
    fs_fixture_write(fixture, file, "x");
    assert_int_equal(fs_unlink(fixture->fs, directory, "c", &fs_fixture_root), 0);
    assert_int_equal(fs_link(fixture->fs, file, FS_ROOT, "e", &fs_fixture_root, &entry), 0);
    assert_int_equal(fs_link(fixture->fs, file, FS_ROOT, "f", &fs_fixture_root, &entry), 0);
    assert_diff(fixture, snapshot, NULL,
                "M content times <a:0 >a:1\n"
                "M content times <d/b:0 >d/b:1\n"
                "R content times <d/c:0 >e:1\n"
                "+ linked >f:1\n");
    snapshot_unref(snapshot);
}

static void names_that_all_stayed_are_all_told(void **state)
{
    struct fs_fixture *fixture = *state;
    uint64_t file = fs_fixture_file(fixture, FS_ROOT, "a");
    struct snapshot *snapshot;
    struct fs_entry entry;

    assert_int_equal(fs_link(fixture->fs, file, FS_ROOT, "b", &fs_fixture_root, &entry), 0);
    snapshot = take_snapshot(fixture, "s");
    fs_fixture_write(fixture, file, "x");
    assert_diff(fixture, snapshot, NULL,
                "M content times <a:0 >a:1\n"
                "M content times <b:0 >b:1\n");
    snapshot_unref(snapshot);
}

/* Its only name is not the one that it was given last. */
static void a_hint_that_leads_nowhere_does_not_hide_a_change(void **state)
{
    struct fs_fixture *fixture = *state;
    uint64_t file = fs_fixture_file(fixture, FS_ROOT, "a");
    struct snapshot *snapshot;
    struct fs_entry entry;

    assert_int_equal(fs_link(fixture->fs, file, FS_ROOT, "b", &fs_fixture_root, &entry), 0);
    assert_int_equal(fs_unlink(fixture->fs, FS_ROOT, "b", &fs_fixture_root), 0);
    snapshot = take_snapshot(fixture, "s");
    fs_fixture_write(fixture, file, "x");
    assert_diff(fixture, snapshot, NULL, "M content times <a:0 >a:1\n");
    snapshot_unref(snapshot);
}

static void an_open_file_without_a_name_is_gone(void **state)
{
    struct fs_fixture *fixture = *state;
    struct fs_entry entry;
    struct snapshot *snapshot;

    fs_fixture_file(fixture, FS_ROOT, "a"); /* held by the lookup */
    assert_int_equal(fs_tmpfile(fixture->fs, FS_ROOT, 0600, &fs_fixture_root, &entry), 0);
    snapshot = take_snapshot(fixture, "s");
    assert_int_equal(fs_unlink(fixture->fs, FS_ROOT, "a", &fs_fixture_root), 0);
    fs_fixture_write(fixture, entry.attribute.node, "x");
    assert_diff(fixture, snapshot, NULL, "- <a:0\n");
    assert_int_equal(
        fs_link(fixture->fs, entry.attribute.node, FS_ROOT, "t", &fs_fixture_root, &entry), 0);
    assert_diff(fixture, snapshot, NULL, "- <a:0\n+ >t:1\n");
    snapshot_unref(snapshot);
}

static void touching_is_told_also_of_the_root(void **state)
{
    struct fs_fixture *fixture = *state;
    struct fs_setattr change = {.mask = FS_SETATTR_MTIME, .mtime = {.tv_sec = 5}};
    struct fs_setattr mode = {.mask = FS_SETATTR_MODE, .mode = 0644};
    uint64_t file = fs_fixture_file(fixture, FS_ROOT, "a");
    struct snapshot *snapshot = take_snapshot(fixture, "s");
    struct fs_entry entry;

    assert_int_equal(fs_setattr(fixture->fs, FS_ROOT, &change, &fs_fixture_root, &entry), 0);
    assert_int_equal(fs_setattr(fixture->fs, file, &mode, &fs_fixture_root, &entry), 0);
    assert_diff(fixture, snapshot, NULL, "M times <.:0 >.:0\nM ctime <a:0 >a:0\n");
    snapshot_unref(snapshot);
}

static void more_changes_than_asked_for_are_an_error(void **state)
{
    struct fs_fixture *fixture = *state;
    const struct fs_diff_options options = {.changes_max = 10};
    struct snapshot *snapshot = take_snapshot(fixture, "s");
    struct engine_view *before, *after;
    struct fs_diff diff;

    for (int i = 0; i < 10; i++) {
        char name[8];

        snprintf(name, sizeof name, "%d", i);
        fs_fixture_file(fixture, FS_ROOT, name);
    }
    after = engine_view_acquire(fixture->engine);
    assert_int_equal(snapshot_view_get(snapshot, &before), 0);
    assert_int_equal(fs_diff_make(before, after, &options, &diff), -E2BIG);
    snapshot_view_put(snapshot, before);
    engine_view_release(after);
    snapshot_unref(snapshot);
}

/* Directories in directories, whose paths together grow with the square of their number. */
static void longer_paths_than_asked_for_are_an_error(void **state)
{
    struct fs_fixture *fixture = *state;
    struct fs_diff_options options = {.paths_max = 1 << 20};
    struct snapshot *snapshot = take_snapshot(fixture, "s");
    struct engine_view *before, *after;
    uint64_t directory = FS_ROOT;
    char name[201] = {0};
    struct fs_diff diff;

    memset(name, 'd', sizeof name - 1);
    for (int i = 0; i < 300; i++)
        directory = fs_fixture_directory(fixture, directory, name);
    after = engine_view_acquire(fixture->engine);
    assert_int_equal(snapshot_view_get(snapshot, &before), 0);
    assert_int_equal(fs_diff_make(before, after, &options, &diff), -E2BIG);
    options.paths_max = 64 << 20;
    assert_int_equal(fs_diff_make(before, after, &options, &diff), 0);
    assert_int_equal(diff.count, 300);
    fs_diff_free(&diff);
    snapshot_view_put(snapshot, before);
    engine_view_release(after);
    snapshot_unref(snapshot);
}

static void cost_follows_the_changes(void **state)
{
    struct fs_fixture *fixture = *state;
    struct engine_view *before, *after;
    struct snapshot *snapshot;
    struct fs_diff diff;
    uint64_t changed = 0;

    for (int i = 0; i < 20; i++) {
        char name[16];
        uint64_t directory;

        snprintf(name, sizeof name, "d%d", i);
        directory = fs_fixture_directory(fixture, FS_ROOT, name);
        for (int j = 0; j < 100; j++) {
            snprintf(name, sizeof name, "f%d", j);
            changed = fs_fixture_file(fixture, directory, name);
        }
    }
    assert_int_equal(engine_compact(fixture->engine), 0);
    snapshot = take_snapshot(fixture, "s");
    assert_int_equal(snapshot_wait(fs_snapshots(fixture->fs), snapshot), 0);
    fs_fixture_write(fixture, changed, "x");
    assert_int_equal(snapshot_view_get(snapshot, &before), 0);
    after = engine_view_acquire(fixture->engine);
    diff = diff_of(before, after, NULL);
    assert_int_equal(diff.count, 1);
    assert_string_equal(diff.entries[0].path_after, "d19/f99");
    assert_true(diff.statistics.records_read < 20);
    fs_diff_free(&diff);
    snapshot_view_put(snapshot, before);
    engine_view_release(after);
    snapshot_unref(snapshot);
}

/* ---- random trees ---- */

static void random_histories_are_told_as_a_walk_of_both_trees_says(void **state)
{
    struct fs_fixture *fixture = *state;
    struct fs_play play = {.fixture = fixture, .random = seed_start("fs_diff"), .count = 1};
    struct snapshot *snapshots[24];

    play.directories[0] = FS_ROOT;
    for (int round = 0; round < 24; round++) {
        struct engine_view *before, *after;
        char name[16];

        for (size_t i = seed_below(&play.random, 60); i > 0; i--)
            fs_play_once(&play);
        if (seed_below(&play.random, 5) == 0)
            assert_int_equal(engine_compact(fixture->engine), 0);
        snprintf(name, sizeof name, "s%d", round);
        snapshots[round] = take_snapshot(fixture, name);
        for (int i = 0; i < 3; i++) {
            struct snapshot *earlier = snapshots[seed_below(&play.random, (uint64_t)round + 1)];

            assert_int_equal(snapshot_view_get(earlier, &before), 0);
            assert_int_equal(snapshot_view_get(snapshots[round], &after), 0);
            diff_walk_check(before, after);
            diff_walk_check(after, before);
            snapshot_view_put(earlier, before);
            snapshot_view_put(snapshots[round], after);
        }
        for (size_t i = seed_below(&play.random, 10); i > 0; i--)
            fs_play_once(&play);
        assert_int_equal(snapshot_view_get(snapshots[round], &before), 0);
        after = engine_view_acquire(fixture->engine);
        diff_walk_check(before, after);
        engine_view_release(after);
        snapshot_view_put(snapshots[round], before);
    }
    for (int i = 0; i < 24; i++)
        snapshot_unref(snapshots[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FS_FIXTURE_TEST(each_kind_of_change_is_told_once),
        FS_FIXTURE_TEST(a_renamed_directory_is_one_line_and_its_changed_files_have_both_paths),
        FS_FIXTURE_TEST(a_file_replaced_by_rename_is_modified),
        FS_FIXTURE_TEST(another_type_in_the_same_place_is_another_thing),
        FS_FIXTURE_TEST(every_name_of_a_changed_file_is_told),
        FS_FIXTURE_TEST(names_that_all_stayed_are_all_told),
        FS_FIXTURE_TEST(a_hint_that_leads_nowhere_does_not_hide_a_change),
        FS_FIXTURE_TEST(an_open_file_without_a_name_is_gone),
        FS_FIXTURE_TEST(touching_is_told_also_of_the_root),
        FS_FIXTURE_TEST(more_changes_than_asked_for_are_an_error),
        FS_FIXTURE_TEST(longer_paths_than_asked_for_are_an_error),
        FS_FIXTURE_TEST(cost_follows_the_changes),
        FS_FIXTURE_TEST(random_histories_are_told_as_a_walk_of_both_trees_says),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
