/* SPDX-License-Identifier: Apache-2.0 */
/*
 * crash_rules.h - what must hold of the files themselves, whatever the engine makes of them
 *
 * Recovery forgives much: it removes what nobody refers to and passes over what was never used. So
 * that a missing sync shows all the same, these rules are about images before anybody opens them.
 */
#ifndef VARVE_TESTS_LIB_CRASH_RULES_H
#define VARVE_TESTS_LIB_CRASH_RULES_H

#include "tests/lib/crash_explore.h"

/* Any image: what has the name of a sealed chunk is a whole one. NULL or what is wrong (to be
 * freed), as everywhere here. */
char *crash_rules_check_image(struct disk_model *image, const char *store);

/* A disk whose store has just been closed, its base being `base`: with only what was promised, each
 * segment of the log is there at its full length under a header of its own number, and no chunk has
 * a second name in tmp/. */
char *crash_rules_check_closed(struct disk_model *disk, const char *base);
/* The same of the log alone, of a store that has just been opened without a sync window: nobody
 * makes a segment meanwhile. The one that is there was never written to: a group's own sync would
 * hide that its zeros and its header are not on the disk yet. */
char *crash_rules_check_log(struct disk_model *disk, const char *base);

/* Is there FORMAT, which is made last? Else it is no store. */
bool crash_rules_has_format(struct io *io, const char *store);

/* Make a store on `disk`, an empty one with base `base`, and cut the power at each call of that:
 * nothing is there then, or no store, or a whole one. `states` counts images. */
char *crash_rules_check_mkfs(struct disk_model *disk, const char *base,
                             const struct store_format *format,
                             const struct crash_explorer *explorer, uint64_t seed,
                             uint64_t *states);

#endif
