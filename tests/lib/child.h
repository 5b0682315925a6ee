/* SPDX-License-Identifier: Apache-2.0 */
/*
 * child.h - run a function in a child process and keep what it says on standard error
 *
 * For what ends a process (broken invariants) or changes it for good (syslog, seccomp).
 */
#ifndef VARVE_TESTS_LIB_CHILD_H
#define VARVE_TESTS_LIB_CHILD_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

typedef void child_body(void *context);

/*
 * Runs body(context) and _exit(0) in a child. `output` gets its standard error, cut at `size` - 1
 * bytes and terminated. Returns the status of waitpid(2), or -1 when there was no child.
 */
static inline int child_run(child_body *body, void *context, char *output, size_t size)
{
    size_t used = 0;
    int ends[2], status;
    pid_t child;

    if (pipe(ends) < 0)
        return -1;
    fflush(NULL);
    child = fork();
    if (child == 0) {
        struct rlimit no_core = {0, 0};

        setrlimit(RLIMIT_CORE, &no_core);
        dup2(ends[1], STDERR_FILENO);
        close(ends[0]);
        close(ends[1]);
        body(context);
        _exit(0);
    }
    close(ends[1]);
    for (;;) {
        char piece[512];
        ssize_t count = read(ends[0], piece, sizeof piece);
        size_t kept;

        if (count <= 0)
            break;
        /* Read to the end even when full, or the child would wait for us. */
        kept = (size_t)count < size - 1 - used ? (size_t)count : size - 1 - used;
        memcpy(output + used, piece, kept);
        used += kept;
    }
    output[used] = '\0';
    close(ends[0]);
    if (child < 0 || waitpid(child, &status, 0) != child)
        return -1;
    return status;
}

#endif
