/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine_pace.c - how merging stands back while somebody works with the store
 *
 * A sync makes the disk finish whatever was written to it by then, also what was copied out of
 * dying chunks meanwhile: beside a disk that is kept busy each takes as long as that. So the thread
 * works for a few milliseconds at a time, and when others wrote or synced in these it rests for
 * several times as long. How much it gets done in its time follows from the disk. It does not rest
 * when others wait for what it does: for space, for tables to go from the first level, for the
 * engine to close, or for the merging itself; nor when too much is dead (engine_reclaim.c).
 *
 * The compaction thread's alone.
 */
#include "engine/compaction_pick.h"
#include "engine/engine_internal.h"

#define WORK_NS          UINT64_C(4000000)
#define REST_FACTOR      7
#define REST_NS_MAX      UINT64_C(200000000)
#define STEPS_TO_A_CLOCK 64 /* records that are merged, which takes microseconds */

static uint64_t count_syncs(const struct engine *engine)
{
    return __atomic_load_n(&engine->counters.syncs, __ATOMIC_RELAXED);
}

void engine_pace_begin(struct engine *engine, struct engine_pace *pace)
{
    pace->began_ns = clock_monotonic_ns();
    pace->sequence = atomic_load(&engine->visible_sequence);
    pace->syncs = count_syncs(engine);
    pace->steps = 0;
}

static bool others_work(struct engine *engine, const struct engine_pace *pace)
{
    return atomic_load(&engine->visible_sequence) != pace->sequence ||
           count_syncs(engine) != pace->syncs;
}

static bool is_first_level_full(struct engine *engine)
{
    struct superversion *super = engine_super(engine);
    bool full = super->version->counts[0] >= COMPACTION_L0_TRIGGER;

    superversion_unref(super);
    return full;
}

static bool is_stopping(struct engine *engine)
{
    bool stopping;

    lock_acquire(&engine->write_lock);
    stopping = engine->stopping;
    lock_release(&engine->write_lock);
    return stopping;
}

/* Until then, or until the thread is wanted for something. */
static void rest(struct engine *engine, uint64_t until_ns)
{
    lock_acquire(&engine->work_lock);
    if (atomic_load(&engine->compaction_pauses) == 0 && !atomic_load(&engine->read_only) &&
        engine->full_compactions_asked == engine->full_compactions_done) {
        ENGINE_COUNT(engine, compaction_rests, 1);
        (void)lock_wait_until(&engine->work_lock, &engine->work_wanted, until_ns);
    }
    lock_release(&engine->work_lock);
}

bool engine_pace_step(struct engine *engine, struct engine_pace *pace, bool has_copied, bool hurry)
{
    uint64_t now, rest_ns;

    if (!has_copied && ++pace->steps < STEPS_TO_A_CLOCK)
        return false;
    pace->steps = 0;
    now = clock_monotonic_ns();
    if (now - pace->began_ns < WORK_NS)
        return false;
    rest_ns = (now - pace->began_ns) * REST_FACTOR;
    if (!hurry && others_work(engine, pace) && !engine_space_is_low(engine) &&
        !is_first_level_full(engine) && !is_stopping(engine))
        rest(engine, now + (rest_ns < REST_NS_MAX ? rest_ns : REST_NS_MAX));
    engine_pace_begin(engine, pace);
    return true;
}
