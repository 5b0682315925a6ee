/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ll_flusher.h - work that must see what the kernel still holds in shared mappings
 *
 * Flushing dirty pages makes the kernel send WRITEs and waits until they are answered: a thread
 * that serves requests must not do it, or the last one would wait for itself. So snapshots and
 * syncs are handed to this thread: it flushes, holding no lock, and then runs the job, which
 * replies.
 *
 * Bounds:  one thread each; a queued job is a process that waits in the kernel, so their number is
 *          bounded by those.
 * Threads: submit from any.
 */
#ifndef VARVE_FUSE_LL_FLUSHER_H
#define VARVE_FUSE_LL_FLUSHER_H

#include <stdbool.h>
#include <stdint.h>

struct ll;
struct ll_flusher;

struct ll_job {
    /* Does the work, replies and frees the job. `error` (-ENOTCONN: the mount is going; -ENOMEM: it
     * could not be flushed): only reply. */
    void (*run)(struct ll *ll, struct ll_job *job, int error);
    struct ll_job *next;
};

/* `flushes`: before each job, what all files may have. Without, a job flushes for itself what it needs
 * (ll_seek.c). */
int ll_flusher_start(struct ll *ll, bool flushes, struct ll_flusher **ret_flusher);
/* Cancels what is queued, waits for the job that runs; requests must still be served. */
void ll_flusher_stop(struct ll_flusher *flusher); /* accepts NULL */
void ll_flusher_free(struct ll_flusher *flusher); /* accepts NULL; stopped, and nobody submits */

/* False when the flusher is stopping: the caller keeps the job. */
bool ll_flusher_submit(struct ll_flusher *flusher, struct ll_job *job);

/* Flush now, from a thread that does not serve requests. 0; or -ENOMEM: nothing has been flushed. */
int ll_flush_mappings(struct ll *ll);

#endif
