/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine_materialise.c - the checkpoint thread: it makes the directories of checkpoints and takes
 * those of deleted ones away
 *
 * A shortage leaves a job in the queue with its error, to be tried again.
 */
#include <errno.h>

#include "engine/engine_internal.h"

/* Takes the reference over. */
static void job_add_locked(struct engine *engine, struct checkpoint *checkpoint)
{
    invariant(!checkpoint->is_queued);
    checkpoint->is_queued = true;
    checkpoint->next_job = NULL;
    *engine->jobs_tail = checkpoint;
    engine->jobs_tail = &checkpoint->next_job;
}

void engine_checkpoint_queue(struct engine *engine, struct checkpoint *checkpoint)
{
    lock_acquire(&engine->checkpoint_lock);
    job_add_locked(engine, checkpoint_ref(checkpoint));
    pthread_cond_broadcast(&engine->checkpoint_changed);
    lock_release(&engine->checkpoint_lock);
}

/* It was deleted while a shortage held it up. install_lock held, so it stays as it is. */
static bool was_deleted(struct engine *engine, const struct checkpoint *checkpoint)
{
    bool deleted;

    lock_acquire(&engine->checkpoint_lock);
    deleted = checkpoint->state == CHECKPOINT_DELETING;
    lock_release(&engine->checkpoint_lock);
    return deleted;
}

static int materialise_commit(struct engine *engine, struct checkpoint *checkpoint,
                              const struct checkpoint_numbers *numbers)
{
    struct manifest_checkpoint record = {0};
    struct manifest_edit edit = {.put_checkpoint = &record};
    int result;

    lock_acquire(&engine->checkpoint_lock);
    result = manifest_checkpoint_copy(&checkpoint->record, &record);
    lock_release(&engine->checkpoint_lock);
    if (result < 0)
        return result;
    record.state = MANIFEST_CHECKPOINT_READY;
    record.linked_files = numbers->linked_files;
    record.linked_bytes = numbers->linked_bytes;
    record.copied_files = numbers->copied_files;
    record.copied_bytes = numbers->copied_bytes;
    record.manifest_hash = numbers->manifest_hash;
    buffer_free(&record.plan);
    lock_acquire(&engine->install_lock);
    result = was_deleted(engine, checkpoint) ? -ENOENT : manifest_commit(engine->manifest, &edit);
    if (result < 0 && result != -ENOENT)
        engine_failed(engine, result, "manifest");
    lock_release(&engine->install_lock);
    if (result == 0) {
        lock_acquire(&engine->checkpoint_lock);
        manifest_checkpoint_free(&checkpoint->record);
        checkpoint->record = record;
        engine->parent_hash = numbers->manifest_hash;
        lock_release(&engine->checkpoint_lock);
        return 0;
    }
    manifest_checkpoint_free(&record);
    return result;
}

static int materialise_files(struct engine *engine, const struct checkpoint *checkpoint,
                             const char *name, struct checkpoint_numbers *ret_numbers)
{
    const struct sealed_manifest *plan = checkpoint->plan;
    int is_there = checkpoint_files_prepare(engine->store, plan, name, ret_numbers);
    int result;

    if (is_there < 0)
        return is_there;
    lock_acquire(&engine->install_lock); /* renames of checkpoints sync the directory too */
    result = was_deleted(engine, checkpoint)
                 ? -ENOENT
                 : checkpoint_files_publish(engine->store, plan, name, is_there > 0);
    lock_release(&engine->install_lock);
    return result;
}

/* A shortage leaves it PENDING with an error, to be tried again. */
static void materialise(struct engine *engine, struct checkpoint *checkpoint)
{
    bool again;
    struct checkpoint_numbers numbers = {0};
    struct engine_view *view;
    char name[256];
    int result;

    lock_acquire(&engine->checkpoint_lock);
    checkpoint->plan->parent_hash = engine->parent_hash;
    memcpy(name, checkpoint->record.name.data, checkpoint->record.name.size);
    name[checkpoint->record.name.size] = '\0';
    lock_release(&engine->checkpoint_lock);

    result = materialise_files(engine, checkpoint, name, &numbers);
    if (result == 0)
        result = materialise_commit(engine, checkpoint, &numbers);
    again = engine_can_retry(engine, result);
    if (result < 0 && result != -ENOENT)
        log_error("snapshot %s could not be materialised: %s (it is tried again %s)", name,
                  error_text(result), again ? "when there is room" : "at the next mount");

    lock_acquire(&engine->checkpoint_lock);
    if (checkpoint->state == CHECKPOINT_DELETING) {
        lock_release(&engine->checkpoint_lock);
        return;
    }
    checkpoint->error = result;
    if (!again)
        checkpoint->state = result == 0 ? CHECKPOINT_READY : CHECKPOINT_FAILED;
    /* A failed one is still read through its view, which keeps its chunks. */
    view = result == 0 ? checkpoint->view : NULL;
    if (result == 0) {
        checkpoint->view = NULL;
        checkpoint_plan_free(checkpoint->plan);
        checkpoint->plan = NULL;
    }
    pthread_cond_broadcast(&engine->checkpoint_changed);
    lock_release(&engine->checkpoint_lock);
    engine_view_release(view);
}

/* ---- deletion in the background ---- */

/* The name and then the content. The manifest forgets the checkpoint when the disk has, and not
 * before: a directory that came back after a cut would belong to nobody and block its name. */
static int delete_files(struct engine *engine, const struct checkpoint *checkpoint)
{
    struct store *store = engine->store;
    char name[256];
    int result;

    checkpoint_record_name(&checkpoint->record, name);
    lock_acquire(&engine->install_lock);
    result = checkpoint_files_detach(store, name, checkpoint->record.id); /* gone, mostly */
    if (result == 0) {
        result = checkpoint_files_sync_deleted(store);
        if (result < 0)
            engine_failed(engine, result, "deleting a checkpoint");
    }
    lock_release(&engine->install_lock);
    if (result < 0)
        return result;
    return checkpoint_files_remove_deleted(store, checkpoint->record.id);
}

static int finish_deletion(struct engine *engine, struct checkpoint *checkpoint)
{
    struct manifest_edit edit = {.remove_checkpoint = checkpoint->record.id};
    int result = engine_latched(engine) ? ERROR_LATCHED : delete_files(engine, checkpoint);

    if (result < 0) {
        log_warning("files of a deleted snapshot could not be removed: %s", error_text(result));
        return result;
    }
    lock_acquire(&engine->install_lock);
    result = engine_latched(engine) ? ERROR_LATCHED : manifest_commit(engine->manifest, &edit);
    if (result < 0 && result != ERROR_LATCHED)
        engine_failed(engine, result, "manifest");
    lock_release(&engine->install_lock);
    return result;
}

/* true: to be run once more. */
static bool run_job(struct engine *engine, struct checkpoint *checkpoint, bool is_deletion)
{
    bool again;

    if (is_deletion) {
        int result = finish_deletion(engine, checkpoint); /* if not now, at the next open */

        engine_compaction_wake(engine); /* chunks may have become collectable */
        return engine_can_retry(engine, result);
    }
    materialise(engine, checkpoint);
    lock_acquire(&engine->checkpoint_lock);
    again = checkpoint->state == CHECKPOINT_PENDING || checkpoint->state == CHECKPOINT_CREATING;
    lock_release(&engine->checkpoint_lock);
    return again;
}

/* The first job that no shortage holds up, or else the first; taken out. */
static struct checkpoint *job_take_locked(struct engine *engine)
{
    struct checkpoint **link = &engine->jobs, *job;

    while (*link != NULL && (*link)->error != 0)
        link = &(*link)->next_job;
    if (*link == NULL)
        link = &engine->jobs;
    job = *link;
    *link = job->next_job;
    if (*link == NULL)
        engine->jobs_tail = link;
    job->is_queued = false;
    return job;
}

static bool all_jobs_are_held_up(const struct engine *engine)
{
    for (const struct checkpoint *job = engine->jobs; job != NULL; job = job->next_job)
        if (job->error == 0)
            return false;
    return true;
}

/* One job; checkpoint_lock held before and after. */
static void do_job_locked(struct engine *engine, struct checkpoint *job)
{
    bool is_deletion = job->state == CHECKPOINT_DELETING, again;

    job->is_running = true;
    lock_release(&engine->checkpoint_lock);
    again = run_job(engine, job, is_deletion);
    lock_acquire(&engine->checkpoint_lock);
    job->is_running = false;
    if (again) {
        if (is_deletion)
            job->error = -ENOSPC;
        job_add_locked(engine, job);
    }
    pthread_cond_broadcast(&engine->checkpoint_changed);
    if (!again) {
        lock_release(&engine->checkpoint_lock);
        checkpoint_unref(job);
        lock_acquire(&engine->checkpoint_lock);
    }
}

void *engine_checkpoint_main(void *context)
{
    struct engine *engine = context;
    uint64_t retry_ns = 0;

    lock_acquire(&engine->checkpoint_lock);
    for (;;) {
        if (all_jobs_are_held_up(engine)) {
            if (engine->checkpoint_stopping)
                break; /* what a shortage holds up is for the next open */
            if (engine->jobs == NULL) {
                lock_wait(&engine->checkpoint_lock, &engine->checkpoint_changed);
                continue;
            }
            if (clock_monotonic_ns() < retry_ns) {
                lock_wait_until(&engine->checkpoint_lock, &engine->checkpoint_changed, retry_ns);
                continue;
            }
            retry_ns = clock_monotonic_ns() + CHECKPOINT_RETRY_NS;
        }
        do_job_locked(engine, job_take_locked(engine));
    }
    while (engine->jobs != NULL) {
        struct checkpoint *job = job_take_locked(engine);

        lock_release(&engine->checkpoint_lock);
        checkpoint_unref(job);
        lock_acquire(&engine->checkpoint_lock);
    }
    lock_release(&engine->checkpoint_lock);
    return NULL;
}
