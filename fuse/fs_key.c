/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fs_key.c - encoding and decoding of the filesystem's keys and fixed-size values
 */
#include "fuse/fs_key.h"

#include <assert.h>
#include <sys/stat.h>

#include "engine/base/endian.h"
#include "engine/base/error.h"
#include "engine/base/invariant.h"

#define HEADER_SIZE     9
#define NAME_SIZE_MAX   255
#define NANOSECONDS_MAX 1000000000u

/* Where each field of an inode record begins. */
enum inode_layout {
    INODE_MODE = 0,
    INODE_UID = 4,
    INODE_GID = 8,
    INODE_NLINK = 12,
    INODE_SIZE = 16,
    INODE_ALLOCATED = 24,
    INODE_ATIME = 32,
    INODE_MTIME = 44,
    INODE_CTIME = 56,
    INODE_BTIME = 68,
    INODE_RDEV = 80, /* of a directory: name_cookie */
    INODE_FLAGS = 88,
    INODE_GENERATION = 92,
    INODE_PARENT = 96,
    INODE_NEXT_COOKIE = 104, /* of anything else: name_cookie */
    INODE_ENTRIES = 112,
    INODE_XATTRS = 120,
    INODE_PROJECT = 124,
    INODE_END = 128
};
static_assert(INODE_END == FS_INODE_SIZE, "the layout fills the record");

static void key_header(struct fs_key *key, uint64_t ino, uint8_t type)
{
    put_be64(key->data, ino);
    key->data[8] = type;
    key->size = HEADER_SIZE;
}

static void key_name(struct fs_key *key, const char *name)
{
    size_t size = strlen(name);

    invariant(size <= NAME_SIZE_MAX);
    memcpy(key->data + HEADER_SIZE, name, size);
    key->size = HEADER_SIZE + size;
}

static void key_number(struct fs_key *key, uint64_t number)
{
    put_be64(key->data + HEADER_SIZE, number);
    key->size = HEADER_SIZE + 8;
}

void fs_key_inode(struct fs_key *key, uint64_t ino)
{
    key_header(key, ino, FS_KEY_INODE);
}

void fs_key_xattr(struct fs_key *key, uint64_t ino, const char *name)
{
    key_header(key, ino, FS_KEY_XATTR);
    key_name(key, name);
}

void fs_key_dentry(struct fs_key *key, uint64_t ino, const char *name)
{
    key_header(key, ino, FS_KEY_DENTRY);
    key_name(key, name);
}

void fs_key_cookie(struct fs_key *key, uint64_t ino, uint64_t cookie)
{
    key_header(key, ino, FS_KEY_COOKIE);
    key_number(key, cookie);
}

void fs_key_extent(struct fs_key *key, uint64_t ino, uint64_t last)
{
    key_header(key, ino, FS_KEY_EXTENT);
    key_number(key, last);
}

void fs_key_symlink(struct fs_key *key, uint64_t ino)
{
    key_header(key, ino, FS_KEY_SYMLINK);
}

void fs_key_superblock(struct fs_key *key)
{
    key_header(key, 0, FS_KEY_SUPERBLOCK);
}

void fs_key_orphan(struct fs_key *key, uint64_t ino)
{
    key_header(key, 0, FS_KEY_ORPHAN);
    key_number(key, ino);
}

void fs_key_atime(struct fs_key *key, uint64_t ino)
{
    key_header(key, 0, FS_KEY_ATIME);
    key_number(key, ino);
}

void fs_key_start(struct fs_key *key, uint64_t ino)
{
    put_be64(key->data, ino);
    key->size = 8;
}

void fs_key_type_start(struct fs_key *key, uint64_t ino, uint8_t type)
{
    key_header(key, ino, type);
}

bool fs_key_parse(struct slice key, uint64_t *ret_ino, uint8_t *ret_type, struct slice *ret_rest)
{
    if (key.size < HEADER_SIZE)
        return false;
    *ret_ino = get_be64(key.data);
    *ret_type = key.data[8];
    *ret_rest = slice_of(key.data + HEADER_SIZE, key.size - HEADER_SIZE);
    return true;
}

/* ---- values ---- */

static void put_time(uint8_t *to, const struct timespec *time)
{
    put_le64(to, (uint64_t)time->tv_sec);
    put_le32(to + 8, (uint32_t)time->tv_nsec);
}

static bool get_time(const uint8_t *from, struct timespec *ret_time)
{
    uint32_t nanoseconds = get_le32(from + 8);

    if (nanoseconds >= NANOSECONDS_MAX)
        return false;
    ret_time->tv_sec = (time_t)get_le64(from);
    ret_time->tv_nsec = (long)nanoseconds;
    return true;
}

static bool type_is_valid(uint32_t type)
{
    switch (type) {
    case S_IFREG:
    case S_IFDIR:
    case S_IFLNK:
    case S_IFCHR:
    case S_IFBLK:
    case S_IFIFO:
    case S_IFSOCK:
        return true;
    default:
        return false;
    }
}

/* A directory is no device, and nothing else gives cookies: that leaves one field free in each. */
static enum inode_layout name_cookie_place(uint32_t mode)
{
    return S_ISDIR(mode) ? INODE_RDEV : INODE_NEXT_COOKIE;
}

void fs_inode_encode(const struct fs_inode *inode, uint8_t to[FS_INODE_SIZE])
{
    put_le32(to + INODE_MODE, inode->mode);
    put_le32(to + INODE_UID, inode->uid);
    put_le32(to + INODE_GID, inode->gid);
    put_le32(to + INODE_NLINK, inode->nlink);
    put_le64(to + INODE_SIZE, inode->size_bytes);
    put_le64(to + INODE_ALLOCATED, inode->allocated_bytes);
    put_time(to + INODE_ATIME, &inode->atime);
    put_time(to + INODE_MTIME, &inode->mtime);
    put_time(to + INODE_CTIME, &inode->ctime);
    put_time(to + INODE_BTIME, &inode->btime);
    put_le64(to + INODE_RDEV, inode->rdev);
    put_le32(to + INODE_FLAGS, inode->flags);
    put_le32(to + INODE_GENERATION, inode->generation);
    put_le64(to + INODE_PARENT, inode->parent);
    put_le64(to + INODE_NEXT_COOKIE, inode->next_cookie);
    put_le64(to + name_cookie_place(inode->mode), inode->name_cookie);
    put_le64(to + INODE_ENTRIES, inode->entries);
    put_le32(to + INODE_XATTRS, inode->xattrs);
    put_le32(to + INODE_PROJECT, inode->project);
}

int fs_inode_decode(struct slice from, struct fs_inode *ret_inode)
{
    const uint8_t *data = from.data;
    struct fs_inode inode;

    if (from.size != FS_INODE_SIZE)
        return ERROR_CORRUPT;
    inode.mode = get_le32(data + INODE_MODE);
    inode.uid = get_le32(data + INODE_UID);
    inode.gid = get_le32(data + INODE_GID);
    inode.nlink = get_le32(data + INODE_NLINK);
    inode.size_bytes = get_le64(data + INODE_SIZE);
    inode.allocated_bytes = get_le64(data + INODE_ALLOCATED);
    inode.rdev = get_le64(data + INODE_RDEV);
    inode.flags = get_le32(data + INODE_FLAGS);
    inode.generation = get_le32(data + INODE_GENERATION);
    inode.parent = get_le64(data + INODE_PARENT);
    inode.next_cookie = get_le64(data + INODE_NEXT_COOKIE);
    inode.name_cookie = get_le64(data + name_cookie_place(inode.mode));
    if (S_ISDIR(inode.mode))
        inode.rdev = 0;
    else
        inode.next_cookie = 0;
    inode.entries = get_le64(data + INODE_ENTRIES);
    inode.xattrs = get_le32(data + INODE_XATTRS);
    inode.project = get_le32(data + INODE_PROJECT);

    if (!get_time(data + INODE_ATIME, &inode.atime) ||
        !get_time(data + INODE_MTIME, &inode.mtime) ||
        !get_time(data + INODE_CTIME, &inode.ctime) || !get_time(data + INODE_BTIME, &inode.btime))
        return ERROR_CORRUPT;
    if ((inode.mode & ~(uint32_t)(S_IFMT | 07777)) != 0 || !type_is_valid(inode.mode & S_IFMT) ||
        inode.size_bytes > INT64_MAX || inode.allocated_bytes > INT64_MAX ||
        inode.next_cookie > INT64_MAX || inode.name_cookie > INT64_MAX)
        return ERROR_CORRUPT;
    *ret_inode = inode;
    return 0;
}

void fs_atime_encode(const struct timespec *time, uint8_t to[FS_ATIME_SIZE])
{
    put_time(to, time);
}

int fs_atime_decode(struct slice from, struct timespec *ret_time)
{
    return from.size == FS_ATIME_SIZE && get_time(from.data, ret_time) ? 0 : ERROR_CORRUPT;
}

void fs_dentry_encode(const struct fs_dentry *dentry, uint8_t to[FS_DENTRY_SIZE])
{
    put_le64(to, dentry->ino);
    put_le64(to + 8, dentry->cookie);
    put_le32(to + 16, dentry->type);
}

int fs_dentry_decode(struct slice from, struct fs_dentry *ret_dentry)
{
    struct fs_dentry dentry;

    if (from.size != FS_DENTRY_SIZE)
        return ERROR_CORRUPT;
    dentry.ino = get_le64(from.data);
    dentry.cookie = get_le64(from.data + 8);
    dentry.type = get_le32(from.data + 16);
    if (dentry.ino == 0 || dentry.cookie > INT64_MAX || !type_is_valid(dentry.type))
        return ERROR_CORRUPT;
    *ret_dentry = dentry;
    return 0;
}

size_t fs_cookie_encode(const struct fs_cookie *cookie, uint8_t to[FS_COOKIE_SIZE_MAX])
{
    invariant(cookie->name.size >= 1 && cookie->name.size <= NAME_SIZE_MAX);
    put_le64(to, cookie->ino);
    put_le32(to + 8, cookie->type);
    memcpy(to + 12, cookie->name.data, cookie->name.size);
    return 12 + cookie->name.size;
}

int fs_cookie_decode(struct slice from, struct fs_cookie *ret_cookie)
{
    struct fs_cookie cookie;

    if (from.size < FS_COOKIE_SIZE_MIN || from.size > FS_COOKIE_SIZE_MAX)
        return ERROR_CORRUPT;
    cookie.ino = get_le64(from.data);
    cookie.type = get_le32(from.data + 8);
    cookie.name = slice_of(from.data + 12, from.size - 12);
    if (cookie.ino == 0 || !type_is_valid(cookie.type))
        return ERROR_CORRUPT;
    *ret_cookie = cookie;
    return 0;
}
