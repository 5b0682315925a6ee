/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_engine_failure.c - disks that fail for good, that hang, that are full for ever
 */
#include <dirent.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/base/log.h"
#include "tests/lib/engine_fixture.h"
#include "tests/lib/fault_io.h"
#include "tests/lib/seed.h"

#define VALUE_SIZE 1000

static struct fault_io *open_on_fault_io(struct engine_fixture *fixture)
{
    struct fault_io *fault = fault_io_new(fixture->io);

    engine_fixture_close(fixture);
    fixture->options.io = fault_io_get(fault);
    engine_fixture_open(fixture);
    return fault;
}

static void close_on_fault_io(struct engine_fixture *fixture, struct fault_io *fault, int result)
{
    assert_int_equal(engine_close(fixture->engine), result);
    fixture->engine = NULL;
    fault_io_free(fault);
    fixture->options.io = fixture->io;
}

static void assert_has(struct engine *engine, uint64_t count)
{
    struct engine_view *view = engine_view_acquire(engine);
    struct buffer value = {0};
    uint8_t key[8];

    for (uint64_t i = 0; i < count; i++) {
        assert_int_equal(engine_view_get(view, engine_fixture_key(key, i), &value, NULL), 1);
        assert_int_equal(value.data[0], (uint8_t)i);
    }
    buffer_free(&value);
    engine_view_release(view);
}

static unsigned count_names(const char *path)
{
    DIR *stream = opendir(path);
    unsigned count = 0;

    assert_non_null(stream);
    while (readdir(stream) != NULL)
        count++;
    closedir(stream);
    return count;
}

static unsigned count_threads(void)
{
    return count_names("/proc/self/task");
}

static void pause_ms(unsigned milliseconds)
{
    struct timespec pause = {milliseconds / 1000, (long)(milliseconds % 1000) * 1000000};

    nanosleep(&pause, NULL);
}

/* ---- a disk that fails for good ---- */

static void fail_for_good(struct engine_fixture *fixture, enum fault_call call)
{
    struct fault_io *fault = open_on_fault_io(fixture);
    unsigned threads = count_threads();
    uint64_t written = 0, attempts;
    int result = 0;

    for (; written < 200; written++)
        assert_int_equal(engine_fixture_put(fixture->engine, written, VALUE_SIZE), 0);
    assert_int_equal(engine_sync(fixture->engine, engine_sequence(fixture->engine)), 0);
    attempts = fault_io_count(fault, call);
    fault_io_fail(fault, call, 1, -EIO, true);
    /* The first who needs the disk is told, everybody after him is refused. */
    assert_int_equal(engine_fixture_put(fixture->engine, written++, VALUE_SIZE), 0);
    result = engine_sync(fixture->engine, engine_sequence(fixture->engine));
    assert_int_equal(result, -EIO);
    assert_int_equal(engine_latch_reason(fixture->engine, NULL), -EIO);
    for (unsigned i = 0; i < 1000; i++) {
        assert_int_equal(engine_fixture_put(fixture->engine, 1000000, VALUE_SIZE), ERROR_LATCHED);
        assert_int_equal(engine_sync(fixture->engine, engine_sequence(fixture->engine)),
                         ERROR_LATCHED);
    }
    pause_ms(1200); /* longer than anything waits that tries again */
    assert_int_equal(fault_io_count(fault, call), attempts + 1);
    assert_int_equal(count_threads(), threads);
    assert_has(fixture->engine, written);
    close_on_fault_io(fixture, fault, ERROR_LATCHED);
    engine_fixture_open(fixture);
    assert_has(fixture->engine, written - 1); /* what was synced */
}

static void r8_a_log_that_cannot_be_written_is_tried_once_and_latches(void **state)
{
    fail_for_good(*state, FAULT_WRITE);
}

static void r8_a_log_that_cannot_be_synced_is_tried_once_and_latches(void **state)
{
    fail_for_good(*state, FAULT_SYNC);
}

/* The thread that writes file data meets an error, which nobody has asked for yet when a flush meets a
 * disk that is full: the error is the reason why the store is read-only, not the want of room. */
static void an_error_that_is_kept_comes_before_a_shortage_that_follows_it(void **state)
{
    struct engine_fixture *fixture = *state;
    struct fault_io *fault = open_on_fault_io(fixture);
    uint8_t *data = malloc(BLOB_APPEND_FRAMES_MAX * BLOB_FRAME_SIZE_MAX);
    struct blob_ref refs[BLOB_APPEND_FRAMES_MAX];
    uint64_t seed = 1;

    assert_non_null(data);
    for (size_t i = 0; i < BLOB_APPEND_FRAMES_MAX * BLOB_FRAME_SIZE_MAX; i += sizeof seed)
        put_le64(data + i, seed_next(&seed)); /* cannot be compressed */
    fault_io_fail(fault, FAULT_RENAME, 1, -ENOSPC, true); /* no table gets its name */
    assert_int_equal(engine_fixture_put(fixture->engine, 0, VALUE_SIZE), 0);
    assert_int_equal(engine_flush(fixture->engine), -ENOSPC);
    assert_int_equal(engine_latch_reason(fixture->engine, NULL), 0);
    fault_io_fail(fault, FAULT_WRITE, 1, -EIO, false);
    assert_int_equal(
        engine_blob_append_frames(fixture->engine, data, BLOB_APPEND_FRAMES_MAX, refs), 0);
    free(data);
    for (unsigned i = 0; i < 100 && engine_latch_reason(fixture->engine, NULL) == 0; i++)
        pause_ms(100);
    assert_int_equal(engine_latch_reason(fixture->engine, NULL), -EIO);
    fault_io_clear(fault, FAULT_RENAME);
    close_on_fault_io(fixture, fault, ERROR_LATCHED);
}

/* ---- a cut on request ---- */

static void after_a_cut_on_request_only_what_was_synced_is_there(void **state)
{
    struct engine_fixture *fixture = *state;
    struct fault_io *fault = open_on_fault_io(fixture);
    uint64_t written = 0, writes, syncs;

    for (; written < 100; written++)
        assert_int_equal(engine_fixture_put(fixture->engine, written, VALUE_SIZE), 0);
    assert_int_equal(engine_sync(fixture->engine, engine_sequence(fixture->engine)), 0);
    assert_int_equal(engine_fixture_put(fixture->engine, written, VALUE_SIZE), 0);
    engine_cut(fixture->engine);
    writes = fault_io_count(fault, FAULT_WRITE);
    syncs = fault_io_count(fault, FAULT_SYNC);
    assert_int_equal(engine_latch_reason(fixture->engine, NULL), -ESHUTDOWN);
    assert_int_equal(engine_fixture_put(fixture->engine, 1000000, VALUE_SIZE), ERROR_LATCHED);
    assert_int_equal(engine_sync(fixture->engine, engine_sequence(fixture->engine)), ERROR_LATCHED);
    assert_has(fixture->engine, written + 1);
    assert_int_equal(fault_io_count(fault, FAULT_WRITE), writes);
    assert_int_equal(fault_io_count(fault, FAULT_SYNC), syncs);
    close_on_fault_io(fixture, fault, ERROR_LATCHED);
    engine_fixture_open(fixture);
    assert_has(fixture->engine, written);
}

/* ---- opened for reading after it ---- */

static uint64_t compactions(struct engine *engine)
{
    struct engine_statistics statistics;

    engine_get_statistics(engine, &statistics);
    return statistics.compactions;
}

static void nothing_is_compacted_while_changes_are_refused(void **state)
{
    struct engine_fixture *fixture = *state;
    struct fault_io *fault = open_on_fault_io(fixture);

    /* Three tables, and a log that becomes the fourth: now they are to be merged. */
    for (uint64_t i = 0; i < 3; i++) {
        assert_int_equal(engine_fixture_put(fixture->engine, i, VALUE_SIZE), 0);
        assert_int_equal(engine_flush(fixture->engine), 0);
    }
    assert_int_equal(engine_fixture_put(fixture->engine, 3, VALUE_SIZE), 0);
    assert_int_equal(engine_sync(fixture->engine, engine_sequence(fixture->engine)), 0);
    engine_cut(fixture->engine);
    close_on_fault_io(fixture, fault, ERROR_LATCHED);
    fixture->options.read_only = true;
    engine_fixture_open(fixture);
    assert_has(fixture->engine, 4);
    pause_ms(300);
    assert_int_equal(compactions(fixture->engine), 0);
    assert_int_equal(engine_compact(fixture->engine), -EROFS);

    assert_int_equal(engine_set_read_only(fixture->engine, false), 0);
    for (unsigned i = 0; i < 6000 && compactions(fixture->engine) == 0; i++)
        pause_ms(10);
    assert_int_not_equal(compactions(fixture->engine), 0);
    assert_has(fixture->engine, 4);
}

/* ---- a disk without room ---- */

static unsigned count_segments(const struct engine_fixture *fixture)
{
    char *path = test_path(fixture->path, "wal");
    unsigned count = count_names(path) - 2;

    free(path);
    return count;
}

/* Nothing can be flushed; what waits in memory, and the log that it needs, stay within bounds. */
static void r24_what_waits_for_a_flush_is_bounded_and_so_is_its_log(void **state)
{
    struct engine_fixture *fixture = *state;
    struct fault_io *fault = open_on_fault_io(fixture);
    struct engine_statistics statistics;
    uint64_t written = 0;
    size_t bound;
    int result = 0;

    bound = (fixture->options.memtables_max + 2) * fixture->options.memtable_bytes;
    fault_io_fail(fault, FAULT_RENAME, 1, -ENOSPC, true); /* no table gets its name */
    while (result == 0) {
        result = engine_fixture_put(fixture->engine, written, VALUE_SIZE);
        written += result == 0;
        engine_get_statistics(fixture->engine, &statistics);
        assert_true(statistics.frozen_memtables <= fixture->options.memtables_max + 1);
        assert_true(statistics.memtable_bytes <= 2 * bound);
        assert_true(written * VALUE_SIZE < 4 * bound);
    }
    assert_int_equal(result, -ENOSPC); /* the writer is told, instead of waiting for ever */
    assert_true(statistics.write_waits > 0);
    assert_int_equal(engine_latch_reason(fixture->engine, NULL), 0);
    assert_true(count_segments(fixture) <= 2 * bound / fixture->options.wal_segment_bytes + 8);
    fault_io_clear(fault, FAULT_RENAME);
    pause_ms(700);
    assert_int_equal(engine_flush(fixture->engine), 0);
    assert_has(fixture->engine, written);
    /* What goes on being written and flushed does not add up, either. */
    for (unsigned round = 0; round < 8; round++) {
        for (uint64_t i = 0; i < written; i++)
            assert_int_equal(engine_fixture_put(fixture->engine, i, VALUE_SIZE), 0);
        assert_int_equal(engine_flush(fixture->engine), 0);
    }
    assert_true(count_segments(fixture) <= 2 * bound / fixture->options.wal_segment_bytes + 8);
    close_on_fault_io(fixture, fault, 0);
    engine_fixture_open(fixture);
    assert_has(fixture->engine, written);
    assert_true(count_segments(fixture) <= 8);
}

/* ---- names of checkpoints ---- */

static int note_name(void *context, const struct engine_checkpoint_info *info)
{
    snprintf(context, 256, "%.*s", (int)info->name_size, (const char *)info->name);
    return 0;
}

static void assert_named(struct engine *engine, uint64_t id, const char *name)
{
    char found[256];

    assert_int_equal(engine_checkpoint_one(engine, id, note_name, found), 0);
    assert_string_equal(found, name);
}

/* A full disk may refuse a new name: then the old one stays, here and at the next start. */
static void a_checkpoint_that_has_no_room_for_its_new_name_keeps_the_old_one(void **state)
{
    struct engine_fixture *fixture = *state;
    struct fault_io *fault = open_on_fault_io(fixture);
    struct engine_view *view;
    uint64_t id;

    assert_int_equal(
        engine_checkpoint_create(fixture->engine, slice_of_string("old"), slice_of_string(""), &id),
        0);
    assert_int_equal(engine_checkpoint_wait(fixture->engine, id), 0);
    fault_io_fail(fault, FAULT_RENAME, 1, -ENOSPC, true);
    assert_int_equal(engine_checkpoint_rename(fixture->engine, id, slice_of_string("new")),
                     -ENOSPC);
    fault_io_clear(fault, FAULT_RENAME);
    assert_int_equal(engine_latch_reason(fixture->engine, NULL), 0);
    assert_named(fixture->engine, id, "old");
    close_on_fault_io(fixture, fault, 0);
    engine_fixture_open(fixture);
    assert_named(fixture->engine, id, "old");
    assert_int_equal(engine_checkpoint_view(fixture->engine, id, &view), 0);
    engine_view_release(view);
    assert_int_equal(engine_checkpoint_rename(fixture->engine, id, slice_of_string("new")), 0);
    assert_named(fixture->engine, id, "new");
}

/* One that cannot be renamed at all can be read on, and has the new name after the next start. */
static void a_checkpoint_whose_renaming_fails_is_read_where_it_is(void **state)
{
    struct engine_fixture *fixture = *state;
    struct fault_io *fault = open_on_fault_io(fixture);
    struct engine_view *view;
    uint64_t id;

    assert_int_equal(
        engine_checkpoint_create(fixture->engine, slice_of_string("old"), slice_of_string(""), &id),
        0);
    assert_int_equal(engine_checkpoint_wait(fixture->engine, id), 0);
    fault_io_fail(fault, FAULT_RENAME, 1, -EIO, false);
    assert_int_equal(engine_checkpoint_rename(fixture->engine, id, slice_of_string("new")), -EIO);
    assert_int_equal(engine_latch_reason(fixture->engine, NULL), -EIO);
    assert_named(fixture->engine, id, "old");
    assert_int_equal(engine_checkpoint_view(fixture->engine, id, &view), 0);
    engine_view_release(view);
    close_on_fault_io(fixture, fault, ERROR_LATCHED);
    engine_fixture_open(fixture);
    assert_named(fixture->engine, id, "new");
    assert_int_equal(engine_checkpoint_view(fixture->engine, id, &view), 0);
    engine_view_release(view);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_checkpoint_whose_renaming_fails_is_read_where_it_is,
                                        engine_fixture_setup, engine_fixture_teardown),
        cmocka_unit_test_setup_teardown(
            a_checkpoint_that_has_no_room_for_its_new_name_keeps_the_old_one, engine_fixture_setup,
            engine_fixture_teardown),
        cmocka_unit_test_setup_teardown(r8_a_log_that_cannot_be_written_is_tried_once_and_latches,
                                        engine_fixture_setup, engine_fixture_teardown),
        cmocka_unit_test_setup_teardown(r8_a_log_that_cannot_be_synced_is_tried_once_and_latches,
                                        engine_fixture_setup, engine_fixture_teardown),
        cmocka_unit_test_setup_teardown(
            an_error_that_is_kept_comes_before_a_shortage_that_follows_it, engine_fixture_setup,
            engine_fixture_teardown),
        cmocka_unit_test_setup_teardown(after_a_cut_on_request_only_what_was_synced_is_there,
                                        engine_fixture_setup, engine_fixture_teardown),
        cmocka_unit_test_setup_teardown(nothing_is_compacted_while_changes_are_refused,
                                        engine_fixture_setup, engine_fixture_teardown),
        cmocka_unit_test_setup_teardown(r24_what_waits_for_a_flush_is_bounded_and_so_is_its_log,
                                        engine_fixture_setup, engine_fixture_teardown),
    };

    log_set_level(LOG_LEVEL_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
