/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fs_workload.h - random operations on a filesystem, and what a crash may leave of its tree
 *
 * After each operation the digest of the tree is noted in the history with the last sequence
 * number, so that for every state that a crash leaves it is known how the tree must look: as after
 * some operation, never in between (P2, P3). What fsync and sync acknowledged is noted as synced
 * (P1). Snapshots show what the tree was at their sequence number (P5).
 *
 * Threads: one at a time.
 */
#ifndef VARVE_TESTS_LIB_FS_WORKLOAD_H
#define VARVE_TESTS_LIB_FS_WORKLOAD_H

#include "engine/engine.h"
#include "tests/lib/crash_history.h"

/* A new engine gets a root directory. */
char *fs_workload_prepare(struct engine *engine, struct crash_history *history);

/* All these: NULL, or what went wrong (to be freed). */
char *fs_workload_run(struct engine *engine, struct crash_history *history, uint64_t seed,
                      unsigned operations);

/* Is the recovered tree one that the history allows, and every snapshot's? Is its structure sound? */
char *fs_workload_check(struct engine *engine, struct crash_history *history);

#endif
