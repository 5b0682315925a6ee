/* SPDX-License-Identifier: Apache-2.0 */
/*
 * diff_walk.h - is a difference of two views what a walk of both whole trees finds?
 *
 * Every name, inode, record and byte of both is looked at; nothing of what is tested is used. Asserts
 * by cmocka. For trees of up to some thousand names.
 */
#ifndef VARVE_TESTS_LIB_DIFF_WALK_H
#define VARVE_TESTS_LIB_DIFF_WALK_H

#include "fuse/fs_diff.h"

/* Make the difference and check it; returns how many entries it has. */
size_t diff_walk_check(struct engine_view *before, struct engine_view *after);

#endif
