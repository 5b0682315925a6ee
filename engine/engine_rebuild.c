/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine_rebuild.c - is the manifest usable, and the steps of making one anew
 */
#include "engine/engine_rebuild.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "engine/manifest_codec.h"
#include "engine/rebuild_internal.h"

#define CACHE_BYTES (8 * 1024 * 1024)
/* The manifest's directory, while it is made. */
#define FRESH_DIRECTORY "manifest.new"

int rebuild_grow(void *array_pointer, size_t element_size, size_t count, size_t *capacity)
{
    void **array = array_pointer;
    size_t wanted = *capacity * 2 + 16;
    void *grown;

    if (count < *capacity)
        return 0;
    grown = reallocarray(*array, wanted, element_size);
    if (grown == NULL)
        return -ENOMEM;
    *array = grown;
    *capacity = wanted;
    return 0;
}

/* ---- the whole ---- */

/* 1: it is a live store for certain, and its manifest's directory is gone; 0: not; or an error. */
static int lacks_manifest(struct io *io, struct io_file *root)
{
    static const char *const others[] = {"LOCK", "FORMAT", "wal"};
    struct stat status;
    int error = io_stat_at(io, root, "manifest", &status);

    if (error != -ENOENT)
        return error;
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        error = io_stat_at(io, root, others[i], &status);
        if (error < 0)
            return error == -ENOENT ? 0 : error;
    }
    return 1;
}

/* It is on the disk before it gets its name: without a journal a cut can leave a name that leads to
 * what its inode was before, and a file of that name is no directory that is gone. */
static int make_manifest_directory(struct io *io, struct io_file *root)
{
    struct io_file *directory;
    int error = store_remove_tree(io, root, FRESH_DIRECTORY);

    if (error == 0)
        error = io_mkdir(io, root, FRESH_DIRECTORY, 0700);
    if (error == 0)
        error = io_open(io, root, FRESH_DIRECTORY, IO_OPEN_DIRECTORY, 0, &directory);
    if (error < 0)
        return error;
    error = io_sync(io, directory, false);
    io_close(io, directory);
    /* store_open() syncs the root. */
    return error == 0 ? io_rename(io, root, FRESH_DIRECTORY, root, "manifest") : error;
}

/* store_open() wants every directory; one that is gone was empty of anything but the manifest. */
static int open_store(struct rebuild *rebuild, const char *path)
{
    struct io_file *root;
    int error = io_open_root(rebuild->io, path, &root);

    if (error < 0)
        return error;
    error = lacks_manifest(rebuild->io, root);
    if (error > 0)
        error = make_manifest_directory(rebuild->io, root);
    io_close(rebuild->io, root);
    if (error == 0)
        error = store_open(rebuild->io, path, true, &rebuild->store);
    return error;
}

static int rebuild_steps(struct rebuild *rebuild)
{
    int error = rebuild_find_chunks(rebuild);

    if (error == 0)
        error = rebuild_find_snapshots(rebuild);
    if (error == 0) {
        rebuild_leave_unfinished(rebuild);
        error = rebuild_find_log(rebuild);
    }
    if (error == 0)
        error = rebuild_merge(rebuild);
    if (error == 0)
        error = rebuild_make_manifest(rebuild);
    return error == 0 ? rebuild_put_in_place(rebuild) : error;
}

static void rebuild_free(struct rebuild *rebuild)
{
    table_writer_free(rebuild->writer);
    for (size_t i = 0; i < rebuild->input_count; i++)
        version_table_unref(rebuild->inputs[i]);
    free(rebuild->inputs);
    manifest_tables_free(rebuild->outputs, rebuild->output_count);
    for (size_t i = 0; i < rebuild->snapshot_count; i++)
        manifest_checkpoint_free(&rebuild->snapshots[i]);
    free(rebuild->snapshots);
    free(rebuild->blobs);
    free(rebuild->elsewhere);
    free(rebuild->files);
    block_cache_free(rebuild->cache);
    store_close(rebuild->store);
}

int engine_rebuild(struct io *io, const char *path, struct engine_rebuild_result *ret_result)
{
    struct rebuild rebuild = {.io = io, .next_checkpoint_id = 1};
    int error = open_store(&rebuild, path);

    if (error == 0) {
        rebuild.cache = block_cache_new(CACHE_BYTES);
        rebuild.source =
            (struct version_source){io, rebuild.store->chunks,
                                    store_format_chunk_uuid(&rebuild.store->format), rebuild.cache};
        error = rebuild.cache != NULL ? rebuild_steps(&rebuild) : -ENOMEM;
    }
    if (error == 0) {
        rebuild.result.last_sequence = rebuild.last_sequence;
        *ret_result = rebuild.result;
    }
    rebuild_free(&rebuild);
    return error;
}

/* ---- is it needed? ---- */

static int manifest_is_gone(struct io *io, const char *path)
{
    struct io_file *root;
    int result = io_open_root(io, path, &root);

    if (result < 0)
        return result;
    result = lacks_manifest(io, root);
    io_close(io, root);
    return result;
}

static int load_and_drop(const char *path)
{
    const struct manifest_options options = {
        .path = path, .read_only = true, .map_size_bytes = REBUILD_MAP_BYTES};
    struct manifest_state state = {0};
    struct manifest *manifest;
    int error = manifest_open(&options, &manifest);

    if (error < 0)
        return error;
    error = manifest_load(manifest, &state);
    if (error == 0)
        manifest_state_free(&state);
    manifest_close(manifest);
    return error;
}

int engine_manifest_check(struct io *io, const char *path, int *ret_damage)
{
    struct store *store;
    char manifest_path[4096];
    int damage, gone = 0, error = store_open(io, path, false, &store);

    if (error == ERROR_CORRUPT)
        gone = manifest_is_gone(io, path);
    if (gone > 0)
        *ret_damage = ERROR_TRUNCATED;
    if (gone != 0)
        return gone < 0 ? gone : 0;
    if (error < 0)
        return error;
    if (store->kind == STORE_CHECKPOINT) {
        *ret_damage = 0; /* it has a sealed one, of which there is no other */
    } else if (snprintf(manifest_path, sizeof manifest_path, "%s/manifest", store->path) >=
               (int)sizeof manifest_path) {
        error = -ENAMETOOLONG;
    } else {
        damage = load_and_drop(manifest_path);
        /* Damage is what a new manifest would cure. */
        if (damage == 0 || error_errno(damage) == -EIO)
            *ret_damage = damage;
        else
            error = damage;
    }
    store_close(store);
    return error;
}
