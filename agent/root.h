/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AGENT_ROOT_H
#define AGENT_ROOT_H

/*
 * From the initramfs to the image: find the disks, stack the ephemeral layer on the read-only one, move
 * there for good.
 *
 * The initramfs stays mounted beneath everything (the kernel has no other way), emptied; the two layers
 * are mounted in it, where no job sees them.
 */

#include <stdbool.h>

#include "machine.h"
#include "proto/message.h"

/* The agent's own /proc, /sys and /dev, in the initramfs. */
int root_early(struct proto_fail *why);

/* Stack the two layers that *setup names, and leave the agent in the new root. Sets m->proc_fd, pts_fd,
 * null_fd and scratch_fd. On failure the machine is of no use. */
int root_switch(const struct proto_setup *setup, struct machine *m, struct proto_fail *why);

/* The extra mounts, in their order. Last of all, once the agent needs no more of the root's paths: what
 * they hide or hold (an /etc of the host's) is not to be written to, or believed. */
int root_mount_more(const struct proto_setup *setup, struct proto_fail *why);

/* Unmount the extra mounts, so that what was written to them is on their disks; with sync, write back
 * everything. No job runs any more. */
void root_finish(const struct proto_setup *setup, bool sync);

#endif
