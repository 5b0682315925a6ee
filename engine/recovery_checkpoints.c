/* SPDX-License-Identifier: Apache-2.0 */
/*
 * recovery_checkpoints.c - checkpoints as a crash left them: made, named or taken away
 */
#include <errno.h>
#include <stdlib.h>

#include "engine/recovery_internal.h"

static int commit_checkpoint(struct engine *engine, const struct manifest_checkpoint *record)
{
    struct manifest_edit edit = {.put_checkpoint = record};

    return manifest_commit(engine->manifest, &edit);
}

static void checkpoint_text(const struct manifest_checkpoint *record, char to[256])
{
    size_t size = record->name.size < 255 ? record->name.size : 255;

    memcpy(to, record->name.data, size);
    to[size] = '\0';
}

/* Make the directory of a checkpoint that has its plan; then it is READY. */
int recovery_checkpoint_make(struct engine *engine, struct checkpoint *checkpoint,
                             struct sealed_manifest *plan)
{
    struct checkpoint_numbers numbers = {0};
    char name[256];
    int is_there, result;

    checkpoint_text(&checkpoint->record, name);
    plan->parent_hash = engine->parent_hash;
    is_there = checkpoint_files_prepare(engine->store, plan, name, &numbers);
    result =
        is_there < 0 ? is_there : checkpoint_files_publish(engine->store, plan, name, is_there > 0);
    if (result < 0) {
        log_error("snapshot %s could not be materialised: %s", name, error_text(result));
        return result;
    }
    checkpoint->record.state = MANIFEST_CHECKPOINT_READY;
    checkpoint->record.linked_files = numbers.linked_files;
    checkpoint->record.linked_bytes = numbers.linked_bytes;
    checkpoint->record.copied_files = numbers.copied_files;
    checkpoint->record.copied_bytes = numbers.copied_bytes;
    checkpoint->record.manifest_hash = numbers.manifest_hash;
    buffer_free(&checkpoint->record.plan);
    result = commit_checkpoint(engine, &checkpoint->record);
    if (result == 0) {
        checkpoint->state = CHECKPOINT_READY;
        engine->parent_hash = numbers.manifest_hash;
    }
    return result;
}

static int redo_pending(struct engine *engine, struct checkpoint *checkpoint)
{
    struct sealed_manifest plan = {0};
    int result = sealed_manifest_decode(buffer_slice(&checkpoint->record.plan), &plan);

    if (result == 0)
        result = recovery_checkpoint_make(engine, checkpoint, &plan);
    sealed_manifest_free(&plan);
    return result;
}

/* The directory stands under the name that the manifest gives, or a rename is finished. After a
 * clean close all of them do. */
static int settle_ready(struct recovery *recovery, const struct checkpoint *checkpoint)
{
    struct engine *engine = recovery->engine;
    char name[256];
    int result;

    if (recovery->state.scalars.clean)
        return 0;
    checkpoint_text(&checkpoint->record, name);
    result = checkpoint_files_settle(engine->store, name, checkpoint->record.id);
    if (result == -ENOENT || error_errno(result) == -EIO) {
        log_error("snapshot %s: its directory is missing or damaged", name);
        result = 0; /* the rest of the store is whole: reading this one will say so */
    }
    return result;
}

/* Its name may be another's by now: this goes before the others. */
static int load_deleting(struct engine *engine, struct manifest_checkpoint *record)
{
    struct checkpoint *checkpoint;
    char name[256];
    int result = checkpoint_new(&checkpoint);

    if (result < 0)
        return result;
    checkpoint->record = *record;
    *record = (struct manifest_checkpoint){0};
    checkpoint->state = CHECKPOINT_DELETING;
    checkpoint_text(&checkpoint->record, name);
    result = checkpoint_files_detach(engine->store, name, checkpoint->record.id);
    if (result >= 0) {
        lock_acquire(&engine->checkpoint_lock);
        engine->deleting_count++;
        lock_release(&engine->checkpoint_lock);
        engine_checkpoint_queue(engine, checkpoint);
    }
    checkpoint_unref(checkpoint);
    return result < 0 ? result : 0;
}

/* Nothing else is queued yet, and the checkpoint thread begins when the log has been replayed. */
bool recovery_checkpoint_is_deleted(struct engine *engine, uint64_t id)
{
    const struct checkpoint *job;

    lock_acquire(&engine->checkpoint_lock);
    job = engine->jobs;
    while (job != NULL && job->record.id != id)
        job = job->next_job;
    lock_release(&engine->checkpoint_lock);
    return job != NULL;
}

static int load_checkpoint(struct recovery *recovery, struct manifest_checkpoint *record)
{
    struct engine *engine = recovery->engine;
    struct checkpoint *checkpoint;
    int result = checkpoint_new(&checkpoint);

    if (result < 0)
        return result;
    checkpoint->record = *record;
    *record = (struct manifest_checkpoint){0};
    switch (checkpoint->record.state) {
    case MANIFEST_CHECKPOINT_READY:
        checkpoint->state = CHECKPOINT_READY;
        engine->parent_hash = checkpoint->record.manifest_hash;
        result = settle_ready(recovery, checkpoint);
        break;
    case MANIFEST_CHECKPOINT_PENDING:
        result = redo_pending(engine, checkpoint);
        break;
    default:
        result = ERROR_CORRUPT;
        break;
    }
    if (result == 0)
        result = engine_checkpoint_insert(engine, checkpoint);
    if (result < 0)
        checkpoint_unref(checkpoint);
    return result;
}

int recovery_checkpoints_load(struct recovery *recovery)
{
    struct manifest_checkpoint *records = recovery->state.checkpoints;
    int result = 0;

    for (size_t i = 0; result == 0 && i < recovery->state.checkpoint_count; i++)
        if (records[i].state == MANIFEST_CHECKPOINT_DELETING)
            result = load_deleting(recovery->engine, &records[i]);
    for (size_t i = 0; result == 0 && i < recovery->state.checkpoint_count; i++)
        if (records[i].id != 0)
            result = load_checkpoint(recovery, &records[i]);
    return result;
}

/* Those whose directories are there: the manifest says so of all that are READY. */
int recovery_checkpoints_show(struct recovery *recovery)
{
    struct manifest_checkpoint *records = recovery->state.checkpoints;
    int result = 0;

    for (size_t i = 0; result == 0 && i < recovery->state.checkpoint_count; i++)
        if (records[i].state == MANIFEST_CHECKPOINT_READY) {
            struct checkpoint *checkpoint;

            result = checkpoint_new(&checkpoint);
            if (result < 0)
                break;
            checkpoint->record = records[i];
            records[i] = (struct manifest_checkpoint){0};
            checkpoint->state = CHECKPOINT_READY;
            result = engine_checkpoint_insert(recovery->engine, checkpoint);
            if (result < 0)
                checkpoint_unref(checkpoint);
        }
    return result;
}
