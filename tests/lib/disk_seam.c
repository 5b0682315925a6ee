/* SPDX-License-Identifier: Apache-2.0 */
/*
 * disk_seam.c - LMDB's commits and the callers of syncs, as seen by the disk model
 */
#include "tests/lib/disk_seam.h"

#include <errno.h>
#include <fcntl.h>
#include <lmdb.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/lib/disk_call_site.h"
#include "tests/lib/disk_model.h"

int __real_mdb_txn_commit(MDB_txn *transaction);
int __wrap_mdb_txn_commit(MDB_txn *transaction);
int __real_io_sync(struct io *io, struct io_file *file, bool data_only);
int __wrap_io_sync(struct io *io, struct io_file *file, bool data_only);
int __real_io_sync_filesystem(struct io *io, struct io_file *file);
int __wrap_io_sync_filesystem(struct io *io, struct io_file *file);
int __wrap_fallocate64(int descriptor, int mode, off_t offset, off_t size);

static _Atomic uint64_t commits;

uint64_t disk_seam_commits(void)
{
    return atomic_load(&commits);
}

/* The whole file; to be freed. */
static void *read_file(const char *path, size_t *ret_size)
{
    int descriptor = open(path, O_RDONLY | O_CLOEXEC);
    struct stat status;
    void *data;

    if (descriptor < 0 || fstat(descriptor, &status) != 0)
        abort();
    data = malloc((size_t)status.st_size + 1);
    if (data == NULL || read(descriptor, data, (size_t)status.st_size) != (ssize_t)status.st_size)
        abort();
    close(descriptor);
    *ret_size = (size_t)status.st_size;
    return data;
}

int __wrap_mdb_txn_commit(MDB_txn *transaction)
{
    MDB_env *environment = mdb_txn_env(transaction);
    struct disk_model *disk;
    const char *path;
    char file[4200];
    void *data = NULL;
    size_t size = 0;
    int result;

    if (mdb_env_get_path(environment, &path) != MDB_SUCCESS)
        abort();
    disk = disk_model_of_path(path);
    if (disk == NULL)
        return __real_mdb_txn_commit(transaction);
    result = disk_model_commit_begin(disk);
    if (result != 0) {
        mdb_txn_abort(transaction);
        return -result;
    }
    result = __real_mdb_txn_commit(transaction);
    if (result == MDB_SUCCESS) {
        snprintf(file, sizeof file, "%s/data.mdb", path);
        data = read_file(file, &size);
        atomic_fetch_add(&commits, 1);
    }
    disk_model_commit_end(disk, data, size);
    free(data);
    return result;
}

/* Only the manifest allocates by itself: space for a commit, in a file that here lies in memory. */
int __wrap_fallocate64(int descriptor, int mode, off_t offset, off_t size)
{
    (void)descriptor, (void)mode, (void)offset, (void)size;
    return 0;
}

int __wrap_io_sync(struct io *io, struct io_file *file, bool data_only)
{
    int result;

    disk_call_site = __builtin_return_address(0);
    result = __real_io_sync(io, file, data_only);
    disk_call_site = NULL;
    return result;
}

int __wrap_io_sync_filesystem(struct io *io, struct io_file *file)
{
    int result;

    disk_call_site = __builtin_return_address(0);
    result = __real_io_sync_filesystem(io, file);
    disk_call_site = NULL;
    return result;
}
