/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ll_init.c - what is negotiated with the kernel
 *
 * We are the only writer of what the kernel caches, so everything may be cached and is only dropped
 * when we say so. Each capability is set or cleared explicitly: libfuse's defaults differ between
 * versions.
 */
#include "fuse/ll_internal.h"

#include <linux/fuse.h>

#define MAX_BACKGROUND       64
#define CONGESTION_THRESHOLD 48

static const unsigned capabilities_wanted =
    FUSE_CAP_ASYNC_READ | FUSE_CAP_PARALLEL_DIROPS | FUSE_CAP_CACHE_SYMLINKS |
    FUSE_CAP_READDIRPLUS | FUSE_CAP_EXPORT_SUPPORT | FUSE_CAP_POSIX_ACL |
    /* default ACLs replace the umask: the mode must come unmasked */
    FUSE_CAP_DONT_MASK | FUSE_CAP_EXPLICIT_INVAL_DATA | FUSE_CAP_IOCTL_DIR;

static const unsigned capabilities_unwanted =
    /* After asynchronous direct writes the kernel does not drop what it has cached of the file: a
     * buffered read beside them would leave old bytes there (a public suite's generic/451). */
    FUSE_CAP_ASYNC_DIO |
    FUSE_CAP_AUTO_INVAL_DATA |  /* costs a GETATTR for each cached read after a write */
    FUSE_CAP_READDIRPLUS_AUTO | /* guesses; every listing we give is followed by stats */
    FUSE_CAP_ATOMIC_O_TRUNC |   /* O_TRUNC comes as a SETATTR */
    FUSE_CAP_HANDLE_KILLPRIV |  /* version 2 below, or the kernel does it */
    FUSE_CAP_POSIX_LOCKS | FUSE_CAP_FLOCK_LOCKS | /* the kernel's own are enough on one machine */
    FUSE_CAP_SPLICE_READ | FUSE_CAP_SPLICE_WRITE | FUSE_CAP_SPLICE_MOVE | FUSE_CAP_WRITEBACK_CACHE;

static void ll_want(struct fuse_conn_info *connection, unsigned wanted, unsigned unwanted)
{
#if FUSE_VERSION >= FUSE_MAKE_VERSION(3, 17)
    for (unsigned bit = 0; bit < 32; bit++) {
        if (unwanted & 1u << bit)
            fuse_unset_feature_flag(connection, UINT64_C(1) << bit);
        if (wanted & 1u << bit)
            (void)fuse_set_feature_flag(connection, UINT64_C(1) << bit);
    }
#else
    connection->want &= ~unwanted;
    connection->want |= wanted & connection->capable;
#endif
}

void ll_init(void *userdata, struct fuse_conn_info *connection)
{
    struct ll *ll = userdata;
    uint32_t flags;

    ll_want(connection, capabilities_wanted, capabilities_unwanted);
    if (ll->options->writeback)
        ll_want(connection, FUSE_CAP_WRITEBACK_CACHE, 0);
    connection->max_write = LL_REQUEST_DATA_MAX;
    connection->max_readahead = LL_REQUEST_DATA_MAX;
    connection->max_background = MAX_BACKGROUND;
    connection->congestion_threshold = CONGESTION_THRESHOLD;

    /* Without the first the kernel asks for security.capability before every write; without the
     * second an ACL that is set by one outside the file's group leaves setgid. */
    flags = ll_transport_want(ll, FUSE_HANDLE_KILLPRIV_V2 | FUSE_SETXATTR_EXT);
    ll->kill_privileges = (flags & FUSE_HANDLE_KILLPRIV_V2) != 0;
    ll->setxattr_flags = (flags & FUSE_SETXATTR_EXT) != 0;

    atomic_store(&ll->initialised, true);
    ll_wake_main(ll);
}
