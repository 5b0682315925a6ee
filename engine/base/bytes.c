/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bytes.c - the growable buffer
 */
#include "engine/base/bytes.h"

#include <errno.h>
#include <stdlib.h>

#define CAPACITY_MIN 64

int buffer_reserve(struct buffer *buffer, size_t size)
{
    size_t capacity = buffer->capacity;
    uint8_t *data;

    if (size <= capacity)
        return 0;
    /* Doubling keeps a series of appends linear in the bytes appended. */
    capacity = capacity <= SIZE_MAX / 2 ? 2 * capacity : SIZE_MAX;
    if (capacity < size)
        capacity = size;
    if (capacity < CAPACITY_MIN)
        capacity = CAPACITY_MIN;

    data = realloc(buffer->data, capacity);
    if (data == NULL)
        return -ENOMEM;
    buffer->data = data;
    buffer->capacity = capacity;
    return 0;
}

int buffer_append(struct buffer *buffer, const void *data, size_t size)
{
    if (size == 0)
        return 0;
    if (size > buffer->capacity - buffer->size) {
        int error;

        if (size > SIZE_MAX - buffer->size)
            return -ENOMEM;
        error = buffer_reserve(buffer, buffer->size + size);
        if (error < 0)
            return error;
    }
    memcpy(buffer->data + buffer->size, data, size);
    buffer->size += size;
    return 0;
}

int buffer_assign(struct buffer *buffer, const void *data, size_t size)
{
    int error = buffer_reserve(buffer, size);

    if (error < 0)
        return error;
    if (size > 0)
        memcpy(buffer->data, data, size);
    buffer->size = size;
    return 0;
}

void buffer_free(struct buffer *buffer)
{
    free(buffer->data);
    *buffer = (struct buffer){0};
}
