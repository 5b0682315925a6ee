/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine_space.c - a full disk is met before it is hit
 *
 * New data is refused while there is still room for what must always work: writing the memtables
 * out as tables, a new log segment, the manifest, merging. The estimate is the file system's answer
 * minus what was taken since; it is asked again when little is left or a second has passed.
 */
#include <errno.h>

#include "engine/engine_internal.h"

#define SPACE_FRESH_NS     UINT64_C(1000000000)
#define SPACE_FRESH_LOW_NS UINT64_C(20000000)
#define SPACE_LOW_BYTES    (INT64_C(512) * 1024 * 1024)
#define SPACE_SLACK_BYTES  (INT64_C(4) * 1024 * 1024)
/* Each segment kept for reuse saves whoever would need a new one three syncs; it may be an eighth of
 * what is left. */
#define SPACE_SPARE_SHARE 8

/* What must stay free. */
static int64_t space_reserve(struct engine *engine)
{
    struct superversion *super = engine_super(engine);
    int64_t bytes = SPACE_SLACK_BYTES + (int64_t)engine->options.wal_segment_bytes;

    for (size_t i = 0; i < super->memtable_count; i++)
        bytes += (int64_t)memtable_size_bytes(super->memtables[i]);
    superversion_unref(super);
    return bytes;
}

static int64_t space_refresh(struct engine *engine, uint64_t now)
{
    struct statvfs space;
    int64_t left = INT64_MAX; /* a file system that does not say is not refused */

    if (io_space(engine->io, engine->store->root, &space) == 0)
        left = (int64_t)(space.f_bavail * space.f_frsize);
    /* In this order: who sees that the answer is new sees the answer. */
    atomic_store(&engine->space_left, left);
    atomic_store(&engine->space_checked_ns, now);
    return left;
}

static int64_t space_left(struct engine *engine)
{
    uint64_t now = clock_monotonic_ns();
    uint64_t age = now - atomic_load_explicit(&engine->space_checked_ns, memory_order_acquire);
    int64_t left = atomic_load_explicit(&engine->space_left, memory_order_relaxed);

    if (age > SPACE_FRESH_NS || (left < SPACE_LOW_BYTES && age > SPACE_FRESH_LOW_NS))
        left = space_refresh(engine, now);
    return left;
}

bool engine_space_is_low(struct engine *engine)
{
    return space_left(engine) < SPACE_LOW_BYTES;
}

uint32_t engine_space_spares(struct engine *engine)
{
    int64_t share = space_left(engine) / SPACE_SPARE_SHARE;
    int64_t affordable = share / (int64_t)engine->options.wal_segment_bytes;

    if (affordable < 0) /* more was taken since the disk was asked than it had */
        return 0;
    return affordable < WAL_SPARES_MAX ? (uint32_t)affordable : WAL_SPARES_MAX;
}

int engine_space_take(struct engine *engine, uint64_t size_bytes)
{
    int64_t left = space_left(engine);

    if (left < SPACE_LOW_BYTES && left - (int64_t)size_bytes < space_reserve(engine))
        return -ENOSPC;
    if (left != INT64_MAX)
        atomic_fetch_sub_explicit(&engine->space_left, (long long)size_bytes, memory_order_relaxed);
    return 0;
}

int engine_space_check(struct engine *engine)
{
    return engine->read_only ? 0 : engine_space_take(engine, 0);
}

int engine_space(struct engine *engine, uint64_t *ret_total, uint64_t *ret_free,
                 uint64_t *ret_available)
{
    struct statvfs space;
    uint64_t reserve = engine->read_only ? 0 : (uint64_t)space_reserve(engine);
    uint64_t available;
    int result = io_space(engine->io, engine->store->root, &space);

    if (result < 0)
        return result;
    available = (uint64_t)space.f_bavail * space.f_frsize;
    *ret_total = (uint64_t)space.f_blocks * space.f_frsize;
    *ret_free = (uint64_t)space.f_bfree * space.f_frsize;
    *ret_available = available > reserve ? available - reserve : 0;
    return 0;
}
