/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ll_file.c - requests about open files
 */
#include "fuse/ll_prefetch.h"

#include <errno.h>
#include <fcntl.h>

/* A COPY_FILE_RANGE reply counts in 32 bits; the caller asks again for the rest. */
#define COPY_SIZE_MAX (UINT64_C(1) << 30)

/* ---- open and close ---- */

/* May the kernel hold dirty pages of a file opened like this? */
static bool ll_flags_may_dirty(const struct ll *ll, int flags)
{
    int access = flags & O_ACCMODE;

    return access == O_RDWR || (ll->options->writeback && access == O_WRONLY);
}

int ll_file_open(struct ll *ll, uint64_t node, int flags, struct fuse_file_info *info)
{
    bool may_dirty = ll_flags_may_dirty(ll, flags);
    uint64_t handle;
    int error;

    if (may_dirty) {
        error = ll_handles_add(ll->dirty_files, node);
        if (error < 0)
            return error;
    }
    error = fs_open_file(ll->fs, node, (flags & O_ACCMODE) != O_RDONLY, &handle);
    if (error < 0) {
        if (may_dirty)
            ll_handles_remove(ll->dirty_files, node);
        return error;
    }
    info->fh = handle;
    info->keep_cache = 1;
#if FUSE_VERSION >= FUSE_MAKE_VERSION(3, 15)
    info->parallel_direct_writes = 1;
#endif
    return 0;
}

void ll_file_close(struct ll *ll, uint64_t node, int flags, uint64_t handle)
{
    fs_release_file(ll->fs, node, handle);
    if (ll_flags_may_dirty(ll, flags))
        ll_handles_remove(ll->dirty_files, node);
}

/* What the kernel reads from its own memory it does not tell. It keeps the attributes too, and
 * drops them here without waiting for anything. */
void ll_opened_for_reading(struct ll *ll, uint64_t node, uint64_t handle)
{
    if (fs_opened_for_reading(ll->fs, node, handle))
        (void)fuse_lowlevel_notify_inval_inode(ll->session, node, -1, 0);
}

void ll_open(fuse_req_t request, fuse_ino_t node, struct fuse_file_info *info)
{
    struct ll *ll = ll_of(request);
    int error = fs_check_open(ll->fs, node, info->flags);

    if (error == 0)
        error = fs_node_is_live(node) ? ll_file_open(ll, node, info->flags, info)
                                      : ll_prefetch_open(ll, node, info->flags, info);
    if (error == 0 && (info->flags & (O_ACCMODE | O_NOATIME)) == O_RDONLY)
        ll_opened_for_reading(ll, node, info->fh);
    if (error < 0)
        ll_reply_error(request, error);
    else if (fuse_reply_open(request, info) != 0)
        ll_file_close(ll, node, info->flags, info->fh);
}

void ll_create(fuse_req_t request, fuse_ino_t parent, const char *name, mode_t mode,
               struct fuse_file_info *info)
{
    struct ll *ll = ll_of(request);
    struct fs_caller caller = ll_caller(request);
    struct fuse_entry_param param;
    struct fs_entry entry;
    int error;

    error = fs_mknod(ll->fs, parent, name, (mode & ~(mode_t)S_IFMT) | S_IFREG, 0, &caller, &entry);
    if (error < 0) {
        ll_reply_error(request, error);
        return;
    }
    error = ll_file_open(ll, entry.attribute.node, info->flags, info);
    if (error < 0) {
        /* The kernel holds the directory meanwhile: nobody has seen it. */
        if (fs_unlink(ll->fs, parent, name, &caller) < 0)
            log_warning("a file that could not be opened when it was made stays");
        fs_forget(ll->fs, entry.attribute.node, 1);
        ll_reply_error(request, error);
        return;
    }
    ll_fill_entry(ll, parent, &entry, &param);
    if (fuse_reply_create(request, &param, info) != 0) {
        ll_file_close(ll, entry.attribute.node, info->flags, info->fh);
        fs_forget(ll->fs, entry.attribute.node, 1);
    }
}

void ll_release(fuse_req_t request, fuse_ino_t node, struct fuse_file_info *info)
{
    ll_file_close(ll_of(request), node, info->flags, info->fh);
    ll_reply_error(request, 0);
}

/* ---- data ---- */

void ll_read(fuse_req_t request, fuse_ino_t node, size_t size, off_t offset,
             struct fuse_file_info *info)
{
    size_t room = size < LL_REQUEST_DATA_MAX ? size : LL_REQUEST_DATA_MAX;
    uint64_t handle = info->fh | ((info->flags & O_NOATIME) != 0 ? FS_HANDLE_NO_ATIME : 0);
    void *data = ll_loop_reply_buffer(room);

    if (data == NULL)
        ll_reply_error(request, -ENOMEM);
    else
        ll_reply_buffer(request, data,
                        fs_read(ll_of(request)->fs, node, handle, data, room, (uint64_t)offset));
}

int ll_kill_privileges(fuse_req_t request, uint64_t node)
{
    const struct fs_setattr change = {.mask = FS_SETATTR_KILL_PRIVILEGES};
    struct fs_caller caller = ll_caller(request);
    struct ll *ll = ll_of(request);
    struct fs_entry entry;
    int error = fs_getattr(ll->fs, node, &entry);

    if (error < 0 || (entry.attribute.mode & (S_ISUID | S_ISGID)) == 0)
        return error;
    error = fs_setattr(ll->fs, node, &change, &caller, &entry);
    /* Only attributes: that waits for nothing. */
    if (error == 0)
        (void)fuse_lowlevel_notify_inval_inode(ll->session, node, -1, 0);
    return error;
}

/* FALLOCATE and COPY_FILE_RANGE have no flag that says it. */
static int ll_kill_privileges_of_user(fuse_req_t request, uint64_t node)
{
    if (!ll_of(request)->kill_privileges || fuse_req_ctx(request)->uid == 0)
        return 0;
    return ll_kill_privileges(request, node);
}

void ll_write(fuse_req_t request, fuse_ino_t node, const char *data, size_t size, off_t offset,
              struct fuse_file_info *info)
{
    struct ll *ll = ll_of(request);
    /* The kernel knows where a file ends and says so, and with RWF_NOAPPEND it means another place,
     * which looks the same here; but of sizes that a rollback has changed it may not know yet. A page of a
     * mapping or of the write-back cache has its place, however the file was opened. */
    bool append = (info->flags & O_APPEND) != 0 && !info->writepage && !ll->options->writeback &&
                  atomic_load_explicit(&ll->rollbacks, memory_order_relaxed) > 0;
    bool kill = ll_wire_write_kills_privileges(ll);
    int error = kill ? ll_kill_privileges(request, node) : 0;

    if (error < 0)
        ll_reply_error(request, error);
    else
        ll_reply_count(request, fs_write(ll->fs, node, data, size, (uint64_t)offset, append, kill));
}

void ll_fsync(fuse_req_t request, fuse_ino_t node, int data_only, struct fuse_file_info *info)
{
    struct ll *ll = ll_of(request);

    (void)info;
    /* It wants the pages sent, and they were. */
    if (ll_pages_is_thread(ll->pages, fuse_req_ctx(request)->pid))
        ll_reply_error(request, 0);
    else
        ll_reply_error(request, fs_fsync(ll->fs, node, data_only != 0));
}

void ll_fallocate(fuse_req_t request, fuse_ino_t node, int mode, off_t offset, off_t length,
                  struct fuse_file_info *info)
{
    int error = offset < 0 || length <= 0 ? -EINVAL : ll_kill_privileges_of_user(request, node);

    (void)info;
    if (error == 0)
        error = fs_fallocate(ll_of(request)->fs, node, mode, (uint64_t)offset, (uint64_t)length);
    ll_reply_error(request, error);
}

void ll_copy_file_range(fuse_req_t request, fuse_ino_t from, off_t from_offset,
                        struct fuse_file_info *from_info, fuse_ino_t to, off_t to_offset,
                        struct fuse_file_info *to_info, size_t length, int flags)
{
    uint64_t size = length < COPY_SIZE_MAX ? length : COPY_SIZE_MAX;
    int error = flags != 0 || from_offset < 0 || to_offset < 0
                    ? -EINVAL
                    : ll_kill_privileges_of_user(request, to);

    (void)to_info;
    if (error < 0)
        ll_reply_error(request, error);
    else
        ll_reply_count(request,
                       fs_copy_range(ll_of(request)->fs, from, from_info->fh, (uint64_t)from_offset,
                                     to, (uint64_t)to_offset, size));
}
