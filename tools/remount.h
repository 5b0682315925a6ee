/* SPDX-License-Identifier: Apache-2.0 */
/*
 * remount.h - mount -o remount: read-only or writable, and the other flags of mount(2)
 *
 * Only what the kernel keeps can change while a store is mounted; the daemon's own options stay as
 * they are, so that `mount -o remount,ro`, which repeats all options of fstab, works.
 */
#ifndef VARVE_TOOLS_REMOUNT_H
#define VARVE_TOOLS_REMOUNT_H

#include "fuse/ll_options.h"

/* An exit status; complains. Read-only: everything is durable when it returns. */
int remount_run(const struct ll_options *options, const char *path);

#endif
