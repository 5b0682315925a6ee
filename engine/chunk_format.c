/* SPDX-License-Identifier: Apache-2.0 */
/*
 * chunk_format.c - encoding and checking of chunk headers, trailers and names
 *
 * Magic, version and checksum keep their places in every version of the format, so that a damaged
 * file and a file of a newer program are told apart: the checksum is compared before the version is
 * believed.
 */
#include "engine/chunk_format.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>

#include "engine/base/endian.h"
#include "engine/base/error.h"
#include "engine/base/invariant.h"

#define HEADER_MAGIC    "VARVECHK"
#define TRAILER_MAGIC   "VARVEEND"
#define MAGIC_SIZE      8
#define CHECKSUM_SIZE   8
#define HEADER_CHECKED  (CHUNK_HEADER_SIZE - CHECKSUM_SIZE)
#define TRAILER_CHECKED (CHUNK_TRAILER_SIZE - CHECKSUM_SIZE)

/* Where the fields are. The first five are shared by header and trailer. */
enum field_offset {
    AT_MAGIC = 0,
    AT_VERSION = 8,
    AT_KIND = 12,
    AT_STORE_UUID = 16,
    AT_ID = 32,
    AT_CONTENT_SIZE = 40,
    AT_HASH_LOW = 48,
    AT_HASH_HIGH = 56,
    AT_VALUES = 64,
    AT_TRAILER_RESERVED = 96,
};

static_assert(AT_STORE_UUID + STORE_UUID_SIZE == AT_ID, "uuid fills its field");
static_assert(AT_VALUES + 4 * 8 == AT_TRAILER_RESERVED, "four values");
static_assert(AT_TRAILER_RESERVED <= TRAILER_CHECKED, "trailer has room for its checksum");

/* Digits of a sealed name: id, dash, two hash halves, dot and suffix. */
#define HEX_SIZE       16
#define SEALED_HASH_AT (HEX_SIZE + 1)
#define SEALED_SUFFIX  (SEALED_HASH_AT + 2 * HEX_SIZE)
#define NAME_SIZE_MAX  (SEALED_SUFFIX + 4 + 1)
static_assert(NAME_SIZE_MAX <= CHUNK_NAME_SIZE, "a name fits");

static bool kind_is_known(uint32_t kind)
{
    return kind == CHUNK_TABLE || kind == CHUNK_BLOB;
}

static void encode_common(uint8_t *to, const char *magic, enum chunk_kind kind,
                          const uint8_t *store_uuid, uint64_t id)
{
    memcpy(to + AT_MAGIC, magic, MAGIC_SIZE);
    put_le32(to + AT_VERSION, CHUNK_VERSION);
    put_le32(to + AT_KIND, kind);
    memcpy(to + AT_STORE_UUID, store_uuid, STORE_UUID_SIZE);
    put_le64(to + AT_ID, id);
}

/* Magic, checksum over `checked` bytes, version, kind: what both structures have. */
static int check_common(const uint8_t *from, const char *magic, size_t checked)
{
    uint32_t version = get_le32(from + AT_VERSION);

    if (memcmp(from + AT_MAGIC, magic, MAGIC_SIZE) != 0)
        return ERROR_CORRUPT;
    if (get_le64(from + checked) != checksum64(from, checked))
        return ERROR_CORRUPT;
    if (version > CHUNK_VERSION)
        return ERROR_VERSION_NEWER;
    if (version < CHUNK_VERSION || !kind_is_known(get_le32(from + AT_KIND)))
        return ERROR_CORRUPT; /* there never was a version 0 */
    return 0;
}

void chunk_header_encode(uint8_t to[CHUNK_HEADER_SIZE], enum chunk_kind kind,
                         const uint8_t store_uuid[STORE_UUID_SIZE], uint64_t id)
{
    memset(to, 0, CHUNK_HEADER_SIZE);
    encode_common(to, HEADER_MAGIC, kind, store_uuid, id);
    put_le64(to + HEADER_CHECKED, checksum64(to, HEADER_CHECKED));
}

int chunk_header_check(const uint8_t from[CHUNK_HEADER_SIZE], enum chunk_kind kind,
                       const uint8_t *store_uuid, uint64_t id)
{
    int error = check_common(from, HEADER_MAGIC, HEADER_CHECKED);

    if (error < 0)
        return error;
    if (store_uuid && memcmp(from + AT_STORE_UUID, store_uuid, STORE_UUID_SIZE) != 0)
        return ERROR_FOREIGN;
    if (get_le32(from + AT_KIND) != (uint32_t)kind || get_le64(from + AT_ID) != id)
        return ERROR_CORRUPT;
    return 0;
}

void chunk_trailer_encode(uint8_t to[CHUNK_TRAILER_SIZE], const struct chunk_trailer *trailer)
{
    memset(to, 0, CHUNK_TRAILER_SIZE);
    encode_common(to, TRAILER_MAGIC, trailer->kind, trailer->store_uuid, trailer->id);
    put_le64(to + AT_CONTENT_SIZE, trailer->content_size_bytes);
    put_le64(to + AT_HASH_LOW, trailer->hash.low);
    put_le64(to + AT_HASH_HIGH, trailer->hash.high);
    for (size_t i = 0; i < 4; i++)
        put_le64(to + AT_VALUES + 8 * i, trailer->values[i]);
    put_le64(to + TRAILER_CHECKED, checksum64(to, TRAILER_CHECKED));
}

int chunk_trailer_decode(const uint8_t from[CHUNK_TRAILER_SIZE], struct chunk_trailer *ret_trailer)
{
    int error = check_common(from, TRAILER_MAGIC, TRAILER_CHECKED);

    if (error < 0)
        return error;
    memcpy(ret_trailer->store_uuid, from + AT_STORE_UUID, STORE_UUID_SIZE);
    ret_trailer->id = get_le64(from + AT_ID);
    ret_trailer->kind = get_le32(from + AT_KIND);
    ret_trailer->content_size_bytes = get_le64(from + AT_CONTENT_SIZE);
    ret_trailer->hash.low = get_le64(from + AT_HASH_LOW);
    ret_trailer->hash.high = get_le64(from + AT_HASH_HIGH);
    for (size_t i = 0; i < 4; i++)
        ret_trailer->values[i] = get_le64(from + AT_VALUES + 8 * i);
    return 0;
}

int chunk_trailer_check(const struct chunk_trailer *trailer, const struct chunk_identity *identity)
{
    if (trailer->id != identity->id || trailer->kind != identity->kind ||
        trailer->content_size_bytes != identity->file_size_bytes - CHUNK_TRAILER_SIZE ||
        !checksum128_equal(trailer->hash, identity->hash))
        return ERROR_CORRUPT;
    return 0;
}

void chunk_name(char to[CHUNK_NAME_SIZE], const struct chunk_identity *identity)
{
    /* Zero means "no hash": a name made from it would be shared by different content (R28). */
    invariant(identity->hash.low != 0 || identity->hash.high != 0);
    invariant(kind_is_known(identity->kind));
    snprintf(to, CHUNK_NAME_SIZE, "%016" PRIx64 "-%016" PRIx64 "%016" PRIx64 ".%s", identity->id,
             identity->hash.high, identity->hash.low,
             identity->kind == CHUNK_TABLE ? "tbl" : "blb");
}

void chunk_open_name(char to[CHUNK_NAME_SIZE], uint64_t id)
{
    snprintf(to, CHUNK_NAME_SIZE, "%016" PRIx64 ".open", id);
}

/* Exactly 16 lower-case digits; stops at a NUL like at any other wrong character. */
static bool parse_hex(const char *from, uint64_t *ret_value)
{
    uint64_t value = 0;

    for (size_t i = 0; i < HEX_SIZE; i++) {
        char digit = from[i];

        if (digit >= '0' && digit <= '9')
            value = value << 4 | (uint64_t)(digit - '0');
        else if (digit >= 'a' && digit <= 'f')
            value = value << 4 | (uint64_t)(digit - 'a' + 10);
        else
            return false;
    }
    *ret_value = value;
    return true;
}

bool chunk_name_parse(const char *name, struct chunk_identity *ret_identity, bool *ret_sealed)
{
    struct chunk_identity identity = {.kind = CHUNK_BLOB};

    if (!parse_hex(name, &identity.id))
        return false;
    if (strcmp(name + HEX_SIZE, ".open") == 0) {
        *ret_identity = identity;
        *ret_sealed = false;
        return true;
    }
    if (name[HEX_SIZE] != '-' || !parse_hex(name + SEALED_HASH_AT, &identity.hash.high) ||
        !parse_hex(name + SEALED_HASH_AT + HEX_SIZE, &identity.hash.low))
        return false;
    if (identity.hash.low == 0 && identity.hash.high == 0)
        return false;
    if (strcmp(name + SEALED_SUFFIX, ".tbl") == 0)
        identity.kind = CHUNK_TABLE;
    else if (strcmp(name + SEALED_SUFFIX, ".blb") != 0)
        return false;
    *ret_identity = identity;
    *ret_sealed = true;
    return true;
}
