/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_manifest_changes.c - tests of the change log and its cursors (engine/manifest.h)
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/base/error.h"
#include "engine/base/log.h"
#include "engine/manifest.h"
#include "tests/lib/test_directory.h"

enum { ENTRIES_MAX = 1000 };

struct fixture {
    char *path;
    struct manifest *manifest;
};

/* The log is about bounds, not about durability: on a file system in memory a commit costs little.
 */
static bool have_memory_file_system(void)
{
    return access("/dev/shm", W_OK) == 0;
}

static void setup(struct fixture *fixture)
{
    struct manifest_options options = {
        .create = true, .map_size_bytes = 1 << 16, .change_log_entries_max = ENTRIES_MAX};

    fixture->path =
        have_memory_file_system() ? test_directory_make_in("/dev/shm") : test_directory_make();
    options.path = fixture->path;
    assert_int_equal(manifest_open(&options, &fixture->manifest), 0);
}

static void teardown(struct fixture *fixture)
{
    manifest_close(fixture->manifest);
    test_directory_remove(fixture->path);
}

/* Blob `id` comes, and with `id` > 3 blob `id` - 3 goes. */
static void commit(struct manifest *manifest, uint64_t id)
{
    const struct chunk_identity blob = {.id = id, .kind = CHUNK_BLOB, .file_size_bytes = 1};
    const uint64_t gone = id - 3;
    struct manifest_edit edit = {.add_blobs = &blob,
                                 .add_blob_count = 1,
                                 .remove_blobs = &gone,
                                 .remove_blob_count = id > 3};

    assert_int_equal(manifest_commit(manifest, &edit), 0);
}

static struct manifest_statistics statistics_of(struct manifest *manifest)
{
    struct manifest_statistics statistics;

    manifest_get_statistics(manifest, &statistics);
    return statistics;
}

static uint64_t entries_kept(struct manifest *manifest)
{
    struct manifest_statistics statistics = statistics_of(manifest);

    return statistics.change_log_last + 1 - statistics.change_log_first;
}

/* Entry n was written by commit(n). */
struct reading {
    struct manifest *manifest;
    uint64_t first, last, stop_at;
};

static int take(void *context, const struct manifest_change *change)
{
    struct reading *reading = context;

    if (reading->first == 0)
        reading->first = change->number;
    else
        assert_int_equal(change->number, reading->last + 1);
    reading->last = change->number;
    assert_int_equal(change->added_count, 1);
    assert_int_equal(change->added[0], change->number);
    assert_int_equal(change->removed_count, change->number > 3);
    if (change->removed_count > 0)
        assert_int_equal(change->removed[0], change->number - 3);
    return change->number == reading->stop_at ? -ECANCELED : 0;
}

static struct reading read_log(struct manifest *manifest, const char *cursor)
{
    struct reading reading = {0};

    assert_int_equal(manifest_changes_read(manifest, cursor, take, &reading), 0);
    return reading;
}

static void entries_come_in_order_after_the_cursor(void **state)
{
    struct reading reading = {0};
    struct fixture fixture;

    (void)state;
    setup(&fixture);
    assert_int_equal(manifest_changes_read(fixture.manifest, "c", take, &reading), -ENOENT);
    assert_int_equal(manifest_cursor_set(fixture.manifest, "c", 0), 0);
    assert_int_equal(read_log(fixture.manifest, "c").first, 0);
    for (uint64_t id = 1; id <= 600; id++) /* more than is copied at once */
        commit(fixture.manifest, id);
    reading = read_log(fixture.manifest, "c");
    assert_int_equal(reading.first, 1);
    assert_int_equal(reading.last, 600);
    assert_int_equal(manifest_cursor_set(fixture.manifest, "c", 590), 0);
    reading = read_log(fixture.manifest, "c");
    assert_int_equal(reading.first, 591);
    assert_int_equal(reading.last, 600);
    assert_int_equal(manifest_cursor_set(fixture.manifest, "c", 600), 0);
    assert_int_equal(read_log(fixture.manifest, "c").first, 0);
    assert_int_equal(manifest_cursor_remove(fixture.manifest, "c"), 0);
    assert_int_equal(manifest_cursor_remove(fixture.manifest, "c"), -ENOENT);
    teardown(&fixture);
}

static void a_reader_can_stop_early(void **state)
{
    struct reading reading = {.stop_at = 2};
    struct fixture fixture;

    (void)state;
    setup(&fixture);
    assert_int_equal(manifest_cursor_set(fixture.manifest, "c", 0), 0);
    for (uint64_t id = 1; id <= 5; id++)
        commit(fixture.manifest, id);
    assert_int_equal(manifest_changes_read(fixture.manifest, "c", take, &reading), -ECANCELED);
    assert_int_equal(reading.last, 2);
    teardown(&fixture);
}

static int take_and_follow(void *context, const struct manifest_change *change)
{
    struct reading *reading = context;
    int error = take(context, change);

    return error == 0 ? manifest_cursor_set(reading->manifest, "c", change->number) : error;
}

static void a_callback_may_move_its_cursor(void **state)
{
    struct reading reading = {0};
    struct fixture fixture;

    (void)state;
    setup(&fixture);
    reading.manifest = fixture.manifest;
    assert_int_equal(manifest_cursor_set(fixture.manifest, "c", 0), 0);
    for (uint64_t id = 1; id <= 300; id++)
        commit(fixture.manifest, id);
    assert_int_equal(manifest_changes_read(fixture.manifest, "c", take_and_follow, &reading), 0);
    assert_int_equal(reading.last, 300);
    assert_int_equal(read_log(fixture.manifest, "c").first, 0);
    teardown(&fixture);
}

static int take_any(void *context, const struct manifest_change *change)
{
    struct manifest_change *last = context;

    last->number = change->number;
    last->added_count = change->added_count;
    last->removed_count = change->removed_count;
    return 0;
}

static void a_table_that_only_moved_has_neither_come_nor_gone(void **state)
{
    struct manifest_table table = {.level = 1, .meta.identity = {.id = 50, .kind = CHUNK_TABLE}};
    const struct chunk_identity blob = {.id = 60, .kind = CHUNK_BLOB};
    const uint64_t id = 50;
    struct manifest_edit edit = {.add_tables = &table, .add_table_count = 1};
    struct manifest_change last = {0};
    struct fixture fixture;

    (void)state;
    setup(&fixture);
    assert_int_equal(manifest_cursor_set(fixture.manifest, "c", 0), 0);
    assert_int_equal(manifest_commit(fixture.manifest, &edit), 0);
    assert_int_equal(manifest_changes_read(fixture.manifest, "c", take_any, &last), 0);
    assert_int_equal(last.number, 1);
    assert_int_equal(last.added_count, 1);

    table.level = 2;
    edit.remove_tables = &id;
    edit.remove_table_count = 1;
    edit.add_blobs = &blob;
    edit.add_blob_count = 1;
    assert_int_equal(manifest_commit(fixture.manifest, &edit), 0);
    assert_int_equal(manifest_changes_read(fixture.manifest, "c", take_any, &last), 0);
    assert_int_equal(last.number, 2);
    assert_int_equal(last.added_count, 1); /* the blob */
    assert_int_equal(last.removed_count, 0);
    teardown(&fixture);
}

static void the_log_is_cut_behind_the_slowest_cursor(void **state)
{
    struct fixture fixture;

    (void)state;
    setup(&fixture);
    assert_int_equal(manifest_cursor_set(fixture.manifest, "fast", 0), 0);
    assert_int_equal(manifest_cursor_set(fixture.manifest, "slow", 0), 0);
    for (uint64_t id = 1; id <= 50; id++)
        commit(fixture.manifest, id);
    assert_int_equal(entries_kept(fixture.manifest), 50);
    assert_int_equal(manifest_cursor_set(fixture.manifest, "fast", 40), 0);
    commit(fixture.manifest, 51);
    assert_int_equal(entries_kept(fixture.manifest), 51);
    assert_int_equal(manifest_cursor_set(fixture.manifest, "slow", 30), 0);
    commit(fixture.manifest, 52);
    assert_int_equal(entries_kept(fixture.manifest), 22);
    assert_int_equal(read_log(fixture.manifest, "slow").first, 31);
    assert_int_equal(read_log(fixture.manifest, "fast").first, 41);
    assert_int_equal(manifest_cursor_remove(fixture.manifest, "slow"), 0);
    commit(fixture.manifest, 53);
    assert_int_equal(entries_kept(fixture.manifest), 13);
    teardown(&fixture);
}

static void a_cursor_can_go_back_only_to_what_is_kept(void **state)
{
    struct fixture fixture;

    (void)state;
    setup(&fixture);
    assert_int_equal(manifest_cursor_set(fixture.manifest, "c", 0), 0);
    for (uint64_t id = 1; id <= 20; id++)
        commit(fixture.manifest, id);
    assert_int_equal(manifest_cursor_set(fixture.manifest, "c", 10), 0);
    commit(fixture.manifest, 21); /* cuts 1 .. 10 */
    assert_int_equal(manifest_cursor_set(fixture.manifest, "c", 9), -ESTALE);
    assert_int_equal(manifest_cursor_set(fixture.manifest, "c", 10), 0);
    assert_int_equal(manifest_cursor_set(fixture.manifest, "c", 22), -EINVAL);
    assert_int_equal(manifest_cursor_set(fixture.manifest, "c", 21), 0);
    assert_int_equal(manifest_cursor_set(fixture.manifest, "", 0), -EINVAL);
    teardown(&fixture);
}

static void without_a_cursor_commits_are_numbered_and_not_kept(void **state)
{
    struct fixture fixture;

    (void)state;
    setup(&fixture);
    for (uint64_t id = 1; id <= 20; id++)
        commit(fixture.manifest, id);
    assert_int_equal(statistics_of(fixture.manifest).change_log_last, 20);
    assert_int_equal(entries_kept(fixture.manifest), 0);
    assert_int_equal(manifest_cursor_set(fixture.manifest, "c", 0), 0);
    commit(fixture.manifest, 21);
    assert_int_equal(read_log(fixture.manifest, "c").first, 21);
    teardown(&fixture);
}

static void the_number_of_cursors_is_bounded(void **state)
{
    struct fixture fixture;
    char name[32];
    unsigned count = 0;
    int error;

    (void)state;
    setup(&fixture);
    do {
        snprintf(name, sizeof name, "cursor %u", count);
        error = manifest_cursor_set(fixture.manifest, name, 0);
    } while (error == 0 && ++count < 10000);
    assert_int_equal(error, -ENOSPC);
    assert_int_equal(manifest_cursor_set(fixture.manifest, "cursor 0", 0), 0); /* moving is free */
    teardown(&fixture);
}

static void r22_an_idle_cursor_bounds_the_log_and_is_told_to_rescan(void **state)
{
    const uint64_t count = have_memory_file_system() ? 1000000 : 10000;
    struct reading reading = {0};
    struct manifest_statistics statistics;
    struct fixture fixture;
    uint64_t early_bytes = 0, longest = 0;

    (void)state;
    setup(&fixture);
    assert_int_equal(manifest_cursor_set(fixture.manifest, "idle", 0), 0);
    for (uint64_t id = 1; id <= count; id++) {
        commit(fixture.manifest, id);
        if (id % 199 == 0 || id > count - 2 * ENTRIES_MAX) {
            uint64_t kept = entries_kept(fixture.manifest);

            longest = kept > longest ? kept : longest;
        }
        if (id == ENTRIES_MAX - 1)
            assert_int_equal(entries_kept(fixture.manifest), ENTRIES_MAX - 1);
        if (id == 5 * ENTRIES_MAX)
            early_bytes = statistics_of(fixture.manifest).used_bytes;
    }
    statistics = statistics_of(fixture.manifest);
    assert_true(longest <= ENTRIES_MAX);
    assert_true(statistics.used_bytes <= early_bytes + early_bytes / 4);
    assert_true(statistics.used_bytes < 1 << 20);
    assert_int_equal(statistics.change_log_last, count);

    assert_int_equal(manifest_changes_read(fixture.manifest, "idle", take, &reading), -ESTALE);
    assert_int_equal(reading.first, 0);
    assert_int_equal(manifest_cursor_set(fixture.manifest, "idle", 0), 0);
    commit(fixture.manifest, count + 1);
    reading = read_log(fixture.manifest, "idle");
    assert_int_equal(reading.first, count + 1);
    assert_int_equal(reading.last, count + 1);
    teardown(&fixture);
}

static void r22_a_living_cursor_never_holds_more_than_the_bound(void **state)
{
    struct reading reading = {0};
    struct fixture fixture;

    (void)state;
    setup(&fixture);
    assert_int_equal(manifest_cursor_set(fixture.manifest, "idle", 0), 0);
    assert_int_equal(manifest_cursor_set(fixture.manifest, "busy", 0), 0);
    for (uint64_t id = 1; id <= 3 * ENTRIES_MAX; id++) {
        commit(fixture.manifest, id);
        assert_true(entries_kept(fixture.manifest) <= ENTRIES_MAX);
        if (id % 100 == 0)
            assert_int_equal(manifest_cursor_set(fixture.manifest, "busy", id - 50), 0);
    }
    assert_int_equal(manifest_changes_read(fixture.manifest, "idle", take, &reading), -ESTALE);
    reading = read_log(fixture.manifest, "busy");
    assert_int_equal(reading.first, 3 * ENTRIES_MAX - 49);
    assert_int_equal(reading.last, 3 * ENTRIES_MAX);
    assert_true(entries_kept(fixture.manifest) < 200); /* the dead cursor holds nothing back */
    teardown(&fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(entries_come_in_order_after_the_cursor),
        cmocka_unit_test(a_reader_can_stop_early),
        cmocka_unit_test(a_callback_may_move_its_cursor),
        cmocka_unit_test(a_table_that_only_moved_has_neither_come_nor_gone),
        cmocka_unit_test(the_log_is_cut_behind_the_slowest_cursor),
        cmocka_unit_test(a_cursor_can_go_back_only_to_what_is_kept),
        cmocka_unit_test(without_a_cursor_commits_are_numbered_and_not_kept),
        cmocka_unit_test(the_number_of_cursors_is_bounded),
        cmocka_unit_test(r22_an_idle_cursor_bounds_the_log_and_is_told_to_rescan),
        cmocka_unit_test(r22_a_living_cursor_never_holds_more_than_the_bound),
    };

    log_set_level(LOG_LEVEL_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
