/* SPDX-License-Identifier: Apache-2.0 */
/*
 * crash_rules.c - images looked at before they are recovered; making a store, cut at every call
 */
#include "tests/lib/crash_rules.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/log.h"
#include "engine/base/name_list.h"
#include "engine/engine_verify.h"
#include "engine/wal_format.h"
#include "tests/lib/crash_history_internal.h"
#include "tests/lib/seed.h"

#define MKFS_CUTS 16 /* of each call */

/* A directory of the store and its names; NULL when it is not there. */
static struct io_file *open_directory(struct io *io, const char *store, const char *name,
                                      struct name_list *ret_list)
{
    struct io_file *directory;
    char path[4200];

    snprintf(path, sizeof path, "%s/%s", store, name);
    *ret_list = (struct name_list){0};
    if (io_open_root(io, path, &directory) < 0)
        return NULL;
    if (io_list(io, directory, name_list_add, ret_list) < 0)
        abort();
    return directory;
}

/* ---- any image ---- */

static char *check_chunk(struct io *io, struct io_file *chunks, const char *name)
{
    struct chunk_identity identity;
    struct stat status;
    bool sealed;
    int error;

    if (!chunk_name_parse(name, &identity, &sealed) || !sealed)
        return NULL;
    error = io_stat_at(io, chunks, name, &status);
    if (error == 0 && (status.st_mode & DISK_STRANGE) != 0)
        return NULL; /* a name that was removed, and leads to something else now */
    if (error == 0) {
        identity.file_size_bytes = (uint64_t)status.st_size;
        error = verify_chunk(io, chunks, &identity, NULL);
    }
    /* A link count that the disk has too low is another matter (R66): recovery sees to it. */
    if (error == 0 || error == -ESTALE)
        return NULL;
    return crash_text("chunks/%s has the name of a sealed chunk and is none: %s", name,
                      error_text(error));
}

char *crash_rules_check_image(struct disk_model *image, const char *store)
{
    struct io *io = disk_model_io(image);
    struct name_list list;
    struct io_file *chunks = open_directory(io, store, "chunks", &list);
    char *wrong = NULL;

    for (size_t i = 0; wrong == NULL && i < list.count; i++)
        wrong = check_chunk(io, chunks, list.names[i]);
    name_list_free(&list);
    io_close(io, chunks);
    return wrong;
}

/* ---- a store that was closed ---- */

struct closed {
    struct io *before, *after; /* as the process left it; with what was promised */
    char store[4100];
    uint8_t uuid[STORE_UUID_SIZE];
};

static void read_uuid(struct closed *closed)
{
    uint8_t bytes[STORE_FORMAT_SIZE];
    struct store_format format;
    struct io_file *root, *file;

    if (io_open_root(closed->before, closed->store, &root) < 0 ||
        io_open(closed->before, root, "FORMAT", IO_OPEN_READ, 0, &file) < 0 ||
        io_read_exact(closed->before, file, bytes, sizeof bytes, 0) < 0 ||
        store_format_decode(bytes, &format) < 0)
        abort();
    memcpy(closed->uuid, format.uuid, STORE_UUID_SIZE);
    io_close(closed->before, file);
    io_close(closed->before, root);
}

static char *check_segment(struct closed *closed, struct io_file *wal_before,
                           struct io_file *wal_after, const char *name)
{
    struct wal_segment_header header = {0};
    uint8_t bytes[WAL_SEGMENT_HEADER_SIZE];
    struct stat before, after;
    struct io_file *file;
    uint64_t number;
    int error;

    if (!wal_segment_name_parse(name, &number))
        return NULL;
    if (io_stat_at(closed->before, wal_before, name, &before) < 0)
        abort();
    error = io_stat_at(closed->after, wal_after, name, &after);
    if (error == 0 && after.st_size != before.st_size)
        return crash_text("wal/%s has %llu of its %llu bytes on the disk", name,
                          (unsigned long long)after.st_size, (unsigned long long)before.st_size);
    if (error == 0)
        error = io_open(closed->after, wal_after, name, IO_OPEN_READ, 0, &file);
    if (error == 0) {
        error = io_read_exact(closed->after, file, bytes, sizeof bytes, 0);
        io_close(closed->after, file);
    }
    if (error == 0)
        error = wal_segment_header_decode(bytes, closed->uuid, &header);
    if (error == 0 && header.number == number)
        return NULL;
    return crash_text("wal/%s is not on the disk as it should be: %s", name,
                      error < 0 ? error_text(error) : "the header is another segment's");
}

static char *check_log(struct closed *closed)
{
    struct name_list names, others;
    struct io_file *before = open_directory(closed->before, closed->store, "wal", &names);
    struct io_file *after = open_directory(closed->after, closed->store, "wal", &others);
    char *wrong = after != NULL ? NULL : crash_text("wal/ is not on the disk");

    for (size_t i = 0; wrong == NULL && i < names.count; i++)
        wrong = check_segment(closed, before, after, names.names[i]);
    name_list_free(&names);
    name_list_free(&others);
    io_close(closed->before, before);
    io_close(closed->after, after);
    return wrong;
}

/* Inode numbers of two directories of the promised image: none twice. */
static char *check_tmp(struct closed *closed)
{
    struct io *io = closed->after;
    struct name_list chunk_names, tmp_names;
    struct io_file *chunks = open_directory(io, closed->store, "chunks", &chunk_names);
    struct io_file *tmp = open_directory(io, closed->store, "tmp", &tmp_names);
    char *wrong = NULL;

    for (size_t i = 0; tmp != NULL && chunks != NULL && i < tmp_names.count; i++) {
        struct stat left, chunk;

        if (io_stat_at(io, tmp, tmp_names.names[i], &left) < 0 || S_ISDIR(left.st_mode))
            continue;
        for (size_t j = 0; wrong == NULL && j < chunk_names.count; j++)
            if (io_stat_at(io, chunks, chunk_names.names[j], &chunk) == 0 &&
                chunk.st_ino == left.st_ino)
                wrong = crash_text("chunks/%s is still called tmp/%s on the disk",
                                   chunk_names.names[j], tmp_names.names[i]);
    }
    name_list_free(&chunk_names);
    name_list_free(&tmp_names);
    io_close(io, chunks);
    io_close(io, tmp);
    return wrong;
}

static char *check_promised(struct disk_model *disk, const char *base, bool is_closed)
{
    struct disk_model *promised = disk_model_cut(disk, 0);
    struct closed closed = {.before = disk_model_io(disk), .after = disk_model_io(promised)};
    char *wrong;

    snprintf(closed.store, sizeof closed.store, "%s/store", base);
    read_uuid(&closed);
    disk_model_set_base(promised, base);
    wrong = check_log(&closed);
    if (wrong == NULL && is_closed)
        wrong = check_tmp(&closed);
    disk_model_set_base(promised, "");
    disk_model_free(promised);
    return wrong;
}

char *crash_rules_check_closed(struct disk_model *disk, const char *base)
{
    return check_promised(disk, base, true);
}

char *crash_rules_check_log(struct disk_model *disk, const char *base)
{
    return check_promised(disk, base, false);
}

/* ---- making a store ---- */

bool crash_rules_has_format(struct io *io, const char *store)
{
    struct io_file *root;
    struct stat status;
    bool found;

    if (io_open_root(io, store, &root) < 0)
        return false;
    found = io_stat_at(io, root, "FORMAT", &status) == 0;
    io_close(io, root);
    return found;
}

/* The image of a disk on which a store was being made: FORMAT comes last. */
static char *judge_mkfs(struct disk_model *image, const char *base, bool is_made,
                        const struct crash_explorer *explorer)
{
    struct engine_options options = explorer->options;
    struct batch batch = {0};
    struct engine *engine;
    char store[4200], *wrong = NULL;
    int error;

    snprintf(store, sizeof store, "%.4100s/store", base);
    disk_model_set_base(image, base);
    options.path = store;
    options.io = disk_model_io(image);
    if (!is_made && !crash_rules_has_format(options.io, store)) {
        disk_model_set_base(image, "");
        return NULL;
    }
    error = engine_open(&options, &engine);
    if (error == 0) {
        batch_put(&batch, slice_of_string("key"), slice_of_string("value"));
        error = engine_write(engine, &batch, NULL);
        batch_free(&batch);
        if (engine_close(engine) < 0 || error < 0)
            wrong = crash_text("a new store cannot be used: %s", error_text(error));
    } else {
        wrong =
            crash_text("%s: %s", is_made ? "a new store does not open" : "there is half a store",
                       error_text(error));
    }
    disk_model_set_base(image, "");
    return wrong;
}

char *crash_rules_check_mkfs(struct disk_model *disk, const char *base,
                             const struct store_format *format,
                             const struct crash_explorer *explorer, uint64_t seed, uint64_t *states)
{
    struct crash_watch watch;
    char store[4100], other[4090], *wrong = NULL;
    int error;

    snprintf(store, sizeof store, "%s/store", base);
    snprintf(other, sizeof other, "%.4000s-cut", base);
    disk_model_set_base(disk, base);
    crash_watch_start(&watch, disk, NULL, 1000, seed);
    error = store_create(disk_model_io(disk), store, format);
    crash_watch_stop(&watch, disk);
    disk_model_set_base(disk, "");
    if (error < 0)
        wrong = crash_text("mkfs: %s", error_text(error));
    for (size_t i = 0; wrong == NULL && i <= watch.count; i++) {
        bool is_made = i == watch.count;
        struct disk_model *from = is_made ? disk : watch.list[i].disk;

        for (unsigned j = 0; wrong == NULL && j < MKFS_CUTS; j++) {
            struct disk_model *image = disk_model_cut(from, j < 2 ? j : seed_next(&seed));
            char *said = judge_mkfs(image, other, is_made, explorer);

            (*states)++;
            disk_model_free(image);
            if (said == NULL)
                continue;
            wrong = crash_text("%s\n  after a cut of mkfs, %s", said,
                               is_made ? "when it had returned" : watch.list[i].label);
            free(said);
        }
    }
    crash_watch_free(&watch);
    return wrong;
}
