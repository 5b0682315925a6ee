/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_sealed_manifest.c - the manifest of a checkpoint, and CURRENT
 *
 * With FUZZ_SEAL the manifest's checksum is made to be right. Bit 1: the first 56 bytes are CURRENT
 * (which is sealed and made to name the manifest, when FUZZ_SEAL says so); both are read as files.
 */
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/memory_io.h"

#include "engine/base/checksum.h"
#include "engine/base/endian.h"
#include "engine/base/error.h"
#include "engine/sealed_manifest.h"

enum { AS_FILES = 1 << 1 };

#define CURRENT_SIZE 56

/* What decodes encodes again, to something that means the same. */
static void check_round_trip(struct slice bytes)
{
    struct sealed_manifest manifest = {0}, again = {0};
    struct buffer encoded = {0}, encoded_again = {0};

    if (sealed_manifest_decode(bytes, &manifest) != 0)
        return;
    fuzz_require(sealed_manifest_encode(&manifest, &encoded) == 0);
    fuzz_require(sealed_manifest_decode(buffer_slice(&encoded), &again) == 0);
    fuzz_require(sealed_manifest_encode(&again, &encoded_again) == 0);
    fuzz_require(slice_equal(buffer_slice(&encoded), buffer_slice(&encoded_again)));
    fuzz_require(again.table_count == manifest.table_count &&
                 again.blob_count == manifest.blob_count && again.sequence == manifest.sequence);
    buffer_free(&encoded);
    buffer_free(&encoded_again);
    sealed_manifest_free(&manifest);
    sealed_manifest_free(&again);
}

static void read_files(uint8_t *current, struct slice manifest, uint64_t id, bool sealed)
{
    struct memory_io *memory = memory_io_new();
    struct sealed_manifest decoded = {0};
    struct checksum128 hash = fuzz_checksum128(manifest.data, manifest.size), read_hash;
    char name[32];

    if (sealed) {
        memcpy(current, "VARVECUR", 8);
        put_le32(current + 8, 1);
        put_le64(current + 16, id);
        put_le64(current + 24, hash.low);
        put_le64(current + 32, hash.high);
        put_le64(current + 40, manifest.size);
        put_le64(current + 48, checksum64(current, 48));
    }
    snprintf(name, sizeof name, "MANIFEST-%016llx", (unsigned long long)id);
    memory_io_put(memory, name, manifest);
    memory_io_put(memory, "CURRENT", slice_of(current, CURRENT_SIZE));
    if (sealed_manifest_read(memory_io_get(memory), memory_io_directory(memory), &decoded,
                             &read_hash) == 0) {
        fuzz_require(read_hash.low == hash.low && read_hash.high == hash.high);
        fuzz_require(decoded.checkpoint_id == id);
        sealed_manifest_free(&decoded);
    }
    (void)sealed_manifest_read_id(memory_io_get(memory), memory_io_directory(memory), &id);
    memory_io_free(memory);
}

int LLVMFuzzerInitialize(int *argument_count, char ***arguments)
{
    (void)argument_count;
    (void)arguments;
    log_set_level(LOG_LEVEL_ERROR);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    bool sealed, as_files;
    uint8_t *copy, *manifest;
    size_t manifest_size;

    if (size < 1)
        return 0;
    sealed = (data[0] & FUZZ_SEAL) != 0;
    as_files = (data[0] & AS_FILES) != 0;
    size--;
    if (as_files && size < CURRENT_SIZE)
        return 0;
    copy = fuzz_copy(data + 1, size);
    manifest = copy + (as_files ? CURRENT_SIZE : 0);
    manifest_size = size - (as_files ? CURRENT_SIZE : 0);
    if (sealed && manifest_size >= 40) {
        memcpy(manifest, "VARVESEA", 8);
        put_le32(manifest + 8, 1);
        put_le64(manifest + manifest_size - 8, checksum64(manifest, manifest_size - 8));
    }
    if (as_files)
        read_files(copy, slice_of(manifest, manifest_size),
                   manifest_size >= 40 ? get_le64(manifest + 32) : 1, sealed);
    else
        check_round_trip(slice_of(manifest, manifest_size));
    free(copy);
    return 0;
}
