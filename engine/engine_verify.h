/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine_verify.h - read every byte of chunks and compare it with what the manifests say
 *
 * Works on the files of a store, beside whoever has it open: chunks are immutable. First it is told
 * what there must be - chunks of the live tree one by one, checkpoints by directory, whose sealed
 * manifests it reads and checks - then it reads each file once, however many directories link it.
 * Header, content hash and trailer of a chunk are compared with each other and with the manifest.
 *
 * Threads: a verifier belongs to one thread.
 */
#ifndef VARVE_ENGINE_ENGINE_VERIFY_H
#define VARVE_ENGINE_ENGINE_VERIFY_H

#include "engine/chunk_format.h"
#include "engine/engine_clone.h"

struct verify;

/* `path` is a store's, or a checkpoint directory's. What opening a directory and reading FORMAT
 * gives: -ENOENT, ERROR_NOT_STORE, ERROR_CORRUPT ... */
int verify_open(struct io *io, const char *path, struct verify **ret_verify);
void verify_close(struct verify *verify); /* accepts NULL */
/* Is it a checkpoint directory, or a live store? */
bool verify_is_checkpoint(const struct verify *verify);

/* A chunk of the live tree. 0 or -ENOMEM. */
int verify_add_live(struct verify *verify, const struct chunk_identity *identity);
/* All chunks of checkpoints/<name> (NULL: of the checkpoint directory itself). The errors of
 * sealed_manifest_read(): nothing is added then. */
int verify_add_checkpoint(struct verify *verify, const char *name);

struct verify_finding {
    const char *chunk;        /* file name */
    int error;                /* ERROR_MISSING_CHUNK, ERROR_CORRUPT, -EIO ... */
    const char *const *users; /* checkpoint names; NULL is the live tree (or the directory itself) */
    size_t user_count;
};
/* A non-zero return ends the run with it. */
typedef int verify_report_callback(void *context, const struct verify_finding *finding);

struct verify_result {
    uint64_t files, bytes; /* read and right, each once */
    uint64_t damaged;      /* findings */
};

/* -EINTR: the progress callback (may be NULL) said so; -ENOMEM. Damage is no error here. */
int verify_run(struct verify *verify, engine_progress_callback *progress,
               verify_report_callback *report, void *context, struct verify_result *ret_result);

/* One chunk: 0; ERROR_MISSING_CHUNK, ERROR_TRUNCATED, ERROR_CORRUPT, ERROR_FOREIGN (when
 * `store_uuid` is not NULL), or an I/O error. */
int verify_chunk(struct io *io, struct io_file *directory, const struct chunk_identity *identity,
                 const uint8_t *store_uuid);

#endif
