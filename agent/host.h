/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AGENT_HOST_H
#define AGENT_HOST_H

/*
 * The agent's conversation with the host before and after sessions: from HELLO to READY, and the last
 * word. proto/proto.h has the order. Each waits for the host as long as that takes.
 */

#include <stdint.h>

#include "machine.h"
#include "proto/link.h"
#include "proto/message.h"
#include "secret.h"

struct agent {
    uint64_t start_ns, modules_ns, setup_ns;
    struct proto_link link;
    struct proto_setup setup;
    struct machine machine;
    struct secrets secrets;
    struct proto_fail why;
};

/* Say HELLO over fd, which stays open for good. 0, or -errno and perhaps a->why. */
int host_hello(struct agent *a, int fd);

/* Wait for SETUP, into a->setup. */
int host_receive_setup(struct agent *a);

int host_ready(struct agent *a);

/* Say why it is over, for as long as the host listens. r: the -errno, for when a->why says nothing. */
void host_fail(struct agent *a, int r);
void host_bye(struct agent *a);

#endif
