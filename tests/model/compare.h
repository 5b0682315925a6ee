/* SPDX-License-Identifier: Apache-2.0 */
/*
 * compare.h - is the filesystem what the reference says?
 *
 * Every function ends the test, with the operation at hand, when it is not.
 */
#ifndef VARVE_TESTS_MODEL_COMPARE_H
#define VARVE_TESTS_MODEL_COMPARE_H

#include "fuse/fs.h"
#include "tests/model/reference.h"

/* What the test is doing, for messages. */
extern const char *compare_operation;
extern uint64_t compare_operation_number;

#define expect(condition) compare_expect((condition), #condition, __FILE__, __LINE__)
#define expect_equal(actual, wanted)                                                               \
    compare_expect_equal((long long)(actual), (long long)(wanted), #actual, __FILE__, __LINE__)

void compare_expect(bool condition, const char *text, const char *file, int line);
void compare_expect_equal(long long actual, long long wanted, const char *text, const char *file,
                          int line);

/* Read a file through `handle` (0: none) in pieces, and compare. */
void compare_data(struct fs *fs, uint64_t node, uint64_t handle,
                  const struct reference_inode *inode, uint64_t *random);
/* Attributes but the times that `ignored` names (bits of compare_times). */
void compare_attribute(const struct fs_attribute *attribute, const struct reference_inode *inode,
                       uint32_t nlink);

/* The whole live tree. */
void compare_live(struct fs *fs, const struct reference *reference, uint64_t *random);
/* All snapshots, and the identity of files across them. */
void compare_snapshots(struct fs *fs, const struct reference *reference, uint64_t *random);

/* The node of an inode in a snapshot, with one lookup counted; 0 when it has no name there. */
uint64_t compare_lookup_in_snapshot(struct fs *fs, const struct reference_snapshot *snapshot,
                                    unsigned index);
/* The node of .snapshots (its lookup given back). */
uint64_t compare_snapshots_node(struct fs *fs);

#endif
