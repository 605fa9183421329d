/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AGENT_INSIDE_H
#define AGENT_INSIDE_H

#include "host.h"

#define INSIDE_NAME "dayfly-agent" /* as which it is started for this */

/*
 * The agent without a machine of its own. `words` are what it was started with, NULL behind the last:
 *
 *   sandbox  init of a sandbox of namespaces (src/sandbox), which has made everything there is to mount
 *   bare     a process of the host like any other, which sees to it that what it starts ends with it
 *
 *   link=FD     the host; group=FD: the directory of its cgroup (version 2), -1 for none
 *   join=FD, perhaps several times: directories of cgroups (version 1) for what sessions run
 *   user=UID filter=FD pids=N   of a sandbox: see confine.h
 *   etc=FD secrets=FD           likewise: /etc and /run/secrets, which what is shared may cover
 *
 * Returns the exit status.
 */
int inside(struct agent *a, char **words);

#endif
