/* SPDX-License-Identifier: Apache-2.0 */
/*
 * error.h - error values
 *
 * A function that can fail returns 0 (or a count) or a negative value: a negative errno, or one of
 * the private codes below. A private code has an errno parent, which is what leaves the process
 * through FUSE. Outputs named ret_* are untouched on failure.
 * Each error is logged once, by the layer that can name the file, snapshot or chunk.
 */
#ifndef VARVE_ENGINE_BASE_ERROR_H
#define VARVE_ENGINE_BASE_ERROR_H

#include <errno.h>
#include <stdbool.h>

/* Name, distance from ERROR_BASE, errno parent, words. The list is the single source. */
#define ERROR_LIST(X)                                                                              \
    X(ERROR_CORRUPT, 1, EIO, "checksum or structure does not match")                               \
    X(ERROR_TRUNCATED, 2, EIO, "file ends too early")                                              \
    X(ERROR_NOT_STORE, 3, EINVAL, "not a Varve store")                                             \
    X(ERROR_VERSION_NEWER, 4, EPROTONOSUPPORT, "format is newer than this program")                \
    X(ERROR_VERSION_OLDER, 5, EPROTONOSUPPORT, "format is too old for this program")               \
    X(ERROR_FOREIGN, 6, EIO, "file belongs to another store")                                      \
    X(ERROR_MISSING_CHUNK, 7, EIO, "a chunk the manifest names is missing")                        \
    X(ERROR_LOCKED, 8, EBUSY, "store is in use by another process")                                \
    X(ERROR_LATCHED, 9, EROFS, "store is read-only after an earlier write failure")                \
    X(ERROR_RESIDENCY, 10, EIO, "chunk has an unknown residency")                                  \
    X(ERROR_MAP_FULL, 11, ENOSPC, "manifest map is full")                                          \
    X(ERROR_POISONED, 12, EIO, "manifest is unusable after a failed commit")                       \
    X(ERROR_HELD, 13, EBUSY, "snapshot is held")                                                   \
    X(ERROR_UNALIGNED, 14, EINVAL, "direct I/O is not aligned")                                    \
    X(ERROR_REPLACED, 15, ESTALE, "store directory was replaced")

#define ERROR_BASE 4096

enum error_code {
#define ERROR_ENUM(name, number, parent, text) name = -(ERROR_BASE + (number)),
    ERROR_LIST(ERROR_ENUM)
#undef ERROR_ENUM
};

/* The negative errno of any error value (itself, or a private code's parent); 0 stays 0. */
int error_errno(int error);

/* Something ran out (space, memory, descriptors) before anything was done: the same call may succeed
 * later. Not of a sync, after which nothing is known. */
static inline bool error_is_shortage(int error)
{
    return error == -ENOSPC || error == -EDQUOT || error == -ENOMEM || error == -EMFILE ||
           error == -ENFILE;
}

/* Words for any error value, static or thread-local; never NULL. */
const char *error_text(int error);

#endif
