/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store.c - making, recognising, opening and locking the directory of a store
 */
#include "engine/store.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "engine/base/error.h"
#include "engine/base/log.h"
#include "engine/base/name_list.h"
#include "engine/manifest.h"

#define FORMAT_NAME     "FORMAT"
#define LOCK_NAME       "LOCK"
#define CURRENT_NAME    "CURRENT"
#define DIRECTORY_MODE  0700
#define LOCK_MODE       0600
#define SMALL_FILE_MODE 0444
#define TREE_DEPTH_MAX  32

/* The manifest grows its map by itself; this is where an empty one begins. */
#define MANIFEST_MAP_SIZE_BYTES ((size_t)1 << 20)

static const char *const live_directories[] = {"manifest", "wal", "chunks", "checkpoints", "tmp"};
#define LIVE_DIRECTORY_COUNT (sizeof live_directories / sizeof live_directories[0])

/* ---- small files and trees ---- */

static int write_and_sync(struct io *io, struct io_file *file, const void *data, size_t size)
{
    int error = io_write(io, file, data, size, 0);

    if (error == 0)
        error = io_chmod(io, file, SMALL_FILE_MODE);
    return error == 0 ? io_sync(io, file, false) : error;
}

int store_write_file(struct io *io, struct io_file *directory, const char *name, const void *data,
                     size_t size)
{
    char temporary[NAME_MAX + 1];
    struct io_file *file;
    int error;

    if (snprintf(temporary, sizeof temporary, "%s.tmp", name) >= (int)sizeof temporary)
        return -ENAMETOOLONG;
    error = io_unlink(io, directory, temporary); /* left by a crash */
    if (error != 0 && error != -ENOENT)
        return error;
    error = io_open(io, directory, temporary, IO_OPEN_WRITE | IO_OPEN_CREATE, 0600, &file);
    if (error != 0)
        return error;
    error = write_and_sync(io, file, data, size);
    if (error == 0)
        error = io_rename(io, directory, temporary, directory, name);
    if (error != 0)
        (void)io_unlink(io, directory, temporary);
    else
        error = io_sync(io, directory, false);
    io_close(io, file);
    return error;
}

static int remove_tree(struct io *io, struct io_file *directory, const char *name, unsigned depth);

/* The names are read first: removing while reading may skip some. */
static int remove_content(struct io *io, struct io_file *directory, unsigned depth)
{
    struct name_list list = {0};
    int error = io_list(io, directory, name_list_add, &list);

    for (size_t i = 0; error == 0 && i < list.count; i++)
        error = remove_tree(io, directory, list.names[i], depth);
    name_list_free(&list);
    return error;
}

static int remove_tree(struct io *io, struct io_file *directory, const char *name, unsigned depth)
{
    struct stat status;
    struct io_file *child;
    int error = io_stat_at(io, directory, name, &status);

    if (error == 0 && !S_ISDIR(status.st_mode))
        error = io_unlink(io, directory, name);
    else if (error == 0 && depth == TREE_DEPTH_MAX)
        error = -ELOOP;
    else if (error == 0) {
        error = io_open(io, directory, name, IO_OPEN_DIRECTORY, 0, &child);
        if (error == 0) {
            error = remove_content(io, child, depth + 1);
            io_close(io, child);
        }
        if (error == 0)
            error = io_rmdir(io, directory, name);
    }
    return error == -ENOENT ? 0 : error;
}

int store_remove_tree(struct io *io, struct io_file *directory, const char *name)
{
    return remove_tree(io, directory, name, 0);
}

/* ---- paths ---- */

static char *path_absolute(const char *path)
{
    char *working_directory, *result;

    if (path[0] == '/')
        return strdup(path);
    working_directory = getcwd(NULL, 0);
    if (working_directory == NULL)
        return NULL;
    if (asprintf(&result, "%s/%s", working_directory, path) < 0)
        result = NULL;
    free(working_directory);
    return result;
}

static char *path_join(const char *directory, const char *name)
{
    char *result;

    return asprintf(&result, "%s/%s", directory, name) < 0 ? NULL : result;
}

/* ---- making a store ---- */

struct creation {
    struct io *io;
    char *path;
    struct io_file *root, *lock;
    bool made_root;
    size_t made_directories;
};

/* mkdir of an absolute path without a slash at its end, whose parent exists. */
static int make_directory(struct io *io, const char *path)
{
    char *copy = strdup(path);
    struct io_file *parent;
    char *slash;
    int error;

    if (copy == NULL)
        return -ENOMEM;
    slash = strrchr(copy, '/');
    *slash = '\0';
    error = io_open_root(io, slash == copy ? "/" : copy, &parent);
    if (error == 0) {
        error = io_mkdir(io, parent, slash + 1, DIRECTORY_MODE);
        io_close(io, parent);
    }
    free(copy);
    return error;
}

static int say_not_empty(void *context, const char *name)
{
    (void)context;
    (void)name;
    return -ENOTEMPTY;
}

static int open_empty_root(struct creation *creation)
{
    struct io *io = creation->io;
    int error = io_open_root(io, creation->path, &creation->root);

    if (error == -ENOENT) {
        error = make_directory(io, creation->path);
        creation->made_root = error == 0;
        if (error == 0)
            error = io_open_root(io, creation->path, &creation->root);
    }
    return error == 0 ? io_list(io, creation->root, say_not_empty, NULL) : error;
}

/* LOCK comes first: of two who make a store in one directory, the second finds it and touches
 * nothing. */
static int make_lock(struct creation *creation)
{
    struct io *io = creation->io;
    int error = io_open(io, creation->root, LOCK_NAME, IO_OPEN_WRITE | IO_OPEN_CREATE, LOCK_MODE,
                        &creation->lock);

    if (error == -EEXIST)
        return -ENOTEMPTY;
    if (error == 0)
        error = io_lock(io, creation->lock);
    return error == 0 ? io_sync(io, creation->lock, false) : error;
}

static int sync_directory(struct io *io, struct io_file *root, const char *name)
{
    struct io_file *directory;
    int error = io_open(io, root, name, IO_OPEN_DIRECTORY, 0, &directory);

    if (error == 0) {
        error = io_sync(io, directory, false);
        io_close(io, directory);
    }
    return error;
}

/* manifest_open() syncs its own. */
static int make_directories(struct creation *creation)
{
    int error = 0;

    while (error == 0 && creation->made_directories < LIVE_DIRECTORY_COUNT) {
        const char *name = live_directories[creation->made_directories];

        error = io_mkdir(creation->io, creation->root, name, DIRECTORY_MODE);
        if (error == 0) {
            creation->made_directories++;
            if (strcmp(name, "manifest") != 0)
                error = sync_directory(creation->io, creation->root, name);
        }
    }
    return error;
}

static int make_manifest(struct creation *creation)
{
    struct manifest_options options = {.create = true, .map_size_bytes = MANIFEST_MAP_SIZE_BYTES};
    char *path = path_join(creation->path, "manifest");
    struct manifest *manifest;
    int error;

    if (path == NULL)
        return -ENOMEM;
    options.path = path;
    error = manifest_open(&options, &manifest);
    if (error == 0)
        manifest_close(manifest);
    free(path);
    return error;
}

static int make_format(struct creation *creation, const struct store_format *options)
{
    struct store_format format = *options;
    uint8_t bytes[STORE_FORMAT_SIZE];

    format.created_s = (uint64_t)time(NULL);
    if (getrandom(format.uuid, sizeof format.uuid, 0) != (ssize_t)sizeof format.uuid)
        return -errno;
    format.uuid[6] = (uint8_t)((format.uuid[6] & 0x0f) | 0x40); /* RFC 9562: version 4 */
    format.uuid[8] = (uint8_t)((format.uuid[8] & 0x3f) | 0x80);
    store_format_encode(&format, bytes);
    return store_write_file(creation->io, creation->root, FORMAT_NAME, bytes, sizeof bytes);
}

/* The name of the root itself. Of a directory that was there before only where that is allowed. */
static int sync_parent(struct creation *creation)
{
    char *path = path_join(creation->path, "..");
    struct io_file *parent;
    int error;

    if (path == NULL)
        return -ENOMEM;
    error = io_open_root(creation->io, path, &parent);
    free(path);
    if (error != 0)
        return creation->made_root ? error : 0;
    error = io_sync(creation->io, parent, false);
    io_close(creation->io, parent);
    return error;
}

/* After a failure: remove what was made here, and nothing else. */
static void undo_creation(struct creation *creation)
{
    struct io *io = creation->io;

    if (creation->lock != NULL) {
        (void)io_unlink(io, creation->root, FORMAT_NAME);
        while (creation->made_directories > 0)
            (void)store_remove_tree(io, creation->root,
                                    live_directories[--creation->made_directories]);
        (void)io_unlink(io, creation->root, LOCK_NAME);
    }
    if (creation->made_root) {
        char *path = path_join(creation->path, "..");
        struct io_file *parent;
        const char *slash = strrchr(creation->path, '/');

        if (path != NULL && io_open_root(io, path, &parent) == 0) {
            (void)io_rmdir(io, parent, slash + 1);
            io_close(io, parent);
        }
        free(path);
    }
}

static int fill(struct creation *creation, store_fill_callback *callback, void *context)
{
    char *path = path_join(creation->path, "manifest");
    struct io_file *chunks;
    int error = path == NULL ? -ENOMEM
                             : io_open(creation->io, creation->root, "chunks", IO_OPEN_DIRECTORY, 0,
                                       &chunks);

    if (error == 0) {
        error = callback(context, chunks, path);
        io_close(creation->io, chunks);
    }
    free(path);
    return error;
}

static int create_all(struct creation *creation, const struct store_format *options,
                      store_fill_callback *callback, void *context)
{
    int error = open_empty_root(creation);

    if (error == 0)
        error = make_lock(creation);
    if (error == 0)
        error = make_directories(creation);
    if (error == 0)
        error = make_manifest(creation);
    if (error == 0 && callback != NULL)
        error = fill(creation, callback, context);
    if (error == 0)
        error = io_sync(creation->io, creation->root, false);
    if (error == 0)
        error = sync_parent(creation);
    if (error == 0)
        error = make_format(creation, options);
    return error;
}

static void path_strip(char *path)
{
    for (size_t end = strlen(path); end > 1 && path[end - 1] == '/'; end--)
        path[end - 1] = '\0';
}

int store_create_filled(struct io *io, const char *path, const struct store_format *options,
                        store_fill_callback *callback, void *context)
{
    struct creation creation = {.io = io};
    int error;

    if (options->chunk_size_bytes == 0 || path[0] == '\0')
        return -EINVAL;
    creation.path = path_absolute(path);
    if (creation.path == NULL)
        return -ENOMEM;
    path_strip(creation.path);
    error = create_all(&creation, options, callback, context);
    if (error != 0)
        undo_creation(&creation);
    io_close(io, creation.lock);
    io_close(io, creation.root);
    free(creation.path);
    return error;
}

int store_create(struct io *io, const char *path, const struct store_format *options)
{
    return store_create_filled(io, path, options, NULL, NULL);
}

/* ---- opening a store ---- */

/* Log a failure with the file it is about; passes it through. */
static int say(const struct store *store, const char *name, int error)
{
    if (error != 0)
        log_error("store %s: %s: %s", store->path, name, error_text(error));
    return error;
}

static int format_read(struct store *store)
{
    uint8_t bytes[STORE_FORMAT_SIZE + 1] = {0};
    struct store_format expected = {0};
    uint8_t beginning[STORE_FORMAT_SIZE];
    struct io_file *file;
    int64_t count;
    int error = io_open(store->io, store->root, FORMAT_NAME, IO_OPEN_READ, 0, &file);

    if (error != 0)
        return error == -ENOENT || error == -EISDIR ? ERROR_NOT_STORE : error;
    count = io_read(store->io, file, bytes, sizeof bytes, 0);
    io_close(store->io, file);
    if (count < 0)
        return (int)count;
    if (count < STORE_FORMAT_SIZE) {
        /* Ours, as far as it goes? */
        store_format_encode(&expected, beginning);
        return memcmp(bytes, beginning, count < 8 ? (size_t)count : 8) == 0 ? ERROR_TRUNCATED
                                                                            : ERROR_NOT_STORE;
    }
    error = store_format_decode(bytes, &store->format);
    return error == 0 && count > STORE_FORMAT_SIZE ? ERROR_CORRUPT : error;
}

/* 1: there is something of that name (a symbolic link counts: opening it will refuse it), 0, error.
 */
static int name_exists(struct store *store, const char *name)
{
    struct stat status;
    int error = io_stat_at(store->io, store->root, name, &status);

    if (error == -ENOENT)
        return 0;
    return error == 0 ? 1 : error;
}

static int kind_find(struct store *store)
{
    int has_lock = name_exists(store, LOCK_NAME);
    int has_current = name_exists(store, CURRENT_NAME);
    int has_manifest = name_exists(store, "manifest");

    if (has_lock < 0 || has_current < 0 || has_manifest < 0)
        return has_lock < 0 ? has_lock : has_current < 0 ? has_current : has_manifest;
    store->kind = has_lock ? STORE_LIVE : STORE_CHECKPOINT;
    if (has_lock || has_current)
        return 0;
    /* A live store that lost LOCK may be in use by somebody who holds the one that is gone: making
     * a new one would let two in. */
    return has_manifest ? say(store, LOCK_NAME " is missing", ERROR_CORRUPT)
                        : say(store, CURRENT_NAME " is missing", ERROR_NOT_STORE);
}

static int directory_open(struct store *store, const char *name, struct io_file **ret_directory)
{
    int error = io_open(store->io, store->root, name, IO_OPEN_DIRECTORY, 0, ret_directory);

    if (error == -ENOENT || error == -ENOTDIR)
        error = ERROR_CORRUPT;
    return say(store, name, error);
}

/* The lock counts only while LOCK still names the locked file. */
static int lock_check_name(struct store *store)
{
    struct stat locked, named;
    int error = io_stat(store->io, store->lock, &locked);

    if (error == 0)
        error = io_stat_at(store->io, store->root, LOCK_NAME, &named);
    if (error == 0 && !io_same_file(&locked, &named))
        error = ERROR_REPLACED;
    return error;
}

static int lock_take(struct store *store, bool writable)
{
    int error = io_open(store->io, store->root, LOCK_NAME, writable ? IO_OPEN_WRITE : IO_OPEN_READ,
                        0, &store->lock);

    if (error == 0)
        error = io_lock(store->io, store->lock);
    if (error == 0)
        error = lock_check_name(store);
    return error;
}

static int live_open(struct store *store, bool writable)
{
    struct io_file **const files[LIVE_DIRECTORY_COUNT] = {
        &store->manifest, &store->wal, &store->chunks, &store->checkpoints, &store->tmp};
    int error = lock_take(store, writable);

    /* Where nothing can be written it may still be opened for reading. */
    if (error != -EROFS)
        (void)say(store, LOCK_NAME, error);

    for (size_t i = 0; error == 0 && i < LIVE_DIRECTORY_COUNT; i++)
        error = directory_open(store, live_directories[i], files[i]);
    /* Who made the store, or its manifest anew, may have been killed before the names of FORMAT and
     * manifest/ were on the disk: what is written from now on must not go with them. */
    if (error == 0 && writable)
        error = say(store, "its directory", io_sync(store->io, store->root, false));
    if (error == 0 && writable)
        error = say(store, "tmp", store_sweep(store));
    return error;
}

static int open_all(struct store *store, bool writable)
{
    int error = io_open_root(store->io, store->path, &store->root);

    if (error != 0)
        return error;
    error = say(store, FORMAT_NAME, format_read(store));
    if (error == 0)
        error = kind_find(store);
    if (error != 0)
        return error;
    if (store->kind == STORE_LIVE)
        return live_open(store, writable);
    return writable ? -EROFS : directory_open(store, "chunks", &store->chunks);
}

int store_open(struct io *io, const char *path, bool writable, struct store **ret_store)
{
    struct store *store;
    int error;

    if (path[0] == '\0')
        return -ENOENT;
    store = calloc(1, sizeof *store);
    if (store == NULL)
        return -ENOMEM;
    store->io = io;
    store->path = path_absolute(path);
    error = store->path == NULL ? -ENOMEM : open_all(store, writable);
    if (error != 0)
        store_close(store);
    else
        *ret_store = store;
    return error;
}

void store_close(struct store *store)
{
    if (store == NULL)
        return;
    io_close(store->io, store->tmp);
    io_close(store->io, store->checkpoints);
    io_close(store->io, store->chunks);
    io_close(store->io, store->wal);
    io_close(store->io, store->manifest);
    io_close(store->io, store->lock); /* last but one: the lock goes with it */
    io_close(store->io, store->root);
    free(store->path);
    free(store);
}

int store_check_root(struct store *store)
{
    struct stat opened, named;
    struct io_file *now;
    int error = io_open_root(store->io, store->path, &now);

    if (error == -ENOENT || error == -ENOTDIR || error == -ELOOP)
        return ERROR_REPLACED;
    if (error != 0)
        return error;
    error = io_stat(store->io, now, &named);
    io_close(store->io, now);
    if (error == 0)
        error = io_stat(store->io, store->root, &opened);
    if (error == 0 && !io_same_file(&named, &opened))
        error = ERROR_REPLACED;
    return error;
}
