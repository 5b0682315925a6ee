/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine_catalogue.c - which sealed blob chunks the live store has, by id
 */
#include <errno.h>
#include <stdlib.h>

#include "engine/engine_internal.h"

int engine_identity_compare(const void *left, const void *right)
{
    const struct chunk_identity *a = left, *b = right;

    return a->id < b->id ? -1 : a->id > b->id;
}

/* Index of the first entry with an id >= `id`. */
static size_t catalogue_lower_bound(const struct engine *engine, uint64_t id)
{
    size_t low = 0, high = engine->catalogue_count;

    while (low < high) {
        size_t middle = (low + high) / 2;

        if (engine->catalogue[middle].id < id)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

int catalogue_add(struct engine *engine, const struct chunk_identity *identities, size_t count)
{
    int result = 0;

    lock_shared_acquire_write(&engine->catalogue_lock);
    if (engine->catalogue_count + count > engine->catalogue_capacity) {
        size_t capacity = (engine->catalogue_count + count) * 2;
        struct chunk_identity *grown =
            realloc(engine->catalogue, capacity * sizeof *engine->catalogue);

        if (grown == NULL) {
            result = -ENOMEM;
            goto out;
        }
        engine->catalogue = grown;
        engine->catalogue_capacity = capacity;
    }
    for (size_t i = 0; i < count; i++) {
        size_t at = catalogue_lower_bound(engine, identities[i].id);

        invariant(at == engine->catalogue_count || engine->catalogue[at].id != identities[i].id);
        memmove(&engine->catalogue[at + 1], &engine->catalogue[at],
                (engine->catalogue_count - at) * sizeof *engine->catalogue);
        engine->catalogue[at] = identities[i];
        engine->catalogue_count++;
    }
out:
    lock_shared_release(&engine->catalogue_lock);
    return result;
}

void catalogue_remove(struct engine *engine, uint64_t id)
{
    size_t at;

    lock_shared_acquire_write(&engine->catalogue_lock);
    at = catalogue_lower_bound(engine, id);
    if (at < engine->catalogue_count && engine->catalogue[at].id == id) {
        engine->catalogue_count--;
        memmove(&engine->catalogue[at], &engine->catalogue[at + 1],
                (engine->catalogue_count - at) * sizeof *engine->catalogue);
    }
    lock_shared_release(&engine->catalogue_lock);
}

void catalogue_remove_all(struct engine *engine, const struct chunk_identity *identities,
                          size_t count)
{
    for (size_t i = 0; i < count; i++)
        catalogue_remove(engine, identities[i].id);
}

bool catalogue_find(struct engine *engine, uint64_t id, struct chunk_identity *ret_identity)
{
    bool found;
    size_t at;

    lock_shared_acquire_read(&engine->catalogue_lock);
    at = catalogue_lower_bound(engine, id);
    found = at < engine->catalogue_count && engine->catalogue[at].id == id;
    if (found && ret_identity != NULL)
        *ret_identity = engine->catalogue[at];
    lock_shared_release(&engine->catalogue_lock);
    return found;
}

int catalogue_copy(struct engine *engine, struct chunk_identity **ret_all, size_t *ret_count)
{
    struct chunk_identity *all;
    int result = 0;

    lock_shared_acquire_read(&engine->catalogue_lock);
    all = malloc((engine->catalogue_count + 1) * sizeof *all);
    if (all != NULL) {
        if (engine->catalogue_count > 0)
            memcpy(all, engine->catalogue, engine->catalogue_count * sizeof *all);
        *ret_all = all;
        *ret_count = engine->catalogue_count;
    } else {
        result = -ENOMEM;
    }
    lock_shared_release(&engine->catalogue_lock);
    return result;
}

int catalogue_resolve(void *context, uint64_t id, struct chunk_identity *ret_identity)
{
    return catalogue_find(context, id, ret_identity) ? 0 : ERROR_MISSING_CHUNK;
}
