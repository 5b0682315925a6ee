/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_engine_clone.c - a store made of a checkpoint: the same content, its own life
 */
#include <dirent.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/engine_clone.h"
#include "tests/lib/engine_fixture.h"
#include "tests/lib/fault_io.h"
#include "tests/lib/seed.h"

#define KEYS      3000
#define DATA_SIZE 5000

/* What belongs to key and generation: a small value, or data for a blob. */
static void make_data(uint64_t number, uint64_t generation, uint8_t data[DATA_SIZE])
{
    uint64_t random = number * 1000003 + generation;

    for (size_t i = 0; i < DATA_SIZE; i++)
        data[i] = (uint8_t)seed_next(&random);
}

static bool is_blob(uint64_t number)
{
    return number % 10 == 0;
}

static void put(struct engine *engine, uint64_t number, uint64_t generation)
{
    struct engine_view *view = engine_view_acquire(engine);
    struct batch batch = {0};
    uint8_t key[8], data[DATA_SIZE];
    struct blob_ref ref;

    make_data(number, generation, data);
    engine_fixture_key(key, number);
    if (is_blob(number)) {
        assert_int_equal(engine_blob_append(engine, data, DATA_SIZE, &ref), 0);
        batch_put_reference(&batch, slice_of(key, 8), &ref);
    } else {
        batch_put(&batch, slice_of(key, 8), slice_of(data, 100));
    }
    assert_int_equal(engine_write(engine, &batch, NULL), 0);
    engine_view_release(view);
    batch_free(&batch);
}

static void put_all(struct engine *engine, uint64_t generation)
{
    for (uint64_t i = 0; i < KEYS; i++)
        put(engine, i, generation);
}

static void check_record(struct engine_view *view, const struct record *record, uint64_t generation)
{
    uint8_t data[DATA_SIZE], read[DATA_SIZE];
    uint64_t number = get_be64(record->key.data);
    struct blob_ref ref;

    make_data(number, generation, data);
    if (!is_blob(number)) {
        assert_int_equal(record->value.size, 100);
        assert_memory_equal(record->value.data, data, 100);
        return;
    }
    assert_int_equal(blob_ref_decode(record->value, &ref), 0);
    assert_int_equal(engine_blob_read(view, &(struct engine_blob_read){&ref, read}, 1), 0);
    assert_memory_equal(read, data, DATA_SIZE);
}

static void check_view(struct engine_view *view, uint64_t generation)
{
    struct engine_iterator *iterator;
    uint64_t count = 0;
    int found;

    assert_int_equal(engine_iterator_new(view, slice_of(NULL, 0), &iterator), 0);
    for (found = engine_iterator_seek(iterator, slice_of("", 1)); found > 0;
         found = engine_iterator_next(iterator)) {
        check_record(view, engine_iterator_record(iterator), generation);
        count++;
    }
    assert_int_equal(found, 0);
    assert_int_equal(count, KEYS);
    engine_iterator_free(iterator);
}

static void check_all(struct engine *engine, uint64_t generation)
{
    struct engine_view *view = engine_view_acquire(engine);

    check_view(view, generation);
    engine_view_release(view);
}

static char *checkpoint_path(const char *store, const char *name)
{
    char *checkpoints = test_path(store, "checkpoints"), *path = test_path(checkpoints, name);

    free(checkpoints);
    return path;
}

static int clone_with(struct io *io, const char *checkpoint, const char *path, bool copy,
                      struct engine_clone_result *ret_result)
{
    const struct engine_clone_options options = {
        .io = io, .checkpoint = checkpoint, .path = path, .copy = copy};

    return engine_clone(&options, ret_result);
}

static void a_clone_has_the_state_and_its_own_life(void **state)
{
    struct engine_fixture *fixture = *state;
    char *clone_path = test_path(fixture->directory, "clone");
    char *checkpoint = checkpoint_path(fixture->path, "c");
    struct engine_clone_result result;
    struct engine *clone;
    uint64_t id;

    put_all(fixture->engine, 1);
    id = engine_fixture_checkpoint(fixture->engine, "c");
    put_all(fixture->engine, 2);
    /* While the store is in use. */
    assert_int_equal(clone_with(fixture->io, checkpoint, clone_path, false, &result), 0);
    assert_int_equal(result.copied_files, 0);
    assert_true(result.linked_files >= 2);
    assert_memory_equal(result.origin_uuid, engine_uuid(fixture->engine), STORE_UUID_SIZE);
    clone = engine_fixture_open_at(fixture, clone_path);
    assert_memory_not_equal(engine_uuid(clone), engine_uuid(fixture->engine), STORE_UUID_SIZE);
    assert_int_equal(engine_sequence(clone), result.sequence);
    check_all(clone, 1);
    /* Both go on; neither sees the other. */
    put_all(clone, 3);
    assert_int_equal(engine_compact(clone), 0);
    put_all(fixture->engine, 4);
    assert_int_equal(engine_checkpoint_delete(fixture->engine, id), 0);
    assert_int_equal(engine_compact(fixture->engine), 0);
    check_all(clone, 3);
    check_all(fixture->engine, 4);
    assert_int_equal(engine_close(clone), 0);
    clone = engine_fixture_open_at(fixture, clone_path);
    check_all(clone, 3);
    assert_int_equal(engine_close(clone), 0);
    free(clone_path);
    free(checkpoint);
}

/* Chunks of three stores lie in the third. */
static void a_clone_of_a_clone_outlives_both(void **state)
{
    struct engine_fixture *fixture = *state;
    char *first_path = test_path(fixture->directory, "first");
    char *second_path = test_path(fixture->directory, "second");
    char *checkpoint = checkpoint_path(fixture->path, "c");
    char *first_checkpoint = checkpoint_path(first_path, "d");
    struct engine_clone_result result;
    struct engine *engine;
    struct engine_view *view;
    uint64_t id;

    put_all(fixture->engine, 1);
    engine_fixture_checkpoint(fixture->engine, "c");
    assert_int_equal(clone_with(fixture->io, checkpoint, first_path, false, &result), 0);
    engine = engine_fixture_open_at(fixture, first_path);
    for (uint64_t i = 0; i < KEYS; i += 2)
        put(engine, i, 1);
    id = engine_fixture_checkpoint(engine, "d");
    /* A checkpoint of a clone is read as any other, also where it was moved to. */
    assert_int_equal(engine_checkpoint_view(engine, id, &view), 0);
    check_view(view, 1);
    engine_view_release(view);
    assert_int_equal(engine_close(engine), 0);
    assert_int_equal(clone_with(fixture->io, first_checkpoint, second_path, false, &result), 0);
    engine = engine_fixture_open_at(fixture, first_checkpoint);
    check_all(engine, 1);
    assert_int_equal(engine_close(engine), 0);
    test_directory_remove(strdup(first_path));
    engine_fixture_close(fixture);
    test_directory_remove(strdup(fixture->path));
    engine = engine_fixture_open_at(fixture, second_path);
    check_all(engine, 1);
    put_all(engine, 2);
    assert_int_equal(engine_compact(engine), 0);
    check_all(engine, 2);
    assert_int_equal(engine_close(engine), 0);
    free(first_path);
    free(second_path);
    free(checkpoint);
    free(first_checkpoint);
}

static void copying_shares_no_file(void **state)
{
    struct engine_fixture *fixture = *state;
    char *clone_path = test_path(fixture->directory, "clone");
    char *checkpoint = checkpoint_path(fixture->path, "c");
    struct engine_clone_result result;
    struct engine *clone;

    put_all(fixture->engine, 1);
    engine_fixture_checkpoint(fixture->engine, "c");
    assert_int_equal(clone_with(fixture->io, checkpoint, clone_path, true, &result), 0);
    assert_int_equal(result.linked_files, 0);
    assert_true(result.copied_files >= 2);
    {
        char *chunks = test_path(clone_path, "chunks");
        DIR *directory = opendir(chunks);
        struct dirent *entry;

        while ((entry = readdir(directory)) != NULL) {
            char *path = test_path(chunks, entry->d_name);
            struct stat status;

            assert_int_equal(stat(path, &status), 0);
            if (S_ISREG(status.st_mode)) {
                assert_int_equal(status.st_nlink, 1);
                assert_int_equal(status.st_mode & 07777, 0444);
            }
            free(path);
        }
        closedir(directory);
        free(chunks);
    }
    clone = engine_fixture_open_at(fixture, clone_path);
    check_all(clone, 1);
    assert_int_equal(engine_close(clone), 0);
    free(clone_path);
    free(checkpoint);
}

static void what_is_no_checkpoint_is_refused(void **state)
{
    struct engine_fixture *fixture = *state;
    char *clone_path = test_path(fixture->directory, "clone");
    char *checkpoint = checkpoint_path(fixture->path, "c");
    char *current = test_path(checkpoint, "CURRENT");
    struct engine_clone_result result;

    put_all(fixture->engine, 1);
    engine_fixture_checkpoint(fixture->engine, "c");
    assert_int_equal(clone_with(fixture->io, fixture->path, clone_path, false, &result), -EISDIR);
    engine_fixture_close(fixture);
    assert_int_equal(clone_with(fixture->io, fixture->path, clone_path, false, &result), -EISDIR);
    assert_int_equal(clone_with(fixture->io, fixture->directory, clone_path, false, &result),
                     ERROR_NOT_STORE);
    assert_int_equal(clone_with(fixture->io, clone_path, clone_path, false, &result), -ENOENT);
    assert_int_equal(clone_with(fixture->io, checkpoint, fixture->path, false, &result),
                     -ENOTEMPTY);
    assert_int_equal(unlink(current), 0);
    assert_int_equal(clone_with(fixture->io, checkpoint, clone_path, false, &result),
                     ERROR_NOT_STORE);
    assert_int_equal(access(clone_path, F_OK), -1);
    free(clone_path);
    free(checkpoint);
    free(current);
}

static void a_missing_or_short_chunk_is_found_before_anything_is_made(void **state)
{
    struct engine_fixture *fixture = *state;
    char *clone_path = test_path(fixture->directory, "clone");
    char *checkpoint = checkpoint_path(fixture->path, "c");
    char *chunks = test_path(checkpoint, "chunks"), *victim = NULL;
    struct engine_clone_result result;
    struct dirent *entry;
    DIR *directory;

    put_all(fixture->engine, 1);
    engine_fixture_checkpoint(fixture->engine, "c");
    directory = opendir(chunks);
    while (victim == NULL && (entry = readdir(directory)) != NULL)
        if (strstr(entry->d_name, ".blb") != NULL)
            victim = test_path(chunks, entry->d_name);
    closedir(directory);
    assert_non_null(victim);
    assert_int_equal(unlink(victim), 0);
    assert_int_equal(clone_with(fixture->io, checkpoint, clone_path, false, &result),
                     ERROR_MISSING_CHUNK);
    test_file_write(victim, "short", 5);
    assert_int_equal(clone_with(fixture->io, checkpoint, clone_path, false, &result),
                     ERROR_TRUNCATED);
    assert_int_equal(access(clone_path, F_OK), -1);
    free(victim);
    free(chunks);
    free(clone_path);
    free(checkpoint);
}

static int stop_half_way(void *context, uint64_t done, uint64_t total)
{
    (void)context;
    return done >= total / 2;
}

static void an_interrupted_clone_leaves_nothing(void **state)
{
    struct engine_fixture *fixture = *state;
    char *clone_path = test_path(fixture->directory, "clone");
    char *checkpoint = checkpoint_path(fixture->path, "c");
    struct engine_clone_options options = {.io = fixture->io,
                                           .checkpoint = checkpoint,
                                           .path = clone_path,
                                           .copy = true,
                                           .progress = stop_half_way};
    struct engine_clone_result result;

    put_all(fixture->engine, 1);
    engine_fixture_checkpoint(fixture->engine, "c");
    assert_int_equal(engine_clone(&options, &result), -EINTR);
    assert_int_equal(access(clone_path, F_OK), -1);
    options.dry_run = true;
    assert_int_equal(engine_clone(&options, &result), 0);
    assert_true(result.linked_bytes > 0);
    assert_int_equal(access(clone_path, F_OK), -1);
    free(clone_path);
    free(checkpoint);
}

static void r30_an_error_at_any_step_leaves_nothing_and_a_retry_works(void **state)
{
    static const enum fault_call calls[] = {FAULT_OPEN, FAULT_READ,   FAULT_WRITE, FAULT_SYNC,
                                            FAULT_LINK, FAULT_RENAME, FAULT_CHMOD};
    struct engine_fixture *fixture = *state;
    char *clone_path = test_path(fixture->directory, "clone");
    char *checkpoint = checkpoint_path(fixture->path, "c");
    struct fault_io *fault = fault_io_new(fixture->io);
    struct engine_clone_result result;
    struct engine *clone;

    put_all(fixture->engine, 1);
    engine_fixture_checkpoint(fixture->engine, "c");
    for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++) {
        for (int copy = 0; copy < 2; copy++) {
            int error = -EIO;

            for (uint64_t nth = 1; error != 0; nth++) {
                fault_io_fail(fault, calls[i], nth, -EIO, false);
                error = clone_with(fault_io_get(fault), checkpoint, clone_path, copy, &result);
                fault_io_clear(fault, calls[i]);
                if (error < 0)
                    assert_int_equal(access(clone_path, F_OK), -1);
                assert_true(nth < 1000);
            }
            test_directory_remove(strdup(clone_path));
        }
    }
    assert_int_equal(clone_with(fault_io_get(fault), checkpoint, clone_path, false, &result), 0);
    clone = engine_fixture_open_at(fixture, clone_path);
    check_all(clone, 1);
    assert_int_equal(engine_close(clone), 0);
    fault_io_free(fault);
    free(clone_path);
    free(checkpoint);
}

/* In a store that is no clone a chunk of another store is still recognised as such. */
static void flags_of_a_later_version_are_refused(void **state)
{
    struct store_format format = {.uuid = {1}, .chunk_size_bytes = 4096}, decoded;
    uint8_t bytes[STORE_FORMAT_SIZE];

    (void)state;
    format.flags = STORE_FORMAT_FOREIGN_CHUNKS;
    format.origin_uuid[3] = 7;
    store_format_encode(&format, bytes);
    assert_int_equal(get_le32(bytes + 56), 1);
    assert_int_equal(bytes[64 + 3], 7);
    assert_int_equal(store_format_decode(bytes, &decoded), 0);
    assert_int_equal(decoded.flags, STORE_FORMAT_FOREIGN_CHUNKS);
    assert_int_equal(decoded.origin_uuid[3], 7);
    assert_null(store_format_chunk_uuid(&decoded));
    format.flags = 2;
    store_format_encode(&format, bytes);
    assert_int_equal(store_format_decode(bytes, &decoded), ERROR_VERSION_NEWER);
    format.flags = 0;
    assert_ptr_equal(store_format_chunk_uuid(&format), format.uuid);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name)                                                                                 \
    cmocka_unit_test_setup_teardown(name, engine_fixture_setup, engine_fixture_teardown)
        TEST(a_clone_has_the_state_and_its_own_life),
        TEST(a_clone_of_a_clone_outlives_both),
        TEST(copying_shares_no_file),
        TEST(what_is_no_checkpoint_is_refused),
        TEST(a_missing_or_short_chunk_is_found_before_anything_is_made),
        TEST(an_interrupted_clone_leaves_nothing),
        TEST(r30_an_error_at_any_step_leaves_nothing_and_a_retry_works),
        cmocka_unit_test(flags_of_a_later_version_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
