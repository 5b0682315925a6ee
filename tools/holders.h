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

/* The same for what shows the mount's filesystem in other places: namespaces that copied the mount,
 * and bind mounts. One process stands for each namespace. Without `print` they are only counted. */
unsigned holders_elsewhere(const struct mountinfo *mount, bool print);

#endif
