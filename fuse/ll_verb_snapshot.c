/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ll_verb_snapshot.c - verbs about snapshots
 *
 * What changes the list here has not passed the kernel, so the kernel is told: the name in the
 * root's .snapshots, and that directory's listing and times.
 */
#include "fuse/ll_verbs.h"

#include <errno.h>
#include <stdlib.h>

#include "fuse/control_json.h"
#include "fuse/control_snapshot.h"
#include "fuse/ll_internal.h"

#define TAGS_MAX 64

/* The .snapshots of the root, see fs.h. */
#define SNAPDIR_OF_ROOT (UINT64_C(1) << 62 | FS_ROOT)

static void ll_snapshot_changed(struct ll *ll, const char *name)
{
    ll_notify_entry(ll->notify, SNAPDIR_OF_ROOT, name);
    ll_notify_inode(ll->notify, SNAPDIR_OF_ROOT);
}

static int ll_get_name(const json_t *request, const char *key, char *name)
{
    int size = control_json_get_bytes(request, key, name, SNAPSHOT_NAME_SIZE_MAX + 1);

    if (size == -ENOENT)
        return -EINVAL;
    return size < 0 ? size : 0;
}

/* ---- create ---- */

struct ll_tags {
    struct snapshot_tag tags[TAGS_MAX];
    size_t count;
};

static int ll_get_tags(const json_t *request, struct ll_tags *ret_tags)
{
    /* jansson's iteration takes a non-const object, and does not change it */
    json_t *object = json_object_get(request, "tags");
    const char *key;
    json_t *value;

    ret_tags->count = 0;
    if (object == NULL)
        return 0;
    if (!json_is_object(object) || json_object_size(object) > TAGS_MAX)
        return -EINVAL;
    json_object_foreach(object, key, value)
    {
        if (!json_is_string(value))
            return -EINVAL;
        ret_tags->tags[ret_tags->count++] =
            (struct snapshot_tag){.key = key, .value = json_string_value(value)};
    }
    return 0;
}

int ll_verb_snapshot_create(struct ll *ll, const json_t *request, json_t *reply)
{
    char name[SNAPSHOT_NAME_SIZE_MAX + 1] = "";
    struct snapshot *snapshot;
    struct ll_tags tags;
    int error;

    error = control_json_get_bytes(request, "name", name, sizeof name);
    if (error < 0 && error != -ENOENT)
        return error;
    error = ll_get_tags(request, &tags);
    if (error < 0)
        return error;
    error = snapshot_create(fs_snapshots(ll->fs), slice_of_string(name), tags.tags, tags.count,
                            &snapshot);
    if (error < 0)
        return error;
    snapshot_get_name(snapshot, name);
    ll_snapshot_changed(ll, name);
    error = control_snapshot_describe(reply, fs_snapshots(ll->fs), snapshot, false);
    snapshot_unref(snapshot);
    return error;
}

/* Who has just made it and is told that there is no room gets none that is half made. */
static void ll_delete_unmade(struct ll *ll, struct snapshot *snapshot)
{
    char name[SNAPSHOT_NAME_SIZE_MAX + 1];
    int error;

    snapshot_get_name(snapshot, name);
    error = snapshot_delete_this(fs_snapshots(ll->fs), snapshot);
    if (error == 0)
        ll_snapshot_changed(ll, name);
    else
        log_warning("snapshot %s, for whose directory there is no room, stays: %s", name,
                    error_text(error));
}

/* With "else_delete" a snapshot for whose directory there is no room is deleted. */
int ll_verb_snapshot_wait(struct ll *ll, const json_t *request, json_t *reply)
{
    const json_t *id = json_object_get(request, "id");
    struct snapshot *snapshot;
    int error;

    if (!json_is_integer(id))
        return -EINVAL;
    snapshot = snapshot_find_id(fs_snapshots(ll->fs), (uint64_t)json_integer_value(id));
    if (snapshot == NULL)
        return -ENOENT;
    error = snapshot_wait(fs_snapshots(ll->fs), snapshot);
    if (error_is_shortage(error) && json_is_true(json_object_get(request, "else_delete")))
        ll_delete_unmade(ll, snapshot);
    if (error == 0)
        error = control_snapshot_describe(reply, fs_snapshots(ll->fs), snapshot, false);
    snapshot_unref(snapshot);
    return error;
}

/* ---- list ---- */

int ll_verb_snapshot_list(struct ll *ll, const json_t *request, json_t *reply)
{
    bool usage = json_is_true(json_object_get(request, "usage"));
    json_t *list = json_array();

    if (list == NULL || json_object_set_new(reply, "snapshots", list) != 0)
        return -ENOMEM;
    return control_snapshot_list(list, fs_snapshots(ll->fs), usage);
}

/* ---- several by name ---- */

static int ll_add_name(json_t *list, struct snapshot *snapshot)
{
    char name[SNAPSHOT_NAME_SIZE_MAX + 1];
    json_t *object = json_object();

    if (json_array_append_new(list, object) != 0)
        return -ENOMEM;
    snapshot_get_name(snapshot, name);
    return ll_verb_set_text(object, "name", name);
}

struct ll_names {
    size_t count;
    char (*names)[SNAPSHOT_NAME_SIZE_MAX + 1];
};

/* {"names": [{"name": "..."}, ...]}; free() names. */
static int ll_get_names(const json_t *request, struct ll_names *ret_names)
{
    const json_t *list = json_object_get(request, "names");
    struct ll_names names = {.count = json_array_size(list)};
    int error = 0;

    if (!json_is_array(list) || names.count == 0)
        return -EINVAL;
    names.names = calloc(names.count, sizeof names.names[0]);
    if (names.names == NULL)
        return -ENOMEM;
    for (size_t i = 0; error == 0 && i < names.count; i++)
        error = ll_get_name(json_array_get(list, i), "name", names.names[i]);
    if (error < 0)
        free(names.names);
    else
        *ret_names = names;
    return error;
}

/* What deleting all of them would free. A held one is not deleted: it is named and not counted. */
int ll_verb_snapshot_usage(struct ll *ll, const json_t *request, json_t *reply)
{
    struct snapshot_set *set = fs_snapshots(ll->fs);
    struct control_snapshots snapshots;
    json_t *held = json_array();
    size_t kept = 0;
    int error;

    if (held == NULL || json_object_set_new(reply, "held", held) != 0)
        return -ENOMEM;
    error = control_snapshot_get_all(request, set, &snapshots);
    if (error < 0)
        return error;
    for (size_t i = 0; error == 0 && i < snapshots.count; i++) {
        struct snapshot *snapshot = snapshots.items[i];
        bool is_held = false;

        error = snapshot_is_held(snapshot, &is_held);
        if (error == 0 && is_held)
            error = ll_add_name(held, snapshot);
        if (error == 0 && !is_held) {
            snapshots.items[i] = snapshots.items[kept];
            snapshots.items[kept++] = snapshot;
        }
    }
    if (error == 0)
        error = control_snapshot_set_usage(reply, set, snapshots.items, kept);
    control_snapshot_put_all(&snapshots);
    return error;
}

int ll_verb_delete_snapshot(struct ll *ll, const char *name)
{
    int error = fs_snapshot_delete(ll->fs, name);

    if (error == 0)
        ll_snapshot_changed(ll, name);
    return error;
}

int ll_verb_delete_this_snapshot(struct ll *ll, struct snapshot *snapshot)
{
    char name[SNAPSHOT_NAME_SIZE_MAX + 1];
    int error = fs_snapshot_delete_this(ll->fs, snapshot);

    if (error == 0) {
        snapshot_get_name(snapshot, name);
        ll_snapshot_changed(ll, name);
    }
    return error;
}

/* One that cannot be deleted does not hold the others back. */
int ll_verb_snapshot_delete(struct ll *ll, const json_t *request, json_t *reply)
{
    json_t *results = json_array();
    struct ll_names names;
    int error;

    if (results == NULL || json_object_set_new(reply, "results", results) != 0)
        return -ENOMEM;
    error = ll_get_names(request, &names);
    if (error < 0)
        return error;
    for (size_t i = 0; error == 0 && i < names.count; i++)
        error = ll_verb_add_result(results, names.names[i],
                                   ll_verb_delete_snapshot(ll, names.names[i]));
    free(names.names);
    return error;
}

int ll_verb_snapshot_rename(struct ll *ll, const json_t *request, json_t *reply)
{
    char from[SNAPSHOT_NAME_SIZE_MAX + 1], to[SNAPSHOT_NAME_SIZE_MAX + 1];
    int error = ll_get_name(request, "from", from);

    (void)reply;
    if (error == 0)
        error = ll_get_name(request, "to", to);
    if (error == 0)
        error = snapshot_rename(fs_snapshots(ll->fs), slice_of_string(from), slice_of_string(to));
    if (error == 0) {
        ll_snapshot_changed(ll, from);
        ll_snapshot_changed(ll, to);
    }
    return error;
}
