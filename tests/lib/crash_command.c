/* SPDX-License-Identifier: Apache-2.0 */
/*
 * crash_command.c - the words of a command, its backend, what it says
 */
#include "tests/lib/crash_command.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tools/command.h"

#define SAID_SIZE 400

int __real_io_open_backend(enum io_backend backend, struct io **ret_io);
int __wrap_io_open_backend(enum io_backend backend, struct io **ret_io);

static struct io *backend_now; /* of the command that runs */
static int said_file = -1, kept_output = -1, kept_errors = -1;
static bool is_echoed;

int __wrap_io_open_backend(enum io_backend backend, struct io **ret_io)
{
    if (backend_now == NULL)
        return __real_io_open_backend(backend, ret_io);
    *ret_io = backend_now;
    return 0;
}

/* ---- what is printed ---- */

static void put_descriptor(int from, int to)
{
    if (from < 0 || dup2(from, to) < 0)
        abort();
}

/* Begin the file anew. */
static void clear_said(void)
{
    char block[4096];
    ssize_t count;
    off_t at = 0;

    fflush(NULL);
    while (is_echoed && (count = pread(said_file, block, sizeof block, at)) > 0) {
        at += count;
        if (write(kept_errors, block, (size_t)count) < 0)
            abort();
    }
    if (ftruncate(said_file, 0) != 0)
        abort();
}

void crash_command_divert(const char *path, bool echo)
{
    fflush(NULL);
    is_echoed = echo;
    if (path == NULL) {
        clear_said();
        put_descriptor(kept_output, STDOUT_FILENO);
        put_descriptor(kept_errors, STDERR_FILENO);
        return;
    }
    kept_output = dup(STDOUT_FILENO);
    kept_errors = dup(STDERR_FILENO);
    said_file = open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    put_descriptor(said_file, STDOUT_FILENO);
    put_descriptor(said_file, STDERR_FILENO);
}

const char *crash_command_said(void)
{
    static char said[SAID_SIZE];
    off_t size;
    ssize_t count = 0;

    fflush(NULL);
    size = lseek(said_file, 0, SEEK_END);
    if (size > 0)
        count = pread(said_file, said, sizeof said - 1,
                      size > SAID_SIZE - 1 ? size - (SAID_SIZE - 1) : 0);
    said[count > 0 ? count : 0] = '\0';
    for (char *at = said; *at != '\0'; at++)
        if (*at == '\n')
            *at = ';';
    return said;
}

/* ---- running ---- */

static int run(struct disk_model *disk, int (*command)(int count, char **words),
               const char *const *words)
{
    char *copies[8] = {0};
    int count = 0, status;

    clear_said();
    for (; words[count] != NULL; count++) {
        copies[count] = strdup(words[count]);
        if (copies[count] == NULL)
            abort();
    }
    backend_now = disk_model_io(disk);
    status = command(count, copies);
    backend_now = NULL;
    for (int i = 0; i < count; i++)
        free(copies[i]);
    return status;
}

int crash_command_clone(struct disk_model *disk, const char *checkpoint, const char *path,
                        bool copy)
{
    const char *const words[] = {"varve clone",          "-q", checkpoint, path,
                                 copy ? "--copy" : NULL, NULL};

    return run(disk, command_clone, words);
}

int crash_command_fsck(struct disk_model *disk, const char *store, bool repair)
{
    const char *const words[] = {"varve fsck", repair ? "-y" : "-n", store, NULL};

    return run(disk, command_fsck, words);
}
