/* SPDX-License-Identifier: Apache-2.0 */
/*
 * snapshot_rollback.c - the live state becomes that of a snapshot; where history was cut
 *
 * After a rollback records stand again under the numbers they had, so a version may be in snapshots
 * before and after the cut and not in those between (snapshot_run.c). The cuts, as sequence
 * numbers, are kept in an engine record of their own (docs/on-disk-format.md): written with every
 * rollback, wholly, because the record is itself part of the state that goes back. A cut that is
 * noted and then not made does no harm.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "engine/base/endian.h"
#include "engine/base/log.h"
#include "snapshot/snapshot_internal.h"

#define BORDERS_MAX   (RECORD_VALUE_SIZE_MAX / 8)
#define NAME_ATTEMPTS 1000
#define NAME_PREFIX   "before-rollback-"

static struct slice borders_key(uint8_t key[10])
{
    memset(key, 0, 8);
    key[8] = SNAPSHOT_KEY_TYPE;
    key[9] = 1;
    return slice_of(key, 10);
}

/* ---- cuts ---- */

static int decode_borders(struct snapshot_set *set, struct slice from)
{
    uint64_t last = 0;

    if (from.size % 8 != 0)
        return ERROR_CORRUPT;
    set->borders = calloc(from.size / 8 + 1, sizeof *set->borders);
    if (set->borders == NULL)
        return -ENOMEM;
    for (size_t at = 0; at < from.size; at += 8) {
        uint64_t border = get_le64(from.data + at);

        if (border <= last)
            return ERROR_CORRUPT;
        set->borders[set->border_count++] = last = border;
    }
    return 0;
}

int snapshot_load_borders(struct snapshot_set *set)
{
    struct engine_view *view = engine_view_acquire(set->engine);
    struct buffer value = {0};
    uint8_t key[10];
    int found = view != NULL ? engine_view_get(view, borders_key(key), &value, NULL) : -ENOMEM;

    if (found > 0)
        found = decode_borders(set, buffer_slice(&value));
    if (found == ERROR_CORRUPT)
        log_error("the record of where the state was rolled back is damaged");
    engine_view_release(view);
    buffer_free(&value);
    return found;
}

/* The present cuts and a new one. Those that no snapshot lies before are of no use any more. */
static int next_borders(struct snapshot_set *set, uint64_t border, uint64_t **ret_borders,
                        size_t *ret_count)
{
    uint64_t *borders = calloc(set->border_count + 1, sizeof *borders);
    uint64_t oldest;
    size_t count = 0;

    if (borders == NULL)
        return -ENOMEM;
    lock_acquire(&set->list_lock);
    oldest = set->count > 0 ? set->items[0]->sequence : UINT64_MAX;
    lock_release(&set->list_lock);
    for (size_t i = 0; i < set->border_count; i++)
        if (set->borders[i] >= oldest && set->borders[i] < border)
            borders[count++] = set->borders[i];
    borders[count++] = border;
    if (count > BORDERS_MAX) {
        free(borders);
        return -EMFILE;
    }
    *ret_borders = borders;
    *ret_count = count;
    return 0;
}

static int put_borders(struct batch *batch, const uint64_t *borders, size_t count)
{
    struct buffer value = {0};
    uint8_t key[10];
    int result = buffer_reserve(&value, count * 8);

    for (size_t i = 0; result == 0 && i < count; i++) {
        uint8_t bytes[8];

        put_le64(bytes, borders[i]);
        result = buffer_append(&value, bytes, sizeof bytes);
    }
    if (result == 0)
        batch_put(batch, borders_key(key), buffer_slice(&value));
    buffer_free(&value);
    return result;
}

/* ---- the state before ---- */

static int keep_before(struct snapshot_set *set, struct snapshot *target,
                       struct snapshot **ret_before)
{
    char target_name[SNAPSHOT_NAME_SIZE_MAX + 1], when[40], name[sizeof NAME_PREFIX + sizeof when];
    struct snapshot_tag tag = {.key = "rollback", .value = target_name};
    time_t now = time(NULL);
    int result = -EEXIST;

    snapshot_get_name(target, target_name);
    for (unsigned attempt = 1; result == -EEXIST && attempt <= NAME_ATTEMPTS; attempt++) {
        snapshot_name_default(when, now, attempt);
        (void)snprintf(name, sizeof name, "%s%s", NAME_PREFIX, when);
        result = snapshot_create_locked(set, slice_of_string(name), &tag, 1, ret_before);
    }
    return result;
}

/* The rollback failed, so there is nothing to keep the present state from. */
static void forget_before(struct snapshot_set *set, struct snapshot *before)
{
    char name[SNAPSHOT_NAME_SIZE_MAX + 1];
    int result;

    snapshot_get_name(before, name);
    result = snapshot_delete_locked(set, slice_of_string(name));
    if (result < 0)
        log_warning("snapshot %s, of a rollback that failed, stays: %s", name, error_text(result));
    snapshot_unref(before);
}

/* ---- the rollback ---- */

/* Nobody else writes. */
static int roll_back_quiet(struct snapshot_set *set, struct snapshot *target, struct batch *also,
                           struct snapshot **ret_before)
{
    struct snapshot *before;
    uint64_t *borders = NULL;
    size_t count = 0;
    int result = keep_before(set, target, &before);

    if (result < 0)
        return result;
    result = snapshot_wait(set, before);
    if (result == 0)
        result = next_borders(set, engine_sequence(set->engine), &borders, &count);
    if (result == 0)
        result = put_borders(also, borders, count);
    if (result == 0) {
        snapshot_put_changed(also, snapshot_set_changed(set));
        result = engine_rollback(set->engine, target->id, also);
    }
    if (result < 0) {
        free(borders);
        forget_before(set, before);
        return result;
    }
    lock_acquire(&set->list_lock);
    free(set->borders);
    set->borders = borders;
    set->border_count = count;
    set->generation++;
    lock_release(&set->list_lock);
    *ret_before = before;
    return 0;
}

int snapshot_rollback(struct snapshot_set *set, struct slice name,
                      const struct snapshot_rollback_hooks *hooks, struct snapshot **ret_before)
{
    struct batch also = {0};
    struct snapshot *target;
    int result;

    lock_acquire(&set->change_lock);
    target = snapshot_find(set, name);
    result = target != NULL ? snapshot_wait(set, target) : -ENOENT;
    /* Most of the work, while others still write. */
    if (result == 0)
        result = engine_flush(set->engine);
    if (result == 0)
        result = hooks->quiesce(hooks->context, &also);
    if (result == 0) {
        result = roll_back_quiet(set, target, &also, ret_before);
        hooks->resume(hooks->context, result);
    }
    lock_release(&set->change_lock);
    snapshot_unref(target);
    batch_free(&also);
    return result;
}
