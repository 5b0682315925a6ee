/* SPDX-License-Identifier: Apache-2.0 */
/*
 * io_flight.c - the table of calls under way, and who looks at it
 */
#include "engine/base/io_flight.h"

#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/io.h"
#include "engine/base/log.h"

enum { FLIGHT_FREE, FLIGHT_TAKEN, FLIGHT_BUSY, FLIGHT_HELD };

static const char *const operation_names[] = {
    [IO_OPERATION_OPEN] = "opening",
    [IO_OPERATION_READ] = "a read",
    [IO_OPERATION_WRITE] = "a write",
    [IO_OPERATION_SYNC] = "a sync",
    [IO_OPERATION_SYNC_FILESYSTEM] = "a sync of the file system",
    [IO_OPERATION_TRUNCATE] = "a change of size",
    [IO_OPERATION_STAT] = "a question for attributes",
    [IO_OPERATION_CHMOD] = "a change of mode",
    [IO_OPERATION_MKDIR] = "making a directory",
    [IO_OPERATION_UNLINK] = "a removal",
    [IO_OPERATION_RENAME] = "a rename",
    [IO_OPERATION_LINK] = "a link",
    [IO_OPERATION_CLONE] = "a clone",
    [IO_OPERATION_SPACE] = "a question for free space",
    [IO_OPERATION_COMMIT] = "a commit",
};

/* ---- calls ---- */

/* Threads begin their search at slots of their own, as far as there are enough. */
static unsigned home_slot(void)
{
    static unsigned next;
    static __thread unsigned home;

    if (home == 0)
        home = __atomic_add_fetch(&next, 1, __ATOMIC_RELAXED) % IO_FLIGHTS + IO_FLIGHTS;
    return home % IO_FLIGHTS;
}

static bool flight_move(struct io_flight *flight, unsigned from, unsigned to)
{
    return __atomic_compare_exchange_n(&flight->state, &from, to, false, __ATOMIC_ACQ_REL,
                                       __ATOMIC_RELAXED);
}

static struct io_flight *flight_take(struct io *io)
{
    unsigned home = home_slot();

    for (unsigned i = 0; i < IO_FLIGHTS; i++) {
        struct io_flight *flight = &io->flights[(home + i) % IO_FLIGHTS];

        if (__atomic_load_n(&flight->state, __ATOMIC_RELAXED) == FLIGHT_FREE &&
            flight_move(flight, FLIGHT_FREE, FLIGHT_TAKEN))
            return flight;
    }
    return NULL;
}

struct io_flight *io_flight_begin(struct io *io, enum io_operation operation, struct io_file *file,
                                  const char *name, uint64_t offset, size_t size)
{
    struct io_flight *flight = flight_take(io);

    if (flight == NULL)
        return NULL;
    flight->operation = operation;
    flight->number++;
    flight->file = file;
    flight->name = name;
    flight->offset = offset;
    flight->size = size;
    __atomic_store_n(&flight->state, FLIGHT_BUSY, __ATOMIC_RELEASE);
    return flight;
}

void io_flight_end(struct io_flight *flight)
{
    if (flight == NULL)
        return;
    while (!flight_move(flight, FLIGHT_BUSY, FLIGHT_FREE))
        (void)sched_yield(); /* it is being looked at */
}

/* ---- the watchdog ---- */

/* What is known of a slot. */
struct watched {
    uint64_t number;    /* of the call that was seen last; 0: none */
    uint64_t since_ns;  /* and when first */
    uint64_t report_ns; /* its age at the next report */
    bool is_reported;
    char text[IO_WATCH_TEXT_SIZE];
};

struct io_watch {
    struct io *io;
    uint64_t deadline_ns;
    struct watched slots[IO_FLIGHTS];
};

struct io_watch *io_watch_new(struct io *io, uint64_t deadline_ns)
{
    struct io_watch *watch = calloc(1, sizeof *watch);

    if (watch != NULL) {
        watch->io = io;
        watch->deadline_ns = deadline_ns;
    }
    return watch;
}

void io_watch_free(struct io_watch *watch)
{
    free(watch);
}

/* "a write of 4096 bytes at 0 to /store/wal/..." The slot is held. */
static void describe(struct io *io, const struct io_flight *flight, char *to)
{
    char path[IO_WATCH_TEXT_SIZE / 2] = "", extent[64] = "";
    const char *separator = "";

    if (flight->file != NULL &&
        (io->ops->path == NULL || io->ops->path(io, flight->file, path, sizeof path) < 0))
        snprintf(path, sizeof path, "a file of the store");
    if (flight->size > 0)
        snprintf(extent, sizeof extent, " of %zu bytes at %" PRIu64, flight->size, flight->offset);
    if (flight->file != NULL && flight->name != NULL)
        separator = "/";
    snprintf(to, IO_WATCH_TEXT_SIZE, "%s%s: %s%s%.150s", operation_names[flight->operation], extent,
             path, separator, flight->name != NULL ? flight->name : "");
}

static double seconds(uint64_t ns)
{
    return (double)ns / 1e9;
}

static void forget(struct watched *watched, uint64_t now_ns)
{
    if (watched->is_reported)
        log_warning("the disk answers again after %.1f s: %s", seconds(now_ns - watched->since_ns),
                    watched->text);
    watched->number = 0;
    watched->is_reported = false;
}

/* The slot is held. */
static void look_at(struct io_watch *watch, struct watched *watched, const struct io_flight *flight,
                    uint64_t now_ns)
{
    if (watched->number != flight->number) {
        forget(watched, now_ns);
        watched->number = flight->number;
        watched->since_ns = now_ns;
        watched->report_ns = watch->deadline_ns;
    }
    if (now_ns - watched->since_ns >= watched->report_ns && !watched->is_reported)
        describe(watch->io, flight, watched->text);
}

unsigned io_watch_look(struct io_watch *watch, uint64_t now_ns)
{
    unsigned hanging = 0;

    for (unsigned i = 0; i < IO_FLIGHTS; i++) {
        struct io_flight *flight = &watch->io->flights[i];
        struct watched *watched = &watch->slots[i];
        uint64_t age_ns;

        if (!flight_move(flight, FLIGHT_BUSY, FLIGHT_HELD)) {
            if (watched->number != 0)
                forget(watched, now_ns);
            continue;
        }
        look_at(watch, watched, flight, now_ns);
        __atomic_store_n(&flight->state, FLIGHT_BUSY, __ATOMIC_RELEASE);

        age_ns = now_ns - watched->since_ns;
        if (age_ns < watch->deadline_ns)
            continue;
        hanging++;
        if (age_ns >= watched->report_ns) {
            log_error("the disk has not answered for %.1f s: %s", seconds(age_ns), watched->text);
            watched->is_reported = true;
            watched->report_ns = 2 * age_ns;
        }
    }
    return hanging;
}

void io_watch_describe(const struct io_watch *watch, uint64_t now_ns, char to[IO_WATCH_TEXT_SIZE])
{
    const struct watched *oldest = NULL;

    for (unsigned i = 0; i < IO_FLIGHTS; i++) {
        const struct watched *watched = &watch->slots[i];

        if (watched->is_reported && (oldest == NULL || watched->since_ns < oldest->since_ns))
            oldest = watched;
    }
    to[0] = '\0';
    if (oldest != NULL)
        snprintf(to, IO_WATCH_TEXT_SIZE, "%.1f s: %.340s", seconds(now_ns - oldest->since_ns),
                 oldest->text);
}
