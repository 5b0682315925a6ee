/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store_session.c - open a store for looking
 */
#include "tools/store_session.h"

#include <stdio.h>
#include <sys/stat.h>

#include "tools/exit_code.h"
#include "tools/output.h"

#define VIEWS_MAX 2

static int open_engine(const char *path, struct store_session *session)
{
    const struct snapshot_options snapshot_options = {.views_max = VIEWS_MAX};
    struct engine_options options;
    int error;

    engine_options_default(&options);
    options.path = path;
    options.io = session->io;
    options.read_only = true;
    error = engine_open(&options, &session->engine);
    if (error < 0)
        return error;
    error = snapshot_set_open(session->engine, &snapshot_options, &session->set);
    if (error < 0)
        (void)engine_close(session->engine);
    return error;
}

int store_session_open(const char *path, struct store_session *ret_session)
{
    struct store_session session = {0};
    int error = io_open_backend(IO_BACKEND_SYNC, &session.io);

    if (error < 0)
        return error;
    error = open_engine(path, &session);
    if (error < 0)
        io_close_backend(session.io);
    else
        *ret_session = session;
    return error;
}

int store_session_close(struct store_session *session)
{
    int error;

    snapshot_set_close(session->set);
    error = engine_close(session->engine);
    io_close_backend(session->io);
    *session = (struct store_session){0};
    return error;
}

bool store_path_is_store(const char *path)
{
    char format[4096];
    struct stat status;

    return snprintf(format, sizeof format, "%s/FORMAT", path) < (int)sizeof format &&
           lstat(format, &status) == 0;
}

int store_complain(const char *path, int error)
{
    if (error == ERROR_LOCKED)
        output_error("store %s is in use by another process; is it mounted? Then name the mount",
                     path);
    else
        output_error("cannot open store %s: %s", path, error_text(error));
    return (int)exit_code_of(error);
}
