/* SPDX-License-Identifier: Apache-2.0 */
/*
 * control_client.h - ask the daemon of a mount
 */
#ifndef VARVE_TOOLS_CONTROL_CLIENT_H
#define VARVE_TOOLS_CONTROL_CLIENT_H

#include <jansson.h>

#include "tools/exit_code.h"

#define CONTROL_ERROR_SIZE 256

/*
 * Send a request to the mount that holds `path`. The request's reference is taken over. 0 and the
 * reply (json_decref() it), or a negative errno and a line for the user in `error`. -ENOTTY: there
 * is no such path, or it is not inside a mount of ours.
 */
int control_call(const char *path, json_t *request, json_t **ret_reply,
                 char error[CONTROL_ERROR_SIZE]);

/* The same, with the complaint printed: "cannot <what>: ...". */
int control_call_or_complain(const char *path, json_t *request, const char *what,
                             json_t **ret_reply);

/* What control_call() gave as the program's exit status. */
enum exit_code control_exit_code(int error);

#endif
