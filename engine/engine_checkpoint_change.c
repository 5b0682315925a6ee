/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine_checkpoint_change.c - waiting for a checkpoint; deleting it, renaming it, its payload
 */
#include <errno.h>
#include <time.h>

#include "engine/base/blocking.h"
#include "engine/engine_internal.h"

/* Wait, under the lock, for the end of materialisation: the checkpoint, or NULL when it is gone. */
static struct checkpoint *wait_locked(struct engine *engine, uint64_t id)
{
    struct checkpoint *checkpoint;

    while ((checkpoint = engine_checkpoint_find_locked(engine, id)) != NULL &&
           ((checkpoint->state == CHECKPOINT_PENDING && checkpoint->error == 0) ||
            checkpoint->is_running) &&
           !engine_latched(engine))
        lock_wait_until(&engine->checkpoint_lock, &engine->checkpoint_changed,
                        clock_monotonic_ns() + 100 * UINT64_C(1000000));
    return checkpoint;
}

int engine_checkpoint_wait(struct engine *engine, uint64_t id)
{
    struct checkpoint *checkpoint;
    int result;

    blocking_enter();
    lock_acquire(&engine->checkpoint_lock);
    checkpoint = wait_locked(engine, id);
    if (checkpoint == NULL)
        result = -ENOENT;
    else if (checkpoint->state == CHECKPOINT_PENDING && checkpoint->error == 0)
        result = ERROR_LATCHED;
    else
        result = checkpoint->error;
    lock_release(&engine->checkpoint_lock);
    return result;
}

/* A copy of the record of a checkpoint that is READY, for a change: 0, -ENOENT, its error. With
 * `also_held_up` one that a shortage keeps from being made will do. */
static int change_begin(struct engine *engine, uint64_t id, bool also_held_up,
                        struct manifest_checkpoint *ret_record, struct checkpoint **ret_checkpoint)
{
    struct checkpoint *checkpoint;
    int result;

    if (engine->read_only)
        return -EROFS;
    if (engine_latched(engine))
        return ERROR_LATCHED;
    blocking_enter();
    lock_acquire(&engine->checkpoint_lock);
    checkpoint = wait_locked(engine, id);
    if (checkpoint == NULL) {
        result = -ENOENT;
    } else if (checkpoint->state != CHECKPOINT_READY &&
               !(also_held_up && checkpoint->state == CHECKPOINT_PENDING &&
                 checkpoint->error != 0)) {
        result = checkpoint->error < 0 ? checkpoint->error : ERROR_LATCHED;
    } else {
        result = manifest_checkpoint_copy(&checkpoint->record, ret_record);
        if (result == 0)
            *ret_checkpoint = checkpoint_ref(checkpoint);
    }
    lock_release(&engine->checkpoint_lock);
    return result;
}

static int change_commit(struct engine *engine, const struct manifest_checkpoint *record)
{
    struct manifest_edit edit = {.put_checkpoint = record};
    int result = manifest_commit(engine->manifest, &edit);

    if (result < 0)
        engine_failed(engine, result, "manifest");
    return result;
}

/* install_lock held: nothing can delete it any more. */
static bool still_exists(struct engine *engine, uint64_t id)
{
    bool exists;

    lock_acquire(&engine->checkpoint_lock);
    exists = engine_checkpoint_find_locked(engine, id) != NULL;
    lock_release(&engine->checkpoint_lock);
    return exists;
}

int engine_checkpoint_delete(struct engine *engine, uint64_t id)
{
    struct manifest_checkpoint record = {0};
    struct checkpoint *checkpoint = NULL;
    char name[256];
    bool waits = false;
    int leases, result;

    result = change_begin(engine, id, true, &record, &checkpoint);
    if (result < 0)
        return result;
    checkpoint_record_name(&record, name);
    lock_acquire(&engine->install_lock);
    leases = manifest_lease_count(engine->manifest, id, (uint64_t)time(NULL));
    if (!still_exists(engine, id)) {
        result = -ENOENT; /* another deletion was faster */
    } else if (leases > 0) {
        result = ERROR_HELD;
    } else {
        record.state = MANIFEST_CHECKPOINT_DELETING;
        result = leases < 0 ? leases : change_commit(engine, &record);
    }
    if (result == 0) {
        /* The manifest has the word; a crash before the rename is made good at the next open. */
        int detached = checkpoint_files_detach(engine->store, name, id);

        if (detached < 0)
            log_warning("directory of deleted snapshot %s could not be moved: %s", name,
                        error_text(detached));
        /* Before the lock is free: whoever holds, deletes or renames next finds it gone. */
        lock_acquire(&engine->checkpoint_lock);
        checkpoint->state = CHECKPOINT_DELETING;
        checkpoint->error = 0;
        checkpoint->deletion_waits = checkpoint->open_views > 0;
        waits = checkpoint->deletion_waits || checkpoint->is_queued;
        engine_checkpoint_remove_locked(engine, checkpoint);
        pthread_cond_broadcast(&engine->checkpoint_changed);
        lock_release(&engine->checkpoint_lock);
    }
    lock_release(&engine->install_lock);
    if (result == 0) {
        if (!waits)
            engine_checkpoint_queue(engine, checkpoint);
        checkpoint_unref(checkpoint); /* the list's */
    }
    checkpoint_unref(checkpoint);
    manifest_checkpoint_free(&record);
    return result;
}

int engine_checkpoint_rename(struct engine *engine, uint64_t id, struct slice name)
{
    struct manifest_checkpoint record = {0};
    struct checkpoint *checkpoint = NULL;
    char from[256], to[256];
    bool taken;
    int result = checkpoint_name_check(name);

    if (result == 0)
        result = change_begin(engine, id, false, &record, &checkpoint);
    if (result < 0)
        return result;
    checkpoint_record_name(&record, from);
    lock_acquire(&engine->install_lock);
    lock_acquire(&engine->checkpoint_lock);
    taken = engine_checkpoint_has_name_locked(engine, name);
    lock_release(&engine->checkpoint_lock);
    if (!still_exists(engine, id)) {
        result = -ENOENT;
        goto out;
    }
    if (taken) {
        result = slice_equal(buffer_slice(&record.name), name) ? 0 : -EEXIST;
        goto out;
    }
    result = buffer_assign(&record.name, name.data, name.size);
    if (result == 0)
        result = change_commit(engine, &record);
    if (result < 0)
        goto out;
    checkpoint_record_name(&record, to);
    result =
        io_rename(engine->io, engine->store->checkpoints, from, engine->store->checkpoints, to);
    if (result == 0)
        result = io_sync(engine->io, engine->store->checkpoints, false);
    /* The manifest says the new name already: the next start makes it true. */
    if (result < 0)
        engine_latch(engine, result, "renaming a checkpoint");
    lock_acquire(&engine->checkpoint_lock);
    manifest_checkpoint_free(&checkpoint->record);
    checkpoint->record = record;
    record = (struct manifest_checkpoint){0};
    lock_release(&engine->checkpoint_lock);
out:
    lock_release(&engine->install_lock);
    checkpoint_unref(checkpoint);
    manifest_checkpoint_free(&record);
    return result;
}

int engine_checkpoint_set_payload(struct engine *engine, uint64_t id, struct slice payload)
{
    struct manifest_checkpoint record = {0};
    struct checkpoint *checkpoint = NULL;
    int result = change_begin(engine, id, false, &record, &checkpoint);

    if (result < 0)
        return result;
    lock_acquire(&engine->install_lock);
    result = still_exists(engine, id) ? 0 : -ENOENT;
    if (result == 0)
        result = buffer_assign(&record.payload, payload.data, payload.size);
    if (result == 0)
        result = change_commit(engine, &record);
    if (result == 0) {
        lock_acquire(&engine->checkpoint_lock);
        manifest_checkpoint_free(&checkpoint->record);
        checkpoint->record = record;
        record = (struct manifest_checkpoint){0};
        lock_release(&engine->checkpoint_lock);
    }
    lock_release(&engine->install_lock);
    checkpoint_unref(checkpoint);
    manifest_checkpoint_free(&record);
    return result;
}
