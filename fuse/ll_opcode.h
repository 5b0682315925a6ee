/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ll_opcode.h - how many requests of each kind arrived
 *
 * With FUSE the number of round trips decides what an operation costs: these counters are what
 * docs/performance.md counts with.
 *
 * Threads: any.
 */
#ifndef VARVE_FUSE_LL_OPCODE_H
#define VARVE_FUSE_LL_OPCODE_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#define LL_OPCODES 64

/* Opcodes beyond the table, which no kernel of today sends, count at 0. */
struct ll_opcode_counts {
    atomic_uint_fast64_t counts[LL_OPCODES];
};

/* Count the raw request. */
void ll_opcode_count(struct ll_opcode_counts *counts, const void *request, size_t size);
/* In lower case, as linux/fuse.h calls it; "other" for what it does not know. */
const char *ll_opcode_name(uint32_t opcode);

#endif
