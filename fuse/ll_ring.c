/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ll_ring.c - requests through io_uring
 *
 * An answer becomes a submission that is only published, when the thread that gives it leads the
 * ring: the system call that waits for the next request carries it. Another thread submits at once.
 * Submissions are published under the ring's lock and counted; who enters the kernel takes the
 * count with it. It does not matter whose submission a thread carries in.
 */
#include "fuse/ll_ring.h"

#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <linux/fuse.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "engine/base/error.h"
#include "engine/base/invariant.h"
#include "engine/base/lock.h"
#include "engine/base/log.h"

/* ---- the protocol, newer than the headers ---- */

#define RING_COMMAND_REGISTER         1
#define RING_COMMAND_COMMIT_AND_FETCH 2

struct ring_command {
    uint64_t flags;
    uint64_t commit_id;
    uint16_t queue;
    uint8_t padding[6];
};

#define RING_HEADER_PART 128

struct ring_header {
    char header[RING_HEADER_PART];    /* struct fuse_in_header, then struct fuse_out_header */
    char operation[RING_HEADER_PART]; /* the request's fixed part */
    uint64_t flags;
    uint64_t commit_id;
    uint32_t payload_size;
    uint32_t padding;
    uint64_t reserved;
};

/* ---- */

/* Of an entry's memory: the header, and at the end room to put a request before its payload. */
#define ENTRY_HEAD_SIZE 4096

struct ll_ring_entry {
    struct ll_ring *ring;
    struct ring_header *header;
    char *payload;
    struct iovec parts[2];       /* read by the kernel when the registration is issued */
    atomic_uint_fast64_t unique; /* of the request that waits for its answer; 0: none */
    uint64_t commit_id;
    uint32_t opcode;
};

struct ll_ring {
    struct io_uring uring;
    int device;
    uint16_t index;
    bool opened, registered;
    unsigned live; /* entries that requests may come in; the leader's */
    char *memory;
    size_t memory_size;

    struct lock lock; /* LOCK_RANK_LEAF: the submission queue */
    unsigned unsubmitted;

    struct ll_ring_entry entries[LL_RING_DEPTH];
};

struct ll_rings {
    size_t payload_bytes;
    uint32_t count;
    struct ll_ring rings[];
};

static _Thread_local struct ll_ring *leading;
static _Thread_local struct ll_ring_entry *handling;

/* ---- what the machine has ---- */

#define PARAMETER "/sys/module/fuse/parameters/enable_uring"

static char parameter_read(void)
{
    char value = 'N';
    int descriptor = open(PARAMETER, O_RDONLY | O_CLOEXEC);

    if (descriptor < 0)
        return 'N';
    if (read(descriptor, &value, 1) != 1)
        value = 'N';
    (void)close(descriptor);
    return value;
}

static int parameter_write(void)
{
    int descriptor = open(PARAMETER, O_WRONLY | O_CLOEXEC), error = 0;

    if (descriptor < 0)
        return -errno;
    if (write(descriptor, "Y", 1) != 1)
        error = -errno;
    (void)close(descriptor);
    return error;
}

bool ll_rings_allowed(bool enable)
{
    int error;

    if (parameter_read() == 'Y')
        return true;
    if (!enable)
        return false;
    error = parameter_write();
    if (error < 0) {
        log_warning("requests through io_uring cannot be switched on (%s): %s", PARAMETER,
                    error_text(error));
        return false;
    }
    log_info("switched requests through io_uring on for this machine: %s is Y now", PARAMETER);
    return true;
}

/* One ring for each CPU that there may ever be, as the kernel counts them; 0: unknown. */
static uint32_t count_possible_cpus(void)
{
    FILE *file = fopen("/sys/devices/system/cpu/possible", "re");
    unsigned first = 0, last = 0;
    int found;

    if (file == NULL)
        return 0;
    found = fscanf(file, "%u-%u", &first, &last);
    (void)fclose(file);
    if (found < 1 || first != 0)
        return 0;
    return (found == 2 ? last : first) + 1;
}

/* ---- open and close ---- */

static void ring_place_entries(struct ll_ring *ring, size_t payload_bytes)
{
    for (unsigned i = 0; i < LL_RING_DEPTH; i++) {
        struct ll_ring_entry *entry = &ring->entries[i];
        char *memory = ring->memory + i * (ENTRY_HEAD_SIZE + payload_bytes);

        entry->ring = ring;
        entry->header = (struct ring_header *)(void *)memory;
        entry->payload = memory + ENTRY_HEAD_SIZE;
        entry->parts[0] = (struct iovec){entry->header, sizeof *entry->header};
        entry->parts[1] = (struct iovec){entry->payload, payload_bytes};
    }
}

static int ring_open(struct ll_ring *ring, uint16_t index, size_t payload_bytes)
{
    int error;

    ring->index = index;
    ring->memory_size = LL_RING_DEPTH * (ENTRY_HEAD_SIZE + payload_bytes);
    ring->memory = mmap(NULL, ring->memory_size, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (ring->memory == MAP_FAILED) {
        ring->memory = NULL;
        return -errno;
    }
    ring_place_entries(ring, payload_bytes);
    /* A request's arrival need not interrupt a thread that computes: it will enter the kernel. */
    error = io_uring_queue_init(2 * LL_RING_DEPTH, &ring->uring,
                                IORING_SETUP_SQE128 | IORING_SETUP_COOP_TASKRUN);
    if (error < 0)
        return error;
    ring->opened = true;
    lock_init(&ring->lock, LOCK_RANK_LEAF);
    return 0;
}

static void ring_close(struct ll_ring *ring)
{
    if (ring->opened) {
        io_uring_queue_exit(&ring->uring);
        lock_destroy(&ring->lock);
    }
    if (ring->memory != NULL)
        (void)munmap(ring->memory, ring->memory_size);
}

int ll_rings_open(size_t payload_bytes, struct ll_rings **ret_rings)
{
    uint32_t count = count_possible_cpus();
    struct ll_rings *rings;
    int error = 0;

    if (count == 0 || count > UINT16_MAX)
        return -EOPNOTSUPP;
    rings = calloc(1, sizeof *rings + count * sizeof rings->rings[0]);
    if (rings == NULL)
        return -ENOMEM;
    rings->payload_bytes = payload_bytes;
    rings->count = count;
    for (uint32_t i = 0; error == 0 && i < count; i++)
        error = ring_open(&rings->rings[i], (uint16_t)i, payload_bytes);
    if (error < 0) {
        ll_rings_close(rings);
        return error;
    }
    *ret_rings = rings;
    return 0;
}

void ll_rings_close(struct ll_rings *rings)
{
    if (rings == NULL)
        return;
    for (uint32_t i = 0; i < rings->count; i++)
        ring_close(&rings->rings[i]);
    free(rings);
}

uint32_t ll_rings_count(const struct ll_rings *rings)
{
    return rings->count;
}

/* ---- submitting ---- */

static void ring_put_locked(struct ll_ring_entry *entry, uint32_t command, uint64_t commit_id)
{
    struct ll_ring *ring = entry->ring;
    struct io_uring_sqe *sqe = io_uring_get_sqe(&ring->uring);
    struct ring_command body = {.commit_id = commit_id, .queue = ring->index};

    invariant(sqe != NULL); /* an entry has one submission, and there is room for twice as many */
    memset(sqe, 0, 2 * sizeof *sqe);
    sqe->opcode = IORING_OP_URING_CMD;
    sqe->fd = ring->device;
    sqe->cmd_op = command;
    sqe->user_data = (uintptr_t)entry;
    if (command == RING_COMMAND_REGISTER) {
        sqe->addr = (uintptr_t)entry->parts;
        sqe->len = 2;
    }
    memcpy(sqe->cmd, &body, sizeof body);
    ring->unsubmitted++;
}

/* Let the kernel see what was put; the caller enters it with the count. */
static unsigned ring_publish(struct ll_ring *ring)
{
    unsigned count;

    lock_acquire(&ring->lock);
    ring->uring.sq.sqe_head = ring->uring.sq.sqe_tail;
    io_uring_smp_store_release(ring->uring.sq.ktail, ring->uring.sq.sqe_tail);
    count = ring->unsubmitted;
    ring->unsubmitted = 0;
    lock_release(&ring->lock);
    return count;
}

/* 0, or why nothing more was done; what was not submitted is counted again. */
static int ring_enter(struct ll_ring *ring, unsigned submit, bool wait)
{
    int result = io_uring_enter((unsigned)ring->uring.ring_fd, submit, wait ? 1 : 0,
                                wait ? IORING_ENTER_GETEVENTS : 0, NULL);
    unsigned submitted = result < 0 ? 0 : (unsigned)result;

    if (submitted < submit) {
        lock_acquire(&ring->lock);
        ring->unsubmitted += submit - submitted;
        lock_release(&ring->lock);
    }
    return result < 0 ? result : 0;
}

static bool error_passes(int error)
{
    return error == -EINTR || error == -EAGAIN || error == -EBUSY;
}

static void ring_submit(struct ll_ring *ring)
{
    int error;

    do {
        unsigned submit = ring_publish(ring);

        if (submit == 0)
            return;
        error = ring_enter(ring, submit, false);
    } while (error_passes(error));
    if (error < 0)
        log_error("answers do not reach the kernel: %s", error_text(error));
}

void ll_ring_register(struct ll_rings *rings, uint32_t index, int device)
{
    struct ll_ring *ring = &rings->rings[index];

    if (ring->registered)
        return;
    ring->registered = true;
    ring->device = device;
    ring->live = LL_RING_DEPTH;
    lock_acquire(&ring->lock);
    for (unsigned i = 0; i < LL_RING_DEPTH; i++)
        ring_put_locked(&ring->entries[i], RING_COMMAND_REGISTER, 0);
    lock_release(&ring->lock);
}

/* ---- receiving ---- */

/* Put the parts of the request in a row before its payload. False: it makes no sense. */
static bool entry_join(struct ll_ring_entry *entry, size_t payload_bytes, void **ret_request,
                       size_t *ret_size)
{
    size_t payload_size = entry->header->payload_size, operation_size;
    struct fuse_in_header header;
    char *at;

    memcpy(&header, entry->header->header, sizeof header);
    if (payload_size > payload_bytes || header.len < sizeof header + payload_size)
        return false;
    operation_size = header.len - sizeof header - payload_size;
    if (operation_size > RING_HEADER_PART)
        return false;
    at = entry->payload - operation_size;
    memcpy(at, entry->header->operation, operation_size);
    at -= sizeof header;
    memcpy(at, &header, sizeof header);
    entry->commit_id = entry->header->commit_id;
    entry->opcode = header.opcode;
    atomic_store_explicit(&entry->unique, header.unique, memory_order_release);
    *ret_request = at;
    *ret_size = header.len;
    return true;
}

/* The next completion: 1 a request, 0 none that is one, or the error of a refused entry. */
static int ring_take(struct ll_ring *ring, size_t payload_bytes, void **ret_request,
                     size_t *ret_size)
{
    struct io_uring_cqe *cqe;
    struct ll_ring_entry *entry;
    int result;

    if (io_uring_cq_ready(&ring->uring) == 0 || io_uring_peek_cqe(&ring->uring, &cqe) != 0)
        return 0;
    entry = io_uring_cqe_get_data(cqe);
    result = cqe->res;
    io_uring_cqe_seen(&ring->uring, cqe);
    if (result < 0) {
        ring->live--;
        /* What the end of the connection, or of a thread, looks like. */
        return result == -ENOTCONN || result == -ECANCELED ? 0 : result;
    }
    if (!entry_join(entry, payload_bytes, ret_request, ret_size))
        return -EPROTO;
    handling = entry;
    return 1;
}

int ll_ring_receive(struct ll_rings *rings, uint32_t index, void **ret_request, size_t *ret_size)
{
    struct ll_ring *ring = &rings->rings[index];
    int result;

    leading = ring;
    while (ring->live > 0) {
        bool ready = io_uring_cq_ready(&ring->uring) > 0;
        unsigned submit = ring_publish(ring);

        if (submit > 0 || !ready) {
            result = ring_enter(ring, submit, !ready);
            if (result < 0 && !(ready && error_passes(result)))
                return result == -EAGAIN || result == -EBUSY ? -EINTR : result;
        }
        if (io_uring_cq_ready(&ring->uring) == 0)
            return -EINTR;
        result = ring_take(ring, rings->payload_bytes, ret_request, ret_size);
        if (result != 0)
            return result;
    }
    return 0;
}

void ll_ring_done(void)
{
    handling = NULL;
}

void ll_ring_leave(void)
{
    leading = NULL;
}

/* ---- replying ---- */

void *ll_ring_reply_buffer(size_t size)
{
    if (handling == NULL || size > handling->parts[1].iov_len)
        return NULL;
    /* Of these nothing is in the payload. */
    if (handling->opcode != FUSE_READ && handling->opcode != FUSE_READDIR &&
        handling->opcode != FUSE_READDIRPLUS)
        return NULL;
    return handling->payload;
}

static struct ll_ring_entry *rings_find(struct ll_rings *rings, uint64_t unique)
{
    if (handling != NULL && atomic_load_explicit(&handling->unique, memory_order_relaxed) == unique)
        return handling;
    for (uint32_t i = 0; i < rings->count; i++) {
        for (unsigned j = 0; j < LL_RING_DEPTH; j++) {
            struct ll_ring_entry *entry = &rings->rings[i].entries[j];

            if (atomic_load_explicit(&entry->unique, memory_order_acquire) == unique)
                return entry;
        }
    }
    return NULL;
}

bool ll_ring_reply(struct ll_rings *rings, const struct iovec *parts, int count)
{
    struct fuse_out_header header;
    struct ll_ring_entry *entry;
    size_t size = 0;

    if (count < 1 || parts[0].iov_len != sizeof header)
        return false;
    memcpy(&header, parts[0].iov_base, sizeof header);
    /* 0: a notification */
    entry = header.unique != 0 ? rings_find(rings, header.unique) : NULL;
    if (entry == NULL)
        return false;

    for (int i = 1; i < count; i++) {
        invariant(size + parts[i].iov_len <= entry->parts[1].iov_len);
        if (parts[i].iov_len > 0 && parts[i].iov_base != entry->payload + size)
            memmove(entry->payload + size, parts[i].iov_base, parts[i].iov_len);
        size += parts[i].iov_len;
    }
    memcpy(entry->header->header, &header, sizeof header);
    entry->header->payload_size = (uint32_t)size;
    atomic_store_explicit(&entry->unique, 0, memory_order_release);

    lock_acquire(&entry->ring->lock);
    ring_put_locked(entry, RING_COMMAND_COMMIT_AND_FETCH, entry->commit_id);
    lock_release(&entry->ring->lock);
    if (leading != entry->ring)
        ring_submit(entry->ring);
    return true;
}
