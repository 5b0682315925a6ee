/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_engine_recovery.c - opening what somebody else left: second names, logs that lack a part
 */
#include <dirent.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/base/log.h"
#include "engine/chunk_format.h"
#include "engine/engine_repair.h"
#include "engine/wal_format.h"
#include "tests/lib/engine_fixture.h"
#include "tests/lib/fault_io.h"

#define FRAME_SIZE 9000

static void put_frame(struct engine *engine, uint64_t number)
{
    struct engine_view *view = engine_view_acquire(engine);
    struct batch batch = {0};
    uint8_t key[8], data[FRAME_SIZE];
    uint64_t random = number + 1;
    struct blob_ref ref;

    for (size_t i = 0; i < sizeof data; i++) { /* nothing that can be compressed */
        random = random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        data[i] = (uint8_t)(random >> 56);
    }
    assert_int_equal(engine_blob_append(engine, data, sizeof data, &ref), 0);
    batch_put_reference(&batch, engine_fixture_key(key, number), &ref);
    assert_int_equal(engine_write(engine, &batch, NULL), 0);
    batch_free(&batch);
    engine_view_release(view);
}

static void put(struct engine *engine, uint64_t number, size_t size)
{
    struct batch batch = {0};
    uint8_t key[8], *value = calloc(1, size);

    value[0] = (uint8_t)number;
    batch_put(&batch, engine_fixture_key(key, number), slice_of(value, size));
    assert_int_equal(engine_write(engine, &batch, NULL), 0);
    batch_free(&batch);
    free(value);
}

static void sync_all(struct engine *engine)
{
    assert_int_equal(engine_sync(engine, engine_sequence(engine)), 0);
}

static bool has_key(struct engine *engine, uint64_t number)
{
    struct engine_view *view = engine_view_acquire(engine);
    struct buffer value = {0};
    uint8_t key[8];
    int found = engine_view_get(view, engine_fixture_key(key, number), &value, NULL);

    buffer_free(&value);
    engine_view_release(view);
    assert_true(found >= 0);
    return found > 0;
}

/* The store as a kill would leave it now, in another directory. */
static char *copy_store(struct engine_fixture *fixture, const char *name)
{
    char *path = test_path(fixture->directory, name), command[9000];

    snprintf(command, sizeof command, "rm -rf '%s' && cp -a '%s' '%s'", path, fixture->path, path);
    assert_int_equal(system(command), 0);
    return path;
}

static int try_open(struct engine_fixture *fixture, const char *path, struct engine **ret_engine)
{
    struct engine_options options = fixture->options;

    options.path = path;
    options.io = fixture->io;
    return engine_open(&options, ret_engine);
}

/* ---- chunks/ ---- */

/* Give every sealed blob chunk the name again that it had before, or see that it has it no more. The
 * number of chunks. */
static unsigned each_sealed_blob(const char *store, bool link_again)
{
    struct chunk_identity identity;
    char *chunks = test_path(store, "chunks");
    DIR *stream = opendir(chunks);
    struct dirent *entry;
    unsigned count = 0;
    bool is_sealed;

    assert_non_null(stream);
    while ((entry = readdir(stream)) != NULL) {
        char open_name[CHUNK_NAME_SIZE], *sealed, *open;

        if (!chunk_name_parse(entry->d_name, &identity, &is_sealed) || !is_sealed ||
            identity.kind != CHUNK_BLOB)
            continue;
        chunk_open_name(open_name, identity.id);
        sealed = test_path(chunks, entry->d_name);
        open = test_path(chunks, open_name);
        assert_int_equal(link_again ? link(sealed, open) : access(open, F_OK), link_again ? 0 : -1);
        free(open);
        free(sealed);
        count++;
    }
    closedir(stream);
    free(chunks);
    return count;
}

/* Sealing renames in chunks/; without a journal below, a cut may leave both names. */
static void a_blob_chunk_that_has_both_its_names_is_found_by_the_sealed_one(void **state)
{
    struct engine_fixture *fixture = *state;
    unsigned count;

    for (uint64_t i = 0; i < 7; i++) {
        put_frame(fixture->engine, i);
        assert_int_equal(engine_flush(fixture->engine), 0);
    }
    engine_fixture_close(fixture);
    count = each_sealed_blob(fixture->path, true);
    assert_int_equal(count, 7);
    engine_fixture_open(fixture);
    for (uint64_t i = 0; i < 7; i++)
        assert_true(has_key(fixture->engine, i));
    assert_int_equal(each_sealed_blob(fixture->path, false), count);
}

/* The ids of all files of chunks/, none of them twice; how many there are. */
static size_t list_ids(const char *store, uint64_t ids[64])
{
    char *chunks = test_path(store, "chunks");
    DIR *stream = opendir(chunks);
    struct chunk_identity identity;
    struct dirent *entry;
    size_t count = 0;
    bool is_sealed;

    assert_non_null(stream);
    while ((entry = readdir(stream)) != NULL) {
        if (!chunk_name_parse(entry->d_name, &identity, &is_sealed))
            continue;
        assert_true(count < 64);
        for (size_t i = 0; i < count; i++)
            assert_int_not_equal(ids[i], identity.id);
        ids[count++] = identity.id;
    }
    closedir(stream);
    free(chunks);
    return count;
}

/* What the crash left was given its ids after the manifest's last word. */
static void r63_ids_go_on_above_all_that_a_crash_left(void **state)
{
    struct engine_fixture *fixture = *state;
    uint64_t left[64], now[64], highest = 0;
    size_t count, fresh = 0;
    struct engine *engine;
    char *copy;

    for (uint64_t i = 0; i < 20; i++) /* more than the log takes up */
        put_frame(fixture->engine, i);
    sync_all(fixture->engine);
    copy = copy_store(fixture, "killed");
    count = list_ids(copy, left);
    assert_true(count > 0);
    for (size_t i = 0; i < count; i++)
        highest = left[i] > highest ? left[i] : highest;
    assert_int_equal(try_open(fixture, copy, &engine), 0);
    for (uint64_t i = 20; i < 23; i++) {
        put_frame(engine, i);
        assert_int_equal(engine_flush(engine), 0);
    }
    count = list_ids(copy, now);
    for (size_t i = 0; i < count; i++)
        fresh += now[i] > highest;
    assert_true(fresh >= 3); /* the chunks; tables may have been merged by now */
    for (uint64_t i = 0; i < 23; i++)
        assert_true(has_key(engine, i));
    assert_int_equal(engine_close(engine), 0);
    free(copy);
}

/* ---- the log ---- */

static void segment_path(const char *store, uint64_t number, char to[4200])
{
    char *wal = test_path(store, "wal"), name[WAL_NAME_SIZE];

    wal_segment_name(name, number);
    snprintf(to, 4200, "%s/%s", wal, name);
    free(wal);
}

/* Numbers of the segments that have groups, in order. */
static size_t list_used_segments(const char *store, uint64_t numbers[64])
{
    size_t count = 0;

    for (uint64_t number = 1; number < 64; number++) {
        char path[4200];
        size_t size;
        uint8_t *bytes;

        segment_path(store, number, path);
        if (access(path, F_OK) != 0)
            continue;
        bytes = test_file_read(path, &size);
        for (size_t i = WAL_FIRST_GROUP_OFFSET; i < WAL_FIRST_GROUP_OFFSET + 64; i++) {
            if (bytes[i] != 0) {
                numbers[count++] = number;
                break;
            }
        }
        free(bytes);
    }
    return count;
}

/* Three segments and more, all of them needed: nothing is flushed. */
static void fill_segments(struct engine_fixture *fixture)
{
    engine_fixture_close(fixture);
    fixture->options.memtable_bytes = 64 << 20;
    fixture->options.sync_window_ms = 5; /* for wal/SYNCED */
    engine_fixture_open(fixture);
    for (uint64_t i = 0; i < 70; i++) {
        put(fixture->engine, i, 60000);
        sync_all(fixture->engine);
    }
    usleep(100000); /* some sync windows */
}

static void expect_refusal(struct engine_fixture *fixture, const char *path)
{
    struct engine *engine = NULL;
    int result = try_open(fixture, path, &engine);

    if (result == 0)
        (void)engine_close(engine);
    assert_int_equal(result, ERROR_CORRUPT);
}

static void remove_below(const char *store, const char *name)
{
    char *path = test_path(store, name);

    assert_int_equal(unlink(path), 0);
    free(path);
}

static void r41_a_log_without_the_segment_it_begins_in_or_any_other_is_refused(void **state)
{
    struct engine_fixture *fixture = *state;
    uint64_t numbers[64];
    size_t count;
    char *copy;

    fill_segments(fixture);
    copy = copy_store(fixture, "whole");
    count = list_used_segments(copy, numbers);
    assert_true(count >= 3);
    {
        struct engine *engine;

        assert_int_equal(try_open(fixture, copy, &engine), 0);
        assert_true(has_key(engine, 69));
        assert_int_equal(engine_close(engine), 0);
    }
    free(copy);
    for (size_t i = 0; i < count; i++) {
        char path[4200];

        copy = copy_store(fixture, "lacking");
        if (i + 1 < count) /* what follows says it, without any help */
            remove_below(copy, "wal/SYNCED");
        segment_path(copy, numbers[i], path);
        assert_int_equal(unlink(path), 0);
        expect_refusal(fixture, copy);
        free(copy);
    }
}

static void r41_a_log_whose_segments_end_before_they_are_said_to_is_refused(void **state)
{
    struct engine_fixture *fixture = *state;
    uint64_t numbers[64];
    size_t count;

    fill_segments(fixture);
    {
        char *copy = copy_store(fixture, "whole");

        count = list_used_segments(copy, numbers);
        free(copy);
    }
    for (size_t i = 0; i < count; i++) {
        char *copy = copy_store(fixture, "lacking"), path[4200];

        if (i + 1 < count)
            remove_below(copy, "wal/SYNCED");
        segment_path(copy, numbers[i], path);
        assert_int_equal(truncate(path, WAL_FIRST_GROUP_OFFSET + 100), 0);
        expect_refusal(fixture, copy);
        free(copy);
    }
}

static void r41_a_log_that_is_gone_is_refused_when_it_was_synced_beyond(void **state)
{
    struct engine_fixture *fixture = *state;
    char *copy, command[9000];

    fill_segments(fixture);
    copy = copy_store(fixture, "lacking");
    snprintf(command, sizeof command, "rm '%s'/wal/*.wal", copy);
    assert_int_equal(system(command), 0);
    expect_refusal(fixture, copy);
    free(copy);
}

struct told {
    unsigned lines, repaired;
    char text[300];
};

static void note_line(void *context, const char *line, bool repaired)
{
    struct told *told = context;

    told->lines++;
    told->repaired += repaired;
    snprintf(told->text, sizeof told->text, "%s", line);
}

static void a_log_without_its_end_is_accepted_when_somebody_says_so(void **state)
{
    struct engine_fixture *fixture = *state;
    char *copy, path[4200];
    uint64_t numbers[64];
    struct engine *engine;
    struct told told = {0};
    size_t count;

    fill_segments(fixture);
    copy = copy_store(fixture, "lacking");
    assert_int_equal(engine_repair_log(fixture->io, copy, true, note_line, &told), 0);
    assert_int_equal(told.lines, 0); /* nothing is missing */
    count = list_used_segments(copy, numbers);
    segment_path(copy, numbers[count - 1], path);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(engine_repair_log(fixture->io, copy, false, note_line, &told), 0);
    assert_int_equal(told.lines, 1);
    assert_int_equal(told.repaired, 0);
    expect_refusal(fixture, copy);
    assert_int_equal(engine_repair_log(fixture->io, copy, true, note_line, &told), 0);
    assert_int_equal(told.lines, 2);
    assert_int_equal(told.repaired, 1);
    assert_non_null(
        strstr(told.text, "all up to operation 70 were synced: what followed is given up"));
    assert_int_equal(try_open(fixture, copy, &engine), 0);
    assert_true(has_key(engine, 0));
    assert_false(has_key(engine, 69));
    assert_int_equal(engine_close(engine), 0);
    free(copy);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name)                                                                                 \
    cmocka_unit_test_setup_teardown(name, engine_fixture_setup, engine_fixture_teardown)
        TEST(a_blob_chunk_that_has_both_its_names_is_found_by_the_sealed_one),
        TEST(r63_ids_go_on_above_all_that_a_crash_left),
        TEST(r41_a_log_without_the_segment_it_begins_in_or_any_other_is_refused),
        TEST(r41_a_log_whose_segments_end_before_they_are_said_to_is_refused),
        TEST(a_log_without_its_end_is_accepted_when_somebody_says_so),
        TEST(r41_a_log_that_is_gone_is_refused_when_it_was_synced_beyond),
    };

    log_set_level(LOG_LEVEL_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
