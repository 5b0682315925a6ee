/* SPDX-License-Identifier: Apache-2.0 */
/*
 * scratch.c - one growing piece of memory a thread
 */
#include "engine/base/scratch.h"

#include <pthread.h>
#include <stdlib.h>

#include "engine/base/io.h"

struct scratch {
    void *data;
    size_t size;
};

/* Small work needs little; what transfers large pieces gets memory that suits them (io.h). */
#define SMALL_SIZE    ((size_t)256 * 1024)
#define LARGE_GRANULE ((size_t)2 * 1024 * 1024)

static pthread_key_t scratch_key;
static pthread_once_t scratch_once = PTHREAD_ONCE_INIT;
static int scratch_key_error;

static void scratch_free(void *pointer)
{
    struct scratch *scratch = pointer;

    free(scratch->data);
    free(scratch);
}

static void scratch_create_key(void)
{
    scratch_key_error = pthread_key_create(&scratch_key, scratch_free);
}

static struct scratch *scratch_of_thread(void)
{
    struct scratch *scratch;

    pthread_once(&scratch_once, scratch_create_key);
    if (scratch_key_error != 0)
        return NULL;
    scratch = pthread_getspecific(scratch_key);
    if (scratch != NULL)
        return scratch;
    scratch = calloc(1, sizeof *scratch);
    if (scratch != NULL && pthread_setspecific(scratch_key, scratch) != 0) {
        free(scratch);
        return NULL;
    }
    return scratch;
}

void *scratch_get(size_t size)
{
    struct scratch *scratch = scratch_of_thread();
    size_t granule = size <= SMALL_SIZE ? SMALL_SIZE : LARGE_GRANULE;
    size_t wanted = size > 0 ? (size + granule - 1) / granule * granule : granule;
    void *data;

    if (scratch == NULL || wanted < size)
        return NULL;
    if (wanted <= scratch->size)
        return scratch->data;
    data = io_allocate_aligned(wanted);
    if (data == NULL)
        return NULL;
    free(scratch->data);
    scratch->data = data;
    scratch->size = wanted;
    return data;
}
