/* SPDX-License-Identifier: Apache-2.0 */
/*
 * manifest_changes.c - the change log: which chunks came and went, for those who copy them
 * elsewhere
 *
 * Entries are numbered from 1, one a commit. Kept are [first, next); a cursor stands behind the
 * last entry that its owner has dealt with, so it lives while its position + 1 >= first. What no
 * living cursor waits for is cut, and so is everything that makes the log longer than its bound: a
 * cursor that is passed by the cut stays on record, so that its owner is told (-ESTALE), but holds
 * back nothing.
 *
 * The cut is at most CUT_MAX entries a commit: as every commit adds at most one, the bound holds
 * all the same, and no commit pays for a long log at once. With an empty log and no cursor, numbers
 * are passed over and nothing is written but the bounds.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/error.h"
#include "engine/fields.h"
#include "engine/manifest_codec.h"
#include "engine/manifest_record.h"

#define CUT_MAX      64
#define CURSORS_MAX  64
#define READ_BYTES   (256 * 1024)
#define READ_CHANGES 256

struct log_bounds {
    uint64_t first, next;
};

/* ---- bounds ---- */

static int bounds_put(struct manifest_transaction *transaction, const struct log_bounds *bounds)
{
    struct manifest_key key = manifest_key_plain(MANIFEST_KEY_LOG);
    uint8_t value[16];

    put_le64(value, bounds->first);
    put_le64(value + 8, bounds->next);
    return manifest_record_put(transaction, &key, slice_of(value, sizeof value));
}

static int bounds_get(struct manifest_transaction *transaction, struct log_bounds *ret_bounds)
{
    struct manifest_key key = manifest_key_plain(MANIFEST_KEY_LOG);
    struct log_bounds bounds;
    struct field_reader reader;
    struct slice payload;
    int error = manifest_record_get(transaction, &key, &payload);

    if (error < 0)
        return error;
    if (error == 0)
        return manifest_record_report(manifest_key_slice(&key), ERROR_CORRUPT);
    reader = field_reader_of(payload);
    bounds.first = field_take_u64(&reader);
    bounds.next = field_take_u64(&reader);
    if (field_reader_end(&reader) != 0 || bounds.first == 0 || bounds.first > bounds.next)
        return manifest_record_report(manifest_key_slice(&key), ERROR_CORRUPT);
    *ret_bounds = bounds;
    return 0;
}

int manifest_changes_create(struct manifest_transaction *transaction)
{
    const struct log_bounds bounds = {.first = 1, .next = 1};

    return bounds_put(transaction, &bounds);
}

int manifest_changes_bounds(struct manifest_transaction *transaction, uint64_t *ret_first,
                            uint64_t *ret_next)
{
    struct log_bounds bounds;
    int error = bounds_get(transaction, &bounds);

    if (error == 0) {
        *ret_first = bounds.first;
        *ret_next = bounds.next;
    }
    return error;
}

/* ---- cursors ---- */

struct cursor_walk {
    const struct log_bounds *bounds;
    bool living;      /* there is a cursor that was not passed by the cut */
    uint64_t slowest; /* position of the slowest of them */
    size_t count;     /* of all cursors */
};

static int cursor_decode(struct slice key, struct slice payload, uint64_t *ret_position)
{
    struct field_reader reader = field_reader_of(payload);
    uint64_t position = field_take_u64(&reader);

    if (field_reader_end(&reader) != 0)
        return manifest_record_report(key, ERROR_CORRUPT);
    *ret_position = position;
    return 0;
}

static int cursor_visit(void *context, struct slice key, struct slice payload)
{
    struct cursor_walk *walk = context;
    uint64_t position = 0;
    int error = cursor_decode(key, payload, &position);

    if (error != 0)
        return error;
    walk->count++;
    if (position + 1 < walk->bounds->first)
        return 0;
    if (!walk->living || position < walk->slowest)
        walk->slowest = position;
    walk->living = true;
    return 0;
}

static int cursors_walk(struct manifest_transaction *transaction, const struct log_bounds *bounds,
                        struct cursor_walk *ret_walk)
{
    struct manifest_key prefix = manifest_key_plain(MANIFEST_KEY_CURSOR);

    *ret_walk = (struct cursor_walk){.bounds = bounds};
    return manifest_record_each(transaction, &prefix, cursor_visit, ret_walk);
}

/* ---- writing ---- */

static int change_put(struct manifest_transaction *transaction,
                      const struct manifest_change *change)
{
    struct manifest_key key = manifest_key_number(MANIFEST_KEY_CHANGE, change->number);
    struct buffer value = {0};
    struct field_writer writer = {.to = &value};
    int error;

    field_put_u32(&writer, (uint32_t)change->added_count);
    field_put_u32(&writer, (uint32_t)change->removed_count);
    for (size_t i = 0; i < change->added_count; i++)
        field_put_u64(&writer, change->added[i]);
    for (size_t i = 0; i < change->removed_count; i++)
        field_put_u64(&writer, change->removed[i]);
    error = writer.error;
    if (error == 0)
        error = manifest_record_put(transaction, &key, buffer_slice(&value));
    buffer_free(&value);
    return error;
}

static int cut(struct manifest_transaction *transaction, struct log_bounds *bounds,
               uint64_t keep_from)
{
    for (unsigned count = 0; bounds->first < keep_from && count < CUT_MAX; count++) {
        struct manifest_key key = manifest_key_number(MANIFEST_KEY_CHANGE, bounds->first);
        int error = manifest_record_delete(transaction, &key);

        if (error < 0)
            return error;
        bounds->first++;
    }
    return 0;
}

int manifest_changes_append(struct manifest_transaction *transaction, struct manifest *manifest,
                            const struct manifest_change *change)
{
    uint64_t entries_max = manifest_change_log_entries_max(manifest);
    struct manifest_change numbered = *change;
    struct log_bounds bounds;
    struct cursor_walk walk;
    uint64_t keep_from;
    int error = bounds_get(transaction, &bounds);

    if (error == 0)
        error = cursors_walk(transaction, &bounds, &walk);
    if (error != 0)
        return error;
    if (!walk.living && bounds.first == bounds.next) {
        bounds.first = ++bounds.next;
        return bounds_put(transaction, &bounds);
    }
    numbered.number = bounds.next++;
    error = change_put(transaction, &numbered);
    if (error != 0)
        return error;
    keep_from = walk.living ? walk.slowest + 1 : bounds.next;
    if (bounds.next - bounds.first > entries_max && keep_from < bounds.next - entries_max)
        keep_from = bounds.next - entries_max;
    error = cut(transaction, &bounds, keep_from);
    return error == 0 ? bounds_put(transaction, &bounds) : error;
}

/* ---- setting cursors ---- */

struct cursor_work {
    struct manifest_key key;
    uint64_t number;
};

static int cursor_key(const char *cursor, struct manifest_key *ret_key)
{
    size_t size = strlen(cursor);

    if (size == 0 || size > MANIFEST_NAME_SIZE_MAX)
        return -EINVAL;
    *ret_key = manifest_key_plain(MANIFEST_KEY_CURSOR);
    memcpy(ret_key->bytes + ret_key->size, cursor, size);
    ret_key->size += size;
    return 0;
}

static int set_cursor(struct manifest_transaction *transaction, void *context)
{
    const struct cursor_work *work = context;
    struct cursor_walk walk;
    struct log_bounds bounds;
    struct slice payload;
    uint64_t position;
    uint8_t value[8];
    int error = bounds_get(transaction, &bounds);

    if (error == 0)
        error = cursors_walk(transaction, &bounds, &walk);
    if (error != 0)
        return error;
    position = work->number == 0 ? bounds.next - 1 : work->number;
    if (position >= bounds.next)
        return -EINVAL;
    if (position + 1 < bounds.first)
        return -ESTALE;
    error = manifest_record_get(transaction, &work->key, &payload);
    if (error < 0)
        return error;
    if (error == 0 && walk.count >= CURSORS_MAX)
        return -ENOSPC;
    put_le64(value, position);
    return manifest_record_put(transaction, &work->key, slice_of(value, sizeof value));
}

int manifest_cursor_set(struct manifest *manifest, const char *cursor, uint64_t number)
{
    struct cursor_work work = {.number = number};
    int error = cursor_key(cursor, &work.key);

    return error == 0 ? manifest_update(manifest, set_cursor, &work) : error;
}

static int remove_cursor(struct manifest_transaction *transaction, void *context)
{
    const struct cursor_work *work = context;
    int error = manifest_record_delete(transaction, &work->key);

    if (error == 0)
        return -ENOENT;
    return error < 0 ? error : 0;
}

int manifest_cursor_remove(struct manifest *manifest, const char *cursor)
{
    struct cursor_work work = {0};
    int error = cursor_key(cursor, &work.key);

    return error == 0 ? manifest_update(manifest, remove_cursor, &work) : error;
}

/* ---- reading ---- */

/* A run of entries, copied out of one transaction. */
struct read_work {
    struct manifest_key cursor;
    uint64_t position; /* UINT64_MAX: not looked up yet */
    uint64_t end;      /* the first entry that is not read; UINT64_MAX: not looked up yet */
    struct buffer ids; /* host byte order: all entries' added and removed */
    struct manifest_change changes[READ_CHANGES]; /* without pointers */
    size_t count;
};

static int copy_change(struct read_work *work, struct slice key, struct slice payload)
{
    struct field_reader reader = field_reader_of(payload);
    struct manifest_change *change = &work->changes[work->count];
    int error = manifest_key_decode_number(key, &change->number);

    change->added_count = field_take_u32(&reader);
    change->removed_count = field_take_u32(&reader);
    if (error == 0 && (reader.failed || reader.left.size % sizeof(uint64_t) != 0 ||
                       reader.left.size / sizeof(uint64_t) !=
                           (uint64_t)change->added_count + change->removed_count))
        error = manifest_record_report(key, ERROR_CORRUPT);
    while (error == 0 && reader.left.size > 0) {
        uint64_t id = field_take_u64(&reader);

        error = buffer_append(&work->ids, &id, sizeof id);
    }
    if (error == 0)
        work->count++;
    return error;
}

static int locate(struct manifest_transaction *transaction, struct read_work *work)
{
    struct log_bounds bounds;
    struct slice payload;
    int error = bounds_get(transaction, &bounds);

    if (error == 0 && work->position == UINT64_MAX) {
        error = manifest_record_get(transaction, &work->cursor, &payload);
        if (error == 0)
            return -ENOENT;
        if (error == 1)
            error = cursor_decode(manifest_key_slice(&work->cursor), payload, &work->position);
    }
    if (error != 0)
        return error;
    if (work->end == UINT64_MAX)
        work->end = bounds.next;
    return work->position + 1 < bounds.first ? -ESTALE : 0;
}

static int copy_run(struct manifest_transaction *transaction, void *context)
{
    struct read_work *work = context;
    int error = locate(transaction, work);

    work->count = 0;
    work->ids.size = 0;
    while (error == 0 && work->position + 1 < work->end && work->count < READ_CHANGES &&
           work->ids.size < READ_BYTES) {
        struct manifest_key key = manifest_key_number(MANIFEST_KEY_CHANGE, work->position + 1);
        struct slice payload;

        error = manifest_record_get(transaction, &key, &payload);
        if (error == 0)
            error = manifest_record_report(manifest_key_slice(&key), ERROR_CORRUPT);
        else if (error == 1)
            error = copy_change(work, manifest_key_slice(&key), payload);
        if (error == 0)
            work->position++;
    }
    return error;
}

static int deliver_run(struct read_work *work, manifest_change_callback *callback, void *context)
{
    const uint8_t *next = work->ids.data;

    for (size_t i = 0; i < work->count; i++) {
        struct manifest_change *change = &work->changes[i];
        int result;

        /* The buffer comes from malloc and holds nothing but u64: it is aligned. */
        change->added = (const uint64_t *)(const void *)next;
        change->removed = change->added + change->added_count;
        next += (change->added_count + change->removed_count) * sizeof(uint64_t);
        result = callback(context, change);
        if (result != 0)
            return result;
    }
    return 0;
}

int manifest_changes_read(struct manifest *manifest, const char *cursor,
                          manifest_change_callback *callback, void *context)
{
    struct read_work *work = calloc(1, sizeof *work);
    int error;

    if (work == NULL)
        return -ENOMEM;
    work->position = UINT64_MAX;
    work->end = UINT64_MAX;
    error = cursor_key(cursor, &work->cursor);
    do {
        if (error == 0)
            error = manifest_inspect(manifest, copy_run, work);
        if (error == 0)
            error = deliver_run(work, callback, context);
    } while (error == 0 && work->count > 0);
    buffer_free(&work->ids);
    free(work);
    return error;
}
