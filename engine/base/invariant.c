/* SPDX-License-Identifier: Apache-2.0 */
/*
 * invariant.c - the last words of a process that found a defect in itself
 */
#include "engine/base/invariant.h"

#include <execinfo.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>

#include "engine/base/log.h"

#define FRAMES_MAX 64

static _Thread_local const char *context_operation;
static _Thread_local uint64_t context_sequence;
static _Thread_local bool context_failing;

void invariant_set_context(const char *operation, uint64_t sequence)
{
    context_operation = operation;
    context_sequence = sequence;
}

static void invariant_log_backtrace(void)
{
    void *frames[FRAMES_MAX];
    int count = backtrace(frames, FRAMES_MAX);
    char **names = backtrace_symbols(frames, count);

    /* The first frames are this file's. Without memory for names the addresses must do. */
    for (int i = 0; i < count; i++) {
        if (names != NULL)
            log_error("  #%d %s", i, names[i]);
        else
            log_error("  #%d %p", i, frames[i]);
    }
    free(names);
}

_Noreturn void invariant_fail(const char *condition, const char *file, int line)
{
    /* A defect met while reporting a defect must not recurse. */
    if (context_failing)
        abort();
    context_failing = true;

    log_error("invariant broken: %s at %s:%d, operation %s, sequence %" PRIu64, condition, file,
              line, context_operation != NULL ? context_operation : "none", context_sequence);
    invariant_log_backtrace();
    abort();
}
