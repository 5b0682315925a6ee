/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine_statistics.c - the numbers an operator needs, gathered from every part
 */
#include "engine/engine_internal.h"

static void statistics_of_version(struct engine *engine, struct engine_statistics *ret)
{
    struct superversion *super = engine_super(engine);
    const struct version *version = super->version;

    for (size_t i = 0; i < super->memtable_count; i++)
        ret->memtable_bytes += memtable_size_bytes(super->memtables[i]);
    ret->frozen_memtables = super->memtable_count > 0 ? super->memtable_count - 1 : 0;
    for (uint32_t level = 0; level < VERSION_LEVELS; level++) {
        ret->levels[level] = version->counts[level];
        ret->level_bytes[level] = version->level_bytes[level];
        ret->tables += version->counts[level];
        ret->table_bytes += version->level_bytes[level];
    }
    for (size_t i = 0; i < version->blob_count; i++)
        ret->blob_live_bytes += version->blobs[i].bytes;
    superversion_unref(super);
}

static void statistics_of_lists(struct engine *engine, struct engine_statistics *ret)
{
    lock_shared_acquire_read(&engine->catalogue_lock);
    ret->blobs = engine->catalogue_count;
    for (size_t i = 0; i < engine->catalogue_count; i++)
        ret->blob_bytes += engine->catalogue[i].file_size_bytes;
    lock_shared_release(&engine->catalogue_lock);
    lock_acquire(&engine->checkpoint_lock);
    ret->checkpoints = engine->checkpoint_count;
    for (size_t i = 0; i < engine->checkpoint_count; i++)
        ret->checkpoints_pending += engine->checkpoints[i]->state < CHECKPOINT_READY;
    ret->checkpoints_deleting = engine->deleting_count;
    lock_release(&engine->checkpoint_lock);
    lock_acquire(&engine->view_lock);
    ret->views = engine->view_count;
    for (const struct obsolete *entry = engine->obsolete; entry != NULL; entry = entry->next)
        ret->deletions_pending++;
    lock_release(&engine->view_lock);
}

_Static_assert(sizeof(struct engine_statistics) % sizeof(uint64_t) == 0, "numbers of 64 bits");

/* One by one while others count; they only grow. */
static void copy_counters(const struct engine_statistics *from, struct engine_statistics *to)
{
    const uint64_t *numbers = (const uint64_t *)from;
    uint64_t *copies = (uint64_t *)to;

    for (size_t i = 0; i < sizeof *from / sizeof *numbers; i++)
        copies[i] = __atomic_load_n(&numbers[i], __ATOMIC_RELAXED);
}

void engine_get_statistics(struct engine *engine, struct engine_statistics *ret)
{
    struct block_cache_statistics cache;

    copy_counters(&engine->counters, ret);
    ret->sequence = engine_sequence(engine);
    ret->durable_sequence = atomic_load(&engine->durable_sequence);
    ret->unclean_starts = engine->unclean_starts;
    statistics_of_version(engine, ret);
    statistics_of_lists(engine, ret);
    block_cache_get_statistics(engine->cache, &cache);
    ret->cache_hits = cache.hits;
    ret->cache_misses = cache.misses;
    ret->cache_bytes = cache.size_bytes;
    ret->cache_evictions = cache.evictions;
    if (engine->wal != NULL) {
        struct wal_statistics wal;

        wal_get_statistics(engine->wal, &wal);
        ret->wal_segments = wal.segments_live;
        ret->wal_bytes = wal.bytes;
    }
    if (engine->blob_writer != NULL) {
        struct blob_writer_statistics blobs;

        blob_writer_get_statistics(engine->blob_writer, &blobs);
        ret->blob_raw_bytes = blobs.raw_bytes;
        ret->blob_stored_bytes = blobs.stored_bytes;
        ret->blob_pending_bytes = blobs.pending_bytes;
        ret->blob_waits = blobs.waits;
        ret->blob_syncs_ahead = blobs.syncs_ahead;
    }
    /* Not under its lock: that is held across I/O, and this is asked when a disk hangs. */
    if (engine->manifest != NULL)
        ret->manifest_commits = manifest_commits(engine->manifest);
    io_get_statistics(engine->io, &ret->io);
}
