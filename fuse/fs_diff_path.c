/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fs_diff_path.c - from inode numbers to paths
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "fuse/fs_diff_internal.h"

/* No tree is deeper; a longer walk has met a ring. */
#define DEPTH_MAX 65536

struct diff_path {
    uint64_t ino; /* 0: free */
    const char *path;
};

static size_t slot_of(const struct diff_paths *paths, uint64_t ino)
{
    size_t slot = (ino * UINT64_C(0x9e3779b97f4a7c15)) >> 20 & (paths->slot_count - 1);

    while (paths->slots[slot].ino != 0 && paths->slots[slot].ino != ino)
        slot = (slot + 1) & (paths->slot_count - 1);
    return slot;
}

static int paths_grow(struct diff_paths *paths)
{
    struct diff_paths grown = *paths;

    grown.slot_count = paths->slot_count > 0 ? paths->slot_count * 2 : 256;
    grown.slots = calloc(grown.slot_count, sizeof *grown.slots);
    if (grown.slots == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < paths->slot_count; i++)
        if (paths->slots[i].ino != 0)
            grown.slots[slot_of(&grown, paths->slots[i].ino)] = paths->slots[i];
    free(paths->slots);
    *paths = grown;
    return 0;
}

static const char *remembered(const struct diff_paths *paths, uint64_t ino)
{
    return paths->slot_count > 0 ? paths->slots[slot_of(paths, ino)].path : NULL;
}

static int remember(struct diff_paths *paths, uint64_t ino, const char *path)
{
    int error = paths->used * 2 >= paths->slot_count ? paths_grow(paths) : 0;

    if (error < 0)
        return error;
    paths->slots[slot_of(paths, ino)] = (struct diff_path){ino, path};
    paths->used++;
    return 0;
}

void diff_paths_free(struct diff_paths *paths)
{
    free(paths->slots);
    paths->slots = NULL;
    paths->slot_count = paths->used = 0;
}

static const char *copy_name(struct arena *arena, struct slice name)
{
    char *copy = arena_allocate(arena, name.size + 1);

    if (copy != NULL) {
        memcpy(copy, name.data, name.size);
        copy[name.size] = '\0';
    }
    return copy;
}

static int join(struct diff_paths *paths, const char *directory, const char *name,
                const char **ret_path)
{
    size_t directory_size = strlen(directory), name_size = strlen(name);
    size_t start = directory_size > 0 ? directory_size + 1 : 0;
    char *path;

    if (paths->bytes_max > 0 && paths->arena->total_bytes > paths->bytes_max)
        return -E2BIG;
    path = arena_allocate(paths->arena, start + name_size + 1);
    if (path == NULL)
        return -ENOMEM;
    if (directory_size > 0) {
        memcpy(path, directory, directory_size);
        path[directory_size] = '/';
    }
    memcpy(path + start, name, name_size + 1);
    *ret_path = path;
    return 0;
}

/* ---- the name of an inode ---- */

/* 1 with the name when the cookie record is of that inode. */
static int take_cookie(struct diff_paths *paths, struct slice value, uint64_t ino,
                       const char **ret_name)
{
    struct fs_cookie cookie;
    const char *name;

    if (fs_cookie_decode(value, &cookie) < 0)
        return ERROR_CORRUPT;
    if (cookie.ino != ino)
        return 0;
    name = copy_name(paths->arena, cookie.name);
    if (name == NULL)
        return -ENOMEM;
    *ret_name = name;
    return 1;
}

int diff_hinted_name(struct diff_paths *paths, uint64_t ino, const struct fs_inode *inode,
                     const char **ret_name)
{
    struct buffer value = {0};
    struct fs_key key;
    int found;

    if (inode->parent == 0 || inode->name_cookie == 0)
        return 0;
    fs_key_cookie(&key, inode->parent, inode->name_cookie);
    found = engine_view_get(paths->view, fs_key_slice(&key), &value, NULL);
    if (found > 0)
        found = take_cookie(paths, buffer_slice(&value), ino, ret_name);
    buffer_free(&value);
    return found;
}

/* Look at every name of the parent. */
static int searched_name(struct diff_paths *paths, uint64_t ino, uint64_t parent,
                         const char **ret_name)
{
    struct engine_iterator *iterator;
    struct fs_key start, end;
    int found, taken = 0;

    fs_key_type_start(&start, parent, FS_KEY_COOKIE);
    fs_key_type_start(&end, parent, FS_KEY_COOKIE + 1);
    found = engine_iterator_new(paths->view, fs_key_slice(&end), &iterator);
    if (found < 0)
        return found;
    found = engine_iterator_seek(iterator, fs_key_slice(&start));
    while (found > 0 && taken == 0) {
        taken = take_cookie(paths, engine_iterator_record(iterator)->value, ino, ret_name);
        if (taken == 0)
            found = engine_iterator_next(iterator);
    }
    engine_iterator_free(iterator);
    return found < 0 ? found : taken;
}

/* ---- the path of a directory ---- */

struct step {
    uint64_t ino;
    const char *name;
};

static int step_up(struct diff_paths *paths, uint64_t ino, struct step *ret_step,
                   uint64_t *ret_parent)
{
    struct fs_inode inode;
    const char *name = NULL;
    int found = fs_inode_load(paths->view, ino, &inode, NULL);

    if (found == 0)
        found = diff_hinted_name(paths, ino, &inode, &name);
    if (found == 0)
        found = searched_name(paths, ino, inode.parent, &name);
    if (found == 0 || found == -ENOENT) {
        log_error("directory %" PRIu64 " has no name in the one that it says it lies in", ino);
        return ERROR_CORRUPT;
    }
    if (found < 0)
        return found;
    *ret_step = (struct step){ino, name};
    *ret_parent = inode.parent;
    return 0;
}

int diff_path_of_directory(struct diff_paths *paths, uint64_t ino, const char **ret_path)
{
    struct step *steps = NULL;
    size_t count = 0, room = 0;
    const char *path = NULL;
    int error = 0;

    while (error == 0) {
        path = ino == FS_ROOT ? "" : remembered(paths, ino);
        if (path != NULL)
            break;
        if (count == room) {
            struct step *grown = reallocarray(steps, room * 2 + 16, sizeof *steps);

            error = grown == NULL ? -ENOMEM : count >= DEPTH_MAX ? ERROR_CORRUPT : 0;
            if (grown != NULL) {
                steps = grown;
                room = room * 2 + 16;
            }
        }
        if (error == 0)
            error = step_up(paths, ino, &steps[count], &ino);
        if (error == 0)
            count++;
    }
    while (error == 0 && count > 0) {
        count--;
        error = join(paths, path, steps[count].name, &path);
        if (error == 0)
            error = remember(paths, steps[count].ino, path);
    }
    free(steps);
    if (error == 0)
        *ret_path = path;
    return error;
}

int diff_path_of_name(struct diff_paths *paths, uint64_t directory, const char *name,
                      const char **ret_path)
{
    const char *parent;
    int error = diff_path_of_directory(paths, directory, &parent);

    return error < 0 ? error : join(paths, parent, name, ret_path);
}
