/* SPDX-License-Identifier: Apache-2.0 */
/*
 * wal.h - the durable log of batches that are not in a table yet
 *
 * Owns:       wal/ of the store; nobody else opens these files. Segments <number, 16 hex>.wal,
 *             preallocated and zero-filled, overwritten in place; a retired segment is renamed to a
 *             later number and reused only while its link count is 1.
 * Unit:       a group: one header, then pieces of blob data (redo), then encoded batches and
 *             marks. A group is written whole and checksummed whole (with segment number and offset
 *             in the checksum, so that what an earlier use of the segment left is never taken for
 *             a record); recovery takes it whole or ends there.
 * Guarantees: after wal_write_group(sync) returned 0 the group and all before it survive power
 *             loss. Groups are contiguous; sequence numbers rise exactly, across groups.
 *             `durable <= written` always.
 * Rot:        every group carries the offset up to which the segment was synced when it was
 *             written. An unreadable group below an offset that a later valid group declares
 *             synced is not a torn tail: wal_replay() returns ERROR_CORRUPT and recovers nothing
 *             beyond it silently.
 * Errors:     the first write or sync error is kept and returned by every later call (P6). Not kept
 *             is a shortage (error_is_shortage()) met by anything but a sync: the group does not
 *             count as written, and the call may be repeated, with this group or with another.
 * Threads:    wal_write_group, wal_roll and wal_retire: one caller at a time (the commit leader
 *             holds the right); statistics from any thread. A spare segment is prepared ahead by
 *             wal_prepare_spare(), from any one thread.
 * Format:     wal_format.h, docs/on-disk-format.md#wal
 */
#ifndef VARVE_ENGINE_WAL_H
#define VARVE_ENGINE_WAL_H

#include "engine/base/io.h"
#include "engine/blob_writer.h"
#include "engine/chunk_format.h"

struct wal;

enum wal_entry_kind {
    WAL_BATCH = 1, /* an encoded batch; its records have the sequence numbers from first on */
    WAL_MARK = 2,  /* opaque bytes at a point of the order; takes one sequence number */
};

struct wal_group {
    const struct blob_piece *pieces;
    size_t piece_count;
    /* Each: kind u8, size u32, first sequence u64, bytes (wal_entry_append() writes them). */
    struct slice entries;
    uint64_t first_sequence; /* of the first entry */
    uint64_t last_sequence;  /* of the last record */
};

struct wal_options {
    struct io *io;
    struct io_file *directory; /* wal/ */
    const uint8_t *store_uuid;
    uint64_t segment_size_bytes; /* a multiple of 4096, at least 64 KiB */
    uint32_t spares_max;         /* retired segments kept for reuse, see wal_limit_spares() */
};

/* Start writing in a new segment numbered `first_segment` (above all that exist or existed). */
int wal_open(const struct wal_options *options, uint64_t first_segment, struct wal **ret_wal);
void wal_close(struct wal *wal); /* accepts NULL; no sync */

/* Append one entry to `to`. 0, -ENOMEM, or -EFBIG (over 1 GiB). */
int wal_entry_append(struct buffer *to, enum wal_entry_kind kind, uint64_t first_sequence,
                     struct slice bytes);

/*
 * Write a group, moving to the next segment when it does not fit in the present one (a group larger
 * than a segment gets a segment of its own size); with `sync`, fdatasync. 0, the first error, a
 * shortage (see Errors), or -EFBIG (over 1 GiB; nothing was done). Numbers that do not continue
 * those of the group before, and malformed entries, are broken invariants.
 */
int wal_write_group(struct wal *wal, const struct wal_group *group, bool sync);

/* fdatasync what was written without. */
int wal_sync(struct wal *wal);

/* The next group goes to a new segment, numbered *ret_segment or, when making that one fails,
 * higher. No group before it is in such a segment. */
int wal_roll(struct wal *wal, uint64_t *ret_segment);

/* Segments below `segment` are needed no more: recycle or delete them. */
int wal_retire(struct wal *wal, uint64_t segment);

/* Where room is short: keep at most `spares_max` retired segments from now on, and remove those that
 * are too many. From any thread. 0, or the first error of removing them. */
int wal_limit_spares(struct wal *wal, uint32_t spares_max);

/* Make the next segment (create and zero-fill, or recycle) ahead of need, at any time. */
int wal_prepare_spare(struct wal *wal);

/* Has the spare been used since one was last made or tried? Then the next group that needs a new
 * segment would have to make it itself, which takes some syncs. */
bool wal_wants_spare(struct wal *wal);

/* The error that is kept, or 0. */
int wal_error(struct wal *wal);

struct wal_statistics {
    uint64_t groups, bytes, syncs, segments_created, segments_recycled;
    uint64_t segment;        /* number of the present segment */
    uint64_t written_offset; /* in it */
    uint64_t durable_offset; /* in it; <= written */
    uint64_t segments_live;
};
void wal_get_statistics(struct wal *wal, struct wal_statistics *ret);

/* ---- replay ---- */

struct wal_replay_entry {
    enum wal_entry_kind kind;
    uint64_t first_sequence;
    struct slice bytes; /* live until the callback returns */
};

struct wal_replay_callbacks {
    /* Called for every group, before its entries: the pieces of blob data that it carries. */
    int (*piece)(void *context, const struct blob_piece *piece);
    int (*entry)(void *context, const struct wal_replay_entry *entry);
    void *context;
};

struct wal_replay_result {
    uint64_t groups, entries;
    uint64_t last_sequence;   /* of the last record replayed; 0: none */
    uint64_t highest_segment; /* seen in the directory; 0: none */
    bool torn;                /* it ended in a group that was not written wholly */
};

/*
 * Replay, in order, every group of segments >= `first_segment`. `closed` is the manifest's word that
 * the store was closed with nothing in its log: a segment without a group at its first place is then
 * taken to be empty, and what is behind is not read. A callback's non-zero return ends it and is
 * returned. Missing segments in the middle, sequence numbers that do not continue, groups
 * that are damaged although a later one declares them synced: ERROR_CORRUPT (logged with segment
 * and offset). ERROR_VERSION_NEWER, ERROR_FOREIGN. Writes nothing.
 */
int wal_replay(struct io *io, struct io_file *directory, const uint8_t *store_uuid,
               uint64_t first_segment, bool closed, const struct wal_replay_callbacks *callbacks,
               struct wal_replay_result *ret_result);

/* Delete all segments below `segment`, spares included (after recovery). On a file system without a
 * journal the name of a segment deleted before may have come back, for whatever has its inode now:
 * a directory is moved to `trash`, which is swept. */
int wal_delete_below(struct io *io, struct io_file *directory, struct io_file *trash,
                     uint64_t segment);

#endif
