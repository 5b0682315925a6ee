/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ll_ioctl.c - inode flags (chattr, lsattr, xfs_io) and the control channel
 *
 * The kernel has checked who may change flags and has fetched the arguments: it sends the bytes
 * that the command's number says, which for flags and versions are 32 bits whatever the number says.
 */
#include "fuse/ll_internal.h"

#include <errno.h>
#include <linux/fs.h>
#include <stdlib.h>

#include "fuse/control_protocol.h"

static const struct {
    uint32_t flag, extended;
} flag_pairs[] = {
    {FS_IMMUTABLE_FL, FS_XFLAG_IMMUTABLE}, {FS_APPEND_FL, FS_XFLAG_APPEND},
    {FS_SYNC_FL, FS_XFLAG_SYNC},           {FS_NOATIME_FL, FS_XFLAG_NOATIME},
    {FS_NODUMP_FL, FS_XFLAG_NODUMP},       {FS_PROJINHERIT_FL, FS_XFLAG_PROJINHERIT},
};

#define FLAG_PAIRS (sizeof flag_pairs / sizeof flag_pairs[0])

/* FS_IOC_GETFLAGS and FS_IOC_GETVERSION. */
static void ll_get_number(fuse_req_t request, uint64_t node, unsigned command, size_t out_size)
{
    struct fs_entry entry;
    uint32_t number = 0;
    int error = fs_getattr(ll_of(request)->fs, node, &entry);

    if (error == 0 && out_size < sizeof number)
        error = -EINVAL;
    if (error < 0) {
        ll_reply_error(request, error);
        return;
    }
    if (command == (unsigned)FS_IOC_GETFLAGS)
        number = entry.attribute.flags;
    else
        number = (uint32_t)entry.attribute.generation;
    (void)fuse_reply_ioctl(request, 0, &number, sizeof number);
}

/* ---- setting flags ---- */

struct ll_flags_job {
    struct ll_job job; /* first */
    fuse_req_t request;
    uint64_t node;
    uint32_t flags, project;
    bool has_project;
};

/* The kernel keeps the attributes, and does not know that setting flags changes ctime. Only those
 * are dropped, which waits for nothing, so it may be done here: before the caller goes on. */
static void ll_apply_flags(const struct ll_flags_job *change)
{
    struct fs_caller caller = ll_caller(change->request);
    struct ll *ll = ll_of(change->request);
    int error = fs_set_flags(ll->fs, change->node, change->flags,
                             change->has_project ? &change->project : NULL, &caller);

    if (error < 0) {
        ll_reply_error(change->request, error);
        return;
    }
    (void)fuse_lowlevel_notify_inval_inode(ll->session, change->node, -1, 0);
    (void)fuse_reply_ioctl(change->request, 0, NULL, 0);
}

static void ll_flags_run(struct ll *ll, struct ll_job *job, int error)
{
    struct ll_flags_job *change = (struct ll_flags_job *)job;

    if (error == 0) {
        (void)fuse_lowlevel_notify_inval_inode(ll->session, change->node, 0, 0);
        ll_apply_flags(change);
    } else {
        ll_reply_error(change->request, error);
    }
    free(change);
}

/*
 * What was written before the flags is written: an immutable file takes nothing any more, and one that
 * is append-only nothing but at its end. The kernel holds the inode's lock meanwhile, so what it still
 * has is fetched as for a seek (ll_seek.c).
 */
static void ll_change_flags(const struct ll_flags_job *change)
{
    struct ll *ll = ll_of(change->request);
    struct ll_flags_job *job;

    if ((change->flags & (FS_IMMUTABLE_FL | FS_APPEND_FL)) == 0 ||
        !ll_handles_has(ll->dirty_files, change->node)) {
        ll_apply_flags(change);
        return;
    }
    job = malloc(sizeof *job);
    if (job == NULL) {
        ll_reply_error(change->request, -ENOMEM);
        return;
    }
    *job = *change;
    job->job.run = ll_flags_run;
    if (!ll_flusher_submit(ll->seeker, &job->job))
        ll_flags_run(ll, &job->job, -ENOTCONN);
}

static void ll_set_flags(fuse_req_t request, uint64_t node, const void *in, size_t in_size)
{
    struct ll_flags_job change = {.request = request, .node = node};

    if (in_size < sizeof change.flags) {
        ll_reply_error(request, -EINVAL);
        return;
    }
    memcpy(&change.flags, in, sizeof change.flags);
    ll_change_flags(&change);
}

static void ll_get_extended(fuse_req_t request, uint64_t node, size_t out_size)
{
    struct fsxattr attributes = {0};
    struct fs_entry entry;
    int error = fs_getattr(ll_of(request)->fs, node, &entry);

    if (error == 0 && out_size < sizeof attributes)
        error = -EINVAL;
    if (error < 0) {
        ll_reply_error(request, error);
        return;
    }
    attributes.fsx_projid = entry.attribute.project;
    for (size_t i = 0; i < FLAG_PAIRS; i++) {
        if (entry.attribute.flags & flag_pairs[i].flag)
            attributes.fsx_xflags |= flag_pairs[i].extended;
    }
    (void)fuse_reply_ioctl(request, 0, &attributes, sizeof attributes);
}

static void ll_set_extended(fuse_req_t request, uint64_t node, const void *in, size_t in_size)
{
    struct fs *fs = ll_of(request)->fs;
    struct fsxattr attributes;
    struct fs_entry entry;
    int error = -EINVAL;

    if (in_size >= sizeof attributes) {
        memcpy(&attributes, in, sizeof attributes);
        error = fs_getattr(fs, node, &entry);
    }
    /* Extent hints are not kept here. */
    if (error == 0 && (attributes.fsx_extsize != 0 || attributes.fsx_cowextsize != 0))
        error = -EOPNOTSUPP;
    if (error == 0) {
        for (size_t i = 0; i < FLAG_PAIRS; i++) {
            entry.attribute.flags &= ~flag_pairs[i].flag;
            if (attributes.fsx_xflags & flag_pairs[i].extended)
                entry.attribute.flags |= flag_pairs[i].flag;
            attributes.fsx_xflags &= ~flag_pairs[i].extended;
        }
        /* HASATTR only informs. */
        if ((attributes.fsx_xflags & ~(uint32_t)FS_XFLAG_HASATTR) != 0)
            error = -EOPNOTSUPP;
    }
    if (error < 0)
        ll_reply_error(request, error);
    else
        ll_change_flags(&(struct ll_flags_job){.request = request,
                                               .node = node,
                                               .flags = entry.attribute.flags,
                                               .project = attributes.fsx_projid,
                                               .has_project = true});
}

void ll_ioctl(fuse_req_t request, fuse_ino_t node, unsigned command, void *argument,
              struct fuse_file_info *info, unsigned flags, const void *in, size_t in_size,
              size_t out_size)
{
    (void)info;
    (void)flags;
    switch (command) {
    case (unsigned)CONTROL_IOCTL:
        ll_control_ioctl(ll_of(request), request, in, in_size, out_size);
        break;
    case (unsigned)FS_IOC_GETFLAGS:
    case (unsigned)FS_IOC_GETVERSION:
        ll_get_number(request, node, command, out_size);
        break;
    case (unsigned)FS_IOC_SETFLAGS:
        ll_set_flags(request, node, in, in_size);
        break;
    case (unsigned)FS_IOC_FSGETXATTR:
        ll_get_extended(request, node, out_size);
        break;
    case (unsigned)FS_IOC_FSSETXATTR:
        ll_set_extended(request, node, in, in_size);
        break;
    case (unsigned)LL_SHUTDOWN_IOCTL:
        ll_shutdown(request, argument);
        break;
    default:
        ll_reply_error(request, -ENOTTY);
    }
}
