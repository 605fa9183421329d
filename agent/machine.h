/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AGENT_MACHINE_H
#define AGENT_MACHINE_H

#include <stddef.h>

/*
 * What sessions need of the machine, as descriptors. Each was opened before the first job ran, and most
 * are mounts of their own that no path leads to: whatever a job unmounts, covers or fills, these stay.
 * One that is -1 is not there (a test runs without cgroups).
 */

struct secrets;

#define MACHINE_JOINS 4

struct machine {
    int proc_fd;             /* directory of a procfs */
    int pts_fd;              /* directory of the devpts that /dev/pts shows */
    int null_fd;             /* /dev/null */
    int jobs_fd;             /* directory of the cgroup that holds all sessions */
    int cgroup_ns_fd;        /* the cgroup namespace that jobs live in */
    int scratch_fd;          /* the writable layer's file system, for its size */
    int power_fd;            /* readable when the power button was pressed */
    struct secrets *secrets; /* the one part that changes (agent/secret.h) */

    int join_fds[MACHINE_JOINS]; /* of cgroups (version 1) that a session's first process enters */
    size_t join_count;

    const struct confine *confine; /* what holds commands (confine.h); NULL: nothing */
};

#define MACHINE_NONE                                                                                   \
    (struct machine)                                                                                   \
    {                                                                                                  \
        .proc_fd = -1, .pts_fd = -1, .null_fd = -1, .jobs_fd = -1, .cgroup_ns_fd = -1,                 \
        .scratch_fd = -1, .power_fd = -1,                                                              \
    }

#endif
