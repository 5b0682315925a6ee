/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ll_notify.h - tell the kernel to forget names and attributes
 *
 * The kernel takes an inode's lock for such a message, and whoever holds that lock may be waiting
 * for an answer of ours: a thread that serves requests must never send one. A thread of its own
 * does.
 *
 * Bounds:  LL_NOTIFY_QUEUE_MAX messages; past it new ones are dropped and counted (what they were
 * about is then only found out at its next use: nodes that are gone answer ESTALE). Threads: post
 * from any, holding any lock below LOCK_RANK_LEAF; never waits.
 */
#ifndef VARVE_FUSE_LL_NOTIFY_H
#define VARVE_FUSE_LL_NOTIFY_H

#include <stdint.h>

#define LL_NOTIFY_QUEUE_MAX 4096

struct fuse_session;
struct ll_notify;

int ll_notify_start(struct fuse_session *session, struct ll_notify **ret_notify);
/* What is queued is dropped; waits for the message being sent, so requests must still be served. */
void ll_notify_stop(struct ll_notify *notify); /* accepts NULL */
void ll_notify_free(
    struct ll_notify *notify); /* accepts NULL; stopped, and nobody posts any more */

void ll_notify_entry(struct ll_notify *notify, uint64_t parent, const char *name);
void ll_notify_inode(struct ll_notify *notify, uint64_t node);

struct ll_notify_statistics {
    uint64_t sent, dropped;
};
void ll_notify_get_statistics(struct ll_notify *notify, struct ll_notify_statistics *ret);

#endif
