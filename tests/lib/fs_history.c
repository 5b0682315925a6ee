/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fs_history.c - random histories of a filesystem
 */
#include "tests/lib/fs_history.h"

#include "engine/engine_clone.h"

#define FILE_SIZE 300000

/* ---- finding ---- */

/* A random name's node: not held. */
static bool find_some(struct fs_history *history, struct fs_entry *ret_entry)
{
    return fs_fixture_find(history->fixture, fs_play_directory(&history->play),
                           fs_play_name(&history->play), ret_entry) == 0;
}

static bool find_file(struct fs_history *history, struct fs_entry *ret_entry)
{
    for (int i = 0; i < 8; i++)
        if (find_some(history, ret_entry) && S_ISREG(ret_entry->attribute.mode))
            return true;
    return false;
}

struct directories {
    struct fs_history *history;
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
static void find_directories(struct fs_history *history, uint64_t node)
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

static void find_all_directories(struct fs_history *history)
{
    history->play.directories[0] = FS_ROOT;
    history->play.count = 1;
    find_directories(history, FS_ROOT);
}

/* ---- changes beside those of fs_play.h ---- */

static void write_large(struct fs_history *history)
{
    size_t size = 1 + fs_history_below(history, FILE_SIZE / 2);
    uint64_t offset = fs_history_below(history, FILE_SIZE / 2);
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
static void write_pieces(struct fs_history *history)
{
    uint64_t stride = 2000 + fs_history_below(history, 3000),
             pieces = 20 + fs_history_below(history, 40);
    struct fs_entry entry;

    if (!find_file(history, &entry))
        return;
    for (uint64_t i = 0; i < pieces; i++)
        assert_int_equal(fs_write(history->fixture->fs, entry.attribute.node, "piece", 5,
                                  i * stride, false, false),
                         5);
}

static void truncate_file(struct fs_history *history)
{
    struct fs_setattr change = {.mask = FS_SETATTR_SIZE,
                                .size_bytes = fs_history_below(history, FILE_SIZE)};
    struct fs_entry entry;

    if (fs_history_below(history, 3) == 0)
        change.size_bytes = 0;
    if (find_file(history, &entry))
        assert_int_equal(fs_setattr(history->fixture->fs, entry.attribute.node, &change,
                                    &fs_fixture_root, &entry),
                         0);
}

static void punch(struct fs_history *history)
{
    struct fs_entry entry;

    if (find_file(history, &entry))
        (void)fs_fallocate(history->fixture->fs, entry.attribute.node, 3 /* keep size, punch */,
                           fs_history_below(history, FILE_SIZE),
                           1 + fs_history_below(history, FILE_SIZE));
}

static void set_owner_or_times(struct fs_history *history)
{
    struct fs_setattr change = {.uid = (uid_t)fs_history_below(history, 3),
                                .gid = (gid_t)fs_history_below(history, 3)};
    struct fs_entry entry;

    change.mtime.tv_sec = (time_t)fs_history_below(history, 1000000);
    change.mask =
        fs_history_below(history, 2) == 0 ? FS_SETATTR_UID | FS_SETATTR_GID : FS_SETATTR_MTIME;
    if (find_some(history, &entry))
        assert_int_equal(fs_setattr(history->fixture->fs, entry.attribute.node, &change,
                                    &fs_fixture_root, &entry),
                         0);
}

static void remove_xattr_or_set_flags(struct fs_history *history)
{
    struct fs *fs = history->fixture->fs;
    struct fs_entry entry;

    if (!find_some(history, &entry))
        return;
    if (fs_history_below(history, 2) == 0)
        (void)fs_removexattr(fs, entry.attribute.node, "user.x", &fs_fixture_root);
    else /* nodump */
        (void)fs_set_flags(fs, entry.attribute.node, fs_history_below(history, 2) == 0 ? 0x40 : 0,
                           NULL, &fs_fixture_root);
}

/* Copy some of a file in the directory `from`. */
static void copy_from(struct fs_history *history, uint64_t from, uint64_t target)
{
    struct fs *fs = history->fixture->fs;
    struct fs_entry entry;

    if (fs_lookup(fs, from, fs_play_name(&history->play), &entry) < 0)
        return;
    if (S_ISREG(entry.attribute.mode))
        (void)fs_copy_range(fs, entry.attribute.node, 0, fs_history_below(history, 2) * 4096,
                            target, 0, 1 + fs_history_below(history, FILE_SIZE));
    fs_forget(fs, entry.attribute.node, 1);
}

/* Of a file of a snapshot, or of a live one. What is looked up in a snapshot is given back, or its
 * files would stay when it is deleted. */
static void restore(struct fs_history *history)
{
    struct fs *fs = history->fixture->fs;
    struct fs_entry target;
    uint64_t snapdir, past;

    if (!find_file(history, &target))
        return;
    if (history->count == 0 || fs_history_below(history, 3) == 0) {
        copy_from(history, fs_play_directory(&history->play), target.attribute.node);
        return;
    }
    snapdir = fs_fixture_hold(history->fixture, FS_ROOT, ".snapshots");
    past = fs_fixture_hold(history->fixture, snapdir,
                           history->names[fs_history_below(history, history->count)]);
    copy_from(history, past, target.attribute.node);
    fs_forget(fs, past, 1);
    fs_forget(fs, snapdir, 1);
}

/* A name of a directory that leads into another: whole trees move. */
static void move_directory(struct fs_history *history)
{
    uint64_t parent = fs_play_directory(&history->play), other = fs_play_directory(&history->play);
    const char *name = fs_play_name(&history->play);
    struct fs_entry entry;

    if (fs_fixture_find(history->fixture, parent, name, &entry) == 0 &&
        S_ISDIR(entry.attribute.mode))
        (void)fs_rename(history->fixture->fs, parent, name, other, fs_play_name(&history->play),
                        1 /* no replacing */, &fs_fixture_root);
}

void fs_history_change(struct fs_history *history)
{
    static void (*const changes[])(struct fs_history *) = {
        write_large, write_pieces, write_pieces,       truncate_file,
        punch,       punch,        set_owner_or_times, remove_xattr_or_set_flags,
        restore,     restore,      move_directory,     move_directory,
    };

    if (fs_history_below(history, 3) > 0)
        fs_play_once(&history->play);
    else
        changes[fs_history_below(history, sizeof changes / sizeof changes[0])](history);
}

/* ---- changes of the store ---- */

void fs_history_reopen(struct fs_history *history)
{
    fs_fixture_reopen(history->fixture);
    find_all_directories(history); /* a file that was only held open is gone */
}

static void roll_back(struct fs_history *history)
{
    const struct fs_notify quiet = {.entry = NULL};

    if (history->count == 0 || history->count == FS_HISTORY_SNAPSHOTS_MAX)
        return;
    assert_int_equal(fs_rollback(history->fixture->fs,
                                 history->names[fs_history_below(history, history->count)], &quiet,
                                 history->names[history->count]),
                     0);
    history->count++;
    find_all_directories(history);
}

/* The history goes on in a store that was made of one of its snapshots. */
static void continue_as_clone(struct fs_history *history)
{
    struct fs_fixture *fixture = history->fixture;
    struct engine_clone_options options = {.io = fixture->io};
    struct engine_clone_result result;
    struct snapshot *snapshot;
    char name[FS_HISTORY_STORE_NAME_SIZE], *checkpoints, *checkpoint, *path;

    if (history->count == 0)
        return;
    snapshot = fs_history_find(history, history->count - 1);
    assert_int_equal(snapshot_wait(fs_snapshots(fixture->fs), snapshot), 0);
    snapshot_unref(snapshot);
    fs_fixture_close(fixture);
    fs_history_store_name(++history->clones, name);
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

struct snapshot *fs_history_find(struct fs_history *history, size_t at)
{
    struct snapshot *snapshot =
        snapshot_find(fs_snapshots(history->fixture->fs), slice_of_string(history->names[at]));

    assert_non_null(snapshot);
    return snapshot;
}

void fs_history_delete(struct fs_history *history, size_t at)
{
    assert_int_equal(fs_snapshot_delete(history->fixture->fs, history->names[at]), 0);
    history->count--;
    memmove(history->names[at], history->names[at + 1],
            (history->count - at) * sizeof history->names[0]);
}

void fs_history_change_store(struct fs_history *history)
{
    switch (fs_history_below(history, 24)) {
    case 0:
    case 1:
        fs_history_reopen(history);
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
        if (history->count > 1)
            fs_history_delete(history, fs_history_below(history, history->count));
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

/* ---- snapshots ---- */

void fs_history_take(struct fs_history *history)
{
    struct snapshot *snapshot;
    char *name = history->names[history->count];

    snprintf(name, sizeof history->names[0], "s%u", history->made++);
    assert_int_equal(snapshot_create(fs_snapshots(history->fixture->fs), slice_of_string(name),
                                     NULL, 0, &snapshot),
                     0);
    if (fs_history_below(history, 3) == 0)
        assert_int_equal(snapshot_wait(fs_snapshots(history->fixture->fs), snapshot), 0);
    snapshot_unref(snapshot);
    history->count++;
}

struct snapshot *fs_history_view(struct fs_history *history, size_t at,
                                 struct engine_view **ret_view)
{
    struct snapshot *snapshot = fs_history_find(history, at);

    assert_int_equal(snapshot_view_get(snapshot, ret_view), 0);
    return snapshot;
}

void fs_history_put(struct snapshot *snapshot, struct engine_view *view)
{
    snapshot_view_put(snapshot, view);
    snapshot_unref(snapshot);
}

/* ---- the whole ---- */

static uint64_t present_seed; /* 0: none runs */

uint64_t fs_history_run(const char *name, uint64_t count_default, void (*each)(uint64_t seed))
{
    const char *wanted = getenv("VARVE_HISTORIES");
    uint64_t count = wanted != NULL ? strtoull(wanted, NULL, 0) : count_default;
    uint64_t seed = seed_start(name);

    for (uint64_t i = 0; i < count; i++) {
        present_seed = seed + i;
        each(present_seed);
    }
    present_seed = 0;
    return count;
}

int fs_history_name_seed(void **state)
{
    (void)state;
    if (present_seed != 0)
        fprintf(stderr, "repeat it with VARVE_TEST_SEED=%llu VARVE_HISTORIES=1\n",
                (unsigned long long)present_seed);
    return 0;
}

void fs_history_begin(struct fs_history *history, uint64_t seed)
{
    void *state;

    *history = (struct fs_history){.play = {.random = seed}};
    assert_int_equal(fs_fixture_setup(&state), 0);
    history->fixture = history->play.fixture = state;
    history->play.directories[0] = FS_ROOT;
    history->play.count = 1;
}

void fs_history_end(struct fs_history *history)
{
    void *state = history->fixture;

    assert_int_equal(fs_fixture_teardown(&state), 0); /* with fsck */
}
