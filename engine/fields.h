/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fields.h - the fixed-width, little-endian fields of a record, one after the other
 *
 * A writer appends to a buffer and a reader takes from a slice. Both keep the first failure, so
 * that a record is written or read in one run and judged once at its end. A reader that has run out
 * gives zeros and never touches a byte beyond its slice.
 *
 * Threads: one reader or writer belongs to one thread.
 */
#ifndef VARVE_ENGINE_FIELDS_H
#define VARVE_ENGINE_FIELDS_H

#include "engine/base/bytes.h"
#include "engine/base/checksum.h"
#include "engine/base/endian.h"
#include "engine/base/error.h"

struct field_writer {
    struct buffer *to;
    int error; /* 0 or -ENOMEM */
};

static inline void field_put_bytes(struct field_writer *writer, const void *data, size_t size)
{
    if (writer->error == 0 && size > 0)
        writer->error = buffer_append(writer->to, data, size);
}

static inline void field_put_u8(struct field_writer *writer, uint8_t value)
{
    field_put_bytes(writer, &value, sizeof value);
}

static inline void field_put_u32(struct field_writer *writer, uint32_t value)
{
    uint8_t bytes[sizeof value];

    put_le32(bytes, value);
    field_put_bytes(writer, bytes, sizeof bytes);
}

static inline void field_put_u64(struct field_writer *writer, uint64_t value)
{
    uint8_t bytes[sizeof value];

    put_le64(bytes, value);
    field_put_bytes(writer, bytes, sizeof bytes);
}

static inline void field_put_checksum128(struct field_writer *writer, struct checksum128 value)
{
    field_put_u64(writer, value.low);
    field_put_u64(writer, value.high);
}

struct field_reader {
    struct slice left;
    bool failed; /* something was taken that is not there */
};

static inline struct field_reader field_reader_of(struct slice from)
{
    return (struct field_reader){.left = from, .failed = false};
}

/* `size` bytes, which live as long as the slice read from; an empty slice after a failure. */
static inline struct slice field_take_bytes(struct field_reader *reader, size_t size)
{
    struct slice taken = {reader->left.data, size};

    if (reader->failed || size > reader->left.size) {
        reader->failed = true;
        return (struct slice){NULL, 0};
    }
    if (size > 0)
        reader->left = slice_of(reader->left.data + size, reader->left.size - size);
    return taken;
}

static inline uint8_t field_take_u8(struct field_reader *reader)
{
    struct slice bytes = field_take_bytes(reader, 1);

    return reader->failed ? 0 : bytes.data[0];
}

static inline uint32_t field_take_u32(struct field_reader *reader)
{
    struct slice bytes = field_take_bytes(reader, 4);

    return reader->failed ? 0 : get_le32(bytes.data);
}

static inline uint64_t field_take_u64(struct field_reader *reader)
{
    struct slice bytes = field_take_bytes(reader, 8);

    return reader->failed ? 0 : get_le64(bytes.data);
}

static inline struct checksum128 field_take_checksum128(struct field_reader *reader)
{
    struct checksum128 value;

    value.low = field_take_u64(reader);
    value.high = field_take_u64(reader);
    return value;
}

/* Everything was there and nothing is left over: 0 or ERROR_CORRUPT. */
static inline int field_reader_end(const struct field_reader *reader)
{
    return reader->failed || reader->left.size > 0 ? ERROR_CORRUPT : 0;
}

#endif
