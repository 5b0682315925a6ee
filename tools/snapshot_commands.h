/* SPDX-License-Identifier: Apache-2.0 */
/*
 * snapshot_commands.h - verbs of `varve snapshot` that have files of their own
 */
#ifndef VARVE_TOOLS_SNAPSHOT_COMMANDS_H
#define VARVE_TOOLS_SNAPSHOT_COMMANDS_H

int snapshot_list_run(int argc, char **argv);

#endif
