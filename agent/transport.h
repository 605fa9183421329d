/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AGENT_TRANSPORT_H
#define AGENT_TRANSPORT_H

#include "proto/message.h"

/*
 * Reach the host: over vsock (CID 2, PROTO_VSOCK_PORT), or, where the kernel's command line says
 * `dayfly.port=NAME`, over the virtio console port of that name. What is not there yet is waited for
 * until deadline_ns (CLOCK_MONOTONIC). Returns the descriptor, or -errno and *why.
 */
int transport_open(const char *cmdline, uint64_t deadline_ns, struct proto_fail *why);

#endif
