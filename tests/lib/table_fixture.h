/* SPDX-License-Identifier: Apache-2.0 */
/*
 * table_fixture.h - a store's two directories, and random content for tables
 *
 * For tests with cmocka, which must be included before.
 */
#ifndef VARVE_TESTS_LIB_TABLE_FIXTURE_H
#define VARVE_TESTS_LIB_TABLE_FIXTURE_H

#include <stdlib.h>

#include "engine/base/endian.h"
#include "engine/blob_ref.h"
#include "engine/table.h"
#include "tests/lib/io_fixture.h"
#include "tests/lib/seed.h"

static const uint8_t uuid[STORE_UUID_SIZE] = "a store's uuid .";
static const uint8_t other_uuid[STORE_UUID_SIZE] = "another store's.";

/* ---- a store's two directories ---- */

struct fixture {
    struct io_fixture base;
    struct io_file *tmp, *chunks;
};

static inline int setup(void **state)
{
    struct fixture *fixture = calloc(1, sizeof *fixture);

    assert_non_null(fixture);
    assert_int_equal(io_fixture_open(&fixture->base, IO_BACKEND_SYNC), 0);
    assert_int_equal(io_mkdir(fixture->base.io, fixture->base.root, "tmp", 0700), 0);
    assert_int_equal(io_mkdir(fixture->base.io, fixture->base.root, "chunks", 0700), 0);
    assert_int_equal(
        io_open(fixture->base.io, fixture->base.root, "tmp", IO_OPEN_DIRECTORY, 0, &fixture->tmp),
        0);
    assert_int_equal(io_open(fixture->base.io, fixture->base.root, "chunks", IO_OPEN_DIRECTORY, 0,
                             &fixture->chunks),
                     0);
    *state = fixture;
    return 0;
}

static inline int teardown(void **state)
{
    struct fixture *fixture = *state;

    io_close(fixture->base.io, fixture->tmp);
    io_close(fixture->base.io, fixture->chunks);
    io_fixture_close(&fixture->base);
    free(fixture);
    return 0;
}

static inline struct table_writer_options writer_options(struct fixture *fixture, uint64_t id,
                                                         int level)
{
    return (struct table_writer_options){
        .io = fixture->base.io,
        .temporary_directory = fixture->tmp,
        .chunk_directory = fixture->chunks,
        .store_uuid = uuid,
        .id = id,
        .compression_level = level,
    };
}

static inline struct table_reader *
open_table(struct fixture *fixture, const struct table_meta *meta, struct block_cache *cache)
{
    struct table_reader *reader;

    assert_int_equal(
        table_reader_open(fixture->base.io, fixture->chunks, &meta->identity, uuid, cache, &reader),
        0);
    return reader;
}

static inline char *chunk_path(struct fixture *fixture, const struct chunk_identity *identity)
{
    char name[CHUNK_NAME_SIZE], relative[CHUNK_NAME_SIZE + 8];

    chunk_name(name, identity);
    snprintf(relative, sizeof relative, "chunks/%s", name);
    return test_path(fixture->base.path, relative);
}

static inline int count_name(void *context, const char *name)
{
    (void)name;
    ++*(int *)context;
    return 0;
}

static inline int count_names(struct fixture *fixture, struct io_file *directory)
{
    int count = 0;

    assert_int_equal(io_list(fixture->base.io, directory, count_name, &count), 0);
    return count;
}

/* ---- content ---- */

struct fragment {
    struct slice start, end;
    uint64_t sequence;
};

/* Sorted records and disjoint rising tombstones, their bytes in one heap. */
struct content {
    struct record *records;
    size_t record_count;
    struct fragment *fragments;
    size_t fragment_count;
    uint8_t *heap;
    size_t heap_used, heap_size;
};

static inline uint8_t *heap_take(struct content *content, size_t size)
{
    uint8_t *taken = content->heap + content->heap_used;

    assert_true(content->heap_used + size <= content->heap_size);
    content->heap_used += size;
    return taken;
}

/* Mostly like real keys (number, letter, name); some short and from few letters. */
static inline struct slice random_key(struct content *content, uint64_t *random)
{
    uint8_t *key = heap_take(content, 64);
    size_t size;

    if (seed_below(random, 4) == 0) {
        size = 1 + seed_below(random, 6);
        for (size_t i = 0; i < size; i++)
            key[i] = (uint8_t)seed_below(random, 2);
        return slice_of(key, size);
    }
    put_be64(key, seed_below(random, 200));
    size = 9 + seed_below(random, 20);
    key[8] = (uint8_t)seed_below(random, 4);
    for (size_t i = 9; i < size; i++)
        key[i] = (uint8_t)('a' + seed_below(random, 4));
    return slice_of(key, size);
}

static inline struct slice random_value(struct content *content, uint64_t *random,
                                        enum record_kind kind, size_t size_max)
{
    size_t size = seed_below(random, size_max + 1);
    uint8_t *value;

    if (kind == RECORD_DELETE)
        return slice_of(NULL, 0);
    if (kind == RECORD_REFERENCE) {
        struct blob_ref ref = {
            .chunk_id = 1 + seed_below(random, 9),
            .position = 4096 + seed_below(random, 1 << 20),
            .stored_size = 1000,
            .raw_size = 5000,
            .skip = (uint32_t)seed_below(random, 100),
            .length = 1 + (uint32_t)seed_below(random, 4000),
            .codec = CODEC_ZSTD,
            .frame_checksum = seed_next(random),
        };

        value = heap_take(content, BLOB_REF_SIZE_MAX);
        return slice_of(value, blob_ref_encode(&ref, value));
    }
    value = heap_take(content, size);
    for (size_t i = 0; i < size; i++)
        value[i] = (uint8_t)(seed_below(random, 10) ? i : seed_next(random));
    return slice_of(value, size);
}

static inline int compare_slices(const void *a, const void *b)
{
    return slice_compare(*(const struct slice *)a, *(const struct slice *)b);
}

static inline int compare_records(const void *a, const void *b)
{
    return slice_compare(((const struct record *)a)->key, ((const struct record *)b)->key);
}

static inline void make_fragments(struct content *content, uint64_t *random, size_t wanted)
{
    struct slice *bounds = calloc(2 * wanted + 2, sizeof *bounds);
    size_t kept = 0;

    for (size_t i = 0; i < 2 * wanted; i++)
        bounds[i] = random_key(content, random);
    qsort(bounds, 2 * wanted, sizeof *bounds, compare_slices);
    for (size_t i = 0; i < 2 * wanted; i++)
        if (kept == 0 || !slice_equal(bounds[kept - 1], bounds[i]))
            bounds[kept++] = bounds[i];
    content->fragments = calloc(wanted + 1, sizeof *content->fragments);
    for (size_t i = 0; i + 1 < kept; i += 1 + seed_below(random, 2)) { /* some touch */
        if (content->fragment_count == wanted)
            break;
        content->fragments[content->fragment_count++] =
            (struct fragment){bounds[i], bounds[i + 1], 1 + seed_below(random, 1 << 20)};
    }
    free(bounds);
}

static inline struct content *content_make(uint64_t *random, size_t records, size_t fragments,
                                           size_t value_max)
{
    struct content *content = calloc(1, sizeof *content);
    size_t kept = 0;

    content->heap_size = records * (64 + value_max + BLOB_REF_SIZE_MAX) + fragments * 128 + 64;
    content->heap = malloc(content->heap_size);
    content->records = calloc(records + 1, sizeof *content->records);
    for (size_t i = 0; i < records; i++) {
        enum record_kind kind = (enum record_kind)(RECORD_VALUE + seed_below(random, 3));

        content->records[i] = (struct record){kind, 1 + seed_below(random, (uint64_t)1 << 40),
                                              random_key(content, random),
                                              random_value(content, random, kind, value_max)};
    }
    qsort(content->records, records, sizeof *content->records, compare_records);
    for (size_t i = 0; i < records; i++)
        if (kept == 0 || !slice_equal(content->records[kept - 1].key, content->records[i].key))
            content->records[kept++] = content->records[i];
    content->record_count = kept;
    make_fragments(content, random, fragments);
    return content;
}

static inline void content_free(struct content *content)
{
    free(content->records);
    free(content->fragments);
    free(content->heap);
    free(content);
}

static inline int try_write(const struct table_writer_options *options,
                            const struct content *content, struct table_meta *ret_meta)
{
    struct table_writer *writer;
    size_t record = 0, fragment = 0;
    int error = table_writer_new(options, &writer);

    if (error < 0)
        return error;
    while (error == 0 && (record < content->record_count || fragment < content->fragment_count)) {
        if (fragment < content->fragment_count &&
            (record == content->record_count || (record + fragment) % 3 == 0)) {
            const struct fragment *from = &content->fragments[fragment++];

            error = table_writer_add_tombstone(writer, from->start, from->end, from->sequence);
        } else {
            error = table_writer_add(writer, &content->records[record++]);
        }
    }
    if (error == 0)
        error = table_writer_finish(writer, ret_meta);
    table_writer_free(writer);
    return error;
}

static inline struct table_meta write_table(struct fixture *fixture, const struct content *content,
                                            uint64_t id, int level)
{
    struct table_writer_options options = writer_options(fixture, id, level);
    struct table_meta meta;

    assert_int_equal(try_write(&options, content, &meta), 0);
    return meta;
}

/* The sequence number of the tombstone that covers `key`, or 0. */
static inline uint64_t covering(const struct content *content, struct slice key)
{
    for (size_t i = 0; i < content->fragment_count; i++)
        if (slice_compare(content->fragments[i].start, key) <= 0 &&
            slice_compare(key, content->fragments[i].end) < 0)
            return content->fragments[i].sequence;
    return 0;
}

static inline bool same_record(const struct record *a, const struct record *b)
{
    return a->kind == b->kind && a->sequence == b->sequence && slice_equal(a->key, b->key) &&
           slice_equal(a->value, b->value);
}

#endif
