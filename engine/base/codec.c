/* SPDX-License-Identifier: Apache-2.0 */
/*
 * codec.c - zstd with a pair of contexts a thread
 *
 * Making a context costs more than compressing a small block, so each thread keeps its own; they
 * are freed when the thread ends.
 */
#include "engine/base/codec.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <zstd.h>
#include <zstd_errors.h>

#include "engine/base/error.h"

struct codec_contexts {
    ZSTD_CCtx *compress;
    ZSTD_DCtx *decompress;
};

static pthread_key_t contexts_key;
static pthread_once_t contexts_once = PTHREAD_ONCE_INIT;
static int contexts_key_error;

static void contexts_free(void *pointer)
{
    struct codec_contexts *contexts = pointer;

    ZSTD_freeCCtx(contexts->compress);
    ZSTD_freeDCtx(contexts->decompress);
    free(contexts);
}

static void contexts_create_key(void)
{
    contexts_key_error = pthread_key_create(&contexts_key, contexts_free);
}

/* The calling thread's contexts, made at first use; NULL when out of memory. */
static struct codec_contexts *contexts_get(void)
{
    struct codec_contexts *contexts;

    pthread_once(&contexts_once, contexts_create_key);
    if (contexts_key_error != 0)
        return NULL;
    contexts = pthread_getspecific(contexts_key);
    if (contexts != NULL)
        return contexts;

    contexts = calloc(1, sizeof *contexts);
    if (contexts == NULL)
        return NULL;
    if (pthread_setspecific(contexts_key, contexts) != 0) {
        free(contexts);
        return NULL;
    }
    return contexts;
}

static ZSTD_CCtx *context_for_compression(void)
{
    struct codec_contexts *contexts = contexts_get();

    if (contexts == NULL)
        return NULL;
    if (contexts->compress == NULL)
        contexts->compress = ZSTD_createCCtx();
    return contexts->compress;
}

static ZSTD_DCtx *context_for_decompression(void)
{
    struct codec_contexts *contexts = contexts_get();

    if (contexts == NULL)
        return NULL;
    if (contexts->decompress == NULL)
        contexts->decompress = ZSTD_createDCtx();
    return contexts->decompress;
}

size_t codec_bound(size_t size)
{
    return ZSTD_compressBound(size);
}

ptrdiff_t codec_compress(void *to, size_t room, const void *from, size_t size, int level)
{
    size_t useful_size = size - size / 8;
    ZSTD_CCtx *context;
    size_t stored_size;

    if (size == 0)
        return 0;
    context = context_for_compression();
    if (context == NULL)
        return -ENOMEM;
    /* With no more room than what pays, zstd gives up early on what does not compress. */
    if (room > useful_size)
        room = useful_size;
    stored_size = ZSTD_compressCCtx(context, to, room, from, size, level);
    if (ZSTD_isError(stored_size))
        return ZSTD_getErrorCode(stored_size) == ZSTD_error_memory_allocation ? -ENOMEM : 0;
    return stored_size < useful_size ? (ptrdiff_t)stored_size : 0;
}

int codec_decompress(void *to, size_t size, const void *from, size_t stored_size)
{
    ZSTD_DCtx *context = context_for_decompression();
    size_t result;

    if (context == NULL)
        return -ENOMEM;
    result = ZSTD_decompressDCtx(context, to, size, from, stored_size);
    if (ZSTD_isError(result))
        return ZSTD_getErrorCode(result) == ZSTD_error_memory_allocation ? -ENOMEM : ERROR_CORRUPT;
    return result == size ? 0 : ERROR_CORRUPT;
}
