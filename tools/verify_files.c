/* SPDX-License-Identifier: Apache-2.0 */
/*
 * verify_files.c - ask each tree that has damaged chunks for the files in them
 */
#include "tools/verify_files.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/chunk_format.h"
#include "fuse/control_json.h"
#include "fuse/fs.h"
#include "tools/control_client.h"
#include "tools/store_session.h"

#define LIVE_TREE "live tree"

struct asked {
    const struct verify_place *place;
    const json_t *findings;
    json_t *files;
    const char *view; /* what lines are about */
    int error;
};

/* ---- the damaged chunks of a tree ---- */

static bool suffers(const json_t *finding, const char *snapshot)
{
    const json_t *users = json_object_get(finding, "snapshots"), *user;
    char name[SNAPSHOT_NAME_SIZE_MAX + 1];
    size_t index;

    if (snapshot == NULL)
        return json_is_true(json_object_get(finding, "live"));
    json_array_foreach(users, index, user)
    {
        if (control_json_get_bytes(user, "name", name, sizeof name) > 0 &&
            strcmp(name, snapshot) == 0)
            return true;
    }
    return false;
}

/* Their ids; NULL: out of memory. To be freed. */
static uint64_t *chunks_of(const struct asked *asked, const char *snapshot, size_t *ret_count)
{
    uint64_t *ids = calloc(json_array_size(asked->findings) + 1, sizeof *ids);
    struct chunk_identity identity;
    const json_t *finding;
    size_t index, count = 0;
    bool sealed;

    if (ids == NULL)
        return NULL;
    json_array_foreach(asked->findings, index, finding)
    {
        const char *chunk = json_string_value(json_object_get(finding, "chunk"));

        if (chunk != NULL && chunk_name_parse(chunk, &identity, &sealed) &&
            suffers(finding, snapshot))
            ids[count++] = identity.id;
    }
    *ret_count = count;
    return ids;
}

/* ---- asking ---- */

static void take_line(void *context, const char *line)
{
    struct asked *asked = context;
    json_t *object = json_object();

    if (control_json_set_bytes(object, "view", asked->view, strlen(asked->view)) < 0 ||
        control_json_set_bytes(object, "finding", line, strlen(line)) < 0 ||
        json_array_append(asked->files, object) != 0)
        asked->error = -ENOMEM;
    json_decref(object);
}

/* The tree that a store, or a checkpoint's directory, shows. */
static void ask_store(struct asked *asked, const char *path, const uint64_t *ids, size_t count)
{
    struct store_session session;
    struct engine_view *view;

    if (store_session_open(path, &session) < 0)
        return;
    view = engine_view_acquire(session.engine);
    if (view == NULL || fs_check_chunks(view, ids, count, take_line, asked) < 0)
        asked->error = -ENOMEM;
    engine_view_release(view);
    (void)store_session_close(&session);
}

static void ask_daemon(struct asked *asked, const uint64_t *ids, size_t count)
{
    char text[CONTROL_ERROR_SIZE], line[2 * 4096];
    json_t *chunks = json_array(), *reply, *finding;
    size_t index;

    for (size_t i = 0; i < count; i++)
        if (json_array_append_new(chunks, json_integer((json_int_t)ids[i])) != 0)
            asked->error = -ENOMEM;
    if (control_call(asked->place->mounted,
                     json_pack("{s:s, s:o}", "verb", "damaged_files", "chunks", chunks), &reply,
                     text) < 0)
        return;
    json_array_foreach(json_object_get(reply, "findings"), index, finding)
    {
        if (control_json_get_bytes(finding, "finding", line, sizeof line) >= 0)
            take_line(asked, line);
    }
    json_decref(reply);
}

static void ask(struct asked *asked, const char *snapshot)
{
    char view[SNAPSHOT_NAME_SIZE_MAX + sizeof "snapshot "], *path = NULL;
    size_t count;
    uint64_t *ids = chunks_of(asked, snapshot, &count);

    if (ids == NULL || (snapshot != NULL &&
                        asprintf(&path, "%s/checkpoints/%s", asked->place->store, snapshot) < 0)) {
        free(ids);
        asked->error = -ENOMEM;
        return;
    }
    (void)snprintf(view, sizeof view, "%s%s", snapshot != NULL ? "snapshot " : LIVE_TREE,
                   snapshot != NULL ? snapshot : "");
    asked->view = view;
    if (count > 0 && snapshot == NULL && asked->place->mounted != NULL &&
        !asked->place->is_checkpoint)
        ask_daemon(asked, ids, count);
    else if (count > 0)
        ask_store(asked, snapshot != NULL ? path : asked->place->store, ids, count);
    free(path);
    free(ids);
}

/* Has a finding before this one named the snapshot? */
static bool is_asked(const json_t *findings, size_t before, const char *snapshot)
{
    for (size_t i = 0; i < before; i++)
        if (suffers(json_array_get(findings, i), snapshot))
            return true;
    return false;
}

int verify_files(const struct verify_place *place, const json_t *findings, json_t *files)
{
    struct asked asked = {.place = place, .findings = findings, .files = files};
    const json_t *finding, *user;
    char name[SNAPSHOT_NAME_SIZE_MAX + 1];
    size_t index, other;

    ask(&asked, NULL);
    json_array_foreach(findings, index, finding)
    {
        json_array_foreach(json_object_get(finding, "snapshots"), other, user)
        {
            if (asked.error == 0 && control_json_get_bytes(user, "name", name, sizeof name) > 0 &&
                !is_asked(findings, index, name))
                ask(&asked, name);
        }
    }
    return asked.error;
}
