/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_manifest_records.c - records of the manifest that are wrong in one field, under checksums
 * that are right: each rule of their decoders decides once alone
 */
#include <errno.h>
#include <fcntl.h>
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
#include "engine/manifest_codec.h"
#include "engine/manifest_pages.h"
#include "engine/manifest_record.h"
#include "tests/lib/manifest_fixture.h"

/* ---- values ---- */

typedef int decode_function(struct slice from);

static int decode_table(struct slice from)
{
    struct manifest_table table;
    int error = manifest_table_decode(&from, &table);

    if (error == 0)
        table_meta_free(&table.meta);
    return error;
}

static int decode_blob(struct slice from)
{
    struct chunk_identity blob;

    return manifest_blob_decode(&from, &blob);
}

static int decode_checkpoint(struct slice from)
{
    struct manifest_checkpoint checkpoint;
    int error = manifest_checkpoint_decode(from, &checkpoint);

    if (error == 0)
        manifest_checkpoint_free(&checkpoint);
    return error;
}

static int decode_scalars(struct slice from)
{
    struct manifest_scalars scalars;

    return manifest_scalars_decode(from, &scalars);
}

static int decode_format(struct slice from)
{
    return manifest_format_check(from);
}

/* In just the memory that it takes, so that a sanitizer sees what is read behind it. */
static int decode_exact(decode_function *decode, const uint8_t *bytes, size_t size)
{
    uint8_t *exact = malloc(size > 0 ? size : 1);
    int error;

    assert_non_null(exact);
    memcpy(exact, bytes, size);
    error = decode(slice_of(exact, size));
    free(exact);
    return error;
}

struct bad_field {
    size_t at, size;
    uint64_t value;
    int error;
};

/* The value as it is, cut short at every place, and with each field in turn. */
static void check_value(decode_function *decode, struct buffer *value,
                        const struct bad_field *fields, size_t count)
{
    assert_int_equal(decode_exact(decode, value->data, value->size), 0);
    for (size_t size = 0; size < value->size; size++)
        if (decode_exact(decode, value->data, size) != ERROR_CORRUPT)
            fail_msg("%zu of %zu bytes", size, value->size);
    for (size_t i = 0; i < count; i++) {
        uint8_t before[8], bad[8];

        put_le64(bad, fields[i].value);
        memcpy(before, value->data + fields[i].at, fields[i].size);
        memcpy(value->data + fields[i].at, bad, fields[i].size);
        if (decode_exact(decode, value->data, value->size) != fields[i].error)
            fail_msg("field %zu", i);
        memcpy(value->data + fields[i].at, before, fields[i].size);
    }
    buffer_free(value);
}

static void a_table_is_refused_for_each_field_alone(void **state)
{
    static const struct bad_field fields[] = {
        {12, 1, MANIFEST_RESIDENCY_LOCAL + 1, ERROR_RESIDENCY},
        {12, 1, UINT8_MAX, ERROR_RESIDENCY},
        {13 + 8, 4, CHUNK_BLOB, ERROR_CORRUPT}, /* the kind, of the identity behind */
        {13 + 8, 4, 0, ERROR_CORRUPT},
    };
    const struct manifest_table table = {.meta.identity = {.id = 5, .kind = CHUNK_TABLE}};
    struct buffer value = {0};

    (void)state;
    assert_int_equal(manifest_table_encode(&table, &value), 0);
    check_value(decode_table, &value, fields, sizeof fields / sizeof *fields);
}

static void a_blob_is_refused_for_each_field_alone(void **state)
{
    static const struct bad_field fields[] = {
        {0, 1, MANIFEST_RESIDENCY_LOCAL + 1, ERROR_RESIDENCY},
        {9, 4, CHUNK_TABLE, ERROR_CORRUPT},
        {9, 4, 0, ERROR_CORRUPT},
    };
    const struct chunk_identity blob = blob_of(5);
    struct buffer value = {0};

    (void)state;
    assert_int_equal(manifest_blob_encode(&blob, &value), 0);
    check_value(decode_blob, &value, fields, sizeof fields / sizeof *fields);
}

static struct manifest_checkpoint checkpoint_with(uint8_t state, size_t name_size,
                                                  size_t payload_size, size_t plan_size)
{
    struct manifest_checkpoint checkpoint = {.id = 5, .state = state};
    uint8_t *bytes = calloc(1, MANIFEST_PAYLOAD_SIZE_MAX + 1);

    assert_non_null(bytes);
    assert_int_equal(buffer_assign(&checkpoint.name, bytes, name_size), 0);
    assert_int_equal(buffer_assign(&checkpoint.payload, bytes, payload_size), 0);
    assert_int_equal(buffer_assign(&checkpoint.plan, bytes, plan_size), 0);
    free(bytes);
    return checkpoint;
}

static void a_checkpoint_is_refused_for_each_field_alone(void **state)
{
    static const struct bad_field fields[] = {
        {0, 8, 0, ERROR_CORRUPT}, /* no id */
        {8, 1, MANIFEST_CHECKPOINT_PENDING, 0},
        {8, 1, MANIFEST_CHECKPOINT_DELETING, 0},
        {8, 1, 0x55, ERROR_CORRUPT}, /* no such state */
        {65, 4, 3, ERROR_CORRUPT},   /* the name has 4 bytes, */
        {65, 4, UINT32_MAX, ERROR_CORRUPT},
        {69, 4, 6, ERROR_CORRUPT}, /* the payload 5 */
        {69, 4, UINT32_MAX, ERROR_CORRUPT},
        {73, 4, 1, ERROR_CORRUPT}, /* and there is no plan */
    };
    struct manifest_checkpoint checkpoint = checkpoint_with(MANIFEST_CHECKPOINT_READY, 4, 5, 0);
    struct buffer value = {0};

    (void)state;
    assert_int_equal(manifest_checkpoint_encode(&checkpoint, &value), 0);
    check_value(decode_checkpoint, &value, fields, sizeof fields / sizeof *fields);
    manifest_checkpoint_free(&checkpoint);

    checkpoint = checkpoint_with(MANIFEST_CHECKPOINT_PENDING, 4, 5, 6);
    assert_int_equal(manifest_checkpoint_encode(&checkpoint, &value), 0);
    value.data[8] = MANIFEST_CHECKPOINT_READY; /* which has no plan any more */
    assert_int_equal(decode_exact(decode_checkpoint, value.data, value.size), ERROR_CORRUPT);
    value.data[8] = MANIFEST_CHECKPOINT_PENDING;
    check_value(decode_checkpoint, &value, NULL, 0);
    manifest_checkpoint_free(&checkpoint);
}

/* A checkpoint whose strings are as long as they say, and one of them too long. */
static void strings_of_a_checkpoint_have_bounds(void **state)
{
    static const struct {
        size_t name, payload;
        int error;
    } cases[] = {
        {MANIFEST_NAME_SIZE_MAX, MANIFEST_PAYLOAD_SIZE_MAX, 0},
        {MANIFEST_NAME_SIZE_MAX + 1, 0, ERROR_CORRUPT},
        {0, MANIFEST_PAYLOAD_SIZE_MAX + 1, ERROR_CORRUPT},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct manifest_checkpoint checkpoint =
            checkpoint_with(MANIFEST_CHECKPOINT_READY, cases[i].name, cases[i].payload, 0);
        size_t size = 77 + cases[i].name + cases[i].payload;
        uint8_t *bytes = calloc(1, size);
        struct buffer value = {0};

        assert_non_null(bytes);
        assert_int_equal(manifest_checkpoint_encode(&checkpoint, &value),
                         cases[i].error == 0 ? 0 : -EINVAL);
        put_le64(bytes, 5);
        bytes[8] = MANIFEST_CHECKPOINT_READY;
        put_le32(bytes + 65, (uint32_t)cases[i].name);
        put_le32(bytes + 69, (uint32_t)cases[i].payload);
        assert_int_equal(decode_checkpoint(slice_of(bytes, size)), cases[i].error);
        free(bytes);
        buffer_free(&value);
        manifest_checkpoint_free(&checkpoint);
    }
}

static void a_plan_has_a_bound(void **state)
{
    const size_t size = 77 + MANIFEST_PLAN_SIZE_MAX + 1;
    uint8_t *bytes = mmap(NULL, size, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    (void)state;
    assert_true(bytes != MAP_FAILED);
    put_le64(bytes, 5);
    bytes[8] = MANIFEST_CHECKPOINT_PENDING;
    put_le32(bytes + 73, (uint32_t)MANIFEST_PLAN_SIZE_MAX + 1);
    assert_int_equal(decode_checkpoint(slice_of(bytes, size)), ERROR_CORRUPT);
    munmap(bytes, size);
}

static void scalars_are_refused_for_each_field_alone(void **state)
{
    static const struct bad_field fields[] = {
        {48, 1, 0, 0}, {48, 1, 2, ERROR_CORRUPT}, {48, 1, UINT8_MAX, ERROR_CORRUPT}};
    const struct manifest_scalars scalars = {.clean = true};
    struct buffer value = {0};

    (void)state;
    assert_int_equal(manifest_scalars_encode(&scalars, &value), 0);
    assert_int_equal(buffer_append(&value, "", 1), 0); /* a byte too many */
    assert_int_equal(decode_exact(decode_scalars, value.data, value.size), ERROR_CORRUPT);
    value.size--;
    check_value(decode_scalars, &value, fields, sizeof fields / sizeof *fields);
}

static void a_format_is_refused_for_each_field_alone(void **state)
{
    static const struct bad_field fields[] = {
        {0, 1, 'v', ERROR_NOT_STORE},
        {7, 1, 'X', ERROR_NOT_STORE},
        {8, 4, MANIFEST_VERSION + 1, ERROR_VERSION_NEWER},
        {8, 4, MANIFEST_VERSION_OLDEST - 1, ERROR_VERSION_OLDER},
    };
    struct buffer value = {0};

    (void)state;
    assert_int_equal(manifest_format_encode(&value), 0);
    assert_int_equal(buffer_append(&value, "", 1), 0);
    assert_int_equal(decode_exact(decode_format, value.data, value.size), ERROR_CORRUPT);
    value.size--;
    check_value(decode_format, &value, fields, sizeof fields / sizeof *fields);
}

static void a_numbered_key_has_just_its_size(void **state)
{
    const struct manifest_key key = manifest_key_number(MANIFEST_KEY_BLOB, 77);
    uint64_t number;

    (void)state;
    assert_int_equal(manifest_key_decode_number(slice_of(key.bytes, 9), &number), 0);
    assert_int_equal(number, 77);
    for (size_t size = 1; size < 12; size++)
        if (size != 9)
            assert_int_equal(manifest_key_decode_number(slice_of(key.bytes, size), &number),
                             ERROR_CORRUPT);
}

/* ---- sets of tables ---- */

/* `fields` of two tables: level, order, id, first and last letter of the range. */
struct two_tables {
    struct {
        uint32_t level;
        uint64_t order, id;
        char smallest, largest;
        uint64_t references, bytes;
    } tables[2];
    int error;
};

static int check_tables(const struct two_tables *two)
{
    struct manifest_table tables[2] = {0};
    struct table_blob_use uses[2];
    int error;

    for (size_t i = 0; i < 2; i++) {
        tables[i].level = two->tables[i].level;
        tables[i].order = two->tables[i].order;
        tables[i].meta.identity =
            (struct chunk_identity){.id = two->tables[i].id, .kind = CHUNK_TABLE};
        assert_int_equal(buffer_assign(&tables[i].meta.smallest, &two->tables[i].smallest, 1), 0);
        assert_int_equal(buffer_assign(&tables[i].meta.largest, &two->tables[i].largest, 1), 0);
        uses[i] = (struct table_blob_use){1, two->tables[i].references, two->tables[i].bytes};
        tables[i].meta.uses = &uses[i];
        tables[i].meta.use_count = 1;
    }
    error = manifest_tables_check(tables, 2);
    for (size_t i = 0; i < 2; i++) {
        buffer_free(&tables[i].meta.smallest);
        buffer_free(&tables[i].meta.largest);
    }
    return error;
}

static void tables_that_make_no_version_are_refused_for_each_rule_alone(void **state)
{
    static const struct two_tables cases[] = {
        {{{0, 1, 1, 'a', 'z', 1, 1}, {0, 2, 2, 'a', 'z', 1, 1}}, 0},
        {{{1, 1, 1, 'a', 'b', 1, 1}, {1, 1, 2, 'b', 'z', 1, 1}}, 0}, /* ends are exclusive */
        {{{1, 1, 1, 'a', 'c', 1, 1}, {2, 1, 2, 'b', 'z', 1, 1}}, 0},
        {{{0, 1, 1, 'a', 'z', 1, 1}, {MANIFEST_LEVELS, 2, 2, 'a', 'z', 1, 1}}, ERROR_CORRUPT},
        {{{0, 1, 1, 'a', 'z', 1, 1}, {1, 2, 2, 'z', 'a', 1, 1}}, ERROR_CORRUPT},
        {{{1, 1, 1, 'a', 'b', 1, 1}, {0, 2, 2, 'a', 'z', 1, 1}}, ERROR_CORRUPT}, /* by level */
        {{{0, 1, 1, 'a', 'z', 1, 1}, {0, 1, 2, 'a', 'z', 1, 1}}, ERROR_CORRUPT}, /* one order */
        {{{0, 1, 1, 'a', 'z', 1, 1}, {1, 2, 1, 'a', 'z', 1, 1}}, ERROR_CORRUPT}, /* one id */
        {{{1, 1, 1, 'a', 'c', 1, 1}, {1, 2, 2, 'b', 'z', 1, 1}}, ERROR_CORRUPT}, /* overlap */
        {{{0, 1, 1, 'a', 'z', 0, 1}, {0, 2, 2, 'a', 'z', 1, 1}}, ERROR_CORRUPT}, /* of nothing */
        {{{0, 1, 1, 'a', 'z', INT64_MAX, 1}, {0, 2, 2, 'a', 'z', 1, 1}}, ERROR_CORRUPT},
        {{{0, 1, 1, 'a', 'z', 1, INT64_MAX}, {0, 2, 2, 'a', 'z', 1, 1}}, ERROR_CORRUPT},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        if (check_tables(&cases[i]) != cases[i].error)
            fail_msg("case %zu", i);
}

/* ---- records in a manifest ---- */

struct raw_record {
    struct manifest_key key;
    struct slice payload;
};

static int put_raw(struct manifest_transaction *transaction, void *context)
{
    const struct raw_record *record = context;

    return manifest_record_put(transaction, &record->key, record->payload);
}

/* With a good checksum, whatever it says. */
static void store_raw(struct manifest *manifest, struct manifest_key key, const void *payload,
                      size_t size)
{
    struct raw_record record = {key, slice_of(payload, size)};

    assert_int_equal(manifest_update(manifest, put_raw, &record), 0);
}

static int try_load(struct manifest *manifest)
{
    struct manifest_state loaded;
    int error = manifest_load(manifest, &loaded);

    if (error == 0)
        manifest_state_free(&loaded);
    return error;
}

static void a_record_lies_under_its_own_key_and_nothing_follows_it(void **state)
{
    const struct chunk_identity blob = blob_of(5);
    struct manifest_key key = manifest_key_number(MANIFEST_KEY_BLOB, 5);
    struct manifest_fixture fixture;
    struct buffer value = {0};

    (void)state;
    manifest_fixture_open(&fixture);
    assert_int_equal(manifest_blob_encode(&blob, &value), 0);
    store_raw(fixture.manifest, key, value.data, value.size);
    assert_int_equal(try_load(fixture.manifest), 0);
    assert_int_equal(buffer_append(&value, "", 1), 0);
    store_raw(fixture.manifest, key, value.data, value.size);
    assert_int_equal(try_load(fixture.manifest), ERROR_CORRUPT);
    store_raw(fixture.manifest, key, value.data, --value.size);
    assert_int_equal(try_load(fixture.manifest), 0);
    key.bytes[key.size++] = 0; /* its own number, and a byte more */
    store_raw(fixture.manifest, key, value.data, value.size);
    assert_int_equal(try_load(fixture.manifest), ERROR_CORRUPT);
    manifest_fixture_close(&fixture);

    manifest_fixture_open(&fixture);
    key = manifest_key_number(MANIFEST_KEY_BLOB, 6);
    store_raw(fixture.manifest, key, value.data, value.size);
    assert_int_equal(try_load(fixture.manifest), ERROR_CORRUPT);
    buffer_free(&value);
    manifest_fixture_close(&fixture);
}

static void a_lease_has_an_owner_and_an_end(void **state)
{
    static const uint8_t forever[9] = {0};
    struct manifest_key key = manifest_key_number(MANIFEST_KEY_LEASE, 3);
    struct manifest_fixture fixture;

    (void)state;
    manifest_fixture_open(&fixture);
    store_raw(fixture.manifest, key, forever, 8); /* nobody's */
    assert_int_equal(manifest_lease_count(fixture.manifest, 3, 1), ERROR_CORRUPT);
    manifest_fixture_close(&fixture);
    key.bytes[key.size++] = 'o';
    for (size_t size = 7; size <= 9; size++) {
        manifest_fixture_open(&fixture);
        store_raw(fixture.manifest, key, forever, size);
        assert_int_equal(manifest_lease_count(fixture.manifest, 3, 1),
                         size == 8 ? 1 : ERROR_CORRUPT);
        manifest_fixture_close(&fixture);
    }
}

static int ignore_change(void *context, const struct manifest_change *change)
{
    (void)context;
    (void)change;
    return 0;
}

static void the_bounds_of_the_log_of_changes_are_refused_for_each_field_alone(void **state)
{
    static const struct {
        uint64_t first, next;
        size_t size;
        int error;
    } cases[] = {
        {1, 1, 16, 0},
        {0, 1, 16, ERROR_CORRUPT},
        {2, 1, 16, ERROR_CORRUPT},
        {1, 1, 15, ERROR_CORRUPT},
        {1, 1, 17, ERROR_CORRUPT},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct manifest_fixture fixture;
        uint8_t value[17] = {0};

        put_le64(value, cases[i].first);
        put_le64(value + 8, cases[i].next);
        manifest_fixture_open(&fixture);
        store_raw(fixture.manifest, manifest_key_plain(MANIFEST_KEY_LOG), value, cases[i].size);
        assert_int_equal(add_blob(fixture.manifest, 1), cases[i].error);
        manifest_fixture_close(&fixture);
    }
}

static void a_cursor_is_a_number(void **state)
{
    static const uint8_t zeros[9] = {0};

    (void)state;
    for (size_t size = 0; size <= 9; size++) {
        struct manifest_key key = manifest_key_plain(MANIFEST_KEY_CURSOR);
        struct manifest_fixture fixture;
        int error = size == 8 ? 0 : ERROR_CORRUPT;

        key.bytes[key.size++] = 'c';
        manifest_fixture_open(&fixture);
        store_raw(fixture.manifest, key, zeros, size);
        assert_int_equal(manifest_changes_read(fixture.manifest, "c", ignore_change, NULL), error);
        assert_int_equal(add_blob(fixture.manifest, 1), error);
        manifest_fixture_close(&fixture);
    }
}

static void a_change_has_the_ids_that_it_says(void **state)
{
    static const struct {
        uint32_t added, removed;
        size_t size; /* of all */
        int error;
    } cases[] = {
        {2, 1, 8 + 24, 0},
        {0, 0, 8, 0},
        {0, 0, 0, ERROR_CORRUPT},
        {0, 0, 7, ERROR_CORRUPT},
        {2, 1, 8 + 16, ERROR_CORRUPT},
        {2, 1, 8 + 32, ERROR_CORRUPT},
        {2, 1, 8 + 25, ERROR_CORRUPT},
        {UINT32_MAX, 1, 8, ERROR_CORRUPT}, /* of 32 bits the sum would be 0 */
        {UINT32_MAX, UINT32_MAX, 8 + 24, ERROR_CORRUPT},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct manifest_fixture fixture;
        uint8_t value[64] = {0};

        put_le32(value, cases[i].added);
        put_le32(value + 4, cases[i].removed);
        manifest_fixture_open(&fixture);
        assert_int_equal(manifest_cursor_set(fixture.manifest, "c", 0), 0);
        assert_int_equal(add_blob(fixture.manifest, 1), 0);
        store_raw(fixture.manifest, manifest_key_number(MANIFEST_KEY_CHANGE, 1), value,
                  cases[i].size);
        assert_int_equal(manifest_changes_read(fixture.manifest, "c", ignore_change, NULL),
                         cases[i].error);
        manifest_fixture_close(&fixture);
    }
}

/* ---- what rots while the manifest is open ---- */

/* In every copy of the value on a page, the node's data size, and the value itself. */
static void change_nodes(const char *path, const uint8_t *value, size_t size, size_t new_size,
                         const uint8_t *new_value)
{
    char *data = test_path(path, "data.mdb");
    int descriptor = open(data, O_RDWR | O_CLOEXEC), changed = 0;
    uint8_t *bytes, *at;
    size_t file_size;

    assert_true(descriptor >= 0);
    bytes = test_file_read(data, &file_size);
    at = bytes;
    while ((at = memmem(at, (size_t)(bytes + file_size - at), value, size)) != NULL) {
        /* A node: u32 size of the data, u16 flags, u16 size of the key, the key. */
        uint8_t *node = at - 1 - 8;

        if (get_le16(node + 6) == 1 && get_le32(node) == size) {
            uint8_t low[2];

            put_le16(low, (uint16_t)new_size);
            assert_int_equal(pwrite(descriptor, low, 2, node - bytes), 2);
            assert_int_equal(pwrite(descriptor, new_value, new_size, at - bytes), new_size);
            changed++;
        }
        at++;
    }
    assert_true(changed > 0);
    close(descriptor);
    free(bytes);
    free(data);
}

struct raw_value {
    struct manifest_key key;
    uint8_t bytes[64]; /* with the checksum */
    size_t size;
};

static int get_raw(struct manifest_transaction *transaction, void *context)
{
    struct raw_value *value = context;
    struct slice payload;

    assert_int_equal(manifest_record_get(transaction, &value->key, &payload), 1);
    value->size = payload.size + 8;
    memcpy(value->bytes, payload.data, value->size);
    return 0;
}

static void checksum_payload(struct raw_value *value, size_t payload_size)
{
    put_le64(value->bytes + payload_size,
             checksum64_seeded(value->bytes, payload_size,
                               checksum64(value->key.bytes, value->key.size)));
}

static void a_record_that_became_shorter_than_a_checksum_is_corruption(void **state)
{
    struct manifest_fixture fixture;

    (void)state;
    for (size_t size = 0; size < 8; size++) {
        struct raw_value value = {.key = manifest_key_plain(MANIFEST_KEY_SCALARS)};

        manifest_fixture_open(&fixture);
        assert_int_equal(manifest_inspect(fixture.manifest, get_raw, &value), 0);
        change_nodes(fixture.path, value.bytes, value.size, size, value.bytes);
        assert_int_equal(try_load(fixture.manifest), ERROR_CORRUPT);
        manifest_fixture_close(&fixture);
    }
}

static void a_record_that_changed_while_it_is_open_is_corruption(void **state)
{
    struct raw_value value = {.key = manifest_key_plain(MANIFEST_KEY_SCALARS)}, other;
    struct manifest_fixture fixture;

    (void)state;
    manifest_fixture_open(&fixture);
    assert_int_equal(manifest_inspect(fixture.manifest, get_raw, &value), 0);
    other = value;
    other.bytes[16] ^= 1; /* the last sequence number: any will do */
    change_nodes(fixture.path, value.bytes, value.size, value.size, other.bytes);
    assert_int_equal(try_load(fixture.manifest), ERROR_CORRUPT);
    manifest_fixture_close(&fixture);
}

static void a_seal_of_another_size_is_corruption(void **state)
{
    struct raw_value value = {.key = manifest_key_plain(MANIFEST_KEY_SEAL)}, other;
    struct manifest_fixture fixture;

    (void)state;
    manifest_fixture_open(&fixture);
    assert_int_equal(manifest_inspect(fixture.manifest, get_raw, &value), 0);
    assert_int_equal(value.size, MANIFEST_SEAL_SIZE + 8);
    other = value;
    checksum_payload(&other, MANIFEST_SEAL_SIZE - 1);
    change_nodes(fixture.path, value.bytes, value.size, value.size - 1, other.bytes);
    assert_int_equal(add_blob(fixture.manifest, 1), ERROR_CORRUPT);
    manifest_fixture_close(&fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_table_is_refused_for_each_field_alone),
        cmocka_unit_test(a_blob_is_refused_for_each_field_alone),
        cmocka_unit_test(a_checkpoint_is_refused_for_each_field_alone),
        cmocka_unit_test(strings_of_a_checkpoint_have_bounds),
        cmocka_unit_test(a_plan_has_a_bound),
        cmocka_unit_test(scalars_are_refused_for_each_field_alone),
        cmocka_unit_test(a_format_is_refused_for_each_field_alone),
        cmocka_unit_test(a_numbered_key_has_just_its_size),
        cmocka_unit_test(tables_that_make_no_version_are_refused_for_each_rule_alone),
        cmocka_unit_test(a_record_lies_under_its_own_key_and_nothing_follows_it),
        cmocka_unit_test(a_lease_has_an_owner_and_an_end),
        cmocka_unit_test(the_bounds_of_the_log_of_changes_are_refused_for_each_field_alone),
        cmocka_unit_test(a_cursor_is_a_number),
        cmocka_unit_test(a_change_has_the_ids_that_it_says),
        cmocka_unit_test(a_record_that_became_shorter_than_a_checksum_is_corruption),
        cmocka_unit_test(a_record_that_changed_while_it_is_open_is_corruption),
        cmocka_unit_test(a_seal_of_another_size_is_corruption),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
