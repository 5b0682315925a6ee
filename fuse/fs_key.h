/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fs_key.h - how inodes, dentries, xattrs and extents are keys and values
 * (docs/on-disk-format.md#keys)
 *
 * Keys (big-endian, inode first, so that what is used together lies together):
 *   ino 01                 inode       struct fs_inode, FS_INODE_SIZE bytes
 *   ino 02 name            xattr       value bytes
 *   ino 03 name            dentry      child ino u64, cookie u64, type u32 (S_IFMT bits)
 *   ino 04 cookie u64      dentry by creation order: child ino u64, type u32, name
 *   ino 05 last u64        extent whose last byte is at file offset `last` (inclusive):
 *                          RECORD_REFERENCE (ref->length bytes), or RECORD_VALUE: the bytes
 * themselves, at most FS_INLINE_MAX. Keyed by the last byte so that the extent that holds offset x,
 * or the next one, is the first key >= x: one seek. Extents never overlap and never reach beyond
 * the file's size. ino 06                 symlink target 0   10                 superblock: next
 * inode number u64 (all below may be in use) 0   11 ino u64         orphan: no link left, or a file
 * without a name; empty value 0   12 ino u64         when it was last read, if that is newer than
 * its inode says: seconds i64, nanoseconds u32 All keys of an inode lie in [ino, ino + 1): one range tombstone
 * removes it wholly.
 */
#ifndef VARVE_FUSE_FS_KEY_H
#define VARVE_FUSE_FS_KEY_H

#include <sys/types.h>
#include <time.h>

#include "engine/base/bytes.h"

#define FS_KEY_SIZE_MAX (9 + 255)
#define FS_INODE_SIZE   128
#define FS_INLINE_MAX   1024
#define FS_ATIME_SIZE   12

enum fs_key_type {
    FS_KEY_INODE = 0x01,
    FS_KEY_XATTR = 0x02,
    FS_KEY_DENTRY = 0x03,
    FS_KEY_COOKIE = 0x04,
    FS_KEY_EXTENT = 0x05,
    FS_KEY_SYMLINK = 0x06,
    FS_KEY_SUPERBLOCK = 0x10,
    FS_KEY_ORPHAN = 0x11,
    FS_KEY_ATIME = 0x12,
};

/* A key under construction. */
struct fs_key {
    uint8_t data[FS_KEY_SIZE_MAX];
    size_t size;
};

/*
 * The inode record; its version is the record's sequence number.
 * From an inode to its name: parent and name_cookie lead to the cookie record. A file with several
 * names remembers the one that was given last, so who follows the hint compares the number there.
 */
struct fs_inode {
    uint32_t mode, uid, gid, nlink;
    uint64_t size_bytes;
    uint64_t allocated_bytes; /* sum of extent lengths */
    struct timespec atime, mtime, ctime, btime;
    uint64_t rdev;
    uint32_t flags;
    uint32_t generation;
    uint64_t parent;      /* the directory of its name: ".." of a directory; of others a hint */
    uint64_t name_cookie; /* of its name there, likewise; 0: not known */
    uint64_t next_cookie; /* of a directory: the next to be given */
    uint64_t entries;     /* of a directory: number of names */
    uint32_t xattrs;      /* number of xattr records: 0 saves the look-up */
    uint32_t project;
};

/* A dentry's value, little-endian: child ino u64, cookie u64, type u32. */
struct fs_dentry {
    uint64_t ino;
    uint64_t cookie;
    uint32_t type; /* S_IFMT bits */
};
#define FS_DENTRY_SIZE 20

/* A cookie record's value, little-endian: child ino u64, type u32, name. */
struct fs_cookie {
    uint64_t ino;
    uint32_t type;
    struct slice name; /* borrowed from what was decoded */
};
#define FS_COOKIE_SIZE_MIN 13
#define FS_COOKIE_SIZE_MAX (12 + 255)

static inline struct slice fs_key_slice(const struct fs_key *key)
{
    return slice_of(key->data, key->size);
}

void fs_key_inode(struct fs_key *key, uint64_t ino);
void fs_key_xattr(struct fs_key *key, uint64_t ino, const char *name);
void fs_key_dentry(struct fs_key *key, uint64_t ino, const char *name);
void fs_key_cookie(struct fs_key *key, uint64_t ino, uint64_t cookie);
void fs_key_extent(struct fs_key *key, uint64_t ino, uint64_t last);
void fs_key_symlink(struct fs_key *key, uint64_t ino);
void fs_key_superblock(struct fs_key *key);
void fs_key_orphan(struct fs_key *key, uint64_t ino);
void fs_key_atime(struct fs_key *key, uint64_t ino);
/* The first key of the inode / of a type of the inode: lower bounds, and upper bounds with + 1. */
void fs_key_start(struct fs_key *key, uint64_t ino);
void fs_key_type_start(struct fs_key *key, uint64_t ino, uint8_t type);

/* Parse the fixed part: false when shorter than nine bytes. *ret_rest is what follows. */
bool fs_key_parse(struct slice key, uint64_t *ret_ino, uint8_t *ret_type, struct slice *ret_rest);

void fs_inode_encode(const struct fs_inode *inode, uint8_t to[FS_INODE_SIZE]);
int fs_inode_decode(struct slice from, struct fs_inode *ret_inode); /* 0 or ERROR_CORRUPT */
void fs_atime_encode(const struct timespec *time, uint8_t to[FS_ATIME_SIZE]);
int fs_atime_decode(struct slice from, struct timespec *ret_time); /* 0 or ERROR_CORRUPT */
void fs_dentry_encode(const struct fs_dentry *dentry, uint8_t to[FS_DENTRY_SIZE]);
int fs_dentry_decode(struct slice from, struct fs_dentry *ret_dentry); /* 0 or ERROR_CORRUPT */
/* Returns the size; the name has 1 to 255 bytes. */
size_t fs_cookie_encode(const struct fs_cookie *cookie, uint8_t to[FS_COOKIE_SIZE_MAX]);
int fs_cookie_decode(struct slice from, struct fs_cookie *ret_cookie); /* 0 or ERROR_CORRUPT */

#endif
