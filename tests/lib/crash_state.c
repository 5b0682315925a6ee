/* SPDX-License-Identifier: Apache-2.0 */
/*
 * crash_state.c - the state that a history says there was at a sequence number, and that of a view
 */
#include <stdio.h>
#include <stdlib.h>

#include "engine/base/checksum.h"
#include "engine/blob_ref.h"
#include "tests/lib/crash_history_internal.h"

/* ---- the state at a sequence number ---- */

struct state_entry {
    struct slice key;
    enum record_kind kind;
    uint64_t hash; /* of the value's content */
};

struct state {
    struct state_entry *entries; /* by key */
    size_t count, room;
};

static size_t state_position(const struct state *state, struct slice key)
{
    size_t low = 0, high = state->count;

    while (low < high) {
        size_t middle = (low + high) / 2;

        if (slice_compare(state->entries[middle].key, key) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static void state_remove(struct state *state, size_t from, size_t to)
{
    memmove(&state->entries[from], &state->entries[to],
            (state->count - to) * sizeof *state->entries);
    state->count -= to - from;
}

static void state_put(struct state *state, struct state_entry entry)
{
    size_t at = state_position(state, entry.key);

    if (at < state->count && slice_equal(state->entries[at].key, entry.key)) {
        state->entries[at] = entry;
        return;
    }
    crash_grow(&state->entries, &state->room, state->count, sizeof *state->entries);
    memmove(&state->entries[at + 1], &state->entries[at],
            (state->count - at) * sizeof *state->entries);
    state->entries[at] = entry;
    state->count++;
}

static const struct crash_frame *find_frame(const struct crash_history *history,
                                            const struct blob_ref *ref)
{
    /* From the end: what was written last is asked for most. */
    for (const struct crash_frames *frames = history->frames; frames != NULL;
         frames = frames->parent)
        for (size_t i = frames->count; i-- > 0;)
            if (frames->list[i].chunk_id == ref->chunk_id &&
                frames->list[i].position == ref->position)
                return &frames->list[i];
    return NULL;
}

static uint64_t content_hash(const void *data, size_t size)
{
    return checksum64_seeded(data, size, size);
}

static uint64_t reference_hash(const struct crash_history *history, struct slice value)
{
    const struct crash_frame *frame;
    struct blob_ref ref;

    if (blob_ref_decode(value, &ref) != 0)
        abort();
    frame = find_frame(history, &ref);
    if (frame == NULL || ref.skip + ref.length > frame->size) {
        fprintf(stderr, "history: frame at %llu of chunk %llx was never written\n",
                (unsigned long long)ref.position, (unsigned long long)ref.chunk_id);
        abort();
    }
    return content_hash(frame->data + ref.skip, ref.length);
}

static void state_apply(const struct crash_history *history, struct state *state,
                        const struct crash_batch *batch)
{
    struct record record;
    size_t cursor = 0;
    int result;

    while ((result = batch_next(buffer_slice(&batch->bytes), &cursor, &record)) > 0) {
        size_t at = state_position(state, record.key);
        bool found = at < state->count && slice_equal(state->entries[at].key, record.key);

        switch (record.kind) {
        case RECORD_VALUE:
            state_put(state,
                      (struct state_entry){record.key, RECORD_VALUE,
                                           content_hash(record.value.data, record.value.size)});
            break;
        case RECORD_REFERENCE:
            state_put(state, (struct state_entry){record.key, RECORD_REFERENCE,
                                                  reference_hash(history, record.value)});
            break;
        case RECORD_DELETE:
            if (found)
                state_remove(state, at, at + 1);
            break;
        case RECORD_DELETE_RANGE:
            state_remove(state, at, state_position(state, record.value));
            break;
        }
    }
    if (result < 0)
        abort();
}

/* The state after all batches up to `sequence`; false when one of them goes beyond it. */
static bool state_build(struct crash_history *history, uint64_t sequence, struct state *state);

/* The state at the rollback's target, and what was written with the rollback. */
static void state_roll_back(struct crash_history *history, struct state *state, size_t position)
{
    const struct crash_batch *rollback = &history->batches[position];

    free(state->entries);
    if (!state_build(history, rollback->target, state))
        abort();
    for (size_t i = 0; i < position && rollback->also_count > 0; i++) {
        const struct crash_batch *also = &history->batches[i];

        if (!also->is_rollback && also->first + also->count - 1 == rollback->first)
            state_apply(history, state, also);
    }
}

/* With the rollback at `left_out` left out (0: none is). False: in the middle of a batch. */
static bool state_build_without(struct crash_history *history, uint64_t sequence, uint64_t left_out,
                                struct state *state)
{
    crash_history_sort(history);
    *state = (struct state){0};
    for (size_t i = 0; i < history->batch_count; i++) {
        const struct crash_batch *batch = &history->batches[i];

        if (batch->first > sequence)
            break;
        if (batch->is_rollback) {
            if (batch->first != left_out)
                state_roll_back(history, state, i);
            continue;
        }
        if (batch->first + batch->count - 1 > sequence) {
            free(state->entries);
            return false;
        }
        state_apply(history, state, batch);
    }
    return true;
}

static bool state_build(struct crash_history *history, uint64_t sequence, struct state *state)
{
    return state_build_without(history, sequence, 0, state);
}

static uint64_t digest_add(uint64_t digest, struct slice key, enum record_kind kind, uint64_t hash)
{
    uint64_t parts[3] = {digest, (uint64_t)kind, hash};

    return checksum64_seeded(key.data, key.size, checksum64(parts, sizeof parts));
}

static uint64_t state_digest(const struct state *state)
{
    uint64_t digest = 0;

    for (size_t i = 0; i < state->count; i++)
        digest = digest_add(digest, state->entries[i].key, state->entries[i].kind,
                            state->entries[i].hash);
    return digest;
}

bool crash_history_digest(struct crash_history *history, uint64_t sequence, uint64_t *ret_digest)
{
    struct state state;

    for (size_t i = 0; i < history->digest_count; i++) {
        if (history->digests[i].sequence == sequence) {
            *ret_digest = history->digests[i].digest;
            return true;
        }
    }
    if (!state_build(history, sequence, &state))
        return false;
    *ret_digest = state_digest(&state);
    free(state.entries);
    crash_grow(&history->digests, &history->digest_room, history->digest_count,
               sizeof *history->digests);
    history->digests[history->digest_count++] = (struct crash_digest){sequence, *ret_digest};
    return true;
}

bool crash_history_digest_before_rollback(struct crash_history *history, uint64_t sequence,
                                          uint64_t *ret_digest)
{
    struct state state;
    bool found = false;

    for (size_t i = 0; i < history->batch_count; i++)
        found |= history->batches[i].is_rollback && history->batches[i].first == sequence;
    if (!found || !state_build_without(history, sequence, sequence, &state))
        return false;
    *ret_digest = state_digest(&state);
    free(state.entries);
    return true;
}

/* ---- the state of a view ---- */

static int read_hash(struct engine_view *view, const struct record *record, struct buffer *data,
                     uint64_t *ret_hash)
{
    struct blob_ref ref;
    struct engine_blob_read read;
    int result = 0;

    if (record->kind == RECORD_VALUE) {
        *ret_hash = content_hash(record->value.data, record->value.size);
        return 0;
    }
    result = blob_ref_decode(record->value, &ref);
    if (result == 0)
        result = buffer_reserve(data, ref.length);
    if (result < 0)
        return result;
    read = (struct engine_blob_read){&ref, data->data};
    result = engine_blob_read(view, &read, 1);
    if (result == 0)
        *ret_hash = content_hash(data->data, ref.length);
    return result;
}

static char *key_text(struct slice key)
{
    char *text = crash_must(calloc(2 * key.size + 1, 1));

    for (size_t i = 0; i < key.size; i++)
        snprintf(text + 2 * i, 3, "%02x", key.data[i]);
    return text;
}

static char *about_key(struct slice key, uint64_t sequence, const char *what)
{
    char *hex = key_text(key);
    char *text = crash_text("key %s at sequence %llu: %s", hex, (unsigned long long)sequence, what);

    free(hex);
    return text;
}

/* Which key is not as it should be. */
static char *find_difference(struct crash_history *history, struct engine_view *view)
{
    uint64_t sequence = engine_view_sequence(view), hash = 0;
    struct engine_iterator *iterator;
    struct buffer data = {0};
    struct state state;
    size_t at = 0;
    char *wrong = NULL;
    int result;

    if (!state_build(history, sequence, &state))
        return crash_text("sequence %llu lies in the middle of a batch",
                          (unsigned long long)sequence);
    if (engine_iterator_new(view, slice_of(NULL, 0), &iterator) < 0)
        abort();
    result = engine_iterator_seek(iterator, slice_of("", 0));
    while (wrong == NULL && result > 0) {
        const struct record *record = engine_iterator_record(iterator);
        int order = at == state.count ? 1 : slice_compare(state.entries[at].key, record->key);

        if (order < 0)
            wrong = about_key(state.entries[at].key, sequence, "is missing");
        else if (order > 0)
            wrong = about_key(record->key, sequence, "should not exist");
        else if (read_hash(view, record, &data, &hash) < 0)
            wrong = about_key(record->key, sequence, "cannot be read");
        else if (record->kind != state.entries[at].kind || hash != state.entries[at].hash)
            wrong = about_key(record->key, sequence, "has another value");
        at++;
        result = engine_iterator_next(iterator);
    }
    if (wrong == NULL && result == 0 && at < state.count)
        wrong = about_key(state.entries[at].key, sequence, "is missing");
    if (wrong == NULL && result < 0)
        wrong = crash_text("reading failed: %s", error_text(result));
    if (wrong == NULL)
        wrong = crash_text("the state at %llu is wrong, and every key is right",
                           (unsigned long long)sequence);
    engine_iterator_free(iterator);
    buffer_free(&data);
    free(state.entries);
    return wrong;
}

/* Every key and value, read and verified. */
int crash_view_digest(struct engine_view *view, uint64_t *ret_digest)
{
    struct engine_iterator *iterator;
    struct buffer data = {0};
    uint64_t digest = 0, hash;
    int result = engine_iterator_new(view, slice_of(NULL, 0), &iterator);

    if (result < 0)
        return result;
    result = engine_iterator_seek(iterator, slice_of("", 0));
    while (result > 0) {
        const struct record *record = engine_iterator_record(iterator);

        result = read_hash(view, record, &data, &hash);
        if (result == 0) {
            digest = digest_add(digest, record->key, record->kind, hash);
            result = engine_iterator_next(iterator);
        }
    }
    engine_iterator_free(iterator);
    buffer_free(&data);
    *ret_digest = digest;
    return result;
}

char *crash_history_check_view(struct crash_history *history, struct engine_view *view,
                               uint64_t *ret_digest)
{
    uint64_t wanted;
    int result = crash_view_digest(view, ret_digest);

    if (result == 0 && crash_history_digest(history, engine_view_sequence(view), &wanted) &&
        wanted == *ret_digest)
        return NULL;
    return find_difference(history, view);
}
