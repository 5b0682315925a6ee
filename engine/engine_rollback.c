/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine_rollback.c - the state becomes that of a checkpoint
 *
 * Nothing is rewritten: the checkpoint's tables take the place of the present ones, in one commit
 * of the manifest. Why that is right: the newest number of a key wins among the tables there are,
 * so with the checkpoint's tables alone the state is the checkpoint's; what is written later has
 * higher numbers than anything before, because numbers go on where they are. Memtables are flushed
 * before, which also moves the log's start past everything that is undone. Before the commit a
 * crash leaves the state as it was, after it the new one.
 *
 * Chunks that the live store has lost since are linked back from the checkpoint's directory, and
 * durable with their link counts before the commit names them.
 */
#include <errno.h>
#include <stdlib.h>

#include "engine/base/blocking.h"
#include "engine/engine_internal.h"

struct rollback {
    struct engine *engine;
    struct sealed_manifest sealed;
    struct io_file *directory, *chunks; /* of the checkpoint */
    uint64_t keep_above; /* tables with only higher numbers stay: what was written with it */
    struct version *old; /* the present version; install_lock held while it counts */
    uint64_t *remove;
    size_t remove_count;
    struct version_table **tables; /* the checkpoint's */
    size_t table_count;
    struct manifest_table *records; /* of them */
    struct chunk_identity *blobs;   /* that the catalogue lacks */
    size_t blob_count;
    bool linked;
};

/* ---- the checkpoint ---- */

static int open_checkpoint(struct rollback *rollback, uint64_t id)
{
    struct engine *engine = rollback->engine;
    const struct checkpoint *checkpoint;
    char name[256] = "";
    int result = engine_checkpoint_wait(engine, id);

    if (result < 0)
        return result;
    lock_acquire(&engine->checkpoint_lock);
    checkpoint = engine_checkpoint_find_locked(engine, id);
    if (checkpoint != NULL)
        memcpy(name, checkpoint->record.name.data, checkpoint->record.name.size);
    lock_release(&engine->checkpoint_lock);
    if (checkpoint == NULL)
        return -ENOENT;
    result = io_open(engine->io, engine->store->checkpoints, name, IO_OPEN_DIRECTORY, 0,
                     &rollback->directory);
    if (result == 0)
        result = checkpoint_sealed_read(engine, rollback->directory, id, &rollback->sealed);
    if (result == 0)
        result = io_open(engine->io, rollback->directory, "chunks", IO_OPEN_DIRECTORY, 0,
                         &rollback->chunks);
    return result;
}

static void rollback_free(struct rollback *rollback)
{
    for (size_t i = 0; i < rollback->table_count; i++)
        version_table_unref(rollback->tables[i]);
    free(rollback->tables);
    free(rollback->records);
    free(rollback->remove);
    free(rollback->blobs);
    version_unref(rollback->old);
    sealed_manifest_free(&rollback->sealed);
    io_close(rollback->engine->io, rollback->chunks);
    io_close(rollback->engine->io, rollback->directory);
}

/* ---- chunks ---- */

/* The chunk is a file of chunks/: it may be there still, waiting for its deletion. */
static int bring_back(struct rollback *rollback, const struct chunk_identity *identity)
{
    struct engine *engine = rollback->engine;
    char name[CHUNK_NAME_SIZE];
    int result;

    chunk_name(name, identity);
    result = checkpoint_files_link(engine->io, rollback->chunks, engine->store->chunks, name);
    if (result == -EEXIST)
        return 0;
    if (result < 0) {
        log_error("rollback: chunk %s: %s", name, error_text(result));
        return result == -ENOENT ? ERROR_MISSING_CHUNK : result;
    }
    rollback->linked = true;
    return 0;
}

static struct version_table *find_table(const struct version *version, uint64_t id)
{
    for (uint32_t level = 0; level < VERSION_LEVELS; level++)
        for (size_t i = 0; i < version->counts[level]; i++)
            if (version->levels[level][i]->meta.identity.id == id)
                return version->levels[level][i];
    return NULL;
}

/* An object for a table of the checkpoint: the present one where it has the same place. */
static int take_table(struct rollback *rollback, const struct manifest_table *entry)
{
    struct version_table *present = find_table(rollback->old, entry->meta.identity.id);
    struct version_table *table;
    struct table_meta meta = {0};
    int result = 0;

    if (present != NULL && present->level == entry->level && present->order == entry->order) {
        table = version_table_ref(present);
    } else {
        if (present == NULL)
            result = bring_back(rollback, &entry->meta.identity);
        if (result == 0)
            result = table_meta_copy(&entry->meta, &meta);
        if (result < 0)
            return result;
        table = version_table_new(&rollback->engine->source, entry->level, entry->order, &meta);
        if (table == NULL) {
            table_meta_free(&meta);
            return -ENOMEM;
        }
    }
    rollback->records[rollback->table_count] = *entry; /* borrows what the sealed manifest owns */
    rollback->tables[rollback->table_count++] = table;
    return 0;
}

static int take_tables(struct rollback *rollback)
{
    const struct sealed_manifest *sealed = &rollback->sealed;
    int result = 0;

    rollback->tables = calloc(sealed->table_count + 1, sizeof(struct version_table *));
    rollback->records = calloc(sealed->table_count + 1, sizeof *rollback->records);
    if (rollback->tables == NULL || rollback->records == NULL)
        return -ENOMEM;
    for (size_t i = 0; result == 0 && i < sealed->table_count; i++)
        result = take_table(rollback, &sealed->tables[i]);
    return result;
}

static int take_blobs(struct rollback *rollback)
{
    const struct sealed_manifest *sealed = &rollback->sealed;
    int result = 0;

    rollback->blobs = calloc(sealed->blob_count + 1, sizeof *rollback->blobs);
    if (rollback->blobs == NULL)
        return -ENOMEM;
    for (size_t i = 0; result == 0 && i < sealed->blob_count; i++) {
        if (catalogue_find(rollback->engine, sealed->blobs[i].id, NULL))
            continue;
        rollback->blobs[rollback->blob_count++] = sealed->blobs[i];
        result = bring_back(rollback, &sealed->blobs[i]);
    }
    return result;
}

/* Link counts too: without a journal only this writes them down (checkpoint_files.c). */
static int sync_links(struct rollback *rollback)
{
    struct engine *engine = rollback->engine;
    int result = 0;

    if (rollback->linked)
        result = io_sync_filesystem(engine->io, engine->store->chunks);
    if (result < 0)
        engine_latch(engine, result, "linking chunks");
    return result;
}

/* All present tables but those written for the rollback itself. */
static int list_removed(struct rollback *rollback)
{
    const struct version *old = rollback->old;
    size_t total = 0;

    for (uint32_t level = 0; level < VERSION_LEVELS; level++)
        total += old->counts[level];
    rollback->remove = calloc(total + 1, sizeof *rollback->remove);
    if (rollback->remove == NULL)
        return -ENOMEM;
    for (uint32_t level = 0; level < VERSION_LEVELS; level++)
        for (size_t i = 0; i < old->counts[level]; i++)
            if (old->levels[level][i]->meta.smallest_sequence <= rollback->keep_above)
                rollback->remove[rollback->remove_count++] =
                    old->levels[level][i]->meta.identity.id;
    return 0;
}

/* ---- the commit ---- */

/* install_lock held. */
static int install(struct rollback *rollback)
{
    struct engine *engine = rollback->engine;
    struct superversion *super = engine_super(engine);
    struct manifest_edit edit;
    int result;

    rollback->old = version_ref(super->version);
    superversion_unref(super);
    result = take_tables(rollback);
    if (result == 0)
        result = take_blobs(rollback);
    if (result == 0)
        result = sync_links(rollback);
    if (result == 0)
        result = list_removed(rollback);
    if (result == 0)
        result = catalogue_add(engine, rollback->blobs, rollback->blob_count);
    if (result < 0)
        return result; /* files that were linked are nobody's: the next start removes them */
    edit = (struct manifest_edit){
        .add_tables = rollback->records,
        .add_table_count = rollback->table_count,
        .remove_tables = rollback->remove,
        .remove_table_count = rollback->remove_count,
        .add_blobs = rollback->blobs,
        .add_blob_count = rollback->blob_count,
    };
    result = engine_install_locked(engine, &edit, rollback->tables, rollback->table_count, NULL);
    if (result < 0)
        catalogue_remove_all(engine, rollback->blobs, rollback->blob_count);
    return result;
}

/* Tables of the old version that the new one has not; install_lock held. */
static void obsolete_replaced(struct rollback *rollback)
{
    struct superversion *super = engine_super(rollback->engine);

    engine_obsolete_revive(rollback->engine, super->version);
    for (uint32_t level = 0; level < VERSION_LEVELS; level++) {
        for (size_t i = 0; i < rollback->old->counts[level]; i++) {
            const struct chunk_identity *identity = &rollback->old->levels[level][i]->meta.identity;

            if (find_table(super->version, identity->id) == NULL)
                engine_obsolete_table(rollback->engine, identity);
        }
    }
    superversion_unref(super);
}

/* Flush, so that the tables are the state; `also` in a table of its own. */
static int flush_all(struct rollback *rollback, const struct batch *also)
{
    struct engine *engine = rollback->engine;
    int result = engine_flush(engine);

    rollback->keep_above = engine_sequence(engine);
    if (result == 0 && also->count > 0)
        result = engine_write(engine, also, NULL);
    if (result == 0)
        result = engine_flush(engine);
    return result;
}

int engine_rollback(struct engine *engine, uint64_t id, const struct batch *also)
{
    struct rollback rollback = {.engine = engine};
    int result;

    if (engine->read_only)
        return -EROFS;
    if (engine_latched(engine))
        return ERROR_LATCHED;
    blocking_enter();
    result = open_checkpoint(&rollback, id);
    if (result == 0) {
        engine_compaction_pause(engine);
        result = flush_all(&rollback, also);
        if (result == 0) {
            lock_acquire(&engine->install_lock);
            result = install(&rollback);
            if (result == 0)
                obsolete_replaced(&rollback);
            lock_release(&engine->install_lock);
        }
        engine_compaction_resume(engine);
    }
    rollback_free(&rollback);
    return result;
}
