/* SPDX-License-Identifier: Apache-2.0 */
/*
 * recovery_internal.h - what the files recovery_*.c and engine_recovery.c share
 *
 * One struct recovery lives while a store is opened, and belongs to the thread that opens it; what it
 * holds at the end is freed by engine_recovery.c. The order of the steps stands there.
 * Errors: those of the manifest, the log and io.h; -ENOMEM; ERROR_CORRUPT, ERROR_MISSING_CHUNK,
 * ERROR_TRUNCATED. Each is logged where the chunk or snapshot is known.
 */
#ifndef VARVE_ENGINE_RECOVERY_INTERNAL_H
#define VARVE_ENGINE_RECOVERY_INTERNAL_H

#include "engine/engine_internal.h"

/* A blob chunk that replayed batches refer to. */
struct needed_blob {
    uint64_t id;
    uint64_t end;
};

struct replayed {
    struct memtable *memtable;
    uint64_t last_sequence;
    struct checkpoint *checkpoint;
};

struct recovery {
    struct engine *engine;
    struct manifest_state state;
    struct chunk_identity *files; /* in chunks/, by id; kind 0: an open blob chunk */
    size_t file_count, file_capacity;
    uint64_t highest_id;
    struct needed_blob *needed;
    size_t needed_count, needed_capacity;
    struct blob_piece *pieces;
    size_t piece_count, piece_capacity;
    struct replayed *replayed;
    size_t replayed_count, replayed_capacity;
    struct chunk_identity *recovered;
    size_t recovered_count;
    struct wal_replay_result log;
    uint64_t next_sequence;
};

/* Room for one more element in an array. 0 or -ENOMEM. */
int recovery_grow(void **array, size_t *capacity, size_t count, size_t element);

/* recovery_files.c: list chunks/, and see that each chunk that the manifest names is there. */
int recovery_files_scan(struct recovery *recovery);
/* Files that neither the manifest nor the log refers to go. */
void recovery_files_delete_orphans(struct recovery *recovery);

/* recovery_checkpoints.c: those of the manifest. PENDING ones are made, DELETING ones cleared away. */
int recovery_checkpoints_load(struct recovery *recovery);
/* Does the manifest have it as DELETING? Till the checkpoint thread begins. */
bool recovery_checkpoint_is_deleted(struct engine *engine, uint64_t id);
/* Those that are READY, and nothing is changed. */
int recovery_checkpoints_show(struct recovery *recovery);
/* Make the directory of a checkpoint that has its plan; then it is READY. */
int recovery_checkpoint_make(struct engine *engine, struct checkpoint *checkpoint,
                             struct sealed_manifest *plan);

/* recovery_replay.c: the log becomes memtables, and a list of blob chunks that are needed ... */
int recovery_replay_log(struct recovery *recovery);
/* ... which are sealed, from their files and the pieces in the log. */
int recovery_replay_blobs(struct recovery *recovery);

/* recovery_tables.c: a version of the manifest's tables; the caller's. */
int recovery_tables_load(struct recovery *recovery, struct version **ret_version);
/* One memtable becomes a table, and its checkpoint is made. `first`: the commit names the recovered
 * blob chunks too. */
int recovery_tables_flush(struct recovery *recovery, struct replayed *replayed, bool first);

#endif
