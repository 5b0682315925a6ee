/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fs_check_internal.h - what the files of fs_check() share; nobody else includes it
 *
 * One walk over the view in key order (fs_check.c) checks each inode by itself and leaves a compact
 * line for each inode and each name; fs_check_tree.c then checks them against each other.
 * Memory: 32 bytes an inode and 16 a name (twice that while an array grows).
 */
#ifndef VARVE_FUSE_FS_CHECK_INTERNAL_H
#define VARVE_FUSE_FS_CHECK_INTERNAL_H

#include "fuse/fs_data.h"

/* An inode number and the type bits of a mode (12 to 15), in one word. */
#define CHECK_TYPE_SHIFT 48

static inline uint64_t check_pack(uint64_t ino, uint32_t mode)
{
    return ino | (uint64_t)(mode & S_IFMT) << CHECK_TYPE_SHIFT;
}

static inline uint64_t check_ino(uint64_t packed)
{
    return packed & FS_INO_MAX;
}

static inline uint32_t check_type(uint64_t packed)
{
    return (uint32_t)(packed >> CHECK_TYPE_SHIFT);
}

struct check_node {
    uint64_t packed;      /* inode number and type; the array is in their order */
    uint64_t parent;      /* of a directory */
    uint32_t nlink;       /* as the inode says */
    uint32_t names;       /* dentries found */
    uint32_t directories; /* of a directory: names in it that are directories */
    uint32_t state;       /* fs_check_tree.c */
};

struct check_name {
    uint64_t child;  /* packed, with the type that the dentry says */
    uint64_t parent; /* inode number */
};

struct check_array {
    void *items;
    size_t count, room;
};
/* Room for one more item: its address, or NULL when out of memory. */
void *check_array_add(struct check_array *array, size_t item_size);

#define CHECK_FRAMES 8

/* Frames to be read and verified together. */
struct check_frames {
    uint8_t *bytes; /* CHECK_FRAMES frames */
    struct blob_ref refs[CHECK_FRAMES];
    uint64_t inos[CHECK_FRAMES], starts[CHECK_FRAMES];
    unsigned count;
};

struct check {
    struct engine_view *view;
    fs_check_report *report;
    void *context;
    uint64_t findings;
    struct check_array nodes, names;    /* check_node, check_name */
    struct check_array orphans, atimes; /* u64: whose records these are */
    uint64_t next_ino;                  /* of the superblock; 0: not seen */
    struct check_frames *frames;        /* NULL: no verification */
    const uint64_t *chunk_ids;          /* only of these; NULL: of all */
    size_t chunk_count;
    uint64_t unreadable; /* pieces of file data */
};

/* Report a finding. */
void check_find(struct check *check, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Find which dentries and cookies of a directory do not match (fs_check_directory.c). */
int check_twins(struct check *check, uint64_t directory);
/* A hash of one entry: a directory's dentries and cookies match when the sums of theirs do. */
uint64_t check_entry_hash(uint64_t ino, uint64_t cookie, uint32_t type, struct slice name);

/* Add a frame to be verified; verify what is left (fs_check_frames.c). */
int check_frames_add(struct check *check, uint64_t ino, const struct fs_extent *extent);
int check_frames_flush(struct check *check);

/* So many pieces of file data that cannot be read are named; the rest is counted. */
#define CHECK_UNREADABLE_MAX 100
#define CHECK_PATH_SIZE      4096
/* A path that takes more, with those of the directories above it, is not told. */
#define CHECK_PATHS_BYTES_MAX ((size_t)64 << 20)
/* The path of an inode, from the root of the view, or that it is not known; one line
 * (fs_check_path.c). */
void check_describe(struct check *check, uint64_t ino, char to[CHECK_PATH_SIZE]);

/* Check names against inodes, link counts, reachability, orphans (fs_check_tree.c). */
void check_tree(struct check *check);

#endif
