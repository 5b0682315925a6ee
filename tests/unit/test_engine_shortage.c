/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_engine_shortage.c - a disk that stays full: who waits for what it has no room for is told so
 *
 * A limit of time is none here: who waits for ever is ended by the limit of the whole test.
 */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "engine/base/log.h"
#include "engine/compaction_pick.h"
#include "tests/lib/engine_fault_fixture.h"

#define VALUE_SIZE 1000

static void pause_ms(unsigned milliseconds)
{
    const struct timespec pause = {.tv_nsec = (long)milliseconds * 1000000};

    nanosleep(&pause, NULL);
}

static int create(struct engine_fault_fixture *fixture, const char *name, uint64_t *ret_id)
{
    return engine_checkpoint_create(fixture->engine, slice_of_string(name), slice_of(NULL, 0),
                                    ret_id);
}

static int add_name(void *context, const struct engine_checkpoint_info *info)
{
    char *names = context;

    snprintf(names + strlen(names), 64, "%.*s ", (int)info->name_size, (const char *)info->name);
    return 0;
}

/* Their names, each with a space behind it, in order of age. */
static void assert_checkpoints(struct engine_fault_fixture *fixture, const char *wanted)
{
    char names[1024] = "";

    assert_int_equal(engine_checkpoint_each(fixture->engine, add_name, names), 0);
    assert_string_equal(names, wanted);
}

static void assert_view_has(struct engine_view *view, uint64_t number, int wanted)
{
    struct buffer value = {0};
    uint8_t key[8];

    assert_int_equal(engine_view_get(view, engine_fixture_key(key, number), &value, NULL), wanted);
    buffer_free(&value);
}

static void assert_has(struct engine_fault_fixture *fixture, uint64_t count)
{
    struct engine_view *view = engine_view_acquire(fixture->engine);

    for (uint64_t i = 0; i < count; i++)
        assert_view_has(view, i, 1);
    assert_view_has(view, count, 0);
    engine_view_release(view);
}

static void assert_has_first(struct engine_fault_fixture *fixture)
{
    struct engine_view *view = engine_view_acquire(fixture->engine);

    assert_view_has(view, 0, 1);
    engine_view_release(view);
}

static void put(struct engine_fault_fixture *fixture, uint64_t number)
{
    assert_int_equal(engine_fixture_put(fixture->engine, number, VALUE_SIZE), 0);
}

static void sync_all(struct engine_fault_fixture *fixture)
{
    assert_int_equal(engine_sync(fixture->engine, engine_sequence(fixture->engine)), 0);
}

static void open_again(struct engine_fault_fixture *fixture)
{
    engine_fixture_close(fixture->base);
    engine_fixture_open(fixture->base);
    fixture->engine = fixture->base->engine;
}

/* The power goes, and what the disk refused it takes again. */
static void start_again(struct engine_fault_fixture *fixture)
{
    engine_cut(fixture->engine);
    (void)engine_close(fixture->engine);
    fixture->base->engine = NULL;
    fault_io_free(fixture->fault);
    fixture->fault = fault_io_new(fixture->base->io);
    fixture->base->options.io = fault_io_get(fixture->fault);
    engine_fixture_open(fixture->base);
    fixture->engine = fixture->base->engine;
}

static void assert_checkpoint_has(struct engine_fault_fixture *fixture, uint64_t id, uint64_t count)
{
    struct engine_view *view;

    assert_int_equal(engine_checkpoint_wait(fixture->engine, id), 0);
    assert_int_equal(engine_checkpoint_view(fixture->engine, id, &view), 0);
    for (uint64_t i = 0; i < count; i++)
        assert_view_has(view, i, 1);
    assert_view_has(view, count, 0);
    engine_view_release(view);
}

/* ---- no room for the mark in the log ---- */

static void refuse_a_mark(struct engine_fault_fixture *fixture, int error)
{
    uint64_t id;

    put(fixture, 0);
    sync_all(fixture);
    put(fixture, 1);
    fault_io_fail(fixture->fault, FAULT_WRITE, 1, error, true);
    for (unsigned attempt = 0; attempt < 3; attempt++)
        assert_int_equal(create(fixture, "a", &id), error);
    assert_checkpoints(fixture, "");
    assert_int_equal(engine_latch_reason(fixture->engine, NULL), 0);
    put(fixture, 2); /* others go on in memory */
    assert_has(fixture, 3);
}

static void a_checkpoint_without_room_for_its_mark_is_refused_and_can_be_made_later(void **state)
{
    struct engine_fault_fixture *fixture = *state;
    uint64_t id;

    refuse_a_mark(fixture, -ENOSPC);
    fault_io_clear(fixture->fault, FAULT_WRITE);
    assert_int_equal(create(fixture, "a", &id), 0);
    put(fixture, 3);
    assert_checkpoint_has(fixture, id, 3);
    assert_checkpoints(fixture, "a ");
    start_again(fixture);
    assert_checkpoints(fixture, "a ");
    assert_checkpoint_has(fixture, id, 3);
}

static void a_mark_that_was_taken_back_is_none_after_a_crash(void **state)
{
    struct engine_fault_fixture *fixture = *state;

    refuse_a_mark(fixture, -ENOSPC);
    /* What is in the log now has the numbers of the marks, and the flush of it none of them: it is
     * replayed as it stands. */
    fault_io_fail(fixture->fault, FAULT_CHMOD, 1, -ENOSPC, true);
    fault_io_clear(fixture->fault, FAULT_WRITE);
    put(fixture, 3);
    sync_all(fixture);
    start_again(fixture);
    assert_checkpoints(fixture, "");
    assert_has(fixture, 4);
}

static void a_mark_that_was_taken_back_is_none_after_a_flush(void **state)
{
    struct engine_fault_fixture *fixture = *state;

    refuse_a_mark(fixture, -EMFILE);
    fault_io_clear(fixture->fault, FAULT_WRITE);
    put(fixture, 3);
    sync_all(fixture);
    while (engine_flush(fixture->engine) == -EMFILE)
        pause_ms(10); /* the next attempt is yet to come */
    assert_int_equal(engine_flush(fixture->engine), 0);
    assert_checkpoints(fixture, "");
    start_again(fixture);
    assert_checkpoints(fixture, "");
    assert_has(fixture, 4);
}

/* ---- no room for the table that its directory waits for ---- */

/* A checkpoint "a" whose mark is in the log, and no more. */
static uint64_t stay_unflushed(struct engine_fault_fixture *fixture)
{
    uint64_t id;

    fault_io_fail(fixture->fault, FAULT_CHMOD, 1, -ENOSPC, true); /* no table is finished */
    put(fixture, 0);
    assert_int_equal(create(fixture, "a", &id), 0);
    put(fixture, 1);
    assert_checkpoints(fixture, "a ");
    return id;
}

static void who_waits_for_a_directory_is_told_that_there_is_no_room(void **state)
{
    struct engine_fault_fixture *fixture = *state;
    uint64_t a = stay_unflushed(fixture);

    assert_int_equal(engine_checkpoint_wait(fixture->engine, a), -ENOSPC);
    assert_int_equal(engine_checkpoint_rename(fixture->engine, a, slice_of_string("c")), -ENOSPC);
    assert_int_equal(engine_checkpoint_set_payload(fixture->engine, a, slice_of_string("p")),
                     -ENOSPC);
    assert_checkpoints(fixture, "a ");
    assert_int_equal(engine_latch_reason(fixture->engine, NULL), 0);
    fault_io_clear(fixture->fault, FAULT_CHMOD);
    assert_checkpoint_has(fixture, a, 1);
    assert_int_equal(engine_checkpoint_rename(fixture->engine, a, slice_of_string("c")), 0);
    assert_checkpoints(fixture, "c ");
}

/* Each would end a memtable, of which there may be some only. */
static void checkpoints_that_are_refused_leave_others_the_room_to_delete(void **state)
{
    struct engine_fault_fixture *fixture = *state;
    uint64_t a, b;

    fixture->base->options.memtables_max = 2;
    open_again(fixture);
    a = stay_unflushed(fixture);
    assert_int_equal(engine_checkpoint_wait(fixture->engine, a), -ENOSPC);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(create(fixture, "b", &b), -ENOSPC);
    put(fixture, 2);
    fault_io_fail(fixture->fault, FAULT_WRITE, 1, -ENOSPC, true); /* the log as well */
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(create(fixture, "b", &b), -ENOSPC);
    put(fixture, 3);
    fault_io_clear(fixture->fault, FAULT_CHMOD);
    fault_io_clear(fixture->fault, FAULT_WRITE);
    assert_int_equal(create(fixture, "b", &b), 0);
    assert_checkpoint_has(fixture, b, 4);
    assert_checkpoints(fixture, "a b ");
}

static unsigned deleting(struct engine_fault_fixture *fixture)
{
    struct engine_statistics statistics;

    engine_get_statistics(fixture->engine, &statistics);
    return (unsigned)statistics.checkpoints_deleting;
}

static void assert_all_are_cleared_away(struct engine_fault_fixture *fixture)
{
    while (deleting(fixture) > 0)
        pause_ms(10);
}

static void a_checkpoint_that_cannot_be_flushed_can_be_deleted(void **state)
{
    struct engine_fault_fixture *fixture = *state;
    uint64_t a = stay_unflushed(fixture), again;

    assert_int_equal(engine_checkpoint_delete(fixture->engine, a), 0);
    assert_checkpoints(fixture, "");
    assert_int_equal(deleting(fixture), 1);
    assert_int_equal(engine_checkpoint_delete(fixture->engine, a), -ENOENT);
    fault_io_clear(fixture->fault, FAULT_CHMOD);
    assert_int_equal(create(fixture, "a", &again), 0);
    assert_checkpoint_has(fixture, again, 2);
    assert_all_are_cleared_away(fixture);
    assert_checkpoints(fixture, "a ");
    start_again(fixture);
    assert_checkpoints(fixture, "a ");
    assert_checkpoint_has(fixture, again, 2);
}

static void one_that_was_deleted_before_it_was_flushed_stays_deleted_after_a_crash(void **state)
{
    struct engine_fault_fixture *fixture = *state;
    uint64_t a = stay_unflushed(fixture), next;

    assert_int_equal(engine_checkpoint_delete(fixture->engine, a), 0);
    sync_all(fixture);
    start_again(fixture);
    assert_checkpoints(fixture, "");
    assert_has(fixture, 2);
    assert_int_equal(create(fixture, "a", &next), 0);
    assert_true(next > a); /* numbers are not used again */
    assert_checkpoint_has(fixture, next, 2);
    assert_all_are_cleared_away(fixture);
    start_again(fixture);
    assert_checkpoints(fixture, "a ");
}

/* ---- what is in the log already ---- */

static uint64_t log_bytes(struct engine_fault_fixture *fixture)
{
    struct engine_statistics statistics;

    engine_get_statistics(fixture->engine, &statistics);
    return statistics.wal_bytes;
}

static void what_is_written_can_be_synced_though_what_came_later_has_no_room(void **state)
{
    struct engine_fault_fixture *fixture = *state;
    uint64_t first, before, syncs, count = 0;

    fixture->base->options.wal_buffer_bytes = 16 * 1024;
    open_again(fixture);
    before = log_bytes(fixture);
    put(fixture, count++);
    first = engine_sequence(fixture->engine);
    while (count < 12) /* more than half of the buffer: the log thread writes, and does not sync */
        put(fixture, count++);
    while (log_bytes(fixture) == before)
        pause_ms(1);
    fault_io_fail(fixture->fault, FAULT_WRITE, 1, -ENOSPC, true);
    put(fixture, count++);
    syncs = fault_io_count(fixture->fault, FAULT_SYNC);
    assert_int_equal(engine_sync(fixture->engine, first), 0);
    assert_true(fault_io_count(fixture->fault, FAULT_SYNC) > syncs);
    assert_int_equal(engine_sync(fixture->engine, engine_sequence(fixture->engine)), -ENOSPC);
    start_again(fixture);
    assert_has_first(fixture);
}

/* ---- no room to merge tables ---- */

static const struct io_ops *fault_ops;
static atomic_bool merging_is_refused;

static int refuse_merging(struct io *io, struct io_file *from_directory, const char *from,
                          struct io_file *to_directory, const char *to)
{
    char thread[16] = "";

    (void)pthread_getname_np(pthread_self(), thread, sizeof thread);
    if (merging_is_refused && strcmp(thread, "varve-compact") == 0)
        return -ENOSPC;
    return fault_ops->rename(io, from_directory, from, to_directory, to);
}

/* Nobody waits for merging that cannot be, so that what is deleted can be flushed; when there are too
 * many tables all the same who writes is told, and once there is room it goes on by itself. */
static void where_tables_cannot_be_merged_writers_go_on_and_then_are_told(void **state)
{
    struct engine_fault_fixture *fixture = *state;
    static struct io_ops ops;
    uint64_t count = 0;
    int result = 0;
    struct io *io;

    engine_fixture_close(fixture->base);
    io = fault_io_get(fixture->fault);
    fault_ops = io->ops;
    ops = *io->ops;
    ops.rename = refuse_merging;
    io->ops = &ops;
    merging_is_refused = true;
    engine_fixture_open(fixture->base);
    fixture->engine = fixture->base->engine;
    for (; result == 0 && count < 200; count++) {
        result = engine_fixture_put(fixture->engine, count, VALUE_SIZE);
        if (result == 0)
            assert_int_equal(engine_flush(fixture->engine), 0);
    }
    count--;
    assert_int_equal(result, -ENOSPC);
    assert_int_equal(count, COMPACTION_L0_FAILED_STOP);
    assert_int_equal(engine_latch_reason(fixture->engine, NULL), 0);
    merging_is_refused = false;
    while (result == -ENOSPC) {
        pause_ms(20);
        result = engine_fixture_put(fixture->engine, count, VALUE_SIZE);
    }
    assert_int_equal(result, 0);
    assert_has(fixture, count + 1);
}

int main(void)
{
#define TEST(name)                                                                                 \
    cmocka_unit_test_setup_teardown(name, engine_fault_fixture_setup, engine_fault_fixture_teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_checkpoint_without_room_for_its_mark_is_refused_and_can_be_made_later),
        TEST(a_mark_that_was_taken_back_is_none_after_a_crash),
        TEST(a_mark_that_was_taken_back_is_none_after_a_flush),
        TEST(who_waits_for_a_directory_is_told_that_there_is_no_room),
        TEST(checkpoints_that_are_refused_leave_others_the_room_to_delete),
        TEST(a_checkpoint_that_cannot_be_flushed_can_be_deleted),
        TEST(one_that_was_deleted_before_it_was_flushed_stays_deleted_after_a_crash),
        TEST(where_tables_cannot_be_merged_writers_go_on_and_then_are_told),
        TEST(what_is_written_can_be_synced_though_what_came_later_has_no_room),
    };

    log_set_level(LOG_LEVEL_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
