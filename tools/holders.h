/* SPDX-License-Identifier: Apache-2.0 */
/*
 * holders.h - which processes keep a mount busy
 *
 * Looks at every process in /proc: working directory, root, program, open files, mappings. Asks the
 * kernel and never the mount's daemon. Processes that may not be looked at are skipped.
 */
#ifndef VARVE_TOOLS_HOLDERS_H
#define VARVE_TOOLS_HOLDERS_H

#include "fuse/mountinfo.h"

/* Print one line for each holder of the mount; returns how many there are. */
unsigned holders_print(const struct mountinfo *mount);

#endif
