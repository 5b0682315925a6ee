/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine.h - ordered keys to values with history: the one header that layers above include
 *
 * Owns:       a store directory (store.h) and everything in it.
 * Guarantees: a batch is applied wholly or not at all, also after a crash; engine_write() acknowledges
 *             from memory; after engine_sync(n) returned 0 every record with a sequence number <= n
 *             survives power loss; after a crash the state is that of a prefix of the batches, no
 *             earlier than the last sync and no earlier than the sync window.
 *             Every read is right or an error (P4). A view never changes.
 * Failure:    after the first failed write or sync of the WAL, of a blob chunk or of the manifest the
 *             engine latches (P6): writes return ERROR_LATCHED, reads go on; engine_latch_reason()
 *             says why. Only a new open clears it. A shortage (error_is_shortage()) that anything but
 *             a sync meets does not latch: it is tried again, and until it is over who syncs, or would
 *             have to wait for room, is given it (P7).
 * Bounds:     memtables, WAL buffer, unwritten blob data and L0 tables are bounded; past a bound
 *             engine_write() and engine_blob_append() wait (blocking_enter()).
 * Threads:    every function from any thread. It starts: a WAL thread (sync window), a flush thread, a
 *             compaction thread, a checkpoint thread, a blob writer thread, a monitor (alerts, and calls of
 *             the disk that hang), and helpers that compress, one less than there are CPUs;
 *             engine_close() ends them.
 *             Sequence numbers: one per record, rising without gaps, in the one order of
 *             acknowledgement.
 * Locks:      docs/concurrency.md.
 */
#ifndef VARVE_ENGINE_ENGINE_H
#define VARVE_ENGINE_ENGINE_H

#include "engine/base/bytes.h"
#include "engine/base/error.h"
#include "engine/base/io.h"
#include "engine/batch.h"
#include "engine/blob_ref.h"
#include "engine/record.h"
#include "engine/store.h"

struct engine;

struct engine_options {
    const char *path;
    struct io *io;          /* outlives the engine */
    bool read_only;         /* as engine_set_read_only() says; a checkpoint directory always is */
    bool frozen;            /* read-only for good: nothing is written, not even what recovery would */
    size_t memtable_bytes;  /* a memtable is frozen at this size */
    uint32_t memtables_max; /* frozen ones waiting for flush; writers wait past it */
    size_t block_cache_bytes;
    uint64_t wal_segment_bytes;
    size_t wal_buffer_bytes;        /* of batches not yet written to the WAL */
    uint32_t blob_buffers;          /* MiB of file data not yet written */
    uint64_t blob_sync_ahead_bytes; /* file data is synced whenever so much is not; 0: never */
    uint32_t sync_window_ms;   /* acknowledged work is durable after this long; 0: only on demand */
    uint32_t descriptors_max;  /* open blob chunks */
    uint64_t table_bytes;      /* target size of a table */
    uint64_t level_base_bytes; /* target size of level 1 */
    uint32_t io_deadline_ms;   /* a call of the disk that takes longer is named in the log; 0: none */
    uint32_t alert_second_ms;  /* what a second is to alerts: 1000, less in tests */
};

/* Fill in the defaults. */
void engine_options_default(struct engine_options *options);

/* Open, recovering what a crash left. The errors of store_open(), ERROR_CORRUPT,
 * ERROR_MISSING_CHUNK, ERROR_VERSION_NEWER, -ENOMEM, I/O errors. */
int engine_open(const struct engine_options *options, struct engine **ret_engine);

/* Make everything durable, finish pending checkpoints, mark the store clean, free. The store is closed
 * and everything freed also when an error is returned. Every view must have been released. */
int engine_close(struct engine *engine);

/*
 * Refuse changes from now on, or take them again; -EROFS for what is frozen, which never takes any. What has been acknowledged becomes durable all the same, but nothing is compacted or collected
 * while changes are refused. Those that have begun are not waited for.
 */
int engine_set_read_only(struct engine *engine, bool read_only);
bool engine_is_read_only(const struct engine *engine);
/*
 * A checkpoint directory is, and a store that was opened so or read-only from a place where nothing
 * can be written. The latter shows what its tables have and the snapshots that are complete: all there
 * is after a clean close, and less than was acknowledged otherwise.
 */
bool engine_is_frozen(const struct engine *engine);
const uint8_t *engine_uuid(const struct engine *engine);

/* Why the engine latched, or 0; *ret_text (may be NULL) is static or lives as long as the engine. */
int engine_latch_reason(struct engine *engine, const char **ret_text);

/*
 * As if the power had gone: nothing is written to the store any more, what was acknowledged and not
 * synced is lost with the memory, and the next opening recovers. Latches; reading goes on. For tests.
 */
void engine_cut(struct engine *engine);

/* ---- writing ---- */

/*
 * Apply a batch. *ret_first_sequence (may be NULL) is the number of its first record; the n-th has
 * first + n. 0, -ENOMEM, -EINVAL (a bad key or value), -EROFS, ERROR_LATCHED, -ENOSPC. Whoever
 * copies references out of a view into the batch must hold that view until this returns.
 */
int engine_write(struct engine *engine, const struct batch *batch, uint64_t *ret_first_sequence);

/* The last acknowledged sequence number. */
uint64_t engine_sequence(struct engine *engine);

/* Return when every record with a number <= `sequence` is durable. 0, ERROR_LATCHED, or the error of
 * the write or sync that failed just now. */
int engine_sync(struct engine *engine, uint64_t sequence);

/*
 * Store `size` bytes (1..BLOB_FRAME_SIZE_MAX) of file data; put the reference into a batch. The caller
 * holds a view, acquired before, until that batch is written: the chunk cannot go meanwhile.
 */
int engine_blob_append(struct engine *engine, const void *data, uint32_t size,
                       struct blob_ref *ret_ref);

/* The same without compressing it, for data that somebody waits for and that is soon written over. */
int engine_blob_append_as_is(struct engine *engine, const void *data, uint32_t size,
                             struct blob_ref *ret_ref);

/* The same of `count` (1..BLOB_APPEND_FRAMES_MAX) frames of BLOB_FRAME_SIZE_MAX bytes that lie one
 * behind the other; several are compressed at once where there are CPUs for it. */
int engine_blob_append_frames(struct engine *engine, const void *data, size_t count,
                              struct blob_ref *ret_refs);

/* ---- reading ---- */

struct engine_view; /* the state at one sequence number */

/* The present state. NULL only when out of memory. Cheap (one short lock). */
struct engine_view *engine_view_acquire(struct engine *engine);
void engine_view_release(struct engine_view *view); /* accepts NULL */
uint64_t engine_view_sequence(const struct engine_view *view);
/* Does it hold back the deletion of chunks of the live store? (A materialised checkpoint's does not.) */
bool engine_view_pins_live(const struct engine_view *view);

/* Call back for each sealed chunk that the view reads from; they stay as long as the view does. Stops
 * at the first non-zero return, which it returns. */
typedef int engine_chunk_callback(void *context, const struct chunk_identity *identity);
int engine_view_each_chunk(struct engine_view *view, engine_chunk_callback *callback,
                           void *context);

/*
 * The record of `key`: 1 (kind VALUE or REFERENCE), 0 (absent), or a negative error. The value is
 * copied into *value (reused between calls, freed by the caller); *ret_record may be NULL, its value
 * points into *value and its key is the argument.
 */
int engine_view_get(struct engine_view *view, struct slice key, struct buffer *value,
                    struct record *ret_record);

/* Walk records in key order from a position, below an exclusive upper bound (copied; empty: none). */
struct engine_iterator;
int engine_iterator_new(struct engine_view *view, struct slice upper_bound,
                        struct engine_iterator **ret_iterator);
void engine_iterator_free(struct engine_iterator *iterator); /* accepts NULL; before the view */
/* 1: at a record; 0: the end or the bound; negative: error. */
int engine_iterator_seek(struct engine_iterator *iterator, struct slice key);
int engine_iterator_next(struct engine_iterator *iterator);
/* Slices live until the next call on the iterator. */
const struct record *engine_iterator_record(const struct engine_iterator *iterator);

/* One slice of file data to read: ref->length bytes to `to`. */
struct engine_blob_read {
    const struct blob_ref *ref;
    uint8_t *to;
};

/* Read and verify, all together; references must come from `view` (or be newer and still pinned). */
int engine_blob_read(struct engine_view *view, const struct engine_blob_read *reads, size_t count);

/*
 * A reference read from a checkpoint's view is to be put into a batch (a file restored without copying).
 * 0: its chunk is part of the live store from now on, linked back from the checkpoint if need be, and
 * stays for as long as the caller holds a live view acquired before. Negative: copy the bytes instead.
 */
int engine_adopt_reference(struct engine *engine, struct engine_view *from,
                           const struct blob_ref *ref);

/* ---- differences (engine_diff.c) ---- */

/*
 * The keys whose record is not the same one in two views of one engine, in key order. Tables that
 * both views have are passed over, so the cost follows what was written between them, and what
 * compaction rewrote of it, not what the store holds. Records are the same when their sequence
 * numbers are. The views outlive the diff. Belongs to one thread.
 */
struct engine_difference {
    struct slice key;
    const struct record *before, *after; /* NULL: absent. All live until the next call. */
};
struct engine_diff;
int engine_diff_new(struct engine_view *before, struct engine_view *after,
                    struct engine_diff **ret_diff);
void engine_diff_free(struct engine_diff *diff); /* accepts NULL; before the views */
/* 1: a difference; 0: there is no other; negative: error. */
int engine_diff_next(struct engine_diff *diff, struct engine_difference *ret_difference);

struct engine_diff_statistics {
    uint64_t tables_shared, tables_read; /* passed over; in one view only */
    uint64_t blocks_shared;              /* of the latter's blocks, in both: passed over as well */
    uint64_t records_read, lookups;
};
void engine_diff_get_statistics(const struct engine_diff *diff, struct engine_diff_statistics *ret);

/* ---- checkpoints ---- */

struct engine_checkpoint_info {
    uint64_t id;
    uint64_t sequence;
    bool materialised; /* its directory is complete */
    int error;         /* why materialisation failed for good, or 0 */
    const uint8_t *name;
    size_t name_size;
    const uint8_t *payload;
    size_t payload_size;
    uint64_t linked_files, linked_bytes, copied_files, copied_bytes;
};

/*
 * Create: freezes the present state (barrier of microseconds), writes one WAL record and syncs it; when
 * this returns 0 the checkpoint exists and survives power loss. Its directory
 * checkpoints/<name> is made in the background. `name`: 1..255 bytes, no '/', not "." or "..".
 * -EEXIST, -EINVAL, -ENAMETOOLONG, ERROR_LATCHED, -EROFS, -ENOSPC or another shortage, which is not
 * waited out: then there is none, and the name is free.
 */
int engine_checkpoint_create(struct engine *engine, struct slice name, struct slice payload,
                             uint64_t *ret_id);

/* Wait until the checkpoint's directory is complete: 0, -ENOENT, or why it failed. A shortage that
 * lasts is returned after a second or so; the directory is made all the same when it is over. */
int engine_checkpoint_wait(struct engine *engine, uint64_t id);

/* Durable when it returns; the name is free at once; the directory is removed in the background.
 * -ENOENT; ERROR_HELD while a lease is on it. One that is not made yet need not be. */
int engine_checkpoint_delete(struct engine *engine, uint64_t id);

/* -ENOENT, -EEXIST, as create. */
int engine_checkpoint_rename(struct engine *engine, uint64_t id, struct slice name);

/* Replace the payload. */
int engine_checkpoint_set_payload(struct engine *engine, uint64_t id, struct slice payload);

/* Call back for each checkpoint in order of id; `info` lives during the callback, under a lock: the
 * callback must not call the engine. Stops at the first non-zero return, which it returns. */
typedef int engine_checkpoint_callback(void *context, const struct engine_checkpoint_info *info);
int engine_checkpoint_each(struct engine *engine, engine_checkpoint_callback *callback,
                           void *context);
/* The same for one, found without passing the others. -ENOENT, or what the callback returned. */
int engine_checkpoint_one(struct engine *engine, uint64_t id, engine_checkpoint_callback *callback,
                          void *context);

/*
 * The state becomes that of a checkpoint, with `also` applied to it: all at once, and durable when
 * this returns 0. A failure or a crash before leaves the state as it was, with `also` applied to it
 * or not, so it must make sense there too. Records have the sequence numbers again that they had;
 * whatever is written later is numbered above everything that ever was. Views acquired before keep
 * what they show, checkpoints are not touched. Nobody else may write meanwhile: the caller's part.
 * -ENOENT, -EROFS, ERROR_LATCHED, ERROR_CORRUPT ...
 */
int engine_rollback(struct engine *engine, uint64_t id, const struct batch *also);

/* A hold keeps a checkpoint: while there is one, engine_checkpoint_delete() gives ERROR_HELD.
 * Durable when it returns. `owner` (1..255 bytes) tells holds of one checkpoint apart; holding again
 * replaces. `expires_s` is a time of day, 0: never. -ENOENT, -EINVAL, -EROFS, ERROR_LATCHED. */
int engine_checkpoint_hold(struct engine *engine, uint64_t id, struct slice owner,
                           uint64_t expires_s);
/* -ENOENT: no such checkpoint, or no such hold on it. */
int engine_checkpoint_release(struct engine *engine, uint64_t id, struct slice owner);
/* Call back for each hold that has not expired, by owner; stops at the first non-zero return, which
 * it returns. The callback must not call the engine. -ENOENT. */
typedef int engine_hold_callback(void *context, struct slice owner, uint64_t expires_s);
int engine_checkpoint_holds(struct engine *engine, uint64_t id, engine_hold_callback *callback,
                            void *context);

/*
 * What the directories of some checkpoints take together, by their files' link counts: a chunk has
 * one link from each checkpoint that has it, one from the live store, and one from wherever somebody
 * linked a checkpoint to (a clone). What the set alone holds is what deleting the whole set frees.
 */
struct engine_usage {
    uint64_t files, bytes;               /* each file once */
    uint64_t unique_files, unique_bytes; /* of them: all links of the file are in the set */
    uint64_t unique_disk_bytes;          /* blocks of those, and of the directories */
};
/* Ids may repeat. -ENOENT: one of them is gone; -EAGAIN: one is not materialised yet. */
int engine_checkpoint_usage(struct engine *engine, const uint64_t *ids, size_t count,
                            struct engine_usage *ret_usage);

/* A view of the checkpoint's state. -ENOENT, ERROR_CORRUPT ... The view stays valid after the
 * checkpoint is deleted; it does not hold back deletions of the live store once the checkpoint is
 * materialised (it reads the checkpoint's own links). */
int engine_checkpoint_view(struct engine *engine, uint64_t id, struct engine_view **ret_view);

/* When the engine is open on a checkpoint directory: what it is. NULL name otherwise. */
int engine_sealed_info(struct engine *engine, struct engine_checkpoint_info *ret_info,
                       uint64_t *ret_created_s, uint32_t *ret_created_ns);

/* ---- maintenance and numbers ---- */

/* Flush all memtables and wait. */
int engine_flush(struct engine *engine);

/* Merge everything into the last level and collect blob chunks; waits. */
int engine_compact(struct engine *engine);

struct engine_statistics {
    uint64_t sequence, durable_sequence;
    uint64_t batches, records, batch_bytes, write_waits, write_wait_ns_max;
    uint64_t syncs, sync_ns_total, sync_ns_max;
    uint64_t memtable_bytes, frozen_memtables, flushes, compactions, compaction_bytes_read,
        compaction_bytes_written, compaction_bytes_copied, compaction_rests;
    uint64_t tables, table_bytes, blobs, blob_bytes, blob_live_bytes;
    uint64_t levels[7], level_bytes[7];
    uint64_t wal_segments, wal_bytes, wal_replayed_batches;
    uint64_t cache_hits, cache_misses, cache_bytes, cache_evictions;
    uint64_t blob_raw_bytes, blob_stored_bytes, blob_pending_bytes, blob_waits, blob_syncs_ahead;
    uint64_t checkpoints, checkpoints_pending;
    uint64_t checkpoints_deleting; /* deleted, and not yet cleared away: no space came back */
    uint64_t deletions_pending;    /* chunks of the live store that are not referred to */
    uint64_t barriers, barrier_ns_max; /* of checkpoints: nobody writes meanwhile */
    uint64_t manifest_commits, unclean_starts;
    uint64_t views;
    struct io_statistics io;
};
void engine_get_statistics(struct engine *engine, struct engine_statistics *ret);

/*
 * Alerts (engine_alert.c): conditions that somebody should know of. Looked at once a second; when one
 * begins and when it ends there is a line in the log.
 */
#define ENGINE_ALERT_DETAIL_SIZE 400

struct engine_alert {
    const char *name, *words; /* for programs, for people; static */
    bool is_critical;         /* or a warning */
    bool is_active;
    uint64_t since_s;                      /* time of day, when active */
    char detail[ENGINE_ALERT_DETAIL_SIZE]; /* what is known when active; may be "" */
};
size_t engine_alert_count(void);
void engine_alert_get(struct engine *engine, size_t index, struct engine_alert *ret_alert);

/* 0, or -ENOSPC when new work should be refused because the disk is nearly full. Deletions are not asked:
 * the reserve is what they, and the flushes that make them permanent, live on (P7). */
int engine_space_check(struct engine *engine);

/* Free and total bytes of the file system under the store; the reserve is not counted as available. */
int engine_space(struct engine *engine, uint64_t *ret_total, uint64_t *ret_free,
                 uint64_t *ret_available);

#endif
