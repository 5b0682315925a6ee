/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ll_verbs.c - the table of verbs, and the small ones
 */
#include "fuse/ll_verbs.h"

#include <errno.h>
#include <unistd.h>

#include "fuse/control_json.h"
#include "fuse/ll_internal.h"

int ll_verb_set_number(json_t *object, const char *key, uint64_t value)
{
    return json_object_set_new(object, key, json_integer((json_int_t)value)) == 0 ? 0 : -ENOMEM;
}

int ll_verb_set_text(json_t *object, const char *key, const char *text)
{
    return control_json_set_bytes(object, key, text, strlen(text));
}

int ll_verb_set_time(json_t *object, const char *key, struct timespec time)
{
    char text[CONTROL_TIME_SIZE];

    control_format_time(time, text);
    return ll_verb_set_text(object, key, text);
}

int ll_verb_add_result(json_t *results, const char *name, int result)
{
    json_t *object = json_object();
    int error;

    if (json_array_append_new(results, object) != 0)
        return -ENOMEM;
    error = ll_verb_set_text(object, "name", name);
    if (error == 0 && result < 0)
        error = ll_verb_set_text(object, "error",
                                 result == -ENOENT    ? "no such snapshot"
                                 : result == -ENODATA ? "there is no such hold on it"
                                                      : error_text(result));
    return error;
}

static int ll_verb_sync(struct ll *ll, const json_t *request, json_t *reply)
{
    (void)request;
    (void)reply;
    return fs_sync(ll->fs);
}

/* Who waits for the daemon's end needs to know what to wait for. */
static int ll_verb_prepare_unmount(struct ll *ll, const json_t *request, json_t *reply)
{
    int error = fs_sync(ll->fs);

    (void)request;
    if (error == 0)
        error = ll_verb_set_text(reply, "store", ll->options->store);
    if (error == 0)
        error = ll_verb_set_number(reply, "pid", (uint64_t)getpid());
    return error;
}

static int ll_verb_remount(struct ll *ll, const json_t *request, json_t *reply)
{
    json_int_t atime = json_integer_value(json_object_get(request, "atime"));
    json_int_t sync = json_integer_value(json_object_get(request, "sync"));

    (void)reply;
    if (atime < 0 || (atime & ~(json_int_t)FS_ATIME_NO_DIRECTORIES) > FS_ATIME_NONE ||
        (sync & ~(json_int_t)(FS_SYNC_ALL | FS_SYNC_DIRECTORIES)) != 0)
        return -EINVAL;
    fs_set_atime(ll->fs, (unsigned)atime);
    fs_set_sync(ll->fs, (unsigned)sync);
    return ll_follow_mount(ll);
}

/* Before the kernel is asked to make it writable, which would say yes. */
static int ll_verb_prepare_writing(struct ll *ll, const json_t *request, json_t *reply)
{
    (void)request;
    (void)reply;
    return engine_is_frozen(ll->engine) ? -EROFS : 0;
}

static int ll_verb_flush(struct ll *ll, const json_t *request, json_t *reply)
{
    (void)request;
    (void)reply;
    return engine_flush(ll->engine);
}

static int ll_verb_compact(struct ll *ll, const json_t *request, json_t *reply)
{
    static atomic_flag running = ATOMIC_FLAG_INIT;
    int error;

    (void)request;
    (void)reply;
    /* One is enough, and must not take the serving threads one by one. */
    if (atomic_flag_test_and_set(&running))
        return -EBUSY;
    error = engine_compact(ll->engine);
    atomic_flag_clear(&running);
    return error;
}

static int ll_add_chunk(void *context, const struct chunk_identity *identity)
{
    char name[CHUNK_NAME_SIZE];
    json_t *chunk;

    chunk_name(name, identity);
    chunk = json_pack("{s:s, s:I}", "name", name, "bytes", (json_int_t)identity->file_size_bytes);
    return json_array_append_new(context, chunk) == 0 ? 0 : -ENOMEM;
}

/* For "varve verify": what was acknowledged is in chunks, and where these are. */
static int ll_verb_prepare_verify(struct ll *ll, const json_t *request, json_t *reply)
{
    int error = fs_read_only(ll->fs) || engine_latch_reason(ll->engine, NULL) != 0
                    ? 0
                    : engine_flush(ll->engine);

    (void)request;
    return error == 0 ? ll_verb_set_text(reply, "store", ll->options->store) : error;
}

/* The chunks of the live tree: for "varve verify", which reads them itself. */
static int ll_verb_chunks(struct ll *ll, const json_t *request, json_t *reply)
{
    struct engine_view *view = engine_view_acquire(ll->engine);
    json_t *chunks = json_array();
    int error = view != NULL ? 0 : -ENOMEM;

    (void)request;
    if (json_object_set_new(reply, "chunks", chunks) != 0)
        error = -ENOMEM;
    if (error == 0)
        error = engine_view_each_chunk(view, ll_add_chunk, chunks);
    engine_view_release(view);
    return error;
}

struct ll_findings {
    json_t *list;
    int error; /* not all of them are in it */
};

static void ll_add_line(void *context, const char *line)
{
    struct ll_findings *findings = context;
    json_t *object = json_object();

    if (json_array_append_new(findings->list, object) != 0 ||
        control_json_set_bytes(object, "finding", line, strlen(line)) < 0)
        findings->error = -ENOMEM;
}

/* Which files of the live tree suffer from damage of chunks, by id: for "varve verify", again. */
static int ll_verb_damaged_files(struct ll *ll, const json_t *request, json_t *reply)
{
    const json_t *wanted = json_object_get(request, "chunks");
    size_t count = json_array_size(wanted);
    uint64_t *ids = calloc(count + 1, sizeof *ids);
    struct engine_view *view = engine_view_acquire(ll->engine);
    struct ll_findings findings = {.list = json_array()};
    int error = ids != NULL && view != NULL ? 0 : -ENOMEM;

    for (size_t i = 0; error == 0 && i < count; i++) {
        const json_t *id = json_array_get(wanted, i);

        ids[i] = (uint64_t)json_integer_value(id);
        error = json_is_integer(id) ? 0 : -EINVAL;
    }
    if (json_object_set_new(reply, "findings", findings.list) != 0)
        error = -ENOMEM;
    if (error == 0)
        error = fs_check_chunks(view, ids, count, ll_add_line, &findings);
    if (error == 0)
        error = findings.error;
    engine_view_release(view);
    free(ids);
    return error;
}

/* For a verb that wants the flush before it and not the thread that does it. */
static int ll_verb_nothing(struct ll *ll, const json_t *request, json_t *reply)
{
    (void)ll;
    (void)request;
    (void)reply;
    return 0;
}

static const struct ll_verb verbs[] = {
    {"stats", false, false, ll_verb_stats},
    {"sync", true, true, ll_verb_sync},
    {"prepare_unmount", true, true, ll_verb_prepare_unmount},
    {"remount", true, false, ll_verb_remount},
    {"prepare_writing", true, false, ll_verb_prepare_writing},
    {"flush", true, false, ll_verb_flush},
    {"compact", true, false, ll_verb_compact},
    {"snapshot_create", true, true, ll_verb_snapshot_create},
    {"snapshot_wait", true, false, ll_verb_snapshot_wait},
    {"snapshot_list", false, false, ll_verb_snapshot_list},
    {"snapshot_usage", true, false, ll_verb_snapshot_usage},
    {"snapshot_delete", true, false, ll_verb_snapshot_delete},
    {"snapshot_rename", true, false, ll_verb_snapshot_rename},
    {"snapshot_hold", true, false, ll_verb_snapshot_hold},
    {"snapshot_release", true, false, ll_verb_snapshot_release},
    {"snapshot_prune", true, false, ll_verb_snapshot_prune},
    {"snapshot_diff", true, false, ll_verb_snapshot_diff},
    {"rollback", true, true, ll_verb_rollback},
    {"flush_mappings", true, true, ll_verb_nothing},
    {"prepare_verify", true, false, ll_verb_prepare_verify},
    {"chunks", true, false, ll_verb_chunks},
    {"damaged_files", true, false, ll_verb_damaged_files},
};

const struct ll_verb *ll_verb_find(const char *name)
{
    for (size_t i = 0; i < sizeof verbs / sizeof verbs[0]; i++) {
        if (strcmp(verbs[i].name, name) == 0)
            return &verbs[i];
    }
    return NULL;
}
