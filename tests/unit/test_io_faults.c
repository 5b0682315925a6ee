/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_io_faults.c - tests of engine/base/io.h against a backend whose disk misbehaves
 *
 * The backend below forwards to a real one. What it may do to a transfer is what kernels do: stop
 * early, be interrupted, ask to be called again, fail.
 */
#include "engine/base/io.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "engine/base/error.h"
#include "tests/lib/io_fixture.h"
#include "tests/lib/seed.h"

enum fault { FAULT_NONE, FAULT_SHORT, FAULT_EINTR, FAULT_EAGAIN, FAULT_STUCK };

struct fault_io {
    struct io io;
    struct io *inner;
    uint64_t random;
    unsigned fault_percent; /* of attempts, by chance */
    enum fault only;        /* FAULT_NONE: any of short, EINTR, EAGAIN */
    int sync_result;        /* unless 0, what sync returns without syncing */
    /* What was seen. */
    unsigned attempts, faults, syncs;
    uint64_t bytes_written;         /* that the inner backend took */
    uint64_t bytes_written_at_sync; /* the same when the last sync began */
};

static struct fault_io *fault_of(struct io *io)
{
    return (struct fault_io *)io;
}

static enum fault pick_fault(struct fault_io *fault)
{
    fault->attempts++;
    if (seed_below(&fault->random, 100) >= fault->fault_percent)
        return FAULT_NONE;
    fault->faults++;
    if (fault->only != FAULT_NONE)
        return fault->only;
    return FAULT_SHORT + (enum fault)seed_below(&fault->random, 3);
}

static size_t cut_short(struct fault_io *fault, size_t size)
{
    return size > 1 ? 1 + (size_t)seed_below(&fault->random, size - 1) : size;
}

static int64_t fault_read(struct io *io, struct io_file *file, void *data, size_t size,
                          uint64_t offset)
{
    struct fault_io *fault = fault_of(io);
    enum fault kind = pick_fault(fault);
    int64_t result;

    if (kind == FAULT_EINTR)
        return -EINTR;
    if (kind == FAULT_EAGAIN)
        return -EAGAIN;
    result = fault->inner->ops->read(fault->inner, file, data, size, offset);
    if (kind == FAULT_SHORT && result > 0) {
        size_t kept = cut_short(fault, (size_t)result);

        /* What lies beyond the count must not be taken for read. */
        memset((uint8_t *)data + kept, 0xee, (size_t)result - kept);
        return (int64_t)kept;
    }
    return result;
}

static int64_t fault_write(struct io *io, struct io_file *file, const void *data, size_t size,
                           uint64_t offset)
{
    static uint8_t junk[1 << 16] __attribute__((aligned(IO_DIRECT_ALIGNMENT)));
    struct fault_io *fault = fault_of(io);
    enum fault kind = pick_fault(fault);
    int64_t result;

    if (kind == FAULT_EINTR)
        return -EINTR;
    if (kind == FAULT_EAGAIN)
        return -EAGAIN;
    if (kind == FAULT_STUCK)
        return 0;
    if (kind == FAULT_SHORT && size <= sizeof junk) {
        size_t kept = cut_short(fault, size);

        /* Beyond the count the disk holds anything: the rest has to be written again. */
        memcpy(junk, data, kept);
        memset(junk + kept, 0xee, size - kept);
        result = fault->inner->ops->write(fault->inner, file, junk, size, offset);
        result = result > (int64_t)kept ? (int64_t)kept : result;
    } else {
        result = fault->inner->ops->write(fault->inner, file, data, size, offset);
    }
    if (result > 0)
        fault->bytes_written += (uint64_t)result;
    return result;
}

static void fault_read_batch(struct io *io, struct io_read *reads, size_t count)
{
    for (size_t i = 0; i < count; i++)
        reads[i].result =
            fault_read(io, reads[i].file, reads[i].data, reads[i].size_bytes, reads[i].offset);
}

static int fault_sync(struct io *io, struct io_file *file, bool data_only)
{
    struct fault_io *fault = fault_of(io);

    fault->syncs++;
    fault->bytes_written_at_sync = fault->bytes_written;
    if (fault->sync_result != 0)
        return fault->sync_result;
    return fault->inner->ops->sync(fault->inner, file, data_only);
}

static int fault_sync_filesystem(struct io *io, struct io_file *file)
{
    struct fault_io *fault = fault_of(io);

    fault->syncs++;
    if (fault->sync_result != 0)
        return fault->sync_result;
    return fault->inner->ops->sync_filesystem(fault->inner, file);
}

static int fault_stat(struct io *io, struct io_file *file, struct stat *ret_stat)
{
    struct io *inner = fault_of(io)->inner;

    return inner->ops->stat(inner, file, ret_stat);
}

/* Files are the inner backend's own, so what is not listed here is done with the inner one. */
static const struct io_ops fault_ops = {
    .name = "fault",
    .read = fault_read,
    .write = fault_write,
    .read_batch = fault_read_batch,
    .sync = fault_sync,
    .sync_filesystem = fault_sync_filesystem,
    .stat = fault_stat,
};

struct fixture {
    struct io_fixture inner;
    struct fault_io fault;
    struct io *io; /* &fault.io */
    struct io_file *buffered, *direct;
    uint8_t *data, *back; /* SIZE_MAX_TESTED bytes, aligned */
};

#define SIZE_MAX_TESTED ((size_t)64 << 10)

static int setup(void **state)
{
    struct fixture *fixture = calloc(1, sizeof *fixture);
    struct io_fixture *inner;
    int flags = IO_OPEN_WRITE | IO_OPEN_CREATE;

    if (fixture == NULL)
        return -1;
    *state = fixture;
    inner = &fixture->inner;
    if (io_fixture_open(inner, IO_BACKEND_URING) != 0)
        return -1;
    fixture->fault.io.ops = &fault_ops;
    fixture->fault.inner = inner->io;
    fixture->io = &fixture->fault.io;
    fixture->data = io_allocate_aligned(SIZE_MAX_TESTED);
    fixture->back = io_allocate_aligned(SIZE_MAX_TESTED);
    if (fixture->data == NULL || fixture->back == NULL ||
        io_open(inner->io, inner->root, "buffered", flags, 0600, &fixture->buffered) != 0)
        return -1;
    flags |= IO_OPEN_DIRECT;
    return io_open(inner->io, inner->root, "direct", flags, 0600, &fixture->direct);
}

static int teardown(void **state)
{
    struct fixture *fixture = *state;

    io_close(fixture->inner.io, fixture->buffered);
    io_close(fixture->inner.io, fixture->direct);
    io_fixture_close(&fixture->inner);
    free(fixture->data);
    free(fixture->back);
    free(fixture);
    return 0;
}

static void fill(struct fixture *fixture)
{
    for (size_t i = 0; i < SIZE_MAX_TESTED; i++)
        fixture->data[i] = (uint8_t)seed_next(&fixture->fault.random);
}

/* Random transfers in multiples of `unit`, with faults; every byte is checked. */
static void check_transfers(struct fixture *fixture, struct io_file *file, size_t unit)
{
    struct fault_io *fault = &fixture->fault;

    for (int round = 0; round < 100; round++) {
        size_t size = (1 + seed_below(&fault->random, SIZE_MAX_TESTED / unit)) * unit;
        size_t cut = seed_below(&fault->random, size);
        struct io_read reads[3];

        fill(fixture);
        assert_int_equal(io_write(fixture->io, file, fixture->data, size, 0), 0);
        assert_int_equal(io_truncate(fixture->inner.io, file, size), 0);
        assert_int_equal(io_read_exact(fixture->inner.io, file, fixture->back, size, 0), 0);
        assert_memory_equal(fixture->back, fixture->data, size);

        memset(fixture->back, 0, size);
        assert_int_equal(io_read(fixture->io, file, fixture->back, size, 0), size);
        assert_memory_equal(fixture->back, fixture->data, size);

        /* An end of the file inside a block, and one outside. */
        assert_int_equal(io_truncate(fixture->inner.io, file, cut), 0);
        memset(fixture->back, 0, size);
        assert_int_equal(io_read(fixture->io, file, fixture->back, size, 0), cut);
        assert_memory_equal(fixture->back, fixture->data, cut);
        for (int i = 0; i < 3; i++)
            reads[i] = (struct io_read){.file = file,
                                        .data = fixture->back,
                                        .size_bytes = size,
                                        .offset = i == 1 ? SIZE_MAX_TESTED : 0};
        assert_int_equal(io_read_batch(fixture->io, reads, 3), 0);
        assert_int_equal(reads[0].result, cut);
        assert_int_equal(reads[1].result, 0);
        assert_int_equal(reads[2].result, cut);
        assert_memory_equal(fixture->back, fixture->data, cut);
    }
    assert_true(fault->faults > 50);
}

static void r15_short_interrupted_and_refused_transfers_are_continued(void **state)
{
    struct fixture *fixture = *state;

    fixture->fault.random = seed_start(__func__);
    fixture->fault.fault_percent = 40;
    check_transfers(fixture, fixture->buffered, 1);
}

static void r15_direct_transfers_are_continued_at_a_block(void **state)
{
    struct fixture *fixture = *state;

    fixture->fault.random = seed_start(__func__);
    fixture->fault.fault_percent = 40;
    check_transfers(fixture, fixture->direct, IO_DIRECT_ALIGNMENT);
}

static void r15_transfers_of_a_few_bytes_at_a_time_come_to_an_end(void **state)
{
    struct fixture *fixture = *state;
    struct fault_io *fault = &fixture->fault;

    fault->random = seed_start(__func__);
    fault->fault_percent = 95;
    fault->only = FAULT_SHORT;
    for (int round = 0; round < 30; round++) {
        size_t size = 1 + seed_below(&fault->random, SIZE_MAX_TESTED);

        fill(fixture);
        assert_int_equal(io_write(fixture->io, fixture->buffered, fixture->data, size, 0), 0);
        memset(fixture->back, 0, size);
        assert_int_equal(io_read_exact(fixture->io, fixture->buffered, fixture->back, size, 0), 0);
        assert_memory_equal(fixture->back, fixture->data, size);
    }
    assert_true(fault->faults > 30);
}

static void r15_interruptions_have_no_limit(void **state)
{
    struct fixture *fixture = *state;

    fixture->fault.random = seed_start(__func__);
    fixture->fault.fault_percent = 99;
    fixture->fault.only = FAULT_EINTR;
    for (int round = 0; round < 50; round++) {
        assert_int_equal(io_write(fixture->io, fixture->buffered, "abc", 3, 0), 0);
        assert_int_equal(io_read_exact(fixture->io, fixture->buffered, fixture->back, 3, 0), 0);
    }
    assert_true(fixture->fault.faults > 1000);
}

static void r15_sync_begins_after_the_writes_it_covers_are_complete(void **state)
{
    struct fixture *fixture = *state;
    struct fault_io *fault = &fixture->fault;
    uint64_t written = 0;

    fault->random = seed_start(__func__);
    fault->fault_percent = 50;
    for (unsigned round = 1; round <= 50; round++) {
        size_t size = 1 + seed_below(&fault->random, SIZE_MAX_TESTED);

        fill(fixture);
        assert_int_equal(io_write(fixture->io, fixture->buffered, fixture->data, size, 0), 0);
        written += size;
        assert_int_equal(io_sync(fixture->io, fixture->buffered, true), 0);
        assert_int_equal(fault->syncs, round);
        assert_int_equal(fault->bytes_written_at_sync, written);
    }
}

static void r15_sync_is_never_tried_again(void **state)
{
    static const int results[] = {-EIO, -EINTR, -EAGAIN, -ENOSPC};
    struct fixture *fixture = *state;
    struct fault_io *fault = &fixture->fault;

    for (unsigned i = 0; i < sizeof results / sizeof *results; i++) {
        /* What looks like a shortage might be tried again by a caller. */
        int expected = results[i] == -ENOSPC ? -EIO : results[i];

        fault->sync_result = results[i];
        fault->syncs = 0;
        assert_int_equal(io_sync(fixture->io, fixture->buffered, true), expected);
        assert_int_equal(fault->syncs, 1);
        assert_int_equal(io_sync_filesystem(fixture->io, fixture->buffered), expected);
        assert_int_equal(fault->syncs, 2);
    }
}

static void write_that_never_advances_is_an_error_in_the_end(void **state)
{
    struct fixture *fixture = *state;

    fixture->fault.fault_percent = 100;
    fixture->fault.only = FAULT_STUCK;
    assert_int_equal(io_write(fixture->io, fixture->buffered, "abc", 3, 0), -EIO);
    assert_in_range(fixture->fault.attempts, 2, 100);
}

static void errors_are_passed_on_and_counted(void **state)
{
    struct fixture *fixture = *state;
    struct io_statistics statistics;

    fixture->fault.sync_result = -EIO;
    assert_int_equal(io_sync(fixture->io, fixture->buffered, true), -EIO);
    assert_int_equal(io_read(fixture->io, fixture->inner.root, fixture->back, 3, 0), -EISDIR);
    assert_int_equal(io_write(fixture->io, fixture->direct, fixture->data, 3, 0), ERROR_UNALIGNED);
    io_get_statistics(fixture->io, &statistics);
    assert_int_equal(statistics.errors, 3);
}

/* ---- asked to come back later ---- */

static uint64_t pauses;
static long shortest_pause, longest_pause;
static bool pauses_shrank;

/* Instead of the C library's, in this program: nobody wants to wait for a thousand pauses. */
int nanosleep(const struct timespec *pause, struct timespec *left)
{
    (void)left;
    assert_int_equal(pause->tv_sec, 0);
    pauses_shrank = pauses_shrank || (pauses > 0 && pause->tv_nsec < longest_pause);
    if (pauses == 0)
        shortest_pause = pause->tv_nsec;
    longest_pause = pause->tv_nsec;
    pauses++;
    return 0;
}

static void r9_pauses_grow_to_their_cap_and_end(void **state)
{
    struct fixture *fixture = *state;

    fixture->fault.fault_percent = 100;
    fixture->fault.only = FAULT_EAGAIN;
    pauses = 0;
    pauses_shrank = false;
    assert_int_equal(io_write(fixture->io, fixture->buffered, "x", 1, 0), -EAGAIN);
    assert_int_equal(pauses, 1000);
    assert_int_equal(fixture->fault.attempts, 1001);
    assert_false(pauses_shrank);
    assert_in_range(shortest_pause, 1000, 100000);
    assert_in_range(longest_pause, 1000000, 10000000); /* attempt 1,000 waits as long as the cap */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(r15_short_interrupted_and_refused_transfers_are_continued,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(r15_direct_transfers_are_continued_at_a_block, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(r15_transfers_of_a_few_bytes_at_a_time_come_to_an_end,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(r15_interruptions_have_no_limit, setup, teardown),
        cmocka_unit_test_setup_teardown(r15_sync_begins_after_the_writes_it_covers_are_complete,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(r15_sync_is_never_tried_again, setup, teardown),
        cmocka_unit_test_setup_teardown(write_that_never_advances_is_an_error_in_the_end, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(r9_pauses_grow_to_their_cap_and_end, setup, teardown),
        cmocka_unit_test_setup_teardown(errors_are_passed_on_and_counted, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
