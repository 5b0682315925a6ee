/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine_reclaim.c - when everything is merged for the sake of what was deleted
 *
 * A chunk of file data is alive as long as any record refers to it, also one that a newer record
 * hides: in a table until merging meets both, in a memtable until that becomes a table. Where little
 * is written that may take for ever. So whoever writes says how much file data its batch leaves
 * behind (batch.h), and when that is worth what merging all tables costs, the memtable is flushed
 * and they are merged. With a busy store much more has to be worth it.
 *
 * The sum begins at nothing with each start. What a start finds is merged as deletes sink, or with
 * what is deleted later.
 *
 * The compaction thread's, but for the sum.
 */
#include "engine/base/error.h"
#include "engine/engine_internal.h"

#define RECLAIM_BYTES_MIN      (UINT64_C(16) << 20)
#define RECLAIM_BYTES_MIN_BUSY (UINT64_C(256) << 20)
#define RECLAIM_FACTOR_BUSY    8
#define URGENT_DEAD_BYTES_MIN  (UINT64_C(1) << 30)
#define RECLAIM_QUIET_NS       UINT64_C(2000000000) /* nothing written for so long */
#define RECLAIM_LOOK_NS        UINT64_C(1000000000)
#define RECLAIM_RETRY_NS       UINT64_C(5000000000) /* after a shortage */

void engine_reclaim_note(struct engine *engine, uint64_t size_bytes)
{
    uint64_t before = atomic_fetch_add(&engine->reclaim.freed_bytes, size_bytes);

    if (before < RECLAIM_BYTES_MIN && before + size_bytes >= RECLAIM_BYTES_MIN)
        engine_compaction_wake(engine);
}

static bool is_quiet(struct engine *engine, uint64_t now)
{
    struct engine_reclaim *reclaim = &engine->reclaim;
    uint64_t sequence = atomic_load(&engine->visible_sequence);

    if (sequence != reclaim->seen_sequence) {
        reclaim->seen_sequence = sequence;
        reclaim->seen_ns = now;
    }
    return now - reclaim->seen_ns >= RECLAIM_QUIET_NS;
}

static uint64_t merging_cost(struct engine *engine)
{
    struct superversion *super = engine_super(engine);
    uint64_t cost_bytes = 0;

    for (uint32_t level = 0; level < VERSION_LEVELS; level++)
        cost_bytes += super->version->level_bytes[level];
    superversion_unref(super);
    return cost_bytes;
}

static bool merging_pays_busy(uint64_t freed_bytes, uint64_t cost_bytes)
{
    return freed_bytes >= RECLAIM_BYTES_MIN_BUSY && freed_bytes / RECLAIM_FACTOR_BUSY >= cost_bytes;
}

static bool merging_pays(struct engine *engine, uint64_t freed_bytes, uint64_t now)
{
    bool quiet = is_quiet(engine, now);
    uint64_t cost_bytes;

    if (engine_space_is_low(engine))
        return true;
    cost_bytes = merging_cost(engine);
    return quiet ? freed_bytes >= cost_bytes : merging_pays_busy(freed_bytes, cost_bytes);
}

/* ---- copying out of chunks, which is for nothing where what is copied was left behind ---- */

static bool is_much(uint64_t freed_bytes, const struct collection_totals *totals)
{
    return freed_bytes >= RECLAIM_BYTES_MIN && freed_bytes >= totals->live_bytes / 4;
}

bool engine_reclaim_is_urgent(const struct collection_totals *totals)
{
    return totals->dead_bytes >= URGENT_DEAD_BYTES_MIN &&
           totals->dead_bytes / 2 > totals->live_bytes;
}

bool engine_reclaim_comes_first(struct engine *engine, const struct collection_totals *totals)
{
    uint64_t freed_bytes = atomic_load(&engine->reclaim.freed_bytes), cost_bytes;

    if (!is_much(freed_bytes, totals) || engine_space_is_low(engine))
        return false;
    cost_bytes = merging_cost(engine);
    if (engine->reclaim.is_begun || merging_pays_busy(freed_bytes, cost_bytes))
        return true; /* it is due */
    /* Due as soon as it is quiet; meanwhile what is dead must not grow without bound. */
    return freed_bytes >= cost_bytes && !engine_reclaim_is_urgent(totals);
}

uint64_t engine_reclaim_freed(struct engine *engine)
{
    return atomic_load(&engine->reclaim.freed_bytes);
}

bool engine_reclaim_overtakes(struct engine *engine, const struct collection_totals *totals,
                              uint64_t freed_before)
{
    uint64_t freed_bytes = engine_reclaim_freed(engine);

    return freed_bytes > freed_before && is_much(freed_bytes - freed_before, totals) &&
           !engine_space_is_low(engine);
}

/* ---- merging ---- */

/* What is in the memtable takes part; without memory for another one it is tried again. */
static bool begin(struct engine *engine)
{
    struct engine_reclaim *reclaim = &engine->reclaim;
    int result = 0;

    lock_acquire(&engine->write_lock);
    if (memtable_count(engine->super->memtables[0]) > 0)
        result = engine_freeze_locked(engine);
    reclaim->bytes = atomic_load(&reclaim->freed_bytes);
    reclaim->wanted_sequence = engine->next_sequence - 1;
    reclaim->is_begun = result == 0;
    lock_release(&engine->write_lock);
    return result == 0;
}

bool engine_reclaim_is_due(struct engine *engine, uint64_t *ret_again_ns)
{
    struct engine_reclaim *reclaim = &engine->reclaim;
    uint64_t now = clock_monotonic_ns();
    uint64_t freed_bytes = atomic_load(&reclaim->freed_bytes);
    bool flushed;

    if (!reclaim->is_begun && freed_bytes < RECLAIM_BYTES_MIN)
        return false;
    *ret_again_ns = now + RECLAIM_LOOK_NS;
    if (now < reclaim->not_before_ns)
        return false;
    if (!reclaim->is_begun && (!merging_pays(engine, freed_bytes, now) || !begin(engine)))
        return false;
    lock_acquire(&engine->write_lock);
    flushed = engine->generations == NULL || engine->flushed_sequence >= reclaim->wanted_sequence;
    lock_release(&engine->write_lock);
    return flushed;
}

/* What cannot be merged, because a table is damaged, is not tried again for the same deletions. */
void engine_reclaim_end(struct engine *engine, int result)
{
    struct engine_reclaim *reclaim = &engine->reclaim;

    if (error_is_shortage(result))
        reclaim->not_before_ns = clock_monotonic_ns() + RECLAIM_RETRY_NS;
    else
        atomic_fetch_sub(&reclaim->freed_bytes, reclaim->bytes);
    reclaim->is_begun = false;
}
