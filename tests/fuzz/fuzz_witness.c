/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_witness.c - wal/SYNCED of any bytes
 *
 * It is believed or it is not, and nothing else happens: what is believed is whole, of this store
 * and of this version. FUZZ_SEAL makes the checksum right.
 */
#include "tests/fuzz/fuzz.h"

#include "engine/base/checksum.h"
#include "engine/base/endian.h"
#include "engine/engine_internal.h"
#include "tests/fuzz/memory_io.h"

enum { AT_VERSION = 8, AT_UUID = 16, AT_SEQUENCE = 32, AT_CHECKSUM = 40, SIZE = 48 };

static struct memory_io *memory;
static const uint8_t uuid[STORE_UUID_SIZE] = "sixteen letters";

int LLVMFuzzerInitialize(int *argument_count, char ***arguments)
{
    (void)argument_count;
    (void)arguments;
    log_set_level(LOG_LEVEL_ERROR);
    memory = memory_io_new();
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint64_t sequence = 1;
    uint8_t *copy;

    if (size < 1)
        return 0;
    copy = fuzz_copy(data + 1, size - 1);
    if ((data[0] & FUZZ_SEAL) != 0 && size - 1 >= SIZE)
        put_le64(copy + AT_CHECKSUM, checksum64(copy, AT_CHECKSUM));
    memory_io_put(memory, "SYNCED", slice_of(copy, size - 1));
    fuzz_require(engine_witness_read(memory_io_get(memory), memory_io_directory(memory), uuid,
                                     &sequence) == 0);
    if (sequence != 0) {
        fuzz_require(size - 1 >= SIZE && memcmp(copy, "VARVESYN", 8) == 0);
        fuzz_require(get_le32(copy + AT_VERSION) == 1);
        fuzz_require(memcmp(copy + AT_UUID, uuid, sizeof uuid) == 0);
        fuzz_require(get_le64(copy + AT_SEQUENCE) == sequence);
        fuzz_require(get_le64(copy + AT_CHECKSUM) == checksum64(copy, AT_CHECKSUM));
    }
    free(copy);
    memory_io_clear(memory);
    return 0;
}
