/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_table_damage.c - damaged, foreign and missing table files, and failing disks
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/base/error.h"
#include "engine/table.h"
#include "engine/table_format.h"
#include "tests/lib/child.h"
#include "tests/lib/seed.h"
#include "tests/lib/table_fixture.h"

/* Thousands of expected complaints would hide an unexpected one. */
static int silence(void)
{
    int kept = dup(STDERR_FILENO), null = open("/dev/null", O_WRONLY | O_CLOEXEC);

    dup2(null, STDERR_FILENO);
    close(null);
    return kept;
}

static void unsilence(int kept)
{
    dup2(kept, STDERR_FILENO);
    close(kept);
}

static int try_open(struct fixture *fixture, const struct table_meta *meta,
                    struct table_reader **ret_reader)
{
    return table_reader_open(fixture->base.io, fixture->chunks, &meta->identity, uuid, NULL,
                             ret_reader);
}

/* A descriptor that may change the sealed file (tests are not bound by modes). */
static int open_to_damage(struct fixture *fixture, const struct table_meta *meta)
{
    char *path = chunk_path(fixture, &meta->identity);
    int descriptor;

    assert_int_equal(chmod(path, 0644), 0);
    descriptor = open(path, O_RDWR | O_CLOEXEC);
    assert_true(descriptor >= 0);
    free(path);
    return descriptor;
}

/* Every answer of the reader is right or an error; returns whether any was an error. */
static bool right_or_error(struct table_reader *reader, const struct content *content)
{
    struct table_iterator *iterator = table_iterator_new(reader);
    struct buffer value = {0};
    struct record record;
    bool failed = false;
    size_t at = 0;
    int result;

    for (size_t i = 0; i < content->record_count; i++) {
        result = table_reader_get(reader, content->records[i].key, &value, &record);
        assert_true(result == 1 || result == ERROR_CORRUPT);
        failed |= result < 0;
        if (result == 1)
            assert_true(same_record(&record, &content->records[i]));
        assert_int_equal(table_reader_tombstone(reader, content->records[i].key),
                         covering(content, content->records[i].key));
    }
    table_iterator_set_fill_cache(iterator, false);
    for (result = table_iterator_seek(iterator, slice_of("", 0)); result == 1; at++) {
        assert_true(at < content->record_count);
        assert_true(same_record(table_iterator_record(iterator), &content->records[at]));
        result = table_iterator_next(iterator);
    }
    if (result == 0)
        assert_int_equal(at, content->record_count);
    else
        assert_int_equal(table_iterator_next(iterator), result); /* an error stays */
    failed |= result < 0;
    table_iterator_free(iterator);
    buffer_free(&value);
    return failed;
}

static void any_flipped_bit_is_an_error_and_never_other_data(void **state)
{
    uint64_t random = seed_start("any_flipped_bit_is_an_error_and_never_other_data");

    for (int level = 0; level < 2; level++) {
        struct content *content = content_make(&random, 16, 4, 30);
        struct table_meta meta = write_table(*state, content, 1, level);
        size_t size = meta.identity.file_size_bytes;
        int descriptor = open_to_damage(*state, &meta);
        size_t refused = 0, failed = 0;
        int kept = silence();

        for (size_t bit = 0; bit < size * 8; bit++) {
            struct table_reader *reader;
            uint8_t byte, damaged;
            int error;

            /* The header is mostly zero and covered by one checksum: a few of its bits will do. */
            if (bit > 64 * 8 && bit < 4080 * 8 && bit % 31 != 0)
                continue;
            assert_int_equal(pread(descriptor, &byte, 1, (off_t)(bit / 8)), 1);
            damaged = byte ^ (uint8_t)(1 << bit % 8);
            assert_int_equal(pwrite(descriptor, &damaged, 1, (off_t)(bit / 8)), 1);
            error = try_open(*state, &meta, &reader);
            if (error == 0) {
                assert_true(right_or_error(reader, content));
                assert_int_equal(table_reader_verify(reader), ERROR_CORRUPT);
                table_reader_unref(reader);
                failed++;
            } else {
                assert_true(error == ERROR_CORRUPT);
                refused++;
            }
            assert_int_equal(pwrite(descriptor, &byte, 1, (off_t)(bit / 8)), 1);
        }
        unsilence(kept);
        assert_true(refused > 0 && failed > 0);
        close(descriptor);
        table_meta_free(&meta);
        content_free(content);
    }
}

static void damage_in_a_large_table_is_an_error_where_it_is_read(void **state)
{
    uint64_t random = seed_start("damage_in_a_large_table_is_an_error_where_it_is_read");
    struct content *content = content_make(&random, 5000, 40, 60);
    struct table_meta meta = write_table(*state, content, 1, 1);
    int descriptor = open_to_damage(*state, &meta);
    int kept = silence();

    for (int round = 0; round < 60; round++) {
        off_t at = CHUNK_HEADER_SIZE +
                   (off_t)seed_below(&random, meta.identity.file_size_bytes - CHUNK_HEADER_SIZE);
        struct table_reader *reader;
        uint8_t byte, damaged;

        assert_int_equal(pread(descriptor, &byte, 1, at), 1);
        damaged = byte ^ (uint8_t)(1 + seed_below(&random, 255));
        assert_int_equal(pwrite(descriptor, &damaged, 1, at), 1);
        if (try_open(*state, &meta, &reader) == 0) {
            assert_true(right_or_error(reader, content));
            table_reader_unref(reader);
        }
        assert_int_equal(pwrite(descriptor, &byte, 1, at), 1);
    }
    unsilence(kept);
    close(descriptor);
    table_meta_free(&meta);
    content_free(content);
}

/* Blocks of equal size, each valid by itself, in each other's place. */
static void swapped_blocks_are_detected(void **state)
{
    struct record records[6];
    struct content content = {.records = records, .record_count = 6};
    uint8_t values[6][8000], first[8200], second[8200];
    struct table_meta meta;
    struct table_reader *reader;
    size_t stored = 0, found = 0;
    int descriptor, kept;

    for (size_t i = 0; i < 6; i++) {
        memset(values[i], (int)i, sizeof values[i]);
        records[i] = (struct record){RECORD_VALUE, 7, slice_of((const uint8_t *)"abcdef" + i, 1),
                                     slice_of(values[i], sizeof values[i])};
    }
    meta = write_table(*state, &content, 1, 0);
    descriptor = open_to_damage(*state, &meta);
    /* One record a block: two blocks differ in the byte that repeats only. */
    assert_int_equal(pread(descriptor, first, sizeof first, CHUNK_HEADER_SIZE), sizeof first);
    while (found == 0 && stored < sizeof first - 8)
        if (memcmp(first + ++stored, "\1\1\1\1", 4) == 0)
            found = stored;
    assert_true(found > 8000 && found < 8200);
    stored =
        found -
        (size_t)(memchr(first, 'a', 64) ? (const uint8_t *)memchr(first, 'a', 64) + 1 - first : 0);
    assert_int_equal(pread(descriptor, first, stored, CHUNK_HEADER_SIZE), stored);
    assert_int_equal(pread(descriptor, second, stored, (off_t)(CHUNK_HEADER_SIZE + stored)),
                     stored);
    assert_int_equal(memcmp(first, second, 4), 0); /* equal heads: these are blocks */
    assert_int_equal(pwrite(descriptor, second, stored, CHUNK_HEADER_SIZE), stored);
    assert_int_equal(pwrite(descriptor, first, stored, (off_t)(CHUNK_HEADER_SIZE + stored)),
                     stored);

    kept = silence();
    assert_int_equal(try_open(*state, &meta, &reader), 0);
    assert_true(right_or_error(reader, &content));
    for (size_t i = 0; i < 6; i++) {
        struct buffer value = {0};
        struct record record;

        assert_int_equal(table_reader_get(reader, records[i].key, &value, &record),
                         i < 2 ? ERROR_CORRUPT : 1);
        buffer_free(&value);
    }
    unsilence(kept);
    table_reader_unref(reader);
    close(descriptor);
    table_meta_free(&meta);
}

/* A block with a valid checksum that was meant for the same place of another table. */
static void a_block_of_another_chunk_is_detected(void **state)
{
    uint64_t random = seed_start("a_block_of_another_chunk_is_detected");
    struct content *content = content_make(&random, 50, 0, 30);
    struct table_meta one = write_table(*state, content, 1, 0);
    struct table_meta two = write_table(*state, content, 2, 0);
    int from = open_to_damage(*state, &one), to = open_to_damage(*state, &two);
    struct table_reader *reader;
    struct buffer value = {0};
    struct record record;
    uint8_t *bytes = malloc(one.identity.file_size_bytes);
    size_t size = 0;
    int kept;

    assert_int_equal(one.identity.file_size_bytes, two.identity.file_size_bytes);
    size = (size_t)one.identity.file_size_bytes;
    assert_int_equal(pread(from, bytes, size, 0), size);
    /* the filter follows the only block: its position is the first entry of the footer */
    size = (size_t)get_le64(bytes + size - CHUNK_TRAILER_SIZE - TABLE_FOOTER_SIZE);
    assert_int_equal(
        pwrite(to, bytes + CHUNK_HEADER_SIZE, size - CHUNK_HEADER_SIZE, CHUNK_HEADER_SIZE),
        size - CHUNK_HEADER_SIZE);
    kept = silence();
    assert_int_equal(try_open(*state, &two, &reader), 0);
    assert_int_equal(table_reader_get(reader, content->records[0].key, &value, &record),
                     ERROR_CORRUPT);
    unsilence(kept);
    table_reader_unref(reader);
    buffer_free(&value);
    free(bytes);
    close(from);
    close(to);
    table_meta_free(&one);
    table_meta_free(&two);
    content_free(content);
}

static void a_file_of_another_length_is_refused(void **state)
{
    uint64_t random = seed_start("a_file_of_another_length_is_refused");
    struct content *content = content_make(&random, 100, 3, 60);
    struct table_meta meta = write_table(*state, content, 1, 1);
    off_t size = (off_t)meta.identity.file_size_bytes;
    int descriptor = open_to_damage(*state, &meta);
    struct table_reader *reader;
    int kept = silence();

    assert_int_equal(ftruncate(descriptor, size + 1), 0);
    assert_int_equal(try_open(*state, &meta, &reader), ERROR_CORRUPT);
    assert_int_equal(ftruncate(descriptor, size), 0);
    assert_int_equal(try_open(*state, &meta, &reader), 0);
    table_reader_unref(reader);
    for (off_t cut = size - 1; cut >= 0; cut -= 1 + cut / 50) {
        assert_int_equal(ftruncate(descriptor, cut), 0);
        assert_int_equal(try_open(*state, &meta, &reader), ERROR_TRUNCATED);
    }
    unsilence(kept);
    close(descriptor);
    table_meta_free(&meta);
    content_free(content);
}

static void a_file_cut_while_open_is_an_error(void **state)
{
    uint64_t random = seed_start("a_file_cut_while_open_is_an_error");
    struct content *content = content_make(&random, 3000, 3, 60);
    struct table_meta meta = write_table(*state, content, 1, 0);
    int descriptor = open_to_damage(*state, &meta);
    struct table_reader *reader = open_table(*state, &meta, NULL);
    struct buffer value = {0};
    struct record record;
    int kept = silence();

    assert_int_equal(ftruncate(descriptor, CHUNK_HEADER_SIZE + 100), 0);
    for (size_t i = 0; i < content->record_count; i++)
        assert_int_equal(table_reader_get(reader, content->records[i].key, &value, &record),
                         ERROR_TRUNCATED);
    assert_int_equal(table_reader_verify(reader), ERROR_TRUNCATED);
    unsilence(kept);
    buffer_free(&value);
    table_reader_unref(reader);
    close(descriptor);
    table_meta_free(&meta);
    content_free(content);
}

static void what_is_not_the_expected_table_is_refused_by_its_own_error(void **state)
{
    uint64_t random = seed_start("what_is_not_the_expected_table_is_refused");
    struct fixture *fixture = *state;
    struct content *content = content_make(&random, 100, 3, 60);
    struct table_meta meta = write_table(fixture, content, 1, 1), other;
    char *path = chunk_path(fixture, &meta.identity), *elsewhere;
    struct table_reader *reader = (struct table_reader *)&random;
    int kept = silence();

    assert_int_equal(table_reader_open(fixture->base.io, fixture->chunks, &meta.identity,
                                       other_uuid, NULL, &reader),
                     ERROR_FOREIGN);
    assert_int_equal(table_meta_copy(&meta, &other), 0);
    other.identity.hash.low ^= 1;
    assert_int_equal(try_open(fixture, &other, &reader), ERROR_MISSING_CHUNK);

    /* under a name with another hash, under another id */
    elsewhere = chunk_path(fixture, &other.identity);
    assert_int_equal(link(path, elsewhere), 0);
    assert_int_equal(try_open(fixture, &other, &reader), ERROR_CORRUPT);
    assert_int_equal(unlink(elsewhere), 0);
    free(elsewhere);
    other.identity = meta.identity;
    other.identity.id = 2;
    elsewhere = chunk_path(fixture, &other.identity);
    assert_int_equal(link(path, elsewhere), 0);
    assert_int_equal(try_open(fixture, &other, &reader), ERROR_CORRUPT);

    /* a symbolic link in its place (R43) */
    assert_int_equal(unlink(path), 0);
    assert_int_equal(symlink(elsewhere, path), 0);
    assert_int_equal(try_open(fixture, &meta, &reader), -ELOOP);

    assert_ptr_equal(reader, &random); /* no failure touched the result */
    unsilence(kept);
    free(elsewhere);
    free(path);
    table_meta_free(&other);
    table_meta_free(&meta);
    content_free(content);
}

static void a_table_of_a_newer_format_is_refused_as_such(void **state)
{
    uint64_t random = 3;
    struct content *content = content_make(&random, 10, 0, 60);
    struct table_meta meta = write_table(*state, content, 1, 1);
    off_t at = (off_t)meta.identity.file_size_bytes - CHUNK_TRAILER_SIZE;
    int descriptor = open_to_damage(*state, &meta);
    uint8_t trailer[CHUNK_TRAILER_SIZE];
    struct table_reader *reader;
    int kept = silence();

    assert_int_equal(pread(descriptor, trailer, sizeof trailer, at), sizeof trailer);
    put_le32(trailer + 8, CHUNK_VERSION + 1);
    put_le64(trailer + 120, checksum64(trailer, 120));
    assert_int_equal(pwrite(descriptor, trailer, sizeof trailer, at), sizeof trailer);
    assert_int_equal(try_open(*state, &meta, &reader), ERROR_VERSION_NEWER);
    unsilence(kept);
    close(descriptor);
    table_meta_free(&meta);
    content_free(content);
}

/* ---- what the log says ---- */

struct damaged {
    struct fixture *fixture;
    struct table_meta *meta;
    struct slice key;
};

static void read_damaged(void *context)
{
    struct damaged *damaged = context;
    struct table_reader *reader;
    struct buffer value = {0};
    struct record record;

    if (try_open(damaged->fixture, damaged->meta, &reader) == 0) {
        (void)table_reader_get(reader, damaged->key, &value, &record);
        table_reader_unref(reader);
    }
    buffer_free(&value);
}

static void a_damaged_block_is_logged_once_with_chunk_and_position(void **state)
{
    uint64_t random = 5;
    struct content *content = content_make(&random, 100, 0, 60);
    struct table_meta meta = write_table(*state, content, 1, 0);
    struct damaged damaged = {*state, &meta, content->records[0].key};
    int descriptor = open_to_damage(*state, &meta);
    char name[CHUNK_NAME_SIZE], output[4096];
    const char *line;

    assert_int_equal(pwrite(descriptor, "XXXX", 4, CHUNK_HEADER_SIZE + 20), 4);
    assert_int_equal(child_run(read_damaged, &damaged, output, sizeof output), 0);
    chunk_name(name, &meta.identity);
    line = strstr(output, name);
    assert_non_null(line);
    assert_null(strstr(line + 1, name));
    assert_non_null(strstr(output, " 4096 "));
    close(descriptor);
    table_meta_free(&meta);
    content_free(content);
}

/* ---- a disk that fails at one step ---- */

struct failing_io {
    struct io io;
    struct io *real;
    int64_t steps_left; /* fails when it reaches zero */
    int error;
    bool failed;
};

static bool must_fail(struct io *io)
{
    struct failing_io *failing = (struct failing_io *)io;

    if (failing->steps_left-- != 0)
        return false;
    failing->failed = true;
    return true;
}

#define REAL(io) (((struct failing_io *)(io))->real)
#define FAIL(io) (((struct failing_io *)(io))->error)

static int failing_open(struct io *io, struct io_file *directory, const char *name, int flags,
                        mode_t mode, struct io_file **ret_file)
{
    if (must_fail(io))
        return FAIL(io);
    return REAL(io)->ops->open(REAL(io), directory, name, flags, mode, ret_file);
}

static void failing_close(struct io *io, struct io_file *file)
{
    REAL(io)->ops->close(REAL(io), file);
}

static int64_t failing_read(struct io *io, struct io_file *file, void *data, size_t size,
                            uint64_t offset)
{
    if (must_fail(io))
        return FAIL(io);
    return REAL(io)->ops->read(REAL(io), file, data, size, offset);
}

static int64_t failing_write(struct io *io, struct io_file *file, const void *data, size_t size,
                             uint64_t offset)
{
    if (must_fail(io))
        return FAIL(io);
    return REAL(io)->ops->write(REAL(io), file, data, size, offset);
}

/* The I/O seam never lets a sync fail for want of space (io.h): it says -EIO then. */
static int failing_sync(struct io *io, struct io_file *file, bool data_only)
{
    if (must_fail(io))
        return ((struct failing_io *)io)->error = -EIO;
    return REAL(io)->ops->sync(REAL(io), file, data_only);
}

static int failing_truncate(struct io *io, struct io_file *file, uint64_t size)
{
    return must_fail(io) ? FAIL(io) : REAL(io)->ops->truncate(REAL(io), file, size);
}

static int failing_stat(struct io *io, struct io_file *file, struct stat *ret_stat)
{
    return must_fail(io) ? FAIL(io) : REAL(io)->ops->stat(REAL(io), file, ret_stat);
}

static int failing_chmod(struct io *io, struct io_file *file, mode_t mode)
{
    return must_fail(io) ? FAIL(io) : REAL(io)->ops->chmod(REAL(io), file, mode);
}

static int failing_rename(struct io *io, struct io_file *from_directory, const char *from,
                          struct io_file *to_directory, const char *to)
{
    if (must_fail(io))
        return FAIL(io);
    return REAL(io)->ops->rename(REAL(io), from_directory, from, to_directory, to);
}

/* Cleaning up works even on this disk. */
static int failing_unlink(struct io *io, struct io_file *directory, const char *name,
                          bool is_directory)
{
    return REAL(io)->ops->unlink(REAL(io), directory, name, is_directory);
}

static const struct io_ops failing_ops = {
    .name = "failing",
    .open = failing_open,
    .close = failing_close,
    .read = failing_read,
    .write = failing_write,
    .sync = failing_sync,
    .truncate = failing_truncate,
    .stat = failing_stat,
    .chmod = failing_chmod,
    .unlink = failing_unlink,
    .rename = failing_rename,
};

static void a_write_that_fails_at_any_step_leaves_no_file(void **state)
{
    static const int errors[] = {-EIO, -ENOSPC};
    uint64_t random = seed_start("a_write_that_fails_at_any_step_leaves_no_file");
    struct fixture *fixture = *state;
    struct content *content = content_make(&random, 2000, 5, 5000); /* several buffers */
    int descriptors = io_fixture_count_descriptors();
    int64_t steps = 0;
    bool finished = false;

    for (; !finished; steps++) {
        struct failing_io failing = {.io = {.ops = &failing_ops},
                                     .real = fixture->base.io,
                                     .steps_left = steps,
                                     .error = errors[steps % 2]};
        struct table_writer_options options = writer_options(fixture, (uint64_t)steps + 1, 0);
        struct table_meta meta;
        int kept = silence(), error;

        options.io = &failing.io;
        error = try_write(&options, content, &meta);
        unsilence(kept);
        if (failing.failed) {
            assert_int_equal(error, failing.error);
            assert_int_equal(count_names(fixture, fixture->chunks), 0);
        } else {
            assert_int_equal(error, 0);
            assert_int_equal(count_names(fixture, fixture->chunks), 1);
            table_meta_free(&meta);
            finished = true;
        }
        assert_int_equal(count_names(fixture, fixture->tmp), 0);
        assert_int_equal(io_fixture_count_descriptors(), descriptors);
    }
    /* open, two writes or more, truncate, chmod, sync, rename, two syncs; and one without fault
     */
    assert_true(steps >= 10);
    content_free(content);
}

static void a_read_that_fails_at_any_step_is_that_error(void **state)
{
    uint64_t random = seed_start("a_read_that_fails_at_any_step_is_that_error");
    struct fixture *fixture = *state;
    struct content *content = content_make(&random, 4000, 5, 60);
    struct table_meta meta = write_table(fixture, content, 1, 0);
    int descriptors = io_fixture_count_descriptors();
    bool finished = false;

    for (int64_t steps = 0; !finished; steps++) {
        struct failing_io failing = {.io = {.ops = &failing_ops},
                                     .real = fixture->base.io,
                                     .steps_left = steps,
                                     .error = -EIO};
        struct table_reader *reader = NULL;
        struct buffer value = {0};
        struct record record;
        int kept = silence();
        int result =
            table_reader_open(&failing.io, fixture->chunks, &meta.identity, uuid, NULL, &reader);

        if (result == 0)
            result = table_reader_get(reader, content->records[99].key, &value, &record);
        if (result == 1)
            result = table_reader_verify(reader);
        unsilence(kept);
        assert_int_equal(result, failing.failed ? -EIO : 0);
        finished = !failing.failed;
        buffer_free(&value);
        table_reader_unref(reader);
        assert_int_equal(io_fixture_count_descriptors(), descriptors);
        assert_true(!finished || steps >= 5); /* open, stat, tail, header or more, block, verify */
    }
    table_meta_free(&meta);
    content_free(content);
}

/* The cache answers for a block that the disk has lost since; a walk past the cache does not. */
static void only_reads_from_disk_are_verified(void **state)
{
    uint64_t random = 11;
    struct fixture *fixture = *state;
    struct content *content = content_make(&random, 100, 0, 60);
    struct table_meta meta = write_table(fixture, content, 1, 0);
    struct block_cache *cache = block_cache_new(1 << 20);
    struct table_reader *reader = open_table(fixture, &meta, cache);
    struct table_iterator *iterator = table_iterator_new(reader);
    int descriptor = open_to_damage(fixture, &meta);
    struct buffer value = {0};
    struct record record;
    int kept;

    assert_int_equal(table_reader_get(reader, content->records[0].key, &value, &record), 1);
    assert_int_equal(pwrite(descriptor, "XXXX", 4, CHUNK_HEADER_SIZE + 20), 4);
    kept = silence();
    assert_int_equal(table_reader_get(reader, content->records[0].key, &value, &record), 1);
    assert_true(same_record(&record, &content->records[0]));
    table_iterator_set_fill_cache(iterator, false);
    assert_int_equal(table_iterator_seek(iterator, content->records[0].key), ERROR_CORRUPT);
    table_iterator_set_fill_cache(iterator, true);
    assert_int_equal(table_iterator_seek(iterator, content->records[0].key), 1);
    unsilence(kept);
    table_iterator_free(iterator);
    buffer_free(&value);
    table_reader_unref(reader);
    block_cache_free(cache);
    close(descriptor);
    table_meta_free(&meta);
    content_free(content);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(any_flipped_bit_is_an_error_and_never_other_data),
        TEST(damage_in_a_large_table_is_an_error_where_it_is_read),
        TEST(swapped_blocks_are_detected),
        TEST(a_block_of_another_chunk_is_detected),
        TEST(a_file_of_another_length_is_refused),
        TEST(a_file_cut_while_open_is_an_error),
        TEST(what_is_not_the_expected_table_is_refused_by_its_own_error),
        TEST(a_table_of_a_newer_format_is_refused_as_such),
        TEST(a_damaged_block_is_logged_once_with_chunk_and_position),
        TEST(a_write_that_fails_at_any_step_leaves_no_file),
        TEST(a_read_that_fails_at_any_step_is_that_error),
        TEST(only_reads_from_disk_are_verified),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
