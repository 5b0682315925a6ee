/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_manifest.c - tests of engine/manifest.h: edits, loading, leases, the environment
 *
 * The change log has a file of its own: test_manifest_changes.c.
 */
#include "engine/manifest.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/base/error.h"
#include "engine/base/log.h"
#include "engine/manifest_record.h"
#include "tests/lib/child.h"
#include "tests/lib/test_directory.h"

struct fixture {
    char *path;
    struct manifest *manifest;
};

static int try_open(const char *path, bool create, struct manifest **ret_manifest)
{
    struct manifest_options options = {
        .path = path, .create = create, .map_size_bytes = 1 << 20, .change_log_entries_max = 1000};

    return manifest_open(&options, ret_manifest);
}

static void setup(struct fixture *fixture)
{
    fixture->path = test_directory_make();
    assert_int_equal(try_open(fixture->path, true, &fixture->manifest), 0);
}

static void teardown(struct fixture *fixture)
{
    manifest_close(fixture->manifest);
    test_directory_remove(fixture->path);
}

static void reopen(struct fixture *fixture)
{
    manifest_close(fixture->manifest);
    assert_int_equal(try_open(fixture->path, false, &fixture->manifest), 0);
}

static struct chunk_identity blob_of(uint64_t id)
{
    return (struct chunk_identity){.id = id,
                                   .kind = CHUNK_BLOB,
                                   .file_size_bytes = 1000 + id,
                                   .hash = {0x1111111111111111 * id, 0xabcdef0000000000 + id}};
}

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

static int add_blob(struct manifest *manifest, uint64_t id)
{
    struct chunk_identity blob = blob_of(id);
    struct manifest_edit edit = {.add_blobs = &blob, .add_blob_count = 1};

    return manifest_commit(manifest, &edit);
}

static size_t count_blobs(struct manifest *manifest)
{
    struct manifest_state state;
    size_t count;

    assert_int_equal(manifest_load(manifest, &state), 0);
    count = state.blob_count;
    manifest_state_free(&state);
    return count;
}

static struct manifest_statistics statistics_of(struct manifest *manifest)
{
    struct manifest_statistics statistics;

    manifest_get_statistics(manifest, &statistics);
    return statistics;
}

/* ---- edits and loading ---- */

static void an_empty_manifest_has_first_ids_and_is_clean(void **state)
{
    struct manifest_state loaded;
    struct fixture fixture;

    (void)state;
    setup(&fixture);
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
        reopen(&fixture);
    }
    teardown(&fixture);
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
    struct fixture fixture;

    (void)state;
    setup(&fixture);
    assert_int_equal(manifest_commit(fixture.manifest, &edit), 0);
    reopen(&fixture);
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
    teardown(&fixture);
}

static void a_table_moves_down_in_one_edit(void **state)
{
    struct manifest_table table = table_of(5, 0, "a", "b");
    const uint64_t id = 5;
    struct manifest_edit edit = {.add_tables = &table, .add_table_count = 1};
    struct manifest_state loaded;
    struct fixture fixture;

    (void)state;
    setup(&fixture);
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
    teardown(&fixture);
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
                                 .remove_checkpoint = missing};
    struct manifest_state loaded;
    struct fixture fixture;

    (void)state;
    setup(&fixture);
    assert_int_equal(add_blob(fixture.manifest, 1), 0);
    assert_int_equal(manifest_commit(fixture.manifest, &edit), -ENOENT);
    edit.remove_checkpoint = 0;
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
    teardown(&fixture);
}

static void an_empty_edit_is_valid(void **state)
{
    struct fixture fixture;

    (void)state;
    setup(&fixture);
    assert_int_equal(manifest_commit(fixture.manifest, &(struct manifest_edit){0}), 0);
    assert_int_equal(count_blobs(fixture.manifest), 0);
    teardown(&fixture);
}

static void tables_that_cannot_form_a_version_are_not_loaded(void **state)
{
    struct manifest_table tables[] = {table_of(1, 2, "a", "n"), table_of(2, 2, "m", "z")};
    struct manifest_edit edit = {.add_tables = tables, .add_table_count = 2};
    struct manifest_state loaded;
    struct fixture fixture;

    (void)state;
    setup(&fixture);
    assert_int_equal(manifest_commit(fixture.manifest, &edit), 0);
    assert_int_equal(manifest_load(fixture.manifest, &loaded), ERROR_CORRUPT);
    table_meta_free(&tables[0].meta);
    table_meta_free(&tables[1].meta);
    teardown(&fixture);
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
    struct fixture fixture;

    (void)state;
    setup(&fixture);
    set_bytes(&checkpoint.name, "monday \xff");
    set_bytes(&checkpoint.payload, "tags");
    set_bytes(&checkpoint.plan, "what is to be linked");
    assert_int_equal(manifest_commit(fixture.manifest, &edit), 0);
    reopen(&fixture);
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

    edit = (struct manifest_edit){.remove_checkpoint = 3};
    assert_int_equal(manifest_commit(fixture.manifest, &edit), 0);
    assert_int_equal(manifest_load(fixture.manifest, &loaded), 0);
    assert_int_equal(loaded.checkpoint_count, 0);
    manifest_state_free(&loaded);
    manifest_checkpoint_free(&checkpoint);
    teardown(&fixture);
}

static void checkpoints_are_loaded_by_id_and_bad_ones_refused(void **state)
{
    struct manifest_checkpoint checkpoint = {.state = MANIFEST_CHECKPOINT_READY};
    struct manifest_edit edit = {.put_checkpoint = &checkpoint};
    struct manifest_state loaded;
    struct fixture fixture;
    char name[256];

    (void)state;
    setup(&fixture);
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
    teardown(&fixture);
}

static void leases_count_until_they_expire_and_go_with_their_checkpoint(void **state)
{
    struct manifest_checkpoint checkpoint = {.id = 8, .state = MANIFEST_CHECKPOINT_READY};
    struct manifest_edit edit = {.put_checkpoint = &checkpoint};
    struct fixture fixture;
    char owner[257];

    (void)state;
    setup(&fixture);
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
    reopen(&fixture);
    assert_int_equal(manifest_lease_count(fixture.manifest, 8, 1000), 1);

    memset(owner, 'o', 256);
    owner[256] = '\0';
    assert_int_equal(manifest_lease_put(fixture.manifest, 8, owner, 0), -EINVAL);
    assert_int_equal(manifest_lease_put(fixture.manifest, 8, "", 0), -EINVAL);
    owner[255] = '\0';
    assert_int_equal(manifest_lease_put(fixture.manifest, 8, owner, 0), 0);

    edit = (struct manifest_edit){.remove_checkpoint = 8};
    assert_int_equal(manifest_commit(fixture.manifest, &edit), 0);
    assert_int_equal(manifest_lease_count(fixture.manifest, 8, 0), 0);
    assert_int_equal(manifest_lease_count(fixture.manifest, 9, 0), 1);
    teardown(&fixture);
}

/* ---- the environment ---- */

static void r16_the_environment_says_that_it_is_durable(void **state)
{
    struct fixture fixture;

    (void)state;
    setup(&fixture);
    assert_true(manifest_is_durable(fixture.manifest));
    reopen(&fixture);
    assert_true(manifest_is_durable(fixture.manifest));
    teardown(&fixture);
}

/* Descriptors of this process on the data file of `path`: 0 for data, 1 for the meta pages. */
static void find_descriptors(const char *path, int descriptors[2])
{
    char *data = test_path(path, "data.mdb");
    struct stat wanted, status;

    descriptors[0] = descriptors[1] = -1;
    assert_int_equal(stat(data, &wanted), 0);
    for (int descriptor = 3; descriptor < 1000; descriptor++) {
        if (fstat(descriptor, &status) != 0 || status.st_ino != wanted.st_ino ||
            status.st_dev != wanted.st_dev)
            continue;
        descriptors[(fcntl(descriptor, F_GETFL) & O_DSYNC) != 0 ? 1 : 0] = descriptor;
    }
    free(data);
}

/* Make every write through `descriptor` fail with EBADF. */
static void disable_writes(const char *path, int descriptor)
{
    char *data = test_path(path, "data.mdb");
    int replacement = open(data, O_RDONLY | O_CLOEXEC);

    assert_true(replacement >= 0);
    assert_int_equal(dup3(replacement, descriptor, O_CLOEXEC), descriptor);
    close(replacement);
    free(data);
}

static void check_poisoned(struct fixture *fixture)
{
    struct manifest_state loaded;

    assert_true(statistics_of(fixture->manifest).poisoned);
    assert_int_equal(add_blob(fixture->manifest, 3), ERROR_POISONED);
    assert_int_equal(manifest_load(fixture->manifest, &loaded), ERROR_POISONED);
    assert_int_equal(manifest_cursor_set(fixture->manifest, "c", 0), ERROR_POISONED);
    assert_int_equal(manifest_lease_put(fixture->manifest, 1, "o", 0), ERROR_POISONED);
    assert_int_equal(manifest_lease_count(fixture->manifest, 1, 0), ERROR_POISONED);
}

/* Which of LMDB's two descriptors fails decides how far the commit got. */
static void check_failed_commit(int which)
{
    struct fixture fixture;
    int descriptors[2];

    setup(&fixture);
    assert_int_equal(add_blob(fixture.manifest, 1), 0);
    assert_false(statistics_of(fixture.manifest).poisoned);
    find_descriptors(fixture.path, descriptors);
    assert_true(descriptors[0] >= 0 && descriptors[1] >= 0);
    disable_writes(fixture.path, descriptors[which]);
    assert_int_equal(add_blob(fixture.manifest, 2), -EBADF);
    check_poisoned(&fixture);
    reopen(&fixture);
    assert_int_equal(count_blobs(fixture.manifest), 1);
    assert_int_equal(add_blob(fixture.manifest, 2), 0);
    teardown(&fixture);
}

static void r17_a_failed_write_of_data_pages_poisons(void **state)
{
    (void)state;
    check_failed_commit(0);
}

static void r17_a_failed_write_of_the_meta_page_poisons(void **state)
{
    (void)state;
    check_failed_commit(1);
}

static void r17_a_file_that_may_not_grow_poisons(void **state)
{
    struct rlimit before, limited;
    struct fixture fixture;
    int error;

    (void)state;
    setup(&fixture);
    assert_int_equal(add_blob(fixture.manifest, 1), 0);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    limited = (struct rlimit){.rlim_cur = 8192, .rlim_max = before.rlim_max};
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limited), 0);
    error = add_blob(fixture.manifest, 2);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    assert_int_equal(error, -EFBIG);
    check_poisoned(&fixture);
    reopen(&fixture);
    assert_int_equal(count_blobs(fixture.manifest), 1);
    teardown(&fixture);
}

/* In a child: a small file system of its own, full but for what the manifest has reserved. */
static void fill_file_system(void *context)
{
    const char *directory = context;
    static uint8_t block[65536];
    char *filler = test_path(directory, "filler"), *path = test_path(directory, "manifest");
    struct manifest *manifest;
    uint64_t id = 1;
    int descriptor, error;

    if ((unshare(CLONE_NEWNS) != 0 && unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0) ||
        mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
        mount("tmpfs", directory, "tmpfs", 0, "size=12m") != 0)
        _exit(77);
    if (mkdir(path, 0700) != 0 || try_open(path, true, &manifest) != 0)
        _exit(1);
    descriptor = open(filler, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    while (write(descriptor, block, sizeof block) > 0)
        ;
    /* There is room for many commits yet, and then a refusal before anything is tried. */
    while ((error = add_blob(manifest, id)) == 0)
        id++;
    if (error != -ENOSPC || id < 1000 || add_blob(manifest, id) != -ENOSPC)
        _exit(2);
    if (statistics_of(manifest).poisoned || count_blobs(manifest) != id - 1)
        _exit(3);
    /* Space comes back, and the manifest goes on. */
    if (ftruncate(descriptor, 0) != 0 || add_blob(manifest, id) != 0)
        _exit(4);
    if (count_blobs(manifest) != id)
        _exit(5);
    manifest_close(manifest);
    _exit(0);
}

static void r17_a_full_disk_is_refused_before_the_commit_and_poisons_nothing(void **state)
{
    char *directory = test_directory_make();
    char output[4096];
    int status;

    (void)state;
    status = child_run(fill_file_system, directory, output, sizeof output);
    test_directory_remove(directory);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == 77)
        skip();
    if (WEXITSTATUS(status) != 0)
        fail_msg("child: %d: %s", WEXITSTATUS(status), output);
}

static void r18_one_process_opens_an_environment_once(void **state)
{
    struct manifest *second;
    struct fixture fixture;
    char *other;

    (void)state;
    setup(&fixture);
    assert_int_equal(try_open(fixture.path, false, &second), -EBUSY);
    assert_int_equal(add_blob(fixture.manifest, 1), 0); /* the first is none the worse */
    other = test_directory_make();
    assert_int_equal(try_open(other, true, &second), 0);
    manifest_close(second);
    reopen(&fixture);
    test_directory_remove(other);
    teardown(&fixture);
}

static void use_manifest(void *context)
{
    struct manifest *manifest = context;

    (void)add_blob(manifest, 1);
}

static void r18_use_after_a_fork_is_a_broken_invariant(void **state)
{
    struct fixture fixture;
    char output[8192];
    int status;

    (void)state;
    setup(&fixture);
    status = child_run(use_manifest, fixture.manifest, output, sizeof output);
    assert_true(WIFSIGNALED(status));
    assert_non_null(strstr(output, "getpid"));
    assert_int_equal(count_blobs(fixture.manifest), 0);
    teardown(&fixture);
}

static void r19_a_full_map_grows_and_the_commit_is_repeated(void **state)
{
    enum { COUNT = 20000 };
    struct manifest_options options = {.create = true, .map_size_bytes = 1};
    struct chunk_identity *blobs = calloc(COUNT, sizeof *blobs);
    struct manifest_edit edit = {.add_blobs = blobs, .add_blob_count = COUNT};
    struct manifest_statistics statistics;
    struct fixture fixture = {.path = test_directory_make()};
    uint64_t growths;

    (void)state;
    options.path = fixture.path;
    assert_int_equal(manifest_open(&options, &fixture.manifest), 0);
    for (uint64_t i = 0; i < COUNT; i++)
        blobs[i] = blob_of(i + 1);
    assert_int_equal(manifest_commit(fixture.manifest, &edit), 0); /* many times the map at once */
    statistics = statistics_of(fixture.manifest);
    growths = statistics.map_growths;
    assert_true(growths >= 4);
    assert_true(statistics.map_size_bytes >= COUNT * 45);
    assert_true(statistics.used_bytes <= statistics.map_size_bytes);
    assert_int_equal(count_blobs(fixture.manifest), COUNT);
    for (uint64_t round = 1; round < 8; round++) { /* and step by step */
        for (uint64_t i = 0; i < COUNT; i++)
            blobs[i] = blob_of(round * COUNT + i + 1);
        assert_int_equal(manifest_commit(fixture.manifest, &edit), 0);
    }
    assert_true(statistics_of(fixture.manifest).map_growths > growths);
    reopen(&fixture);
    assert_int_equal(count_blobs(fixture.manifest), 8 * COUNT);
    free(blobs);
    teardown(&fixture);
}

/* Sanitizers need all the address space there is. */
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define CAN_LIMIT_ADDRESS_SPACE
#endif

#ifdef CAN_LIMIT_ADDRESS_SPACE
static void r19_a_map_that_cannot_grow_is_an_error_and_not_a_crash(void **state)
{
    struct rlimit before, limited = {.rlim_cur = 1, .rlim_max = RLIM_INFINITY};
    struct manifest_options options = {.create = true, .map_size_bytes = 1};
    struct fixture fixture = {.path = test_directory_make()};
    uint64_t id = 1;
    int error;

    (void)state;
    options.path = fixture.path;
    assert_int_equal(manifest_open(&options, &fixture.manifest), 0);
    assert_int_equal(getrlimit(RLIMIT_AS, &before), 0);
    limited.rlim_max = before.rlim_max;
    assert_int_equal(setrlimit(RLIMIT_AS, &limited), 0);
    while ((error = add_blob(fixture.manifest, id)) == 0)
        id++;
    assert_int_equal(setrlimit(RLIMIT_AS, &before), 0);
    assert_int_equal(error, -ENOMEM);
    check_poisoned(&fixture);
    reopen(&fixture);
    assert_int_equal(count_blobs(fixture.manifest), id - 1);
    teardown(&fixture);
}
#endif

static int die(struct manifest_transaction *transaction, void *context)
{
    (void)transaction;
    (void)context;
    kill(getpid(), SIGKILL);
    return 0;
}

/* Another process opens the environment, says so, and waits; with `reading`, it is killed in the
 * middle of a read transaction instead. */
static pid_t start_other(const char *path, bool reading)
{
    int ends[2];
    char byte;
    pid_t child;

    assert_int_equal(pipe(ends), 0);
    child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        struct manifest *manifest;

        /* A failing test does not leave it behind. */
        if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || try_open(path, false, &manifest) != 0)
            _exit(1);
        if (reading)
            (void)manifest_inspect(manifest, die, NULL);
        if (write(ends[1], "x", 1) != 1)
            _exit(2);
        pause();
        _exit(0);
    }
    close(ends[1]);
    assert_int_equal(read(ends[0], &byte, 1), reading ? 0 : 1);
    close(ends[0]);
    return child;
}

static void r20_the_slot_of_a_killed_reader_is_reclaimed_at_open(void **state)
{
    struct fixture fixture;
    pid_t holder, reader;
    int status;

    (void)state;
    setup(&fixture);
    manifest_close(fixture.manifest);
    /* While someone has it open, the table of readers is not made anew at open. */
    holder = start_other(fixture.path, false);
    reader = start_other(fixture.path, true);
    assert_int_equal(waitpid(reader, &status, 0), reader);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(try_open(fixture.path, false, &fixture.manifest), 0);
    assert_int_equal(statistics_of(fixture.manifest).readers_reclaimed, 1);
    reopen(&fixture);
    assert_int_equal(statistics_of(fixture.manifest).readers_reclaimed, 0);
    kill(holder, SIGKILL);
    assert_int_equal(waitpid(holder, &status, 0), holder);
    teardown(&fixture);
}

static int take_long(struct manifest_transaction *transaction, void *context)
{
    (void)transaction;
    usleep(*(const useconds_t *)context);
    return 0;
}

static void r21_a_long_read_transaction_is_counted(void **state)
{
    useconds_t short_time = 1, long_time = 50000;
    struct fixture fixture;

    (void)state;
    setup(&fixture);
    manifest_set_slow_look_ms(fixture.manifest, 30);
    assert_int_equal(manifest_inspect(fixture.manifest, take_long, &short_time), 0);
    assert_int_equal(statistics_of(fixture.manifest).slow_looks, 0);
    assert_int_equal(manifest_inspect(fixture.manifest, take_long, &long_time), 0);
    assert_int_equal(statistics_of(fixture.manifest).slow_looks, 1);
    teardown(&fixture);
}

static void *look_long(void *context)
{
    useconds_t long_time = 200000;

    (void)manifest_inspect(context, take_long, &long_time);
    return NULL;
}

static void wait_for_long_look(void *context)
{
    struct manifest *manifest;
    pthread_t thread;

    log_set_level(LOG_LEVEL_WARNING);
    if (try_open(context, true, &manifest) != 0)
        _exit(1);
    manifest_set_slow_look_ms(manifest, 50);
    if (pthread_create(&thread, NULL, look_long, manifest) != 0)
        _exit(1);
    usleep(120000);
    (void)add_blob(manifest, 1);
    pthread_join(thread, NULL);
    manifest_close(manifest);
}

static void r21_a_read_transaction_that_does_not_end_is_reported_by_the_next_caller(void **state)
{
    char *directory = test_directory_make();
    char output[4096];

    (void)state;
    assert_int_equal(child_run(wait_for_long_look, directory, output, sizeof output), 0);
    assert_non_null(strstr(output, "a read transaction has been open for"));
    assert_non_null(strstr(output, "a read transaction lasted"));
    test_directory_remove(directory);
}

static void a_read_only_manifest_takes_no_change_and_makes_no_file(void **state)
{
    struct manifest_options options = {.read_only = true};
    struct fixture fixture;
    struct manifest *manifest;
    char *empty = test_directory_make();

    (void)state;
    options.path = empty;
    assert_int_equal(manifest_open(&options, &manifest), ERROR_TRUNCATED);
    assert_int_equal(rmdir(empty), 0); /* it is still empty */
    assert_int_equal(manifest_open(&options, &manifest), -ENOENT);
    options.create = true;
    assert_int_equal(manifest_open(&options, &manifest), -EINVAL);
    options.create = false;
    free(empty);

    setup(&fixture);
    assert_int_equal(add_blob(fixture.manifest, 1), 0);
    manifest_close(fixture.manifest);
    options.path = fixture.path;
    assert_int_equal(manifest_open(&options, &fixture.manifest), 0);
    assert_int_equal(count_blobs(fixture.manifest), 1);
    assert_int_equal(add_blob(fixture.manifest, 2), -EROFS);
    assert_int_equal(manifest_cursor_set(fixture.manifest, "c", 0), -EROFS);
    teardown(&fixture);
}

/* ---- threads ---- */

enum { THREADS = 4, EDITS = 100 };

struct worker {
    struct manifest *manifest;
    uint64_t first_id;
    int error;
};

static void *work(void *context)
{
    struct worker *worker = context;

    for (uint64_t i = 0; worker->error == 0 && i < EDITS; i++) {
        struct manifest_state loaded;
        const uint64_t id = worker->first_id + i, before = id - 1;
        struct chunk_identity blob = blob_of(id);
        struct manifest_edit edit = {.add_blobs = &blob,
                                     .add_blob_count = 1,
                                     .remove_blobs = &before,
                                     .remove_blob_count = i > 0};

        worker->error = manifest_commit(worker->manifest, &edit);
        if (worker->error == 0)
            worker->error = manifest_load(worker->manifest, &loaded);
        if (worker->error == 0) {
            if (loaded.blob_count > THREADS)
                worker->error = ERROR_CORRUPT;
            manifest_state_free(&loaded);
        }
    }
    return NULL;
}

static void commits_and_loads_of_many_threads_are_atomic(void **state)
{
    struct worker workers[THREADS] = {{0}};
    pthread_t threads[THREADS];
    struct fixture fixture;

    (void)state;
    setup(&fixture);
    for (size_t i = 0; i < THREADS; i++) {
        workers[i] = (struct worker){.manifest = fixture.manifest, .first_id = 1 + i * 1000};
        assert_int_equal(pthread_create(&threads[i], NULL, work, &workers[i]), 0);
    }
    for (size_t i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_int_equal(workers[i].error, 0);
    }
    assert_int_equal(count_blobs(fixture.manifest), THREADS);
    assert_true(statistics_of(fixture.manifest).commits >= THREADS * EDITS);
    teardown(&fixture);
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
        cmocka_unit_test(r16_the_environment_says_that_it_is_durable),
        cmocka_unit_test(r17_a_failed_write_of_data_pages_poisons),
        cmocka_unit_test(r17_a_failed_write_of_the_meta_page_poisons),
        cmocka_unit_test(r17_a_file_that_may_not_grow_poisons),
        cmocka_unit_test(r17_a_full_disk_is_refused_before_the_commit_and_poisons_nothing),
        cmocka_unit_test(r18_one_process_opens_an_environment_once),
        cmocka_unit_test(r18_use_after_a_fork_is_a_broken_invariant),
        cmocka_unit_test(r19_a_full_map_grows_and_the_commit_is_repeated),
#ifdef CAN_LIMIT_ADDRESS_SPACE
        cmocka_unit_test(r19_a_map_that_cannot_grow_is_an_error_and_not_a_crash),
#endif
        cmocka_unit_test(r20_the_slot_of_a_killed_reader_is_reclaimed_at_open),
        cmocka_unit_test(r21_a_long_read_transaction_is_counted),
        cmocka_unit_test(r21_a_read_transaction_that_does_not_end_is_reported_by_the_next_caller),
        cmocka_unit_test(a_read_only_manifest_takes_no_change_and_makes_no_file),
        cmocka_unit_test(commits_and_loads_of_many_threads_are_atomic),
    };

    log_set_level(LOG_LEVEL_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
