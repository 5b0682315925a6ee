/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_fs_file.c - file data through the filesystem: writing, reading, holes, copying, snapshots
 */
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <pthread.h>
#include <string.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "engine/base/error.h"
#include "fuse/fs_data.h"
#include "tests/lib/fs_fixture.h"
#include "tests/lib/seed.h"

#define PUNCH (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE)
#define FRAME BLOB_FRAME_SIZE_MAX

/* ---- helpers ---- */

static uint8_t *make_bytes(size_t size, unsigned tag)
{
    uint8_t *bytes = malloc(size > 0 ? size : 1);

    for (size_t i = 0; i < size; i++)
        bytes[i] = (uint8_t)(tag * 37 + i * 11 + (i >> 9));
    return bytes;
}

static void write_bytes(struct fs_fixture *fixture, uint64_t node, size_t size, uint64_t offset,
                        unsigned tag)
{
    uint8_t *bytes = make_bytes(size, tag);

    assert_int_equal(fs_write(fixture->fs, node, bytes, size, offset, false, false), size);
    free(bytes);
}

static void expect_bytes_through(struct fs_fixture *fixture, uint64_t node, uint64_t handle,
                                 size_t size, uint64_t offset, unsigned tag)
{
    uint8_t *wanted = make_bytes(size, tag), *actual = malloc(size);

    assert_int_equal(fs_read(fixture->fs, node, handle, actual, size, offset), size);
    assert_memory_equal(actual, wanted, size);
    free(wanted);
    free(actual);
}

static void expect_bytes(struct fs_fixture *fixture, uint64_t node, size_t size, uint64_t offset,
                         unsigned tag)
{
    expect_bytes_through(fixture, node, 0, size, offset, tag);
}

static void expect_zeros(struct fs_fixture *fixture, uint64_t node, size_t size, uint64_t offset)
{
    uint8_t *actual = malloc(size);

    memset(actual, 0xee, size);
    assert_int_equal(fs_read(fixture->fs, node, 0, actual, size, offset), size);
    assert_int_equal(actual[0], 0);
    if (size > 1)
        assert_memory_equal(actual, actual + 1, size - 1);
    free(actual);
}

static void append_text(struct fs_fixture *fixture, uint64_t node, const char *text)
{
    assert_int_equal(fs_write(fixture->fs, node, text, strlen(text), 7, true, false), strlen(text));
}

struct map {
    unsigned extents, inlined, compressed;
    uint64_t shortest, mapped;
};

static struct map map_of(struct fs_fixture *fixture, uint64_t ino)
{
    struct map map = {.shortest = UINT64_MAX};
    struct engine_view *view = engine_view_acquire(fixture->engine);
    struct fs_extent_cursor cursor;
    struct fs_extent extent;

    assert_int_equal(fs_extent_cursor_open(view, ino, 0, &cursor), 0);
    while (fs_extent_cursor_next(&cursor, &extent) > 0) {
        map.extents++;
        map.inlined += extent.inlined;
        map.compressed += !extent.inlined && extent.ref.codec == CODEC_ZSTD;
        map.mapped += extent.length;
        if (extent.length < map.shortest)
            map.shortest = extent.length;
    }
    fs_extent_cursor_close(&cursor);
    engine_view_release(view);
    return map;
}

static uint64_t size_of(struct fs_fixture *fixture, uint64_t node)
{
    return fs_fixture_attribute(fixture, node).size_bytes;
}

static void truncate_to(struct fs_fixture *fixture, uint64_t node, uint64_t size)
{
    struct fs_setattr change = {.mask = FS_SETATTR_SIZE, .size_bytes = size};
    struct fs_entry entry;

    assert_int_equal(fs_setattr(fixture->fs, node, &change, &fs_fixture_root, &entry), 0);
}

/* Make snapshot `name`: the node of its root, whose lookup is kept. */
static uint64_t make_snapshot(struct fs_fixture *fixture, const char *name)
{
    uint64_t snapshots = fs_fixture_hold(fixture, FS_ROOT, ".snapshots");

    return fs_fixture_make(fixture, snapshots, name, S_IFDIR | 0755).node;
}

static void delete_snapshot(struct fs_fixture *fixture, const char *name)
{
    uint64_t snapshots = fs_fixture_hold(fixture, FS_ROOT, ".snapshots");

    assert_int_equal(fs_rmdir(fixture->fs, snapshots, name, &fs_fixture_root), 0);
}

static void wait_for_snapshot(struct fs_fixture *fixture, const char *name)
{
    struct snapshot_set *set = fs_snapshots(fixture->fs);
    struct snapshot *snapshot = snapshot_find(set, slice_of_string(name));

    assert_non_null(snapshot);
    assert_int_equal(snapshot_wait(set, snapshot), 0);
    snapshot_unref(snapshot);
}

/* ---- writing and reading ---- */

static void every_size_around_the_limits_reads_back(void **state)
{
    static const size_t sizes[] = {
        1,      2,    FS_INLINE_MAX - 1, FS_INLINE_MAX, FS_INLINE_MAX + 1, 4095,
        4096,   4097, FRAME - 1,         FRAME,         FRAME + 1,         3 * FRAME + 5,
        1 << 20};
    static const uint64_t offsets[] = {0, 1, 4096, FRAME - 1, FRAME, FRAME + 1, 1 << 20};
    struct fs_fixture *fixture = *state;

    for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
        for (size_t o = 0; o < sizeof offsets / sizeof offsets[0]; o++) {
            uint64_t node = fs_fixture_file(fixture, FS_ROOT, "f");

            write_bytes(fixture, node, sizes[s], offsets[o], (unsigned)s);
            assert_int_equal(size_of(fixture, node), offsets[o] + sizes[s]);
            assert_int_equal(map_of(fixture, node).mapped, sizes[s]);
            expect_bytes(fixture, node, sizes[s], offsets[o], (unsigned)s);
            if (offsets[o] > 0)
                expect_zeros(fixture, node, offsets[o], 0);
            assert_int_equal(fs_unlink(fixture->fs, FS_ROOT, "f", &fs_fixture_root), 0);
            fs_forget(fixture->fs, node, 1);
        }
    }
}

static void a_read_is_short_only_at_the_end(void **state)
{
    struct fs_fixture *fixture = *state;
    uint64_t node = fs_fixture_file(fixture, FS_ROOT, "f");
    uint8_t bytes[64];

    write_bytes(fixture, node, 100, 0, 1);
    assert_int_equal(fs_read(fixture->fs, node, 0, bytes, 64, 50), 50);
    assert_int_equal(fs_read(fixture->fs, node, 0, bytes, 64, 100), 0);
    assert_int_equal(fs_read(fixture->fs, node, 0, bytes, 64, UINT64_MAX), 0);
    assert_int_equal(fs_read(fixture->fs, node, 0, bytes, 0, 0), 0);
}

static void writing_nothing_changes_nothing(void **state)
{
    struct fs_fixture *fixture = *state;
    uint64_t node = fs_fixture_file(fixture, FS_ROOT, "f");
    struct fs_attribute before = fs_fixture_attribute(fixture, node), after;
    uint64_t sequence = engine_sequence(fixture->engine);

    assert_int_equal(fs_write(fixture->fs, node, "", 0, 1 << 20, false, true), 0);
    after = fs_fixture_attribute(fixture, node);
    assert_int_equal(after.size_bytes, 0);
    assert_int_equal(after.mtime.tv_nsec, before.mtime.tv_nsec);
    assert_int_equal(engine_sequence(fixture->engine), sequence);
}

static void nothing_lies_beyond_the_largest_size(void **state)
{
    struct fs_fixture *fixture = *state;
    uint64_t node = fs_fixture_file(fixture, FS_ROOT, "f");

    assert_int_equal(fs_write(fixture->fs, node, "ab", 2, FS_SIZE_MAX - 1, false, false), -EFBIG);
    assert_int_equal(fs_write(fixture->fs, node, "ab", 2, UINT64_MAX, false, false), -EFBIG);
    assert_int_equal(size_of(fixture, node), 0);
    assert_int_equal(fs_write(fixture->fs, node, "ab", 2, FS_SIZE_MAX - 2, false, false), 2);
    assert_int_equal(size_of(fixture, node), FS_SIZE_MAX);
    assert_int_equal(fs_write(fixture->fs, node, "c", 1, 0, true, false), -EFBIG);
    assert_int_equal(fs_fallocate(fixture->fs, node, 0, FS_SIZE_MAX, 1), -EFBIG);
    assert_int_equal(fs_seek(fixture->fs, node, 0, 0, SEEK_DATA),
                     (FS_SIZE_MAX - 2) & ~(uint64_t)(FS_BLOCK_SIZE - 1));
    truncate_to(fixture, node, 0);
    assert_int_equal(map_of(fixture, node).extents, 0);
}

static void only_regular_live_files_are_written(void **state)
{
    struct fs_fixture *fixture = *state;
    uint64_t fifo = fs_fixture_make(fixture, FS_ROOT, "p", S_IFIFO | 0644).node;
    char byte;

    assert_int_equal(fs_write(fixture->fs, FS_ROOT, "x", 1, 0, false, false), -EISDIR);
    assert_int_equal(fs_read(fixture->fs, FS_ROOT, 0, &byte, 1, 0), -EISDIR);
    assert_int_equal(fs_write(fixture->fs, fifo, "x", 1, 0, false, false), -EINVAL);
    assert_int_equal(fs_read(fixture->fs, fifo, 0, &byte, 1, 0), -EINVAL);
    assert_int_equal(fs_write(fixture->fs, 4711, "x", 1, 0, false, false), -ESTALE);
    assert_int_equal(fs_read(fixture->fs, 4711, 0, &byte, 1, 0), -ESTALE);
    assert_int_equal(fs_fallocate(fixture->fs, FS_ROOT, 0, 0, 1), -EISDIR);
    assert_int_equal(fs_seek(fixture->fs, FS_ROOT, 0, 0, SEEK_DATA), -EISDIR);
}

static void flags_forbid_what_they_say(void **state)
{
    struct fs_fixture *fixture = *state;
    uint64_t node = fs_fixture_file(fixture, FS_ROOT, "f");

    write_bytes(fixture, node, 10, 0, 1);
    assert_int_equal(fs_set_flags(fixture->fs, node, FS_APPEND_FL, NULL, &fs_fixture_root), 0);
    assert_int_equal(fs_write(fixture->fs, node, "x", 1, 5, false, false), -EPERM);
    assert_int_equal(fs_fallocate(fixture->fs, node, PUNCH, 0, 5), -EPERM);
    append_text(fixture, node, "more");
    assert_int_equal(fs_set_flags(fixture->fs, node, FS_IMMUTABLE_FL, NULL, &fs_fixture_root), 0);
    assert_int_equal(fs_write(fixture->fs, node, "x", 1, 0, true, false), -EPERM);
    assert_int_equal(fs_set_flags(fixture->fs, node, 0, NULL, &fs_fixture_root), 0);
    expect_bytes(fixture, node, 10, 0, 1);
}

static void writing_takes_privileges_away(void **state)
{
    struct fs_fixture *fixture = *state;
    uint64_t node = fs_fixture_make(fixture, FS_ROOT, "f", S_IFREG | 06755).node;
    uint64_t other = fs_fixture_make(fixture, FS_ROOT, "g", S_IFREG | 06745).node;

    assert_int_equal(
        fs_setxattr(fixture->fs, node, "security.capability", "c", 1, 0, &fs_fixture_root), 0);
    assert_int_equal(fs_setxattr(fixture->fs, node, "user.kept", "k", 1, 0, &fs_fixture_root), 0);
    assert_int_equal(fs_write(fixture->fs, node, "x", 1, 0, false, false), 1);
    assert_int_equal(fs_fixture_attribute(fixture, node).mode, S_IFREG | 06755);
    assert_int_equal(fs_getxattr(fixture->fs, node, "security.capability", NULL, 0), -ENODATA);
    assert_int_equal(fs_getxattr(fixture->fs, node, "user.kept", NULL, 0), 1);
    assert_int_equal(fs_write(fixture->fs, node, "x", 1, 0, false, true), 1);
    assert_int_equal(fs_fixture_attribute(fixture, node).mode, S_IFREG | 0755);
    /* without group execution sgid is no privilege */
    assert_int_equal(fs_write(fixture->fs, other, "x", 1, 0, false, true), 1);
    assert_int_equal(fs_fixture_attribute(fixture, other).mode, S_IFREG | 02745);
}

/* ---- small writes ---- */

static void a_log_written_in_short_lines_has_long_extents(void **state)
{
    enum { LINES = 5000, LINE = 100 };
    struct fs_fixture *fixture = *state;
    uint64_t node = fs_fixture_file(fixture, FS_ROOT, "log"), written;
    uint8_t *bytes = make_bytes(LINES * LINE, 3), *actual = malloc(LINES * LINE);
    struct engine_statistics before, after;
    struct map map;

    engine_get_statistics(fixture->engine, &before);
    for (unsigned i = 0; i < LINES; i++)
        assert_int_equal(fs_write(fixture->fs, node, bytes + i * LINE, LINE, 0, true, false), LINE);
    engine_get_statistics(fixture->engine, &after);
    map = map_of(fixture, node);
    assert_int_equal(map.mapped, LINES * LINE);
    /* all but the ends of the file and either end of a cell of the grid are frames of 4 KiB or more
     */
    assert_true(map.extents - map.inlined <= LINES * LINE / 4096 + LINES * LINE / FRAME);
    assert_true(map.inlined <= 4 + LINES * LINE / FRAME);
    /* every byte went into a frame once; into the log as inline data, some ten times at most */
    assert_true(after.blob_raw_bytes - before.blob_raw_bytes <= LINES * LINE);
    written = after.batch_bytes - before.batch_bytes;
    assert_true(written < UINT64_C(10) * LINES * LINE);
    assert_int_equal(fs_read(fixture->fs, node, 0, actual, LINES * LINE, 0), LINES * LINE);
    assert_memory_equal(actual, bytes, LINES * LINE);
    free(bytes);
    free(actual);
}

static void lines_of_any_length_make_no_short_frames(void **state)
{
    static const size_t lines[] = {1, 37, 513, 600, 1023, 1024, 1025, 1500, 2000, 3000, 4095};
    struct fs_fixture *fixture = *state;

    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        uint64_t node = fs_fixture_file(fixture, FS_ROOT, "log");
        size_t total = 60000 < 600 * lines[i] ? 60000 : 600 * lines[i];
        uint8_t *bytes = make_bytes(total, 5), *actual = malloc(total);
        struct map map;

        for (size_t at = 0; at < total;) {
            size_t size = lines[i] < total - at ? lines[i] : total - at;

            assert_int_equal(fs_write(fixture->fs, node, bytes + at, size, at, false, false), size);
            at += size;
        }
        map = map_of(fixture, node);
        assert_int_equal(map.mapped, total);
        assert_true(map.extents <= total / 4096 + 9);
        assert_int_equal(fs_read(fixture->fs, node, 0, actual, total, 0), total);
        assert_memory_equal(actual, bytes, total);
        assert_int_equal(fs_unlink(fixture->fs, FS_ROOT, "log", &fs_fixture_root), 0);
        fs_forget(fixture->fs, node, 1);
        free(bytes);
        free(actual);
    }
}

static void overwriting_part_of_an_inline_extent_leaves_one_extent(void **state)
{
    struct fs_fixture *fixture = *state;
    uint64_t node = fs_fixture_file(fixture, FS_ROOT, "f");
    uint8_t *wanted = make_bytes(900, 1), actual[900];

    write_bytes(fixture, node, 900, 0, 1);
    assert_int_equal(fs_write(fixture->fs, node, "middle", 6, 400, false, false), 6);
    assert_int_equal(fs_write(fixture->fs, node, "start", 5, 0, false, false), 5);
    assert_int_equal(fs_write(fixture->fs, node, "end", 3, 897, false, false), 3);
    assert_int_equal(map_of(fixture, node).extents, 1);
    memcpy(wanted + 400, "middle", 6);
    memcpy(wanted, "start", 5);
    memcpy(wanted + 897, "end", 3);
    assert_int_equal(fs_read(fixture->fs, node, 0, actual, 900, 0), 900);
    assert_memory_equal(actual, wanted, 900);
    free(wanted);
}

static void an_overwrite_in_the_middle_of_a_frame_leaves_both_ends(void **state)
{
    struct fs_fixture *fixture = *state;
    uint64_t node = fs_fixture_file(fixture, FS_ROOT, "f");
    uint8_t *wanted = make_bytes(FRAME, 1), *actual = malloc(FRAME);

    write_bytes(fixture, node, FRAME, 0, 1);
    for (unsigned i = 0; i < 40; i++) { /* one after the other: they join */
        memset(wanted + 50000 + i * 100, 'a' + i % 26, 100);
        assert_int_equal(fs_write(fixture->fs, node, wanted + 50000 + i * 100, 100, 50000 + i * 100,
                                  false, false),
                         100);
    }
    assert_true(map_of(fixture, node).extents <= 2 + 4);
    assert_int_equal(map_of(fixture, node).mapped, FRAME);
    assert_int_equal(fs_read(fixture->fs, node, 0, actual, FRAME, 0), FRAME);
    assert_memory_equal(actual, wanted, FRAME);
    free(wanted);
    free(actual);
}

static void a_file_rewritten_in_place_does_not_grow_its_map(void **state)
{
    struct fs_fixture *fixture = *state;
    uint64_t node = fs_fixture_file(fixture, FS_ROOT, "db"), random = seed_start(__func__);

    for (unsigned i = 0; i < 64; i++)
        write_bytes(fixture, node, 4096, i * 4096, i);
    for (unsigned i = 0; i < 500; i++) {
        unsigned page = (unsigned)seed_below(&random, 64);

        write_bytes(fixture, node, 4096, page * 4096, page);
    }
    assert_int_equal(map_of(fixture, node).extents, 64);
    for (unsigned i = 0; i < 64; i++)
        expect_bytes(fixture, node, 4096, i * 4096, i);
}

static void a_shattered_file_is_read_at_once(void **state)
{
    enum { PIECES = 3000, SIZE = 1100 };
    struct fs_fixture *fixture = *state;
    uint64_t node = fs_fixture_file(fixture, FS_ROOT, "f");
    uint8_t *whole = malloc(PIECES * 2 * SIZE), *piece;

    /* from the end to the start with holes between: nothing can be joined */
    for (unsigned i = PIECES; i-- > 0;)
        write_bytes(fixture, node, SIZE, (uint64_t)i * 2 * SIZE, i);
    assert_true(map_of(fixture, node).extents >= PIECES);
    assert_int_equal(fs_read(fixture->fs, node, 0, whole, PIECES * 2 * SIZE, 0),
                     (PIECES * 2 - 1) * SIZE);
    for (unsigned i = 0; i < PIECES; i++) {
        piece = make_bytes(SIZE, i);
        assert_memory_equal(whole + i * 2 * SIZE, piece, SIZE);
        memset(piece, 0, SIZE);
        if (i + 1 < PIECES)
            assert_memory_equal(whole + (i * 2 + 1) * SIZE, piece, SIZE);
        free(piece);
    }
    free(whole);
}

/* ---- holes ---- */

static void data_and_holes_are_found_in_whole_blocks(void **state)
{
    struct fs_fixture *fixture = *state;
    uint64_t node = fs_fixture_file(fixture, FS_ROOT, "f");
    struct fs *fs = fixture->fs;

    write_bytes(fixture, node, 1, 5000, 1);
    write_bytes(fixture, node, 1, 6000, 1);
    write_bytes(fixture, node, 1, 9000, 1);
    write_bytes(fixture, node, FRAME, 3 * FRAME, 2);
    truncate_to(fixture, node, 10 * FRAME);
    assert_int_equal(fs_seek(fs, node, 0, 0, SEEK_DATA), 4096);
    assert_int_equal(fs_seek(fs, node, 0, 4095, SEEK_DATA), 4096);
    assert_int_equal(fs_seek(fs, node, 0, 5001, SEEK_DATA), 5001);
    assert_int_equal(fs_seek(fs, node, 0, 12287, SEEK_DATA), 12287);
    assert_int_equal(fs_seek(fs, node, 0, 12288, SEEK_DATA), 3 * FRAME);
    assert_int_equal(fs_seek(fs, node, 0, 4 * FRAME, SEEK_DATA), -ENXIO);
    assert_int_equal(fs_seek(fs, node, 0, 0, SEEK_HOLE), 0);
    assert_int_equal(fs_seek(fs, node, 0, 4095, SEEK_HOLE), 4095);
    assert_int_equal(fs_seek(fs, node, 0, 4096, SEEK_HOLE), 12288);
    assert_int_equal(fs_seek(fs, node, 0, 9001, SEEK_HOLE), 12288);
    assert_int_equal(fs_seek(fs, node, 0, 3 * FRAME + 9, SEEK_HOLE), 4 * FRAME);
    assert_int_equal(fs_seek(fs, node, 0, 10 * FRAME, SEEK_HOLE), -ENXIO);
    assert_int_equal(fs_seek(fs, node, 0, 0, SEEK_SET), -EINVAL);
    write_bytes(fixture, node, 10, 10 * FRAME - 10, 3);
    assert_int_equal(fs_seek(fs, node, 0, 10 * FRAME - 5, SEEK_HOLE), 10 * FRAME);
}

static void a_punched_hole_reads_as_zeros_and_frees(void **state)
{
    struct fs_fixture *fixture = *state;
    uint64_t node = fs_fixture_file(fixture, FS_ROOT, "f");
    uint8_t *wanted = make_bytes(300000, 1), *actual = malloc(300000);

    write_bytes(fixture, node, 300000, 0, 1);
    assert_int_equal(fs_fallocate(fixture->fs, node, PUNCH, 1000, 200000), 0);
    memset(wanted + 1000, 0, 200000);
    assert_int_equal(fs_read(fixture->fs, node, 0, actual, 300000, 0), 300000);
    assert_memory_equal(actual, wanted, 300000);
    assert_int_equal(fs_fixture_attribute(fixture, node).blocks_512, (100000 + 4095) / 4096 * 8);
    assert_int_equal(fs_fallocate(fixture->fs, node, PUNCH, 290000, UINT64_C(1) << 40), 0);
    assert_int_equal(size_of(fixture, node), 300000);
    assert_int_equal(map_of(fixture, node).mapped, 1000 + 89000);
    free(wanted);
    free(actual);
}

static void fallocate_does_what_its_mode_says(void **state)
{
    struct fs_fixture *fixture = *state;
    uint64_t node = fs_fixture_file(fixture, FS_ROOT, "f");
    struct fs *fs = fixture->fs;

    write_bytes(fixture, node, 5000, 0, 1);
    assert_int_equal(fs_fallocate(fs, node, FALLOC_FL_KEEP_SIZE, 0, 9000), 0);
    assert_int_equal(size_of(fixture, node), 5000);
    assert_int_equal(fs_fallocate(fs, node, 0, 0, 9000), 0);
    assert_int_equal(size_of(fixture, node), 9000);
    expect_bytes(fixture, node, 5000, 0, 1);
    expect_zeros(fixture, node, 4000, 5000);
    assert_int_equal(fs_fallocate(fs, node, FALLOC_FL_ZERO_RANGE, 4000, 10000), 0);
    assert_int_equal(size_of(fixture, node), 14000);
    assert_int_equal(
        fs_fallocate(fs, node, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, 3000, 99999), 0);
    assert_int_equal(size_of(fixture, node), 14000);
    expect_bytes(fixture, node, 3000, 0, 1);
    expect_zeros(fixture, node, 11000, 3000);
    assert_int_equal(fs_fallocate(fs, node, FALLOC_FL_PUNCH_HOLE, 0, 1), -EOPNOTSUPP);
    assert_int_equal(fs_fallocate(fs, node, FALLOC_FL_COLLAPSE_RANGE, 0, 4096), -EOPNOTSUPP);
    assert_int_equal(fs_fallocate(fs, node, FALLOC_FL_INSERT_RANGE, 0, 4096), -EOPNOTSUPP);
    assert_int_equal(fs_fallocate(fs, node, 0, 0, 0), -EINVAL);
    assert_int_equal(fs_fallocate(fs, node, 0, 0, UINT64_C(1) << 55), -ENOSPC);
    assert_int_equal(size_of(fixture, node), 14000);
}

static void truncating_up_shows_zeros_where_data_was(void **state)
{
    struct fs_fixture *fixture = *state;
    uint64_t node = fs_fixture_file(fixture, FS_ROOT, "f");

    write_bytes(fixture, node, 200000, 0, 1);
    truncate_to(fixture, node, 100);
    truncate_to(fixture, node, 200000);
    expect_bytes(fixture, node, 100, 0, 1);
    expect_zeros(fixture, node, 199900, 100);
}

/* ---- copying ---- */

static void a_copy_shares_and_outlives_its_source(void **state)
{
    struct fs_fixture *fixture = *state;
    uint64_t from = fs_fixture_file(fixture, FS_ROOT, "from");
    uint64_t to = fs_fixture_file(fixture, FS_ROOT, "to");
    struct engine_statistics before, after;
    size_t size = 3 * FRAME + 777;

    write_bytes(fixture, from, size, 0, 1);
    engine_get_statistics(fixture->engine, &before);
    assert_int_equal(fs_copy_range(fixture->fs, from, 0, 0, to, 0, UINT64_C(1) << 40), size);
    engine_get_statistics(fixture->engine, &after);
    assert_int_equal(after.blob_raw_bytes, before.blob_raw_bytes); /* no data was written */
    expect_bytes(fixture, to, size, 0, 1);
    write_bytes(fixture, from, size, 0, 2);
    expect_bytes(fixture, to, size, 0, 1);
    assert_int_equal(fs_unlink(fixture->fs, FS_ROOT, "from", &fs_fixture_root), 0);
    fs_forget(fixture->fs, from, 1);
    assert_int_equal(engine_compact(fixture->engine), 0);
    expect_bytes(fixture, to, size, 0, 1);
}

static void a_copy_fits_any_offsets_and_carries_holes(void **state)
{
    struct fs_fixture *fixture = *state;
    uint64_t from = fs_fixture_file(fixture, FS_ROOT, "from");
    uint64_t to = fs_fixture_file(fixture, FS_ROOT, "to");

    write_bytes(fixture, from, 10000, 0, 1);
    write_bytes(fixture, from, 10000, 50000, 2);
    write_bytes(fixture, to, 100000, 0, 3);
    assert_int_equal(fs_copy_range(fixture->fs, from, 0, 5000, to, 777, 50000), 50000);
    expect_bytes(fixture, to, 777, 0, 3);
    expect_zeros(fixture, to, 40000, 777 + 5000);
    assert_int_equal(fs_seek(fixture->fs, to, 0, 5777, SEEK_HOLE), 8192);
    assert_int_equal(fs_seek(fixture->fs, to, 0, 5777, SEEK_DATA), 5777);
    assert_int_equal(fs_seek(fixture->fs, to, 0, 8192, SEEK_DATA), 45056);
    expect_bytes(fixture, to, 5000, 45777, 2);
    assert_int_equal(map_of(fixture, to).mapped, 60000);
    assert_int_equal(size_of(fixture, to), 100000);
}

static void a_copy_within_a_file_must_not_overlap(void **state)
{
    struct fs_fixture *fixture = *state;
    uint64_t node = fs_fixture_file(fixture, FS_ROOT, "f");

    write_bytes(fixture, node, 10000, 0, 1);
    assert_int_equal(fs_copy_range(fixture->fs, node, 0, 0, node, 9999, 10000), -EINVAL);
    assert_int_equal(fs_copy_range(fixture->fs, node, 0, 500, node, 0, 501), -EINVAL);
    assert_int_equal(fs_copy_range(fixture->fs, node, 0, 0, node, 10000, 10000), 10000);
    expect_bytes(fixture, node, 10000, 0, 1);
    expect_bytes(fixture, node, 10000, 10000, 1);
    /* growing the file does not move the source's end */
    assert_int_equal(fs_copy_range(fixture->fs, node, 0, 15000, node, 30000, 15000), 5000);
    assert_int_equal(size_of(fixture, node), 35000);
    assert_int_equal(fs_copy_range(fixture->fs, node, 0, 35000, node, 0, 10), 0);
}

static void a_copy_of_very_many_extents_is_several_batches(void **state)
{
    enum { PIECES = 5000, BATCH = 512 };
    struct fs_fixture *fixture = *state;
    uint64_t from = fs_fixture_file(fixture, FS_ROOT, "from");
    uint64_t to = fs_fixture_file(fixture, FS_ROOT, "to");
    struct engine_statistics before, after;

    for (unsigned i = 0; i < PIECES; i++)
        write_bytes(fixture, from, 10, (uint64_t)i * 1000, i);
    engine_get_statistics(fixture->engine, &before);
    assert_int_equal(fs_copy_range(fixture->fs, from, 0, 0, to, 0, PIECES * 1000),
                     (PIECES - 1) * 1000 + 10);
    engine_get_statistics(fixture->engine, &after);
    assert_int_equal(after.batches - before.batches, (PIECES + BATCH - 1) / BATCH);
    assert_int_equal(map_of(fixture, to).extents, map_of(fixture, from).extents);
    for (unsigned i = 0; i < PIECES; i += 7)
        expect_bytes(fixture, to, 10, (uint64_t)i * 1000, i);
}

/* ---- snapshots ---- */

static void a_file_is_restored_from_a_snapshot_without_copying(void **state)
{
    struct fs_fixture *fixture = *state;
    uint64_t node = fs_fixture_file(fixture, FS_ROOT, "f"), past, snapshot;
    struct engine_statistics before, after;
    size_t size = 9 * FRAME + 100;

    write_bytes(fixture, node, size, 0, 1);
    snapshot = make_snapshot(fixture, "s");
    wait_for_snapshot(fixture, "s");
    past = fs_fixture_hold(fixture, snapshot, "f");
    truncate_to(fixture, node, 0);
    write_bytes(fixture, node, 100, 0, 2);
    /* the live store lets go of the data: it must be linked back */
    assert_int_equal(engine_compact(fixture->engine), 0);
    engine_get_statistics(fixture->engine, &before);
    assert_int_equal(fs_copy_range(fixture->fs, past, 0, 0, node, 0, size), size);
    engine_get_statistics(fixture->engine, &after);
    assert_int_equal(after.blob_raw_bytes, before.blob_raw_bytes);
    expect_bytes(fixture, node, size, 0, 1);
    delete_snapshot(fixture, "s");
    fs_fixture_reopen(fixture);
    expect_bytes(fixture, node, size, 0, 1);
}

static void a_handle_reads_on_after_its_snapshot_is_deleted(void **state)
{
    struct fs_fixture *fixture = *state;
    uint64_t node = fs_fixture_file(fixture, FS_ROOT, "f"), past, snapshot, handle;
    size_t size = 5 * FRAME;

    write_bytes(fixture, node, size, 0, 1);
    snapshot = make_snapshot(fixture, "s");
    wait_for_snapshot(fixture, "s");
    past = fs_fixture_hold(fixture, snapshot, "f");
    assert_int_equal(fs_open_file(fixture->fs, past, true, &handle), -EROFS);
    assert_int_equal(fs_open_file(fixture->fs, past, false, &handle), 0);
    write_bytes(fixture, node, size, 0, 2);
    delete_snapshot(fixture, "s");
    assert_int_equal(engine_compact(fixture->engine), 0);
    expect_bytes_through(fixture, past, handle, size, 0, 1);
    assert_int_equal(fs_seek(fixture->fs, past, handle, 0, SEEK_HOLE), size);
    fs_release_file(fixture->fs, past, handle);
    fs_forget(fixture->fs, past, 1);
    expect_bytes(fixture, node, size, 0, 2);
}

static void an_open_file_lives_without_a_name(void **state)
{
    struct fs_fixture *fixture = *state;
    uint64_t node = fs_fixture_file(fixture, FS_ROOT, "f"), handle;
    char byte;

    assert_int_equal(fs_open_file(fixture->fs, node, true, &handle), 0);
    fs_forget(fixture->fs, node, 1);
    assert_int_equal(fs_unlink(fixture->fs, FS_ROOT, "f", &fs_fixture_root), 0);
    write_bytes(fixture, node, 200000, 0, 1);
    expect_bytes_through(fixture, node, handle, 200000, 0, 1);
    fs_release_file(fixture->fs, node, handle);
    assert_int_equal(fs_read(fixture->fs, node, 0, &byte, 1, 0), -ESTALE);
}

/* ---- several threads ---- */

enum { VALUES = 40, RECORD = 300000 };

struct writer {
    struct fs_fixture *fixture;
    uint64_t node;
};

static void *write_records(void *context)
{
    struct writer *writer = context;
    uint8_t *bytes = malloc(RECORD);

    for (unsigned i = 0; i < VALUES; i++) {
        memset(bytes, (int)(1 + i), RECORD);
        assert_int_equal(
            fs_write(writer->fixture->fs, writer->node, bytes, RECORD, 0, false, false), RECORD);
        if (i % 3 == 0 && i + 1 < VALUES)
            truncate_to(writer->fixture, writer->node, 0);
    }
    free(bytes);
    return NULL;
}

static void a_read_sees_all_of_a_write_or_nothing(void **state)
{
    struct writer writer = {.fixture = *state};
    uint8_t *bytes = malloc(RECORD);
    pthread_t thread;
    int64_t size;

    writer.node = fs_fixture_file(writer.fixture, FS_ROOT, "f");
    assert_int_equal(pthread_create(&thread, NULL, write_records, &writer), 0);
    do {
        size = fs_read(writer.fixture->fs, writer.node, 0, bytes, RECORD, 0);
        assert_true(size == 0 || size == RECORD);
        if (size > 0)
            assert_memory_equal(bytes, bytes + 1, RECORD - 1); /* all alike */
    } while (size == 0 || bytes[0] < VALUES);
    assert_int_equal(pthread_join(thread, NULL), 0);
    free(bytes);
}

static void *append_lines(void *context)
{
    struct writer *writer = context;

    for (unsigned i = 0; i < 400; i++)
        append_text(writer->fixture, writer->node, "a line of 24 characters\n");
    return NULL;
}

static void appends_of_many_threads_lose_nothing(void **state)
{
    struct writer writer = {.fixture = *state};
    pthread_t threads[4];
    char line[25];

    writer.node = fs_fixture_file(writer.fixture, FS_ROOT, "log");
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, append_lines, &writer), 0);
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    assert_int_equal(size_of(writer.fixture, writer.node), 4 * 400 * 24);
    for (unsigned i = 0; i < 4 * 400; i++) {
        assert_int_equal(fs_read(writer.fixture->fs, writer.node, 0, line, 24, i * 24), 24);
        assert_memory_equal(line, "a line of 24 characters\n", 24);
    }
}

/* ---- durability ---- */

static void fsync_makes_what_was_written_durable(void **state)
{
    struct fs_fixture *fixture = *state;
    uint64_t node = fs_fixture_file(fixture, FS_ROOT, "f");
    struct engine_statistics statistics;
    uint64_t sequence;

    write_bytes(fixture, node, 300000, 0, 1);
    sequence = engine_sequence(fixture->engine);
    assert_int_equal(fs_fsync(fixture->fs, node, true), 0);
    engine_get_statistics(fixture->engine, &statistics);
    assert_true(statistics.durable_sequence >= sequence);
    assert_int_equal(fs_sync(fixture->fs), 0);
}

/* Text, which compresses. */
static void write_page(struct fs_fixture *fixture, uint64_t node, unsigned page)
{
    static uint8_t text[4096];

    for (size_t i = 0; i < sizeof text; i++)
        text[i] = "of a page, the text. "[i % 21];
    assert_int_equal(fs_write(fixture->fs, node, text, sizeof text, page * (uint64_t)sizeof text,
                              false, false),
                     sizeof text);
}

static void whose_writes_are_waited_for_is_not_compressed(void **state)
{
    struct fs_fixture *fixture = *state;
    uint64_t log = fs_fixture_file(fixture, FS_ROOT, "log");
    uint64_t other = fs_fixture_file(fixture, FS_ROOT, "other");
    unsigned page = 0;

    /* A habit it is after some times, of files that are synced, while little is written between. */
    for (; page < 10; page++) {
        write_page(fixture, log, page);
        write_page(fixture, other, page);
        assert_int_equal(fs_fsync(fixture->fs, log, true), 0);
        assert_int_equal(fs_fsync(fixture->fs, log, true), 0); /* nothing was written before this */
    }
    assert_int_equal(map_of(fixture, log).compressed, FS_SYNCED_STREAK + 1);
    assert_int_equal(map_of(fixture, other).compressed, 10);
    for (; page < 10 + FS_SYNCED_BYTES_MAX / 4096; page++)
        write_page(fixture, log, page);
    assert_int_equal(map_of(fixture, log).compressed, FS_SYNCED_STREAK + 1);
    write_page(fixture, log, page++);
    assert_int_equal(map_of(fixture, log).compressed, FS_SYNCED_STREAK + 2);
    /* And over it is with one sync that has much to do. */
    assert_int_equal(fs_fsync(fixture->fs, log, true), 0);
    write_page(fixture, log, page++);
    assert_int_equal(map_of(fixture, log).compressed, FS_SYNCED_STREAK + 3);
    assert_int_equal(map_of(fixture, log).extents, page);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FS_FIXTURE_TEST(every_size_around_the_limits_reads_back),
        FS_FIXTURE_TEST(a_read_is_short_only_at_the_end),
        FS_FIXTURE_TEST(writing_nothing_changes_nothing),
        FS_FIXTURE_TEST(nothing_lies_beyond_the_largest_size),
        FS_FIXTURE_TEST(only_regular_live_files_are_written),
        FS_FIXTURE_TEST(flags_forbid_what_they_say),
        FS_FIXTURE_TEST(writing_takes_privileges_away),
        FS_FIXTURE_TEST(a_log_written_in_short_lines_has_long_extents),
        FS_FIXTURE_TEST(lines_of_any_length_make_no_short_frames),
        FS_FIXTURE_TEST(overwriting_part_of_an_inline_extent_leaves_one_extent),
        FS_FIXTURE_TEST(an_overwrite_in_the_middle_of_a_frame_leaves_both_ends),
        FS_FIXTURE_TEST(a_file_rewritten_in_place_does_not_grow_its_map),
        FS_FIXTURE_TEST(a_shattered_file_is_read_at_once),
        FS_FIXTURE_TEST(data_and_holes_are_found_in_whole_blocks),
        FS_FIXTURE_TEST(a_punched_hole_reads_as_zeros_and_frees),
        FS_FIXTURE_TEST(fallocate_does_what_its_mode_says),
        FS_FIXTURE_TEST(truncating_up_shows_zeros_where_data_was),
        FS_FIXTURE_TEST(a_copy_shares_and_outlives_its_source),
        FS_FIXTURE_TEST(a_copy_fits_any_offsets_and_carries_holes),
        FS_FIXTURE_TEST(a_copy_within_a_file_must_not_overlap),
        FS_FIXTURE_TEST(a_copy_of_very_many_extents_is_several_batches),
        FS_FIXTURE_TEST(a_file_is_restored_from_a_snapshot_without_copying),
        FS_FIXTURE_TEST(a_handle_reads_on_after_its_snapshot_is_deleted),
        FS_FIXTURE_TEST(an_open_file_lives_without_a_name),
        FS_FIXTURE_TEST(a_read_sees_all_of_a_write_or_nothing),
        FS_FIXTURE_TEST(appends_of_many_threads_lose_nothing),
        FS_FIXTURE_TEST(fsync_makes_what_was_written_durable),
        FS_FIXTURE_TEST(whose_writes_are_waited_for_is_not_compressed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
