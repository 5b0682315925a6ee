/* SPDX-License-Identifier: Apache-2.0 */
/* ll_prefetch.c - read before the reply to OPEN, stored before it too */
#include "fuse/ll_prefetch.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/utsname.h>

#include "engine/base/blocking.h"
#include "engine/base/lock.h"

#define STRIPES 64

struct ll_prefetch {
    struct lock stripes[STRIPES]; /* LOCK_RANK_LL_PREFETCH, by node */
};

bool ll_prefetch_is_sound(const char *release)
{
    unsigned major, minor;

    return sscanf(release, "%u.%u", &major, &minor) == 2 &&
           (major > 6 || (major == 6 && minor >= 11));
}

struct ll_prefetch *ll_prefetch_new(void)
{
    struct ll_prefetch *prefetch;
    struct utsname kernel;

    if (uname(&kernel) != 0 || !ll_prefetch_is_sound(kernel.release))
        return NULL;
    prefetch = calloc(1, sizeof *prefetch);
    for (size_t i = 0; prefetch != NULL && i < STRIPES; i++)
        lock_init(&prefetch->stripes[i], LOCK_RANK_LL_PREFETCH);
    return prefetch;
}

void ll_prefetch_free(struct ll_prefetch *prefetch)
{
    if (prefetch == NULL)
        return;
    for (size_t i = 0; i < STRIPES; i++)
        lock_destroy(&prefetch->stripes[i]);
    free(prefetch);
}

static struct lock *prefetch_lock(struct ll_prefetch *prefetch, uint64_t node)
{
    struct lock *stripe = &prefetch->stripes[node % STRIPES];

    if (!lock_try_acquire_same_rank(stripe)) {
        blocking_enter();
        lock_acquire_same_rank(stripe);
    }
    return stripe;
}

/* What does not succeed is left to READ, which tells. */
static void prefetch_store(struct ll *ll, uint64_t node, uint64_t handle)
{
    void *data = ll_loop_reply_buffer(LL_PREFETCH_SIZE_MAX);
    struct fuse_bufvec pieces = FUSE_BUFVEC_INIT(0);
    int64_t size = 0;

    if (data != NULL)
        size = fs_read_whole(ll->fs, node, handle, data, LL_PREFETCH_SIZE_MAX);
    if (size <= 0)
        return;
    pieces.buf[0].mem = data;
    pieces.buf[0].size = (size_t)size;
    if (fuse_lowlevel_notify_store(ll->session, node, 0, &pieces, 0) == 0)
        __atomic_fetch_add(&ll->prefetched, 1, __ATOMIC_RELAXED);
}

int ll_prefetch_open(struct ll *ll, uint64_t node, int flags, struct fuse_file_info *info)
{
    struct lock *stripe = ll->prefetch != NULL ? prefetch_lock(ll->prefetch, node) : NULL;
    int error = ll_file_open(ll, node, flags, info);

    if (error == 0 && stripe != NULL && (flags & O_DIRECT) == 0 && fs_opened_first(info->fh))
        prefetch_store(ll, node, info->fh);
    if (stripe != NULL)
        lock_release(stripe);
    return error;
}
