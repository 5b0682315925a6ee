/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kill_at.c - preloaded into a daemon: it dies by SIGKILL at a named point
 *
 * VARVE_KILL_AT=CALL:PART:WHEN:N. CALL is write, sync, syncfs, rename, link, unlink, open or chmod;
 * PART the directory of the store that it concerns (wal, chunks, tmp, manifest, checkpoints, any);
 * WHEN b (before the call), a (after it) or m (a write of half of it); N says which such call it is,
 * counted from the start. VARVE_KILL_STORE is the store's path: other files do not count.
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static struct {
    char call[16], part[16], when;
    unsigned number;
    const char *store;
    atomic_uint seen;
} point;

__attribute__((constructor)) static void read_environment(void)
{
    const char *text = getenv("VARVE_KILL_AT");

    point.store = getenv("VARVE_KILL_STORE");
    if (text == NULL || point.store == NULL ||
        sscanf(text, "%15[^:]:%15[^:]:%c:%u", point.call, point.part, &point.when, &point.number) !=
            4)
        point.call[0] = '\0';
}

static void *next_function(const char *name)
{
    void *function = dlsym(RTLD_NEXT, name);

    if (function == NULL)
        abort();
    return function;
}

/* The function of that name that would have been called. ISO C has no cast for it. */
#define NEXT(type, name)                                                                           \
    ({                                                                                             \
        static _Atomic(void *) found;                                                              \
        void *address = atomic_load(&found);                                                       \
        type function;                                                                             \
        if (address == NULL) {                                                                     \
            address = next_function(name);                                                         \
            atomic_store(&found, address);                                                         \
        }                                                                                          \
        memcpy(&function, &address, sizeof function);                                              \
        function;                                                                                  \
    })

static int is_of_part(int descriptor)
{
    char link[64], path[4096];
    ssize_t size;
    size_t store_size = strlen(point.store), part_size = strlen(point.part);

    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    size = readlink(link, path, sizeof path - 1);
    if (size < 0)
        return 0;
    path[size] = '\0';
    if (strncmp(path, point.store, store_size) != 0 ||
        (path[store_size] != '/' && path[store_size] != '\0'))
        return 0;
    return strcmp(point.part, "any") == 0 ||
           (path[store_size] == '/' && strncmp(path + store_size + 1, point.part, part_size) == 0 &&
            (path[store_size + 1 + part_size] == '/' || path[store_size + 1 + part_size] == '\0'));
}

/* Is this call the one? */
static int is_due(const char *call, int descriptor)
{
    return strcmp(point.call, call) == 0 && is_of_part(descriptor) &&
           atomic_fetch_add(&point.seen, 1) + 1 == point.number;
}

static void die(void)
{
    kill(getpid(), SIGKILL);
    for (;;)
        pause();
}

#define AROUND(call, descriptor, expression)                                                       \
    int due = is_due(call, descriptor);                                                            \
                                                                                                   \
    if (due && point.when == 'b')                                                                  \
        die();                                                                                     \
    __typeof__(expression) result = (expression);                                                  \
    if (due)                                                                                       \
        die();                                                                                     \
    return result

typedef ssize_t pwrite_function(int, const void *, size_t, off_t);
ssize_t pwrite64(int descriptor, const void *data, size_t size, off_t offset);
ssize_t pwrite64(int descriptor, const void *data, size_t size, off_t offset)
{
    pwrite_function *next = NEXT(pwrite_function *, "pwrite64");
    int due = is_due("write", descriptor);

    if (due && point.when == 'b')
        die();
    /* Half, in whole blocks: the file may be open for direct writes. */
    if (due && point.when == 'm')
        size = size / 2 / 4096 * 4096;
    ssize_t result = size > 0 ? next(descriptor, data, size, offset) : 0;
    if (due)
        die();
    return result;
}

typedef ssize_t writev_function(int, const struct iovec *, int);
ssize_t writev(int descriptor, const struct iovec *parts, int count)
{
    writev_function *next = NEXT(writev_function *, "writev");

    AROUND("write", descriptor, next(descriptor, parts, count));
}

typedef int sync_function(int);
int fsync(int descriptor)
{
    sync_function *next = NEXT(sync_function *, "fsync");

    AROUND("sync", descriptor, next(descriptor));
}

int fdatasync(int descriptor)
{
    sync_function *next = NEXT(sync_function *, "fdatasync");

    AROUND("sync", descriptor, next(descriptor));
}

int syncfs(int descriptor)
{
    sync_function *next = NEXT(sync_function *, "syncfs");

    AROUND("syncfs", descriptor, next(descriptor));
}

typedef int renameat_function(int, const char *, int, const char *);
int renameat(int from_directory, const char *from, int to_directory, const char *to)
{
    renameat_function *next = NEXT(renameat_function *, "renameat");

    AROUND("rename", to_directory, next(from_directory, from, to_directory, to));
}

typedef int linkat_function(int, const char *, int, const char *, int);
int linkat(int from_directory, const char *from, int to_directory, const char *to, int flags)
{
    linkat_function *next = NEXT(linkat_function *, "linkat");

    AROUND("link", to_directory, next(from_directory, from, to_directory, to, flags));
}

typedef int unlinkat_function(int, const char *, int);
int unlinkat(int directory, const char *name, int flags)
{
    unlinkat_function *next = NEXT(unlinkat_function *, "unlinkat");

    AROUND("unlink", directory, next(directory, name, flags));
}

typedef int fchmod_function(int, mode_t);
int fchmod(int descriptor, mode_t mode)
{
    fchmod_function *next = NEXT(fchmod_function *, "fchmod");

    AROUND("chmod", descriptor, next(descriptor, mode));
}

/* Files are opened by openat2(2), for which the C library has no function of its own. */
typedef long syscall_function(long, ...);
long syscall(long number, ...)
{
    syscall_function *next = NEXT(syscall_function *, "syscall");
    long arguments[6];
    va_list list;

    va_start(list, number);
    for (int i = 0; i < 6; i++)
        arguments[i] = va_arg(list, long);
    va_end(list);
    int due = number == 437 && is_due("open", (int)arguments[0]);
    if (due && point.when == 'b')
        die();
    long result = next(number, arguments[0], arguments[1], arguments[2], arguments[3], arguments[4],
                       arguments[5]);
    if (due)
        die();
    return result;
}
