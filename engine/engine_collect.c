/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine_collect.c - chunks that nothing reachable refers to, and their deletion
 *
 * A table leaves the version at the commit of a compaction; a blob chunk is dead when neither the
 * present version nor a memtable refers to it. Either gets the next epoch. Whoever could still see
 * it, or could put a reference to it into a batch, began with an older pin: when no pin of that
 * epoch or an older one is left, a blob is looked at once more, the manifest forgets it, and the
 * file goes.
 */
#include <errno.h>
#include <stdlib.h>

#include "engine/engine_internal.h"

/* view_lock held. */
static bool obsolete_is_noted(struct engine *engine, const struct chunk_identity *identity)
{
    for (const struct obsolete *entry = engine->obsolete; entry != NULL; entry = entry->next)
        if (entry->identity.kind == identity->kind && entry->identity.id == identity->id)
            return true;
    return false;
}

/* Looked up and added under one lock: two threads collect, and an entry that is there twice would
 * be forgotten by the manifest twice. */
static void obsolete_add(struct engine *engine, const struct chunk_identity *identity)
{
    struct obsolete *obsolete = malloc(sizeof *obsolete);

    if (obsolete == NULL) {
        /* A table's file is found as an orphan at the next open; a blob is noted again next time.
         */
        log_warning("out of memory: chunk %016llx stays until the next start",
                    (unsigned long long)identity->id);
        return;
    }
    obsolete->identity = *identity;
    lock_acquire(&engine->view_lock);
    if (!obsolete_is_noted(engine, identity)) {
        obsolete->epoch = engine->epoch++;
        obsolete->next = engine->obsolete;
        engine->obsolete = obsolete;
        obsolete = NULL;
    }
    lock_release(&engine->view_lock);
    free(obsolete);
}

void engine_obsolete_table(struct engine *engine, const struct chunk_identity *identity)
{
    obsolete_add(engine, identity);
}

static bool version_has(const struct version *version, uint64_t id)
{
    for (uint32_t level = 0; level < VERSION_LEVELS; level++)
        for (size_t i = 0; i < version->counts[level]; i++)
            if (version->levels[level][i]->meta.identity.id == id)
                return true;
    return false;
}

void engine_obsolete_revive(struct engine *engine, const struct version *version)
{
    struct obsolete **link;

    lock_acquire(&engine->view_lock);
    link = &engine->obsolete;
    while (*link != NULL) {
        struct obsolete *entry = *link;

        if (entry->identity.kind == CHUNK_TABLE && version_has(version, entry->identity.id)) {
            *link = entry->next;
            free(entry);
        } else {
            link = &entry->next;
        }
    }
    lock_release(&engine->view_lock);
}

void engine_obsolete_free(struct engine *engine)
{
    while (engine->obsolete != NULL) {
        struct obsolete *next = engine->obsolete->next;

        free(engine->obsolete);
        engine->obsolete = next;
    }
}

static bool super_refers_to(const struct superversion *super, uint64_t id)
{
    bool refers = version_find_blob(super->version, id) != NULL;

    for (size_t i = 0; !refers && i < super->memtable_count; i++)
        refers = memtable_refers_to(super->memtables[i], id);
    return refers;
}

static bool blob_is_referenced(struct engine *engine, uint64_t id)
{
    struct superversion *super = engine_super(engine);
    bool referenced = super_refers_to(super, id);

    superversion_unref(super);
    return referenced;
}

static void note_dead_blobs(struct engine *engine)
{
    struct chunk_identity *all;
    size_t count;

    if (catalogue_copy(engine, &all, &count) < 0)
        return;
    for (size_t i = 0; i < count; i++)
        if (!blob_is_referenced(engine, all[i].id))
            obsolete_add(engine, &all[i]);
    free(all);
}

/* Cut off what no pin can see any more. */
static struct obsolete *take_unseen(struct engine *engine)
{
    struct obsolete *taken = NULL, **link;
    uint64_t oldest;

    lock_acquire(&engine->view_lock);
    oldest = engine->pins.next != &engine->pins ? engine->pins.next->epoch : UINT64_MAX;
    link = &engine->obsolete;
    while (*link != NULL) {
        struct obsolete *entry = *link;

        if (entry->epoch < oldest) {
            *link = entry->next;
            entry->next = taken;
            taken = entry;
        } else {
            link = &entry->next;
        }
    }
    lock_release(&engine->view_lock);
    return taken;
}

static void delete_file(struct engine *engine, const struct chunk_identity *identity)
{
    char name[CHUNK_NAME_SIZE];
    int result;

    chunk_name(name, identity);
    result = io_unlink(engine->io, engine->store->chunks, name);
    if (result < 0 && result != -ENOENT)
        log_warning("chunk %s could not be deleted: %s", name, error_text(result));
}

/* The epoch of the oldest pin. */
static uint64_t oldest_epoch(struct engine *engine)
{
    uint64_t oldest;

    lock_acquire(&engine->view_lock);
    oldest = engine->pins.next != &engine->pins ? engine->pins.next->epoch : UINT64_MAX;
    lock_release(&engine->view_lock);
    return oldest;
}

/* Somebody may still be about to write references to the chunk; install_lock held. */
static bool adopted_is_pinned(struct engine *engine, uint64_t id)
{
    uint64_t oldest = oldest_epoch(engine);
    bool pinned = false;
    size_t kept = 0;

    for (size_t i = 0; i < engine->adopted_count; i++) {
        if (engine->adopted[i].epoch < oldest)
            continue;
        pinned |= engine->adopted[i].chunk_id == id;
        engine->adopted[kept++] = engine->adopted[i];
    }
    engine->adopted_count = kept;
    return pinned;
}

/* ---- what views and unfinished checkpoints still see ---- */

struct seen {
    struct superversion **supers;
    size_t count;
};

static void seen_free(struct seen *seen)
{
    for (size_t i = 0; i < seen->count; i++)
        superversion_unref(seen->supers[i]);
    free(seen->supers);
    *seen = (struct seen){0};
}

/* The superversions of all live views, each once. */
static int seen_collect(struct engine *engine, struct seen *ret_seen)
{
    struct seen seen = {0};
    int result = 0;

    lock_acquire(&engine->view_lock);
    seen.supers = malloc((engine->view_count + 1) * sizeof(struct superversion *));
    if (seen.supers == NULL)
        result = -ENOMEM;
    for (const struct pin *pin = engine->pins.next; result == 0 && pin != &engine->pins;
         pin = pin->next) {
        const struct engine_view *view =
            (const void *)((const char *)pin - offsetof(struct engine_view, pin));

        /* Views that follow each other mostly have the same. */
        if (seen.count == 0 || seen.supers[seen.count - 1] != view->super)
            seen.supers[seen.count++] = superversion_ref(view->super);
    }
    lock_release(&engine->view_lock);
    if (result == 0)
        *ret_seen = seen;
    return result;
}

static bool plan_refers_to(struct engine *engine, uint64_t id)
{
    bool refers = false;

    lock_acquire(&engine->checkpoint_lock);
    for (size_t i = 0; !refers && i < engine->checkpoint_count; i++) {
        const struct sealed_manifest *plan = engine->checkpoints[i]->plan;

        for (size_t blob = 0; plan != NULL && !refers && blob < plan->blob_count; blob++)
            refers = plan->blobs[blob].id == id;
    }
    lock_release(&engine->checkpoint_lock);
    return refers;
}

/*
 * A chunk may be noted as dead in the moment before the first reference to it is installed, and the
 * note then carries an epoch older than views that see the chunk alive. So what views and unfinished
 * checkpoints refer to is asked for itself; a note that is dropped for it comes again, with an epoch
 * of its own time.
 */
static bool is_seen(struct engine *engine, const struct seen *seen, uint64_t id)
{
    for (size_t i = 0; i < seen->count; i++)
        if (super_refers_to(seen->supers[i], id))
            return true;
    return plan_refers_to(engine, id);
}

/* Tables that came back since they were taken from the list; install_lock held. */
static void drop_revived_tables(struct engine *engine, struct obsolete **list)
{
    struct superversion *super = engine_super(engine);
    struct obsolete **link = list;

    while (*link != NULL) {
        struct obsolete *entry = *link;

        if (entry->identity.kind == CHUNK_TABLE &&
            version_has(super->version, entry->identity.id)) {
            *link = entry->next;
            free(entry);
        } else {
            link = &entry->next;
        }
    }
    superversion_unref(super);
}

/* Blobs that are dead still: out of the manifest in one commit, then their files. Others are
 * dropped from the list. install_lock held. */
static int forget_blobs_locked(struct engine *engine, struct obsolete **list)
{
    struct manifest_edit edit = {0};
    struct obsolete **link = list;
    struct seen seen;
    uint64_t *ids;
    size_t count = 0;
    int result = seen_collect(engine, &seen);

    if (result < 0)
        return result;
    for (const struct obsolete *entry = *list; entry != NULL; entry = entry->next)
        count++;
    ids = malloc((count + 1) * sizeof *ids);
    if (ids == NULL) {
        seen_free(&seen);
        return -ENOMEM;
    }
    count = 0;
    while (*link != NULL) {
        struct obsolete *entry = *link;

        if (entry->identity.kind == CHUNK_BLOB) {
            if (blob_is_referenced(engine, entry->identity.id) ||
                adopted_is_pinned(engine, entry->identity.id) ||
                is_seen(engine, &seen, entry->identity.id) ||
                !catalogue_find(engine, entry->identity.id, NULL)) {
                *link = entry->next;
                free(entry);
                continue;
            }
            ids[count++] = entry->identity.id;
        }
        link = &entry->next;
    }
    if (count > 0) {
        edit.remove_blobs = ids;
        edit.remove_blob_count = count;
        result = engine_install_locked(engine, &edit, NULL, 0, NULL);
        for (size_t i = 0; result == 0 && i < count; i++)
            catalogue_remove(engine, ids[i]);
    }
    free(ids);
    seen_free(&seen);
    return result;
}

/* Nothing was done with them: they are still to be deleted. */
static void put_back(struct engine *engine, struct obsolete *list)
{
    struct obsolete **tail = &list;

    while (*tail != NULL)
        tail = &(*tail)->next;
    lock_acquire(&engine->view_lock);
    *tail = engine->obsolete;
    engine->obsolete = list;
    lock_release(&engine->view_lock);
}

void engine_collect(struct engine *engine)
{
    struct obsolete *list;
    int result;

    if (engine_latched(engine))
        return;
    note_dead_blobs(engine);
    list = take_unseen(engine);
    if (list == NULL)
        return;
    /* Files go under the lock too, so that adopting a chunk never meets a half deleted one. */
    lock_acquire(&engine->install_lock);
    drop_revived_tables(engine, &list);
    result = forget_blobs_locked(engine, &list);
    if (result < 0) {
        put_back(engine, list);
        list = NULL;
    }
    while (list != NULL) {
        struct obsolete *next = list->next;

        if (list->identity.kind == CHUNK_BLOB)
            blob_reader_drop(engine->blob_reader, list->identity.id);
        delete_file(engine, &list->identity);
        free(list);
        list = next;
    }
    lock_release(&engine->install_lock);
}

/* ---- adopting ---- */

/* The index of the chunk's entry, or of where it would be; install_lock held. */
static size_t adopted_find(const struct engine *engine, uint64_t id)
{
    size_t low = 0, high = engine->adopted_count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (engine->adopted[middle].chunk_id < id)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static int adopted_make_room(struct engine *engine, uint64_t id)
{
    size_t capacity = engine->adopted_capacity * 2 + 64;
    struct adopted *grown;

    if (engine->adopted_count < engine->adopted_capacity)
        return 0;
    (void)adopted_is_pinned(engine, id); /* drops what is old */
    if (engine->adopted_count < engine->adopted_capacity)
        return 0;
    grown = realloc(engine->adopted, capacity * sizeof *grown);
    if (grown == NULL)
        return -ENOMEM;
    engine->adopted = grown;
    engine->adopted_capacity = capacity;
    return 0;
}

/* One entry a chunk, so there are never more than chunks. */
static int adopted_note(struct engine *engine, uint64_t id)
{
    size_t at = adopted_find(engine, id);

    if (at == engine->adopted_count || engine->adopted[at].chunk_id != id) {
        int result = adopted_make_room(engine, id);

        if (result < 0)
            return result;
        at = adopted_find(engine, id);
        memmove(&engine->adopted[at + 1], &engine->adopted[at],
                (engine->adopted_count - at) * sizeof *engine->adopted);
        engine->adopted_count++;
        engine->adopted[at].chunk_id = id;
    }
    lock_acquire(&engine->view_lock);
    engine->adopted[at].epoch = engine->epoch;
    lock_release(&engine->view_lock);
    return 0;
}

/* A chunk that got a name in chunks/: its link count first, or without a journal the disk may keep
 * the one of before, and deleting the checkpoint later would destroy the chunk. */
static int sync_chunk(struct engine *engine, const char *name)
{
    struct io_file *file;
    int result = io_open(engine->io, engine->store->chunks, name, IO_OPEN_READ, 0, &file);

    if (result < 0)
        return result;
    result = io_sync(engine->io, file, false);
    io_close(engine->io, file);
    if (result == 0)
        result = io_sync(engine->io, engine->store->chunks, false);
    if (result < 0)
        engine_latch(engine, result, "linking a chunk");
    return result;
}

static int adopt_link(struct engine *engine, struct engine_view *from, uint64_t id)
{
    struct chunk_identity identity;
    struct manifest_edit edit = {.add_blobs = &identity, .add_blob_count = 1};
    char name[CHUNK_NAME_SIZE];
    int result = ERROR_MISSING_CHUNK;

    for (size_t i = 0; i < from->source->identity_count && result < 0; i++) {
        if (from->source->identities[i].id == id) {
            identity = from->source->identities[i];
            result = 0;
        }
    }
    if (result < 0)
        return result;
    chunk_name(name, &identity);
    result = checkpoint_files_link(engine->io, from->source->chunk_directory, engine->store->chunks,
                                   name);
    if (result >= 0 || result == -EEXIST)
        result = sync_chunk(engine, name);
    if (result == 0)
        result = catalogue_add(engine, &identity, 1);
    if (result == 0) {
        result = engine_install_locked(engine, &edit, NULL, 0, NULL);
        if (result < 0)
            catalogue_remove(engine, id);
    }
    return result;
}

int engine_adopt_reference(struct engine *engine, struct engine_view *from,
                           const struct blob_ref *ref)
{
    int result;

    if (from->super != NULL)
        return 0;
    if (engine->read_only)
        return -EROFS;
    lock_acquire(&engine->install_lock);
    result =
        catalogue_find(engine, ref->chunk_id, NULL) ? 0 : adopt_link(engine, from, ref->chunk_id);
    if (result == 0)
        result = adopted_note(engine, ref->chunk_id);
    lock_release(&engine->install_lock);
    return result;
}
