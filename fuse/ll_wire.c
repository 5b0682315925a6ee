/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ll_wire.c - what has to be read from the request itself
 *
 * libfuse 3.14 knows neither TMPFILE, nor STATX, nor the flags of SETXATTR, nor those that ask us
 * to clear suid, sgid and capabilities. Requests come from the kernel, but their sizes are checked
 * all the same.
 */
#include "fuse/ll_internal.h"

#include <assert.h>
#include <errno.h>
#include <linux/fs.h>
#include <linux/fuse.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <unistd.h>

/* Copy the fixed part that follows the header: false when the request is shorter. */
static bool ll_wire_body(const void *request, size_t size, void *to, size_t to_size)
{
    if (size < sizeof(struct fuse_in_header) + to_size)
        return false;
    memcpy(to, (const char *)request + sizeof(struct fuse_in_header), to_size);
    return true;
}

bool ll_wire_write_kills_privileges(const struct ll *ll)
{
    struct fuse_write_in body;
    const void *request;
    size_t size;

    if (!ll->kill_privileges)
        return false;
    request = ll_loop_request(&size);
    return ll_wire_body(request, size, &body, sizeof body) &&
           (body.write_flags & FUSE_WRITE_KILL_SUIDGID) != 0;
}

bool ll_wire_setattr_kills_privileges(const struct ll *ll)
{
    struct fuse_setattr_in body;
    const void *request;
    size_t size;

    if (!ll->kill_privileges)
        return false;
    request = ll_loop_request(&size);
    return ll_wire_body(request, size, &body, sizeof body) &&
           (body.valid & FATTR_KILL_SUIDGID) != 0;
}

/* 0, or -ENOENT when the caller gave the request up. */
static int ll_wire_reply(struct ll *ll, const struct fuse_in_header *request, int error, void *body,
                         size_t size)
{
    struct fuse_out_header header = {
        .unique = request->unique,
        .error = error_errno(error),
        .len = (uint32_t)(sizeof header + size),
    };
    struct iovec parts[2] = {{&header, sizeof header}, {body, size}};

    return ll_transport_reply(ll, parts, size > 0 ? 2 : 1);
}

static void ll_wire_fill_time(const struct timespec *time, uint64_t *ret_s, uint32_t *ret_ns)
{
    *ret_s = (uint64_t)time->tv_sec;
    *ret_ns = (uint32_t)time->tv_nsec;
}

static void ll_wire_fill_attribute(const struct fs_attribute *attribute, struct fuse_attr *ret)
{
    *ret = (struct fuse_attr){
        .ino = attribute->number,
        .size = attribute->size_bytes,
        .blocks = attribute->blocks_512,
        .mode = attribute->mode,
        .nlink = attribute->nlink,
        .uid = attribute->uid,
        .gid = attribute->gid,
        .rdev = (uint32_t)attribute->rdev,
        .blksize = FS_BLOCK_SIZE,
    };
    ll_wire_fill_time(&attribute->atime, &ret->atime, &ret->atimensec);
    ll_wire_fill_time(&attribute->mtime, &ret->mtime, &ret->mtimensec);
    ll_wire_fill_time(&attribute->ctime, &ret->ctime, &ret->ctimensec);
}

struct ll_wire_opened {
    struct fuse_entry_out entry;
    struct fuse_open_out open;
};

/* Make the nameless file and open it; on success the caller owns a lookup and the handle. */
static int ll_wire_make_tmpfile(struct ll *ll, const struct fuse_in_header *header,
                                const struct fuse_create_in *body,
                                struct ll_wire_opened *ret_opened)
{
    struct fs_caller caller = {
        .uid = header->uid,
        .gid = header->gid,
        .pid = (pid_t)header->pid,
        .umask = (mode_t)body->umask,
    };
    struct fuse_file_info info = {.flags = (int)body->flags};
    struct fs_entry entry;
    int error;

    error = fs_tmpfile(ll->fs, header->nodeid, (mode_t)body->mode, &caller, &entry);
    if (error < 0)
        return error;
    error = ll_file_open(ll, entry.attribute.node, info.flags, &info);
    if (error < 0) {
        fs_forget(ll->fs, entry.attribute.node, 1);
        return error;
    }
    *ret_opened = (struct ll_wire_opened){
        .entry =
            {
                .nodeid = entry.attribute.node,
                .generation = entry.attribute.generation,
                .entry_valid = (uint64_t)LL_TIMEOUT_FOREVER,
                .attr_valid = (uint64_t)ll_attribute_timeout(ll, &entry),
            },
        .open = {.fh = info.fh, .open_flags = FOPEN_KEEP_CACHE},
    };
    ll_wire_fill_attribute(&entry.attribute, &ret_opened->entry.attr);
    return 0;
}

static void ll_wire_tmpfile(struct ll *ll, const struct fuse_in_header *header, const void *request,
                            size_t size)
{
    struct ll_wire_opened opened;
    struct fuse_create_in body;
    int error = -EINVAL;

    if (ll_wire_body(request, size, &body, sizeof body))
        error = ll_wire_make_tmpfile(ll, header, &body, &opened);
    if (error < 0) {
        (void)ll_wire_reply(ll, header, error, NULL, 0);
    } else if (ll_wire_reply(ll, header, 0, &opened, sizeof opened) != 0) {
        ll_file_close(ll, opened.entry.nodeid, (int)body.flags, opened.open.fh);
        fs_forget(ll->fs, opened.entry.nodeid, 1);
    }
}

/* With the protocol's flags, for which libfuse does not make room: the name follows them. */
static void ll_wire_setxattr(struct ll *ll, const struct fuse_in_header *header,
                             const void *request, size_t size)
{
    struct fs_caller caller = {.uid = header->uid, .gid = header->gid, .pid = (pid_t)header->pid};
    const char *name = (const char *)request + sizeof *header + sizeof(struct fuse_setxattr_in);
    struct fuse_setxattr_in body;
    size_t rest, name_size;
    int error = -EINVAL;

    if (ll_wire_body(request, size, &body, sizeof body)) {
        rest = size - sizeof *header - sizeof body;
        name_size = strnlen(name, rest);
        if (name_size < rest && rest - name_size - 1 >= body.size) {
            int flags = (int)body.flags;

            if (body.setxattr_flags & FUSE_SETXATTR_ACL_KILL_SGID)
                flags |= FS_XATTR_KILL_SGID;
            error = (int)body.flags < 0 || (body.flags & FS_XATTR_KILL_SGID) != 0
                        ? -EINVAL
                        : fs_setxattr(ll->fs, header->nodeid, name, name + name_size + 1, body.size,
                                      flags, &caller);
        }
    }
    (void)ll_wire_reply(ll, header, error, NULL, 0);
}

/* ---- STATX, which only asks for what GETATTR cannot tell: the time of birth ---- */

/* Of protocol 7.39, which the headers of the build machine may not have. */
#define LL_WIRE_STATX 52

struct ll_wire_statx_time {
    int64_t seconds;
    uint32_t nanoseconds;
    int32_t reserved;
};

struct ll_wire_statx_out {
    uint64_t valid_s;
    uint32_t valid_ns, flags;
    uint64_t reserved[2];
    uint32_t mask, block_size;
    uint64_t attributes;
    uint32_t nlink, uid, gid;
    uint16_t mode, reserved2;
    uint64_t node, size_bytes, blocks_512, attributes_mask;
    struct ll_wire_statx_time atime, btime, ctime, mtime;
    uint32_t rdev_major, rdev_minor, dev_major, dev_minor;
    uint64_t reserved3[14];
};
static_assert(sizeof(struct ll_wire_statx_out) == 288, "as the protocol has it");

static struct ll_wire_statx_time ll_wire_statx_time(const struct timespec *time)
{
    return (struct ll_wire_statx_time){
        .seconds = time->tv_sec,
        .nanoseconds = (uint32_t)time->tv_nsec,
    };
}

/* Linux 6.18 does not pass them on to the caller; a later one may. */
static uint64_t ll_wire_statx_attributes(uint32_t flags)
{
    return (flags & FS_IMMUTABLE_FL ? STATX_ATTR_IMMUTABLE : 0) |
           (flags & FS_APPEND_FL ? STATX_ATTR_APPEND : 0) |
           (flags & FS_NODUMP_FL ? STATX_ATTR_NODUMP : 0);
}

static void ll_wire_statx(struct ll *ll, const struct fuse_in_header *header)
{
    const struct fs_attribute *attribute;
    struct ll_wire_statx_out out;
    struct fs_entry entry;
    int error = fs_getattr(ll->fs, header->nodeid, &entry);

    if (error < 0) {
        (void)ll_wire_reply(ll, header, error, NULL, 0);
        return;
    }
    attribute = &entry.attribute;
    out = (struct ll_wire_statx_out){
        .valid_s = (uint64_t)ll_attribute_timeout(ll, &entry),
        .mask = STATX_BASIC_STATS | STATX_BTIME,
        .block_size = FS_BLOCK_SIZE,
        .nlink = attribute->nlink,
        .uid = attribute->uid,
        .gid = attribute->gid,
        .mode = (uint16_t)attribute->mode,
        .node = attribute->number,
        .size_bytes = attribute->size_bytes,
        .blocks_512 = attribute->blocks_512,
        .atime = ll_wire_statx_time(&attribute->atime),
        .btime = ll_wire_statx_time(&attribute->btime),
        .ctime = ll_wire_statx_time(&attribute->ctime),
        .mtime = ll_wire_statx_time(&attribute->mtime),
        .rdev_major = major(attribute->rdev),
        .rdev_minor = minor(attribute->rdev),
        .attributes = ll_wire_statx_attributes(attribute->flags),
        .attributes_mask = STATX_ATTR_IMMUTABLE | STATX_ATTR_APPEND | STATX_ATTR_NODUMP,
    };
    (void)ll_wire_reply(ll, header, 0, &out, sizeof out);
}

bool ll_wire_handle(struct ll *ll, const void *request, size_t size)
{
    struct fuse_in_header header;

    if (size < sizeof header)
        return false;
    memcpy(&header, request, sizeof header);
    invariant_set_context("FUSE request, opcode in place of the number", header.opcode);
    if (header.opcode == FUSE_TMPFILE)
        ll_wire_tmpfile(ll, &header, request, size);
    else if (header.opcode == LL_WIRE_STATX)
        ll_wire_statx(ll, &header);
    else if (header.opcode == FUSE_SETXATTR && ll->setxattr_flags)
        ll_wire_setxattr(ll, &header, request, size);
    else
        return false;
    return true;
}
