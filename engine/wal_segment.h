/* SPDX-License-Identifier: Apache-2.0 */
/*
 * wal_segment.h - making the files of the write-ahead log; private to wal*.c
 *
 * A segment is ready for groups once its blocks are allocated and written (so that a commit is one
 * flush and no metadata), its header names it, and its directory entry is on disk.
 */
#ifndef VARVE_ENGINE_WAL_SEGMENT_H
#define VARVE_ENGINE_WAL_SEGMENT_H

#include "engine/wal_format.h"

struct wal_segment {
    struct wal_segment *next; /* in a list, oldest first */
    struct io_file *file;     /* NULL once nobody writes here any more */
    uint64_t number;
    uint64_t size_bytes; /* of the file when it was made */
    uint64_t seed;
};

/* What a segment is made of and where. */
struct wal_segment_options {
    struct io *io;
    struct io_file *directory;
    const uint8_t *store_uuid;
    uint64_t size_bytes;
};

/*
 * Make segment `number`, whose name is not in use, and open it for writing; `retired` (may be NULL)
 * is an old segment to recycle, gone afterwards whatever happens. *ret_recycled says whether it
 * served. *ret_sync_failed is set when the error is that of a sync, which must never be tried
 * again.
 */
int wal_segment_make(const struct wal_segment_options *options, uint64_t number,
                     struct wal_segment *retired, struct wal_segment **ret_segment,
                     bool *ret_recycled, bool *ret_sync_failed);

/* Close the file, keep the name. */
void wal_segment_close(struct io *io, struct wal_segment *segment);

/* A name that a segment has until it is ready; after a start it is left from a crash. */
bool wal_segment_is_new_name(const char *name);

/* Remove the name. 0 also when it is gone already. */
int wal_segment_unlink(struct io *io, struct io_file *directory, uint64_t number);

/* Close and free the memory; the name stays. Accepts NULL. */
void wal_segment_free(struct io *io, struct wal_segment *segment);

#endif
