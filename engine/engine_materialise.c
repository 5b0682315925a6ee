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

/* It was deleted before it was made. */
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
    lock_acquire(&engine->names_lock);
    result = was_deleted(engine, checkpoint)
                 ? -ENOENT
                 : checkpoint_files_publish(engine->store, plan, name, is_there > 0);
    lock_release(&engine->names_lock);
    if (result == -ENOENT)
        checkpoint_files_abandon(engine->store, plan->checkpoint_id);
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

/* What was deleted in quick succession goes together: the syncs and the commit serve all of it. */
#define DELETIONS_AT_ONCE 64

struct deletions {
    struct checkpoint *items[DELETIONS_AT_ONCE];
    int results[DELETIONS_AT_ONCE];
    bool again[DELETIONS_AT_ONCE]; /* to be tried again */
    size_t count;
};

/* The names go, for good; from here on each is found by its id. */
static int detach_all(struct engine *engine, struct deletions *deletions)
{
    char name[256];
    int result;

    lock_acquire(&engine->names_lock);
    for (size_t i = 0; i < deletions->count; i++) {
        const struct manifest_checkpoint *record = &deletions->items[i]->record;

        checkpoint_record_name(record, name);
        deletions->results[i] = checkpoint_files_detach(engine->store, name, record->id);
    }
    result = checkpoint_files_sync_deleted(engine->store);
    if (result < 0)
        engine_failed(engine, result, "deleting a checkpoint");
    lock_release(&engine->names_lock);
    return result;
}

/* Somebody still reads it: the end of that queues it again. */
static bool is_read(struct engine *engine, struct checkpoint *checkpoint)
{
    bool waits;

    lock_acquire(&engine->checkpoint_lock);
    waits = checkpoint->deletion_waits = checkpoint->open_views > 0;
    lock_release(&engine->checkpoint_lock);
    return waits;
}

/* The manifest forgets checkpoints when the disk has, and not before: a directory that came back
 * after a cut would belong to nobody and block its name. */
static int forget_all(struct engine *engine, const uint64_t *ids, size_t count)
{
    struct manifest_edit edit = {.remove_checkpoints = ids, .remove_checkpoint_count = count};
    int result;

    if (count == 0)
        return 0;
    lock_acquire(&engine->install_lock);
    result = engine_latched(engine) ? ERROR_LATCHED : manifest_commit(engine->manifest, &edit);
    if (result < 0 && result != ERROR_LATCHED)
        engine_failed(engine, result, "manifest");
    lock_release(&engine->install_lock);
    if (result == 0) {
        lock_acquire(&engine->checkpoint_lock);
        engine->deleting_count -= count;
        lock_release(&engine->checkpoint_lock);
    }
    return result;
}

static void delete_all(struct engine *engine, struct deletions *deletions)
{
    uint64_t ids[DELETIONS_AT_ONCE];
    bool removed[DELETIONS_AT_ONCE] = {false};
    size_t count = 0;
    int result = engine_latched(engine) ? ERROR_LATCHED : detach_all(engine, deletions);

    for (size_t i = 0; i < deletions->count; i++) {
        struct checkpoint *checkpoint = deletions->items[i];

        if (result < 0)
            deletions->results[i] = result;
        if (deletions->results[i] < 0 || is_read(engine, checkpoint))
            continue;
        deletions->results[i] =
            checkpoint_files_remove_deleted(engine->store, checkpoint->record.id);
        removed[i] = deletions->results[i] == 0;
        if (removed[i])
            ids[count++] = checkpoint->record.id;
    }
    result = forget_all(engine, ids, count);
    for (size_t i = 0; i < deletions->count; i++) {
        if (result < 0 && removed[i])
            deletions->results[i] = result;
        deletions->again[i] = engine_can_retry(engine, deletions->results[i]);
        if (deletions->results[i] < 0)
            log_warning("files of a deleted snapshot could not be removed: %s",
                        error_text(deletions->results[i]));
    }
    engine_compaction_wake(engine); /* chunks may have become collectable */
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

static void unref_unlocked(struct engine *engine, struct checkpoint *checkpoint)
{
    lock_release(&engine->checkpoint_lock);
    checkpoint_unref(checkpoint);
    lock_acquire(&engine->checkpoint_lock);
}

/* checkpoint_lock held before and after. */
static void do_materialisation_locked(struct engine *engine, struct checkpoint *job)
{
    job->is_running = true;
    lock_release(&engine->checkpoint_lock);
    materialise(engine, job);
    lock_acquire(&engine->checkpoint_lock);
    job->is_running = false;
    /* To be tried again; or it was deleted meanwhile, and who did that left it to us. */
    if (job->state <= CHECKPOINT_PENDING || (job->state == CHECKPOINT_DELETING && !job->is_queued))
        job_add_locked(engine, job);
    else
        unref_unlocked(engine, job);
}

/* The other deletions in the queue that no shortage holds up. */
static void take_deletions_locked(struct engine *engine, struct deletions *deletions)
{
    struct checkpoint **link = &engine->jobs;

    while (*link != NULL && deletions->count < DELETIONS_AT_ONCE) {
        struct checkpoint *job = *link;

        if (job->state != CHECKPOINT_DELETING || job->error != 0) {
            link = &job->next_job;
            continue;
        }
        *link = job->next_job;
        if (job->next_job == NULL)
            engine->jobs_tail = link;
        job->is_queued = false;
        deletions->items[deletions->count++] = job;
    }
}

/* checkpoint_lock held before and after. What does not succeed now does at the next open. */
static void do_deletions_locked(struct engine *engine, struct checkpoint *first)
{
    struct deletions deletions = {.items = {first}, .count = 1};

    take_deletions_locked(engine, &deletions);
    lock_release(&engine->checkpoint_lock);
    delete_all(engine, &deletions);
    lock_acquire(&engine->checkpoint_lock);
    for (size_t i = 0; i < deletions.count; i++) {
        struct checkpoint *job = deletions.items[i];

        if (deletions.again[i]) {
            job->error = deletions.results[i];
            job_add_locked(engine, job);
        } else {
            unref_unlocked(engine, job);
        }
    }
}

/* checkpoint_lock held before and after. */
static void do_job_locked(struct engine *engine, struct checkpoint *job)
{
    if (job->state == CHECKPOINT_DELETING)
        do_deletions_locked(engine, job);
    else
        do_materialisation_locked(engine, job);
    pthread_cond_broadcast(&engine->checkpoint_changed);
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
