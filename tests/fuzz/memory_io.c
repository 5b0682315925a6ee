/* SPDX-License-Identifier: Apache-2.0 */
/*
 * memory_io.c - files are buffers in a small array
 */
#include "tests/fuzz/memory_io.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/error.h"

#define FILES_MAX      16
#define NAME_SIZE      256
#define FILE_BYTES_MAX ((size_t)1 << 26)

struct memory_file {
    char name[NAME_SIZE]; /* empty: free */
    struct buffer bytes;
    mode_t mode;
};

struct io_file {
    struct memory_file *file; /* NULL: the directory */
    bool is_direct;
};

struct memory_io {
    struct io io;
    struct io_file directory;
    struct memory_file files[FILES_MAX];
};

static struct memory_io *memory_of(struct io *io)
{
    return (struct memory_io *)(void *)io; /* its first member */
}

static struct memory_file *find(struct memory_io *memory, const char *name)
{
    for (size_t i = 0; i < FILES_MAX; i++)
        if (strcmp(memory->files[i].name, name) == 0)
            return &memory->files[i];
    return NULL;
}

static struct memory_file *make(struct memory_io *memory, const char *name, mode_t mode)
{
    struct memory_file *file = find(memory, "");

    if (file == NULL || strlen(name) >= NAME_SIZE || name[0] == '\0')
        abort();
    strcpy(file->name, name);
    file->mode = mode;
    return file;
}

static void drop(struct memory_file *file)
{
    buffer_free(&file->bytes);
    file->name[0] = '\0';
}

static void resize(struct memory_file *file, size_t size)
{
    size_t before = file->bytes.size;

    if (size > FILE_BYTES_MAX || buffer_reserve(&file->bytes, size + 1) != 0)
        abort();
    if (size > before)
        memset(file->bytes.data + before, 0, size - before);
    file->bytes.size = size;
}

/* ---- the backend ---- */

static void memory_destroy(struct io *io)
{
    (void)io;
}

static int memory_open(struct io *io, struct io_file *directory, const char *name, int flags,
                       mode_t mode, struct io_file **ret_file)
{
    struct memory_io *memory = memory_of(io);
    struct memory_file *file = find(memory, name);
    struct io_file *opened;

    if (directory == NULL || (flags & IO_OPEN_DIRECTORY) != 0)
        return -ENOTDIR;
    if ((flags & IO_OPEN_CREATE) != 0) {
        if (file != NULL)
            return -EEXIST;
        file = make(memory, name, mode);
    }
    if (file == NULL)
        return -ENOENT;
    opened = calloc(1, sizeof *opened);
    if (opened == NULL)
        abort();
    opened->file = file;
    opened->is_direct = (flags & IO_OPEN_DIRECT) != 0;
    *ret_file = opened;
    return 0;
}

static void memory_close(struct io *io, struct io_file *file)
{
    if (file != &memory_of(io)->directory)
        free(file);
}

static bool is_misaligned(const struct io_file *file, const void *data, size_t size,
                          uint64_t offset)
{
    return file->is_direct && (((uintptr_t)data | size | offset) & (IO_DIRECT_ALIGNMENT - 1)) != 0;
}

static int64_t memory_read(struct io *io, struct io_file *file, void *data, size_t size,
                           uint64_t offset)
{
    const struct buffer *bytes = &file->file->bytes;

    (void)io;
    if (is_misaligned(file, data, size, offset))
        return ERROR_UNALIGNED;
    if (offset >= bytes->size)
        return 0;
    if (size > bytes->size - offset)
        size = bytes->size - (size_t)offset;
    memcpy(data, bytes->data + offset, size);
    return (int64_t)size;
}

static int64_t memory_write(struct io *io, struct io_file *file, const void *data, size_t size,
                            uint64_t offset)
{
    (void)io;
    if (is_misaligned(file, data, size, offset))
        return ERROR_UNALIGNED;
    if (offset > FILE_BYTES_MAX || size > FILE_BYTES_MAX - offset)
        return -EFBIG;
    if (offset + size > file->file->bytes.size)
        resize(file->file, (size_t)offset + size);
    memcpy(file->file->bytes.data + offset, data, size);
    return (int64_t)size;
}

static void memory_read_batch(struct io *io, struct io_read *reads, size_t count)
{
    for (size_t i = 0; i < count; i++)
        reads[i].result =
            memory_read(io, reads[i].file, reads[i].data, reads[i].size_bytes, reads[i].offset);
}

static int memory_sync(struct io *io, struct io_file *file, bool data_only)
{
    (void)io;
    (void)file;
    (void)data_only;
    return 0;
}

static int memory_sync_filesystem(struct io *io, struct io_file *file)
{
    return memory_sync(io, file, false);
}

static int memory_truncate(struct io *io, struct io_file *file, uint64_t size)
{
    (void)io;
    if (size > FILE_BYTES_MAX)
        return -EFBIG;
    resize(file->file, (size_t)size);
    return 0;
}

static void fill_stat(const struct memory_file *file, struct stat *ret_stat)
{
    *ret_stat = (struct stat){
        .st_mode = S_IFREG | file->mode,
        .st_size = (off_t)file->bytes.size,
        .st_nlink = 1,
    };
}

static int memory_stat(struct io *io, struct io_file *file, struct stat *ret_stat)
{
    (void)io;
    fill_stat(file->file, ret_stat);
    return 0;
}

static int memory_stat_at(struct io *io, struct io_file *directory, const char *name,
                          struct stat *ret_stat)
{
    const struct memory_file *file = find(memory_of(io), name);

    (void)directory;
    if (file == NULL)
        return -ENOENT;
    fill_stat(file, ret_stat);
    return 0;
}

static int memory_chmod(struct io *io, struct io_file *file, mode_t mode)
{
    (void)io;
    file->file->mode = mode;
    return 0;
}

static int memory_mkdir(struct io *io, struct io_file *directory, const char *name, mode_t mode)
{
    (void)io;
    (void)directory;
    (void)name;
    (void)mode;
    return -EROFS;
}

static int memory_unlink(struct io *io, struct io_file *directory, const char *name,
                         bool is_directory)
{
    struct memory_file *file = find(memory_of(io), name);

    (void)directory;
    if (file == NULL || is_directory)
        return -ENOENT;
    drop(file);
    return 0;
}

static int memory_rename(struct io *io, struct io_file *from_directory, const char *from,
                         struct io_file *to_directory, const char *to)
{
    struct memory_file *source = find(memory_of(io), from), *target = find(memory_of(io), to);

    (void)from_directory;
    (void)to_directory;
    if (source == NULL)
        return -ENOENT;
    if (target != NULL && target != source)
        drop(target);
    strcpy(source->name, to);
    return 0;
}

static int memory_link(struct io *io, struct io_file *from_directory, const char *from,
                       struct io_file *to_directory, const char *to)
{
    (void)io;
    (void)from_directory;
    (void)from;
    (void)to_directory;
    (void)to;
    return -EPERM;
}

static int memory_list(struct io *io, struct io_file *directory, io_list_callback *callback,
                       void *context)
{
    struct memory_io *memory = memory_of(io);
    int result = 0;

    (void)directory;
    for (size_t i = 0; result == 0 && i < FILES_MAX; i++)
        if (memory->files[i].name[0] != '\0')
            result = callback(context, memory->files[i].name);
    return result;
}

static int memory_lock(struct io *io, struct io_file *file)
{
    (void)io;
    (void)file;
    return 0;
}

static int memory_clone(struct io *io, struct io_file *from, struct io_file *to)
{
    (void)io;
    (void)from;
    (void)to;
    return -EOPNOTSUPP;
}

static int memory_space(struct io *io, struct io_file *file, struct statvfs *ret_space)
{
    (void)io;
    (void)file;
    *ret_space = (struct statvfs){
        .f_bsize = 4096,
        .f_frsize = 4096,
        .f_blocks = 1 << 20,
        .f_bfree = 1 << 20,
        .f_bavail = 1 << 20,
    };
    return 0;
}

static const struct io_ops memory_ops = {
    .name = "memory",
    .destroy = memory_destroy,
    .open = memory_open,
    .close = memory_close,
    .read = memory_read,
    .write = memory_write,
    .read_batch = memory_read_batch,
    .sync = memory_sync,
    .sync_filesystem = memory_sync_filesystem,
    .truncate = memory_truncate,
    .stat = memory_stat,
    .stat_at = memory_stat_at,
    .chmod = memory_chmod,
    .mkdir = memory_mkdir,
    .unlink = memory_unlink,
    .rename = memory_rename,
    .link = memory_link,
    .list = memory_list,
    .lock = memory_lock,
    .clone = memory_clone,
    .space = memory_space,
};

/* ---- life ---- */

struct memory_io *memory_io_new(void)
{
    struct memory_io *memory = calloc(1, sizeof *memory);

    if (memory == NULL)
        abort();
    memory->io.ops = &memory_ops;
    return memory;
}

void memory_io_free(struct memory_io *memory)
{
    memory_io_clear(memory);
    free(memory);
}

struct io *memory_io_get(struct memory_io *memory)
{
    return &memory->io;
}

struct io_file *memory_io_directory(struct memory_io *memory)
{
    return &memory->directory;
}

void memory_io_put(struct memory_io *memory, const char *name, struct slice bytes)
{
    struct memory_file *file = find(memory, name);

    if (file == NULL)
        file = make(memory, name, 0600);
    resize(file, bytes.size);
    if (bytes.size > 0)
        memcpy(file->bytes.data, bytes.data, bytes.size);
}

void memory_io_clear(struct memory_io *memory)
{
    for (size_t i = 0; i < FILES_MAX; i++)
        if (memory->files[i].name[0] != '\0')
            drop(&memory->files[i]);
}
