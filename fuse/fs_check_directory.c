/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fs_check_directory.c - fsck: the two records of each name
 *
 * A name is a dentry (found by name) and a cookie (found in order of creation). The walk compares
 * sums of hashes; only where they differ is each entry looked up here.
 */
#include "fuse/fs_check_internal.h"

#include <ctype.h>
#include <stdio.h>

#include "engine/base/checksum.h"
#include "engine/base/endian.h"

#define SHOWN_SIZE_MAX (255 * 4 + 1)

uint64_t check_entry_hash(uint64_t ino, uint64_t cookie, uint32_t type, struct slice name)
{
    uint8_t fixed[20];

    put_le64(fixed, ino);
    put_le64(fixed + 8, cookie);
    put_le32(fixed + 16, type);
    return checksum64_seeded(name.data, name.size, checksum64(fixed, sizeof fixed));
}

/* Names may hold any byte: show those that a terminal might act on as \xNN. */
static void show_name(struct slice name, char to[SHOWN_SIZE_MAX])
{
    size_t at = 0;

    for (size_t i = 0; i < name.size && at + 5 <= SHOWN_SIZE_MAX; i++) {
        if (isprint(name.data[i]) && name.data[i] != '\\')
            to[at++] = (char)name.data[i];
        else
            at += (size_t)snprintf(to + at, 5, "\\x%02x", name.data[i]);
    }
    to[at] = '\0';
}

static void find_name(struct check *check, uint64_t directory, struct slice name, const char *what)
{
    char shown[SHOWN_SIZE_MAX];

    show_name(name, shown);
    check_find(check, "directory %llu: '%.256s' %s", (unsigned long long)directory, shown, what);
}

/* The dentry `name` has a cookie that says the same. */
static int check_dentry(struct check *check, uint64_t directory, const struct record *record,
                        struct slice name, struct buffer *value)
{
    struct fs_dentry dentry;
    struct fs_cookie cookie;
    struct record twin;
    struct fs_key key;
    int result;

    if (fs_dentry_decode(record->value, &dentry) < 0)
        return 0; /* reported by the walk */
    fs_key_cookie(&key, directory, dentry.cookie);
    result = engine_view_get(check->view, fs_key_slice(&key), value, &twin);
    if (result < 0)
        return result;
    if (result == 0)
        find_name(check, directory, name, "is not listed: its cookie is missing");
    else if (fs_cookie_decode(twin.value, &cookie) == 0 &&
             (cookie.ino != dentry.ino || cookie.type != dentry.type ||
              !slice_equal(cookie.name, name)))
        find_name(check, directory, name, "and its cookie differ");
    return 0;
}

/* The cookie `number` has a dentry that names it. */
static int check_cookie(struct check *check, uint64_t directory, const struct record *record,
                        uint64_t number, struct buffer *value)
{
    struct fs_dentry dentry;
    struct fs_cookie cookie;
    struct record twin;
    struct fs_key key;
    char name[256];
    int result;

    if (fs_cookie_decode(record->value, &cookie) < 0)
        return 0;
    memcpy(name, cookie.name.data, cookie.name.size);
    name[cookie.name.size] = '\0';
    fs_key_dentry(&key, directory, name);
    result = engine_view_get(check->view, fs_key_slice(&key), value, &twin);
    if (result < 0)
        return result;
    if (result == 0)
        find_name(check, directory, cookie.name, "is listed but cannot be looked up");
    else if (fs_dentry_decode(twin.value, &dentry) == 0 && dentry.cookie != number)
        find_name(check, directory, cookie.name, "is listed twice");
    return 0;
}

static int check_record(struct check *check, uint64_t directory, const struct record *record,
                        struct buffer *value)
{
    struct slice rest;
    uint64_t ino;
    uint8_t type;

    if (!fs_key_parse(record->key, &ino, &type, &rest) || record->kind != RECORD_VALUE)
        return 0;
    if (type == FS_KEY_DENTRY)
        return check_dentry(check, directory, record, rest, value);
    if (type == FS_KEY_COOKIE && rest.size == 8)
        return check_cookie(check, directory, record, get_be64(rest.data), value);
    return 0;
}

int check_twins(struct check *check, uint64_t directory)
{
    struct buffer value = {.data = NULL};
    struct engine_iterator *iterator;
    struct fs_key start, bound;
    int result;

    fs_key_type_start(&start, directory, FS_KEY_DENTRY);
    fs_key_type_start(&bound, directory, FS_KEY_COOKIE + 1);
    result = engine_iterator_new(check->view, fs_key_slice(&bound), &iterator);
    if (result < 0)
        return result;
    for (result = engine_iterator_seek(iterator, fs_key_slice(&start)); result > 0;
         result = engine_iterator_next(iterator)) {
        result = check_record(check, directory, engine_iterator_record(iterator), &value);
        if (result < 0)
            break;
    }
    engine_iterator_free(iterator);
    buffer_free(&value);
    return result;
}
