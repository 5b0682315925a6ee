/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_checkpoint_files.c - chunks are linked into checkpoints, and copied where they cannot be
 */
#include <dirent.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/engine_internal.h"
#include "tests/lib/engine_fixture.h"
#include "tests/lib/fault_io.h"
#include "tests/lib/io_fixture.h"
#include "tests/lib/seed.h"

#define KEYS       400
#define VALUE_SIZE 900
#define FILE_SIZE  (3 * 1024 * 1024 + 77) /* copied in more than one piece */
#define LINKS_TRY  66000                  /* ext4 stops at 65,000, btrfs at 65,535 */

/* ---- one file ---- */

struct pair {
    struct io_fixture base;
    struct fault_io *fault;
    struct io *io;
    struct io_file *from, *to;
    uint8_t *content;
};

static int pair_setup(void **state)
{
    struct pair *pair = calloc(1, sizeof *pair);
    uint64_t random = 1;
    char *directory, *path;

    assert_int_equal(io_fixture_open(&pair->base, IO_BACKEND_SYNC), 0);
    pair->fault = fault_io_new(pair->base.io);
    pair->io = fault_io_get(pair->fault);
    assert_int_equal(io_mkdir(pair->io, pair->base.root, "from", 0700), 0);
    assert_int_equal(io_mkdir(pair->io, pair->base.root, "to", 0700), 0);
    assert_int_equal(io_open(pair->io, pair->base.root, "from", IO_OPEN_DIRECTORY, 0, &pair->from),
                     0);
    assert_int_equal(io_open(pair->io, pair->base.root, "to", IO_OPEN_DIRECTORY, 0, &pair->to), 0);
    pair->content = malloc(FILE_SIZE);
    for (size_t i = 0; i < FILE_SIZE; i++)
        pair->content[i] = (uint8_t)seed_next(&random);
    directory = test_path(pair->base.path, "from");
    path = test_path(directory, "chunk");
    test_file_write(path, pair->content, FILE_SIZE);
    free(path);
    free(directory);
    *state = pair;
    return 0;
}

static int pair_teardown(void **state)
{
    struct pair *pair = *state;

    io_close(pair->io, pair->from);
    io_close(pair->io, pair->to);
    fault_io_free(pair->fault);
    io_fixture_close(&pair->base);
    free(pair->content);
    free(pair);
    return 0;
}

static int take(struct pair *pair)
{
    return checkpoint_files_link(pair->io, pair->from, pair->to, "chunk");
}

static int refuse_any(void *context, const char *name)
{
    (void)context;
    print_message("there is %s\n", name);
    return 1;
}

static void assert_nothing_was_made(struct pair *pair)
{
    assert_int_equal(io_list(pair->io, pair->to, refuse_any, NULL), 0);
}

static void assert_is_a_copy(struct pair *pair)
{
    struct stat original, copy;
    char *directory = test_path(pair->base.path, "to"), *path = test_path(directory, "chunk");
    size_t size;
    uint8_t *bytes = test_file_read(path, &size);

    assert_int_equal(io_stat_at(pair->io, pair->from, "chunk", &original), 0);
    assert_int_equal(io_stat_at(pair->io, pair->to, "chunk", &copy), 0);
    assert_int_not_equal(original.st_ino, copy.st_ino);
    assert_int_equal(copy.st_mode & 07777, 0444);
    assert_int_equal(size, FILE_SIZE);
    assert_memory_equal(bytes, pair->content, FILE_SIZE);
    free(bytes);
    free(path);
    free(directory);
}

static void what_can_be_linked_is_linked(void **state)
{
    struct pair *pair = *state;
    struct stat original, other;

    assert_int_equal(take(pair), 0);
    assert_int_equal(io_stat_at(pair->io, pair->from, "chunk", &original), 0);
    assert_int_equal(io_stat_at(pair->io, pair->to, "chunk", &other), 0);
    assert_int_equal(original.st_ino, other.st_ino);
}

static void r47_a_link_across_file_systems_is_a_copy(void **state)
{
    struct pair *pair = *state;

    fault_io_fail(pair->fault, FAULT_LINK, 1, -EXDEV, true);
    assert_int_equal(take(pair), 1);
    assert_is_a_copy(pair);
}

static void any_other_error_of_linking_is_an_error(void **state)
{
    static const int errors[] = {-EIO, -ENOSPC, -EPERM, -EDQUOT, -EROFS};
    struct pair *pair = *state;

    for (size_t i = 0; i < sizeof errors / sizeof errors[0]; i++) {
        fault_io_fail(pair->fault, FAULT_LINK, 1, errors[i], false);
        assert_int_equal(take(pair), errors[i]);
        assert_nothing_was_made(pair);
    }
}

/* The limit of the file system that the test runs on, where it has one that can be reached. */
static void r48_a_link_past_the_limit_of_the_file_system_is_a_copy(void **state)
{
    struct pair *pair = *state;
    struct io_file *many;
    struct stat status;
    char name[24];
    int result = 0;

    assert_int_equal(io_mkdir(pair->io, pair->base.root, "many", 0700), 0);
    assert_int_equal(io_open(pair->io, pair->base.root, "many", IO_OPEN_DIRECTORY, 0, &many), 0);
    for (unsigned i = 0; result == 0 && i < LINKS_TRY; i++) {
        snprintf(name, sizeof name, "%u", i);
        result = io_link(pair->io, pair->from, "chunk", many, name);
    }
    io_close(pair->io, many);
    if (result == 0) {
        print_message("no limit below %u links here: it is made up\n", LINKS_TRY);
        fault_io_fail(pair->fault, FAULT_LINK, 1, -EMLINK, true);
    } else {
        assert_int_equal(result, -EMLINK);
    }
    assert_int_equal(io_stat_at(pair->io, pair->from, "chunk", &status), 0);
    assert_true(status.st_nlink > 30000);
    assert_int_equal(take(pair), 1);
    assert_is_a_copy(pair);
}

static void r49_no_space_in_the_middle_of_a_copy_leaves_no_partial_file(void **state)
{
    struct pair *pair = *state;
    int result;
    uint64_t nth = 1;

    fault_io_fail(pair->fault, FAULT_LINK, 1, -EXDEV, true);
    for (;; nth++) {
        uint64_t before = fault_io_count(pair->fault, FAULT_WRITE);

        fault_io_fail(pair->fault, FAULT_WRITE, nth, -ENOSPC, true);
        result = take(pair);
        if (fault_io_count(pair->fault, FAULT_WRITE) - before < nth)
            break;
        assert_int_equal(result, -ENOSPC);
        assert_nothing_was_made(pair);
    }
    assert_true(nth > 3);
    assert_int_equal(result, 1);
    assert_is_a_copy(pair);
}

static void a_copy_that_fails_is_none(void **state)
{
    static const enum fault_call calls[] = {FAULT_CHMOD, FAULT_READ};
    struct pair *pair = *state;

    fault_io_fail(pair->fault, FAULT_LINK, 1, -EXDEV, true);
    for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++) {
        fault_io_fail(pair->fault, calls[i], 1, -EIO, false);
        assert_int_equal(take(pair), -EIO);
        assert_nothing_was_made(pair);
    }
    assert_int_equal(take(pair), 1);
}

/* ---- a checkpoint ---- */

static void put_some(struct engine *engine, uint64_t generation)
{
    for (uint64_t i = 0; i < KEYS; i++) {
        struct batch batch = {0};
        uint8_t key[8], value[VALUE_SIZE];

        memset(value, (int)(i * 7 + generation), sizeof value);
        batch_put(&batch, engine_fixture_key(key, i), slice_of(value, sizeof value));
        assert_int_equal(engine_write(engine, &batch, NULL), 0);
        batch_free(&batch);
    }
}

static int note_numbers(void *context, const struct engine_checkpoint_info *info)
{
    *(struct engine_checkpoint_info *)context = *info;
    return 0;
}

static void a_checkpoint_of_copies_says_so_and_reads_as_one_of_links(void **state)
{
    struct engine_fixture *fixture = *state;
    struct fault_io *fault = fault_io_new(fixture->io);
    struct engine_checkpoint_info info;
    struct engine_view *view;
    struct buffer value = {0};
    uint8_t key[8];
    uint64_t id;

    engine_fixture_close(fixture);
    fixture->options.io = fault_io_get(fault);
    engine_fixture_open(fixture);
    fault_io_fail(fault, FAULT_LINK, 1, -EMLINK, true);
    put_some(fixture->engine, 1);
    assert_int_equal(
        engine_checkpoint_create(fixture->engine, slice_of_string("x"), slice_of(NULL, 0), &id), 0);
    assert_int_equal(engine_checkpoint_wait(fixture->engine, id), 0);
    assert_int_equal(engine_checkpoint_one(fixture->engine, id, note_numbers, &info), 0);
    assert_int_equal(info.linked_files, 0);
    assert_true(info.copied_files > 0);
    assert_true(info.copied_bytes > 0);
    put_some(fixture->engine, 2);
    assert_int_equal(engine_checkpoint_view(fixture->engine, id, &view), 0);
    for (uint64_t i = 0; i < KEYS; i++) {
        assert_int_equal(engine_view_get(view, engine_fixture_key(key, i), &value, NULL), 1);
        assert_int_equal(value.size, VALUE_SIZE);
        assert_int_equal(value.data[VALUE_SIZE - 1], (uint8_t)(i * 7 + 1));
    }
    engine_view_release(view);
    buffer_free(&value);
    engine_fixture_close(fixture);
    fault_io_free(fault);
}

/* A store with the checkpoint "x", opened on the disk that fails. */
static struct store *open_with_checkpoint(struct engine_fixture *fixture, struct fault_io *fault,
                                          uint64_t *ret_id)
{
    struct store *store;

    put_some(fixture->engine, 1);
    assert_int_equal(
        engine_checkpoint_create(fixture->engine, slice_of_string("x"), slice_of(NULL, 0), ret_id),
        0);
    assert_int_equal(engine_checkpoint_wait(fixture->engine, *ret_id), 0);
    engine_fixture_close(fixture);
    assert_int_equal(store_open(fault_io_get(fault), fixture->path, true, &store), 0);
    return store;
}

/* What cannot be read at the moment is not known to be damaged, and stays where it is. */
static void a_checkpoint_that_cannot_be_read_for_once_is_not_cleared_away(void **state)
{
    struct engine_fixture *fixture = *state;
    struct fault_io *fault = fault_io_new(fixture->io);
    struct store *store;
    uint64_t id;

    store = open_with_checkpoint(fixture, fault, &id);
    for (unsigned nth = 1; nth < 8; nth++) {
        const enum fault_call calls[] = {FAULT_OPEN, FAULT_READ};

        for (size_t i = 0; i < 2; i++) {
            fault_io_fail(fault, calls[i], nth, -EIO, false);
            (void)checkpoint_files_settle(store, "x", id);
            fault_io_clear(fault, calls[i]);
            assert_int_equal(checkpoint_files_match(store, "x", id), 1);
        }
    }
    store_close(store);
    fault_io_free(fault);
}

static int make_directory(struct store *store, const struct sealed_manifest *plan)
{
    struct checkpoint_numbers numbers;
    int is_there = checkpoint_files_prepare(store, plan, "x", &numbers);

    return is_there < 0 ? is_there : checkpoint_files_publish(store, plan, "x", is_there > 0);
}

static int count_name(void *context, const char *name)
{
    (void)name;
    (*(size_t *)context)++;
    return 0;
}

static size_t count_names(struct store *store, struct io_file *directory)
{
    size_t count = 0;

    assert_int_equal(io_list(store->io, directory, count_name, &count), 0);
    return count;
}

static void r30_a_failed_call_leaves_no_working_directory_and_the_retry_works(void **state)
{
    static const enum fault_call calls[] = {FAULT_OPEN, FAULT_READ,   FAULT_WRITE, FAULT_SYNC,
                                            FAULT_LINK, FAULT_RENAME, FAULT_CHMOD};
    struct engine_fixture *fixture = *state;
    struct fault_io *fault = fault_io_new(fixture->io);
    struct sealed_manifest plan = {0};
    struct checksum128 hash;
    struct io_file *directory;
    struct store *store;
    unsigned failures = 0;
    uint64_t id;

    store = open_with_checkpoint(fixture, fault, &id);
    assert_int_equal(io_open(store->io, store->checkpoints, "x", IO_OPEN_DIRECTORY, 0, &directory),
                     0);
    assert_int_equal(sealed_manifest_read(store->io, directory, &plan, &hash), 0);
    io_close(store->io, directory);
    for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++) {
        int result = -EIO;

        for (uint64_t nth = 1; result != 0; nth++) {
            assert_int_equal(store_remove_tree(store->io, store->checkpoints, "x"), 0);
            fault_io_fail(fault, calls[i], nth, -EIO, false);
            result = make_directory(store, &plan);
            fault_io_clear(fault, calls[i]);
            assert_int_equal(count_names(store, store->tmp), 0);
            /* Whole, when the sync of its name was what failed. */
            if (result < 0 && count_names(store, store->checkpoints) > 0)
                assert_int_equal(checkpoint_files_match(store, "x", id), 1);
            failures += result < 0;
            assert_int_equal(make_directory(store, &plan), 0);
            assert_int_equal(checkpoint_files_match(store, "x", id), 1);
        }
    }
    assert_true(failures > 20);
    sealed_manifest_free(&plan);
    store_close(store);
    fault_io_free(fault);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(
            a_checkpoint_that_cannot_be_read_for_once_is_not_cleared_away, engine_fixture_setup,
            engine_fixture_teardown),
        cmocka_unit_test_setup_teardown(
            r30_a_failed_call_leaves_no_working_directory_and_the_retry_works, engine_fixture_setup,
            engine_fixture_teardown),
        cmocka_unit_test_setup_teardown(what_can_be_linked_is_linked, pair_setup, pair_teardown),
        cmocka_unit_test_setup_teardown(r47_a_link_across_file_systems_is_a_copy, pair_setup,
                                        pair_teardown),
        cmocka_unit_test_setup_teardown(any_other_error_of_linking_is_an_error, pair_setup,
                                        pair_teardown),
        cmocka_unit_test_setup_teardown(r48_a_link_past_the_limit_of_the_file_system_is_a_copy,
                                        pair_setup, pair_teardown),
        cmocka_unit_test_setup_teardown(r49_no_space_in_the_middle_of_a_copy_leaves_no_partial_file,
                                        pair_setup, pair_teardown),
        cmocka_unit_test_setup_teardown(a_copy_that_fails_is_none, pair_setup, pair_teardown),
        cmocka_unit_test_setup_teardown(a_checkpoint_of_copies_says_so_and_reads_as_one_of_links,
                                        engine_fixture_setup, engine_fixture_teardown),
    };

    log_set_level(LOG_LEVEL_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
