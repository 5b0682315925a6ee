/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_manifest_trees.c - data files of LMDB written by hand, page for page
 *
 * LMDB itself writes none of them: in each one field is wrong and everything else, counts and
 * checksums too, fits together, so that only the one rule tells.
 */
#include "engine/manifest_pages.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/base/checksum.h"
#include "engine/base/endian.h"
#include "engine/base/error.h"
#include "engine/manifest_record.h"

enum { BRANCH = 1, LEAF = 2, META = 8, PAGES_MAX = 8 };
enum { PAGE_HEADER = 16, NODE_HEADER = 8, META_TRANSACTION = PAGE_HEADER + 128 };

#define PAGE    4096
#define NO_PAGE UINT64_MAX

/* The state of transaction 1, whose meta page is page 1; before it there was nothing. */
struct file {
    uint8_t bytes[PAGES_MAX * PAGE];
    uint64_t sum; /* of the records that were written */
};

struct tree {
    uint16_t flags, depth;
    uint64_t branches, leaves, overflows, entries, root;
};

static const struct tree no_records = {.root = NO_PAGE},
                         no_free_pages = {8, 0, 0, 0, 0, 0, NO_PAGE};

static void put_tree(uint8_t *to, const struct tree *tree)
{
    put_le16(to + 4, tree->flags);
    put_le16(to + 6, tree->depth);
    put_le64(to + 8, tree->branches);
    put_le64(to + 16, tree->leaves);
    put_le64(to + 24, tree->overflows);
    put_le64(to + 32, tree->entries);
    put_le64(to + 40, tree->root);
}

static void put_meta(uint8_t *page, uint32_t page_size, uint64_t number, uint64_t last_page,
                     const struct tree *free_pages, const struct tree *records)
{
    uint8_t *to = page + PAGE_HEADER;

    put_le64(page, number);
    put_le16(page + 10, META);
    put_le32(to, 0xbeefc0de);
    put_le32(to + 4, 1);
    put_le64(to + 16, 1 << 20);
    put_tree(to + 24, free_pages);
    put_le32(to + 24, page_size);
    put_tree(to + 72, records);
    put_le64(to + 120, last_page);
    put_le64(page + META_TRANSACTION, number);
}

static void begin(struct file *file, const struct tree *free_pages, const struct tree *records)
{
    put_meta(file->bytes, PAGE, 0, 1, &no_free_pages, &no_records);
    put_meta(file->bytes + PAGE, PAGE, 1, PAGES_MAX - 1, free_pages, records);
}

static int check_bytes(const uint8_t *bytes, size_t size)
{
    int error, descriptor = memfd_create("data.mdb", MFD_CLOEXEC);

    assert_true(descriptor >= 0);
    assert_int_equal(write(descriptor, bytes, size), size);
    error = manifest_pages_check(descriptor, "test");
    close(descriptor);
    return error;
}

/* Frees it. */
static int check(struct file *file)
{
    int error = check_bytes(file->bytes, sizeof file->bytes);

    free(file);
    return error;
}

static struct file *file_new(void)
{
    struct file *file = calloc(1, sizeof *file);

    assert_non_null(file);
    return file;
}

/* ---- pages ---- */

static uint8_t *begin_page(struct file *file, uint64_t number, uint16_t kind)
{
    uint8_t *page = file->bytes + number * PAGE;

    put_le64(page, number);
    put_le16(page + 10, kind);
    put_le16(page + 12, PAGE_HEADER);
    put_le16(page + 14, PAGE);
    return page;
}

/* Nodes lie before each other, and are pointed at in the order in which they come. */
static uint8_t *put_node(uint8_t *page, const void *key, size_t key_size, const void *data,
                         size_t data_size)
{
    size_t size = (NODE_HEADER + key_size + data_size + 1) & ~(size_t)1;
    uint16_t lower = get_le16(page + 12), at = (uint16_t)(get_le16(page + 14) - size);

    put_le16(page + lower, at);
    put_le16(page + 12, lower + 2);
    put_le16(page + 14, at);
    put_le32(page + at, (uint32_t)data_size);
    put_le16(page + at + 6, (uint16_t)key_size);
    if (key_size > 0)
        memcpy(page + at + NODE_HEADER, key, key_size);
    if (data_size > 0)
        memcpy(page + at + NODE_HEADER + key_size, data, data_size);
    return page + at;
}

/* A record with its checksum, which goes into the sum. */
static uint8_t *put_record(struct file *file, uint8_t *page, const char *key, size_t payload_size)
{
    static const uint8_t zeros[PAGE];
    uint8_t value[PAGE] = {0};
    size_t size = strlen(key);
    uint64_t checksum = checksum64_seeded(zeros, payload_size, checksum64(key, size));

    put_le64(value + payload_size, checksum);
    file->sum += checksum;
    return put_node(page, key, size, value, payload_size + 8);
}

static void put_seal_as(struct file *file, uint8_t *page, const char *key, size_t payload_size)
{
    uint8_t value[64] = {0};
    size_t size = strlen(key);

    put_le64(value, 1);
    put_le64(value + 8, file->sum);
    put_le64(value + payload_size, checksum64_seeded(value, payload_size, checksum64(key, size)));
    put_node(page, key, size, value, payload_size + 8);
}

static void put_seal(struct file *file, uint8_t *page)
{
    put_seal_as(file, page, "Z", MANIFEST_SEAL_SIZE);
}

/* One leaf, page 2, with so many records. */
static struct tree one_leaf(uint64_t entries)
{
    return (struct tree){.depth = 1, .leaves = 1, .entries = entries, .root = 2};
}

static struct tree one_leaf_of_free_pages(uint64_t entries)
{
    return (struct tree){.flags = 8, .depth = 1, .leaves = 1, .entries = entries, .root = 2};
}

static struct file *file_with_records(uint64_t entries)
{
    struct file *file = file_new();
    struct tree tree = one_leaf(entries);

    begin(file, &no_free_pages, &tree);
    begin_page(file, 2, LEAF);
    return file;
}

static struct file *file_with_free_pages(uint64_t entries)
{
    struct file *file = file_new();
    struct tree tree = one_leaf_of_free_pages(entries);

    begin(file, &tree, &no_records);
    begin_page(file, 2, LEAF);
    return file;
}

/* ---- records ---- */

static void files_written_by_hand_are_in_order(void **state)
{
    struct file *file = file_new();

    (void)state;
    begin(file, &no_free_pages, &no_records);
    assert_int_equal(check(file), 0);
    file = file_with_records(3);
    put_record(file, file->bytes + 2 * PAGE, "B1", 20);
    put_record(file, file->bytes + 2 * PAGE, "B2", 21);
    put_seal(file, file->bytes + 2 * PAGE);
    assert_int_equal(check(file), 0);
}

static void a_record_has_a_key_and_a_checksum(void **state)
{
    struct file *file = file_with_records(2);

    (void)state;
    put_record(file, file->bytes + 2 * PAGE, "", 20);
    put_seal(file, file->bytes + 2 * PAGE);
    assert_int_equal(check(file), ERROR_CORRUPT);
    for (size_t size = 0; size < 8; size++) {
        file = file_with_records(2);
        put_node(file->bytes + 2 * PAGE, "B", 1, "1234567", size);
        put_seal(file, file->bytes + 2 * PAGE);
        assert_int_equal(check(file), ERROR_CORRUPT);
    }
}

static void a_seal_has_one_key_and_one_size(void **state)
{
    struct file *file = file_with_records(2);

    (void)state;
    put_record(file, file->bytes + 2 * PAGE, "B1", 20);
    put_seal_as(file, file->bytes + 2 * PAGE, "Z2", MANIFEST_SEAL_SIZE);
    assert_int_equal(check(file), ERROR_CORRUPT);
    file = file_with_records(2);
    put_record(file, file->bytes + 2 * PAGE, "B1", 20);
    put_seal_as(file, file->bytes + 2 * PAGE, "Z", MANIFEST_SEAL_SIZE + 1);
    assert_int_equal(check(file), ERROR_CORRUPT);
}

static void a_seal_names_the_transaction_of_its_tree(void **state)
{
    for (uint64_t transaction = 0; transaction < 3; transaction++) {
        struct file *file = file_with_records(1);
        uint8_t value[24] = {0};

        (void)state;
        put_le64(value, transaction);
        put_le64(value + 16, checksum64_seeded(value, 16, checksum64("Z", 1)));
        put_node(file->bytes + 2 * PAGE, "Z", 1, value, sizeof value);
        assert_int_equal(check(file), transaction == 1 ? 0 : ERROR_CORRUPT);
    }
}

static void keys_rise(void **state)
{
    static const struct {
        const char *first, *second;
        int error;
    } cases[] = {{"B1", "B2", 0}, {"B2", "B1", ERROR_CORRUPT}, {"B1", "B1", ERROR_CORRUPT}};

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct file *file = file_with_records(3);

        put_record(file, file->bytes + 2 * PAGE, cases[i].first, 20);
        put_record(file, file->bytes + 2 * PAGE, cases[i].second, 20);
        put_seal(file, file->bytes + 2 * PAGE);
        assert_int_equal(check(file), cases[i].error);
    }
}

/* ---- lists of free pages ---- */

static void free_pages_are_numbers_under_rising_numbers(void **state)
{
    static const struct {
        uint64_t transactions[2];
        uint64_t count, page; /* of the second */
        int error;
    } cases[] = {
        {{1, 256}, 1, 5, 0},
        {{1, 257}, 1, 5, 0},
        {{0, 1}, 1, 5, ERROR_CORRUPT},
        {{1, 258}, 1, 5, ERROR_CORRUPT}, /* not yet */
        {{256, 1}, 1, 5, ERROR_CORRUPT}, /* as bytes they would rise */
        {{1, 1}, 1, 5, ERROR_CORRUPT},
        {{1, 2}, 1, 1, ERROR_CORRUPT}, /* a meta page */
        {{1, 2}, 1, 0, ERROR_CORRUPT},
        {{1, 2}, 1, 2, ERROR_CORRUPT}, /* the list itself */
        {{1, 2}, 1, 4, ERROR_CORRUPT}, /* free already */
        {{1, 2}, 1, PAGES_MAX, ERROR_CORRUPT},
        {{1, 2}, 2, 5, ERROR_CORRUPT}, /* more than there are */
        {{1, 2}, UINT64_MAX, 5, ERROR_CORRUPT},
        {{1, 2}, 0, 5, 0},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct file *file = file_with_free_pages(2);

        put_le64(file->bytes + META_TRANSACTION, 256);
        put_le64(file->bytes + PAGE + META_TRANSACTION, 257);
        for (size_t j = 0; j < 2; j++) {
            uint8_t key[8], data[16];

            put_le64(key, cases[i].transactions[j]);
            put_le64(data, j == 0 ? 1 : cases[i].count);
            put_le64(data + 8, j == 0 ? 4 : cases[i].page);
            put_node(file->bytes + 2 * PAGE, key, 8, data, 16);
        }
        if (check(file) != cases[i].error)
            fail_msg("case %zu", i);
    }
}

static void a_list_of_free_pages_has_a_whole_number_as_key_and_a_count(void **state)
{
    static const uint8_t zeros[16], one[16] = {1};

    (void)state;
    for (size_t key = 0; key <= 16; key++) {
        struct file *file = file_with_free_pages(1);

        put_node(file->bytes + 2 * PAGE, one, key, zeros, 8);
        assert_int_equal(check(file), key == 8 ? 0 : ERROR_CORRUPT);
    }
    for (size_t size = 0; size <= 8; size++) {
        struct file *file = file_with_free_pages(1);

        put_node(file->bytes + 2 * PAGE, one, 8, zeros, size);
        assert_int_equal(check(file), size == 8 ? 0 : ERROR_CORRUPT);
    }
}

/* ---- pages ---- */

static void a_leaf_has_a_node_and_a_branch_has_two(void **state)
{
    struct file *file = file_with_records(0);
    struct tree tree = {.depth = 2, .branches = 1, .leaves = 1, .entries = 1, .root = 3};
    uint8_t *node;

    (void)state;
    assert_int_equal(check(file), ERROR_CORRUPT);

    file = file_with_records(1);
    begin(file, &no_free_pages, &tree);
    put_seal(file, file->bytes + 2 * PAGE);
    node = put_node(begin_page(file, 3, BRANCH), NULL, 0, NULL, 0);
    put_le32(node, 2);
    assert_int_equal(check(file), ERROR_CORRUPT);
}

/* The third pointer lies in the first two bytes of the node that it points at. */
static void pointers_end_where_nodes_begin(void **state)
{
    enum { AT = PAGE_HEADER + 4, SMALL = NODE_HEADER + 1 + AT + 1, LARGE = 2000 };
    struct file *file = file_with_records(3);
    uint8_t *page = file->bytes + 2 * PAGE;

    (void)state;
    put_record(file, page, "B", LARGE - NODE_HEADER - 1 - 8 - 1);
    put_record(file, page, "C", PAGE - AT - SMALL - LARGE - NODE_HEADER - 1 - 8);
    assert_int_equal(get_le16(page + 14), AT + SMALL);
    put_record(file, page, "D", AT - 8);
    assert_int_equal(get_le16(page + 12), AT + 2); /* beyond upper */
    assert_int_equal(get_le16(page + 14), AT);
    assert_int_equal(get_le16(page + AT), AT); /* its data's size */
    assert_int_equal(check(file), ERROR_CORRUPT);
}

static void pointers_lie_at_even_places_and_inside_of_the_page(void **state)
{
    static const uint16_t bad[] = {0,    PAGE_HEADER - 2,        PAGE - 1,
                                   PAGE, PAGE - NODE_HEADER + 2, 65534};

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct file *file = file_with_records(1);

        put_seal(file, file->bytes + 2 * PAGE);
        put_le16(file->bytes + 2 * PAGE + PAGE_HEADER, bad[i]);
        assert_int_equal(check(file), ERROR_CORRUPT);
    }
    for (uint16_t lower = 0; lower < 30; lower++) {
        struct file *file = file_with_records(1);

        put_seal(file, file->bytes + 2 * PAGE);
        put_le16(file->bytes + 2 * PAGE + 12, lower);
        assert_int_equal(check(file), lower == PAGE_HEADER + 2 ? 0 : ERROR_CORRUPT);
    }
    for (size_t i = 0; i < 2; i++) {
        static const uint16_t uppers[] = {PAGE + 2, 65534};
        struct file *file = file_with_records(1);

        put_seal(file, file->bytes + 2 * PAGE);
        put_le16(file->bytes + 2 * PAGE + 14, uppers[i]);
        assert_int_equal(check(file), ERROR_CORRUPT);
    }
}

/* ---- trees ---- */

static void a_tree_without_depth_has_no_root(void **state)
{
    struct file *file = file_with_records(1);
    struct tree tree = {.root = 2};

    (void)state;
    put_seal(file, file->bytes + 2 * PAGE);
    begin(file, &no_free_pages, &tree);
    assert_int_equal(check(file), ERROR_CORRUPT);
    file = file_new();
    tree = one_leaf(0);
    tree.root = NO_PAGE;
    begin(file, &no_free_pages, &tree);
    assert_int_equal(check(file), ERROR_CORRUPT);
}

/* A branch whose first child is a branch whose first child ...: as deep as the file is long. */
static void no_tree_is_deeper_than_lmdb_makes_them(void **state)
{
    enum { SIZE = 512, DEPTH = 65535 };
    struct tree tree = {.depth = DEPTH, .branches = DEPTH, .root = 2};
    uint8_t *bytes = calloc(DEPTH + 2, SIZE);

    (void)state;
    assert_non_null(bytes);
    put_meta(bytes, SIZE, 0, 1, &no_free_pages, &no_records);
    put_meta(bytes + SIZE, SIZE, 1, DEPTH + 1, &no_free_pages, &tree);
    for (uint64_t number = 2; number < DEPTH + 2; number++) {
        uint8_t *page = bytes + number * SIZE, *node;

        put_le64(page, number);
        put_le16(page + 10, BRANCH);
        put_le16(page + 12, PAGE_HEADER);
        put_le16(page + 14, SIZE);
        for (uint64_t child = 1; child <= 2; child++) {
            node = put_node(page, "key", child == 1 ? 0 : 3, NULL, 0);
            put_le32(node, (uint32_t)(number + child));
        }
    }
    assert_int_equal(check_bytes(bytes, (DEPTH + 2) * (size_t)SIZE), ERROR_CORRUPT);
    free(bytes);
}

/* ---- meta pages ---- */

static int check_empty(uint32_t size, uint32_t other_size, bool swapped)
{
    uint8_t *bytes = calloc(2, size);
    int error;

    assert_non_null(bytes);
    put_meta(bytes, size, 0, 1, &no_free_pages, &no_records);
    put_meta(bytes + size, other_size, 1, 1, &no_free_pages, &no_records);
    for (size_t i = 0; swapped && i < 2; i++) /* only the numbers of the transactions */
        put_le64(bytes + i * size + PAGE_HEADER + 128, 4 - i);
    error = check_bytes(bytes, 2 * (size_t)size);
    free(bytes);
    return error;
}

static void a_page_size_is_a_power_of_two_that_lmdb_knows_in_both_meta_pages(void **state)
{
    (void)state;
    for (uint32_t size = 512; size <= 32768; size *= 2) {
        assert_int_equal(check_empty(size, size, false), 0);
        assert_int_equal(check_empty(size, size * 2, false), ERROR_CORRUPT);
        assert_int_equal(check_empty(size, 0, false), ERROR_CORRUPT);
        assert_int_equal(check_empty(size + 512, size + 512, false),
                         size == 512 ? 0 : ERROR_CORRUPT);
    }
    assert_int_equal(check_empty(256, 256, false), ERROR_CORRUPT);
    assert_int_equal(check_empty(65536, 65536, false), ERROR_CORRUPT);
}

static void even_transactions_are_in_the_first_meta_page(void **state)
{
    struct file *file = file_new();

    (void)state;
    begin(file, &no_free_pages, &no_records);
    put_le64(file->bytes + PAGE_HEADER + 128, 3);
    put_le64(file->bytes + PAGE + PAGE_HEADER + 128, 2);
    assert_int_equal(check(file), ERROR_CORRUPT);
    assert_int_equal(check_empty(4096, 4096, true), 0); /* 4 and 3 */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(files_written_by_hand_are_in_order),
        cmocka_unit_test(a_record_has_a_key_and_a_checksum),
        cmocka_unit_test(a_seal_has_one_key_and_one_size),
        cmocka_unit_test(a_seal_names_the_transaction_of_its_tree),
        cmocka_unit_test(keys_rise),
        cmocka_unit_test(free_pages_are_numbers_under_rising_numbers),
        cmocka_unit_test(a_list_of_free_pages_has_a_whole_number_as_key_and_a_count),
        cmocka_unit_test(a_leaf_has_a_node_and_a_branch_has_two),
        cmocka_unit_test(pointers_end_where_nodes_begin),
        cmocka_unit_test(pointers_lie_at_even_places_and_inside_of_the_page),
        cmocka_unit_test(a_tree_without_depth_has_no_root),
        cmocka_unit_test(no_tree_is_deeper_than_lmdb_makes_them),
        cmocka_unit_test(a_page_size_is_a_power_of_two_that_lmdb_knows_in_both_meta_pages),
        cmocka_unit_test(even_transactions_are_in_the_first_meta_page),
    };

    /* Every refusal is logged. */
    if (getenv("VARVE_TEST_LOUD") == NULL && freopen("/dev/null", "w", stderr) == NULL)
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
