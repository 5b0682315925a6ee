/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_engine_sweep.c - one load, with every I/O call and every allocation of it failing in turn
 *
 * The load writes numbered keys, every third with file data, syncs now and then, flushes, compacts,
 * takes and deletes a checkpoint. The oracle: what is there after the next opening are the keys
 * 0..n-1 with n not below what a sync that returned 0 covered, and their values are right. A
 * shortage (no space, no descriptors) must not latch, and everything works once it is over.
 *
 * Allocations fail through --wrap of the linker, in this program only.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/lib/engine_fixture.h"
#include "tests/lib/fault_io.h"
#include "tests/lib/seed.h"
#include "tests/lib/test_fault_io.h"

#define KEYS       60
#define FRAME_SIZE 9000
#define SITES_MAX  4096

/* ---- allocations that fail ---- */

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *memory, size_t size);
int __real_posix_memalign(void **ret_memory, size_t alignment, size_t size);
int __wrap_posix_memalign(void **ret_memory, size_t alignment, size_t size);
void *__real_aligned_alloc(size_t alignment, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *memory, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size);

static atomic_ullong allocations, failing_allocation; /* 0: none fails */
static atomic_bool all_later_fail;

/* The places that were seen to allocate, and to fail: return addresses, in an open hash table. */
struct site {
    atomic_uintptr_t address;
    atomic_bool failed_once, failed_for_ever;
};
static struct site sites[SITES_MAX];

static struct site *site_of(uintptr_t address)
{
    for (size_t i = address * 2654435761u % SITES_MAX;; i = (i + 1) % SITES_MAX) {
        uintptr_t empty = 0;

        if (atomic_load(&sites[i].address) == address ||
            atomic_compare_exchange_strong(&sites[i].address, &empty, address) || empty == address)
            return &sites[i];
    }
}

static bool allocation_fails(void *address)
{
    struct site *site = site_of((uintptr_t)address);
    uint64_t number = atomic_fetch_add(&allocations, 1) + 1;
    uint64_t failing = atomic_load(&failing_allocation);
    bool for_ever = atomic_load(&all_later_fail);

    if (failing == 0 || (number != failing && !(for_ever && number > failing)))
        return false;
    atomic_store(for_ever ? &site->failed_for_ever : &site->failed_once, true);
    return true;
}

/* Which places never failed; addr2line(1) knows where they are. */
static void print_sites(void)
{
    size_t count = 0, once = 0, for_ever = 0;

    for (size_t i = 0; i < SITES_MAX; i++) {
        if (sites[i].address == 0)
            continue;
        count++;
        once += sites[i].failed_once;
        for_ever += sites[i].failed_for_ever;
        if (!sites[i].failed_once || !sites[i].failed_for_ever)
            print_message("not failed%s%s: %#zx\n", sites[i].failed_once ? "" : " once",
                          sites[i].failed_for_ever ? "" : " for ever", (size_t)sites[i].address);
    }
    print_message("%zu places allocate; %zu failed once, %zu for ever\n", count, once, for_ever);
}

void *__wrap_malloc(size_t size)
{
    return allocation_fails(__builtin_return_address(0)) ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
    return allocation_fails(__builtin_return_address(0)) ? NULL : __real_calloc(count, size);
}

void *__wrap_realloc(void *memory, size_t size)
{
    return allocation_fails(__builtin_return_address(0)) ? NULL : __real_realloc(memory, size);
}

void *__wrap_aligned_alloc(size_t alignment, size_t size)
{
    return allocation_fails(__builtin_return_address(0)) ? NULL
                                                         : __real_aligned_alloc(alignment, size);
}

int __wrap_posix_memalign(void **ret_memory, size_t alignment, size_t size)
{
    return allocation_fails(__builtin_return_address(0))
               ? ENOMEM
               : __real_posix_memalign(ret_memory, alignment, size);
}

static void allocations_fail(uint64_t number, bool for_ever)
{
    atomic_store(&allocations, 0);
    atomic_store(&all_later_fail, for_ever);
    atomic_store(&failing_allocation, number);
}

/* ---- the load ---- */

struct load {
    struct engine *engine;
    uint64_t written; /* keys acknowledged */
    uint64_t durable; /* by a sync that returned 0 */
    uint64_t checkpoint;
    int first_error;
};

static void fill(uint8_t *data, uint64_t number)
{
    for (size_t i = 0; i < FRAME_SIZE; i++)
        data[i] = (uint8_t)(number * 31 + i * i % 251);
}

static void note(struct load *load, int result)
{
    if (result < 0 && load->first_error == 0)
        load->first_error = result;
}

/* The next key, with data in a blob when its number says so. */
static int write_next(struct load *load)
{
    uint64_t number = load->written;
    struct batch batch = {0};
    struct blob_ref ref;
    uint8_t key[8], data[FRAME_SIZE];
    char text[64];
    struct engine_view *view = engine_view_acquire(load->engine);
    int result = view != NULL ? 0 : -ENOMEM;

    if (result == 0 && number % 3 == 0) {
        fill(data, number);
        result = engine_blob_append(load->engine, data, sizeof data, &ref);
        if (result == 0)
            batch_put_reference(&batch, engine_fixture_key(key, number), &ref);
    } else if (result == 0) {
        snprintf(text, sizeof text, "value %llu", (unsigned long long)number);
        batch_put(&batch, engine_fixture_key(key, number), slice_of_string(text));
    }
    if (result == 0)
        result = engine_write(load->engine, &batch, NULL);
    if (result == 0)
        load->written++;
    engine_view_release(view);
    batch_free(&batch);
    return result;
}

static int sync_all(struct load *load)
{
    uint64_t written = load->written;
    int result = engine_sync(load->engine, engine_sequence(load->engine));

    if (result == 0 && written > load->durable)
        load->durable = written;
    return result;
}

static void take_checkpoint(struct load *load)
{
    int result = engine_checkpoint_create(load->engine, slice_of_string("kept"),
                                          slice_of_string(""), &load->checkpoint);

    if (result == 0) {
        if (load->written > load->durable)
            load->durable = load->written;
        result = engine_checkpoint_wait(load->engine, load->checkpoint);
    }
    note(load, result);
}

/* Errors are noted, and the load goes on, as users do. */
static void run_load(struct load *load, uint64_t keys, bool with_checkpoint)
{
    for (uint64_t i = 0; i < keys; i++) {
        note(load, write_next(load));
        if (i % 7 == 6)
            note(load, sync_all(load));
        if (i == keys / 2)
            note(load, engine_flush(load->engine));
        if (with_checkpoint && i == keys / 3)
            take_checkpoint(load);
    }
    if (load->checkpoint != 0 && engine_checkpoint_delete(load->engine, load->checkpoint) == 0)
        load->checkpoint = 0;
    note(load, sync_all(load));
    note(load, engine_compact(load->engine));
}

static void check_key(struct engine_view *view, uint64_t number, const struct record *record,
                      const struct buffer *value)
{
    uint8_t data[FRAME_SIZE], expected[FRAME_SIZE];
    char text[64];

    if (number % 3 == 0) {
        struct blob_ref ref;
        struct engine_blob_read read = {&ref, data};

        assert_int_equal(record->kind, RECORD_REFERENCE);
        assert_int_equal(blob_ref_decode(buffer_slice(value), &ref), 0);
        assert_int_equal(engine_blob_read(view, &read, 1), 0);
        fill(expected, number);
        assert_memory_equal(data, expected, FRAME_SIZE);
    } else {
        snprintf(text, sizeof text, "value %llu", (unsigned long long)number);
        assert_true(slice_equal(buffer_slice(value), slice_of_string(text)));
    }
}

/* The keys that are there are the first ones; their number. */
static uint64_t check_prefix(struct engine *engine)
{
    struct engine_view *view = engine_view_acquire(engine);
    struct buffer value = {0};
    struct record record;
    uint64_t count = 0;
    uint8_t key[8];

    assert_non_null(view);
    for (uint64_t number = 0; number < 4 * KEYS; number++) {
        int found = engine_view_get(view, engine_fixture_key(key, number), &value, &record);

        assert_true(found >= 0);
        if (found == 0)
            continue;
        assert_int_equal(number, count); /* no gap */
        check_key(view, number, &record, &value);
        count++;
    }
    buffer_free(&value);
    engine_view_release(view);
    return count;
}

/* ---- which calls fail ----
 *
 * With VARVE_TEST_FULL each of them in turn, which takes minutes; else a sample, the early ones
 * more densely, another one each time (VARVE_TEST_SEED).
 */

static uint64_t random_state;

static uint64_t next_nth(uint64_t nth)
{
    if (getenv("VARVE_TEST_FULL") != NULL)
        return nth + 1;
    return nth + 1 + seed_below(&random_state, 1 + nth / 2);
}

/* ---- a store on a disk that fails ---- */

struct sweep {
    struct engine_fixture *fixture;
    struct load load;
};

static void sweep_begin(struct sweep *sweep, struct io *io)
{
    void *state;

    engine_fixture_setup(&state);
    *sweep = (struct sweep){.fixture = state};
    engine_fixture_close(sweep->fixture);
    sweep->fixture->options.io = io != NULL ? io : sweep->fixture->io;
    sweep->fixture->options.sync_window_ms = 20;
    sweep->fixture->options.wal_segment_bytes = 64 * 1024;
    engine_fixture_open(sweep->fixture);
    sweep->load.engine = sweep->fixture->engine;
}

/* Close, open on a good disk, compare with what was promised. */
static void sweep_end(struct sweep *sweep)
{
    void *state = sweep->fixture;
    uint64_t count;

    (void)engine_close(sweep->fixture->engine);
    sweep->fixture->options.io = sweep->fixture->io;
    engine_fixture_open(sweep->fixture);
    count = check_prefix(sweep->fixture->engine);
    assert_true(count >= sweep->load.durable);
    /* (One that failed may have been written all the same.) */
    assert_true(count <= sweep->load.written + 1);
    engine_fixture_close(sweep->fixture);
    engine_fixture_teardown(&state);
}

static struct io *make_io(void)
{
    struct io *io;

    assert_int_equal(io_open_backend(IO_BACKEND_SYNC, &io), 0);
    return io;
}

/* ---- tests ---- */

/* Until the next try, a few tenths of a second later, callers are still told of the shortage. */
static void flush_soon(struct engine *engine)
{
    const struct timespec pause = {.tv_nsec = 20000000};
    int result;

    for (int i = 0; (result = engine_flush(engine)) != 0 && i < 1000; i++)
        nanosleep(&pause, NULL);
    assert_int_equal(result, 0);
}

static void sweep_shortage(enum fault_call call, int error, bool for_ever)
{
    struct io *inner = make_io();
    bool struck = true;

    for (uint64_t nth = 1; struck; nth = next_nth(nth)) {
        struct fault_io *fault = fault_io_new(inner);
        struct sweep sweep;
        uint64_t before;

        sweep_begin(&sweep, fault_io_get(fault));
        run_load(&sweep.load, KEYS / 2, true);
        assert_int_equal(sweep.load.first_error, 0);
        before = fault_io_count(fault, call);
        fault_io_fail(fault, call, nth, error, for_ever);
        run_load(&sweep.load, KEYS, !for_ever);
        struck = fault_io_count(fault, call) - before >= nth;
        if (sweep.load.first_error != 0)
            assert_int_equal(sweep.load.first_error, error);
        assert_int_equal(engine_latch_reason(sweep.load.engine, NULL), 0);

        /* There is room again. */
        fault_io_clear(fault, call);
        flush_soon(sweep.load.engine);
        sweep.load.first_error = 0;
        if (sweep.load.checkpoint != 0)
            assert_int_equal(engine_checkpoint_delete(sweep.load.engine, sweep.load.checkpoint), 0);
        sweep.load.checkpoint = 0;
        assert_int_equal(write_next(&sweep.load), 0);
        assert_int_equal(sync_all(&sweep.load), 0);
        assert_int_equal(check_prefix(sweep.load.engine), sweep.load.written);
        sweep_end(&sweep);
        fault_io_free(fault);
    }
    io_close_backend(inner);
}

static void a_disk_full_at_any_write_latches_nothing(void **state)
{
    (void)state;
    sweep_shortage(FAULT_WRITE, -ENOSPC, false);
    sweep_shortage(FAULT_WRITE, -ENOSPC, true);
}

static void a_disk_full_for_names_latches_nothing(void **state)
{
    (void)state;
    sweep_shortage(FAULT_LINK, -ENOSPC, true);
    sweep_shortage(FAULT_RENAME, -ENOSPC, true);
}

static void no_descriptors_left_latches_nothing(void **state)
{
    (void)state;
    sweep_shortage(FAULT_OPEN, -EMFILE, false);
    sweep_shortage(FAULT_OPEN, -EMFILE, true);
}

/* P6: whatever fails, nothing that was promised is lost and nothing false is said. */
static void any_failing_call_loses_nothing_that_was_promised(void **state)
{
    struct io *inner = make_io();

    (void)state;
    for (int for_ever = 0; for_ever < 2; for_ever++) {
        bool struck = true;

        for (uint64_t nth = 1; struck; nth = next_nth(nth)) {
            struct test_fault_io fault;
            struct sweep sweep;

            test_fault_io_init(&fault, inner);
            sweep_begin(&sweep, &fault.io);
            test_fault_io_arm(&fault, nth, -EIO, for_ever != 0);
            run_load(&sweep.load, KEYS, true);
            struck = test_fault_io_struck(&fault);
            /* What is acknowledged is read, latched or not. */
            assert_int_equal(check_prefix(sweep.load.engine), sweep.load.written);
            (void)engine_close(sweep.fixture->engine);
            test_fault_io_arm(&fault, 0, 0, false);
            engine_fixture_open(sweep.fixture);
            sweep_end(&sweep);
        }
    }
    io_close_backend(inner);
}

/* Many allocations, so with VARVE_TEST_FULL only. */
static void any_failing_allocation_loses_nothing_that_was_promised(void **state)
{
    (void)state;
    if (getenv("VARVE_TEST_FULL") == NULL)
        skip();
    for (int for_ever = 0; for_ever < 2; for_ever++) {
        uint64_t said = 1;
        bool struck = true;

        /* Once all sites have come, only their order changes: steps grow. */
        for (uint64_t nth = 1; struck; nth = next_nth(nth + nth / 64)) {
            struct sweep sweep;

            sweep_begin(&sweep, NULL);
            allocations_fail(nth, for_ever != 0);
            run_load(&sweep.load, KEYS, for_ever == 0);
            struck = atomic_load(&allocations) >= nth;
            allocations_fail(0, false);
            if (nth >= said) {
                print_message("allocation %llu%s\n", (unsigned long long)nth,
                              for_ever != 0 ? " and all later ones" : "");
                said = nth + 100;
            }
            assert_int_equal(check_prefix(sweep.load.engine), sweep.load.written);
            sweep_end(&sweep);
        }
    }
    print_sites();
}

/* The first sync of an engine needs a second buffer; without memory it fails, and does not spin. */
static void a_sync_without_memory_ends_and_is_done_later(void **state)
{
    struct sweep sweep;

    (void)state;
    sweep_begin(&sweep, NULL);
    engine_fixture_close(sweep.fixture);
    sweep.fixture->options.sync_window_ms = 0; /* nobody else syncs before */
    engine_fixture_open(sweep.fixture);
    sweep.load.engine = sweep.fixture->engine;
    assert_int_equal(write_next(&sweep.load), 0);
    allocations_fail(1, true);
    assert_int_equal(sync_all(&sweep.load), -ENOMEM);
    allocations_fail(0, false);
    assert_int_equal(engine_latch_reason(sweep.load.engine, NULL), 0);
    assert_int_equal(sync_all(&sweep.load), 0);
    assert_int_equal(write_next(&sweep.load), 0);
    sweep_end(&sweep);
}

static void a_segment_that_became_a_directory_does_not_stop_the_start(void **state)
{
    struct sweep sweep;
    char *path;

    (void)state;
    sweep_begin(&sweep, NULL);
    run_load(&sweep.load, KEYS, false);
    assert_int_equal(engine_close(sweep.fixture->engine), 0);
    path = test_path(sweep.fixture->path, "wal/0000000000000001.wal");
    assert_int_equal(mkdir(path, 0700), 0);
    free(path);
    engine_fixture_open(sweep.fixture);
    sweep_end(&sweep);
}

/* The mark of a checkpoint and the end of its generation: both, or neither, and then the next try
 * can do it (P7). */
static void a_checkpoint_without_memory_is_refused_and_latches_nothing(void **state)
{
    struct sweep sweep;
    uint64_t refused = 0, id, other;
    bool struck = true;

    (void)state;
    sweep_begin(&sweep, NULL);
    for (uint64_t nth = 1; struck; nth++) {
        int result;

        assert_int_equal(write_next(&sweep.load), 0);
        allocations_fail(nth, false);
        result = engine_checkpoint_create(sweep.load.engine, slice_of_string("kept"),
                                          slice_of_string(""), &id);
        struck = atomic_load(&allocations) >= nth && nth < 40;
        allocations_fail(0, false);
        assert_int_equal(engine_latch_reason(sweep.load.engine, NULL), 0);
        if (result < 0) {
            assert_int_equal(result, -ENOMEM);
            refused++;
            assert_int_equal(engine_checkpoint_create(sweep.load.engine, slice_of_string("kept"),
                                                      slice_of_string(""), &id),
                             0);
        }
        assert_int_equal(engine_checkpoint_wait(sweep.load.engine, id), 0);
        assert_int_equal(engine_checkpoint_delete(sweep.load.engine, id), 0);
        assert_int_equal(write_next(&sweep.load), 0);
        assert_int_equal(sync_all(&sweep.load), 0);
    }
    assert_true(refused >= 4);
    assert_int_equal(engine_checkpoint_create(sweep.load.engine, slice_of_string("last"),
                                              slice_of_string(""), &other),
                     0);
    sweep_end(&sweep);
}

/* What a cut without a journal leaves of names: they lead to what the inode is used for now. */
static void names_that_lead_to_something_else_do_not_stop_the_start(void **state)
{
    static const char *const directories[] = {
        "wal/SYNCED",
        "wal/SYNCED.new",
        "wal/0000000000000abc.wal.new",
        "chunks/0000000000000abc.open",
        "chunks/0000000000000abd-000102030405060708090a0b0c0d0e0f.tbl",
        "tmp/0000000000000abe.tbl",
    };
    static const char *const gone[] = {"wal/SYNCED.new", "wal/0000000000000abc.wal.new",
                                       "chunks/0000000000000abc.open", "tmp/0000000000000abe.tbl",
                                       "tmp/deleted"};
    struct sweep sweep;
    struct stat status;
    char *path;

    (void)state;
    sweep_begin(&sweep, NULL);
    run_load(&sweep.load, KEYS, true);
    assert_int_equal(engine_close(sweep.fixture->engine), 0);
    path = test_path(sweep.fixture->path, "wal/SYNCED");
    (void)unlink(path);
    free(path);
    for (size_t i = 0; i < sizeof directories / sizeof directories[0]; i++) {
        path = test_path(sweep.fixture->path, directories[i]);
        assert_int_equal(mkdir(path, 0700), 0);
        free(path);
    }
    /* A chunk's name in tmp/ makes the sweep count the names of it, in tmp/deleted too. */
    path = test_path(sweep.fixture->path, "tmp/deleted");
    assert_int_equal(close(creat(path, 0600)), 0);
    free(path);
    path = test_path(sweep.fixture->path,
                     "tmp/stale-0-0000000000000abf-000102030405060708090a0b0c0d0e0f.tbl");
    assert_int_equal(close(creat(path, 0600)), 0);
    free(path);
    engine_fixture_open(sweep.fixture);
    sweep.load.engine = sweep.fixture->engine;
    assert_int_equal(check_prefix(sweep.load.engine), sweep.load.written);
    assert_int_equal(write_next(&sweep.load), 0);
    assert_int_equal(sync_all(&sweep.load), 0);
    assert_int_equal(engine_close(sweep.fixture->engine), 0);
    for (size_t i = 0; i < sizeof gone / sizeof gone[0]; i++) {
        path = test_path(sweep.fixture->path, gone[i]);
        assert_int_equal(stat(path, &status), -1);
        free(path);
    }
    engine_fixture_open(sweep.fixture);
    sweep_end(&sweep);
}

/* A pattern of names as an argument runs those tests only. */
int main(int count, char **arguments)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_segment_that_became_a_directory_does_not_stop_the_start),
        cmocka_unit_test(names_that_lead_to_something_else_do_not_stop_the_start),
        cmocka_unit_test(a_checkpoint_without_memory_is_refused_and_latches_nothing),
        cmocka_unit_test(a_sync_without_memory_ends_and_is_done_later),
        cmocka_unit_test(a_disk_full_at_any_write_latches_nothing),
        cmocka_unit_test(a_disk_full_for_names_latches_nothing),
        cmocka_unit_test(no_descriptors_left_latches_nothing),
        cmocka_unit_test(any_failing_call_loses_nothing_that_was_promised),
        cmocka_unit_test(any_failing_allocation_loses_nothing_that_was_promised),
    };

    if (count > 1)
        cmocka_set_test_filter(arguments[1]);
    random_state = seed_start("test_engine_sweep");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
