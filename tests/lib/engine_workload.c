/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine_workload.c - batches, file data, checkpoints, maintenance, at random
 */
#include "tests/lib/engine_workload.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "engine/base/endian.h"
#include "tests/lib/seed.h"

#define KEYS        40
#define NAMES       6
#define DATA_MAX    24000
#define PAYLOAD_MAX 100

static char *failed(struct engine_workload *workload, const char *what, int error)
{
    char *text = NULL;

    if (workload->may_fail) {
        if (workload->error == 0)
            workload->error = error;
        return NULL;
    }
    if (asprintf(&text, "%s: %s", what, error_text(error)) < 0)
        abort();
    return text;
}

static struct slice key_of(uint8_t to[8], uint64_t number)
{
    put_be64(to, number);
    return slice_of(to, 8);
}

static struct slice random_key(struct engine_workload *workload, uint8_t to[8])
{
    return key_of(to, 1 + seed_below(&workload->seed, KEYS));
}

/* Bytes of which no two are alike; every second time such that they compress. */
static void fill(uint64_t *seed, uint8_t *data, size_t size)
{
    uint64_t value = seed_next(seed);
    bool repeats = (value & 1) != 0;

    for (size_t i = 0; i < size; i++) {
        if (i % 8 == 0 && (!repeats || i % 512 == 0))
            value = seed_next(seed);
        data[i] = (uint8_t)(value >> (8 * (i % 8)));
    }
}

/* ---- batches ---- */

static int put_value(struct engine_workload *workload, struct batch *batch)
{
    uint8_t key[8], data[600];
    size_t size = 1 + (size_t)seed_below(&workload->seed, sizeof data);

    fill(&workload->seed, data, size);
    batch_put(batch, random_key(workload, key), slice_of(data, size));
    return 0;
}

static int put_data(struct engine_workload *workload, struct batch *batch)
{
    static const uint32_t sizes[] = {100, 3000, 4096, 9000, DATA_MAX};
    uint32_t size =
        1 + (uint32_t)seed_below(&workload->seed, sizes[seed_below(&workload->seed, 5)]);
    uint8_t key[8], data[DATA_MAX];
    struct blob_ref ref;
    int result;

    fill(&workload->seed, data, size);
    result = engine_blob_append(workload->engine, data, size, &ref);
    if (result == 0)
        batch_put_reference(batch, random_key(workload, key), &ref);
    return result;
}

/* A part of what lies at one key to another: no data is written. */
static int copy_reference(struct engine_workload *workload, struct engine_view *view,
                          struct batch *batch)
{
    struct buffer value = {0};
    struct record record;
    struct blob_ref ref;
    uint8_t key[8];
    int result = engine_view_get(view, random_key(workload, key), &value, &record);

    if (result > 0 && record.kind == RECORD_REFERENCE) {
        result = blob_ref_decode(record.value, &ref);
        if (result == 0 && ref.codec == CODEC_ZSTD && ref.length > 10)
            blob_ref_slice(&ref, 3, ref.length - 7);
        if (result == 0)
            batch_put_reference(batch, random_key(workload, key), &ref);
    }
    buffer_free(&value);
    return result < 0 ? result : 0;
}

static char *do_write(struct engine_workload *workload)
{
    struct engine_view *view = engine_view_acquire(workload->engine);
    struct batch batch = {0};
    uint8_t low[8], high[8];
    unsigned count = 1 + (unsigned)seed_below(&workload->seed, 6);
    int result = 0;

    for (unsigned i = 0; i < count && result == 0; i++) {
        uint64_t from = 1 + seed_below(&workload->seed, KEYS);

        switch (seed_below(&workload->seed, 10)) {
        case 0:
            batch_delete(&batch, random_key(workload, low));
            break;
        case 1:
            batch_delete_range(&batch, key_of(low, from),
                               key_of(high, from + seed_below(&workload->seed, 6)));
            break;
        case 2:
            result = copy_reference(workload, view, &batch);
            break;
        case 3:
        case 4:
        case 5:
            result = put_data(workload, &batch);
            break;
        default:
            result = put_value(workload, &batch);
            break;
        }
    }
    if (result == 0)
        result = engine_write(workload->engine, &batch, NULL);
    engine_view_release(view);
    batch_free(&batch);
    return result < 0 ? failed(workload, "write", result) : NULL;
}

/* ---- checkpoints ---- */

static struct slice random_name(struct engine_workload *workload, char to[16])
{
    snprintf(to, 16, "ck-%llu", (unsigned long long)seed_below(&workload->seed, NAMES));
    return slice_of_string(to);
}

struct choice {
    uint64_t *seed;
    uint64_t id, seen;
};

static int choose(void *context, const struct engine_checkpoint_info *info)
{
    struct choice *choice = context;

    if (seed_below(choice->seed, ++choice->seen) == 0)
        choice->id = info->id;
    return 0;
}

/* 0: there is none. */
static uint64_t random_checkpoint(struct engine_workload *workload)
{
    struct choice choice = {.seed = &workload->seed};

    (void)engine_checkpoint_each(workload->engine, choose, &choice);
    return choice.id;
}

static char *do_create(struct engine_workload *workload)
{
    uint8_t payload[PAYLOAD_MAX];
    size_t size = (size_t)seed_below(&workload->seed, sizeof payload);
    char name[16];
    uint64_t id;
    int result;

    fill(&workload->seed, payload, size);
    result = engine_checkpoint_create(workload->engine, random_name(workload, name),
                                      slice_of(payload, size), &id);
    if (result == -EEXIST)
        return NULL;
    if (result == 0 && seed_below(&workload->seed, 2) == 0) {
        result = engine_checkpoint_wait(workload->engine, id);
        if (result == -ENOENT) /* another thread deleted it */
            result = 0;
    }
    return result < 0 ? failed(workload, "checkpoint", result) : NULL;
}

static char *do_delete(struct engine_workload *workload)
{
    uint64_t id = random_checkpoint(workload);
    int result = id != 0 ? engine_checkpoint_delete(workload->engine, id) : 0;

    return result < 0 ? failed(workload, "delete checkpoint", result) : NULL;
}

static char *do_rename(struct engine_workload *workload)
{
    uint64_t id = random_checkpoint(workload);
    char name[16];
    int result = 0;

    if (id != 0)
        result = engine_checkpoint_rename(workload->engine, id, random_name(workload, name));
    return result < 0 && result != -EEXIST ? failed(workload, "rename checkpoint", result) : NULL;
}

static char *do_payload(struct engine_workload *workload)
{
    uint64_t id = random_checkpoint(workload);
    int result = 0;

    if (id != 0)
        result = engine_checkpoint_set_payload(workload->engine, id, slice_of_string("other"));
    return result < 0 ? failed(workload, "payload", result) : NULL;
}

/* A value of a checkpoint comes back to life, its data not copied. */
static char *do_restore(struct engine_workload *workload)
{
    struct engine_view *from = NULL, *live = NULL;
    struct batch batch = {0};
    struct buffer value = {0};
    struct record record;
    struct blob_ref ref;
    uint8_t key[8];
    uint64_t id = random_checkpoint(workload);
    int result = id != 0 ? engine_checkpoint_view(workload->engine, id, &from) : -ENOENT;

    if (result == -ENOENT)
        return NULL; /* none, or another thread deleted it */
    if (result == 0) {
        live = engine_view_acquire(workload->engine);
        result = engine_view_get(from, random_key(workload, key), &value, &record);
    }
    if (result > 0 && record.kind == RECORD_REFERENCE) {
        result = blob_ref_decode(record.value, &ref);
        if (result == 0)
            result = engine_adopt_reference(workload->engine, from, &ref);
        if (result == 0) {
            batch_put_reference(&batch, random_key(workload, key), &ref);
            result = engine_write(workload->engine, &batch, NULL);
        }
    }
    engine_view_release(live);
    engine_view_release(from);
    batch_free(&batch);
    buffer_free(&value);
    return result < 0 ? failed(workload, "restore", result) : NULL;
}

/* ---- the rest ---- */

static char *do_sync(struct engine_workload *workload)
{
    int result = engine_sync(workload->engine, engine_sequence(workload->engine));

    return result < 0 ? failed(workload, "sync", result) : NULL;
}

static char *do_flush(struct engine_workload *workload)
{
    int result = engine_flush(workload->engine);

    return result < 0 ? failed(workload, "flush", result) : NULL;
}

static char *do_compact(struct engine_workload *workload)
{
    int result = engine_compact(workload->engine);

    return result < 0 ? failed(workload, "compact", result) : NULL;
}

static char *do_pause(struct engine_workload *workload)
{
    struct timespec pause = {.tv_nsec = 100000 + (long)seed_below(&workload->seed, 2000000)};

    nanosleep(&pause, NULL);
    return NULL;
}

static char *step(struct engine_workload *workload)
{
    bool may_change = workload->thread == 0;
    uint64_t dice = seed_below(&workload->seed, 100);

    if (dice < 50)
        return do_write(workload);
    if (dice < 62)
        return do_sync(workload);
    if (dice < 66)
        return do_flush(workload);
    if (dice < 68)
        return do_compact(workload);
    if (dice < 77)
        return do_create(workload);
    if (dice < 82)
        return may_change ? do_delete(workload) : do_write(workload);
    if (dice < 86)
        return may_change ? do_rename(workload) : do_sync(workload);
    if (dice < 87)
        return may_change ? do_payload(workload) : do_sync(workload);
    if (dice < 93)
        return do_restore(workload);
    return do_pause(workload);
}

char *engine_workload_run(struct engine_workload *workload)
{
    char *wrong = NULL;

    for (unsigned i = 0; i < workload->operations && wrong == NULL && workload->error == 0; i++)
        wrong = step(workload);
    return wrong;
}
