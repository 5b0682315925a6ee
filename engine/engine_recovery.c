/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine_recovery.c - from what is on disk to a running engine
 *
 * Order: the manifest; every chunk that it names is there; checkpoints left PENDING are made and
 * DELETING ones taken away; the log is replayed into memtables; blob chunks that only the log knows
 * are sealed; the memtables become tables; a last commit moves the log's start to a new segment;
 * files that nobody refers to are deleted. A crash anywhere in here is met by the same steps again:
 * batches at or below the tables' highest sequence number and checkpoints that the manifest knows
 * are passed over, chunk ids go on above the highest on disk.
 *
 * A frozen engine takes what the manifest names and leaves everything else as it is.
 */
#include <errno.h>
#include <stdlib.h>

#include "engine/engine_internal.h"

/* A blob chunk that replayed batches refer to. */
struct needed_blob {
    uint64_t id;
    uint64_t end;
};

struct replayed {
    struct memtable *memtable;
    uint64_t last_sequence;
    struct checkpoint *checkpoint;
};

struct recovery {
    struct engine *engine;
    struct manifest_state state;
    struct chunk_identity *files; /* in chunks/, by id; kind 0: an open blob chunk */
    size_t file_count, file_capacity;
    uint64_t highest_id;
    struct needed_blob *needed;
    size_t needed_count, needed_capacity;
    struct blob_piece *pieces;
    size_t piece_count, piece_capacity;
    struct replayed *replayed;
    size_t replayed_count, replayed_capacity;
    struct chunk_identity *recovered;
    size_t recovered_count;
    struct wal_replay_result log;
    uint64_t next_sequence;
};

static int grow(void **array, size_t *capacity, size_t count, size_t element)
{
    void *grown;

    if (count < *capacity)
        return 0;
    grown = realloc(*array, (*capacity * 2 + 16) * element);
    if (grown == NULL)
        return -ENOMEM;
    *array = grown;
    *capacity = *capacity * 2 + 16;
    return 0;
}

/* ---- files on disk ---- */

static int scan_file(void *context, const char *name)
{
    struct recovery *recovery = context;
    struct chunk_identity identity;
    bool sealed;
    int result;

    if (!chunk_name_parse(name, &identity, &sealed)) {
        log_warning("%s/chunks/%s is not Varve's and is left alone", recovery->engine->path, name);
        return 0;
    }
    result = grow((void **)&recovery->files, &recovery->file_capacity, recovery->file_count,
                  sizeof *recovery->files);
    if (result < 0)
        return result;
    if (!sealed)
        identity.kind = 0;
    if (identity.id > recovery->highest_id)
        recovery->highest_id = identity.id;
    recovery->files[recovery->file_count++] = identity;
    return 0;
}

/* A cut in the middle of sealing can leave a blob chunk both its names, on a file system without a
 * journal: the sealed one counts, the other is nobody's. */
static struct chunk_identity *find_file(struct recovery *recovery, uint64_t id)
{
    struct chunk_identity wanted = {.id = id};
    const struct chunk_identity *end = recovery->files + recovery->file_count;
    struct chunk_identity *found, *file;

    if (recovery->file_count == 0)
        return NULL;
    found = bsearch(&wanted, recovery->files, recovery->file_count, sizeof wanted,
                    engine_identity_compare);
    for (file = found; file != NULL && file > recovery->files && file[-1].id == id;)
        file--;
    for (; file != NULL && file < end && file->id == id; file++)
        if (file->kind != 0)
            return file;
    return found;
}

static int check_file(struct recovery *recovery, const struct chunk_identity *identity)
{
    const struct chunk_identity *file = find_file(recovery, identity->id);
    char name[CHUNK_NAME_SIZE];

    if (file != NULL && file->kind == identity->kind && file->hash.low == identity->hash.low &&
        file->hash.high == identity->hash.high)
        return 0;
    chunk_name(name, identity);
    log_error("%s: chunk %s is missing", recovery->engine->path, name);
    return ERROR_MISSING_CHUNK;
}

static int scan_files(struct recovery *recovery)
{
    int result =
        io_list(recovery->engine->io, recovery->engine->store->chunks, scan_file, recovery);

    if (result < 0)
        return result;
    if (recovery->file_count > 0)
        qsort(recovery->files, recovery->file_count, sizeof *recovery->files,
              engine_identity_compare);
    for (size_t i = 0; result == 0 && i < recovery->state.table_count; i++)
        result = check_file(recovery, &recovery->state.tables[i].meta.identity);
    for (size_t i = 0; result == 0 && i < recovery->state.blob_count; i++)
        result = check_file(recovery, &recovery->state.blobs[i]);
    return result;
}

/* ---- what the manifest says ---- */

static int load_version(struct recovery *recovery, struct version **ret_version)
{
    struct engine *engine = recovery->engine;
    size_t total = recovery->state.table_count, count = 0;
    struct version_table **tables = calloc(total + 1, sizeof *tables);
    int result = tables != NULL ? 0 : -ENOMEM;

    while (result == 0 && count < total) {
        struct manifest_table *entry = &recovery->state.tables[count];
        struct table_meta meta = {0};

        result = table_meta_copy(&entry->meta, &meta);
        if (result < 0)
            break;
        tables[count] = version_table_new(&engine->source, entry->level, entry->order, &meta);
        if (tables[count] == NULL) {
            table_meta_free(&meta);
            result = -ENOMEM;
            break;
        }
        count++;
    }
    if (result == 0)
        result = version_build(NULL, NULL, 0, tables, total, ret_version);
    for (size_t i = 0; i < count; i++)
        version_table_unref(tables[i]);
    free(tables);
    return result;
}

static int load_state(struct recovery *recovery)
{
    struct engine *engine = recovery->engine;
    const struct manifest_scalars *scalars;
    int result = manifest_load(engine->manifest, &recovery->state);

    if (result < 0)
        return result;
    scalars = &recovery->state.scalars;
    engine->next_order = scalars->next_order;
    engine->tables_sequence = scalars->last_sequence;
    engine->wal_segment = scalars->wal_segment;
    engine->next_checkpoint_id = scalars->next_checkpoint_id;
    engine->unclean_starts = scalars->unclean_starts + (scalars->clean ? 0 : 1);
    recovery->next_sequence = scalars->last_sequence + 1;
    result = scan_files(recovery);
    if (result < 0)
        return result;
    atomic_store(&engine->next_chunk_id, scalars->next_chunk_id > recovery->highest_id
                                             ? scalars->next_chunk_id
                                             : recovery->highest_id + 1);
    return catalogue_add(engine, recovery->state.blobs, recovery->state.blob_count);
}

/* ---- checkpoints ---- */

static int commit_checkpoint(struct engine *engine, const struct manifest_checkpoint *record)
{
    struct manifest_edit edit = {.put_checkpoint = record};

    return manifest_commit(engine->manifest, &edit);
}

static void checkpoint_text(const struct manifest_checkpoint *record, char to[256])
{
    size_t size = record->name.size < 255 ? record->name.size : 255;

    memcpy(to, record->name.data, size);
    to[size] = '\0';
}

/* Make the directory of a checkpoint that has its plan; then it is READY. */
static int make_pending(struct engine *engine, struct checkpoint *checkpoint,
                        struct sealed_manifest *plan)
{
    struct checkpoint_numbers numbers = {0};
    char name[256];
    int is_there, result;

    checkpoint_text(&checkpoint->record, name);
    plan->parent_hash = engine->parent_hash;
    is_there = checkpoint_files_prepare(engine->store, plan, name, &numbers);
    result =
        is_there < 0 ? is_there : checkpoint_files_publish(engine->store, plan, name, is_there > 0);
    if (result < 0) {
        log_error("snapshot %s could not be materialised: %s", name, error_text(result));
        return result;
    }
    checkpoint->record.state = MANIFEST_CHECKPOINT_READY;
    checkpoint->record.linked_files = numbers.linked_files;
    checkpoint->record.linked_bytes = numbers.linked_bytes;
    checkpoint->record.copied_files = numbers.copied_files;
    checkpoint->record.copied_bytes = numbers.copied_bytes;
    checkpoint->record.manifest_hash = numbers.manifest_hash;
    buffer_free(&checkpoint->record.plan);
    result = commit_checkpoint(engine, &checkpoint->record);
    if (result == 0) {
        checkpoint->state = CHECKPOINT_READY;
        engine->parent_hash = numbers.manifest_hash;
    }
    return result;
}

static int redo_pending(struct engine *engine, struct checkpoint *checkpoint)
{
    struct sealed_manifest plan = {0};
    int result = sealed_manifest_decode(buffer_slice(&checkpoint->record.plan), &plan);

    if (result == 0)
        result = make_pending(engine, checkpoint, &plan);
    sealed_manifest_free(&plan);
    return result;
}

/* The directory stands under the name that the manifest gives, or a rename is finished. After a
 * clean close all of them do. */
static int settle_ready(struct recovery *recovery, const struct checkpoint *checkpoint)
{
    struct engine *engine = recovery->engine;
    char name[256];
    int result;

    if (recovery->state.scalars.clean)
        return 0;
    checkpoint_text(&checkpoint->record, name);
    result = checkpoint_files_settle(engine->store, name, checkpoint->record.id);
    if (result == -ENOENT || error_errno(result) == -EIO) {
        log_error("snapshot %s: its directory is missing or damaged", name);
        result = 0; /* the rest of the store is whole: reading this one will say so */
    }
    return result;
}

/* Its name may be another's by now: this goes before the others. */
static int load_deleting(struct engine *engine, struct manifest_checkpoint *record)
{
    struct checkpoint *checkpoint;
    char name[256];
    int result = checkpoint_new(&checkpoint);

    if (result < 0)
        return result;
    checkpoint->record = *record;
    *record = (struct manifest_checkpoint){0};
    checkpoint->state = CHECKPOINT_DELETING;
    checkpoint_text(&checkpoint->record, name);
    result = checkpoint_files_detach(engine->store, name, checkpoint->record.id);
    if (result >= 0) {
        lock_acquire(&engine->checkpoint_lock);
        engine->deleting_count++;
        lock_release(&engine->checkpoint_lock);
        engine_checkpoint_queue(engine, checkpoint);
    }
    checkpoint_unref(checkpoint);
    return result < 0 ? result : 0;
}

static int load_checkpoint(struct recovery *recovery, struct manifest_checkpoint *record)
{
    struct engine *engine = recovery->engine;
    struct checkpoint *checkpoint;
    int result = checkpoint_new(&checkpoint);

    if (result < 0)
        return result;
    checkpoint->record = *record;
    *record = (struct manifest_checkpoint){0};
    switch (checkpoint->record.state) {
    case MANIFEST_CHECKPOINT_READY:
        checkpoint->state = CHECKPOINT_READY;
        engine->parent_hash = checkpoint->record.manifest_hash;
        result = settle_ready(recovery, checkpoint);
        break;
    case MANIFEST_CHECKPOINT_PENDING:
        result = redo_pending(engine, checkpoint);
        break;
    default:
        result = ERROR_CORRUPT;
        break;
    }
    if (result == 0)
        result = engine_checkpoint_insert(engine, checkpoint);
    if (result < 0)
        checkpoint_unref(checkpoint);
    return result;
}

static int load_checkpoints(struct recovery *recovery)
{
    struct manifest_checkpoint *records = recovery->state.checkpoints;
    int result = 0;

    for (size_t i = 0; result == 0 && i < recovery->state.checkpoint_count; i++)
        if (records[i].state == MANIFEST_CHECKPOINT_DELETING)
            result = load_deleting(recovery->engine, &records[i]);
    for (size_t i = 0; result == 0 && i < recovery->state.checkpoint_count; i++)
        if (records[i].id != 0)
            result = load_checkpoint(recovery, &records[i]);
    return result;
}

/* ---- replay ---- */

static int replay_piece(void *context, const struct blob_piece *piece)
{
    struct recovery *recovery = context;
    struct blob_piece copy = *piece;
    uint8_t *data;
    int result;

    if (catalogue_find(recovery->engine, piece->chunk_id, NULL))
        return 0;
    result = grow((void **)&recovery->pieces, &recovery->piece_capacity, recovery->piece_count,
                  sizeof *recovery->pieces);
    if (result < 0)
        return result;
    data = malloc(piece->size);
    if (data == NULL)
        return -ENOMEM;
    memcpy(data, piece->data, piece->size);
    copy.data = data;
    recovery->pieces[recovery->piece_count++] = copy;
    return 0;
}

static int need_blob(struct recovery *recovery, uint64_t id, uint64_t end)
{
    int result;

    if (id > recovery->highest_id)
        recovery->highest_id = id;
    if (catalogue_find(recovery->engine, id, NULL))
        return 0;
    for (size_t i = recovery->needed_count; i-- > 0;) {
        if (recovery->needed[i].id != id)
            continue;
        if (end > recovery->needed[i].end)
            recovery->needed[i].end = end;
        return 0;
    }
    result = grow((void **)&recovery->needed, &recovery->needed_capacity, recovery->needed_count,
                  sizeof *recovery->needed);
    if (result == 0)
        recovery->needed[recovery->needed_count++] = (struct needed_blob){id, end};
    return result;
}

static int need_batch_blobs(struct recovery *recovery, struct slice bytes, uint64_t *ret_count)
{
    struct record record;
    struct blob_ref ref;
    size_t cursor = 0;
    uint64_t count = 0;
    int result;

    while ((result = batch_next(bytes, &cursor, &record)) > 0) {
        count++;
        if (record.kind != RECORD_REFERENCE)
            continue;
        result = blob_ref_decode(record.value, &ref);
        if (result == 0)
            result = need_blob(recovery, ref.chunk_id, ref.position + ref.stored_size);
        if (result < 0)
            return result;
    }
    *ret_count = count;
    return result;
}

/* The memtable that replay fills; a new one when the last is full or ended by a checkpoint. */
static int open_memtable(struct recovery *recovery, uint64_t first, struct replayed **ret_replayed)
{
    struct replayed *last =
        recovery->replayed_count > 0 ? &recovery->replayed[recovery->replayed_count - 1] : NULL;
    int result;

    if (last == NULL || last->checkpoint != NULL ||
        memtable_size_bytes(last->memtable) >= recovery->engine->options.memtable_bytes) {
        result = grow((void **)&recovery->replayed, &recovery->replayed_capacity,
                      recovery->replayed_count, sizeof *recovery->replayed);
        if (result < 0)
            return result;
        last = &recovery->replayed[recovery->replayed_count];
        *last = (struct replayed){.memtable = memtable_new(first)};
        if (last->memtable == NULL)
            return -ENOMEM;
        recovery->replayed_count++;
    }
    *ret_replayed = last;
    return 0;
}

static int replay_batch(struct recovery *recovery, const struct wal_replay_entry *entry)
{
    struct replayed *target;
    uint64_t count;
    int result = need_batch_blobs(recovery, entry->bytes, &count);

    if (result < 0)
        return result;
    result = open_memtable(recovery, entry->first_sequence, &target);
    if (result < 0)
        return result;
    result = memtable_apply(target->memtable, entry->bytes, entry->first_sequence);
    if (result < 0)
        return result;
    target->last_sequence = entry->first_sequence + count - 1;
    recovery->next_sequence = entry->first_sequence + count;
    ENGINE_COUNT(recovery->engine, wal_replayed_batches, 1);
    return 0;
}

static int replay_mark(struct recovery *recovery, const struct wal_replay_entry *entry)
{
    struct replayed *target;
    struct checkpoint *checkpoint;
    int result = checkpoint_new(&checkpoint);

    if (result < 0)
        return result;
    /* The manifest does not know it: it learns of a mark in the commit that moves the tables'
     * highest sequence number past it. (The id tells nothing: it was taken before the mark was
     * written, and any commit in between has stored the next one; nor are marks in order of their
     * ids.) */
    result = checkpoint_mark_decode(entry->bytes, checkpoint);
    checkpoint->record.sequence = entry->first_sequence;
    if (result == 0)
        result = open_memtable(recovery, entry->first_sequence, &target);
    if (result < 0)
        goto out;
    if (checkpoint->record.id >= recovery->engine->next_checkpoint_id)
        recovery->engine->next_checkpoint_id = checkpoint->record.id + 1;
    target->checkpoint = checkpoint;
    target->last_sequence = entry->first_sequence;
    checkpoint = NULL;
out:
    recovery->next_sequence = entry->first_sequence + 1;
    checkpoint_unref(checkpoint);
    return result;
}

static int replay_entry(void *context, const struct wal_replay_entry *entry)
{
    struct recovery *recovery = context;

    /* Flushed before a crash in the middle of an earlier recovery. */
    if (entry->first_sequence <= recovery->state.scalars.last_sequence)
        return 0;
    if (entry->first_sequence != recovery->next_sequence) {
        log_error("%s: the log continues at sequence number %llu instead of %llu",
                  recovery->engine->path, (unsigned long long)entry->first_sequence,
                  (unsigned long long)recovery->next_sequence);
        return ERROR_CORRUPT;
    }
    return entry->kind == WAL_MARK ? replay_mark(recovery, entry) : replay_batch(recovery, entry);
}

static int replay(struct recovery *recovery)
{
    struct engine *engine = recovery->engine;
    struct wal_replay_callbacks callbacks = {replay_piece, replay_entry, recovery};
    int result = wal_replay(engine->io, engine->store->wal, engine->store->format.uuid,
                            engine->wal_segment, &callbacks, &recovery->log);

    if (result == 0 && recovery->log.entries > 0)
        log_info("%s was not closed cleanly: %llu log groups replayed", engine->path,
                 (unsigned long long)recovery->log.groups);
    return result;
}

/* ---- blob chunks that only the log knows ---- */

static int piece_compare(const void *left, const void *right)
{
    const struct blob_piece *a = left, *b = right;

    if (a->chunk_id != b->chunk_id)
        return a->chunk_id < b->chunk_id ? -1 : 1;
    return a->position < b->position ? -1 : a->position > b->position;
}

static int recover_blob(struct recovery *recovery, const struct needed_blob *needed,
                        struct chunk_identity *ret_identity)
{
    struct engine *engine = recovery->engine;
    const struct chunk_identity *file = find_file(recovery, needed->id);
    size_t first = 0, count = 0;

    if (file != NULL && file->kind == CHUNK_BLOB) {
        struct stat status;
        char name[CHUNK_NAME_SIZE];
        int result;

        /* Sealed, and the crash came before the manifest's word. */
        chunk_name(name, file);
        result = io_stat_at(engine->io, engine->store->chunks, name, &status);
        if (result < 0)
            return result;
        *ret_identity = *file;
        ret_identity->file_size_bytes = (uint64_t)status.st_size;
        return ret_identity->file_size_bytes >= needed->end + CHUNK_TRAILER_SIZE ? 0
                                                                                 : ERROR_TRUNCATED;
    }
    while (first < recovery->piece_count && recovery->pieces[first].chunk_id != needed->id)
        first++;
    while (first + count < recovery->piece_count &&
           recovery->pieces[first + count].chunk_id == needed->id)
        count++;
    return blob_recover_open_chunk(engine->io, engine->store->chunks, engine->store->format.uuid,
                                   needed->id, needed->end, recovery->pieces + first, count,
                                   ret_identity);
}

static int recover_blobs(struct recovery *recovery)
{
    int result = 0;

    if (recovery->needed_count == 0)
        return 0;
    recovery->recovered = calloc(recovery->needed_count, sizeof *recovery->recovered);
    if (recovery->recovered == NULL)
        return -ENOMEM;
    if (recovery->piece_count > 0)
        qsort(recovery->pieces, recovery->piece_count, sizeof *recovery->pieces, piece_compare);
    for (size_t i = 0; result == 0 && i < recovery->needed_count; i++) {
        result = recover_blob(recovery, &recovery->needed[i], &recovery->recovered[i]);
        if (result < 0)
            log_error("%s: blob chunk %016llx cannot be recovered: %s", recovery->engine->path,
                      (unsigned long long)recovery->needed[i].id, error_text(result));
        else
            recovery->recovered_count++;
    }
    if (result == 0)
        result = catalogue_add(recovery->engine, recovery->recovered, recovery->recovered_count);
    return result;
}

/* ---- replayed memtables become tables ---- */

static int attach_plan(struct engine *engine, struct replayed *replayed,
                       struct version_table *const *table, size_t table_count,
                       struct sealed_manifest **ret_plan)
{
    struct superversion *super = engine_super(engine);
    struct version *after = NULL;
    int result = version_build(super->version, NULL, 0, table, table_count, &after);

    superversion_unref(super);
    if (result == 0)
        result = checkpoint_plan_new(engine, replayed->checkpoint, after, ret_plan);
    if (result == 0)
        result = sealed_manifest_encode(*ret_plan, &replayed->checkpoint->record.plan);
    version_unref(after);
    replayed->checkpoint->record.state = MANIFEST_CHECKPOINT_PENDING;
    return result;
}

static int flush_replayed(struct recovery *recovery, struct replayed *replayed, bool first)
{
    struct engine *engine = recovery->engine;
    struct manifest_table added = {.level = 0};
    struct manifest_edit edit = {0};
    struct table_meta meta = {0};
    struct version_table *table = NULL;
    struct sealed_manifest *plan = NULL;
    int has_table = engine_write_table(engine, replayed->memtable, &meta);
    int result = has_table < 0 ? has_table : 0;

    if (has_table > 0) {
        added.order = engine->next_order++;
        result = table_meta_copy(&meta, &added.meta);
        if (result == 0)
            table = version_table_new(&engine->source, 0, added.order, &meta);
        if (result == 0 && table == NULL)
            result = -ENOMEM;
        edit.add_tables = &added;
        edit.add_table_count = 1;
    }
    if (first) {
        edit.add_blobs = recovery->recovered;
        edit.add_blob_count = recovery->recovered_count;
    }
    if (result == 0 && replayed->checkpoint != NULL) {
        result = attach_plan(engine, replayed, &table, has_table > 0 ? 1 : 0, &plan);
        edit.put_checkpoint = &replayed->checkpoint->record;
    }
    if (result == 0) {
        engine->tables_sequence = replayed->last_sequence;
        lock_acquire(&engine->install_lock);
        result = engine_install_locked(engine, &edit, &table, has_table > 0 ? 1 : 0, NULL);
        lock_release(&engine->install_lock);
    }
    if (result == 0 && replayed->checkpoint != NULL) {
        struct checkpoint *checkpoint = replayed->checkpoint;

        result = make_pending(engine, checkpoint, plan);
        if (result == 0)
            result = engine_checkpoint_insert(engine, checkpoint);
        if (result == 0)
            replayed->checkpoint = NULL; /* the list's now */
    }
    checkpoint_plan_free(plan);
    version_table_unref(table);
    table_meta_free(&added.meta);
    table_meta_free(&meta);
    return result;
}

/* ---- the running parts ---- */

static struct blob_reader_options blob_reader_options_of(struct engine *engine)
{
    return (struct blob_reader_options){
        .io = engine->io,
        .chunk_directory = engine->store->chunks,
        .store_uuid = engine->store->format.uuid,
        .cache = engine->cache,
        .descriptors_max = engine->options.descriptors_max,
        .resolve = catalogue_resolve,
        .context = engine,
    };
}

static int open_parts(struct recovery *recovery)
{
    struct engine *engine = recovery->engine;
    struct wal_options wal = {
        .io = engine->io,
        .directory = engine->store->wal,
        .store_uuid = engine->store->format.uuid,
        .segment_size_bytes = engine->options.wal_segment_bytes,
        .spares_max = 4,
    };
    struct blob_writer_options writer = {
        .io = engine->io,
        .chunk_directory = engine->store->chunks,
        .store_uuid = engine->store->format.uuid,
        .chunk_size_bytes = engine->store->format.chunk_size_bytes,
        .buffer_count = engine->options.blob_buffers,
        .sync_ahead_bytes = engine->options.blob_sync_ahead_bytes,
        .compression_level = engine->store->format.compression_level,
        .crew = engine->crew,
        .allocate_id = engine_allocate_chunk_id,
        .context = engine,
    };
    struct blob_reader_options reader = blob_reader_options_of(engine);
    uint64_t segment = recovery->log.highest_segment + 1;
    int result;

    if (segment < engine->wal_segment)
        segment = engine->wal_segment;
    result = wal_open(&wal, segment, &engine->wal);
    if (result == 0)
        result = blob_writer_open(&writer, &engine->blob_writer);
    if (result == 0) {
        reader.writer = engine->blob_writer;
        result = blob_reader_open(&reader, &engine->blob_reader);
    }
    engine->wal_segment = segment;
    engine->fill = engine_fill_new();
    return result == 0 && engine->fill == NULL ? -ENOMEM : result;
}

static void set_sequence(struct engine *engine, uint64_t next)
{
    engine->next_sequence = next;
    engine->flushed_sequence = next - 1;
    atomic_store(&engine->visible_sequence, next - 1);
    atomic_store(&engine->written_sequence, next - 1);
    atomic_store(&engine->durable_sequence, next - 1);
}

static int start_superversion(struct recovery *recovery, struct version *version)
{
    struct engine *engine = recovery->engine;
    struct memtable *active = memtable_new(recovery->next_sequence);

    if (active == NULL)
        return -ENOMEM;
    engine->super = superversion_new(version, &active, 1);
    memtable_unref(active);
    set_sequence(engine, recovery->next_sequence);
    return engine->super != NULL ? 0 : -ENOMEM;
}

/* Files that neither the manifest nor the log refers to: left by a crash before a commit. */
static void delete_orphans(struct recovery *recovery)
{
    struct engine *engine = recovery->engine;

    for (size_t i = 0; i < recovery->file_count; i++) {
        const struct chunk_identity *file = &recovery->files[i];
        char name[CHUNK_NAME_SIZE];
        bool known = catalogue_find(engine, file->id, NULL) && file->kind == CHUNK_BLOB;

        for (size_t j = 0; !known && j < recovery->state.table_count; j++)
            known = recovery->state.tables[j].meta.identity.id == file->id;
        if (known)
            continue;
        if (file->kind == 0)
            chunk_open_name(name, file->id);
        else
            chunk_name(name, file);
        if (store_remove_chunk(engine->store, name) == 0)
            log_debug("%s: chunk %s, left by a crash, was removed", engine->path, name);
    }
}

static int recover_steps(struct recovery *recovery)
{
    struct engine *engine = recovery->engine;
    struct version *version = NULL;
    uint64_t new_segment;
    int result = load_state(recovery);

    if (result == 0)
        result = load_checkpoints(recovery);
    if (result == 0)
        result = replay(recovery);
    if (result == 0)
        result = engine_witness_check(engine, recovery->next_sequence - 1);
    if (result == 0)
        result = recover_blobs(recovery);
    if (result == 0)
        result = load_version(recovery, &version);
    if (result == 0 && recovery->highest_id >= atomic_load(&engine->next_chunk_id))
        atomic_store(&engine->next_chunk_id, recovery->highest_id + 1);
    if (result == 0)
        result = start_superversion(recovery, version);
    version_unref(version);
    if (result < 0)
        return result;
    /* Until the last commit the log's start stays, so that a crash finds all of it again. */
    new_segment = engine->wal_segment;
    result = open_parts(recovery);
    if (result < 0)
        return result;
    {
        uint64_t opened = engine->wal_segment;

        engine->wal_segment = new_segment;
        new_segment = opened;
    }
    for (size_t i = 0; result == 0 && i < recovery->replayed_count; i++)
        result = flush_replayed(recovery, &recovery->replayed[i], i == 0);
    if (result == 0) {
        struct manifest_edit edit = {0};

        engine->wal_segment = new_segment;
        engine->tables_sequence = recovery->next_sequence - 1;
        lock_acquire(&engine->install_lock);
        result = engine_install_locked(engine, &edit, NULL, 0, NULL);
        lock_release(&engine->install_lock);
    }
    if (result == 0)
        result = wal_delete_below(engine->io, engine->store->wal, engine->store->tmp, new_segment);
    if (result == 0)
        delete_orphans(recovery);
    return result;
}

/* ---- without any of it ---- */

/* Those whose directories are there: the manifest says so of all that are READY. */
static int show_checkpoints(struct recovery *recovery)
{
    struct manifest_checkpoint *records = recovery->state.checkpoints;
    int result = 0;

    for (size_t i = 0; result == 0 && i < recovery->state.checkpoint_count; i++)
        if (records[i].state == MANIFEST_CHECKPOINT_READY) {
            struct checkpoint *checkpoint;

            result = checkpoint_new(&checkpoint);
            if (result < 0)
                break;
            checkpoint->record = records[i];
            records[i] = (struct manifest_checkpoint){0};
            checkpoint->state = CHECKPOINT_READY;
            result = engine_checkpoint_insert(recovery->engine, checkpoint);
            if (result < 0)
                checkpoint_unref(checkpoint);
        }
    return result;
}

static int show_steps(struct recovery *recovery)
{
    struct engine *engine = recovery->engine;
    struct blob_reader_options reader = blob_reader_options_of(engine);
    struct version *version = NULL;
    int result = load_state(recovery);

    if (result == 0 && !recovery->state.scalars.clean)
        log_warning("%s was not closed cleanly and its log is not replayed: what was last "
                    "acknowledged is not shown",
                    engine->path);
    if (result == 0)
        result = show_checkpoints(recovery);
    if (result == 0)
        result = load_version(recovery, &version);
    if (result == 0) {
        engine->super = superversion_new(version, NULL, 0);
        result = engine->super != NULL ? blob_reader_open(&reader, &engine->blob_reader) : -ENOMEM;
    }
    version_unref(version);
    set_sequence(engine, recovery->next_sequence);
    return result;
}

static int recovery_run(struct engine *engine, int (*steps)(struct recovery *recovery))
{
    struct recovery recovery = {.engine = engine};
    int result = steps(&recovery);

    for (size_t i = 0; i < recovery.replayed_count; i++) {
        memtable_unref(recovery.replayed[i].memtable);
        checkpoint_unref(recovery.replayed[i].checkpoint);
    }
    for (size_t i = 0; i < recovery.piece_count; i++)
        free((void *)(uintptr_t)recovery.pieces[i].data);
    free(recovery.replayed);
    free(recovery.pieces);
    free(recovery.needed);
    free(recovery.files);
    free(recovery.recovered);
    manifest_state_free(&recovery.state);
    return result;
}

int engine_recover(struct engine *engine)
{
    return recovery_run(engine, recover_steps);
}

int engine_recover_nothing(struct engine *engine)
{
    return recovery_run(engine, show_steps);
}
