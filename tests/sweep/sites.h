/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sites.h - included before everything else in the copy of the program that tests/sweep fails
 *
 * Each place in the source that calls the disk or allocates becomes a site: a static record that
 * the linker collects, so that all of them are known whether they are ever reached or not. Before
 * the call the plan of the moment is asked whether it fails here.
 *
 * With SWEEP_BASE (engine/base, which is the seam itself) only allocations are sites. Of LMDB those
 * calls are that may fail for reasons of the disk; struct io does not see them. With SWEEP_MOUNT
 * (libfuse's side) allocations are, jansson's and libfuse's included, and what wants a descriptor.
 */
#ifndef VARVE_TESTS_SWEEP_SITES_H
#define VARVE_TESTS_SWEEP_SITES_H

#include <errno.h>
#include <fcntl.h>
#include <lmdb.h>
#include <malloc.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#ifdef __x86_64__
#include <immintrin.h> /* the compiler's own; it declares what allocates */
#endif

#include "engine/base/io.h"
#include "tests/sweep/site.h"

#ifdef SWEEP_MOUNT
#include <jansson.h>
#include <liburing.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "fuse/ll_internal.h"
#endif

#define SWEEP_FAILS(kind_, call_) SWEEP_FAILS_IF(kind_, call_, false)
#define SWEEP_FAILS_IF(kind_, call_, creates_)                                                     \
    __extension__({                                                                                \
        static struct sweep_site site_ = {call_, __FILE__, __func__, __LINE__, kind_, 0};          \
        static struct sweep_site *const listed_ __attribute__((section("sweep_sites"), used)) =    \
            &site_;                                                                                \
                                                                                                   \
        (void)listed_;                                                                             \
        sweep_strike(&site_, creates_);                                                            \
    })

#define SWEEP_MEMORY_OF(call_, ...)                                                                \
    (SWEEP_FAILS(SWEEP_MEMORY, #call_) != 0 ? (errno = ENOMEM, (void *)NULL) : call_(__VA_ARGS__))

#define malloc(...)        SWEEP_MEMORY_OF(malloc, __VA_ARGS__)
#define calloc(...)        SWEEP_MEMORY_OF(calloc, __VA_ARGS__)
#define realloc(...)       SWEEP_MEMORY_OF(realloc, __VA_ARGS__)
#define reallocarray(...)  SWEEP_MEMORY_OF(reallocarray, __VA_ARGS__)
#define aligned_alloc(...) SWEEP_MEMORY_OF(aligned_alloc, __VA_ARGS__)
#define strdup(...)        SWEEP_MEMORY_OF(strdup, __VA_ARGS__)
#define strndup(...)       SWEEP_MEMORY_OF(strndup, __VA_ARGS__)
#define posix_memalign(...)                                                                        \
    (SWEEP_FAILS(SWEEP_MEMORY, "posix_memalign") != 0 ? ENOMEM : posix_memalign(__VA_ARGS__))
#define asprintf(...) (SWEEP_FAILS(SWEEP_MEMORY, "asprintf") != 0 ? -1 : asprintf(__VA_ARGS__))
#define pthread_create(...)                                                                        \
    (SWEEP_FAILS(SWEEP_THREAD, "pthread_create") != 0 ? EAGAIN : pthread_create(__VA_ARGS__))

#ifdef SWEEP_MOUNT

#define json_object(...)      SWEEP_MEMORY_OF(json_object, __VA_ARGS__)
#define json_array(...)       SWEEP_MEMORY_OF(json_array, __VA_ARGS__)
#define json_pack(...)        SWEEP_MEMORY_OF(json_pack, __VA_ARGS__)
#define json_string(...)      SWEEP_MEMORY_OF(json_string, __VA_ARGS__)
#define json_stringn(...)     SWEEP_MEMORY_OF(json_stringn, __VA_ARGS__)
#define json_integer(...)     SWEEP_MEMORY_OF(json_integer, __VA_ARGS__)
#define json_real(...)        SWEEP_MEMORY_OF(json_real, __VA_ARGS__)
#define json_dumps(...)       SWEEP_MEMORY_OF(json_dumps, __VA_ARGS__)
#define fuse_session_new(...) SWEEP_MEMORY_OF(fuse_session_new, __VA_ARGS__)
#define open_memstream(...)   SWEEP_MEMORY_OF(open_memstream, __VA_ARGS__)
#define mmap(...)                                                                                  \
    (SWEEP_FAILS(SWEEP_MEMORY, "mmap") != 0 ? (errno = ENOMEM, MAP_FAILED) : mmap(__VA_ARGS__))
#define getline(...)                                                                               \
    (SWEEP_FAILS(SWEEP_MEMORY, "getline") != 0 ? (errno = ENOMEM, -1) : getline(__VA_ARGS__))
#define json_loadb(text_, size_, flags_, problem_)                                                 \
    __extension__({                                                                                \
        int error_ = SWEEP_FAILS(SWEEP_MEMORY, "json_loadb");                                      \
                                                                                                   \
        if (error_ != 0)                                                                           \
            (problem_)->text[JSON_ERROR_TEXT_LENGTH - 1] = json_error_out_of_memory;               \
        error_ != 0 ? NULL : json_loadb(text_, size_, flags_, problem_);                           \
    })
/* They take the value over, also when they fail. */
#define json_object_set_new(object_, key_, value_)                                                 \
    __extension__({                                                                                \
        json_t *new_ = (value_);                                                                   \
        int error_ = SWEEP_FAILS(SWEEP_MEMORY, "json_object_set_new");                             \
                                                                                                   \
        if (error_ != 0)                                                                           \
            json_decref(new_);                                                                     \
        error_ != 0 ? -1 : json_object_set_new(object_, key_, new_);                               \
    })
#define json_array_append_new(array_, value_)                                                      \
    __extension__({                                                                                \
        json_t *new_ = (value_);                                                                   \
        int error_ = SWEEP_FAILS(SWEEP_MEMORY, "json_array_append_new");                           \
                                                                                                   \
        if (error_ != 0)                                                                           \
            json_decref(new_);                                                                     \
        error_ != 0 ? -1 : json_array_append_new(array_, new_);                                    \
    })

#define SWEEP_DESCRIPTOR(failed_, call_, ...)                                                      \
    __extension__({                                                                                \
        int error_ = SWEEP_FAILS(SWEEP_OPEN, #call_);                                              \
                                                                                                   \
        error_ != 0 ? (errno = -error_, failed_) : call_(__VA_ARGS__);                             \
    })
#define open(...)               SWEEP_DESCRIPTOR(-1, open, __VA_ARGS__)
#define fopen(...)              SWEEP_DESCRIPTOR(NULL, fopen, __VA_ARGS__)
#define unshare(...)            SWEEP_DESCRIPTOR(-1, unshare, __VA_ARGS__)
#define open_by_handle_at(...)  SWEEP_DESCRIPTOR(-1, open_by_handle_at, __VA_ARGS__)
#define fuse_session_mount(...) SWEEP_DESCRIPTOR(-1, fuse_session_mount, __VA_ARGS__)
#define io_uring_queue_init(...)                                                                   \
    __extension__({                                                                                \
        int error_ = SWEEP_FAILS(SWEEP_OPEN, "io_uring_queue_init");                               \
                                                                                                   \
        error_ != 0 ? error_ : io_uring_queue_init(__VA_ARGS__);                                   \
    })
/* By its number where it opens something. */
#define syscall(number_, ...)                                                                      \
    ((number_) == SYS_openat && SWEEP_FAILS(SWEEP_OPEN, "openat") != 0                             \
         ? (errno = EMFILE, -1L)                                                                   \
         : syscall(number_, __VA_ARGS__))

#elif !defined(SWEEP_BASE)

#define SWEEP_DISK(kind_, call_, ...)                                                              \
    __extension__({                                                                                \
        int error_ = SWEEP_FAILS(kind_, #call_);                                                   \
                                                                                                   \
        error_ != 0 ? error_ : call_(__VA_ARGS__);                                                 \
    })

#define io_open_root(...)       SWEEP_DISK(SWEEP_OPEN, io_open_root, __VA_ARGS__)
#define io_read(...)            SWEEP_DISK(SWEEP_OTHER, io_read, __VA_ARGS__)
#define io_read_exact(...)      SWEEP_DISK(SWEEP_OTHER, io_read_exact, __VA_ARGS__)
#define io_write(...)           SWEEP_DISK(SWEEP_GROW, io_write, __VA_ARGS__)
#define io_sync(...)            SWEEP_DISK(SWEEP_OTHER, io_sync, __VA_ARGS__)
#define io_sync_filesystem(...) SWEEP_DISK(SWEEP_OTHER, io_sync_filesystem, __VA_ARGS__)
#define io_truncate(...)        SWEEP_DISK(SWEEP_OTHER, io_truncate, __VA_ARGS__)
#define io_stat(...)            SWEEP_DISK(SWEEP_OTHER, io_stat, __VA_ARGS__)
#define io_stat_at(...)         SWEEP_DISK(SWEEP_OTHER, io_stat_at, __VA_ARGS__)
#define io_chmod(...)           SWEEP_DISK(SWEEP_OTHER, io_chmod, __VA_ARGS__)
#define io_mkdir(...)           SWEEP_DISK(SWEEP_GROW, io_mkdir, __VA_ARGS__)
#define io_unlink(...)          SWEEP_DISK(SWEEP_OTHER, io_unlink, __VA_ARGS__)
#define io_rmdir(...)           SWEEP_DISK(SWEEP_OTHER, io_rmdir, __VA_ARGS__)
#define io_rename(...)          SWEEP_DISK(SWEEP_GROW, io_rename, __VA_ARGS__)
#define io_list(...)            SWEEP_DISK(SWEEP_OTHER, io_list, __VA_ARGS__)
#define io_lock(...)            SWEEP_DISK(SWEEP_OTHER, io_lock, __VA_ARGS__)
#define io_clone(...)           SWEEP_DISK(SWEEP_GROW, io_clone, __VA_ARGS__)
#define io_space(...)           SWEEP_DISK(SWEEP_OTHER, io_space, __VA_ARGS__)
#define io_open(io_, directory_, name_, flags_, mode_, file_)                                      \
    __extension__({                                                                                \
        int error_ = SWEEP_FAILS_IF(SWEEP_OPEN, "io_open", ((flags_)&IO_OPEN_CREATE) != 0);        \
                                                                                                   \
        error_ != 0 ? error_ : io_open(io_, directory_, name_, flags_, mode_, file_);              \
    })
/* Across file systems, or too many of them: no failure, there is another way. */
#define io_link(...)                                                                               \
    __extension__({                                                                                \
        int error_ = SWEEP_FAILS(SWEEP_GROW, "io_link");                                           \
                                                                                                   \
        error_ != 0 ? error_ : sweep_refuses_links() ? -EXDEV : io_link(__VA_ARGS__);              \
    })
/* Each read of the batch gets the error. */
#define io_read_batch(io_, reads_, count_)                                                         \
    __extension__({                                                                                \
        int error_ = SWEEP_FAILS(SWEEP_OTHER, "io_read_batch");                                    \
                                                                                                   \
        for (size_t at_ = 0; error_ != 0 && at_ < (count_); at_++)                                 \
            (reads_)[at_].result = error_;                                                         \
        error_ != 0 ? error_ : io_read_batch(io_, reads_, count_);                                 \
    })

#define SWEEP_LMDB(call_, ...)                                                                     \
    __extension__({                                                                                \
        int error_ = SWEEP_FAILS(SWEEP_MANIFEST, #call_);                                          \
                                                                                                   \
        error_ != 0 ? -error_ : call_(__VA_ARGS__);                                                \
    })
#define mdb_env_create(...)  SWEEP_LMDB(mdb_env_create, __VA_ARGS__)
#define mdb_env_open(...)    SWEEP_LMDB(mdb_env_open, __VA_ARGS__)
#define mdb_txn_begin(...)   SWEEP_LMDB(mdb_txn_begin, __VA_ARGS__)
#define mdb_cursor_open(...) SWEEP_LMDB(mdb_cursor_open, __VA_ARGS__)
#define mdb_put(...)         SWEEP_LMDB(mdb_put, __VA_ARGS__)
#define mdb_del(...)         SWEEP_LMDB(mdb_del, __VA_ARGS__)
/* The transaction is gone whatever it returns. */
#define mdb_txn_commit(transaction_)                                                               \
    __extension__({                                                                                \
        int error_ = SWEEP_FAILS(SWEEP_MANIFEST, "mdb_txn_commit");                                \
                                                                                                   \
        if (error_ != 0)                                                                           \
            mdb_txn_abort(transaction_);                                                           \
        error_ != 0 ? -error_ : mdb_txn_commit(transaction_);                                      \
    })
/* Those with which the manifest makes room for itself and looks at its file. */
#define SWEEP_SYSTEM(kind_, call_, ...)                                                            \
    __extension__({                                                                                \
        int error_ = SWEEP_FAILS(kind_, #call_);                                                   \
                                                                                                   \
        error_ != 0 ? (errno = -error_, -1) : call_(__VA_ARGS__);                                  \
    })
#define fallocate(...) SWEEP_SYSTEM(SWEEP_GROW, fallocate, __VA_ARGS__)
#define openat(...)    SWEEP_SYSTEM(SWEEP_OPEN, openat, __VA_ARGS__)
#define pread(...)     SWEEP_SYSTEM(SWEEP_OTHER, pread, __VA_ARGS__)
#define fsync(...)     SWEEP_SYSTEM(SWEEP_OTHER, fsync, __VA_ARGS__)

#endif

#endif
