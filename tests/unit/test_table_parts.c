/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_table_parts.c - blocks, index, filter, sections and meta of a table, each by itself
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "engine/base/error.h"
#include "engine/table_block.h"
#include "engine/table_filter.h"
#include "engine/table_index.h"
#include "engine/table_meta.h"
#include "engine/table_section.h"
#include "tests/lib/child.h"
#include "tests/lib/seed.h"

/* ---- random sorted records ---- */

#define RECORDS_MAX 3000

struct records {
    struct record items[RECORDS_MAX];
    size_t count;
};

static uint8_t *random_bytes(uint64_t *random, size_t size, uint64_t alphabet)
{
    uint8_t *bytes = malloc(size + 1);

    assert_non_null(bytes);
    for (size_t i = 0; i < size; i++)
        bytes[i] = (uint8_t)seed_below(random, alphabet);
    return bytes;
}

/* Few letters, so that prefixes are shared, keys are prefixes of keys, and zero bytes occur. */
static struct slice random_key(uint64_t *random)
{
    size_t size = 1 + seed_below(random, seed_below(random, 50) == 0 ? RECORD_KEY_SIZE_MAX : 12);

    return slice_of(random_bytes(random, size, 3), size);
}

static int compare_records(const void *a, const void *b)
{
    const struct record *left = a, *right = b;

    return slice_compare(left->key, right->key);
}

static void free_slice(struct slice slice)
{
    free((void *)(uintptr_t)slice.data);
}

static struct records *records_make(uint64_t *random, size_t wanted)
{
    struct records *records = calloc(1, sizeof *records);
    size_t kept = 0;

    assert_non_null(records);
    for (size_t i = 0; i < wanted; i++) {
        size_t size = seed_below(random, 40);

        records->items[i] = (struct record){
            .kind = (enum record_kind)(RECORD_VALUE + seed_below(random, 3)),
            .sequence = seed_next(random) >> seed_below(random, 64),
            .key = random_key(random),
            .value = slice_of(random_bytes(random, size, 256), size),
        };
    }
    qsort(records->items, wanted, sizeof records->items[0], compare_records);
    for (size_t i = 0; i < wanted; i++) {
        if (kept > 0 && slice_equal(records->items[kept - 1].key, records->items[i].key)) {
            free_slice(records->items[i].key);
            free_slice(records->items[i].value);
        } else {
            records->items[kept++] = records->items[i];
        }
    }
    records->count = kept;
    return records;
}

static void records_free(struct records *records)
{
    for (size_t i = 0; i < records->count; i++) {
        free_slice(records->items[i].key);
        free_slice(records->items[i].value);
    }
    free(records);
}

static void assert_same_record(const struct record *a, const struct record *b)
{
    assert_int_equal(a->kind, b->kind);
    assert_int_equal(a->sequence, b->sequence);
    assert_true(slice_equal(a->key, b->key));
    assert_true(slice_equal(a->value, b->value));
}

/* Index of the first record with a key >= `key`. */
static size_t lower_bound(const struct records *records, struct slice key)
{
    size_t i = 0;

    while (i < records->count && slice_compare(records->items[i].key, key) < 0)
        i++;
    return i;
}

/* ---- blocks ---- */

static struct slice build_block(struct table_block_builder *builder, const struct records *records)
{
    struct slice raw;

    for (size_t i = 0; i < records->count; i++)
        assert_int_equal(table_block_builder_add(builder, &records->items[i]), 0);
    assert_int_equal(table_block_builder_finish(builder, &raw), 0);
    return raw;
}

static void a_block_finds_what_was_added_and_nothing_else(void **state)
{
    uint64_t random = seed_start("a_block_finds_what_was_added_and_nothing_else");

    (void)state;
    for (int round = 0; round < 60; round++) {
        struct records *records = records_make(&random, 1 + seed_below(&random, 150));
        struct table_block_builder builder = {0};
        struct table_block_view view;
        struct table_block_cursor cursor;
        struct record found;

        assert_int_equal(table_block_open(build_block(&builder, records), &view), 0);
        table_block_cursor_init(&cursor, &view);
        for (size_t i = 0; i < records->count; i++) {
            assert_int_equal(table_block_find(&view, records->items[i].key, &found), 1);
            assert_same_record(&found, &records->items[i]);
            assert_int_equal(table_block_cursor_next(&cursor), 1);
            assert_same_record(&cursor.record, &records->items[i]);
        }
        assert_int_equal(table_block_cursor_next(&cursor), 0);
        for (int probe = 0; probe < 200; probe++) {
            struct slice key = random_key(&random);
            size_t at = lower_bound(records, key);
            bool here = at < records->count && slice_equal(records->items[at].key, key);

            assert_int_equal(table_block_find(&view, key, &found), here);
            assert_int_equal(table_block_cursor_seek(&cursor, key), at < records->count);
            if (at < records->count)
                assert_same_record(&cursor.record, &records->items[at]);
            free_slice(key);
        }
        table_block_builder_free(&builder);
        records_free(records);
    }
}

static void walk_block(struct slice raw, struct slice key)
{
    struct table_block_view view;
    struct table_block_cursor cursor;
    struct record found;
    int result;

    if (table_block_open(raw, &view) < 0)
        return;
    if (table_block_find(&view, key, &found) == 1 && found.value.size > 0)
        assert_true(found.value.data >= raw.data &&
                    found.value.data + found.value.size <= raw.data + raw.size);
    table_block_cursor_init(&cursor, &view);
    do {
        result = table_block_cursor_next(&cursor);
        if (result == 1)
            assert_true(cursor.record.key.size <= RECORD_KEY_SIZE_MAX);
    } while (result == 1);
    (void)table_block_cursor_seek(&cursor, key);
}

static void a_damaged_block_is_never_read_outside_its_bytes(void **state)
{
    uint64_t random = seed_start("a_damaged_block_is_never_read_outside_its_bytes");

    (void)state;
    for (int round = 0; round < 200; round++) {
        struct records *records = records_make(&random, 1 + seed_below(&random, 60));
        struct table_block_builder builder = {0};
        struct slice raw = build_block(&builder, records);

        for (int damage = 0; damage < 20; damage++) {
            size_t size = seed_below(&random, 4) == 0 ? seed_below(&random, raw.size) : raw.size;
            uint8_t *copy = malloc(size + (size == 0)); /* exact, for the sanitizer */

            memcpy(copy, raw.data, size);
            for (uint64_t n = seed_below(&random, 5); size > 0 && n > 0; n--)
                copy[seed_below(&random, size)] = (uint8_t)seed_next(&random);
            walk_block(slice_of(copy, size), records->items[records->count / 2].key);
            free(copy);
        }
        table_block_builder_free(&builder);
        records_free(records);
    }
}

static void add_falling_keys(void *context)
{
    struct table_block_builder builder = {0};
    struct record record = {RECORD_VALUE, 1, slice_of_string("b"), slice_of_string("")};

    (void)context;
    (void)table_block_builder_add(&builder, &record);
    record.key = slice_of_string("a");
    (void)table_block_builder_add(&builder, &record);
}

static void add_a_key_twice(void *context)
{
    struct table_block_builder builder = {0};
    struct record record = {RECORD_VALUE, 1, slice_of_string("b"), slice_of_string("")};

    (void)context;
    (void)table_block_builder_add(&builder, &record);
    (void)table_block_builder_add(&builder, &record);
}

static void keys_that_do_not_rise_are_a_broken_invariant(void **state)
{
    char output[4096];

    (void)state;
    assert_true(WIFSIGNALED(child_run(add_falling_keys, NULL, output, sizeof output)));
    assert_true(WIFSIGNALED(child_run(add_a_key_twice, NULL, output, sizeof output)));
}

/* ---- sections ---- */

static void a_section_comes_back_at_its_place_only(void **state)
{
    uint64_t random = seed_start("a_section_comes_back_at_its_place_only");

    (void)state;
    for (int round = 0; round < 100; round++) {
        size_t size = seed_below(&random, 5000);
        uint8_t *raw = random_bytes(&random, size, round % 2 ? 256 : 2);
        uint8_t *back = malloc(size + 1);
        uint64_t salt = seed_next(&random), position = seed_below(&random, 1u << 30);
        struct buffer stored = {0};
        struct slice bytes;

        assert_int_equal(table_section_encode(slice_of(raw, size), TABLE_SECTION_DATA, salt,
                                              position, round % 3, &stored),
                         0);
        bytes = buffer_slice(&stored);
        assert_int_equal(
            table_section_decode(bytes, TABLE_SECTION_DATA, salt, position, size, back), 0);
        assert_true(size == 0 || memcmp(raw, back, size) == 0);
        if (round % 3 > 0 && round % 2 == 0 && size > 1000)
            assert_true(stored.size < size / 2); /* two letters compress */

        /* moved, of another kind, of another chunk, cut short, of another size */
        assert_int_equal(
            table_section_decode(bytes, TABLE_SECTION_DATA, salt, position + 1, size, back),
            ERROR_CORRUPT);
        assert_int_equal(
            table_section_decode(bytes, TABLE_SECTION_INDEX, salt, position, size, back),
            ERROR_CORRUPT);
        assert_int_equal(
            table_section_decode(bytes, TABLE_SECTION_DATA, salt ^ 1, position, size, back),
            ERROR_CORRUPT);
        if (size > 0)
            assert_int_equal(
                table_section_decode(bytes, TABLE_SECTION_DATA, salt, position, size - 1, back),
                ERROR_CORRUPT);
        for (size_t cut = 0; cut < bytes.size; cut += 1 + bytes.size / 20)
            assert_int_equal(table_section_decode(slice_of(bytes.data, cut), TABLE_SECTION_DATA,
                                                  salt, position, size, back),
                             ERROR_CORRUPT);
        buffer_free(&stored);
        free(raw);
        free(back);
    }
}

static void a_section_with_any_bit_flipped_is_corrupt(void **state)
{
    uint64_t random = seed_start("a_section_with_any_bit_flipped_is_corrupt");
    uint8_t *raw = random_bytes(&random, 700, 4);
    uint8_t back[700];

    (void)state;
    for (int level = 0; level < 2; level++) {
        struct buffer stored = {0};

        assert_int_equal(
            table_section_encode(slice_of(raw, 700), TABLE_SECTION_DATA, 1, 2, level, &stored), 0);
        for (size_t bit = 0; bit < stored.size * 8; bit++) {
            stored.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
            assert_int_equal(
                table_section_decode(buffer_slice(&stored), TABLE_SECTION_DATA, 1, 2, 700, back),
                ERROR_CORRUPT);
            stored.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
        }
        buffer_free(&stored);
    }
    free(raw);
}

/* ---- index ---- */

/* Cut the records into blocks of 1..5 and index those. */
static size_t build_index(struct table_index_builder *builder, const struct records *records,
                          uint64_t *random, size_t *block_of, uint64_t *ret_end)
{
    size_t blocks = 0;
    uint64_t position = CHUNK_HEADER_SIZE;

    for (size_t i = 0; i < records->count;) {
        size_t size = 1 + seed_below(random, 5);
        struct slice before = i > 0 ? records->items[i - 1].key : slice_of(NULL, 0);
        size_t stored = seed_below(random, 9000);

        assert_int_equal(table_index_builder_add(builder, before, records->items[i].key, stored,
                                                 1 + seed_below(random, 9000)),
                         0);
        position += stored + TABLE_SECTION_TRAILER_SIZE;
        for (; size > 0 && i < records->count; size--)
            block_of[i++] = blocks;
        blocks++;
    }
    *ret_end = position;
    return blocks;
}

static void the_index_leads_to_the_block_of_every_key(void **state)
{
    uint64_t random = seed_start("the_index_leads_to_the_block_of_every_key");

    (void)state;
    for (int round = 0; round < 60; round++) {
        struct records *records = records_make(&random, 1 + seed_below(&random, 800));
        size_t *block_of = calloc(records->count, sizeof *block_of);
        struct table_index_builder builder = {0};
        struct table_index index;
        struct slice raw;
        uint64_t end;
        size_t blocks = build_index(&builder, records, &random, block_of, &end);

        assert_int_equal(table_index_builder_finish(&builder, &raw), 0);
        assert_int_equal(table_index_parse(raw, CHUNK_HEADER_SIZE, end + 1, &index), ERROR_CORRUPT);
        assert_int_equal(table_index_parse(raw, CHUNK_HEADER_SIZE, end, &index), 0);
        assert_int_equal(index.count, blocks);
        for (size_t i = 0; i < records->count; i++)
            assert_int_equal(table_index_find(&index, records->items[i].key), block_of[i]);
        for (int probe = 0; probe < 200; probe++) { /* a gap belongs to one of its neighbours */
            struct slice key = random_key(&random);
            size_t at = lower_bound(records, key), block = table_index_find(&index, key);

            if (at < records->count)
                assert_true(block <= block_of[at]);
            if (at > 0)
                assert_true(block >= block_of[at - 1]);
            free_slice(key);
        }
        table_index_free(&index);
        table_index_builder_free(&builder);
        free(block_of);
        records_free(records);
    }
}

static void a_damaged_index_is_refused_or_still_consistent(void **state)
{
    uint64_t random = seed_start("a_damaged_index_is_refused_or_still_consistent");

    (void)state;
    for (int round = 0; round < 100; round++) {
        struct records *records = records_make(&random, 1 + seed_below(&random, 60));
        size_t *block_of = calloc(records->count, sizeof *block_of);
        struct table_index_builder builder = {0};
        struct slice raw;
        uint64_t end;

        build_index(&builder, records, &random, block_of, &end);
        assert_int_equal(table_index_builder_finish(&builder, &raw), 0);
        for (int damage = 0; damage < 50; damage++) {
            size_t size = seed_below(&random, 4) == 0 ? seed_below(&random, raw.size) : raw.size;
            uint8_t *copy = malloc(size + (size == 0));
            struct table_index index;

            memcpy(copy, raw.data, size);
            if (size > 0)
                copy[seed_below(&random, size)] = (uint8_t)seed_next(&random);
            if (table_index_parse(slice_of(copy, size), CHUNK_HEADER_SIZE, end, &index) == 0) {
                for (size_t i = 0; index.count > 0 && i < records->count; i++)
                    assert_true(table_index_find(&index, records->items[i].key) < index.count);
                assert_int_equal(index.positions[index.count], end);
                table_index_free(&index);
            }
            free(copy);
        }
        table_index_builder_free(&builder);
        free(block_of);
        records_free(records);
    }
}

static void an_index_without_blocks_is_legal(void **state)
{
    struct table_index_builder builder = {0};
    struct table_index index;
    struct slice raw;

    (void)state;
    assert_int_equal(table_index_builder_finish(&builder, &raw), 0);
    assert_int_equal(table_index_parse(raw, CHUNK_HEADER_SIZE, CHUNK_HEADER_SIZE, &index), 0);
    assert_int_equal(index.count, 0);
    table_index_free(&index);
    table_index_builder_free(&builder);
}

/* ---- filter ---- */

static void the_filter_never_denies_and_rarely_errs(void **state)
{
    static const size_t counts[] = {1, 2, 50, 1000, 100000};
    uint64_t random = seed_start("the_filter_never_denies_and_rarely_errs");

    (void)state;
    for (size_t round = 0; round < sizeof counts / sizeof counts[0]; round++) {
        size_t count = counts[round], wrong = 0;
        uint64_t *hashes = malloc(count * sizeof *hashes);
        uint8_t *bytes = malloc(table_filter_size(count));
        struct slice filter = slice_of(bytes, table_filter_size(count));

        for (size_t i = 0; i < count; i++) {
            uint64_t key = seed_next(&random);

            hashes[i] = table_filter_hash(slice_of(&key, sizeof key));
        }
        table_filter_build(hashes, count, bytes);
        for (size_t i = 0; i < count; i++)
            assert_true(table_filter_may_contain(filter, hashes[i]));
        for (int i = 0; i < 100000; i++) {
            uint64_t key = seed_next(&random);

            wrong += table_filter_may_contain(filter, table_filter_hash(slice_of(&key, 8)));
        }
        assert_true(wrong < 2000); /* 2 % */
        assert_true(filter.size <= count * 10 / 8 + TABLE_FILTER_LINE_SIZE);
        free(hashes);
        free(bytes);
    }
    assert_int_equal(table_filter_size(0), 0);
    assert_false(table_filter_may_contain(slice_of(NULL, 0), 1));
}

/* ---- meta ---- */

static struct table_meta random_meta(uint64_t *random)
{
    struct table_meta meta = {
        .identity = {seed_next(random),
                     CHUNK_TABLE,
                     seed_next(random),
                     {seed_next(random), seed_next(random)}},
        .records = 1 + (seed_next(random) >> 8),
        .tombstones = seed_next(random),
        .smallest_sequence = seed_next(random) >> 1,
    };
    struct slice one = random_key(random), two = random_key(random);
    bool swap = slice_compare(one, two) > 0;
    uint64_t id = 0;

    meta.deletes = seed_below(random, meta.records + 1);
    meta.largest_sequence = meta.smallest_sequence + (seed_next(random) >> 1);
    assert_int_equal(buffer_assign(swap ? &meta.largest : &meta.smallest, one.data, one.size), 0);
    assert_int_equal(buffer_assign(swap ? &meta.smallest : &meta.largest, two.data, two.size), 0);
    free_slice(one);
    free_slice(two);
    meta.use_count = seed_below(random, 20);
    if (meta.use_count > 0)
        meta.uses = calloc(meta.use_count, sizeof *meta.uses);
    for (size_t i = 0; i < meta.use_count; i++) {
        id += 1 + (seed_next(random) >> (8 + seed_below(random, 56)));
        meta.uses[i] = (struct table_blob_use){id, seed_next(random), seed_next(random)};
    }
    return meta;
}

static void assert_same_meta(const struct table_meta *a, const struct table_meta *b)
{
    assert_int_equal(a->identity.id, b->identity.id);
    assert_int_equal(a->identity.kind, b->identity.kind);
    assert_int_equal(a->identity.file_size_bytes, b->identity.file_size_bytes);
    assert_int_equal(a->identity.hash.low, b->identity.hash.low);
    assert_int_equal(a->identity.hash.high, b->identity.hash.high);
    assert_int_equal(a->records, b->records);
    assert_int_equal(a->deletes, b->deletes);
    assert_int_equal(a->tombstones, b->tombstones);
    assert_int_equal(a->smallest_sequence, b->smallest_sequence);
    assert_int_equal(a->largest_sequence, b->largest_sequence);
    assert_true(slice_equal(buffer_slice(&a->smallest), buffer_slice(&b->smallest)));
    assert_true(slice_equal(buffer_slice(&a->largest), buffer_slice(&b->largest)));
    assert_int_equal(a->use_count, b->use_count);
    for (size_t i = 0; i < a->use_count; i++) {
        assert_int_equal(a->uses[i].chunk_id, b->uses[i].chunk_id);
        assert_int_equal(a->uses[i].references, b->uses[i].references);
        assert_int_equal(a->uses[i].bytes, b->uses[i].bytes);
    }
}

static void a_meta_comes_back_from_copy_and_encoding(void **state)
{
    uint64_t random = seed_start("a_meta_comes_back_from_copy_and_encoding");

    (void)state;
    for (int round = 0; round < 300; round++) {
        struct table_meta meta = random_meta(&random), copy, decoded;
        struct buffer encoded = {0};
        struct slice rest;

        assert_int_equal(table_meta_copy(&meta, &copy), 0);
        assert_same_meta(&meta, &copy);
        assert_int_equal(buffer_append(&encoded, "before", 6), 0);
        assert_int_equal(table_meta_encode(&meta, &encoded), 0);
        assert_int_equal(buffer_append(&encoded, "behind", 6), 0);
        rest = slice_of(encoded.data + 6, encoded.size - 6);
        assert_int_equal(table_meta_decode(&rest, &decoded), 0);
        assert_same_meta(&meta, &decoded);
        assert_true(slice_equal(rest, slice_of_string("behind")));
        table_meta_free(&meta);
        table_meta_free(&copy);
        table_meta_free(&decoded);
        buffer_free(&encoded);
    }
}

static void a_meta_cut_anywhere_is_corrupt_and_touches_nothing(void **state)
{
    uint64_t random = seed_start("a_meta_cut_anywhere_is_corrupt_and_touches_nothing");

    (void)state;
    for (int round = 0; round < 20; round++) {
        struct table_meta meta = random_meta(&random), decoded = {0}, zero = {0};
        struct buffer encoded = {0};

        assert_int_equal(table_meta_encode(&meta, &encoded), 0);
        for (size_t size = 0; size < encoded.size; size++) {
            uint8_t *exact = malloc(size + (size == 0));
            struct slice rest = slice_of(exact, size);

            memcpy(exact, encoded.data, size);
            assert_int_equal(table_meta_decode(&rest, &decoded), ERROR_CORRUPT);
            assert_ptr_equal(rest.data, exact);
            assert_int_equal(rest.size, size);
            assert_memory_equal(&decoded, &zero, sizeof zero);
            free(exact);
        }
        table_meta_free(&meta);
        buffer_free(&encoded);
    }
}

static void a_hostile_meta_is_refused_or_consistent(void **state)
{
    uint64_t random = seed_start("a_hostile_meta_is_refused_or_consistent");
    size_t accepted = 0, refused = 0;

    (void)state;
    for (int round = 0; round < 3000; round++) {
        struct table_meta meta = random_meta(&random), decoded;
        struct buffer encoded = {0};
        struct slice rest;

        assert_int_equal(table_meta_encode(&meta, &encoded), 0);
        for (uint64_t n = 1 + seed_below(&random, 4); n > 0; n--)
            encoded.data[seed_below(&random, encoded.size)] = (uint8_t)seed_next(&random);
        rest = buffer_slice(&encoded);
        if (table_meta_decode(&rest, &decoded) == 0) {
            accepted++;
            assert_int_equal(decoded.identity.kind, CHUNK_TABLE);
            assert_true(decoded.deletes <= decoded.records);
            assert_true(decoded.smallest_sequence <= decoded.largest_sequence);
            assert_true(slice_compare(buffer_slice(&decoded.smallest),
                                      buffer_slice(&decoded.largest)) <= 0);
            for (size_t i = 1; i < decoded.use_count; i++)
                assert_true(decoded.uses[i - 1].chunk_id < decoded.uses[i].chunk_id);
            table_meta_free(&decoded);
        } else {
            refused++;
        }
        table_meta_free(&meta);
        buffer_free(&encoded);
    }
    assert_true(accepted > 0 && refused > 0);
}

/* A number of uses that the bytes cannot hold must not make the decoder ask for memory. */
static void a_hostile_count_of_uses_is_refused(void **state)
{
    struct table_meta meta = {.identity = {.kind = CHUNK_TABLE}}, decoded;
    struct buffer encoded = {0};
    struct slice rest;

    (void)state;
    assert_int_equal(table_meta_encode(&meta, &encoded), 0);
    put_le32(encoded.data + encoded.size - 4, UINT32_MAX);
    rest = buffer_slice(&encoded);
    assert_int_equal(table_meta_decode(&rest, &decoded), ERROR_CORRUPT);
    buffer_free(&encoded);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_block_finds_what_was_added_and_nothing_else),
        cmocka_unit_test(a_damaged_block_is_never_read_outside_its_bytes),
        cmocka_unit_test(keys_that_do_not_rise_are_a_broken_invariant),
        cmocka_unit_test(a_section_comes_back_at_its_place_only),
        cmocka_unit_test(a_section_with_any_bit_flipped_is_corrupt),
        cmocka_unit_test(the_index_leads_to_the_block_of_every_key),
        cmocka_unit_test(a_damaged_index_is_refused_or_still_consistent),
        cmocka_unit_test(an_index_without_blocks_is_legal),
        cmocka_unit_test(the_filter_never_denies_and_rarely_errs),
        cmocka_unit_test(a_meta_comes_back_from_copy_and_encoding),
        cmocka_unit_test(a_meta_cut_anywhere_is_corrupt_and_touches_nothing),
        cmocka_unit_test(a_hostile_meta_is_refused_or_consistent),
        cmocka_unit_test(a_hostile_count_of_uses_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
