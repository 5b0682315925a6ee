/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine_rebuild.c - tables merged, snapshots and log looked through, a manifest written
 *
 * Why merging is right: a key's records never have equal numbers unless they are equal, and what a
 * merge left out lies in its inputs, all of which are there or none: they leave the store together.
 * So whatever a crash has left in chunks/ beside the tables in use, inputs of a finished merge or
 * outputs of an unfinished one, changes nothing. (But a cut in the few moments while inputs are removed
 * may leave some of them. Where the manifest is lost before the next start removes these, what a
 * table deleted that is gone already shows again.)
 */
#include "engine/engine_rebuild.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "engine/engine_internal.h"
#include "engine/manifest_codec.h"
#include "engine/wal_format.h"

#define MAP_BYTES    (64 * 1024 * 1024)
#define CACHE_BYTES  (8 * 1024 * 1024)
#define TABLE_BYTES  (16 * 1024 * 1024)
#define BOTTOM_LEVEL (VERSION_LEVELS - 1)
#define WORK_NAME    "manifest-rebuilt"
/* The manifest's directory, while it is made. */
#define FRESH_DIRECTORY "manifest.new"
/* When there is no log to say which numbers were given last, so many are passed over. */
#define SEQUENCE_GAP (UINT64_C(1) << 20)

struct rebuild {
    struct io *io;
    struct store *store;
    struct block_cache *cache;
    struct version_source source;
    struct chunk_identity *files; /* sealed chunks in chunks/, by id */
    size_t file_count, file_capacity;
    uint64_t highest_id;
    struct version_table **inputs;
    size_t input_count;
    struct table_writer *writer;
    struct manifest_table *outputs;
    size_t output_count, output_capacity;
    struct chunk_identity *blobs;
    size_t blob_count;
    struct chunk_identity *elsewhere; /* blobs that snapshots have and chunks/ does not */
    size_t elsewhere_count, elsewhere_capacity;
    struct manifest_checkpoint *snapshots;
    size_t snapshot_count, snapshot_capacity;
    uint64_t last_sequence; /* of the tables, then of the log */
    uint64_t snapshot_sequence, next_checkpoint_id, wal_segment;
    uint64_t unfinished_sequence; /* the log has to begin there or before; 0: no matter */
    uint64_t unfinished_blob;
    bool has_new_links; /* in directories of snapshots */
    struct engine_rebuild_result result;
};

/* Room for one more element. */
static int grow(void *array_pointer, size_t element_size, size_t count, size_t *capacity)
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

/* ---- chunks ---- */

static int list_chunk(void *context, const char *name)
{
    struct rebuild *rebuild = context;
    struct chunk_identity identity;
    struct stat status;
    bool sealed;
    int error;

    if (!chunk_name_parse(name, &identity, &sealed))
        return 0;
    if (identity.id > rebuild->highest_id)
        rebuild->highest_id = identity.id;
    if (!sealed)
        return 0; /* only the log may refer to it */
    error = io_stat_at(rebuild->io, rebuild->store->chunks, name, &status);
    if (error == 0 && S_ISDIR(status.st_mode))
        return 0; /* the name of a chunk that was removed, before a cut as well (store_sweep.c) */
    if (error == 0)
        error = grow(&rebuild->files, sizeof *rebuild->files, rebuild->file_count,
                     &rebuild->file_capacity);
    if (error < 0)
        return error;
    identity.file_size_bytes = (uint64_t)status.st_size;
    rebuild->files[rebuild->file_count++] = identity;
    return 0;
}

/* One that only a snapshot has will do: engine_repair_chunks() makes the link. (Not so for tables: which
 * of those in snapshots have been merged since, nothing says.) */
static const struct chunk_identity *find_blob(const struct rebuild *rebuild, uint64_t id)
{
    for (size_t i = 0; i < rebuild->file_count; i++)
        if (rebuild->files[i].id == id && rebuild->files[i].kind == CHUNK_BLOB)
            return &rebuild->files[i];
    for (size_t i = 0; i < rebuild->elsewhere_count; i++)
        if (rebuild->elsewhere[i].id == id)
            return &rebuild->elsewhere[i];
    return NULL;
}

/* Every byte of it is read: what a merge would take over must be right. */
static int add_input(struct rebuild *rebuild, const struct chunk_identity *identity)
{
    struct table_reader *reader;
    struct table_meta meta = {0};
    char name[CHUNK_NAME_SIZE];
    int error = table_reader_open(rebuild->io, rebuild->store->chunks, identity,
                                  rebuild->source.store_uuid, NULL, &reader);

    if (error == 0) {
        error = table_reader_verify(reader);
        if (error == 0)
            error = table_meta_copy(table_reader_meta(reader), &meta);
        table_reader_unref(reader);
    }
    if (error < 0) {
        chunk_name(name, identity);
        log_error("%s: table %s cannot be read: %s", rebuild->store->path, name, error_text(error));
        return error;
    }
    /* Levels and orders do not matter to the merge. */
    rebuild->inputs[rebuild->input_count] =
        version_table_new(&rebuild->source, 0, identity->id, &meta);
    if (rebuild->inputs[rebuild->input_count] == NULL) {
        table_meta_free(&meta);
        return -ENOMEM;
    }
    rebuild->input_count++;
    return 0;
}

static int find_chunks(struct rebuild *rebuild)
{
    int error = io_list(rebuild->io, rebuild->store->chunks, list_chunk, rebuild);

    if (error < 0)
        return error;
    if (rebuild->file_count > 0)
        qsort(rebuild->files, rebuild->file_count, sizeof *rebuild->files, engine_identity_compare);
    rebuild->inputs = calloc(rebuild->file_count + 1, sizeof *rebuild->inputs);
    if (rebuild->inputs == NULL)
        return -ENOMEM;
    for (size_t i = 0; error == 0 && i < rebuild->file_count; i++)
        if (rebuild->files[i].kind == CHUNK_TABLE)
            error = add_input(rebuild, &rebuild->files[i]);
    rebuild->result.tables = rebuild->input_count;
    return error;
}

/* ---- snapshots ---- */

/* A blob chunk that a snapshot names: is it in its directory, and not in chunks/? */
static int add_elsewhere(struct rebuild *rebuild, struct io_file *chunks,
                         const struct chunk_identity *blob)
{
    char name[CHUNK_NAME_SIZE];
    struct stat status;
    int error;

    if (find_blob(rebuild, blob->id) != NULL)
        return 0;
    chunk_name(name, blob);
    error = io_stat_at(rebuild->io, chunks, name, &status);
    if (error < 0)
        return error == -ENOENT ? 0 : error;
    error = grow(&rebuild->elsewhere, sizeof *rebuild->elsewhere, rebuild->elsewhere_count,
                 &rebuild->elsewhere_capacity);
    if (error == 0)
        rebuild->elsewhere[rebuild->elsewhere_count++] = *blob;
    return error;
}

static bool is_among(const struct rebuild *rebuild, const struct chunk_identity *identity)
{
    for (size_t i = 0; i < rebuild->file_count; i++)
        if (engine_identity_compare(&rebuild->files[i], identity) == 0)
            return true;
    return false;
}

/* A table that chunks/ has and a snapshot's directory lacks. It is merged now, and the next start would
 * take it from chunks/, whoever that is: the directory gets its name first. */
static int give_table(struct rebuild *rebuild, struct io_file *chunks,
                      const struct chunk_identity *identity)
{
    char name[CHUNK_NAME_SIZE];
    struct stat status;
    int result;

    chunk_name(name, identity);
    if (!is_among(rebuild, identity) || io_stat_at(rebuild->io, chunks, name, &status) != -ENOENT)
        return 0;
    result = checkpoint_files_relink(rebuild->store, rebuild->store->chunks, chunks, name);
    if (result < 0) {
        log_warning("%s: table %s, which a snapshot lacks, cannot be linked: %s",
                    rebuild->store->path, name, error_text(result));
        return result == -EIO || error_is_shortage(result) ? result : 0; /* it is what it was */
    }
    rebuild->has_new_links = true;
    log_info("%s: table %s was linked into a snapshot's directory again", rebuild->store->path,
             name);
    return 0;
}

/* Both ways: what only the snapshot has, and what it lacks. */
static int compare_chunks(struct rebuild *rebuild, struct io_file *directory,
                          const struct sealed_manifest *sealed)
{
    struct io_file *chunks;
    int error = io_open(rebuild->io, directory, "chunks", IO_OPEN_DIRECTORY, 0, &chunks);

    if (error < 0)
        return error == -ENOENT ? 0 : error;
    for (size_t i = 0; error == 0 && i < sealed->blob_count; i++)
        error = add_elsewhere(rebuild, chunks, &sealed->blobs[i]);
    for (size_t i = 0; error == 0 && i < sealed->table_count; i++)
        error = give_table(rebuild, chunks, &sealed->tables[i].meta.identity);
    io_close(rebuild->io, chunks);
    return error;
}

static int add_snapshot(struct rebuild *rebuild, const char *name,
                        const struct sealed_manifest *sealed, const struct checksum128 *hash)
{
    struct manifest_checkpoint *snapshot;
    int error = grow(&rebuild->snapshots, sizeof *rebuild->snapshots, rebuild->snapshot_count,
                     &rebuild->snapshot_capacity);

    if (error < 0)
        return error;
    snapshot = &rebuild->snapshots[rebuild->snapshot_count];
    *snapshot = (struct manifest_checkpoint){
        .id = sealed->checkpoint_id,
        .state = MANIFEST_CHECKPOINT_READY,
        .sequence = sealed->sequence,
        .linked_files = sealed->table_count + sealed->blob_count,
        .manifest_hash = *hash,
    };
    for (size_t i = 0; i < sealed->table_count; i++)
        snapshot->linked_bytes += sealed->tables[i].meta.identity.file_size_bytes;
    for (size_t i = 0; i < sealed->blob_count; i++)
        snapshot->linked_bytes += sealed->blobs[i].file_size_bytes;
    error = buffer_assign(&snapshot->name, name, strlen(name));
    if (error == 0)
        error = buffer_assign(&snapshot->payload, sealed->payload.data, sealed->payload.size);
    rebuild->snapshot_count++;
    if (sealed->sequence > rebuild->snapshot_sequence)
        rebuild->snapshot_sequence = sealed->sequence;
    if (sealed->checkpoint_id >= rebuild->next_checkpoint_id)
        rebuild->next_checkpoint_id = sealed->checkpoint_id + 1;
    for (size_t i = 0; i < sealed->table_count; i++)
        if (sealed->tables[i].meta.identity.id > rebuild->highest_id)
            rebuild->highest_id = sealed->tables[i].meta.identity.id;
    for (size_t i = 0; i < sealed->blob_count; i++)
        if (sealed->blobs[i].id > rebuild->highest_id)
            rebuild->highest_id = sealed->blobs[i].id;
    return error;
}

static bool has_snapshot(const struct rebuild *rebuild, uint64_t id)
{
    for (size_t i = 0; i < rebuild->snapshot_count; i++)
        if (rebuild->snapshots[i].id == id)
            return true;
    return false;
}

static int list_snapshot(void *context, const char *name)
{
    struct rebuild *rebuild = context;
    struct sealed_manifest sealed = {0};
    struct checksum128 hash;
    struct io_file *directory = NULL;
    int error =
        io_open(rebuild->io, rebuild->store->checkpoints, name, IO_OPEN_DIRECTORY, 0, &directory);

    if (error == 0)
        error = sealed_manifest_read(rebuild->io, directory, &sealed, &hash);
    if (error == 0 &&
        memcmp(sealed.store_uuid, rebuild->store->format.uuid, sizeof sealed.store_uuid) != 0)
        error = ERROR_FOREIGN;
    if (error == 0 && has_snapshot(rebuild, sealed.checkpoint_id))
        error = -EEXIST; /* a copy of one: the first that is listed stays */
    if (error == 0)
        error = compare_chunks(rebuild, directory, &sealed);
    if (error == 0) {
        error = add_snapshot(rebuild, name, &sealed, &hash);
    } else if (!error_is_shortage(error)) {
        log_warning("%s/checkpoints/%s is left alone: %s", rebuild->store->path, name,
                    error_text(error));
        rebuild->result.snapshots_unusable++;
        error = 0;
    }
    sealed_manifest_free(&sealed);
    io_close(rebuild->io, directory);
    return error;
}

static int find_snapshots(struct rebuild *rebuild)
{
    int error = io_list(rebuild->io, rebuild->store->checkpoints, list_snapshot, rebuild);

    rebuild->result.snapshots = rebuild->snapshot_count;
    return error;
}

/* ---- a flush that a crash cut off ---- */

static bool lacks_blob(struct rebuild *rebuild, const struct table_meta *meta)
{
    for (size_t i = 0; i < meta->use_count; i++)
        if (find_blob(rebuild, meta->uses[i].chunk_id) == NULL) {
            rebuild->unfinished_blob = meta->uses[i].chunk_id;
            return true;
        }
    return false;
}

/* It has left a table whose blob chunk was not sealed yet. Such a table is left out, for recovery to
 * make it again: all that it holds is in the log, or find_log() says that it is not. */
static void leave_unfinished(struct rebuild *rebuild)
{
    size_t kept = 0;

    for (size_t i = 0; i < rebuild->input_count; i++) {
        struct version_table *table = rebuild->inputs[i];
        uint64_t smallest = table->meta.smallest_sequence;

        if (!lacks_blob(rebuild, &table->meta)) {
            rebuild->inputs[kept++] = table;
            if (table->meta.largest_sequence > rebuild->last_sequence)
                rebuild->last_sequence = table->meta.largest_sequence;
            continue;
        }
        if (rebuild->unfinished_sequence == 0 || smallest < rebuild->unfinished_sequence)
            rebuild->unfinished_sequence = smallest;
        version_table_unref(table);
    }
    rebuild->input_count = kept;
    rebuild->result.tables = kept;
    /* What a snapshot has is in tables: the log must not make it again. */
    if (rebuild->unfinished_sequence == 0 && rebuild->snapshot_sequence > rebuild->last_sequence)
        rebuild->last_sequence = rebuild->snapshot_sequence;
}

/* ---- the log ---- */

struct log_look {
    struct rebuild *rebuild;
    uint64_t next_sequence; /* that the tables and the entries so far lead to */
    uint64_t first_sequence, entries;
};

/* The chunk may be nowhere but here: its id is in use all the same (R63). */
static int look_at_piece(void *context, const struct blob_piece *piece)
{
    struct log_look *look = context;

    if (piece->chunk_id > look->rebuild->highest_id)
        look->rebuild->highest_id = piece->chunk_id;
    return 0;
}

/* As recovery will take it (engine_recovery.c). */
static int look_at_entry(void *context, const struct wal_replay_entry *entry)
{
    struct log_look *look = context;
    uint64_t count = 0;
    struct record record;
    size_t cursor = 0;
    int result = 0;

    if (look->first_sequence == 0)
        look->first_sequence = entry->first_sequence;
    if (entry->first_sequence < look->next_sequence)
        return 0;
    if (entry->first_sequence != look->next_sequence && look->entries > 0)
        return ERROR_CORRUPT;
    if (entry->kind == WAL_MARK)
        count = 1;
    else
        while ((result = batch_next(entry->bytes, &cursor, &record)) > 0)
            count++;
    /* The tables end before it begins: a segment is given up only when all of it is in tables, so
     * what lies between was there and has been merged away. */
    if (entry->first_sequence > look->next_sequence)
        look->rebuild->last_sequence = entry->first_sequence - 1;
    look->next_sequence = entry->first_sequence + count;
    look->entries++;
    return result;
}

static int compare_numbers(const void *a, const void *b)
{
    const uint64_t *left = a, *right = b;

    return *left < *right ? -1 : *left > *right;
}

struct segments {
    uint64_t *numbers;
    size_t count, capacity;
};

static int list_segment(void *context, const char *name)
{
    struct segments *segments = context;
    uint64_t number;
    int error;

    if (!wal_segment_name_parse(name, &number))
        return 0;
    error = grow(&segments->numbers, sizeof number, segments->count, &segments->capacity);
    if (error == 0)
        segments->numbers[segments->count++] = number;
    return error;
}

/* The log from segment `first` on, when it can follow what the tables hold. */
static int try_log(struct rebuild *rebuild, uint64_t first, struct log_look *look)
{
    const struct wal_replay_callbacks callbacks = {look_at_piece, look_at_entry, look};
    uint64_t last_sequence = rebuild->last_sequence;
    struct wal_replay_result result;
    int error;

    *look = (struct log_look){.rebuild = rebuild, .next_sequence = last_sequence + 1};
    error = wal_replay(rebuild->io, rebuild->store->wal, rebuild->store->format.uuid, first, false,
                       &callbacks, &result);
    if (error < 0)
        rebuild->last_sequence = last_sequence;
    return error;
}

/* Segments that were given up may still be there, with gaps between them, and names that a cut has
 * brought back as directories: the first from which on all can be read is where the log begins. */
static int find_log(struct rebuild *rebuild)
{
    struct segments segments = {0};
    struct log_look look = {0};
    int error = io_list(rebuild->io, rebuild->store->wal, list_segment, &segments);

    if (error == 0 && segments.count > 0)
        qsort(segments.numbers, segments.count, sizeof *segments.numbers, compare_numbers);
    rebuild->wal_segment = segments.count > 0 ? segments.numbers[segments.count - 1] + 1 : 1;
    for (size_t i = 0; error == 0 && i < segments.count; i++) {
        error = try_log(rebuild, segments.numbers[i], &look);
        if (error == 0) {
            rebuild->wal_segment = segments.numbers[i];
            break;
        }
        if ((error_errno(error) == -EIO || error == -EISDIR) && i + 1 < segments.count)
            error = 0;
    }
    free(segments.numbers);
    rebuild->result.log_entries = look.entries;
    if (error == 0 && rebuild->unfinished_sequence > 0 &&
        (look.entries == 0 || look.first_sequence > rebuild->unfinished_sequence)) {
        log_error("%s: blob chunk %016llx is missing", rebuild->store->path,
                  (unsigned long long)rebuild->unfinished_blob);
        return ERROR_MISSING_CHUNK;
    }
    if (error == 0 && look.entries == 0) {
        if (rebuild->snapshot_sequence > rebuild->last_sequence)
            rebuild->last_sequence = rebuild->snapshot_sequence;
        rebuild->last_sequence += SEQUENCE_GAP;
    }
    return error;
}

/* ---- the merge ---- */

static int begin_output(struct rebuild *rebuild)
{
    const struct table_writer_options options = {
        .io = rebuild->io,
        .temporary_directory = rebuild->store->tmp,
        .chunk_directory = rebuild->store->chunks,
        .store_uuid = rebuild->store->format.uuid,
        .id = ++rebuild->highest_id,
        .compression_level = rebuild->store->format.compression_level,
    };

    return table_writer_new(&options, &rebuild->writer);
}

static int finish_output(struct rebuild *rebuild)
{
    struct manifest_table *output;
    int error = grow(&rebuild->outputs, sizeof *rebuild->outputs, rebuild->output_count,
                     &rebuild->output_capacity);

    if (error < 0)
        return error;
    output = &rebuild->outputs[rebuild->output_count];
    *output = (struct manifest_table){.level = BOTTOM_LEVEL, .order = rebuild->output_count + 1};
    error = table_writer_finish(rebuild->writer, &output->meta);
    if (error < 0)
        return error;
    rebuild->output_count++;
    table_writer_free(rebuild->writer);
    rebuild->writer = NULL;
    return 0;
}

static int add_record(struct rebuild *rebuild, const struct record *record)
{
    int error = 0;

    if (record->kind == RECORD_DELETE)
        return 0; /* nothing lies below */
    if (rebuild->writer != NULL && table_writer_size_bytes(rebuild->writer) >= TABLE_BYTES)
        error = finish_output(rebuild);
    if (error == 0 && rebuild->writer == NULL)
        error = begin_output(rebuild);
    if (error == 0)
        error = table_writer_add(rebuild->writer, record);
    rebuild->result.records++;
    return error;
}

static int merge_tables(struct rebuild *rebuild)
{
    struct merge_iterator *merge = merge_iterator_new(MERGE_COMPACT);
    int result = merge != NULL ? 0 : -ENOMEM;

    for (size_t i = 0; result == 0 && i < rebuild->input_count; i++)
        result = merge_iterator_add_table(merge, rebuild->inputs[i], false);
    if (result == 0)
        result = merge_iterator_seek(merge, slice_of("", 0));
    while (result > 0) {
        result = add_record(rebuild, merge_iterator_record(merge));
        if (result == 0)
            result = merge_iterator_next(merge);
    }
    if (result == 0 && rebuild->writer != NULL)
        result = finish_output(rebuild);
    merge_iterator_free(merge);
    return result;
}

/* What the new tables refer to. */
static int gather_blobs(struct rebuild *rebuild)
{
    rebuild->blobs =
        calloc(rebuild->file_count + rebuild->elsewhere_count + 1, sizeof *rebuild->blobs);
    if (rebuild->blobs == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < rebuild->output_count; i++) {
        const struct table_meta *meta = &rebuild->outputs[i].meta;

        for (size_t j = 0; j < meta->use_count; j++) {
            const struct chunk_identity *blob = find_blob(rebuild, meta->uses[j].chunk_id);
            bool known = false;

            if (blob == NULL) {
                log_error("%s: blob chunk %016llx is missing", rebuild->store->path,
                          (unsigned long long)meta->uses[j].chunk_id);
                return ERROR_MISSING_CHUNK;
            }
            for (size_t k = 0; !known && k < rebuild->blob_count; k++)
                known = rebuild->blobs[k].id == blob->id;
            if (!known)
                rebuild->blobs[rebuild->blob_count++] = *blob;
        }
    }
    rebuild->result.blobs = rebuild->blob_count;
    return 0;
}

/* ---- the new manifest ---- */

static int fill_manifest(struct rebuild *rebuild, struct manifest *manifest)
{
    struct manifest_scalars scalars = {
        .next_chunk_id = rebuild->highest_id + 1,
        .next_order = rebuild->output_count + 1,
        .last_sequence = rebuild->last_sequence,
        .wal_segment = rebuild->wal_segment,
        .next_checkpoint_id = rebuild->next_checkpoint_id,
        .clean = false,
    };
    struct manifest_edit edit = {
        .add_tables = rebuild->outputs,
        .add_table_count = rebuild->output_count,
        .add_blobs = rebuild->blobs,
        .add_blob_count = rebuild->blob_count,
        .scalars = &scalars,
    };
    int error = manifest_commit(manifest, &edit);

    for (size_t i = 0; error == 0 && i < rebuild->snapshot_count; i++) {
        edit = (struct manifest_edit){.put_checkpoint = &rebuild->snapshots[i]};
        error = manifest_commit(manifest, &edit);
    }
    return error;
}

static int make_manifest(struct rebuild *rebuild)
{
    struct manifest_options options = {.create = true, .map_size_bytes = MAP_BYTES};
    struct manifest *manifest;
    char path[4096];
    int error;

    if (snprintf(path, sizeof path, "%s/tmp/" WORK_NAME, rebuild->store->path) >= (int)sizeof path)
        return -ENAMETOOLONG;
    options.path = path;
    error = store_remove_tree(rebuild->io, rebuild->store->tmp, WORK_NAME);
    if (error == 0)
        error = io_mkdir(rebuild->io, rebuild->store->tmp, WORK_NAME, 0700);
    if (error == 0)
        error = manifest_open(&options, &manifest);
    if (error < 0)
        return error;
    error = fill_manifest(rebuild, manifest);
    manifest_close(manifest);
    return error;
}

/* The old one goes aside, the new one takes its place. */
static int put_in_place(struct rebuild *rebuild)
{
    struct io *io = rebuild->io;
    struct io_file *from = NULL, *to = rebuild->store->manifest;
    int error = io_open(io, rebuild->store->tmp, WORK_NAME, IO_OPEN_DIRECTORY, 0, &from);

    if (error == 0 && rebuild->has_new_links)
        error = io_sync_filesystem(io, to);
    if (error == 0) {
        error = io_rename(io, to, "data.mdb", to, "data.mdb.old");
        if (error == -ENOENT)
            error = 0;
    }
    if (error == 0)
        error = io_unlink(io, to, "lock.mdb");
    if (error == -ENOENT)
        error = 0;
    if (error == 0)
        error = io_rename(io, from, "data.mdb", to, "data.mdb");
    if (error == 0)
        error = io_sync(io, to, false);
    if (from != NULL)
        io_close(io, from);
    if (error == 0)
        error = store_remove_tree(io, rebuild->store->tmp, WORK_NAME);
    /* What could be had is what there is now. */
    return error == 0 ? engine_witness_remove(io, rebuild->store->wal) : error;
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
    int error = find_chunks(rebuild);

    if (error == 0)
        error = find_snapshots(rebuild);
    if (error == 0) {
        leave_unfinished(rebuild);
        error = find_log(rebuild);
    }
    if (error == 0)
        error = merge_tables(rebuild);
    if (error == 0)
        error = gather_blobs(rebuild);
    if (error == 0)
        error = make_manifest(rebuild);
    return error == 0 ? put_in_place(rebuild) : error;
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
        .path = path, .read_only = true, .map_size_bytes = MAP_BYTES};
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
