/* SPDX-License-Identifier: Apache-2.0 */
/*
 * snapshot_name.c - which names a snapshot may have, and the one it gets by default
 */
#include <errno.h>
#include <stdio.h>

#include "snapshot/snapshot.h"

int snapshot_name_check(struct slice name)
{
    if (name.size > SNAPSHOT_NAME_SIZE_MAX)
        return -ENAMETOOLONG;
    if (name.size == 0 || memchr(name.data, '/', name.size) != NULL ||
        memchr(name.data, '\0', name.size) != NULL)
        return -EINVAL;
    if (slice_equal(name, slice_of_string(".")) || slice_equal(name, slice_of_string("..")))
        return -EINVAL;
    return 0;
}

void snapshot_name_default(char to[40], time_t when, unsigned attempt)
{
    struct tm utc;
    size_t used;

    gmtime_r(&when, &utc);
    used = strftime(to, 40, "%Y%m%dT%H%M%SZ", &utc);
    if (attempt > 1)
        snprintf(to + used, 40 - used, "-%u", attempt);
}
