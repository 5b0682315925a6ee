/* SPDX-License-Identifier: Apache-2.0 */
/*
 * crash_history.c - recording what enters an engine
 */
#include "tests/lib/crash_history.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "engine/base/checksum.h"
#include "engine/blob_writer.h"
#include "tests/lib/crash_history_internal.h"

static pthread_mutex_t recording_lock = PTHREAD_MUTEX_INITIALIZER;
static struct crash_history *recording;
static struct engine *recorded_engine;
static unsigned creations; /* of checkpoints, under way */
static pthread_cond_t creation_noted = PTHREAD_COND_INITIALIZER;
/* Of the engine that is open: compaction may move data before anything else is recorded. */
static struct crash_frames *recorded_frames;

void *crash_must(void *memory)
{
    if (memory == NULL)
        abort();
    return memory;
}

void crash_grow(void *array, size_t *room, size_t count, size_t element)
{
    void **memory = array;

    if (count < *room)
        return;
    *room = *room * 2 + 32;
    *memory = crash_must(realloc(*memory, *room * element));
}

char *crash_text(const char *format, ...)
{
    va_list arguments;
    char *text;

    va_start(arguments, format);
    if (vasprintf(&text, format, arguments) < 0)
        abort();
    va_end(arguments);
    return text;
}

/* ---- objects ---- */

static struct crash_frames *frames_new(struct crash_frames *parent)
{
    struct crash_frames *frames = crash_must(calloc(1, sizeof *frames));

    frames->references = 1;
    frames->parent = parent;
    if (parent != NULL)
        parent->references++;
    return frames;
}

static void frames_unref(struct crash_frames *frames)
{
    if (frames == NULL || --frames->references > 0)
        return;
    frames_unref(frames->parent);
    for (size_t i = 0; i < frames->count; i++)
        free(frames->list[i].data);
    free(frames->list);
    free(frames);
}

/* Frames go there from now on. */
static void record_frames(struct crash_frames *frames)
{
    struct crash_frames *before;

    pthread_mutex_lock(&recording_lock);
    before = recorded_frames;
    recorded_frames = frames;
    frames->references++;
    pthread_mutex_unlock(&recording_lock);
    frames_unref(before);
}

struct crash_history *crash_history_new(void)
{
    struct crash_history *history = crash_must(calloc(1, sizeof *history));

    history->references = 1;
    history->frames = frames_new(NULL);
    record_frames(history->frames);
    return history;
}

void crash_history_expect(struct crash_history *history)
{
    struct crash_frames *frames = frames_new(history->frames);

    record_frames(frames);
    frames_unref(frames);
}

struct crash_history *crash_history_ref(struct crash_history *history)
{
    history->references++;
    return history;
}

void crash_history_unref(struct crash_history *history)
{
    if (history == NULL || --history->references > 0)
        return;
    for (size_t i = 0; i < history->batch_count; i++)
        free(history->batches[i].bytes.data);
    for (size_t i = 0; i < history->event_count; i++)
        free(history->events[i].name);
    free(history->batches);
    free(history->events);
    free(history->digests);
    frames_unref(history->frames);
    free(history);
}

static void add_event(struct crash_history *history, struct crash_event event)
{
    crash_grow(&history->events, &history->event_room, history->event_count,
               sizeof *history->events);
    history->events[history->event_count++] = event;
}

static char *copy_name(struct slice name)
{
    return crash_must(strndup((const char *)name.data, name.size));
}

/* ---- recording ---- */

void crash_history_record(struct crash_history *history, struct engine *engine)
{
    pthread_mutex_lock(&recording_lock);
    recording = history;
    recorded_engine = engine;
    pthread_mutex_unlock(&recording_lock);
}

/* The history that records what enters `engine`, locked; NULL (not locked) when none does. */
static struct crash_history *recorder_lock(const struct engine *engine)
{
    pthread_mutex_lock(&recording_lock);
    if (recording != NULL && engine == recorded_engine)
        return recording;
    pthread_mutex_unlock(&recording_lock);
    return NULL;
}

static void recorder_unlock(void)
{
    pthread_mutex_unlock(&recording_lock);
}

size_t crash_history_events(struct crash_history *history)
{
    size_t count;

    pthread_mutex_lock(&recording_lock);
    count = history->event_count;
    pthread_mutex_unlock(&recording_lock);
    return count;
}

void crash_history_note_synced(struct crash_history *history, uint64_t sequence)
{
    pthread_mutex_lock(&recording_lock);
    add_event(history, (struct crash_event){.kind = CRASH_EVENT_SYNCED, .sequence = sequence});
    pthread_mutex_unlock(&recording_lock);
}

void crash_history_note_tree(struct crash_history *history, uint64_t sequence, uint64_t digest)
{
    pthread_mutex_lock(&recording_lock);
    add_event(history,
              (struct crash_event){.kind = CRASH_EVENT_TREE, .sequence = sequence, .id = digest});
    pthread_mutex_unlock(&recording_lock);
}

bool crash_history_tree(struct crash_history *history, uint64_t sequence, uint64_t *ret_digest)
{
    const struct crash_event *found = NULL;

    for (size_t i = 0; i < history->event_count; i++) {
        const struct crash_event *event = &history->events[i];

        if (event->kind == CRASH_EVENT_TREE && event->sequence <= sequence)
            found = event;
    }
    if (found != NULL)
        *ret_digest = found->id;
    return found != NULL;
}

uint64_t crash_history_rollback_sequence(struct crash_history *history)
{
    uint64_t sequence = 0;

    for (size_t i = 0; i < history->event_count; i++)
        if (history->events[i].kind == CRASH_EVENT_ROLLED_BACK)
            sequence = history->events[i].sequence;
    return sequence;
}

/* A rollback comes after the batch that it ends with. */
static int compare_batches(const void *left, const void *right)
{
    const struct crash_batch *a = left, *b = right;

    if (a->first != b->first)
        return a->first < b->first ? -1 : 1;
    return (int)a->is_rollback - (int)b->is_rollback;
}

/* Batches of several threads come in any order. */
void crash_history_sort(struct crash_history *history)
{
    if (history->is_sorted)
        return;
    if (history->batch_count > 0)
        qsort(history->batches, history->batch_count, sizeof *history->batches, compare_batches);
    history->is_sorted = true;
}

static void add_batch(struct crash_history *history, struct crash_batch batch)
{
    crash_grow(&history->batches, &history->batch_room, history->batch_count,
               sizeof *history->batches);
    history->batches[history->batch_count++] = batch;
    history->is_sorted = false;
}

/* ---- what the linker puts between ---- */

int __real_engine_write(struct engine *engine, const struct batch *batch,
                        uint64_t *ret_first_sequence);
int __wrap_engine_write(struct engine *engine, const struct batch *batch,
                        uint64_t *ret_first_sequence);
int __real_engine_sync(struct engine *engine, uint64_t sequence);
int __wrap_engine_sync(struct engine *engine, uint64_t sequence);
int __real_blob_writer_append(struct blob_writer *writer, const void *data, uint32_t size,
                              enum blob_effort effort, struct blob_ref *ret_ref);
int __wrap_blob_writer_append(struct blob_writer *writer, const void *data, uint32_t size,
                              enum blob_effort effort, struct blob_ref *ret_ref);
int __real_engine_checkpoint_create(struct engine *engine, struct slice name, struct slice payload,
                                    uint64_t *ret_id);
int __wrap_engine_checkpoint_create(struct engine *engine, struct slice name, struct slice payload,
                                    uint64_t *ret_id);
int __real_engine_checkpoint_delete(struct engine *engine, uint64_t id);
int __wrap_engine_checkpoint_delete(struct engine *engine, uint64_t id);
int __real_engine_checkpoint_rename(struct engine *engine, uint64_t id, struct slice name);
int __wrap_engine_checkpoint_rename(struct engine *engine, uint64_t id, struct slice name);
int __real_engine_checkpoint_set_payload(struct engine *engine, uint64_t id, struct slice payload);
int __wrap_engine_checkpoint_set_payload(struct engine *engine, uint64_t id, struct slice payload);

int __real_engine_rollback(struct engine *engine, uint64_t id, const struct batch *also);
int __wrap_engine_rollback(struct engine *engine, uint64_t id, const struct batch *also);

int __wrap_engine_write(struct engine *engine, const struct batch *batch,
                        uint64_t *ret_first_sequence)
{
    struct crash_history *history;
    uint64_t first = 0;
    int result = __real_engine_write(engine, batch, &first);

    if (result == 0 && first > 0) {
        history = recorder_lock(engine);
        if (history != NULL) {
            struct crash_batch noted = {.first = first, .count = batch->count};

            if (buffer_append(&noted.bytes, batch->bytes.data, batch->bytes.size) != 0)
                abort();
            add_batch(history, noted);
            recorder_unlock();
        }
    }
    if (result == 0 && ret_first_sequence != NULL && first > 0)
        *ret_first_sequence = first;
    return result;
}

int __wrap_engine_sync(struct engine *engine, uint64_t sequence)
{
    int result = __real_engine_sync(engine, sequence);

    if (result == 0) {
        struct crash_history *history = recorder_lock(engine);

        if (history != NULL) {
            add_event(history,
                      (struct crash_event){.kind = CRASH_EVENT_SYNCED, .sequence = sequence});
            recorder_unlock();
        }
    }
    return result;
}

int __wrap_blob_writer_append(struct blob_writer *writer, const void *data, uint32_t size,
                              enum blob_effort effort, struct blob_ref *ret_ref)
{
    int result = __real_blob_writer_append(writer, data, size, effort, ret_ref);

    if (result == 0) {
        pthread_mutex_lock(&recording_lock);
        if (recorded_frames != NULL) {
            struct crash_frames *frames = recorded_frames;
            struct crash_frame frame = {.chunk_id = ret_ref->chunk_id,
                                        .position = ret_ref->position,
                                        .size = size,
                                        .data = crash_must(malloc(size))};

            memcpy(frame.data, data, size);
            crash_grow(&frames->list, &frames->room, frames->count, sizeof *frames->list);
            frames->list[frames->count++] = frame;
        }
        pthread_mutex_unlock(&recording_lock);
    }
    return result;
}

static void note_checkpoint(struct engine *engine, enum crash_event_kind kind, uint64_t id,
                            uint64_t sequence, struct slice name)
{
    struct crash_history *history = recorder_lock(engine);

    if (history == NULL)
        return;
    add_event(history, (struct crash_event){.kind = kind,
                                            .id = id,
                                            .sequence = sequence,
                                            .name = name.data != NULL ? copy_name(name) : NULL});
    recorder_unlock();
}

struct sequence_search {
    uint64_t id, sequence;
};

static int find_sequence(void *context, const struct engine_checkpoint_info *info)
{
    struct sequence_search *search = context;

    if (info->id != search->id)
        return 0;
    search->sequence = info->sequence;
    return 1;
}

/* ---- of checkpoints that others see before their maker has said so ---- */

static void creation_begun(void)
{
    pthread_mutex_lock(&recording_lock);
    creations++;
    pthread_mutex_unlock(&recording_lock);
}

static void creation_ended(void)
{
    pthread_mutex_lock(&recording_lock);
    creations--;
    pthread_cond_broadcast(&creation_noted);
    pthread_mutex_unlock(&recording_lock);
}

static bool is_noted(const struct crash_history *history, uint64_t id)
{
    for (size_t i = 0; i < history->event_count; i++)
        if (history->events[i].kind == CRASH_EVENT_CREATED && history->events[i].id == id)
            return true;
    return false;
}

/* A checkpoint is in the engine's list before the call that makes it has returned. Whoever changes
 * it waits until it is noted: its deletion is not to be noted before. */
static void creation_wait(struct engine *engine, uint64_t id)
{
    struct crash_history *history = recorder_lock(engine);

    if (history == NULL)
        return;
    while (creations > 0 && !is_noted(history, id))
        pthread_cond_wait(&creation_noted, &recording_lock);
    recorder_unlock();
}

int __wrap_engine_checkpoint_create(struct engine *engine, struct slice name, struct slice payload,
                                    uint64_t *ret_id)
{
    uint64_t id = 0;
    int result;

    creation_begun();
    result = __real_engine_checkpoint_create(engine, name, payload, &id);
    if (result == 0) {
        struct sequence_search search = {.id = id};

        (void)engine_checkpoint_each(engine, find_sequence, &search);
        if (search.sequence == 0)
            abort(); /* nobody deletes what was not noted */
        note_checkpoint(engine, CRASH_EVENT_CREATED, id, search.sequence, name);
        *ret_id = id;
    }
    creation_ended();
    return result;
}

int __wrap_engine_checkpoint_delete(struct engine *engine, uint64_t id)
{
    int result;

    creation_wait(engine, id);
    note_checkpoint(engine, CRASH_EVENT_DELETE_BEGUN, id, 0, slice_of(NULL, 0));
    result = __real_engine_checkpoint_delete(engine, id);
    if (result == 0)
        note_checkpoint(engine, CRASH_EVENT_DELETED, id, 0, slice_of(NULL, 0));
    return result;
}

int __wrap_engine_checkpoint_rename(struct engine *engine, uint64_t id, struct slice name)
{
    int result;

    creation_wait(engine, id);
    note_checkpoint(engine, CRASH_EVENT_RENAME_BEGUN, id, 0, name);
    result = __real_engine_checkpoint_rename(engine, id, name);
    note_checkpoint(engine, result == 0 ? CRASH_EVENT_RENAMED : CRASH_EVENT_RENAME_FAILED, id, 0,
                    name);
    return result;
}

/* Nobody else writes meanwhile, so the number that is the last afterwards is that of the
 * rollback. */
int __wrap_engine_rollback(struct engine *engine, uint64_t id, const struct batch *also)
{
    struct sequence_search search = {.id = id};
    struct crash_history *history;
    int result;

    (void)engine_checkpoint_each(engine, find_sequence, &search);
    result = __real_engine_rollback(engine, id, also);
    if (result < 0)
        return result;
    history = recorder_lock(engine);
    if (history != NULL) {
        uint64_t sequence = engine_sequence(engine);

        add_batch(history, (struct crash_batch){.first = sequence,
                                                .is_rollback = true,
                                                .target = search.sequence,
                                                .also_count = also->count});
        add_event(history,
                  (struct crash_event){.kind = CRASH_EVENT_ROLLED_BACK, .sequence = sequence});
        recorder_unlock();
    }
    return 0;
}

int __wrap_engine_checkpoint_set_payload(struct engine *engine, uint64_t id, struct slice payload)
{
    return __real_engine_checkpoint_set_payload(engine, id, payload);
}

/* ---- a second life ---- */

uint64_t crash_history_last(struct crash_history *history)
{
    uint64_t last = 0;

    crash_history_sort(history);
    if (history->batch_count > 0) {
        const struct crash_batch *batch = &history->batches[history->batch_count - 1];

        last = batch->is_rollback ? batch->first : batch->first + batch->count - 1;
    }
    for (size_t i = 0; i < history->event_count; i++)
        if (history->events[i].kind == CRASH_EVENT_CREATED && history->events[i].sequence > last)
            last = history->events[i].sequence;
    return last;
}

static int fork_checkpoint(void *context, const struct engine_checkpoint_info *info)
{
    struct crash_history *history = context;

    add_event(history,
              (struct crash_event){.kind = CRASH_EVENT_CREATED,
                                   .id = info->id,
                                   .sequence = info->sequence,
                                   .name = copy_name(slice_of(info->name, info->name_size))});
    return 0;
}

/* Did the rollback with the last number not come to be? Both are possible while it is not
 * acknowledged; what is there tells. */
static bool is_before_rollback(struct crash_history *history, struct engine *engine)
{
    struct engine_view *view;
    uint64_t before, found;
    bool is_before = false;

    if (!crash_history_digest_before_rollback(history, engine_sequence(engine), &before))
        return false;
    view = engine_view_acquire(engine);
    if (view == NULL)
        abort();
    is_before = crash_view_digest(view, &found) == 0 && found == before;
    engine_view_release(view);
    return is_before;
}

struct crash_history *crash_history_fork(struct crash_history *history, struct engine *engine)
{
    struct crash_history *copy = crash_must(calloc(1, sizeof *copy));
    uint64_t sequence = engine_sequence(engine);
    bool leave_out = is_before_rollback(history, engine);

    crash_history_sort(history);
    copy->references = 1;
    copy->frames = recorded_frames;
    copy->frames->references++;
    for (size_t i = 0; i < history->batch_count && history->batches[i].first <= sequence; i++) {
        struct crash_batch batch = history->batches[i];

        if (leave_out && batch.is_rollback && batch.first == sequence)
            continue;
        batch.bytes = (struct buffer){0};
        if (!batch.is_rollback && buffer_append(&batch.bytes, history->batches[i].bytes.data,
                                                history->batches[i].bytes.size) != 0)
            abort();
        add_batch(copy, batch);
    }
    copy->is_sorted = true;
    for (size_t i = 0; i < history->event_count; i++) {
        const struct crash_event *event = &history->events[i];

        if (event->kind == CRASH_EVENT_TREE && event->sequence <= sequence - (leave_out ? 1 : 0))
            add_event(copy, *event);
    }
    (void)engine_checkpoint_each(engine, fork_checkpoint, copy);
    add_event(copy, (struct crash_event){.kind = CRASH_EVENT_SYNCED, .sequence = sequence});
    return copy;
}
