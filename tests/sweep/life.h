/* SPDX-License-Identifier: Apache-2.0 */
/*
 * life.h - a filesystem while calls fail, and what must be there of it afterwards
 *
 * After each step the digest of the tree is noted, by a thread whose own calls do not fail: what is
 * acknowledged can be read whatever else failed (P4, P6). A step that failed has changed nothing
 * (P3), unless it is made of several requests. What is opened again shows the tree as it was after
 * some step, none before the last sync or snapshot that returned 0 (P1, P2); snapshots that were
 * acknowledged are there and exact, deleted ones are not (P5), and fsck finds nothing.
 */
#ifndef VARVE_TESTS_SWEEP_LIFE_H
#define VARVE_TESTS_SWEEP_LIFE_H

#include "fuse/fs.h"

#define LIFE_STATES_MAX    512
#define LIFE_SNAPSHOTS_MAX 16
#define LIFE_HELD_MAX      1024

enum life_snapshot_state { LIFE_KEPT, LIFE_UNSURE, LIFE_GONE };

struct life_snapshot {
    char name[SNAPSHOT_NAME_SIZE_MAX + 1];
    uint64_t digest;
    enum life_snapshot_state state;
};

struct life {
    const char *path;
    struct io *io;
    struct engine *engine;
    struct fs *fs;
    uint64_t states[LIFE_STATES_MAX];
    size_t count, durable; /* states[durable] is the first that a crash may leave */
    struct life_snapshot snapshots[LIFE_SNAPSHOTS_MAX];
    size_t snapshot_count;
    uint64_t held[LIFE_HELD_MAX]; /* looked up by the present step */
    size_t held_count;
    bool is_large; /* large memtables and tables, and io_uring */
};

struct life_step {
    const char *name;
    int (*run)(struct life *life);
    bool in_parts; /* several requests, each by itself whole, with life_note() after each */
};

/* Make a store and open it; nothing fails. */
void life_begin(struct life *life, const char *path);
void life_begin_large(struct life *life, const char *path);
/* Open; an error leaves everything closed. */
int life_open(struct life *life, const char *path);
/* On a disk that is made another one first. */
int life_open_on(struct life *life, const char *path, void (*change)(struct io *io));
/* No chunk is sealed any more, so that no flush ends: what it would have done does not depend on when
 * the power goes. Until the next opening. */
void life_hold_flushes_up(void);
/* The same, by a disk that does not answer until they are let go. */
void life_stall_flushes(void);
void life_let_flushes_go(void);
/* Errors of closing are the caller's to judge. */
int life_close(struct life *life);

/* A step, and its check. Returns what it returned. */
int life_take(struct life *life, const struct life_step *step);
void life_note(struct life *life);         /* the tree as it is now */
void life_note_durable(struct life *life); /* the present state */
void life_note_snapshot(struct life *life, const char *name, enum life_snapshot_state state);

/* Nothing fails any more: what is not latched works again, within some seconds. */
void life_recover(struct life *life);
/* Open what `life` left (closed) and compare; goes on to work in it. */
void life_check(const struct life *life);

/* A path of names below the root; what is looked up is held until life_let_go(), which a step ends
 * with. */
int life_find(struct life *life, const char *path, uint64_t *ret_node);
void life_let_go(struct life *life);
/* `size` bytes that a number stands for. */
void life_fill(uint8_t *data, size_t size, unsigned number);

/* A small tree with large, small and sparse files, links, snapshots "one" and "two". */
void life_populate(struct life *life);

extern const struct fs_caller life_root;

#endif
