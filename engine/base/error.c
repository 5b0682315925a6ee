/* SPDX-License-Identifier: Apache-2.0 */
/*
 * error.c - parents and words of error values
 */
#include "engine/base/error.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

/* The kernel's own limit: what lies beyond is a private code, or no error value at all. */
#define ERRNO_MAX 4095

static_assert(ERROR_BASE > ERRNO_MAX, "private codes must not look like an errno");

int error_errno(int error)
{
    if (error >= 0)
        return 0;
    if (error >= -ERRNO_MAX)
        return error;

    switch (error) {
#define ERROR_PARENT(name, number, parent, text)                                                   \
    case name:                                                                                     \
        return -(parent);
        ERROR_LIST(ERROR_PARENT)
#undef ERROR_PARENT
    default:
        return -EIO;
    }
}

const char *error_text(int error)
{
    static _Thread_local char text_of_errno[128];

    switch (error) {
    case 0:
        return "no error";
#define ERROR_TEXT(name, number, parent, text)                                                     \
    case name:                                                                                     \
        return text;
        ERROR_LIST(ERROR_TEXT)
#undef ERROR_TEXT
    default:
        break;
    }
    if (error < 0 && error >= -ERRNO_MAX)
        return strerror_r(-error, text_of_errno, sizeof text_of_errno);
    snprintf(text_of_errno, sizeof text_of_errno, "unknown error %d", error);
    return text_of_errno;
}
