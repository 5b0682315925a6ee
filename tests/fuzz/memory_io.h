/* SPDX-License-Identifier: Apache-2.0 */
/*
 * memory_io.h - one directory of files in memory as an I/O backend
 *
 * For fuzzers, which make the files of a module anew thousands of times a second. Nothing ever
 * fails but for what the callers do wrong; syncs do nothing.
 *
 * Threads: one.
 */
#ifndef VARVE_TESTS_FUZZ_MEMORY_IO_H
#define VARVE_TESTS_FUZZ_MEMORY_IO_H

#include "engine/base/bytes.h"
#include "engine/base/io.h"

struct memory_io;

struct memory_io *memory_io_new(void); /* aborts when out of memory, as all of this does */
void memory_io_free(struct memory_io *memory);
struct io *memory_io_get(struct memory_io *memory);

/* The one directory; lives as long as the backend and is never closed. */
struct io_file *memory_io_directory(struct memory_io *memory);

/* Make or replace a file. */
void memory_io_put(struct memory_io *memory, const char *name, struct slice bytes);
void memory_io_clear(struct memory_io *memory);

#endif
