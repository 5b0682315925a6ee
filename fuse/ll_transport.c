/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ll_transport.c - between libfuse and the kernel
 *
 * libfuse writes each reply through a hook of ours: it goes to the ring that the request came from
 * or else to the device. The INIT reply is given flags that libfuse 3.14 has no name for.
 *
 * Threads: what concerns INIT is set by the thread that handles INIT, which also writes that reply;
 * the kernel sends nothing else before it has it. `pending` orders it for the others.
 */
#include "fuse/ll_internal.h"

#include <errno.h>
#include <linux/fuse.h>
#include <stdlib.h>
#include <sys/uio.h>
#include <unistd.h>

#include "fuse/ll_ring.h"

struct ll_transport {
    atomic_bool pending; /* the INIT reply is still to be completed */
    uint64_t unique;     /* of the INIT request */
    uint32_t want;
    bool want_rings;
    struct ll_rings *rings; /* NULL: not asked for, or impossible */
    bool rings_used;
};

/* A reply to INIT as libfuse sends it: header, then struct fuse_init_out. */
static ssize_t ll_transport_complete_init(struct ll *ll, int device, const struct iovec *parts)
{
    struct ll_transport *transport = ll->transport;
    struct fuse_init_out init;
    struct iovec copy[2] = {parts[0], {&init, parts[1].iov_len}};
    ssize_t written;
    int error;

    memcpy(&init, parts[1].iov_base, parts[1].iov_len);
    init.flags |= transport->want;
    transport->rings_used = transport->want_rings && parts[1].iov_len == sizeof init;
    if (transport->rings_used) {
        init.flags |= FUSE_INIT_EXT;
        init.flags2 |= LL_RING_INIT_FLAG2;
    }
    atomic_store(&transport->pending, false);
    written = writev(device, copy, 2);
    if (written >= 0 && transport->rings_used) {
        error = ll_loop_start_rings(ll->loop);
        if (error < 0) {
            log_error("cannot serve requests through io_uring: %s", error_text(error));
            fuse_session_exit(ll->session);
        }
    }
    return written;
}

static bool ll_transport_is_init(const struct ll_transport *transport, const struct iovec *parts,
                                 int count)
{
    const struct fuse_out_header *header = parts[0].iov_base;

    return count == 2 && parts[0].iov_len == sizeof *header &&
           header->unique == transport->unique && header->error == 0 &&
           parts[1].iov_len >= offsetof(struct fuse_init_out, max_background) &&
           parts[1].iov_len <= sizeof(struct fuse_init_out);
}

static ssize_t ll_transport_writev(int device, struct iovec *parts, int count, void *userdata)
{
    struct ll *ll = userdata;
    struct ll_transport *transport = ll->transport;

    if (transport->rings_used && ll_ring_reply(transport->rings, parts, count))
        return 0;
    if (__builtin_expect(atomic_load_explicit(&transport->pending, memory_order_acquire), 0) &&
        ll_transport_is_init(transport, parts, count))
        return ll_transport_complete_init(ll, device, parts);
    return writev(device, parts, count);
}

static ssize_t ll_transport_read(int device, void *data, size_t size, void *userdata)
{
    (void)userdata;
    return read(device, data, size);
}

/* What libfuse's hook is for, for replies that are made without it: 0 or a negative error. */
int ll_transport_reply(struct ll *ll, struct iovec *parts, int count)
{
    return ll_transport_writev(fuse_session_fd(ll->session), parts, count, ll) < 0 ? -errno : 0;
}

/* The rings, if they are wanted and can be had; else the device, which always can. */
static struct ll_rings *ll_transport_open_rings(const struct ll *ll)
{
    struct ll_rings *rings = NULL;
    int error;

    if (ll->options->transport == LL_TRANSPORT_DEVICE ||
        !ll_rings_allowed(ll->options->transport == LL_TRANSPORT_RINGS))
        return NULL;
    error = ll_rings_open(LL_REQUEST_DATA_MAX, &rings);
    if (error < 0)
        log_warning("requests through io_uring are not possible here: %s", error_text(error));
    return rings;
}

int ll_transport_new(struct ll *ll)
{
    ll->transport = calloc(1, sizeof *ll->transport);
    if (ll->transport == NULL)
        return -ENOMEM;
    ll->transport->rings = ll_transport_open_rings(ll);
    return 0;
}

int ll_transport_install(struct ll *ll, int device)
{
    static const struct fuse_custom_io io = {
        .writev = ll_transport_writev,
        .read = ll_transport_read,
    };

    return fuse_session_custom_io(ll->session, &io, device);
}

struct ll_rings *ll_transport_rings(const struct ll *ll)
{
    return ll->transport->rings;
}

bool ll_transport_uses_rings(const struct ll *ll)
{
    return ll->transport->rings_used;
}

void ll_transport_close_rings(struct ll *ll)
{
    if (ll->transport == NULL)
        return;
    ll->transport->rings_used = false;
    ll_rings_close(ll->transport->rings);
    ll->transport->rings = NULL;
}

void ll_transport_free(struct ll_transport *transport)
{
    free(transport);
}

uint32_t ll_transport_want(struct ll *ll, uint32_t flags)
{
    struct {
        struct fuse_in_header header;
        struct fuse_init_in init;
    } request = {0};
    size_t size;
    const void *raw = ll_loop_request(&size);

    memcpy(&request, raw, size < sizeof request ? size : sizeof request);
    if (request.header.opcode != FUSE_INIT)
        return 0;
    ll->transport->unique = request.header.unique;
    ll->transport->want = flags & request.init.flags;
    ll->transport->want_rings = ll->transport->rings != NULL &&
                                (request.init.flags & FUSE_INIT_EXT) != 0 &&
                                (request.init.flags2 & LL_RING_INIT_FLAG2) != 0;
    if (ll->transport->rings != NULL && !ll->transport->want_rings)
        log_warning("the kernel offers no requests through io_uring: using the device");
    atomic_store_explicit(&ll->transport->pending,
                          ll->transport->want != 0 || ll->transport->want_rings,
                          memory_order_release);
    return ll->transport->want;
}
