/* SPDX-License-Identifier: Apache-2.0 */
/*
 * blob_stream.h - what the parts of the blob writer share; private to blob_writer.c, blob_append.c,
 * blob_flush.c and blob_seal.c
 *
 * A chunk is a stream of bytes, cut into pieces of BLOB_BUFFER_SIZE at multiples of that size. The
 * pieces that are not wholly written yet lie in buffers, a contiguous run of them up to the end:
 *
 *      0        synced      first buffer's position        end
 *      |--------------|-----------|--------written-----------|
 *      in the file only           in buffers
 *
 * Invariants: synced <= written <= end; covered <= end; bytes below `end` never change.
 *
 * Who writes files: whoever holds the writing role (is_writing): the thread, or a caller that syncs
 * or seals. The role is held across I/O, the lock never is. Who syncs a chunk's file sets
 * is_syncing on it: two syncs of one file never overlap, because only one of them would learn of an
 * error.
 */
#ifndef VARVE_ENGINE_BLOB_STREAM_H
#define VARVE_ENGINE_BLOB_STREAM_H

#include <stdatomic.h>

#include "engine/base/lock.h"
#include "engine/blob_writer.h"

#define BLOB_BUFFER_SIZE ((uint64_t)1024 * 1024)

/* A frame, and the gap that aligns it, touch two buffers at most. */
_Static_assert(BLOB_FRAME_SIZE_MAX + CHUNK_HEADER_SIZE + BLOB_BLOCK_SIZE < BLOB_BUFFER_SIZE,
               "an append needs one new buffer at most");

struct blob_buffer {
    struct blob_buffer *next;
    uint8_t *data;
    uint64_t position; /* of its first byte in the chunk */
};

struct blob_chunk {
    struct blob_chunk *next; /* in the writer's list, by rising id */
    uint64_t id;

    /* Under the writer's lock. */
    unsigned references; /* the list's, and one for each who uses it without the lock */
    uint64_t end;        /* of what was appended */
    uint64_t written;    /* the file has all bytes below */
    uint64_t synced;     /* the file has them for good */
    uint64_t covered;    /* the write-ahead log has those between synced and this */
    uint64_t frames;
    struct blob_buffer *first, *last;
    bool is_ended;   /* no more appends */
    bool is_syncing; /* somebody waits for a sync of its file */
    bool is_sealed;
    bool is_entry_synced; /* changed by who set is_syncing, or before the chunk is in the list */
    struct chunk_identity identity; /* once sealed */

    /* Of who has the writing role; once set, `reader` is anybody's. */
    struct io_file *file;         /* direct */
    struct io_file *reader;       /* buffered */
    struct read_around around;    /* of `reader` */
    struct checksum_stream *hash; /* of the bytes below `written` */
    uint8_t *tail; /* two aligned blocks: the header at first, the last partial block at the end */
};

struct blob_writer {
    struct blob_writer_options options;
    uint8_t store_uuid[STORE_UUID_SIZE];
    pthread_t thread, sync_thread;
    bool has_thread, has_sync_thread;
    uint8_t *bounce;             /* of who has the writing role */
    struct blob_buffer *buffers; /* all of them, an array */
    uint8_t *buffer_memory;      /* of the buffers and of `bounce` */
    struct buffer pieces;        /* what blob_writer_take_pieces() handed out */
    _Atomic uint64_t lowest_id;  /* of the list; UINT64_MAX: empty */
    struct codec_history history;

    struct lock lock;       /* LOCK_RANK_BLOB */
    pthread_cond_t work;    /* for the thread */
    pthread_cond_t ahead;   /* for the one that syncs ahead */
    pthread_cond_t room;    /* a buffer got free */
    pthread_cond_t changed; /* a role or a flag got free */
    struct blob_buffer *free_buffers;
    struct blob_chunk *chunks;
    struct blob_chunk *open; /* the one that takes appends, in the list; may be NULL */
    struct blob_chunk *next; /* made ahead, with its file; not in the list */
    bool has_prepare_failed; /* do not try again before the next chunk starts */
    bool is_writing;
    unsigned role_waiters; /* callers; the thread lets them go first */
    bool is_sealing;
    bool must_stop;
    int error;
    int shortage;      /* of the last write, or 0: to be tried again */
    bool is_abandoned; /* what is not sealed goes with the writer */
    uint64_t last_id;
    uint64_t space_bytes; /* free in the file system when last asked, less the reserve */
    struct blob_writer_statistics statistics;
};

/* ---- blob_writer.c ---- */

/* A chunk with one reference, no file yet. NULL: out of memory. */
struct blob_chunk *blob_chunk_new(struct blob_writer *writer, uint64_t id);
void blob_chunk_free(struct blob_writer *writer, struct blob_chunk *chunk); /* accepts NULL */

/* Lock held; released while the last reference frees the chunk. */
void blob_chunk_unref_locked(struct blob_writer *writer, struct blob_chunk *chunk);

/* Lock held. */
struct blob_chunk *blob_writer_find_locked(struct blob_writer *writer, uint64_t chunk_id);
int blob_writer_latch_locked(struct blob_writer *writer, int error);

/* The list of chunks has changed. Lock held. */
void blob_writer_update_lowest_locked(struct blob_writer *writer);

/* ---- blob_flush.c ---- */

void *blob_writer_thread(void *argument);
void *blob_writer_sync_thread(void *argument);

/* Make the chunk's file. Called with the writing role, or on a chunk that nobody else knows. */
int blob_chunk_create_file(struct blob_writer *writer, struct blob_chunk *chunk);

/* Remove the file, if it was made, and free. No lock held; accepts NULL. */
void blob_chunk_discard(struct blob_writer *writer, struct blob_chunk *chunk);

/* Ask the file system how much there is. No lock held. */
uint64_t blob_writer_free_space(struct blob_writer *writer);

/* Keep the error, if it is the first, and name the chunk in the log. Lock held. */
int blob_chunk_failed_locked(struct blob_writer *writer, const struct blob_chunk *chunk, int error,
                             const char *what); /* keeps `error` unless it is a shortage */
int blob_chunk_latch_locked(struct blob_writer *writer, const struct blob_chunk *chunk, int error,
                            const char *what);

/* Lock held; released while waiting or working. */
void blob_writer_take_role_locked(struct blob_writer *writer);
void blob_writer_leave_role_locked(struct blob_writer *writer);
int blob_chunk_write_locked(struct blob_writer *writer, struct blob_chunk *chunk, uint64_t target);
int blob_chunk_sync_locked(struct blob_writer *writer, struct blob_chunk *chunk, uint64_t target);

#endif
