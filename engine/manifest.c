/* SPDX-License-Identifier: Apache-2.0 */
/*
 * manifest.c - the environment and the records of the manifest, over LMDB
 *
 * All use of LMDB is here. The rules that keep it safe:
 *   - Durable flags only: a commit is a write of the dirty pages, a sync, then the meta page
 * through a descriptor opened for synchronous writes. MDB_NOTLS says nothing about durability: it
 * ties a reader's slot to the transaction instead of to the thread, so that one slot is enough
 * whatever the number of threads.
 *   - One transaction at a time, under the manifest's lock: hence the map can be replaced between
 * two of them, and no reader holds old pages back.
 *   - What LMDB trusts is looked at before it does: a data file that ends before its last page
 * would kill the process at the first touch of the mapping.
 *   - A commit that fails leaves LMDB's idea of the disk unknown: nothing is tried again (P6).
 *     Running out of room is therefore met before: blocks are reserved ahead of the data file's
 * end, and when they cannot be had the transaction is refused before it begins.
 */
#include "engine/manifest_record.h"

#include <errno.h>
#include <fcntl.h>
#include <lmdb.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/base/blocking.h"
#include "engine/base/checksum.h"
#include "engine/base/endian.h"
#include "engine/base/error.h"
#include "engine/base/invariant.h"
#include "engine/base/io.h"
#include "engine/base/lock.h"
#include "engine/base/log.h"
#include "engine/manifest_pages.h"

#define CHECKSUM_SIZE      8
#define MAP_SIZE_MIN_BYTES ((size_t)64 * 1024)
#define MAP_SIZE_MAX_BYTES ((size_t)1 << 40)
#define SLOW_LOOK_MS       5000

/* Blocks reserved beyond the last used page; renewed when fewer than the middle figure are left,
 * and with fewer than the last no transaction is begun: more than any edit of a busy store dirties.
 */
#define RESERVE_BYTES     ((uint64_t)4 << 20)
#define RESERVE_LOW_BYTES ((uint64_t)2 << 20)
#define RESERVE_MIN_BYTES ((uint64_t)512 << 10)

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

/* Log what LMDB said, unless it is an answer that the caller expects; returns the error value. */
static int report(const struct manifest *manifest, const char *what, int lmdb_error)
{
    int error = error_of(lmdb_error);

    if (error != 0 && error != ERROR_MAP_FULL && error != -ENOENT)
        log_error("manifest %s: %s: %s", manifest->path, what, mdb_strerror(lmdb_error));
    return error;
}

/* LMDB found its own structure broken. It would abort in any case: say where, first. */
static void assertion_failed(MDB_env *environment, const char *message)
{
    const char *path = "?";

    (void)mdb_env_get_path(environment, &path);
    log_error("manifest %s: %s", path, message);
    invariant_fail(message, "liblmdb", 0);
}

/* ---- one environment a process (R18) ---- */

/* LMDB's locks belong to the process: closing a second handle would drop those of the first. */
static struct lock open_list_lock = {PTHREAD_MUTEX_INITIALIZER, LOCK_RANK_LEAF};
static struct manifest *open_list;

static int open_list_add(struct manifest *manifest, const struct stat *directory)
{
    int error = 0;

    manifest->device = directory->st_dev;
    manifest->inode = directory->st_ino;
    lock_acquire(&open_list_lock);
    for (const struct manifest *other = open_list; other != NULL; other = other->next)
        if (other->device == manifest->device && other->inode == manifest->inode)
            error = -EBUSY;
    if (error == 0) {
        manifest->next = open_list;
        open_list = manifest;
    }
    lock_release(&open_list_lock);
    return error;
}

static void open_list_remove(struct manifest *manifest)
{
    lock_acquire(&open_list_lock);
    for (struct manifest **link = &open_list; *link != NULL; link = &(*link)->next)
        if (*link == manifest) {
            *link = manifest->next;
            break;
        }
    lock_release(&open_list_lock);
}

/* ---- room ---- */

/* Bytes of the data file up to its last used page. */
static uint64_t used_bytes(const struct manifest *manifest)
{
    MDB_envinfo info;

    (void)mdb_env_info(manifest->environment, &info);
    return ((uint64_t)info.me_last_pgno + 1) * manifest->page_size_bytes;
}

/* Have blocks for the next commits reserved: 0 or -ENOSPC. Where the file system cannot reserve, 0.
 */
static int reserve_room(struct manifest *manifest)
{
    uint64_t used = used_bytes(manifest);
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

static size_t map_size(const struct manifest *manifest)
{
    MDB_envinfo info;

    (void)mdb_env_info(manifest->environment, &info);
    return info.me_mapsize;
}

/* Double the map. No transaction is open: the lock is held and every transaction ends under it
 * (R19). A failure leaves LMDB without any map, so it is the end of this environment. */
static int grow_map(struct manifest *manifest)
{
    size_t size = map_size(manifest);
    int result;

    if (size >= MAP_SIZE_MAX_BYTES)
        return ERROR_MAP_FULL;
    result = mdb_env_set_mapsize(manifest->environment, size * 2);
    if (result != MDB_SUCCESS) {
        manifest->poisoned = true;
        return report(manifest, "cannot grow the map", result);
    }
    manifest->statistics.map_growths++;
    log_info("manifest %s: map grown to %zu MiB", manifest->path, size >> 19);
    return 0;
}

/* ---- transactions ---- */

static int transaction_begin(struct manifest *manifest, bool for_reading,
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
        return report(manifest, "cannot begin a transaction", result);
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
    return report(manifest, "commit failed, the manifest takes no more changes", result);
}

static int seal_begin(struct manifest_transaction *transaction);
static int seal_end(struct manifest_transaction *transaction);

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
        error = transaction_begin(manifest, false, &transaction);
    if (error != 0)
        return error;
    error = seal_begin(&transaction);
    if (error == 0)
        error = function(&transaction, context);
    if (error == 0)
        error = seal_end(&transaction);
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
    error = manifest->poisoned ? ERROR_POISONED : transaction_begin(manifest, true, &transaction);
    if (error == 0) {
        atomic_store(&manifest->looking_since_ns, clock_monotonic_ns());
        error = function(&transaction, context);
        mdb_txn_abort(transaction.handle);
        look_ended(manifest);
    }
    lock_release(&manifest->lock);
    return error;
}

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
        return report(manifest, "cannot read a record", result);
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
        return report(manifest, "cannot write a record", result);
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
    return result == MDB_SUCCESS ? 1 : report(manifest, "cannot delete a record", result);
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
        return report(manifest, "cannot open a cursor", result);
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
        error = report(manifest, "cannot walk records", result);
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
        return report(manifest, "cannot open a cursor", result);
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
    return result == MDB_NOTFOUND ? 0 : report(manifest, "cannot delete records", result);
}

/* ---- the seal ---- */

static int add_share(void *context, struct slice key, struct slice payload)
{
    if (key.data[0] != MANIFEST_KEY_SEAL)
        *(uint64_t *)context += get_le64(payload.data + payload.size);
    return 0;
}

static int seal_begin(struct manifest_transaction *transaction)
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

static int seal_end(struct manifest_transaction *transaction)
{
    const struct manifest_key key = manifest_key_plain(MANIFEST_KEY_SEAL);
    const struct manifest_seal seal = {mdb_txn_id(transaction->handle), transaction->sum};
    uint8_t payload[MANIFEST_SEAL_SIZE];

    manifest_seal_encode(&seal, payload);
    return manifest_record_put(transaction, &key, slice_of(payload, sizeof payload));
}

uint64_t manifest_change_log_entries_max(const struct manifest *manifest)
{
    return manifest->change_log_entries_max;
}

void manifest_set_slow_look_ms(struct manifest *manifest, uint32_t slow_look_ms)
{
    manifest->slow_look_ns = (uint64_t)slow_look_ms * 1000000;
}

/* ---- opening ---- */

/* A file of the environment as it must be before LMDB sees it: a regular file, or (0 and size 0)
 * not there. LMDB itself would follow a symbolic link (R43). */
static int check_file(const struct manifest *manifest, int directory, const char *name,
                      struct stat *ret_status)
{
    struct stat status;

    if (fstatat(directory, name, &status, AT_SYMLINK_NOFOLLOW) != 0) {
        if (errno != ENOENT)
            return -errno;
        memset(ret_status, 0, sizeof *ret_status);
        return 0;
    }
    if (S_ISREG(status.st_mode)) {
        *ret_status = status;
        return 0;
    }
    log_error("manifest %s: %s is not a regular file", manifest->path, name);
    return S_ISLNK(status.st_mode) ? -ELOOP : ERROR_CORRUPT;
}

bool manifest_is_durable(struct manifest *manifest)
{
    unsigned flags;

    return mdb_env_get_flags(manifest->environment, &flags) == MDB_SUCCESS &&
           (flags & (MDB_NOSYNC | MDB_NOMETASYNC | MDB_WRITEMAP | MDB_MAPASYNC)) == 0;
}

static int environment_open(struct manifest *manifest, const struct manifest_options *options)
{
    size_t size = options->map_size_bytes;
    unsigned flags = MDB_NOTLS | (options->read_only ? MDB_RDONLY : 0);
    int reclaimed = 0;
    int result = mdb_env_create(&manifest->environment);

    if (result != MDB_SUCCESS)
        return report(manifest, "cannot make an environment", result);
    if (size < MAP_SIZE_MIN_BYTES)
        size = MAP_SIZE_MIN_BYTES;
    /* LMDB itself takes more where the file has more. */
    result = mdb_env_set_mapsize(manifest->environment, (size + 4095) / 4096 * 4096);
    if (result == MDB_SUCCESS)
        result = mdb_env_set_assert(manifest->environment, assertion_failed);
    if (result == MDB_SUCCESS)
        result = mdb_env_open(manifest->environment, manifest->path, flags, 0600);
    if (result == MDB_SUCCESS) /* what readers killed in the middle still hold back (R20) */
        result = mdb_reader_check(manifest->environment, &reclaimed);
    if (result != MDB_SUCCESS)
        return report(manifest, "cannot open", result);
    manifest->statistics.readers_reclaimed = (uint64_t)reclaimed;
    return 0;
}

/* The file that LMDB opened is the one that was looked at. */
static int environment_check(struct manifest *manifest, int directory)
{
    struct stat opened, named;
    MDB_stat tree;
    int descriptor;
    int error = check_file(manifest, directory, "data.mdb", &named);

    if (error != 0)
        return error;
    if (mdb_env_get_fd(manifest->environment, &descriptor) != 0 || fstat(descriptor, &opened) != 0)
        return -EIO;
    if (!io_same_file(&opened, &named))
        return ERROR_REPLACED;
    if (mdb_env_stat(manifest->environment, &tree) != 0)
        return -EIO;
    manifest->page_size_bytes = tree.ms_psize;
    return 0;
}

static int database_open(struct manifest *manifest)
{
    struct manifest_transaction transaction = {0};
    int result;
    int error = transaction_begin(manifest, true, &transaction);

    if (error != 0)
        return error;
    result = mdb_dbi_open(transaction.handle, NULL, 0, &manifest->database);
    mdb_txn_abort(transaction.handle);
    return report(manifest, "cannot open the database", result);
}

/* Open what is there, or make it. `directory` is synced when files were made. */
static int content_open(struct manifest *manifest, const struct manifest_options *options,
                        int directory)
{
    bool present = false;
    int error = environment_check(manifest, directory);

    if (error == 0)
        error = database_open(manifest);
    if (error == 0) {
        invariant(manifest_is_durable(manifest));
        error = manifest_inspect(manifest, manifest_format_look, &present);
    }
    if (error != 0 || present)
        return error;
    if (!options->create) {
        log_error("manifest %s: no format record", manifest->path);
        return ERROR_CORRUPT;
    }
    error = manifest_update(manifest, manifest_create_records, NULL);
    if (error == 0 && fsync(directory) != 0)
        error = -errno;
    return error;
}

static int pages_check(const struct manifest *manifest, int directory)
{
    int error, descriptor = openat(directory, "data.mdb", O_RDONLY | O_NOFOLLOW | O_CLOEXEC);

    if (descriptor < 0)
        return -errno;
    error = manifest_pages_check(descriptor, manifest->path);
    (void)close(descriptor);
    return error;
}

static int open_in(struct manifest *manifest, const struct manifest_options *options, int directory)
{
    struct stat status, lock_file, data_file;
    int error;

    if (fstat(directory, &status) != 0)
        return -errno;
    error = check_file(manifest, directory, "lock.mdb", &lock_file);
    if (error == 0)
        error = check_file(manifest, directory, "data.mdb", &data_file);
    if (error != 0)
        return error;
    /* LMDB takes an empty file for an environment to be made. */
    if (data_file.st_size == 0 && !options->create) {
        log_error("manifest %s: data.mdb is missing or empty", manifest->path);
        return ERROR_TRUNCATED;
    }
    error = open_list_add(manifest, &status);
    if (error == 0 && data_file.st_size > 0)
        error = pages_check(manifest, directory);
    if (error != 0)
        return error;
    error = environment_open(manifest, options);
    if (error == 0)
        error = content_open(manifest, options, directory);
    return error;
}

static int directory_open(const char *path)
{
    struct stat status;
    int directory = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

    if (directory >= 0)
        return directory;
    /* Of a symbolic link O_DIRECTORY says that it is none. */
    if (errno == ENOTDIR && lstat(path, &status) == 0 && S_ISLNK(status.st_mode))
        return -ELOOP;
    return -errno;
}

int manifest_open(const struct manifest_options *options, struct manifest **ret_manifest)
{
    struct manifest *manifest;
    int error, directory;

    if (options->create && options->read_only)
        return -EINVAL;
    manifest = calloc(1, sizeof *manifest);
    if (manifest == NULL)
        return -ENOMEM;
    lock_init(&manifest->lock, LOCK_RANK_MANIFEST);
    manifest->process = getpid();
    manifest->io = options->io;
    manifest->read_only = options->read_only;
    manifest->change_log_entries_max = options->change_log_entries_max;
    manifest_set_slow_look_ms(manifest, SLOW_LOOK_MS);
    manifest->path = strdup(options->path);
    directory = directory_open(options->path);
    if (directory < 0)
        error = directory;
    else if (manifest->path == NULL)
        error = -ENOMEM;
    else
        error = open_in(manifest, options, directory);
    if (directory >= 0)
        (void)close(directory);
    if (error != 0)
        manifest_close(manifest);
    else
        *ret_manifest = manifest;
    return error;
}

void manifest_close(struct manifest *manifest)
{
    if (manifest == NULL)
        return;
    invariant(manifest->process == getpid());
    if (manifest->environment != NULL)
        mdb_env_close(manifest->environment);
    open_list_remove(manifest);
    lock_destroy(&manifest->lock);
    free(manifest->path);
    free(manifest);
}

static int statistics_of_log(struct manifest_transaction *transaction, void *context)
{
    struct manifest_statistics *statistics = context;
    uint64_t first, next;
    int error = manifest_changes_bounds(transaction, &first, &next);

    if (error == 0) {
        statistics->change_log_first = first;
        statistics->change_log_last = next - 1;
    }
    return error;
}

void manifest_poison(struct manifest *manifest)
{
    lock_acquire(&manifest->lock);
    manifest->poisoned = true;
    lock_release(&manifest->lock);
}

bool manifest_is_poisoned(struct manifest *manifest)
{
    bool poisoned;

    lock_acquire(&manifest->lock);
    poisoned = manifest->poisoned;
    lock_release(&manifest->lock);
    return poisoned;
}

void manifest_get_statistics(struct manifest *manifest, struct manifest_statistics *ret)
{
    struct manifest_statistics bounds = {0};
    int error = manifest_inspect(manifest, statistics_of_log, &bounds);

    lock_acquire(&manifest->lock);
    if (error == 0) {
        manifest->statistics.change_log_first = bounds.change_log_first;
        manifest->statistics.change_log_last = bounds.change_log_last;
    }
    if (!manifest->poisoned) { /* else there may be no map to look at: the last figures stand */
        manifest->statistics.map_size_bytes = map_size(manifest);
        manifest->statistics.used_bytes = used_bytes(manifest);
    }
    manifest->statistics.poisoned = manifest->poisoned;
    *ret = manifest->statistics;
    lock_release(&manifest->lock);
}
