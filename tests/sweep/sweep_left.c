/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sweep_left.c - what a start finds that no run leaves each time: it is put there
 *
 * A chunk that was made read-only and not renamed yet, or renamed already; a disk without a journal that
 * has lost link counts; data of snapshots alone, and a snapshot that lacks a table, when the manifest
 * is lost. And two moments: a snapshot is looked at before it has a directory, and many small reads of
 * one chunk come first.
 */
#include <errno.h>
#include <linux/capability.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "engine/base/io_backend.h"
#include "engine/blob_writer.h"
#include "tests/lib/test_directory.h"
#include "tests/sweep/plan.h"
#include "tests/sweep/steps.h"
#include "tests/sweep/store.h"
#include "tests/sweep/sweep.h"

/* ---- readonly: to write to such a file root has a capability, others make it writable first ---- */

static void prepare_readonly(const char *directory)
{
    store_prepare_crashed(directory);
    store_shell(directory, "chmod 0400 store/chunks/*.open");
}

static void be_nobody_special(void)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3];

    sweep_require(syscall(SYS_capget, &header, data) == 0, "no capabilities");
    data[0].effective &= ~(UINT32_C(1) << CAP_DAC_OVERRIDE);
    sweep_require(syscall(SYS_capset, &header, data) == 0, "capabilities cannot be given up");
}

static void run_readonly(const char *directory, bool cut)
{
    be_nobody_special();
    store_start(directory, cut, NULL);
}

/* ---- counts: of every file that has several names the disk says one less ---- */

static void prepare_counts(const char *directory)
{
    store_prepare_closed(directory);
    store_shell(directory, "cd store; mkdir -p tmp/deleted/9/chunks;"
                           "for chunk in chunks/*; do ln $chunk tmp/deleted/9/chunks/;"
                           "  ln $chunk tmp/stale-0-${chunk##*/}; done");
}

static pthread_t opening;
static bool is_opening;

static int stat_with_lost_count(struct io *io, struct io_file *directory, const char *name,
                                struct stat *ret_stat)
{
    int error = io_sync_ops.stat_at(io, directory, name, ret_stat);

    if (error == 0 && S_ISREG(ret_stat->st_mode) && ret_stat->st_nlink > 1)
        ret_stat->st_nlink--;
    return error;
}

/* On such a disk the content goes with the last name but one: no name may go while there are others. */
static int unlink_with_lost_count(struct io *io, struct io_file *directory, const char *name,
                                  bool is_directory)
{
    struct chunk_identity identity;
    struct stat status;
    bool sealed;

    if (is_opening && pthread_equal(pthread_self(), opening) &&
        io_sync_ops.stat_at(io, directory, name, &status) == 0 && status.st_nlink > 1 &&
        chunk_name_parse(name, &identity, &sealed) && sealed)
        sweep_wrong(__FILE__, __LINE__, "a name of %s goes, which has others", name);
    return io_sync_ops.unlink(io, directory, name, is_directory);
}

static void lose_counts(struct io *io)
{
    static struct io_ops losing;

    opening = pthread_self();
    is_opening = io != NULL;
    if (io == NULL)
        return;
    losing = *io->ops;
    losing.stat_at = stat_with_lost_count;
    losing.unlink = unlink_with_lost_count;
    io->ops = &losing;
}

static void run_counts(const char *directory, bool cut)
{
    store_start(directory, cut, lose_counts);
}

/* ---- sealed: the crash came after the chunk had got its name ---- */

static void run_sealed(const char *directory, bool cut)
{
    struct life *life = store_recall(directory);
    struct chunk_identity wanted, found;
    struct io *io = store_io();
    struct store *store;
    int error;

    (void)cut;
    sweep_require(store_open(io, life->path, true, &store) == 0, "no store");
    store_find_blob(io, store, &wanted);
    plan_arm(true);
    error = blob_recover_open_chunk(io, store->chunks, store->format.uuid, wanted.id,
                                    wanted.file_size_bytes - CHUNK_TRAILER_SIZE, NULL, 0, &found);
    store_judge("recover", error);
    plan_arm(false);
    sweep_require(error < 0 || (found.file_size_bytes == wanted.file_size_bytes &&
                                checksum128_equal(found.hash, wanted.hash)),
                  "another chunk");
    store_close(store);
    io_close_backend(io);
    life_check(life);
    store_drop(life);
}

/* ---- regain: the manifest is lost, and not all is in chunks/, nor in the snapshots ---- */

/* Of what "one" and "two" have nothing is alive; "three" lacks its tables, which are. */
static void prepare_regain(const char *directory)
{
    struct life life;
    char *path = test_path(directory, "store");

    life_begin(&life, path);
    life_populate(&life);
    steps_remove_all(&life);
    sweep_require(steps_take_snapshot(&life, "three", true) == 0, "no snapshot");
    sweep_require(life_close(&life) == 0, "does not close");
    store_shell(directory, "cd store; rm manifest/data.mdb; rm checkpoints/three/chunks/*.tbl;"
                           "ls chunks/*.tbl >&2;"
                           "for chunk in checkpoints/one/chunks/*.blb; do"
                           "  [ ! -e chunks/${chunk##*/} ]; done");
    store_keep(directory, &life);
    free(path);
}

/* ---- pending: a snapshot that waits for its directory shows what it has ---- */

static int look_at_late(struct life *life)
{
    return steps_read_from(life, ".snapshots/late/large", 300000, 0);
}

static void run_pending(const char *directory, bool cut)
{
    static const struct life_step look = {"look", look_at_late, false};
    struct life life;
    char *path = test_path(directory, "store");

    life_begin(&life, path);
    life_populate(&life);
    life_stall_flushes();
    sweep_require(steps_take_snapshot(&life, "late", false) == 0, "no snapshot");
    plan_arm(true);
    (void)life_take(&life, &look);
    plan_arm(false);
    life_let_flushes_go();
    steps_finish(&life, cut);
    free(path);
}

/* ---- around: so many small reads that more is fetched at once ---- */

#define SMALL_FILES 60
#define SMALL_SIZE  ((size_t)12000)

static void name_small(char name[32], unsigned number)
{
    snprintf(name, 32, "small-%u", number);
}

static void prepare_around(const char *directory)
{
    struct life life;
    char *path = test_path(directory, "store"), name[32];

    life_begin(&life, path);
    for (unsigned i = 0; i < SMALL_FILES; i++) {
        name_small(name, i);
        sweep_require(steps_make(&life, FS_ROOT, name, S_IFREG | 0644) == 0 &&
                          steps_write_to(&life, name, SMALL_SIZE, 0, i) == 0,
                      "no file");
    }
    life_let_go(&life);
    sweep_require(fs_sync(life.fs) == 0, "no sync");
    life_note_durable(&life);
    sweep_require(life_close(&life) == 0, "does not close");
    store_keep(directory, &life);
    free(path);
}

/* Nobody has read before, nor reads meanwhile. */
static int read_small(struct life *life)
{
    uint8_t data[SMALL_SIZE], wanted[SMALL_SIZE];
    char name[32];
    uint64_t node;
    int64_t count = 0;

    for (unsigned i = 0; count >= 0 && i < SMALL_FILES; i++) {
        name_small(name, i);
        count = life_find(life, name, &node);
        if (count == 0)
            count = fs_read(life->fs, node, 0, data, SMALL_SIZE, 0);
        life_fill(wanted, SMALL_SIZE, i);
        sweep_require(count < 0 ||
                          (count == (int64_t)SMALL_SIZE && memcmp(data, wanted, SMALL_SIZE) == 0),
                      "other bytes are read");
    }
    return count < 0 ? (int)count : 0;
}

static void run_around(const char *directory, bool cut)
{
    static const struct life_step read = {"read", read_small, false};
    struct life *life = store_recall(directory), now = *life;

    sweep_require(life_open(&now, life->path) == 0, "does not open");
    plan_arm(true);
    (void)life_take(&now, &read);
    steps_finish(&now, cut);
    store_drop(life);
}

const struct sweep_scenario sweep_readonly = {
    "readonly", prepare_readonly, run_readonly, true, NULL, false};
const struct sweep_scenario sweep_counts = {"counts", prepare_counts, run_counts,
                                            true,     NULL,           false};
const struct sweep_scenario sweep_sealed = {"sealed", store_prepare_closed, run_sealed, true, NULL,
                                            false};
const struct sweep_scenario sweep_regain = {"regain", prepare_regain, store_rebuild,
                                            true,     NULL,           false};
const struct sweep_scenario sweep_pending = {"pending", NULL, run_pending, true, NULL, false};
const struct sweep_scenario sweep_around = {"around", prepare_around, run_around,
                                            true,     NULL,           false};
