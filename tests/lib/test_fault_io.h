/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_fault_io.h - an I/O backend that passes everything on, and fails when told to
 *
 * Counted are the calls that change the disk or make changes durable: creating opens, writes,
 * syncs, truncate, chmod, mkdir, rename, link and (only when `stop` is set) unlink. Call number
 * `fail_at`, from 1, returns `error` and does nothing. With `stop` every later one fails too: what
 * is on the disk then is what a crash at that call leaves, as far as a process can tell.
 *
 * Threads: every function from any thread.
 */
#ifndef VARVE_TESTS_LIB_TEST_FAULT_IO_H
#define VARVE_TESTS_LIB_TEST_FAULT_IO_H

#include "engine/base/io.h"

struct test_fault_io {
    struct io io; /* give out &fault.io */
    struct io *inner;
    _Atomic uint64_t calls;   /* counted so far */
    _Atomic uint64_t fail_at; /* 0: never */
    _Atomic int error;
    _Atomic bool stop;
};

/* Wrap `inner`, which outlives the wrapper. Nothing has to be closed. */
void test_fault_io_init(struct test_fault_io *fault, struct io *inner);

/* Start counting anew and fail at call `fail_at`. */
void test_fault_io_arm(struct test_fault_io *fault, uint64_t fail_at, int error, bool stop);

/* Has the armed call come? */
bool test_fault_io_struck(const struct test_fault_io *fault);

#endif
