/* SPDX-License-Identifier: Apache-2.0 */
/*
 * invariant.h - assertions that stay in production builds
 *
 * For what only a defect of this program can break; a disk or a user gets an error value.
 * A broken invariant logs the thread's operation and sequence number, file:line, the condition and
 * a backtrace, then aborts: the write-ahead log brings back everything acknowledged as durable.
 */
#ifndef VARVE_ENGINE_BASE_INVARIANT_H
#define VARVE_ENGINE_BASE_INVARIANT_H

#include <stdint.h>

/* What this thread is doing, for the log line; `operation` must be a static string. */
void invariant_set_context(const char *operation, uint64_t sequence);

_Noreturn void invariant_fail(const char *condition, const char *file, int line);

#define invariant(condition)                                                                       \
    do {                                                                                           \
        if (__builtin_expect(!(condition), 0))                                                     \
            invariant_fail(#condition, __FILE__, __LINE__);                                        \
    } while (0)

#endif
