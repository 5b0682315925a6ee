/* SPDX-License-Identifier: Apache-2.0 */
/*
 * shared_blocks.c - walk the blocks of two runs side by side
 */
#include "engine/shared_blocks.h"

#include <errno.h>
#include <stdlib.h>

#include "engine/table_reader_internal.h"

#define WINDOW_SIZE    ((size_t)256 << 10) /* read at once */
#define CHECKSUM_BYTES 8 /* at the end of a section; the codec's tag is before it */

/* A block of a run. */
struct place {
    const struct shared_run *run;
    size_t table, block;
    struct table_reader *reader; /* of the table; NULL: past the last */
    struct buffer window;        /* stored bytes from window_position on */
    uint64_t window_position;
};

/* To the first block of this table or of the next one that has some. */
static int enter_table(struct place *place)
{
    const struct shared_run *run = place->run;
    int error = 0;

    place->block = 0;
    place->window.size = 0;
    for (place->reader = NULL; error == 0 && place->table < run->count; place->table++) {
        error = version_table_reader(run->tables[place->table], &place->reader);
        if (error < 0 || place->reader->index.count > 0)
            break;
        place->reader = NULL;
    }
    if (error < 0 || place->reader == NULL)
        return error;
    if (run->passed[place->table] == NULL)
        run->passed[place->table] = calloc(place->reader->index.count / 8 + 1, 1);
    return run->passed[place->table] != NULL ? 0 : -ENOMEM;
}

static int advance(struct place *place)
{
    if (++place->block < place->reader->index.count)
        return 0;
    place->table++;
    return enter_table(place);
}

/* What every key of the block is at or above. */
static struct slice lower_bound(const struct place *place)
{
    if (place->block == 0)
        return buffer_slice(&place->run->tables[place->table]->meta.smallest);
    return table_index_separator(&place->reader->index, place->block);
}

static size_t stored_size(const struct place *place)
{
    return table_reader_stored_size(place->reader, place->block);
}

/* The stored bytes of the block; what follows it is read along. */
static int load(struct place *place, const uint8_t **ret_stored)
{
    const struct table_index *index = &place->reader->index;
    uint64_t position = index->positions[place->block];
    uint64_t left = index->positions[index->count] - position;
    size_t wanted = stored_size(place);
    int error;

    if (place->window.size == 0 || position < place->window_position ||
        position + wanted > place->window_position + place->window.size) {
        if (wanted < WINDOW_SIZE)
            wanted = left < WINDOW_SIZE ? (size_t)left : WINDOW_SIZE;
        place->window.size = 0;
        error = buffer_reserve(&place->window, wanted);
        if (error == 0)
            error = table_reader_read(place->reader, place->window.data, wanted, position);
        if (error < 0)
            return error;
        place->window.size = wanted;
        place->window_position = position;
    }
    *ret_stored = place->window.data + (position - place->window_position);
    return 0;
}

/* 1: the same, 0: not, or an error. */
static int compare(struct place *one, struct place *other)
{
    const uint8_t *left, *right;
    int error;

    if (stored_size(one) != stored_size(other) ||
        one->reader->index.raw_sizes[one->block] != other->reader->index.raw_sizes[other->block])
        return 0;
    error = load(one, &left);
    if (error == 0)
        error = load(other, &right);
    if (error < 0)
        return error;
    return memcmp(left, right, stored_size(one) - CHECKSUM_BYTES) == 0;
}

static void mark(struct place *place)
{
    place->run->passed[place->table][place->block / 8] |= (uint8_t)(1u << place->block % 8);
}

/* Look at both places and move on the one that is behind. */
static int step(struct place *one, struct place *other, uint64_t *count)
{
    int order = slice_compare(lower_bound(one), lower_bound(other));
    int result = order == 0 ? compare(one, other) : 0;

    if (result > 0) {
        mark(one);
        mark(other);
        (*count)++;
    }
    if (result >= 0)
        result = order <= 0 ? advance(one) : 0;
    return result == 0 && order >= 0 ? advance(other) : result;
}

int shared_blocks_find(const struct shared_run *one, const struct shared_run *other,
                       uint64_t *count)
{
    struct place left = {.run = one}, right = {.run = other};
    int result = one->count > 0 && other->count > 0 ? enter_table(&left) : 0;

    if (result == 0 && left.reader != NULL)
        result = enter_table(&right);
    while (result == 0 && left.reader != NULL && right.reader != NULL)
        result = step(&left, &right, count);
    buffer_free(&left.window);
    buffer_free(&right.window);
    return result;
}
