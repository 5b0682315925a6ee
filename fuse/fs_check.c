/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fs_check.c - fsck: walk a view in key order, check each inode's records by themselves
 *
 * All records of an inode are neighbours, so one inode is held at a time. What relates inodes to
 * each other is left to fs_check_tree.c.
 */
#include "fuse/fs_check_internal.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "engine/base/endian.h"

#define NAME_SIZE_MAX 255
#define LINE_SIZE     (512 + CHECK_PATH_SIZE)

/* ---- findings ---- */

void check_find(struct check *check, const char *format, ...)
{
    char line[LINE_SIZE];
    va_list arguments;

    check->findings++;
    if (check->report == NULL)
        return;
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    check->report(check->context, line);
}

void *check_array_add(struct check_array *array, size_t item_size)
{
    if (array->count == array->room) {
        size_t room = array->room > 0 ? array->room * 2 : 1024;
        void *items = reallocarray(array->items, room, item_size);

        if (items == NULL)
            return NULL;
        array->items = items;
        array->room = room;
    }
    return (uint8_t *)array->items + array->count++ * item_size;
}

/* ---- the inode at hand ---- */

struct current {
    uint64_t ino; /* 0: none */
    bool has_inode;
    struct fs_inode inode;
    uint64_t xattrs;
    uint64_t dentries, cookies, dentry_hash, cookie_hash, cookie_last;
    bool has_extents;
    uint64_t extent_end, mapped_bytes;
    bool has_target;
    uint64_t target_size;
};

#define INO(current) ((unsigned long long)(current)->ino)

static void take_inode(struct check *check, struct current *current, const struct record *record,
                       struct slice rest)
{
    struct fs_inode *inode = &current->inode;

    if (rest.size != 0 || record->kind != RECORD_VALUE ||
        fs_inode_decode(record->value, inode) < 0) {
        check_find(check, "inode %llu: its record is not valid", INO(current));
        return;
    }
    current->has_inode = true;
    if (inode->size_bytes > FS_SIZE_MAX)
        check_find(check, "inode %llu: its size of %llu bytes is too large", INO(current),
                   (unsigned long long)inode->size_bytes);
    if (check->next_ino != 0 && current->ino >= check->next_ino)
        check_find(check, "inode %llu: the superblock says that numbers end before %llu",
                   INO(current), (unsigned long long)check->next_ino);
}

static bool name_is_valid(struct slice name)
{
    return name.size >= 1 && name.size <= NAME_SIZE_MAX &&
           memchr(name.data, '/', name.size) == NULL &&
           memchr(name.data, '\0', name.size) == NULL && !slice_equal(name, slice_of_string(".")) &&
           !slice_equal(name, slice_of_string(".."));
}

static int take_dentry(struct check *check, struct current *current, const struct record *record,
                       struct slice name)
{
    struct fs_dentry dentry;
    struct check_name *line;

    current->dentries++;
    if (record->kind != RECORD_VALUE || fs_dentry_decode(record->value, &dentry) < 0 ||
        dentry.ino > FS_INO_MAX) {
        check_find(check, "directory %llu: a name's record is not valid", INO(current));
        return 0;
    }
    if (!name_is_valid(name))
        check_find(check, "directory %llu: a name is not valid", INO(current));
    current->dentry_hash += check_entry_hash(dentry.ino, dentry.cookie, dentry.type, name);
    line = check_array_add(&check->names, sizeof *line);
    if (line == NULL)
        return -ENOMEM;
    *line = (struct check_name){check_pack(dentry.ino, dentry.type), current->ino};
    return 0;
}

static void take_cookie(struct check *check, struct current *current, const struct record *record,
                        struct slice rest)
{
    struct fs_cookie cookie;
    uint64_t number;

    current->cookies++;
    if (record->kind != RECORD_VALUE || rest.size != 8 ||
        fs_cookie_decode(record->value, &cookie) < 0) {
        check_find(check, "directory %llu: a cookie's record is not valid", INO(current));
        return;
    }
    number = get_be64(rest.data);
    current->cookie_last = number;
    current->cookie_hash += check_entry_hash(cookie.ino, number, cookie.type, cookie.name);
}

static int take_extent(struct check *check, struct current *current, const struct record *record)
{
    struct fs_extent extent;

    current->has_extents = true;
    if (fs_extent_decode(record, &extent) < 0) {
        check_find(check, "inode %llu: an extent's record is not valid", INO(current));
        return 0;
    }
    if (extent.start < current->extent_end)
        check_find(check, "inode %llu: extents overlap at offset %llu", INO(current),
                   (unsigned long long)extent.start);
    current->extent_end = fs_extent_end(&extent);
    current->mapped_bytes += extent.length;
    if (check->frames == NULL || extent.inlined)
        return 0;
    return check_frames_add(check, current->ino, &extent);
}

static void take_target(struct check *check, struct current *current, const struct record *record,
                        struct slice rest)
{
    current->has_target = true;
    current->target_size = record->value.size;
    if (record->kind != RECORD_VALUE || rest.size != 0 || record->value.size == 0)
        check_find(check, "inode %llu: the target of the symbolic link is not valid", INO(current));
}

static int take(struct check *check, struct current *current, const struct record *record,
                uint8_t type, struct slice rest)
{
    switch (type) {
    case FS_KEY_INODE:
        take_inode(check, current, record, rest);
        return 0;
    case FS_KEY_XATTR:
        current->xattrs++;
        return 0;
    case FS_KEY_DENTRY:
        return take_dentry(check, current, record, rest);
    case FS_KEY_COOKIE:
        take_cookie(check, current, record, rest);
        return 0;
    case FS_KEY_EXTENT:
        return take_extent(check, current, record);
    case FS_KEY_SYMLINK:
        take_target(check, current, record, rest);
        return 0;
    default:
        check_find(check, "inode %llu: a record of unknown type %u", INO(current), type);
        return 0;
    }
}

/* ---- when all records of an inode were seen ---- */

static int finish_directory(struct check *check, const struct current *current)
{
    const struct fs_inode *inode = &current->inode;

    if (inode->entries != current->dentries)
        check_find(check, "directory %llu: it says %llu entries and has %llu", INO(current),
                   (unsigned long long)inode->entries, (unsigned long long)current->dentries);
    if (current->cookies > 0 && current->cookie_last >= inode->next_cookie)
        check_find(check, "directory %llu: cookie %llu is in use but not given yet", INO(current),
                   (unsigned long long)current->cookie_last);
    if (current->dentries == current->cookies && current->dentry_hash == current->cookie_hash)
        return 0;
    return check_twins(check, current->ino);
}

static void finish_data(struct check *check, const struct current *current)
{
    const struct fs_inode *inode = &current->inode;

    if (current->extent_end > inode->size_bytes)
        check_find(check, "inode %llu: data up to offset %llu but a size of %llu", INO(current),
                   (unsigned long long)current->extent_end, (unsigned long long)inode->size_bytes);
    if (current->mapped_bytes != inode->allocated_bytes)
        check_find(check, "inode %llu: it says %llu bytes are mapped, %llu are", INO(current),
                   (unsigned long long)inode->allocated_bytes,
                   (unsigned long long)current->mapped_bytes);
}

static void finish_alien(struct check *check, const struct current *current)
{
    uint32_t type = current->inode.mode & S_IFMT;

    if (type != S_IFDIR && current->dentries + current->cookies > 0)
        check_find(check, "inode %llu: names in what is not a directory", INO(current));
    if (type != S_IFREG && current->has_extents)
        check_find(check, "inode %llu: data in what is not a regular file", INO(current));
    if (type != S_IFLNK && current->has_target)
        check_find(check, "inode %llu: a target in what is not a symbolic link", INO(current));
    if (type == S_IFLNK && !current->has_target)
        check_find(check, "inode %llu: the symbolic link has no target", INO(current));
    if (type == S_IFLNK && current->has_target && current->target_size != current->inode.size_bytes)
        check_find(check, "inode %llu: the symbolic link's size is not that of its target",
                   INO(current));
    if (current->xattrs != current->inode.xattrs)
        check_find(check, "inode %llu: it says %u extended attributes and has %llu", INO(current),
                   current->inode.xattrs, (unsigned long long)current->xattrs);
}

static int finish(struct check *check, const struct current *current)
{
    const struct fs_inode *inode = &current->inode;
    struct check_node *node;

    if (current->ino == 0)
        return 0;
    if (!current->has_inode) {
        check_find(check, "inode %llu: records without an inode", INO(current));
        return 0;
    }
    finish_alien(check, current);
    if (S_ISREG(inode->mode))
        finish_data(check, current);
    node = check_array_add(&check->nodes, sizeof *node);
    if (node == NULL)
        return -ENOMEM;
    *node = (struct check_node){.packed = check_pack(current->ino, inode->mode),
                                .parent = inode->parent,
                                .nlink = inode->nlink};
    return S_ISDIR(inode->mode) ? finish_directory(check, current) : 0;
}

/* ---- the walk ---- */

/* Records that belong to no inode. */
static int take_global(struct check *check, const struct record *record, uint8_t type,
                       struct slice rest)
{
    struct timespec time;
    uint64_t *line;

    if (type == SNAPSHOT_KEY_TYPE)
        return 0;
    if (type == FS_KEY_SUPERBLOCK && rest.size == 0) {
        if (record->value.size == 8)
            check->next_ino = get_le64(record->value.data);
        if (check->next_ino == 0)
            check_find(check, "the superblock is not valid");
        return 0;
    }
    if (type == FS_KEY_ATIME && rest.size == 8) {
        if (record->kind != RECORD_VALUE || fs_atime_decode(record->value, &time) < 0)
            check_find(check, "inode %llu: its time of reading is not valid",
                       (unsigned long long)get_be64(rest.data));
        line = check_array_add(&check->atimes, sizeof *line);
        if (line == NULL)
            return -ENOMEM;
        *line = get_be64(rest.data);
        return 0;
    }
    if (type != FS_KEY_ORPHAN || rest.size != 8) {
        check_find(check, "a record of unknown type %u that belongs to no inode", type);
        return 0;
    }
    line = check_array_add(&check->orphans, sizeof *line);
    if (line == NULL)
        return -ENOMEM;
    *line = get_be64(rest.data);
    return 0;
}

static int step(struct check *check, struct current *current, const struct record *record)
{
    struct slice rest;
    uint64_t ino;
    uint8_t type;

    if (!fs_key_parse(record->key, &ino, &type, &rest) || ino > FS_INO_MAX) {
        check_find(check, "a record with a key that is not valid");
        return 0;
    }
    if (ino == 0)
        return take_global(check, record, type, rest);
    if (ino != current->ino) {
        int result = finish(check, current);

        if (result < 0)
            return result;
        *current = (struct current){.ino = ino};
    }
    return take(check, current, record, type, rest);
}

static int walk(struct check *check)
{
    struct current current = {.ino = 0};
    struct engine_iterator *iterator;
    int result = engine_iterator_new(check->view, slice_of(NULL, 0), &iterator);

    if (result < 0)
        return result;
    for (result = engine_iterator_seek(iterator, slice_of("", 1)); result > 0;
         result = engine_iterator_next(iterator)) {
        result = step(check, &current, engine_iterator_record(iterator));
        if (result < 0)
            break;
    }
    engine_iterator_free(iterator);
    if (result == 0)
        result = finish(check, &current);
    if (result == 0 && check->frames != NULL)
        result = check_frames_flush(check);
    if (result < 0 && result != -ENOMEM) {
        char path[CHECK_PATH_SIZE];

        check_describe(check, current.ino != 0 ? current.ino : FS_ROOT, path);
        check_find(check,
                   "after inode %llu (%s) the records cannot be read, nor names be known: %s",
                   INO(&current), path, error_text(result));
    }
    if (check->unreadable > CHECK_UNREADABLE_MAX && check->report != NULL) {
        char line[128];

        snprintf(line, sizeof line, "and %llu more pieces of file data cannot be read",
                 (unsigned long long)(check->unreadable - CHECK_UNREADABLE_MAX));
        check->report(check->context, line);
    }
    return result;
}

static struct check_frames *frames_new(void)
{
    struct check_frames *frames = calloc(1, sizeof *frames);

    if (frames != NULL)
        frames->bytes = malloc((size_t)CHECK_FRAMES * BLOB_FRAME_SIZE_MAX);
    if (frames != NULL && frames->bytes == NULL) {
        free(frames);
        frames = NULL;
    }
    return frames;
}

static void check_free(struct check *check)
{
    if (check->frames != NULL)
        free(check->frames->bytes);
    free(check->frames);
    free(check->nodes.items);
    free(check->names.items);
    free(check->orphans.items);
    free(check->atimes.items);
}

int fs_check(struct engine_view *view, bool verify, fs_check_report *report, void *context,
             uint64_t *ret_findings)
{
    struct check check = {.view = view, .report = report, .context = context};
    int result = 0;

    if (verify) {
        check.frames = frames_new();
        if (check.frames == NULL)
            return -ENOMEM;
    }
    result = walk(&check);
    if (result == 0) {
        if (check.next_ino == 0)
            check_find(&check, "there is no superblock");
        check_tree(&check);
    }
    check_free(&check);
    *ret_findings = check.findings;
    return result;
}

int fs_check_chunks(struct engine_view *view, const uint64_t *chunk_ids, size_t chunk_count,
                    fs_check_report *report, void *context)
{
    struct check check = {.view = view,
                          .report = report,
                          .context = context,
                          .frames = frames_new(),
                          .chunk_ids = chunk_ids,
                          .chunk_count = chunk_count};
    int result;

    if (check.frames == NULL)
        return -ENOMEM;
    result = walk(&check);
    check_free(&check);
    return result == -ENOMEM ? result : 0;
}
