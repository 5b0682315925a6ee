/* SPDX-License-Identifier: Apache-2.0 */
/*
 * crash_command.h - verbs of the command line, run in this process on a model of a disk
 *
 * For programs linked with -Wl,--wrap=io_open_backend: while a command runs, the backend that it
 * opens is the disk's.
 *
 * Threads: one at a time.
 */
#ifndef VARVE_TESTS_LIB_CRASH_COMMAND_H
#define VARVE_TESTS_LIB_CRASH_COMMAND_H

#include "tests/lib/disk_model.h"

/* From now on what is printed goes to the file `path`, which each command begins anew; NULL: to
 * where it went before. With `echo` it comes there as well, late. */
void crash_command_divert(const char *path, bool echo);
/* What the last command printed, on one line, its end if it is long; valid until the next. */
const char *crash_command_said(void);

/* Both give the exit status. */
int crash_command_clone(struct disk_model *disk, const char *checkpoint, const char *path,
                        bool copy);
int crash_command_fsck(struct disk_model *disk, const char *store, bool repair);

#endif
