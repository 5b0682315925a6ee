/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine_repair.h - what can be put right in a store's files, beside its manifest
 *
 * Chunk files that are gone and of which another directory of the store still has the name: a link
 * is made (chunks are named after their content and never change). Directories in checkpoints/ that
 * the manifest does not know: what is a complete snapshot of this store is taken into the manifest
 * again; anything else was never finished, or has lost what makes it one, and can be removed.
 *
 * The store must not be open. Nothing is overwritten.
 */
#ifndef VARVE_ENGINE_ENGINE_REPAIR_H
#define VARVE_ENGINE_ENGINE_REPAIR_H

#include <stdbool.h>

#include "engine/base/io.h"

/* One line for people. `repaired`: it has been put right now. */
typedef void engine_repair_report(void *context, const char *line, bool repaired);

/* Chunks of the live tree and of the snapshots' directories. With `repair`, link what can be.
 * Reports each that is missing. 0, or an error of looking or of linking. */
int engine_repair_chunks(struct io *io, const char *path, bool repair, engine_repair_report *report,
                         void *context);

/* A log that ends before what wal/SYNCED says was synced has lost its end, and opening refuses it.
 * Reports how much is missing; with `change` the store opens with what is left. Logs that are
 * damaged in another way are not spoken of here. */
int engine_repair_log(struct io *io, const char *path, bool change, engine_repair_report *report,
                      void *context);

enum engine_repair_strays {
    ENGINE_STRAYS_LOOK,
    ENGINE_STRAYS_REMOVE, /* what is no snapshot and cannot become one */
    ENGINE_STRAYS_ADOPT,  /* also take in again what is one */
};
/* After a clean open and close (which finish or remove what a crash left half done). */
int engine_repair_strays(struct io *io, const char *path, enum engine_repair_strays what,
                         engine_repair_report *report, void *context);

#endif
