/* SPDX-License-Identifier: Apache-2.0 */
/*
 * life.c - steps, their digests, and what is there afterwards
 */
#include "tests/sweep/life.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "engine/base/error.h"
#include "tests/lib/fs_tree.h"
#include "tests/sweep/plan.h"
#include "tests/sweep/sweep.h"

#define PATIENCE 3000 /* tries of 10 ms */

const struct fs_caller life_root = {.uid = 0};

/* ---- opening and closing ---- */

static void set_options(const struct life *life, struct engine_options *engine,
                        struct fs_options *fs)
{
    engine_options_default(engine);
    engine->path = life->path;
    engine->io = life->io;
    engine->memtable_bytes = 64 * 1024;
    engine->wal_segment_bytes = 64 * 1024;
    engine->table_bytes = 64 * 1024;
    engine->level_base_bytes = 128 * 1024;
    engine->blob_buffers = 4;
    engine->block_cache_bytes = 256 * 1024;
    engine->sync_window_ms = 20;
    if (life->is_large) {
        engine->memtable_bytes = 16 << 20;
        engine->wal_segment_bytes = 16 << 20;
        engine->table_bytes = 8 << 20;
        engine->level_base_bytes = 16 << 20;
    }
    fs_options_default(fs);
    fs->owner_uid = 0;
    fs->atime = FS_ATIME_NONE;
    fs->snapdir_visible = false;
}

/* ---- no flush ends ---- */

/* Threads of the engine look at its operations at any time: they are the backend's, but for one, from
 * the beginning. */
static struct io_ops operations;
static int (*backend_chmod)(struct io *io, struct io_file *file, mode_t mode);
static atomic_bool sealing_is_refused, sealing_stands_still;

static int chmod_unless_refused(struct io *io, struct io_file *file, mode_t mode)
{
    const struct timespec pause = {.tv_nsec = 1000000};

    while (atomic_load(&sealing_stands_still))
        nanosleep(&pause, NULL);
    return atomic_load(&sealing_is_refused) ? -ENOSPC : backend_chmod(io, file, mode);
}

static void put_operations(struct io *io)
{
    operations = *io->ops;
    backend_chmod = operations.chmod;
    operations.chmod = chmod_unless_refused;
    io->ops = &operations;
    atomic_store(&sealing_is_refused, false);
}

void life_hold_flushes_up(void)
{
    atomic_store(&sealing_is_refused, true);
}

void life_stall_flushes(void)
{
    atomic_store(&sealing_stands_still, true);
}

void life_let_flushes_go(void)
{
    atomic_store(&sealing_stands_still, false);
}

int life_open(struct life *life, const char *path)
{
    return life_open_on(life, path, NULL);
}

int life_open_on(struct life *life, const char *path, void (*change)(struct io *io))
{
    struct engine_options engine_options;
    struct fs_options fs_options;
    int error;

    life->path = path;
    error = io_open_backend(life->is_large ? IO_BACKEND_URING : IO_BACKEND_SYNC, &life->io);
    if (error < 0)
        return error;
    put_operations(life->io);
    if (change != NULL)
        change(life->io);
    set_options(life, &engine_options, &fs_options);
    error = engine_open(&engine_options, &life->engine);
    if (error < 0) {
        life->engine = NULL;
        io_close_backend(life->io);
        return error;
    }
    error = fs_open(life->engine, &fs_options, &life->fs);
    if (error < 0) {
        (void)engine_close(life->engine);
        life->engine = NULL;
        io_close_backend(life->io);
    }
    return error;
}

int life_close(struct life *life)
{
    int error;

    fs_close(life->fs);
    error = engine_close(life->engine);
    io_close_backend(life->io);
    life->engine = NULL;
    life->fs = NULL;
    return error;
}

static void begin(struct life *life, const char *path, bool is_large)
{
    const struct store_format format = {.chunk_size_bytes = 1 << 20, .compression_level = 1};
    struct io *io;

    *life = (struct life){.path = path, .is_large = is_large};
    sweep_require(io_open_backend(IO_BACKEND_SYNC, &io) == 0, "no backend");
    sweep_require(store_create(io, path, &format) == 0, "the store cannot be made");
    io_close_backend(io);
    sweep_require(life_open(life, path) == 0, "the store cannot be opened");
}

void life_begin(struct life *life, const char *path)
{
    begin(life, path, false);
}

void life_begin_large(struct life *life, const char *path)
{
    begin(life, path, true);
}

/* ---- looking ---- */

static uint64_t digest_of(struct fs *fs, uint64_t top, const char *what)
{
    struct fs_tree tree;
    uint64_t digest;
    int error;

    plan_quiet_begin();
    error = fs_tree_walk(fs, top, &tree);
    sweep_require(error == 0, "%s cannot be read: %s", what, error_text(error));
    digest = tree.digest;
    fs_tree_free(&tree);
    plan_quiet_end();
    return digest;
}

static void add_state(struct life *life, uint64_t digest)
{
    if (life->count > 0 && life->states[life->count - 1] == digest)
        return;
    sweep_require(life->count < LIFE_STATES_MAX, "too many states");
    life->states[life->count++] = digest;
}

void life_note(struct life *life)
{
    add_state(life, digest_of(life->fs, FS_ROOT, "the tree"));
}

void life_note_durable(struct life *life)
{
    life->durable = life->count - 1;
}

void life_note_snapshot(struct life *life, const char *name, enum life_snapshot_state state)
{
    struct life_snapshot *snapshot = life->snapshots;

    while (snapshot < life->snapshots + life->snapshot_count && strcmp(snapshot->name, name) != 0)
        snapshot++;
    if (snapshot == life->snapshots + life->snapshot_count) {
        sweep_require(life->snapshot_count < LIFE_SNAPSHOTS_MAX, "too many snapshots");
        life->snapshot_count++;
        snprintf(snapshot->name, sizeof snapshot->name, "%s", name);
        snapshot->digest = life->states[life->count - 1];
    }
    if (state == LIFE_KEPT && snapshot->state != LIFE_KEPT)
        snapshot->digest = life->states[life->count - 1];
    snapshot->state = state;
}

int life_find(struct life *life, const char *path, uint64_t *ret_node)
{
    uint64_t node = FS_ROOT;
    char copy[512], *rest = copy, *name;

    snprintf(copy, sizeof copy, "%s", path);
    while ((name = strsep(&rest, "/")) != NULL) {
        struct fs_entry entry;
        int error = fs_lookup(life->fs, node, name, &entry);

        if (error < 0)
            return error;
        node = entry.attribute.node;
        sweep_require(life->held_count < LIFE_HELD_MAX, "too much is held");
        life->held[life->held_count++] = node;
    }
    *ret_node = node;
    return 0;
}

void life_let_go(struct life *life)
{
    while (life->held_count > 0)
        fs_forget(life->fs, life->held[--life->held_count], 1);
}

void life_fill(uint8_t *data, size_t size, unsigned number)
{
    uint64_t state = number;

    for (size_t i = 0; i < size; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        data[i] = (uint8_t)(state >> 56);
    }
}

/* ---- a step ---- */

/* Damage that is none, or an error that nobody made. */
static void judge(const char *what, int result)
{
    sweep_require(result >= 0 || plan_struck(), "%s: %s, and nothing failed", what,
                  error_text(result));
    sweep_require(result > -ERROR_BASE || result == ERROR_LATCHED || result == ERROR_POISONED,
                  "%s: %s", what, error_text(result));
}

int life_take(struct life *life, const struct life_step *step)
{
    int result = step->run(life);
    uint64_t digest;

    life_let_go(life);
    digest = digest_of(life->fs, FS_ROOT, step->name);
    fprintf(stderr, "step %s: %s\n", step->name, result < 0 ? error_text(result) : "ok");
    judge(step->name, result);
    if (result < 0 && !step->in_parts && life->count > 0)
        sweep_require(digest == life->states[life->count - 1],
                      "%s failed (%s) and changed something", step->name, error_text(result));
    add_state(life, digest);
    return result;
}

/* ---- when it is over ---- */

void life_recover(struct life *life)
{
    const struct timespec pause = {.tv_nsec = 10000000};
    const char *why = "";
    int latched = engine_latch_reason(life->engine, &why), result = 0;

    plan_arm(false);
    if (latched != 0) {
        sweep_require(plan_struck() && !error_is_shortage(latched),
                      "latched after a shortage: %s: %s", error_text(latched), why);
        sweep_require(!plan_is_shortage(plan_present()), "a shortage latches: %s: %s",
                      error_text(latched), why);
        return;
    }
    for (int i = 0; i < PATIENCE; i++) {
        result = fs_sync(life->fs);
        if (result == 0)
            result = engine_flush(life->engine);
        if (result == 0 || engine_latch_reason(life->engine, NULL) != 0)
            break;
        nanosleep(&pause, NULL);
    }
    sweep_require(result == 0 || engine_latch_reason(life->engine, NULL) != 0,
                  "it does not work again: %s", error_text(result));
    if (result == 0)
        life_note_durable(life);
}

/* ---- after the next start ---- */

static const struct life_snapshot *noted_snapshot(const struct life *life, const char *name)
{
    for (size_t i = 0; i < life->snapshot_count; i++)
        if (strcmp(life->snapshots[i].name, name) == 0)
            return &life->snapshots[i];
    return NULL;
}

static bool is_state(const struct life *life, uint64_t digest, size_t from)
{
    for (size_t i = from; i < life->count; i++)
        if (life->states[i] == digest)
            return true;
    return false;
}

/* Every one that there is shows something that was, and the noted ones what they are to. */
static void check_snapshots(const struct life *life, struct life *now)
{
    struct snapshot_set *set = fs_snapshots(now->fs);
    struct snapshot *snapshot;
    uint64_t id = 0;

    while ((snapshot = snapshot_next(set, id)) != NULL) {
        char name[SNAPSHOT_NAME_SIZE_MAX + 1], path[300];
        const struct life_snapshot *noted;
        uint64_t node, digest;

        id = snapshot_id(snapshot);
        snapshot_get_name(snapshot, name);
        snapshot_unref(snapshot);
        snprintf(path, sizeof path, ".snapshots/%s", name);
        sweep_require(life_find(now, path, &node) == 0, "no directory %s", path);
        digest = digest_of(now->fs, node, path);
        life_let_go(now);
        noted = noted_snapshot(life, name);
        sweep_require(noted == NULL || noted->state != LIFE_GONE, "%s is there again", path);
        if (noted != NULL && noted->state == LIFE_KEPT)
            sweep_require(digest == noted->digest, "%s is another tree", path);
        sweep_require(is_state(life, digest, 0), "%s is no tree that ever was", path);
    }
    for (size_t i = 0; i < life->snapshot_count; i++) {
        const struct life_snapshot *noted = &life->snapshots[i];

        snapshot = snapshot_find(set, slice_of_string(noted->name));
        sweep_require(snapshot != NULL || noted->state != LIFE_KEPT, "snapshot %s is lost",
                      noted->name);
        snapshot_unref(snapshot);
    }
}

static void report(void *context, const char *line)
{
    (void)context;
    fprintf(stderr, "fsck: %s\n", line);
}

static void check_structure(struct engine *engine)
{
    struct engine_view *view = engine_view_acquire(engine);
    uint64_t findings = 0;
    int error = fs_check(view, true, report, NULL, &findings);

    sweep_require(error == 0 && findings == 0, "fsck: %s, %llu findings", error_text(error),
                  (unsigned long long)findings);
    engine_view_release(view);
}

/* It takes a file and a snapshot, and gives them up again. */
static void check_works(struct life *now)
{
    struct fs_entry entry;
    uint64_t snapshots;

    sweep_require(fs_mknod(now->fs, FS_ROOT, "afterwards", S_IFREG | 0644, 0, &life_root, &entry) ==
                      0,
                  "no file can be made");
    sweep_require(fs_fsync(now->fs, entry.attribute.node, false) == 0, "no sync");
    fs_forget(now->fs, entry.attribute.node, 1);
    sweep_require(life_find(now, ".snapshots", &snapshots) == 0, "no .snapshots");
    sweep_require(fs_mkdir(now->fs, snapshots, "afterwards", 0755, &life_root, &entry) == 0,
                  "no snapshot can be made");
    fs_forget(now->fs, entry.attribute.node, 1);
    sweep_require(fs_snapshot_delete(now->fs, "afterwards") == 0, "nor deleted");
    sweep_require(fs_unlink(now->fs, FS_ROOT, "afterwards", &life_root) == 0, "no unlink");
    life_let_go(now);
    sweep_require(engine_compact(now->engine) == 0, "no compaction");
}

void life_check(const struct life *life)
{
    struct life now = {.is_large = life->is_large};
    uint64_t digest;
    int error;

    plan_arm(false);
    error = life_open(&now, life->path);
    sweep_require(error == 0, "does not open: %s", error_text(error));
    digest = digest_of(now.fs, FS_ROOT, "the tree");
    sweep_require(is_state(life, digest, 0), "the tree is none that ever was");
    sweep_require(is_state(life, digest, life->durable), "what was synced is lost");
    check_snapshots(life, &now);
    check_structure(now.engine);
    check_works(&now);
    sweep_require(life_close(&now) == 0, "does not close");
}

/* ---- a small tree ---- */

static void make_file(struct life *life, uint64_t parent, const char *name, size_t size,
                      uint64_t offset, unsigned number)
{
    uint8_t *data = malloc(size);
    struct fs_entry entry;

    life_fill(data, size, number);
    sweep_require(fs_mknod(life->fs, parent, name, S_IFREG | 0644, 0, &life_root, &entry) == 0,
                  "cannot make %s", name);
    sweep_require(fs_write(life->fs, entry.attribute.node, data, size, offset, false, false) ==
                      (int64_t)size,
                  "cannot write %s", name);
    fs_forget(life->fs, entry.attribute.node, 1);
    free(data);
}

static void make_snapshot(struct life *life, const char *name)
{
    struct snapshot *snapshot;
    int error = snapshot_create(fs_snapshots(life->fs), slice_of_string(name), NULL, 0, &snapshot);

    sweep_require(error == 0 && snapshot_wait(fs_snapshots(life->fs), snapshot) == 0,
                  "cannot make the snapshot %s", name);
    snapshot_unref(snapshot);
    life_note(life);
    life_note_durable(life);
    life_note_snapshot(life, name, LIFE_KEPT);
}

void life_populate(struct life *life)
{
    struct fs_entry entry;
    uint64_t directory;
    char name[32];

    sweep_require(fs_mkdir(life->fs, FS_ROOT, "old", 0755, &life_root, &entry) == 0, "no mkdir");
    directory = entry.attribute.node;
    for (unsigned i = 0; i < 30; i++) {
        snprintf(name, sizeof name, "small-%u", i);
        make_file(life, directory, name, 40 + 60 * i, 0, i);
    }
    make_file(life, FS_ROOT, "large", 300000, 0, 100);
    make_file(life, FS_ROOT, "sparse", 20000, 100000, 101);
    sweep_require(fs_symlink(life->fs, directory, "symlink", "to/somewhere", &life_root, &entry) ==
                      0,
                  "no symlink");
    fs_forget(life->fs, entry.attribute.node, 1);
    make_snapshot(life, "one");
    sweep_require(engine_flush(life->engine) == 0, "no flush");
    for (unsigned i = 0; i < 30; i++) {
        snprintf(name, sizeof name, "other-%u", i);
        make_file(life, directory, name, 30 + 50 * i, 0, 200 + i);
    }
    make_file(life, directory, "large", 200000, 4096, 102);
    make_snapshot(life, "two");
    sweep_require(engine_flush(life->engine) == 0, "no flush");
    sweep_require(fs_unlink(life->fs, directory, "other-3", &life_root) == 0, "no unlink");
    make_file(life, FS_ROOT, "last", 70000, 0, 103);
    sweep_require(fs_sync(life->fs) == 0, "no sync"); /* what was between is not noted */
    life_note(life);
    life_note_durable(life);
}
