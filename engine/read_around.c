/* SPDX-License-Identifier: Apache-2.0 */
/*
 * read_around.c - counting small reads, and fetching regions once there are many
 */
#include "engine/read_around.h"

#include <stdlib.h>
#include <unistd.h>

#include "engine/base/blocking.h"
#include "engine/base/lock.h"

#define SHARE_OF_MEMORY  8
#define PERIOD_NS        (UINT64_C(600) * 1000000000)
#define MEMORY_IF_HIDDEN ((uint64_t)1 << 30)

void read_around_budget_init(struct read_around_budget *budget, uint64_t bytes, uint64_t period_ns)
{
    budget->bytes = bytes;
    budget->period_ns = period_ns;
    atomic_init(&budget->left_bytes, (int64_t)bytes);
    atomic_init(&budget->renewed_ns, clock_monotonic_ns());
}

void read_around_budget_init_default(struct read_around_budget *budget)
{
    long pages = sysconf(_SC_PHYS_PAGES), page_size = sysconf(_SC_PAGESIZE);
    uint64_t memory_bytes =
        pages > 0 && page_size > 0 ? (uint64_t)pages * (uint64_t)page_size : MEMORY_IF_HIDDEN;

    read_around_budget_init(budget, memory_bytes / SHARE_OF_MEMORY, PERIOD_NS);
}

/* Of those who find it used up, the one who moves the clock renews it. */
static void renew(struct read_around_budget *budget)
{
    uint64_t now = clock_monotonic_ns(), renewed = atomic_load(&budget->renewed_ns);

    if (now - renewed >= budget->period_ns &&
        atomic_compare_exchange_strong(&budget->renewed_ns, &renewed, now))
        atomic_store(&budget->left_bytes, (int64_t)budget->bytes);
}

static bool spend(struct read_around_budget *budget, uint64_t bytes)
{
    if (atomic_load_explicit(&budget->left_bytes, memory_order_relaxed) < (int64_t)bytes)
        renew(budget);
    if (atomic_fetch_sub(&budget->left_bytes, (int64_t)bytes) >= (int64_t)bytes)
        return true;
    atomic_fetch_add(&budget->left_bytes, (int64_t)bytes);
    return false;
}

/* Without memory: NULL, and the next read tries again. */
static struct read_around_regions *get_regions(struct read_around *around)
{
    struct read_around_regions *regions = atomic_load(&around->regions), *fresh;

    if (regions != NULL)
        return regions;
    fresh = calloc(1, sizeof *fresh);
    if (fresh == NULL || atomic_compare_exchange_strong(&around->regions, &regions, fresh))
        return fresh;
    free(fresh);
    return regions;
}

/* True once for each region, when there is something left to spend. */
static bool take_region(struct read_around *around, struct read_around_budget *budget,
                        uint64_t region)
{
    struct read_around_regions *regions = get_regions(around);
    uint64_t bit = UINT64_C(1) << region % 64;
    _Atomic uint64_t *word;

    if (regions == NULL)
        return false;
    word = &regions->fetched[region / 64];
    return (atomic_load_explicit(word, memory_order_relaxed) & bit) == 0 &&
           spend(budget, READ_AROUND_REGION_BYTES) && (atomic_fetch_or(word, bit) & bit) == 0;
}

static bool is_much(unsigned small_reads, uint64_t end)
{
    return small_reads >= READ_AROUND_READS_MIN && small_reads >= end / READ_AROUND_BYTES_PER_READ;
}

void read_around(struct read_around *around, struct read_around_budget *budget, struct io *io,
                 struct io_file *file, uint64_t position, uint64_t size, uint64_t end)
{
    uint64_t region = position / READ_AROUND_REGION_BYTES;
    unsigned small_reads;

    if (budget == NULL || size > READ_AROUND_SMALL_BYTES || blocking_is_dear())
        return;
    small_reads = atomic_fetch_add_explicit(&around->small_reads, 1, memory_order_relaxed) + 1;
    if (!is_much(small_reads, end) || region >= READ_AROUND_REGIONS_MAX ||
        (region + 1) * READ_AROUND_REGION_BYTES > end || !take_region(around, budget, region))
        return;
    io_prefetch(io, file, region * READ_AROUND_REGION_BYTES, READ_AROUND_REGION_BYTES);
}

void read_around_free(struct read_around *around)
{
    free(atomic_load(&around->regions));
}
