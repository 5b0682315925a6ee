/* SPDX-License-Identifier: Apache-2.0 */
/*
 * disk_model_internal.h - what disk_model.c, disk_calls.c, disk_names.c and disk_cut.c share
 *
 * An inode has what the cache shows and what the disk has; between the two lies a list of changes
 * in their order. A sync applies the list to what the disk has and empties it; a cut applies a part
 * of it. Inodes are found by index in the disk's table and live as long as any name, durable,
 * cached or pending, or a handle leads to them.
 */
#ifndef VARVE_TESTS_LIB_DISK_MODEL_INTERNAL_H
#define VARVE_TESTS_LIB_DISK_MODEL_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "tests/lib/disk_content.h"
#include "tests/lib/disk_model.h"

#define DISK_SECTOR_SIZE 512
#define DISK_NOTHING     SIZE_MAX /* no inode */

enum disk_change_kind { DISK_CHANGE_WRITE, DISK_CHANGE_RESIZE };

/* A change of data or size; shared by copies of the disk. */
struct disk_change {
    atomic_uint references;
    enum disk_change_kind kind;
    uint64_t number; /* order on the whole disk */
    uint64_t offset; /* or the new size */
    size_t size;
    uint8_t data[];
};

struct disk_name {
    char *text;
    size_t inode;
    uint64_t linked; /* when link() made it; 0: the file was made with it */
};

/* A directory: its names. */
struct disk_names {
    struct disk_name *names;
    size_t count, room;
};

/* A name that is to lead to `inode`, or to DISK_NOTHING. */
struct disk_half {
    char *text;
    size_t inode;
    uint64_t linked;
    uint64_t number;
    uint64_t group;  /* the two ends of a rename have the same */
    bool is_arrival; /* the end of a rename that gives the new name */
};

struct disk_inode {
    bool is_used;
    bool is_directory;
    bool was_synced;   /* the disk knows that it is there */
    bool is_destroyed; /* the link count reached zero while there were names */
    bool is_locked;
    unsigned handles;
    mode_t mode, durable_mode;
    unsigned links;
    int deficit; /* so many more names than links, since a cut */
    int halved;  /* in a cut: so many names are missing, or there twice, by half a rename */
    uint64_t links_synced; /* the disk has the count of links made before */
    char label[96];

    struct disk_content content, durable;
    struct disk_change **changes;
    size_t change_count, change_room;

    struct disk_names names, durable_names;
    struct disk_half *halves;
    size_t half_count, half_room;
};

#define DISK_CALL_KINDS 17

struct disk_model {
    struct io io;
    pthread_mutex_t lock;
    char *base;
    struct disk_model_options options;
    struct disk_inode **inodes; /* [0] is the root */
    size_t inode_count, inode_room;
    uint64_t next_number;
    unsigned removals; /* since inodes were last collected */

    uint64_t counts[DISK_CALL_KINDS];
    disk_model_observer *observer;
    void *observer_context;
    disk_model_site_observer *site_observer;
    void *site_context;
    uint64_t skipped_site;

    struct disk_model *next; /* the list of all */
};

struct io_file {
    struct disk_inode *inode;
    size_t index;
    int flags;
    bool is_locker;
};

void *disk_must(void *memory);

/* ---- disk_names.c ---- */

size_t disk_names_find(const struct disk_names *names, const char *text);
/* When the name was linked. */
uint64_t disk_names_linked(const struct disk_names *names, const char *text);
/* Bind or, with DISK_NOTHING, unbind. */
void disk_names_set(struct disk_names *names, const char *text, size_t inode, uint64_t linked);
void disk_names_copy(const struct disk_names *from, struct disk_names *to);
void disk_names_free(struct disk_names *names);

struct disk_inode *disk_inode_new(struct disk_model *disk, bool is_directory, mode_t mode,
                                  const char *label, size_t *ret_index);
void disk_inode_free(struct disk_inode *inode);
/* A cached change of a name, pending for the disk. */
void disk_directory_set(struct disk_model *disk, struct disk_inode *directory, const char *text,
                        size_t inode, uint64_t linked, uint64_t group);
void disk_inode_change(struct disk_model *disk, struct disk_inode *inode,
                       enum disk_change_kind kind, const void *data, size_t size, uint64_t offset);
void disk_change_unref(struct disk_change *change);
/* The list of changes is of no use any more. */
void disk_inode_drop_changes(struct disk_inode *inode);
/* The whole content, on the disk at once. */
void disk_inode_set_durable(struct disk_inode *inode, const void *data, size_t size);
/* The disk has it now. */
void disk_inode_make_durable(struct disk_model *disk, struct disk_inode *inode, bool data_only);
/* Free inodes that nothing leads to. */
void disk_collect(struct disk_model *disk);

/* ---- disk_calls.c ---- */

extern const struct io_ops disk_ops;
/* Print every changing call: set from the environment (VARVE_DISK_TRACE). */
extern bool disk_trace;

/* Begin a call: the disk is locked until disk_leave(), which gives `result` back. */
void disk_enter(struct disk_model *disk, enum disk_call call, const char *label);
int disk_leave(struct disk_model *disk, int result);

/* ---- disk_model.c ---- */

/* Give a disk its backend, its lock and its place in the list of all. */
void disk_model_enlist(struct disk_model *disk);

#endif
