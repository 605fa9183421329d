/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_FAULTS_CALLS_H
#define TESTS_FAULTS_CALLS_H

/* The system calls that fault-at counts, and what can befall each. */

#include <stddef.h>

/* What befalls a call. The kinds from EMFILE to EINTR are errors that it ends with, and it does
 * nothing; a short call moves one byte; the others end a process. A bit each in call.kinds. */
enum fault {
    FAULT_EMFILE,
    FAULT_ENOMEM,
    FAULT_EIO,
    FAULT_ENOSPC,
    FAULT_EINTR,
    FAULT_SHORT,
    FAULT_KILL_OTHER, /* the process that makes the call, unless it is the command itself */
    FAULT_KILL,       /* the command, whoever makes the call */
    FAULT_COUNT
};

struct call {
    long nr;
    const char *name;
    unsigned kinds; /* what it can end with, by the manual or by any file system's leave */
    int path;       /* the argument that is a name, -1: none */
    int length;     /* the argument that a short call makes 1 (bytes, or vectors), -1: none */
    int fd;         /* the argument that is the descriptor it works on, -1: none */
};

#define CALLS_MAX 192
extern const struct call calls[];
extern const size_t call_count;

#endif
