/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz.h - what the fuzzers share
 *
 * An input is a byte of options, then the bytes that are decoded. Checksums stop a mutation at the
 * first of them, so with FUZZ_SEAL a fuzzer computes them anew over what the input says, wherever
 * they belong: what lies behind must hold against hostile bytes too, for a checksum proves nothing
 * about who wrote it. Besides not to crash, each fuzzer asserts what its module promises, through
 * fuzz_require().
 */
#ifndef VARVE_TESTS_FUZZ_FUZZ_H
#define VARVE_TESTS_FUZZ_FUZZ_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/bytes.h"
#include "engine/base/checksum.h"
#include "engine/base/log.h"

enum fuzz_options { FUZZ_SEAL = 1 << 0 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argument_count, char ***arguments);

#define fuzz_require(condition)                                                                    \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: does not hold: %s\n", __FILE__, __LINE__, #condition);         \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

/* A copy that may be changed, of its exact size, so that a read beyond it is seen. */
static inline uint8_t *fuzz_copy(const uint8_t *data, size_t size)
{
    uint8_t *copy = malloc(size > 0 ? size : 1);

    fuzz_require(copy != NULL);
    if (size > 0)
        memcpy(copy, data, size);
    return copy;
}

/* The content hash of a whole. */
static inline struct checksum128 fuzz_checksum128(const void *data, size_t size)
{
    struct checksum_stream *stream = checksum_stream_new();
    struct checksum128 digest;

    fuzz_require(stream != NULL);
    checksum_stream_update(stream, data, size);
    digest = checksum_stream_digest(stream);
    checksum_stream_free(stream);
    return digest;
}

#endif
