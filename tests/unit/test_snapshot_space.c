/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_snapshot_space.c - holds, and that deleting a set frees what was said before
 */
#include <dirent.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "snapshot/snapshot.h"
#include "tests/lib/engine_fixture.h"
#include "tests/lib/seed.h"

#define ROUNDS 12
#define KEYS   2000

struct fixture {
    struct engine_fixture *engine;
    struct snapshot_set *set;
};

static int setup(void **state)
{
    const struct snapshot_options options = {.views_max = 2};
    struct fixture *fixture = calloc(1, sizeof *fixture);
    void *engine;

    assert_int_equal(engine_fixture_setup(&engine), 0);
    fixture->engine = engine;
    assert_int_equal(snapshot_set_open(fixture->engine->engine, &options, &fixture->set), 0);
    *state = fixture;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *fixture = *state;
    void *engine = fixture->engine;

    snapshot_set_close(fixture->set);
    assert_int_equal(engine_fixture_teardown(&engine), 0);
    free(fixture);
    return 0;
}

static void reopen(struct fixture *fixture)
{
    const struct snapshot_options options = {.views_max = 2};

    snapshot_set_close(fixture->set);
    engine_fixture_close(fixture->engine);
    engine_fixture_open(fixture->engine);
    assert_int_equal(snapshot_set_open(fixture->engine->engine, &options, &fixture->set), 0);
}

static struct snapshot *create(struct fixture *fixture, const char *name)
{
    struct snapshot *snapshot;

    assert_int_equal(snapshot_create(fixture->set, slice_of_string(name), NULL, 0, &snapshot), 0);
    assert_int_equal(snapshot_wait(fixture->set, snapshot), 0);
    return snapshot;
}

static int delete_named(struct fixture *fixture, const char *name)
{
    return snapshot_delete(fixture->set, slice_of_string(name));
}

static int hold(struct fixture *fixture, const char *name, const char *owner, uint64_t expires_s)
{
    return snapshot_hold(fixture->set, slice_of_string(name), slice_of_string(owner), expires_s);
}

static int release(struct fixture *fixture, const char *name, const char *owner)
{
    return snapshot_release(fixture->set, slice_of_string(name), slice_of_string(owner));
}

/* ---- holds ---- */

static void a_held_snapshot_is_deleted_after_the_last_release(void **state)
{
    struct fixture *fixture = *state;

    snapshot_unref(create(fixture, "a"));
    assert_int_equal(hold(fixture, "a", "one", 0), 0);
    assert_int_equal(hold(fixture, "a", "two", 0), 0);
    assert_int_equal(hold(fixture, "a", "two", 0), 0);
    assert_int_equal(delete_named(fixture, "a"), ERROR_HELD);
    assert_int_equal(error_errno(ERROR_HELD), -EBUSY);
    assert_int_equal(release(fixture, "a", "one"), 0);
    assert_int_equal(release(fixture, "a", "one"), -ENOENT);
    reopen(fixture);
    assert_int_equal(delete_named(fixture, "a"), ERROR_HELD);
    /* It is the snapshot that is held, not the name. */
    assert_int_equal(snapshot_rename(fixture->set, slice_of_string("a"), slice_of_string("b")), 0);
    assert_int_equal(delete_named(fixture, "b"), ERROR_HELD);
    assert_int_equal(release(fixture, "a", "two"), -ENOENT);
    assert_int_equal(release(fixture, "b", "two"), 0);
    assert_int_equal(delete_named(fixture, "b"), 0);
    assert_int_equal(hold(fixture, "b", "two", 0), -ENOENT);
}

static void a_hold_ends_when_it_expires(void **state)
{
    struct fixture *fixture = *state;
    struct snapshot *snapshot = create(fixture, "a");
    uint64_t now = (uint64_t)time(NULL);
    bool held;

    assert_int_equal(hold(fixture, "a", "past", now - 1), 0);
    assert_int_equal(snapshot_is_held(snapshot, &held), 0);
    assert_false(held);
    assert_int_equal(hold(fixture, "a", "future", now + 3600), 0);
    assert_int_equal(snapshot_is_held(snapshot, &held), 0);
    assert_true(held);
    assert_int_equal(delete_named(fixture, "a"), ERROR_HELD);
    /* Holding again replaces. */
    assert_int_equal(hold(fixture, "a", "future", now - 1), 0);
    assert_int_equal(delete_named(fixture, "a"), 0);
    snapshot_unref(snapshot);
}

static void an_owner_has_1_to_255_bytes(void **state)
{
    struct fixture *fixture = *state;
    char owner[257];

    snapshot_unref(create(fixture, "a"));
    memset(owner, 'o', sizeof owner);
    owner[256] = '\0';
    assert_int_equal(hold(fixture, "a", owner, 0), -EINVAL);
    assert_int_equal(hold(fixture, "a", "", 0), -EINVAL);
    assert_int_equal(snapshot_hold(fixture->set, slice_of_string("a"), slice_of("a\0b", 3), 0),
                     -EINVAL);
    owner[255] = '\0';
    assert_int_equal(hold(fixture, "a", owner, 0), 0);
    assert_int_equal(release(fixture, "a", owner), 0);
}

/* ---- space ---- */

/* Different files. An inode's number goes to another file when it is deleted: the time of writing
 * tells them apart. */
struct disk {
    uint64_t files[4096], sizes[4096];
    size_t count;
};

static uint64_t disk_file(const struct stat *status)
{
    return (uint64_t)status->st_ino * 0x9e3779b97f4a7c15u ^
           ((uint64_t)status->st_mtim.tv_sec * 1000000000 + (uint64_t)status->st_mtim.tv_nsec);
}

static bool disk_has(const struct disk *disk, uint64_t file)
{
    for (size_t i = 0; i < disk->count; i++)
        if (disk->files[i] == file)
            return true;
    return false;
}

static void disk_add(struct disk *disk, const struct stat *status)
{
    if (disk_has(disk, disk_file(status)))
        return;
    assert_true(disk->count < 4096);
    disk->sizes[disk->count] = (uint64_t)status->st_size;
    disk->files[disk->count++] = disk_file(status);
}

static void disk_walk(struct disk *disk, const char *path)
{
    DIR *directory = opendir(path);
    struct dirent *entry;

    if (directory == NULL)
        return; /* what is being deleted may be gone by now */
    while ((entry = readdir(directory)) != NULL) {
        struct stat status;
        char *child;

        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        child = test_path(path, entry->d_name);
        if (lstat(child, &status) < 0)
            assert_int_equal(errno, ENOENT);
        else if (S_ISDIR(status.st_mode))
            disk_walk(disk, child);
        else
            disk_add(disk, &status);
        free(child);
    }
    closedir(directory);
}

static void disk_walk_in(struct disk *disk, struct fixture *fixture, const char *directory,
                         const char *name)
{
    char *path = test_path(fixture->engine->path, directory), *child = test_path(path, name);

    disk_walk(disk, child);
    free(child);
    free(path);
}

/* What one snapshot's directory has. */
static void disk_walk_snapshot(struct disk *disk, struct fixture *fixture,
                               struct snapshot *snapshot)
{
    char name[SNAPSHOT_NAME_SIZE_MAX + 1];

    snapshot_get_name(snapshot, name);
    disk_walk_in(disk, fixture, "checkpoints", name);
}

static void wait_for_deletions(struct fixture *fixture)
{
    struct engine_statistics statistics;
    char *tmp = test_path(fixture->engine->path, "tmp"); /* where parts wait to be removed */

    for (;;) {
        struct disk disk = {.count = 0};

        disk_walk(&disk, tmp);
        engine_get_statistics(fixture->engine->engine, &statistics);
        if (disk.count == 0 && statistics.checkpoints_deleting == 0)
            break;
        usleep(1000);
    }
    free(tmp);
}

static void write_batch(struct fixture *fixture, struct batch *batch)
{
    assert_int_equal(engine_write(fixture->engine->engine, batch, NULL), 0);
    batch_clear(batch);
}

/* Small values come and go at random, file data of a round all at once. */
static void change_some(struct fixture *fixture, uint64_t *random, uint64_t round)
{
    struct engine_view *view = engine_view_acquire(fixture->engine->engine);
    struct batch batch = {0};
    uint8_t key[8], end[8], data[3000];
    struct blob_ref ref;

    for (size_t i = seed_below(random, KEYS); i > 0; i--) {
        for (size_t j = 0; j < sizeof data; j++)
            data[j] = (uint8_t)seed_next(random);
        engine_fixture_key(key, seed_below(random, KEYS));
        if (seed_below(random, 4) == 0)
            batch_delete(&batch, slice_of(key, 8));
        else
            batch_put(&batch, slice_of(key, 8), slice_of(data, 300));
        write_batch(fixture, &batch);
        if (seed_below(random, 4) > 0)
            continue;
        assert_int_equal(engine_blob_append(fixture->engine->engine, data, sizeof data, &ref), 0);
        batch_put_reference(&batch, engine_fixture_key(key, (round + 1) * KEYS + i), &ref);
        write_batch(fixture, &batch);
    }
    engine_view_release(view);
    if (round > 0 && seed_below(random, 2) == 0) {
        uint64_t gone = seed_below(random, round);

        batch_delete_range(&batch, engine_fixture_key(key, (gone + 1) * KEYS),
                           engine_fixture_key(end, (gone + 2) * KEYS));
        write_batch(fixture, &batch);
    }
    batch_free(&batch);
}

static void quiet(struct fixture *fixture)
{
    assert_int_equal(engine_compact(fixture->engine->engine), 0);
    wait_for_deletions(fixture);
}

/* Bytes of the files that the doomed have and neither the others nor the live store. */
static uint64_t only_in(const struct disk *doomed, const struct disk *others)
{
    uint64_t bytes = 0;

    for (size_t i = 0; i < doomed->count; i++)
        if (!disk_has(others, doomed->files[i]))
            bytes += doomed->sizes[i];
    return bytes;
}

static void delete_and_compare(struct fixture *fixture, struct snapshot **doomed, size_t count,
                               struct snapshot **left, size_t left_count)
{
    struct disk mine = {.count = 0}, others = {.count = 0}, after = {.count = 0};
    struct engine_usage usage, together;
    uint64_t alone = 0;

    disk_walk_in(&others, fixture, "chunks", "");
    for (size_t i = 0; i < left_count; i++)
        disk_walk_snapshot(&others, fixture, left[i]);
    for (size_t i = 0; i < count; i++) {
        disk_walk_snapshot(&mine, fixture, doomed[i]);
        assert_int_equal(snapshot_usage(fixture->set, &doomed[i], 1, &usage), 0);
        alone += usage.unique_bytes;
    }
    doomed[count] = doomed[0]; /* twice is once */
    assert_int_equal(snapshot_usage(fixture->set, doomed, count + 1, &together), 0);
    assert_int_equal(together.files, mine.count);
    assert_int_equal(together.unique_bytes, only_in(&mine, &others));
    assert_true(together.unique_bytes >= alone);
    assert_true(together.unique_disk_bytes >= together.unique_bytes / 2);

    for (size_t i = 0; i < count; i++) {
        char name[SNAPSHOT_NAME_SIZE_MAX + 1];

        snapshot_get_name(doomed[i], name);
        assert_int_equal(delete_named(fixture, name), 0);
        assert_int_equal(snapshot_usage(fixture->set, &doomed[i], 1, &usage), -ENOENT);
        snapshot_unref(doomed[i]);
    }
    wait_for_deletions(fixture);
    /* What was to be freed is gone. (The engine may do more: a chunk that only the live store has
     * left may be copied together with others.) */
    disk_walk_in(&after, fixture, "chunks", "");
    disk_walk_in(&after, fixture, "checkpoints", "");
    disk_walk_in(&after, fixture, "tmp", "");
    for (size_t i = 0; i < mine.count; i++)
        if (!disk_has(&others, mine.files[i]))
            assert_false(disk_has(&after, mine.files[i]));
}

static void deleting_a_set_frees_what_was_predicted(void **state)
{
    struct fixture *fixture = *state;
    struct snapshot *snapshots[ROUNDS];
    uint64_t random = seed_start("snapshot_space");
    size_t left = ROUNDS;

    for (int i = 0; i < ROUNDS; i++) {
        char name[16];

        change_some(fixture, &random, (uint64_t)i);
        snprintf(name, sizeof name, "s%d", i);
        snapshots[i] = create(fixture, name);
    }
    change_some(fixture, &random, ROUNDS);
    while (left > 0) {
        struct snapshot *doomed[ROUNDS + 1];
        size_t count = 1 + seed_below(&random, left < 4 ? left : 4);

        for (size_t i = 0; i < count; i++) {
            size_t at = seed_below(&random, left);

            doomed[i] = snapshots[at];
            snapshots[at] = snapshots[--left];
        }
        quiet(fixture);
        delete_and_compare(fixture, doomed, count, snapshots, left);
    }
}

static void what_a_copy_elsewhere_links_to_is_not_freed(void **state)
{
    struct fixture *fixture = *state;
    struct snapshot *snapshot;
    struct engine_usage before, after;
    uint64_t random = seed_start("snapshot_space_links");
    char command[1024];

    change_some(fixture, &random, 0);
    snapshot = create(fixture, "a");
    {
        struct batch batch = {0};
        uint8_t low[8], high[8];

        batch_delete_range(&batch, engine_fixture_key(low, 0), engine_fixture_key(high, KEYS * 4));
        assert_int_equal(engine_write(fixture->engine->engine, &batch, NULL), 0);
        batch_free(&batch);
    }
    quiet(fixture);
    assert_int_equal(snapshot_usage(fixture->set, &snapshot, 1, &before), 0);
    assert_int_equal(before.unique_bytes, before.bytes);
    assert_int_equal(before.unique_files, before.files);
    snprintf(command, sizeof command, "cp -al '%s/checkpoints/a' '%s/linked'",
             fixture->engine->path, fixture->engine->directory);
    assert_int_equal(system(command), 0);
    assert_int_equal(snapshot_usage(fixture->set, &snapshot, 1, &after), 0);
    assert_int_equal(after.bytes, before.bytes);
    assert_int_equal(after.unique_bytes, 0);
    snapshot_unref(snapshot);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_held_snapshot_is_deleted_after_the_last_release, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_hold_ends_when_it_expires, setup, teardown),
        cmocka_unit_test_setup_teardown(an_owner_has_1_to_255_bytes, setup, teardown),
        cmocka_unit_test_setup_teardown(deleting_a_set_frees_what_was_predicted, setup, teardown),
        cmocka_unit_test_setup_teardown(what_a_copy_elsewhere_links_to_is_not_freed, setup,
                                        teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
