/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fs_directory.c - reading directories: live ones, those of snapshots, and .snapshots itself
 *
 * Nothing is held between two calls but the node: each call looks at a view of its own and goes on
 * with the first entry after the cookie. Cookies rise in order of creation and are never given
 * twice in a directory, so an entry that stays is met once.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "engine/base/endian.h"
#include "fuse/fs_atime.h"

#define COOKIE_DOT     1
#define COOKIE_DOT_DOT 2
/* A listed .snapshots comes last: no entry can have this cookie. */
#define COOKIE_SNAPDIR ((uint64_t)INT64_MAX)

struct fs_directory {
    struct fs *fs;
    uint64_t node;
};

struct reading {
    struct fs *fs;
    struct fs_location location;
    uint64_t cookie;
    bool plus;
    fs_directory_callback *callback;
    void *context;
    bool taken; /* at least one entry was */
};

int fs_directory_open(struct fs *fs, uint64_t node, struct fs_directory **ret_directory)
{
    struct fs_directory *directory;
    struct fs_location location;
    struct fs_inode inode;
    int error = fs_location_get(fs, node, &location);

    if (error < 0)
        return error;
    error = fs_inode_load(location.view, location.ino, &inode, NULL);
    fs_location_put(fs, &location);
    if (error < 0)
        return error == -ENOENT ? -ESTALE : error;
    if (!S_ISDIR(inode.mode))
        return -ENOTDIR;
    directory = malloc(sizeof *directory);
    if (directory == NULL)
        return -ENOMEM;
    *directory = (struct fs_directory){.fs = fs, .node = node};
    *ret_directory = directory;
    return 0;
}

void fs_directory_close(struct fs_directory *directory)
{
    free(directory);
}

/* ---- handing entries out: 0 to go on, 1 when the reader has no more room, negative on error ----
 */

static int emit(struct reading *reading, const struct fs_directory_entry *entry)
{
    if (reading->callback(reading->context, entry) != 0)
        return 1;
    reading->taken = true;
    return 0;
}

/* With attributes: the lookup is counted before the reader can see the entry, and taken back when
 * it does not take it. `ino` and `location` say where the records are; ino 0: the node says it. */
static int emit_counted(struct reading *reading, const struct fs_location *location, uint64_t ino,
                        struct fs_directory_entry *directory_entry, const struct fs_entry *entry)
{
    uint64_t node = entry->attribute.node;
    int result;

    if (ino != 0)
        result = fs_entry_count(reading->fs, location, ino, entry);
    else
        result = inode_table_lookup(reading->fs->table, node, 0, 0);
    if (result < 0)
        return result;
    directory_entry->number = entry->attribute.number;
    directory_entry->entry = entry;
    result = emit(reading, directory_entry);
    if (result != 0)
        fs_forget(reading->fs, node, 1);
    return result;
}

/* ---- "." and ".." ---- */

static int emit_dot(struct reading *reading, uint64_t number)
{
    struct fs_directory_entry entry = {
        .name = ".",
        .name_size = 1,
        .number = number,
        .type = S_IFDIR,
        .cookie = COOKIE_DOT,
    };

    return reading->cookie < COOKIE_DOT ? emit(reading, &entry) : 0;
}

static int emit_dot_dot(struct reading *reading)
{
    const struct fs_location *location = &reading->location;
    struct fs_directory_entry entry = {
        .name = "..",
        .name_size = 2,
        .type = S_IFDIR,
        .cookie = COOKIE_DOT_DOT,
    };
    struct fs_inode inode;
    int error;

    if (reading->cookie >= COOKIE_DOT_DOT)
        return 0;
    error = fs_inode_load(location->view, location->ino, &inode, NULL);
    if (error < 0)
        return error == -ENOENT ? -ESTALE : error;
    if (location->snapshot == NULL && !location->virtual_directory)
        (void)fs_atime_touch(reading->fs, location->ino, &inode);
    if (location->virtual_directory)
        entry.number = location->ino;
    else if (location->snapshot != NULL && location->ino == FS_ROOT)
        entry.number = fs_node_virtual(FS_ROOT);
    else
        entry.number = fs_location_number(reading->fs, location, inode.parent, S_IFDIR, 0);
    return emit(reading, &entry);
}

/* ---- entries with records ---- */

/* The node of a file in a snapshot is its version, which only its inode tells. */
static bool needs_inode(const struct reading *reading, uint32_t type)
{
    return reading->plus ||
           (reading->location.snapshot != NULL && !S_ISDIR(type) && reading->fs->options.snaplinks);
}

static int emit_with_inode(struct reading *reading, uint64_t ino,
                           struct fs_directory_entry *directory_entry)
{
    const struct fs_location *location = &reading->location;
    struct fs_inode inode;
    struct fs_entry entry;
    uint64_t version;
    int error = fs_inode_load(location->view, ino, &inode, &version);

    if (error == -ENOENT || error == ERROR_CORRUPT) {
        /* The other entries can still be listed; whoever asks for this one gets the error. */
        log_error("directory %" PRIu64 ": \"%s\" names inode %" PRIu64 ", which cannot be read",
                  location->ino, directory_entry->name, ino);
        return emit(reading, directory_entry);
    }
    if (error < 0)
        return error;
    if (!reading->plus) {
        directory_entry->number =
            fs_location_number(reading->fs, location, ino, inode.mode, version);
        return emit(reading, directory_entry);
    }
    error = fs_inode_attribute(reading->fs, location, ino, &inode, version, &entry);
    if (error < 0)
        return error;
    return emit_counted(reading, location, ino, directory_entry, &entry);
}

static int emit_record(struct reading *reading, const struct record *record)
{
    char name[FS_NAME_SIZE_MAX + 1];
    struct fs_directory_entry entry = {.name = name};
    struct fs_cookie cookie;
    struct slice rest;
    uint64_t ino;
    uint8_t type;

    if (!fs_key_parse(record->key, &ino, &type, &rest) || rest.size != 8 ||
        fs_cookie_decode(record->value, &cookie) < 0) {
        log_error("directory %" PRIu64 ": an entry is damaged", reading->location.ino);
        return ERROR_CORRUPT;
    }
    memcpy(name, cookie.name.data, cookie.name.size);
    name[cookie.name.size] = '\0';
    entry.name_size = cookie.name.size;
    entry.cookie = get_be64(rest.data);
    entry.type = cookie.type;
    if (needs_inode(reading, cookie.type)) {
        entry.number = cookie.ino;
        return emit_with_inode(reading, cookie.ino, &entry);
    }
    entry.number = fs_location_number(reading->fs, &reading->location, cookie.ino, cookie.type, 0);
    return emit(reading, &entry);
}

static int emit_records(struct reading *reading)
{
    const struct fs_location *location = &reading->location;
    struct engine_iterator *iterator;
    struct fs_key start, end;
    int result;

    fs_key_cookie(&start, location->ino,
                  reading->cookie < FS_COOKIE_FIRST ? FS_COOKIE_FIRST : reading->cookie + 1);
    fs_key_type_start(&end, location->ino, FS_KEY_COOKIE + 1);
    result = engine_iterator_new(location->view, fs_key_slice(&end), &iterator);
    if (result < 0)
        return result;
    result = engine_iterator_seek(iterator, fs_key_slice(&start));
    while (result > 0) {
        int stop = emit_record(reading, engine_iterator_record(iterator));

        if (stop != 0) {
            engine_iterator_free(iterator);
            return stop;
        }
        result = engine_iterator_next(iterator);
    }
    engine_iterator_free(iterator);
    return result;
}

/* ---- .snapshots: its own entry in the root, and what is listed in it ---- */

static int emit_snapdir(struct reading *reading)
{
    const struct fs_location *location = &reading->location;
    struct fs_directory_entry directory_entry = {
        .name = reading->fs->snapdir_name,
        .name_size = strlen(reading->fs->snapdir_name),
        .number = fs_node_virtual(FS_ROOT),
        .type = S_IFDIR,
        .cookie = COOKIE_SNAPDIR,
    };
    struct fs_entry entry;
    int error;

    if (!reading->fs->options.snapdir_visible || location->snapshot != NULL ||
        location->ino != FS_ROOT)
        return 0;
    if (!reading->plus)
        return emit(reading, &directory_entry);
    error = fs_snapshot_directory_attribute(reading->fs, FS_ROOT, &entry);
    if (error < 0)
        return error;
    return emit_counted(reading, NULL, 0, &directory_entry, &entry);
}

static int emit_snapshot(struct reading *reading, struct snapshot *snapshot)
{
    struct fs_location location = {.snapshot = snapshot};
    char name[SNAPSHOT_NAME_SIZE_MAX + 1];
    struct fs_directory_entry directory_entry = {.name = name, .type = S_IFDIR};
    uint64_t ino = reading->location.ino;
    struct fs_entry entry;
    int found;

    snapshot_get_name(snapshot, name);
    directory_entry.name_size = strlen(name);
    directory_entry.cookie = snapshot_id(snapshot) + COOKIE_DOT_DOT;
    /* The root is in all of them. Its attributes are not worth opening each of ten thousand: the
     * kernel asks for those that somebody wants to know. */
    if (ino == FS_ROOT) {
        directory_entry.number = fs_location_number(reading->fs, &location, ino, S_IFDIR, 0);
        return emit(reading, &directory_entry);
    }
    if (reading->plus) {
        found = fs_snapshot_entry(reading->fs, snapshot, ino, &entry);
        if (found < 0)
            return found == -ENOENT ? 0 : found;
        return emit_counted(reading, &location, ino, &directory_entry, &entry);
    }
    found = fs_snapshot_has_directory(snapshot, ino);
    if (found <= 0)
        return found;
    directory_entry.number = fs_location_number(reading->fs, &location, ino, S_IFDIR, 0);
    return emit(reading, &directory_entry);
}

static int emit_snapshots(struct reading *reading)
{
    uint64_t id = reading->cookie < FS_COOKIE_FIRST ? 0 : reading->cookie - COOKIE_DOT_DOT;
    int result = 0;

    while (result == 0) {
        struct snapshot *snapshot = snapshot_next(reading->fs->snapshots, id);

        if (snapshot == NULL)
            break;
        id = snapshot_id(snapshot);
        result = emit_snapshot(reading, snapshot);
        snapshot_unref(snapshot);
    }
    return result;
}

static uint64_t own_number(const struct reading *reading)
{
    const struct fs_location *location = &reading->location;

    return location->virtual_directory
               ? fs_node_virtual(location->ino)
               : fs_location_number(reading->fs, location, location->ino, S_IFDIR, 0);
}

static int emit_all(struct reading *reading)
{
    int result;

    if (reading->cookie >= COOKIE_SNAPDIR)
        return 0;
    result = emit_dot(reading, own_number(reading));
    if (result == 0)
        result = emit_dot_dot(reading);
    if (result != 0)
        return result;
    if (reading->location.virtual_directory)
        return emit_snapshots(reading);
    result = emit_records(reading);
    return result != 0 ? result : emit_snapdir(reading);
}

int fs_readdir(struct fs_directory *directory, uint64_t cookie, bool plus,
               fs_directory_callback *callback, void *context)
{
    struct reading reading = {
        .fs = directory->fs,
        .cookie = cookie,
        .plus = plus,
        .callback = callback,
        .context = context,
    };
    int result = fs_location_get(directory->fs, directory->node, &reading.location);

    if (result < 0)
        return result;
    result = emit_all(&reading);
    fs_location_put(directory->fs, &reading.location);
    /* What was taken has to reach the reader; an error comes again when it goes on from there. */
    return result < 0 && !reading.taken ? result : 0;
}
