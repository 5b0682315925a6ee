/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine.c - opening, closing, the latch, options
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "engine/engine_internal.h"

#define CHANGE_LOG_ENTRIES_MAX 4096
#define MANIFEST_MAP_BYTES     (64 * 1024 * 1024)

void engine_options_default(struct engine_options *options)
{
    *options = (struct engine_options){
        .memtable_bytes = 32 * 1024 * 1024,
        .memtables_max = 3,
        .block_cache_bytes = 64 * 1024 * 1024,
        .wal_segment_bytes = 16 * 1024 * 1024,
        .wal_buffer_bytes = 8 * 1024 * 1024,
        .blob_buffers = 16,
        .blob_sync_ahead_bytes = 4 * 1024 * 1024,
        .sync_window_ms = 1000,
        .descriptors_max = 256,
        .table_bytes = 16 * 1024 * 1024,
        .level_base_bytes = 64 * 1024 * 1024,
        .io_deadline_ms = 30000,
        .alert_second_ms = 1000,
    };
}

/* ---- the latch ---- */

int engine_latch(struct engine *engine, int error, const char *what)
{
    int none = 0;

    if (error == ERROR_LATCHED)
        return error;
    lock_acquire(&engine->latch_lock);
    if (atomic_compare_exchange_strong(&engine->latch_error, &none, error)) {
        snprintf(engine->latch_text, sizeof engine->latch_text, "%s: %s", what, error_text(error));
        log_error("store %s is read-only from now on: %s", engine->path, engine->latch_text);
    }
    lock_release(&engine->latch_lock);
    return error;
}

/* What the log or the blob writer keep: their threads meet errors that nobody has asked for yet. */
static int kept_error(struct engine *engine, const char **ret_what)
{
    int error;

    *ret_what = "write-ahead log";
    if (engine->wal == NULL)
        return 0;
    error = wal_error(engine->wal);
    if (error != 0)
        return error;
    *ret_what = "blob data";
    return blob_writer_error(engine->blob_writer);
}

bool engine_can_retry(struct engine *engine, int error)
{
    const char *what;

    return error_is_shortage(error) && engine->wal != NULL && kept_error(engine, &what) == 0 &&
           !manifest_is_poisoned(engine->manifest);
}

int engine_failed(struct engine *engine, int error, const char *what)
{
    const char *kept_what;
    int kept;

    if (engine_can_retry(engine, error))
        return error;
    kept = error_is_shortage(error) ? kept_error(engine, &kept_what) : 0;
    if (kept != 0)
        (void)engine_latch(engine, kept, kept_what);
    else
        (void)engine_latch(engine, error, what);
    return error;
}

bool engine_latched(const struct engine *engine)
{
    return atomic_load_explicit(&engine->latch_error, memory_order_acquire) != 0;
}

int engine_latch_reason(struct engine *engine, const char **ret_text)
{
    int error = atomic_load_explicit(&engine->latch_error, memory_order_acquire);

    if (error != 0 && ret_text != NULL) {
        lock_acquire(&engine->latch_lock); /* the text is complete once the lock is free */
        *ret_text = engine->latch_text;
        lock_release(&engine->latch_lock);
    }
    return error;
}

void engine_wake_locked(struct engine *engine)
{
    pthread_cond_broadcast(&engine->room);
    pthread_cond_broadcast(&engine->commit_done);
    pthread_cond_broadcast(&engine->log_wanted);
    pthread_cond_broadcast(&engine->flush_wanted);
}

void engine_cut(struct engine *engine)
{
    engine_latch(engine, -ESHUTDOWN, "cut off on request");
    io_cut(engine->io);
    manifest_poison(engine->manifest);
    lock_acquire(&engine->write_lock);
    engine_wake_locked(engine);
    lock_release(&engine->write_lock);
}

/* ---- construction ---- */

static struct engine *engine_new(const struct engine_options *options)
{
    struct engine *engine = calloc(1, sizeof *engine);

    if (engine == NULL)
        return NULL;
    engine->options = *options;
    engine->io = options->io;
    engine->path = strdup(options->path);
    read_around_budget_init_default(&engine->read_around);
    engine->pins.next = engine->pins.previous = &engine->pins;
    engine->epoch = 1;
    engine->fills_tail = &engine->fills;
    engine->generations_tail = &engine->generations;
    engine->jobs_tail = &engine->jobs;
    lock_init(&engine->latch_lock, LOCK_RANK_LEAF);
    lock_init(&engine->write_lock, LOCK_RANK_ENGINE_WRITE);
    lock_init(&engine->view_lock, LOCK_RANK_ENGINE_VIEW);
    lock_init(&engine->names_lock, LOCK_RANK_ENGINE_NAMES);
    lock_init(&engine->install_lock, LOCK_RANK_ENGINE_INSTALL);
    lock_init(&engine->checkpoint_lock, LOCK_RANK_ENGINE_CHECKPOINT);
    lock_init(&engine->work_lock, LOCK_RANK_LEAF);
    lock_shared_init(&engine->catalogue_lock, LOCK_RANK_TABLE_CACHE);
    lock_condition_init(&engine->room);
    lock_condition_init(&engine->commit_done);
    lock_condition_init(&engine->log_wanted);
    lock_condition_init(&engine->flush_wanted);
    lock_condition_init(&engine->checkpoint_changed);
    lock_condition_init(&engine->work_wanted);
    lock_condition_init(&engine->work_done);
    return engine;
}

static void engine_free(struct engine *engine)
{
    engine_monitor_end_alerts(engine->monitor);
    engine_witness_close(engine);
    blob_writer_close(engine->blob_writer);
    crew_close(engine->crew);
    wal_close(engine->wal);
    superversion_unref(engine->super);
    for (size_t i = 0; i < engine->checkpoint_count; i++)
        checkpoint_unref(engine->checkpoints[i]);
    while (engine->generations != NULL) {
        struct generation *next = engine->generations->next;

        memtable_unref(engine->generations->memtable);
        table_meta_free(&engine->generations->meta);
        checkpoint_unref(engine->generations->checkpoint);
        free(engine->generations);
        engine->generations = next;
    }
    while (engine->fills != NULL) {
        struct fill *next = engine->fills->next;

        engine_fill_free(engine->fills);
        engine->fills = next;
    }
    engine_fill_free(engine->fill);
    engine_fill_free(engine->spare_fill);
    engine_obsolete_free(engine);
    blob_reader_close(engine->blob_reader);
    checkpoint_source_free(engine->sealed_source);
    checkpoint_plan_free(engine->sealed);
    block_cache_free(engine->cache);
    manifest_close(engine->manifest);
    store_close(engine->store);
    engine_monitor_stop(engine->monitor); /* what was closed could hang, too */
    free(engine->checkpoints);
    free(engine->catalogue);
    free(engine->adopted);
    lock_destroy(&engine->latch_lock);
    lock_destroy(&engine->write_lock);
    lock_destroy(&engine->view_lock);
    lock_destroy(&engine->install_lock);
    lock_destroy(&engine->names_lock);
    lock_destroy(&engine->checkpoint_lock);
    lock_destroy(&engine->work_lock);
    lock_shared_destroy(&engine->catalogue_lock);
    pthread_cond_destroy(&engine->room);
    pthread_cond_destroy(&engine->commit_done);
    pthread_cond_destroy(&engine->log_wanted);
    pthread_cond_destroy(&engine->flush_wanted);
    pthread_cond_destroy(&engine->checkpoint_changed);
    pthread_cond_destroy(&engine->work_wanted);
    pthread_cond_destroy(&engine->work_done);
    free(engine->path);
    free(engine);
}

/* ---- opening ---- */

/* A checkpoint directory: its sealed manifest is all there is. */
static int open_checkpoint(struct engine *engine)
{
    struct version *version = NULL;
    struct checksum128 hash;
    int result;

    engine->sealed = calloc(1, sizeof *engine->sealed);
    if (engine->sealed == NULL)
        return -ENOMEM;
    result = sealed_manifest_read(engine->io, engine->store->root, engine->sealed, &hash);
    if (result == 0 &&
        memcmp(engine->sealed->store_uuid, engine->store->format.uuid, STORE_UUID_SIZE) != 0)
        result = ERROR_FOREIGN;
    if (result == 0)
        result = checkpoint_source_open(engine, engine->store->root, engine->sealed, &version,
                                        &engine->sealed_source);
    for (size_t i = 0; result == 0 && i < engine->sealed->blob_count; i++) {
        char name[CHUNK_NAME_SIZE];
        struct stat status;

        chunk_name(name, &engine->sealed->blobs[i]);
        result = io_stat_at(engine->io, engine->sealed_source->chunk_directory, name, &status);
        if (result == -ENOENT) {
            log_error("%s: chunk %s is missing", engine->path, name);
            result = ERROR_MISSING_CHUNK;
        } else if (result == 0 &&
                   (uint64_t)status.st_size != engine->sealed->blobs[i].file_size_bytes) {
            log_error("%s: chunk %s has the wrong size", engine->path, name);
            result = ERROR_TRUNCATED;
        }
    }
    for (uint32_t level = 0; result == 0 && level < VERSION_LEVELS; level++) {
        for (size_t i = 0; result == 0 && i < version->counts[level]; i++) {
            struct table_reader *reader;

            result = version_table_reader(version->levels[level][i], &reader);
        }
    }
    if (result == 0) {
        engine->super = superversion_new(version, NULL, 0);
        result = engine->super != NULL ? 0 : -ENOMEM;
        engine->blob_reader = engine->sealed_source->blobs;
        engine->sealed_source->blobs = NULL;
        atomic_store(&engine->visible_sequence, engine->sealed->sequence);
        atomic_store(&engine->durable_sequence, engine->sealed->sequence);
        engine->next_sequence = engine->sealed->sequence + 1;
    }
    version_unref(version);
    return result;
}

static int open_live(struct engine *engine)
{
    struct manifest_options options = {
        .map_size_bytes = MANIFEST_MAP_BYTES,
        .change_log_entries_max = CHANGE_LOG_ENTRIES_MAX,
        .io = engine->io,
    };
    char path[4096];
    int result;

    if (snprintf(path, sizeof path, "%s/manifest", engine->store->path) >= (int)sizeof path)
        return -ENAMETOOLONG;
    options.path = path;
    options.read_only = engine->frozen;
    result = manifest_open(&options, &engine->manifest);
    if (result == 0)
        result = engine->frozen ? engine_recover_nothing(engine) : engine_recover(engine);
    return result;
}

int engine_start_thread(pthread_t *thread, bool *started, const char *name, void *(*body)(void *),
                        void *context)
{
    int result = pthread_create(thread, NULL, body, context);

    *started = result == 0;
    if (result == 0)
        (void)pthread_setname_np(*thread, name); /* for top -H and ps -L */
    return -result;
}

static int start_threads(struct engine *engine)
{
    int result = engine_start_thread(&engine->log_thread, &engine->log_started, "varve-log",
                                     engine_log_main, engine);

    if (result == 0)
        result = engine_start_thread(&engine->flush_thread, &engine->flush_started, "varve-flush",
                                     engine_flush_main, engine);
    if (result == 0)
        result = engine_start_thread(&engine->compaction_thread, &engine->compaction_started,
                                     "varve-compact", engine_compaction_main, engine);
    if (result == 0)
        result = engine_start_thread(&engine->checkpoint_thread, &engine->checkpoint_started,
                                     "varve-snapshot", engine_checkpoint_main, engine);
    if (result == 0)
        engine_compaction_wake(engine);
    return result;
}

static void stop_threads(struct engine *engine)
{
    lock_acquire(&engine->write_lock);
    engine->stopping = true;
    engine_wake_locked(engine);
    lock_release(&engine->write_lock);
    if (engine->log_started)
        pthread_join(engine->log_thread, NULL);
    if (engine->flush_started)
        pthread_join(engine->flush_thread, NULL);
    lock_acquire(&engine->checkpoint_lock);
    engine->checkpoint_stopping = true;
    pthread_cond_broadcast(&engine->checkpoint_changed);
    lock_release(&engine->checkpoint_lock);
    if (engine->checkpoint_started)
        pthread_join(engine->checkpoint_thread, NULL);
    if (engine->compaction_started) {
        engine_compaction_wake(engine);
        pthread_join(engine->compaction_thread, NULL);
    }
}

/* A live store opened read-only may need its log replayed, as any journalled filesystem does. */
static int open_store(struct engine *engine, const struct engine_options *options)
{
    int result =
        options->frozen ? -EROFS : store_open(engine->io, options->path, true, &engine->store);

    if (result != -EROFS)
        return result;
    engine->frozen = true;
    result = store_open(engine->io, options->path, false, &engine->store);
    if (result == 0 && engine->store->kind == STORE_LIVE && !options->read_only && !options->frozen)
        result = -EROFS;
    return result;
}

int engine_open(const struct engine_options *options, struct engine **ret_engine)
{
    struct engine *engine = engine_new(options);
    int result;

    if (engine == NULL || engine->path == NULL) {
        free(engine);
        return -ENOMEM;
    }
    result = engine_monitor_start(engine);
    if (result == 0)
        result = open_store(engine, options);
    if (result < 0)
        goto fail;
    engine->cache = block_cache_new(options->block_cache_bytes);
    if (engine->cache == NULL) {
        result = -ENOMEM;
        goto fail;
    }
    engine->source =
        (struct version_source){engine->io, engine->store->chunks,
                                store_format_chunk_uuid(&engine->store->format), engine->cache};
    if (!engine->frozen)
        engine->crew = crew_open(BLOB_APPEND_FRAMES_MAX - 1);
    result = engine->store->kind == STORE_CHECKPOINT ? open_checkpoint(engine) : open_live(engine);
    if (result < 0)
        goto fail;
    engine->read_only = engine->frozen;
    if (!engine->frozen) {
        engine->read_only = options->read_only; /* before the compaction thread looks */
        result = start_threads(engine);
        if (result < 0) {
            stop_threads(engine);
            goto fail;
        }
    }
    engine_monitor_begin_alerts(engine->monitor);
    *ret_engine = engine;
    return 0;
fail:
    engine_free(engine);
    return result;
}

/* ---- closing ---- */

static int mark_clean(struct engine *engine)
{
    struct manifest_scalars scalars;
    struct manifest_edit edit = {.scalars = &scalars};
    int result;

    lock_acquire(&engine->install_lock);
    engine_scalars_locked(engine, &scalars);
    scalars.clean = true;
    result = manifest_commit(engine->manifest, &edit);
    lock_release(&engine->install_lock);
    return result;
}

int engine_close(struct engine *engine)
{
    int result = 0, flushed = 0;

    if (!engine->frozen) {
        if (engine_latched(engine))
            result = ERROR_LATCHED;
        if (result == 0)
            result = engine_sync(engine, engine_sequence(engine));
        if (result == 0)
            flushed = engine_flush(engine);
        stop_threads(engine);
        if (result == 0 && engine_latched(engine))
            result = ERROR_LATCHED;
        if (result == 0 && flushed == 0)
            flushed = mark_clean(engine);
        if (result == 0 && error_is_shortage(flushed))
            log_warning("store %s: closed without a flush: %s; the log has everything, and the "
                        "next opening replays it",
                        engine->path, error_text(flushed));
        else if (result == 0)
            result = flushed;
    }
    engine_free(engine);
    return result;
}

/* ---- small questions ---- */

bool engine_is_read_only(const struct engine *engine)
{
    return engine->read_only;
}

bool engine_is_frozen(const struct engine *engine)
{
    return engine->frozen;
}

int engine_set_read_only(struct engine *engine, bool read_only)
{
    if (engine_is_frozen(engine))
        return read_only ? 0 : -EROFS;
    engine_compaction_set_read_only(engine, read_only);
    lock_acquire(&engine->write_lock);
    engine_wake_locked(engine); /* who waited for a compaction */
    lock_release(&engine->write_lock);
    return 0;
}

const uint8_t *engine_uuid(const struct engine *engine)
{
    return engine->store->format.uuid;
}

uint64_t engine_sequence(struct engine *engine)
{
    return atomic_load_explicit(&engine->visible_sequence, memory_order_acquire);
}

static int blob_append_begin(struct engine *engine, uint64_t size_bytes)
{
    if (engine->read_only)
        return -EROFS;
    if (engine_latched(engine))
        return ERROR_LATCHED;
    return engine_space_take(engine, size_bytes);
}

static int blob_append(struct engine *engine, const void *data, uint32_t size,
                       enum blob_effort effort, struct blob_ref *ret_ref)
{
    int result = blob_append_begin(engine, size);

    if (result < 0)
        return result;
    result = blob_writer_append(engine->blob_writer, data, size, effort, ret_ref);
    if (result < 0 && result != -EINVAL)
        engine_failed(engine, result, "blob data");
    return result;
}

int engine_blob_append(struct engine *engine, const void *data, uint32_t size,
                       struct blob_ref *ret_ref)
{
    return blob_append(engine, data, size, BLOB_COMPRESS, ret_ref);
}

int engine_blob_append_as_is(struct engine *engine, const void *data, uint32_t size,
                             struct blob_ref *ret_ref)
{
    return blob_append(engine, data, size, BLOB_AS_IS, ret_ref);
}

int engine_blob_append_frames(struct engine *engine, const void *data, size_t count,
                              struct blob_ref *ret_refs)
{
    int result = blob_append_begin(engine, count * BLOB_FRAME_SIZE_MAX);

    if (result < 0)
        return result;
    result = blob_writer_append_frames(engine->blob_writer, data, count, ret_refs);
    if (result < 0 && result != -EINVAL)
        engine_failed(engine, result, "blob data");
    return result;
}
