/* SPDX-License-Identifier: Apache-2.0 */
/*
 * manifest_codec.h - the values of the manifest's records, shared with the sealed manifest
 * (internal)
 *
 * Every encoder appends to `to`: 0 or -ENOMEM. Every decoder is safe on hostile input: 0, -ENOMEM,
 * ERROR_CORRUPT, and ERROR_RESIDENCY for a chunk that lies where this program does not know (R33).
 * Format: docs/on-disk-format.md#manifest
 */
#ifndef VARVE_ENGINE_MANIFEST_CODEC_H
#define VARVE_ENGINE_MANIFEST_CODEC_H

#include "engine/manifest.h"

#define MANIFEST_BLOB_SIZE        37 /* residency u8, identity */
#define MANIFEST_TABLE_SIZE_MIN   13 /* level u32, order u64, residency u8, then the table's meta */
#define MANIFEST_NAME_SIZE_MAX    255
#define MANIFEST_PAYLOAD_SIZE_MAX (1024 * 1024)
#define MANIFEST_PLAN_SIZE_MAX    ((size_t)1 << 30)

int manifest_table_encode(const struct manifest_table *table, struct buffer *to);
/* Takes from *from and advances it. */
int manifest_table_decode(struct slice *from, struct manifest_table *ret_table);

int manifest_blob_encode(const struct chunk_identity *blob, struct buffer *to);
int manifest_blob_decode(struct slice *from, struct chunk_identity *ret_blob);

/* Also -EINVAL: the id is 0, the state unknown, the name, payload or plan too large, or there is a
 * plan although the checkpoint is not pending. */
int manifest_checkpoint_encode(const struct manifest_checkpoint *checkpoint, struct buffer *to);
int manifest_checkpoint_decode(struct slice from, struct manifest_checkpoint *ret_checkpoint);

int manifest_scalars_encode(const struct manifest_scalars *scalars, struct buffer *to);
int manifest_scalars_decode(struct slice from, struct manifest_scalars *ret_scalars);

/* A format record: also ERROR_NOT_STORE, ERROR_VERSION_NEWER, ERROR_VERSION_OLDER. */
int manifest_format_encode(struct buffer *to);
int manifest_format_check(struct slice from);

/*
 * What version_build() would assert of tables that come from a disk: 0 or ERROR_CORRUPT. They are
 * in order of (level, order, chunk id), no chunk id and in L0 no order is used twice, every
 * smallest key is at most the largest, levels are known, and below L0 the key ranges of a level are
 * disjoint, and uses of blobs are not empty and can be summed. -ENOMEM.
 */
int manifest_tables_check(const struct manifest_table *tables, size_t count);

void manifest_tables_free(struct manifest_table *tables, size_t count);

/* By (level, order, chunk id), for qsort. */
int manifest_table_compare(const void *a, const void *b);

#endif
