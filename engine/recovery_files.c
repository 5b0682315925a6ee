/* SPDX-License-Identifier: Apache-2.0 */
/*
 * recovery_files.c - the chunk files that are there, and those that must be
 */
#include <errno.h>
#include <stdlib.h>

#include "engine/recovery_internal.h"

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
    result = recovery_grow((void **)&recovery->files, &recovery->file_capacity,
                           recovery->file_count, sizeof *recovery->files);
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

int recovery_files_scan(struct recovery *recovery)
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

/* Files that neither the manifest nor the log refers to: left by a crash before a commit. */
void recovery_files_delete_orphans(struct recovery *recovery)
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
