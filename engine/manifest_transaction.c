/* SPDX-License-Identifier: Apache-2.0 */
/*
 * manifest_transaction.c - one transaction at a time: room for it, the map, commits, errors
 *
 * All transactions are under the manifest's lock: hence the map can be replaced between two of
 * them, and no reader holds old pages back.
 *
 * A commit that fails leaves LMDB's idea of the disk unknown: nothing is tried again (P6). Running
 * out of room is therefore met before: blocks are reserved ahead of the data file's end, and when
 * they cannot be had the transaction is refused before it begins.
 */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "engine/base/blocking.h"
#include "engine/base/error.h"
#include "engine/base/invariant.h"
#include "engine/base/log.h"
#include "engine/manifest_internal.h"

#define MAP_SIZE_MAX_BYTES ((size_t)1 << 40)

/* Blocks reserved beyond the last used page; renewed when fewer than the middle figure are left,
 * and with fewer than the last no transaction is begun: more than any edit of a busy store dirties.
 */
#define RESERVE_BYTES     ((uint64_t)4 << 20)
#define RESERVE_LOW_BYTES ((uint64_t)2 << 20)
#define RESERVE_MIN_BYTES ((uint64_t)512 << 10)

/* ---- errors ---- */

static int error_of(int lmdb_error)
{
    switch (lmdb_error) {
    case MDB_SUCCESS:
        return 0;
    case MDB_NOTFOUND:
        return -ENOENT;
    case MDB_KEYEXIST:
        return -EEXIST;
    case MDB_MAP_FULL:
        return ERROR_MAP_FULL;
    case MDB_PANIC:
        return ERROR_POISONED;
    case MDB_VERSION_MISMATCH:
        return ERROR_VERSION_NEWER;
    case MDB_PAGE_NOTFOUND:
    case MDB_CORRUPTED:
    case MDB_INVALID:
    case MDB_INCOMPATIBLE:
    case MDB_CURSOR_FULL:
    case MDB_PAGE_FULL:
        return ERROR_CORRUPT;
    case MDB_READERS_FULL:
        return -EAGAIN;
    case MDB_TXN_FULL:
        return -E2BIG;
    case MDB_BAD_VALSIZE:
        return -EINVAL;
    default:
        return lmdb_error > 0 ? -lmdb_error : -EIO;
    }
}

int manifest_report(const struct manifest *manifest, const char *what, int lmdb_error)
{
    int error = error_of(lmdb_error);

    if (error != 0 && error != ERROR_MAP_FULL && error != -ENOENT)
        log_error("manifest %s: %s: %s", manifest->path, what, mdb_strerror(lmdb_error));
    return error;
}

/* ---- room ---- */

uint64_t manifest_used_bytes(const struct manifest *manifest)
{
    MDB_envinfo info;

    (void)mdb_env_info(manifest->environment, &info);
    return ((uint64_t)info.me_last_pgno + 1) * manifest->page_size_bytes;
}

/* Have blocks for the next commits reserved: 0 or -ENOSPC. Where the file system cannot reserve, 0.
 */
static int reserve_room(struct manifest *manifest)
{
    uint64_t used = manifest_used_bytes(manifest);
    int descriptor;

    if (manifest->reserve_unsupported || manifest->reserved_bytes >= used + RESERVE_LOW_BYTES)
        return 0;
    if (mdb_env_get_fd(manifest->environment, &descriptor) != 0)
        return -EIO;
    if (fallocate(descriptor, FALLOC_FL_KEEP_SIZE, 0, (off_t)(used + RESERVE_BYTES)) == 0) {
        manifest->reserved_bytes = used + RESERVE_BYTES;
        return 0;
    }
    if (errno != ENOSPC && errno != EDQUOT) {
        manifest->reserve_unsupported = errno == EOPNOTSUPP || errno == ENOSYS;
        return 0;
    }
    if (manifest->reserved_bytes >= used + RESERVE_MIN_BYTES)
        return 0;
    log_error("manifest %s: no space left for a commit", manifest->path);
    return -ENOSPC;
}

size_t manifest_map_size(const struct manifest *manifest)
{
    MDB_envinfo info;

    (void)mdb_env_info(manifest->environment, &info);
    return info.me_mapsize;
}

/* Double the map. No transaction is open: the lock is held and every transaction ends under it
 * (R19). A failure leaves LMDB without any map, so it is the end of this environment. */
static int grow_map(struct manifest *manifest)
{
    size_t size = manifest_map_size(manifest);
    int result;

    if (size >= MAP_SIZE_MAX_BYTES)
        return ERROR_MAP_FULL;
    result = mdb_env_set_mapsize(manifest->environment, size * 2);
    if (result != MDB_SUCCESS) {
        manifest->poisoned = true;
        return manifest_report(manifest, "cannot grow the map", result);
    }
    manifest->statistics.map_growths++;
    log_info("manifest %s: map grown to %zu MiB", manifest->path, size >> 19);
    return 0;
}

/* ---- transactions ---- */

int manifest_transaction_begin(struct manifest *manifest, bool for_reading,
                               struct manifest_transaction *ret_transaction)
{
    unsigned flags = for_reading ? MDB_RDONLY : 0;
    MDB_txn *handle;
    int result;

    result = mdb_txn_begin(manifest->environment, NULL, flags, &handle);
    if (result == MDB_MAP_RESIZED) {
        /* Another process has grown it; zero takes over its size. */
        result = mdb_env_set_mapsize(manifest->environment, 0);
        if (result == MDB_SUCCESS)
            result = mdb_txn_begin(manifest->environment, NULL, flags, &handle);
        else
            manifest->poisoned = true;
    }
    if (result != MDB_SUCCESS)
        return manifest_report(manifest, "cannot begin a transaction", result);
    *ret_transaction = (struct manifest_transaction){manifest, handle, 0};
    return 0;
}

static int transaction_commit(struct manifest_transaction *transaction)
{
    struct manifest *manifest = transaction->manifest;
    struct io_flight *flight = NULL;
    int result;

    if (manifest->io != NULL)
        flight = io_flight_begin(manifest->io, IO_OPERATION_COMMIT, NULL, manifest->path, 0, 0);
    result = mdb_txn_commit(transaction->handle);
    io_flight_end(flight);

    if (result == MDB_SUCCESS) {
        __atomic_fetch_add(&manifest->statistics.commits, 1, __ATOMIC_RELAXED);
        return 0;
    }
    /* The free list is written before anything reaches the disk: a full map there is harmless. */
    if (result == MDB_MAP_FULL)
        return ERROR_MAP_FULL;
    manifest->poisoned = true;
    return manifest_report(manifest, "commit failed, the manifest takes no more changes", result);
}

static int update_once(struct manifest *manifest, manifest_transaction_function *function,
                       void *context)
{
    struct manifest_transaction transaction;
    int error;

    if (manifest->poisoned)
        return ERROR_POISONED;
    if (manifest->read_only)
        return -EROFS;
    error = reserve_room(manifest);
    if (error == 0)
        error = manifest_transaction_begin(manifest, false, &transaction);
    if (error != 0)
        return error;
    error = manifest_seal_begin(&transaction);
    if (error == 0)
        error = function(&transaction, context);
    if (error == 0)
        error = manifest_seal_end(&transaction);
    if (error == 0)
        return transaction_commit(&transaction);
    mdb_txn_abort(transaction.handle);
    return error;
}

/* A look that does not end holds the lock: whoever comes next says so before waiting (R21). */
static void report_look_under_way(struct manifest *manifest)
{
    uint64_t since_ns = atomic_load(&manifest->looking_since_ns);
    uint64_t now_ns = clock_monotonic_ns();

    if (since_ns == 0 || now_ns < since_ns || now_ns - since_ns < manifest->slow_look_ns)
        return;
    log_warning("manifest %s: a read transaction has been open for %llu ms", manifest->path,
                (unsigned long long)((now_ns - since_ns) / 1000000));
}

uint64_t manifest_commits(const struct manifest *manifest)
{
    return __atomic_load_n(&manifest->statistics.commits, __ATOMIC_RELAXED);
}

uint64_t manifest_look_age_ns(struct manifest *manifest)
{
    uint64_t since_ns = atomic_load(&manifest->looking_since_ns);
    uint64_t now_ns = clock_monotonic_ns();

    return since_ns == 0 || now_ns < since_ns ? 0 : now_ns - since_ns;
}

static void manifest_lock(struct manifest *manifest)
{
    invariant(manifest->process == getpid());
    blocking_enter();
    report_look_under_way(manifest);
    lock_acquire(&manifest->lock);
}

int manifest_update(struct manifest *manifest, manifest_transaction_function *function,
                    void *context)
{
    int error;

    manifest_lock(manifest);
    do {
        error = update_once(manifest, function, context);
        if (error != ERROR_MAP_FULL)
            break;
        error = grow_map(manifest);
    } while (error == 0);
    lock_release(&manifest->lock);
    return error;
}

static void look_ended(struct manifest *manifest)
{
    uint64_t lasted_ns = clock_monotonic_ns() - manifest->looking_since_ns;

    atomic_store(&manifest->looking_since_ns, 0);
    if (lasted_ns < manifest->slow_look_ns)
        return;
    manifest->statistics.slow_looks++;
    log_warning("manifest %s: a read transaction lasted %llu ms", manifest->path,
                (unsigned long long)(lasted_ns / 1000000));
}

int manifest_inspect(struct manifest *manifest, manifest_transaction_function *function,
                     void *context)
{
    struct manifest_transaction transaction;
    int error;

    manifest_lock(manifest);
    error = manifest->poisoned ? ERROR_POISONED
                               : manifest_transaction_begin(manifest, true, &transaction);
    if (error == 0) {
        atomic_store(&manifest->looking_since_ns, clock_monotonic_ns());
        error = function(&transaction, context);
        mdb_txn_abort(transaction.handle);
        look_ended(manifest);
    }
    lock_release(&manifest->lock);
    return error;
}
