/* SPDX-License-Identifier: Apache-2.0 */
/*
 * read_around.h - what lies around small reads of a chunk is fetched with them
 *
 * Small reads all over a chunk that is not in memory cost a wait for the disk each. Once so many of them
 * were made that much of the chunk is likely to be wanted, the 128 KiB around each further one are asked
 * for as well (io_prefetch), so that the rest of the chunk is in memory after as many waits as it has
 * such regions.
 *
 * Guarantees: nothing is read that could change: a region is fetched only when the caller says that it
 *             is written. Each region is fetched once for each opening of its file, and all of them
 *             together within a budget that is renewed from time to time: where much more is read at random
 *             than memory holds, so much and no more is fetched in vain. A thread for which waiting is
 *             dear (blocking.h) fetches nothing.
 * Threads:    any, without locks.
 */
#ifndef VARVE_ENGINE_READ_AROUND_H
#define VARVE_ENGINE_READ_AROUND_H

#include <stdatomic.h>

#include "engine/base/io.h"

#define READ_AROUND_REGION_BYTES ((uint64_t)128 * 1024)
/* Larger reads bring their neighbours themselves. */
#define READ_AROUND_SMALL_BYTES ((uint64_t)32 * 1024)
/* One small read in so many bytes of the file is much. */
#define READ_AROUND_BYTES_PER_READ ((uint64_t)512 * 1024)
#define READ_AROUND_READS_MIN      16
/* Of larger files only the beginning has regions. */
#define READ_AROUND_REGIONS_MAX 8192

/* What all files of an engine may fetch together. */
struct read_around_budget {
    uint64_t bytes, period_ns; /* so much in so long */
    _Atomic int64_t left_bytes;
    _Atomic uint64_t renewed_ns;
};

struct read_around_regions {
    _Atomic uint64_t fetched[READ_AROUND_REGIONS_MAX / 64]; /* a bit for each */
};

/* Of one open file; all zero at first. */
struct read_around {
    atomic_uint small_reads;
    struct read_around_regions *_Atomic regions; /* NULL until there are many reads */
};

void read_around_budget_init(struct read_around_budget *budget, uint64_t bytes, uint64_t period_ns);

/* An eighth of the machine's memory, for ten minutes. */
void read_around_budget_init_default(struct read_around_budget *budget);

/*
 * `size` bytes at `position` were read from `file`, whose bytes below `end` do not change any more.
 * Fetches what is around them if it is time. A null budget: nothing is done.
 */
void read_around(struct read_around *around, struct read_around_budget *budget, struct io *io,
                 struct io_file *file, uint64_t position, uint64_t size, uint64_t end);

void read_around_free(struct read_around *around);

#endif
