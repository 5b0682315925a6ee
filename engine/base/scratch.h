/* SPDX-License-Identifier: Apache-2.0 */
/*
 * scratch.h - memory of a thread for work that ends within one call
 *
 * Compressing, decompressing and aligning need room for a moment, on hot paths, in sizes that a
 * stack should not carry. Each thread keeps one piece, which grows to the largest size asked for
 * and is freed when the thread ends.
 */
#ifndef VARVE_ENGINE_BASE_SCRATCH_H
#define VARVE_ENGINE_BASE_SCRATCH_H

#include <stddef.h>

/*
 * At least `size` bytes, aligned for direct I/O, with any content; NULL when out of memory. They
 * belong to the caller until the calling thread's next scratch_get(): a function that uses them
 * calls nothing meanwhile that does so too.
 */
void *scratch_get(size_t size);

#endif
