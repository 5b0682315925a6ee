/* SPDX-License-Identifier: Apache-2.0 */
/*
 * control_json.c - byte strings and times in JSON
 */
#include "fuse/control_json.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KEY_SIZE_MAX 64

static void hex_key(const char *key, char to[KEY_SIZE_MAX])
{
    (void)snprintf(to, KEY_SIZE_MAX, "%s_hex", key);
}

static json_t *hex_string(const char *bytes, size_t size)
{
    static const char digits[] = "0123456789abcdef";
    char *text = malloc(2 * size + 1);
    json_t *string;

    if (text == NULL)
        return NULL;
    for (size_t i = 0; i < size; i++) {
        text[2 * i] = digits[(unsigned char)bytes[i] >> 4];
        text[2 * i + 1] = digits[(unsigned char)bytes[i] & 15];
    }
    string = json_stringn(text, 2 * size);
    free(text);
    return string;
}

int control_json_set_bytes(json_t *object, const char *key, const char *bytes, size_t size)
{
    char other_key[KEY_SIZE_MAX];
    json_t *string = json_stringn(bytes, size); /* NULL when it is not UTF-8 */

    if (string != NULL)
        return json_object_set_new(object, key, string) == 0 ? 0 : -ENOMEM;
    hex_key(key, other_key);
    return json_object_set_new(object, other_key, hex_string(bytes, size)) == 0 ? 0 : -ENOMEM;
}

static int hex_digit(char digit)
{
    if (digit >= '0' && digit <= '9')
        return digit - '0';
    return digit >= 'a' && digit <= 'f' ? digit - 'a' + 10 : -1;
}

static int hex_decode(const char *text, size_t size, char *to, size_t room)
{
    if (size % 2 != 0)
        return -EINVAL;
    if (size / 2 >= room)
        return -ENAMETOOLONG;
    for (size_t i = 0; i < size; i += 2) {
        int high = hex_digit(text[i]), low = hex_digit(text[i + 1]);

        if (high < 0 || low < 0)
            return -EINVAL;
        to[i / 2] = (char)(high << 4 | low);
    }
    return (int)(size / 2);
}

static int copy_bytes(const char *text, size_t size, char *to, size_t room)
{
    if (size >= room)
        return -ENAMETOOLONG;
    memcpy(to, text, size);
    return (int)size;
}

int control_json_get_bytes(const json_t *object, const char *key, char *to, size_t room)
{
    char other_key[KEY_SIZE_MAX];
    const json_t *value = json_object_get(object, key);
    int result;

    if (value != NULL) {
        if (!json_is_string(value))
            return -EINVAL;
        result = copy_bytes(json_string_value(value), json_string_length(value), to, room);
    } else {
        hex_key(key, other_key);
        value = json_object_get(object, other_key);
        if (value == NULL)
            return -ENOENT;
        if (!json_is_string(value))
            return -EINVAL;
        result = hex_decode(json_string_value(value), json_string_length(value), to, room);
    }
    if (result < 0)
        return result;
    if (memchr(to, 0, (size_t)result) != NULL)
        return -EINVAL;
    to[result] = '\0';
    return result;
}

void control_format_time(struct timespec time, char to[CONTROL_TIME_SIZE])
{
    struct tm parts = {0};
    size_t size;

    (void)gmtime_r(&time.tv_sec, &parts);
    size = strftime(to, CONTROL_TIME_SIZE, "%Y-%m-%dT%H:%M:%S", &parts);
    (void)snprintf(to + size, CONTROL_TIME_SIZE - size, ".%09ldZ", time.tv_nsec);
}
