/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ll_shutdown.c - FS_IOC_SHUTDOWN, as ext4 and xfs have it: end here, as by a power cut
 *
 * Only with -o shutdown_ioctl, which is for tests of what a crash leaves: nothing is written to the
 * store from then on, and every request but those that end things and those that memory answers gets
 * EIO until the store is mounted anew. What the kernel holds it goes on showing.
 */
#include "fuse/ll_internal.h"

#include <errno.h>
#include <linux/fuse.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/uio.h>

/* What may be asked for. */
enum ll_shutdown_kind {
    LL_SHUTDOWN_WRITE_ALL = 0, /* the pages of shared mappings first, and a sync */
    LL_SHUTDOWN_SYNC = 1,      /* a sync first */
    LL_SHUTDOWN_AT_ONCE = 2,
};

struct ll_shutdown_job {
    struct ll_job job; /* first */
    fuse_req_t request;
};

/* Sync, if it is wanted, and end. */
static void ll_shutdown_finish(struct ll *ll, fuse_req_t request, bool sync)
{
    int error = sync ? fs_sync(ll->fs) : 0;

    if (error < 0) {
        ll_reply_error(request, error);
        return;
    }
    engine_cut(ll->engine);
    atomic_store(&ll->is_shut, true);
    log_warning("%s is shut down on request", ll->options->mount_point);
    (void)fuse_reply_ioctl(request, 0, NULL, 0);
}

static void ll_shutdown_run(struct ll *ll, struct ll_job *job, int error)
{
    struct ll_shutdown_job *shutdown = (struct ll_shutdown_job *)job;

    if (error < 0)
        ll_reply_error(shutdown->request, error);
    else
        ll_shutdown_finish(ll, shutdown->request, true);
    free(shutdown);
}

/* The flusher writes the pages, then runs the job. */
static int ll_shutdown_submit(struct ll *ll, fuse_req_t request)
{
    struct ll_shutdown_job *job = malloc(sizeof *job);

    if (job == NULL)
        return -ENOMEM;
    *job = (struct ll_shutdown_job){.job = {.run = ll_shutdown_run}, .request = request};
    if (!ll_flusher_submit(ll->flusher, &job->job)) {
        free(job);
        return -ENOTCONN;
    }
    return 0;
}

/* The command's number says that its argument is written to, so the kernel does not send it; but the
 * caller waits for us, and it can be read where it is. */
static int ll_shutdown_read_argument(fuse_req_t request, const void *argument, uint32_t *ret_kind)
{
    union {
        const void *constant;
        void *plain;
    } address = {argument};
    struct iovec to = {ret_kind, sizeof *ret_kind}, from = {address.plain, sizeof *ret_kind};
    ssize_t size = process_vm_readv(fuse_req_ctx(request)->pid, &to, 1, &from, 1, 0);

    if (size < 0)
        return -errno;
    return size == (ssize_t)sizeof *ret_kind ? 0 : -EFAULT;
}

void ll_shutdown(fuse_req_t request, const void *argument)
{
    uid_t uid = fuse_req_ctx(request)->uid;
    struct ll *ll = ll_of(request);
    uint32_t kind;
    int error = 0;

    if (!ll->options->shutdown_ioctl)
        error = -ENOTTY;
    else if (uid != 0 && uid != ll->options->fs.owner_uid)
        error = -EPERM;
    else
        error = ll_shutdown_read_argument(request, argument, &kind);
    if (error == 0 && kind > LL_SHUTDOWN_AT_ONCE)
        error = -EINVAL;
    if (error == 0 && kind == LL_SHUTDOWN_WRITE_ALL)
        error = ll_shutdown_submit(ll, request);
    else if (error == 0)
        ll_shutdown_finish(ll, request, kind == LL_SHUTDOWN_SYNC);
    if (error < 0)
        ll_reply_error(request, error);
}

static bool ll_shutdown_permits(uint32_t opcode)
{
    switch (opcode) {
    case FUSE_INIT:
    case FUSE_DESTROY:
    case FUSE_INTERRUPT:
    case FUSE_FORGET:
    case FUSE_BATCH_FORGET:
    case FUSE_RELEASE:
    case FUSE_RELEASEDIR:
    case FUSE_GETATTR:
    case FUSE_STATFS:
        return true;
    default:
        return false;
    }
}

bool ll_shutdown_refuses(struct ll *ll, const void *request, size_t size)
{
    struct fuse_out_header out = {.len = sizeof out, .error = -EIO};
    struct iovec part = {&out, sizeof out};
    struct fuse_in_header header;

    if (!atomic_load_explicit(&ll->is_shut, memory_order_relaxed) || size < sizeof header)
        return false;
    memcpy(&header, request, sizeof header);
    if (ll_shutdown_permits(header.opcode))
        return false;
    out.unique = header.unique;
    (void)ll_transport_reply(ll, &part, 1);
    return true;
}
