/* SPDX-License-Identifier: Apache-2.0 */
/*
 * exit_code.h - what the program's exit status says
 */
#ifndef VARVE_TOOLS_EXIT_CODE_H
#define VARVE_TOOLS_EXIT_CODE_H

enum exit_code {
    EXIT_CODE_OK = 0,
    EXIT_CODE_FAILED = 1,
    EXIT_CODE_USAGE = 2,
    EXIT_CODE_NO_STORE = 10, /* nothing there, or not a store */
    EXIT_CODE_LOCKED = 11,   /* another process has the store open */
    EXIT_CODE_INTERRUPTED = 130,
};

/* mount(8) */
enum exit_code_mount {
    EXIT_CODE_MOUNT_USAGE = 1,
    EXIT_CODE_MOUNT_FAILED = 32,
};

/* fsck(8) */
enum exit_code_fsck {
    EXIT_CODE_FSCK_REPAIRED = 1,
    EXIT_CODE_FSCK_ERRORS_LEFT = 4,
    EXIT_CODE_FSCK_TROUBLE = 8,
    EXIT_CODE_FSCK_USAGE = 16,
    EXIT_CODE_FSCK_CANCELLED = 32,
};

/* Of an error that opening or making a store gave. */
enum exit_code exit_code_of(int error);

#endif
