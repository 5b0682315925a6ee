/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rot_tree.c - walk, remember, compare
 */
#include "tests/rot/rot_tree.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/checksum.h"
#include "engine/base/error.h"

#define PIECE_SIZE (128 * 1024) /* of a file, from its start: one frame at most */

static void add_line(struct rot_tree *tree, const char *path, const char *content, int error)
{
    if (tree->count == tree->capacity) {
        tree->capacity = tree->capacity * 2 + 64;
        tree->lines = realloc(tree->lines, tree->capacity * sizeof *tree->lines);
        if (tree->lines == NULL)
            abort();
    }
    tree->errors += error != 0;
    tree->lines[tree->count++] = (struct rot_line){strdup(path), strdup(content), error};
}

/* ---- one node ---- */

/* Each piece gets a line of its own, "PATH/@OFFSET": damage to one hides no other. */
static void read_pieces(struct rot_tree *tree, struct fs *fs, uint64_t node, uint64_t handle,
                        uint64_t size, const char *path)
{
    static uint8_t data[PIECE_SIZE];

    /* One piece more than there are: what lies behind the end is to be nothing. */
    for (uint64_t offset = 0; offset <= size; offset += PIECE_SIZE) {
        int64_t count = fs_read(fs, node, handle, data, PIECE_SIZE, offset);
        char name[4200], text[64] = "";

        snprintf(name, sizeof name, "%s/@%" PRIu64, path, offset);
        if (count >= 0)
            snprintf(text, sizeof text, "%" PRId64 " %" PRIx64, count,
                     checksum64(data, (size_t)count));
        add_line(tree, name, text, count < 0 ? (int)count : 0);
        if (count >= 0 && count < PIECE_SIZE)
            return;
    }
}

static int read_content(struct rot_tree *tree, struct fs *fs, const struct fs_attribute *attribute,
                        const char *path)
{
    uint64_t handle = 0;
    int error = fs_open_file(fs, attribute->node, false, &handle);

    if (error < 0)
        return error;
    read_pieces(tree, fs, attribute->node, handle, attribute->size_bytes, path);
    fs_release_file(fs, attribute->node, handle);
    return 0;
}

static int xattrs_hash(struct fs *fs, uint64_t node, uint64_t *ret_hash)
{
    char list[4096], value[8192];
    int64_t size = fs_listxattr(fs, node, true, list, sizeof list);
    uint64_t hash = 0;

    if (size < 0)
        return (int)size;
    for (int64_t at = 0; at < size; at += (int64_t)strlen(list + at) + 1) {
        int64_t count = fs_getxattr(fs, node, list + at, value, sizeof value);

        if (count < 0)
            return (int)count;
        hash += checksum64_seeded(value, (size_t)count, checksum64(list + at, strlen(list + at)));
    }
    *ret_hash = hash;
    return 0;
}

static int describe(struct rot_tree *tree, struct fs *fs, const struct fs_attribute *attribute,
                    const char *path, char to[512])
{
    uint64_t content = 0, xattrs = 0;
    struct buffer target = {0};
    int error = 0;

    if (S_ISREG(attribute->mode))
        error = read_content(tree, fs, attribute, path);
    if (S_ISLNK(attribute->mode)) {
        error = fs_readlink(fs, attribute->node, &target);
        content = checksum64(target.data, target.size);
        buffer_free(&target);
    }
    if (error == 0)
        error = xattrs_hash(fs, attribute->node, &xattrs);
    if (error == 0)
        snprintf(to, 512,
                 "%o %u %u %u %" PRIu64 " %lld.%ld %lld.%ld %lld.%ld %x %" PRIx64 " %" PRIx64,
                 attribute->mode, S_ISDIR(attribute->mode) ? 0 : attribute->nlink, attribute->uid,
                 attribute->gid, attribute->size_bytes, (long long)attribute->mtime.tv_sec,
                 attribute->mtime.tv_nsec, (long long)attribute->ctime.tv_sec,
                 attribute->ctime.tv_nsec, (long long)attribute->btime.tv_sec,
                 attribute->btime.tv_nsec, attribute->flags, content, xattrs);
    return error;
}

/* ---- the walk ---- */

struct names {
    char **names;
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
    names->names = realloc(names->names, (names->count + 1) * sizeof *names->names);
    names->names[names->count++] = strndup(entry->name, entry->name_size);
    return 0;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Names that a listing did not come to are asked for one by one. */
static void take_names_of(const struct rot_tree *guide, const char *listing, struct names *names)
{
    size_t size = strlen(listing), listed = names->count;

    qsort(names->names, listed, sizeof *names->names, compare_names);
    for (size_t i = 0; i < guide->count; i++) {
        const char *name = guide->lines[i].path + size;

        if (strncmp(guide->lines[i].path, listing, size) != 0 || name[0] == '\0' ||
            name[0] == '@' || strchr(name, '/') != NULL ||
            bsearch(&name, names->names, listed, sizeof *names->names, compare_names) != NULL)
            continue;
        names->names = realloc(names->names, (names->count + 1) * sizeof *names->names);
        names->names[names->count++] = strdup(name);
    }
}

static void walk(struct rot_tree *tree, struct fs *fs, uint64_t node, const char *path,
                 unsigned depth);

static void visit(struct rot_tree *tree, struct fs *fs, uint64_t parent, const char *path,
                  const char *name, unsigned depth)
{
    char full[4096], text[512] = "";
    struct fs_entry entry;
    int error;

    snprintf(full, sizeof full, "%s/%s", path, name);
    error = fs_lookup(fs, parent, name, &entry);
    if (error < 0) {
        add_line(tree, full, "", error);
        return;
    }
    error = describe(tree, fs, &entry.attribute, full, text);
    add_line(tree, full, error < 0 ? "" : text, error);
    if (S_ISDIR(entry.attribute.mode) && depth < 16)
        walk(tree, fs, entry.attribute.node, full, depth + 1);
    fs_forget(fs, entry.attribute.node, 1);
}

static void walk(struct rot_tree *tree, struct fs *fs, uint64_t node, const char *path,
                 unsigned depth)
{
    struct names names = {0};
    struct fs_directory *directory;
    char listing[4200];
    int error = fs_directory_open(fs, node, &directory);

    if (error == 0) {
        /* An error that comes after some entries is told of by the next call. */
        do {
            names.any = false;
            error = fs_readdir(directory, names.cookie, false, take_name, &names);
        } while (error == 0 && names.any);
        fs_directory_close(directory);
    }
    snprintf(listing, sizeof listing, "%s/", path);
    add_line(tree, listing, error < 0 ? "" : "listed", error);
    if (error < 0 && tree->guide != NULL)
        take_names_of(tree->guide, listing, &names);
    for (size_t i = 0; i < names.count; i++) {
        visit(tree, fs, node, path, names.names[i], depth);
        free(names.names[i]);
    }
    free(names.names);
}

static int compare_lines(const void *a, const void *b)
{
    return strcmp(((const struct rot_line *)a)->path, ((const struct rot_line *)b)->path);
}

void rot_tree_read(struct rot_tree *tree, struct fs *fs, const struct rot_tree *guide)
{
    *tree = (struct rot_tree){.guide = guide};
    walk(tree, fs, FS_ROOT, "", 0);
    visit(tree, fs, FS_ROOT, "", ".snapshots", 0);
    qsort(tree->lines, tree->count, sizeof *tree->lines, compare_lines);
}

void rot_tree_free(struct rot_tree *tree)
{
    for (size_t i = 0; i < tree->count; i++) {
        free(tree->lines[i].path);
        free(tree->lines[i].content);
    }
    free(tree->lines);
}

/* ---- comparing ---- */

static const struct rot_line *find(const struct rot_tree *tree, const char *path)
{
    struct rot_line wanted = {.path = (char *)(uintptr_t)path};

    return bsearch(&wanted, tree->lines, tree->count, sizeof wanted, compare_lines);
}

/* Of a path that is not there: was it an error that hid it? */
static bool is_hidden(const struct rot_tree *tree, const char *path)
{
    char above[4096];

    snprintf(above, sizeof above, "%s", path);
    for (size_t size = strlen(above); size > 0; size--) {
        const struct rot_line *line;

        if (above[size - 1] != '/')
            continue;
        above[size] = '\0'; /* "DIRECTORY/" is its listing */
        line = find(tree, above);
        if (line != NULL && line->error != 0)
            return true;
        above[size - 1] = '\0'; /* and "DIRECTORY" itself */
        line = find(tree, above);
        if (line != NULL && line->error != 0)
            return true;
    }
    return false;
}

const char *rot_tree_compare(const struct rot_tree *before, const struct rot_tree *now)
{
    static char lie[4200];

    for (size_t i = 0; i < before->count; i++) {
        const struct rot_line *line = &before->lines[i], *other = find(now, line->path);

        if (other == NULL ? is_hidden(now, line->path)
                          : other->error != 0 || strcmp(other->content, line->content) == 0)
            continue;
        /* An honest error says that something is wrong with the disk; "no such file" does not. */
        snprintf(lie, sizeof lie, "%s: %s", line->path, other == NULL ? "missing" : other->content);
        return lie;
    }
    for (size_t i = 0; i < now->count; i++) {
        if (now->lines[i].error != 0 && error_errno(now->lines[i].error) != -EIO) {
            snprintf(lie, sizeof lie, "%s: %s", now->lines[i].path,
                     error_text(now->lines[i].error));
            return lie;
        }
        if (find(before, now->lines[i].path) == NULL) {
            snprintf(lie, sizeof lie, "%s: was not there", now->lines[i].path);
            return lie;
        }
    }
    return NULL;
}
