/* SPDX-License-Identifier: Apache-2.0 */
/*
 * snapshot_payload.c - creation time and tags as bytes
 *
 * Little-endian: version u32 (1); created seconds i64, nanoseconds u32; number of tags u32; each
 * tag: key length u16, value length u16, key, value.
 */
#include <errno.h>
#include <stdlib.h>

#include "engine/base/endian.h"
#include "snapshot/snapshot_internal.h"

#define PAYLOAD_VERSION   1
#define PAYLOAD_HEAD_SIZE 20

int snapshot_payload_encode(struct timespec created, const struct snapshot_tag *tags,
                            size_t tag_count, struct buffer *to)
{
    uint8_t head[PAYLOAD_HEAD_SIZE];
    int result;

    put_le32(head, PAYLOAD_VERSION);
    put_le64(head + 4, (uint64_t)created.tv_sec);
    put_le32(head + 12, (uint32_t)created.tv_nsec);
    put_le32(head + 16, (uint32_t)tag_count);
    result = buffer_append(to, head, sizeof head);
    for (size_t i = 0; result == 0 && i < tag_count; i++) {
        size_t key_size = strlen(tags[i].key), value_size = strlen(tags[i].value);
        uint8_t sizes[4];

        if (key_size == 0 || key_size > UINT16_MAX || value_size > UINT16_MAX)
            return -EINVAL;
        put_le16(sizes, (uint16_t)key_size);
        put_le16(sizes + 2, (uint16_t)value_size);
        result = buffer_append(to, sizes, sizeof sizes);
        if (result == 0)
            result = buffer_append(to, tags[i].key, key_size);
        if (result == 0)
            result = buffer_append(to, tags[i].value, value_size);
    }
    return result;
}

void snapshot_tags_free(struct snapshot_tags *tags)
{
    for (size_t i = 0; i < tags->count; i++) {
        free((void *)(uintptr_t)tags->items[i].key);
        free((void *)(uintptr_t)tags->items[i].value);
    }
    free(tags->items);
    *tags = (struct snapshot_tags){0};
}

static int tag_decode(struct slice *from, struct snapshot_tag *ret_tag)
{
    size_t key_size, value_size;
    char *key, *value;

    if (from->size < 4)
        return ERROR_CORRUPT;
    key_size = get_le16(from->data);
    value_size = get_le16(from->data + 2);
    /* Tags are text: a NUL in one would silently cut it short. No key is empty. */
    if (key_size == 0 || from->size < 4 + key_size + value_size ||
        memchr(from->data + 4, '\0', key_size + value_size) != NULL)
        return ERROR_CORRUPT;
    key = strndup((const char *)from->data + 4, key_size);
    value = strndup((const char *)from->data + 4 + key_size, value_size);
    if (key == NULL || value == NULL) {
        free(key);
        free(value);
        return -ENOMEM;
    }
    *ret_tag = (struct snapshot_tag){key, value};
    from->data += 4 + key_size + value_size;
    from->size -= 4 + key_size + value_size;
    return 0;
}

int snapshot_payload_decode(struct slice from, struct timespec *ret_created,
                            struct snapshot_tags *ret_tags)
{
    struct snapshot_tags tags = {0};
    struct timespec created;
    uint32_t count;
    int result = 0;

    if (from.size < PAYLOAD_HEAD_SIZE)
        return ERROR_CORRUPT;
    if (get_le32(from.data) > PAYLOAD_VERSION)
        return ERROR_VERSION_NEWER;
    if (get_le32(from.data) < PAYLOAD_VERSION)
        return ERROR_CORRUPT; /* there never was a version 0 */
    created.tv_sec = (time_t)get_le64(from.data + 4);
    created.tv_nsec = get_le32(from.data + 12);
    count = get_le32(from.data + 16);
    if (created.tv_nsec > 999999999 || count > from.size / 4)
        return ERROR_CORRUPT;
    from = slice_of(from.data + PAYLOAD_HEAD_SIZE, from.size - PAYLOAD_HEAD_SIZE);
    tags.items = calloc(count + 1, sizeof *tags.items);
    if (tags.items == NULL)
        return -ENOMEM;
    while (result == 0 && tags.count < count) {
        result = tag_decode(&from, &tags.items[tags.count]);
        if (result == 0)
            tags.count++;
    }
    if (result == 0 && from.size != 0)
        result = ERROR_CORRUPT;
    if (result < 0) {
        snapshot_tags_free(&tags);
        return result;
    }
    *ret_created = created;
    *ret_tags = tags;
    return 0;
}
