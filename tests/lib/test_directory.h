/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_directory.h - a directory that a test may fill, and that is gone afterwards
 *
 * Made with mkdtemp(3) under ${TMPDIR:-/tmp}. Failures abort the test program: a test that cannot
 * have its directory has nothing to say.
 */
#ifndef VARVE_TESTS_LIB_TEST_DIRECTORY_H
#define VARVE_TESTS_LIB_TEST_DIRECTORY_H

#include <stddef.h>
#include <stdint.h>

/* The path is the caller's, to be given to test_directory_remove(). */
char *test_directory_make(void);

/* The same under `parent`, which must exist. */
char *test_directory_make_in(const char *parent);

/* Remove it with everything in it, whatever the modes; frees the path. Accepts NULL. */
void test_directory_remove(char *path);

/* "<directory>/<name>", to be freed. */
char *test_path(const char *directory, const char *name);

/* The whole of a file; to be freed (never NULL, also when the file is empty). */
uint8_t *test_file_read(const char *path, size_t *ret_size);

/* Make or replace a file. */
void test_file_write(const char *path, const void *data, size_t size);

#endif
