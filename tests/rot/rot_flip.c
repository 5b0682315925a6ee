/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rot_flip.c - single bits: all of them, or very many
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/chunk_format.h"
#include "tests/lib/seed.h"
#include "tests/rot/rot_damage.h"
#include "tests/rot/rot_wanted.h"

static void require(bool condition, const char *what)
{
    if (condition)
        return;
    fprintf(stderr, "rot: %s\n", what);
    exit(2);
}

static void flip(struct rot_file *file, uint64_t bit)
{
    file->bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
    rot_file_changed(file);
}

static void say_flip(const struct rot_file *file, uint64_t bit, char what[ROT_WHAT_SIZE])
{
    snprintf(what, ROT_WHAT_SIZE, "bit %llu of byte %llu of %s", (unsigned long long)(bit % 8),
             (unsigned long long)(bit / 8), file->path);
}

/* The file of a byte that is counted through all wanted ones, and which byte of it that is. */
static struct rot_file *find_byte(const struct rot_choice *choice, uint64_t *byte)
{
    struct rot_image *image = &choice->store->image;

    for (size_t i = 0; i < image->count; i++) {
        struct rot_file *file = &image->files[i];

        if (!rot_is_wanted(choice, file))
            continue;
        if (*byte < file->size)
            return file;
        *byte -= file->size;
    }
    require(false, "no such byte");
    return NULL;
}

uint64_t rot_wanted_bytes(const struct rot_choice *choice)
{
    uint64_t bytes = 0;

    for (size_t i = 0; i < choice->store->image.count; i++)
        if (rot_is_wanted(choice, &choice->store->image.files[i]))
            bytes += choice->store->image.files[i].size;
    return bytes;
}

/* ---- every bit ---- */

struct every {
    const struct rot_choice *choice;
    bool one_of_each_byte;
};

/* Bits are numbered through all files. */
static void every_group(void *context, uint64_t index, uint64_t *ret_first, uint64_t *ret_end)
{
    const struct every *every = context;
    uint64_t random;

    index = index * every->choice->parts + every->choice->part;
    if (every->one_of_each_byte) {
        random = every->choice->seed + index;
        index = index * 8 + seed_below(&random, 8);
    }
    *ret_first = index;
    *ret_end = index + 1;
}

static bool every_apply(void *context, uint64_t first, uint64_t end, char what[ROT_WHAT_SIZE],
                        struct rot_expectation *expectation)
{
    const struct every *every = context;
    uint64_t byte = first / 8;
    struct rot_file *file = find_byte(every->choice, &byte);

    (void)end;
    (void)expectation;
    flip(file, byte * 8 + first % 8);
    say_flip(file, byte * 8 + first % 8, what);
    return true;
}

static void every_undo(void *context, uint64_t first, uint64_t end)
{
    const struct every *every = context;
    uint64_t byte = first / 8;
    struct rot_file *file = find_byte(every->choice, &byte);

    (void)end;
    flip(file, byte * 8 + first % 8);
}

void rot_plan_every(const struct rot_choice *choice, bool one_of_each_byte,
                    struct rot_plan *ret_plan)
{
    struct every *every = malloc(sizeof *every);
    uint64_t count = rot_wanted_bytes(choice) * (one_of_each_byte ? 1 : 8);

    require(every != NULL && count > choice->part, "nothing to flip");
    *every = (struct every){choice, one_of_each_byte};
    *ret_plan = (struct rot_plan){
        .context = every,
        .groups = (count - choice->part - 1) / choice->parts + 1,
        .group = every_group,
        .apply = every_apply,
        .undo = every_undo,
    };
}

/* ---- very many ---- */

struct one_flip {
    struct rot_file *file;
    uint64_t bit;
    const struct rot_frame *frame; /* NULL: in none that anybody refers to */
    uint64_t group; /* in file data: how many were in the same frame before; else NONE */
};
#define NONE UINT64_MAX

struct flips {
    struct one_flip *flips; /* by group */
    uint64_t count;
    uint64_t *starts; /* of groups, and the end */
};

/* Between the header and the trailer of a sealed blob chunk, where nothing is read but frames. */
static bool is_file_data(const struct rot_file *file, uint64_t byte)
{
    size_t size = strlen(file->path);

    return rot_file_is_sealed(file) && size > 4 && strcmp(file->path + size - 4, ".blb") == 0 &&
           byte >= CHUNK_HEADER_SIZE && byte < file->size - CHUNK_TRAILER_SIZE;
}

static uint64_t chunk_id_of(const struct rot_file *file)
{
    const char *name = strrchr(file->path, '/');

    return strtoull(name != NULL ? name + 1 : file->path, NULL, 16);
}

static struct one_flip choose_flip(const struct rot_choice *choice, const struct rot_frames *frames,
                                   uint64_t bytes, uint64_t *random)
{
    struct one_flip one = {.group = NONE};
    uint64_t byte = seed_below(random, bytes);

    one.file = find_byte(choice, &byte);
    one.bit = byte * 8 + seed_below(random, 8);
    if (is_file_data(one.file, byte)) {
        one.frame = rot_frames_find(frames, chunk_id_of(one.file), byte);
        one.group = 0;
    }
    return one;
}

static int compare_groups(const void *a, const void *b)
{
    const struct one_flip *one = a, *two = b;

    return (one->group > two->group) - (one->group < two->group);
}

/* The n-th flip of each frame is in group n. What hits no frame may be in any. */
static void number_groups(struct flips *flips, const struct rot_frames *frames)
{
    uint64_t *hits = calloc(frames->count, sizeof *hits), most = 1, next = 0;

    require(hits != NULL, "memory");
    for (uint64_t i = 0; i < flips->count; i++) {
        struct one_flip *one = &flips->flips[i];

        if (one->frame == NULL)
            continue;
        one->group = hits[one->frame - frames->frames]++;
        if (one->group >= most)
            most = one->group + 1;
    }
    for (uint64_t i = 0; i < flips->count; i++)
        if (flips->flips[i].frame == NULL && flips->flips[i].group != NONE)
            flips->flips[i].group = next++ % most;
    free(hits);
    qsort(flips->flips, flips->count, sizeof *flips->flips, compare_groups);
}

static void flips_group(void *context, uint64_t index, uint64_t *ret_first, uint64_t *ret_end)
{
    const struct flips *flips = context;

    *ret_first = flips->starts[index];
    *ret_end = flips->starts[index + 1];
}

static bool flips_apply(void *context, uint64_t first, uint64_t end, char what[ROT_WHAT_SIZE],
                        struct rot_expectation *expectation)
{
    struct flips *flips = context;

    expectation->is_exact = flips->flips[first].group != NONE;
    for (uint64_t i = first; i < end; i++) {
        struct one_flip *one = &flips->flips[i];

        flip(one->file, one->bit);
        if (one->frame == NULL)
            continue;
        expectation->refusals += one->frame->trees;
        expectation->harmful++;
    }
    say_flip(flips->flips[first].file, flips->flips[first].bit, what);
    return true;
}

static void flips_undo(void *context, uint64_t first, uint64_t end)
{
    struct flips *flips = context;

    for (uint64_t i = first; i < end; i++)
        flip(flips->flips[i].file, flips->flips[i].bit);
}

void rot_plan_flips(const struct rot_choice *choice, const struct rot_frames *frames,
                    uint64_t count, struct rot_plan *ret_plan)
{
    struct flips *flips = calloc(1, sizeof *flips);
    uint64_t random = choice->seed * choice->parts + choice->part, groups = 0;
    uint64_t bytes = rot_wanted_bytes(choice);

    require(flips != NULL, "memory");
    flips->count = count / choice->parts + (choice->part < count % choice->parts);
    flips->flips = malloc(flips->count * sizeof *flips->flips);
    flips->starts = malloc((flips->count + 1) * sizeof *flips->starts);
    require(flips->count > 0 && flips->flips != NULL && flips->starts != NULL, "nothing to flip");
    for (uint64_t i = 0; i < flips->count; i++)
        flips->flips[i] = choose_flip(choice, frames, bytes, &random);
    number_groups(flips, frames);
    for (uint64_t i = 0; i < flips->count; i++)
        if (i == 0 || flips->flips[i].group == NONE ||
            flips->flips[i].group != flips->flips[i - 1].group)
            flips->starts[groups++] = i;
    flips->starts[groups] = flips->count;
    *ret_plan = (struct rot_plan){
        .context = flips,
        .groups = groups,
        .group = flips_group,
        .apply = flips_apply,
        .undo = flips_undo,
    };
}
