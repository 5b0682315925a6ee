/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ll_flusher.c - the thread that flushes the kernel's pages, then works
 */
#include "fuse/ll_internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

struct ll_flusher {
    struct ll *ll;
    bool flushes;
    pthread_t thread;
    struct lock lock; /* LOCK_RANK_LEAF */
    pthread_cond_t wake;
    struct ll_job *first, **last;
    bool stopping;
};

/* What the kernel may hold dirty pages of: an array to free(), its count, or negative. */
static int ll_dirty_nodes(struct ll *ll, struct ll_pages_node **ret_nodes, size_t *ret_count)
{
    struct ll_pages_node *nodes = NULL;
    struct fs_entry entry;
    uint64_t *numbers;
    size_t count, known = 0;
    int error = ll_handles_list(ll->dirty_files, &numbers, &count);

    if (error < 0)
        return error;
    if (count > 0) {
        nodes = malloc(count * sizeof *nodes);
        error = nodes == NULL ? -ENOMEM : 0;
    }
    for (size_t i = 0; nodes != NULL && i < count; i++) {
        /* One that is gone meanwhile has nothing left to write. */
        if (fs_getattr(ll->fs, numbers[i], &entry) == 0)
            nodes[known++] = (struct ll_pages_node){numbers[i], entry.attribute.generation};
    }
    free(numbers);
    if (error == 0) {
        *ret_nodes = nodes;
        *ret_count = known;
    }
    return error;
}

/* From 0 to the end: the kernel writes dirty pages back, waits, and drops them with all others. */
static void ll_invalidate(struct ll *ll, uint64_t node)
{
    int error = fuse_lowlevel_notify_inval_inode(ll->session, node, 0, 0);

    if (error < 0 && error != -ENOENT)
        log_debug("flush of node %" PRIu64 ": %s", node, error_text(error));
}

int ll_flush_mappings(struct ll *ll)
{
    struct ll_pages_node *nodes = NULL;
    size_t count = 0;
    int error = ll_dirty_nodes(ll, &nodes, &count);

    if (error < 0) {
        log_warning("pages of shared mappings are not flushed: %s", error_text(error));
        return error;
    }
    if (count > 0)
        count = ll_pages_flush(ll->pages, nodes, count);
    for (size_t i = 0; i < count; i++)
        ll_invalidate(ll, nodes[i].node);
    free(nodes);
    return 0;
}

static struct ll_job *ll_flusher_take(struct ll_flusher *flusher)
{
    struct ll_job *job = flusher->first;

    flusher->first = job->next;
    if (flusher->first == NULL)
        flusher->last = &flusher->first;
    return job;
}

static void *ll_flusher_main(void *context)
{
    struct ll_flusher *flusher = context;
    struct ll_job *job;
    int error;

    (void)pthread_setname_np(pthread_self(), flusher->flushes ? "varve-flusher" : "varve-seeker");
    lock_acquire(&flusher->lock);
    for (;;) {
        if (flusher->first == NULL) {
            if (flusher->stopping)
                break;
            lock_wait(&flusher->lock, &flusher->wake);
            continue;
        }
        job = ll_flusher_take(flusher);
        error = flusher->stopping ? -ENOTCONN : 0;
        lock_release(&flusher->lock);
        if (error == 0 && flusher->flushes)
            error = ll_flush_mappings(flusher->ll);
        job->run(flusher->ll, job, error);
        lock_acquire(&flusher->lock);
    }
    lock_release(&flusher->lock);
    return NULL;
}

int ll_flusher_start(struct ll *ll, bool flushes, struct ll_flusher **ret_flusher)
{
    struct ll_flusher *flusher = calloc(1, sizeof *flusher);
    int error;

    if (flusher == NULL)
        return -ENOMEM;
    flusher->ll = ll;
    flusher->flushes = flushes;
    flusher->last = &flusher->first;
    lock_init(&flusher->lock, LOCK_RANK_LEAF);
    lock_condition_init(&flusher->wake);
    error = pthread_create(&flusher->thread, NULL, ll_flusher_main, flusher);
    if (error != 0) {
        (void)pthread_cond_destroy(&flusher->wake);
        lock_destroy(&flusher->lock);
        free(flusher);
        return -error;
    }
    *ret_flusher = flusher;
    return 0;
}

void ll_flusher_stop(struct ll_flusher *flusher)
{
    if (flusher == NULL)
        return;
    lock_acquire(&flusher->lock);
    flusher->stopping = true;
    (void)pthread_cond_signal(&flusher->wake);
    lock_release(&flusher->lock);
    (void)pthread_join(flusher->thread, NULL);
}

void ll_flusher_free(struct ll_flusher *flusher)
{
    if (flusher == NULL)
        return;
    invariant(flusher->first == NULL);
    (void)pthread_cond_destroy(&flusher->wake);
    lock_destroy(&flusher->lock);
    free(flusher);
}

bool ll_flusher_submit(struct ll_flusher *flusher, struct ll_job *job)
{
    bool accepted;

    job->next = NULL;
    lock_acquire(&flusher->lock);
    accepted = !flusher->stopping;
    if (accepted) {
        *flusher->last = job;
        flusher->last = &job->next;
        (void)pthread_cond_signal(&flusher->wake);
    }
    lock_release(&flusher->lock);
    return accepted;
}
