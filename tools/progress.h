/* SPDX-License-Identifier: Apache-2.0 */
/*
 * progress.h - how far long work has come, on a terminal; and its interruption by SIGINT, SIGTERM
 */
#ifndef VARVE_TOOLS_PROGRESS_H
#define VARVE_TOOLS_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

struct progress {
    const char *what; /* "verifying" */
    bool shown;       /* standard error is a terminal and nobody asked for quiet */
    uint64_t shown_ns;
};

/* Also begins to watch for interruption. */
void progress_begin(struct progress *progress, const char *what, bool quiet);

/* Show the bytes done, a few times a second. Non-zero when the user has interrupted. */
int progress_show(struct progress *progress, uint64_t done, uint64_t total);

/* Take the line away. */
void progress_end(struct progress *progress);

bool progress_interrupted(void);

#endif
