/* SPDX-License-Identifier: Apache-2.0 */
/*
 * crash_faults.c - a disk that fails, and then the power goes
 *
 * The disk of the crash tests behind an I/O that makes one call fail, or that and all later ones of
 * its kind. What was acknowledged before, and while it failed, is there after the cut, and nothing but
 * what was asked for.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "engine/base/log.h"
#include "tests/lib/crash_fixture.h"
#include "tests/lib/fault_io.h"

#define KEYS      8
#define STEPS     40
#define SYNC_STEP 3 /* every so many there is a sync */
#define NTH_MAX   200

/* Step s gives key s % KEYS the value s. */
struct run {
    unsigned begun, durable; /* steps */
    unsigned snapshot;       /* the step that it was taken after; 0: none was acknowledged */
};

static void key_of(char to[8], unsigned step)
{
    snprintf(to, 8, "k%u", step % KEYS);
}

static int put_step(struct engine *engine, unsigned step)
{
    struct batch batch = {0};
    char key[8], value[16];
    int error;

    key_of(key, step);
    snprintf(value, sizeof value, "%u", step);
    batch_put(&batch, slice_of_string(key), slice_of_string(value));
    error = engine_write(engine, &batch, NULL);
    batch_free(&batch);
    return error;
}

static void take_snapshot(struct engine *engine, struct run *run, unsigned step)
{
    uint64_t id;

    if (engine_checkpoint_create(engine, slice_of_string("kept"), slice_of("", 0), &id) != 0)
        return;
    run->snapshot = run->durable = step;
    (void)engine_checkpoint_wait(engine, id);
}

static void work(struct engine *engine, struct run *run)
{
    for (unsigned step = 1; step <= STEPS; step++) {
        run->begun = step;
        if (put_step(engine, step) != 0)
            return;
        if (step % SYNC_STEP == 0 && engine_sync(engine, engine_sequence(engine)) == 0)
            run->durable = step;
        if (step == STEPS / 2)
            take_snapshot(engine, run, step);
        if (step % 10 == 0)
            (void)engine_flush(engine);
    }
    (void)engine_compact(engine);
}

/* The step after which the view was like this; fails when it never was. */
static unsigned step_of(struct engine_view *view)
{
    unsigned steps[KEYS] = {0}, last = 0;

    for (unsigned i = 0; i < KEYS; i++) {
        struct buffer value = {0};
        char key[8], text[16] = "";

        key_of(key, i);
        if (engine_view_get(view, slice_of_string(key), &value, NULL) == 1) {
            assert_true(value.size < sizeof text);
            memcpy(text, value.data, value.size);
            steps[i] = (unsigned)strtoul(text, NULL, 10);
        }
        buffer_free(&value);
        if (steps[i] > last)
            last = steps[i];
    }
    for (unsigned step = last > KEYS ? last - KEYS + 1 : 1; step <= last; step++)
        assert_int_equal(steps[step % KEYS], step);
    return last;
}

static int find_kept(void *context, const struct engine_checkpoint_info *info)
{
    *(uint64_t *)context = info->id;
    return 1;
}

static void check(struct crash_place *place, const struct run *run, struct disk_model *cut)
{
    struct engine_view *view;
    struct engine *engine;
    uint64_t id = 0;

    open_at(cut, place->other, &place->options, &engine);
    view = engine_view_acquire(engine);
    assert_in_range(step_of(view), run->durable, run->begun);
    engine_view_release(view);
    (void)engine_checkpoint_each(engine, find_kept, &id);
    if (run->snapshot > 0) {
        assert_true(id > 0);
        assert_int_equal(engine_checkpoint_view(engine, id, &view), 0);
        assert_int_equal(step_of(view), run->snapshot);
        engine_view_release(view);
    }
    assert_int_equal(engine_close(engine), 0);
    disk_model_set_base(cut, "");
}

/* False: there were no so many calls of the kind. */
static bool try_fault(enum fault_call call, uint64_t nth, int error, bool for_ever)
{
    struct run run = {0};
    struct crash_place place;
    struct fault_io *fault;
    struct engine_options options;
    struct engine *engine;
    uint64_t before;
    bool struck;

    crash_place_begin(&place);
    crash_place_make_store(&place, 16384);
    fault = fault_io_new(disk_model_io(place.disk));
    options = place.options;
    options.path = test_path(place.base, "store");
    options.io = fault_io_get(fault);
    assert_int_equal(engine_open(&options, &engine), 0);
    before = fault_io_count(fault, call);
    fault_io_fail(fault, call, nth, error, for_ever);
    work(engine, &run);
    struck = fault_io_count(fault, call) - before >= nth;
    engine_cut(engine);
    fault_io_clear(fault, call);
    (void)engine_close(engine);
    disk_model_set_base(place.disk, "");
    for (uint64_t seed = 0; struck && seed < CUTS; seed++) {
        struct disk_model *cut = disk_model_cut(place.disk, seed);

        check(&place, &run, cut);
        disk_model_free(cut);
    }
    fault_io_free(fault);
    free((char *)(uintptr_t)options.path);
    crash_place_end(&place);
    return struck;
}

/* The first calls one by one, later ones less and less often. */
static void try_all(enum fault_call call, int error)
{
    uint64_t nth = 1;

    for (; nth <= NTH_MAX; nth += 1 + nth / 4)
        for (unsigned for_ever = 0; for_ever < 2; for_ever++)
            if (!try_fault(call, nth, error, for_ever != 0))
                goto out;
out:
    assert_true(nth > 1);
}

static void what_was_acknowledged_survives_a_failing_write_and_a_cut(void **state)
{
    (void)state;
    try_all(FAULT_WRITE, -EIO);
    try_all(FAULT_WRITE, -ENOSPC);
}

static void what_was_acknowledged_survives_a_failing_sync_and_a_cut(void **state)
{
    (void)state;
    try_all(FAULT_SYNC, -EIO);
}

static void what_was_acknowledged_survives_failing_names_and_a_cut(void **state)
{
    (void)state;
    try_all(FAULT_OPEN, -EIO);
    try_all(FAULT_OPEN, -ENOSPC);
    try_all(FAULT_RENAME, -EIO);
    try_all(FAULT_LINK, -EIO);
    try_all(FAULT_CHMOD, -EIO);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_acknowledged_survives_a_failing_write_and_a_cut),
        cmocka_unit_test(what_was_acknowledged_survives_a_failing_sync_and_a_cut),
        cmocka_unit_test(what_was_acknowledged_survives_failing_names_and_a_cut),
    };

    log_set_level(LOG_LEVEL_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
