/* SPDX-License-Identifier: Apache-2.0 */
/*
 * inode_table.h - which nodes the kernel holds, how often it looked them up, what is open
 *
 * Owns:    one compact entry (at most 32 bytes) a node: lookup count, open counts, for a snapshot
 * file where it was found. Memory: open addressing, at most 64 bytes a node the kernel holds; the
 *          table shrinks when nodes go.
 * Threads: any; sharded, each shard a lock (LOCK_RANK_FS_TABLE); nothing is called under it.
 */
#ifndef VARVE_FUSE_INODE_TABLE_H
#define VARVE_FUSE_INODE_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct inode_table;

struct inode_table *inode_table_new(void); /* NULL: out of memory */
void inode_table_free(struct inode_table *table);

/* Count a lookup. For a node in a snapshot, ino and snapshot_id say where its records are (0, 0 for
 * others; the newest found replaces the older, but one whose two upper bits are set is in one place
 * only). 0, -ENOMEM, or -ESTALE: it is held and in another place. */
int inode_table_lookup(struct inode_table *table, uint64_t node, uint64_t ino,
                       uint64_t snapshot_id);

/* Take `lookups` back (capped at what is counted). True when the node was marked as an orphan and
 * neither lookups nor opens are left: the caller reaps it. */
bool inode_table_forget(struct inode_table *table, uint64_t node, uint64_t lookups);

/* Where a snapshot file was found. False: the node is not held. */
bool inode_table_find(struct inode_table *table, uint64_t node, uint64_t *ret_ino,
                      uint64_t *ret_snapshot_id);

/* Mark as orphan (its last link went). True when nothing holds the node: the caller reaps it at
 * once. */
bool inode_table_mark_orphan(struct inode_table *table, uint64_t node);
void inode_table_unmark_orphan(struct inode_table *table, uint64_t node);

/* Open and release handles; release returns true when the caller has to reap (as forget). 1 when it is
 * the first opening since the node is held, 0 else, or -ENOMEM. */
int inode_table_open(struct inode_table *table, uint64_t node, bool writable);
bool inode_table_release(struct inode_table *table, uint64_t node, bool writable);

/* Copy the nodes that are open for writing (live ones): returns the count, at most `room` are
 * stored. */
size_t inode_table_writable(struct inode_table *table, uint64_t *nodes, size_t room);

/* How many held nodes were last found in the snapshot; ids that differ by a multiple of 4096 are
 * counted together, so it may say too many but never too few. */
uint32_t inode_table_held(struct inode_table *table, uint64_t snapshot_id);

/* Call back for each held node with (node & mask) == value, outside the locks. */
void inode_table_each(struct inode_table *table, uint64_t mask, uint64_t value,
                      void (*callback)(void *, uint64_t node), void *context);

/* Call back for each held snapshot file node (bit 63 set, bit 62 not), outside the locks. */
void inode_table_each_version(struct inode_table *table, void (*callback)(void *, uint64_t node),
                              void *context);

struct inode_table_counts {
    uint64_t nodes, open_files, open_writable, orphans, memory_bytes;
};
void inode_table_get_counts(struct inode_table *table, struct inode_table_counts *ret);

#endif
