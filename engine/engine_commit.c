/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine_commit.c - from an acknowledged batch to a durable one: fills, the leader, freezing
 *
 * Why a prefix survives a crash: batches enter the open fill and the memtable in one order, under
 * write_lock. Fills reach the WAL in that order, each as one group, and a group is replayed wholly
 * or ends the replay. Before a group is written all blob data that its batches refer to is durable
 * or part of the group itself: the leader takes the fill first and the state of the blob stream
 * afterwards, and a batch enters a fill only after its frames were appended.
 */
#include <errno.h>
#include <stdlib.h>

#include "engine/base/blocking.h"
#include "engine/engine_internal.h"
#include "engine/wal_format.h"

/* A commit puts at most this much blob data into the log instead of flushing the chunk as well. */
#define COMMIT_PIECES_BYTES (64 * 1024)
#define COMMIT_PIECES_MAX   64

/* So often the log thread tries again what met a full disk. */
#define LOG_RETRY_NS UINT64_C(200000000)

struct fill *engine_fill_new(void)
{
    return calloc(1, sizeof(struct fill));
}

void engine_fill_free(struct fill *fill)
{
    if (fill == NULL)
        return;
    buffer_free(&fill->entries);
    free(fill);
}

/* ---- appending ---- */

static int fill_reserve(struct engine *engine, size_t size)
{
    struct fill *fill = engine->fill;

    return buffer_reserve(&fill->entries, fill->entries.size + size + 64);
}

static void fill_append(struct engine *engine, enum wal_entry_kind kind, struct slice bytes,
                        uint64_t first, uint64_t count)
{
    struct fill *fill = engine->fill;
    size_t before = fill->entries.size;
    int result = wal_entry_append(&fill->entries, kind, first, bytes);

    invariant(result == 0); /* room was reserved */
    if (fill->first_sequence == 0)
        fill->first_sequence = first;
    fill->last_sequence = first + count - 1;
    engine->fill_bytes += fill->entries.size - before;
}

/* So many tables that merging is waited for; when it fails: that there are too many. */
static bool has_many_tables(const struct engine *engine)
{
    size_t limit =
        engine->compaction_starved != 0 ? COMPACTION_L0_FAILED_STOP : COMPACTION_L0_STOP;

    return engine->super->version->counts[0] >= limit &&
           /* Who pauses it writes little, and would wait for itself; nor is it to be waited for
            * where changes are refused since this one began. */
           atomic_load_explicit(&engine->compaction_pauses, memory_order_relaxed) == 0 &&
           !engine->read_only;
}

static bool write_has_room(const struct engine *engine)
{
    return engine->fill_bytes < engine->options.wal_buffer_bytes &&
           engine->generation_count < engine->options.memtables_max && !has_many_tables(engine);
}

static int wait_for_room(struct engine *engine)
{
    while (!write_has_room(engine)) {
        if (engine_latched(engine))
            return ERROR_LATCHED;
        if (engine->flush_starved != 0)
            return engine->flush_starved;
        if (engine->log_starved != 0)
            return engine->log_starved;
        if (engine->compaction_starved != 0 && has_many_tables(engine))
            return engine->compaction_starved;
        pthread_cond_signal(&engine->log_wanted);
        pthread_cond_signal(&engine->flush_wanted);
        lock_wait(&engine->write_lock, &engine->room);
    }
    return 0;
}

int engine_wait_for_room_locked(struct engine *engine)
{
    uint64_t begin, took;
    int result;

    if (write_has_room(engine))
        return 0;
    ENGINE_COUNT(engine, write_waits, 1);
    lock_release(&engine->write_lock);
    blocking_enter();
    begin = clock_monotonic_ns();
    lock_acquire(&engine->write_lock);
    engine->room_waiters++;
    result = wait_for_room(engine);
    engine->room_waiters--;
    took = clock_monotonic_ns() - begin;
    ENGINE_COUNT_LONGEST(engine, write_wait_ns_max, took);
    return result;
}

int engine_write(struct engine *engine, const struct batch *batch, uint64_t *ret_first_sequence)
{
    struct slice bytes = buffer_slice(&batch->bytes);
    uint64_t first;
    int result;

    if (engine->read_only)
        return -EROFS;
    if (batch->error < 0)
        return batch->error;
    if (batch->count == 0)
        return 0;
    lock_acquire(&engine->write_lock);
    result = engine_latched(engine) ? ERROR_LATCHED : engine_wait_for_room_locked(engine);
    if (result == 0)
        result = fill_reserve(engine, bytes.size);
    if (result < 0)
        goto out;
    first = engine->next_sequence;
    invariant_set_context("write", first);
    result = memtable_apply(engine->super->memtables[0], bytes, first);
    if (result < 0)
        goto out;
    fill_append(engine, WAL_BATCH, bytes, first, batch->count);
    engine->next_sequence = first + batch->count;
    atomic_store_explicit(&engine->visible_sequence, engine->next_sequence - 1,
                          memory_order_release);
    if (ret_first_sequence != NULL)
        *ret_first_sequence = first;
    ENGINE_COUNT(engine, batches, 1);
    ENGINE_COUNT(engine, records, batch->count);
    ENGINE_COUNT(engine, batch_bytes, bytes.size);
    if (batch->freed_bytes > 0)
        engine_reclaim_note(engine, batch->freed_bytes);
    if (memtable_size_bytes(engine->super->memtables[0]) >= engine->options.memtable_bytes)
        (void)engine_freeze_locked(engine); /* without memory: at a later write */
    if (engine->fill_bytes >= engine->options.wal_buffer_bytes / 2)
        pthread_cond_signal(&engine->log_wanted);
out:
    lock_release(&engine->write_lock);
    return result;
}

/* ---- freezing ---- */

/* All that the end of a generation needs, so that it cannot fail half-way. */
struct freeze {
    struct generation *generation;
    struct memtable *fresh;
    struct fill *fill;
    struct superversion *super;
};

static void freeze_drop(struct engine *engine, struct freeze *freeze)
{
    superversion_unref(freeze->super);
    memtable_unref(freeze->fresh);
    free(freeze->generation);
    engine->spare_fill = freeze->fill;
}

/* The next generation begins at `first_sequence`; write_lock is held until it is dropped or done. */
static int freeze_prepare(struct engine *engine, uint64_t first_sequence, struct freeze *freeze)
{
    struct superversion *old = engine->super;
    struct memtable *memtables[SUPERVERSION_MEMTABLES_MAX];

    *freeze = (struct freeze){
        .generation = calloc(1, sizeof *freeze->generation),
        .fresh = memtable_new(first_sequence),
        .fill = engine->spare_fill != NULL ? engine->spare_fill : engine_fill_new(),
    };
    engine->spare_fill = NULL;
    if (freeze->generation != NULL && freeze->fresh != NULL && freeze->fill != NULL &&
        old->memtable_count + 1 <= SUPERVERSION_MEMTABLES_MAX) {
        memtables[0] = freeze->fresh;
        for (size_t i = 0; i < old->memtable_count; i++)
            memtables[i + 1] = old->memtables[i];
        freeze->super = superversion_new(old->version, memtables, old->memtable_count + 1);
    }
    if (freeze->super != NULL)
        return 0;
    freeze_drop(engine, freeze);
    return -ENOMEM;
}

static void freeze_do(struct engine *engine, struct freeze *freeze, struct checkpoint *checkpoint)
{
    struct generation *generation = freeze->generation;

    generation->memtable = memtable_ref(engine->super->memtables[0]);
    generation->last_sequence = engine->next_sequence - 1;
    generation->checkpoint = checkpoint;
    generation->blob_last_id = blob_writer_roll(engine->blob_writer);

    engine->fill->blob_last_id = generation->blob_last_id;
    engine->fill->ended = generation;
    *engine->fills_tail = engine->fill;
    engine->fills_tail = &engine->fill->next;
    engine->fill = freeze->fill;

    *engine->generations_tail = generation;
    engine->generations_tail = &generation->next;
    engine->generation_count++;
    engine_publish(engine, freeze->super);
    memtable_unref(freeze->fresh);
    pthread_cond_signal(&engine->flush_wanted);
}

int engine_freeze_locked(struct engine *engine)
{
    struct freeze freeze;
    int result = freeze_prepare(engine, engine->next_sequence, &freeze);

    if (result == 0)
        freeze_do(engine, &freeze, NULL);
    return result;
}

int engine_mark_locked(struct engine *engine, struct slice bytes, struct checkpoint *checkpoint,
                       uint64_t *ret_sequence)
{
    uint64_t sequence = engine->next_sequence;
    struct freeze freeze;
    int result = freeze_prepare(engine, sequence + 1, &freeze);

    if (result < 0)
        return result;
    result = fill_reserve(engine, bytes.size);
    if (result < 0) {
        freeze_drop(engine, &freeze);
        return result;
    }
    fill_append(engine, WAL_MARK, bytes, sequence, 1);
    engine->next_sequence = sequence + 1;
    atomic_store_explicit(&engine->visible_sequence, sequence, memory_order_release);
    freeze_do(engine, &freeze, checkpoint);
    *ret_sequence = sequence;
    return 0;
}

/* The fill that ends with the mark `sequence`, if it waits to be written. */
static struct fill *find_mark_locked(struct engine *engine, uint64_t sequence)
{
    struct fill *fill = engine->fills;

    while (fill != NULL && (fill->last_sequence != sequence || fill->ended == NULL))
        fill = fill->next;
    return fill;
}

/* Its number stays taken, by a mark of nothing. That the generation was to be a checkpoint is read
 * by the flush thread when the log has gone on behind it, and not before. */
static struct checkpoint *revoke_mark_locked(struct engine *engine, struct fill *fill, size_t size)
{
    struct checkpoint *checkpoint = fill->ended->checkpoint;
    int result;

    invariant(checkpoint != NULL && fill->entries.size >= WAL_ENTRY_HEADER_SIZE + size);
    fill->entries.size -= WAL_ENTRY_HEADER_SIZE + size;
    result = wal_entry_append(&fill->entries, WAL_MARK, fill->last_sequence, slice_of(NULL, 0));
    invariant(result == 0); /* it takes less than what it replaces */
    engine->fill_bytes -= size;
    fill->ended->checkpoint = NULL;
    return checkpoint;
}

bool engine_mark_revoke(struct engine *engine, uint64_t sequence, size_t size)
{
    struct checkpoint *checkpoint = NULL;
    struct fill *fill;

    lock_acquire(&engine->write_lock);
    while (engine->leader) /* it may have the fill */
        lock_wait(&engine->write_lock, &engine->commit_done);
    fill = engine_latched(engine) ? NULL : find_mark_locked(engine, sequence);
    if (fill != NULL)
        checkpoint = revoke_mark_locked(engine, fill, size);
    lock_release(&engine->write_lock);
    checkpoint_unref(checkpoint);
    return fill != NULL;
}

/* ---- the leader ---- */

static void leader_finish_locked(struct engine *engine)
{
    engine->leader = false;
    pthread_cond_broadcast(&engine->commit_done);
    pthread_cond_broadcast(&engine->room);
}

void engine_commit_enter(struct engine *engine)
{
    lock_acquire(&engine->write_lock);
    while (engine->leader)
        lock_wait(&engine->write_lock, &engine->commit_done);
    engine->leader = true;
    lock_release(&engine->write_lock);
}

void engine_commit_leave(struct engine *engine)
{
    lock_acquire(&engine->write_lock);
    leader_finish_locked(engine);
    lock_release(&engine->write_lock);
}

/* Take every fill that has entries or ends a generation. */
static struct fill *leader_take_fills_locked(struct engine *engine)
{
    struct fill *taken;

    if (engine->fill->entries.size > 0) {
        struct fill *fresh = engine->spare_fill != NULL ? engine->spare_fill : engine_fill_new();

        engine->spare_fill = NULL;
        if (fresh != NULL) {
            engine->fill->blob_last_id = blob_writer_last_id(engine->blob_writer);
            *engine->fills_tail = engine->fill;
            engine->fills_tail = &engine->fill->next;
            engine->fill = fresh;
        }
    }
    taken = engine->fills;
    engine->fills = NULL;
    engine->fills_tail = &engine->fills;
    return taken;
}

/* Blob data that a fill refers to: into the group when it is little, else into its chunk. */
static int leader_settle_blobs(struct engine *engine, const struct fill *fill,
                               struct blob_piece *pieces)
{
    int count = blob_writer_take_pieces(engine->blob_writer, fill->blob_last_id,
                                        COMMIT_PIECES_BYTES, pieces, COMMIT_PIECES_MAX);

    return count != -E2BIG ? count : blob_writer_sync(engine->blob_writer);
}

/* Tell the flush thread where the log goes on after a generation. */
static void generation_set_segment(struct engine *engine, struct generation *ended,
                                   uint64_t segment)
{
    lock_acquire(&engine->write_lock);
    ended->next_segment = segment;
    lock_release(&engine->write_lock);
}

static int leader_write_group(struct engine *engine, const struct fill *fill, bool sync,
                              const char **ret_what)
{
    struct blob_piece pieces[COMMIT_PIECES_MAX];
    struct wal_group group = {
        .pieces = pieces,
        .entries = buffer_slice(&fill->entries),
        .first_sequence = fill->first_sequence,
        .last_sequence = fill->last_sequence,
    };
    int count;

    *ret_what = "blob data";
    count = leader_settle_blobs(engine, fill, pieces);
    if (count < 0)
        return count;
    group.piece_count = (size_t)count;
    *ret_what = "write-ahead log";
    count = wal_write_group(engine->wal, &group, sync);
    if (count < 0)
        blob_writer_return_pieces(engine->blob_writer, pieces, (int)group.piece_count);
    return count;
}

/* *ret_left: those that are not written, in order; NULL when all are. With `sync` those that are
 * written are durable, unless it latches: a shortage that later ones meet is not theirs. */
static int leader_write_fills(struct engine *engine, struct fill *fills, bool sync,
                              struct fill **ret_left, const char **ret_what)
{
    struct fill *fill = fills;
    bool synced = false;
    int result = 0;

    *ret_what = "write-ahead log";
    for (; fill != NULL; fill = fill->next) {
        if (fill->entries.size > 0) {
            bool is_last = sync && fill->next == NULL;

            result = leader_write_group(engine, fill, is_last, ret_what);
            synced = is_last && result == 0;
        }
        if (result == 0 && fill->ended != NULL) {
            uint64_t segment;

            result = wal_roll(engine->wal, &segment);
            if (result == 0)
                generation_set_segment(engine, fill->ended, segment);
        }
        if (result < 0)
            break;
    }
    *ret_left = fill;
    if (sync && !synced && (result == 0 || engine_can_retry(engine, result))) {
        int synced_result = wal_sync(engine->wal);

        if (synced_result < 0)
            result = synced_result;
    }
    return result;
}

/* Done with the fills: keep one for reuse. */
static size_t leader_free_fills(struct fill *fills, struct fill **ret_spare)
{
    size_t bytes = 0;

    *ret_spare = NULL;
    while (fills != NULL) {
        struct fill *next = fills->next;

        bytes += fills->entries.size;
        if (*ret_spare == NULL) {
            struct buffer entries = fills->entries;

            entries.size = 0;
            *fills = (struct fill){.entries = entries};
            *ret_spare = fills;
        } else {
            engine_fill_free(fills);
        }
        fills = next;
    }
    return bytes;
}

static uint64_t commit_position(struct engine *engine, bool sync)
{
    return atomic_load_explicit(sync ? &engine->durable_sequence : &engine->written_sequence,
                                memory_order_acquire);
}

/* Part the fills before `left`: those that are done. */
static struct fill *leader_cut_fills(struct fill *fills, struct fill *left)
{
    struct fill **link = &fills;

    while (*link != left)
        link = &(*link)->next;
    *link = NULL;
    return fills;
}

/* What a shortage left over goes first in the next round. */
static void leader_put_back_locked(struct engine *engine, struct fill *left)
{
    struct fill **tail = &left->next;

    while (*tail != NULL)
        tail = &(*tail)->next;
    *tail = engine->fills;
    if (engine->fills == NULL)
        engine->fills_tail = tail;
    engine->fills = left;
}

/* The last record of `fills`, 0 when they have none. */
static uint64_t leader_last_sequence(const struct fill *fills)
{
    uint64_t last = 0;

    for (; fills != NULL; fills = fills->next)
        if (fills->entries.size > 0)
            last = fills->last_sequence;
    return last;
}

/* One round as the leader; write_lock held before and after, nobody else leads. -ENOMEM when a
 * shortage of memory left nothing to do: another round at once would be the same again. */
static int lead_once_locked(struct engine *engine, bool sync)
{
    struct fill *fills, *left, *spare;
    bool can_retry = false, starved;
    uint64_t taken_sequence;
    const char *what;
    size_t bytes;
    int result;

    engine->leader = true;
    fills = leader_take_fills_locked(engine);
    /* Without memory for a fresh fill the open one stays, and is for the next round. */
    taken_sequence = engine->fill->entries.size == 0 ? engine->next_sequence - 1
                                                     : engine->fill->first_sequence - 1;
    starved = fills == NULL && engine->fill->entries.size > 0;
    lock_release(&engine->write_lock);

    result = leader_write_fills(engine, fills, sync, &left, &what);
    if (result < 0) {
        can_retry = engine_can_retry(engine, result);
        if (can_retry)
            fills = leader_cut_fills(fills, left);
        else
            engine_failed(engine, result, what);
        taken_sequence = leader_last_sequence(fills);
    }
    bytes = leader_free_fills(fills, &spare);

    lock_acquire(&engine->write_lock);
    engine->log_starved = can_retry ? result : starved ? -ENOMEM : 0;
    if (can_retry && left != NULL)
        leader_put_back_locked(engine, left);
    if (can_retry && taken_sequence > engine->written_sequence)
        atomic_store_explicit(&engine->written_sequence, taken_sequence, memory_order_release);
    if (can_retry && sync)
        atomic_store_explicit(&engine->durable_sequence, engine->written_sequence,
                              memory_order_release);
    if (result == 0) {
        atomic_store_explicit(&engine->written_sequence, taken_sequence, memory_order_release);
        if (sync)
            atomic_store_explicit(&engine->durable_sequence, taken_sequence, memory_order_release);
        invariant(engine->durable_sequence <= engine->written_sequence &&
                  engine->written_sequence <= engine->visible_sequence);
    }
    engine->fill_bytes -= bytes;
    if (engine->spare_fill == NULL) {
        engine->spare_fill = spare;
        spare = NULL;
    }
    if (wal_wants_spare(engine->wal))
        pthread_cond_signal(&engine->log_wanted);
    leader_finish_locked(engine);
    engine_fill_free(spare);
    return result == 0 && starved ? -ENOMEM : result;
}

int engine_commit(struct engine *engine, uint64_t sequence, bool sync)
{
    int result = 0;

    lock_acquire(&engine->write_lock);
    while (result == 0 && commit_position(engine, sync) < sequence) {
        if (engine_latched(engine))
            result = ERROR_LATCHED;
        else if (engine->leader)
            lock_wait(&engine->write_lock, &engine->commit_done);
        else
            result = lead_once_locked(engine, sync);
    }
    if (commit_position(engine, sync) >= sequence)
        result = 0; /* what came later is starved, not this */
    lock_release(&engine->write_lock);
    return result;
}

int engine_commit_generation(struct engine *engine, struct generation *generation)
{
    int result = 0;

    lock_acquire(&engine->write_lock);
    while (result == 0 && generation->next_segment == 0) {
        if (engine_latched(engine))
            result = ERROR_LATCHED;
        else if (engine->leader)
            lock_wait(&engine->write_lock, &engine->commit_done);
        else
            result = lead_once_locked(engine, false);
    }
    lock_release(&engine->write_lock);
    return result;
}

int engine_sync(struct engine *engine, uint64_t sequence)
{
    uint64_t begin, took;
    int result;

    if (atomic_load_explicit(&engine->durable_sequence, memory_order_acquire) >= sequence)
        return 0;
    if (engine_latched(engine))
        return ERROR_LATCHED;
    blocking_enter();
    begin = clock_monotonic_ns();
    result = engine_commit(engine, sequence, true);
    took = clock_monotonic_ns() - begin;
    ENGINE_COUNT(engine, syncs, 1);
    ENGINE_COUNT(engine, sync_ns_total, took);
    ENGINE_COUNT_LONGEST(engine, sync_ns_max, took);
    return result;
}

/* ---- the log thread: the sync window, full buffers, spare segments ---- */

void *engine_log_main(void *context)
{
    struct engine *engine = context;
    uint64_t window_ns = (uint64_t)engine->options.sync_window_ms * 1000000;
    uint64_t due = clock_monotonic_ns() + window_ns, retry_ns = 0;

    lock_acquire(&engine->write_lock);
    while (!engine->stopping) {
        uint64_t now = clock_monotonic_ns();
        uint64_t sequence = engine->next_sequence - 1;
        bool full = engine->fill_bytes >= engine->options.wal_buffer_bytes / 2;
        bool window = window_ns > 0 && now >= due;
        bool idle = atomic_load(&engine->durable_sequence) >= sequence;

        if (engine_latched(engine)) {
            lock_wait(&engine->write_lock, &engine->log_wanted);
            continue;
        }
        if (engine->log_starved != 0 && now < retry_ns) {
            lock_wait_until(&engine->write_lock, &engine->log_wanted, retry_ns);
            continue;
        }
        retry_ns = now + LOG_RETRY_NS;
        if (window)
            due = now + window_ns;
        if (full || window || wal_wants_spare(engine->wal)) {
            lock_release(&engine->write_lock);
            if (full || (window && !idle))
                (void)engine_commit(engine, sequence, window); /* a failure has latched */
            if (!idle || wal_wants_spare(engine->wal))
                (void)wal_prepare_spare(engine->wal); /* made in place when it fails here */
            if (window)
                engine_witness_write(engine);
            lock_acquire(&engine->write_lock);
            continue;
        }
        if (window_ns > 0)
            lock_wait_until(&engine->write_lock, &engine->log_wanted, due);
        else
            lock_wait(&engine->write_lock, &engine->log_wanted);
    }
    lock_release(&engine->write_lock);
    return NULL;
}
