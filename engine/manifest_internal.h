/* SPDX-License-Identifier: Apache-2.0 */
/*
 * manifest_internal.h - the manifest over LMDB: what manifest.c, manifest_transaction.c and
 * manifest_record.c share
 *
 * Nobody else sees LMDB: the logic of the manifest is written on manifest_record.h.
 */
#ifndef VARVE_ENGINE_MANIFEST_INTERNAL_H
#define VARVE_ENGINE_MANIFEST_INTERNAL_H

#include <lmdb.h>
#include <stdatomic.h>
#include <sys/stat.h>

#include "engine/base/io.h"
#include "engine/base/lock.h"
#include "engine/manifest_record.h"

struct manifest {
    struct lock lock; /* LOCK_RANK_MANIFEST: all below, and LMDB; I/O under it */
    MDB_env *environment;
    MDB_dbi database;
    char *path;
    struct io *io; /* or NULL */
    bool read_only;
    bool poisoned;
    bool reserve_unsupported;
    pid_t process; /* LMDB must not be used across fork(2) */
    uint64_t reserved_bytes;
    uint64_t change_log_entries_max;
    uint64_t page_size_bytes;
    struct manifest_statistics statistics;
    /* Read without the lock, to tell of a look that does not end. */
    _Atomic uint64_t looking_since_ns;
    _Atomic uint64_t slow_look_ns;
    /* The list of open manifests of this process. */
    dev_t device;
    ino_t inode;
    struct manifest *next;
};

struct manifest_transaction {
    struct manifest *manifest;
    MDB_txn *handle;
    uint64_t sum; /* of all records but the seal: manifest_pages.h */
};

/* ---- manifest_transaction.c ---- */

/* Log what LMDB said, unless it is an answer that the caller expects; returns the error value. */
int manifest_report(const struct manifest *manifest, const char *what, int lmdb_error);

/* Under the manifest's lock, or while nobody else has the manifest yet. The caller ends it. */
int manifest_transaction_begin(struct manifest *manifest, bool for_reading,
                               struct manifest_transaction *ret_transaction);

/* Bytes of the map; and of the data file, up to its last used page. Not of a manifest that is
 * poisoned: it may have no map. */
size_t manifest_map_size(const struct manifest *manifest);
uint64_t manifest_used_bytes(const struct manifest *manifest);

/* ---- manifest_record.c ---- */

/* Take over the sum of all records, as the transaction finds it; and write it, as it leaves it. */
int manifest_seal_begin(struct manifest_transaction *transaction);
int manifest_seal_end(struct manifest_transaction *transaction);

#endif
