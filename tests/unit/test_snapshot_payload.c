/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_snapshot_payload.c - creation time and tags: what is decoded encodes to the same bytes
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/base/endian.h"
#include "snapshot/snapshot_internal.h"

#define HEAD_SIZE 20

static const struct timespec created = {.tv_sec = 1234567890, .tv_nsec = 987654321};
static const struct snapshot_tag tags[] = {{"host", "alpha"}, {"note", ""}};

static void encode(struct buffer *to)
{
    assert_int_equal(snapshot_payload_encode(created, tags, 2, to), 0);
}

/* Decoding refuses these bytes, and leaves what it would have returned. */
static void assert_refused(const struct buffer *bytes, int error)
{
    struct snapshot_tags decoded = {.count = 77};
    struct timespec time = {.tv_sec = 5};

    assert_int_equal(snapshot_payload_decode(buffer_slice(bytes), &time, &decoded), error);
    assert_int_equal(decoded.count, 77);
    assert_int_equal(time.tv_sec, 5);
}

static void what_was_encoded_is_decoded(void **state)
{
    struct snapshot_tags decoded = {0};
    struct buffer bytes = {0};
    struct timespec time;

    (void)state;
    encode(&bytes);
    assert_int_equal(snapshot_payload_decode(buffer_slice(&bytes), &time, &decoded), 0);
    assert_int_equal(time.tv_sec, created.tv_sec);
    assert_int_equal(time.tv_nsec, created.tv_nsec);
    assert_int_equal(decoded.count, 2);
    for (size_t i = 0; i < 2; i++) {
        assert_string_equal(decoded.items[i].key, tags[i].key);
        assert_string_equal(decoded.items[i].value, tags[i].value);
    }
    snapshot_tags_free(&decoded);
    buffer_free(&bytes);
}

static void an_empty_key_is_neither_encoded_nor_decoded(void **state)
{
    const struct snapshot_tag nameless = {"", "alpha"};
    struct buffer bytes = {0};

    (void)state;
    assert_int_equal(snapshot_payload_encode(created, &nameless, 1, &bytes), -EINVAL);
    bytes.size = 0;
    encode(&bytes);
    /* The first tag's key becomes a part of its value. */
    put_le16(bytes.data + HEAD_SIZE, 0);
    put_le16(bytes.data + HEAD_SIZE + 2, 9);
    assert_refused(&bytes, ERROR_CORRUPT);
    buffer_free(&bytes);
}

static void a_nul_in_a_tag_is_refused(void **state)
{
    struct buffer bytes = {0};

    (void)state;
    encode(&bytes);
    bytes.data[HEAD_SIZE + 4] = 0;
    assert_refused(&bytes, ERROR_CORRUPT);
    buffer_free(&bytes);
}

static void every_prefix_and_every_longer_one_is_refused(void **state)
{
    struct buffer bytes = {0}, part = {0};

    (void)state;
    encode(&bytes);
    for (size_t size = 0; size < bytes.size; size++) {
        part.size = 0;
        assert_int_equal(buffer_append(&part, bytes.data, size), 0);
        assert_refused(&part, ERROR_CORRUPT);
    }
    assert_int_equal(buffer_append(&bytes, "", 1), 0);
    assert_refused(&bytes, ERROR_CORRUPT);
    buffer_free(&part);
    buffer_free(&bytes);
}

static void other_versions_are_told_apart(void **state)
{
    struct buffer bytes = {0};

    (void)state;
    encode(&bytes);
    put_le32(bytes.data, 2);
    assert_refused(&bytes, ERROR_VERSION_NEWER);
    put_le32(bytes.data, 0);
    assert_refused(&bytes, ERROR_CORRUPT);
    buffer_free(&bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_encoded_is_decoded),
        cmocka_unit_test(an_empty_key_is_neither_encoded_nor_decoded),
        cmocka_unit_test(a_nul_in_a_tag_is_refused),
        cmocka_unit_test(every_prefix_and_every_longer_one_is_refused),
        cmocka_unit_test(other_versions_are_told_apart),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
