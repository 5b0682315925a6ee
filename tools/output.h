/* SPDX-License-Identifier: Apache-2.0 */
/*
 * output.h - what the user sees
 */
#ifndef VARVE_TOOLS_OUTPUT_H
#define VARVE_TOOLS_OUTPUT_H

#include <jansson.h>
#include <stdint.h>

/* One line on standard error, "varve: " before it. */
void output_error(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Print an object with the schema's version first. The reference is taken over. */
void output_json(json_t *object);

/* 1536 as "1.5 KiB". */
#define OUTPUT_SIZE_TEXT 16
const char *output_size(uint64_t bytes, char text[OUTPUT_SIZE_TEXT]);

/* Flush standard output: the status, or EXIT_CODE_FAILED when the output did not get out. */
int output_finish(int status);

#endif
