/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine_checkpoint.c - checkpoints: the barrier, the commit point, materialisation, deletion
 *
 * Why none is lost: the WAL record is the commit point. The generation that it ends is flushed in
 * one manifest commit that moves the log's start past the record, adds the table, and stores the
 * plan of the checkpoint (PENDING). From then on the plan alone is enough: its chunks are pinned by
 * the checkpoint's view while the process lives and kept by recovery after a crash. The directory
 * is made from the plan, and only then the manifest says READY.
 */
#include <errno.h>
#include <stdlib.h>
#include <time.h>

#include "engine/base/blocking.h"
#include "engine/base/endian.h"
#include "engine/engine_internal.h"

/* ---- objects ---- */

int checkpoint_new(struct checkpoint **ret_checkpoint)
{
    struct checkpoint *checkpoint = calloc(1, sizeof *checkpoint);

    if (checkpoint == NULL)
        return -ENOMEM;
    atomic_init(&checkpoint->references, 1);
    *ret_checkpoint = checkpoint;
    return 0;
}

struct checkpoint *checkpoint_ref(struct checkpoint *checkpoint)
{
    atomic_fetch_add_explicit(&checkpoint->references, 1, memory_order_relaxed);
    return checkpoint;
}

void checkpoint_unref(struct checkpoint *checkpoint)
{
    if (checkpoint == NULL ||
        atomic_fetch_sub_explicit(&checkpoint->references, 1, memory_order_acq_rel) != 1)
        return;
    engine_view_release(checkpoint->view);
    checkpoint_plan_free(checkpoint->plan);
    manifest_checkpoint_free(&checkpoint->record);
    free(checkpoint);
}

void checkpoint_plan_free(struct sealed_manifest *plan)
{
    if (plan == NULL)
        return;
    sealed_manifest_free(plan);
    free(plan);
}

int checkpoint_plan_new(struct engine *engine, const struct checkpoint *checkpoint,
                        struct version *version, struct sealed_manifest **ret_plan)
{
    struct sealed_manifest *plan = calloc(1, sizeof *plan);
    size_t tables = 0;
    int result = -ENOMEM;

    if (plan == NULL)
        return -ENOMEM;
    memcpy(plan->store_uuid, engine->store->format.uuid, STORE_UUID_SIZE);
    plan->checkpoint_id = checkpoint->record.id;
    plan->sequence = checkpoint->record.sequence;
    plan->created_s = checkpoint->created_s;
    plan->created_ns = checkpoint->created_ns;
    for (uint32_t level = 0; level < VERSION_LEVELS; level++)
        tables += version->counts[level];
    plan->tables = calloc(tables + 1, sizeof *plan->tables);
    plan->blobs = calloc(version->blob_count + 1, sizeof *plan->blobs);
    if (plan->tables == NULL || plan->blobs == NULL)
        goto fail;
    result = buffer_assign(&plan->name, checkpoint->record.name.data, checkpoint->record.name.size);
    if (result == 0)
        result = buffer_assign(&plan->payload, checkpoint->record.payload.data,
                               checkpoint->record.payload.size);
    for (uint32_t level = 0; result == 0 && level < VERSION_LEVELS; level++) {
        for (size_t i = 0; result == 0 && i < version->counts[level]; i++) {
            const struct version_table *table = version->levels[level][i];
            struct manifest_table *entry = &plan->tables[plan->table_count];

            entry->level = level;
            entry->order = table->order;
            result = table_meta_copy(&table->meta, &entry->meta);
            if (result == 0)
                plan->table_count++;
        }
    }
    for (size_t i = 0; result == 0 && i < version->blob_count; i++) {
        if (!catalogue_find(engine, version->blobs[i].chunk_id, &plan->blobs[i])) {
            log_error("checkpoint: blob chunk %016llx is referred to and not known",
                      (unsigned long long)version->blobs[i].chunk_id);
            result = ERROR_MISSING_CHUNK;
        }
        plan->blob_count = i + 1;
    }
    if (result < 0)
        goto fail;
    *ret_plan = plan;
    return 0;
fail:
    checkpoint_plan_free(plan);
    return result;
}

/* So often a job that a shortage holds up is tried again. */
#define CHECKPOINT_RETRY_NS UINT64_C(500000000)

/* ---- the list ---- */

int engine_checkpoint_insert(struct engine *engine, struct checkpoint *checkpoint)
{
    size_t at;

    if (engine->checkpoint_count == engine->checkpoint_capacity) {
        size_t capacity = engine->checkpoint_capacity * 2 + 16;
        struct checkpoint **grown = realloc(engine->checkpoints, capacity * sizeof *grown);

        if (grown == NULL)
            return -ENOMEM;
        engine->checkpoints = grown;
        engine->checkpoint_capacity = capacity;
    }
    at = engine->checkpoint_count;
    while (at > 0 && engine->checkpoints[at - 1]->record.id > checkpoint->record.id) {
        engine->checkpoints[at] = engine->checkpoints[at - 1];
        at--;
    }
    engine->checkpoints[at] = checkpoint;
    engine->checkpoint_count++;
    return 0;
}

static void list_remove(struct engine *engine, struct checkpoint *checkpoint)
{
    for (size_t i = 0; i < engine->checkpoint_count; i++) {
        if (engine->checkpoints[i] != checkpoint)
            continue;
        engine->checkpoint_count--;
        memmove(&engine->checkpoints[i], &engine->checkpoints[i + 1],
                (engine->checkpoint_count - i) * sizeof *engine->checkpoints);
        return;
    }
}

static bool checkpoint_exists(const struct checkpoint *checkpoint)
{
    return checkpoint->state != CHECKPOINT_CREATING && checkpoint->state != CHECKPOINT_DELETING;
}

struct checkpoint *engine_checkpoint_find_locked(struct engine *engine, uint64_t id)
{
    size_t low = 0, high = engine->checkpoint_count;

    while (low < high) {
        size_t middle = (low + high) / 2;

        if (engine->checkpoints[middle]->record.id < id)
            low = middle + 1;
        else
            high = middle;
    }
    if (low < engine->checkpoint_count && engine->checkpoints[low]->record.id == id &&
        checkpoint_exists(engine->checkpoints[low]))
        return engine->checkpoints[low];
    return NULL;
}

static bool list_has_name(struct engine *engine, struct slice name)
{
    for (size_t i = 0; i < engine->checkpoint_count; i++)
        if (engine->checkpoints[i]->state != CHECKPOINT_DELETING &&
            slice_equal(buffer_slice(&engine->checkpoints[i]->record.name), name))
            return true;
    return false;
}

static int name_check(struct slice name)
{
    if (name.size > 255)
        return -ENAMETOOLONG;
    if (name.size == 0 || memchr(name.data, '/', name.size) != NULL ||
        memchr(name.data, 0, name.size) != NULL || slice_equal(name, slice_of_string(".")) ||
        slice_equal(name, slice_of_string("..")))
        return -EINVAL;
    return 0;
}

/* ---- the WAL record ---- */

int checkpoint_mark_encode(const struct checkpoint *checkpoint, struct buffer *to)
{
    const struct manifest_checkpoint *record = &checkpoint->record;
    uint8_t head[28];
    int result;

    put_le64(head, record->id);
    put_le64(head + 8, checkpoint->created_s);
    put_le32(head + 16, checkpoint->created_ns);
    put_le32(head + 20, (uint32_t)record->name.size);
    put_le32(head + 24, (uint32_t)record->payload.size);
    result = buffer_append(to, head, sizeof head);
    if (result == 0)
        result = buffer_append(to, record->name.data, record->name.size);
    if (result == 0)
        result = buffer_append(to, record->payload.data, record->payload.size);
    return result;
}

int checkpoint_mark_decode(struct slice from, struct checkpoint *to)
{
    uint64_t name_size, payload_size;
    int result;

    if (from.size < 28)
        return ERROR_CORRUPT;
    name_size = get_le32(from.data + 20);
    payload_size = get_le32(from.data + 24);
    if (from.size != 28 + name_size + payload_size)
        return ERROR_CORRUPT;
    to->record.id = get_le64(from.data);
    to->created_s = get_le64(from.data + 8);
    to->created_ns = get_le32(from.data + 16);
    if (name_check(slice_of(from.data + 28, name_size)) < 0)
        return ERROR_CORRUPT;
    result = buffer_assign(&to->record.name, from.data + 28, name_size);
    if (result == 0)
        result = buffer_assign(&to->record.payload, from.data + 28 + name_size, payload_size);
    return result;
}

/* ---- creation ---- */

static int create_object(struct slice name, struct slice payload,
                         struct checkpoint **ret_checkpoint)
{
    struct checkpoint *checkpoint;
    struct timespec now;
    int result = checkpoint_new(&checkpoint);

    if (result < 0)
        return result;
    clock_gettime(CLOCK_REALTIME, &now);
    checkpoint->created_s = (uint64_t)now.tv_sec;
    checkpoint->created_ns = (uint32_t)now.tv_nsec;
    checkpoint->state = CHECKPOINT_CREATING;
    result = buffer_assign(&checkpoint->record.name, name.data, name.size);
    if (result == 0)
        result = buffer_assign(&checkpoint->record.payload, payload.data, payload.size);
    if (result < 0) {
        checkpoint_unref(checkpoint);
        return result;
    }
    *ret_checkpoint = checkpoint;
    return 0;
}

/* Take the name and an id. */
static int create_reserve(struct engine *engine, struct checkpoint *checkpoint)
{
    int result = 0;

    lock_acquire(&engine->checkpoint_lock);
    if (list_has_name(engine, buffer_slice(&checkpoint->record.name)))
        result = -EEXIST;
    if (result == 0) {
        checkpoint->record.id = engine->next_checkpoint_id;
        result = engine_checkpoint_insert(engine, checkpoint);
    }
    if (result == 0)
        engine->next_checkpoint_id++;
    lock_release(&engine->checkpoint_lock);
    return result;
}

/* The barrier: a mark in the log, and the generation ends with it. */
static int create_barrier(struct engine *engine, struct checkpoint *checkpoint)
{
    struct buffer mark = {0};
    uint64_t sequence;
    int result = checkpoint_mark_encode(checkpoint, &mark);

    if (result < 0)
        goto out;
    lock_acquire(&engine->write_lock);
    result = engine_latched(engine) ? ERROR_LATCHED : engine_wait_for_room_locked(engine);
    if (result == 0)
        result = engine_append_mark_locked(engine, buffer_slice(&mark), &sequence);
    if (result == 0) {
        checkpoint->record.sequence = sequence;
        checkpoint->view = engine_view_acquire(engine);
        result = checkpoint->view != NULL ? 0 : -ENOMEM;
        if (result == 0)
            result = engine_freeze_locked(engine, checkpoint_ref(checkpoint));
        if (result < 0) {
            /* The mark stands in the log without a generation of its own; replay would make it. The
             * only way to be exact about what exists is to stop here. */
            engine_latch(engine, result, "checkpoint barrier");
        }
    }
    lock_release(&engine->write_lock);
out:
    buffer_free(&mark);
    return result;
}

/* The mark stands in the order of things already: a full disk, which the check before should have
 * noticed, is waited out. */
static int create_commit(struct engine *engine, const struct checkpoint *checkpoint)
{
    for (;;) {
        int result = engine_commit(engine, checkpoint->record.sequence, true);

        if (result == 0 || engine_latched(engine))
            return result;
        lock_acquire(&engine->checkpoint_lock);
        lock_wait_until(&engine->checkpoint_lock, &engine->checkpoint_changed,
                        clock_monotonic_ns() + CHECKPOINT_RETRY_NS);
        lock_release(&engine->checkpoint_lock);
    }
}

int engine_checkpoint_create(struct engine *engine, struct slice name, struct slice payload,
                             uint64_t *ret_id)
{
    struct checkpoint *checkpoint;
    int result;

    if (engine->read_only)
        return -EROFS;
    result = name_check(name);
    if (result < 0)
        return result;
    result = create_object(name, payload, &checkpoint);
    if (result < 0)
        return result;
    result = create_reserve(engine, checkpoint);
    if (result < 0) {
        checkpoint_unref(checkpoint);
        return result;
    }
    blocking_enter();
    result = engine_space_check(engine);
    if (result == 0)
        result = create_barrier(engine, checkpoint);
    if (result == 0)
        result = create_commit(engine, checkpoint);
    lock_acquire(&engine->checkpoint_lock);
    if (result == 0) {
        if (checkpoint->state == CHECKPOINT_CREATING)
            checkpoint->state = CHECKPOINT_PENDING;
        *ret_id = checkpoint->record.id;
    } else {
        list_remove(engine, checkpoint);
    }
    pthread_cond_broadcast(&engine->checkpoint_changed);
    lock_release(&engine->checkpoint_lock);
    if (result < 0)
        checkpoint_unref(checkpoint);
    return result;
}

/* ---- materialisation ---- */

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

static void record_name(const struct manifest_checkpoint *record, char to[256])
{
    memcpy(to, record->name.data, record->name.size);
    to[record->name.size] = '\0';
}

/* The name and then the content. The manifest forgets the checkpoint when the disk has, and not
 * before: a directory that came back after a cut would belong to nobody and block its name. */
static int delete_files(struct engine *engine, const struct checkpoint *checkpoint)
{
    struct store *store = engine->store;
    char name[256];
    int result;

    record_name(&checkpoint->record, name);
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

/* ---- waiting, changing ---- */

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
    record_name(&record, name);
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
        list_remove(engine, checkpoint);
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
    int result = name_check(name);

    if (result == 0)
        result = change_begin(engine, id, false, &record, &checkpoint);
    if (result < 0)
        return result;
    record_name(&record, from);
    lock_acquire(&engine->install_lock);
    lock_acquire(&engine->checkpoint_lock);
    taken = list_has_name(engine, name);
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
    record_name(&record, to);
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

/* ---- looking ---- */

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

/* Each sealed manifest holds the hash of the one that was sealed before. Of a parent that is still
 * there the number must be lower; one that is gone cannot be asked. */
static int check_parent_locked(struct engine *engine, const struct sealed_manifest *sealed)
{
    static const struct checksum128 none;

    if (memcmp(&sealed->parent_hash, &none, sizeof none) == 0)
        return 0;
    for (size_t i = 0; i < engine->checkpoint_count; i++) {
        const struct manifest_checkpoint *record = &engine->checkpoints[i]->record;

        if (memcmp(&record->manifest_hash, &sealed->parent_hash, sizeof none) == 0 &&
            record->id == sealed->checkpoint_id)
            return ERROR_CORRUPT;
    }
    return 0;
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
    if (checkpoint != NULL &&
        (ret_sealed->checkpoint_id != id || ret_sealed->sequence != checkpoint->record.sequence ||
         memcmp(&hash, &checkpoint->record.manifest_hash, sizeof hash) != 0))
        result = ERROR_CORRUPT;
    else
        result = check_parent_locked(engine, ret_sealed);
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
        log_error("snapshot %s cannot be opened: %s", name, error_text(result));
        free(view);
        return result;
    }
    view->engine = engine;
    view->blobs = view->source->blobs;
    view->sequence = sequence;
    *ret_view = view;
    return 0;
}

int engine_checkpoint_view(struct engine *engine, uint64_t id, struct engine_view **ret_view)
{
    struct checkpoint *checkpoint;
    struct engine_view *view = NULL;
    uint64_t sequence = 0;
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
        record_name(&checkpoint->record, name);
        sequence = checkpoint->record.sequence;
        checkpoint->open_views++; /* before its files could go */
        checkpoint_ref(checkpoint);
    }
    lock_release(&engine->checkpoint_lock);
    if (result < 0)
        return result;
    if (view == NULL) {
        result = view_open(engine, name, id, sequence, &view);
        if (result < 0) {
            engine_checkpoint_view_closed(engine, checkpoint);
            return result;
        }
        view->checkpoint = checkpoint;
    }
    *ret_view = view;
    return 0;
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
