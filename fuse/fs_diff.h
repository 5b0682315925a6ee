/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fs_diff.h - what files and directories differ between two views, by name
 *
 * An entry tells of one name. Paths are relative to the root of the tree, "." is the root itself;
 * path_before is a path in the earlier view, path_after one in the later.
 *   ADDED     a name that was not there; of a new file, or one more name of a file (linked)
 *   REMOVED   a name that is gone; with its file, or one of several (linked)
 *   MODIFIED  the same name, the file changed; REPLACED: another file of the same type stands there
 *   RENAMED   the same file under another name; `changes` says what else changed in it
 * What is below a renamed directory is not listed for that. A directory in which names came or went
 * is not listed for the times that this set.
 *
 * Cost: that of engine_diff_next(), and a few look-ups for each change. Only the names of changed
 * files that have several of them are searched for, in one walk over all names.
 * Memory: about 200 bytes and the paths for each change, at most changes_max of them, and paths_max of
 * paths: a tree may be so deep that they are longer than anything that can be opened.
 */
#ifndef VARVE_FUSE_FS_DIFF_H
#define VARVE_FUSE_FS_DIFF_H

#include "fuse/fs.h"

enum fs_diff_kind { FS_DIFF_ADDED, FS_DIFF_REMOVED, FS_DIFF_MODIFIED, FS_DIFF_RENAMED };

enum fs_diff_change {
    FS_DIFF_CONTENT = 1 << 0,
    FS_DIFF_MODE = 1 << 1,
    FS_DIFF_OWNER = 1 << 2,
    FS_DIFF_TIMES = 1 << 3, /* access or modification */
    FS_DIFF_XATTRS = 1 << 4,
    FS_DIFF_FLAGS = 1 << 5,
    FS_DIFF_CTIME = 1 << 6,    /* nothing but the time of the change */
    FS_DIFF_REPLACED = 1 << 7, /* MODIFIED: by another file */
    FS_DIFF_LINKED = 1 << 8,   /* ADDED, REMOVED: the file has, had other names */
};
#define FS_DIFF_CHANGES 9
extern const char *const fs_diff_change_names[FS_DIFF_CHANGES]; /* by bit: "content", "mode" ... */

struct fs_diff_entry {
    enum fs_diff_kind kind;
    uint32_t type; /* S_IFMT bits */
    unsigned changes;
    const char *path_before, *path_after; /* NULL where there is none; live as long as the diff */
    uint64_t size_before, size_after;
};

struct fs_diff {
    struct fs_diff_entry *entries; /* by path (path_after, path_before of REMOVED) */
    size_t count;
    struct engine_diff_statistics statistics;
    struct fs_diff_memory *memory; /* private */
};

struct fs_diff_options {
    const char *const *paths; /* only what is at or below one of these, before or after */
    size_t path_count;        /* 0: everything */
    size_t changes_max;       /* 0: no bound */
    size_t paths_max;         /* bytes; 0: no bound */
};

/* 0; -E2BIG past a bound; -ENOMEM, ERROR_CORRUPT, I/O errors. */
int fs_diff_make(struct engine_view *before, struct engine_view *after,
                 const struct fs_diff_options *options, struct fs_diff *ret_diff);
void fs_diff_free(struct fs_diff *diff); /* members; accepts a zeroed diff */

#endif
