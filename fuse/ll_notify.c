/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ll_notify.c - the thread that sends invalidations
 */
#include "fuse/ll_internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

struct ll_message {
    struct ll_message *next;
    uint64_t node;    /* of the inode, or of the directory that holds the name */
    size_t name_size; /* 0: the inode itself */
    char name[];
};

struct ll_notify {
    struct fuse_session *session;
    pthread_t thread;
    struct lock lock; /* LOCK_RANK_LEAF */
    pthread_cond_t wake;
    struct ll_message *first, **last;
    size_t queued;
    bool stopping;
    struct ll_notify_statistics statistics;
};

/* A snapshot's file keeps its data for ever: only its link count moves. A directory's listing is in
 * its pages. */
static bool ll_notify_drops_pages(uint64_t node)
{
    return node >> 63 == 0;
}

static void ll_notify_send(struct ll_notify *notify, const struct ll_message *message)
{
    int error;

    if (message->name_size > 0)
        error = fuse_lowlevel_notify_inval_entry(notify->session, message->node, message->name,
                                                 message->name_size);
    else
        error = fuse_lowlevel_notify_inval_inode(notify->session, message->node,
                                                 ll_notify_drops_pages(message->node) ? 0 : -1, 0);
    /* -ENOENT: the kernel does not hold it. */
    if (error < 0 && error != -ENOENT)
        log_debug("invalidation of node %" PRIu64 ": %s", message->node, error_text(error));
}

static void *ll_notify_main(void *context)
{
    struct ll_notify *notify = context;
    struct ll_message *message;

    (void)pthread_setname_np(pthread_self(), "varve-notify");
    lock_acquire(&notify->lock);
    while (!notify->stopping) {
        message = notify->first;
        if (message == NULL) {
            lock_wait(&notify->lock, &notify->wake);
            continue;
        }
        notify->first = message->next;
        if (notify->first == NULL)
            notify->last = &notify->first;
        notify->queued--;
        notify->statistics.sent++;
        lock_release(&notify->lock);
        ll_notify_send(notify, message);
        free(message);
        lock_acquire(&notify->lock);
    }
    lock_release(&notify->lock);
    return NULL;
}

int ll_notify_start(struct fuse_session *session, struct ll_notify **ret_notify)
{
    struct ll_notify *notify = calloc(1, sizeof *notify);
    int error;

    if (notify == NULL)
        return -ENOMEM;
    notify->session = session;
    notify->last = &notify->first;
    lock_init(&notify->lock, LOCK_RANK_LEAF);
    lock_condition_init(&notify->wake);
    error = pthread_create(&notify->thread, NULL, ll_notify_main, notify);
    if (error != 0) {
        (void)pthread_cond_destroy(&notify->wake);
        lock_destroy(&notify->lock);
        free(notify);
        return -error;
    }
    *ret_notify = notify;
    return 0;
}

void ll_notify_stop(struct ll_notify *notify)
{
    if (notify == NULL)
        return;
    lock_acquire(&notify->lock);
    notify->stopping = true;
    (void)pthread_cond_signal(&notify->wake);
    lock_release(&notify->lock);
    (void)pthread_join(notify->thread, NULL);
}

void ll_notify_free(struct ll_notify *notify)
{
    struct ll_message *next;

    if (notify == NULL)
        return;
    for (struct ll_message *message = notify->first; message != NULL; message = next) {
        next = message->next;
        free(message);
    }
    (void)pthread_cond_destroy(&notify->wake);
    lock_destroy(&notify->lock);
    free(notify);
}

static void ll_notify_post(struct ll_notify *notify, uint64_t node, const char *name)
{
    size_t name_size = name != NULL ? strlen(name) : 0;
    struct ll_message *message = malloc(sizeof *message + name_size + 1);
    bool queued = false;

    if (message != NULL) {
        *message = (struct ll_message){.node = node, .name_size = name_size};
        if (name != NULL)
            memcpy(message->name, name, name_size + 1);
    }
    lock_acquire(&notify->lock);
    if (message != NULL && notify->queued < LL_NOTIFY_QUEUE_MAX && !notify->stopping) {
        *notify->last = message;
        notify->last = &message->next;
        notify->queued++;
        queued = true;
        (void)pthread_cond_signal(&notify->wake);
    } else {
        notify->statistics.dropped++;
    }
    lock_release(&notify->lock);
    if (!queued)
        free(message);
}

void ll_notify_entry(struct ll_notify *notify, uint64_t parent, const char *name)
{
    ll_notify_post(notify, parent, name);
}

void ll_notify_inode(struct ll_notify *notify, uint64_t node)
{
    ll_notify_post(notify, node, NULL);
}

void ll_notify_get_statistics(struct ll_notify *notify, struct ll_notify_statistics *ret)
{
    lock_acquire(&notify->lock);
    *ret = notify->statistics;
    lock_release(&notify->lock);
}
