/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AGENT_CONFINE_H
#define AGENT_CONFINE_H

/*
 * What holds a command that shares its kernel with the host (engine user). In a machine there is
 * nothing to confine: there a command may be root.
 */

#include <linux/filter.h>
#include <stdint.h>
#include <sys/types.h>

#include "proto/message.h"

struct confine {
    uid_t uid;     /* the only user, and group, that commands are run as */
    uint64_t pids; /* processes of that user */
    struct sock_fprog filter;
};

/* Read the filter (src/sandbox/filter.h) from its file. */
int confine_load(struct confine *c, int filter_fd, struct proto_fail *why);

/* The agent itself, once the sandbox is up: a landlock domain, only the capabilities that sessions
 * need, and none for any program. Nothing can be mounted afterwards. */
int confine_agent(struct proto_fail *why);

/* A command's process, as its user already, last before it becomes the command. 0, or the errno of what
 * could not be done; *what says which. */
int confine_command(const struct confine *c, const char **what);

#endif
