/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fs.h - filesystem semantics: inodes, directories, files, xattrs, snapshots as directories
 *
 * Owns: the meaning of every engine key that begins with a non-zero inode number, and of orphans
 * and the superblock (fs_key.h). Knows nothing of libfuse: all functions are called with plain
 * values and return 0 (or a count) or a negative error whose error_errno() goes to the user.
 *
 * Guarantees: each namespace operation is one engine batch (P3). Writes are acknowledged from
 * memory; fs_fsync() makes everything acknowledged durable (P1, P2).
 *
 * Nodes: a node is what the kernel names with 64 bits, by their upper two:
 *
 * - 00, ino(62): a live inode; 1 is the root.
 *
 * - 01, snapshot id(24), ino(38): directory `ino` in a snapshot, with snaplinks=off any other file
 *   of it too. Snapshot id 0: the virtual `.snapshots` of the live directory `ino`.
 *
 * - 10, version(62): a non-directory in snapshots, named by its inode record's sequence number:
 *   equal exactly when nothing differs.
 *
 * - 11, hash(62): directory `ino` in a snapshot, on one path through the .snapshots of a directory
 *   (fs_location.c says why); st_ino is that of the form 01.
 *
 * Of all others st_ino is the node.
 *
 * Lookups: a returned fs_entry counts one lookup of its node; fs_forget() takes them back. An
 * unlinked file's data goes when its link count and its lookups are both zero.
 *
 * Threads: every function from any thread, several on one file at once. Locks: docs/concurrency.md
 * (inode stripes LOCK_RANK_FS_INODE, taken in stripe order). Permissions: checked by the kernel
 * (default_permissions), except where said here.
 */
#ifndef VARVE_FUSE_FS_H
#define VARVE_FUSE_FS_H

#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>

#include "snapshot/snapshot.h"

#define FS_ROOT          UINT64_C(1)
#define FS_INO_BITS      38
#define FS_INO_MAX       ((UINT64_C(1) << FS_INO_BITS) - 1)
#define FS_NAME_SIZE_MAX 255
#define FS_LINKS_MAX     65000      /* of a file */
#define FS_SUBLINKS_MAX  UINT32_MAX /* of a directory: "." and the ".." of those in it count */
#define FS_BLOCK_SIZE    4096
#define FS_SIZE_MAX      ((UINT64_C(1) << 62) - 1)
#define FS_BLOCK_SIZE    4096 /* what stat(2) and statfs(2) show */

struct fs;

/* Which readings are remembered as the time of last access. */
enum fs_atime_mode {
    FS_ATIME_RELATIVE, /* the first after a change, and one a day */
    FS_ATIME_STRICT,   /* each that we are told of */
    FS_ATIME_NONE,
};
#define FS_ATIME_NO_DIRECTORIES 0x10

/* Which changes are durable when they return, beside those of files and directories whose flags say
 * so (chattr +S, +D). */
#define FS_SYNC_ALL         1u
#define FS_SYNC_DIRECTORIES 2u /* of names */

struct fs_options {
    bool snapdir_visible;     /* list .snapshots in the root */
    const char *snapdir_name; /* NULL: ".snapshots" */
    bool snaplinks;           /* unchanged files are one inode across snapshots */
    bool snapdir_everywhere;  /* .snapshots reachable in every directory, not in the root only */
    uid_t owner_uid;          /* the mount's owner: may create and delete snapshots, as root may */
    uint32_t snapshot_views_max;
    uint32_t versions_max; /* of files in snapshots, remembered for file handles */
    unsigned atime;        /* enum fs_atime_mode, and FS_ATIME_NO_DIRECTORIES */
    unsigned sync;         /* FS_SYNC_... */
};
void fs_options_default(struct fs_options *options);

/* Told when the kernel must forget something. Called with no lock held, from any thread. */
struct fs_notify {
    void (*entry)(void *context, uint64_t parent, const char *name);
    void (*inode)(void *context, uint64_t node); /* attributes and, for a directory, its listing */
    /* Asked when a change comes while changes are refused: has the mount become writable meanwhile?
     * NULL: no. */
    bool (*is_writable)(void *context);
    void *context;
};

struct fs_caller {
    uid_t uid;
    gid_t gid;
    pid_t pid;
    mode_t umask;
    /* Is he in this group beside his first one? Asked only where it matters; NULL: no. Negative: that
     * cannot be found out now. */
    int (*in_group)(const struct fs_caller *caller, gid_t group);
};

struct fs_attribute {
    uint64_t node;
    uint64_t number; /* st_ino: the node, but see above */
    uint64_t generation;
    mode_t mode;
    uint32_t nlink;
    uid_t uid;
    gid_t gid;
    dev_t rdev;
    uint64_t size_bytes;
    uint64_t blocks_512;
    struct timespec atime, mtime, ctime, btime;
    uint32_t flags; /* FS_*_FL of linux/fs.h */
    uint32_t project;
};

struct fs_entry {
    struct fs_attribute attribute;
    bool stable; /* false: the kernel must not cache its attributes (snapshot link counts move) */
};

/* Load, clean orphans up, make the root directory (owner `root_uid`:`root_gid`, 0755) in a new
 * store. The engine outlives the fs. A live entry named like the snapshot directory: -EEXIST
 * (logged). */
int fs_open(struct engine *engine, const struct fs_options *options, struct fs **ret_fs);
int fs_format(struct engine *engine, uid_t root_uid, gid_t root_gid); /* mkfs: the root, synced */
void fs_close(struct fs *fs);                                         /* accepts NULL */
void fs_set_notify(struct fs *fs, const struct fs_notify *notify);
struct snapshot_set *fs_snapshots(struct fs *fs);
struct engine *fs_engine(struct fs *fs);

/* Refuse changes from now on, or take them again: -EROFS when the store cannot change. What waits is
 * made durable first, and orphans are removed as when it is opened. */
int fs_set_read_only(struct fs *fs, bool read_only);
bool fs_read_only(const struct fs *fs);

/* Other rules from now on (remount). */
void fs_set_atime(struct fs *fs, unsigned atime);
void fs_set_sync(struct fs *fs, unsigned sync);

/* Is the node live (not part of a snapshot, not .snapshots)? */
bool fs_node_is_live(uint64_t node);

/* ---- names ---- */

/* -ENOENT, -ENOTDIR, -ENAMETOOLONG, -ESTALE (unknown node). "." and ".." are served (NFS export).
 */
int fs_lookup(struct fs *fs, uint64_t parent, const char *name, struct fs_entry *ret_entry);
void fs_forget(struct fs *fs, uint64_t node, uint64_t lookups);

/* mknod of any type, regular files included; mode includes the type; umask already applied or
 * applied by the caller's umask field as the FUSE protocol sends it. setgid directories: the group
 * is inherited (and the bit, for directories). In .snapshots: mkdir creates a snapshot, all else
 * -EROFS. */
int fs_mknod(struct fs *fs, uint64_t parent, const char *name, mode_t mode, dev_t rdev,
             const struct fs_caller *caller, struct fs_entry *ret_entry);
int fs_mkdir(struct fs *fs, uint64_t parent, const char *name, mode_t mode,
             const struct fs_caller *caller, struct fs_entry *ret_entry);
int fs_symlink(struct fs *fs, uint64_t parent, const char *name, const char *target,
               const struct fs_caller *caller, struct fs_entry *ret_entry);
int fs_link(struct fs *fs, uint64_t node, uint64_t parent, const char *name,
            const struct fs_caller *caller, struct fs_entry *ret_entry);
int fs_unlink(struct fs *fs, uint64_t parent, const char *name, const struct fs_caller *caller);
int fs_rmdir(struct fs *fs, uint64_t parent, const char *name, const struct fs_caller *caller);
/* flags: RENAME_NOREPLACE, RENAME_EXCHANGE, RENAME_WHITEOUT (leaves a device of number 0 under the
 * old name); others -EINVAL. */
int fs_rename(struct fs *fs, uint64_t from_parent, const char *from, uint64_t to_parent,
              const char *to, unsigned flags, const struct fs_caller *caller);
/* A file without a name (O_TMPFILE): an orphan until fs_link() names it. */
int fs_tmpfile(struct fs *fs, uint64_t parent, mode_t mode, const struct fs_caller *caller,
               struct fs_entry *ret_entry);
/* *target: appended, not NUL-terminated. */
int fs_readlink(struct fs *fs, uint64_t node, struct buffer *target);

/* ---- attributes ---- */

int fs_getattr(struct fs *fs, uint64_t node, struct fs_entry *ret_entry);

enum fs_setattr_mask {
    FS_SETATTR_MODE = 1 << 0,
    FS_SETATTR_UID = 1 << 1,
    FS_SETATTR_GID = 1 << 2,
    FS_SETATTR_SIZE = 1 << 3,
    FS_SETATTR_ATIME = 1 << 4,
    FS_SETATTR_MTIME = 1 << 5,
    FS_SETATTR_ATIME_NOW = 1 << 6,
    FS_SETATTR_MTIME_NOW = 1 << 7,
    FS_SETATTR_CTIME = 1 << 8,
    FS_SETATTR_KILL_PRIVILEGES = 1 << 9, /* clear suid/sgid as chown and truncate do */
};
struct fs_setattr {
    unsigned mask;
    mode_t mode;
    uid_t uid;
    gid_t gid;
    uint64_t size_bytes;
    struct timespec atime, mtime, ctime;
};
int fs_setattr(struct fs *fs, uint64_t node, const struct fs_setattr *change,
               const struct fs_caller *caller, struct fs_entry *ret_entry);

/* FS_IOC_GETFLAGS / SETFLAGS: immutable, append, nodump, noatime, sync, and of directories dirsync
 * and projinherit: what is made in them is of their project, and what is of another is not let in
 * (-EXDEV). `project`: NULL leaves it. */
int fs_set_flags(struct fs *fs, uint64_t node, uint32_t flags, const uint32_t *project,
                 const struct fs_caller *caller);

/* ---- files ---- */

/* Between open and release a file counts as open; `writable` files are flushed before a snapshot.
 * The handle is opaque. In a snapshot the handle pins the snapshot's view. -EROFS for writing
 * there. */
int fs_open_file(struct fs *fs, uint64_t node, bool writable, uint64_t *ret_handle);
/* Do the file's own flags allow opening it with these O_* flags? -EPERM: writing to an immutable
 * file, or to an append-only one otherwise than at its end. Kept to opening, as elsewhere: it is
 * the kernel's caller that must hear of it, and what writes is asked again. */
int fs_check_open(struct fs *fs, uint64_t node, int flags);
void fs_release_file(struct fs *fs, uint64_t node, uint64_t handle);
/* Of a snapshot's file: was it opened for the first time since it is looked up? */
bool fs_opened_first(uint64_t handle);
/* The file was opened to be read, or the directory (handle 0) to be listed, perhaps from the kernel's
 * memory: that counts as reading it. True when its time of access is another by that. What must be
 * in READ requests counts there, after which the kernel looks at the time anew by itself. */
bool fs_opened_for_reading(struct fs *fs, uint64_t node, uint64_t handle);
/* With the handle of a call: this reading does not count as access (O_NOATIME). */
#define FS_HANDLE_NO_ATIME UINT64_C(4)

/* All of a file that has at most `room_bytes`: how many there are; 0 when it is empty or larger. It does
 * not count as access. Errors are those of fs_read(). */
int64_t fs_read_whole(struct fs *fs, uint64_t node, uint64_t handle, void *data, size_t room_bytes);

/* Bytes read (short only at the end of the file); holes are zeros. -EISDIR, -EIO ... */
int64_t fs_read(struct fs *fs, uint64_t node, uint64_t handle, void *data, size_t size_bytes,
                uint64_t offset);
/* Bytes written (all). `append`: at the present end, whatever `offset` says. `kill_privileges`:
 * clear suid, sgid and security.capability. -EFBIG, -ENOSPC, -EROFS, -EPERM (immutable) ... */
int64_t fs_write(struct fs *fs, uint64_t node, const void *data, size_t size_bytes, uint64_t offset,
                 bool append, bool kill_privileges);
/* mode: 0, FALLOC_FL_KEEP_SIZE, with PUNCH_HOLE or ZERO_RANGE; others -EOPNOTSUPP. */
int fs_fallocate(struct fs *fs, uint64_t node, int mode, uint64_t offset, uint64_t length);
/* SEEK_DATA / SEEK_HOLE: the offset, or -ENXIO; holes are told of in whole blocks. */
int64_t fs_seek(struct fs *fs, uint64_t node, uint64_t handle, uint64_t offset, int whence);
/* Copy by sharing extents where both are aligned alike to what is shared (always possible here);
 * from a live file or a file of a snapshot to a live file. Bytes copied (short at the source's
 * end). -EINVAL for overlapping ranges of one file. */
int64_t fs_copy_range(struct fs *fs, uint64_t from_node, uint64_t from_handle, uint64_t from_offset,
                      uint64_t to_node, uint64_t to_offset, uint64_t length);
/* Everything acknowledged so far is durable when it returns 0. */
int fs_fsync(struct fs *fs, uint64_t node, bool data_only);
int fs_sync(struct fs *fs);

/* ---- directories ---- */

struct fs_directory; /* an open directory: remembers where reading stopped */
int fs_directory_open(struct fs *fs, uint64_t node, struct fs_directory **ret_directory);
void fs_directory_close(struct fs_directory *directory); /* accepts NULL */

struct fs_directory_entry {
    const char *name;
    size_t name_size;
    uint64_t number;              /* d_ino */
    uint32_t type;                /* S_IFMT bits */
    uint64_t cookie;              /* pass as `cookie` to continue after this entry */
    const struct fs_entry *entry; /* with `plus`: counts a lookup if the callback takes it; else
                                     NULL. NULL for ".", ".." and what is in the root's
                                     .snapshots */
};
/* Returns 0 to go on, 1 when there is no room (the entry is not taken). */
typedef int fs_directory_callback(void *context, const struct fs_directory_entry *entry);
/* Entries after `cookie` (0: from the start, "." and ".." first). Entries come in order of
 * creation; one that exists during the whole reading is shown exactly once, whatever else comes and
 * goes. */
int fs_readdir(struct fs_directory *directory, uint64_t cookie, bool plus,
               fs_directory_callback *callback, void *context);

/* ---- extended attributes ---- */

/* size 0: only the length is returned. -ENODATA, -ERANGE, -EOPNOTSUPP (namespace), -E2BIG. */
int64_t fs_getxattr(struct fs *fs, uint64_t node, const char *name, void *value, size_t size);
/* With FS_XATTR_KILL_SGID (the protocol's flag of that meaning) setting an ACL clears the setgid
 * bit. */
#define FS_XATTR_KILL_SGID (1 << 16)
/* flags: XATTR_CREATE, XATTR_REPLACE. -EEXIST, -ENODATA, -ENOSPC, -E2BIG, -EROFS. */
int fs_setxattr(struct fs *fs, uint64_t node, const char *name, const void *value, size_t size,
                int flags, const struct fs_caller *caller);
/* `trusted`: the names of that namespace too, which only the administrator may know. */
int64_t fs_listxattr(struct fs *fs, uint64_t node, bool trusted, void *list, size_t size);
int fs_removexattr(struct fs *fs, uint64_t node, const char *name, const struct fs_caller *caller);

/* ---- snapshots by name, for those who do not come through the tree (the control socket) ---- */

/* As rmdir in .snapshots, with nothing asked of the caller. Handles and nodes that the kernel holds
 * stay readable; it is told that the name is gone. */
int fs_snapshot_delete(struct fs *fs, const char *name);
/* The same of this one, which was chosen before: -ENOENT when it is gone, though there may be another of
 * its name by now. */
int fs_snapshot_delete_this(struct fs *fs, struct snapshot *snapshot);
/* Tell the kernel that a name came or went in .snapshots, after snapshot_create() or
 * snapshot_rename() was called directly. */
void fs_snapshot_announce(struct fs *fs, const char *name);

/*
 * The live tree becomes what the snapshot shows; all snapshots stay, and the tree before is kept as
 * one more, whose name is returned. Atomic and durable. `notify` is called before this returns,
 * from this thread and with no lock held, for each name and each inode held by the kernel that
 * differ: so the thread must not be one that serves requests. Who has a file open that is gone gets
 * -ESTALE. -ENOENT, -EROFS, -ENOSPC ...
 */
int fs_rollback(struct fs *fs, const char *name, const struct fs_notify *notify,
                char ret_before[SNAPSHOT_NAME_SIZE_MAX + 1]);

/* ---- whole filesystem ---- */

int fs_statfs(struct fs *fs, struct statvfs *ret_statvfs);

struct fs_statistics {
    uint64_t nodes_held, open_files, open_writable, orphans, orphans_reaped;
    uint64_t inline_writes, blob_writes, shared_bytes;
};
void fs_get_statistics(struct fs *fs, struct fs_statistics *ret);

/* fsck: walk a view and check structure (link counts, dentries against cookies and inodes, extents
 * inside sizes and not overlapping, orphans). One line per finding through `report`. 0, or negative
 * on trouble; *ret_findings counts. With `verify` every data frame is read and checked too. */
typedef void fs_check_report(void *context, const char *line);
int fs_check(struct engine_view *view, bool verify, fs_check_report *report, void *context,
             uint64_t *ret_findings);
/* Which files suffer from damage of these chunks: of file data only what lies in them is read, and how
 * files and names go together is not looked at. A table that cannot be read is told of as by fs_check(),
 * and is no error here. 0 or -ENOMEM. */
int fs_check_chunks(struct engine_view *view, const uint64_t *chunk_ids, size_t chunk_count,
                    fs_check_report *report, void *context);

#endif
