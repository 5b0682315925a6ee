/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sweep_more.c - what the other scenarios do not come to
 *
 * Links that are refused, data that only snapshots have, data that is moved, large values and tables,
 * very many files, damage that is there, the reader of the change log.
 */
#include <errno.h>
#include <lmdb.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "engine/blob_reader.h"
#include "engine/engine_verify.h"
#include "engine/manifest.h"
#include "tests/lib/test_directory.h"
#include "tests/sweep/plan.h"
#include "tests/sweep/steps.h"
#include "tests/sweep/store.h"
#include "tests/sweep/sweep.h"

/* ---- short ways ---- */

static void take_steps(struct life *life, const struct life_step *steps, size_t count)
{
    plan_arm(true);
    for (size_t i = 0; i < count; i++)
        (void)life_take(life, &steps[i]);
}

static int roll_back(struct life *life)
{
    return steps_roll_back(life, "one");
}

static int snapshot_three(struct life *life)
{
    return steps_take_snapshot(life, "three", true);
}

/* ---- links that are refused: copies ---- */

static const struct life_step refused_steps[] = {
    {"snapshot three", snapshot_three, false},
    {"compact", steps_compact, false},
    {"rollback", roll_back, true},
    {"sync", steps_sync, false},
};

static void run_refused(const char *directory, bool cut)
{
    struct life life;
    char *path = test_path(directory, "store");

    life_begin(&life, path);
    life_populate(&life);
    plan_refuse_links();
    take_steps(&life, refused_steps, sizeof refused_steps / sizeof *refused_steps);
    steps_finish(&life, cut);
    free(path);
}

/* ---- back: what only snapshots have, and what is held while it goes ---- */

static int copy_back(struct life *life)
{
    return steps_copy(life, ".snapshots/one/large", "back", 0, 262144);
}

static int read_back(struct life *life)
{
    return steps_read_from(life, "back", 262144, 0);
}

/* More pieces than the stack has room for. */
static int write_scattered(struct life *life)
{
    uint8_t data[2000];
    uint64_t node;
    int64_t result = steps_make(life, FS_ROOT, "scattered", S_IFREG | 0644);

    if (result == 0)
        result = life_find(life, "scattered", &node);
    for (unsigned i = 0; result >= 0 && i < 60; i++) {
        life_fill(data, sizeof data, i);
        result = fs_write(life->fs, node, data, sizeof data, 8192 * (uint64_t)i, false, false);
        life_note(life);
    }
    return result < 0 ? (int)result : 0;
}

static int read_scattered(struct life *life)
{
    return steps_read_from(life, "scattered", 60 * 8192, 0);
}

/* Its files are held by somebody. */
static int delete_in_use(struct life *life)
{
    uint8_t data[1000], again[1000];
    uint64_t node;
    int64_t count, wanted;
    int error = life_find(life, ".snapshots/two/old/large", &node);

    if (error < 0)
        return error;
    plan_quiet_begin();
    wanted = fs_read(life->fs, node, 0, again, sizeof again, 5000);
    plan_quiet_end();
    error = steps_delete_snapshot(life, "two");
    count = fs_read(life->fs, node, 0, data, sizeof data, 5000);
    sweep_require(count < 0 || (count == wanted && memcmp(data, again, sizeof data) == 0),
                  "other bytes of a snapshot that is gone");
    return error == 0 && count < 0 ? (int)count : error;
}

/* A file that is held has no name any more in the state of then. */
static int roll_back_in_use(struct life *life)
{
    uint64_t node;
    int error = life_find(life, "back", &node);

    return error == 0 ? roll_back(life) : error;
}

/* In the state of then somebody holds a file without a name, and now nobody does. */
static int snapshot_of_orphan(struct life *life)
{
    uint64_t node;
    int error = life_find(life, "scattered", &node);

    if (error == 0)
        error = fs_unlink(life->fs, FS_ROOT, "scattered", &life_root);
    life_note(life);
    return error == 0 ? snapshot_three(life) : error;
}

static int roll_back_to_orphan(struct life *life)
{
    return steps_roll_back(life, "three");
}

static const struct life_step back_steps[] = {
    {"copy back", copy_back, true},
    {"read back", read_back, false},
    {"scattered", write_scattered, true},
    {"flush", steps_flush, false},
    {"read scattered", read_scattered, false},
    {"sync", steps_sync, false},
    {"delete in use", delete_in_use, false},
    {"snapshot of an orphan", snapshot_of_orphan, true},
    {"rollback in use", roll_back_in_use, true},
    {"rollback to an orphan", roll_back_to_orphan, true},
    {"compact", steps_compact, false},
    {"sync", steps_sync, false},
};

static void run_back(const char *directory, bool cut)
{
    struct life life;
    char *path = test_path(directory, "store");

    life_begin(&life, path);
    life_populate(&life);
    steps_remove_all(&life);
    take_steps(&life, back_steps, sizeof back_steps / sizeof *back_steps);
    steps_finish(&life, cut);
    free(path);
}

/* ---- move: chunks of which little is alive ---- */

#define MOVED      8
#define MOVED_SIZE 120000

static int read_moved(struct life *life)
{
    return steps_read_from(life, "moved-7", MOVED_SIZE, 0);
}

static const struct life_step move_steps[] = {
    {"compact", steps_compact, false},
    {"read", read_moved, false},
    {"compact again", steps_compact, false},
    {"sync", steps_sync, false},
};

static void run_move(const char *directory, bool cut)
{
    struct life life;
    char *path = test_path(directory, "store"), name[32];

    life_begin(&life, path);
    for (unsigned i = 0; i < MOVED; i++) {
        snprintf(name, sizeof name, "moved-%u", i);
        sweep_require(steps_make(&life, FS_ROOT, name, S_IFREG | 0644) == 0 &&
                          steps_write_to(&life, name, MOVED_SIZE, 0, i) == 0,
                      "no file");
    }
    sweep_require(engine_flush(life.engine) == 0, "no flush");
    for (unsigned i = 0; i + 1 < MOVED; i++) {
        snprintf(name, sizeof name, "moved-%u", i);
        steps_remove(&life, "", name);
    }
    sweep_require(fs_sync(life.fs) == 0, "no sync");
    life_note(&life);
    life_note_durable(&life);
    take_steps(&life, move_steps, sizeof move_steps / sizeof *move_steps);
    steps_finish(&life, cut);
    free(path);
}

/* ---- large: values, blocks, memtables, tables; reading by io_uring, from a thread of its own ---- */

#define VALUES      150
#define VALUES_LONG 60
#define VALUE_SIZE  60000

/* Long ones lie in blocks of memory of their own, shorter ones share one, which is large by then. */
static size_t size_of(unsigned number)
{
    return number < VALUES_LONG ? VALUE_SIZE : VALUE_SIZE / 4;
}

static int set_value(struct life *life, unsigned number)
{
    uint8_t *value = malloc(VALUE_SIZE);
    char name[32];
    uint64_t node;
    int error;

    snprintf(name, sizeof name, "file-%u", number);
    error = steps_make(life, FS_ROOT, name, S_IFREG | 0644);
    if (error == 0)
        error = life_find(life, name, &node);
    life_fill(value, VALUE_SIZE, number);
    if (error == 0)
        error = fs_setxattr(life->fs, node, "user.value", value, size_of(number), 0, &life_root);
    life_note(life);
    life_let_go(life);
    free(value);
    return error;
}

static int set_values(struct life *life)
{
    int error = 0;

    for (unsigned i = 0; error == 0 && i < VALUES; i++)
        error = set_value(life, i);
    return error;
}

static int get_value(struct life *life, const char *path, unsigned number)
{
    uint8_t *value = malloc(VALUE_SIZE), *wanted = malloc(VALUE_SIZE);
    uint64_t node;
    int64_t size = life_find(life, path, &node);

    life_fill(wanted, VALUE_SIZE, number);
    if (size == 0)
        size = fs_getxattr(life->fs, node, "user.value", value, VALUE_SIZE);
    sweep_require(size < 0 || (size == VALUE_SIZE && memcmp(value, wanted, VALUE_SIZE) == 0),
                  "another value");
    free(wanted);
    free(value);
    return size < 0 ? (int)size : 0;
}

/* A file whose frames do not lie beside each other in their chunk: reading them is a batch. */
#define APART_AT   131072
#define APART_SIZE 400000

static int make_apart(struct life *life)
{
    int error = steps_make(life, FS_ROOT, "apart", S_IFREG | 0644);

    if (error == 0)
        error = steps_make(life, FS_ROOT, "between", S_IFREG | 0644);
    if (error == 0)
        error = steps_write_to(life, "apart", APART_AT, 0, 201);
    if (error == 0)
        error = steps_write_to(life, "between", APART_SIZE, 0, 202);
    if (error == 0)
        error = steps_write_to(life, "apart", APART_AT, APART_AT, 203);
    return error;
}

struct reading {
    struct life *life;
    int error;
};

static void *read_values(void *context)
{
    struct reading *reading = context;

    reading->error = get_value(reading->life, "file-3", 3);
    if (reading->error == 0)
        reading->error = steps_read_from(reading->life, "large", 300000, 0);
    if (reading->error == 0)
        reading->error = steps_read_from(reading->life, "apart", (size_t)2 * APART_AT, 0);
    return NULL;
}

/* A thread that has nothing yet of what threads have for themselves. */
static int read_by_thread(struct life *life)
{
    struct reading reading = {life, 0};
    pthread_t thread;

    sweep_require(pthread_create(&thread, NULL, read_values, &reading) == 0 &&
                      pthread_join(thread, NULL) == 0,
                  "no thread");
    return reading.error;
}

static const struct life_step large_steps[] = {
    {"values", set_values, true},
    {"apart", make_apart, true},
    {"flush", steps_flush, false},
    {"read", read_by_thread, false},
    {"snapshot three", snapshot_three, false},
    {"compact", steps_compact, false},
    {"read again", read_by_thread, false},
    {"sync", steps_sync, false},
};

static void run_large(const char *directory, bool cut)
{
    struct life life, now;
    char *path = test_path(directory, "store");
    int error;

    life_begin_large(&life, path);
    life_populate(&life);
    sweep_require(life_close(&life) == 0, "does not close");
    now = life;
    plan_arm(true);
    error = life_open(&now, path);
    store_judge("open", error);
    if (error == 0) {
        take_steps(&now, large_steps, sizeof large_steps / sizeof *large_steps);
        steps_finish(&now, cut);
    } else {
        life_check(&life);
    }
    free(path);
}

/* ---- many: tables with long indexes, and what grows with what is held ---- */

#define FILES 17000

static void make_files(struct life *life)
{
    struct fs_entry entry;
    char name[64];
    uint64_t directory;

    sweep_require(fs_mkdir(life->fs, FS_ROOT, "many", 0755, &life_root, &entry) == 0, "no mkdir");
    directory = entry.attribute.node;
    for (unsigned i = 0; i < FILES; i++) {
        snprintf(name, sizeof name, "a file with a name that is not short %u", i);
        sweep_require(fs_mknod(life->fs, directory, name, S_IFREG | 0644, 0, &life_root, &entry) ==
                          0,
                      "no file");
        fs_forget(life->fs, entry.attribute.node, 1);
    }
    fs_forget(life->fs, directory, 1);
    life_note(life);
}

/* A snapshot with all of it, and live tables that have most blocks of the snapshot's. */
static void prepare_many(const char *directory)
{
    struct life life;
    char *path = test_path(directory, "store");

    life_begin_large(&life, path);
    make_files(&life);
    sweep_require(engine_compact(life.engine) == 0, "no compaction");
    sweep_require(steps_take_snapshot(&life, "one", true) == 0, "no snapshot");
    sweep_require(steps_make(&life, FS_ROOT, "one more", S_IFREG | 0644) == 0, "no file");
    sweep_require(engine_compact(life.engine) == 0 && fs_sync(life.fs) == 0, "no compaction");
    life_note_durable(&life);
    sweep_require(life_close(&life) == 0, "does not close");
    store_keep(directory, &life);
    free(path);
}

/* What a client of NFS kept from an earlier mount. */
static uint64_t old_handle;

static uint64_t find_handle(const struct life *life)
{
    struct life before = *life;
    uint64_t node;

    sweep_require(life_open(&before, life->path) == 0, "does not open");
    sweep_require(life_find(&before, ".snapshots/one/many/a file with a name that is not short 99",
                            &node) == 0,
                  "no file");
    life_let_go(&before);
    sweep_require(life_close(&before) == 0, "does not close");
    return node;
}

static int use_handle(struct life *life)
{
    struct fs_entry entry;
    int error = fs_lookup(life->fs, old_handle, ".", &entry);

    sweep_require(error < 0 || entry.attribute.node == old_handle, "another file");
    if (error == 0)
        fs_forget(life->fs, old_handle, 1);
    return error;
}

static int compare(struct life *life)
{
    const struct fs_diff_options all = {.paths = NULL};

    return steps_compare(life, "one", &all);
}

static int roll_back_all_in_use(struct life *life)
{
    uint64_t *held = malloc(FILES * sizeof *held), directory;
    size_t count = 0;
    int error = life_find(life, "many", &directory);

    while (error == 0 && count < FILES) {
        struct fs_entry entry;
        char name[64];

        snprintf(name, sizeof name, "a file with a name that is not short %zu", count);
        error = fs_lookup(life->fs, directory, name, &entry);
        if (error == 0)
            held[count++] = entry.attribute.node;
    }
    if (error == 0)
        error = roll_back(life);
    while (count > 0)
        fs_forget(life->fs, held[--count], 1);
    free(held);
    return error;
}

static const struct life_step many_steps[] = {
    {"handle", use_handle, false},
    {"diff", compare, false},
    {"rollback in use", roll_back_all_in_use, true},
};

static void run_many(const char *directory, bool cut)
{
    struct life *life = store_recall(directory), now = *life;
    int error;

    old_handle = find_handle(life);
    plan_arm(true);
    error = life_open(&now, life->path);
    store_judge("open", error);
    if (error == 0) {
        take_steps(&now, many_steps, sizeof many_steps / sizeof *many_steps);
        steps_finish(&now, cut);
    } else {
        life_check(life);
    }
    store_drop(life);
}

/* ---- damaged: what is found is told ---- */

static void prepare_damaged(const char *directory)
{
    store_prepare_closed(directory);
    store_shell(directory,
                "for chunk in store/checkpoints/one/chunks/*.blb; do"
                "  printf x | dd of=$chunk bs=1 seek=5000 conv=notrunc 2>/dev/null; done");
}

struct told {
    size_t damaged;
};

static int take_finding(void *context, const struct verify_finding *finding)
{
    struct told *told = context;

    told->damaged += finding->error == ERROR_CORRUPT;
    sweep_require(finding->error == ERROR_CORRUPT || plan_struck(), "%s: %s", finding->chunk,
                  error_text(finding->error));
    return 0;
}

static int resolve(void *context, uint64_t id, struct chunk_identity *ret_identity)
{
    *ret_identity = *(const struct chunk_identity *)context;
    return ret_identity->id == id ? 0 : ERROR_MISSING_CHUNK;
}

/* The same by who reads data: of one chunk, which is as damaged. */
static int read_whole_chunk(struct io *io, const char *path)
{
    struct store *store;
    struct chunk_identity identity;
    struct blob_reader *reader;
    int error = store_open(io, path, false, &store);

    if (error < 0)
        return error;
    store_find_blob(io, store, &identity);
    error = blob_reader_open(&(struct blob_reader_options){.io = io,
                                                           .chunk_directory = store->chunks,
                                                           .store_uuid = store->format.uuid,
                                                           .descriptors_max = 4,
                                                           .resolve = resolve,
                                                           .context = &identity},
                             &reader);
    if (error == 0) {
        error = blob_reader_verify(reader, &identity);
        sweep_require(error < 0, "a damaged chunk is none");
        if (error == ERROR_CORRUPT)
            error = 0;
        blob_reader_close(reader);
    }
    store_close(store);
    return error;
}

static void run_damaged(const char *directory, bool cut)
{
    char *path = test_path(directory, "store"), *checkpoint = test_path(path, "checkpoints/one");
    struct verify_result result;
    struct told told = {0};
    struct verify *verify;
    struct io *io = store_io();
    int error;

    (void)cut;
    plan_arm(true);
    error = verify_open(io, path, &verify);
    if (error == 0) {
        error = verify_add_checkpoint(verify, "one");
        if (error == 0)
            error = verify_run(verify, NULL, take_finding, &told, &result);
        verify_close(verify);
    }
    store_judge("verify", error);
    store_judge("verify a chunk", read_whole_chunk(io, checkpoint));
    plan_arm(false);
    sweep_require(told.damaged > 0 || plan_struck(), "the damage is not found");
    io_close_backend(io);
    free(checkpoint);
    free(path);
}

/* ---- changes: the change log of the manifest and its reader ---- */

static int take_change(void *context, const struct manifest_change *change)
{
    size_t *count = context;

    (void)change;
    (*count)++;
    return 0;
}

/* Another process has made the file larger than what is mapped here. */
static void grow_by_another(const char *path)
{
    static char data[4 << 20];
    MDB_val key = {2, (void *)(uintptr_t) "zz"}, value = {sizeof data, data};
    MDB_env *environment;
    MDB_txn *transaction;
    MDB_dbi database;
    int status;
    pid_t child = fork();

    if (child == 0) {
        if (mdb_env_create(&environment) != 0 || mdb_env_set_mapsize(environment, 64 << 20) != 0 ||
            mdb_env_open(environment, path, 0, 0600) != 0 ||
            mdb_txn_begin(environment, NULL, 0, &transaction) != 0 ||
            mdb_dbi_open(transaction, NULL, 0, &database) != 0 ||
            mdb_put(transaction, database, &key, &value, 0) != 0 ||
            mdb_txn_commit(transaction) != 0 ||
            mdb_txn_begin(environment, NULL, 0, &transaction) != 0 ||
            mdb_del(transaction, database, &key, NULL) != 0 || mdb_txn_commit(transaction) != 0)
            _exit(1);
        mdb_env_close(environment);
        _exit(0);
    }
    sweep_require(child > 0 && waitpid(child, &status, 0) == child && status == 0,
                  "the manifest cannot be grown");
}

static int read_changes(struct manifest *manifest, const char *path)
{
    const struct chunk_identity blob = {
        .id = 9000, .kind = CHUNK_BLOB, .file_size_bytes = 5000, .hash = {1, 2}};
    const uint64_t id = blob.id;
    const struct manifest_edit add = {.add_blobs = &blob, .add_blob_count = 1},
                               remove = {.remove_blobs = &id, .remove_blob_count = 1};
    size_t count = 0;
    int error = manifest_cursor_set(manifest, "reader", 0);

    if (error == 0)
        error = manifest_commit(manifest, &add);
    if (error == 0) {
        grow_by_another(path);
        error = manifest_commit(manifest, &remove);
    }
    if (error == 0)
        error = manifest_changes_read(manifest, "reader", take_change, &count);
    sweep_require(error < 0 || count == 2, "%zu changes were read instead of 2", count);
    return error == 0 ? manifest_cursor_remove(manifest, "reader") : error;
}

static void run_changes(const char *directory, bool cut)
{
    struct life *life = store_recall(directory);
    char *path = test_path(life->path, "manifest");
    const struct manifest_options options = {
        .path = path, .map_size_bytes = 1 << 20, .change_log_entries_max = 100};
    struct manifest *manifest;
    int error;

    (void)cut;
    plan_arm(true);
    error = manifest_open(&options, &manifest);
    store_judge("open", error);
    if (error == 0) {
        store_judge("changes", read_changes(manifest, path));
        manifest_close(manifest);
    }
    plan_arm(false);
    free(path);
    store_drop(life);
}

const struct sweep_scenario sweep_refused = {"refused", NULL, run_refused, true, NULL, false};
const struct sweep_scenario sweep_back = {"back", NULL, run_back, true, NULL, false};
const struct sweep_scenario sweep_move = {
    "move", NULL, run_move, true, "compaction|table_writer_finish", false};
const struct sweep_scenario sweep_large = {"large", NULL, run_large, true, NULL, true};
const struct sweep_scenario sweep_many = {"many", prepare_many,      run_many,
                                          true,   "engine_diff_new", true};
const struct sweep_scenario sweep_damaged = {"damaged", prepare_damaged, run_damaged, true, NULL,
                                             false};
const struct sweep_scenario sweep_changes = {
    "changes", store_prepare_closed, run_changes, true, NULL, false};
