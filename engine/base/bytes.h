/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bytes.h - byte strings: a borrowed slice, a growable buffer
 *
 * A slice never owns memory and says nothing about its lifetime: the function that hands one out
 * does. A buffer owns its memory; a zeroed buffer is a valid empty one.
 *
 * Threads: no locks; one buffer belongs to one thread at a time.
 */
#ifndef VARVE_ENGINE_BASE_BYTES_H
#define VARVE_ENGINE_BASE_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct slice {
    const uint8_t *data;
    size_t size;
};

struct buffer {
    uint8_t *data;
    size_t size;
    size_t capacity;
};

static inline struct slice slice_of(const void *data, size_t size)
{
    return (struct slice){data, size};
}

static inline struct slice slice_of_string(const char *text)
{
    return (struct slice){(const uint8_t *)text, strlen(text)};
}

/* memcmp order, a prefix sorts first */
static inline int slice_compare(struct slice a, struct slice b)
{
    size_t common = a.size < b.size ? a.size : b.size;
    int order = common > 0 ? memcmp(a.data, b.data, common) : 0;

    if (order != 0)
        return order;
    return a.size < b.size ? -1 : a.size > b.size;
}

static inline bool slice_equal(struct slice a, struct slice b)
{
    return a.size == b.size && (a.size == 0 || memcmp(a.data, b.data, a.size) == 0);
}

static inline struct slice buffer_slice(const struct buffer *buffer)
{
    return (struct slice){buffer->data, buffer->size};
}

/* Make room for `size` bytes in all. 0, or -ENOMEM (the buffer is unchanged). */
int buffer_reserve(struct buffer *buffer, size_t size);

/* Append bytes that are not the buffer's own. 0 or -ENOMEM (unchanged). */
int buffer_append(struct buffer *buffer, const void *data, size_t size);

/* Replace the content by bytes that are not its own. 0 or -ENOMEM (unchanged). */
int buffer_assign(struct buffer *buffer, const void *data, size_t size);

/* Free the memory; the buffer is empty and usable again. */
void buffer_free(struct buffer *buffer);

#endif
