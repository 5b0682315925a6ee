/* SPDX-License-Identifier: Apache-2.0 */
/*
 * record_model.h - what a history of records means, by looking at all of it
 *
 * The slow and obvious answer that memtables and merges are compared with.
 */
#ifndef VARVE_TESTS_LIB_RECORD_MODEL_H
#define VARVE_TESTS_LIB_RECORD_MODEL_H

#include <stdlib.h>

#include "engine/record.h"
#include "tests/lib/seed.h"

struct record_model {
    struct record *records; /* in order of sequence number */
    size_t count, capacity;
};

static inline struct slice record_model_copy(struct slice bytes)
{
    uint8_t *copy = malloc(bytes.size > 0 ? bytes.size : 1);

    if (copy == NULL)
        abort();
    if (bytes.size > 0)
        memcpy(copy, bytes.data, bytes.size);
    return slice_of(copy, bytes.size);
}

static inline void record_model_add(struct record_model *model, const struct record *record)
{
    struct record *copy;

    if (model->count == model->capacity) {
        model->capacity = model->capacity > 0 ? model->capacity * 2 : 256;
        model->records = realloc(model->records, model->capacity * sizeof *model->records);
        if (model->records == NULL)
            abort();
    }
    copy = &model->records[model->count++];
    *copy = *record;
    copy->key = record_model_copy(record->key);
    copy->value = record_model_copy(record->value);
}

static inline void record_model_free(struct record_model *model)
{
    for (size_t i = 0; i < model->count; i++) {
        free((void *)(uintptr_t)model->records[i].key.data);
        free((void *)(uintptr_t)model->records[i].value.data);
    }
    free(model->records);
    *model = (struct record_model){0};
}

/* The newest point record of a key up to `sequence`, or NULL. */
static inline const struct record *record_model_newest(const struct record_model *model,
                                                       struct slice key, uint64_t sequence)
{
    const struct record *newest = NULL;

    for (size_t i = 0; i < model->count && model->records[i].sequence <= sequence; i++)
        if (model->records[i].kind != RECORD_DELETE_RANGE &&
            slice_equal(model->records[i].key, key))
            newest = &model->records[i];
    return newest;
}

/* The number of the newest range tombstone over a key up to `sequence`, or 0. */
static inline uint64_t record_model_tombstone(const struct record_model *model, struct slice key,
                                              uint64_t sequence)
{
    uint64_t newest = 0;

    for (size_t i = 0; i < model->count && model->records[i].sequence <= sequence; i++) {
        const struct record *record = &model->records[i];

        if (record->kind == RECORD_DELETE_RANGE && slice_compare(record->key, key) <= 0 &&
            slice_compare(key, record->value) < 0)
            newest = record->sequence;
    }
    return newest;
}

static inline int record_model_compare_keys(const void *a, const void *b)
{
    return slice_compare(*(const struct slice *)a, *(const struct slice *)b);
}

/* All keys of point records, sorted, each once; to be freed (they point into the model). */
static inline struct slice *record_model_keys(const struct record_model *model, size_t *ret_count)
{
    struct slice *keys = malloc((model->count + 1) * sizeof *keys);
    size_t count = 0, distinct = 0;

    if (keys == NULL)
        abort();
    for (size_t i = 0; i < model->count; i++)
        if (model->records[i].kind != RECORD_DELETE_RANGE)
            keys[count++] = model->records[i].key;
    qsort(keys, count, sizeof *keys, record_model_compare_keys);
    for (size_t i = 0; i < count; i++)
        if (distinct == 0 || !slice_equal(keys[distinct - 1], keys[i]))
            keys[distinct++] = keys[i];
    *ret_count = distinct;
    return keys;
}

#define RECORD_MODEL_KEY_MAX 96

/*
 * A key of some shape: like those of a file system, with a long common beginning, made of the
 * bytes at the ends of the alphabet, prefixes of each other. Few enough that they come again.
 */
static inline struct slice record_model_random_key(uint64_t *random, uint8_t *to)
{
    static const uint8_t ends[] = {0, 1, 0x7f, 0xff};
    size_t size = 0;

    switch (seed_below(random, 4)) {
    case 0: /* inode, type, name */
        memset(to, 0, 9);
        to[7] = (uint8_t)seed_below(random, 3);
        to[8] = (uint8_t)seed_below(random, 2);
        size = 9;
        for (uint64_t more = seed_below(random, 3) * 5; more > 0; more--)
            to[size++] = (uint8_t)('a' + seed_below(random, 2));
        break;
    case 1: /* differs late, if at all */
        size = 40 + seed_below(random, 30);
        memset(to, 'p', size);
        to[size - 1 - seed_below(random, 3)] = (uint8_t)('o' + seed_below(random, 3));
        break;
    case 2:
        for (uint64_t more = 1 + seed_below(random, 10); more > 0; more--)
            to[size++] = ends[seed_below(random, sizeof ends)];
        break;
    default: /* numbers that rise slowly */
        memset(to, 0x10, 6);
        to[6] = (uint8_t)seed_below(random, 2);
        to[7] = (uint8_t)seed_next(random);
        size = 8;
    }
    return slice_of(to, size);
}

#endif
