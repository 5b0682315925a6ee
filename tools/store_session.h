/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store_session.h - a store that is not mounted, opened by the command line for looking
 *
 * Opening replays the log, as mounting does; nothing else is changed.
 */
#ifndef VARVE_TOOLS_STORE_SESSION_H
#define VARVE_TOOLS_STORE_SESSION_H

#include "snapshot/snapshot.h"

struct store_session {
    struct io *io;
    struct engine *engine;
    struct snapshot_set *set;
};

/* 0 or a negative error; the errors of engine_open(). */
int store_session_open(const char *path, struct store_session *ret_session);
/* 0, or what closing the engine gave. */
int store_session_close(struct store_session *session);

/* Is there a store, or a checkpoint's directory, at `path`? */
bool store_path_is_store(const char *path);

/* Say that the store cannot be opened; returns the exit status that goes with it. */
int store_complain(const char *path, int error);

#endif
