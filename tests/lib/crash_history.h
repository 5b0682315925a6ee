/* SPDX-License-Identifier: Apache-2.0 */
/*
 * crash_history.h - what was asked of an engine, and what a crash may therefore leave of it
 *
 * While a history records, every batch, frame of file data, sync and checkpoint call that enters
 * the engine is noted on its way (the linker puts the recorder between: --wrap of engine_write,
 * engine_sync, engine_blob..., see crash_history_wraps in tests/meson.build), whoever makes it: a
 * test, the filesystem, the snapshot layer. A cut notes how long the list of events was. Afterwards
 * the history tells what must have survived:
 *   P1  no sequence number that was synced before the cut is lost;
 *   P2  the state is that of all batches up to one sequence number, the last that the engine says;
 *   P3  no batch is there in part;
 *       (a rollback is such a batch too);
 *   P5  a checkpoint whose mark lies in that prefix exists with exactly the state at its mark
 * unless its deletion had begun; one whose deletion had returned does not exist. Content is
 * compared, not references: compaction may have moved file data.
 *
 * Threads: recording from any thread; the rest by one thread while nobody records.
 */
#ifndef VARVE_TESTS_LIB_CRASH_HISTORY_H
#define VARVE_TESTS_LIB_CRASH_HISTORY_H

#include "engine/engine.h"

struct crash_history;

/* Of an engine that is empty. */
struct crash_history *crash_history_new(void);
struct crash_history *crash_history_ref(struct crash_history *history);
void crash_history_unref(struct crash_history *history);

/* A store with this history is about to be opened; crash_history_fork() follows. */
void crash_history_expect(struct crash_history *history);

/*
 * The history of the store that was recovered at `sequence` with `event_count` events known: what
 * comes after is forgotten, checkpoints that are not in the engine any more were never there.
 */
struct crash_history *crash_history_fork(struct crash_history *history, struct engine *engine);

/* Record what enters `engine`, until it is called with NULL. */
void crash_history_record(struct crash_history *history, struct engine *engine);

/* Everything that entered by now counts as synced: fs_fsync() returned, or engine_close(). */
void crash_history_note_synced(struct crash_history *history, uint64_t sequence);

/*
 * A filesystem's tree has this digest from `sequence` on, until the next one is noted. What it was
 * at a sequence number: false when nothing was noted by then.
 */
void crash_history_note_tree(struct crash_history *history, uint64_t sequence, uint64_t digest);
bool crash_history_tree(struct crash_history *history, uint64_t sequence, uint64_t *ret_digest);
/* Where the last rollback took effect; 0: there was none. */
uint64_t crash_history_rollback_sequence(struct crash_history *history);

/* Events so far; for the observer of a disk. */
size_t crash_history_events(struct crash_history *history);

/* The highest sequence number synced when there were `event_count` events. */
uint64_t crash_history_floor(struct crash_history *history, size_t event_count);

/* The last sequence number that was given out. */
uint64_t crash_history_last(struct crash_history *history);

/*
 * Is what the engine recovered allowed? NULL, or what is wrong (to be freed). *ret_digest stands
 * for the whole of what was found: state, checkpoints, names.
 */
char *crash_history_check(struct crash_history *history, size_t event_count, struct engine *engine,
                          uint64_t *ret_digest);

/* Is the view what the history says of its sequence number? NULL, or what is wrong. */
char *crash_history_check_view(struct crash_history *history, struct engine_view *view,
                               uint64_t *ret_digest);

#endif
