/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store_lock.c - wait until no process has a store open
 */
#include "tools/store_lock.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>

#include "engine/base/error.h"
#include "engine/base/io.h"
#include "fuse/mountinfo.h"

#define POLL_INTERVAL_NS 2000000
#define CLOSING_POLLS    5000

static int store_lock_try(struct io *io, struct io_file *root)
{
    struct io_file *lock;
    int error = io_open(io, root, "LOCK", IO_OPEN_READ, 0, &lock);

    if (error < 0)
        return error;
    error = io_lock(io, lock);
    io_close(io, lock);
    return error;
}

int store_lock_wait(const char *store, store_lock_patience *patience, void *context)
{
    const struct timespec interval = {.tv_nsec = POLL_INTERVAL_NS};
    struct io_file *root;
    struct io *io;
    int error = io_open_backend(IO_BACKEND_SYNC, &io);

    if (error < 0)
        return error;
    error = io_open_root(io, store, &root);
    if (error == 0) {
        while ((error = store_lock_try(io, root)) == ERROR_LOCKED && patience(context))
            (void)nanosleep(&interval, NULL);
        io_close(io, root);
    }
    io_close_backend(io);
    return error == -ENOENT ? 0 : error;
}

struct closing {
    char *store; /* as a mount shows it; NULL: it does not resolve */
    const char *fsname;
    int polls;
};

static bool is_shown(const char *source)
{
    return source != NULL && mountinfo_has_source(source) != 0;
}

static bool closing_patience(void *context)
{
    struct closing *closing = context;

    return closing->polls++ < CLOSING_POLLS && !is_shown(closing->store) &&
           !is_shown(closing->fsname);
}

void store_lock_wait_closing(const char *store, const char *fsname)
{
    struct closing closing = {.store = realpath(store, NULL), .fsname = fsname};

    if (closing.store != NULL)
        (void)store_lock_wait(closing.store, closing_patience, &closing);
    free(closing.store);
}
