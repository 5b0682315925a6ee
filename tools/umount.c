/* SPDX-License-Identifier: Apache-2.0 */
/*
 * umount.c - varve umount
 *
 * Sync first, so that the unmount itself is short; unmount; then wait until the daemon has let go
 * of the store's lock, which it does last, after everything is durable. While another namespace
 * still has the mount the daemon goes on: whoever that is is named instead of waited for.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/base/error.h"
#include "engine/base/lock.h"
#include "fuse/ll.h"
#include "fuse/mountinfo.h"
#include "tools/command.h"
#include "tools/control_client.h"
#include "tools/exit_code.h"
#include "tools/holders.h"
#include "tools/output.h"
#include "tools/store_lock.h"

/* What the daemon said before it ended. */
struct umount_daemon {
    bool alive, synced;
    char *store;
};

/* The mount that holds the path the user named, which may be inside it. */
static int umount_find(const char *path, struct mountinfo *ret_mount)
{
    char *resolved = realpath(path, NULL);
    int error;

    /* A dead mount answers nothing: take the words as they are. */
    if (resolved == NULL && errno == ENOTCONN)
        resolved = strdup(path);
    if (resolved == NULL) {
        output_error("%s: %s", path, strerror(errno));
        return -errno;
    }
    error = mountinfo_find_holding(resolved, ret_mount);
    free(resolved);
    if (error < 0) {
        output_error("%s: %s", path, error_text(error));
        return error;
    }
    if (strcmp(ret_mount->type, MOUNTINFO_TYPE) != 0) {
        output_error("%s is not inside a Varve mount", path);
        mountinfo_free(ret_mount);
        return -ENOTTY;
    }
    return 0;
}

/* 0, or negative when the caller may not unmount. A failed sync does not keep a mount mounted. */
static int umount_prepare(const struct mountinfo *mount, struct umount_daemon *ret_daemon)
{
    char error[CONTROL_ERROR_SIZE];
    json_t *reply = NULL;
    const char *store;
    int code = control_call(mount->mount_point, json_pack("{s:s}", "verb", "prepare_unmount"),
                            &reply, error);

    if (code == -EPERM) {
        output_error("cannot unmount %s: %s", mount->mount_point, error);
        return code;
    }
    ret_daemon->alive = code != -ENOTCONN && code != -ECONNABORTED;
    ret_daemon->synced = code == 0;
    if (code < 0 && ret_daemon->alive)
        output_error("cannot make everything durable: %s", error);
    store = json_string_value(json_object_get(reply, "store"));
    ret_daemon->store = strdup(store != NULL ? store : mount->source);
    json_decref(reply);
    return ret_daemon->store != NULL ? 0 : -ENOMEM;
}

static void umount_explain_busy(const struct mountinfo *mount)
{
    int children = mountinfo_count_children(mount->id);

    output_error("%s is busy", mount->mount_point);
    if (children > 0)
        (void)fprintf(stderr, "  %d mount%s on top of it\n", children, children > 1 ? "s" : "");
    if (holders_print(mount) == 0 && children <= 0)
        (void)fprintf(stderr, "  no holder can be seen from here: another namespace, a loop "
                              "device or swap, or a process of another user\n");
}

/* ---- waiting for the daemon ---- */

#define LOOK_EVERY_NS UINT64_C(100000000)
#define ELSEWHERE_NS  UINT64_C(10000000000)

/* A namespace that copied the mount, or a bind mount, keeps the daemon for as long as it likes. */
struct umount_wait {
    const struct mountinfo *mount;
    uint64_t looked_ns;
    uint64_t elsewhere_since_ns; /* 0: it is not mounted elsewhere */
};

static bool umount_patience(void *context)
{
    struct umount_wait *wait = context;
    uint64_t now = clock_monotonic_ns();

    if (now - wait->looked_ns < LOOK_EVERY_NS)
        return true;
    wait->looked_ns = now;
    if (holders_elsewhere(wait->mount, false) == 0)
        wait->elsewhere_since_ns = 0;
    else if (wait->elsewhere_since_ns == 0)
        wait->elsewhere_since_ns = now;
    return wait->elsewhere_since_ns == 0 || now - wait->elsewhere_since_ns < ELSEWHERE_NS;
}

static int umount_wait(const struct mountinfo *mount, const char *store)
{
    struct umount_wait wait = {.mount = mount, .looked_ns = clock_monotonic_ns()};
    int error = store_lock_wait(store, umount_patience, &wait);

    if (error == ERROR_LOCKED) {
        output_error("%s is unmounted here, and its store %s stays in use:", mount->mount_point,
                     store);
        (void)holders_elsewhere(mount, true);
    } else if (error < 0) {
        output_error("unmounted, but it cannot be seen whether %s is released: %s", store,
                     error_text(error));
    }
    return error;
}

/* ---- the whole ---- */

static int umount_mount(const struct mountinfo *mount, const struct umount_daemon *daemon)
{
    int error = ll_unmount(mount->mount_point, !daemon->alive);

    if (error == -EBUSY)
        umount_explain_busy(mount);
    else if (error < 0)
        output_error("cannot unmount %s: %s", mount->mount_point, error_text(error));
    if (error < 0 || !daemon->alive)
        return error;
    return umount_wait(mount, daemon->store);
}

static int umount_run(const struct command_words *arguments, const struct mountinfo *mount)
{
    struct umount_daemon daemon = {0};
    int error = umount_prepare(mount, &daemon);

    if (error == 0 && !arguments->common.dry_run)
        error = umount_mount(mount, &daemon);
    else if (error == 0 && !arguments->common.quiet)
        (void)printf("would unmount %s\n", mount->mount_point);
    free(daemon.store);
    return error < 0 || (daemon.alive && !daemon.synced) ? EXIT_CODE_FAILED : EXIT_CODE_OK;
}

int command_umount(int argc, char **argv)
{
    static const struct command_words_rule rule = {
        .args_doc = "MNT",
        .documentation =
            "Unmount the mount that holds MNT. When it returns, everything is durable and the "
            "store is free. If the mount is busy, its holders are named; so is, with exit status "
            "1, who has it mounted in another place and keeps the store in use by that.",
        .missing = "MNT",
    };
    struct command_words arguments;
    struct mountinfo mount;
    int status;

    command_parse_words(&rule, argc, argv, &arguments);
    if (umount_find(arguments.path, &mount) < 0)
        return EXIT_CODE_FAILED;
    status = umount_run(&arguments, &mount);
    mountinfo_free(&mount);
    return status;
}
