/* SPDX-License-Identifier: Apache-2.0 */
/*
 * steps.h - what steps of several scenarios are made of
 *
 * Each returns 0 or the error that it met. Where a step is made of several requests the tree is
 * noted after each.
 */
#ifndef VARVE_TESTS_SWEEP_STEPS_H
#define VARVE_TESTS_SWEEP_STEPS_H

#include "engine/base/error.h"
#include "fuse/fs_diff.h"
#include "tests/sweep/life.h"

/* What a request returned, its entry forgotten, the tree noted. */
int steps_give_back(struct life *life, int error, const struct fs_entry *entry);
int steps_make(struct life *life, uint64_t parent, const char *name, mode_t mode);

/* What was written is what is read, whatever else fails. */
int steps_write_to(struct life *life, const char *path, size_t size, uint64_t offset,
                   unsigned number);
/* Right, or an error. */
int steps_read_from(struct life *life, const char *path, size_t size, uint64_t offset);
int steps_copy(struct life *life, const char *from, const char *to, uint64_t offset,
               uint64_t length);

/* All of it durable; all of it in tables; all of it merged. */
int steps_sync(struct life *life);
int steps_flush(struct life *life);
int steps_compact(struct life *life);

int steps_take_snapshot(struct life *life, const char *name, bool wait);
int steps_wait_for_directories(struct life *life);
int steps_delete_snapshot(struct life *life, const char *name);
/* A snapshot with the live tree. */
int steps_compare(struct life *life, const char *name, const struct fs_diff_options *options);
int steps_roll_back(struct life *life, const char *name);

/* A file, below a directory of the root or ("") in it; and all of what life_populate() made, so that
 * none of its chunks is alive: there is one file, "back". */
void steps_remove(struct life *life, const char *directory, const char *name);
void steps_remove_all(struct life *life);

/* The end of a life: what fails no more works again, then it is closed, or the power goes, and what
 * is opened again is checked. */
void steps_finish(struct life *life, bool cut);

#endif
