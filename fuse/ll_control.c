/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ll_control.c - messages in, verbs run, messages out
 */
#include "fuse/ll_internal.h"

#include <errno.h>
#include <stdlib.h>

#include "fuse/control_protocol.h"
#include "fuse/ll_verbs.h"

/* A reply of which parts are still to be fetched. */
struct ll_pending {
    uint64_t token; /* 0: free */
    uid_t uid;      /* who may fetch it */
    char *text;
    size_t size, sent;
};

struct ll_control {
    struct lock lock; /* LOCK_RANK_LEAF */
    uint64_t next_token;
    struct ll_pending pending[LL_CONTROL_REPLIES_MAX];
};

int ll_control_new(struct ll_control **ret_control)
{
    struct ll_control *control = calloc(1, sizeof *control);

    if (control == NULL)
        return -ENOMEM;
    control->next_token = 1;
    lock_init(&control->lock, LOCK_RANK_LEAF);
    *ret_control = control;
    return 0;
}

void ll_control_free(struct ll_control *control)
{
    if (control == NULL)
        return;
    for (size_t i = 0; i < LL_CONTROL_REPLIES_MAX; i++)
        free(control->pending[i].text);
    lock_destroy(&control->lock);
    free(control);
}

/* ---- replies in parts ---- */

/* Put the next part of `pending` into the message; true when it was the last. */
static bool ll_control_cut(struct ll_pending *pending, struct control_message *message)
{
    size_t left = pending->size - pending->sent;
    size_t part = left < CONTROL_DATA_SIZE ? left : CONTROL_DATA_SIZE;

    memcpy(message->data, pending->text + pending->sent, part);
    message->size = (uint32_t)part;
    pending->sent += part;
    return pending->sent == pending->size;
}

/* Keep what is left; the slot with the oldest token makes room. */
static void ll_control_keep(struct ll_control *control, struct ll_pending *pending)
{
    struct ll_pending *slot = &control->pending[0];
    char *dropped;

    lock_acquire(&control->lock);
    for (size_t i = 1; i < LL_CONTROL_REPLIES_MAX; i++) {
        if (control->pending[i].token < slot->token)
            slot = &control->pending[i];
    }
    dropped = slot->text;
    pending->token = control->next_token++;
    *slot = *pending;
    lock_release(&control->lock);
    free(dropped);
}

/* Answer with the JSON text, which is taken over. */
static void ll_control_send(struct ll *ll, fuse_req_t request, char *text)
{
    struct control_message *message = calloc(1, sizeof *message);
    struct ll_pending pending = {
        .uid = fuse_req_ctx(request)->uid,
        .text = text,
        .size = text != NULL ? strlen(text) : 0,
    };

    if (message == NULL || text == NULL) {
        free(text);
        ll_reply_error(request, -ENOMEM);
    } else {
        message->magic = CONTROL_MAGIC;
        if (ll_control_cut(&pending, message)) {
            free(text);
        } else {
            ll_control_keep(ll->control, &pending);
            message->token = pending.token;
        }
        (void)fuse_reply_ioctl(request, 0, message, sizeof *message);
    }
    free(message);
}

static void ll_control_send_more(struct ll *ll, fuse_req_t request, uint64_t token)
{
    struct ll_control *control = ll->control;
    struct control_message *message = calloc(1, sizeof *message);
    uid_t uid = fuse_req_ctx(request)->uid;
    char *finished = NULL;
    int error = message == NULL ? -ENOMEM : -ESTALE;

    lock_acquire(&control->lock);
    for (size_t i = 0; message != NULL && i < LL_CONTROL_REPLIES_MAX; i++) {
        struct ll_pending *pending = &control->pending[i];

        if (pending->token != token || pending->uid != uid)
            continue;
        message->magic = CONTROL_MAGIC;
        message->token = token;
        error = 0;
        if (ll_control_cut(pending, message)) {
            message->token = 0;
            finished = pending->text;
            *pending = (struct ll_pending){0};
        }
        break;
    }
    lock_release(&control->lock);
    if (error < 0)
        ll_reply_error(request, error);
    else
        (void)fuse_reply_ioctl(request, 0, message, sizeof *message);
    free(finished);
    free(message);
}

/* ---- running verbs ---- */

struct ll_control_job {
    struct ll_job job; /* first */
    fuse_req_t request;
    const struct ll_verb *verb;
    json_t *arguments;
};

static char *ll_control_error_text(int error)
{
    json_t *reply = json_pack("{s:b, s:{s:i, s:s}}", "ok", 0, "error", "errno", -error_errno(error),
                              "text", error_text(error));
    char *text = json_dumps(reply, JSON_COMPACT);

    json_decref(reply);
    return text;
}

static char *ll_control_run_verb(struct ll *ll, const struct ll_verb *verb, const json_t *arguments)
{
    json_t *reply = json_pack("{s:b}", "ok", 1);
    int error = reply == NULL ? -ENOMEM : verb->run(ll, arguments, reply);
    char *text = error == 0 ? json_dumps(reply, JSON_COMPACT) : ll_control_error_text(error);

    json_decref(reply);
    return text;
}

static void ll_control_run_job(struct ll *ll, struct ll_job *job, bool cancelled)
{
    struct ll_control_job *control_job = (struct ll_control_job *)job;
    char *text = cancelled ? ll_control_error_text(-ENOTCONN)
                           : ll_control_run_verb(ll, control_job->verb, control_job->arguments);

    ll_control_send(ll, control_job->request, text);
    json_decref(control_job->arguments);
    free(control_job);
}

/* `arguments` is taken over, and the request answered, also when it fails. */
static void ll_control_submit(struct ll *ll, fuse_req_t request, const struct ll_verb *verb,
                              json_t *arguments)
{
    struct ll_control_job *job = malloc(sizeof *job);

    if (job == NULL) {
        json_decref(arguments);
        ll_reply_error(request, -ENOMEM);
        return;
    }
    *job = (struct ll_control_job){
        .job = {.run = ll_control_run_job},
        .request = request,
        .verb = verb,
        .arguments = arguments,
    };
    if (!ll_flusher_submit(ll->flusher, &job->job))
        ll_control_run_job(ll, &job->job, true);
}

static bool ll_control_permits(const struct ll *ll, fuse_req_t request, const struct ll_verb *verb)
{
    uid_t uid = fuse_req_ctx(request)->uid;

    return !verb->owner_only || uid == 0 || uid == ll->options->fs.owner_uid;
}

static void ll_control_start(struct ll *ll, fuse_req_t request,
                             const struct control_message *message)
{
    json_t *arguments = json_loadb(message->data, message->size, 0, NULL);
    const char *name = json_string_value(json_object_get(arguments, "verb"));
    const struct ll_verb *verb = name != NULL ? ll_verb_find(name) : NULL;

    if (arguments == NULL || name == NULL) {
        ll_reply_error(request, -EINVAL);
    } else if (verb == NULL) {
        ll_control_send(ll, request, ll_control_error_text(-EOPNOTSUPP));
    } else if (!ll_control_permits(ll, request, verb)) {
        ll_reply_error(request, -EPERM);
    } else if (verb->flushes) {
        ll_control_submit(ll, request, verb, arguments);
        return;
    } else {
        blocking_enter();
        ll_control_send(ll, request, ll_control_run_verb(ll, verb, arguments));
    }
    json_decref(arguments);
}

void ll_control_ioctl(struct ll *ll, struct fuse_req *request, const void *in, size_t in_size,
                      size_t out_size)
{
    const struct control_message *message = in;

    /* The message lies anywhere in the request's buffer, but at a multiple of eight. */
    if (in_size != sizeof *message || out_size < sizeof *message ||
        message->magic != CONTROL_MAGIC || message->size > CONTROL_DATA_SIZE)
        ll_reply_error(request, -EINVAL);
    else if (message->token != 0)
        ll_control_send_more(ll, request, message->token);
    else
        ll_control_start(ll, request, message);
}
