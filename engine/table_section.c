/* SPDX-License-Identifier: Apache-2.0 */
/*
 * table_section.c - sections of a table file
 */
#include "engine/table_section.h"

#include <errno.h>

#include "engine/base/error.h"

#define TAG_KIND_SHIFT 4
#define TAG_CODEC_MASK 15

int table_section_encode(struct slice raw, enum table_section_kind kind, uint64_t salt,
                         uint64_t position, int level, struct buffer *to)
{
    size_t bound = level != 0 ? codec_bound(raw.size) : 0;
    size_t room = bound > raw.size ? bound : raw.size;
    enum codec codec = CODEC_NONE;
    size_t size = raw.size;
    int error = buffer_reserve(to, room + TABLE_SECTION_TRAILER_SIZE);

    if (error < 0)
        return error;
    if (level != 0 && raw.size > 0) {
        ptrdiff_t compressed = codec_compress(to->data, room, raw.data, raw.size, level, NULL);

        if (compressed < 0)
            return (int)compressed;
        if (compressed > 0) {
            codec = CODEC_ZSTD;
            size = (size_t)compressed;
        }
    }
    if (codec == CODEC_NONE && raw.size > 0)
        memcpy(to->data, raw.data, raw.size);
    to->data[size] = (uint8_t)(kind << TAG_KIND_SHIFT | codec);
    put_le64(to->data + size + 1, checksum64_seeded(to->data, size + 1, salt + position));
    to->size = size + TABLE_SECTION_TRAILER_SIZE;
    return 0;
}

int table_section_decode(struct slice stored, enum table_section_kind kind, uint64_t salt,
                         uint64_t position, size_t raw_size, uint8_t *to)
{
    size_t size;
    uint8_t tag;

    if (stored.size < TABLE_SECTION_TRAILER_SIZE)
        return ERROR_CORRUPT;
    size = stored.size - TABLE_SECTION_TRAILER_SIZE;
    if (get_le64(stored.data + size + 1) !=
        checksum64_seeded(stored.data, size + 1, salt + position))
        return ERROR_CORRUPT;
    tag = stored.data[size];
    if (tag >> TAG_KIND_SHIFT != (int)kind)
        return ERROR_CORRUPT;
    switch (tag & TAG_CODEC_MASK) {
    case CODEC_NONE:
        if (size != raw_size)
            return ERROR_CORRUPT;
        if (size > 0)
            memcpy(to, stored.data, size);
        return 0;
    case CODEC_ZSTD:
        return codec_decompress(to, raw_size, stored.data, size);
    default:
        return ERROR_CORRUPT;
    }
}
