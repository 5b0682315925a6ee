/* SPDX-License-Identifier: Apache-2.0 */
/*
 * plan.c - places, and whether a call fails
 */
#include "tests/sweep/plan.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

struct shared {
    struct plan plan;
    atomic_bool armed, struck, for_ever_began;
    struct plan_record records[SWEEP_SITES_MAX];
};

static struct shared *shared;
static size_t site_count;
static _Thread_local unsigned quiet;
static atomic_bool links_refused;

/* ---- places ---- */

void plan_start(void)
{
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED)
        abort();
    site_count = sweep_sites_number();
}

size_t plan_count(void)
{
    return site_count;
}

struct plan_record *plan_record(unsigned index)
{
    return &shared->records[index];
}

bool plan_is_memory(unsigned index)
{
    return sweep_site_at(index)->kind == SWEEP_MEMORY;
}

bool plan_applies(unsigned index, enum plan_class class_)
{
    enum sweep_kind kind = sweep_site_at(index)->kind;

    switch (class_) {
    case PLAN_MEMORY:
        return kind == SWEEP_MEMORY;
    case PLAN_THREADS:
        return kind == SWEEP_THREAD;
    case PLAN_DESCRIPTORS:
        return kind == SWEEP_OPEN;
    case PLAN_SPACE:
        return kind == SWEEP_GROW || (kind == SWEEP_OPEN && shared->records[index].creates);
    default:
        return kind != SWEEP_MEMORY && kind != SWEEP_THREAD;
    }
}

int plan_error(enum plan_class class_)
{
    static const int errors[PLAN_CLASSES] = {-ENOMEM, -EIO, -ENOSPC, -EMFILE, -EAGAIN};

    return errors[class_];
}

bool plan_is_shortage(const struct plan *plan)
{
    return plan->class_ != PLAN_DISK && (plan->second.hit == 0 || plan->second_class != PLAN_DISK);
}

const char *plan_class_name(enum plan_class class_)
{
    static const char *const names[PLAN_CLASSES] = {"memory", "disk", "space", "descriptors",
                                                    "threads"};

    return names[class_];
}

static int describe_strike(const struct plan_strike *strike, char *to, size_t size)
{
    const struct sweep_site *site = sweep_site_at(strike->site);

    if (strike->hit == 0)
        return 0;
    return snprintf(to, size, " %u:%llu %s:%d %s %s", strike->site, (unsigned long long)strike->hit,
                    site->file, site->line, site->function, site->call);
}

void plan_describe(const struct plan *plan, char *to, size_t size)
{
    bool is_mixed = plan->second.hit > 0 && plan->second_class != plan->class_;
    size_t at = (size_t)snprintf(
        to, size, "%s%s%s %s", plan_class_name(plan->class_), is_mixed ? "+" : "",
        is_mixed ? plan_class_name(plan->second_class) : "", plan->for_ever ? "for-ever" : "once");

    if (at < size)
        at += (size_t)describe_strike(&plan->first, to + at, size - at);
    if (at < size)
        (void)describe_strike(&plan->second, to + at, size - at);
}

/* ---- a trial ---- */

void plan_choose(const struct plan *plan)
{
    shared->plan = *plan;
    shared->armed = shared->struck = shared->for_ever_began = false;
    for (size_t i = 0; i < site_count; i++)
        shared->records[i].hits = 0;
}

void plan_arm(bool armed)
{
    shared->armed = armed;
}

bool plan_struck(void)
{
    return shared->struck;
}

const struct plan *plan_present(void)
{
    return &shared->plan;
}

void plan_quiet_begin(void)
{
    quiet++;
}

void plan_quiet_end(void)
{
    quiet--;
}

void plan_refuse_links(void)
{
    links_refused = true;
}

bool sweep_refuses_links(void)
{
    return links_refused;
}

static bool is_strike(const struct plan_strike *strike, enum plan_class class_, unsigned site,
                      uint64_t hit)
{
    return strike->hit == hit && strike->site == site && plan_applies(site, class_);
}

int sweep_strike(const struct sweep_site *site, bool creates)
{
    const struct plan *plan = &shared->plan;
    bool has_second = plan->second.hit > 0, is_first, is_second;
    enum plan_class last_class = has_second ? plan->second_class : plan->class_;
    struct plan_record *record = &shared->records[site->index];
    uint64_t hit;

    if (!shared->armed || quiet > 0)
        return 0;
    hit = atomic_fetch_add(&record->hits, 1) + 1;
    if (creates)
        record->creates = true;
    record->ever = true;
    is_first = is_strike(&plan->first, plan->class_, site->index, hit);
    is_second = has_second && is_strike(&plan->second, plan->second_class, site->index, hit);
    if (!is_first && !is_second &&
        !(plan->for_ever && shared->for_ever_began && plan_applies(site->index, last_class)))
        return 0;
    if (plan->first.hit == 0)
        return 0;
    if (has_second ? is_second : is_first)
        shared->for_ever_began = true;
    shared->struck = true;
    if (plan->for_ever && shared->for_ever_began)
        record->failed_for_ever = true;
    else
        record->failed_once = true;
    return plan_error(is_first ? plan->class_ : last_class);
}
