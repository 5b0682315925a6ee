/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fault_io.h - an I/O backend that passes everything on, and misbehaves by kind of call
 *
 * Each kind of call is counted by attempts (a write that the wrapper io_write() continues counts
 * twice). A plan for a kind says at which attempt, counted from when it is set, what happens: the
 * call fails, once or from then on for ever; a transfer is cut short; the call waits until it is
 * let go. One plan a kind. Where all calls together are to be counted, see test_fault_io.h.
 *
 * Threads: any.
 */
#ifndef VARVE_TESTS_LIB_FAULT_IO_H
#define VARVE_TESTS_LIB_FAULT_IO_H

#include "engine/base/io.h"

enum fault_call {
    FAULT_OPEN,
    FAULT_READ, /* also each of a batch */
    FAULT_WRITE,
    FAULT_SYNC, /* of files, directories and file systems */
    FAULT_TRUNCATE,
    FAULT_CHMOD,
    FAULT_RENAME,
    FAULT_LINK,
    FAULT_UNLINK,
    FAULT_SPACE,
    FAULT_CALL_COUNT
};

struct fault_io;

/* `inner` outlives it. Aborts when out of memory. */
struct fault_io *fault_io_new(struct io *inner);
void fault_io_free(struct fault_io *fault); /* accepts NULL */

/* The backend to hand out; lives as long as `fault`. */
struct io *fault_io_get(struct fault_io *fault);

/* Attempt `nth` (1: the next one) returns `error`, and with `for_ever` all later ones do. */
void fault_io_fail(struct fault_io *fault, enum fault_call call, uint64_t nth, int error,
                   bool for_ever);

/* Reads or writes from attempt `nth` on move at most `size` bytes; once, or for ever. */
void fault_io_cut(struct fault_io *fault, enum fault_call call, uint64_t nth, size_t size,
                  bool for_ever);

/* Attempt `nth` and all later ones wait, until fault_io_clear() lets them go or fault_io_fail()
 * makes them fail. */
void fault_io_stall(struct fault_io *fault, enum fault_call call, uint64_t nth);

/* Return when a call stalls. */
void fault_io_wait_stalled(struct fault_io *fault);

/* Forget the plan for `call` and let go who waits. */
void fault_io_clear(struct fault_io *fault, enum fault_call call);

/* Every read of the byte at `offset` of any file gives it with the bits of `mask` turned over; 0:
 * none any more. */
void fault_io_rot(struct fault_io *fault, uint64_t offset, uint8_t mask);

/* The free space that io_space() reports from now on; UINT64_MAX: the true one. */
void fault_io_set_space(struct fault_io *fault, uint64_t total_bytes, uint64_t free_bytes);

/* Attempts so far. */
uint64_t fault_io_count(struct fault_io *fault, enum fault_call call);

#endif
