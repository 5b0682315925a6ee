/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine_checkpoint_view.c - listing checkpoints and reading what they hold
 */
#include <errno.h>
#include <stdlib.h>

#include "engine/engine_internal.h"

static struct engine_checkpoint_info checkpoint_info(const struct checkpoint *checkpoint)
{
    const struct manifest_checkpoint *record = &checkpoint->record;

    return (struct engine_checkpoint_info){
        .id = record->id,
        .sequence = record->sequence,
        .materialised = checkpoint->state == CHECKPOINT_READY,
        .error = checkpoint->error,
        .name = record->name.data,
        .name_size = record->name.size,
        .payload = record->payload.data,
        .payload_size = record->payload.size,
        .linked_files = record->linked_files,
        .linked_bytes = record->linked_bytes,
        .copied_files = record->copied_files,
        .copied_bytes = record->copied_bytes,
    };
}

int engine_checkpoint_each(struct engine *engine, engine_checkpoint_callback *callback,
                           void *context)
{
    int result = 0;

    lock_acquire(&engine->checkpoint_lock);
    for (size_t i = 0; result == 0 && i < engine->checkpoint_count; i++) {
        if (checkpoint_exists(engine->checkpoints[i])) {
            struct engine_checkpoint_info info = checkpoint_info(engine->checkpoints[i]);

            result = callback(context, &info);
        }
    }
    lock_release(&engine->checkpoint_lock);
    return result;
}

int engine_checkpoint_one(struct engine *engine, uint64_t id, engine_checkpoint_callback *callback,
                          void *context)
{
    const struct checkpoint *checkpoint;
    int result = -ENOENT;

    lock_acquire(&engine->checkpoint_lock);
    checkpoint = engine_checkpoint_find_locked(engine, id);
    if (checkpoint != NULL) {
        struct engine_checkpoint_info info = checkpoint_info(checkpoint);

        result = callback(context, &info);
    }
    lock_release(&engine->checkpoint_lock);
    return result;
}

/* The live view of a checkpoint whose directory is not there yet, once more. */
static struct engine_view *view_duplicate(struct engine_view *from)
{
    struct engine *engine = from->engine;
    struct engine_view *view = calloc(1, sizeof *view);

    if (view == NULL)
        return NULL;
    lock_acquire(&engine->view_lock);
    *view = *from; /* neighbours in the list write to its pin */
    superversion_ref(view->super);
    /* Beside the original: the list stays in order of epochs. */
    view->pin.previous = &from->pin;
    view->pin.next = from->pin.next;
    from->pin.next->previous = &view->pin;
    from->pin.next = &view->pin;
    engine->view_count++;
    lock_release(&engine->view_lock);
    return view;
}

int checkpoint_sealed_read(struct engine *engine, struct io_file *directory, uint64_t id,
                           struct sealed_manifest *ret_sealed)
{
    const struct checkpoint *checkpoint;
    struct checksum128 hash;
    int result = sealed_manifest_read(engine->io, directory, ret_sealed, &hash);

    if (result < 0) /* inside of a store it has been a checkpoint, and is damaged */
        return result == ERROR_NOT_STORE || result == -ENOENT ? ERROR_CORRUPT : result;
    lock_acquire(&engine->checkpoint_lock);
    checkpoint = engine_checkpoint_find_locked(engine, id);
    /* The hash is that of all it says: its number, its sequence number, its parent. */
    if (checkpoint != NULL && !checksum128_equal(hash, checkpoint->record.manifest_hash))
        result = ERROR_CORRUPT;
    lock_release(&engine->checkpoint_lock);
    if (result < 0)
        log_error("%s: the sealed manifest of checkpoint %llu is not the one that was written",
                  engine->path, (unsigned long long)id);
    return result;
}

static int view_open(struct engine *engine, const char *name, uint64_t id, uint64_t sequence,
                     struct engine_view **ret_view)
{
    struct sealed_manifest manifest = {0};
    struct io_file *directory = NULL;
    struct engine_view *view = calloc(1, sizeof *view);
    int result = view != NULL ? 0 : -ENOMEM;

    if (result == 0)
        result =
            io_open(engine->io, engine->store->checkpoints, name, IO_OPEN_DIRECTORY, 0, &directory);
    if (result == -ENOENT || result == -ENOTDIR)
        result = ERROR_CORRUPT; /* it is not gone: the manifest has it */
    if (result == 0)
        result = checkpoint_sealed_read(engine, directory, id, &manifest);
    if (result == 0)
        result =
            checkpoint_source_open(engine, directory, &manifest, &view->version, &view->source);
    io_close(engine->io, directory);
    sealed_manifest_free(&manifest);
    if (result < 0) {
        free(view);
        return result;
    }
    view->engine = engine;
    view->blobs = view->source->blobs;
    view->sequence = sequence;
    *ret_view = view;
    return 0;
}

/* Opening it failed. 1: under its new name it may succeed; or the error that there is. */
static int why_not_opened(struct engine *engine, const struct checkpoint *checkpoint,
                          const char *name, uint64_t renames, int error)
{
    bool is_deleted, is_renamed;

    lock_acquire(&engine->names_lock); /* a rename that is under way ends first */
    lock_acquire(&engine->checkpoint_lock);
    is_renamed = checkpoint->renames != renames;
    is_deleted = checkpoint->state == CHECKPOINT_DELETING;
    lock_release(&engine->checkpoint_lock);
    lock_release(&engine->names_lock);
    if (is_deleted)
        return -ENOENT;
    if (is_renamed)
        return 1;
    log_error("snapshot %s cannot be opened: %s", name, error_text(error));
    return error;
}

/* One try; 1: to be tried again. */
static int view_try(struct engine *engine, uint64_t id, struct engine_view **ret_view)
{
    struct checkpoint *checkpoint;
    struct engine_view *view = NULL;
    uint64_t sequence = 0, renames = 0;
    char name[256];
    int result = 0;

    lock_acquire(&engine->checkpoint_lock);
    checkpoint = engine_checkpoint_find_locked(engine, id);
    if (checkpoint == NULL) {
        result = -ENOENT;
    } else if (checkpoint->view != NULL) {
        view = view_duplicate(checkpoint->view);
        result = view != NULL ? 0 : -ENOMEM;
    } else {
        checkpoint_record_name(&checkpoint->record, name);
        sequence = checkpoint->record.sequence;
        renames = checkpoint->renames;
        checkpoint->open_views++; /* before its files could go */
        checkpoint_ref(checkpoint);
    }
    lock_release(&engine->checkpoint_lock);
    if (result < 0)
        return result;
    if (view == NULL) {
        result = view_open(engine, name, id, sequence, &view);
        if (result < 0) {
            result = why_not_opened(engine, checkpoint, name, renames, result);
            engine_checkpoint_view_closed(engine, checkpoint);
            return result;
        }
        view->checkpoint = checkpoint;
    }
    *ret_view = view;
    return 0;
}

int engine_checkpoint_view(struct engine *engine, uint64_t id, struct engine_view **ret_view)
{
    int result;

    do
        result = view_try(engine, id, ret_view);
    while (result > 0);
    return result;
}

void engine_checkpoint_view_closed(struct engine *engine, struct checkpoint *checkpoint)
{
    bool begin;

    lock_acquire(&engine->checkpoint_lock);
    invariant(checkpoint->open_views > 0);
    checkpoint->open_views--;
    begin = checkpoint->open_views == 0 && checkpoint->deletion_waits;
    if (begin)
        checkpoint->deletion_waits = false;
    lock_release(&engine->checkpoint_lock);
    if (begin)
        engine_checkpoint_queue(engine, checkpoint);
    checkpoint_unref(checkpoint);
}

int engine_sealed_info(struct engine *engine, struct engine_checkpoint_info *ret_info,
                       uint64_t *ret_created_s, uint32_t *ret_created_ns)
{
    const struct sealed_manifest *sealed = engine->sealed;

    *ret_info = (struct engine_checkpoint_info){0};
    if (sealed == NULL)
        return 0;
    *ret_info = (struct engine_checkpoint_info){
        .id = sealed->checkpoint_id,
        .sequence = sealed->sequence,
        .materialised = true,
        .name = sealed->name.data,
        .name_size = sealed->name.size,
        .payload = sealed->payload.data,
        .payload_size = sealed->payload.size,
    };
    *ret_created_s = sealed->created_s;
    *ret_created_ns = sealed->created_ns;
    return 0;
}
