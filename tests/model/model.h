/* SPDX-License-Identifier: Apache-2.0 */
/*
 * model.h - a filesystem under test beside its reference, and the operations on both
 *
 * An operation picks its arguments at random, foretells its result from the reference, calls the
 * filesystem, and makes the change in the reference too. It may do nothing when there is nothing to
 * do it to.
 */
#ifndef VARVE_TESTS_MODEL_MODEL_H
#define VARVE_TESTS_MODEL_MODEL_H

#include "fuse/fs.h"
#include "tests/lib/seed.h"
#include "tests/model/compare.h"
#include "tests/model/reference.h"

#define MODEL_HOLDS 8

/* An open file. */
struct model_hold {
    unsigned index; /* of a live file */
    struct reference_inode
        *snapshot; /* of a file of a snapshot: what it must go on showing; else NULL */
    uint64_t node, handle;
};

struct model {
    struct io *io;
    char *path;
    struct engine *engine;
    struct fs *fs;
    struct reference reference;
    struct model_hold holds[MODEL_HOLDS];
    unsigned hold_count;
    uint64_t random;
    struct timespec before; /* when the operation began */
    bool trace;
};

typedef void model_operation(struct model *model);

/* ---- choosing ---- */

uint64_t model_below(struct model *model, uint64_t limit);
bool model_chance(struct model *model, unsigned one_in);
unsigned model_pick_directory(struct model *model);
/* A live inode of the wanted kind, REFERENCE_INODES when there is none. */
unsigned model_pick_file(struct model *model);
unsigned model_pick_any(struct model *model);
/* A name for `directory`: mostly one that exists. */
const char *model_pick_name(struct model *model, unsigned directory);
struct fs_caller model_pick_caller(struct model *model);

static inline struct reference_inode *model_inode(const struct model *model, unsigned index)
{
    return model->reference.live.inodes[index];
}

/* ---- what an operation changed ---- */

enum model_time { MODEL_ATIME = 1, MODEL_MTIME = 2, MODEL_CTIME = 4, MODEL_BTIME = 8 };
#define MODEL_CONTENT (MODEL_MTIME | MODEL_CTIME)

/* The times must lie between the operation's begin and now; the reference takes them over. */
void model_settle(struct model *model, unsigned index, unsigned times);
bool model_is_held(const struct model *model, unsigned index);
/* A link of the file went: settles it, or forgets it when it was the last. */
void model_settle_unlinked(struct model *model, unsigned index);
/* Its content changed: what Linux then takes away. */
void model_drop_privileges(struct reference_inode *inode, bool kill_set_ids);
void model_hold_live(struct model *model, unsigned index);
void model_release(struct model *model, unsigned position);

/* ---- operations ---- */

model_operation model_create, model_mkdir, model_symlink, model_link, model_unlink, model_rmdir,
    model_rename, model_tmpfile, model_readdir_while_changing;
model_operation model_write, model_append, model_truncate, model_punch, model_zero, model_allocate,
    model_copy_range, model_read, model_open, model_close;
model_operation model_chmod, model_chown, model_utimens, model_setxattr, model_removexattr;
model_operation model_snapshot_create, model_snapshot_delete, model_snapshot_rename,
    model_snapshot_open, model_snapshot_refuse;

#endif
