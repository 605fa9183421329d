/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SANDBOX_CGROUP_H
#define SANDBOX_CGROUP_H

/*
 * The control groups of a sandbox, in each hierarchy that serves: version 2, version 1, or both where
 * version 1 has the controllers and version 2 can still kill.
 *
 *     dayfly/job-UID/agent   its init, without limits: a job at its limits must not hold it up. Version
 *                            2 alone, which wants no process in a group that has others below it; in
 *                            version 1 it is in job-UID
 *     dayfly/job-UID/run     what the job runs, with the limits; in version 2 a group for each session
 *
 * They have names, and so are what a killed runner leaves: cgroup_sweep removes those whose lease
 * (uids.h) is nobody's, which every run does before it makes its own, and `dayfly prune`.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "dayfly/error.h"
#include "sandbox/uids.h"
#include "util/sweep.h"

/* What can be limited and measured. Each by whichever hierarchy has it. */
enum cgroup_controller { CGROUP_MEMORY, CGROUP_PIDS, CGROUP_CPU, CGROUP_CPUACCT, CGROUP_CONTROLLERS };

struct cgroup_limits {
    uint64_t memory_bytes; /* 0: none */
    uint64_t pids;
    unsigned cpus; /* worth of time; 0: all */
};

struct cgroup_figures {
    uint64_t memory_peak_bytes, cpu_us; /* 0: not known */
};

/* One hierarchy's. */
struct cgroup_tree {
    int top_fd, parent_fd; /* its root, and dayfly/ in it; -1: not there */
    int home_fd;           /* where init is */
    int run_fd;            /* where the job is */
};

struct cgroup {
    char name[32]; /* "job-UID" */
    struct cgroup_tree v2;
    struct cgroup_tree v1[CGROUP_CONTROLLERS]; /* controllers that are mounted together are twice */
    bool delegates;                            /* version 2 keeps who is in a namespace in there */
    int ns_fd;                                 /* then: one whose root is job-UID; -1: none */
    bool limited[CGROUP_CONTROLLERS];          /* whose limit stands, or that have none to set */
};

/* None. */
void cgroup_init(struct cgroup *group);

/* Find the hierarchies and make the groups, with their limits. What cannot be had is left out: see
 * cgroup_lacks. There is no failure; without the right to it nothing is made. */
void cgroup_make(struct cgroup *group, uid_t uid, const struct cgroup_limits *limits);

/* Give a process with one thread, in v2.home_fd, a cgroup namespace. Allocates nothing; a kernel
 * without them shows it the groups' paths, and that is all. */
void cgroup_hide(const struct cgroup *group);

/* What of `limits` does not stand, as words for people ("memory, processes"), "" for nothing. */
void cgroup_lacks(const struct cgroup *group, const struct cgroup_limits *limits, char *out,
                  size_t size);

/* Enter those of version 1: a process with one thread, for itself. Version 2's is entered by clone3
 * (v2.home_fd). Allocates nothing. -errno when it would run where it should not. */
int cgroup_enter(const struct cgroup *group, struct dayfly_err *err);

/* What the job used. */
void cgroup_measure(const struct cgroup *group, struct cgroup_figures *out);

/* When no process is left: remove the groups. Safe on a half-made one. */
void cgroup_remove(struct cgroup *group);

/* Remove groups of our range that nobody has a lease for, with what runs in them. */
void cgroup_sweep(const struct uids *uids, const struct sweep *sweep);

#endif
