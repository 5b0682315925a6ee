/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ll_verbs.h - what the control channel can ask for
 *
 * Threads: any. A verb may wait as long as its work takes.
 */
#ifndef VARVE_FUSE_LL_VERBS_H
#define VARVE_FUSE_LL_VERBS_H

#include <jansson.h>

#include "fuse/fs.h"

struct ll;

struct ll_verb {
    const char *name;
    bool owner_only; /* root and the mount's owner */
    bool flushes;    /* must see what the kernel still holds: runs in the flusher */
    /* Fills `reply` in; 0 or a negative error. */
    int (*run)(struct ll *ll, const json_t *request, json_t *reply);
};

const struct ll_verb *ll_verb_find(const char *name); /* NULL: no such verb */

/* Helpers of the verbs: 0 or -ENOMEM. */
int ll_verb_set_number(json_t *object, const char *key, uint64_t value);
int ll_verb_set_text(json_t *object, const char *key, const char *text);
int ll_verb_set_time(json_t *object, const char *key, struct timespec time);
/* Append {"name": name} to the array, with "error" when `result` is one. */
int ll_verb_add_result(json_t *results, const char *name, int result);
/* Delete one and tell the kernel; 0 or the error of fs_snapshot_delete(). (ll_verb_snapshot.c) */
int ll_verb_delete_snapshot(struct ll *ll, const char *name);
/* The same of one that was chosen before. */
int ll_verb_delete_this_snapshot(struct ll *ll, struct snapshot *snapshot);

/* ll_verb_stats.c, ll_verb_snapshot.c, ll_verb_retention.c */
int ll_verb_stats(struct ll *ll, const json_t *request, json_t *reply);
int ll_verb_snapshot_create(struct ll *ll, const json_t *request, json_t *reply);
int ll_verb_snapshot_wait(struct ll *ll, const json_t *request, json_t *reply);
int ll_verb_snapshot_list(struct ll *ll, const json_t *request, json_t *reply);
int ll_verb_snapshot_usage(struct ll *ll, const json_t *request, json_t *reply);
int ll_verb_snapshot_delete(struct ll *ll, const json_t *request, json_t *reply);
int ll_verb_snapshot_rename(struct ll *ll, const json_t *request, json_t *reply);
int ll_verb_snapshot_hold(struct ll *ll, const json_t *request, json_t *reply);
int ll_verb_snapshot_release(struct ll *ll, const json_t *request, json_t *reply);
int ll_verb_snapshot_prune(struct ll *ll, const json_t *request, json_t *reply);

/* ll_verb_rollback.c */
int ll_verb_rollback(struct ll *ll, const json_t *request, json_t *reply);

/* ll_verb_diff.c */
int ll_verb_snapshot_diff(struct ll *ll, const json_t *request, json_t *reply);
/* Free what nobody fetched; no verb runs any more. */
void ll_verb_diff_drop_all(void);

#endif
