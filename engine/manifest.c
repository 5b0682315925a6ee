/* SPDX-License-Identifier: Apache-2.0 */
/*
 * manifest.c - the environment of the manifest: opened (once in a process), closed, its state
 *
 * All use of LMDB is here, in manifest_transaction.c and in manifest_record.c. The rules of
 * opening that keep it safe:
 *   - Durable flags only: a commit is a write of the dirty pages, a sync, then the meta page
 *     through a descriptor opened for synchronous writes. MDB_NOTLS says nothing about durability:
 *     it ties a reader's slot to the transaction instead of to the thread, so that one slot is
 *     enough whatever the number of threads.
 *   - What LMDB trusts is looked at before it does: a data file that ends before its last page
 *     would kill the process at the first touch of the mapping.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/base/error.h"
#include "engine/base/invariant.h"
#include "engine/base/log.h"
#include "engine/manifest_internal.h"
#include "engine/manifest_pages.h"

#define MAP_SIZE_MIN_BYTES ((size_t)64 * 1024)
#define SLOW_LOOK_MS       5000

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

/* LMDB found its own structure broken. It would abort in any case: say where, first. */
static void assertion_failed(MDB_env *environment, const char *message)
{
    const char *path = "?";

    (void)mdb_env_get_path(environment, &path);
    log_error("manifest %s: %s", path, message);
    invariant_fail(message, "liblmdb", 0);
}

static int environment_open(struct manifest *manifest, const struct manifest_options *options)
{
    size_t size = options->map_size_bytes;
    unsigned flags = MDB_NOTLS | (options->read_only ? MDB_RDONLY : 0);
    int reclaimed = 0;
    int result = mdb_env_create(&manifest->environment);

    if (result != MDB_SUCCESS)
        return manifest_report(manifest, "cannot make an environment", result);
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
        return manifest_report(manifest, "cannot open", result);
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
    int error = manifest_transaction_begin(manifest, true, &transaction);

    if (error != 0)
        return error;
    result = mdb_dbi_open(transaction.handle, NULL, 0, &manifest->database);
    mdb_txn_abort(transaction.handle);
    return manifest_report(manifest, "cannot open the database", result);
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

/* ---- state ---- */

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

uint64_t manifest_change_log_entries_max(const struct manifest *manifest)
{
    return manifest->change_log_entries_max;
}

void manifest_set_slow_look_ms(struct manifest *manifest, uint32_t slow_look_ms)
{
    manifest->slow_look_ns = (uint64_t)slow_look_ms * 1000000;
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
        manifest->statistics.map_size_bytes = manifest_map_size(manifest);
        manifest->statistics.used_bytes = manifest_used_bytes(manifest);
    }
    manifest->statistics.poisoned = manifest->poisoned;
    *ret = manifest->statistics;
    lock_release(&manifest->lock);
}
