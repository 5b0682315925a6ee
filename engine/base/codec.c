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
#include <stdbool.h>
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

/* ---- is it worth the work? ----
 *
 * What hardly compresses costs most: at level 1 such data passes at 250 to 400 MB/s, to be stored
 * as it is in the end. Bytes that are far from equally frequent compress by that alone. Where they
 * are about equally frequent only repeated strings can pay, and those the fastest level finds too,
 * at 1,200 to 2,000 MB/s. Both looks are at the whole input: its beginning says little of the rest.
 * A stream of such data fails that trial every time; so what has failed is tried less often.
 */
#define TRIAL_LEVEL    (-5)
#define TRIAL_SIZE_MIN ((size_t)2048) /* of less the frequencies say nothing */
#define SAMPLE_PIECE   ((size_t)32)
#define SAMPLE_PIECES  ((size_t)32)
#define BYTE_VALUES    ((uint64_t)256)
#define UNTRIED_MAX    15U

/* log2(count) in 256ths, straight between the powers of two: at most 22 too little. */
static uint32_t log2_256ths(uint32_t count)
{
    uint32_t power = 31 - (uint32_t)__builtin_clz(count);

    return (power << 8) + (((count << 8) >> power) & 255);
}

/* Do the frequencies of bytes alone, coded as well as can be, save less than an eighth? Told from a
 * sample, with a twentieth of a bit in favour of trying. */
static bool bytes_are_evenly_spread(const uint8_t *from, size_t size)
{
    size_t step = size / SAMPLE_PIECES;
    uint32_t counts[BYTE_VALUES] = {0}, taken = 0, values = 0;
    uint64_t sum = 0, entropy;

    step -= step / 17; /* not in step with sectors, pages or records */
    if (step < SAMPLE_PIECE)
        step = SAMPLE_PIECE;
    for (size_t at = 0; at + SAMPLE_PIECE <= size; at += step) {
        for (size_t i = 0; i < SAMPLE_PIECE; i++)
            counts[from[at + i]]++;
        taken += SAMPLE_PIECE;
    }
    for (size_t i = 0; i < BYTE_VALUES; i++) {
        values += counts[i] > 0;
        if (counts[i] > 0)
            sum += (uint64_t)counts[i] * log2_256ths(counts[i]);
    }
    /* A sample looks less even than what it is taken from: by values / (2 ln 2 taken) bits. */
    entropy = log2_256ths(taken) - sum / taken + values * 185 / taken;
    return entropy > 7 * 256 + 256 / 20; /* 7 bits of 8 are what pays */
}

bool codec_history_tries(const struct codec_history *history)
{
    return atomic_load_explicit(&history->untried, memory_order_relaxed) == 0;
}

/* Take one of the inputs that are not tried; exact counts do not matter. */
static bool history_skips(struct codec_history *history)
{
    unsigned untried;

    if (history == NULL)
        return false;
    untried = atomic_load_explicit(&history->untried, memory_order_relaxed);
    if (untried == 0)
        return false;
    atomic_store_explicit(&history->untried, untried - 1, memory_order_relaxed);
    return true;
}

static void history_note(struct codec_history *history, bool paid)
{
    unsigned failures;

    if (history == NULL)
        return;
    failures = atomic_load_explicit(&history->failures, memory_order_relaxed);
    failures = paid ? 0 : failures + 1;
    if ((1U << failures) - 1 > UNTRIED_MAX)
        failures--;
    atomic_store_explicit(&history->failures, failures, memory_order_relaxed);
    atomic_store_explicit(&history->untried, (1U << failures) - 1, memory_order_relaxed);
}

static bool may_pay(ZSTD_CCtx *context, void *to, size_t room, const void *from, size_t size,
                    struct codec_history *history)
{
    bool paid;

    if (size < TRIAL_SIZE_MIN || !bytes_are_evenly_spread(from, size))
        return true;
    if (history_skips(history))
        return false;
    paid = !ZSTD_isError(ZSTD_compressCCtx(context, to, room, from, size, TRIAL_LEVEL));
    history_note(history, paid);
    return paid;
}

ptrdiff_t codec_compress(void *to, size_t room, const void *from, size_t size, int level,
                         struct codec_history *history)
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
    if (level > TRIAL_LEVEL && !may_pay(context, to, room, from, size, history))
        return 0;
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
