/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_table.c - whole table files: written, read back, damaged
 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/base/endian.h"
#include "engine/base/error.h"
#include "engine/blob_ref.h"
#include "engine/table.h"
#include "tests/lib/child.h"
#include "tests/lib/seed.h"
#include "tests/lib/table_fixture.h"

/* ---- the oracle ---- */

static size_t lower_bound(const struct content *content, struct slice key)
{
    size_t low = 0, high = content->record_count;

    while (low < high) {
        size_t middle = (low + high) / 2;

        if (slice_compare(content->records[middle].key, key) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static void check_gets(struct table_reader *reader, struct content *content, uint64_t *random)
{
    struct buffer value = {0};
    struct record record;

    for (size_t i = 0; i < content->record_count; i++) {
        assert_int_equal(table_reader_get(reader, content->records[i].key, &value, &record), 1);
        assert_true(same_record(&record, &content->records[i]));
    }
    for (int probe = 0; probe < 300; probe++) {
        size_t heap = content->heap_used;
        struct slice key = slice_of(NULL, 0);
        size_t at;

        content->heap_used = content->heap_used > 64 ? content->heap_size - 64 : heap;
        key = random_key(content, random);
        content->heap_used = heap;
        at = lower_bound(content, key);
        assert_int_equal(table_reader_get(reader, key, &value, &record),
                         at < content->record_count && slice_equal(content->records[at].key, key));
        assert_int_equal(table_reader_tombstone(reader, key), covering(content, key));
    }
    buffer_free(&value);
}

static void check_walks(struct table_reader *reader, const struct content *content,
                        uint64_t *random)
{
    struct table_iterator *iterator = table_iterator_new(reader);

    for (int walk = 0; walk < 40; walk++) {
        size_t at =
            walk < 2 || content->record_count == 0 ? 0 : seed_below(random, content->record_count);
        size_t limit = walk < 2 ? SIZE_MAX : seed_below(random, 400);
        struct slice key = content->record_count ? content->records[at].key : slice_of("k", 1);
        int result;

        table_iterator_set_fill_cache(iterator, walk % 2 == 0);
        for (result = table_iterator_seek(iterator, key); result == 1 && limit > 0; limit--) {
            assert_true(at < content->record_count);
            assert_true(same_record(table_iterator_record(iterator), &content->records[at]));
            at++;
            result = table_iterator_next(iterator);
        }
        if (result == 0) {
            assert_int_equal(at, content->record_count);
            assert_int_equal(table_iterator_next(iterator), 0); /* stays at the end */
        }
    }
    table_iterator_free(iterator);
}

static void check_seeks(struct table_reader *reader, const struct content *content)
{
    struct table_iterator *iterator = table_iterator_new(reader);
    uint8_t key[RECORD_KEY_SIZE_MAX + 1];

    for (size_t i = 0; i < content->record_count; i++) {
        size_t size = content->records[i].key.size;

        memcpy(key, content->records[i].key.data, size);
        key[size] = 0; /* the key that follows at once */
        assert_int_equal(table_iterator_seek(iterator, slice_of(key, size + 1)),
                         i + 1 < content->record_count);
        if (i + 1 < content->record_count)
            assert_true(same_record(table_iterator_record(iterator), &content->records[i + 1]));
    }
    table_iterator_free(iterator);
}

static void check_tombstones(struct table_reader *reader, const struct content *content)
{
    struct slice start, end;
    uint64_t sequence;

    for (size_t i = 0; i < content->fragment_count; i++) {
        assert_true(table_reader_tombstone_at(reader, i, &start, &end, &sequence));
        assert_true(slice_equal(start, content->fragments[i].start));
        assert_true(slice_equal(end, content->fragments[i].end));
        assert_int_equal(sequence, content->fragments[i].sequence);
        assert_int_equal(table_reader_tombstone(reader, start), sequence);
    }
    assert_false(
        table_reader_tombstone_at(reader, content->fragment_count, &start, &end, &sequence));
}

static void check_meta(const struct table_meta *meta, const struct content *content)
{
    uint64_t deletes = 0, smallest_sequence = UINT64_MAX, largest_sequence = 0;
    uint64_t references[10] = {0}, bytes[10] = {0};
    struct slice smallest = slice_of(NULL, 0), largest = slice_of(NULL, 0);
    size_t uses = 0;

    for (size_t i = 0; i < content->record_count; i++) {
        const struct record *record = &content->records[i];
        struct blob_ref ref;

        deletes += record->kind == RECORD_DELETE;
        if (record->sequence < smallest_sequence)
            smallest_sequence = record->sequence;
        if (record->sequence > largest_sequence)
            largest_sequence = record->sequence;
        if (record->kind == RECORD_REFERENCE) {
            assert_int_equal(blob_ref_decode(record->value, &ref), 0);
            references[ref.chunk_id]++;
            bytes[ref.chunk_id] += blob_ref_share(&ref);
        }
    }
    if (content->record_count > 0) {
        smallest = content->records[0].key;
        largest = content->records[content->record_count - 1].key;
    }
    for (size_t i = 0; i < content->fragment_count; i++) {
        const struct fragment *fragment = &content->fragments[i];

        if (fragment->sequence < smallest_sequence)
            smallest_sequence = fragment->sequence;
        if (fragment->sequence > largest_sequence)
            largest_sequence = fragment->sequence;
        if (!smallest.data || slice_compare(fragment->start, smallest) < 0)
            smallest = fragment->start;
        if (slice_compare(fragment->end, largest) > 0)
            largest = fragment->end;
    }
    assert_int_equal(meta->records, content->record_count);
    assert_int_equal(meta->deletes, deletes);
    assert_int_equal(meta->tombstones, content->fragment_count);
    assert_int_equal(meta->smallest_sequence, smallest_sequence);
    assert_int_equal(meta->largest_sequence, largest_sequence);
    assert_true(slice_equal(buffer_slice(&meta->smallest), smallest));
    assert_true(slice_equal(buffer_slice(&meta->largest), largest));
    for (uint64_t id = 0; id < 10; id++) {
        if (references[id] == 0)
            continue;
        assert_true(uses < meta->use_count);
        assert_int_equal(meta->uses[uses].chunk_id, id);
        assert_int_equal(meta->uses[uses].references, references[id]);
        assert_int_equal(meta->uses[uses].bytes, bytes[id]);
        uses++;
    }
    assert_int_equal(meta->use_count, uses);
}

/* ---- tests: what is written is read ---- */

static void a_table_gives_back_what_was_written(void **state)
{
    uint64_t random = seed_start("a_table_gives_back_what_was_written");
    struct block_cache *cache = block_cache_new(1 << 20); /* small: blocks come and go */

    for (uint64_t round = 0; round < 40; round++) {
        size_t records = seed_below(&random, seed_below(&random, 4) ? 300 : 8000);
        size_t fragments = seed_below(&random, 60) + (records == 0);
        struct content *content =
            content_make(&random, records, fragments, round % 10 == 9 ? 6000 : 60);
        struct table_meta meta = write_table(*state, content, round + 1, (int)(round % 3));
        struct table_reader *reader = open_table(*state, &meta, round % 4 ? cache : NULL);

        check_meta(&meta, content);
        check_meta(table_reader_meta(reader), content);
        check_gets(reader, content, &random);
        check_walks(reader, content, &random);
        check_seeks(reader, content);
        check_tombstones(reader, content);
        assert_int_equal(table_reader_verify(reader), 0);
        assert_true(table_reader_memory_bytes(reader) > 0);
        table_reader_unref(reader);
        table_meta_free(&meta);
        content_free(content);
    }
    block_cache_free(cache);
}

static void values_and_keys_of_the_largest_size_are_kept(void **state)
{
    uint8_t *value = malloc(RECORD_VALUE_SIZE_MAX), key[RECORD_KEY_SIZE_MAX];
    struct record records[3];
    struct content content = {.records = records, .record_count = 3};
    uint64_t random = 1;

    for (size_t i = 0; i < RECORD_VALUE_SIZE_MAX; i++)
        value[i] = (uint8_t)seed_next(&random);
    memset(key, 'k', sizeof key);
    for (size_t i = 0; i < 3; i++)
        records[i] = (struct record){RECORD_VALUE, UINT64_MAX - i,
                                     slice_of(key, RECORD_KEY_SIZE_MAX - 2 + i),
                                     slice_of(value, RECORD_VALUE_SIZE_MAX)};
    for (int level = 0; level < 2; level++) {
        struct table_meta meta = write_table(*state, &content, 1 + (uint64_t)level, level);
        struct table_reader *reader = open_table(*state, &meta, NULL);
        struct buffer found = {0};
        struct record record;

        for (size_t i = 0; i < 3; i++) {
            assert_int_equal(table_reader_get(reader, records[i].key, &found, &record), 1);
            assert_true(same_record(&record, &records[i]));
        }
        check_walks(reader, &content, &random);
        buffer_free(&found);
        table_reader_unref(reader);
        table_meta_free(&meta);
    }
    free(value);
}

static void a_sealed_table_is_read_only_under_its_name_and_tmp_is_empty(void **state)
{
    uint64_t random = 7;
    struct content *content = content_make(&random, 50, 3, 60);
    struct table_meta meta = write_table(*state, content, 0xabc, 1);
    char *path = chunk_path(*state, &meta.identity);
    struct fixture *fixture = *state;
    struct stat status;

    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(status.st_mode & 07777, 0444);
    assert_int_equal(status.st_nlink, 1);
    assert_int_equal(status.st_size, meta.identity.file_size_bytes);
    assert_int_equal(meta.identity.id, 0xabc);
    assert_int_equal(meta.identity.kind, CHUNK_TABLE);
    assert_int_equal(count_names(fixture, fixture->tmp), 0);
    assert_int_equal(count_names(fixture, fixture->chunks), 1);
    free(path);
    table_meta_free(&meta);
    content_free(content);
}

static void r28_content_hash_is_that_of_the_file_and_never_zero(void **state)
{
    uint64_t random = seed_start("r28_content_hash_is_that_of_the_file_and_never_zero");
    struct checksum128 before = {0};

    for (uint64_t i = 0; i < 8; i++) {
        struct content *content = content_make(&random, 1 + i * 400, 2, 60);
        struct table_meta meta = write_table(*state, content, 1, (int)(i % 2));
        char *path = chunk_path(*state, &meta.identity);
        struct checksum_stream *stream = checksum_stream_new();
        struct checksum128 hash;
        size_t size;
        uint8_t *bytes = test_file_read(path, &size);

        checksum_stream_update(stream, bytes, size - CHUNK_TRAILER_SIZE);
        hash = checksum_stream_digest(stream);
        assert_int_equal(hash.low, meta.identity.hash.low);
        assert_int_equal(hash.high, meta.identity.hash.high);
        assert_true(hash.low != 0 || hash.high != 0);
        assert_true(hash.low != before.low || hash.high != before.high);
        before = hash;
        checksum_stream_free(stream);
        free(bytes);
        free(path);
        table_meta_free(&meta);
        content_free(content);
    }
}

/* 3 MiB and more: several write buffers, the last one at every alignment. */
static void files_of_every_tail_length_are_whole(void **state)
{
    uint64_t random = seed_start("files_of_every_tail_length_are_whole");
    struct content *content = content_make(&random, 9000, 5, 800);

    for (uint64_t round = 0; round < 6; round++) {
        struct table_meta meta = write_table(*state, content, round + 1, 0);
        struct table_reader *reader = open_table(*state, &meta, NULL);

        assert_true(meta.identity.file_size_bytes > 1 << 20);
        assert_int_equal(table_reader_verify(reader), 0);
        check_walks(reader, content, &random);
        table_reader_unref(reader);
        table_meta_free(&meta);
        content->record_count -= 1 + seed_below(&random, 9);
    }
    content_free(content);
}

static void the_size_so_far_grows_towards_the_files(void **state)
{
    uint64_t random = seed_start("the_size_so_far_grows_towards_the_files");
    struct content *content = content_make(&random, 6000, 0, 60);
    struct table_writer_options options = writer_options(*state, 1, 0);
    struct table_writer *writer;
    struct table_meta meta;
    uint64_t size = 0;

    assert_int_equal(table_writer_new(&options, &writer), 0);
    for (size_t i = 0; i < content->record_count; i++) {
        assert_int_equal(table_writer_add(writer, &content->records[i]), 0);
        assert_true(table_writer_size_bytes(writer) >= size);
        size = table_writer_size_bytes(writer);
    }
    assert_int_equal(table_writer_finish(writer, &meta), 0);
    assert_true(size > meta.identity.file_size_bytes * 9 / 10);
    assert_true(size < meta.identity.file_size_bytes * 11 / 10);
    table_writer_free(writer);
    table_meta_free(&meta);
    content_free(content);
}

static void a_long_walk_reads_many_blocks_at_once(void **state)
{
    uint64_t random = seed_start("a_long_walk_reads_many_blocks_at_once");
    struct fixture *fixture = *state;
    struct content *content = content_make(&random, 12000, 0, 300);
    struct table_meta meta = write_table(*state, content, 1, 0);
    struct block_cache *cache = block_cache_new(16 << 20);

    for (int fill = 0; fill < 2; fill++) {
        struct table_reader *reader = open_table(*state, &meta, cache);
        struct table_iterator *iterator = table_iterator_new(reader);
        struct io_statistics before, after;
        int result;

        io_get_statistics(fixture->base.io, &before);
        table_iterator_set_fill_cache(iterator, fill);
        for (result = table_iterator_seek(iterator, slice_of("", 0)); result == 1;)
            result = table_iterator_next(iterator);
        assert_int_equal(result, 0);
        io_get_statistics(fixture->base.io, &after);
        assert_true(after.reads - before.reads <= meta.identity.file_size_bytes / (96 << 10) + 8);
        table_iterator_free(iterator);
        table_reader_unref(reader);
    }
    block_cache_free(cache);
    table_meta_free(&meta);
    content_free(content);
}

/* ---- tests: the cache ---- */

static void blocks_come_from_the_cache_after_the_first_read(void **state)
{
    uint64_t random = seed_start("blocks_come_from_the_cache_after_the_first_read");
    struct fixture *fixture = *state;
    struct content *content = content_make(&random, 2000, 0, 60);
    struct table_meta meta = write_table(*state, content, 1, 1);
    struct block_cache *cache = block_cache_new(16 << 20);
    struct table_reader *reader = open_table(*state, &meta, cache);
    struct io_statistics before, after;

    check_gets(reader, content, &random);
    io_get_statistics(fixture->base.io, &before);
    check_gets(reader, content, &random);
    io_get_statistics(fixture->base.io, &after);
    assert_int_equal(after.reads, before.reads);
    table_reader_unref(reader);
    table_meta_free(&meta);
    content_free(content);
    block_cache_free(cache);
}

static void r32_tables_of_two_stores_with_one_id_share_a_cache(void **state)
{
    uint64_t random = seed_start("r32_tables_of_two_stores_with_one_id_share_a_cache");
    struct fixture *fixture = *state;
    struct block_cache *cache = block_cache_new(16 << 20);
    struct content *contents[2];
    struct table_meta metas[2];
    struct table_reader *readers[2];

    for (int i = 0; i < 2; i++) {
        struct table_writer_options options = writer_options(fixture, 5, 0);

        options.store_uuid = i ? other_uuid : uuid;
        contents[i] = content_make(&random, 1000, 0, 60);
        assert_int_equal(try_write(&options, contents[i], &metas[i]), 0);
        /* also when the store was not said: the header tells */
        assert_int_equal(table_reader_open(fixture->base.io, fixture->chunks, &metas[i].identity,
                                           i ? NULL : uuid, cache, &readers[i]),
                         0);
    }
    for (int round = 0; round < 3; round++)
        for (int i = 0; i < 2; i++)
            check_gets(readers[i], contents[i], &random);
    for (int i = 0; i < 2; i++) {
        table_reader_unref(readers[i]);
        table_meta_free(&metas[i]);
        content_free(contents[i]);
    }
    block_cache_free(cache);
}

struct reading {
    struct table_reader *reader;
    struct content *content;
    uint64_t random;
    unsigned wrong;
};

static void *reading_main(void *context)
{
    struct reading *reading = context;
    struct table_iterator *iterator = table_iterator_new(reading->reader);
    struct buffer value = {0};

    for (int i = 0; i < 3000; i++) {
        size_t at = seed_below(&reading->random, reading->content->record_count);
        const struct record *expected = &reading->content->records[at];
        struct record record;

        if (table_reader_get(reading->reader, expected->key, &value, &record) != 1 ||
            !same_record(&record, expected))
            reading->wrong++;
        if (table_iterator_seek(iterator, expected->key) != 1 ||
            !same_record(table_iterator_record(iterator), expected))
            reading->wrong++;
    }
    table_iterator_free(iterator);
    buffer_free(&value);
    return NULL;
}

static void many_threads_read_one_table(void **state)
{
    uint64_t random = seed_start("many_threads_read_one_table");
    struct content *content = content_make(&random, 4000, 0, 60);
    struct table_meta meta = write_table(*state, content, 1, 1);
    struct block_cache *cache = block_cache_new(128 << 10);
    struct table_reader *reader = open_table(*state, &meta, cache);
    struct reading readings[3];
    pthread_t threads[3];

    for (size_t i = 0; i < 3; i++) {
        readings[i] = (struct reading){table_reader_ref(reader), content, seed_next(&random), 0};
        assert_int_equal(pthread_create(&threads[i], NULL, reading_main, &readings[i]), 0);
    }
    for (size_t i = 0; i < 3; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(readings[i].wrong, 0);
        table_reader_unref(reader);
    }
    table_reader_unref(reader);
    table_meta_free(&meta);
    content_free(content);
    block_cache_free(cache);
}

/* ---- misuse ---- */

static void add_falling_keys(void *context)
{
    struct table_writer_options options = writer_options(context, 1, 0);
    struct table_writer *writer;
    struct record record = {RECORD_VALUE, 1, slice_of_string("a"), slice_of_string("")};
    uint8_t *large = calloc(1, 10000); /* the second record begins another block */

    record.value = slice_of(large, 10000);
    if (table_writer_new(&options, &writer) == 0) {
        (void)table_writer_add(writer, &record);
        (void)table_writer_add(writer, &record);
    }
}

static void add_overlapping_tombstones(void *context)
{
    struct table_writer_options options = writer_options(context, 2, 0);
    struct table_writer *writer;

    if (table_writer_new(&options, &writer) == 0) {
        (void)table_writer_add_tombstone(writer, slice_of_string("a"), slice_of_string("c"), 1);
        (void)table_writer_add_tombstone(writer, slice_of_string("b"), slice_of_string("d"), 1);
    }
}

static void what_is_out_of_order_is_a_broken_invariant(void **state)
{
    char output[4096];

    assert_true(WIFSIGNALED(child_run(add_falling_keys, *state, output, sizeof output)));
    assert_true(WIFSIGNALED(child_run(add_overlapping_tombstones, *state, output, sizeof output)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_table_gives_back_what_was_written, setup, teardown),
        cmocka_unit_test_setup_teardown(values_and_keys_of_the_largest_size_are_kept, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_sealed_table_is_read_only_under_its_name_and_tmp_is_empty,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(r28_content_hash_is_that_of_the_file_and_never_zero, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(files_of_every_tail_length_are_whole, setup, teardown),
        cmocka_unit_test_setup_teardown(the_size_so_far_grows_towards_the_files, setup, teardown),
        cmocka_unit_test_setup_teardown(a_long_walk_reads_many_blocks_at_once, setup, teardown),
        cmocka_unit_test_setup_teardown(blocks_come_from_the_cache_after_the_first_read, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(r32_tables_of_two_stores_with_one_id_share_a_cache, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(many_threads_read_one_table, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_out_of_order_is_a_broken_invariant, setup,
                                        teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
