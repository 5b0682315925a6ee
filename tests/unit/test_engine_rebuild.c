/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_engine_rebuild.c - a manifest made anew from tables, snapshots and the log, and when not
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "engine/base/io_backend.h"
#include "engine/engine_rebuild.h"
#include "engine/engine_repair.h"
#include "tests/lib/engine_fixture.h"
#include "tests/lib/fault_io.h"

#include "tests/lib/engine_damage.h"

#define KEYS 400

/* Values of generation g: 3000 bytes in a blob chunk for every fourth key. */
static void make_value(uint64_t number, uint64_t generation, uint8_t data[3000])
{
    for (size_t i = 0; i < 3000; i++)
        data[i] = (uint8_t)(number * 31 + generation * 7 + i / 3);
}

static void put_generation(struct engine *engine, uint64_t generation, uint64_t first,
                           uint64_t count)
{
    for (uint64_t i = first; i < first + count; i++) {
        struct engine_view *view = engine_view_acquire(engine);
        struct batch batch = {0};
        uint8_t key[8], data[3000];
        struct blob_ref ref;

        make_value(i, generation, data);
        if (i % 4 == 0) {
            assert_int_equal(engine_blob_append(engine, data, sizeof data, &ref), 0);
            batch_put_reference(&batch, engine_fixture_key(key, i), &ref);
        } else {
            batch_put(&batch, engine_fixture_key(key, i), slice_of(data, 500));
        }
        assert_int_equal(engine_write(engine, &batch, NULL), 0);
        batch_free(&batch);
        engine_view_release(view);
    }
}

static uint64_t generation_of(uint64_t number)
{
    return number < 100 ? 3 : number < 200 ? 2 : 1;
}

/* All keys: the first hundred twice overwritten, the last time only in the log. */
static void check_live(struct engine *engine)
{
    struct engine_view *view = engine_view_acquire(engine);

    for (uint64_t i = 0; i < KEYS; i++) {
        struct buffer value = {0};
        uint8_t key[8], data[3000], read[3000];
        struct record record;
        struct blob_ref ref;

        make_value(i, generation_of(i), data);
        assert_int_equal(engine_view_get(view, engine_fixture_key(key, i), &value, &record), 1);
        if (i % 4 == 0) {
            assert_int_equal(record.kind, RECORD_REFERENCE);
            assert_int_equal(blob_ref_decode(buffer_slice(&value), &ref), 0);
            assert_int_equal(engine_blob_read(view, &(struct engine_blob_read){&ref, read}, 1), 0);
            assert_memory_equal(read, data, sizeof data);
        } else {
            assert_int_equal(value.size, 500);
            assert_memory_equal(value.data, data, 500);
        }
        buffer_free(&value);
    }
    engine_view_release(view);
}

static void open_and_check(struct engine_fixture *fixture, const char *store)
{
    struct engine *engine = engine_fixture_open_at(fixture, store);

    check_live(engine);
    assert_int_equal(engine_close(engine), 0);
}

/* Tables, a snapshot "one" of the first generation, and what is only in the log; as killed. */
static char *make_store(struct engine_fixture *fixture)
{
    struct engine *engine = fixture->engine;
    uint64_t id;

    put_generation(engine, 1, 0, KEYS);
    assert_int_equal(
        engine_checkpoint_create(engine, slice_of_string("one"), slice_of_string("tags"), &id), 0);
    assert_int_equal(engine_checkpoint_wait(engine, id), 0);
    put_generation(engine, 2, 0, 200);
    assert_int_equal(engine_flush(engine), 0);
    put_generation(engine, 3, 0, 100);
    assert_int_equal(engine_sync(engine, engine_sequence(engine)), 0);
    return damage_copy_store(fixture, "copy");
}

static void lose_manifest(const char *store)
{
    char *path = damage_find(store, "manifest", "data.mdb");

    assert_int_equal(unlink(path), 0);
    free(path);
}

static int try_rebuild(struct engine_fixture *fixture, const char *store,
                       struct engine_rebuild_result *ret_result)
{
    struct engine_rebuild_result ignored;

    return engine_rebuild(fixture->io, store, ret_result != NULL ? ret_result : &ignored);
}

static int find_one(void *context, const struct engine_checkpoint_info *info)
{
    uint64_t *id = context;

    assert_true(slice_equal(slice_of(info->name, info->name_size), slice_of_string("one")));
    assert_true(slice_equal(slice_of(info->payload, info->payload_size), slice_of_string("tags")));
    *id = info->id;
    return 0;
}

/* A descriptor that is wanting says nothing of the snapshot: it is not left out for that. */
static void a_shortage_does_not_leave_a_snapshot_out(void **state)
{
    struct engine_fixture *fixture = *state;
    struct fault_io *fault = fault_io_new(fixture->io);
    struct engine_rebuild_result result;
    int error = -EMFILE;

    free(make_store(fixture));
    for (uint64_t nth = 1; error == -EMFILE; nth++) {
        char *store = damage_copy_store(fixture, "another");

        lose_manifest(store);
        fault_io_fail(fault, FAULT_OPEN, nth, -EMFILE, false);
        error = engine_rebuild(fault_io_get(fault), store, &result);
        fault_io_clear(fault, FAULT_OPEN);
        assert_true(error == 0 || error == -EMFILE);
        free(store);
    }
    assert_int_equal(result.snapshots, 1);
    assert_int_equal(result.snapshots_unusable, 0);
    fault_io_free(fault);
}

static void a_lost_manifest_is_made_anew_of_tables_snapshots_and_the_log(void **state)
{
    struct engine_fixture *fixture = *state;
    char *store = make_store(fixture);
    struct engine_rebuild_result result;
    struct engine_view *view;
    struct engine *engine;
    struct buffer value = {0};
    uint8_t key[8], data[3000];
    uint64_t id = 0;
    int damage = 0;

    assert_int_equal(engine_manifest_check(fixture->io, store, &damage), 0);
    assert_int_equal(damage, 0);
    lose_manifest(store);
    assert_int_equal(engine_manifest_check(fixture->io, store, &damage), 0);
    assert_int_equal(damage, ERROR_TRUNCATED);
    assert_int_equal(try_rebuild(fixture, store, &result), 0);
    assert_true(result.tables > 0 && result.blobs > 0);
    assert_int_equal(result.snapshots, 1);
    assert_int_equal(result.snapshots_unusable, 0);
    assert_int_equal(result.records, KEYS);
    assert_int_equal(result.log_entries, 100);
    assert_int_equal(engine_manifest_check(fixture->io, store, &damage), 0);
    assert_int_equal(damage, 0);

    engine = engine_fixture_open_at(fixture, store);
    check_live(engine);
    assert_int_equal(engine_checkpoint_each(engine, find_one, &id), 0);
    assert_int_equal(engine_checkpoint_view(engine, id, &view), 0);
    make_value(1, 1, data);
    assert_int_equal(engine_view_get(view, engine_fixture_key(key, 1), &value, NULL), 1);
    assert_memory_equal(value.data, data, 500);
    buffer_free(&value);
    engine_view_release(view);
    put_generation(engine, 3, 0, 1);
    check_live(engine);
    assert_int_equal(engine_close(engine), 0);
    free(store);
}

/* Killed when the table of a flush had its name, and its blob chunk was not sealed. */
static void a_flush_that_was_cut_off_is_taken_from_the_log(void **state)
{
    struct engine_fixture *fixture = *state;
    struct fault_io *fault = fault_io_new(fixture->io);
    char *store;

    engine_fixture_close(fixture);
    fixture->options.io = fault_io_get(fault);
    engine_fixture_open(fixture);
    free(make_store(fixture));
    fault_io_fail(fault, FAULT_CHMOD, 2, -ENOSPC, true); /* the first is that of the table */
    assert_int_equal(engine_flush(fixture->engine), -ENOSPC);
    store = damage_copy_store(fixture, "cut");
    lose_manifest(store);
    fault_io_clear(fault, FAULT_CHMOD);
    assert_int_equal(try_rebuild(fixture, store, NULL), 0);
    open_and_check(fixture, store);
    free(store);
    engine_fixture_close(fixture);
    fixture->options.io = fixture->io;
    fault_io_free(fault);
}

static void making_it_twice_gives_the_same(void **state)
{
    struct engine_fixture *fixture = *state;
    char *store = make_store(fixture);
    struct engine_rebuild_result first, second;

    lose_manifest(store);
    assert_int_equal(try_rebuild(fixture, store, &first), 0);
    lose_manifest(store);
    assert_int_equal(try_rebuild(fixture, store, &second), 0);
    assert_int_equal(second.records, first.records);
    assert_int_equal(second.last_sequence, first.last_sequence);
    assert_int_equal(second.log_entries, first.log_entries);
    open_and_check(fixture, store);
    free(store);
}

static void a_manifest_whose_directory_is_gone_is_lost_too(void **state)
{
    struct engine_fixture *fixture = *state;
    char *store = make_store(fixture), *manifest = test_path(store, "manifest");
    int damage = 0;

    test_directory_remove(manifest); /* frees it */
    assert_int_equal(engine_manifest_check(fixture->io, store, &damage), 0);
    assert_int_equal(damage, ERROR_TRUNCATED);
    free(store);
}

/* ---- what it refuses ---- */

/* What cannot be looked at is not taken for damage, of which a new manifest would be the cure. */
static void a_shortage_while_looking_for_the_directory_is_told(void **state)
{
    struct engine_fixture *fixture = *state;
    char *store = make_store(fixture);
    struct fault_io *fault = fault_io_new(fixture->io);
    int damage = 0, error = -EMFILE;

    test_directory_remove(test_path(store, "manifest"));
    for (uint64_t nth = 1; error < 0; nth++) {
        fault_io_fail(fault, FAULT_OPEN, nth, -EMFILE, false);
        error = engine_manifest_check(fault_io_get(fault), store, &damage);
        fault_io_clear(fault, FAULT_OPEN);
        assert_true(error == -EMFILE || (error == 0 && nth > 2));
    }
    assert_int_equal(damage, ERROR_TRUNCATED);
    fault_io_free(fault);
    free(store);
}

static void nothing_is_made_of_a_damaged_table(void **state)
{
    struct engine_fixture *fixture = *state;
    char *store = make_store(fixture), *table;
    uint8_t *bytes;
    size_t size;

    lose_manifest(store);
    table = damage_find(store, "chunks", ".tbl");
    bytes = test_file_read(table, &size);
    assert_int_equal(chmod(table, 0600), 0);
    bytes[CHUNK_HEADER_SIZE + 100] ^= 1; /* in a block */
    test_file_write(table, bytes, size);
    assert_int_equal(try_rebuild(fixture, store, NULL), ERROR_CORRUPT);
    bytes[CHUNK_HEADER_SIZE + 100] ^= 1;
    test_file_write(table, bytes, size - 1);
    assert_int_equal(try_rebuild(fixture, store, NULL), ERROR_CORRUPT);
    free(bytes);
    free(table);
    free(store);
}

/* Whether the log says something of the time after it, or there is no log. */
static void nothing_is_made_without_a_blob_chunk_that_is_referred_to(void **state)
{
    struct engine_fixture *fixture = *state;
    char *store = make_store(fixture), *blob, *other, command[9000];

    lose_manifest(store);
    other = damage_find(store, "checkpoints/one/chunks", ".blb");
    blob = damage_find(store, "chunks", strrchr(other, '/') + 1);
    assert_int_equal(unlink(blob), 0);
    assert_int_equal(unlink(other), 0);
    /* The snapshot that had it still says so, and there is no file to link. */
    assert_int_equal(try_rebuild(fixture, store, NULL), ERROR_MISSING_CHUNK);
    snprintf(command, sizeof command, "rm '%s'/wal/*.wal", store);
    assert_int_equal(system(command), 0);
    assert_int_equal(try_rebuild(fixture, store, NULL), ERROR_MISSING_CHUNK);
    free(blob);
    free(other);
    free(store);
}

static void say_nothing(void *context, const char *line, bool repaired)
{
    (void)context;
    (void)line;
    assert_true(repaired);
}

static void a_blob_chunk_that_only_a_snapshot_has_is_taken_from_there(void **state)
{
    struct engine_fixture *fixture = *state;
    char *store = make_store(fixture), *blob, *other;

    lose_manifest(store);
    other = damage_find(store, "checkpoints/one/chunks", ".blb");
    blob = damage_find(store, "chunks", strrchr(other, '/') + 1);
    assert_int_equal(unlink(blob), 0);
    assert_int_equal(try_rebuild(fixture, store, NULL), 0);
    assert_int_equal(engine_repair_chunks(fixture->io, store, true, say_nothing, NULL), 0);
    open_and_check(fixture, store);
    free(blob);
    free(other);
    free(store);
}

/* The next start takes tables that were merged from chunks/: not before a snapshot that lacks one has it. */
static void a_table_that_a_snapshot_lacks_is_given_to_it(void **state)
{
    struct engine_fixture *fixture = *state;
    char *store = make_store(fixture), *table;
    struct engine_view *view;
    struct engine *engine;
    uint64_t id = 0;

    lose_manifest(store);
    table = damage_find(store, "checkpoints/one/chunks", ".tbl");
    free(damage_find(store, "chunks", strrchr(table, '/') + 1));
    assert_int_equal(unlink(table), 0);
    assert_int_equal(try_rebuild(fixture, store, NULL), 0);
    engine = engine_fixture_open_at(fixture, store);
    assert_int_equal(engine_checkpoint_each(engine, find_one, &id), 0);
    assert_int_equal(engine_checkpoint_view(engine, id, &view), 0);
    engine_view_release(view);
    assert_int_equal(engine_close(engine), 0);
    assert_int_equal(access(table, F_OK), 0);
    free(table);
    free(store);
}

/* The snapshot's own look at the table, which is the second at that name, ends with an error. */
static const char *failing_name;
static unsigned looks_left;

static int failing_stat_at(struct io *io, struct io_file *directory, const char *name,
                           struct stat *ret_stat)
{
    if (strcmp(name, failing_name) == 0 && looks_left > 0 && --looks_left == 0)
        return -EIO;
    return io_sync_ops.stat_at(io, directory, name, ret_stat);
}

static void a_table_that_cannot_be_looked_at_is_not_taken_for_there(void **state)
{
    struct engine_fixture *fixture = *state;
    char *store = make_store(fixture), *table;
    struct engine_rebuild_result result;
    struct io_ops ops = io_sync_ops;
    struct io *io;

    lose_manifest(store);
    table = damage_find(store, "checkpoints/one/chunks", ".tbl");
    failing_name = strrchr(table, '/') + 1;
    free(damage_find(store, "chunks", failing_name));
    assert_int_equal(io_open_backend(IO_BACKEND_SYNC, &io), 0);
    ops.stat_at = failing_stat_at;
    for (unsigned round = 0; round < 2; round++) { /* not there; there */
        char *copy = test_path(fixture->directory, round == 0 ? "not there" : "there");
        char command[9000];

        snprintf(command, sizeof command, "cp -a '%s' '%s'", store, copy);
        assert_int_equal(system(command), 0);
        snprintf(command, sizeof command, "%s/checkpoints/one/chunks/%s", copy, failing_name);
        if (round == 0)
            assert_int_equal(unlink(command), 0);
        looks_left = 2;
        io->ops = &ops;
        assert_int_equal(engine_rebuild(io, copy, &result), 0);
        assert_int_equal(looks_left, 0);
        assert_int_equal(result.snapshots, 1);
        assert_int_equal(access(command, F_OK), 0);
        open_and_check(fixture, copy);
        assert_int_equal(access(command, F_OK), 0);
        free(copy);
    }
    io->ops = &io_sync_ops;
    io_close_backend(io);
    free(table);
    free(store);
}

/* Without a journal a cut can bring back the names of files that were removed, as directories. */
static void names_that_a_cut_has_brought_back_are_passed_over(void **state)
{
    struct engine_fixture *fixture = *state;
    char *store = make_store(fixture);
    char *table = test_path(store, "chunks/000000000000007f-0123456789abcdef0123456789abcdef.tbl");
    char *segment = test_path(store, "wal/0000000000000001.wal");

    lose_manifest(store);
    (void)unlink(segment); /* one that was given up, if it is there */
    assert_int_equal(mkdir(segment, 0700), 0);
    assert_int_equal(mkdir(table, 0700), 0);
    assert_int_equal(try_rebuild(fixture, store, NULL), 0);
    open_and_check(fixture, store);
    free(segment);
    free(table);
    free(store);
}

/* Of the last blob chunk the log has all that there is, its file is not made yet: a table that got its id
 * would be lost when the log is replayed. */
static void r63_a_chunk_that_only_the_log_has_keeps_its_id(void **state)
{
    struct engine_fixture *fixture = *state;
    struct engine *engine = fixture->engine;
    char *store;
    uint64_t id;

    put_generation(engine, 1, 0, KEYS);
    put_generation(engine, 2, 0, 200);
    /* Seals the blob chunk: the next one begins behind the tables. */
    assert_int_equal(engine_checkpoint_create(engine, slice_of_string("one"), slice_of("", 0), &id),
                     0);
    assert_int_equal(engine_checkpoint_wait(engine, id), 0);
    put_generation(engine, 3, 0, 100);
    assert_int_equal(engine_sync(engine, engine_sequence(engine)), 0);
    store = damage_copy_store(fixture, "copy");
    lose_manifest(store);
    assert_int_equal(try_rebuild(fixture, store, NULL), 0);
    open_and_check(fixture, store);
    open_and_check(fixture, store);
    free(store);
}

static void nothing_is_made_of_a_log_with_a_gap(void **state)
{
    struct engine_fixture *fixture = *state;
    struct manifest_scalars scalars;
    struct batch batch = {0};
    uint64_t sequences[2];

    put_generation(fixture->engine, 1, 0, 4);
    engine_fixture_close(fixture);
    scalars = damage_scalars(fixture->path);
    sequences[0] = scalars.last_sequence + 1;
    sequences[1] = sequences[0] + 2;
    batch_put(&batch, slice_of_string("key"), slice_of_string("value"));
    damage_write_log(fixture->io, fixture->path, scalars.wal_segment, sequences, &batch);
    batch_free(&batch);
    lose_manifest(fixture->path);
    assert_int_equal(try_rebuild(fixture, fixture->path, NULL), ERROR_CORRUPT);
}

/* A sealed manifest of another store under a good hash, as a directory that somebody copied. */
static void a_snapshot_of_another_store_is_left_alone(void **state)
{
    struct engine_fixture *fixture = *state;
    char *store = make_store(fixture);
    char *manifest = damage_find(store, "checkpoints/one", "MANIFEST-");
    char *current = damage_find(store, "checkpoints/one", "CURRENT");
    struct checksum_stream *stream = checksum_stream_new();
    struct engine_rebuild_result result;
    struct checksum128 hash;
    uint8_t *bytes;
    size_t size;

    bytes = test_file_read(manifest, &size);
    bytes[16] ^= 1; /* the uuid */
    put_le64(bytes + size - 8, checksum64(bytes, size - 8));
    assert_int_equal(chmod(manifest, 0600), 0);
    test_file_write(manifest, bytes, size);
    checksum_stream_update(stream, bytes, size);
    hash = checksum_stream_digest(stream);
    checksum_stream_free(stream);
    free(bytes);
    bytes = test_file_read(current, &size);
    put_le64(bytes + 24, hash.low);
    put_le64(bytes + 32, hash.high);
    put_le64(bytes + size - 8, checksum64(bytes, size - 8));
    assert_int_equal(chmod(current, 0600), 0);
    test_file_write(current, bytes, size);
    free(bytes);
    lose_manifest(store);
    assert_int_equal(try_rebuild(fixture, store, &result), 0);
    assert_int_equal(result.snapshots, 0);
    assert_int_equal(result.snapshots_unusable, 1);
    free(current);
    free(manifest);
    free(store);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name)                                                                                 \
    cmocka_unit_test_setup_teardown(name, engine_fixture_setup, engine_fixture_teardown)
        TEST(a_lost_manifest_is_made_anew_of_tables_snapshots_and_the_log),
        TEST(a_flush_that_was_cut_off_is_taken_from_the_log),
        TEST(a_shortage_does_not_leave_a_snapshot_out),
        TEST(making_it_twice_gives_the_same),
        TEST(a_manifest_whose_directory_is_gone_is_lost_too),
        TEST(a_shortage_while_looking_for_the_directory_is_told),
        TEST(nothing_is_made_of_a_damaged_table),
        TEST(nothing_is_made_without_a_blob_chunk_that_is_referred_to),
        TEST(a_blob_chunk_that_only_a_snapshot_has_is_taken_from_there),
        TEST(a_table_that_a_snapshot_lacks_is_given_to_it),
        TEST(a_table_that_cannot_be_looked_at_is_not_taken_for_there),
        TEST(names_that_a_cut_has_brought_back_are_passed_over),
        TEST(r63_a_chunk_that_only_the_log_has_keeps_its_id),
        TEST(nothing_is_made_of_a_log_with_a_gap),
        TEST(a_snapshot_of_another_store_is_left_alone),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
