/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_manifest.c - tests of engine/manifest.h: edits, loading, checkpoints, leases
 *
 * The change log, the environment and damage have files of their own: test_manifest_changes.c,
 * test_manifest_environment.c, test_manifest_damage.c.
 */
#include "engine/manifest.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/base/error.h"
#include "engine/base/log.h"
#include "tests/lib/manifest_fixture.h"

/* A table with the keys from `first` to `last`, one character each, that uses blob 7 and `id` +
 * 100. */
static struct manifest_table table_of(uint64_t id, uint32_t level, const char *first,
                                      const char *last)
{
    struct manifest_table table = {.level = level, .order = id};
    struct table_meta *meta = &table.meta;

    meta->identity = blob_of(id);
    meta->identity.kind = CHUNK_TABLE;
    meta->records = 10 * id;
    meta->deletes = id;
    meta->tombstones = 2;
    meta->smallest_sequence = id;
    meta->largest_sequence = 100 + id;
    assert_int_equal(buffer_assign(&meta->smallest, first, strlen(first)), 0);
    assert_int_equal(buffer_assign(&meta->largest, last, strlen(last)), 0);
    meta->use_count = 2;
    meta->uses = calloc(2, sizeof *meta->uses);
    meta->uses[0] = (struct table_blob_use){.chunk_id = 7, .references = 3, .bytes = 4096 * id};
    meta->uses[1] = (struct table_blob_use){.chunk_id = id + 100, .references = 1, .bytes = 1};
    return table;
}

static void assert_identities_equal(const struct chunk_identity *a, const struct chunk_identity *b)
{
    assert_int_equal(a->id, b->id);
    assert_int_equal(a->kind, b->kind);
    assert_int_equal(a->file_size_bytes, b->file_size_bytes);
    assert_int_equal(a->hash.low, b->hash.low);
    assert_int_equal(a->hash.high, b->hash.high);
}

static void assert_tables_equal(const struct manifest_table *a, const struct manifest_table *b)
{
    assert_int_equal(a->level, b->level);
    assert_int_equal(a->order, b->order);
    assert_identities_equal(&a->meta.identity, &b->meta.identity);
    assert_int_equal(a->meta.records, b->meta.records);
    assert_true(slice_equal(buffer_slice(&a->meta.smallest), buffer_slice(&b->meta.smallest)));
    assert_true(slice_equal(buffer_slice(&a->meta.largest), buffer_slice(&b->meta.largest)));
    assert_int_equal(a->meta.use_count, b->meta.use_count);
    for (size_t i = 0; i < a->meta.use_count; i++)
        assert_int_equal(a->meta.uses[i].bytes, b->meta.uses[i].bytes);
}

/* ---- edits and loading ---- */

static void an_empty_manifest_has_first_ids_and_is_clean(void **state)
{
    struct manifest_state loaded;
    struct manifest_fixture fixture;

    (void)state;
    manifest_fixture_open(&fixture);
    for (int round = 0; round < 2; round++) {
        assert_int_equal(manifest_load(fixture.manifest, &loaded), 0);
        assert_int_equal(loaded.scalars.next_chunk_id, 1);
        assert_int_equal(loaded.scalars.next_order, 1);
        assert_int_equal(loaded.scalars.last_sequence, 0);
        assert_int_equal(loaded.scalars.wal_segment, 1);
        assert_int_equal(loaded.scalars.next_checkpoint_id, 1);
        assert_int_equal(loaded.scalars.unclean_starts, 0);
        assert_true(loaded.scalars.clean);
        assert_int_equal(loaded.table_count + loaded.blob_count + loaded.checkpoint_count, 0);
        manifest_state_free(&loaded);
        manifest_fixture_reopen(&fixture);
    }
    manifest_fixture_close(&fixture);
}

static void what_one_edit_adds_is_there_after_a_new_open_in_order(void **state)
{
    struct manifest_table tables[] = {table_of(9, 1, "m", "z"), table_of(4, 0, "a", "z"),
                                      table_of(3, 0, "c", "d"), table_of(8, 1, "a", "m")};
    const size_t sorted[] = {2, 1, 3, 0}; /* by level, then order */
    struct chunk_identity blobs[] = {blob_of(300), blob_of(7)};
    struct manifest_scalars scalars = {.next_chunk_id = 10,
                                       .next_order = 11,
                                       .last_sequence = 12,
                                       .wal_segment = 13,
                                       .next_checkpoint_id = 14,
                                       .unclean_starts = 15,
                                       .clean = false};
    struct manifest_edit edit = {.add_tables = tables,
                                 .add_table_count = 4,
                                 .add_blobs = blobs,
                                 .add_blob_count = 2,
                                 .scalars = &scalars};
    struct manifest_state loaded;
    struct manifest_fixture fixture;

    (void)state;
    manifest_fixture_open(&fixture);
    assert_int_equal(manifest_commit(fixture.manifest, &edit), 0);
    manifest_fixture_reopen(&fixture);
    assert_int_equal(manifest_load(fixture.manifest, &loaded), 0);
    assert_int_equal(loaded.table_count, 4);
    for (size_t i = 0; i < 4; i++)
        assert_tables_equal(&loaded.tables[i], &tables[sorted[i]]);
    assert_int_equal(loaded.blob_count, 2);
    assert_identities_equal(&loaded.blobs[0], &blobs[1]);
    assert_identities_equal(&loaded.blobs[1], &blobs[0]);
    assert_int_equal(loaded.scalars.next_chunk_id, 10);
    assert_int_equal(loaded.scalars.next_order, 11);
    assert_int_equal(loaded.scalars.last_sequence, 12);
    assert_int_equal(loaded.scalars.wal_segment, 13);
    assert_int_equal(loaded.scalars.next_checkpoint_id, 14);
    assert_int_equal(loaded.scalars.unclean_starts, 15);
    assert_false(loaded.scalars.clean);
    manifest_state_free(&loaded);
    for (size_t i = 0; i < 4; i++)
        table_meta_free(&tables[i].meta);
    manifest_fixture_close(&fixture);
}

static void a_table_moves_down_in_one_edit(void **state)
{
    struct manifest_table table = table_of(5, 0, "a", "b");
    const uint64_t id = 5;
    struct manifest_edit edit = {.add_tables = &table, .add_table_count = 1};
    struct manifest_state loaded;
    struct manifest_fixture fixture;

    (void)state;
    manifest_fixture_open(&fixture);
    assert_int_equal(manifest_commit(fixture.manifest, &edit), 0);
    table.level = 3;
    edit.remove_tables = &id;
    edit.remove_table_count = 1;
    assert_int_equal(manifest_commit(fixture.manifest, &edit), 0);
    assert_int_equal(manifest_load(fixture.manifest, &loaded), 0);
    assert_int_equal(loaded.table_count, 1);
    assert_int_equal(loaded.tables[0].level, 3);
    manifest_state_free(&loaded);
    table_meta_free(&table.meta);
    manifest_fixture_close(&fixture);
}

static void an_edit_that_fails_changes_nothing(void **state)
{
    struct chunk_identity blob = blob_of(2), wrong = blob_of(3);
    const uint64_t present = 1, missing = 99;
    struct manifest_scalars scalars = {.next_chunk_id = 1000};
    struct manifest_edit edit = {.add_blobs = &blob,
                                 .add_blob_count = 1,
                                 .remove_blobs = &present,
                                 .remove_blob_count = 1,
                                 .scalars = &scalars,
                                 .remove_checkpoints = &missing,
                                 .remove_checkpoint_count = 1};
    struct manifest_state loaded;
    struct manifest_fixture fixture;

    (void)state;
    manifest_fixture_open(&fixture);
    assert_int_equal(add_blob(fixture.manifest, 1), 0);
    assert_int_equal(manifest_commit(fixture.manifest, &edit), -ENOENT);
    edit.remove_checkpoint_count = 0;
    edit.remove_tables = &present; /* it is a blob */
    edit.remove_table_count = 1;
    assert_int_equal(manifest_commit(fixture.manifest, &edit), -ENOENT);
    edit.remove_table_count = 0;
    wrong.kind = CHUNK_TABLE;
    edit.add_blobs = &wrong;
    assert_int_equal(manifest_commit(fixture.manifest, &edit), -EINVAL);

    assert_int_equal(manifest_load(fixture.manifest, &loaded), 0);
    assert_int_equal(loaded.blob_count, 1);
    assert_int_equal(loaded.blobs[0].id, 1);
    assert_int_equal(loaded.scalars.next_chunk_id, 1);
    manifest_state_free(&loaded);

    edit.add_blobs = &blob;
    assert_int_equal(manifest_commit(fixture.manifest, &edit), 0); /* and nothing is poisoned */
    assert_int_equal(manifest_load(fixture.manifest, &loaded), 0);
    assert_int_equal(loaded.blob_count, 1);
    assert_int_equal(loaded.blobs[0].id, 2);
    assert_int_equal(loaded.scalars.next_chunk_id, 1000);
    manifest_state_free(&loaded);
    manifest_fixture_close(&fixture);
}

static void an_empty_edit_is_valid(void **state)
{
    struct manifest_fixture fixture;

    (void)state;
    manifest_fixture_open(&fixture);
    assert_int_equal(manifest_commit(fixture.manifest, &(struct manifest_edit){0}), 0);
    assert_int_equal(count_blobs(fixture.manifest), 0);
    manifest_fixture_close(&fixture);
}

static void tables_that_cannot_form_a_version_are_not_loaded(void **state)
{
    struct manifest_table tables[] = {table_of(1, 2, "a", "n"), table_of(2, 2, "m", "z")};
    struct manifest_edit edit = {.add_tables = tables, .add_table_count = 2};
    struct manifest_state loaded;
    struct manifest_fixture fixture;

    (void)state;
    manifest_fixture_open(&fixture);
    assert_int_equal(manifest_commit(fixture.manifest, &edit), 0);
    assert_int_equal(manifest_load(fixture.manifest, &loaded), ERROR_CORRUPT);
    table_meta_free(&tables[0].meta);
    table_meta_free(&tables[1].meta);
    manifest_fixture_close(&fixture);
}

/* ---- checkpoints and leases ---- */

static void set_bytes(struct buffer *buffer, const char *text)
{
    assert_int_equal(buffer_assign(buffer, text, strlen(text)), 0);
}

static void a_checkpoint_is_added_replaced_and_removed(void **state)
{
    struct manifest_checkpoint checkpoint = {.id = 3,
                                             .state = MANIFEST_CHECKPOINT_PENDING,
                                             .sequence = 44,
                                             .linked_files = 1,
                                             .linked_bytes = 2,
                                             .copied_files = 3,
                                             .copied_bytes = 4,
                                             .manifest_hash = {5, 6}};
    struct manifest_edit edit = {.put_checkpoint = &checkpoint};
    struct manifest_state loaded;
    struct manifest_fixture fixture;

    (void)state;
    manifest_fixture_open(&fixture);
    set_bytes(&checkpoint.name, "monday \xff");
    set_bytes(&checkpoint.payload, "tags");
    set_bytes(&checkpoint.plan, "what is to be linked");
    assert_int_equal(manifest_commit(fixture.manifest, &edit), 0);
    manifest_fixture_reopen(&fixture);
    assert_int_equal(manifest_load(fixture.manifest, &loaded), 0);
    assert_int_equal(loaded.checkpoint_count, 1);
    assert_int_equal(loaded.checkpoints[0].id, 3);
    assert_int_equal(loaded.checkpoints[0].state, MANIFEST_CHECKPOINT_PENDING);
    assert_int_equal(loaded.checkpoints[0].sequence, 44);
    assert_int_equal(loaded.checkpoints[0].linked_files, 1);
    assert_int_equal(loaded.checkpoints[0].linked_bytes, 2);
    assert_int_equal(loaded.checkpoints[0].copied_files, 3);
    assert_int_equal(loaded.checkpoints[0].copied_bytes, 4);
    assert_int_equal(loaded.checkpoints[0].manifest_hash.high, 6);
    assert_true(
        slice_equal(buffer_slice(&loaded.checkpoints[0].name), buffer_slice(&checkpoint.name)));
    assert_true(slice_equal(buffer_slice(&loaded.checkpoints[0].payload),
                            buffer_slice(&checkpoint.payload)));
    assert_true(
        slice_equal(buffer_slice(&loaded.checkpoints[0].plan), buffer_slice(&checkpoint.plan)));
    manifest_state_free(&loaded);

    checkpoint.state = MANIFEST_CHECKPOINT_READY;
    assert_int_equal(manifest_commit(fixture.manifest, &edit),
                     -EINVAL); /* a plan, but not pending */
    buffer_free(&checkpoint.plan);
    assert_int_equal(manifest_commit(fixture.manifest, &edit), 0);
    assert_int_equal(manifest_load(fixture.manifest, &loaded), 0);
    assert_int_equal(loaded.checkpoint_count, 1);
    assert_int_equal(loaded.checkpoints[0].state, MANIFEST_CHECKPOINT_READY);
    manifest_state_free(&loaded);

    edit =
        (struct manifest_edit){.remove_checkpoints = (uint64_t[]){3}, .remove_checkpoint_count = 1};
    assert_int_equal(manifest_commit(fixture.manifest, &edit), 0);
    assert_int_equal(manifest_load(fixture.manifest, &loaded), 0);
    assert_int_equal(loaded.checkpoint_count, 0);
    manifest_state_free(&loaded);
    manifest_checkpoint_free(&checkpoint);
    manifest_fixture_close(&fixture);
}

static void checkpoints_are_loaded_by_id_and_bad_ones_refused(void **state)
{
    struct manifest_checkpoint checkpoint = {.state = MANIFEST_CHECKPOINT_READY};
    struct manifest_edit edit = {.put_checkpoint = &checkpoint};
    struct manifest_state loaded;
    struct manifest_fixture fixture;
    char name[256];

    (void)state;
    manifest_fixture_open(&fixture);
    assert_int_equal(manifest_commit(fixture.manifest, &edit), -EINVAL); /* no id */
    for (uint64_t id = 300; id > 0; id -= 100) {
        checkpoint.id = id;
        assert_int_equal(manifest_commit(fixture.manifest, &edit), 0);
    }
    checkpoint.state = 9;
    assert_int_equal(manifest_commit(fixture.manifest, &edit), -EINVAL);
    checkpoint.state = MANIFEST_CHECKPOINT_DELETING;
    memset(name, 'n', sizeof name);
    assert_int_equal(buffer_assign(&checkpoint.name, name, 256), 0);
    assert_int_equal(manifest_commit(fixture.manifest, &edit), -EINVAL);
    assert_int_equal(manifest_load(fixture.manifest, &loaded), 0);
    assert_int_equal(loaded.checkpoint_count, 3);
    for (uint64_t i = 0; i < 3; i++)
        assert_int_equal(loaded.checkpoints[i].id, 100 * (i + 1));
    manifest_state_free(&loaded);
    manifest_checkpoint_free(&checkpoint);
    manifest_fixture_close(&fixture);
}

static void leases_count_until_they_expire_and_go_with_their_checkpoint(void **state)
{
    struct manifest_checkpoint checkpoint = {.id = 8, .state = MANIFEST_CHECKPOINT_READY};
    struct manifest_edit edit = {.put_checkpoint = &checkpoint};
    struct manifest_fixture fixture;
    char owner[257];

    (void)state;
    manifest_fixture_open(&fixture);
    assert_int_equal(manifest_commit(fixture.manifest, &edit), 0);
    assert_int_equal(manifest_lease_count(fixture.manifest, 8, 0), 0);
    assert_int_equal(manifest_lease_put(fixture.manifest, 8, "hold", 0), 0);
    assert_int_equal(manifest_lease_put(fixture.manifest, 8, "transfer", 1000), 0);
    assert_int_equal(manifest_lease_put(fixture.manifest, 9, "other", 0), 0);
    assert_int_equal(manifest_lease_count(fixture.manifest, 8, 999), 2);
    assert_int_equal(manifest_lease_count(fixture.manifest, 8, 1000), 1);
    assert_int_equal(manifest_lease_put(fixture.manifest, 8, "transfer", 2000), 0); /* longer */
    assert_int_equal(manifest_lease_count(fixture.manifest, 8, 1000), 2);
    assert_int_equal(manifest_lease_remove(fixture.manifest, 8, "hold"), 0);
    assert_int_equal(manifest_lease_remove(fixture.manifest, 8, "hold"), -ENOENT);
    manifest_fixture_reopen(&fixture);
    assert_int_equal(manifest_lease_count(fixture.manifest, 8, 1000), 1);

    memset(owner, 'o', 256);
    owner[256] = '\0';
    assert_int_equal(manifest_lease_put(fixture.manifest, 8, owner, 0), -EINVAL);
    assert_int_equal(manifest_lease_put(fixture.manifest, 8, "", 0), -EINVAL);
    owner[255] = '\0';
    assert_int_equal(manifest_lease_put(fixture.manifest, 8, owner, 0), 0);

    edit =
        (struct manifest_edit){.remove_checkpoints = (uint64_t[]){8}, .remove_checkpoint_count = 1};
    assert_int_equal(manifest_commit(fixture.manifest, &edit), 0);
    assert_int_equal(manifest_lease_count(fixture.manifest, 8, 0), 0);
    assert_int_equal(manifest_lease_count(fixture.manifest, 9, 0), 1);
    manifest_fixture_close(&fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_empty_manifest_has_first_ids_and_is_clean),
        cmocka_unit_test(what_one_edit_adds_is_there_after_a_new_open_in_order),
        cmocka_unit_test(a_table_moves_down_in_one_edit),
        cmocka_unit_test(an_edit_that_fails_changes_nothing),
        cmocka_unit_test(an_empty_edit_is_valid),
        cmocka_unit_test(tables_that_cannot_form_a_version_are_not_loaded),
        cmocka_unit_test(a_checkpoint_is_added_replaced_and_removed),
        cmocka_unit_test(checkpoints_are_loaded_by_id_and_bad_ones_refused),
        cmocka_unit_test(leases_count_until_they_expire_and_go_with_their_checkpoint),
    };

    log_set_level(LOG_LEVEL_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
