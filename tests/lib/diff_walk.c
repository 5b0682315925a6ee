/* SPDX-License-Identifier: Apache-2.0 */
/*
 * diff_walk.c - a difference of two views against a walk of both trees
 */
#include "tests/lib/diff_walk.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "engine/base/checksum.h"
#include "fuse/fs_data.h"

/* ---- a whole tree ---- */

#define NAMES_MAX     4096
#define PATH_ROOM     512
#define FILE_SIZE_MAX ((size_t)16 << 20)

struct tree_name {
    char path[PATH_ROOM];
    uint64_t directory, ino;
    struct fs_inode inode;
    uint64_t content, xattrs; /* sums of the numbers of those records */
    uint64_t bytes;           /* checksum of what the file holds */
    bool told;
};

struct tree {
    struct tree_name *names;
    size_t count;
};

/* What a reader gets: holes are zeros, however they came about. */
static uint64_t checksum_of_bytes(struct engine_view *view, const struct tree_name *name)
{
    size_t size = (size_t)name->inode.size_bytes;
    uint8_t *bytes = calloc(1, size + 1);
    struct fs_extent_cursor cursor;
    struct fs_extent extent;
    uint64_t checksum;
    int found;

    assert_true(bytes != NULL && size <= FILE_SIZE_MAX);
    assert_int_equal(fs_extent_cursor_open(view, name->ino, 0, &cursor), 0);
    while ((found = fs_extent_cursor_next(&cursor, &extent)) > 0) {
        const struct engine_blob_read read = {&extent.ref, bytes + extent.start};

        assert_true(extent.start + extent.length <= size);
        if (extent.inlined)
            memcpy(bytes + extent.start, extent.data, extent.length);
        else
            assert_int_equal(engine_blob_read(view, &read, 1), 0);
    }
    assert_int_equal(found, 0);
    fs_extent_cursor_close(&cursor);
    checksum = checksum64(bytes, size + 1);
    free(bytes);
    return checksum;
}

static void load_tree_inode(struct engine_view *view, struct tree_name *name)
{
    struct engine_iterator *iterator;
    struct fs_key start, end;
    int found;

    assert_int_equal(fs_inode_load(view, name->ino, &name->inode, NULL), 0);
    fs_key_start(&start, name->ino);
    fs_key_start(&end, name->ino + 1);
    assert_int_equal(engine_iterator_new(view, fs_key_slice(&end), &iterator), 0);
    for (found = engine_iterator_seek(iterator, fs_key_slice(&start)); found > 0;
         found = engine_iterator_next(iterator)) {
        const struct record *record = engine_iterator_record(iterator);
        struct slice rest;
        uint64_t ino;
        uint8_t type;

        assert_true(fs_key_parse(record->key, &ino, &type, &rest));
        if (type == FS_KEY_EXTENT || type == FS_KEY_SYMLINK)
            name->content = name->content * 31 + record->sequence;
        if (type == FS_KEY_XATTR)
            name->xattrs = name->xattrs * 31 + record->sequence;
    }
    assert_int_equal(found, 0);
    engine_iterator_free(iterator);
    if (S_ISREG(name->inode.mode))
        name->bytes = checksum_of_bytes(view, name);
}

static void walk_tree(struct engine_view *view, struct tree *tree, uint64_t directory,
                      const char *path)
{
    struct engine_iterator *iterator;
    struct fs_key start, end;
    int found;

    fs_key_type_start(&start, directory, FS_KEY_DENTRY);
    fs_key_type_start(&end, directory, FS_KEY_DENTRY + 1);
    assert_int_equal(engine_iterator_new(view, fs_key_slice(&end), &iterator), 0);
    for (found = engine_iterator_seek(iterator, fs_key_slice(&start)); found > 0;
         found = engine_iterator_next(iterator)) {
        const struct record *record = engine_iterator_record(iterator);
        struct tree_name *name = &tree->names[tree->count++];
        struct fs_dentry dentry;
        struct slice text;
        uint64_t ino;
        uint8_t type;

        assert_true(tree->count <= NAMES_MAX);
        assert_true(fs_key_parse(record->key, &ino, &type, &text));
        assert_int_equal(fs_dentry_decode(record->value, &dentry), 0);
        *name = (struct tree_name){.directory = directory, .ino = dentry.ino};
        snprintf(name->path, sizeof name->path, "%s%s%.*s", path, path[0] != '\0' ? "/" : "",
                 (int)text.size, (const char *)text.data);
        load_tree_inode(view, name);
        if (S_ISDIR(dentry.type))
            walk_tree(view, tree, dentry.ino, name->path);
    }
    assert_int_equal(found, 0);
    engine_iterator_free(iterator);
}

static struct tree tree_of(struct engine_view *view)
{
    struct tree tree = {.names = calloc(NAMES_MAX, sizeof *tree.names), .count = 1};

    strcpy(tree.names[0].path, ".");
    tree.names[0].ino = FS_ROOT;
    load_tree_inode(view, &tree.names[0]);
    walk_tree(view, &tree, FS_ROOT, "");
    return tree;
}

static struct tree_name *at_path(struct tree *tree, const char *path)
{
    for (size_t i = 0; path != NULL && i < tree->count; i++)
        if (strcmp(tree->names[i].path, path) == 0)
            return &tree->names[i];
    return NULL;
}

static struct tree_name *of_ino(struct tree *tree, uint64_t ino)
{
    for (size_t i = 0; i < tree->count; i++)
        if (tree->names[i].ino == ino)
            return &tree->names[i];
    return NULL;
}

static const char *last_part(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash != NULL ? slash + 1 : path;
}

/* The name of the other tree in the same place: directory and name. */
static struct tree_name *same_place(struct tree *tree, const struct tree_name *name)
{
    for (size_t i = 0; i < tree->count; i++)
        if (tree->names[i].directory == name->directory &&
            strcmp(last_part(tree->names[i].path), last_part(name->path)) == 0)
            return &tree->names[i];
    return NULL;
}

static bool names_differ_in(struct tree *before, struct tree *after, uint64_t directory)
{
    for (size_t i = 0; i < before->count; i++) {
        struct tree_name *twin = same_place(after, &before->names[i]);

        if (before->names[i].directory == directory &&
            (twin == NULL || twin->ino != before->names[i].ino))
            return true;
    }
    for (size_t i = 0; i < after->count; i++)
        if (after->names[i].directory == directory && same_place(before, &after->names[i]) == NULL)
            return true;
    return false;
}

static bool time_differs(struct timespec a, struct timespec b)
{
    return a.tv_sec != b.tv_sec || a.tv_nsec != b.tv_nsec;
}

/* What must be said of an inode that both trees have; CTIME is left out. */
static unsigned expected_changes(struct tree *before, struct tree *after, const struct tree_name *a,
                                 const struct tree_name *b)
{
    unsigned changes = 0;

    if ((a->inode.mode & 07777) != (b->inode.mode & 07777))
        changes |= FS_DIFF_MODE;
    if (a->inode.uid != b->inode.uid || a->inode.gid != b->inode.gid)
        changes |= FS_DIFF_OWNER;
    if ((time_differs(a->inode.mtime, b->inode.mtime) ||
         time_differs(a->inode.atime, b->inode.atime)) &&
        !(S_ISDIR(a->inode.mode) && names_differ_in(before, after, a->ino)))
        changes |= FS_DIFF_TIMES;
    if (a->inode.flags != b->inode.flags || a->inode.project != b->inode.project)
        changes |= FS_DIFF_FLAGS;
    if (a->content != b->content ||
        (!S_ISDIR(a->inode.mode) && a->inode.size_bytes != b->inode.size_bytes))
        changes |= FS_DIFF_CONTENT;
    if (a->xattrs != b->xattrs)
        changes |= FS_DIFF_XATTRS;
    /* The same records are the same bytes. */
    assert_true(a->bytes == b->bytes || (changes & FS_DIFF_CONTENT) != 0);
    return changes;
}

static void check_linked(const struct tree_name *name, unsigned changes)
{
    bool linked = !S_ISDIR(name->inode.mode) && name->inode.nlink > 1;

    assert_int_equal(changes, linked ? FS_DIFF_LINKED : 0);
}

static void check_entry(struct tree *before, struct tree *after, const struct fs_diff_entry *entry)
{
    struct tree_name *a = at_path(before, entry->path_before);
    struct tree_name *b = at_path(after, entry->path_after);

    assert_int_equal(a != NULL, entry->kind != FS_DIFF_ADDED);
    assert_int_equal(b != NULL, entry->kind != FS_DIFF_REMOVED);
    assert_int_equal(entry->path_before != NULL, a != NULL);
    assert_int_equal(entry->path_after != NULL, b != NULL);
    if (a != NULL) {
        assert_false(a->told);
        a->told = true;
        if (!S_ISDIR(a->inode.mode))
            assert_int_equal(entry->size_before, a->inode.size_bytes);
    }
    if (b != NULL) {
        assert_false(b->told);
        b->told = true;
        if (!S_ISDIR(b->inode.mode))
            assert_int_equal(entry->size_after, b->inode.size_bytes);
        assert_int_equal(entry->type, b->inode.mode & S_IFMT);
    }
    if (entry->kind == FS_DIFF_ADDED)
        check_linked(b, entry->changes);
    if (entry->kind == FS_DIFF_REMOVED)
        check_linked(a, entry->changes);
    if (entry->kind == FS_DIFF_RENAMED) {
        assert_int_equal(a->ino, b->ino);
        assert_true(same_place(after, a) == NULL || same_place(after, a)->ino != a->ino);
        assert_true(same_place(before, b) == NULL || same_place(before, b)->ino != b->ino);
        assert_int_equal(entry->changes & ~(unsigned)FS_DIFF_CTIME,
                         expected_changes(before, after, a, b));
    }
    if (entry->kind == FS_DIFF_MODIFIED) {
        assert_ptr_equal(same_place(after, a), b);
        if ((entry->changes & FS_DIFF_REPLACED) != 0) {
            assert_true(of_ino(after, a->ino) == NULL && of_ino(before, b->ino) == NULL);
        } else {
            assert_int_equal(a->ino, b->ino);
            assert_int_equal(entry->changes & ~(unsigned)FS_DIFF_CTIME,
                             expected_changes(before, after, a, b));
            assert_true(entry->changes != 0);
        }
    }
}

/* Whatever no entry told of is as it was. */
static void check_untold(struct tree *before, struct tree *after)
{
    for (size_t i = 0; i < before->count; i++) {
        struct tree_name *a = &before->names[i], *b = same_place(after, a);

        if (a->told)
            continue;
        assert_non_null(b);
        assert_int_equal(a->ino, b->ino);
        assert_false(b->told);
        assert_int_equal(expected_changes(before, after, a, b), 0);
    }
    for (size_t i = 0; i < after->count; i++)
        if (!after->names[i].told)
            assert_non_null(same_place(before, &after->names[i]));
}

/* What could be told as one thing is not told as two: a file under another name is renamed, another
 * file of its type in its place has replaced it. */
static void check_pair(struct tree *before, struct tree *after, const struct fs_diff_entry *removed,
                       const struct fs_diff_entry *added)
{
    struct tree_name *a = at_path(before, removed->path_before);
    struct tree_name *b = at_path(after, added->path_after);

    assert_int_not_equal(a->ino, b->ino);
    if (same_place(after, a) == b && (a->inode.mode & S_IFMT) == (b->inode.mode & S_IFMT))
        assert_false(of_ino(after, a->ino) == NULL && of_ino(before, b->ino) == NULL);
}

static void check_pairs(struct tree *before, struct tree *after, const struct fs_diff *diff)
{
    for (size_t i = 0; i < diff->count; i++)
        for (size_t j = 0; diff->entries[i].kind == FS_DIFF_REMOVED && j < diff->count; j++)
            if (diff->entries[j].kind == FS_DIFF_ADDED)
                check_pair(before, after, &diff->entries[i], &diff->entries[j]);
}

size_t diff_walk_check(struct engine_view *before_view, struct engine_view *after_view)
{
    const struct fs_diff_options options = {.path_count = 0};
    struct tree before = tree_of(before_view), after = tree_of(after_view);
    struct fs_diff diff;
    size_t count;

    assert_int_equal(fs_diff_make(before_view, after_view, &options, &diff), 0);
    count = diff.count;
    for (size_t i = 0; i < count; i++)
        check_entry(&before, &after, &diff.entries[i]);
    check_pairs(&before, &after, &diff);
    check_untold(&before, &after);
    fs_diff_free(&diff);
    free(before.names);
    free(after.names);
    return count;
}
