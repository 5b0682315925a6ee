/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mountinfo.h - which mount a path belongs to, from /proc/self/mountinfo
 *
 * Asks the kernel's table and never the mounted filesystem itself, so that it answers also for a
 * mount whose daemon has died or is busy.
 *
 * Threads: any; no state.
 */
#ifndef VARVE_FUSE_MOUNTINFO_H
#define VARVE_FUSE_MOUNTINFO_H

#include <stdbool.h>
#include <stdint.h>

#define MOUNTINFO_TYPE "fuse.varve"

struct mountinfo {
    uint64_t id, parent_id;
    unsigned device_major, device_minor;
    char *mount_point;
    char *type;
    char *source;
    bool read_only; /* the filesystem, whatever this mount of it says */
};

/* The topmost mount exactly at `path` (absolute, without symbolic links): 0, -ENOENT, -ENOMEM or an
 * error of reading the table. Free the fields with mountinfo_free(). */
int mountinfo_find_exact(const char *path, struct mountinfo *ret_mount);

/* The mount that holds `path`: the one with the longest mount point that is a prefix of it. */
int mountinfo_find_holding(const char *path, struct mountinfo *ret_mount);

/* How many mounts lie directly on a directory of the mount `id`; negative on trouble. */
int mountinfo_count_children(uint64_t id);

/* 1 while a mount has the id, 0, or negative on trouble. */
int mountinfo_is_mounted(uint64_t id);

/* 1 when the filesystem with this device number may be written to, 0 when it is read-only, -ENOENT when
 * it is not mounted, or another negative number on trouble. */
int mountinfo_is_writable(unsigned device_major, unsigned device_minor);

/* The first mount of the filesystem with this device number where the process is ("self", or its number):
 * 0, -ENOENT, or another negative number on trouble. */
int mountinfo_find_device(const char *process, unsigned device_major, unsigned device_minor,
                          struct mountinfo *ret_mount);

/* 1 while a mount of Varve shows this source, 0, or negative on trouble. */
int mountinfo_has_source(const char *source);

void mountinfo_free(struct mountinfo *mount); /* accepts a zeroed one */

/* Parse one line in place; false when it is not a line of the table. The strings point into it. For
 * this module and its test. */
bool mountinfo_parse_line(char *line, struct mountinfo *ret_mount);

#endif
