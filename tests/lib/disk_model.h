/* SPDX-License-Identifier: Apache-2.0 */
/*
 * disk_model.h - a disk that keeps no promise which was not asked for
 *
 * An I/O backend over a file system in memory that knows what is on the disk and what is only in
 * the cache. What survives when the power goes:
 *   data and size of a file   what a sync of the file covered; of every later write each 512 bytes
 *                             by themselves, in any combination; of every later size the same
 *   mode, link count          what fsync (not fdatasync) of the file covered; else old or new
 *   names                     what a sync of their directory covered; of every later change of a
 *                             name the old or the new one. The two ends of a rename come together
 *                             unless one directory was synced and the other was not; a name that is
 *                             lost so does not lower the link count
 *   everything                what a sync of the file system covered
 * With `is_checked` it is a file system without a journal that is repaired after every cut (e2fsck).
 * More may be missing then: the ends of a rename from one directory to another are two changes, and
 * a file or directory that was never synced itself is gone, whatever names of it are there, or the
 * names lead to what its inode was used for before: an empty directory in place of a file, an empty
 * file in place of a directory. So do names that were removed, when the disk has kept them. What
 * is there is in order: directories have one name, link counts are right.
 * Otherwise a link count that is too low on the disk destroys the file when it reaches zero, whatever other
 * names it has (R66).
 *
 * LMDB's file is not written through the backend. It is a file of the disk all the same, with a
 * name like others, which can be moved and lost; for LMDB to work on, its content is put at the real
 * path that has the same letters when a manifest is opened (disk_seam.c). It is modelled at the
 * level that LMDB promises: each commit is made known here as one call of kind DISK_COMMIT, which
 * happened wholly and durably when it returned, and not at all when the power went before. (LMDB
 * does not sync the file's name; that is ours to do.) lock.mdb is not modelled: LMDB makes it
 * anew. A shim below LMDB would test LMDB's own order of two writes and two syncs, which is not ours and which its users have
 * tested; what we rest on is that the flags which make it so are on (R16), that a failed commit
 * ends the use of the environment (R17), and that damage is found (values carry checksums; R57 and
 * the damage tests of the manifest). Power cuts below the real file are tests/mount/r65*.sh.
 *
 * Errors, short transfers, interruptions and stalls at the n-th call are those of fault_io.h, put in
 * front of it (crash_faults.c).
 *
 * Threads: every function from any thread. Running out of memory aborts.
 */
#ifndef VARVE_TESTS_LIB_DISK_MODEL_H
#define VARVE_TESTS_LIB_DISK_MODEL_H

#include "engine/base/io.h"

enum disk_call {
    DISK_OPEN = 1 << 0,
    DISK_CREATE = 1 << 1,
    DISK_READ = 1 << 2,
    DISK_WRITE = 1 << 3,
    DISK_SYNC = 1 << 4,
    DISK_SYNC_FILESYSTEM = 1 << 5,
    DISK_TRUNCATE = 1 << 6,
    DISK_STAT = 1 << 7,
    DISK_CHMOD = 1 << 8,
    DISK_MKDIR = 1 << 9,
    DISK_UNLINK = 1 << 10,
    DISK_RENAME = 1 << 11,
    DISK_LINK = 1 << 12,
    DISK_LIST = 1 << 13,
    DISK_LOCK = 1 << 14,
    DISK_SPACE = 1 << 15,
    DISK_COMMIT = 1 << 16,

    /* What may change the state of the disk, or what of it survives. */
    DISK_CHANGING = DISK_CREATE | DISK_WRITE | DISK_SYNC | DISK_SYNC_FILESYSTEM | DISK_TRUNCATE |
                    DISK_CHMOD | DISK_MKDIR | DISK_UNLINK | DISK_RENAME | DISK_LINK | DISK_COMMIT,
};

const char *disk_call_name(enum disk_call call);

struct disk_model;

/* An empty disk whose root directory is the absolute path `base`: names outside do not exist. */
struct disk_model *disk_model_new(const char *base);
void disk_model_free(struct disk_model *disk); /* accepts NULL; no file may be open */
struct io *disk_model_io(struct disk_model *disk);
const char *disk_model_base(const struct disk_model *disk);

struct disk_model_options {
    bool is_checked;    /* no journal, and a check before the disk is used again: see above */
    bool check_modes;   /* -EACCES for writing a file whose mode forbids it: nobody is root */
    unsigned links_max; /* of a file; 0: no limit. -EMLINK beyond */
};
void disk_model_set_options(struct disk_model *disk, const struct disk_model_options *options);

/* ---- what is left ---- */

/* The same disk seen by the next process, with what is only in the cache: a process was killed. */
struct disk_model *disk_model_clone(struct disk_model *disk);

/* The disk after the power went, by `seed`. Seed 0 keeps only what was promised, 1 everything. */
struct disk_model *disk_model_cut(struct disk_model *disk, uint64_t seed);

/* In the mode of what a cut put in another's place (see is_checked). */
#define DISK_STRANGE S_ISVTX

/* Another place for the root. The disk has no open files. */
void disk_model_set_base(struct disk_model *disk, const char *base);

/* Write all files out to a real directory (made if it is missing). */
void disk_model_export(struct disk_model *disk, const char *directory);

/* ---- watching ---- */

/* Called before each call of DISK_CHANGING, with the disk's lock held: of this file it may only
 * call disk_model_clone_locked(). `label` says what it is about. */
typedef void disk_model_observer(void *context, struct disk_model *disk, enum disk_call call,
                                 const char *label);
void disk_model_observe(struct disk_model *disk, disk_model_observer *observer, void *context);
struct disk_model *disk_model_clone_locked(struct disk_model *disk);

/* Calls of these kinds so far. */
uint64_t disk_model_count(struct disk_model *disk, unsigned calls);

/* A name that a rename gave and that no sync of its directory has made durable; "": none but those
 * that have `except` (may be NULL) in them. It lives until the disk changes. */
const char *disk_model_pending_rename(struct disk_model *disk, const char *except);

/* Syncs from this place in the program do nothing and report success. `site` is what a site
 * function below said; 0: none. */
void disk_model_skip_syncs(struct disk_model *disk, uint64_t site);
/* Called for every sync, with a number for the place it comes from. */
typedef void disk_model_site_observer(void *context, uint64_t site, const char *text);
void disk_model_observe_sites(struct disk_model *disk, disk_model_site_observer *observer,
                              void *context);

/* ---- LMDB's commits (called by disk_seam.c) ---- */

/* Around a commit, during which the disk is locked. With `data` not NULL the end makes that the
 * durable content of the file. */
void disk_model_commit_begin(struct disk_model *disk);
void disk_model_commit_end(struct disk_model *disk, struct io_file *file, const void *data,
                           size_t size);
/* The disk whose base `path` lies in; the disk stays until disk_model_free(). NULL: none. */
struct disk_model *disk_model_of_path(const char *path);

#endif
