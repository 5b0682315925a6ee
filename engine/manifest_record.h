/* SPDX-License-Identifier: Apache-2.0 */
/*
 * manifest_record.h - the manifest's records: checksummed values under byte keys (internal)
 *
 * The thin layer over LMDB that the manifest's logic (manifest_edit.c, manifest_load.c,
 * manifest_changes.c, manifest_lease.c) is written on. One unnamed LMDB database; the first byte of
 * a key is its kind. Each value is a payload and the XXH3-64 of it, seeded with the XXH3-64 of its
 * key, so that neither a rotten value nor one that turned up under another key is believed.
 *
 * Threads: manifest_update() and manifest_inspect() from any, one at a time (LOCK_RANK_MANIFEST);
 *          the rest only inside them, with the transaction they hand out.
 * Memory:  payloads and keys read live until the transaction ends or changes something.
 */
#ifndef VARVE_ENGINE_MANIFEST_RECORD_H
#define VARVE_ENGINE_MANIFEST_RECORD_H

#include "engine/manifest.h"

#define MANIFEST_VERSION        1
#define MANIFEST_VERSION_OLDEST 1

/* LMDB's limit. */
#define MANIFEST_KEY_SIZE_MAX 511

/* On-disk values: the first byte of each key, then what is said here (integers big-endian). */
enum manifest_key_kind {
    MANIFEST_KEY_FORMAT = 'F',     /* nothing */
    MANIFEST_KEY_SCALARS = 'S',    /* nothing */
    MANIFEST_KEY_TABLE = 'T',      /* chunk id u64 */
    MANIFEST_KEY_BLOB = 'B',       /* chunk id u64 */
    MANIFEST_KEY_CHECKPOINT = 'C', /* checkpoint id u64 */
    MANIFEST_KEY_LOG = 'H',        /* nothing: the bounds of the change log */
    MANIFEST_KEY_CHANGE = 'E',     /* number u64 */
    MANIFEST_KEY_CURSOR = 'P',     /* name */
    MANIFEST_KEY_LEASE = 'L',      /* checkpoint id u64, owner */
    MANIFEST_KEY_SEAL = 'Z',       /* nothing: manifest_pages.h */
};

struct manifest_key {
    uint8_t bytes[MANIFEST_KEY_SIZE_MAX];
    size_t size;
};

/* Each has the kind and what follows it. */
struct manifest_key manifest_key_plain(enum manifest_key_kind kind);
struct manifest_key manifest_key_number(enum manifest_key_kind kind, uint64_t number);

static inline struct slice manifest_key_slice(const struct manifest_key *key)
{
    return slice_of(key->bytes, key->size);
}

/* The number after the kind: 0, or ERROR_CORRUPT when the key has another size. */
int manifest_key_decode_number(struct slice key, uint64_t *ret_number);

struct manifest_transaction;

/* What to do in a transaction. It is undone when this returns non-zero, and may be called again
 * from the beginning (the map was full and has grown): it must only change its own context. */
typedef int manifest_transaction_function(struct manifest_transaction *transaction, void *context);

/* Do it atomically and durably. ERROR_POISONED, -EROFS, -ENOSPC (nothing was tried), what the
 * function returns, or the first failure of a commit, which poisons. */
int manifest_update(struct manifest *manifest, manifest_transaction_function *function,
                    void *context);

/* Look at one point in time. The function copies out what it wants and does not wait. */
int manifest_inspect(struct manifest *manifest, manifest_transaction_function *function,
                     void *context);

/* 1 and the payload, 0 (no such record), ERROR_CORRUPT (logged) or another error. */
int manifest_record_get(struct manifest_transaction *transaction, const struct manifest_key *key,
                        struct slice *ret_payload);

/* Add or replace. */
int manifest_record_put(struct manifest_transaction *transaction, const struct manifest_key *key,
                        struct slice payload);

/* 1 (deleted), 0 (there was none) or an error. */
int manifest_record_delete(struct manifest_transaction *transaction,
                           const struct manifest_key *key);

/* Delete every record whose key begins with `prefix`. */
int manifest_record_delete_prefix(struct manifest_transaction *transaction,
                                  const struct manifest_key *prefix);

/* Call back for each record whose key begins with `prefix`, in key order; stops at the first
 * non-zero return, which it returns. The callback must not change anything. */
typedef int manifest_record_callback(void *context, struct slice key, struct slice payload);
int manifest_record_each(struct manifest_transaction *transaction,
                         const struct manifest_key *prefix, manifest_record_callback *callback,
                         void *context);

/* Log that a record does not decode, with its key; returns `error`. */
int manifest_record_report(struct slice key, int error);

/* What LMDB says of its flags: every commit is synced, data before meta page (R16). */
bool manifest_is_durable(struct manifest *manifest);

uint64_t manifest_change_log_entries_max(const struct manifest *manifest);

/* A look that takes longer is logged (5 s unless set). */
void manifest_set_slow_look_ms(struct manifest *manifest, uint32_t slow_look_ms);

/* ---- the records of an empty manifest (manifest_edit.c) ---- */

/* A manifest_transaction_function: write them. */
int manifest_create_records(struct manifest_transaction *transaction, void *context);

/* A manifest_transaction_function: `context` is a bool that becomes true when there is a format
 * record, which must be one that this program reads. */
int manifest_format_look(struct manifest_transaction *transaction, void *context);

/* ---- the change log's part in an edit (manifest_changes.c) ---- */

int manifest_changes_create(struct manifest_transaction *transaction);

/* Note the commit and cut what nobody waits for. */
int manifest_changes_append(struct manifest_transaction *transaction, struct manifest *manifest,
                            const struct manifest_change *change);

/* The number of the first entry kept and of the next one to come. */
int manifest_changes_bounds(struct manifest_transaction *transaction, uint64_t *ret_first,
                            uint64_t *ret_next);

/* ---- leases (manifest_lease.c) ---- */

int manifest_leases_drop(struct manifest_transaction *transaction, uint64_t checkpoint_id);

#endif
