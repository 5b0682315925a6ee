/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ll_verb_stats.c - the verb "stats": state and numbers of everything
 */
#include "fuse/ll_verbs.h"

#include <errno.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

#include "fuse/control_protocol.h"
#include "fuse/ll_internal.h"

struct field {
    const char *name;
    size_t offset; /* of a uint64_t */
};

#define FIELD(type, member)                                                                        \
    {                                                                                              \
#member, offsetof(struct type, member)                                                     \
    }

static const struct field engine_fields[] = {
    FIELD(engine_statistics, sequence),
    FIELD(engine_statistics, durable_sequence),
    FIELD(engine_statistics, batches),
    FIELD(engine_statistics, records),
    FIELD(engine_statistics, batch_bytes),
    FIELD(engine_statistics, write_waits),
    FIELD(engine_statistics, write_wait_ns_max),
    FIELD(engine_statistics, syncs),
    FIELD(engine_statistics, sync_ns_total),
    FIELD(engine_statistics, sync_ns_max),
    FIELD(engine_statistics, memtable_bytes),
    FIELD(engine_statistics, frozen_memtables),
    FIELD(engine_statistics, flushes),
    FIELD(engine_statistics, compactions),
    FIELD(engine_statistics, compaction_bytes_read),
    FIELD(engine_statistics, compaction_bytes_written),
    FIELD(engine_statistics, compaction_bytes_copied),
    FIELD(engine_statistics, compaction_rests),
    FIELD(engine_statistics, tables),
    FIELD(engine_statistics, table_bytes),
    FIELD(engine_statistics, blobs),
    FIELD(engine_statistics, blob_bytes),
    FIELD(engine_statistics, blob_live_bytes),
    FIELD(engine_statistics, wal_segments),
    FIELD(engine_statistics, wal_bytes),
    FIELD(engine_statistics, wal_replayed_batches),
    FIELD(engine_statistics, cache_hits),
    FIELD(engine_statistics, cache_misses),
    FIELD(engine_statistics, cache_bytes),
    FIELD(engine_statistics, cache_evictions),
    FIELD(engine_statistics, blob_raw_bytes),
    FIELD(engine_statistics, blob_stored_bytes),
    FIELD(engine_statistics, blob_pending_bytes),
    FIELD(engine_statistics, blob_waits),
    FIELD(engine_statistics, blob_syncs_ahead),
    FIELD(engine_statistics, checkpoints),
    FIELD(engine_statistics, checkpoints_pending),
    FIELD(engine_statistics, checkpoints_deleting),
    FIELD(engine_statistics, deletions_pending),
    FIELD(engine_statistics, barriers),
    FIELD(engine_statistics, barrier_ns_max),
    FIELD(engine_statistics, manifest_commits),
    FIELD(engine_statistics, unclean_starts),
    FIELD(engine_statistics, views),
};

static const struct field io_fields[] = {
    FIELD(io_statistics, reads),      FIELD(io_statistics, read_bytes),
    FIELD(io_statistics, prefetches), FIELD(io_statistics, prefetch_bytes),
    FIELD(io_statistics, writes),     FIELD(io_statistics, write_bytes),
    FIELD(io_statistics, syncs),      FIELD(io_statistics, opens),
    FIELD(io_statistics, links),      FIELD(io_statistics, errors),
    FIELD(io_statistics, shortages),  FIELD(io_statistics, corruptions),
};

static const struct field fs_fields[] = {
    FIELD(fs_statistics, nodes_held),     FIELD(fs_statistics, open_files),
    FIELD(fs_statistics, open_writable),  FIELD(fs_statistics, orphans),
    FIELD(fs_statistics, orphans_reaped), FIELD(fs_statistics, inline_writes),
    FIELD(fs_statistics, blob_writes),    FIELD(fs_statistics, shared_bytes),
};

/* A new object under `key`; NULL: out of memory. */
static json_t *ll_add_object(json_t *parent, const char *key)
{
    json_t *object = json_object();

    return object != NULL && json_object_set_new(parent, key, object) == 0 ? object : NULL;
}

static int ll_add_fields(json_t *object, const void *from, const struct field *fields, size_t count)
{
    int error = object == NULL ? -ENOMEM : 0;

    for (size_t i = 0; error == 0 && i < count; i++) {
        uint64_t value;

        memcpy(&value, (const char *)from + fields[i].offset, sizeof value);
        error = ll_verb_set_number(object, fields[i].name, value);
    }
    return error;
}

#define ADD_FIELDS(object, from, fields)                                                           \
    ll_add_fields(object, from, fields, sizeof(fields) / sizeof(fields)[0])

static int ll_add_levels(json_t *object, const struct engine_statistics *statistics)
{
    json_t *levels = json_array();

    if (levels == NULL || json_object_set_new(object, "levels", levels) != 0)
        return -ENOMEM;
    for (size_t i = 0; i < sizeof statistics->levels / sizeof statistics->levels[0]; i++) {
        json_t *level = json_pack("{s:I, s:I}", "tables", (json_int_t)statistics->levels[i],
                                  "bytes", (json_int_t)statistics->level_bytes[i]);

        if (level == NULL || json_array_append_new(levels, level) != 0)
            return -ENOMEM;
    }
    return 0;
}

static int ll_stats_engine(struct ll *ll, json_t *reply)
{
    struct engine_statistics statistics;
    json_t *object = ll_add_object(reply, "engine");
    int error;

    engine_get_statistics(ll->engine, &statistics);
    error = ADD_FIELDS(object, &statistics, engine_fields);
    if (error == 0)
        error = ll_add_levels(object, &statistics);
    if (error == 0)
        error = ADD_FIELDS(ll_add_object(reply, "io"), &statistics.io, io_fields);
    return error;
}

static int ll_stats_fs(struct ll *ll, json_t *reply)
{
    struct fs_statistics statistics;

    fs_get_statistics(ll->fs, &statistics);
    return ADD_FIELDS(ll_add_object(reply, "filesystem"), &statistics, fs_fields);
}

static int ll_stats_space(struct ll *ll, json_t *reply)
{
    json_t *object = ll_add_object(reply, "space");
    uint64_t total, free_bytes, available;
    int error =
        object == NULL ? -ENOMEM : engine_space(ll->engine, &total, &free_bytes, &available);

    if (error == 0)
        error = ll_verb_set_number(object, "total_bytes", total);
    if (error == 0)
        error = ll_verb_set_number(object, "free_bytes", free_bytes);
    if (error == 0)
        error = ll_verb_set_number(object, "available_bytes", available);
    return error;
}

static uint64_t ll_peak_memory_bytes(void)
{
    struct rusage usage;

    return getrusage(RUSAGE_SELF, &usage) == 0 ? (uint64_t)usage.ru_maxrss * 1024 : 0;
}

static uint64_t ll_memory_bytes(void)
{
    unsigned long long resident = 0;
    FILE *file = fopen("/proc/self/statm", "re");

    if (file == NULL)
        return 0;
    if (fscanf(file, "%*u %llu", &resident) != 1)
        resident = 0;
    (void)fclose(file);
    return resident * (uint64_t)sysconf(_SC_PAGESIZE);
}

static int ll_stats_daemon(struct ll *ll, json_t *reply)
{
    struct ll_loop_statistics loop;
    struct ll_notify_statistics notify;
    json_t *object;

    ll_loop_get_statistics(ll->loop, &loop);
    ll_notify_get_statistics(ll->notify, &notify);
    object = json_pack(
        "{s:i, s:s, s:s, s:I, s:I, s:I, s:i, s:i, s:i, s:i, s:b, s:I, s:I, s:I, s:I, s:I, s:I}", "pid",
        (int)getpid(), "version", VARVE_VERSION, "transport",
        ll_transport_uses_rings(ll) ? "io_uring" : "dev", "requests", (json_int_t)loop.requests,
        "hand_overs", (json_int_t)loop.hand_overs, "threads_started",
        (json_int_t)loop.threads_started, "threads", (int)loop.threads, "threads_peak",
        (int)loop.threads_peak, "threads_parked", (int)loop.parked, "threads_max",
        (int)ll->options->threads_max, "all_threads_busy", (int)loop.leaderless, "yields",
        (json_int_t)loop.yields, "files_prefetched",
        (json_int_t)__atomic_load_n(&ll->prefetched, __ATOMIC_RELAXED), "notifications_sent", (json_int_t)notify.sent,
        "notifications_dropped", (json_int_t)notify.dropped, "memory_bytes",
        (json_int_t)ll_memory_bytes(), "memory_peak_bytes", (json_int_t)ll_peak_memory_bytes());
    return object != NULL && json_object_set_new(reply, "daemon", object) == 0 ? 0 : -ENOMEM;
}

/* Only what was ever asked for; "other" may stand for several opcodes. */
static int ll_stats_requests(struct ll *ll, json_t *reply)
{
    json_t *object = ll_add_object(reply, "requests");
    int error = object == NULL ? -ENOMEM : 0;

    for (uint32_t opcode = 0; error == 0 && opcode < LL_OPCODES; opcode++) {
        const char *name = ll_opcode_name(opcode);
        uint64_t count = atomic_load_explicit(&ll->opcodes.counts[opcode], memory_order_relaxed) +
                         (uint64_t)json_integer_value(json_object_get(object, name));

        if (count > 0)
            error = ll_verb_set_number(object, name, count);
    }
    return error;
}

static int ll_stats_snapshots(struct ll *ll, json_t *reply)
{
    struct snapshot_set *set = fs_snapshots(ll->fs);
    json_t *object = ll_add_object(reply, "snapshots");
    int error = object == NULL ? -ENOMEM : 0;

    if (error == 0)
        error = ll_verb_set_number(object, "count", snapshot_count(set));
    if (error == 0)
        error = ll_verb_set_time(object, "changed", snapshot_set_changed(set));
    return error;
}

/* "ok", "read-only", or "failed" with the reason (P6). */
static int ll_stats_state(struct ll *ll, json_t *reply)
{
    const char *reason = NULL;
    int latched = engine_latch_reason(ll->engine, &reason);
    const char *state = latched != 0 ? "failed" : fs_read_only(ll->fs) ? "read-only" : "ok";
    int error = ll_verb_set_text(reply, "state", state);

    if (error == 0 && latched != 0)
        error = ll_verb_set_text(reply, "reason", reason != NULL ? reason : error_text(latched));
    return error;
}

/* All of them, so that who watches one sees that it is not active. */
static int ll_stats_alerts(struct ll *ll, json_t *reply)
{
    json_t *alerts = json_array();

    if (alerts == NULL || json_object_set_new(reply, "alerts", alerts) != 0)
        return -ENOMEM;
    for (size_t i = 0; i < engine_alert_count(); i++) {
        struct engine_alert alert;
        json_t *object;

        engine_alert_get(ll->engine, i, &alert);
        object = json_pack("{s:s, s:s, s:b, s:s}", "name", alert.name, "severity",
                           alert.is_critical ? "critical" : "warning", "active",
                           (int)alert.is_active, "words", alert.words);
        if (object == NULL || json_array_append_new(alerts, object) != 0)
            return -ENOMEM;
        if (alert.is_active && (ll_verb_set_text(object, "detail", alert.detail) < 0 ||
                                ll_verb_set_number(object, "since", alert.since_s) < 0))
            return -ENOMEM;
    }
    return 0;
}

static int ll_stats_identity(struct ll *ll, json_t *reply)
{
    const uint8_t *uuid = engine_uuid(ll->engine);
    char text[2 * STORE_UUID_SIZE + 1];
    int error;

    for (size_t i = 0; i < STORE_UUID_SIZE; i++)
        (void)snprintf(text + 2 * i, 3, "%02x", uuid[i]);
    error = ll_verb_set_text(reply, "uuid", text);
    if (error == 0)
        error = ll_verb_set_text(reply, "store", ll->options->store);
    if (error == 0)
        error = ll_verb_set_text(reply, "mount_point", ll->options->mount_point);
    return error;
}

int ll_verb_stats(struct ll *ll, const json_t *request, json_t *reply)
{
    static int (*const parts[])(struct ll *, json_t *) = {
        ll_stats_state, ll_stats_alerts, ll_stats_identity, ll_stats_space,     ll_stats_engine,
        ll_stats_fs,    ll_stats_daemon, ll_stats_requests, ll_stats_snapshots,
    };
    int error = 0;

    (void)request;
    for (size_t i = 0; error == 0 && i < sizeof parts / sizeof parts[0]; i++)
        error = parts[i](ll, reply);
    return error;
}
