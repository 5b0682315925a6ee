/* SPDX-License-Identifier: Apache-2.0 */
/*
 * disk_seam.c - LMDB's file and commits, and the callers of syncs, as seen by the disk model
 */
#include "tests/lib/disk_seam.h"

#include <errno.h>
#include <fcntl.h>
#include <lmdb.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/manifest.h"
#include "tests/lib/disk_call_site.h"
#include "tests/lib/disk_model.h"

#define FILE_NAME "data.mdb"

int __real_mdb_env_open(MDB_env *environment, const char *path, unsigned flags, mdb_mode_t mode);
int __wrap_mdb_env_open(MDB_env *environment, const char *path, unsigned flags, mdb_mode_t mode);
int __real_mdb_txn_commit(MDB_txn *transaction);
int __wrap_mdb_txn_commit(MDB_txn *transaction);
int __real_manifest_open(const struct manifest_options *options, struct manifest **ret_manifest);
int __wrap_manifest_open(const struct manifest_options *options, struct manifest **ret_manifest);
int __real_fsync(int descriptor);
int __wrap_fsync(int descriptor);
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

/* ---- real files ---- */

/* "<directory>/<name>" */
static void join(char to[4200], const char *directory, const char *name)
{
    if (snprintf(to, 4200, "%s/%s", directory, name) >= 4200)
        abort();
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

static void write_file(const char *path, const void *data, size_t size)
{
    int descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    if (descriptor < 0 || write(descriptor, data, size) != (ssize_t)size)
        abort();
    close(descriptor);
}

static void remove_real(const char *directory, const char *name)
{
    char path[4200];

    join(path, directory, name);
    if (unlink(path) != 0 && errno == EISDIR)
        (void)rmdir(path);
}

/* And those above it. */
static void make_real_directories(const char *path)
{
    char part[4200];

    join(part, path, "");
    for (char *slash = strchr(part + 1, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        if (mkdir(part, 0700) != 0 && errno != EEXIST)
            abort();
        *slash = '/';
    }
}

/* ---- the manifest's file, for LMDB ---- */

static int show_content(struct io *io, struct io_file *file, const char *path)
{
    struct stat status;
    void *data;
    int error = io_stat(io, file, &status);

    if (error < 0)
        return error;
    data = malloc((size_t)status.st_size + 1);
    if (data == NULL)
        abort();
    error = io_read_exact(io, file, data, (size_t)status.st_size, 0);
    if (error == 0)
        write_file(path, data, (size_t)status.st_size);
    free(data);
    return error;
}

/* At `path` there is what the disk has there: 0, or what looking gives. */
static int show(struct disk_model *disk, const char *path)
{
    struct io *io = disk_model_io(disk);
    struct io_file *directory, *file;
    struct stat status;
    char real[4200];
    int error = io_open_root(io, path, &directory);

    remove_real(path, FILE_NAME);
    remove_real(path, "lock.mdb");
    if (error < 0)
        return error;
    make_real_directories(path);
    join(real, path, FILE_NAME);
    error = io_stat_at(io, directory, FILE_NAME, &status);
    if (error == 0 && S_ISDIR(status.st_mode)) {
        make_real_directories(real);
    } else if (error == 0) {
        error = io_open(io, directory, FILE_NAME, IO_OPEN_READ, 0, &file);
        if (error == 0) {
            error = show_content(io, file, real);
            io_close(io, file);
        }
    }
    io_close(io, directory);
    return error == -ENOENT ? 0 : error;
}

int __wrap_manifest_open(const struct manifest_options *options, struct manifest **ret_manifest)
{
    struct disk_model *disk = disk_model_of_path(options->path);
    int error = disk != NULL ? show(disk, options->path) : 0;

    return error == 0 ? __real_manifest_open(options, ret_manifest) : error;
}

static int open_file(struct disk_model *disk, const char *path, int flags,
                     struct io_file **ret_file)
{
    struct io *io = disk_model_io(disk);
    struct io_file *directory;
    int error = io_open_root(io, path, &directory);

    if (error < 0)
        return error;
    error = io_open(io, directory, FILE_NAME, flags, 0600, ret_file);
    io_close(io, directory);
    return error;
}

/* LMDB makes the file when it is not there, and writes two pages without a sync. */
int __wrap_mdb_env_open(MDB_env *environment, const char *path, unsigned flags, mdb_mode_t mode)
{
    struct disk_model *disk = (flags & MDB_RDONLY) == 0 ? disk_model_of_path(path) : NULL;
    struct io_file *file = NULL;
    char real[4200];
    size_t size;
    void *data;
    int result =
        disk != NULL ? open_file(disk, path, IO_OPEN_WRITE | IO_OPEN_CREATE, &file) : -EEXIST;

    if (result < 0 && result != -EEXIST)
        return -result;
    result = __real_mdb_env_open(environment, path, flags, mode);
    if (file == NULL)
        return result;
    if (result == MDB_SUCCESS) {
        join(real, path, FILE_NAME);
        data = read_file(real, &size);
        result = -io_write(disk_model_io(disk), file, data, size, 0);
        free(data);
    }
    io_close(disk_model_io(disk), file);
    return result;
}

static int commit(struct disk_model *disk, MDB_txn *transaction, const char *path,
                  struct io_file *file)
{
    char real[4200];
    void *data = NULL;
    size_t size = 0;
    int result;

    disk_model_commit_begin(disk);
    result = __real_mdb_txn_commit(transaction);
    if (result == MDB_SUCCESS) {
        join(real, path, FILE_NAME);
        data = read_file(real, &size);
        atomic_fetch_add(&commits, 1);
    }
    disk_model_commit_end(disk, file, data, size);
    free(data);
    return result;
}

int __wrap_mdb_txn_commit(MDB_txn *transaction)
{
    struct disk_model *disk;
    struct io_file *file;
    const char *path;
    int result;

    if (mdb_env_get_path(mdb_txn_env(transaction), &path) != MDB_SUCCESS)
        abort();
    disk = disk_model_of_path(path);
    if (disk == NULL)
        return __real_mdb_txn_commit(transaction);
    if (open_file(disk, path, IO_OPEN_READ, &file) < 0)
        abort(); /* who has it open moves it nowhere */
    result = commit(disk, transaction, path, file);
    io_close(disk_model_io(disk), file);
    return result;
}

/* Only the manifest allocates by itself: space for a commit, in a file that here lies in memory. */
int __wrap_fallocate64(int descriptor, int mode, off_t offset, off_t size)
{
    (void)descriptor, (void)mode, (void)offset, (void)size;
    return 0;
}

/* ---- syncs ---- */

/* Only the manifest syncs by itself: its directory, when files were made there. */
int __wrap_fsync(int descriptor)
{
    char name[64], path[4200] = "";
    struct disk_model *disk;
    struct io_file *directory;
    int error;

    snprintf(name, sizeof name, "/proc/self/fd/%d", descriptor);
    if (readlink(name, path, sizeof path - 1) < 0)
        abort();
    disk = disk_model_of_path(path);
    if (disk == NULL)
        return __real_fsync(descriptor);
    error = io_open_root(disk_model_io(disk), path, &directory);
    if (error == 0) {
        disk_call_site = __builtin_return_address(0);
        error = __real_io_sync(disk_model_io(disk), directory, false);
        disk_call_site = NULL;
        io_close(disk_model_io(disk), directory);
    }
    errno = -error;
    return error == 0 ? 0 : -1;
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
