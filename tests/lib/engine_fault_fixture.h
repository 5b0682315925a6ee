/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine_fault_fixture.h - the store of engine_fixture.h on a disk that misbehaves when told to
 */
#ifndef VARVE_TESTS_LIB_ENGINE_FAULT_FIXTURE_H
#define VARVE_TESTS_LIB_ENGINE_FAULT_FIXTURE_H

#include "tests/lib/engine_fixture.h"
#include "tests/lib/fault_io.h"

struct engine_fault_fixture {
    struct engine_fixture *base;
    struct fault_io *fault;
    struct engine *engine; /* the base's; a test that opens it anew says so here */
};

static inline int engine_fault_fixture_setup(void **state)
{
    struct engine_fault_fixture *fixture = calloc(1, sizeof *fixture);
    void *base;

    assert_non_null(fixture);
    assert_int_equal(engine_fixture_setup(&base), 0);
    fixture->base = base;
    engine_fixture_close(fixture->base);
    fixture->fault = fault_io_new(fixture->base->io);
    fixture->base->options.io = fault_io_get(fixture->fault);
    engine_fixture_open(fixture->base);
    fixture->engine = fixture->base->engine;
    *state = fixture;
    return 0;
}

static inline int engine_fault_fixture_teardown(void **state)
{
    struct engine_fault_fixture *fixture = *state;
    void *base = fixture->base;

    for (enum fault_call call = 0; call < FAULT_CALL_COUNT; call++)
        fault_io_clear(fixture->fault, call);
    if (fixture->base->engine != NULL)
        (void)engine_close(fixture->base->engine);
    fixture->base->engine = NULL;
    fault_io_free(fixture->fault);
    assert_int_equal(engine_fixture_teardown(&base), 0);
    free(fixture);
    return 0;
}

#endif
