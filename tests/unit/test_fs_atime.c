/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_fs_atime.c - which readings move the time of access, where that is kept, and what it leaves
 * alone: the version of a file, and so its identity in snapshots
 */
#include <fcntl.h>
#include <linux/fs.h>
#include <pthread.h>

#include "engine/base/error.h"
#include "fuse/fs_atime.h"
#include "tests/lib/fs_fixture.h"

#define LONG_AGO 1000000000

static int compare(struct timespec a, struct timespec b)
{
    if (a.tv_sec != b.tv_sec)
        return a.tv_sec < b.tv_sec ? -1 : 1;
    return (a.tv_nsec > b.tv_nsec) - (a.tv_nsec < b.tv_nsec);
}

static struct timespec atime_of(struct fs_fixture *fixture, uint64_t node)
{
    return fs_fixture_attribute(fixture, node).atime;
}

static void read_with(struct fs_fixture *fixture, uint64_t node, uint64_t handle)
{
    char data[64];

    assert_true(fs_read(fixture->fs, node, handle, data, sizeof data, 0) >= 0);
}

static void set_times(struct fs_fixture *fixture, uint64_t node, time_t atime, time_t mtime)
{
    const struct fs_setattr change = {
        .mask = FS_SETATTR_ATIME | FS_SETATTR_MTIME | FS_SETATTR_CTIME,
        .atime = {.tv_sec = atime},
        .mtime = {.tv_sec = mtime},
        .ctime = {.tv_sec = mtime},
    };
    struct fs_entry entry;

    assert_int_equal(fs_setattr(fixture->fs, node, &change, &fs_fixture_root, &entry), 0);
    assert_int_equal(entry.attribute.atime.tv_sec, atime);
}

static void expect_moves(struct fs_fixture *fixture, uint64_t node, bool moves)
{
    struct timespec before = atime_of(fixture, node);

    read_with(fixture, node, 0);
    assert_int_equal(compare(atime_of(fixture, node), before) > 0, moves);
}

/* Is the time of reading in the store, and not in memory only? */
static bool is_recorded(struct fs_fixture *fixture, uint64_t ino)
{
    struct engine_view *view = engine_view_acquire(fixture->engine);
    struct buffer value = {0};
    struct fs_key key;
    int found;

    fs_key_atime(&key, ino);
    found = engine_view_get(view, fs_key_slice(&key), &value, NULL);
    buffer_free(&value);
    engine_view_release(view);
    assert_true(found >= 0);
    return found == 1;
}

static void fsync_makes_the_time_of_reading_durable_and_fdatasync_does_not(void **state)
{
    struct fs_fixture *fixture = *state;
    uint64_t file = fs_fixture_file(fixture, FS_ROOT, "f");

    expect_moves(fixture, file, true);
    assert_int_equal(fs_fsync(fixture->fs, file, true), 0);
    assert_false(is_recorded(fixture, file));
    assert_int_equal(fs_fsync(fixture->fs, file, false), 0);
    assert_true(is_recorded(fixture, file));
}

/* ---- the rules ---- */

static void the_first_reading_after_a_change_counts_and_one_a_day(void **state)
{
    struct fs_fixture *fixture = *state;
    uint64_t file = fs_fixture_file(fixture, FS_ROOT, "f");
    time_t now = fs_now().tv_sec;

    expect_moves(fixture, file, true);
    expect_moves(fixture, file, false);
    fs_fixture_write(fixture, file, "changed");
    expect_moves(fixture, file, true);
    expect_moves(fixture, file, false);
    set_times(fixture, file, now - 86300, now - 90000);
    expect_moves(fixture, file, false);
    set_times(fixture, file, now - 86400, now - 90000);
    expect_moves(fixture, file, true);
    expect_moves(fixture, file, false);
}

static void strictly_each_reading_counts_and_without_it_none(void **state)
{
    struct fs_fixture *fixture = *state;
    uint64_t file = fs_fixture_file(fixture, FS_ROOT, "f");

    fs_set_atime(fixture->fs, FS_ATIME_NONE);
    expect_moves(fixture, file, false);
    fs_set_atime(fixture->fs, FS_ATIME_STRICT);
    expect_moves(fixture, file, true);
    expect_moves(fixture, file, true);
    fs_set_atime(fixture->fs, FS_ATIME_NONE);
    expect_moves(fixture, file, false);
}

static void a_handle_and_a_flag_keep_the_time(void **state)
{
    struct fs_fixture *fixture = *state;
    uint64_t file = fs_fixture_file(fixture, FS_ROOT, "f"), handle;
    struct timespec before = atime_of(fixture, file);

    assert_int_equal(fs_open_file(fixture->fs, file, true, &handle), 0);
    read_with(fixture, file, handle | FS_HANDLE_NO_ATIME);
    read_with(fixture, file, FS_HANDLE_NO_ATIME);
    fs_release_file(fixture->fs, file, handle);
    assert_int_equal(fs_set_flags(fixture->fs, file, FS_NOATIME_FL, NULL, &fs_fixture_root), 0);
    read_with(fixture, file, 0);
    assert_int_equal(compare(atime_of(fixture, file), before), 0);
    assert_int_equal(fs_set_flags(fixture->fs, file, 0, NULL, &fs_fixture_root), 0);
    expect_moves(fixture, file, true);
}

static int take_all(void *context, const struct fs_directory_entry *entry)
{
    (void)context;
    (void)entry;
    return 0;
}

static void list(struct fs_fixture *fixture, uint64_t node)
{
    struct fs_directory *directory;

    assert_int_equal(fs_directory_open(fixture->fs, node, &directory), 0);
    assert_int_equal(fs_readdir(directory, 0, false, take_all, NULL), 0);
    fs_directory_close(directory);
}

static void directories_and_symbolic_links_are_read_too(void **state)
{
    struct fs_fixture *fixture = *state;
    uint64_t directory = fs_fixture_directory(fixture, FS_ROOT, "d");
    struct timespec before = atime_of(fixture, directory);
    struct buffer target = {0};
    struct fs_entry link;

    fs_set_atime(fixture->fs, FS_ATIME_STRICT | FS_ATIME_NO_DIRECTORIES);
    list(fixture, directory);
    assert_int_equal(compare(atime_of(fixture, directory), before), 0);
    fs_set_atime(fixture->fs, FS_ATIME_RELATIVE);
    list(fixture, directory);
    assert_true(compare(atime_of(fixture, directory), before) > 0);

    assert_int_equal(fs_symlink(fixture->fs, FS_ROOT, "l", "to", &fs_fixture_root, &link), 0);
    assert_int_equal(fs_readlink(fixture->fs, link.attribute.node, &target), 0);
    assert_true(compare(atime_of(fixture, link.attribute.node), link.attribute.atime) > 0);
    buffer_free(&target);
}

static void opening_counts_where_the_kernel_may_read_from_memory(void **state)
{
    struct fs_fixture *fixture = *state;
    uint64_t old = fs_fixture_file(fixture, FS_ROOT, "old"), file;

    set_times(fixture, old, LONG_AGO, LONG_AGO);
    fs_fixture_reopen(fixture);
    old = fs_fixture_hold(fixture, FS_ROOT, "old");
    /* Nothing of it can be in memory yet: the reading will be told. */
    assert_false(fs_opened_for_reading(fixture->fs, old, 0));
    expect_moves(fixture, old, true);

    file = fs_fixture_file(fixture, FS_ROOT, "new");
    assert_true(fs_opened_for_reading(fixture->fs, file, 0));
    assert_false(fs_opened_for_reading(fixture->fs, file, 0));
    expect_moves(fixture, file, false);
}

static bool open_counts(struct fs_fixture *fixture, uint64_t file)
{
    uint64_t handle;
    bool counts;

    assert_int_equal(fs_open_file(fixture->fs, file, false, &handle), 0);
    counts = fs_opened_for_reading(fixture->fs, file, handle);
    fs_release_file(fixture->fs, file, handle);
    return counts;
}

/* What the kernel has just met, or has forgotten in between, it has to ask for. */
static void the_first_opening_does_not_count_but_of_an_empty_file(void **state)
{
    struct fs_fixture *fixture = *state;
    uint64_t file = fs_fixture_file(fixture, FS_ROOT, "file");
    uint64_t empty = fs_fixture_file(fixture, FS_ROOT, "empty");

    fs_fixture_write(fixture, file, "text");
    assert_false(open_counts(fixture, file));
    assert_true(open_counts(fixture, file)); /* another may have read it meanwhile */
    assert_false(open_counts(fixture, file));
    assert_true(open_counts(fixture, empty)); /* no READ will be sent */

    fs_fixture_write(fixture, file, "more");
    fs_forget(fixture->fs, file, UINT64_MAX);
    file = fs_fixture_hold(fixture, FS_ROOT, "file");
    assert_false(open_counts(fixture, file));
    expect_moves(fixture, file, true);
}

/* ---- where it is kept ---- */

static void it_survives_a_remount_and_is_replaced_by_hand(void **state)
{
    struct fs_fixture *fixture = *state;
    uint64_t file = fs_fixture_file(fixture, FS_ROOT, "f");
    struct timespec read_at;

    read_with(fixture, file, 0);
    read_at = atime_of(fixture, file);
    fs_fixture_reopen(fixture);
    file = fs_fixture_hold(fixture, FS_ROOT, "f");
    assert_int_equal(compare(atime_of(fixture, file), read_at), 0);

    set_times(fixture, file, LONG_AGO, LONG_AGO - 1);
    assert_int_equal(atime_of(fixture, file).tv_sec, LONG_AGO);
    fs_fixture_reopen(fixture);
    file = fs_fixture_hold(fixture, FS_ROOT, "f");
    assert_int_equal(atime_of(fixture, file).tv_sec, LONG_AGO);
}

static bool has_record(struct fs_fixture *fixture, uint64_t ino)
{
    struct engine_view *view = engine_view_acquire(fixture->engine);
    struct buffer value = {0};
    struct fs_key key;
    int found;

    fs_key_atime(&key, ino);
    found = engine_view_get(view, fs_key_slice(&key), &value, NULL);
    engine_view_release(view);
    buffer_free(&value);
    assert_true(found >= 0);
    return found > 0;
}

static void it_goes_with_the_file(void **state)
{
    struct fs_fixture *fixture = *state;
    uint64_t written = fs_fixture_file(fixture, FS_ROOT, "written");
    uint64_t waiting = fs_fixture_file(fixture, FS_ROOT, "waiting");

    read_with(fixture, written, 0);
    assert_int_equal(fs_atime_flush(fixture->fs), 0);
    assert_true(has_record(fixture, written));
    read_with(fixture, waiting, 0);
    assert_int_equal(fs_unlink(fixture->fs, FS_ROOT, "written", &fs_fixture_root), 0);
    assert_int_equal(fs_unlink(fixture->fs, FS_ROOT, "waiting", &fs_fixture_root), 0);
    fs_forget(fixture->fs, written, 1);
    fs_forget(fixture->fs, waiting, 1);
    assert_int_equal(fs_atime_flush(fixture->fs), 0);
    assert_false(has_record(fixture, written));
    assert_false(has_record(fixture, waiting));
}

/* More files than one page and one batch hold; read in an order of no pattern. */
#define FILES 2500

static void many_are_kept(void **state)
{
    struct fs_fixture *fixture = *state;
    static uint64_t nodes[FILES];
    static struct timespec times[FILES];
    char name[16];

    for (unsigned i = 0; i < FILES; i++) {
        (void)snprintf(name, sizeof name, "%u", i);
        nodes[i] = fs_fixture_file(fixture, FS_ROOT, name);
    }
    for (unsigned i = 0; i < FILES; i++)
        read_with(fixture, nodes[i * 7919 % FILES], 0);
    for (unsigned i = 0; i < FILES; i++)
        times[i] = atime_of(fixture, nodes[i]);
    fs_fixture_reopen(fixture);
    for (unsigned i = 0; i < FILES; i++) {
        (void)snprintf(name, sizeof name, "%u", i);
        nodes[i] = fs_fixture_hold(fixture, FS_ROOT, name);
        assert_int_equal(compare(atime_of(fixture, nodes[i]), times[i]), 0);
    }
    for (unsigned i = 0; i < FILES; i++)
        assert_true(has_record(fixture, nodes[i]));
}

/* ---- what it leaves alone ---- */

static uint64_t node_in(struct fs_fixture *fixture, const char *snapshot, const char *name)
{
    uint64_t directory = fs_fixture_hold(fixture, FS_ROOT, ".snapshots");

    directory = fs_fixture_hold(fixture, directory, snapshot);
    return fs_fixture_hold(fixture, directory, name);
}

static void take_snapshot(struct fs_fixture *fixture, const char *name)
{
    uint64_t directory = fs_fixture_hold(fixture, FS_ROOT, ".snapshots");
    struct fs_entry entry;

    assert_int_equal(fs_mkdir(fixture->fs, directory, name, 0755, &fs_fixture_root, &entry), 0);
}

static void a_file_that_was_only_read_is_the_same_file_in_snapshots(void **state)
{
    struct fs_fixture *fixture = *state;
    uint64_t file = fs_fixture_file(fixture, FS_ROOT, "f"), one, two;
    struct timespec made = atime_of(fixture, file), read_at;

    take_snapshot(fixture, "one");
    read_with(fixture, file, 0);
    assert_int_equal(fs_atime_flush(fixture->fs), 0);
    take_snapshot(fixture, "two");
    one = node_in(fixture, "one", "f");
    two = node_in(fixture, "two", "f");
    assert_int_equal(one, two);
    assert_int_equal(fs_fixture_attribute(fixture, two).nlink, 2);
    /* One inode has one time: that of its last change. Reading there is no access. */
    assert_int_equal(compare(atime_of(fixture, two), made), 0);
    read_with(fixture, two, 0);
    assert_int_equal(compare(atime_of(fixture, two), made), 0);
    read_at = atime_of(fixture, file);
    assert_true(compare(read_at, made) > 0);
}

static void notified(void *context, uint64_t node)
{
    (void)context;
    (void)node;
}

static void a_rollback_takes_the_times_back(void **state)
{
    struct fs_fixture *fixture = *state;
    const struct fs_notify notify = {.inode = notified};
    uint64_t kept = fs_fixture_file(fixture, FS_ROOT, "kept");
    char before[SNAPSHOT_NAME_SIZE_MAX + 1];
    struct timespec first;

    read_with(fixture, kept, 0);
    first = atime_of(fixture, kept);
    assert_int_equal(fs_atime_flush(fixture->fs), 0);
    take_snapshot(fixture, "s");
    fs_fixture_write(fixture, kept, "changed");
    read_with(fixture, kept, 0);
    assert_true(compare(atime_of(fixture, kept), first) > 0);
    assert_int_equal(fs_rollback(fixture->fs, "s", &notify, before), 0);
    assert_int_equal(compare(atime_of(fixture, kept), first), 0);
}

/* ---- several at once ---- */

#define ROUNDS 2000

struct player {
    struct fs_fixture *fixture;
    uint64_t *nodes;
};

static void *keep_reading(void *context)
{
    const struct player *player = context;

    for (unsigned i = 0; i < ROUNDS; i++)
        read_with(player->fixture, player->nodes[i % 8], 0);
    return NULL;
}

static void *keep_flushing(void *context)
{
    const struct player *player = context;

    for (unsigned i = 0; i < ROUNDS / 4; i++)
        assert_int_equal(fs_atime_flush(player->fixture->fs), 0);
    return NULL;
}

/* A time that is set by hand is not overtaken by one that was noted before it. */
static void what_is_set_by_hand_stays_while_others_are_written(void **state)
{
    struct fs_fixture *fixture = *state;
    uint64_t nodes[8], own = fs_fixture_file(fixture, FS_ROOT, "own");
    struct player player = {fixture, nodes};
    pthread_t reader, flusher;
    char name[2] = "a";

    fs_set_atime(fixture->fs, FS_ATIME_STRICT);
    for (unsigned i = 0; i < 8; i++, name[0]++)
        nodes[i] = fs_fixture_file(fixture, FS_ROOT, name);
    assert_int_equal(pthread_create(&reader, NULL, keep_reading, &player), 0);
    assert_int_equal(pthread_create(&flusher, NULL, keep_flushing, &player), 0);
    for (unsigned i = 0; i < ROUNDS; i++) {
        read_with(fixture, own, 0);
        set_times(fixture, own, LONG_AGO + i, LONG_AGO);
        assert_int_equal(atime_of(fixture, own).tv_sec, LONG_AGO + i);
    }
    (void)pthread_join(reader, NULL);
    (void)pthread_join(flusher, NULL);
    assert_int_equal(fs_atime_flush(fixture->fs), 0);
    fs_fixture_reopen(fixture);
    own = fs_fixture_hold(fixture, FS_ROOT, "own");
    assert_int_equal(atime_of(fixture, own).tv_sec, LONG_AGO + ROUNDS - 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FS_FIXTURE_TEST(the_first_reading_after_a_change_counts_and_one_a_day),
        FS_FIXTURE_TEST(fsync_makes_the_time_of_reading_durable_and_fdatasync_does_not),
        FS_FIXTURE_TEST(strictly_each_reading_counts_and_without_it_none),
        FS_FIXTURE_TEST(a_handle_and_a_flag_keep_the_time),
        FS_FIXTURE_TEST(directories_and_symbolic_links_are_read_too),
        FS_FIXTURE_TEST(opening_counts_where_the_kernel_may_read_from_memory),
        FS_FIXTURE_TEST(the_first_opening_does_not_count_but_of_an_empty_file),
        FS_FIXTURE_TEST(it_survives_a_remount_and_is_replaced_by_hand),
        FS_FIXTURE_TEST(it_goes_with_the_file),
        FS_FIXTURE_TEST(many_are_kept),
        FS_FIXTURE_TEST(a_file_that_was_only_read_is_the_same_file_in_snapshots),
        FS_FIXTURE_TEST(a_rollback_takes_the_times_back),
        FS_FIXTURE_TEST(what_is_set_by_hand_stays_while_others_are_written),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
