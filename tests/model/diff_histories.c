/* SPDX-License-Identifier: Apache-2.0 */
/*
 * diff_histories.c - in random histories the difference of any two snapshots is what a walk of both
 * trees finds
 *
 * A history has a store of its own. Files and directories come, go and move, are linked, written to,
 * cut, given other modes, owners and attributes, and restored out of snapshots; memtables become
 * tables, tables are merged, the store is opened anew, rolled back, and goes on as a clone of itself.
 * After each snapshot pairs of snapshots are compared, both ways, and one of them with the live tree.
 *
 * VARVE_HISTORIES sets how many, VARVE_TEST_SEED repeats them; a failing one names its own seed.
 */
#include <sys/xattr.h>

#include "engine/engine_clone.h"
#include "tests/lib/diff_walk.h"
#include "tests/lib/fs_play.h"

#define HISTORIES_DEFAULT 40
#define SNAPSHOTS_MAX     10
#define FILE_SIZE         300000

struct history {
    struct fs_fixture *fixture;
    struct fs_play play;
    char names[SNAPSHOTS_MAX][SNAPSHOT_NAME_SIZE_MAX + 1];
    size_t count;
    unsigned made, clones;
};

static uint64_t present_seed; /* of the history at hand */
static uint64_t pairs, entries;

static uint64_t below(struct history *history, uint64_t limit)
{
    return seed_below(&history->play.random, limit);
}

/* ---- finding ---- */

/* A random name's node: not held. */
static bool find_some(struct history *history, struct fs_entry *ret_entry)
{
    return fs_fixture_find(history->fixture, fs_play_directory(&history->play),
                           fs_play_name(&history->play), ret_entry) == 0;
}

static bool find_file(struct history *history, struct fs_entry *ret_entry)
{
    for (int i = 0; i < 8; i++)
        if (find_some(history, ret_entry) && S_ISREG(ret_entry->attribute.mode))
            return true;
    return false;
}

struct directories {
    struct history *history;
    uint64_t nodes[64];
    size_t count;
};

static int take_directory(void *context, const struct fs_directory_entry *entry)
{
    struct directories *directories = context;
    char name[256];

    if (!S_ISDIR(entry->type) || entry->name[0] == '.' || directories->count == 64)
        return 0;
    memcpy(name, entry->name, entry->name_size);
    name[entry->name_size] = '\0';
    directories->nodes[directories->count++] = entry->number;
    return 0;
}

/* What directories the live tree has, after it became another one. */
static void find_directories(struct history *history, uint64_t node)
{
    struct fs_play *play = &history->play;
    struct directories found = {.history = history};
    struct fs_directory *directory;

    assert_int_equal(fs_directory_open(history->fixture->fs, node, &directory), 0);
    assert_int_equal(fs_readdir(directory, 0, false, take_directory, &found), 0);
    fs_directory_close(directory);
    for (size_t i = 0; i < found.count && play->count < FS_PLAY_DIRECTORIES_MAX; i++) {
        play->directories[play->count++] = found.nodes[i];
        find_directories(history, found.nodes[i]);
    }
}

static void find_all_directories(struct history *history)
{
    history->play.directories[0] = FS_ROOT;
    history->play.count = 1;
    find_directories(history, FS_ROOT);
}

/* ---- changes beside those of fs_play.h ---- */

static void write_large(struct history *history)
{
    size_t size = 1 + below(history, FILE_SIZE / 2);
    uint64_t offset = below(history, FILE_SIZE / 2);
    struct fs_entry entry;
    uint8_t *data;

    if (!find_file(history, &entry))
        return;
    data = malloc(size);
    for (size_t i = 0; i < size; i += 8)
        memcpy(data + i, &(uint64_t){seed_next(&history->play.random)},
               size - i < 8 ? size - i : 8);
    assert_int_equal(
        fs_write(history->fixture->fs, entry.attribute.node, data, size, offset, false, false),
        (int64_t)size);
    free(data);
}

/* So many pieces that cutting them is one range tombstone. */
static void write_pieces(struct history *history)
{
    uint64_t stride = 2000 + below(history, 3000), pieces = 20 + below(history, 40);
    struct fs_entry entry;

    if (!find_file(history, &entry))
        return;
    for (uint64_t i = 0; i < pieces; i++)
        assert_int_equal(fs_write(history->fixture->fs, entry.attribute.node, "piece", 5,
                                  i * stride, false, false),
                         5);
}

static void truncate_file(struct history *history)
{
    struct fs_setattr change = {.mask = FS_SETATTR_SIZE, .size_bytes = below(history, FILE_SIZE)};
    struct fs_entry entry;

    if (below(history, 3) == 0)
        change.size_bytes = 0;
    if (find_file(history, &entry))
        assert_int_equal(fs_setattr(history->fixture->fs, entry.attribute.node, &change,
                                    &fs_fixture_root, &entry),
                         0);
}

static void punch(struct history *history)
{
    struct fs_entry entry;

    if (find_file(history, &entry))
        (void)fs_fallocate(history->fixture->fs, entry.attribute.node, 3 /* keep size, punch */,
                           below(history, FILE_SIZE), 1 + below(history, FILE_SIZE));
}

static void set_owner_or_times(struct history *history)
{
    struct fs_setattr change = {.uid = (uid_t)below(history, 3), .gid = (gid_t)below(history, 3)};
    struct fs_entry entry;

    change.mtime.tv_sec = (time_t)below(history, 1000000);
    change.mask = below(history, 2) == 0 ? FS_SETATTR_UID | FS_SETATTR_GID : FS_SETATTR_MTIME;
    if (find_some(history, &entry))
        assert_int_equal(fs_setattr(history->fixture->fs, entry.attribute.node, &change,
                                    &fs_fixture_root, &entry),
                         0);
}

static void remove_xattr_or_set_flags(struct history *history)
{
    struct fs *fs = history->fixture->fs;
    struct fs_entry entry;

    if (!find_some(history, &entry))
        return;
    if (below(history, 2) == 0)
        (void)fs_removexattr(fs, entry.attribute.node, "user.x", &fs_fixture_root);
    else /* nodump */
        (void)fs_set_flags(fs, entry.attribute.node, below(history, 2) == 0 ? 0x40 : 0, NULL,
                           &fs_fixture_root);
}

/* Of a file of a snapshot, or of a live one. */
static void restore(struct history *history)
{
    struct fs *fs = history->fixture->fs;
    uint64_t from = fs_play_directory(&history->play), snapdir, past, length;
    struct fs_entry entry, target;

    if (!find_file(history, &target))
        return;
    if (history->count > 0 && below(history, 3) > 0) {
        snapdir = fs_fixture_hold(history->fixture, FS_ROOT, ".snapshots");
        past = fs_fixture_hold(history->fixture, snapdir,
                               history->names[below(history, history->count)]);
        from = past;
    }
    if (fs_fixture_find(history->fixture, from, fs_play_name(&history->play), &entry) < 0 ||
        !S_ISREG(entry.attribute.mode))
        return;
    length = 1 + below(history, FILE_SIZE);
    (void)fs_copy_range(fs, entry.attribute.node, 0, below(history, 2) * 4096,
                        target.attribute.node, 0, length);
}

/* A name of a directory that leads into another: whole trees move. */
static void move_directory(struct history *history)
{
    uint64_t parent = fs_play_directory(&history->play), other = fs_play_directory(&history->play);
    const char *name = fs_play_name(&history->play);
    struct fs_entry entry;

    if (fs_fixture_find(history->fixture, parent, name, &entry) == 0 &&
        S_ISDIR(entry.attribute.mode))
        (void)fs_rename(history->fixture->fs, parent, name, other, fs_play_name(&history->play),
                        1 /* no replacing */, &fs_fixture_root);
}

static void change(struct history *history)
{
    static void (*const changes[])(struct history *) = {
        write_large, write_pieces, write_pieces,       truncate_file,
        punch,       punch,        set_owner_or_times, remove_xattr_or_set_flags,
        restore,     restore,      move_directory,     move_directory,
    };

    if (below(history, 3) > 0)
        fs_play_once(&history->play);
    else
        changes[below(history, sizeof changes / sizeof changes[0])](history);
}

/* ---- changes of the store ---- */

static void reopen(struct history *history)
{
    fs_fixture_reopen(history->fixture);
    find_all_directories(history); /* a file that was only held open is gone */
}

static void roll_back(struct history *history)
{
    const struct fs_notify quiet = {.entry = NULL};

    if (history->count == 0 || history->count == SNAPSHOTS_MAX)
        return;
    assert_int_equal(fs_rollback(history->fixture->fs,
                                 history->names[below(history, history->count)], &quiet,
                                 history->names[history->count]),
                     0);
    history->count++;
    find_all_directories(history);
}

/* The history goes on in a store that was made of one of its snapshots. */
static void continue_as_clone(struct history *history)
{
    struct fs_fixture *fixture = history->fixture;
    struct engine_clone_options options = {.io = fixture->io};
    struct engine_clone_result result;
    struct snapshot *snapshot;
    char name[32], *checkpoints, *checkpoint, *path;

    if (history->count == 0)
        return;
    snapshot = snapshot_find(fs_snapshots(fixture->fs),
                             slice_of_string(history->names[history->count - 1]));
    assert_int_equal(snapshot_wait(fs_snapshots(fixture->fs), snapshot), 0);
    snapshot_unref(snapshot);
    fs_fixture_close(fixture);
    snprintf(name, sizeof name, "clone-%u", ++history->clones);
    path = test_path(fixture->directory, name);
    checkpoints = test_path(fixture->path, "checkpoints");
    checkpoint = test_path(checkpoints, history->names[history->count - 1]);
    options.path = path;
    options.checkpoint = checkpoint;
    assert_int_equal(engine_clone(&options, &result), 0);
    free(checkpoint);
    free(checkpoints);
    free(fixture->path);
    fixture->path = path;
    fixture->engine_options.path = path;
    fs_fixture_open(fixture);
    history->count = 0;
    find_all_directories(history);
}

static void delete_one(struct history *history)
{
    size_t at;

    if (history->count < 2)
        return;
    at = below(history, history->count);
    assert_int_equal(fs_snapshot_delete(history->fixture->fs, history->names[at]), 0);
    history->count--;
    memmove(history->names[at], history->names[at + 1],
            (history->count - at) * sizeof history->names[0]);
}

static void change_store(struct history *history)
{
    switch (below(history, 24)) {
    case 0:
    case 1:
        reopen(history);
        break;
    case 2:
    case 3:
        roll_back(history);
        break;
    case 4:
        continue_as_clone(history);
        break;
    case 5:
    case 6:
        delete_one(history);
        break;
    case 7:
    case 8:
    case 9:
        assert_int_equal(engine_compact(history->fixture->engine), 0);
        break;
    case 10:
    case 11:
    case 12:
    case 13:
    case 14:
        assert_int_equal(engine_flush(history->fixture->engine), 0);
        break;
    default:
        break;
    }
}

/* ---- comparing ---- */

static struct snapshot *view_of(struct history *history, size_t index,
                                struct engine_view **ret_view)
{
    struct snapshot *snapshot =
        snapshot_find(fs_snapshots(history->fixture->fs), slice_of_string(history->names[index]));

    assert_non_null(snapshot);
    assert_int_equal(snapshot_view_get(snapshot, ret_view), 0);
    return snapshot;
}

static void check_both_ways(struct engine_view *before, struct engine_view *after)
{
    entries += diff_walk_check(before, after);
    entries += diff_walk_check(after, before);
    pairs += 2;
}

static void compare_some(struct history *history)
{
    struct engine_view *before, *after;
    struct snapshot *one, *other;

    for (int i = 0; i < 4 && history->count > 1; i++) {
        one = view_of(history, below(history, history->count), &before);
        other = view_of(history, below(history, history->count), &after);
        check_both_ways(before, after);
        snapshot_view_put(one, before);
        snapshot_view_put(other, after);
        snapshot_unref(one);
        snapshot_unref(other);
    }
    for (uint64_t i = below(history, 6); i > 0; i--)
        change(history);
    one = view_of(history, below(history, history->count), &before);
    after = engine_view_acquire(history->fixture->engine);
    assert_non_null(after);
    check_both_ways(before, after);
    engine_view_release(after);
    snapshot_view_put(one, before);
    snapshot_unref(one);
}

static void take_snapshot(struct history *history)
{
    struct snapshot *snapshot;
    char *name = history->names[history->count];

    snprintf(name, sizeof history->names[0], "s%u", history->made++);
    assert_int_equal(snapshot_create(fs_snapshots(history->fixture->fs), slice_of_string(name),
                                     NULL, 0, &snapshot),
                     0);
    if (below(history, 3) == 0)
        assert_int_equal(snapshot_wait(fs_snapshots(history->fixture->fs), snapshot), 0);
    snapshot_unref(snapshot);
    history->count++;
}

/* ---- a history ---- */

static void run_history(void)
{
    struct history history = {.play = {.random = present_seed}};
    uint64_t rounds;
    void *state;

    assert_int_equal(fs_fixture_setup(&state), 0);
    history.fixture = history.play.fixture = state;
    history.play.directories[0] = FS_ROOT;
    history.play.count = 1;
    rounds = 2 + below(&history, SNAPSHOTS_MAX - 3);
    for (uint64_t round = 0; round < rounds; round++) {
        for (uint64_t i = below(&history, below(&history, 4) == 0 ? 400 : 80); i > 0; i--)
            change(&history);
        change_store(&history);
        if (history.count < SNAPSHOTS_MAX)
            take_snapshot(&history);
        change_store(&history);
        if (history.count > 0)
            compare_some(&history);
    }
    assert_int_equal(fs_fixture_teardown(&state), 0); /* with fsck */
}

static void each_difference_is_what_a_walk_of_both_trees_finds(void **state)
{
    const char *wanted = getenv("VARVE_HISTORIES");
    uint64_t count = wanted != NULL ? strtoull(wanted, NULL, 0) : HISTORIES_DEFAULT;
    uint64_t seed = seed_start("diff_histories");

    (void)state;
    for (uint64_t i = 0; i < count; i++) {
        present_seed = seed + i;
        run_history();
    }
    present_seed = 0;
    fprintf(stderr, "%llu histories, %llu differences with %llu entries\n",
            (unsigned long long)count, (unsigned long long)pairs, (unsigned long long)entries);
    assert_true(count < 10 || entries > count * 20);
}

static int name_the_failing_one(void **state)
{
    (void)state;
    if (present_seed != 0)
        fprintf(stderr, "repeat it with VARVE_TEST_SEED=%llu VARVE_HISTORIES=1\n",
                (unsigned long long)present_seed);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(each_difference_is_what_a_walk_of_both_trees_finds,
                                  name_the_failing_one),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
