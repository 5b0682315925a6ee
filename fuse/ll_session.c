/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ll_session.c - the life of a mounted store
 *
 * The main thread opens, mounts, starts the threads and then waits for a signal: SIGTERM or
 * SIGINT from outside, SIGUSR2 when the mount was initialised or the loop ended. Ending, in this
 * order, because each step needs what comes later to be alive still: unmount while requests are
 * served (the kernel writes its dirty pages back) stop the flusher and the notifier (what they wait
 * for is served) stop serving; close the connection close the filesystem and the engine, which
 * makes everything durable
 */
#include "fuse/ll_internal.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "engine/base/blocking.h"
#include "fuse/ll_prefetch.h"
#include "fuse/mountinfo.h"

/* After a successful unmount the connection may live on in another mount namespace: that long. */
#define END_WAIT_S 10

void ll_wake_main(struct ll *ll)
{
    (void)pthread_kill(ll->main_thread, SIGUSR2);
}

static int __attribute__((format(printf, 4, 5)))
ll_fail(struct ll_failure *ret_failure, enum ll_stage stage, int error, const char *format, ...)
{
    va_list arguments;

    ret_failure->stage = stage;
    ret_failure->error = error;
    va_start(arguments, format);
    (void)vsnprintf(ret_failure->text, sizeof ret_failure->text, format, arguments);
    va_end(arguments);
    return error;
}

/* ---- the process ---- */

static void ll_block_signals(sigset_t *ret_awaited)
{
    (void)sigemptyset(ret_awaited);
    (void)sigaddset(ret_awaited, SIGTERM);
    (void)sigaddset(ret_awaited, SIGINT);
    (void)sigaddset(ret_awaited, SIGUSR2);
    (void)pthread_sigmask(SIG_BLOCK, ret_awaited, NULL);
    (void)signal(SIGHUP, SIG_IGN);
    (void)signal(SIGPIPE, SIG_IGN);
    /* Until a serving thread unblocks it, it must not end the process. */
    (void)signal(SIGUSR1, SIG_IGN);
}

static void ll_prepare_process(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
    }
    /* Memory that we need to clean the kernel's pages must not wait for pages to be cleaned. */
    (void)prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0);
}

static void ll_log(enum fuse_log_level level, const char *format, va_list arguments)
{
    static const enum log_level levels[] = {
        [FUSE_LOG_EMERG] = LOG_LEVEL_ERROR,     [FUSE_LOG_ALERT] = LOG_LEVEL_ERROR,
        [FUSE_LOG_CRIT] = LOG_LEVEL_ERROR,      [FUSE_LOG_ERR] = LOG_LEVEL_ERROR,
        [FUSE_LOG_WARNING] = LOG_LEVEL_WARNING, [FUSE_LOG_NOTICE] = LOG_LEVEL_INFO,
        [FUSE_LOG_INFO] = LOG_LEVEL_INFO,       [FUSE_LOG_DEBUG] = LOG_LEVEL_DEBUG,
    };
    char line[512];

    (void)vsnprintf(line, sizeof line, format, arguments);
    line[strcspn(line, "\n")] = '\0';
    log_message(levels[level], "%s", line);
}

/* ---- opening ---- */

static int ll_open_store(struct ll *ll, struct ll_failure *ret_failure)
{
    const struct ll_options *options = ll->options;
    struct engine_options engine_options = options->engine;
    struct fs_options fs_options = options->fs;
    int error;

    error = io_open_backend(options->io_backend, &ll->io);
    if (error < 0)
        return ll_fail(ret_failure, LL_STAGE_OPEN, error, "cannot do I/O: %s", error_text(error));
    engine_options.path = options->store;
    engine_options.io = ll->io;
    engine_options.read_only = options->read_only;
    engine_options.frozen = options->no_recovery;
    error = engine_open(&engine_options, &ll->engine);
    if (error < 0)
        return ll_fail(ret_failure, LL_STAGE_OPEN, error, "cannot open store %s: %s",
                       options->store, error_text(error));
    fs_options.snapdir_name = options->snapdir_name;
    error = fs_open(ll->engine, &fs_options, &ll->fs);
    if (error == -EEXIST)
        return ll_fail(ret_failure, LL_STAGE_OPEN, error,
                       "the root of %s has an entry named '%s', which is the snapshot directory's "
                       "name: choose another with -o snapdir_name=NAME",
                       options->store,
                       options->snapdir_name != NULL ? options->snapdir_name : ".snapshots");
    if (error < 0)
        return ll_fail(ret_failure, LL_STAGE_OPEN, error, "cannot open the filesystem in %s: %s",
                       options->store, error_text(error));
    return 0;
}

/* libfuse splits at commas and takes a backslash as escape. */
static void ll_write_escaped(FILE *stream, const char *text)
{
    for (; *text != '\0'; text++) {
        if (*text == ',' || *text == '\\')
            (void)fputc('\\', stream);
        (void)fputc(*text, stream);
    }
}

/* The mount options as libfuse takes them; NULL: out of memory. */
static char *ll_mount_options(const struct ll *ll)
{
    const struct ll_options *options = ll->options;
    char *text = NULL;
    size_t size;
    FILE *stream = open_memstream(&text, &size);

    if (stream == NULL)
        return NULL;
    (void)fputs("default_permissions,subtype=varve,fsname=", stream);
    ll_write_escaped(stream, options->fsname != NULL ? options->fsname : options->store);
    if (options->allow_other)
        (void)fputs(",allow_other", stream);
    (void)fputs(fs_read_only(ll->fs) ? ",ro" : ",rw", stream);
    /* libfuse forbids both by default; only root may allow them. */
    if (geteuid() == 0) {
        (void)fputs(options->nodev ? ",nodev" : ",dev", stream);
        (void)fputs(options->nosuid ? ",nosuid" : ",suid", stream);
    }
    if ((options->fs.atime & FS_ATIME_NONE) != 0)
        (void)fputs(",noatime", stream);
    if (options->kernel_options != NULL)
        (void)fprintf(stream, ",%s", options->kernel_options);
    if (fclose(stream) != 0) {
        free(text);
        return NULL;
    }
    return text;
}

static int ll_new_session(struct ll *ll, struct ll_failure *ret_failure)
{
    char name[] = "varve", option[] = "-o";
    char *options = ll_mount_options(ll);
    char *words[] = {name, option, options, NULL};
    struct fuse_args arguments = FUSE_ARGS_INIT(3, words);

    if (options == NULL)
        return ll_fail(ret_failure, LL_STAGE_MOUNT, -ENOMEM, "%s", error_text(-ENOMEM));
    fuse_set_log_func(ll_log);
    ll->session = fuse_session_new(&arguments, &ll_operations, sizeof ll_operations, ll);
    fuse_opt_free_args(&arguments);
    free(options);
    if (ll->session == NULL)
        return ll_fail(ret_failure, LL_STAGE_MOUNT, -EINVAL, "cannot make a FUSE session");
    return 0;
}

static int ll_mount(struct ll *ll, struct ll_failure *ret_failure)
{
    int error = ll_new_session(ll, ret_failure);

    if (error < 0)
        return error;
    error = ll_transport_new(ll);
    if (error < 0)
        return ll_fail(ret_failure, LL_STAGE_MOUNT, error, "%s", error_text(error));
    errno = 0;
    if (fuse_session_mount(ll->session, ll->options->mount_point) != 0) {
        error = errno != 0 ? -errno : -EPERM;
        return ll_fail(ret_failure, LL_STAGE_MOUNT, error, "cannot mount on %s: %s",
                       ll->options->mount_point, error_text(error));
    }
    error = ll_transport_install(ll, fuse_session_fd(ll->session));
    if (error < 0)
        return ll_fail(ret_failure, LL_STAGE_MOUNT, error, "cannot mount on %s: %s",
                       ll->options->mount_point, error_text(error));
    return 0;
}

static void ll_on_ended(void *context)
{
    struct ll *ll = context;

    atomic_store(&ll->ended, true);
    ll_wake_main(ll);
}

static void ll_on_entry_changed(void *context, uint64_t parent, const char *name)
{
    ll_notify_entry(((struct ll *)context)->notify, parent, name);
}

static void ll_on_inode_changed(void *context, uint64_t node)
{
    ll_notify_inode(((struct ll *)context)->notify, node);
}

/* 1, 0, or negative when it cannot be said. */
static int ll_mount_is_writable(const struct ll *ll)
{
    unsigned long long device = atomic_load(&ll->device);

    blocking_enter();
    return device == 0 ? -ENOENT
                       : mountinfo_is_writable((unsigned)(device >> 32), (unsigned)device);
}

static bool ll_is_writable(void *context)
{
    return ll_mount_is_writable(context) > 0;
}

int ll_follow_mount(struct ll *ll)
{
    int writable = ll_mount_is_writable(ll);

    /* What never changes stays as it is, whatever the kernel was told. */
    if (writable < 0 || engine_is_frozen(ll->engine))
        return 0;
    return fs_set_read_only(ll->fs, writable == 0);
}

static int ll_start(struct ll *ll, struct ll_failure *ret_failure)
{
    const struct fs_notify notify = {
        .entry = ll_on_entry_changed,
        .inode = ll_on_inode_changed,
        .is_writable = ll_is_writable,
        .context = ll,
    };
    int error;

    ll->dirty_files = ll_handles_new();
    ll->directories = ll_handles_new();
    ll->prefetch = ll_prefetch_new();
    error =
        ll->dirty_files == NULL || ll->directories == NULL ? -ENOMEM : ll_control_new(&ll->control);
    if (error == 0)
        error = ll_loop_new(ll, ll->options->threads_max, ll_transport_rings(ll), &ll->loop);
    if (error == 0)
        error = ll_notify_start(ll->session, &ll->notify);
    if (error == 0)
        error = ll_pages_start(ll, &ll->pages);
    if (error == 0)
        error = ll_flusher_start(ll, true, &ll->flusher);
    if (error == 0)
        error = ll_flusher_start(ll, false, &ll->seeker);
    if (error == 0) {
        fs_set_notify(ll->fs, &notify);
        error = ll_loop_start(ll->loop, ll_on_ended, ll);
    }
    if (error < 0)
        return ll_fail(ret_failure, LL_STAGE_MOUNT, error, "cannot start threads: %s",
                       error_text(error));
    return 0;
}

/* ---- serving ---- */

/* Wait for a state to become true; false when a signal asks to end first. */
static bool ll_wait(const sigset_t *awaited, const atomic_bool *state, const atomic_bool *ended)
{
    while (!atomic_load(state) && !atomic_load(ended)) {
        int number = sigwaitinfo(awaited, NULL);

        if (number == SIGTERM || number == SIGINT)
            return false;
    }
    return true;
}

static void ll_wait_ended(struct ll *ll, const sigset_t *awaited, int seconds)
{
    const struct timespec interval = {.tv_sec = 1};

    while (!atomic_load(&ll->ended) && seconds-- > 0)
        (void)sigtimedwait(awaited, NULL, &interval);
}

/* SIGTERM: unmount as umount(8) would, while requests are served. */
static void ll_unmount_on_signal(struct ll *ll, const sigset_t *awaited, uint64_t mount_id)
{
    const char *mount_point = ll->options->mount_point;
    struct mountinfo top;
    int error = mountinfo_find_exact(mount_point, &top);

    if (error == 0) {
        /* Something else may lie on top by now. */
        error = top.id == mount_id ? ll_unmount(mount_point, false) : -EBUSY;
        mountinfo_free(&top);
    }
    if (error == 0) {
        ll_wait_ended(ll, awaited, END_WAIT_S);
        return;
    }
    log_warning("%s is busy (%s): ending all the same; open files there fail from now on",
                mount_point, error_text(error));
    (void)ll_flush_mappings(ll);
}

static void ll_serve(struct ll *ll, const sigset_t *awaited, ll_ready_callback *ready,
                     void *context)
{
    struct mountinfo mount = {0};

    if (ll_wait(awaited, &ll->initialised, &ll->ended) && !atomic_load(&ll->ended)) {
        if (mountinfo_find_exact(ll->options->mount_point, &mount) == 0)
            atomic_store(&ll->device,
                         (unsigned long long)mount.device_major << 32 | mount.device_minor);
        ll_bdi_tune(ll->options->mount_point, ll->options->read_ahead_kb);
        log_info("%s is mounted on %s%s", ll->options->store, ll->options->mount_point,
                 fs_read_only(ll->fs) ? " (read-only)" : "");
        ready(context);
        if (!ll_wait(awaited, &ll->ended, &ll->ended))
            ll_unmount_on_signal(ll, awaited, mount.id);
    }
    mountinfo_free(&mount);
}

/* ---- ending; each part accepts what was never started ---- */

static void ll_stop(struct ll *ll)
{
    ll_flusher_stop(ll->flusher);
    ll_flusher_stop(ll->seeker);
    ll_pages_stop(ll->pages);
    ll_notify_stop(ll->notify);
    if (ll->loop != NULL)
        ll_loop_stop(ll->loop);
    ll_transport_close_rings(ll);
    if (ll->session != NULL) {
        /* Does nothing when it is unmounted already; a busy mount is detached. */
        fuse_session_unmount(ll->session);
        fuse_session_destroy(ll->session);
    }
    ll_loop_free(ll->loop);
    ll_transport_free(ll->transport);
}

static int ll_close_store(struct ll *ll, struct ll_failure *ret_failure)
{
    int error = 0;

    fs_close(ll->fs);
    ll_flusher_free(ll->flusher);
    ll_flusher_free(ll->seeker);
    ll_notify_free(ll->notify);
    ll_control_free(ll->control);
    ll_handles_free(ll->dirty_files);
    ll_handles_free(ll->directories);
    ll_prefetch_free(ll->prefetch);
    if (ll->engine != NULL)
        error = engine_close(ll->engine);
    io_close_backend(ll->io);
    if (error < 0)
        (void)ll_fail(ret_failure, LL_STAGE_CLOSE, error, "closing store %s failed: %s",
                      ll->options->store, error_text(error));
    return error;
}

int ll_run(const struct ll_options *options, ll_ready_callback *ready, void *context,
           struct ll_failure *ret_failure)
{
    struct ll ll = {.options = options, .main_thread = pthread_self()};
    struct ll_failure close_failure;
    sigset_t awaited;
    int error, close_error;

    ll_block_signals(&awaited);
    ll_prepare_process();
    error = ll_open_store(&ll, ret_failure);
    if (error == 0)
        error = ll_mount(&ll, ret_failure);
    if (error == 0)
        error = ll_start(&ll, ret_failure);
    if (error == 0)
        ll_serve(&ll, &awaited, ready, context);
    ll_stop(&ll);
    close_error = ll_close_store(&ll, &close_failure);
    if (close_error < 0 && error == 0) {
        error = close_error;
        *ret_failure = close_failure;
    }
    if (error == 0)
        log_info("%s is unmounted, store %s is closed", options->mount_point, options->store);
    else
        log_error("%s", ret_failure->text);
    return error;
}
