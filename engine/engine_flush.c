/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine_flush.c - generations become tables, in order; the one place that installs a new version
 */
#include <errno.h>
#include <stdlib.h>

#include "engine/engine_internal.h"

#define FLUSH_RETRY_NS UINT64_C(500000000)

uint64_t engine_allocate_chunk_id(void *context)
{
    struct engine *engine = context;

    return atomic_fetch_add(&engine->next_chunk_id, 1);
}

/* ---- one memtable to one table ---- */

struct tombstone_target {
    struct table_writer *writer;
    uint64_t count;
};

static int add_tombstone(void *context, struct slice start, struct slice end, uint64_t sequence)
{
    struct tombstone_target *target = context;

    target->count++;
    return table_writer_add_tombstone(target->writer, start, end, sequence);
}

static int write_memtable(struct table_writer *writer, struct memtable *memtable)
{
    struct merge_iterator *merge = merge_iterator_new(MERGE_COMPACT);
    uint64_t last = memtable_last_sequence(memtable);
    struct tombstone_target target = {writer, 0};
    int result = merge != NULL ? merge_iterator_add_memtable(merge, memtable, last) : -ENOMEM;

    if (result == 0)
        result = merge_iterator_seek(merge, slice_of("", 0));
    while (result > 0) {
        result = table_writer_add(writer, merge_iterator_record(merge));
        if (result == 0)
            result = merge_iterator_next(merge);
    }
    if (result == 0)
        result = memtable_each_tombstone(memtable, last, add_tombstone, &target);
    merge_iterator_free(merge);
    return result;
}

int engine_write_table(struct engine *engine, struct memtable *memtable,
                       struct table_meta *ret_meta)
{
    struct table_writer_options options = {
        .io = engine->io,
        .temporary_directory = engine->store->tmp,
        .chunk_directory = engine->store->chunks,
        .store_uuid = engine->store->format.uuid,
        .compression_level = engine->store->format.compression_level,
    };
    struct table_writer *writer = NULL;
    int result;

    if (memtable_count(memtable) == 0)
        return 0;
    options.id = engine_allocate_chunk_id(engine);
    result = table_writer_new(&options, &writer);
    if (result == 0)
        result = write_memtable(writer, memtable);
    if (result == 0)
        result = table_writer_finish(writer, ret_meta);
    table_writer_free(writer);
    return result < 0 ? result : 1;
}

/* ---- installing ---- */

void engine_scalars_locked(struct engine *engine, struct manifest_scalars *ret_scalars)
{
    uint64_t next_checkpoint_id;

    lock_acquire(&engine->checkpoint_lock);
    next_checkpoint_id = engine->next_checkpoint_id;
    lock_release(&engine->checkpoint_lock);
    *ret_scalars = (struct manifest_scalars){
        .next_chunk_id = atomic_load(&engine->next_chunk_id),
        .next_order = engine->next_order,
        .last_sequence = engine->tables_sequence,
        .wal_segment = engine->wal_segment,
        .next_checkpoint_id = next_checkpoint_id,
        .unclean_starts = engine->unclean_starts,
        .clean = false,
    };
}

/* The next superversion, in `super`: `version`, and the memtables without `drop`. */
static void publish_version(struct engine *engine, struct superversion *super,
                            struct version *version, struct memtable *drop)
{
    struct memtable *kept[SUPERVERSION_MEMTABLES_MAX];
    const struct superversion *old;
    size_t count = 0;

    lock_acquire(&engine->write_lock); /* a freeze replaces the superversion too */
    old = engine->super;
    for (size_t i = 0; i < old->memtable_count; i++)
        if (old->memtables[i] != drop)
            kept[count++] = old->memtables[i];
    superversion_fill(super, version, kept, count);
    engine_publish(engine, super);
    pthread_cond_broadcast(&engine->room);
    lock_release(&engine->write_lock);
}

int engine_install_locked(struct engine *engine, struct manifest_edit *edit,
                          struct version_table *const *add, size_t add_count, struct memtable *drop)
{
    struct manifest_scalars scalars;
    struct superversion *super, *next = NULL;
    struct version *version = NULL;
    int result;

    super = engine_super(engine);
    result = version_build(super->version, edit->remove_tables, edit->remove_table_count, add,
                           add_count, &version);
    superversion_unref(super);
    if (result < 0)
        return result;
    /* Once the manifest says so, nothing may be wanting to say so in memory. */
    next = superversion_reserve();
    engine_scalars_locked(engine, &scalars);
    edit->scalars = &scalars;
    result = next != NULL ? store_check_root(engine->store) : -ENOMEM;
    if (result == 0)
        result = manifest_commit(engine->manifest, edit);
    edit->scalars = NULL;
    if (result < 0) {
        engine_failed(engine, result, "manifest");
        free(next);
    } else {
        publish_version(engine, next, version, drop);
    }
    version_unref(version);
    return result;
}

/* ---- one generation ---- */

/* Is there one, and has it not been deleted? That is done under install_lock, which is held. */
static bool is_wanted(struct engine *engine, const struct checkpoint *checkpoint)
{
    bool wanted;

    if (checkpoint == NULL)
        return false;
    lock_acquire(&engine->checkpoint_lock);
    wanted = checkpoint->state != CHECKPOINT_DELETING;
    lock_release(&engine->checkpoint_lock);
    return wanted;
}

/* May be tried again after a shortage: what it changed in memory is as it was then. */
static int flush_install(struct engine *engine, struct generation *generation)
{
    bool has_table = generation->has_table;
    struct table_meta meta = {0};
    struct manifest_table added = {.level = 0};
    struct manifest_edit edit = {0};
    struct manifest_checkpoint record = {0};
    struct version_table *table = NULL;
    struct version *after = NULL;
    struct chunk_identity *sealed = NULL;
    struct sealed_manifest *plan = NULL;
    size_t sealed_count = 0;
    uint64_t old_segment, old_sequence;
    bool catalogued = false, makes_checkpoint;
    int result;

    lock_acquire(&engine->install_lock);
    makes_checkpoint = is_wanted(engine, generation->checkpoint);
    old_segment = engine->wal_segment;
    old_sequence = engine->tables_sequence;
    result =
        blob_writer_seal(engine->blob_writer, generation->blob_last_id, &sealed, &sealed_count);
    if (result < 0) {
        engine_failed(engine, result, "sealing a blob chunk");
        goto out;
    }
    result = catalogue_add(engine, sealed, sealed_count);
    if (result < 0)
        goto out;
    catalogued = true;
    edit.add_blobs = sealed;
    edit.add_blob_count = sealed_count;
    if (has_table) {
        added.order = engine->next_order++;
        result = table_meta_copy(&generation->meta, &added.meta);
        if (result == 0)
            result = table_meta_copy(&generation->meta, &meta);
        if (result == 0) {
            table = version_table_new(&engine->source, 0, added.order, &meta);
            result = table != NULL ? 0 : -ENOMEM;
        }
        if (result < 0)
            goto out;
        edit.add_tables = &added;
        edit.add_table_count = 1;
    }
    if (makes_checkpoint) {
        struct superversion *super = engine_super(engine);

        result = version_build(super->version, NULL, 0, &table, has_table ? 1 : 0, &after);
        superversion_unref(super);
        if (result == 0)
            result = checkpoint_plan_new(engine, generation->checkpoint, after, &plan);
        if (result == 0) {
            lock_acquire(&engine->checkpoint_lock);
            result = manifest_checkpoint_copy(&generation->checkpoint->record, &record);
            lock_release(&engine->checkpoint_lock);
        }
        if (result == 0)
            result = sealed_manifest_encode(plan, &record.plan);
        if (result < 0)
            goto out;
        record.state = MANIFEST_CHECKPOINT_PENDING;
        edit.put_checkpoint = &record;
    }
    engine->wal_segment = generation->next_segment;
    engine->tables_sequence = generation->last_sequence;
    result = engine_install_locked(engine, &edit, &table, has_table ? 1 : 0, generation->memtable);
    if (result < 0) {
        engine->wal_segment = old_segment;
        engine->tables_sequence = old_sequence;
        goto out;
    }
    for (size_t i = 0; i < sealed_count; i++)
        blob_writer_forget(engine->blob_writer, sealed[i].id);
    if (makes_checkpoint) {
        generation->checkpoint->plan = plan;
        plan = NULL;
    }
out:
    if (result < 0 && catalogued)
        catalogue_remove_all(engine, sealed, sealed_count);
    lock_release(&engine->install_lock);
    table_meta_free(&meta);
    version_unref(after);
    version_table_unref(table);
    manifest_checkpoint_free(&record);
    table_meta_free(&added.meta);
    checkpoint_plan_free(plan);
    free(sealed);
    return result;
}

/* One attempt; what it has done is not done again by the next. */
static int flush_generation(struct engine *engine, struct generation *generation)
{
    int result;

    /* The log goes past this generation first, so that its segments can be retired; that also
     * keeps the order "log before tables". */
    result = engine_commit_generation(engine, generation);
    if (result == 0 && !generation->is_written) {
        result = engine_write_table(engine, generation->memtable, &generation->meta);
        generation->is_written = result >= 0;
        generation->has_table = result > 0;
    }
    if (result >= 0)
        result = flush_install(engine, generation);
    if (result < 0)
        return result;
    engine_commit_enter(engine);
    result = wal_retire(engine->wal, engine->wal_segment);
    engine_commit_leave(engine);
    if (result >= 0)
        result = wal_limit_spares(engine->wal, engine_space_spares(engine));
    if (result < 0)
        log_warning("old segments of the write-ahead log could not be removed: %s",
                    error_text(result));
    ENGINE_COUNT(engine, flushes, 1);
    return 0;
}

/* A full disk is no reason to latch: deletions may make room. Until then writers that would have to
 * wait are told so. write_lock held before and after. */
static void flush_wait_out_locked(struct engine *engine, int shortage)
{
    if (engine->flush_starved == 0)
        log_warning("store %s: flush: %s; it is tried again", engine->path, error_text(shortage));
    engine->flush_starved = shortage;
    engine->flush_starvations++;
    pthread_cond_broadcast(&engine->room);
    pthread_cond_broadcast(&engine->flush_wanted);
    if (!engine->stopping)
        lock_wait_until(&engine->write_lock, &engine->flush_wanted,
                        clock_monotonic_ns() + FLUSH_RETRY_NS);
}

void *engine_flush_main(void *context)
{
    struct engine *engine = context;

    lock_acquire(&engine->write_lock);
    for (;;) {
        struct generation *generation = engine->generations;
        bool can_retry;
        int result;

        if (generation == NULL || engine_latched(engine) ||
            (engine->stopping && engine->flush_starved != 0)) {
            if (engine->stopping)
                break;
            lock_wait(&engine->write_lock, &engine->flush_wanted);
            continue;
        }
        lock_release(&engine->write_lock);
        result = flush_generation(engine, generation);
        if (result == 0 && generation->checkpoint != NULL)
            engine_checkpoint_queue(engine, generation->checkpoint);
        engine_collect(engine);
        atomic_store(&engine->last_flush_ns, clock_monotonic_ns());
        engine_compaction_wake(engine);
        can_retry = engine_can_retry(engine, result);
        if (result < 0 && !can_retry)
            engine_failed(engine, result, "flush");
        lock_acquire(&engine->write_lock);
        if (can_retry) {
            flush_wait_out_locked(engine, result);
            continue;
        }
        engine->flush_starved = 0;
        if (result < 0) {
            engine_wake_locked(engine);
            continue;
        }
        engine->generations = generation->next;
        if (engine->generations == NULL)
            engine->generations_tail = &engine->generations;
        engine->generation_count--;
        engine->flushed_sequence = generation->last_sequence;
        pthread_cond_broadcast(&engine->flush_wanted);
        pthread_cond_broadcast(&engine->room);
        memtable_unref(generation->memtable);
        table_meta_free(&generation->meta);
        checkpoint_unref(generation->checkpoint);
        free(generation);
    }
    lock_release(&engine->write_lock);
    return NULL;
}

int engine_flush(struct engine *engine)
{
    uint64_t wanted;
    int result = 0;

    if (engine_is_frozen(engine))
        return 0;
    lock_acquire(&engine->write_lock);
    wanted = engine->next_sequence - 1;
    if (memtable_count(engine->super->memtables[0]) > 0)
        result = engine_freeze_locked(engine);
    while (result == 0 && engine->generations != NULL && engine->flushed_sequence < wanted) {
        if (engine_latched(engine))
            result = ERROR_LATCHED;
        else if (engine->flush_starved != 0)
            result = engine->flush_starved;
        else
            lock_wait(&engine->write_lock, &engine->flush_wanted);
    }
    lock_release(&engine->write_lock);
    return result;
}
