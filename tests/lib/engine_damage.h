/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine_damage.h - what tests do to the files of a store that is closed, or to a copy of an open one
 *
 * For tests with cmocka, which must be included before; so must engine_fixture.h.
 */
#ifndef VARVE_TESTS_LIB_ENGINE_DAMAGE_H
#define VARVE_TESTS_LIB_ENGINE_DAMAGE_H

#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/base/checksum.h"
#include "engine/base/error.h"
#include "engine/manifest.h"
#include "engine/store.h"
#include "engine/wal_format.h"

/* The store as a kill would leave it now, in another directory. */
static inline char *damage_copy_store(struct engine_fixture *fixture, const char *name)
{
    char *path = test_path(fixture->directory, name), command[9000];

    snprintf(command, sizeof command, "rm -rf '%s' && cp -a '%s' '%s'", path, fixture->path, path);
    assert_int_equal(system(command), 0);
    return path;
}

/* The first file in a directory of a store whose name has `part`. */
static inline char *damage_find(const char *store, const char *directory, const char *part)
{
    char *path = test_path(store, directory), *found = NULL;
    DIR *stream = opendir(path);
    struct dirent *entry;

    assert_non_null(stream);
    while (found == NULL && (entry = readdir(stream)) != NULL)
        if (strstr(entry->d_name, part) != NULL)
            found = test_path(path, entry->d_name);
    closedir(stream);
    free(path);
    assert_non_null(found);
    return found;
}

/* Give a store or the directory of a checkpoint the FORMAT of another store. */
static inline void damage_change_uuid(const char *directory)
{
    char *path = test_path(directory, "FORMAT");
    struct store_format format;
    size_t size;
    uint8_t *bytes = test_file_read(path, &size);

    assert_int_equal(size, STORE_FORMAT_SIZE);
    assert_int_equal(store_format_decode(bytes, &format), 0);
    format.uuid[5] ^= 1;
    store_format_encode(&format, bytes);
    assert_int_equal(chmod(path, 0600), 0);
    test_file_write(path, bytes, size);
    free(bytes);
    free(path);
}

/* What the manifest of a closed store says of the log. */
static inline struct manifest_scalars damage_scalars(const char *store)
{
    char *path = test_path(store, "manifest");
    struct manifest_options options = {.path = path, .read_only = true, .map_size_bytes = 1 << 20};
    struct manifest_scalars scalars;
    struct manifest_state state;
    struct manifest *manifest;

    assert_int_equal(manifest_open(&options, &manifest), 0);
    assert_int_equal(manifest_load(manifest, &state), 0);
    scalars = state.scalars;
    manifest_state_free(&state);
    manifest_close(manifest);
    free(path);
    return scalars;
}

/* A log of one group in segment `segment`: the batch twice, which has one record, with these
 * numbers. */
static inline void damage_write_log(struct io *io, const char *store, uint64_t segment,
                                    const uint64_t sequences[2], const struct batch *batch)
{
    char *path = test_path(store, "FORMAT"), *directory = test_path(store, "wal");
    size_t size;
    uint8_t *bytes = test_file_read(path, &size);
    struct wal_group group = {.first_sequence = sequences[0], .last_sequence = sequences[1]};
    struct wal_options options = {.io = io, .segment_size_bytes = WAL_SEGMENT_SIZE_MIN};
    struct store_format format;
    struct buffer entries = {0};
    struct io_file *wal_directory;
    struct wal *wal;

    assert_int_equal(store_format_decode(bytes, &format), 0);
    options.store_uuid = format.uuid;
    assert_int_equal(io_open_root(io, directory, &wal_directory), 0);
    options.directory = wal_directory;
    for (size_t i = 0; i < 2; i++)
        assert_int_equal(
            wal_entry_append(&entries, WAL_BATCH, sequences[i], buffer_slice(&batch->bytes)), 0);
    group.entries = buffer_slice(&entries);
    assert_int_equal(wal_open(&options, segment, &wal), 0);
    assert_int_equal(wal_write_group(wal, &group, true), 0);
    wal_close(wal);
    io_close(io, wal_directory);
    buffer_free(&entries);
    free(bytes);
    free(directory);
    free(path);
}

#endif
