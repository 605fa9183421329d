/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AGENT_STAT_H
#define AGENT_STAT_H

#include "machine.h"
#include "proto/message.h"

/* What the jobs use now and used at most, from their cgroup. What cannot be read is 0. */
void stat_read(const struct machine *m, struct proto_stat *out);

#endif
