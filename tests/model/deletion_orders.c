/* SPDX-License-Identifier: Apache-2.0 */
/*
 * deletion_orders.c - snapshots that come and go in random order: deleting some frees what was said,
 * and touches nothing that another snapshot or the live tree needs
 *
 * What each snapshot holds, every record and every byte of file data, is noted when it is taken, and
 * compared after each deletion for all that are left and for the live tree, and once more when the
 * store was opened anew, so that nothing is answered by files that only a descriptor still holds.
 * Before a deletion of which the gain is asked the store comes to rest; of others, snapshots go that
 * are not in their directory yet, or that somebody reads.
 *
 * VARVE_HISTORIES sets how many orders, VARVE_TEST_SEED repeats them; a failing one names its own seed.
 */
#include <ftw.h>
#include <time.h>
#include <unistd.h>

#include "engine/base/checksum.h"
#include "fuse/fs_key.h"
#include "tests/lib/fs_history.h"

#define ORDERS_DEFAULT 25
#define FILES_MAX      4096

static uint64_t deletions, predictions, freed_bytes, comparisons;

/* ---- what a view holds ---- */

static uint64_t add(uint64_t digest, const void *data, size_t size)
{
    return checksum64_seeded(data, size, digest + size);
}

static uint64_t add_data(uint64_t digest, struct engine_view *view, const struct record *record)
{
    uint8_t *data = malloc(BLOB_FRAME_SIZE_MAX);
    struct blob_ref ref;
    const struct engine_blob_read read = {&ref, data};

    assert_non_null(data);
    assert_int_equal(blob_ref_decode(record->value, &ref), 0);
    assert_int_equal(engine_blob_read(view, &read, 1), 0);
    digest = add(digest, data, ref.length);
    free(data);
    return digest;
}

/* When the list of snapshots changed last is no part of the tree. */
static bool is_about_snapshots(struct slice key)
{
    struct slice rest;
    uint64_t ino;
    uint8_t type;

    return fs_key_parse(key, &ino, &type, &rest) && ino == 0 && type == SNAPSHOT_KEY_TYPE;
}

static uint64_t digest_of_view(struct engine_view *view)
{
    struct engine_iterator *iterator;
    uint64_t digest = 0;
    int found;

    assert_int_equal(engine_iterator_new(view, slice_of(NULL, 0), &iterator), 0);
    for (found = engine_iterator_seek(iterator, slice_of("", 1)); found > 0;
         found = engine_iterator_next(iterator)) {
        const struct record *record = engine_iterator_record(iterator);

        if (is_about_snapshots(record->key))
            continue;
        digest = add(digest, record->key.data, record->key.size);
        digest = add(digest, &record->sequence, sizeof record->sequence);
        if (record->kind == RECORD_REFERENCE)
            digest = add_data(digest, view, record);
        else
            digest = add(digest, record->value.data, record->value.size);
    }
    assert_int_equal(found, 0);
    engine_iterator_free(iterator);
    comparisons++;
    return digest;
}

static uint64_t digest_of_live(struct fs_history *history)
{
    struct engine_view *view = engine_view_acquire(history->fixture->engine);
    uint64_t digest;

    assert_non_null(view);
    digest = digest_of_view(view);
    engine_view_release(view);
    return digest;
}

static uint64_t digest_of(struct fs_history *history, size_t at)
{
    struct engine_view *view;
    struct snapshot *snapshot = fs_history_view(history, at, &view);
    uint64_t digest = digest_of_view(view);

    fs_history_put(snapshot, view);
    return digest;
}

/* ---- what they should hold ---- */

struct order {
    struct fs_history history;
    unsigned clones; /* those there were when the list was made */
    struct noted {
        char name[SNAPSHOT_NAME_SIZE_MAX + 1];
        uint64_t digest;
    } noted[FS_HISTORY_SNAPSHOTS_MAX];
    size_t count;
};

static struct noted *find_noted(struct order *order, const char *name)
{
    for (size_t i = 0; i < order->count; i++)
        if (strcmp(order->noted[i].name, name) == 0)
            return &order->noted[i];
    return NULL;
}

/* Those that are there must be what they were; new ones are noted, those that went forgotten. */
static void check_all(struct order *order)
{
    struct fs_history *history = &order->history;
    struct order now = {.count = history->count};

    if (order->clones != history->clones)
        order->count = 0;
    for (size_t i = 0; i < history->count; i++) {
        struct noted *noted = find_noted(order, history->names[i]);

        memcpy(now.noted[i].name, history->names[i], sizeof now.noted[i].name);
        now.noted[i].digest = digest_of(history, i);
        if (noted != NULL)
            assert_int_equal(noted->digest, now.noted[i].digest);
    }
    memcpy(order->noted, now.noted, sizeof order->noted);
    order->count = now.count;
    order->clones = history->clones;
}

/* ---- files ---- */

/* A number goes to another file when its file is gone: the time of writing tells them apart. */
struct files {
    struct file {
        uint64_t inode, written_ns, size_bytes;
    } list[FILES_MAX];
    size_t count;
};

static struct files *collecting;

static bool has_file(const struct files *files, const struct file *file)
{
    for (size_t i = 0; i < files->count; i++)
        if (files->list[i].inode == file->inode && files->list[i].written_ns == file->written_ns)
            return true;
    return false;
}

static int collect(const char *path, const struct stat *status, int type, struct FTW *ftw)
{
    const struct file file = {
        .inode = status->st_ino,
        .written_ns =
            (uint64_t)status->st_mtim.tv_sec * 1000000000 + (uint64_t)status->st_mtim.tv_nsec,
        .size_bytes = (uint64_t)status->st_size,
    };

    (void)path;
    (void)ftw;
    if (type != FTW_F || has_file(collecting, &file))
        return 0;
    assert_true(collecting->count < FILES_MAX);
    collecting->list[collecting->count++] = file;
    return 0;
}

static void collect_path(struct files *files, char *path)
{
    collecting = files;
    (void)nftw(path, collect, 16, FTW_PHYS);
    free(path);
}

static void collect_in(struct order *order, struct files *files, const char *directory,
                       const char *name)
{
    char *path = test_path(order->history.fixture->path, directory);

    collect_path(files, test_path(path, name));
    free(path);
}

/* What the stores have that this one was cloned from. */
static void collect_origins(struct order *order, struct files *files)
{
    for (unsigned i = 0; i < order->history.clones; i++) {
        char name[FS_HISTORY_STORE_NAME_SIZE];

        fs_history_store_name(i, name);
        collect_path(files, test_path(order->history.fixture->directory, name));
    }
}

static void wait_for_deletions(struct order *order)
{
    for (;;) {
        struct files waiting = {.count = 0}; /* parts that are on their way out */
        struct engine_statistics statistics;

        engine_get_statistics(order->history.fixture->engine, &statistics);
        collect_in(order, &waiting, "tmp", "");
        if (waiting.count == 0 && statistics.checkpoints_deleting == 0 &&
            statistics.deletions_pending == 0)
            return;
        usleep(500);
    }
}

/* ---- deletions ---- */

/* Move some of the snapshots to the end of the list: how many. */
static size_t choose(struct order *order)
{
    struct fs_history *history = &order->history;
    size_t wanted = 1 + fs_history_below(history, history->count < 4 ? history->count : 4);

    for (size_t i = 0; i < wanted; i++) {
        size_t last = history->count - 1 - i, at = fs_history_below(history, last + 1);
        char name[sizeof history->names[0]];

        memcpy(name, history->names[at], sizeof name);
        memcpy(history->names[at], history->names[last], sizeof name);
        memcpy(history->names[last], name, sizeof name);
    }
    return wanted;
}

static uint64_t predict(struct order *order, size_t count)
{
    struct snapshot_set *set = fs_snapshots(order->history.fixture->fs);
    struct snapshot *doomed[FS_HISTORY_SNAPSHOTS_MAX];
    struct engine_usage usage;

    for (size_t i = 0; i < count; i++)
        doomed[i] = fs_history_find(&order->history, order->history.count - 1 - i);
    assert_int_equal(snapshot_usage(set, doomed, count, &usage), 0);
    for (size_t i = 0; i < count; i++)
        snapshot_unref(doomed[i]);
    return usage.unique_bytes;
}

static void delete_chosen(struct order *order, size_t count)
{
    for (size_t i = 0; i < count; i++)
        fs_history_delete(&order->history, order->history.count - 1);
    deletions += count;
}

/* Exactly the files go that nothing else has, and their bytes are those that were said. (The live
 * store may take this as a reason to copy what lives in a chunk that is now its alone: what it holds
 * is compared, not in which files.) */
static void delete_at_rest(struct order *order)
{
    struct fs_history *history = &order->history;
    struct files *files = calloc(4, sizeof *files), *mine = files, *others = files + 1,
                 *live = files + 2, *left = files + 3;
    size_t count = choose(order);
    uint64_t said, freed = 0;

    assert_int_equal(snapshot_wait_all(fs_snapshots(history->fixture->fs)), 0);
    assert_int_equal(engine_compact(history->fixture->engine), 0);
    wait_for_deletions(order);
    /* What is merged in the background may leave chunks/ meanwhile: both are of one moment. */
    do {
        live->count = 0;
        said = predict(order, count);
        collect_in(order, live, "chunks", "");
    } while (predict(order, count) != said);
    for (size_t i = 0; i < history->count; i++)
        collect_in(order, i < history->count - count ? others : mine, "checkpoints",
                   history->names[i]);
    collect_origins(order, others);
    delete_chosen(order, count);
    wait_for_deletions(order);
    collect_origins(order, left);
    collect_in(order, left, "chunks", "");
    collect_in(order, left, "checkpoints", "");
    for (size_t i = 0; i < mine->count; i++) {
        const struct file *file = &mine->list[i];

        if (has_file(others, file) || has_file(live, file))
            continue;
        assert_false(has_file(left, file));
        freed += file->size_bytes;
    }
    for (size_t i = 0; i < others->count; i++)
        assert_true(has_file(left, &others->list[i]));
    assert_int_equal(freed, said);
    freed_bytes += freed;
    predictions++;
    free(files);
}

/* As they come, some not in their directories yet. */
static void delete_in_passing(struct order *order)
{
    delete_chosen(order, choose(order));
}

/* Who reads one goes on, also in files that he has not opened yet. */
static void delete_while_read(struct order *order)
{
    struct fs_history *history = &order->history;
    struct engine_view *view;
    struct snapshot *read;
    struct noted *noted;
    size_t count;

    fs_history_reopen(history); /* nothing is open in it */
    count = choose(order);
    noted = find_noted(order, history->names[history->count - 1]);
    read = fs_history_view(history, history->count - 1, &view);
    delete_chosen(order, count);
    for (uint64_t i = fs_history_below(history, 10); i > 0; i--)
        fs_history_change(history);
    usleep(3000); /* for what must not happen meanwhile */
    assert_int_equal(digest_of_view(view), noted->digest);
    fs_history_put(read, view);
}

static void delete_some(struct order *order)
{
    struct fs_history *history = &order->history;
    uint64_t live;

    if (history->count == 0)
        return;
    switch (fs_history_below(history, 4)) {
    case 0:
        delete_in_passing(order);
        break;
    case 1:
        delete_while_read(order);
        break;
    default:
        live = digest_of_live(history);
        delete_at_rest(order);
        assert_int_equal(digest_of_live(history), live);
        break;
    }
    check_all(order);
}

/* ---- an order ---- */

static void run_order(uint64_t seed)
{
    struct order *order = calloc(1, sizeof *order);
    struct fs_history *history = &order->history;
    uint64_t live;

    fs_history_begin(history, seed);
    for (uint64_t step = 6 + fs_history_below(history, 12); step > 0; step--) {
        for (uint64_t i = fs_history_below(history, 60); i > 0; i--)
            fs_history_change(history);
        fs_history_change_store(history);
        if (history->count < FS_HISTORY_SNAPSHOTS_MAX && fs_history_below(history, 4) > 0)
            fs_history_take(history);
        check_all(order);
        if (fs_history_below(history, 2) == 0 || history->count > 6)
            delete_some(order);
    }
    fs_fixture_reopen(history->fixture); /* what nobody names goes here */
    live = digest_of_live(history);
    fs_fixture_reopen(history->fixture);
    assert_int_equal(digest_of_live(history), live);
    check_all(order);
    fs_history_end(history);
    free(order);
}

static void deletions_free_what_was_said_and_nothing_that_is_needed(void **state)
{
    uint64_t count = fs_history_run("deletion_orders", ORDERS_DEFAULT, run_order);

    (void)state;
    fprintf(
        stderr,
        "%llu orders, %llu deletions, %llu predictions true (%llu bytes), %llu trees compared\n",
        (unsigned long long)count, (unsigned long long)deletions, (unsigned long long)predictions,
        (unsigned long long)freed_bytes, (unsigned long long)comparisons);
    assert_true(count < 10 || predictions > count);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(deletions_free_what_was_said_and_nothing_that_is_needed,
                                  fs_history_name_seed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
