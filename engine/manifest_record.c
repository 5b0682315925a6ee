/* SPDX-License-Identifier: Apache-2.0 */
/*
 * manifest_record.c - records in a transaction, each with its checksum, and the seal over all
 */
#include "engine/manifest_record.h"

#include <string.h>

#include "engine/base/checksum.h"
#include "engine/base/endian.h"
#include "engine/base/error.h"
#include "engine/manifest_internal.h"
#include "engine/manifest_pages.h"

#define CHECKSUM_SIZE 8

/* ---- records ---- */

static uint64_t record_checksum(struct slice key, struct slice payload)
{
    return checksum64_seeded(payload.data, payload.size, checksum64(key.data, key.size));
}

static struct slice slice_of_value(const MDB_val *value)
{
    return slice_of(value->mv_data, value->mv_size);
}

/* LMDB takes what it only reads through a pointer that is not const. */
static MDB_val value_of_key(const struct manifest_key *key)
{
    return (MDB_val){.mv_size = key->size, .mv_data = (void *)(uintptr_t)key->bytes};
}

static int record_check(struct slice key, struct slice value, struct slice *ret_payload)
{
    struct slice payload;

    if (value.size < CHECKSUM_SIZE)
        return manifest_record_report(key, ERROR_CORRUPT);
    payload = slice_of(value.data, value.size - CHECKSUM_SIZE);
    if (get_le64(value.data + payload.size) != record_checksum(key, payload))
        return manifest_record_report(key, ERROR_CORRUPT);
    *ret_payload = payload;
    return 0;
}

int manifest_record_get(struct manifest_transaction *transaction, const struct manifest_key *key,
                        struct slice *ret_payload)
{
    struct manifest *manifest = transaction->manifest;
    MDB_val lmdb_key = value_of_key(key), value;
    int error;
    int result = mdb_get(transaction->handle, manifest->database, &lmdb_key, &value);

    if (result == MDB_NOTFOUND)
        return 0;
    if (result != MDB_SUCCESS)
        return manifest_report(manifest, "cannot read a record", result);
    error = record_check(manifest_key_slice(key), slice_of_value(&value), ret_payload);
    return error != 0 ? error : 1;
}

/* What the record under the key adds to the sum, if there is one. */
static uint64_t share_of(struct manifest_transaction *transaction, const struct manifest_key *key)
{
    MDB_val lmdb_key = value_of_key(key), value;

    if (mdb_get(transaction->handle, transaction->manifest->database, &lmdb_key, &value) !=
        MDB_SUCCESS)
        return 0;
    return manifest_seal_share(slice_of_value(&value));
}

int manifest_record_put(struct manifest_transaction *transaction, const struct manifest_key *key,
                        struct slice payload)
{
    struct manifest *manifest = transaction->manifest;
    MDB_val lmdb_key = value_of_key(key);
    MDB_val value = {.mv_size = payload.size + CHECKSUM_SIZE, .mv_data = NULL};
    uint64_t before = share_of(transaction, key);
    int result = mdb_put(transaction->handle, manifest->database, &lmdb_key, &value, MDB_RESERVE);

    if (result != MDB_SUCCESS)
        return manifest_report(manifest, "cannot write a record", result);
    if (payload.size > 0)
        memcpy(value.mv_data, payload.data, payload.size);
    put_le64((uint8_t *)value.mv_data + payload.size,
             record_checksum(manifest_key_slice(key), payload));
    transaction->sum += manifest_seal_share(slice_of_value(&value)) - before;
    return 0;
}

int manifest_record_delete(struct manifest_transaction *transaction, const struct manifest_key *key)
{
    struct manifest *manifest = transaction->manifest;
    MDB_val lmdb_key = value_of_key(key);
    uint64_t before = share_of(transaction, key);
    int result = mdb_del(transaction->handle, manifest->database, &lmdb_key, NULL);

    if (result == MDB_NOTFOUND)
        return 0;
    transaction->sum -= before;
    return result == MDB_SUCCESS ? 1 : manifest_report(manifest, "cannot delete a record", result);
}

static bool has_prefix(const MDB_val *key, const struct manifest_key *prefix)
{
    return key->mv_size >= prefix->size && memcmp(key->mv_data, prefix->bytes, prefix->size) == 0;
}

int manifest_record_each(struct manifest_transaction *transaction,
                         const struct manifest_key *prefix, manifest_record_callback *callback,
                         void *context)
{
    struct manifest *manifest = transaction->manifest;
    MDB_val key = value_of_key(prefix), value;
    MDB_cursor *cursor;
    struct slice payload;
    int error = 0;
    int result = mdb_cursor_open(transaction->handle, manifest->database, &cursor);

    if (result != MDB_SUCCESS)
        return manifest_report(manifest, "cannot open a cursor", result);
    result = mdb_cursor_get(cursor, &key, &value, prefix->size > 0 ? MDB_SET_RANGE : MDB_FIRST);
    while (result == MDB_SUCCESS && has_prefix(&key, prefix)) {
        error = record_check(slice_of_value(&key), slice_of_value(&value), &payload);
        if (error == 0)
            error = callback(context, slice_of_value(&key), payload);
        if (error != 0)
            break;
        result = mdb_cursor_get(cursor, &key, &value, MDB_NEXT);
    }
    mdb_cursor_close(cursor);
    if (error == 0 && result != MDB_SUCCESS && result != MDB_NOTFOUND)
        error = manifest_report(manifest, "cannot walk records", result);
    return error;
}

int manifest_record_delete_prefix(struct manifest_transaction *transaction,
                                  const struct manifest_key *prefix)
{
    struct manifest *manifest = transaction->manifest;
    MDB_val key = value_of_key(prefix), value;
    MDB_cursor *cursor;
    int result = mdb_cursor_open(transaction->handle, manifest->database, &cursor);

    if (result != MDB_SUCCESS)
        return manifest_report(manifest, "cannot open a cursor", result);
    result = mdb_cursor_get(cursor, &key, &value, MDB_SET_RANGE);
    while (result == MDB_SUCCESS && has_prefix(&key, prefix)) {
        transaction->sum -= manifest_seal_share(slice_of_value(&value));
        result = mdb_cursor_del(cursor, 0);
        if (result == MDB_SUCCESS) {
            key = value_of_key(prefix);
            result = mdb_cursor_get(cursor, &key, &value, MDB_SET_RANGE);
        }
    }
    mdb_cursor_close(cursor);
    return result == MDB_NOTFOUND ? 0 : manifest_report(manifest, "cannot delete records", result);
}

/* ---- the seal ---- */

static int add_share(void *context, struct slice key, struct slice payload)
{
    if (key.data[0] != MANIFEST_KEY_SEAL)
        *(uint64_t *)context += get_le64(payload.data + payload.size);
    return 0;
}

int manifest_seal_begin(struct manifest_transaction *transaction)
{
    const struct manifest_key key = manifest_key_plain(MANIFEST_KEY_SEAL);
    const struct manifest_key everything = {.size = 0};
    struct slice payload;
    int error = manifest_record_get(transaction, &key, &payload);

    if (error < 0)
        return error;
    if (error == 0) /* a new environment, or one of the first version of this program */
        return manifest_record_each(transaction, &everything, add_share, &transaction->sum);
    if (payload.size != MANIFEST_SEAL_SIZE)
        return manifest_record_report(manifest_key_slice(&key), ERROR_CORRUPT);
    transaction->sum = get_le64(payload.data + 8);
    return 0;
}

int manifest_seal_end(struct manifest_transaction *transaction)
{
    const struct manifest_key key = manifest_key_plain(MANIFEST_KEY_SEAL);
    const struct manifest_seal seal = {mdb_txn_id(transaction->handle), transaction->sum};
    uint8_t payload[MANIFEST_SEAL_SIZE];

    manifest_seal_encode(&seal, payload);
    return manifest_record_put(transaction, &key, slice_of(payload, sizeof payload));
}
