/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_collection_pick.c - which blob chunks are collected, of versions without files
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "engine/chunk_format.h"
#include "engine/collection_pick.h"

#define MIB        ((uint64_t)1 << 20)
#define CHUNK_SIZE (64 * MIB)

static const struct version_source no_source;

static struct chunk_identity blob(uint64_t id, uint64_t frames)
{
    return (struct chunk_identity){.id = id,
                                   .kind = CHUNK_BLOB,
                                   .file_size_bytes =
                                       frames + CHUNK_HEADER_SIZE + CHUNK_TRAILER_SIZE};
}

/* One table whose uses are the given live bytes of chunks 1.. */
static struct version *version_using(const uint64_t *live, size_t count, size_t tables)
{
    struct version_table *made[16] = {0};
    struct version *version;

    for (size_t t = 0; t < tables; t++) {
        struct table_meta meta = {
            .identity = {.id = 1 + t, .kind = CHUNK_TABLE, .file_size_bytes = MIB}};
        char key = (char)('a' + t);
        size_t kept = 0;

        assert_int_equal(buffer_assign(&meta.smallest, &key, 1), 0);
        assert_int_equal(buffer_assign(&meta.largest, &key, 1), 0);
        meta.uses = calloc(count, sizeof *meta.uses);
        for (size_t i = t; i < count; i += tables)
            if (live[i] > 0)
                meta.uses[kept++] = (struct table_blob_use){i + 1, 1, live[i]};
        meta.use_count = kept;
        made[t] = version_table_new(&no_source, 1, 0, &meta);
        assert_non_null(made[t]);
    }
    assert_int_equal(version_build(NULL, NULL, 0, made, tables, &version), 0);
    for (size_t t = 0; t < tables; t++)
        version_table_unref(made[t]);
    return version;
}

static size_t pick_blobs(const struct version *version, const struct chunk_identity *blobs,
                         size_t count, const uint64_t *pinned, size_t pinned_count, bool idle,
                         uint64_t *ids, size_t room)
{
    struct collection_policy policy = {.pinned = pinned,
                                       .pinned_count = pinned_count,
                                       .chunk_size_bytes = CHUNK_SIZE,
                                       .live_percent_max = 40,
                                       .idle = idle};
    struct collection_totals totals;

    return collection_pick(version, blobs, count, &policy, ids, room, &totals);
}

static void chunks_that_are_mostly_dead_are_collected(void **state)
{
    static const uint64_t live[] = {60 * MIB, 10 * MIB, 0, 24 * MIB, 26 * MIB, 5 * MIB};
    static const uint64_t pinned[] = {6, 99};
    struct version *version = version_using(live, 6, 1);
    struct chunk_identity blobs[6];
    uint64_t ids[8];

    (void)state;
    for (uint64_t i = 0; i < 6; i++)
        blobs[5 - i] = blob(i + 1, CHUNK_SIZE); /* any order */
    assert_int_equal(pick_blobs(version, blobs, 6, NULL, 0, true, ids, 8), 4);
    assert_int_equal(ids[0], 2); /* not 1: alive; not 3: nothing refers to it */
    assert_int_equal(ids[1], 4);
    assert_int_equal(ids[2], 5); /* above 40 %, but sparse */
    assert_int_equal(ids[3], 6);
    assert_int_equal(pick_blobs(version, blobs, 6, pinned, 2, true, ids, 8), 3);
    assert_int_equal(ids[0], 2);
    assert_int_equal(ids[1], 4);
    assert_int_equal(ids[2], 5);
    assert_int_equal(pick_blobs(version, blobs, 6, NULL, 0, true, ids, 1), 1);
    assert_int_equal(ids[0], 6); /* little room: the deadest */
    assert_int_equal(pick_blobs(version, blobs, 6, NULL, 0, true, ids, 0), 0);
    version_unref(version);
}

/* What is half overwritten will soon be dead altogether. */
static void while_busy_only_what_is_nearly_empty_or_too_much_is_collected(void **state)
{
    /* 195 MiB are dead beside 125 that live; without the emptiest two 82. */
    static const uint64_t live[] = {60 * MIB, 10 * MIB, 0, 24 * MIB, 26 * MIB, 5 * MIB};
    static const uint64_t half[] = {25 * MIB, 25 * MIB, 60 * MIB, 60 * MIB, 8 * MIB, 9 * MIB};
    struct version *version = version_using(live, 6, 1);
    struct chunk_identity blobs[6];
    uint64_t ids[8];

    (void)state;
    for (uint64_t i = 0; i < 6; i++)
        blobs[i] = blob(i + 1, CHUNK_SIZE);
    assert_int_equal(pick_blobs(version, blobs, 6, NULL, 0, false, ids, 8), 2);
    assert_int_equal(ids[0], 2);
    assert_int_equal(ids[1], 6);
    assert_int_equal(pick_blobs(version, blobs, 6, NULL, 0, false, ids, 1), 1);
    assert_int_equal(ids[0], 6);
    version_unref(version);

    version = version_using(half, 6, 1); /* 197 dead beside 187, without the fifth 141 */
    assert_int_equal(pick_blobs(version, blobs, 6, NULL, 0, false, ids, 8), 1);
    assert_int_equal(ids[0], 5);
    assert_int_equal(pick_blobs(version, blobs, 5, NULL, 0, false, ids, 8), 1);
    assert_int_equal(ids[0], 5); /* 142 dead beside 178: but nearly empty */
    version_unref(version);
}

/* Of 320 MiB 86 are dead beside 234 that live; a tenth of those may be. */
static void idle_the_emptiest_go_until_little_is_dead(void **state)
{
    static const uint64_t live[] = {60 * MIB, 40 * MIB, 54 * MIB, 50 * MIB, 30 * MIB};
    static const uint64_t pinned[] = {2, 5};
    struct version *version = version_using(live, 5, 1);
    struct chunk_identity blobs[5];
    uint64_t ids[8];

    (void)state;
    for (uint64_t i = 0; i < 5; i++)
        blobs[i] = blob(i + 1, CHUNK_SIZE);
    assert_int_equal(pick_blobs(version, blobs, 5, NULL, 0, false, ids, 8), 0);
    assert_int_equal(pick_blobs(version, blobs, 5, NULL, 0, true, ids, 8), 3);
    assert_int_equal(ids[0], 2);
    assert_int_equal(ids[1], 4);
    assert_int_equal(ids[2], 5);
    /* What is pinned is neither copied nor counted: 28 dead beside 164; then 14 are left. */
    assert_int_equal(pick_blobs(version, blobs, 5, pinned, 2, true, ids, 8), 1);
    assert_int_equal(ids[0], 4);
    assert_int_equal(pick_blobs(version, blobs, 5, NULL, 0, true, ids, 1), 1);
    assert_int_equal(ids[0], 5);
    version_unref(version);
}

/* 16 MiB of 64 are dead, but 4,000 frames may need 4,095 bytes each to align a copy of them: it might
 * be no smaller, and be chosen again. */
static void what_alignment_may_waste_is_not_copied_over_and_over(void **state)
{
    static const uint64_t live[] = {48 * MIB};
    struct version *version = version_using(live, 1, 1);
    struct chunk_identity blobs[1] = {blob(1, CHUNK_SIZE)};
    uint64_t ids[8];

    (void)state;
    assert_int_equal(pick_blobs(version, blobs, 1, NULL, 0, true, ids, 8), 1);
    version->blobs[0].references = 4000;
    assert_int_equal(pick_blobs(version, blobs, 1, NULL, 0, true, ids, 8), 0);
    version_unref(version);
}

static void many_small_chunks_are_collected_when_few_tables_refer_to_them(void **state)
{
    uint64_t live[16], ids[32];
    struct chunk_identity blobs[16];
    struct version *version;

    (void)state;
    for (size_t i = 0; i < 16; i++) {
        live[i] = MIB;
        blobs[i] = blob(i + 1, MIB);
    }
    version = version_using(live, 16, 2);
    assert_int_equal(pick_blobs(version, blobs, 16, NULL, 0, false, ids, 32), 16);
    for (size_t i = 0; i < 16; i++)
        assert_int_equal(ids[i], i + 1);
    assert_int_equal(pick_blobs(version, blobs, 7, NULL, 0, false, ids, 32), 0);
    version_unref(version);

    /* Each table would begin a chunk of its own: nothing would be won. */
    version = version_using(live, 16, 16);
    assert_int_equal(pick_blobs(version, blobs, 16, NULL, 0, false, ids, 32), 0);
    version_unref(version);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(chunks_that_are_mostly_dead_are_collected),
        cmocka_unit_test(while_busy_only_what_is_nearly_empty_or_too_much_is_collected),
        cmocka_unit_test(idle_the_emptiest_go_until_little_is_dead),
        cmocka_unit_test(what_alignment_may_waste_is_not_copied_over_and_over),
        cmocka_unit_test(many_small_chunks_are_collected_when_few_tables_refer_to_them),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
