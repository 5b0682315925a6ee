/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine_checkpoint_change.c - waiting for a checkpoint; deleting it, renaming it, its payload
 */
#include <errno.h>
#include <time.h>

#include "engine/base/blocking.h"
#include "engine/engine_internal.h"

static bool is_made(const struct checkpoint *checkpoint)
{
    return checkpoint->state > CHECKPOINT_PENDING || checkpoint->error != 0;
}

/* A wait for something that comes after a flush. It does not outlast a shortage that the flush
 * thread waits out (P7): the attempt that was under way when the wait began and the one after it
 * have failed. */
struct patience {
    uint64_t starvations;
};

static struct patience patience_begin(struct engine *engine)
{
    return (struct patience){atomic_load(&engine->flush_starvations)};
}

/* Some more, checkpoint_lock held: 0, or that shortage. */
static int patience_wait_locked(struct engine *engine, const struct patience *patience)
{
    int shortage = atomic_load(&engine->flush_starved);

    if (shortage != 0 && atomic_load(&engine->flush_starvations) >= patience->starvations + 2)
        return shortage;
    lock_wait_until(&engine->checkpoint_lock, &engine->checkpoint_changed,
                    clock_monotonic_ns() + 100 * UINT64_C(1000000));
    return 0;
}

/* Until it is made, with its error; checkpoint_lock held. 0, -ENOENT, a shortage, ERROR_LATCHED. */
static int wait_made_locked(struct engine *engine, uint64_t id)
{
    struct patience patience = patience_begin(engine);
    const struct checkpoint *checkpoint;
    int result = 0;

    while (result == 0) {
        checkpoint = engine_checkpoint_find_locked(engine, id);
        if (checkpoint == NULL)
            return -ENOENT;
        if (is_made(checkpoint))
            return checkpoint->error;
        result = engine_latched(engine) ? ERROR_LATCHED : patience_wait_locked(engine, &patience);
    }
    return result;
}

int engine_checkpoint_wait(struct engine *engine, uint64_t id)
{
    int result;

    blocking_enter();
    lock_acquire(&engine->checkpoint_lock);
    result = wait_made_locked(engine, id);
    lock_release(&engine->checkpoint_lock);
    return result;
}

/* The wait before a change; no lock is held, nor after. */
static int change_wait(struct engine *engine, uint64_t id)
{
    return engine->read_only ? -EROFS : engine_checkpoint_wait(engine, id);
}

/* A copy of the record of a checkpoint that may be changed: READY, or not made yet when
 * `is_deletion`. install_lock held, so that this stays so. 0, -ENOENT, its error. */
static int change_begin_locked(struct engine *engine, uint64_t id, bool is_deletion,
                               struct manifest_checkpoint *ret_record,
                               struct checkpoint **ret_checkpoint)
{
    struct checkpoint *checkpoint;
    int result;

    if (engine_latched(engine))
        return ERROR_LATCHED;
    lock_acquire(&engine->checkpoint_lock);
    checkpoint = engine_checkpoint_find_locked(engine, id);
    if (checkpoint == NULL) {
        result = -ENOENT;
    } else if (checkpoint->state != CHECKPOINT_READY &&
               !(is_deletion && checkpoint->state == CHECKPOINT_PENDING)) {
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

/* After the manifest has the word. Its directory stays for the checkpoint thread to take away, as
 * may the making of it: no sync is waited for here. install_lock held: whoever holds, deletes or
 * renames next finds it gone. */
static void begin_deletion(struct engine *engine, struct checkpoint *checkpoint)
{
    bool is_at_work;

    lock_acquire(&engine->checkpoint_lock);
    /* Who is at it will see: the checkpoint thread, or the flush thread, which queues it. Not
     * before that, because a crash would still find its mark in the log. */
    is_at_work =
        checkpoint->state == CHECKPOINT_PENDING || checkpoint->is_queued || checkpoint->is_running;
    checkpoint->state = CHECKPOINT_DELETING;
    checkpoint->error = 0;
    engine->deleting_count++;
    engine_checkpoint_remove_locked(engine, checkpoint);
    pthread_cond_broadcast(&engine->checkpoint_changed);
    lock_release(&engine->checkpoint_lock);
    if (!is_at_work)
        engine_checkpoint_queue(engine, checkpoint);
    checkpoint_unref(checkpoint); /* the list's */
}

int engine_checkpoint_delete(struct engine *engine, uint64_t id)
{
    struct manifest_checkpoint record = {0};
    struct checkpoint *checkpoint = NULL;
    int leases, result;

    if (engine->read_only)
        return -EROFS;
    blocking_enter();
    lock_acquire(&engine->install_lock);
    result = change_begin_locked(engine, id, true, &record, &checkpoint);
    if (result == 0) {
        leases = manifest_lease_count(engine->manifest, id, (uint64_t)time(NULL));
        if (leases != 0)
            result = leases > 0 ? ERROR_HELD : leases;
    }
    if (result == 0) {
        record.state = MANIFEST_CHECKPOINT_DELETING;
        buffer_free(&record.plan);
        result = change_commit(engine, &record);
    }
    if (result == 0)
        begin_deletion(engine, checkpoint);
    lock_release(&engine->install_lock);
    checkpoint_unref(checkpoint);
    manifest_checkpoint_free(&record);
    return result;
}

/* On the disk; the manifest says so already, and the next start would make it true. An error latches,
 * but for a shortage. *ret_renamed: it stands under the new name, for good or not. */
static int rename_directory(struct engine *engine, const char *from, const char *to,
                            bool *ret_renamed)
{
    struct io_file *directory = engine->store->checkpoints;
    int result = checkpoint_files_vacate(engine->store, to);

    if (result == 0)
        result = io_rename(engine->io, directory, from, directory, to);
    *ret_renamed = result == 0;
    if (result == 0)
        result = io_sync(engine->io, directory, false);
    if (result < 0 && !error_is_shortage(result))
        engine_latch(engine, result, "renaming a checkpoint");
    return result;
}

/* The directory could not be renamed for want of something: the manifest takes its word back.
 * names_lock and install_lock held. */
static void rename_undo(struct engine *engine, const struct checkpoint *checkpoint,
                        struct manifest_checkpoint *record)
{
    struct slice name = buffer_slice(&checkpoint->record.name);
    int result = buffer_assign(&record->name, name.data, name.size);

    if (result == 0)
        result = change_commit(engine, record);
    if (result < 0)
        engine_latch(engine, result, "taking back the new name of a checkpoint");
}

/* names_lock and install_lock held. */
static int rename_locked(struct engine *engine, uint64_t id, struct slice name)
{
    struct manifest_checkpoint record = {0};
    struct checkpoint *checkpoint = NULL;
    char from[256], to[256];
    bool taken, renamed;
    int result = change_begin_locked(engine, id, false, &record, &checkpoint);

    if (result < 0)
        return result;
    lock_acquire(&engine->checkpoint_lock);
    taken = engine_checkpoint_has_name_locked(engine, name);
    if (!taken)
        checkpoint->new_name = name; /* for nobody else, while the disk is changed */
    lock_release(&engine->checkpoint_lock);
    if (taken) {
        result = slice_equal(buffer_slice(&record.name), name) ? 0 : -EEXIST;
        goto out;
    }
    checkpoint_record_name(&record, from);
    result = buffer_assign(&record.name, name.data, name.size);
    if (result == 0)
        result = change_commit(engine, &record);
    if (result < 0)
        goto out;
    checkpoint_record_name(&record, to);
    result = rename_directory(engine, from, to, &renamed);
    if (!renamed) { /* and is read where it is */
        if (error_is_shortage(result))
            rename_undo(engine, checkpoint, &record);
        goto out;
    }
    lock_acquire(&engine->checkpoint_lock);
    manifest_checkpoint_free(&checkpoint->record);
    checkpoint->record = record;
    checkpoint->renames++;
    record = (struct manifest_checkpoint){0};
    lock_release(&engine->checkpoint_lock);
out:
    lock_acquire(&engine->checkpoint_lock);
    checkpoint->new_name = slice_of(NULL, 0);
    lock_release(&engine->checkpoint_lock);
    checkpoint_unref(checkpoint);
    manifest_checkpoint_free(&record);
    return result;
}

int engine_checkpoint_rename(struct engine *engine, uint64_t id, struct slice name)
{
    int result = checkpoint_name_check(name);

    if (result == 0)
        result = change_wait(engine, id);
    if (result < 0)
        return result;
    lock_acquire(&engine->names_lock);
    lock_acquire(&engine->install_lock);
    result = rename_locked(engine, id, name);
    lock_release(&engine->install_lock);
    lock_release(&engine->names_lock);
    return result;
}

int engine_checkpoint_set_payload(struct engine *engine, uint64_t id, struct slice payload)
{
    struct manifest_checkpoint record = {0};
    struct checkpoint *checkpoint = NULL;
    int result = change_wait(engine, id);

    if (result < 0)
        return result;
    lock_acquire(&engine->install_lock);
    result = change_begin_locked(engine, id, false, &record, &checkpoint);
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

/* ---- a bound on what waits to be made (P8) ----
 *
 * Each ends a generation. While no log can be written or no memtable flushed they would use up those
 * that there may be, and who deletes something to make room would be refused.
 */

static bool is_room_locked(struct engine *engine)
{
    size_t count = engine->checkpoint_count; /* with the one that is about to be made */

    if (engine_latched(engine))
        return true;
    if (atomic_load(&engine->flush_starved) != 0)
        return false;
    return count <= CHECKPOINTS_PENDING_MAX ||
           is_made(engine->checkpoints[count - 1 - CHECKPOINTS_PENDING_MAX]);
}

int engine_checkpoint_wait_for_room(struct engine *engine)
{
    struct patience patience = patience_begin(engine);
    int result = engine_space_check(engine);

    if (result == 0 && atomic_load(&engine->log_starved) != 0)
        result = engine_commit(engine, engine_sequence(engine), true);
    lock_acquire(&engine->checkpoint_lock);
    while (result == 0 && !is_room_locked(engine)) {
        result = patience_wait_locked(engine, &patience);
        lock_release(&engine->checkpoint_lock);
        if (result == 0)
            result = engine_space_check(engine);
        lock_acquire(&engine->checkpoint_lock);
    }
    lock_release(&engine->checkpoint_lock);
    return result;
}
