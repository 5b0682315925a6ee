/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ll_ops.c - the table of operations
 *
 * Not there on purpose: flush (answered ENOSYS once and never sent again: write-through leaves
 * nothing to flush, and close does not sync), access (default_permissions), locks (the kernel's own
 * are right on one machine), poll, bmap.
 */
#include "fuse/ll_internal.h"

const struct fuse_lowlevel_ops ll_operations = {
    .init = ll_init,
    .lookup = ll_lookup,
    .forget = ll_forget,
    .forget_multi = ll_forget_multi,
    .getattr = ll_getattr,
    .setattr = ll_setattr,
    .readlink = ll_readlink,
    .mknod = ll_mknod,
    .mkdir = ll_mkdir,
    .unlink = ll_unlink,
    .rmdir = ll_rmdir,
    .symlink = ll_symlink,
    .rename = ll_rename,
    .link = ll_link,
    .open = ll_open,
    .create = ll_create,
    .read = ll_read,
    .write = ll_write,
    .release = ll_release,
    .fsync = ll_fsync,
    .opendir = ll_opendir,
    .readdir = ll_readdir,
    .readdirplus = ll_readdirplus,
    .releasedir = ll_releasedir,
    .fsyncdir = ll_fsync,
    .statfs = ll_statfs,
    .setxattr = ll_setxattr,
    .getxattr = ll_getxattr,
    .listxattr = ll_listxattr,
    .removexattr = ll_removexattr,
    .fallocate = ll_fallocate,
    .copy_file_range = ll_copy_file_range,
    .lseek = ll_lseek,
    .ioctl = ll_ioctl,
};
