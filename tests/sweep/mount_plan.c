/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mount_plan.c - which call fails in a daemon that tests/sweep/mount has started
 *
 * The plan lies in a file that both map: words of 64 bits, so that a script can read and write them
 * (tests/sweep/mount has the same list). VARVE_SWEEP names it; without it nothing fails. Beside it the
 * daemon writes FILE.sites, a line for each place. Once armed, a call fails when the place and the
 * number of its call are those of the plan; "for ever" all later calls of its class as well.
 *
 * Threads: any.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/sweep/site.h"

enum plan_class { CLASS_MEMORY, CLASS_DESCRIPTORS, CLASS_THREADS, CLASS_NONE };

struct plan_record {
    atomic_uint_fast64_t hits, failed_once, failed_for_ever, reached;
};

struct plan {
    atomic_uint_fast64_t armed, struck, class_, for_ever, site, hit, began, count;
    struct plan_record records[SWEEP_SITES_MAX];
};

static struct plan *plan;

static enum plan_class class_of(enum sweep_kind kind)
{
    switch (kind) {
    case SWEEP_MEMORY:
        return CLASS_MEMORY;
    case SWEEP_OPEN:
        return CLASS_DESCRIPTORS;
    case SWEEP_THREAD:
        return CLASS_THREADS;
    default:
        return CLASS_NONE;
    }
}

static int error_of(enum plan_class class_)
{
    static const int errors[] = {-ENOMEM, -EMFILE, -EAGAIN, 0};

    return errors[class_];
}

static void list_sites(const char *path, unsigned count)
{
    char name[4096];
    FILE *file;

    snprintf(name, sizeof name, "%s.sites", path);
    file = fopen(name, "we");
    if (file == NULL)
        abort();
    for (unsigned i = 0; i < count; i++) {
        const struct sweep_site *site = sweep_site_at(i);

        fprintf(file, "%u %d %s:%d %s %s\n", i, (int)class_of(site->kind), site->file, site->line,
                site->function, site->call);
    }
    if (fclose(file) != 0)
        abort();
}

__attribute__((constructor)) static void plan_begin(void)
{
    const char *path = getenv("VARVE_SWEEP");
    unsigned count = sweep_sites_number();
    int descriptor;
    void *memory;

    if (path == NULL)
        return;
    list_sites(path, count);
    descriptor = open(path, O_RDWR | O_CLOEXEC);
    if (descriptor < 0 || ftruncate(descriptor, sizeof *plan) != 0)
        abort();
    memory = mmap(NULL, sizeof *plan, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
    if (memory == MAP_FAILED)
        abort();
    (void)close(descriptor);
    plan = memory;
    plan->count = count;
}

bool sweep_refuses_links(void)
{
    return false;
}

int sweep_strike(const struct sweep_site *site, bool creates)
{
    enum plan_class class_ = class_of(site->kind);
    bool is_it;

    (void)creates;
    if (plan == NULL || !plan->armed)
        return 0;
    plan->records[site->index].reached = 1;
    is_it = atomic_fetch_add(&plan->records[site->index].hits, 1) + 1 == plan->hit &&
            plan->site == site->index;
    if (class_ != plan->class_ || (!is_it && !(plan->for_ever && plan->began)))
        return 0;
    if (is_it)
        plan->began = 1;
    plan->struck = 1;
    if (plan->for_ever)
        plan->records[site->index].failed_for_ever = 1;
    else
        plan->records[site->index].failed_once = 1;
    return error_of(class_);
}
