/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rot_wanted.h - which files are damaged
 */
#ifndef VARVE_TESTS_ROT_ROT_WANTED_H
#define VARVE_TESTS_ROT_ROT_WANTED_H

#include <string.h>

#include "tests/rot/rot_damage.h"

/* Locks say nothing that anybody reads after a start. */
static inline bool rot_is_wanted(const struct rot_choice *choice, const struct rot_file *file)
{
    return file->bytes != NULL && file->size > 0 && strcmp(file->path, "LOCK") != 0 &&
           strstr(file->path, "lock.mdb") == NULL &&
           (choice->file_word == NULL || strstr(file->path, choice->file_word) != NULL);
}

#endif
