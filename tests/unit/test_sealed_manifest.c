/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_sealed_manifest.c - tests of engine/sealed_manifest.h
 */
#include "engine/sealed_manifest.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/base/checksum.h"
#include "engine/base/endian.h"
#include "engine/base/error.h"
#include "engine/base/log.h"
#include "tests/lib/io_fixture.h"
#include "tests/lib/seed.h"
#include "tests/lib/test_fault_io.h"

#define MANIFEST_FILE "MANIFEST-0000000000000007"

static void set_bytes(struct buffer *buffer, const char *text)
{
    assert_int_equal(buffer_assign(buffer, text, strlen(text)), 0);
}

static void set_table(struct manifest_table *table, uint64_t id, uint32_t level, const char *first,
                      const char *last, uint64_t blob_id)
{
    *table = (struct manifest_table){.level = level, .order = 100 + id};
    table->meta.identity = (struct chunk_identity){
        .id = id, .kind = CHUNK_TABLE, .file_size_bytes = 5000, .hash = {id, id}};
    table->meta.records = 3;
    table->meta.smallest_sequence = 1;
    table->meta.largest_sequence = 9;
    set_bytes(&table->meta.smallest, first);
    set_bytes(&table->meta.largest, last);
    if (blob_id != 0) {
        table->meta.uses = calloc(1, sizeof *table->meta.uses);
        table->meta.use_count = 1;
        table->meta.uses[0] =
            (struct table_blob_use){.chunk_id = blob_id, .references = 2, .bytes = 300};
    }
}

/* Three tables and two blobs, not in the order in which they are written. */
static void make_manifest(struct sealed_manifest *manifest)
{
    *manifest = (struct sealed_manifest){.store_uuid = {9, 8, 7},
                                         .checkpoint_id = 7,
                                         .sequence = 1234,
                                         .created_s = 1790000000,
                                         .created_ns = 999999999,
                                         .parent_hash = {.low = 0xaaaa, .high = 0xbbbb}};
    set_bytes(&manifest->name, "before the upgrade");
    set_bytes(&manifest->payload, "{\"tag\":1}");
    manifest->tables = calloc(3, sizeof *manifest->tables);
    manifest->table_count = 3;
    set_table(&manifest->tables[0], 12, 1, "m", "z", 40);
    set_table(&manifest->tables[1], 11, 1, "a", "m", 0);
    set_table(&manifest->tables[2], 13, 0, "b", "c", 30);
    manifest->blobs = calloc(2, sizeof *manifest->blobs);
    manifest->blob_count = 2;
    manifest->blobs[0] = (struct chunk_identity){
        .id = 40, .kind = CHUNK_BLOB, .file_size_bytes = 1 << 26, .hash = {4, 0}};
    manifest->blobs[1] = (struct chunk_identity){
        .id = 30, .kind = CHUNK_BLOB, .file_size_bytes = 1 << 20, .hash = {3, 0}};
}

static struct buffer make_encoding(void)
{
    struct sealed_manifest manifest;
    struct buffer bytes = {0};

    make_manifest(&manifest);
    assert_int_equal(sealed_manifest_encode(&manifest, &bytes), 0);
    sealed_manifest_free(&manifest);
    return bytes;
}

/* Give changed bytes a good checksum. */
static void reseal(struct buffer *bytes)
{
    put_le64(bytes->data + bytes->size - 8, checksum64(bytes->data, bytes->size - 8));
}

static int try_decode(struct slice from)
{
    struct sealed_manifest manifest;
    /* In memory of its own size, so that a read behind its end is seen. */
    uint8_t *copy = malloc(from.size + (from.size == 0));
    int error;

    if (from.size > 0)
        memcpy(copy, from.data, from.size);
    error = sealed_manifest_decode(slice_of(copy, from.size), &manifest);
    if (error == 0)
        sealed_manifest_free(&manifest);
    free(copy);
    return error;
}

/* ---- encoding ---- */

static void check_manifest(const struct sealed_manifest *manifest)
{
    const uint64_t tables[] = {13, 11, 12};

    assert_int_equal(manifest->store_uuid[0], 9);
    assert_int_equal(manifest->checkpoint_id, 7);
    assert_int_equal(manifest->sequence, 1234);
    assert_int_equal(manifest->created_s, 1790000000);
    assert_int_equal(manifest->created_ns, 999999999);
    assert_int_equal(manifest->parent_hash.low, 0xaaaa);
    assert_int_equal(manifest->parent_hash.high, 0xbbbb);
    assert_true(slice_equal(buffer_slice(&manifest->name), slice_of_string("before the upgrade")));
    assert_true(slice_equal(buffer_slice(&manifest->payload), slice_of_string("{\"tag\":1}")));
    assert_int_equal(manifest->table_count, 3);
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(manifest->tables[i].meta.identity.id, tables[i]);
    assert_int_equal(manifest->tables[2].level, 1);
    assert_int_equal(manifest->tables[2].order, 112);
    assert_int_equal(manifest->tables[2].meta.uses[0].chunk_id, 40);
    assert_int_equal(manifest->blob_count, 2);
    assert_int_equal(manifest->blobs[0].id, 30);
    assert_int_equal(manifest->blobs[1].id, 40);
    assert_int_equal(manifest->blobs[1].file_size_bytes, 1 << 26);
}

static void what_was_encoded_comes_back_in_order(void **state)
{
    struct buffer bytes = make_encoding();
    struct sealed_manifest manifest;

    (void)state;
    assert_int_equal(sealed_manifest_decode(buffer_slice(&bytes), &manifest), 0);
    check_manifest(&manifest);
    sealed_manifest_free(&manifest);
    buffer_free(&bytes);
}

static void equal_states_have_equal_bytes(void **state)
{
    struct buffer bytes = make_encoding(), again = {0};
    struct sealed_manifest manifest;

    (void)state;
    assert_int_equal(sealed_manifest_decode(buffer_slice(&bytes), &manifest), 0); /* sorted now */
    set_bytes(&again, "before");
    assert_int_equal(sealed_manifest_encode(&manifest, &again), 0);
    assert_int_equal(again.size, 6 + bytes.size); /* appended */
    assert_memory_equal(again.data + 6, bytes.data, bytes.size);
    sealed_manifest_free(&manifest);
    buffer_free(&bytes);
    buffer_free(&again);
}

static void an_empty_checkpoint_is_valid(void **state)
{
    struct sealed_manifest manifest = {.checkpoint_id = 1}, back;
    struct buffer bytes = {0};

    (void)state;
    assert_int_equal(sealed_manifest_encode(&manifest, &bytes), 0);
    assert_int_equal(sealed_manifest_decode(buffer_slice(&bytes), &back), 0);
    assert_int_equal(back.table_count, 0);
    assert_int_equal(back.blob_count, 0);
    assert_int_equal(back.name.size, 0);
    sealed_manifest_free(&back);
    buffer_free(&bytes);
}

/* Change a good manifest, encode it, and see that it is refused and that nothing was appended. */
typedef void change_function(struct sealed_manifest *manifest);

static void check_refused(change_function *change)
{
    struct sealed_manifest manifest;
    struct buffer bytes = {0};

    make_manifest(&manifest);
    change(&manifest);
    assert_int_equal(sealed_manifest_encode(&manifest, &bytes), -EINVAL);
    assert_int_equal(bytes.size, 0);
    sealed_manifest_free(&manifest);
    buffer_free(&bytes);
}

static void overlap(struct sealed_manifest *manifest)
{
    set_bytes(&manifest->tables[1].meta.largest, "n");
}

static void reverse_range(struct sealed_manifest *manifest)
{
    set_bytes(&manifest->tables[2].meta.largest, "a");
}

static void use_missing_blob(struct sealed_manifest *manifest)
{
    manifest->tables[2].meta.uses[0].chunk_id = 31;
}

static void use_nothing_of_a_blob(struct sealed_manifest *manifest)
{
    manifest->tables[2].meta.uses[0].references = 0;
}

static void use_more_than_can_be_summed(struct sealed_manifest *manifest)
{
    manifest->tables[2].meta.uses[0].bytes = INT64_MAX;
}

static void repeat_blob(struct sealed_manifest *manifest)
{
    manifest->blobs[0].id = 30;
}

static void repeat_table(struct sealed_manifest *manifest)
{
    manifest->tables[0].meta.identity.id = 13;
}

static void repeat_order(struct sealed_manifest *manifest)
{
    manifest->tables[1].level = 0;
    manifest->tables[1].order = manifest->tables[2].order;
}

static void set_level(struct sealed_manifest *manifest)
{
    manifest->tables[0].level = MANIFEST_LEVELS;
}

static void set_no_id(struct sealed_manifest *manifest)
{
    manifest->checkpoint_id = 0;
}

static void set_nanoseconds(struct sealed_manifest *manifest)
{
    manifest->created_ns = 1000000000;
}

static void set_long_name(struct sealed_manifest *manifest)
{
    char name[257];

    memset(name, 'n', 256);
    name[256] = '\0';
    set_bytes(&manifest->name, name);
}

static void what_could_not_be_opened_is_not_encoded(void **state)
{
    change_function *const changes[] = {
        overlap,     reverse_range, use_missing_blob, use_nothing_of_a_blob,
        repeat_blob, repeat_table,  repeat_order,     use_more_than_can_be_summed,
        set_level,   set_no_id,     set_nanoseconds,  set_long_name,
    };

    (void)state;
    for (size_t i = 0; i < sizeof changes / sizeof changes[0]; i++)
        check_refused(changes[i]);
}

/* ---- damage ---- */

static bool is_damage(int error)
{
    return error == ERROR_CORRUPT || error == ERROR_TRUNCATED || error == ERROR_NOT_STORE;
}

static void r39_a_flipped_bit_anywhere_in_a_manifest_is_rejected(void **state)
{
    struct buffer bytes = make_encoding();

    (void)state;
    for (size_t bit = 0; bit < 8 * bytes.size; bit++) {
        int error;

        bytes.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
        error = try_decode(buffer_slice(&bytes));
        if (error != (bit < 64 ? ERROR_NOT_STORE : ERROR_CORRUPT))
            fail_msg("bit %zu: %s", bit, error_text(error));
        bytes.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    assert_int_equal(try_decode(buffer_slice(&bytes)), 0);
    buffer_free(&bytes);
}

static void r39_a_manifest_of_another_length_is_rejected(void **state)
{
    struct buffer bytes = make_encoding();

    (void)state;
    for (size_t size = 0; size < bytes.size; size++)
        assert_true(is_damage(try_decode(slice_of(bytes.data, size))));
    assert_int_equal(try_decode(slice_of(bytes.data, 20)), ERROR_TRUNCATED);
    assert_int_equal(buffer_append(&bytes, "", 1), 0);
    assert_int_equal(try_decode(buffer_slice(&bytes)), ERROR_CORRUPT);
    reseal(&bytes); /* a good checksum does not make it good */
    assert_int_equal(try_decode(buffer_slice(&bytes)), ERROR_CORRUPT);
    buffer_free(&bytes);
}

static void r40_a_manifest_of_another_version_is_refused_as_such(void **state)
{
    struct buffer bytes = make_encoding();

    (void)state;
    put_le32(bytes.data + 8, 2);
    reseal(&bytes);
    assert_int_equal(try_decode(buffer_slice(&bytes)), ERROR_VERSION_NEWER);
    assert_int_equal(try_decode(slice_of(bytes.data, bytes.size - 1)), ERROR_CORRUPT);
    put_le32(bytes.data + 8, 0);
    reseal(&bytes);
    assert_int_equal(try_decode(buffer_slice(&bytes)), ERROR_VERSION_OLDER);
    put_le32(bytes.data + 8, 1);
    put_le32(bytes.data + 12, 1); /* a flag that means something to a newer program */
    reseal(&bytes);
    assert_int_equal(try_decode(buffer_slice(&bytes)), ERROR_VERSION_NEWER);
    buffer_free(&bytes);
}

static void r33_a_chunk_of_unknown_residency_is_a_typed_error(void **state)
{
    struct buffer bytes = make_encoding();
    size_t blob_at = bytes.size - 8 - 37;
    /* Behind the header, the strings, and level and order. */
    size_t table_at = 92 + strlen("before the upgrade") + strlen("{\"tag\":1}") + 12;

    (void)state;
    assert_int_equal(bytes.data[blob_at], MANIFEST_RESIDENCY_LOCAL);
    bytes.data[blob_at] = 2;
    reseal(&bytes);
    assert_int_equal(try_decode(buffer_slice(&bytes)), ERROR_RESIDENCY);
    bytes.data[blob_at] = MANIFEST_RESIDENCY_LOCAL;
    assert_int_equal(bytes.data[table_at], MANIFEST_RESIDENCY_LOCAL);
    bytes.data[table_at] = 0;
    reseal(&bytes);
    assert_int_equal(try_decode(buffer_slice(&bytes)), ERROR_RESIDENCY);
    buffer_free(&bytes);
}

/* R37: whoever can compute a checksum can write anything. */
static void hostile_bytes_under_a_good_checksum_do_no_harm(void **state)
{
    uint64_t random = seed_start(__func__);
    struct buffer good = make_encoding();
    unsigned decoded = 0;

    (void)state;
    for (unsigned round = 0; round < 20000; round++) {
        struct buffer bytes = {0}, again = {0};
        struct sealed_manifest manifest;
        size_t size = good.size;

        if (seed_below(&random, 4) == 0)
            size = 24 + seed_below(&random, good.size - 24);
        assert_int_equal(buffer_append(&bytes, good.data, size), 0);
        for (uint64_t i = seed_below(&random, 4) + 1; i > 0; i--)
            bytes.data[12 + seed_below(&random, size - 20)] = (uint8_t)seed_next(&random);
        reseal(&bytes);
        /* What is accepted is a manifest: it has an encoding, which is accepted. */
        if (sealed_manifest_decode(buffer_slice(&bytes), &manifest) == 0) {
            assert_int_equal(sealed_manifest_encode(&manifest, &again), 0);
            assert_int_equal(try_decode(buffer_slice(&again)), 0);
            sealed_manifest_free(&manifest);
            decoded++;
        }
        buffer_free(&bytes);
        buffer_free(&again);
    }
    assert_true(decoded > 100 && decoded < 19000); /* both paths were taken */
    buffer_free(&good);
}

/* ---- files ---- */

struct fixture {
    struct io_fixture disk;
    struct io *io;
    char *manifest_path, *current_path;
    struct checksum128 hash;
};

static int write_manifest(struct io *io, struct io_file *directory, struct checksum128 *ret_hash)
{
    struct sealed_manifest manifest;
    int error;

    make_manifest(&manifest);
    error = sealed_manifest_write(io, directory, &manifest, ret_hash);
    sealed_manifest_free(&manifest);
    return error;
}

static void setup_empty(struct fixture *fixture)
{
    assert_int_equal(io_fixture_open(&fixture->disk, IO_BACKEND_SYNC), 0);
    fixture->io = fixture->disk.io;
    fixture->manifest_path = test_path(fixture->disk.path, MANIFEST_FILE);
    fixture->current_path = test_path(fixture->disk.path, "CURRENT");
}

static void setup(struct fixture *fixture)
{
    setup_empty(fixture);
    assert_int_equal(write_manifest(fixture->io, fixture->disk.root, &fixture->hash), 0);
}

static void teardown(struct fixture *fixture)
{
    free(fixture->manifest_path);
    free(fixture->current_path);
    io_fixture_close(&fixture->disk);
}

static int try_read(const struct fixture *fixture)
{
    struct sealed_manifest manifest;
    struct checksum128 hash;
    int error = sealed_manifest_read(fixture->io, fixture->disk.root, &manifest, &hash);

    if (error == 0)
        sealed_manifest_free(&manifest);
    return error;
}

static void what_was_written_is_read_with_its_hash(void **state)
{
    struct checksum_stream *stream = checksum_stream_new();
    struct sealed_manifest manifest;
    struct checksum128 hash, expected;
    struct fixture fixture;
    uint8_t *bytes;
    size_t size;

    (void)state;
    setup(&fixture);
    bytes = test_file_read(fixture.manifest_path, &size);
    checksum_stream_update(stream, bytes, size);
    expected = checksum_stream_digest(stream);
    checksum_stream_free(stream);
    free(bytes);
    assert_int_equal(fixture.hash.low, expected.low);
    assert_int_equal(fixture.hash.high, expected.high);
    assert_int_equal(sealed_manifest_read(fixture.io, fixture.disk.root, &manifest, &hash), 0);
    check_manifest(&manifest);
    assert_int_equal(hash.low, expected.low);
    assert_int_equal(hash.high, expected.high);
    sealed_manifest_free(&manifest);
    teardown(&fixture);
}

static void r46_the_hash_of_the_parent_is_kept_so_that_a_chain_can_be_followed(void **state)
{
    struct sealed_manifest manifest = {.checkpoint_id = 1}, back;
    struct checksum128 hashes[4] = {{0, 0}}, hash;
    struct fixture fixture;

    (void)state;
    setup_empty(&fixture);
    for (uint64_t id = 1; id <= 3; id++) {
        char name[8];
        struct io_file *directory;

        snprintf(name, sizeof name, "%d", (int)id);
        assert_int_equal(io_mkdir(fixture.io, fixture.disk.root, name, 0700), 0);
        assert_int_equal(
            io_open(fixture.io, fixture.disk.root, name, IO_OPEN_DIRECTORY, 0, &directory), 0);
        manifest.checkpoint_id = id;
        manifest.parent_hash = hashes[id - 1];
        assert_int_equal(sealed_manifest_write(fixture.io, directory, &manifest, &hashes[id]), 0);
        assert_int_equal(sealed_manifest_read(fixture.io, directory, &back, &hash), 0);
        assert_memory_equal(&back.parent_hash, &hashes[id - 1], sizeof hash);
        assert_memory_equal(&hash, &hashes[id], sizeof hash);
        assert_memory_not_equal(&hashes[id], &hashes[id - 1], sizeof hash);
        sealed_manifest_free(&back);
        io_close(fixture.io, directory);
    }
    teardown(&fixture);
}

/* Flip every bit of a file in turn. */
static void check_every_bit(const struct fixture *fixture, const char *path)
{
    size_t size;
    uint8_t *bytes = test_file_read(path, &size);

    for (size_t bit = 0; bit < 8 * size; bit++) {
        int error;

        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        test_file_write(path, bytes, size);
        error = try_read(fixture);
        if (!is_damage(error))
            fail_msg("%s: bit %zu: %s", path, bit, error_text(error));
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    test_file_write(path, bytes, size);
    assert_int_equal(try_read(fixture), 0);
    free(bytes);
}

static void r39_a_flipped_bit_anywhere_in_either_file_is_rejected(void **state)
{
    struct fixture fixture;

    (void)state;
    setup(&fixture);
    check_every_bit(&fixture, fixture.current_path);
    check_every_bit(&fixture, fixture.manifest_path);
    teardown(&fixture);
}

static void r57_either_file_missing_or_of_another_length_is_a_typed_error(void **state)
{
    char *const *paths[2];
    struct fixture fixture;

    (void)state;
    setup(&fixture);
    paths[0] = &fixture.current_path;
    paths[1] = &fixture.manifest_path;
    for (size_t i = 0; i < 2; i++) {
        const char *path = *paths[i];
        size_t size;
        uint8_t *bytes = test_file_read(path, &size);

        assert_int_equal(unlink(path), 0);
        assert_int_equal(try_read(&fixture), i == 0 ? ERROR_NOT_STORE : ERROR_CORRUPT);
        for (size_t cut = 0; cut < size; cut++) {
            test_file_write(path, bytes, cut);
            assert_true(is_damage(try_read(&fixture)));
        }
        assert_int_equal(try_read(&fixture), ERROR_TRUNCATED); /* one byte short */
        test_file_write(path, bytes, size + 1); /* one byte of whatever malloc gave */
        assert_int_equal(try_read(&fixture), ERROR_CORRUPT);
        test_file_write(path, bytes, size);
        assert_int_equal(try_read(&fixture), 0);
        free(bytes);
    }
    teardown(&fixture);
}

static void r40_a_current_of_another_version_is_refused_as_such(void **state)
{
    struct buffer current = {0};
    struct fixture fixture;

    (void)state;
    setup(&fixture);
    current.data = test_file_read(fixture.current_path, &current.size);
    put_le32(current.data + 8, 2);
    reseal(&current);
    test_file_write(fixture.current_path, current.data, current.size);
    assert_int_equal(try_read(&fixture), ERROR_VERSION_NEWER);
    put_le32(current.data + 8, 0);
    reseal(&current);
    test_file_write(fixture.current_path, current.data, current.size);
    assert_int_equal(try_read(&fixture), ERROR_VERSION_OLDER);
    buffer_free(&current);
    teardown(&fixture);
}

static void a_current_that_names_another_manifest_is_rejected(void **state)
{
    struct sealed_manifest other = {.checkpoint_id = 7, .sequence = 1};
    struct checksum128 hash;
    struct fixture fixture;
    uint8_t *current;
    char *renamed;
    size_t size;

    (void)state;
    setup(&fixture);
    current = test_file_read(fixture.current_path, &size);
    assert_int_equal(sealed_manifest_write(fixture.io, fixture.disk.root, &other, &hash), 0);
    assert_int_equal(try_read(&fixture), 0);
    test_file_write(fixture.current_path, current, size); /* of before */
    assert_true(is_damage(try_read(&fixture)));

    /* The right bytes under another checkpoint's name. */
    renamed = test_path(fixture.disk.path, "MANIFEST-0000000000000008");
    assert_int_equal(write_manifest(fixture.io, fixture.disk.root, &hash), 0);
    assert_int_equal(rename(fixture.manifest_path, renamed), 0);
    put_le64(current + 16, 8);
    put_le64(current + size - 8, checksum64(current, size - 8));
    test_file_write(fixture.current_path, current, size);
    assert_int_equal(try_read(&fixture), ERROR_CORRUPT);
    free(renamed);
    free(current);
    teardown(&fixture);
}

static void r43_symbolic_links_are_refused(void **state)
{
    struct fixture fixture;
    char *away;

    (void)state;
    setup(&fixture);
    away = test_path(fixture.disk.path, "away");
    assert_int_equal(rename(fixture.current_path, away), 0);
    assert_int_equal(symlink("away", fixture.current_path), 0);
    assert_int_equal(try_read(&fixture), -ELOOP);
    assert_int_equal(rename(away, fixture.current_path), 0);
    assert_int_equal(rename(fixture.manifest_path, away), 0);
    assert_int_equal(symlink("away", fixture.manifest_path), 0);
    assert_int_equal(try_read(&fixture), -ELOOP);
    free(away);
    teardown(&fixture);
}

/* Fail each call in turn: R30 (one fails, the rest works) and R31 (nothing happens any more). */
static void check_faults(bool stop)
{
    struct test_fault_io fault;
    struct checksum128 hash;
    struct fixture fixture;
    unsigned absent = 0;
    uint64_t step = 0;
    int error;

    setup_empty(&fixture);
    test_fault_io_init(&fault, fixture.io);
    do {
        int read_error;

        test_fault_io_arm(&fault, ++step, -EIO, stop);
        error = write_manifest(&fault.io, fixture.disk.root, &hash);
        assert_int_equal(error, test_fault_io_struck(&fault) ? -EIO : 0);
        read_error = try_read(&fixture);
        if (access(fixture.current_path, F_OK) == 0) {
            assert_int_equal(read_error, 0); /* it came last: all is there */
        } else {
            assert_int_equal(read_error, ERROR_NOT_STORE);
            absent++;
        }
        /* A second attempt finds whatever the first left and works. */
        test_fault_io_arm(&fault, 0, 0, false);
        assert_int_equal(write_manifest(&fault.io, fixture.disk.root, &hash), 0);
        assert_int_equal(try_read(&fixture), 0);
        assert_int_equal(store_remove_tree(fixture.io, fixture.disk.root, "CURRENT"), 0);
        assert_int_equal(store_remove_tree(fixture.io, fixture.disk.root, MANIFEST_FILE), 0);
    } while (error != 0);
    assert_true(absent >= 11 && step > absent);
    /* No temporary file is left. */
    assert_int_equal(rmdir(fixture.disk.path), 0);
    assert_int_equal(mkdir(fixture.disk.path, 0700), 0);
    teardown(&fixture);
}

static void r30_after_a_failed_call_no_checkpoint_is_half_and_the_retry_works(void **state)
{
    (void)state;
    check_faults(false);
}

static void r31_a_crash_between_any_two_calls_leaves_no_checkpoint_or_a_whole_one(void **state)
{
    (void)state;
    check_faults(true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_encoded_comes_back_in_order),
        cmocka_unit_test(equal_states_have_equal_bytes),
        cmocka_unit_test(an_empty_checkpoint_is_valid),
        cmocka_unit_test(what_could_not_be_opened_is_not_encoded),
        cmocka_unit_test(r39_a_flipped_bit_anywhere_in_a_manifest_is_rejected),
        cmocka_unit_test(r39_a_manifest_of_another_length_is_rejected),
        cmocka_unit_test(r40_a_manifest_of_another_version_is_refused_as_such),
        cmocka_unit_test(r33_a_chunk_of_unknown_residency_is_a_typed_error),
        cmocka_unit_test(hostile_bytes_under_a_good_checksum_do_no_harm),
        cmocka_unit_test(what_was_written_is_read_with_its_hash),
        cmocka_unit_test(r46_the_hash_of_the_parent_is_kept_so_that_a_chain_can_be_followed),
        cmocka_unit_test(r39_a_flipped_bit_anywhere_in_either_file_is_rejected),
        cmocka_unit_test(r57_either_file_missing_or_of_another_length_is_a_typed_error),
        cmocka_unit_test(r40_a_current_of_another_version_is_refused_as_such),
        cmocka_unit_test(a_current_that_names_another_manifest_is_rejected),
        cmocka_unit_test(r43_symbolic_links_are_refused),
        cmocka_unit_test(r30_after_a_failed_call_no_checkpoint_is_half_and_the_retry_works),
        cmocka_unit_test(r31_a_crash_between_any_two_calls_leaves_no_checkpoint_or_a_whole_one),
    };

    log_set_level(LOG_LEVEL_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
