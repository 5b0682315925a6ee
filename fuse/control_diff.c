/* SPDX-License-Identifier: Apache-2.0 */
/*
 * control_diff.c - differences of trees as JSON
 */
#include "fuse/control_diff.h"

#include <errno.h>
#include <stdlib.h>

#include "fuse/control_json.h"

#define PATHS_MAX 1000

static const char *type_name(uint32_t type)
{
    switch (type) {
    case S_IFDIR:
        return "directory";
    case S_IFREG:
        return "file";
    case S_IFLNK:
        return "symlink";
    case S_IFCHR:
    case S_IFBLK:
        return "device";
    case S_IFIFO:
        return "fifo";
    default:
        return "socket";
    }
}

static int set_side(json_t *object, const char *path_key, const char *path, const char *size_key,
                    uint64_t size)
{
    int error;

    if (path == NULL)
        return 0;
    error = control_json_set_bytes(object, path_key, path, strlen(path));
    if (error == 0 && json_object_set_new(object, size_key, json_integer((json_int_t)size)) != 0)
        error = -ENOMEM;
    return error;
}

static int set_changes(json_t *object, unsigned changes)
{
    json_t *list = json_array();

    if (json_object_set_new(object, "changes", list) != 0)
        return -ENOMEM;
    for (int bit = 0; bit < FS_DIFF_CHANGES; bit++)
        if ((changes & 1u << bit) != 0 &&
            json_array_append_new(list, json_string(fs_diff_change_names[bit])) != 0)
            return -ENOMEM;
    return 0;
}

static int append_entry(json_t *entries, const struct fs_diff_entry *entry)
{
    static const char *const kinds[] = {
        [FS_DIFF_ADDED] = "added",
        [FS_DIFF_REMOVED] = "removed",
        [FS_DIFF_MODIFIED] = "modified",
        [FS_DIFF_RENAMED] = "renamed",
    };
    json_t *object =
        json_pack("{s:s, s:s}", "kind", kinds[entry->kind], "type", type_name(entry->type));
    int error = json_array_append_new(entries, object) == 0 ? 0 : -ENOMEM;

    if (error == 0)
        error =
            set_side(object, "path_before", entry->path_before, "size_before", entry->size_before);
    if (error == 0)
        error = set_side(object, "path_after", entry->path_after, "size_after", entry->size_after);
    return error == 0 ? set_changes(object, entry->changes) : error;
}

int control_diff_append(json_t *entries, const struct fs_diff *diff, size_t from, size_t count)
{
    int error = 0;

    for (size_t i = from; error == 0 && i < diff->count && i - from < count; i++)
        error = append_entry(entries, &diff->entries[i]);
    return error;
}

/* ---- what is asked ---- */

static int get_path(const json_t *object, char **ret_path)
{
    char path[4096];
    int size = control_json_get_bytes(object, "path", path, sizeof path);

    if (size < 0)
        return size == -ENOENT ? -EINVAL : size;
    *ret_path = strdup(path);
    return *ret_path != NULL ? 0 : -ENOMEM;
}

int control_paths_get(const json_t *request, struct control_paths *ret_paths)
{
    const json_t *list = json_object_get(request, "paths");
    struct control_paths paths = {.count = 0};
    size_t count = json_array_size(list);
    int error = 0;

    if ((list != NULL && !json_is_array(list)) || count > PATHS_MAX)
        return -EINVAL;
    paths.items = calloc(count + 1, sizeof paths.items[0]);
    if (paths.items == NULL)
        return -ENOMEM;
    while (error == 0 && paths.count < count) {
        error = get_path(json_array_get(list, paths.count), &paths.items[paths.count]);
        paths.count += error == 0;
    }
    if (error < 0)
        control_paths_free(&paths);
    else
        *ret_paths = paths;
    return error;
}

void control_paths_free(struct control_paths *paths)
{
    for (size_t i = 0; i < paths->count; i++)
        free(paths->items[i]);
    free(paths->items);
    *paths = (struct control_paths){0};
}

/* ---- the difference ---- */

/* A view of a snapshot by name, or of the present without one. */
struct place {
    struct snapshot *snapshot;
    struct engine_view *view;
};

static int place_open(struct engine *engine, struct snapshot_set *set, const char *name,
                      struct place *ret_place)
{
    struct place place = {0};
    int error = 0;

    if (name == NULL) {
        place.view = engine_view_acquire(engine);
        error = place.view != NULL ? 0 : -ENOMEM;
    } else {
        place.snapshot = snapshot_find(set, slice_of_string(name));
        error = place.snapshot != NULL ? snapshot_view_get(place.snapshot, &place.view) : -ENOENT;
    }
    if (error < 0)
        snapshot_unref(place.snapshot);
    else
        *ret_place = place;
    return error;
}

static void place_close(struct place *place)
{
    if (place->snapshot != NULL)
        snapshot_view_put(place->snapshot, place->view);
    else
        engine_view_release(place->view);
    snapshot_unref(place->snapshot);
}

int control_diff_make(struct engine *engine, struct snapshot_set *set, const char *from,
                      const char *to, const struct fs_diff_options *options,
                      struct fs_diff *ret_diff)
{
    struct place before, after;
    int error = place_open(engine, set, from, &before);

    if (error < 0)
        return error;
    error = place_open(engine, set, to, &after);
    if (error == 0) {
        error = fs_diff_make(before.view, after.view, options, ret_diff);
        place_close(&after);
    }
    place_close(&before);
    return error;
}
