/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ll_control.h - the daemon's side of control_protocol.h
 *
 * Bounds:  LL_CONTROL_PENDING_MAX requests that are still arriving and replies longer than one message
 * that wait to be fetched, LL_CONTROL_SHARE of one user; the oldest goes. Threads: any.
 */
#ifndef VARVE_FUSE_LL_CONTROL_H
#define VARVE_FUSE_LL_CONTROL_H

#include <stddef.h>
#include <stdint.h>

#define LL_CONTROL_PENDING_MAX 16
#define LL_CONTROL_SHARE       8 /* of them for one user */

struct ll;
struct fuse_req;
struct ll_control;

int ll_control_new(struct ll_control **ret_control);
void ll_control_free(struct ll_control *control); /* accepts NULL */

/* Handle the ioctl: replies once, now or later from another thread. */
void ll_control_ioctl(struct ll *ll, struct fuse_req *request, const void *in, size_t in_size,
                      size_t out_size);

#endif
