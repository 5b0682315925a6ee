/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ll_pages.h - write back the kernel's dirty pages of given nodes, keeping them cached
 *
 * Opens each node through the mount, by handle, and fsyncs it: the kernel sends its dirty pages and
 * waits for our answers; the FSYNC that follows is recognised by its thread and answered at once.
 *
 * If the daemon is killed meanwhile, the thread that waits in the kernel must not keep the FUSE
 * device open: the connection would never end, and everybody who uses the mount would wait for
 * ever. So it has a descriptor table of its own, without the device. It must neither log nor touch
 * the store: their descriptors are not there either.
 *
 * Works for root; others have to send invalidations (ll_flusher.c).
 *
 * Threads: one of its own; one caller at a time (the flusher, or the main thread once that has
 * ended).
 */
#ifndef VARVE_FUSE_LL_PAGES_H
#define VARVE_FUSE_LL_PAGES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct ll;
struct ll_pages;

int ll_pages_start(struct ll *ll, struct ll_pages **ret_pages);
void ll_pages_stop(struct ll_pages *pages); /* accepts NULL; frees */

struct ll_pages_node {
    uint64_t node, generation;
};

/* Flush the nodes; those that could not be opened are moved to the front, their number is returned.
 * What the daemon refused to take is not among them: the kernel tells whoever wrote it. */
size_t ll_pages_flush(struct ll_pages *pages, struct ll_pages_node *nodes, size_t count);

/* Is this the thread that does it? */
bool ll_pages_is_thread(const struct ll_pages *pages, pid_t thread);

#endif
