/* SPDX-License-Identifier: Apache-2.0 */
/*
 * control_snapshot.h - snapshots as JSON, the same from the daemon of a mount and from a store that
 *                      the command line opens itself
 *
 * A snapshot: {"name", "id", "sequence", "created", "tags": {}, "materialised"} and, once it is,
 * {"files", "bytes", "linked_files" ... "copied_bytes"}; with usage also {"referenced_bytes",
 * "unique_bytes", "holds": [{"owner", "expires"}]}.
 *
 * Threads: any; no state. Functions return 0 or a negative error.
 */
#ifndef VARVE_FUSE_CONTROL_SNAPSHOT_H
#define VARVE_FUSE_CONTROL_SNAPSHOT_H

#include <jansson.h>

#include "snapshot/snapshot.h"

/* Fill `object` in. */
int control_snapshot_describe(json_t *object, struct snapshot_set *set, struct snapshot *snapshot,
                              bool usage);

/* Append every snapshot of the set to the array. */
int control_snapshot_list(json_t *list, struct snapshot_set *set, bool usage);

/* {"names": [{"name": ...}, ...]} as snapshots: references in *ret_snapshots (an array to be given
 * to control_snapshot_put_all()). -EINVAL: not that; -ENOENT: no such snapshot. */
struct control_snapshots {
    struct snapshot **items;
    size_t count;
};
int control_snapshot_get_all(const json_t *request, struct snapshot_set *set,
                             struct control_snapshots *ret_snapshots);
void control_snapshot_put_all(struct control_snapshots *snapshots);

/* Numbers of a set that is to be deleted: "referenced_bytes", "freed_bytes", "freed_disk_bytes". */
int control_snapshot_set_usage(json_t *object, struct snapshot_set *set,
                               struct snapshot *const *snapshots, size_t count);

#endif
