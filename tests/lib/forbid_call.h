/* SPDX-License-Identifier: Apache-2.0 */
/*
 * forbid_call.h - make a system call fail as in an old kernel or a sandbox
 */
#ifndef VARVE_TESTS_LIB_FORBID_CALL_H
#define VARVE_TESTS_LIB_FORBID_CALL_H

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/prctl.h>

/*
 * From now on the call `number` returns -`error` in this thread and in threads and processes it
 * makes. 0, or -1 where filters are not allowed. There is no way back: use it in a child, or last.
 */
static inline int forbid_call(long number, int error)
{
    struct sock_filter instructions[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)number, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (uint32_t)error),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof instructions / sizeof *instructions, instructions};

    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return -1;
    return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0 ? 0 : -1;
}

#endif
