/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ll_pages.c - write back dirty pages from a thread with a descriptor table of its own
 */
#include "fuse/ll_pages.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "fuse/ll_internal.h"
#include "fuse/mountinfo.h"

/* The kernel's file handle of a FUSE inode: the node's two halves and its generation. */
#define HANDLE_TYPE  0x81
#define HANDLE_WORDS 3

struct ll_pages {
    struct ll *ll;
    pthread_t thread;
    atomic_int thread_id; /* 0: it cannot work here */
    dev_t device;         /* of the mount; 0 until it is known */

    struct lock lock; /* LOCK_RANK_LEAF */
    pthread_cond_t wake, done;
    struct ll_pages_node *nodes; /* NULL: nothing to do */
    size_t count, left;
    bool stopping;
};

/* ---- descriptors of this thread's table ----
 *
 * By bare system calls: ThreadSanitizer takes a number for one descriptor in the whole process. */

static int ll_pages_open_directory(const char *path)
{
    return (int)syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
}

static void ll_pages_close(int descriptor)
{
    (void)syscall(SYS_close, descriptor);
}

/*
 * Give the thread a table that keeps nothing open: not the device, and not the standard streams of
 * whoever started the daemon, who may wait for their end.
 */
static bool ll_pages_own_table(void)
{
    int null;

    if (unshare(CLONE_FILES) != 0)
        return false;
    null = (int)syscall(SYS_openat, AT_FDCWD, "/dev/null", O_RDWR, 0);
    if (null < 0)
        return false;
    for (int stream = STDIN_FILENO; stream <= STDERR_FILENO; stream++) {
        if (null != stream && syscall(SYS_dup3, null, stream, 0) < 0)
            return false;
    }
    return close_range(STDERR_FILENO + 1, ~0U, 0) == 0;
}

/* ---- one node ---- */

static int ll_pages_open(int root, const struct ll_pages_node *node)
{
    union {
        struct file_handle handle;
        char space[sizeof(struct file_handle) + HANDLE_WORDS * sizeof(uint32_t)];
    } buffer = {0};
    const uint32_t words[HANDLE_WORDS] = {
        (uint32_t)(node->node >> 32),
        (uint32_t)node->node,
        (uint32_t)node->generation,
    };

    buffer.handle.handle_bytes = sizeof words;
    buffer.handle.handle_type = HANDLE_TYPE;
    memcpy(buffer.handle.f_handle, words, sizeof words);
    return open_by_handle_at(root, &buffer.handle, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
}

/*
 * False: it could not be tried. A sync that failed is not tried in another way (P6): the pages were
 * sent and refused, the kernel keeps the error for those who have the file open, and an invalidation
 * would only take from them what they mapped, by a thread that a kill cannot end.
 */
static bool ll_pages_flush_one(int root, const struct ll_pages_node *node)
{
    int descriptor = ll_pages_open(root, node);

    if (descriptor < 0)
        return false;
    (void)fsync(descriptor);
    ll_pages_close(descriptor);
    return true;
}

/* The mount's root, or -1: another mount may lie on top of it. */
static int ll_pages_open_root(struct ll_pages *pages)
{
    int root = ll_pages_open_directory(pages->ll->options->mount_point);
    struct statx status;

    if (root >= 0 &&
        (statx(root, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_TYPE, &status) != 0 ||
         makedev(status.stx_dev_major, status.stx_dev_minor) != pages->device)) {
        ll_pages_close(root);
        return -1;
    }
    return root;
}

/* Which device the mount is: known once it is mounted. */
static bool ll_pages_find_device(struct ll_pages *pages)
{
    struct mountinfo mount;

    if (pages->device != 0)
        return true;
    if (mountinfo_find_exact(pages->ll->options->mount_point, &mount) < 0)
        return false;
    if (strcmp(mount.type, MOUNTINFO_TYPE) == 0)
        pages->device = makedev(mount.device_major, mount.device_minor);
    mountinfo_free(&mount);
    return pages->device != 0;
}

static size_t ll_pages_flush_all(struct ll_pages *pages, struct ll_pages_node *nodes, size_t count)
{
    int root = ll_pages_find_device(pages) ? ll_pages_open_root(pages) : -1;
    size_t left = 0;

    if (root < 0)
        return count;
    for (size_t i = 0; i < count; i++) {
        if (!ll_pages_flush_one(root, &nodes[i]))
            nodes[left++] = nodes[i];
    }
    ll_pages_close(root);
    return left;
}

/* ---- the thread ---- */

static void *ll_pages_main(void *context)
{
    struct ll_pages *pages = context;
    bool able = geteuid() == 0 && ll_pages_own_table();

    (void)pthread_setname_np(pthread_self(), "varve-pages");
    if (able)
        atomic_store(&pages->thread_id, gettid());
    lock_acquire(&pages->lock);
    while (!pages->stopping) {
        if (pages->nodes == NULL) {
            lock_wait(&pages->lock, &pages->wake);
            continue;
        }
        lock_release(&pages->lock);
        pages->left = able ? ll_pages_flush_all(pages, pages->nodes, pages->count) : pages->count;
        lock_acquire(&pages->lock);
        pages->nodes = NULL;
        (void)pthread_cond_signal(&pages->done);
    }
    lock_release(&pages->lock);
    return NULL;
}

int ll_pages_start(struct ll *ll, struct ll_pages **ret_pages)
{
    struct ll_pages *pages = calloc(1, sizeof *pages);
    int error;

    if (pages == NULL)
        return -ENOMEM;
    pages->ll = ll;
    lock_init(&pages->lock, LOCK_RANK_LEAF);
    lock_condition_init(&pages->wake);
    lock_condition_init(&pages->done);
    error = pthread_create(&pages->thread, NULL, ll_pages_main, pages);
    if (error != 0) {
        (void)pthread_cond_destroy(&pages->wake);
        (void)pthread_cond_destroy(&pages->done);
        lock_destroy(&pages->lock);
        free(pages);
        return -error;
    }
    *ret_pages = pages;
    return 0;
}

void ll_pages_stop(struct ll_pages *pages)
{
    if (pages == NULL)
        return;
    lock_acquire(&pages->lock);
    pages->stopping = true;
    (void)pthread_cond_signal(&pages->wake);
    lock_release(&pages->lock);
    (void)pthread_join(pages->thread, NULL);
    (void)pthread_cond_destroy(&pages->wake);
    (void)pthread_cond_destroy(&pages->done);
    lock_destroy(&pages->lock);
    free(pages);
}

size_t ll_pages_flush(struct ll_pages *pages, struct ll_pages_node *nodes, size_t count)
{
    lock_acquire(&pages->lock);
    invariant(pages->nodes == NULL && !pages->stopping);
    pages->nodes = nodes;
    pages->count = count;
    (void)pthread_cond_signal(&pages->wake);
    while (pages->nodes != NULL)
        lock_wait(&pages->lock, &pages->done);
    count = pages->left;
    lock_release(&pages->lock);
    return count;
}

bool ll_pages_is_thread(const struct ll_pages *pages, pid_t thread)
{
    return atomic_load_explicit(&pages->thread_id, memory_order_relaxed) == thread && thread != 0;
}
