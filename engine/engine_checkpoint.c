/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine_checkpoint.c - checkpoints: objects, their list, the barrier, the commit point
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

void engine_checkpoint_remove_locked(struct engine *engine, struct checkpoint *checkpoint)
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

bool checkpoint_exists(const struct checkpoint *checkpoint)
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

bool engine_checkpoint_has_name_locked(struct engine *engine, struct slice name)
{
    for (size_t i = 0; i < engine->checkpoint_count; i++)
        if (engine->checkpoints[i]->state != CHECKPOINT_DELETING &&
            (slice_equal(buffer_slice(&engine->checkpoints[i]->record.name), name) ||
             slice_equal(engine->checkpoints[i]->new_name, name)))
            return true;
    return false;
}

int checkpoint_name_check(struct slice name)
{
    if (name.size > 255)
        return -ENAMETOOLONG;
    if (name.size == 0 || memchr(name.data, '/', name.size) != NULL ||
        memchr(name.data, 0, name.size) != NULL || slice_equal(name, slice_of_string(".")) ||
        slice_equal(name, slice_of_string("..")))
        return -EINVAL;
    return 0;
}

void checkpoint_record_name(const struct manifest_checkpoint *record, char to[256])
{
    memcpy(to, record->name.data, record->name.size);
    to[record->name.size] = '\0';
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
    if (checkpoint_name_check(slice_of(from.data + 28, name_size)) < 0)
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
    if (engine_checkpoint_has_name_locked(engine, buffer_slice(&checkpoint->record.name)))
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

/* A mark in the log. */
struct created_mark {
    uint64_t sequence;
    size_t size;
};

/* The barrier, *ret_mark in the log, and the generation ends with it. The view is taken before, while
 * nobody can write: the mark is no record, so that only its number is the next one. */
static int create_barrier(struct engine *engine, struct checkpoint *checkpoint,
                          struct created_mark *ret_mark)
{
    struct engine_view *view = NULL;
    struct buffer mark = {0};
    uint64_t sequence, begin, took;
    int result = checkpoint_mark_encode(checkpoint, &mark);

    if (result < 0)
        goto out;
    lock_acquire(&engine->write_lock);
    result = engine_latched(engine) ? ERROR_LATCHED : engine_wait_for_room_locked(engine);
    begin = clock_monotonic_ns();
    if (result == 0) {
        view = engine_view_acquire(engine);
        result = view != NULL ? 0 : -ENOMEM;
    }
    if (result == 0) {
        checkpoint_ref(checkpoint);
        result = engine_mark_locked(engine, buffer_slice(&mark), checkpoint, &sequence);
        if (result < 0)
            checkpoint_unref(checkpoint); /* the caller has another */
    }
    if (result == 0) {
        view->sequence = sequence;
        checkpoint->record.sequence = sequence;
        checkpoint->view = view;
        view = NULL;
        *ret_mark = (struct created_mark){sequence, mark.size};
    }
    took = clock_monotonic_ns() - begin;
    lock_release(&engine->write_lock);
    ENGINE_COUNT(engine, barriers, 1);
    ENGINE_COUNT_LONGEST(engine, barrier_ns_max, took);
    engine_view_release(view);
out:
    buffer_free(&mark);
    return result;
}

/* The mark stands in the order of things already. When there is no room for it, which the check
 * before should have noticed, it is taken back, unless somebody else has written it meanwhile. The
 * record is the checkpoint thread's from the barrier on: its directory may be complete before this
 * returns. */
static int create_commit(struct engine *engine, const struct created_mark *mark)
{
    int result;

    do
        result = engine_commit(engine, mark->sequence, true);
    while (result < 0 && !engine_latched(engine) &&
           !engine_mark_revoke(engine, mark->sequence, mark->size));
    return result;
}

int engine_checkpoint_create(struct engine *engine, struct slice name, struct slice payload,
                             uint64_t *ret_id)
{
    struct checkpoint *checkpoint;
    struct created_mark mark = {0};
    int result;

    if (engine->read_only)
        return -EROFS;
    result = checkpoint_name_check(name);
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
    result = engine_checkpoint_wait_for_room(engine);
    if (result == 0)
        result = create_barrier(engine, checkpoint, &mark);
    if (result == 0)
        result = create_commit(engine, &mark);
    lock_acquire(&engine->checkpoint_lock);
    if (result == 0) {
        if (checkpoint->state == CHECKPOINT_CREATING)
            checkpoint->state = CHECKPOINT_PENDING;
        *ret_id = checkpoint->record.id;
    } else {
        engine_checkpoint_remove_locked(engine, checkpoint);
    }
    pthread_cond_broadcast(&engine->checkpoint_changed);
    lock_release(&engine->checkpoint_lock);
    if (result < 0)
        checkpoint_unref(checkpoint);
    return result;
}
