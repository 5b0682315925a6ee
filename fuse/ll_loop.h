/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ll_loop.h - the threads that serve requests
 *
 * Leader and followers: one thread at a time, the leader, reads a request and handles it in place;
 * with rings (ll_ring.h) each has a leader, bound to the ring's CPU, and so has the device.
 * What memory can answer therefore never changes threads. When a handler is about to wait,
 * blocking_enter() makes a follower the leader (a parked one, or a new one while there are fewer
 * than threads_max); whoever finishes a request it waited in parks as a follower. With all threads
 * busy requests wait in the kernel's queue, which their callers can interrupt.
 *
 * Bounds:  threads_max threads, and one for each ring, each with a request buffer and, once it
 * needed one, a reply buffer. Threads: start, stop and join from one thread; the rest as said.
 * Locks:   LOCK_RANK_FUSE_LOOP, no I/O under it; blocking_enter() takes it under any other lock.
 */
#ifndef VARVE_FUSE_LL_LOOP_H
#define VARVE_FUSE_LL_LOOP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct ll;
struct ll_loop;
struct ll_rings;

/* `rings` that may be started later, or NULL; they outlive the loop. */
int ll_loop_new(struct ll *ll, uint32_t threads_max, struct ll_rings *rings,
                struct ll_loop **ret_loop);
void ll_loop_free(struct ll_loop *loop); /* accepts NULL; joined */

/* Start the first thread. `ended` is called once, from a serving thread, when requests will no
 * longer be read (unmounted, aborted or stopped). */
int ll_loop_start(struct ll_loop *loop, void (*ended)(void *context), void *context);

/* From the thread that answered INIT, when the kernel agreed to them: receive from the rings too.
 * An error: nothing will be served. */
int ll_loop_start_rings(struct ll_loop *loop);

/* For ll_yield.h: the threads that read requests, one for each ring or, without rings, one for the
 * device. How many there may ever be; who reads at place i, 0: nobody at present. */
uint32_t ll_loop_readers_max(struct ll_loop *loop);
int ll_loop_reader_thread(struct ll_loop *loop, uint32_t index);
bool ll_loop_uses_rings(struct ll_loop *loop);
uint64_t ll_loop_requests(struct ll_loop *loop);
uint64_t ll_loop_hand_overs(struct ll_loop *loop); /* of those: they waited */
/* Of requests from the device: the last one's caller (a thread, 0: unknown), and how often it was
 * another than that of the request before. */
int ll_loop_caller(struct ll_loop *loop, uint64_t *ret_changes);
/* Does a request wait in the device to be read? */
bool ll_loop_has_request(struct ll_loop *loop);
/* Readers run as SCHED_IDLE (from their next request on), or no more (at once); without rings also
 * on this CPU, -1: on all. From one thread at a time. */
void ll_loop_set_yielding(struct ll_loop *loop, bool yielding, int cpu);

/* Make all threads end after the request they are in, if they have not ended yet; wait for them. */
void ll_loop_stop(struct ll_loop *loop);

/* Of the calling serving thread: the raw request it is handling. */
const void *ll_loop_request(size_t *ret_size);

/* Is a rollback under way, or was there one since this thread began its request? False in threads that
 * serve none. */
bool ll_loop_meets_rollback(const struct ll *ll);

/* Of the calling serving thread: at least `size` bytes, aligned to pages, that last until the next
 * call or request. NULL: out of memory. */
void *ll_loop_reply_buffer(size_t size);

struct ll_loop_statistics {
    uint64_t requests;   /* read from the device */
    uint64_t hand_overs; /* requests that waited */
    uint64_t threads_started;
    uint32_t threads, threads_peak, parked;
    uint64_t yields; /* times that readers began to yield (ll_yield.h) */
    bool leaderless; /* all threads are busy: requests wait in the kernel */
};
void ll_loop_get_statistics(struct ll_loop *loop, struct ll_loop_statistics *ret);

#endif
