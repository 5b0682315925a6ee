/* SPDX-License-Identifier: Apache-2.0 */
/*
 * manifest_pages.h - is data.mdb what LMDB wrote? (internal)
 *
 * LMDB 0.9 believes what it reads: a damaged page can end the process, an older copy of a page that
 * was put back, or an older meta page, are a manifest that once was true. So before LMDB sees the
 * file its tree is looked at here: structure and bounds of every page, order and checksum of every
 * record, that no page has two uses, that lists of free pages are of transactions that were, and
 * that the seal record, which every commit writes, has the number of the meta page's transaction
 * and the sum of all other records.
 *
 * Reads only. Nobody else may have the environment open for writing.
 */
#ifndef VARVE_ENGINE_MANIFEST_PAGES_H
#define VARVE_ENGINE_MANIFEST_PAGES_H

#include "engine/base/bytes.h"

/* 0; ERROR_CORRUPT, ERROR_TRUNCATED (both logged with the page); -ENOMEM; or what reading gives. A
 * file of another format version is passed: LMDB has a word for that. `path` is for the log. */
int manifest_pages_check(int descriptor, const char *path);

/* ---- the seal ---- */

#define MANIFEST_SEAL_SIZE 16

struct manifest_seal {
    uint64_t transaction; /* that wrote it */
    uint64_t sum;         /* of the checksums of all other records */
};

void manifest_seal_encode(const struct manifest_seal *seal, uint8_t to[MANIFEST_SEAL_SIZE]);

/* What a record adds to the sum: the checksum at the end of its value. */
uint64_t manifest_seal_share(struct slice value);

#endif
