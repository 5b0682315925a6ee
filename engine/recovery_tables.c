/* SPDX-License-Identifier: Apache-2.0 */
/*
 * recovery_tables.c - the tables of the manifest, and replayed memtables that become some
 */
#include <errno.h>
#include <stdlib.h>

#include "engine/recovery_internal.h"

int recovery_tables_load(struct recovery *recovery, struct version **ret_version)
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

int recovery_tables_flush(struct recovery *recovery, struct replayed *replayed, bool first)
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

        result = recovery_checkpoint_make(engine, checkpoint, plan);
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
