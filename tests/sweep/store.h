/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store.h - what scenarios of whole stores share: a store "store" in the directory, and beside it
 * what must be in it
 */
#ifndef VARVE_TESTS_SWEEP_STORE_H
#define VARVE_TESTS_SWEEP_STORE_H

#include "engine/chunk_format.h"
#include "engine/store.h"
#include "tests/sweep/life.h"

/* Run a script in the directory. */
void store_shell(const char *directory, const char *script);
struct io *store_io(void); /* plain system calls */

/* Keep the life (closed) beside the store; have it back in another process, to be given to drop. */
void store_keep(const char *directory, const struct life *life);
struct life *store_recall(const char *directory);
void store_drop(struct life *life);

/* A small tree with two snapshots, closed. */
void store_prepare_closed(const char *directory);
/* Something is in tables, something only in the log, a file without a name is still held, and a
 * snapshot has no directory yet; then the power goes. */
void store_prepare_crashed(const char *directory);

/* Open it while calls fail, on a disk that `change` (or NULL) has made another one; it is told NULL when
 * that is over. */
void store_start(const char *directory, bool cut, void (*change)(struct io *io));
/* Make its manifest anew while calls fail, if it is lost. */
void store_rebuild(const char *directory, bool cut);

/* A sealed chunk with data of files. */
void store_find_blob(struct io *io, struct store *store, struct chunk_identity *ret_identity);

/* An error is one that was made. */
void store_judge(const char *what, int error);

#endif
