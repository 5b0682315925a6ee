/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ll_reply.c - results to replies
 *
 * A fuse_reply_*() that fails (-ENOENT) means that the kernel gave the request up: what the reply
 * would have handed over is taken back.
 */
#include "fuse/ll_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

struct ll *ll_of(fuse_req_t request)
{
    return fuse_req_userdata(request);
}

/* A request carries one group of the caller's; the others stand in /proc. He waits for the reply,
 * so he is still there, if he can be seen from here at all. 1, 0 or a shortage. */
static int ll_caller_in_group(const struct fs_caller *caller, gid_t group)
{
    static const char key[] = "Groups:";
    char path[64], line[4096], *at = NULL, *end;
    bool found = false;
    FILE *status;
    int error;

    (void)snprintf(path, sizeof path, "/proc/%ld/status", (long)caller->pid);
    status = fopen(path, "re");
    if (status == NULL) {
        error = -errno;
        return error_is_shortage(error) ? error : 0;
    }
    /* Each number ends with a space: one that the buffer cuts is not taken for another. Who is in
     * more groups than fit is an outsider to those that do not. */
    while (at == NULL && fgets(line, sizeof line, status) != NULL) {
        if (strncmp(line, key, sizeof key - 1) == 0)
            at = line + sizeof key - 1;
    }
    while (at != NULL && !found) {
        unsigned long number = strtoul(at, &end, 10);

        if (end == at)
            break;
        found = *end == ' ' && number == group;
        at = end;
    }
    (void)fclose(status);
    return found;
}

struct fs_caller ll_caller(fuse_req_t request)
{
    const struct fuse_ctx *context = fuse_req_ctx(request);

    return (struct fs_caller){
        .uid = context->uid,
        .gid = context->gid,
        .pid = context->pid,
        .umask = context->umask,
        .in_group = ll_caller_in_group,
    };
}

void ll_reply_error(fuse_req_t request, int error)
{
    (void)fuse_reply_err(request, -error_errno(error));
}

void ll_fill_stat(const struct fs_attribute *attribute, struct stat *ret_stat)
{
    *ret_stat = (struct stat){
        .st_ino = attribute->number,
        .st_mode = attribute->mode,
        .st_nlink = attribute->nlink,
        .st_uid = attribute->uid,
        .st_gid = attribute->gid,
        .st_rdev = attribute->rdev,
        .st_size = (off_t)attribute->size_bytes,
        .st_blocks = (blkcnt_t)attribute->blocks_512,
        .st_blksize = FS_BLOCK_SIZE,
        .st_atim = attribute->atime,
        .st_mtim = attribute->mtime,
        .st_ctim = attribute->ctime,
    };
}

/*
 * A rollback tells the kernel of each inode that is another now. Of one that the kernel is about to meet,
 * by an answer that was begun before, it would have told too early: what such an answer says is asked
 * for again. (Names need none of this: the kernel takes them out under their directory's lock, which
 * whoever looks one up holds.)
 */
double ll_attribute_timeout(const struct ll *ll, const struct fs_entry *entry)
{
    return entry->stable && !ll_loop_meets_rollback(ll) ? LL_TIMEOUT_FOREVER : 0;
}

/*
 * How long a name found in `parent` stays true. What is done in one .snapshots shows in all, at
 * once: the notifications that tell the kernel so are sent by a thread of its own, which may come
 * late.
 */
static double ll_entry_timeout(const struct ll *ll, uint64_t parent)
{
    return ll_node_is_snapdir(parent) && ll->options->fs.snapdir_everywhere ? 0
                                                                            : LL_TIMEOUT_FOREVER;
}

void ll_fill_entry(const struct ll *ll, uint64_t parent, const struct fs_entry *entry,
                   struct fuse_entry_param *ret_param)
{
    *ret_param = (struct fuse_entry_param){
        .ino = entry->attribute.node,
        .generation = entry->attribute.generation,
        .attr_timeout = ll_attribute_timeout(ll, entry),
        .entry_timeout = ll_entry_timeout(ll, parent),
    };
    ll_fill_stat(&entry->attribute, &ret_param->attr);
}

/* Node 0 with a timeout is an answer that the kernel remembers. */
static void ll_reply_no_entry(fuse_req_t request, uint64_t parent)
{
    struct fuse_entry_param param = {.entry_timeout = LL_TIMEOUT_FOREVER};

    /* A snapshot's name may appear at any time through the control channel. */
    if (ll_node_is_snapdir(parent))
        ll_reply_error(request, -ENOENT);
    else
        (void)fuse_reply_entry(request, &param);
}

void ll_reply_entry(fuse_req_t request, uint64_t parent, int error, const struct fs_entry *entry)
{
    struct ll *ll = ll_of(request);
    struct fuse_entry_param param;

    if (error == -ENOENT) {
        ll_reply_no_entry(request, parent);
    } else if (error < 0) {
        ll_reply_error(request, error);
    } else {
        ll_fill_entry(ll, parent, entry, &param);
        if (fuse_reply_entry(request, &param) != 0)
            fs_forget(ll->fs, entry->attribute.node, 1);
    }
}

void ll_reply_attribute(fuse_req_t request, int error, const struct fs_entry *entry)
{
    struct stat attributes;

    if (error < 0) {
        ll_reply_error(request, error);
        return;
    }
    ll_fill_stat(&entry->attribute, &attributes);
    (void)fuse_reply_attr(request, &attributes, ll_attribute_timeout(ll_of(request), entry));
}

void ll_reply_count(fuse_req_t request, int64_t result)
{
    if (result < 0)
        ll_reply_error(request, (int)result);
    else
        (void)fuse_reply_write(request, (size_t)result);
}

void ll_reply_buffer(fuse_req_t request, const void *data, int64_t result)
{
    if (result < 0)
        ll_reply_error(request, (int)result);
    else
        (void)fuse_reply_buf(request, data, (size_t)result);
}
