/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_engine_damage.c - files of a store that are whole and of another store, another checkpoint or
 * another size, and references to what nobody has: each rule decides once alone
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "engine/engine_clone.h"
#include "engine/engine_internal.h"
#include "engine/engine_verify.h"
#include "tests/lib/engine_fixture.h"

#include "tests/lib/engine_damage.h"

#define FRAME_SIZE 9000

static uint64_t put_frame(struct engine *engine, uint64_t number, struct blob_ref *ret_ref)
{
    struct engine_view *view = engine_view_acquire(engine);
    struct batch batch = {0};
    uint8_t key[8], data[FRAME_SIZE];

    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (uint8_t)(i * number + i / 7);
    assert_int_equal(engine_blob_append(engine, data, sizeof data, ret_ref), 0);
    batch_put_reference(&batch, engine_fixture_key(key, number), ret_ref);
    assert_int_equal(engine_write(engine, &batch, NULL), 0);
    batch_free(&batch);
    engine_view_release(view);
    return ret_ref->chunk_id;
}

static int try_open(struct engine_fixture *fixture, const char *path)
{
    struct engine_options options = fixture->options;
    struct engine *engine;
    int error;

    options.path = path;
    error = engine_open(&options, &engine);
    if (error == 0)
        assert_int_equal(engine_close(engine), 0);
    return error;
}

/* A closed store with the checkpoint "one", whose path it is. */
static char *make_checkpoint(struct engine_fixture *fixture)
{
    struct blob_ref ref;

    put_frame(fixture->engine, 1, &ref);
    engine_fixture_checkpoint(fixture->engine, "one");
    engine_fixture_close(fixture);
    return test_path(fixture->path, "checkpoints/one");
}

/* ---- checkpoints ---- */

static int add_checkpoint(struct engine_fixture *fixture, const char *path)
{
    struct verify *verify;
    int error;

    assert_int_equal(verify_open(fixture->io, path, &verify), 0);
    error = verify_add_checkpoint(verify, NULL);
    verify_close(verify);
    return error;
}

static int try_clone(struct engine_fixture *fixture, const char *checkpoint)
{
    char *path = test_path(fixture->directory, "clone");
    const struct engine_clone_options options = {
        .io = fixture->io, .checkpoint = checkpoint, .path = path};
    struct engine_clone_result result;
    int error = engine_clone(&options, &result);

    free(path);
    return error;
}

static void a_checkpoint_with_the_format_of_another_store_is_refused(void **state)
{
    struct engine_fixture *fixture = *state;
    char *empty = test_path(fixture->path, "checkpoints/empty"), *checkpoint;

    engine_fixture_checkpoint(fixture->engine, "empty");
    checkpoint = make_checkpoint(fixture);
    assert_int_equal(try_open(fixture, empty), 0);
    damage_change_uuid(empty); /* without chunks, which would say so as well */
    assert_int_equal(try_open(fixture, empty), ERROR_FOREIGN);
    assert_int_equal(try_open(fixture, checkpoint), 0);
    assert_int_equal(add_checkpoint(fixture, checkpoint), 0);
    damage_change_uuid(checkpoint);
    assert_int_equal(try_open(fixture, checkpoint), ERROR_FOREIGN);
    assert_int_equal(add_checkpoint(fixture, checkpoint), ERROR_FOREIGN);
    assert_int_equal(try_clone(fixture, checkpoint), ERROR_FOREIGN);
    free(empty);
    free(checkpoint);
}

static void a_checkpoint_with_a_blob_chunk_of_another_size_is_refused(void **state)
{
    struct engine_fixture *fixture = *state;
    char *checkpoint = make_checkpoint(fixture);
    char *blob = damage_find(checkpoint, "chunks", ".blb");
    size_t size;
    uint8_t *bytes = test_file_read(blob, &size);

    assert_int_equal(unlink(blob), 0);
    test_file_write(blob, bytes, size - 1);
    assert_int_equal(try_open(fixture, checkpoint), ERROR_TRUNCATED);
    test_file_write(blob, bytes, size);
    assert_int_equal(try_open(fixture, checkpoint), 0);
    free(bytes);
    free(blob);
    free(checkpoint);
}

/* What CURRENT names in one directory is whole, and was sealed for the other one. */
static void r46_a_sealed_manifest_of_another_checkpoint_is_refused(void **state)
{
    struct engine_fixture *fixture = *state;
    struct engine_view *view;
    struct blob_ref ref;
    char command[9000];
    uint64_t one;

    put_frame(fixture->engine, 1, &ref);
    one = engine_fixture_checkpoint(fixture->engine, "one");
    engine_fixture_checkpoint(fixture->engine, "two");
    snprintf(command, sizeof command, "cd '%s/checkpoints' && cp -f two/MANIFEST-* two/CURRENT one",
             fixture->path);
    assert_int_equal(system(command), 0);
    assert_int_equal(engine_checkpoint_view(fixture->engine, one, &view), ERROR_CORRUPT);
}

/* ---- references ---- */

static void a_reference_to_a_chunk_that_nobody_knows_is_an_error_where_it_is_used(void **state)
{
    struct engine_fixture *fixture = *state;
    uint8_t key[8], data[FRAME_SIZE];
    struct engine_view *view;
    struct batch batch = {0};
    struct blob_ref ref;
    uint64_t id;

    put_frame(fixture->engine, 1, &ref);
    ref.chunk_id = 9999;
    batch_put_reference(&batch, engine_fixture_key(key, 2), &ref);
    assert_int_equal(engine_write(fixture->engine, &batch, NULL), 0);
    batch_free(&batch);
    view = engine_view_acquire(fixture->engine);
    assert_int_equal(engine_blob_read(view, &(struct engine_blob_read){&ref, data}, 1),
                     ERROR_MISSING_CHUNK);
    engine_view_release(view);
    assert_int_equal(
        engine_checkpoint_create(fixture->engine, slice_of_string("one"), slice_of(NULL, 0), &id),
        0);
    assert_int_equal(engine_checkpoint_wait(fixture->engine, id),
                     ERROR_LATCHED); /* because of it */
}

static void a_reference_in_a_checkpoint_to_a_chunk_that_it_lacks_is_an_error(void **state)
{
    struct engine_fixture *fixture = *state;
    uint8_t data[FRAME_SIZE];
    struct engine_view *view;
    struct blob_ref ref;
    uint64_t id;

    put_frame(fixture->engine, 1, &ref);
    id = engine_fixture_checkpoint(fixture->engine, "one");
    assert_int_equal(engine_checkpoint_view(fixture->engine, id, &view), 0);
    assert_int_equal(engine_blob_read(view, &(struct engine_blob_read){&ref, data}, 1), 0);
    ref.chunk_id = 9999;
    assert_int_equal(engine_blob_read(view, &(struct engine_blob_read){&ref, data}, 1),
                     ERROR_MISSING_CHUNK);
    engine_view_release(view);
}

/* ---- the log ---- */

static void a_log_that_goes_on_at_another_number_is_corruption(void **state)
{
    struct engine_fixture *fixture = *state;
    struct manifest_scalars scalars;
    struct batch batch = {0};
    uint64_t sequences[2];
    struct blob_ref ref;
    char *copy;

    batch_put(&batch, slice_of_string("key"), slice_of_string("value"));
    put_frame(fixture->engine, 1, &ref);
    engine_fixture_close(fixture);
    scalars = damage_scalars(fixture->path);
    for (uint64_t first = 1; first <= 2; first++) {
        for (uint64_t second = 1; second <= 2; second++) {
            copy = damage_copy_store(fixture, "copy");
            sequences[0] = scalars.last_sequence + first;
            sequences[1] = sequences[0] + second;
            damage_write_log(fixture->io, copy, scalars.wal_segment, sequences, &batch);
            assert_int_equal(try_open(fixture, copy),
                             first == 1 && second == 1 ? 0 : ERROR_CORRUPT);
            free(copy);
        }
    }
    batch_free(&batch);
}

static void a_mark_of_a_checkpoint_is_refused_for_each_field_alone(void **state)
{
    static const struct {
        uint32_t name_size, payload_size;
        const char *name;
        size_t size; /* of all */
        int error;
    } cases[] = {
        {3, 4, "one", 28 + 7, 0},
        {3, 0, "one", 28 + 3, 0},
        {3, 4, "one", 28 + 6, ERROR_CORRUPT},
        {3, 4, "one", 28 + 8, ERROR_CORRUPT},
        {UINT32_MAX, 8, "one", 28 + 7, ERROR_CORRUPT}, /* of 32 bits the sum would fit */
        {3, 4, "o/e", 28 + 7, ERROR_CORRUPT},
        {0, 7, "one", 28 + 7, ERROR_CORRUPT}, /* no name */
        {2, 0, "..", 28 + 2, ERROR_CORRUPT},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct checkpoint checkpoint = {.created_s = 0};
        uint8_t *bytes = calloc(1, cases[i].size);
        int error;

        assert_non_null(bytes);
        put_le64(bytes, 5);
        put_le32(bytes + 20, cases[i].name_size);
        put_le32(bytes + 24, cases[i].payload_size);
        memcpy(bytes + 28, cases[i].name, strlen(cases[i].name));
        error = checkpoint_mark_decode(slice_of(bytes, cases[i].size), &checkpoint);
        if (error != cases[i].error)
            fail_msg("case %zu: %d", i, error);
        manifest_checkpoint_free(&checkpoint.record);
        free(bytes);
    }
    for (size_t size = 0; size < 28; size++) {
        struct checkpoint checkpoint = {.created_s = 0};
        uint8_t *bytes = calloc(1, size + 1);

        assert_int_equal(checkpoint_mark_decode(slice_of(bytes, size), &checkpoint), ERROR_CORRUPT);
        free(bytes);
    }
}

/* ---- one chunk ---- */

/* A blob chunk of nothing but a header and `size` bytes, of a store with this uuid. */
static struct chunk_identity write_chunk(const char *chunks, const uint8_t *uuid, size_t size)
{
    struct chunk_identity identity = {.id = 7777, .kind = CHUNK_BLOB};
    struct checksum_stream *stream = checksum_stream_new();
    struct chunk_trailer trailer = {.id = 7777, .kind = CHUNK_BLOB};
    uint8_t *bytes = calloc(1, CHUNK_HEADER_SIZE + size + CHUNK_TRAILER_SIZE);
    char name[CHUNK_NAME_SIZE], *path;

    identity.file_size_bytes = CHUNK_HEADER_SIZE + size + CHUNK_TRAILER_SIZE;
    chunk_header_encode(bytes, CHUNK_BLOB, uuid, identity.id);
    checksum_stream_update(stream, bytes, CHUNK_HEADER_SIZE + size);
    identity.hash = trailer.hash = checksum_stream_digest(stream);
    checksum_stream_free(stream);
    memcpy(trailer.store_uuid, uuid, STORE_UUID_SIZE);
    trailer.content_size_bytes = CHUNK_HEADER_SIZE + size;
    chunk_trailer_encode(bytes + CHUNK_HEADER_SIZE + size, &trailer);
    chunk_name(name, &identity);
    path = test_path(chunks, name);
    test_file_write(path, bytes, identity.file_size_bytes);
    free(path);
    free(bytes);
    return identity;
}

static void a_chunk_is_refused_for_each_thing_that_is_known_of_it(void **state)
{
    struct engine_fixture *fixture = *state;
    const uint8_t *uuid = fixture->engine->store->format.uuid;
    uint8_t other[STORE_UUID_SIZE] = "another store's";
    char *chunks = test_path(fixture->path, "chunks"), *path, name[CHUNK_NAME_SIZE];
    struct io *io = fixture->io;
    struct io_file *directory = fixture->engine->store->chunks;
    struct chunk_identity identity = write_chunk(chunks, uuid, 100);

    assert_int_equal(verify_chunk(io, directory, &identity, uuid), 0);
    assert_int_equal(verify_chunk(io, directory, &identity, NULL), 0);
    assert_int_equal(verify_chunk(io, directory, &identity, other), ERROR_FOREIGN);
    identity.id++;
    assert_int_equal(verify_chunk(io, directory, &identity, uuid), ERROR_MISSING_CHUNK);
    identity.id--;
    identity.file_size_bytes++;
    assert_int_equal(verify_chunk(io, directory, &identity, uuid), ERROR_TRUNCATED);
    identity.file_size_bytes -= 2;
    assert_int_equal(verify_chunk(io, directory, &identity, uuid), ERROR_CORRUPT);
    chunk_name(name, &identity);
    path = test_path(chunks, name);
    for (size_t size = 0; size < CHUNK_HEADER_SIZE + CHUNK_TRAILER_SIZE; size += 127) {
        uint8_t *zeros = calloc(1, size + 1);

        test_file_write(path, zeros, size); /* as small as somebody says, and smaller than any */
        identity.file_size_bytes = size;
        assert_int_equal(verify_chunk(io, directory, &identity, uuid), ERROR_CORRUPT);
        free(zeros);
    }
    assert_int_equal(unlink(path), 0);
    free(path);
    free(chunks);
}

/* A start after a crash between the sealing of a chunk and the manifest's word of it. The log refers to
 * `size` bytes of it, there are 100; the byte that is `damaged` before the file's end is another, unless
 * that is 0. */
static int open_with_sealed(struct engine_fixture *fixture, uint32_t size, size_t damaged)
{
    struct manifest_scalars scalars = damage_scalars(fixture->path);
    const uint64_t sequences[2] = {scalars.last_sequence + 1, scalars.last_sequence + 2};
    struct blob_ref ref = {.chunk_id = 7777,
                           .position = CHUNK_HEADER_SIZE,
                           .stored_size = size,
                           .raw_size = size,
                           .length = size};
    char *copy = damage_copy_store(fixture, "copy"), *chunks = test_path(copy, "chunks");
    char *path, name[CHUNK_NAME_SIZE];
    struct chunk_identity identity;
    struct store_format format;
    struct batch batch = {0};
    uint8_t *bytes;
    size_t count;
    int error;

    path = test_path(copy, "FORMAT");
    bytes = test_file_read(path, &count);
    assert_int_equal(store_format_decode(bytes, &format), 0);
    free(bytes);
    free(path);
    identity = write_chunk(chunks, format.uuid, 100);
    chunk_name(name, &identity);
    path = test_path(chunks, name);
    bytes = test_file_read(path, &count);
    if (damaged > 0)
        bytes[count - damaged] ^= 1;
    test_file_write(path, bytes, count);
    batch_put_reference(&batch, slice_of_string("key"), &ref);
    damage_write_log(fixture->io, copy, scalars.wal_segment, sequences, &batch);
    error = try_open(fixture, copy);
    batch_free(&batch);
    free(bytes);
    free(path);
    free(chunks);
    free(copy);
    return error;
}

static void a_sealed_chunk_that_only_the_log_knows_is_taken_when_it_is_long_enough_and_whole(
    void **state)
{
    struct engine_fixture *fixture = *state;
    struct blob_ref ref;

    put_frame(fixture->engine, 1, &ref);
    engine_fixture_close(fixture);
    assert_int_equal(open_with_sealed(fixture, 100, 0), 0);
    assert_int_equal(open_with_sealed(fixture, 101, 0), ERROR_TRUNCATED);
    for (size_t damaged = 1; damaged <= CHUNK_TRAILER_SIZE; damaged += 21)
        assert_int_equal(error_errno(open_with_sealed(fixture, 100, damaged)), -EIO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name)                                                                                 \
    cmocka_unit_test_setup_teardown(name, engine_fixture_setup, engine_fixture_teardown)
        TEST(a_checkpoint_with_the_format_of_another_store_is_refused),
        TEST(a_checkpoint_with_a_blob_chunk_of_another_size_is_refused),
        TEST(r46_a_sealed_manifest_of_another_checkpoint_is_refused),
        TEST(a_reference_to_a_chunk_that_nobody_knows_is_an_error_where_it_is_used),
        TEST(a_reference_in_a_checkpoint_to_a_chunk_that_it_lacks_is_an_error),
        TEST(a_log_that_goes_on_at_another_number_is_corruption),
        TEST(a_sealed_chunk_that_only_the_log_knows_is_taken_when_it_is_long_enough_and_whole),
        cmocka_unit_test(a_mark_of_a_checkpoint_is_refused_for_each_field_alone),
        TEST(a_chunk_is_refused_for_each_thing_that_is_known_of_it),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
