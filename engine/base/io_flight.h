/* SPDX-License-Identifier: Apache-2.0 */
/*
 * io_flight.h - which calls of a disk are under way, and a watchdog that names those that hang (R7)
 *
 * Every call that may wait for a disk takes one of IO_FLIGHTS slots of its backend and frees it at
 * its end: two atomic exchanges on memory that its thread nearly always has to itself. It asks for
 * no time: the watchdog, which looks now and then, sees by a slot's number whether it is still the
 * same call. Reads that the kernel has in memory, closing, listing and locking take none.
 *
 * While the watchdog reads a slot it holds it, and the call, should it end just then, waits for the
 * few microseconds: file and name are alive for that long.
 *
 * Threads: begin and end from any; a watchdog belongs to one.
 */
#ifndef VARVE_ENGINE_BASE_IO_FLIGHT_H
#define VARVE_ENGINE_BASE_IO_FLIGHT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define IO_FLIGHTS         64
#define IO_WATCH_TEXT_SIZE 384

struct io;
struct io_file;

enum io_operation {
    IO_OPERATION_OPEN,
    IO_OPERATION_READ,
    IO_OPERATION_WRITE,
    IO_OPERATION_SYNC,
    IO_OPERATION_SYNC_FILESYSTEM,
    IO_OPERATION_TRUNCATE,
    IO_OPERATION_STAT,
    IO_OPERATION_CHMOD,
    IO_OPERATION_MKDIR,
    IO_OPERATION_UNLINK,
    IO_OPERATION_RENAME,
    IO_OPERATION_LINK,
    IO_OPERATION_CLONE,
    IO_OPERATION_SPACE,
    IO_OPERATION_COMMIT, /* LMDB's */
};

/* A slot; private to io_flight.c. */
struct io_flight {
    unsigned state; /* atomic */
    enum io_operation operation;
    uint64_t number; /* of the call, rising */
    struct io_file *file;
    const char *name;
    uint64_t offset;
    size_t size;
};

/* NULL: more calls than slots are under way, and this one is not watched. `file`, or the directory of
 * `name`, and `name` (either may be NULL) live until the end. */
struct io_flight *io_flight_begin(struct io *io, enum io_operation operation, struct io_file *file,
                                  const char *name, uint64_t offset, size_t size);
void io_flight_end(struct io_flight *flight); /* accepts NULL */

/* ---- the watchdog ---- */

struct io_watch;

/* What takes longer than `deadline_ns` hangs. NULL: out of memory. */
struct io_watch *io_watch_new(struct io *io, uint64_t deadline_ns);
void io_watch_free(struct io_watch *watch); /* accepts NULL */

/*
 * Look at all calls; a few times within the deadline, so that what is said of their age is right to
 * that. Logs each that hangs: operation, file and how long; again when it has become twice as old;
 * and that it ended. Returns how many hang now.
 */
unsigned io_watch_look(struct io_watch *watch, uint64_t now_ns);

/* The oldest of them, as it was logged, with its present age; "" when none hangs. */
void io_watch_describe(const struct io_watch *watch, uint64_t now_ns, char to[IO_WATCH_TEXT_SIZE]);

#endif
