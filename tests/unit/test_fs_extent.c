/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_fs_extent.c - the map of a file against one byte for each byte
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "engine/base/endian.h"
#include "fuse/fs_data.h"
#include "tests/lib/seed.h"
#include "tests/lib/test_directory.h"

#define INO UINT64_C(77)

struct fixture {
    char *path;
    struct io *io;
    struct engine *engine;
};

static int setup(void **state)
{
    struct fixture *fixture = calloc(1, sizeof *fixture);
    struct engine_options options;
    struct store_format format = {
        .chunk_size_bytes = 64 << 20, .compression_level = 1, .created_s = 1};

    fixture->path = test_directory_make();
    assert_int_equal(io_open_backend(IO_BACKEND_SYNC, &fixture->io), 0);
    assert_int_equal(store_create(fixture->io, fixture->path, &format), 0);
    engine_options_default(&options);
    options.path = fixture->path;
    options.io = fixture->io;
    options.memtable_bytes = 4 << 20;
    assert_int_equal(engine_open(&options, &fixture->engine), 0);
    *state = fixture;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *fixture = *state;

    assert_int_equal(engine_close(fixture->engine), 0);
    io_close_backend(fixture->io);
    test_directory_remove(fixture->path);
    free(fixture);
    return 0;
}

/* ---- helpers ---- */

/* What byte `index` of the data with this tag is. */
static uint8_t byte_of(uint64_t tag, uint64_t index)
{
    return (uint8_t)(tag * 131 + index * 7 + (index >> 8));
}

static void fill(uint8_t *to, uint64_t tag, uint64_t size)
{
    for (uint64_t i = 0; i < size; i++)
        to[i] = byte_of(tag, i);
}

static struct fs_extent *make_extent(struct fixture *fixture, uint64_t start, uint32_t length,
                                     uint64_t tag)
{
    struct fs_extent *extent = calloc(1, sizeof *extent);
    uint8_t *bytes = malloc(length);

    fill(bytes, tag, length);
    extent->start = start;
    extent->length = length;
    extent->inlined = length <= FS_INLINE_MAX;
    if (extent->inlined)
        memcpy(extent->data, bytes, length);
    else
        assert_int_equal(engine_blob_append(fixture->engine, bytes, length, &extent->ref), 0);
    free(bytes);
    return extent;
}

static void add(struct fixture *fixture, uint64_t ino, uint64_t start, uint32_t length,
                uint64_t tag)
{
    struct engine_view *view = engine_view_acquire(fixture->engine);
    struct fs_extent *extent = make_extent(fixture, start, length, tag);
    struct batch batch = {.count = 0};

    fs_extent_put(&batch, ino, extent);
    assert_int_equal(engine_write(fixture->engine, &batch, NULL), 0);
    batch_free(&batch);
    engine_view_release(view);
    free(extent);
}

static uint32_t punch(struct fixture *fixture, uint64_t ino, uint64_t start, uint64_t end,
                      uint64_t *ret_removed)
{
    struct engine_view *view = engine_view_acquire(fixture->engine);
    struct batch batch = {.count = 0};
    uint32_t count;

    assert_int_equal(fs_extent_punch(view, ino, start, end, &batch, ret_removed), 0);
    count = batch.count;
    if (count > 0)
        assert_int_equal(engine_write(fixture->engine, &batch, NULL), 0);
    batch_free(&batch);
    engine_view_release(view);
    return count;
}

static void read_extent_bytes(struct engine_view *view, const struct fs_extent *extent, uint8_t *to)
{
    struct engine_blob_read read = {.ref = &extent->ref, .to = to};

    if (extent->inlined)
        memcpy(to, extent->data, extent->length);
    else
        assert_int_equal(engine_blob_read(view, &read, 1), 0);
}

/* ---- an oracle: each byte on its own ---- */

#define ORACLE_SIZE (400 * 1024)

struct oracle {
    uint8_t bytes[ORACLE_SIZE];
    bool mapped[ORACLE_SIZE];
};

static void oracle_put(struct oracle *oracle, uint64_t start, uint32_t length, uint64_t tag)
{
    fill(oracle->bytes + start, tag, length);
    memset(oracle->mapped + start, true, length);
}

static uint64_t oracle_punch(struct oracle *oracle, uint64_t start, uint64_t end)
{
    uint64_t removed = 0;

    for (uint64_t i = start; i < end && i < ORACLE_SIZE; i++) {
        removed += oracle->mapped[i];
        oracle->mapped[i] = false;
    }
    return removed;
}

/* Walk from `offset` and compare every extent and every gap. */
static void compare(struct fixture *fixture, const struct oracle *oracle, uint64_t offset)
{
    struct engine_view *view = engine_view_acquire(fixture->engine);
    struct fs_extent_cursor cursor;
    struct fs_extent extent;
    uint8_t *bytes = malloc(BLOB_FRAME_SIZE_MAX);
    uint64_t position = offset;
    bool first = true;
    int result;

    assert_int_equal(fs_extent_cursor_open(view, INO, offset, &cursor), 0);
    while ((result = fs_extent_cursor_next(&cursor, &extent)) > 0) {
        assert_true(fs_extent_end(&extent) > offset);
        assert_true(first || extent.start >= position);
        for (; position < extent.start; position++)
            assert_false(oracle->mapped[position]);
        assert_true(fs_extent_end(&extent) <= ORACLE_SIZE);
        read_extent_bytes(view, &extent, bytes);
        for (uint64_t i = 0; i < extent.length; i++) {
            assert_true(oracle->mapped[extent.start + i]);
            assert_int_equal(oracle->bytes[extent.start + i], bytes[i]);
        }
        position = fs_extent_end(&extent);
        first = false;
    }
    assert_int_equal(result, 0);
    for (; position < ORACLE_SIZE; position++)
        assert_false(oracle->mapped[position]);
    fs_extent_cursor_close(&cursor);
    engine_view_release(view);
    free(bytes);
}

static uint32_t random_length(uint64_t *random)
{
    switch (seed_below(random, 4)) {
    case 0:
        return 1 + (uint32_t)seed_below(random, 16);
    case 1:
        return 1 + (uint32_t)seed_below(random, FS_INLINE_MAX + 2);
    case 2:
        return 1 + (uint32_t)seed_below(random, 8192);
    default:
        return 1 + (uint32_t)seed_below(random, BLOB_FRAME_SIZE_MAX);
    }
}

static void random_step(struct fixture *fixture, struct oracle *oracle, uint64_t *random)
{
    uint64_t start = seed_below(random, ORACLE_SIZE), removed = UINT64_MAX;
    uint32_t length = random_length(random);
    uint64_t end = start + length < ORACLE_SIZE ? start + length : ORACLE_SIZE;

    if (seed_below(random, 12) == 0) {
        struct engine_view *view = engine_view_acquire(fixture->engine);
        struct batch batch = {.count = 0};

        assert_int_equal(fs_extent_truncate(view, INO, start, &batch, &removed), 0);
        assert_int_equal(removed, oracle_punch(oracle, start, ORACLE_SIZE));
        if (batch.count > 0)
            assert_int_equal(engine_write(fixture->engine, &batch, NULL), 0);
        batch_free(&batch);
        engine_view_release(view);
        return;
    }
    punch(fixture, INO, start, end, &removed);
    assert_int_equal(removed, oracle_punch(oracle, start, end));
    if (seed_below(random, 4) != 0) {
        uint64_t tag = seed_next(random);

        add(fixture, INO, start, (uint32_t)(end - start), tag);
        oracle_put(oracle, start, (uint32_t)(end - start), tag);
    }
}

static void random_puts_punches_and_truncations_equal_an_oracle(void **state)
{
    uint64_t random = seed_start(__func__);
    struct oracle *oracle = calloc(1, sizeof *oracle);

    for (unsigned i = 0; i < 600; i++) {
        random_step(*state, oracle, &random);
        if (i % 20 == 0)
            compare(*state, oracle, 0);
        if (i % 5 == 0)
            compare(*state, oracle, seed_below(&random, ORACLE_SIZE));
    }
    compare(*state, oracle, 0);
    free(oracle);
}

/* ---- cases ---- */

static void expect_extent(struct engine_view *view, uint64_t offset, uint64_t start,
                          uint32_t length)
{
    struct fs_extent_cursor cursor;
    struct fs_extent extent;

    assert_int_equal(fs_extent_cursor_open(view, INO, offset, &cursor), 0);
    assert_int_equal(fs_extent_cursor_next(&cursor, &extent), 1);
    assert_int_equal(extent.start, start);
    assert_int_equal(extent.length, length);
    fs_extent_cursor_close(&cursor);
}

static void a_walk_starts_in_the_extent_that_holds_the_offset_or_in_the_next(void **state)
{
    struct engine_view *view;
    struct fs_extent_cursor cursor;
    struct fs_extent extent;

    add(*state, INO, 1000, 500, 1);
    add(*state, INO, 5000, 3000, 2);
    add(*state, INO + 1, 0, 10, 3); /* another file's is never seen */
    view = engine_view_acquire(((struct fixture *)*state)->engine);
    expect_extent(view, 0, 1000, 500);
    expect_extent(view, 1000, 1000, 500);
    expect_extent(view, 1499, 1000, 500);
    expect_extent(view, 1500, 5000, 3000);
    expect_extent(view, 7999, 5000, 3000);
    assert_int_equal(fs_extent_cursor_open(view, INO, 8000, &cursor), 0);
    assert_int_equal(fs_extent_cursor_next(&cursor, &extent), 0);
    fs_extent_cursor_close(&cursor);
    engine_view_release(view);
}

static void a_punch_inside_an_extent_leaves_both_ends(void **state)
{
    struct engine_view *view;
    uint64_t removed;

    add(*state, INO, 0, 100000, 1);
    punch(*state, INO, 30000, 40000, &removed);
    assert_int_equal(removed, 10000);
    view = engine_view_acquire(((struct fixture *)*state)->engine);
    expect_extent(view, 0, 0, 30000);
    expect_extent(view, 30000, 40000, 60000);
    engine_view_release(view);
}

static void a_punch_of_nothing_writes_nothing(void **state)
{
    uint64_t removed = 99;

    add(*state, INO, 1000, 500, 1);
    assert_int_equal(punch(*state, INO, 0, 1000, &removed), 0);
    assert_int_equal(removed, 0);
    assert_int_equal(punch(*state, INO, 1200, 1200, &removed), 0);
    assert_int_equal(punch(*state, INO, 1500, FS_SIZE_MAX, &removed), 0);
}

static void many_extents_go_by_one_range_tombstone(void **state)
{
    uint64_t removed;

    for (unsigned i = 0; i < 20; i++)
        add(*state, INO, i * 100, 50, i);
    /* the whole ones by one record, one trimmed at each end */
    assert_int_equal(punch(*state, INO, 25, 1925, &removed), 3);
    assert_int_equal(removed, 25 + 18 * 50 + 25);
}

static void few_extents_go_one_by_one(void **state)
{
    struct engine_view *view;
    struct batch batch = {.count = 0};
    struct record record;
    size_t cursor = 0;
    uint64_t removed;

    add(*state, INO, 0, 50, 1);
    add(*state, INO, 100, 50, 1);
    view = engine_view_acquire(((struct fixture *)*state)->engine);
    assert_int_equal(fs_extent_punch(view, INO, 0, 1000, &batch, &removed), 0);
    assert_int_equal(batch.count, 2);
    while (batch_next(buffer_slice(&batch.bytes), &cursor, &record) > 0)
        assert_int_equal(record.kind, RECORD_DELETE);
    batch_free(&batch);
    engine_view_release(view);
}

static void a_key_that_will_be_replaced_is_not_deleted(void **state)
{
    struct fs_extent_cut *cut = malloc(sizeof *cut);
    struct engine_view *view;
    struct batch batch = {.count = 0};

    add(*state, INO, 4096, 4096, 1);
    view = engine_view_acquire(((struct fixture *)*state)->engine);
    assert_int_equal(fs_extent_cut(view, INO, 4096, 8192, true, &batch, cut), 0);
    assert_int_equal(batch.count, 0);
    assert_int_equal(cut->removed_bytes, 4096);
    assert_int_equal(fs_extent_cut(view, INO, 4096, 8192, false, &batch, cut), 0);
    assert_int_equal(batch.count, 1);
    batch_free(&batch);
    engine_view_release(view);
    free(cut);
}

static void truncating_a_large_file_to_nothing_asks_its_inode(void **state)
{
    struct fixture *fixture = *state;
    struct fs_inode inode = {
        .mode = S_IFREG | 0600, .nlink = 1, .size_bytes = 2 << 20, .allocated_bytes = 2 << 20};
    struct batch batch = {.count = 0};
    struct engine_view *view;
    struct fs_extent_cursor cursor;
    struct fs_extent extent;
    uint64_t removed;

    fs_inode_put(&batch, INO, &inode);
    assert_int_equal(engine_write(fixture->engine, &batch, NULL), 0);
    batch_clear(&batch);
    for (uint64_t i = 0; i < 16; i++)
        add(fixture, INO, i * BLOB_FRAME_SIZE_MAX, BLOB_FRAME_SIZE_MAX, i);
    view = engine_view_acquire(fixture->engine);
    assert_int_equal(fs_extent_truncate(view, INO, 0, &batch, &removed), 0);
    assert_int_equal(removed, 2 << 20);
    assert_int_equal(batch.count, 1);
    assert_int_equal(engine_write(fixture->engine, &batch, NULL), 0);
    batch_free(&batch);
    engine_view_release(view);

    view = engine_view_acquire(fixture->engine);
    assert_int_equal(fs_extent_cursor_open(view, INO, 0, &cursor), 0);
    assert_int_equal(fs_extent_cursor_next(&cursor, &extent), 0);
    fs_extent_cursor_close(&cursor);
    engine_view_release(view);
}

/* R27: sparse extents, put in any order, are found from any offset in one step. */
static void r27_extent_of_an_offset_equals_an_oracle_at_many_sparse_extents(void **state)
{
    enum { EXTENTS = 100000, STRIDE = 1000 };
    struct fixture *fixture = *state;
    uint64_t random = seed_start(__func__);
    uint32_t *order = malloc(EXTENTS * sizeof *order);
    uint16_t *lengths = calloc(EXTENTS, sizeof *lengths);
    struct batch batch = {.count = 0};
    struct fs_extent *extent = calloc(1, sizeof *extent);
    struct engine_view *view;

    for (uint32_t i = 0; i < EXTENTS; i++) {
        uint32_t other = (uint32_t)seed_below(&random, i + 1);

        order[i] = order[other];
        order[other] = i;
    }
    for (uint32_t i = 0; i < EXTENTS; i++) {
        uint32_t cell = order[i];

        if (seed_below(&random, 3) == 0)
            continue;
        lengths[cell] = (uint16_t)(1 + seed_below(&random, 40));
        extent->start = (uint64_t)cell * STRIDE + cell % 300;
        extent->length = lengths[cell];
        extent->inlined = true;
        fs_extent_put(&batch, INO, extent);
        if (batch.count == 500 || i == EXTENTS - 1) {
            assert_int_equal(engine_write(fixture->engine, &batch, NULL), 0);
            batch_clear(&batch);
        }
    }
    if (batch.count > 0)
        assert_int_equal(engine_write(fixture->engine, &batch, NULL), 0);
    batch_free(&batch);

    view = engine_view_acquire(fixture->engine);
    for (unsigned i = 0; i < 3000; i++) {
        uint64_t offset = seed_below(&random, (uint64_t)EXTENTS * STRIDE);
        uint64_t cell = offset / STRIDE;
        struct fs_extent_cursor cursor;
        int found;

        while (cell < EXTENTS &&
               (lengths[cell] == 0 || cell * STRIDE + cell % 300 + lengths[cell] <= offset))
            cell++;
        assert_int_equal(fs_extent_cursor_open(view, INO, offset, &cursor), 0);
        found = fs_extent_cursor_next(&cursor, extent);
        assert_int_equal(found, cell < EXTENTS);
        if (found > 0) {
            assert_int_equal(extent->start, cell * STRIDE + cell % 300);
            assert_int_equal(extent->length, lengths[cell]);
        }
        fs_extent_cursor_close(&cursor);
    }
    engine_view_release(view);
    free(extent);
    free(order);
    free(lengths);
}

/* ---- hostile records ---- */

static int decode(const struct fs_key *key, enum record_kind kind, const void *value, size_t size)
{
    struct record record = {.kind = kind, .key = fs_key_slice(key), .value = slice_of(value, size)};
    struct fs_extent extent;

    return fs_extent_decode(&record, &extent);
}

static void records_that_are_no_extent_are_refused(void **state)
{
    uint8_t bytes[FS_INLINE_MAX + 1] = {0};
    struct fs_key key;

    (void)state;
    fs_key_extent(&key, INO, 99);
    assert_int_equal(decode(&key, RECORD_VALUE, bytes, 100), 0);
    assert_int_equal(decode(&key, RECORD_VALUE, bytes, 101), ERROR_CORRUPT); /* before offset 0 */
    assert_int_equal(decode(&key, RECORD_VALUE, bytes, 0), ERROR_CORRUPT);
    assert_int_equal(decode(&key, RECORD_REFERENCE, bytes, 100), ERROR_CORRUPT);
    key.size--;
    assert_int_equal(decode(&key, RECORD_VALUE, bytes, 1), ERROR_CORRUPT);
    fs_key_extent(&key, INO, 9999);
    assert_int_equal(decode(&key, RECORD_VALUE, bytes, FS_INLINE_MAX), 0);
    assert_int_equal(decode(&key, RECORD_VALUE, bytes, FS_INLINE_MAX + 1), ERROR_CORRUPT);
    fs_key_extent(&key, INO, UINT64_MAX);
    assert_int_equal(decode(&key, RECORD_VALUE, bytes, 1), ERROR_CORRUPT);
    fs_key_extent(&key, INO, FS_SIZE_MAX);
    assert_int_equal(decode(&key, RECORD_VALUE, bytes, 1), ERROR_CORRUPT);
    fs_key_extent(&key, INO, FS_SIZE_MAX - 1);
    assert_int_equal(decode(&key, RECORD_VALUE, bytes, 1), 0);
    fs_key_inode(&key, INO);
    assert_int_equal(decode(&key, RECORD_VALUE, bytes, 1), ERROR_CORRUPT);
}

static void a_damaged_record_stops_a_walk_with_an_error(void **state)
{
    struct fixture *fixture = *state;
    struct batch batch = {.count = 0};
    struct engine_view *view;
    struct fs_key key;
    uint64_t removed;

    fs_key_extent(&key, INO, 3);
    batch_put(&batch, fs_key_slice(&key), slice_of("too long", 8));
    assert_int_equal(engine_write(fixture->engine, &batch, NULL), 0);
    batch_clear(&batch);
    view = engine_view_acquire(fixture->engine);
    assert_int_equal(fs_extent_punch(view, INO, 0, 10, &batch, &removed), ERROR_CORRUPT);
    assert_int_equal(batch.count, 0);
    batch_free(&batch);
    engine_view_release(view);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(a_walk_starts_in_the_extent_that_holds_the_offset_or_in_the_next),
        CASE(a_punch_inside_an_extent_leaves_both_ends),
        CASE(a_punch_of_nothing_writes_nothing),
        CASE(many_extents_go_by_one_range_tombstone),
        CASE(few_extents_go_one_by_one),
        CASE(a_key_that_will_be_replaced_is_not_deleted),
        CASE(truncating_a_large_file_to_nothing_asks_its_inode),
        CASE(random_puts_punches_and_truncations_equal_an_oracle),
        CASE(r27_extent_of_an_offset_equals_an_oracle_at_many_sparse_extents),
        cmocka_unit_test(records_that_are_no_extent_are_refused),
        CASE(a_damaged_record_stops_a_walk_with_an_error),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
