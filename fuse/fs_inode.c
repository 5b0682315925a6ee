/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fs_inode.c - inode records: load, put, number, describe
 */
#include <errno.h>
#include <inttypes.h>

#include "engine/base/endian.h"
#include "engine/base/invariant.h"
#include "fuse/fs_atime.h"

/* Numbers taken from the superblock at a time: what a crash loses, and what one sync pays for. */
#define RESERVATION 65536
/* A directory's first run, and what doubling it at each refill ends at. */
#define RUN_LENGTH_MIN 8
#define RUN_LENGTH_MAX 256

struct timespec fs_now(void)
{
    struct timespec now;

    invariant(clock_gettime(CLOCK_REALTIME, &now) == 0);
    return now;
}

int fs_inode_load(struct engine_view *view, uint64_t ino, struct fs_inode *ret_inode,
                  uint64_t *ret_version)
{
    struct fs_scratch *scratch = fs_scratch_get();
    struct record record;
    struct fs_key key;
    int found;

    if (scratch == NULL)
        return -ENOMEM;
    fs_key_inode(&key, ino);
    found = engine_view_get(view, fs_key_slice(&key), &scratch->record, &record);
    if (found <= 0)
        return found == 0 ? -ENOENT : found;
    found = fs_inode_decode(record.value, ret_inode);
    if (found < 0) {
        log_error("inode %" PRIu64 ": its record is damaged", ino);
        return found;
    }
    if (ret_version != NULL)
        *ret_version = record.sequence;
    return 0;
}

void fs_inode_put(struct batch *batch, uint64_t ino, const struct fs_inode *inode)
{
    uint8_t value[FS_INODE_SIZE];
    struct fs_key key;

    fs_key_inode(&key, ino);
    fs_inode_encode(inode, value);
    batch_put(batch, fs_key_slice(&key), slice_of(value, sizeof value));
}

/* ---- numbers ---- */

/*
 * Make [next_ino, next_ino + length) usable. The mark is durable before a number below it is handed
 * out: a number that was seen by anyone, if only in a reply that no sync followed, never comes back
 * as another file after a crash.
 */
static int reserve(struct fs *fs, uint32_t length)
{
    struct batch batch = {0};
    uint8_t value[8];
    uint64_t reserved, sequence;
    struct fs_key key;
    int error;

    if (fs->next_ino + length <= fs->reserved_ino)
        return 0;
    if (fs->next_ino + length > FS_INO_MAX + 1)
        return -ENOSPC;
    reserved = fs->next_ino + RESERVATION;
    if (reserved > FS_INO_MAX + 1)
        reserved = FS_INO_MAX + 1;

    fs_key_superblock(&key);
    put_le64(value, reserved);
    batch_put(&batch, fs_key_slice(&key), slice_of(value, sizeof value));
    error = engine_write(fs->engine, &batch, &sequence);
    batch_free(&batch);
    if (error == 0)
        error = engine_sync(fs->engine, sequence);
    if (error == 0)
        fs->reserved_ino = reserved;
    return error;
}

static struct fs_ino_run *run_of(struct fs *fs, uint64_t directory)
{
    /* Fibonacci hashing; directories made together have neighbouring numbers. */
    uint64_t hash = directory * UINT64_C(0x9E3779B97F4A7C15);

    return &fs->runs[(hash >> 32) % FS_INO_RUNS];
}

static int refill(struct fs *fs, struct fs_ino_run *run, uint64_t directory)
{
    uint32_t length = RUN_LENGTH_MIN;
    int error;

    if (run->directory == directory && run->length < RUN_LENGTH_MAX)
        length = 2 * run->length;
    else if (run->directory == directory)
        length = RUN_LENGTH_MAX;
    error = reserve(fs, length);
    if (error < 0)
        return error;
    *run = (struct fs_ino_run){
        .directory = directory,
        .next = fs->next_ino,
        .end = fs->next_ino + length,
        .length = length,
    };
    fs->next_ino += length;
    return 0;
}

int fs_inode_allocate(struct fs *fs, uint64_t parent, uint64_t *ret_ino)
{
    struct fs_ino_run *run = run_of(fs, parent);
    int error = 0;

    lock_acquire(&fs->ino_lock);
    /* What another directory with the same slot has not used of its run is given up. */
    if (run->directory != parent || run->next == run->end)
        error = refill(fs, run, parent);
    if (error == 0)
        *ret_ino = run->next++;
    lock_release(&fs->ino_lock);
    return error;
}

/* ---- attributes ---- */

/* One name in each snapshot that holds this version, times the names that it has there. */
static int count_links(struct fs *fs, uint64_t ino, const struct fs_inode *inode, uint64_t version,
                       uint32_t *ret_nlink)
{
    uint64_t snapshots, oldest;
    struct fs_key key;
    int error;

    fs_key_inode(&key, ino);
    error = snapshot_run(fs->snapshots, fs_key_slice(&key), version, &snapshots, &oldest);
    if (error < 0)
        return error;
    /* None when the last of them was deleted while the kernel still holds the node. */
    if (snapshots == 0)
        snapshots = 1;
    if (snapshots > UINT32_MAX || inode->nlink * snapshots > UINT32_MAX)
        *ret_nlink = UINT32_MAX;
    else
        *ret_nlink = (uint32_t)(inode->nlink * snapshots);
    return 0;
}

/* What a name costs a directory on other file systems, for who counts with du. */
#define NAME_BYTES 40

/*
 * In whole blocks, as every program knows it from file systems that allocate blocks: du of a tree
 * here is du of its copy elsewhere. What the store takes is another matter, told by statfs and by
 * "varve snapshot list".
 */
static uint64_t blocks_512(const struct fs_inode *inode)
{
    uint64_t bytes = inode->allocated_bytes, blocks;

    if (S_ISDIR(inode->mode))
        bytes = (inode->entries + 2) * NAME_BYTES;
    blocks = (bytes + FS_BLOCK_SIZE - 1) / FS_BLOCK_SIZE;
    return blocks * (FS_BLOCK_SIZE / 512);
}

int fs_inode_attribute(struct fs *fs, const struct fs_location *location, uint64_t ino,
                       const struct fs_inode *inode, uint64_t version, struct fs_entry *ret_entry)
{
    bool shared = location->snapshot != NULL && !S_ISDIR(inode->mode) && fs->options.snaplinks;
    uint64_t number = fs_location_number(fs, location, ino, inode->mode, version), node = number;
    uint32_t nlink = inode->nlink;

    if (location->past != 0 && ino == location->ino)
        node = location->past;
    else if (location->past != 0 && S_ISDIR(inode->mode))
        node = fs_node_past(fs, location->past, snapshot_id(location->snapshot), ino);
    if (shared) {
        int error = count_links(fs, ino, inode, version, &nlink);

        if (error < 0)
            return error;
    }
    *ret_entry = (struct fs_entry){
        .attribute =
            {
                .node = node,
                .number = number,
                .generation = inode->generation,
                .mode = inode->mode,
                .nlink = nlink,
                .uid = inode->uid,
                .gid = inode->gid,
                .rdev = inode->rdev,
                .size_bytes = S_ISDIR(inode->mode) ? inode->entries : inode->size_bytes,
                .blocks_512 = blocks_512(inode),
                .atime = inode->atime,
                .mtime = inode->mtime,
                .ctime = inode->ctime,
                .btime = inode->btime,
                .flags = inode->flags,
                .project = inode->project,
            },
        .stable = !shared,
    };
    if (location->snapshot == NULL)
        fs_atime_get(fs, ino, &ret_entry->attribute.atime);
    return 0;
}
