/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sealed_manifest.h - the immutable manifest of a checkpoint, and CURRENT
 *
 * Owns:   the files MANIFEST-<checkpoint id, 16 hex> and CURRENT of a checkpoint directory.
 * Rules:  the manifest file is written and synced first; CURRENT, which names it and carries its
 *         hash, is written last (to CURRENT.tmp, synced, renamed, directory synced). A directory without
 *         a CURRENT that matches is not a checkpoint.
 * Format: docs/on-disk-format.md#sealed-manifest
 *   header: magic "VARVESEA", version u32, flags u32, store UUID, checkpoint id u64, sequence u64,
 *           creation seconds u64 and nanoseconds u32, parent's manifest hash (16 bytes), counts u32,
 *           name and payload with lengths; then tables (level, order, table meta encoding), then
 *           blobs (identity each); then XXH3-64 of all before.
 *   CURRENT: magic "VARVECUR", version u32, checkpoint id, manifest hash (16), file size u64, XXH3-64.
 * Errors: one flipped bit anywhere, a short file, a wrong magic: ERROR_CORRUPT / ERROR_TRUNCATED /
 *         ERROR_NOT_STORE; a newer version: ERROR_VERSION_NEWER. Safe on hostile input.
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

int sealed_manifest_encode(const struct sealed_manifest *manifest, struct buffer *to);
int sealed_manifest_decode(struct slice from, struct sealed_manifest *ret_manifest);

/* Write MANIFEST-<id> and then CURRENT into `directory`, synced as said above. *ret_hash is XXH3-128
 * of the manifest file. */
int sealed_manifest_write(struct io *io, struct io_file *directory,
                          const struct sealed_manifest *manifest, struct checksum128 *ret_hash);

/* Read CURRENT and the manifest it names, and compare them. ERROR_NOT_STORE: no CURRENT. */
int sealed_manifest_read(struct io *io, struct io_file *directory,
                         struct sealed_manifest *ret_manifest, struct checksum128 *ret_hash);

#endif
