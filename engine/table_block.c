/* SPDX-License-Identifier: Apache-2.0 */
/*
 * table_block.c - data blocks of a table
 */
#include "engine/table_block.h"

#include <errno.h>

#include "engine/base/error.h"
#include "engine/base/invariant.h"

/* Of an entry, as stored. */
struct entry_head {
    uint8_t tag; /* kind and restart flag */
    uint32_t shared;
    uint32_t own;
    uint32_t value_size;
    uint64_t sequence;
    const uint8_t *own_key; /* the value follows it */
};

static uint64_t zigzag_encode(uint64_t difference)
{
    return difference << 1 ^ (uint64_t)((int64_t)difference >> 63);
}

static uint64_t zigzag_decode(uint64_t value)
{
    return value >> 1 ^ (0 - (value & 1));
}

static size_t common_prefix(const uint8_t *a, const uint8_t *b, size_t size)
{
    size_t at = 0;

    for (; at + 8 <= size; at += 8) {
        uint64_t difference = get_le64(a + at) ^ get_le64(b + at);

        if (difference != 0)
            return at + (size_t)__builtin_ctzll(difference) / 8;
    }
    while (at < size && a[at] == b[at])
        at++;
    return at;
}

static size_t size_min(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* ---- building ---- */

size_t table_block_builder_size(const struct table_block_builder *builder)
{
    return builder->count == 0 ? 0 : builder->bytes.size + builder->restarts.size + 4;
}

size_t table_block_builder_size_with(const struct table_block_builder *builder,
                                     const struct record *record)
{
    return builder->bytes.size + builder->restarts.size + 8 + TABLE_ENTRY_HEADER_MAX +
           record->key.size + record->value.size;
}

static int note_restart(struct table_block_builder *builder)
{
    uint8_t position[4];

    put_le32(position, (uint32_t)builder->bytes.size);
    return buffer_append(&builder->restarts, position, sizeof position);
}

int table_block_builder_add(struct table_block_builder *builder, const struct record *record)
{
    bool restart = builder->count % TABLE_RESTART_INTERVAL == 0;
    size_t least = size_min(builder->last_key_size, record->key.size);
    size_t prefix = common_prefix(builder->last_key, record->key.data, least);
    size_t shared = restart ? 0 : prefix;
    size_t own = record->key.size - shared;
    size_t room = TABLE_ENTRY_HEADER_MAX + own + record->value.size;
    uint8_t *to;
    int error;

    invariant(builder->count == 0 ||
              (prefix < least ? builder->last_key[prefix] < record->key.data[prefix]
                              : builder->last_key_size < record->key.size));
    error = buffer_reserve(&builder->bytes, builder->bytes.size + room);
    if (error == 0 && restart)
        error = note_restart(builder);
    if (error < 0)
        return error;

    to = builder->bytes.data + builder->bytes.size;
    *to++ = (uint8_t)(record->kind | (restart ? TABLE_RESTART_FLAG : 0));
    to = put_varint(to, shared);
    to = put_varint(to, own);
    to = put_varint(to, record->value.size);
    to = put_varint(to, restart ? record->sequence
                                : zigzag_encode(record->sequence - builder->last_sequence));
    memcpy(to, record->key.data + shared, own);
    to += own;
    if (record->value.size > 0)
        memcpy(to, record->value.data, record->value.size);
    to += record->value.size;
    builder->bytes.size = (size_t)(to - builder->bytes.data);

    memcpy(builder->last_key + shared, record->key.data + shared, own);
    builder->last_key_size = record->key.size;
    builder->last_sequence = record->sequence;
    builder->count++;
    return 0;
}

int table_block_builder_finish(struct table_block_builder *builder, struct slice *ret_raw)
{
    size_t size = builder->bytes.size;
    uint8_t count[4];
    int error;

    invariant(builder->count > 0);
    put_le32(count, (uint32_t)(builder->restarts.size / 4));
    error = buffer_append(&builder->bytes, builder->restarts.data, builder->restarts.size);
    if (error == 0)
        error = buffer_append(&builder->bytes, count, sizeof count);
    if (error < 0) {
        builder->bytes.size = size;
        return error;
    }
    invariant(builder->bytes.size <= TABLE_BLOCK_RAW_MAX);
    *ret_raw = buffer_slice(&builder->bytes);
    return 0;
}

void table_block_builder_reset(struct table_block_builder *builder)
{
    builder->bytes.size = 0;
    builder->restarts.size = 0;
    builder->count = 0;
    builder->last_key_size = 0;
    builder->last_sequence = 0;
}

void table_block_builder_free(struct table_block_builder *builder)
{
    buffer_free(&builder->bytes);
    buffer_free(&builder->restarts);
}

/* ---- reading ---- */

int table_block_open(struct slice raw, struct table_block_view *ret_view)
{
    uint32_t restarts;

    if (raw.size < 4 || raw.size > TABLE_BLOCK_RAW_MAX)
        return ERROR_CORRUPT;
    restarts = get_le32(raw.data + raw.size - 4);
    if (restarts == 0 || restarts > (raw.size - 4) / 4)
        return ERROR_CORRUPT;
    ret_view->entries = raw.data;
    ret_view->entries_end = raw.data + raw.size - 4 - (size_t)restarts * 4;
    ret_view->restart_count = restarts;
    return 0;
}

static const uint8_t *get_varint32(const uint8_t *from, const uint8_t *end, uint32_t *ret)
{
    uint64_t value;

    if (from < end && *from < 0x80) {
        *ret = *from;
        return from + 1;
    }
    from = get_varint(from, end, &value);
    if (!from || value > UINT32_MAX)
        return NULL;
    *ret = (uint32_t)value;
    return from;
}

/* Decode the entry at `from`, which is below `end`; false when it does not fit or is nonsense. */
static bool head_decode(const uint8_t *from, const uint8_t *end, struct entry_head *head)
{
    uint8_t kind;

    head->tag = *from++;
    kind = head->tag & (uint8_t)~TABLE_RESTART_FLAG;
    if (kind < RECORD_VALUE || kind > RECORD_DELETE)
        return false;
    from = get_varint32(from, end, &head->shared);
    if (from)
        from = get_varint32(from, end, &head->own);
    if (from)
        from = get_varint32(from, end, &head->value_size);
    if (from)
        from = get_varint(from, end, &head->sequence);
    if (!from)
        return false;
    if ((uint64_t)head->own + head->value_size > (uint64_t)(end - from) ||
        (uint64_t)head->shared + head->own > RECORD_KEY_SIZE_MAX)
        return false;
    /* Without bytes of its own a key would be empty, or not above the one before. */
    if (head->own == 0 || ((head->tag & TABLE_RESTART_FLAG) && head->shared != 0))
        return false;
    head->own_key = from;
    return true;
}

static const uint8_t *head_end(const struct entry_head *head)
{
    return head->own_key + head->own + head->value_size;
}

static bool head_is_restart(const struct entry_head *head)
{
    return (head->tag & TABLE_RESTART_FLAG) != 0;
}

static enum record_kind head_kind(const struct entry_head *head)
{
    return head->tag & (uint8_t)~TABLE_RESTART_FLAG;
}

/* The head at restart `index`, or false. */
static bool restart_decode(const struct table_block_view *view, uint32_t index,
                           struct entry_head *head, const uint8_t **ret_from)
{
    uint32_t position = get_le32(view->entries_end + (size_t)index * 4);

    if (position >= (size_t)(view->entries_end - view->entries))
        return false;
    *ret_from = view->entries + position;
    return head_decode(*ret_from, view->entries_end, head) && head_is_restart(head);
}

/* Where a scan for `key` begins: the last restart with a key <= `key`, or the first one. */
static int find_restart(const struct table_block_view *view, struct slice key,
                        const uint8_t **ret_from)
{
    uint32_t low = 0, high = view->restart_count;
    struct entry_head head;
    const uint8_t *from;

    while (high - low > 1) {
        uint32_t middle = low + (high - low) / 2;

        if (!restart_decode(view, middle, &head, &from))
            return ERROR_CORRUPT;
        if (slice_compare(slice_of(head.own_key, head.own), key) <= 0)
            low = middle;
        else
            high = middle;
    }
    if (!restart_decode(view, low, &head, ret_from))
        return ERROR_CORRUPT;
    return 0;
}

/*
 * Without rebuilding keys: `matched` is how many bytes of `key` the entry before, which is below
 * it, begins with. An entry that shares more bytes with that one is below `key` for the same
 * reason; one that shares fewer has left the path of `key` upwards; else its own bytes decide.
 */
int table_block_find(const struct table_block_view *view, struct slice key,
                     struct record *ret_record)
{
    const uint8_t *end = view->entries_end;
    const uint8_t *at, *first;
    size_t matched = 0;
    uint64_t sequence = 0;
    struct entry_head head;
    int error = find_restart(view, key, &at);

    if (error < 0)
        return error;
    for (first = at; at < end; at = head_end(&head)) {
        size_t least, equal;

        if (!head_decode(at, end, &head))
            return ERROR_CORRUPT;
        if (head_is_restart(&head) && at != first)
            return 0; /* find_restart() saw that its key is above `key` */
        sequence = at == first ? head.sequence : sequence + zigzag_decode(head.sequence);
        if (head.shared > matched)
            continue;
        if (head.shared < matched)
            return 0;
        least = size_min(head.own, key.size - matched);
        equal = common_prefix(head.own_key, key.data + matched, least);
        if (equal < least) {
            if (head.own_key[equal] > key.data[matched + equal])
                return 0;
        } else if (head.own == key.size - matched) {
            ret_record->kind = head_kind(&head);
            ret_record->sequence = sequence;
            ret_record->key = key;
            ret_record->value = slice_of(head.own_key + head.own, head.value_size);
            return 1;
        } else if (head.own > key.size - matched) {
            return 0;
        }
        matched += equal;
    }
    return 0;
}

void table_block_cursor_init(struct table_block_cursor *cursor, const struct table_block_view *view)
{
    cursor->view = *view;
    cursor->next = view->entries;
    memset(&cursor->record, 0, sizeof cursor->record);
}

int table_block_cursor_next(struct table_block_cursor *cursor)
{
    struct record *record = &cursor->record;
    struct entry_head head;

    if (cursor->next == cursor->view.entries_end)
        return 0;
    if (!head_decode(cursor->next, cursor->view.entries_end, &head) ||
        head.shared > record->key.size)
        return ERROR_CORRUPT;
    /* Keys rise, whoever wrote the block; mostly the first byte tells. */
    if (slice_compare(slice_of(head.own_key, head.own),
                      slice_of(cursor->key + head.shared, record->key.size - head.shared)) <= 0)
        return ERROR_CORRUPT;
    memcpy(cursor->key + head.shared, head.own_key, head.own);
    record->key = slice_of(cursor->key, (size_t)head.shared + head.own);
    record->kind = head_kind(&head);
    record->sequence =
        head_is_restart(&head) ? head.sequence : record->sequence + zigzag_decode(head.sequence);
    record->value = slice_of(head.own_key + head.own, head.value_size);
    cursor->next = head_end(&head);
    return 1;
}

int table_block_cursor_seek(struct table_block_cursor *cursor, struct slice key)
{
    int result = find_restart(&cursor->view, key, &cursor->next);

    if (result < 0)
        return result;
    cursor->record.key.size = 0;
    do {
        result = table_block_cursor_next(cursor);
    } while (result == 1 && slice_compare(cursor->record.key, key) < 0);
    return result;
}
