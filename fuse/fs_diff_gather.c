/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fs_diff_gather.c - differing records, by inode and by name
 */
#include <errno.h>
#include <stdlib.h>

#include "fuse/fs_diff_internal.h"

void *diff_grow(void *items, struct diff_growing *size, size_t item_size)
{
    void **array = items;

    if (size->count == size->room) {
        size_t room = size->room > 0 ? size->room * 2 : 64;
        void *grown = reallocarray(*array, room, item_size);

        if (grown == NULL)
            return NULL;
        *array = grown;
        size->room = room;
    }
    return (uint8_t *)*array + size->count++ * item_size;
}

/* ---- inodes ---- */

struct diff_inode *diff_find_inode(struct diff_work *work, uint64_t ino)
{
    size_t low = 0, high = work->inodes_size.count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (work->inodes[middle].ino < ino)
            low = middle + 1;
        else
            high = middle;
    }
    return low < work->inodes_size.count && work->inodes[low].ino == ino ? &work->inodes[low]
                                                                         : NULL;
}

/* The inode that the walk has come to; records of one inode are neighbours. */
static struct diff_inode *current_inode(struct diff_work *work, uint64_t ino)
{
    size_t count = work->inodes_size.count;
    struct diff_inode *inode;

    if (count > 0 && work->inodes[count - 1].ino == ino)
        return &work->inodes[count - 1];
    inode = diff_grow(&work->inodes, &work->inodes_size, sizeof *inode);
    if (inode != NULL)
        *inode = (struct diff_inode){.ino = ino};
    return inode;
}

/* One side of an inode record; what has no name does not count. */
static int take_side(const struct record *record, struct fs_inode *ret_inode, bool *ret_exists)
{
    int error = record != NULL ? fs_inode_decode(record->value, ret_inode) : 0;

    *ret_exists = error == 0 && record != NULL && ret_inode->nlink > 0;
    return error;
}

static int take_inode(struct diff_inode *inode, const struct engine_difference *difference)
{
    int error = take_side(difference->before, &inode->before, &inode->exists_before);

    if (error == 0)
        error = take_side(difference->after, &inode->after, &inode->exists_after);
    inode->loaded = inode->record = true;
    return error;
}

static int load_side(struct engine_view *view, uint64_t ino, struct fs_inode *ret_inode,
                     bool *ret_exists)
{
    int error = fs_inode_load(view, ino, ret_inode, NULL);

    if (error == -ENOENT) {
        *ret_exists = false;
        return 0;
    }
    *ret_exists = error == 0 && ret_inode->nlink > 0;
    return error;
}

static int load_inode(struct diff_work *work, struct diff_inode *inode)
{
    int error;

    if (inode->loaded)
        return 0;
    error = load_side(work->before, inode->ino, &inode->before, &inode->exists_before);
    if (error == 0)
        error = load_side(work->after, inode->ino, &inode->after, &inode->exists_after);
    inode->loaded = true;
    return error;
}

/* ---- names ---- */

static int add_name(struct diff_work *work, uint64_t directory, struct slice text,
                    const struct fs_dentry *dentry, bool removed)
{
    char *copy = arena_allocate(work->arena, text.size + 1);
    struct diff_name *name =
        copy != NULL ? diff_grow(&work->names, &work->names_size, sizeof *name) : NULL;

    if (name == NULL)
        return -ENOMEM;
    memcpy(copy, text.data, text.size);
    copy[text.size] = '\0';
    *name = (struct diff_name){
        .child = dentry->ino,
        .directory = directory,
        .name = copy,
        .type = dentry->type & S_IFMT,
        .removed = removed,
        .twin = SIZE_MAX,
    };
    return 0;
}

static int take_dentry(struct diff_work *work, struct diff_inode *directory, struct slice text,
                       const struct engine_difference *difference)
{
    struct fs_dentry before, after;
    int error = 0;

    if (difference->before != NULL)
        error = fs_dentry_decode(difference->before->value, &before);
    if (error == 0 && difference->after != NULL)
        error = fs_dentry_decode(difference->after->value, &after);
    /* Another cookie alone is no other name. */
    if (error < 0 ||
        (difference->before != NULL && difference->after != NULL && before.ino == after.ino))
        return error;
    directory->names = true;
    if (difference->before != NULL)
        error = add_name(work, directory->ino, text, &before, true);
    if (error == 0 && difference->after != NULL)
        error = add_name(work, directory->ino, text, &after, false);
    return error;
}

/* ---- the walk ---- */

static int take(struct diff_work *work, const struct engine_difference *difference)
{
    struct diff_inode *inode;
    struct slice rest;
    uint64_t ino;
    uint8_t type;

    if (!fs_key_parse(difference->key, &ino, &type, &rest))
        return ERROR_CORRUPT;
    if (ino == 0 || type == FS_KEY_COOKIE)
        return 0;
    inode = current_inode(work, ino);
    if (inode == NULL)
        return -ENOMEM;
    switch (type) {
    case FS_KEY_INODE:
        return take_inode(inode, difference);
    case FS_KEY_XATTR:
        inode->xattrs = true;
        return 0;
    case FS_KEY_DENTRY:
        return take_dentry(work, inode, rest, difference);
    default:
        inode->content = true;
        return 0;
    }
}

static int walk(struct diff_work *work)
{
    size_t changes_max = work->options->changes_max;
    struct engine_difference difference;
    struct engine_diff *diff;
    int found = engine_diff_new(work->before, work->after, &diff);

    if (found < 0)
        return found;
    while ((found = engine_diff_next(diff, &difference)) > 0) {
        found = take(work, &difference);
        if (found == 0 && changes_max > 0 &&
            work->inodes_size.count + work->names_size.count > changes_max)
            found = -E2BIG;
        if (found < 0)
            break;
    }
    engine_diff_get_statistics(diff, &work->statistics);
    engine_diff_free(diff);
    return found;
}

/* ---- afterwards ---- */

static int compare_names(const void *a, const void *b)
{
    const struct diff_name *left = a, *right = b;

    if (left->child != right->child)
        return left->child < right->child ? -1 : 1;
    if (left->removed != right->removed)
        return left->removed ? -1 : 1;
    if (left->directory != right->directory)
        return left->directory < right->directory ? -1 : 1;
    return strcmp(left->name, right->name);
}

static int compare_places(const void *a, const void *b)
{
    const struct diff_name *left = *(const struct diff_name *const *)a;
    const struct diff_name *right = *(const struct diff_name *const *)b;

    if (left->directory != right->directory)
        return left->directory < right->directory ? -1 : 1;
    return strcmp(left->name, right->name);
}

/* Names that led to one inode and lead to another: each half knows the other. */
static int find_twins(struct diff_work *work)
{
    size_t count = work->names_size.count;
    struct diff_name **places = calloc(count + 1, sizeof(struct diff_name *));

    if (places == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < count; i++)
        places[i] = &work->names[i];
    qsort(places, count, sizeof(struct diff_name *), compare_places);
    for (size_t i = 1; i < count; i++) {
        if (compare_places(&places[i - 1], &places[i]) != 0)
            continue;
        places[i - 1]->twin = (size_t)(places[i] - work->names);
        places[i]->twin = (size_t)(places[i - 1] - work->names);
    }
    free(places);
    return 0;
}

static int compare_inodes(const void *a, const void *b)
{
    uint64_t left = ((const struct diff_inode *)a)->ino,
             right = ((const struct diff_inode *)b)->ino;

    return left < right ? -1 : left > right;
}

/* Every child of a name is among the inodes. (Whoever gives a name puts the inode, so they are.) */
static int add_children(struct diff_work *work)
{
    size_t known = work->inodes_size.count;
    uint64_t last = 0;

    for (size_t i = 0; i < work->names_size.count; i++) {
        uint64_t child = work->names[i].child;
        struct diff_growing added = work->inodes_size;
        struct diff_inode *inode;

        work->inodes_size.count = known; /* those are in order */
        inode = child != last ? diff_find_inode(work, child) : NULL;
        work->inodes_size = added;
        if (child == last || inode != NULL)
            continue;
        last = child;
        inode = diff_grow(&work->inodes, &work->inodes_size, sizeof *inode);
        if (inode == NULL)
            return -ENOMEM;
        *inode = (struct diff_inode){.ino = child};
    }
    if (work->inodes_size.count > known)
        qsort(work->inodes, work->inodes_size.count, sizeof *work->inodes, compare_inodes);
    return 0;
}

int diff_gather(struct diff_work *work)
{
    int error = walk(work);

    if (error == 0 && work->names_size.count > 0)
        qsort(work->names, work->names_size.count, sizeof *work->names, compare_names);
    if (error == 0)
        error = find_twins(work);
    if (error == 0)
        error = add_children(work);
    for (size_t i = 0; error == 0 && i < work->inodes_size.count; i++)
        error = load_inode(work, &work->inodes[i]);
    return error;
}

/* ---- names that stayed ---- */

static bool is_wanted(const struct diff_work *work, uint64_t ino)
{
    size_t low = 0, high = work->wanted_size.count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (work->wanted[middle] < ino)
            low = middle + 1;
        else
            high = middle;
    }
    return low < work->wanted_size.count && work->wanted[low] == ino;
}

static int look_at(struct diff_work *work, const struct record *record)
{
    struct fs_dentry dentry;
    struct diff_stay *stay;
    struct slice text;
    uint64_t directory;
    uint8_t type;
    char *copy;

    if (!fs_key_parse(record->key, &directory, &type, &text) || type != FS_KEY_DENTRY)
        return 0;
    if (fs_dentry_decode(record->value, &dentry) < 0)
        return ERROR_CORRUPT;
    if (!is_wanted(work, dentry.ino))
        return 0;
    copy = arena_allocate(work->arena, text.size + 1);
    stay = copy != NULL ? diff_grow(&work->stays, &work->stays_size, sizeof *stay) : NULL;
    if (stay == NULL)
        return -ENOMEM;
    memcpy(copy, text.data, text.size);
    copy[text.size] = '\0';
    *stay = (struct diff_stay){dentry.ino, directory, copy};
    return 0;
}

static int compare_stays(const void *a, const void *b)
{
    const struct diff_stay *left = a, *right = b;

    return left->child < right->child ? -1 : left->child > right->child;
}

int diff_search_names(struct diff_work *work)
{
    struct engine_iterator *iterator;
    int found, error = 0;

    if (work->wanted_size.count == 0)
        return 0;
    found = engine_iterator_new(work->after, slice_of(NULL, 0), &iterator);
    if (found < 0)
        return found;
    found = engine_iterator_seek(iterator, slice_of("", 1));
    while (found > 0 && error == 0) {
        error = look_at(work, engine_iterator_record(iterator));
        if (error == 0)
            found = engine_iterator_next(iterator);
    }
    engine_iterator_free(iterator);
    if (work->stays_size.count > 0)
        qsort(work->stays, work->stays_size.count, sizeof *work->stays, compare_stays);
    return error < 0 ? error : found;
}
