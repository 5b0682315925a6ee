/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_manifest_pages.c - data.mdb looked through before LMDB believes it
 *
 * Files that LMDB wrote, with branches, overflow pages and lists of free pages, are changed in one
 * place at a time: every bit that means something, whole pages, and the fields of each structure
 * together with what would give them away otherwise.
 */
#include "engine/manifest_pages.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/base/checksum.h"
#include "engine/base/endian.h"
#include "engine/base/error.h"
#include "engine/base/log.h"
#include "tests/lib/manifest_fixture.h"

#define PAGE        4096
#define PAGE_HEADER 16
#define META_SIZE   (24 + 2 * 48 + 16)

enum { LEAF = 2, BRANCH = 1, OVERFLOW = 4, META = 8 };

struct image {
    uint8_t *bytes, *whole;
    size_t size;
    int descriptor;
};

/* Chunks that come and go, and a checkpoint whose payload needs pages of its own. */
static int image_setup(void **state)
{
    struct image *image = calloc(1, sizeof *image);
    struct manifest_checkpoint checkpoint = {
        .id = 7, .state = MANIFEST_CHECKPOINT_READY, .sequence = 5};
    struct manifest_edit edit = {.put_checkpoint = &checkpoint};
    struct manifest_fixture fixture;
    char *path, *payload = calloc(1, 9000);

    manifest_fixture_open(&fixture);
    for (uint64_t id = 1; id <= 150; id++)
        assert_int_equal(add_blob(fixture.manifest, id), 0);
    memset(payload, 'p', 9000);
    assert_int_equal(buffer_assign(&checkpoint.name, "kept", 4), 0);
    assert_int_equal(buffer_assign(&checkpoint.payload, payload, 9000), 0);
    assert_int_equal(manifest_commit(fixture.manifest, &edit), 0);
    for (uint64_t id = 20; id < 40; id++) {
        struct manifest_edit removal = {.remove_blobs = &id, .remove_blob_count = 1};

        assert_int_equal(manifest_commit(fixture.manifest, &removal), 0);
    }
    manifest_checkpoint_free(&checkpoint);
    free(payload);
    path = test_path(fixture.path, "data.mdb");
    image->whole = test_file_read(path, &image->size);
    free(path);
    manifest_fixture_close(&fixture);
    image->descriptor = memfd_create("data.mdb", MFD_CLOEXEC);
    assert_int_equal(ftruncate(image->descriptor, (off_t)image->size), 0);
    image->bytes =
        mmap(NULL, image->size, PROT_READ | PROT_WRITE, MAP_SHARED, image->descriptor, 0);
    assert_true(image->bytes != MAP_FAILED);
    memcpy(image->bytes, image->whole, image->size);
    *state = image;
    return 0;
}

static int image_teardown(void **state)
{
    struct image *image = *state;

    munmap(image->bytes, image->size);
    close(image->descriptor);
    free(image->whole);
    free(image);
    return 0;
}

static int check(const struct image *image)
{
    return manifest_pages_check(image->descriptor, "test");
}

static void heal(struct image *image)
{
    memcpy(image->bytes, image->whole, image->size);
}

static void expect_damage(struct image *image, const char *what)
{
    int error = check(image);

    if (error == 0)
        fail_msg("%s: not noticed", what);
    assert_true(error == ERROR_CORRUPT || error == ERROR_TRUNCATED);
    heal(image);
}

/* ---- finding one's way ---- */

static uint8_t *page_at(const struct image *image, uint64_t number)
{
    return image->bytes + number * PAGE;
}

static uint8_t *meta_at(const struct image *image, unsigned number)
{
    return page_at(image, number) + PAGE_HEADER;
}

static uint64_t transaction_of(const struct image *image, unsigned number)
{
    return get_le64(meta_at(image, number) + 24 + 2 * 48 + 8);
}

static unsigned newest(const struct image *image)
{
    return transaction_of(image, 1) > transaction_of(image, 0);
}

/* Of the newest meta page: 0 the free list, 1 the records. */
static uint8_t *database_at(const struct image *image, unsigned which)
{
    return meta_at(image, newest(image)) + 24 + which * 48;
}

static uint8_t *root_of(const struct image *image, unsigned which)
{
    return page_at(image, get_le64(database_at(image, which) + 40));
}

static uint8_t *node_at(uint8_t *page, unsigned index)
{
    return page + get_le16(page + PAGE_HEADER + 2 * index);
}

static uint64_t child_of(const uint8_t *node)
{
    return get_le16(node) | (uint64_t)get_le16(node + 2) << 16 | (uint64_t)get_le16(node + 4) << 32;
}

/* The first leaf below, with its first node that has data on overflow pages, or NULL. */
static uint8_t *find_overflow_node(const struct image *image)
{
    uint8_t *root = root_of(image, 1);

    assert_int_equal(get_le16(root + 10), BRANCH);
    for (unsigned i = 0; i < (get_le16(root + 12) - PAGE_HEADER) / 2u; i++) {
        uint8_t *leaf = page_at(image, child_of(node_at(root, i)));

        assert_int_equal(get_le16(leaf + 10), LEAF);
        for (unsigned j = 0; j < (get_le16(leaf + 12) - PAGE_HEADER) / 2u; j++)
            if ((get_le16(node_at(leaf, j) + 4) & 1) != 0)
                return node_at(leaf, j);
    }
    return NULL;
}

static uint8_t *node_data(uint8_t *node)
{
    return node + 8 + get_le16(node + 6);
}

static uint32_t node_data_size(const uint8_t *node)
{
    return get_le16(node) | (uint32_t)get_le16(node + 2) << 16;
}

/* ---- tests ---- */

static void what_lmdb_wrote_is_in_order(void **state)
{
    struct image *image = *state;

    assert_int_equal(check(image), 0);
    assert_int_equal(get_le16(root_of(image, 1) + 10), BRANCH);
    assert_non_null(find_overflow_node(image));
    assert_true(get_le64(database_at(image, 0) + 32) > 0); /* there are free lists */
}

/* Nodes begin at even places: is this the byte behind one of odd length? In a list of free pages
 * fewer of them, others that are free, or another transaction do no harm. */
static bool is_unused(uint8_t *page, size_t at, bool is_free_list)
{
    bool is_leaf = get_le16(page + 10) == LEAF;

    for (unsigned i = 0; i < (get_le16(page + 12) - PAGE_HEADER) / 2u; i++) {
        uint8_t *node = node_at(page, i);
        size_t begin = (size_t)(node - page), size = 8 + get_le16(node + 6), used;

        if (is_leaf)
            size += (get_le16(node + 4) & 1) != 0 ? 8 : node_data_size(node);
        used = is_free_list && is_leaf ? 8 : size;
        if (at >= begin + used && at < begin + size + size % 2)
            return true;
    }
    return false;
}

/* Header, pointers and nodes of a page. */
static void check_page_bits(struct image *image, uint8_t *page, bool is_free_list)
{
    size_t lower = get_le16(page + 12), upper = get_le16(page + 14);

    for (size_t at = 0; at < PAGE; at++) {
        if (at >= lower && at < upper)
            continue; /* free space */
        if (at == 8 || at == 9 || is_unused(page, at, is_free_list))
            continue; /* nobody reads them */
        for (unsigned bit = 0; bit < 8; bit++) {
            page[at] ^= (uint8_t)(1u << bit);
            /* The separators of branches may be any that separate. */
            if (check(image) == 0 && get_le16(page + 10) != BRANCH)
                fail_msg("bit %u of byte %zu of page %llu", bit, at,
                         (unsigned long long)get_le64(page));
            page[at] ^= (uint8_t)(1u << bit);
        }
    }
}

static void every_bit_of_a_page_that_is_read_counts(void **state)
{
    struct image *image = *state;
    uint8_t *root = root_of(image, 1);

    check_page_bits(image, root, false);
    check_page_bits(image, page_at(image, child_of(node_at(root, 0))), false);
    check_page_bits(image, root_of(image, 0), true);
}

static void every_field_of_a_meta_page_counts(void **state)
{
    struct image *image = *state;
    static const struct {
        size_t at, size;
        const char *what;
    } fields[] = {
        {0, 4, "magic"},        {8, 8, "address"},         {24, 4, "page size"},
        {28, 2, "free flags"},  {30, 2, "free depth"},     {32, 8, "free branches"},
        {40, 8, "free leaves"}, {48, 8, "free overflows"}, {56, 8, "free entries"},
        {64, 8, "free root"},   {76, 2, "flags"},          {78, 2, "depth"},
        {80, 8, "branches"},    {88, 8, "leaves"},         {96, 8, "overflows"},
        {104, 8, "entries"},    {112, 8, "root"},          {128, 8, "transaction"},
    };
    unsigned number = newest(image);

    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
        for (size_t bit = 0; bit < 8 * fields[i].size; bit++) {
            if (fields[i].at == 128 && bit == 0)
                continue; /* below */
            meta_at(image, number)[fields[i].at + bit / 8] ^= (uint8_t)(1u << bit % 8);
            expect_damage(image, fields[i].what);
        }
    }
    for (size_t bit = 0; bit < 64; bit++) {
        page_at(image, number)[bit / 8] ^= (uint8_t)(1u << bit % 8);
        expect_damage(image, "number of the meta page");
    }
    page_at(image, number)[10] ^= META;
    expect_damage(image, "kind of the meta page");
}

static void a_transaction_belongs_to_its_meta_page_and_is_next_to_the_other(void **state)
{
    struct image *image = *state;
    unsigned number = newest(image);
    uint8_t *at = meta_at(image, number) + 24 + 2 * 48 + 8;
    uint8_t *other = meta_at(image, !number) + 24 + 2 * 48 + 8;

    put_le64(at, get_le64(at) + 1); /* the wrong parity */
    expect_damage(image, "parity");
    put_le64(at, get_le64(at) + 2); /* too far ahead of the other one */
    expect_damage(image, "too new");
    put_le64(other, get_le64(other) - 2);
    expect_damage(image, "too old");
}

static void a_page_size_is_a_power_of_two_within_bounds(void **state)
{
    static const uint32_t sizes[] = {0, 1, 256, 511, 513, 4095, 4097, 6144, 32769, 65536, 1u << 31};
    struct image *image = *state;

    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        put_le32(meta_at(image, 0) + 24, sizes[i]);
        put_le32(meta_at(image, 1) + 24, sizes[i]);
        expect_damage(image, "page size");
    }
}

static void no_page_has_two_uses_and_none_lies_outside(void **state)
{
    static const uint64_t numbers[] = {0, 1, UINT64_C(1) << 40};
    struct image *image = *state;
    uint8_t *root = root_of(image, 1), *node = node_at(root, 1), *free_node;
    uint64_t first = child_of(node_at(root, 0));

    put_le16(node, (uint16_t)first);
    put_le16(node + 2, (uint16_t)(first >> 16));
    expect_damage(image, "a child twice");
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        put_le64(database_at(image, 1) + 40, numbers[i]);
        expect_damage(image, "a root outside");
    }
    free_node = node_at(root_of(image, 0), 0);
    put_le64(node_data(free_node) + 8, first);
    expect_damage(image, "a free page that is in use");
    free_node = node_at(root_of(image, 0), 0);
    put_le64(node_data(free_node) + 8, get_le64(meta_at(image, newest(image)) + 24 + 96) + 1);
    expect_damage(image, "a free page behind the last");
}

static void a_list_of_free_pages_is_as_long_as_it_says(void **state)
{
    struct image *image = *state;
    uint8_t *node = node_at(root_of(image, 0), 0);
    uint64_t count = get_le64(node_data(node));

    assert_true(count > 0);
    put_le64(node_data(node), count + 1);
    expect_damage(image, "a list longer than its record");
    put_le64(node_data(node), UINT64_MAX);
    expect_damage(image, "a list that wraps");
    put_le16(node + 6, 4);
    expect_damage(image, "a number of another size");
    put_le16(node, 4);
    expect_damage(image, "a list without a count");
}

static void an_overflow_page_is_one_and_has_the_length_of_its_record(void **state)
{
    struct image *image = *state;
    uint8_t *page = page_at(image, get_le64(node_data(find_overflow_node(image))));

    assert_int_equal(get_le16(page + 10), OVERFLOW);
    assert_int_equal(get_le32(page + 12), 3);
    put_le16(page + 10, LEAF);
    expect_damage(image, "another kind of page");
    put_le32(page + 12, 2);
    expect_damage(image, "fewer pages");
    put_le32(page + 12, 4);
    expect_damage(image, "more pages");
    page[PAGE_HEADER + 5000] ^= 1;
    expect_damage(image, "data in the second page");
    put_le64(database_at(image, 1) + 24, 4);
    expect_damage(image, "the number of overflow pages");
}

/* ---- records ---- */

/* Give a record that was changed its checksum, and the seal its sum: only its form is wrong. */
static uint64_t checksum_of(const uint8_t *key, size_t key_size, const uint8_t *data, size_t size)
{
    return checksum64_seeded(data, size, checksum64(key, key_size));
}

static uint8_t *find_seal_node(const struct image *image)
{
    uint8_t *root = root_of(image, 1);

    for (unsigned i = 0; i < (get_le16(root + 12) - PAGE_HEADER) / 2u; i++) {
        uint8_t *leaf = page_at(image, child_of(node_at(root, i)));

        for (unsigned j = 0; j < (get_le16(leaf + 12) - PAGE_HEADER) / 2u; j++) {
            uint8_t *node = node_at(leaf, j);

            if (get_le16(node + 6) == 1 && node_data_size(node) == MANIFEST_SEAL_SIZE + 8)
                return node;
        }
    }
    return NULL;
}

static void reseal(uint8_t *node)
{
    put_le64(node_data(node) + MANIFEST_SEAL_SIZE,
             checksum_of(node + 8, 1, node_data(node), MANIFEST_SEAL_SIZE));
}

static void the_seal_names_the_transaction_and_the_sum(void **state)
{
    struct image *image = *state;
    uint8_t *node = find_seal_node(image);

    assert_non_null(node);
    assert_int_equal(get_le64(node_data(node)), transaction_of(image, newest(image)));
    reseal(node);
    assert_int_equal(check(image), 0);
    put_le64(node_data(node), get_le64(node_data(node)) - 1);
    reseal(node);
    expect_damage(image, "the transaction in the seal");
    put_le64(node_data(node) + 8, get_le64(node_data(node) + 8) + 1);
    reseal(node);
    expect_damage(image, "the sum in the seal");
}

static void an_older_copy_of_a_record_is_noticed_although_its_checksum_is_right(void **state)
{
    struct image *image = *state;
    uint8_t *leaf = page_at(image, child_of(node_at(root_of(image, 1), 0)));
    uint8_t *node = NULL;
    uint32_t size;

    for (unsigned j = 0; node == NULL && j < (get_le16(leaf + 12) - PAGE_HEADER) / 2u; j++)
        if (get_le16(node_at(leaf, j) + 6) > 1 && node_data_size(node_at(leaf, j)) > 16 &&
            (get_le16(node_at(leaf, j) + 4) & 1) == 0)
            node = node_at(leaf, j);
    assert_non_null(node);
    size = node_data_size(node) - 8;
    node_data(node)[0] ^= 1;
    put_le64(node_data(node) + size,
             checksum_of(node + 8, get_le16(node + 6), node_data(node), size));
    expect_damage(image, "a record with another value");
}

static void a_file_that_ends_early_is_truncated(void **state)
{
    struct image *image = *state;
    int shorter = memfd_create("short", MFD_CLOEXEC);
    uint64_t last = get_le64(meta_at(image, newest(image)) + 24 + 96);
    const size_t sizes[] = {0,    1,        PAGE_HEADER + 27,        PAGE - 1,
                            PAGE, 2 * PAGE, (size_t)last * PAGE - 1, (size_t)last * PAGE};

    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        assert_int_equal(ftruncate(shorter, 0), 0);
        assert_int_equal(pwrite(shorter, image->whole, sizes[i], 0), sizes[i]);
        assert_int_equal(manifest_pages_check(shorter, "test"), ERROR_TRUNCATED);
    }
    close(shorter);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, image_setup, image_teardown)
        TEST(what_lmdb_wrote_is_in_order),
        TEST(every_bit_of_a_page_that_is_read_counts),
        TEST(every_field_of_a_meta_page_counts),
        TEST(a_transaction_belongs_to_its_meta_page_and_is_next_to_the_other),
        TEST(a_page_size_is_a_power_of_two_within_bounds),
        TEST(no_page_has_two_uses_and_none_lies_outside),
        TEST(a_list_of_free_pages_is_as_long_as_it_says),
        TEST(an_overflow_page_is_one_and_has_the_length_of_its_record),
        TEST(the_seal_names_the_transaction_and_the_sum),
        TEST(an_older_copy_of_a_record_is_noticed_although_its_checksum_is_right),
        TEST(a_file_that_ends_early_is_truncated),
    };

    /* There are thousands of findings. */
    if (getenv("VARVE_TEST_LOUD") == NULL && freopen("/dev/null", "w", stderr) == NULL)
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
