/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rot_store.h - the store that is damaged: snapshots, shared and own data, inline and compressed data,
 * and a log that is still to be replayed
 */
#ifndef VARVE_TESTS_ROT_ROT_STORE_H
#define VARVE_TESTS_ROT_ROT_STORE_H

#include "engine/engine.h"
#include "fuse/fs.h"
#include "tests/rot/rot_image.h"

struct rot_store {
    struct io *io;
    uint64_t seed;
    bool is_large;
    struct rot_image image; /* when the power goes */
    struct rot_image older; /* of an hour before */
};

/* Made in `path`, which is not there yet; aborts on trouble. */
void rot_store_make(struct rot_store *store, const char *path);

/* 0 or the error of whichever did not open; nothing is open then. */
int rot_store_open(const struct rot_store *store, const char *path, struct engine **ret_engine,
                   struct fs **ret_fs);

/* Where the frames of file data are that somebody refers to. */
struct rot_frame {
    uint64_t chunk_id, position, size;
    uint32_t trees; /* of the live tree and the snapshots: how many refer to it */
};
struct rot_frames {
    struct rot_frame *frames; /* by chunk and position */
    size_t count, capacity;
};

/* Of a store that is open and has not been damaged. */
void rot_frames_read(struct rot_frames *frames, struct engine *engine);
/* The one with that byte, or NULL. */
const struct rot_frame *rot_frames_find(const struct rot_frames *frames, uint64_t chunk_id,
                                        uint64_t position);

#endif
