/* SPDX-License-Identifier: Apache-2.0 */
/*
 * checksum.h - XXH3 (libxxhash), for integrity and naming only
 *
 * XXH3 is not collision-resistant: equal hashes never prove equal content. The only file that
 * includes xxhash.h is checksum.c.
 */
#ifndef VARVE_ENGINE_BASE_CHECKSUM_H
#define VARVE_ENGINE_BASE_CHECKSUM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct checksum128 {
    uint64_t low;
    uint64_t high;
};

uint64_t checksum64(const void *data, size_t size);
uint64_t checksum64_seeded(const void *data, size_t size, uint64_t seed);

/* The low half of checksum64. */
uint32_t checksum32(const void *data, size_t size);

static inline bool checksum128_equal(struct checksum128 a, struct checksum128 b)
{
    return a.low == b.low && a.high == b.high;
}

/* The digest that stands for `value`: itself, or {1, 0} for {0, 0}. */
static inline struct checksum128 checksum128_nonzero(struct checksum128 value)
{
    if (value.low == 0 && value.high == 0)
        value.low = 1;
    return value;
}

/* Streaming XXH3-128. _new returns NULL when out of memory; _free accepts NULL. A digest of any
 * input is never {0, 0}: that value is mapped to {1, 0}, so that zero can mean "none". */
struct checksum_stream;
struct checksum_stream *checksum_stream_new(void);
void checksum_stream_update(struct checksum_stream *stream, const void *data, size_t size);
struct checksum128 checksum_stream_digest(const struct checksum_stream *stream);
void checksum_stream_free(struct checksum_stream *stream);

#endif
