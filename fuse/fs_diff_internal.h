/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fs_diff_internal.h - what the fs_diff*.c files share; nobody else includes it
 *
 * Differing records are gathered by inode and by name (fs_diff_gather.c), then each inode with the
 * names that it lost and got says what happened (fs_diff.c). Names and directories are inode
 * numbers until a path is needed (fs_diff_path.c).
 */
#ifndef VARVE_FUSE_FS_DIFF_INTERNAL_H
#define VARVE_FUSE_FS_DIFF_INTERNAL_H

#include "engine/base/arena.h"
#include "fuse/fs_data.h"
#include "fuse/fs_diff.h"

/* ---- paths (fs_diff_path.c) ---- */

/* Paths of directories in one view, remembered. */
struct diff_paths {
    struct engine_view *view;
    struct arena *arena; /* paths live there */
    size_t bytes_max;    /* of the arena, but for the last path; 0: no bound */
    struct diff_path *slots;
    size_t slot_count, used;
};
/* The path of a directory, "" for the root; ERROR_CORRUPT (logged) when it has none, -E2BIG past the
 * bound. */
int diff_path_of_directory(struct diff_paths *paths, uint64_t ino, const char **ret_path);
/* The path of a name in a directory. */
int diff_path_of_name(struct diff_paths *paths, uint64_t directory, const char *name,
                      const char **ret_path);
void diff_paths_free(struct diff_paths *paths);

/* A name of the inode, by its hint: 1 and the name (in the arena), 0: the hint leads nowhere. */
int diff_hinted_name(struct diff_paths *paths, uint64_t ino, const struct fs_inode *inode,
                     const char **ret_name);

/* ---- gathering (fs_diff_gather.c) ---- */

struct diff_growing { /* an array */
    size_t count, room;
};

/* An inode with a differing record. */
struct diff_inode {
    uint64_t ino;
    bool content, xattrs;             /* records of that kind differ */
    bool names;                       /* of a directory: names in it came or went */
    bool loaded;                      /* before and after are known */
    bool record;                      /* the inode's own record differs */
    bool exists_before, exists_after; /* with a name */
    struct fs_inode before, after;
};

/* A name that came or went. */
struct diff_name {
    uint64_t child, directory;
    const char *name;
    uint32_t type;
    bool removed;
    bool done;   /* told already */
    size_t twin; /* of a name that leads elsewhere now: the other half, or SIZE_MAX */
};

/* A name that stayed, of an inode that changed. */
struct diff_stay {
    uint64_t child, directory;
    const char *name;
};

struct diff_work {
    struct engine_view *before, *after;
    const struct fs_diff_options *options;
    struct arena *arena;
    struct diff_paths paths_before, paths_after;
    struct diff_inode *inodes; /* by number */
    struct diff_growing inodes_size;
    struct diff_name *names; /* by child, removed ones first, once gathered */
    struct diff_growing names_size;
    struct diff_stay *stays; /* by child */
    struct diff_growing stays_size;
    uint64_t *wanted; /* inodes whose staying names must be searched for */
    struct diff_growing wanted_size;
    struct fs_diff_entry *entries;
    struct diff_growing entries_size;
    struct engine_diff_statistics statistics;
};

/* Room for one more item in *items: its address, or NULL. */
void *diff_grow(void *items, struct diff_growing *size, size_t item_size);

int diff_gather(struct diff_work *work);
/* NULL when its records do not differ. */
struct diff_inode *diff_find_inode(struct diff_work *work, uint64_t ino);
/* Find all names of the wanted inodes, in the later view. */
int diff_search_names(struct diff_work *work);

#endif
