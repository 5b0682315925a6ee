/* SPDX-License-Identifier: Apache-2.0 */
/*
 * main.c - one program, called as varve VERB, mkfs.varve, mount.varve or fsck.varve
 */
#include <string.h>

#include "tools/command.h"
#include "tools/output.h"

const char *argp_program_version = "varve " VARVE_VERSION;

static const struct command verbs[] = {
    {"mkfs", command_mkfs, "make an empty store"},
    {"mount", command_mount, "mount a store"},
    {"umount", command_umount, "unmount; everything is durable when it returns"},
    {"sync", command_sync, "make everything acknowledged durable"},
    {"snapshot", command_snapshot, "create, list, compare, hold, prune and delete snapshots"},
    {"rollback", command_rollback, "make the live tree what a snapshot shows"},
    {"clone", command_clone, "make a writable store of a checkpoint"},
    {"verify", command_verify, "read everything and check every checksum"},
    {"stats", command_stats, "show state and numbers of a mount"},
    {"fsck", command_fsck, "check a store's structure"},
    {"flush", command_flush, "write the memtables of a mount to tables"},
    {"compact", command_compact, "merge a mount's tables and collect dead data"},
};

static const struct command programs[] = {
    {"mkfs.varve", command_mkfs, ""},
    {"mount.varve", command_mount_helper, ""},
    {"mount.fuse.varve", command_mount_helper, ""}, /* what mount(8) runs for type fuse.varve */
    {"fsck.varve", command_fsck, ""},
};

int main(int argc, char **argv)
{
    const char *slash = argc > 0 ? strrchr(argv[0], '/') : NULL;
    const char *name = argc > 0 ? (slash != NULL ? slash + 1 : argv[0]) : "varve";

    for (size_t i = 0; i < sizeof programs / sizeof programs[0]; i++) {
        if (strcmp(programs[i].name, name) == 0)
            return output_finish(programs[i].run(argc, argv));
    }
    return command_dispatch(verbs, sizeof verbs / sizeof verbs[0], "varve", argc, argv);
}
