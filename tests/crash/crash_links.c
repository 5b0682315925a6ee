/* SPDX-License-Identifier: Apache-2.0 */
/*
 * crash_links.c - names and link counts that a cut has left in disagreement
 *
 * On a file system without a journal that nobody has repaired a chunk may have more names than its
 * count says. What the model of the disk makes of that, and what the store may then remove.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/base/log.h"
#include "engine/base/name_list.h"
#include "engine/chunk_format.h"
#include "engine/engine_repair.h"
#include "engine/store.h"
#include "tests/lib/crash_fixture.h"
#include "tests/lib/disk_model.h"
#include "tests/lib/test_directory.h"

static struct io_file *open_directory(struct disk_model *disk, const char *path)
{
    struct io_file *directory;

    assert_int_equal(io_open_root(disk_model_io(disk), path, &directory), 0);
    return directory;
}

static void make_directory(struct disk_model *disk, const char *parent, const char *name)
{
    struct io_file *directory = open_directory(disk, parent);

    assert_int_equal(io_mkdir(disk_model_io(disk), directory, name, 0755), 0);
    io_close(disk_model_io(disk), directory);
}

static void sync_directory(struct disk_model *disk, const char *path)
{
    struct io_file *directory = open_directory(disk, path);

    assert_int_equal(io_sync(disk_model_io(disk), directory, false), 0);
    io_close(disk_model_io(disk), directory);
}

/* Whole on the disk, all but its name. */
static void make_file(struct disk_model *disk, const char *parent, const char *name)
{
    struct io_file *directory = open_directory(disk, parent), *file;
    struct io *io = disk_model_io(disk);

    assert_int_equal(io_open(io, directory, name, IO_OPEN_WRITE | IO_OPEN_CREATE, 0600, &file), 0);
    assert_int_equal(io_write(io, file, "content", 7, 0), 0);
    assert_int_equal(io_sync(io, file, false), 0);
    io_close(io, file);
    io_close(io, directory);
}

static void add_name(struct disk_model *disk, const char *from, const char *name, const char *to)
{
    struct io_file *source = open_directory(disk, from), *target = open_directory(disk, to);

    assert_int_equal(io_link(disk_model_io(disk), source, name, target, name), 0);
    io_close(disk_model_io(disk), target);
    io_close(disk_model_io(disk), source);
}

static int open_name(struct disk_model *disk, const char *parent, const char *name)
{
    struct io_file *directory = open_directory(disk, parent), *file = NULL;
    int result = io_open(disk_model_io(disk), directory, name, IO_OPEN_READ, 0, &file);

    io_close(disk_model_io(disk), file);
    io_close(disk_model_io(disk), directory);
    return result;
}

/* ---- the model ---- */

/* x moves from a/ to b/, and only a/ is synced. c/ has a name of it that the count does not know. */
static void a_name_that_half_a_rename_took_is_still_counted(void **state)
{
    struct disk_model *disk = disk_model_new("/disk"), *cut;
    struct io_file *from, *to;

    (void)state;
    make_directory(disk, "/disk", "a");
    make_directory(disk, "/disk", "b");
    make_directory(disk, "/disk", "c");
    sync_directory(disk, "/disk");
    make_file(disk, "/disk/a", "x");
    sync_directory(disk, "/disk/a");
    add_name(disk, "/disk/a", "x", "/disk/c");
    sync_directory(disk, "/disk/c");
    cut = disk_model_cut(disk, 0);
    disk_model_free(disk);
    disk_model_set_base(cut, "/disk");
    from = open_directory(cut, "/disk/a");
    to = open_directory(cut, "/disk/b");
    assert_int_equal(io_rename(disk_model_io(cut), from, "x", to, "x"), 0);
    io_close(disk_model_io(cut), to);
    io_close(disk_model_io(cut), from);
    sync_directory(cut, "/disk/a");
    disk = disk_model_cut(cut, 0);
    disk_model_free(cut);
    disk_model_set_base(disk, "/disk");
    assert_int_equal(open_name(disk, "/disk/a", "x"), -ENOENT);
    assert_int_equal(open_name(disk, "/disk/b", "x"), -ENOENT);
    assert_int_equal(open_name(disk, "/disk/c", "x"), 0);
    disk_model_free(disk);
}

/* As on a real disk: no name that has become a directory is taken for a file. */
static void a_directory_is_not_opened_as_a_file(void **state)
{
    struct disk_model *disk = disk_model_new("/disk");

    (void)state;
    make_directory(disk, "/disk", "a");
    assert_int_equal(open_name(disk, "/disk", "a"), -EISDIR);
    disk_model_free(disk);
}

/* ---- the store ---- */

/* A store whose chunk `name` a checkpoint has as well, which the chunk's count does not know. */
static struct disk_model *make_uncounted(const char *base, const char *store, const char *name)
{
    struct store_format format = {.chunk_size_bytes = 16384, .compression_level = 1};
    struct disk_model *disk = disk_model_new(base), *cut;
    char *chunks = test_path(store, "chunks"), *checkpoints = test_path(store, "checkpoints");
    char *checkpoint = test_path(checkpoints, "kept"), *names = test_path(checkpoint, "chunks");

    assert_int_equal(store_create(disk_model_io(disk), store, &format), 0);
    make_file(disk, chunks, name);
    make_directory(disk, checkpoints, "kept");
    make_directory(disk, checkpoint, "chunks");
    add_name(disk, chunks, name, names);
    sync_directory(disk, names);
    sync_directory(disk, checkpoint);
    sync_directory(disk, checkpoints);
    sync_directory(disk, chunks);
    cut = disk_model_cut(disk, 0);
    disk_model_set_base(disk, "");
    disk_model_free(disk);
    disk_model_set_base(cut, base);
    free(names);
    free(checkpoint);
    free(checkpoints);
    free(chunks);
    return cut;
}

/* The start takes a checkpoint's directory away, then the chunks that only it had; its names are
 * removed later, which nothing that they lead to must have ended before. */
static void names_in_a_deleted_checkpoint_can_still_be_removed(void **state)
{
    static const struct chunk_identity identity = {
        .kind = CHUNK_BLOB, .id = 7, .hash = {.high = 1, .low = 2}};
    char *scratch = test_directory_make(), *base = test_path(scratch, "0");
    char *path = test_path(base, "store"), name[CHUNK_NAME_SIZE];
    struct io_file *deleted;
    struct disk_model *disk;
    struct store *store;
    struct io *io;

    (void)state;
    chunk_name(name, &identity);
    disk = make_uncounted(base, path, name);
    io = disk_model_io(disk);
    assert_int_equal(store_open(io, path, true, &store), 0);
    assert_int_equal(io_mkdir(io, store->tmp, STORE_DELETED_NAME, 0755), 0);
    assert_int_equal(io_open(io, store->tmp, STORE_DELETED_NAME, IO_OPEN_DIRECTORY, 0, &deleted),
                     0);
    assert_int_equal(io_rename(io, store->checkpoints, "kept", deleted, "1"), 0);
    assert_int_equal(store_remove_chunk(store, name), 0);
    assert_int_equal(store_remove_tree(io, deleted, "1"), 0);
    io_close(io, deleted);
    store_close(store);
    /* And it starts again, also over a name that leads nowhere by now. */
    assert_int_equal(store_open(io, path, true, &store), 0);
    store_close(store);
    disk_model_free(disk);
    free(path);
    free(base);
    test_directory_remove(scratch);
}

/* Only a check of the disk can remove a name that leads nowhere; the store does without that. */
static void a_name_in_tmp_that_leads_nowhere_is_passed_over(void **state)
{
    static const struct chunk_identity identity = {
        .kind = CHUNK_BLOB, .id = 7, .hash = {.high = 1, .low = 2}};
    char *scratch = test_directory_make(), *base = test_path(scratch, "0");
    char *path = test_path(base, "store"), *place, name[CHUNK_NAME_SIZE];
    struct io_file *directory;
    struct disk_model *disk;
    struct store *store;
    struct stat status;
    struct io *io;

    (void)state;
    chunk_name(name, &identity);
    for (unsigned below = 0; below < 2; below++) {
        disk = make_uncounted(base, path, name);
        io = disk_model_io(disk);
        assert_int_equal(store_open(io, path, true, &store), 0);
        assert_int_equal(io_mkdir(io, store->tmp, "left", 0755), 0);
        assert_int_equal(io_open(io, store->tmp, "left", IO_OPEN_DIRECTORY, 0, &directory), 0);
        if (below == 0)
            assert_int_equal(io_rename(io, store->chunks, name, store->tmp, name), 0);
        else
            assert_int_equal(io_rename(io, store->chunks, name, directory, name), 0);
        io_close(io, directory);
        assert_int_equal(store_remove_tree(io, store->checkpoints, "kept"), 0);
        store_close(store);
        place = test_path(path, below == 0 ? "tmp" : "tmp/left");
        assert_int_equal(open_name(disk, place, name), -ESTALE);
        free(place);
        assert_int_equal(store_open(io, path, true, &store), 0);
        assert_int_equal(io_stat_at(io, store->tmp, "left", &status), below == 0 ? -ENOENT : 0);
        store_close(store);
        disk_model_free(disk);
    }
    free(path);
    free(base);
    test_directory_remove(scratch);
}

/* ---- a name that is made again ---- */

/* The table that the directory has; "": none. */
static void find_table(struct disk_model *disk, const char *path, char to[CHUNK_NAME_SIZE])
{
    struct io_file *directory = open_directory(disk, path);
    struct name_list names = {0};

    to[0] = '\0';
    assert_int_equal(io_list(disk_model_io(disk), directory, name_list_add, &names), 0);
    for (size_t i = 0; i < names.count; i++)
        if (strstr(names.names[i], ".tbl") != NULL)
            snprintf(to, CHUNK_NAME_SIZE, "%s", names.names[i]);
    name_list_free(&names);
    io_close(disk_model_io(disk), directory);
}

static bool has_name(struct disk_model *disk, const char *path, const char *name)
{
    struct io_file *directory = open_directory(disk, path);
    struct stat status;
    int result = io_stat_at(disk_model_io(disk), directory, name, &status);

    io_close(disk_model_io(disk), directory);
    return result == 0;
}

static void say_nothing(void *context, const char *problem, bool repaired)
{
    (void)context, (void)problem, (void)repaired;
}

static void repair(struct disk_model *disk, const char *base)
{
    char *store = test_path(base, "store");

    disk_model_set_base(disk, base);
    assert_int_equal(engine_repair_chunks(disk_model_io(disk), store, true, say_nothing, NULL), 0);
    disk_model_set_base(disk, "");
    free(store);
}

/* What the live tree and the snapshot share has no name in the snapshot's directory any more; all of
 * that is on the disk. */
static uint64_t make_lacking(struct crash_place *place, char name[CHUNK_NAME_SIZE])
{
    char *chunks = test_path(place->base, "store/checkpoints/kept/chunks");
    struct io *io = disk_model_io(place->disk);
    struct io_file *directory;
    struct engine *engine;
    uint64_t id;

    crash_place_make_store(place, 16384);
    open_at(place->disk, place->base, &place->options, &engine);
    put(engine, "a", "one");
    assert_int_equal(
        engine_checkpoint_create(engine, slice_of_string("kept"), slice_of("", 0), &id), 0);
    assert_int_equal(engine_checkpoint_wait(engine, id), 0);
    assert_int_equal(engine_close(engine), 0);
    find_table(place->disk, chunks, name);
    directory = open_directory(place->disk, chunks);
    assert_int_equal(io_unlink(io, directory, name), 0);
    assert_int_equal(io_sync_filesystem(io, directory), 0);
    io_close(io, directory);
    disk_model_set_base(place->disk, "");
    free(chunks);
    return id;
}

/* The live tree deletes what it shares with the snapshot, which must still have it. */
static void check_kept(struct disk_model *disk, const struct crash_place *place, uint64_t id,
                       const char *name)
{
    char *chunks = test_path(place->other, "store/chunks");
    struct buffer value = {0};
    struct engine_view *view;
    struct engine *engine;

    open_at(disk, place->other, &place->options, &engine);
    put(engine, "a", "two");
    assert_int_equal(engine_compact(engine), 0);
    assert_int_equal(engine_close(engine), 0);
    assert_false(has_name(disk, chunks, name));
    open_at(disk, place->other, &place->options, &engine);
    assert_int_equal(engine_checkpoint_view(engine, id, &view), 0);
    assert_int_equal(engine_view_get(view, slice_of_string("a"), &value, NULL), 1);
    assert_int_equal(value.size, 3);
    assert_memory_equal(value.data, "one", 3);
    engine_view_release(view);
    assert_int_equal(engine_close(engine), 0);
    disk_model_set_base(disk, "");
    buffer_free(&value);
    free(chunks);
}

/* A power cut; true: the name was there. Where it is not, it is linked again. */
static bool check_cut(struct disk_model *disk, const struct crash_place *place, uint64_t id,
                      const char *name, uint64_t seed)
{
    char *snapshot = test_path(place->other, "store/checkpoints/kept/chunks");
    struct disk_model *cut = disk_model_cut(disk, seed);
    bool is_there;

    disk_model_set_base(cut, place->other);
    is_there = has_name(cut, snapshot, name);
    disk_model_set_base(cut, "");
    if (!is_there)
        repair(cut, place->other);
    check_kept(cut, place, id, name);
    disk_model_free(cut);
    free(snapshot);
    return is_there;
}

/* The count knows of it before it is in its place: who finds it there after a cut believes it. When
 * the repair has returned it is there. */
static void a_chunk_that_is_linked_again_outlives_its_other_name(void **state)
{
    struct kills *kills = calloc(1, sizeof *kills);
    char name[CHUNK_NAME_SIZE];
    struct crash_place place;
    size_t found = 0, lacking = 0;
    uint64_t id;

    (void)state;
    crash_place_begin(&place);
    id = make_lacking(&place, name);
    disk_model_observe(place.disk, take_kill, kills);
    repair(place.disk, place.base);
    disk_model_observe(place.disk, NULL, NULL);
    for (size_t i = 0; i < kills->count; i++) {
        for (uint64_t seed = 0; seed < CUTS; seed++) {
            bool is_there = check_cut(kills->list[i].disk, &place, id, name, seed);

            found += is_there;
            lacking += !is_there;
        }
        disk_model_free(kills->list[i].disk);
    }
    assert_true(found > 0 && lacking > 0);
    for (uint64_t seed = 0; seed < CUTS; seed++)
        assert_true(check_cut(place.disk, &place, id, name, seed));
    free(kills);
    crash_place_end(&place);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_name_that_half_a_rename_took_is_still_counted),
        cmocka_unit_test(a_directory_is_not_opened_as_a_file),
        cmocka_unit_test(names_in_a_deleted_checkpoint_can_still_be_removed),
        cmocka_unit_test(a_name_in_tmp_that_leads_nowhere_is_passed_over),
        cmocka_unit_test(a_chunk_that_is_linked_again_outlives_its_other_name),
    };

    log_set_level(LOG_LEVEL_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
