/* SPDX-License-Identifier: Apache-2.0 */
#ifndef ISOLATE_PROGRAM_H
#define ISOLATE_PROGRAM_H

/*
 * Tables of calls (isolate.h) into what the kernel runs at each system call: a program in classic BPF
 * over struct seccomp_data (seccomp(2)). It is compiled when a thread is locked up, since what a thread
 * needs depends on the machine; that takes microseconds.
 *
 * Threads: any; there is no state.
 */

#include <linux/filter.h>
#include <stdint.h>
#include <stdlib.h>

#include "isolate/isolate.h"

/* What becomes of a call, as SECCOMP_RET_*. */
struct program_verdicts {
    uint32_t listed; /* of a row without a code of its own */
    uint32_t other;
    /* 0, or: numbers above it are ENOSYS, as on a kernel that has them not yet. Those of x32 are. */
    uint32_t newest;
};

/*
 * Rows for one number are judged in their order, and the first that holds decides. A call of another
 * architecture than this build's is `other`, or ENOSYS where that would allow it. Returns 0 and a
 * program for free(program_free), or -ENOMEM, or -E2BIG: longer than a kernel takes.
 */
int program_compile(const struct isolate_calls *tables, size_t count,
                    const struct program_verdicts *verdicts, struct sock_fprog *out);

static inline void program_free(struct sock_fprog *program)
{
    free(program->filter);
    *program = (struct sock_fprog){0};
}

#endif
