/* SPDX-License-Identifier: Apache-2.0 */
/*
 * collection_pick.h - which blob chunks to collect: pure policy over a version, no I/O, no locks
 *
 * To collect a chunk is to copy what lives in it to a new one: compaction rewrites the tables that
 * refer to it (COMPACTION_RELOCATE), and the chunk is deleted when nothing refers to it any more.
 */
#ifndef VARVE_ENGINE_COLLECTION_PICK_H
#define VARVE_ENGINE_COLLECTION_PICK_H

#include "engine/version.h"

struct collection_policy {
    const uint64_t *pinned; /* sorted ids of chunks that copying would not free: they are left out,
                             * or small ones would be collected over and over */
    size_t pinned_count;
    uint64_t chunk_size_bytes;
    unsigned live_percent_max; /* at most 50: alignment may waste nearly half of a chunk */
    bool idle;                 /* there is time to collect what is not needed at once */
};

/* Bytes in chunks that copying could free: those that records of the version refer to, and the rest. */
struct collection_totals {
    uint64_t live_bytes, dead_bytes;
};

/*
 * Blob chunks to collect: those with a live share below `live_percent_max` of their frames, unless
 * busy: then only those that are nearly empty, and others while more is dead than lives; when idle,
 * as long as more than a tenth of what lives is dead, also those of which a copy is certainly
 * smaller, the emptiest first; and, if there are many small ones, those, provided that few tables
 * refer to them (each table rewritten begins a chunk of its own). Chunks without references are not
 * collected but deleted: they are left out. Writes at most `room` ids, sorted; returns the number.
 * The totals are of all chunks that are not pinned.
 */
size_t collection_pick(const struct version *version, const struct chunk_identity *blobs,
                       size_t blob_count, const struct collection_policy *policy, uint64_t *ret_ids,
                       size_t room, struct collection_totals *ret_totals);

#endif
