/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fs_check_path.c - fsck: which file a finding is about
 *
 * By the name that the inode itself remembers, and the directories above it; one of several names
 * is enough. Where damage took those records, too, the number is all there is.
 */
#include "fuse/fs_check_internal.h"

#include <errno.h>
#include <stdio.h>

#include "engine/base/arena.h"
#include "fuse/fs_diff_internal.h"

static int find_path(struct diff_paths *paths, uint64_t ino, const char **ret_path)
{
    struct fs_inode inode;
    const char *name;
    int result;

    if (ino == FS_ROOT) {
        *ret_path = ".";
        return 0;
    }
    result = fs_inode_load(paths->view, ino, &inode, NULL);
    if (result < 0)
        return result;
    if (S_ISDIR(inode.mode))
        return diff_path_of_directory(paths, ino, ret_path);
    result = diff_hinted_name(paths, ino, &inode, &name);
    if (result <= 0)
        return result < 0 ? result : -ENOENT;
    return diff_path_of_name(paths, inode.parent, name, ret_path);
}

void check_describe(struct check *check, uint64_t ino, char to[CHECK_PATH_SIZE])
{
    struct arena arena = {0};
    struct diff_paths paths = {
        .view = check->view, .arena = &arena, .bytes_max = CHECK_PATHS_BYTES_MAX};
    const char *path = "its name is not known";

    (void)find_path(&paths, ino, &path);
    (void)snprintf(to, CHECK_PATH_SIZE, "%s", path);
    for (char *at = to; *at != '\0'; at++)
        if ((unsigned char)*at < ' ' || *at == 0x7f)
            *at = '?'; /* a finding is a line */
    diff_paths_free(&paths);
    arena_free(&arena);
}
