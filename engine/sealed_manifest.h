/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sealed_manifest.h - the immutable manifest of a checkpoint, and CURRENT
 *
 * Owns:   the files MANIFEST-<checkpoint id, 16 hex> and CURRENT of a checkpoint directory.
 * Rules:  the manifest file is written and synced first; CURRENT, which names it and carries its
 *         hash, is written last (to CURRENT.tmp, synced, renamed, directory synced). A directory
 *         without a CURRENT that matches is not a checkpoint.
 *
 * Format: docs/on-disk-format.md#sealed-manifest
 *   manifest: magic "VARVESEA", version u32, flags u32 (0), store UUID, checkpoint id u64,
 *             sequence u64, creation seconds u64 and nanoseconds u32, parent's manifest hash (16
 *             bytes), u32 counts of tables and of blobs, u32 sizes of name and of payload; name;
 *             payload; tables by level, order and id (level, order, residency, table meta
 *             encoding); blobs by id (residency, identity); XXH3-64 of all before
 *   CURRENT:  magic "VARVECUR", version u32, zero u32, checkpoint id u64, manifest hash (16), file
 *             size u64, XXH3-64 of all before
 *   Of any later version magic, version and the checksum at the end lie where they lie now.
 *
 * Errors: one flipped bit anywhere, a short file, a wrong magic: ERROR_CORRUPT / ERROR_TRUNCATED /
 *         ERROR_NOT_STORE; another version: ERROR_VERSION_NEWER, ERROR_VERSION_OLDER; a chunk that
 *         is elsewhere: ERROR_RESIDENCY. Safe on hostile input: what decodes is sorted, its tables
 *         can form a version, and every blob chunk that a table refers to is in the list.
 */
#ifndef VARVE_ENGINE_SEALED_MANIFEST_H
#define VARVE_ENGINE_SEALED_MANIFEST_H

#include "engine/manifest.h"
#include "engine/store.h"

struct sealed_manifest {
    uint8_t store_uuid[STORE_UUID_SIZE];
    uint64_t checkpoint_id;
    uint64_t sequence;
    uint64_t created_s;
    uint32_t created_ns;
    struct checksum128 parent_hash; /* of the previous checkpoint's sealed manifest; zero: none */
    struct buffer name;
    struct buffer payload;
    struct manifest_table *tables;
    size_t table_count;
    struct chunk_identity *blobs;
    size_t blob_count;
};

void sealed_manifest_free(struct sealed_manifest *manifest); /* members only */

/* Append to `to`; tables and blobs come in any order. 0, -ENOMEM, -EINVAL: it would not decode. */
int sealed_manifest_encode(const struct sealed_manifest *manifest, struct buffer *to);
int sealed_manifest_decode(struct slice from, struct sealed_manifest *ret_manifest);

/* Write MANIFEST-<id> and then CURRENT into `directory`, synced as said above. *ret_hash is
 * XXH3-128 of the manifest file. */
int sealed_manifest_write(struct io *io, struct io_file *directory,
                          const struct sealed_manifest *manifest, struct checksum128 *ret_hash);

/* Read CURRENT and the manifest it names, and compare them. ERROR_NOT_STORE: no CURRENT;
 * ERROR_CORRUPT also when the manifest it names is missing. Comparing the parent's hash with the
 * parent is the caller's part. */
int sealed_manifest_read(struct io *io, struct io_file *directory,
                         struct sealed_manifest *ret_manifest, struct checksum128 *ret_hash);

/* Only the checkpoint id, and only CURRENT is read: which checkpoint a directory is, not whether it
 * is whole. The same errors. */
int sealed_manifest_read_id(struct io *io, struct io_file *directory, uint64_t *ret_id);

#endif
