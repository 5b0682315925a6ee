/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sweep_store.c - a store as a whole: starting after a crash, making, looking at, copying, mending
 *
 * What fails is done again when nothing fails any more, and must then give what it always gives.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/base/error.h"
#include "engine/engine_clone.h"
#include "engine/engine_rebuild.h"
#include "engine/engine_repair.h"
#include "engine/engine_verify.h"
#include "tests/lib/fs_tree.h"
#include "tests/lib/test_directory.h"
#include "tests/sweep/life.h"
#include "tests/sweep/plan.h"
#include "tests/sweep/steps.h"
#include "tests/sweep/store.h"
#include "tests/sweep/sweep.h"

/* ---- what is prepared ---- */

void store_shell(const char *directory, const char *script)
{
    char command[4096];

    snprintf(command, sizeof command, "set -e; cd '%s'; %s", directory, script);
    sweep_require(system(command) == 0, "failed: %s", command);
}

struct io *store_io(void)
{
    struct io *io;

    sweep_require(io_open_backend(IO_BACKEND_SYNC, &io) == 0, "no backend");
    return io;
}

/* What there must be is kept beside the store. */
void store_keep(const char *directory, const struct life *life)
{
    char *path = test_path(directory, "life");

    test_file_write(path, life, sizeof *life);
    free(path);
}

struct life *store_recall(const char *directory)
{
    char *path = test_path(directory, "life");
    size_t size;
    struct life *life = (struct life *)(void *)test_file_read(path, &size);

    sweep_require(size == sizeof *life, "no life");
    free(path);
    life->path = test_path(directory, "store");
    return life;
}

void store_drop(struct life *life)
{
    free((void *)(uintptr_t)life->path);
    free(life);
}

static void step_sync(struct life *life)
{
    sweep_require(fs_sync(life->fs) == 0, "no sync");
    life_note_durable(life);
}

static int write_more(struct life *life)
{
    uint8_t *data = malloc(150000);
    struct fs_entry entry;
    int64_t size;

    life_fill(data, 150000, 500);
    sweep_require(fs_mknod(life->fs, FS_ROOT, "more", S_IFREG | 0644, 0, &life_root, &entry) == 0,
                  "no file");
    size = fs_write(life->fs, entry.attribute.node, data, 150000, 0, false, false);
    fs_forget(life->fs, entry.attribute.node, 1);
    free(data);
    return size < 0 ? (int)size : 0;
}

/* So little that it waits in memory: the log takes it along. */
static int write_bit(struct life *life)
{
    int error = steps_make(life, FS_ROOT, "bit", S_IFREG | 0644);

    return error == 0 ? steps_write_to(life, "bit", 5000, 0, 600) : error;
}

void store_prepare_crashed(const char *directory)
{
    static const struct life_step more = {"more", write_more, false};
    struct life life;
    struct fs_entry held;
    struct snapshot *snapshot;
    char *path = test_path(directory, "store");

    life_begin(&life, path);
    life_populate(&life);
    sweep_require(fs_lookup(life.fs, FS_ROOT, "large", &held) == 0 &&
                      fs_unlink(life.fs, FS_ROOT, "large", &life_root) == 0,
                  "no unlink");
    (void)life_take(&life, &more);
    step_sync(&life);
    life_hold_flushes_up();
    sweep_require(
        snapshot_create(fs_snapshots(life.fs), slice_of_string("late"), NULL, 0, &snapshot) == 0,
        "no snapshot");
    engine_cut(life.engine);
    snapshot_unref(snapshot);
    life_note_snapshot(&life, "late", LIFE_KEPT);
    life_note_durable(&life);
    (void)life_close(&life);
    store_keep(directory, &life);
    free(path);
}

void store_prepare_closed(const char *directory)
{
    struct life life;
    char *path = test_path(directory, "store");

    life_begin(&life, path);
    life_populate(&life);
    step_sync(&life);
    sweep_require(life_close(&life) == 0, "does not close");
    store_keep(directory, &life);
    free(path);
}

static int note_blob(void *context, const char *name)
{
    struct chunk_identity *identity = context;
    bool sealed;

    return chunk_name_parse(name, identity, &sealed) && sealed && identity->kind == CHUNK_BLOB;
}

void store_find_blob(struct io *io, struct store *store, struct chunk_identity *ret_identity)
{
    struct stat status;
    char name[CHUNK_NAME_SIZE];

    plan_quiet_begin();
    sweep_require(io_list(io, store->chunks, note_blob, ret_identity) == 1, "no chunk");
    chunk_name(name, ret_identity);
    sweep_require(io_stat_at(io, store->chunks, name, &status) == 0, "no chunk");
    ret_identity->file_size_bytes = (uint64_t)status.st_size;
    plan_quiet_end();
}

/* An error is one that was made. */
void store_judge(const char *what, int error)
{
    fprintf(stderr, "%s: %s\n", what, error < 0 ? error_text(error) : "ok");
    sweep_require(error >= 0 || plan_struck(), "%s: %s, and nothing failed", what,
                  error_text(error));
    sweep_require(error > -ERROR_BASE || error == ERROR_LATCHED || error == ERROR_POISONED,
                  "%s: %s", what, error_text(error));
}

/* With one failure alone things are to be as if nothing had been tried. */
static bool fails_once(void)
{
    return !plan_present()->for_ever && plan_present()->second.hit == 0;
}

/* ---- start ---- */

static void prepare_start(const char *directory)
{
    store_prepare_crashed(directory);
    store_shell(directory, "cd store; mkdir -p tmp/leftover/sub tmp/deleted/9/chunks;"
                           "echo x >tmp/leftover/sub/file;"
                           "for chunk in chunks/*; do ln $chunk tmp/deleted/9/chunks/; done;"
                           "ln tmp/leftover/sub/file tmp/linked;"
                           "for chunk in chunks/*-*; do ln $chunk tmp/stale-0-${chunk##*/}; done;"
                           "echo x >chunks/00000000000fffff-00000000000000000000000000000001.tbl;"
                           "echo x >chunks/00000000000ffffe.open; echo x >chunks/stranger;"
                           "mkdir wal/00000000000fffff.wal.new");
}

/* A chunk that has no file yet: the log has all of it. */
static void prepare_pieces(const char *directory)
{
    static const struct life_step bit = {"bit", write_bit, false};
    struct life life;
    char *path = test_path(directory, "store");

    life_begin(&life, path);
    life_populate(&life);
    sweep_require(engine_flush(life.engine) == 0, "no flush");
    (void)life_take(&life, &bit);
    step_sync(&life);
    store_shell(directory, "cp -a store before");
    engine_cut(life.engine);
    (void)life_close(&life);
    store_shell(directory, "rm -r store; mv before store; rm -f store/chunks/*.open");
    store_keep(directory, &life);
    free(path);
}

/* The state was rolled back once; data lies in the log alone; a chunk was sealed, and the manifest does
 * not know it yet; a snapshot's directory has another name, as in the middle of a renaming. */
static void prepare_replay(const char *directory)
{
    static const struct life_step more = {"more", write_more, false},
                                  bit = {"bit", write_bit, false};
    struct life life;
    char *path = test_path(directory, "store");

    life_begin(&life, path);
    life_populate(&life);
    sweep_require(steps_take_snapshot(&life, "tagged", true) == 0, "no snapshot");
    sweep_require(steps_roll_back(&life, "one") == 0, "no rollback");
    sweep_require(engine_compact(life.engine) == 0, "no compaction");
    (void)life_take(&life, &more);
    step_sync(&life);
    (void)life_take(&life, &bit);
    step_sync(&life);
    store_shell(directory, "cp -a store before");
    sweep_require(engine_flush(life.engine) == 0, "no flush");
    engine_cut(life.engine);
    (void)life_close(&life);
    /* The name of an open chunk has no hash in it. */
    store_shell(directory,
                "for chunk in store/chunks/*-*.blb; do name=${chunk##*/};"
                "  [ -e before/chunks/$name ] || {"
                "    cp -p $chunk before/chunks/; rm -f before/chunks/${name%%-*}.*; }; done;"
                "rm -r store; mv before store;"
                "mv store/checkpoints/two store/checkpoints/renamed");
    store_keep(directory, &life);
    free(path);
}

void store_start(const char *directory, bool cut, void (*change)(struct io *io))
{
    struct life *life = store_recall(directory), now = {.path = NULL};
    int error;

    plan_arm(true);
    error = life_open_on(&now, life->path, change);
    if (change != NULL)
        change(NULL);
    store_judge("open", error);
    if (error == 0) {
        if (cut)
            engine_cut(now.engine);
        error = life_close(&now);
        sweep_require(error == 0 || cut || plan_struck(), "does not close: %s", error_text(error));
    }
    plan_arm(false);
    life_check(life);
    store_drop(life);
}

static void run_start(const char *directory, bool cut)
{
    store_start(directory, cut, NULL);
}

/* ---- make ---- */

static int make_store(struct io *io, const char *path)
{
    const struct store_format format = {.chunk_size_bytes = 1 << 20, .compression_level = 1};

    return store_create(io, path, &format);
}

static void run_make(const char *directory, bool cut)
{
    struct life now = {.path = NULL};
    struct io *io = store_io();
    char *path = strdup("store"), *again = test_path(directory, "again");
    int error, opened = -EIO;

    (void)cut;
    sweep_require(chdir(directory) == 0, "no directory"); /* one path is relative */
    plan_arm(true);
    error = make_store(io, path);
    store_judge("make", error);
    if (error == 0) {
        opened = life_open(&now, path);
        store_judge("open", opened);
        if (opened == 0)
            (void)life_close(&now);
    }
    plan_arm(false);
    if (error < 0 && fails_once())
        sweep_require(make_store(io, path) == 0, "a failure leaves something behind");
    else if (error < 0)
        sweep_require(make_store(io, again) == 0, "no store can be made");
    sweep_require(life_open(&now, error < 0 && !fails_once() ? again : path) == 0,
                  "the new store does not open");
    sweep_require(life_close(&now) == 0, "does not close");
    io_close_backend(io);
    free(again);
    free(path);
}

/* ---- look: read-only, of a checkpoint's own directory, and verify ---- */

/* A tree by an engine that changes nothing. */
static int look_at(struct io *io, const char *path, bool frozen, uint64_t *ret_digest)
{
    struct engine_options options;
    struct fs_options fs_options;
    struct engine *engine;
    struct fs_tree tree;
    struct fs *fs;
    int error;

    engine_options_default(&options);
    options.path = path;
    options.io = io;
    options.read_only = true;
    options.frozen = frozen;
    error = engine_open(&options, &engine);
    if (error < 0)
        return error;
    fs_options_default(&fs_options);
    fs_options.atime = FS_ATIME_NONE;
    fs_options.snapdir_visible = false;
    error = fs_open(engine, &fs_options, &fs);
    if (error == 0) {
        error = fs_tree_walk(fs, FS_ROOT, &tree);
        if (error == 0) {
            *ret_digest = tree.digest;
            fs_tree_free(&tree);
        }
        fs_close(fs);
    }
    (void)engine_close(engine);
    return error;
}

static void look(struct io *io, const char *path, bool frozen, uint64_t wanted)
{
    uint64_t digest = 0;
    int error = look_at(io, path, frozen, &digest);

    store_judge(path, error);
    sweep_require(error < 0 || digest == wanted, "%s shows another tree", path);
}

static int note_damage(void *context, const struct verify_finding *finding)
{
    (void)context;
    fprintf(stderr, "damaged: %s: %s\n", finding->chunk, error_text(finding->error));
    sweep_require(finding->error == plan_error(plan_present()->class_) && plan_struck(),
                  "damage is made up: %s: %s", finding->chunk, error_text(finding->error));
    return 0;
}

static int verify(struct io *io, const char *path)
{
    struct verify_result result;
    struct verify *verify;
    int error = verify_open(io, path, &verify);

    if (error < 0)
        return error;
    error = verify_add_checkpoint(verify, verify_is_checkpoint(verify) ? NULL : "one");
    if (error == 0)
        error = verify_run(verify, NULL, note_damage, NULL, &result);
    verify_close(verify);
    return error;
}

static void run_look(const char *directory, bool cut)
{
    struct life *life = store_recall(directory);
    char *checkpoint = test_path(life->path, "checkpoints/one");
    struct io *io = store_io();

    (void)cut;
    plan_arm(true);
    look(io, checkpoint, false, life->snapshots[0].digest);
    look(io, life->path, true, life->states[life->count - 1]);
    look(io, life->path, false, life->states[life->count - 1]);
    store_judge("verify", verify(io, life->path));
    store_judge("verify a checkpoint", verify(io, checkpoint));
    plan_arm(false);
    io_close_backend(io);
    life_check(life);
    free(checkpoint);
    store_drop(life);
}

/* ---- clone ---- */

static int clone_to(struct io *io, const char *checkpoint, const char *path, bool copy)
{
    const struct engine_clone_options options = {
        .io = io, .checkpoint = checkpoint, .path = path, .copy = copy};
    struct engine_clone_result result;

    return engine_clone(&options, &result);
}

static void clone_and_look(const char *directory, const struct life *life, const char *name,
                           bool copy)
{
    char *checkpoint = test_path(life->path, "checkpoints/two"), *path = test_path(directory, name);
    struct io *io = store_io();
    uint64_t digest = 0;
    int error;

    plan_arm(true);
    error = clone_to(io, checkpoint, path, copy);
    store_judge(name, error);
    plan_arm(false);
    if (error < 0 && fails_once())
        error = clone_to(io, checkpoint, path, copy);
    sweep_require(error == 0 || !fails_once(), "a failure leaves something behind: %s",
                  error_text(error));
    if (error == 0) {
        sweep_require(look_at(io, path, false, &digest) == 0, "%s cannot be read", name);
        sweep_require(digest == life->snapshots[1].digest, "%s is another tree", name);
    }
    io_close_backend(io);
    free(path);
    free(checkpoint);
}

static void run_clone(const char *directory, bool cut)
{
    struct life *life = store_recall(directory);

    (void)cut;
    clone_and_look(directory, life, "linked", false);
    clone_and_look(directory, life, "copied", true);
    life_check(life);
    store_drop(life);
}

/* ---- repair ---- */

/* A snapshot that the manifest does not know, a directory that is none, chunks that only snapshots
 * still have, and the other way round. */
static void prepare_repair(const char *directory)
{
    struct life *life, now = {.path = NULL};

    store_prepare_closed(directory);
    life = store_recall(directory);
    store_shell(directory, "cp -al store/checkpoints/one aside");
    sweep_require(life_open(&now, life->path) == 0, "does not open");
    sweep_require(fs_snapshot_delete(now.fs, "one") == 0, "no deletion");
    sweep_require(life_close(&now) == 0, "does not close");
    store_shell(directory, "mv aside store/checkpoints/one; mkdir -p store/checkpoints/junk/chunks;"
                           "echo x >store/checkpoints/junk/chunks/file; cd store;"
                           "n=0; for chunk in checkpoints/two/chunks/*; do n=$((n + 1));"
                           "  if [ -e chunks/${chunk##*/} ]; then"
                           "    if [ $((n % 2)) = 0 ]; then rm -f $chunk;"
                           "    else rm -f chunks/${chunk##*/}; fi; fi; done");
    store_drop(life);
}

static void say(void *context, const char *line, bool repaired)
{
    (void)context;
    fprintf(stderr, "%s: %s\n", repaired ? "repaired" : "found", line);
}

static int repair(struct io *io, const char *path)
{
    int error = engine_repair_chunks(io, path, true, say, NULL);

    if (error == 0)
        error = engine_repair_log(io, path, true, say, NULL);
    return error == 0 ? engine_repair_strays(io, path, ENGINE_STRAYS_ADOPT, say, NULL) : error;
}

static void run_repair(const char *directory, bool cut)
{
    struct life *life = store_recall(directory);
    struct io *io = store_io();

    (void)cut;
    plan_arm(true);
    store_judge("repair", repair(io, life->path));
    plan_arm(false);
    sweep_require(repair(io, life->path) == 0, "cannot be repaired");
    io_close_backend(io);
    life_check(life);
    store_drop(life);
}

/* ---- rebuild ---- */

static void prepare_rebuild(const char *directory)
{
    store_prepare_crashed(directory);
    store_shell(directory, "rm store/manifest/data.mdb");
}

/* All that was in it is gone with it. */
static void prepare_remake(const char *directory)
{
    store_prepare_crashed(directory);
    store_shell(directory, "rm -r store/manifest");
}

static int rebuild(struct io *io, const char *path)
{
    struct engine_rebuild_result result;
    int damage, error = engine_manifest_check(io, path, &damage);

    if (error < 0 || damage == 0)
        return error;
    return engine_rebuild(io, path, &result);
}

void store_rebuild(const char *directory, bool cut)
{
    struct life *life = store_recall(directory);
    struct io *io = store_io();

    (void)cut;
    plan_arm(true);
    store_judge("rebuild", rebuild(io, life->path));
    plan_arm(false);
    sweep_require(rebuild(io, life->path) == 0, "cannot be rebuilt");
    /* As fsck -y does: a snapshot that could not be read gets what it lacks, and is taken in again. */
    sweep_require(repair(io, life->path) == 0, "cannot be repaired");
    io_close_backend(io);
    life_check(life);
    store_drop(life);
}

const struct sweep_scenario sweep_start = {"start", prepare_start, run_start, false, NULL, false};
const struct sweep_scenario sweep_make = {"make", NULL, run_make, false, NULL, false};
const struct sweep_scenario sweep_look = {"look", store_prepare_closed, run_look, false, NULL,
                                          false};
const struct sweep_scenario sweep_clone = {"clone", store_prepare_closed, run_clone, false, NULL,
                                           false};
const struct sweep_scenario sweep_repair = {"repair", prepare_repair, run_repair,
                                            false,    NULL,           false};
const struct sweep_scenario sweep_rebuild = {"rebuild", prepare_rebuild, store_rebuild, false, NULL,
                                             false};
const struct sweep_scenario sweep_remake = {"remake", prepare_remake, store_rebuild,
                                            true,     NULL,           false};
const struct sweep_scenario sweep_pieces = {"pieces", prepare_pieces, run_start, true, NULL, false};
const struct sweep_scenario sweep_replay = {"replay", prepare_replay, run_start,
                                            false,    NULL,           false};
