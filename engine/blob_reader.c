/* SPDX-License-Identifier: Apache-2.0 */
/*
 * blob_reader.c - from references to verified bytes
 *
 * A request is cut into batches that need a bounded amount of memory. In a batch:
 *   item  one reference, and the range of its chunk that must be read to verify it: the stored
 *         frame when compressed, else the blocks that the slice touches;
 *   run   one read: items whose ranges follow each other in one chunk.
 * A small run is read to its destination when the items want exactly its bytes, one behind the
 * other, and otherwise to the thread's scratch memory. Then every item is verified, and decoded or
 * copied.
 *
 * Large runs go through a direct descriptor: the kernel above caches files, so a second copy of
 * their bytes under the chunk's name only costs. They come best into memory in huge pages (1 MiB at
 * 2,000 to 3,000 MB/s, in small pages at 1,100): scratch is that, and a destination for so much
 * should be (io_allocate_aligned()). Smaller ones are read buffered: their neighbours in the chunk
 * are mostly wanted next, and read-ahead has them then, where direct reads of 128 KiB one by one
 * give 600 MB/s.
 */
#include "engine/blob_reader.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "engine/base/checksum.h"
#include "engine/base/endian.h"
#include "engine/base/error.h"
#include "engine/base/log.h"
#include "engine/base/scratch.h"
#include "engine/blob_files.h"
#include "engine/chunk_hash.h"

#define BATCH_ITEMS_MAX ((size_t)64)
#define BATCH_BYTES_MAX ((uint64_t)1024 * 1024)
#define RUN_SIZE_MAX    ((uint64_t)1024 * 1024)
#define DIRECT_SIZE_MIN ((uint64_t)256 * 1024)

/* Bytes between two ranges that are cheaper to read than to skip: what aligns a frame. */
#define GAP_SIZE_MAX BLOB_BLOCK_SIZE

struct blob_reader {
    struct blob_reader_options options;
    uint64_t space; /* of the cache's keys */
    struct blob_files files;
};

struct item {
    const struct blob_ref *ref;
    uint8_t *to;
    uint64_t start, end; /* what must be read */
    const uint8_t *data; /* where it is then */
    bool is_exact;       /* the range is what is wanted: it can be read to `to` */
    bool is_done;
};

struct run {
    uint64_t chunk_id;
    uint64_t start, end;
    size_t first, count; /* items */
    bool is_in_place;
    bool is_direct;
    bool is_read;    /* by the blob writer */
    uint8_t *buffer; /* where the byte at `start` goes */
    struct blob_file *file;
};

struct batch_of_reads {
    struct item items[BATCH_ITEMS_MAX];
    size_t item_count;
    struct run runs[BATCH_ITEMS_MAX];
    size_t run_count;
};

static int corrupt(const struct blob_ref *ref, const struct run *run, const char *what)
{
    char name[CHUNK_NAME_SIZE];

    if (run->file != NULL)
        chunk_name(name, &run->file->identity);
    else
        chunk_open_name(name, ref->chunk_id);
    log_error("blob chunk %s position %" PRIu64 ": %s", name, ref->position, what);
    return ERROR_CORRUPT;
}

/* ---- cached frames ---- */

/* A cached frame is the raw bytes and the checksum of what they were decoded from, so that a hit is
 * as good as a read: it is the frame that the reference means. */
#define CACHED_TRAILER_SIZE 8

static struct block *cached_frame(struct blob_reader *reader, const struct blob_ref *ref)
{
    struct block_key key = {reader->space, ref->chunk_id, ref->position};
    struct block *block;

    if (reader->options.cache == NULL || ref->codec != CODEC_ZSTD)
        return NULL;
    block = block_cache_get(reader->options.cache, &key);
    if (block != NULL && (block->size_bytes != ref->raw_size + (size_t)CACHED_TRAILER_SIZE ||
                          get_le64(block->data + ref->raw_size) != ref->frame_checksum)) {
        block_release(block);
        return NULL;
    }
    return block;
}

static bool copy_from_cache(struct blob_reader *reader, struct item *item)
{
    struct block *block = cached_frame(reader, item->ref);

    if (block == NULL)
        return false;
    memcpy(item->to, block->data + item->ref->skip, item->ref->length);
    block_release(block);
    return true;
}

/* Decode the frame to a block, take the slice, and offer the block to the cache. */
static int decode_part(struct blob_reader *reader, struct item *item)
{
    const struct blob_ref *ref = item->ref;
    struct block_key key = {reader->space, ref->chunk_id, ref->position};
    struct block *block = block_new(ref->raw_size + (size_t)CACHED_TRAILER_SIZE);
    int error;

    if (block == NULL)
        return -ENOMEM;
    error = codec_decompress(block->data, ref->raw_size, item->data, ref->stored_size);
    if (error == 0) {
        put_le64(block->data + ref->raw_size, ref->frame_checksum);
        memcpy(item->to, block->data + ref->skip, ref->length);
        if (reader->options.cache != NULL)
            block = block_cache_insert(reader->options.cache, &key, block);
    }
    block_release(block);
    return error;
}

/* ---- items ---- */

static void item_init(struct item *item, const struct blob_read *read)
{
    const struct blob_ref *ref = read->ref;
    uint32_t first = 0, last = ref->stored_size;

    if (ref->codec == CODEC_NONE) {
        uint32_t end = ref->skip + ref->length;

        first = ref->skip - ref->skip % BLOB_BLOCK_SIZE;
        last = (end + BLOB_BLOCK_SIZE - 1) / BLOB_BLOCK_SIZE * BLOB_BLOCK_SIZE;
        if (last > ref->raw_size)
            last = ref->raw_size;
    }
    *item = (struct item){
        .ref = ref,
        .to = read->to,
        .start = ref->position + first,
        .end = ref->position + last,
        .is_exact = ref->codec == CODEC_NONE && first == ref->skip && last - first == ref->length,
    };
}

/* A reference that was not decoded by blob_ref_decode() could say anything; bounds are its. */
static int item_verify(const struct item *item, const struct run *run)
{
    const struct blob_ref *ref = item->ref;
    size_t size = (size_t)(item->end - item->start);

    if (ref->codec == CODEC_ZSTD)
        return checksum64(item->data, size) == ref->frame_checksum
                   ? 0
                   : corrupt(ref, run, "checksum of a frame does not match");
    for (size_t at = 0; at < size; at += BLOB_BLOCK_SIZE) {
        size_t part = size - at < BLOB_BLOCK_SIZE ? size - at : BLOB_BLOCK_SIZE;

        if (checksum32(item->data + at, part) != ref->block_checksums[at / BLOB_BLOCK_SIZE])
            return corrupt(ref, run, "checksum of a block does not match");
    }
    return 0;
}

static int item_decode(struct blob_reader *reader, struct item *item, const struct run *run)
{
    const struct blob_ref *ref = item->ref;
    int error = item_verify(item, run);

    if (error < 0)
        return error;
    if (ref->codec == CODEC_NONE) {
        const uint8_t *from = item->data + (ref->position + ref->skip - item->start);

        if (from != item->to)
            memcpy(item->to, from, ref->length);
        return 0;
    }
    if (ref->length == ref->raw_size)
        error = codec_decompress(item->to, ref->raw_size, item->data, ref->stored_size);
    else
        error = decode_part(reader, item);
    return error == ERROR_CORRUPT ? corrupt(ref, run, "a frame does not decompress") : error;
}

static int item_deliver(struct blob_reader *reader, struct item *item, const struct run *run)
{
    int error = item_decode(reader, item, run);

    if (error == ERROR_CORRUPT)
        io_note_corruption(reader->options.io);
    return error;
}

/* ---- runs ---- */

static bool follows_in_place(const struct run *run, const struct item *last,
                             const struct item *item)
{
    return run->is_in_place && item->is_exact && item->start == run->end &&
           item->to == last->to + last->ref->length;
}

static bool follows(const struct run *run, const struct item *item)
{
    return item->start >= run->end && item->start - run->end <= GAP_SIZE_MAX;
}

static bool is_same_frame(const struct item *last, const struct item *item)
{
    return item->start == last->start && item->end == last->end;
}

static void batch_add(struct batch_of_reads *batch, const struct item *item)
{
    struct run *run = batch->run_count > 0 ? &batch->runs[batch->run_count - 1] : NULL;
    const struct item *last = batch->item_count > 0 ? &batch->items[batch->item_count - 1] : NULL;

    batch->items[batch->item_count++] = *item;
    if (run != NULL && run->chunk_id == item->ref->chunk_id &&
        item->end - run->start <= RUN_SIZE_MAX) {
        if (follows(run, item) || is_same_frame(last, item)) {
            run->is_in_place = follows_in_place(run, last, item);
            run->end = item->end;
            run->count++;
            return;
        }
    }
    batch->runs[batch->run_count++] = (struct run){
        .chunk_id = item->ref->chunk_id,
        .start = item->start,
        .end = item->end,
        .first = batch->item_count - 1,
        .count = 1,
        .is_in_place = item->is_exact,
    };
}

static uint64_t round_down(uint64_t value)
{
    return value & ~(uint64_t)(IO_DIRECT_ALIGNMENT - 1);
}

static uint64_t round_up(uint64_t value)
{
    return round_down(value + IO_DIRECT_ALIGNMENT - 1);
}

/* Can the destination take what a direct read brings, no more and no less? */
static bool is_aligned(const struct batch_of_reads *batch, const struct run *run)
{
    uintptr_t to = (uintptr_t)batch->items[run->first].to;

    return (run->start | run->end | to) % IO_DIRECT_ALIGNMENT == 0;
}

/* Scratch that a run takes, with what alignment adds at both ends. */
static size_t run_scratch_size(const struct run *run)
{
    return run->is_in_place ? 0 : (size_t)(round_up(run->end) - round_down(run->start));
}

static int place_runs(struct batch_of_reads *batch)
{
    uint8_t *scratch = NULL;
    size_t scratch_size = 0;

    for (size_t i = 0; i < batch->run_count; i++) {
        struct run *run = &batch->runs[i];

        run->is_direct = run->end - run->start >= DIRECT_SIZE_MIN;
        run->is_in_place = run->is_in_place && (!run->is_direct || is_aligned(batch, run));
        scratch_size += run_scratch_size(run);
    }
    if (scratch_size > 0) {
        scratch = scratch_get(scratch_size);
        if (scratch == NULL)
            return -ENOMEM;
    }
    for (size_t i = 0; i < batch->run_count; i++) {
        struct run *run = &batch->runs[i];

        if (run->is_in_place) {
            run->buffer = batch->items[run->first].to;
        } else {
            run->buffer = scratch + (run->start - round_down(run->start));
            scratch += run_scratch_size(run);
        }
        for (size_t k = run->first; k < run->first + run->count; k++)
            batch->items[k].data = run->buffer + (batch->items[k].start - run->start);
    }
    return 0;
}

/* The read that fetches a run; its result must reach run_needs() bytes. */
static struct io_read run_to_read(const struct run *run)
{
    uint64_t before = run->is_direct ? run->start - round_down(run->start) : 0;
    uint64_t end = run->is_direct ? round_up(run->end) : run->end;

    return (struct io_read){
        .file = run->is_direct ? run->file->direct : run->file->file,
        .data = run->buffer - before,
        .size_bytes = (size_t)(end - (run->start - before)),
        .offset = run->start - before,
    };
}

static int check_result(const struct run *run, const struct io_read *read)
{
    char name[CHUNK_NAME_SIZE];
    int error = 0;

    if (read->result < 0)
        error = (int)read->result;
    else if (read->offset + (uint64_t)read->result < run->end)
        error = ERROR_TRUNCATED;
    if (error < 0) {
        chunk_name(name, &run->file->identity);
        log_error("blob chunk %s position %" PRIu64 ": read: %s", name, run->start,
                  error_text(error));
    }
    return error;
}

static int open_run(struct blob_reader *reader, struct run *run)
{
    int result = 0;

    if (reader->options.writer != NULL)
        result = blob_writer_read(reader->options.writer, run->chunk_id, run->start,
                                  (uint32_t)(run->end - run->start), run->buffer);
    if (result != 0) {
        run->is_read = result > 0;
        return result < 0 ? result : 0;
    }
    return blob_files_acquire(&reader->files, run->chunk_id, run->is_direct, &run->file);
}

static int read_runs(struct blob_reader *reader, struct batch_of_reads *batch)
{
    struct io_read reads[BATCH_ITEMS_MAX];
    const struct run *read_for[BATCH_ITEMS_MAX];
    size_t count = 0;
    int error = 0;

    for (size_t i = 0; error == 0 && i < batch->run_count; i++) {
        struct run *run = &batch->runs[i];

        error = open_run(reader, run);
        if (error == 0 && !run->is_read) {
            read_for[count] = run;
            reads[count++] = run_to_read(run);
        }
    }
    if (error < 0)
        return error;
    (void)io_read_batch(reader->options.io, reads, count); /* each result is looked at */
    for (size_t i = 0; i < count; i++) {
        int result = check_result(read_for[i], &reads[i]);

        if (error == 0)
            error = result;
    }
    return error;
}

static void read_around_runs(struct blob_reader *reader, struct batch_of_reads *batch)
{
    for (size_t i = 0; i < batch->run_count; i++) {
        const struct run *run = &batch->runs[i];

        if (run->file != NULL && !run->is_direct)
            read_around(&run->file->around, reader->options.around, reader->options.io,
                        run->file->file, run->start, run->end - run->start,
                        run->file->identity.file_size_bytes);
    }
}

static int deliver_runs(struct blob_reader *reader, struct batch_of_reads *batch)
{
    for (size_t i = 0; i < batch->run_count; i++) {
        const struct run *run = &batch->runs[i];

        for (size_t k = run->first; k < run->first + run->count; k++) {
            struct item *item = &batch->items[k];
            /* The item before may have decoded the same frame. */
            bool is_repeat = k > run->first && item->start == item[-1].start;
            int error;

            if (is_repeat && copy_from_cache(reader, item))
                continue;
            error = item_deliver(reader, item, run);
            if (error < 0)
                return error;
        }
    }
    return 0;
}

static int batch_run(struct blob_reader *reader, struct batch_of_reads *batch)
{
    int error = place_runs(batch);

    if (error == 0)
        error = read_runs(reader, batch);
    if (error == 0)
        error = deliver_runs(reader, batch);
    if (error == 0)
        read_around_runs(reader, batch);
    for (size_t i = 0; i < batch->run_count; i++) {
        if (batch->runs[i].file != NULL)
            blob_files_release(&reader->files, batch->runs[i].file);
    }
    batch->item_count = 0;
    batch->run_count = 0;
    return error;
}

int blob_reader_read(struct blob_reader *reader, const struct blob_read *reads, size_t count)
{
    struct batch_of_reads batch;
    uint64_t bytes = 0;
    int error = 0;

    batch.item_count = 0;
    batch.run_count = 0;
    for (size_t i = 0; error == 0 && i < count; i++) {
        struct item item;

        item_init(&item, &reads[i]);
        if (copy_from_cache(reader, &item))
            continue;
        batch_add(&batch, &item);
        bytes += item.end - item.start;
        if (batch.item_count == BATCH_ITEMS_MAX || bytes >= BATCH_BYTES_MAX) {
            error = batch_run(reader, &batch);
            bytes = 0;
        }
    }
    if (error == 0 && batch.item_count > 0)
        error = batch_run(reader, &batch);
    return error;
}

/* ---- open, close, drop ---- */

int blob_reader_open(const struct blob_reader_options *options, struct blob_reader **ret_reader)
{
    struct blob_reader *reader = calloc(1, sizeof *reader);
    int error;

    if (reader == NULL)
        return -ENOMEM;
    reader->options = *options;
    error = block_cache_space(options->store_uuid, &reader->space);
    if (error == 0)
        error = blob_files_init(&reader->files, options);
    if (error < 0) {
        free(reader);
        return error;
    }
    *ret_reader = reader;
    return 0;
}

void blob_reader_close(struct blob_reader *reader)
{
    if (reader == NULL)
        return;
    blob_files_destroy(&reader->files);
    free(reader);
}

void blob_reader_drop(struct blob_reader *reader, uint64_t chunk_id)
{
    blob_files_drop(&reader->files, chunk_id);
    if (reader->options.cache != NULL)
        block_cache_remove_chunk(reader->options.cache, reader->space, chunk_id);
}

/* ---- verifying a chunk ---- */

static int compare_trailer(const uint8_t *bytes, const struct chunk_identity *identity,
                           struct checksum128 hash)
{
    struct chunk_trailer trailer;
    int error = chunk_trailer_decode(bytes, &trailer);

    if (error < 0)
        return error;
    error = chunk_trailer_check(&trailer, identity);
    return error == 0 && !checksum128_equal(identity->hash, hash) ? ERROR_CORRUPT : error;
}

int blob_reader_verify(struct blob_reader *reader, const struct chunk_identity *identity)
{
    uint8_t trailer[CHUNK_TRAILER_SIZE];
    struct io_file *file = NULL;
    struct checksum128 hash;
    char name[CHUNK_NAME_SIZE];
    uint64_t content_size;
    int error;

    error = blob_files_open(reader->options.io, reader->options.chunk_directory, identity, &file);
    if (error < 0)
        return error; /* logged there */
    /* It has that size, and a header: the difference does not wrap. */
    content_size = identity->file_size_bytes - CHUNK_TRAILER_SIZE;
    chunk_name(name, identity);
    error = chunk_hash_file(reader->options.io, reader->options.chunk_directory, name, content_size,
                            &hash);
    if (error == 0)
        error = io_read_exact(reader->options.io, file, trailer, sizeof trailer, content_size);
    if (error == 0)
        error = compare_trailer(trailer, identity, hash);
    if (error == ERROR_CORRUPT)
        io_note_corruption(reader->options.io);
    if (error < 0)
        log_error("blob chunk %s: verify: %s", name, error_text(error));
    io_close(reader->options.io, file);
    return error;
}
