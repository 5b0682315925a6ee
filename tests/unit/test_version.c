/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_version.c - sets of tables by level
 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/base/error.h"
#include "engine/version.h"
#include "tests/lib/child.h"
#include "tests/lib/seed.h"
#include "tests/lib/table_fixture.h"

#define KEYS      400 /* the key space: "k0000".. */
#define KEY_SIZE  5
#define SPANS     5 /* tables of a level below L0 */
#define VALUE_OF  "value %llu"
#define LEVELS    4 /* in use */
#define L0_TABLES 4

static void make_key(uint8_t key[KEY_SIZE + 1], uint64_t number)
{
    snprintf((char *)key, KEY_SIZE + 1, "k%04u", (unsigned)(number % 10000));
}

/* What one table says about each key: a record, and a tombstone from a key up to the next. */
struct layer {
    uint64_t sequences[KEYS]; /* 0: no record */
    bool deletes[KEYS];
    uint64_t tombstones[KEYS];
};

struct world {
    struct fixture *fixture;
    struct version_source source;
    struct block_cache *cache;
    uint64_t random;
    uint64_t next_id, next_order, next_sequence;
    struct layer layers[64];
    size_t layer_count;
};

static void world_open(struct world *world, struct fixture *fixture, const char *test)
{
    memset(world, 0, sizeof *world);
    world->fixture = fixture;
    world->random = seed_start(test);
    world->cache = block_cache_new(4 << 20);
    world->source = (struct version_source){fixture->base.io, fixture->chunks, uuid, world->cache};
    world->next_id = world->next_order = world->next_sequence = 1;
}

static void write_layer(struct table_writer *writer, const struct layer *layer, uint64_t low,
                        uint64_t high)
{
    uint8_t key[KEY_SIZE + 1], end[KEY_SIZE + 1];
    char value[64];

    for (uint64_t i = low; i < high; i++) {
        struct record record = {RECORD_VALUE, layer->sequences[i], slice_of(key, KEY_SIZE),
                                slice_of(value, 0)};

        make_key(key, i);
        make_key(end, i + 1);
        if (layer->sequences[i] > 0) {
            if (layer->deletes[i])
                record.kind = RECORD_DELETE;
            else
                record.value.size = (size_t)snprintf(value, sizeof value, VALUE_OF,
                                                     (unsigned long long)layer->sequences[i]);
            assert_int_equal(table_writer_add(writer, &record), 0);
        }
        if (layer->tombstones[i] > 0)
            assert_int_equal(table_writer_add_tombstone(writer, slice_of(key, KEY_SIZE),
                                                        slice_of(end, KEY_SIZE),
                                                        layer->tombstones[i]),
                             0);
    }
}

/* A table with random records and tombstones for keys [low, high), newer than all made before. */
static struct version_table *make_table(struct world *world, uint32_t level, uint64_t low,
                                        uint64_t high)
{
    struct table_writer_options options = writer_options(world->fixture, world->next_id++, 1);
    struct layer *layer = &world->layers[world->layer_count++];
    struct version_table *table;
    struct table_writer *writer;
    struct table_meta meta;

    for (uint64_t i = low; i < high; i++) {
        if (seed_below(&world->random, 3) == 0 || i == low) {
            layer->sequences[i] = world->next_sequence++;
            layer->deletes[i] = seed_below(&world->random, 4) == 0;
        }
        if (seed_below(&world->random, 5) == 0 || i + 1 == high)
            layer->tombstones[i] = world->next_sequence++;
    }
    assert_int_equal(table_writer_new(&options, &writer), 0);
    write_layer(writer, layer, low, high);
    assert_int_equal(table_writer_finish(writer, &meta), 0);
    table_writer_free(writer);
    table = version_table_new(&world->source, level, world->next_order++, &meta);
    assert_non_null(table);
    assert_null(meta.smallest.data); /* taken over */
    return table;
}

/* A store's life: old tables deep down, touching each other's bounds; new ones in L0. */
static struct version *make_version(struct world *world)
{
    struct version_table *tables[64];
    struct version *version = NULL;
    size_t count = 0;

    for (uint32_t level = LEVELS; level-- > 1;) {
        uint64_t low = seed_below(&world->random, 30);

        for (int span = 0; span < SPANS && low < KEYS - 1; span++) {
            uint64_t high = low + 1 + seed_below(&world->random, 90);

            if (high > KEYS)
                high = KEYS;
            tables[count++] = make_table(world, level, low, high);
            low = high + (seed_below(&world->random, 2) ? seed_below(&world->random, 40) : 0);
        }
    }
    for (int i = 0; i < L0_TABLES; i++) {
        uint64_t low = seed_below(&world->random, KEYS - 2);

        tables[count++] =
            make_table(world, 0, low, low + 1 + seed_below(&world->random, KEYS - 1 - low));
    }
    /* in any order */
    for (size_t i = count; i > 1; i--) {
        size_t other = seed_below(&world->random, i);
        struct version_table *swap = tables[i - 1];

        tables[i - 1] = tables[other];
        tables[other] = swap;
    }
    assert_int_equal(version_build(NULL, NULL, 0, tables, count, &version), 0);
    for (size_t i = 0; i < count; i++)
        version_table_unref(tables[i]);
    return version;
}

static void check_key(struct world *world, struct version *version, uint64_t number)
{
    uint64_t newest = 0, tombstone = 0, got_tombstone = 12345;
    struct buffer value = {0};
    struct record record;
    uint8_t key[KEY_SIZE + 1];
    char expected[64];
    bool deleted = false;
    int result;

    for (size_t i = 0; i < world->layer_count; i++) {
        if (world->layers[i].sequences[number] > newest) {
            newest = world->layers[i].sequences[number];
            deleted = world->layers[i].deletes[number];
        }
        if (world->layers[i].tombstones[number] > tombstone)
            tombstone = world->layers[i].tombstones[number];
    }
    make_key(key, number);
    result = version_get(version, slice_of(key, KEY_SIZE), &value, &record, &got_tombstone);
    assert_in_range(result, 0, 1);
    if (newest > tombstone) {
        assert_int_equal(result, 1);
        assert_int_equal(record.sequence, newest);
        assert_true(got_tombstone < newest);
        assert_int_equal(record.kind, deleted ? RECORD_DELETE : RECORD_VALUE);
        snprintf(expected, sizeof expected, VALUE_OF, (unsigned long long)newest);
        if (!deleted)
            assert_true(slice_equal(record.value, slice_of_string(expected)));
    } else if (tombstone > 0) {
        assert_int_equal(got_tombstone, tombstone); /* the newest comes first */
        assert_true(result == 0 || record.sequence < tombstone);
    } else {
        assert_int_equal(result, 0);
        assert_int_equal(got_tombstone, 0);
    }
    buffer_free(&value);
}

static void a_version_answers_with_the_newest_of_all_its_tables(void **state)
{
    for (int round = 0; round < 15; round++) {
        struct world *world = calloc(1, sizeof *world);
        struct version *version;

        world_open(world, *state, "a_version_answers_with_the_newest_of_all_its_tables");
        world->next_id = 1 + (uint64_t)round * 100;
        version = make_version(world);
        for (uint64_t i = 0; i < KEYS; i++)
            check_key(world, version, i);
        version_unref(version);
        block_cache_free(world->cache);
        free(world);
    }
}

static void find_table_gives_the_first_that_may_hold_the_key(void **state)
{
    struct world *world = calloc(1, sizeof *world);
    struct version *version;
    uint8_t key[KEY_SIZE + 1];

    world_open(world, *state, "find_table_gives_the_first_that_may_hold_the_key");
    version = make_version(world);
    for (uint32_t level = 1; level < VERSION_LEVELS; level++) {
        for (uint64_t i = 0; i <= KEYS; i++) {
            size_t expected = 0;

            make_key(key, i);
            while (expected < version->counts[level] &&
                   slice_compare(buffer_slice(&version->levels[level][expected]->meta.largest),
                                 slice_of(key, KEY_SIZE)) < 0)
                expected++;
            assert_int_equal(version_find_table(version, level, slice_of(key, KEY_SIZE)), expected);
        }
    }
    version_unref(version);
    block_cache_free(world->cache);
    free(world);
}

static void a_missing_chunk_is_an_error_not_an_absent_key(void **state)
{
    struct world *world = calloc(1, sizeof *world);
    struct version_table *table;
    struct version *version;
    struct buffer value = {0};
    struct record record;
    uint64_t tombstone;
    char *path;

    world_open(world, *state, "a_missing_chunk_is_an_error_not_an_absent_key");
    table = make_table(world, 1, 10, 20);
    path = chunk_path(*state, &table->meta.identity);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(version_build(NULL, NULL, 0, &table, 1, &version), 0);
    version_table_unref(table);
    assert_int_equal(version_get(version, slice_of_string("k0010"), &value, &record, &tombstone),
                     ERROR_MISSING_CHUNK);
    assert_int_equal(version_get(version, slice_of_string("k0021"), &value, &record, &tombstone),
                     0);
    free(path);
    version_unref(version);
    block_cache_free(world->cache);
    free(world);
}

static void *open_reader(void *table)
{
    struct table_reader *reader = NULL;

    return version_table_reader(table, &reader) == 0 ? reader : NULL;
}

static void many_threads_open_a_table_once(void **state)
{
    struct world *world = calloc(1, sizeof *world);
    struct version_table *table;
    struct io_statistics before, after;
    pthread_t threads[6];
    void *first = NULL, *reader;

    world_open(world, *state, "many_threads_open_a_table_once");
    table = make_table(world, 1, 10, 20);
    io_get_statistics(world->source.io, &before);
    for (size_t i = 0; i < 6; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, open_reader, table), 0);
    for (size_t i = 0; i < 6; i++) {
        pthread_join(threads[i], &reader);
        assert_non_null(reader);
        assert_true(i == 0 || reader == first);
        first = reader;
    }
    io_get_statistics(world->source.io, &after);
    assert_int_equal(after.opens - before.opens, 1);
    version_table_unref(table);
    block_cache_free(world->cache);
    free(world);
}

/* ---- without files: building ---- */

static const struct version_source no_source;

static struct version_table *bare_table(uint32_t level, uint64_t id, uint64_t order,
                                        const char *smallest, const char *largest)
{
    struct table_meta meta = {.identity = {.id = id, .kind = CHUNK_TABLE, .file_size_bytes = 100}};
    struct version_table *table;

    assert_int_equal(buffer_assign(&meta.smallest, smallest, strlen(smallest)), 0);
    assert_int_equal(buffer_assign(&meta.largest, largest, strlen(largest)), 0);
    table = version_table_new(&no_source, level, order, &meta);
    assert_non_null(table);
    return table;
}

static struct version *build(const struct version *base, struct version_table *const *tables,
                             size_t count)
{
    struct version *version;

    assert_int_equal(version_build(base, NULL, 0, tables, count, &version), 0);
    for (size_t i = 0; i < count; i++)
        version_table_unref(tables[i]);
    return version;
}

static void levels_are_sorted_as_promised(void **state)
{
    struct version_table *tables[] = {
        bare_table(0, 1, 5, "a", "z"), bare_table(0, 2, 9, "b", "c"), bare_table(0, 3, 7, "a", "a"),
        bare_table(2, 4, 1, "m", "m"), bare_table(2, 5, 1, "m", "z"), bare_table(2, 6, 1, "c", "m"),
    };
    struct version *version = build(NULL, tables, 6);

    (void)state;
    assert_int_equal(version->counts[0], 3);
    assert_int_equal(version->levels[0][0]->order, 9);
    assert_int_equal(version->levels[0][1]->order, 7);
    assert_int_equal(version->levels[0][2]->order, 5);
    assert_int_equal(version->counts[2], 3);
    assert_int_equal(version->levels[2][0]->meta.identity.id, 6); /* [c, m) */
    assert_int_equal(version->levels[2][1]->meta.identity.id, 4); /* m */
    assert_int_equal(version->levels[2][2]->meta.identity.id, 5); /* (m, z]: touches */
    assert_int_equal(version->level_bytes[0], 300);
    assert_int_equal(version->level_bytes[1], 0);
    assert_int_equal(version->level_bytes[2], 300);
    version_unref(version);
}

static void an_old_version_stays_as_it_was(void **state)
{
    struct version_table *first[] = {bare_table(0, 1, 1, "a", "b"), bare_table(0, 2, 2, "a", "b")};
    struct version *old = build(NULL, first, 2), *new;
    struct version_table *moved = bare_table(1, 1, 1, "a", "b"); /* the same chunk, moved down */
    uint64_t removed = 1;

    (void)state;
    assert_int_equal(version_build(old, &removed, 1, &moved, 1, &new), 0);
    version_table_unref(moved);
    assert_int_equal(old->counts[0], 2);
    assert_int_equal(old->counts[1], 0);
    assert_int_equal(new->counts[0], 1);
    assert_int_equal(new->counts[1], 1);
    assert_ptr_equal(old->levels[0][0], new->levels[0][0]); /* shared */
    version_unref(version_ref(new));
    version_unref(old);
    assert_int_equal(new->levels[0][0]->meta.identity.id, 2);
    version_unref(new);
}

static struct version_table *using_table(uint64_t *random, uint64_t id)
{
    struct version_table *table = bare_table(0, id, id, "a", "b");
    uint64_t chunk = 0;

    table->meta.use_count = seed_below(random, 8);
    table->meta.uses = calloc(table->meta.use_count + 1, sizeof *table->meta.uses);
    for (size_t i = 0; i < table->meta.use_count; i++) {
        chunk += 1 + seed_below(random, 4);
        table->meta.uses[i] =
            (struct table_blob_use){chunk, 1 + seed_below(random, 100), seed_below(random, 100000)};
    }
    return table;
}

static void assert_blobs_are_the_sums(const struct version *version)
{
    uint64_t references[64] = {0}, bytes[64] = {0};
    size_t expected = 0;

    for (size_t i = 0; i < version->counts[0]; i++) {
        const struct table_meta *meta = &version->levels[0][i]->meta;

        for (size_t n = 0; n < meta->use_count; n++) {
            references[meta->uses[n].chunk_id] += meta->uses[n].references;
            bytes[meta->uses[n].chunk_id] += meta->uses[n].bytes;
        }
    }
    for (uint64_t id = 0; id < 64; id++) {
        const struct version_blob *blob = version_find_blob(version, id);

        if (references[id] == 0) {
            assert_null(blob);
            continue;
        }
        assert_non_null(blob);
        assert_ptr_equal(blob, &version->blobs[expected++]); /* sorted */
        assert_int_equal(blob->references, references[id]);
        assert_int_equal(blob->bytes, bytes[id]);
    }
    assert_int_equal(version->blob_count, expected);
}

static void blob_uses_add_up_through_random_changes(void **state)
{
    uint64_t random = seed_start("blob_uses_add_up_through_random_changes");
    struct version *version = NULL;
    uint64_t next_id = 1;

    (void)state;
    for (int round = 0; round < 300; round++) {
        struct version_table *add[4];
        size_t add_count = seed_below(&random, 4), remove_count = 0;
        uint64_t remove[64];
        struct version *next;

        for (size_t i = 0; i < add_count; i++)
            add[i] = using_table(&random, next_id++);
        for (size_t i = 0; version && i < version->counts[0]; i++)
            if (seed_below(&random, version->counts[0] > 20 ? 2 : 8) == 0)
                remove[remove_count++] = version->levels[0][i]->meta.identity.id;
        assert_int_equal(version_build(version, remove, remove_count, add, add_count, &next), 0);
        for (size_t i = 0; i < add_count; i++)
            version_table_unref(add[i]);
        version_unref(version);
        version = next;
        assert_blobs_are_the_sums(version);
    }
    version_unref(version);
}

/* ---- broken invariants ---- */

static void build_overlapping(void *context)
{
    struct version_table *tables[] = {bare_table(1, 1, 1, "a", "m"), bare_table(1, 2, 2, "l", "z")};

    (void)context;
    (void)build(NULL, tables, 2);
}

static void build_equal_orders(void *context)
{
    struct version_table *tables[] = {bare_table(0, 1, 1, "a", "m"), bare_table(0, 2, 1, "n", "z")};

    (void)context;
    (void)build(NULL, tables, 2);
}

static void remove_unknown(void *context)
{
    struct version_table *tables[] = {bare_table(0, 1, 1, "a", "m")};
    struct version *version = build(NULL, tables, 1), *next;
    uint64_t removed = 2;

    (void)context;
    (void)version_build(version, &removed, 1, NULL, 0, &next);
}

static void what_no_version_may_be_is_a_broken_invariant(void **state)
{
    child_body *const bodies[] = {build_overlapping, build_equal_orders, remove_unknown};
    char output[4096];

    (void)state;
    for (size_t i = 0; i < 3; i++)
        assert_true(WIFSIGNALED(child_run(bodies[i], NULL, output, sizeof output)));
}

#define WITH_STORE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_STORE(a_version_answers_with_the_newest_of_all_its_tables),
        WITH_STORE(find_table_gives_the_first_that_may_hold_the_key),
        WITH_STORE(a_missing_chunk_is_an_error_not_an_absent_key),
        WITH_STORE(many_threads_open_a_table_once),
        cmocka_unit_test(levels_are_sorted_as_promised),
        cmocka_unit_test(an_old_version_stays_as_it_was),
        cmocka_unit_test(blob_uses_add_up_through_random_changes),
        cmocka_unit_test(what_no_version_may_be_is_a_broken_invariant),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
