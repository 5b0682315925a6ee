/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rebuild_internal.h - what the files rebuild_*.c and engine_rebuild.c share
 *
 * One struct rebuild lives while a manifest is made anew, and belongs to the thread that makes it;
 * what it holds at the end is freed by engine_rebuild.c. The order of the steps stands there.
 * Errors: what I/O gives; -ENOMEM; ERROR_CORRUPT, ERROR_TRUNCATED, ERROR_MISSING_CHUNK. Each is
 * logged where the chunk is known.
 */
#ifndef VARVE_ENGINE_REBUILD_INTERNAL_H
#define VARVE_ENGINE_REBUILD_INTERNAL_H

#include "engine/engine_internal.h"
#include "engine/engine_rebuild.h"

/* Of a manifest, at first. */
#define REBUILD_MAP_BYTES (64 * 1024 * 1024)

struct rebuild {
    struct io *io;
    struct store *store;
    struct block_cache *cache;
    struct version_source source;
    struct chunk_identity *files; /* sealed chunks in chunks/, by id */
    size_t file_count, file_capacity;
    uint64_t highest_id;
    struct version_table **inputs;
    size_t input_count;
    struct table_writer *writer;
    struct manifest_table *outputs;
    size_t output_count, output_capacity;
    struct chunk_identity *blobs;
    size_t blob_count;
    struct chunk_identity *elsewhere; /* blobs that snapshots have and chunks/ does not */
    size_t elsewhere_count, elsewhere_capacity;
    struct manifest_checkpoint *snapshots;
    size_t snapshot_count, snapshot_capacity;
    uint64_t last_sequence; /* of the tables, then of the log */
    uint64_t snapshot_sequence, next_checkpoint_id, wal_segment;
    uint64_t unfinished_sequence; /* the log has to begin there or before; 0: no matter */
    uint64_t unfinished_blob;
    bool has_new_links; /* in directories of snapshots */
    struct engine_rebuild_result result;
};

/* Room for one more element in an array. 0 or -ENOMEM. */
int rebuild_grow(void *array_pointer, size_t element_size, size_t count, size_t *capacity);

/* ---- rebuild_find.c ---- */

/* List chunks/, and read every table there. */
int rebuild_find_chunks(struct rebuild *rebuild);

/* Take in the sealed manifests in checkpoints/; what a directory lacks and chunks/ has is linked. */
int rebuild_find_snapshots(struct rebuild *rebuild);

/* A flush that a crash cut off has left a table whose blob chunk was not sealed yet. Such a table is
 * left out, for recovery to make it again: all that it holds is in the log, or rebuild_find_log()
 * says that it is not. */
void rebuild_leave_unfinished(struct rebuild *rebuild);

/* A blob chunk in chunks/, or one that only a snapshot has: engine_repair_chunks() makes the link.
 * (Not so for tables: which of those in snapshots have been merged since, nothing says.) NULL: none. */
const struct chunk_identity *rebuild_find_blob(const struct rebuild *rebuild, uint64_t id);

/* ---- rebuild_log.c ---- */

/* Where the log begins that goes on where the tables end, and the last number given. */
int rebuild_find_log(struct rebuild *rebuild);

/* ---- rebuild_write.c ---- */

/* Merge the tables that were found into new ones, and gather what blob chunks these refer to. */
int rebuild_merge(struct rebuild *rebuild);

/* Make the manifest, below tmp/; then let it take the place of the old one, which goes aside. */
int rebuild_make_manifest(struct rebuild *rebuild);
int rebuild_put_in_place(struct rebuild *rebuild);

#endif
