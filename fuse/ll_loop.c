/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ll_loop.c - leaders and followers
 *
 * Requests come from sources: the device, and with transport=io_uring one ring a CPU. State, all
 * under the lock:
 *   source      of a worker: the one it leads, that is, it reads the next request from there, or is
 *               inside one it has not waited in; NULL: none
 *   has_leader  of a source: one worker leads it, or one is being started that will; false only
 *               while every thread is busy and none more may be started: the first to finish leads
 * A worker gives its source up only by itself (the hook runs in its own thread) and gets one either
 * by itself or while parked, from the one that gives it up.
 *
 * Stopping: `stopping` and the session's exit flag are set first. A reader that returns from its
 * source after that drops what it read (its caller gets an error when the connection goes), so a
 * signal that was meant for the reading can never interrupt the handling of a request.
 */
#include "fuse/ll_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/fuse.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "engine/base/io.h"
#include "fuse/ll_ring.h"
#include "fuse/ll_yield.h"

/* Parked threads beyond this many end after being idle this long. */
#define PARKED_KEPT       2
#define PARKED_IDLE_NS    UINT64_C(10000000000)
#define STOP_INTERVAL_NS  5000000
#define WAKE_SIGNAL       SIGUSR1
#define THREAD_STACK_SIZE (1024 * 1024)
#define REPLY_SIZE_MIN    ((size_t)2 * 1024 * 1024) /* from there on in huge pages (io.h) */
/* Beside rings the device carries what nobody waits for: it is emptied that often. */
#define DRAIN_INTERVAL_NS 5000000
#define CPU_UNKNOWN       (-2)
#define DEVICE            0 /* the source that there always is; ring i is source i + 1 */

struct ll_source {
    struct ll_worker *leader;
    bool has_leader;
    atomic_int thread_id; /* the leader's, while it receives; for looking only */
};

struct ll_worker {
    struct ll_loop *loop;
    struct ll_worker *next; /* in parked or finished */
    pthread_t thread;
    pthread_cond_t wake;
    atomic_uint wakers; /* threads that are about to signal it */
    struct ll_source *source;
    atomic_bool reading; /* inside the read of its source */
    uint64_t rollbacks;  /* of struct ll, when its request was begun */
    int cpu;             /* bound to it; -1: to none, CPU_UNKNOWN: as its maker was */
    int thread_id;
    bool yields;            /* runs as SCHED_IDLE; its own, except that others may end it */
    bool drained;           /* the device had nothing when it was last read */
    struct fuse_buf device; /* what was read from there */
    struct fuse_buf request;
    void *reply;
    size_t reply_size;
};

struct ll_loop {
    struct ll *ll;
    uint32_t threads_max;
    void (*ended)(void *context);
    void *ended_context;

    struct lock lock;           /* LOCK_RANK_FUSE_LOOP */
    pthread_cond_t idle;        /* threads became 0 */
    struct ll_worker *parked;   /* most recent first: its caches are the warmest */
    struct ll_worker *finished; /* threads to join */
    struct ll_source *sources;
    uint32_t source_count; /* grows once, when the rings start */
    uint32_t threads, threads_peak, parked_count;
    uint64_t threads_started;
    bool stopping, ended_called;

    struct ll_rings *rings_offered;
    struct ll_rings *rings;  /* NULL: the device carries everything */
    struct ll_yield *yield;  /* NULL: readers never yield */
    atomic_bool yielding;    /* they do now */
    atomic_int followed_cpu; /* without rings: where the reader stays then; -1: anywhere */
    atomic_int caller;
    atomic_uint_fast64_t caller_changes;
    uint64_t yields; /* how often that began */

    atomic_uint_fast64_t requests, hand_overs;
};

static _Thread_local struct ll_worker *current_worker;

/* ---- buffers ---- */

const void *ll_loop_request(size_t *ret_size)
{
    invariant(current_worker != NULL);
    *ret_size = current_worker->request.size;
    return current_worker->request.mem;
}

bool ll_loop_meets_rollback(const struct ll *ll)
{
    const struct ll_worker *worker = current_worker;

    return worker != NULL &&
           (worker->rollbacks % 2 != 0 || worker->rollbacks != atomic_load(&ll->rollbacks));
}

void *ll_loop_reply_buffer(size_t size)
{
    struct ll_worker *worker = current_worker;
    void *memory = ll_ring_reply_buffer(size);

    invariant(worker != NULL);
    if (memory != NULL)
        return memory;
    if (worker->reply_size >= size)
        return worker->reply;
    if (size < REPLY_SIZE_MIN)
        size = REPLY_SIZE_MIN;
    memory = io_allocate_aligned(size);
    if (memory == NULL)
        return NULL;
    free(worker->reply);
    worker->reply = memory;
    worker->reply_size = size;
    return memory;
}

/* ---- threads ---- */

static void *ll_worker_main(void *context);

static void ll_worker_free(struct ll_worker *worker)
{
    while (atomic_load(&worker->wakers) > 0)
        (void)sched_yield(); /* it came and went before its waker was done */
    (void)pthread_cond_destroy(&worker->wake);
    free(worker->device.mem);
    free(worker->reply);
    free(worker);
}

/* Join threads that have ended; they are past everything but their return. */
static void ll_loop_reap(struct ll_loop *loop)
{
    struct ll_worker *worker, *next;

    lock_acquire(&loop->lock);
    worker = loop->finished;
    loop->finished = NULL;
    lock_release(&loop->lock);
    for (; worker != NULL; worker = next) {
        next = worker->next;
        (void)pthread_join(worker->thread, NULL);
        ll_worker_free(worker);
    }
}

/* Start a thread that leads the source; it is counted already. */
static int ll_loop_start_leader(struct ll_loop *loop, struct ll_source *source)
{
    struct ll_worker *worker = calloc(1, sizeof *worker);
    pthread_attr_t attributes;
    pthread_t thread; /* the worker notes its own name: it may run before this is written */
    int error;

    if (worker == NULL)
        return -ENOMEM;
    worker->loop = loop;
    worker->source = source;
    worker->cpu = CPU_UNKNOWN;
    lock_condition_init(&worker->wake);

    error = pthread_attr_init(&attributes);
    if (error == 0) {
        (void)pthread_attr_setstacksize(&attributes, THREAD_STACK_SIZE);
        error = pthread_create(&thread, &attributes, ll_worker_main, worker);
        (void)pthread_attr_destroy(&attributes);
    }
    if (error != 0)
        ll_worker_free(worker);
    return -error;
}

/* ---- the leader's role; the lock is held ---- */

static void ll_loop_appoint(struct ll_source *source, struct ll_worker *worker)
{
    worker->source = source;
    source->leader = worker;
    source->has_leader = true;
}

/* The parked thread that leads the source now, to be woken with the lock released; NULL: none. */
static struct ll_worker *ll_loop_appoint_parked(struct ll_loop *loop, struct ll_source *source)
{
    struct ll_worker *worker = loop->parked;

    if (worker == NULL)
        return NULL;
    loop->parked = worker->next;
    loop->parked_count--;
    ll_loop_appoint(source, worker);
    atomic_fetch_add(&worker->wakers, 1);
    return worker;
}

/* Woken under the lock it would run into it at once and sleep again, where both share a CPU. */
static void ll_worker_wake(struct ll_worker *worker)
{
    if (worker == NULL)
        return;
    (void)pthread_cond_signal(&worker->wake);
    atomic_fetch_sub(&worker->wakers, 1);
}

static struct ll_source *ll_loop_leaderless(struct ll_loop *loop)
{
    for (uint32_t i = 0; i < loop->source_count; i++) {
        if (!loop->sources[i].has_leader)
            return &loop->sources[i];
    }
    return NULL;
}

/* Each ring needs a thread that waits; what may be busy beside those is what was asked for. */
static uint32_t ll_loop_threads_max(const struct ll_loop *loop)
{
    return loop->threads_max + loop->source_count - 1;
}

/* Start a leader that was counted and promised to the source; take both back when it fails. */
static int ll_loop_start_promised(struct ll_loop *loop, struct ll_source *source)
{
    struct ll_worker *next;
    int error;

    ll_loop_reap(loop);
    error = ll_loop_start_leader(loop, source);
    if (error == 0)
        return 0;
    log_warning("cannot start another thread: %s", error_text(error));
    lock_acquire(&loop->lock);
    loop->threads--;
    source->has_leader = false;
    next = ll_loop_appoint_parked(loop, source); /* one may have finished meanwhile */
    lock_release(&loop->lock);
    ll_worker_wake(next);
    return error;
}

/* ---- letting callers have the CPU (ll_yield.h) ---- */

static void ll_thread_set_policy(int thread_id, bool idle)
{
    const struct sched_param parameter = {0};

    if (sched_setscheduler(thread_id, idle ? SCHED_IDLE : SCHED_OTHER, &parameter) != 0)
        log_debug("scheduling policy of thread %d: %s", thread_id, error_text(-errno));
}

/* Of the calling thread. Who ends it for all clears the flag first and then sets every leader's
 * policy: a thread that saw the flag before that sees it cleared afterwards, or is set right. */
static void ll_worker_yield(struct ll_worker *worker, bool yields)
{
    if (worker->yields == yields)
        return;
    worker->yields = yields;
    ll_thread_set_policy(0, yields);
    if (yields && !atomic_load(&worker->loop->yielding)) {
        worker->yields = false;
        ll_thread_set_policy(0, false);
    }
}

/* Readers are the leaders of rings or, without, the leader of the device. */
static uint32_t ll_loop_first_reader(const struct ll_loop *loop)
{
    return loop->rings != NULL ? DEVICE + 1 : DEVICE;
}

void ll_loop_set_yielding(struct ll_loop *loop, bool yielding, int cpu)
{
    atomic_store_explicit(&loop->followed_cpu, cpu, memory_order_relaxed);
    if (atomic_load(&loop->yielding) == yielding)
        return;
    atomic_store(&loop->yielding, yielding);
    lock_acquire(&loop->lock);
    if (yielding)
        loop->yields++;
    for (uint32_t i = ll_loop_first_reader(loop); !yielding && i < loop->source_count; i++) {
        if (loop->sources[i].leader != NULL)
            ll_thread_set_policy(loop->sources[i].leader->thread_id, false);
    }
    lock_release(&loop->lock);
}

uint32_t ll_loop_readers_max(struct ll_loop *loop)
{
    return loop->rings_offered != NULL ? ll_rings_count(loop->rings_offered) : 1;
}

int ll_loop_reader_thread(struct ll_loop *loop, uint32_t index)
{
    uint32_t source = ll_loop_first_reader(loop) + index;

    if (loop->rings == NULL && index > 0)
        return 0;
    return atomic_load_explicit(&loop->sources[source].thread_id, memory_order_relaxed);
}

bool ll_loop_uses_rings(struct ll_loop *loop)
{
    return loop->rings != NULL;
}

uint64_t ll_loop_requests(struct ll_loop *loop)
{
    return atomic_load_explicit(&loop->requests, memory_order_relaxed);
}

uint64_t ll_loop_hand_overs(struct ll_loop *loop)
{
    return atomic_load_explicit(&loop->hand_overs, memory_order_relaxed);
}

int ll_loop_caller(struct ll_loop *loop, uint64_t *ret_changes)
{
    *ret_changes = atomic_load_explicit(&loop->caller_changes, memory_order_relaxed);
    return atomic_load_explicit(&loop->caller, memory_order_relaxed);
}

bool ll_loop_has_request(struct ll_loop *loop)
{
    struct pollfd device = {.fd = fuse_session_fd(loop->ll->session), .events = POLLIN};

    return poll(&device, 1, 0) == 1 && (device.revents & POLLIN) != 0;
}

/* Note whose request this is. Counts may be a little wrong where two threads note at once. */
static void ll_loop_note_caller(struct ll_loop *loop, const struct fuse_buf *request)
{
    struct fuse_in_header header;

    if (request->size < sizeof header)
        return;
    memcpy(&header, request->mem, sizeof header);
    /* FORGET has none. */
    if (header.pid == 0 ||
        (int)header.pid == atomic_load_explicit(&loop->caller, memory_order_relaxed))
        return;
    atomic_store_explicit(&loop->caller, (int)header.pid, memory_order_relaxed);
    atomic_fetch_add_explicit(&loop->caller_changes, 1, memory_order_relaxed);
}

/*
 * A ring's requests come from callers on its CPU: the thread that serves it stays there; without
 * rings the reader follows its caller. -1: anywhere. All within what the main thread is allowed,
 * which nobody but the user changes: the daemon may be pinned while it runs.
 */
static void ll_worker_bind(struct ll_worker *worker, int cpu)
{
    cpu_set_t cpus;

    if (worker->cpu == cpu || sched_getaffinity(getpid(), sizeof cpus, &cpus) != 0)
        return;
    worker->cpu = cpu;
    if (cpu >= 0 && cpu < CPU_SETSIZE && CPU_ISSET(cpu, &cpus)) {
        CPU_ZERO(&cpus);
        CPU_SET(cpu, &cpus);
    }
    (void)sched_setaffinity(0, sizeof cpus, &cpus);
}

/* The hook: this thread is about to wait in a request. */
static void ll_loop_hand_over(void *context)
{
    struct ll_worker *worker = context;
    struct ll_loop *loop = worker->loop;
    struct ll_source *source = worker->source;
    struct ll_worker *next = NULL;
    bool start = false;

    atomic_fetch_add_explicit(&loop->hand_overs, 1, memory_order_relaxed);
    ll_ring_leave();
    ll_worker_yield(worker, false);
    if (loop->rings == NULL)
        ll_worker_bind(worker, -1);
    lock_acquire(&loop->lock);
    invariant(source != NULL);
    worker->source = NULL;
    source->leader = NULL;
    source->has_leader = false;
    if (!loop->stopping)
        next = ll_loop_appoint_parked(loop, source);
    if (!loop->stopping && next == NULL && loop->threads < ll_loop_threads_max(loop)) {
        start = true;
        source->has_leader = true;
        loop->threads++;
    }
    lock_release(&loop->lock);
    ll_worker_wake(next);
    if (start)
        (void)ll_loop_start_promised(loop, source);
}

static void ll_loop_unpark(struct ll_loop *loop, struct ll_worker *worker)
{
    struct ll_worker **link = &loop->parked;

    while (*link != worker)
        link = &(*link)->next;
    *link = worker->next;
    loop->parked_count--;
}

/* Wait to be made a leader; false when the thread should end. */
static bool ll_loop_park(struct ll_loop *loop, struct ll_worker *worker)
{
    bool in_time = true;
    /* The kernel fills entries of a ring in the threads that used them: they stay. */
    bool stays = loop->rings != NULL;

    worker->next = loop->parked;
    loop->parked = worker;
    loop->parked_count++;
    while (worker->source == NULL && !loop->stopping) {
        if (!in_time && !stays && loop->parked_count > PARKED_KEPT)
            break;
        in_time =
            lock_wait_until(&loop->lock, &worker->wake, clock_monotonic_ns() + PARKED_IDLE_NS);
    }
    if (worker->source == NULL)
        ll_loop_unpark(loop, worker);
    return worker->source != NULL;
}

/* After a request: go on leading, or wait for it. False when the thread should end. */
static bool ll_loop_continue(struct ll_loop *loop, struct ll_worker *worker)
{
    struct ll_source *leaderless;
    bool go_on;

    lock_acquire(&loop->lock);
    go_on = !loop->stopping;
    if (go_on && worker->source == NULL) {
        leaderless = ll_loop_leaderless(loop);
        if (leaderless != NULL)
            ll_loop_appoint(leaderless, worker);
        else
            go_on = ll_loop_park(loop, worker);
    }
    lock_release(&loop->lock);
    return go_on;
}

static void ll_loop_stop_locked(struct ll_loop *loop)
{
    loop->stopping = true;
    for (struct ll_worker *worker = loop->parked; worker != NULL; worker = worker->next)
        (void)pthread_cond_signal(&worker->wake);
}

/* ---- serving ---- */

/* Wait until the device may have something. Callers wait only for what comes through rings: what
 * trickles in here is collected instead of waking a thread each time. */
static void ll_worker_wait_device(struct ll_worker *worker)
{
    const struct timespec interval = {.tv_nsec = DRAIN_INTERVAL_NS};
    struct pollfd device = {.fd = fuse_session_fd(worker->loop->ll->session), .events = POLLIN};

    if (worker->drained)
        (void)poll(&device, 1, -1);
    else
        (void)nanosleep(&interval, NULL);
    worker->drained = true;
}

static void ll_worker_become_reader(struct ll_worker *worker)
{
    ll_worker_yield(worker, atomic_load_explicit(&worker->loop->yielding, memory_order_relaxed));
    atomic_store_explicit(&worker->source->thread_id, worker->thread_id, memory_order_relaxed);
}

static int ll_worker_read_device(struct ll_worker *worker)
{
    struct ll_loop *loop = worker->loop;
    struct fuse_session *session = loop->ll->session;
    int result;

    if (loop->rings == NULL) {
        ll_worker_bind(worker, atomic_load_explicit(&loop->followed_cpu, memory_order_relaxed));
        ll_worker_become_reader(worker);
    }
    result = fuse_session_receive_buf(session, &worker->device);

    if (result == -EAGAIN && loop->rings != NULL)
        ll_worker_wait_device(worker);
    else
        worker->drained = false;
    worker->request = worker->device;
    return result;
}

static int ll_worker_read_ring(struct ll_worker *worker, uint32_t index)
{
    struct ll_loop *loop = worker->loop;

    ll_worker_bind(worker, (int)index);
    ll_worker_become_reader(worker);
    ll_ring_register(loop->rings, index, fuse_session_fd(loop->ll->session));
    return ll_ring_receive(loop->rings, index, &worker->request.mem, &worker->request.size);
}

/* Read one request: false when there will be none. */
static bool ll_worker_receive(struct ll_worker *worker)
{
    struct fuse_session *session = worker->loop->ll->session;
    ptrdiff_t source = worker->source - worker->loop->sources;
    int result;

    for (;;) {
        atomic_store(&worker->reading, true);
        if (source == DEVICE)
            result = ll_worker_read_device(worker);
        else
            result = ll_worker_read_ring(worker, (uint32_t)(source - 1));
        atomic_store(&worker->reading, false);
        if (fuse_session_exited(session) || result == 0)
            return false;
        if (result > 0)
            return true;
        if (result == -EINTR || result == -EAGAIN)
            continue;
        log_error("reading requests failed: %s", error_text(result));
        fuse_session_exit(session);
        return false;
    }
}

static void ll_worker_handle(struct ll_worker *worker)
{
    struct ll *ll = worker->loop->ll;

    atomic_fetch_add_explicit(&worker->loop->requests, 1, memory_order_relaxed);
    if (worker->loop->rings == NULL)
        ll_loop_note_caller(worker->loop, &worker->request);
    ll_yield_notice(worker->loop->yield);
    ll_opcode_count(&ll->opcodes, worker->request.mem, worker->request.size);
    worker->rollbacks = atomic_load(&ll->rollbacks);
    blocking_set_hook(ll_loop_hand_over, worker);
    if (!ll_shutdown_refuses(ll, worker->request.mem, worker->request.size) &&
        !ll_wire_handle(ll, worker->request.mem, worker->request.size))
        fuse_session_process_buf(ll->session, &worker->request);
    blocking_set_hook(NULL, NULL);
    ll_ring_done();
}

static void ll_worker_serve(struct ll_worker *worker)
{
    struct ll_loop *loop = worker->loop;

    do {
        if (!ll_worker_receive(worker)) {
            lock_acquire(&loop->lock);
            ll_loop_stop_locked(loop);
            lock_release(&loop->lock);
            return;
        }
        ll_worker_handle(worker);
        /* Unlocked: only this thread writes it while it is not parked. */
    } while ((worker->source != NULL && !fuse_session_exited(loop->ll->session)) ||
             ll_loop_continue(loop, worker));
}

static void *ll_worker_main(void *context)
{
    struct ll_worker *worker = context;
    struct ll_loop *loop = worker->loop;
    void (*ended)(void *) = NULL;
    sigset_t signals;

    (void)pthread_setname_np(pthread_self(), "varve-request");
    (void)sigemptyset(&signals);
    (void)sigaddset(&signals, WAKE_SIGNAL);
    (void)pthread_sigmask(SIG_UNBLOCK, &signals, NULL);
    current_worker = worker;
    ll_worker_bind(worker, -1);
    lock_acquire(&loop->lock);
    worker->thread = pthread_self();
    worker->thread_id = (int)gettid();
    worker->source->leader = worker;
    loop->threads_started++;
    if (loop->threads > loop->threads_peak)
        loop->threads_peak = loop->threads;
    lock_release(&loop->lock);

    ll_worker_serve(worker);

    lock_acquire(&loop->lock);
    if (worker->source != NULL) {
        worker->source->leader = NULL;
        worker->source->has_leader = false;
    }
    if (loop->stopping && !loop->ended_called) {
        loop->ended_called = true;
        ended = loop->ended;
    }
    lock_release(&loop->lock);
    if (ended != NULL)
        ended(loop->ended_context);

    lock_acquire(&loop->lock);
    worker->next = loop->finished;
    loop->finished = worker;
    loop->threads--;
    if (loop->threads == 0)
        (void)pthread_cond_broadcast(&loop->idle);
    lock_release(&loop->lock);
    return NULL;
}

/* ---- life ---- */

/* Its only effect is that the read of the device returns. */
static void ll_loop_on_signal(int number)
{
    (void)number;
}

int ll_loop_new(struct ll *ll, uint32_t threads_max, struct ll_rings *rings,
                struct ll_loop **ret_loop)
{
    struct ll_loop *loop = calloc(1, sizeof *loop);

    if (loop == NULL)
        return -ENOMEM;
    loop->ll = ll;
    loop->threads_max = threads_max;
    loop->source_count = 1;
    atomic_init(&loop->followed_cpu, -1);
    loop->rings_offered = rings;
    loop->sources = calloc(1 + (rings != NULL ? ll_rings_count(rings) : 0), sizeof *loop->sources);
    if (loop->sources == NULL) {
        free(loop);
        return -ENOMEM;
    }
    lock_init(&loop->lock, LOCK_RANK_FUSE_LOOP);
    lock_condition_init(&loop->idle);
    *ret_loop = loop;
    return 0;
}

void ll_loop_free(struct ll_loop *loop)
{
    if (loop == NULL)
        return;
    invariant(loop->threads == 0);
    ll_loop_reap(loop);
    (void)pthread_cond_destroy(&loop->idle);
    lock_destroy(&loop->lock);
    free(loop->sources);
    free(loop);
}

int ll_loop_start(struct ll_loop *loop, void (*ended)(void *context), void *context)
{
    struct sigaction action = {.sa_handler = ll_loop_on_signal}; /* no SA_RESTART */
    int error;

    if (sigaction(WAKE_SIGNAL, &action, NULL) != 0)
        return -errno;
    loop->ended = ended;
    loop->ended_context = context;
    loop->threads = 1;
    loop->sources[DEVICE].has_leader = true;
    error = ll_yield_start(loop, &loop->yield);
    if (error < 0)
        log_info("threads that read requests do not follow their callers: %s", error_text(error));
    error = ll_loop_start_leader(loop, &loop->sources[DEVICE]);
    if (error < 0) {
        loop->threads = 0;
        loop->sources[DEVICE].has_leader = false;
    }
    return error;
}

static int ll_loop_start_ring(struct ll_loop *loop, struct ll_source *source)
{
    lock_acquire(&loop->lock);
    source->has_leader = true;
    loop->source_count++;
    loop->threads++;
    lock_release(&loop->lock);
    return ll_loop_start_promised(loop, source);
}

int ll_loop_start_rings(struct ll_loop *loop)
{
    uint32_t count = ll_rings_count(loop->rings_offered);
    int device = fuse_session_fd(loop->ll->session), flags = fcntl(device, F_GETFL), error = 0;

    if (flags < 0 || fcntl(device, F_SETFL, flags | O_NONBLOCK) != 0)
        return -errno;
    lock_acquire(&loop->lock);
    loop->rings = loop->rings_offered;
    lock_release(&loop->lock);
    for (uint32_t i = 1; error == 0 && i <= count; i++)
        error = ll_loop_start_ring(loop, &loop->sources[i]);
    return error;
}

void ll_loop_stop(struct ll_loop *loop)
{
    fuse_session_exit(loop->ll->session);
    lock_acquire(&loop->lock);
    ll_loop_stop_locked(loop);
    while (loop->threads > 0) {
        /* Repeated, because it may come just before the read begins. */
        for (uint32_t i = 0; i < loop->source_count; i++) {
            struct ll_worker *leader = loop->sources[i].leader;

            if (leader != NULL && atomic_load(&leader->reading))
                (void)pthread_kill(leader->thread, WAKE_SIGNAL);
        }
        (void)lock_wait_until(&loop->lock, &loop->idle, clock_monotonic_ns() + STOP_INTERVAL_NS);
    }
    lock_release(&loop->lock);
    ll_loop_reap(loop);
    ll_yield_stop(loop->yield);
    loop->yield = NULL;
}

void ll_loop_get_statistics(struct ll_loop *loop, struct ll_loop_statistics *ret)
{
    lock_acquire(&loop->lock);
    *ret = (struct ll_loop_statistics){
        .requests = atomic_load_explicit(&loop->requests, memory_order_relaxed),
        .hand_overs = atomic_load_explicit(&loop->hand_overs, memory_order_relaxed),
        .threads_started = loop->threads_started,
        .threads = loop->threads,
        .threads_peak = loop->threads_peak,
        .parked = loop->parked_count,
        .yields = loop->yields,
        .leaderless = ll_loop_leaderless(loop) != NULL,
    };
    lock_release(&loop->lock);
}
