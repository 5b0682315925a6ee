/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mount.c - varve mount, mount.varve
 *
 * The child opens the store (LMDB and rings must not cross a fork), mounts and serves; the parent
 * waits for one message on a pipe: it is mounted, or what went wrong in one line and an exit
 * status. Until then the child's log goes to syslog, so that the user sees that one line only.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/base/error.h"
#include "engine/base/log.h"
#include "fuse/ll.h"
#include "tools/command.h"
#include "tools/exit_code.h"
#include "tools/output.h"
#include "tools/remount.h"
#include "tools/store_lock.h"

struct mount_arguments {
    struct command_options common;
    const char *store, *mount_point;
    struct ll_options options;
    bool foreground, sloppy, fake, helper;
};

/* What the child tells the parent. */
struct mount_message {
    int status; /* exit status; EXIT_CODE_OK: mounted */
    char text[512];
};

/* ---- paths ---- */

/* realpath() that also works for the mount point of a dead mount: only the parent is looked at. */
static char *mount_resolve(const char *path)
{
    char *resolved = realpath(path, NULL), *copy, *parent = NULL, *slash;
    size_t size = strlen(path);

    if (resolved != NULL || errno != ENOTCONN)
        return resolved;
    copy = strdup(path);
    if (copy == NULL)
        return NULL;
    while (size > 1 && copy[size - 1] == '/')
        copy[--size] = '\0';
    slash = strrchr(copy, '/');
    if (slash == NULL) {
        parent = realpath(".", NULL);
    } else {
        *slash = '\0';
        parent = realpath(slash == copy ? "/" : copy, NULL);
    }
    if (parent != NULL && asprintf(&resolved, "%s/%s", strcmp(parent, "/") == 0 ? "" : parent,
                                   slash != NULL ? slash + 1 : copy) < 0)
        resolved = NULL;
    free(parent);
    free(copy);
    return resolved;
}

static bool path_is_inside(const char *inner, const char *outer)
{
    size_t size = strlen(outer);

    return strncmp(inner, outer, size) == 0 && (inner[size] == '\0' || inner[size] == '/');
}

/* Find out where both are; clears a stale mount. 0 or an exit status, with the complaint printed.
 */
static int mount_prepare(struct mount_arguments *arguments)
{
    struct ll_options *options = &arguments->options;
    struct stat status;
    int result;

    options->store = realpath(arguments->store, NULL);
    if (options->store == NULL) {
        output_error("no store at %s: %s", arguments->store, strerror(errno));
        return exit_code_of(-errno);
    }
    options->mount_point = mount_resolve(arguments->mount_point);
    if (options->mount_point == NULL) {
        output_error("cannot mount on %s: %s", arguments->mount_point, strerror(errno));
        return EXIT_CODE_FAILED;
    }
    result = ll_clear_stale_mount(options->mount_point);
    if (result < 0) {
        output_error("a dead mount on %s cannot be cleared: %s", options->mount_point,
                     error_text(result));
        return EXIT_CODE_FAILED;
    }
    if (result > 0 && !arguments->common.quiet)
        (void)fprintf(stderr, "varve: cleared a stale mount on %s\n", options->mount_point);
    if (stat(options->mount_point, &status) != 0 || !S_ISDIR(status.st_mode)) {
        output_error("cannot mount on %s: not a directory", options->mount_point);
        return EXIT_CODE_FAILED;
    }
    if (path_is_inside(options->mount_point, options->store)) {
        output_error("cannot mount on %s: it lies in the store", options->mount_point);
        return EXIT_CODE_FAILED;
    }
    return 0;
}

/* ---- the child ---- */

static void mount_send(int pipe_end, const struct mount_message *message)
{
    /* Smaller than PIPE_BUF: it arrives whole, or the parent has gone. */
    ssize_t written = write(pipe_end, message, sizeof *message);

    (void)written;
    (void)close(pipe_end);
}

static void mount_detach_standard(int descriptor, int flags)
{
    int null = open("/dev/null", flags);

    if (null >= 0 && null != descriptor) {
        (void)dup2(null, descriptor);
        (void)close(null);
    }
}

struct mount_child {
    int pipe_end; /* -1 once the message is sent, or in the foreground */
};

static void mount_on_ready(void *context)
{
    static const struct mount_message message = {.status = EXIT_CODE_OK};
    struct mount_child *child = context;

    if (child->pipe_end < 0)
        return;
    mount_detach_standard(STDOUT_FILENO, O_WRONLY);
    mount_detach_standard(STDERR_FILENO, O_WRONLY);
    mount_send(child->pipe_end, &message);
    child->pipe_end = -1;
}

/*
 * Memory that is freed goes back (P8). Memtables come and go in blocks of up to 1 MiB, from several
 * threads: with a heap a thread, and large blocks in the heaps, three times what is in use stayed
 * resident after creating 500,000 files.
 */
static void mount_bound_heaps(void)
{
    (void)mallopt(M_ARENA_MAX, 2);
    (void)mallopt(M_MMAP_THRESHOLD, 256 * 1024);
    (void)mallopt(M_TRIM_THRESHOLD, 4 * 1024 * 1024);
}

static int mount_serve(const struct mount_arguments *arguments, struct mount_child *child)
{
    struct mount_message message = {0};
    struct ll_failure failure;
    int error;

    mount_bound_heaps();
    error = ll_run(&arguments->options, mount_on_ready, child, &failure);
    if (error == 0)
        return EXIT_CODE_OK;
    message.status =
        failure.stage == LL_STAGE_OPEN ? (int)exit_code_of(failure.error) : EXIT_CODE_FAILED;
    if (child->pipe_end >= 0) {
        (void)snprintf(message.text, sizeof message.text, "%s", failure.text);
        mount_send(child->pipe_end, &message);
    }
    return message.status;
}

static int mount_child_main(const struct mount_arguments *arguments, int pipe_end)
{
    struct mount_child child = {.pipe_end = pipe_end};

    (void)setsid();
    (void)chdir("/");
    mount_detach_standard(STDIN_FILENO, O_RDONLY);
    log_use_syslog("varve");
    return mount_serve(arguments, &child);
}

/* ---- the parent ---- */

static volatile sig_atomic_t mount_child_pid;

/* Ctrl-C while the store is being opened: the child must not go on and mount. */
static void mount_on_interrupt(int number)
{
    (void)number;
    (void)kill((pid_t)mount_child_pid, SIGTERM);
    _exit(EXIT_CODE_INTERRUPTED);
}

static int mount_await(int pipe_end, pid_t child)
{
    struct mount_message message;
    ssize_t size;
    int status = 0;

    do {
        size = read(pipe_end, &message, sizeof message);
    } while (size < 0 && errno == EINTR);
    if (size == (ssize_t)sizeof message) {
        if (message.status != EXIT_CODE_OK)
            output_error("%s", message.text);
        return message.status;
    }
    if (waitpid(child, &status, 0) == child && WIFSIGNALED(status))
        output_error("the daemon was ended by signal %d before it had mounted", WTERMSIG(status));
    else
        output_error("the daemon ended before it had mounted");
    return EXIT_CODE_FAILED;
}

static int mount_daemonise(const struct mount_arguments *arguments)
{
    struct sigaction action = {.sa_handler = mount_on_interrupt};
    int ends[2];
    pid_t child;

    if (pipe2(ends, O_CLOEXEC) != 0) {
        output_error("cannot make a pipe: %s", strerror(errno));
        return EXIT_CODE_FAILED;
    }
    (void)fflush(NULL);
    child = fork();
    if (child < 0) {
        output_error("cannot fork: %s", strerror(errno));
        return EXIT_CODE_FAILED;
    }
    if (child == 0) {
        (void)close(ends[0]);
        exit(mount_child_main(arguments, ends[1]));
    }
    (void)close(ends[1]);
    mount_child_pid = child;
    (void)sigaction(SIGINT, &action, NULL);
    (void)sigaction(SIGTERM, &action, NULL);
    return mount_await(ends[0], child);
}

static int mount_run(struct mount_arguments *arguments)
{
    struct mount_child foreground = {.pipe_end = -1};
    int status;

    if (arguments->options.remount)
        return arguments->fake || arguments->common.dry_run
                   ? EXIT_CODE_OK
                   : remount_run(&arguments->options, arguments->mount_point);
    if (arguments->options.no_recovery && !arguments->options.read_only) {
        output_error("norecovery is for mounts that are read-only (ro)");
        return EXIT_CODE_USAGE;
    }
    status = mount_prepare(arguments);
    if (status == 0 && arguments->common.dry_run && !arguments->common.quiet)
        (void)printf("would mount %s on %s\n", arguments->options.store,
                     arguments->options.mount_point);
    if (status != 0 || arguments->fake || arguments->common.dry_run)
        return status;
    if (arguments->common.verbose > 0)
        log_set_level(LOG_LEVEL_DEBUG);
    store_lock_wait_closing(arguments->options.store, arguments->options.fsname);
    return arguments->foreground ? mount_serve(arguments, &foreground) : mount_daemonise(arguments);
}

/* ---- the command line ---- */

static void mount_parse_list(const struct argp_state *state, const char *list)
{
    struct mount_arguments *arguments = state->input;
    char error[LL_OPTIONS_ERROR_SIZE];
    int result = ll_options_parse(&arguments->options, list, arguments->sloppy, error);

    if (result < 0)
        command_usage(state, "%s", error[0] != '\0' ? error : error_text(result));
}

static int mount_parse_argument(const struct argp_state *state, const char *argument)
{
    struct mount_arguments *arguments = state->input;

    if (arguments->store == NULL)
        arguments->store = argument;
    else if (arguments->mount_point == NULL)
        arguments->mount_point = argument;
    else
        command_usage(state, "too many arguments");
    return 0;
}

static error_t mount_parse(int key, char *argument, struct argp_state *state)
{
    struct mount_arguments *arguments = state->input;

    switch (key) {
    case ARGP_KEY_INIT:
        if (!arguments->helper)
            state->child_inputs[0] = &arguments->common;
        break;
    case 'o':
        mount_parse_list(state, argument);
        break;
    case 'f':
        *(arguments->helper ? &arguments->fake : &arguments->foreground) = true;
        break;
    case ARGP_KEY_ARG:
        return mount_parse_argument(state, argument);
    case ARGP_KEY_END:
        if (arguments->mount_point == NULL)
            command_usage(state, "%s is missing", arguments->store == NULL ? "STORE" : "MNT");
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

static error_t mount_parse_helper(int key, char *argument, struct argp_state *state)
{
    struct mount_arguments *arguments = state->input;

    switch (key) {
    case 's':
        arguments->sloppy = true;
        break;
    case 'v':
        arguments->common.verbose++;
        break;
    case 'r':
        arguments->options.read_only = true;
        break;
    case 'w':
        arguments->options.read_only = false;
        break;
    case 'n':
    case 't':
    case 'N':
        break; /* no mtab here; the type is ours; mount(8) has entered the namespace */
    default:
        return mount_parse(key, argument, state);
    }
    return 0;
}

static const char mount_documentation[] =
    "Mount the store in directory STORE on MNT and return when it answers."
    "\v"
    "Mount options (-o LIST):\n"
    "  ro                      read-only; a checkpoint's directory always is\n"
    "  norecovery              with ro: write nothing to the store, not even to replay its log\n"
    "  allow_other             other users may use it; default for root (noallow_other)\n"
    "  snapdir=visible|hidden  list .snapshots in the root (hidden)\n"
    "  snapdir_name=NAME       call it otherwise\n"
    "  snapdirs=everywhere|root  which directories have one (everywhere)\n"
    "  snaplinks=on|off        unchanged files are hard links across snapshots (on)\n"
    "  sync_window=MS          acknowledged work is durable after this long (1000)\n"
    "  io_deadline=MS          a call of the disk that takes longer is named in the log (30000; 0: none)\n"
    "  memtable_mb=N           memory for new records before they go to a table\n"
    "  cache_mb=N              memory for blocks of tables\n"
    "  threads=N               threads that serve requests (16)\n"
    "  io=uring|sync           how the store is read and written\n"
    "  transport=dev|auto|io_uring  how requests come (dev); auto takes io_uring where the kernel has\n"
    "                          it switched on, io_uring switches it on (root, whole machine)\n"
    "  readahead_kb=N          what the kernel reads ahead (1024); 0: its default\n"
    "  writeback               let the kernel hold writes back: snapshots are then not exact\n"
    "  fsname=NAME             what df shows instead of STORE\n"
    "  noatime strictatime nodiratime    which readings are noted (the first after a change)\n"
    "  nodev nosuid noexec sync dirsync    as mount(8)\n"
    "  uid=USER                whose mount it is: he too may make and delete snapshots (root only)\n"
    "  remount                 change those and ro of the mount on MNT; all else stays";

int command_mount(int argc, char **argv)
{
    static const struct argp_option options[] = {
        {"options", 'o', "LIST", 0, "mount options, separated by commas", 0},
        {"foreground", 'f', NULL, 0, "stay in the foreground, log to standard error", 0},
        {0},
    };
    static const struct argp_child children[] = {{&command_options_argp, 0, NULL, 0}, {0}};
    static const struct argp argp = {
        .options = options,
        .parser = mount_parse,
        .args_doc = "STORE MNT",
        .doc = mount_documentation,
        .children = children,
    };
    struct mount_arguments arguments = {0};
    int status;

    ll_options_default(&arguments.options);
    command_parse(&argp, argc, argv, EXIT_CODE_USAGE, &arguments);
    status = mount_run(&arguments);
    ll_options_free(&arguments.options);
    return status;
}

int command_mount_helper(int argc, char **argv)
{
    static const struct argp_option options[] = {
        {"options", 'o', "LIST", 0, "mount options, separated by commas", 0},
        {NULL, 's', NULL, 0, "ignore unknown mount options", 0},
        {NULL, 'f', NULL, 0, "check everything, do not mount", 0},
        {NULL, 'n', NULL, 0, "ignored: there is no mtab to write", 0},
        {NULL, 'v', NULL, 0, "log more", 0},
        {NULL, 'r', NULL, 0, "mount read-only", 0},
        {NULL, 'w', NULL, 0, "mount for writing", 0},
        {NULL, 't', "TYPE", 0, "ignored: it is this one", 0},
        {NULL, 'N', "NAMESPACE", 0, "ignored: mount(8) is in it", 0},
        {0},
    };
    static const struct argp argp = {
        .options = options,
        .parser = mount_parse_helper,
        .args_doc = "STORE MNT",
        .doc = mount_documentation,
    };
    struct mount_arguments arguments = {.helper = true};
    int status;

    ll_options_default(&arguments.options);
    command_parse(&argp, argc, argv, EXIT_CODE_MOUNT_USAGE, &arguments);
    status = mount_run(&arguments);
    ll_options_free(&arguments.options);
    return status == EXIT_CODE_OK ? EXIT_CODE_OK : EXIT_CODE_MOUNT_FAILED;
}
