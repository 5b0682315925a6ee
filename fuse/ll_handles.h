/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ll_handles.h - a counting set of nodes: how often each is open in a certain way
 *
 * Two of them exist:
 *   dirty_files  nodes that may have dirty pages in the kernel. A shared mapping that can be written
 *                needs a descriptor opened O_RDWR, and keeps it open; with write-back caching every
 *                descriptor that can write counts. They are what must be flushed before a snapshot;
 *                everything else has reached us already.
 *   directories  live directories that are open, see ll_directory.c.
 *
 * Bounds:  one entry of 16 bytes a node, at most half of the table full where there is memory for
 *          that; it shrinks again.
 * Threads: any; one lock (LOCK_RANK_LEAF).
 */
#ifndef VARVE_FUSE_LL_HANDLES_H
#define VARVE_FUSE_LL_HANDLES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct ll_handles;

struct ll_handles *ll_handles_new(void);          /* NULL: out of memory */
void ll_handles_free(struct ll_handles *handles); /* accepts NULL */

/* 0, or 1 when the node was not in the set before, or -ENOMEM. */
int ll_handles_add(struct ll_handles *handles, uint64_t node);
void ll_handles_remove(struct ll_handles *handles, uint64_t node);

bool ll_handles_has(struct ll_handles *handles, uint64_t node);

/* An allocated copy of the nodes (free() it); *ret_nodes is NULL when there are none. */
int ll_handles_list(struct ll_handles *handles, uint64_t **ret_nodes, size_t *ret_count);

#endif
