/* SPDX-License-Identifier: Apache-2.0 */
/*
 * io_journal.c - file systems that keep no journal
 *
 * ext4 tells in /sys whether it has one; of its relatives (ext2), and where /sys cannot be asked, it
 * is taken to have none.
 */
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "engine/base/io_backend.h"

#define EXT_MAGIC  0xef53 /* of ext2, ext3 and ext4 alike */
#define NO_JOURNAL "<none>"

/* What the kernel calls the device, as in /sys/fs/ext4. */
static bool device_name(dev_t device, char *to, size_t size)
{
    char path[64], target[PATH_MAX];
    const char *name;
    ssize_t length;

    snprintf(path, sizeof path, "/sys/dev/block/%u:%u", major(device), minor(device));
    length = readlink(path, target, sizeof target - 1);
    if (length < 0)
        return false;
    target[length] = '\0';
    name = strrchr(target, '/');
    return name != NULL && snprintf(to, size, "%s", name + 1) < (int)size;
}

static bool ext4_has_journal(dev_t device)
{
    char name[NAME_MAX + 1], path[NAME_MAX + 64], text[64];
    ssize_t length;
    int file;

    if (!device_name(device, name, sizeof name))
        return false;
    snprintf(path, sizeof path, "/sys/fs/ext4/%s/journal_task", name);
    file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return false;
    length = read(file, text, sizeof text);
    close(file);
    return length > 0 && strncmp(text, NO_JOURNAL, strlen(NO_JOURNAL)) != 0;
}

bool io_lacks_journal(int descriptor)
{
    struct statfs system;
    struct stat status;

    return fstatfs(descriptor, &system) == 0 && system.f_type == EXT_MAGIC &&
           fstat(descriptor, &status) == 0 && !ext4_has_journal(status.st_dev);
}
