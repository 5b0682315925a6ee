/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fs_history.h - random histories of a filesystem: changes, snapshots, and what becomes of the store
 *
 * Each has a store of its own. Files and directories come, go and move, are linked, written to, cut,
 * given other modes, owners and attributes, and restored out of snapshots; memtables become tables,
 * tables are merged, the store is opened anew, rolled back, and goes on as a clone of itself.
 */
#ifndef VARVE_TESTS_LIB_FS_HISTORY_H
#define VARVE_TESTS_LIB_FS_HISTORY_H

#include "tests/lib/fs_play.h"

#define FS_HISTORY_SNAPSHOTS_MAX 10

struct fs_history {
    struct fs_fixture *fixture;
    struct fs_play play;
    char names[FS_HISTORY_SNAPSHOTS_MAX]
              [SNAPSHOT_NAME_SIZE_MAX + 1]; /* of the snapshots there are */
    size_t count;
    unsigned made, clones; /* so many snapshots, so many stores before the present one */
};

/* The directory in the fixture's that holds the store after so many clones. */
#define FS_HISTORY_STORE_NAME_SIZE 32
static inline void fs_history_store_name(unsigned clones, char name[FS_HISTORY_STORE_NAME_SIZE])
{
    snprintf(name, FS_HISTORY_STORE_NAME_SIZE, clones > 0 ? "clone-%u" : "store", clones);
}

/* Run `each` with successive seeds, VARVE_HISTORIES times or as often as said; how often. Where it
 * fails, fs_history_name_seed(), a cmocka teardown, says how to repeat it. */
uint64_t fs_history_run(const char *name, uint64_t count_default, void (*each)(uint64_t seed));
int fs_history_name_seed(void **state);

void fs_history_begin(struct fs_history *history, uint64_t seed);
void fs_history_end(struct fs_history *history); /* the structure is checked */

static inline uint64_t fs_history_below(struct fs_history *history, uint64_t limit)
{
    return seed_below(&history->play.random, limit);
}

void fs_history_change(struct fs_history *history);
/* Perhaps something of what is said above; snapshots may be gone or new afterwards. */
void fs_history_change_store(struct fs_history *history);

void fs_history_reopen(struct fs_history *history);

/* Take one; not when there are FS_HISTORY_SNAPSHOTS_MAX. */
void fs_history_take(struct fs_history *history);
void fs_history_delete(struct fs_history *history, size_t at);

/* References. */
struct snapshot *fs_history_find(struct fs_history *history, size_t at);
struct snapshot *fs_history_view(struct fs_history *history, size_t at,
                                 struct engine_view **ret_view);
void fs_history_put(struct snapshot *snapshot, struct engine_view *view);

#endif
