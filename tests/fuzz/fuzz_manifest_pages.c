/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_manifest_pages.c - a whole data.mdb of any bytes
 *
 * Whatever manifest_pages_check() passes LMDB must survive: it is opened and loaded as a store's
 * manifest would be, and one more commit is made. With FUZZ_SEAL the checksums of the records that
 * the tree leads to, and the seal, are made right first, so that what lies behind them is reached.
 */
#include "tests/fuzz/fuzz.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "engine/base/checksum.h"
#include "engine/base/endian.h"
#include "engine/base/error.h"
#include "engine/manifest.h"
#include "engine/manifest_pages.h"
#include "engine/manifest_record.h"
#include "tests/lib/test_directory.h"

#define PAGE_HEADER 16
#define NODE_HEADER 8
#define DEPTH_MAX   8
#define MAP_SIZE    ((size_t)1 << 20)

static char *directory, *data_path, *lock_path;

/* ---- making checksums right ---- */

struct image {
    uint8_t *bytes;
    size_t size, page_size;
    uint64_t sum;
    uint8_t *seal; /* its value, of 24 bytes; NULL: not met */
    unsigned visits;
};

static void seal_value(struct image *image, struct slice key, uint8_t *value, size_t size)
{
    size_t payload = size - 8;

    put_le64(value + payload, checksum64_seeded(value, payload, checksum64(key.data, key.size)));
    if (key.data[0] != MANIFEST_KEY_SEAL)
        image->sum += get_le64(value + payload);
    else if (size == MANIFEST_SEAL_SIZE + 8)
        image->seal = value;
}

static void seal_leaf(struct image *image, uint8_t *page, size_t at)
{
    size_t size = get_le32(page + at), key_size = get_le16(page + at + 6);
    size_t room = image->page_size - at - NODE_HEADER;
    struct slice key = slice_of(page + at + NODE_HEADER, key_size);
    uint64_t first;

    if (key_size == 0 || key_size > room || size < 8)
        return;
    if ((page[at + 4] & 1) == 0) {
        if (size <= room - key_size)
            seal_value(image, key, page + at + NODE_HEADER + key_size, size);
        return;
    }
    if (room - key_size < 8)
        return;
    first = get_le64(page + at + NODE_HEADER + key_size);
    if (first < image->size / image->page_size &&
        size <= image->size - (size_t)first * image->page_size - PAGE_HEADER)
        seal_value(image, key, image->bytes + (size_t)first * image->page_size + PAGE_HEADER, size);
}

static void seal_tree(struct image *image, uint64_t number, unsigned depth)
{
    uint8_t *page;
    size_t lower;

    if (depth == 0 || number < 2 || number >= image->size / image->page_size ||
        ++image->visits > 1000)
        return;
    page = image->bytes + (size_t)number * image->page_size;
    lower = get_le16(page + 12);
    for (size_t i = PAGE_HEADER; i + 2 <= lower && i + 2 <= image->page_size; i += 2) {
        size_t at = get_le16(page + i);

        if (at > image->page_size - NODE_HEADER)
            continue;
        if (depth == 1)
            seal_leaf(image, page, at);
        else
            seal_tree(image, get_le32(page + at) | (uint64_t)get_le16(page + at + 4) << 32,
                      depth - 1);
    }
}

static void seal(uint8_t *bytes, size_t size)
{
    struct image image = {.bytes = bytes, .size = size, .page_size = 4096};
    uint8_t *meta = bytes + PAGE_HEADER;
    unsigned depth;

    if (size < 3 * image.page_size)
        return;
    if (get_le64(meta + image.page_size + 128) > get_le64(meta + 128))
        meta += image.page_size;
    depth = get_le16(meta + 24 + 48 + 6);
    seal_tree(&image, get_le64(meta + 24 + 48 + 40), depth < DEPTH_MAX ? depth : DEPTH_MAX);
    if (image.seal == NULL)
        return;
    put_le64(image.seal, get_le64(meta + 128));
    put_le64(image.seal + 8, image.sum);
    put_le64(image.seal + 16,
             checksum64_seeded(image.seal, MANIFEST_SEAL_SIZE,
                               checksum64((const uint8_t[]){MANIFEST_KEY_SEAL}, 1)));
}

/* ---- what passed is LMDB's now ---- */

static void use(void)
{
    struct manifest_options options = {
        .path = directory, .map_size_bytes = MAP_SIZE, .change_log_entries_max = 16};
    struct manifest *manifest;
    struct manifest_state state;

    if (manifest_open(&options, &manifest) != 0)
        return;
    if (manifest_load(manifest, &state) == 0) {
        struct manifest_edit edit = {.scalars = &state.scalars};

        state.scalars.unclean_starts++;
        (void)manifest_commit(manifest, &edit);
        manifest_state_free(&state);
    }
    manifest_close(manifest);
    (void)unlink(lock_path);
}

int LLVMFuzzerInitialize(int *argument_count, char ***arguments)
{
    (void)argument_count;
    (void)arguments;
    log_set_level(LOG_LEVEL_ERROR);
    directory = test_directory_make();
    data_path = test_path(directory, "data.mdb");
    lock_path = test_path(directory, "lock.mdb");
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t *copy;
    int descriptor, error;

    if (size < 1)
        return 0;
    copy = fuzz_copy(data + 1, size - 1);
    if ((data[0] & FUZZ_SEAL) != 0)
        seal(copy, size - 1);
    test_file_write(data_path, copy, size - 1);
    free(copy);
    descriptor = open(data_path, O_RDONLY | O_CLOEXEC);
    fuzz_require(descriptor >= 0);
    error = manifest_pages_check(descriptor, "fuzz");
    (void)close(descriptor);
    fuzz_require(error == 0 || error == ERROR_CORRUPT || error == ERROR_TRUNCATED);
    if (error == 0)
        use();
    return 0;
}
