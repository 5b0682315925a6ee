/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ll_ring.h - requests through io_uring instead of the device (FUSE_OVER_IO_URING, Linux 6.14)
 *
 * Each CPU has a ring; the kernel puts a request into the ring of the CPU where its caller runs, so
 * that the thread that serves the ring there is woken without a word to another CPU. An entry of a
 * ring is memory that the kernel fills with one request and from which it takes the answer; giving
 * the answer asks for the next request. FORGET and INTERRUPT still come through the device.
 *
 * Nothing of libfuse here: requests are handed out as the device would give them, one stretch of
 * bytes, and replies are taken as libfuse writes them to the device.
 *
 * Once the kernel agreed in INIT it holds back every request until each ring has entries: failing
 * to register must end the mount. The kernel fills an entry in the context of the thread that
 * registered or answered with it last; such threads must not end while the mount is used.
 *
 * Bounds:  LL_RING_DEPTH entries a CPU, each with a buffer of `payload_bytes` (touched when used).
 * Threads: one at a time receives from a ring, its leader; any thread replies. ll_ring_leave() says
 *          that the calling thread no longer leads.
 */
#ifndef VARVE_FUSE_LL_RING_H
#define VARVE_FUSE_LL_RING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#define LL_RING_DEPTH 8
/* In INIT's flags2, unknown to older headers. */
#define LL_RING_INIT_FLAG2 (UINT32_C(1) << 9)

struct ll_rings;

/* Does the kernel module have it switched on? `enable` switches it on (root): for the whole
 * machine. */
bool ll_rings_allowed(bool enable);

/* One ring a CPU. -ENOSYS, -EPERM, -ENOMEM ...: this machine cannot. */
int ll_rings_open(size_t payload_bytes, struct ll_rings **ret_rings);
void ll_rings_close(struct ll_rings *rings); /* accepts NULL; no thread uses them */
uint32_t ll_rings_count(const struct ll_rings *rings);

/* Before the first receive from the ring, by its leader: its entries wait for requests. */
void ll_ring_register(struct ll_rings *rings, uint32_t index, int device);

/* Send the answers that are ready and wait for a request: 1, and its bytes; 0 when there will be no
 * more; -EINTR after a signal; another error when the kernel refuses the ring. */
int ll_ring_receive(struct ll_rings *rings, uint32_t index, void **ret_request, size_t *ret_size);

/* The calling thread has handled what it received; it may still be answered by another. */
void ll_ring_done(void);
void ll_ring_leave(void);

/* Memory that a reply to the request that this thread handles may be made in, which saves a copy;
 * NULL: it is too small, or the request still needs it. */
void *ll_ring_reply_buffer(size_t size);

/* Take a reply: its header, then its parts. False: it is not for a request from a ring. */
bool ll_ring_reply(struct ll_rings *rings, const struct iovec *parts, int count);

#endif
