/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_store.c - tests of engine/store.h
 */
#include "engine/store.h"

#include <errno.h>
#include <fcntl.h>
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
#include "engine/sealed_manifest.h"
#include "tests/lib/io_fixture.h"
#include "tests/lib/test_fault_io.h"

static const struct store_format options = {.chunk_size_bytes = 1 << 26, .compression_level = -1};

struct fixture {
    struct io_fixture disk;
    struct io *io;
    char *path; /* of the store to be */
};

static void setup(struct fixture *fixture)
{
    assert_int_equal(io_fixture_open(&fixture->disk, IO_BACKEND_SYNC), 0);
    fixture->io = fixture->disk.io;
    fixture->path = test_path(fixture->disk.path, "store");
}

static void setup_store(struct fixture *fixture)
{
    setup(fixture);
    assert_int_equal(store_create(fixture->io, fixture->path, &options), 0);
}

static void teardown(struct fixture *fixture)
{
    free(fixture->path);
    io_fixture_close(&fixture->disk);
}

/* A checkpoint directory as the engine makes it, in the store's place. */
static void setup_checkpoint(struct fixture *fixture)
{
    struct sealed_manifest manifest = {.checkpoint_id = 1};
    struct store_format format = options;
    uint8_t bytes[STORE_FORMAT_SIZE];
    struct checksum128 hash;
    struct io_file *root;

    setup(fixture);
    assert_int_equal(mkdir(fixture->path, 0700), 0);
    assert_int_equal(io_open_root(fixture->io, fixture->path, &root), 0);
    assert_int_equal(io_mkdir(fixture->io, root, "chunks", 0700), 0);
    store_format_encode(&format, bytes);
    assert_int_equal(store_write_file(fixture->io, root, "FORMAT", bytes, sizeof bytes), 0);
    assert_int_equal(sealed_manifest_write(fixture->io, root, &manifest, &hash), 0);
    io_close(fixture->io, root);
}

/* Open, and close again when that went well. */
static int try_open(const struct fixture *fixture, bool writable)
{
    struct store *store;
    int error = store_open(fixture->io, fixture->path, writable, &store);

    if (error == 0)
        store_close(store);
    return error;
}

static bool exists(const char *directory, const char *name)
{
    char *path = test_path(directory, name);
    bool found = access(path, F_OK) == 0;

    free(path);
    return found;
}

static void move(const char *directory, const char *from, const char *to)
{
    char *old = test_path(directory, from), *new = test_path(directory, to);

    assert_int_equal(rename(old, new), 0);
    free(old);
    free(new);
}

/* ---- creating ---- */

static void a_created_store_opens_with_what_was_asked(void **state)
{
    struct fixture fixture;
    struct store *store;

    (void)state;
    setup_store(&fixture);
    assert_int_equal(store_open(fixture.io, fixture.path, true, &store), 0);
    assert_int_equal(store->kind, STORE_LIVE);
    assert_int_equal(store->format.chunk_size_bytes, options.chunk_size_bytes);
    assert_int_equal(store->format.compression_level, options.compression_level);
    assert_true(store->format.created_s > 1500000000);
    assert_int_equal(store->format.uuid[6] >> 4, 4);
    assert_int_equal(store->format.uuid[8] >> 6, 2);
    assert_string_equal(store->path, fixture.path);
    assert_non_null(store->root);
    assert_non_null(store->chunks);
    assert_non_null(store->lock);
    assert_non_null(store->wal);
    assert_non_null(store->manifest);
    assert_non_null(store->checkpoints);
    assert_non_null(store->tmp);
    store_close(store);
    store_close(NULL);
    teardown(&fixture);
}

static void two_stores_have_different_uuids(void **state)
{
    struct fixture one, two;
    struct store *first, *second;

    (void)state;
    setup_store(&one);
    setup_store(&two);
    assert_int_equal(store_open(one.io, one.path, true, &first), 0);
    assert_int_equal(store_open(two.io, two.path, true, &second), 0);
    assert_memory_not_equal(first->format.uuid, second->format.uuid, STORE_UUID_SIZE);
    store_close(first);
    store_close(second);
    teardown(&one);
    teardown(&two);
}

static void an_empty_directory_becomes_a_store_and_another_one_is_refused(void **state)
{
    struct fixture fixture;
    char *missing, *file, *with_slash;

    (void)state;
    setup(&fixture);
    missing = test_path(fixture.path, "below/store");
    file = test_path(fixture.disk.path, "file");
    with_slash = test_path(fixture.path, "");
    test_file_write(file, "x", 1);

    assert_int_equal(store_create(fixture.io, missing, &options), -ENOENT);
    assert_int_equal(store_create(fixture.io, file, &options), -ENOTDIR);
    assert_int_equal(store_create(fixture.io, fixture.disk.path, &options), -ENOTEMPTY);
    assert_int_equal(store_create(fixture.io, "", &options), -EINVAL);
    assert_int_equal(
        store_create(fixture.io, fixture.path, &(struct store_format){.compression_level = 1}),
        -EINVAL);
    assert_false(exists(fixture.disk.path, "store"));

    assert_int_equal(mkdir(fixture.path, 0700), 0);
    assert_int_equal(store_create(fixture.io, with_slash, &options), 0);
    assert_int_equal(store_create(fixture.io, fixture.path, &options), -ENOTEMPTY);
    assert_int_equal(try_open(&fixture, true), 0);
    free(missing);
    free(file);
    free(with_slash);
    teardown(&fixture);
}

static void a_failed_creation_leaves_nothing(void **state)
{
    struct fixture fixture;
    struct test_fault_io fault;
    uint64_t step = 0;
    int error;

    (void)state;
    setup(&fixture);
    test_fault_io_init(&fault, fixture.io);
    do {
        bool before = step++ % 2 == 0;

        if (before)
            assert_int_equal(mkdir(fixture.path, 0700), 0);
        test_fault_io_arm(&fault, (step + 1) / 2, -EIO, false);
        error = store_create(&fault.io, fixture.path, &options);
        if (error != 0) {
            assert_int_equal(error, -EIO);
            assert_int_equal(exists(fixture.disk.path, "store"), before);
            if (before)
                assert_int_equal(rmdir(fixture.path), 0); /* empty */
        }
    } while (error != 0);
    assert_true(step > 30); /* it was many steps that were tried */
    assert_int_equal(try_open(&fixture, true), 0);
    teardown(&fixture);
}

static void a_creation_that_was_cut_off_is_no_store(void **state)
{
    struct fixture fixture;
    struct test_fault_io fault;
    uint64_t refused = 0;
    int error;

    (void)state;
    setup(&fixture);
    test_fault_io_init(&fault, fixture.io);
    for (uint64_t step = 1;; step++) {
        test_fault_io_arm(&fault, step, -EIO, true);
        error = store_create(&fault.io, fixture.path, &options);
        if (error == 0)
            break;
        if (exists(fixture.path, "FORMAT")) {
            /* Only its last syncs were missing. */
            assert_int_equal(try_open(&fixture, true), 0);
        } else {
            assert_int_equal(try_open(&fixture, true),
                             exists(fixture.disk.path, "store") ? ERROR_NOT_STORE : -ENOENT);
            refused++;
        }
        assert_int_equal(store_remove_tree(fixture.io, fixture.disk.root, "store"), 0);
    }
    assert_true(refused > 12);
    teardown(&fixture);
}

/* ---- FORMAT ---- */

static void a_format_comes_back_as_it_was_encoded(void **state)
{
    struct store_format format = {.uuid = {1, 2, 3, [15] = 16},
                                  .chunk_size_bytes = 0x1122334455667788,
                                  .compression_level = -7,
                                  .created_s = 1790000000};
    struct store_format back = {0};
    uint8_t bytes[STORE_FORMAT_SIZE];

    (void)state;
    store_format_encode(&format, bytes);
    assert_int_equal(store_format_decode(bytes, &back), 0);
    assert_memory_equal(back.uuid, format.uuid, STORE_UUID_SIZE);
    assert_int_equal(back.chunk_size_bytes, format.chunk_size_bytes);
    assert_int_equal(back.compression_level, format.compression_level);
    assert_int_equal(back.created_s, format.created_s);
}

static void r39_a_flipped_bit_anywhere_in_format_is_rejected(void **state)
{
    struct store_format back = {.created_s = 77};
    uint8_t bytes[STORE_FORMAT_SIZE];

    (void)state;
    store_format_encode(&options, bytes);
    for (size_t bit = 0; bit < 8 * sizeof bytes; bit++) {
        int error;

        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        error = store_format_decode(bytes, &back);
        if (error != (bit < 64 ? ERROR_NOT_STORE : ERROR_CORRUPT))
            fail_msg("bit %zu: %s", bit, error_text(error));
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    assert_int_equal(back.created_s, 77); /* untouched */
    assert_int_equal(store_format_decode(bytes, &back), 0);
}

static void set_version(uint8_t bytes[STORE_FORMAT_SIZE], uint32_t version)
{
    put_le32(bytes + 8, version);
    put_le64(bytes + 120, checksum64(bytes, 120));
}

static void r40_another_version_of_format_is_refused_as_such(void **state)
{
    struct store_format back;
    uint8_t bytes[STORE_FORMAT_SIZE];

    (void)state;
    store_format_encode(&options, bytes);
    set_version(bytes, STORE_FORMAT_VERSION + 1);
    assert_int_equal(store_format_decode(bytes, &back), ERROR_VERSION_NEWER);
    set_version(bytes, 0);
    assert_int_equal(store_format_decode(bytes, &back), ERROR_VERSION_OLDER);
}

static void a_format_with_an_unknown_flag_or_without_a_chunk_size_is_refused(void **state)
{
    struct store_format back, format = options;
    uint8_t bytes[STORE_FORMAT_SIZE];

    (void)state;
    format.flags = STORE_FORMAT_FOREIGN_CHUNKS;
    store_format_encode(&format, bytes);
    assert_int_equal(store_format_decode(bytes, &back), 0);
    for (unsigned bit = 0; bit < 32; bit++) {
        format.flags = STORE_FORMAT_FOREIGN_CHUNKS | UINT32_C(1) << bit;
        if (format.flags == STORE_FORMAT_FOREIGN_CHUNKS)
            continue;
        store_format_encode(&format, bytes);
        assert_int_equal(store_format_decode(bytes, &back), ERROR_VERSION_NEWER);
    }
    format = options;
    format.chunk_size_bytes = 0;
    store_format_encode(&format, bytes);
    assert_int_equal(store_format_decode(bytes, &back), ERROR_CORRUPT);
}

static void r40_a_store_of_a_newer_version_is_not_taken_for_an_empty_one(void **state)
{
    struct fixture fixture;
    uint8_t bytes[STORE_FORMAT_SIZE];
    char *path;

    (void)state;
    setup_store(&fixture);
    path = test_path(fixture.path, "FORMAT");
    store_format_encode(&options, bytes);
    set_version(bytes, STORE_FORMAT_VERSION + 1);
    test_file_write(path, bytes, sizeof bytes);
    assert_int_equal(try_open(&fixture, true), ERROR_VERSION_NEWER);
    assert_int_equal(try_open(&fixture, false), ERROR_VERSION_NEWER);
    assert_int_equal(store_create(fixture.io, fixture.path, &options), -ENOTEMPTY);
    free(path);
    teardown(&fixture);
}

static void r57_format_of_any_other_length_is_refused(void **state)
{
    struct fixture fixture;
    uint8_t bytes[STORE_FORMAT_SIZE + 1] = {0};
    char *path;

    (void)state;
    setup_store(&fixture);
    path = test_path(fixture.path, "FORMAT");
    store_format_encode(&options, bytes);
    for (size_t size = 0; size < STORE_FORMAT_SIZE; size++) {
        test_file_write(path, bytes, size);
        assert_int_equal(try_open(&fixture, true), ERROR_TRUNCATED);
    }
    test_file_write(path, bytes, STORE_FORMAT_SIZE + 1);
    assert_int_equal(try_open(&fixture, true), ERROR_CORRUPT);
    test_file_write(path, "hello", 5);
    assert_int_equal(try_open(&fixture, true), ERROR_NOT_STORE);
    test_file_write(path, bytes, STORE_FORMAT_SIZE);
    assert_int_equal(try_open(&fixture, true), 0);
    free(path);
    teardown(&fixture);
}

/* ---- recognising ---- */

static void missing_empty_and_foreign_directories_are_no_stores(void **state)
{
    struct fixture fixture;
    char *file;

    (void)state;
    setup(&fixture);
    assert_int_equal(try_open(&fixture, true), -ENOENT);
    assert_int_equal(mkdir(fixture.path, 0700), 0);
    assert_int_equal(try_open(&fixture, true), ERROR_NOT_STORE);
    assert_int_equal(try_open(&fixture, false), ERROR_NOT_STORE);
    file = test_path(fixture.path, "letter.txt");
    test_file_write(file, "dear all", 8);
    assert_int_equal(try_open(&fixture, true), ERROR_NOT_STORE);
    assert_true(exists(fixture.path, "letter.txt"));
    assert_int_equal(store_remove_tree(fixture.io, fixture.disk.root, "store"), 0);
    test_file_write(fixture.path, "x", 1);
    assert_int_equal(try_open(&fixture, true), -ENOTDIR);
    free(file);
    teardown(&fixture);
}

static void r57_each_missing_part_of_a_store_is_a_typed_error(void **state)
{
    static const struct {
        const char *name;
        int error;
    } parts[] = {
        {"FORMAT", ERROR_NOT_STORE}, {"LOCK", ERROR_CORRUPT},   {"manifest", ERROR_CORRUPT},
        {"wal", ERROR_CORRUPT},      {"chunks", ERROR_CORRUPT}, {"checkpoints", ERROR_CORRUPT},
        {"tmp", ERROR_CORRUPT},
    };
    struct fixture fixture;

    (void)state;
    setup_store(&fixture);
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        move(fixture.path, parts[i].name, "away");
        assert_int_equal(try_open(&fixture, true), parts[i].error);
        assert_int_equal(try_open(&fixture, false), parts[i].error);
        assert_false(exists(fixture.path, parts[i].name)); /* and nothing is made up for it */
        move(fixture.path, "away", parts[i].name);
    }
    assert_int_equal(try_open(&fixture, true), 0);
    teardown(&fixture);
}

static void r43_a_symbolic_link_in_place_of_any_part_is_refused(void **state)
{
    static const char *const parts[] = {"FORMAT", "LOCK",        "manifest", "wal",
                                        "chunks", "checkpoints", "tmp"};
    struct fixture fixture;

    (void)state;
    setup_store(&fixture);
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        char *link = test_path(fixture.path, parts[i]);

        move(fixture.path, parts[i], "away");
        assert_int_equal(symlink("away", link), 0);
        assert_int_equal(try_open(&fixture, true), -ELOOP);
        assert_int_equal(try_open(&fixture, false), -ELOOP);
        assert_int_equal(unlink(link), 0);
        move(fixture.path, "away", parts[i]);
        free(link);
    }
    assert_int_equal(try_open(&fixture, true), 0);
    teardown(&fixture);
}

static void a_checkpoint_directory_opens_for_reading_only(void **state)
{
    struct fixture fixture;
    struct store *store;

    (void)state;
    setup_checkpoint(&fixture);
    assert_int_equal(try_open(&fixture, true), -EROFS);
    assert_int_equal(store_open(fixture.io, fixture.path, false, &store), 0);
    assert_int_equal(store->kind, STORE_CHECKPOINT);
    assert_non_null(store->chunks);
    assert_null(store->lock);
    assert_null(store->wal);
    assert_null(store->manifest);
    store_close(store);
    teardown(&fixture);
}

static void r57_a_checkpoint_without_one_of_its_parts_is_a_typed_error(void **state)
{
    struct fixture fixture;

    (void)state;
    setup_checkpoint(&fixture);
    move(fixture.path, "CURRENT", "away");
    assert_int_equal(try_open(&fixture, false), ERROR_NOT_STORE);
    move(fixture.path, "away", "CURRENT");
    move(fixture.path, "chunks", "away");
    assert_int_equal(try_open(&fixture, false), ERROR_CORRUPT);
    move(fixture.path, "away", "chunks");
    move(fixture.path, "FORMAT", "away");
    assert_int_equal(try_open(&fixture, false), ERROR_NOT_STORE);
    move(fixture.path, "away", "FORMAT");
    assert_int_equal(try_open(&fixture, false), 0);
    teardown(&fixture);
}

/* ---- locking, tmp, replaced roots ---- */

static void one_opener_at_a_time_holds_a_live_store(void **state)
{
    struct fixture fixture;
    struct store *store;

    (void)state;
    setup_store(&fixture);
    assert_int_equal(store_open(fixture.io, fixture.path, true, &store), 0);
    assert_int_equal(try_open(&fixture, true), ERROR_LOCKED);
    assert_int_equal(try_open(&fixture, false), ERROR_LOCKED);
    store_close(store);
    assert_int_equal(store_open(fixture.io, fixture.path, false, &store), 0);
    assert_int_equal(try_open(&fixture, true), ERROR_LOCKED);
    store_close(store);
    assert_int_equal(try_open(&fixture, true), 0);
    teardown(&fixture);
}

static void a_checkpoint_has_any_number_of_readers(void **state)
{
    struct fixture fixture;
    struct store *store;

    (void)state;
    setup_checkpoint(&fixture);
    assert_int_equal(store_open(fixture.io, fixture.path, false, &store), 0);
    assert_int_equal(try_open(&fixture, false), 0);
    store_close(store);
    teardown(&fixture);
}

static void only_a_writer_empties_tmp_and_it_follows_no_link(void **state)
{
    struct fixture fixture;
    char *kept, *tmp, *link, *deep;

    (void)state;
    setup_store(&fixture);
    kept = test_path(fixture.disk.path, "kept");
    tmp = test_path(fixture.path, "tmp");
    link = test_path(tmp, "link");
    deep = test_path(tmp, "a");
    test_file_write(kept, "x", 1);
    assert_int_equal(mkdir(deep, 0700), 0);
    free(deep);
    deep = test_path(tmp, "a/b");
    test_file_write(deep, "y", 1);
    assert_int_equal(symlink(fixture.disk.path, link), 0);

    assert_int_equal(try_open(&fixture, false), 0);
    assert_true(exists(tmp, "a/b"));
    assert_int_equal(try_open(&fixture, true), 0);
    assert_false(exists(tmp, "a"));
    assert_false(exists(tmp, "link"));
    assert_true(exists(fixture.disk.path, "kept"));
    free(kept);
    free(tmp);
    free(link);
    free(deep);
    teardown(&fixture);
}

static void r50_a_root_that_was_replaced_is_noticed(void **state)
{
    struct fixture fixture;
    struct store *store;

    (void)state;
    setup_store(&fixture);
    assert_int_equal(store_open(fixture.io, fixture.path, true, &store), 0);
    assert_int_equal(store_check_root(store), 0);
    move(fixture.disk.path, "store", "moved");
    assert_int_equal(store_check_root(store), ERROR_REPLACED);
    assert_int_equal(store_create(fixture.io, fixture.path, &options), 0);
    assert_int_equal(store_check_root(store), ERROR_REPLACED);
    assert_int_equal(store_remove_tree(fixture.io, fixture.disk.root, "store"), 0);
    move(fixture.disk.path, "moved", "store");
    assert_int_equal(store_check_root(store), 0);
    store_close(store);
    teardown(&fixture);
}

static void a_relative_path_means_the_directory_it_meant_at_open(void **state)
{
    struct fixture fixture;
    struct store *store;
    char *before = getcwd(NULL, 0);

    (void)state;
    setup(&fixture);
    assert_int_equal(chdir(fixture.disk.path), 0);
    assert_int_equal(store_create(fixture.io, "store", &options), 0);
    assert_int_equal(store_open(fixture.io, "store", true, &store), 0);
    assert_int_equal(chdir(before), 0);
    assert_int_equal(store_check_root(store), 0);
    store_close(store);
    free(before);
    teardown(&fixture);
}

/* ---- small files and trees ---- */

static void removing_a_tree_takes_all_of_it_and_nothing_else(void **state)
{
    struct fixture fixture;
    char *tree, *path;

    (void)state;
    setup(&fixture);
    tree = test_path(fixture.disk.path, "tree");
    assert_int_equal(mkdir(tree, 0700), 0);
    for (int i = 0; i < 300; i++) {
        char name[32];

        snprintf(name, sizeof name, "file %d", i);
        path = test_path(tree, name);
        test_file_write(path, "x", 1);
        free(path);
    }
    path = test_path(tree, "up");
    assert_int_equal(symlink("..", path), 0);
    free(path);
    path = test_path(fixture.disk.path, "other");
    test_file_write(path, "x", 1);
    free(path);
    assert_int_equal(store_remove_tree(fixture.io, fixture.disk.root, "tree"), 0);
    assert_false(exists(fixture.disk.path, "tree"));
    assert_true(exists(fixture.disk.path, "other"));
    assert_int_equal(store_remove_tree(fixture.io, fixture.disk.root, "tree"), 0);
    assert_int_equal(store_remove_tree(fixture.io, fixture.disk.root, "other"), 0);
    assert_false(exists(fixture.disk.path, "other"));
    free(tree);
    teardown(&fixture);
}

static void check_content(const char *path, const char *expected)
{
    size_t size;
    uint8_t *content = test_file_read(path, &size);

    assert_int_equal(size, strlen(expected));
    assert_memory_equal(content, expected, size);
    free(content);
}

static void a_small_file_is_the_old_one_or_the_new_one(void **state)
{
    struct fixture fixture;
    struct test_fault_io fault;
    char *path, *link_path;
    uint64_t step = 0;
    int error;

    (void)state;
    setup(&fixture);
    path = test_path(fixture.disk.path, "small");
    link_path = test_path(fixture.disk.path, "link");
    test_fault_io_init(&fault, fixture.io);
    do {
        size_t size;
        uint8_t *content;

        test_fault_io_arm(&fault, 0, 0, false);
        assert_int_equal(store_write_file(&fault.io, fixture.disk.root, "small", "old", 3), 0);
        (void)unlink(link_path);
        assert_int_equal(link(path, link_path), 0);
        test_fault_io_arm(&fault, ++step, -ENOSPC, false);
        error = store_write_file(&fault.io, fixture.disk.root, "small", "newer", 5);
        assert_true(error == 0 || error == -ENOSPC || error == -EIO); /* -EIO: of a sync */
        content = test_file_read(path, &size);
        if (error == 0 || size == 5)
            assert_true(size == 5 && memcmp(content, "newer", 5) == 0);
        else
            assert_true(size == 3 && memcmp(content, "old", 3) == 0);
        free(content);
        check_content(link_path, "old"); /* who has a link keeps what it had */
        assert_false(exists(fixture.disk.path, "small.tmp"));
    } while (error != 0);
    assert_int_equal(step,
                     7); /* create, write, chmod, sync, rename, sync of the directory, and none */
    free(path);
    free(link_path);
    teardown(&fixture);
}

static void what_a_crash_left_of_a_small_file_is_written_over(void **state)
{
    struct fixture fixture;
    struct stat status;
    char *path;

    (void)state;
    setup(&fixture);
    path = test_path(fixture.disk.path, "small.tmp");
    test_file_write(path, "left over and longer", 20);
    assert_int_equal(store_write_file(fixture.io, fixture.disk.root, "small", "new", 3), 0);
    assert_int_equal(access(path, F_OK), -1);
    free(path);
    path = test_path(fixture.disk.path, "small");
    check_content(path, "new");
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(status.st_mode & 07777, 0444);
    free(path);
    teardown(&fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_created_store_opens_with_what_was_asked),
        cmocka_unit_test(two_stores_have_different_uuids),
        cmocka_unit_test(an_empty_directory_becomes_a_store_and_another_one_is_refused),
        cmocka_unit_test(a_failed_creation_leaves_nothing),
        cmocka_unit_test(a_creation_that_was_cut_off_is_no_store),
        cmocka_unit_test(a_format_comes_back_as_it_was_encoded),
        cmocka_unit_test(r39_a_flipped_bit_anywhere_in_format_is_rejected),
        cmocka_unit_test(r40_another_version_of_format_is_refused_as_such),
        cmocka_unit_test(a_format_with_an_unknown_flag_or_without_a_chunk_size_is_refused),
        cmocka_unit_test(r40_a_store_of_a_newer_version_is_not_taken_for_an_empty_one),
        cmocka_unit_test(r57_format_of_any_other_length_is_refused),
        cmocka_unit_test(missing_empty_and_foreign_directories_are_no_stores),
        cmocka_unit_test(r57_each_missing_part_of_a_store_is_a_typed_error),
        cmocka_unit_test(r43_a_symbolic_link_in_place_of_any_part_is_refused),
        cmocka_unit_test(a_checkpoint_directory_opens_for_reading_only),
        cmocka_unit_test(r57_a_checkpoint_without_one_of_its_parts_is_a_typed_error),
        cmocka_unit_test(one_opener_at_a_time_holds_a_live_store),
        cmocka_unit_test(a_checkpoint_has_any_number_of_readers),
        cmocka_unit_test(only_a_writer_empties_tmp_and_it_follows_no_link),
        cmocka_unit_test(r50_a_root_that_was_replaced_is_noticed),
        cmocka_unit_test(a_relative_path_means_the_directory_it_meant_at_open),
        cmocka_unit_test(removing_a_tree_takes_all_of_it_and_nothing_else),
        cmocka_unit_test(a_small_file_is_the_old_one_or_the_new_one),
        cmocka_unit_test(what_a_crash_left_of_a_small_file_is_written_over),
    };

    log_set_level(LOG_LEVEL_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
