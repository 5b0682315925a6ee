/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ll_yield.c - watch the threads that read requests
 */
#include "fuse/ll_yield.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/base/lock.h"
#include "engine/base/log.h"
#include "fuse/ll_loop.h"

/* Between looks where nobody can be followed: the CPUs that we may use change seldom. */
#define POINTLESS_INTERVAL_NS UINT64_C(100000000)

/* ---- the decision ---- */

static void state_end(struct ll_yield_state *state, uint64_t resume_ns)
{
    state->yielding = false;
    state->resume_ns = resume_ns;
}

bool ll_yield_decide(struct ll_yield_state *state, const struct ll_yield_sample *sample)
{
    bool busy = sample->requests >= LL_YIELD_REQUESTS_A_LOOK && sample->worthwhile;

    if (!state->yielding) {
        state->yielding = busy && sample->now_ns >= state->resume_ns;
        state->since_ns = sample->now_ns;
        return state->yielding;
    }
    if (sample->now_ns - state->since_ns >= LL_YIELD_SETTLED_NS ||
        state->backoff_ns < LL_YIELD_BACKOFF_MIN_NS)
        state->backoff_ns = LL_YIELD_BACKOFF_MIN_NS;
    if (sample->starved) {
        state_end(state, sample->now_ns + state->backoff_ns);
        state->backoff_ns *= 2;
        if (state->backoff_ns > LL_YIELD_BACKOFF_MAX_NS)
            state->backoff_ns = LL_YIELD_BACKOFF_MAX_NS;
    } else if (!busy) {
        state_end(state, sample->now_ns);
    }
    return state->yielding;
}

/* ---- what the kernel counts of a thread ---- */

struct times {
    int thread_id; /* 0: there is none */
    uint64_t ran_ns, waited_ns;
};

/* False: the kernel does not say, or the thread is gone. */
static bool times_read(int thread_id, struct times *ret_times)
{
    char path[64];
    FILE *file;
    int found;

    (void)snprintf(path, sizeof path, "/proc/self/task/%d/schedstat", thread_id);
    file = fopen(path, "re");
    if (file == NULL)
        return false;
    found = fscanf(file, "%" SCNu64 " %" SCNu64, &ret_times->ran_ns, &ret_times->waited_ns);
    (void)fclose(file);
    ret_times->thread_id = thread_id;
    return found == 2;
}

/* The CPU where a thread of any process runs or ran last; -1: the kernel does not say. */
static int processor_of(int thread_id)
{
    char path[32], text[1024];
    const char *at;
    size_t size;
    FILE *file;

    (void)snprintf(path, sizeof path, "/proc/%d/stat", thread_id);
    file = thread_id > 0 ? fopen(path, "re") : NULL;
    if (file == NULL)
        return -1;
    size = fread(text, 1, sizeof text - 1, file);
    (void)fclose(file);
    text[size] = '\0';
    /* proc_pid_stat(5): after the name, which may hold anything, fields 3 to 39 */
    at = strrchr(text, ')');
    for (int field = 2; at != NULL && field < 39; field++)
        at = strchr(at + 1, ' ');
    return at != NULL ? atoi(at) : -1;
}

/* ---- the thread ---- */

struct ll_yield {
    struct ll_loop *loop;
    pthread_t thread;
    atomic_bool asleep;
    atomic_uint noticed; /* while it is asleep */
    uint32_t readers;
    struct times *before; /* of each reader, at the last look */
    uint64_t looked_ns;   /* the last look, and what was counted until then: */
    uint64_t requests, hand_overs, caller_changes;
    bool is_pointless; /* nobody can be followed */

    struct lock lock; /* LOCK_RANK_LEAF */
    pthread_cond_t wake;
    bool stopping;
};

/* One reader: has it been kept from running since the last look? Adds the time that it ran. */
static bool yield_look_at(struct ll_yield *yield, uint32_t index, uint64_t elapsed_ns,
                          uint64_t *ran_ns)
{
    struct times now = {.thread_id = ll_loop_reader_thread(yield->loop, index)};
    struct times before = yield->before[index];

    if (now.thread_id != 0 && !times_read(now.thread_id, &now))
        now.thread_id = 0;
    yield->before[index] = now;
    if (now.thread_id == 0 || before.thread_id != now.thread_id)
        return false;
    *ran_ns += now.ran_ns - before.ran_ns;
    return now.waited_ns - before.waited_ns > elapsed_ns / 2 &&
           now.ran_ns - before.ran_ns < elapsed_ns / 50;
}

/* On one CPU there is nobody to move to, and nobody is sent away. */
static bool yield_has_choice(void)
{
    cpu_set_t cpus;

    return sched_getaffinity(getpid(), sizeof cpus, &cpus) == 0 && CPU_COUNT(&cpus) > 1;
}

/* What happened since the last look; who, if one alone, asked for it (0: nobody to follow). */
static void yield_look(struct ll_yield *yield, struct ll_yield_sample *ret_sample, int *ret_caller)
{
    uint64_t now_ns = clock_monotonic_ns(), elapsed_ns = now_ns - yield->looked_ns, ran_ns = 0;
    uint64_t requests = ll_loop_requests(yield->loop), changes;
    uint64_t hand_overs = ll_loop_hand_overs(yield->loop);
    int caller = ll_loop_caller(yield->loop, &changes);
    bool rings = ll_loop_uses_rings(yield->loop), waiting = false;

    yield->is_pointless = !rings && !yield_has_choice();
    for (uint32_t i = 0; i < yield->readers && !yield->is_pointless; i++)
        waiting = yield_look_at(yield, i, elapsed_ns, &ran_ns) || waiting;
    *ret_sample = (struct ll_yield_sample){
        .now_ns = now_ns,
        .elapsed_ns = elapsed_ns,
        .requests = requests - yield->requests,
        .starved = waiting && (rings || ll_loop_has_request(yield->loop)),
        .worthwhile = !yield->is_pointless &&
                      hand_overs - yield->hand_overs <=
                          (requests - yield->requests) / LL_YIELD_REQUESTS_A_HAND_OVER,
    };
    if (!rings && ret_sample->worthwhile)
        ret_sample->worthwhile = changes - yield->caller_changes <= ret_sample->requests / 8 &&
                                 ran_ns <= ret_sample->requests * LL_YIELD_REQUEST_RAN_NS &&
                                 processor_of(caller) >= 0;
    *ret_caller = rings ? 0 : caller;
    yield->looked_ns = now_ns;
    yield->requests = requests;
    yield->hand_overs = hand_overs;
    yield->caller_changes = changes;
}

/* Sleep until requests come one after another; false when the thread should end. */
static bool yield_sleep(struct ll_yield *yield)
{
    bool go_on;

    lock_acquire(&yield->lock);
    atomic_store(&yield->noticed, 0);
    atomic_store(&yield->asleep, true);
    while (!yield->stopping && atomic_load(&yield->asleep))
        lock_wait(&yield->lock, &yield->wake);
    go_on = !yield->stopping;
    lock_release(&yield->lock);
    return go_on;
}

void ll_yield_notice(struct ll_yield *yield)
{
    if (yield == NULL || !atomic_load_explicit(&yield->asleep, memory_order_relaxed))
        return;
    if (atomic_fetch_add(&yield->noticed, 1) < LL_YIELD_REQUESTS_A_LOOK)
        return;
    lock_acquire(&yield->lock);
    atomic_store(&yield->asleep, false);
    (void)pthread_cond_signal(&yield->wake);
    lock_release(&yield->lock);
}

/* Wait for the next look; false when the thread should end. */
static bool yield_wait(struct ll_yield *yield, uint64_t until_ns)
{
    bool go_on;

    lock_acquire(&yield->lock);
    while (!yield->stopping && lock_wait_until(&yield->lock, &yield->wake, until_ns))
        continue;
    go_on = !yield->stopping;
    lock_release(&yield->lock);
    return go_on;
}

/* Until few requests come. */
static void yield_watch(struct ll_yield *yield, struct ll_yield_state *state)
{
    struct ll_yield_sample sample;
    bool yielding;
    int caller;

    yield->looked_ns = clock_monotonic_ns() - LL_YIELD_INTERVAL_NS;
    yield_look(yield, &sample, &caller);
    do {
        uint64_t interval_ns = yield->is_pointless ? POINTLESS_INTERVAL_NS : LL_YIELD_INTERVAL_NS;

        if (!yield_wait(yield, yield->looked_ns + interval_ns))
            return;
        yield_look(yield, &sample, &caller);
        yielding = ll_yield_decide(state, &sample);
        ll_loop_set_yielding(yield->loop, yielding,
                             yielding && caller > 0 ? processor_of(caller) : -1);
    } while (yielding || sample.requests >= LL_YIELD_REQUESTS_A_LOOK);
}

static void *yield_main(void *context)
{
    struct ll_yield *yield = context;
    struct ll_yield_state state = {0};

    (void)pthread_setname_np(pthread_self(), "varve-watcher");
    while (yield_sleep(yield))
        yield_watch(yield, &state);
    ll_loop_set_yielding(yield->loop, false, -1);
    return NULL;
}

/* ---- life ---- */

static void *try_return(void *context)
{
    const struct sched_param parameter = {0};
    int *result = context;

    *result = 0;
    if (sched_setscheduler(0, SCHED_IDLE, &parameter) != 0 ||
        sched_setscheduler(0, SCHED_OTHER, &parameter) != 0)
        *result = -errno;
    return NULL;
}

/* May a thread come back from SCHED_IDLE? Tried by one that ends then. */
static int yield_possible(void)
{
    struct times times;
    pthread_t thread;
    int error, result = 0;

    if (!times_read((int)gettid(), &times))
        return -ENOSYS;
    error = pthread_create(&thread, NULL, try_return, &result);
    if (error != 0)
        return -error;
    (void)pthread_join(thread, NULL);
    return result;
}

static void yield_free(struct ll_yield *yield)
{
    (void)pthread_cond_destroy(&yield->wake);
    lock_destroy(&yield->lock);
    free(yield->before);
    free(yield);
}

int ll_yield_start(struct ll_loop *loop, struct ll_yield **ret_yield)
{
    struct ll_yield *yield;
    int error = yield_possible();

    if (error < 0)
        return error;
    yield = calloc(1, sizeof *yield);
    if (yield == NULL)
        return -ENOMEM;
    yield->loop = loop;
    yield->readers = ll_loop_readers_max(loop);
    lock_init(&yield->lock, LOCK_RANK_LEAF);
    lock_condition_init(&yield->wake);
    yield->before = calloc(yield->readers, sizeof *yield->before);
    error =
        yield->before == NULL ? ENOMEM : pthread_create(&yield->thread, NULL, yield_main, yield);
    if (error != 0) {
        yield_free(yield);
        return -error;
    }
    *ret_yield = yield;
    return 0;
}

void ll_yield_stop(struct ll_yield *yield)
{
    if (yield == NULL)
        return;
    lock_acquire(&yield->lock);
    yield->stopping = true;
    (void)pthread_cond_signal(&yield->wake);
    lock_release(&yield->lock);
    (void)pthread_join(yield->thread, NULL);
    yield_free(yield);
}
