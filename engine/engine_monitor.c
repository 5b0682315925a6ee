/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine_monitor.c - one thread that looks, and touches nothing
 *
 * It lives longer than all that does I/O for the engine, so that a disk which hangs while the store
 * is opened or closed is named as well. Alerts ask parts of the engine, so these are looked at only
 * in between. It never waits for a lock that is held across I/O.
 */
#include <errno.h>
#include <stdlib.h>

#include "engine/engine_internal.h"

#define LOOK_NS_MIN UINT64_C(5000000)
#define LOOKS       8 /* within the deadline */

struct engine_monitor {
    struct engine *engine;
    struct io_watch *watch; /* NULL: there is no deadline */
    struct engine_alerts *alerts;
    uint64_t look_ns, second_ns;
    pthread_t thread;
    bool started;
    struct lock lock; /* LOCK_RANK_LEAF: */
    pthread_cond_t changed;
    bool stopping;
    bool alerts_wanted, alerts_running;
};

void engine_monitor_lock(struct engine_monitor *monitor)
{
    lock_acquire(&monitor->lock);
}

void engine_monitor_unlock(struct engine_monitor *monitor)
{
    lock_release(&monitor->lock);
}

struct engine_alerts *engine_monitor_alerts(struct engine_monitor *monitor)
{
    return monitor->alerts;
}

/* The lock is held before and after. */
static void look_at_alerts_locked(struct engine_monitor *monitor, unsigned hanging, uint64_t now_ns)
{
    char text[IO_WATCH_TEXT_SIZE] = "";

    monitor->alerts_running = true;
    lock_release(&monitor->lock);
    if (monitor->watch != NULL)
        io_watch_describe(monitor->watch, now_ns, text);
    engine_alerts_look(monitor->alerts, hanging, text);
    lock_acquire(&monitor->lock);
    monitor->alerts_running = false;
    pthread_cond_broadcast(&monitor->changed);
}

static void *monitor_main(void *context)
{
    struct engine_monitor *monitor = context;
    uint64_t alerts_due_ns = 0;

    lock_acquire(&monitor->lock);
    while (!monitor->stopping) {
        uint64_t now_ns = clock_monotonic_ns();
        unsigned hanging = 0;

        if (monitor->watch != NULL) {
            lock_release(&monitor->lock);
            hanging = io_watch_look(monitor->watch, now_ns);
            lock_acquire(&monitor->lock);
        }
        if (monitor->alerts_wanted && now_ns >= alerts_due_ns) {
            look_at_alerts_locked(monitor, hanging, now_ns);
            alerts_due_ns = now_ns + monitor->second_ns;
        }
        if (!monitor->stopping)
            lock_wait_until(&monitor->lock, &monitor->changed, now_ns + monitor->look_ns);
    }
    lock_release(&monitor->lock);
    /* What was said to hang has ended since. */
    if (monitor->watch != NULL)
        (void)io_watch_look(monitor->watch, clock_monotonic_ns());
    return NULL;
}

static void monitor_free(struct engine_monitor *monitor)
{
    lock_destroy(&monitor->lock);
    pthread_cond_destroy(&monitor->changed);
    engine_alerts_free(monitor->alerts);
    io_watch_free(monitor->watch);
    free(monitor);
}

int engine_monitor_start(struct engine *engine)
{
    struct engine_monitor *monitor = calloc(1, sizeof *monitor);
    uint64_t deadline_ns = (uint64_t)engine->options.io_deadline_ms * 1000000;
    int result = 0;

    if (monitor == NULL)
        return -ENOMEM;
    monitor->engine = engine;
    monitor->second_ns = (uint64_t)engine->options.alert_second_ms * 1000000;
    monitor->look_ns = monitor->second_ns;
    if (deadline_ns > 0 && deadline_ns / LOOKS < monitor->look_ns)
        monitor->look_ns = deadline_ns / LOOKS;
    if (monitor->look_ns < LOOK_NS_MIN)
        monitor->look_ns = LOOK_NS_MIN;
    lock_init(&monitor->lock, LOCK_RANK_LEAF);
    lock_condition_init(&monitor->changed);
    if (deadline_ns > 0)
        monitor->watch = io_watch_new(engine->io, deadline_ns);
    monitor->alerts = engine_alerts_new(engine);
    if ((deadline_ns > 0 && monitor->watch == NULL) || monitor->alerts == NULL)
        result = -ENOMEM;
    if (result == 0)
        result = engine_start_thread(&monitor->thread, &monitor->started, "varve-monitor",
                                     monitor_main, monitor);
    if (result < 0) {
        monitor_free(monitor);
        return result;
    }
    engine->monitor = monitor;
    return 0;
}

void engine_monitor_begin_alerts(struct engine_monitor *monitor)
{
    lock_acquire(&monitor->lock);
    monitor->alerts_wanted = true;
    pthread_cond_broadcast(&monitor->changed);
    lock_release(&monitor->lock);
}

void engine_monitor_end_alerts(struct engine_monitor *monitor)
{
    if (monitor == NULL)
        return;
    lock_acquire(&monitor->lock);
    monitor->alerts_wanted = false;
    while (monitor->alerts_running)
        lock_wait(&monitor->lock, &monitor->changed);
    lock_release(&monitor->lock);
}

void engine_monitor_stop(struct engine_monitor *monitor)
{
    if (monitor == NULL)
        return;
    lock_acquire(&monitor->lock);
    monitor->stopping = true;
    pthread_cond_broadcast(&monitor->changed);
    lock_release(&monitor->lock);
    pthread_join(monitor->thread, NULL);
    monitor_free(monitor);
}
