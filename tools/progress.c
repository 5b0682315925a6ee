/* SPDX-License-Identifier: Apache-2.0 */
/*
 * progress.c - one line on standard error, written over again and again
 */
#include "tools/progress.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include "engine/base/lock.h"
#include "tools/output.h"

#define INTERVAL_NS UINT64_C(200000000)

static volatile sig_atomic_t interrupted;

static void interrupt(int number)
{
    (void)number;
    interrupted = 1;
}

void progress_begin(struct progress *progress, const char *what, bool quiet)
{
    struct sigaction action = {.sa_handler = interrupt, .sa_flags = (int)SA_RESETHAND};

    (void)sigaction(SIGINT, &action, NULL);
    (void)sigaction(SIGTERM, &action, NULL);
    *progress = (struct progress){
        .what = what,
        .shown = !quiet && isatty(STDERR_FILENO) == 1,
    };
}

int progress_show(struct progress *progress, uint64_t done, uint64_t total)
{
    char done_text[OUTPUT_SIZE_TEXT], total_text[OUTPUT_SIZE_TEXT];
    uint64_t now = progress->shown ? clock_monotonic_ns() : 0;

    if (progress->shown && now - progress->shown_ns >= INTERVAL_NS) {
        progress->shown_ns = now;
        (void)fprintf(stderr, "\r%s: %s of %s (%" PRIu64 " %%)\033[K", progress->what,
                      output_size(done, done_text), output_size(total, total_text),
                      total > 0 ? (uint64_t)((double)done * 100 / (double)total) : 100);
        (void)fflush(stderr);
    }
    return interrupted;
}

void progress_end(struct progress *progress)
{
    if (progress->shown && progress->shown_ns != 0)
        (void)fputs("\r\033[K", stderr);
}

bool progress_interrupted(void)
{
    return interrupted != 0;
}
