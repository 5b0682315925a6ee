/* SPDX-License-Identifier: Apache-2.0 */
/*
 * control_client.c - the command line's side of control_protocol.h
 */
#include "tools/control_client.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/base/bytes.h"
#include "fuse/control_protocol.h"
#include "tools/exit_code.h"
#include "tools/output.h"

/* More than any honest daemon sends. */
#define REPLY_SIZE_MAX ((size_t)256 << 20)

static int __attribute__((format(printf, 3, 4)))
control_fail(int code, char error[CONTROL_ERROR_SIZE], const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    (void)vsnprintf(error, CONTROL_ERROR_SIZE, format, arguments);
    va_end(arguments);
    return code;
}

/* One message there and back. */
static int control_exchange(int descriptor, struct control_message *message)
{
    if (ioctl(descriptor, CONTROL_IOCTL, message) < 0)
        return -errno;
    if (message->magic != CONTROL_MAGIC || message->size > CONTROL_DATA_SIZE)
        return -EPROTO;
    return 0;
}

/* Send the text; the first part of the reply is in the message. */
static int control_send(int descriptor, const char *text, size_t size,
                        struct control_message *message)
{
    int error;

    message->token = 0;
    for (;;) {
        bool last = size <= CONTROL_DATA_SIZE;

        message->magic = last ? CONTROL_MAGIC : CONTROL_MAGIC_PART;
        message->size = last ? (uint32_t)size : CONTROL_DATA_SIZE;
        memcpy(message->data, text, message->size);
        text += message->size;
        size -= message->size;
        error = control_exchange(descriptor, message);
        if (last || error < 0)
            return error;
    }
}

static int control_transfer(int descriptor, const char *text, size_t size, struct buffer *reply)
{
    struct control_message message;
    int error = control_send(descriptor, text, size, &message);

    while (error == 0) {
        error = buffer_append(reply, message.data, message.size);
        if (error == 0 && reply->size > REPLY_SIZE_MAX)
            error = -EPROTO;
        if (error < 0 || message.token == 0)
            break;
        message.size = 0;
        error = control_exchange(descriptor, &message);
    }
    return error;
}

static int control_explain(int code, const char *path, char error[CONTROL_ERROR_SIZE])
{
    switch (code) {
    case -ENOTTY:
    case -EINVAL:
    case -ENOSYS:
    case -EOPNOTSUPP:
        return control_fail(-ENOTTY, error, "%s is not inside a Varve mount", path);
    case -EPERM:
        return control_fail(code, error, "only root and the owner of the mount may do that");
    case -ENOTCONN:
    case -ECONNABORTED:
        return control_fail(code, error, "the daemon of the mount at %s has ended", path);
    default:
        return control_fail(code, error, "%s: %s", path, strerror(-code));
    }
}

/* {"ok": true, ...} or the error in it. */
static int control_check(json_t *reply, char error[CONTROL_ERROR_SIZE])
{
    const json_t *details = json_object_get(reply, "error");
    int code = (int)json_integer_value(json_object_get(details, "errno"));
    const char *text = json_string_value(json_object_get(details, "text"));

    if (json_is_true(json_object_get(reply, "ok")))
        return 0;
    return control_fail(code > 0 ? -code : -EPROTO, error, "%s",
                        text != NULL ? text : "the daemon's reply makes no sense");
}

static int control_talk(const char *path, const char *text, json_t **ret_reply,
                        char error[CONTROL_ERROR_SIZE])
{
    int descriptor = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    struct buffer bytes = {0};
    json_t *reply = NULL;
    int code;

    if (descriptor < 0) {
        code = -errno;
        (void)control_explain(code, path, error);
        return code == -ENOENT || code == -ENOTDIR ? -ENOTTY : code;
    }
    code = control_transfer(descriptor, text, strlen(text), &bytes);
    (void)close(descriptor);
    if (code < 0) {
        code = control_explain(code, path, error);
    } else {
        reply = json_loadb((const char *)bytes.data, bytes.size, 0, NULL);
        code = control_check(reply, error);
    }
    buffer_free(&bytes);
    if (code == 0)
        *ret_reply = reply;
    else
        json_decref(reply);
    return code;
}

int control_call(const char *path, json_t *request, json_t **ret_reply,
                 char error[CONTROL_ERROR_SIZE])
{
    char *text = json_dumps(request, JSON_COMPACT);
    int code;

    json_decref(request);
    if (text == NULL)
        return control_fail(-ENOMEM, error, "out of memory");
    code = control_talk(path, text, ret_reply, error);
    free(text);
    return code;
}

enum exit_code control_exit_code(int error)
{
    return error == 0 ? EXIT_CODE_OK : error == -ENOTTY ? EXIT_CODE_NO_STORE : EXIT_CODE_FAILED;
}

int control_call_or_complain(const char *path, json_t *request, const char *what,
                             json_t **ret_reply)
{
    char error[CONTROL_ERROR_SIZE];
    int code = control_call(path, request, ret_reply, error);

    if (code < 0)
        output_error("cannot %s: %s", what, error);
    return code;
}
