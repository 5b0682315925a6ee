/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ll_mount.c - unmounting, stale mounts
 */
#include "fuse/ll.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <spawn.h>
#include <sys/mount.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fuse/mountinfo.h"

extern char **environ;

static int ll_spawn_wait(char *const arguments[], int *ret_status)
{
    posix_spawn_file_actions_t actions;
    pid_t child;
    int error;

    error = posix_spawn_file_actions_init(&actions);
    if (error != 0)
        return -error;
    /* It words its own complaint; the caller has a better one. */
    (void)posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
    error = posix_spawnp(&child, arguments[0], &actions, NULL, arguments, environ);
    (void)posix_spawn_file_actions_destroy(&actions);
    if (error != 0)
        return -error;
    while (waitpid(child, ret_status, 0) < 0) {
        if (errno != EINTR)
            return -errno;
    }
    return 0;
}

/* fusermount3 is set-user-id: it unmounts what its caller mounted. */
static int ll_unmount_by_helper(const char *mount_point, bool lazily)
{
    char program[] = "fusermount3", unmount[] = "-u", lazy[] = "-uz", end[] = "--";
    char path[PATH_MAX];
    char *arguments[] = {program, lazily ? lazy : unmount, end, path, NULL};
    struct mountinfo mount;
    int status, error;

    if (strlen(mount_point) >= sizeof path)
        return -ENAMETOOLONG;
    memcpy(path, mount_point, strlen(mount_point) + 1);
    error = mountinfo_find_exact(mount_point, &mount);
    if (error < 0)
        return error == -ENOENT ? -EINVAL : error;
    error = ll_spawn_wait(arguments, &status);
    if (error == 0 && (!WIFEXITED(status) || WEXITSTATUS(status) != 0))
        error = mountinfo_is_mounted(mount.id) > 0 ? -EBUSY : -EPERM;
    mountinfo_free(&mount);
    return error;
}

int ll_unmount(const char *mount_point, bool lazily)
{
    if (umount2(mount_point, UMOUNT_NOFOLLOW | (lazily ? MNT_DETACH : 0)) == 0)
        return 0;
    if (errno != EPERM)
        return -errno;
    return ll_unmount_by_helper(mount_point, lazily);
}

/* Cached attributes outlive the daemon: only what has to be asked for tells. */
static bool ll_is_dead(const char *path)
{
    struct statvfs space;

    return statvfs(path, &space) != 0 && (errno == ENOTCONN || errno == ECONNABORTED);
}

int ll_clear_stale_mount(const char *path)
{
    struct mountinfo mount;
    int cleared = 0, error;
    bool ours;

    /* Several crashes may have left several, one on the other. */
    for (;;) {
        error = mountinfo_find_exact(path, &mount);
        if (error == -ENOENT)
            return cleared;
        if (error < 0)
            return error;
        ours = strcmp(mount.type, MOUNTINFO_TYPE) == 0;
        mountinfo_free(&mount);
        if (!ll_is_dead(path))
            return cleared;
        if (!ours)
            return -EBUSY;
        error = ll_unmount(path, true);
        if (error < 0)
            return error;
        cleared = 1;
    }
}
