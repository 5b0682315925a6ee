/* SPDX-License-Identifier: Apache-2.0 */
/*
 * verify_files.h - which files suffer from the damage that varve verify has found
 *
 * A snapshot is asked by its own directory, also while the store is mounted: nothing in it changes.
 * Of the live tree the daemon knows, or the store itself when nobody has it open.
 */
#ifndef VARVE_TOOLS_VERIFY_FILES_H
#define VARVE_TOOLS_VERIFY_FILES_H

#include <jansson.h>
#include <stdbool.h>

struct verify_place {
    const char *store;   /* its directory, or a checkpoint's */
    const char *mounted; /* the path of a mount of it, or NULL */
    bool is_checkpoint;
};

/*
 * `findings` as varve verify makes them. Append what is known of files to `files`:
 * [{"view": "snapshot NAME", "finding"}]. What cannot be asked is left out: a tree that cannot be
 * opened has been told of. 0 or -ENOMEM.
 */
int verify_files(const struct verify_place *place, const json_t *findings, json_t *files);

#endif
