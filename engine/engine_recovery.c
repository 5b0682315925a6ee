/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine_recovery.c - from what is on disk to a running engine
 *
 * Order: the manifest; every chunk that it names is there; checkpoints left PENDING are made and
 * DELETING ones taken away; the log is replayed into memtables; blob chunks that only the log knows
 * are sealed; the memtables become tables; a last commit moves the log's start to a new segment;
 * files that nobody refers to are deleted. A crash anywhere in here is met by the same steps again:
 * batches at or below the tables' highest sequence number and checkpoints that the manifest knows
 * are passed over, chunk ids go on above the highest on disk.
 *
 * A frozen engine takes what the manifest names and leaves everything else as it is.
 */
#include <errno.h>
#include <stdlib.h>

#include "engine/recovery_internal.h"

/* ---- what the manifest says ---- */

static int load_state(struct recovery *recovery)
{
    struct engine *engine = recovery->engine;
    const struct manifest_scalars *scalars;
    int result = manifest_load(engine->manifest, &recovery->state);

    if (result < 0)
        return result;
    scalars = &recovery->state.scalars;
    engine->next_order = scalars->next_order;
    engine->tables_sequence = scalars->last_sequence;
    engine->wal_segment = scalars->wal_segment;
    engine->next_checkpoint_id = scalars->next_checkpoint_id;
    engine->unclean_starts = scalars->unclean_starts + (scalars->clean ? 0 : 1);
    recovery->next_sequence = scalars->last_sequence + 1;
    result = recovery_files_scan(recovery);
    if (result < 0)
        return result;
    atomic_store(&engine->next_chunk_id, scalars->next_chunk_id > recovery->highest_id
                                             ? scalars->next_chunk_id
                                             : recovery->highest_id + 1);
    return catalogue_add(engine, recovery->state.blobs, recovery->state.blob_count);
}

/* ---- the running parts ---- */

static struct blob_reader_options blob_reader_options_of(struct engine *engine)
{
    return (struct blob_reader_options){
        .io = engine->io,
        .chunk_directory = engine->store->chunks,
        .store_uuid = engine->store->format.uuid,
        .cache = engine->cache,
        .around = &engine->read_around,
        .descriptors_max = engine->options.descriptors_max,
        .resolve = catalogue_resolve,
        .context = engine,
    };
}

static int open_parts(struct recovery *recovery)
{
    struct engine *engine = recovery->engine;
    struct wal_options wal = {
        .io = engine->io,
        .directory = engine->store->wal,
        .store_uuid = engine->store->format.uuid,
        .segment_size_bytes = engine->options.wal_segment_bytes,
        .spares_max = WAL_SPARES_MAX, /* until the first flush has looked what room there is */
    };
    struct blob_writer_options writer = {
        .io = engine->io,
        .chunk_directory = engine->store->chunks,
        .store_uuid = engine->store->format.uuid,
        .chunk_size_bytes = engine->store->format.chunk_size_bytes,
        .buffer_count = engine->options.blob_buffers,
        .sync_ahead_bytes = engine->options.blob_sync_ahead_bytes,
        .compression_level = engine->store->format.compression_level,
        .crew = engine->crew,
        .around = &engine->read_around,
        .allocate_id = engine_allocate_chunk_id,
        .context = engine,
    };
    struct blob_reader_options reader = blob_reader_options_of(engine);
    uint64_t segment = recovery->log.highest_segment + 1;
    int result;

    if (segment < engine->wal_segment)
        segment = engine->wal_segment;
    result = wal_open(&wal, segment, &engine->wal);
    if (result == 0)
        result = blob_writer_open(&writer, &engine->blob_writer);
    if (result == 0) {
        reader.writer = engine->blob_writer;
        result = blob_reader_open(&reader, &engine->blob_reader);
    }
    engine->wal_segment = segment;
    engine->fill = engine_fill_new();
    return result == 0 && engine->fill == NULL ? -ENOMEM : result;
}

static void set_sequence(struct engine *engine, uint64_t next)
{
    engine->next_sequence = next;
    engine->flushed_sequence = next - 1;
    atomic_store(&engine->visible_sequence, next - 1);
    atomic_store(&engine->written_sequence, next - 1);
    atomic_store(&engine->durable_sequence, next - 1);
}

static int start_superversion(struct recovery *recovery, struct version *version)
{
    struct engine *engine = recovery->engine;
    struct memtable *active = memtable_new(recovery->next_sequence);

    if (active == NULL)
        return -ENOMEM;
    engine->super = superversion_new(version, &active, 1);
    memtable_unref(active);
    set_sequence(engine, recovery->next_sequence);
    return engine->super != NULL ? 0 : -ENOMEM;
}

/* Now all that the log said is in tables: it begins anew. */
static int start_log(struct recovery *recovery, uint64_t segment)
{
    struct engine *engine = recovery->engine;
    struct manifest_edit edit = {0};
    int result;

    engine->wal_segment = segment;
    engine->tables_sequence = recovery->next_sequence - 1;
    lock_acquire(&engine->install_lock);
    result = engine_install_locked(engine, &edit, NULL, 0, NULL);
    lock_release(&engine->install_lock);
    if (result == 0)
        result = wal_delete_below(engine->io, engine->store->wal, engine->store->tmp, segment);
    return result;
}

static int recover_steps(struct recovery *recovery)
{
    struct engine *engine = recovery->engine;
    struct version *version = NULL;
    uint64_t old_segment, new_segment;
    int result = load_state(recovery);

    if (result == 0)
        result = recovery_checkpoints_load(recovery);
    if (result == 0)
        result = recovery_replay_log(recovery);
    if (result == 0)
        result = engine_witness_check(engine, recovery->next_sequence - 1);
    if (result == 0)
        result = recovery_replay_blobs(recovery);
    if (result == 0)
        result = recovery_tables_load(recovery, &version);
    if (result == 0 && recovery->highest_id >= atomic_load(&engine->next_chunk_id))
        atomic_store(&engine->next_chunk_id, recovery->highest_id + 1);
    if (result == 0)
        result = start_superversion(recovery, version);
    version_unref(version);
    if (result < 0)
        return result;
    /* Until the last commit the log's start stays, so that a crash finds all of it again. */
    old_segment = engine->wal_segment;
    result = open_parts(recovery);
    if (result < 0)
        return result;
    new_segment = engine->wal_segment;
    engine->wal_segment = old_segment;
    for (size_t i = 0; result == 0 && i < recovery->replayed_count; i++)
        result = recovery_tables_flush(recovery, &recovery->replayed[i], i == 0);
    if (result == 0)
        result = start_log(recovery, new_segment);
    if (result == 0)
        recovery_files_delete_orphans(recovery);
    return result;
}

/* ---- without any of it ---- */

static int show_steps(struct recovery *recovery)
{
    struct engine *engine = recovery->engine;
    struct blob_reader_options reader = blob_reader_options_of(engine);
    struct version *version = NULL;
    int result = load_state(recovery);

    if (result == 0 && !recovery->state.scalars.clean)
        log_warning("%s was not closed cleanly and its log is not replayed: what was last "
                    "acknowledged is not shown",
                    engine->path);
    if (result == 0)
        result = recovery_checkpoints_show(recovery);
    if (result == 0)
        result = recovery_tables_load(recovery, &version);
    if (result == 0) {
        engine->super = superversion_new(version, NULL, 0);
        result = engine->super != NULL ? blob_reader_open(&reader, &engine->blob_reader) : -ENOMEM;
    }
    version_unref(version);
    set_sequence(engine, recovery->next_sequence);
    return result;
}

static int recovery_run(struct engine *engine, int (*steps)(struct recovery *recovery))
{
    struct recovery recovery = {.engine = engine};
    int result = steps(&recovery);

    for (size_t i = 0; i < recovery.replayed_count; i++) {
        memtable_unref(recovery.replayed[i].memtable);
        checkpoint_unref(recovery.replayed[i].checkpoint);
    }
    for (size_t i = 0; i < recovery.piece_count; i++)
        free((void *)(uintptr_t)recovery.pieces[i].data);
    free(recovery.replayed);
    free(recovery.pieces);
    free(recovery.needed);
    free(recovery.files);
    free(recovery.recovered);
    manifest_state_free(&recovery.state);
    return result;
}

int engine_recover(struct engine *engine)
{
    return recovery_run(engine, recover_steps);
}

int engine_recover_nothing(struct engine *engine)
{
    return recovery_run(engine, show_steps);
}
