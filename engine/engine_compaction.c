/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine_compaction.c - the thread that merges tables, moves file data out of dying blob chunks,
 * and deletes what is no longer seen
 *
 * Merging never changes what a reader sees: newest record per key, minus what newer tombstones
 * cover; deletes and tombstones go only where nothing older can lie below. Sequence numbers stay,
 * so an inode's version survives. File data is copied only when its chunk was chosen for
 * collection.
 */
#include <errno.h>
#include <stdlib.h>

#include "engine/engine_internal.h"

#define COLLECT_LIVE_PERCENT_MAX 40
#define COLLECT_CHUNKS_MAX       16

/* Deletes sink when no memtable has been flushed for so long: while tables come one after another
 * the merging that is due takes them down, several at once. */
#define QUIET_NS UINT64_C(2000000000)

/* Merging that failed while writers wait for it is tried again after so long, and after so many times
 * as long as it took. */
#define RETRY_NS   UINT64_C(500000000)
#define RETRY_REST 7

struct output {
    struct engine *engine;
    const struct compaction *compaction;
    struct table_writer *writer;
    struct buffer start; /* lower end of the present table's share of the tombstones */
    struct version_table **tables;
    size_t table_count, table_capacity;
    const uint64_t *relocate; /* sorted ids */
    size_t relocate_count;
    const struct collection_totals *totals; /* when they were chosen */
    uint64_t freed_before;                  /* UINT64_MAX: all of it is copied, whatever comes */
    struct blob_writer *blobs;              /* for relocated data; opened when needed */
    uint8_t *frame;
    struct engine_pace pace;
    bool has_copied; /* the last record's data */
    uint64_t next_order;
    uint64_t bytes_written;
};

void engine_compaction_wake(struct engine *engine)
{
    lock_acquire(&engine->work_lock);
    engine->compaction_wanted = true;
    pthread_cond_signal(&engine->work_wanted);
    lock_release(&engine->work_lock);
}

void engine_compaction_pause(struct engine *engine)
{
    lock_acquire(&engine->work_lock);
    atomic_fetch_add(&engine->compaction_pauses, 1);
    while (engine->compaction_running)
        lock_wait(&engine->work_lock, &engine->work_done);
    lock_release(&engine->work_lock);
}

void engine_compaction_resume(struct engine *engine)
{
    lock_acquire(&engine->work_lock);
    invariant(atomic_fetch_sub(&engine->compaction_pauses, 1) > 0);
    engine->compaction_wanted = true;
    pthread_cond_signal(&engine->work_wanted);
    lock_release(&engine->work_lock);
}

void engine_compaction_set_read_only(struct engine *engine, bool read_only)
{
    lock_acquire(&engine->work_lock);
    atomic_store(&engine->read_only, read_only);
    while (read_only && engine->compaction_running)
        lock_wait(&engine->work_lock, &engine->work_done);
    engine->compaction_wanted = true;
    pthread_cond_signal(&engine->work_wanted);
    lock_release(&engine->work_lock);
}

/* ---- relocation ---- */

static int output_open_blobs(struct output *output)
{
    struct engine *engine = output->engine;
    struct blob_writer_options options = {
        .io = engine->io,
        .chunk_directory = engine->store->chunks,
        .store_uuid = engine->store->format.uuid,
        .chunk_size_bytes = engine->store->format.chunk_size_bytes,
        .buffer_count = 4,
        .compression_level = engine->store->format.compression_level,
        .allocate_id = engine_allocate_chunk_id,
        .context = engine,
    };

    output->frame = malloc(BLOB_FRAME_SIZE_MAX);
    if (output->frame == NULL)
        return -ENOMEM;
    return blob_writer_open(&options, &output->blobs);
}

/* Copy the slice's bytes to a fresh chunk; *value becomes the new reference. */
static int output_relocate(struct output *output, const struct blob_ref *from, uint8_t *value,
                           size_t *ret_size)
{
    struct blob_ref to;
    struct blob_read read;
    int result = 0;

    if (output->blobs == NULL)
        result = output_open_blobs(output);
    if (result < 0)
        return result;
    read = (struct blob_read){from, output->frame};
    result = blob_reader_read(output->engine->blob_reader, &read, 1);
    if (result < 0)
        return result;
    result = blob_writer_append(output->blobs, output->frame, from->length, BLOB_COMPRESS, &to);
    if (result < 0)
        return result;
    ENGINE_COUNT(output->engine, compaction_bytes_copied, from->length);
    *ret_size = blob_ref_encode(&to, value);
    return 0;
}

static bool output_must_relocate(const struct output *output, const struct record *record)
{
    uint64_t id;
    size_t low = 0, high = output->relocate_count;

    if (record->kind != RECORD_REFERENCE || high == 0 ||
        blob_ref_decode_chunk_id(record->value, &id) < 0)
        return false;
    while (low < high) {
        size_t middle = (low + high) / 2;

        if (output->relocate[middle] < id)
            low = middle + 1;
        else
            high = middle;
    }
    return low < output->relocate_count && output->relocate[low] == id;
}

/* ---- output tables ---- */

static int output_begin(struct output *output)
{
    struct engine *engine = output->engine;
    struct table_writer_options options = {
        .io = engine->io,
        .temporary_directory = engine->store->tmp,
        .chunk_directory = engine->store->chunks,
        .store_uuid = engine->store->format.uuid,
        .id = engine_allocate_chunk_id(engine),
        .compression_level = engine->store->format.compression_level,
    };

    return table_writer_new(&options, &output->writer);
}

static int output_tombstone(void *context, struct slice start, struct slice end, uint64_t sequence)
{
    struct output *output = context;
    int result = 0;

    if (output->writer == NULL)
        result = output_begin(output);
    if (result == 0)
        result = table_writer_add_tombstone(output->writer, start, end, sequence);
    return result;
}

/* Finish the present table; `end` (NULL data: the last one) is the first key of the next. */
static int output_finish(struct output *output, struct merge_iterator *merge, struct slice end)
{
    struct table_meta meta = {0};
    struct version_table *table;
    uint64_t order = 0;
    int result = 0;

    if (!output->compaction->bottom)
        result = merge_iterator_each_tombstone(merge, buffer_slice(&output->start), end,
                                               output_tombstone, output);
    if (result < 0 || output->writer == NULL)
        return result;
    if (output->table_count == output->table_capacity) {
        size_t capacity = output->table_capacity * 2 + 8;
        struct version_table **grown = realloc(output->tables, capacity * sizeof *grown);

        if (grown == NULL)
            return -ENOMEM;
        output->tables = grown;
        output->table_capacity = capacity;
    }
    result = table_writer_finish(output->writer, &meta);
    if (result < 0)
        return result;
    table_writer_free(output->writer);
    output->writer = NULL;
    output->bytes_written += meta.identity.file_size_bytes;
    /* The newest of its inputs: keeps the order of L0 when a table is rewritten there. */
    for (size_t i = 0; i < output->compaction->input_count; i++)
        if (output->compaction->inputs[i]->order > order)
            order = output->compaction->inputs[i]->order;
    table =
        version_table_new(&output->engine->source, output->compaction->output_level, order, &meta);
    if (table == NULL) {
        table_meta_free(&meta);
        return -ENOMEM;
    }
    output->tables[output->table_count++] = table;
    return buffer_assign(&output->start, end.data, end.size);
}

static int output_add(struct output *output, struct merge_iterator *merge,
                      const struct record *record)
{
    uint8_t value[BLOB_REF_SIZE_MAX];
    struct record moved = *record;
    int result = 0;

    output->has_copied = false;
    if (output->compaction->bottom && record->kind == RECORD_DELETE)
        return 0;
    if (output->writer != NULL &&
        table_writer_size_bytes(output->writer) >= output->engine->options.table_bytes &&
        output->compaction->output_level > 0) {
        result = output_finish(output, merge, record->key);
        if (result < 0)
            return result;
    }
    if (output_must_relocate(output, record)) {
        struct blob_ref ref;

        result = blob_ref_decode(record->value, &ref);
        output->has_copied = true;
        moved.value.data = value;
        if (result == 0)
            result = output_relocate(output, &ref, value, &moved.value.size);
        if (result < 0)
            return result;
    }
    if (output->writer == NULL)
        result = output_begin(output);
    if (result == 0)
        result = table_writer_add(output->writer, &moved);
    return result;
}

static int compaction_add_inputs(const struct compaction *compaction, struct merge_iterator *merge)
{
    int result = 0;

    for (size_t i = 0; result == 0 && i < compaction->input_count; i++)
        result = merge_iterator_add_table(merge, compaction->inputs[i], false);
    if (result == 0 && compaction->output_input_count > 0)
        result = merge_iterator_add_level(merge, compaction->inputs + compaction->input_count,
                                          compaction->output_input_count, false);
    return result;
}

/* What begins to be left behind now is not worth copying: the rest stays where it is. */
static void output_pace(struct output *output)
{
    const struct collection_totals *totals = output->totals;

    if (engine_pace_step(output->engine, &output->pace, output->has_copied,
                         engine_reclaim_is_urgent(totals)) &&
        engine_reclaim_overtakes(output->engine, totals, output->freed_before))
        output->relocate_count = 0;
}

static int compaction_merge(struct output *output)
{
    struct merge_iterator *merge = merge_iterator_new(MERGE_COMPACT);
    int result = merge != NULL ? compaction_add_inputs(output->compaction, merge) : -ENOMEM;

    engine_pace_begin(output->engine, &output->pace);
    if (result == 0)
        result = merge_iterator_seek(merge, slice_of("", 0));
    while (result > 0) {
        if (engine_latched(output->engine))
            result = ERROR_LATCHED;
        else
            result = output_add(output, merge, merge_iterator_record(merge));
        if (result == 0) {
            output_pace(output);
            result = merge_iterator_next(merge);
        }
    }
    if (result == 0)
        result = output_finish(output, merge, slice_of(NULL, 0));
    merge_iterator_free(merge);
    return result;
}

/* ---- installing ---- */

static int compaction_install(struct output *output, struct chunk_identity *sealed,
                              size_t sealed_count)
{
    struct engine *engine = output->engine;
    const struct compaction *compaction = output->compaction;
    size_t inputs = compaction->input_count + compaction->output_input_count;
    struct manifest_table *add = calloc(output->table_count + 1, sizeof *add);
    uint64_t *remove = calloc(inputs + 1, sizeof *remove);
    struct manifest_edit edit = {0};
    int result = add != NULL && remove != NULL ? 0 : -ENOMEM;

    for (size_t i = 0; result == 0 && i < output->table_count; i++) {
        add[i].level = output->tables[i]->level;
        add[i].order = output->tables[i]->order;
        result = table_meta_copy(&output->tables[i]->meta, &add[i].meta);
    }
    for (size_t i = 0; result == 0 && i < inputs; i++)
        remove[i] = compaction->inputs[i]->meta.identity.id;
    if (result == 0) {
        edit = (struct manifest_edit){
            .add_tables = add,
            .add_table_count = output->table_count,
            .remove_tables = remove,
            .remove_table_count = inputs,
            .add_blobs = sealed,
            .add_blob_count = sealed_count,
        };
        lock_acquire(&engine->install_lock);
        result = catalogue_add(engine, sealed, sealed_count);
        if (result == 0) {
            result =
                engine_install_locked(engine, &edit, output->tables, output->table_count, NULL);
            if (result < 0)
                catalogue_remove_all(engine, sealed, sealed_count);
        }
        lock_release(&engine->install_lock);
    }
    for (size_t i = 0; add != NULL && i < output->table_count; i++)
        table_meta_free(&add[i].meta);
    free(add);
    free(remove);
    return result;
}

static int compaction_seal_blobs(struct output *output, struct chunk_identity **ret_sealed,
                                 size_t *ret_count)
{
    if (output->blobs == NULL)
        return 0;
    (void)blob_writer_roll(output->blobs);
    return blob_writer_seal(output->blobs, UINT64_MAX, ret_sealed, ret_count);
}

/* Data that was moved for nothing: on a full disk each attempt would leave more of it. */
static void compaction_discard_blobs(struct output *output, const struct chunk_identity *sealed,
                                     size_t count)
{
    struct engine *engine = output->engine;

    if (output->blobs == NULL || engine_latched(engine))
        return; /* what a failed commit says is not known before the next start */
    blob_writer_abandon(output->blobs);
    for (size_t i = 0; i < count; i++) {
        char name[CHUNK_NAME_SIZE];

        chunk_name(name, &sealed[i]);
        (void)io_unlink(engine->io, engine->store->chunks, name);
    }
}

static void compaction_obsolete_inputs(struct engine *engine, const struct compaction *compaction)
{
    size_t inputs = compaction->input_count + compaction->output_input_count;

    for (size_t i = 0; i < inputs; i++) {
        ENGINE_COUNT(engine, compaction_bytes_read,
                     compaction->inputs[i]->meta.identity.file_size_bytes);
        engine_obsolete_table(engine, &compaction->inputs[i]->meta.identity);
    }
}

/* One input, only its level changes: the same file, a new table object. */
static int compaction_move(struct engine *engine, const struct compaction *compaction)
{
    struct version_table *from = compaction->inputs[0], *to;
    struct manifest_table add = {.level = compaction->output_level, .order = from->order};
    struct manifest_edit edit = {0};
    struct table_meta meta = {0};
    uint64_t id = from->meta.identity.id;
    int result = table_meta_copy(&from->meta, &meta);

    if (result < 0)
        return result;
    to = version_table_new(&engine->source, compaction->output_level, from->order, &meta);
    if (to == NULL) {
        table_meta_free(&meta);
        return -ENOMEM;
    }
    result = table_meta_copy(&to->meta, &add.meta);
    if (result == 0) {
        edit = (struct manifest_edit){.add_tables = &add,
                                      .add_table_count = 1,
                                      .remove_tables = &id,
                                      .remove_table_count = 1};
        lock_acquire(&engine->install_lock);
        result = engine_install_locked(engine, &edit, &to, 1, NULL);
        lock_release(&engine->install_lock);
    }
    table_meta_free(&add.meta);
    version_table_unref(to);
    return result;
}

static void compaction_set_busy(const struct compaction *compaction, bool busy)
{
    for (size_t i = 0; i < compaction->input_count + compaction->output_input_count; i++)
        atomic_store(&compaction->inputs[i]->busy, busy);
}

static int compaction_run(struct engine *engine, const struct compaction *compaction,
                          const struct compaction_policy *policy,
                          const struct collection_totals *totals, uint64_t freed_before)
{
    struct output output = {.engine = engine,
                            .compaction = compaction,
                            .relocate = policy->relocate_chunks,
                            .relocate_count = policy->relocate_count,
                            .totals = totals,
                            .freed_before = freed_before};
    struct chunk_identity *sealed = NULL;
    size_t sealed_count = 0;
    struct engine_view *view;
    int result;

    if (compaction->trivial_move)
        return compaction_move(engine, compaction);
    view = engine_view_acquire(engine); /* pins the chunks that relocation reads */
    if (view == NULL)
        return -ENOMEM;
    result = compaction_merge(&output);
    if (result == 0)
        result = compaction_seal_blobs(&output, &sealed, &sealed_count);
    if (result == 0)
        result = compaction_install(&output, sealed, sealed_count);
    if (result == 0) {
        compaction_obsolete_inputs(engine, compaction);
        ENGINE_COUNT(engine, compactions, 1);
        ENGINE_COUNT(engine, compaction_bytes_written, output.bytes_written);
    } else {
        /* Nothing refers to the outputs: their files go at once. */
        for (size_t i = 0; i < output.table_count; i++)
            engine_obsolete_table(engine, &output.tables[i]->meta.identity);
        compaction_discard_blobs(&output, sealed, sealed_count);
    }
    engine_view_release(view);
    table_writer_free(output.writer);
    blob_writer_close(output.blobs);
    for (size_t i = 0; i < output.table_count; i++)
        version_table_unref(output.tables[i]);
    free(output.tables);
    free(output.frame);
    free(sealed);
    buffer_free(&output.start);
    return result;
}

/* ---- which chunks to collect ---- */

/* Chunks that a checkpoint links keep their bytes whatever we do: copying out of them frees
 * nothing. Those of `all`, by rising id, into `pinned`. */
static size_t find_linked(struct engine *engine, const struct chunk_identity *all, size_t count,
                          uint64_t *pinned)
{
    size_t linked = 0;

    for (size_t i = 0; i < count; i++) {
        char name[CHUNK_NAME_SIZE];
        struct stat status;

        chunk_name(name, &all[i]);
        if (io_stat_at(engine->io, engine->store->chunks, name, &status) != 0 ||
            status.st_nlink > 1)
            pinned[linked++] = all[i].id;
    }
    return linked;
}

/* Pinned chunks are left out before the choice, not after it: what is left of a choice would be
 * collected again and again, each time into a fresh small chunk that the next choice finds. */
static size_t choose_chunks(struct engine *engine, const struct version *version, bool idle,
                            uint64_t *ids, struct collection_totals *ret_totals)
{
    struct collection_policy policy = {
        .chunk_size_bytes = engine->store->format.chunk_size_bytes,
        .live_percent_max = COLLECT_LIVE_PERCENT_MAX,
        .idle = idle,
    };
    struct chunk_identity *all;
    uint64_t *pinned;
    size_t all_count, count = 0;

    *ret_totals = (struct collection_totals){0};
    if (catalogue_copy(engine, &all, &all_count) < 0)
        return 0;
    pinned = malloc((all_count + 1) * sizeof *pinned);
    if (pinned != NULL && collection_pick(version, all, all_count, &policy, ids, COLLECT_CHUNKS_MAX,
                                          ret_totals) > 0) {
        policy.pinned = pinned;
        policy.pinned_count = find_linked(engine, all, all_count, pinned);
        count =
            collection_pick(version, all, all_count, &policy, ids, COLLECT_CHUNKS_MAX, ret_totals);
    }
    free(pinned);
    free(all);
    return count;
}

/* ---- the thread ---- */

/* When nothing urgent is to be expected; 0: now, also when the disk needs what deletes give back. */
static uint64_t quiet_from_ns(struct engine *engine)
{
    uint64_t quiet_ns = atomic_load(&engine->last_flush_ns) + QUIET_NS;

    return quiet_ns <= clock_monotonic_ns() || engine_space_is_low(engine) ? 0 : quiet_ns;
}

/* One compaction, if there is one to do: 1 done, 0 nothing, negative error. `is_waited_for`: by
 * engine_compact(), which promises that chunks are collected. */
static int compaction_step(struct engine *engine, bool full, bool is_waited_for,
                           uint64_t *ret_quiet_ns)
{
    uint64_t relocate[COLLECT_CHUNKS_MAX];
    struct collection_totals totals;
    struct superversion *super = engine_super(engine);
    uint64_t quiet_ns = quiet_from_ns(engine);
    size_t relocate_count =
        choose_chunks(engine, super->version, is_waited_for || quiet_ns == 0, relocate, &totals);
    struct compaction_policy policy = {
        .base_bytes = engine->options.level_base_bytes,
        .table_bytes = engine->options.table_bytes,
        .idle = quiet_ns == 0,
        .relocate_chunks = relocate,
        .relocate_count = relocate_count,
    };
    struct compaction compaction = {0};
    int result;

    if (!is_waited_for && engine_reclaim_comes_first(engine, &totals))
        policy.relocate_count = 0;
    result = full ? compaction_pick_full(super->version, &compaction)
                  : compaction_pick(super->version, &policy, &compaction);
    if (result > 0) {
        compaction_set_busy(&compaction, true);
        result = compaction_run(engine, &compaction, &policy, &totals,
                                is_waited_for ? UINT64_MAX : engine_reclaim_freed(engine));
        compaction_set_busy(&compaction, false);
        compaction_free(&compaction);
        if (result == 0)
            result = 1;
    }
    superversion_unref(super);
    *ret_quiet_ns = quiet_ns;
    return result;
}

/* *ret_again_ns: when there may be more to do, 0: when something wakes the thread. */
static int compaction_work(struct engine *engine, bool full, uint64_t *ret_again_ns)
{
    uint64_t look_ns = 0;
    bool reclaim = !full && engine_reclaim_is_due(engine, &look_ns);
    int result = 0;

    if (full || reclaim)
        result = compaction_step(engine, true, full, ret_again_ns);
    if (reclaim)
        engine_reclaim_end(engine, result);
    while (result >= 0 && !engine_latched(engine) && !engine->read_only) {
        bool stopping;

        engine_collect(engine);
        lock_acquire(&engine->write_lock);
        stopping = engine->stopping;
        lock_release(&engine->write_lock);
        if (stopping)
            break;
        result = compaction_step(engine, false, full, ret_again_ns);
        if (result <= 0)
            break;
    }
    engine_collect(engine);
    if (look_ns != 0 && (*ret_again_ns == 0 || look_ns < *ret_again_ns))
        *ret_again_ns = look_ns;
    return result < 0 ? result : 0;
}

/* What cannot be read stays as it is and reads of it say so; a full disk is tried again later. Only
 * a failed write or sync means that the disk can no longer be trusted with writes. */
static bool compaction_is_write_error(int result)
{
    return result < 0 && result != ERROR_LATCHED && result != ERROR_CORRUPT &&
           result != ERROR_TRUNCATED && result != ERROR_MISSING_CHUNK && result != ERROR_FOREIGN &&
           !error_is_shortage(result);
}

/* Tell writers whether merging works, and when it is to be tried again though nothing wakes the thread:
 * writers who are refused flush nothing. `took_ns`: the attempt. write_lock held. */
static void compaction_note_locked(struct engine *engine, int result, uint64_t took_ns,
                                   uint64_t *again_ns)
{
    uint64_t retry_ns = clock_monotonic_ns() + RETRY_NS + RETRY_REST * took_ns;

    engine->compaction_starved = result != ERROR_LATCHED ? result : 0;
    if (engine->compaction_starved == 0)
        return;
    pthread_cond_broadcast(&engine->room);
    if (engine->super->version->counts[0] >= COMPACTION_L0_STOP &&
        (*again_ns == 0 || retry_ns < *again_ns))
        *again_ns = retry_ns;
}

/* For work, or until again_ns unless that is 0; work_lock held. */
static void compaction_wait_locked(struct engine *engine, uint64_t again_ns)
{
    while (atomic_load(&engine->compaction_pauses) > 0 ||
           (!engine->compaction_wanted &&
            engine->full_compactions_asked == engine->full_compactions_done)) {
        if (again_ns == 0)
            lock_wait(&engine->work_lock, &engine->work_wanted);
        else if (!lock_wait_until(&engine->work_lock, &engine->work_wanted, again_ns)) {
            engine->compaction_wanted = true;
            again_ns = 0;
        }
    }
}

void *engine_compaction_main(void *context)
{
    struct engine *engine = context;
    uint64_t again_ns = 0;

    lock_acquire(&engine->work_lock);
    for (;;) {
        bool full;
        uint64_t asked, begin_ns;
        int result;

        compaction_wait_locked(engine, again_ns);
        again_ns = 0;
        engine->compaction_wanted = false;
        engine->compaction_running = true;
        asked = engine->full_compactions_asked;
        full = asked != engine->full_compactions_done;
        lock_release(&engine->work_lock);

        begin_ns = clock_monotonic_ns();
        result = engine_latched(engine) ? ERROR_LATCHED
                 : engine->read_only    ? 0
                                        : compaction_work(engine, full, &again_ns);
        lock_acquire(&engine->write_lock);
        if (compaction_is_write_error(result))
            engine_latch(engine, result, "compaction");
        compaction_note_locked(engine, result, clock_monotonic_ns() - begin_ns, &again_ns);
        if (engine_latched(engine))
            engine_wake_locked(engine);
        if (engine->stopping)
            asked = UINT64_MAX;
        lock_release(&engine->write_lock);

        lock_acquire(&engine->work_lock);
        engine->compaction_running = false;
        engine->compaction_error = result;
        engine->full_compactions_done =
            asked == UINT64_MAX ? engine->full_compactions_asked : asked;
        pthread_cond_broadcast(&engine->work_done);
        if (asked == UINT64_MAX)
            break;
    }
    lock_release(&engine->work_lock);
    return NULL;
}

int engine_compact(struct engine *engine)
{
    uint64_t ticket;
    int result = engine_flush(engine);

    if (result == 0 && engine->read_only)
        result = -EROFS;
    if (result < 0)
        return result;
    lock_acquire(&engine->work_lock);
    ticket = ++engine->full_compactions_asked;
    pthread_cond_signal(&engine->work_wanted);
    while (engine->full_compactions_done < ticket)
        lock_wait(&engine->work_lock, &engine->work_done);
    result = engine->compaction_error;
    lock_release(&engine->work_lock);
    return result;
}
