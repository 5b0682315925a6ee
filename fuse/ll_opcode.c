/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ll_opcode.c - how many requests of each kind arrived
 */
#include "fuse/ll_opcode.h"

#include <linux/fuse.h>
#include <string.h>

static const char *const opcode_names[LL_OPCODES] = {
    [FUSE_LOOKUP] = "lookup",
    [FUSE_FORGET] = "forget",
    [FUSE_GETATTR] = "getattr",
    [FUSE_SETATTR] = "setattr",
    [FUSE_READLINK] = "readlink",
    [FUSE_SYMLINK] = "symlink",
    [FUSE_MKNOD] = "mknod",
    [FUSE_MKDIR] = "mkdir",
    [FUSE_UNLINK] = "unlink",
    [FUSE_RMDIR] = "rmdir",
    [FUSE_RENAME] = "rename",
    [FUSE_LINK] = "link",
    [FUSE_OPEN] = "open",
    [FUSE_READ] = "read",
    [FUSE_WRITE] = "write",
    [FUSE_STATFS] = "statfs",
    [FUSE_RELEASE] = "release",
    [FUSE_FSYNC] = "fsync",
    [FUSE_SETXATTR] = "setxattr",
    [FUSE_GETXATTR] = "getxattr",
    [FUSE_LISTXATTR] = "listxattr",
    [FUSE_REMOVEXATTR] = "removexattr",
    [FUSE_FLUSH] = "flush",
    [FUSE_INIT] = "init",
    [FUSE_OPENDIR] = "opendir",
    [FUSE_READDIR] = "readdir",
    [FUSE_RELEASEDIR] = "releasedir",
    [FUSE_FSYNCDIR] = "fsyncdir",
    [FUSE_ACCESS] = "access",
    [FUSE_CREATE] = "create",
    [FUSE_INTERRUPT] = "interrupt",
    [FUSE_DESTROY] = "destroy",
    [FUSE_IOCTL] = "ioctl",
    [FUSE_BATCH_FORGET] = "batch_forget",
    [FUSE_FALLOCATE] = "fallocate",
    [FUSE_READDIRPLUS] = "readdirplus",
    [FUSE_RENAME2] = "rename2",
    [FUSE_LSEEK] = "lseek",
    [FUSE_COPY_FILE_RANGE] = "copy_file_range",
    [FUSE_SYNCFS] = "syncfs",
    [FUSE_TMPFILE] = "tmpfile",
    [52] = "statx", /* newer than some headers */
};

void ll_opcode_count(struct ll_opcode_counts *counts, const void *request, size_t size)
{
    struct fuse_in_header header;
    uint32_t opcode = 0;

    if (size >= sizeof header) {
        memcpy(&header, request, sizeof header);
        opcode = header.opcode < LL_OPCODES ? header.opcode : 0;
    }
    atomic_fetch_add_explicit(&counts->counts[opcode], 1, memory_order_relaxed);
}

const char *ll_opcode_name(uint32_t opcode)
{
    const char *name = opcode < LL_OPCODES ? opcode_names[opcode] : NULL;

    return name != NULL ? name : "other";
}
