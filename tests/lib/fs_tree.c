/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fs_tree.c - walking a tree
 */
#include "tests/lib/fs_tree.h"

#include <linux/limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/checksum.h"

#define READ_SIZE  (64 * 1024)
#define XATTR_SIZE 4096

static void *must(void *memory)
{
    if (memory == NULL)
        abort();
    return memory;
}

static void add(struct fs_tree *tree, const void *data, size_t size)
{
    tree->digest = checksum64_seeded(data, size, tree->digest + size);
}

/* ---- what an inode has ---- */

/* The first name under which a file was met stands for it: so links show. */
static void add_links(struct fs_tree *tree, const struct fs_tree_entry *entry)
{
    if (S_ISDIR(entry->mode))
        return;
    for (size_t i = 0; i < tree->count; i++) {
        if (tree->list[i].node == entry->node) {
            add(tree, tree->list[i].path, strlen(tree->list[i].path));
            return;
        }
    }
}

static void add_attribute(struct fs_tree *tree, const struct fs_attribute *attribute)
{
    uint64_t parts[] = {attribute->mode,
                        attribute->uid,
                        attribute->gid,
                        attribute->rdev,
                        attribute->flags,
                        S_ISDIR(attribute->mode) ? 0 : attribute->size_bytes,
                        (uint64_t)attribute->mtime.tv_sec,
                        (uint64_t)attribute->mtime.tv_nsec,
                        (uint64_t)attribute->ctime.tv_sec,
                        (uint64_t)attribute->ctime.tv_nsec};

    add(tree, parts, sizeof parts);
}

static int add_content(struct fs_tree *tree, uint64_t node)
{
    uint8_t *data = must(malloc(READ_SIZE));
    uint64_t handle, offset = 0;
    int64_t size;
    int result = fs_open_file(tree->fs, node, false, &handle);

    if (result < 0) {
        free(data);
        return result;
    }
    do {
        size = fs_read(tree->fs, node, handle, data, READ_SIZE, offset);
        if (size > 0) {
            add(tree, data, (size_t)size);
            offset += (uint64_t)size;
        }
    } while (size > 0);
    fs_release_file(tree->fs, node, handle);
    free(data);
    return size < 0 ? (int)size : 0;
}

static int add_xattrs(struct fs_tree *tree, uint64_t node)
{
    char names[XATTR_SIZE], value[XATTR_SIZE_MAX];
    int64_t size = fs_listxattr(tree->fs, node, true, names, sizeof names);

    for (int64_t at = 0; at < size; at += (int64_t)strlen(names + at) + 1) {
        int64_t value_size = fs_getxattr(tree->fs, node, names + at, value, sizeof value);

        if (value_size < 0)
            return (int)value_size;
        add(tree, names + at, strlen(names + at));
        add(tree, value, (size_t)value_size);
    }
    return size < 0 ? (int)size : 0;
}

static int add_target(struct fs_tree *tree, uint64_t node)
{
    struct buffer target = {0};
    int result = fs_readlink(tree->fs, node, &target);

    if (result >= 0)
        add(tree, target.data, target.size);
    buffer_free(&target);
    return result < 0 ? result : 0;
}

static int add_inode(struct fs_tree *tree, const struct fs_attribute *attribute)
{
    int result = 0;

    add_attribute(tree, attribute);
    if (S_ISREG(attribute->mode))
        result = add_content(tree, attribute->node);
    else if (S_ISLNK(attribute->mode))
        result = add_target(tree, attribute->node);
    return result == 0 ? add_xattrs(tree, attribute->node) : result;
}

/* ---- directories ---- */

struct names {
    char (*list)[256];
    size_t count;
    uint64_t cookie; /* of the last entry */
    bool any;
};

static int take_name(void *context, const struct fs_directory_entry *entry)
{
    struct names *names = context;

    names->cookie = entry->cookie;
    names->any = true;
    if ((entry->name_size == 1 && entry->name[0] == '.') ||
        (entry->name_size == 2 && memcmp(entry->name, "..", 2) == 0))
        return 0;
    names->list = must(realloc(names->list, (names->count + 1) * sizeof *names->list));
    memcpy(names->list[names->count], entry->name, entry->name_size);
    names->list[names->count++][entry->name_size] = '\0';
    return 0;
}

static int compare_names(const void *left, const void *right)
{
    return strcmp(left, right);
}

static int list_directory(struct fs_tree *tree, uint64_t node, struct names *names)
{
    struct fs_directory *directory;
    int result = fs_directory_open(tree->fs, node, &directory);

    if (result < 0)
        return result;
    /* An error that comes after some entries is told of by the next call. */
    do {
        names->any = false;
        result = fs_readdir(directory, names->cookie, false, take_name, names);
    } while (result == 0 && names->any);
    fs_directory_close(directory);
    if (names->count > 0)
        qsort(names->list, names->count, sizeof *names->list, compare_names);
    return result < 0 ? result : 0;
}

static int walk(struct fs_tree *tree, uint64_t node, const char *path);

static int walk_name(struct fs_tree *tree, uint64_t parent, const char *path, const char *name)
{
    struct fs_tree_entry entry = {.parent = parent};
    struct fs_entry found;
    int result = fs_lookup(tree->fs, parent, name, &found);

    if (result < 0)
        return result;
    entry.node = found.attribute.node;
    entry.mode = found.attribute.mode;
    snprintf(entry.name, sizeof entry.name, "%s", name);
    if (asprintf(&entry.path, "%s/%s", path, name) < 0)
        abort();
    tree->list = must(realloc(tree->list, (tree->count + 1) * sizeof *tree->list));
    tree->list[tree->count++] = entry;
    add(tree, entry.path, strlen(entry.path));
    add_links(tree, &entry);
    result = add_inode(tree, &found.attribute);
    if (result == 0 && S_ISDIR(entry.mode))
        result = walk(tree, entry.node, entry.path);
    return result;
}

static int walk(struct fs_tree *tree, uint64_t node, const char *path)
{
    struct names names = {0};
    int result = list_directory(tree, node, &names);

    for (size_t i = 0; result == 0 && i < names.count; i++)
        result = walk_name(tree, node, path, names.list[i]);
    free(names.list);
    return result;
}

int fs_tree_walk(struct fs *fs, uint64_t top, struct fs_tree *ret_tree)
{
    struct fs_tree tree = {.fs = fs};
    struct fs_entry entry;
    int result = fs_getattr(fs, top, &entry);

    if (result == 0)
        result = add_inode(&tree, &entry.attribute);
    if (result == 0)
        result = walk(&tree, top, "");
    if (result < 0) {
        fs_tree_free(&tree);
        return result;
    }
    *ret_tree = tree;
    return 0;
}

void fs_tree_free(struct fs_tree *tree)
{
    for (size_t i = 0; i < tree->count; i++) {
        fs_forget(tree->fs, tree->list[i].node, 1);
        free(tree->list[i].path);
    }
    free(tree->list);
    *tree = (struct fs_tree){0};
}
