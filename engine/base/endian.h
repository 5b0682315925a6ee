/* SPDX-License-Identifier: Apache-2.0 */
/*
 * endian.h - fixed-width integers in byte strings, unaligned
 *
 * Formats on disk are little-endian (get_le*, put_le*); keys are big-endian (get_be*, put_be*) so
 * that memcmp order is numeric order. Varints are LEB128 (DWARF 5, section 7.6), at most 10 bytes.
 */
#ifndef VARVE_ENGINE_BASE_ENDIAN_H
#define VARVE_ENGINE_BASE_ENDIAN_H

#include <endian.h>
#include <stdint.h>
#include <string.h>

#define ENDIAN_DEFINE(width, order)                                                                \
    static inline uint##width##_t get_##order##width(const void *from)                             \
    {                                                                                              \
        uint##width##_t value;                                                                     \
        memcpy(&value, from, sizeof value);                                                        \
        return order##width##toh(value);                                                           \
    }                                                                                              \
    static inline void put_##order##width(void *to, uint##width##_t value)                         \
    {                                                                                              \
        value = hto##order##width(value);                                                          \
        memcpy(to, &value, sizeof value);                                                          \
    }

ENDIAN_DEFINE(16, le)
ENDIAN_DEFINE(32, le)
ENDIAN_DEFINE(64, le)
ENDIAN_DEFINE(16, be)
ENDIAN_DEFINE(32, be)
ENDIAN_DEFINE(64, be)

#define VARINT_SIZE_MAX 10

/* Write `value` at `to` (VARINT_SIZE_MAX bytes of room); returns the byte after it. */
static inline uint8_t *put_varint(uint8_t *to, uint64_t value)
{
    while (value >= 0x80) {
        *to++ = (uint8_t)(value | 0x80);
        value >>= 7;
    }
    *to++ = (uint8_t)value;
    return to;
}

/* Read from [from, end); returns the byte after it, or NULL when truncated or over 64 bits. */
static inline const uint8_t *get_varint(const uint8_t *from, const uint8_t *end, uint64_t *ret)
{
    uint64_t value = 0;

    for (unsigned shift = 0; shift < 64 && from < end; shift += 7) {
        uint8_t byte = *from++;

        if (shift == 63 && byte > 1)
            return NULL;
        value |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80) {
            *ret = value;
            return from;
        }
    }
    return NULL;
}

#endif
