/* SPDX-License-Identifier: Apache-2.0 */
/*
 * codec.h - compression (libzstd); the only file that includes zstd.h is codec.c
 *
 * Threads: any; each thread keeps a context of its own, freed when the thread ends.
 */
#ifndef VARVE_ENGINE_BASE_CODEC_H
#define VARVE_ENGINE_BASE_CODEC_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum codec { CODEC_NONE = 0, CODEC_ZSTD = 1 }; /* on-disk values */

/* Room needed to compress `size` bytes. */
size_t codec_bound(size_t size);

/*
 * What is remembered of the inputs before, of one stream or store: the owner zeroes it. After
 * inputs that were worth a trial run and failed it, the next like them are not tried: one, three,
 * seven, then fifteen of them. Any threads at once.
 */
struct codec_history {
    atomic_uint failures; /* trial runs in a row */
    atomic_uint untried;  /* inputs to come that will not be tried */
};

/* Would the next input that looks incompressible be tried? */
bool codec_history_tries(const struct codec_history *history);

/*
 * Compress `size` bytes at zstd `level` into `to` (`room` bytes). Returns the stored size, or 0
 * when it does not pay (the result is not smaller than size - size/8, or does not fit, or history
 * says that it hardly will), or -ENOMEM. `history` may be NULL.
 */
ptrdiff_t codec_compress(void *to, size_t room, const void *from, size_t size, int level,
                         struct codec_history *history);

/* Decompress to exactly `size` bytes. 0, -ENOMEM, or ERROR_CORRUPT. Safe on hostile input. */
int codec_decompress(void *to, size_t size, const void *from, size_t stored_size);

#endif
