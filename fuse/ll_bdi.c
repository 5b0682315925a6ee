/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ll_bdi.c - the kernel's limits for the mount
 *
 * A FUSE mount starts with a read-ahead of 128 KiB and one percent of the dirty pages a disk
 * may have. /sys/class/bdi/<device> changes that, for root. What does not work is only slower.
 */
#include "fuse/ll_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "fuse/mountinfo.h"

static void ll_bdi_set(const struct mountinfo *mount, const char *attribute, uint32_t value)
{
    char path[128], text[16];
    int length = snprintf(text, sizeof text, "%u\n", value);
    int descriptor;

    (void)snprintf(path, sizeof path, "/sys/class/bdi/%u:%u/%s", mount->device_major,
                   mount->device_minor, attribute);
    descriptor = open(path, O_WRONLY | O_CLOEXEC);
    if (descriptor < 0 || write(descriptor, text, (size_t)length) != length)
        log_debug("%s stays as it is: %s", path, error_text(-errno));
    if (descriptor >= 0)
        (void)close(descriptor);
}

void ll_bdi_tune(const char *mount_point, uint32_t read_ahead_kb)
{
    struct mountinfo mount;
    int error;

    if (geteuid() != 0)
        return;
    error = mountinfo_find_exact(mount_point, &mount);
    if (error < 0) {
        log_debug("limits of the mount stay as they are: %s", error_text(error));
        return;
    }
    if (read_ahead_kb > 0)
        ll_bdi_set(&mount, "read_ahead_kb", read_ahead_kb);
    /* Before the ratio: while strict, the kernel holds the mount to its share. */
    ll_bdi_set(&mount, "strict_limit", 0);
    ll_bdi_set(&mount, "max_ratio", 100);
    mountinfo_free(&mount);
}
