/* SPDX-License-Identifier: Apache-2.0 */
/*
 * manifest_fixture.h - a manifest in a temporary directory, and short ways to change and look at it
 *
 * Include cmocka.h before: failures are failures of the test.
 */
#ifndef VARVE_TESTS_LIB_MANIFEST_FIXTURE_H
#define VARVE_TESTS_LIB_MANIFEST_FIXTURE_H

#include "engine/manifest.h"
#include "tests/lib/test_directory.h"

struct manifest_fixture {
    char *path;
    struct manifest *manifest;
};

static inline int manifest_fixture_try_open(const char *path, bool create,
                                            struct manifest **ret_manifest)
{
    struct manifest_options options = {
        .path = path, .create = create, .map_size_bytes = 1 << 20, .change_log_entries_max = 1000};

    return manifest_open(&options, ret_manifest);
}

static inline void manifest_fixture_open(struct manifest_fixture *fixture)
{
    fixture->path = test_directory_make();
    assert_int_equal(manifest_fixture_try_open(fixture->path, true, &fixture->manifest), 0);
}

static inline void manifest_fixture_close(struct manifest_fixture *fixture)
{
    manifest_close(fixture->manifest);
    test_directory_remove(fixture->path);
}

static inline void manifest_fixture_reopen(struct manifest_fixture *fixture)
{
    manifest_close(fixture->manifest);
    assert_int_equal(manifest_fixture_try_open(fixture->path, false, &fixture->manifest), 0);
}

static inline struct chunk_identity blob_of(uint64_t id)
{
    return (struct chunk_identity){.id = id,
                                   .kind = CHUNK_BLOB,
                                   .file_size_bytes = 1000 + id,
                                   .hash = {0x1111111111111111 * id, 0xabcdef0000000000 + id}};
}

static inline int add_blob(struct manifest *manifest, uint64_t id)
{
    struct chunk_identity blob = blob_of(id);
    struct manifest_edit edit = {.add_blobs = &blob, .add_blob_count = 1};

    return manifest_commit(manifest, &edit);
}

static inline size_t count_blobs(struct manifest *manifest)
{
    struct manifest_state state;
    size_t count;

    assert_int_equal(manifest_load(manifest, &state), 0);
    count = state.blob_count;
    manifest_state_free(&state);
    return count;
}

static inline struct manifest_statistics statistics_of(struct manifest *manifest)
{
    struct manifest_statistics statistics;

    manifest_get_statistics(manifest, &statistics);
    return statistics;
}

#endif
