/* SPDX-License-Identifier: Apache-2.0 */
/*
 * manifest_pages.c - the pages of an LMDB 0.9 data file, walked without LMDB
 *
 * Page: number u64, pad u16, flags u16, then lower u16 and upper u16 (or, of overflow pages, their
 * count u32); from byte 16 to lower the positions of nodes, u16 each; from upper on the nodes.
 * Node: low u16, high u16, flags u16, key size u16, key, data. In a leaf low and high are the size
 * of the data (flag 1: the data is the number of the first overflow page instead); in a branch low,
 * high and flags are the number of the child. Meta page: after 16 bytes magic u32, version u32,
 * address u64, map size u64, two databases (free pages, main), last page u64, transaction u64.
 * Database: pad u32, flags u16, depth u16, branch, leaf and overflow pages, entries, root, u64
 * each. All in the byte order of the machine, which is little-endian here.
 */
#include "engine/manifest_pages.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/base/checksum.h"
#include "engine/base/endian.h"
#include "engine/base/error.h"
#include "engine/base/log.h"
#include "engine/manifest_record.h"

#define PAGE_HEADER   16
#define NODE_HEADER   8
#define META_MAGIC    UINT32_C(0xbeefc0de)
#define META_VERSION  1
#define DATABASE_SIZE 48
#define NO_PAGE       UINT64_MAX
#define DEPTH_MAX     32
#define INTEGER_KEYS  0x08
#define OVERFLOW_DATA 0x01

enum page_flags { PAGE_BRANCH = 0x01, PAGE_LEAF = 0x02, PAGE_OVERFLOW = 0x04, PAGE_META = 0x08 };

struct database {
    uint16_t flags, depth;
    uint64_t branches, leaves, overflows, entries, root;
};

struct meta {
    struct database databases[2]; /* free pages, records */
    uint64_t last_page, transaction;
};

struct pages {
    const char *path;
    uint8_t *bytes;
    size_t size, page_size;
    bool quiet;
    uint8_t *used; /* one for each page: in this tree already */
    const struct meta *meta;
    /* of the tree that is being walked: */
    struct database found;
    uint8_t last_key[MANIFEST_KEY_SIZE_MAX];
    size_t last_key_size;
    bool has_last_key, is_free_list;
    /* of the records: */
    bool sealed;
    struct manifest_seal seal;
    uint64_t sum;
};

void manifest_seal_encode(const struct manifest_seal *seal, uint8_t to[MANIFEST_SEAL_SIZE])
{
    put_le64(to, seal->transaction);
    put_le64(to + 8, seal->sum);
}

uint64_t manifest_seal_share(struct slice value)
{
    return value.size >= 8 ? get_le64(value.data + value.size - 8) : 0;
}

static int damaged(const struct pages *pages, uint64_t page, const char *what)
{
    if (!pages->quiet)
        log_error("manifest %s: data.mdb, page %llu: %s", pages->path, (unsigned long long)page,
                  what);
    return ERROR_CORRUPT;
}

/* ---- pages ---- */

/* Take it as part of the tree: inside of the file, and nowhere else in it. */
static int take_page(struct pages *pages, uint64_t number)
{
    if (number < 2 || number > pages->meta->last_page)
        return damaged(pages, number, "is referred to and is none");
    if (pages->used[number] != 0)
        return damaged(pages, number, "has two uses");
    pages->used[number] = 1;
    return 0;
}

static int open_page(struct pages *pages, uint64_t number, const uint8_t **ret_page)
{
    const uint8_t *page;
    int error = take_page(pages, number);

    if (error < 0)
        return error;
    page = pages->bytes + (size_t)number * pages->page_size;
    if (get_le64(page) != number)
        return damaged(pages, number, "is another page");
    *ret_page = page;
    return 0;
}

/* ---- nodes ---- */

struct node {
    uint16_t flags;
    struct slice key;
    uint32_t data_size;  /* leaf */
    const uint8_t *data; /* leaf: in the page */
    uint64_t child;      /* branch */
    size_t size;         /* in the page, padded */
};

static bool read_node(const struct pages *pages, const uint8_t *page, size_t index, bool is_leaf,
                      struct node *node)
{
    size_t upper = get_le16(page + 14), at = get_le16(page + PAGE_HEADER + 2 * index);
    size_t key_size, data_size = 0;

    if (at < upper || at % 2 != 0 || at > pages->page_size - NODE_HEADER)
        return false;
    *node = (struct node){.flags = get_le16(page + at + 4)};
    key_size = get_le16(page + at + 6);
    node->key = slice_of(page + at + NODE_HEADER, key_size);
    if (is_leaf) {
        node->data_size = get_le32(page + at);
        if ((node->flags & ~OVERFLOW_DATA) != 0)
            return false;
        data_size = (node->flags & OVERFLOW_DATA) != 0 ? 8 : node->data_size;
    } else {
        node->child = (uint64_t)get_le32(page + at) | (uint64_t)node->flags << 32;
    }
    if (key_size > MANIFEST_KEY_SIZE_MAX || data_size > pages->page_size ||
        NODE_HEADER + key_size + data_size > pages->page_size - at)
        return false;
    node->data = page + at + NODE_HEADER + key_size;
    node->size = (NODE_HEADER + key_size + data_size + 1) & ~(size_t)1;
    return true;
}

/* Overflow pages follow each other; their data is one piece. */
static int open_overflow(struct pages *pages, const struct node *node, const uint8_t **ret_data)
{
    uint64_t first = get_le64(node->data);
    uint64_t count = (PAGE_HEADER - 1 + (uint64_t)node->data_size) / pages->page_size + 1;
    const uint8_t *page;
    int error = open_page(pages, first, &page);

    if (error < 0)
        return error;
    if (get_le16(page + 10) != PAGE_OVERFLOW || get_le32(page + 12) != count)
        return damaged(pages, first, "is not the overflow page that it should be");
    for (uint64_t i = 1; error == 0 && i < count; i++)
        error = take_page(pages, first + i);
    pages->found.overflows += count;
    *ret_data = page + PAGE_HEADER;
    return error;
}

/* ---- what leaves hold ---- */

/*
 * Pages that were given back by one transaction, whose number is the key: count, then numbers. Of a
 * list under 0 LMDB deletes another one than it has read, and ends the process when it comes to a
 * page that is taken; one under a number to come meets the list of that transaction.
 */
static int take_free_pages(struct pages *pages, uint64_t page, struct slice key, struct slice data)
{
    uint64_t count;
    int error = 0;

    if (key.size != 8 || data.size < 8)
        return damaged(pages, page, "a list of free pages is malformed");
    if (get_le64(key.data) - 1 >= pages->meta->transaction)
        return damaged(pages, page, "a list of free pages is of no transaction that was");
    count = get_le64(data.data);
    if (count > data.size / 8 - 1)
        return damaged(pages, page, "a list of free pages is malformed");
    for (uint64_t i = 0; error == 0 && i < count; i++)
        error = take_page(pages, get_le64(data.data + 8 + 8 * i));
    return error;
}

static int take_record(struct pages *pages, uint64_t page, struct slice key, struct slice value)
{
    struct slice payload;

    if (key.size < 1 || value.size < 8)
        return damaged(pages, page, "a record is malformed");
    payload = slice_of(value.data, value.size - 8);
    if (get_le64(value.data + payload.size) !=
        checksum64_seeded(payload.data, payload.size, checksum64(key.data, key.size)))
        return pages->quiet ? ERROR_CORRUPT : manifest_record_report(key, ERROR_CORRUPT);
    if (key.data[0] != MANIFEST_KEY_SEAL) {
        pages->sum += manifest_seal_share(value);
        return 0;
    }
    if (key.size != 1 || payload.size != MANIFEST_SEAL_SIZE)
        return damaged(pages, page, "the seal is malformed");
    pages->sealed = true;
    pages->seal = (struct manifest_seal){get_le64(payload.data), get_le64(payload.data + 8)};
    return 0;
}

/* Keys rise through the whole tree: those of records as bytes, those of free pages as numbers. */
static bool key_rises(const struct pages *pages, struct slice key)
{
    if (!pages->has_last_key)
        return true;
    if (pages->is_free_list)
        return key.size == 8 && pages->last_key_size == 8 &&
               get_le64(pages->last_key) < get_le64(key.data);
    return slice_compare(slice_of(pages->last_key, pages->last_key_size), key) < 0;
}

static int take_leaf_node(struct pages *pages, uint64_t page, const struct node *node)
{
    struct slice data = slice_of(node->data, node->data_size);
    int error = 0;

    if (!key_rises(pages, node->key))
        return damaged(pages, page, "keys do not rise");
    memcpy(pages->last_key, node->key.data, node->key.size);
    pages->last_key_size = node->key.size;
    pages->has_last_key = true;
    pages->found.entries++;
    if ((node->flags & OVERFLOW_DATA) != 0)
        error = open_overflow(pages, node, &data.data);
    if (error < 0)
        return error;
    return pages->is_free_list ? take_free_pages(pages, page, node->key, data)
                               : take_record(pages, page, node->key, data);
}

/* ---- trees ---- */

static int walk(struct pages *pages, uint64_t number, unsigned depth)
{
    const uint8_t *page;
    size_t lower, upper, count_min, used = 0;
    bool is_leaf = depth == 1;
    int error = open_page(pages, number, &page);

    if (error < 0)
        return error;
    lower = get_le16(page + 12);
    upper = get_le16(page + 14);
    count_min = is_leaf ? 1 : 2;
    if (get_le16(page + 10) != (is_leaf ? PAGE_LEAF : PAGE_BRANCH) || lower % 2 != 0 ||
        lower > upper) /* which nodes lie behind, and so inside of the page */
        return damaged(pages, number, "its header is malformed");
    if (lower < PAGE_HEADER + 2 * count_min)
        return damaged(pages, number, "has too few nodes");
    if (is_leaf)
        pages->found.leaves++;
    else
        pages->found.branches++;
    for (size_t i = 0; error == 0 && i < (lower - PAGE_HEADER) / 2; i++) {
        struct node node;

        if (!read_node(pages, page, i, is_leaf, &node))
            return damaged(pages, number, "a node is malformed");
        used += node.size;
        error = is_leaf ? take_leaf_node(pages, number, &node) : walk(pages, node.child, depth - 1);
    }
    /* Nodes fill the page to its end, without gaps: none lies over another. */
    if (error == 0 && used != pages->page_size - upper)
        error = damaged(pages, number, "nodes overlap");
    return error;
}

static int walk_database(struct pages *pages, const struct database *database, bool is_free_list)
{
    struct database *found = &pages->found;
    int error = 0;

    *found = (struct database){
        .flags = database->flags, .depth = database->depth, .root = database->root};
    pages->has_last_key = false;
    pages->is_free_list = is_free_list;
    if (database->flags != (is_free_list ? INTEGER_KEYS : 0) || database->depth > DEPTH_MAX ||
        (database->depth == 0) != (database->root == NO_PAGE))
        return damaged(pages, 0, "a database is malformed");
    if (database->depth > 0)
        error = walk(pages, database->root, database->depth);
    if (error == 0 &&
        (found->branches != database->branches || found->leaves != database->leaves ||
         found->overflows != database->overflows || found->entries != database->entries))
        error = damaged(pages, 0, "a database has other pages or entries than it says");
    return error;
}

static int truncated(const struct pages *pages)
{
    if (!pages->quiet)
        log_error("manifest %s: data.mdb ends before its last page", pages->path);
    return ERROR_TRUNCATED;
}

static int check_seal(struct pages *pages)
{
    /* The first version of this program wrote none, and an empty tree has none. */
    if (!pages->sealed)
        return 0;
    if (pages->seal.transaction != pages->meta->transaction)
        return damaged(pages, 0, "its transaction is not the one that the seal names");
    return pages->seal.sum == pages->sum ? 0 : damaged(pages, 0, "records are missing or are old");
}

/* `main` tree first, so that a free list that names its pages is what is wrong. */
static int check_tree(struct pages *pages, const struct meta *meta)
{
    int error;

    pages->meta = meta;
    pages->sealed = false;
    pages->sum = 0;
    if (meta->last_page >= pages->size / pages->page_size)
        return truncated(pages);
    memset(pages->used, 0, pages->size / pages->page_size);
    error = walk_database(pages, &meta->databases[1], false);
    if (error == 0)
        error = check_seal(pages);
    return error == 0 ? walk_database(pages, &meta->databases[0], true) : error;
}

/* ---- meta pages ---- */

static void read_database(const uint8_t *from, struct database *database)
{
    *database = (struct database){
        .flags = get_le16(from + 4),
        .depth = get_le16(from + 6),
        .branches = get_le64(from + 8),
        .leaves = get_le64(from + 16),
        .overflows = get_le64(from + 24),
        .entries = get_le64(from + 32),
        .root = get_le64(from + 40),
    };
}

/* 1; 0: not of this format, which LMDB says better; or damage. */
static int read_meta(struct pages *pages, uint64_t number, struct meta *meta)
{
    const uint8_t *page = pages->bytes + (size_t)number * pages->page_size;
    const uint8_t *from = page + PAGE_HEADER;

    if (get_le64(page) != number || get_le16(page + 10) != PAGE_META ||
        get_le32(from) != META_MAGIC)
        return damaged(pages, number, "is not a meta page");
    if (get_le32(from + 4) != META_VERSION)
        return 0;
    if (get_le64(from + 8) != 0 || get_le32(from + 24) != pages->page_size)
        return damaged(pages, number, "the meta page is malformed");
    read_database(from + 24, &meta->databases[0]);
    read_database(from + 24 + DATABASE_SIZE, &meta->databases[1]);
    meta->last_page = get_le64(from + 24 + 2 * DATABASE_SIZE);
    meta->transaction = get_le64(from + 24 + 2 * DATABASE_SIZE + 8);
    if (meta->transaction % 2 != number && meta->transaction != 0)
        return damaged(pages, number, "the transaction belongs into the other meta page");
    return 1;
}

/*
 * What the other meta page leads to is no longer needed, and it is nonsense after a commit that
 * failed at its meta page: LMDB then puts the old number back, and nothing else. So only this is
 * asked: is it the newer state, with a number that has rotted? A commit that failed was the next
 * one; which of the two it was cannot be told then, and the state before it is taken.
 */
static int check_other(struct pages *pages, const struct meta *other, uint64_t newest)
{
    int error;

    pages->quiet = true;
    error = check_tree(pages, other);
    pages->quiet = false;
    if (error == -ENOMEM)
        return error;
    if (!pages->sealed || pages->seal.transaction <= newest + 1 || pages->seal.sum != pages->sum)
        return 0;
    return damaged(pages, other->transaction % 2,
                   "the meta page has an older number than its tree");
}

/* One transaction after the other: the two meta pages have neighbouring numbers. */
static int check_metas(struct pages *pages)
{
    struct meta metas[2];
    int newest, result = read_meta(pages, 0, &metas[0]);

    if (result > 0)
        result = read_meta(pages, 1, &metas[1]);
    if (result <= 0)
        return result;
    newest = metas[1].transaction > metas[0].transaction;
    if (metas[newest].transaction > metas[!newest].transaction + 1)
        return damaged(pages, (uint64_t)!newest, "the meta page is older than it can be");
    result = check_tree(pages, &metas[newest]);
    return result == 0 ? check_other(pages, &metas[!newest], metas[newest].transaction) : result;
}

static int read_file(struct pages *pages, int descriptor)
{
    struct stat status;
    size_t at = 0;

    if (fstat(descriptor, &status) != 0)
        return -errno;
    pages->size = (size_t)status.st_size;
    pages->bytes = malloc(pages->size + 1);
    if (pages->bytes == NULL)
        return -ENOMEM;
    while (at < pages->size) {
        ssize_t count = pread(descriptor, pages->bytes + at, pages->size - at, (off_t)at);

        if (count < 0 && errno != EINTR)
            return -errno;
        if (count == 0)
            return ERROR_TRUNCATED;
        at += count > 0 ? (size_t)count : 0;
    }
    return 0;
}

static int find_page_size(struct pages *pages)
{
    if (pages->size < PAGE_HEADER + 24 + 4)
        return truncated(pages);
    pages->page_size = get_le32(pages->bytes + PAGE_HEADER + 24);
    if (pages->page_size < 512 || pages->page_size > 32768 ||
        (pages->page_size & (pages->page_size - 1)) != 0)
        return damaged(pages, 0, "the page size is none");
    return pages->size < 2 * pages->page_size ? truncated(pages) : 0;
}

int manifest_pages_check(int descriptor, const char *path)
{
    struct pages pages = {.path = path};
    int error = read_file(&pages, descriptor);

    if (error == 0)
        error = find_page_size(&pages);
    if (error == 0) {
        pages.used = malloc(pages.size / pages.page_size + 1);
        error = pages.used != NULL ? check_metas(&pages) : -ENOMEM;
    }
    free(pages.used);
    free(pages.bytes);
    return error;
}
