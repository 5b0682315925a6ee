/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_io_backends.c - tests of engine/base/io.h: backends against each other, rings against
 * threads, processes and sandboxes
 */
#include "engine/base/io.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/base/error.h"
#include "tests/lib/child.h"
#include "tests/lib/forbid_call.h"
#include "tests/lib/io_fixture.h"
#include "tests/lib/seed.h"

/* ---- one trace, two backends ---- */

#define TRACE_FILES 6
#define TRACE_STEPS 1500
#define TRACE_SIZE  ((size_t)128 << 10)
#define BATCH       70

struct trace {
    struct io_fixture fixture;
    struct io_file *files[TRACE_FILES]; /* odd ones are direct */
    uint8_t *memory;                    /* aligned, for BATCH transfers */
    uint64_t random;
    uint64_t digest; /* of all results and all bytes read */
};

static void note(struct trace *trace, const void *data, size_t size)
{
    const uint8_t *bytes = data;

    for (size_t i = 0; i < size; i++)
        trace->digest = (trace->digest ^ bytes[i]) * 0x100000001b3u;
}

static void note_result(struct trace *trace, int64_t result)
{
    note(trace, &result, sizeof result);
}

static void trace_start(struct trace *trace, enum io_backend backend, uint64_t seed)
{
    memset(trace, 0, sizeof *trace);
    assert_int_equal(io_fixture_open(&trace->fixture, backend), 0);
    trace->random = seed;
    trace->memory = io_allocate_aligned(TRACE_SIZE);
    assert_non_null(trace->memory);
    for (int i = 0; i < TRACE_FILES; i++) {
        char name[] = {'a', (char)('0' + i), '\0'};
        int flags = IO_OPEN_WRITE | IO_OPEN_CREATE | (i % 2 == 1 ? IO_OPEN_DIRECT : 0);

        assert_int_equal(
            io_open(trace->fixture.io, trace->fixture.root, name, flags, 0600, &trace->files[i]),
            0);
    }
}

static void trace_end(struct trace *trace)
{
    for (int i = 0; i < TRACE_FILES; i++)
        io_close(trace->fixture.io, trace->files[i]);
    free(trace->memory);
    io_fixture_close(&trace->fixture);
}

/* Sizes and offsets that suit a direct file mostly, and a buffered one in any case. */
static uint64_t pick_position(struct trace *trace, uint64_t limit)
{
    uint64_t position = seed_below(&trace->random, limit);

    return seed_below(&trace->random, 8) != 0 ? position & ~(uint64_t)4095 : position;
}

static void trace_write(struct trace *trace, struct io_file *file)
{
    uint64_t offset = pick_position(trace, TRACE_SIZE);
    size_t size = pick_position(trace, TRACE_SIZE / 2);

    for (size_t i = 0; i < size; i += 8) {
        uint64_t value = seed_next(&trace->random);

        memcpy(trace->memory + i, &value, sizeof value);
    }
    note_result(trace, io_write(trace->fixture.io, file, trace->memory, size, offset));
}

static void trace_read(struct trace *trace, struct io_file *file)
{
    uint64_t offset = pick_position(trace, TRACE_SIZE);
    size_t size = pick_position(trace, TRACE_SIZE);
    int64_t result = io_read(trace->fixture.io, file, trace->memory, size, offset);

    note_result(trace, result);
    if (result > 0)
        note(trace, trace->memory, (size_t)result);
}

static void trace_read_batch(struct trace *trace)
{
    struct io_read reads[BATCH];
    size_t count = seed_below(&trace->random, BATCH + 1);

    for (size_t i = 0; i < count; i++)
        reads[i] = (struct io_read){
            .file = trace->files[seed_below(&trace->random, TRACE_FILES)],
            .data = trace->memory + i % 32 * 4096,
            .size_bytes = i < 32 ? 4096 : 0,
            .offset = pick_position(trace, TRACE_SIZE + 8192),
        };
    note_result(trace, io_read_batch(trace->fixture.io, reads, count));
    for (size_t i = 0; i < count; i++) {
        note_result(trace, reads[i].result);
        if (reads[i].result > 0)
            note(trace, reads[i].data, (size_t)reads[i].result);
    }
}

static void trace_change_names(struct trace *trace)
{
    struct io *io = trace->fixture.io;
    struct io_file *root = trace->fixture.root;
    char from[] = {'n', (char)('0' + seed_below(&trace->random, 5)), '\0'};
    char to[] = {'n', (char)('0' + seed_below(&trace->random, 5)), '\0'};
    char file[] = {'a', (char)('0' + seed_below(&trace->random, TRACE_FILES)), '\0'};

    switch (seed_below(&trace->random, 5)) {
    case 0:
        note_result(trace, io_link(io, root, file, root, to));
        break;
    case 1:
        note_result(trace, io_rename(io, root, from, root, to));
        break;
    case 2:
        note_result(trace, io_unlink(io, root, from));
        break;
    case 3:
        note_result(trace, io_mkdir(io, root, to, 0700));
        break;
    default:
        note_result(trace, io_rmdir(io, root, from));
        break;
    }
}

static void trace_step(struct trace *trace)
{
    struct io *io = trace->fixture.io;
    struct io_file *file = trace->files[seed_below(&trace->random, TRACE_FILES)];
    struct stat status;

    switch (seed_below(&trace->random, 8)) {
    case 0:
    case 1:
        trace_write(trace, file);
        break;
    case 2:
        trace_read(trace, file);
        break;
    case 3:
    case 4:
        trace_read_batch(trace);
        break;
    case 5:
        note_result(trace, io_truncate(io, file, pick_position(trace, TRACE_SIZE)));
        break;
    case 6:
        note_result(trace, io_stat(io, file, &status));
        note_result(trace, status.st_size);
        note_result(trace, (int64_t)status.st_nlink);
        break;
    default:
        trace_change_names(trace);
        break;
    }
}

static int note_name(void *context, const char *name)
{
    struct trace *trace = context;
    struct stat status;
    uint64_t digest = 0;

    /* Names come in any order: add up what each is worth. */
    if (io_stat_at(trace->fixture.io, trace->fixture.root, name, &status) != 0)
        return -EIO;
    digest = (uint64_t)name[0] * 1000003u + (uint64_t)name[1] * 10007u + status.st_nlink * 101u;
    trace->digest += digest * (status.st_mode & S_IFMT);
    return 0;
}

static void r14_one_trace_through_both_backends_leaves_identical_bytes(void **state)
{
    uint64_t seed = seed_start(__func__);
    struct trace by_ring, by_calls;

    (void)state;
    trace_start(&by_ring, IO_BACKEND_URING, seed);
    trace_start(&by_calls, IO_BACKEND_SYNC, seed);
    for (int step = 0; step < TRACE_STEPS; step++) {
        trace_step(&by_ring);
        trace_step(&by_calls);
        if (by_ring.digest != by_calls.digest)
            fail_msg("results differ at step %d", step);
    }
    assert_int_equal(io_list(by_ring.fixture.io, by_ring.fixture.root, note_name, &by_ring), 0);
    assert_int_equal(io_list(by_calls.fixture.io, by_calls.fixture.root, note_name, &by_calls), 0);
    assert_true(by_ring.digest == by_calls.digest);
    for (int i = 0; i < TRACE_FILES; i++) {
        char name[] = {'a', (char)('0' + i), '\0'};
        char *paths[] = {test_path(by_ring.fixture.path, name),
                         test_path(by_calls.fixture.path, name)};
        size_t sizes[2];
        uint8_t *contents[] = {test_file_read(paths[0], &sizes[0]),
                               test_file_read(paths[1], &sizes[1])};

        assert_int_equal(sizes[0], sizes[1]);
        assert_memory_equal(contents[0], contents[1], sizes[0]);
        for (int side = 0; side < 2; side++) {
            free(paths[side]);
            free(contents[side]);
        }
    }
    trace_end(&by_ring);
    trace_end(&by_calls);
}

/* ---- rings ---- */

#define BLOCKS      40
#define BLOCK_BYTES ((size_t)1000)

static uint8_t block_byte(size_t block)
{
    return (uint8_t)(3 * block + 1);
}

static struct io_file *make_blocks(struct io_fixture *fixture)
{
    struct io_file *file;

    assert_int_equal(
        io_open(fixture->io, fixture->root, "blocks", IO_OPEN_WRITE | IO_OPEN_CREATE, 0600, &file),
        0);
    for (size_t i = 0; i < BLOCKS; i++) {
        uint8_t block[BLOCK_BYTES];

        memset(block, block_byte(i), sizeof block);
        assert_int_equal(io_write(fixture->io, file, block, sizeof block, i * BLOCK_BYTES), 0);
    }
    return file;
}

/* Read all blocks as a batch: did each arrive whole? */
static bool read_blocks(struct io *io, struct io_file *file)
{
    uint8_t memory[BLOCKS][BLOCK_BYTES];
    struct io_read reads[BLOCKS];

    memset(memory, 0, sizeof memory);
    for (size_t i = 0; i < BLOCKS; i++)
        reads[i] = (struct io_read){
            .file = file, .data = memory[i], .size_bytes = BLOCK_BYTES, .offset = i * BLOCK_BYTES};
    if (io_read_batch(io, reads, BLOCKS) != 0)
        return false;
    for (size_t i = 0; i < BLOCKS; i++) {
        if (reads[i].result != (int64_t)BLOCK_BYTES)
            return false;
        for (size_t at = 0; at < BLOCK_BYTES; at++)
            if (memory[i][at] != block_byte(i))
                return false;
    }
    return true;
}

struct shared_file {
    struct io *io;
    struct io_file *file;
};

static void *read_blocks_often(void *context)
{
    struct shared_file *shared = context;

    for (int round = 0; round < 200; round++)
        if (!read_blocks(shared->io, shared->file))
            return context;
    return NULL;
}

static void threads_read_one_file_at_once_and_leave_no_ring_behind(void **state)
{
    struct io_fixture fixture;
    struct shared_file shared;
    pthread_t threads[4];
    int before;

    (void)state;
    assert_int_equal(io_fixture_open(&fixture, IO_BACKEND_URING), 0);
    shared = (struct shared_file){fixture.io, make_blocks(&fixture)};
    before = io_fixture_count_descriptors();
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, read_blocks_often, &shared), 0);
    for (int i = 0; i < 4; i++) {
        void *failure;

        assert_int_equal(pthread_join(threads[i], &failure), 0);
        assert_null(failure);
    }
    assert_int_equal(io_fixture_count_descriptors(), before);
    io_close(fixture.io, shared.file);
    io_fixture_close(&fixture);
}

static void closed_backend_leaves_no_descriptor(void **state)
{
    int before = io_fixture_count_descriptors();

    (void)state;
    for (int round = 0; round < 3; round++) {
        struct io_fixture fixture;
        struct io_file *file;

        assert_int_equal(io_fixture_open(&fixture, IO_BACKEND_URING), 0);
        file = make_blocks(&fixture);
        assert_true(read_blocks(fixture.io, file));
        io_close(fixture.io, file);
        io_fixture_close(&fixture);
    }
    assert_int_equal(io_fixture_count_descriptors(), before);
}

static void closing_one_backend_does_not_disturb_another(void **state)
{
    struct io_fixture first, second;
    struct io_file *files[2];

    (void)state;
    assert_int_equal(io_fixture_open(&first, IO_BACKEND_URING), 0);
    assert_int_equal(io_fixture_open(&second, IO_BACKEND_URING), 0);
    files[0] = make_blocks(&first);
    files[1] = make_blocks(&second);
    assert_true(read_blocks(first.io, files[0]));
    assert_true(read_blocks(second.io, files[1]));
    io_close(first.io, files[0]);
    io_fixture_close(&first);
    assert_true(read_blocks(second.io, files[1]));
    io_close(second.io, files[1]);
    io_fixture_close(&second);
}

static void read_blocks_in_child(void *context)
{
    if (read_blocks_often(context) != NULL)
        _exit(1);
}

static void ring_made_before_a_fork_is_not_used_by_the_child(void **state)
{
    struct io_fixture fixture;
    struct shared_file shared;
    char output[4096];

    (void)state;
    assert_int_equal(io_fixture_open(&fixture, IO_BACKEND_URING), 0);
    shared = (struct shared_file){fixture.io, make_blocks(&fixture)};
    assert_true(read_blocks(shared.io, shared.file));
    assert_int_equal(child_run(read_blocks_in_child, &shared, output, sizeof output), 0);
    /* The kernel refuses a ring to whom did not make it, which would be logged. */
    assert_string_equal(output, "");
    assert_true(read_blocks(shared.io, shared.file));
    io_close(fixture.io, shared.file);
    io_fixture_close(&fixture);
}

/* ---- sandboxes ---- */

#define EXIT_NO_FILTERS 77

static void open_without_rings(void *context)
{
    struct io *io;

    (void)context;
    if (forbid_call(SYS_io_uring_setup, EPERM) != 0)
        _exit(EXIT_NO_FILTERS);
    if (io_open_backend(IO_BACKEND_URING, &io) != 0)
        _exit(1);
    if (strcmp(io->ops->name, "sync") != 0)
        _exit(2);
    io_close_backend(io);
}

static void skip_without_filters(int status)
{
    if (status != -1 && WIFEXITED(status) && WEXITSTATUS(status) == EXIT_NO_FILTERS)
        skip();
}

static void where_rings_are_forbidden_the_backend_is_sync_and_says_why(void **state)
{
    char output[4096];
    int status = child_run(open_without_rings, NULL, output, sizeof output);

    (void)state;
    skip_without_filters(status);
    assert_int_equal(status, 0);
    assert_non_null(strstr(output, "io_uring"));
    assert_non_null(strstr(output, error_text(-EPERM)));
}

static void read_in_thread_without_rings(void *context)
{
    pthread_t thread;
    void *failure;

    if (forbid_call(SYS_io_uring_setup, ENOMEM) != 0)
        _exit(EXIT_NO_FILTERS);
    if (pthread_create(&thread, NULL, read_blocks_often, context) != 0 ||
        pthread_join(thread, &failure) != 0 || failure != NULL)
        _exit(1);
}

static void thread_that_gets_no_ring_reads_without(void **state)
{
    struct io_fixture fixture;
    struct shared_file shared;
    char output[4096];
    int status;

    (void)state;
    assert_int_equal(io_fixture_open(&fixture, IO_BACKEND_URING), 0);
    shared = (struct shared_file){fixture.io, make_blocks(&fixture)};
    status = child_run(read_in_thread_without_rings, &shared, output, sizeof output);
    io_close(fixture.io, shared.file);
    io_fixture_close(&fixture);
    skip_without_filters(status);
    assert_int_equal(status, 0);
}

static void read_while_the_ring_fails(void *context)
{
    struct shared_file *shared = context;

    /* The child's own ring works, and then every entry into it fails. */
    if (!read_blocks(shared->io, shared->file))
        _exit(1);
    if (forbid_call(SYS_io_uring_enter, ENXIO) != 0)
        _exit(EXIT_NO_FILTERS);
    if (read_blocks_often(context) != NULL)
        _exit(2);
}

static void ring_that_fails_later_is_given_up_and_reads_go_on(void **state)
{
    struct io_fixture fixture;
    struct shared_file shared;
    char output[4096];
    int status;

    (void)state;
    assert_int_equal(io_fixture_open(&fixture, IO_BACKEND_URING), 0);
    shared = (struct shared_file){fixture.io, make_blocks(&fixture)};
    status = child_run(read_while_the_ring_fails, &shared, output, sizeof output);
    /* Said once, not at every batch. */
    if (strcmp(fixture.io->ops->name, "io_uring") == 0 && status == 0) {
        char *said = strstr(output, "io_uring failed");

        assert_non_null(said);
        assert_null(strstr(said + 1, "io_uring failed"));
    }
    io_close(fixture.io, shared.file);
    io_fixture_close(&fixture);
    skip_without_filters(status);
    assert_int_equal(status, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(r14_one_trace_through_both_backends_leaves_identical_bytes),
        cmocka_unit_test(threads_read_one_file_at_once_and_leave_no_ring_behind),
        cmocka_unit_test(closed_backend_leaves_no_descriptor),
        cmocka_unit_test(closing_one_backend_does_not_disturb_another),
        cmocka_unit_test(ring_made_before_a_fork_is_not_used_by_the_child),
        cmocka_unit_test(where_rings_are_forbidden_the_backend_is_sync_and_says_why),
        cmocka_unit_test(thread_that_gets_no_ring_reads_without),
        cmocka_unit_test(ring_that_fails_later_is_given_up_and_reads_go_on),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
