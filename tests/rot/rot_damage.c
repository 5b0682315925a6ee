/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rot_damage.c - damage of all kinds, at random
 */
#include "tests/rot/rot_damage.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/lib/seed.h"
#include "tests/rot/rot_wanted.h"

#define SECTOR 512
#define BLOCK  4096

/* Files are chosen by their size, but small ones get their share too. */
#define SHARE_OF_EACH 65536

static void require(bool condition, const char *what)
{
    if (condition)
        return;
    fprintf(stderr, "rot: %s\n", what);
    exit(2);
}

struct sample {
    const struct rot_choice *choice;
    uint64_t first, step; /* the numbers of the trials */
    /* What is to be undone. */
    struct rot_file *file, *other;
    struct rot_file saved, other_saved;
    uint8_t *bytes, *other_bytes;
};

static struct rot_file *choose_file(const struct rot_choice *choice, uint64_t *random)
{
    struct rot_image *image = &choice->store->image;
    uint64_t total = 0, at;

    for (size_t i = 0; i < image->count; i++)
        if (rot_is_wanted(choice, &image->files[i]))
            total += image->files[i].size + SHARE_OF_EACH;
    require(total > 0, "no such file");
    at = seed_below(random, total);
    for (size_t i = 0; i < image->count; i++) {
        if (!rot_is_wanted(choice, &image->files[i]))
            continue;
        if (at < image->files[i].size + SHARE_OF_EACH)
            return &image->files[i];
        at -= image->files[i].size + SHARE_OF_EACH;
    }
    return NULL;
}

static const struct rot_file *find_older(const struct rot_image *older, const struct rot_file *file)
{
    for (size_t i = 0; i < older->count; i++)
        if (strcmp(older->files[i].path, file->path) == 0)
            return &older->files[i];
    return NULL;
}

static void swap_bytes(uint8_t *a, uint8_t *b, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        uint8_t byte = a[i];

        a[i] = b[i];
        b[i] = byte;
    }
}

enum damage {
    BIT,
    BIT_AGAIN,
    BYTES,
    ZEROS,
    SWAP_WITHIN,
    SWAP_BETWEEN,
    EXCHANGE,
    CUT,
    OLD,
    DAMAGES
};

static bool damage_one(struct rot_file *file, struct rot_file *other, const struct rot_file *old,
                       enum damage kind, uint64_t *random, char what[512])
{
    size_t unit = seed_below(random, 2) == 0 ? SECTOR : BLOCK;
    size_t at = seed_below(random, file->size) / unit * unit;
    size_t other_at = seed_below(random, other->size) / unit * unit;

    /* The log and its witness vouch for each other: what damages both at once goes unseen, which
     * docs/durability.md says. */
    if (kind != SWAP_WITHIN && other != file && strncmp(file->path, "wal/", 4) == 0 &&
        strncmp(other->path, "wal/", 4) == 0)
        return false;
    if (kind == BIT || kind == BIT_AGAIN) {
        uint64_t bit = seed_below(random, file->size * 8);

        file->bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
        snprintf(what, 512, "bit %llu of %s", (unsigned long long)bit, file->path);
    } else if (kind == BYTES) {
        for (size_t i = at; i < at + unit && i < file->size; i++)
            file->bytes[i] = (uint8_t)seed_next(random);
        snprintf(what, 512, "%zu random bytes at %zu of %s", unit, at, file->path);
    } else if (kind == ZEROS) {
        memset(file->bytes + at, 0, file->size - at < unit ? file->size - at : unit);
        snprintf(what, 512, "%zu zeros at %zu of %s", unit, at, file->path);
    } else if (kind == SWAP_WITHIN || kind == SWAP_BETWEEN) {
        if (kind == SWAP_WITHIN)
            other = file;
        other_at = seed_below(random, other->size) / unit * unit;
        if (file->size - at < unit || other->size - other_at < unit ||
            file->bytes + at == other->bytes + other_at)
            return false;
        swap_bytes(file->bytes + at, other->bytes + other_at, unit);
        snprintf(what, 512, "%zu bytes at %zu of %s and %zu of %s swapped", unit, at, file->path,
                 other_at, other->path);
    } else if (kind == EXCHANGE) {
        uint8_t *bytes = file->bytes;
        size_t size = file->size;

        if (other == file)
            return false;
        file->bytes = other->bytes;
        file->size = other->size;
        other->bytes = bytes;
        other->size = size;
        snprintf(what, 512, "%s and %s exchanged", file->path, other->path);
    } else if (kind == CUT) {
        file->size = seed_below(random, file->size);
        snprintf(what, 512, "%s cut to %zu bytes", file->path, file->size);
    } else {
        /* One block of what it once was, or all of it. */
        if (old == NULL || old->bytes == NULL || old->size < unit)
            return false;
        if (old->size == file->size && seed_below(random, 4) == 0) {
            memcpy(file->bytes, old->bytes, file->size);
            snprintf(what, 512, "an older %s", file->path);
        } else {
            at = seed_below(random, old->size < file->size ? old->size : file->size) / unit * unit;
            if (old->size - at < unit || file->size - at < unit)
                return false;
            memcpy(file->bytes + at, old->bytes + at, unit);
            snprintf(what, 512, "an older block at %zu of %s", at, file->path);
        }
    }
    return true;
}

static struct rot_file save(const struct rot_file *file)
{
    struct rot_file copy = *file;

    copy.bytes = malloc(file->size + 1);
    require(copy.bytes != NULL, "memory");
    memcpy(copy.bytes, file->bytes, file->size);
    return copy;
}

static void restore(struct rot_file *file, struct rot_file *saved)
{
    file->size = saved->size;
    memcpy(file->bytes, saved->bytes, saved->size);
    free(saved->bytes);
}

/* ---- as a plan ---- */

static void sample_group(void *context, uint64_t index, uint64_t *ret_first, uint64_t *ret_end)
{
    const struct sample *sample = context;

    *ret_first = sample->first + index * sample->step;
    *ret_end = *ret_first + 1;
}

static bool sample_apply(void *context, uint64_t first, uint64_t end, char what[ROT_WHAT_SIZE],
                         struct rot_expectation *expectation)
{
    struct sample *sample = context;
    uint64_t random = sample->choice->seed * UINT64_C(1000003) + first;
    enum damage kind;
    char how[512];

    (void)end;
    (void)expectation;
    sample->file = choose_file(sample->choice, &random);
    sample->other = choose_file(sample->choice, &random);
    kind = (enum damage)seed_below(&random, DAMAGES);
    sample->saved = save(sample->file);
    sample->other_saved = save(sample->other);
    sample->bytes = sample->file->bytes;
    sample->other_bytes = sample->other->bytes;
    rot_file_changed(sample->file);
    rot_file_changed(sample->other);
    if (!damage_one(sample->file, sample->other,
                    find_older(&sample->choice->store->older, sample->file), kind, &random, how))
        return false;
    snprintf(what, ROT_WHAT_SIZE, "trial %llu: %s", (unsigned long long)first, how);
    return true;
}

static void sample_undo(void *context, uint64_t first, uint64_t end)
{
    struct sample *sample = context;

    (void)first;
    (void)end;
    sample->file->bytes = sample->bytes;
    sample->other->bytes = sample->other_bytes;
    restore(sample->file, &sample->saved);
    if (sample->other != sample->file)
        restore(sample->other, &sample->other_saved);
    else
        free(sample->other_saved.bytes);
    rot_file_changed(sample->file);
    rot_file_changed(sample->other);
}

void rot_plan_sample(const struct rot_choice *choice, uint64_t count, uint64_t only,
                     struct rot_plan *ret_plan)
{
    struct sample *sample = calloc(1, sizeof *sample);

    require(sample != NULL, "memory");
    sample->choice = choice;
    sample->first = only != UINT64_MAX ? only : choice->part;
    sample->step = choice->parts;
    *ret_plan = (struct rot_plan){
        .context = sample,
        .groups = only != UINT64_MAX     ? 1
                  : count > choice->part ? (count - choice->part - 1) / choice->parts + 1
                                         : 0,
        .group = sample_group,
        .apply = sample_apply,
        .undo = sample_undo,
    };
}
