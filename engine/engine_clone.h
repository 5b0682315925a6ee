/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine_clone.h - a writable store made of a checkpoint
 *
 * The new store has a UUID of its own and hard links to the checkpoint's chunks, which are immutable
 * and outlive either: nothing is copied and neither can alter the other. Its log is empty, its
 * sequence numbers go on where the checkpoint's end, and its chunk ids above the checkpoint's. It
 * has no checkpoints yet.
 *
 * A failure leaves nothing behind; a crash leaves a directory without FORMAT, which is no store.
 * Threads: any, each with paths of its own. Not while an engine of this process has either open.
 */
#ifndef VARVE_ENGINE_ENGINE_CLONE_H
#define VARVE_ENGINE_ENGINE_CLONE_H

#include <stdbool.h>

#include "engine/store.h"

/* Bytes done of those to do; a non-zero return cancels with -EINTR. */
typedef int engine_progress_callback(void *context, uint64_t done, uint64_t total);

struct engine_clone_options {
    struct io *io;
    const char *checkpoint; /* its directory, in a store or wherever it was copied to */
    const char *path;       /* of the new store: missing or empty */
    bool copy;              /* copy the chunks (sharing blocks where the file system can) */
    bool dry_run;           /* look at the checkpoint, make nothing */
    engine_progress_callback *progress; /* may be NULL */
    void *context;
};

struct engine_clone_result {
    uint8_t origin_uuid[STORE_UUID_SIZE];
    uint64_t sequence;
    uint64_t linked_files, linked_bytes; /* with dry_run: what there is to link or copy */
    uint64_t copied_files, copied_bytes; /* also those with too many links */
};

/*
 * -EXDEV: links cannot reach there, and `copy` was not asked for; -EISDIR: it is a live store and
 * no checkpoint; -ENOTEMPTY; -EINTR; ERROR_MISSING_CHUNK, ERROR_TRUNCATED (logged with the chunk's
 * name); what opening the checkpoint or making the store gives.
 */
int engine_clone(const struct engine_clone_options *options,
                 struct engine_clone_result *ret_result);

#endif
