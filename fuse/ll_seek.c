/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ll_seek.c - SEEK_DATA and SEEK_HOLE, also in what only the kernel knows
 *
 * A page that was written through a shared mapping is data, and the kernel asks us without sending it
 * first [Linux 6.18]: who copies a file from hole to hole would leave it out. So of a file that may
 * have such pages the hole that an answer would tell of is dropped from the kernel's memory, for which
 * it sends them, and the answer is looked for anew. What is dropped of a hole are zeros.
 *
 * Who asks holds the inode's lock in the kernel, for which fsync(2) waits: it cannot be done by the
 * flusher, which may be waiting in an fsync of that inode, nor by a thread that serves requests. So it
 * has a thread of its own.
 */
#include "fuse/ll_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

struct ll_seek_job {
    struct ll_job job; /* first */
    fuse_req_t request;
    uint64_t node, handle, offset;
    int whence;
};

struct ll_hole {
    uint64_t start, end; /* end UINT64_MAX: nothing is known to follow */
};

static int64_t ll_seek(const struct ll *ll, const struct ll_seek_job *job, int whence,
                       uint64_t offset)
{
    return fs_seek(ll->fs, job->node, job->handle, offset, whence);
}

/* Does the answer tell of a hole, and where is it? Past the end counts: with -o writeback the kernel
 * may know of more. */
static bool ll_seek_meets_hole(const struct ll *ll, const struct ll_seek_job *job, int64_t answer,
                               struct ll_hole *ret_hole)
{
    int64_t data = answer;

    if (answer < 0 && answer != -ENXIO)
        return false;
    ret_hole->start = job->offset;
    if (job->whence == SEEK_HOLE && answer >= 0) {
        ret_hole->start = (uint64_t)answer;
        data = ll_seek(ll, job, SEEK_DATA, ret_hole->start);
    }
    ret_hole->end = data >= 0 ? (uint64_t)data : UINT64_MAX;
    return ret_hole->start < ret_hole->end;
}

static void ll_seek_drop(const struct ll *ll, uint64_t node, const struct ll_hole *hole)
{
    off_t length = hole->end == UINT64_MAX ? 0 : (off_t)(hole->end - hole->start);
    int error = fuse_lowlevel_notify_inval_inode(ll->session, node, (off_t)hole->start, length);

    if (error < 0 && error != -ENOENT)
        log_debug("pages of a hole are not dropped: %s", error_text(error));
}

static void ll_seek_reply(fuse_req_t request, int64_t answer)
{
    if (answer < 0)
        ll_reply_error(request, (int)answer);
    else
        (void)fuse_reply_lseek(request, answer);
}

static void ll_seek_run(struct ll *ll, struct ll_job *job, int error)
{
    struct ll_seek_job *seek = (struct ll_seek_job *)job;
    int64_t answer = error < 0 ? error : ll_seek(ll, seek, seek->whence, seek->offset);
    struct ll_hole hole;

    if (ll_seek_meets_hole(ll, seek, answer, &hole)) {
        ll_seek_drop(ll, seek->node, &hole);
        answer = ll_seek(ll, seek, seek->whence, seek->offset);
        /* There was data, and what follows it may be some as well: once more for all the rest. */
        if (seek->whence == SEEK_HOLE && answer > (int64_t)hole.start) {
            hole = (struct ll_hole){(uint64_t)answer, UINT64_MAX};
            ll_seek_drop(ll, seek->node, &hole);
            answer = ll_seek(ll, seek, seek->whence, seek->offset);
        }
    }
    ll_seek_reply(seek->request, answer);
    free(seek);
}

static int ll_seek_submit(struct ll *ll, const struct ll_seek_job *seek)
{
    struct ll_seek_job *job = malloc(sizeof *job);

    if (job == NULL)
        return -ENOMEM;
    *job = *seek;
    if (!ll_flusher_submit(ll->seeker, &job->job)) {
        free(job);
        return -ENOTCONN;
    }
    return 0;
}

void ll_lseek(fuse_req_t request, fuse_ino_t node, off_t offset, int whence,
              struct fuse_file_info *info)
{
    struct ll *ll = ll_of(request);
    const struct ll_seek_job seek = {
        .job = {.run = ll_seek_run},
        .request = request,
        .node = node,
        .handle = info->fh,
        .offset = (uint64_t)offset,
        .whence = whence,
    };
    struct ll_hole hole;
    int64_t answer = offset < 0 ? -ENXIO : ll_seek(ll, &seek, whence, seek.offset);

    if (offset >= 0 && ll_handles_has(ll->dirty_files, node) &&
        ll_seek_meets_hole(ll, &seek, answer, &hole)) {
        int error = ll_seek_submit(ll, &seek);

        if (error == 0)
            return;
        answer = error;
    }
    ll_seek_reply(request, answer);
}
