/* SPDX-License-Identifier: Apache-2.0 */
/*
 * crew.h - threads that help with work which one call can divide
 *
 * Owns:       its threads, asleep between calls.
 * Guarantees: crew_run() returns when every part has run, each exactly once. The caller does parts
 *             too, so it never waits for a helper to wake, and runs all of them when the helpers
 *             are at work for somebody else, or when there are none.
 * Threads:    crew_run() from any thread, but not from a part. Lock: LOCK_RANK_LEAF, not held while
 *             parts run.
 */
#ifndef VARVE_ENGINE_BASE_CREW_H
#define VARVE_ENGINE_BASE_CREW_H

#include <stddef.h>

struct crew;

/* Part `part` of the work; it must not fail but by what it leaves in `context`. */
typedef void crew_part(void *context, size_t part);

/* With a helper for each CPU that the calling thread may run on but one, `helpers_max` at most.
 * NULL: no helpers, which every function accepts. */
struct crew *crew_open(unsigned helpers_max);
void crew_close(struct crew *crew);

unsigned crew_helpers(const struct crew *crew);

void crew_run(struct crew *crew, crew_part *run_part, void *context, size_t parts);

#endif
