/* SPDX-License-Identifier: Apache-2.0 */
/*
 * crash_oracle.c - what a crash may leave, held against what it left
 */
#include <stdlib.h>

#include "engine/base/checksum.h"
#include "tests/lib/crash_history_internal.h"

/* What is known of a checkpoint at a moment. */
struct known {
    uint64_t id, sequence;
    const char *name, *other_name; /* either, while it is renamed */
    bool is_acknowledged, delete_begun, is_deleted;
    bool is_found;
};

struct known_list {
    struct known *list;
    size_t count;
};

static struct known *known_find(const struct known_list *known, uint64_t id)
{
    for (size_t i = 0; i < known->count; i++)
        if (known->list[i].id == id)
            return &known->list[i];
    return NULL;
}

static void known_apply(struct known_list *known, const struct crash_event *event)
{
    struct known *entry = event->kind == CRASH_EVENT_SYNCED || event->kind == CRASH_EVENT_TREE ||
                                  event->kind == CRASH_EVENT_ROLLED_BACK
                              ? NULL
                              : known_find(known, event->id);

    if (entry == NULL)
        return;
    switch (event->kind) {
    case CRASH_EVENT_CREATED:
        entry->is_acknowledged = true;
        break;
    case CRASH_EVENT_DELETE_BEGUN:
        entry->delete_begun = true;
        break;
    case CRASH_EVENT_DELETED:
        entry->is_deleted = true;
        break;
    case CRASH_EVENT_RENAME_BEGUN:
        entry->other_name = event->name;
        break;
    case CRASH_EVENT_RENAMED:
        entry->name = event->name;
        entry->other_name = NULL;
        break;
    case CRASH_EVENT_RENAME_FAILED:
        break; /* either name is right from now on */
    case CRASH_EVENT_SYNCED:
    case CRASH_EVENT_ROLLED_BACK:
    case CRASH_EVENT_TREE:
        break;
    }
}

/* Every checkpoint that was ever acknowledged, as it stood after `event_count` events. */
static struct known_list known_build(const struct crash_history *history, size_t event_count)
{
    struct known_list known = {
        .list = crash_must(calloc(history->event_count + 1, sizeof *known.list))};

    for (size_t i = 0; i < history->event_count; i++) {
        const struct crash_event *event = &history->events[i];

        if (event->kind == CRASH_EVENT_CREATED)
            known.list[known.count++] =
                (struct known){.id = event->id, .sequence = event->sequence, .name = event->name};
    }
    for (size_t i = 0; i < event_count; i++)
        known_apply(&known, &history->events[i]);
    return known;
}

uint64_t crash_history_floor(struct crash_history *history, size_t event_count)
{
    uint64_t floor = 0;

    for (size_t i = 0; i < event_count; i++) {
        const struct crash_event *event = &history->events[i];

        if ((event->kind == CRASH_EVENT_SYNCED || event->kind == CRASH_EVENT_CREATED ||
             event->kind == CRASH_EVENT_ROLLED_BACK) &&
            event->sequence > floor)
            floor = event->sequence;
    }
    return floor;
}

/* ---- checkpoints ---- */

struct found {
    uint64_t id, sequence;
    char name[256];
    bool materialised;
    int error;
};

struct found_list {
    struct found *list;
    size_t count;
};

static int found_add(void *context, const struct engine_checkpoint_info *info)
{
    struct found_list *found = context;
    struct found *entry;

    found->list = crash_must(realloc(found->list, (found->count + 1) * sizeof *found->list));
    entry = &found->list[found->count++];
    *entry = (struct found){.id = info->id,
                            .sequence = info->sequence,
                            .materialised = info->materialised,
                            .error = info->error};
    memcpy(entry->name, info->name, info->name_size);
    entry->name[info->name_size] = '\0';
    return 0;
}

static char *check_content(struct crash_history *history, struct engine *engine,
                           const struct found *found, uint64_t *digest)
{
    struct engine_view *view;
    uint64_t parts[3] = {*digest, found->id, 0};
    char *wrong, *inner;
    int result = engine_checkpoint_view(engine, found->id, &view);

    if (result < 0)
        return crash_text("checkpoint %llu \"%s\" cannot be opened: %s",
                          (unsigned long long)found->id, found->name, error_text(result));
    inner = crash_history_check_view(history, view, &parts[2]);
    engine_view_release(view);
    if (inner == NULL) {
        *digest =
            checksum64_seeded(found->name, strlen(found->name), checksum64(parts, sizeof parts));
        return NULL;
    }
    wrong =
        crash_text("checkpoint %llu \"%s\": %s", (unsigned long long)found->id, found->name, inner);
    free(inner);
    return wrong;
}

static char *check_found(struct crash_history *history, struct known_list *known,
                         struct engine *engine, const struct found *found, uint64_t *digest)
{
    struct known *entry = known_find(known, found->id);

    if (entry != NULL) {
        entry->is_found = true;
        if (entry->is_deleted)
            return crash_text("checkpoint %llu \"%s\" was deleted and is back",
                              (unsigned long long)found->id, found->name);
        if (entry->sequence != found->sequence)
            return crash_text("checkpoint %llu \"%s\" is of sequence %llu, not %llu",
                              (unsigned long long)found->id, found->name,
                              (unsigned long long)found->sequence,
                              (unsigned long long)entry->sequence);
        if (strcmp(entry->name, found->name) != 0 &&
            (entry->other_name == NULL || strcmp(entry->other_name, found->name) != 0))
            return crash_text("checkpoint %llu is called \"%s\" instead of \"%s\"",
                              (unsigned long long)found->id, found->name, entry->name);
    }
    if (found->sequence > engine_sequence(engine))
        return crash_text("checkpoint %llu \"%s\" is newer than everything",
                          (unsigned long long)found->id, found->name);
    if (found->error != 0)
        return crash_text("checkpoint %llu \"%s\" could not be made: %s",
                          (unsigned long long)found->id, found->name, error_text(found->error));
    return check_content(history, engine, found, digest);
}

static char *check_missing(const struct known_list *known, uint64_t sequence)
{
    for (size_t i = 0; i < known->count; i++) {
        const struct known *entry = &known->list[i];

        if (!entry->is_found && !entry->delete_begun &&
            (entry->is_acknowledged || entry->sequence <= sequence))
            return crash_text("checkpoint %llu \"%s\" of sequence %llu (%s) is gone",
                              (unsigned long long)entry->id, entry->name,
                              (unsigned long long)entry->sequence,
                              entry->is_acknowledged ? "acknowledged" : "its mark is in the log");
    }
    return NULL;
}

static char *check_checkpoints(struct crash_history *history, size_t event_count,
                               struct engine *engine, uint64_t *digest)
{
    struct known_list known = known_build(history, event_count);
    struct found_list found = {0};
    char *wrong = NULL;

    (void)engine_checkpoint_each(engine, found_add, &found);
    for (size_t i = 0; wrong == NULL && i < found.count; i++)
        wrong = check_found(history, &known, engine, &found.list[i], digest);
    if (wrong == NULL)
        wrong = check_missing(&known, engine_sequence(engine));
    free(found.list);
    free(known.list);
    return wrong;
}

/* ---- the whole ---- */

/* A rollback that was under way, not acknowledged, may not have come to be. */
static bool may_be_before_rollback(const struct crash_history *history, size_t event_count,
                                   uint64_t sequence)
{
    for (size_t i = 0; i < event_count; i++)
        if (history->events[i].kind == CRASH_EVENT_ROLLED_BACK &&
            history->events[i].sequence == sequence)
            return false;
    return true;
}

static char *check_live(struct crash_history *history, size_t event_count, struct engine_view *view,
                        uint64_t *ret_digest)
{
    uint64_t sequence = engine_view_sequence(view), before;

    if (may_be_before_rollback(history, event_count, sequence) &&
        crash_history_digest_before_rollback(history, sequence, &before) &&
        crash_view_digest(view, ret_digest) == 0 && *ret_digest == before)
        return NULL;
    return crash_history_check_view(history, view, ret_digest);
}

char *crash_history_check(struct crash_history *history, size_t event_count, struct engine *engine,
                          uint64_t *ret_digest)
{
    uint64_t floor = crash_history_floor(history, event_count);
    uint64_t sequence = engine_sequence(engine);
    struct engine_view *view;
    char *wrong;

    if (sequence < floor)
        return crash_text("sequence %llu was synced, only %llu is left", (unsigned long long)floor,
                          (unsigned long long)sequence);
    if (sequence > crash_history_last(history) && sequence > floor)
        return crash_text("sequence %llu was never given out", (unsigned long long)sequence);
    view = engine_view_acquire(engine);
    if (view == NULL)
        abort();
    wrong = check_live(history, event_count, view, ret_digest);
    engine_view_release(view);
    if (wrong == NULL)
        wrong = check_checkpoints(history, event_count, engine, ret_digest);
    return wrong;
}
