/* SPDX-License-Identifier: Apache-2.0 */
/*
 * crash_history_internal.h - what crash_history.c, crash_state.c and crash_oracle.c share
 */
#ifndef VARVE_TESTS_LIB_CRASH_HISTORY_INTERNAL_H
#define VARVE_TESTS_LIB_CRASH_HISTORY_INTERNAL_H

#include "tests/lib/crash_history.h"

/* Records; or a rollback: from `first` on the state is that at `target`, with the batch of
 * `also_count` records that ends at `first` applied to it. */
struct crash_batch {
    uint64_t first;
    uint32_t count;
    struct buffer bytes;
    bool is_rollback;
    uint64_t target;
    uint32_t also_count;
};

/* Bytes of a blob chunk, as they were handed in. */
struct crash_frame {
    uint64_t chunk_id, position;
    uint32_t size;
    uint8_t *data;
};

/* Of a history; what it forked from has those before, or those that were lost: an id of which
 * nothing survived may come again. */
struct crash_frames {
    unsigned references;
    struct crash_frames *parent;
    struct crash_frame *list;
    size_t count, room;
};

enum crash_event_kind {
    CRASH_EVENT_SYNCED,  /* everything up to `sequence` */
    CRASH_EVENT_CREATED, /* a checkpoint, acknowledged */
    CRASH_EVENT_DELETE_BEGUN,
    CRASH_EVENT_DELETED,
    CRASH_EVENT_RENAME_BEGUN,
    CRASH_EVENT_RENAMED,
    CRASH_EVENT_RENAME_FAILED,
    CRASH_EVENT_ROLLED_BACK, /* at `sequence`, acknowledged */
    CRASH_EVENT_TREE,        /* of a filesystem: from `sequence` on its digest is `id` */
};

struct crash_event {
    enum crash_event_kind kind;
    uint64_t sequence;
    uint64_t id;
    char *name;
};

struct crash_digest {
    uint64_t sequence, digest;
};

struct crash_history {
    unsigned references;
    struct crash_batch *batches;
    size_t batch_count, batch_room;
    bool is_sorted;
    struct crash_frames *frames;
    struct crash_event *events;
    size_t event_count, event_room;
    struct crash_digest *digests; /* of states asked for before */
    size_t digest_count, digest_room;
};

void *crash_must(void *memory);
/* Room for one more element of the array at *array (a pointer to a pointer). */
void crash_grow(void *array, size_t *room, size_t count, size_t element);
char *crash_text(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Batches by sequence number: those of several threads come in any order. */
void crash_history_sort(struct crash_history *history);

/* The digest of the state at `sequence`; false when that lies in the middle of a batch. */
bool crash_history_digest(struct crash_history *history, uint64_t sequence, uint64_t *ret_digest);
/* The same, had the rollback at `sequence` not come to be; false when there is none. */
bool crash_history_digest_before_rollback(struct crash_history *history, uint64_t sequence,
                                          uint64_t *ret_digest);
/* Of all that a view shows. */
int crash_view_digest(struct engine_view *view, uint64_t *ret_digest);

#endif
