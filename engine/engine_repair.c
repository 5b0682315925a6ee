/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine_repair.c - links made again, directories taken in or away
 */
#include "engine/engine_repair.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "engine/engine_internal.h"

#define MAP_BYTES  (64 * 1024 * 1024)
#define STRAY_NAME "stray" /* in tmp/, which the opening before has emptied */

struct repair {
    struct io *io;
    struct store *store;
    struct manifest *manifest;
    struct manifest_state state;
    engine_repair_report *report;
    void *context;
    bool change;
    enum engine_repair_strays strays;
    char **names; /* of checkpoints/ */
    size_t name_count, name_capacity;
};

static void __attribute__((format(printf, 3, 4)))
tell(const struct repair *repair, bool repaired, const char *format, ...)
{
    char line[1024];
    va_list arguments;

    va_start(arguments, format);
    (void)vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    repair->report(repair->context, line, repaired);
}

static int add_name(void *context, const char *name)
{
    struct repair *repair = context;

    if (repair->name_count == repair->name_capacity) {
        size_t capacity = repair->name_capacity * 2 + 16;
        char **grown = reallocarray(repair->names, capacity, sizeof *grown);

        if (grown == NULL)
            return -ENOMEM;
        repair->names = grown;
        repair->name_capacity = capacity;
    }
    repair->names[repair->name_count] = strdup(name);
    if (repair->names[repair->name_count] == NULL)
        return -ENOMEM;
    repair->name_count++;
    return 0;
}

static int repair_open(struct repair *repair, const char *path, bool writable)
{
    struct manifest_options options = {
        .read_only = !writable, .map_size_bytes = MAP_BYTES, .change_log_entries_max = 4096};
    char manifest_path[4096];
    int error = store_open(repair->io, path, false, &repair->store);

    if (error < 0)
        return error;
    if (repair->store->kind == STORE_CHECKPOINT)
        return -EROFS;
    if (snprintf(manifest_path, sizeof manifest_path, "%s/manifest", repair->store->path) >=
        (int)sizeof manifest_path)
        return -ENAMETOOLONG;
    options.path = manifest_path;
    error = manifest_open(&options, &repair->manifest);
    if (error == 0)
        error = manifest_load(repair->manifest, &repair->state);
    if (error == 0)
        error = io_list(repair->io, repair->store->checkpoints, add_name, repair);
    return error;
}

static void repair_close(struct repair *repair)
{
    manifest_state_free(&repair->state);
    manifest_close(repair->manifest);
    store_close(repair->store);
    for (size_t i = 0; i < repair->name_count; i++)
        free(repair->names[i]);
    free(repair->names);
}

/* ---- chunks ---- */

/* chunks/ of a snapshot's directory. */
static int open_chunks(struct repair *repair, const char *name, struct io_file **ret_directory,
                       struct io_file **ret_chunks)
{
    int error =
        io_open(repair->io, repair->store->checkpoints, name, IO_OPEN_DIRECTORY, 0, ret_directory);

    if (error < 0)
        return error;
    error = io_open(repair->io, *ret_directory, "chunks", IO_OPEN_DIRECTORY, 0, ret_chunks);
    if (error < 0)
        io_close(repair->io, *ret_directory);
    return error;
}

/* Is it there, with the size that it must have? 1, 0 or an error. */
static int has_chunk(struct repair *repair, struct io_file *chunks,
                     const struct chunk_identity *identity)
{
    struct stat status;
    char name[CHUNK_NAME_SIZE];
    int error;

    chunk_name(name, identity);
    error = io_stat_at(repair->io, chunks, name, &status);
    if (error == -ENOENT)
        return 0;
    return error < 0 ? error : (uint64_t)status.st_size == identity->file_size_bytes;
}

/* 1: done; 0: not from there; or an error that ends it. */
static int link_from(struct repair *repair, struct io_file *from, struct io_file *to,
                     const struct chunk_identity *identity)
{
    char name[CHUNK_NAME_SIZE];
    int result = has_chunk(repair, from, identity);

    if (result <= 0)
        return result;
    chunk_name(name, identity);
    result = checkpoint_files_relink(repair->store, from, to, name);
    if (result == 0)
        return 1;
    return result == -EIO || error_is_shortage(result) ? result : 0;
}

/* Link it into `chunks` from wherever it still is: 1 done, 0 nowhere. */
static int find_and_link(struct repair *repair, struct io_file *chunks,
                         const struct chunk_identity *identity)
{
    struct io_file *directory, *from;
    int found = link_from(repair, repair->store->chunks, chunks, identity);

    for (size_t i = 0; found == 0 && i < repair->name_count; i++) {
        if (open_chunks(repair, repair->names[i], &directory, &from) < 0)
            continue;
        found = link_from(repair, from, chunks, identity);
        io_close(repair->io, from);
        io_close(repair->io, directory);
    }
    return found;
}

static int check_chunk(struct repair *repair, const char *owner, struct io_file *chunks,
                       const struct chunk_identity *identity)
{
    struct stat status;
    char name[CHUNK_NAME_SIZE];
    int present = has_chunk(repair, chunks, identity), linked = 0;

    if (present != 0)
        return present < 0 ? present : 0;
    chunk_name(name, identity);
    /* One of another size is damaged, not missing: it is left for verify to speak of. */
    if (io_stat_at(repair->io, chunks, name, &status) == 0)
        return 0;
    if (repair->change)
        linked = find_and_link(repair, chunks, identity);
    if (linked >= 0)
        tell(repair, linked > 0, "%s: chunk %s is missing%s", owner, name,
             linked > 0 ? ": linked again from where it still is" : "");
    return linked < 0 ? linked : 0;
}

static int check_snapshot_chunks(struct repair *repair, const char *name)
{
    struct sealed_manifest sealed = {0};
    struct io_file *directory, *chunks;
    struct checksum128 hash;
    char owner[300];
    int error = open_chunks(repair, name, &directory, &chunks);

    if (error < 0)
        return 0; /* the check of strays and of snapshots says so */
    (void)snprintf(owner, sizeof owner, "snapshot %s", name);
    if (sealed_manifest_read(repair->io, directory, &sealed, &hash) == 0) {
        for (size_t i = 0; error == 0 && i < sealed.table_count; i++)
            error = check_chunk(repair, owner, chunks, &sealed.tables[i].meta.identity);
        for (size_t i = 0; error == 0 && i < sealed.blob_count; i++)
            error = check_chunk(repair, owner, chunks, &sealed.blobs[i]);
        sealed_manifest_free(&sealed);
    }
    io_close(repair->io, chunks);
    io_close(repair->io, directory);
    return error;
}

int engine_repair_chunks(struct io *io, const char *path, bool change, engine_repair_report *report,
                         void *context)
{
    struct repair repair = {.io = io, .change = change, .report = report, .context = context};
    int error = repair_open(&repair, path, false);

    if (error == 0 && change)
        error = store_sweep(repair.store);
    for (size_t i = 0; error == 0 && i < repair.state.table_count; i++)
        error = check_chunk(&repair, "live tree", repair.store->chunks,
                            &repair.state.tables[i].meta.identity);
    for (size_t i = 0; error == 0 && i < repair.state.blob_count; i++)
        error = check_chunk(&repair, "live tree", repair.store->chunks, &repair.state.blobs[i]);
    for (size_t i = 0; error == 0 && i < repair.name_count; i++)
        error = check_snapshot_chunks(&repair, repair.names[i]);
    /* Links, and what a run that was killed had put right: nobody would do that again. */
    if (error == 0 && change)
        error = io_sync_filesystem(io, repair.store->chunks);
    repair_close(&repair);
    return error;
}

/* ---- the log ---- */

static int pass_piece(void *context, const struct blob_piece *piece)
{
    (void)context, (void)piece;
    return 0;
}

static int pass_entry(void *context, const struct wal_replay_entry *entry)
{
    (void)context, (void)entry;
    return 0;
}

static int check_log(struct repair *repair)
{
    const struct wal_replay_callbacks callbacks = {pass_piece, pass_entry, NULL};
    const uint8_t *uuid = repair->store->format.uuid;
    struct wal_replay_result log = {0};
    uint64_t synced, last = repair->state.scalars.last_sequence;
    int error = engine_witness_read(repair->io, repair->store->wal, uuid, &synced);

    if (error < 0 || synced <= last)
        return error;
    error = wal_replay(repair->io, repair->store->wal, uuid, repair->state.scalars.wal_segment,
                       false, &callbacks, &log);
    if (error < 0)
        return error_errno(error) == -EIO ? 0 : error; /* opening the store says what it is */
    if (log.last_sequence > last)
        last = log.last_sequence;
    if (synced <= last)
        return 0;
    if (repair->change)
        error = engine_witness_remove(repair->io, repair->store->wal);
    if (error == 0)
        tell(repair, repair->change,
             "the log ends at operation %llu, although all up to operation %llu were synced%s",
             (unsigned long long)last, (unsigned long long)synced,
             repair->change ? ": what followed is given up" : "");
    return error;
}

int engine_repair_log(struct io *io, const char *path, bool change, engine_repair_report *report,
                      void *context)
{
    struct repair repair = {.io = io, .change = change, .report = report, .context = context};
    int error = repair_open(&repair, path, false);

    if (error == 0)
        error = check_log(&repair);
    repair_close(&repair);
    return error;
}

/* ---- directories that nobody knows ---- */

static bool is_known(const struct repair *repair, const char *name)
{
    for (size_t i = 0; i < repair->state.checkpoint_count; i++)
        if (slice_equal(buffer_slice(&repair->state.checkpoints[i].name), slice_of_string(name)))
            return true;
    return false;
}

static bool has_id(const struct repair *repair, uint64_t id)
{
    for (size_t i = 0; i < repair->state.checkpoint_count; i++)
        if (repair->state.checkpoints[i].id == id)
            return true;
    return false;
}

static int adopt(struct repair *repair, const char *name, const struct sealed_manifest *sealed,
                 const struct checksum128 *hash)
{
    struct manifest_checkpoint checkpoint = {
        .id = sealed->checkpoint_id,
        .state = MANIFEST_CHECKPOINT_READY,
        .sequence = sealed->sequence,
        .linked_files = sealed->table_count + sealed->blob_count,
        .manifest_hash = *hash,
    };
    struct manifest_scalars scalars = repair->state.scalars;
    struct manifest_edit edit = {.put_checkpoint = &checkpoint, .scalars = &scalars};
    int error = buffer_assign(&checkpoint.name, name, strlen(name));

    if (scalars.next_checkpoint_id <= checkpoint.id)
        scalars.next_checkpoint_id = checkpoint.id + 1;
    if (error == 0)
        error = buffer_assign(&checkpoint.payload, sealed->payload.data, sealed->payload.size);
    if (error == 0)
        error = manifest_commit(repair->manifest, &edit);
    if (error == 0)
        repair->state.scalars = scalars;
    manifest_checkpoint_free(&checkpoint);
    return error;
}

static int take_in(struct repair *repair, const char *name, const struct sealed_manifest *sealed,
                   const struct checksum128 *hash)
{
    bool wanted = repair->strays == ENGINE_STRAYS_ADOPT;
    int error = wanted ? adopt(repair, name, sealed, hash) : 0;

    if (error == 0)
        tell(repair, wanted, "checkpoints/%s is a snapshot that the manifest does not know%s", name,
             wanted ? ": taken in again" : "");
    return error;
}

/* Its chunks may be in use, with link counts that a cut has left too low: the sweep knows of that. */
static int remove_stray(struct repair *repair, const char *name)
{
    struct store *store = repair->store;
    int error = io_rename(repair->io, store->checkpoints, name, store->tmp, STRAY_NAME);

    return error == 0 ? store_sweep(store) : error;
}

static int take_away(struct repair *repair, const char *name)
{
    bool wanted = repair->strays != ENGINE_STRAYS_LOOK;
    int error = wanted ? remove_stray(repair, name) : 0;

    if (error == 0)
        tell(repair, wanted,
             "checkpoints/%s is no complete snapshot, and the manifest knows of "
             "none there%s",
             name, wanted ? ": removed" : "");
    return error;
}

static int check_stray(struct repair *repair, const char *name)
{
    struct sealed_manifest sealed = {0};
    struct io_file *directory;
    struct checksum128 hash;
    int error;

    if (is_known(repair, name))
        return 0;
    error = io_open(repair->io, repair->store->checkpoints, name, IO_OPEN_DIRECTORY, 0, &directory);
    if (error < 0) {
        tell(repair, false, "checkpoints/%s is not a directory", name);
        return 0;
    }
    error = sealed_manifest_read(repair->io, directory, &sealed, &hash);
    io_close(repair->io, directory);
    if (error == 0 &&
        memcmp(sealed.store_uuid, repair->store->format.uuid, sizeof sealed.store_uuid) == 0 &&
        !has_id(repair, sealed.checkpoint_id))
        error = take_in(repair, name, &sealed, &hash);
    else if (error == 0)
        tell(repair, false, "checkpoints/%s is a copy of a snapshot or belongs to another store",
             name);
    else if (error == ERROR_NOT_STORE) /* no CURRENT: it was never finished */
        error = take_away(repair, name);
    else {
        tell(repair, false, "checkpoints/%s is not known to the manifest and cannot be read: %s",
             name, error_text(error));
        error = error == -ENOMEM ? error : 0;
    }
    sealed_manifest_free(&sealed);
    return error;
}

int engine_repair_strays(struct io *io, const char *path, enum engine_repair_strays what,
                         engine_repair_report *report, void *context)
{
    struct repair repair = {.io = io, .strays = what, .report = report, .context = context};
    int error = repair_open(&repair, path, what == ENGINE_STRAYS_ADOPT);

    for (size_t i = 0; error == 0 && i < repair.name_count; i++)
        error = check_stray(&repair, repair.names[i]);
    repair_close(&repair);
    return error;
}
