/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ll_control.c - messages in, verbs run, messages out
 */
#include "fuse/ll_internal.h"

#include <errno.h>
#include <stdlib.h>

#include "fuse/control_protocol.h"
#include "fuse/ll_verbs.h"

/* A request that is still arriving, or a reply that is still to be fetched. */
struct ll_pending {
    uint64_t token; /* 0: free */
    uid_t uid;      /* whose it is */
    bool request;
    struct buffer text;
    size_t sent;
};

struct ll_control {
    struct lock lock; /* LOCK_RANK_LEAF */
    uint64_t next_token;
    struct ll_pending pending[LL_CONTROL_PENDING_MAX];
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
    for (size_t i = 0; i < LL_CONTROL_PENDING_MAX; i++)
        buffer_free(&control->pending[i].text);
    ll_verb_diff_drop_all();
    lock_destroy(&control->lock);
    free(control);
}

/* ---- texts in parts ---- */

/* What makes room: nothing while one is free, else the oldest; of a user who has his share, his own
 * oldest. The lock is held. */
static struct ll_pending *ll_control_room(struct ll_control *control, uid_t uid)
{
    struct ll_pending *oldest = &control->pending[0], *own = NULL;
    size_t count = 0;

    for (size_t i = 0; i < LL_CONTROL_PENDING_MAX; i++) {
        struct ll_pending *pending = &control->pending[i];

        if (pending->token < oldest->token)
            oldest = pending;
        if (pending->token == 0 || pending->uid != uid)
            continue;
        count++;
        if (own == NULL || pending->token < own->token)
            own = pending;
    }
    return count < LL_CONTROL_SHARE ? oldest : own;
}

/* Keep it until the next part; its buffer is taken over. Returns the token. */
static uint64_t ll_control_keep(struct ll_control *control, struct ll_pending *pending)
{
    struct ll_pending *slot;
    struct buffer dropped;

    lock_acquire(&control->lock);
    slot = ll_control_room(control, pending->uid);
    dropped = slot->text;
    pending->token = control->next_token++;
    *slot = *pending;
    lock_release(&control->lock);
    buffer_free(&dropped);
    return pending->token;
}

/* Take it out again; false when it is not there (any more). Tokens are used once. */
static bool ll_control_take(struct ll_control *control, uint64_t token, uid_t uid, bool request,
                            struct ll_pending *ret_pending)
{
    bool found = false;

    lock_acquire(&control->lock);
    for (size_t i = 0; !found && i < LL_CONTROL_PENDING_MAX; i++) {
        struct ll_pending *pending = &control->pending[i];

        if (pending->token != token || pending->uid != uid || pending->request != request)
            continue;
        *ret_pending = *pending;
        *pending = (struct ll_pending){0};
        found = true;
    }
    lock_release(&control->lock);
    return found;
}

/* Answer with the next part; what is left is kept, what is not is freed. */
static void ll_control_send_part(struct ll *ll, fuse_req_t request, struct ll_pending *pending)
{
    struct control_message *message = calloc(1, sizeof *message);
    size_t left = pending->text.size - pending->sent;
    size_t part = left < CONTROL_DATA_SIZE ? left : CONTROL_DATA_SIZE;

    if (message == NULL) {
        buffer_free(&pending->text);
        ll_reply_error(request, -ENOMEM);
        return;
    }
    message->magic = CONTROL_MAGIC;
    message->size = (uint32_t)part;
    if (part > 0)
        memcpy(message->data, pending->text.data + pending->sent, part);
    pending->sent += part;
    if (part < left)
        message->token = ll_control_keep(ll->control, pending);
    else
        buffer_free(&pending->text);
    (void)fuse_reply_ioctl(request, 0, message, sizeof *message);
    free(message);
}

static void ll_control_send_more(struct ll *ll, fuse_req_t request, uint64_t token)
{
    struct ll_pending pending;

    if (ll_control_take(ll->control, token, fuse_req_ctx(request)->uid, false, &pending))
        ll_control_send_part(ll, request, &pending);
    else
        ll_reply_error(request, -ESTALE);
}

/* Answer with the JSON text, which is freed. */
static void ll_control_send(struct ll *ll, fuse_req_t request, char *text)
{
    struct ll_pending pending = {.uid = fuse_req_ctx(request)->uid};
    int error = text == NULL ? -ENOMEM : buffer_assign(&pending.text, text, strlen(text));

    free(text);
    if (error < 0)
        ll_reply_error(request, error);
    else
        ll_control_send_part(ll, request, &pending);
}

/* Append the message to the request that it continues, if it continues one. */
static int ll_control_join(struct ll *ll, fuse_req_t request, const struct control_message *message,
                           struct ll_pending *ret_pending)
{
    struct ll_pending pending = {.uid = fuse_req_ctx(request)->uid, .request = true};
    int error;

    if (message->token != 0 &&
        !ll_control_take(ll->control, message->token, pending.uid, true, &pending))
        return -ESTALE;
    error = pending.text.size + message->size > CONTROL_REQUEST_MAX
                ? -E2BIG
                : buffer_append(&pending.text, message->data, message->size);
    if (error < 0)
        buffer_free(&pending.text);
    else
        *ret_pending = pending;
    return error;
}

static void ll_control_receive_part(struct ll *ll, fuse_req_t request,
                                    const struct control_message *message)
{
    struct control_message *answer = calloc(1, sizeof *answer);
    struct ll_pending pending;
    int error = answer == NULL ? -ENOMEM : ll_control_join(ll, request, message, &pending);

    if (error < 0) {
        ll_reply_error(request, error);
    } else {
        answer->magic = CONTROL_MAGIC;
        answer->token = ll_control_keep(ll->control, &pending);
        (void)fuse_reply_ioctl(request, 0, answer, sizeof *answer);
    }
    free(answer);
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
    int error = reply == NULL ? -ENOMEM : 0;
    char *text;

    /* mount(2) tells nobody of a remount. */
    if (error == 0 && verb->owner_only)
        error = ll_follow_mount(ll);
    if (error == 0)
        error = verb->run(ll, arguments, reply);
    text = error == 0 ? json_dumps(reply, JSON_COMPACT) : ll_control_error_text(error);

    json_decref(reply);
    return text;
}

static void ll_control_run_job(struct ll *ll, struct ll_job *job, int error)
{
    struct ll_control_job *control_job = (struct ll_control_job *)job;
    char *text = error < 0 ? ll_control_error_text(error)
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
        ll_control_run_job(ll, &job->job, -ENOTCONN);
}

static bool ll_control_permits(const struct ll *ll, fuse_req_t request, const struct ll_verb *verb)
{
    uid_t uid = fuse_req_ctx(request)->uid;

    return !verb->owner_only || uid == 0 || uid == ll->options->fs.owner_uid;
}

/* 0, -EINVAL for what is no JSON, or -ENOMEM: jansson then says so, or gives no reason at all. */
static int ll_control_parse(struct slice text, json_t **ret_arguments)
{
    json_error_t problem = {0};
    json_t *arguments = json_loadb((const char *)text.data, text.size, 0, &problem);
    enum json_error_code code = json_error_code(&problem);

    if (arguments == NULL)
        return code == json_error_out_of_memory || code == json_error_unknown ? -ENOMEM : -EINVAL;
    *ret_arguments = arguments;
    return 0;
}

static void ll_control_start(struct ll *ll, fuse_req_t request, struct slice text)
{
    json_t *arguments = NULL;
    int error = ll_control_parse(text, &arguments);
    const char *name = json_string_value(json_object_get(arguments, "verb"));
    const struct ll_verb *verb = name != NULL ? ll_verb_find(name) : NULL;

    if (error < 0 || name == NULL) {
        ll_reply_error(request, error < 0 ? error : -EINVAL);
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

static void ll_control_receive_last(struct ll *ll, fuse_req_t request,
                                    const struct control_message *message)
{
    struct ll_pending pending;
    int error = ll_control_join(ll, request, message, &pending);

    if (error < 0) {
        ll_reply_error(request, error);
        return;
    }
    ll_control_start(ll, request, buffer_slice(&pending.text));
    buffer_free(&pending.text);
}

void ll_control_ioctl(struct ll *ll, struct fuse_req *request, const void *in, size_t in_size,
                      size_t out_size)
{
    /* It lies inside the request, at a multiple of eight bytes. */
    const struct control_message *message = in;

    if (in_size != sizeof *message || out_size < sizeof *message ||
        message->size > CONTROL_DATA_SIZE)
        ll_reply_error(request, -EINVAL);
    else if (message->magic == CONTROL_MAGIC_PART)
        ll_control_receive_part(ll, request, message);
    else if (message->magic != CONTROL_MAGIC)
        ll_reply_error(request, -EINVAL);
    else if (message->token != 0 && message->size == 0)
        ll_control_send_more(ll, request, message->token);
    else
        ll_control_receive_last(ll, request, message);
}
