/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ll_verb_rollback.c - the verb "rollback"
 *
 * It runs in the flusher (ll_flusher.h): what the kernel holds of shared mappings is written
 * before, and the thread serves no requests, so it may tell the kernel directly, and wait for it,
 * that names and inodes have changed. When the verb is answered nothing stale is left.
 */
#include "fuse/ll_verbs.h"

#include <errno.h>
#include <inttypes.h>

#include "fuse/control_json.h"
#include "fuse/ll_internal.h"

/* -ENOENT: the kernel does not hold it. */
static void ll_rollback_complain(uint64_t node, int error)
{
    if (error < 0 && error != -ENOENT)
        log_debug("invalidation of node %" PRIu64 ": %s", node, error_text(error));
}

static void ll_rollback_entry(void *context, uint64_t parent, const char *name)
{
    struct ll *ll = context;

    ll_rollback_complain(parent,
                         fuse_lowlevel_notify_inval_entry(ll->session, parent, name, strlen(name)));
}

static void ll_rollback_inode(void *context, uint64_t node)
{
    struct ll *ll = context;

    ll_rollback_complain(node, fuse_lowlevel_notify_inval_inode(ll->session, node, 0, 0));
}

int ll_verb_rollback(struct ll *ll, const json_t *request, json_t *reply)
{
    const struct fs_notify notify = {
        .entry = ll_rollback_entry, .inode = ll_rollback_inode, .context = ll};
    char name[SNAPSHOT_NAME_SIZE_MAX + 1], before[SNAPSHOT_NAME_SIZE_MAX + 1];
    int size = control_json_get_bytes(request, "name", name, sizeof name);
    int error = size == -ENOENT ? -EINVAL : size < 0 ? size : 0;

    if (error == 0) {
        atomic_fetch_add(&ll->rollbacks, 1);
        error = fs_rollback(ll->fs, name, &notify, before);
        atomic_fetch_add(&ll->rollbacks, 1);
    }
    if (error == 0)
        error = ll_verb_set_text(reply, "name", name);
    if (error == 0)
        error = ll_verb_set_text(reply, "before", before);
    return error;
}
