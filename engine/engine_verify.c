/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine_verify.c - what there must be, and what is there
 */
#include "engine/engine_verify.h"

#include <errno.h>
#include <stdlib.h>

#include "engine/base/error.h"
#include "engine/chunk_hash.h"
#include "engine/sealed_manifest.h"

/* A chunk that a directory must have. */
struct expected {
    struct chunk_identity identity;
    size_t place; /* index of the directory */
    uint64_t device, inode;
    int error; /* of looking for the file */
};

/* chunks/ of the live tree, or of a checkpoint. */
struct place {
    char *name; /* NULL: live, or the checkpoint directory itself */
    struct io_file *chunks;
    uint8_t uuid[STORE_UUID_SIZE]; /* of FORMAT there */
    bool any_uuid;
};

struct verify {
    struct io *io;
    struct io_file *root;
    bool is_checkpoint;
    struct place *places;
    size_t place_count, place_room;
    size_t live_place; /* SIZE_MAX: not opened yet */
    struct expected *expected;
    size_t count, room;
};

/* ---- one chunk ---- */

static int check_ends(struct io *io, struct io_file *file, const struct chunk_identity *identity,
                      const uint8_t *store_uuid, struct checksum128 hash)
{
    uint64_t content_bytes = identity->file_size_bytes - CHUNK_TRAILER_SIZE;
    uint8_t header[CHUNK_HEADER_SIZE], bytes[CHUNK_TRAILER_SIZE];
    struct chunk_trailer trailer;
    int error = io_read_exact(io, file, bytes, sizeof bytes, content_bytes);

    if (error == 0)
        error = chunk_trailer_decode(bytes, &trailer);
    if (error == 0)
        error = chunk_trailer_check(&trailer, identity);
    if (error == 0 && !checksum128_equal(identity->hash, hash))
        error = ERROR_CORRUPT;
    if (error == 0)
        error = io_read_exact(io, file, header, sizeof header, 0);
    if (error == 0)
        error = chunk_header_check(header, identity->kind, trailer.store_uuid, identity->id);
    if (error == 0 && store_uuid != NULL &&
        memcmp(trailer.store_uuid, store_uuid, STORE_UUID_SIZE) != 0)
        error = ERROR_FOREIGN;
    return error;
}

int verify_chunk(struct io *io, struct io_file *directory, const struct chunk_identity *identity,
                 const uint8_t *store_uuid)
{
    struct io_file *file = NULL;
    struct checksum128 hash;
    struct stat status;
    char name[CHUNK_NAME_SIZE];
    int error;

    if (identity->file_size_bytes < CHUNK_HEADER_SIZE + CHUNK_TRAILER_SIZE)
        return ERROR_CORRUPT;
    chunk_name(name, identity);
    error = io_open(io, directory, name, IO_OPEN_READ, 0, &file);
    if (error == 0)
        error = io_stat(io, file, &status);
    /* One that is too short ends where its trailer is looked for. */
    if (error == 0 && (uint64_t)status.st_size > identity->file_size_bytes)
        error = ERROR_CORRUPT;
    if (error == 0)
        error = chunk_hash_file(io, directory, name, identity->file_size_bytes - CHUNK_TRAILER_SIZE,
                                &hash);
    if (error == 0)
        error = check_ends(io, file, identity, store_uuid, hash);
    io_close(io, file);
    /* Looked up twice, for reading with and without direct I/O: it may go in between. */
    return error == -ENOENT ? ERROR_MISSING_CHUNK : error;
}

/* ---- where ---- */

static int read_format(struct io *io, struct io_file *directory, struct store_format *ret_format)
{
    uint8_t bytes[STORE_FORMAT_SIZE];
    struct io_file *file;
    int error = io_open(io, directory, "FORMAT", IO_OPEN_READ, 0, &file);

    if (error < 0)
        return error == -ENOENT ? ERROR_NOT_STORE : error;
    error = io_read_exact(io, file, bytes, sizeof bytes, 0);
    io_close(io, file);
    return error == 0 ? store_format_decode(bytes, ret_format) : error;
}

int verify_open(struct io *io, const char *path, struct verify **ret_verify)
{
    struct verify *verify = calloc(1, sizeof *verify);
    struct store_format format;
    struct stat status;
    int error = verify != NULL ? 0 : -ENOMEM;

    if (error < 0)
        return error;
    verify->io = io;
    verify->live_place = SIZE_MAX;
    error = io_open_root(io, path, &verify->root);
    if (error == 0)
        error = read_format(io, verify->root, &format);
    if (error == 0) {
        error = io_stat_at(io, verify->root, "LOCK", &status);
        verify->is_checkpoint = error == -ENOENT;
        error = error == -ENOENT ? 0 : error;
    }
    if (error < 0)
        verify_close(verify);
    else
        *ret_verify = verify;
    return error;
}

void verify_close(struct verify *verify)
{
    if (verify == NULL)
        return;
    for (size_t i = 0; i < verify->place_count; i++) {
        io_close(verify->io, verify->places[i].chunks);
        free(verify->places[i].name);
    }
    free(verify->places);
    free(verify->expected);
    io_close(verify->io, verify->root);
    free(verify);
}

bool verify_is_checkpoint(const struct verify *verify)
{
    return verify->is_checkpoint;
}

/* Open chunks/ of a directory and remember it. */
static int add_place(struct verify *verify, struct io_file *directory, const char *name,
                     size_t *ret_index)
{
    struct place place = {.name = name != NULL ? strdup(name) : NULL};
    struct store_format format;
    int error = name != NULL && place.name == NULL ? -ENOMEM : 0;

    if (error == 0 && verify->place_count == verify->place_room) {
        size_t room = verify->place_room * 2 + 16;
        struct place *grown = reallocarray(verify->places, room, sizeof *grown);

        error = grown != NULL ? 0 : -ENOMEM;
        if (grown != NULL) {
            verify->places = grown;
            verify->place_room = room;
        }
    }
    if (error == 0)
        error = read_format(verify->io, directory, &format);
    if (error == 0)
        error = io_open(verify->io, directory, "chunks", IO_OPEN_DIRECTORY, 0, &place.chunks);
    if (error < 0) {
        free(place.name);
        return error;
    }
    place.any_uuid = store_format_chunk_uuid(&format) == NULL;
    memcpy(place.uuid, format.uuid, sizeof place.uuid);
    *ret_index = verify->place_count;
    verify->places[verify->place_count++] = place;
    return 0;
}

/* ---- what ---- */

static int add_expected(struct verify *verify, size_t place, const struct chunk_identity *identity)
{
    struct expected *expected;
    struct stat status;
    char name[CHUNK_NAME_SIZE];

    if (verify->count == verify->room) {
        size_t room = verify->room * 2 + 256;
        struct expected *grown = reallocarray(verify->expected, room, sizeof *grown);

        if (grown == NULL)
            return -ENOMEM;
        verify->expected = grown;
        verify->room = room;
    }
    expected = &verify->expected[verify->count++];
    *expected = (struct expected){.identity = *identity, .place = place};
    chunk_name(name, identity);
    expected->error = io_stat_at(verify->io, verify->places[place].chunks, name, &status);
    if (expected->error == 0) {
        expected->device = (uint64_t)status.st_dev;
        expected->inode = status.st_ino;
    } else if (expected->error == -ENOENT) {
        expected->error = ERROR_MISSING_CHUNK;
    }
    return 0;
}

int verify_add_live(struct verify *verify, const struct chunk_identity *identity)
{
    int error = verify->live_place == SIZE_MAX
                    ? add_place(verify, verify->root, NULL, &verify->live_place)
                    : 0;

    return error == 0 ? add_expected(verify, verify->live_place, identity) : error;
}

static int add_all(struct verify *verify, struct io_file *directory, const char *name,
                   const struct sealed_manifest *sealed)
{
    size_t place;
    int error = add_place(verify, directory, name, &place);

    if (error == 0 && memcmp(verify->places[place].uuid, sealed->store_uuid, STORE_UUID_SIZE) != 0)
        error = ERROR_FOREIGN;
    for (size_t i = 0; error == 0 && i < sealed->table_count; i++)
        error = add_expected(verify, place, &sealed->tables[i].meta.identity);
    for (size_t i = 0; error == 0 && i < sealed->blob_count; i++)
        error = add_expected(verify, place, &sealed->blobs[i]);
    return error;
}

int verify_add_checkpoint(struct verify *verify, const char *name)
{
    struct io_file *checkpoints = NULL, *directory = NULL;
    struct sealed_manifest sealed = {0};
    struct checksum128 hash;
    int error = 0;

    if (name != NULL) {
        error =
            io_open(verify->io, verify->root, "checkpoints", IO_OPEN_DIRECTORY, 0, &checkpoints);
        if (error == 0)
            error = io_open(verify->io, checkpoints, name, IO_OPEN_DIRECTORY, 0, &directory);
    }
    if (error == 0)
        error = sealed_manifest_read(verify->io, name != NULL ? directory : verify->root, &sealed,
                                     &hash);
    if (error == 0)
        error = add_all(verify, name != NULL ? directory : verify->root, name, &sealed);
    sealed_manifest_free(&sealed);
    io_close(verify->io, directory);
    io_close(verify->io, checkpoints);
    return error;
}

/* ---- the run ---- */

/* Links of one file are neighbours; what is missing comes by chunk. */
static int compare_files(const void *a, const void *b)
{
    const struct expected *left = a, *right = b;
    const uint64_t keys[][2] = {
        {left->error != 0, right->error != 0},
        {left->device, right->device},
        {left->inode, right->inode},
        {left->identity.id, right->identity.id},
        {left->identity.hash.high, right->identity.hash.high},
        {left->identity.hash.low, right->identity.hash.low},
        {left->place, right->place},
    };

    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
        if (keys[i][0] != keys[i][1])
            return keys[i][0] < keys[i][1] ? -1 : 1;
    return 0;
}

static bool same_file(const struct expected *a, const struct expected *b)
{
    return (a->error != 0) == (b->error != 0) && a->device == b->device && a->inode == b->inode &&
           a->identity.id == b->identity.id && a->identity.hash.high == b->identity.hash.high &&
           a->identity.hash.low == b->identity.hash.low;
}

static int report_damage(struct verify *verify, size_t first, size_t count, int error,
                         verify_report_callback *report, void *context)
{
    const char **users = calloc(count, sizeof *users);
    char name[CHUNK_NAME_SIZE];
    struct verify_finding finding = {.chunk = name, .error = error, .user_count = count};
    int result;

    if (users == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < count; i++)
        users[i] = verify->places[verify->expected[first + i].place].name;
    finding.users = users;
    chunk_name(name, &verify->expected[first].identity);
    result = report(context, &finding);
    free(users);
    return result;
}

/* By one of its names. */
static int check_name(struct verify *verify, const struct expected *expected)
{
    const struct place *place = &verify->places[expected->place];

    if (expected->error < 0)
        return expected->error;
    return verify_chunk(verify->io, place->chunks, &expected->identity,
                        place->any_uuid ? NULL : place->uuid);
}

/*
 * One file with `count` names. Those that are gone since they were added are counted in *ret_gone, from
 * the first: the live tree of a mounted store lets go of chunks that snapshots keep.
 */
static int check_file(struct verify *verify, const struct expected *expected, size_t count,
                      size_t *ret_gone)
{
    size_t gone = 0;
    int error = check_name(verify, expected);

    while (error == ERROR_MISSING_CHUNK && gone + 1 < count) {
        gone++;
        error = check_name(verify, expected + gone);
    }
    *ret_gone = error == ERROR_MISSING_CHUNK ? 0 : gone;
    return error;
}

int verify_run(struct verify *verify, engine_progress_callback *progress,
               verify_report_callback *report, void *context, struct verify_result *ret_result)
{
    struct verify_result result = {0};
    uint64_t done = 0, total = 0;
    size_t next;
    int error = 0;

    if (verify->count > 0)
        qsort(verify->expected, verify->count, sizeof *verify->expected, compare_files);
    for (size_t i = 0; i < verify->count; i++)
        if (i == 0 || !same_file(&verify->expected[i - 1], &verify->expected[i]))
            total += verify->expected[i].identity.file_size_bytes;
    for (size_t i = 0; error == 0 && i < verify->count; i = next) {
        const struct expected *expected = &verify->expected[i];
        size_t gone;
        int damage;

        for (next = i + 1; next < verify->count && same_file(expected, &verify->expected[next]);)
            next++;
        damage = check_file(verify, expected, next - i, &gone);
        if (gone > 0 && damage != -ENOMEM) {
            result.damaged++;
            error = report_damage(verify, i, gone, ERROR_MISSING_CHUNK, report, context);
        }
        if (error < 0) {
            break;
        } else if (damage == -ENOMEM) {
            error = damage;
        } else if (damage < 0) {
            result.damaged++;
            error = report_damage(verify, i, next - i, damage, report, context);
        } else {
            result.files++;
            result.bytes += expected->identity.file_size_bytes;
        }
        done += expected->identity.file_size_bytes;
        if (error == 0 && progress != NULL && progress(context, done, total) != 0)
            error = -EINTR;
    }
    if (error == 0)
        *ret_result = result;
    return error;
}
