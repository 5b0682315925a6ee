/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine_view.c - superversions, views, iterators, reads
 */
#include <errno.h>
#include <stdlib.h>

#include "engine/engine_internal.h"

static struct superversion *superversion_allocate(size_t count)
{
    return malloc(sizeof(struct superversion) + count * sizeof(struct memtable *));
}

struct superversion *superversion_reserve(void)
{
    return superversion_allocate(SUPERVERSION_MEMTABLES_MAX);
}

void superversion_fill(struct superversion *super, struct version *version,
                       struct memtable *const *memtables, size_t count)
{
    atomic_init(&super->references, 1);
    super->version = version_ref(version);
    super->memtable_count = count;
    for (size_t i = 0; i < count; i++)
        super->memtables[i] = memtable_ref(memtables[i]);
}

struct superversion *superversion_new(struct version *version, struct memtable *const *memtables,
                                      size_t count)
{
    struct superversion *super = superversion_allocate(count);

    if (super != NULL)
        superversion_fill(super, version, memtables, count);
    return super;
}

struct superversion *superversion_ref(struct superversion *super)
{
    atomic_fetch_add_explicit(&super->references, 1, memory_order_relaxed);
    return super;
}

void superversion_unref(struct superversion *super)
{
    if (super == NULL ||
        atomic_fetch_sub_explicit(&super->references, 1, memory_order_acq_rel) != 1)
        return;
    for (size_t i = 0; i < super->memtable_count; i++)
        memtable_unref(super->memtables[i]);
    version_unref(super->version);
    free(super);
}

void engine_publish(struct engine *engine, struct superversion *super)
{
    struct superversion *old;

    lock_acquire(&engine->view_lock);
    old = engine->super;
    engine->super = super;
    lock_release(&engine->view_lock);
    superversion_unref(old);
}

struct superversion *engine_super(struct engine *engine)
{
    struct superversion *super;

    lock_acquire(&engine->view_lock);
    super = superversion_ref(engine->super);
    lock_release(&engine->view_lock);
    return super;
}

struct engine_view *engine_view_acquire(struct engine *engine)
{
    struct engine_view *view = calloc(1, sizeof *view);

    if (view == NULL)
        return NULL;
    view->engine = engine;
    view->blobs = engine->blob_reader;
    lock_acquire(&engine->view_lock);
    /* Whatever is acknowledged by now was applied to a memtable that this superversion holds: a
     * freeze publishes the new memtable here before anything is written to it. */
    view->super = superversion_ref(engine->super);
    view->sequence = atomic_load_explicit(&engine->visible_sequence, memory_order_acquire);
    view->pin.epoch = engine->epoch;
    view->pin.previous = engine->pins.previous;
    view->pin.next = &engine->pins;
    view->pin.previous->next = &view->pin;
    engine->pins.previous = &view->pin;
    engine->view_count++;
    lock_release(&engine->view_lock);
    view->version = view->super->version;
    return view;
}

void engine_view_release(struct engine_view *view)
{
    bool was_oldest = false, collect = false;

    if (view == NULL)
        return;
    if (view->super != NULL) {
        struct engine *engine = view->engine;

        lock_acquire(&engine->view_lock);
        was_oldest = view->pin.previous == &engine->pins;
        view->pin.previous->next = view->pin.next;
        view->pin.next->previous = view->pin.previous;
        engine->view_count--;
        collect =
            was_oldest && engine->obsolete != NULL &&
            (engine->pins.next == &engine->pins || engine->pins.next->epoch > view->pin.epoch);
        lock_release(&engine->view_lock);
        superversion_unref(view->super);
        if (collect)
            engine_compaction_wake(engine);
    } else {
        version_unref(view->version);
        checkpoint_source_free(view->source);
        if (view->checkpoint != NULL)
            engine_checkpoint_view_closed(view->engine, view->checkpoint);
    }
    free(view);
}

uint64_t engine_view_sequence(const struct engine_view *view)
{
    return view->sequence;
}

bool engine_view_pins_live(const struct engine_view *view)
{
    return view->super != NULL;
}

static int source_resolve(void *context, uint64_t id, struct chunk_identity *ret_identity)
{
    const struct checkpoint_source *source = context;
    struct chunk_identity wanted = {.id = id};
    const struct chunk_identity *found =
        bsearch(&wanted, source->identities, source->identity_count, sizeof wanted,
                engine_identity_compare);

    if (found == NULL)
        return ERROR_MISSING_CHUNK;
    *ret_identity = *found;
    return 0;
}

static bool find_blob(struct engine_view *view, uint64_t id, struct chunk_identity *ret_identity)
{
    if (view->source != NULL)
        return source_resolve(view->source, id, ret_identity) == 0;
    return catalogue_find(view->engine, id, ret_identity);
}

int engine_view_each_chunk(struct engine_view *view, engine_chunk_callback *callback, void *context)
{
    const struct version *version = view->version;
    int result = 0;

    for (uint32_t level = 0; level < VERSION_LEVELS; level++)
        for (size_t i = 0; result == 0 && i < version->counts[level]; i++)
            result = callback(context, &version->levels[level][i]->meta.identity);
    for (size_t i = 0; result == 0 && i < version->blob_count; i++) {
        struct chunk_identity identity;

        /* One that is not sealed yet has no identity. */
        if (find_blob(view, version->blobs[i].chunk_id, &identity))
            result = callback(context, &identity);
    }
    return result;
}

/* A record was found under `tombstone`: is it there for a reader? */
static int view_found(const struct record *record, uint64_t tombstone)
{
    return record->kind != RECORD_DELETE && record->sequence > tombstone;
}

int engine_view_get(struct engine_view *view, struct slice key, struct buffer *value,
                    struct record *ret_record)
{
    struct record record;
    uint64_t tombstone = 0;
    size_t memtables = view->super != NULL ? view->super->memtable_count : 0;
    int result;

    for (size_t i = 0; i < memtables; i++) {
        result = memtable_get(view->super->memtables[i], key, view->sequence, &record, &tombstone);
        if (result < 0)
            return result;
        if (result > 0) {
            if (!view_found(&record, tombstone))
                return 0;
            result = buffer_assign(value, record.value.data, record.value.size);
            if (result < 0)
                return result;
            goto found;
        }
        /* All that is older has lower sequence numbers than anything in this memtable. */
        if (tombstone > 0)
            return 0;
    }
    result = version_get(view->version, key, value, &record, &tombstone);
    if (result <= 0)
        return result;
    if (!view_found(&record, tombstone))
        return 0;
found:
    if (ret_record != NULL) {
        *ret_record = record;
        ret_record->key = key;
        ret_record->value = buffer_slice(value);
    }
    return 1;
}

/* ---- iterators ---- */

struct engine_iterator {
    struct merge_iterator *merge;
    struct buffer upper_bound;
    bool at_end;
};

static int iterator_add_sources(struct merge_iterator *merge, struct engine_view *view)
{
    struct version *version = view->version;
    int result;

    for (size_t i = 0; view->super != NULL && i < view->super->memtable_count; i++) {
        result = merge_iterator_add_memtable(merge, view->super->memtables[i], view->sequence);
        if (result < 0)
            return result;
    }
    for (size_t i = 0; i < version->counts[0]; i++) {
        result = merge_iterator_add_table(merge, version->levels[0][i], true);
        if (result < 0)
            return result;
    }
    for (uint32_t level = 1; level < VERSION_LEVELS; level++) {
        if (version->counts[level] == 0)
            continue;
        result =
            merge_iterator_add_level(merge, version->levels[level], version->counts[level], true);
        if (result < 0)
            return result;
    }
    return 0;
}

int engine_iterator_new(struct engine_view *view, struct slice upper_bound,
                        struct engine_iterator **ret_iterator)
{
    struct engine_iterator *iterator = calloc(1, sizeof *iterator);
    int result = -ENOMEM;

    if (iterator == NULL)
        return -ENOMEM;
    iterator->merge = merge_iterator_new(MERGE_READ);
    if (iterator->merge == NULL)
        goto fail;
    result = buffer_assign(&iterator->upper_bound, upper_bound.data, upper_bound.size);
    if (result < 0)
        goto fail;
    result = iterator_add_sources(iterator->merge, view);
    if (result < 0)
        goto fail;
    *ret_iterator = iterator;
    return 0;
fail:
    engine_iterator_free(iterator);
    return result;
}

void engine_iterator_free(struct engine_iterator *iterator)
{
    if (iterator == NULL)
        return;
    merge_iterator_free(iterator->merge);
    buffer_free(&iterator->upper_bound);
    free(iterator);
}

static int iterator_bound(struct engine_iterator *iterator, int result)
{
    if (result > 0 && iterator->upper_bound.size > 0 &&
        slice_compare(merge_iterator_record(iterator->merge)->key,
                      buffer_slice(&iterator->upper_bound)) >= 0)
        result = 0;
    iterator->at_end = result <= 0;
    return result;
}

int engine_iterator_seek(struct engine_iterator *iterator, struct slice key)
{
    return iterator_bound(iterator, merge_iterator_seek(iterator->merge, key));
}

int engine_iterator_next(struct engine_iterator *iterator)
{
    if (iterator->at_end)
        return 0;
    return iterator_bound(iterator, merge_iterator_next(iterator->merge));
}

const struct record *engine_iterator_record(const struct engine_iterator *iterator)
{
    return merge_iterator_record(iterator->merge);
}

/* ---- file data ---- */

_Static_assert(sizeof(struct engine_blob_read) == sizeof(struct blob_read) &&
                   offsetof(struct engine_blob_read, ref) == offsetof(struct blob_read, ref) &&
                   offsetof(struct engine_blob_read, to) == offsetof(struct blob_read, to),
               "the public and the internal request are one layout");

int engine_blob_read(struct engine_view *view, const struct engine_blob_read *reads, size_t count)
{
    return blob_reader_read(view->blobs, (const struct blob_read *)reads, count);
}

/* ---- checkpoints as sources ---- */

static int source_build_version(struct checkpoint_source *source,
                                const struct sealed_manifest *manifest,
                                struct version **ret_version)
{
    struct version_table **tables = calloc(manifest->table_count + 1, sizeof *tables);
    size_t count = 0;
    int result = tables != NULL ? 0 : -ENOMEM;

    for (; result == 0 && count < manifest->table_count; count++) {
        const struct manifest_table *entry = &manifest->tables[count];
        struct table_meta meta = {0};

        result = table_meta_copy(&entry->meta, &meta);
        if (result < 0)
            break;
        tables[count] = version_table_new(&source->tables, entry->level, entry->order, &meta);
        if (tables[count] == NULL) {
            table_meta_free(&meta);
            result = -ENOMEM;
            break;
        }
    }
    if (result == 0)
        result = version_build(NULL, NULL, 0, tables, count, ret_version);
    for (size_t i = 0; i < count; i++)
        version_table_unref(tables[i]);
    free(tables);
    return result;
}

int checkpoint_source_open(struct engine *engine, struct io_file *directory,
                           const struct sealed_manifest *manifest, struct version **ret_version,
                           struct checkpoint_source **ret_source)
{
    struct checkpoint_source *source = calloc(1, sizeof *source);
    struct blob_reader_options options;
    int result = -ENOMEM;

    if (source == NULL)
        return -ENOMEM;
    source->io = engine->io;
    source->identities = malloc((manifest->blob_count + 1) * sizeof *source->identities);
    if (source->identities == NULL)
        goto fail;
    if (manifest->blob_count > 0)
        memcpy(source->identities, manifest->blobs,
               manifest->blob_count * sizeof *source->identities);
    source->identity_count = manifest->blob_count;
    qsort(source->identities, source->identity_count, sizeof *source->identities,
          engine_identity_compare);
    result =
        io_open(engine->io, directory, "chunks", IO_OPEN_DIRECTORY, 0, &source->chunk_directory);
    if (result < 0)
        goto fail;
    source->tables =
        (struct version_source){engine->io, source->chunk_directory,
                                store_format_chunk_uuid(&engine->store->format), engine->cache};
    options = (struct blob_reader_options){
        .io = engine->io,
        .chunk_directory = source->chunk_directory,
        .store_uuid = engine->store->format.uuid,
        .cache = engine->cache,
        .around = &engine->read_around,
        .descriptors_max = engine->options.descriptors_max,
        .resolve = source_resolve,
        .context = source,
    };
    result = blob_reader_open(&options, &source->blobs);
    if (result < 0)
        goto fail;
    result = source_build_version(source, manifest, ret_version);
    if (result < 0)
        goto fail;
    *ret_source = source;
    return 0;
fail:
    checkpoint_source_free(source);
    return result;
}

void checkpoint_source_free(struct checkpoint_source *source)
{
    if (source == NULL)
        return;
    blob_reader_close(source->blobs);
    io_close(source->io, source->chunk_directory);
    free(source->identities);
    free(source);
}
