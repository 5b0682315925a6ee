/* SPDX-License-Identifier: Apache-2.0 */
/*
 * output.c - what the user sees
 */
#include "tools/output.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "fuse/control_protocol.h"
#include "tools/exit_code.h"

void output_error(const char *format, ...)
{
    va_list arguments;

    (void)fflush(stdout);
    (void)fputs("varve: ", stderr);
    va_start(arguments, format);
    (void)vfprintf(stderr, format, arguments);
    va_end(arguments);
    (void)fputc('\n', stderr);
}

void output_json(json_t *object)
{
    json_t *whole = json_pack("{s:i}", "schema_version", CONTROL_SCHEMA_VERSION);

    if (object == NULL || whole == NULL || json_object_update(whole, object) != 0 ||
        json_dumpf(whole, stdout, JSON_INDENT(2)) != 0)
        output_error("cannot print JSON");
    else
        (void)putchar('\n');
    json_decref(whole);
    json_decref(object);
}

const char *output_size(uint64_t bytes, char text[OUTPUT_SIZE_TEXT])
{
    static const char units[][4] = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    double value = (double)bytes;
    size_t unit = 0;

    if (bytes < 1024) {
        (void)snprintf(text, OUTPUT_SIZE_TEXT, "%" PRIu64 " B", bytes);
        return text;
    }
    for (value /= 1024; value >= 1024 && unit + 1 < sizeof units / sizeof units[0]; unit++)
        value /= 1024;
    (void)snprintf(text, OUTPUT_SIZE_TEXT, value < 10 ? "%.1f %s" : "%.0f %s", value, units[unit]);
    return text;
}

int output_finish(int status)
{
    if (fflush(stdout) == 0 && !ferror(stdout))
        return status;
    output_error("cannot write: %s", strerror(errno));
    return status == EXIT_CODE_OK ? EXIT_CODE_FAILED : status;
}
