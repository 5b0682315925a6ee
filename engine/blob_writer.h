/* SPDX-License-Identifier: Apache-2.0 */
/*
 * blob_writer.h - the stream of file data into blob chunks
 *
 * Owns:       the open blob chunks of chunks/ (<id>.open), their buffers, one thread that writes
 *             them and one that syncs ahead. Sealed chunks are not its business any more.
 * How:        a frame is compressed where it pays (CODEC_NONE frames of 4096 bytes or more start at
 *             a multiple of 4096), then appended to a ring of aligned 1 MiB buffers; full buffers
 *             are written with direct I/O by the thread. A chunk that reaches its size, or
 *             blob_writer_roll(), ends the chunk: appends go on in a new one, the old one is sealed
 *             when somebody asks (blob_writer_seal()).
 * Guarantees: after blob_writer_sync() returned 0 every frame appended before it is on disk; bytes
 *             of a frame are readable (blob_writer_read()) as soon as the append returned; ids are
 *             the next ones of the allocator, never reused. A new chunk's directory entry is synced
 *             before its first frame is reported durable.
 * Bounds:     at most `buffer_count` MiB of unwritten data; past it appends wait
 *             (blocking_enter()). With `sync_ahead_bytes` a second thread syncs a chunk whenever so
 *             much of it is written and not durable, at most a quarter of the time: what a
 *             blob_writer_sync() finds left to do stays small while a stream goes on.
 * Errors:     the first write or sync error is kept: every later append and sync returns it.
 *             A shortage (error_is_shortage()) that a write meets is not kept: what could not be
 *             written stays in its buffers and is tried again, by the thread now and then, and by
 *             whoever syncs or seals, who is told. Appends that need a buffer are told too. A sync
 *             is never tried again.
 * Threads:    every function from any thread. Lock: LOCK_RANK_BLOB, no I/O under it; compression
 *             happens before the lock is taken.
 */
#ifndef VARVE_ENGINE_BLOB_WRITER_H
#define VARVE_ENGINE_BLOB_WRITER_H

#include "engine/base/crew.h"
#include "engine/base/io.h"
#include "engine/blob_ref.h"
#include "engine/chunk_format.h"
#include "engine/read_around.h"

struct blob_writer;

struct blob_writer_options {
    struct io *io;
    struct io_file *chunk_directory;
    const uint8_t *store_uuid;
    uint64_t chunk_size_bytes; /* a chunk ends once it has this many bytes */
    uint32_t buffer_count;     /* 1 MiB each, at least 2 */
    int compression_level;     /* zstd level; 0: none */
    uint64_t sync_ahead_bytes; /* sync without being asked once so much is written; 0: never */
    struct crew *crew;         /* helps to compress; NULL: nobody does. The caller's */
    struct read_around_budget *around; /* what is fetched around small reads; NULL: nothing */
    /* The next chunk id; called with no lock of the writer held. */
    uint64_t (*allocate_id)(void *context);
    void *context;
};

int blob_writer_open(const struct blob_writer_options *options, struct blob_writer **ret_writer);

/* Stops the threads. Unsealed chunks stay as they are on disk. Accepts NULL. */
void blob_writer_close(struct blob_writer *writer);

/* What is done to the bytes of a frame. */
enum blob_effort {
    BLOB_COMPRESS, /* as the writer's options say, where it pays */
    BLOB_AS_IS,    /* for those who wait for it */
};

/*
 * Append `size` bytes (1..BLOB_FRAME_SIZE_MAX) as one frame. The reference covers all of it.
 * -ENOMEM, the writer's first error, or -ENOSPC, which is not kept: a reserve is left in the file
 * system (64 MiB, or a 64th of a small one) so that deleting still works.
 */
int blob_writer_append(struct blob_writer *writer, const void *data, uint32_t size,
                       enum blob_effort effort, struct blob_ref *ret_ref);

/*
 * The same of `count` frames (1..BLOB_APPEND_FRAMES_MAX) of BLOB_FRAME_SIZE_MAX bytes, one behind the
 * other in `data`; several are compressed at once. After an error some may have been appended, to
 * which nothing refers.
 */
int blob_writer_append_frames(struct blob_writer *writer, const void *data, size_t count,
                              struct blob_ref *ret_refs);

/* A piece of an open chunk that is not durable in its file yet. */
struct blob_piece {
    uint64_t chunk_id;
    uint64_t position;
    uint32_t size;
    const uint8_t *data; /* lives until the next blob_writer_take_pieces() or _sync() */
};

/*
 * If everything in chunks up to `up_to_id` that is not yet durable amounts to at most `limit_bytes`
 * and still lies in buffers, copy it out as pieces, at most `room` of them, and return their number
 * (0: nothing is pending). The caller puts them into the WAL, which then answers for their
 * durability: they are not offered again and the next blob_writer_sync() may skip them (they reach
 * the chunk file in time, and are synced there by blob_writer_seal()). So a piece taken must be
 * written, also when there is no entry to go with it, and to a segment that is not retired before
 * the piece's chunk is sealed. Otherwise returns -E2BIG: call blob_writer_sync(). -ENOMEM; the
 * writer's first error. One caller at a time (the commit leader).
 */
int blob_writer_take_pieces(struct blob_writer *writer, uint64_t up_to_id, size_t limit_bytes,
                            struct blob_piece *pieces, int room);

/* The pieces just taken were not written to the log: they are pending again. */
void blob_writer_return_pieces(struct blob_writer *writer, const struct blob_piece *pieces,
                               int count);

/* Write and fdatasync everything appended so far, in every unsealed chunk. */
int blob_writer_sync(struct blob_writer *writer);

/* End the open chunk if it has frames: later appends go to a new one. Returns an id that parts
 * them: every frame appended before lies in a chunk with at most this id, every later one above.
 * (Asked for afterwards, blob_writer_last_id() may name a chunk begun since.) No I/O. */
uint64_t blob_writer_roll(struct blob_writer *writer);

/*
 * Seal all chunks that ended (by size or roll) and whose id is <= `up_to_id`: write the rest, the
 * trailer, fsync, 0444, rename to the final name, fsync the directory. Appends the identity of
 * each, and of those sealed before and not forgotten yet (so that a caller who failed later can
 * call again), to *identities (an array it reallocs; *count is its length). Until the caller says
 * blob_writer_forget(), reads of these chunks still work here.
 */
int blob_writer_seal(struct blob_writer *writer, uint64_t up_to_id,
                     struct chunk_identity **identities, size_t *count);

/* The id of the newest chunk started so far (0: none yet). */
uint64_t blob_writer_last_id(struct blob_writer *writer);

/*
 * Read stored bytes [position, position + size) of an unsealed (or just sealed and not forgotten)
 * chunk into `to`: 1 when done, 0 when the chunk is not the writer's, or an error.
 */
int blob_writer_read(struct blob_writer *writer, uint64_t chunk_id, uint64_t position,
                     uint32_t size, void *to);

/* The chunk is known to the version now; drop what is held for it. */
void blob_writer_forget(struct blob_writer *writer, uint64_t chunk_id);

/* The error that is kept, or 0. */
int blob_writer_error(struct blob_writer *writer);

/* Nobody refers to what is not sealed: closing the writer removes it. */
void blob_writer_abandon(struct blob_writer *writer);

struct blob_writer_statistics {
    uint64_t frames, raw_bytes, stored_bytes, chunks_sealed, waits, syncs_ahead;
    uint64_t pending_bytes, pending_peak_bytes;
};
void blob_writer_get_statistics(struct blob_writer *writer, struct blob_writer_statistics *ret);

/*
 * Recovery: make a sealed chunk of <id>.open whose frames end at `end` (the highest position a
 * surviving reference reaches), after writing `pieces` (from the WAL) into it: cut to `end`, write
 * the trailer, fsync, 0444, rename, fsync the directory. A missing file with all bytes covered by
 * pieces is created. Safe to repeat after a crash in the middle, also after the rename: a chunk that
 * has its final name is taken as it is when its trailer fits that name and `end`. -EINVAL
 * when `end` leaves no content; ERROR_MISSING_CHUNK, ERROR_TRUNCATED or ERROR_CORRUPT when file and
 * pieces are not the whole of it; ERROR_FOREIGN, ERROR_VERSION_NEWER; what io gives.
 */
int blob_recover_open_chunk(struct io *io, struct io_file *chunk_directory,
                            const uint8_t *store_uuid, uint64_t id, uint64_t end,
                            const struct blob_piece *pieces, size_t piece_count,
                            struct chunk_identity *ret_identity);

#endif
