/* SPDX-License-Identifier: Apache-2.0 */
/*
 * reference.h - the filesystem as it should be: a few arrays in memory
 *
 * An inode is one object; a snapshot holds references to the objects of its moment, and a change of
 * one that is held by a snapshot is made to a copy. So two snapshots hold the same object exactly
 * when nothing of the inode has changed between them. Data is one byte for each byte, and one for
 * whether it is mapped.
 */
#ifndef VARVE_TESTS_MODEL_REFERENCE_H
#define VARVE_TESTS_MODEL_REFERENCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#define REFERENCE_INODES    256
#define REFERENCE_NAMES     48
#define REFERENCE_XATTRS    6
#define REFERENCE_SIZE_MAX  (768 * 1024)
#define REFERENCE_SNAPSHOTS 6
#define REFERENCE_ROOT      0

struct reference_name {
    char *name;
    unsigned index;
};

struct reference_xattr {
    char *name;
    uint8_t *value;
    size_t size;
};

struct reference_inode {
    unsigned references;
    uint64_t node; /* of the live inode */
    mode_t mode;
    uid_t uid;
    gid_t gid;
    uint32_t nlink;
    dev_t rdev;
    struct timespec atime, mtime, ctime, btime;
    struct reference_xattr xattrs[REFERENCE_XATTRS];
    unsigned xattr_count;
    /* regular file */
    size_t size;
    uint8_t *bytes, *mapped;
    /* symbolic link */
    char *target;
    /* directory */
    unsigned parent;
    struct reference_name names[REFERENCE_NAMES];
    unsigned name_count;
};

/* One state: NULL where there is no such inode. */
struct reference_state {
    struct reference_inode *inodes[REFERENCE_INODES];
};

struct reference_snapshot {
    char *name;
    struct reference_state state;
};

struct reference {
    struct reference_state live;
    struct reference_snapshot snapshots[REFERENCE_SNAPSHOTS];
    unsigned snapshot_count;
};

struct reference_inode *reference_inode_ref(struct reference_inode *inode);
void reference_inode_unref(struct reference_inode *inode);

void reference_free(struct reference *reference);

/* The live inode, to be changed. */
struct reference_inode *reference_edit(struct reference *reference, unsigned index);
/* A new inode without names: its index, or REFERENCE_INODES when there is no room. */
unsigned reference_new(struct reference *reference, mode_t mode);
/* Forget an inode that nobody holds. */
void reference_drop(struct reference *reference, unsigned index);

/* ---- directories (of any state) ---- */

/* The position of a name, or -1. */
int reference_find(const struct reference_inode *directory, const char *name);
void reference_add_name(struct reference *reference, unsigned directory, const char *name,
                        unsigned index);
void reference_remove_name(struct reference *reference, unsigned directory, const char *name);
unsigned reference_directories_in(const struct reference_state *state,
                                  const struct reference_inode *directory);
/* Is `index` the directory `under` or below it? */
bool reference_within(const struct reference_state *state, unsigned index, unsigned under);
/* A name of the inode: false when it has none. */
bool reference_locate(const struct reference_state *state, unsigned index, unsigned *ret_directory,
                      const char **ret_name);

/* ---- data: `inode` comes from reference_edit() ---- */

void reference_write(struct reference_inode *inode, const uint8_t *data, size_t size,
                     size_t offset);
void reference_punch(struct reference_inode *inode, size_t start, size_t end);
void reference_resize(struct reference_inode *inode, size_t size);
void reference_copy(const struct reference_inode *from, size_t from_offset,
                    struct reference_inode *to, size_t to_offset, size_t size);
size_t reference_mapped(const struct reference_inode *inode);

/* ---- xattrs ---- */

int reference_find_xattr(const struct reference_inode *inode, const char *name);
void reference_set_xattr(struct reference_inode *inode, const char *name, const uint8_t *value,
                         size_t size);
void reference_remove_xattr(struct reference_inode *inode, const char *name);

/* ---- snapshots ---- */

void reference_snapshot_create(struct reference *reference, const char *name);
int reference_snapshot_find(const struct reference *reference, const char *name);
void reference_snapshot_delete(struct reference *reference, unsigned position);
/* How many snapshots hold this object. */
unsigned reference_snapshot_holders(const struct reference *reference,
                                    const struct reference_inode *inode, unsigned index);

#endif
