/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ll_options.h - what can be chosen at mount time
 *
 * The comma list of `-o` is the one source: mount(8), fstab and the command line all pass it.
 * Nothing of libfuse here.
 */
#ifndef VARVE_FUSE_LL_OPTIONS_H
#define VARVE_FUSE_LL_OPTIONS_H

#include "fuse/fs.h"

#define LL_THREADS_DEFAULT       16
#define LL_THREADS_LIMIT         256
#define LL_READ_AHEAD_KB_DEFAULT 1024

enum ll_transport_choice {
    LL_TRANSPORT_DEVICE, /* the default */
    LL_TRANSPORT_AUTO,   /* rings where the kernel has them switched on */
    LL_TRANSPORT_RINGS, /* switch them on */
};

struct ll_options {
    char *store;       /* absolute */
    char *mount_point; /* absolute, no symbolic links */
    char *fsname;      /* NULL: the store */
    char *snapdir_name;
    char *kernel_options; /* comma list for mount(2), for example "nodev,noexec"; NULL: none */
    bool remount; /* not a new mount: change the flags of the one at mount_point */
    bool read_only;
    bool no_recovery; /* nothing is written to the store at all; read_only must be set */
    bool allow_other;
    bool writeback;
    bool nodev, nosuid;
    bool shutdown_ioctl; /* FS_IOC_SHUTDOWN is answered: see ll_shutdown.c */
    uint32_t threads_max;
    uint32_t read_ahead_kb; /* 0: leave the kernel's */
    enum io_backend io_backend;
    enum ll_transport_choice transport;
    struct engine_options engine; /* path, io and read_only are set when opening */
    struct fs_options fs;         /* snapdir_name is set when opening */
};

/* Defaults of the calling user. */
void ll_options_default(struct ll_options *options);
void ll_options_free(struct ll_options *options); /* accepts a zeroed one */

/*
 * Apply a comma list; `\,` is a comma inside a value. 0, -ENOMEM, or -EINVAL with a line for the
 * user in `error`. Unknown options are -EINVAL, or with `sloppy` ignored.
 */
#define LL_OPTIONS_ERROR_SIZE 256
int ll_options_parse(struct ll_options *options, const char *list, bool sloppy,
                     char error[LL_OPTIONS_ERROR_SIZE]);

#endif
