/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store_format.c - the bytes of FORMAT
 */
#include "engine/store.h"

#include <assert.h>
#include <string.h>

#include "engine/base/checksum.h"
#include "engine/base/endian.h"
#include "engine/base/error.h"

#define VERSION_OLDEST 1

enum {
    AT_MAGIC = 0,
    AT_VERSION = 8,
    AT_UUID = 16,
    AT_CHUNK_SIZE = 32,
    AT_LEVEL = 40,
    AT_CREATED = 48,
    AT_FLAGS = 56,
    AT_ORIGIN = 64,
    AT_CHECKSUM = STORE_FORMAT_SIZE - 8,
};
static_assert(AT_UUID + STORE_UUID_SIZE == AT_CHUNK_SIZE, "the UUID fills its place");

static const uint8_t magic[8] = {'V', 'A', 'R', 'V', 'E', 'F', 'M', 'T'};

void store_format_encode(const struct store_format *format, uint8_t to[STORE_FORMAT_SIZE])
{
    memset(to, 0, STORE_FORMAT_SIZE);
    memcpy(to + AT_MAGIC, magic, sizeof magic);
    put_le32(to + AT_VERSION, STORE_FORMAT_VERSION);
    memcpy(to + AT_UUID, format->uuid, STORE_UUID_SIZE);
    put_le64(to + AT_CHUNK_SIZE, format->chunk_size_bytes);
    put_le32(to + AT_LEVEL, (uint32_t)format->compression_level);
    put_le64(to + AT_CREATED, format->created_s);
    put_le32(to + AT_FLAGS, format->flags);
    memcpy(to + AT_ORIGIN, format->origin_uuid, STORE_UUID_SIZE);
    put_le64(to + AT_CHECKSUM, checksum64(to, AT_CHECKSUM));
}

int store_format_decode(const uint8_t from[STORE_FORMAT_SIZE], struct store_format *ret_format)
{
    struct store_format format;
    uint32_t version = get_le32(from + AT_VERSION);

    if (memcmp(from + AT_MAGIC, magic, sizeof magic) != 0)
        return ERROR_NOT_STORE;
    if (get_le64(from + AT_CHECKSUM) != checksum64(from, AT_CHECKSUM))
        return ERROR_CORRUPT;
    if (version > STORE_FORMAT_VERSION)
        return ERROR_VERSION_NEWER;
    if (version < VERSION_OLDEST)
        return ERROR_VERSION_OLDER;
    memcpy(format.uuid, from + AT_UUID, STORE_UUID_SIZE);
    format.chunk_size_bytes = get_le64(from + AT_CHUNK_SIZE);
    format.compression_level = (int32_t)get_le32(from + AT_LEVEL);
    format.created_s = get_le64(from + AT_CREATED);
    format.flags = get_le32(from + AT_FLAGS);
    memcpy(format.origin_uuid, from + AT_ORIGIN, STORE_UUID_SIZE);
    /* A flag says how the rest is to be read. */
    if ((format.flags & ~STORE_FORMAT_FOREIGN_CHUNKS) != 0)
        return ERROR_VERSION_NEWER;
    if (format.chunk_size_bytes == 0)
        return ERROR_CORRUPT;
    *ret_format = format;
    return 0;
}
