/* SPDX-License-Identifier: Apache-2.0 */
/*
 * table_meta.h - the part of a table meta's encoding that the table itself carries
 *
 * A table cannot contain its own identity (the hash covers it), so its properties hold the rest.
 */
#ifndef VARVE_ENGINE_TABLE_META_H
#define VARVE_ENGINE_TABLE_META_H

#include "engine/table.h"

/* As table_meta_encode() and table_meta_decode(), without the identity. */
int table_meta_encode_body(const struct table_meta *meta, struct buffer *to);
int table_meta_decode_body(struct slice *from, struct table_meta *ret_meta);

#endif
