/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ll_prefetch.h - a small file of a snapshot comes with its OPEN
 *
 * Owns:     that no other OPEN of a file is answered while what is in it is put into the kernel's
 *           memory (FUSE_NOTIFY_STORE), so that no READ has to be asked for.
 * Only of:  snapshots, whose files do not change: what is stored cannot be old. For files that
 *           are written to it would have to be excluded from all that changes them, and reading
 *           them mostly changes their time of access, of which the kernel must hear at once.
 * Deadlock: storing waits for pages that the kernel has locked. It locks them while it waits for a
 *           READ, and for that somebody must have the file open: so it is done for the first OPEN
 *           since the kernel knows the file, and those that come meanwhile wait.
 * Kernel:   from 6.11 on. Before, what lies behind the end of the file in its last page stayed as it
 *           was in memory, to be seen through a mapping (CVE-2024-44947).
 * Threads:  any that handles requests; waiting hands the reading of requests on.
 */
#ifndef VARVE_FUSE_LL_PREFETCH_H
#define VARVE_FUSE_LL_PREFETCH_H

#include <stdbool.h>

#include "fuse/ll_internal.h"

#define LL_PREFETCH_SIZE_MAX (64 * 1024)

/* Does this kernel take them? */
bool ll_prefetch_is_sound(const char *release);

/* NULL when out of memory or not with this kernel: then nothing is prefetched. */
struct ll_prefetch *ll_prefetch_new(void);
void ll_prefetch_free(struct ll_prefetch *prefetch); /* accepts NULL */

/* As ll_file_open(), to read a file that is not live; errors are its. */
int ll_prefetch_open(struct ll *ll, uint64_t node, int flags, struct fuse_file_info *info);

#endif
