/* SPDX-License-Identifier: Apache-2.0 */
/*
 * blocking.h - a thread says that it is about to wait
 *
 * The thread that reads requests answers from memory whatever it can. Before it waits for a disk,
 * a lock held across I/O, or backpressure, it calls blocking_enter(); the hook that the thread
 * registered then hands its role to another thread. The hook runs at most once until it is
 * registered again, so a chain of waits costs one hand-over. Threads without a hook pay a test.
 *
 * Rule: call it before every wait that may take longer than some 20 us, with no lock held that the
 * next request could need (docs/concurrency.md).
 */
#ifndef VARVE_ENGINE_BASE_BLOCKING_H
#define VARVE_ENGINE_BASE_BLOCKING_H

#include <stdbool.h>

typedef void blocking_hook(void *context);

/* Register (or with NULL remove) the calling thread's hook. */
void blocking_set_hook(blocking_hook *hook, void *context);

/* Run and remove the calling thread's hook, if there is one. */
void blocking_enter(void);

/* Would blocking_enter() run a hook? Then it pays to look first whether there is need to wait. */
bool blocking_is_dear(void);

#endif
