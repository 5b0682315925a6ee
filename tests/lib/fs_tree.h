/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fs_tree.h - all that a filesystem shows below a directory, as one number; and where it is
 *
 * Names, types, modes, owners, sizes, times but that of access, contents, xattrs, targets, and
 * which names are one file. The same for the live tree and for a snapshot of it.
 */
#ifndef VARVE_TESTS_LIB_FS_TREE_H
#define VARVE_TESTS_LIB_FS_TREE_H

#include "fuse/fs.h"

struct fs_tree_entry {
    uint64_t parent, node; /* one lookup of the node is held */
    mode_t mode;
    char name[256];
    char *path;
};

struct fs_tree {
    struct fs *fs;
    struct fs_tree_entry *list; /* directories before what is in them; the top is not in it */
    size_t count;
    uint64_t digest;
};

/* 0, or the error of the call that failed. */
int fs_tree_walk(struct fs *fs, uint64_t top, struct fs_tree *ret_tree);
void fs_tree_free(struct fs_tree *tree); /* gives the lookups back */

#endif
