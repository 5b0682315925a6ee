/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine_alert.c - what somebody should know of: the table of alerts
 *
 * Once a second a sample is taken of the engine, and each row's condition is asked of it and the one
 * before. A condition that has held for the row's patience begins the alert, which ends when it has
 * not held for the row's `linger` (for what happens at a moment, such as an error). Times are in
 * seconds of engine_options.alert_second_ms. docs/operations.md says what to do; each row has a test
 * that makes it begin and end (tests/unit/test_engine_alert.c fails for a row without one).
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "engine/engine_internal.h"

#define SPACE_SECONDS    10 /* the disk is asked for its free space so often */
#define SPACE_LOW_BYTES  (UINT64_C(512) << 20)
#define SPACE_LOW_PART   20 /* of the whole */
#define LOOK_SECONDS     5
#define SLOW_SYNC_FACTOR 2 /* syncs take half a second in the mean */

struct sample {
    bool is_valid;
    uint64_t now_ns, second_ns;
    unsigned hanging;
    const char *hanging_text;
    const char *latch_text; /* NULL: not latched */
    uint64_t sequence, durable_sequence, window_ns;
    int shortage;
    uint32_t waiters, level0;
    uint64_t oldest_dead;    /* epoch of the oldest chunk that cannot be deleted; 0: none */
    uint64_t oldest_pending; /* checkpoint whose directory is not made; 0: none */
    uint64_t failed;         /* checkpoint that could not be made; 0: none */
    uint64_t look_ns;
    uint64_t syncs, sync_ns;
    uint64_t space_ns, total, available; /* total 0: not known */
    struct io_statistics io;
};

#define DETAIL(...) snprintf(detail, ENGINE_ALERT_DETAIL_SIZE, __VA_ARGS__)

typedef bool condition(const struct sample *now, const struct sample *before, char *detail);

/* ---- conditions ---- */

static bool is_latched(const struct sample *now, const struct sample *before, char *detail)
{
    (void)before;
    if (now->latch_text != NULL)
        DETAIL("%s", now->latch_text);
    return now->latch_text != NULL;
}

static bool is_hung(const struct sample *now, const struct sample *before, char *detail)
{
    (void)before;
    DETAIL("%u of the disk's calls, the oldest for %s", now->hanging, now->hanging_text);
    return now->hanging > 0;
}

static bool has_io_errors(const struct sample *now, const struct sample *before, char *detail)
{
    uint64_t errors = now->io.errors - now->io.shortages;

    DETAIL("%" PRIu64 " since the store was opened", errors);
    return errors > before->io.errors - before->io.shortages;
}

static bool has_checksum_errors(const struct sample *now, const struct sample *before, char *detail)
{
    DETAIL("%" PRIu64 " since the store was opened; the log names the chunks", now->io.corruptions);
    return now->io.corruptions > before->io.corruptions;
}

static bool has_little_space(const struct sample *now, const struct sample *before, char *detail)
{
    uint64_t part = now->total / SPACE_LOW_PART;

    (void)before;
    DETAIL("%" PRIu64 " MiB are left for new data", now->available >> 20);
    return now->total > 0 && now->available < (part < SPACE_LOW_BYTES ? part : SPACE_LOW_BYTES);
}

static bool has_shortage(const struct sample *now, const struct sample *before, char *detail)
{
    (void)before;
    DETAIL("%s", error_text(now->shortage));
    return now->shortage != 0;
}

static bool durable_stands_still(const struct sample *now, const struct sample *before,
                                 char *detail)
{
    DETAIL("%" PRIu64 " operations would be lost", now->sequence - now->durable_sequence);
    return now->window_ns > 0 && now->sequence > now->durable_sequence &&
           before->sequence > now->durable_sequence &&
           now->durable_sequence == before->durable_sequence;
}

static bool writers_wait(const struct sample *now, const struct sample *before, char *detail)
{
    DETAIL("%" PRIu32, now->waiters);
    return now->waiters > 0 && before->waiters > 0;
}

static bool compaction_is_behind(const struct sample *now, const struct sample *before,
                                 char *detail)
{
    (void)before;
    DETAIL("%" PRIu32 " tables wait to be merged; at %d writers wait", now->level0,
           COMPACTION_L0_STOP);
    return now->level0 > COMPACTION_L0_FULL;
}

static bool look_does_not_end(const struct sample *now, const struct sample *before, char *detail)
{
    (void)before;
    DETAIL("open for %" PRIu64 " s", now->look_ns / now->second_ns);
    return now->look_ns >= LOOK_SECONDS * now->second_ns;
}

static bool deletions_wait(const struct sample *now, const struct sample *before, char *detail)
{
    (void)detail;
    return now->oldest_dead != 0 && now->oldest_dead == before->oldest_dead;
}

static bool snapshot_waits(const struct sample *now, const struct sample *before, char *detail)
{
    (void)detail;
    return now->oldest_pending != 0 && now->oldest_pending == before->oldest_pending;
}

static bool snapshot_failed(const struct sample *now, const struct sample *before, char *detail)
{
    (void)before;
    (void)detail;
    return now->failed != 0;
}

static bool syncs_are_slow(const struct sample *now, const struct sample *before, char *detail)
{
    uint64_t syncs = now->syncs - before->syncs, took = now->sync_ns - before->sync_ns;

    if (syncs == 0)
        return false;
    DETAIL("%" PRIu64 " ms in the mean", took / syncs / 1000000);
    return took / syncs > now->second_ns / SLOW_SYNC_FACTOR;
}

/* ---- the table ---- */

struct row {
    const char *name;
    bool is_critical;
    uint32_t patience, linger; /* seconds */
    condition *holds;
    const char *words;
};

static const struct row rows[] = {
    {"read_only", true, 0, 0, is_latched,
     "the store is read-only until it is mounted again: a write or sync failed"},
    {"disk_hung", true, 0, 0, is_hung, "the disk does not answer"},
    {"io_errors", true, 0, 600, has_io_errors, "the disk reports errors"},
    {"checksum_errors", true, 0, 3600, has_checksum_errors,
     "what was read is not what had been written: run varve verify"},
    {"space_low", false, 0, 0, has_little_space, "the disk is nearly full"},
    {"shortage", true, 5, 0, has_shortage, "writing is held up and tried again and again"},
    {"durability_behind", true, 10, 0, durable_stands_still,
     "nothing has become durable for longer than the sync window"},
    {"writers_wait", false, 10, 0, writers_wait, "writers wait for the disk"},
    {"compaction_behind", false, 60, 0, compaction_is_behind, "merging does not keep up"},
    {"read_transaction", false, 0, 0, look_does_not_end,
     "a read transaction of the manifest does not end"},
    {"deletions_wait", false, 600, 0, deletions_wait,
     "dead chunks cannot be deleted: something reads an old state"},
    {"snapshot_waits", false, 60, 0, snapshot_waits,
     "the directory of a snapshot is yet to be made"},
    {"snapshot_failed", true, 0, 0, snapshot_failed,
     "the directory of a snapshot could not be made; it is tried again at the next mount"},
    {"slow_syncs", false, 0, 60, syncs_are_slow, "syncs take long"},
};

#define ROWS (sizeof rows / sizeof rows[0])

struct state {
    bool is_active;
    bool held;          /* the condition, when it was last asked */
    uint64_t since_ns;  /* when it began to hold */
    uint64_t held_ns;   /* when it last held */
    uint64_t active_ns; /* when the alert began */
    uint64_t since_s;
    char detail[ENGINE_ALERT_DETAIL_SIZE];
};

struct engine_alerts {
    struct engine *engine;
    struct sample before;
    struct state states[ROWS]; /* written by the monitor's thread, under its lock */
};

/* ---- samples ---- */

static void sample_writing(struct engine *engine, struct sample *to)
{
    lock_acquire(&engine->write_lock);
    to->shortage = engine->flush_starved != 0 ? engine->flush_starved : engine->log_starved;
    to->waiters = engine->room_waiters;
    lock_release(&engine->write_lock);
}

static void sample_views(struct engine *engine, struct sample *to)
{
    lock_acquire(&engine->view_lock);
    to->level0 = engine->super->version->counts[0];
    for (const struct obsolete *entry = engine->obsolete; entry != NULL; entry = entry->next)
        if (to->oldest_dead == 0 || entry->epoch < to->oldest_dead)
            to->oldest_dead = entry->epoch;
    lock_release(&engine->view_lock);
}

static void sample_checkpoints(struct engine *engine, struct sample *to)
{
    lock_acquire(&engine->checkpoint_lock);
    for (size_t i = 0; i < engine->checkpoint_count; i++) {
        const struct checkpoint *checkpoint = engine->checkpoints[i];

        if (checkpoint->state == CHECKPOINT_PENDING && to->oldest_pending == 0)
            to->oldest_pending = checkpoint->record.id;
        if (checkpoint->state == CHECKPOINT_FAILED && to->failed == 0)
            to->failed = checkpoint->record.id;
    }
    lock_release(&engine->checkpoint_lock);
}

/* Not while the disk hangs: the answer might not come, either. */
static void sample_space(struct engine *engine, const struct sample *before, struct sample *to)
{
    uint64_t free_bytes;

    to->space_ns = before->space_ns;
    to->total = before->total;
    to->available = before->available;
    if (engine->read_only || to->hanging > 0 || !before->is_valid ||
        to->now_ns - before->space_ns < SPACE_SECONDS * to->second_ns)
        return;
    to->space_ns = to->now_ns;
    if (engine_space(engine, &to->total, &free_bytes, &to->available) < 0)
        to->total = 0;
}

static void sample_take(struct engine *engine, const struct sample *before, unsigned hanging,
                        const char *text, struct sample *to)
{
    *to = (struct sample){
        .is_valid = true,
        .now_ns = clock_monotonic_ns(),
        .second_ns = (uint64_t)engine->options.alert_second_ms * 1000000,
        .hanging = hanging,
        .hanging_text = text,
        .durable_sequence = atomic_load(&engine->durable_sequence),
        .window_ns = (uint64_t)engine->options.sync_window_ms * 1000000,
        .syncs = __atomic_load_n(&engine->counters.syncs, __ATOMIC_RELAXED),
        .sync_ns = __atomic_load_n(&engine->counters.sync_ns_total, __ATOMIC_RELAXED),
    };
    to->sequence = engine_sequence(engine); /* after the durable one, which is not above it */
    (void)engine_latch_reason(engine, &to->latch_text);
    sample_writing(engine, to);
    sample_views(engine, to);
    sample_checkpoints(engine, to);
    sample_space(engine, before, to);
    if (engine->manifest != NULL)
        to->look_ns = manifest_look_age_ns(engine->manifest);
    io_get_statistics(engine->io, &to->io);
}

/* ---- judging ---- */

static void alert_begin(struct engine_alerts *alerts, const struct row *row, struct state *state,
                        uint64_t now_ns)
{
    state->is_active = true;
    state->active_ns = now_ns;
    state->since_s = (uint64_t)time(NULL);
    log_message(row->is_critical ? LOG_LEVEL_ERROR : LOG_LEVEL_WARNING,
                "store %s: alert %s begins: %s%s%s", alerts->engine->path, row->name, row->words,
                state->detail[0] != '\0' ? ": " : "", state->detail);
}

static void alert_end(struct engine_alerts *alerts, const struct row *row, struct state *state,
                      uint64_t now_ns)
{
    state->is_active = false;
    log_info("store %s: alert %s ends after %" PRIu64 " s", alerts->engine->path, row->name,
             (now_ns - state->active_ns) / 1000000000);
}

static void alert_look(struct engine_alerts *alerts, const struct row *row, struct state *state,
                       const struct sample *now)
{
    char detail[ENGINE_ALERT_DETAIL_SIZE] = "";
    bool holds = row->holds(now, &alerts->before, detail);

    engine_monitor_lock(alerts->engine->monitor);
    if (holds) {
        if (!state->held)
            state->since_ns = now->now_ns;
        state->held_ns = now->now_ns;
        memcpy(state->detail, detail, sizeof detail);
        if (!state->is_active && now->now_ns - state->since_ns >= row->patience * now->second_ns)
            alert_begin(alerts, row, state, now->now_ns);
    } else if (state->is_active && now->now_ns - state->held_ns >= row->linger * now->second_ns) {
        alert_end(alerts, row, state, now->now_ns);
    }
    state->held = holds;
    engine_monitor_unlock(alerts->engine->monitor);
}

void engine_alerts_look(struct engine_alerts *alerts, unsigned hanging, const char *text)
{
    struct sample now;

    sample_take(alerts->engine, &alerts->before, hanging, text, &now);
    if (!alerts->before.is_valid) { /* what opening has met is no news */
        now.space_ns = now.now_ns;
        alerts->before = now;
    }
    for (size_t i = 0; i < ROWS; i++)
        alert_look(alerts, &rows[i], &alerts->states[i], &now);
    alerts->before = now;
}

/* ---- for those who ask ---- */

struct engine_alerts *engine_alerts_new(struct engine *engine)
{
    struct engine_alerts *alerts = calloc(1, sizeof *alerts);

    if (alerts != NULL)
        alerts->engine = engine;
    return alerts;
}

void engine_alerts_free(struct engine_alerts *alerts)
{
    free(alerts);
}

size_t engine_alert_count(void)
{
    return ROWS;
}

void engine_alert_get(struct engine *engine, size_t index, struct engine_alert *ret_alert)
{
    const struct engine_alerts *alerts = engine_monitor_alerts(engine->monitor);
    const struct state *state = &alerts->states[index];

    invariant(index < ROWS);
    *ret_alert = (struct engine_alert){.name = rows[index].name,
                                       .words = rows[index].words,
                                       .is_critical = rows[index].is_critical};
    engine_monitor_lock(engine->monitor);
    if (state->is_active) {
        ret_alert->is_active = true;
        ret_alert->since_s = state->since_s;
        memcpy(ret_alert->detail, state->detail, sizeof state->detail);
    }
    engine_monitor_unlock(engine->monitor);
}
