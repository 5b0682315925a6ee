/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ll_verb_diff.c - verb "snapshot_diff": made at once, fetched in pages
 *
 * A difference can have millions of entries and JSON takes many times their memory, so a page of
 * them goes out at a time. What was made is kept, for a few callers, until its last page was
 * fetched or others need its place.
 */
#include "fuse/ll_verbs.h"

#include <errno.h>

#include "fuse/control_diff.h"
#include "fuse/control_json.h"
#include "fuse/ll_internal.h"

#define KEPT_MAX    4
#define PAGE_COUNT  4000
#define PAGE_BYTES  ((size_t)16 << 20) /* of paths, but for the last */
#define CHANGES_MAX 4000000
#define PATHS_MAX   ((size_t)1 << 30)

struct kept {
    uint64_t token; /* 0: free; rising, so the lowest is the oldest */
    struct fs_diff diff;
};

static struct {
    pthread_mutex_t mutex; /* a leaf: nothing is called under it */
    uint64_t next_token;
    struct kept kept[KEPT_MAX];
} ll_diffs = {.mutex = PTHREAD_MUTEX_INITIALIZER, .next_token = 1};

/* Takes the diff over; the oldest goes. */
static uint64_t ll_diff_keep(struct fs_diff *diff)
{
    struct kept *oldest = &ll_diffs.kept[0];
    struct fs_diff dropped;
    uint64_t token;

    (void)pthread_mutex_lock(&ll_diffs.mutex);
    for (size_t i = 1; i < KEPT_MAX; i++)
        if (ll_diffs.kept[i].token < oldest->token)
            oldest = &ll_diffs.kept[i];
    dropped = oldest->diff;
    token = ll_diffs.next_token++;
    *oldest = (struct kept){token, *diff};
    (void)pthread_mutex_unlock(&ll_diffs.mutex);
    fs_diff_free(&dropped);
    return token;
}

/* Take it out; false when it is not there (any more). */
static bool ll_diff_take(uint64_t token, struct fs_diff *ret_diff)
{
    bool found = false;

    (void)pthread_mutex_lock(&ll_diffs.mutex);
    for (size_t i = 0; !found && i < KEPT_MAX; i++) {
        if (ll_diffs.kept[i].token != token)
            continue;
        *ret_diff = ll_diffs.kept[i].diff;
        ll_diffs.kept[i] = (struct kept){0};
        found = true;
    }
    (void)pthread_mutex_unlock(&ll_diffs.mutex);
    return found;
}

void ll_verb_diff_drop_all(void)
{
    for (size_t i = 0; i < KEPT_MAX; i++) {
        fs_diff_free(&ll_diffs.kept[i].diff);
        ll_diffs.kept[i].token = 0;
    }
}

/* How many entries from `from` on make a page. */
static size_t ll_diff_page(const struct fs_diff *diff, size_t from)
{
    size_t count = 0, bytes = 0;

    while (count < PAGE_COUNT && from + count < diff->count && bytes < PAGE_BYTES) {
        const struct fs_diff_entry *entry = &diff->entries[from + count++];

        bytes += entry->path_before != NULL ? strlen(entry->path_before) : 0;
        bytes += entry->path_after != NULL ? strlen(entry->path_after) : 0;
    }
    return count;
}

/* Answer with entries from `from` on; the diff is kept when there are more, freed when not. */
static int ll_diff_send(struct fs_diff *diff, size_t from, json_t *reply)
{
    size_t next = from < diff->count ? from + ll_diff_page(diff, from) : diff->count;
    json_t *entries = json_array();
    int error = json_object_set_new(reply, "entries", entries) == 0 ? 0 : -ENOMEM;

    if (error == 0)
        error = ll_verb_set_number(reply, "count", diff->count);
    if (error == 0)
        error = control_diff_append(entries, diff, from, next - from);
    if (error == 0 && next < diff->count) {
        error = ll_verb_set_number(reply, "next", next);
        if (error == 0)
            return ll_verb_set_number(reply, "token", ll_diff_keep(diff));
    }
    fs_diff_free(diff);
    return error;
}

static int ll_diff_more(const json_t *request, json_t *reply)
{
    const json_t *token = json_object_get(request, "token");
    const json_t *from = json_object_get(request, "from_entry");
    struct fs_diff diff;

    if (!json_is_integer(token) || !json_is_integer(from) || json_integer_value(token) <= 0 ||
        json_integer_value(from) < 0)
        return -EINVAL;
    if (!ll_diff_take((uint64_t)json_integer_value(token), &diff))
        return -ESTALE;
    return ll_diff_send(&diff, (size_t)json_integer_value(from), reply);
}

/* *ret_name is `name`, or NULL when the request does not have it. */
static int ll_diff_get_name(const json_t *request, const char *key,
                            char name[SNAPSHOT_NAME_SIZE_MAX + 1], const char **ret_name)
{
    int size = control_json_get_bytes(request, key, name, SNAPSHOT_NAME_SIZE_MAX + 1);

    if (size < 0 && size != -ENOENT)
        return size;
    *ret_name = size < 0 ? NULL : name;
    return 0;
}

static int ll_diff_start(struct ll *ll, const json_t *request, json_t *reply)
{
    char from_name[SNAPSHOT_NAME_SIZE_MAX + 1], to_name[SNAPSHOT_NAME_SIZE_MAX + 1];
    struct fs_diff_options options = {.changes_max = CHANGES_MAX, .paths_max = PATHS_MAX};
    struct control_paths paths;
    const char *from, *to;
    struct fs_diff diff;
    int error = ll_diff_get_name(request, "from", from_name, &from);

    if (error == 0)
        error = from != NULL ? ll_diff_get_name(request, "to", to_name, &to) : -EINVAL;
    if (error == 0)
        error = control_paths_get(request, &paths);
    if (error < 0)
        return error;
    options.paths = (const char *const *)paths.items;
    options.path_count = paths.count;
    error = control_diff_make(ll->engine, fs_snapshots(ll->fs), from, to, &options, &diff);
    control_paths_free(&paths);
    return error < 0 ? error : ll_diff_send(&diff, 0, reply);
}

int ll_verb_snapshot_diff(struct ll *ll, const json_t *request, json_t *reply)
{
    return json_object_get(request, "token") != NULL ? ll_diff_more(request, reply)
                                                     : ll_diff_start(ll, request, reply);
}
