/* SPDX-License-Identifier: Apache-2.0 */
/*
 * crew.c - one job at a time; parts are taken by counting up
 */
#include "engine/base/crew.h"

#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdlib.h>

#include "engine/base/lock.h"

struct crew {
    struct lock lock;
    pthread_cond_t wanted, done;
    bool is_taken; /* somebody runs a job, or looks whether its helpers have left it */
    bool must_stop;
    crew_part *run_part;
    void *context;
    size_t parts, next, running;
    unsigned helpers;
    pthread_t threads[];
};

/* Parts until none is left. Lock held, released while a part runs. */
static void work_locked(struct crew *crew)
{
    while (crew->next < crew->parts) {
        size_t part = crew->next++;

        crew->running++;
        lock_release(&crew->lock);
        crew->run_part(crew->context, part);
        lock_acquire(&crew->lock);
        crew->running--;
    }
}

static void *crew_main(void *context)
{
    struct crew *crew = context;

    (void)pthread_setname_np(pthread_self(), "varve-crew");
    lock_acquire(&crew->lock);
    while (!crew->must_stop) {
        if (crew->next >= crew->parts) {
            lock_wait(&crew->lock, &crew->wanted);
            continue;
        }
        work_locked(crew);
        if (crew->running == 0)
            pthread_cond_signal(&crew->done);
    }
    lock_release(&crew->lock);
    return NULL;
}

static unsigned other_cpus(void)
{
    cpu_set_t set;

    if (sched_getaffinity(0, sizeof set, &set) != 0 || CPU_COUNT(&set) < 2)
        return 0;
    return (unsigned)CPU_COUNT(&set) - 1;
}

struct crew *crew_open(unsigned helpers_max)
{
    unsigned wanted = other_cpus();
    struct crew *crew;

    if (wanted > helpers_max)
        wanted = helpers_max;
    if (wanted == 0)
        return NULL;
    crew = calloc(1, sizeof *crew + wanted * sizeof crew->threads[0]);
    if (crew == NULL)
        return NULL;
    lock_init(&crew->lock, LOCK_RANK_LEAF);
    lock_condition_init(&crew->wanted);
    lock_condition_init(&crew->done);
    while (crew->helpers < wanted &&
           pthread_create(&crew->threads[crew->helpers], NULL, crew_main, crew) == 0)
        crew->helpers++;
    if (crew->helpers > 0)
        return crew;
    crew_close(crew);
    return NULL;
}

void crew_close(struct crew *crew)
{
    if (crew == NULL)
        return;
    lock_acquire(&crew->lock);
    crew->must_stop = true;
    pthread_cond_broadcast(&crew->wanted);
    lock_release(&crew->lock);
    for (unsigned i = 0; i < crew->helpers; i++)
        pthread_join(crew->threads[i], NULL);
    pthread_cond_destroy(&crew->done);
    pthread_cond_destroy(&crew->wanted);
    lock_destroy(&crew->lock);
    free(crew);
}

unsigned crew_helpers(const struct crew *crew)
{
    return crew != NULL ? crew->helpers : 0;
}

static bool crew_take(struct crew *crew, crew_part *run_part, void *context, size_t parts)
{
    bool taken;

    lock_acquire(&crew->lock);
    taken = !crew->is_taken;
    if (taken) {
        crew->is_taken = true;
        crew->run_part = run_part;
        crew->context = context;
        crew->next = 0;
        crew->parts = parts;
        for (size_t i = 1; i < parts && i <= crew->helpers; i++)
            pthread_cond_signal(&crew->wanted);
    }
    lock_release(&crew->lock);
    return taken;
}

void crew_run(struct crew *crew, crew_part *run_part, void *context, size_t parts)
{
    if (crew == NULL || parts < 2 || !crew_take(crew, run_part, context, parts)) {
        for (size_t part = 0; part < parts; part++)
            run_part(context, part);
        return;
    }
    lock_acquire(&crew->lock);
    work_locked(crew);
    while (crew->running > 0)
        lock_wait(&crew->lock, &crew->done);
    crew->is_taken = false;
    lock_release(&crew->lock);
}
