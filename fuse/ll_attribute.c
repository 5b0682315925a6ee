/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ll_attribute.c - requests about attributes, extended attributes and the whole filesystem
 */
#include "fuse/ll_internal.h"

#include <errno.h>

#include <limits.h>

void ll_getattr(fuse_req_t request, fuse_ino_t node, struct fuse_file_info *info)
{
    struct fs_entry entry;
    int error = fs_getattr(ll_of(request)->fs, node, &entry);

    (void)info;
    ll_reply_attribute(request, error, &entry);
}

static const struct {
    int set;
    unsigned mask;
} setattr_bits[] = {
    {FUSE_SET_ATTR_MODE, FS_SETATTR_MODE},
    {FUSE_SET_ATTR_UID, FS_SETATTR_UID},
    {FUSE_SET_ATTR_GID, FS_SETATTR_GID},
    {FUSE_SET_ATTR_SIZE, FS_SETATTR_SIZE},
    {FUSE_SET_ATTR_ATIME, FS_SETATTR_ATIME},
    {FUSE_SET_ATTR_MTIME, FS_SETATTR_MTIME},
    {FUSE_SET_ATTR_ATIME_NOW, FS_SETATTR_ATIME_NOW},
    {FUSE_SET_ATTR_MTIME_NOW, FS_SETATTR_MTIME_NOW},
    {FUSE_SET_ATTR_CTIME, FS_SETATTR_CTIME},
};

static void ll_decode_setattr(const struct ll *ll, const struct stat *attributes, int to_set,
                              struct fs_setattr *ret_change)
{
    *ret_change = (struct fs_setattr){
        .mode = attributes->st_mode,
        .uid = attributes->st_uid,
        .gid = attributes->st_gid,
        .size_bytes = (uint64_t)attributes->st_size,
        .atime = attributes->st_atim,
        .mtime = attributes->st_mtim,
        .ctime = attributes->st_ctim,
    };
    for (size_t i = 0; i < sizeof setattr_bits / sizeof setattr_bits[0]; i++) {
        if (to_set & setattr_bits[i].set)
            ret_change->mask |= setattr_bits[i].mask;
    }
    if (ll_wire_setattr_kills_privileges(ll))
        ret_change->mask |= FS_SETATTR_KILL_PRIVILEGES;
}

void ll_setattr(fuse_req_t request, fuse_ino_t node, struct stat *attributes, int to_set,
                struct fuse_file_info *info)
{
    struct ll *ll = ll_of(request);
    struct fs_caller caller = ll_caller(request);
    struct fs_setattr change;
    struct fs_entry entry;
    int error;

    (void)info;
    ll_decode_setattr(ll, attributes, to_set, &change);
    error = fs_setattr(ll->fs, node, &change, &caller, &entry);
    /* The times of writes that the kernel had held back, of a file that is immutable by now: those
     * writes were taken, with times of their own, and whoever closes the file would get the error. */
    if (error == -EPERM && ll->options->writeback &&
        to_set == (FUSE_SET_ATTR_MTIME | FUSE_SET_ATTR_CTIME))
        error = fs_getattr(ll->fs, node, &entry);
    ll_reply_attribute(request, error, &entry);
}

void ll_statfs(fuse_req_t request, fuse_ino_t node)
{
    struct statvfs space;
    int error = fs_statfs(ll_of(request)->fs, &space);

    (void)node;
    if (error < 0)
        ll_reply_error(request, error);
    else
        (void)fuse_reply_statfs(request, &space);
}

/* ---- extended attributes ---- */

/* Size 0 asks for the length, otherwise the bytes are in `data`. */
static void ll_reply_xattr(fuse_req_t request, size_t size, const void *data, int64_t result)
{
    if (result >= 0 && size == 0)
        (void)fuse_reply_xattr(request, (size_t)result);
    else
        ll_reply_buffer(request, data, result);
}

/* The kernel never asks for more than XATTR_SIZE_MAX; a size beyond it is not worth memory. */
static size_t ll_xattr_size(size_t size)
{
    return size < LL_REQUEST_DATA_MAX ? size : LL_REQUEST_DATA_MAX;
}

void ll_getxattr(fuse_req_t request, fuse_ino_t node, const char *name, size_t size)
{
    size_t room = ll_xattr_size(size);
    void *data = room > 0 ? ll_loop_reply_buffer(room) : NULL;

    if (room > 0 && data == NULL)
        ll_reply_error(request, -ENOMEM);
    else
        ll_reply_xattr(request, room, data,
                       fs_getxattr(ll_of(request)->fs, node, name, data, room));
}

void ll_listxattr(fuse_req_t request, fuse_ino_t node, size_t size)
{
    size_t room = ll_xattr_size(size);
    void *data = room > 0 ? ll_loop_reply_buffer(room) : NULL;

    if (room > 0 && data == NULL)
        ll_reply_error(request, -ENOMEM);
    else
        ll_reply_xattr(
            request, room, data,
            fs_listxattr(ll_of(request)->fs, node, fuse_req_ctx(request)->uid == 0, data, room));
}

void ll_setxattr(fuse_req_t request, fuse_ino_t node, const char *name, const char *value,
                 size_t size, int flags)
{
    struct fs_caller caller = ll_caller(request);

    ll_reply_error(request,
                   fs_setxattr(ll_of(request)->fs, node, name, value, size, flags, &caller));
}

void ll_removexattr(fuse_req_t request, fuse_ino_t node, const char *name)
{
    struct fs_caller caller = ll_caller(request);

    ll_reply_error(request, fs_removexattr(ll_of(request)->fs, node, name, &caller));
}
