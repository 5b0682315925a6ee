/* SPDX-License-Identifier: Apache-2.0 */
/*
 * crash_damage.h - what fsck -y can put right, done to a store that is closed, on a model of a disk
 */
#ifndef VARVE_TESTS_LIB_CRASH_DAMAGE_H
#define VARVE_TESTS_LIB_CRASH_DAMAGE_H

#include "tests/lib/disk_model.h"

enum crash_damage {
    CRASH_DAMAGE_MANIFEST = 1 << 0, /* gone, short or overwritten */
    CRASH_DAMAGE_CHUNKS = 1 << 1,   /* names are gone of which another directory has the file */
    CRASH_DAMAGE_STRAYS = 1 << 2,   /* the manifest has forgotten a snapshot; half a directory */
    CRASH_DAMAGE_LOG = 1 << 3,      /* wal/SYNCED says more than the log has */
};

/* All of `damage` to `store` below the disk's base, and then it is on the disk. */
void crash_damage_do(struct disk_model *disk, const char *store, unsigned damage, uint64_t seed);

#endif
