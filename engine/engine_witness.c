/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine_witness.c - a word outside of the log about how far it was synced
 *
 * The end of a log looks like the end of a log: when its last synced group, or its last segment,
 * rots away, nothing in the log itself says that there was more. So wal/SYNCED says it: a sequence
 * number up to which everything had been synced when it was written. It is written after the sync
 * it speaks of, once a sync window at most, and never synced itself but for the first: a power cut
 * may lose it or leave the one before, which is true as well; it cannot make it say too much. The
 * first is a file that was synced before it got its name, for without a journal a name may lead to
 * what its inode was before.
 *
 * It lies within one sector. One that does not check is no witness, for a cut may have torn the
 * first one.
 */
#include <errno.h>
#include <stdlib.h>

#include "engine/base/checksum.h"
#include "engine/base/endian.h"
#include "engine/engine_internal.h"

#define WITNESS_NAME    "SYNCED"
#define FRESH_NAME      "SYNCED.new" /* the log removes what a crash left of it */
#define OPEN_FLAGS      (IO_OPEN_WRITE | IO_OPEN_DIRECT)
#define WITNESS_SIZE    IO_DIRECT_ALIGNMENT
#define WITNESS_VERSION 1

enum { AT_MAGIC = 0, AT_VERSION = 8, AT_UUID = 16, AT_SEQUENCE = 32, AT_CHECKSUM = 40 };

static const uint8_t magic[8] = {'V', 'A', 'R', 'V', 'E', 'S', 'Y', 'N'};

static void encode(const struct engine *engine, uint64_t sequence, uint8_t *to)
{
    memset(to, 0, WITNESS_SIZE);
    memcpy(to + AT_MAGIC, magic, sizeof magic);
    put_le32(to + AT_VERSION, WITNESS_VERSION);
    memcpy(to + AT_UUID, engine->store->format.uuid, STORE_UUID_SIZE);
    put_le64(to + AT_SEQUENCE, sequence);
    put_le64(to + AT_CHECKSUM, checksum64(to, AT_CHECKSUM));
}

int engine_witness_read(struct io *io, struct io_file *wal, const uint8_t *store_uuid,
                        uint64_t *ret_sequence)
{
    uint8_t bytes[AT_CHECKSUM + 8];
    struct io_file *file;
    int error = io_open(io, wal, WITNESS_NAME, IO_OPEN_READ, 0, &file);

    *ret_sequence = 0;
    if (error < 0)
        return error == -ENOENT || error == -EISDIR ? 0 : error;
    error = io_read_exact(io, file, bytes, sizeof bytes, 0);
    io_close(io, file);
    if (error < 0)
        return error == ERROR_TRUNCATED ? 0 : error;
    if (memcmp(bytes + AT_MAGIC, magic, sizeof magic) == 0 &&
        get_le64(bytes + AT_CHECKSUM) == checksum64(bytes, AT_CHECKSUM) &&
        get_le32(bytes + AT_VERSION) == WITNESS_VERSION &&
        memcmp(bytes + AT_UUID, store_uuid, STORE_UUID_SIZE) == 0)
        *ret_sequence = get_le64(bytes + AT_SEQUENCE);
    return 0;
}

int engine_witness_remove(struct io *io, struct io_file *wal)
{
    int error = store_remove_tree(io, wal, WITNESS_NAME);

    if (error == 0)
        error = io_sync(io, wal, false);
    return error == -ENOENT ? 0 : error;
}

int engine_witness_check(struct engine *engine, uint64_t last_sequence)
{
    uint64_t sequence;
    int error =
        engine_witness_read(engine->io, engine->store->wal, engine->store->format.uuid, &sequence);

    if (error < 0 || sequence <= last_sequence)
        return error;
    log_error("%s/wal: the log ends at operation %llu, although all up to operation %llu were "
              "synced: its end is lost or damaged",
              engine->path, (unsigned long long)last_sequence, (unsigned long long)sequence);
    return ERROR_CORRUPT;
}

static int make_file(struct engine *engine, const uint8_t *block)
{
    struct io *io = engine->io;
    struct io_file *wal = engine->store->wal, *file;
    int error = store_remove_tree(io, wal, FRESH_NAME);

    if (error == 0)
        error = io_open(io, wal, FRESH_NAME, OPEN_FLAGS | IO_OPEN_CREATE, 0600, &file);
    if (error < 0)
        return error;
    error = io_write(io, file, block, WITNESS_SIZE, 0);
    if (error == 0)
        error = io_sync(io, file, false);
    if (error == 0)
        error = io_rename(io, wal, FRESH_NAME, wal, WITNESS_NAME);
    if (error < 0) {
        io_close(io, file);
        (void)io_unlink(io, wal, FRESH_NAME);
        return error;
    }
    engine->witness_file = file;
    return 0;
}

/* Write the block; the first time into a file that is opened, or made, for it. */
static int write_block(struct engine *engine, const uint8_t *block)
{
    struct io_file *wal = engine->store->wal;
    int error = 0;

    if (engine->witness_file == NULL)
        error = io_open(engine->io, wal, WITNESS_NAME, OPEN_FLAGS, 0, &engine->witness_file);
    if (error == -EISDIR) {
        /* Left by a cut without a journal, when this file was made under its own name. */
        error = store_remove_tree(engine->io, wal, WITNESS_NAME);
        if (error == 0)
            error = -ENOENT;
    }
    if (error == -ENOENT)
        return make_file(engine, block);
    return error == 0 ? io_write(engine->io, engine->witness_file, block, WITNESS_SIZE, 0) : error;
}

void engine_witness_write(struct engine *engine)
{
    uint64_t sequence = atomic_load(&engine->durable_sequence);
    uint8_t *block;
    int error;

    if (engine->witness_failed || sequence == engine->witnessed_sequence || engine_latched(engine))
        return;
    block = io_allocate_aligned(WITNESS_SIZE);
    if (block == NULL)
        return;
    encode(engine, sequence, block);
    error = write_block(engine, block);
    free(block);
    if (error == 0) {
        engine->witnessed_sequence = sequence;
        return;
    }
    /* Nothing depends on it but that rot of the log's end is told apart from a torn end. */
    engine->witness_failed = true;
    log_warning("%s/wal/" WITNESS_NAME " could not be written: %s", engine->path,
                error_text(error));
}

void engine_witness_close(struct engine *engine)
{
    if (engine->witness_file != NULL)
        io_close(engine->io, engine->witness_file);
    engine->witness_file = NULL;
}
