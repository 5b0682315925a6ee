/* SPDX-License-Identifier: Apache-2.0 */
/*
 * verify.c - varve verify: read every chunk of a store and check it
 *
 * The chunks are read here, also when the store is mounted: they never change, and the daemon has
 * other work. It only says which ones the live tree consists of. A chunk that goes meanwhile is
 * missing only if it is still asked for afterwards.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/engine_verify.h"
#include "fuse/control_json.h"
#include "tools/command.h"
#include "tools/control_client.h"
#include "tools/exit_code.h"
#include "tools/output.h"
#include "tools/progress.h"
#include "tools/store_session.h"
#include "tools/verify_files.h"

struct verification {
    const struct command_words *arguments;
    bool mounted;
    struct io *io;
    struct verify *verify;
    struct progress progress;
    json_t *findings; /* [{"chunk", "error", "missing", "live", "snapshots": [{"name"}]}] */
    json_t *files;    /* that suffer: [{"view", "finding"}] */
};

/* ---- findings ---- */

/* Something about a snapshot as a whole (name) or about the live tree (NULL). */
static int verify_note(struct verification *work, const char *name, int error)
{
    json_t *object = json_pack("{s:s, s:b, s:b}", "error", error_text(error), "missing",
                               error == -ENOENT, "live", name == NULL);
    json_t *snapshots = json_array(), *snapshot = json_object();

    if (json_object_set_new(object, "snapshots", snapshots) != 0 ||
        (name != NULL && (control_json_set_bytes(snapshot, "name", name, strlen(name)) < 0 ||
                          json_array_append(snapshots, snapshot) != 0))) {
        json_decref(object);
        json_decref(snapshot);
        return -ENOMEM;
    }
    json_decref(snapshot);
    return json_array_append_new(work->findings, object) == 0 ? 0 : -ENOMEM;
}

static int verify_report(void *context, const struct verify_finding *finding)
{
    struct verification *work = context;
    json_t *snapshots = json_array();
    bool live = false;

    for (size_t i = 0; i < finding->user_count; i++) {
        json_t *object;

        if (finding->users[i] == NULL) {
            live = true;
            continue;
        }
        object = json_object();
        if (json_array_append_new(snapshots, object) != 0 ||
            control_json_set_bytes(object, "name", finding->users[i], strlen(finding->users[i])) <
                0)
            return -ENOMEM;
    }
    return json_array_append_new(work->findings,
                                 json_pack("{s:s, s:s, s:b, s:b, s:o}", "chunk", finding->chunk,
                                           "error", error_text(finding->error), "missing",
                                           finding->error == ERROR_MISSING_CHUNK, "live", live,
                                           "snapshots", snapshots)) == 0
               ? 0
               : -ENOMEM;
}

static void verify_print_users(const json_t *finding)
{
    const json_t *snapshots = json_object_get(finding, "snapshots"), *snapshot;
    const char *separator = "";
    char name[SNAPSHOT_NAME_SIZE_MAX + 1];
    size_t index;

    if (json_is_true(json_object_get(finding, "live"))) {
        (void)fputs("live tree", stdout);
        separator = ", ";
    }
    json_array_foreach(snapshots, index, snapshot)
    {
        if (control_json_get_bytes(snapshot, "name", name, sizeof name) < 0)
            continue;
        (void)printf("%s%s%s", separator, index == 0 ? "snapshot " : "", name);
        separator = ", ";
    }
}

static void verify_print(const json_t *finding)
{
    const char *chunk = json_string_value(json_object_get(finding, "chunk"));

    verify_print_users(finding);
    if (chunk != NULL)
        (void)printf(": chunk %s", chunk);
    (void)printf(": %s\n", json_string_value(json_object_get(finding, "error")));
}

static void verify_print_file(const json_t *file)
{
    char view[2 * SNAPSHOT_NAME_SIZE_MAX], finding[2 * 4096];

    if (control_json_get_bytes(file, "view", view, sizeof view) >= 0 &&
        control_json_get_bytes(file, "finding", finding, sizeof finding) >= 0)
        (void)printf("%s: %s\n", view, finding);
}

/* ---- what there must be ---- */

static int verify_add_snapshot(struct verification *work, const char *name)
{
    int error = verify_add_checkpoint(work->verify, name);

    if (error < 0 && error != -ENOMEM)
        error = verify_note(work, name, error);
    return error;
}

static int verify_add_chunk(void *context, const struct chunk_identity *identity)
{
    struct verification *work = context;

    return verify_add_live(work->verify, identity);
}

/* Ask the daemon; the reply has what is under `key`. */
static int verify_ask(const struct verification *work, json_t *request, const char *key,
                      json_t **ret_list)
{
    json_t *reply;
    int error = control_call_or_complain(work->arguments->path, request, "ask the daemon", &reply);

    if (error < 0)
        return error;
    *ret_list = json_incref(json_object_get(reply, key));
    json_decref(reply);
    return 0;
}

/* A snapshot that is still being made has no directory yet. */
static int verify_wait(const struct verification *work, const json_t *snapshot)
{
    json_t *request, *reply;
    int error;

    if (json_is_true(json_object_get(snapshot, "materialised")))
        return 0;
    request =
        json_pack("{s:s, s:O}", "verb", "snapshot_wait", "id", json_object_get(snapshot, "id"));
    error = control_call_or_complain(work->arguments->path, request, "wait for a snapshot", &reply);
    if (error == 0)
        json_decref(reply);
    return error;
}

static int verify_add_mounted_live(struct verification *work)
{
    struct chunk_identity identity;
    json_t *chunks, *chunk;
    size_t index;
    bool sealed;
    int error = verify_ask(work, json_pack("{s:s}", "verb", "chunks"), "chunks", &chunks);

    if (error < 0)
        return error;
    json_array_foreach(chunks, index, chunk)
    {
        const char *name = json_string_value(json_object_get(chunk, "name"));

        if (name == NULL || !chunk_name_parse(name, &identity, &sealed) || !sealed)
            error = -EPROTO;
        identity.file_size_bytes = (uint64_t)json_integer_value(json_object_get(chunk, "bytes"));
        if (error == 0)
            error = verify_add_live(work->verify, &identity);
        if (error < 0)
            break;
    }
    json_decref(chunks);
    return error;
}

static int verify_add_mounted_snapshots(struct verification *work, bool *ret_found)
{
    const char *wanted = work->arguments->name;
    char name[SNAPSHOT_NAME_SIZE_MAX + 1];
    json_t *snapshots, *snapshot;
    size_t index;
    int error =
        verify_ask(work, json_pack("{s:s}", "verb", "snapshot_list"), "snapshots", &snapshots);

    if (error < 0)
        return error;
    json_array_foreach(snapshots, index, snapshot)
    {
        if (control_json_get_bytes(snapshot, "name", name, sizeof name) < 0 ||
            (wanted != NULL && strcmp(wanted, name) != 0))
            continue;
        *ret_found = true;
        error = verify_wait(work, snapshot);
        if (error == 0)
            error = verify_add_snapshot(work, name);
        if (error < 0)
            break;
    }
    json_decref(snapshots);
    return error;
}

static int verify_add_mounted(struct verification *work)
{
    bool found = work->arguments->name == NULL;
    int error = found ? verify_add_mounted_live(work) : 0;

    if (error == 0)
        error = verify_add_mounted_snapshots(work, &found);
    return error == 0 && !found ? -ENOENT : error;
}

static int verify_add_listed(void *context, const char *name)
{
    return verify_add_snapshot(context, name);
}

/* The store cannot be opened; its checkpoints can be looked at all the same. */
static int verify_add_directories(struct verification *work)
{
    struct io_file *root, *checkpoints;
    int error = io_open_root(work->io, work->arguments->path, &root);

    if (error < 0)
        return error;
    error = io_open(work->io, root, "checkpoints", IO_OPEN_DIRECTORY, 0, &checkpoints);
    if (error == 0) {
        error = io_list(work->io, checkpoints, verify_add_listed, work);
        io_close(work->io, checkpoints);
    }
    io_close(work->io, root);
    return error;
}

static int verify_add_session(struct verification *work, struct store_session *session)
{
    struct engine_view *view = engine_view_acquire(session->engine);
    char name[SNAPSHOT_NAME_SIZE_MAX + 1];
    struct snapshot *snapshot;
    uint64_t id = 0;
    int error = view != NULL ? engine_view_each_chunk(view, verify_add_chunk, work) : -ENOMEM;

    engine_view_release(view);
    while (error == 0 && (snapshot = snapshot_next(session->set, id)) != NULL) {
        id = snapshot_id(snapshot);
        snapshot_get_name(snapshot, name);
        snapshot_unref(snapshot);
        error = verify_add_snapshot(work, name);
    }
    return error;
}

static int verify_add_store(struct verification *work)
{
    struct store_session session;
    int error, close_error;

    if (work->arguments->name != NULL) {
        error = verify_add_checkpoint(work->verify, work->arguments->name);
        return error == 0 || error == -ENOENT || error == -ENOMEM
                   ? error
                   : verify_note(work, work->arguments->name, error);
    }
    error = store_session_open(work->arguments->path, &session);
    if (error == ERROR_LOCKED || error == -ENOMEM)
        return error;
    if (error < 0) {
        error = verify_note(work, NULL, error);
        return error == 0 ? verify_add_directories(work) : error;
    }
    error = verify_add_session(work, &session);
    close_error = store_session_close(&session);
    return error == 0 ? close_error : error;
}

/* ---- afterwards ---- */

static bool verify_still_lists(const json_t *list, const char *name)
{
    char listed[SNAPSHOT_NAME_SIZE_MAX + 1];
    const json_t *object;
    size_t index;

    json_array_foreach(list, index, object)
    {
        if (control_json_get_bytes(object, "name", listed, sizeof listed) > 0 &&
            strcmp(listed, name) == 0)
            return true;
    }
    return false;
}

static bool verify_is_still_missing(const json_t *finding, const json_t *chunks,
                                    const json_t *snapshots)
{
    const char *chunk = json_string_value(json_object_get(finding, "chunk"));
    const json_t *users = json_object_get(finding, "snapshots"), *user;
    char name[SNAPSHOT_NAME_SIZE_MAX + 1];
    size_t index;

    if (json_is_true(json_object_get(finding, "live")) &&
        (chunk == NULL || verify_still_lists(chunks, chunk)))
        return true;
    json_array_foreach(users, index, user)
    {
        if (control_json_get_bytes(user, "name", name, sizeof name) > 0 &&
            verify_still_lists(snapshots, name))
            return true;
    }
    return false;
}

/* Of what is missing keep what the daemon still has. */
static int verify_look_again(struct verification *work)
{
    json_t *chunks = NULL, *snapshots = NULL;
    int error = verify_ask(work, json_pack("{s:s}", "verb", "chunks"), "chunks", &chunks);

    if (error == 0)
        error =
            verify_ask(work, json_pack("{s:s}", "verb", "snapshot_list"), "snapshots", &snapshots);
    for (size_t i = 0; error == 0 && i < json_array_size(work->findings);) {
        const json_t *finding = json_array_get(work->findings, i);

        if (json_is_true(json_object_get(finding, "missing")) &&
            !verify_is_still_missing(finding, chunks, snapshots))
            (void)json_array_remove(work->findings, i);
        else
            i++;
    }
    json_decref(chunks);
    json_decref(snapshots);
    return error;
}

static int verify_finish(struct verification *work, const struct verify_result *result)
{
    const struct command_options *common = &work->arguments->common;
    size_t damaged = json_array_size(work->findings), index;
    char size[OUTPUT_SIZE_TEXT];
    json_t *finding, *file;

    if (common->json) {
        output_json(json_pack("{s:I, s:I, s:O, s:O}", "files", (json_int_t)result->files, "bytes",
                              (json_int_t)result->bytes, "damaged", work->findings, "suffering",
                              work->files));
    } else {
        json_array_foreach(work->findings, index, finding) verify_print(finding);
        json_array_foreach(work->files, index, file) verify_print_file(file);
        if (!common->quiet)
            (void)printf("%" PRIu64 " chunks (%s) are right, %zu damaged\n", result->files,
                         output_size(result->bytes, size), damaged);
    }
    return damaged > 0 ? EXIT_CODE_FAILED : EXIT_CODE_OK;
}

/* ---- the verb ---- */

static int verify_progress(void *context, uint64_t done, uint64_t total)
{
    struct verification *work = context;

    return progress_show(&work->progress, done, total);
}

static int verify_add(struct verification *work)
{
    if (verify_is_checkpoint(work->verify)) {
        int error;

        if (work->arguments->name != NULL)
            return -ENOENT; /* there are no snapshots in one */
        error = verify_add_checkpoint(work->verify, NULL);
        return error == -ENOMEM || error == 0 ? error : verify_note(work, NULL, error);
    }
    return work->mounted ? verify_add_mounted(work) : verify_add_store(work);
}

static int verify_complain(const struct verification *work, int error)
{
    const struct command_words *arguments = work->arguments;

    if (error == -EINTR)
        output_error("interrupted");
    else if (error == -ENOENT && arguments->name != NULL)
        output_error("no such snapshot: %s", arguments->name);
    else if (error == ERROR_LOCKED)
        return store_complain(arguments->path, error);
    else
        output_error("cannot verify %s: %s", arguments->path, error_text(error));
    return error == -EINTR ? EXIT_CODE_INTERRUPTED : EXIT_CODE_FAILED;
}

static int verify_store(struct verification *work, const char *store)
{
    struct verify_place place = {.store = store};
    struct verify_result result;
    int error = verify_open(work->io, store, &work->verify);
    int status;

    if (error < 0) {
        output_error("cannot verify %s: %s", store, error_text(error));
        return (int)exit_code_of(error);
    }
    place.mounted = work->mounted ? work->arguments->path : NULL;
    place.is_checkpoint = verify_is_checkpoint(work->verify);
    progress_begin(&work->progress, "verifying",
                   work->arguments->common.quiet || work->arguments->common.json);
    error = verify_add(work);
    if (error == 0)
        error = verify_run(work->verify, verify_progress, verify_report, work, &result);
    progress_end(&work->progress);
    if (error == 0 && work->mounted)
        error = verify_look_again(work);
    if (error == 0 && json_array_size(work->findings) > 0)
        error = verify_files(&place, work->findings, work->files);
    status = error < 0 ? verify_complain(work, error) : verify_finish(work, &result);
    verify_close(work->verify);
    return status;
}

static int verify_path(struct verification *work)
{
    const char *path = work->arguments->path;
    char text[CONTROL_ERROR_SIZE], store[4096];
    json_t *reply;
    int error = control_call(path, json_pack("{s:s}", "verb", "prepare_verify"), &reply, text);

    if (error == -ENOTTY && store_path_is_store(path))
        return verify_store(work, path);
    if (error < 0) {
        output_error("%s", text);
        return error == -ENOENT || error == -ENOTTY ? EXIT_CODE_NO_STORE : EXIT_CODE_FAILED;
    }
    error = control_json_get_bytes(reply, "store", store, sizeof store);
    json_decref(reply);
    if (error < 0) {
        output_error("cannot verify %s: %s", path, error_text(error));
        return EXIT_CODE_FAILED;
    }
    work->mounted = true;
    return verify_store(work, store);
}

int command_verify(int argc, char **argv)
{
    static const struct command_words_rule rule = {
        .args_doc = "MNT|STORE [NAME]",
        .documentation =
            "Read every chunk of the live tree and of all snapshots, or of the snapshot NAME, and "
            "check it against the content hash that the manifests have of it; of what is damaged "
            "the files that suffer are named as well, the first hundred of each tree. Of a mount, "
            "what "
            "was written before is verified with it. STORE may be a checkpoint's directory.\v"
            "The exit status is 0 when everything is right, 1 when something is damaged, 11 "
            "when STORE is in use (name its mount), 130 when interrupted.",
        .missing = "MNT or STORE",
        .takes_name = true,
    };
    struct command_words arguments;
    struct verification work = {.arguments = &arguments};
    int status, error;

    command_parse_words(&rule, argc, argv, &arguments);
    if (arguments.common.dry_run)
        return EXIT_CODE_OK;
    error = io_open_backend(IO_BACKEND_SYNC, &work.io);
    if (error < 0) {
        output_error("%s", error_text(error));
        return EXIT_CODE_FAILED;
    }
    work.findings = json_array();
    work.files = json_array();
    status = verify_path(&work);
    json_decref(work.findings);
    json_decref(work.files);
    io_close_backend(work.io);
    return status;
}
