/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ll_verb_retention.c - verbs that say which snapshots stay: hold, release, prune
 */
#include "fuse/ll_verbs.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "fuse/control_json.h"
#include "fuse/control_snapshot.h"
#include "fuse/ll_internal.h"
#include "snapshot/retention.h"

/* ---- hold, release ---- */

struct ll_hold_request {
    char owner[256];
    size_t owner_size;
    uint64_t expires_s;
};

static int ll_get_hold(const json_t *request, struct ll_hold_request *ret_hold)
{
    const json_t *expires = json_object_get(request, "expires");
    struct ll_hold_request hold = {.owner_size = 0};
    int size = control_json_get_bytes(request, "owner", hold.owner, sizeof hold.owner);

    if (size <= 0)
        return size == -ENOENT || size == 0 ? -EINVAL : size;
    hold.owner_size = (size_t)size;
    if (expires != NULL && (!json_is_integer(expires) || json_integer_value(expires) <= 0))
        return -EINVAL;
    hold.expires_s = (uint64_t)json_integer_value(expires);
    *ret_hold = hold;
    return 0;
}

static int ll_hold_one(struct ll *ll, const char *name, const struct ll_hold_request *hold,
                       bool release, json_t *results)
{
    struct snapshot_set *set = fs_snapshots(ll->fs);
    struct slice owner = slice_of(hold->owner, hold->owner_size);
    struct snapshot *snapshot = snapshot_find(set, slice_of_string(name));
    int error;

    if (snapshot == NULL)
        error = -ENOENT;
    else if (release)
        error = snapshot_release(set, slice_of_string(name), owner);
    else
        error = snapshot_hold(set, slice_of_string(name), owner, hold->expires_s);
    /* Which of the two there is none of. */
    if (error == -ENOENT && snapshot != NULL && !snapshot_deleted(snapshot))
        error = -ENODATA;
    snapshot_unref(snapshot);
    return ll_verb_add_result(results, name, error);
}

/* One that cannot be held does not hold the others back. */
static int ll_hold_all(struct ll *ll, const json_t *request, json_t *reply, bool release)
{
    const json_t *names = json_object_get(request, "names"), *object;
    json_t *results = json_array();
    struct ll_hold_request hold;
    char name[SNAPSHOT_NAME_SIZE_MAX + 1];
    size_t index;
    int error = ll_get_hold(request, &hold);

    if (json_object_set_new(reply, "results", results) != 0)
        return -ENOMEM;
    if (error < 0)
        return error;
    json_array_foreach(names, index, object)
    {
        int size = control_json_get_bytes(object, "name", name, sizeof name);

        error = size < 0 ? size : ll_hold_one(ll, name, &hold, release, results);
        if (error < 0)
            return error;
    }
    return 0;
}

int ll_verb_snapshot_hold(struct ll *ll, const json_t *request, json_t *reply)
{
    return ll_hold_all(ll, request, reply, false);
}

int ll_verb_snapshot_release(struct ll *ll, const json_t *request, json_t *reply)
{
    return ll_hold_all(ll, request, reply, true);
}

/* ---- prune: what is asked ---- */

struct ll_prune {
    struct ll *ll;
    struct retention_policy policy;
    json_t *tags; /* only snapshots that have all of these; NULL: any */
    bool dry_run;
    struct snapshot **snapshots; /* oldest first; a reference each */
    struct retention_candidate *candidates;
    struct retention_decision *decisions;
    size_t count, capacity;
};

static int ll_prune_get(const json_t *request, struct ll_prune *prune)
{
    const json_t *keep = json_object_get(request, "keep");

    prune->tags = json_object_get(request, "tags");
    prune->dry_run = json_is_true(json_object_get(request, "dry_run"));
    if (prune->tags != NULL && !json_is_object(prune->tags))
        return -EINVAL;
    for (int rule = 0; rule < RETENTION_RULES; rule++) {
        const json_t *number = json_object_get(keep, retention_rule_names[rule]);
        json_int_t value = json_integer_value(number);

        if (number != NULL && (!json_is_integer(number) || value < 0 || value > UINT32_MAX))
            return -EINVAL;
        prune->policy.keep[rule] = (uint32_t)value;
    }
    /* Keeping nothing is for "delete", where each is named. */
    return retention_policy_is_empty(&prune->policy) ? -EINVAL : 0;
}

static bool ll_prune_has_tag(const struct snapshot *snapshot, const char *key, const char *value)
{
    for (size_t i = 0; i < snapshot_tag_count(snapshot); i++) {
        struct snapshot_tag tag = snapshot_tag_at(snapshot, i);

        if (strcmp(tag.key, key) == 0)
            return value != NULL && strcmp(tag.value, value) == 0;
    }
    return false;
}

static bool ll_prune_wants(const struct ll_prune *prune, const struct snapshot *snapshot)
{
    const char *key;
    json_t *value;

    json_object_foreach(prune->tags, key, value)
    {
        if (!ll_prune_has_tag(snapshot, key, json_string_value(value)))
            return false;
    }
    return true;
}

static int ll_prune_grow(struct ll_prune *prune)
{
    size_t capacity = prune->capacity > 0 ? prune->capacity * 2 : 64;
    struct snapshot **snapshots = reallocarray(prune->snapshots, capacity, sizeof *snapshots);
    struct retention_candidate *candidates;

    if (snapshots == NULL)
        return -ENOMEM;
    prune->snapshots = snapshots;
    candidates = reallocarray(prune->candidates, capacity, sizeof *candidates);
    if (candidates == NULL)
        return -ENOMEM;
    prune->candidates = candidates;
    prune->capacity = capacity;
    return 0;
}

/* Takes the reference over when it returns 0. */
static int ll_prune_add(struct ll_prune *prune, struct snapshot *snapshot)
{
    struct retention_candidate candidate = {
        .created = snapshot_created(snapshot),
        .id = snapshot_id(snapshot),
    };
    int error = snapshot_is_held(snapshot, &candidate.held);

    if (error == 0 && prune->count == prune->capacity)
        error = ll_prune_grow(prune);
    if (error < 0)
        return error;
    prune->snapshots[prune->count] = snapshot;
    prune->candidates[prune->count++] = candidate;
    return 0;
}

static int ll_prune_collect(struct ll_prune *prune)
{
    struct snapshot_set *set = fs_snapshots(prune->ll->fs);
    struct snapshot *snapshot;
    uint64_t id = 0;

    while ((snapshot = snapshot_next(set, id)) != NULL) {
        int error = ll_prune_wants(prune, snapshot) ? ll_prune_add(prune, snapshot) : 1;

        id = snapshot_id(snapshot);
        if (error != 0)
            snapshot_unref(snapshot);
        if (error < 0 && error != -ENOENT) /* deleted meanwhile */
            return error;
    }
    return 0;
}

/* ---- prune: what is answered ---- */

struct ll_text {
    char text[2048];
    size_t size;
};

static void __attribute__((format(printf, 2, 3)))
ll_text_add(struct ll_text *to, const char *format, ...)
{
    size_t room = sizeof to->text - to->size;
    va_list arguments;
    int size;

    va_start(arguments, format);
    size = vsnprintf(to->text + to->size, room, format, arguments);
    va_end(arguments);
    if (size > 0)
        to->size += (size_t)size < room ? (size_t)size : room - 1;
}

static void ll_prune_explain_rule(const struct ll_prune *prune, size_t index,
                                  enum retention_rule rule, struct ll_text *to)
{
    const struct retention_decision *decision = &prune->decisions[index];
    const struct retention_verdict *verdict = &decision->verdicts[rule];
    const char *name = retention_rule_names[rule];
    uint32_t keep = prune->policy.keep[rule];
    char period[RETENTION_PERIOD_SIZE], newer[SNAPSHOT_NAME_SIZE_MAX + 1];

    if (keep == 0 || (decision->keep && verdict->place == 0))
        return;
    retention_period(rule, prune->candidates[index].created.tv_sec, period);
    ll_text_add(to, "%s", to->size > 0 ? "; " : "");
    if (verdict->place > 0) {
        ll_text_add(to, "%s%s%s: %" PRIu32 " of %" PRIu32, name, period[0] != '\0' ? " " : "",
                    period, verdict->place, keep);
    } else if (verdict->shadowed) {
        snapshot_get_name(prune->snapshots[verdict->newer], newer);
        ll_text_add(to, "%s %s: %s is newer", name, period, newer);
    } else {
        ll_text_add(to, "%s: the %" PRIu32 " it keeps are newer", name, keep);
    }
}

static void ll_prune_explain(const struct ll_prune *prune, size_t index, struct ll_text *to)
{
    to->text[0] = '\0';
    to->size = 0;
    if (prune->candidates[index].held)
        ll_text_add(to, "held");
    for (int rule = 0; rule < RETENTION_RULES; rule++)
        ll_prune_explain_rule(prune, index, (enum retention_rule)rule, to);
}

static int ll_prune_describe(const struct ll_prune *prune, size_t index, json_t *object)
{
    const struct retention_decision *decision = &prune->decisions[index];
    char name[SNAPSHOT_NAME_SIZE_MAX + 1];
    struct ll_text explanation;
    json_t *rules;
    int error;

    ll_prune_explain(prune, index, &explanation);
    snapshot_get_name(prune->snapshots[index], name);
    error = ll_verb_set_text(object, "name", name);
    if (error == 0)
        error = ll_verb_set_time(object, "created", prune->candidates[index].created);
    if (error == 0)
        error = ll_verb_set_text(object, "action", decision->keep ? "keep" : "remove");
    if (error == 0)
        error = ll_verb_set_text(object, "explanation", explanation.text);
    if (json_object_set_new(object, "held", json_boolean(prune->candidates[index].held)) != 0)
        return -ENOMEM;
    rules = json_array();
    if (json_object_set_new(object, "kept_by", rules) != 0)
        return -ENOMEM;
    for (int rule = 0; error == 0 && rule < RETENTION_RULES; rule++)
        if (decision->verdicts[rule].place > 0 &&
            json_array_append_new(rules, json_string(retention_rule_names[rule])) != 0)
            error = -ENOMEM;
    return error;
}

/* What deleting all that go frees. */
static int ll_prune_predict(const struct ll_prune *prune, json_t *reply)
{
    struct snapshot **removed = calloc(prune->count + 1, sizeof *removed);
    size_t count = 0;
    int error;

    if (removed == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < prune->count; i++)
        if (!prune->decisions[i].keep)
            removed[count++] = prune->snapshots[i];
    error = control_snapshot_set_usage(reply, fs_snapshots(prune->ll->fs), removed, count);
    free(removed);
    return error;
}

static int ll_prune_remove(struct ll_prune *prune, size_t index, json_t *object)
{
    int deleted = ll_verb_delete_this_snapshot(prune->ll, prune->snapshots[index]);

    /* Somebody else has deleted it meanwhile, and what has its name now was not decided about. */
    if (deleted == -ENOENT)
        return 0;
    return deleted < 0 ? ll_verb_set_text(object, "error", error_text(deleted)) : 0;
}

static int ll_prune_run(struct ll_prune *prune, json_t *reply)
{
    json_t *list = json_array();
    int error = ll_prune_collect(prune);

    if (json_object_set_new(reply, "decisions", list) != 0)
        return -ENOMEM;
    if (error < 0)
        return error;
    prune->decisions = calloc(prune->count + 1, sizeof *prune->decisions);
    if (prune->decisions == NULL)
        return -ENOMEM;
    error = retention_decide(&prune->policy, prune->candidates, prune->count, prune->decisions);
    if (error == 0)
        error = ll_prune_predict(prune, reply);
    for (size_t i = 0; error == 0 && i < prune->count; i++) {
        json_t *object = json_object();

        error = json_array_append_new(list, object) == 0 ? ll_prune_describe(prune, i, object)
                                                         : -ENOMEM;
        if (error == 0 && !prune->decisions[i].keep && !prune->dry_run)
            error = ll_prune_remove(prune, i, object);
    }
    return error;
}

int ll_verb_snapshot_prune(struct ll *ll, const json_t *request, json_t *reply)
{
    struct ll_prune prune = {.ll = ll};
    int error = ll_prune_get(request, &prune);

    if (error == 0)
        error = ll_prune_run(&prune, reply);
    for (size_t i = 0; i < prune.count; i++)
        snapshot_unref(prune.snapshots[i]);
    free(prune.snapshots);
    free(prune.candidates);
    free(prune.decisions);
    return error;
}
