/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_blob.c - blob references, reading the frames they name, and making open chunks whole
 *
 * An input is: options; size of the reference, u8; the reference; then the chunk from its header
 * on. With FUZZ_SEAL the reference gets the checksums of what it refers to. Bit 1: the chunk is one
 * that a crash left open, and what the reference covers comes from the log.
 */
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/memory_io.h"

#include "engine/base/checksum.h"
#include "engine/base/endian.h"
#include "engine/base/error.h"
#include "engine/blob_reader.h"
#include "engine/blob_ref.h"

enum { RECOVER = 1 << 1 };

#define CHUNK_ID 9

static const uint8_t uuid[STORE_UUID_SIZE] = {0x10, 0x21, 0x32, 0x43, 0x54, 0x65, 0x46, 0x87,
                                              0x98, 0xa9, 0xba, 0xcb, 0xdc, 0xed, 0xfe, 0x0f};

struct chunk {
    struct chunk_identity identity;
    uint8_t *bytes;
    size_t size;
};

static struct chunk make_chunk(struct slice content)
{
    struct chunk chunk = {.identity = {.id = CHUNK_ID, .kind = CHUNK_BLOB}};
    struct chunk_trailer trailer = {.id = CHUNK_ID, .kind = CHUNK_BLOB};
    size_t content_size = CHUNK_HEADER_SIZE + content.size;

    chunk.size = content_size + CHUNK_TRAILER_SIZE;
    chunk.bytes = malloc(chunk.size);
    fuzz_require(chunk.bytes != NULL);
    chunk_header_encode(chunk.bytes, CHUNK_BLOB, uuid, CHUNK_ID);
    if (content.size > 0)
        memcpy(chunk.bytes + CHUNK_HEADER_SIZE, content.data, content.size);
    memcpy(trailer.store_uuid, uuid, sizeof uuid);
    trailer.content_size_bytes = content_size;
    trailer.hash = fuzz_checksum128(chunk.bytes, content_size);
    trailer.values[1] = content.size;
    chunk_trailer_encode(chunk.bytes + content_size, &trailer);
    chunk.identity.file_size_bytes = chunk.size;
    chunk.identity.hash = trailer.hash;
    return chunk;
}

/* Make the reference's checksums those of the bytes that it names, where it names any. */
static void seal(struct blob_ref *ref, const struct chunk *chunk)
{
    const uint8_t *frame;
    uint32_t first, count;

    if (ref->position > chunk->size || ref->stored_size > chunk->size - ref->position)
        return;
    frame = chunk->bytes + ref->position;
    if (ref->codec == CODEC_ZSTD) {
        ref->frame_checksum = checksum64(frame, ref->stored_size);
        return;
    }
    first = ref->skip / BLOB_BLOCK_SIZE;
    count = blob_ref_block_count(ref);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t at = (first + i) * BLOB_BLOCK_SIZE;
        uint32_t size = ref->raw_size - at < BLOB_BLOCK_SIZE ? ref->raw_size - at : BLOB_BLOCK_SIZE;

        ref->block_checksums[i] = (uint32_t)checksum64(frame + at, size);
    }
}

static int resolve(void *context, uint64_t id, struct chunk_identity *ret_identity)
{
    const struct chunk *chunk = context;

    if (id != chunk->identity.id)
        return ERROR_MISSING_CHUNK;
    *ret_identity = chunk->identity;
    return 0;
}

static void read_frame(struct memory_io *memory, struct chunk *chunk, const struct blob_ref *ref)
{
    const struct blob_reader_options options = {
        .io = memory_io_get(memory),
        .chunk_directory = memory_io_directory(memory),
        .store_uuid = uuid,
        .descriptors_max = 4,
        .resolve = resolve,
        .context = chunk,
    };
    /* Twice the same, and a part of it: reads that lie together are joined. */
    struct blob_ref part = *ref;
    struct blob_read reads[3] = {{.ref = ref}, {.ref = ref}, {.ref = &part}};
    struct blob_reader *reader;
    char name[CHUNK_NAME_SIZE];
    int error;

    chunk_name(name, &chunk->identity);
    memory_io_put(memory, name, slice_of(chunk->bytes, chunk->size));
    if (part.length > 2)
        blob_ref_slice(&part, part.length / 3, part.length / 3);
    for (size_t i = 0; i < 3; i++) {
        reads[i].to = malloc(reads[i].ref->length);
        fuzz_require(reads[i].to != NULL);
    }
    fuzz_require(blob_reader_open(&options, &reader) == 0);
    error = blob_reader_read(reader, reads, 3);
    if (error == 0) {
        fuzz_require(memcmp(reads[0].to, reads[1].to, ref->length) == 0);
        fuzz_require(memcmp(reads[0].to + (part.skip - ref->skip), reads[2].to, part.length) == 0);
        if (ref->codec == CODEC_NONE)
            fuzz_require(
                memcmp(reads[0].to, chunk->bytes + ref->position + ref->skip, ref->length) == 0);
    }
    fuzz_require(blob_reader_verify(reader, &chunk->identity) == 0);
    blob_reader_close(reader);
    for (size_t i = 0; i < 3; i++)
        free(reads[i].to);
}

static void recover(struct memory_io *memory, const struct chunk *chunk, const struct blob_ref *ref)
{
    size_t content_end = chunk->size - CHUNK_TRAILER_SIZE;
    struct blob_piece piece = {.chunk_id = CHUNK_ID, .position = ref->position};
    struct chunk_identity identity;
    char name[CHUNK_NAME_SIZE];
    int error;

    if (ref->position >= content_end)
        return;
    /* The file ends where the piece begins or later; the piece is the file's own bytes. */
    piece.size =
        (uint32_t)(content_end - ref->position < ref->stored_size ? content_end - ref->position
                                                                  : ref->stored_size);
    piece.data = chunk->bytes + ref->position;
    chunk_open_name(name, CHUNK_ID);
    memory_io_put(memory, name,
                  slice_of(chunk->bytes, ref->skip % 2 == 0 ? (size_t)ref->position : content_end));
    error =
        blob_recover_open_chunk(memory_io_get(memory), memory_io_directory(memory), uuid, CHUNK_ID,
                                ref->position + ref->stored_size, &piece, 1, &identity);
    fuzz_require(error <= 0);
    if (error == 0) {
        /* Again, as after a crash behind the last step: the same. */
        struct chunk_identity again;

        fuzz_require(identity.file_size_bytes ==
                     ref->position + ref->stored_size + CHUNK_TRAILER_SIZE);
        fuzz_require(blob_recover_open_chunk(memory_io_get(memory), memory_io_directory(memory),
                                             uuid, CHUNK_ID, ref->position + ref->stored_size,
                                             &piece, 1, &again) == 0);
        fuzz_require(again.hash.low == identity.hash.low && again.hash.high == identity.hash.high);
    }
}

int LLVMFuzzerInitialize(int *argument_count, char ***arguments)
{
    (void)argument_count;
    (void)arguments;
    log_set_level(LOG_LEVEL_ERROR);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t encoded[BLOB_REF_SIZE_MAX];
    struct memory_io *memory;
    struct chunk chunk;
    struct blob_ref ref;
    size_t ref_size;

    if (size < 2 || (ref_size = data[1]) > size - 2)
        return 0;
    chunk = make_chunk(slice_of(data + 2 + ref_size, size - 2 - ref_size));
    if (blob_ref_decode(slice_of(data + 2, ref_size), &ref) == 0) {
        uint64_t id;

        fuzz_require(blob_ref_encode(&ref, encoded) == ref_size);
        fuzz_require(memcmp(encoded, data + 2, ref_size) == 0);
        fuzz_require(blob_ref_decode_chunk_id(slice_of(data + 2, ref_size), &id) == 0 &&
                     id == ref.chunk_id);
        fuzz_require(blob_ref_share(&ref) <= ref.stored_size);
        if ((data[0] & FUZZ_SEAL) != 0) {
            ref.chunk_id = CHUNK_ID;
            seal(&ref, &chunk);
        }
        memory = memory_io_new();
        if ((data[0] & RECOVER) != 0)
            recover(memory, &chunk, &ref);
        else
            read_frame(memory, &chunk, &ref);
        memory_io_free(memory);
    }
    free(chunk.bytes);
    return 0;
}
