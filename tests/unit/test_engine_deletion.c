/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_engine_deletion.c - checkpoints that are deleted, renamed or asked for before they are made,
 * or while somebody reads them
 *
 * The checkpoint thread is made to stand still at a link, so that what must not wait for it shows
 * that it does not: a test that hangs is ended by an alarm.
 */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/engine_internal.h"
#include "tests/lib/engine_fault_fixture.h"

#define KEYS          20
#define HANGS_AFTER_S 60
#define OPENINGS      1000

/* A test that hangs ends. */
static int setup(void **state)
{
    alarm(HANGS_AFTER_S);
    return engine_fault_fixture_setup(state);
}

static int teardown(void **state)
{
    int result = engine_fault_fixture_teardown(state);

    alarm(0);
    return result;
}

static void put_all(struct engine *engine, uint8_t generation)
{
    struct batch batch = {0};
    uint8_t key[8];

    for (uint64_t i = 0; i < KEYS; i++)
        batch_put(&batch, engine_fixture_key(key, i), slice_of(&generation, 1));
    assert_int_equal(engine_write(engine, &batch, NULL), 0);
    batch_free(&batch);
}

static uint64_t create(struct engine *engine, const char *name)
{
    uint64_t id;

    assert_int_equal(engine_checkpoint_create(engine, slice_of_string(name), slice_of("", 0), &id),
                     0);
    return id;
}

static void expect_in_view(struct engine_view *view, uint8_t generation)
{
    struct buffer value = {0};
    uint8_t key[8];

    for (uint64_t i = 0; i < KEYS; i++) {
        assert_int_equal(engine_view_get(view, engine_fixture_key(key, i), &value, NULL), 1);
        assert_int_equal(value.size, 1);
        assert_int_equal(value.data[0], generation);
    }
    buffer_free(&value);
}

static void expect_in(struct engine *engine, uint64_t id, uint8_t generation)
{
    struct engine_view *view;

    assert_int_equal(engine_checkpoint_view(engine, id, &view), 0);
    expect_in_view(view, generation);
    engine_view_release(view);
}

static bool exists(const struct engine_fault_fixture *fixture, const char *path)
{
    char *whole = test_path(fixture->base->path, path);
    struct stat status;
    bool found = stat(whole, &status) == 0;

    free(whole);
    return found;
}

static uint64_t deleting(struct engine *engine)
{
    struct engine_statistics statistics;

    engine_get_statistics(engine, &statistics);
    return statistics.checkpoints_deleting;
}

static void wait_for_deletions(struct engine *engine)
{
    while (deleting(engine) > 0)
        usleep(1000);
}

static void reopen(struct engine_fault_fixture *fixture)
{
    engine_fixture_close(fixture->base);
    engine_fixture_open(fixture->base);
    fixture->engine = fixture->base->engine;
}

static void deleting_does_not_wait_for_the_making(void **state)
{
    struct engine_fault_fixture *fixture = *state;
    struct engine *engine = fixture->engine;
    uint64_t made_now, queued, again, other;

    put_all(engine, 1);
    assert_int_equal(engine_flush(engine), 0); /* a table to be linked */
    fault_io_stall(fixture->fault, FAULT_LINK, 1);
    made_now = create(engine, "a");
    fault_io_wait_stalled(fixture->fault);
    queued = create(engine, "b");
    assert_int_equal(engine_checkpoint_delete(engine, queued), 0);
    assert_int_equal(engine_checkpoint_delete(engine, made_now), 0);
    assert_int_equal(engine_checkpoint_delete(engine, made_now), -ENOENT);
    assert_int_equal(deleting(engine), 2);
    put_all(engine, 2);
    again = create(engine, "a"); /* the names are free */
    other = create(engine, "b");
    fault_io_clear(fixture->fault, FAULT_LINK);

    assert_int_equal(engine_checkpoint_wait(engine, again), 0);
    assert_int_equal(engine_checkpoint_wait(engine, other), 0);
    wait_for_deletions(engine);
    assert_false(exists(fixture, "tmp/deleted"));
    for (int round = 0; round < 2; round++) {
        expect_in(fixture->engine, again, 2);
        expect_in(fixture->engine, other, 2);
        assert_int_equal(engine_checkpoint_wait(fixture->engine, made_now), -ENOENT);
        assert_int_equal(engine_checkpoint_wait(fixture->engine, queued), -ENOENT);
        reopen(fixture);
    }
}

static void a_deleted_one_that_was_being_made_leaves_nothing(void **state)
{
    struct engine_fault_fixture *fixture = *state;
    struct engine *engine = fixture->engine;
    char working[64];
    uint64_t id;

    put_all(engine, 1);
    assert_int_equal(engine_flush(engine), 0);
    fault_io_stall(fixture->fault, FAULT_LINK, 1);
    id = create(engine, "a");
    fault_io_wait_stalled(fixture->fault);
    snprintf(working, sizeof working, "tmp/checkpoint-%016llx", (unsigned long long)id);
    assert_true(exists(fixture, working));
    assert_int_equal(engine_checkpoint_delete(engine, id), 0);
    fault_io_clear(fixture->fault, FAULT_LINK);
    wait_for_deletions(engine);
    assert_false(exists(fixture, working));
    assert_false(exists(fixture, "checkpoints/a"));
}

static void who_reads_a_deleted_one_is_not_hurt_by_its_successor(void **state)
{
    struct engine_fault_fixture *fixture = *state;
    struct engine *engine = fixture->engine;
    struct engine_view *view;
    uint64_t id, successor;

    put_all(engine, 1);
    id = create(engine, "a");
    assert_int_equal(engine_checkpoint_wait(engine, id), 0);
    assert_int_equal(engine_checkpoint_view(engine, id, &view), 0);
    assert_int_equal(engine_checkpoint_delete(engine, id), 0);
    put_all(engine, 2);
    successor = create(engine, "a");
    assert_int_equal(engine_checkpoint_wait(engine, successor), 0);
    assert_int_equal(engine_compact(engine), 0);
    expect_in(engine, successor, 2);
    expect_in_view(view, 1);
    assert_int_equal(deleting(engine), 1);
    engine_view_release(view);
    wait_for_deletions(engine);
    expect_in(engine, successor, 2);
}

static void nor_when_a_shortage_keeps_the_old_directory_in_its_place(void **state)
{
    struct engine_fault_fixture *fixture = *state;
    struct engine *engine = fixture->engine;
    struct engine_view *view;
    uint64_t id, successor, renames;

    put_all(engine, 1);
    id = create(engine, "a");
    assert_int_equal(engine_checkpoint_wait(engine, id), 0);
    assert_int_equal(engine_checkpoint_view(engine, id, &view), 0);
    renames = fault_io_count(fixture->fault, FAULT_RENAME);
    fault_io_fail(fixture->fault, FAULT_RENAME, 1, -ENOSPC, false);
    assert_int_equal(engine_checkpoint_delete(engine, id), 0);
    while (fault_io_count(fixture->fault, FAULT_RENAME) == renames)
        usleep(1000);
    put_all(engine, 2);
    successor = create(engine, "a");
    assert_int_equal(engine_checkpoint_wait(engine, successor), 0);
    expect_in(engine, successor, 2);
    expect_in_view(view, 1);
    engine_view_release(view);
    wait_for_deletions(engine);
    expect_in(engine, successor, 2);
}

static void a_name_is_free_for_a_rename_before_its_directory_is_gone(void **state)
{
    struct engine_fault_fixture *fixture = *state;
    struct engine *engine = fixture->engine;
    uint64_t gone, stays;

    put_all(engine, 1);
    gone = create(engine, "gone");
    put_all(engine, 2);
    stays = create(engine, "stays");
    assert_int_equal(engine_checkpoint_wait(engine, gone), 0);
    assert_int_equal(engine_checkpoint_wait(engine, stays), 0);
    fault_io_stall(fixture->fault, FAULT_LINK, 1);
    (void)create(engine, "in the way");
    fault_io_wait_stalled(fixture->fault);
    assert_int_equal(engine_checkpoint_delete(engine, gone), 0);
    assert_true(exists(fixture, "checkpoints/gone"));
    assert_int_equal(engine_checkpoint_rename(engine, stays, slice_of_string("gone")), 0);
    expect_in(engine, stays, 2);
    fault_io_clear(fixture->fault, FAULT_LINK);
    wait_for_deletions(engine);
    for (int round = 0; round < 2; round++) {
        assert_true(exists(fixture, "checkpoints/gone"));
        assert_false(exists(fixture, "checkpoints/stays"));
        expect_in(fixture->engine, stays, 2);
        reopen(fixture);
    }
}

struct reader {
    struct engine *engine;
    uint64_t id;
    atomic_bool stop;
    atomic_uint tries;
    int worst;
};

static void *read_on(void *context)
{
    struct reader *reader = context;

    while (!atomic_load(&reader->stop)) {
        struct engine_view *view;
        int result = engine_checkpoint_view(reader->engine, reader->id, &view);

        atomic_fetch_add(&reader->tries, 1);
        if (result == 0)
            engine_view_release(view);
        else if (result != -ENOENT || reader->worst == 0)
            reader->worst = result;
    }
    return NULL;
}

static void opening_one_that_is_renamed_meanwhile_finds_it(void **state)
{
    struct engine_fault_fixture *fixture = *state;
    struct reader reader = {.engine = fixture->engine};
    pthread_t thread;

    put_all(fixture->engine, 1);
    reader.id = create(fixture->engine, "0");
    assert_int_equal(engine_checkpoint_wait(fixture->engine, reader.id), 0);
    assert_int_equal(pthread_create(&thread, NULL, read_on, &reader), 0);
    for (int i = 1; atomic_load(&reader.tries) < OPENINGS; i++) {
        char name[16];

        snprintf(name, sizeof name, "%d", i);
        assert_int_equal(
            engine_checkpoint_rename(fixture->engine, reader.id, slice_of_string(name)), 0);
    }
    atomic_store(&reader.stop, true);
    pthread_join(thread, NULL);
    assert_int_equal(reader.worst, 0);
}

static void opening_one_that_is_deleted_meanwhile_is_no_damage(void **state)
{
    struct engine_fault_fixture *fixture = *state;

    put_all(fixture->engine, 1);
    for (int i = 0; i < 50; i++) {
        struct reader reader = {.engine = fixture->engine, .id = create(fixture->engine, "a")};
        pthread_t thread;

        assert_int_equal(engine_checkpoint_wait(fixture->engine, reader.id), 0);
        assert_int_equal(pthread_create(&thread, NULL, read_on, &reader), 0);
        usleep(300);
        assert_int_equal(engine_checkpoint_delete(fixture->engine, reader.id), 0);
        wait_for_deletions(fixture->engine);
        atomic_store(&reader.stop, true);
        pthread_join(thread, NULL);
        assert_true(reader.worst == 0 || reader.worst == -ENOENT);
    }
}

static void *create_one_more(void *context)
{
    struct reader *creator = context;

    creator->id = create(creator->engine, "one more");
    atomic_store(&creator->stop, true);
    return NULL;
}

static void what_waits_to_be_made_is_bounded(void **state)
{
    struct engine_fault_fixture *fixture = *state;
    struct reader creator = {.engine = fixture->engine};
    struct engine_statistics statistics;
    pthread_t thread;

    put_all(fixture->engine, 1);
    assert_int_equal(engine_flush(fixture->engine), 0);
    fault_io_stall(fixture->fault, FAULT_LINK, 1);
    for (int i = 0; i < CHECKPOINTS_PENDING_MAX; i++) {
        char name[16];

        snprintf(name, sizeof name, "%d", i);
        (void)create(fixture->engine, name);
    }
    assert_int_equal(pthread_create(&thread, NULL, create_one_more, &creator), 0);
    usleep(300000);
    assert_false(atomic_load(&creator.stop));
    fault_io_clear(fixture->fault, FAULT_LINK);
    pthread_join(thread, NULL);
    assert_int_equal(engine_checkpoint_wait(fixture->engine, creator.id), 0);
    expect_in(fixture->engine, creator.id, 1);
    engine_get_statistics(fixture->engine, &statistics);
    assert_int_equal(statistics.checkpoints, CHECKPOINTS_PENDING_MAX + 1);
}

struct renamer {
    struct engine *engine;
    uint64_t id;
    int result;
};

static void *rename_to_wanted(void *context)
{
    struct renamer *renamer = context;

    renamer->result =
        engine_checkpoint_rename(renamer->engine, renamer->id, slice_of_string("wanted"));
    return NULL;
}

/* The manifest has the new name, the disk not yet. */
static void a_name_that_one_is_just_being_given_is_taken(void **state)
{
    struct engine_fault_fixture *fixture = *state;
    struct renamer renamer = {.engine = fixture->engine, .id = create(fixture->engine, "first")};
    pthread_t thread;
    uint64_t other;

    assert_int_equal(engine_checkpoint_wait(fixture->engine, renamer.id), 0);
    fault_io_stall(fixture->fault, FAULT_RENAME, 1);
    assert_int_equal(pthread_create(&thread, NULL, rename_to_wanted, &renamer), 0);
    fault_io_wait_stalled(fixture->fault);
    assert_int_equal(engine_checkpoint_create(fixture->engine, slice_of_string("wanted"),
                                              slice_of("", 0), &other),
                     -EEXIST);
    fault_io_clear(fixture->fault, FAULT_RENAME);
    pthread_join(thread, NULL);
    assert_int_equal(renamer.result, 0);
    (void)create(fixture->engine, "first");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(deleting_does_not_wait_for_the_making),
        TEST(a_deleted_one_that_was_being_made_leaves_nothing),
        TEST(who_reads_a_deleted_one_is_not_hurt_by_its_successor),
        TEST(nor_when_a_shortage_keeps_the_old_directory_in_its_place),
        TEST(a_name_is_free_for_a_rename_before_its_directory_is_gone),
        TEST(opening_one_that_is_renamed_meanwhile_finds_it),
        TEST(a_name_that_one_is_just_being_given_is_taken),
        TEST(opening_one_that_is_deleted_meanwhile_is_no_damage),
        TEST(what_waits_to_be_made_is_bounded),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
