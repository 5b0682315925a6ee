/* SPDX-License-Identifier: Apache-2.0 */
/*
 * blocking.c - the calling thread's hook, run once before it waits
 */
#include "engine/base/blocking.h"

#include <stddef.h>

static _Thread_local blocking_hook *thread_hook;
static _Thread_local void *thread_context;

void blocking_set_hook(blocking_hook *hook, void *context)
{
    thread_hook = hook;
    thread_context = context;
}

bool blocking_is_dear(void)
{
    return thread_hook != NULL;
}

void blocking_enter(void)
{
    blocking_hook *hook = thread_hook;

    if (hook == NULL)
        return;
    /* Removed first: the hook may itself come to a place that waits. */
    thread_hook = NULL;
    hook(thread_context);
}
