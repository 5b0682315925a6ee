/* SPDX-License-Identifier: Apache-2.0 */
/*
 * exit_code.c - errors to exit statuses
 */
#include "tools/exit_code.h"

#include <errno.h>

#include "engine/base/error.h"

enum exit_code exit_code_of(int error)
{
    switch (error) {
    case 0:
        return EXIT_CODE_OK;
    case -ENOENT:
    case -ENOTDIR:
    case ERROR_NOT_STORE:
        return EXIT_CODE_NO_STORE;
    case ERROR_LOCKED:
        return EXIT_CODE_LOCKED;
    case -EINTR:
        return EXIT_CODE_INTERRUPTED;
    default:
        return EXIT_CODE_FAILED;
    }
}
