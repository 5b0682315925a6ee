/* SPDX-License-Identifier: Apache-2.0 */
/*
 * table_filter.c - the Bloom filter of a table
 */
#include "engine/table_filter.h"

#include "engine/table_format.h"

#define MIX_MULTIPLIER 0x9fb21c651e98df25u

/* The line of a key, and the number that its bits are cut from. */
static size_t line_of(uint64_t hash, size_t lines)
{
    return (size_t)((hash >> 32) * (uint64_t)lines >> 32);
}

static uint64_t probes_of(uint64_t hash)
{
    return ((hash ^ hash >> 29) * MIX_MULTIPLIER) >> 1;
}

uint64_t table_filter_hash(struct slice key)
{
    return checksum64(key.data, key.size);
}

size_t table_filter_size(size_t count)
{
    size_t line_bits = TABLE_FILTER_LINE_SIZE * 8;

    return (count * TABLE_FILTER_BITS_PER_KEY + line_bits - 1) / line_bits * TABLE_FILTER_LINE_SIZE;
}

void table_filter_build(const uint64_t *hashes, size_t count, uint8_t *to)
{
    size_t size = table_filter_size(count);
    size_t lines = size / TABLE_FILTER_LINE_SIZE;

    if (size > 0)
        memset(to, 0, size);
    for (size_t i = 0; i < count; i++) {
        uint8_t *line = to + line_of(hashes[i], lines) * TABLE_FILTER_LINE_SIZE;
        uint64_t probes = probes_of(hashes[i]);

        for (unsigned n = 0; n < TABLE_FILTER_PROBES; n++, probes >>= 9)
            line[(probes & 511) / 8] |= (uint8_t)(1u << (probes & 7));
    }
}

bool table_filter_may_contain(struct slice filter, uint64_t hash)
{
    size_t lines = filter.size / TABLE_FILTER_LINE_SIZE;
    const uint8_t *line;
    uint64_t probes = probes_of(hash);

    if (lines == 0)
        return false;
    line = filter.data + line_of(hash, lines) * TABLE_FILTER_LINE_SIZE;
    for (unsigned n = 0; n < TABLE_FILTER_PROBES; n++, probes >>= 9)
        if (!(line[(probes & 511) / 8] & 1u << (probes & 7)))
            return false;
    return true;
}
