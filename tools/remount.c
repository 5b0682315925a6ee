/* SPDX-License-Identifier: Apache-2.0 */
/*
 * remount.c - mount -o remount
 */
#include "tools/remount.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>

#include "engine/base/error.h"
#include "fuse/mountinfo.h"
#include "tools/control_client.h"
#include "tools/exit_code.h"
#include "tools/output.h"

static const struct {
    const char *name;
    unsigned long flag;
} kernel_flags[] = {
    {"noexec", MS_NOEXEC},
    {"sync", MS_SYNCHRONOUS},
    {"dirsync", MS_DIRSYNC},
    {"exec", 0},
};

static unsigned long remount_flag(const char *word, size_t size)
{
    for (size_t i = 0; i < sizeof kernel_flags / sizeof kernel_flags[0]; i++) {
        if (strlen(kernel_flags[i].name) == size && memcmp(kernel_flags[i].name, word, size) == 0)
            return kernel_flags[i].flag;
    }
    return 0;
}

static unsigned long remount_flags(const struct ll_options *options)
{
    const char *word = options->kernel_options != NULL ? options->kernel_options : "";
    unsigned long flags = MS_REMOUNT;

    if (options->read_only)
        flags |= MS_RDONLY;
    if (options->nodev)
        flags |= MS_NODEV;
    if (options->nosuid)
        flags |= MS_NOSUID;
    if ((options->fs.atime & FS_ATIME_NONE) != 0)
        flags |= MS_NOATIME;
    if ((options->fs.atime & FS_ATIME_NO_DIRECTORIES) != 0)
        flags |= MS_NODIRATIME;
    if ((options->fs.atime & FS_ATIME_STRICT) != 0)
        flags |= MS_STRICTATIME;
    while (*word != '\0') {
        size_t size = strcspn(word, ",");

        if (size == strlen("exec") && memcmp(word, "exec", size) == 0)
            flags &= ~(unsigned long)MS_NOEXEC;
        flags |= remount_flag(word, size);
        word += size + (word[size] == ',');
    }
    return flags;
}

/* The kernel would say yes, and every write no. */
static int remount_check_writable(const char *mount_point)
{
    char text[CONTROL_ERROR_SIZE];
    json_t *reply;
    int error =
        control_call(mount_point, json_pack("{s:s}", "verb", "prepare_writing"), &reply, text);

    if (error == 0)
        json_decref(reply);
    else if (error == -EROFS)
        output_error("cannot remount %s for writing: it is a snapshot's directory, or was mounted "
                     "with norecovery or from a read-only place",
                     mount_point);
    else
        output_error("cannot remount %s: %s", mount_point, text);
    return error;
}

static int remount_sync(const char *mount_point)
{
    json_t *reply;
    int error =
        control_call_or_complain(mount_point, json_pack("{s:s}", "verb", "sync"), "sync", &reply);

    if (error == 0)
        json_decref(reply);
    return error;
}

/* The kernel leaves times of access to the daemon. */
static int remount_tell(const struct ll_options *options, const char *mount_point)
{
    unsigned atime = options->read_only ? FS_ATIME_NONE : options->fs.atime;
    json_t *reply;
    int error = control_call_or_complain(mount_point,
                                         json_pack("{s:s, s:i, s:i}", "verb", "remount", "atime",
                                                   (int)atime, "sync", (int)options->fs.sync),
                                         "remount", &reply);

    if (error == 0)
        json_decref(reply);
    return error;
}

static int remount_mount(const struct ll_options *options, const struct mountinfo *found)
{
    const char *mount_point = found->mount_point;
    int error = 0;

    if (strcmp(found->type, MOUNTINFO_TYPE) != 0) {
        output_error("%s is not a Varve mount", mount_point);
        return -EINVAL;
    }
    if (!options->read_only)
        error = remount_check_writable(mount_point);
    if (error == 0 && mount(NULL, mount_point, NULL, remount_flags(options), NULL) != 0) {
        error = -errno;
        output_error("cannot remount %s: %s", mount_point, error_text(error));
    }
    if (error == 0)
        error = remount_tell(options, mount_point);
    if (error == 0 && options->read_only)
        error = remount_sync(mount_point);
    return error;
}

int remount_run(const struct ll_options *options, const char *path)
{
    char *mount_point = realpath(path, NULL);
    int error = mount_point != NULL ? 0 : -errno;
    struct mountinfo mount;

    if (error == 0)
        error = mountinfo_find_exact(mount_point, &mount);
    if (error < 0) {
        output_error("cannot remount %s: %s", path,
                     error == -ENOENT && mount_point != NULL ? "it is not mounted"
                                                             : error_text(error));
    } else {
        error = remount_mount(options, &mount);
        mountinfo_free(&mount);
    }
    free(mount_point);
    return error < 0 ? EXIT_CODE_FAILED : EXIT_CODE_OK;
}
