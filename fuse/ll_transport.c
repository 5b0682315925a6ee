/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ll_transport.c - between libfuse and the device
 *
 * libfuse writes each reply through a hook of ours, which is the plain system call, except that the
 * INIT reply is given flags that libfuse 3.14 has no name for.
 *
 * Threads: `want` and `unique` are set by the thread that handles INIT, which also writes that
 * reply; the kernel sends nothing else before it has it. `pending` orders them for the others.
 */
#include "fuse/ll_internal.h"

#include <errno.h>
#include <linux/fuse.h>
#include <stdlib.h>
#include <sys/uio.h>
#include <unistd.h>

struct ll_transport {
    atomic_bool pending; /* the INIT reply is still to be completed */
    uint64_t unique;     /* of the INIT request */
    uint32_t want;
};

/* A reply to INIT as libfuse sends it: header, then struct fuse_init_out. */
static ssize_t ll_transport_complete_init(struct ll_transport *transport, int device,
                                          const struct iovec *parts)
{
    struct fuse_init_out init;
    struct iovec copy[2] = {parts[0], {&init, parts[1].iov_len}};

    memcpy(&init, parts[1].iov_base, parts[1].iov_len);
    init.flags |= transport->want;
    atomic_store(&transport->pending, false);
    return writev(device, copy, 2);
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
    struct ll_transport *transport = ((struct ll *)userdata)->transport;

    if (__builtin_expect(atomic_load_explicit(&transport->pending, memory_order_acquire), 0) &&
        ll_transport_is_init(transport, parts, count))
        return ll_transport_complete_init(transport, device, parts);
    return writev(device, parts, count);
}

static ssize_t ll_transport_read(int device, void *data, size_t size, void *userdata)
{
    (void)userdata;
    return read(device, data, size);
}

int ll_transport_install(struct ll *ll)
{
    static const struct fuse_custom_io io = {
        .writev = ll_transport_writev,
        .read = ll_transport_read,
    };
    int error;

    ll->transport = calloc(1, sizeof *ll->transport);
    if (ll->transport == NULL)
        return -ENOMEM;
    error = fuse_session_custom_io(ll->session, &io, fuse_session_fd(ll->session));
    if (error < 0) {
        free(ll->transport);
        ll->transport = NULL;
    }
    return error;
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
    atomic_store_explicit(&ll->transport->pending, ll->transport->want != 0, memory_order_release);
    return ll->transport->want;
}
