/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store.h - what scenarios of whole stores share: a store "store" in the directory, and beside it
 * what must be in it
 */
#ifndef VARVE_TESTS_SWEEP_STORE_H
#define VARVE_TESTS_SWEEP_STORE_H

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

/* An error is one that was made. */
void store_judge(const char *what, int error);

#endif
