/* SPDX-License-Identifier: Apache-2.0 */
/*
 * record.h - what the engine stores: a key, a kind, a sequence number, a value
 *
 * Keys are 1 to RECORD_KEY_SIZE_MAX bytes in memcmp order; values up to RECORD_VALUE_SIZE_MAX.
 * The kinds are on-disk values (WAL batches and tables).
 */
#ifndef VARVE_ENGINE_RECORD_H
#define VARVE_ENGINE_RECORD_H

#include "engine/base/bytes.h"

#define RECORD_KEY_SIZE_MAX   1024
#define RECORD_VALUE_SIZE_MAX (128 * 1024)

enum record_kind {
    RECORD_VALUE = 1,        /* key -> bytes */
    RECORD_REFERENCE = 2,    /* key -> blob_ref (blob_ref.h): the engine may relocate it */
    RECORD_DELETE = 3,       /* key is gone */
    RECORD_DELETE_RANGE = 4, /* keys in [key, value) are gone: the value is the exclusive end */
};

struct record {
    enum record_kind kind;
    uint64_t sequence;
    struct slice key;
    struct slice value;
};

#endif
