/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ll_loop.c - leader and followers
 *
 * State, all under the lock:
 *   leading    of a worker: it reads the next request, or is inside one it has not waited in
 *   has_leader one worker leads, or one is being started that will; false only while every thread
 * is busy and none more may be started: the first to finish then leads A worker gives `leading` up
 * only by itself (the hook runs in its own thread) and gets it either by itself or while parked,
 * from the one that gives it up.
 *
 * Stopping: `stopping` and the session's exit flag are set first. A reader that returns from the
 * device after that drops what it read (its caller gets an error when the connection goes), so a
 * signal that was meant for the device can never interrupt the handling of a request.
 */
#include "fuse/ll_internal.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

/* Parked threads beyond this many end after being idle this long. */
#define PARKED_KEPT       2
#define PARKED_IDLE_NS    UINT64_C(10000000000)
#define STOP_INTERVAL_NS  5000000
#define WAKE_SIGNAL       SIGUSR1
#define THREAD_STACK_SIZE (1024 * 1024)

struct ll_worker {
    struct ll_loop *loop;
    struct ll_worker *next; /* in parked or finished */
    pthread_t thread;
    pthread_cond_t wake;
    bool leading;
    atomic_bool reading; /* inside the read of the device */
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
    struct ll_worker *leader;
    uint32_t threads, threads_peak, parked_count;
    uint64_t threads_started;
    bool has_leader, stopping, ended_called;

    atomic_uint_fast64_t requests, hand_overs;
};

static _Thread_local struct ll_worker *current_worker;

/* ---- buffers ---- */

static void *ll_allocate_pages(size_t size)
{
    long page_size = sysconf(_SC_PAGESIZE);
    void *memory;

    return posix_memalign(&memory, (size_t)page_size, size) == 0 ? memory : NULL;
}

const void *ll_loop_request(size_t *ret_size)
{
    invariant(current_worker != NULL);
    *ret_size = current_worker->request.size;
    return current_worker->request.mem;
}

void *ll_loop_reply_buffer(size_t size)
{
    struct ll_worker *worker = current_worker;
    void *memory;

    invariant(worker != NULL);
    if (worker->reply_size >= size)
        return worker->reply;
    if (size < LL_REQUEST_DATA_MAX)
        size = LL_REQUEST_DATA_MAX;
    memory = ll_allocate_pages(size);
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
    (void)pthread_cond_destroy(&worker->wake);
    free(worker->request.mem);
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

/* Start a thread that leads; it is counted already. */
static int ll_loop_start_leader(struct ll_loop *loop)
{
    struct ll_worker *worker = calloc(1, sizeof *worker);
    pthread_attr_t attributes;
    pthread_t thread; /* the worker notes its own name: it may run before this is written */
    int error;

    if (worker == NULL)
        return -ENOMEM;
    worker->loop = loop;
    worker->leading = true;
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

static void ll_loop_appoint(struct ll_loop *loop, struct ll_worker *worker)
{
    worker->leading = true;
    loop->leader = worker;
    loop->has_leader = true;
}

static bool ll_loop_appoint_parked(struct ll_loop *loop)
{
    struct ll_worker *worker = loop->parked;

    if (worker == NULL)
        return false;
    loop->parked = worker->next;
    loop->parked_count--;
    ll_loop_appoint(loop, worker);
    (void)pthread_cond_signal(&worker->wake);
    return true;
}

/* The hook: this thread is about to wait in a request. */
static void ll_loop_hand_over(void *context)
{
    struct ll_worker *worker = context;
    struct ll_loop *loop = worker->loop;
    bool start = false;
    int error;

    atomic_fetch_add_explicit(&loop->hand_overs, 1, memory_order_relaxed);
    lock_acquire(&loop->lock);
    invariant(worker->leading);
    worker->leading = false;
    loop->leader = NULL;
    loop->has_leader = false;
    if (!loop->stopping && !ll_loop_appoint_parked(loop) && loop->threads < loop->threads_max) {
        start = true;
        loop->has_leader = true;
        loop->threads++;
    }
    lock_release(&loop->lock);
    if (!start)
        return;

    ll_loop_reap(loop);
    error = ll_loop_start_leader(loop);
    if (error == 0)
        return;
    log_warning("cannot start another thread: %s", error_text(error));
    lock_acquire(&loop->lock);
    loop->threads--;
    loop->has_leader = false;
    (void)ll_loop_appoint_parked(loop); /* one may have finished meanwhile */
    lock_release(&loop->lock);
}

static void ll_loop_unpark(struct ll_loop *loop, struct ll_worker *worker)
{
    struct ll_worker **link = &loop->parked;

    while (*link != worker)
        link = &(*link)->next;
    *link = worker->next;
    loop->parked_count--;
}

/* Wait to be made the leader; false when the thread should end. */
static bool ll_loop_park(struct ll_loop *loop, struct ll_worker *worker)
{
    bool in_time = true;

    worker->next = loop->parked;
    loop->parked = worker;
    loop->parked_count++;
    while (!worker->leading && !loop->stopping) {
        if (!in_time && loop->parked_count > PARKED_KEPT)
            break;
        in_time =
            lock_wait_until(&loop->lock, &worker->wake, clock_monotonic_ns() + PARKED_IDLE_NS);
    }
    if (!worker->leading)
        ll_loop_unpark(loop, worker);
    return worker->leading;
}

/* After a request: go on leading, or wait for it. False when the thread should end. */
static bool ll_loop_continue(struct ll_loop *loop, struct ll_worker *worker)
{
    bool go_on;

    lock_acquire(&loop->lock);
    go_on = !loop->stopping;
    if (go_on && !worker->leading) {
        if (loop->has_leader)
            go_on = ll_loop_park(loop, worker);
        else
            ll_loop_appoint(loop, worker);
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

/* Read one request: false when there will be none. */
static bool ll_worker_receive(struct ll_worker *worker)
{
    struct fuse_session *session = worker->loop->ll->session;
    int result;

    for (;;) {
        atomic_store(&worker->reading, true);
        result = fuse_session_receive_buf(session, &worker->request);
        atomic_store(&worker->reading, false);
        if (result > 0)
            return true;
        if (result == 0 || fuse_session_exited(session))
            return false;
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
    ll_opcode_count(&ll->opcodes, worker->request.mem, worker->request.size);
    blocking_set_hook(ll_loop_hand_over, worker);
    if (!ll_wire_handle(ll, worker->request.mem, worker->request.size))
        fuse_session_process_buf(ll->session, &worker->request);
    blocking_set_hook(NULL, NULL);
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
    } while ((worker->leading && !fuse_session_exited(loop->ll->session)) ||
             ll_loop_continue(loop, worker));
}

static void *ll_worker_main(void *context)
{
    struct ll_worker *worker = context;
    struct ll_loop *loop = worker->loop;
    void (*ended)(void *) = NULL;
    sigset_t signals;

    (void)sigemptyset(&signals);
    (void)sigaddset(&signals, WAKE_SIGNAL);
    (void)pthread_sigmask(SIG_UNBLOCK, &signals, NULL);
    current_worker = worker;
    lock_acquire(&loop->lock);
    worker->thread = pthread_self();
    loop->leader = worker;
    loop->threads_started++;
    if (loop->threads > loop->threads_peak)
        loop->threads_peak = loop->threads;
    lock_release(&loop->lock);

    ll_worker_serve(worker);

    lock_acquire(&loop->lock);
    if (worker->leading) {
        loop->leader = NULL;
        loop->has_leader = false;
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

int ll_loop_new(struct ll *ll, uint32_t threads_max, struct ll_loop **ret_loop)
{
    struct ll_loop *loop = calloc(1, sizeof *loop);

    if (loop == NULL)
        return -ENOMEM;
    loop->ll = ll;
    loop->threads_max = threads_max;
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
    loop->has_leader = true;
    error = ll_loop_start_leader(loop);
    if (error < 0) {
        loop->threads = 0;
        loop->has_leader = false;
    }
    return error;
}

void ll_loop_stop(struct ll_loop *loop)
{
    fuse_session_exit(loop->ll->session);
    lock_acquire(&loop->lock);
    ll_loop_stop_locked(loop);
    while (loop->threads > 0) {
        /* Repeated, because it may come just before the read begins. */
        if (loop->leader != NULL && atomic_load(&loop->leader->reading))
            (void)pthread_kill(loop->leader->thread, WAKE_SIGNAL);
        (void)lock_wait_until(&loop->lock, &loop->idle, clock_monotonic_ns() + STOP_INTERVAL_NS);
    }
    lock_release(&loop->lock);
    ll_loop_reap(loop);
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
        .leaderless = !loop->has_leader,
    };
    lock_release(&loop->lock);
}
