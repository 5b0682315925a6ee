/* SPDX-License-Identifier: Apache-2.0 */
/*
 * table_filter.h - a Bloom filter whose probes for one key lie in one cache line
 *
 * No false negatives. With 10 bits a key about 1.2 % false positives; a probe costs one cache miss.
 * Bytes: table_format.h.
 */
#ifndef VARVE_ENGINE_TABLE_FILTER_H
#define VARVE_ENGINE_TABLE_FILTER_H

#include "engine/base/bytes.h"

/* What a filter is made from and asked with. */
uint64_t table_filter_hash(struct slice key);

/* Bytes of a filter for `count` keys; a multiple of TABLE_FILTER_LINE_SIZE, 0 for no keys. */
size_t table_filter_size(size_t count);

/* Fill `to` (table_filter_size(count) bytes). */
void table_filter_build(const uint64_t *hashes, size_t count, uint8_t *to);

/* False: no key with this hash was added. `filter.size` must be a multiple of the line size. */
bool table_filter_may_contain(struct slice filter, uint64_t hash);

#endif
