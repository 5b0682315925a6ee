/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ll_namespace.c - requests about names
 */
#include "fuse/ll_internal.h"

#include <errno.h>
#include <stdlib.h>

void ll_lookup(fuse_req_t request, fuse_ino_t parent, const char *name)
{
    struct fs_entry entry;
    int error = fs_lookup(ll_of(request)->fs, parent, name, &entry);

    ll_reply_entry(request, parent, error, &entry);
}

void ll_forget(fuse_req_t request, fuse_ino_t node, uint64_t lookups)
{
    fs_forget(ll_of(request)->fs, node, lookups);
    fuse_reply_none(request);
}

void ll_forget_multi(fuse_req_t request, size_t count, struct fuse_forget_data *forgets)
{
    struct fs *fs = ll_of(request)->fs;

    for (size_t i = 0; i < count; i++)
        fs_forget(fs, forgets[i].ino, forgets[i].nlookup);
    fuse_reply_none(request);
}

/* What creates a name answers -ENOENT plainly: a vanished parent says nothing about the name. */
static void ll_reply_created(fuse_req_t request, uint64_t parent, int error,
                             const struct fs_entry *entry)
{
    if (error < 0)
        ll_reply_error(request, error);
    else
        ll_reply_entry(request, parent, 0, entry);
}

void ll_mknod(fuse_req_t request, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev)
{
    struct fs_caller caller = ll_caller(request);
    struct fs_entry entry;
    int error = fs_mknod(ll_of(request)->fs, parent, name, mode, rdev, &caller, &entry);

    ll_reply_created(request, parent, error, &entry);
}

/* ---- a directory in .snapshots is a snapshot: flush first ---- */

struct ll_mkdir_job {
    struct ll_job job; /* first */
    fuse_req_t request;
    uint64_t parent;
    mode_t mode;
    struct fs_caller caller;
    char name[];
};

static void ll_mkdir_run(struct ll *ll, struct ll_job *job, int error)
{
    struct ll_mkdir_job *mkdir_job = (struct ll_mkdir_job *)job;
    struct fs_entry entry;

    if (error == 0)
        error = fs_mkdir(ll->fs, mkdir_job->parent, mkdir_job->name, mkdir_job->mode,
                         &mkdir_job->caller, &entry);
    ll_reply_created(mkdir_job->request, mkdir_job->parent, error, &entry);
    free(mkdir_job);
}

static int ll_mkdir_submit(fuse_req_t request, uint64_t parent, const char *name, mode_t mode,
                           const struct fs_caller *caller)
{
    size_t name_size = strlen(name) + 1;
    struct ll_mkdir_job *job = malloc(sizeof *job + name_size);

    if (job == NULL)
        return -ENOMEM;
    *job = (struct ll_mkdir_job){
        .job = {.run = ll_mkdir_run},
        .request = request,
        .parent = parent,
        .mode = mode,
        .caller = *caller,
    };
    memcpy(job->name, name, name_size);
    if (!ll_flusher_submit(ll_of(request)->flusher, &job->job)) {
        free(job);
        return -ENOTCONN;
    }
    return 0;
}

void ll_mkdir(fuse_req_t request, fuse_ino_t parent, const char *name, mode_t mode)
{
    struct fs_caller caller = ll_caller(request);
    struct fs_entry entry;
    int error;

    if (ll_node_is_snapdir(parent)) {
        error = ll_mkdir_submit(request, parent, name, mode, &caller);
        if (error < 0)
            ll_reply_error(request, error);
        return;
    }
    error = fs_mkdir(ll_of(request)->fs, parent, name, mode, &caller, &entry);
    ll_reply_created(request, parent, error, &entry);
}

/* ---- the rest ---- */

void ll_symlink(fuse_req_t request, const char *target, fuse_ino_t parent, const char *name)
{
    struct fs_caller caller = ll_caller(request);
    struct fs_entry entry;
    int error = fs_symlink(ll_of(request)->fs, parent, name, target, &caller, &entry);

    ll_reply_created(request, parent, error, &entry);
}

void ll_link(fuse_req_t request, fuse_ino_t node, fuse_ino_t parent, const char *name)
{
    struct fs_caller caller = ll_caller(request);
    struct fs_entry entry;
    int error = fs_link(ll_of(request)->fs, node, parent, name, &caller, &entry);

    ll_reply_created(request, parent, error, &entry);
}

void ll_unlink(fuse_req_t request, fuse_ino_t parent, const char *name)
{
    struct fs_caller caller = ll_caller(request);

    ll_reply_error(request, fs_unlink(ll_of(request)->fs, parent, name, &caller));
}

void ll_rmdir(fuse_req_t request, fuse_ino_t parent, const char *name)
{
    struct fs_caller caller = ll_caller(request);

    ll_reply_error(request, fs_rmdir(ll_of(request)->fs, parent, name, &caller));
}

void ll_rename(fuse_req_t request, fuse_ino_t from_parent, const char *from, fuse_ino_t to_parent,
               const char *to, unsigned flags)
{
    struct fs_caller caller = ll_caller(request);

    ll_reply_error(request,
                   fs_rename(ll_of(request)->fs, from_parent, from, to_parent, to, flags, &caller));
}

void ll_readlink(fuse_req_t request, fuse_ino_t node)
{
    struct buffer target = {0};
    int error = fs_readlink(ll_of(request)->fs, node, &target);

    if (error < 0)
        ll_reply_error(request, error);
    else
        (void)fuse_reply_buf(request, (const char *)target.data, target.size);
    buffer_free(&target);
}
