/* SPDX-License-Identifier: Apache-2.0 */
/*
 * control_diff.h - differences of trees as JSON, from a daemon or from a store opened directly
 *
 * An entry: {"kind": "added" | "removed" | "modified" | "renamed", "type": "file" | "directory" ...,
 * "path_before", "path_after", "size_before", "size_after", "changes": ["content", ...]}, with the
 * paths and sizes that there are.
 *
 * Threads: any; no state. Functions return 0 or a negative error.
 */
#ifndef VARVE_FUSE_CONTROL_DIFF_H
#define VARVE_FUSE_CONTROL_DIFF_H

#include <jansson.h>

#include "fuse/fs_diff.h"

/* Append entries [from, from + count) of the diff, as far as there are any. */
int control_diff_append(json_t *entries, const struct fs_diff *diff, size_t from, size_t count);

/* {"paths": [{"path": "..."}, ...]} of a request, for struct fs_diff_options. */
struct control_paths {
    char **items;
    size_t count;
};
int control_paths_get(const json_t *request, struct control_paths *ret_paths);
void control_paths_free(struct control_paths *paths);

/* The difference between two snapshots, or (no `to`) from one to the present. -ENOENT. */
int control_diff_make(struct engine *engine, struct snapshot_set *set, const char *from,
                      const char *to, const struct fs_diff_options *options,
                      struct fs_diff *ret_diff);

#endif
