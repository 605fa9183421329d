/* SPDX-License-Identifier: Apache-2.0 */
#ifndef JOB_AUDIT_H
#define JOB_AUDIT_H

/*
 * What a job left on the host: a look before it and one after, and what is there now that was not
 * there, as far as it is a job's. A host has other work to do, so a thing counts only when it says
 * whose it is:
 *
 *   process      a descendant of this process, or with the job's uid
 *   thread, descriptor, lock     of this process
 *   mount, network, loop, socket     with `dayfly` or one of our folders in its name
 *   cgroup       of the job's uid
 *   file         in our folders, called dayfly-* in a folder for temporary files, or with the job's uid
 *                there
 *   ipc, key     with the job's uid; System V IPC also when a descendant made it
 *
 * Nothing here knows an engine: each is audited by the same look. A look costs some milliseconds, most
 * of them for /proc.
 */

#include <jansson.h>
#include <stdbool.h>
#include <sys/types.h>

#include "dayfly/error.h"

struct audit;

struct audit_options {
    uid_t uid;               /* made for the job; 0: none, or not known yet */
    const char *const *ours; /* folders, NULL-terminated: the data's, that of what runs; copied */
};

/* The look before. A process that is to find what daemons a job left makes itself their reaper first
 * (PR_SET_CHILD_SUBREAPER): else they are init's children by then. */
int audit_begin(struct audit **out, const struct audit_options *options, struct dayfly_err *err);

/* The look after; several, 20 ms apart, while something is left: what is about to end is given that
 * time. `uid`: as in the options, where it was not known then. Returns {clean, left: [{kind, name}]},
 * sorted, or NULL when memory runs out. */
json_t *audit_end(struct audit *audit, uid_t uid);

/* NULL is legal. */
void audit_free(struct audit *audit);

#endif
