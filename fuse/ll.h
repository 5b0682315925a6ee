/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ll.h - one mounted store: from open to close
 *
 * ll_run() is the whole life of the daemon: it opens the engine and the filesystem, mounts, serves
 * requests until somebody unmounts or SIGTERM or SIGINT arrives, makes everything durable and
 * closes. Nothing of libfuse here: this is what the command line sees.
 *
 * Threads: ll_run() is called once, from the main thread, before any other thread exists (LMDB and
 *          the rings belong to the process that serves). It blocks SIGTERM, SIGINT and SIGHUP.
 */
#ifndef VARVE_FUSE_LL_H
#define VARVE_FUSE_LL_H

#include "fuse/ll_options.h"

enum ll_stage {
    LL_STAGE_OPEN,  /* the store could not be opened */
    LL_STAGE_MOUNT, /* it could not be mounted */
    LL_STAGE_SERVE,
    LL_STAGE_CLOSE, /* closing did not make everything durable */
};

struct ll_failure {
    enum ll_stage stage;
    int error;
    char text[512]; /* one line for the user */
};

/* Called once, when the mount answers. */
typedef void ll_ready_callback(void *context);

/* 0 after a clean end, or a negative error, described in *ret_failure. */
int ll_run(const struct ll_options *options, ll_ready_callback *ready, void *context,
           struct ll_failure *ret_failure);

/* ---- shared with the command line ---- */

/* Unmount `mount_point`: by system call as root, otherwise through fusermount3. `lazily` detaches a
 * busy or dead one. -EBUSY, -EPERM, -EINVAL (not mounted) ... */
int ll_unmount(const char *mount_point, bool lazily);

/* When a mount of our type is at `path` and its daemon is gone, unmount it: 1 when it did, 0 when
 * nothing was to do; -EBUSY when the dead mount is not ours. */
int ll_clear_stale_mount(const char *path);

#endif
