/* SPDX-License-Identifier: Apache-2.0 */
/*
 * shared_blocks.h - which data blocks two runs of tables have in common, byte for byte
 *
 * A merge leaves most blocks of its inputs as they were (table_format.h, TABLE_BLOCK_SIZE), but in
 * tables of other numbers. What is found here need not be decoded to know that it is the same. Only blocks
 * that begin at the same key and have the same sizes are read; a pair that is missed costs time
 * and nothing else.
 *
 * Threads: belongs to one thread.
 */
#ifndef VARVE_ENGINE_SHARED_BLOCKS_H
#define VARVE_ENGINE_SHARED_BLOCKS_H

#include "engine/version.h"

/* Disjoint tables in rising order. */
struct shared_run {
    struct version_table *const *tables;
    size_t count;
    uint8_t **passed; /* of each table bits as table_iterator_set_passed() takes them; NULL: none.
                       * The caller frees each. */
};

/* Set the bits of what is in both, add their number to *count. 0 or a negative error. */
int shared_blocks_find(const struct shared_run *one, const struct shared_run *other,
                       uint64_t *count);

#endif
