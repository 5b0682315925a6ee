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
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/base/log.h"
#include "engine/chunk_format.h"
#include "engine/store.h"
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_name_that_half_a_rename_took_is_still_counted),
        cmocka_unit_test(names_in_a_deleted_checkpoint_can_still_be_removed),
        cmocka_unit_test(a_name_in_tmp_that_leads_nowhere_is_passed_over),
    };

    log_set_level(LOG_LEVEL_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
