/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ll_yield.h - the threads that answer stay with their callers, and let them have the CPU
 *
 * Owns:       when the threads that read requests run as SCHED_IDLE and, without rings, on which
 *             CPU; the thread that watches them.
 * Why:        a request and its answer wake two threads. Where caller and daemon run on different
 *             CPUs, each wakes an idle one, which costs more than all else (on virtual machines 20
 *             to 100 us). The kernel seldom lets them share a CPU by itself: a caller that is woken
 *             by its answer is put on an idle CPU, because the thread that answers still occupies
 *             the one where the caller slept. But a CPU that runs nothing but SCHED_IDLE counts as
 *             idle for this choice (select_idle_sibling() in kernel/sched/fair.c), so there it
 *             stays. Rings bring requests to their caller's CPU. Without them the thread that reads
 *             the device follows: when one caller asks for nearly everything it moves to its CPU.
 * The danger: beside a thread that computes, one of SCHED_IDLE gets next to nothing. So this is
 *             done only while requests come one after another, and only while a thread of ordinary
 *             priority looks every few milliseconds whether those threads still run. When one does
 *             not, all are ordinary again, for a time that doubles when it happens again.
 * Not done:   when many requests wait (fsync), as each makes another thread the reader; without rings
 *             when they take the daemon long (data), for then two CPUs are better, and where it may
 *             use one CPU only: then it is seldom even looked.
 * Bounds:     what a computing thread can delay a request by: two intervals, at most once in
 *             LL_YIELD_BACKOFF_MIN_NS, and where it goes on once in LL_YIELD_BACKOFF_MAX_NS.
 * Threads:    one, asleep while few requests come. ll_yield_notice() from any thread.
 *
 * Without the right to return from SCHED_IDLE (Linux wants CAP_SYS_NICE or RLIMIT_NICE), or without
 * the kernel's count of delays (/proc/self/task/.../schedstat), nothing is ever changed; and
 * nobody is followed whose /proc/PID/stat cannot be read.
 */
#ifndef VARVE_FUSE_LL_YIELD_H
#define VARVE_FUSE_LL_YIELD_H

#include <stdbool.h>
#include <stdint.h>

#define LL_YIELD_INTERVAL_NS     UINT64_C(2000000)
#define LL_YIELD_BACKOFF_MIN_NS  UINT64_C(100000000)
#define LL_YIELD_BACKOFF_MAX_NS  UINT64_C(3200000000)
#define LL_YIELD_SETTLED_NS      UINT64_C(250000000)
#define LL_YIELD_REQUESTS_A_LOOK 16 /* fewer are not worth it */
/* Each hand-over changes the reader: not with fewer requests between them. */
#define LL_YIELD_REQUESTS_A_HAND_OVER 32
/* Of the daemon's time: one that takes longer is better off on another CPU. */
#define LL_YIELD_REQUEST_RAN_NS UINT64_C(20000)

/* ---- the decision ---- */

struct ll_yield_state {
    bool yielding;
    uint64_t since_ns;   /* when it began */
    uint64_t resume_ns;  /* not again before */
    uint64_t backoff_ns; /* after the next time that a thread does not get to run; 0: the least */
};

/* What was seen since the last look. */
struct ll_yield_sample {
    uint64_t now_ns, elapsed_ns;
    uint64_t requests;
    bool worthwhile; /* they are of the kind that gains */
    bool starved;    /* a thread waited for its CPU most of the time and had next to none of it */
};

/* Look at a sample: should they yield from now on? The state keeps the answer. */
bool ll_yield_decide(struct ll_yield_state *state, const struct ll_yield_sample *sample);

/* ---- the watching thread ---- */

struct ll_loop;
struct ll_yield;

/* -EPERM, -ENOSYS: it may not, or cannot know, here. -ENOMEM, -EAGAIN. */
int ll_yield_start(struct ll_loop *loop, struct ll_yield **ret_yield);
void ll_yield_stop(struct ll_yield *yield); /* accepts NULL; all are ordinary again */

/* A request came. Accepts NULL. */
void ll_yield_notice(struct ll_yield *yield);

#endif
