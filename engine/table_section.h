/* SPDX-License-Identifier: Apache-2.0 */
/*
 * table_section.h - a stretch of a table file: compressed where it pays, tagged, checksummed
 *
 * Bytes: table_format.h. Threads: any.
 */
#ifndef VARVE_ENGINE_TABLE_SECTION_H
#define VARVE_ENGINE_TABLE_SECTION_H

#include "engine/table_format.h"

/*
 * Put section `raw` of `kind`, which will lie at `position`, into `to` (replacing its content), tag
 * and checksum included. `level` 0: not compressed. 0 or -ENOMEM.
 */
int table_section_encode(struct slice raw, enum table_section_kind kind, uint64_t salt,
                         uint64_t position, int level, struct buffer *to);

/*
 * Verify `stored` (TABLE_SECTION_TRAILER_SIZE included) and put its `raw_size` bytes at `to`.
 * 0, -ENOMEM or ERROR_CORRUPT; `to` may be overwritten on failure.
 */
int table_section_decode(struct slice stored, enum table_section_kind kind, uint64_t salt,
                         uint64_t position, size_t raw_size, uint8_t *to);

#endif
