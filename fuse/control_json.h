/* SPDX-License-Identifier: Apache-2.0 */
/*
 * control_json.h - byte strings and times in JSON, for the control channel and the command line
 *
 * JSON strings are Unicode, names are bytes: a name that is valid UTF-8 stands under its key as a
 * string, any other under the key with "_hex" appended, as hexadecimal digits.
 *
 * Threads: any; no state.
 */
#ifndef VARVE_FUSE_CONTROL_JSON_H
#define VARVE_FUSE_CONTROL_JSON_H

#include <jansson.h>
#include <stdint.h>
#include <time.h>

/* 0 or -ENOMEM. */
int control_json_set_bytes(json_t *object, const char *key, const char *bytes, size_t size);

/* Decode into `to` (room bytes, the last for a NUL): the size, -ENOENT when neither key is there,
 * -EINVAL for a wrong type, bad digits or a NUL byte, -ENAMETOOLONG. */
int control_json_get_bytes(const json_t *object, const char *key, char *to, size_t room);

/* RFC 3339, UTC, nanoseconds. */
#define CONTROL_TIME_SIZE 40
void control_format_time(struct timespec time, char to[CONTROL_TIME_SIZE]);

#endif
