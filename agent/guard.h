/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AGENT_GUARD_H
#define AGENT_GUARD_H

/*
 * What keeps the agent answering: its memory is locked, the out-of-memory killer passes it over, and
 * jobs live in a cgroup that leaves memory and process numbers over for it.
 *
 * Jobs see that cgroup as the root of /sys/fs/cgroup, through a cgroup namespace: they may make groups
 * below it (a container engine does), but the limits are not theirs to lift.
 */

#include "machine.h"
#include "proto/message.h"

/* After root_switch. Sets m->jobs_fd and m->cgroup_ns_fd. */
int guard(struct machine *m, struct proto_fail *why);

/* SIGKILL for everything but the agent, until nothing is left, within some seconds. */
void guard_kill_all(const struct machine *m);

#endif
