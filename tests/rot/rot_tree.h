/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rot_tree.h - what a filesystem says, as lines: to be compared with what it said before
 */
#ifndef VARVE_TESTS_ROT_ROT_TREE_H
#define VARVE_TESTS_ROT_ROT_TREE_H

#include "fuse/fs.h"

struct rot_line {
    char *path;
    char *content; /* what there is to say; "" where saying it gave an error */
    int error;
};

struct rot_tree {
    struct rot_line *lines; /* by path */
    size_t count, capacity;
    size_t errors;
    const struct rot_tree *guide;
};

/* The live tree and every snapshot, to the last byte and attribute. Where a directory cannot be listed,
 * the names that `guide` (may be NULL) has in it are looked up all the same. */
void rot_tree_read(struct rot_tree *tree, struct fs *fs, const struct rot_tree *guide);
void rot_tree_free(struct rot_tree *tree);

/* NULL: `now` says what `before` said, but for errors. Else a path where it lies (static). */
const char *rot_tree_compare(const struct rot_tree *before, const struct rot_tree *now);

#endif
