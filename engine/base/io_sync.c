/* SPDX-License-Identifier: Apache-2.0 */
/*
 * io_sync.c - the backend of plain system calls
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "engine/base/io_backend.h"
#include "engine/base/log.h"

/* The negative errno of a system call that returned -1; 0 otherwise. */
static int result_of(int result)
{
    return result < 0 ? -errno : 0;
}

/*
 * Where openat2 is missing: one component at a time, none of them a link and none "..". A name
 * swapped for a link meanwhile is refused as well, for every step has O_NOFOLLOW.
 */
static int open_by_component(int directory, const char *name, int flags, mode_t mode)
{
    char component[NAME_MAX + 1];
    int at = directory;
    int result;

    if (*name == '/')
        return -EXDEV;
    for (;;) {
        size_t length = strcspn(name, "/");
        const char *rest = name + length + strspn(name + length, "/");
        bool is_last = *rest == '\0';

        if (length > NAME_MAX) {
            result = -ENAMETOOLONG;
            break;
        }
        memcpy(component, name, length);
        component[length] = '\0';
        if (strcmp(component, "..") == 0) {
            result = -EXDEV;
            break;
        }
        if (is_last)
            result = openat(at, component, flags, mode);
        else
            result = openat(at, component, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (result < 0) {
            result = -errno;
            /* O_DIRECTORY | O_NOFOLLOW on a link says "not a directory". */
            if (result == -ENOTDIR) {
                struct stat status;

                if (fstatat(at, component, &status, AT_SYMLINK_NOFOLLOW) == 0 &&
                    S_ISLNK(status.st_mode))
                    result = -ELOOP;
            }
            break;
        }
        if (is_last)
            break;
        if (at != directory)
            close(at);
        at = result;
        name = rest;
    }
    if (at != directory)
        close(at);
    return result;
}

static int open_beneath(int directory, const char *name, int flags, mode_t mode)
{
    struct open_how how = {
        /* With O_NOFOLLOW a link in place of a directory would be -ENOTDIR, not -ELOOP. */
        .flags = (uint64_t)(flags & ~O_NOFOLLOW),
        .mode = (flags & O_CREAT) != 0 ? mode : 0,
        .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS,
    };
    long result = syscall(SYS_openat2, directory, name, &how, sizeof how);

    if (result >= 0)
        return (int)result;
    /* Old kernels lack the call, some sandboxes forbid it. */
    if (errno == ENOSYS || errno == EPERM)
        return open_by_component(directory, name, flags, mode);
    return -errno;
}

/*
 * O_DIRECT is set on the open descriptor rather than at the open, because an open that creates the
 * file and then fails for O_DIRECT would leave the file behind. O_NONBLOCK, which kept a FIFO from
 * hanging the open, is dropped: io_uring would take it as a wish to get -EAGAIN for cold data.
 */
static int set_final_flags(int descriptor, int flags)
{
    if ((flags & IO_OPEN_DIRECT) != 0) {
        if (fcntl(descriptor, F_SETFL, O_DIRECT) == 0)
            return 0;
        if (errno != EINVAL)
            return -errno;
    }
    return result_of(fcntl(descriptor, F_SETFL, 0));
}

/* A store holds regular files and directories; a name in it may have been made by anyone. */
static int check_kind(int descriptor, int flags)
{
    struct stat status;

    if ((flags & (IO_OPEN_DIRECTORY | IO_OPEN_CREATE)) != 0)
        return 0;
    if (fstat(descriptor, &status) < 0)
        return -errno;
    if (S_ISDIR(status.st_mode))
        return -EISDIR;
    return S_ISREG(status.st_mode) ? 0 : -EINVAL;
}

static int open_flags_of_system(int flags)
{
    int result = O_CLOEXEC | O_NOCTTY | O_NONBLOCK | O_NOFOLLOW;

    result |= (flags & IO_OPEN_WRITE) != 0 ? O_RDWR : O_RDONLY;
    if ((flags & IO_OPEN_CREATE) != 0)
        result |= O_CREAT | O_EXCL;
    if ((flags & IO_OPEN_DIRECTORY) != 0)
        result |= O_DIRECTORY;
    return result;
}

static int sync_open(struct io *io, struct io_file *directory, const char *name, int flags,
                     mode_t mode, struct io_file **ret_file)
{
    struct io_file *file = malloc(sizeof *file);
    int descriptor, error;

    (void)io;
    if (file == NULL)
        return -ENOMEM;
    if (directory != NULL) {
        descriptor = open_beneath(directory->descriptor, name, open_flags_of_system(flags), mode);
        error = descriptor < 0 ? descriptor : 0;
    } else {
        descriptor = open(name, open_flags_of_system(flags) & ~O_NOFOLLOW, mode);
        error = result_of(descriptor);
    }
    if (error < 0)
        goto fail;

    error = check_kind(descriptor, flags);
    if (error == 0)
        error = set_final_flags(descriptor, flags);
    if (error < 0) {
        close(descriptor);
        goto fail;
    }
    *file = (struct io_file){
        .descriptor = descriptor,
        .is_direct = (flags & IO_OPEN_DIRECT) != 0,
        .journal = IO_JOURNAL_UNKNOWN,
    };
    *ret_file = file;
    return 0;

fail:
    free(file);
    return error;
}

static void sync_close(struct io *io, struct io_file *file)
{
    (void)io;
    /* Linux frees the descriptor whatever close() returns; what was to be durable was synced. */
    close(file->descriptor);
    free(file);
}

static int64_t sync_read(struct io *io, struct io_file *file, void *data, size_t size,
                         uint64_t offset)
{
    int error = io_check_alignment(file, data, size, offset);
    ssize_t count;

    (void)io;
    if (error < 0)
        return error;
    count = pread(file->descriptor, data, size, (off_t)offset);
    return count < 0 ? -errno : count;
}

/* Direct reads always wait. */
static int64_t sync_read_cached(struct io *io, struct io_file *file, void *data, size_t size,
                                uint64_t offset)
{
    struct iovec part = {data, size};
    ssize_t count;

    (void)io;
    if (file->is_direct)
        return -EAGAIN;
    count = preadv2(file->descriptor, &part, 1, (off_t)offset, RWF_NOWAIT);
    return count < 0 ? -errno : count;
}

static void sync_prefetch(struct io *io, struct io_file *file, uint64_t offset, uint64_t size)
{
    (void)io;
    (void)posix_fadvise(file->descriptor, (off_t)offset, (off_t)size, POSIX_FADV_WILLNEED);
}

static int64_t sync_write(struct io *io, struct io_file *file, const void *data, size_t size,
                          uint64_t offset)
{
    int error = io_check_alignment(file, data, size, offset);
    ssize_t count;

    (void)io;
    if (error < 0)
        return error;
    count = pwrite(file->descriptor, data, size, (off_t)offset);
    return count < 0 ? -errno : count;
}

static void sync_read_batch(struct io *io, struct io_read *reads, size_t count)
{
    for (size_t i = 0; i < count; i++)
        reads[i].result =
            sync_read(io, reads[i].file, reads[i].data, reads[i].size_bytes, reads[i].offset);
}

static int sync_sync(struct io *io, struct io_file *file, bool data_only)
{
    (void)io;
    return result_of(data_only ? fdatasync(file->descriptor) : fsync(file->descriptor));
}

static int sync_sync_filesystem(struct io *io, struct io_file *file)
{
    (void)io;
    return result_of(syncfs(file->descriptor));
}

static int sync_truncate(struct io *io, struct io_file *file, uint64_t size)
{
    (void)io;
    if (size > INT64_MAX)
        return -EFBIG;
    return result_of(ftruncate(file->descriptor, (off_t)size));
}

static int sync_stat(struct io *io, struct io_file *file, struct stat *ret_stat)
{
    struct stat status;

    (void)io;
    if (fstat(file->descriptor, &status) < 0)
        return -errno;
    *ret_stat = status;
    return 0;
}

static int sync_stat_at(struct io *io, struct io_file *directory, const char *name,
                        struct stat *ret_stat)
{
    struct stat status;

    (void)io;
    if (fstatat(directory->descriptor, name, &status, AT_SYMLINK_NOFOLLOW) < 0)
        return -errno;
    *ret_stat = status;
    return 0;
}

static int sync_chmod(struct io *io, struct io_file *file, mode_t mode)
{
    (void)io;
    return result_of(fchmod(file->descriptor, mode));
}

static int sync_mkdir(struct io *io, struct io_file *directory, const char *name, mode_t mode)
{
    (void)io;
    return result_of(mkdirat(directory->descriptor, name, mode));
}

/*
 * Without a journal the blocks of a removed file are anybody's at once, and on the disk it may still be
 * there. After a cut two files have them; where one is the block in which both keep the list of their
 * others, e2fsck destroys the newer file when it mends the older one, however often that was synced
 * (seen with e2fsck 1.47). So the file is held open until the disk knows that it has no name.
 */
static int unlink_held(int directory, const char *name, bool is_directory)
{
    int file = openat(directory, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    int result = result_of(unlinkat(directory, name, is_directory ? AT_REMOVEDIR : 0));
    struct stat status;

    if (file < 0)
        return result;
    if (result == 0 && fstat(file, &status) == 0 && status.st_nlink == 0 && status.st_blocks > 0 &&
        fsync(file) < 0)
        log_warning("%s was removed, which could not be synced: %s", name, error_text(-errno));
    close(file);
    return result;
}

/* Asked once for each open directory. */
static bool lacks_journal(struct io_file *directory)
{
    int journal = atomic_load_explicit(&directory->journal, memory_order_relaxed);

    if (journal == IO_JOURNAL_UNKNOWN) {
        journal = io_lacks_journal(directory->descriptor) ? IO_JOURNAL_LACKING : IO_JOURNAL_KEPT;
        atomic_store_explicit(&directory->journal, journal, memory_order_relaxed);
    }
    return journal == IO_JOURNAL_LACKING;
}

static int sync_unlink(struct io *io, struct io_file *directory, const char *name,
                       bool is_directory)
{
    (void)io;
    if (lacks_journal(directory))
        return unlink_held(directory->descriptor, name, is_directory);
    return result_of(unlinkat(directory->descriptor, name, is_directory ? AT_REMOVEDIR : 0));
}

static int sync_rename(struct io *io, struct io_file *from_directory, const char *from,
                       struct io_file *to_directory, const char *to)
{
    (void)io;
    return result_of(renameat(from_directory->descriptor, from, to_directory->descriptor, to));
}

static int sync_link(struct io *io, struct io_file *from_directory, const char *from,
                     struct io_file *to_directory, const char *to)
{
    (void)io;
    return result_of(linkat(from_directory->descriptor, from, to_directory->descriptor, to, 0));
}

/* A descriptor of its own: the position in a directory belongs to the open file description. */
static DIR *open_stream(struct io_file *directory)
{
    int descriptor = openat(directory->descriptor, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *stream = descriptor >= 0 ? fdopendir(descriptor) : NULL;

    if (stream == NULL && descriptor >= 0) {
        int saved_errno = errno;

        close(descriptor);
        errno = saved_errno;
    }
    return stream;
}

static int sync_list(struct io *io, struct io_file *directory, io_list_callback *callback,
                     void *context)
{
    DIR *stream = open_stream(directory);
    int result = 0;

    (void)io;
    if (stream == NULL)
        return -errno;
    while (result == 0) {
        struct dirent *entry;

        errno = 0;
        entry = readdir(stream);
        if (entry == NULL) {
            result = -errno;
            break;
        }
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            result = callback(context, entry->d_name);
    }
    closedir(stream);
    return result;
}

static int sync_lock(struct io *io, struct io_file *file)
{
    int result;

    (void)io;
    result = result_of(flock(file->descriptor, LOCK_EX | LOCK_NB));
    return result == -EWOULDBLOCK ? ERROR_LOCKED : result;
}

static int sync_clone(struct io *io, struct io_file *from, struct io_file *to)
{
    int result;

    (void)io;
    result = result_of(ioctl(to->descriptor, FICLONE, from->descriptor));
    /* Three ways of saying that there is no such thing here. */
    return result == -ENOTTY || result == -ENOSYS ? -EOPNOTSUPP : result;
}

static int sync_space(struct io *io, struct io_file *file, struct statvfs *ret_space)
{
    struct statvfs space;

    (void)io;
    if (fstatvfs(file->descriptor, &space) < 0)
        return -errno;
    *ret_space = space;
    return 0;
}

static int sync_path(struct io *io, struct io_file *file, char *to, size_t size)
{
    char link[32];
    ssize_t length;

    (void)io;
    snprintf(link, sizeof link, "/proc/self/fd/%d", file->descriptor);
    length = readlink(link, to, size - 1);
    if (length < 0)
        return -errno;
    to[length] = '\0';
    return 0;
}

static void sync_destroy(struct io *io)
{
    free(io);
}

const struct io_ops io_sync_ops = {
    .name = "sync",
    .destroy = sync_destroy,
    .open = sync_open,
    .close = sync_close,
    .read = sync_read,
    .write = sync_write,
    .read_batch = sync_read_batch,
    .read_cached = sync_read_cached,
    .prefetch = sync_prefetch,
    .sync = sync_sync,
    .sync_filesystem = sync_sync_filesystem,
    .truncate = sync_truncate,
    .stat = sync_stat,
    .stat_at = sync_stat_at,
    .chmod = sync_chmod,
    .mkdir = sync_mkdir,
    .unlink = sync_unlink,
    .rename = sync_rename,
    .link = sync_link,
    .list = sync_list,
    .lock = sync_lock,
    .clone = sync_clone,
    .space = sync_space,
    .path = sync_path,
};

int io_sync_open_backend(struct io **ret_io)
{
    struct io *io = calloc(1, sizeof *io);

    if (io == NULL)
        return -ENOMEM;
    io->ops = &io_sync_ops;
    *ret_io = io;
    return 0;
}
