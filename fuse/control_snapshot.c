/* SPDX-License-Identifier: Apache-2.0 */
/*
 * control_snapshot.c - snapshots as JSON
 */
#include "fuse/control_snapshot.h"

#include <errno.h>
#include <stdlib.h>

#include "fuse/control_json.h"

static int set_number(json_t *object, const char *key, uint64_t value)
{
    return json_object_set_new(object, key, json_integer((json_int_t)value)) == 0 ? 0 : -ENOMEM;
}

static int set_time(json_t *object, const char *key, struct timespec time)
{
    char text[CONTROL_TIME_SIZE];

    control_format_time(time, text);
    return json_object_set_new(object, key, json_string(text)) == 0 ? 0 : -ENOMEM;
}

/* ---- one ---- */

static int set_numbers(json_t *object, const struct engine_checkpoint_info *info)
{
    const struct {
        const char *key;
        uint64_t value;
    } numbers[] = {
        {"files", info->linked_files + info->copied_files},
        {"bytes", info->linked_bytes + info->copied_bytes},
        {"linked_files", info->linked_files},
        {"linked_bytes", info->linked_bytes},
        {"copied_files", info->copied_files},
        {"copied_bytes", info->copied_bytes},
    };
    int error = 0;

    for (size_t i = 0; error == 0 && i < sizeof numbers / sizeof numbers[0]; i++)
        error = set_number(object, numbers[i].key, numbers[i].value);
    return error;
}

static int set_tags(json_t *object, const struct snapshot *snapshot)
{
    json_t *tags = json_object();

    if (json_object_set_new(object, "tags", tags) != 0)
        return -ENOMEM;
    for (size_t i = 0; i < snapshot_tag_count(snapshot); i++) {
        struct snapshot_tag tag = snapshot_tag_at(snapshot, i);

        if (json_object_set_new(tags, tag.key, json_string(tag.value)) != 0)
            return -ENOMEM;
    }
    return 0;
}

static int add_hold(void *context, struct slice owner, uint64_t expires_s)
{
    json_t *holds = context, *hold = json_object();
    int error;

    if (json_array_append_new(holds, hold) != 0)
        return -ENOMEM;
    error = control_json_set_bytes(hold, "owner", (const char *)owner.data, owner.size);
    if (error == 0 && expires_s != 0)
        error = set_time(hold, "expires", (struct timespec){.tv_sec = (time_t)expires_s});
    return error;
}

static int set_holds(json_t *object, struct snapshot *snapshot)
{
    json_t *holds = json_array();
    int error;

    if (json_object_set_new(object, "holds", holds) != 0)
        return -ENOMEM;
    error = snapshot_each_hold(snapshot, add_hold, holds);
    return error == -ENOENT ? 0 : error; /* deleted meanwhile */
}

/* A snapshot that is being made or deleted has no bytes to tell. */
static int set_own_usage(json_t *object, struct snapshot_set *set, struct snapshot *snapshot)
{
    struct engine_usage usage;
    int error = snapshot_usage(set, &snapshot, 1, &usage);

    if (error == -ENOENT || error == -EAGAIN)
        return 0;
    if (error == 0)
        error = set_number(object, "referenced_bytes", usage.bytes);
    if (error == 0)
        error = set_number(object, "unique_bytes", usage.unique_bytes);
    return error;
}

int control_snapshot_describe(json_t *object, struct snapshot_set *set, struct snapshot *snapshot,
                              bool usage)
{
    char name[SNAPSHOT_NAME_SIZE_MAX + 1];
    struct engine_checkpoint_info info;
    bool complete = snapshot_get_numbers(snapshot, &info);
    int error;

    snapshot_get_name(snapshot, name);
    error = control_json_set_bytes(object, "name", name, strlen(name));
    if (error == 0)
        error = set_number(object, "id", snapshot_id(snapshot));
    if (error == 0)
        error = set_number(object, "sequence", snapshot_sequence(snapshot));
    if (error == 0)
        error = set_time(object, "created", snapshot_created(snapshot));
    if (error == 0)
        error = set_tags(object, snapshot);
    if (error == 0 && json_object_set_new(object, "materialised", json_boolean(complete)) != 0)
        error = -ENOMEM;
    if (error == 0 && complete)
        error = set_numbers(object, &info);
    if (error == 0 && usage)
        error = set_own_usage(object, set, snapshot);
    if (error == 0 && usage)
        error = set_holds(object, snapshot);
    return error;
}

/* ---- all ---- */

int control_snapshot_list(json_t *list, struct snapshot_set *set, bool usage)
{
    struct snapshot *snapshot;
    uint64_t id = 0;
    int error = 0;

    while (error == 0 && (snapshot = snapshot_next(set, id)) != NULL) {
        json_t *object = json_object();

        id = snapshot_id(snapshot);
        error = json_array_append_new(list, object) == 0
                    ? control_snapshot_describe(object, set, snapshot, usage)
                    : -ENOMEM;
        snapshot_unref(snapshot);
    }
    return error;
}

/* ---- some, by name ---- */

static int get_one(const json_t *object, struct snapshot_set *set, struct snapshot **ret_snapshot)
{
    char name[SNAPSHOT_NAME_SIZE_MAX + 1];
    int size = control_json_get_bytes(object, "name", name, sizeof name);
    struct snapshot *snapshot;

    if (size < 0)
        return size == -ENOENT ? -EINVAL : size;
    snapshot = snapshot_find(set, slice_of(name, (size_t)size));
    if (snapshot == NULL)
        return -ENOENT;
    *ret_snapshot = snapshot;
    return 0;
}

int control_snapshot_get_all(const json_t *request, struct snapshot_set *set,
                             struct control_snapshots *ret_snapshots)
{
    const json_t *list = json_object_get(request, "names");
    struct control_snapshots snapshots = {.count = 0};
    size_t count = json_array_size(list);
    int error = 0;

    if (!json_is_array(list) || count == 0)
        return -EINVAL;
    snapshots.items = calloc(count, sizeof snapshots.items[0]);
    if (snapshots.items == NULL)
        return -ENOMEM;
    while (error == 0 && snapshots.count < count) {
        error =
            get_one(json_array_get(list, snapshots.count), set, &snapshots.items[snapshots.count]);
        if (error == 0)
            snapshots.count++;
    }
    if (error < 0)
        control_snapshot_put_all(&snapshots);
    else
        *ret_snapshots = snapshots;
    return error;
}

void control_snapshot_put_all(struct control_snapshots *snapshots)
{
    for (size_t i = 0; i < snapshots->count; i++)
        snapshot_unref(snapshots->items[i]);
    free(snapshots->items);
    *snapshots = (struct control_snapshots){0};
}

int control_snapshot_set_usage(json_t *object, struct snapshot_set *set,
                               struct snapshot *const *snapshots, size_t count)
{
    struct engine_usage usage;
    int error = snapshot_wait_all(set);

    if (error == 0)
        error = snapshot_usage(set, snapshots, count, &usage);
    if (error == 0)
        error = set_number(object, "referenced_bytes", usage.bytes);
    if (error == 0)
        error = set_number(object, "freed_bytes", usage.unique_bytes);
    if (error == 0)
        error = set_number(object, "freed_disk_bytes", usage.unique_disk_bytes);
    return error;
}
