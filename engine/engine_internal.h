/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine_internal.h - what the engine_*.c files share; nobody else includes it
 *
 * How a write flows: engine_write() appends the batch to the open fill and applies it to the active
 * memtable under write_lock, and returns. The commit leader (one thread at a time: a caller of
 * engine_sync() or the log thread) takes the fills, makes the blob data they refer to durable, and
 * writes them to the WAL as one group each. A freeze ends a generation: memtable, WAL segment and
 * blob chunk are left behind together. The flush thread turns generations into tables in order.
 *
 * Who pins what: a view (or a pin of an internal job) is a node in the pin list with the epoch of
 * its beginning. What becomes unreachable gets the next epoch and is deleted when no older pin is
 * left.
 */
#ifndef VARVE_ENGINE_ENGINE_INTERNAL_H
#define VARVE_ENGINE_ENGINE_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "engine/base/invariant.h"
#include "engine/base/lock.h"
#include "engine/base/log.h"
#include "engine/blob_reader.h"
#include "engine/blob_writer.h"
#include "engine/collection_pick.h"
#include "engine/compaction_pick.h"
#include "engine/engine.h"
#include "engine/manifest.h"
#include "engine/memtable.h"
#include "engine/merge_iterator.h"
#include "engine/sealed_manifest.h"
#include "engine/version.h"
#include "engine/wal.h"

/* A checkpoint in memory; the list holds one reference. Guarded by checkpoint_lock unless said. */
enum checkpoint_state {
    CHECKPOINT_CREATING, /* its WAL record is not durable yet: invisible, but its name is taken */
    CHECKPOINT_PENDING,  /* exists */
    CHECKPOINT_READY,    /* its directory is complete */
    CHECKPOINT_FAILED,   /* exists, materialisation failed: `error`; redone at the next open */
    CHECKPOINT_DELETING
};

struct checkpoint {
    atomic_uint references;
    enum checkpoint_state state;
    int error;
    struct manifest_checkpoint record; /* id, sequence, name, payload, numbers */
    struct slice new_name;             /* while it is being renamed: taken as well */
    uint64_t renames;
    uint64_t created_s;
    uint32_t created_ns;
    struct engine_view *view;     /* pins the state until READY; its creator's until then */
    struct sealed_manifest *plan; /* set at flush; owned by the checkpoint thread afterwards */
    struct checkpoint *next_job;  /* queue of the checkpoint thread */
    uint32_t open_views;          /* views that read its directory: its files stay until 0 */
    bool deletion_waits;          /* for them; the checkpoint thread said so */
    bool is_queued;               /* a job of the checkpoint thread */
    bool is_running;              /* the checkpoint thread is at it */
};

/* A frozen memtable and what goes with it; owned by the queue, then by the flush thread. */
struct generation {
    struct memtable *memtable;
    uint64_t last_sequence;
    uint64_t blob_last_id;
    uint64_t next_segment; /* where the log goes on after it; 0: not rolled yet; write_lock */
    struct checkpoint *checkpoint; /* to be made of the state at its end; a reference, or NULL */
    struct generation *next;

    /* The flush thread's: what an attempt has done that met a shortage later. */
    bool is_written;
    bool has_table;
    struct table_meta meta;
};

/* Log entries on their way to the WAL. */
struct fill {
    struct buffer entries;
    uint64_t first_sequence, last_sequence;
    uint64_t blob_last_id;    /* set when it is closed: its batches refer to chunks up to here */
    struct generation *ended; /* the generation that this fill is the last of, or NULL */
    struct fill *next;
};

/* The sources of reads, replaced as a whole. */
struct superversion {
    atomic_uint references;
    struct version *version;
    size_t memtable_count;
    struct memtable *memtables[]; /* newest first; [0] is the active one */
};

struct pin {
    struct pin *previous, *next;
    uint64_t epoch;
};

/* A chunk that a restore took references to; keeps it while a pin of that time is left. */
struct adopted {
    uint64_t chunk_id;
    uint64_t epoch;
};

/* A chunk that nothing reachable refers to any more. */
struct obsolete {
    struct obsolete *next;
    struct chunk_identity identity;
    uint64_t epoch;
};

/* A checkpoint opened for reading: its own directory, descriptors and version. */
struct checkpoint_source {
    struct io *io;
    struct io_file *chunk_directory;
    struct blob_reader *blobs;
    struct version_source tables;
    struct chunk_identity *identities; /* sorted by id */
    size_t identity_count;
};

struct engine_view {
    struct engine *engine;
    struct pin pin;                   /* unused (next == NULL) for a checkpoint's view */
    struct superversion *super;       /* live */
    struct checkpoint_source *source; /* checkpoint; owned */
    struct checkpoint *checkpoint;    /* whose directory source reads; a reference, or NULL */
    struct version *version;          /* borrowed from super, or owned with source */
    struct blob_reader *blobs;        /* borrowed */
    uint64_t sequence;
};

/* engine_reclaim.c */
struct engine_reclaim {
    atomic_ullong freed_bytes; /* left behind since everything was merged, an estimate */
    bool is_begun;
    uint64_t bytes; /* of those, what the merging that is begun reaches: */
    uint64_t wanted_sequence;
    uint64_t seen_sequence, seen_ns; /* when the store was last seen to change */
    uint64_t not_before_ns;
};

struct engine {
    struct engine_options options;
    char *path;
    struct io *io;
    struct store *store;
    struct manifest *manifest;
    struct block_cache *cache;
    struct read_around_budget read_around;
    struct version_source source;
    struct blob_writer *blob_writer;
    struct blob_reader *blob_reader;
    struct wal *wal;
    struct io_file *witness_file; /* engine_witness.c; the log thread's */
    uint64_t witnessed_sequence;
    bool witness_failed;
    bool frozen;                    /* set before anybody looks */
    atomic_bool read_only;          /* changed under work_lock */
    struct sealed_manifest *sealed; /* open on a checkpoint directory: what it says */
    struct checkpoint_source *sealed_source;

    atomic_int latch_error;
    struct lock latch_lock; /* LOCK_RANK_LEAF */
    char latch_text[192];

    struct lock write_lock;           /* LOCK_RANK_ENGINE_WRITE */
    pthread_cond_t room;              /* writers wait for bounds */
    pthread_cond_t commit_done;       /* the leader finished */
    pthread_cond_t log_wanted;        /* the log thread has work */
    pthread_cond_t flush_wanted;      /* a generation was frozen, or flushed */
    struct fill *fills, **fills_tail; /* ended ones, oldest first */
    struct fill *fill;                /* the open one */
    struct fill *spare_fill;
    size_t fill_bytes; /* in fills and fill, and being written */
    bool leader;
    uint64_t next_sequence;
    atomic_ullong visible_sequence;                     /* acknowledged */
    atomic_ullong written_sequence;                     /* in the WAL */
    atomic_ullong durable_sequence;                     /* and synced */
    struct generation *generations, **generations_tail; /* frozen, oldest first */
    uint32_t generation_count;
    uint64_t flushed_sequence;
    bool stopping;

    struct lock view_lock; /* LOCK_RANK_ENGINE_VIEW */
    struct superversion *super;
    struct pin pins; /* ring, oldest first */
    uint64_t epoch;
    uint64_t view_count;
    struct obsolete *obsolete;

    struct lock names_lock; /* LOCK_RANK_ENGINE_NAMES: who moves directories of checkpoints */

    struct lock install_lock; /* LOCK_RANK_ENGINE_INSTALL */
    uint64_t next_order;
    uint64_t wal_segment;
    uint64_t tables_sequence; /* highest in the tables */
    uint64_t unclean_starts;
    atomic_ullong next_chunk_id;
    atomic_llong space_left;        /* estimate of what the disk has for us */
    atomic_ullong space_checked_ns; /* when it was asked last */
    atomic_int flush_starved; /* the shortage that the flush thread waits out, or 0; changed under
                                 write_lock */
    atomic_ullong flush_starvations; /* attempts that ended with one */
    atomic_int log_starved;          /* the same of the log */
    int compaction_starved;          /* write_lock: why the last merging failed, or 0 */
    uint32_t room_waiters;           /* write_lock: writers that wait for room */
    struct adopted *adopted;         /* install_lock; by chunk id, each once */
    size_t adopted_count, adopted_capacity;

    struct lock_shared catalogue_lock; /* LOCK_RANK_TABLE_CACHE: sealed blobs of the live store */
    struct chunk_identity *catalogue;  /* sorted by id */
    size_t catalogue_count, catalogue_capacity;

    struct lock checkpoint_lock; /* LOCK_RANK_ENGINE_CHECKPOINT */
    pthread_cond_t checkpoint_changed;
    struct checkpoint **checkpoints; /* sorted by id */
    size_t checkpoint_count, checkpoint_capacity;
    uint64_t next_checkpoint_id;
    uint64_t deleting_count; /* deleted ones that the manifest still has */
    struct checkpoint *jobs, **jobs_tail;
    bool checkpoint_stopping;
    struct checksum128 parent_hash; /* of the newest materialised checkpoint */

    struct lock work_lock; /* LOCK_RANK_LEAF: the compaction thread's wishes */
    pthread_cond_t work_wanted, work_done;
    bool compaction_wanted, compaction_running;
    atomic_ullong last_flush_ns; /* a memtable became a table */
    struct engine_reclaim reclaim;
    struct crew *crew;             /* helps the blob writer; NULL: one CPU */
    atomic_uint compaction_pauses; /* while not 0, none begins; changed under the lock */
    uint64_t full_compactions_asked, full_compactions_done;
    int compaction_error;

    struct engine_monitor *monitor;

    pthread_t log_thread, flush_thread, compaction_thread, checkpoint_thread;
    bool log_started, flush_started, compaction_started, checkpoint_started;

    struct engine_statistics counters; /* relaxed atomics through ENGINE_COUNT */
};

#define ENGINE_COUNT(engine, member, amount)                                                       \
    __atomic_fetch_add(&(engine)->counters.member, (amount), __ATOMIC_RELAXED)

/* `took` or what is there already, whichever is longer; rarely two at a time, of which one may be lost. */
#define ENGINE_COUNT_LONGEST(engine, member, took)                                                 \
    do {                                                                                           \
        if ((took) > __atomic_load_n(&(engine)->counters.member, __ATOMIC_RELAXED))                \
            __atomic_store_n(&(engine)->counters.member, (took), __ATOMIC_RELAXED);                \
    } while (0)

/* engine.c */
/* Latch: the first reason wins; logs once; wakes everybody. Returns `error`. */
int engine_latch(struct engine *engine, int error, const char *what);
bool engine_latched(const struct engine *engine);
/* Of a change that failed with `error`: latch, unless it was a shortage that left the log, the blob
 * writer and the manifest as they were. Where one of the former two keeps an error, that is the reason
 * and not the shortage. Takes their locks, and that of the manifest. Returns `error`. */
int engine_failed(struct engine *engine, int error, const char *what);
bool engine_can_retry(struct engine *engine, int error);
/* Wake every waiter of write_lock (held), after a latch or to stop. */
void engine_wake_locked(struct engine *engine);

int engine_start_thread(pthread_t *thread, bool *started, const char *name, void *(*body)(void *),
                        void *context);

/* engine_monitor.c: names calls of the disk that hang, from the first one of opening to the last one of
 * closing (R7), and keeps the alerts while the engine is open. All accept NULL. */
int engine_monitor_start(struct engine *engine);
void engine_monitor_begin_alerts(struct engine_monitor *monitor);
void engine_monitor_end_alerts(struct engine_monitor *monitor); /* none is looked at any more */
void engine_monitor_stop(struct engine_monitor *monitor);
/* What the alerts have found, under a lock of its own. */
void engine_monitor_lock(struct engine_monitor *monitor);
void engine_monitor_unlock(struct engine_monitor *monitor);

/* engine_alert.c */
struct engine_alerts;
struct engine_alerts *engine_alerts_new(struct engine *engine); /* NULL: out of memory */
void engine_alerts_free(struct engine_alerts *alerts);          /* accepts NULL */
/* The monitor's thread: `hanging` calls of the disk hang, as `text` says of the oldest. */
void engine_alerts_look(struct engine_alerts *alerts, unsigned hanging, const char *text);
struct engine_alerts *engine_monitor_alerts(struct engine_monitor *monitor);

/* engine_commit.c */
/* The generation ends; write_lock held. -ENOMEM: it goes on. */
int engine_freeze_locked(struct engine *engine);
/* Everything up to `sequence` is in the WAL (with `sync`: durable). */
int engine_commit(struct engine *engine, uint64_t sequence, bool sync);
/* All entries of a frozen generation are in the WAL and the log has rolled on. */
int engine_commit_generation(struct engine *engine, struct generation *generation);
/* Wait for the bounds (P8); write_lock held before and after. 0, ERROR_LATCHED, or why there will be
 * no room for now: what flushing, the log or merging has met. */
int engine_wait_for_room_locked(struct engine *engine);
/* The leader's right, for other users of the WAL. */
void engine_commit_enter(struct engine *engine);
void engine_commit_leave(struct engine *engine);
void *engine_log_main(void *engine);
struct fill *engine_fill_new(void);
void engine_fill_free(struct fill *fill);
/* Append a WAL_MARK with the next sequence number, and end the generation with it, as that of
 * `checkpoint` (a reference to it is taken over). Both or, with -ENOMEM, neither: a mark without a
 * generation of its own would be a checkpoint only to replay. write_lock held. */
int engine_mark_locked(struct engine *engine, struct slice bytes, struct checkpoint *checkpoint,
                       uint64_t *ret_sequence);
/* Take a mark of `size` bytes back that is not in the log yet: its generation ends without a
 * checkpoint. False: it is there, or the engine has latched. */
bool engine_mark_revoke(struct engine *engine, uint64_t sequence, size_t size);

/* engine_view.c */
struct superversion *superversion_new(struct version *version, struct memtable *const *memtables,
                                      size_t count); /* references everything; NULL: no memory */
/* The same in two steps, so that the second cannot fail. Not filled yet it is given to free(). */
#define SUPERVERSION_MEMTABLES_MAX 64
struct superversion *superversion_reserve(void); /* room for as many as there may be */
void superversion_fill(struct superversion *super, struct version *version,
                       struct memtable *const *memtables, size_t count);
struct superversion *superversion_ref(struct superversion *super);
void superversion_unref(struct superversion *super);
/* Make `super` the present one (takes the reference over). */
void engine_publish(struct engine *engine, struct superversion *super);
struct superversion *engine_super(struct engine *engine); /* a reference */
int checkpoint_source_open(struct engine *engine, struct io_file *directory,
                           const struct sealed_manifest *manifest, struct version **ret_version,
                           struct checkpoint_source **ret_source);
void checkpoint_source_free(struct checkpoint_source *source);

/* engine_space.c */
/* 0, or -ENOSPC when `size_bytes` more would eat what flushing and deleting need (P7). */
int engine_space_take(struct engine *engine, uint64_t size_bytes);
bool engine_space_is_low(struct engine *engine); /* what can be given back should be */
#define WAL_SPARES_MAX 4
uint32_t engine_space_spares(struct engine *engine); /* segments of the log worth keeping for reuse */

/* engine_reclaim.c */
void engine_reclaim_note(struct engine *engine, uint64_t size_bytes); /* write_lock may be held */
/* Is everything to be merged now? *ret_again_ns is set if the answer may become another one. */
bool engine_reclaim_is_due(struct engine *engine, uint64_t *ret_again_ns);
void engine_reclaim_end(struct engine *engine, int result); /* of merging */
/* Is so much dead that nobody is spared any more? */
bool engine_reclaim_is_urgent(const struct collection_totals *totals);
/* Is so much left behind, beside what lives as far as tables tell, that merging should tell more
 * before any of it is copied? */
bool engine_reclaim_comes_first(struct engine *engine, const struct collection_totals *totals);
/* Has so much been left behind since `freed_before`, what engine_reclaim_freed() said when copying
 * began, that it is better given up? */
bool engine_reclaim_overtakes(struct engine *engine, const struct collection_totals *totals,
                              uint64_t freed_before);
uint64_t engine_reclaim_freed(struct engine *engine);

/* engine_pace.c */
struct engine_pace {
    uint64_t began_ns, sequence, syncs; /* of the present piece of work */
    unsigned steps;
};
void engine_pace_begin(struct engine *engine, struct engine_pace *pace);
/* Between two records of a compaction, `has_copied` if the last one's data was; no lock held. Rests
 * when it is time, unless in a hurry. True when a piece of work is done. */
bool engine_pace_step(struct engine *engine, struct engine_pace *pace, bool has_copied,
                      bool hurry);

/* engine_catalogue.c */
int catalogue_add(struct engine *engine, const struct chunk_identity *identities, size_t count);
void catalogue_remove(struct engine *engine, uint64_t id);
/* What the manifest did not come to know of after all. */
void catalogue_remove_all(struct engine *engine, const struct chunk_identity *identities,
                          size_t count);
bool catalogue_find(struct engine *engine, uint64_t id, struct chunk_identity *ret_identity);
/* A copy of all; the caller frees. */
int catalogue_copy(struct engine *engine, struct chunk_identity **ret_all, size_t *ret_count);
int catalogue_resolve(void *engine, uint64_t id, struct chunk_identity *ret_identity);
int engine_identity_compare(const void *left, const void *right);

/* engine_flush.c */
/* Write one memtable as a table: 1 with *ret_meta, 0 when it holds nothing, or an error. */
int engine_write_table(struct engine *engine, struct memtable *memtable,
                       struct table_meta *ret_meta);
/* Scalars as they are now; install_lock held. */
void engine_scalars_locked(struct engine *engine, struct manifest_scalars *ret_scalars);
/* Commit an edit (scalars are filled in) and publish the version that goes with it; install_lock
 * held. `drop` (may be NULL) is the memtable that became part of the tables. A failure latches, unless it is a shortage. */
int engine_install_locked(struct engine *engine, struct manifest_edit *edit,
                          struct version_table *const *add, size_t add_count,
                          struct memtable *drop);
uint64_t engine_allocate_chunk_id(void *engine);
void *engine_flush_main(void *engine);

/* engine_compaction.c */
void *engine_compaction_main(void *engine);
void engine_compaction_wake(struct engine *engine);
/* Wait for the one that runs and let none begin, until as many resumes. Not while install_lock is
 * held. */
void engine_compaction_pause(struct engine *engine);
void engine_compaction_resume(struct engine *engine);
/* Set the flag; none runs when it is set. */
void engine_compaction_set_read_only(struct engine *engine, bool read_only);

/* engine_collect.c */
/* Note what the present version does not refer to; delete what no pin can see. */
void engine_collect(struct engine *engine);
void engine_obsolete_table(struct engine *engine, const struct chunk_identity *identity);
/* Tables of this version are not to be deleted after all; install_lock held. */
void engine_obsolete_revive(struct engine *engine, const struct version *version);
void engine_obsolete_free(struct engine *engine);

/* engine_checkpoint.c */
int checkpoint_new(struct checkpoint **ret_checkpoint);
struct checkpoint *checkpoint_ref(struct checkpoint *checkpoint);
void checkpoint_unref(struct checkpoint *checkpoint);
int engine_checkpoint_insert(struct engine *engine, struct checkpoint *checkpoint);
/* One that exists, or NULL; checkpoint_lock held. */
struct checkpoint *engine_checkpoint_find_locked(struct engine *engine, uint64_t id);
bool engine_checkpoint_has_name_locked(struct engine *engine, struct slice name);
/* Out of the list; its reference is the caller's now. */
void engine_checkpoint_remove_locked(struct engine *engine, struct checkpoint *checkpoint);
bool checkpoint_exists(const struct checkpoint *checkpoint); /* made, and not deleted */
int checkpoint_name_check(struct slice name);                /* 0, -EINVAL, -ENAMETOOLONG */
void checkpoint_record_name(const struct manifest_checkpoint *record, char to[256]);
/* The plan of a checkpoint: the version, by name. */
int checkpoint_plan_new(struct engine *engine, const struct checkpoint *checkpoint,
                        struct version *version, struct sealed_manifest **ret_plan);
void checkpoint_plan_free(struct sealed_manifest *plan);
int checkpoint_mark_encode(const struct checkpoint *checkpoint, struct buffer *to);
int checkpoint_mark_decode(struct slice from, struct checkpoint *to);

/* engine_materialise.c */
/* So often a job that a shortage holds up is tried again. */
#define CHECKPOINT_RETRY_NS UINT64_C(500000000)
void *engine_checkpoint_main(void *engine);
/* Queue a checkpoint whose plan is set, or that is to be deleted. */
void engine_checkpoint_queue(struct engine *engine, struct checkpoint *checkpoint);

/* engine_checkpoint_change.c */
/* Each keeps the tables and chunks of its moment open until it is made. */
#define CHECKPOINTS_PENDING_MAX 128
/* Until the checkpoint thread has not too much to make. 0, -ENOSPC as engine_space_check(), or a
 * shortage that log or flush have met and that lasts. */
int engine_checkpoint_wait_for_room(struct engine *engine);

/* engine_checkpoint_view.c */
/* A view of the checkpoint's directory was closed, or could not be opened. Takes the reference
 * over. */
void engine_checkpoint_view_closed(struct engine *engine, struct checkpoint *checkpoint);
/* The sealed manifest in the directory of a checkpoint that is READY: it is the one that the live
 * manifest has the hash of, and so are its numbers and the hash of the one before (R46). What
 * sealed_manifest_read() gives, but damage for what is no checkpoint any more. */
int checkpoint_sealed_read(struct engine *engine, struct io_file *directory, uint64_t id,
                           struct sealed_manifest *ret_sealed);

/* engine_witness.c: how far the log was synced, said outside of it */
int engine_witness_check(struct engine *engine, uint64_t last_sequence); /* 0 or ERROR_CORRUPT */
void engine_witness_write(struct engine *engine); /* the log thread, with no lock held */
void engine_witness_close(struct engine *engine);
/* *ret_sequence: 0 when there is none that can be believed. */
int engine_witness_read(struct io *io, struct io_file *wal, const uint8_t *store_uuid,
                        uint64_t *ret_sequence);
int engine_witness_remove(struct io *io, struct io_file *wal);

/* checkpoint_files.c */
struct checkpoint_numbers {
    uint64_t linked_files, linked_bytes, copied_files, copied_bytes;
    struct checksum128 manifest_hash;
};
/* Make the directory of a checkpoint as `plan` says, in tmp/, complete and synced: 0; or 1 when
 * checkpoints/<name> is it already; or an error, which leaves nothing behind. */
int checkpoint_files_prepare(struct store *store, const struct sealed_manifest *plan,
                             const char *name, struct checkpoint_numbers *ret_numbers);
/* Give it its name, for good. names_lock held: nobody else may sync checkpoints/ meanwhile. */
int checkpoint_files_publish(struct store *store, const struct sealed_manifest *plan,
                             const char *name, bool is_there);
/* What _prepare made, if anything, will not be published. */
void checkpoint_files_abandon(struct store *store, uint64_t id);
/* Link (or, across limits, copy) one file. 0: linked, 1: copied, or an error. Neither the file nor its
 * name is synced: the caller does that, for all of them at once where there are many. */
int checkpoint_files_link(struct io *io, struct io_file *from_directory,
                          struct io_file *to_directory, const char *name);
/* Link a chunk into a directory that has lost it, or copy: 0 or an error. The link count is on the disk
 * before the name is in place, so that a cut leaves none that nobody has counted; the name is not yet
 * when this returns. tmp/ was swept after the last crash. */
int checkpoint_files_relink(struct store *store, struct io_file *from_directory,
                            struct io_file *to_directory, const char *name);
/* Take checkpoints/<name> away (into tmp/deleted/), if it is the checkpoint `id`; then
 * _sync_deleted, or a cut brings the name back; then _remove_deleted. */
int checkpoint_files_detach(struct store *store, const char *name, uint64_t id);
int checkpoint_files_sync_deleted(struct store *store);
int checkpoint_files_remove_deleted(struct store *store, uint64_t id);
/* Take whatever checkpoint stands there away, as _detach does: it was deleted, and is yet to be
 * cleared away. */
int checkpoint_files_vacate(struct store *store, const char *name);
/* Put the complete checkpoint `id` under `name`, whatever a crash left there. -ENOENT: it is
 * nowhere. */
int checkpoint_files_settle(struct store *store, const char *name, uint64_t id);
/* Is checkpoints/<name> the complete checkpoint `id`? 1, 0, or an error. */
int checkpoint_files_match(struct store *store, const char *name, uint64_t id);
/* The name under checkpoints/ of checkpoint `id`: 1 and the name (256 bytes), or 0. */
int checkpoint_files_find(struct store *store, uint64_t id, char ret_name[256]);

/* engine_recovery.c */
int engine_recover(struct engine *engine);
int engine_recover_nothing(struct engine *engine); /* for a frozen one */

#endif
