/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_io.c - tests of engine/base/io.h: what every real backend owes its callers
 *
 * Every test runs once on each backend. Names are in test_io_names.c, faults of a disk in
 * test_io_faults.c, what concerns several backends, processes or threads in test_io_backends.c.
 */
#include "engine/base/io.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/base/blocking.h"
#include "engine/base/error.h"
#include "tests/lib/io_fixture.h"
#include "tests/lib/seed.h"

/* ---- transfers ---- */

static void what_is_written_is_read_back(void **state)
{
    struct io_fixture *fixture = *state;
    struct io_file *file = io_fixture_create(fixture, "file", 0);
    char data[20] = "....................";

    assert_int_equal(io_write(fixture->io, file, "hello", 5, 3), 0);
    assert_int_equal(io_write(fixture->io, file, "", 0, 100), 0);
    assert_int_equal(io_read(fixture->io, file, data, sizeof data, 0), 8);
    assert_memory_equal(data, "\0\0\0hello............", sizeof data);
    io_close(fixture->io, file);
}

static void after_a_cut_nothing_is_changed_and_everything_read(void **state)
{
    struct io_fixture *fixture = *state;
    struct io_file *file = io_fixture_create(fixture, "file", 0), *other;
    struct io *io = fixture->io;
    struct stat status;
    char data[5];

    assert_int_equal(io_write(io, file, "hello", 5, 0), 0);
    io_cut(io);
    assert_int_equal(io_write(io, file, "other", 5, 0), -EIO);
    assert_int_equal(io_truncate(io, file, 0), -EIO);
    assert_int_equal(io_chmod(io, file, 0400), -EIO);
    assert_int_equal(io_sync(io, file, true), -EIO);
    assert_int_equal(io_sync_filesystem(io, file), -EIO);
    assert_int_equal(io_clone(io, file, file), -EIO);
    assert_int_equal(io_mkdir(io, fixture->root, "directory", 0700), -EIO);
    assert_int_equal(io_rename(io, fixture->root, "file", fixture->root, "other"), -EIO);
    assert_int_equal(io_link(io, fixture->root, "file", fixture->root, "other"), -EIO);
    assert_int_equal(io_unlink(io, fixture->root, "file"), -EIO);
    assert_int_equal(io_rmdir(io, fixture->root, "directory"), -EIO);
    assert_int_equal(
        io_open(io, fixture->root, "new", IO_OPEN_WRITE | IO_OPEN_CREATE, 0600, &other), -EIO);
    assert_int_equal(io_stat_at(io, fixture->root, "other", &status), -ENOENT);
    assert_int_equal(io_stat(io, file, &status), 0);
    assert_int_equal(status.st_mode & 07777, 0600);
    assert_int_equal(io_read_exact(io, file, data, 5, 0), 0);
    assert_memory_equal(data, "hello", 5);
    io_close(io, file);
}

static void read_ends_at_the_end_of_the_file(void **state)
{
    struct io_fixture *fixture = *state;
    struct io_file *file = io_fixture_create(fixture, "file", 0);
    char data[10];

    assert_int_equal(io_read(fixture->io, file, data, sizeof data, 0), 0);
    assert_int_equal(io_write(fixture->io, file, "abcdef", 6, 0), 0);
    assert_int_equal(io_read(fixture->io, file, data, sizeof data, 4), 2);
    assert_int_equal(io_read(fixture->io, file, data, sizeof data, 6), 0);
    assert_int_equal(io_read(fixture->io, file, data, sizeof data, 1000000), 0);
    assert_int_equal(io_read(fixture->io, file, data, 0, 0), 0);
    io_close(fixture->io, file);
}

static void read_exact_is_all_or_truncated(void **state)
{
    struct io_fixture *fixture = *state;
    struct io_file *file = io_fixture_create(fixture, "file", 0);
    char data[10];

    assert_int_equal(io_write(fixture->io, file, "abcdef", 6, 0), 0);
    assert_int_equal(io_read_exact(fixture->io, file, data, 6, 0), 0);
    assert_memory_equal(data, "abcdef", 6);
    assert_int_equal(io_read_exact(fixture->io, file, data, 7, 0), ERROR_TRUNCATED);
    assert_int_equal(io_read_exact(fixture->io, file, data, 1, 6), ERROR_TRUNCATED);
    io_close(fixture->io, file);
}

static void offset_beyond_what_the_system_can_address_is_an_error(void **state)
{
    struct io_fixture *fixture = *state;
    struct io_file *file = io_fixture_create(fixture, "file", 0);
    struct io_read read;
    char data[10];

    assert_int_equal(io_read(fixture->io, file, data, 1, UINT64_MAX), -EINVAL);
    assert_int_equal(io_read(fixture->io, file, data, 2, INT64_MAX), -EINVAL);
    assert_int_equal(io_write(fixture->io, file, data, 2, INT64_MAX), -EINVAL);
    read = (struct io_read){.file = file, .data = data, .size_bytes = 2, .offset = UINT64_MAX};
    assert_int_equal(io_read_batch(fixture->io, &read, 1), -EINVAL);
    assert_int_equal(read.result, -EINVAL);
    assert_int_equal(io_truncate(fixture->io, file, UINT64_MAX), -EFBIG);
    io_close(fixture->io, file);
}

static void write_to_a_file_open_for_reading_is_an_error(void **state)
{
    struct io_fixture *fixture = *state;
    struct io_file *file;

    io_close(fixture->io, io_fixture_create(fixture, "file", 0));
    assert_int_equal(io_open(fixture->io, fixture->root, "file", IO_OPEN_READ, 0, &file), 0);
    assert_int_equal(io_write(fixture->io, file, "x", 1, 0), -EBADF);
    io_close(fixture->io, file);
}

static void batch_of_any_size_reads_what_single_reads_do(void **state)
{
    enum { FILE_SIZE = 300000, COUNT_MAX = 200 };
    static uint8_t data[FILE_SIZE], memory[COUNT_MAX][3000];
    struct io_fixture *fixture = *state;
    struct io_file *file = io_fixture_create(fixture, "file", 0);
    uint64_t random = seed_start(__func__);
    static const size_t counts[] = {0, 1, 2, 3, 63, 64, 65, 128, 199, 200};

    for (size_t i = 0; i < FILE_SIZE; i++)
        data[i] = (uint8_t)seed_next(&random);
    assert_int_equal(io_write(fixture->io, file, data, FILE_SIZE, 0), 0);
    for (size_t c = 0; c < sizeof counts / sizeof *counts; c++) {
        struct io_read reads[COUNT_MAX];

        for (size_t i = 0; i < counts[c]; i++)
            reads[i] = (struct io_read){.file = file,
                                        .data = memory[i],
                                        .size_bytes = seed_below(&random, sizeof memory[i]),
                                        .offset = seed_below(&random, FILE_SIZE + 1000),
                                        .result = -1};
        assert_int_equal(io_read_batch(fixture->io, reads, counts[c]), 0);
        for (size_t i = 0; i < counts[c]; i++) {
            uint64_t left = reads[i].offset < FILE_SIZE ? FILE_SIZE - reads[i].offset : 0;
            uint64_t expected = reads[i].size_bytes < left ? reads[i].size_bytes : left;

            assert_int_equal(reads[i].result, expected);
            if (expected > 0)
                assert_memory_equal(memory[i], data + reads[i].offset, expected);
        }
    }
    io_close(fixture->io, file);
}

static void batch_gives_each_read_its_own_result(void **state)
{
    struct io_fixture *fixture = *state;
    struct io_file *file = io_fixture_create(fixture, "file", 0);
    char first[4], last[4], other[4];
    struct io_read reads[] = {
        {.file = file, .data = first, .size_bytes = 4, .offset = 0},
        {.file = fixture->root, .data = other, .size_bytes = 4, .offset = 0},
        {.file = file, .data = last, .size_bytes = 4, .offset = 2},
    };

    assert_int_equal(io_write(fixture->io, file, "abcde", 5, 0), 0);
    assert_int_equal(io_read_batch(fixture->io, reads, 3), -EISDIR);
    assert_int_equal(reads[0].result, 4);
    assert_int_equal(reads[1].result, -EISDIR);
    assert_int_equal(reads[2].result, 3);
    assert_memory_equal(first, "abcd", 4);
    assert_memory_equal(last, "cde", 3);
    io_close(fixture->io, file);
}

/* ---- direct I/O ---- */

static const uint64_t around_blocks[] = {0,    1,    511,  512,  513,  1023, 1024,
                                         1025, 4095, 4096, 4097, 8191, 8192, 8193};
#define AROUND_COUNT (sizeof around_blocks / sizeof *around_blocks)

static void r13_misaligned_direct_access_is_a_typed_error(void **state)
{
    struct io_fixture *fixture = *state;
    struct io_file *file = io_fixture_create(fixture, "file", IO_OPEN_DIRECT);
    uint8_t *data = io_allocate_aligned(32768);
    int before = io_fixture_count_descriptors();

    assert_non_null(data);
    memset(data, 7, 32768);
    assert_int_equal(io_write(fixture->io, file, data, 32768, 0), 0);
    for (size_t o = 0; o < AROUND_COUNT; o++) {
        for (size_t s = 1; s < AROUND_COUNT; s++) {
            uint64_t offset = around_blocks[o], size = around_blocks[s];
            bool is_aligned = (offset | size) % IO_DIRECT_ALIGNMENT == 0;
            struct io_read reads[2] = {
                {.file = file, .data = data, .size_bytes = size, .offset = offset},
                {.file = file, .data = data + 16384, .size_bytes = size, .offset = offset},
            };

            assert_int_equal(io_read(fixture->io, file, data, size, offset),
                             is_aligned ? (int64_t)size : ERROR_UNALIGNED);
            assert_int_equal(io_write(fixture->io, file, data, size, offset),
                             is_aligned ? 0 : ERROR_UNALIGNED);
            assert_int_equal(io_read_batch(fixture->io, reads, 2),
                             is_aligned ? 0 : ERROR_UNALIGNED);
            assert_int_equal(reads[1].result, is_aligned ? (int64_t)size : ERROR_UNALIGNED);
        }
    }
    /* The ring of a thread appears with its first batch, and is the one thing that may. */
    assert_in_range(io_fixture_count_descriptors(), before, before + 1);
    free(data);
    io_close(fixture->io, file);
}

static void r13_misaligned_memory_is_a_typed_error(void **state)
{
    struct io_fixture *fixture = *state;
    struct io_file *file = io_fixture_create(fixture, "file", IO_OPEN_DIRECT);
    uint8_t *data = io_allocate_aligned(16384);

    assert_non_null(data);
    for (size_t shift = 1; shift < 4096; shift = 2 * shift + 1) {
        assert_int_equal(io_write(fixture->io, file, data + shift, 4096, 0), ERROR_UNALIGNED);
        assert_int_equal(io_read(fixture->io, file, data + shift, 4096, 0), ERROR_UNALIGNED);
    }
    free(data);
    io_close(fixture->io, file);
}

static void r13_buffered_access_has_no_alignment(void **state)
{
    struct io_fixture *fixture = *state;
    struct io_file *file = io_fixture_create(fixture, "file", 0);
    static uint8_t expected[20000], data[20000];
    uint64_t random = seed_start(__func__);

    for (size_t o = 0; o < AROUND_COUNT; o++) {
        for (size_t s = 0; s < AROUND_COUNT; s++) {
            size_t offset = around_blocks[o], size = around_blocks[s];

            for (size_t i = 0; i < size; i++)
                expected[offset + i] = (uint8_t)seed_next(&random);
            assert_int_equal(io_write(fixture->io, file, expected + offset, size, offset), 0);
            assert_int_equal(io_read_exact(fixture->io, file, data, size, offset), 0);
            assert_memory_equal(data, expected + offset, size);
        }
    }
    io_close(fixture->io, file);
}

static void direct_read_ends_inside_a_block_where_the_file_does(void **state)
{
    static const uint64_t sizes[] = {1, 100, 511, 4095, 4096, 4097, 12287, 12288};
    struct io_fixture *fixture = *state;
    struct io_file *file = io_fixture_create(fixture, "file", IO_OPEN_DIRECT);
    uint8_t *expected = io_allocate_aligned(16384), *data = io_allocate_aligned(16384);

    assert_non_null(expected);
    assert_non_null(data);
    for (size_t i = 0; i < 16384; i++)
        expected[i] = (uint8_t)(i / 7 + 1);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        struct io_read reads[2];

        assert_int_equal(io_write(fixture->io, file, expected, 16384, 0), 0);
        assert_int_equal(io_truncate(fixture->io, file, sizes[i]), 0);
        memset(data, 0, 16384);
        assert_int_equal(io_read(fixture->io, file, data, 16384, 0), sizes[i]);
        assert_memory_equal(data, expected, sizes[i]);
        reads[0] = (struct io_read){.file = file, .data = data, .size_bytes = 16384};
        reads[1] =
            (struct io_read){.file = file, .data = data, .size_bytes = 4096, .offset = 16384};
        assert_int_equal(io_read_batch(fixture->io, reads, 2), 0);
        assert_int_equal(reads[0].result, sizes[i]);
        assert_int_equal(reads[1].result, 0);
    }
    free(expected);
    free(data);
    io_close(fixture->io, file);
}

/* ---- lists ---- */

struct names {
    int count, stop_at;
    unsigned seen;
};

static int note_name(void *context, const char *name)
{
    struct names *names = context;

    assert_int_equal(strlen(name), 1);
    names->seen |= 1u << (name[0] - 'a');
    names->count++;
    return names->count == names->stop_at ? -ECANCELED : 0;
}

static void list_gives_every_name_once_and_can_be_repeated(void **state)
{
    struct io_fixture *fixture = *state;
    int before = io_fixture_count_descriptors();

    assert_int_equal(io_mkdir(fixture->io, fixture->root, "a", 0700), 0);
    for (char name[2] = "b"; name[0] <= 'j'; name[0]++)
        io_close(fixture->io, io_fixture_create(fixture, name, 0));
    for (int round = 0; round < 2; round++) {
        struct names names = {0};

        assert_int_equal(io_list(fixture->io, fixture->root, note_name, &names), 0);
        assert_int_equal(names.count, 10);
        assert_int_equal(names.seen, 0x3ff);
    }
    assert_int_equal(io_fixture_count_descriptors(), before);
}

static void list_stops_at_the_first_result_that_is_not_zero(void **state)
{
    struct io_fixture *fixture = *state;
    struct names names = {.stop_at = 2};
    int before = io_fixture_count_descriptors();

    for (char name[2] = "a"; name[0] <= 'e'; name[0]++)
        io_close(fixture->io, io_fixture_create(fixture, name, 0));
    assert_int_equal(io_list(fixture->io, fixture->root, note_name, &names), -ECANCELED);
    assert_int_equal(names.count, 2);
    assert_int_equal(io_fixture_count_descriptors(), before);
}

/* ---- the rest ---- */

static void sync_works_on_files_and_directories(void **state)
{
    struct io_fixture *fixture = *state;
    struct io_file *file = io_fixture_create(fixture, "file", 0);

    assert_int_equal(io_write(fixture->io, file, "x", 1, 0), 0);
    assert_int_equal(io_sync(fixture->io, file, true), 0);
    assert_int_equal(io_sync(fixture->io, file, false), 0);
    assert_int_equal(io_sync(fixture->io, fixture->root, false), 0);
    assert_int_equal(io_sync_filesystem(fixture->io, fixture->root), 0);
    io_close(fixture->io, file);
}

static void attributes_are_those_of_the_file(void **state)
{
    struct io_fixture *fixture = *state;
    struct io_file *file = io_fixture_create(fixture, "file", 0);
    struct statvfs space;
    struct stat status;

    assert_int_equal(io_truncate(fixture->io, file, 12345), 0);
    assert_int_equal(io_chmod(fixture->io, file, 0444), 0);
    assert_int_equal(io_stat(fixture->io, file, &status), 0);
    assert_int_equal(status.st_size, 12345);
    assert_int_equal(status.st_mode & 0777, 0444);
    assert_int_equal(io_space(fixture->io, file, &space), 0);
    assert_true(space.f_frsize > 0);
    io_close(fixture->io, file);
}

static void lock_keeps_others_out_until_the_file_is_closed(void **state)
{
    struct io_fixture *fixture = *state;
    struct io_file *first = io_fixture_create(fixture, "LOCK", 0), *second;

    assert_int_equal(io_open(fixture->io, fixture->root, "LOCK", IO_OPEN_WRITE, 0, &second), 0);
    assert_int_equal(io_lock(fixture->io, first), 0);
    assert_int_equal(io_lock(fixture->io, second), ERROR_LOCKED);
    io_close(fixture->io, first);
    assert_int_equal(io_lock(fixture->io, second), 0);
    io_close(fixture->io, second);
}

static void clone_copies_or_says_that_it_cannot(void **state)
{
    struct io_fixture *fixture = *state;
    struct io_file *from = io_fixture_create(fixture, "from", 0),
                   *to = io_fixture_create(fixture, "to", 0);
    char data[5];
    int error;

    assert_int_equal(io_write(fixture->io, from, "abcde", 5, 0), 0);
    error = io_clone(fixture->io, from, to);
    if (error == 0) {
        assert_int_equal(io_read_exact(fixture->io, to, data, 5, 0), 0);
        assert_memory_equal(data, "abcde", 5);
    } else {
        assert_int_equal(error, -EOPNOTSUPP);
        assert_int_equal(io_read(fixture->io, to, data, 5, 0), 0);
    }
    io_close(fixture->io, from);
    io_close(fixture->io, to);
}

static void count_call(void *context)
{
    ++*(int *)context;
}

static void thread_says_that_it_is_about_to_wait_once(void **state)
{
    struct io_fixture *fixture = *state;
    struct io *io = fixture->io;
    struct io_file *file = io_fixture_create(fixture, "file", 0);
    struct io_read reads[2] = {{.file = file}, {.file = file}};
    struct stat status;
    char data[2];
    int calls = 0;

    reads[0].data = reads[1].data = data;
    blocking_set_hook(count_call, &calls);
    assert_int_equal(io_stat(io, file, &status), 0);
    assert_int_equal(calls, 0);
    assert_int_equal(io_write(io, file, "ab", 2, 0), 0);
    assert_int_equal(calls, 1);
    assert_int_equal(io_write(io, file, "ab", 2, 0), 0);
    assert_int_equal(calls, 1);
    /* At the end of the file nothing tells what is in memory from what is not there. */
    blocking_set_hook(count_call, &calls);
    assert_int_equal(io_read(io, file, data, 2, 1), 1);
    assert_int_equal(calls, 2);
    reads[0].size_bytes = 1;
    reads[1].size_bytes = 2;
    reads[1].offset = 1;
    blocking_set_hook(count_call, &calls);
    assert_int_equal(io_read_batch(io, reads, 2), 0);
    assert_int_equal(reads[0].result, 1);
    assert_int_equal(reads[1].result, 1);
    assert_int_equal(calls, 3);
    blocking_set_hook(count_call, &calls);
    assert_int_equal(io_sync(io, file, true), 0);
    assert_int_equal(calls, 4);
    blocking_set_hook(count_call, &calls);
    assert_int_equal(io_sync_filesystem(io, file), 0);
    assert_int_equal(calls, 5);
    blocking_set_hook(count_call, &calls);
    blocking_set_hook(NULL, NULL);
    assert_int_equal(io_sync(io, file, true), 0);
    assert_int_equal(calls, 5);
    io_close(io, file);
}

/* Does the file system under the test answer from memory alone? */
static bool tells_what_is_in_memory(const struct io_fixture *fixture, const char *name)
{
    struct iovec part;
    char path[512], data[2];
    ssize_t count;
    int descriptor;

    (void)snprintf(path, sizeof path, "%s/%s", fixture->path, name);
    descriptor = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(descriptor >= 0);
    part = (struct iovec){data, sizeof data};
    count = preadv2(descriptor, &part, 1, 0, RWF_NOWAIT);
    close(descriptor);
    return count == (ssize_t)sizeof data;
}

static void what_is_in_memory_is_read_without_waiting(void **state)
{
    struct io_fixture *fixture = *state;
    struct io *io = fixture->io;
    struct io_file *file = io_fixture_create(fixture, "file", 0), *direct;
    char *block = io_allocate_aligned(IO_DIRECT_ALIGNMENT);
    struct io_read reads[3] = {{.file = file}, {.file = file}, {.file = file}};
    char data[3][2];
    int calls = 0;

    assert_non_null(block);
    memset(block, 'x', IO_DIRECT_ALIGNMENT);
    assert_int_equal(io_write(io, file, block, IO_DIRECT_ALIGNMENT, 0), 0);
    if (!tells_what_is_in_memory(fixture, "file"))
        goto out;
    for (int i = 0; i < 3; i++) {
        reads[i].data = data[i];
        reads[i].size_bytes = i == 1 ? 0 : 2;
        reads[i].offset = (uint64_t)i;
    }
    blocking_set_hook(count_call, &calls);
    assert_int_equal(io_read(io, file, data[0], 2, 1), 2);
    assert_memory_equal(data[0], "xx", 2);
    memset(data, 0, sizeof data);
    assert_int_equal(io_read_batch(io, reads, 3), 0);
    assert_memory_equal(data[0], "xx", 2);
    assert_memory_equal(data[2], "xx", 2);
    assert_int_equal(reads[0].result, 2);
    assert_int_equal(reads[1].result, 0);
    assert_int_equal(reads[2].result, 2);
    assert_int_equal(calls, 0);

    assert_int_equal(io_open(io, fixture->root, "file", IO_OPEN_READ | IO_OPEN_DIRECT, 0, &direct),
                     0);
    assert_int_equal(io_read(io, direct, block, IO_DIRECT_ALIGNMENT, 0), IO_DIRECT_ALIGNMENT);
    assert_int_equal(calls, 1);
    io_close(io, direct);
    blocking_set_hook(NULL, NULL);
out:
    free(block);
    io_close(io, file);
}

static void statistics_count_what_was_done(void **state)
{
    struct io_fixture *fixture = *state;
    struct io *io = fixture->io;
    struct io_file *file = io_fixture_create(fixture, "file", 0);
    struct io_statistics statistics;
    char data[10];
    struct io_read reads[2] = {
        {.file = file, .data = data, .size_bytes = 4},
        {.file = file, .data = data, .size_bytes = 10, .offset = 3},
    };

    assert_int_equal(io_write(io, file, "abcdef", 6, 0), 0);
    assert_int_equal(io_read(io, file, data, 10, 0), 6);
    assert_int_equal(io_read_batch(io, reads, 2), 0);
    assert_int_equal(io_read(io, fixture->root, data, 10, 0), -EISDIR);
    assert_int_equal(io_sync(io, file, true), 0);
    assert_int_equal(io_link(io, fixture->root, "file", fixture->root, "second"), 0);
    assert_int_equal(io_link(io, fixture->root, "file", fixture->root, "second"), -EEXIST);
    io_get_statistics(io, &statistics);
    assert_int_equal(statistics.reads, 4);
    assert_int_equal(statistics.read_bytes, 6 + 4 + 3);
    assert_int_equal(statistics.writes, 1);
    assert_int_equal(statistics.write_bytes, 6);
    assert_int_equal(statistics.syncs, 1);
    assert_int_equal(statistics.opens, 2);
    assert_int_equal(statistics.links, 1);
    assert_int_equal(statistics.errors, 1);
    io_close(io, file);
}

static void aligned_memory_is_aligned(void **state)
{
    static const size_t sizes[] = {0, 1, 4095, 4096, 1 << 20};

    (void)state;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        void *memory = io_allocate_aligned(sizes[i]);

        assert_non_null(memory);
        assert_int_equal((uintptr_t)memory % IO_DIRECT_ALIGNMENT, 0);
        free(memory);
    }
}

static void closing_nothing_is_fine(void **state)
{
    struct io_fixture *fixture = *state;

    io_close(fixture->io, NULL);
    io_close_backend(NULL);
}

#define ON(test, backend)                                                                          \
    {                                                                                              \
#test " (" #backend ")", test, io_fixture_setup, io_fixture_teardown, &backend             \
    }
#define ON_BOTH(test) ON(test, uring), ON(test, sync)

int main(void)
{
    static enum io_backend uring = IO_BACKEND_URING, sync = IO_BACKEND_SYNC;
    const struct CMUnitTest tests[] = {
        ON_BOTH(what_is_written_is_read_back),
        ON_BOTH(after_a_cut_nothing_is_changed_and_everything_read),
        ON_BOTH(read_ends_at_the_end_of_the_file),
        ON_BOTH(read_exact_is_all_or_truncated),
        ON_BOTH(offset_beyond_what_the_system_can_address_is_an_error),
        ON_BOTH(write_to_a_file_open_for_reading_is_an_error),
        ON_BOTH(batch_of_any_size_reads_what_single_reads_do),
        ON_BOTH(batch_gives_each_read_its_own_result),
        ON_BOTH(r13_misaligned_direct_access_is_a_typed_error),
        ON_BOTH(r13_misaligned_memory_is_a_typed_error),
        ON_BOTH(r13_buffered_access_has_no_alignment),
        ON_BOTH(direct_read_ends_inside_a_block_where_the_file_does),
        ON_BOTH(list_gives_every_name_once_and_can_be_repeated),
        ON_BOTH(list_stops_at_the_first_result_that_is_not_zero),
        ON_BOTH(sync_works_on_files_and_directories),
        ON_BOTH(attributes_are_those_of_the_file),
        ON_BOTH(lock_keeps_others_out_until_the_file_is_closed),
        ON_BOTH(clone_copies_or_says_that_it_cannot),
        ON_BOTH(thread_says_that_it_is_about_to_wait_once),
        ON_BOTH(what_is_in_memory_is_read_without_waiting),
        ON_BOTH(statistics_count_what_was_done),
        ON_BOTH(aligned_memory_is_aligned),
        ON_BOTH(closing_nothing_is_fine),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
