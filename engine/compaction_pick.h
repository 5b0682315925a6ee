/* SPDX-License-Identifier: Apache-2.0 */
/*
 * compaction_pick.h - which tables to merge next: pure policy over a version, no I/O, no locks
 *
 * Leveled: L0 compacts into L1 at COMPACTION_L0_TRIGGER tables, or, while it is small beside what it
 * would rewrite there, with itself, up to COMPACTION_L0_FULL tables; level n >= 1 may hold
 * base_bytes * 10^(n-1). Also: tables with many deletes or any range tombstone sink to the last
 * level while nothing better is to do, so that deleted files give their space back; and tables that
 * refer to a blob chunk chosen for collection are rewritten where they are.
 *
 * Order:   the level that is furthest above its target, then relocation, then tombstones.
 *          Sinking has to pay: what is rewritten is in proportion to the deletes and tombstones, or
 *          the table has outlived several flushes. A table with nothing below it is rewritten in place.
 * Safety:  a table of L0 is taken with all older ones, and every table of the output level that
 *          touches the inputs' range is taken too, so what is written fits between those that stay.
 *          Inputs of one level are neighbours, so no output spans a table that stays.
 * Threads: the caller keeps others from setting `busy` meanwhile (engine's install lock, or one thread).
 */
#ifndef VARVE_ENGINE_COMPACTION_PICK_H
#define VARVE_ENGINE_COMPACTION_PICK_H

#include "engine/version.h"

#define COMPACTION_L0_TRIGGER 4
#define COMPACTION_L0_FULL    10 /* goes to L1, whatever that costs */
#define COMPACTION_L0_STOP    20 /* writers wait */
#define COMPACTION_L0_FAILED_STOP 80 /* when merging fails they do not wait, but are told from here on */

enum compaction_reason {
    COMPACTION_NONE,
    COMPACTION_L0,
    COMPACTION_SIZE,
    COMPACTION_TOMBSTONES,
    COMPACTION_RELOCATE
};

struct compaction {
    enum compaction_reason reason;
    uint32_t input_level, output_level;
    struct version_table **inputs; /* referenced; newest first, of output_level at the end */
    size_t input_count;            /* of input_level; full: of all levels above output_level */
    size_t output_input_count;     /* of output_level, when that is another one */
    bool bottom;       /* no deeper level overlaps: deletes and tombstones may be dropped */
    bool trivial_move; /* one input, no overlap below, nothing to drop: only its level changes */
};

struct compaction_policy {
    uint64_t base_bytes;             /* target of L1 */
    uint64_t table_bytes;            /* target of an output table */
    bool idle;                       /* nothing urgent: tombstones may sink */
    const uint64_t *relocate_chunks; /* sorted blob chunk ids chosen by GC */
    size_t relocate_count;
};

/* 1 and a compaction to run (the caller frees it), 0 for none, -ENOMEM. What would need a busy table is
 * not picked. input_level == output_level: the inputs are rewritten where they are. */
int compaction_pick(const struct version *version, const struct compaction_policy *policy,
                    struct compaction *ret_compaction);
void compaction_free(struct compaction *compaction); /* members; unrefs the tables */

/* All tables into the last level that holds any, L1 at least. 0 also when a table is busy, or when
 * all lie there already and none has a delete or a tombstone. */
int compaction_pick_full(const struct version *version, struct compaction *ret_compaction);

#endif
