/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_engine_verify.c - whatever is changed in a chunk or a checkpoint is found, and named
 */
#include <dirent.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/engine_verify.h"
#include "tests/lib/engine_fixture.h"
#include "tests/lib/fault_io.h"
#include "tests/lib/seed.h"

#define FLIPS 60

struct found {
    size_t count;
    int error;            /* of the last */
    char chunk[256];      /* likewise */
    size_t users, others; /* checkpoints, and the live tree */
};

static int note(void *context, const struct verify_finding *finding)
{
    struct found *found = context;

    found->count++;
    found->error = finding->error;
    strcpy(found->chunk, finding->chunk);
    found->users = found->others = 0;
    for (size_t i = 0; i < finding->user_count; i++) {
        if (finding->users[i] != NULL)
            found->users++;
        else
            found->others++;
    }
    return 0;
}

static int add_live(void *context, const struct chunk_identity *identity)
{
    return verify_add_live(context, identity);
}

/* Everything: the live tree, and checkpoints "a" and "b". */
static struct found verify_all(struct engine_fixture *fixture, struct verify_result *ret_result)
{
    struct engine_view *view = engine_view_acquire(fixture->engine);
    struct found found = {.count = 0};
    struct verify *verify;

    assert_int_equal(verify_open(fixture->io, fixture->path, &verify), 0);
    assert_false(verify_is_checkpoint(verify));
    assert_int_equal(engine_view_each_chunk(view, add_live, verify), 0);
    assert_int_equal(verify_add_checkpoint(verify, "a"), 0);
    assert_int_equal(verify_add_checkpoint(verify, "b"), 0);
    assert_int_equal(verify_run(verify, NULL, note, &found, ret_result), 0);
    assert_int_equal(ret_result->damaged, found.count);
    verify_close(verify);
    engine_view_release(view);
    return found;
}

static void fill(struct engine *engine, uint64_t start)
{
    struct engine_view *view = engine_view_acquire(engine);
    struct batch batch = {0};

    for (uint64_t i = start; i < start + 300; i++) {
        uint8_t key[8], data[1000];
        uint64_t random = i;
        struct blob_ref ref;

        for (size_t j = 0; j < sizeof data; j++)
            data[j] = (uint8_t)seed_next(&random);
        engine_fixture_key(key, i);
        if (i % 2 == 0) {
            batch_put(&batch, slice_of(key, 8), slice_of(data, 100));
        } else {
            assert_int_equal(engine_blob_append(engine, data, sizeof data, &ref), 0);
            batch_put_reference(&batch, slice_of(key, 8), &ref);
        }
    }
    assert_int_equal(engine_write(engine, &batch, NULL), 0);
    batch_free(&batch);
    engine_view_release(view);
}

/* Checkpoints a and b share what was written first. */
static void make_content(struct engine_fixture *fixture)
{
    fill(fixture->engine, 0);
    (void)engine_fixture_checkpoint(fixture->engine, "a");
    fill(fixture->engine, 300);
    (void)engine_fixture_checkpoint(fixture->engine, "b");
}

/* The first file of that kind in a directory of the store. */
static char *find_chunk(struct engine_fixture *fixture, const char *directory, const char *suffix)
{
    char *path = test_path(fixture->path, directory), *chunk = NULL;
    DIR *stream = opendir(path);
    struct dirent *entry;

    assert_non_null(stream);
    while (chunk == NULL && (entry = readdir(stream)) != NULL)
        if (strstr(entry->d_name, suffix) != NULL)
            chunk = test_path(path, entry->d_name);
    closedir(stream);
    free(path);
    assert_non_null(chunk);
    return chunk;
}

/* In place: all links show it. */
static void overwrite(const char *path, const void *data, size_t size, size_t offset)
{
    FILE *file;

    assert_int_equal(chmod(path, 0644), 0);
    file = fopen(path, "r+b");
    assert_non_null(file);
    assert_int_equal(fseek(file, (long)offset, SEEK_SET), 0);
    assert_int_equal(fwrite(data, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
}

static void a_whole_store_is_right_and_each_file_is_read_once(void **state)
{
    struct engine_fixture *fixture = *state;
    struct verify_result result;
    struct found found;

    make_content(fixture);
    found = verify_all(fixture, &result);
    assert_int_equal(found.count, 0);
    /* Two tables and two blobs, each in up to three directories. */
    assert_int_equal(result.files, 4);
    assert_true(result.bytes > 300 * 1000);
}

static void a_flipped_bit_anywhere_is_found_and_its_users_are_named(void **state)
{
    static const char *const suffixes[] = {".tbl", ".blb"};
    struct engine_fixture *fixture = *state;
    uint64_t random = seed_start("engine_verify");

    make_content(fixture);
    for (size_t kind = 0; kind < 2; kind++) {
        char *path = find_chunk(fixture, "checkpoints/a/chunks", suffixes[kind]);
        uint8_t *content;
        size_t size;

        content = test_file_read(path, &size);
        for (int i = 0; i < FLIPS; i++) {
            /* The ends more often than chance would. */
            size_t at = i < 10   ? (size_t)i
                        : i < 20 ? size - 1 - (size_t)(i - 10)
                                 : seed_below(&random, size);
            uint8_t flipped = content[at] ^ (uint8_t)(1u << seed_below(&random, 8));
            struct verify_result result;
            struct found found;

            overwrite(path, &flipped, 1, at);
            found = verify_all(fixture, &result);
            assert_int_equal(found.count, 1);
            assert_non_null(strstr(path, found.chunk));
            /* Which of them holds it besides: the live tree may have merged its tables. */
            assert_int_equal(found.users, 2);
            assert_true(found.others <= 1);
            assert_int_equal(result.files, 3);
            overwrite(path, &content[at], 1, at);
        }
        free(content);
        free(path);
    }
}

static void missing_short_and_long_chunks_are_found(void **state)
{
    struct engine_fixture *fixture = *state;
    struct verify_result result;
    struct found found;
    uint8_t *content;
    char *path;
    size_t size;

    make_content(fixture);
    path = find_chunk(fixture, "checkpoints/a/chunks", ".blb");
    content = test_file_read(path, &size);
    assert_int_equal(unlink(path), 0);
    found = verify_all(fixture, &result);
    assert_int_equal(found.count, 1);
    assert_int_equal(found.error, ERROR_MISSING_CHUNK);
    assert_int_equal(found.users, 1); /* the other names of the file are there */
    test_file_write(path, content, size - 1);
    found = verify_all(fixture, &result);
    assert_int_equal(found.error, ERROR_TRUNCATED);
    test_file_write(path, content, 100);
    assert_int_equal(verify_all(fixture, &result).error, ERROR_TRUNCATED);
    test_file_write(path, content, size);
    overwrite(path, "x", 1, size);
    assert_int_equal(verify_all(fixture, &result).error, ERROR_CORRUPT);
    /* A copy in place of the link is as good. */
    assert_int_equal(unlink(path), 0);
    test_file_write(path, content, size);
    found = verify_all(fixture, &result);
    assert_int_equal(found.count, 0);
    assert_int_equal(result.files, 5);
    free(content);
    free(path);
}

/* Checkpoints a, b and c; the open call `nth` of the run (0: none) finds nothing. Returns how many there were. */
static uint64_t verify_with_a_name_gone(struct engine_fixture *fixture, uint64_t nth,
                                        struct found *found, struct verify_result *ret_result)
{
    struct fault_io *fault = fault_io_new(fixture->io);
    struct verify *verify;
    uint64_t before;

    assert_int_equal(verify_open(fault_io_get(fault), fixture->path, &verify), 0);
    assert_int_equal(verify_add_checkpoint(verify, "a"), 0);
    assert_int_equal(verify_add_checkpoint(verify, "b"), 0);
    assert_int_equal(verify_add_checkpoint(verify, "c"), 0);
    before = fault_io_count(fault, FAULT_OPEN);
    if (nth > 0)
        fault_io_fail(fault, FAULT_OPEN, nth, -ENOENT, false);
    assert_int_equal(verify_run(verify, NULL, note, found, ret_result), 0);
    before = fault_io_count(fault, FAULT_OPEN) - before;
    verify_close(verify);
    fault_io_free(fault);
    return before;
}

/* A mounted store lets go of names while they are looked at, whichever look it is. */
static void a_name_that_goes_meanwhile_is_missing_and_the_others_are_read(void **state)
{
    struct engine_fixture *fixture = *state;
    struct found found = {.count = 0};
    struct verify_result result;
    uint64_t opens;

    make_content(fixture);
    (void)engine_fixture_checkpoint(fixture->engine, "c"); /* so that each chunk has two names */
    opens = verify_with_a_name_gone(fixture, 0, &found, &result);
    assert_int_equal(found.count, 0);
    assert_true(opens >= result.files);
    for (uint64_t nth = 1; nth <= opens; nth++) {
        found.count = 0;
        (void)verify_with_a_name_gone(fixture, nth, &found, &result);
        assert_int_equal(found.count, 1);
        assert_int_equal(found.error, ERROR_MISSING_CHUNK);
        assert_int_equal(found.users, 1);
        assert_int_equal(result.files, 4);
    }
}

static void a_damaged_manifest_is_an_error_of_its_checkpoint(void **state)
{
    struct engine_fixture *fixture = *state;
    char *current, *checkpoint_path = test_path(fixture->path, "checkpoints/a");
    struct found found = {.count = 0};
    struct verify_result result;
    struct verify *verify;

    make_content(fixture);
    /* By itself it is right. */
    assert_int_equal(verify_open(fixture->io, checkpoint_path, &verify), 0);
    assert_true(verify_is_checkpoint(verify));
    assert_int_equal(verify_add_checkpoint(verify, NULL), 0);
    assert_int_equal(verify_run(verify, NULL, note, &found, &result), 0);
    assert_int_equal(found.count, 0);
    assert_int_equal(result.files, 2);
    verify_close(verify);

    current = find_chunk(fixture, "checkpoints/a", "CURRENT");
    overwrite(current, "x", 1, 30);
    assert_int_equal(verify_open(fixture->io, fixture->path, &verify), 0);
    assert_int_equal(verify_add_checkpoint(verify, "a"), ERROR_CORRUPT);
    assert_int_equal(verify_add_checkpoint(verify, "none"), -ENOENT);
    assert_int_equal(verify_add_checkpoint(verify, "b"), 0);
    assert_int_equal(verify_run(verify, NULL, note, &found, &result), 0);
    assert_int_equal(found.count, 0);
    verify_close(verify);
    assert_int_equal(verify_open(fixture->io, fixture->directory, &verify), ERROR_NOT_STORE);
    free(checkpoint_path);
    free(current);
}

static int stop(void *context, uint64_t done, uint64_t total)
{
    (void)context;
    return done > total / 2;
}

static void it_can_be_interrupted(void **state)
{
    struct engine_fixture *fixture = *state;
    struct found found = {.count = 0};
    struct verify_result result;
    struct verify *verify;

    make_content(fixture);
    assert_int_equal(verify_open(fixture->io, fixture->path, &verify), 0);
    assert_int_equal(verify_add_checkpoint(verify, "b"), 0);
    assert_int_equal(verify_run(verify, stop, note, &found, &result), -EINTR);
    verify_close(verify);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name)                                                                                 \
    cmocka_unit_test_setup_teardown(name, engine_fixture_setup, engine_fixture_teardown)
        TEST(a_whole_store_is_right_and_each_file_is_read_once),
        TEST(a_flipped_bit_anywhere_is_found_and_its_users_are_named),
        TEST(missing_short_and_long_chunks_are_found),
        TEST(a_name_that_goes_meanwhile_is_missing_and_the_others_are_read),
        TEST(a_damaged_manifest_is_an_error_of_its_checkpoint),
        TEST(it_can_be_interrupted),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
