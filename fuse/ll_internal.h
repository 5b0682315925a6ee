/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ll_internal.h - what the ll_*.c files share; nobody else includes it
 *
 * Every request is answered exactly once: an operation's last statement is its one reply. Lookups
 * and handles given out by an answer that the kernel did not take are taken back there
 * (ll_reply.c).
 */
#ifndef VARVE_FUSE_LL_INTERNAL_H
#define VARVE_FUSE_LL_INTERNAL_H

#define FUSE_USE_VERSION FUSE_MAKE_VERSION(3, 14)
#include <fuse_lowlevel.h>

#include <stdatomic.h>

#include "engine/base/blocking.h"
#include "engine/base/invariant.h"
#include "engine/base/lock.h"
#include "engine/base/log.h"
#include "fuse/ll.h"
#include "fuse/ll_control.h"
#include "fuse/ll_flusher.h"
#include "fuse/ll_handles.h"
#include "fuse/ll_loop.h"
#include "fuse/ll_notify.h"
#include "fuse/ll_opcode.h"
#include "fuse/ll_pages.h"

#define LL_REQUEST_DATA_MAX (1024 * 1024) /* of one READ or WRITE */
/* "For ever": names and attributes change through this mount only. */
#define LL_TIMEOUT_FOREVER 1e9

struct ll_transport;

struct ll {
    const struct ll_options *options;
    struct io *io;
    struct engine *engine;
    struct fs *fs;
    struct fuse_session *session;
    struct ll_loop *loop;
    struct ll_notify *notify;
    struct ll_flusher *flusher, *seeker; /* the latter: ll_seek.c, ll_ioctl.c */
    struct ll_pages *pages;
    struct ll_prefetch *prefetch; /* NULL: not done */
    uint64_t prefetched;          /* files; atomic, relaxed */
    struct ll_control *control;
    struct ll_handles *dirty_files, *directories; /* ll_handles.h */
    struct ll_transport *transport;
    struct ll_opcode_counts opcodes; /* of requests that arrived */
    bool kill_privileges; /* the kernel leaves clearing suid and sgid to us; set by INIT */
    bool setxattr_flags;  /* SETXATTR carries flags: ll_wire.c takes it */

    pthread_t main_thread; /* is told by signal that one of these became true */
    atomic_bool initialised, ended;
    atomic_ullong device;           /* of the mount: major << 32 | minor; 0: not known yet */
    atomic_bool is_shut;            /* ll_shutdown.c */
    atomic_uint_fast64_t rollbacks; /* begun and ended ones: odd while one is under way */
};

/* ---- nodes ---- */

/* A virtual .snapshots directory: 0 1 snapshot id 0, see fs.h. */
static inline bool ll_node_is_snapdir(uint64_t node)
{
    return node >> FS_INO_BITS == UINT64_C(1) << 24;
}

/* ---- ll_init.c ---- */

void ll_init(void *userdata, struct fuse_conn_info *connection);

/* ---- ll_session.c ---- */

void ll_wake_main(struct ll *ll);
/* Refuse changes or take them, as the kernel's table says that the mount is now. */
int ll_follow_mount(struct ll *ll);

/* ---- ll_ops.c ---- */

extern const struct fuse_lowlevel_ops ll_operations;

/* ---- ll_shutdown.c: FS_IOC_SHUTDOWN ---- */

#define LL_SHUTDOWN_IOCTL _IOR('X', 125, uint32_t)

void ll_shutdown(fuse_req_t request, const void *argument);
/* True when the mount is shut and the request was answered for that. */
bool ll_shutdown_refuses(struct ll *ll, const void *request, size_t size);

/* ---- ll_wire.c: requests that libfuse does not know, and fields it does not show ---- */

/* True when the request was answered here. */
bool ll_wire_handle(struct ll *ll, const void *request, size_t size);
/* Of the request this thread is handling: is privilege clearing asked for by this WRITE or SETATTR?
 */
bool ll_wire_write_kills_privileges(const struct ll *ll);
bool ll_wire_setattr_kills_privileges(const struct ll *ll);

/* ---- ll_transport.c: what passes between libfuse and the device ---- */

/* Before mounting: mount(2) sends INIT, which offers what is switched on by then. */
int ll_transport_new(struct ll *ll);
/* After mounting, before the first request. The session reads and answers on `device`, which is its
 * own then: /dev/fuse, or what stands for it in a test. */
int ll_transport_install(struct ll *ll, int device);
/* The rings that may be used, or NULL; whether they are, once INIT is answered. */
struct ll_rings *ll_transport_rings(const struct ll *ll);
bool ll_transport_uses_rings(const struct ll *ll);
/* A whole reply, made without libfuse; count at most 2. Negative: the kernel gave the request up.
 */
int ll_transport_reply(struct ll *ll, struct iovec *parts, int count);
void ll_transport_close_rings(struct ll *ll); /* the loop has stopped; the session is still there */
void ll_transport_free(struct ll_transport *transport); /* accepts NULL; the session is gone */
/* From the INIT operation: ask for flags of the protocol that libfuse has no name for. Returns
 * those that the kernel offers; its reply will carry them. */
uint32_t ll_transport_want(struct ll *ll, uint32_t flags);

/* ---- ll_reply.c ---- */

struct ll *ll_of(fuse_req_t request);
struct fs_caller ll_caller(fuse_req_t request);

/* Content is about to be changed by somebody without privileges: take suid and sgid away first, and
 * out of the kernel's cache. 0 or negative. */
int ll_kill_privileges(fuse_req_t request, uint64_t node);

/* `error` is 0 or any negative error value. */
void ll_reply_error(fuse_req_t request, int error);
void ll_fill_stat(const struct fs_attribute *attribute, struct stat *ret_stat);
void ll_fill_entry(const struct ll *ll, uint64_t parent, const struct fs_entry *entry,
                   struct fuse_entry_param *ret_param);
double ll_attribute_timeout(const struct ll *ll, const struct fs_entry *entry);

/* Answer a lookup-like request: error, or the entry (its lookup is taken back when not delivered).
 */
void ll_reply_entry(fuse_req_t request, uint64_t parent, int error, const struct fs_entry *entry);
void ll_reply_attribute(fuse_req_t request, int error, const struct fs_entry *entry);
/* A count or a negative error. */
void ll_reply_count(fuse_req_t request, int64_t result);
void ll_reply_buffer(fuse_req_t request, const void *data, int64_t result);

/* ---- operations, by file ---- */

/* ll_namespace.c */
void ll_lookup(fuse_req_t request, fuse_ino_t parent, const char *name);
void ll_forget(fuse_req_t request, fuse_ino_t node, uint64_t lookups);
void ll_forget_multi(fuse_req_t request, size_t count, struct fuse_forget_data *forgets);
void ll_mknod(fuse_req_t request, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev);
void ll_mkdir(fuse_req_t request, fuse_ino_t parent, const char *name, mode_t mode);
void ll_symlink(fuse_req_t request, const char *target, fuse_ino_t parent, const char *name);
void ll_link(fuse_req_t request, fuse_ino_t node, fuse_ino_t parent, const char *name);
void ll_unlink(fuse_req_t request, fuse_ino_t parent, const char *name);
void ll_rmdir(fuse_req_t request, fuse_ino_t parent, const char *name);
void ll_rename(fuse_req_t request, fuse_ino_t from_parent, const char *from, fuse_ino_t to_parent,
               const char *to, unsigned flags);
void ll_readlink(fuse_req_t request, fuse_ino_t node);

/* ll_attribute.c */
void ll_getattr(fuse_req_t request, fuse_ino_t node, struct fuse_file_info *info);
void ll_setattr(fuse_req_t request, fuse_ino_t node, struct stat *attributes, int to_set,
                struct fuse_file_info *info);
void ll_statfs(fuse_req_t request, fuse_ino_t node);
void ll_getxattr(fuse_req_t request, fuse_ino_t node, const char *name, size_t size);
void ll_setxattr(fuse_req_t request, fuse_ino_t node, const char *name, const char *value,
                 size_t size, int flags);
void ll_listxattr(fuse_req_t request, fuse_ino_t node, size_t size);
void ll_removexattr(fuse_req_t request, fuse_ino_t node, const char *name);

/* ll_file.c */
void ll_open(fuse_req_t request, fuse_ino_t node, struct fuse_file_info *info);
void ll_create(fuse_req_t request, fuse_ino_t parent, const char *name, mode_t mode,
               struct fuse_file_info *info);
void ll_release(fuse_req_t request, fuse_ino_t node, struct fuse_file_info *info);
void ll_read(fuse_req_t request, fuse_ino_t node, size_t size, off_t offset,
             struct fuse_file_info *info);
void ll_write(fuse_req_t request, fuse_ino_t node, const char *data, size_t size, off_t offset,
              struct fuse_file_info *info);
void ll_fsync(fuse_req_t request, fuse_ino_t node, int data_only, struct fuse_file_info *info);
void ll_fallocate(fuse_req_t request, fuse_ino_t node, int mode, off_t offset, off_t length,
                  struct fuse_file_info *info);
void ll_copy_file_range(fuse_req_t request, fuse_ino_t from, off_t from_offset,
                        struct fuse_file_info *from_info, fuse_ino_t to, off_t to_offset,
                        struct fuse_file_info *to_info, size_t length, int flags);
/* Open `node` as the flags of open(2) say and fill in the answer. Shared by open, create, tmpfile.
 */
int ll_file_open(struct ll *ll, uint64_t node, int flags, struct fuse_file_info *info);
void ll_opened_for_reading(struct ll *ll, uint64_t node, uint64_t handle);
void ll_file_close(struct ll *ll, uint64_t node, int flags, uint64_t handle);

/* ll_seek.c */
void ll_lseek(fuse_req_t request, fuse_ino_t node, off_t offset, int whence,
              struct fuse_file_info *info);

/* ll_directory.c */
void ll_opendir(fuse_req_t request, fuse_ino_t node, struct fuse_file_info *info);
void ll_releasedir(fuse_req_t request, fuse_ino_t node, struct fuse_file_info *info);
void ll_readdir(fuse_req_t request, fuse_ino_t node, size_t size, off_t cookie,
                struct fuse_file_info *info);
void ll_readdirplus(fuse_req_t request, fuse_ino_t node, size_t size, off_t cookie,
                    struct fuse_file_info *info);

/* ll_ioctl.c */
#if FUSE_VERSION >= FUSE_MAKE_VERSION(3, 5)
void ll_ioctl(fuse_req_t request, fuse_ino_t node, unsigned command, void *argument,
              struct fuse_file_info *info, unsigned flags, const void *in, size_t in_size,
              size_t out_size);
#endif

/* ---- ll_bdi.c ---- */

/* After the mount answers, as root: let the kernel read ahead and keep as much as for a disk. */
void ll_bdi_tune(const char *mount_point, uint32_t read_ahead_kb);

#endif
