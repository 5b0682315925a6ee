/* SPDX-License-Identifier: Apache-2.0 */
/*
 * disk_calls.c - the calls of the backend on the model of a disk
 */
#include "tests/lib/disk_model.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/error.h"
#include "tests/lib/disk_call_site.h"
#include "tests/lib/disk_model_internal.h"

#define COLLECT_AFTER_REMOVALS 64
#define BLOCK_COUNT            ((uint64_t)1 << 24)

_Thread_local const void *disk_call_site;

bool disk_trace;

static struct disk_model *disk_of(struct io *io)
{
    return (struct disk_model *)(void *)io; /* its first member */
}

const char *disk_call_name(enum disk_call call)
{
    static const char *const names[DISK_CALL_KINDS] = {
        "open",  "create", "read",   "write", "sync", "syncfs", "truncate", "stat",  "chmod",
        "mkdir", "unlink", "rename", "link",  "list", "lock",   "space",    "commit"};

    return names[__builtin_ctz(call)];
}

/* ---- entering a call ---- */

void disk_enter(struct disk_model *disk, enum disk_call call, const char *label)
{
    pthread_mutex_lock(&disk->lock);
    disk->counts[__builtin_ctz(call)]++;
    if (disk_trace && (call & DISK_CHANGING) != 0)
        fprintf(stderr, "%s: %s %s\n", disk->base, disk_call_name(call), label);
    if ((call & DISK_CHANGING) != 0 && disk->observer != NULL)
        disk->observer(disk->observer_context, disk, call, label);
}

int disk_leave(struct disk_model *disk, int result)
{
    pthread_mutex_unlock(&disk->lock);
    return result;
}

/* ---- names ---- */

/* The inode at `name` below `directory`; DISK_NOTHING and *ret_error when there is none. */
static size_t walk(struct disk_model *disk, size_t directory, const char *name, int *ret_error)
{
    char part[256];

    while (*name != '\0') {
        size_t length = strcspn(name, "/");

        if (length >= sizeof part) {
            *ret_error = -ENAMETOOLONG;
            return DISK_NOTHING;
        }
        memcpy(part, name, length);
        part[length] = '\0';
        name += length + strspn(name + length, "/");
        if (length == 0 || strcmp(part, ".") == 0)
            continue;
        if (strcmp(part, "..") == 0) {
            *ret_error = -EXDEV;
            return DISK_NOTHING;
        }
        if (!disk->inodes[directory]->is_directory) {
            *ret_error = -ENOTDIR;
            return DISK_NOTHING;
        }
        directory = disk_names_find(&disk->inodes[directory]->names, part);
        if (directory == DISK_NOTHING) {
            *ret_error = -ENOENT;
            return DISK_NOTHING;
        }
    }
    return directory;
}

/* Take "." and ".." out of an absolute path, by its letters alone. */
static void path_clean(const char *path, char *to, size_t room)
{
    size_t size = 0;

    while (*path != '\0') {
        size_t length = strcspn(path, "/");

        if (length == 2 && strncmp(path, "..", 2) == 0) {
            while (size > 0 && to[--size] != '/')
                ;
        } else if (length > 0 && !(length == 1 && *path == '.')) {
            if (size + length + 2 > room)
                abort();
            to[size++] = '/';
            memcpy(to + size, path, length);
            size += length;
        }
        path += length + strspn(path + length, "/");
    }
    to[size] = '\0';
}

static size_t walk_path(struct disk_model *disk, const char *path, int *ret_error)
{
    char clean[4096];
    size_t size = strlen(disk->base);

    path_clean(path, clean, sizeof clean);
    if (strncmp(clean, disk->base, size) != 0 || (clean[size] != '/' && clean[size] != '\0')) {
        *ret_error = -ENOENT;
        return DISK_NOTHING;
    }
    return walk(disk, 0, clean + size, ret_error);
}

/* "<directory>/<name>", short. */
static void make_label(char to[96], const struct disk_inode *directory, const char *name)
{
    const char *slash = strrchr(directory->label, '/');

    snprintf(to, 96, "%.30s/%.60s", slash != NULL ? slash + 1 : directory->label, name);
}

/* ---- opening ---- */

static int check_open(const struct disk_model *disk, const struct disk_inode *inode, int flags)
{
    if (inode->is_destroyed)
        return -ESTALE;
    if ((flags & IO_OPEN_DIRECTORY) != 0 && !inode->is_directory)
        return -ENOTDIR;
    if ((flags & IO_OPEN_DIRECTORY) == 0 && inode->is_directory)
        return -EISDIR;
    if ((flags & IO_OPEN_WRITE) != 0 && disk->options.check_modes && (inode->mode & 0200) == 0)
        return -EACCES;
    return 0;
}

static int create(struct disk_model *disk, size_t directory, const char *name, mode_t mode,
                  bool is_directory, size_t *ret_index)
{
    struct disk_inode *parent = disk->inodes[directory];
    char label[96];

    if (!parent->is_directory)
        return -ENOTDIR;
    if (parent->links == 0)
        return -ENOENT;
    if (disk_names_find(&parent->names, name) != DISK_NOTHING)
        return -EEXIST;
    make_label(label, parent, name);
    (void)disk_inode_new(disk, is_directory, mode, label, ret_index);
    disk_directory_set(disk, parent, name, *ret_index, 0, disk->next_number);
    return 0;
}

static int find_or_create(struct disk_model *disk, struct io_file *directory, const char *name,
                          int flags, mode_t mode, size_t *ret_index)
{
    int error = 0;

    if (directory == NULL)
        *ret_index = walk_path(disk, name, &error);
    else if ((flags & IO_OPEN_CREATE) != 0)
        return strchr(name, '/') != NULL
                   ? -EINVAL
                   : create(disk, directory->index, name, mode, false, ret_index);
    else
        *ret_index = walk(disk, directory->index, name, &error);
    if (*ret_index == DISK_NOTHING)
        return error;
    return check_open(disk, disk->inodes[*ret_index], flags);
}

static int disk_open(struct io *io, struct io_file *directory, const char *name, int flags,
                     mode_t mode, struct io_file **ret_file)
{
    struct disk_model *disk = disk_of(io);
    struct io_file *file;
    size_t index = DISK_NOTHING;
    int error;

    disk_enter(disk, (flags & IO_OPEN_CREATE) != 0 ? DISK_CREATE : DISK_OPEN, name);
    error = find_or_create(disk, directory, name, flags, mode, &index);
    if (error != 0)
        return disk_leave(disk, error);
    file = disk_must(calloc(1, sizeof *file));
    file->inode = disk->inodes[index];
    file->index = index;
    file->flags = flags;
    file->inode->handles++;
    *ret_file = file;
    return disk_leave(disk, 0);
}

static void disk_close(struct io *io, struct io_file *file)
{
    struct disk_model *disk = disk_of(io);

    pthread_mutex_lock(&disk->lock);
    file->inode->handles--;
    if (file->is_locker)
        file->inode->is_locked = false;
    pthread_mutex_unlock(&disk->lock);
    free(file);
}

/* ---- transfers ---- */

static int check_transfer(const struct io_file *file, const void *data, size_t size,
                          uint64_t offset, bool is_write)
{
    if (file->inode->is_directory)
        return -EISDIR;
    if (is_write && (file->flags & IO_OPEN_WRITE) == 0)
        return -EBADF;
    if (file->inode->is_destroyed)
        return -EIO;
    if ((file->flags & IO_OPEN_DIRECT) != 0 &&
        (((uintptr_t)data | size | offset) & (IO_DIRECT_ALIGNMENT - 1)) != 0)
        return ERROR_UNALIGNED;
    return 0;
}

static int64_t disk_read(struct io *io, struct io_file *file, void *data, size_t size,
                         uint64_t offset)
{
    struct disk_model *disk = disk_of(io);
    int error = check_transfer(file, data, size, offset, false);
    int64_t count;

    if (error != 0)
        return error;
    disk_enter(disk, DISK_READ, file->inode->label);
    count = (int64_t)disk_content_read(&file->inode->content, data, size, offset);
    pthread_mutex_unlock(&disk->lock);
    return count;
}

static int64_t disk_write(struct io *io, struct io_file *file, const void *data, size_t size,
                          uint64_t offset)
{
    struct disk_model *disk = disk_of(io);
    int error = check_transfer(file, data, size, offset, true);

    if (error != 0)
        return error;
    disk_enter(disk, DISK_WRITE, file->inode->label);
    disk_inode_change(disk, file->inode, DISK_CHANGE_WRITE, data, size, offset);
    pthread_mutex_unlock(&disk->lock);
    return (int64_t)size;
}

static void disk_read_batch(struct io *io, struct io_read *reads, size_t count)
{
    for (size_t i = 0; i < count; i++)
        reads[i].result =
            disk_read(io, reads[i].file, reads[i].data, reads[i].size_bytes, reads[i].offset);
}

/* ---- syncs ---- */

/* The place a sync comes from: who called, and what kind of file, its numbers aside. */
static uint64_t site_of(enum disk_call call, bool data_only, const char *label, char text[200])
{
    const char *kind = call == DISK_SYNC_FILESYSTEM ? "syncfs" : data_only ? "fdatasync" : "fsync";
    uint64_t hash = 0xcbf29ce484222325u;
    char class[96];
    size_t size = 0;

    for (const char *at = label; *at != '\0';) {
        size_t digits = strspn(at, "0123456789"), hex = strspn(at, "0123456789abcdef");
        size_t run = hex >= 8 ? hex : digits; /* ids and hashes; else a number */

        class[size++] = run > 0 ? '#' : *at;
        at += run > 0 ? run : 1;
    }
    class[size] = '\0';
    snprintf(text, 200, "%s %s %p", kind, class, disk_call_site);
    for (const char *at = text; *at != '\0'; at++)
        hash = (hash ^ (uint8_t)*at) * 0x100000001b3u;
    return hash | 1;
}

static bool is_skipped(struct disk_model *disk, enum disk_call call, bool data_only,
                       const char *label)
{
    char text[200];
    uint64_t site;

    if (disk->site_observer == NULL && disk->skipped_site == 0)
        return false;
    site = site_of(call, data_only, label, text);
    if (disk->site_observer != NULL)
        disk->site_observer(disk->site_context, site, text);
    return site == disk->skipped_site;
}

static int disk_sync(struct io *io, struct io_file *file, bool data_only)
{
    struct disk_model *disk = disk_of(io);

    disk_enter(disk, DISK_SYNC, file->inode->label);
    if (!is_skipped(disk, DISK_SYNC, data_only, file->inode->label))
        disk_inode_make_durable(disk, file->inode, data_only);
    return disk_leave(disk, 0);
}

static int disk_sync_filesystem(struct io *io, struct io_file *file)
{
    struct disk_model *disk = disk_of(io);
    bool is_done;

    disk_enter(disk, DISK_SYNC_FILESYSTEM, file->inode->label);
    is_done = !is_skipped(disk, DISK_SYNC_FILESYSTEM, false, file->inode->label);
    for (size_t i = 0; is_done && i < disk->inode_count; i++)
        if (disk->inodes[i] != NULL)
            disk_inode_make_durable(disk, disk->inodes[i], false);
    return disk_leave(disk, 0);
}

/* ---- attributes ---- */

static int disk_truncate(struct io *io, struct io_file *file, uint64_t size)
{
    struct disk_model *disk = disk_of(io);
    int error = (file->flags & IO_OPEN_WRITE) == 0 ? -EINVAL : 0;

    disk_enter(disk, DISK_TRUNCATE, file->inode->label);
    if (error == 0)
        disk_inode_change(disk, file->inode, DISK_CHANGE_RESIZE, NULL, 0, size);
    return disk_leave(disk, error);
}

static void fill_stat(const struct disk_model *disk, size_t index, struct stat *to)
{
    const struct disk_inode *inode = disk->inodes[index];

    *to = (struct stat){
        .st_dev = 0x5641,
        .st_ino = index + 2,
        .st_mode = (inode->is_directory ? S_IFDIR : S_IFREG) | inode->mode,
        .st_nlink = inode->links,
        .st_size = (off_t)inode->content.size_bytes,
        .st_blksize = DISK_PAGE_SIZE,
        .st_blocks = (blkcnt_t)(inode->content.page_count * (DISK_PAGE_SIZE / 512)),
    };
}

static int disk_stat(struct io *io, struct io_file *file, struct stat *ret_stat)
{
    struct disk_model *disk = disk_of(io);

    disk_enter(disk, DISK_STAT, file->inode->label);
    fill_stat(disk, file->index, ret_stat);
    return disk_leave(disk, 0);
}

static int disk_stat_at(struct io *io, struct io_file *directory, const char *name,
                        struct stat *ret_stat)
{
    struct disk_model *disk = disk_of(io);
    int error = 0;
    size_t index;

    disk_enter(disk, DISK_STAT, name);
    index = walk(disk, directory->index, name, &error);
    if (error == 0 && disk->inodes[index]->is_destroyed)
        error = -ESTALE;
    if (error == 0)
        fill_stat(disk, index, ret_stat);
    return disk_leave(disk, error);
}

static int disk_chmod(struct io *io, struct io_file *file, mode_t mode)
{
    struct disk_model *disk = disk_of(io);

    disk_enter(disk, DISK_CHMOD, file->inode->label);
    file->inode->mode = mode & 07777;
    return disk_leave(disk, 0);
}

/* ---- changes of names ---- */

static int disk_mkdir(struct io *io, struct io_file *directory, const char *name, mode_t mode)
{
    struct disk_model *disk = disk_of(io);
    size_t index;

    disk_enter(disk, DISK_MKDIR, name);
    return disk_leave(disk, create(disk, directory->index, name, mode, true, &index));
}

static bool has_other_names(const struct disk_model *disk, size_t index)
{
    for (size_t i = 0; i < disk->inode_count; i++) {
        const struct disk_inode *directory = disk->inodes[i];

        if (directory == NULL)
            continue;
        for (size_t j = 0; j < directory->names.count; j++)
            if (directory->names.names[j].inode == index)
                return true;
    }
    return false;
}

/* A name of the inode has gone from the cache. */
static void lose_name(struct disk_model *disk, size_t index)
{
    struct disk_inode *inode = disk->inodes[index];

    if (inode->is_directory) {
        inode->links = 0;
    } else {
        if (inode->links > 0)
            inode->links--;
        if (inode->links == 0 && has_other_names(disk, index)) {
            inode->is_destroyed = true;
            if (disk_trace)
                fprintf(stderr, "%s: %s is destroyed\n", disk->base, inode->label);
        }
    }
    if (++disk->removals >= COLLECT_AFTER_REMOVALS)
        disk_collect(disk);
}

static int check_unlink(const struct disk_inode *inode, bool is_directory)
{
    if (inode->is_destroyed)
        return -ESTALE;
    if (inode->is_directory != is_directory)
        return is_directory ? -ENOTDIR : -EISDIR;
    return is_directory && inode->names.count > 0 ? -ENOTEMPTY : 0;
}

static int disk_unlink(struct io *io, struct io_file *directory, const char *name,
                       bool is_directory)
{
    struct disk_model *disk = disk_of(io);
    int error = 0;
    size_t index;

    disk_enter(disk, DISK_UNLINK, name);
    index = walk(disk, directory->index, name, &error);
    if (error == 0)
        error = check_unlink(disk->inodes[index], is_directory);
    if (error == 0) {
        disk_directory_set(disk, directory->inode, name, DISK_NOTHING, 0, disk->next_number);
        lose_name(disk, index);
    }
    return disk_leave(disk, error);
}

static int check_rename(const struct disk_model *disk, size_t from, size_t to)
{
    const struct disk_inode *source = disk->inodes[from];
    const struct disk_inode *target = to != DISK_NOTHING ? disk->inodes[to] : NULL;

    if (source->is_destroyed)
        return -ESTALE;
    if (target == NULL)
        return 0;
    if (source->is_directory && !target->is_directory)
        return -ENOTDIR;
    if (!source->is_directory && target->is_directory)
        return -EISDIR;
    return target->is_directory && target->names.count > 0 ? -ENOTEMPTY : 0;
}

static int disk_rename(struct io *io, struct io_file *from_directory, const char *from,
                       struct io_file *to_directory, const char *to)
{
    struct disk_model *disk = disk_of(io);
    size_t source, target;
    uint64_t group;
    int error = 0;

    disk_enter(disk, DISK_RENAME, to);
    group = disk->next_number;
    source = walk(disk, from_directory->index, from, &error);
    if (error != 0)
        return disk_leave(disk, error);
    target = disk_names_find(&to_directory->inode->names, to);
    error = check_rename(disk, source, target);
    if (error != 0 || target == source)
        return disk_leave(disk, error);
    disk_directory_set(disk, to_directory->inode, to, source,
                       disk_names_linked(&from_directory->inode->names, from), group);
    to_directory->inode->halves[to_directory->inode->half_count - 1].is_arrival = true;
    if (disk->options.is_checked && to_directory->inode != from_directory->inode)
        group = disk->next_number;
    disk_directory_set(disk, from_directory->inode, from, DISK_NOTHING, 0, group);
    make_label(disk->inodes[source]->label, to_directory->inode, to);
    if (target != DISK_NOTHING)
        lose_name(disk, target);
    return disk_leave(disk, 0);
}

static int check_link(const struct disk_model *disk, size_t source,
                      const struct disk_inode *directory, const char *name)
{
    const struct disk_inode *inode = disk->inodes[source];

    if (inode->is_directory)
        return -EPERM;
    if (inode->is_destroyed)
        return -ESTALE;
    if (disk_names_find(&directory->names, name) != DISK_NOTHING)
        return -EEXIST;
    return disk->options.links_max > 0 && inode->links >= disk->options.links_max ? -EMLINK : 0;
}

static int disk_link(struct io *io, struct io_file *from_directory, const char *from,
                     struct io_file *to_directory, const char *to)
{
    struct disk_model *disk = disk_of(io);
    int error = 0;
    size_t source;

    disk_enter(disk, DISK_LINK, to);
    source = walk(disk, from_directory->index, from, &error);
    if (error == 0)
        error = check_link(disk, source, to_directory->inode, to);
    if (error == 0) {
        disk_directory_set(disk, to_directory->inode, to, source, disk->next_number,
                           disk->next_number);
        disk->inodes[source]->links++;
    }
    return disk_leave(disk, error);
}

static int disk_list(struct io *io, struct io_file *directory, io_list_callback *callback,
                     void *context)
{
    struct disk_model *disk = disk_of(io);
    int error = directory->inode->is_directory ? 0 : -ENOTDIR;
    struct disk_names names = {0};

    disk_enter(disk, DISK_LIST, directory->inode->label);
    if (error == 0)
        disk_names_copy(&directory->inode->names, &names);
    pthread_mutex_unlock(&disk->lock);
    for (size_t i = names.count; error == 0 && i-- > 0;)
        error = callback(context, names.names[i].text);
    disk_names_free(&names);
    return error;
}

/* ---- the rest ---- */

static int disk_lock(struct io *io, struct io_file *file)
{
    struct disk_model *disk = disk_of(io);
    int error = 0;

    disk_enter(disk, DISK_LOCK, file->inode->label);
    if (file->inode->is_locked && !file->is_locker)
        error = ERROR_LOCKED;
    if (error == 0)
        file->inode->is_locked = file->is_locker = true;
    return disk_leave(disk, error);
}

static int disk_clone(struct io *io, struct io_file *from, struct io_file *to)
{
    (void)io;
    (void)from;
    (void)to;
    return -EOPNOTSUPP;
}

static int disk_space(struct io *io, struct io_file *file, struct statvfs *ret_space)
{
    struct disk_model *disk = disk_of(io);

    disk_enter(disk, DISK_SPACE, file->inode->label);
    *ret_space = (struct statvfs){
        .f_bsize = DISK_PAGE_SIZE,
        .f_frsize = DISK_PAGE_SIZE,
        .f_blocks = BLOCK_COUNT,
        .f_bfree = BLOCK_COUNT,
        .f_bavail = BLOCK_COUNT,
        .f_namemax = 255,
    };
    return disk_leave(disk, 0);
}

static void disk_destroy(struct io *io)
{
    (void)io; /* lives as long as the disk */
}

const struct io_ops disk_ops = {
    .name = "disk model",
    .destroy = disk_destroy,
    .open = disk_open,
    .close = disk_close,
    .read = disk_read,
    .write = disk_write,
    .read_batch = disk_read_batch,
    .sync = disk_sync,
    .sync_filesystem = disk_sync_filesystem,
    .truncate = disk_truncate,
    .stat = disk_stat,
    .stat_at = disk_stat_at,
    .chmod = disk_chmod,
    .mkdir = disk_mkdir,
    .unlink = disk_unlink,
    .rename = disk_rename,
    .link = disk_link,
    .list = disk_list,
    .lock = disk_lock,
    .clone = disk_clone,
    .space = disk_space,
};
