/* SPDX-License-Identifier: Apache-2.0 */
/*
 * disk_seam.h - what the linker puts between the program and the libraries below it, for tests
 *
 * A test program linked with -Wl,--wrap= of these (crash_wraps in tests/meson.build) gets them:
 *   manifest_open    of a path on a disk model: the file that the disk has there is put at the real
 *                    path, for LMDB.
 *   mdb_env_open     a file that LMDB made is made on the disk as well.
 *   mdb_txn_commit   of an environment whose path lies on a disk model: a call of kind DISK_COMMIT,
 *                    all or nothing and durable when it returns, which is what LMDB promises. The
 *                    real file is read back after each, so that the disk has what a cut at any
 *                    moment leaves: the state of the last commit that had returned.
 *   fsync            of a directory of the disk model: a sync as any other.
 *   fallocate64      does nothing: a disk model says itself when it is full, and two thirds of the
 *                    time of a long run went into it.
 *   io_sync ...      note who called, by which the disk model tells places of the program apart.
 */
#ifndef VARVE_TESTS_LIB_DISK_SEAM_H
#define VARVE_TESTS_LIB_DISK_SEAM_H

#include <stdint.h>

/* Commits that went to disk models; 0 also tells that the program was linked without the options.
 */
uint64_t disk_seam_commits(void);

#endif
