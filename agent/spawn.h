/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AGENT_SPAWN_H
#define AGENT_SPAWN_H

/*
 * From an EXEC message to a running command.
 *
 * All that reads the guest's files (users, working directory, the command) happens in the child, as a
 * job may have put a fifo or a dead file server there: the agent itself never waits for anything of a
 * job's.
 *
 * With a terminal there are two children. The session's leader is a copy of the agent that only waits:
 * the kernel hangs the terminal up when its session's leader dies and throws away what was not read
 * yet, so the leader has to live until the agent has read the command's last word. The command is its
 * sibling, the foreground group of the terminal, and the agent's own child, so its true exit status
 * arrives here.
 */

#include <stdint.h>
#include <sys/types.h>

#include "machine.h"
#include "proto/message.h"

/* What the agent holds of a session that it started. fds are non-blocking, close-on-exec; -1: none. */
struct spawned {
    pid_t pid;     /* the command; with a terminal not known before spawn_report says so */
    pid_t leader;  /* with a terminal: who holds it; else 0 */
    int report_fd; /* readable when the outcome is known */
    int in_fd;     /* the pipe's end, or the terminal's master */
    int out_fd;    /* with a terminal: a duplicate of the master */
    int err_fd;
};

/* Begin. cgroup_fd: the session's cgroup or -1. 0, or -errno with nothing left behind. */
int spawn(const struct machine *m, const struct proto_exec *exec, int cgroup_fd, struct spawned *out);

/*
 * Read the report: -EAGAIN as long as it is not known; 0 when the command runs (s->pid is set); -ECHILD
 * when it could not be started, and *failed says why. report_fd is closed unless -EAGAIN.
 */
int spawn_report(struct spawned *s, struct proto_exec_failed *failed);

#endif
