/* SPDX-License-Identifier: Apache-2.0 */
/*
 * snapshot.c - the list of snapshots: load, create, delete, rename, look up
 */
#include <errno.h>
#include <stdlib.h>

#include "engine/base/endian.h"
#include "engine/base/log.h"
#include "snapshot/snapshot_internal.h"

#define DEFAULT_NAME_ATTEMPTS 1000

/* ---- objects ---- */

static struct snapshot *snapshot_new(struct snapshot_set *set)
{
    struct snapshot *snapshot = calloc(1, sizeof *snapshot);

    if (snapshot != NULL) {
        atomic_init(&snapshot->references, 1);
        snapshot->set = set;
    }
    return snapshot;
}

struct snapshot *snapshot_ref(struct snapshot *snapshot)
{
    atomic_fetch_add_explicit(&snapshot->references, 1, memory_order_relaxed);
    return snapshot;
}

void snapshot_unref(struct snapshot *snapshot)
{
    struct engine_view *view = NULL;

    if (snapshot == NULL ||
        atomic_fetch_sub_explicit(&snapshot->references, 1, memory_order_acq_rel) != 1)
        return;
    lock_acquire(&snapshot->set->list_lock);
    view = snapshot_view_detach_locked(snapshot);
    lock_release(&snapshot->set->list_lock);
    engine_view_release(view);
    snapshot_tags_free(&snapshot->tags);
    free(snapshot);
}

static void set_name(struct snapshot *snapshot, struct slice name)
{
    memcpy(snapshot->name, name.data, name.size);
    snapshot->name[name.size] = '\0';
}

/* ---- the list ---- */

size_t snapshot_index_locked(const struct snapshot_set *set, uint64_t id)
{
    size_t low = 0, high = set->count;

    while (low < high) {
        size_t middle = (low + high) / 2;

        if (set->items[middle]->id < id)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static int list_reserve(struct snapshot_set *set)
{
    struct snapshot **grown;
    size_t capacity = set->capacity * 2 + 16;

    if (set->count < set->capacity)
        return 0;
    grown = realloc(set->items, capacity * sizeof *grown);
    if (grown == NULL)
        return -ENOMEM;
    set->items = grown;
    set->capacity = capacity;
    return 0;
}

/* Takes the reference over; room was reserved. */
static void list_insert(struct snapshot_set *set, struct snapshot *snapshot)
{
    size_t at = snapshot_index_locked(set, snapshot->id);

    memmove(&set->items[at + 1], &set->items[at], (set->count - at) * sizeof *set->items);
    set->items[at] = snapshot;
    set->count++;
    set->generation++;
}

static struct snapshot *find_name_locked(struct snapshot_set *set, struct slice name)
{
    for (size_t i = 0; i < set->count; i++)
        if (slice_equal(slice_of_string(set->items[i]->name), name))
            return set->items[i];
    return NULL;
}

struct snapshot *snapshot_find(struct snapshot_set *set, struct slice name)
{
    struct snapshot *found;

    lock_acquire(&set->list_lock);
    found = find_name_locked(set, name);
    if (found != NULL)
        snapshot_ref(found);
    lock_release(&set->list_lock);
    return found;
}

struct snapshot *snapshot_find_id(struct snapshot_set *set, uint64_t id)
{
    struct snapshot *found = NULL;
    size_t at;

    lock_acquire(&set->list_lock);
    at = snapshot_index_locked(set, id);
    if (at < set->count && set->items[at]->id == id)
        found = snapshot_ref(set->items[at]);
    lock_release(&set->list_lock);
    return found;
}

struct snapshot *snapshot_next(struct snapshot_set *set, uint64_t id)
{
    struct snapshot *found = NULL;
    size_t at;

    lock_acquire(&set->list_lock);
    at = snapshot_index_locked(set, id + 1);
    if (at < set->count)
        found = snapshot_ref(set->items[at]);
    lock_release(&set->list_lock);
    return found;
}

size_t snapshot_count(struct snapshot_set *set)
{
    size_t count;

    lock_acquire(&set->list_lock);
    count = set->count;
    lock_release(&set->list_lock);
    return count;
}

/* ---- when the list changed ---- */

static struct slice state_key(uint8_t key[9])
{
    memset(key, 0, 8);
    key[8] = SNAPSHOT_KEY_TYPE;
    return slice_of(key, 9);
}

static bool time_before(struct timespec a, struct timespec b)
{
    return a.tv_sec < b.tv_sec || (a.tv_sec == b.tv_sec && a.tv_nsec < b.tv_nsec);
}

static int load_changed(struct snapshot_set *set)
{
    struct engine_view *view = engine_view_acquire(set->engine);
    struct buffer value = {0};
    uint8_t key[9];
    int result = view != NULL ? engine_view_get(view, state_key(key), &value, NULL) : -ENOMEM;

    if (result > 0 && value.size == 12) {
        set->changed.tv_sec = (time_t)get_le64(value.data);
        set->changed.tv_nsec = get_le32(value.data + 8);
    }
    /* The record is not synced on its own: after a crash the newest creation may be newer. */
    if (set->count > 0 && time_before(set->changed, set->items[set->count - 1]->created))
        set->changed = set->items[set->count - 1]->created;
    engine_view_release(view);
    buffer_free(&value);
    return result < 0 ? result : 0;
}

void snapshot_put_changed(struct batch *batch, struct timespec changed)
{
    uint8_t key[9], value[12];

    put_le64(value, (uint64_t)changed.tv_sec);
    put_le32(value + 8, (uint32_t)changed.tv_nsec);
    batch_put(batch, state_key(key), slice_of(value, sizeof value));
}

static void note_changed(struct snapshot_set *set)
{
    struct batch batch = {0};
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    snapshot_put_changed(&batch, now);
    (void)engine_write(set->engine, &batch, NULL); /* a directory's mtime; not worth failing for */
    batch_free(&batch);
    lock_acquire(&set->list_lock);
    set->changed = now;
    lock_release(&set->list_lock);
}

struct timespec snapshot_set_changed(struct snapshot_set *set)
{
    struct timespec changed;

    lock_acquire(&set->list_lock);
    changed = set->changed;
    lock_release(&set->list_lock);
    return changed;
}

/* ---- loading ---- */

struct load_context {
    struct snapshot_set *set;
    int error;
};

static int load_visit(void *context, const struct engine_checkpoint_info *info)
{
    struct load_context *load = context;
    struct snapshot *snapshot = snapshot_new(load->set);
    int result = snapshot != NULL ? list_reserve(load->set) : -ENOMEM;

    if (result == 0 && info->name_size > SNAPSHOT_NAME_SIZE_MAX)
        result = ERROR_CORRUPT;
    if (result == 0)
        result = snapshot_payload_decode(slice_of(info->payload, info->payload_size),
                                         &snapshot->created, &snapshot->tags);
    if (result < 0) {
        free(snapshot);
        load->error = result;
        return 1;
    }
    snapshot->id = info->id;
    snapshot->sequence = info->sequence;
    set_name(snapshot, slice_of(info->name, info->name_size));
    list_insert(load->set, snapshot);
    return 0;
}

int snapshot_set_open(struct engine *engine, const struct snapshot_options *options,
                      struct snapshot_set **ret_set)
{
    struct snapshot_set *set = calloc(1, sizeof *set);
    struct load_context load = {set, 0};
    int result;

    if (set == NULL)
        return -ENOMEM;
    set->engine = engine;
    set->views_max = options->views_max;
    set->ring.newer = set->ring.older = &set->ring;
    lock_init(&set->change_lock, LOCK_RANK_SNAPSHOT_CHANGE);
    lock_init(&set->list_lock, LOCK_RANK_SNAPSHOT_LIST);
    lock_condition_init(&set->view_opened);
    result = engine_checkpoint_each(engine, load_visit, &load);
    if (result > 0)
        result = load.error;
    if (result == 0)
        result = load_changed(set);
    if (result == 0)
        result = snapshot_load_borders(set);
    if (result < 0) {
        snapshot_set_close(set);
        return result;
    }
    *ret_set = set;
    return 0;
}

void snapshot_set_close(struct snapshot_set *set)
{
    if (set == NULL)
        return;
    for (size_t i = 0; i < set->count; i++)
        snapshot_unref(set->items[i]);
    free(set->items);
    free(set->borders);
    lock_destroy(&set->change_lock);
    lock_destroy(&set->list_lock);
    pthread_cond_destroy(&set->view_opened);
    free(set);
}

/* ---- creating ---- */

static int tags_copy(struct snapshot_tags *to, const struct snapshot_tag *tags, size_t count)
{
    to->items = calloc(count + 1, sizeof *to->items);
    if (to->items == NULL)
        return -ENOMEM;
    for (; to->count < count; to->count++) {
        struct snapshot_tag *item = &to->items[to->count];

        item->key = strdup(tags[to->count].key);
        item->value = strdup(tags[to->count].value);
        if (item->key == NULL || item->value == NULL) {
            to->count++; /* so that both are freed */
            return -ENOMEM;
        }
    }
    return 0;
}

/* Create under `name`; change_lock held, room in the list. */
static int create_named(struct snapshot_set *set, struct slice name, struct slice payload,
                        struct snapshot *snapshot)
{
    int result = engine_checkpoint_create(set->engine, name, payload, &snapshot->id);

    if (result == 0)
        set_name(snapshot, name);
    return result;
}

static int create_default(struct snapshot_set *set, struct slice payload, struct snapshot *snapshot)
{
    char name[40];
    int result = -EEXIST;

    for (unsigned attempt = 1; result == -EEXIST && attempt <= DEFAULT_NAME_ATTEMPTS; attempt++) {
        snapshot_name_default(name, snapshot->created.tv_sec, attempt);
        result = create_named(set, slice_of_string(name), payload, snapshot);
    }
    return result;
}

static int sequence_visit(void *context, const struct engine_checkpoint_info *info)
{
    uint64_t *sequence = context;

    *sequence = info->sequence;
    return 0;
}

int snapshot_create_locked(struct snapshot_set *set, struct slice name,
                           const struct snapshot_tag *tags, size_t tag_count,
                           struct snapshot **ret_snapshot)
{
    struct snapshot *snapshot;
    struct buffer payload = {0};
    int result = name.size > 0 ? snapshot_name_check(name) : 0;

    if (result < 0)
        return result;
    snapshot = snapshot_new(set);
    if (snapshot == NULL)
        return -ENOMEM;
    clock_gettime(CLOCK_REALTIME, &snapshot->created);
    result = tags_copy(&snapshot->tags, tags, tag_count);
    if (result == 0)
        result = snapshot_payload_encode(snapshot->created, tags, tag_count, &payload);
    if (result == 0) {
        lock_acquire(&set->list_lock);
        result = list_reserve(set);
        if (result == 0 && set->count > 0 && set->items[set->count - 1]->id >= SNAPSHOT_ID_MAX)
            result = -EMFILE;
        lock_release(&set->list_lock);
    }
    if (result == 0)
        result = name.size > 0 ? create_named(set, name, buffer_slice(&payload), snapshot)
                               : create_default(set, buffer_slice(&payload), snapshot);
    if (result == 0) {
        (void)engine_checkpoint_one(set->engine, snapshot->id, sequence_visit, &snapshot->sequence);
        snapshot_ref(snapshot); /* the caller's */
        lock_acquire(&set->list_lock);
        list_insert(set, snapshot);
        lock_release(&set->list_lock);
        note_changed(set);
        *ret_snapshot = snapshot;
    }
    buffer_free(&payload);
    if (result < 0)
        snapshot_unref(snapshot);
    return result;
}

int snapshot_create(struct snapshot_set *set, struct slice name, const struct snapshot_tag *tags,
                    size_t tag_count, struct snapshot **ret_snapshot)
{
    int result;

    lock_acquire(&set->change_lock);
    result = snapshot_create_locked(set, name, tags, tag_count, ret_snapshot);
    lock_release(&set->change_lock);
    return result;
}

int snapshot_wait(struct snapshot_set *set, struct snapshot *snapshot)
{
    return engine_checkpoint_wait(set->engine, snapshot->id);
}

/* ---- deleting, renaming ---- */

int snapshot_delete_locked(struct snapshot_set *set, struct slice name)
{
    struct engine_view *view = NULL;
    struct snapshot *snapshot;
    int result;

    snapshot = snapshot_find(set, name);
    result = snapshot != NULL ? engine_checkpoint_delete(set->engine, snapshot->id) : -ENOENT;
    if (result == 0) {
        lock_acquire(&set->list_lock);
        size_t at = snapshot_index_locked(set, snapshot->id);

        set->count--;
        memmove(&set->items[at], &set->items[at + 1], (set->count - at) * sizeof *set->items);
        set->generation++;
        snapshot->deleted = true;
        view = snapshot_view_detach_locked(snapshot);
        lock_release(&set->list_lock);
        engine_view_release(view);
        snapshot_unref(snapshot); /* the list's */
        note_changed(set);
    }
    snapshot_unref(snapshot);
    return result;
}

int snapshot_delete(struct snapshot_set *set, struct slice name)
{
    int result;

    lock_acquire(&set->change_lock);
    result = snapshot_delete_locked(set, name);
    lock_release(&set->change_lock);
    return result;
}

int snapshot_delete_this(struct snapshot_set *set, struct snapshot *snapshot)
{
    char name[SNAPSHOT_NAME_SIZE_MAX + 1];
    int result = -ENOENT;

    lock_acquire(&set->change_lock);
    if (!snapshot_deleted(snapshot)) {
        snapshot_get_name(snapshot, name);
        result = snapshot_delete_locked(set, slice_of_string(name));
    }
    lock_release(&set->change_lock);
    return result;
}

int snapshot_rename(struct snapshot_set *set, struct slice from, struct slice to)
{
    struct snapshot *snapshot = NULL;
    int result = snapshot_name_check(to);

    if (result < 0)
        return result;
    lock_acquire(&set->change_lock);
    snapshot = snapshot_find(set, from);
    if (snapshot == NULL)
        result = -ENOENT;
    else if (!slice_equal(from, to))
        result = engine_checkpoint_rename(set->engine, snapshot->id, to);
    if (result == 0) {
        lock_acquire(&set->list_lock);
        set_name(snapshot, to);
        lock_release(&set->list_lock);
        note_changed(set);
    }
    lock_release(&set->change_lock);
    snapshot_unref(snapshot);
    return result;
}

/* ---- small questions ---- */

uint64_t snapshot_id(const struct snapshot *snapshot)
{
    return snapshot->id;
}

uint64_t snapshot_sequence(const struct snapshot *snapshot)
{
    return snapshot->sequence;
}

struct timespec snapshot_created(const struct snapshot *snapshot)
{
    return snapshot->created;
}

void snapshot_get_name(struct snapshot *snapshot, char name[SNAPSHOT_NAME_SIZE_MAX + 1])
{
    lock_acquire(&snapshot->set->list_lock);
    memcpy(name, snapshot->name, sizeof snapshot->name);
    lock_release(&snapshot->set->list_lock);
}

size_t snapshot_tag_count(const struct snapshot *snapshot)
{
    return snapshot->tags.count;
}

struct snapshot_tag snapshot_tag_at(const struct snapshot *snapshot, size_t index)
{
    return snapshot->tags.items[index];
}

bool snapshot_deleted(const struct snapshot *snapshot)
{
    return __atomic_load_n(&snapshot->deleted, __ATOMIC_RELAXED);
}

static int numbers_visit(void *context, const struct engine_checkpoint_info *info)
{
    struct engine_checkpoint_info *numbers = context;

    *numbers = *info;
    numbers->name = numbers->payload = NULL; /* lived during the callback */
    numbers->name_size = numbers->payload_size = 0;
    return 0;
}

bool snapshot_get_numbers(struct snapshot *snapshot, struct engine_checkpoint_info *ret_info)
{
    struct engine_checkpoint_info info = {0};

    if (engine_checkpoint_one(snapshot->set->engine, snapshot->id, numbers_visit, &info) < 0)
        return false;
    *ret_info = info;
    return info.materialised;
}
