/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine_rebuild.h - a new manifest for a store that has lost its own
 *
 * Everything that the manifest said is said elsewhere too, but for three things. What the live tree
 * consists of follows from the tables in chunks/: their records carry sequence numbers, the highest
 * of each key is the present one, so they are merged into new tables. Which blob chunks there are
 * follows from the tables, snapshots from the sealed manifests of their directories, and where the
 * log begins from its groups. Lost are holds on snapshots, cursors of the change log, and a
 * snapshot whose directory was still being made when the store went down.
 *
 * A blob chunk that is gone from chunks/ and that a snapshot still has is named all the same:
 * engine_repair_chunks() links it.
 *
 * A manifest that is lost together with a crash, before the store was started again: what had been
 * deleted shortly before that may show again (rebuild_write.c).
 *
 * Nothing is taken from a table that is damaged or that is not there: what is older would then show
 * through, and that would be a wrong answer. Damaged tables are therefore an error here.
 *
 * A crash at any point leaves the store as it was, or with the new manifest. The old data file
 * stays beside it as data.mdb.old, the tables that were merged until the store is opened.
 */
#ifndef VARVE_ENGINE_ENGINE_REBUILD_H
#define VARVE_ENGINE_ENGINE_REBUILD_H

#include "engine/base/io.h"

struct engine_rebuild_result {
    uint64_t tables, blobs, snapshots; /* found */
    uint64_t snapshots_unusable;       /* directories in checkpoints/ that are none; logged */
    uint64_t records;                  /* of the live tree, but for what is in the log */
    uint64_t last_sequence;
    uint64_t log_entries; /* in the log, to be replayed by the next open */
};

/*
 * Can the manifest be used? 0: yes. Negative: why it was refused, which is damage and not a passing
 * state. Of a live store that nobody has open: ERROR_LOCKED; or what store_open() gives.
 * Blocks that are needed to open and read it are looked at, nothing is written.
 */
int engine_manifest_check(struct io *io, const char *path, int *ret_damage);

/* ERROR_LOCKED ...; ERROR_CORRUPT, ERROR_TRUNCATED (logged with the chunk): a table is damaged; or
 * what I/O gives. */
int engine_rebuild(struct io *io, const char *path, struct engine_rebuild_result *ret_result);

#endif
