/* SPDX-License-Identifier: Apache-2.0 */
/*
 * chunk_format.h - what all chunk files share, byte for byte (docs/on-disk-format.md#chunks)
 *
 * Header, at offset 0, CHUNK_HEADER_SIZE bytes (little-endian, the rest zero):
 *   0  magic "VARVECHK"       8  version u32 (1)     12 kind u32
 *   16 store UUID, 16 bytes   32 chunk id u64        40 zero ...
 *   4088 XXH3-64 of bytes 0..4087
 *
 * Trailer, the last CHUNK_TRAILER_SIZE bytes of a sealed chunk:
 *   0  magic "VARVEEND"       8  version u32         12 kind u32
 *   16 store UUID             32 chunk id u64        40 content size u64 (bytes before the trailer)
 *   48 content hash XXH3-128 (low, high) of the bytes before the trailer, header included
 *   64 A u64   72 B u64   80 C u64   88 D u64   (by kind; zero where unused)
 *   96 ... zero             120 XXH3-64 of bytes 0..119
 * Table:  A footer offset, B footer size.      Blob: A frames written (0 when sealed by recovery),
 *                                              B bytes of frames.
 *
 * File names: <id, 16 hex digits>-<hash high, 16 hex><hash low, 16 hex>.<tbl|blb> under chunks/;
 * a blob chunk still being written is <id>.open there.
 */
#ifndef VARVE_ENGINE_CHUNK_FORMAT_H
#define VARVE_ENGINE_CHUNK_FORMAT_H

#include "engine/base/bytes.h"
#include "engine/base/checksum.h"

#define CHUNK_HEADER_SIZE  4096
#define CHUNK_TRAILER_SIZE 128
#define CHUNK_VERSION      1
#define CHUNK_NAME_SIZE    64 /* room for any chunk file name with its NUL */

#define STORE_UUID_SIZE 16

enum chunk_kind { CHUNK_TABLE = 1, CHUNK_BLOB = 2 };

/* What identifies a sealed chunk; kept in the manifest. */
struct chunk_identity {
    uint64_t id;
    enum chunk_kind kind;
    uint64_t file_size_bytes; /* with trailer */
    struct checksum128 hash;
};

struct chunk_trailer {
    uint8_t store_uuid[STORE_UUID_SIZE];
    uint64_t id;
    enum chunk_kind kind;
    uint64_t content_size_bytes;
    struct checksum128 hash;
    uint64_t values[4]; /* A..D */
};

void chunk_header_encode(uint8_t to[CHUNK_HEADER_SIZE], enum chunk_kind kind,
                         const uint8_t store_uuid[STORE_UUID_SIZE], uint64_t id);

/* 0, ERROR_CORRUPT, ERROR_FOREIGN (another store's uuid; pass NULL to accept any),
 * ERROR_VERSION_NEWER; also ERROR_CORRUPT when kind or id differ. */
int chunk_header_check(const uint8_t from[CHUNK_HEADER_SIZE], enum chunk_kind kind,
                       const uint8_t *store_uuid, uint64_t id);

void chunk_trailer_encode(uint8_t to[CHUNK_TRAILER_SIZE], const struct chunk_trailer *trailer);

/* 0, ERROR_CORRUPT or ERROR_VERSION_NEWER; no comparison with an expectation is made. */
int chunk_trailer_decode(const uint8_t from[CHUNK_TRAILER_SIZE], struct chunk_trailer *ret_trailer);

/* Is it the trailer of that chunk, as far as the two say? 0 or ERROR_CORRUPT. The content is the
 * caller's to compare. */
int chunk_trailer_check(const struct chunk_trailer *trailer, const struct chunk_identity *identity);

/* The file name of a sealed chunk, or of an open blob chunk. */
void chunk_name(char to[CHUNK_NAME_SIZE], const struct chunk_identity *identity);
void chunk_open_name(char to[CHUNK_NAME_SIZE], uint64_t id);

/* Parse either form. true and the id; *ret_sealed says which; hash and kind when sealed. */
bool chunk_name_parse(const char *name, struct chunk_identity *ret_identity, bool *ret_sealed);

#endif
